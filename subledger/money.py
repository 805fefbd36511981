"""Money, credits, and the one way they are divided.

Owns: minor-unit exponents, reading and writing amounts as text, exact quantities of credits, rounding. Does not own:
the account or block of an amount.

Money is an integer of minor units (cents, fils, yen) and its currency. A value that names its currency once (a block, a
movement) has amounts without a currency, named ``..._minor``. This is cheaper, and the amounts of a block cannot have
different currencies. Credits are exact decimals of up to nine places, far within the 28 digits of decimal arithmetic.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import Final

import iso4217
import msgspec

from subledger.errors import InvalidValue, TooManyDecimals, UnknownCurrency, WrongType
from subledger.text.wording import json_type
from subledger.withdrawn_currencies import WITHDRAWN

CREDIT_PLACES: Final = 9
PRICE_PLACES: Final = 12
# Bounds far above any business and far below bigint, so that sums of millions of amounts still fit.
MAX_MINOR: Final = 10**15
MAX_CREDITS: Final = Decimal(10) ** 15

_PLAIN_DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,29})(?:\.[0-9]{1,30})?", re.ASCII)
_NANO: Final = 10**CREDIT_PLACES
SMALLEST_CREDITS: Final = Decimal(1).scaleb(-CREDIT_PLACES)
"""The smallest quantity of credits. A part of a block's credits leaves at least so many of them."""


class Money(msgspec.Struct, frozen=True, kw_only=True):
    """An amount of one currency in its minor units; negative if the context allows it."""

    amount_minor: int
    currency: str

    def __str__(self) -> str:
        return f"{format_minor(self.amount_minor, self.currency)} {self.currency}"


@lru_cache(maxsize=512)
def exponent(currency: str) -> int:
    """The number of decimals of an ISO 4217 currency: 0 for JPY, 2 for USD, 3 for KWD; also of one that was withdrawn.

    Raises UnknownCurrency, also for codes that are no money (XAU, XXX).
    """
    try:
        places: int | None = iso4217.Currency(currency).exponent
    except ValueError:
        places = WITHDRAWN[currency].places if currency in WITHDRAWN else None
    if places is None:
        raise UnknownCurrency(
            f"{currency!r} is not a currency code of ISO 4217",
            field="currency",
            expected="a code such as USD, EUR or JPY",
            found=currency,
        )
    return places


def parse_decimal(text: object, *, field: str, places: int) -> Decimal:
    """A non-negative decimal written plainly (``12``, ``0.5``): no sign, no exponent, at most ``places`` decimals."""
    if not isinstance(text, str):
        raise WrongType(
            f'{field} must be a string such as "10.50"; a JSON number would lose digits',
            field=field,
            expected='a decimal in a string, such as "10.50"',
            found=json_type(text),
        )
    if not _PLAIN_DECIMAL.fullmatch(text):
        raise InvalidValue(
            f"{field} is not a plain non-negative decimal",
            field=field,
            expected="digits with an optional point, such as 10.50",
            found=text[:60],
        )
    _, _, fraction = text.partition(".")
    if len(fraction.rstrip("0")) > places:
        raise TooManyDecimals(
            f"{field} has more than {places} decimals",
            field=field,
            expected=f"at most {places} decimals",
            found=text[:60],
        )
    return Decimal(text)


def parse_signed(text: object, *, field: str, places: int) -> Decimal:
    """As ``parse_decimal``, with an optional minus sign; never ``-0``."""
    negative = isinstance(text, str) and text.startswith("-")
    magnitude = parse_decimal(text[1:] if negative and isinstance(text, str) else text, field=field, places=places)
    return -magnitude if negative and magnitude else magnitude


def to_minor(amount: Decimal, currency: str, *, field: str) -> int:
    """A decimal amount in minor units. Raises TooManyDecimals, UnknownCurrency, InvalidValue when too large."""
    places = exponent(currency)
    numerator, denominator = amount.as_integer_ratio()
    scale: int = 10**places
    minor, rest = divmod(numerator * scale, denominator)
    if rest:
        raise TooManyDecimals(
            f"{field} has more decimals than {currency} has",
            field=field,
            expected=f"at most {places} decimals",
            found=str(amount),
        )
    if abs(minor) > MAX_MINOR:
        raise InvalidValue(
            f"{field} is too large",
            field=field,
            expected=f"at most {format_minor(MAX_MINOR, currency)}",
            found=str(amount),
        )
    return minor


def format_minor(amount_minor: int, currency: str) -> str:
    """Minor units as text with exactly the currency's decimals: 1250 USD is ``12.50``, -5 JPY is ``-5``."""
    places = exponent(currency)
    sign = "-" if amount_minor < 0 else ""
    digits = str(abs(amount_minor)).rjust(places + 1, "0")
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else f"{sign}{digits}"


def parse_credits(text: object, *, field: str) -> Decimal:
    """A positive quantity of credits with at most nine decimals."""
    quantity = parse_decimal(text, field=field, places=CREDIT_PLACES)
    if not 0 < quantity <= MAX_CREDITS:
        raise InvalidValue(
            f"{field} must be more than 0 and at most {MAX_CREDITS:f}",
            field=field,
            expected="a positive quantity",
            found=str(text)[:60],
        )
    return plain(quantity)


def parse_quantity(text: object, *, field: str) -> Decimal:
    """A quantity of credits that may be 0, with at most nine decimals."""
    quantity = parse_decimal(text, field=field, places=CREDIT_PLACES)
    return parse_credits(text, field=field) if quantity else Decimal(0)


def parse_change(text: object, *, field: str) -> Decimal:
    """A change of a block's credits, with either sign and at most nine decimals."""
    change = parse_signed(text, field=field, places=CREDIT_PLACES)
    if abs(change) > MAX_CREDITS:
        raise InvalidValue(
            f"{field} is at most {MAX_CREDITS:f} either way",
            field=field,
            expected="a smaller quantity",
            found=str(text)[:60],
        )
    return change


def plain(quantity: Decimal) -> Decimal:
    """The same quantity with its trailing zeros removed, so that equal quantities have equal text."""
    return Decimal(format_credits(quantity))


def format_credits(quantity: Decimal) -> str:
    """Credits as the shortest plain text: ``10``, ``0.5``, ``-3.25``; never an exponent, never ``-0``."""
    text = f"{quantity:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def round_half_up(numerator: int, denominator: int) -> int:
    """``numerator / denominator`` to the nearest integer, a half away from zero. The denominator is positive."""
    magnitude = (2 * abs(numerator) + denominator) // (2 * denominator)
    return magnitude if numerator >= 0 else -magnitude


def share(amount_minor: int, part: Decimal, whole: Decimal) -> int:
    """``amount_minor × part / whole``, half up. The caller keeps the rounding difference in its remainder."""
    return round_half_up(amount_minor * nano(part), nano(whole))


def credits_share(credits: Decimal, part_minor: int, whole_minor: int) -> Decimal:
    """``credits × part_minor / whole_minor`` to the nearest billionth, half up."""
    return Decimal(round_half_up(nano(credits) * part_minor, whole_minor)).scaleb(-CREDIT_PLACES)


def nano(quantity: Decimal) -> int:
    """Credits as an integer of billionths; exact, because a quantity has at most nine decimals."""
    return int(quantity * _NANO)
