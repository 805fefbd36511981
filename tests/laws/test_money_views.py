"""Laws of money by day: in every view, amounts owed to a customer, or by a customer, are at least zero.

Events may be recorded later than events with a later date. Refunds, applied payments, memos, voids, write-offs and lost
disputes take only amounts that are owed on their own day and on every later day.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from subledger.balance_days import DayAmounts, first_day_with, with_amount
from subledger.kinds import KIND_BY_NAME
from tests.laws.case import Case
from tests.laws.walk import Walk
from tests.laws.walks import for_every_walk

ROLES = {"refunds_payable": -1, "customer_balance": -1, "accounts_receivable": 1}
"""The roles, with the sign of their normal side."""
FIRST = date(2026, 1, 1)


@for_every_walk
def test_no_view_has_less_than_nothing_of_what_is_owed(ledger: Walk) -> None:
    by_day: defaultdict[tuple[str, str | None, str], Counter[date]] = defaultdict(Counter)
    for step in ledger.steps:
        changed = set()
        for entry in step.entries:
            kind = KIND_BY_NAME[entry.kind]
            for role, sign in ((kind.debit_role, 1), (kind.credit_role, -1)):
                if role in ROLES:
                    key = (role, entry.customer, entry.currency)
                    by_day[key][entry.accounting_date] += sign * ROLES[role] * entry.amount_minor
                    changed.add(key)
        for key in changed:
            balance = 0
            for day, amount in sorted(by_day[key].items()):
                balance += amount
                assert balance >= 0, (step.event, key, day)


DAYS = st.integers(0, 12)
STEPS = st.lists(st.tuples(DAYS, st.integers(1, 9), st.booleans(), st.none() | DAYS), max_size=14)


@given(STEPS)
def test_an_amount_is_taken_on_the_first_day_that_every_later_view_allows(
    steps: list[tuple[int, int, bool, int | None]],
) -> None:
    """Compared with sums over all days: the day is exact if no days were merged, and otherwise never too early."""
    moved: Counter[date] = Counter()
    days: DayAmounts = ()
    closed: date | None = None
    is_exact = True
    for number, amount, comes, close in steps:
        on, balance = FIRST + timedelta(days=number), sum(moved.values())
        if closed is not None:
            on = max(on, closed + timedelta(days=1))
        if not comes:
            if balance < amount:
                continue
            earliest = on
            on = first_day_with(days, on=earliest, balance=balance, amount=amount)
            allowed = [day for day in _days(earliest) if all(_balance(moved, d) >= amount for d in _days(day))]
            assert on in allowed
            assert not is_exact or on == allowed[0]
        change = amount if comes else -amount
        moved[on] += change
        days = with_amount(days, on, change, balance=balance + change, closed_through=closed)
        is_exact = is_exact and closed is None and bool(days)
        if close is not None:
            closed = max(closed or FIRST, FIRST + timedelta(days=close))
        assert all(_balance(moved, day) >= 0 for day in _days(FIRST))


def _days(first: date) -> list[date]:
    return [first + timedelta(days=number) for number in range(30 - (first - FIRST).days)]


def _balance(moved: Counter[date], day: date) -> int:
    return sum(amount for on, amount in moved.items() if on <= day)


def test_nothing_is_remembered_of_a_balance_of_zero() -> None:
    case = Case()
    case.does("payment.received", 2, amount="5.00", currency="USD", payment_id="P")
    assert case.wallet("ann").balance_days
    case.does("payment.refunded", 3, amount="5.00", currency="USD", payment_id="P")
    assert not case.wallet("ann").balance_days
