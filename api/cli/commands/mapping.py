"""The account mapping on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from api.cli.commands.approvals import By, whoami
from api.settings import connect
from api.shapes import answers
from api.terminal import Json, LedgerOption, out, print_json, table
from projections.account_mapping import mapping
from projections.account_mapping.rows import FIXED_COLUMNS, csv_text
from projections.configuring import account_mappings
from subledger.errors import InvalidMapping
from subledger.events.envelope import format_time
from subledger.periods import Period
from subledger.store.reading.ledgers import ledger_head

mapping_app = typer.Typer(help="The account mapping: role → GL account.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.add_typer(mapping_app, name="mapping")


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
    """Prints the account mapping of the next journal of a month. Without a month it prints the last adopted one.

    Example: subledger mapping show --ledger acme --csv > mapping.csv
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
        print_json(answers.mapping(ledger, adoption, found))
        return
    if csv:
        sys.stdout.write(csv_text(rows))
        return
    # Empty columns are left out, so that the usual mapping fits a terminal of 80 columns; --csv has every column.
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
        typer.Argument(
            help="CSV: role, product, credit_kind, refundable, currency, customer.NAME, account, name, dimensions."
        ),
    ],
    ledger: LedgerOption,
    valid_from: Annotated[
        str | None,
        typer.Option("--from", help="The first month for which it applies, such as 2027-01.", metavar="PERIOD"),
    ] = None,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Adopts an account mapping for the next journals. With --from it applies to that month and later ones.

    Example: subledger mapping adopt mapping-2027.csv --ledger acme --from 2027-01
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
