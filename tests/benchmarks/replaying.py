"""P8: replaying a grown ledger without writing, and rebuilding everything derived from it, against RAW."""

from __future__ import annotations

import msgspec
import psycopg

from projections.rebuild import rebuild
from projections.replay import Replayer, read_batches, read_events
from subledger.store.database import Database
from tests.benchmarks.grown import BATCH, GROWN, Grown
from tests.benchmarks.measures import Measure, Round, Say, at_least, rate_round, seconds
from tests.benchmarks.raw import Raw


class Size(msgspec.Struct, frozen=True, kw_only=True):
    rounds: int = 5
    raw_batches: int = 10


def measure(grown: Grown, size: Size, say: Say) -> list[Measure]:
    """In every round: a part of the ledger's rows by RAW, then the whole ledger replayed, then rebuilt."""
    database = Database(grown.url)
    replays, rebuilds = [], []
    try:
        with psycopg.connect(grown.url) as connection:
            raw, events = Raw(connection), grown.grown.events
            try:
                for number in range(size.rounds):
                    count = min(size.raw_batches * BATCH, events // size.rounds)
                    first = 1 + number * (events // size.rounds)
                    limit_s = raw.copies_s(GROWN, first, first + count - 1, BATCH)
                    replays.append(_round(events, seconds(lambda: _replay(database)), count, limit_s))
                    rebuilds.append(_round(events, seconds(lambda: rebuild(database, GROWN)), count, limit_s))
                    say(
                        f"P8 round {number + 1} of {size.rounds}: replay {replays[-1].value:,.0f} events/s, "
                        f"rebuild {rebuilds[-1].value:,.0f}, RAW {replays[-1].limit:,.0f}"
                    )
            finally:
                raw.drop()
    finally:
        database.close()
    return [
        Measure(
            goal="P8", name=name, unit="events/s", rounds=tuple(rounds), limit_name="RAW", bound=at_least(goal),
            samples_unit="s",
        )
        for name, rounds, goal in (
            ("replay without writes", replays, 3), ("rebuild of every derived row", rebuilds, 1.5),
        )
    ]  # fmt: skip


def _round(events: int, own_s: float, count: int, limit_s: list[float]) -> Round:
    return rate_round(events, [own_s], limit_s, count)


def _replay(database: Database) -> None:
    replay = Replayer(GROWN)
    with database.read() as connection:
        batches = read_batches(connection, GROWN, 0)
        batch = next(batches)
        for logged in read_events(connection, GROWN, 0):
            if logged.position > batch.last_position:
                batch = next(batches)
            replay.take(logged, batch.recorded_at)
