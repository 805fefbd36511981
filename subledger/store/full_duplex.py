"""Connections that cannot deadlock with the server: during a wait, they both send and receive.

A statement may be larger than the buffers of the socket. The server reads further only while it can also write, and it
can write only while we read. If a client waits only to read, or only to write, both sides may wait for ever, and the
client's transaction keeps its lock. psycopg's plain ``execute`` waits for both. Two other waits of psycopg do not. A
pipeline calls ``flush`` once after its last command and then waits to read, but a part of the command may be unsent.
``COPY`` waits to write, but the server may first have notices to send.

So every wait of such a connection goes through ``sending_and_receiving``, which follows this rule:

    every wait also reads the bytes that arrive, and sends the unsent bytes

With this rule neither side waits for ever, because in every wait we read and send. The rule depends neither on sizes
nor on the speed of the link, so no threshold has to be chosen. libpq requires the same of a client that does not block
(documentation of ``PQflush``): wait for read-ready or write-ready, consume the input, flush again, until all is sent.

Data that arrive while a statement is sent stay in libpq's buffer. They are the answers of a few commands, and notices.

Owns: the waits of our connections. Does not own: their limits (timeouts), the statements.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any, Final, TypeVar

import psycopg
from psycopg import capabilities, generators, waiting
from psycopg.pq.abc import PGconn
from psycopg.waiting import Ready, Wait

Result = TypeVar("Result")
Waiting = Generator[Wait, Ready | int | None, Result]
"""One of psycopg's operations. It yields the readiness that it needs, receives the readiness that exists, and returns
its result.
"""


_CANCEL_S: Final = 10.0
"""Time limit of a request to cancel, in seconds: the server may be unreachable."""


class SilentServer(psycopg.OperationalError):
    """The server has neither sent nor received anything for too long. Its statement is cancelled if the server can be
    reached.
    """


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A psycopg connection that sends and receives in every wait, also in a pipeline and in a COPY.

    If the server neither sends nor receives anything for ``silence_s`` seconds, the connection is closed. The server
    may have stopped on a machine that still acknowledges data. It may also be busy. So it is first requested to cancel
    its statement, which would otherwise keep its locks. None: the wait has no limit.
    """

    silence_s: float | None = None

    def wait(self, gen: Any, *arguments: Any, **named: Any) -> Any:
        """Runs one of psycopg's operations to its end."""
        return super().wait(sending_and_receiving(self.pgconn, gen, self.silence_s), *arguments, **named)

    def send_all(self) -> None:
        """Sends the unsent part of a pipeline. Data that arrive meanwhile wait to be fetched."""
        self.wait(_until_sent(self.pgconn))


def sending_and_receiving(
    pgconn: PGconn, operation: Waiting[Result], silence_s: float | None = None
) -> Waiting[Result]:
    """Runs an operation that sends unsent data while it waits to read, and reads while it waits to write."""
    silence = _Silence(pgconn, silence_s)
    try:
        wanted = next(operation)
        while True:
            try:
                ready = yield from _either_way(pgconn, wanted, silence)
            except psycopg.Error as error:  # the connection is lost: the operation reports it, and cleans up
                wanted = operation.throw(error)
            else:
                wanted = operation.send(ready)
    except StopIteration as end:
        result: Result = end.value
        return result


class _Silence:
    """The time since anything was sent or received, over all waits of one operation, which may check often without
    result.
    """

    def __init__(self, pgconn: PGconn, limit_s: float | None) -> None:
        self._pgconn = pgconn
        self._limit_s = limit_s
        self._since: float | None = None

    def note(self, ready: int) -> None:
        """Notes the result of a wait, which may be nothing: psycopg checks again every tenth of a second.

        Raises SilentServer, with the connection closed, if nothing happened for longer than the limit.
        """
        if ready or self._limit_s is None:
            self._since = None
            return
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if now - self._since > self._limit_s:
            _cancel(self._pgconn)
            self._pgconn.finish()
            raise SilentServer(f"the server has sent and received nothing for {self._limit_s:g} s")


def _either_way(pgconn: PGconn, wanted: Wait, silence: _Silence) -> Waiting[int]:
    """Waits until an operation can read or write as it needs, and does the other meanwhile. Returns the readiness."""
    while True:
        unsent = pgconn.flush() != 0
        found = (yield Wait.RW if unsent or wanted & Wait.W else Wait.R) or 0
        silence.note(found)
        if unsent:
            # A flush that could not send everything has also read (libpq's pqSendSome). It may have read the answer for
            # which the operation waits, and then no more data arrive. So the operation checks again, which is harmless.
            found |= Ready.R
        if found & Ready.R and not wanted & Wait.R:
            # The operation would leave this input unread, and the server could not continue.
            pgconn.consume_input()
        if found & wanted:
            return found & wanted


def _cancel(pgconn: PGconn) -> None:
    """Requests over another connection that the server cancels the statement. It has no effect if the server does not
    answer.
    """
    if not capabilities.has_cancel_safe():
        return  # before libpq 17 such a request may itself wait for ever
    with suppress(psycopg.Error):
        request = pgconn.cancel_conn()
        request.start()
        waiting.wait_conn(generators.cancel(request), interval=0.1, timeout=_CANCEL_S)


def _until_sent(pgconn: PGconn) -> Waiting[None]:
    while pgconn.flush() != 0:
        if ((yield Wait.RW) or 0) & Ready.R:
            pgconn.consume_input()
