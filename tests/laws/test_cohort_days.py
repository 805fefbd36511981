"""Laws of the days of a cohort: the figures that a movement changes, and the sums of the changes of a day."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest

from subledger.availability import REMEMBERED
from subledger.breakage_days import day_of
from subledger.breakage_line import Anchor, Estimate
from subledger.cohort_days import MAY_BE_REOPENED, Day, forgotten, place_of, with_change
from subledger.wallet import Movement

MAY = date(2026, 5, 1)
JUNE = date(2026, 6, 1)
JULY = date(2026, 7, 1)
SUMS = tuple(name for name in Day._fields if name not in ("on", "estimate", "anchor"))


@pytest.mark.parametrize("name", SUMS)
def test_only_what_is_issued_escheated_or_backfilled_turns_the_line(name: str) -> None:
    for figure in (1, -1):
        day = Day(MAY)._replace(**{name: figure})
        assert day.turns == (name in ("issued_minor", "escheated_minor", "backfilled_minor"))
    assert not Day(MAY, estimate=Estimate(version=1), anchor=Anchor()).turns


def test_the_figures_of_two_changes_add_up_and_the_later_estimate_holds() -> None:
    one = Day(MAY, *(10 * number for number in range(1, len(SUMS) + 1)))
    other = Day(JUNE, *range(1, len(SUMS) + 1))
    both = one.plus(other)
    assert both.on == MAY
    assert [getattr(both, name) for name in SUMS] == [11 * number for number in range(1, len(SUMS) + 1)]
    first, second, anchor = Estimate(version=1), Estimate(version=2), Anchor(redeemed_minor=1)
    one, other = one._replace(estimate=first, anchor=anchor), other._replace(estimate=second, anchor=Anchor())
    assert (one.plus(other).estimate, one.plus(other).anchor) == (second, anchor)
    assert one.plus(other._replace(estimate=None)).estimate == first


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("purchase", Day(MAY, 100, 120, credits=Decimal(7))),
        ("repricing", Day(MAY, 100, 120, credits=Decimal(7))),
        ("transfer_in", Day(MAY, 100, 120, credits=Decimal(7))),
        ("transfer_out", Day(MAY, -100, -120, credits=Decimal(-7))),
        ("void_unpaid", Day(MAY, -100, -120, credits=Decimal(-7))),
        ("write_off_unused", Day(MAY, -100, -120, credits=Decimal(-7))),
        ("consumption", Day(MAY, redeemed_minor=100, credits=Decimal(-7))),
        ("overage_backfilled", Day(MAY, redeemed_minor=100, backfilled_minor=100, credits=Decimal(-7))),
        ("pooled_breakage", Day(MAY, expired_minor=100, expired_functional=120, credits=Decimal(-7))),
        ("escheat", Day(MAY, escheated_minor=100, credits=Decimal(-7))),
        ("breakage_estimate", Day(MAY, recognised_minor=100, recognised_functional=120)),
        ("payment_cash", None),
    ],
)
def test_a_movement_changes_the_figures_of_its_kind(kind: str, expected: Day | None) -> None:
    movement = Movement(
        kind=kind, accounting_date=MAY, amount_minor=100, credits=Decimal(7), functional_minor=120, pool="p"
    )
    assert day_of(movement) == expected


def test_without_a_currency_of_its_own_the_functional_figures_are_the_amounts() -> None:
    of_purchase = Movement(kind="purchase", accounting_date=MAY, amount_minor=100, credits=Decimal(7))
    assert day_of(of_purchase) == Day(MAY, 100, 100, credits=Decimal(7))
    at_no_rate = Movement(kind="purchase", accounting_date=MAY, amount_minor=1, functional_minor=0)
    assert day_of(at_no_rate) == Day(MAY, 1, 0)


def test_changes_are_in_order_of_day_and_one_of_a_known_day_is_added_to_it() -> None:
    days, number = with_change((), Day(JUNE, 1))
    assert (days, number) == ((Day(JUNE, 1),), 0)
    days, number = with_change(days, Day(MAY, 2))
    assert (days, number) == ((Day(MAY, 2), Day(JUNE, 1)), 0)
    days, number = with_change(days, Day(JULY, 3))
    assert (days, number) == ((Day(MAY, 2), Day(JUNE, 1), Day(JULY, 3)), 2)
    assert with_change(days, Day(JUNE, 4)) == ((Day(MAY, 2), Day(JUNE, 5), Day(JULY, 3)), 1)
    assert with_change(days, Day(MAY, 4)) == ((Day(MAY, 6), Day(JUNE, 1), Day(JULY, 3)), 0)
    assert [place_of(days, on) for on in (date(2026, 4, 1), MAY, date(2026, 6, 2), JULY, date(2026, 8, 1))] == [
        (0, False), (0, True), (2, False), (2, True), (3, False),
    ]  # fmt: skip
    assert place_of((), MAY) == (0, False)


def test_days_long_closed_or_long_before_the_last_one_are_forgotten() -> None:
    days = (Day(MAY), Day(JUNE), Day(JULY))
    assert forgotten((), MAY) == 0
    assert forgotten(days, None) == 0
    day = timedelta(days=1)
    for number, on in enumerate((MAY, JUNE, JULY)):
        assert forgotten(days, on + MAY_BE_REOPENED) == number + 1
        assert forgotten(days, on + MAY_BE_REOPENED - day) == number
    for number, on in enumerate((MAY, JUNE)):
        last = Day(on + REMEMBERED)
        assert forgotten((*days, last), None) == number + 1
        assert forgotten((*days, last._replace(on=last.on - day)), MAY + day) == number
