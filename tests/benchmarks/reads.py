"""P5, P6: balances of a grown ledger at points in time, compared with SELECT 1.

psycopg runs SELECT 1 in its own transaction: BEGIN, SELECT 1, ROLLBACK. The time of the single statement without a
transaction is also reported.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import cycle
from typing import Any, Final

import msgspec
import psycopg

from api.service import Subledger
from subledger.store.database import Database
from tests.benchmarks.grown import GROWN, Grown
from tests.benchmarks.measures import Bound, Found, Measure, Say, at_most, latencies
from tests.benchmarks.workload import DAYS, HOT, YEAR

ASKED_BEFORE: Final = 20
"""Number of customers that are read in turn. Their balances were read before."""
LAST_DAY: Final = date(YEAR, 12, 31)

DAY_ENDS: Final = """
-- The last moment of each recorded day that is over.
SELECT max(recorded_at) FROM batches WHERE ledger = %s GROUP BY (recorded_at AT TIME ZONE 'UTC')::date ORDER BY 1
"""
INSIDE: Final = """
-- For each recorded day the moment by which about half of it was recorded.
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY recorded_at) FROM batches WHERE ledger = %s
GROUP BY (recorded_at AT TIME ZONE 'UTC')::date ORDER BY 1
"""


class Size(msgspec.Struct, frozen=True, kw_only=True):
    rounds: int = 7
    repeats: int = 50


class _Point(msgspec.Struct, frozen=True):
    """A point in time: now, or a day (as_of) and a moment (known_at)."""

    as_of: date
    known_at: datetime | None


def measure(grown: Grown, size: Size, wanted: frozenset[str], say: Say) -> Found:
    """Measures the requested ones of P5 and P6."""
    say("P5, P6: balances against SELECT 1")
    database = Database(grown.url)
    service = Subledger(database)
    with psycopg.connect(grown.url) as plain, psycopg.connect(grown.url, autocommit=True) as bare:
        asked = _Asked(service, plain, grown.grown.customers - 1)
        asked.warm_up()
        bare.execute("VACUUM (ANALYZE)")  # as autovacuum would do later, after the readers have added snapshots
        questions = {name: (goal, call, bound) for goal, name, call, bound in asked.questions() if goal in wanted}

        def select_one() -> None:
            plain.execute("SELECT 1").fetchone()
            plain.rollback()

        calls: dict[str, Callable[[], object]] = {name: call for name, (_, call, _) in questions.items()}
        calls["SELECT 1 outside a transaction"] = lambda: bare.execute("SELECT 1").fetchone()
        found = latencies(size.rounds, size.repeats, select_one, calls)
    database.close()
    questions["SELECT 1 outside a transaction"] = (min(goal for goal, _, _ in questions.values()), select_one, None)
    return [
        Measure(
            goal=questions[name][0],
            name=name,
            unit="ms p50",
            rounds=rounds,
            limit_name="SELECT 1",
            bound=questions[name][2],
            samples_unit="ms",
        )
        for name, rounds in found.items()
    ], {}


class _Asked:
    """Reads, each time of another customer and another point in time."""

    def __init__(self, service: Subledger, plain: psycopg.Connection[Any], customers: int) -> None:
        self._service = service
        self._random = random.Random(7)
        self._order = list(range(customers))
        self._random.shuffle(self._order)
        self._met = [f"customer-{n}" for n in self._order[:ASKED_BEFORE]]
        self._strangers = cycle([f"customer-{n}" for n in self._order[ASKED_BEFORE:] or self._order])
        self._day_ends = [row[0] for row in plain.execute(DAY_ENDS, (GROWN,))]
        self._inside = [row[0] for row in plain.execute(INSIDE, (GROWN,))]
        plain.rollback()

    def questions(self) -> list[tuple[str, str, Callable[[], object], Bound | None]]:
        hot = partial(self._customer, lambda: HOT)
        any_ = partial(self._customer, lambda: self._random.choice(self._met))
        stranger = partial(self._customer, lambda: next(self._strangers))
        return [
            ("P5", "customer's balance, now", partial(any_, self._now), at_most(2.5)),
            ("P5", "customer's balance, at (as-of, known-at)", partial(any_, self._inside_a_day), at_most(2.5)),
            ("P5", "hot customer's balance, now", partial(hot, self._now), at_most(4)),
            ("P5", "hot customer's balance, at (as-of, known-at)", partial(hot, self._inside_a_day), at_most(4)),
            ("P5", "customer's balance, now, asked for the first time", partial(stranger, self._now), None),
            ("P6", "trial balance, at a checkpoint", partial(self._trial, self._end_of_a_day), at_most(4)),
            ("P6", "trial balance, now", partial(self._trial, self._now), None),
            ("P6", "trial balance, inside a checkpoint", partial(self._trial, self._inside_a_day), None),
        ]

    def warm_up(self) -> None:
        """Runs the first reads, which add snapshots. Their time is reported separately."""
        for customer in (HOT, *self._met):
            for point in (self._now, self._inside_a_day):
                self._customer(lambda customer=customer: customer, point)
        for point in (self._now, self._end_of_a_day, self._inside_a_day):
            self._trial(point)

    def _now(self) -> _Point:
        return _Point(LAST_DAY, None)

    def _end_of_a_day(self) -> _Point:
        return self._point(self._day_ends)

    def _inside_a_day(self) -> _Point:
        return self._point(self._inside)

    def _point(self, moments: list[datetime]) -> _Point:
        known_at = self._random.choice(moments[len(moments) // 10 :])
        back = timedelta(days=int(self._random.random() ** 2 * DAYS / 2))
        return _Point(max(known_at.astimezone(UTC).date() - back, date(YEAR, 2, 1)), known_at)

    def _customer(self, customer: Callable[[], str], point: Callable[[], _Point]) -> None:
        at = point()
        self._service.customer_balances(GROWN, customer(), as_of=at.as_of, known_at=at.known_at)

    def _trial(self, point: Callable[[], _Point]) -> None:
        at = point()
        self._service.trial_balance(GROWN, as_of=at.as_of, known_at=at.known_at)
