"""The report of changes on the command line: tables with the first lines, CSV of all lines, JSON in pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from api import terminal
from api.cli.files import write
from api.settings import connect
from api.shapes import answers, report_pages, report_tables
from api.shapes.change_report import NAME, ChangesAnswer, ChangesQuery, answer, csv_lines
from api.terminal import err, out
from subledger.errors import InvalidInput, MissingField
from subledger.events.fields import parse_time

NOW: Final = "now"
LIMIT: Final = 100
"""Number of entries on a terminal, on a page to print, or in a page of JSON."""


def refuse(given: Mapping[str, object], report: str) -> None:
    """Refuses options that a report does not take."""
    for option, value in given.items():
        if value is not None:
            raise InvalidInput(
                f"{report} has no option {option}", field=option, expected="nothing", found=str(value)[:80]
            )


def moments(between: tuple[str, str] | None) -> dict[str, datetime | None]:
    """Reads ``--between``. The second moment may be ``now``."""
    if between is None:
        raise MissingField(
            f"report {NAME} needs two moments", field="--between", expected=f"--between 2026-02-03T09:00:00Z {NOW}"
        )
    first, last = between
    return {
        "from_known_at": parse_time(first, field="between"),
        "to_known_at": None if last == NOW else parse_time(last, field="between"),
    }


def print_changes(
    ledgers: Sequence[str],
    query: ChangesQuery,
    limit: int | None,
    format: str | None,
    table: str | None,
    file: Path | None,
) -> bool:
    """Prints the report of one ledger. Returns True if it ties to the trial balances."""
    if len(ledgers) != 1:
        raise InvalidInput(
            f"report {NAME} is of one ledger",
            field="--ledger",
            expected="one --ledger",
            found=f"{len(ledgers)} ledgers",
        )
    ledger, many, service = ledgers[0], limit or LIMIT, connect()
    if format == "csv":
        write(csv_lines(service, ledger, query, table), file)
    with answer(service, ledger, query) as found:
        if format is None:
            first = found.with_lines(many)
            report_tables.show(first, owner=ledger, as_of=found.view.as_of, functional=found.view.functional_currency)
            out.print(answers.moment_sentence(found.view))
        elif format != "csv":
            write([_document(found, format, many)], file)
        if format in (None, "csv") and (notice := answers.due_notice(found.view)) is not None:
            (out if format is None else err).print(notice, markup=False)
    return found.report is None or found.report.ties_out


def _document(found: ChangesAnswer, format: str, limit: int) -> str:
    if format == "html":
        return report_pages.page(found.with_lines(limit), found.view, found.request)
    return terminal.json_text(found.as_json(limit))
