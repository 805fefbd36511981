"""Laws of the ledger's own books after any walk: pools, money held in currencies, exchange rates."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from subledger.billing_documents import moved, standing_name
from subledger.blocks import ZERO
from subledger.books import Books, Rates
from subledger.events.data import EVENT_TYPES
from subledger.kinds import KIND_BY_NAME, KINDS, LEDGER_ROLES
from subledger.pools import Cohort, Estimate
from tests.laws.model_blocks import Estimate as PlainEstimate
from tests.laws.model_pools import Line, Sums
from tests.laws.walk import HOME, Step, Walk, monetary_sides
from tests.laws.walks import for_every_walk

# Kind of movement → the letter of the specification that it changes, and how; by hand, apart from the code's columns.
LETTERS = {
    "purchase": ("F", 1), "goodwill": ("F", 1), "allocation": ("F", 1), "promotional_grant": ("F", 1),
    "repricing": ("F", 1), "transfer_in": ("F", 1), "transfer_out": ("F", -1), "void_unpaid": ("F", -1),
    "void_paid": ("F", -1), "refund": ("F", -1), "refund_unpaid": ("F", -1), "refund_retained": ("F", -1),
    "dispute_lost_unused": ("F", -1),
    "write_off_unused": ("F", -1), "consumption": ("R", 1), "redemption_tax": ("R", 1),
    "overage_backfilled": ("R", 1),
    "backfill_difference": ("R", 1), "pooled_breakage": ("A", 1), "escheat": ("escheated", 1),
    "breakage_estimate": ("T", 1),
}  # fmt: skip


def test_the_long_walks_meet_every_event_type_and_every_entry_kind(long_walks: Sequence[Walk]) -> None:
    types = Counter(step.event.type for ledger in long_walks for step in ledger.steps)
    kinds = Counter(entry.kind for ledger in long_walks for entry in ledger.entries)
    assert set(EVENT_TYPES) | {"balances.remeasured", "period.closed", "period.reopened"} <= set(types)
    assert {kind.name for kind in KINDS} <= set(kinds)


# --- pools ----------------------------------------------------------------------------------------------------


def cohort_of(issued: str, grouping: str | None) -> str:
    """The cohort of an entry that names a month of issue, or a cohort."""
    year, _, part = issued.partition("-")
    if not issued or grouping == "none":
        return ""
    if grouping == "year":
        return year
    return f"{year}-Q{(int(part) + 2) // 3}" if grouping == "quarter" and part[:1] != "Q" else issued


def plain(estimate: Estimate) -> PlainEstimate:
    return PlainEstimate(
        issued=estimate.issued_minor,
        breakage=estimate.breakage_minor,
        breakage_rate=None if estimate.breakage_rate is None else Fraction(estimate.breakage_rate),
        escheat=estimate.escheat_minor,
        escheat_rate=None if estimate.escheat_rate is None else Fraction(estimate.escheat_rate),
    )


class Followed:
    """The figures of every cohort, added up from entries, and its line by the plain rule (model_pools)."""

    def __init__(self) -> None:
        self.issues: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self.functional: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self.credits: defaultdict[tuple[str, str], Decimal] = defaultdict(lambda: ZERO)
        self.lines: dict[tuple[str, str], Line] = {}
        self.grouping: dict[str, str | None] = {}
        self.before = Books()

    def take(self, step: Step) -> None:
        for entry in step.entries:
            pool, issued = entry.dimensions.pool, entry.dimensions.cohort
            if pool and entry.kind in LETTERS:
                letter, sign = LETTERS[entry.kind]
                self.issues[pool, issued][letter] += sign * entry.amount_minor
                self.functional[pool, issued][letter] += sign * entry.functional_minor
                self.credits[pool, issued] += KIND_BY_NAME[entry.kind].sign * entry.credits
        grouped = {name: pool.grouping for name, pool in step.books.pools.by_name.items()}
        new = {name for name in grouped if grouped[name] != self.grouping.get(name)}
        self.grouping = grouped
        # Months that a first estimate groups are no cohorts of their own any more.
        self.lines = {key: line for key, line in self.lines.items() if key[0] not in new or key in self.sums()}
        functional = self.sums("functional")
        for key, figures in self.sums().items():
            left, issued = self.credits_of(key) != 0, functional[key]["F"]
            sums = Sums(figures["F"], figures["R"], figures["A"], figures["escheated"], left, issued)
            if key not in self.lines:
                pool = step.books.pools.by_name[key[0]]
                self.lines[key] = Line(estimate=None if pool.estimate is None else plain(pool.estimate))
            self.lines[key].follow(sums)
            if key[0] in new and grouped[key[0]] not in (None, "month"):
                self.lines[key].anchors = self.lines[key].anchors[:1]
        if step.event.type == "breakage.estimated":
            of_pool = step.books.pools.cohorts[step.event.data.pool]
            for name, cohort in of_pool.items():
                known = self.before.pools.cohorts.get(cohort.pool, {}).get(name)
                if cohort.estimate is not None and (known is None or known.estimate is not cohort.estimate):
                    self.lines.setdefault((cohort.pool, name), Line()).catch_up(plain(cohort.estimate))
        self.before = step.books

    def sums(self, of: str = "issues") -> dict[tuple[str, str], Counter[str]]:
        found: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        for (pool, issued), figures in getattr(self, of).items():
            found[pool, cohort_of(issued, self.grouping.get(pool))].update(figures)
        return found

    def credits_of(self, key: tuple[str, str]) -> Decimal:
        pool, cohort = key
        return sum(
            (
                credits
                for (of, issued), credits in self.credits.items()
                if of == pool and cohort_of(issued, self.grouping.get(pool)) == cohort
            ),
            ZERO,
        )


@for_every_walk
def test_a_cohorts_figures_are_the_sums_of_its_entries_and_its_breakage_is_on_the_line(ledger: Walk) -> None:
    followed = Followed()
    for step in ledger.steps:
        pooled = any(movement.pool for movement in step.decision.movements)
        if not pooled and step.event.type != "breakage.estimated":
            continue
        followed.take(step)
        figures, functional = followed.sums(), followed.sums("functional")
        cohorts = {(cohort.pool, cohort.cohort): cohort for cohort in step.books.pools.all_cohorts()}
        assert set(figures) <= set(cohorts)
        for key, held in cohorts.items():
            found = figures.get(key, Counter())
            assert (held.issued_minor, held.redeemed_minor) == (found["F"], found["R"])
            assert (held.expired_minor, held.escheated_minor) == (found["A"], found["escheated"])
            assert (held.recognised_minor, held.credits) == (found["T"], followed.credits_of(key))
            line = followed.lines.get(key, Line())
            assert found["T"] == line.recognised() == held.due_minor() >= 0
            posted = functional.get(key, Counter())
            assert posted["T"] == held.recognised_functional == held.due_functional()
            if found["T"] == found["A"]:
                assert posted["T"] == posted["A"], "at the rates at which it expired"


@for_every_walk
def test_no_event_that_issues_or_cancels_recognises_breakage_but_for_what_it_redeems_or_expires(ledger: Walk) -> None:
    """Law 11: nothing is recognised at purchase, in any order; T falls then only to what may still expire."""
    for step in ledger.steps:
        letters = {LETTERS[m.kind][0] for m in step.decision.movements if m.pool is not None and m.kind in LETTERS}
        if "F" in letters and not letters & {"R", "A"}:
            assert all(m.amount_minor < 0 for m in step.decision.movements if m.kind == "breakage_estimate")


def test_amounts_estimated_are_scaled_with_what_is_issued_and_rates_are_of_it() -> None:
    def of(estimate: Estimate, issued: int) -> tuple[Fraction, Fraction]:
        breakage, escheat, per = estimate.of(issued)
        return Fraction(breakage, per), Fraction(escheat, per)

    amounts = Estimate(version=1, breakage_minor=40, escheat_minor=10, issued_minor=100)
    assert (of(amounts, 100), of(amounts, 50), of(amounts, 25)) == ((40, 10), (20, 5), (10, Fraction(5, 2)))
    rates = Estimate(version=1, breakage_rate=Decimal("0.4"), escheat_rate=Decimal("0.1"), issued_minor=100)
    assert (of(rates, 100), of(rates, 50)) == ((40, 10), (20, 5))
    assert of(Estimate(version=1, breakage_minor=40), 50) == (0, 0), "nothing was issued when it was made"


@for_every_walk
def test_at_the_end_of_a_cohort_its_liability_and_its_recognised_breakage_are_zero(ledger: Walk) -> None:
    liability: Counter[tuple[str, str, str]] = Counter()
    recognised: Counter[tuple[str, str, str]] = Counter()
    for step in ledger.steps:
        for entry in step.entries:
            pool, issued = entry.dimensions.pool, entry.dimensions.cohort
            for kind, of in (("amount", entry.amount_minor), ("functional", entry.functional_minor)):
                liability[pool, issued, kind] += KIND_BY_NAME[entry.kind].sign * of
                if entry.kind in ("breakage_estimate", "pooled_breakage"):
                    recognised[pool, issued, kind] += of if entry.kind == "breakage_estimate" else -of
        for held in step.books.pools.all_cohorts():
            grouping = step.books.pools.by_name[held.pool].grouping

            def standing(of: Counter[tuple[str, str, str]], kind: str, held: Cohort = held, by: Any = grouping) -> int:
                return sum(
                    amount
                    for (pool, issued, each), amount in of.items()
                    if (pool, each) == (held.pool, kind) and cohort_of(issued, by) == held.cohort
                )

            assert standing(liability, "amount") >= standing(recognised, "amount"), (
                "the net liability is never negative"
            )
            if not held.credits:
                for kind in ("amount", "functional"):
                    assert (standing(liability, kind), standing(recognised, kind)) == (0, 0)


@for_every_walk
def test_estimates_of_a_pool_are_numbered_in_order(ledger: Walk) -> None:
    versions: Counter[str] = Counter()
    for step in ledger.steps:
        if step.event.type == "breakage.estimated":
            name = step.event.data.pool
            versions[name] += 1
            assert step.books.pools.by_name[name].versions == versions[name]
            estimated = [
                cohort
                for cohort in step.books.pools.cohorts[name].values()
                if cohort.estimate is not None and cohort.estimate.version == versions[name]
            ]
            assert all(c.estimate is not None and c.estimate.issued_minor == c.issued_minor for c in estimated)
            assert [c.cohort for c in estimated] == [step.event.data.cohort] or step.event.data.cohort is None


# --- money in currencies ----------------------------------------------------------------------------------------


@for_every_walk
def test_positions_of_the_ledger_are_the_sums_of_its_entries(ledger: Walk) -> None:
    amounts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for step in ledger.steps:
        for entry in step.entries:
            for role, sign in monetary_sides(entry):
                if role in LEDGER_ROLES and entry.currency != HOME:
                    held = amounts[standing_name(role, entry.currency, entry.dimensions.processor)]
                    held[0] += sign * entry.amount_minor
                    held[1] += sign * entry.functional_minor
        assert step.books.standings == {key: tuple(held) for key, held in amounts.items()}, "what once stood has a row"


def test_a_position_keeps_apart_only_blocks_and_processors() -> None:
    assert standing_name("accounts_receivable", "EUR", "b1") == "accounts_receivable EUR b1"
    assert standing_name("processor_clearing", "EUR", "cards") == "processor_clearing EUR cards"
    assert standing_name("processor_clearing", "EUR") == "processor_clearing EUR "
    assert standing_name("refunds_payable", "EUR", "b1") == "refunds_payable EUR "
    assert standing_name("tax_payable", "EUR", "b1") == "tax_payable EUR "


def test_a_position_at_zero_in_both_currencies_is_gone() -> None:
    held = moved({"a": (1, 2)}, "b", 100, 120)
    assert held == {"a": (1, 2), "b": (100, 120)}
    assert moved(held, "b", -100, -119) == {"a": (1, 2), "b": (0, 1)}
    assert moved(held, "b", -99, -120) == {"a": (1, 2), "b": (1, 0)}
    assert moved(held, "b", -100, -120) == {"a": (1, 2)}


# --- rates ----------------------------------------------------------------------------------------------------

DAY = date(2026, 3, 31)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 10**6).map(Decimal)), max_size=12), st.integers(-1, 21))
def test_the_rate_of_a_day_is_the_latest_set_for_it_or_a_day_before(
    given_rates: list[tuple[int, Decimal]], asked: int
) -> None:
    rates, known = Rates(), dict[int, Decimal]()
    for day, rate in given_rates:
        rates = rates.set(DAY + timedelta(days=day), rate)
        known[day] = rate  # the last one set for a day holds
    before = [day for day in known if day <= asked]
    assert rates.on(DAY + timedelta(days=asked)) == (known[max(before)] if before else None)
    assert list(rates.days) == sorted({DAY + timedelta(days=day) for day in known})
    assert len(rates.rates) == len(rates.days)


def test_a_currency_without_a_rate_has_none() -> None:
    books = Books(rates={"EUR": Rates().set(DAY, Decimal("1.2"))})
    assert books.rate("EUR", DAY) == Decimal("1.2")
    assert books.rate("EUR", DAY - timedelta(days=1)) is None
    assert books.rate("JPY", DAY) is None


@for_every_walk
def test_the_rates_in_the_books_are_those_that_were_set(ledger: Walk) -> None:
    known: dict[tuple[str, date], Decimal] = {}
    for step in ledger.steps:
        if step.event.type == "exchange_rate.set":
            day = step.event.occurred_at.astimezone(step.before.zone).date()
            known[step.event.data.base, day] = step.event.data.rate
        for currency, rates in step.books.rates.items():
            assert {(currency, day): rate for day, rate in zip(rates.days, rates.rates, strict=True)} == {
                key: rate for key, rate in known.items() if key[0] == currency
            }


@for_every_walk
def test_no_view_has_breakage_of_a_cohort_before_anything_was_redeemed_or_has_expired(ledger: Walk) -> None:
    """Law 11, in the view of every day; and no view has less than nothing."""
    grouping = {pool.pool: pool.grouping for pool in ledger.steps[-1].books.pools.by_name.values()}
    causes: dict[tuple[str, str], date] = {}
    posted: defaultdict[tuple[str, str], Counter[date]] = defaultdict(Counter)
    for step in ledger.steps:
        for entry in step.entries:
            pool, on = entry.dimensions.pool, entry.accounting_date
            key = (pool, cohort_of(entry.dimensions.cohort, grouping.get(pool)))
            if pool and entry.kind == "breakage_estimate":
                posted[key][on] += entry.amount_minor
            elif pool and KIND_BY_NAME[entry.kind].column in ("consumed", "expired"):
                causes[key] = min(on, causes.get(key, on))
    for key, of_days in posted.items():
        recognised = 0
        for on, amount in sorted(of_days.items()):
            recognised += amount
            assert recognised >= 0
            assert not recognised or on >= causes[key]
