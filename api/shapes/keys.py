"""Keys as JSON, without their secret; a new key has its secret once."""

from __future__ import annotations

from datetime import datetime

import msgspec

from api.keys import Key, NewKey
from api.shapes.answers import JsonObject
from subledger.events.envelope import format_time

_MOMENTS = ("created_at", "expires_at", "revoked_at", "last_used_at")


def moment(at: datetime | None) -> str | None:
    return None if at is None else format_time(at)


def key(found: Key) -> JsonObject:
    """Returns a key without its secret."""
    answer: JsonObject = msgspec.to_builtins(found)
    return {**answer, **{name: moment(getattr(found, name)) for name in _MOMENTS}}


def new_key(made: NewKey) -> JsonObject:
    """Returns a new key with its secret."""
    return {"key": made.secret, **key(made.key)}
