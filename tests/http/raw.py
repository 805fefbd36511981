"""A server in a thread, and raw connections to it, for bytes that no client library would send."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import ExitStack, suppress

import uvicorn

from api.http.app import create_app
from api.http.protocol import BoundedProtocol, bounded
from api.limits import HttpLimits
from api.service import Subledger

GUARD_S = 600.0
"""The time-out of sockets. A test that reaches it has found a server that hangs."""


class Served:
    """A server in a thread, and raw connections to it."""

    def __init__(self, service: Subledger, times: HttpLimits, stack: ExitStack) -> None:
        self.protocol: type[BoundedProtocol] = bounded(times)
        self._stack = stack
        self._listener = socket.create_server(("127.0.0.1", 0))
        app = create_app(service, open_on_loopback=True, limits=times)
        config = uvicorn.Config(
            app,
            http=self.protocol,
            ws="none",
            access_log=False,
            log_level="critical",
            loop="asyncio",
            timeout_keep_alive=times.keep_alive_s,
        )
        self.server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        asyncio.run(self.server.serve(sockets=[self._listener]))

    def connect(self) -> socket.socket:
        connection = socket.create_connection(self._listener.getsockname(), timeout=GUARD_S)
        return self._stack.enter_context(connection)

    def ask(self, sent: bytes) -> tuple[int, dict[str, str], bytes]:
        """Sends some bytes and returns the answer: status, headers, and all bytes until the connection is closed."""
        connection = self.connect()
        with suppress(OSError):  # closed before all of it was sent
            connection.sendall(sent)
        return answer_of(connection)

    def close(self) -> None:
        self.server.should_exit = True
        self._thread.join()


def answer_of(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    received = b""
    while True:
        try:
            piece = connection.recv(65_536)
        except ConnectionResetError:
            break
        if not piece:
            break
        received += piece
    return parsed(received)


def parsed(received: bytes) -> tuple[int, dict[str, str], bytes]:
    """Reads the first answer in some bytes: status, headers, and all following bytes."""
    if not received:
        return 0, {}, b""
    head, _, body = received.partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    return int(line.split(" ")[1]), dict(header.lower().split(": ", 1) for header in headers), body
