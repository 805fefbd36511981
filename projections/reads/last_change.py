"""The last change of a setting outside the log, with the user who made it and its time.

Owns: the shape. Does not own: the settings (targets, channels, monitors/settings).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from subledger.store.reading.queries import AnyConnection, rows


class LastChange(msgspec.Struct, frozen=True, kw_only=True):
    """The last change of a setting: its user and its time."""

    at: datetime
    by: str


def last_change(connection: AnyConnection, query: str, parameters: Mapping[str, Any]) -> LastChange | None:
    """Returns the change that ``query`` selects as ``changed_at`` and ``changed_by``; None for a default setting."""
    found = rows(connection, query, parameters)
    return LastChange(at=found[0][0], by=found[0][1]) if found else None
