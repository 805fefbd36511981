"""P9, P10: the effect of the ledger's size on the rate, on the writer's memory and on the disk."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import psycopg

from tests.benchmarks.grown import Grown, Piece
from tests.benchmarks.measures import Measure, Round, at_least, at_most

STORAGE: Final = """
-- Every table with its indexes, largest first. The benchmark's own tables are not counted; TOAST is with its table.
SELECT c.relname AS name, pg_table_size(c.oid) AS bytes, greatest(c.reltuples, 0)::bigint AS rows,
       coalesce((SELECT json_object_agg(i.relname, pg_relation_size(i.oid) ORDER BY i.relname)::text
                 FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = c.oid), '{}') AS indexes
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind = 'r'
ORDER BY pg_total_relation_size(c.oid) DESC
"""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A table or an index: its bytes in total, and per event of the database."""

    name: str
    table: str
    bytes: int
    bytes_per_event: float


def measure(grown: Grown, wanted: frozenset[str]) -> tuple[list[Measure], list[Stored]]:
    """Returns the requested measures of P9 and P10, and the stored bytes by table and index."""
    measures, stored = [], []
    if "P9" in wanted:
        measures += _rates_and_memory(grown)
    if "P10" in wanted:
        stored = storage(grown)
        per_event = sum(item.bytes for item in stored) / (grown.grown.events + grown.small.events)
        measures.append(
            Measure(
                goal="P10",
                name="disk per event, everything",
                unit="bytes",
                rounds=(Round(value=per_event),),
                bound=at_most(600),
                note="tables, indexes and TOAST after a vacuum; without the write-ahead log",
            )
        )
    return measures, stored


def _rates_and_memory(grown: Grown) -> list[Measure]:
    pieces = grown.grown.pieces
    tenth = max(1, len(pieces) // 10)
    first, last = pieces[:tenth], pieces[-tenth:]
    share = f"{grown.grown.events / 10:,.0f}"
    return [
        Measure(
            goal="P9",
            name=f"rate of the last {share} of {grown.grown.events:,} events",
            unit="events/s",
            rounds=tuple(map(_rate_round, last, first)),
            limit_name=f"the first {share}",
            bound=at_least(0.85),
            note="recording and nightly sweeps; a round is a hundredth of all events against one of the first tenth",
        ),
        Measure(
            goal="P9",
            name="the same, each as a share of RAW at its time",
            unit="RAW",
            rounds=tuple(map(_share_round, last, first)),
            limit_name="the first",
            note="RAW into empty tables: what the machine's mood did to the rate above",
        ),
        Measure(
            goal="P9",
            name="the writer's memory at most",
            unit="MB resident",
            rounds=(Round(value=grown.grown.peak_resident_bytes / 1e6),),
            bound=at_most(600),
            note="of the whole process, seen after every hundredth of the events",
        ),
    ]


def _rate_round(last: Piece, first: Piece) -> Round:
    return Round(value=last.rate, limit=first.rate, samples=(last.rate,), limit_samples=(first.rate,))


def _share_round(last: Piece, first: Piece) -> Round:
    return Round(value=last.rate / last.raw_rate, limit=first.rate / first.raw_rate)


def storage(grown: Grown) -> list[Stored]:
    """Returns the stored bytes of tables without their indexes, then of each index, largest first."""
    events = grown.grown.events + grown.small.events
    with psycopg.connect(grown.url) as connection:
        rows: list[Any] = connection.execute(STORAGE).fetchall()
    sizes = []
    for name, table_bytes, _, indexes in rows:
        sizes.append((name, name, table_bytes))
        sizes += [(index, name, size) for index, size in msgspec.json.decode(indexes, type=dict[str, int]).items()]
    return [
        Stored(name=name, table=table, bytes=size, bytes_per_event=round(size / events, 2))
        for name, table, size in sorted(sizes, key=lambda item: -item[2])
    ]
