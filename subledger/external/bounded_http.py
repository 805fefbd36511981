"""Answers of other systems, with limits of decompressed size and of time from the first to the last byte.

httpx limits the time of each read, so an answer that arrives byte by byte never ends; and httpx decompresses
everything. Here the limit of each read and write is the time that remains for the whole call, and only the bytes that
are read are decompressed. An answer beyond a limit is an ``httpx.HTTPError``, like any incomplete answer. Addresses are
checked at each call (``hosts``).
"""

from __future__ import annotations

import ssl
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import httpcore
import httpx

from subledger.external.hosts import connect_checked

MAX_ANSWER: Final = 8 << 20
"""Maximum number of decompressed bytes of an answer. Journals, and pages of records, are far smaller."""
ACCEPT_ENCODING: Final = "gzip"
_PIECE: Final = 64 << 10

_ends_at: ContextVar[float | None] = ContextVar("ends_at", default=None)


class AnswerTooLarge(httpx.HTTPError):
    """The answer has too many bytes, or a compression that is not supported."""


def client() -> httpx.Client:
    """Returns a client that follows no redirections, and whose calls can have a ``deadline``."""
    made = httpx.Client(follow_redirects=False)
    # httpx can be given another transport, but then it ignores the proxies of the environment. So a private attribute
    # of its own transports is set here. If this stops working, a test with an answer that arrives byte by byte fails.
    for transport in (made._transport, *made._mounts.values()):
        if isinstance(transport, httpx.HTTPTransport):
            # A proxy of the environment may be on this machine, and it resolves names itself.
            is_direct = transport is made._transport
            transport._pool._network_backend = _Backend(transport._pool._network_backend, checked=is_direct)
    return made


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Limits the time of all calls in this context together, for clients made by ``client``.

    After this time a read or write raises ``httpx.TimeoutException``.
    """
    token = _ends_at.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends_at.reset(token)


def send(client: httpx.Client, request: httpx.Request, *, within_s: float) -> httpx.Response:
    """Makes one call. Returns the whole answer. Raises httpx.HTTPError, such as AnswerTooLarge."""
    with deadline(within_s):
        response = client.send(request, stream=True)
        try:
            content = _content(response)
        finally:
            response.close()
    # The content is decompressed, so the headers about its compression must go.
    headers = [
        (name, value)
        for name, value in response.headers.multi_items()
        if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
    ]
    return httpx.Response(response.status_code, headers=headers, content=content, request=request)


def _content(response: httpx.Response) -> bytes:
    inflate = _inflater(response)
    content = bytearray()
    for raw in response.iter_raw():
        content += inflate(raw, MAX_ANSWER + 1 - len(content))
        if len(content) > MAX_ANSWER:
            raise AnswerTooLarge(f"the answer has more than {MAX_ANSWER} bytes")
    return bytes(content)


def _inflater(response: httpx.Response) -> Any:
    """Returns a function that decompresses bytes, up to a maximum number of decompressed bytes."""
    named = response.headers.get("content-encoding", "")
    encodings = [each.strip().lower() for each in named.split(",") if each.strip().lower() not in ("", "identity")]
    if not encodings:
        return lambda raw, most: raw[:most]
    if encodings[1:] or encodings[0] not in ("gzip", "x-gzip", "deflate"):
        raise AnswerTooLarge(f"the answer is compressed as {named[:60]}; we accept {ACCEPT_ENCODING}, once")
    # 32 means: the header decides between gzip and zlib.
    stream = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)

    def inflate(raw: bytes, most: int) -> bytes:
        try:
            return stream.decompress(raw, most)
        except zlib.error as error:
            raise httpx.DecodingError(f"the answer is not {encodings[0]}: {error}") from error

    return inflate


def _remaining(timeout: float | None, error: type[Exception]) -> float | None:
    ends_at = _ends_at.get()
    if ends_at is None:
        return timeout
    remaining = ends_at - time.monotonic()
    if remaining <= 0:
        raise error("the time for the whole call is over")
    return remaining if timeout is None else min(timeout, remaining)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, backend: httpcore.NetworkBackend, *, checked: bool) -> None:
        self._backend = backend
        self._checked = checked

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        def connect(address: str) -> httpcore.NetworkStream:
            remaining = _remaining(timeout, httpcore.ConnectTimeout)
            return _Stream(self._backend.connect_tcp(address, port, remaining, local_address, socket_options))

        if not self._checked:
            return connect(host)
        try:
            return connect_checked(host, port, connect)
        except OSError as error:  # the name does not exist, or AddressRefused
            raise httpcore.ConnectError(str(error)) from error

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(
            self._backend.connect_unix_socket(path, _remaining(timeout, httpcore.ConnectTimeout), socket_options)
        )

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _remaining(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # The time-out applies to each piece that the socket accepts. For one long text it would apply many times.
        for start in range(0, len(buffer), _PIECE):
            self._stream.write(buffer[start : start + _PIECE], _remaining(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        remaining = _remaining(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, remaining))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
