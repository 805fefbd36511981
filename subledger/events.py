"""Events: what the world tells the ledger, as CloudEvents 1.0.

Owns: the envelope, reading and checking one event, its canonical text.
Does not own: the data of each type (event_data), whether the books allow it (deciding).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeVar

import msgspec
import orjson
import rfc8785
from pydantic import BaseModel, ConfigDict, ValidationError

from subledger import errors
from subledger.errors import InvalidEvent, InvalidInput, InvalidJson, InvalidValue, WrongType
from subledger.event_data import EVENT_TYPES, LEDGER_WIDE, EventData, Identifier, Time
from subledger.own_event_data import RESERVED_TYPES

# --- the envelope -------------------------------------------------------------------------------------------


_Data = TypeVar("_Data", bound=EventData)


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


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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
        raise _first_fault(error, prefix="") from None
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
    data = read_data(model, document["data"])
    subject = envelope.subject if envelope.subject != "-" else None
    if envelope.type in LEDGER_WIDE:
        if subject is not None:
            raise InvalidValue(
                f"{envelope.type} is of the ledger as a whole", field="subject", expected="absent, or -", found=subject
            )
    elif subject is None:
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


def read_data(model: type[_Data], data: object, *, prefix: str = "data.") -> _Data:
    """The data of one event type, checked; ``prefix`` goes before the names of fields. Raises InvalidInput."""
    try:
        checked = model.model_validate(data)
    except ValidationError as error:
        raise _first_fault(error, prefix=prefix) from None
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


def check_texts(document: Any, *, field: str) -> None:
    """No text or name in a JSON value holds NUL or half a surrogate pair, which JSON can write and nothing can keep.

    Raises InvalidValue naming the member of the document that does, or ``field``; never the text, which no answer could
    hold either.
    """
    left: list[tuple[str, Any]] = [(field, document)]
    while left:
        place, value = left.pop()
        if isinstance(value, str):
            if "\x00" in value or not _is_unicode(value):
                raise InvalidValue(f"{place} cannot be kept as text", field=place, expected="Unicode without NUL")
        elif isinstance(value, Mapping):
            for name, item in value.items():
                check_texts(name, field=place)
                left.append((name if value is document else f"{place}.{name}", item))
        elif isinstance(value, list | tuple):
            left.extend((f"{place}.{number}", item) for number, item in enumerate(value))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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


def _first_fault(error: ValidationError, *, prefix: str) -> InvalidInput:
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
        return errors.UnknownField(f"{field} is not a field of this event type", field=field[:200], found=name[:100])
    if kind in _WRONG_TYPE:
        return WrongType(f"{field}: {fault['msg']}", field=field, expected=fault["msg"], found=found)
    # Only a scalar is shown: the text of a list nested a thousand deep cannot be made.
    shown = str(fault["input"])[:60] if isinstance(fault["input"], str | int | float) else found
    return InvalidValue(f"{field}: {fault['msg']}", field=field, expected=fault["msg"], found=shown)
