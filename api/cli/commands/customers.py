"""Attributes of customers on the command line; journals can be grouped by them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.cli.commands.approvals import By, whoami
from api.settings import connect
from api.shapes import answers
from api.terminal import Json, LedgerOption, out, print_json, table
from projections.account_mapping import customer_attributes as attributes
from subledger.errors import InvalidInput
from subledger.events.envelope import format_time
from subledger.store.reading.ledgers import ledger_head

customer_app = typer.Typer(
    help="Attributes of customers (segment, region …). They are not part of the log and can be erased.",
    no_args_is_help=True,
)

CustomerArgument = Annotated[str, typer.Argument(help="The customer, such as cust-42.", metavar="CUSTOMER")]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.add_typer(customer_app, name="customer")


@customer_app.command("set")
def customer_set(
    customer: CustomerArgument,
    given: Annotated[
        list[str],
        typer.Argument(
            help="An attribute, such as segment=enterprise; an empty value removes it.", metavar="NAME=VALUE"
        ),
    ],
    ledger: LedgerOption,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Sets attributes of a customer. Other attributes do not change.

    Example: subledger customer set cust-42 segment=enterprise region=emea --ledger acme
    """
    named: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or name in named:
            raise InvalidInput(
                f"{each[:60]!r} is not an attribute",
                field="NAME=VALUE",
                found=each[:60],
                expected="each name once, as segment=enterprise",
            )
        named[name] = value
    attributes.change_attributes(connect().database, ledger, customer, named, by=by)
    customer_show(customer, ledger, json_)


@customer_app.command("show")
def customer_show(customer: CustomerArgument, ledger: LedgerOption, json_: Json = False) -> None:
    """Prints the attributes of a customer.

    Example: subledger customer show cust-42 --ledger acme
    """
    with connect().database.read() as connection:
        ledger_head(connection, ledger)
        found = attributes.attributes_of(connection, ledger, customer)
    if json_:
        print_json(answers.customer_attributes(ledger, found))
    else:
        title = f"changed by {found.changed_by} at {format_time(found.changed_at)}" if found.changed_at else None
        table(title, ("attribute", "value"), list(found.attributes.items()))


@customer_app.command("erase")
def customer_erase(customer: CustomerArgument, ledger: LedgerOption, by: By = whoami(), json_: Json = False) -> None:
    """Erases the attributes of a customer. Exported journals do not change, and the erasure is recorded.

    Example: subledger customer erase cust-42 --ledger acme
    """
    erased = attributes.erase_attributes(connect().database, ledger, customer, by=by)
    if json_:
        print_json({"ledger": ledger, "customer": customer, "erased": erased})
    else:
        out.print("Erased." if erased else "The customer has no attributes.")


@customer_app.command("erasures")
def customer_erasures(ledger: LedgerOption, json_: Json = False) -> None:
    """Lists the erasures of attributes, with customer, time and user, but without the attributes.

    Example: subledger customer erasures --ledger acme
    """
    with connect().database.read() as connection:
        ledger_head(connection, ledger)
        items = [answers.erasure(each) for each in attributes.erasures(connection, ledger, limit=1_000_000)]
    if json_:
        print_json(answers.page(items, None))
    else:
        table(None, ("customer", "erased_at", "erased_by"), [tuple(item.values()) for item in items])


@customer_app.command("import")
def customer_import(
    file: Annotated[Path, typer.Argument(help="CSV: a column customer, and one for each attribute.")],
    ledger: LedgerOption,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Sets the attributes of a file, for all its customers or for none. An empty cell removes an attribute.

    Example: subledger customer import customers.csv --ledger acme
    """
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}", field="FILE") from None
    count = attributes.import_attributes(connect().database, ledger, text, by=by)
    if json_:
        print_json({"ledger": ledger, "customers": count})
    else:
        out.print(f"Attributes of {count} customer{'s' if count != 1 else ''} are set.")
