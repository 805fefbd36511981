"""`subledger serve` in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.waiting import until


class Server(NamedTuple):
    """A server process, and its port."""

    process: subprocess.Popen[bytes]
    port: int


@contextmanager
def serving(url: str, *, log: Path | None = None, **environment: str) -> Iterator[Server]:
    """Runs a server on a database, given by the owner's URL. At the end the server is stopped gracefully, if it still
    runs.

    ``log``: the file of its log.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    with open(log or os.devnull, "ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "api.cli.main", "serve", "--port", str(port)],
            env={**os.environ, "SUBLEDGER_DATABASE_URL": url, **environment},
            cwd=Path(__file__).parents[2],
            stdout=out,
            stderr=out,
        )
    try:
        until(lambda: listens(port) or process.poll() is not None, "the server listens")
        assert process.poll() is None, "the server did not start"
        yield Server(process, port)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()


def listens(port: int) -> bool:
    """True if a process accepts connections at this port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
