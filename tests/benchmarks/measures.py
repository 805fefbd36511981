"""Measurements: rounds of a figure and its limit, measured in turn, and the goal for their ratio.

The load of a machine changes within seconds. So every round measures the figure and the limit one after the other, and
the ratio is computed within the round. The result is the median of the ratios, with the smallest and the largest one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

Say = Callable[[str], None]
"""Callback that shows the current step."""

GOALS: Final[dict[str, str]] = {
    "P1": "ingest, one writer",
    "P2": "two ledgers, two writers",
    "P3": "one event at a time, one client",
    "P4": "64 concurrent callers of single events",
    "P5": "balance of one customer",
    "P6": "trial balance at a point in time",
    "P7": "export of a month",
    "P8": "replay and rebuild",
    "P9": "the last events against the first; memory",
    "P10": "disk per event",
    "P11": "peers, same work",
}


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """Goal of a ratio, or of the figure itself if it has no limit to compare it with."""

    figure: float
    at_least: bool

    def met_by(self, ratio: float) -> bool:
        return ratio >= self.figure if self.at_least else ratio <= self.figure

    def margin(self, ratio: float) -> float:
        """Returns 1 if the goal is just met, and more if the ratio is better than the goal."""
        return ratio / self.figure if self.at_least else self.figure / ratio

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.figure:g}"


def at_least(figure: float) -> Bound:
    return Bound(figure=figure, at_least=True)


def at_most(figure: float) -> Bound:
    return Bound(figure=figure, at_least=False)


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One round: the figure, its limit (None without one), and all samples of both."""

    value: float
    limit: float | None = None
    samples: tuple[float, ...] = ()
    limit_samples: tuple[float, ...] = ()

    @property
    def ratio(self) -> float:
        return self.value if self.limit is None else self.value / self.limit


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. A measure without a ``bound`` has no goal, and is shown separately.

    ``samples_unit`` is the unit of ``Round.samples``. It may differ from that of the figure, for example seconds and
    events/s.
    """

    goal: str
    name: str
    unit: str
    rounds: tuple[Round, ...]
    limit_name: str | None = None
    bound: Bound | None = None
    samples_unit: str = ""
    note: str = ""

    @property
    def value(self) -> float:
        return statistics.median(r.value for r in self.rounds)

    @property
    def limit(self) -> float | None:
        limits = [r.limit for r in self.rounds if r.limit is not None]
        return statistics.median(limits) if limits else None

    @property
    def ratio(self) -> float:
        return statistics.median(r.ratio for r in self.rounds)

    @property
    def spread(self) -> tuple[float, float]:
        """Returns the smallest and the largest ratio of the rounds."""
        return min(r.ratio for r in self.rounds), max(r.ratio for r in self.rounds)

    @property
    def met(self) -> bool | None:
        return None if self.bound is None else self.bound.met_by(self.ratio)

    @property
    def document(self) -> dict[str, object]:
        """Returns the measure as JSON: the computed figures, then their samples."""
        return {
            "goal": self.goal,
            "name": self.name,
            "unit": self.unit,
            "median": self.value,
            "limit_name": self.limit_name,
            "limit_median": self.limit,
            "ratio": self.ratio,
            "spread": list(self.spread),
            "bound": None if self.bound is None else str(self.bound),
            "met": self.met,
            "note": self.note,
            "samples_unit": self.samples_unit,
            "rounds": [msgspec.to_builtins(r) for r in self.rounds],
        }


Found = tuple[list[Measure], dict[str, str]]
"""The measures of a part, and those that were skipped, each with its missing requirement."""


def figure(number: float) -> str:
    """Returns a figure with three significant digits, or all digits before the point."""
    if number >= 100:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}" if number >= 0.1 else f"{number:.3f}"


def seconds(call: Callable[[], object]) -> float:
    """Returns the seconds that a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def rate_round(count: int, own_s: Sequence[float], limit_s: Sequence[float], limit_count: int | None = None) -> Round:
    """Returns a round of rates: ``count`` items in ``own_s`` seconds, and as many (or ``limit_count``) in ``limit_s``
    seconds.
    """
    return Round(
        value=count / sum(own_s),
        limit=(count if limit_count is None else limit_count) / sum(limit_s) if limit_s else None,
        samples=tuple(own_s),
        limit_samples=tuple(limit_s),
    )


def latency_round(own_s: Sequence[float], limit_s: Sequence[float]) -> Round:
    """Returns a round of latencies in milliseconds: the medians of both lists."""
    own, limits = tuple(s * 1000 for s in own_s), tuple(s * 1000 for s in limit_s)
    return Round(value=statistics.median(own), limit=statistics.median(limits), samples=own, limit_samples=limits)


def latencies(
    rounds: int, repeats: int, limit: Callable[[], object], questions: dict[str, Callable[[], object]]
) -> dict[str, tuple[Round, ...]]:
    """Returns rounds of latencies. Each repetition measures the limit, then every question once. The first ones only
    warm up.
    """
    for call in (limit, *questions.values()):
        for _ in range(6):  # more than the count after which psycopg prepares a statement
            call()
    found: dict[str, list[Round]] = {name: [] for name in questions}
    for _ in range(rounds):
        limits: list[float] = []
        own: dict[str, list[float]] = {name: [] for name in questions}
        for _ in range(repeats):
            limits.append(seconds(limit))
            for name, question in questions.items():
                own[name].append(seconds(question))
        for name, samples in own.items():
            found[name].append(latency_round(samples, limits))
    return {name: tuple(rounds) for name, rounds in found.items()}
