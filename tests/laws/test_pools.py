"""Laws of breakage pools: any cohort with any events of its blocks, day after day, without a ledger.

ACCOUNTING section 5: (b) an event that only changes the issued amount does not change the recognised breakage; (d) the
recognised breakage is at least the expired amount, and at most the amount that may expire; (e) it equals the expired
amount when no credits remain.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from math import floor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from projections.reports import breakage_formula
from projections.reports.breakage_estimates import EstimateVersion
from projections.reports.breakage_formula import CohortFigures
from subledger import breakage_line
from subledger.cohort_days import Day
from subledger.cohorts import cohort_of, grouping_of, month_of_issue
from subledger.events.data import BreakageEstimated
from subledger.pooling import Pools, after_movements, estimated_cohorts, with_breakage_due, with_estimate
from subledger.pools import Cohort
from subledger.wallet import Movement
from tests.laws.model_blocks import Estimate, half_up
from tests.laws.model_pools import Line, Sums

DAY = date(2026, 1, 31)
MONTH = "2026-01"
ACTS = (
    "buy", "buy", "use", "use", "use", "return", "void", "reprice", "transfer", "expire", "extend", "escheat",
    "estimate", "backfill",
)  # fmt: skip
Act = tuple[str, int, int, int]
"""An act, its block (an index), its part in percent, and a number that varies it."""
ACT = st.tuples(st.sampled_from(ACTS), st.integers(0, 9), st.integers(1, 100), st.integers(1, 4_000))
FIRST: Act = ("buy", 0, 0, 10_000)


class Lot:
    """A block with as many credits as minor units, and their later movements."""

    def __init__(self, left: int) -> None:
        self.left, self.used, self.expired = left, 0, 0


class Told:
    """A cohort, act by act, compared with the plain rule. Every act posts the breakage that it makes due."""

    def __init__(self, *, rate: Fraction = Fraction(1), rates: tuple[str, str] | None = ("0.1", "0.05")) -> None:
        self.pools, self.line, self.rate = Pools(), Line(), rate
        self.lots: list[Lot] = []
        self.on = DAY
        self.posted: list[Movement] = []
        self.kinds: list[str] = []
        if rates is not None:
            self.estimate(*rates)

    @property
    def cohort(self) -> Cohort:
        return self.pools.cohort(("p", MONTH))

    @property
    def sums(self) -> Sums:
        return self.line.sums

    def does(self, act: Act) -> None:
        what, at, percent, size = act
        lot = self.lots[at % len(self.lots)] if self.lots else Lot(0)
        self.posted, self.kinds, self.on = [], [what], self.on + timedelta(days=1)
        part = lot.left * percent // 100
        match what:
            case "buy":
                self.lots.append(Lot(size))
                self.moves(("purchase", size))
            case "backfill":
                part = size * percent // 100
                self.lots.append(Lot(size - part))
                self.lots[-1].used = part
                self.moves(("purchase", size), ("overage_backfilled", part))
            case "use" if part:
                lot.left, lot.used = lot.left - part, lot.used + part
                self.moves(("consumption", part))
            case "return" if lot.used:
                back = -(-lot.used * percent // 100)
                lot.left, lot.used = lot.left + back, lot.used - back
                self.moves(("consumption", -back))
            case "void" if part:
                lot.left -= part
                self.moves(("void_unpaid", part // 2), ("void_paid", part - part // 2))
            case "reprice" if lot.left:
                lot.left += size
                self.moves(("repricing", size))
            case "transfer" if part:
                lot.left -= part
                self.lots.append(Lot(part))
                self.moves(("transfer_out", part), ("transfer_in", part))
            case "expire" if lot.left:
                lot.expired, lot.left, gone = lot.expired + lot.left, 0, lot.left
                self.moves(("pooled_breakage", gone))
            case "extend" if lot.expired:
                lot.left, lot.expired, back = lot.left + lot.expired, 0, lot.expired
                self.moves(("pooled_breakage", -back))
            case "escheat" if lot.left:
                lot.left, gone = 0, lot.left
                self.moves(("escheat", gone))
            case "estimate":
                self.estimate(f"0.{percent % 60:02d}", f"0.{size % 30:02d}")

    def moves(self, *movements: tuple[str, int]) -> None:
        made = [self._movement(kind, amount) for kind, amount in movements]
        self.pools = after_movements(self.pools, made, "USD", None)
        change = dict.fromkeys(Sums._fields, 0)
        left = sum(lot.left for lot in self.lots) - self.sums.credits
        for kind, amount in movements:
            letter, sign = {
                "purchase": ("issued", 1), "repricing": ("issued", 1), "transfer_in": ("issued", 1),
                "transfer_out": ("issued", -1), "void_unpaid": ("issued", -1), "void_paid": ("issued", -1),
                "consumption": ("redeemed", 1), "pooled_breakage": ("expired", 1), "escheat": ("escheated", 1),
                "overage_backfilled": ("redeemed", 1),
            }[kind]  # fmt: skip
            change[letter] += sign * amount
            change["backfilled"] += amount if kind == "overage_backfilled" else 0
        self.line.follow(Sums(**{**change, "credits": left}))
        self._post()

    def estimate(self, breakage: str, escheat: str) -> None:
        data = {"pool": "p", "currency": "EUR", "cohorts": "month", "cohort": MONTH, "evidence": "r"}
        rates = {"expected_breakage_rate": breakage, "expected_escheat_rate": escheat}
        self.pools = with_estimate(self.pools, BreakageEstimated.model_validate({**data, **rates}), "month", self.on)
        self.line.catch_up(Estimate(self.sums.issued, None, Fraction(breakage), None, Fraction(escheat)))
        self._post()

    def _movement(self, kind: str, amount: int) -> Movement:
        return Movement(
            kind=kind,
            accounting_date=self.on,
            amount_minor=amount,
            credits=Decimal(amount),
            functional_minor=half_up(amount * self.rate),
            currency="EUR",
            pool="p",
            cohort=MONTH,
        )

    def _post(self) -> None:
        cohort = self.cohort
        amount = cohort.due_minor() - cohort.recognised_minor
        functional = cohort.due_functional() - cohort.recognised_functional
        if amount or functional:
            kind = "breakage_estimate"
            self.posted = [
                Movement(
                    kind=kind, accounting_date=self.on, amount_minor=amount, functional_minor=functional,
                    currency="EUR", pool="p", cohort=MONTH,
                )
            ]  # fmt: skip
            self.pools = after_movements(self.pools, self.posted, "USD", None)


@given(st.lists(st.tuples(ACT, st.sampled_from((90, 110, 110))), min_size=1, max_size=40))
def test_a_cohort_recognises_what_the_plain_rule_says_after_every_act(acts: Sequence[tuple[Act, int]]) -> None:
    told = Told()
    for act, rate in [(FIRST, 110), *acts]:
        told.rate = Fraction(rate, 100)
        told.does(act)
        assert told.cohort.recognised_minor == told.line.recognised() == told.cohort.due_minor()
        assert (told.cohort.issued_minor, told.cohort.redeemed_minor) == told.sums[:2]
        assert (told.cohort.expired_minor, told.cohort.escheated_minor) == told.sums[2:4]
        assert told.cohort.has_ended == told.line.has_ended
        assert told.cohort.credits == told.sums.credits


@given(st.lists(ACT, min_size=1, max_size=40))
def test_what_only_changes_what_is_issued_recognises_nothing(acts: Sequence[Act]) -> None:
    """(b), and law 11: purchases, repricings, voids, transfers and escheats add nothing to revenue."""
    told = Told()
    for act in [FIRST, *acts]:
        before = told.cohort.recognised_minor
        told.does(act)
        if act[0] in ("buy", "reprice", "void", "transfer", "escheat"):
            cohort = told.cohort
            may_expire = told.line.room()
            left = min(before, may_expire) if cohort.credits else 0
            assert cohort.recognised_minor == max(left, cohort.expired_minor)
            assert act[0] not in ("buy", "reprice", "transfer") or not told.posted


@given(st.lists(ACT, max_size=40), st.integers(1, 100), st.integers(1, 20_000))
def test_a_purchase_that_pays_for_overage_recognises_in_proportion_to_that(
    acts: Sequence[Act], percent: int, size: int
) -> None:
    """Law 11, even if the line is low, for example after a cohort was used up."""
    told = Told()
    for act in [FIRST, *acts]:
        told.does(act)
    before = told.cohort.recognised_minor
    told.does(("backfill", 0, percent, size))
    breakage, escheat = told.line.expected()
    to_be_redeemed = told.sums.issued - breakage - escheat
    share = breakage * (size * percent // 100) / to_be_redeemed if to_be_redeemed > 0 else Fraction(0)
    assert told.cohort.recognised_minor <= max(before, told.cohort.expired_minor) + half_up(share)


@given(st.lists(ACT, min_size=1, max_size=40))
def test_recognised_breakage_is_at_least_what_expired_and_at_most_what_may(acts: Sequence[Act]) -> None:
    """(d), so that the net liability is never below zero."""
    told = Told()
    for act in [FIRST, *acts]:
        told.does(act)
        cohort = told.cohort
        most = told.line.room()
        assert cohort.expired_minor <= cohort.recognised_minor <= max(most, cohort.expired_minor)
        liability = cohort.issued_minor - cohort.redeemed_minor - cohort.expired_minor - cohort.escheated_minor
        assert liability >= cohort.recognised_minor - cohort.expired_minor


@given(st.lists(ACT, min_size=1, max_size=40), st.integers(80, 120), st.integers(80, 120))
def test_without_credits_a_cohort_has_ended_with_what_expired_in_both_currencies(
    acts: Sequence[Act], first: int, then: int
) -> None:
    """(e)."""
    told = Told(rate=Fraction(first, 100))
    told.does(FIRST)
    told.rate = Fraction(then, 100)
    for act in acts:
        told.does(act)
    for at, lot in enumerate(told.lots):
        if lot.left:
            told.does(("expire" if at % 2 else "use", at, 100, 1))
    cohort = told.cohort
    assert not cohort.credits
    assert cohort.recognised_minor == cohort.expired_minor
    assert cohort.recognised_functional == cohort.expired_functional


@given(st.lists(ACT, max_size=30), ACT)
def test_a_purchase_at_another_rate_moves_nothing_in_the_functional_currency_either(
    acts: Sequence[Act], last: Act
) -> None:
    told = Told(rate=Fraction(11, 10))
    for act in [FIRST, *acts]:
        told.does(act)
    told.rate = Fraction(last[2] + 50, 100)
    told.does(("buy", *last[1:]))
    assert told.posted == []


@given(st.lists(ACT, max_size=30), st.integers(1, 4_000))
def test_a_purchase_that_is_taken_back_on_its_day_leaves_the_cohort_as_it_was(acts: Sequence[Act], size: int) -> None:
    told = Told()
    for act in [FIRST, *acts]:
        told.does(act)
    before = told.cohort
    told.does(("buy", 0, 0, size))
    told.on -= timedelta(days=1)
    told.does(("void", len(told.lots) - 1, 100, 1))
    assert told.cohort.due_minor() == before.due_minor()
    assert told.cohort.anchor == before.anchor, "every later decision is the same"


@given(st.lists(ACT, max_size=30), st.integers(1, 4_000))
def test_a_purchase_that_is_taken_back_later_leaves_what_is_recognised(acts: Sequence[Act], size: int) -> None:
    told = Told()
    for act in [FIRST, *acts]:
        told.does(act)
    before = told.cohort
    told.does(("buy", 0, 0, size))
    told.does(("void", len(told.lots) - 1, 100, 1))
    assert told.cohort.due_minor() == before.due_minor()


@given(st.lists(ACT, max_size=30), st.integers(1, 100))
def test_usage_that_is_reversed_right_away_leaves_the_cohort_as_it_was(acts: Sequence[Act], percent: int) -> None:
    told = Told()
    for act in [FIRST, *acts, ("buy", 0, 0, 1_000)]:
        told.does(act)
    before, lot = told.cohort, len(told.lots) - 1
    told.does(("use", lot, percent, 1))
    told.does(("return", lot, 100, 1))
    assert told.cohort.due_minor() == before.due_minor()
    assert told.cohort.anchor == before.anchor


@given(st.lists(ACT, max_size=40))
def test_if_all_is_reversed_and_nothing_has_expired_nothing_is_recognised(acts: Sequence[Act]) -> None:
    told = Told()
    for act in [FIRST, *acts, ("buy", 0, 0, 1)]:
        told.does(act)
    for at, lot in enumerate(told.lots):
        for what in ("return", "extend"):
            told.does((what, at, 100, 1))
        assert (lot.used, lot.expired) == (0, 0)
    assert told.cohort.recognised_minor == 0


@given(st.lists(ACT, max_size=30), st.integers(0, 9), st.integers(1, 100))
def test_a_transfer_leaves_the_cohort_as_it_was(acts: Sequence[Act], at: int, percent: int) -> None:
    told = Told()
    for act in [FIRST, *acts]:
        told.does(act)
    before = told.cohort
    told.does(("transfer", at, percent, 1))
    as_before = {"days": before.days, "was_estimated_last": before.was_estimated_last}
    assert replace(told.cohort, **as_before) == before


@given(st.integers(1, 10**6), st.lists(st.integers(1, 100), max_size=12), st.integers(0, 40), st.integers(0, 30))
def test_of_fixed_issue_and_estimate_the_published_formula(
    issued: int, uses: list[int], breakage: int, escheat: int
) -> None:
    """min(E × R / (F − E − S), F − R − S) of ASC 606-10-55-48, to the unit, as long as credits remain."""
    told = Told(rates=(f"0.{breakage:02d}", f"0.{escheat:02d}"))
    told.does(("buy", 0, 0, issued))
    for percent in uses:
        told.does(("use", 0, percent, 1))
        if told.cohort.credits:
            b, s = Fraction(breakage, 100) * issued, Fraction(escheat, 100) * issued
            redeemed = told.sums.redeemed
            assert told.cohort.recognised_minor == max(
                min(half_up(b * redeemed / (issued - b - s)), floor(issued - redeemed - s)), 0
            )


@given(
    st.lists(st.integers(1, 4_000), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 8), st.integers(1, 400)), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
def test_usage_recorded_before_or_after_a_purchase_is_worth_the_same_breakage(
    bought: list[int], used: list[tuple[int, int]], chance: Any
) -> None:
    """Law 13 for pools: with a rate, the slope of the line does not depend on the issued amount, except for rounding
    units.
    """
    acts: list[Act] = [("buy", 0, 0, size) for size in bought] + [("use", 0, 1, at) for at, _ in used]
    in_order, shuffled = Told(), Told()
    for told in (in_order, shuffled):
        told.does(("buy", 0, 0, 10**6))
        for act in acts:
            told.does(act)
        chance.shuffle(acts)
        # The same amounts are redeemed in either order: each time one percent of the remainder of the first block.
    assert in_order.sums == shuffled.sums
    assert abs(in_order.cohort.recognised_minor - shuffled.cohort.recognised_minor) <= len(acts)


def test_names_of_cohorts() -> None:
    assert month_of_issue(date(2026, 3, 31)) == "2026-03"
    assert [cohort_of("2026-03", by) for by in (None, "month", "quarter", "year", "none")] == [
        "2026-03", "2026-03", "2026-Q1", "2026", "",
    ]  # fmt: skip
    assert [cohort_of(f"2026-{month:02}", "quarter") for month in (1, 4, 6, 7, 9, 10, 12)] == [
        "2026-Q1", "2026-Q2", "2026-Q2", "2026-Q3", "2026-Q3", "2026-Q4", "2026-Q4",
    ]  # fmt: skip
    assert (cohort_of("2026-Q1", "quarter"), cohort_of("2026", "year"), cohort_of("", "month")) == (
        "2026-Q1",
        "2026",
        "",
    )
    assert [grouping_of(name) for name in ("2026-01", "2026-Q1", "2026")] == ["month", "quarter", "year"]
    in_words = [Cohort(pool="p", cohort=name, currency="USD").name for name in ("2026", "")]
    assert in_words == ["cohort 2026 of pool p", "pool p"]


# --- an exact line ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("acts", "recognised"),
    [
        pytest.param([("buy", 0, 0, 1_000), ("use", 0, 45, 1)], 50, id="10 % of 1,000: 450 × 100 / 900"),
        pytest.param([("buy", 0, 0, 1_000), ("use", 0, 100, 1), ("buy", 0, 0, 100)], 0, id="bought when all was used"),
        pytest.param([("buy", 0, 0, 1_000), ("use", 0, 45, 1), ("buy", 0, 0, 9_000)], 50, id="bought: nothing more"),
        pytest.param(
            [("buy", 0, 0, 1_000), ("use", 0, 45, 1), ("buy", 0, 0, 9_000), ("use", 1, 50, 1)], 550,
            id="50 + (1,000 − 50) × 4,500 / (10,000 − 1,000 − 450)",
        ),
        pytest.param(
            [("buy", 0, 0, 1_000), ("buy", 0, 0, 1_000), ("use", 0, 45, 1), ("expire", 0, 0, 1), ("buy", 0, 0, 100),
             ("extend", 0, 0, 1)], 50, id="what came back after a purchase is not kept: 450 × 200 / 1,800",
        ),
        pytest.param(
            [("buy", 0, 0, 1_000), ("use", 0, 98, 1), ("buy", 0, 0, 100)], 20, id="at most 20 may expire",
        ),
        pytest.param(
            [("buy", 0, 0, 1_000), ("use", 0, 100, 1), ("buy", 0, 0, 100), ("return", 0, 10, 1)], 100,
            id="900 are redeemed again: 900 × 100 / 900, as it was before the cohort was used up",
        ),
        pytest.param(
            [("buy", 0, 0, 1_000), ("use", 0, 90, 1), ("buy", 0, 0, 1_000), ("return", 0, 50, 1)], 50,
            id="450 of 900 are reversed: 100 × 450 / 900",
        ),
        pytest.param(
            [("buy", 0, 0, 1_000), ("use", 0, 98, 1), ("buy", 0, 0, 1_000), ("return", 0, 1, 1)], 30,
            id="at most 20 could expire, and 10 are given back",
        ),
        pytest.param(
            [("buy", 0, 0, 1_000), ("use", 0, 100, 1), ("backfill", 0, 50, 1_000)], 56,
            id="500 redeemed at once: 200 × 500 / 1,800, and not the 125 of the line",
        ),
        pytest.param(
            [("buy", 0, 0, 900), ("use", 0, 100, 1), ("buy", 0, 0, 100), ("use", 1, 10, 1)], 0,
            id="900 were redeemed of 1,000 − 100: nothing is left to be redeemed on the line",
        ),
        pytest.param(
            [("buy", 0, 0, 1_000), ("use", 0, 98, 1), ("buy", 0, 0, 100), ("return", 0, 100, 1)], 0,
            id="nothing is redeemed after all, nothing is recognised",
        ),
    ],
)  # fmt: skip
def test_a_line_by_hand(acts: Sequence[Act], recognised: int) -> None:
    told = Told(rates=("0.1", "0"))
    for act in acts:
        told.does(act)
    assert told.cohort.recognised_minor == recognised == told.line.recognised()


# --- the same, computed for the report --------------------------------------------------------------------------------


def figures_of(held: Day) -> CohortFigures:
    return CohortFigures(
        issued=held.issued_minor,
        redeemed=held.redeemed_minor,
        expired=held.expired_minor,
        escheated=held.escheated_minor,
        credits=held.credits,
        issued_functional=held.issued_functional,
        expired_functional=held.expired_functional,
        backfilled=held.backfilled_minor,
    )


def version(number: int, breakage: str, escheat: str) -> EstimateVersion:
    return EstimateVersion(
        pool="p", cohort=MONTH, grouping="month", currency="EUR", version=number, position=number, booked_on=DAY,
        breakage_minor=None, breakage_rate=Decimal(breakage), escheat_minor=None, escheat_rate=Decimal(escheat),
        evidence="r", maker=None, checker=None,
    )  # fmt: skip


@given(st.lists(st.tuples(ACT, st.integers(80, 120)), min_size=1, max_size=40))
def test_the_report_computes_the_same_line_in_both_currencies(acts: Sequence[tuple[Act, int]]) -> None:
    told, line = Told(), breakage_formula.Line()
    line.estimated(version(1, "0.1", "0.05"), 0)
    for number, (act, rate) in enumerate([(FIRST, 110), *acts], start=2):
        told.rate = Fraction(rate, 100)
        told.does(act)
        of_day = told.cohort.days[-1]
        if of_day.on == told.on:
            if act[0] == "estimate":
                made = version(number, f"0.{act[2] % 60:02d}", f"0.{act[3] % 30:02d}")
                line.estimated(made, told.cohort.issued_minor)
            line.follow(figures_of(of_day))
        assert line.recognised() == (told.cohort.recognised_minor, told.cohort.recognised_functional)


# --- pools from before cohorts existed ------------------------------------------------------------------------------


def old(kind: str, amount: int) -> Movement:
    """Returns a movement as it was recorded before cohorts existed."""
    credits = Decimal(0 if kind == "breakage_estimate" else amount)
    return Movement(kind=kind, accounting_date=DAY, amount_minor=amount, credits=credits, pool="p")


def recorded_before(*movements: tuple[tuple[str, int], ...], rate: str = "0.1") -> Pools:
    """Returns the pools after decisions from before cohorts existed. The first one is an estimate."""
    data = {"pool": "p", "currency": "USD", "evidence": "r", "expected_breakage_rate": rate}
    pools = with_estimate(Pools(), BreakageEstimated.model_validate(data), None, DAY)
    for of_event in movements:
        pools = after_movements(pools, [old(*each) for each in of_event], "USD", None)
    return pools


def test_a_pool_of_before_cohorts_is_one_by_itself_and_goes_on_from_what_was_posted() -> None:
    """An open pool from before cohorts existed: the purchase of the 100 made 100 revenue. This stays; later breakage is
    by the line.
    """
    pools = recorded_before(
        (("purchase", 1000),), (("consumption", 1000),), (("purchase", 100), ("breakage_estimate", 100)),
    )  # fmt: skip
    [held] = pools.all_cohorts()
    assert (pools.by_name["p"].grouping, held.cohort, held.recognised_minor, held.due_minor()) == ("none", "", 100, 100)
    bought = [new("purchase", 500, "2026-05")]
    [held] = after_movements(pools, bought, "USD", None).all_cohorts()
    assert (held.issued_minor, held.due_minor()) == (1600, 100), "nothing more at a purchase, and no cohort of its own"
    [held] = after_movements(pools, [new("consumption", 30, "")], "USD", None).all_cohorts()
    assert held.due_minor() == 70, "redeemed beyond the estimate: only 70 may still expire"


def test_the_line_of_a_pool_of_before_cohorts_is_the_one_it_was_on() -> None:
    """10 % of 1,000: 450 redeemed, 50 posted; 900 redeemed, 100 due. With 60 expired, 60 were posted."""
    pools = recorded_before((("purchase", 1000),), (("consumption", 450), ("breakage_estimate", 50)))
    assert pools.cohort(("p", "")).due_minor() == 50
    assert after_movements(pools, [new("consumption", 450, "")], "USD", None).cohort(("p", "")).due_minor() == 100
    pools = after_movements(pools, [old("pooled_breakage", 60), old("breakage_estimate", 10)], "USD", None)
    assert pools.cohort(("p", "")).due_minor() == 60
    back = after_movements(pools, [new("pooled_breakage", -60, "")], "USD", None)
    assert back.cohort(("p", "")).due_minor() == 0, "what it was besides is not known any more; redemption goes to 100"
    assert after_movements(back, [new("consumption", 450, "")], "USD", None).cohort(("p", "")).due_minor() == 100


def test_usage_of_before_cohorts_that_comes_late_takes_no_day_below_nothing() -> None:
    """30 % of 100.00 are expected to break. 20.00 used on 1 January earn 8.57. 70.00 more are used on 3 January, so
    10.00 may break. This was posted before cohorts existed, and stays. On 5 January 500.00 are issued, and nothing is
    recognised for them.

    9.00 more, used on 2 January, leave 1.00 on 3 January. On 5 January the line continues from 10.00 at 90.00: 10 +
    (180 − 10) × 9 / (600 − 180 − 90) = 14.64.
    """

    def moved(kind: str, day: int, amount: int, cohort: str | None) -> Movement:
        credits = Decimal(0 if kind == "breakage_estimate" else amount)
        on = date(2026, 1, day)
        return Movement(kind=kind, accounting_date=on, amount_minor=amount, credits=credits, pool="p", cohort=cohort)

    pools = recorded_before((), rate="0.3")
    for movements in (
        (moved("purchase", 1, 10_000, None),),
        (moved("consumption", 1, 2_000, None), moved("breakage_estimate", 1, 857, None)),
        (moved("consumption", 3, 7_000, None), moved("breakage_estimate", 3, 143, None)),
        (moved("purchase", 5, 50_000, None),),
    ):
        pools = after_movements(pools, movements, "USD", None)
    _, due = with_breakage_due(pools, [moved("consumption", 2, 900, "")], "USD")
    [changes] = due.values()
    assert [(f"{change.on:%d}", change.amount_minor) for change in changes] == [("03", -900), ("05", 1364)]
    _, due = with_breakage_due(pools, [moved("consumption", 6, 900, "")], "USD")
    [[change]] = due.values()
    assert (change.on, change.amount_minor) == (date(2026, 1, 6), 464), "nothing is taken back: 464 = 1364 − 900"


def test_months_of_before_the_first_estimate_are_added_up_by_it() -> None:
    pools = Pools()
    for month, amount in (("2026-01", 100), ("2026-03", 200), ("2026-04", 400)):
        pools = after_movements(pools, [new("purchase", amount, month)], "USD", None)
    pools = after_movements(
        pools, [new("consumption", 30, "2026-01"), new("pooled_breakage", 50, "2026-03")], "USD", None
    )
    data = {"pool": "p", "currency": "USD", "evidence": "r", "expected_breakage_rate": "0.2"}
    by_quarter = with_estimate(pools, BreakageEstimated.model_validate(data), "quarter", DAY)
    first, second = by_quarter.cohort(("p", "2026-Q1")), by_quarter.cohort(("p", "2026-Q2"))
    assert (first.issued_minor, first.redeemed_minor, first.expired_minor, first.credits) == (300, 30, 50, Decimal(220))
    assert (second.issued_minor, second.due_minor(), first.due_minor()) == (400, 0, 50)
    assert by_quarter.cohort(("p", "2026-01")).has_ended is False
    assert by_quarter.key_of(new("consumption", 1, "2026-03")) == ("p", "2026-Q1")
    assert estimated_cohorts(by_quarter, BreakageEstimated.model_validate(data)) == ("2026-Q1", "2026-Q2")
    whole = with_estimate(pools, BreakageEstimated.model_validate(data), "none", DAY).cohort(("p", ""))
    assert (whole.issued_minor, whole.due_minor()) == (700, 50)
    later = after_movements(by_quarter, [new("purchase", 10, "2026-09")], "USD", None).cohort(("p", "2026-Q3"))
    assert [(DAY, later.estimate)] == list(by_quarter.by_name["p"].estimates), (
        "a cohort that begins later has the rate of all"
    )


def test_a_rate_is_for_cohorts_without_credits_too_as_they_may_begin_again() -> None:
    data = {"pool": "p", "currency": "USD", "evidence": "r", "expected_breakage_rate": "0.1"}
    pools = with_estimate(Pools(), BreakageEstimated.model_validate(data), "month", DAY)
    pools = after_movements(pools, [new("purchase", 100, "2026-01"), new("purchase", 100, "2026-02")], "USD", None)
    pools = after_movements(pools, [new("pooled_breakage", 100, "2026-01")], "USD", None)
    pools = with_estimate(
        pools, BreakageEstimated.model_validate(data | {"expected_breakage_rate": "0.2"}), "month", DAY
    )
    versions = [held.estimate.version for held in pools.all_cohorts() if held.estimate is not None]
    assert versions == [2, 2]
    assert pools.cohort(("p", "2026-01")).due_minor() == 100, "what has expired, and no more"


def new(kind: str, amount: int, month: str) -> Movement:
    return Movement(
        kind=kind, accounting_date=DAY, amount_minor=amount, credits=Decimal(amount), pool="p", cohort=month
    )  # fmt: skip


def test_a_cohort_has_the_sums_of_its_days_and_what_is_expected_of_them() -> None:
    names = [name for name in Day._fields if name in Cohort.__struct_fields__ and name not in ("estimate", "anchor")]
    day = Day(DAY)._replace(**{name: number for number, name in enumerate(names, start=1)})
    cohort = Cohort(pool="p", currency="USD")
    assert [getattr(cohort.plus(day), name) for name in names] == [*range(1, len(names) + 1)]
    assert [getattr(cohort.plus(day, -1), name) for name in names] == [*range(-1, -len(names) - 1, -1)]
    assert cohort.plus(day).plus(day, -1) == cohort
    assert cohort.plus(day).with_sums_of(cohort.plus(day)) == cohort.plus(day).plus(day)
    estimate = breakage_line.Estimate(version=1, breakage_rate=Decimal("0.15"))
    assert replace(cohort, issued_minor=1_003, estimate=estimate).expected_breakage_minor == 150
    assert replace(cohort, issued_minor=1_004, estimate=estimate).expected_breakage_minor == 151
    assert cohort.expected_breakage_minor == 0
