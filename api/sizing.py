"""Servers, ledgers, disk and hours to rebuild that a load needs: arithmetic on measured figures, with its assumptions.

Owns: the formulas that subledger/SIZING.md explains. Does not own: the figures. They come from ``subledger bench
--json`` on a machine like the servers, or are given. Only ``Load`` has assumptions.
"""

from __future__ import annotations

from math import ceil
from typing import Any, Final

import msgspec

from subledger.errors import InvalidValue, MissingField

DAY_S: Final = 86_400
YEAR_DAYS: Final = 365.25


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Measured figures of one machine with two cores. ``two_writers_per_s`` is that of two ledgers together."""

    events_per_s: float
    two_writers_per_s: float
    bytes_per_event: float
    replayed_per_s: float


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Load to be sized, and the machines for it. ``peak`` is the busiest hour over the average one.

    ``rebuild_h`` is how long one ledger may take to be rebuilt, or verified, by one process. ``used`` is the part of a
    limit that is planned with: of a writer's rate and of a disk.
    """

    events_per_day: float
    peak: float = 5.0
    years: float = 7.0
    cores: int = 16
    disk_tb: float = 4.0
    rebuild_h: float = 24.0
    used: float = 0.5


class Sizing(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. ``rebuild_h`` is that of one of the ledgers at the end, which are rebuilt side by side."""

    average_per_s: float
    peak_per_s: float
    ledgers_for_writing: int
    ledgers_for_rebuild: int
    ledgers: int
    servers_for_writing: int
    servers_for_disk: int
    servers: int
    disk_tb: float
    events: float
    rebuild_h: float


def size(load: Load, figures: Figures) -> Sizing:
    """Raises InvalidValue for a figure that is not positive."""
    for struct in (load, figures):
        for name, value in msgspec.structs.asdict(struct).items():
            if not value > 0:
                raise InvalidValue(f"{name} is not positive", field=name, expected="more than 0", found=str(value))
    average = load.events_per_day / DAY_S
    peak = average * load.peak
    events = load.events_per_day * YEAR_DAYS * load.years
    # A ledger has one writer, so its rate is what makes ledgers; cores are what makes servers.
    to_write = ceil(peak / (figures.events_per_s * load.used))
    replay_h = events / figures.replayed_per_s / 3600
    to_rebuild = ceil(replay_h / load.rebuild_h)
    ledgers = max(to_write, to_rebuild)
    of_a_server = figures.two_writers_per_s * load.cores / 2
    for_writing = ceil(peak / (of_a_server * load.used))
    disk_tb = events * figures.bytes_per_event / 1e12
    for_disk = ceil(disk_tb / (load.disk_tb * load.used))
    return Sizing(
        average_per_s=average,
        peak_per_s=peak,
        ledgers_for_writing=to_write,
        ledgers_for_rebuild=to_rebuild,
        ledgers=ledgers,
        servers_for_writing=for_writing,
        servers_for_disk=for_disk,
        servers=max(for_writing, for_disk),
        disk_tb=disk_tb,
        events=events,
        rebuild_h=replay_h / ledgers,
    )


OF_BENCH: Final = {
    "events_per_s": ("P1", "events/s"),
    "two_writers_per_s": ("P2", "events/s"),
    "bytes_per_event": ("P10", "bytes"),
    "replayed_per_s": ("P8", "events/s"),
}
"""Goal of the benchmark and unit of each figure; of several the slowest is taken, or the largest size."""


def figures_of(bench: dict[str, Any] | None, **given: float | None) -> Figures:
    """Reads the given figures; the others come from the output of ``subledger bench --json``. Raises MissingField."""
    found: dict[str, float] = {}
    for name, (goal, unit) in OF_BENCH.items():
        value = given.get(name)
        if value is None:
            measured = [
                float(each["median"])
                for each in (bench or {}).get("measures", ())
                if each.get("goal") == goal and each.get("unit") == unit
            ]
            value = (max if unit == "bytes" else min)(measured, default=None)
        if value is None:
            option = "--" + name.replace("_", "-")
            raise MissingField(f"nothing says {name}", field=option, expected=f"{option}, or --bench FILE with {goal}")
        found[name] = value
    return Figures(**found)
