"""Work on one snapshot of the database, by several processes if there is enough work.

The process that exports a snapshot keeps its transaction open. The workers open their transactions on the same
snapshot, so all of them see the same moment, however long they take.

Owns: the number of workers and of shares, their progress, and the form in which values are sent between processes. Does
not own: the work.
"""

from __future__ import annotations

import copyreg
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from subledger.billing_documents import Dispute, Invoice, Overage, Payment, ReversedUsage
from subledger.blocks import Block
from subledger.pools import Cohort, Pool
from subledger.store.database import Database, driver
from subledger.store.distribution import is_distributed
from subledger.store.timeouts import Timeouts
from subledger.store.writing.collecting import collection_held_off
from subledger.store.writing.rows import decode_wallet, encode_state, has_rows
from subledger.wallet import Wallet

EVENTS_A_WORKER: Final = 50_000
"""Minimum number of events per worker. A worker needs almost a second to start, so a smaller ledger has no workers."""

_PROGRESS_EVERY_S: Final = 0.2

SIZE: Final = """
-- The number of objects that a replay keeps in memory: blocks, payments, disputes and the like, and wallets.
SELECT (SELECT count(*) FROM events WHERE ledger = %(ledger)s AND type <> 'credits.consumed')
     + (SELECT count(*) FROM wallets WHERE ledger = %(ledger)s)
"""
OBJECTS_A_SHARE: Final = 100_000
"""Maximum number of wallets, blocks and documents in one share: about 150 MB."""
EVENTS_A_SHARE: Final = 1_250_000
"""Maximum number of events of one share. Each day on which a block is drawn adds a balance of about 300 bytes to
memory.
"""

Progress = Callable[[int, int], None]
"""Callback with the number of events done, and the number of all events."""
Advance = Callable[[int], None]
"""Callback with the number of events done since the last call."""


def no_progress(*_events: int) -> None:
    """Ignores the progress."""


Job = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function of (connection, advance, …), with its other arguments. Both are sent to another process."""


def workers_for(connection: sa.Connection, events: int, requested: int | None = None) -> int:
    """Returns the number of processes: the requested number, else one per core if each has enough work.

    It is one if ledgers are spread over servers. An exported snapshot is then valid only on the coordinator, and each
    process would see another moment of the server that has the ledger.
    """
    if is_distributed(driver(connection)):
        return 1
    if requested is not None:
        return max(requested, 1)
    return max(min(os.cpu_count() or 1, events // EVENTS_A_WORKER), 1)


def shares_for(connection: sa.Connection, ledger: str, events: int, workers: int) -> int:
    """Returns the number of shares to divide the customers into: a multiple of the workers, so that none is idle."""
    row = driver(connection).execute(SIZE, {"ledger": ledger}).fetchone()
    objects = row[0] if row is not None else 0
    needed = max(-(-objects // OBJECTS_A_SHARE), -(-events // EVENTS_A_SHARE), 1)
    return -(-needed // workers) * workers


class DatabaseSnapshot:
    """One snapshot of the database, for work by this process or by several."""

    def __init__(self, database: Database, connection: sa.Connection) -> None:
        self.connection = connection
        self._database = database

    def run(self, jobs: Sequence[Job], workers: int, advance: Advance) -> list[Any]:
        """Returns the results of the jobs, in their order. Raises the first exception of a job, and ends the others."""
        if workers == 1:
            results = []
            for function, arguments in jobs:
                with collection_held_off():
                    results.append(function(self.connection, advance, *arguments))
            return results
        snapshot_id = self.connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one()
        context = multiprocessing.get_context("spawn")
        done = context.Array("q", len(jobs), lock=False)
        pool = ProcessPoolExecutor(
            workers,
            mp_context=context,
            initializer=_begin,
            initargs=(self._database.url, self._database.timeouts, snapshot_id, done),
        )
        try:
            futures = [pool.submit(_work, number, *job) for number, job in enumerate(jobs)]
            advanced, waiting, asked_at = 0, set(futures), time.monotonic()
            while waiting:
                finished, waiting = wait(waiting, timeout=_PROGRESS_EVERY_S, return_when=FIRST_EXCEPTION)
                now = sum(done)
                advance(now - advanced)
                advanced = now
                if time.monotonic() - asked_at > self._database.timeouts.idle_reader_s / 10:
                    # The server ends a transaction without queries. This transaction has the snapshot, so queries must
                    # keep it alive until the workers end.
                    self.connection.exec_driver_sql("SELECT 1")
                    asked_at = time.monotonic()
                for future in finished:
                    future.result()
            return [future.result() for future in futures]
        except BaseException:
            for process in list((pool._processes or {}).values()):  # a running job can be ended only in this way
                process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def database_snapshot(database: Database) -> Iterator[DatabaseSnapshot]:
    """Yields a snapshot of the database, valid until the end of the context."""
    with database.read() as connection:
        yield DatabaseSnapshot(database, connection)


# --- values sent to another process -----------------------------------------------------------------------------------

_KEPT_AS_TEXT: Final[dict[str, Callable[[str], Any]]] = {
    type.__name__: msgspec.json.Decoder(type).decode
    for type in (Block, Overage, ReversedUsage, Payment, Invoice, Dispute, Pool, Cohort)
}


def _from_text(name: str, text: str) -> Any:
    return _KEPT_AS_TEXT[name](text)


def _as_text(value: msgspec.Struct) -> tuple[Any, ...]:
    """Pickles a value as its stored text, for another process or a file.

    The stored text omits fields that have their default. msgspec recognises a default by its identity, which a pickle
    of the fields does not preserve: such a wallet would be encoded differently afterwards.
    """
    return _from_text, (value.__class__.__name__, encode_state(value))


def _wallet_as_texts(wallet: Wallet) -> tuple[Any, ...]:
    """Pickles a wallet as the texts of its rows, including those of its blocks and overages, if they have rows."""
    parts = [
        [encode_state(value) for value in values] if has_rows(values) else []
        for values in (wallet.blocks, wallet.overages)
    ]
    return decode_wallet, (encode_state(wallet), *parts)


copyreg.pickle(Wallet, _wallet_as_texts)
for _type in (Block, Overage, ReversedUsage, Payment, Invoice, Dispute, Pool, Cohort):
    copyreg.pickle(_type, _as_text)


# --- in a worker ------------------------------------------------------------------------------------------------------

_mine: dict[str, Any] = {}


def _begin(url: str, timeouts: Timeouts, snapshot_id: str, done: Any) -> None:
    _mine.update(database=Database(url, pool_size=1, timeouts=timeouts), snapshot_id=snapshot_id, done=done)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this worker if its parent is killed; otherwise it would wait for its next job for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)


def _work(number: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    done = _mine["done"]

    def advance(more: int) -> None:
        done[number] += more

    with _mine["database"].read() as connection, collection_held_off():
        connection.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{_mine['snapshot_id']}'")
        return function(connection, advance, *arguments)
