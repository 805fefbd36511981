"""Streaming the log: in chunks, over one server-side cursor in binary, the whole of it or one share of the customers.

A ledger's customers are dealt into shares by a hash of their ids. What one share needs can be followed without the
others: a customer's events, those of the ledger as a whole, and transfers, which touch two customers.

Owns: the queries on events, entries and batches of a replay, and who belongs to which share. Does not own: the fold
(replay). Memory: a chunk of rows, whatever the length of the log.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from itertools import count, groupby
from operator import itemgetter
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from subledger.errors import IntegrityFault, present
from subledger.events.envelope import Event, stored_event
from subledger.kinds import Dimensions, Entry
from subledger.store.database import driver, without_nested_loops
from subledger.store.writing.log import said_by_entries

CHUNK: Final = 1_000
TRANSFER: Final = "credits.transferred"

_EVENT_COLUMNS: Final = (
    "e.position, e.source, e.event_id, e.type, e.customer, e.occurred_at, e.data, e.attributes, e.decision, e.leaf"
)
_ENTRY_COLUMNS: Final = """n.number, n.policy, n.kind, n.customer, n.block_id, n.unit, n.credits, n.amount_minor,
       n.currency, n.functional_minor, n.accounting_date, n.effective_date, n.cut, n.dimension_set"""
EVENTS: Final = """
-- The events of a ledger in an interval of positions, in order, whether or not a batch holds them. Those whose entries
-- say what was decided come as often as they have entries.
SELECT {columns}, {entries}
FROM events e LEFT JOIN entries n ON e.decision IS NULL AND n.ledger = e.ledger AND n.position = e.position
WHERE e.ledger = %(ledger)s AND e.position > %(after)s AND e.position <= %(through)s AND {which}
ORDER BY e.position, n.number
"""
WITH_ENTRIES: Final = """
-- The same, each as often as it has entries.
SELECT {columns}, {entries}
FROM events e LEFT JOIN entries n ON n.ledger = e.ledger AND n.position = e.position
WHERE e.ledger = %(ledger)s AND e.position > %(after)s AND e.position <= %(through)s AND {which}
ORDER BY e.position, n.number
"""
LEAVES: Final = """
-- Every leaf in order.
SELECT e.position, e.leaf FROM events e
WHERE e.ledger = %(ledger)s AND e.position > %(after)s AND e.position <= %(through)s ORDER BY e.position
"""
BATCHES: Final = """
-- The batches of a ledger that end in an interval of positions, in order.
SELECT last_position, first_position, recorded_at, root, previous_hash, hash FROM batches
WHERE ledger = %(ledger)s AND last_position > %(after)s AND last_position <= %(through)s ORDER BY last_position
"""
DAYS: Final = """
-- From which positions on the log was recorded on another day, in UTC.
SELECT first_position, recorded_on FROM (
    SELECT first_position, last_position, (recorded_at AT TIME ZONE 'UTC')::date AS recorded_on,
           lag((recorded_at AT TIME ZONE 'UTC')::date) OVER (ORDER BY last_position) AS before
    FROM batches WHERE ledger = %(ledger)s
) AS batch WHERE recorded_on IS DISTINCT FROM before ORDER BY last_position
"""
RECORDED_AT: Final = """
-- When a position was recorded.
SELECT recorded_at FROM batches WHERE ledger = %s AND last_position >= %s ORDER BY last_position LIMIT 1
"""
# The same on any server of one version; it is asked of the server, and so need not be known here.
SHARE_OF: Final = "mod(hashtext({customer}) & 2147483647, {of})"

OF_THE_LEDGER: Final = """(e.customer IS NULL OR e.decision LIKE '%%"pool"%%' OR e.decision LIKE '%%"currency"%%')"""
"""Events that may change what belongs to the ledger as a whole: a movement there has a pool or a currency."""

EVERYTHING: Final = 2**62
_names = count()


class Share(msgspec.Struct, frozen=True, order=True):
    """One of so many shares of a ledger's customers, numbered from 0. The first also has what no customer owns."""

    number: int = 0
    of: int = 1

    @property
    def events(self) -> str:
        """The condition on an event ``e`` that this share must see."""
        if self.of == 1:
            return "true"
        return f"({self.rows('e.customer')} OR e.customer IS NULL OR e.type = '{TRANSFER}')"

    def rows(self, customer: str) -> str:
        """The condition on a row whose customer is this column."""
        if self.of == 1:
            return "true"
        return f"{SHARE_OF.format(customer=customer, of=self.of)} = {self.number}"


WHOLE: Final = Share()


class Logged(msgspec.Struct, frozen=True, gc=False):
    """One event of the log as stored: its texts have not been read."""

    position: int
    source: str
    event_id: str
    type: str
    customer: str | None
    occurred_at: datetime
    data_text: str
    attributes_text: str | None
    decision_text: str
    leaf: bytes

    def read(self) -> Event:
        """The event, with its data."""
        return stored_event(
            source=self.source, event_id=self.event_id, type=self.type, customer=self.customer,
            occurred_at=self.occurred_at, data_text=self.data_text, attributes_text=self.attributes_text,
        )  # fmt: skip

    def event(self, data: Any = None) -> Event:
        """The event, its data not read but given: for its hash none is needed."""
        return Event(
            source=self.source, event_id=self.event_id, type=self.type, customer=self.customer,
            occurred_at=self.occurred_at, data=data, data_text=self.data_text, attributes_text=self.attributes_text,
        )  # fmt: skip


class RecordedDays(msgspec.Struct, frozen=True):
    """On which day (UTC) each position was recorded: the first positions of runs of days, ascending, with the days."""

    firsts: Sequence[int] = ()
    days: Sequence[date] = ()

    def of(self, position: int) -> date | None:
        return self.run_of(position)[0]

    def run_of(self, position: int) -> tuple[date | None, int]:
        """The day, and the first position of the next one."""
        index = bisect_right(self.firsts, position)
        following = self.firsts[index] if index < len(self.firsts) else EVERYTHING
        return (self.days[index - 1] if index else None), following


def stream(connection: sa.Connection, query: str, parameters: Any = None) -> Iterator[list[tuple[Any, ...]]]:
    """Chunks of a query's rows, decoded from binary.

    Planned without nested loops, as it is the whole log or a large part of it.
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
) -> Iterator[list[Logged]]:
    """Chunks of the events that a share must see, in order, without their entries."""
    yield from read_events_where(connection, ledger, share.events, after, through)


def read_events_where(
    connection: sa.Connection, ledger: str, which: str, after: int = 0, through: int = EVERYTHING
) -> Iterator[list[Logged]]:
    """Chunks of the events that meet a condition, in order, without their entries."""
    for chunk in _events_with_rows(connection, EVENTS, ledger, which, after, through):
        yield [logged for logged, _ in chunk]


_EVENT_WIDTH: Final = len(Logged.__struct_fields__)
_DECISION: Final = Logged.__struct_fields__.index("decision_text")
_position = itemgetter(0)


def read_log(
    connection: sa.Connection, ledger: str, which: str, after: int = 0, through: int = EVERYTHING
) -> Iterator[list[tuple[Logged, list[tuple[Any, ...]]]]]:
    """Chunks of events that meet a condition, each with the rows of its entries, in order."""
    return _events_with_rows(connection, WITH_ENTRIES, ledger, which, after, through)


def _events_with_rows(
    connection: sa.Connection, query: str, ledger: str, which: str, after: int, through: int
) -> Iterator[list[tuple[Logged, list[tuple[Any, ...]]]]]:
    query = query.format(columns=_EVENT_COLUMNS, entries=_ENTRY_COLUMNS, which=which)
    held: list[tuple[Any, ...]] = []
    for rows in stream(connection, query, _interval(ledger, after, through)):
        rows = held + rows
        last = rows[-1][0]  # its entries may go on in the next chunk
        cut = len(rows)
        while cut and rows[cut - 1][0] == last:
            cut -= 1
        rows, held = rows[:cut], rows[cut:]
        if rows:
            yield _grouped(rows)
    if held:
        yield _grouped(held)


def _grouped(rows: list[tuple[Any, ...]]) -> list[tuple[Logged, list[tuple[Any, ...]]]]:
    found = []
    for _, group in groupby(rows, key=_position):
        same = list(group)
        entries = [row[_EVENT_WIDTH:] for row in same if row[_EVENT_WIDTH] is not None]
        event = same[0][:_EVENT_WIDTH]
        if event[_DECISION] is None:
            event = (*event[:_DECISION], _said(entries), *event[_DECISION + 1 :])
        found.append((Logged(*event), entries))
    return found


def _said(entries: list[tuple[Any, ...]]) -> str:
    """The decision that entries say; of none, what nobody can have decided."""
    policy = entries[0][1] if entries else 0
    return said_by_entries(policy, [(n[7], n[4], n[6], n[2], n[10]) for n in entries])


def stored_entry(row: tuple[Any, ...], dimensions: Dimensions) -> Entry:
    """A row of ``entries`` (from its number on) as an entry, given what its dimension set stands for."""
    return Entry(
        number=row[0], policy=row[1], kind=row[2], customer=row[3], block_id=row[4], unit=row[5], credits=row[6],
        amount_minor=row[7], currency=row[8], functional_minor=row[9], accounting_date=row[10],
        effective_date=row[11], cut=row[12], dimensions=dimensions,
    )  # fmt: skip


def read_leaves(connection: sa.Connection, ledger: str, after: int, through: int) -> Iterator[list[tuple[Any, ...]]]:
    """Chunks of (position, leaf)."""
    return stream(connection, LEAVES, _interval(ledger, after, through))


class BatchRow(msgspec.Struct, frozen=True, gc=False):
    """A row of ``batches``."""

    last_position: int
    first_position: int
    recorded_at: datetime
    root: bytes
    previous_hash: bytes
    hash: bytes


def read_batches(connection: sa.Connection, ledger: str, after: int, through: int) -> Iterator[BatchRow]:
    """The batches that end in an interval, in order."""
    for rows in stream(connection, BATCHES, _interval(ledger, after, through)):
        for row in rows:
            yield BatchRow(*row)


def recorded_days(connection: sa.Connection, ledger: str) -> RecordedDays:
    """The days on which a ledger was recorded: as many runs as there were days."""
    rows = driver(connection).execute(DAYS, {"ledger": ledger}).fetchall()
    return RecordedDays([first for first, _ in rows], [day for _, day in rows])


def recorded_at(connection: sa.Connection, ledger: str, position: int) -> datetime:
    """The moment of a position. Raises IntegrityFault if no batch holds it."""
    row = driver(connection).execute(RECORDED_AT, (ledger, position)).fetchone()
    if row is None:
        raise IntegrityFault(f"no batch of ledger {ledger} holds position {position}", position=position)
    moment: datetime = row[0]
    return moment


class Members:
    """Which customers belong to a share; asked of the server, and remembered for the few that are asked about."""

    def __init__(self, connection: sa.Connection, share: Share) -> None:
        self._connection: sa.Connection | None = connection
        self.share = share
        self._known: dict[str | None, bool] = {None: share.number == 0}

    def ask(self, connection: sa.Connection) -> None:
        """From here on asks over this connection."""
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
