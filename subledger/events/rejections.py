"""Rejections: refused events, and the members of them that can be read.

The input may be an event that the books do not allow, an event with a fault, or a line that is not JSON. All readable
members are read, so that a person can see the customer and the amount that are missing from the books. Two rejections
are the same if their JSON values are equal; without JSON, if their bytes are equal.

Owns: reading a refused event, and the line for it in a file. Does not own: the table (store/rejected).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec
import orjson

from subledger.errors import InvalidInput, SubledgerError
from subledger.events.fields import parse_time
from subledger.money import MAX_CREDITS, MAX_MINOR, Money, exponent, plain
from subledger.text.json_text import loads

MAX_SENT: Final = 256 * 1024
"""Bytes of a refused event that are stored. A longer one is cut; its whole length and hash are stored.
"""
LONGEST_NAME: Final = 255
"""Characters of a source, an id, a type, a customer or a unit. A longer value is only in the stored text."""

_MONEY: Final = ("price", "amount", "value", "add_price")
_CREDITS: Final = ("credits", "add_credits")
_LONGEST_NUMBER: Final = 60
_BOM: Final = b"\xef\xbb\xbf"
_NO_JSON: Final = object()


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """A refused event as it was sent, and its readable members. ``sent`` may be cut; the hash covers the whole text."""

    content_hash: bytes
    sent: bytes
    sent_bytes: int
    source: str | None = None
    event_id: str | None = None
    type: str | None = None
    customer: str | None = None
    occurred_at: datetime | None = None
    data_hash: bytes | None = None
    money: Money | None = None
    credits: Decimal | None = None
    unit: str | None = None

    @property
    def rejection_id(self) -> str:
        """The id of the rejection. The same content has the same id."""
        return "rej-" + self.content_hash.hex()[:20]

    @property
    def whole(self) -> bool:
        return len(self.sent) == self.sent_bytes


def read_rejection(sent: bytes, *, decoded: bool = True) -> Rejection:
    """Reads the readable members of a refused event. ``decoded`` False: the text is not read as JSON."""
    try:
        content = loads(sent) if decoded else _NO_JSON
    except InvalidInput:
        content = _NO_JSON
    stored, size = sent[:MAX_SENT], len(sent)
    if not isinstance(content, dict):
        return Rejection(content_hash=_content_hash(sent, content), sent=stored, sent_bytes=size)
    source, event_id = _name(content.get("source")), _name(content.get("id"))
    subject, data = content.get("subject"), content.get("data")
    amount, quantity, unit, data_hash = None, None, None, None
    if isinstance(data, dict):
        amount, quantity = _money(data), _credits(data)
        unit = None if quantity is None else _name(data.get("unit", "credit")) or "credit"
        canonical = _canonical(data)
        data_hash = None if canonical is None else hashlib.sha256(canonical).digest()
    return Rejection(
        content_hash=_content_hash(sent, content),
        sent=stored,
        sent_bytes=size,
        # A key needs both parts: half a key finds no event.
        source=source if event_id else None,
        event_id=event_id if source else None,
        type=_name(content.get("type")),
        customer=None if subject == "-" else _name(subject),
        occurred_at=_moment(content.get("time")),
        data_hash=data_hash,
        money=amount,
        credits=quantity,
        unit=unit,
    )


def text_of(content: object) -> bytes:
    """A decoded JSON value as the text of a refused event, if the received text is not available."""
    with suppress(TypeError):  # nested too deep for orjson, or integers of more than 64 bits
        return orjson.dumps(content)
    with suppress(ValueError, RecursionError):
        return json.dumps(content).encode()
    return b"(nested too deep to be written)"


# --- a file of refused lines, which can be sent again -----------------------------------------------------------


def refused_line(number: int, line: bytes, error: SubledgerError) -> bytes:
    """A line of FILE.rejected.jsonl: the line number, the event as it was sent, and the error.

    The event is written in one of three forms:
    - JSON: byte by byte;
    - a JSON string, or text that is not JSON: as a string with the whole line;
    - bytes that are not UTF-8: in base64.
    """
    sent = line.strip(b"\r\n")
    event = b'"event": ' + sent.removeprefix(_BOM)
    if not _stands_as_it_is(sent):
        try:
            event = b'"event": ' + json.dumps(sent.decode(), ensure_ascii=False).encode()
        except UnicodeDecodeError:
            event = b'"event_base64": "' + base64.b64encode(sent) + b'"'
    return b'{"line": %d, %b, "error": %b}\n' % (number, event, orjson.dumps(error.as_document(), default=str))


def _stands_as_it_is(sent: bytes) -> bool:
    """True for JSON that can be a member of an object, except a string: a string stands for text that is not JSON."""
    with suppress(InvalidInput):
        return not isinstance(loads(sent), str) and bool(loads(b"[" + sent.removeprefix(_BOM) + b"]"))
    return False


def first_sent_as_text(content: object) -> bool:
    """True if the event in a line of FILE.rejected.jsonl is a text that is not decoded yet."""
    return isinstance(content, dict) and isinstance(content.get("event", ""), str)


def as_first_sent(content: object) -> bytes | None:
    """The event text in a line of FILE.rejected.jsonl, so that the file can be sent again; None for other content."""
    if not isinstance(content, dict) or not isinstance(content.get("error"), dict):
        return None
    if content.keys() == {"line", "event", "error"}:
        event = content["event"]
        with suppress(UnicodeEncodeError):
            return event.encode() if isinstance(event, str) else text_of(event)
    if content.keys() == {"line", "event_base64", "error"} and isinstance(content["event_base64"], str):
        with suppress(ValueError, binascii.Error):
            return base64.b64decode(content["event_base64"], validate=True)
    return None


# --- the members, as far as they can be read ----------------------------------------------------------------------


def _content_hash(sent: bytes, content: object) -> bytes:
    canonical = None if content is _NO_JSON else _canonical(content)
    return hashlib.sha256(b"text\x00" + sent if canonical is None else b"json\x00" + canonical).digest()


def _canonical(value: object) -> bytes | None:
    # The same call makes recorded events canonical, for all values that an event's data can have (events).
    with suppress(TypeError):
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return None


def _name(value: object) -> str | None:
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST_NAME or "\x00" in value:
        return None
    with suppress(UnicodeEncodeError):
        value.encode()
        return value
    return None


def _moment(value: object) -> datetime | None:
    with suppress(InvalidInput):
        return parse_time(value)
    return None


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    with suppress(InvalidOperation, ValueError):
        text = str(value).strip()
        found = Decimal(text) if len(text) <= _LONGEST_NUMBER else None
        # The exponent is checked first, because arithmetic on a number such as 1e999999999 overflows.
        if found is not None and found.is_finite() and -30 <= found.adjusted() <= 18 and abs(found) <= MAX_MINOR:
            return found
    return None


def _first(data: Mapping[str, Any], names: tuple[str, ...]) -> Decimal | None:
    return next((_decimal(data[name]) for name in names if data.get(name) is not None), None)


def _money(data: Mapping[str, Any]) -> Money | None:
    """The amount, to the nearest minor unit. A JSON number, or a currency in lower case, is a fault but still read."""
    amount, currency = _first(data, _MONEY), data.get("currency")
    if amount is None or not isinstance(currency, str) or len(currency) != 3:
        return None
    with suppress(InvalidInput):
        minor = round(amount.scaleb(exponent(currency.upper())))
        return Money(amount_minor=minor, currency=currency.upper()) if abs(minor) <= MAX_MINOR else None
    return None


def _credits(data: Mapping[str, Any]) -> Decimal | None:
    quantity = _first(data, _CREDITS)
    if quantity is None or abs(quantity) > MAX_CREDITS:
        return None
    return plain(round(quantity, 9))
