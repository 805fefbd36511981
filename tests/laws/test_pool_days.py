"""Laws of pools in whole ledgers: recognised breakage is a function of the days, in whatever order they are recorded.

ACCOUNTING section 8, law 13, for usage, purchases and sweeps of a pool; section 5 (d) in every view:
breakage_recognized and the net liability are never below zero.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

from hypothesis import assume, given
from hypothesis import strategies as st

from subledger.kinds import KIND_BY_NAME
from subledger.periods import Period
from tests.laws.case import Case, on

HALF_A_DAY = timedelta(hours=12)
FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)


def pool_of(cohorts: str, rate: str = "0.30") -> Case:
    case = Case()
    case.does("breakage.estimated", 1, None, pool="p", currency="USD", evidence="e", cohorts=cohorts,
              expected_breakage_rate=rate)  # fmt: skip
    return case


def buys(case: Case, block_id: str, day: int, amount: int, **changes: str) -> None:
    case.buys(block_id, day, credits=str(amount), price=f"{amount}.00", pool="p", **changes)


def balances(case: Case) -> dict[date, tuple[int, int]]:
    """Returns breakage_recognized and prepaid_liability in the view of every day."""
    changes = {date(2026, 1, 1) + timedelta(days=number): Counter[str]() for number in range(400)}
    for entry in case.entries:
        kind, of_day = KIND_BY_NAME[entry.kind], changes[entry.accounting_date]
        if entry.kind == "breakage_estimate":
            of_day["recognised"] += entry.amount_minor
        elif kind.column is not None:
            of_day["liability"] += kind.sign * entry.amount_minor
            if entry.kind == "pooled_breakage":
                of_day["recognised"] -= entry.amount_minor
    found, recognised, liability = {}, 0, 0
    for day in sorted(changes):
        recognised += changes[day]["recognised"]
        liability += changes[day]["liability"]
        found[day] = recognised, liability
    return found


def assert_views(case: Case) -> None:
    """Checks the view of every day after the last event. Called after each event, it checks every (day, position)."""
    for day, (recognised, liability) in balances(case).items():
        assert 0 <= recognised <= liability, (day, recognised, liability, case)


def test_usage_recorded_after_a_later_purchase_earns_nothing_on_what_was_sold_later() -> None:
    views = []
    for late in (False, True):
        case = pool_of("quarter")
        buys(case, "A", 2, 100)
        if not late:
            case.uses("99", 30)
        buys(case, "B", 32, 1000)
        if late:
            case.uses("99", 30)
        assert_views(case)
        views.append(balances(case))
    assert views[0] == views[1]
    assert views[1][date(2026, 1, 31)] == (100, 100), "1.00 is left in January, and no more can break"


def test_usage_recorded_after_a_later_estimate_earns_what_was_expected_in_its_month() -> None:
    views = []
    for late in (False, True):
        case = pool_of("month", "0.10")
        buys(case, "A", 2, 100)
        case.uses("50", 10)
        if not late:
            case.uses("10", 30)
        case.does("breakage.estimated", 36, None, pool="p", currency="USD", evidence="e", expected_breakage_rate="0.30")
        if late:
            case.uses("10", 30)
        assert_views(case)
        views.append(balances(case))
    assert views[0] == views[1]
    assert views[1][date(2026, 1, 31)] == (667, 4000)


def test_an_expiry_swept_after_later_usage_is_of_its_month() -> None:
    views = []
    for late in (False, True):
        case = pool_of("month")
        buys(case, "A", 2, 10, expires_at=FEBRUARY.isoformat())
        buys(case, "B", 2, 100)
        if not late:
            case.expires("A")
        case.uses("50", 36, block_id="B")
        if late:
            case.expires("A")
        assert_views(case)
        views.append(balances(case))
    assert views[0] == views[1]
    assert views[1][date(2026, 1, 31)] == (0, 10000)


# --- any history in two orders ----------------------------------------------------------------------------------------

Fact = tuple[int, str, int, int]
"""A day, the fact of that day, its block, and a number that varies it."""
WHAT = ("use", "use", "use", "use", "use", "void", "estimate")
ALL = (*WHAT, "reprice", "extend", "expire", "reverse", "close", "reopen")
NUMBERS = st.integers(1, 30)
BOUGHT = st.lists(st.tuples(st.integers(2, 70), NUMBERS), min_size=1, max_size=4)


def facts_of(what: tuple[str, ...]) -> st.SearchStrategy[list[Fact]]:
    return st.lists(st.tuples(st.integers(2, 85), st.sampled_from(what), st.integers(0, 3), NUMBERS), max_size=14)


def records(case: Case, fact: Fact) -> bool:
    """Records a fact. Returns False if the books refuse it, or if it does not apply to the block."""
    day, what, number, size = fact
    case.sent += 1
    name, at, block = f"e{case.sent}", on(day), f"B{number}"
    found = next((each for each in case.wallets["ann"].blocks if each.block_id == block), None)
    if what == "buy":
        expiry = {"expires_at": (on(day + 30) - HALF_A_DAY).isoformat()} if size % 2 else {}
        terms = {"credits": str(4 * size), "price": f"{4 * size}.00", "currency": "USD", "pool": "p"}
        step = case.send(name, "credits.purchased", "ann", at, block_id=block, **terms, **expiry)
    elif what == "use":
        step = case.send(name, "credits.consumed", "ann", at, credits=str(size), block_id=block)
    elif what == "reverse":
        used = [each for each in case.steps if each.event.type == "credits.consumed"]
        if not used:
            return False
        back = {"event_id": used[size % len(used)].event.event_id, "credits": "1", "reason": "r"}
        step = case.send(name, "consumption.reversed", "ann", at, **back)
    elif what == "reprice":
        more = {"add_credits": str(size), "add_price": f"{size}.00", "currency": "USD", "reason": "r"}
        step = case.send(name, "block.repriced", "ann", at, block_id=block, **more)
    elif what == "void":
        step = case.send(name, "purchase.voided", "ann", at, block_id=block, reason="r", credits="1")
    elif what == "estimate":
        rate = f"0.{size:02}"
        step = case.send(
            name, "breakage.estimated", None, at, pool="p", currency="USD", evidence="e", expected_breakage_rate=rate
        )
    elif what == "close":
        closed = case.state.closed_through
        period = Period(2026, 1) if closed is None else Period.of(closed + timedelta(days=1))
        step = case.own(
            name, "period.closed", None, period.end(ZoneInfo("UTC")) - timedelta(microseconds=1), period=str(period)
        )
    elif what == "reopen":
        if case.state.closed_through is None:
            return False
        period = Period.of(case.state.closed_through)
        step = case.own(name, "period.reopened", None, at, period=str(period), reason="r")
    elif what == "extend":
        until = on(day + size).isoformat()
        step = case.send(name, "block.expiry_changed", "ann", at, block_id=block, expires_at=until, reason="r")
    elif found is None or found.expires_at is None or not found.remaining:
        return False
    else:
        step = case.own(name, "credits.expired", "ann", found.expires_at, block_id=block)
    return step is not None


@given(st.sampled_from(["month", "quarter", "none"]), BOUGHT, facts_of(ALL))
def test_no_view_has_less_than_nothing_in_any_order_of_recording(
    cohorts: str, bought: list[tuple[int, int]], facts: list[Fact]
) -> None:
    """Purchases are recorded between the other facts, in the order in which they are drawn."""
    case, left = pool_of(cohorts, "0.10"), list(enumerate(bought))
    for number, fact in enumerate([*facts, *facts[:1]]):
        if left and number % 3 == 0:
            block, (day, size) = left.pop(0)
            records(case, (day, "buy", block, size))
        closed_through = case.state.closed_through or date.min
        if records(case, fact):
            assert_views(case)
            assert all(entry.accounting_date > closed_through for entry in case.steps[-1].entries)


@given(st.sampled_from(["month", "quarter", "none"]), BOUGHT, facts_of(WHAT), st.randoms(use_true_random=False))
def test_the_order_of_recording_changes_no_day(
    cohorts: str, bought: list[tuple[int, int]], facts: list[Fact], chance: Random
) -> None:
    """Law 13 for pools, exactly: usage names its block, so that it draws the same credits in either order.

    A block is bought before any other fact about it is recorded, and voids are recorded before its sweep.
    """
    history = [(day, "buy", block, size) for block, (day, size) in enumerate(bought)]
    history += [(day, what, block, size) for day, what, block, size in facts if block < len(bought)]
    history += [(day + 30, "expire", block, 1) for block, (day, size) in enumerate(bought) if size % 2]
    estimates = {fact[0]: fact for fact in history if fact[1] == "estimate"}  # the later one of a day applies
    history = [fact for fact in history if fact[1] != "estimate"] + list(estimates.values())
    history.sort(key=lambda fact: (fact[0], fact[1] != "expire", fact[1] != "buy"))
    in_order = pool_of(cohorts, "0.10")
    history = [fact for fact in history if records(in_order, fact)]
    shuffled = sorted(history, key=lambda _: chance.random())
    of_blocks = {
        block: iter(sorted((fact for fact in shuffled if fact[2] == block and fact[1] != "estimate"), key=_rank))
        for block in range(len(bought))
    }
    other = pool_of(cohorts, "0.10")
    for fact in shuffled:
        assume(records(other, fact if fact[1] == "estimate" else next(of_blocks[fact[2]])))
        assert_views(other)
    assume(not any(step.decision.kept_estimates for case in (in_order, other) for step in case.steps))
    ours, theirs = balances(in_order), balances(other)
    for day in ours:
        assert ours[day] == theirs[day], (day, in_order, other)


def _rank(fact: Fact) -> int:
    """Returns the order in which facts of a block can be recorded. Earlier usage may be recorded after its sweep."""
    return {"buy": 0, "void": 1}.get(fact[1], 2)
