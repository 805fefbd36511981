"""Monitors on the command line: their states, thresholds and notices."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from api import terminal
from api.cli.commands.approvals import By, whoami
from api.service import Subledger
from api.settings import connect
from api.shapes import answers
from api.shapes import monitors as monitor_answers
from api.terminal import Json, LedgerOption, err, out, print_json, read_toml, table
from projections import monitors
from projections.monitors import settings as monitor_settings
from subledger.store.reading.ledgers import ledger_head, ledger_heads

monitor_app = typer.Typer(invoke_without_command=True)
thresholds_app = typer.Typer(help="The thresholds of monitors, and the webhook for notices.", no_args_is_help=True)
monitor_app.add_typer(thresholds_app, name="thresholds")

_PAGE = 1_000


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.add_typer(monitor_app, name="monitor")


@monitor_app.callback()
def monitor(
    context: typer.Context,
    ledger: Annotated[str | None, typer.Option("--ledger", "-l", help="The ledger; default all.", metavar="L")] = None,
    notify: Annotated[bool, typer.Option("--notify", help="Send changes to the webhook.")] = False,
    json_: Json = False,
) -> None:
    """Shows the state of every monitor. The exit code is 1 if one rings.

    Run it with --notify from cron every minute if no worker runs. Each change is sent once, whoever evaluates the
    monitors; notices that the webhook has not accepted are sent again.

    Example: subledger monitor --ledger acme
    """
    if context.invoked_subcommand is not None:
        return
    service, well, items = connect(), True, []
    for name in [ledger] if ledger is not None else _ledgers(service):
        found = monitors.check(service.database, name, datetime.now(UTC))
        notified = monitors.notify(service.database, name, found) if notify else None
        answer = monitor_answers.report(found)
        items.append(answer if notified is None else {**answer, "notified": monitor_answers.notified(notified)})
        well = well and found.well
        if not json_:
            _show(found, titled=ledger is None)
        if notified is not None and notified.failure is not None:
            err.print(f"{name}: {notified.waiting} notices wait: {notified.failure}")
    if json_:
        print_json(items[0] if ledger is not None else answers.page(items, None))
    if not well:
        raise typer.Exit(terminal.DIFFERENCE)


def _ledgers(service: Subledger) -> Iterator[str]:
    after = ""
    while True:
        with service.database.read() as connection:
            found = [head.state.ledger for head, _ in ledger_heads(connection, after=after, limit=_PAGE)]
        if not found:
            return
        yield from found
        after = found[-1]


def _show(found: monitors.Report, *, titled: bool) -> None:
    rows = []
    for one in found.monitors:
        value = "" if one.value is None else _figure(one.value, one.unit)
        rows.append(["rings" if one.rings else "well", one.name, one.question, value, _may_be(one), one.next])
    names = ("state", "monitor", "question", "figure", "threshold", "next")
    table(found.ledger if titled else None, names, rows, right=(3,))


def _may_be(one: monitors.Monitor) -> str:
    if one.threshold is None:
        return "off"
    older_than_s = one.evidence.get("older_than_s")
    older = "" if older_than_s is None else f", older than {_figure(older_than_s, 's')}"
    return f"at {'least' if one.at_least else 'most'} {_figure(one.threshold, one.unit)}{older}"


_SYMBOLS: Final = {"s": "s", "seconds": "s", "percent": "%"}
_ONE: Final = {
    "blocks": "block", "exports": "export", "deliveries": "delivery", "faults": "fault", "payments": "payment",
    "events": "event",
}  # fmt: skip


def _figure(value: float, unit: str) -> str:
    """Returns a figure with its unit: ``1 block``, ``90000 s``, ``99.5 %``; never in powers of ten."""
    number = f"{value:.3f}".rstrip("0").rstrip(".")
    return f"{number} {_SYMBOLS.get(unit) or (_ONE[unit] if value == 1 else unit)}"


@thresholds_app.command("show")
def thresholds_show(ledger: LedgerOption, json_: Json = False) -> None:
    """Prints the thresholds, and the webhook to which changes are sent.

    Example: subledger monitor thresholds show --ledger acme --json
    """
    with connect().database.read() as connection:
        ledger_head(connection, ledger)
        settings = monitor_settings.settings_of(connection, ledger)
        answer = monitor_answers.settings(ledger, settings, monitor_settings.change_of(connection, ledger))
    if json_:
        print_json(answer)
        return
    rows = [[name, "off" if value is None else value] for name, value in answer["settings"].items()]
    table(answers.last_change_title(answer), ("setting", "value"), rows)


@thresholds_app.command("set")
def thresholds_set(
    file: Annotated[Path, typer.Argument(help='TOML: the settings that differ; "off" for none.', metavar="FILE")],
    ledger: LedgerOption,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Sets all thresholds. A threshold that is not in the file gets its default.

    Example: subledger monitor thresholds set monitors.toml --ledger acme
    """
    given = read_toml(file)
    service = connect()
    with service.database.read() as connection:
        ledger_head(connection, ledger)
    settings = monitor_settings.set_settings(service.database, ledger, given, by=by)
    if json_:
        with service.database.read() as connection:
            change = monitor_settings.change_of(connection, ledger)
        print_json(monitor_answers.settings(ledger, settings, change))
    else:
        out.print("The thresholds are set.")
