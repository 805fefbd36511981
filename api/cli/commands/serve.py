"""The HTTP server on the command line: its address, its first key, its threads."""

from __future__ import annotations

import gc
import socket
import sys
from ipaddress import ip_address
from typing import Annotated, Final

import typer

from api import access, keys
from api.http.app import create_app
from api.http.protocol import bounded
from api.http.routes.reference import openapi_text
from api.settings import connect, http_limits, is_embedded, stopping_time, watched
from api.stopping import Server
from api.terminal import err
from projections.close.expiry_sweeper import Sweeper
from subledger.errors import FileUnavailable, InvalidValue


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(serve)


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
) -> None:
    """Serves the HTTP API, described at /docs and /openapi.json. Records expiries when they become due.

    With the embedded database, on a loopback address and while no key exists, calls from this machine need no key. In
    every other case a key is needed: subledger keys create --ledger L --role writer --name NAME.

    After SIGTERM or Ctrl-C the server answers the accepted calls, and ends within SUBLEDGER_STOPPING_S (25) s.

    Example: subledger serve --port 8000
    """
    service = connect()
    open_ = is_embedded() and _is_loopback(host)
    if not access.any_key_exists(service.database):
        if open_:
            err.print("No key exists: calls from this machine are served without one.")
        elif _is_loopback(host):
            err.print(f"No key exists, and every call needs one: {_FIRST_KEY}")
    if not _is_loopback(host) and not keys.any_key_in_force(service.database):
        raise InvalidValue(
            f"{host or 'every address'} can be reached from other machines, and no key exists; "
            f"create one first: {_FIRST_KEY}",
            field="host",
            expected="a loopback address, or a key",
            found=host,
        )
    listening = listen(host, port)  # before any message about serving
    # Requests are not logged: a log line costs as much as an answer, and /metrics counts requests.
    times, ending = http_limits(), stopping_time()
    sweeper = Sweeper(service.database, service.recorder)
    app = create_app(service, open_on_loopback=open_, watched=watched(), limits=times, stopping=ending, sweeper=sweeper)
    server = Server(
        app,
        ending,
        host=host,
        port=port,
        log_level="info",
        access_log=False,
        http=bounded(times),
        ws="none",
        timeout_keep_alive=times.keep_alive_s,
    )
    openapi_text(app)  # now, because nobody waits yet
    err.print(f"Serving on {_address(listening)}. Stop with Ctrl-C.")
    # Modules and routes live as long as the process. Without the freeze, each full garbage collection would visit all
    # of them, and block everything else meanwhile.
    gc.collect()
    gc.freeze()
    # The time for which a busy thread may make the other threads wait. One of these is the event loop.
    sys.setswitchinterval(0.001)
    server.run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket at an address. Raises FileUnavailable with the reason, such as an address in use."""
    try:
        family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2_048)
    except OSError as error:
        raise FileUnavailable(
            f"the server cannot listen on {host}, port {port}: {error.strerror or error}",
            field="--port",
            expected="an address of this machine and a port that no other program listens on",
            found=str(port),
        ) from None


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


_FIRST_KEY: Final = "subledger keys create --ledger '*' --role admin --name NAME"


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
