"""P7: the export of a month's journal, in a ledger of N events compared with a ledger of the same shape and N/100
events.
"""

from __future__ import annotations

import time
from typing import Final

from api.service import Subledger
from projections.exports import exporting, exports
from subledger.periods import Period
from subledger.store.database import Database
from tests.benchmarks.grown import GROWN, SMALL, Close, Grown
from tests.benchmarks.measures import Found, Measure, Round, Say, at_most
from tests.benchmarks.workload import YEAR
from tests.store.tampering import past_triggers

MONTHS: Final = range(1, 12)
"""The closed months. December is still open at the end of the year."""
FORMAT: Final = "csv"


def measure(grown: Grown, say: Say) -> Found:
    """Exports each closed month once from each ledger, in turn. Reports the times of their closes too."""
    say("P7: exports of months, large against small")
    database = Database(grown.url)
    service = Subledger(database)
    _forget_journals(grown.url)
    rounds = []
    try:
        for month in MONTHS:
            large, small = (_export_s(service, ledger, Period(YEAR, month)) * 1000 for ledger in (GROWN, SMALL))
            rounds.append(Round(value=large, limit=small, samples=(large,), limit_samples=(small,)))
    finally:
        database.close()
    sizes = f"{grown.grown.events:,} events"
    return [
        Measure(
            goal="P7",
            name=f"export of a month, {sizes}",
            unit="ms",
            rounds=tuple(rounds),
            limit_name=f"{grown.small.events:,} events",
            bound=at_most(1.5),
            samples_unit="ms",
            note=f"summary in {FORMAT}, made for the first time; a round is a month",
        ),
        Measure(
            goal="P7",
            name=f"close of a month, {sizes}",
            unit="ms",
            rounds=tuple(map(_close_round, grown.grown.closes, grown.small.closes)),
            limit_name=f"{grown.small.events:,} events",
            samples_unit="ms",
            note="with its sweep and its proofs, as the ledgers grew; not interleaved",
        ),
    ], {}


def _export_s(service: Subledger, ledger: str, period: Period) -> float:
    started = time.perf_counter()
    made = exporting.export(service.recorder, service.database, ledger, period, FORMAT)
    for item in made:
        for _ in exports.content_of(service.database, item):
            pass
    return time.perf_counter() - started


def _forget_journals(url: str) -> None:
    """Deletes the journals of a kept ledger, because a journal is made only once and then found."""
    with past_triggers(url, "journal_exports", "journals") as connection:
        for table in ("journal_exports", "journals"):
            connection.execute(f"DELETE FROM {table}")
            connection.execute("DELETE FROM tallies WHERE relation = %s", (table,))


def _close_round(large: Close, small: Close) -> Round:
    own, limit = large.seconds * 1000, small.seconds * 1000
    return Round(value=own, limit=limit, samples=(own,), limit_samples=(limit,))
