"""A writing process that stops itself while it holds the ledger's lock, like a process in a debugger or on a lost
machine.

Usage: python -m tests.store.stopped_writer URL LEDGER WHERE. WHERE is ``between`` two statements, or in the middle of a
``copy``. It prints the id of its server process and stops. When it continues, it prints the result of its batch.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

from api.service import Subledger, read_inputs
from subledger.errors import Unavailable
from subledger.ledger import LedgerState
from subledger.store.database import Database, WriteConnection
from subledger.store.writing.batch import Input
from tests.building import cloud_event

SIZE = 400
UNDER_WAY = "SELECT pid FROM pg_stat_progress_copy WHERE datname = current_database() AND bytes_processed > 0"


class Stopping(list[Input]):
    """Inputs that stop the process during their iteration, when their first rows are being copied."""

    def __init__(self, inputs: Sequence[Input], url: str) -> None:
        super().__init__(inputs)
        self._url = url

    def __iter__(self) -> Iterator[Input]:
        for number, item in enumerate(super().__iter__()):
            if number == len(self) - 1:
                with psycopg.connect(self._url) as connection:
                    copying = connection.execute(UNDER_WAY).fetchone()
                if copying is not None:
                    stop(copying[0])
            yield item


def stop(backend: int) -> None:
    sys.stdout.write(f"{backend}\n")
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGSTOP)


def events(size: int) -> list[Input]:
    documents: list[Any] = [
        cloud_event(
            f"stopped-{n}",
            "credits.granted",
            "c",
            "2026-01-20T10:00:00Z",
            block_id=f"s-{n}",
            credits="1",
            reason="promotional",
        )
        for n in range(size)
    ]
    return read_inputs([{**document, "note": "x" * 2_000} for document in documents])


def main() -> None:
    url, ledger, where = sys.argv[1:4]
    service = Subledger(Database(url))

    def plan(connection: WriteConnection, _state: LedgerState, _position: int) -> Sequence[Input]:
        stop(connection.info.backend_pid)
        return events(3)

    try:
        if where == "between":
            service.recorder.transact(ledger, plan)
        else:
            service.recorder.record(ledger, Stopping(events(SIZE), url))
    except Unavailable as error:
        sys.stdout.write(f"{error.code}\n")
    else:
        sys.stdout.write("recorded\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
