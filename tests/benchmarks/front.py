"""Options and output of the benchmarks: reading options, tables for people, the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from subledger.errors import InvalidInput
from tests.benchmarks import plot
from tests.benchmarks.measures import GOALS, Measure, Say, figure
from tests.benchmarks.run import Options, Result, tiny, with_rounds
from tests.benchmarks.run import run as run_all


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """A table. ``right`` has the indexes of the columns with figures."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[object, ...]]
    right: tuple[int, ...]


def options(
    *,
    only: str | None,
    events: int,
    rounds: int,
    keep: bool,
    fresh: bool,
    peers: Path | None,
    pgledger: Path | None,
    tiny: bool,
) -> Options:
    """Reads the options. Raises InvalidInput for an unknown goal."""
    wanted = frozenset(GOALS) if only is None else frozenset(name.strip().upper() for name in only.split(","))
    if unknown := wanted - frozenset(GOALS):
        raise InvalidInput(
            f"there is no goal {sorted(unknown)[0]}", field="only", expected=", ".join(GOALS), found=only
        )
    chosen = with_rounds(Options(only=wanted, events=events, keep=keep, fresh=fresh), rounds)
    named: dict[str, Any] = {
        name: path.absolute() for name, path in (("python", peers), ("pgledger", pgledger)) if path
    }
    chosen = msgspec.structs.replace(chosen, peers=msgspec.structs.replace(chosen.peers, **named))
    return _tiny(chosen) if tiny else chosen


_tiny = tiny


def run(owner_url: str, options: Options, say: Say) -> Result:
    return run_all(owner_url, options, say)


def tables(result: Result) -> list[Listing]:
    """Returns the table of the goals and, if requested, that of the stored bytes."""
    listings = [
        Listing(
            title=title(result),
            columns=("", "measure", "median", "limit", "ratio", "spread", "goal", ""),
            rows=[_row(measure) for measure in result.measures],
            right=(2, 3, 4, 5),
        )
    ]
    if result.stored:
        total = sum(item.bytes for item in result.stored)
        listings.append(
            Listing(
                title=f"what is stored, {total / 1e6:,.1f} MB in all; what is half a per cent of it or more",
                columns=("table or index", "of", "MB", "bytes an event"),
                rows=[
                    (item.name, item.table, f"{item.bytes / 1e6:,.1f}", f"{item.bytes_per_event:,.1f}")
                    for item in result.stored
                    if item.bytes * 200 >= total
                ],
                right=(2, 3),
            )
        )
    return listings


def title(result: Result) -> str:
    """Machine and time of the run."""
    memory = f"{result.machine['memory_bytes'] / 2**30:.0f} GB"
    return (
        f"{result.machine['processor']}, {result.machine['cores']} cores, {memory}, Python {result.machine['python']}, "
        f"PostgreSQL {result.server['server_version']}; {result.measured_at[:10]}, {result.revision}"
    )


def picture(result: Result) -> str:
    """The goals as an SVG."""
    return plot.svg(result.measures, title="subledger: goals of speed and scale", subtitle=title(result))


def _row(measure: Measure) -> tuple[object, ...]:
    limit, (least, most) = measure.limit, measure.spread
    return (
        measure.goal,
        measure.name,
        f"{figure(measure.value)} {measure.unit}",
        "" if limit is None else f"{measure.limit_name} {figure(limit)}",
        "" if limit is None else figure(measure.ratio),
        f"{figure(least)} – {figure(most)}" if len(measure.rounds) > 1 else "",
        "" if measure.bound is None else str(measure.bound),
        {None: "", True: "met", False: "missed"}[measure.met],
    )
