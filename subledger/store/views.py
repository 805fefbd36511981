"""Points in time of a ledger: what ``known_at`` means, and questions that are answered from one.

Owns: which position a moment is, that an answer once given never changes, one statement a question. Does not own: the
questions (projections).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Protocol, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Connection

from subledger.errors import KnownAtInFuture, UnknownLedger
from subledger.events import format_time
from subledger.journal import Rules
from subledger.ledger import SETTINGS, LedgerState, state_of
from subledger.periods import end_of_day
from subledger.store.database import Database
from subledger.store.ledgers import Head, ledger_head, rules_of

Answer = TypeVar("Answer", covariant=True)


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """Expiries that are due and not recorded: their number, at most 10,000, and the time of the first.

    What such blocks have left is shown as the customer's until the sweep records the expiry.
    """

    count: int
    since: datetime | None


class PointInTime(msgspec.Struct, frozen=True, kw_only=True):
    """The books through the end of ``as_of``, as known at ``position``."""

    ledger: str
    head: Head
    as_of: date
    position: int
    known_at: datetime
    now: datetime
    """The ledger's: of a sandbox, its clock."""
    due: Due | None = None
    """Expiries due by the end of ``as_of`` and by now, which a sweep would record. None if the question names its
    ``known_at``: that answer never changes.
    """

    @property
    def at_head(self) -> bool:
        return self.position == self.head.position

    @property
    def moment(self) -> datetime:
        """When a block's status is looked at: the end of ``as_of``, or now where that is today."""
        state = self.head.state
        if self.as_of == state.today(self.now):
            return self.now
        return end_of_day(self.as_of, state.zone) - timedelta(microseconds=1)


class Question(Protocol[Answer]):
    """What can be asked of a point in time in one statement.

    ``query`` reads the row ``v`` (see POINT_IN_TIME) and has one row, of one column named ``found``.
    """

    @property
    def query(self) -> str: ...

    @property
    def parameters(self) -> Mapping[str, Any]: ...

    def answer(self, rules: Mapping[int, Rules], found: str) -> Answer: ...


class View(PointInTime, frozen=True, kw_only=True):
    """A point in time to ask several questions of: everything is answered from one snapshot."""

    database: Any
    connection: Any

    def ask(self, question: Question[Answer]) -> Answer:
        row = self.connection.exec_driver_sql(
            statement_of(question.query, _NOTHING_DUE),
            {**question.parameters, "ledger": self.ledger, "as_of": self.as_of, "position": self.position,
             "known_at": None},
        ).one()  # fmt: skip
        return question.answer(rules_of(self.database, self.connection, self.ledger), row.found)


POINT_IN_TIME: Final = f"""
-- One row: a ledger's head, and the last position recorded at or before a moment, with the day of its recording.
SELECT l.ledger, l.position AS head, l.recorded_at, l.answered_through, %(as_of)s::date AS as_of,
       k.position, k.recorded_date, k.position = l.position AS at_head,
       l.{", l.".join(SETTINGS)}
FROM ledgers l
CROSS JOIN LATERAL (
    SELECT l.position, (l.recorded_at AT TIME ZONE 'UTC')::date AS recorded_date
    WHERE coalesce(%(position)s::bigint >= l.position, %(known_at)s::timestamptz >= l.recorded_at, true)
    UNION ALL
    (SELECT b.last_position, (b.recorded_at AT TIME ZONE 'UTC')::date FROM batches b
     WHERE b.ledger = %(ledger)s AND b.recorded_at <= %(known_at)s::timestamptz AND %(known_at)s < l.recorded_at
     ORDER BY b.recorded_at DESC LIMIT 1)
    UNION ALL
    (SELECT %(position)s::bigint, (b.recorded_at AT TIME ZONE 'UTC')::date FROM batches b
     WHERE b.ledger = %(ledger)s AND b.last_position >= %(position)s::bigint AND %(position)s < l.position
     ORDER BY b.last_position LIMIT 1)
    UNION ALL
    SELECT 0, NULL
    LIMIT 1
) AS k
WHERE l.ledger = %(ledger)s
"""
# Two statements: an UPDATE that asks the clock cannot be sent to the server that has the ledger.
DUE_EXPIRIES: Final = """
-- How many open blocks of a ledger, a customer, or one block by its id, have expired by a moment, and the first; none
-- without a moment.
SELECT count(*)::integer AS due, min(expires_at) AS due_since FROM (
    SELECT expires_at FROM blocks b
    WHERE b.ledger = %(ledger)s AND b.is_open AND b.expires_at <= %(due_by)s::timestamptz
      AND (%(due_of)s::text IS NULL OR b.customer = %(due_of)s::text)
      AND (%(due_block)s::text IS NULL OR b.block_id = %(due_block)s::text)
    ORDER BY expires_at LIMIT 10000
) AS due_blocks
"""
MAY_ANSWER: Final = """
-- Up to when a ledger may be asked about; waits for the batch in flight.
SELECT greatest(clock_timestamp(), answered_through) FROM ledgers WHERE ledger = %s FOR UPDATE
"""
PROMISE: Final = """
-- No batch may be recorded at or before a moment that has been answered.
UPDATE ledgers SET answered_through = greatest(answered_through, %s) WHERE ledger = %s
"""


@lru_cache
def statement_of(query: str, due: str = DUE_EXPIRIES) -> str:
    """The statement of a question, or of a point in time alone: in either case with its settings, and what is due."""
    return f"""
WITH v AS MATERIALIZED ({POINT_IN_TIME}), answer AS ({query}), expiries AS ({due})
SELECT v.recorded_at, v.answered_through, answer.found, v.head, v.position, v.ledger, expiries.due,
       expiries.due_since, v.{", v.".join(SETTINGS)}
FROM v, answer, expiries
"""


_NOTHING_ASKED: Final = "SELECT NULL::text AS found"
_NOTHING_DUE: Final = "SELECT 0 AS due, NULL::timestamptz AS due_since"
"""For the later questions of a view: it has been told what is due."""


def ask(
    database: Database, ledger: str, question: Question[Answer], *, now: datetime, as_of: date | None = None,
    known_at: datetime | None = None, customer: str | None = None,
) -> tuple[PointInTime, Answer]:  # fmt: skip
    """One question of a point in time, in one round trip; the point in time is as ``view`` has it.

    Raises UnknownLedger, KnownAtInFuture, and what the question raises.
    """
    parameters = {**question.parameters, **_asked_of(database, ledger, now, as_of, known_at, customer)}

    def asked() -> Any:
        return database.ask(statement_of(question.query), parameters)

    row = _promised(database, ledger, known_at, asked)
    at = PointInTime(**_point(row, parameters["as_of"], known_at, now))
    rules = database.rules.get(ledger, {})
    if at.head.state.policy not in rules:
        with database.read() as connection:
            rules = rules_of(database, connection, ledger)
    return at, question.answer(rules, row[2])


@contextmanager
def view(
    database: Database, ledger: str, *, now: datetime, as_of: date | None = None, known_at: datetime | None = None,
    customer: str | None = None,
) -> Iterator[View]:  # fmt: skip
    """A point in time of a ledger. ``as_of`` defaults to today where the ledger lives, ``known_at`` to its head.

    An answer once given never changes: a moment later than the head's is promised before it is answered, so that
    no later batch can be recorded at or before it. What is ``due`` is counted of one ``customer``, or of all.
    Raises UnknownLedger, KnownAtInFuture.
    """
    parameters = _asked_of(database, ledger, now, as_of, known_at, customer)
    if known_at is not None:
        _promised(database, ledger, known_at, lambda: database.ask(statement_of(_NOTHING_ASKED), parameters))
    with database.read() as connection:
        rows = connection.exec_driver_sql(statement_of(_NOTHING_ASKED), parameters).all()
        row = _promised(database, ledger, known_at, lambda: rows)
        yield View(database=database, connection=connection, **_point(row, parameters["as_of"], known_at, now))


def _point(row: Any, as_of: date, known_at: datetime | None, now: datetime) -> dict[str, Any]:
    """The members of a point in time, of a row of ``statement_of``."""
    recorded_at, _answered_through, _found, head, position, ledger, due, due_since, *settings = row
    state = state_of(ledger, *settings)
    return {
        "due": None if known_at is not None else Due(count=due, since=due_since),
        "ledger": ledger, "head": Head(state=state, position=head, recorded_at=recorded_at),
        "as_of": as_of, "position": position, "known_at": known_at or recorded_at, "now": state.now(now),
    }  # fmt: skip


def due_expiries(
    connection: Connection, state: LedgerState, *, now: datetime, as_of: date | None = None,
    customer: str | None = None, block: str | None = None,
) -> Due:  # fmt: skip
    """The expiries that are due and not recorded by the ledger's now, and by the end of a day."""
    due_by = _due_by(state.now(now), state.zone, as_of)
    parameters = {"ledger": state.ledger, "due_by": due_by, "due_of": customer, "due_block": block}
    row = connection.exec_driver_sql(DUE_EXPIRIES, parameters).one()
    return Due(count=row.due, since=row.due_since)


def _due_by(now: datetime, zone: ZoneInfo, as_of: date | None) -> datetime:
    return now if as_of is None else min(now, end_of_day(as_of, zone) - timedelta(microseconds=1))


def _asked_of(
    database: Database, ledger: str, now: datetime, as_of: date | None, known_at: datetime | None, customer: str | None
) -> dict[str, Any]:
    """Parameters of every point-in-time query. ``as_of`` defaults to today in the ledger's time zone."""
    zone = database.zones.get(ledger)
    if zone is None:
        with database.read() as connection:
            state = ledger_head(connection, ledger).state
        zone, now = state.zone, state.now(now)
        if not state.sandbox:  # the clock of a sandbox moves: its row is asked each time
            database.zones[ledger] = zone
    day = as_of or now.astimezone(zone).date()
    due_by = None if known_at is not None else _due_by(now, zone, day)
    return {
        "ledger": ledger, "as_of": day, "known_at": known_at, "position": None, "due_by": due_by, "due_of": customer,
        "due_block": None,
    }  # fmt: skip


def _promised(database: Database, ledger: str, known_at: datetime | None, asked: Callable[[], Sequence[Any]]) -> Any:
    """The row asked for; asked again after a promise, where nothing yet keeps a batch from changing the answer."""
    rows = asked()
    if not rows:
        raise UnknownLedger(f"there is no ledger {ledger}", field="ledger", found=ledger)
    recorded_at, answered_through = rows[0][:2]
    if known_at is None or known_at <= recorded_at or (answered_through is not None and known_at <= answered_through):
        return rows[0]
    with database.write() as writing:
        row = writing.execute(MAY_ANSWER, (ledger,)).fetchone()
        if row is None or known_at > row[0]:
            raise KnownAtInFuture(
                f"{format_time(known_at)} has not come yet",
                field="known_at",
                expected="a moment that has passed",
                found=format_time(known_at),
            )
        writing.execute(PROMISE, (known_at, ledger))
    return asked()[0]
