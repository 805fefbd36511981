"""Rebuild: computes every derived row of a ledger from its events, in temporary tables, then replaces the live rows.

1. The log is replayed in a snapshot, share by share, without the lock. Its rows are staged in temporary tables.
2. Events that were recorded meanwhile are replayed too, again without the lock, until few events remain.
3. Under the ledger's lock the remaining events are replayed, and the live rows that differ are replaced in one commit.

Correct rows are not touched, so a healthy ledger does not change by a byte. The lock is held only for the remaining
events and a comparison.

A damaged log is never used: the hash of each event and the chain must be correct, and the head must be the last batch.
A rebuild that is killed changes nothing in the database: only its own connection sees the staged rows. If it is
resumable, the next rebuild continues from the saved progress and does not read the folded events again. Changes of
those events since then are found only by a verification. Owns: the swap. Does not own: the fold (folding, customers,
ledger), the saved progress (resumable), the comparison (integrity).

A writer uses its memory as long as the ledger's head has not changed since. A rebuild does not change the position and
the batch hash of the head. If it mends a row, it increases the head's count of rebuilds, so every writer discards data
that it may have loaded from a damaged row.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
from psycopg import sql

from projections.reads.snapshots import drop_wrong
from projections.replay.chain import read_head
from projections.replay.customers import Replayer
from projections.replay.derived_tables import DERIVED, DERIVED_BY_NAME, OF_CUSTOMERS, Derived, Key
from projections.replay.folding import Damage, Whole, fold, follow_own, spooled, take_all
from projections.replay.log_stream import EVERYTHING, WHOLE, read_events, recorded_days
from projections.replay.other_currencies import mend_other_currencies
from projections.replay.resumable import ResumableRuns, Start
from projections.replay.totals import rows_of_totals
from projections.replay.workers import Progress, database_snapshot, no_progress, shares_for, workers_for
from subledger.errors import IntegrityFault, UnknownLedger
from subledger.ledger import SETTINGS
from subledger.store.columns import EventRow
from subledger.store.database import Database, WriteConnection
from subledger.store.writing.collecting import collection_held_off
from subledger.store.writing.rows import decode_decision, parts_sql

FORGET: Final = """
-- Makes every writer discard its memory, which it uses only as long as the head (with this count) has not changed.
UPDATE ledgers SET replacements = replacements + 1 WHERE ledger = %s
"""
LOCK: Final = "SELECT position, recorded_at, batch_hash FROM ledgers WHERE ledger = %s FOR UPDATE"

STAGE: Final = """
-- An empty copy of a derived table that only this connection sees, until the commit.
CREATE TEMP TABLE {staged} (LIKE {live}) ON COMMIT DROP;
"""
INDEX: Final = "ALTER TABLE {staged} ADD PRIMARY KEY ({key})"
BY_CUSTOMER: Final = "CREATE INDEX ON {staged} (customer)"
STAGED_WALLETS: Final = f"""
-- The wallets of these customers, with their parts.
SELECT w.customer, w.position, w.state, {parts_sql("w.ledger", "rebuilt_wallet_parts")}
FROM rebuilt_wallets w WHERE w.customer = ANY(%s)
"""
REMOVE_STAGED_PARTS: Final = "DELETE FROM rebuilt_wallet_parts WHERE customer = ANY(%s)"
STAGED_BLOCKS: Final = """
-- The finished blocks of these customers; open ones are in their wallets.
SELECT block_id, customer, state FROM rebuilt_blocks WHERE customer = ANY(%s) AND NOT is_open
"""
STAGED_DOCUMENTS: Final = "SELECT kind, document_id, customer, state FROM rebuilt_documents WHERE customer = ANY(%s)"

# Rows are compared as text: 1 and 1.0 are equal numbers, but different bytes.
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


class RebuildCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of rows of each table: in total, removed, and written.

    ``position`` is the head of the log, through which the rows were computed.

    A changed row counts as removed and as written. For a healthy ledger ``removed`` and ``written`` are all zero.
    ``resumed_from``: the number of events not read again, because an interrupted rebuild had folded them.
    """

    ledger: str
    position: int = 0
    rows: dict[str, int]
    removed: dict[str, int] = {}
    written: dict[str, int] = {}
    resumed_from: int = 0


REBUILT: Final = (*DERIVED_BY_NAME, "other_currencies", "snapshots")
"""The tables that a rebuild repairs, by name; also names of the checks that find differences in them."""

_FEW: Final = 2_000  # maximum number of events that are replayed under the lock
_ROUNDS: Final = 5
_SPOOL: Final = "subledger-rebuild-"


def rebuild(
    database: Database,
    ledger: str,
    progress: Progress | None = None,
    *,
    workers: int | None = None,
    shares: int | None = None,
    resumable: ResumableRuns | None = None,
    resume: bool = False,
) -> RebuildCounts:
    """Replaces the ledger's derived rows by rows computed from its events. Needs the right to make temporary tables.

    ``workers`` and ``shares`` as in a verification. With ``resumable`` the progress is saved; with ``resume`` the
    rebuild continues an interrupted one. Saved progress is not used if it belongs to another log or cannot be read
    completely. It is deleted when the rows are correct. Raises UnknownLedger, and IntegrityFault with the position if
    the log is damaged. Then nothing is changed, and no progress is saved.
    """
    work = _Rebuild(database, ledger, progress or no_progress, resumable)
    try:
        counts = work.run(workers, shares, Start.RESUMED if resume else Start.ANEW)
    except IntegrityFault:
        if resumable is not None:
            resumable.forget()
        raise
    if resumable is not None:
        resumable.forget()
    return counts


class _Rebuild:
    def __init__(self, database: Database, ledger: str, progress: Progress, resumable: ResumableRuns | None) -> None:
        self._database = database
        self._ledger = ledger
        self._progress = progress
        self._resumable = resumable
        self._done = 0
        self._total = 0

    def run(self, workers: int | None, shares: int | None, start: Start) -> RebuildCounts:
        """Runs all steps, including the commit."""
        _remove_left_over()
        with tempfile.TemporaryDirectory(prefix=f"{_SPOOL}{os.getpid()}-") as name:
            spool = Path(name)
            folded = self._fold(spool, workers, shares, start)
            with self._database.write() as connection, collection_held_off():
                self._stage_customers(connection, spool)
                late = self._replayer(folded)
                for _ in range(_ROUNDS):
                    if self._follow(connection, folded, late) <= _FEW:
                        break
                head = connection.execute(LOCK, (self._ledger,)).fetchone()
                if head is None:
                    raise UnknownLedger(f"there is no ledger {self._ledger}", field="ledger", found=self._ledger)
                # A snapshot taken now sees every commit, and no other commit follows under the lock.
                self._follow(connection, folded, late)
                _check_head(folded, head)
                self._stage_ledger(connection, folded, late)
                counts = _swap(connection, self._ledger)
                functional_currency = folded.own.state.functional_currency
                others = mend_other_currencies(connection, self._ledger, functional_currency)
                counts.removed["other_currencies"], counts.written["other_currencies"] = others
                counts.removed["snapshots"], counts.written["snapshots"] = drop_wrong(connection, self._ledger), 0
                _mend_settings(connection, folded)
                if any(counts.removed.values()) or any(counts.written.values()):
                    connection.execute(FORGET, (self._ledger,))
        self._progress(self._done, self._done)
        return msgspec.structs.replace(counts, position=head[0], resumed_from=folded.resumed_from)

    def _fold(self, spool: Path, workers: int | None, shares: int | None, start: Start) -> Whole:
        with database_snapshot(self._database) as snapshot:
            connection = snapshot.connection
            head = read_head(connection, self._ledger)
            if head is None:
                raise UnknownLedger(f"there is no ledger {self._ledger}", field="ledger", found=self._ledger)
            self._total = head.position
            number = workers_for(connection, self._total, workers)
            of = shares or shares_for(connection, self._ledger, self._total, number)
            if self._resumable is not None:
                of = self._resumable.begin(connection, self._ledger, head, shares=of, start=start).shares
            folded = fold(
                snapshot,
                self._ledger,
                shares=of,
                workers=number,
                advance=self._advance,
                spool=spool,
                resumable=self._resumable,
            )
        if folded.damage is not None:
            raise _damaged(folded.damage)
        return folded

    def _advance(self, more: int) -> None:
        if more:
            self._done += more
            self._progress(self._done, max(self._done, self._total))

    # --- events recorded meanwhile ---------------------------------------------------------------------------

    def _replayer(self, folded: Whole) -> Replayer:
        """Returns the replayer that continues after the shares, with the customers of later events."""
        late = Replayer(self._ledger)
        late.state, late.position = folded.own.state, folded.own.position
        return late

    def _follow(self, connection: WriteConnection, folded: Whole, late: Replayer) -> int:
        """Replays the events recorded since. Returns their number."""
        chain = folded.followed
        after, known = chain.position, late.events
        with self._database.read() as reading:
            days = recorded_days(reading, self._ledger)
            chain.follow(reading, EVERYTHING, no_progress)
            damage = follow_own(reading, folded.own)
            if chain.findings:
                found = chain.findings.first
                damage = Damage(found.position or 0, found.message)
            for chunk in read_events(reading, self._ledger, WHOLE, after):
                if damage is not None:
                    break
                self._bring_back(connection, late, _customers(chunk) - late.wallets.keys())
                damage = take_all(reading, late, chunk, days, hashed=True)
        if damage is not None:
            raise _damaged(damage)
        late.settle_all()
        # Parts that have finished meanwhile have no new row that would replace their old one.
        connection.execute(REMOVE_STAGED_PARTS, (sorted(late.wallets),))
        for table in OF_CUSTOMERS:
            _replace(connection, self._ledger, DERIVED_BY_NAME[table], _rows(late, table))
        self._advance(late.events - known)
        return late.events - known

    def _bring_back(self, connection: WriteConnection, late: Replayer, customers: set[str]) -> None:
        names = (sorted(customers),)
        late.bring_back(
            connection.execute(STAGED_WALLETS, names).fetchall(),
            connection.execute(STAGED_BLOCKS, names).fetchall(),
            connection.execute(STAGED_DOCUMENTS, names).fetchall(),
        )

    # --- staging ----------------------------------------------------------------------------------------------

    def _stage_customers(self, connection: WriteConnection, spool: Path) -> None:
        for derived in DERIVED:
            connection.execute(_compose(STAGE, derived))
            for rows in spooled(spool, derived.name) if derived.name in OF_CUSTOMERS else ():
                _copy(connection, self._ledger, derived, rows)
            connection.execute(_compose(INDEX, derived))
            if derived.name in OF_CUSTOMERS:
                connection.execute(_compose(BY_CUSTOMER, derived))

    def _stage_ledger(self, connection: WriteConnection, folded: Whole, late: Replayer) -> None:
        """Stages the tables of the ledger as a whole: few rows, staged after the last event."""
        folded.totals.merge(late.totals)
        tables: dict[str, dict[Key, Any]] = {
            **folded.own.rows,
            **rows_of_totals(folded.totals),
            "merkle_nodes": {**folded.followed.nodes},
        }
        for name, rows in tables.items():
            _copy(connection, self._ledger, DERIVED_BY_NAME[name], ((*key, *values) for key, values in rows.items()))


def _remove_left_over() -> None:
    """Deletes the spooled files of killed rebuilds, which nobody can use."""
    for path in Path(tempfile.gettempdir()).glob(f"{_SPOOL}*"):
        process = path.name.removeprefix(_SPOOL).partition("-")[0]
        with suppress(FileNotFoundError):  # another rebuild has just ended, or deletes the same files
            if process.isdigit() and path.stat().st_uid == os.getuid() and not _is_alive(int(process)):
                shutil.rmtree(path, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _customers(chunk: list[EventRow]) -> set[str]:
    """Returns the customers whose wallets a chunk of events may change."""
    found = {logged.customer for logged in chunk}
    for logged in chunk:
        if '"customer"' in logged.decision_text:
            found |= {movement.customer for movement in decode_decision(logged.decision_text).movements}
    return {customer for customer in found if customer is not None}


def _rows(replay: Replayer, table: str) -> dict[Key, tuple[Any, ...]]:
    return {key: replay.row(table, key) for key in replay.keys(table)}


def _damaged(damage: Damage) -> IntegrityFault:
    return IntegrityFault(
        f"{damage.message}; run verify for all differences, and restore a backup", position=damage.position
    )


def _check_head(folded: Whole, head: tuple[Any, ...]) -> None:
    """Checks that the log ends at the ledger's head. Rows computed from a shorter log would hide the missing events."""
    chain = folded.followed
    if (chain.position, chain.moment, chain.hash) != (head[0], head[1], bytes(head[2])):
        message = f"the ledger's head at position {head[0]} is not its last batch"
        raise _damaged(Damage(chain.position, message))


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


def _swap(connection: WriteConnection, ledger: str) -> RebuildCounts:
    """Deletes live rows that are not staged, and inserts staged rows that are not live."""
    rows, removed, written = {}, {}, {}
    for derived in DERIVED:
        connection.execute(sql.SQL("ANALYZE {}").format(_staged(derived)))
        count = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(_staged(derived))).fetchone()
        rows[derived.name] = count[0] if count is not None else 0
        removed[derived.name] = connection.execute(_compose(REMOVE, derived), (ledger,)).rowcount
        written[derived.name] = connection.execute(_compose(WRITE, derived), (ledger, ledger)).rowcount
    return RebuildCounts(ledger=ledger, rows=rows, removed=removed, written=written)


def _replace(connection: WriteConnection, ledger: str, derived: Derived, rows: dict[Key, tuple[Any, ...]]) -> None:
    """Stages rows, replacing those already staged under the same keys."""
    if not rows:
        return
    same = sql.SQL(" AND ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in derived.key)
    with connection.cursor() as cursor:
        cursor.executemany(sql.SQL("DELETE FROM {} WHERE {}").format(_staged(derived), same), list(rows))
    _copy(connection, ledger, derived, ((*key, *values) for key, values in rows.items()))


def _copy(connection: WriteConnection, ledger: str, derived: Derived, rows: Iterable[tuple[Any, ...]]) -> None:
    into = sql.SQL("COPY {} (ledger, {}) FROM STDIN").format(_staged(derived), _list(derived.columns))
    with connection.cursor() as cursor, cursor.copy(into) as copy:
        for row in rows:
            copy.write_row((ledger, *row))


def _mend_settings(connection: WriteConnection, folded: Whole) -> None:
    """Corrects the settings and the frontier in the ledger's row, if they differ from the events."""
    state = folded.own.state
    names = (*SETTINGS, "frontier")
    values = [state.stored(name) for name in SETTINGS] + [folded.followed.frontier.to_bytes()]
    query = sql.SQL("UPDATE ledgers SET {} WHERE ledger = %s AND ({}) IS DISTINCT FROM ({})").format(
        sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in names),
        _list(names),
        sql.SQL(", ").join(sql.Placeholder() for _ in names),
    )
    connection.execute(query, (*values, state.ledger, *values))
