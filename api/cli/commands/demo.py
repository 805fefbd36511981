"""The demonstration on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api import terminal
from api.demo.run import run_demo
from api.settings import connect, private_home
from api.terminal import Json, err, print_json


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(demo)


def demo(
    data: Annotated[
        Path | None, typer.Option("--data", help="Replay this invoice file instead of the invented company.")
    ] = None,
    json_: Json = False,
) -> None:
    """Runs a year of an invented company: records events, expires, closes, exports and verifies.

    At the end it prints the names of the files to open next.

    Example: subledger demo
    """
    service = connect()
    result = run_demo(service, data=data, directory=private_home() / "demo", say=err.print)
    if json_:
        print_json(result.answer)
    else:
        result.show()
    if not result.clean:
        raise typer.Exit(terminal.DIFFERENCE)
