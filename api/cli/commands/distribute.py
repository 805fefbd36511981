"""The distribution of ledgers over servers on the command line."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from api.settings import connect, is_embedded
from api.terminal import Json, out, print_json
from subledger.errors import CitusMissing
from subledger.store import distribution


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command()(distribute)


def distribute(
    shards: Annotated[
        int, typer.Option(min=1, max=1024, help="The number of parts, which cannot be changed later.")
    ] = distribution.SHARDS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the statements and change nothing.")] = False,
    json_: Json = False,
) -> None:
    """Distributes ledgers over the servers of a Citus cluster. Safe to repeat. See subledger/SIZING.md.

    Example: subledger distribute --dry-run
    """
    if is_embedded():
        raise CitusMissing(
            "the embedded database is one server, without Citus",
            field="SUBLEDGER_DATABASE_URL",
            expected="the coordinator of a Citus cluster",
        )
    result = distribution.distribute(connect().database.url, shards=shards, dry_run=dry_run)
    if json_:
        print_json(
            {
                "tables": list(result.tables),
                "already": list(result.already),
                "on_coordinator": list(distribution.ON_COORDINATOR),
                "statements": list(result.statements),
                "status": "unchanged" if not result.changed else "planned" if dry_run else "distributed",
            }
        )
    elif not result.changed:
        out.print(f"All {len(result.tables)} tables are distributed already: nothing changed.")
    elif dry_run:
        sys.stdout.writelines(f"{statement};\n" for statement in result.statements)
    else:
        out.print(f"{len(result.tables)} tables are distributed by ledger, {len(result.already)} of them already were.")
