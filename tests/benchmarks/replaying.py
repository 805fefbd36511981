"""P8: reading a whole grown ledger: replayed without writing, rebuilt from nothing, verified; against RAW."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import msgspec
import psycopg
from psycopg import sql

from projections import integrity
from projections.rebuild import rebuild
from subledger.store.database import Database
from tests.benchmarks.grown import BATCH, GROWN, Grown
from tests.benchmarks.measures import Bound, Measure, Round, Say, at_least, rate_round, seconds
from tests.benchmarks.raw import Raw

DERIVED: Final = ("wallets", "blocks", "documents", "ledger_days", "merkle_nodes")
"""What a rebuild has to write where it is not there; the other derived tables have a handful of rows."""


class Size(msgspec.Struct, frozen=True, kw_only=True):
    rounds: int = 5
    raw_batches: int = 10


def measure(grown: Grown, size: Size, say: Say) -> tuple[list[Measure], dict[str, str]]:
    """In every round: a part of the ledger's rows by RAW, then the whole ledger in each way.

    Changes where derived rows lie, so what is stored is measured before.
    """
    database = Database(grown.url)
    ways: dict[str, tuple[Callable[[], object], Callable[[], object], Bound | None]] = {
        "rebuild of every derived row": (
            lambda: _empty(grown.url), lambda: rebuild(database, GROWN), at_least(1.5)
        ),
        "verify": (lambda: None, lambda: integrity.verify(database, GROWN), None),
    }  # fmt: skip
    skipped = {}
    try:
        folding: Any = import_module("projections.folding")
        ways["replay without writes"] = (lambda: None, lambda: folding.replay(database, GROWN), at_least(3))
    except ModuleNotFoundError:
        skipped["P8 replay"] = "projections/folding.py is not there"
    found: dict[str, list[Round]] = {name: [] for name in ways}
    with psycopg.connect(grown.url) as connection:
        raw, events = Raw(connection), grown.grown.events
        try:
            for number in range(size.rounds):
                count = min(size.raw_batches * BATCH, events // size.rounds)
                first = 1 + number * (events // size.rounds)
                limit_s = raw.copies_s(GROWN, first, first + count - 1, BATCH)
                for name, (prepare, work, _) in ways.items():
                    prepare()
                    found[name].append(rate_round(events, [seconds(work)], limit_s, count))
                    value, ratio = found[name][-1].value, found[name][-1].ratio
                    say(f"P8 round {number + 1} of {size.rounds}: {name} {value:,.0f} events/s, {ratio:.2f} RAW")
        finally:
            raw.drop()
            database.close()
    _tidy(grown.url)
    return [
        Measure(
            goal="P8", name=name, unit="events/s", rounds=tuple(rounds), limit_name="RAW", bound=ways[name][2],
            samples_unit="s",
        )
        for name, rounds in found.items()
    ], skipped  # fmt: skip


def _empty(url: str) -> None:
    """A rebuild leaves alone what is right; so that it writes, nothing is."""
    with psycopg.connect(url) as connection:
        for table in DERIVED:
            connection.execute(sql.SQL("DELETE FROM {} WHERE ledger = {}").format(sql.Identifier(table), GROWN))


def _tidy(url: str) -> None:
    """A ledger that is kept is left as compact as it was."""
    with psycopg.connect(url, autocommit=True) as connection:
        for table in DERIVED:
            connection.execute(sql.SQL("VACUUM (FULL, ANALYZE) {}").format(sql.Identifier(table)))
