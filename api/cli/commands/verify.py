"""Verification of a ledger on the command line."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import quote

import typer
from rich.text import Text

from api import terminal
from api.checkpoint_log import note_restored, seen_of
from api.cli.commands.approvals import By, whoami
from api.settings import connect, private_home
from api.shapes import verification as verification_answers
from api.terminal import Json, LedgerOption, out, print_json, shown
from projections import integrity
from projections.monitors.mismatch import keep_verified
from projections.replay.rebuild import REBUILT
from projections.replay.resumable import ResumableRuns
from subledger.own_events import check_reason
from subledger.store.reading.ledgers import ledger_head

Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, max=256, help="The number of processes; default one per core, if there is enough work."
    ),
]


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(verify)


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
    """Checks the hash chain, every derived row, and the invariants. The exit code is 1 if something differs.

    The progress is saved in the home directory. With --since-clean, events that the last clean verification has read
    are not read again, so a later change of them is not detected. The derived rows are still compared.

    The log must begin with the signed checkpoints and with the log of earlier verifications. The log of a restored
    backup does not. After a restore, use --restored once, with a reason. The reason and your name are stored in the
    home directory.

    Example: subledger verify --ledger acme
    """
    if resume and since_clean:
        raise typer.BadParameter("--resume and --since-clean exclude each other")
    if restored is not None:
        check_reason(restored, "--restored")
    how = integrity.Start.RESUMED if resume else integrity.Start.SINCE_CLEAN if since_clean else integrity.Start.ANEW
    service, began_at = connect(), datetime.now(UTC)
    with service.database.read() as connection:
        size = ledger_head(connection, ledger).position  # it is read before any progress is saved
    resumable = ResumableRuns(private_home() / "verified" / quote(ledger, safe=""))
    if restored is not None:
        note_restored(ledger, size=size, reason=restored, by=by)
        resumable.forget_all()
    with terminal.progress("verifying", None) as show:
        report = integrity.verify(
            service.database, ledger, show, workers=workers, resumable=resumable, how=how, seen=seen_of(ledger)
        )
    keep_verified(service.database, report, at=began_at)
    answer = verification_answers.report(report)
    if json_:
        print_json(answer)
    else:
        for difference in report.differences:
            out.print(Text(difference.check, "bold red") + shown(f": {difference.message}"))
        number = len(report.differences)
        verdict = "clean" if not number else "1 difference" if number == 1 else f"{number} differences"
        if report.since:
            verdict += f" (the first {report.since} events were not read again)"
        out.print(f"{ledger}: {answer['events']} events, {answer['entries']} entries: {verdict}")
        mendable = [name for name in REBUILT if any(difference.check == name for difference in report.differences)]
        if mendable:
            out.print(f"subledger rebuild --ledger {ledger} makes {', '.join(mendable)} again from the events.")
    if report.differences:
        raise typer.Exit(terminal.DIFFERENCE)
