"""The tie-out with a general ledger's trial balance on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from api.cli.commands.approvals import By, whoami
from api.settings import connect
from api.shapes import exports as export_answers
from api.terminal import Json, LedgerOption, out, print_json, table
from projections.delivery import tie_out as tying
from projections.delivery.deliveries import Delivery
from projections.delivery.tying import tie_out_channel
from subledger.errors import InvalidInput
from subledger.periods import Period
from subledger.store.reading.ledgers import ledger_head


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command("tie-out")(tie_out)


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
    """Compares the general ledger's trial balance with the exported journals. The exit code is 1 if they differ.

    Without --account, every account to which only the sub-ledger posts is compared. With --channel, the deliveries of
    each month without a difference are then marked as reconciled. Amounts are in the functional currency. If there is
    nothing to compare, the command fails.

    Example: subledger tie-out trial-balance.csv --ledger acme
    """
    if file is None and channel is None:
        raise InvalidInput("tie-out needs a FILE, or a --channel", field="FILE", expected="a CSV file")
    service, theirs, deliveries = connect(), None, list[Delivery]()
    with service.database.read() as connection:
        functional_currency = ledger_head(connection, ledger).state.functional_currency
    if file is not None:
        theirs = tying.read_trial_balance(_text_of(file), functional_currency)
    if channel is not None:
        months = [Period.parse(name) for name in period or ()]
        found, deliveries = tie_out_channel(
            service.database, ledger, channel, theirs, periods=months, accounts=account or (), by=by
        )
    else:
        with service.database.read() as connection:
            found = tying.tie_out(connection, ledger, theirs or (), accounts=account or ())
    answer = export_answers.tie_out(found, deliveries)
    if json_:
        print_json(answer)
    else:
        _show_tie_out(found, answer)
    if not found.tied:
        raise typer.Exit(1)


def _text_of(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}", field="FILE", expected="a CSV file") from None


def _show_tie_out(found: tying.TieOut, answer: dict[str, Any]) -> None:
    if found.differences:
        names = ("period", "account", "account_name", "measure", "sub_ledger", "general_ledger", "difference")
        rows = [
            [*(each[name] for name in names), ", ".join(share["journal"] for share in each["behind"])]
            for each in answer["differences"]
        ]
        table(None, (*names, "journals"), rows, right=(4, 5, 6))
    ours = f"{found.compared} compared, {len(found.differences)} differ"
    out.print(ours + (f"; not ours: {', '.join(found.not_ours)}" if found.not_ours else "") + ".")
    for period in found.not_handed_over:
        out.print(f"{period} has entries that no journal holds yet: export it first.")
    if answer["reconciled"]:
        count = len(answer["reconciled"])
        out.print(f"{count} {'delivery is' if count == 1 else 'deliveries are'} reconciled.")
