"""Laws of segments, to the minor unit: late usage of a repriced block, and the draws that it corrects.

If nothing else is stated, a block is bought for EUR 10.00 at 1.20 with 7 credits. Late facts lead to the same amounts
as timely ones: the value of a segment is spread over its credits, day by day, half up.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from msgspec.structs import replace

from subledger.availability import REMEMBERED
from subledger.blocks import Segment
from subledger.segments import _of_one_sign, most_drawable, segments_back, timeline
from tests.laws.case import Case, in_euro, on
from tests.laws.test_recording_lag import assert_views


def euro(**changes: object) -> Case:
    case = in_euro()
    case.buys("A", **{"currency": "EUR", **changes})
    return case


def with_four_more(**changes: object) -> Case:
    """Returns a case with four additional credits for 3.33 from 1 February on."""
    case = euro(**changes)
    case.does("block.repriced", 32, block_id="A", add_credits="4", add_price="3.33", reason="r")
    return case


def short(case: Case) -> list[str]:
    """Returns the movements of the last step: day, kind, credits, amount, functional amount, and the number of segments
    back.
    """
    return [
        f"{m.accounting_date:%m-%d} {m.kind} {m.credits:f} {m.amount_minor} {m.functional_minor}"
        + (f" {m.segments_back} back" if m.segments_back else "")
        + (" given back" if m.used_at else "")
        for m in case.steps[-1].decision.movements
    ]


def left(case: Case) -> tuple[str, int, int]:
    [block] = case.wallets["ann"].blocks
    return f"{block.left.credits:f}", block.left.amount_minor, block.left.functional_minor


def segments(case: Case) -> list[str]:
    """Returns each segment: credits and value at its start, the draws before it, the added figures."""
    [block] = case.wallets["ann"].blocks
    lines = []
    for segment in timeline(block):
        at_start = f"{segment.credits:f} {segment.price_minor} {segment.price_functional}"
        before = f"{segment.used:f} {segment.drawn_minor} {segment.drawn_functional}"
        added = "" if segment.added is None else f" + {segment.added[0]:f} {segment.added[1]} {segment.added[2]}"
        lines.append(f"{at_start} after {before}{added}{' corrected' if segment.corrected else ''}")
    return lines


def by_day(case: Case, number: int = -1) -> list[str]:
    [block] = case.wallets["ann"].blocks
    return [f"{c.on:%m-%d} {c.credits:f} {c.amount_minor} {c.functional_minor}" for c in timeline(block)[number].days]


def test_late_usage_draws_at_its_own_price_and_lowers_each_later_draw_on_its_day() -> None:
    case = euro()
    case.does("exchange_rate.set", 20, None, base="EUR", quote="USD", rate="1.5", rate_source="ECB")
    case.does("block.repriced", 32, block_id="A", add_credits="4", add_price="3.33", reason="r")
    assert short(case) == ["02-01 repricing 4 333 500"]
    case.uses("3", 40)
    usage = case.uses("2", 50)
    assert segments(case) == ["7 1000 1200 after 0 0 0", "11 1333 1700 after 0 0 0 + 4 333 500"]
    case.uses("3", 31)
    assert short(case) == [
        "02-09 consumption 0 -25 -19", "02-19 consumption 0 -16 -13", "01-31 consumption 3 429 514 1 back",
    ]  # fmt: skip
    assert left(case) == ("3", 339, 445)
    case.uses("1", 30)
    assert short(case) == [
        "02-09 consumption 0 -12 -10", "02-19 consumption 0 -9 -7", "01-30 consumption 1 142 172 1 back",
    ]  # fmt: skip
    assert segments(case) == ["7 1000 1200 after 0 0 0", "7 762 1014 after 4 571 686 + 4 333 500 corrected"]
    assert (by_day(case, 0), by_day(case)) == (
        ["01-30 1 142 172", "01-31 3 429 514"], ["02-09 3 327 435", "02-19 2 217 289"],
    )  # fmt: skip
    case.takes_back(usage, 60)
    assert short(case) == ["03-01 consumption -2 -242 -309", "03-01 consumption 0 25 20"], "what it costs now"
    case.uses("1", 29)
    assert short(case) == [
        "02-09 consumption 0 -17 -13", "02-19 consumption 0 -11 -8", "03-01 consumption 0 11 8",
        "01-29 consumption 1 143 171 1 back",
    ]  # fmt: skip
    case.uses("1", 45)
    assert short(case) == ["02-14 consumption 1 103 140"]
    assert left(case) == ("2", 206, 281)


def test_a_draw_of_a_block_at_the_rates_of_month_ends_is_corrected_at_its_own_rate() -> None:
    case = euro(refundable=True)
    case.uses("1", 20)
    case.does("exchange_rate.set", 31, None, base="EUR", quote="USD", rate="1.3", rate_source="ECB")
    case.own("r", "balances.remeasured", "ann", on(31), period="2026-01")
    case.does("block.repriced", 32, block_id="A", add_credits="4", add_price="3.33", reason="r")
    case.uses("3", 40)
    assert short(case) == ["02-09 consumption 3 357 464"]
    case.uses("2", 31)
    assert short(case) == ["02-09 consumption 0 -18 -23", "01-31 consumption 2 286 372 1 back"]
    assert left(case) == ("5", 565, 734)
    usage = case.uses("1", 35)
    assert short(case) == ["02-04 consumption 1 113 147"]
    case.takes_back(usage, 41)
    assert short(case) == ["02-10 consumption -1 -113 -147"]
    assert segments(case) == ["7 1000 1286 after 0 0 0", "8 904 1175 after 3 429 544 + 4 333 433 corrected"]


def test_usage_that_comes_back_begins_a_segment_which_gives_back_what_it_costs_when_it_is_priced_again() -> None:
    case = euro()
    usage = case.uses("3", 20)
    case.does("block.repriced", 32, block_id="A", add_price="3.33", add_credits="1", reason="r")
    case.uses("2", 40)
    case.takes_back(usage, 36, credits="2")
    assert short(case) == ["02-05 consumption -2 -286 -343 given back", "02-09 consumption 0 -22 -26"]
    case.uses("1", 33)
    assert short(case) == ["02-09 consumption 0 -4 -4", "02-02 consumption 1 181 217 1 back"]
    case.uses("1", 10)
    assert short(case) == [
        "02-02 consumption 0 10 12 1 back", "02-09 consumption 0 7 7", "01-10 consumption 1 142 172 2 back",
    ]  # fmt: skip
    case.does("block.repriced", 15, block_id="A", add_price="1.00", reason="r")
    assert short(case) == [
        "01-15 repricing 0 100 120", "01-20 consumption 0 50 60 2 back", "02-02 consumption 0 12 15 1 back",
        "02-05 consumption 0 -33 -40 given back", "02-09 consumption 0 28 34",
    ]  # fmt: skip
    assert segments(case) == [
        "7 1000 1200 after 0 0 0",
        "6 958 1148 after 1 142 172 + 0 100 120 corrected",
        "4 812 974 after 4 621 746 + 1 333 400 corrected",
        "5 928 1113 after 3 505 607 + 2 319 383 corrected",
    ]
    assert [by_day(case, number) for number in range(4)] == [
        ["01-10 1 142 172"], ["01-20 3 479 574"], ["02-02 1 203 244"], ["02-09 2 371 445"],
    ]  # fmt: skip
    assert left(case) == ("3", 557, 668)


def test_usage_of_before_an_expiry_takes_back_its_share_of_the_breakage() -> None:
    case = with_four_more(expires_at=on(60).isoformat())
    case.uses("3", 40)
    case.own("x", "credits.expired", "ann", on(60), block_id="A")
    assert short(case) == ["03-01 breakage 8 969 1164"]
    case.uses("2", 31)
    assert short(case) == [
        "03-01 breakage -2 -271 -326", "02-09 consumption 0 -15 -17", "01-31 consumption 2 286 343 1 back",
    ]  # fmt: skip
    case.uses("2", 39)
    assert short(case) == ["03-01 breakage -2 -233 -279", "02-08 consumption 2 233 279"]
    case.uses("1", 30)
    assert short(case) == [
        "03-01 breakage -1 -126 -152", "02-08 consumption 0 -7 -7", "02-09 consumption 0 -10 -12",
        "01-30 consumption 1 143 171 1 back",
    ]  # fmt: skip


def test_what_was_voided_keeps_its_value_and_the_last_credits_take_all_of_theirs() -> None:
    case = with_four_more()
    case.uses("3", 40)
    case.does("purchase.voided", 45, block_id="A", credits="5", reason="r")
    case.uses("2", 31)
    assert short(case) == ["02-09 consumption 0 -33 -39", "01-31 consumption 2 286 343 1 back"]
    assert left(case) == ("1", 110, 132)
    case.uses("1", 31)
    assert short(case) == ["02-09 consumption 0 -33 -39", "01-31 consumption 1 143 171 1 back"]
    assert left(case) == ("0", 0, 0)


def test_a_price_that_was_lowered_leaves_earlier_usage_at_the_earlier_price() -> None:
    case = euro()
    case.uses("1", 10)
    case.does("block.repriced", 32, block_id="A", add_price="-3.33", add_credits="-2", reason="r")
    assert short(case) == ["02-01 repricing -2 -333 -400"]
    case.uses("2", 40)
    case.uses("1", 31)
    assert short(case) == ["02-09 consumption 0 -8 -10", "01-31 consumption 1 143 172 1 back"]
    assert segments(case) == ["7 1000 1200 after 0 0 0", "3 381 457 after 2 286 343 + -2 -333 -400 corrected"]
    assert case.is_refused("credits.consumed", 31, credits="2").facts["available"] == "1"


def test_usage_of_before_and_of_after_a_moved_expiry_takes_back_the_later_breakage() -> None:
    case = with_four_more(expires_at=on(60).isoformat())
    case.uses("3", 40)
    case.own("x", "credits.expired", "ann", on(60), block_id="A")
    case.does("block.expiry_changed", 62, block_id="A", expires_at=on(90).isoformat(), reason="r")
    case.uses("4", 64)
    case.own("y", "credits.expired", "ann", on(90), block_id="A")
    case.uses("2", 31)
    # At 2.86 the correction of 9 February would leave 0.15 on 1 March, when no credits remained. So the last price is
    # used.
    assert short(case) == [
        "03-31 breakage -2 -243 -291", "03-03 reinstatement -2 -243 -291", "03-01 breakage -2 -243 -291",
        "01-31 consumption 2 243 291",
    ]  # fmt: skip
    assert_views(case)
    case.uses("2", 63)
    assert short(case) == ["03-31 breakage -2 -242 -291", "03-04 consumption 2 242 291"]
    assert left(case) == ("0", 0, 0)
    assert_views(case)


def test_draws_of_closed_months_and_of_long_before_are_corrected_together() -> None:
    case = with_four_more()
    case.uses("1", 40)
    case.uses("1", 50)
    case.uses("1", 62)
    assert by_day(case) == ["02-09 1 121 145", "02-19 1 121 146", "03-03 1 122 145"]
    case.state = replace(case.state, closed_through=date(2026, 2, 28))
    case.uses("1", 63)
    assert by_day(case) == ["02-19 2 242 291", "03-03 1 122 145", "03-04 1 121 146"]
    case.uses("3", 31)
    assert short(case) == [
        "03-01 consumption 0 -16 -19", "03-03 consumption 0 -9 -10", "03-04 consumption 0 -8 -10",
        "03-01 consumption 3 429 514 1 back",
    ]  # fmt: skip
    case.uses("0.5", 63 + REMEMBERED.days)
    assert by_day(case)[0].startswith("03-04 4 ")


def test_without_a_rate_only_the_currency_of_the_block_is_corrected() -> None:
    case = Case()
    case.buys("A")
    usage = case.uses("3", 20)
    case.does("block.repriced", 32, block_id="A", add_price="3.33", add_credits="1", reason="r")
    case.uses("2", 40)
    case.takes_back(usage, 36, credits="2")
    assert short(case) == ["02-05 consumption -2 -286 None given back", "02-09 consumption 0 -22 None"]
    case.uses("1", 33)
    assert short(case) == ["02-09 consumption 0 -4 None", "02-02 consumption 1 181 None 1 back"]
    case.does("block.repriced", 15, block_id="A", add_price="1.00", reason="r")
    assert short(case) == [
        "01-15 repricing 0 100 None", "01-20 consumption 0 42 None 2 back", "02-02 consumption 0 11 None 1 back",
        "02-05 consumption 0 -28 None given back", "02-09 consumption 0 25 None",
    ]  # fmt: skip
    assert segments(case)[1:] == [
        "7 1100 0 after 0 0 0 + 0 100 0 corrected",
        "5 962 0 after 3 471 0 + 1 333 0 corrected",
        "6 1084 0 after 2 349 0 + 2 314 0 corrected",
    ]


def test_usage_that_comes_back_at_the_rates_of_month_ends_gives_back_at_the_rate_of_its_draw() -> None:
    case = euro(refundable=True)
    case.does("block.repriced", 5, block_id="A", add_credits="1", reason="r")
    usage = case.uses("3", 20)
    case.does("exchange_rate.set", 31, None, base="EUR", quote="USD", rate="1.3", rate_source="ECB")
    case.own("r", "balances.remeasured", "ann", on(31), period="2026-01")
    case.does("block.repriced", 32, block_id="A", add_price="3.33", reason="r")
    case.uses("2", 40)
    case.takes_back(usage, 36, credits="2")
    assert short(case) == ["02-05 consumption -2 -250 -300 given back", "02-09 consumption 0 -38 -49"]
    case.does("block.repriced", 15, block_id="A", add_price="1.00", reason="r")
    assert short(case) == [
        "01-15 repricing 0 100 120", "01-20 consumption 0 38 46 2 back", "02-05 consumption 0 -25 -30 given back",
        "02-09 consumption 0 25 33",
    ]  # fmt: skip
    assert left(case) == ("5", 925, 1168)


def test_late_usage_takes_no_more_value_than_later_segments_have_and_all_of_it_with_their_last_credits() -> None:
    case = euro()
    case.does("block.repriced", 32, block_id="A", add_credits="-2", reason="r")
    case.uses("2", 40)
    assert short(case) == ["02-09 consumption 2 400 480"]
    case.uses("3", 31)
    assert short(case) == ["02-09 consumption 0 171 206", "01-31 consumption 3 429 514 1 back"]
    case = euro()
    case.does("block.repriced", 32, block_id="A", add_price="-6.67", reason="r")
    case.uses("2", 40)
    case.uses("4", 31)
    assert short(case) == ["02-09 consumption 0 -95 -114", "01-31 consumption 4 333 400 1 back"]
    case = euro()
    case.does("block.repriced", 32, block_id="A", add_credits="-3", reason="r")
    case.uses("4", 31)
    assert short(case) == ["01-31 consumption 4 1000 1200 1 back"]


def test_late_usage_of_what_expired_whole_is_at_its_own_price() -> None:
    case = with_four_more(expires_at=on(60).isoformat())
    case.uses("3", 40)
    case.own("x", "credits.expired", "ann", on(60), block_id="A")
    case.uses("4", 31)
    assert short(case) == [
        "03-01 breakage -4 -534 -642", "02-09 consumption 0 -37 -44", "01-31 consumption 4 571 686 1 back",
    ]  # fmt: skip


def test_draws_of_before_something_else_left_the_block_keep_their_value() -> None:
    case = euro()
    case.uses("2", 10)
    case.does("purchase.voided", 15, block_id="A", credits="1", reason="r")
    case.does("block.repriced", 32, block_id="A", add_credits="4", add_price="3.33", reason="r")
    case.uses("1", 40)
    case.uses("1", 20)
    assert short(case) == ["02-09 consumption 0 -4 -5", "01-20 consumption 1 143 171 1 back"]
    case.does("block.repriced", 5, block_id="A", add_price="1.00", reason="r")
    assert short(case) == [
        "01-05 repricing 0 100 120", "01-20 consumption 0 25 30 1 back", "02-09 consumption 0 10 12",
    ]  # fmt: skip
    assert segments(case) == [
        "7 1000 1200 after 0 0 0",
        "4 671 805 after 2 286 343 + 0 100 120 corrected",
        "7 836 1004 after 3 454 544 + 4 333 400 corrected",
    ]


def test_a_grant_without_a_price_is_counted_in_segments_without_value() -> None:
    case = Case()
    case.does("credits.granted", 1, block_id="A", credits="7", reason="promotional")
    usage = case.uses("2", 10)
    case.does("block.repriced", 32, block_id="A", add_credits="4", reason="r")
    case.uses("1", 40)
    case.takes_back(usage, 36)
    assert short(case) == ["02-05 consumption -2 0 None given back"]
    case.uses("1", 20)
    assert short(case) == ["01-20 consumption 1 0 None 2 back"]
    case.does("block.repriced", 5, block_id="A", add_credits="1", reason="r")
    assert short(case) == ["01-05 repricing 1 0 None"]
    assert segments(case)[1:] == [
        "8 0 0 after 0 0 0 + 1 0 0", "9 0 0 after 3 0 0 + 4 0 0", "11 0 0 after 1 0 0 + 2 0 0",
    ]  # fmt: skip


def test_a_draw_of_the_day_of_a_repricing_that_was_recorded_before_it_keeps_its_price() -> None:
    case = euro()
    case.uses("1", 32)
    case.uses("1", 33)
    case.does("block.repriced", 32, block_id="A", add_price="6.00", reason="r")
    assert short(case) == ["02-01 repricing 0 600 720", "02-02 consumption 0 100 120"]
    case.does("block.repriced", 32, block_id="A", add_price="0.50", reason="r")
    assert short(case) == ["02-01 repricing 0 50 60", "02-02 consumption 0 8 10"]
    assert [segment.split(" +")[1] for segment in segments(case)[1:]] == [" 0 600 720 corrected", " 0 50 60 corrected"]


def test_usage_that_comes_back_before_a_later_repricing_adds_to_what_that_one_prices() -> None:
    case = euro()
    usage = case.uses("3", 20)
    for day in (32, 50):
        case.does("block.repriced", day, block_id="A", add_price="1.00", reason="r")
    case.takes_back(usage, 40, credits="1")
    assert short(case) == ["02-09 consumption -1 -143 -171 given back"]
    assert segments(case) == [
        "7 1000 1200 after 0 0 0",
        "4 671 806 after 3 429 514 + 0 100 120",
        "5 814 977 after 2 286 343 + 1 143 171",
        "5 914 1097 after 2 286 343 + 0 100 120",
    ]
    later = case.uses("1", 45)
    assert short(case) == ["02-14 consumption 1 163 195 1 back"]
    assert left(case) == ("4", 751, 902)
    case.does("block.repriced", 15, block_id="A", add_price="1.00", reason="r")
    assert short(case) == [
        "01-15 repricing 0 100 120", "01-20 consumption 0 42 52 3 back",
        "02-09 consumption 0 -14 -18 1 back given back", "02-14 consumption 0 14 18 1 back",
    ]  # fmt: skip
    assert segments(case)[3:] == [
        "5 886 1063 after 2 314 377 + 1 157 189 corrected",
        "4 809 970 after 3 491 590 + 0 100 120",
    ]
    case.takes_back(later, 47)
    assert short(case) == ["02-16 consumption -1 -163 -195 1 back", "02-16 consumption 0 -14 -18 1 back"]
    assert left(case) == ("5", 986, 1183)


def test_a_late_repricing_within_a_corrected_segment_is_of_draws_that_were_priced_again() -> None:
    case = with_four_more()
    half = case.uses("0.5", 40)
    case.uses("1", 31)
    assert short(case) == ["02-09 consumption 0 -1 -2", "01-31 consumption 1 143 171 1 back"]
    case.does("block.repriced", 36, block_id="A", add_credits="1", reason="r")
    assert short(case) == ["02-05 repricing 1 0 0", "02-09 consumption 0 -6 -6"]
    assert by_day(case) == ["02-09 0.5 54 65"]
    assert segments(case)[2:] == ["11.0 1190 1429 after 1.0 143 171 + 1 0 0 corrected"]
    case.takes_back(half, 41)
    assert short(case) == ["02-10 consumption -0.5 -61 -73", "02-10 consumption 0 7 8"], "what it costs now"


def test_usage_that_comes_back_in_parts_gives_back_what_it_drew_whatever_is_corrected_meanwhile() -> None:
    case = euro()
    usage = case.uses("3", 10)
    case.does("block.repriced", 32, block_id="A", add_credits="4", add_price="3.33", reason="r")
    later = case.uses("2", 40)
    assert short(case) == ["02-09 consumption 2 226 272"]
    case.takes_back(usage, 15, credits="2")
    assert short(case) == ["01-15 consumption -2 -286 -343 1 back", "02-09 consumption 0 12 14"]
    case.takes_back(later, 50, credits="1")
    assert short(case) == ["02-19 consumption -1 -113 -136", "02-19 consumption 0 -6 -7"]
    case.takes_back(later, 51)
    assert short(case) == ["02-20 consumption -1 -113 -136", "02-20 consumption 0 -6 -7"]
    case.takes_back(usage, 16)
    assert short(case) == [
        "01-16 consumption -1 -143 -171 1 back", "02-09 consumption 0 4 5", "02-19 consumption 0 -2 -3",
        "02-20 consumption 0 -2 -2",
    ]  # fmt: skip
    assert segments(case) == ["7 1000 1200 after 0 0 0", "11 1333 1600 after 0 0 0 + 4 333 400 corrected"]
    assert left(case) == ("11", 1333, 1600)


def test_usage_that_was_priced_again_gives_back_in_a_later_segment_what_it_costs_now() -> None:
    case = euro()
    case.does("block.repriced", 10, block_id="A", add_price="1.00", reason="r")
    usage = case.uses("3", 20)
    assert short(case) == ["01-20 consumption 3 471 566"]
    case.does("block.repriced", 32, block_id="A", add_price="1.00", reason="r")
    case.uses("1", 5)
    assert short(case) == ["01-20 consumption 0 8 9 1 back", "01-05 consumption 1 143 171 2 back"]
    case.takes_back(usage, 36)
    assert short(case) == ["02-05 consumption -3 -471 -566 given back", "02-05 consumption 0 -8 -9 given back"]
    assert left(case) == ("6", 1057, 1269)


def test_of_credits_that_expired_on_several_days_late_usage_takes_back_the_last_first() -> None:
    case = with_four_more(expires_at=on(60).isoformat())
    usage = case.uses("3", 40)
    case.own("x", "credits.expired", "ann", on(60), block_id="A")
    case.takes_back(usage, 70, credits="2")
    assert short(case) == ["03-11 consumption -2 -243 -291", "03-11 breakage 2 243 291"]
    case.uses("5", 31)  # It exceeds the breakage of 1 March, so it is booked on the day of the last breakage.
    assert short(case) == [
        "03-11 breakage -2 -243 -291", "03-01 breakage -3 -453 -545", "02-09 consumption 0 -54 -64",
        "03-11 consumption 0 36 43", "03-11 consumption 5 714 857 1 back",
    ]  # fmt: skip
    assert left(case) == ("0", 0, 0)
    case = with_four_more(expires_at=on(60).isoformat())
    usage = case.uses("3", 40)
    case.own("x", "credits.expired", "ann", on(60), block_id="A")
    case.takes_back(usage, 70, credits="2")
    case.uses("2", 31)  # At 2.86 the correction of 9 February would leave value on 1 March, when no credits remained.
    assert short(case) == ["03-01 breakage -2 -243 -291", "01-31 consumption 2 243 291"]
    assert_views(case)


def test_a_void_of_paid_and_unpaid_value_takes_what_its_credits_carry_on_its_day_and_no_unit_more() -> None:
    case = in_euro()
    case.buys("A", credits="20", price="13.33", currency="EUR", expires_at=on(60).isoformat())
    case.does("payment.received", 1, amount="13.00", currency="EUR", block_id="A")
    usage = case.uses("2", 56)
    case.own("x", "credits.expired", "ann", on(60), block_id="A")
    case.does("block.expiry_changed", 69, block_id="A", expires_at=on(86).isoformat(), reason="r")
    case.takes_back(usage, 66, credits="1")
    assert short(case) == ["03-07 consumption -1 -67 -80"], "from then until the expiry is moved the block has no more"
    case.does("purchase.voided", 44, block_id="A", credits="1", reason="r")
    # 0.33 at 1.20 is 0.40, and 0.34 is 0.41. Rounded one by one, the parts would take 0.81 of the 0.80 of that day.
    assert short(case) == [
        "03-07 void_unpaid 1 33 40", "03-07 void_paid 0 34 40", "03-07 fx_settlement_refunds_payable 0 0 -1",
    ]  # fmt: skip
    assert_views(case)


def test_two_draws_at_the_rates_of_month_ends_are_corrected_in_proportion_together() -> None:
    case = euro(refundable=True)
    case.uses("1", 20)
    case.does("exchange_rate.set", 31, None, base="EUR", quote="USD", rate="1.3", rate_source="ECB")
    case.own("r", "balances.remeasured", "ann", on(31), period="2026-01")
    case.does("block.repriced", 32, block_id="A", add_credits="4", add_price="3.33", reason="r")
    case.uses("3", 40)
    case.uses("2", 50)
    assert short(case) == ["02-19 consumption 2 238 309"]
    case.uses("2", 31)
    assert short(case)[:2] == ["02-09 consumption 0 -18 -23", "02-19 consumption 0 -12 -16"]


def test_all_that_expired_is_taken_back_if_all_was_used_before() -> None:
    case = euro(expires_at=on(60).isoformat())
    case.does("block.repriced", 32, block_id="A", add_price="3.33", reason="r")
    case.uses("3", 40)
    case.own("x", "credits.expired", "ann", on(60), block_id="A")
    assert short(case) == ["03-01 breakage 4 762 914"]
    case.uses("4", 31)
    assert short(case) == [
        "03-01 breakage -4 -762 -914", "02-09 consumption 0 191 228", "01-31 consumption 4 571 686 1 back",
    ]  # fmt: skip


def test_a_draw_that_comes_back_on_its_day_leaves_nothing_of_that_day() -> None:
    case = with_four_more()
    case.takes_back(case.uses("1", 40), 40)
    assert by_day(case) == []
    assert left(case) == ("11", 1333, 1600)


def test_draws_of_a_refundable_block_in_the_functional_currency_are_known_by_day() -> None:
    case = Case()
    case.buys("A", refundable=True)
    case.uses("3", 20)
    case.does("block.repriced", 10, block_id="A", add_price="1.00", reason="r")
    assert short(case) == ["01-10 repricing 0 100 None", "01-20 consumption 0 42 None"]


def test_amounts_of_two_signs_are_two_corrections() -> None:
    assert _of_one_sign(3, 4) == [(3, 4)]
    assert _of_one_sign(-3, -4) == [(-3, -4)]
    assert _of_one_sign(3, 0) == [(3, 0)]
    assert _of_one_sign(0, -4) == [(0, -4)]
    assert _of_one_sign(3, -4) == [(3, 0), (0, -4)]
    assert _of_one_sign(0, 0) == []


# --- the segment of a moment -------------------------------------------------------------------------------------


def test_a_moment_is_of_the_segment_that_began_last_before_it_and_draws_what_all_since_then_had() -> None:
    case = euro()
    [block] = case.wallets["ann"].blocks
    assert (timeline(block), segments_back(block, on(1))) == ((), 0)
    case.does("block.repriced", 10, block_id="A", add_credits="4", reason="r")
    case.does("block.repriced", 20, block_id="A", add_credits="-8", reason="r")
    case.does("block.repriced", 30, block_id="A", add_credits="5", reason="r")
    [block] = case.wallets["ann"].blocks
    assert [segments_back(block, on(day)) for day in (9, 10, 19, 20, 29, 30, 31)] == [3, 2, 2, 1, 1, 0, 0]
    wanted = Decimal(9)
    assert [most_drawable(block, back, wanted) for back in (0, 1, 2, 3)] == [9, 3, 3, 3]
    assert most_drawable(block, 3, Decimal(2)) == 2
    empty = replace(block, segment=replace(block.segment or _segment(), credits=Decimal(1)))
    assert most_drawable(empty, 1, wanted) == 0, "the last segment had less than was added"


def _segment() -> Segment:
    return Segment(credits=Decimal(0), price_minor=0, used=Decimal(0), drawn_minor=0)


def test_usage_after_a_repricing_draws_what_had_expired_before_if_late_usage_drew_all_that_was_repriced() -> None:
    """A dispute prevented the expiry of 2 of 10 credits, so only these were repriced. Earlier usage has drawn them."""
    case = Case(on_shortfall="overage")
    case.buys("A", credits="10", expires_at=on(60).isoformat())
    case.does("payment.received", 2, amount="10.00", currency="USD", block_id="A", processor="cards")
    case.does("dispute.opened", 3, dispute_id="D", block_id="A", amount="2.00", currency="USD")
    assert case.own("x", "credits.expired", "ann", on(60), block_id="A") is not None
    case.does("dispute.won", 61, dispute_id="D")
    case.does("block.repriced", 41, block_id="A", add_price="1.00", reason="r")
    case.uses("2", 11)
    drawn = case.uses("5", 57)
    found = [(m.kind, m.credits, m.amount_minor) for m in drawn.decision.movements]
    assert found == [("breakage", -5, -500), ("consumption", 5, 500)]
    block = case.wallet("ann").state_of_block("A")
    assert (block.remaining, block.carrying_minor, block.expired_minor) == (0, 0, 300)
