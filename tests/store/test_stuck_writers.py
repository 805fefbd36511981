"""A writer that holds a ledger's lock and does nothing is found and ended, and other writers continue."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.waiting import Wait

from api.service import Subledger
from projections.integrity import verify
from projections.monitors import Monitor, check
from projections.monitors.settings import set_settings
from subledger.errors import DatabaseUnavailable, LedgerLocked
from subledger.ledger_settings import LedgerSettings
from subledger.store.database import Connecting, Database, driver
from subledger.store.timeouts import CLIENT_CHECK, Timeouts
from subledger.store.writing.stuck_writers import end_stuck_writers
from tests.store.holding import fund, use
from tests.store.slow_link import opened_link
from tests.waiting import until

HASTY = Timeouts(lock_timeout_s=0.2, stuck_writer_s=5)
"""Time-outs of a writer that does not wait long. Its own transactions must not count as stuck, on any machine."""
STUCK_S = 6


@pytest.fixture
def url(scratch_url: str) -> Iterator[str]:
    """A separate database with a ledger, into which nobody else copies rows."""
    database = Database(scratch_url)
    service = Subledger(database)
    service.create_ledger("acme", LedgerSettings(currency="USD"))
    fund(service, "acme")
    yield scratch_url
    database.close()


@pytest.fixture
def connected(url: str) -> Iterator[Callable[[Timeouts], Subledger]]:
    databases: list[Database] = []

    def connect(timeouts: Timeouts) -> Subledger:
        databases.append(Database(url, timeouts=timeouts))
        return Subledger(databases[-1])

    yield connect
    for database in databases:
        database.close()


@contextmanager
def stopped_writer(url: str, where: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Yields a process that has stopped while it holds the ledger's lock, and the id of its server process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.store.stopped_writer", url, "acme", where],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def stuck_writer(service: Subledger) -> Monitor:
    return check(service.database, "acme", datetime.now(UTC)).named("stuck_writer")


def longer_than(service: Subledger, seconds: int) -> Monitor:
    """Waits until the lock has been held for some seconds. Returns the monitor."""

    def look() -> Monitor | None:
        found = stuck_writer(service)
        assert found.evidence["holders"], "somebody holds the lock"
        return found if (found.value or 0) >= seconds else None

    return until(look, f"a lock that is held for {seconds} s")


@pytest.mark.campaign
@pytest.mark.parametrize("where", ["between", "copy"])
def test_a_process_that_is_stopped_in_a_transaction_is_seen_and_ended_and_another_goes_on(
    url: str, connected: Callable[[Timeouts], Subledger], where: str
) -> None:
    watching, hasty = connected(Timeouts()), connected(HASTY)
    set_settings(watching.database, "acme", {"stuck_writer_s": 1}, by="test")
    with stopped_writer(url, where) as (process, backend):
        rings = longer_than(watching, STUCK_S)
        [holder] = rings.evidence["holders"]
        assert rings.rings
        assert (holder["pid"], holder["application"]) == (backend, "subledger")
        [outcome] = hasty.record("acme", [use("after")])
        assert outcome.status == "recorded"
        assert stuck_writer(watching).value == 0
        os.kill(process.pid, signal.SIGCONT)
        assert process.stdout is not None
        assert process.stdout.read().split() == ["database_unavailable"], "it learns that nothing was recorded"
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM events WHERE event_id LIKE 'stopped%'").fetchone() == (0,)
    assert verify(watching.database, "acme").differences == []


@pytest.mark.campaign
def test_a_worker_ends_a_stuck_writer_though_nobody_waits(url: str, connected: Callable[[Timeouts], Subledger]) -> None:
    with stopped_writer(url, "copy") as (_, backend):
        assert end_stuck_writers(connected(Timeouts()).database, "acme") == [], "it may be a slow link"
        longer_than(connected(Timeouts()), STUCK_S)
        assert end_stuck_writers(connected(HASTY).database, "acme") == [backend]
        assert end_stuck_writers(connected(HASTY).database, "acme") == []


def test_who_waits_in_vain_for_one_that_works_is_told_to_come_again(
    url: str, connected: Callable[[Timeouts], Subledger]
) -> None:
    hasty = connected(HASTY)
    with closing(psycopg.connect(url)) as worker, psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(1)")
        worker.execute("SELECT 1 FROM ledgers WHERE ledger = 'acme' FOR UPDATE")
        worker.pgconn.send_query(b"SELECT pg_advisory_lock(1)")  # the server is busy until the lock is released
        for attempt in range(2):
            with pytest.raises(LedgerLocked) as refused:
                hasty.record("acme", [use(f"u-{attempt}")])
            assert refused.value.retryable
            assert refused.value.facts["ledger"] == "acme"
            assert "the ledger's own, or that of a table or row" in str(refused.value)
    assert [outcome.status for outcome in hasty.record("acme", [use("u-0")])] == ["recorded"]


def test_who_waits_in_vain_for_the_lock_of_a_table_is_not_told_that_the_ledger_was_locked(
    url: str, connected: Callable[[Timeouts], Subledger]
) -> None:
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE wallets IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(LedgerLocked) as refused:
            connected(HASTY).record("acme", [use("u")])
    assert "held the lock of ledger" not in str(refused.value)
    assert "the ledger's own, or that of a table or row" in str(refused.value)


def test_a_transaction_in_which_nothing_is_asked_is_ended_by_the_server(
    url: str, connected: Callable[[Timeouts], Subledger]
) -> None:
    with pytest.raises(DatabaseUnavailable):
        forget_to_go_on(connected(Timeouts(stuck_writer_s=0.05)).database)
    assert [outcome.status for outcome in connected(Timeouts()).record("acme", [use("u")])] == ["recorded"]


def forget_to_go_on(database: Database) -> None:
    with database.write(recording=True) as connection:
        connection.execute("SELECT 1 FROM ledgers WHERE ledger = 'acme' FOR UPDATE")
        connection.wait(something_said())
        connection.execute("SELECT 1")


def something_said() -> Any:
    """Waits, without a query, until the server sends a message: that it ends the session."""
    while not (yield Wait.R):
        pass


@pytest.mark.campaign
def test_a_server_that_says_nothing_more_is_given_up(url: str) -> None:
    with opened_link(url) as (its_url, link):
        database = Database(its_url)
        service = Subledger(database)
        service.record("acme", [use("before")])
        link.fall_silent()
        give_up_soon(database)
        with pytest.raises(DatabaseUnavailable):
            service.record("acme", [use("during")])
        database.close()


def give_up_soon(database: Database) -> None:
    """From now on connections do not wait long for the server to send or receive bytes."""
    for engine in database.engines:
        sa.event.listen(engine, "checkout", lambda connection, *_: setattr(connection, "silence_s", 0.5))


@pytest.mark.campaign
def test_a_link_that_falls_silent_in_one_large_statement_is_given_up(url: str) -> None:
    """One call without the ledger's lock. Most of it is unsent, and psycopg checks it again all the time."""
    with opened_link(url) as (its_url, link):
        database = Database(its_url, timeouts=Timeouts(link_timeout_s=100_000))
        service = Subledger(database)
        for n in range(2):  # the second is recorded from this writer's memory
            service.record("acme", [use(f"before-{n}")])
        link.fall_silent(after=200_000)
        give_up_soon(database)
        with pytest.raises(DatabaseUnavailable):
            service.record("acme", [{**use(f"u-{n}"), "note": "x" * 60_000} for n in range(60)])
        database.close()


@pytest.mark.campaign
@pytest.mark.parametrize("size", [60, 300])
def test_a_link_that_falls_silent_in_a_batch_lets_others_go_on(
    url: str, connected: Callable[[Timeouts], Subledger], size: int
) -> None:
    """The server has received a part, and holds the lock, in the middle of a statement or of a COPY.

    The kernel's own time-out of a link is much longer, and a Unix socket has none.
    """
    with opened_link(url) as (its_url, link):
        database = Database(its_url, timeouts=Timeouts(link_timeout_s=100_000))
        service = Subledger(database)
        service.record("acme", [use("before")])
        link.fall_silent(after=200_000)
        give_up_soon(database)
        # An input that is not an event prevents that the batch is sent without the lock.
        events = [{**use(f"u-{n}"), "note": "x" * 50_000} for n in range(size)] + [{}]
        with pytest.raises(DatabaseUnavailable):
            service.record("acme", events)
        longer_than(connected(Timeouts()), STUCK_S)
        [outcome] = connected(HASTY).record("acme", [use("after")])
        assert outcome.status == "recorded"
        database.close()


def test_every_connection_has_its_limits(database: Database) -> None:
    chosen = Database(
        database.url, timeouts=Timeouts(lock_timeout_s=7, stuck_writer_s=200, idle_reader_s=300, link_timeout_s=60)
    )
    for engine, idle in zip(chosen.engines, ("5min", "200s", "200s"), strict=True):
        with engine.connect() as connection:
            shown = {
                name: connection.scalar(sa.text(f"SHOW {name}"))
                for name in (
                    "lock_timeout",
                    "idle_in_transaction_session_timeout",
                    "tcp_user_timeout",
                    "tcp_keepalives_idle",
                    "tcp_keepalives_interval",
                    "tcp_keepalives_count",
                    "client_connection_check_interval",
                )
            }
            assert shown == {
                "lock_timeout": "7s",
                "idle_in_transaction_session_timeout": idle,
                "tcp_user_timeout": "60000",
                "tcp_keepalives_idle": "30",
                "tcp_keepalives_interval": "10",
                "tcp_keepalives_count": "3",
                "client_connection_check_interval": "10s",
            }
            ours = driver(connection).info.get_parameters()
            assert (ours["tcp_user_timeout"], ours["keepalives_idle"], ours["keepalives_count"]) == ("60000", "30", "3")
    chosen.close()


# --- one long statement ---------------------------------------------------------------------------------------------

LONG = "SELECT pg_sleep(8)"
"""Longer than a plain writer with ``HASTY`` waits for a silent server."""
ENDLESS = "SELECT pg_sleep(1e6)"
IN_HAND = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query = %s"


def ended(url: str) -> bool:
    """True when no server process runs the endless statement any more, after its cancellation."""
    with psycopg.connect(url, autocommit=True) as connection:
        return until(lambda: not connection.execute(IN_HAND, [ENDLESS]).fetchall(), "the statement ends")


def work_without_end(database: Database) -> None:
    with database.write(recording=True) as connection:
        connection.execute("SELECT 1 FROM ledgers WHERE ledger = 'acme' FOR UPDATE")
        connection.execute(ENDLESS)


@pytest.mark.campaign
def test_a_close_or_a_question_may_work_longer_in_one_statement_than_a_plain_writer(
    connected: Callable[[Timeouts], Subledger],
) -> None:
    hasty = connected(HASTY)

    def plan(connection: psycopg.Connection[Any], *_: object) -> list[Any]:
        connection.execute(LONG)
        return []

    assert hasty.recorder.transact("acme", plan) == []
    assert len(hasty.database.ask(LONG, {})) == 1
    assert [outcome.status for outcome in hasty.record("acme", [use("after")])] == ["recorded"]


@pytest.mark.campaign
def test_what_is_given_up_is_cancelled_so_that_it_holds_no_lock(
    url: str, connected: Callable[[Timeouts], Subledger]
) -> None:
    hasty = connected(HASTY)
    with pytest.raises(DatabaseUnavailable, match="sent and received nothing"):
        work_without_end(hasty.database)
    assert ended(url)
    assert [outcome.status for outcome in hasty.record("acme", [use("after")])] == ["recorded"]


@pytest.mark.campaign
def test_a_question_that_is_given_up_is_cancelled_and_not_asked_again(
    url: str, connected: Callable[[Timeouts], Subledger]
) -> None:
    hasty = connected(Timeouts(lock_timeout_s=0.2, idle_reader_s=2))
    with pytest.raises(DatabaseUnavailable, match="sent and received nothing"):
        hasty.database.ask(ENDLESS, {})
    assert ended(url)


KILLED = """
import sys
from subledger.store.database import Database
from subledger.store.timeouts import CLIENT_CHECK, Timeouts
with Database(sys.argv[1], timeouts=Timeouts(client_check_s=0.05)).write(recording=True) as connection:
    connection.execute("SELECT 1 FROM ledgers WHERE ledger = 'acme' FOR UPDATE")
    connection.execute(sys.argv[2])
"""


def test_a_statement_ends_when_its_client_was_killed(url: str, connected: Callable[[Timeouts], Subledger]) -> None:
    with psycopg.connect(url, autocommit=True) as looking:
        client = subprocess.Popen([sys.executable, "-c", KILLED, url, ENDLESS])
        try:
            until(lambda: bool(looking.execute(IN_HAND, [ENDLESS]).fetchall()), "the statement has begun")
        finally:
            client.kill()
            client.wait()
        until(lambda: not looking.execute(IN_HAND, [ENDLESS]).fetchall(), "the statement ends")
    [outcome] = connected(Timeouts()).record("acme", [use("after")])
    assert outcome.status == "recorded", "the ledger's lock is free"


def test_a_server_that_cannot_look_for_its_client_is_used_all_the_same(url: str) -> None:
    """It refuses the option, as on Windows. Here the option has a value that no server accepts."""
    refused = f"{Timeouts().options(idle_s=1)} -c lock_timeout=7s".replace("check_interval=10000", "check_interval=-1")
    with Connecting()(None, None, [url], {"options": refused}) as connection:
        shown = [connection.execute(f"SHOW {name}".encode()).fetchall() for name in ("lock_timeout", CLIENT_CHECK)]
    assert shown == [[("7s",)], [("0",)]]
    with pytest.raises(psycopg.OperationalError, match="lock_timeout"):
        Connecting()(None, None, [url], {"options": "-c lock_timeout=-1"})
