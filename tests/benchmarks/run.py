"""All benchmarks together, as `subledger bench` runs them.

Owns: the choice of the parts, their databases, and the description of the machine. Does not own: any measurement.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import psutil
import psycopg
from psycopg import sql

from tests.benchmarks import callers, exports, growth, ingest, reads, replaying
from tests.benchmarks.grown import Built, grown_ledger
from tests.benchmarks.measures import GOALS, Found, Measure, Say
from tests.benchmarks.peers import run as peers
from tests.scratch_database import scratch_database

_SERVER_SETTINGS = (
    "server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_level", "shared_buffers", "max_wal_size",
    "autovacuum", "jit",
)  # fmt: skip


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Benchmarks of a run and their sizes. ``events`` is the size of the grown ledger."""

    only: frozenset[str] = frozenset(GOALS)
    events: int = 1_000_000
    keep: bool = False
    fresh: bool = False
    ingest: ingest.Size = ingest.Size()
    callers: callers.Size = callers.Size()
    reads: reads.Size = reads.Size()
    replaying: replaying.Size = replaying.Size()
    peers: peers.Peers = peers.Peers()


def with_rounds(options: Options, rounds: int) -> Options:
    """Returns options with a number of rounds. Measures that read the whole grown ledger have at most five."""
    replace = msgspec.structs.replace
    return replace(
        options,
        ingest=replace(options.ingest, rounds=rounds),
        callers=replace(options.callers, rounds=rounds),
        reads=replace(options.reads, rounds=rounds),
        replaying=replace(options.replaying, rounds=min(rounds, 5)),
    )


def tiny(options: Options) -> Options:
    """Returns options with so little work that the figures mean nothing, to test that the benchmarks run."""
    replace = msgspec.structs.replace
    small = ingest.Size(rounds=2, batches=2, batch_size=100, customers=50, singles=3)
    return replace(
        options,
        events=1_000,
        keep=False,
        ingest=small,
        callers=callers.Size(rounds=1, callers=4, seconds=0.2),
        reads=reads.Size(rounds=2, repeats=3),
        replaying=replaying.Size(rounds=2, raw_batches=1),
        peers=replace(options.peers, batch_events=100, single_events=5, customers=20, text_events=100),
    )


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """All measures, with the machine, the time and the options.

    ``skipped`` has the missing requirements of measures that were not made, and ``failed`` the errors.
    """

    machine: dict[str, Any]
    server: dict[str, str]
    revision: str
    measured_at: str
    took_s: float
    options: Options
    measures: tuple[Measure, ...]
    skipped: dict[str, str]
    failed: dict[str, str]
    stored: tuple[growth.Stored, ...]
    grown: tuple[Built, ...]

    @property
    def document(self) -> dict[str, Any]:
        """Returns the result as JSON, with all samples."""
        return {
            "machine": self.machine,
            "server": self.server,
            "revision": self.revision,
            "measured_at": self.measured_at,
            "took_s": self.took_s,
            "options": msgspec.to_builtins(self.options, enc_hook=str),
            "goals": GOALS,
            "measures": [measure.document for measure in self.measures],
            "skipped": self.skipped,
            "failed": self.failed,
            "stored": msgspec.to_builtins(self.stored),
            "grown": msgspec.to_builtins(self.grown),
        }


def run(owner_url: str, options: Options, say: Say) -> Result:
    """Measures the requested goals, part after part. Each part has its own database, which is dropped afterwards."""
    started = time.perf_counter()
    running = _Run(owner_url, options, say)
    running.everything()
    order = list(GOALS)
    return Result(
        machine=machine(),
        server=server_settings(owner_url),
        revision=revision(),
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        took_s=round(time.perf_counter() - started, 1),
        options=options,
        measures=tuple(sorted(running.found, key=lambda measure: order.index(measure.goal))),
        skipped=running.skipped,
        failed=running.failed,
        stored=tuple(running.stored),
        grown=running.grown,
    )


class _Run:
    """The results of a run so far. A part that fails is listed with its error, and the other parts continue."""

    def __init__(self, owner_url: str, options: Options, say: Say) -> None:
        self.owner_url, self.options, self.say = owner_url, options, say
        self.found: list[Measure] = []
        self.skipped: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self.stored: list[growth.Stored] = []
        self.grown: tuple[Built, ...] = ()

    def everything(self) -> None:
        options, say = self.options, self.say

        def in_scratch(measure: Callable[[str], Found]) -> Found:
            with scratch_database(self.owner_url, copied=False) as url:
                return measure(url)

        self._part("P1 P2 P3", lambda: in_scratch(lambda url: ingest.measure(url, options.ingest, options.only, say)))
        self._part("P4", lambda: in_scratch(lambda url: callers.measure(url, options.callers, say)))
        self._part("P5 P6 P7 P8 P9 P10", self._of_a_grown_ledger)
        self._part("P11", lambda: peers.measure(self.owner_url, options.ingest, options.peers, say))

    def _part(self, goals: str, part: Callable[[], Found]) -> None:
        if not self.options.only & set(goals.split()):
            return
        try:
            measures, skipped = part()
        except Exception as error:  # one failure must not discard an hour of figures
            self.say(traceback.format_exc())
            self.failed[goals] = repr(error)
        else:
            self.found += measures
            self.skipped |= skipped

    def _of_a_grown_ledger(self) -> Found:
        options, say = self.options, self.say
        with grown_ledger(self.owner_url, options.events, keep=options.keep, fresh=options.fresh, say=say) as grown:
            self.grown = (grown.grown, grown.small)
            found, self.stored = growth.measure(grown, options.only)
            self._part("P7", lambda: exports.measure(grown, say))
            self._part("P5 P6", lambda: reads.measure(grown, options.reads, options.only, say))
            self._part("P8", lambda: replaying.measure(grown, options.replaying, say))
        return found, {}


def machine() -> dict[str, Any]:
    models = [
        line.split(":", 1)[1].strip()
        for line in (Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else "").splitlines()
        if line.startswith("model name")
    ]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "psycopg": psycopg.__version__,
        "load_average": list(os.getloadavg()),
    }


def server_settings(owner_url: str) -> dict[str, str]:
    with psycopg.connect(owner_url) as connection:
        show = sql.SQL("SHOW {}")
        shown = {name: connection.execute(show.format(sql.Identifier(name))).fetchone() for name in _SERVER_SETTINGS}
    return {name: value[0] for name, value in shown.items() if value}


def revision() -> str:
    """Returns the revision of the checkout, and its changed files; empty without git."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
