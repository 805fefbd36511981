"""Connections to servers that do not accept all our options."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import sqlalchemy as sa
from sqlalchemy import make_url

from subledger.errors import DatabaseUnavailable
from subledger.store.database import Database
from subledger.store.timeouts import CLIENT_CHECK, Timeouts

_ENCRYPTION = (80877103, 80877104)
"""Codes of the requests before the first message, for SSL and for GSSAPI (PostgreSQL's message formats)."""


@contextmanager
def server_without(option: str, url: str) -> Iterator[tuple[str, list[bytes]]]:
    """Runs a proxy of the real server. It ends a session whose first message has an option, as PostgreSQL does.

    Yields its URL, and the first messages that it refused.
    """
    real, refused = make_url(url), list[bytes]()
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                threading.Thread(target=answer, args=(client,), daemon=True).start()

    def answer(client: socket.socket) -> None:
        with suppress(OSError), client:
            while True:
                head = client.recv(8, socket.MSG_WAITALL)
                length, code = struct.unpack("!II", head)
                if code not in _ENCRYPTION:
                    break
                client.sendall(b"N")
            first = head + client.recv(length - 8, socket.MSG_WAITALL)
            if option.encode() in first:
                refused.append(first)
                fields = b'SFATAL\0C22023\0Minvalid value for parameter "' + option.encode() + b'": 10000\0\0'
                client.sendall(b"E" + struct.pack("!I", len(fields) + 4) + fields)
                return
            with socket.create_connection((real.host, real.port)) as server:
                server.sendall(first)
                back = threading.Thread(target=pass_on, args=(server, client), daemon=True)
                back.start()
                pass_on(client, server)
                back.join()

    def pass_on(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield real.set(port=listening.getsockname()[1]).render_as_string(hide_password=False), refused
    finally:
        listening.close()


def test_a_server_that_cannot_look_after_its_clients_is_asked_once_and_all_else_is_as_ever(owner_url: str) -> None:
    with server_without(CLIENT_CHECK, owner_url) as (url, refused):
        database = Database(url, timeouts=Timeouts(lock_timeout_s=7))
        with database.engine.connect() as one, database.engine.connect() as other:
            for connection in (one, other):
                assert connection.scalar(sa.text("SHOW lock_timeout")) == "7s"
                assert connection.scalar(sa.text(f"SHOW {CLIENT_CHECK}")) == "0"
        assert len(refused) == 1
        database.close()


def test_a_server_that_refuses_another_option_is_not_asked_again(owner_url: str) -> None:
    with server_without("lock_timeout", owner_url) as (url, refused):
        database = Database(url)
        with pytest.raises(DatabaseUnavailable, match="lock_timeout"), database.write():
            pass
        assert len(refused) == 1
        database.close()


@pytest.mark.parametrize("seconds", [60, 2_000_000])
def test_every_time_out_that_can_be_set_is_one_that_connections_can_be_made_with(
    owner_url: str, seconds: float
) -> None:
    limits = Timeouts(**{name: seconds for name in Timeouts.__struct_fields__ if name.endswith("_s")})
    database = Database(owner_url, timeouts=limits)
    with database.engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1
    database.close()
