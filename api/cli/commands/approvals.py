"""Approvals on the command line: what waits for a second person, and their decision."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from typing import Annotated

import typer

from api.settings import connect
from api.shapes import documents
from api.terminal import Json, LedgerOption, out, print_json, table
from subledger.persons import NOBODY, person
from subledger.store.reading.ledgers import ledger_head
from subledger.store.writing.approvals import WAITING, approvals_page

approvals_app = typer.Typer(help="What waits for a second person.", no_args_is_help=True)


def whoami() -> str:
    """The name of the operating system's user, for ``--by``."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return NOBODY


def _named(by: str) -> str:
    return person(by)


By = Annotated[
    str,
    typer.Option(
        "--by", help="Who asks or decides; default the user of this machine.", metavar="NAME", callback=_named
    ),
]
ApprovalArgument = Annotated[
    str, typer.Argument(help="The id of the request, as `approvals list` shows it: apr-0123….", metavar="APPROVAL")
]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.add_typer(approvals_app, name="approvals")


@approvals_app.command("list")
def approvals_list(
    ledger: LedgerOption,
    every: Annotated[bool, typer.Option("--all", help="Also what has been decided.")] = False,
    json_: Json = False,
) -> None:
    """Lists what waits, oldest first.

    Example: subledger approvals list --ledger acme
    """
    service = connect()
    start = (datetime(1, 1, 1, tzinfo=UTC), "")
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        state = None if every else WAITING
        found = approvals_page(connection, ledger, state=state, after=start, limit=10_000)
    items = [documents.approval(asked) for asked in found]
    if json_:
        print_json(documents.page(items, None))
        return
    rows = [
        (i["approval_id"], i["state"], i["reason"], i["event"]["id"], i["maker"], i["requested_at"], i["checker"])
        for i in items
    ]
    table(None, ("approval", "state", "reason", "event", "maker", "requested_at", "checker"), rows)


@approvals_app.command("approve")
def approve(approval: ApprovalArgument, ledger: LedgerOption, by: By = whoami(), json_: Json = False) -> None:
    """Allows what waits: it is recorded with both names. Neither who asked can do so, nor who made their key.

    Example: subledger approvals approve apr-0123456789abcdef0123 --ledger acme --by maria
    """
    outcome = connect().decide_approval(ledger, approval, by=by, allow=True)
    if outcome.error is not None:
        raise outcome.error
    if json_:
        print_json({"approval_id": approval, "state": "approved", **documents.outcome(outcome)})
    else:
        out.print(f"{outcome.event_id} is recorded at position {outcome.position}.")


@approvals_app.command("refuse")
def refuse(
    approval: ApprovalArgument,
    ledger: LedgerOption,
    by: By = whoami(),
    note: Annotated[str | None, typer.Option(help="Why; shown to who sends the event again.")] = None,
    json_: Json = False,
) -> None:
    """Refuses what waits: it is never recorded.

    Example: subledger approvals refuse apr-0123456789abcdef0123 --ledger acme --by maria --note "they paid"
    """
    outcome = connect().decide_approval(ledger, approval, by=by, allow=False, note=note)
    if json_:
        print_json({"approval_id": approval, "state": "refused", "id": outcome.event_id})
    else:
        out.print(f"{outcome.event_id} is refused.")
