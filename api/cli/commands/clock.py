"""A ledger's clock on the command line: shown for every ledger, set for a sandbox."""

from __future__ import annotations

from typing import Annotated

import typer

from api.cli.commands.approvals import By, whoami
from api.settings import connect
from api.shapes import answers
from api.terminal import Json, LedgerOption, out, print_json
from projections.configuring.clock import read_clock, set_clock
from projections.reads.clock import clock_of

clock_app = typer.Typer(help="The current time of a ledger, and the clock of a sandbox.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.add_typer(clock_app, name="clock")


@clock_app.command("show")
def clock_show(ledger: LedgerOption, json_: Json = False) -> None:
    """Prints the ledger's current time and date. A sandbox's clock does not move until it is set.

    Example: subledger clock show --ledger acme
    """
    found = answers.clock(clock_of(connect().database, ledger))
    if json_:
        print_json(found)
        return
    kind = "a sandbox's clock" if found["sandbox"] else "the real clock"
    out.print(f"{found['now']} ({kind}); today is {found['today']}, {found['timezone']}.")


@clock_app.command("set")
def clock_set(
    moment: Annotated[str, typer.Argument(help="An RFC 3339 time, such as 2027-01-01T00:00:00Z.", metavar="T")],
    ledger: LedgerOption,
    by: By = whoami(),
    json_: Json = False,
) -> None:
    """Sets the clock of a sandbox ledger. It decides which times are in the future and which expiries are due.

    The clock never goes back.

    Example: subledger clock set 2027-01-01T00:00:00Z --ledger trial
    """
    service = connect()
    was_set = set_clock(service.recorder, ledger, read_clock(moment), by=by)
    found = answers.clock(clock_of(service.database, ledger))
    if json_:
        print_json({**found, "status": "set" if was_set else "unchanged"})
    else:
        out.print(f"The clock of ledger {ledger} shows {found['now']}.")
