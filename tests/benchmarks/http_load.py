"""A small HTTP/1.1 client that keeps many connections busy, one request at a time on each.

A general client library spends more time on a request than the server. Here only the server should be measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

Body = Callable[[int, int], bytes]
"""Returns the body of a request, from the number of the caller and the number of the request."""


class _Caller(asyncio.Protocol):
    """One connection. ``done`` is set when the time is over and the last answer has arrived, or to an error."""

    def __init__(self, number: int, head: bytes, body: Body, until: float) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.latencies_s: list[float] = []
        self.statuses: dict[int, int] = {}
        self._number, self._head, self._body, self._until = number, head, body, until
        self._buffer = b""
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        body = self._body(self._number, len(self.latencies_s))
        self._sent_at = time.perf_counter()
        self._transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (self._head, len(body), body))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        if len(body) < length:
            return
        now = time.perf_counter()
        self._buffer = b""
        self.latencies_s.append(now - self._sent_at)
        status = int(head[9:12])
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if now < self._until:
            self._send()
        else:
            self._finish(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(exc or ConnectionError("the server hung up"))

    def _finish(self, error: Exception | None) -> None:
        if not self.done.done():
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)
        if self._transport is not None:
            self._transport.close()


async def post_for(
    port: int, path: str, key: str, *, body: Body, connections: int, seconds: float
) -> tuple[list[float], dict[int, int]]:
    """Posts to a server on this machine for some seconds. Returns the latencies, and the answers by status."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {key}\r\n"
    ).encode()
    loop = asyncio.get_running_loop()
    until = time.perf_counter() + seconds
    callers = [
        (await loop.create_connection(partial(_Caller, n, head, body, until), "127.0.0.1", port))[1]
        for n in range(connections)
    ]
    await asyncio.gather(*(caller.done for caller in callers))
    statuses: dict[int, int] = {}
    for caller in callers:
        for status, count in caller.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    return [latency for caller in callers for latency in caller.latencies_s], statuses
