"""Snapshots: what a reader has added up, left for the next reader of a customer or a ledger with many entries.

A snapshot is at a position and has, for days of the books, the sums by kind of everything recorded through the
position and booked through the day. So (as-of, known-at) is answered from one day of one snapshot and the entries after
it. A snapshot holds the days from the first that anything since the one before it was booked on: an earlier day is
as that one, or one still earlier, has it. That is how a fact that comes late changes no row.

Where the snapshots stand follows from the log alone, so a reader who finds too few of them adds the next ones, in
order, and two who do it at once write the same rows:

- of a customer, at the event with which another ``OF_CUSTOMER`` entries are complete;
- of a ledger, at the end of a recorded day that fills up ``DAY_ROWS`` rows of day totals, and in a busy day at every
  ``INSIDE_A_DAY`` positions of it, and at its end.

Owns: the table ``snapshots``. Does not own: how balances are read from it (balances), its verification (integrity).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any, Final

import msgspec

from subledger.errors import present
from subledger.store.database import Database, WriteConnection
from subledger.store.reading.queries import AnyConnection, rows
from subledger.store.reading.recorded_days import first_of, last_of

OF_CUSTOMER: Final = 128
DAY_ROWS: Final = 256
INSIDE_A_DAY: Final = 8_192
LEDGER: Final = ""
"""In place of a customer: the ledger as a whole."""

# What one reader adds at most, so that no reader waits long for the sake of others.
_ENTRIES_AT_ONCE: Final = 262_144
_EVERYTHING: Final = (1 << 63) - 1

Key = tuple[str, int, str, str]
"""currency, policy, kind, unit."""
Sums = tuple[Decimal | int, ...]
"""written, mirrored, both in the functional currency, credits, entries."""
Totals = Mapping[Key, Sums]


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """A place that has a snapshot, and what came since the one before it, by accounting date.

    ``recorded_date`` is of a ledger's alone: the day it was recorded on, and whether it is that day's last position.
    """

    position: int
    recorded_date: date | None = None
    day_is_over: bool = False
    gained: dict[date, dict[Key, Sums]] = {}

    @property
    def day(self) -> date:
        """The day on which a ledger's place was recorded. Raises IntegrityFault for one of a customer's."""
        return present(self.recorded_date, f"the snapshot at position {self.position} has no day")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table, without the ledger and the customer."""

    rung: Rung
    accounting_date: date
    key: Key
    sums: Sums


class Sofar:
    """What the snapshots up to some position say, by day: each day with everything booked through it."""

    def __init__(self) -> None:
        self.days: dict[date, dict[Key, Sums]] = {}

    def add(self, rung: Rung) -> Iterator[Row]:
        """The rows of the next snapshot, in order."""
        first = min(rung.gained)
        through: Totals = self.days.get(max((day for day in self.days if day < first), default=first), {})
        gained: Totals = {}
        for day in sorted({*rung.gained, *(day for day in self.days if day >= first)}):
            through = self.days.get(day, through)
            gained = _plus(gained, rung.gained.get(day, {}))
            self.days[day] = _plus(through, gained)
            for key, sums in sorted(self.days[day].items()):
                yield Row(rung=rung, accounting_date=day, key=key, sums=sums)


def _plus(one: Totals, other: Totals) -> dict[Key, Sums]:
    total = dict(one)
    for key, sums in other.items():
        held = total.get(key)
        total[key] = sums if held is None else tuple(a + b for a, b in zip(held, sums, strict=True))
    return total


# --- where they stand, and what came between ------------------------------------------------------------------

_SUMS_OF_ENTRIES: Final = """
    sum(greatest(amount_minor, 0))::numeric, sum(greatest(-amount_minor, 0))::numeric,
    sum(greatest(functional_minor, 0))::numeric, sum(greatest(-functional_minor, 0))::numeric
"""
OF_A_CUSTOMER: Final = f"""
-- The next entries of a customer, summed by rung, day and kind. A rung ends with a whole event.
SELECT rung, max(position), accounting_date, currency, policy, kind, coalesce(unit, ''),
       {_SUMS_OF_ENTRIES}, sum(credits), count(*)
FROM (
    SELECT *, (%(before)s + rank() OVER (ORDER BY position) - 1) / %(step)s AS rung FROM (
        SELECT position, accounting_date, currency, policy, kind, unit, credits, amount_minor, functional_minor
        FROM entries WHERE ledger = %(ledger)s AND customer = %(customer)s
          AND position > %(after)s AND position <= %(through)s
        ORDER BY position FETCH FIRST %(limit)s ROWS WITH TIES
    ) AS following
) AS numbered
GROUP BY 1, 3, 4, 5, 6, 7 ORDER BY 1
"""
DAYS_OF_A_LEDGER: Final = f"""
-- The recorded days of a ledger from one on, each with its positions, its rows of totals, and whether it is over.
SELECT d.recorded_date, d.totals, {first_of("d.recorded_date", ledger="%(ledger)s")},
       {last_of("d.recorded_date", ledger="%(ledger)s")},
       d.recorded_date < (SELECT (recorded_at AT TIME ZONE 'UTC')::date FROM ledgers WHERE ledger = %(ledger)s)
FROM (SELECT recorded_date, count(*) AS totals FROM ledger_days
      WHERE ledger = %(ledger)s AND recorded_date >= %(from)s GROUP BY recorded_date) AS d
ORDER BY d.recorded_date
"""
OF_DAYS: Final = """
-- The day totals recorded between two days, both inclusive, by accounting date and kind.
SELECT accounting_date, currency, policy, kind, '', sum(written_minor), sum(mirrored_minor),
       sum(functional_written_minor), sum(functional_mirrored_minor), 0::numeric, sum(entries)::bigint
FROM ledger_days WHERE ledger = %(ledger)s AND recorded_date BETWEEN %(first)s AND %(last)s
GROUP BY 1, 2, 3, 4
"""
OF_POSITIONS: Final = f"""
-- The entries of some positions, the first exclusive, by accounting date and kind.
SELECT accounting_date, currency, policy, kind, '', {_SUMS_OF_ENTRIES}, 0::numeric, count(*)
FROM entries WHERE ledger = %(ledger)s AND position > %(after)s AND position <= %(through)s
GROUP BY 1, 2, 3, 4
"""


def rungs_of_customer(
    connection: AnyConnection, ledger: str, customer: str, *, after: int = 0, before: int = 0,
    through: int = _EVERYTHING, limit: int = _ENTRIES_AT_ONCE,
) -> Iterator[Rung]:  # fmt: skip
    """The places after one at which ``before`` entries were complete, among the next ``limit`` entries.

    A place holds ``OF_CUSTOMER`` entries or more: an event is never split, however many blocks it draws on.
    """
    parameters = {"ledger": ledger, "customer": customer, "after": after, "before": before, "through": through,
                  "limit": limit, "step": OF_CUSTOMER}  # fmt: skip
    for number, group in groupby(rows(connection, OF_A_CUSTOMER, parameters), key=lambda row: row[0]):
        found = list(group)
        before += sum(row[-1] for row in found)
        if before >= (number + 1) * OF_CUSTOMER:
            yield Rung(position=max(row[1] for row in found), gained=_by_day(row[2:] for row in found))


def rungs_of_ledger(
    connection: AnyConnection, ledger: str, *, after: Rung | None = None, limit: int = _ENTRIES_AT_ONCE
) -> Iterator[Rung]:
    """The places after one, until about ``limit`` entries had to be read for them."""
    last = after or Rung(position=0, recorded_date=date.min, day_is_over=True)
    start = last.recorded_date or date.min
    totals = read = 0
    for day, of_day, first, through, is_over in rows(connection, DAYS_OF_A_LEDGER, {"ledger": ledger, "from": start}):
        if day == start and last.day_is_over:
            continue
        # A place inside a day has used up that day's rows, whether this reader left it or an earlier one.
        totals = 0 if day == start else totals + of_day
        busy = through - first >= INSIDE_A_DAY
        inside = range(first - 1 + INSIDE_A_DAY, through, INSIDE_A_DAY) if busy else ()
        ends = [Rung(position=p, recorded_date=day) for p in inside if p > last.position]
        if is_over and (busy or totals >= DAY_ROWS):
            ends.append(Rung(position=through, recorded_date=day, day_is_over=True))
        for end in ends:
            gained = _between(connection, ledger, last, end, first)
            if not gained:  # events without entries: rates
                continue
            yield msgspec.structs.replace(end, gained=gained)
            read += end.position - max(last.position, first - 1) if busy else 0
            last, totals = end, 0
            if read >= limit:
                return


def _between(connection: AnyConnection, ledger: str, last: Rung, end: Rung, first: int) -> dict[date, dict[Key, Sums]]:
    """What was recorded from one rung to the next; ``first`` is the first position of the second one's day."""
    last_day, end_day = last.day, end.day
    found: list[Any] = []
    same_day = last_day == end_day
    whole = end_day if end.day_is_over and not same_day else end_day - timedelta(days=1)
    if last_day < whole:
        days = {"ledger": ledger, "first": last_day + timedelta(days=1), "last": whole}
        found += rows(connection, OF_DAYS, days)
    if same_day or not end.day_is_over:
        positions = {"ledger": ledger, "after": max(last.position, first - 1), "through": end.position}
        found += rows(connection, OF_POSITIONS, positions)
    return _by_day(found)


def _by_day(found: Iterable[Any]) -> dict[date, dict[Key, Sums]]:
    gained: dict[date, dict[Key, Sums]] = {}
    for day, currency, policy, kind, unit, *sums in found:
        of_day = gained.setdefault(day, {})
        of_day.update(_plus(of_day, {(currency, policy, kind, unit): tuple(sums)}))
    return gained


# --- keeping them ---------------------------------------------------------------------------------------------

LAST: Final = """
-- The last snapshot of a customer or a ledger, and how many entries it has. Its row is locked against a rebuild that
-- drops it: what is added to snapshots that are gone would be sums of nothing.
SELECT s.position, s.recorded_date, s.day_is_over, (
           SELECT sum(e.entries)::bigint FROM snapshots e
           WHERE e.ledger = %(ledger)s AND e.customer = %(customer)s AND e.position = s.position
             AND e.accounting_date = s.accounting_date)
FROM snapshots s WHERE s.ledger = %(ledger)s AND s.customer = %(customer)s
ORDER BY s.position DESC, s.accounting_date DESC LIMIT 1 FOR KEY SHARE
"""
SOFAR: Final = """
-- What the snapshots through a position say of a day and the later ones, and of the last one before it. What others
-- have added since is left out: it is about to be added again.
SELECT DISTINCT ON (accounting_date, currency, policy, kind, unit)
       accounting_date, currency, policy, kind, unit, written_minor, mirrored_minor, functional_written_minor,
       functional_mirrored_minor, credits, entries
FROM snapshots WHERE ledger = %(ledger)s AND customer = %(customer)s AND position <= %(through)s
  AND accounting_date >= coalesce((SELECT max(accounting_date) FROM snapshots
                                   WHERE ledger = %(ledger)s AND customer = %(customer)s
                                     AND position <= %(through)s AND accounting_date < %(first)s), %(first)s)
ORDER BY accounting_date, currency, policy, kind, unit, position DESC
"""
KEEP: Final = """
INSERT INTO snapshots (ledger, customer, position, recorded_date, day_is_over, accounting_date, currency, policy, kind,
                       unit, written_minor, mirrored_minor, functional_written_minor, functional_mirrored_minor,
                       credits, entries)
SELECT %s, %s, * FROM unnest(%b::bigint[], %b::date[], %b::boolean[], %b::date[], %b::text[], %b::smallint[],
    %b::text[], %b::text[], %b::numeric[], %b::numeric[], %b::numeric[], %b::numeric[], %b::numeric[], %b::bigint[])
ON CONFLICT (ledger, customer, position, accounting_date, currency, policy, kind, unit) DO NOTHING
"""


def keep_more(database: Database, ledger: str, customer: str = LEDGER) -> int:
    """Adds the next snapshots of a customer, or of the ledger as a whole. Returns how many rows.

    Entries never change, so nothing of the log is locked: whoever does it at the same time writes the same rows.
    """
    with database.write() as connection:
        where: dict[str, Any] = {"ledger": ledger, "customer": customer}
        last = next(iter(rows(connection, LAST, where)), None)
        through = 0 if last is None else last[0]
        if customer == LEDGER:
            after = None if last is None else Rung(position=last[0], recorded_date=last[1], day_is_over=last[2])
            rungs = list(rungs_of_ledger(connection, ledger, after=after))
        else:
            complete = 0 if last is None else last[3]
            rungs = list(rungs_of_customer(connection, ledger, customer, after=through, before=complete))
        if not rungs:
            return 0
        sofar = Sofar()
        first = min(min(rung.gained) for rung in rungs)
        sofar.days = _by_day(rows(connection, SOFAR, {**where, "first": first, "through": through}))
        made = [row for rung in rungs for row in sofar.add(rung)]
        _keep(connection, ledger, customer, made)
    return len(made)


def _keep(connection: WriteConnection, ledger: str, customer: str, made: list[Row]) -> None:
    if made:
        columns = zip(
            *(
                (r.rung.position, r.rung.recorded_date, r.rung.day_is_over, r.accounting_date, *r.key, *r.sums)
                for r in made
            ),
            strict=True,
        )
        connection.execute(KEEP, (ledger, customer, *(list(column) for column in columns)))


# --- whether they are what the entries make them --------------------------------------------------------------

OWNERS: Final = """
-- Whose snapshots a ledger has, and the last place of each.
SELECT customer, max(position) FROM snapshots WHERE ledger = %(ledger)s GROUP BY customer ORDER BY customer
"""
KEPT: Final = """
-- The snapshots of a customer or a ledger.
SELECT position, accounting_date, currency, policy, kind, unit, recorded_date, day_is_over, written_minor,
       mirrored_minor, functional_written_minor, functional_mirrored_minor, credits, entries
FROM snapshots WHERE ledger = %(ledger)s AND customer = %(customer)s ORDER BY 1, 2, 3, 4, 5, 6
"""
DROP: Final = "DELETE FROM snapshots WHERE ledger = %s AND customer = %s"
_KEY_COLUMNS: Final = 6

Rows = dict[tuple[Any, ...], tuple[Any, ...]]
"""customer, position, accounting date and Key → the other columns."""


def kept_and_expected(connection: AnyConnection, ledger: str) -> Iterator[tuple[str, Rows, Rows]]:
    """By customer: the rows that are kept, and those of every place up to the last of them, made anew from the log."""
    for customer, last in rows(connection, OWNERS, {"ledger": ledger}):
        if customer == LEDGER:
            rungs = rungs_of_ledger(connection, ledger, limit=_EVERYTHING)
        else:
            rungs = rungs_of_customer(connection, ledger, customer, through=last, limit=_EVERYTHING)
        expected: Rows = {}
        sofar = Sofar()
        for rung in rungs:
            if rung.position > last:
                break
            for r in sofar.add(rung):
                key = (customer, rung.position, r.accounting_date, *r.key)
                expected[key] = (rung.recorded_date, rung.day_is_over, *r.sums)
        kept = {
            (customer, *row[:_KEY_COLUMNS]): tuple(row[_KEY_COLUMNS:])
            for row in rows(connection, KEPT, {"ledger": ledger, "customer": customer})
        }
        yield customer, kept, expected


def drop_wrong(connection: WriteConnection, ledger: str) -> int:
    """Drops the snapshots of every customer, or of the ledger, of which one is wrong. Returns how many rows.

    Readers leave new ones. For a rebuild, under the ledger's lock. A reader may be adding to what is dropped: the row
    that it adds to is locked (LAST), so its rows are there in the next round, and with none left nobody can add to one.
    """
    dropped = 0
    for customer, kept, expected in kept_and_expected(connection, ledger):
        while kept != expected and (gone := connection.execute(DROP, (ledger, customer)).rowcount):
            dropped += gone
    return dropped
