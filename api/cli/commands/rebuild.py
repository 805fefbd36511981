"""A rebuild of the projections on the command line."""

from __future__ import annotations

from urllib.parse import quote

import typer

from api import terminal
from api.cli.commands.verify import Resume, Workers
from api.settings import connect, private_home
from api.shapes import verification as verification_answers
from api.terminal import Json, LedgerOption, out, print_json
from projections.replay import rebuild as rebuilding
from projections.replay.rebuild import RebuildCounts
from projections.replay.resumable import ResumableRuns


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(rebuild)


def rebuild(ledger: LedgerOption, resume: Resume = False, workers: Workers = None, json_: Json = False) -> None:
    """Makes every derived row again from the events, beside the live rows, and then replaces the live rows.

    The progress is saved in the home directory. With --resume, the events that an interrupted rebuild has replayed are
    not read again. Only verify finds later changes of these events.

    Example: subledger rebuild --ledger acme
    """
    service = connect()
    resumable = ResumableRuns(private_home() / "rebuilt" / quote(ledger, safe=""))
    with terminal.progress("rebuilding", None) as show:
        counts = rebuilding.rebuild(service.database, ledger, show, workers=workers, resumable=resumable, resume=resume)
    answer = verification_answers.counts(ledger, counts)
    if json_:
        print_json(answer)
        return
    rows = ", ".join(f"{n} {name}" for name, n in answer["rows"].items())
    again = f" ({counts.resumed_from} events were not read again)"
    out.print(f"{ledger}: rebuilt {rows}" + (again if counts.resumed_from else ""))
    out.print(f"{ledger}: {_mended(counts)}")


def _mended(counts: RebuildCounts) -> str:
    """Returns the tables with a row that differed, with the numbers of rows; a changed row was removed and written."""
    tables = [
        f"{name} ({removed} removed, {counts.written[name]} written)"
        for name, removed in counts.removed.items()
        if removed or counts.written[name]
    ]
    return f"mended {', '.join(tables)}" if tables else "no row differed from the events"
