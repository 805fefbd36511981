"""Benchmarks as ratios to limits measured in the same run, interleaved, so that the machine's mood cancels out.

RAW is the limit of ingest: binary COPY of the very same event and entry rows, encoded beforehand, into tables with
the same indexes, one connection, one commit a batch, no logic. ``SELECT 1`` is the limit of a read.
"""

from __future__ import annotations

import gc
import platform
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, Final

import msgspec
import psycopg
import sqlalchemy as sa

from api.service import LedgerSettings, Subledger
from subledger.events import Event, read_event
from subledger.store import reader
from subledger.store.database import Database
from subledger.store.migrate import migrate

LEDGER: Final = "bench"


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """One benchmark: its median, its limit's median, their ratio, and the spread of the ratio (min, max)."""

    name: str
    unit: str
    value: float
    limit_name: str
    limit: float
    ratio: float
    spread: tuple[float, float]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """All measures with where and when they were made."""

    machine: str
    server: str
    measured_at: str
    events: int
    measures: tuple[Measure, ...]


@contextmanager
def scratch_database(owner_url: str) -> Iterator[str]:
    """A migrated database that is dropped at the end."""
    name = f"bench_{uuid.uuid4().hex[:10]}"
    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
    try:
        url = sa.make_url(owner_url).set(database=name).render_as_string(hide_password=False)
        migrate(url)
        yield url
    finally:
        with psycopg.connect(owner_url, autocommit=True) as connection:
            connection.execute(psycopg.sql.SQL("DROP DATABASE {} WITH (FORCE)").format(psycopg.sql.Identifier(name)))


def run(
    owner_url: str, *, batches: int = 7, batch_size: int = 5_000, customers: int = 10_000, reads: int = 200,
    progress: Callable[[str], None] = lambda _: None,
) -> Result:  # fmt: skip
    """Measures ingest, a customer's balance and the trial balance on a database of its own."""
    with scratch_database(owner_url) as url, psycopg.connect(url) as raw:
        database = Database(url)
        try:
            service = Subledger(database)
            service.create_ledger(LEDGER, LedgerSettings(currency="USD"))
            progress("opening a credit block for every customer")
            for first in range(0, customers, batch_size):
                _must_record(service, _purchases(first, min(first + batch_size, customers)))
            _make_raw_tables(raw)
            progress("ingest against RAW")
            measures = [_ingest(service, raw, batches, batch_size, customers, progress)]
            progress("reads against SELECT 1")
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")
            measures += _reads(service, reads, customers)
            with database.read() as snapshot:
                position = reader.ledger_head(snapshot, LEDGER).position
            version = raw.execute("SHOW server_version").fetchone()
        finally:
            database.close()
    return Result(
        machine=f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}",
        server=f"PostgreSQL {version[0] if version else '?'}",
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        events=position,
        measures=tuple(measures),
    )


def _event(event_id: str, type: str, customer: int, moment: datetime, data: dict[str, Any]) -> Event:
    return read_event(
        {
            "specversion": "1.0", "id": event_id, "source": "bench", "type": type, "subject": f"customer-{customer}",
            "time": moment.isoformat(), "data": data,
        }
    )  # fmt: skip


def _purchases(first: int, last: int) -> list[Event]:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        _event(
            f"buy-{n}", "credits.purchased", n, moment,
            {"block_id": f"block-{n}", "credits": "1000000", "price": "5000.00", "currency": "USD"},
        )
        for n in range(first, last)
    ]  # fmt: skip


def _usage(batch: int, size: int, customers: int) -> list[Event]:
    moment = datetime(2026, 1, 2, tzinfo=UTC) + timedelta(hours=batch)
    return [
        _event(
            f"use-{batch}-{n}", "credits.consumed", (batch * size + n) * 7919 % customers, moment,
            {"credits": "12.5", "product": "api"},
        )
        for n in range(size)
    ]  # fmt: skip


def _must_record(service: Subledger, events: list[Event]) -> None:
    refused = [outcome for outcome in service.recorder.record(LEDGER, events) if outcome.status != "recorded"]
    if refused:
        raise RuntimeError(f"the benchmark's own events were refused: {refused[0]}")


def _make_raw_tables(raw: psycopg.Connection[Any]) -> None:
    for table in ("events", "entries"):
        raw.execute(f"CREATE TABLE raw_{table} (LIKE {table} INCLUDING ALL)")
    raw.commit()


def _ingest(
    service: Subledger, raw: psycopg.Connection[Any], batches: int, size: int, customers: int,
    progress: Callable[[str], None],
) -> Measure:  # fmt: skip
    ours, limits = [], []
    for batch in range(batches + 1):
        events = _usage(batch, size, customers)
        gc.collect()
        started = time.perf_counter()
        _must_record(service, events)
        own_s = time.perf_counter() - started
        with service.database.read() as snapshot:
            last = reader.ledger_head(snapshot, LEDGER).position
        limit_s = _raw_copy(raw, last - size + 1, last)
        progress(f"ingest: batch {batch} of {batches}: {size / own_s:,.0f} events/s, RAW {size / limit_s:,.0f}")
        if batch:  # the first one warms up
            ours.append(size / own_s)
            limits.append(size / limit_s)
    return _measure(f"ingest, one writer, batches of {size}", "events/s", ours, "RAW", limits)


def _raw_copy(raw: psycopg.Connection[Any], first: int, last: int) -> float:
    """Seconds to copy the rows of some positions, encoded beforehand, and commit."""
    encoded = {}
    for table in ("events", "entries"):
        with raw.cursor().copy(
            f"COPY (SELECT * FROM {table} WHERE ledger = '{LEDGER}' AND position BETWEEN {first} AND {last}"
            " ORDER BY position) TO STDOUT (FORMAT BINARY)"
        ) as copy:
            encoded[table] = b"".join(copy)
    raw.commit()
    started = time.perf_counter()
    for table, content in encoded.items():
        with raw.cursor().copy(f"COPY raw_{table} FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(content)
    raw.commit()
    return time.perf_counter() - started


def _reads(service: Subledger, repeats: int, customers: int) -> list[Measure]:
    database = service.database
    with database.read() as snapshot:
        head = reader.ledger_head(snapshot, LEDGER)
        middle = snapshot.execute(
            sa.text(
                "SELECT recorded_at FROM batches ORDER BY recorded_at OFFSET (SELECT count(*) / 2 FROM batches) LIMIT 1"
            )
        ).scalar_one()
    plain = database.engine.raw_connection()
    connection: psycopg.Connection[Any] = plain.driver_connection  # type: ignore[assignment]

    def select_one() -> None:
        connection.execute("SELECT 1").fetchone()
        connection.rollback()

    def customer(number: int, known_at: datetime | None) -> None:
        service.customer_balances(
            LEDGER, f"customer-{number * 7919 % customers}", as_of=date(2026, 1, 31), known_at=known_at
        )

    def trial(known_at: datetime | None) -> None:
        service.trial_balance(LEDGER, as_of=date(2026, 1, 31), known_at=known_at)

    questions: list[tuple[str, Callable[[int], None]]] = [
        ("customer's balance, now", lambda n: customer(n, None)),
        ("customer's balance, as known at a moment", lambda n: customer(n, middle)),
        ("trial balance, now", lambda _: trial(None)),
        ("trial balance, as known inside a day", lambda _: trial(middle)),
    ]
    assert head.position > 0
    timings: dict[str, list[float]] = {name: [] for name, _ in questions}
    limits: list[float] = []
    for number in range(repeats + 5):
        limit_ms = _timed(select_one)
        for name, question in questions:
            ms = _timed(partial(question, number))
            if number >= 5:
                timings[name].append(ms)
        if number >= 5:
            limits.append(limit_ms)
    plain.close()
    return [_measure(name, "ms p50", values, "SELECT 1", limits) for name, values in timings.items()]


def _timed(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def _measure(name: str, unit: str, values: list[float], limit_name: str, limits: list[float]) -> Measure:
    ratios = sorted(value / limit for value, limit in zip(values, limits, strict=True))
    value, limit = statistics.median(values), statistics.median(limits)
    low, high = ratios[len(ratios) // 20], ratios[-1 - len(ratios) // 20]
    return Measure(
        name=name, unit=unit, value=round(value, 3), limit_name=limit_name, limit=round(limit, 3),
        ratio=round(value / limit, 3), spread=(round(low, 3), round(high, 3)),
    )  # fmt: skip
