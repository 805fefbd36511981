"""A PostgreSQL server for one experiment: the settings of the embedded server, and some changes.

The settings of the embedded server apply to all users of its home. An experiment with little memory needs others.
"""

from __future__ import annotations

import secrets
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg

from subledger.store.embedded.programs import account_for, child_in, choose_binaries, reachable_by
from subledger.store.embedded.server import OWNER, connect, url_at
from subledger.store.embedded.supervisor import SETTINGS
from subledger.store.embedded.supervisor import _create_data as create_data
from subledger.store.embedded.supervisor import _stop_server as stop_server

START_TIMEOUT_S = 60.0


@contextmanager
def own_server(settings: Mapping[str, str]) -> Iterator[str]:
    """Yields the owner's URL. The server and its data are removed at the end."""
    chosen = {name: value for name, value, _ in SETTINGS} | dict(settings)
    with tempfile.TemporaryDirectory(prefix="subledger-experiment-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        data, password = folder / "data", secrets.token_urlsafe(24)
        account = account_for(data)
        binaries = reachable_by(account, choose_binaries(None))
        create_data(folder, binaries, account, password)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with child_in(data, account) as (path, arguments), open(folder / "server.log", "ab") as log:
            command = [str(binaries.folder / "postgres"), "-D", path, "-p", str(port)]
            for name, value in chosen.items():
                command += ["-c", f"{name}={value}"]
            server = subprocess.Popen(command, stdout=log, stderr=log, **arguments)
        try:
            url = url_at(password, port)
            _wait_for(url, server, folder / "server.log")
            with connect(url, "postgres") as connection:
                connection.execute(f"CREATE DATABASE {OWNER}")
            yield url
        finally:
            stop_server(server)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            return connect(url, "postgres").close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError(f"the experiment's server did not start:\n{log.read_text()[-2000:]}") from None
            time.sleep(0.05)
