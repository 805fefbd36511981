"""Streams of the log, of all customers or of one share: in chunks, over one server-side cursor in binary.

A ledger's customers are divided into shares by a hash of their ids. A share can be replayed without the others. It
reads the events of its customers, those of the ledger as a whole, and transfers, which touch two customers.

Owns: the queries on events, entries and batches of a replay, and the share of each customer. Does not own: the columns
(``subledger/store/columns.py``), the fold (replay). Memory: a chunk of rows, whatever the length of the log.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from itertools import count, groupby
from operator import itemgetter
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from subledger.deciding.decide import POSTS
from subledger.errors import IntegrityFault, present
from subledger.store import columns
from subledger.store.columns import BatchRow, EntryRow, EventRow
from subledger.store.database import driver, without_nested_loops
from subledger.store.decision_text import text_of_plain_draw

CHUNK: Final = 1_000
OF_SEVERAL: Final = (*(type for type, kinds in POSTS.items() if "transfer_out" in kinds), "event.reversed")
"""Types of events that may change the wallets of two customers: the holder of credits, and the buyer of them."""

_ONCE: Final = {
    name: f"CASE WHEN n.number IS NULL OR n.number = 1 THEN e.{name} END" for name in ("data", "attributes", "decision")
}
"""The texts of an event. They are only in the row of its first entry, because a decision about 5,000 blocks has half a
megabyte, and 5,000 entries.
"""
EVENTS: Final = """
-- The events of a ledger in an interval of positions, in order, whether or not a batch holds them. One whose decision
-- is left to its entries comes once for each of them.
SELECT {columns}, {entries}
FROM events e LEFT JOIN entries n ON e.decision IS NULL AND n.ledger = e.ledger AND n.position = e.position
WHERE e.ledger = %(ledger)s AND e.position > %(after)s AND e.position <= %(through)s AND {which}
ORDER BY e.position, n.number
"""
WITH_ENTRIES: Final = """
-- The same, each event once for each of its entries.
SELECT {columns}, {entries}
FROM events e LEFT JOIN entries n ON n.ledger = e.ledger AND n.position = e.position
WHERE e.ledger = %(ledger)s AND e.position > %(after)s AND e.position <= %(through)s AND {which}
ORDER BY e.position, n.number
"""
WHOLE_EVENT: Final = f"SELECT {columns.EVENTS.selected('e')} FROM events e WHERE e.ledger = %s AND e.position = %s"
LEAVES: Final = """
-- Every leaf in order.
SELECT e.position, e.leaf FROM events e
WHERE e.ledger = %(ledger)s AND e.position > %(after)s AND e.position <= %(through)s ORDER BY e.position
"""
BATCHES: Final = f"""
-- The batches of a ledger that end in an interval of positions, in order.
SELECT {columns.BATCHES.selected("b")} FROM batches b
WHERE b.ledger = %(ledger)s AND b.last_position > %(after)s AND b.last_position <= %(through)s ORDER BY b.last_position
"""
DAYS: Final = """
-- The positions from which on the log was recorded on another day, in UTC.
SELECT first_position, recorded_on FROM (
    SELECT first_position, last_position, (recorded_at AT TIME ZONE 'UTC')::date AS recorded_on,
           lag((recorded_at AT TIME ZONE 'UTC')::date) OVER (ORDER BY last_position) AS before
    FROM batches WHERE ledger = %(ledger)s
) AS batch WHERE recorded_on IS DISTINCT FROM before ORDER BY last_position
"""
RECORDED_AT: Final = """
-- The moment at which a position was recorded.
SELECT recorded_at FROM batches WHERE ledger = %s AND last_position >= %s ORDER BY last_position LIMIT 1
"""
# The hash function is that of the server. It is the same on all servers of one version.
SHARE_OF: Final = "mod(hashtext({customer}) & 2147483647, {of})"

OF_THE_LEDGER: Final = """(e.customer IS NULL OR e.decision LIKE '%%"pool"%%' OR e.decision LIKE '%%"currency"%%')"""
"""Events that may change the ledger's own books: events with a movement that has a pool or a currency."""

EVERYTHING: Final = 2**62
_names = count()


_OF_SEVERAL: Final = ", ".join(f"'{type}'" for type in OF_SEVERAL)


class Share(msgspec.Struct, frozen=True, order=True):
    """One of ``of`` shares of a ledger's customers, numbered from 0. The first share also has the data without a
    customer.
    """

    number: int = 0
    of: int = 1

    @property
    def events(self) -> str:
        """The SQL condition on the events ``e`` that this share must read."""
        if self.of == 1:
            return "true"
        return f"({self.rows('e.customer')} OR e.customer IS NULL OR e.type IN ({_OF_SEVERAL}))"

    def rows(self, customer: str) -> str:
        """Returns the SQL condition on a row with its customer in a column."""
        if self.of == 1:
            return "true"
        return f"{SHARE_OF.format(customer=customer, of=self.of)} = {self.number}"


WHOLE: Final = Share()


class RecordedDays(msgspec.Struct, frozen=True):
    """The day (UTC) on which each position was recorded: first positions of runs of days, ascending, and the days."""

    firsts: Sequence[int] = ()
    days: Sequence[date] = ()

    def of(self, position: int) -> date | None:
        return self.run_of(position)[0]

    def run_of(self, position: int) -> tuple[date | None, int]:
        """Returns the day of a position, and the first position of the next day."""
        index = bisect_right(self.firsts, position)
        following = self.firsts[index] if index < len(self.firsts) else EVERYTHING
        return (self.days[index - 1] if index else None), following


def stream(connection: sa.Connection, query: str, parameters: Any = None) -> Iterator[list[tuple[Any, ...]]]:
    """Yields chunks of a query's rows, decoded from binary.

    The query is planned without nested loops, because the rows are the whole log or a large part of it.
    """
    within = driver(connection)
    with within.cursor(name=f"stream_{next(_names)}", binary=True) as cursor:
        with without_nested_loops(within):
            cursor.execute(query, parameters)  # declares the cursor, and with it the plan
        while rows := cursor.fetchmany(CHUNK):
            yield rows
            if len(rows) < CHUNK:
                break


def _interval(ledger: str, after: int, through: int) -> dict[str, Any]:
    return {"ledger": ledger, "after": after, "through": through}


def read_events(
    connection: sa.Connection, ledger: str, share: Share, after: int = 0, through: int = EVERYTHING
) -> Iterator[list[EventRow]]:
    """Yields chunks of the events that a share must read, in order, without their entries."""
    yield from read_events_where(connection, ledger, share.events, after, through)


def read_events_where(
    connection: sa.Connection, ledger: str, condition: str, after: int = 0, through: int = EVERYTHING
) -> Iterator[list[EventRow]]:
    """Yields chunks of the events that meet a condition, in order, without their entries."""
    for chunk in _events_with_rows(connection, EVENTS, ledger, condition, after, through):
        yield [logged for logged, _ in chunk]


def read_log(
    connection: sa.Connection, ledger: str, condition: str, after: int = 0, through: int = EVERYTHING
) -> Iterator[list[tuple[EventRow, list[EntryRow]]]]:
    """Yields chunks of events that meet a condition, in order, each with the rows of its entries."""
    return _events_with_rows(connection, WITH_ENTRIES, ledger, condition, after, through)


# A streamed row has the columns of an event, then those of one of its entries. It is split after the columns of the
# event.
_WIDTH: Final = len(columns.EVENTS.columns)
_NO_ENTRY: Final = (None,) * len(columns.ENTRIES.columns)
_DECISION: Final = columns.EVENTS.names.index("decision")
_position = itemgetter(columns.EVENTS.names.index("position"))


def _events_with_rows(
    connection: sa.Connection, query: str, ledger: str, which: str, after: int, through: int
) -> Iterator[list[tuple[EventRow, list[EntryRow]]]]:
    selected = columns.EVENTS.selected("e", **_ONCE)
    query = query.format(columns=selected, entries=columns.ENTRIES.selected("n"), which=which)

    def grouped(rows: list[tuple[Any, ...]]) -> list[tuple[EventRow, list[EntryRow]]]:
        return _grouped(rows, lambda position: _whole(connection, ledger, position))

    unfinished: list[tuple[Any, ...]] = []
    for rows in stream(connection, query, _interval(ledger, after, through)):
        rows = unfinished + rows
        last = _position(rows[-1])  # more of its entries may be in the next chunk
        cut = len(rows)
        while cut and _position(rows[cut - 1]) == last:
            cut -= 1
        rows, unfinished = rows[:cut], rows[cut:]
        if rows:
            yield grouped(rows)
    if unfinished:
        yield grouped(unfinished)


def _whole(connection: sa.Connection, ledger: str, position: int) -> tuple[Any, ...]:
    """Reads the row of an event whose first entry is missing because somebody has changed the log."""
    row: tuple[Any, ...] = present(driver(connection).execute(WHOLE_EVENT, (ledger, position)).fetchone(), "an event")
    return row


def _grouped(
    rows: list[tuple[Any, ...]], whole: Callable[[int], tuple[Any, ...]]
) -> list[tuple[EventRow, list[EntryRow]]]:
    found = []
    for _, group in groupby(rows, key=_position):
        same = list(group)
        of_entries = [row[_WIDTH:] for row in same]
        entries = [] if of_entries[0] == _NO_ENTRY else [EntryRow(*row) for row in of_entries]
        event = same[0][:_WIDTH]
        if entries and entries[0].number != 1:
            event = whole(entries[0].position)
        if event[_DECISION] is None:
            event = (*event[:_DECISION], _described(entries), *event[_DECISION + 1 :])
        found.append((EventRow(*event), entries))
    return found


def _described(entries: list[EntryRow]) -> str:
    """The decision in the row of the first entry; without entries, a text that no decision has."""
    return text_of_plain_draw(entries[0].policy if entries else 0, entries)


def read_leaves(connection: sa.Connection, ledger: str, after: int, through: int) -> Iterator[list[tuple[Any, ...]]]:
    """Yields chunks of (position, leaf)."""
    return stream(connection, LEAVES, _interval(ledger, after, through))


def read_batches(connection: sa.Connection, ledger: str, after: int, through: int) -> Iterator[BatchRow]:
    """Yields the batches that end in an interval, in order."""
    for rows in stream(connection, BATCHES, _interval(ledger, after, through)):
        for row in rows:
            yield BatchRow(*row)


def recorded_days(connection: sa.Connection, ledger: str) -> RecordedDays:
    """Returns the days on which the events of a ledger were recorded."""
    rows = driver(connection).execute(DAYS, {"ledger": ledger}).fetchall()
    return RecordedDays([first for first, _ in rows], [day for _, day in rows])


def recorded_at(connection: sa.Connection, ledger: str, position: int) -> datetime:
    """Returns the time at which a position was recorded. Raises IntegrityFault if no batch contains it."""
    row = driver(connection).execute(RECORDED_AT, (ledger, position)).fetchone()
    if row is None:
        raise IntegrityFault(f"no batch of ledger {ledger} holds position {position}", position=position)
    moment: datetime = row[0]
    return moment


class Members:
    """The customers of a share. Each customer is looked up on the server once, because only few look-ups are needed."""

    def __init__(self, connection: sa.Connection, share: Share) -> None:
        self._connection: sa.Connection | None = connection
        self.share = share
        self._known: dict[str | None, bool] = {None: share.number == 0}

    def ask(self, connection: sa.Connection) -> None:
        """Looks up over this connection from now on."""
        self._connection = connection

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_connection": None}

    def __contains__(self, customer: str | None) -> bool:
        if self.share.of == 1:
            return True
        known = self._known.get(customer)
        if known is None:
            connection = present(self._connection, "members of a share are looked up without a connection")
            query = f"SELECT {SHARE_OF.format(customer='%s::text', of=self.share.of)}"
            row = driver(connection).execute(query, (customer,)).fetchone()
            known = self._known[customer] = row is not None and row[0] == self.share.number
        return known
