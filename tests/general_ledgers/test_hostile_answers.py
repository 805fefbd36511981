"""Answers of general ledgers that never end, or are far larger than they look, are limited, and deliveries continue."""

from __future__ import annotations

import gzip
import socket
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from api.service import Subledger
from projections.delivery import channels, outbox
from projections.delivery.deliveries import Delivery
from projections.delivery.sending import deliver_due
from projections.monitors import webhook
from projections.monitors.settings import MonitorSettings
from subledger.external import bounded_http
from subledger.external.bounded_http import MAX_ANSWER
from subledger.external.calls import Calls, Unclear
from tests.general_ledgers.conftest import deliveries
from tests.general_ledgers.intacct import PATH, SENDER_PASSWORD, USER_PASSWORD, IntacctStandIn
from tests.general_ledgers.pace import QUICK
from tests.general_ledgers.stand_in import Answer, Request
from tests.general_ledgers.working import states, work

pytestmark = pytest.mark.usefixtures("open_borders")

HEAD = b"HTTP/1.1 200 OK\r\n"
OVER_S = 60.0
"""Seconds after which a hostile server gives up by itself, so that a failed test does not hang."""


def bomb(size: int = 64 << 20) -> bytes:
    """Returns a gzip of blanks."""
    return gzip.compress(b" " * size, 9)


class Hostile:
    """A server on loopback that reads a request and then runs its hostile answer."""

    def __init__(self, answer: Callable[[socket.socket, threading.Event], None]) -> None:
        self._answer = answer
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/"

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(1 << 16)
                self._answer(connection, self._over)
            except OSError:  # the caller has gone
                pass

    def close(self) -> None:
        self._over.set()
        self._listener.close()


def whole(head: bytes, body: bytes) -> Callable[[socket.socket, threading.Event], None]:
    def answer(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(HEAD + head + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    return answer


def endless(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    for _ in range(8_192):  # half a GiB
        connection.sendall(piece)


def trickling(head: bytes) -> Callable[[socket.socket, threading.Event], None]:
    def answer(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(head)
        for _ in range(int(OVER_S / 0.02)):
            connection.sendall(b"x")
            if over.wait(0.02):
                return

    return answer


@pytest.fixture
def hostile() -> Iterator[Callable[..., str]]:
    """Makes a hostile server, and returns its address."""
    made: list[Hostile] = []

    def make(answer: Callable[[socket.socket, threading.Event], None]) -> str:
        made.append(Hostile(answer))
        return made[-1].url

    yield make
    for server in made:
        server.close()


def send(url: str, timeout_s: float = 30.0) -> Any:
    with bounded_http.client() as client:
        return Calls(client, timeout_s=timeout_s, turn=lambda: None).send("GET", url)


GZIP = b"Content-Encoding: gzip\r\n"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (whole(b"", b"x" * (MAX_ANSWER + 1)), "more than"),
        (endless, "more than"),
        (whole(GZIP, bomb()), "more than"),
        (whole(b"Content-Encoding: deflate\r\n", zlib.compress(b" " * (64 << 20))), "more than"),
        (whole(b"Content-Encoding: gzip, gzip\r\n", gzip.compress(bomb())), "compressed as gzip, gzip"),
        (whole(GZIP + GZIP, gzip.compress(bomb())), "compressed as gzip, gzip"),
        (whole(b"Content-Encoding: br\r\n", b"x"), "compressed as br"),
        (whole(GZIP, b"this is no gzip"), "not gzip"),
    ],
    ids=["large", "endless", "gzip bomb", "deflate bomb", "gzip of gzip", "two headers", "brotli", "no gzip"],
)
def test_an_answer_beyond_its_bounds_is_unclear_and_is_not_read_whole(
    hostile: Callable[..., str], answer: Callable[[socket.socket, threading.Event], None], said: str
) -> None:
    url = hostile(answer)
    tracemalloc.start()
    try:
        with pytest.raises(Unclear, match=said):
            send(url)
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_ANSWER
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\nX: ", HEAD + b"Content-Length: 999999\r\n\r\n", b""],
    ids=["headers", "body", "status"],
)
def test_an_answer_that_trickles_is_given_up_when_the_time_of_the_whole_call_is_over(
    hostile: Callable[..., str], head: bytes
) -> None:
    with pytest.raises(Unclear, match=r"the time for the whole call is over|timed out"):
        send(hostile(trickling(head)), timeout_s=0.3)


def test_an_answer_within_its_bounds_is_read_however_it_is_compressed(hostile: Callable[..., str]) -> None:
    text = b'{"a": "' + b"x" * 100_000 + b'"}'
    for head, body in (
        (b"", text),
        (GZIP, gzip.compress(text)),
        (b"Content-Encoding: deflate\r\n", zlib.compress(text)),
        (b"Content-Encoding: identity\r\n", text),
    ):
        answer = send(hostile(whole(head, body)))
        assert (answer.content, answer.json()["a"][:1]) == (text, "x")


def test_a_webhook_that_never_ends_its_answer_is_given_up(
    hostile: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s" * 32)
    monkeypatch.setattr(webhook, "TIMEOUT_S", 0.3)
    url = hostile(trickling(b"HTTP/1.1 200 OK\r\nX: "))
    settings = MonitorSettings(webhook=url, webhook_secret=f"file:{secret}")
    failed = webhook.send(settings, "id", b"{}", datetime.now(UTC))
    assert failed is not None
    assert "Timeout" in failed


# --- through the state machine --------------------------------------------------------------------------------------


class HostileIntacct(IntacctStandIn):
    """Executes each request, but answers ``hostile`` times with a bomb, or always that more pages follow."""

    def __init__(self) -> None:
        super().__init__()
        self.bombs = 0
        self.always_more = False

    def answer(self, request: Request) -> Answer:
        answer = super().answer(request)
        if self.bombs and b"<create" in request.body:
            self.bombs -= 1
            return Answer(200, gzip.compress(bomb()), {"Content-Encoding": "gzip, gzip"})
        if self.always_more and b"numremaining" in answer.body:
            return answer._replace(body=answer.body.replace(b'numremaining="0"', b'numremaining="1"'))
        return answer


@pytest.fixture
def intacct() -> Iterator[HostileIntacct]:
    stand_in = HostileIntacct()
    yield stand_in
    stand_in.close()


@pytest.fixture
def one(
    service: Subledger, sold: Callable[..., str], exported: Callable[..., Any], intacct: HostileIntacct, tmp_path: Path
) -> tuple[channels.Channel, Delivery]:
    for name, password in (("sender", SENDER_PASSWORD), ("user", USER_PASSWORD)):
        (tmp_path / name).write_text(password + "\n")
    given = {
        "connector": "intacct",
        "url": intacct.url + PATH,
        "sender_id": "sender",
        "company_id": "company",
        "user_id": "user",
        "sender_password": f"file:{tmp_path}/sender",
        "user_password": f"file:{tmp_path}/user",
        **QUICK,
        "timeout_s": 30.0,
    }
    ledger = sold()
    channel = channels.set_channel(service.database, ledger, "intacct", given, by="test")
    export = exported(ledger, form="intacct-xml", target="intacct", state="Posted")
    [delivery] = outbox.add(service.database, channel, export, by="test")
    return channel, delivery


def test_a_submission_answered_by_a_bomb_is_unknown_until_it_is_looked_up_and_found(
    service: Subledger, intacct: HostileIntacct, one: tuple[channels.Channel, Delivery]
) -> None:
    channel, delivery = one
    intacct.bombs = 1
    work(service, channel)
    assert states(service, delivery)[-1] == "posted"
    assert "unknown" in states(service, delivery)
    assert len(intacct.named(deliveries(service, channel.ledger)[0].reference)) == 1


def test_a_target_that_always_has_more_is_not_asked_for_ever(
    service: Subledger, intacct: HostileIntacct, one: tuple[channels.Channel, Delivery]
) -> None:
    channel, delivery = one
    intacct.always_more = True
    deliver_due(service.database, channel)
    assert deliveries(service, channel.ledger)[0].state not in ("posted", "reconciled")
    assert intacct.calls < 1_000
    assert intacct.journals == []
    intacct.always_more = False
    work(service, channel)
    assert states(service, delivery)[-1] == "posted"
