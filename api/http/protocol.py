"""The HTTP protocol of the server, with limits on everything that happens before the application gets a request.

uvicorn's protocol (on httptools) does not limit the size of a request's line and headers, the time until they are
complete, the number of pipelined requests, or the time in which a client reads an answer. Here each has a limit. A
request beyond a limit is answered by a problem document, if that is still possible, and the connection is closed.

When the server stops, complete requests are carried out and answered. Incomplete ones are answered immediately with the
error that the server is stopping, because the rest of them may never arrive.

Owns: bytes, headers and time until a request's headers are complete; connections; the time in which answers are read.
Does not own: bodies (``bodies``).
"""

from __future__ import annotations

import asyncio
import json
from asyncio import TimerHandle
from collections.abc import Callable
from itertools import chain
from typing import Any, ClassVar, Final

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from api import limits, metrics
from api.http.problems import MEDIA_TYPE, headers_of, problem_of, status_of
from api.limits import HttpLimits
from subledger import errors

_PIECE: Final = 16 << 10
"""Bytes that are parsed between two checks of the limits."""
_LINGER_S: Final = 1.0
_LINGER_BYTES: Final = 1 << 20
"""Bytes (and seconds) that are still read and discarded after the last answer of a connection. If a connection is
closed with unread bytes, it is reset, and the client may not see the answer.
"""
_LOOK_S: Final = 1.0
"""Minimum seconds between two checks of a client that reads its answer slowly."""

INVALID: Final = errors.InvalidRequest("the bytes received are not an HTTP request", expected="HTTP/1.1 (RFC 9112)")
TOO_LONG_URL: Final = errors.UrlTooLong(
    "the address of this call is too long", field="url", expected=f"at most {limits.MAX_URL} bytes"
)
TOO_LARGE_HEAD: Final = errors.HeadersTooLarge(
    "the line and the headers of this call are too large",
    field="headers",
    expected=f"at most {limits.MAX_HEAD} bytes and {limits.MAX_HEADERS} headers",
)
TOO_MUCH_AROUND: Final = errors.InvalidRequest(
    "the body's chunks have more around them than in them", field="body", expected="chunks without extensions"
)
TIMED_OUT: Final = errors.RequestTimedOut("the headers of this call did not arrive in time; send it again")
STOPPING: Final = errors.Stopping("the server is stopping", expected="the same call, to another server or later")
TOO_MANY: Final = errors.TooManyConnections("the server has too many connections; send the call again later")
"""Answer to a connection beyond the maximum number."""


class _Refused(Exception):
    """Ends the parsing of a refused request."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection. ``bounded`` returns the class for a server."""

    times: ClassVar[HttpLimits]
    waiting: ClassVar[dict[BoundedProtocol, None]]
    """The connections without a current request. The first one has waited longest."""
    unread: ClassVar[dict[BoundedProtocol, None]]
    """The connections with answers that the client has not read. The first one has waited longest."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._behind, self.app = self.app, self._answer
        self._parsing = "nothing"  # or head, body
        self._raw = self._of_body = 0  # bytes of the current request
        self._refusal: errors.SubledgerError | None = None
        self._left_to_discard: int | None = None  # a number once the connection is about to be closed
        self._patience: TimerHandle | None = None
        self._look: TimerHandle | None = None
        self._reading_s = limits.UNREAD_ANSWER_S  # the time for which answers may still wait to be read
        self._looked_at, self._unread = 0.0, 0  # the time of the last check, and the unread bytes at that time
        self._is_stopping = False

    # --- the connection -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(_Lingering(transport, self))  # type: ignore[arg-type]  # it stands for a transport
        self.flow = _Flow(self.transport)
        if len(self.connections) > self.times.connections:
            oldest = next(chain(self.waiting, self.unread), None)
            if oldest is None:
                self._refuse(TOO_MANY)
                return
            oldest._forget()
            oldest.transport.abort()
        self.waiting[self] = None
        self._patience = self.loop.call_later(self.times.head_timeout_s, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        self._stop(self._patience)
        self._stop(self._look)
        super().connection_lost(exc)

    def _forget(self) -> None:
        """Removes this connection from the list of those that can be closed to make room for another."""
        self.waiting.pop(self, None)
        self.unread.pop(self, None)

    @property
    def _has_call(self) -> bool:
        """True while a request is being answered or waits for its turn; ``cycle`` is the last request that arrived."""
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_if_idle(self) -> None:
        if not (self._has_call or self.flow.write_paused or self.transport.is_closing()):
            self.waiting[self] = None

    def shutdown(self) -> None:
        """Ends idle connections. The server calls it once, when it begins to stop."""
        self._is_stopping = True
        if self._has_call:
            self.cycle.message_event.set()  # this wakes a call that waits for a body: see _answer
        elif self._parsing == "head":
            self._refuse(STOPPING)
            return
        super().shutdown()

    def close_lingering(self, transport: asyncio.Transport) -> None:
        """Closes the connection; first reads the bytes still arriving, if the client could miss the answer."""
        if self._parsing == "nothing" or self._left_to_discard is not None or transport.is_closing():
            if transport.get_write_buffer_size() and self not in self.unread:
                self._watch_reading()  # it is closed after the answer was read
            transport.close()
            return
        self._left_to_discard = _LINGER_BYTES
        self._stop(self._patience)
        self.waiting.pop(self, None)
        if transport.can_write_eof():
            transport.write_eof()
        self.flow.resume_reading()
        self._patience = self.loop.call_later(_LINGER_S, transport.abort)

    @property
    def is_lingering(self) -> bool:
        return self._left_to_discard is not None

    # --- unread answers -----------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        self.flow.pause_reading()
        if self not in self.unread:
            self._watch_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.transport.is_closing() and not self.is_lingering:
            return  # it is watched until everything was read
        if self in self.unread:
            del self.unread[self]
            self._stop(self._look)
            self._count_reading()
        if not self.pipeline:
            self.flow.resume_reading()
        self._wait_if_idle()

    def _watch_reading(self) -> None:
        self.waiting.pop(self, None)
        self.unread[self] = None
        self._looked_at, self._unread = self.loop.time(), self.transport.get_write_buffer_size()
        self._look = self.loop.call_later(max(self._reading_s, _LOOK_S), self._look_at_reading)

    def _look_at_reading(self) -> None:
        """Ends the connection if its client reads too slowly."""
        self._count_reading()
        if self._reading_s > 0:
            self._look = self.loop.call_later(max(self._reading_s, _LOOK_S), self._look_at_reading)
        else:
            self.transport.abort()

    def _count_reading(self) -> None:
        """Adds the time since the last check, and subtracts time for the bytes that the client has read since."""
        now, unread = self.loop.time(), self.transport.get_write_buffer_size()
        gained = max(self._unread - unread, 0) / limits.SLOWEST_ANSWER_BYTES_A_SECOND
        self._reading_s = min(self._reading_s - (now - self._looked_at) + gained, limits.UNREAD_ANSWER_S)
        self._looked_at, self._unread = now, unread

    def timeout_keep_alive_handler(self) -> None:
        """Excludes the time in which the last answer is not read yet: the next request may follow it."""
        if self.flow.write_paused:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        else:
            super().timeout_keep_alive_handler()

    # --- incoming bytes -----------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._left_to_discard is not None:
                self._left_to_discard -= len(view)
                if self._left_to_discard < 0:
                    self.transport.abort()
                return
            if self.transport.is_closing():
                return
            piece, view = view[:_PIECE], view[_PIECE:]
            if self._parsing == "nothing":
                self._await_head()
            super().data_received(piece)  # type: ignore[arg-type]  # the parser takes any buffer
            self._check(len(piece))

    def _check(self, size: int) -> None:
        """Checks the size of line and headers during parsing: the parser reports a header only at its end, however long
        it is.
        """
        self._raw += size
        if self._parsing == "head" and self._raw > limits.MAX_HEAD + _PIECE:
            self._refuse(TOO_LARGE_HEAD)
        elif self._parsing == "nothing" and self._raw > limits.MAX_HEAD + _PIECE:
            self._refuse(INVALID)  # the client sends blank lines without end
        elif self._parsing == "body" and self._raw > limits.MAX_HEAD + _PIECE + 8 * self._of_body:
            self._refuse(TOO_MUCH_AROUND)

    def on_message_begin(self) -> None:
        self._parsing, self._raw, self._of_body = "head", 0, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > limits.MAX_URL:
            self._refusal = TOO_LONG_URL
            raise _Refused

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if len(self.headers) > limits.MAX_HEADERS:
            self._refusal = TOO_LARGE_HEAD
            raise _Refused

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= limits.MAX_PIPELINED:
            self._refusal = INVALID
            raise _Refused
        if sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > limits.MAX_HEAD:
            self._refusal = TOO_LARGE_HEAD
            raise _Refused
        self._stop(self._patience)
        self._patience = None
        self.waiting.pop(self, None)
        super().on_headers_complete()
        self._parsing = "body"

    def on_body(self, body: bytes) -> None:
        self._of_body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._parsing, self._raw = "nothing", 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait_if_idle()

    # --- time ---------------------------------------------------------------------------------------------------

    def _await_head(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(self.times.head_timeout_s, self._head_is_late)

    def _head_is_late(self) -> None:
        self._patience = None
        if self._has_call or self.flow.write_paused:
            self._await_head()  # another request of this connection is being answered
        elif self._parsing == "nothing":
            self.transport.close()  # no request arrived
        else:
            self._refuse(TIMED_OUT)

    @staticmethod
    def _stop(timer: TimerHandle | None) -> None:
        if timer is not None:
            timer.cancel()

    # --- answers ------------------------------------------------------------------------------------------------

    async def _answer(self, scope: Any, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """Calls the application. If it answers before it has read the body, the connection ends with the answer."""
        cycle: RequestResponseCycle = receive.__self__  # type: ignore[attr-defined]  # uvicorn's own method

        async def read() -> Any:
            self._check_stopping(cycle)
            message = await receive()
            if message.get("more_body"):
                self._check_stopping(cycle)
            return message

        async def answer(message: Any) -> None:
            await self._drained()  # uvicorn would write afterwards even if the connection was closed meanwhile
            if self.transport.is_closing():
                # Uvicorn learns it later, or only for one of several requests; a write would raise.
                cycle.disconnected = True
            if cycle.more_body and message["type"] == "http.response.start":
                cycle.keep_alive = False
            await send(message)

        try:
            await self._drained()  # the previous answer is read first; meanwhile this request's body is not read
            await self._behind(scope, read, answer)
        except asyncio.CancelledError:
            if not self._is_stopping:
                raise
            # The time for answers is over. The result of the call is not known, so any answer could be wrong.
            cycle.disconnected = True
            self.transport.abort()

    async def _drained(self) -> None:
        """Returns once the client has read enough of its answers, or the connection is closed."""
        while self.flow.write_paused:
            await self.flow.drain()

    def _check_stopping(self, cycle: RequestResponseCycle) -> None:
        """Raises Stopping if the server stops and the rest of the body has not arrived."""
        if self._is_stopping and cycle.more_body and not cycle.response_started and not cycle.disconnected:
            raise errors.Stopping(
                "the server is stopping, and the body is not complete", expected="the same call, once more"
            )

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # overrides uvicorn's
        """Answers a request that the parser refuses. uvicorn's ``msg`` is not used, because our refusal says more."""
        self._refuse(self._refusal or INVALID)

    def _refuse(self, error: errors.SubledgerError) -> None:
        cycle, status = self.cycle, status_of(error)
        if self.transport.is_closing():
            return
        metrics.answered("unread", "unmatched", status, 0.0)
        if self._has_call:
            # Otherwise the answer would look like the answer to another request.
            if cycle.response_started or self._parsing != "body":
                self.transport.abort()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        body = json.dumps(problem_of(error)).encode()
        named = {"Content-Type": MEDIA_TYPE, "Content-Length": str(len(body)), "Connection": "close"}
        headers = [(name.encode(), value.encode()) for name, value in {**named, **headers_of(error)}.items()]
        head = b"".join(
            name + b": " + value + b"\r\n" for name, value in (*self.server_state.default_headers, *headers)
        )
        self.transport.write(STATUS_LINE[status] + head + b"\r\n" + body)
        if self._parsing == "nothing":
            self._parsing = "head"  # a request may be arriving
        self.transport.close()


class _Flow(FlowControl):
    """Pauses reading requests while the client has not read earlier answers."""

    def resume_reading(self) -> None:
        if not self.write_paused:
            super().resume_reading()


class _Lingering:
    """A transport that gives the client time to read the answer before it closes."""

    def __init__(self, transport: asyncio.Transport, protocol: BoundedProtocol) -> None:
        self._transport = transport
        self._protocol = protocol
        self.write = transport.write

    def close(self) -> None:
        self._protocol.close_lingering(self._transport)

    def is_closing(self) -> bool:
        return self._protocol.is_lingering or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def bounded(times: HttpLimits) -> type[BoundedProtocol]:
    """Returns the protocol class of one server."""
    return type("BoundedProtocol", (BoundedProtocol,), {"times": times, "waiting": {}, "unread": {}})
