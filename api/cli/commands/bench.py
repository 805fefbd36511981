"""The benchmarks on the command line. They are in tests/benchmarks, which is in a checkout and not in a wheel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from api.settings import owner_url
from api.terminal import DIFFERENCE, Json, err, out, print_json, table
from subledger.errors import NotACheckout


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(bench)


def bench(
    only: Annotated[str | None, typer.Option(help="Only these goals, such as P5,P6.", metavar="GOALS")] = None,
    events: Annotated[
        int, typer.Option(min=1_000, help="The size of the grown ledger, on which P5 to P10 are measured.")
    ] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of every measure; a median needs five.")] = 7,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the grown ledger for the next run.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Build the grown ledger again, even if there is one.")] = False,
    peers: Annotated[
        Path | None, typer.Option(help="The interpreter with the peers installed; default: that of make bench-peers.")
    ] = None,
    pgledger: Annotated[
        Path | None, typer.Option(exists=True, help="A checkout of pgledger, or its SQL in one file.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a picture of the goals to an SVG file.")] = None,
    tiny: Annotated[bool, typer.Option("--tiny", help="Only test that it runs; the figures have no meaning.")] = False,
    output: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the JSON to a file, in addition to the table.")
    ] = None,
    json_: Json = False,
) -> None:
    """Runs the benchmarks. Every goal is a ratio to a limit that is measured in the same run. Needs a checkout.

    It uses databases of its own and drops them at the end. 10^6 events take some minutes, 10^7 an hour or more.

    A missed goal is no failure. If a measurement stops with an error, the exit code is 1.

    Example: subledger bench --plot goals.svg --out bench.json

    Example: subledger bench --only P5,P6 --events 10000000 --keep
    """
    benchmarks = _benchmarks()
    options = benchmarks.options(
        only=only, events=events, rounds=rounds, keep=keep, fresh=fresh, peers=peers, pgledger=pgledger, tiny=tiny
    )
    result = benchmarks.run(owner_url(), options, err.print)
    if plot is not None:
        plot.write_text(benchmarks.picture(result), "utf-8")
    if output is not None:
        output.write_text(json.dumps(result.document, ensure_ascii=False, indent=2) + "\n", "utf-8")
    if json_:
        print_json(result.document)
    else:
        for listing in benchmarks.tables(result):
            table(listing.title, listing.columns, listing.rows, right=listing.right)
        for benchmark, reason in result.skipped.items():
            out.print(f"{benchmark} is not measured: {reason}")
    for benchmark, reason in result.failed.items():
        err.print(f"{benchmark} failed: {reason}")
    if result.failed:
        raise typer.Exit(DIFFERENCE)


def _benchmarks() -> Any:
    """Imports the benchmarks. Raises NotACheckout. The type is Any because the package must not depend on its tests."""
    try:
        from tests.benchmarks import front
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "tests":
            raise
        raise NotACheckout(
            "the benchmarks are not in the installed package",
            expected="a checkout: clone the repository, then make setup",
        ) from None
    return front
