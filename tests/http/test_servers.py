"""Several servers on one ledger, killed or stopped at any moment: each id is recorded once, and every answer stays
true.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import psycopg
import pytest

from api.keys import create_key
from api.service import Subledger
from projections.integrity import verify
from subledger.ledger_settings import LedgerSettings
from subledger.store.database import Database
from tests.http.raw import answer_of, parsed
from tests.http.serving import Server, listens, serving
from tests.store.holding import fund, held, use
from tests.store.slow_link import opened_link
from tests.waiting import HANGS_S, until

pytestmark = pytest.mark.campaign

CALLERS, EACH = 6, 25


@pytest.fixture
def own(scratch_url: str) -> Iterator[tuple[Subledger, str, str]]:
    """A service on its own database, the database's URL, and a key."""
    database = Database(scratch_url)
    service = Subledger(database)
    service.create_ledger("acme", LedgerSettings(currency="USD"))
    fund(service, "acme")
    yield service, scratch_url, create_key(database, ledger="acme", role="writer", name="caller").secret
    database.close()


class Caller:
    """Posts one event after another, and repeats each until it is answered. If its server is gone, it uses the other
    one.
    """

    def __init__(self, key: str, *servers: Server) -> None:
        self.answers: list[tuple[str, str, int]] = []
        self._headers = {"Authorization": f"Bearer {key}"}
        self._ports = [server.port for server in servers]

    def post(self, event_ids: list[str]) -> None:
        with httpx.Client(headers=self._headers, timeout=HANGS_S) as client:
            for event_id in event_ids:
                while not self._answered(client, event_id):
                    pass

    def _answered(self, client: httpx.Client, event_id: str) -> bool:
        """Tries the servers in turn. Raises the connection error of the last one."""
        try:
            answer = client.post(f"http://127.0.0.1:{self._ports[0]}/v1/ledgers/acme/events", json=use(event_id))
        except httpx.TransportError:
            if len(self._ports) == 1:
                raise
            del self._ports[0]
            return False
        if answer.status_code == 503 and answer.json()["code"] == "stopping":  # it was incomplete; it is sent again
            return False
        assert answer.status_code == 200, answer.text
        [result] = answer.json()["results"]
        self.answers.append((result["id"], result["status"], result["position"]))
        return True


def positions_in_log(url: str) -> dict[str, int]:
    """Returns the positions by id of the events sent after the purchase. Checks that the positions of all events have
    no gap.
    """
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT position, source, event_id FROM events ORDER BY position").fetchall()
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    return {event_id: position for position, source, event_id in rows[4:] if source != "subledger"}


def test_two_servers_one_killed_in_the_midst_record_each_id_once_and_keep_what_they_answered(
    own: tuple[Subledger, str, str],
) -> None:
    service, url, key = own
    with serving(url) as killed, serving(url) as other, ThreadPoolExecutor(2 * CALLERS) as pool:
        first = [Caller(key, killed, other) for _ in range(CALLERS)]
        second = [Caller(key, other) for _ in range(CALLERS)]
        calls = [
            pool.submit(caller.post, [f"{n}-{k}" for k in range(EACH)])
            for callers in (first, second)
            for n, caller in enumerate(callers)
        ]
        until(lambda: all(len(caller.answers) > EACH // 4 for caller in first))
        killed.process.kill()
        for call in calls:
            call.result()
    log = positions_in_log(url)
    assert set(log) == {f"{n}-{k}" for n in range(CALLERS) for k in range(EACH)}
    said: dict[str, list[str]] = {}
    for caller in (*first, *second):
        assert len(caller.answers) == EACH
        for event_id, status, position in caller.answers:
            assert log[event_id] == position
            said.setdefault(event_id, []).append(status)
    for statuses in said.values():
        assert statuses.count("recorded") <= 1, "the answer that it is recorded may have died with the server"
        assert set(statuses) <= {"recorded", "duplicate"}
    assert verify(service.database, "acme").differences == []


def test_a_server_that_is_told_to_stop_answers_what_it_accepted_and_records_nothing_else(
    own: tuple[Subledger, str, str],
) -> None:
    service, url, key = own
    with serving(url) as server:
        callers = [Caller(key, server) for _ in range(CALLERS)]

        def post(n: int) -> None:
            with pytest.raises(httpx.TransportError):  # it continues until the server closes the connection
                callers[n].post([f"{n}-{k}" for k in range(100_000)])

        threads = [threading.Thread(target=post, args=(n,)) for n in range(CALLERS)]
        for thread in threads:
            thread.start()
        until(lambda: all(len(caller.answers) > EACH for caller in callers))
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        server.process.wait(HANGS_S)
    answered = {event_id: position for caller in callers for event_id, _, position in caller.answers}
    assert positions_in_log(url) == answered
    assert verify(service.database, "acme").differences == []


def test_a_server_that_is_told_to_stop_answers_a_call_whose_batch_waits(own: tuple[Subledger, str, str]) -> None:
    _, url, key = own
    with serving(url, SUBLEDGER_STOPPING_S="600") as server, ThreadPoolExecutor() as threads:
        with held(url, "acme") as hold:
            answer = threads.submit(Caller(key, server).post, ["waits"])
            hold.waiting_writer()
            server.process.send_signal(signal.SIGTERM)
            until(lambda: not listens(server.port))
        answer.result()
        server.process.wait(HANGS_S)
    assert "waits" in positions_in_log(url)


def test_a_server_that_is_told_to_stop_ends_though_the_database_says_nothing(own: tuple[Subledger, str, str]) -> None:
    _, url, key = own
    with opened_link(url) as (its_url, link), ThreadPoolExecutor() as threads:
        with serving(its_url, SUBLEDGER_STOPPING_S="1") as server:
            Caller(key, server).post(["before"])
            link.fall_silent()
            calls = [threads.submit(Caller(key, server).post, [f"during-{n}"]) for n in range(3)]
            reader = {"headers": {"Authorization": f"Bearer {key}"}, "timeout": None}
            reads = [threads.submit(httpx.get, f"http://127.0.0.1:{server.port}/v1/ledgers/acme", **reader)]
            until(lambda: link.waiting)
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(HANGS_S)
        for call in (*calls, *reads):
            assert isinstance(call.exception(), httpx.TransportError), "the server hung up"


HEAD = (
    "POST /v1/ledgers/acme/events HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    "Authorization: Bearer {key}\r\nContent-Length: {length}\r\n\r\n"
)


def test_a_server_that_is_told_to_stop_answers_half_a_call_at_once_and_carries_out_a_whole_one(
    own: tuple[Subledger, str, str], tmp_path: Path
) -> None:
    _, url, key = own
    head, log = HEAD.format(key=key, length=1000), tmp_path / "log"
    body = json.dumps(use("ahead"))
    halves = [
        head[:40],
        head,
        head + '{"specversion',
        head.replace("Content-Type", "Expect: 100-continue\r\nContent-Type"),
        head.replace("Content-Length: 1000", "Transfer-Encoding: chunked") + "2\r\n[{\r\n",
    ]
    with serving(url, log=log, SUBLEDGER_STOPPING_S="600") as server, ThreadPoolExecutor() as threads:
        with held(url, "acme") as hold, ExitStack() as stack:
            sent = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in halves]
            for half, text in zip(sent, halves, strict=True):
                half.sendall(text.encode())
            whole = threads.submit(Caller(key, server).post, ["whole"])  # the server has read the earlier bytes
            hold.waiting_writer()
            ahead = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            ahead.sendall((HEAD.format(key=key, length=len(body)) + body + head + "{").encode())
            read = httpx.get(f"http://127.0.0.1:{server.port}/healthz")  # and also these
            assert read.status_code == 200
            server.process.send_signal(signal.SIGTERM)
            for half, text in zip(sent, halves, strict=True):
                status, headers, answer = answer_of(half)
                if "Expect" in text:
                    assert status == 100
                    status, headers, answer = parsed(answer)
                document = json.loads(answer)
                assert (status, document["code"], document["retryable"]) == (503, "stopping", True), text
                assert (headers["connection"], headers["retry-after"]) == ("close", "1"), text
            assert not whole.done()
            hold.release()
            whole.result()
            status, _, answer = answer_of(ahead)  # the first call of this connection, then half of another one
            assert status == 200
            first, _, second = answer.partition(b"HTTP/1.1 503")
            assert (b'"recorded"' in first, b'"code":"stopping"' in second) == (True, True)
        server.process.wait(HANGS_S)
    assert {"whole", "ahead"} <= set(positions_in_log(url))
    assert "Traceback" not in log.read_text()


def test_clients_that_went_away_leave_no_traceback(own: tuple[Subledger, str, str], tmp_path: Path) -> None:
    _, url, key = own
    log, refused = tmp_path / "log", HEAD.format(key="sl_none", length=1000)
    whole = json.dumps(use("gone"))
    call = HEAD.format(key=key, length=len(whole)) + whole
    sent = [call, call + call, call + refused + "{", call + "GET nowhere", refused, call + "GET / HTTP/1.1\r\n" * 9]
    with serving(url, log=log) as server, held(url, "acme") as hold:
        for text in sent:
            with socket.create_connection(("127.0.0.1", server.port)) as gone:
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # its end is a reset
                gone.sendall(text.encode())
                hold.waiting_writer()
                assert httpx.get(f"http://127.0.0.1:{server.port}/healthz").status_code == 200  # all was read
        assert httpx.get(f"http://127.0.0.1:{server.port}/healthz").status_code == 200
        hold.release()
        Caller(key, server).post(["after"])
    assert {"gone", "after"} <= set(positions_in_log(url))
    assert "Traceback" not in log.read_text()


def test_calls_that_are_broken_off_at_the_end_leave_no_traceback(
    own: tuple[Subledger, str, str], tmp_path: Path
) -> None:
    _, url, key = own
    log = tmp_path / "log"
    with (
        serving(url, log=log, SUBLEDGER_STOPPING_S="4") as server,
        ThreadPoolExecutor() as threads,
        held(url, "acme") as hold,
    ):
        call = threads.submit(Caller(key, server).post, ["waits"])
        hold.waiting_writer()
        server.process.send_signal(signal.SIGTERM)
        assert isinstance(call.exception(), httpx.TransportError), "what becomes of it is not known"
        server.process.wait(HANGS_S)
    assert "Traceback" not in log.read_text()


def test_a_worker_that_is_told_to_stop_ends_though_the_database_says_nothing(own: tuple[Subledger, str, str]) -> None:
    _, url, _ = own
    with opened_link(url) as (its_url, link):
        worker = subprocess.Popen(
            [sys.executable, "-m", "api.cli.main", "worker"],
            cwd=Path(__file__).parents[2],
            stderr=subprocess.PIPE,
            env={**os.environ, "SUBLEDGER_DATABASE_URL": its_url, "SUBLEDGER_STOPPING_S": "1"},
        )
        with psycopg.connect(url, autocommit=True) as connection:
            until(lambda: connection.execute("SELECT 1 FROM jobs.procrastinate_workers").fetchone() is not None)
        link.fall_silent()
        worker.send_signal(signal.SIGTERM)
        worker.wait(HANGS_S)
