"""Commands about the database: its schema, its address, its embedded server."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from api import terminal
from api.service import upgrade_database
from api.settings import home, is_embedded, owner_url, timeouts
from api.terminal import Json, out, print_json
from subledger.store.embedded import server as embedded


def register(app: typer.Typer) -> None:
    """Adds these commands."""
    app.command()(init)
    app.command()(database)


def init(json_: Json = False) -> None:
    """Applies the migrations. Every database of your own needs this once per version; an embedded one needs no `init`.

    Example: subledger init
    """
    url = owner_url()
    with terminal.progress("upgrading", None) as show:
        upgrade_database(url, timeouts(), lambda _ledger, done, total: show(done, total))
    if json_:
        print_json({"migrated": True})
    else:
        out.print("The database has this version's schema.")


def database(
    stop: Annotated[bool, typer.Option("--stop", help="Stop the embedded server.")] = False, json_: Json = False
) -> None:
    """Prints the owner's database URL, for psql. The embedded server stops 10 minutes after its last client.

    Example: psql "$(subledger database)"
    """
    if stop:
        stopped = embedded.stop(home()) if is_embedded() else False
        if json_:
            print_json({"stopped": stopped})
        else:
            out.print("The embedded server has stopped." if stopped else "No embedded server was running.")
        return
    url = owner_url()
    if json_:
        print_json({"url": url})
    else:
        sys.stdout.write(url + "\n")
