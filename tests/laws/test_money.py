"""Money and credits: text and back without loss, and divisions that lose nothing."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import iso4217
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger import money
from subledger.errors import InvalidValue, TooManyDecimals, UnknownCurrency, WrongType

CURRENCIES = sorted(c.code for c in iso4217.Currency if c.exponent is not None)
CREDITS = st.integers(1, 10**18).map(lambda nano: Decimal(nano).scaleb(-9))


@pytest.mark.parametrize(("currency", "places"), [("JPY", 0), ("USD", 2), ("KWD", 3), ("CLF", 4), ("LBP", 2)])
def test_minor_units_are_those_of_the_standard(currency: str, places: int) -> None:
    assert money.exponent(currency) == places


@given(currency=st.sampled_from(CURRENCIES), minor=st.integers(0, money.MAX_MINOR))
def test_an_amount_survives_text_in_every_currency(currency: str, minor: int) -> None:
    assert money.parse_minor(money.format_minor(minor, currency), currency, field="price") == minor
    assert money.format_minor(-minor, currency) == ("-" if minor else "") + money.format_minor(minor, currency)


@given(credits=CREDITS)
def test_credits_survive_text(credits: Decimal) -> None:
    text = money.format_credits(credits)
    assert "E" not in text
    assert not (text.endswith("0") and "." in text)
    if credits <= money.MAX_CREDITS:
        assert money.parse_credits(text, field="credits") == credits


@given(numerator=st.integers(-(10**30), 10**30), denominator=st.integers(1, 10**18))
def test_half_a_unit_rounds_away_from_zero(numerator: int, denominator: int) -> None:
    exact, rounded = Fraction(numerator, denominator), money.round_half_up(numerator, denominator)
    assert abs(rounded - exact) <= Fraction(1, 2)
    if abs(rounded - exact) == Fraction(1, 2):
        assert abs(rounded) > abs(exact)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (10, WrongType), (None, WrongType), (1.5, WrongType), ("", InvalidValue), ("-1", InvalidValue),
        ("1e3", InvalidValue), ("+1", InvalidValue), ("01", InvalidValue), (".5", InvalidValue), ("1.", InvalidValue),
        ("1,000", InvalidValue), (" 1", InvalidValue), ("NaN", InvalidValue), ("Infinity", InvalidValue),
        ("\u0661", InvalidValue), ("1.001", TooManyDecimals), ("9" * 29, InvalidValue),
    ],
)  # fmt: skip
def test_what_is_no_plain_decimal_is_refused(text: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        money.parse_minor(text, "USD", field="price")


def test_trailing_zeros_are_no_decimals() -> None:
    assert money.parse_minor("1.500000", "USD", field="price") == 150


@pytest.mark.parametrize("code", ["XXX", "XAU", "usd", "US", "", "EUROS"])
def test_what_is_no_money_is_no_currency(code: str) -> None:
    with pytest.raises(UnknownCurrency):
        money.exponent(code)
