"""The last change of a setting outside the log: who made it, and when.

Owns: the shape. Does not own: the settings (targets, channels, monitors/settings).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from subledger.store.reading.queries import AnyConnection, rows


class LastChange(msgspec.Struct, frozen=True, kw_only=True):
    """The last change: by whom, and when."""

    at: datetime
    by: str


def last_change(connection: AnyConnection, query: str, where: Mapping[str, Any]) -> LastChange | None:
    """The change that ``query`` finds, as ``changed_at`` and ``changed_by``; None where it is as it ships."""
    found = rows(connection, query, where)
    return LastChange(at=found[0][0], by=found[0][1]) if found else None
