"""The data of every event type: its fields, and the rules that one event must satisfy by itself.

Owns: the event types with their models. Does not own: the envelope and reading (envelope), whether the books allow an
event (deciding). Type names are chosen strings that can never change: they are in every log.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from subledger import errors
from subledger.errors import InvalidInput, InvalidValue, NaiveTime, WrongType
from subledger.money import PRICE_PLACES, exponent, parse_change, parse_credits, parse_decimal, parse_signed, to_minor
from subledger.text.wording import json_type

# --- bounds -------------------------------------------------------------------------------------------------

MAX_ID: Final = 255
"""Characters of an id that somebody else's system gives: of an event, customer, block, invoice, payment."""
MAX_NAME: Final = 200
"""Characters of a name that entries are grouped by: a product, a unit, a pool, a processor. Three of them,
of 4 bytes a character, are one key of an index, which holds 2,704 bytes."""
MAX_REASON: Final = 2_000
MAX_SCOPE: Final = 100

# --- fields -------------------------------------------------------------------------------------------------

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,12})?([Zz]|[+-][0-9]{2}:[0-9]{2})?", re.ASCII
)


# With a day to spare, so that no time zone leaves these years.
_FIRST_MOMENT: Final = datetime(1900, 1, 2, tzinfo=UTC)
_LAST_MOMENT: Final = datetime(8999, 12, 30, tzinfo=UTC)


def parse_time(text: object, *, field: str = "time") -> datetime:
    """An RFC 3339 time with its offset, as UTC. Digits beyond the microsecond do not count.

    Raises WrongType, InvalidValue, and NaiveTime where the offset is missing.
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
    # A time in the first or the last year may have no equal in UTC; both are out of range anyway.
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
    """A validator that reports our own errors through pydantic, which adds the place."""

    def validate(value: object) -> Any:
        try:
            return parse(value)
        except InvalidInput as error:
            raise _custom(error) from None

    return BeforeValidator(validate)


THIS_FIELD: Final = "this field"
"""The subject of our parsers' sentences; which field it is, is known only to who reads the whole event."""


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


class EventData(BaseModel):
    """The ``data`` of an event. Unknown keys are refused; amounts and credits are strings."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def check(self) -> None:
        """Checks the rules that the fields must satisfy together. Raises InvalidInput."""


def _positive(value: int | Decimal, field: str) -> None:
    if value <= 0:
        raise InvalidValue(
            f"data.{field} must be more than 0", field=f"data.{field}", expected="more than 0", found="0"
        )


def _needs(present: bool, field: str, why: str) -> None:
    if not present:
        raise _missing(field, why)


def _missing(field: str, why: str) -> errors.MissingField:
    return errors.MissingField(f"data.{field} is missing: {why}", field=f"data.{field}", expected=why)


def _refuse_with(present: bool, field: str, why: str) -> None:
    if present:
        raise InvalidValue(f"data.{field} does not go here: {why}", field=f"data.{field}", expected=why)


def _one_of(data: EventData, first: str, second: str) -> None:
    given = [name for name in (first, second) if getattr(data, name) is not None]
    _needs(bool(given), first, f"{first} or {second} says what is meant")
    _refuse_with(len(given) > 1, second, f"{first} says it already")


def _minor(amount: Decimal, currency: str, field: str) -> int:
    """An amount in minor units of its currency. Raises TooManyDecimals."""
    return to_minor(amount, currency, field=f"data.{field}")


def _check_disputed(amount: Decimal | None, fee: Decimal | None, currency: str | None) -> None:
    """Checks the amount and the fee of a dispute's event; without a currency they are in the one of the dispute."""
    if currency is not None:
        if amount is not None:
            _minor(amount, currency, "amount")
        if fee is not None:
            _minor(fee, currency, "fee")
    if amount is not None:
        _positive(amount, "amount")


def _starts_before_it_expires(starts_at: datetime | None, expires_at: datetime | None) -> None:
    if starts_at is not None and expires_at is not None and expires_at <= starts_at:
        raise InvalidValue(
            "data.expires_at is not after data.starts_at",
            field="data.expires_at",
            expected=f"later than {starts_at.isoformat()}",
            found=expires_at.isoformat(),
        )


class CreditsPurchased(EventData):
    """A customer bought a credit block: the right is unconditional or paid (ASC 606-10-45-4)."""

    block_id: Identifier
    credits: Credits
    unit: Name = "credit"
    price: Amount
    currency: Currency
    tax: Amount | None = None
    starts_at: Time | None = None
    expires_at: Time | None = None
    priority: int = Field(default=50, ge=0, le=1000)
    scope: Scope | None = None
    bonus_credits: Credits | None = None
    refundable: bool = False
    order_id: Identifier | None = None
    invoice_id: Identifier | None = None
    pool: Name | None = None
    escheat_class: Name | None = None

    def check(self) -> None:
        price = _minor(self.price, self.currency, "price")
        if self.refundable:
            _refuse_with(self.pool is not None, "pool", "a refundable block cannot be pooled")
        if self.tax is not None and _minor(self.tax, self.currency, "tax") > 0 and price == 0:
            raise InvalidValue(
                "data.tax on a price of 0", field="data.tax", expected="0 or absent", found=str(self.tax)
            )
        _starts_before_it_expires(self.starts_at, self.expires_at)


class CreditsGranted(EventData):
    """Credits given: promotional (no value), goodwill (for past service), or a share of another plan's price."""

    block_id: Identifier
    credits: Credits
    unit: Name = "credit"
    expires_at: Time | None = None
    starts_at: Time | None = None
    priority: int = Field(default=50, ge=0, le=1000)
    scope: Scope | None = None
    reason: Literal["promotional", "goodwill", "allocation"]
    value: Amount | None = None
    currency: Currency | None = None

    def check(self) -> None:
        if self.reason == "promotional":
            _refuse_with(self.value is not None, "value", "a promotional grant has no value")
        else:
            if self.value is None:
                raise _missing("value", f"a grant for {self.reason} has a value")
            if self.currency is None:
                raise _missing("currency", "an amount needs its currency")
            _positive(_minor(self.value, self.currency, "value"), "value")
        _starts_before_it_expires(self.starts_at, self.expires_at)


class CreditsConsumed(EventData):
    """Usage: credits drawn down."""

    credits: Credits
    unit: Name = "credit"
    product: Name | None = None
    block_id: Identifier | None = None
    invoice_id: Identifier | None = None
    overage_price: UnitPrice | None = None
    currency: Currency | None = None
    on_shortfall: Shortfall | None = None

    def check(self) -> None:
        if self.overage_price is not None:
            _needs(self.currency is not None, "currency", "an overage price needs its currency")


class CreditsExpired(EventData):
    """A block's remaining credits expired. Recorded by the expiry sweep; occurs at the block's expires_at."""

    block_id: Identifier


class ConsumptionReversed(EventData):
    """Usage is taken back, whole or in part: what was drawn last is restored first."""

    event_id: Identifier
    event_source: Identifier | None = None
    credits: Credits | None = None
    reason: Reason


class PurchaseVoided(EventData):
    """The remainder of a block is cancelled, with its tax pro rata."""

    block_id: Identifier
    reason: Reason


class BlockExpiryChanged(EventData):
    """A block's expiry is moved; null means never. What had expired before comes back to life."""

    block_id: Identifier
    expires_at: Time | None
    reason: Reason


class PaymentReceived(EventData):
    """Money came in, for a block, for an invoice, or not yet for anything."""

    amount: Amount
    currency: Currency
    block_id: Identifier | None = None
    invoice_id: Identifier | None = None
    processor: Name | None = None
    fee: Amount | None = None
    payment_id: Identifier | None = None

    def check(self) -> None:
        _positive(_minor(self.amount, self.currency, "amount"), "amount")
        if self.fee is not None:
            _minor(self.fee, self.currency, "fee")
            _needs(self.processor is not None, "processor", "a fee is kept by a processor")


class CreditsRefunded(EventData):
    """Unused credits are taken back; what is not paid back of their value is kept, as revenue."""

    block_id: Identifier
    credits: Credits | None = None
    amount: Amount | None = None
    currency: Currency | None = None
    reason: Reason | None = None

    def check(self) -> None:
        if self.amount is not None and self.currency is not None:
            _minor(self.amount, self.currency, "amount")


class BlockRepriced(EventData):
    """Credits or price are added to what a block has left, from here on (ASC 606-10-25-13(a))."""

    block_id: Identifier
    add_credits: SignedCredits | None = None
    add_price: SignedAmount | None = None
    reason: Reason

    def check(self) -> None:
        _needs(bool(self.add_credits or self.add_price), "add_credits", "credits or a price are added")


class CreditsTransferred(EventData):
    """Credits go to another customer at their basis: no profit, no loss."""

    block_id: Identifier
    to_customer: Identifier
    new_block_id: Identifier
    credits: Credits | None = None

    def check(self) -> None:
        if self.to_customer == "-":
            raise InvalidValue(
                "data.to_customer is no customer", field="data.to_customer", expected="a customer id", found="-"
            )


class PaymentApplied(EventData):
    """An unapplied payment, or a part of it, is applied to a block or an invoice."""

    payment_id: Identifier
    block_id: Identifier | None = None
    invoice_id: Identifier | None = None
    amount: Amount
    currency: Currency

    def check(self) -> None:
        _positive(_minor(self.amount, self.currency, "amount"), "amount")
        _one_of(self, "block_id", "invoice_id")


class PayoutSettled(EventData):
    """A processor paid what it held into the bank."""

    amount: Amount
    currency: Currency
    processor: Name
    payout_id: Identifier

    def check(self) -> None:
        _positive(_minor(self.amount, self.currency, "amount"), "amount")


class PaymentRefunded(EventData):
    """Money was paid back: what is owed to the customer, or an unapplied payment."""

    amount: Amount
    currency: Currency
    block_id: Identifier | None = None
    payment_id: Identifier | None = None
    processor: Name | None = None
    refund_id: Identifier | None = None

    def check(self) -> None:
        _positive(_minor(self.amount, self.currency, "amount"), "amount")


class DisputeOpened(EventData):
    """A payment is disputed: the processor withdraws it until the dispute is decided."""

    dispute_id: Identifier
    payment_id: Identifier | None = None
    block_id: Identifier | None = None
    amount: Amount | None = None
    currency: Currency | None = None
    fee: Amount | None = None

    def check(self) -> None:
        _one_of(self, "payment_id", "block_id")
        _check_disputed(self.amount, self.fee, self.currency)


class _DisputeClosed(EventData):
    """A dispute is decided, for one side or in parts."""

    dispute_id: Identifier
    payment_id: Identifier | None = None
    block_id: Identifier | None = None
    amount: Amount | None = None
    currency: Currency | None = None
    fee: Amount | None = None

    def check(self) -> None:
        _check_disputed(self.amount, self.fee, self.currency)


class DisputeWon(_DisputeClosed):
    """A dispute is won: the processor gives back ``amount``, or all that was disputed; the rest is lost."""


class DisputeLost(_DisputeClosed):
    """A dispute is lost: the customer keeps ``amount``, or all that was disputed; the rest is won."""


class ReceivableWrittenOff(EventData):
    """A receivable is given up: its tax, its unused value and its used value, in this order."""

    block_id: Identifier
    amount: Amount | None = None
    tax_relief: bool = True
    reason: Reason


class CreditMemoIssued(EventData):
    """A price concession on consumed value (ASC 606-10-32-6); the liability is untouched."""

    block_id: Identifier | None = None
    invoice_id: Identifier | None = None
    amount: Amount
    currency: Currency
    tax: Amount | None = None
    reason: Reason

    def check(self) -> None:
        _positive(_minor(self.amount, self.currency, "amount"), "amount")
        if self.tax is not None:
            _minor(self.tax, self.currency, "tax")
        if self.block_id is not None:
            _refuse_with(self.invoice_id is not None, "invoice_id", "the block says it already")


class OverageBilled(EventData):
    """Overage that was used is invoiced."""

    invoice_id: Identifier
    amount: Amount
    currency: Currency
    tax: Amount | None = None

    def check(self) -> None:
        _positive(_minor(self.amount, self.currency, "amount"), "amount")
        if self.tax is not None:
            _minor(self.tax, self.currency, "tax")


class BreakageEstimated(EventData):
    """The expected breakage of a pool over its life, with its evidence (ASC 606-10-55-48, IFRS 15 B46)."""

    pool: Name
    expected_breakage: Amount | None = None
    expected_breakage_rate: Rate | None = None
    expected_escheat: Amount | None = None
    expected_escheat_rate: Rate | None = None
    currency: Currency
    evidence: Reason

    def check(self) -> None:
        _one_of(self, "expected_breakage", "expected_breakage_rate")
        if self.expected_breakage is not None:
            _minor(self.expected_breakage, self.currency, "expected_breakage")
        if self.expected_escheat is not None:
            _minor(self.expected_escheat, self.currency, "expected_escheat")
            _refuse_with(self.expected_escheat_rate is not None, "expected_escheat_rate", "an amount is given")


class CreditsEscheated(EventData):
    """The remainder of a block goes to a state as unclaimed property."""

    block_id: Identifier


class _EscheatPaid(EventData):
    """An escheated amount is paid."""

    block_id: Identifier
    amount: Amount
    currency: Currency

    def check(self) -> None:
        _positive(_minor(self.amount, self.currency, "amount"), "amount")


class EscheatReclaimed(_EscheatPaid):
    """An escheated amount is claimed back by the customer."""


class EscheatRemitted(_EscheatPaid):
    """An escheated amount is paid to the state."""


class ExchangeRateSet(EventData):
    """The price of one unit of ``base`` in ``quote``, the ledger's functional currency, from this day on."""

    base: Currency
    quote: Currency
    rate: UnitPrice
    rate_source: Name

    def check(self) -> None:
        if not self.rate:
            raise InvalidValue("data.rate must be more than 0", field="data.rate", expected="more than 0", found="0")
        if self.base == self.quote:
            raise InvalidValue(
                "data.quote is data.base", field="data.quote", expected="another currency", found=self.quote
            )


EVENT_TYPES: Final[dict[str, type[EventData]]] = {
    "credits.purchased": CreditsPurchased,
    "credits.granted": CreditsGranted,
    "credits.consumed": CreditsConsumed,
    "credits.expired": CreditsExpired,
    "consumption.reversed": ConsumptionReversed,
    "purchase.voided": PurchaseVoided,
    "credits.refunded": CreditsRefunded,
    "block.expiry_changed": BlockExpiryChanged,
    "block.repriced": BlockRepriced,
    "credits.transferred": CreditsTransferred,
    "payment.received": PaymentReceived,
    "payment.applied": PaymentApplied,
    "payout.settled": PayoutSettled,
    "payment.refunded": PaymentRefunded,
    "dispute.opened": DisputeOpened,
    "dispute.won": DisputeWon,
    "dispute.lost": DisputeLost,
    "receivable.written_off": ReceivableWrittenOff,
    "credit_memo.issued": CreditMemoIssued,
    "overage.billed": OverageBilled,
    "breakage.estimated": BreakageEstimated,
    "credits.escheated": CreditsEscheated,
    "escheat.reclaimed": EscheatReclaimed,
    "escheat.remitted": EscheatRemitted,
    "exchange_rate.set": ExchangeRateSet,
}

LEDGER_WIDE: Final = frozenset({"payout.settled", "breakage.estimated", "exchange_rate.set"})
"""Events of the ledger as a whole: they have no customer."""
