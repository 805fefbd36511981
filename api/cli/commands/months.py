"""Month-end commands: expire, close, reopen, checklist, export, mapping, periods."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from api.cli.commands.approvals import By, whoami
from api.cli.files import written_whole
from api.settings import connect
from api.shapes import documents
from api.shapes import exports as export_documents
from api.terminal import Json, LedgerOption, out, parse_day, print_json, table
from projections.account_mapping import mapping
from projections.account_mapping.rows import FIXED_COLUMNS, csv_text
from projections.close import close as closing
from projections.close import period_history
from projections.configuring import account_mappings
from projections.delivery import checklist as checking
from projections.exports import exporting, exports
from projections.exports.formats import FORMATS
from subledger.errors import InvalidInput, InvalidMapping
from subledger.events.envelope import format_time
from subledger.periods import Period
from subledger.store.reading.ledgers import ledger_head

mapping_app = typer.Typer(help="The account mapping: role → GL account.", no_args_is_help=True)

PeriodArgument = Annotated[str, typer.Argument(help="A month, such as 2026-01.", metavar="PERIOD")]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command()(expire)
    app.command()(close)
    app.command()(reopen)
    app.command()(periods)
    app.command()(checklist)
    app.command()(export)
    app.add_typer(mapping_app, name="mapping")


def expire(
    ledger: LedgerOption,
    through: Annotated[str, typer.Option(help="The last day, inclusive, such as 2026-01-31.", metavar="D")],
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Records due expiries: the remaining credits of expired blocks become breakage. Through today at the latest.

    A server and a worker do this every minute.

    Example: subledger expire --ledger acme --through 2026-01-31
    """
    day = parse_day(through, "through")
    expired = connect().expire(ledger, day, by=by)
    if json_:
        print_json({"ledger": ledger, "through": day.isoformat(), "expired": expired})
    else:
        out.print(f"{expired} credit block{'s' if expired != 1 else ''} expired through {day}.")


def close(period: PeriodArgument, ledger: LedgerOption, by: By = whoami(), json_: Json = False) -> None:
    """Closes a month that is over: records its expiries, checks the invariants, cuts. Months are closed in order.

    Example: subledger close --ledger acme 2026-01
    """
    closed = closing.close_period(connect().recorder, ledger, Period.parse(period), by=by)
    if json_:
        print_json(documents.closed_period(closed))
    else:
        out.print(f"{closed.period} is closed; {closed.expired} credit blocks expired in it.")


def reopen(
    period: PeriodArgument,
    ledger: LedgerOption,
    reason: Annotated[str, typer.Option(help="The reason, which is recorded.")],
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Reopens a closed month and every later one; waits for a second person if the ledger requires one.

    Example: subledger reopen --ledger acme 2026-01 --reason "an invoice came late"
    """
    reopened = closing.reopen_period(connect().recorder, ledger, Period.parse(period), reason, by=by)
    if json_:
        print_json(documents.reopened_period(reopened))
    elif reopened.position is None:
        out.print(f"Reopening {reopened.period} waits for a second person: {reopened.approval_id}")
    else:
        out.print(f"{reopened.period} and every later month are open.")


def periods(
    ledger: LedgerOption,
    history: Annotated[
        bool, typer.Option("--history", help="Show every closing, reopening, cut, export and reversal.")
    ] = False,
    json_: Json = False,
) -> None:
    """Lists the months: open or closed, with the user, time and reason of the last closing or reopening.

    With --history: all acts on each month, with their users.

    Example: subledger periods --ledger acme --history
    """
    service = connect()
    with service.database.read() as connection:
        items = [documents.period(state) for state in period_history.periods(connection, ledger)]
    if json_:
        print_json(documents.page(items, None))
        return
    if history:
        of_acts = ("what", "by", "at", "reason", "subject")
        rows = [[item["period"], *(act[name] for name in of_acts)] for item in items for act in item["history"]]
        table(None, ("period", *of_acts), rows)
        return
    names = ("period", "state", "entries", "journals", "closed_by", "closed_at", "reopened_by", "reopened_at", "reason")
    table(None, names, [[item[name] for name in names] for item in items], right=(2, 3))


def checklist(period: PeriodArgument, ledger: LedgerOption, json_: Json = False) -> None:
    """Lists the steps to a closed and delivered month, in order. Exit code 1 if something blocks.

    The checklist changes nothing: a close is tried and rolled back.

    Example: subledger checklist --ledger acme 2026-01
    """
    found = checking.checklist(connect().database, ledger, Period.parse(period), now=datetime.now(UTC))
    if json_:
        print_json(export_documents.checklist(found))
    else:
        rows = [[step.state, step.question, _evidence(step.evidence), step.next] for step in found.steps]
        table(None, ("state", "step", "evidence", "next"), rows)
    if not found.ready:
        raise typer.Exit(1)


def _evidence(evidence: dict[str, Any]) -> str:
    """Returns evidence as the text of a table cell, without empty values."""
    return "; ".join(f"{name} {value}" for name, value in evidence.items() if value not in (None, 0, False, [], {}))


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
    """Writes the journal files of a month: one per journal, always with the same bytes.

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
        items.append({**documents.export(item), "file": str(path)})
    standing = exports.month_state(service.database, ledger, Period.parse(period))
    if json_:
        print_json({"items": items, **documents.standing(standing)})
        return
    for item_document in items:
        out.print(item_document["file"])
    for notice in standing.notices:
        out.print(notice)


@mapping_app.command("show")
def mapping_show(
    ledger: LedgerOption,
    period: Annotated[
        str | None,
        typer.Option(
            help="The mapping of this month's journals, such as 2026-01; default the last adopted.", metavar="P"
        ),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print the file that `mapping adopt` reads.")] = False,
    json_: Json = False,
) -> None:
    """Prints the account mapping of the next journal of a month; without a month, the last adopted one.

    Example: subledger mapping show --ledger acme --csv > chart.csv
    """
    service = connect()
    with service.database.read() as connection:
        number = ledger_head(connection, ledger).state.mapping
        if period is None:
            found = mapping.mapping_of(connection, ledger, number)
        else:
            number, found = mapping.mapping_for(connection, ledger, Period.parse(period))
        adoption = mapping.adoption_of(connection, ledger, number)
    rows = found.rows
    if json_:
        print_json(documents.mapping(ledger, adoption, found))
        return
    if csv:
        sys.stdout.write(csv_text(rows))
        return
    # Empty columns are left out, so that the usual chart fits a terminal of 80 columns; --csv has every column.
    named = {"role", "account", "name", *(column for row in rows for column, cell in row.items() if cell)}
    columns = [column for column in dict.fromkeys([*FIXED_COLUMNS, *sorted(named)]) if column in named]
    by = "as the ledger was created" if number == 1 else "adopted"
    by += "" if adoption.by is None else f" by {adoption.by}"
    title = f"mapping {number}, {by}, {format_time(adoption.adopted_at)}"
    table(title, columns, [[row.get(column, "") for column in columns] for row in rows])


@mapping_app.command("adopt")
def mapping_adopt(
    file: Annotated[
        Path,
        typer.Argument(help="CSV: role, product, credit_kind, currency, customer.NAME, account, name, dimensions."),
    ],
    ledger: LedgerOption,
    valid_from: Annotated[
        str | None,
        typer.Option("--from", help="The first month for which it applies, such as 2027-01.", metavar="PERIOD"),
    ] = None,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Adopts an account mapping for the next journals; with --from, for those of that month and later ones.

    Example: subledger mapping adopt chart-2027.csv --ledger acme --from 2027-01
    """
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidMapping(f"{file} cannot be read: {error}", field="FILE") from None
    first = None if valid_from is None else Period.parse(valid_from, field="from")
    adopted = account_mappings.adopt_mapping(
        connect().recorder, ledger, mapping.parse_mapping(text), valid_from=first, by=by
    )
    if json_:
        print_json({"ledger": ledger, "adopted": adopted})
    else:
        out.print("The mapping is adopted." if adopted else "The mapping was in force already.")
