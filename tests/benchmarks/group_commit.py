"""Single events by many callers, compared with single-row INSERTs in the same run (goals P3 and P4).

Each function takes the owner's URL of a migrated database and returns plain numbers. Its caller decides about
comparisons and repetitions.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson
import psycopg
from sqlalchemy import make_url

from api.keys import create_key
from api.service import Subledger, read_inputs
from subledger.ledger_settings import LedgerSettings
from subledger.store.database import Database
from subledger.store.writing.batch import RECORDED
from tests.benchmarks.http_load import post_for
from tests.http.serving import Server

CUSTOMERS = 1_000


class Rate(NamedTuple):
    """Rate of answers with a number of callers."""

    per_second: float
    p50_ms: float
    p99_ms: float
    how: str


def raw_inserts(url: str, *, clients: int, seconds: float) -> Rate:
    """Runs single-row INSERTs of an event's row, each with its own commit, on several connections.

    pgbench runs them if it is installed, because it costs the machine least. Otherwise threads of this process run
    them.
    """
    _make_raw_table(url)
    pgbench = shutil.which("pgbench")
    return _by_pgbench(pgbench, url, clients, seconds) if pgbench else _by_threads(url, clients, seconds)


def _make_raw_table(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS raw_events")
        connection.execute("DROP SEQUENCE IF EXISTS raw_positions")
        connection.execute("CREATE TABLE raw_events (LIKE events INCLUDING DEFAULTS INCLUDING INDEXES)")
        connection.execute("CREATE SEQUENCE raw_positions CACHE 50")


_INSERT = """
INSERT INTO raw_events (ledger, position, source, event_id, type, customer, occurred_at, data, decision, leaf)
VALUES ('raw', nextval('raw_positions'), 'metering', gen_random_uuid()::text, 'credits.consumed', 'c-7',
        '2026-01-20T10:00:00Z', '{"credits":"0.5","product":"api"}', '{"movements":[]}', '\\x00')
"""


def _by_pgbench(pgbench: str, url: str, clients: int, seconds: float) -> Rate:
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(" ".join(_INSERT.split()) + ";\n")
        script.flush()
        plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        said = subprocess.run(
            [
                pgbench,
                "-n",
                "-M",
                "prepared",
                "-c",
                str(clients),
                "-j",
                str(min(clients, os.cpu_count() or 1)),
                "-T",
                str(max(1, round(seconds))),
                "-f",
                script.name,
                plain,
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    facts = dict(line.split(" = ", 1) for line in said.splitlines() if " = " in line)
    latency_ms = float(facts["latency average"].split()[0])
    per_second = float(next(value for name, value in facts.items() if name == "tps").split()[0])
    return Rate(per_second, latency_ms, latency_ms, "pgbench, prepared (average for p50 and p99)")


def _by_threads(url: str, clients: int, seconds: float) -> Rate:
    def one(_caller: int) -> Iterator[Callable[[int], None]]:
        with psycopg.connect(url, autocommit=True, prepare_threshold=0) as connection:
            yield lambda _n: connection.execute(_INSERT) and None

    return _timed_threads(one, clients, seconds, "psycopg, prepared, threads")


# --- callers in process ---------------------------------------------------------------------------------------


@contextmanager
def funded_ledger(url: str) -> Iterator[tuple[Subledger, str]]:
    """Yields a ledger whose customers have credits."""
    database = Database(url)
    service = Subledger(database)
    ledger = f"single-{uuid.uuid4().hex[:8]}"
    service.create_ledger(ledger, LedgerSettings(currency="USD"))
    purchases = [
        {
            "specversion": "1.0",
            "id": f"buy-{n}",
            "source": "billing",
            "type": "credits.purchased",
            "subject": f"c-{n}",
            "time": "2026-01-01T00:00:00Z",
            "data": {"block_id": f"b-{n}", "credits": "1000000", "price": "9999.99", "currency": "USD"},
        }
        for n in range(CUSTOMERS)
    ]
    assert {outcome.status for outcome in service.record(ledger, purchases)} == {RECORDED}
    try:
        yield service, ledger
    finally:
        service.gatherer.stop()
        database.close()


def usage(run: str, caller: int, number: int) -> dict[str, Any]:
    """Returns one usage event, each time of another customer."""
    return {
        "specversion": "1.0",
        "id": f"{run}-{caller}-{number}",
        "source": "metering",
        "type": "credits.consumed",
        "subject": f"c-{(caller * 131 + number) % CUSTOMERS}",
        "time": "2026-01-20T10:00:00Z",
        "data": {"credits": "0.5", "product": "api"},
    }


def callers_in_threads(service: Subledger, ledger: str, *, callers: int, seconds: float) -> Rate:
    """Runs callers in threads. Each caller records one event at a time."""
    run = uuid.uuid4().hex[:8]

    def one(caller: int) -> Iterator[Callable[[int], None]]:
        def call(number: int) -> None:
            [outcome] = service.record(ledger, [usage(run, caller, number)])
            assert outcome.status == RECORDED, outcome

        yield call

    return _timed_threads(one, callers, seconds, "threads")


def callers_in_tasks(service: Subledger, ledger: str, *, callers: int, seconds: float) -> Rate:
    """Runs callers as tasks of one event loop. Each caller records one event at a time."""
    run = uuid.uuid4().hex[:8]
    latencies: list[float] = []

    async def one(caller: int, until: float) -> None:
        number = 0
        while (started := time.perf_counter()) < until:
            [outcome] = await service.gatherer.hand_in(ledger, read_inputs([usage(run, caller, number)]))
            latencies.append(time.perf_counter() - started)
            assert outcome.status == RECORDED, outcome
            number += 1

    async def all_of_them() -> None:
        until = time.perf_counter() + seconds
        await asyncio.gather(*(one(caller, until) for caller in range(callers)))

    return _timed(lambda: asyncio.run(all_of_them()), latencies, "tasks")


# --- over HTTP --------------------------------------------------------------------------------------------------


def callers_over_http(service: Subledger, ledger: str, server: Server, *, callers: int, seconds: float) -> Rate:
    """Runs callers that each post one event at a time to ``tests.http.serving``, on their own connection."""
    key = create_key(service.database, ledger=ledger, role="writer", name="bench").secret
    run = uuid.uuid4().hex[:8]
    latencies: list[float] = []
    statuses: dict[int, int] = {}

    async def all_of_them() -> None:
        taken, answered = await post_for(
            server.port,
            f"/v1/ledgers/{ledger}/events",
            key,
            body=lambda caller, number: orjson.dumps(usage(run, caller, number)),
            connections=callers,
            seconds=seconds,
        )
        latencies.extend(taken)
        statuses.update(answered)

    rate = _timed(lambda: asyncio.run(all_of_them()), latencies, "keep-alive connections")
    assert set(statuses) == {200}, statuses
    return rate


# --- timing -----------------------------------------------------------------------------------------------------


def _timed_threads(
    one: Callable[[int], Iterator[Callable[[int], None]]], callers: int, seconds: float, how: str
) -> Rate:
    latencies: list[float] = []
    failures: list[BaseException] = []
    ready = threading.Barrier(callers + 1)

    def work(caller: int) -> None:
        with contextmanager(one)(caller) as call:
            ready.wait()
            until = time.perf_counter() + seconds
            number = 0
            try:
                while (started := time.perf_counter()) < until:
                    call(number)
                    latencies.append(time.perf_counter() - started)
                    number += 1
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=work, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()

    def run() -> None:
        ready.wait()
        for thread in threads:
            thread.join()

    rate = _timed(run, latencies, how)
    if failures:
        raise failures[0]
    return rate


def _timed(run: Callable[[], object], latencies: list[float], how: str) -> Rate:
    started = time.perf_counter()
    run()
    elapsed = time.perf_counter() - started
    if not latencies:
        return Rate(0.0, 0.0, 0.0, how)
    ordered = sorted(latencies)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return Rate(len(ordered) / elapsed, statistics.median(ordered) * 1000, p99 * 1000, how)
