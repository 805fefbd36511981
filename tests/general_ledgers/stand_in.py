"""The common part of stand-ins: a server on loopback that stores submissions, and fails as the real ones do.

A stand-in answers as its vendor documents. It stores every accepted journal in the list ``journals``, so a second copy
is visible. Before it answers a submission, it calls ``fault`` for the fault of this submission.
"""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

Fault = Literal[
    "drops_after",  # executes it, and closes the connection without an answer
    "times_out_after",  # executes it, and answers after the caller's time-out
    "fails_after",  # executes it, and answers 500
    "drops_before",  # closes the connection without executing it
    "fails_before",  # answers 503 without executing it
    "late",  # closes the connection, and executes it later
    "throttles",  # answers 429 with Retry-After
]
FAULTS: tuple[Fault, ...] = (
    "drops_after", "times_out_after", "fails_after", "drops_before", "fails_before", "late", "throttles",
)  # fmt: skip


class Request(NamedTuple):
    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Answer(NamedTuple):
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}

    @classmethod
    def of(cls, document: Any, status: int = 200, **headers: str) -> Answer:
        return cls(status, json.dumps(document).encode(), {"Content-Type": "application/json", **headers})


class Dropped(Exception):
    """The connection is to be closed without an answer."""


Journal = dict[str, Any]
"""A journal in a stand-in: ``reference``, ``debit`` and ``credit`` as text, ``posted``, and the vendor's own fields."""


class StandIn(ABC):
    """A general ledger on loopback. ``closed``: closed months, such as 2026-01, into which nothing can be posted.
    ``down``: every call is answered with 503. ``retry_after``: the header of each 503.
    """

    down = False
    retry_after: str | None = None
    late_s = 0.3
    time_out_s = 2.0

    def __init__(self) -> None:
        self.journals: list[Journal] = []
        self.closed: set[str] = set()
        self.fault: Callable[[], Fault | None] = lambda: None
        self.lock = threading.RLock()
        self.calls = 0
        self.met: dict[str, int] = {}
        standing = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
                standing.calls += 1
                try:
                    request = Request(self.command, unquote(parts.path), query, self.headers, body)
                    answer = standing.unavailable() if standing.down else standing.answer(request)
                except Dropped:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                try:
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(answer.body)))
                    self.end_headers()
                    self.wfile.write(answer.body)
                except OSError:  # the caller has gone
                    self.close_connection = True

            do_GET = do_POST = do_PUT = do_PATCH = _any

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: object) -> None:  # a caller that has gone is not an error
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def taken(self) -> int:
        """The number of accepted submissions."""
        return len(self.journals)

    def reopen(self, month: str) -> None:
        """Opens a month, after somebody has removed the remains of submissions to the closed month."""
        self.closed.discard(month)

    @abstractmethod
    def answer(self, request: Request) -> Answer:
        """Returns the answer of this API."""

    def submitted(self, do: Callable[[], Answer], throttled: Callable[[], Answer] | None = None) -> Answer:
        """Handles a submission, with its fault. ``do`` accepts or refuses it."""
        fault = self.fault()
        self.met[str(fault)] = self.met.get(str(fault), 0) + 1
        if fault == "throttles":
            return throttled() if throttled else Answer(429, b"too many requests", {"Retry-After": "0"})
        if fault == "fails_before":
            return self.unavailable()
        if fault == "drops_before":
            raise Dropped
        if fault == "late":
            threading.Timer(self.late_s, self._locked, (do,)).start()
            raise Dropped
        answer = self._locked(do)
        if fault == "drops_after":
            raise Dropped
        if fault == "times_out_after":
            time.sleep(self.time_out_s)
        if fault == "fails_after":
            return Answer(500, b"internal error")
        return answer

    def unavailable(self) -> Answer:
        return Answer(503, b"unavailable", {"Retry-After": self.retry_after} if self.retry_after else {})

    def _locked(self, do: Callable[[], Answer]) -> Answer:
        with self.lock:
            return do()

    def named(self, reference: str) -> list[Journal]:
        with self.lock:
            return [journal for journal in self.journals if journal["reference"] == reference]


def one_after_another(faults: Iterable[Fault | None]) -> Callable[[], Fault | None]:
    """Returns these faults, one for each submission, then none."""
    left = iter(faults)
    return lambda: next(left, None)


def unseen_until_it_is_sent_again(stand_in: Any) -> Callable[[], Fault | None]:
    """The first submission is executed and not answered, and no look-up finds it before it is sent again."""
    stand_in.unseen = 1_000_000
    sent: list[None] = []

    def fault() -> Fault | None:
        sent.append(None)
        if len(sent) == 1:
            return "drops_after"
        stand_in.unseen = 0
        return None

    return fault


def at_random(seed: int, share: float, faults: tuple[Fault, ...] = FAULTS) -> Callable[[], Fault | None]:
    """Returns a random fault for a share of the submissions."""
    dice, lock = random.Random(seed), threading.Lock()

    def fault() -> Fault | None:
        with lock:
            return dice.choice(faults) if dice.random() < share else None

    return fault
