"""Exports on the command line: writing the files of a month, and reading the entries behind each line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from api.cli.commands.approvals import By, whoami
from api.cli.files import written_whole
from api.settings import connect
from api.shapes import answers
from api.shapes import exports as export_answers
from api.terminal import Json, LedgerOption, out, print_json, table
from projections.exports import exporting, exports
from projections.exports.formats import FORMATS
from subledger.errors import InvalidInput
from subledger.periods import Period
from subledger.store.reading.ledgers import ledger_head

exports_app = typer.Typer(help="Exports, with the entries and events behind each line.", no_args_is_help=True)

_PAGE = 1_000
_AMOUNTS = ("line", "debit", "credit", "entries")

ExportArgument = Annotated[
    str,
    typer.Argument(help="The export's id: its file name without the extension, such as acme-2026-01-1-netsuite-csv."),
]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command()(export)
    app.add_typer(exports_app, name="exports")


def export(
    period: Annotated[str | None, typer.Argument(help="A month, such as 2026-01.", metavar="PERIOD")] = None,
    ledger: Annotated[str | None, typer.Option("--ledger", "-l", help="The ledger.", metavar="L")] = None,
    format: Annotated[
        str | None, typer.Option("--format", "-f", help="One of --formats, such as csv.", metavar="F")
    ] = None,
    directory: Annotated[Path, typer.Option("--out", "-o", help="The folder for the files.", metavar="DIR")] = Path(),
    detail: Annotated[bool, typer.Option("--detail", help="Write every entry (beancount, hledger).")] = False,
    formats: Annotated[bool, typer.Option("--formats", help="List the formats and exit.")] = False,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Writes the journal files of a month, one per journal. A file always has the same bytes.

    Example: subledger export --ledger acme 2026-01 --format csv --out journals
    """
    if formats:
        if json_:
            print_json({"formats": list(FORMATS)})
        else:
            sys.stdout.write("\n".join(FORMATS) + "\n")
        return
    if period is None or ledger is None or format is None:
        name = "PERIOD" if period is None else "--ledger" if ledger is None else "--format"
        raise InvalidInput(f"{name} is missing", field=name, expected="subledger export --ledger L 2026-01 --format F")
    service = connect()
    made = exporting.export(
        service.recorder, service.database, ledger, Period.parse(period), format, detail=detail, by=by
    )
    directory.mkdir(parents=True, exist_ok=True)
    items = []
    for item in made:
        path = directory / item.filename
        with written_whole(path) as file:
            for piece in exports.content_of(service.database, item):
                file.write(piece)
        items.append({**export_answers.export(item), "file": str(path)})
    standing = exports.month_state(service.database, ledger, Period.parse(period))
    if json_:
        print_json({"items": items, **export_answers.standing(standing)})
        return
    for exported in items:
        out.print(exported["file"])
    for notice in standing.notices:
        out.print(notice)


@exports_app.command("list")
def exports_list(
    ledger: LedgerOption,
    period: Annotated[str | None, typer.Option(help="Only this month, such as 2026-01.", metavar="PERIOD")] = None,
    json_: Json = False,
) -> None:
    """Lists exports, in order of id.

    Example: subledger exports list --ledger acme --period 2026-01
    """
    month = None if period is None else Period.parse(period)
    service, items, after = connect(), [], ""
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        while found := exports.list_exports(connection, ledger, period=month, after=after, limit=_PAGE):
            items += [export_answers.export(export) for export in found]
            after = found[-1].export_id
    if json_:
        print_json(answers.page(items, None))
        return
    names = ("id", "period", "number", "format", "created_at", "created_by", "content_hash")
    table(None, names, [[item[name] for name in names] for item in items], right=(2,))


@exports_app.command("show")
def exports_show(export_id: ExportArgument, ledger: LedgerOption, json_: Json = False) -> None:
    """Lists an export's documents and lines, with the number of entries behind each line.

    Example: subledger exports show acme-2026-01-1-netsuite-csv --ledger acme
    """
    service = connect()
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        found = export_answers.export_with_lines(connection, exports.get_export(connection, ledger, export_id))
    if json_:
        print_json(found)
        return
    names = ["line", "account", "account_name", "debit", "credit", "currency", "product", "entries"]
    if "documents" in found:
        names[:1], names[-2:] = ["document", "reference"], ["text", "entries"]
    rows = [[line[name] for name in names] for line in found["lines"]]
    table(None, names, rows, right=tuple(column for column, name in enumerate(names) if name in _AMOUNTS))
    if found.get("left_out"):
        columns = ("document", "debit", "credit", "amount", "currency")
        rows = [[each[name] for name in columns] for each in found["left_out"]]
        table("Left out: posted by the general ledger, or passing through", columns, rows, right=(3,))


@exports_app.command("entries")
def exports_entries(
    export_id: ExportArgument,
    line: Annotated[int, typer.Argument(help="The line's number: 12 for L12.", min=1, max=2**31 - 1)],
    ledger: LedgerOption,
    limit: Annotated[int, typer.Option(help="The maximum number of entries.", min=1, max=100_000)] = 1_000,
    json_: Json = False,
) -> None:
    """Lists the entries behind a line, each with its event. Their amounts add up to the line's.

    Example: subledger exports entries acme-2026-01-1-netsuite-csv 12 --ledger acme
    """
    service = connect()
    with service.database.read() as connection:
        functional = ledger_head(connection, ledger).state.functional_currency
        export = exports.get_export(connection, ledger, export_id)
        found = exports.entries_of_line(connection, export, line, limit=limit)
    items = [export_answers.entry_behind(entry, functional) for entry in found]
    if json_:
        print_json(answers.page(items, None))
        return
    names = (
        "position",
        "event_id",
        "event_type",
        "kind",
        "customer",
        "block_id",
        "accounting_date",
        "amount",
        "currency",
    )
    table(None, names, [[item[name] for name in names] for item in items], right=(0, 7))
    if len(items) == limit:
        out.print(f"The first {limit}: --limit shows more.")
