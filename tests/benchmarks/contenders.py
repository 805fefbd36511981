"""The same work on several layouts, one after the other: time, CPU time, write-ahead log and blocks of each layout.

A contender is a migrated database with its layout, and a service on it. All contenders are on one server. They do each
piece of work one after the other, and take turns to begin. So the figures of a contender's server processes are its
own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import msgspec
import psutil
import psycopg

from api.service import Subledger
from subledger.events.envelope import Event
from subledger.ledger_settings import LedgerSettings
from subledger.store.database import Database
from tests.benchmarks.layouts import Layout, Owner
from tests.scratch_database import scratch_database

BACKENDS: Final = """
-- The server processes that serve this database, but for this one.
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
READ: Final = """
-- Blocks of this database that were not among the shared buffers.
SELECT blks_read FROM pg_stat_database WHERE datname = current_database()
"""


class Contender:
    """A layout with its name, and the figures of its work."""

    def __init__(self, name: str, url: str) -> None:
        self.name, self.url = name, url
        self.owner: Owner = psycopg.connect(url, autocommit=True)
        self.service = Subledger(Database(url))

    def close(self) -> None:
        self.service.database.close()
        self.owner.close()

    def create(self, ledger: str) -> None:
        self.service.create_ledger(ledger, LedgerSettings(currency="USD"))

    def record(self, ledger: str, events: Sequence[Event]) -> None:
        refused = [o for o in self.service.recorder.record(ledger, events) if o.status != "recorded"]
        if refused:
            raise RuntimeError(f"the experiment's own events were refused: {refused[0]}")

    def ask(self, query: str) -> Any:
        """Returns one figure from the database, or None."""
        row = self.owner.execute(query.encode()).fetchone()
        return row[0] if row else None

    def cpu_s(self) -> float:
        """CPU time of its server processes since their start. They live as long as the service."""
        return sum(_cpu_s(pid) for (pid,) in self.owner.execute(BACKENDS))

    def written(self) -> int:
        """Bytes of write-ahead log that the server has written for all contenders."""
        return int(self.ask("SELECT pg_current_wal_insert_lsn() - '0/0'"))


@contextmanager
def contenders(server_url: str, layouts: dict[str, Layout]) -> Iterator[list[Contender]]:
    """Yields one contender for each layout, in databases that are dropped at the end."""
    with ExitStack() as stack:
        found = []
        for name, apply in layouts.items():
            url = stack.enter_context(scratch_database(server_url, copied=False))
            with psycopg.connect(url, autocommit=True) as owner:
                apply(owner)
            found.append(Contender(name, url))
            stack.callback(found[-1].close)
        yield found


class Took(msgspec.Struct, frozen=True, kw_only=True):
    """Cost of one contender in a phase: seconds and bytes of log for each round, the other figures for all rounds
    together.
    """

    count: int
    seconds: tuple[float, ...]
    median_s: tuple[float, ...]
    written: int
    cpu_s: float
    read: int


Pieces = Iterator[tuple[int, Callable[[Contender], object]]]
"""Steps in their order. Each has a count of items, and the function that processes them."""


def in_turn(entrants: Sequence[Contender], rounds: int, pieces: Callable[[], Pieces]) -> dict[str, Took]:
    """Runs rounds of pieces of work; every contender does each piece. ``pieces`` returns the pieces of one round."""
    before = {c.name: (c.cpu_s(), c.ask(READ)) for c in entrants}
    by_round: dict[str, list[list[float]]] = {c.name: [] for c in entrants}
    written = dict.fromkeys(before, 0)
    done = 0
    for _ in range(rounds):
        for each in by_round.values():
            each.append([])
        for number, (count, piece) in enumerate(pieces()):
            first = number % len(entrants)
            for contender in (*entrants[first:], *entrants[:first]):
                at = contender.written()
                started = time.perf_counter()
                piece(contender)
                by_round[contender.name][-1].append(time.perf_counter() - started)
                written[contender.name] += contender.written() - at
            done += count
    time.sleep(1.1)  # a process reports its reads once a second
    return {
        c.name: Took(
            count=done,
            seconds=tuple(sum(each) for each in by_round[c.name]),
            median_s=tuple(statistics.median(each) for each in by_round[c.name]),
            written=written[c.name],
            cpu_s=c.cpu_s() - before[c.name][0],
            read=c.ask(READ) - before[c.name][1],
        )
        for c in entrants
    }


def together(tooks: Sequence[Took], count: int) -> Took:
    """Adds up several phases of one contender, for ``count`` items."""
    return Took(
        count=count,
        seconds=tuple(s for took in tooks for s in took.seconds),
        median_s=tuple(s for took in tooks for s in took.median_s),
        written=sum(took.written for took in tooks),
        cpu_s=sum(took.cpu_s for took in tooks),
        read=sum(took.read for took in tooks),
    )


def _cpu_s(pid: int) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)
