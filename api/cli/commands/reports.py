"""Reports on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from api import terminal
from api.cli.change_report import moments, print_changes, refuse
from api.cli.files import write
from api.settings import connect
from api.shapes import answers, change_report, joint_reports, report_pages, report_tables, reports
from api.terminal import Json, err, out, parse_day, print_json, table
from projections.report import Report, ReportRequest
from subledger.errors import InvalidInput
from subledger.events.fields import parse_time
from subledger.store.reading.views import View


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(report)


def report(
    name: Annotated[str | None, typer.Argument(help="One of --list, such as rollforward.", metavar="NAME")] = None,
    ledger: Annotated[
        list[str] | None,
        typer.Option("--ledger", "-l", help="The ledger, such as acme; several are added.", metavar="L"),
    ] = None,
    entity: Annotated[
        str | None, typer.Option(help="All ledgers of this entity, such as US01, added.", metavar="E")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="First day, or month, such as 2026-01.", metavar="D")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Last day or month, inclusive, such as 2026-03-31.", metavar="D")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="The books through this day, such as 2026-03-31.", metavar="D")
    ] = None,
    known_at: Annotated[
        str | None,
        typer.Option("--known-at", help="As known at this moment, such as 2026-04-03T09:00:00Z.", metavar="T"),
    ] = None,
    customer: Annotated[str | None, typer.Option(help="Only this customer's, such as cust-42.", metavar="C")] = None,
    by: Annotated[
        str | None,
        typer.Option(help="The property by which rows are grouped, such as product or dimension.NAME; see --list."),
    ] = None,
    months: Annotated[int | None, typer.Option(min=1, max=600, help="The horizon of a forecast, in months.")] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    html: Annotated[bool, typer.Option("--html", help="Print a printable page.")] = False,
    table_: Annotated[str | None, typer.Option("--table", help="The table that --csv prints.")] = None,
    file: Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file instead.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the reports and exit.")] = False,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Of changes: the two moments, such as 2026-02-03T09:00:00Z now.", metavar="T T"),
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="Of changes: only this account, such as usage_revenue.", metavar="A")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Of changes: the maximum number of entries; default 100.")
    ] = None,
    cursor: Annotated[
        str | None, typer.Option(help="Of changes, with --json: `next` of the page before.", metavar="C")
    ] = None,
    json_: Json = False,
) -> None:
    """Prints a report and compares it with the trial balance. The exit code is 1 if they differ.

    Example: subledger report rollforward --ledger acme --from 2026-01 --to 2026-03
    Example: subledger report statement --ledger acme --customer cust-42 --out statement.html
    Example: subledger report trial-balance --entity US01 --as-of 2026-03-31
    Example: subledger report changes --ledger acme --as-of 2026-01-31 --between 2026-02-03T09:00:00Z now
    """
    if list_:
        _list(json_)
        return
    if name is None or not (ledger or entity):
        missing = "NAME" if name is None else "--ledger"
        raise InvalidInput(f"{missing} is missing", field=missing, expected="subledger report NAME --ledger L")
    format = _format({"json": json_, "csv": csv, "html": html}, file)
    if table_ is not None and format != "csv":
        raise InvalidInput("--table goes with --csv", field="--table", expected="--csv", found=table_)
    day = parse_day(as_of, "as-of")
    of_changes = {"--between": between, "--account": account, "--limit": limit, "--cursor": cursor}
    if name == change_report.NAME:
        refuse({"--known-at": known_at, "--by": by, "--months": months, "--entity": entity}, f"report {name}")
        chosen = change_report.ChangesQuery(
            **moments(between), from_=from_, to=to, as_of=day, customer=customer, account=account, cursor=cursor
        )
        if not print_changes(ledger or (), chosen, limit, format, table_, file):
            raise typer.Exit(terminal.DIFFERENCE)
        return
    refuse(of_changes, f"report {name}")
    query = reports.ReportQuery(
        from_=from_,
        to=to,
        as_of=day,
        customer=customer,
        by=by,
        months=months,
        known_at=None if known_at is None else parse_time(known_at, field="known-at"),
    )
    if entity is not None or ledger is None or len(ledger) != 1:
        of_ledgers = joint_reports.Chosen(entity=entity, ledgers=tuple(ledger or ()))
        ties_out = _joint(name, query, of_ledgers, format, table_, file)
    else:
        ties_out = _of_one(name, query, ledger[0], format, table_, file)
    if not ties_out:
        raise typer.Exit(terminal.DIFFERENCE)


def _of_one(
    name: str, query: reports.ReportQuery, ledger: str, format: str | None, table: str | None, file: Path | None
) -> bool:
    with reports.answer(connect(), ledger, name, query) as (found, view, request):
        if format is None:
            functional_currency = view.functional_currency
            report_tables.show(found, owner=ledger, as_of=view.as_of, functional=functional_currency)
            out.print(answers.moment_sentence(view))
        else:
            write(_pieces(format, found, view, request, table), file)
        # The other formats contain the notice.
        if format in (None, "csv") and (notice := answers.due_notice(view)) is not None:
            (out if format is None else err).print(notice, markup=False)
    return found.ties_out


def _joint(
    name: str,
    query: reports.ReportQuery,
    chosen: joint_reports.Chosen,
    format: str | None,
    table: str | None,
    file: Path | None,
) -> bool:
    if format is not None and format not in joint_reports.FORMATS:
        expected = ", ".join(joint_reports.FORMATS)
        raise InvalidInput("no page over several ledgers", field=f"--{format}", expected=expected, found=format)
    found = joint_reports.answer(connect(), name, query, chosen)
    if format is None:
        joint_reports.show(found)
    elif format == "csv":
        write(joint_reports.csv_lines(found, table), file)
    else:
        write([terminal.json_text(joint_reports.as_json(found))], file)
    return found.ties_out


def _list(json_: bool) -> None:
    items = [*(reports.listing(name) for name in reports.REPORTS), change_report.LISTING]
    if json_:
        print_json({"items": items, "next": None})
        return
    rows = [[item["report"], item["description"], ", ".join(item["by"])] for item in items]
    table(None, ("report", "what it shows", "by"), rows)


def _format(wanted: dict[str, bool], file: Path | None) -> str | None:
    """Returns the requested format, or the format of the file's name; None for a table for people."""
    requested = [format for format, is_wanted in wanted.items() if is_wanted]
    if len(requested) > 1:
        raise InvalidInput("one format at a time", field=f"--{requested[1]}", expected=f"--{requested[0]} alone")
    if requested or file is None:
        return requested[0] if requested else None
    format = file.suffix.removeprefix(".").lower()
    if format not in reports.FORMATS:
        raise InvalidInput(
            "the file's name has no known extension",
            field="--out",
            expected="a name that ends in " + ", ".join(f".{format}" for format in reports.FORMATS) + ", or a format",
            found=file.name,
        )
    return format


def _pieces(format: str, found: Report, view: View, request: ReportRequest, table: str | None) -> Iterator[str]:
    if format == "csv":
        yield from reports.csv_lines(reports.table_of(found, table), view.functional_currency)
    elif format == "html":
        yield report_pages.page(found, view, request)
    else:
        answer: dict[str, Any] = reports.as_json(found, view, request)
        yield terminal.json_text(answer)
