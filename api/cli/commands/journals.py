"""Journals on the command line, and the reversal of one."""

from __future__ import annotations

from typing import Annotated

import typer

from api.cli.commands.approvals import By, whoami
from api.cli.commands.months import PeriodArgument
from api.settings import connect
from api.shapes import answers
from api.shapes import exports as export_answers
from api.terminal import Json, LedgerOption, out, print_json, table
from projections.exports import exports
from projections.journals import reversing
from projections.journals.stored_journals import journals_of
from subledger.periods import Period
from subledger.store.reading.ledgers import ledger_head

journals_app = typer.Typer(help="Journals, and the reversal of one with wrong GL accounts.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.add_typer(journals_app, name="journals")


@journals_app.command("list")
def journals_list(period: PeriodArgument, ledger: LedgerOption, json_: Json = False) -> None:
    """Lists the journals of a month, with reversals and re-issues.

    Example: subledger journals list 2026-01 --ledger acme
    """
    with connect().database.read() as connection:
        ledger_head(connection, ledger)
        found = journals_of(connection, ledger, Period.parse(period))
        handed_over = exports.handed_over(connection, ledger, Period.parse(period))
    items = [export_answers.journal(each, found, handed_over) for each in found]
    if json_:
        print_json(answers.page(items, None))
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
        print_json(export_answers.reversed_journal(made, handed_over))
    else:
        out.print(f"{made.reversal.name} reverses {made.journal.name}; {made.reissue.name} is its re-issue.")
