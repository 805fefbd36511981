"""Laws of the first day on which a block can lose something, against a block that is counted day by day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal

from hypothesis import assume, given
from hypothesis import strategies as st

from subledger.availability import (
    REMEMBERED,
    Change,
    Changes,
    Portion,
    first_day,
    first_draw,
    least_credits,
    negative,
    remembered,
    with_change,
)

OPENED = date(2026, 1, 1)
DAYS = st.integers(0, 9).map(lambda days: OPENED + timedelta(days=days))
SOME = st.integers(-9, 9)
CHANGES = st.lists(st.builds(Change, DAYS, SOME.map(Decimal), SOME, SOME), max_size=12)
PORTIONS = st.builds(Portion, st.integers(0, 40).map(Decimal), st.integers(0, 40), st.integers(0, 40))
NOTHING = Portion(Decimal(0), 0, 0)


def summed(moved: list[Change]) -> Changes:
    changes: Changes = ()
    for change in moved:
        changes = with_change(changes, change)
    return changes


def plus(one: Portion, other: Portion) -> Portion:
    return Portion(one[0] + other[0], one[1] + other[1], one[2] + other[2])


def left_on(day: date, first: Portion, moved: list[Change]) -> Portion:
    """The block at the end of a day."""
    for change in moved:
        if change.on <= day:
            first = plus(first, Portion(*change[1:]))
    return first


def later_days(day: date) -> Iterator[date]:
    return (then for then in (OPENED + timedelta(days=days) for days in range(11)) if then >= day)


def can_lose(day: date, loss: Portion, first: Portion, moved: list[Change]) -> bool:
    """True if no day from this one on would have less than nothing, or value without credits, after the loss."""
    for then in later_days(day):
        after = plus(left_on(then, first, moved), negative(loss))
        if after != NOTHING and not (after.credits > 0 and after.amount_minor >= 0 and after.functional_minor >= 0):
            return False
    return True


@given(CHANGES, PORTIONS, DAYS, st.builds(Portion, st.integers(-9, 40).map(Decimal), st.integers(-9, 40), SOME))
def test_the_first_day_is_the_first_from_which_every_day_has_enough(
    moved: list[Change], first: Portion, on: date, loss: Portion
) -> None:
    left = left_on(date.max, first, moved)
    assume(can_lose(OPENED + timedelta(days=10), loss, first, moved))
    found = first_day(summed(moved), on=on, left=left, loss=loss)
    assert found >= on
    assert can_lose(found, loss, first, moved)
    assert not any(can_lose(on + timedelta(days=days), loss, first, moved) for days in range((found - on).days))


@given(CHANGES, PORTIONS, DAYS, st.data())
def test_a_draw_is_of_the_first_day_that_has_its_credits_at_the_value_that_all_days_have(
    moved: list[Change], first: Portion, on: date, data: st.DataObject
) -> None:
    left = left_on(date.max, first, moved)
    assume(left.credits > 0 and min(left) >= 0)
    credits = data.draw(st.integers(1, int(left.credits)))
    wanted = left
    if credits < left.credits:
        wanted = Portion(Decimal(credits), data.draw(st.integers(0, left[1])), data.draw(st.integers(0, left[2])))
    found, draw = first_draw(summed(moved), on=on, left=left, draw=wanted)
    assert found >= on
    assert draw.credits == wanted.credits
    if any(min(left_on(then, first, moved)) < 0 for then in later_days(on)):
        return  # no such block is
    assert can_lose(found, draw, first, moved)
    if can_lose(on, wanted, first, moved):
        assert (found, draw) == (on, wanted)
    for days in range((found - on).days):
        day = on + timedelta(days=days)
        assert not any(
            can_lose(day, Portion(wanted.credits, amount, functional), first, moved)
            for amount in range(60)
            for functional in (0, draw.functional_minor, left_on(day, first, moved).functional_minor)
        )


@given(CHANGES, PORTIONS, DAYS, DAYS)
def test_the_fewest_credits_of_some_days(moved: list[Change], first: Portion, one: date, other: date) -> None:
    assume(one < other)
    left = left_on(date.max, first, moved)
    days = [day for day in later_days(one) if day < other]
    expected = min(left_on(day, first, moved).credits for day in days)
    assert least_credits(summed(moved), first=one, until=other, credits=left.credits) == expected


@given(CHANGES)
def test_changes_are_in_order_with_at_most_one_a_day_and_nothing_of_them_is_lost(moved: list[Change]) -> None:
    changes = summed(moved)
    days = [change.on for change in changes]
    assert days == sorted(set(days))
    for day in {change.on for change in moved}:
        found = next((Portion(*change[1:]) for change in changes if change.on == day), NOTHING)
        assert found == left_on(day, NOTHING, [change for change in moved if change.on == day])


@given(CHANGES, st.none() | DAYS)
def test_of_closed_months_the_last_gain_is_remembered(moved: list[Change], closed: date | None) -> None:
    changes = summed(moved)
    kept, last_gain = remembered(changes, closed)
    forgotten = changes[: len(changes) - len(kept)]
    assert kept == changes[len(forgotten) :]
    assert all(change.on > (closed or date.min) for change in kept)
    assert all(closed is not None and change.on <= closed for change in forgotten)
    assert last_gain == max((change.on for change in forgotten if max(change[1:]) > 0), default=None)


def test_what_is_long_ago_is_not_told_apart_by_day() -> None:
    old, last = Change(OPENED, Decimal(1), 1), Change(OPENED + REMEMBERED, Decimal(-1), -1)
    assert remembered((old, last), None) == ((last,), OPENED)
    day_before = last._replace(on=last.on - timedelta(days=1))
    assert remembered((old, day_before), None) == ((old, day_before), None)
