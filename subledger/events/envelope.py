"""Events as CloudEvents 1.0: facts from outside, and facts of the ledger itself.

Owns: the envelope, reading and checking one event, its canonical text. Does not own: the data of each type (data,
own_data), the check against the books (deciding).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final, Generic, Literal, TypeGuard

import msgspec
import orjson
import rfc8785
from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import TypeVar

from subledger import errors
from subledger.errors import InvalidEvent, InvalidInput, InvalidValue, WrongType
from subledger.events.data import EVENT_TYPES, is_ledger_wide
from subledger.events.fields import THIS_FIELD, EventData, Identifier, Time
from subledger.events.meanings import EXAMPLES
from subledger.events.opened import BalanceOpened
from subledger.events.own_data import OWN_FORMS, RESERVED_TYPES
from subledger.text.visible_text import visible
from subledger.text.wording import did_you_mean, json_type

# --- the envelope -------------------------------------------------------------------------------------------


_Data = TypeVar("_Data", bound=EventData)
_Data_co = TypeVar("_Data_co", bound=EventData, covariant=True, default=EventData)
"""The data of an event. ``Event`` by itself is an event of any type."""


class CloudEvent(BaseModel):
    """A CloudEvent 1.0 in structured JSON: the envelope. Extension attributes are stored."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    specversion: Literal["1.0"]
    id: Identifier
    source: Identifier
    type: Identifier
    subject: Identifier | None = None
    time: Time
    datacontenttype: str | None = None
    data: dict[str, Any]


class Event(msgspec.Struct, Generic[_Data_co], frozen=True, kw_only=True, gc=False):
    """One checked event, ready to be decided; generic over the class of its data.

    ``customer`` is None for events of the ledger as a whole. ``data_text`` is the data as received, in canonical JSON
    (RFC 8785). ``attributes_text`` has the attributes of the envelope, as received, that are not in other fields.
    """

    source: str
    event_id: str
    type: str
    customer: str | None
    occurred_at: datetime
    data: _Data_co
    data_text: str
    attributes_text: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        return (self.source, self.event_id)


def is_of(event: Event, data: type[_Data]) -> TypeGuard[Event[_Data]]:
    """Returns True if the data of an event is of this class."""
    return isinstance(event.data, data)


OWN_SOURCE: Final = "subledger"
"""The source of the ledger's own events. Nobody else may use it. A foreign event with the key of a later expiry would
block the sweep, and with it the close.
"""

_SURROGATE = re.compile("[\ud800-\udfff]")
ENVELOPE_COLUMNS: Final = frozenset({"specversion", "id", "source", "type", "subject", "time", "data"})


def read_event(value: object) -> Event:
    """One decoded JSON value as an event. Raises InvalidInput with the code and field of the first fault."""
    if not isinstance(value, dict):
        raise InvalidEvent("an event is a JSON object", expected="an object", found=json_type(value))
    if "data_base64" in value:
        raise InvalidEvent("data_base64 is not taken", field="data_base64", expected="JSON in data")
    try:
        envelope = CloudEvent.model_validate(value)
    except ValidationError as error:
        raise _first_fault(error, CloudEvent, prefix="") from None
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
    data = read_data(model, value["data"])
    subject = envelope.subject if envelope.subject != "-" else None
    if is_ledger_wide(envelope.type, data):
        if subject is not None:
            raise InvalidValue(
                f"{_named(envelope.type, data)} is of the ledger as a whole",
                field="subject",
                expected="absent, or -",
                found=subject,
            )
    elif subject is None and envelope.type != "event.reversed":
        raise errors.MissingField(
            f"{_named(envelope.type, data)} needs the customer as its subject",
            field="subject",
            expected="a customer id",
        )
    return Event(
        source=envelope.source,
        event_id=envelope.id,
        type=envelope.type,
        customer=subject,
        occurred_at=envelope.time,
        data=data,
        data_text=_canonical_data(value["data"]),
        attributes_text=_other_attributes(value, envelope.time),
    )


def _named(type: str, data: EventData) -> str:
    """An event's type for a sentence; of an opening balance with its role."""
    return f"{type} of {data.role}" if isinstance(data, BalanceOpened) else type


def read_data(model: type[_Data], data: object, *, prefix: str = "data.") -> _Data:
    """The data of one event type, checked; ``prefix`` goes before the names of fields. Raises InvalidInput."""
    if isinstance(data, dict) and len(data) > _SHOWN:
        # Refused before validation, because each unknown member would become a separate finding, perhaps millions.
        data = dict(sorted(data.items(), key=lambda member: member[0] not in model.model_fields)[:_SHOWN])
    try:
        checked = model.model_validate(data)
    except ValidationError as error:
        raise _first_fault(error, model, prefix=prefix) from None
    checked.check()
    return checked


def stored_event(
    *,
    source: str,
    event_id: str,
    type: str,
    customer: str | None,
    occurred_at: datetime,
    data_text: str,
    attributes_text: str | None,
) -> Event:
    """An event as it is in the log, for replay."""
    model = (OWN_FORMS.get(type) if source == OWN_SOURCE else None) or EVENT_TYPES.get(type) or RESERVED_TYPES[type]
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
) -> Event:
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
    """Returns the names of the members that differ from the event with the same key; none for a duplicate."""
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


def check_texts(root: Any, *, field: str) -> None:
    """Checks that no text or name in a JSON value contains NUL or a lone surrogate, which PostgreSQL cannot store.

    Raises InvalidValue with the name of the member, or ``field``, but without the text, which an answer cannot contain.
    """
    pending: list[tuple[str, Any]] = [(field, root)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, str):
            if "\x00" in value or not _is_unicode(value):
                raise InvalidValue(f"{path} cannot be kept as text", field=path, expected="Unicode without NUL")
        elif isinstance(value, Mapping):
            for name, item in value.items():
                check_texts(name, field=path)
                pending.append((name if value is root else f"{path}.{name}", item))
        elif isinstance(value, list | tuple):
            pending.extend((f"{path}.{number}", item) for number, item in enumerate(value))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def format_time(moment: datetime) -> str:
    """Returns a time as RFC 3339 in UTC with ``Z``. It has microseconds only if they are not 0."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _canonical_data(data: Any) -> str:
    # Checked data has only strings, booleans, small integers, null and lists under ASCII keys. For these, the sorted
    # output of orjson is RFC 8785, at a tenth of the cost (a test compares the two).
    return orjson.dumps(data, option=orjson.OPT_SORT_KEYS).decode()


def _other_attributes(event: dict[str, Any], moment: datetime) -> str | None:
    """The envelope's other attributes as they are stored. Their bounds apply only to new events (new_bounds)."""
    others = {name: value for name, value in event.items() if name not in ENVELOPE_COLUMNS}
    for name, value in others.items():
        _check_attribute(name, value)
    if event["time"] != format_time(moment):
        others["time"] = event["time"]
    return canonical(others) if others else None


def _check_attribute(name: str, value: Any) -> None:
    """Raises InvalidEvent for an attribute that canonical JSON cannot represent, or that no version has accepted."""
    if not (value is None or isinstance(value, str | bool | int)) or (
        isinstance(value, int) and not -(2**31) <= value <= 2**31
    ):
        raise InvalidEvent(
            f"the attribute {name[:60]} is not a CloudEvents value",
            field=name[:60],
            expected="a string, a boolean or a 32-bit integer",
            found=json_type(value),
        )
    if isinstance(value, str) and _SURROGATE.search(value):
        raise InvalidEvent(
            f"the attribute {name[:60]} has a character that no text can hold",
            field=name[:60],
            expected="Unicode without NUL and surrogates",
            found=value[:60],
        )


def _unknown_type(type: str) -> InvalidInput:
    if type in RESERVED_TYPES:
        return errors.ReservedEventType(
            f"{type} is written only by its own command", field="type", expected="an event of the contract", found=type
        )
    return errors.UnknownEventType(
        f"{type[:100]} is not an event type", field="type", expected=", ".join(EVENT_TYPES), found=type[:100]
    )


_SHOWN: Final = 100  # faults of one event, at most
_NEVER: Final = "; an expires_at that is null or absent means never"
_OWN_CODES: Final[dict[str, type[InvalidInput]]] = {
    error.code: error
    for error in (
        errors.WrongType,
        errors.InvalidValue,
        errors.NaiveTime,
        errors.TooManyDecimals,
        errors.UnknownCurrency,
    )
}


def _first_fault(error: ValidationError, model: type[BaseModel], *, prefix: str) -> InvalidInput:
    """Returns Pydantic's first finding as our error. Fields come in the order of the model, unknown keys last.

    The facts of the error list all missing and all unknown fields, so that one answer is enough to correct them.
    """
    found = error.errors(include_url=False)
    missing = [prefix + str(fault["loc"][-1]) for fault in found if fault["type"] == "missing"]
    unknown = [prefix + visible(str(f["loc"][-1])[:100]) for f in found[:_SHOWN] if f["type"] == "extra_forbidden"]
    facts: dict[str, Any] = {name: fields for name, fields in (("missing", missing), ("unknown", unknown)) if fields}
    fault = found[0]
    field = (prefix + ".".join(str(part) for part in fault["loc"])).removesuffix(".")[:200]
    kind, context, given = fault["type"], fault.get("ctx", {}), fault["input"]
    if kind in _OWN_CODES:
        message = context["message"] + (_NEVER if field.endswith("expires_at") else "")
        return _OWN_CODES[kind](
            field + message.removeprefix(THIS_FIELD) if message.startswith(THIS_FIELD) else f"{field}: {message}",
            field=field,
            expected=context["expected"],
            found=context["found"],
            **facts,
        )
    if kind == "missing":
        verb = "is" if len(missing) == 1 else "are"
        expected = _expected(model, fault["loc"])
        return errors.MissingField(f"{', '.join(missing)} {verb} missing", field=field, expected=expected, **facts)
    if kind == "extra_forbidden":
        name, allowed = str(fault["loc"][-1]), list(model.model_fields)
        return errors.UnknownField(
            f"{field} is not a field of this event type{did_you_mean(name, allowed)}",
            field=field,
            expected=f"one of {', '.join(allowed)}",
            found=name[:100],
            allowed=allowed,
            **facts,
        )
    if kind == "string_unicode":
        subject = field if fault["loc"] else f"the name {given}"
        return InvalidValue(
            f"{subject} cannot be kept as text",
            field=field or str(given)[:100],
            expected="Unicode without surrogates",
            found=str(given)[:100],
            **facts,
        )
    expected = _expected(model, fault["loc"])
    if kind.endswith("_type"):
        type_found = json_type(given)
        return WrongType(
            f"{field} must be {expected}; a JSON {type_found} is not",
            field=field,
            expected=expected,
            found=type_found,
            **facts,
        )
    # Only a scalar is shown, because a deeply nested list cannot be converted to text.
    shown = str(given)[:60] if isinstance(given, str | float) else json_type(given)
    if isinstance(given, int):  # Python writes no number of more than 4,300 digits
        shown = str(given) if abs(given) < 2**63 else "a number of many digits"
    if isinstance(given, str) and kind == "string_too_long":
        shown = f"{len(given)} characters"
    elif isinstance(given, list):
        shown = f"a list of {len(given)}"
    return InvalidValue(f"{field} must be {expected}", field=field, expected=expected, found=shown or '""', **facts)


@cache
def fields_of(model: type[BaseModel]) -> dict[str, dict[str, Any]]:
    """The fields of a model as JSON schema, each without its null and with an example; in the model's order."""
    properties = model.model_json_schema()["properties"]
    return {
        name: _with_example(name, {**schema, **schema["anyOf"][0]} if "anyOf" in schema else schema)
        for name, schema in properties.items()
    }


def _with_example(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    if "items" in schema:
        return {**schema, "items": _with_example(name, schema["items"])}
    return {**schema, "examples": [EXAMPLES[name]]} if name in EXAMPLES and "examples" in schema else schema


def described(schema: dict[str, Any]) -> str:
    """A field's values in words, from its JSON schema."""
    if "description" in schema:
        if "examples" not in schema:
            return str(schema["description"])
        [example, *_] = schema["examples"]
        return f"{schema['description']}, such as {example if isinstance(example, str) else canonical(example)}"
    if "const" in schema:
        return f'"{schema["const"]}"'
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    match schema.get("type"):
        case "boolean":
            return "true or false"
        case "integer" if "maximum" in schema:
            return f"a whole number from {schema['minimum']} to {schema['maximum']}"
        case "integer":
            return "a whole number"
        case "array":
            return f"a list of {schema['minItems']} to {schema['maxItems']} items, each {described(schema['items'])}"
        case "string":
            return "a string"
    return "an object"


def _expected(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    """The values that a field of a model takes, in words."""
    schema: dict[str, Any] = fields_of(model).get(str(location[0]), {}) if location else {}
    return described(schema.get("items", schema) if len(location) > 1 else schema)
