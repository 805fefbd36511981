"""The canonical encoding of a recorded event, and the hashes made from it.

The encoding begins with one version byte, and has the columns in a fixed order:
- a text follows its length, and NULL differs from an empty text;
- a time is the number of microseconds since 1970, in 64 bits;
- credits are their shortest text;
- a decision is canonical JSON.

Every column of the event and of its entries is covered, so that every later change is found. Golden tests fix the
bytes. A new layout gets a new version byte.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from struct import Struct
from typing import Final

from subledger.events.envelope import Event
from subledger.kinds import Dimensions, Entry
from subledger.money import format_credits
from subledger.periods import MICROSECOND

VERSION: Final = b"\x01"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_int64 = Struct(">q").pack
_length = Struct(">I").pack
_entry_head = Struct(">HHqqiii").pack

NULL: Final = b"\x00"
_COHORT: Final = b"\x02"
_REFUNDABLE: Final = b"\x03"
_OWN: Final = b"\x04"
_OF_USAGE: Final = b"\x05"
_PRESENT: Final = tuple(b"\x01" + _length(size) for size in range(512))


def microseconds(moment: datetime) -> int:
    """A moment as whole microseconds since 1970-01-01T00:00:00Z."""
    return (moment - _EPOCH) // MICROSECOND


def _text(value: str | None) -> bytes:
    if value is None:
        return NULL
    encoded = value.encode()
    size = len(encoded)
    return (_PRESENT[size] if size < 512 else b"\x01" + _length(size)) + encoded


# Types, kinds, customers, blocks and products repeat; a look-up costs less than encoding.
_word = lru_cache(maxsize=1 << 16)(_text)


@lru_cache(maxsize=1 << 16)
def _credits(quantity: Decimal) -> bytes:
    return _text(format_credits(quantity))


@lru_cache(maxsize=1 << 12)
def _dimensions(of: Dimensions) -> bytes:
    # Newer dimensions are written only if an entry has them, so the bytes of other entries do not change. No text
    # begins with their tags, so the encoding stays unambiguous.
    later = _COHORT + _text(of.cohort) if of.cohort else b""
    if of.refundable:
        later += _REFUNDABLE + _text(of.refundable)
    if of.own:
        later += _OWN + _text(of.own)
    if of.usage:
        later += _OF_USAGE + _text(of.usage)
    return _text(of.product) + _text(of.credit_kind) + _text(of.pool) + later + _text(of.processor)


def encode(ledger: str, position: int, event: Event, decision_text: str, entries: tuple[Entry, ...]) -> bytes:
    """Returns the bytes under the leaf hash."""
    parts = [
        VERSION,
        _word(ledger),
        _int64(position),
        _word(event.source),
        _text(event.event_id),
        _word(event.type),
        _word(event.customer),
        _int64((event.occurred_at - _EPOCH) // MICROSECOND),
        _text(event.data_text),
        NULL if event.attributes_text is None else _text(event.attributes_text),
        _text(decision_text),
        _length(len(entries)),
    ]
    for entry in entries:
        parts += (
            _entry_head(
                entry.number,
                entry.policy,
                entry.amount_minor,
                entry.functional_minor,
                entry.accounting_date.toordinal() - _EPOCH_DAY,
                entry.effective_date.toordinal() - _EPOCH_DAY,
                entry.cut,
            ),
            _word(entry.kind),
            _word(entry.customer),
            _word(entry.block_id),
            _word(entry.unit),
            _credits(entry.credits),
            _word(entry.currency),
            _dimensions(entry.dimensions),
        )
    return b"".join(parts)


def batch_hash(
    ledger: str, first_position: int, last_position: int, recorded_at: datetime, root: bytes, previous: bytes
) -> bytes:
    """Returns the hash of a batch, over its positions, its time, the root of the tree after it, and the previous
    hash.
    """
    return hashlib.sha256(
        b"\x02"
        + VERSION
        + _text(ledger)
        + _int64(first_position)
        + _int64(last_position)
        + _int64(microseconds(recorded_at))
        + root
        + previous
    ).digest()
