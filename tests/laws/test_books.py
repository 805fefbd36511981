"""Laws of the ledger's own books after any walk: pools, money held in currencies, exchange rates."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from subledger.billing_documents import moved, standing_name
from subledger.blocks import ZERO
from subledger.books import Books, Rates
from subledger.events.data import EVENT_TYPES
from subledger.kinds import KIND_BY_NAME, KINDS, LEDGER_ROLES
from subledger.pools import Estimate, Pool
from tests.laws.walk import HOME, Walk, monetary_sides
from tests.laws.walks import for_every_walk

# Kind of movement → the letter of the specification that it changes, and how; by hand, apart from the code's columns.
LETTERS = {
    "purchase": ("F", 1), "goodwill": ("F", 1), "allocation": ("F", 1), "promotional_grant": ("F", 1),
    "repricing": ("F", 1), "transfer_in": ("F", 1), "transfer_out": ("F", -1), "void_unpaid": ("F", -1),
    "void_paid": ("F", -1), "refund": ("F", -1), "refund_retained": ("F", -1), "dispute_lost_unused": ("F", -1),
    "write_off_unused": ("F", -1), "consumption": ("R", 1), "overage_backfilled": ("R", 1),
    "backfill_difference": ("R", 1), "pooled_breakage": ("A", 1), "escheat": ("escheated", 1),
    "breakage_estimate": ("T", 1),
}  # fmt: skip


def test_the_long_walks_meet_every_event_type_and_every_entry_kind(long_walks: Sequence[Walk]) -> None:
    types = Counter(step.event.type for ledger in long_walks for step in ledger.steps)
    kinds = Counter(entry.kind for ledger in long_walks for entry in ledger.entries)
    assert set(EVENT_TYPES) | {"balances.remeasured", "period.closed", "period.reopened"} <= set(types)
    assert {kind.name for kind in KINDS} <= set(kinds)


# --- pools ----------------------------------------------------------------------------------------------------


def due(pool: Pool, figures: Counter[str]) -> int:
    """T of the specification, section 5, in fractions."""
    issued, redeemed, expired = figures["F"], figures["R"], figures["A"]
    if not pool.credits:
        return expired
    if not redeemed and not expired:
        return 0
    breakage = escheat = Fraction(0)
    estimate = pool.estimate
    if estimate is not None:
        scale = Fraction(issued, estimate.issued_minor) if estimate.issued_minor else Fraction(0)
        breakage = Fraction(estimate.breakage_minor or 0) * scale
        escheat = Fraction(estimate.escheat_minor or 0) * scale
        if estimate.breakage_rate is not None:
            breakage = Fraction(estimate.breakage_rate) * issued
        if estimate.escheat_rate is not None:
            escheat = Fraction(estimate.escheat_rate) * issued
    escheat = max(escheat, Fraction(figures["escheated"]))
    if breakage + escheat >= issued or not breakage:
        return expired
    recognised = (breakage * redeemed / (issued - breakage - escheat) * 2 + 1) / 2
    room = issued - redeemed - escheat
    return max(expired, min(recognised.__floor__(), room.__floor__()))


@for_every_walk
def test_a_pools_figures_are_the_sums_of_its_entries_and_its_breakage_is_the_formula(ledger: Walk) -> None:
    figures: defaultdict[str, Counter[str]] = defaultdict(Counter)
    functional: defaultdict[str, Counter[str]] = defaultdict(Counter)
    credits: defaultdict[str, Decimal] = defaultdict(lambda: ZERO)
    for step in ledger.steps:
        for entry in step.entries:
            pool = entry.dimensions.pool
            if pool and entry.kind in LETTERS:
                letter, sign = LETTERS[entry.kind]
                figures[pool][letter] += sign * entry.amount_minor
                functional[pool][letter] += sign * entry.functional_minor
                credits[pool] += KIND_BY_NAME[entry.kind].sign * entry.credits
        assert set(figures) <= set(step.books.pools)
        for name, held in step.books.pools.items():
            found = figures[name]
            assert (held.issued_minor, held.redeemed_minor) == (found["F"], found["R"])
            assert (held.expired_minor, held.escheated_minor) == (found["A"], found["escheated"])
            assert (held.recognised_minor, held.credits) == (found["T"], credits[name])
            assert found["T"] == due(held, found) >= 0
            assert functional[name]["T"] == held.recognised_functional == held.due_functional()
            if found["T"] == found["A"]:
                assert functional[name]["T"] == functional[name]["A"], "at the rates at which it expired"
            else:
                average = Fraction(functional[name]["F"], found["F"])
                assert abs(functional[name]["T"] - found["T"] * average) <= Fraction(1, 2)


AMOUNT = st.none() | st.integers(0, 60)
SHARE = st.none() | st.integers(0, 60).map(lambda hundredths: Decimal(hundredths).scaleb(-2))


@given(
    st.builds(
        Estimate, version=st.just(1), breakage_minor=AMOUNT, breakage_rate=SHARE, escheat_minor=AMOUNT,
        escheat_rate=SHARE, issued_minor=st.integers(0, 120),
    ),
    st.booleans(), st.tuples(*[st.integers(0, 60)] * 4), st.booleans(),
)  # fmt: skip
def test_a_pool_recognises_what_the_formula_says_whatever_became_of_what_was_issued(
    estimate: Estimate, estimated: bool, parts: tuple[int, int, int, int], credits: bool
) -> None:
    """Of what is issued parts were redeemed, expired, escheated; it may have fallen below what was expected."""
    redeemed, expired, escheated, left = parts
    figures = Counter(F=sum(parts), R=redeemed, A=expired, escheated=escheated)
    pool = Pool(
        pool="p",
        currency="USD",
        estimate=estimate if estimated else None,
        issued_minor=sum(parts),
        redeemed_minor=redeemed,
        expired_minor=expired,
        escheated_minor=escheated,
        credits=Decimal(left if credits else 0),
        issued_functional=sum(parts) * 2,
        expired_functional=expired + 1,
    )
    assert pool.due_minor() == due(pool, figures)
    kept = pool.due_minor() == expired
    assert pool.due_functional() == (expired + 1 if kept else pool.due_minor() * 2)


def test_amounts_estimated_are_scaled_with_what_is_issued_and_rates_are_of_it() -> None:
    amounts = Estimate(version=1, breakage_minor=40, escheat_minor=10, issued_minor=100)
    assert (amounts.of(100), amounts.of(50), amounts.of(25)) == ((40, 10), (20, 5), (10, Fraction(5, 2)))
    rates = Estimate(version=1, breakage_rate=Decimal("0.4"), escheat_rate=Decimal("0.1"), issued_minor=100)
    assert (rates.of(100), rates.of(50)) == ((40, 10), (20, 5))
    assert Estimate(version=1, breakage_minor=40).of(50) == (0, 0), "nothing was issued when it was made"


def test_breakage_that_has_no_room_left_counts_as_nothing() -> None:
    pool = Pool(
        pool="p",
        currency="USD",
        estimate=Estimate(version=1, breakage_rate=Decimal("0.5")),
        issued_minor=100,
        redeemed_minor=20,
        escheated_minor=50,
        credits=Decimal(1),
    )
    assert pool.expected() == (0, 50), "expected and escheated leave nothing to be redeemed"
    assert pool.due_minor() == 0
    assert replace(pool, escheated_minor=49).expected() == (50, 49)
    assert replace(pool, estimate=None).expected() == (0, 50)
    assert replace(pool, estimate=None, escheated_minor=0).expected() == (0, 0)


@for_every_walk
def test_at_the_end_of_a_pool_its_liability_and_its_recognised_breakage_are_zero(ledger: Walk) -> None:
    liability: Counter[tuple[str, str]] = Counter()
    recognised: Counter[tuple[str, str]] = Counter()
    for step in ledger.steps:
        for entry in step.entries:
            pool = entry.dimensions.pool
            for kind, of in (("amount", entry.amount_minor), ("functional", entry.functional_minor)):
                liability[pool, kind] += KIND_BY_NAME[entry.kind].sign * of
                if entry.kind in ("breakage_estimate", "pooled_breakage"):
                    recognised[pool, kind] += of if entry.kind == "breakage_estimate" else -of
        for name, held in step.books.pools.items():
            assert liability[name, "amount"] >= recognised[name, "amount"], "the net liability is never negative"
            if not held.credits:
                for kind in ("amount", "functional"):
                    assert (liability[name, kind], recognised[name, kind]) == (0, 0)


@for_every_walk
def test_estimates_of_a_pool_are_numbered_in_order(ledger: Walk) -> None:
    versions: Counter[str] = Counter()
    for step in ledger.steps:
        if step.event.type == "breakage.estimated":
            name = step.event.data.pool
            versions[name] += 1
            estimate = step.books.pools[name].estimate
            assert estimate is not None
            assert estimate.version == versions[name]
            assert estimate.issued_minor == step.books.pools[name].issued_minor


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
