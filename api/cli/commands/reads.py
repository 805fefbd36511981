"""Reads on the command line: events, the history of a block, balances, blocks.

Tables show functional amounts only if the ledger has entries in another currency than its functional one.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from api.service import Subledger
from api.settings import connect
from api.shapes import answers
from api.shapes import balances as balance_answers
from api.shapes import events as event_answers
from api.shapes.answers import JsonObject
from api.shapes.event_types import event_types
from api.terminal import Json, LedgerOption, out, parse_day, print_json, shown, table
from projections.reads import balances as balance_reads
from projections.reads import blocks as block_reads
from projections.reads.date_reasons import reasons_of
from projections.reads.spendable import PARTS, spendable_credits
from subledger import errors
from subledger.events.data import EVENT_TYPES
from subledger.events.fields import MAX_ID, parse_time
from subledger.store.reading.in_force import rules_of
from subledger.store.reading.ledgers import ledger_head
from subledger.store.reading.pages import events_page
from subledger.store.reading.views import PointInTime, View, due_expiries
from subledger.text.wording import did_you_mean

AsOf = Annotated[
    str | None, typer.Option("--as-of", help="The books through the end of this day, such as 2026-01-31.", metavar="D")
]
KnownAt = Annotated[
    str | None, typer.Option("--known-at", help="As known at this moment, such as 2026-02-03T09:00:00Z.", metavar="T")
]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    for command in (events, history, balances, blocks, spendable):
        app.command()(command)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else parse_time(text, field="known-at")


def events(
    ledger: Annotated[str | None, typer.Option("--ledger", "-l", help="The ledger.", metavar="L")] = None,
    customer: Annotated[str | None, typer.Option(help="Only this customer's, such as cust-42.")] = None,
    block: Annotated[str | None, typer.Option(help="Only events that touched this block, such as blk-7.")] = None,
    type: Annotated[str | None, typer.Option(help="Only of this type, such as credits.purchased.")] = None,
    after: Annotated[int, typer.Option(help="Only after this position.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The maximum number.")] = 100,
    types: Annotated[bool, typer.Option("--types", help="Print the event types and their fields instead.")] = False,
    json_: Json = False,
) -> None:
    """Lists recorded events, oldest first. With --types it lists the event types that can be sent.

    Example: subledger events --types --type credits.purchased
    """
    if types:
        _print_types(type, json_)
        return
    if ledger is None:
        raise errors.MissingField("--ledger is missing", field="ledger", expected="a ledger, or --types")
    service = connect()
    with service.database.read() as connection:
        functional_currency = ledger_head(connection, ledger).state.functional_currency
        rules = rules_of(service.database, connection, ledger)
        found = events_page(connection, ledger, customer=customer, block=block, type=type, after=after, limit=limit)
        reasons = reasons_of(connection, ledger, [stored.row.position for stored in found])
    items = [event_answers.event(stored, rules, functional_currency, reasons) for stored in found]
    _print_events(items, limit, json_)


def _print_types(type: str | None, json_: bool) -> None:
    found = [described for described in event_types() if type is None or described["type"] == type]
    if not found:
        raise errors.UnknownEventType(
            f"{type} is not an event type{did_you_mean(type or '', EVENT_TYPES)}",
            field="type",
            expected=", ".join(EVENT_TYPES),
            found=type,
        )
    if json_:
        print_json({"items": found})
        return
    for described in found:
        out.print(Text(described["type"], "bold") + shown(f"  {described['description']}"))
        out.print(shown(f"    subject: {described['subject'] or 'absent, or -'}"))
        for field in described["fields"]:
            default = f", default {field['default']}" if "default" in field else ""
            needed = "" if field["required"] else f" (optional{default})"
            out.print(shown(f"    {field['name']}{needed}: {field['meaning']}: {field['values']}"))
        out.print(shown(f"    may be refused as: {', '.join(described['refusals'])}"))


def history(
    ledger: LedgerOption,
    block: Annotated[str, typer.Option("--block", help="The credit block, such as blk-7.", metavar="B")],
    json_: Json = False,
) -> None:
    """Lists every event that touched a block, with its journal lines.

    Example: subledger history --ledger acme --block blk-7
    """
    service = connect()
    now = datetime.now(UTC)
    with service.database.read() as connection:
        state = ledger_head(connection, ledger).state
        rules = rules_of(service.database, connection, ledger)
        found = events_page(connection, ledger, block=block, limit=10_000)
        reasons = reasons_of(connection, ledger, [stored.row.position for stored in found])
        due = due_expiries(connection, state, now=now, block=block)
    items = [event_answers.event(stored, rules, state.functional_currency, reasons) for stored in found]
    _print_events(items, 10_000, json_, answers.due(due))
    if not json_ and (notice := answers.due_sentence(due, state, now)) is not None:
        out.print(notice, markup=False)


def _print_events(items: list[JsonObject], limit: int, json_: bool, more: JsonObject | None = None) -> None:
    if json_:
        page = answers.page(items, [items[-1]["position"]] if len(items) == limit else None)
        print_json({**page, **(more or {})})
        return
    for item in items:
        description = f" {item['occurred_at']} {item['type']} {item['customer'] or '-'} {item['id']}"
        out.print(Text(str(item["position"]), "bold") + shown(description))
        if item["who"] or item["why"]:
            out.print("    " + ": ".join(filter(None, (item["who"], item["why"]))))
        for entry in item["entries"]:
            credits = f" {entry['credits']} {entry['unit']}" if entry["unit"] else ""
            out.print(f"    {entry['accounting_date']} {entry['kind']}{credits} {entry['block_id'] or ''}")
            if (sentence := event_answers.late_date(item, entry)) is not None:
                out.print(f"        {sentence}")
            for line in entry["lines"]:
                indent = "" if line["side"] == "debit" else "    "
                amounts = f"{line['amount']:>14} {line['side']}{_functional(entry, line)}"
                out.print(f"        {indent}{line['account']:<28} {amounts}")


def _functional(entry: JsonObject, line: JsonObject) -> str:
    """Returns the functional amount of a line as text, empty if its entry is in the functional currency."""
    functional_currency = line["functional"]["currency"]
    currency = entry["amount"]["currency"]
    return (
        ""
        if currency == functional_currency
        else f" in {currency} ({line['functional']['amount']} {functional_currency})"
    )


def balances(
    ledger: LedgerOption,
    customer: Annotated[
        str | None, typer.Option(help="One customer, such as cust-42; default the whole ledger.", metavar="C")
    ] = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    json_: Json = False,
) -> None:
    """Prints the balances of a customer, or the trial balance.

    Example: subledger balances --ledger acme --customer cust-42 --as-of 2026-01-31
    """
    service = connect()
    with _view(service, ledger, as_of, known_at, customer) as view:
        if customer is None:
            answer = balance_answers.trial_balance(view, balance_reads.trial_balance(view))
        else:
            answer = balance_answers.customer_balances(view, customer, balance_reads.customer_balances(view, customer))
        functional = balance_reads.has_other_currencies(view)
    if json_:
        print_json(answer)
        return
    _print_balances(answer, customer or ledger, functional=functional)
    out.print(answers.moment_sentence(view))
    print_notice(view)


def _print_balances(answer: JsonObject, owner: str, *, functional: bool) -> None:
    """Prints the accounts (with functional amounts if the ledger has other currencies) and a customer's credits."""
    sides = ("debit", "credit", "balance")
    rows = [[item["account"], item["currency"], *_cells(item, sides)] for item in answer["accounts"]]
    rows += [["total", item["currency"], *_cells(item, sides)] for item in answer.get("totals", ())]
    columns = ["account", "currency", *sides]
    if functional:
        columns += [f"functional {side}" for side in sides]
        for row, item in zip(rows, answer["accounts"], strict=False):
            row += _cells(item["functional"], sides)
        if all_currencies := answer.get("functional"):
            label = f"all, in {all_currencies['currency']}"
            rows.append(["total", label, *_cells({}, sides), *_cells(all_currencies, sides)])
        rows = [[*row, *[""] * (len(columns) - len(row))] for row in rows]
    title = f"{owner} as of {answer['as_of']}, known at {answer['known_at']}"
    table(title, columns, rows, right=range(2, len(columns)))
    if answer.get("credits"):
        units = list(answer["credits"][0])
        table(None, units, [list(item.values()) for item in answer["credits"]], right=range(1, len(units)))


def _cells(item: JsonObject, names: Iterable[str]) -> list[str]:
    return [item.get(name, "") for name in names]


def blocks(
    ledger: LedgerOption,
    customer: Annotated[str | None, typer.Option(help="Only this customer's, such as cust-42.", metavar="C")] = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    json_: Json = False,
) -> None:
    """Lists credit blocks with their figures.

    Example: subledger blocks --ledger acme --customer cust-42
    """
    service = connect()
    items: list[JsonObject] = []
    with _view(service, ledger, as_of, known_at, customer) as view:
        functional_currency, functional = view.functional_currency, balance_reads.has_other_currencies(view)
        after: str | None = ""
        while after is not None:
            found, after = block_reads.customer_blocks(view, customer, after=after, limit=1000)
            items += [balance_answers.block(block, functional_currency) for block in found]
    if json_:
        print_json({**answers.page(items, None), **answers.due(view.due)})
        return
    names = [
        "block_id",
        "customer",
        "credit_kind",
        "credits",
        "used",
        "remaining",
        "price",
        "drawn",
        "carrying_amount",
        "currency",
        "expires_at",
        "status",
    ]
    rows = [_cells(item, names) for item in items]
    if functional:
        names += ["rate", f"carrying_amount in {functional_currency}"]
        for row, item in zip(rows, items, strict=True):
            row += [item["rate"] or "", item["functional"]["carrying_amount"]]
    table(None, names, rows, right=(*range(3, 9), *range(12, len(names))))
    print_notice(view)


def spendable(
    ledger: LedgerOption,
    customer: Annotated[str, typer.Option(help="The customer, such as cust-42.", metavar="C")],
    product: Annotated[
        str | None, typer.Option(help="The product of the usage; default usage that names no product.", metavar="P")
    ] = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
    json_: Json = False,
) -> None:
    """Prints the credits that a customer's usage can draw now, and the open reservations.

    Example: subledger spendable --ledger acme --customer cust-42
    """
    if product is not None and not 1 <= len(product) <= MAX_ID:
        raise errors.InvalidValue(
            f"product must be a text of 1 to {MAX_ID} characters",
            field="product",
            expected=f"1 to {MAX_ID} characters; leave it out for usage that names no product",
            found=f"{len(product)} characters",
        )
    service = connect()
    with _view(service, ledger, as_of, known_at, customer) as view:
        answer = balance_answers.spendable(view, customer, spendable_credits(view, customer, product=product))
    if json_:
        print_json(answer)
        return
    of_product = f" for {product}" if product is not None else ""
    title = f"credits of {customer}{of_product} at {answer['moment']}, known at {answer['known_at']}"
    units = ["unit", *PARTS, "remaining"]
    table(title, units, [_cells(item, units) for item in answer["credits"]], right=range(1, len(units)))
    products = sorted({name for item in answer["credits"] for name in item["products"]})
    if products:
        out.print(f"Credits for other products can be used for: {', '.join(products)}", markup=False)
    if answer["reservations"]:
        names = ["reservation_id", "credits", "held", "unit", "product", "reserved_at", "expires_at"]
        rows = [[item[name] or "" for name in names] for item in answer["reservations"]]
        table("open reservations", names, rows, right=(1, 2))
    out.print(answers.moment_sentence(view))
    print_notice(view)


def _view(
    service: Subledger, ledger: str, as_of: str | None, known_at: str | None, customer: str | None
) -> AbstractContextManager[View]:
    return service.view(ledger, as_of=parse_day(as_of, "as-of"), known_at=_moment(known_at), customer=customer)


def print_notice(view: PointInTime) -> None:
    """Prints the number of due expiries that are not recorded, if they would change the answer."""
    notice = answers.due_notice(view)
    if notice is not None:
        out.print(notice, markup=False)
