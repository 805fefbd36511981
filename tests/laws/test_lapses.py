"""Laws of lapses: expired credits are stored by the day of their breakage, and mirrored at their booked value."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from subledger.availability import Portion
from subledger.lapses import Lapse, Lapses, broken, broken_again, brought_back, taken_back

MAY, JUNE, JULY = date(2026, 5, 31), date(2026, 6, 30), date(2026, 7, 31)


def of(credits: str, amount: int, functional: int) -> Portion:
    return Portion(Decimal(credits), amount, functional)


def lapse(on: date, back_on: date | None, credits: str, amount: int, functional: int) -> Lapse:
    return Lapse(on, back_on, *of(credits, amount, functional))


def total(lapses: Lapses) -> Portion:
    return Portion(
        sum((each.credits for each in lapses), Decimal(0)),
        sum(each.amount_minor for each in lapses),
        sum(each.functional_minor for each in lapses),
    )


def test_a_part_has_its_share_of_the_value_half_up_and_all_credits_have_all_of_it() -> None:
    some = lapse(MAY, None, "4", 10, 7)
    assert some.part(Decimal(1)) == of("1", 3, 2)
    assert some.part(Decimal(3)) == of("3", 8, 5)
    assert some.part(Decimal(4)) == of("4", 10, 7)
    assert lapse(MAY, None, "0", 3, 2).part(Decimal(0)) == of("0", 3, 2)


def test_breakages_of_a_day_are_one_lapse_and_those_of_other_days_others_in_order() -> None:
    lapses = broken((), JUNE, of("2", 20, 2))
    lapses = broken(lapses, MAY, of("1", 10, 1))
    lapses = broken(lapses, JUNE, of("3", 31, 4))
    assert lapses == (lapse(MAY, None, "1", 10, 1), lapse(JUNE, None, "5", 51, 6))
    assert broken(lapses, JUNE, of("-5", -51, -6)) == (lapse(MAY, None, "1", 10, 1),)


def test_a_moved_expiry_brings_back_what_is_not_back_yet() -> None:
    lapses = brought_back(broken((), MAY, of("2", 20, 2)), JUNE)
    assert lapses == (lapse(MAY, JUNE, "2", 20, 2),)
    lapses = brought_back(broken(lapses, MAY, of("1", 9, 1)), JULY)
    assert lapses == (lapse(MAY, JUNE, "2", 20, 2), lapse(MAY, JULY, "1", 9, 1))
    assert brought_back(broken(lapses, MAY, of("1", 9, 1)), JULY) == (lapses[0], lapse(MAY, JULY, "2", 18, 2))
    assert broken(lapses, MAY, of("7", 70, 7)) == (*lapses, lapse(MAY, None, "7", 70, 7)), "what is not back is last"


def test_usage_takes_back_the_breakage_of_its_day_first_and_then_the_earliest() -> None:
    lapses = (
        lapse(MAY, JULY, "9", 90, 9),
        lapse(MAY, None, "2", 20, 3),
        lapse(JUNE, None, "4", 41, 6),
        lapse(JULY, None, "1", 9, 1),
    )
    back, may, _, july = lapses
    assert taken_back(lapses, JUNE, of("3", 30, 4)) == (back, may, lapse(JUNE, None, "1", 11, 2), july)
    assert taken_back(lapses, JUNE, of("5", 50, 7)) == (back, lapse(MAY, None, "1", 11, 2), july)
    assert taken_back(lapses, date(2026, 6, 1), of("3", 31, 5)) == (back, lapse(JUNE, None, "3", 30, 4), july)
    assert taken_back(lapses, JUNE, of("0", 0, 0)) == lapses
    assert taken_back((may,), MAY, of("2", 20, 3)) == ()


def test_credits_that_did_not_come_back_after_all_are_of_that_day_first_and_broken_again() -> None:
    lapses = (lapse(MAY, JUNE, "2", 20, 3), lapse(MAY, JULY, "4", 41, 6), lapse(JUNE, None, "1", 9, 1))
    assert broken_again(lapses, JULY, of("1", 10, 2)) == (
        lapses[0], lapse(MAY, JULY, "3", 31, 4), lapse(MAY, None, "1", 10, 2), lapses[2],
    )  # fmt: skip
    assert broken_again(lapses, JULY, of("5", 50, 7)) == (
        lapse(MAY, JUNE, "1", 11, 2), lapse(MAY, None, "5", 50, 7), lapses[2],
    )  # fmt: skip
    assert broken_again(lapses, JUNE, of("2", 20, 3)) == (lapses[1], lapse(MAY, None, "2", 20, 3), lapses[2])


DAYS = st.sampled_from([MAY, JUNE, JULY])
PARTS = st.builds(Portion, st.integers(1, 9).map(Decimal), st.integers(0, 99), st.integers(0, 99))


@given(st.lists(st.tuples(DAYS, st.none() | DAYS, PARTS), min_size=1, max_size=6), DAYS, st.data())
def test_whatever_is_taken_back_the_rest_is_what_broke_less_that(
    events: list[tuple[date, date | None, Portion]], day: date, data: st.DataObject
) -> None:
    lapses: Lapses = ()
    for on, back_on, part in events:
        lapses = broken(lapses, on, part)
        if back_on is not None:
            lapses = brought_back(lapses, back_on)
    gone = tuple(each for each in lapses if each.back_on is None)
    there = total(gone)
    if there.credits > 1:
        part = Portion(data.draw(st.integers(1, int(there.credits) - 1).map(Decimal)), 0, 0)
        left = taken_back(lapses, day, part)
        assert total(left).credits == total(lapses).credits - part.credits
        assert [each for each in left if each.back_on is not None] == [e for e in lapses if e.back_on is not None]
    returned = total(tuple(each for each in lapses if each.back_on is not None))
    if returned.credits:
        again = broken_again(lapses, day, returned)
        assert all(each.back_on is None for each in again)
        assert total(again) == total(lapses)
