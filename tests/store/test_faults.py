"""Two writers at once, killed writers, a killed server: acknowledged batches are there, other batches are complete or
absent.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import psycopg
import pytest

from api.service import Subledger
from projections.integrity import verify
from subledger.ledger_settings import LedgerSettings
from subledger.store.database import Database
from subledger.store.embedded import server as embedded
from subledger.store.migrate import migrate
from tests.building import cloud_event, recorded
from tests.conftest import NewLedger
from tests.store.slow_link import slow_link

SIZE = 400

Link = Callable[[str], AbstractContextManager[str]]


def _fund(service: Subledger, ledger: str) -> None:
    events = [
        cloud_event(
            f"buy-{n}",
            "credits.purchased",
            f"c-{n}",
            "2026-01-01T00:00:00Z",
            block_id=f"b-{n}",
            credits="1000000",
            price="9999.99",
            currency="USD",
        )
        for n in range(7)
    ]
    recorded(service, ledger, *events)


@pytest.fixture(params=["directly", "over a slow link"])
def link(request: pytest.FixtureRequest) -> Link:
    """The link of a writer to the server. The laws must hold over every link."""
    return nullcontext if request.param == "directly" else slow_link


def _writer(url: str, ledger: str, name: str, batches: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.store.writer", url, ledger, name, str(batches), str(SIZE)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def _acknowledged(writer: subprocess.Popen[str]) -> list[int]:
    assert writer.stdout is not None
    return [int(line) for line in writer.stdout if line.strip().isdigit()]


def _batches_in_log(url: str, ledger: str, name: str) -> dict[int, int]:
    """Returns the number of events in the log for each of a writer's batches."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT split_part(event_id, '-', 2)::int, count(*) FROM events "
            "WHERE ledger = %s AND event_id LIKE %s GROUP BY 1",
            (ledger, f"{name}-%"),
        ).fetchall()
    return dict(rows)


def _assert_whole(service: Subledger, url: str, ledger: str, name: str, acknowledged: list[int]) -> None:
    found = _batches_in_log(url, ledger, name)
    assert set(acknowledged) <= set(found), "what was acknowledged is there"
    assert set(found.values()) <= {SIZE}, "a batch is whole or absent"
    assert verify(service.database, ledger).differences == []


@pytest.mark.campaign
def test_two_processes_write_one_ledger_without_gap_or_loss(
    service: Subledger, owner_url: str, new_ledger: NewLedger, link: Link
) -> None:
    ledger = new_ledger()
    _fund(service, ledger)
    with link(owner_url) as url:
        writers = {name: _writer(url, ledger, name, 6) for name in ("left", "right")}
        for writer in writers.values():
            assert _acknowledged(writer) == list(range(6))
            assert writer.wait() == 0
    for name in writers:
        _assert_whole(service, owner_url, ledger, name, list(range(6)))
    with psycopg.connect(owner_url) as connection:
        positions = connection.execute("SELECT position FROM events WHERE ledger = %s ORDER BY 1", (ledger,)).fetchall()
        owners = connection.execute(
            "SELECT split_part(event_id, '-', 1) FROM events WHERE ledger = %s AND event_id ~ '-0$' ORDER BY position",
            (ledger,),
        ).fetchall()
    assert [position for (position,) in positions] == list(range(1, len(positions) + 1))
    assert len(positions) == 3 + 7 + 12 * SIZE
    assert owners


@pytest.mark.campaign
def test_a_writer_killed_in_the_middle_loses_nothing_it_acknowledged(
    service: Subledger, owner_url: str, new_ledger: NewLedger, link: Link
) -> None:
    ledger = new_ledger()
    _fund(service, ledger)
    with link(owner_url) as url:
        for attempt, delay_s in enumerate((0.0, 0.03, 0.06, 0.09)):
            name = f"killed{attempt}"
            writer = _writer(url, ledger, name, 1000)
            assert writer.stdout is not None
            first = [int(writer.stdout.readline()), int(writer.stdout.readline())]
            time.sleep(delay_s)  # somewhere inside a later batch
            writer.kill()
            _assert_whole(service, owner_url, ledger, name, first + _acknowledged(writer))
            writer.wait()
    again = _writer(owner_url, ledger, "after", 1)
    assert _acknowledged(again) == [0]
    again.wait()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    yield home
    embedded.stop(home)


@pytest.mark.campaign
def test_a_server_killed_in_the_middle_loses_nothing_it_acknowledged(own_server: Path, link: Link) -> None:
    url = embedded.ensure_running(own_server, idle_timeout_s=60.0)
    migrate(url)
    database = Database(url)
    service = Subledger(database)
    service.create_ledger("acme", LedgerSettings(currency="USD"))
    _fund(service, "acme")
    with link(url) as its_url:
        writer = _writer(its_url, "acme", "w", 1000)
        assert writer.stdout is not None
        first = [int(writer.stdout.readline()), int(writer.stdout.readline())]
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT pg_read_file('postmaster.pid')").fetchone()
        assert row is not None
        os.kill(int(row[0].splitlines()[0]), signal.SIGKILL)
        acknowledged = first + _acknowledged(writer)
        writer.wait()
    database.close()
    url = embedded.ensure_running(own_server, idle_timeout_s=60.0)
    restarted = Database(url)
    _assert_whole(Subledger(restarted), url, "acme", "w", acknowledged)
    restarted.close()
