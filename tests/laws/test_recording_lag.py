"""Law of recording lag: the months depend on the time at which usage happened, not on the time of its recording.

A block expires at midnight or within a day, and its expiry is recorded at once or at the end. The expiry may be moved,
before or after it has passed. Earlier usage may be recorded after all that, and after reversals of other usage. In any
order, no view of the block is below zero or has value without credits.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from subledger.kinds import KIND_BY_NAME
from tests.laws.case import Case, in_euro, on
from tests.laws.walk import Step

CREDITS = 40
MONTH_ENDS = (date(2026, 1, 31), date(2026, 2, 28), date(2026, 3, 31), date(2026, 4, 30))
REVENUE = {"consumption": "usage_revenue", "breakage": "breakage_revenue", "reinstatement": "breakage_revenue"}


@dataclasses.dataclass(frozen=True)
class Fact:
    """A fact of a day: usage, a reversal, or a new expiry. A reversal names its usage by number."""

    day: int
    what: str
    credits: int = 0
    usage: int = 0
    expires_at: datetime | None = None


@dataclasses.dataclass(frozen=True)
class History:
    """A block and its facts. ``price`` is the price of 40 credits."""

    currency: str
    price: str
    expires_at: datetime
    facts: tuple[Fact, ...]


MOMENTS = st.builds(lambda day, hour: on(day) + timedelta(hours=hour), st.integers(10, 60), st.sampled_from([-12, 6]))
USAGES = st.lists(st.tuples(st.integers(2, 50), st.integers(1, 9)), min_size=1, max_size=6)
REVERSALS = st.lists(st.tuples(st.integers(0, 5), st.integers(2, 75), st.integers(1, 9)), max_size=4)
CHANGES = st.lists(st.tuples(st.integers(2, 75), MOMENTS), max_size=2)


@st.composite
def histories(draw: st.DrawFn) -> tuple[History, int]:
    """Draws a history that can be recorded in order without a refusal, and the number of one of its usages."""
    expires_at = draw(MOMENTS)
    changes = [(day, moment) for day, moment in sorted(draw(CHANGES)) if moment > on(day)]
    usages = draw(USAGES)
    assume(sum(credits for _, credits in usages) <= CREDITS)
    for day, _ in usages:
        in_force = [expires_at, *(moment for changed, moment in changes if changed < day)][-1]
        assume(on(day) < in_force and on(day) < [expires_at, *(moment for _, moment in changes)][-1])
    late = draw(st.integers(0, len(usages) - 1))
    facts = [Fact(day, "usage", credits, number) for number, (day, credits) in enumerate(usages)]
    left = Counter({number: credits for number, (_, credits) in enumerate(usages)})
    for number, day, credits in draw(REVERSALS):
        # Reversals of the late usage cannot be recorded before it.
        if number != late and number < len(usages) and day >= usages[number][0] and left[number]:
            facts.append(Fact(day, "reversal", min(credits, left[number]), number))
            left[number] -= min(credits, left[number])
    facts += [Fact(day, "expiry", expires_at=moment) for day, moment in changes]
    order = {"usage": 0, "reversal": 1, "expiry": 2}
    facts.sort(key=lambda fact: (fact.day, order[fact.what]))
    currency, price = draw(st.sampled_from(["USD", "EUR"])), draw(st.sampled_from(["40.00", "13.33", "0.17"]))
    return History(currency, price, expires_at, tuple(facts)), late


def recorded(history: History, late: int | None, *, sweeps: bool = True) -> Case:
    """Records the facts as they happened, but the usage ``late`` after all others. The expiry is swept when due, or
    last.
    """
    case, usages = in_euro(), dict[int, Step]()
    expires_at = history.expires_at
    terms = {"currency": history.currency, "expires_at": expires_at.isoformat()}
    case.buys("A", credits=str(CREDITS), price=history.price, **terms)
    for fact in sorted(history.facts, key=lambda fact: fact.what == "usage" and fact.usage == late):
        if sweeps and on(fact.day) >= expires_at:
            sweep(case, expires_at)
        if fact.what == "usage":
            usages[fact.usage] = case.uses(str(fact.credits), fact.day)
        elif fact.what == "reversal":
            case.takes_back(usages[fact.usage], fact.day, credits=str(fact.credits))
        elif fact.expires_at is not None:
            expires_at = fact.expires_at
            case.does("block.expiry_changed", fact.day, block_id="A", expires_at=expires_at.isoformat(), reason="r")
    sweep(case, expires_at)
    return case


def sweep(case: Case, expires_at: datetime) -> None:
    [block] = case.wallets["ann"].blocks
    if block.remaining:
        case.sent += 1
        step = case.own(f"x{case.sent}", "credits.expired", "ann", expires_at, block_id="A")
        assert step is not None, case.refused


def balances(case: Case) -> dict[tuple[date, str], tuple[int, int]]:
    """Returns by month end and role the balances in the block's currency and in the functional one."""
    found: Counter[tuple[date, str]] = Counter()
    functional: Counter[tuple[date, str]] = Counter()
    for entry in case.entries:
        if entry.kind == "expiry_changed":
            continue
        sign = -KIND_BY_NAME[entry.kind].sign if entry.kind in REVENUE else -1
        for end in MONTH_ENDS:
            if entry.accounting_date <= end:
                for role in ("prepaid_liability", REVENUE.get(entry.kind, "purchases")):
                    turned = -sign if role == "prepaid_liability" else sign
                    found[end, role] += turned * entry.amount_minor
                    functional[end, role] += turned * entry.functional_minor
    return {key: (found[key], functional[key]) for key in found}


def assert_equal(one: Case, other: Case, rounding: int) -> None:
    """Checks that the balances differ by at most ``rounding`` units."""
    ours, theirs = balances(one), balances(other)
    for key in ours | theirs:
        for mine, yours in zip(ours.get(key, (0, 0)), theirs.get(key, (0, 0)), strict=True):
            assert abs(mine - yours) <= rounding, (key, ours.get(key), theirs.get(key), one, other)


def views(case: Case) -> Iterator[tuple[int, date, Decimal, int, int]]:
    """Yields the block at every position and day: credits, value, functional value."""
    by_day: dict[date, list[tuple[Decimal, int, int]]] = {}
    for step in case.steps:
        changed = False
        for entry in step.entries:
            sign = KIND_BY_NAME[entry.kind].sign
            if entry.block_id == "A" and sign:
                change = (sign * entry.credits, sign * entry.amount_minor, sign * entry.functional_minor)
                by_day.setdefault(entry.accounting_date, []).append(change)
                changed = True
        credits, amount, functional = Decimal(0), 0, 0
        for day in sorted(by_day) if changed else ():
            for more, value, worth in by_day[day]:
                credits, amount, functional = credits + more, amount + value, functional + worth
            yield step.position, day, credits, amount, functional


def assert_views(case: Case) -> None:
    for position, day, *have in views(case):
        assert min(have) >= 0, (position, day, have, case)
        assert have[0] or not any(have[1:]), (position, day, have, case)


def rounding_of(history: History) -> int:
    return 0 if history.price == "40.00" else 1 + len(history.facts)


@given(histories())
def test_recording_one_usage_later_changes_no_month_and_no_view_has_less_than_nothing(
    made: tuple[History, int],
) -> None:
    history, late = made
    in_time, lagging = recorded(history, None), recorded(history, late)
    assert_equal(in_time, lagging, rounding_of(history))
    assert_views(in_time)
    assert_views(lagging)


@given(histories())
def test_sweeping_later_changes_no_month_either(made: tuple[History, int]) -> None:
    history, late = made
    if any(fact.what == "expiry" for fact in history.facts):
        return  # credits that are not swept before their expiry is moved do not break, and are not reinstated
    in_time, lagging = recorded(history, None), recorded(history, late, sweeps=False)
    assert_equal(in_time, lagging, rounding_of(history))
    assert_views(lagging)


@given(st.lists(st.tuples(st.integers(2, 31), st.integers(1, 30)), min_size=1, max_size=9), st.data())
def test_no_view_has_less_than_nothing_in_any_order_of_recording(
    usages: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Also if usage draws credits that were added after it happened. It is then booked on the day from which they are
    there.
    """
    case, known = in_euro(on_shortfall="overage"), list[Step]()
    currency = data.draw(st.sampled_from(["USD", "EUR"]))
    expires_at = datetime(2026, 2, 1, tzinfo=UTC)
    price = data.draw(st.sampled_from(["1.00", "40.00"]))
    case.buys("A", credits=str(CREDITS), price=price, currency=currency, expires_at=expires_at.isoformat())
    for day, credits in usages:
        what = data.draw(st.sampled_from(["use", "use", "reverse", "sweep", "move"]))
        if what == "reverse" and known:
            usage = data.draw(st.sampled_from(known))
            case.send(f"r{len(case.steps)}", "consumption.reversed", "ann", on(day + credits),
                      event_id=usage.event.event_id, reason="r", credits=str(1 + credits % 3))  # fmt: skip
        elif what == "sweep":
            sweep(case, expires_at)
        elif what == "move":
            expires_at = on(day + 2 * credits)
            case.does(
                "block.expiry_changed", day + credits, block_id="A", expires_at=expires_at.isoformat(), reason="r"
            )
        else:
            known.append(case.uses(str(credits), day, overage_price="0.01", currency="USD"))
    assert_views(case)


# --- found by hand ----------------------------------------------------------------------------------------------------


FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)


def hundred(**changes: str) -> Case:
    case = in_euro()
    case.buys("A", credits="100", **{"price": "100.00", "expires_at": FEBRUARY.isoformat(), **changes})
    return case


def entries(case: Case) -> list[str]:
    """Returns the entries of the last event."""
    return [f"{e.accounting_date:%m-%d} {e.kind} {e.credits:f} {e.amount_minor}" for e in case.steps[-1].entries]


def test_credits_that_came_back_and_broke_again_are_no_credits_of_before() -> None:
    case = hundred()
    usage = case.uses("60", 12)
    sweep(case, FEBRUARY)
    case.takes_back(usage, 51, credits="10")
    case.uses("50", 20)
    assert entries(case) == ["01-31 breakage -40 -4000", "02-20 breakage -10 -1000", "02-20 consumption 50 5000"]
    assert_views(case)


def test_a_breakage_is_taken_back_at_the_value_that_was_booked() -> None:
    case = Case()
    case.buys("A", credits="3", price="1.00", expires_at=FEBRUARY.isoformat())
    case.uses("1", 5)
    second = case.uses("1", 6)
    sweep(case, FEBRUARY)
    case.takes_back(second, 51)
    case.uses("1", 20)
    assert entries(case) == ["01-31 breakage -1 -33", "01-20 consumption 1 33"]
    assert_views(case)


@pytest.mark.parametrize("currency", ["USD", "EUR"])
def test_what_a_later_usage_took_was_there_before_it(currency: str) -> None:
    case = hundred(expires_at=on(80).isoformat(), currency=currency)
    first = case.uses("60", 12)
    case.uses("30", 36)
    case.takes_back(first, 32, credits="10")
    case.uses("15", 31)
    assert entries(case) == ["01-31 consumption 15 1500"]
    assert_views(case)


def test_usage_of_before_a_sweep_is_of_its_day_also_after_a_reversal() -> None:
    case = hundred()
    usage = case.uses("60", 12)
    sweep(case, FEBRUARY)
    case.takes_back(usage, 25, credits="10")
    case.uses("45", 27)
    assert entries(case) == ["01-31 breakage -45 -4500", "01-27 consumption 45 4500"]
    assert_views(case)


def test_usage_of_before_an_expiry_that_was_moved_afterwards_did_not_break_and_not_come_back() -> None:
    case = hundred()
    case.uses("60", 12)
    sweep(case, FEBRUARY)
    case.does("block.expiry_changed", 41, block_id="A", expires_at=on(80).isoformat(), reason="r")
    case.uses("10", 20)
    assert entries(case) == ["02-10 reinstatement -10 -1000", "01-31 breakage -10 -1000", "01-20 consumption 10 1000"]
    assert_views(case)
