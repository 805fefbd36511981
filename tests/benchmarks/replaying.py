"""P8: reading a whole grown ledger: a replay without writing, a rebuild from empty tables, a verification; compared
with RAW.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
import psycopg
from psycopg import sql

from projections import integrity
from projections.replay.folding import replay
from projections.replay.rebuild import rebuild
from subledger.store.database import Database
from tests.benchmarks.grown import BATCH, GROWN, Grown
from tests.benchmarks.measures import Bound, Found, Measure, Round, Say, at_least, rate_round, seconds
from tests.benchmarks.raw import Raw

DERIVED: Final = ("wallets", "blocks", "documents", "ledger_days", "merkle_nodes")
"""Tables that a rebuild must fill. The other derived tables have few rows."""

_Way = tuple[Callable[[], object], Callable[[], object], Bound | None]
"""Preparation before the measurement, the measured call, and its goal."""


class Size(msgspec.Struct, frozen=True, kw_only=True):
    rounds: int = 5
    raw_batches: int = 10


def measure(grown: Grown, size: Size, say: Say) -> Found:
    """Measures in every round a part of the ledger's rows by RAW, then the whole ledger in each way; and verify once,
    at the end.

    It moves derived rows on the disk, so the stored bytes are measured before.
    """
    database = Database(grown.url)
    ways = _ways(database, grown.url)
    with psycopg.connect(grown.url) as connection:
        raw = Raw(connection)
        try:
            rounds = [_round(number, ways, grown, raw, size, say) for number in range(size.rounds)]
            say("P8: verifying, once")
            limit = rounds[-1][next(iter(ways))]
            events = grown.grown.events
            verified = Round(value=events / _verify_s(database), limit=limit.limit, limit_samples=limit.limit_samples)
        finally:
            raw.drop()
            database.close()
    _tidy(grown.url)
    measures = [_measured(name, [found[name] for found in rounds], bound) for name, (_, _, bound) in ways.items()]
    return [*measures, _measured("verify, once", [verified], None)], {}


def _ways(database: Database, url: str) -> dict[str, _Way]:
    return {
        "replay without writes": (lambda: None, lambda: replay(database, GROWN), at_least(3)),
        "rebuild of every derived row": (lambda: _empty(url), lambda: rebuild(database, GROWN), at_least(1.5)),
    }


def _round(number: int, ways: dict[str, _Way], grown: Grown, raw: Raw, size: Size, say: Say) -> dict[str, Round]:
    events = grown.grown.events
    count = min(size.raw_batches * BATCH, events // size.rounds)
    first = 1 + number * (events // size.rounds)
    limit_s = raw.copies_s(GROWN, first, first + count - 1, BATCH)
    found = {}
    for name, (prepare, work, _) in ways.items():
        prepare()
        found[name] = rate_round(events, [seconds(work)], limit_s, count)
        value, ratio = found[name].value, found[name].ratio
        say(f"P8 round {number + 1} of {size.rounds}: {name} {value:,.0f} events/s, {ratio:.2f} RAW")
    return found


def _measured(name: str, rounds: list[Round], bound: Bound | None) -> Measure:
    return Measure(
        goal="P8", name=name, unit="events/s", rounds=tuple(rounds), limit_name="RAW", bound=bound, samples_unit="s"
    )


def _verify_s(database: Database) -> float:
    """Returns the seconds of a verification. The ledger was built, closed, exported, emptied and rebuilt, and must be
    correct.
    """
    reports: list[integrity.VerificationReport] = []
    took_s = seconds(lambda: reports.append(integrity.verify(database, GROWN)))
    if reports[0].differences:
        raise RuntimeError(f"the grown ledger does not verify: {reports[0].differences[0]}")
    return took_s


def _empty(url: str) -> None:
    """Empties the derived tables, so that a rebuild must write all rows. It does not write correct rows again."""
    with psycopg.connect(url) as connection:
        for table in DERIVED:
            connection.execute(sql.SQL("DELETE FROM {} WHERE ledger = {}").format(sql.Identifier(table), GROWN))


def _tidy(url: str) -> None:
    """Makes a kept ledger as compact as it was."""
    with psycopg.connect(url, autocommit=True) as connection:
        for table in DERIVED:
            connection.execute(sql.SQL("VACUUM (FULL, ANALYZE) {}").format(sql.Identifier(table)))
