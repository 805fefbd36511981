"""Approvals on the command line: events that wait for a second person, and the decision."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from api.settings import connect
from api.shapes import answers
from api.shapes import approvals as approval_answers
from api.terminal import Json, LedgerOption, out, print_json, table
from subledger.persons import NOBODY, person
from subledger.store.reading.ledgers import ledger_head
from subledger.store.writing.approvals import WAITING, approvals_page

approvals_app = typer.Typer(help="Events that wait for a second person.", no_args_is_help=True)


def whoami() -> str:
    """Returns the name of the operating system's user, the default of ``--by``."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return NOBODY


def _named(by: str) -> str:
    return person(by)


By = Annotated[
    str,
    typer.Option(
        "--by",
        help="The person who requests or decides; default the user of this machine.",
        metavar="NAME",
        callback=_named,
    ),
]
ApprovalArgument = Annotated[
    str, typer.Argument(help="The id of the request in `approvals list`: apr-0123….", metavar="APPROVAL")
]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.add_typer(approvals_app, name="approvals")


@approvals_app.command("list")
def approvals_list(
    ledger: LedgerOption,
    every: Annotated[bool, typer.Option("--all", help="Also list decided requests.")] = False,
    json_: Json = False,
) -> None:
    """Lists the events that wait for a second person, oldest first: customer, block, amount, reason and effect.

    Example: subledger approvals list --ledger acme
    """
    service = connect()
    start = (datetime(1, 1, 1, tzinfo=UTC), "")
    with service.database.read() as connection:
        currency = ledger_head(connection, ledger).state.functional_currency
        state = None if every else WAITING
        found = approvals_page(connection, ledger, state=state, after=start, limit=10_000)
    items = [approval_answers.approval(request, currency) for request in found]
    if json_:
        print_json(answers.page(items, None))
        return
    decided = ("state", "checker", "note") if every else ()
    rows = [(*_row(item), *(item[name] for name in decided)) for item in items]
    table(None, (*_COLUMNS, *decided), rows)


_COLUMNS = (
    "approval_id", "type", "event", "customer", "block_id", "amount", "stated_reason", "effect", "reason", "maker",
    "requested_at",
)  # fmt: skip


def _row(item: dict[str, Any]) -> tuple[Any, ...]:
    event, amount, effect = item["event"], item["amount"], item["effect"]
    shown = {
        **item,
        "type": event["type"],
        "event": event["id"],
        "amount": amount and f"{amount['amount']} {amount['currency'] or ''}".strip(),
        "effect": effect and effect["text"],
    }
    return tuple(shown[name] for name in _COLUMNS)


@approvals_app.command("approve")
def approve(approval: ApprovalArgument, ledger: LedgerOption, by: By = whoami(), json_: Json = False) -> None:
    """Approves a waiting event as `approvals list` shows it, and records it with both names.

    The person who sent it, and the person who made that person's key, cannot approve it.

    Example: subledger approvals approve apr-0123456789abcdef0123 --ledger acme --by maria
    """
    outcome = connect().decide_approval(ledger, approval, by=by, allow=True)
    if outcome.error is not None:
        raise outcome.error
    if json_:
        print_json({"approval_id": approval, "state": "approved", **answers.outcome(outcome)})
    else:
        out.print(f"{outcome.event_id} is recorded at position {outcome.position}.")


@approvals_app.command("refuse")
def refuse(
    approval: ApprovalArgument,
    ledger: LedgerOption,
    by: By = whoami(),
    note: Annotated[str | None, typer.Option(help="The reason; shown when the event is sent again.")] = None,
    json_: Json = False,
) -> None:
    """Refuses a waiting event, which is then never recorded.

    Example: subledger approvals refuse apr-0123456789abcdef0123 --ledger acme --by maria --note "they paid"
    """
    outcome = connect().decide_approval(ledger, approval, by=by, allow=False, note=note)
    if json_:
        print_json({"approval_id": approval, "state": "refused", "id": outcome.event_id})
    else:
        out.print(f"{outcome.event_id} is refused.")
