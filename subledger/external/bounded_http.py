"""HTTP answers of other systems, with limits on the decompressed size and on the total time.

httpx limits only the time of each read, so an answer that arrives byte by byte never ends. It also decompresses answers
of any size. Here each read and write may take only the remaining time of the whole call, and decompression stops at the
limit. An answer beyond a limit raises ``httpx.HTTPError``, like an incomplete answer. Addresses are checked at each
call (``hosts``).
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
"""Maximum number of decompressed bytes of an answer. Journals and pages of records are far smaller."""
ACCEPT_ENCODING: Final = "gzip"
_PIECE: Final = 64 << 10

_ends_at: ContextVar[float | None] = ContextVar("ends_at", default=None)


class AnswerTooLarge(httpx.HTTPError):
    """The answer has too many bytes, or a compression that is not supported."""


def client() -> httpx.Client:
    """Returns a client that follows no redirections. Its calls can have a ``deadline``."""
    made = httpx.Client(follow_redirects=False)
    # With another transport, httpx ignores the proxies of the environment. So a private attribute of its own transports
    # is set here. If this stops working, a test with an answer that arrives byte by byte fails.
    for transport in (made._transport, *made._mounts.values()):
        if isinstance(transport, httpx.HTTPTransport):
            # A proxy of the environment resolves names itself, and may be on this machine. So its address is not
            # checked.
            is_direct = transport is made._transport
            transport._pool._network_backend = _Backend(transport._pool._network_backend, checked=is_direct)
    return made


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Limits the total time of all calls in this context, for clients made by ``client``.

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
    # The content is decompressed, so the headers about its compression are removed.
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
    """Returns a function that decompresses bytes, up to a maximum size."""
    named = response.headers.get("content-encoding", "")
    encodings = [each.strip().lower() for each in named.split(",") if each.strip().lower() not in ("", "identity")]
    if not encodings:
        return lambda raw, most: raw[:most]
    if encodings[1:] or encodings[0] not in ("gzip", "x-gzip", "deflate"):
        raise AnswerTooLarge(f"the answer is compressed as {named[:60]}; we accept {ACCEPT_ENCODING}, once")
    # 32: the header decides between gzip and zlib.
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
        # The time-out applies to each piece that the socket accepts, so a long text would have many of them.
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
