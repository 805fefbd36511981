"""Rejected events on the command line: what is missing from the books, why, and what becomes of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from api import documents, rejected_documents, terminal
from api.commands.approvals import By, whoami
from api.service import Subledger
from api.settings import connect
from api.terminal import Json, LedgerOption, err, out, parse_day, print_json, table
from projections.rejected import summary
from subledger.errors import InvalidInput
from subledger.store import rejections
from subledger.store.batch import REJECTED
from subledger.store.ledgers import ledger_head

rejected_app = typer.Typer(help="Events that were refused, until recorded or dismissed.", no_args_is_help=True)

State = Annotated[str, typer.Option("--state", help="open, retried, corrected, dismissed, or all.")]
Code = Annotated[str | None, typer.Option("--code", help="Only with this reason, such as insufficient_credits.")]
Customer = Annotated[str | None, typer.Option("--customer", help="Only of this customer.")]
From = Annotated[str | None, typer.Option("--from", help="Of events from this day on; undated ones by when they came.")]
To = Annotated[str | None, typer.Option("--to", help="Through this day.")]
RejectionArgument = Annotated[str, typer.Argument(help="A rejection, such as rej-0123….", metavar="REJECTION")]

_PAGE = 1_000


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.add_typer(rejected_app, name="rejected")


def _chosen(
    service: Subledger, ledger: str, state: str, code: str | None, customer: str | None, from_: str | None,
    to: str | None,
) -> rejections.Chosen:  # fmt: skip
    if state not in (*rejections.STATES, "all"):
        raise InvalidInput(
            f"no rejection is in the state {state}", field="state",
            expected=f"{', '.join(rejections.STATES)} or all", found=state[:60],
        )  # fmt: skip
    with service.database.read() as connection:
        zone = ledger_head(connection, ledger).state.zone
    since, until = rejections.span(parse_day(from_, "--from"), parse_day(to, "--to"), zone)
    return rejections.Chosen(
        state=None if state == "all" else state, code=code, customer=customer, since=since, until=until
    )


def _all(service: Subledger, ledger: str, chosen: rejections.Chosen, limit: int | None = None) -> list[rejections.Kept]:
    """So many of those chosen, or all."""
    found: list[rejections.Kept] = []
    while True:
        size = _PAGE if limit is None else min(_PAGE, limit - len(found))
        after = (found[-1].first_at, found[-1].rejection_id) if found else rejections.START
        with service.database.read() as connection:
            page = rejections.rejections_page(connection, ledger, chosen, after=after, limit=size)
        found += page
        if len(page) < size or len(found) == limit:
            return found


@rejected_app.command("list")
def rejected_list(
    ledger: LedgerOption,
    state: State = "open",
    code: Code = None,
    customer: Customer = None,
    from_: From = None,
    to: To = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="So many at most.")] = 1_000,
    json_: Json = False,
) -> None:
    """Lists rejected events, those refused first first.

    Example: subledger rejected list --ledger acme --code insufficient_credits
    """
    service = connect()
    chosen = _chosen(service, ledger, state, code, customer, from_, to)
    items = [rejected_documents.rejection(kept) for kept in _all(service, ledger, chosen, limit)]
    if json_:
        print_json(documents.page(items, None))
        return
    columns = ("rejection", "state", "code", "id", "customer", "credits", "amount", "attempts", "sender", "refused")
    rows = [
        (
            i["rejection_id"], i["state"], i["code"], i["id"], i["customer"],
            i["credits"] and f"{i['credits']} {i['unit']}",
            i["amount"] and f"{i['amount']['amount']} {i['amount']['currency']}",
            i["attempts"], i["sender"], i["first_at"],
        )
        for i in items
    ]  # fmt: skip
    table(None, columns, rows, right=(5, 6, 7))
    if len(items) == limit:
        err.print(f"the first {limit}; --limit shows more")


@rejected_app.command("counts")
def rejected_counts(
    ledger: LedgerOption,
    state: State = "open",
    code: Code = None,
    customer: Customer = None,
    from_: From = None,
    to: To = None,
    json_: Json = False,
) -> None:
    """Counts rejected events by reason, with their credits and money, and since when.

    Example: subledger rejected counts --ledger acme
    """
    service = connect()
    chosen = _chosen(service, ledger, state, code, customer, from_, to)
    with service.database.read() as connection:
        document = summary(rejections.counts(connection, ledger, chosen))
    if json_:
        print_json({"ledger": ledger, "state": state, **document})
        return
    table(
        None, ("code", "rejections", "attempts", "credits", "amounts", "oldest"),
        [
            (each["code"], each["rejections"], each["attempts"], _sums(each["credits"]), _sums(each["amounts"]),
             each["oldest"])
            for each in document["codes"]
        ],
        right=(1, 2, 3, 4),
    )  # fmt: skip


def _sums(sums: dict[str, str]) -> str:
    return ", ".join(f"{amount} {name}" for name, amount in sums.items())


@rejected_app.command("show")
def rejected_show(rejection: RejectionArgument, ledger: LedgerOption, json_: Json = False) -> None:
    """Shows one rejected event: as it was sent, why it was refused, what has become of it.

    Example: subledger rejected show rej-0123456789abcdef0123 --ledger acme
    """
    service = connect()
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        document = rejected_documents.whole_rejection(rejections.rejection(connection, ledger, rejection))
    if json_:
        print_json(document)
        return
    error = document.pop("error")
    rows = [(name, value) for name, value in document.items() if value is not None and name not in ("event", "detail")]
    table(None, ("", ""), [*rows, *((f"error {name}", value) for name, value in error.items())])


@rejected_app.command("retry")
def rejected_retry(
    ledger: LedgerOption,
    rejection: Annotated[list[str] | None, typer.Argument(help="Rejections, such as rej-0123….")] = None,
    code: Code = None,
    customer: Customer = None,
    every: Annotated[bool, typer.Option("--all", help="All that are open, oldest first.")] = False,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Records rejected events as they are kept; those still refused stay open. Exit 3 where one is.

    A corrected event is recorded as any event, under its source and id.

    Example: subledger rejected retry --ledger acme --code insufficient_credits
    """
    named = list(rejection or ())
    if bool(named) == bool(code or customer or every):
        raise typer.BadParameter("name rejections, or choose open ones with --code, --customer or --all")
    service = connect()
    if not named:
        chosen = _chosen(service, ledger, rejections.OPEN, code, customer, None, None)
        # What is not kept whole cannot be recorded from here; it stays in the list.
        named = [kept.rejection_id for kept in _all(service, ledger, chosen) if kept.whole]
    items: list[dict[str, Any]] = []
    with terminal.progress("retrying", len(named)) as show:
        for name in named:
            outcome = service.rejected.retry(ledger, name, by=by)
            items.append({"rejection_id": name, **documents.outcome(outcome)})
            show(len(items))
    refused = sum(item["status"] == REJECTED for item in items)
    if json_:
        print_json({"items": items, "rejected": refused})
    else:
        rows = [(i["rejection_id"], i["id"], i["status"], i.get("position"), (i.get("error") or {}).get("code"))
                for i in items]  # fmt: skip
        table(None, ("rejection", "id", "status", "position", "code"), rows, right=(3,))
    if refused:
        raise typer.Exit(terminal.SOME_REJECTED)


@rejected_app.command("dismiss")
def rejected_dismiss(
    rejection: RejectionArgument,
    ledger: LedgerOption,
    reason: Annotated[str, typer.Option("--reason", help="Why it will never be recorded.")],
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Says that a rejected event will never be recorded, and why. It stays in the list, and can still be retried.

    Example: subledger rejected dismiss rej-0123456789abcdef0123 --ledger acme --reason "a test"
    """
    document = rejected_documents.rejection(connect().rejected.dismiss(ledger, rejection, reason, by=by))
    if json_:
        print_json(document)
    else:
        out.print(f"{rejection} is dismissed.")
