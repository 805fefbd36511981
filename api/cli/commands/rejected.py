"""Rejected events on the command line: list, show, retry, dismiss, reopen."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from api import terminal
from api.cli.commands.approvals import By, whoami
from api.rejecting import Retried
from api.service import Subledger
from api.settings import connect
from api.shapes import answers
from api.shapes import rejected as rejected_answers
from api.terminal import Json, LedgerOption, err, out, parse_day, print_json, table
from projections.reads.rejected import summary, sums
from subledger.errors import InvalidInput, SubledgerError
from subledger.store.reading.ledgers import ledger_head
from subledger.store.rejected import rejections

rejected_app = typer.Typer(help="Events that were refused, until recorded or dismissed.", no_args_is_help=True)

State = Annotated[str, typer.Option("--state", help="open, retried, corrected, dismissed, or all.")]
Code = Annotated[str | None, typer.Option("--code", help="Only with this reason, such as insufficient_credits.")]
Customer = Annotated[str | None, typer.Option("--customer", help="Only of this customer, such as cust-42.")]
From = Annotated[
    str | None,
    typer.Option(
        "--from", help="Of events from this day on, such as 2026-01-01; undated ones by the time they were received."
    ),
]
To = Annotated[str | None, typer.Option("--to", help="Through this day, such as 2026-01-31.")]
RejectionArgument = Annotated[str, typer.Argument(help="A rejection, such as rej-0123….", metavar="REJECTION")]
Source = Annotated[str | None, typer.Option("--source", help="Only of this source of events.")]
Sender = Annotated[str | None, typer.Option("--sender", help="Only from this sender: a key's or a user's name.")]
Way = Annotated[str | None, typer.Option("--way", help="Only those received through: http, file:NAME, stdin, retry.")]
Every = Annotated[bool, typer.Option("--all", help="All open ones, oldest first.")]
Rejections = Annotated[
    list[str] | None, typer.Argument(help="Rejections, such as rej-0123….", metavar="[REJECTION]...")
]

_PAGE = 1_000
_AT_MOST = 1_000_000


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.add_typer(rejected_app, name="rejected")


def _chosen(
    service: Subledger, ledger: str, state: str, from_: str | None, to: str | None, only: dict[str, str | None]
) -> rejections.Chosen:
    if state not in (*rejections.STATES, rejections.ALL):
        raise InvalidInput(
            f"no rejection is in the state {state}",
            field="state",
            expected=f"{', '.join(rejections.STATES)} or {rejections.ALL}",
            found=state[:60],
        )
    with service.database.read() as connection:
        zone = ledger_head(connection, ledger).state.zone
    since, until = rejections.span(parse_day(from_, "--from"), parse_day(to, "--to"), zone)
    return rejections.Chosen(
        state=None if state == rejections.ALL else state,
        since=since,
        until=until,
        code=only["code"],
        customer=only["customer"],
        source=only["source"],
        sender=only["sender"],
        way=only["way"],
    )


def _some(service: Subledger, ledger: str, chosen: rejections.Chosen, limit: int) -> list[answers.JsonObject]:
    """Returns the first of the chosen rejections, at most ``limit``."""
    found: list[answers.JsonObject] = []
    after = rejections.START
    while len(found) < limit:
        size = min(_PAGE, limit - len(found))
        with service.database.read() as connection:
            page = rejections.rejections_page(connection, ledger, chosen, after=after, limit=size)
        found += [rejected_answers.rejection(rejection) for rejection in page]
        if len(page) < size:
            break
        after = (page[-1].first_at, page[-1].rejection_id)
    return found


@rejected_app.command("list")
def rejected_list(
    ledger: LedgerOption,
    state: State = "open",
    code: Code = None,
    customer: Customer = None,
    source: Source = None,
    sender: Sender = None,
    way: Way = None,
    from_: From = None,
    to: To = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="The maximum number.")] = 1_000,
    json_: Json = False,
) -> None:
    """Lists rejected events, in the order of their first refusal.

    Example: subledger rejected list --ledger acme --code insufficient_credits
    """
    service = connect()
    only = {"code": code, "customer": customer, "source": source, "sender": sender, "way": way}
    chosen = _chosen(service, ledger, state, from_, to, only)
    items = _some(service, ledger, chosen, limit)
    if json_:
        print_json(answers.page(items, None))
        return
    columns = ("rejection", "state", "code", "id", "customer", "credits", "amount", "attempts", "sender", "refused")
    rows = [
        (
            i["rejection_id"],
            i["state"],
            i["code"],
            i["id"],
            i["customer"],
            i["credits"] and f"{i['credits']} {i['unit']}",
            i["amount"] and f"{i['amount']['amount']} {i['amount']['currency']}",
            i["attempts"],
            i["sender"],
            i["first_at"],
        )
        for i in items
    ]
    table(None, columns, rows, right=(5, 6, 7))
    if len(items) == limit:
        err.print(f"the first {limit}; --limit shows more")


@rejected_app.command("counts")
def rejected_counts(
    ledger: LedgerOption,
    state: State = "open",
    code: Code = None,
    customer: Customer = None,
    source: Source = None,
    sender: Sender = None,
    way: Way = None,
    from_: From = None,
    to: To = None,
    json_: Json = False,
) -> None:
    """Counts rejected events by reason, with their credits, money and earliest time.

    Example: subledger rejected counts --ledger acme
    """
    service = connect()
    only = {"code": code, "customer": customer, "source": source, "sender": sender, "way": way}
    chosen = _chosen(service, ledger, state, from_, to, only)
    with service.database.read() as connection:
        answer = summary(rejections.counts(connection, ledger, chosen))
    if json_:
        print_json({"ledger": ledger, "state": state, **answer})
        return
    table(
        None,
        ("code", "rejections", "attempts", "credits", "amounts", "oldest"),
        [
            (
                each["code"],
                each["rejections"],
                each["attempts"],
                _sums(each["credits"]),
                _sums(each["amounts"]),
                each["oldest"],
            )
            for each in answer["codes"]
        ],
        right=(1, 2, 3, 4),
    )
    if not answer["complete"]:
        err.print("these are the oldest; there are more: choose fewer, as by --from and --to")


def _sums(sums: dict[str, str]) -> str:
    return ", ".join(f"{amount} {name}" for name, amount in sums.items())


@rejected_app.command("show")
def rejected_show(rejection: RejectionArgument, ledger: LedgerOption, json_: Json = False) -> None:
    """Shows one rejected event as it was sent, with the reason of its refusal and its state.

    Example: subledger rejected show rej-0123456789abcdef0123 --ledger acme
    """
    service = connect()
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        history = rejections.steps(connection, ledger, rejection)
        answer = rejected_answers.whole_rejection(rejections.rejection(connection, ledger, rejection), history)
    if json_:
        print_json(answer)
        return
    error, history = answer.pop("error"), answer.pop("history")
    rows = [(name, value) for name, value in answer.items() if value is not None and name not in ("event", "detail")]
    steps = [(f"{step['action']} by {step['by']}", f"{step['at']}: {step['reason']}") for step in history]
    table(None, ("", ""), [*rows, *((f"error {name}", value) for name, value in error.items()), *steps])


@rejected_app.command("retry")
def rejected_retry(
    ledger: LedgerOption,
    rejection: Rejections = None,
    code: Code = None,
    customer: Customer = None,
    source: Source = None,
    sender: Sender = None,
    way: Way = None,
    from_: From = None,
    to: To = None,
    every: Every = False,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Records rejected events again as stored. The exit code is 3 if one is refused again, and 4 after an error.

    Events that are refused again stay open. Reopen a dismissed event before you retry it.

    Send a corrected event like any other event, with the same source and id.

    Example: subledger rejected retry --ledger acme --code insufficient_credits
    """
    only = {"code": code, "customer": customer, "source": source, "sender": sender, "way": way}
    service = connect()
    seen = _seen(service, ledger, rejection, from_, to, only, every)
    if seen is None:
        found = Retried(answers=[(name, service.rejected.retry(ledger, name, by=by)) for name in rejection or ()])
        not_whole = 0
    else:
        with terminal.progress("retrying", len(seen)) as show:
            found = service.rejected.retry_seen(ledger, seen, by=by, done=show)
        not_whole = len(seen) - len(found.answers) - found.not_done
    answer = rejected_answers.retried(found, not_whole=not_whole, problem=SubledgerError.as_document)
    if json_:
        print_json(answer)
    else:
        rows = [
            (i["rejection_id"], i["id"], i["status"], i.get("position"), (i.get("error") or {}).get("code"))
            for i in answer["items"]
        ]
        table(None, ("rejection", "id", "status", "position", "code"), rows, right=(3,))
    if answer["not_whole"]:
        err.print(f"{answer['not_whole']} are not stored completely: send them again from their source")
    if found.error is not None:
        reason = f"{found.error.code}: {found.error.message}"
        err.print(f"{found.not_done} were not retried and stay open; retry them later: {reason}", markup=False)
        raise typer.Exit(terminal.UNAVAILABLE)
    if answer["rejected"]:
        raise typer.Exit(terminal.SOME_REJECTED)


@rejected_app.command("dismiss")
def rejected_dismiss(
    ledger: LedgerOption,
    reason: Annotated[str, typer.Option("--reason", help="The reason why they will never be recorded.")],
    rejection: Rejections = None,
    code: Code = None,
    customer: Customer = None,
    source: Source = None,
    sender: Sender = None,
    way: Way = None,
    from_: From = None,
    to: To = None,
    every: Every = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Dismiss many without asking for confirmation.")] = False,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Dismisses rejected events with a reason, so that they will not be recorded. They stay listed and can be reopened.

    Many can be dismissed for one reason, after their number and amount have been shown and confirmed.

    Example: subledger rejected dismiss --ledger acme --code insufficient_credits --reason "a load test" --yes
    """
    only = {"code": code, "customer": customer, "source": source, "sender": sender, "way": way}
    service = connect()
    seen = _seen(service, ledger, rejection, from_, to, only, every)
    if seen is None:
        items = [
            rejected_answers.rejection(service.rejected.dismiss(ledger, name, reason, by=by))
            for name in rejection or ()
        ]
        answer: dict[str, Any] = {"dismissed": len(items), "items": items}
    else:
        if seen and not yes:
            _confirm(sums(seen))
        dismissed = service.rejected.dismiss_seen(ledger, seen, reason, by=by)
        answer = {"dismissed": len(dismissed), **sums([each for each in seen if each.rejection_id in dismissed])}
    if json_:
        print_json(answer)
    else:
        out.print(f"dismissed {answer['dismissed']}")
    if seen is not None and answer["dismissed"] < len(seen):
        err.print(f"{len(seen) - answer['dismissed']} were recorded, dismissed or refused again meanwhile")


@rejected_app.command("reopen")
def rejected_reopen(
    rejection: RejectionArgument,
    ledger: LedgerOption,
    reason: Annotated[str, typer.Option("--reason", help="The reason for reopening.")],
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Reopens a dismissed event, so that it can be retried.

    Example: subledger rejected reopen rej-0123456789abcdef0123 --ledger acme --reason "no test after all"
    """
    answer = rejected_answers.rejection(connect().rejected.reopen(ledger, rejection, reason, by=by))
    if json_:
        print_json(answer)
    else:
        out.print(f"{rejection} is {answer['state']} again.")


def _seen(
    service: Subledger,
    ledger: str,
    named: list[str] | None,
    from_: str | None,
    to: str | None,
    only: dict[str, str | None],
    every: bool,
) -> list[rejections.Open] | None:
    """Returns the open rejections that match the options; None if rejections are named instead."""
    options = every or from_ or to or any(only.values())
    if bool(named) == bool(options):
        raise typer.BadParameter("name rejections, or select open ones with options such as --code, or with --all")
    if named:
        return None
    chosen = _chosen(service, ledger, rejections.OPEN, from_, to, only)
    return service.rejected.open_ones(ledger, chosen, limit=_AT_MOST)


def _confirm(found: dict[str, Any]) -> None:
    """Shows the number and amount to be dismissed, and ends the command without a confirmation."""
    amounts = (
        ", ".join(filter(None, (_sums(found["credits"]), _sums(found["amounts"])))) or "no amount that can be read"
    )
    err.print(f"{found['rejections']} open rejected events will be dismissed: {amounts}")
    try:
        agreed = typer.confirm("Dismiss them?", err=True)
    except typer.Abort:
        agreed = False
    if not agreed:
        err.print("Nothing was dismissed; --yes dismisses without asking.")
        raise typer.Exit(terminal.WRONG_USAGE)
