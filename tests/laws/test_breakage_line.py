"""Laws of the line of recognised breakage, by hand: E × R / (F − E − S) from the origin, and from any anchor."""

from __future__ import annotations

from decimal import Decimal

import pytest

from subledger.breakage_line import NOTHING_EXPECTED, ORIGIN, Anchor, Estimate, Expected, Line


def test_an_estimate_by_rate_grows_with_what_is_issued_and_an_amount_is_scaled() -> None:
    by_rate = Estimate(version=1, breakage_rate=Decimal("0.15"), escheat_rate=Decimal("0.05"))
    assert by_rate.of(1_001) == Expected(3 * 1_001 * 20, 1 * 1_001 * 20, 400)
    by_amount = Estimate(version=1, breakage_minor=90, escheat_minor=7, issued_minor=600)
    assert by_amount.of(500) == Expected(90 * 500 * 600, 7 * 500 * 600, 360_000)
    both = Estimate(version=1, breakage_minor=90, escheat_rate=Decimal("0.5"), issued_minor=600)
    assert both.of(500) == Expected(90 * 500 * 2, 500 * 600, 1_200)
    assert Estimate(version=1, breakage_rate=Decimal(0)).of(500) == Expected(0, 0, 1)
    for nothing in (Estimate(version=1), Estimate(version=1, breakage_minor=90), Estimate(version=1, issued_minor=5)):
        assert nothing.of(500) == NOTHING_EXPECTED == (0, 0, 1)


@pytest.mark.parametrize(
    ("expired", "start"),
    [(0, (100, 120)), (1, (100, 120)), (49, (100, 120)), (50, (100, 120)), (51, (101, 121)),
     (200, (250, 292)), (249, (299, 349)), (250, (300, 350)), (251, (300, 350)), (999, (300, 350))],
)  # fmt: skip
def test_the_start_of_a_line_has_what_is_still_expired(expired: int, start: tuple[int, int]) -> None:
    anchor = Anchor(
        recognised_minor=100,
        recognised_functional=120,
        with_expired_minor=300,
        with_expired_functional=350,
        expired_minor=250,
    )
    assert anchor.start(expired) == start
    assert ORIGIN.start(expired) == (0, 0)


def test_what_was_recognised_as_expired_is_gone_when_nothing_is_expired() -> None:
    assert Anchor(recognised_minor=100, with_expired_minor=300, expired_minor=100).start(0) == (100, 0)


def line(now: int, breakage: int, escheat: int, per: int, *, issued: int = 1_000, **anchor: int) -> Line:
    """Returns the line of a cohort with the redeemed amount ``now``, from an anchor."""
    figures = {f"{name}_minor": figure for name, figure in anchor.items()}
    return Line(Anchor(**figures), issued, now, Expected(breakage, escheat, per))


def test_what_can_still_break_is_rounded_down_and_never_negative() -> None:
    assert line(450, 100, 50, 1).room() == 500
    assert [line(2, 1, escheat, 3, issued=10).room() for escheat in (0, 1, 2, 3, 4)] == [8, 7, 7, 7, 6]
    assert [line(redeemed, 0, 50, 1).room() for redeemed in (949, 950, 951)] == [1, 0, 0]


def test_from_the_origin_breakage_is_in_proportion_to_what_is_redeemed() -> None:
    assert [line(redeemed, 100, 0, 1).at(0) for redeemed in (0, 4, 5, 450, 900)] == [0, 0, 1, 50, 100]
    assert line(425, 100, 50, 1).at(0) == 50
    assert [line(r, 600, 0, 1).at(0) for r in (390, 400, 410)] == [585, 600, 590], "no more than can break"
    assert line(50, 1_000, 0, 10).at(0) == 6, "a tenth of it: 100 of 900, half up"


def test_from_an_anchor_the_line_leads_to_the_expected_breakage() -> None:
    anchored = {"redeemed": 400, "recognised": 50}
    found = [line(redeemed, 200, 100, 1, **anchored).at(50) for redeemed in (400, 401, 451, 500, 700, 800)]
    assert found == [50, 51, 76, 100, 200, 100]
    assert line(500, 2_000, 1_000, 10, **anchored).at(50) == 100
    assert line(500, 200, 100, 1, **anchored).at(80) == 120, "from another start"


def test_a_line_is_flat_if_no_more_is_expected_or_nothing_is_to_be_redeemed() -> None:
    anchored = {"redeemed": 400, "recognised": 50}
    assert line(500, 50, 0, 1, **anchored).at(50) == 50
    assert line(500, 51, 0, 1, **anchored).at(50) == 50
    assert line(700, 51, 0, 1, **anchored).at(50) == 51
    assert line(999, 51, 0, 1, **anchored).at(50) == 1
    assert line(500, 600, 0, 1, **anchored).at(50) == 50, "F − E − R0 is 0"
    assert line(401, 599, 0, 1, **anchored).at(50) == 599, "F − E − R0 is 1"
    assert line(500, 590, 20, 1, **anchored).at(50) == 50


def test_what_is_reversed_below_an_anchor_leads_back_to_the_origin() -> None:
    anchored = {"redeemed": 400, "recognised": 200}
    assert [line(redeemed, 300, 0, 1, **anchored).at(200) for redeemed in (0, 1, 300, 399)] == [0, 1, 150, 200]
    assert line(300, 300, 0, 1, **anchored).at(180) == 135
    limited = {**anchored, "proportional": 400}
    found = [line(redeemed, 300, 0, 1, **limited).at(200) for redeemed in (200, 300, 350, 399)]
    assert found == [200, 300, 250, 201], "no more than the reversal puts back"
    assert line(300, 300, 0, 1, issued=450, **limited).at(200) == 150, "no more than can break"


def test_without_regard_to_what_can_break() -> None:
    anchored = {"redeemed": 400, "recognised": 50}
    assert line(800, 200, 100, 1, **anchored).unlimited(50) == 250
    assert line(400, 200, 100, 1, **anchored).unlimited(50) == 50
    assert line(300, 200, 100, 1, **anchored).unlimited(50) == 38, "50 × 300 / 400"
    assert line(300, 200, 100, 1, **anchored, proportional=100).unlimited(50) == 75
    assert line(500, 40, 60, 1, **anchored).unlimited(10) == 16, "10 + 30 × 100 / 500"
    assert line(500, 40, 60, 1, **anchored).unlimited(50) == 50
    assert line(500, 600, 0, 1, **anchored).unlimited(50) == 750, "flat: in proportion"
    assert line(980, 50, 0, 1, **anchored).unlimited(50) == 52, "flat, as no more is expected"
    assert line(400, 200, 100, 1, **anchored, proportional=100).unlimited(50) == 50, "nothing is reversed"


def test_the_published_formula() -> None:
    of_cohort = line(0, 100, 50, 1)
    assert [of_cohort.in_proportion(redeemed) for redeemed in (0, 4, 5, 850)] == [0, 0, 1, 100]
    assert line(0, 1_000, 500, 10).in_proportion(850) == 100
    assert [line(0, breakage, 50, 1).in_proportion(10) for breakage in (949, 950, 951)] == [9_490, 0, 0]
