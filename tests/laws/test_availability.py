"""Laws of the first day on which a block can lose something, against a block that is counted day by day."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from subledger.availability import Change, Changes, first_day, with_change

OPENED = date(2026, 1, 1)
DAYS = st.integers(0, 9).map(lambda days: OPENED + timedelta(days=days))
CHANGES = st.lists(st.tuples(DAYS, st.integers(-9, 9), st.integers(-9, 9)), max_size=12)


def left_on(day: date, first: tuple[int, int], changes: Changes) -> tuple[Decimal, int]:
    """Credits and value at the end of a day."""
    until = [change for change in changes if change.on <= day]
    return (
        Decimal(first[0]) + sum((change.credits for change in until), Decimal(0)),
        first[1] + sum(change.amount_minor for change in until),
    )


def can_lose(day: date, loss: tuple[Decimal, int], first: tuple[int, int], changes: Changes) -> bool:
    """True if no day from this one on would have less than nothing, or value without credits, after the loss."""
    for days in range(10):
        then = OPENED + timedelta(days=days)
        if then >= day:
            credits, amount = left_on(then, first, changes)
            if (credits, amount) != loss and not (credits > loss[0] and amount >= loss[1]):
                return False
    return True


@given(CHANGES, st.integers(0, 30), st.integers(0, 30), DAYS, st.integers(0, 40), st.integers(0, 40))
def test_the_first_day_is_the_first_from_which_every_day_has_enough(
    moved: list[tuple[date, int, int]], credits: int, amount: int, on: date, lost: int, lost_minor: int
) -> None:
    changes: Changes = ()
    for day, some, value in moved:
        changes = with_change(changes, Change(day, Decimal(some), value))
    left = left_on(date.max, (credits, amount), changes)
    loss = (Decimal(lost), lost_minor)
    if left != loss and not (left[0] > loss[0] and left[1] >= loss[1]):
        return  # what the block does not have at the end is refused before its day is asked for
    found = first_day(changes, on=on, left=left, loss=loss)
    assert found >= on
    assert can_lose(found, loss, (credits, amount), changes)
    assert not any(
        can_lose(on + timedelta(days=days), loss, (credits, amount), changes) for days in range((found - on).days)
    )


@given(CHANGES)
def test_changes_are_in_order_with_at_most_one_a_day_and_nothing_of_them_is_lost(
    moved: list[tuple[date, int, int]],
) -> None:
    changes: Changes = ()
    for day, some, value in moved:
        changes = with_change(changes, Change(day, Decimal(some), value))
    days = [change.on for change in changes]
    assert days == sorted(set(days))
    for day in {day for day, _, _ in moved}:
        change = next((change for change in changes if change.on == day), Change(day, Decimal(0), 0))
        assert change.credits == sum(some for on, some, _ in moved if on == day)
        assert change.amount_minor == sum(value for on, _, value in moved if on == day)
