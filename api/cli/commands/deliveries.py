"""Deliveries on the command line: delivering a month, and the state of each delivery."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from api import terminal
from api.cli.commands.approvals import By, whoami
from api.cli.commands.months import PeriodArgument
from api.service import Subledger
from api.settings import connect
from api.shapes import answers
from api.shapes import deliveries as delivery_answers
from api.terminal import Json, LedgerOption, out, print_json, table
from projections.delivery import by_hand, channels, deliveries, outbox
from projections.delivery.channels import Channel
from projections.delivery.deliveries import Delivery
from projections.delivery.sending import deliver_due
from projections.delivery.states import DEAD, ON_ITS_WAY, State
from subledger.errors import InvalidInput
from subledger.periods import Period
from subledger.store.reading.ledgers import ledger_head

deliveries_app = typer.Typer(help="Deliveries of journals to general ledgers.", no_args_is_help=True)

ChannelOption = Annotated[
    str | None, typer.Option("--channel", help="Only this channel, such as netsuite.", metavar="CHANNEL")
]
DeliveryArgument = Annotated[
    str, typer.Argument(help="The delivery's id, such as netsuite-acme-2026-01-1.", metavar="ID")
]
Reason = Annotated[str, typer.Option(help="The reason, which is stored.")]

_PAGE = 1_000
_NAP_S = 0.5
_COLUMNS = ("id", "state", "reference", "erp_id", "attempts", "reason")


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command()(deliver)
    app.add_typer(deliveries_app, name="deliveries")


def deliver(
    period: PeriodArgument,
    ledger: LedgerOption,
    channel: ChannelOption = None,
    wait: Annotated[
        float, typer.Option(help="Deliver here, for at most so many seconds; 0 leaves the delivery to a worker.", min=0)
    ] = 300.0,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Exports a month and delivers its journals to the general ledger, each once. Safe to repeat.

    The exit code is 1 if a delivery was rejected or failed, or is not finished in time. `deliveries show` prints the
    reason. `deliveries retry` tries a dead letter again. A worker, or `deliver`, continues the others.

    Example: subledger deliver 2026-01 --ledger acme
    """
    service = connect()
    added = service.deliver(ledger, Period.parse(period), channel=channel, by=by)
    names = sorted({delivery.channel for delivery in added})
    if wait and added:
        _work(service, ledger, names, {delivery.delivery_id for delivery in added}, wait)
    with service.database.read() as connection:
        found = [deliveries.get_delivery(connection, ledger, delivery.delivery_id) for delivery in added]
    _show(found, json_)
    if any(delivery.state in DEAD or (wait and delivery.state in ON_ITS_WAY) for delivery in found):
        raise typer.Exit(terminal.DIFFERENCE)


def _work(service: Subledger, ledger: str, names: list[str], own: set[str], wait: float) -> None:
    """Delivers until every delivery has ended or the time is over. It does not wait for approvals in the target."""
    until = time.monotonic() + wait
    with service.database.read() as connection:
        found = [channels.get_channel(connection, ledger, name) for name in names]
    undelivered = set(own)
    with terminal.progress("delivering", len(own)) as show:

        def tell(delivery: Delivery) -> None:
            if delivery.state not in ON_ITS_WAY:
                undelivered.discard(delivery.delivery_id)
            show(len(own) - len(undelivered))

        def over() -> bool:
            return not undelivered or time.monotonic() > until

        while not over():
            for channel in found:
                deliver_due(service.database, channel, tell, stop=over)
            if all(_rests(service, channel, until) for channel in found):
                return
            time.sleep(_NAP_S)


def _rests(service: Subledger, channel: Channel, until: float) -> bool:
    """True if no more deliveries become due on a channel before the time is over."""
    with service.database.read() as connection:
        due = outbox.next_due(connection, channel)
    return due is None or due[1] > until - time.monotonic()


@deliveries_app.command("list")
def deliveries_list(
    ledger: LedgerOption,
    state: Annotated[
        list[State] | None, typer.Option(help="Only in this state, such as failed; can be repeated.")
    ] = None,
    channel: ChannelOption = None,
    period: Annotated[str | None, typer.Option(help="Only of this month, such as 2026-01.", metavar="PERIOD")] = None,
    json_: Json = False,
) -> None:
    """Lists deliveries, in order of id. Dead letters: --state rejected --state failed.

    Example: subledger deliveries list --ledger acme --state rejected --state failed
    """
    month = None if period is None else Period.parse(period)
    service, found = connect(), list[Delivery]()
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        while page := deliveries.list_deliveries(
            connection,
            ledger,
            channel=channel,
            period=month,
            states=state or None,
            after=found[-1].delivery_id if found else "",
            limit=_PAGE,
        ):
            found += page
    _show(found, json_)


@deliveries_app.command("show")
def deliveries_show(delivery_id: DeliveryArgument, ledger: LedgerOption, json_: Json = False) -> None:
    """Shows the steps of a delivery.

    With --json, every request and response is included, verbatim except for secrets.

    Example: subledger deliveries show netsuite-acme-2026-01-1 --ledger acme
    """
    with connect().database.read() as connection:
        ledger_head(connection, ledger)
        found = deliveries.get_delivery(connection, ledger, delivery_id)
        steps = [delivery_answers.step(step) for step in deliveries.steps_of(connection, found)]
    if json_:
        print_json({**delivery_answers.delivery(found), "steps": steps})
        return
    _show([found], False)
    rows = []
    for step in steps:
        calls = tuple(
            f"{call['method']} {call['url']} {call['status'] or call['failure']}" for call in step["exchanges"]
        )
        rows.append([step["step"], step["at"], step["state"], step["by"], step["reason"], calls])
    table(None, ("step", "at", "state", "by", "reason", "calls"), rows, right=(0,))


@deliveries_app.command("retry")
def deliveries_retry(
    delivery_id: DeliveryArgument,
    ledger: LedgerOption,
    reason: Reason = by_hand.ASKED_FOR,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Retries a dead letter. A worker, or the next `deliver` of its month, delivers it again.

    The worker first looks it up in the target, so a journal that is already there is not sent twice.

    Example: subledger deliveries retry netsuite-acme-2026-01-1 --ledger acme --reason "the account exists now"
    """
    service = connect()
    found = by_hand.retry(service.database, ledger, delivery_id, by=by, reason=reason)
    service.wake(found)
    _show([found], json_)


@deliveries_app.command("abandon")
def deliveries_abandon(
    delivery_id: DeliveryArgument, ledger: LedgerOption, reason: Reason, by: By = whoami(), json_: Json = False
) -> None:
    """Abandons a delivery, for example because its journal was posted by hand. Nothing more is sent.

    Example: subledger deliveries abandon netsuite-acme-2026-01-1 --ledger acme --reason "posted by hand"
    """
    if not reason.strip():
        raise InvalidInput("--reason must say why the delivery is abandoned", field="reason", expected="a reason")
    service = connect()
    _show([by_hand.abandon(service.database, ledger, delivery_id, by=by, reason=reason)], json_)


def _show(found: list[Delivery], json_: bool) -> None:
    items = [delivery_answers.delivery(delivery) for delivery in found]
    if json_:
        print_json(answers.page(items, None))
    elif items:
        table(None, _COLUMNS, [[item[name] for name in _COLUMNS] for item in items], right=(4,))
    else:
        out.print("Nothing to deliver.")
