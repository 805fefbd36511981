"""Bounds that older recorded events may exceed. They are checked only for events that are not recorded yet.

A recorded event that is sent again is a duplicate, under any later rules (source and id are the idempotency key). So
reading an event refuses only what every version has refused. Newer rules are checked only for new events, as for new
ids.

Owns: names, number and text of extension attributes, the text of a scope, names of own dimensions, the last days of
currencies for new sales and payments. Does not own: their types (events), the currencies that were withdrawn
(withdrawn_currencies).
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

import orjson

from subledger.accounting_dates import effective_date_of
from subledger.errors import InvalidEvent, InvalidValue, UnknownCurrency, UnknownField
from subledger.events.data import EVENT_TYPES
from subledger.events.envelope import ENVELOPE_COLUMNS, OWN_SOURCE, Event
from subledger.ledger import LedgerState
from subledger.text.wording import did_you_mean
from subledger.withdrawn_currencies import WITHDRAWN

MAX_ATTRIBUTES: Final = 64
"""Extension attributes of one event."""
MAX_ATTRIBUTE_NAME: Final = 64
"""CloudEvents recommends at most 20."""
MAX_ATTRIBUTES_TEXT: Final = 65_536
"""Bytes of an event's extension attributes together, as they are stored: canonical JSON in UTF-8. The fields of the
data are bounded one by one, so no event is larger than 256 KiB. A test builds the largest event and compares it with
this size.
"""
MAX_SCOPE_TEXT: Final = 8_192
"""Characters of all products of a scope together. They are limited because a wallet has the scope of each open block.
"""

_ATTRIBUTE_NAME = re.compile(r"[a-z0-9]+", re.ASCII)


_BEGINNING: Final = frozenset({"credits.purchased", "credits.granted", "credits.consumed", "payment.received"})
"""Events that begin something new in a currency. Other events settle amounts that are owed, held or unbilled in it."""


def check_new_bounds(event: Event, state: LedgerState) -> None:
    """Checks an event that is not recorded yet. Raises InvalidEvent, InvalidValue, UnknownCurrency, UnknownField."""
    if event.source == OWN_SOURCE:
        return
    currency: str | None = getattr(event.data, "currency", None)
    if currency in WITHDRAWN and event.type in _BEGINNING:
        _check_currency(event, currency, state)
    if event.attributes_text is not None:
        _check_attributes(event.attributes_text)
    dimensions: dict[str, str] | None = getattr(event.data, "dimensions", None)
    if dimensions:
        _check_dimensions(dimensions, state)
    scope: list[str] | None = getattr(event.data, "scope", None)
    if scope is not None and (length := sum(map(len, scope))) > MAX_SCOPE_TEXT:
        raise InvalidValue(
            "the products of data.scope are too long together",
            field="data.scope",
            expected=f"at most {MAX_SCOPE_TEXT} characters together",
            found=f"{length} characters",
        )


def _check_dimensions(dimensions: dict[str, str], state: LedgerState) -> None:
    """Raises UnknownField if a name is none of the ledger's own dimensions."""
    unknown = [name for name in dimensions if name not in state.dimensions]
    if unknown:
        known = ", ".join(state.dimensions) or "none"
        raise UnknownField(
            f"ledger {state.ledger} has no dimension {', '.join(unknown)}{did_you_mean(unknown[0], state.dimensions)}; "
            f"its dimensions are: {known}; add one: "
            f"`subledger ledger configure {state.ledger} --dimension {unknown[0]}`",
            field=f"data.dimensions.{unknown[0]}",
            expected=f"one of: {known}",
            found=unknown[0],
            allowed=list(state.dimensions),
        )


def _check_currency(event: Event, currency: str, state: LedgerState) -> None:
    """Raises UnknownCurrency if the event begins something in a currency after its last day."""
    withdrawn, day = (
        WITHDRAWN[currency],
        effective_date_of(event.type, event.occurred_at, state.zone, state.accounting_rules),
    )
    if day > withdrawn.last_day:
        raise UnknownCurrency(
            f"{currency} was a currency until {withdrawn.last_day}, and {withdrawn.successor} followed; the event "
            f"is of {day}",
            field="data.currency",
            expected=f"{withdrawn.successor}, or an event of {withdrawn.last_day} or before",
            found=currency,
        )


def _check_attributes(text: str) -> None:
    """Checks extension attributes by the rules of CloudEvents 1.0 and our bounds."""
    attributes: dict[str, Any] = orjson.loads(text)
    attributes.pop("time", None)  # the original text of ``time`` is stored with them, but belongs to the envelope
    if len(attributes) > MAX_ATTRIBUTES:
        raise InvalidEvent(
            f"an event has at most {MAX_ATTRIBUTES} extension attributes",
            field=list(attributes)[MAX_ATTRIBUTES][:60],
            expected=f"at most {MAX_ATTRIBUTES} attributes",
            found=str(len(attributes)),
        )
    for name, value in attributes.items():
        if len(name) > MAX_ATTRIBUTE_NAME or not _ATTRIBUTE_NAME.fullmatch(name):
            raise InvalidEvent(
                f"{name[:60]} is not the name of a CloudEvents attribute"
                f"{did_you_mean(name, ENVELOPE_COLUMNS)}{_belongs_in_data(name)}",
                field=name[:60],
                expected=f"1 to {MAX_ATTRIBUTE_NAME} lower-case letters and digits",
                found=name[:60],
            )
        if isinstance(value, str) and "\0" in value:
            raise InvalidEvent(
                f"the attribute {name} has a character that no text can hold",
                field=name,
                expected="Unicode without NUL and surrogates",
                found=value[:60],
            )
        if isinstance(value, int) and value == 2**31:
            raise InvalidEvent(
                f"the attribute {name} is not a CloudEvents value",
                field=name,
                expected="a string, a boolean or a 32-bit integer",
                found="integer",
            )
    if len(text.encode()) > MAX_ATTRIBUTES_TEXT:
        raise InvalidEvent(
            f"the extension attributes of an event have at most {MAX_ATTRIBUTES_TEXT} bytes together",
            field=max(attributes, key=lambda name: len(str(attributes[name]))),
            expected=f"at most {MAX_ATTRIBUTES_TEXT} bytes",
            found="more",
        )


@cache
def _fields_of_data() -> frozenset[str]:
    return frozenset(name for model in EVENT_TYPES.values() for name in model.model_fields)


def _belongs_in_data(name: str) -> str:
    return f"; {name} is a field of data" if name in _fields_of_data() else ""
