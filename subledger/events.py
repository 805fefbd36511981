"""Events: what the world tells the ledger, as CloudEvents 1.0.

Owns: the event types and their data, reading and checking one event, its canonical text.
Does not own: whether the books allow it (deciding).

Type names are chosen strings that can never change: they are in every log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

import msgspec
import orjson
import rfc8785
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError

from subledger import errors
from subledger.errors import InvalidEvent, InvalidInput, InvalidJson, InvalidValue, NaiveTime, WrongType
from subledger.money import PRICE_PLACES, exponent, parse_credits, parse_decimal, to_minor

# --- fields -------------------------------------------------------------------------------------------------

_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,12})?([Zz]|[+-][0-9]{2}:[0-9]{2})?",
    re.ASCII,
)


def parse_time(text: object, *, field: str = "time") -> datetime:
    """An RFC 3339 time with its offset, as UTC. Digits beyond the microsecond do not count.

    Raises WrongType, InvalidValue, and NaiveTime where the offset is missing.
    """
    if not isinstance(text, str):
        raise WrongType(
            f"{field} must be a string", field=field, expected="an RFC 3339 time", found=type(text).__name__
        )
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
        if not 1900 <= moment.year <= 8999:
            raise ValueError
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidValue(
            f"{field} is not a time",
            field=field,
            expected="RFC 3339 between 1900 and 8999, such as 2026-01-15T10:00:00Z",
            found=text[:60],
        ) from None


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


Identifier = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$"),
]
Reason = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=2000, pattern=r"^[^\x00]+$")]
Credits = Annotated[
    Decimal,
    _checked(lambda value: parse_credits(value, field="credits")),
    Field(json_schema_extra={"type": "string", "examples": ["1000"]}),
]
Amount = Annotated[Decimal, _checked(lambda value: parse_decimal(value, field="amount", places=30))]
UnitPrice = Annotated[Decimal, _checked(lambda value: parse_decimal(value, field="price", places=PRICE_PLACES))]
Time = Annotated[datetime, _checked(parse_time)]
Shortfall = Literal["reject", "overage", "backfill"]


def _known_currency(value: object) -> object:
    if isinstance(value, str):
        exponent(value)
    return value


Currency = Annotated[str, StringConstraints(strict=True), _checked(_known_currency)]


class EventData(BaseModel):
    """The ``data`` of an event. Unknown keys are refused; amounts and credits are strings."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def minor(self, field: str, currency: str) -> int:
        """The amount in ``field`` as minor units of ``currency``."""
        return to_minor(getattr(self, field), currency, field=f"data.{field}")

    def check(self) -> None:
        """What the fields must satisfy together. Raises InvalidInput."""


def _positive(value: int, field: str) -> None:
    if value <= 0:
        raise InvalidValue(
            f"data.{field} must be more than 0", field=f"data.{field}", expected="more than 0", found="0"
        )


def _needs(present: bool, field: str, why: str) -> None:
    if not present:
        raise errors.MissingField(f"data.{field} is missing: {why}", field=f"data.{field}", expected=why)


def _refuse_with(present: bool, field: str, why: str) -> None:
    if present:
        raise InvalidValue(f"data.{field} does not go here: {why}", field=f"data.{field}", expected=why)


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
    unit: Identifier = "credit"
    price: Amount
    currency: Currency
    tax: Amount | None = None
    starts_at: Time | None = None
    expires_at: Time | None = None
    priority: int = Field(default=50, ge=0, le=1000)
    scope: list[Identifier] | None = Field(default=None, min_length=1, max_length=100)
    bonus_credits: Credits | None = None
    refundable: bool = False
    order_id: Identifier | None = None
    invoice_id: Identifier | None = None

    def check(self) -> None:
        price = self.minor("price", self.currency)
        if self.tax is not None and self.minor("tax", self.currency) > 0 and price == 0:
            raise InvalidValue(
                "data.tax on a price of 0", field="data.tax", expected="0 or absent", found=str(self.tax)
            )
        _starts_before_it_expires(self.starts_at, self.expires_at)


class CreditsGranted(EventData):
    """Credits given: promotional (no value), goodwill (for past service), or a share of another plan's price."""

    block_id: Identifier
    credits: Credits
    unit: Identifier = "credit"
    expires_at: Time | None = None
    starts_at: Time | None = None
    priority: int = Field(default=50, ge=0, le=1000)
    scope: list[Identifier] | None = Field(default=None, min_length=1, max_length=100)
    reason: Literal["promotional", "goodwill", "allocation"]
    value: Amount | None = None
    currency: Currency | None = None

    def check(self) -> None:
        if self.reason == "promotional":
            _refuse_with(self.value is not None, "value", "a promotional grant has no value")
        else:
            _needs(self.value is not None, "value", f"a grant for {self.reason} has a value")
            _needs(self.currency is not None, "currency", "an amount needs its currency")
            assert self.currency is not None  # for the type checker; _needs has raised
            _positive(self.minor("value", self.currency), "value")
        _starts_before_it_expires(self.starts_at, self.expires_at)


class CreditsConsumed(EventData):
    """Usage: credits drawn down."""

    credits: Credits
    unit: Identifier = "credit"
    product: Identifier | None = None
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
    """What is left of a block is cancelled, with its tax pro rata."""

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
    processor: Identifier | None = None
    fee: Amount | None = None
    payment_id: Identifier | None = None

    def check(self) -> None:
        _positive(self.minor("amount", self.currency), "amount")
        if self.fee is not None:
            self.minor("fee", self.currency)
            _needs(self.processor is not None, "processor", "a fee is kept by a processor")


# --- events that only their own command writes: what a decision depends on is in the log ------------------------


class LedgerConfigured(EventData):
    """The ledger's entity and settings from here on."""

    entity: Identifier
    functional_currency: Currency
    timezone: Identifier
    on_shortfall: Shortfall
    late_usage: Literal["reclassify", "new"]


class PolicyAdopted(EventData):
    """The posting policy from here on, whole, with the hash of its content."""

    policy: int
    name: Identifier
    version: int
    content_hash: Identifier
    rules: dict[str, list[list[str]]]


class MappingAdopted(EventData):
    """The account mapping from here on, whole, with the hash of its content."""

    mapping: int
    content_hash: Identifier
    rows: list[dict[str, str]]


class PeriodClosed(EventData):
    """A month is closed: nothing is posted into it any more."""

    period: Identifier


class PeriodReopened(EventData):
    """A closed month, and every later one, is open again."""

    period: Identifier
    reason: Reason


class PeriodCut(EventData):
    """An open period was exported: what is recorded from here on belongs to its next journal."""

    period: Identifier


EVENT_TYPES: Final[dict[str, type[EventData]]] = {
    "credits.purchased": CreditsPurchased,
    "credits.granted": CreditsGranted,
    "credits.consumed": CreditsConsumed,
    "credits.expired": CreditsExpired,
    "consumption.reversed": ConsumptionReversed,
    "purchase.voided": PurchaseVoided,
    "block.expiry_changed": BlockExpiryChanged,
    "payment.received": PaymentReceived,
}

RESERVED_TYPES: Final[dict[str, type[EventData]]] = {
    "ledger.configured": LedgerConfigured,
    "policy.adopted": PolicyAdopted,
    "mapping.adopted": MappingAdopted,
    "period.closed": PeriodClosed,
    "period.reopened": PeriodReopened,
    "period.cut": PeriodCut,
}

NOT_YET_TYPES: Final = frozenset(
    {
        "credits.refunded", "block.repriced", "credits.transferred", "payment.applied", "payout.settled",
        "payment.refunded", "dispute.opened", "dispute.won", "dispute.lost", "receivable.written_off",
        "credit_memo.issued", "overage.billed", "breakage.estimated", "credits.escheated", "escheat.reclaimed",
        "escheat.remitted", "exchange_rate.set",
    }
)  # fmt: skip

NOT_YET_FIELDS: Final[dict[str, frozenset[str]]] = {
    "credits.purchased": frozenset({"pool", "escheat_class"}),
}

# --- the envelope -------------------------------------------------------------------------------------------


class CloudEvent(BaseModel):
    """A CloudEvent 1.0 in structured JSON: the envelope. Extension attributes are kept."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    specversion: Literal["1.0"]
    id: Identifier
    source: Identifier
    type: Identifier
    subject: Identifier | None = None
    time: Time
    datacontenttype: str | None = None
    data: dict[str, Any]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One checked event, ready to be decided.

    ``customer`` is None for events of the ledger as a whole. ``data_text`` is the data as received, in canonical
    JSON (RFC 8785); ``attributes_text`` the envelope's other attributes as received, where they say more than the
    fields here.
    """

    source: str
    event_id: str
    type: str
    customer: str | None
    occurred_at: datetime
    data: Any
    data_text: str
    attributes_text: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        return (self.source, self.event_id)


OWN_SOURCE: Final = "subledger"
"""The source of what the ledger itself records. Nobody else may use it: a foreign event under the key of a coming
expiry would keep the sweep, and with it the close, from being recorded."""

_ENVELOPE_COLUMNS = frozenset({"specversion", "id", "source", "type", "subject", "time", "data"})
_LEDGER_WIDE: Final[frozenset[str]] = frozenset(RESERVED_TYPES)


def loads(text: bytes | str) -> Any:
    """JSON, or InvalidJson with the place."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidJson(f"not JSON: {error}", expected="one JSON document in UTF-8") from None


def read_event(document: object) -> Event:
    """One decoded JSON value as an event. Raises InvalidInput with the code and field of the first fault."""
    if not isinstance(document, dict):
        raise InvalidEvent("an event is a JSON object", expected="an object", found=type(document).__name__)
    if "data_base64" in document:
        raise InvalidEvent("data_base64 is not taken", field="data_base64", expected="JSON in data")
    try:
        envelope = CloudEvent.model_validate(document)
    except ValidationError as error:
        raise _first_fault(error, prefix="", not_yet=frozenset()) from None
    if envelope.source == OWN_SOURCE:
        raise InvalidValue(
            f"the source {OWN_SOURCE} is the ledger's own", field="source", expected="another source", found=OWN_SOURCE
        )
    model = EVENT_TYPES.get(envelope.type)
    if model is None:
        raise _unknown_type(envelope.type)
    content_type = envelope.datacontenttype
    if content_type is not None and content_type.split(";")[0].strip().lower() != "application/json":
        raise InvalidEvent(
            "data is not JSON", field="datacontenttype", expected="application/json", found=content_type[:60]
        )
    data = read_data(model, envelope.type, document["data"])
    subject = envelope.subject if envelope.subject != "-" else None
    if subject is None:
        raise errors.MissingField(
            f"{envelope.type} needs the customer as its subject", field="subject", expected="a customer id"
        )
    return Event(
        source=envelope.source,
        event_id=envelope.id,
        type=envelope.type,
        customer=subject,
        occurred_at=envelope.time,
        data=data,
        data_text=_canonical_data(document["data"]),
        attributes_text=_other_attributes(document, envelope.time),
    )


def read_data(model: type[EventData], event_type: str, data: object) -> EventData:
    """The data of one event type, checked. Raises InvalidInput."""
    try:
        checked = model.model_validate(data)
    except ValidationError as error:
        raise _first_fault(error, prefix="data.", not_yet=NOT_YET_FIELDS.get(event_type, frozenset())) from None
    checked.check()
    return checked


def stored_event(
    *, source: str, event_id: str, type: str, customer: str | None, occurred_at: datetime,
    data_text: str, attributes_text: str | None,
) -> Event:  # fmt: skip
    """An event as it stands in the log, for replay."""
    model = EVENT_TYPES.get(type) or RESERVED_TYPES[type]
    return Event(
        source=source,
        event_id=event_id,
        type=type,
        customer=customer,
        occurred_at=occurred_at,
        data=model.model_validate(orjson.loads(data_text)),
        data_text=data_text,
        attributes_text=attributes_text,
    )


def own_event(
    *, source: str, event_id: str, type: str, customer: str | None, occurred_at: datetime, data: Mapping[str, Any]
) -> Event:  # fmt: skip
    """An event that the ledger itself writes: a sweep, a close, a setting."""
    return stored_event(
        source=source,
        event_id=event_id,
        type=type,
        customer=customer,
        occurred_at=occurred_at,
        data_text=canonical(dict(data)),
        attributes_text=None,
    )


def differences(event: Event, *, type: str, customer: str | None, occurred_at: datetime, data_text: str) -> list[str]:
    """Which members differ between an event and what is recorded under its key, by name; empty for a duplicate."""
    different = []
    if event.type != type:
        different.append("type")
    if event.customer != customer:
        different.append("subject")
    if event.occurred_at != occurred_at:
        different.append("time")
    if event.data_text != data_text:
        new, old = orjson.loads(event.data_text), orjson.loads(data_text)
        absent = object()
        different += [
            f"data.{key}" for key in sorted({*new, *old}) if new.get(key, absent) != old.get(key, absent)
        ] or ["data"]
    return different


def canonical(value: Any) -> str:
    """Any JSON value in canonical JSON (RFC 8785)."""
    return rfc8785.dumps(value).decode()


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with ``Z``, with microseconds only where there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _canonical_data(data: Any) -> str:
    # Checked data holds only strings, booleans, small integers, null and lists under ASCII keys: for these
    # orjson's sorted output is RFC 8785, at a tenth of the cost (a law compares the two).
    return orjson.dumps(data, option=orjson.OPT_SORT_KEYS).decode()


def _other_attributes(document: dict[str, Any], moment: datetime) -> str | None:
    others = {name: value for name, value in document.items() if name not in _ENVELOPE_COLUMNS}
    if document["time"] != format_time(moment):
        others["time"] = document["time"]
    if not others:
        return None
    for name, value in others.items():
        if (
            not (value is None or isinstance(value, str | bool | int))
            or abs(int(value) if isinstance(value, int) else 0) > 2**31
        ):
            raise InvalidEvent(
                f"the attribute {name[:60]} is not a CloudEvents value",
                field=name[:60],
                expected="a string, a boolean or a 32-bit integer",
                found=type(value).__name__,
            )
    return canonical(others)


def _unknown_type(type: str) -> InvalidInput:
    if type in NOT_YET_TYPES:
        return errors.NotSupportedYet(f"{type} is not built yet", field="type", found=type)
    if type in RESERVED_TYPES:
        return errors.ReservedEventType(
            f"{type} is written only by its own command",
            field="type",
            expected="an event of the contract",
            found=type,
        )
    return errors.UnknownEventType(
        f"{type[:100]} is not an event type", field="type", expected=", ".join(EVENT_TYPES), found=type[:100]
    )


_WRONG_TYPE = frozenset(
    {"string_type", "int_type", "bool_type", "list_type", "dict_type", "model_type", "model_attributes_type"}
)
_OWN_CODES: Final[dict[str, type[InvalidInput]]] = {
    error.code: error
    for error in (
        errors.WrongType, errors.InvalidValue, errors.NaiveTime, errors.TooManyDecimals, errors.UnknownCurrency,
    )
}  # fmt: skip


def _first_fault(error: ValidationError, *, prefix: str, not_yet: frozenset[str]) -> InvalidInput:
    """Pydantic's first finding as our error. Fields come in the model's order, unknown keys last."""
    fault = error.errors(include_url=False)[0]
    field = prefix + ".".join(str(part) for part in fault["loc"])
    kind, context = fault["type"], fault.get("ctx", {})
    found = "null" if fault["input"] is None else type(fault["input"]).__name__
    if kind in _OWN_CODES:
        return _OWN_CODES[kind](
            f"{field}: {context['message']}",
            field=field,
            expected=context["expected"],
            found=context["found"],
        )
    if kind == "missing":
        return errors.MissingField(f"{field} is missing", field=field, expected="present")
    if kind == "extra_forbidden":
        name = str(fault["loc"][-1])
        if name in not_yet:
            return errors.NotSupportedYet(f"{field} is not built yet", field=field, found=name)
        return errors.UnknownField(f"{field} is not a field of this event type", field=field[:200], found=name[:100])
    if kind in _WRONG_TYPE:
        return WrongType(f"{field}: {fault['msg']}", field=field, expected=fault["msg"], found=found)
    # Only a scalar is shown: the text of a list nested a thousand deep cannot be made.
    shown = str(fault["input"])[:60] if isinstance(fault["input"], str | int | float) else found
    return InvalidValue(f"{field}: {fault['msg']}", field=field, expected=fault["msg"], found=shown)
