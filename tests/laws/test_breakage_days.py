"""Laws of the days of recognised breakage: any history of several cohorts, recorded in any order.

ACCOUNTING section 8, law 11: nothing is recognised at purchase, or before credits are redeemed or expire. Law 13: the
order in which usage is recorded changes no month. Section 5 (b), (d) and (e) hold for any days.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from subledger.breakage_days import BreakageChange, due_from, remembered, with_days
from subledger.breakage_line import Anchor, Estimate
from subledger.cohort_days import MAY_BE_REOPENED, Day
from subledger.events.data import BreakageEstimated
from subledger.pooling import (
    Pools,
    after_movements,
    cohorts_without,
    estimated_cohorts,
    with_breakage_due,
    with_estimate,
)
from subledger.pools import Cohort
from subledger.wallet import Movement

START = date(2026, 1, 1)
MONTHS = ("2026-01", "2026-02", "2026-03")
ACTS = ("buy", "buy", "use", "use", "use", "use", "return", "void", "expire", "reinstate", "escheat", "estimate")
Act = tuple[str, int, int, int, int]
"""An act: its name, its day, its block or usage, its part in percent, and a number that varies it."""
ACT = st.tuples(
    st.sampled_from(ACTS), st.integers(0, 90), st.integers(0, 9), st.integers(1, 100), st.integers(1, 4_000)
)  # fmt: skip
KINDS = ("purchase", "void_unpaid", "consumption", "pooled_breakage", "escheat", "breakage_estimate")
FIRST: Act = ("buy", 0, 0, 0, 10_000)


def day(number: int) -> date:
    return START + timedelta(days=number)


class Lot:
    """A block with as many credits as minor units, and the days of its later movements."""

    def __init__(self, cohort: str, bought: int, left: int) -> None:
        self.cohort, self.bought, self.left = cohort, bought, left
        self.expired, self.expired_on = 0, 0


class Use:
    """A usage, and its part that is not reversed."""

    def __init__(self, lot: Lot, on: int, used: int) -> None:
        self.lot, self.on, self.left = lot, on, used


class Dated:
    """The cohorts of a pool, act by act. Each act posts the breakage that it makes due, on the days of its causes."""

    def __init__(self) -> None:
        self.pools = Pools()
        self.lots: list[Lot] = []
        self.uses: list[Use] = []
        self.entries: list[Movement] = []
        self.posted: list[Movement] = []
        self.estimate(0, 10, 5)

    def does(self, act: Act) -> None:
        what, on, at, percent, size = act
        lot = self.lots[at % len(self.lots)] if self.lots else Lot("", 0, 0)
        use = self.uses[at % len(self.uses)] if self.uses else None
        part, on_lot = lot.left * percent // 100, max(on, lot.bought)
        self.posted = []
        match what:
            case "buy":
                lot = Lot(MONTHS[at % 3], on, size)
                self.lots.append(lot)
                self.moves(lot, ("purchase", on, size))
            case "use" if part:
                lot.left -= part
                self.uses.append(Use(lot, on_lot, part))
                self.moves(lot, ("consumption", on_lot, part))
            case "return" if use is not None and use.left and not use.lot.expired:
                back = -(-use.left * percent // 100)
                use.left, use.lot.left = use.left - back, use.lot.left + back
                self.moves(use.lot, ("consumption", max(on, use.on), -back))
            case "void" if part:
                lot.left -= part
                self.moves(lot, ("void_unpaid", on_lot, part))
            case "escheat" if part:
                lot.left -= part
                self.moves(lot, ("escheat", on_lot, part))
            case "expire" if lot.left:
                lot.expired, lot.expired_on, lot.left, gone = (
                    lot.expired + lot.left,
                    max(on_lot, lot.expired_on),
                    0,
                    lot.left,
                )
                self.moves(lot, ("pooled_breakage", lot.expired_on, gone))
            case "reinstate" if lot.expired:
                lot.left, lot.expired, back = lot.left + lot.expired, 0, lot.expired
                self.moves(lot, ("pooled_breakage", max(on, lot.expired_on), -back))
            case "estimate":
                self.estimate(on, percent % 60, size % 30)

    def late(self, lot: Lot, on: int, part: int) -> None:
        """Records usage of a block that has expired meanwhile. The breakage of that part is mirrored."""
        lot.expired -= part
        self.uses.append(Use(lot, on, part))
        self.moves(lot, ("pooled_breakage", lot.expired_on, -part), ("consumption", on, part))

    def moves(self, lot: Lot, *movements: tuple[str, int, int]) -> None:
        made = [movement(kind, on, amount, lot.cohort) for kind, on, amount in movements]
        pools, due = with_breakage_due(self.pools, made, "USD")
        self.posted = [entry(pools.cohort(key), change) for key, changes in due.items() for change in changes]
        self.entries += [*made, *self.posted]
        self.pools = after_movements(self.pools, [*made, *self.posted], "USD", None)
        # The line is the same before and after the breakage is posted.
        for key in due:
            assert self.pools.cohort(key).anchor == pools.cohort(key).anchor

    def estimate(self, on: int, breakage: int, escheat: int) -> None:
        data = {"pool": "p", "currency": "USD", "cohorts": "month", "evidence": "r"}
        rates = {"expected_breakage_rate": f"0.{breakage:02}", "expected_escheat_rate": f"0.{escheat:02}"}
        made = BreakageEstimated.model_validate({**data, **rates})
        self.pools = with_estimate(self.pools, made, "month", day(on))
        kept = cohorts_without(self.pools, made)
        for name in estimated_cohorts(self.pools, made):
            if name not in kept:
                cohort = self.pools.cohort(("p", name))
                changes = due_from(cohort, day(on))
                self.posted += [entry(cohort, change) for change in changes]
        self.entries += self.posted
        self.pools = after_movements(self.pools, self.posted, "USD", None)

    def sums(self, cohort: str, through: int) -> dict[str, int]:
        """Returns F, R, A, the escheated amount and T in the view of a day."""
        found = dict.fromkeys(KINDS, 0)
        for each in self.entries:
            if each.cohort == cohort and each.accounting_date <= day(through):
                found[each.kind] += each.amount_minor
        return found


def movement(kind: str, on: int, amount: int, cohort: str) -> Movement:
    return Movement(
        kind=kind, accounting_date=day(on), amount_minor=amount, credits=Decimal(amount), pool="p", cohort=cohort
    )  # fmt: skip


def entry(cohort: Cohort, change: BreakageChange) -> Movement:
    assert change.functional_minor == change.amount_minor
    return Movement(
        kind="breakage_estimate", accounting_date=change.on, amount_minor=change.amount_minor, pool="p",
        cohort=cohort.cohort,
    )  # fmt: skip


@given(st.lists(ACT, min_size=1, max_size=40))
def test_what_is_posted_is_what_is_due_and_within_its_bounds(acts: Sequence[Act]) -> None:
    """(d) and (e), of every cohort."""
    dated = Dated()
    for act in [FIRST, *acts]:
        dated.does(act)
        for cohort in dated.pools.all_cohorts():
            assert cohort.recognised_minor == cohort.due_minor() == dated.sums(cohort.cohort, 999)["breakage_estimate"]
            most = cohort.issued_minor - cohort.redeemed_minor - cohort.escheated_minor
            assert cohort.expired_minor <= cohort.recognised_minor <= max(most, cohort.expired_minor)
            if not cohort.credits:
                assert cohort.recognised_minor == cohort.expired_minor
            if not cohort.redeemed_minor and not cohort.expired_minor:
                assert cohort.recognised_minor == 0, "what was redeemed is all reversed"


@given(st.lists(ACT, min_size=1, max_size=40))
def test_on_days_on_which_something_is_only_issued_or_cancelled_nothing_is_recognised(acts: Sequence[Act]) -> None:
    """(b), and law 11, in any order of recording."""
    dated = Dated()
    estimated = {0}
    for act in [FIRST, *acts]:
        dated.does(act)
        estimated |= {act[1]} if act[0] == "estimate" else set()
    for cohort in MONTHS:
        for number in range(91):
            of_day = {kind: dated.sums(cohort, number)[kind] - dated.sums(cohort, number - 1)[kind] for kind in KINDS}
            if not of_day["consumption"] and of_day["pooled_breakage"] <= 0 and number not in estimated:
                assert of_day["breakage_estimate"] <= 0


@example([("use", 8, 0, 54, 8), ("expire", 1, 1, 27, 50), ("estimate", 4, 3, 3, 18), ("reinstate", 4, 0, 29, 58)])
@example(
    [("buy", 0, 0, 86, 50), ("use", 10, 3, 82, 49), ("expire", 9, 0, 72, 3), ("return", 5, 0, 84, 55),
     ("reinstate", 3, 0, 13, 11)]
)  # fmt: skip
@given(st.lists(ACT, min_size=1, max_size=40))
def test_no_view_has_less_than_nothing_or_breakage_before_anything_was_redeemed_or_has_expired(
    acts: Sequence[Act],
) -> None:
    """Law 11 in every view, also with back-dated estimates, and with usage that is recorded late."""
    dated = Dated()
    for act in [FIRST, *acts]:
        dated.does(act)
    for cohort in MONTHS:
        causes = [
            each.accounting_date
            for each in dated.entries
            if each.cohort == cohort and each.kind in ("consumption", "pooled_breakage")
        ]
        for number in range(91):
            of_view = dated.sums(cohort, number)
            recognised = of_view["breakage_estimate"]
            assert of_view["pooled_breakage"] <= recognised
            liability = of_view["purchase"] - of_view["void_unpaid"] - of_view["consumption"] - of_view["escheat"]
            assert recognised <= liability or liability < of_view["pooled_breakage"]
            if not causes or day(number) < min(causes):
                assert recognised == 0


USAGES = st.lists(st.tuples(st.integers(1, 89), st.integers(0, 1), st.integers(1, 900)), min_size=1, max_size=8)


@given(USAGES, st.integers(0, 7))
def test_recording_one_usage_later_changes_no_month(usages: list[tuple[int, int, int]], pick: int) -> None:
    """Law 13, for a block that expires on 31 January and one that does not, except for rounding units."""
    late = pick % len(usages)
    views = [recorded(usages, which) for which in (None, late)]
    for in_order, shuffled in zip(*views, strict=True):
        assert abs(in_order - shuffled) <= len(usages)


def recorded(usages: list[tuple[int, int, int]], late: int | None) -> list[int]:
    """Returns the recognised breakage at the month ends, if the usage ``late`` is recorded after all others."""
    dated, last_day = Dated(), 30
    dated.does(("buy", 0, 0, 0, 8_000))
    dated.does(("buy", 0, 0, 0, 100_000))
    of_january, other = dated.lots
    facts = sorted((on, number) for number, (on, _, _) in enumerate(usages) if number != late)
    is_swept = False
    for on, number in [*facts, *([] if late is None else [(usages[late][0], late)])]:
        if not is_swept and (on > last_day or number == late):
            is_swept = _sweep(dated, last_day)
        lot = of_january if usages[number][1] and on <= last_day else other
        part = usages[number][2]
        if lot.expired:
            dated.late(lot, on, part)
        else:
            lot.left -= part
            dated.moves(lot, ("consumption", on, part))
    if not is_swept:
        _sweep(dated, last_day)
    return [dated.sums(MONTHS[0], end)["breakage_estimate"] for end in (30, 58, 89)]


def _sweep(dated: Dated, last_day: int) -> bool:
    dated.does(("expire", last_day, 0, 100, 1))
    return True


def test_an_estimate_dated_back_books_nothing_before_the_redemption_that_earns_it() -> None:
    """10 % and 5 % of 1,000: 850 are redeemed in February, so the 100.00 are of February, not of January."""
    dated = Dated()
    for act in (("buy", 0, 0, 0, 1_000), ("use", 40, 0, 85, 1)):
        dated.does(act)
    assert [(each.accounting_date, each.amount_minor) for each in dated.posted] == [(day(40), 100)]
    dated.posted = []
    dated.estimate(10, 15, 0)
    assert [(each.accounting_date, each.amount_minor) for each in dated.posted] == [(day(40), 50)]


def test_a_draw_on_blocks_of_two_days_recognises_its_breakage_on_two_days() -> None:
    dated = Dated()
    dated.does(("buy", 0, 0, 0, 1_700))
    dated.does(("buy", 20, 0, 0, 1_700))
    dated.posted = []
    dated.moves(dated.lots[0], ("consumption", 10, 850), ("consumption", 20, 850))
    assert [(each.accounting_date, each.amount_minor) for each in dated.posted] == [(day(10), 100), (day(20), 100)]


def posted(dated: Dated, *movements: tuple[str, int, int]) -> list[tuple[int, int]]:
    """Returns the breakage that is due after movements on the first block, by the number of the day."""
    dated.moves(dated.lots[0], *movements)
    return [((each.accounting_date - START).days, each.amount_minor) for each in dated.posted]


def sold(rate: int) -> Dated:
    dated = Dated()
    dated.estimate(0, rate, 0)
    dated.does(("buy", 0, 0, 0, 1_000))
    return dated


def test_late_usage_moves_the_anchor_of_every_later_day() -> None:
    """10 % of 1,000, of which 300 are escheated on day 20. From that day on, 150 earn 50."""
    dated = sold(10)
    assert posted(dated, ("escheat", 20, 300)) == []
    assert posted(dated, ("consumption", 10, 450)) == [(10, 50)]
    assert posted(dated, ("consumption", 30, 75)) == [(30, 25)]
    assert posted(dated, ("consumption", 31, -75)) == [(31, -25)]
    dated = sold(10)
    assert posted(dated, ("escheat", 11, 300)) == []
    assert posted(dated, ("consumption", 10, 450), ("consumption", 12, 75)) == [(10, 50), (12, 25)]
    assert posted(dated, ("consumption", 30, 15)) == [(30, 5)]
    dated = sold(10)
    assert posted(dated, ("escheat", 11, 300)) == []
    assert posted(dated, ("consumption", 12, 75), ("consumption", 10, 450)) == [(10, 50), (12, 25)]


def test_a_later_purchase_of_a_day_that_pays_for_overage_recognises_in_proportion_too() -> None:
    """Half of 1,000: 600 are used, so only 400 can break. Then the line rises by more than the redeemed amount."""
    dated = sold(50)
    assert posted(dated, ("consumption", 5, 600)) == [(5, 400)]
    assert posted(dated, ("purchase", 20, 1_000)) == []
    assert posted(dated, ("purchase", 20, 100), ("overage_backfilled", 20, 100)) == [(20, 100)]
    assert posted(dated, ("consumption", 20, 90)) == [(20, 141)], "500 + 550 × 90 / 350"
    assert posted(dated, ("purchase", 20, -100), ("overage_backfilled", 20, -100)) == [(20, -106)]


def test_what_is_recorded_for_a_forgotten_day_is_of_the_last_one_of_them() -> None:
    cohort = Cohort(pool="p", currency="USD", forgotten_through=day(10))
    for on, expected in ((5, 10), (10, 10), (11, 11)):
        found, first = with_days(cohort, [Day(day(on), issued_minor=100)])
        assert ([each.on for each in found.days], first, found.issued_minor) == ([day(expected)], day(expected), 100)


def test_a_cohort_remembers_what_was_in_force_before_the_days_that_it_forgets() -> None:
    first, second, anchors = Estimate(version=1), Estimate(version=2), [Anchor(redeemed_minor=n) for n in range(3)]
    days = (
        Day(day(0), 1, estimate=first, anchor=anchors[0]),
        Day(day(5), 2, estimate=second),
        Day(day(9), 3, anchor=anchors[1]),
        Day(day(20), 4, anchor=anchors[2]),
    )
    started = Estimate(version=9)
    cohort = Cohort(pool="p", currency="USD", days=days, start_estimate=started, start_anchor=Anchor(redeemed_minor=9))
    assert remembered(cohort, None) == cohort
    for through, number, estimate, anchor in (
        (0, 1, first, anchors[0]), (5, 2, second, anchors[0]), (9, 3, second, anchors[1]), (30, 4, second, anchors[2]),
    ):  # fmt: skip
        closed = day(through) + MAY_BE_REOPENED
        kept = remembered(cohort, closed)
        assert (kept.days, kept.forgotten_through) == (days[number:], days[number - 1].on)
        assert (kept.start_estimate, kept.start_anchor, kept.posted_through) == (estimate, anchor, None)
        posted = days[number - 1].on
        assert remembered(replace(cohort, posted_through=posted), closed).posted_through is None
        later = posted + timedelta(days=1)
        assert remembered(replace(cohort, posted_through=later), closed).posted_through == later
    plain = replace(cohort, days=(Day(day(0), 1), Day(day(5), 2)))
    kept = remembered(plain, day(0) + MAY_BE_REOPENED)
    assert (kept.start_estimate, kept.start_anchor) == (started, Anchor(redeemed_minor=9))
