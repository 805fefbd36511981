"""The estimate of the servers that a load needs, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from api import sizing
from api.terminal import Json, print_json, table
from subledger.errors import InvalidInput


def register(app: typer.Typer) -> None:
    """Adds this command."""
    app.command("sizing")(size)


def size(
    events_per_day: Annotated[float, typer.Option(help="Events per day, on average.")],
    peak: Annotated[float, typer.Option(help="Events of the busiest hour divided by those of an average hour.")] = 5.0,
    years: Annotated[float, typer.Option(help="The years for which all data are kept.")] = 7.0,
    cores: Annotated[int, typer.Option(help="The cores of one server.")] = 16,
    disk_tb: Annotated[float, typer.Option(help="The disk of one server, in terabytes.")] = 4.0,
    rebuild_h: Annotated[float, typer.Option(help="The longest acceptable rebuild of one ledger, in hours.")] = 24.0,
    bench: Annotated[Path | None, typer.Option(help="The output of `subledger bench --json`.")] = None,
    events_per_s: Annotated[
        float | None, typer.Option(help="Events a second of one writer; default from --bench.")
    ] = None,
    two_writers_per_s: Annotated[
        float | None, typer.Option(help="Events a second of two writers on two cores; default from --bench.")
    ] = None,
    bytes_per_event: Annotated[
        float | None, typer.Option(help="Bytes on disk per event; default from --bench.")
    ] = None,
    replayed_per_s: Annotated[
        float | None, typer.Option(help="Events a second of a rebuild; default from --bench.")
    ] = None,
    json_: Json = False,
) -> None:
    """Estimates the ledgers, servers, disk and rebuild hours for a load.

    The formulas are in subledger/SIZING.md.

    Example: subledger sizing --events-per-day 1e8 --bench bench.json
    """
    try:
        answer = None if bench is None else json.loads(bench.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"{bench} cannot be read: {error}", field="--bench", expected="the output of `subledger bench --json`"
        ) from None
    figures = sizing.figures_of(
        answer,
        events_per_s=events_per_s,
        two_writers_per_s=two_writers_per_s,
        bytes_per_event=bytes_per_event,
        replayed_per_s=replayed_per_s,
    )
    load = sizing.Load(
        events_per_day=events_per_day, peak=peak, years=years, cores=cores, disk_tb=disk_tb, rebuild_h=rebuild_h
    )
    found = sizing.size(load, figures)
    if json_:
        print_json(
            {
                name: msgspec.to_builtins(part)
                for name, part in (("load", load), ("figures", figures), ("sizing", found))
            }
        )
        return
    rows = [[name.replace("_", " "), f"{value:,.4g}"] for name, value in msgspec.structs.asdict(found).items()]
    table(None, ("needed", "figure"), rows, right=(1,))
