"""Exports, journals, targets and tie-out on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from api.cli.commands.approvals import By, whoami
from api.cli.commands.months import PeriodArgument
from api.settings import connect
from api.shapes import documents
from api.shapes import exports as export_documents
from api.terminal import Json, LedgerOption, out, print_json, read_toml, table
from projections.delivery import tie_out as tying
from projections.delivery.outbox import Delivery
from projections.delivery.tying import tie_out_channel
from projections.exports import exports, targets
from projections.exports.formats import TARGETS
from projections.journals import reversing
from projections.journals.stored_journals import journals_of
from subledger.errors import InvalidInput
from subledger.periods import Period
from subledger.store.reading.ledgers import ledger_head

exports_app = typer.Typer(help="Exports, with the entries and events behind each line.", no_args_is_help=True)
journals_app = typer.Typer(help="Journals, and the reversal of one with wrong GL accounts.", no_args_is_help=True)
target_app = typer.Typer(help="The general ledgers for which formats exist: limits and settings.", no_args_is_help=True)

_PAGE = 1_000
_AMOUNTS = ("line", "debit", "credit", "entries")

ExportArgument = Annotated[
    str,
    typer.Argument(help="The export's id: its file name without the extension, such as acme-2026-01-1-netsuite-csv."),
]
TargetArgument = Annotated[
    str, typer.Argument(help="A general ledger of `subledger target list`, such as netsuite.", metavar="TARGET")
]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.add_typer(exports_app, name="exports")
    app.add_typer(journals_app, name="journals")
    app.add_typer(target_app, name="target")
    app.command("tie-out")(tie_out)


@exports_app.command("list")
def exports_list(
    ledger: LedgerOption,
    period: Annotated[str | None, typer.Option(help="One month's alone, such as 2026-01.", metavar="PERIOD")] = None,
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
            items += [documents.export(export) for export in found]
            after = found[-1].export_id
    if json_:
        print_json(documents.page(items, None))
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
        found = export_documents.export_with_lines(connection, exports.get_export(connection, ledger, export_id))
    if json_:
        print_json(found)
        return
    names = ["line", "account", "account_name", "debit", "credit", "currency", "product", "entries"]
    if "documents" in found:
        names[:1], names[-2:] = ["document", "reference"], ["text", "entries"]
    rows = [[line[name] for name in names] for line in found["lines"]]
    table(None, names, rows, right=tuple(place for place, name in enumerate(names) if name in _AMOUNTS))


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
        home = ledger_head(connection, ledger).state.functional_currency
        export = exports.get_export(connection, ledger, export_id)
        found = exports.entries_of_line(connection, export, line, limit=limit)
    items = [documents.entry_behind(entry, home) for entry in found]
    if json_:
        print_json(documents.page(items, None))
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


@journals_app.command("list")
def journals_list(period: PeriodArgument, ledger: LedgerOption, json_: Json = False) -> None:
    """Lists the journals of a month, with reversals and re-issues.

    Example: subledger journals list 2026-01 --ledger acme
    """
    with connect().database.read() as connection:
        ledger_head(connection, ledger)
        found = journals_of(connection, ledger, Period.parse(period))
        handed_over = exports.handed_over(connection, ledger, Period.parse(period))
    items = [export_documents.journal(each, found, handed_over) for each in found]
    if json_:
        print_json(documents.page(items, None))
        return
    names = (
        "number",
        "journal",
        "lines",
        "mapping",
        "reverses",
        "reissues",
        "reversed_by",
        "made_by",
        "made_at",
        "reason",
    )
    table(None, names, [[item[name] for name in names] for item in items], right=(0, 2, 3, 4, 5, 6))


@journals_app.command("reverse")
def journals_reverse(
    period: PeriodArgument,
    number: Annotated[int, typer.Argument(help="The journal's number in the month.", min=1, max=2**31 - 1)],
    ledger: LedgerOption,
    reason: Annotated[str, typer.Option(help="The reason, which is stored.")],
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Reverses a journal with wrong GL accounts, and re-issues its entries under the current account mapping.

    The books do not change. Export the month afterwards: it has two more files.

    Example: subledger journals reverse 2026-01 1 --ledger acme --reason "deposits were mapped to revenue"
    """
    service, month = connect(), Period.parse(period)
    made = reversing.reverse_journal(service.recorder, ledger, month, number, reason, by=by)
    if json_:
        with service.database.read() as connection:
            handed_over = exports.handed_over(connection, ledger, month)
        print_json(export_documents.reversed_journal(made, handed_over))
    else:
        out.print(f"{made.reversal.name} reverses {made.journal.name}; {made.reissue.name} is its re-issue.")


@target_app.command("list")
def target_list(json_: Json = False) -> None:
    """Lists the general ledgers, with the limits of a document of each.

    Example: subledger target list
    """
    if json_:
        items = [export_documents.target(target, target.settings()) for target in TARGETS.values()]
        print_json(documents.page(items, None))
        return
    rows = []
    for target in TARGETS.values():
        limits = target.limits
        taken = "its own and the functional" if limits.two_currencies else "functional"
        rows.append([target.name, limits.lines, limits.text, limits.reference, taken])
    table(None, ("target", "lines a document", "text", "reference", "amounts"), rows, right=(1, 2, 3))


@target_app.command("show")
def target_show(target: TargetArgument, ledger: LedgerOption, json_: Json = False) -> None:
    """Prints the settings of the next export to a target.

    Example: subledger target show netsuite --ledger acme --json
    """
    service, found = connect(), targets.target_named(target)
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        change = targets.change_of(connection, ledger, found)
        document = export_documents.target(found, targets.settings_of(connection, ledger, found), change)
    if json_:
        print_json(document)
        return
    rows = [[name, value] for name, value in document["settings"].items()]
    table(documents.last_change_title(document), ("setting", "value"), rows)


@target_app.command("set")
def target_set(
    target: TargetArgument,
    file: Annotated[Path, typer.Argument(help="TOML: level, lines, title, and the target's own.", metavar="FILE")],
    ledger: LedgerOption,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Sets the settings of a target's next exports; settings that are not in the file have their defaults.

    Earlier exports do not change.

    Example: subledger target set netsuite netsuite.toml --ledger acme
    """
    given = read_toml(file)
    service, found = connect(), targets.target_named(target)
    with service.database.read() as connection:
        ledger_head(connection, ledger)
    settings = targets.set_settings(service.database, ledger, found, given, by=by)
    if json_:
        with service.database.read() as connection:
            print_json(export_documents.target(found, settings, targets.change_of(connection, ledger, found)))
    else:
        out.print(f"The settings of {target} are changed for the next exports.")


def tie_out(
    ledger: LedgerOption,
    file: Annotated[
        Path | None, typer.Argument(help="CSV: account, period, debit and credit or balance.", metavar="FILE")
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(
            help="The channel to the general ledger, such as netsuite; without FILE its trial balance is requested.",
            metavar="CHANNEL",
        ),
    ] = None,
    period: Annotated[
        list[str] | None,
        typer.Option(help="Request this month, such as 2026-01; can be repeated; default all delivered months."),
    ] = None,
    account: Annotated[
        list[str] | None, typer.Option(help="Compare only this account, such as 2400; can be repeated.")
    ] = None,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Compares the general ledger's trial balance with the exported journals; exit code 1 if they differ.

    Without --account, every account that only the sub-ledger posts to is compared; with --channel, the deliveries of
    each month without a difference are then marked as reconciled. Amounts are in the functional currency. If there is
    nothing to compare, the command fails.

    Example: subledger tie-out trial-balance.csv --ledger acme
    """
    if file is None and channel is None:
        raise InvalidInput("tie-out needs a FILE, or a --channel", field="FILE", expected="a CSV file")
    service, theirs, done = connect(), None, list[Delivery]()
    with service.database.read() as connection:
        home = ledger_head(connection, ledger).state.functional_currency
    if file is not None:
        theirs = tying.read_trial_balance(_text_of(file), home)
    if channel is not None:
        months = [Period.parse(name) for name in period or ()]
        found, done = tie_out_channel(
            service.database, ledger, channel, theirs, periods=months, accounts=account or (), by=by
        )
    else:
        with service.database.read() as connection:
            found = tying.tie_out(connection, ledger, theirs or (), accounts=account or ())
    document = export_documents.tie_out(found, done)
    if json_:
        print_json(document)
    else:
        _show_tie_out(found, document)
    if not found.tied:
        raise typer.Exit(1)


def _text_of(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}", field="FILE", expected="a CSV file") from None


def _show_tie_out(found: tying.TieOut, document: dict[str, Any]) -> None:
    if found.differences:
        names = ("period", "account", "account_name", "measure", "sub_ledger", "general_ledger", "difference")
        rows = [
            [*(each[name] for name in names), ", ".join(share["journal"] for share in each["behind"])]
            for each in document["differences"]
        ]
        table(None, (*names, "journals"), rows, right=(4, 5, 6))
    ours = f"{found.compared} compared, {len(found.differences)} differ"
    out.print(ours + (f"; not ours: {', '.join(found.not_ours)}" if found.not_ours else "") + ".")
    for period in found.not_handed_over:
        out.print(f"{period} has entries that no journal holds yet: export it first.")
    if document["reconciled"]:
        count = len(document["reconciled"])
        out.print(f"{count} {'delivery is' if count == 1 else 'deliveries are'} reconciled.")
