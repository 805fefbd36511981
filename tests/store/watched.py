"""Every statement that our code sends during the tests is checked by the rules of ``one_ledger`` before it is sent.

So the whole suite finds statements that could not run on the server of their ledger. Statements of the tests
themselves, to tamper or to read, are not checked.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg import sql

from subledger.store.distribution import sharded_tables
from tests.store.one_ledger import faults

ROOT: Final = Path(__file__).parents[2]
OURS: Final = tuple(f"{ROOT / name}/" for name in ("subledger", "projections", "api", "migrations"))
TESTS: Final = f"{ROOT / 'tests'}/"
SHARDED: Final = frozenset({*sharded_tables(), "journal_lines"})

CROSSES_LEDGERS: Final = {
    ("subledger/store/reading/ledgers.py", "ledger_heads"): "lists ledgers, one row of each",
    ("subledger/store/reading/ledgers.py", "ledgers_of"): "lists the ledgers of an entity, for reports over them",
    ("projections/close/expiry_sweeper.py", "ledgers_due"): "lists the ledgers that have an expiry to record",
}
"""Statements about more than one ledger, with the reason."""
ONE_SERVER: Final = {
    ("migrations/env.py", "<module>"): "migrations run on the coordinator, one at a time, by an advisory lock there"
}
"""Statements that are only for the coordinator."""

_kept: set[str] = set()


def _sender() -> tuple[str, str] | None:
    """Returns the file and the function that send the statement; None if a test or other code sends it."""
    frame: Any = sys._getframe(3)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(OURS):
            return str(Path(name).relative_to(ROOT)), frame.f_code.co_name
        if name.startswith(TESTS):
            return None
        frame = frame.f_back
    return None


def _judge(query: Any, connection: Any) -> None:
    text = query.as_string(connection) if isinstance(query, sql.Composable) else str(query)
    if text in _kept:
        return
    sender = _sender()
    if sender is None or sender in ONE_SERVER or sender[0].startswith("migrations/"):
        return
    found = faults(text, SHARDED, crosses=sender in CROSSES_LEDGERS)
    if found:
        raise AssertionError(f"{'; '.join(found)}: {sender[0]}, {sender[1]}:\n{text}")
    _kept.add(text)


class WatchedCursor(psycopg.Cursor[Any]):
    """A cursor whose statements are checked."""

    def execute(self, query: Any, *arguments: Any, **options: Any) -> Any:
        _judge(query, self.connection)
        return super().execute(query, *arguments, **options)

    def executemany(self, query: Any, *arguments: Any, **options: Any) -> Any:
        _judge(query, self.connection)
        return super().executemany(query, *arguments, **options)

    def copy(self, statement: Any, *arguments: Any, **options: Any) -> Any:
        _judge(statement, self.connection)
        return super().copy(statement, *arguments, **options)


class WatchedServerCursor(WatchedCursor, psycopg.ServerCursor[Any]):
    """A cursor on the server whose statements are checked."""


class WatchedRawCursor(psycopg.RawCursor[Any], WatchedCursor):
    """A cursor for numbered placeholders whose statements are checked."""


def watch_statements() -> None:
    """Watches every connection of every engine from now on."""
    psycopg.RawCursor = WatchedRawCursor  # type: ignore[misc]  # no code gets one from a connection

    @sa.event.listens_for(sa.pool.Pool, "connect")
    def watch(connection: Any, _record: Any) -> None:
        connection.cursor_factory = WatchedCursor
        connection.server_cursor_factory = WatchedServerCursor
