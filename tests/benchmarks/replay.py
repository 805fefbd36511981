"""How fast a log is replayed, rebuilt and verified, and in how much memory, against RAW in the same run.

Pure functions of a database's URL and a ledger in it; what they write, they put back. A worker's memory is that of the
largest one.
"""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import msgspec
import psycopg

from projections import folding, integrity
from projections import rebuild as rebuilding
from projections.log_stream import driver
from projections.parallel import snapshot_of, workers_for
from subledger.store.database import Database


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Medians of one way through a log. ``cpu_us`` is of Python, in all its processes, an event."""

    name: str
    events: int
    workers: int
    rate: float
    raw: float
    ratio: float
    ratios: tuple[float, ...]
    cpu_us: float
    resident_mb: float


def replay_without_writes(url: str, ledger: str, workers: int | None = None) -> int:
    """Folds the log into wallets and totals. Returns the number of events."""
    return _with(url, lambda database: folding.replay(database, ledger, workers=workers).events)


def rebuild(url: str, ledger: str, workers: int | None = None) -> int:
    """Rebuilds from nothing: every derived row is written. Returns the number of events."""

    def work(database: Database) -> int:
        with database.write() as connection:
            for name in ("wallets", "blocks", "documents", "ledger_days", "merkle_nodes"):
                connection.execute(f"DELETE FROM {name} WHERE ledger = %s", (ledger,))
        rebuilding.rebuild(database, ledger, workers=workers)
        return _position(database, ledger)

    return _with(url, work)


def rebuild_a_healthy_one(url: str, ledger: str, workers: int | None = None) -> int:
    """Rebuilds beside the live rows, finds that they are right, and writes none."""

    def work(database: Database) -> int:
        rebuilding.rebuild(database, ledger, workers=workers)
        return _position(database, ledger)

    return _with(url, work)


def verify(url: str, ledger: str, workers: int | None = None) -> int:
    """Every check. Raises AssertionError where one fails."""

    def work(database: Database) -> int:
        report = integrity.verify(database, ledger, workers=workers)
        assert report.differences == [], report.differences[:3]
        return report.events

    return _with(url, work)


def raw(url: str, ledger: str, batches: int = 4, size: int = 5_000) -> float:
    """RAW in events/s: binary COPY of the last rows of the ledger, encoded beforehand, into tables with the same
    indexes, one commit a batch."""
    with psycopg.connect(url) as connection:
        for table in ("events", "entries"):
            connection.execute(f"DROP TABLE IF EXISTS raw_{table}")
            connection.execute(f"CREATE TABLE raw_{table} (LIKE {table} INCLUDING ALL)")
        connection.commit()
        try:
            row = connection.execute("SELECT position FROM ledgers WHERE ledger = %s", (ledger,)).fetchone()
            assert row is not None
            taken = [
                _copied(connection, ledger, row[0] - (n + 1) * size + 1, row[0] - n * size) for n in range(batches)
            ]  # fmt: skip
        finally:
            connection.rollback()
            for table in ("events", "entries"):
                connection.execute(f"DROP TABLE IF EXISTS raw_{table}")
    return size / statistics.median(taken)


def _copied(connection: psycopg.Connection[Any], ledger: str, first: int, last: int) -> float:
    encoded = {}
    for table in ("events", "entries"):
        query = f"COPY (SELECT * FROM {table} WHERE ledger = %s AND position BETWEEN %s AND %s ORDER BY position)"
        with connection.cursor().copy(f"{query} TO STDOUT (FORMAT BINARY)", (ledger, first, last)) as copy:
            encoded[table] = b"".join(copy)
    connection.commit()
    started = time.perf_counter()
    for table, content in encoded.items():
        with connection.cursor().copy(f"COPY raw_{table} FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(content)
    connection.commit()
    return time.perf_counter() - started


WAYS: tuple[Callable[..., int], ...] = (replay_without_writes, rebuild, rebuild_a_healthy_one, verify)


def measure(url: str, ledger: str, way: Callable[..., int], *, repeats: int = 5, workers: int | None = None) -> Timing:
    """One way through the log, each time right after RAW, so that the machine's mood cancels out."""
    raws, rates, cpu, events = [], [], [], 0
    for _ in range(repeats):
        raws.append(raw(url, ledger))
        cpu_before, started = _cpu_s(), time.perf_counter()
        events = way(url, ledger, workers)
        rates.append(events / (time.perf_counter() - started))
        cpu.append((_cpu_s() - cpu_before) / events * 1e6)
    ratios = tuple(round(rate / limit, 2) for rate, limit in zip(rates, raws, strict=True))
    return Timing(
        name=way.__name__, events=events, workers=workers_for(events, workers), rate=round(statistics.median(rates)),
        raw=round(statistics.median(raws)), ratio=statistics.median(ratios), ratios=ratios,
        cpu_us=round(statistics.median(cpu), 2), resident_mb=resident_mb(),
    )  # fmt: skip


def resident_mb() -> float:
    """The most that this process, or any ended child of it, has held at once."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _with(url: str, work: Callable[[Database], int]) -> int:
    database = Database(url)
    try:
        return work(database)
    finally:
        database.close()


def _position(database: Database, ledger: str) -> int:
    with snapshot_of(database) as snapshot:
        query = "SELECT position FROM ledgers WHERE ledger = %s"
        row = driver(snapshot.connection).execute(query, (ledger,)).fetchone()
    assert row is not None
    position: int = row[0]
    return position
