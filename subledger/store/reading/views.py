"""Points in time of a ledger (``as_of``, ``known_at``), and answers to questions at a point in time.

Owns: the position of a moment, the promise that an answer never changes, and the use of one statement for a question.
Does not own: the questions (projections).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from functools import cached_property, lru_cache
from typing import Any, Final, Protocol, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import Connection

from subledger.errors import KnownAtInFuture, UnknownLedger
from subledger.events.envelope import format_time
from subledger.kinds import Rules
from subledger.ledger import SETTINGS, LedgerState, state_of
from subledger.periods import end_of_day
from subledger.store.database import Database
from subledger.store.reading.in_force import ADOPTED, known_rules, rules_of, settings_at
from subledger.store.reading.ledgers import Head, ledger_head

Answer = TypeVar("Answer", covariant=True)


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """Expiries that are due and not recorded: their number, at most 10,000, and the time of the first.

    The remaining credits of such blocks are shown as the customer's until the sweep records the expiry.
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
    """The ledger's now; for a sandbox, the time of its clock."""
    due: Due | None = None
    """Expiries due by the end of ``as_of`` and by now, which a sweep would record. None if the question has a
    ``known_at``, because its answer never changes.
    """

    @property
    def at_head(self) -> bool:
        return self.position == self.head.position

    @property
    def names_known_at(self) -> bool:
        """True if the question has a ``known_at``. Then its answer never changes."""
        return self.due is None

    @property
    def zone(self) -> ZoneInfo:
        """The ledger's time zone, which never changes."""
        return self.head.state.zone

    @property
    def functional_currency(self) -> str:
        """The ledger's functional currency, which never changes."""
        return self.head.state.functional_currency


class Question(Protocol[Answer]):
    """A question that one statement answers at a point in time.

    ``query`` reads the row ``v`` (see POINT_IN_TIME) and has one row, of one column named ``found``.
    """

    @property
    def query(self) -> str: ...

    @property
    def parameters(self) -> Mapping[str, Any]: ...

    def answer(self, rules: Mapping[int, Rules], found: str) -> Answer: ...


class View(PointInTime, frozen=True, kw_only=True, dict=True):
    """A point in time for several questions, which are answered from one snapshot.

    Rules and settings are those in force at the view. ``head`` has the current settings, which may differ.
    """

    database: Any
    connection: Any

    @cached_property
    def rules(self) -> dict[int, Rules]:
        """The posting rules of every policy that the ledger had adopted, by the policy's number."""
        return rules_of(self.database, self.connection, self.ledger, through=self.position)

    @cached_property
    def settings(self) -> LedgerState:
        """The ledger's settings, as known at the view."""
        return self.head.state if self.at_head else settings_at(self.connection, self.ledger, self.position)

    @cached_property
    def moment(self) -> datetime:
        """The moment of a block's status: the end of ``as_of``, or the ledger's now if that is earlier.

        The now is that of the view. So in an answer with a ``known_at`` the status does not change with the clock.
        """
        now = self.settings.now(self.known_at) if self.names_known_at else self.now
        return min(now, _last_moment(self.as_of, self.zone))

    def ask(self, question: Question[Answer]) -> Answer:
        row = self.connection.exec_driver_sql(
            statement_of(question.query, _NOTHING_DUE),
            {
                **question.parameters,
                "ledger": self.ledger,
                "as_of": self.as_of,
                "position": self.position,
                "known_at": None,
            },
        ).one()
        return question.answer(self.rules, row.found)


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
_ADOPTED: Final = ADOPTED.replace("%(through)s", "(SELECT position FROM v)")
# These are two statements, because Citus cannot send an UPDATE that reads the clock to the server of the ledger.
DUE_EXPIRIES: Final = """
-- The number of open blocks of a ledger, of a customer, or of one id that have expired by a moment, and the time of the
-- first expiry. Nothing is due without a moment.
SELECT count(*)::integer AS due, min(expires_at) AS due_since FROM (
    SELECT expires_at FROM blocks b
    WHERE b.ledger = %(ledger)s AND b.is_open AND b.expires_at <= %(due_by)s::timestamptz
      AND (%(due_of)s::text IS NULL OR b.customer = %(due_of)s::text)
      AND (%(due_block)s::text IS NULL OR b.block_id = %(due_block)s::text)
    ORDER BY expires_at LIMIT 10000
) AS due_blocks
"""
MAY_ANSWER: Final = """
-- The latest moment about which a ledger may be asked. The statement waits for a running batch.
SELECT greatest(clock_timestamp(), answered_through) FROM ledgers WHERE ledger = %s FOR UPDATE
"""
PROMISE: Final = """
-- Ensures that no batch is recorded at or before a moment for which an answer was given.
UPDATE ledgers SET answered_through = greatest(answered_through, %s) WHERE ledger = %s
"""


@lru_cache
def statement_of(query: str, due: str = DUE_EXPIRIES) -> str:
    """Returns the statement of a question, or of a point in time alone. Both also read the settings and the due
    expiries.
    """
    return f"""
WITH v AS MATERIALIZED ({POINT_IN_TIME}), answer AS ({query}), expiries AS ({due}), adopted AS ({_ADOPTED})
SELECT v.recorded_at, v.answered_through, answer.found, adopted.policies, v.head, v.position, v.ledger, expiries.due,
       expiries.due_since, v.{", v.".join(SETTINGS)}
FROM v, answer, expiries, adopted
"""


_NOTHING_DUE: Final = "SELECT 0 AS due, NULL::timestamptz AS due_since"
"""Replaces the due expiries in the later questions of a view, because the first question has read them."""
_NO_QUESTION: Final = statement_of("SELECT NULL::text AS found")


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a point in time; ``now`` is the database's clock."""

    ledger: str
    now: datetime
    as_of: date | None
    known_at: datetime | None
    customer: str | None

    def day(self, state: LedgerState) -> date:
        """The day ``as_of``; by default today in the ledger's time zone."""
        return self.as_of or state.today(self.now)

    def parameters(self, state: LedgerState) -> dict[str, Any]:
        """The parameters of every point-in-time query, for a ledger with these settings."""
        day = self.day(state)
        due_by = None if self.known_at is not None else _due_by(state.now(self.now), state.zone, day)
        return {
            "ledger": self.ledger,
            "as_of": day,
            "known_at": self.known_at,
            "position": None,
            "due_by": due_by,
            "due_of": self.customer,
            "due_block": None,
        }


def ask(
    database: Database,
    ledger: str,
    question: Question[Answer],
    *,
    now: datetime,
    as_of: date | None = None,
    known_at: datetime | None = None,
    customer: str | None = None,
) -> tuple[PointInTime, Answer]:
    """Answers one question at a point in time, in one round trip. ``view`` describes the choice of the point in time.

    Raises UnknownLedger, KnownAtInFuture, and the errors of the question.
    """
    request = _Request(ledger=ledger, now=now, as_of=as_of, known_at=known_at, customer=customer)
    query = statement_of(question.query)
    guess = database.states.get(ledger)
    if guess is not None:
        parameters = request.parameters(guess)
        row = _promised(database, request, lambda: database.ask(query, {**question.parameters, **parameters}))
        at, rules = PointInTime(**_point(row, request)), known_rules(database, ledger, row[3])
        database.states[ledger] = at.head.state
        if rules is not None and parameters == request.parameters(at.head.state):
            return at, question.answer(rules, row[2])
    # This process has not read the settings or rules yet, or they have changed. So all are read from one snapshot.
    with view(database, ledger, now=now, as_of=as_of, known_at=known_at, customer=customer) as opened:
        return opened, opened.ask(question)


@contextmanager
def view(
    database: Database,
    ledger: str,
    *,
    now: datetime,
    as_of: date | None = None,
    known_at: datetime | None = None,
    customer: str | None = None,
) -> Iterator[View]:
    """Opens a point in time of a ledger. ``as_of`` defaults to today in the ledger's time zone, ``known_at`` to its
    head.

    An answer never changes afterwards. For a moment after the head's, the moment is first promised in the database, so
    that no later batch can be recorded at or before it. Due expiries are counted for one ``customer``, or for all.
    Raises UnknownLedger, KnownAtInFuture.
    """
    request, query = _Request(ledger=ledger, now=now, as_of=as_of, known_at=known_at, customer=customer), _NO_QUESTION
    if known_at is not None:
        anyhow = request.parameters(LedgerState(ledger=ledger))
        _promised(database, request, lambda: database.ask(query, anyhow))
    with database.read() as connection:
        guess = database.states.get(ledger) or ledger_head(connection, ledger).state
        rows = connection.exec_driver_sql(query, request.parameters(guess)).all()
        row = _promised(database, request, lambda: rows)
        at = _point(row, request)
        state = database.states[ledger] = at["head"].state
        if request.parameters(state) != request.parameters(guess):
            at = _point(connection.exec_driver_sql(query, request.parameters(state)).one(), request)
        yield View(database=database, connection=connection, **at)


def _point(row: Any, request: _Request) -> dict[str, Any]:
    """Returns the fields of a point in time, from a row of ``statement_of``."""
    recorded_at, _answered_through, _found, _adopted, head, position, ledger, due, due_since, *settings = row
    state = state_of(ledger, *settings)
    return {
        "due": None if request.known_at is not None else Due(count=due, since=due_since),
        "ledger": ledger,
        "head": Head(state=state, position=head, recorded_at=recorded_at),
        "as_of": request.day(state),
        "position": position,
        "known_at": request.known_at or recorded_at,
        "now": state.now(request.now),
    }


def due_expiries(
    connection: Connection,
    state: LedgerState,
    *,
    now: datetime,
    as_of: date | None = None,
    customer: str | None = None,
    block: str | None = None,
) -> Due:
    """Returns the expiries that are due by the ledger's now and by the end of a day, and are not recorded."""
    due_by = _due_by(state.now(now), state.zone, as_of)
    parameters = {"ledger": state.ledger, "due_by": due_by, "due_of": customer, "due_block": block}
    row = connection.exec_driver_sql(DUE_EXPIRIES, parameters).one()
    return Due(count=row.due, since=row.due_since)


def _due_by(now: datetime, zone: ZoneInfo, as_of: date | None) -> datetime:
    return now if as_of is None else min(now, end_of_day(as_of, zone))  # expiry is exclusive


def _last_moment(day: date, zone: ZoneInfo) -> datetime:
    return end_of_day(day, zone) - timedelta(microseconds=1)


def _promised(database: Database, request: _Request, read: Callable[[], Sequence[Any]]) -> Any:
    """Returns the row of a point in time. After a promise it is read again, if a batch could have changed the answer
    meanwhile.
    """
    rows, ledger, known_at = read(), request.ledger, request.known_at
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
    return read()[0]
