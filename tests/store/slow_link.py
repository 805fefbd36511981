"""A slow link to a PostgreSQL on this machine: a proxy with small windows, small pieces and latency.

Owns: the bytes between a client and a server. Does not own: their meaning. It does not change, lose or reorder bytes.
So a call that hangs over it would also hang over a real network.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from sqlalchemy.engine import make_url

WINDOW: Final = 4 * 1024
"""The buffer size that each socket of the proxy requests. The kernel doubles it, and has a minimum size."""
PIECE: Final = 16 * 1024


class SlowLink:
    """Listens on its own port, and passes bytes on in both directions, until it is closed."""

    def __init__(self, host: str, port: int, *, latency_s: float) -> None:
        self._target = (host, port)
        self._latency_s = latency_s
        self._sockets: list[socket.socket] = []
        self._left: int | None = None  # bytes until it falls silent
        self._guard = threading.Lock()
        self.waiting = False  # bytes were sent after it fell silent
        self._listener = socket.socket()
        _narrow(self._listener)  # accepted connections have the same windows
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener is closed
            while True:
                client, _ = self._listener.accept()
                server = socket.socket()
                _narrow(server)
                server.connect(self._target)
                self._sockets += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while (piece := source.recv(PIECE)) and self._may_pass(len(piece)):
                time.sleep(self._latency_s)
                sink.sendall(piece)
            if piece:
                self.waiting = True
                return  # silent: each side still believes that the other is there
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _may_pass(self, size: int) -> bool:
        with self._guard:
            if self._left is not None:
                self._left -= size
            return self._left is None or self._left >= 0

    def fall_silent(self, after: int = 0) -> None:
        """Passes on ``after`` more bytes, and then nothing in either direction."""
        self._left = after

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def _narrow(one: socket.socket) -> None:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, WINDOW)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@contextmanager
def slow_link(url: str, *, latency_s: float = 0.0005) -> Iterator[str]:
    """Yields the URL of the same database, over a slow link."""
    with opened_link(url, latency_s=latency_s) as (its_url, _):
        yield its_url


@contextmanager
def opened_link(url: str, *, latency_s: float = 0.0005) -> Iterator[tuple[str, SlowLink]]:
    """Yields the URL of the same database over a slow link, and the link."""
    target = make_url(url)
    link = SlowLink(target.host or "127.0.0.1", target.port or 5432, latency_s=latency_s)
    try:
        yield target.set(host="127.0.0.1", port=link.port).render_as_string(hide_password=False), link
    finally:
        link.close()
