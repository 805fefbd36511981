"""Rebuilding: every derived row of a ledger from its events, made beside the live ones, then swapped.

The replay runs in a snapshot, without the lock. Then the ledger's lock is taken, what was recorded meanwhile is
replayed too, and the rows are replaced in one commit. A writer's memory stays right: rows are replaced by what its
own events make them, and the head by which a memory is trusted does not move.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from projections.replay import Replayer, read_log
from subledger.errors import UnknownLedger
from subledger.store.database import Database

BATCH_TIMES: Final = """
-- The moments of the batches after a position.
SELECT last_position, recorded_at FROM batches WHERE ledger = :ledger AND last_position > :after
"""
_COLUMNS: Final = {
    "wallets": "customer, position, state",
    "blocks": "block_id, customer, invoice_id, opened_at_position, expires_at, is_open, state",
    "documents": "kind, document_id, customer, state",
    "dimension_sets": "dimension_set, product, credit_kind, pool, processor",
    "ledger_days": "accounting_date, recorded_date, cut, currency, policy, kind, dimension_set, unit, written_minor,"
    " mirrored_minor, functional_written_minor, functional_mirrored_minor, credits, entries",
    "merkle_nodes": "level, index, hash",
}


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows each table was given."""

    ledger: str
    rows: dict[str, int]


def rebuild(database: Database, ledger: str, progress: Callable[[int, int], None] | None = None) -> Counts:
    """Replaces the ledger's derived rows by what its events make them. Raises UnknownLedger."""
    replay = Replayer(ledger)
    with database.read() as connection:
        position = _advance(connection, replay, 0, progress)
    with database.engine.begin() as connection:
        locked = connection.execute(
            sa.text("SELECT position FROM ledgers WHERE ledger = :ledger FOR UPDATE"), {"ledger": ledger}
        ).one_or_none()
        if locked is None:
            raise UnknownLedger(f"there is no ledger {ledger}", field="ledger", found=ledger)
        _advance(connection, replay, position, progress)
        counts = {}
        for table, rows in replay.tables().items():
            connection.execute(sa.text(f"DELETE FROM {table} WHERE ledger = :ledger"), {"ledger": ledger})
            copied = [(ledger, *key, *values) for key, values in rows.items()]
            _copy(connection, table, copied)
            counts[table] = len(copied)
    return Counts(ledger=ledger, rows=counts)


def _advance(
    connection: sa.Connection, replay: Replayer, after: int, progress: Callable[[int, int], None] | None
) -> int:
    """Replays what comes after a position. Returns the last one."""
    batches = connection.execute(sa.text(BATCH_TIMES), {"ledger": replay.state.ledger, "after": after})
    moments = {row.last_position: row.recorded_at for row in batches}
    last = max(moments, default=after)
    for logged in read_log(connection, replay.state.ledger, after):
        replay.nodes += replay.frontier.append(logged.leaf)
        replay.take(logged, moments[logged.batch])
        if progress is not None and logged.position % 1000 == 0:
            progress(logged.position, last)
    return last


def _copy(connection: sa.Connection, table: str, rows: list[tuple[Any, ...]]) -> None:
    cursor = connection.connection.cursor()
    with cursor.copy(f"COPY {table} (ledger, {_COLUMNS[table]}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
    cursor.close()
