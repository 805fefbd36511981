"""The types of an event's fields, and the checks that a field or several fields together must pass.

Owns: the bounds of texts, the parsing of times, the accepted values and the description of a field, the model of
``data``. Does not own: the fields of an event type (data, own_data), the parsing of amounts (money).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from subledger.cohorts import COHORT
from subledger.errors import InvalidInput, InvalidValue, MissingField, NaiveTime, WrongType
from subledger.money import (
    PRICE_PLACES,
    exponent,
    parse_change,
    parse_credits,
    parse_decimal,
    parse_quantity,
    parse_signed,
    to_minor,
)
from subledger.text.wording import json_type

# --- bounds -------------------------------------------------------------------------------------------------

MAX_ID: Final = 255
"""Characters of an id from another system: of an event, customer, block, invoice, payment."""
MAX_NAME: Final = 200
"""Characters of a name that entries are grouped by: a product, a unit, a pool, a processor. Three of them, of 4 bytes a
character, are one key of an index, which has room for 2,704 bytes.
"""
MAX_REASON: Final = 2_000
MAX_SCOPE: Final = 100
MAX_DIMENSIONS: Final = 8
"""Names of own dimensions of a ledger."""
MAX_DIMENSION: Final = 100
"""Characters of the text of an own dimension."""

# --- fields -------------------------------------------------------------------------------------------------

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,12})?([Zz]|[+-][0-9]{2}:[0-9]{2})?", re.ASCII
)


# With a margin of one day, so that no time zone leaves these years.
_FIRST_MOMENT: Final = datetime(1900, 1, 2, tzinfo=UTC)
_LAST_MOMENT: Final = datetime(8999, 12, 30, tzinfo=UTC)


def parse_time(text: object, *, field: str = "time") -> datetime:
    """An RFC 3339 time with its offset, as UTC. Digits beyond the microsecond are ignored.

    Raises WrongType, InvalidValue, and NaiveTime if the offset is missing.
    """
    if not isinstance(text, str):
        raise WrongType(f"{field} must be a string", field=field, expected="an RFC 3339 time", found=json_type(text))
    match = _RFC3339.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        moment = datetime.fromisoformat(text.upper())
        if match[1] is None:
            raise NaiveTime(
                f"{field} has no UTC offset",
                field=field,
                expected="an offset, such as 2026-01-15T10:00:00Z",
                found=text,
            )
    except ValueError:
        raise InvalidValue(
            f"{field} is not a time",
            field=field,
            expected="RFC 3339 between 1900 and 8999, such as 2026-01-15T10:00:00Z",
            found=text[:60],
        ) from None
    # A time in the first or the last year may have no equivalent in UTC. Both years are out of range.
    if not _FIRST_MOMENT.year <= moment.year <= _LAST_MOMENT.year or not _FIRST_MOMENT <= moment <= _LAST_MOMENT:
        raise InvalidValue(
            f"{field} is out of range: a time lies between 1900-01-02 and 8999-12-30",
            field=field,
            expected="RFC 3339 between 1900 and 8999, such as 2026-01-15T10:00:00Z",
            found=text[:60],
        )
    return moment.astimezone(UTC)


def _custom(error: InvalidInput) -> PydanticCustomError:
    context = {"message": error.message, "expected": error.expected or "", "found": error.found or ""}
    return PydanticCustomError(error.code, "{message}", context)


def _checked(parse: Any) -> BeforeValidator:
    """A validator that reports our own errors through pydantic, which adds the name of the field."""

    def validate(value: object) -> Any:
        try:
            return parse(value)
        except InvalidInput as error:
            raise _custom(error) from None

    return BeforeValidator(validate)


THIS_FIELD: Final = "this field"
"""The subject of a parser's sentences, because a parser does not know the name of its field."""


def _text(description: str, example: str, **others: Any) -> Any:
    """The description of a string field in the JSON schema, in ``events --types`` and in errors."""
    return WithJsonSchema({"type": "string", "description": description, "examples": [example], **others})


def _characters(most: int) -> Any:
    return StringConstraints(strict=True, min_length=1, max_length=most, pattern=r"^[^\x00-\x1f\x7f]+$")


_PLAIN: Final = {"pattern": r"^(0|[1-9][0-9]{0,29})(\.[0-9]{1,30})?$"}
_SIGNED: Final = {"pattern": r"^-?(0|[1-9][0-9]{0,29})(\.[0-9]{1,30})?$"}

Identifier = Annotated[
    str,
    _characters(MAX_ID),
    _text(
        f"a string of 1 to {MAX_ID} characters without control characters",
        "blk-7",
        minLength=1,
        maxLength=MAX_ID,
        pattern=r"^[^\x00-\x1f\x7f]+$",
    ),
]
Name = Annotated[
    str,
    _characters(MAX_NAME),
    _text(
        f"a string of 1 to {MAX_NAME} characters without control characters",
        "api",
        minLength=1,
        maxLength=MAX_NAME,
        pattern=r"^[^\x00-\x1f\x7f]+$",
    ),
]
CohortName = Annotated[
    str,
    StringConstraints(strict=True, pattern=rf"^{COHORT.pattern}$"),
    _text(
        "the name of a cohort: a month (2026-01), a quarter (2026-Q1) or a year (2026)",
        "2026-01",
        pattern=rf"^{COHORT.pattern}$",
    ),
]
Reason = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=MAX_REASON, pattern=r"^[^\x00]+$"),
    _text(
        f"a text of 1 to {MAX_REASON} characters",
        "duplicate order",
        minLength=1,
        maxLength=MAX_REASON,
        pattern=r"^[^\x00]+$",
    ),
]
Credits = Annotated[
    Decimal,
    _checked(lambda value: parse_credits(value, field=THIS_FIELD)),
    _text("credits in a string, more than 0, at most 9 decimals", "1000", **_PLAIN),
]
Quantity = Annotated[
    Decimal,
    _checked(lambda value: parse_quantity(value, field=THIS_FIELD)),
    _text("credits in a string, 0 or more, at most 9 decimals", "400", **_PLAIN),
]
Amount = Annotated[
    Decimal,
    _checked(lambda value: parse_decimal(value, field=THIS_FIELD, places=30)),
    _text("an amount in a string, with at most the decimals of its currency", "100.00", **_PLAIN),
]
SignedAmount = Annotated[
    Decimal,
    _checked(lambda value: parse_signed(value, field=THIS_FIELD, places=30)),
    _text("an amount in a string, negative where it is taken away", "-10.00", **_SIGNED),
]
SignedCredits = Annotated[
    Decimal,
    _checked(lambda value: parse_change(value, field=THIS_FIELD)),
    _text("credits in a string, negative where they are taken away, at most 9 decimals", "-100", **_SIGNED),
]
Rate = Annotated[
    Decimal,
    _checked(lambda value: parse_decimal(value, field=THIS_FIELD, places=PRICE_PLACES)),
    _text(f"a rate in a string, at most {PRICE_PLACES} decimals", "0.05", **_PLAIN),
]
UnitPrice = Annotated[
    Decimal,
    _checked(lambda value: parse_decimal(value, field=THIS_FIELD, places=PRICE_PLACES)),
    _text(f"a price of one in a string, at most {PRICE_PLACES} decimals", "0.0125", **_PLAIN),
]
Time = Annotated[
    datetime,
    _checked(lambda value: parse_time(value, field=THIS_FIELD)),
    _text("an RFC 3339 time with its offset, from 1900 to 8999", "2026-01-15T10:00:00Z", format="date-time"),
]
Shortfall = Literal["reject", "overage", "backfill"]


def _known_currency(value: object) -> object:
    if isinstance(value, str):
        exponent(value)
    return value


Currency = Annotated[
    str, StringConstraints(strict=True), _checked(_known_currency), _text("a currency code of ISO 4217", "USD")
]
Scope = Annotated[list[Name], Field(min_length=1, max_length=MAX_SCOPE)]
DIMENSION: Final = re.compile("[a-z][a-z0-9_]{0,39}", re.ASCII)
OwnDimensions = Annotated[
    dict[
        Annotated[str, StringConstraints(strict=True, pattern=f"^{DIMENSION.pattern}$")],
        Annotated[str, _characters(MAX_DIMENSION)],
    ],
    Field(max_length=MAX_DIMENSIONS),
    WithJsonSchema(
        {
            "type": "object",
            "description": f"an object of at most {MAX_DIMENSIONS} of the ledger's own dimensions: each name with a "
            f"string of 1 to {MAX_DIMENSION} characters without control characters",
            "propertyNames": {"pattern": f"^{DIMENSION.pattern}$"},
            "additionalProperties": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_DIMENSION,
                "pattern": r"^[^\x00-\x1f\x7f]+$",
            },
            "maxProperties": MAX_DIMENSIONS,
            "examples": [{"department": "EMEA"}],
        }
    ),
]


class EventData(BaseModel):
    """The ``data`` of an event. Unknown keys are refused; amounts and credits are strings."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def check(self) -> None:
        """Checks the rules that the fields must satisfy together. Raises InvalidInput."""


# --- checks of fields together --------------------------------------------------------------------------------


def check_positive(value: int | Decimal, field: str, found: str = "0") -> None:
    """Raises InvalidValue if an amount, or its minor units, is 0 or negative. ``found``: the amount that was sent, if
    its type allows a negative one.
    """
    if value <= 0:
        raise InvalidValue(
            f"data.{field} must be more than 0", field=f"data.{field}", expected="more than 0", found=found
        )


def check_present(present: bool, field: str, why: str) -> None:
    """Raises MissingField, with the reason ``why`` the field is required, if it is not ``present``."""
    if not present:
        raise missing_field(field, why)


def missing_field(field: str, why: str) -> MissingField:
    """The error of a field that is required for the reason ``why``."""
    return MissingField(f"data.{field} is missing: {why}", field=f"data.{field}", expected=why)


def check_absent(present: bool, field: str, why: str) -> None:
    """Raises InvalidValue, with the reason ``why`` the field does not go here, if it is ``present``."""
    if present:
        raise InvalidValue(f"data.{field} does not go here: {why}", field=f"data.{field}", expected=why)


def check_one_of(data: EventData, first: str, second: str) -> None:
    """Raises MissingField if neither of two fields is present, InvalidValue if both are."""
    given = [name for name in (first, second) if getattr(data, name) is not None]
    check_present(bool(given), first, f"{first} or {second} says what is meant")
    check_absent(len(given) > 1, second, f"{first} says it already")


def check_other_currency(data: EventData, amount: str, currency: str) -> None:
    """Checks a second amount of the event, in another currency: both of its fields are present, or neither.

    Raises MissingField, InvalidValue, TooManyDecimals.
    """
    stated, code = getattr(data, amount), getattr(data, currency)
    if stated is None and code is None:
        return
    check_present(stated is not None, amount, f"{currency} is the currency of {amount}")
    check_present(code is not None, currency, "an amount needs its currency")
    check_absent(code == getattr(data, "currency", None), currency, "it is data.currency already")
    minor_units(stated, code, amount)


def check_elsewhere(elsewhere: Decimal | None, amount: Decimal, currency: str) -> None:
    """Checks the part of a payment that is for invoices kept elsewhere. Raises InvalidValue, TooManyDecimals."""
    if elsewhere is None:
        return
    check_positive(minor_units(elsewhere, currency, "elsewhere"), "elsewhere")
    if elsewhere > amount:
        raise InvalidValue(
            "data.elsewhere is more than the amount that it is a part of",
            field="data.elsewhere",
            expected=f"at most {amount}",
            found=str(elsewhere),
        )


def minor_units(amount: Decimal, currency: str, field: str) -> int:
    """An amount in minor units of its currency. Raises TooManyDecimals."""
    return to_minor(amount, currency, field=f"data.{field}")


def check_disputed(amount: Decimal | None, fee: Decimal | None, currency: str | None) -> None:
    """Checks the amount and the fee of a dispute's event. Without a currency they are in that of the dispute."""
    if currency is not None:
        if amount is not None:
            minor_units(amount, currency, "amount")
        if fee is not None:
            minor_units(fee, currency, "fee")
    if amount is not None:
        check_positive(amount, "amount")


def check_starts_before_expiry(starts_at: datetime | None, expires_at: datetime | None) -> None:
    """Raises InvalidValue if a block expires before it starts, or at the same time."""
    if starts_at is not None and expires_at is not None and expires_at <= starts_at:
        raise InvalidValue(
            "data.expires_at is not after data.starts_at",
            field="data.expires_at",
            expected=f"later than {starts_at.isoformat()}",
            found=expires_at.isoformat(),
        )
