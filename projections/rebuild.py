"""Rebuilding: every derived row of a ledger from its events, made beside the live ones, then swapped.

The replay runs in a snapshot, without the lock, into temporary tables. Then the ledger's lock is taken, what was
recorded meanwhile is replayed too, and the live rows that differ are replaced, in one commit. Rows that are right are
not touched: a healthy ledger is left byte for byte as it was, and the lock is held for a comparison.

Nothing is ever made from a log that is not whole: each event must be what was hashed, the tree must have the root of
the last batch, and the head must be that batch. Owns: the swap. Does not own: the fold (replay), the proof (integrity).

A writer trusts its memory while the head is the one it was true at. The head's position and batch hash do not move
here; its count of rebuilds does when a row was mended, so that every writer forgets what it may have loaded damaged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import psycopg
from psycopg import sql

from projections.integrity.other_currencies import mend_other_currencies
from projections.replay import DERIVED, Derived, Replayer, Rows, read_batches, read_events
from projections.snapshots import drop_wrong
from subledger import merkle
from subledger.encoding import encode
from subledger.errors import IntegrityFault, UnknownLedger
from subledger.ledger import LedgerState
from subledger.store.database import Database, WriteConnection

_SETTINGS: Final = tuple(name for name in LedgerState.__struct_fields__ if name != "ledger")

FORGET: Final = """
-- Makes every writer forget what it has loaded: a memory is trusted only while the head is the one it was true at.
UPDATE ledgers SET rebuilds = rebuilds + 1 WHERE ledger = %s
"""
LOCK: Final = "SELECT position, recorded_at, batch_hash FROM ledgers WHERE ledger = %s FOR UPDATE"

STAGE: Final = """
-- An empty copy of a derived table, seen by this connection alone, until the commit.
CREATE TEMP TABLE {staged} (LIKE {live}) ON COMMIT DROP;
ALTER TABLE {staged} ADD PRIMARY KEY ({key})
"""
# Rows are compared as text: 1 and 1.0 are the same number and not the same bytes. The rebuilt rows are on the server
# that this connection is to, the live ones maybe on another: MATERIALIZED lets one side be sent to the other.
REMOVE: Final = """
-- Live rows that are not, byte for byte, among the rebuilt ones.
WITH s AS MATERIALIZED (SELECT * FROM {staged})
DELETE FROM {live} l WHERE l.ledger = %s AND NOT EXISTS (
    SELECT FROM s WHERE {same_key} AND ROW({staged_columns})::text = ROW({live_columns})::text)
"""
WRITE: Final = """
-- Rebuilt rows that are not live.
WITH l AS MATERIALIZED (SELECT {key} FROM {live} WHERE ledger = %s)
INSERT INTO {live} (ledger, {columns})
SELECT %s, {staged_columns} FROM {staged} s WHERE NOT EXISTS (SELECT FROM l WHERE {same_key})
"""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows each table holds now; how many were taken out of it, and put into it, to get there.

    A row that was changed counts in both. A healthy ledger has nothing but zeros in ``removed`` and ``written``.
    """

    ledger: str
    rows: dict[str, int]
    removed: dict[str, int] = {}
    written: dict[str, int] = {}


Progress = Callable[[int, int], None]
"""Events done, events in all."""


def rebuild(database: Database, ledger: str, progress: Progress | None = None) -> Counts:
    """Replaces the ledger's derived rows by what its events make them. Needs the right to make temporary tables.

    Raises UnknownLedger; IntegrityFault, naming the position, where the log itself is damaged: then nothing is changed.
    """
    replay = Replayer(ledger)
    _follow(database, replay, progress)
    with database.write() as connection:
        for derived in DERIVED:
            connection.execute(_compose(STAGE, derived))
        rows = _stage(connection, ledger, replay)
        head = connection.execute(LOCK, (ledger,)).fetchone()
        if head is None:
            raise UnknownLedger(f"there is no ledger {ledger}", field="ledger", found=ledger)
        # A snapshot taken now sees every commit there is, and under the lock there will be no other.
        last = _follow(database, replay, progress)
        _check_head(replay, last, head)
        rows = _stage(connection, ledger, replay)
        removed, written = {}, {}
        for derived in DERIVED:
            connection.execute(sql.SQL("ANALYZE {}").format(_staged(derived)))
            removed[derived.name] = connection.execute(_compose(REMOVE, derived), (ledger,)).rowcount
            written[derived.name] = connection.execute(_compose(WRITE, derived), (ledger, ledger)).rowcount
        home = replay.state.functional_currency
        others = mend_other_currencies(connection, ledger, home)
        removed["other_currencies"], written["other_currencies"] = others
        removed["snapshots"], written["snapshots"] = drop_wrong(connection, ledger), 0
        _mend_settings(connection, replay)
        if any(removed.values()) or any(written.values()):
            connection.execute(FORGET, (ledger,))
    return Counts(ledger=ledger, rows=rows, removed=removed, written=written)


def _follow(database: Database, replay: Replayer, progress: Progress | None) -> Any:
    """Replays what is recorded after the replayer's position. Returns the last batch of it, or None."""
    ledger, last = replay.state.ledger, None
    with database.read() as connection:
        total = connection.exec_driver_sql("SELECT position FROM ledgers WHERE ledger = %s", (ledger,)).scalar() or 0
        batches = read_batches(connection, ledger, replay.position)
        for logged in read_events(connection, ledger, replay.position):
            if last is None or logged.position > last.last_position:
                last = next(batches, None)
            if logged.position != replay.position + 1 or last is None or logged.position < last.first_position:
                raise _damaged(replay.position + 1, "the log is not whole: an event or its batch is missing")
            try:
                _, entries = replay.take(logged, last.recorded_at)
            except Exception as error:  # whatever a changed log may lead to
                raise _damaged(logged.position, f"position {logged.position} cannot be replayed: {error!r}") from error
            encoding = encode(ledger, logged.position, logged.event, logged.decision_text, entries)
            if merkle.leaf_hash(encoding) != logged.leaf:
                raise _damaged(logged.position, f"position {logged.position} has been changed: its hash is another")
            if progress is not None and logged.position % 1000 == 0:
                progress(logged.position, max(logged.position, total))
        if last is None:
            last = connection.exec_driver_sql(
                "SELECT last_position, recorded_at, root, hash FROM batches WHERE ledger = %s"
                " ORDER BY last_position DESC LIMIT 1", (ledger,),
            ).one_or_none()  # fmt: skip
    if progress is not None:
        progress(replay.position, replay.position)
    return last


def _damaged(position: int, message: str) -> IntegrityFault:
    return IntegrityFault(f"{message}; verify says more, and a backup mends it", position=position)


def _check_head(replay: Replayer, last: Any, head: tuple[Any, ...]) -> None:
    """The log must end where the head says it does: rows made from less would hide what is missing."""
    if last is None or bytes(last.root) != replay.frontier.root() or last.last_position != replay.position:
        raise _damaged(replay.position, "the tree over the events has another root than the last batch")
    if (last.last_position, last.recorded_at, bytes(last.hash)) != (head[0], head[1], bytes(head[2])):
        raise _damaged(replay.position, f"the ledger's head at position {head[0]} is not its last batch")


# --- the swap -------------------------------------------------------------------------------------------------


def _staged(derived: Derived) -> sql.Identifier:
    return sql.Identifier(f"rebuilt_{derived.name}")


def _list(names: tuple[str, ...], of: str | None = None) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(of, name) if of else sql.Identifier(name) for name in names)


def _compose(query: str, derived: Derived) -> sql.Composed:
    return sql.SQL(query).format(
        live=sql.Identifier(derived.name),
        staged=_staged(derived),
        key=_list(derived.key),
        columns=_list(derived.columns),
        staged_columns=_list(derived.columns, "s"),
        live_columns=_list(derived.columns, "l"),
        same_key=sql.SQL(" AND ").join(
            sql.SQL("{} = {}").format(sql.Identifier("s", name), sql.Identifier("l", name)) for name in derived.key
        ),
    )


def _stage(connection: WriteConnection, ledger: str, replay: Replayer) -> dict[str, int]:
    """Puts the rows that are new or other since the last time beside the live ones. Returns how many there are."""
    counts = {}
    for derived, rows in zip(DERIVED, replay.changed_rows().values(), strict=True):
        _replace(connection, ledger, derived, rows)
        row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(_staged(derived))).fetchone()
        counts[derived.name] = row[0] if row is not None else 0
    return counts


def _replace(connection: WriteConnection, ledger: str, derived: Derived, rows: Rows) -> None:
    if not rows:
        return
    with connection.cursor() as cursor:
        # On the second time, what was recorded meanwhile: a few rows, that may be there already.
        same = sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in derived.key)
        gone = sql.SQL("DELETE FROM {} WHERE {}").format(_staged(derived), same)
        if _any_row(cursor, derived):
            cursor.executemany(gone, list(rows))
        into = sql.SQL("COPY {} (ledger, {}) FROM STDIN").format(_staged(derived), _list(derived.columns))
        with cursor.copy(into) as copy:
            for key, values in rows.items():
                copy.write_row((ledger, *key, *values))


def _any_row(cursor: psycopg.Cursor[tuple[Any, ...]], derived: Derived) -> bool:
    return cursor.execute(sql.SQL("SELECT 1 FROM {} LIMIT 1").format(_staged(derived))).fetchone() is not None


def _mend_settings(connection: WriteConnection, replay: Replayer) -> None:
    """The settings in the ledger's row, and its frontier, where they are not what the events make them."""
    names = (*_SETTINGS, "frontier")
    values = [replay.state.stored(name) for name in _SETTINGS] + [replay.frontier.to_bytes()]
    query = sql.SQL("UPDATE ledgers SET {} WHERE ledger = %s AND ({}) IS DISTINCT FROM ({})").format(
        sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in names),
        _list(names),
        sql.SQL(", ").join(sql.Placeholder() for _ in names),
    )
    connection.execute(query, (*values, replay.state.ledger, *values))
