"""Operating a ledger on the command line: verify, rebuild, serve, demo."""

from __future__ import annotations

import gc
import socket
import sys
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote

import typer
from rich.text import Text

from api import access, keys, terminal
from api.checkpoint_log import note_restored, seen_of
from api.cli.commands.approvals import By, whoami
from api.demo.run import run_demo
from api.http.app import create_app
from api.http.protocol import bounded
from api.http.routes.reference import document_text
from api.settings import connect, http_limits, is_embedded, private_home, stopping_time, watched
from api.shapes import documents
from api.stopping import Server
from api.terminal import Json, LedgerOption, err, out, print_json, shown
from projections import integrity
from projections.close.expiry_sweeper import Sweeper
from projections.monitors.mismatch import keep_verified
from projections.replay import rebuild as rebuilding
from projections.replay.resumable import ResumableRuns
from subledger.errors import FileUnavailable, InvalidValue
from subledger.own_events import check_reason
from subledger.store.reading.ledgers import ledger_head


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command()(verify)
    app.command()(rebuild)
    app.command()(serve)
    app.command()(demo)


Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, max=256, help="The number of processes; default one per core, if there is enough work."
    ),
]


def verify(
    ledger: LedgerOption,
    resume: Resume = False,
    since_clean: Annotated[
        bool, typer.Option("--since-clean", help="Do not read events again that the last clean run has read.")
    ] = False,
    restored: Annotated[
        str | None,
        typer.Option(
            "--restored",
            metavar="REASON",
            help="The reason for restoring a backup: earlier checkpoints and verifications no longer apply.",
        ),
    ] = None,
    by: By = whoami(),
    workers: Workers = None,
    json_: Json = False,
) -> None:
    """Checks the ledger: the hash chain, a replay against every projection, the invariants. Exit 1 if it differs.

    The progress is saved in the home directory. With --since-clean, events that the last clean verification has read
    are trusted: a later change of them is not detected. Everything that follows from them is compared.

    The log must begin with the signed checkpoints and with the log of earlier verifications. After a backup was
    restored it does not: use --restored once, with a reason, which is stored with your name in the home directory.

    Example: subledger verify --ledger acme
    """
    if resume and since_clean:
        raise typer.BadParameter("--resume and --since-clean exclude each other")
    if restored is not None:
        check_reason(restored, "--restored")
    how = integrity.Start.RESUMED if resume else integrity.Start.SINCE_CLEAN if since_clean else integrity.Start.ANEW
    service, began_at = connect(), datetime.now(UTC)
    with service.database.read() as connection:
        size = ledger_head(connection, ledger).position  # read before any progress is saved
    resumable = ResumableRuns(private_home() / "verified" / quote(ledger, safe=""))
    if restored is not None:
        note_restored(ledger, size=size, reason=restored, by=by)
        resumable.forget_all()
    with terminal.progress("verifying", None) as show:
        report = integrity.verify(
            service.database, ledger, show, workers=workers, resumable=resumable, how=how, seen=seen_of(ledger)
        )
    keep_verified(service.database, report, at=began_at)
    document = documents.report(report)
    if json_:
        print_json(document)
    else:
        for difference in report.differences:
            out.print(Text(difference.check, "bold red") + shown(f" {difference.message}"))
        verdict = "clean" if not report.differences else f"{len(report.differences)} differences"
        if report.since:
            verdict += f" (the first {report.since} events were not read again)"
        out.print(f"{ledger}: {document['events']} events, {document['entries']} entries: {verdict}")
    if report.differences:
        raise typer.Exit(terminal.DIFFERENCE)


def rebuild(ledger: LedgerOption, resume: Resume = False, workers: Workers = None, json_: Json = False) -> None:
    """Computes every projection again from the events, beside the live ones, then swaps them.

    The progress is saved in the home directory. With --resume, the events that an interrupted rebuild has replayed are
    not read again: only verify finds later changes of them.

    Example: subledger rebuild --ledger acme
    """
    service = connect()
    resumable = ResumableRuns(private_home() / "rebuilt" / quote(ledger, safe=""))
    with terminal.progress("rebuilding", None) as show:
        counts = rebuilding.rebuild(service.database, ledger, show, workers=workers, resumable=resumable, resume=resume)
    document = documents.counts(ledger, counts)
    if json_:
        print_json(document)
        return
    rows = ", ".join(f"{n} {name}" for name, n in document["rows"].items())
    again = f" ({counts.resumed_from} events were not read again)"
    out.print(f"{ledger}: rebuilt {rows}" + (again if counts.resumed_from else ""))


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
) -> None:
    """Serves the HTTP API; its description is at /docs and /openapi.json. Records expiries when they become due.

    With the embedded database, on a loopback address and while no key exists, calls from this machine need no key. In
    every other case a key is needed: subledger keys create --ledger L --role writer --name NAME.

    After SIGTERM or Ctrl-C it answers the accepted calls, and ends within SUBLEDGER_STOPPING_S (25) s.

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
    # No line a request in the log: it costs as much as answering, and /metrics counts them.
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
    document_text(app)  # now, as nobody waits yet
    err.print(f"Serving on {_address(listening)}. Stop with Ctrl-C.")
    # Modules and routes live as long as the process. Each full collection looked at all of them, and nothing else ran
    # meanwhile.
    gc.collect()
    gc.freeze()
    # A thread that has work to do keeps the others waiting for so long, and one of these is the event loop.
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


def demo(
    data: Annotated[
        Path | None, typer.Option("--data", help="Replay this invoice file instead of the invented company.")
    ] = None,
    json_: Json = False,
) -> None:
    """Runs an invented company's year through the whole cycle: record, expire, close, export, verify.

    At the end it prints what to open next.

    Example: subledger demo
    """
    service = connect()
    result = run_demo(service, data=data, directory=private_home() / "demo", say=err.print)
    if json_:
        print_json(result.document)
    else:
        result.show()
    if not result.clean:
        raise typer.Exit(terminal.DIFFERENCE)
