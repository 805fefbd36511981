"""Folding a log in parts: the jobs of a replay, share by share, for a rebuild or for reading only.

Owns: the work on one share, with the check of each event's hash; saving the progress, if it is resumable. Does not own:
the fold (customers, ledger), the staging of its rows (rebuild). Memory: one share and a chunk of the log.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from projections.replay.chain import Chain, follow_chain
from projections.replay.customers import Replayer
from projections.replay.derived_tables import OF_CUSTOMERS
from projections.replay.ledger import LedgerReplayer
from projections.replay.log_stream import (
    OF_THE_LEDGER,
    Members,
    RecordedDays,
    Share,
    read_events,
    read_events_where,
    recorded_at,
    recorded_days,
)
from projections.replay.resumable import SAVED_EVERY, Part, ResumableRuns, load
from projections.replay.totals import Totals
from projections.replay.workers import Advance, DatabaseSnapshot, Job, database_snapshot, no_progress, workers_for
from subledger import merkle
from subledger.encoding import encode
from subledger.errors import present
from subledger.ledger import LedgerState
from subledger.store.columns import EventRow
from subledger.store.database import Database, driver

_ROWS_A_CHUNK: Final = 1_000


class Damage(msgspec.Struct, frozen=True, order=True):
    """A fault in the log: its position and its description."""

    position: int
    message: str


class Folded(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one share, without the rows of its customers, which are spooled.

    ``resumed_from``: the number of its events folded before an interruption.
    """

    events: int
    resumed_from: int
    totals: Totals
    state: LedgerState
    damage: Damage | None = None


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a whole ledger, without the rows of customers. ``resumed_from`` as in its shares."""

    chain: Chain | None
    own: LedgerReplayer
    totals: Totals
    events: int
    resumed_from: int = 0
    damage: Damage | None = None

    @property
    def followed(self) -> Chain:
        """The chain, if it was followed. Raises IntegrityFault."""
        return present(self.chain, "the log was folded without following its chain")


def fold(
    snapshot: DatabaseSnapshot,
    ledger: str,
    *,
    shares: int,
    workers: int,
    advance: Advance,
    spool: Path | None = None,
    resumable: ResumableRuns | None = None,
) -> Whole:
    """Folds a ledger's log as it is in a database snapshot.

    With ``spool``, the hash of each event and the chain are checked, and the rows of customers are written to that
    directory. Without ``spool``, the log is only folded. With ``resumable``, every part continues from its saved
    progress, in the same number of shares, and saves its progress.
    """

    def part(name: str) -> Part | None:
        return resumable.part(name) if resumable is not None else None

    days = recorded_days(snapshot.connection, ledger)
    jobs: list[Job] = [
        (fold_share, (ledger, Share(number, shares), days, spool, part(f"share-{number}"))) for number in range(shares)
    ]
    jobs.append((fold_own, (ledger, part("ledger"))))
    if spool is not None:
        jobs.insert(0, (follow_chain, (ledger, part("chain"))))
    results = snapshot.run(jobs, workers, advance)
    chain: Chain | None = results.pop(0) if spool is not None else None
    own, own_damage = results.pop()
    totals, damages = Totals(), [damage for damage in (own_damage, _of_chain(chain)) if damage is not None]
    for folded in results:
        totals.merge(folded.totals)
        damages += [folded.damage] if folded.damage is not None else []
    return Whole(
        chain=chain,
        own=own,
        totals=totals,
        events=sum(folded.events for folded in results),
        resumed_from=sum(folded.resumed_from for folded in results),
        damage=min(damages, default=None),
    )


def replay(database: Database, ledger: str, *, workers: int | None = None, shares: int | None = None) -> Whole:
    """Folds a ledger's log into wallets and totals, without writing to the database."""
    with database_snapshot(database) as snapshot:
        row = (
            driver(snapshot.connection).execute("SELECT position FROM ledgers WHERE ledger = %s", (ledger,)).fetchone()
        )
        number = workers_for(snapshot.connection, row[0] if row is not None else 0, workers)
        return fold(snapshot, ledger, shares=shares or number, workers=number, advance=no_progress)


def _of_chain(chain: Chain | None) -> Damage | None:
    if chain is None or not chain.findings:
        return None
    return min(Damage(found.position or 0, found.message) for found in chain.findings.all())


# --- the jobs of workers ----------------------------------------------------------------------------------------------


def fold_own(
    connection: sa.Connection, _advance: Advance, ledger: str, part: Part | None
) -> tuple[LedgerReplayer, Damage | None]:
    own = load(part, LedgerReplayer) or LedgerReplayer(ledger)
    damage = follow_own(connection, own)
    _end(part, own, damage)
    return own, damage


def follow_own(connection: sa.Connection, own: LedgerReplayer) -> Damage | None:
    """Folds the ledger's own part to the end of a snapshot's log. Returns a fault, or None."""
    for chunk in read_events_where(connection, own.state.ledger, OF_THE_LEDGER, own.position):
        for logged in chunk:
            try:
                own.take(logged)
            except Exception as error:  # a changed log may raise anything
                return Damage(logged.position, _cannot(logged, error))
    return None


def fold_share(
    connection: sa.Connection,
    advance: Advance,
    ledger: str,
    share: Share,
    days: RecordedDays,
    spool: Path | None,
    part: Part | None,
) -> Folded:
    """Folds one share: the job of one worker. After an event with a wrong hash, no saved share is used again.

    The hash of an event of the ledger itself, or of a transfer from another share, is checked by the share that owns
    the event, perhaps later. So a resumed run does not detect one case: the log was changed, folded in part and
    interrupted, and restored before the owning share had read the event. A verification detects it.
    """
    replay = load(part, Replayer) or Replayer(ledger, Members(connection, share))
    replay.go_on(connection, None, {})
    resumed_from, unsaved, damage = replay.events, 0, None
    advance(resumed_from)
    for chunk in read_events(connection, ledger, share, replay.position):
        before = replay.events
        damage = take_all(connection, replay, chunk, days, hashed=spool is not None)
        if damage is not None:
            break
        unsaved += len(chunk)
        if part is not None and unsaved >= SAVED_EVERY:
            part.save(replay)
            unsaved = 0
        advance(replay.events - before)
    if damage is None:
        replay.settle_all()
    if unsaved or damage is not None:
        _end(part, replay, damage)
    if spool is not None and damage is None:
        for table in OF_CUSTOMERS:
            _spool(replay, table, spool / f"{table}-{share.number}")
    return Folded(
        events=replay.events, resumed_from=resumed_from, totals=replay.totals, state=replay.state, damage=damage
    )


def _end(part: Part | None, folded: Any, damage: Damage | None) -> None:
    if part is not None and damage is None:
        part.save(folded)
    elif part is not None:
        part.give_up()


def take_all(
    connection: sa.Connection, replay: Replayer, chunk: list[EventRow], days: RecordedDays, *, hashed: bool
) -> Damage | None:
    """Folds in a chunk; with ``hashed``, checks the hash of each event. Stops at the first fault and returns it."""
    ledger = replay.state.ledger

    def moment(position: int) -> Any:
        return recorded_at(connection, ledger, position)

    recorded_on, following = days.run_of(chunk[0].position)
    for logged in chunk:
        position = logged.position
        if position >= following:
            recorded_on, following = days.run_of(position)
        if recorded_on is None:
            return Damage(position, f"no batch holds position {position}")
        try:
            if not hashed:
                replay.fold(logged, recorded_on, moment)
                continue
            taken = replay.take(logged, recorded_on, moment)
        except Exception as error:  # a changed log may raise anything
            return Damage(position, _cannot(logged, error))
        if taken is not None:
            encoding = encode(ledger, position, taken[0], logged.decision_text, taken[1])
            if merkle.leaf_hash(encoding) != logged.leaf:
                return Damage(position, f"position {position} has been changed: its hash differs")
    return None


def _cannot(logged: EventRow, error: Exception) -> str:
    return f"position {logged.position} cannot be replayed: {error!r}"


# --- spooled rows -----------------------------------------------------------------------------------------------------


def _spool(replay: Replayer, table: str, path: Path) -> None:
    with path.open("wb") as file:
        rows = []
        for key in replay.keys(table):
            rows.append((*key, *replay.row(table, key)))
            if len(rows) == _ROWS_A_CHUNK:
                pickle.dump(rows, file)
                rows = []
        pickle.dump(rows, file)


def spooled(spool: Path, table: str) -> Iterator[list[tuple[Any, ...]]]:
    """Yields chunks of a table's rows, of every share. The files belong to this process and are temporary."""
    for path in sorted(spool.glob(f"{table}-*")):
        with path.open("rb") as file:
            while True:
                try:
                    yield pickle.load(file)
                except EOFError:
                    break
