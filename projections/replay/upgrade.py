"""Command: upgrading a database to this version: its schema, and the derived rows whose form has changed."""

from __future__ import annotations

from typing import Final

from projections.replay.rebuild import rebuild
from subledger.store.database import Database
from subledger.store.migrate import migrate, revision
from subledger.store.reading.ledgers import ledger_heads
from subledger.store.timeouts import Timeouts

_REBUILT_AFTER: Final = ("0001",)
"""Revisions of the schema in which derived rows had another form."""
_ALL: Final = 1_000_000


def upgrade(url: str, timeouts: Timeouts = Timeouts()) -> None:
    """Applies the missing migrations. Rebuilds the derived rows of every ledger if their form has changed."""
    before = revision(url)
    migrate(url)
    if before in _REBUILT_AFTER:
        database = Database(url, timeouts=timeouts)
        try:
            with database.read() as connection:
                heads = ledger_heads(connection, after="", limit=_ALL)
            for head, _ in heads:
                rebuild(database, head.state.ledger)
        finally:
            database.close()
