"""Laws of the first day on which a block can lose credits or value, compared with a count day by day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal

from hypothesis import assume, given, settings
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


def at(day: int, credits: int, amount: int, functional: int = 0) -> Change:
    return Change(date(2026, 1, day), Decimal(credits), amount, functional)


def of(credits: int, amount: int, functional: int = 0) -> Portion:
    return Portion(Decimal(credits), amount, functional)


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_a_loss_waits_for_the_first_day_from_which_every_day_has_it() -> None:
    changes = (at(5, 10, 100, 50), at(10, -4, -40, -20), at(15, 6, 60, 30))
    left = of(14, 140, 80)  # 2, 20, 20 at first; 12, 120, 70 from the 5th; 8, 80, 50 from the 10th

    def first(day: int, *loss: int) -> int:
        return first_day(changes, on=date(2026, 1, day), left=left, loss=of(*loss)).day

    assert [first(day, 1, 10) for day in (1, 5, 7, 10, 15, 20)] == [1, 5, 7, 10, 15, 20]
    assert first(1, 8, 80, 50) == 5, "all that is there on the 10th"
    assert first(1, 8, 79, 50) == 15, "value without credits"
    assert (first(1, 7, 80, 50), first(1, 7, 81, 50), first(1, 7, 80, 51)) == (5, 15, 15)
    assert (first(1, 2, 20, 20), first(1, 2, 20, 19), first(1, 1, 21, 0), first(1, 1, 0, 21)) == (1, 5, 5, 5)
    assert first(10, 7, 81, 50) == 15
    assert first_day((), on=date(2026, 1, 1), left=of(1, 1), loss=of(5, 5)).day == 1, "it suffices, as nothing changed"


def test_a_draw_takes_the_value_that_every_day_has() -> None:
    changes = (at(5, 10, 100, 50), at(10, -4, -43, -20), at(15, 6, 60, 30))
    left = of(14, 140, 80)  # 2, 23, 20 at first; 12, 123, 70 from the 5th; 8, 80, 50 from the 10th

    def draw(day: int, *wanted: int) -> tuple[int, Portion]:
        on, portion = first_draw(changes, on=date(2026, 1, day), left=left, draw=of(*wanted))
        return on.day, portion

    assert [draw(day, 1, 10, 5) for day in (1, 5, 10, 15, 16)] == [(d, of(1, 10, 5)) for d in (1, 5, 10, 15, 16)]
    assert draw(1, 7, 90, 60) == (5, of(7, 80, 50)), "no more than a later day has"
    assert draw(1, 8, 70, 40) == (5, of(8, 80, 50)), "the last credits of a day take all its value"
    assert draw(1, 2, 15, 9) == (1, of(2, 23, 20))
    assert draw(1, 1, 25, 9) == (1, of(1, 23, 9))
    assert draw(1, 1, 9, 25) == (1, of(1, 9, 20))
    assert draw(1, 12, 1, 1) == (15, of(12, 1, 1)), "the credits are there only then"
    assert draw(16, 14, 140, 80) == (16, left)
    assert draw(1, 14, 140, 80) == (15, left)
    fewer = (at(5, -2, -20), at(6, -2, -20))
    on, portion = first_draw(fewer, on=date(2026, 1, 1), left=of(3, 30), draw=of(3, 20))
    assert (on.day, portion) == (1, of(3, 30)), "the last credits take all the value"
    for dearer in (at(5, -2, 1, 0), at(5, -2, 0, 1)):  # fewer credits, but more value than before
        on, portion = first_draw((dearer,), on=date(2026, 1, 1), left=of(3, 30, 9), draw=of(3, 30, 9))
        assert (on.day, portion) == (5, of(3, 30, 9))
    with_more_before = (at(5, -2, -60, 0), at(10, 2, 20, 0))
    on, portion = first_draw(with_more_before, on=date(2026, 1, 1), left=of(5, 50), draw=of(3, 30))
    assert (on.day, portion) == (1, of(3, 30)), "3 credits of 30 between; 5 of 90 before"
    on, portion = first_draw(with_more_before, on=date(2026, 1, 1), left=of(5, 50), draw=of(5, 50))
    assert (on.day, portion) == (10, of(5, 50))
    on, portion = first_draw((at(5, 0, -10, 0),), on=date(2026, 1, 1), left=of(3, 30), draw=of(3, 30))
    assert (on.day, portion) == (5, of(3, 30)), "before, the same credits had another value"
    on, portion = first_draw((at(5, 0, 0, -1),), on=date(2026, 1, 1), left=of(3, 30, 9), draw=of(3, 30, 9))
    assert (on.day, portion) == (5, of(3, 30, 9))


def test_the_fewest_credits_are_those_of_the_days_in_between() -> None:
    changes = (at(5, 10, 0), at(10, -4, 0), at(15, 6, 0))  # 2, then 12, 8 and 14

    def least(first: int, until: int) -> int:
        days = {"first": date(2026, 1, first), "until": date(2026, 1, until)}
        return int(least_credits(changes, **days, credits=Decimal(14)))

    assert [least(first, 20) for first in (1, 4, 5, 9, 10, 14, 15, 16)] == [2, 2, 8, 8, 8, 8, 14, 14]
    assert [least(6, until) for until in (7, 10, 11, 15, 16)] == [12, 12, 8, 8, 8]
    assert [least(first, first + 1) for first in (1, 5, 10, 15)] == [2, 12, 8, 14]
    assert least_credits((), first=OPENED, until=date.max, credits=Decimal(3)) == 3


def test_changes_of_a_day_are_one_and_in_order() -> None:
    changes: Changes = (at(5, 1, 10, 3), at(10, -4, -40, 0))
    assert with_change(changes, at(5, 2, 20, 4)) == (at(5, 3, 30, 7), changes[1])
    assert with_change(changes, at(10, 4, 40)) == changes[:1]
    for more in (at(10, 5, 40), at(10, 4, 41), at(10, 4, 40, 1)):
        assert len(with_change(changes, more)) == 2
    assert with_change(changes, at(7, 1, 1)) == (changes[0], at(7, 1, 1), changes[1])
    assert with_change(changes, at(1, 1, 1)) == (at(1, 1, 1), *changes)
    assert with_change(changes, at(7, 0, 0)) == changes


def test_only_what_gained_last_is_remembered_of_closed_days() -> None:
    changes: Changes = (at(5, 1, 10), at(6, -1, -10), at(10, 4, 40), at(12, -1, -1))
    assert remembered((), None) == ((), None)
    assert remembered(changes, None) == (changes, None)
    expected = {4: (0, None), 5: (1, 5), 6: (2, 5), 9: (2, 5), 10: (3, 10), 12: (4, 10), 31: (4, 10)}
    for day, (gone, gained) in expected.items():
        last_gain = None if gained is None else date(2026, 1, gained)
        assert remembered(changes, date(2026, 1, day)) == (changes[gone:], last_gain)
    assert remembered(changes[1:], date(2026, 1, 6)) == (changes[2:], None)


# --- any changes ------------------------------------------------------------------------------------------------------


def summed(moved: list[Change]) -> Changes:
    changes: Changes = ()
    for change in moved:
        changes = with_change(changes, change)
    return changes


def plus(one: Portion, other: Portion) -> Portion:
    return Portion(one[0] + other[0], one[1] + other[1], one[2] + other[2])


def left_on(day: date, first: Portion, moved: list[Change]) -> Portion:
    """Returns the block at the end of a day."""
    for change in moved:
        if change.on <= day:
            first = plus(first, Portion(*change[1:]))
    return first


def later_days(day: date) -> Iterator[date]:
    return (then for then in (OPENED + timedelta(days=days) for days in range(11)) if then >= day)


def can_lose(day: date, loss: Portion, first: Portion, moved: list[Change]) -> bool:
    """True if, after the loss, no day from this one on is below zero or has value without credits."""
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
        return  # no block is like this
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


def test_a_change_gains_if_there_is_more_of_anything_and_one_of_nothing_is_left_out() -> None:
    for figures in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        change = Change(OPENED, Decimal(figures[0]), *figures[1:])
        assert change.gains
        assert not Change(OPENED, Decimal(-figures[0]), -figures[1], -figures[2]).gains
        assert with_change((), change) == (change,)
        later = change._replace(on=OPENED + timedelta(days=1))
        assert with_change((change,), later) == (change, later)
        assert with_change((later,), change) == (change, later)
        assert with_change((change, later), Change(OPENED, *negative(Portion(*change[1:])))) == (later,)
    nothing = Change(OPENED, *NOTHING)
    assert not nothing.gains
    assert with_change((), nothing) == ()
    assert with_change((change,), nothing._replace(on=OPENED + timedelta(days=1))) == (change,)


@settings(max_examples=200)
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
