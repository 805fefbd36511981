"""Laws of money and credits: text and back, rounding, and the remainder of a division."""

from __future__ import annotations

from datetime import date
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from typing import Any

import iso4217
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.errors import InvalidInput, InvalidValue, TooManyDecimals, UnknownCurrency, WrongType
from subledger.money import (
    MAX_CREDITS,
    MAX_MINOR,
    Money,
    credits_share,
    exponent,
    format_credits,
    format_minor,
    nano,
    parse_change,
    parse_credits,
    parse_decimal,
    parse_signed,
    plain,
    round_half_up,
    share,
    to_minor,
)
from subledger.withdrawn_currencies import WITHDRAWN

CURRENT = {currency.code for currency in iso4217.Currency}
CURRENCIES = sorted({currency.code for currency in iso4217.Currency if currency.exponent is not None} | set(WITHDRAWN))
NO_MONEY = sorted(currency.code for currency in iso4217.Currency if currency.exponent is None)
MINOR = st.integers(0, MAX_MINOR)
QUANTITIES = st.integers(1, int(MAX_CREDITS) * 10**9).map(lambda billionths: Decimal(billionths).scaleb(-9))


def minor_of(text: object, currency: str, field: str = "amount") -> int:
    """Returns an amount as it is read from an event: first the text, then in its currency."""
    return to_minor(parse_decimal(text, field=field, places=30), currency, field=field)


def test_exponents_are_those_of_the_standard() -> None:
    assert {code: exponent(code) for code in ("JPY", "USD", "EUR", "KWD", "CLF", "UYW")} == {
        "JPY": 0,
        "USD": 2,
        "EUR": 2,
        "KWD": 3,
        "CLF": 4,
        "UYW": 4,
    }


def test_a_withdrawn_currency_keeps_its_decimals_and_has_a_last_day_and_a_successor() -> None:
    assert {code: exponent(code) for code in ("BGN", "HRK", "BYR", "ITL")} == {"BGN": 2, "HRK": 2, "BYR": 0, "ITL": 0}
    assert {code: WITHDRAWN[code].last_day for code in ("BGN", "HRK")} == {
        "BGN": date(2025, 12, 31),
        "HRK": date(2022, 12, 31),
    }
    assert not WITHDRAWN.keys() & CURRENT, "a currency of the standard's list is none that it has withdrawn"
    assert {withdrawn.successor for withdrawn in WITHDRAWN.values()} <= CURRENT


@pytest.mark.parametrize("code", [*NO_MONEY, "usd", "US", "EURO", "", "U$D", "USD "])
def test_what_is_no_money_of_iso_4217_is_refused(code: str) -> None:
    with pytest.raises(UnknownCurrency):
        exponent(code)


@pytest.mark.parametrize("currency", CURRENCIES)
def test_an_amount_of_every_currency_survives_its_text(currency: str) -> None:
    unit = 10 ** exponent(currency)
    for minor in {0, 1, 9, unit - 1, unit, unit + 1, 12_345_678, MAX_MINOR - 1, MAX_MINOR}:
        text = format_minor(minor, currency)
        assert minor_of(text, currency) == minor
        assert len(text.partition(".")[2]) == exponent(currency)
        assert Fraction(text) == Fraction(minor, unit)


@given(currency=st.sampled_from(CURRENCIES), minor=MINOR)
def test_amounts_and_their_texts_are_one_to_one(currency: str, minor: int) -> None:
    text = format_minor(minor, currency)
    assert minor_of(text, currency) == minor
    assert str(Money(amount_minor=minor, currency=currency)) == f"{text} {currency}"
    if minor:
        assert format_minor(-minor, currency) == f"-{text}"


@given(currency=st.sampled_from(CURRENCIES), minor=MINOR)
def test_trailing_zeros_change_nothing_and_a_further_digit_is_refused(currency: str, minor: int) -> None:
    text = format_minor(minor, currency)
    longer = text + ("000" if "." in text else ".000")
    assert minor_of(longer, currency) == minor
    with pytest.raises(TooManyDecimals):
        minor_of(longer[:-3] + "1", currency)


@pytest.mark.parametrize("text", ["-1", "+1", "1e3", "1E3", ".5", "5.", "01", "1,000", " 1", "1 ", "", "NaN", "٣", "∞"])
def test_a_decimal_is_plain_or_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        parse_decimal(text, field="amount", places=30)


@pytest.mark.parametrize("value", [1, 1.5, True, None, ["1"], {"amount": "1"}, Decimal(1)])
def test_an_amount_that_is_no_string_is_refused(value: object) -> None:
    with pytest.raises(WrongType):
        minor_of(value, "USD")


@given(st.text(max_size=12))
def test_any_text_is_an_amount_or_invalid_input(text: str) -> None:
    try:
        minor = minor_of(text, "USD")
    except InvalidInput:
        return
    assert Fraction(text) * 100 == minor


def test_an_amount_beyond_the_bound_is_refused() -> None:
    assert minor_of(format_minor(MAX_MINOR, "USD"), "USD") == MAX_MINOR
    with pytest.raises(InvalidValue):
        minor_of(format_minor(MAX_MINOR + 1, "USD"), "USD")


@pytest.mark.parametrize(
    ("text", "value"),
    [("-12.5", "-12.5"), ("12.5", "12.5"), ("-0.01", "-0.01"), ("0", "0"), ("-0", "0"), ("-0.0", "0.0")],
)
def test_a_signed_decimal_may_be_negative_and_is_never_minus_zero(text: str, value: str) -> None:
    assert str(parse_signed(text, field="data.add_price", places=2)) == value


# type of value · the text · class, field, expected, found of the refusal
REFUSED = [
    (parse_signed, "--1", InvalidValue, "digits with an optional point, such as 10.50", "-1"),
    (parse_signed, "-", InvalidValue, "digits with an optional point, such as 10.50", ""),
    (parse_signed, "-0.123", TooManyDecimals, "at most 2 decimals", "0.123"),
    (parse_signed, -1, WrongType, 'a decimal in a string, such as "10.50"', "number"),
    (parse_decimal, "1e3", InvalidValue, "digits with an optional point, such as 10.50", "1e3"),
    (parse_decimal, "9" * 61, InvalidValue, "digits with an optional point, such as 10.50", "9" * 60),
    (parse_decimal, "0.123", TooManyDecimals, "at most 2 decimals", "0.123"),
    (parse_decimal, "9" * 30 + "." + "1" * 30, TooManyDecimals, "at most 2 decimals", "9" * 30 + "." + "1" * 29),
    (parse_decimal, 1.5, WrongType, 'a decimal in a string, such as "10.50"', "number"),
]


@pytest.mark.parametrize(("read", "text", "error", "expected", "found"), REFUSED)
def test_what_is_no_decimal_is_refused_with_what_was_expected_and_found(
    read: Any, text: object, error: type[InvalidInput], expected: str, found: str
) -> None:
    with pytest.raises(error) as caught:
        read(text, field="data.price", places=2)
    assert (caught.value.field, caught.value.expected, caught.value.found) == ("data.price", expected, found)
    assert str(caught.value).startswith("data.price ")


def test_decimals_at_the_bound_are_kept_and_zeros_after_it_count_for_nothing() -> None:
    assert parse_decimal("0.12", field="f", places=2) == Decimal("0.12")
    assert parse_decimal("0.12000", field="f", places=2) == Decimal("0.12")
    assert parse_decimal("100", field="f", places=0) == 100


@pytest.mark.parametrize(
    ("text", "currency", "error", "expected", "found"),
    [
        (7, "USD", WrongType, 'a decimal in a string, such as "10.50"', "number"),
        ("0.001", "USD", TooManyDecimals, "at most 2 decimals", "0.001"),
        ("0.5", "JPY", TooManyDecimals, "at most 0 decimals", "0.5"),
        ("10000000000000.01", "USD", InvalidValue, "at most 10000000000000.00", "10000000000000.01"),
        ("1", "usd", UnknownCurrency, "a code such as USD, EUR or JPY", "usd"),
    ],
)
def test_what_is_no_amount_of_its_currency_is_refused_with_what_was_expected_and_found(
    text: object, currency: str, error: type[InvalidInput], expected: str, found: str
) -> None:
    with pytest.raises(error) as caught:
        minor_of(text, currency, field="data.price")
    field = "currency" if error is UnknownCurrency else "data.price"
    assert (caught.value.field, caught.value.expected, caught.value.found) == (field, expected, found)
    assert str(caught.value).startswith("'usd' " if error is UnknownCurrency else "data.price ")


def test_a_negative_amount_is_bounded_like_a_positive_one() -> None:
    assert to_minor(Decimal("-10000000000000.00"), "USD", field="f") == -MAX_MINOR
    with pytest.raises(InvalidValue):
        to_minor(Decimal("-10000000000000.01"), "USD", field="f")


# --- credits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantity", "text"),
    [
        ("10", "10"), ("10.0", "10"), ("1E+3", "1000"), ("0.50", "0.5"), ("-3.250", "-3.25"), ("100.0", "100"),
        ("0", "0"), ("-0", "0"), ("0.000", "0"), ("-0.00", "0"), ("0E-9", "0"), ("0E+3", "0"), ("1E-9", "0.000000001"),
    ],
)  # fmt: skip
def test_credits_are_written_in_the_shortest_plain_text(quantity: str, text: str) -> None:
    assert format_credits(Decimal(quantity)) == text
    assert plain(Decimal(quantity)).as_tuple() == Decimal(text).as_tuple()


@pytest.mark.parametrize("text", ["0", "1000000000000000.000000001", "1" * 30, "1" * 30 + "." + "0" * 30])
def test_a_quantity_out_of_bounds_is_refused_with_what_was_expected_and_found(text: str) -> None:
    assert parse_credits("1000000000000000", field="data.credits") == MAX_CREDITS
    assert parse_credits("0.000000001", field="data.credits") == Decimal("1E-9")
    with pytest.raises(InvalidValue) as caught:
        parse_credits(text, field="data.credits")
    assert (caught.value.field, caught.value.expected) == ("data.credits", "a positive quantity")
    assert caught.value.found == text[:60]
    assert str(caught.value) == "data.credits must be more than 0 and at most 1000000000000000"


def test_a_quantity_that_is_no_text_is_refused_by_its_field() -> None:
    with pytest.raises(WrongType) as caught:
        parse_credits(5, field="data.credits")
    assert caught.value.field == "data.credits"
    with pytest.raises(TooManyDecimals) as too_fine:
        parse_credits("0.0000000001", field="data.credits")
    assert too_fine.value.expected == "at most 9 decimals"


@given(QUANTITIES)
def test_a_quantity_of_credits_survives_its_text(quantity: Decimal) -> None:
    text = format_credits(quantity)
    assert parse_credits(text, field="credits") == quantity
    assert "E" not in text
    assert not text.endswith(".")
    assert "." not in text or not text.endswith("0")


@given(quantity=QUANTITIES, zeros=st.integers(0, 9))
def test_equal_quantities_have_equal_text(quantity: Decimal, zeros: int) -> None:
    with localcontext(prec=60):
        padded = quantity.quantize(Decimal(1).scaleb(-9 - zeros))
    assert str(plain(padded)) == str(plain(quantity))
    assert format_credits(padded) == format_credits(quantity)


@pytest.mark.parametrize("text", ["0", "0.000000000", "0.0000000001", "1000000000000001"])
def test_credits_are_positive_with_nine_decimals_at_most(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_credits(text, field="credits")


@given(QUANTITIES)
def test_credits_are_whole_billionths(quantity: Decimal) -> None:
    assert Fraction(nano(quantity), 10**9) == Fraction(quantity)


@pytest.mark.parametrize("text", ["1000000000000000", "-1000000000000000", "-0.000000001", "0", "2.5"])
def test_a_change_of_credits_goes_either_way_within_bounds(text: str) -> None:
    assert parse_change(text, field="data.add_credits") == Decimal(text)


@pytest.mark.parametrize("text", ["1000000000000000.1", "-1000000000000001", "1" * 30 + "." + "0" * 30])
def test_a_change_of_credits_out_of_bounds_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        parse_change(text, field="data.add_credits")
    document = caught.value.as_document()
    assert (document["field"], document["expected"]) == ("data.add_credits", "a smaller quantity")
    assert document["found"] == text[:60]
    assert document["detail"] == "data.add_credits is at most 1000000000000000 either way"
    with pytest.raises(TooManyDecimals) as too_fine:
        parse_change("-0.0000000001", field="data.add_credits")
    assert (too_fine.value.field, too_fine.value.expected) == ("data.add_credits", "at most 9 decimals")


# --- rounding -----------------------------------------------------------------------------------------------


@given(numerator=st.integers(-(10**40), 10**40), denominator=st.integers(1, 10**30))
def test_rounding_is_to_the_nearest_with_a_half_away_from_zero(numerator: int, denominator: int) -> None:
    with localcontext(prec=100):
        # A half is exact in 100 digits, and a quotient that is cut there is not close to a half.
        expected = int((Decimal(numerator) / Decimal(denominator)).quantize(Decimal(1), rounding=ROUND_HALF_UP))
    assert round_half_up(numerator, denominator) == expected
    assert round_half_up(-numerator, denominator) == -expected


@pytest.mark.parametrize(("half", "rounded"), [(1, 1), (3, 2), (5, 3), (-1, -1), (-3, -2), (-5, -3), (0, 0)])
def test_a_half_goes_away_from_zero(half: int, rounded: int) -> None:
    assert round_half_up(half, 2) == rounded


@given(amount=MINOR, parts=st.lists(QUANTITIES, min_size=1, max_size=12))
def test_cumulative_shares_add_up_to_the_whole_and_no_piece_is_a_unit_off(amount: int, parts: list[Decimal]) -> None:
    with localcontext(prec=60):
        whole = sum(parts, Decimal(0))
        done, taken, pieces = Decimal(0), 0, []
        for part in parts:
            done += part
            pieces.append(share(amount, done, whole) - taken)
            taken += pieces[-1]
        assert sum(pieces) == amount
        for part, piece in zip(parts, pieces, strict=True):
            assert piece >= 0
            assert abs(piece - Fraction(amount) * Fraction(part) / Fraction(whole)) <= 1


@given(credits=QUANTITIES, whole=st.integers(1, MAX_MINOR), data=st.data())
def test_credits_follow_money_to_the_nearest_billionth(credits: Decimal, whole: int, data: st.DataObject) -> None:
    part = data.draw(st.integers(0, whole))
    found = credits_share(credits, part, whole)
    assert abs(Fraction(found) - Fraction(credits) * part / whole) <= Fraction(1, 2 * 10**9)
    assert credits_share(credits, whole, whole) == credits
    assert credits_share(credits, 0, whole) == 0
