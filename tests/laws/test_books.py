"""Laws of the ledger's own books after any walk: pools, money held in currencies, exchange rates."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from subledger.billing_documents import moved, standing_name
from subledger.blocks import ZERO
from subledger.books import Books, Rates, changes_books
from subledger.cohort_days import MAY_BE_REOPENED
from subledger.events.data import EVENT_TYPES
from subledger.kinds import KIND_BY_NAME, KINDS, LEDGER_ROLES
from subledger.periods import Period
from subledger.pools import Cohort, Estimate
from tests.laws.case import Case
from tests.laws.model_blocks import Estimate as PlainEstimate
from tests.laws.model_pools import Sums, by_day
from tests.laws.walk import HOME, Step, Walk, monetary_sides
from tests.laws.walks import for_every_walk

# Kind of movement → the variable of the specification that it changes, and its sign; written by hand, independently of
# the code's columns.
LETTERS = {
    "purchase": ("F", 1), "goodwill": ("F", 1), "allocation": ("F", 1), "promotional_grant": ("F", 1),
    "repricing": ("F", 1), "transfer_in": ("F", 1), "transfer_out": ("F", -1), "void_unpaid": ("F", -1),
    "void_paid": ("F", -1), "refund": ("F", -1), "refund_unpaid": ("F", -1), "refund_retained": ("F", -1),
    "dispute_lost_unused": ("F", -1),
    "write_off_unused": ("F", -1), "consumption": ("R", 1), "redemption_tax": ("R", 1),
    "overage_backfilled": ("R", 1),
    "backfill_difference": ("R", 1), "pooled_breakage": ("A", 1), "escheat": ("escheated", 1),
    "breakage_estimate": ("T", 1), "opening_prepaid_liability": ("F", 1), "opening_breakage_recognized": ("T", 1),
}  # fmt: skip


def test_the_long_walks_meet_every_event_type_and_every_entry_kind(long_walks: Sequence[Walk]) -> None:
    types = Counter(step.event.type for ledger in long_walks for step in ledger.steps)
    kinds = Counter(entry.kind for ledger in long_walks for entry in ledger.entries)
    assert set(EVENT_TYPES) | {"balances.remeasured", "period.closed", "period.reopened"} <= set(types)
    assert {kind.name for kind in KINDS} <= set(kinds)


# --- pools ----------------------------------------------------------------------------------------------------


def cohort_of(issued: str, grouping: str | None) -> str:
    """Returns the cohort of an entry that names a month of issue or a cohort."""
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
    """The figures of every cohort by accounting day, summed from entries, and its estimates by day."""

    def __init__(self) -> None:
        self.issues: defaultdict[tuple[str, str], defaultdict[date, Counter[str]]] = defaultdict(
            lambda: defaultdict(Counter)
        )
        self.functional: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self.credits: defaultdict[tuple[str, str], defaultdict[date, Decimal]] = defaultdict(
            lambda: defaultdict(lambda: ZERO)
        )
        self.estimates: defaultdict[tuple[str, str], dict[date, PlainEstimate]] = defaultdict(dict)
        self.grouping: dict[str, str | None] = {}
        self.opened: set[tuple[str, str]] = set()
        """Cohorts whose line begins where they were taken over: see test_opening_balances."""

    def take(self, step: Step) -> None:
        for entry in step.entries:
            pool, issued = entry.dimensions.pool, entry.dimensions.cohort
            if pool and entry.kind in LETTERS:
                letter, sign = LETTERS[entry.kind]
                of_day = self.issues[pool, issued][entry.accounting_date]
                of_day[letter] += sign * entry.amount_minor
                if entry.kind in ("overage_backfilled", "backfill_difference"):
                    of_day["backfilled"] += entry.amount_minor
                self.functional[pool, issued][letter] += sign * entry.functional_minor
                if KIND_BY_NAME[entry.kind].opens_balance:
                    self.opened.add((pool, issued))
                if entry.kind == "opening_breakage_recognized":
                    self._before(step, of_day)
                self.credits[pool, issued][entry.accounting_date] += KIND_BY_NAME[entry.kind].sign * entry.credits
        self.grouping = {name: pool.grouping for name, pool in step.books.pools.by_name.items()}
        for cohort in step.books.pools.all_cohorts():
            begun = cohort.start_estimate if (cohort.pool, cohort.cohort) not in self.estimates else None
            if begun is not None:  # the rate of its pool is older than the stored days
                self.estimates[cohort.pool, cohort.cohort][date.min] = plain(begun)
            for of_day in cohort.days:
                if of_day.estimate is None and step.decision.restored_estimate is not None:
                    self.estimates[cohort.pool, cohort.cohort].pop(of_day.on, None)
                elif of_day.estimate is not None:
                    self.estimates[cohort.pool, cohort.cohort][of_day.on] = plain(of_day.estimate)

    @staticmethod
    def _before(step: Step, of_day: Counter[str]) -> None:
        """Adds the amounts redeemed, expired and escheated before: they were issued, and T has the expired part."""
        data = step.event.data
        expired = data.minor("expired")
        for letter, name in (("R", "redeemed"), ("A", "expired"), ("escheated", "escheated")):
            of_day[letter] += data.minor(name)
            of_day["F"] += data.minor(name)
        of_day["T"] += expired

    def months_of(self, key: tuple[str, str]) -> list[tuple[str, str]]:
        pool, cohort = key
        names = {*self.issues, *self.credits}
        return [name for name in names if name[0] == pool and cohort_of(name[1], self.grouping.get(pool)) == cohort]

    def sums(self, key: tuple[str, str]) -> Counter[str]:
        return sum((each for name in self.months_of(key) for each in self.issues[name].values()), Counter[str]())

    def days(self, key: tuple[str, str]) -> tuple[dict[date, Sums], Counter[date]]:
        """Returns the changes by day, and the posted amounts."""
        found: dict[date, Sums] = {}
        posted: Counter[date] = Counter()
        for name in self.months_of(key):
            for day, of_day in self.issues[name].items():
                credits = Fraction(self.credits[name][day])
                letters = (of_day["F"], of_day["R"], of_day["A"], of_day["escheated"])
                found[day] = found.get(day, Sums()).plus(Sums(*letters, credits, of_day["backfilled"]))
                posted[day] += of_day["T"]
        return found, posted


@for_every_walk
def test_a_cohorts_figures_are_the_sums_of_its_entries_and_its_breakage_is_on_the_line_of_every_day(
    ledger: Walk,
) -> None:
    """Except if a month was reopened whose days are no longer stored separately."""
    followed, closed, is_exact = Followed(), date.min, True
    for step in ledger.steps:
        if step.before.closed_through is not None:
            closed = max(closed, step.before.closed_through)
        if step.event.type == "period.reopened":
            is_exact = is_exact and Period.parse(step.event.data.period).first_day > closed - MAY_BE_REOPENED
        pooled = any(movement.pool for movement in step.decision.movements)
        if not pooled and step.event.type != "breakage.estimated" and step.decision.restored_estimate is None:
            continue
        followed.take(step)
        for held in step.books.pools.all_cohorts():
            key = (held.pool, held.cohort)
            days, posted = followed.days(key)
            found = Sums()
            for change in days.values():
                found = found.plus(change)
            assert (held.issued_minor, held.redeemed_minor, held.expired_minor, held.escheated_minor) == found[:4]
            assert (held.credits, held.recognised_minor) == (found.credits, posted.total())
            assert held.recognised_minor == held.due_minor() >= 0
            assert held.recognised_functional == held.due_functional()
            if held.recognised_minor == held.expired_minor:
                assert held.recognised_functional == held.expired_functional, "at the rates at which it expired"
            as_opened = followed.opened & set(followed.months_of(key))
            exact = is_exact and not as_opened
            assert_days(days, posted, followed.estimates[key], exact, (key, step.position, ledger))


def assert_days(
    days: Mapping[date, Sums],
    posted: Counter[date],
    estimates: Mapping[date, PlainEstimate],
    is_exact: bool,
    why: object,
) -> None:
    """Checks that on every day the posted amount is due by the plain rule, at least the expired amount, and at most the
    amount that is not redeemed. Law 11: nothing is recognised on a day with only issues or cancellations.
    """
    recognised, found = 0, Sums()
    for day, due in by_day(days, estimates).items() if is_exact else ():
        change = days.get(day, Sums())
        recognised, found = recognised + posted[day], found.plus(change)
        assert recognised == due, (day, why)
        assert found.expired <= recognised <= found.issued - found.redeemed - found.escheated, (day, why)
        assert posted[day] <= 0 or change.redeemed or change.expired or day in estimates, (day, why)


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
                if entry.kind in ("breakage_estimate", "pooled_breakage", "opening_breakage_recognized"):
                    recognised[pool, issued, kind] += -of if entry.kind == "pooled_breakage" else of
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
                (cohort, of_day.estimate)
                for cohort in step.books.pools.cohorts[name].values()
                for of_day in cohort.days
                if of_day.estimate is not None and of_day.estimate.version == versions[name]
            ]
            assert all(estimate.issued_minor == cohort.issued_minor for cohort, estimate in estimated)
            assert [cohort.cohort for cohort, _ in estimated] == [
                step.event.data.cohort
            ] or step.event.data.cohort is None


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
        known[day] = rate  # the last one set for a day applies
    before = [day for day in known if day <= asked]
    assert rates.on(DAY + timedelta(days=asked)) == (known[max(before)] if before else None)
    assert list(rates.days) == sorted({DAY + timedelta(days=day) for day in known})
    assert len(rates.rates) == len(rates.days)


@for_every_walk
def test_only_an_event_that_says_so_changes_the_books(ledger: Walk) -> None:
    before = Books()
    for step in ledger.steps:
        assert step.books == before or changes_books(step.event, step.decision), step.event
        before = step.books


def test_usage_in_the_functional_currency_changes_no_books_and_a_rate_a_pool_and_other_money_do() -> None:
    case = Case()
    steps = [case.buys("A"), case.uses("1", 2)]
    assert [changes_books(step.event, step.decision) for step in steps] == [False, False]
    rate = case.does("exchange_rate.set", 1, None, base="EUR", quote="USD", rate="1.2", rate_source="ECB")
    estimate = {"pool": "p", "currency": "USD", "expected_breakage_rate": "0.1", "evidence": "r"}
    steps = [
        rate,
        case.buys("B", pool="p"),
        case.does("breakage.estimated", 2, None, **estimate),
        case.does("payment.received", 2, amount="1.00", currency="EUR"),
        case.undoes(rate, 3),
    ]
    assert all(changes_books(step.event, step.decision) for step in steps)


def test_the_day_of_a_rate_is_the_day_for_which_it_was_set() -> None:
    rates = (
        Rates().set(date(2026, 1, 5), Decimal(1)).set(date(2026, 1, 3), Decimal(2)).set(date(2026, 1, 5), Decimal(3))
    )
    days = [rates.day_of(date(2026, 1, day)) for day in (2, 3, 4, 5, 9)]
    assert days == [None, date(2026, 1, 3), date(2026, 1, 3), date(2026, 1, 5), date(2026, 1, 5)]
    assert rates.rates == (2, 3)
    assert rates.set(date(2026, 1, 3), None) == Rates(days=(date(2026, 1, 5),), rates=(Decimal(3),))


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
        undone = ledger.undone_by(step)
        if undone is not None and undone.event.type == "exchange_rate.set":
            restored = step.decision.restored_rate
            assert restored is not None
            rates_before = ledger.steps[undone.position - 2].books.rates
            before = rates_before.get(restored.currency, Rates())
            assert restored.rate == (before.on(restored.day) if before.day_of(restored.day) == restored.day else None)
            known.pop((restored.currency, restored.day))
            if restored.rate is not None:
                known[restored.currency, restored.day] = restored.rate
        for currency, rates in step.books.rates.items():
            assert {(currency, day): rate for day, rate in zip(rates.days, rates.rates, strict=True)} == {
                key: rate for key, rate in known.items() if key[0] == currency
            }


@for_every_walk
def test_no_view_has_breakage_of_a_cohort_before_anything_was_redeemed_or_has_expired(ledger: Walk) -> None:
    """Law 11, in the view of every day; and no view is below zero."""
    grouping = {pool.pool: pool.grouping for pool in ledger.steps[-1].books.pools.by_name.values()}
    causes: dict[tuple[str, str], date] = {}
    posted: defaultdict[tuple[str, str], Counter[date]] = defaultdict(Counter)
    opened = {entry.dimensions.pool for entry in ledger.entries if KIND_BY_NAME[entry.kind].opens_ahead}
    for step in ledger.steps:
        for entry in step.entries:
            if entry.dimensions.pool in opened:
                continue  # breakage recognised before the cut-over has earlier causes
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
