"""Limits before a request is complete, over real sockets: headers, addresses, blank lines, time, connections."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import uvicorn

from api import limits
from api.http.protocol import BoundedProtocol
from api.limits import HttpLimits
from api.service import Subledger
from subledger.store.database import Database
from tests.http.raw import GUARD_S, Served, answer_of
from tests.waiting import until

GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"


Serve = Callable[..., Served]


@pytest.fixture
def serve(owner_url: str) -> Iterator[Serve]:
    """Runs a server with its own limits: ``serve(head_timeout_s=0.2)``. Its service stops with it."""
    with ExitStack() as stack:

        def make(**times: Any) -> Served:
            database = Database(owner_url)
            stack.callback(database.close)
            served = Served(Subledger(database), HttpLimits(**times), stack)
            stack.callback(served.close)
            return served

        yield make


def refused(answer: tuple[int, dict[str, str], bytes], status: int, code: str) -> None:
    got, headers, body = answer
    assert (got, json.loads(body)["code"]) == (status, code)
    assert (headers["content-type"], headers["connection"]) == ("application/problem+json", "close")


def test_what_is_too_large_before_the_body_is_refused_however_it_is_sent(serve: Serve) -> None:
    served = serve()
    long = b"x" * (768 << 10)  # so much is read and discarded, so that the client sees the answer
    sent: dict[bytes, tuple[int, str]] = {
        GET + b"X: " + long + b"\r\n\r\n": (431, "headers_too_large"),
        GET + long: (431, "headers_too_large"),
        GET + b"X: y\r\n" * 101 + b"\r\n": (431, "headers_too_large"),
        GET + b"X: y\r\n" * 100_000 + b"\r\n": (431, "headers_too_large"),
        GET + b"X: " + b"x" * limits.MAX_HEAD + b"\r\n\r\n": (431, "headers_too_large"),
        b"GET /" + long + b" HTTP/1.1\r\n\r\n": (414, "url_too_long"),
        b"GET /?" + b"x" * limits.MAX_URL + b" HTTP/1.1\r\n\r\n": (414, "url_too_long"),
        b"\r\n" * (1 << 18): (400, "invalid_request"),
        long: (400, "invalid_request"),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03": (400, "invalid_request"),
        b"GET / HTTP/9.9\r\n\r\n": (400, "invalid_request"),
        GET + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n": (400, "invalid_request"),
        GET + b"Content-Length: -1\r\n\r\n": (400, "invalid_request"),
        GET + b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\n": (400, "invalid_request"),
        GET + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n": (400, "invalid_request"),
        GET + b"X\x00: y\r\n\r\n": (400, "invalid_request"),
        b"CONNECT example:80 HTTP/1.1\r\n\r\n": (400, "invalid_request"),
        b"GET nowhere HTTP/1.1\r\n\r\n": (400, "invalid_request"),
    }
    for text, (status, code) in sent.items():
        refused(served.ask(text), status, code)
    assert served.ask(GET + b"Connection: close\r\n\r\n")[0] == 200


def test_heads_at_their_bounds_are_taken(serve: Serve) -> None:
    served = serve()
    most = b"GET /healthz?" + b"x" * (limits.MAX_URL - len("/healthz?")) + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    for head in (most, GET + b"X: y\r\n" * (limits.MAX_HEADERS - 2), GET + b"X: " + b"x" * (limits.MAX_HEAD - 200)):
        head = head if head.endswith(b"\r\n") else head + b"\r\n"
        assert served.ask(head + b"Connection: close\r\n\r\n")[0] in (200, 422)


def test_a_chunked_body_has_bounded_extensions_and_trailers(serve: Serve, new_ledger: Callable[..., str]) -> None:
    served, ledger = serve(), new_ledger()
    head = (
        b"POST /v1/ledgers/%s/exports HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" % ledger.encode()
    )
    for more in (
        b"1;" + b"x" * (4 << 20),
        b"1;x=y\r\n{\r\n" + b"1;" + b"x" * 99 + b"\r\n \r\n" * 50_000,
        b"1\r\n{\r\n0\r\n" + b"X: y\r\n" * 200_000,
        b"1\r\n{\r\n0\r\nX: " + b"x" * (4 << 20),
    ):
        status, _, body = served.ask(head + more)
        assert status in (400, 413, 431), more[:20]
        assert json.loads(body)["code"] in ("invalid_request", "invalid_json", "too_large", "headers_too_large")


def test_a_request_that_is_not_sent_whole_in_time_is_given_up(serve: Serve, new_ledger: Callable[..., str]) -> None:
    served, ledger = serve(head_timeout_s=0.2, body_timeout_s=0.2), new_ledger()
    refused(served.ask(GET), 408, "request_timed_out")
    refused(served.ask(b"G"), 408, "request_timed_out")
    assert served.ask(b"") == (0, {}, b""), "who asks nothing is answered nothing"
    assert served.ask(b"\r\n\r\n") == (0, {}, b"")
    post = b"POST /v1/ledgers/%s/exports HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    status, headers, body = served.ask(post % ledger.encode() + b"Content-Length: 100\r\n\r\n{")
    assert (status, json.loads(body)["code"], headers["connection"]) == (408, "request_timed_out", "close")


def test_a_head_that_trickles_is_given_up_although_something_arrives(serve: Serve) -> None:
    served = serve(head_timeout_s=0.3)
    connection = served.connect()
    given_up = threading.Event()

    def trickle() -> None:
        try:
            connection.sendall(GET)
            while not given_up.wait(0.02):
                connection.sendall(b"X: y\r\n" * 2)
        except OSError:
            pass

    sender = threading.Thread(target=trickle)
    sender.start()
    status, _, body = answer_of(connection)
    given_up.set()
    sender.join()
    assert (status, json.loads(body)["code"]) in ((408, "request_timed_out"), (431, "headers_too_large"))


def test_half_sent_requests_keep_nobody_out(serve: Serve) -> None:
    served = serve(connections=20, head_timeout_s=GUARD_S)
    half = [served.connect() for _ in range(60)]
    for connection in half:
        connection.sendall(GET)
        assert served.ask(GET + b"Connection: close\r\n\r\n")[0] == 200
    assert len(served.server.server_state.connections) <= 21
    assert len(served.protocol.waiting) <= 21


def test_one_connection_too_many_is_refused_where_each_of_the_others_has_a_call(serve: Serve) -> None:
    served = serve(connections=2, body_timeout_s=GUARD_S)
    half = (
        b"POST /v1/ledgers HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    )
    for _ in range(2):
        served.connect().sendall(half)
    until(lambda: len(served.server.server_state.connections) == 2 and not served.protocol.waiting)
    refused(served.ask(b""), 503, "too_many_connections")


def test_a_body_that_nobody_asked_for_is_not_read_and_its_sender_sees_the_answer(serve: Serve) -> None:
    served = serve()
    call = b"POST /v1/ledgers/nowhere/exports HTTP/1.1\r\nHost: evil.example\r\nContent-Length: %d\r\n\r\n"
    for size in (1 << 10, 1 << 18):
        status, headers, _ = served.ask(call % (64 << 20) + b"x" * size)
        assert (status, headers["connection"]) in ((401, "close"), (415, "close"))
    served.ask(call % (64 << 20) + b"x" * (64 << 20))
    assert served.ask(GET + b"Connection: close\r\n\r\n")[0] == 200


def test_requests_ahead_of_their_turn_are_bounded_and_a_few_are_answered(serve: Serve) -> None:
    served = serve()
    few = served.ask((GET + b"\r\n") * 9 + GET + b"Connection: close\r\n\r\n")
    assert (few[0], few[2].count(b'{"status":"ok"}')) == (200, 10)
    status, _, body = served.ask((GET + b"\r\n") * 20_000)
    assert status in (0, 200)
    assert body.count(b'{"status":"ok"}') < 1_000
    assert served.ask(GET + b"Connection: close\r\n\r\n")[0] == 200


def test_a_connection_stays_open_for_the_next_request(serve: Serve) -> None:
    connection = serve(keep_alive_s=60).connect()
    for _ in range(3):
        connection.sendall(GET + b"\r\n")
        received = b""
        while b'{"status":"ok"}' not in received:
            received += connection.recv(65_536)


# --- answers that are not read --------------------------------------------------------------------------------------

ANSWER = b"x" * (64 << 20)
"""More bytes than the buffers of both sockets can contain."""


async def long_answer(_scope: Any, _receive: Any, send: Any) -> None:
    headers = [(b"content-length", str(len(ANSWER)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


class Watched(BoundedProtocol):
    """Counts the checks of the server, and signals the end of a connection."""

    looks = 0
    gone = threading.Event()

    def _look_at_reading(self) -> None:
        type(self).looks += 1
        super()._look_at_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        super().connection_lost(exc)


class Answering:
    """A server for an application of the test, in a thread."""

    def __init__(self, app: Any, stack: ExitStack, *, loop: Callable[[], Any] | None = None, **times: Any) -> None:
        its = {"times": HttpLimits(**times), "waiting": {}, "unread": {}, "looks": 0, "gone": threading.Event()}
        self.protocol = type("Watched", (Watched,), its)
        self._stack, self._loop = stack, loop
        self._listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.server = uvicorn.Server(
            uvicorn.Config(app, http=self.protocol, ws="none", lifespan="off", access_log=False, log_config=None)
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        stack.callback(self.close)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._loop) as runner:
            runner.run(self.server.serve(sockets=[self._listener]))

    def connect(self, *calls: str) -> socket.socket:
        """Returns a connection on which some requests were sent."""
        connection = self._stack.enter_context(socket.create_connection(self._listener.getsockname(), timeout=GUARD_S))
        for call in calls:
            connection.sendall(f"GET /{call} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        return connection

    def close(self) -> None:
        self.server.should_exit = True
        self._thread.join()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def tired(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets short limits for clients that do not read their answers."""
    monkeypatch.setattr(limits, "UNREAD_ANSWER_S", 2.0)


@pytest.mark.campaign
def test_an_answer_that_is_read_slowly_is_not_cut(tired: None, stack: ExitStack) -> None:
    served = Answering(long_answer, stack)
    connection, watched = served.connect("long"), served.protocol
    received = 0
    while piece := connection.recv(1 << 20):
        received += len(piece)
        if watched.looks < 3:  # slowly until the server has checked a few times, then as fast as possible
            watched.gone.wait(0.1)
        if received >= len(ANSWER):
            break
    assert received >= len(ANSWER)
    assert watched.looks >= 1, "it took longer than a client may read nothing"


def test_an_answer_of_which_nothing_is_read_is_cut(tired: None, stack: ExitStack) -> None:
    served = Answering(long_answer, stack)
    connection = served.connect("long")
    assert served.protocol.gone.wait(GUARD_S)
    assert len(all_of(connection)) < len(ANSWER)


def test_an_answer_that_is_read_at_less_than_the_lowest_rate_is_cut_although_something_is_read(
    tired: None, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SLOWEST_ANSWER_BYTES_A_SECOND", 1 << 40)  # no client is so fast
    served = Answering(long_answer, stack)
    connection, received = served.connect("long"), 0
    while not served.protocol.gone.wait(0.01):
        received += len(connection.recv(1 << 15))
        assert received < len(ANSWER), "it was read to its end"


def all_of(connection: socket.socket) -> bytes:
    """Returns all bytes that are received until the connection is closed or reset."""
    received = bytearray()
    with suppress(ConnectionResetError):
        while piece := connection.recv(1 << 20):
            received += piece
    return bytes(received)


def test_clients_that_do_not_read_what_needs_no_key_keep_nobody_out(serve: Serve) -> None:
    served = serve(connections=3)
    unread = []
    for _ in range(3):
        unread.append(served.connect())
        unread[-1].sendall(b"GET /reference/swagger-ui-bundle.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 12)
        until(lambda: len(served.protocol.unread) == len(unread))
    [first, *others] = served.protocol.unread
    assert served.ask(GET + b"Connection: close\r\n\r\n")[0] == 200
    assert list(served.protocol.unread) == others, "the one that had waited longest to be read"
    assert first not in served.server.server_state.connections


def test_no_request_is_read_ahead_while_its_client_does_not_read_and_it_is_answered_later(stack: ExitStack) -> None:
    served = Answering(long_answer, stack, keep_alive_s=1)
    connection = served.connect("one", "two")
    until(lambda: len(served.protocol.unread) == 1)
    [unread] = served.protocol.unread
    connection.sendall(GET)  # the rest of it arrives after two answers were read
    assert unread.flow.read_paused
    for _ in range(2):
        read_answer(connection)
    connection.sendall(b"Connection: close\r\n\r\n")
    read_answer(connection)
    assert all_of(connection) == b""


def read_answer(connection: socket.socket) -> None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    left = len(ANSWER)
    while left:
        piece = connection.recv(min(left, 1 << 20))
        assert piece, "it was cut"
        left -= len(piece)


def test_a_pipelined_call_in_hand_makes_no_room_for_another_connection(stack: ExitStack) -> None:
    held, release = threading.Event(), threading.Event()

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["path"] == "/held":
            held.set()
            await asyncio.to_thread(release.wait)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    served = Answering(app, stack, connections=1)
    stack.callback(release.set)
    connection = served.connect()
    connection.sendall(GET + b"\r\n" + b"GET /held HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    assert held.wait(GUARD_S)
    refused(answer_of(served.connect()), 503, "too_many_connections")
    release.set()
    assert all_of(connection).count(b"200 OK") == 2


def test_a_connection_that_the_server_closes_in_the_midst_of_an_answer_leaves_no_traceback(
    stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    uvloop = pytest.importorskip("uvloop")  # asyncio's own loop accepts writes to a closed connection
    ended = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/short":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
            return
        try:
            await send({"type": "http.response.start", "status": 200})
            for _ in range(64):
                await send({"type": "http.response.body", "body": ANSWER[: 1 << 20], "more_body": True})
            await send({"type": "http.response.body"})
        finally:
            ended.set()

    served = Answering(app, stack, connections=1, loop=uvloop.new_event_loop)
    connection = served.connect("long", "long")  # uvicorn informs only the last request that its connection was lost
    until(lambda: len(served.protocol.unread) == 1)
    other = served.connect("short")
    assert other.recv(12) == b"HTTP/1.1 200"
    assert ended.wait(GUARD_S)
    assert len(all_of(connection)) < len(ANSWER)
    served.close()
    assert [
        record.getMessage() for record in caplog.records if record.name == "uvicorn.error" and record.exc_info
    ] == []
