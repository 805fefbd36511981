"""No write can hang, whatever its size, and however slow and narrow the link to the database is."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from api.service import Subledger, read_inputs
from projections.integrity import verify
from subledger.errors import DatabaseUnavailable
from subledger.ledger_settings import LedgerSettings
from subledger.store.database import Database, driver
from subledger.store.full_duplex import Connection
from subledger.store.migrate import owner_engine
from tests.building import cloud_event
from tests.store.slow_link import slow_link

HANGS_S = 900.0
"""A time-out for hanging calls. On the slowest known machine no test needs a tenth of it."""
LARGEST = 65_000
"""The length of an extension attribute: nearly the limit for all attributes of an event together."""
MIB = 1024 * 1024


def ends(do: Callable[[], Any]) -> Any:
    """Returns the result of a call; the test fails if the call never returns."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(do())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(HANGS_S)
    assert outcome, "it has stopped for good"
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def narrow(connection: Any, *_: object) -> None:
    """Makes the send buffer of a client small. By default the kernel gives a local connection megabytes."""
    copied = socket.socket(fileno=os.dup(connection.fileno()))
    copied.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    copied.close()


@pytest.fixture(scope="module")
def over_slow_link(owner_url: str) -> Iterator[Subledger]:
    """The service over a link with small windows, with a client whose windows are small too."""
    with slow_link(owner_url) as url:
        database = Database(url)
        for engine in database.engines:
            sa.event.listen(engine, "connect", narrow)
        yield Subledger(database)
        database.close()


@pytest.fixture
def ledger(over_slow_link: Subledger) -> str:
    name = f"t-{uuid.uuid4().hex[:10]}"
    ends(lambda: over_slow_link.create_ledger(name, LedgerSettings(currency="USD")))
    return name


def purchases(count: int, round_: int = 0, *, note: str | None = None) -> list[dict[str, Any]]:
    events = [
        cloud_event(
            f"buy-{round_}-{n}",
            "credits.purchased",
            f"c-{n % 50}",
            "2026-03-01T00:00:00Z",
            block_id=f"b-{round_}-{n}",
            credits="1",
            price="1.00",
            currency="USD",
        )
        for n in range(count)
    ]
    return events if note is None else [{**event, "note": note} for event in events]


def usage(count: int) -> list[dict[str, Any]]:
    return [
        cloud_event(f"use-{n}", "credits.consumed", f"c-{n % 50}", "2026-03-02T00:00:00Z", credits="0.001")
        for n in range(count)
    ]


def recorded(service: Subledger, ledger: str, events: list[dict[str, Any]]) -> bool:
    outcomes = ends(lambda: service.record(ledger, events))
    return [outcome.status for outcome in outcomes] == ["recorded"] * len(events)


@pytest.mark.campaign
@pytest.mark.parametrize("count", [1, 2, 200, 201, 1_000, 2_000, 5_000, 10_000])
def test_a_batch_of_any_size_is_recorded_over_a_slow_link(over_slow_link: Subledger, ledger: str, count: int) -> None:
    assert recorded(over_slow_link, ledger, purchases(count))
    assert recorded(over_slow_link, ledger, usage(count))
    # From now on the statement contains the rows of wallets, which grow with the number of open blocks.
    assert recorded(over_slow_link, ledger, purchases(count, 1))
    with over_slow_link.database.read() as connection:
        position = connection.scalar(sa.text("SELECT position FROM ledgers WHERE ledger = :l"), {"l": ledger})
    assert position == 3 + 3 * count


@pytest.mark.campaign
@pytest.mark.parametrize("count", [1, 2, 150, 201])
def test_events_of_the_largest_size_are_recorded_over_a_slow_link(
    over_slow_link: Subledger, service: Subledger, ledger: str, count: int
) -> None:
    # One writer must read the ledger first, and another has it in memory. These are two paths to the database.
    for round_ in range(2):
        assert recorded(over_slow_link, ledger, purchases(count, round_, note="x" * LARGEST))
    assert verify(service.database, ledger).differences == []


@pytest.mark.campaign
def test_a_batch_that_is_decoded_meanwhile_is_recorded_over_a_slow_link(over_slow_link: Subledger, ledger: str) -> None:
    done: list[int] = []
    for round_ in range(2):
        inputs = read_inputs(purchases(300, round_, note="x" * 20_000))
        record = partial(over_slow_link.recorder.record, ledger, inputs, meanwhile=lambda: done.append(1))
        outcomes = ends(record)
        assert {outcome.status for outcome in outcomes} == {"recorded"}
    assert done == [1, 1]


@pytest.mark.campaign
@pytest.mark.parametrize("size", [MIB, 30 * MIB])
def test_one_statement_of_any_size_is_sent_with_its_commit_over_a_slow_link(
    over_slow_link: Subledger, size: int
) -> None:
    def write() -> Any:
        with over_slow_link.database.write() as connection:
            connection.execute("CREATE TEMP TABLE large ON COMMIT DROP AS SELECT 1 AS length")
            with connection.pipeline():
                connection.execute("SAVEPOINT before")
                found = connection.execute("UPDATE large SET length = length(%s) RETURNING length", ("q" * size,))
                connection.commit()
            return found.fetchone()

    assert ends(write) == (size,)


@pytest.mark.campaign
def test_a_copy_goes_on_while_the_server_says_more_than_the_link_holds(over_slow_link: Subledger) -> None:
    """The server sends a notice for each row, together far more than the buffers can contain, before it reads more
    rows.
    """
    heard: list[int] = []
    with over_slow_link.database.write() as connection:
        connection.add_notice_handler(lambda notice: heard.append(len(notice.message_primary or "")))
        connection.execute("CREATE TEMP TABLE talked (line text)")
        connection.execute(
            "CREATE FUNCTION pg_temp.talk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE NOTICE '%', repeat('n', 8000); RETURN NEW; END $$"
        )
        connection.execute("CREATE TRIGGER talks BEFORE INSERT ON talked FOR EACH ROW EXECUTE FUNCTION pg_temp.talk()")

        def copy() -> None:
            with connection.cursor() as cursor, cursor.copy("COPY talked (line) FROM STDIN") as into:
                for _ in range(4_000):
                    into.write_row(("r" * 2_000,))

        ends(copy)
        assert connection.execute("SELECT count(*) FROM talked").fetchone() == (4_000,)
    assert heard == [8_000] * 4_000


@pytest.mark.campaign
def test_a_pipeline_whose_first_answers_are_large_is_answered_over_a_slow_link(over_slow_link: Subledger) -> None:
    def ask() -> list[Any]:
        with over_slow_link.database.write() as connection, connection.pipeline():
            cursors = [
                connection.execute("SELECT repeat('a', 3000000), length(%s)", ("q" * 3_000_000,)) for _ in range(6)
            ]
            return [cursor.fetchone() for cursor in cursors]

    assert [(len(text), length) for text, length in ends(ask)] == [(3_000_000, 3_000_000)] * 6


def test_many_rows_in_one_executemany_are_written_over_a_slow_link(over_slow_link: Subledger) -> None:
    def write() -> Any:
        with over_slow_link.database.write() as connection:
            connection.execute("CREATE TEMP TABLE many (line text)")
            with connection.cursor() as cursor:  # psycopg sends them in a pipeline
                cursor.executemany("INSERT INTO many VALUES (%s) RETURNING line", [("m" * 20_000,)] * 500)
            return connection.execute("SELECT count(*) FROM many").fetchone()

    assert ends(write) == (500,)


def test_a_connection_that_is_lost_in_the_middle_says_so(owner_url: str) -> None:
    with slow_link(owner_url) as url:
        database = Database(url)

        def write() -> None:
            with database.write() as connection:
                me = connection.info.backend_pid
                with psycopg.connect(owner_url, autocommit=True) as other:
                    other.execute("SELECT pg_terminate_backend(%s)", (me,))
                with connection.pipeline():
                    connection.execute("SELECT length(%s)", ("q" * 30_000_000,))
                    connection.commit()

        with pytest.raises(DatabaseUnavailable):
            ends(write)
        database.close()


def test_every_engine_of_ours_makes_connections_that_send_and_receive(database: Database, owner_url: str) -> None:
    own = owner_engine(owner_url)
    for engine in (*database.engines, own):
        with engine.connect() as connection:
            assert isinstance(driver(connection), Connection)
    own.dispose()
