"""Balance snapshots: stored sums that make the balances of a customer or a ledger with many entries fast to read.

A snapshot belongs to a position, and has several accounting dates. For each date it has the sums by kind of the entries
that are recorded through the position and booked through the date. So a balance at (as-of, known-at) is one date of one
snapshot plus the entries after it.

The first date of a snapshot is the earliest accounting date of the entries since the previous snapshot. Earlier dates
are read from previous snapshots. So an entry that is recorded late changes no stored row.

The positions of snapshots follow from the log alone. So a reader who finds too few snapshots adds the next ones in
order, and two readers at the same time write the same rows. The positions are:

- for a customer: the event that completes another ``OF_CUSTOMER`` entries;
- for a ledger: the end of a recorded day that completes ``DAY_ROWS`` rows of day totals; in a day with many events,
  every ``INSIDE_A_DAY`` positions, and the end of the day.

Owns: the table ``snapshots``. Does not own: reading balances from it (balances), its verification (integrity).
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
"""The value of ``customer`` in snapshots of the ledger as a whole."""

# Maximum number of entries that one reader adds, so that no reader waits long for the benefit of others.
_ENTRIES_AT_ONCE: Final = 262_144
_EVERYTHING: Final = (1 << 63) - 1

SumKey = tuple[str, int, str, str]
"""currency, policy, kind, unit."""
KindSums = tuple[Decimal | int, ...]
"""written, mirrored, both in the functional currency, credits, entries."""
SumsByKind = Mapping[SumKey, KindSums]


class SnapshotPoint(msgspec.Struct, frozen=True, kw_only=True):
    """A position that has a snapshot, and the sums of the entries since the snapshot before it, by accounting date.

    Only a ledger's snapshots have ``recorded_date``, the UTC day on which the position was recorded; ``day_is_over`` is
    true if the position is the last of that day.
    """

    position: int
    recorded_date: date | None = None
    day_is_over: bool = False
    added: dict[date, dict[SumKey, KindSums]] = {}

    @property
    def day(self) -> date:
        """The day on which a ledger's position was recorded. Raises IntegrityFault for a customer's snapshot."""
        return present(self.recorded_date, f"the snapshot at position {self.position} has no day")


class SnapshotRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table, without the ledger and the customer."""

    point: SnapshotPoint
    accounting_date: date
    key: SumKey
    sums: KindSums


class RunningSums:
    """The running sums through a position: for each accounting date, all entries booked through that date."""

    def __init__(self) -> None:
        self.days: dict[date, dict[SumKey, KindSums]] = {}

    def add(self, point: SnapshotPoint) -> Iterator[SnapshotRow]:
        """Adds the entries of the next snapshot; yields its rows in the order of their dates and keys."""
        first = min(point.added)
        through: SumsByKind = self.days.get(max((day for day in self.days if day < first), default=first), {})
        added: SumsByKind = {}
        for day in sorted({*point.added, *(day for day in self.days if day >= first)}):
            through = self.days.get(day, through)
            added = _plus(added, point.added.get(day, {}))
            self.days[day] = _plus(through, added)
            for key, sums in sorted(self.days[day].items()):
                yield SnapshotRow(point=point, accounting_date=day, key=key, sums=sums)


def _plus(one: SumsByKind, other: SumsByKind) -> dict[SumKey, KindSums]:
    total = dict(one)
    for key, sums in other.items():
        so_far = total.get(key)
        total[key] = sums if so_far is None else tuple(a + b for a, b in zip(so_far, sums, strict=True))
    return total


# --- positions of snapshots, and the sums between them --------------------------------------------------------

_SUMS_OF_ENTRIES: Final = """
    sum(greatest(amount_minor, 0))::numeric, sum(greatest(-amount_minor, 0))::numeric,
    sum(greatest(functional_minor, 0))::numeric, sum(greatest(-functional_minor, 0))::numeric
"""
OF_A_CUSTOMER: Final = f"""
-- The next entries of a customer, summed by snapshot, day and kind. A snapshot ends with a whole event.
SELECT snapshot, max(position), accounting_date, currency, policy, kind, coalesce(unit, ''),
       {_SUMS_OF_ENTRIES}, sum(credits), count(*)
FROM (
    SELECT *, (%(before)s + rank() OVER (ORDER BY position) - 1) / %(step)s AS snapshot FROM (
        SELECT position, accounting_date, currency, policy, kind, unit, credits, amount_minor, functional_minor
        FROM entries WHERE ledger = %(ledger)s AND customer = %(customer)s
          AND position > %(after)s AND position <= %(through)s
        ORDER BY position FETCH FIRST %(limit)s ROWS WITH TIES
    ) AS following
) AS numbered
GROUP BY 1, 3, 4, 5, 6, 7 ORDER BY 1
"""
DAYS_OF_A_LEDGER: Final = f"""
-- The recorded days of a ledger from one on: first and last position, number of day totals, true if it is over.
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


def points_of_customer(
    connection: AnyConnection,
    ledger: str,
    customer: str,
    *,
    after: int = 0,
    before: int = 0,
    through: int = _EVERYTHING,
    limit: int = _ENTRIES_AT_ONCE,
) -> Iterator[SnapshotPoint]:
    """Yields a customer's next snapshot positions among the ``limit`` entries after a position.

    ``before`` is the number of entries through the position ``after``. A snapshot sums at least ``OF_CUSTOMER``
    entries; it can have more, because the entries of one event are never split.
    """
    parameters = {
        "ledger": ledger,
        "customer": customer,
        "after": after,
        "before": before,
        "through": through,
        "limit": limit,
        "step": OF_CUSTOMER,
    }
    for number, group in groupby(rows(connection, OF_A_CUSTOMER, parameters), key=lambda row: row[0]):
        found = list(group)
        before += sum(row[-1] for row in found)
        if before >= (number + 1) * OF_CUSTOMER:
            yield SnapshotPoint(position=max(row[1] for row in found), added=_by_day(row[2:] for row in found))


def points_of_ledger(
    connection: AnyConnection, ledger: str, *, after: SnapshotPoint | None = None, limit: int = _ENTRIES_AT_ONCE
) -> Iterator[SnapshotPoint]:
    """Yields the ledger's snapshot positions after one, until about ``limit`` entries have been read."""
    last = after or SnapshotPoint(position=0, recorded_date=date.min, day_is_over=True)
    start = last.recorded_date or date.min
    totals = read = 0
    for day, of_day, first, through, is_over in rows(connection, DAYS_OF_A_LEDGER, {"ledger": ledger, "from": start}):
        if day == start and last.day_is_over:
            continue
        # After a snapshot inside a day the count of day totals starts again, also if an earlier reader added the
        # snapshot.
        totals = 0 if day == start else totals + of_day
        busy = through - first >= INSIDE_A_DAY
        inside = range(first - 1 + INSIDE_A_DAY, through, INSIDE_A_DAY) if busy else ()
        ends = [SnapshotPoint(position=p, recorded_date=day) for p in inside if p > last.position]
        if is_over and (busy or totals >= DAY_ROWS):
            ends.append(SnapshotPoint(position=through, recorded_date=day, day_is_over=True))
        for end in ends:
            added = _between(connection, ledger, last, end, first)
            if not added:  # events without entries: rates
                continue
            yield msgspec.structs.replace(end, added=added)
            read += end.position - max(last.position, first - 1) if busy else 0
            last, totals = end, 0
            if read >= limit:
                return


def _between(
    connection: AnyConnection, ledger: str, last: SnapshotPoint, end: SnapshotPoint, first: int
) -> dict[date, dict[SumKey, KindSums]]:
    """Returns the sums of entries between two snapshots; ``first`` is the first position of the second one's day."""
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


def _by_day(found: Iterable[Any]) -> dict[date, dict[SumKey, KindSums]]:
    added: dict[date, dict[SumKey, KindSums]] = {}
    for day, currency, policy, kind, unit, *sums in found:
        of_day = added.setdefault(day, {})
        of_day.update(_plus(of_day, {(currency, policy, kind, unit): tuple(sums)}))
    return added


# --- adding them ----------------------------------------------------------------------------------------------

LAST: Final = """
-- The last snapshot of a customer or a ledger, with its number of entries. The row is locked, so that a rebuild cannot
-- delete it meanwhile: snapshots added after a deleted one would lack the entries before it.
SELECT s.position, s.recorded_date, s.day_is_over, (
           SELECT sum(e.entries)::bigint FROM snapshots e
           WHERE e.ledger = %(ledger)s AND e.customer = %(customer)s AND e.position = s.position
             AND e.accounting_date = s.accounting_date)
FROM snapshots s WHERE s.ledger = %(ledger)s AND s.customer = %(customer)s
ORDER BY s.position DESC, s.accounting_date DESC LIMIT 1 FOR KEY SHARE
"""
RUNNING_SUMS: Final = """
-- The sums of the snapshots through a position: of a date, the later dates, and the last date before it. Rows that
-- others have added since are left out, as the same rows are about to be added here.
SELECT DISTINCT ON (accounting_date, currency, policy, kind, unit)
       accounting_date, currency, policy, kind, unit, written_minor, mirrored_minor, functional_written_minor,
       functional_mirrored_minor, credits, entries
FROM snapshots WHERE ledger = %(ledger)s AND customer = %(customer)s AND position <= %(through)s
  AND accounting_date >= coalesce((SELECT max(accounting_date) FROM snapshots
                                   WHERE ledger = %(ledger)s AND customer = %(customer)s
                                     AND position <= %(through)s AND accounting_date < %(first)s), %(first)s)
ORDER BY accounting_date, currency, policy, kind, unit, position DESC
"""
ADD: Final = """
INSERT INTO snapshots (ledger, customer, position, recorded_date, day_is_over, accounting_date, currency, policy, kind,
                       unit, written_minor, mirrored_minor, functional_written_minor, functional_mirrored_minor,
                       credits, entries)
SELECT %s, %s, * FROM unnest(%b::bigint[], %b::date[], %b::boolean[], %b::date[], %b::text[], %b::smallint[],
    %b::text[], %b::text[], %b::numeric[], %b::numeric[], %b::numeric[], %b::numeric[], %b::numeric[], %b::bigint[])
ON CONFLICT (ledger, customer, position, accounting_date, currency, policy, kind, unit) DO NOTHING
"""


def add_snapshots(database: Database, ledger: str, customer: str = LEDGER) -> int:
    """Adds the next snapshots of a customer, or of the ledger as a whole. Returns the number of rows.

    Entries never change, so the log is not locked: two processes that do this at the same time write the same rows.
    """
    with database.write() as connection:
        key: dict[str, Any] = {"ledger": ledger, "customer": customer}
        last = next(iter(rows(connection, LAST, key)), None)
        through = 0 if last is None else last[0]
        if customer == LEDGER:
            after = (
                None if last is None else SnapshotPoint(position=last[0], recorded_date=last[1], day_is_over=last[2])
            )
            points = list(points_of_ledger(connection, ledger, after=after))
        else:
            complete = 0 if last is None else last[3]
            points = list(points_of_customer(connection, ledger, customer, after=through, before=complete))
        if not points:
            return 0
        running = RunningSums()
        first = min(min(point.added) for point in points)
        running.days = _by_day(rows(connection, RUNNING_SUMS, {**key, "first": first, "through": through}))
        made = [row for point in points for row in running.add(point)]
        _add(connection, ledger, customer, made)
    return len(made)


def _add(connection: WriteConnection, ledger: str, customer: str, made: list[SnapshotRow]) -> None:
    if made:
        columns = zip(
            *(
                (r.point.position, r.point.recorded_date, r.point.day_is_over, r.accounting_date, *r.key, *r.sums)
                for r in made
            ),
            strict=True,
        )
        connection.execute(ADD, (ledger, customer, *(list(column) for column in columns)))


# --- comparing them with the entries --------------------------------------------------------------------------

OWNERS: Final = """
-- The customers that have snapshots (and '' for the ledger), each with the last position.
SELECT customer, max(position) FROM snapshots WHERE ledger = %(ledger)s GROUP BY customer ORDER BY customer
"""
STORED: Final = """
-- The snapshots of a customer or a ledger.
SELECT position, accounting_date, currency, policy, kind, unit, recorded_date, day_is_over, written_minor,
       mirrored_minor, functional_written_minor, functional_mirrored_minor, credits, entries
FROM snapshots WHERE ledger = %(ledger)s AND customer = %(customer)s ORDER BY 1, 2, 3, 4, 5, 6
"""
DROP: Final = "DELETE FROM snapshots WHERE ledger = %s AND customer = %s"
_KEY_COLUMNS: Final = 6

SnapshotRows = dict[tuple[Any, ...], tuple[Any, ...]]
"""customer, position, accounting date and SumKey → the other columns."""


def stored_and_expected(connection: AnyConnection, ledger: str) -> Iterator[tuple[str, SnapshotRows, SnapshotRows]]:
    """Yields by customer: the stored rows, and the rows computed from the log for every position through the last."""
    for customer, last in rows(connection, OWNERS, {"ledger": ledger}):
        if customer == LEDGER:
            points = points_of_ledger(connection, ledger, limit=_EVERYTHING)
        else:
            points = points_of_customer(connection, ledger, customer, through=last, limit=_EVERYTHING)
        expected: SnapshotRows = {}
        running = RunningSums()
        for point in points:
            if point.position > last:
                break
            for r in running.add(point):
                key = (customer, point.position, r.accounting_date, *r.key)
                expected[key] = (point.recorded_date, point.day_is_over, *r.sums)
        stored = {
            (customer, *row[:_KEY_COLUMNS]): tuple(row[_KEY_COLUMNS:])
            for row in rows(connection, STORED, {"ledger": ledger, "customer": customer})
        }
        yield customer, stored, expected


def drop_wrong(connection: WriteConnection, ledger: str) -> int:
    """Deletes all snapshots of a customer (or of the ledger) if one of them is wrong. Returns the number of deleted
    rows.

    A rebuild calls it under the ledger's lock. Readers add new snapshots later. A reader may also add snapshots at the
    same time. It locks the last row (LAST), so its rows are committed before the next round, which deletes them too.
    When no row is left, no reader can continue from a wrong one.
    """
    dropped = 0
    for customer, stored, expected in stored_and_expected(connection, ledger):
        while stored != expected and (deleted := connection.execute(DROP, (ledger, customer)).rowcount):
            dropped += deleted
    return dropped
