"""Connections that cannot deadlock with the server: while they wait, they both send and receive.

A statement may be larger than what the buffers of the socket hold. The server reads on only while it can also write,
and it writes only while we read; so a client that waits for one of the two alone, while the server needs the other,
waits for ever, and holds whatever lock its transaction has. psycopg's plain ``execute`` waits for both. Two of its
waits do not: a pipeline calls ``flush`` once after its last command and then waits to read, though some of the command
may be unsent; and ``COPY`` waits to write, though the server may have notices to say first.

So every wait of such a connection goes through ``sending_and_receiving``, which holds this rule:

    nothing is waited for without reading what arrives, and without sending what is unsent

With it there is no circle to wait in. The server waits to write only until we have read, and we always read; it waits
to read only until we have sent, and we always send. No size and no speed of the link appears in that argument, so there
is no threshold to choose. It is the rule that libpq asks of whoever does not block (the documentation of ``PQflush``):
wait for read-ready or write-ready, consume the input, flush again, until nothing is left.

What is read while a statement is being sent stays in libpq's buffer: answers of a few commands, and notices.

Owns: how our connections wait. Does not own: how long (timeouts), nor what is said over them.
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
"""One of psycopg's operations: it yields what it waits for, is sent what is ready, and returns its result."""


_CANCEL_S: Final = 10.0
"""Limit of a request to cancel, in seconds: the server may be lost altogether."""


class SilentServer(psycopg.OperationalError):
    """The server has neither said nor taken anything for too long; its statement is cancelled if it can be reached."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A psycopg connection whose every wait sends and receives, in a pipeline and in a COPY too.

    A server that neither says nor takes anything for ``silence_s`` seconds is given up, and the connection closed:
    it may be stopped, on a machine that goes on acknowledging what it is sent. It may also be at work: so it is asked
    first to cancel its statement, which would else keep its locks. None: it is waited for without a limit.
    """

    silence_s: float | None = None

    def wait(self, gen: Any, *arguments: Any, **named: Any) -> Any:
        """Runs one of psycopg's operations to its end."""
        return super().wait(sending_and_receiving(self.pgconn, gen, self.silence_s), *arguments, **named)

    def send_all(self) -> None:
        """Sends what a pipeline has not sent yet; what arrives meanwhile waits to be fetched."""
        self.wait(_until_sent(self.pgconn))


def sending_and_receiving(
    pgconn: PGconn, operation: Waiting[Result], silence_s: float | None = None
) -> Waiting[Result]:
    """The same operation, which sends what is unsent while it waits to read, and reads while it waits to write."""
    silence = _Silence(pgconn, silence_s)
    try:
        wanted = next(operation)
        while True:
            try:
                ready = yield from _either_way(pgconn, wanted, silence)
            except psycopg.Error as error:  # the connection is lost: the operation says so, and cleans up
                wanted = operation.throw(error)
            else:
                wanted = operation.send(ready)
    except StopIteration as end:
        result: Result = end.value
        return result


class _Silence:
    """The time since anything was sent or received, over all the waits of one operation: it may look often, in vain."""

    def __init__(self, pgconn: PGconn, limit_s: float | None) -> None:
        self._pgconn = pgconn
        self._limit_s = limit_s
        self._since: float | None = None

    def note(self, ready: int) -> None:
        """Notes what a wait found, or that it found nothing: psycopg asks again every tenth of a second.

        Raises SilentServer once that was so for longer than the limit; the connection is closed then.
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
    """Waits until an operation can have what it wants, and meanwhile does the other thing. Returns what is ready."""
    while True:
        unsent = pgconn.flush() != 0
        found = (yield Wait.RW if unsent or wanted & Wait.W else Wait.R) or 0
        silence.note(found)
        if unsent:
            # A flush that could not send everything has read what there was (libpq's pqSendSome), perhaps the very
            # answer that the operation waits for: nothing more need arrive. So it looks again; looking is harmless.
            found |= Ready.R
        if found & Ready.R and not wanted & Wait.R:
            # The operation would leave this where it is, and the server could not go on.
            pgconn.consume_input()
        if found & wanted:
            return found & wanted


def _cancel(pgconn: PGconn) -> None:
    """Asks the server to cancel what it does on a connection, over another one; in vain where it does not answer."""
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
