"""Servers, ledgers, disk and rebuild hours for a load: arithmetic on measured figures, with its assumptions.

Owns: the formulas that subledger/SIZING.md explains. Does not own: the figures. They are the output of ``subledger
bench --json`` on a machine like the servers, or arguments. Only ``Load`` has assumptions.
"""

from __future__ import annotations

from math import ceil
from typing import Any, Final

import msgspec

from subledger.errors import InvalidValue, MissingField

DAY_S: Final = 86_400
YEAR_DAYS: Final = 365.25


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Measured figures of one machine with two cores. ``two_writers_per_s`` is the sum over two ledgers."""

    events_per_s: float
    two_writers_per_s: float
    bytes_per_event: float
    replayed_per_s: float


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """A load, and the machines for it. ``peak`` is the ratio of the busiest hour to the average hour.

    ``rebuild_h`` is the longest acceptable time in which one process rebuilds or verifies one ledger. ``used`` is the
    part of a limit that the plan uses: of a writer's rate and of a disk.
    """

    events_per_day: float
    peak: float = 5.0
    years: float = 7.0
    cores: int = 16
    disk_tb: float = 4.0
    rebuild_h: float = 24.0
    used: float = 0.5


class Sizing(msgspec.Struct, frozen=True, kw_only=True):
    """The result. ``rebuild_h`` is the time for one ledger at the end; ledgers are rebuilt at the same time."""

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
    """Computes the sizing of a load. Raises InvalidValue for a figure that is not positive."""
    for struct in (load, figures):
        for name, value in msgspec.structs.asdict(struct).items():
            if not value > 0:
                raise InvalidValue(f"{name} is not positive", field=name, expected="more than 0", found=str(value))
    average = load.events_per_day / DAY_S
    peak = average * load.peak
    events = load.events_per_day * YEAR_DAYS * load.years
    # A ledger has one writer, so the writer's rate decides the number of ledgers. Cores decide the number of servers.
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
"""Goal of the benchmark and unit of each figure. If a goal has several results, the slowest counts, or the largest
size.
"""


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
            raise MissingField(f"{name} is missing", field=option, expected=f"{option}, or --bench FILE with {goal}")
        found[name] = value
    return Figures(**found)
