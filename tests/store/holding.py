"""A ledger whose row is locked by another process, so that events that arrive meanwhile wait."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg

from api.service import Subledger
from subledger.store.writing.batch import Outcome
from tests.building import purchase, recorded, usage
from tests.waiting import until


class Hold:
    """The ledger's lock, held by another process."""

    def __init__(self, connection: psycopg.Connection[Any], ledger: str) -> None:
        self._connection = connection
        connection.execute("SELECT 1 FROM ledgers WHERE ledger = %s FOR UPDATE", (ledger,))

    def release(self) -> None:
        self._connection.rollback()

    def waiting_writer(self) -> int:
        """Waits for a backend that waits for this lock. Returns its process id."""
        found: list[int] = []

        def look() -> bool:
            self._connection.execute("SELECT pg_stat_clear_snapshot()")
            query = "SELECT pid FROM pg_stat_activity WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))"
            found[:] = [pid for (pid,) in self._connection.execute(query)]
            return bool(found)

        until(look)
        return found[0]


@contextmanager
def held(url: str, ledger: str) -> Iterator[Hold]:
    with psycopg.connect(url) as connection:
        hold = Hold(connection, ledger)
        yield hold
        hold.release()


class Callers:
    """Callers in threads. Each begins when the one before is in the queue, so their order is known."""

    def __init__(self, service: Subledger, ledger: str) -> None:
        self._service, self._ledger = service, ledger
        self._threads = ThreadPoolExecutor(64)

    def call(self, *documents: Any, by: str = "nobody") -> Future[list[Outcome]]:
        """Begins to record. Returns when the events wait in the queue, or have been answered."""
        before = self._service.gatherer.depth
        future = self._threads.submit(self._service.record, self._ledger, documents, by=by)
        until(lambda: self._service.gatherer.depth > before or future.done())
        return future

    def __enter__(self) -> Callers:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()


use = partial(usage, customer="c")


def fund(service: Subledger, ledger: str, credits: str = "1000000", customer: str = "c") -> None:
    recorded(service, ledger, purchase(f"b-{customer}", credits, customer, "2026-01-01", price="9999.99"))
