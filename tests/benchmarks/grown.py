"""A grown ledger: a company's year, recorded day by day, with closed months, of any size that fits.

It is built once, in its own database, by its own process, whose rate and memory are measured. It can be kept. A later
run with the same size then uses it again, unless the schema has changed. P5 to P10 are measured on it.

The days of recording are also spread over the year. ``recorded_at`` is the time of the database. So while the ledger is
built, the search path of the database has another ``clock_timestamp`` before PostgreSQL's own. It reads a row that the
builder updates.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from math import ceil
from multiprocessing.connection import Connection
from typing import Any, Final

import msgspec
import psutil
import psycopg
from psycopg import sql

from api.service import Subledger
from projections.close.close import close_period
from subledger.ledger_settings import LedgerSettings
from subledger.periods import Period
from subledger.store.database import SESSION, Database
from subledger.store.migrate import is_current, migrate
from subledger.store.reading.ledgers import ledger_head
from subledger.store.tables import APP_ROLE
from tests.benchmarks.ingest import decoded
from tests.benchmarks.measures import Say
from tests.benchmarks.raw import Raw
from tests.benchmarks.workload import DAYS, YEAR, CompanyYear, customers_of
from tests.scratch_database import create_database, drop_database, url_of

GROWN: Final = "grown"
SMALL: Final = "small"
SMALL_SHARE: Final = 100
BATCH: Final = 5_000
FEW: Final = 7_000
"""With fewer events than this, only every second to seventh day has events."""
_WORKLOAD: Final = 2
"""The version of the builder. It must change if the same size would give another ledger."""

CLOCK: Final = """
CREATE SCHEMA benchmark;
CREATE TABLE benchmark.moment (moment timestamptz NOT NULL);
CREATE TABLE benchmark.built (document text NOT NULL);
INSERT INTO benchmark.moment VALUES (pg_catalog.clock_timestamp());
CREATE FUNCTION benchmark.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT moment FROM benchmark.moment';
"""


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the events, at least a hundredth: their rate, and the writer's memory and the disk after them.

    ``raw_rate`` is RAW at the same time, into empty tables. So it changes with the load of the machine, but not with
    the size of the ledger.
    """

    events: int
    rate: float
    raw_rate: float
    resident_bytes: int
    database_bytes: int


class Close(msgspec.Struct, frozen=True, kw_only=True):
    """A closed month, the duration of its close, and the number of entries in the ledger at that time."""

    period: str
    seconds: float
    position: int


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """Origin of a grown ledger. ``refused`` events are not counted anywhere else."""

    ledger: str
    events: int
    refused: int
    customers: int
    seconds: float
    peak_resident_bytes: int
    pieces: tuple[Piece, ...]
    closes: tuple[Close, ...]


class Grown(msgspec.Struct, frozen=True, kw_only=True):
    """The database with the grown ledger, and a small one of the same shape beside it."""

    url: str
    grown: Built
    small: Built
    found: bool


@contextmanager
def grown_ledger(owner_url: str, events: int, *, keep: bool, fresh: bool, say: Say) -> Iterator[Grown]:
    """Yields the ledger of a size. It is built unless it was kept, and dropped at the end unless ``keep`` is set.

    ``fresh`` builds it anew even if it was kept.
    """
    name = f"subledger_bench_{events}_{_WORKLOAD}"
    found = None if fresh else _find(owner_url, name)
    if found is not None:
        say(f"the ledger of {events:,} events was kept: {name}")
    else:
        drop_database(owner_url, name)
        create_database(owner_url, name)
    try:
        yield found or _build_both(url_of(owner_url, name), name, events, say)
    except BaseException:
        if found is None:
            drop_database(owner_url, name)
        raise
    if found is None and not keep:
        drop_database(owner_url, name)


def _find(owner_url: str, name: str) -> Grown | None:
    """Returns the kept ledger; None if there is none, it is not complete, or it has the schema of another version."""
    with psycopg.connect(owner_url) as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
            return None
    url = url_of(owner_url, name)
    if not is_current(url):
        return None
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT to_regclass('benchmark.built')").fetchone() == (None,):
            return None
        row = connection.execute("SELECT document FROM benchmark.built").fetchone()
    if row is None:
        return None
    grown, small = msgspec.json.decode(row[0], type=tuple[Built, Built])
    return Grown(url=url, grown=grown, small=small, found=True)


def _build_both(url: str, name: str, events: int, say: Say) -> Grown:
    migrate(url)
    path = sql.SQL("ALTER DATABASE {} SET search_path = benchmark, public, pg_catalog").format(sql.Identifier(name))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(CLOCK)
        role = sql.Identifier(APP_ROLE)
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA benchmark TO {}").format(role))
        connection.execute(sql.SQL("GRANT SELECT ON benchmark.moment TO {}").format(role))
        connection.execute(path)
    grown = _in_its_own_process(url, GROWN, events, say)
    small = _in_its_own_process(url, SMALL, max(events // SMALL_SHARE, DAYS), say)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} RESET search_path").format(sql.Identifier(name)))
        say("vacuum and analyze, as autovacuum would in time")
        connection.execute("VACUUM (ANALYZE)")
        document = msgspec.json.encode((grown, small)).decode()
        connection.execute("INSERT INTO benchmark.built VALUES (%s)", (document,))
    return Grown(url=url, grown=grown, small=small, found=False)


def _in_its_own_process(url: str, ledger: str, events: int, say: Say) -> Built:
    """Builds the ledger in its own process, so that the measured memory is only that of the writer."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_build, args=(theirs, url, ledger, events), daemon=True)
    process.start()
    theirs.close()
    try:
        while not isinstance(message := ours.recv(), Built):
            say(message)
        return message
    except EOFError:
        raise RuntimeError(f"the builder of ledger {ledger} ended before it was done") from None
    finally:
        process.join(30)


def _build(pipe: Connection[Any, Any], url: str, ledger: str, events: int) -> None:
    SESSION["search_path"] = "benchmark,public,pg_catalog"  # the clock of the benchmark, only in this process
    builder = _Builder(pipe, url, ledger, events)
    try:
        builder.run()
    finally:
        builder.close()


class _Builder:
    """Records a company's year as its servers would: batches during the day, expiries at night, and closed months."""

    def __init__(self, pipe: Connection[Any, Any], url: str, ledger: str, events: int) -> None:
        self._pipe, self._ledger, self._events = pipe, ledger, events
        self._service = Subledger(Database(url))
        self._clock = psycopg.connect(url, autocommit=True)
        self._clock.execute("SET synchronous_commit = off")
        self._raw_connection = psycopg.connect(url)
        self._raw = Raw(self._raw_connection)
        self._process = psutil.Process()
        self._year = CompanyYear(events)
        self._refused, self._peak, self._recording_s = 0, 0, 0.0
        self._piece_events, self._piece_s = 0, 0.0
        self._pieces: list[Piece] = []
        self._closes: list[Close] = []

    def close(self) -> None:
        self._raw.drop()
        self._raw_connection.close()
        self._clock.close()
        self._service.database.close()

    def run(self) -> None:
        started = time.perf_counter()
        self._move_clock(datetime(YEAR, 1, 1, tzinfo=UTC))
        self._service.create_ledger(self._ledger, LedgerSettings(currency="USD"))
        done = 0
        stride = max(1, min(7, FEW // self._events))
        for number in range(0, DAYS, stride):
            day = date(YEAR, 1, 1) + timedelta(days=number)
            due = self._events * (number + stride) // DAYS - done
            parts = max(1, ceil(due / BATCH))
            for part in range(parts):
                done += self._record(day, part, parts, ceil(due / parts), done)
            self._night(day)
            self._report(done, started)
        customers = customers_of(self._events) + 1
        self._pipe.send(
            Built(
                ledger=self._ledger,
                events=self._position(),
                refused=self._refused,
                customers=customers,
                seconds=time.perf_counter() - started,
                peak_resident_bytes=self._peak,
                pieces=tuple(self._pieces),
                closes=tuple(self._closes),
            )
        )

    def _record(self, day: date, part: int, parts: int, count: int, done: int) -> int:
        events = decoded(self._year.slice(day, part, parts, count))
        self._move_clock(datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=(part + 1) / parts * 0.99))
        started = time.perf_counter()
        outcomes = self._service.recorder.record(self._ledger, events)
        self._recorded(len(events), time.perf_counter() - started)
        refused = [outcome for outcome in outcomes if outcome.status != "recorded"]
        self._refused += len(refused)
        if self._refused * 1_000 > done + 10_000:
            raise RuntimeError(f"the benchmark's own events were refused: {refused[0]}")
        return len(events)

    def _night(self, day: date) -> None:
        """Sweeps due expiries, and closes a month after two days of the next month."""
        started = time.perf_counter()
        swept = self._service.expire(self._ledger, day)
        self._recorded(swept, time.perf_counter() - started)
        if day.day < 3 or day.month - 1 == len(self._closes):
            return
        period = Period(YEAR, len(self._closes) + 1)
        started = time.perf_counter()
        closed = close_period(self._service.recorder, self._ledger, period)
        self._closes.append(Close(period=str(period), seconds=time.perf_counter() - started, position=closed.position))

    def _recorded(self, events: int, took_s: float) -> None:
        """Adds events and time to the current piece. Recording and sweeping count towards the rate; the close of a
        month does not.
        """
        self._piece_events += events
        self._piece_s += took_s
        if self._piece_events * 100 < self._events:
            return
        resident = self._process.memory_info().rss
        self._peak = max(self._peak, resident)
        row = self._clock.execute("SELECT pg_database_size(current_database())").fetchone()
        self._pieces.append(
            Piece(
                events=self._piece_events,
                rate=self._piece_events / self._piece_s,
                raw_rate=self._raw_rate(),
                resident_bytes=resident,
                database_bytes=row[0] if row else 0,
            )
        )
        self._piece_events, self._piece_s = 0, 0.0

    def _raw_rate(self) -> float:
        last = self._position()
        count = min(BATCH, last)
        took_s = self._raw.copy_s(self._ledger, last - count + 1, last)
        self._raw.empty()
        return count / took_s

    def _position(self) -> int:
        with self._service.database.read() as snapshot:
            return ledger_head(snapshot, self._ledger).position

    def _report(self, done: int, started: float) -> None:
        took_s = time.perf_counter() - started
        left_s = took_s / done * (self._events - done)
        self._pipe.send(
            f"building {self._ledger}: {done:,} of {self._events:,} events, "
            f"{done / took_s:,.0f}/s with making them, {self._process.memory_info().rss / 1e6:,.0f} MB resident, "
            f"{left_s:,.0f} s to go"
        )

    def _move_clock(self, moment: datetime) -> None:
        self._clock.execute("UPDATE benchmark.moment SET moment = %s", (moment,))
