"""Month-end commands: expire, close, reopen, periods, checklist."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from api.cli.commands.approvals import By, whoami
from api.settings import connect
from api.shapes import answers
from api.shapes import exports as export_answers
from api.shapes import periods as period_answers
from api.terminal import Json, LedgerOption, out, parse_day, print_json, table
from projections.close import close as closing
from projections.close import period_history
from projections.delivery import checklist as checking
from subledger.periods import Period

PeriodArgument = Annotated[str, typer.Argument(help="A month, such as 2026-01.", metavar="PERIOD")]


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command()(expire)
    app.command()(close)
    app.command()(reopen)
    app.command()(periods)
    app.command()(checklist)


def expire(
    ledger: LedgerOption,
    through: Annotated[str, typer.Option(help="The last day, inclusive, such as 2026-01-31.", metavar="D")],
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Records due expiries, through today at the latest. The remaining credits of expired blocks become breakage.

    A server and a worker do this every minute.

    Example: subledger expire --ledger acme --through 2026-01-31
    """
    day = parse_day(through, "through")
    expired = connect().expire(ledger, day, by=by)
    if json_:
        print_json({"ledger": ledger, "through": day.isoformat(), "expired": expired})
    else:
        out.print(f"{expired} credit block{'s' if expired != 1 else ''} expired through {day}.")


def close(period: PeriodArgument, ledger: LedgerOption, by: By = whoami(), json_: Json = False) -> None:
    """Closes a month that is over: records its expiries, checks the invariants, ends its journal.

    Months are closed in order.

    Example: subledger close --ledger acme 2026-01
    """
    closed = closing.close_period(connect().recorder, ledger, Period.parse(period), by=by)
    if json_:
        print_json(period_answers.closed_period(closed))
    else:
        out.print(f"{closed.period} is closed; {closed.expired} credit blocks expired in it.")


def reopen(
    period: PeriodArgument,
    ledger: LedgerOption,
    reason: Annotated[str, typer.Option(help="The reason, which is recorded.")],
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Reopens a closed month and every later one. It waits for a second person if the ledger requires one.

    Example: subledger reopen --ledger acme 2026-01 --reason "an invoice came late"
    """
    reopened = closing.reopen_period(connect().recorder, ledger, Period.parse(period), reason, by=by)
    if json_:
        print_json(period_answers.reopened_period(reopened))
    elif reopened.position is None:
        out.print(f"Reopening {reopened.period} waits for a second person: {reopened.approval_id}")
    else:
        out.print(f"{reopened.period} and every later month are open.")


def periods(
    ledger: LedgerOption,
    history: Annotated[
        bool, typer.Option("--history", help="Show every closing, reopening, cut, export and reversal.")
    ] = False,
    json_: Json = False,
) -> None:
    """Lists the months and their state, with the user, time and reason of the last closing or reopening.

    With --history it lists all acts on each month, with their users.

    Example: subledger periods --ledger acme --history
    """
    service = connect()
    with service.database.read() as connection:
        items = [period_answers.period(state) for state in period_history.periods(connection, ledger)]
    if json_:
        print_json(answers.page(items, None))
        return
    if history:
        of_acts = ("what", "by", "at", "reason", "subject")
        rows = [[item["period"], *(act[name] for name in of_acts)] for item in items for act in item["history"]]
        table(None, ("period", *of_acts), rows)
        return
    names = ("period", "state", "entries", "journals", "closed_by", "closed_at", "reopened_by", "reopened_at", "reason")
    table(None, names, [[item[name] for name in names] for item in items], right=(2, 3))


def checklist(period: PeriodArgument, ledger: LedgerOption, json_: Json = False) -> None:
    """Lists the steps to a closed and delivered month, in order. The exit code is 1 if a step blocks the close.

    The checklist changes nothing. It tries a close and rolls it back.

    Example: subledger checklist --ledger acme 2026-01
    """
    found = checking.checklist(connect().database, ledger, Period.parse(period), now=datetime.now(UTC))
    if json_:
        print_json(export_answers.checklist(found))
    else:
        rows = [[step.state, step.question, _evidence(step.evidence), step.next] for step in found.steps]
        table(None, ("state", "step", "evidence", "next"), rows)
    if not found.ready:
        raise typer.Exit(1)


def _evidence(evidence: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns evidence as the lines of a table cell, without empty values. Each item of a list is one line."""
    lines: list[str] = []
    for name, value in evidence.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines += [_value(thing) for thing in value]
        elif value:
            lines.append(_named(name, value))
    return tuple(lines)


def _named(name: str, value: object) -> str:
    words = name.replace("_", " ")
    return f"{words}: {_value(value)}" if isinstance(value, Mapping | list | tuple) else f"{words} {_value(value)}"


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(_named(str(name), of) for name, of in value.items() if of)
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    return "yes" if value is True else str(value)
