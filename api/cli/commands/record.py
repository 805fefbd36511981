"""The command that records a file of events."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from api import terminal
from api.cli.commands.approvals import By, whoami
from api.cli.event_files import EventLines, Refusals, RejectedLines
from api.rejecting import first_sent
from api.service import Subledger
from api.settings import connect
from api.terminal import Json, LedgerOption, err, out, print_json
from subledger.errors import InvalidInput, Unavailable, present
from subledger.events.rejections import LONGEST_NAME, refused_line
from subledger.store.reading.ledgers import ledger_head
from subledger.store.writing.batch import DUPLICATE, RECORDED, WAITING


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(record)


def record(
    file: Annotated[str, typer.Argument(help="JSON Lines of CloudEvents; - for standard input.")],
    ledger: LedgerOption,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Records a file of events, one CloudEvent per line. Safe to repeat: recorded events are duplicates.

    Rejected lines are stored (`rejected list`), and written to FILE.rejected.jsonl with their reason; that file can be
    recorded without changes. Events that need a second person wait: `approvals list`.

    Example: subledger record events.jsonl --ledger acme
    """
    service = connect()
    rejected_path = Path("stdin.rejected.jsonl" if file == "-" else f"{file}.rejected.jsonl")
    refusals, warn = Refusals(), partial(_warn_of_file, rejected_path)
    if file == "-":
        rejects = RejectedLines(rejected_path, warn, read=sys.stdin.buffer)
        counts = record_lines(service, ledger, by, EventLines(sys.stdin.buffer, file), rejects, None, refusals)
    else:
        path = Path(file)
        if not path.exists():
            raise InvalidInput(f"there is no file {file}", field="FILE", expected="a file, or -", found=file)
        if not path.is_file():
            raise InvalidInput(
                f"{file} is not a regular file; to record from a pipe, write `-` as FILE: "
                f"`COMMAND | subledger record - --ledger {ledger}`",
                field="FILE",
                expected="a file, or -",
                found=file,
            )
        with path.open("rb") as lines:
            reading, rejects = EventLines(lines, file), RejectedLines(rejected_path, warn, read=lines)
            counts = record_lines(service, ledger, by, reading, rejects, path.stat().st_size, refusals)
    if json_:
        print_json(counts)
    else:
        out.print(counted(counts))
    if counts["rejected"]:
        for line in refusals.summary():
            err.print(line, markup=False)
        if rejects.complete:
            err.print(f"rejected lines with their reasons, which can be recorded without changes: {rejected_path}")
        err.print(f"they are stored until recorded or dismissed: subledger rejected list --ledger {ledger}")
        raise typer.Exit(terminal.SOME_REJECTED)


def counted(counts: Mapping[str, int]) -> str:
    """Returns counts as text: ``recorded 2, duplicates 0, rejected 1``."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def record_lines(
    service: Subledger,
    ledger: str,
    by: str,
    reading: EventLines,
    rejects: RejectedLines,
    size: int | None,
    refusals: Refusals,
) -> dict[str, int]:
    """Records lines. Returns the counts by outcome; ``waiting`` only if events wait for a second person."""
    way = "stdin" if size is None else f"file:{reading.name[:LONGEST_NAME]}"
    counts = {"recorded": 0, "duplicates": 0, "rejected": 0}
    read_bytes = 0
    with service.database.read() as connection:
        ledger_head(connection, ledger)
    with rejects, terminal.progress("recording", size) as show:
        while reading.batch:
            batch, event_lines, inputs = reading.batch, reading.event_lines, reading.inputs
            texts = [line.strip(b"\r\n") for _, line in event_lines]
            try:
                outcomes = service.recorder.record(ledger, inputs, by=by, meanwhile=reading.read_on)
                outcomes = service.rejected.keep(ledger, outcomes, texts.__getitem__, sender=by, way=way)
            except Unavailable:
                err.print(f"stopped after {counted(counts)}; record the file again: recorded events are duplicates")
                raise
            if not inputs:
                reading.read_on()
            for (number, line), outcome in zip(event_lines, outcomes, strict=True):
                if outcome.status == RECORDED:
                    counts["recorded"] += 1
                elif outcome.status == DUPLICATE:
                    counts["duplicates"] += 1
                elif outcome.status == WAITING:
                    counts["waiting"] = counts.get("waiting", 0) + 1
                else:
                    counts["rejected"] += 1
                    error = present(outcome.error, f"the rejected event of line {number} has no error")
                    refusals.add(number, error)
                    rejects.write(refused_line(number, first_sent(line.strip(b"\r\n")), error))
            read_bytes += sum(len(line) for _, line in batch)
            show(read_bytes)
    return counts


def _warn_of_file(path: Path, error: OSError) -> None:
    err.print(
        f"{path} cannot be written ({error.strerror or error}). Recording goes on: rejected lines are stored in the "
        "database, and `subledger rejected list` shows them.",
        markup=False,
    )
