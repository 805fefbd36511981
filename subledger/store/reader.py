"""Reading the log: ledgers, points in time, events, entries, lines, proofs.

Owns: what ``known_at`` means, and pages of the log. Does not own: balances (projections).
A cursor is the place after which a page goes on; pages are found by key, never by counting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Protocol, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, text

from subledger import merkle
from subledger.accounts import Side
from subledger.errors import KnownAtInFuture, UnknownBlock, UnknownEntity, UnknownLedger, UnknownPosition
from subledger.events import format_time
from subledger.journal import Rules, expand
from subledger.ledger import SETTINGS, LedgerState, state_of
from subledger.posting import rules_from
from subledger.store.database import Database

Answer = TypeVar("Answer", covariant=True)


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger as it stands in a snapshot: its settings, its last position and moment."""

    state: LedgerState
    position: int
    recorded_at: datetime


class LedgerHead(Head, frozen=True, kw_only=True):
    """With the root of its tree and the hash of its last batch."""

    root: bytes
    batch_hash: bytes


class PointInTime(msgspec.Struct, frozen=True, kw_only=True):
    """The books through the end of ``as_of``, as known at ``position``."""

    ledger: str
    head: Head
    as_of: date
    position: int
    known_at: datetime
    now: datetime

    @property
    def at_head(self) -> bool:
        return self.position == self.head.position

    @property
    def moment(self) -> datetime:
        """When a block's status is looked at: the end of ``as_of``, or now where that is today."""
        zone = self.head.state.zone
        if self.as_of == self.now.astimezone(zone).date():
            return self.now
        following = self.as_of + timedelta(days=1)
        end = datetime(following.year, following.month, following.day, tzinfo=zone)
        return end.astimezone(UTC) - timedelta(microseconds=1)


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
            statement_of(question.query),
            {**question.parameters, "ledger": self.ledger, "as_of": self.as_of, "position": self.position,
             "known_at": None},
        ).one()  # fmt: skip
        return question.answer(rules_of(self.database, self.connection, self.ledger), row.found)


_SETTINGS: Final = ", ".join(f"l.{name}" for name in SETTINGS)

HEADS: Final = f"""
-- Ledgers with their settings and their heads.
SELECT l.ledger, {_SETTINGS},
       l.position, l.recorded_at, b.root, l.batch_hash, p.name AS policy_name
FROM ledgers l
JOIN batches b ON b.ledger = l.ledger AND b.last_position = l.position
JOIN posting_policies p ON p.ledger = l.ledger AND p.policy = l.policy
"""
POINT_IN_TIME: Final = f"""
-- One row: a ledger's head, and the last position recorded at or before a moment, with the day of its recording.
SELECT l.ledger, l.position AS head, l.recorded_at, l.answered_through, %(as_of)s::date AS as_of,
       k.position, k.recorded_date, k.position = l.position AS at_head,
       {_SETTINGS}
FROM ledgers l
CROSS JOIN LATERAL (
    SELECT l.position, (l.recorded_at AT TIME ZONE 'UTC')::date AS recorded_date
    WHERE coalesce(%(position)s::bigint >= l.position, %(known_at)s::timestamptz >= l.recorded_at, true)
    UNION ALL
    (SELECT b.last_position, (b.recorded_at AT TIME ZONE 'UTC')::date FROM batches b
     WHERE b.ledger = l.ledger AND b.recorded_at <= %(known_at)s::timestamptz AND %(known_at)s < l.recorded_at
     ORDER BY b.recorded_at DESC LIMIT 1)
    UNION ALL
    (SELECT %(position)s::bigint, (b.recorded_at AT TIME ZONE 'UTC')::date FROM batches b
     WHERE b.ledger = l.ledger AND b.last_position >= %(position)s::bigint AND %(position)s < l.position
     ORDER BY b.last_position LIMIT 1)
    UNION ALL
    SELECT 0, NULL
    LIMIT 1
) AS k
WHERE l.ledger = %(ledger)s
"""
# Two statements: an UPDATE that asks the clock cannot be sent to the server that has the ledger.
MAY_ANSWER: Final = """
-- Up to when a ledger may be asked about; waits for the batch in flight.
SELECT greatest(clock_timestamp(), answered_through) FROM ledgers WHERE ledger = %s FOR UPDATE
"""
PROMISE: Final = """
-- No batch may be recorded at or before a moment that has been answered.
UPDATE ledgers SET answered_through = greatest(answered_through, %s) WHERE ledger = %s
"""


def _head(row: Any) -> LedgerHead:
    return LedgerHead(
        state=state_of(row.ledger, *(getattr(row, name) for name in SETTINGS)),
        position=row.position,
        recorded_at=row.recorded_at,
        root=bytes(row.root),
        batch_hash=bytes(row.batch_hash),
    )


def ledger_head(connection: Connection, ledger: str) -> LedgerHead:
    """Raises UnknownLedger."""
    row = connection.execute(text(HEADS + " WHERE l.ledger = :ledger"), {"ledger": ledger}).one_or_none()
    if row is None:
        raise UnknownLedger(f"there is no ledger {ledger}", field="ledger", found=ledger)
    return _head(row)


def ledger_heads(connection: Connection, *, after: str, limit: int) -> list[tuple[LedgerHead, str]]:
    """Ledgers in order of id, each with the name of its posting policy."""
    query = text(HEADS + " WHERE l.ledger > :after ORDER BY l.ledger LIMIT :limit")
    return [(_head(row), row.policy_name) for row in connection.execute(query, {"after": after, "limit": limit})]


def ledgers_of(connection: Connection, entity: str) -> list[str]:
    """The ledgers of an entity, in order of id. Raises UnknownEntity where there is none."""
    query = text("SELECT ledger FROM ledgers WHERE entity = :entity ORDER BY ledger")
    found = list(connection.execute(query, {"entity": entity}).scalars())
    if not found:
        raise UnknownEntity(f"no ledger is of entity {entity}", field="entity", found=entity)
    return found


def policy_name(connection: Connection, ledger: str, policy: int) -> str:
    query = text("SELECT name FROM posting_policies WHERE ledger = :ledger AND policy = :policy")
    name: str = connection.execute(query, {"ledger": ledger, "policy": policy}).scalar_one()
    return name


@lru_cache
def statement_of(query: str) -> str:
    """The statement of a question, or of a point in time alone: in either case with its settings."""
    return f"""
WITH v AS MATERIALIZED ({POINT_IN_TIME}), answer AS ({query})
SELECT v.recorded_at, v.answered_through, answer.found, v.head, v.position, v.ledger,
       {", ".join(f"v.{name}" for name in SETTINGS)}
FROM v, answer
"""


_NOTHING_ASKED: Final = "SELECT NULL::text AS found"


def ask(
    database: Database, ledger: str, question: Question[Answer], *, now: datetime, as_of: date | None = None,
    known_at: datetime | None = None,
) -> tuple[PointInTime, Answer]:  # fmt: skip
    """One question of a point in time, in one round trip; the point in time is as ``view`` has it.

    Raises UnknownLedger, KnownAtInFuture, and what the question raises.
    """
    day = as_of or _today(database, ledger, now)
    parameters = {**question.parameters, "ledger": ledger, "as_of": day, "known_at": known_at, "position": None}

    def asked() -> Any:
        return database.ask(statement_of(question.query), parameters)

    row = _promised(database, ledger, known_at, asked)
    at = PointInTime(**_point(row, day, known_at, now))
    rules = database.rules.get(ledger, {})
    if at.head.state.policy not in rules:
        with database.read() as connection:
            rules = rules_of(database, connection, ledger)
    return at, question.answer(rules, row[2])


@contextmanager
def view(
    database: Database, ledger: str, *, now: datetime, as_of: date | None = None, known_at: datetime | None = None
) -> Iterator[View]:
    """A point in time of a ledger. ``as_of`` defaults to today where the ledger lives, ``known_at`` to its head.

    An answer once given never changes: a moment later than the head's is promised before it is answered, so that
    no later batch can be recorded at or before it. Raises UnknownLedger, KnownAtInFuture.
    """
    day = as_of or _today(database, ledger, now)
    parameters = {"ledger": ledger, "as_of": day, "known_at": known_at, "position": None}
    if known_at is not None:
        _promised(database, ledger, known_at, lambda: database.ask(statement_of(_NOTHING_ASKED), parameters))
    with database.read() as connection:
        rows = connection.exec_driver_sql(statement_of(_NOTHING_ASKED), parameters).all()
        row = _promised(database, ledger, known_at, lambda: rows)
        yield View(database=database, connection=connection, **_point(row, day, known_at, now))


def _point(row: Any, as_of: date, known_at: datetime | None, now: datetime) -> dict[str, Any]:
    """The members of a point in time, of a row of ``statement_of``."""
    recorded_at, _answered_through, _found, head, position, ledger, *settings = row
    return {
        "ledger": ledger, "head": Head(state=state_of(ledger, *settings), position=head, recorded_at=recorded_at),
        "as_of": as_of, "position": position, "known_at": known_at or recorded_at, "now": now,
    }  # fmt: skip


def _today(database: Database, ledger: str, now: datetime) -> date:
    zone = database.zones.get(ledger)
    if zone is None:
        with database.read() as connection:
            zone = database.zones[ledger] = ledger_head(connection, ledger).state.zone
    return now.astimezone(zone).date()


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


def rules_of(database: Database, connection: Connection, ledger: str) -> dict[int, Rules]:
    """The posting rules of every policy the ledger has adopted. A policy's rules never change, so they are kept."""
    held = database.rules.get(ledger)
    current = connection.execute(
        text("SELECT policy FROM ledgers WHERE ledger = :ledger"), {"ledger": ledger}
    ).scalar_one()
    if held is None or current not in held:
        query = text(
            "SELECT e.data FROM posting_policies p JOIN events e ON e.ledger = p.ledger AND e.position = p.position"
            " WHERE p.ledger = :ledger ORDER BY p.policy"
        )
        held = {}
        for adopted in connection.execute(query, {"ledger": ledger}).scalars():
            data = msgspec.json.decode(adopted)
            held[data["policy"]] = rules_from(data["rules"])
        database.rules[ledger] = held
    return held


# --- events ---------------------------------------------------------------------------------------------------

EVENTS: Final = """
-- Recorded events, whole, with the moment of their batch.
SELECT e.position, b.recorded_at, e.source, e.event_id, e.type, e.customer, e.occurred_at, e.data, e.attributes,
       e.decision, e.leaf
FROM recorded_events e
JOIN LATERAL (SELECT recorded_at FROM batches b WHERE b.ledger = e.ledger AND b.last_position >= e.position
              ORDER BY b.last_position LIMIT 1) b ON true
WHERE e.ledger = :ledger
"""
RECORDED_BETWEEN: Final = """
-- The positions between which entries of some kinds and days were recorded, from the day totals.
WITH days AS (
    SELECT min(recorded_date) AS first, max(recorded_date) AS last FROM ledger_days
    WHERE ledger = :ledger AND accounting_date >= coalesce(:from_date, CAST('-infinity' AS date))
      AND accounting_date <= coalesce(:to_date, CAST('infinity' AS date))
      AND (CAST(:kinds AS text[]) IS NULL OR kind = ANY(CAST(:kinds AS text[])))
)
SELECT coalesce((SELECT first_position FROM batches WHERE ledger = :ledger
                 AND recorded_at >= CAST((SELECT first FROM days) AS timestamp) AT TIME ZONE 'UTC'
                 ORDER BY recorded_at LIMIT 1), 1),
       coalesce((SELECT last_position FROM batches WHERE ledger = :ledger
                 AND recorded_at < CAST((SELECT last FROM days) + 1 AS timestamp) AT TIME ZONE 'UTC'
                 ORDER BY recorded_at DESC LIMIT 1), 0)
"""
COMMON_TYPE: Final = "credits.consumed"
ENTRIES: Final = """
-- The entries of some events, with their dimensions.
SELECT n.*, d.product, d.credit_kind, d.pool, d.processor FROM entries n
JOIN dimension_sets d ON d.ledger = n.ledger AND d.dimension_set = n.dimension_set
WHERE n.ledger = :ledger AND n.position = ANY(:positions) ORDER BY n.position, n.number
"""


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the log with its entries, as rows."""

    row: Any
    entries: tuple[Any, ...]


def events_page(
    connection: Connection, ledger: str, *, customer: str | None = None, block: str | None = None,
    type: str | None = None, after: int = 0, through: int | None = None, limit: int = 100,
) -> list[StoredEvent]:  # fmt: skip
    """Events after a position, oldest first. ``through`` is the last position to show."""
    conditions, parameters = ["e.position > :after"], {"ledger": ledger, "after": after, "limit": limit}
    if through is not None:
        conditions.append("e.position <= :through")
        parameters["through"] = through
    if type is not None:
        # Said in so many words, for the index of what is rarer than usage.
        conditions.append("e.type = :type" + (f" AND e.type <> '{COMMON_TYPE}'" if type != COMMON_TYPE else ""))
        parameters["type"] = type
    of_entries: list[str] = []
    if block is not None:
        found = _block(connection, ledger, block)
        customer = customer or found.customer
        # Found by its customer, from the event on that opened it.
        of_entries.append("n.block_id = :block AND n.position >= :opened")
        parameters |= {"block": block, "opened": found.opened_at_position}
        if customer != found.customer:
            return []
    if customer is not None:
        # Every event of a customer has an entry, and entries are indexed by customer.
        of_entries.append("n.customer = :customer AND n.position > :after")
        parameters["customer"] = customer
        of_events = conditions if len(conditions) > 1 else []
        joined = "JOIN events e ON e.ledger = n.ledger AND e.position = n.position" if of_events else ""
        found_by = " AND ".join(["n.ledger = :ledger", *of_entries, *of_events])
        conditions.append(
            f"e.position IN (SELECT DISTINCT n.position FROM entries n {joined} WHERE {found_by}"
            " ORDER BY n.position LIMIT :limit)"
        )
    query = text(
        EVENTS + "".join(f" AND {condition}" for condition in conditions) + " ORDER BY e.position LIMIT :limit"
    )
    return _with_entries(connection, ledger, connection.execute(query, parameters).all())


def event_at(connection: Connection, ledger: str, position: int) -> StoredEvent:
    """Raises UnknownPosition."""
    rows = connection.execute(
        text(EVENTS + " AND e.position = :position"), {"ledger": ledger, "position": position}
    ).all()
    if not rows:
        raise UnknownPosition(
            f"ledger {ledger} has no event at position {position}", field="position", found=str(position)
        )
    return _with_entries(connection, ledger, rows)[0]


def _with_entries(connection: Connection, ledger: str, rows: Sequence[Any]) -> list[StoredEvent]:
    entries: dict[int, list[Any]] = {}
    parameters = {"ledger": ledger, "positions": [row.position for row in rows]}
    for entry in connection.execute(text(ENTRIES), parameters):
        entries.setdefault(entry.position, []).append(entry)
    return [StoredEvent(row=row, entries=tuple(entries.get(row.position, ()))) for row in rows]


def block_owner(connection: Connection, ledger: str, block_id: str) -> str:
    """The customer of a block. Raises UnknownBlock."""
    owner: str = _block(connection, ledger, block_id).customer
    return owner


def _block(connection: Connection, ledger: str, block_id: str) -> Any:
    query = text("SELECT customer, opened_at_position FROM blocks WHERE ledger = :ledger AND block_id = :block")
    found = connection.execute(query, {"ledger": ledger, "block": block_id}).one_or_none()
    if found is None:
        raise UnknownBlock(f"no credit block {block_id}", field="block_id", found=block_id)
    return found


class JournalLine(msgspec.Struct, frozen=True, kw_only=True):
    """One journal line with what it is about. ``line`` counts from 1 within its entry."""

    entry: Any
    line: int
    account: str
    side: Side
    amount_minor: int
    functional_minor: int


def lines_of(entries: Sequence[Any], rules: dict[int, Rules]) -> Iterator[JournalLine]:
    """The lines of some entries, in order."""
    for entry in entries:
        expanded = expand(entry.kind, entry.amount_minor, entry.functional_minor, rules[entry.policy])
        for number, line in enumerate(expanded, start=1):
            yield JournalLine(
                entry=entry,
                line=number,
                account=line.account,
                side=line.side,
                amount_minor=line.amount_minor,
                functional_minor=line.functional_minor,
            )


def entries_page(
    connection: Connection, ledger: str, *, kinds: Sequence[str] | None, customer: str | None = None,
    block: str | None = None, from_date: date | None = None, to_date: date | None = None,
    position: int | None = None, after: tuple[int, int] = (0, 0), through: int | None = None, limit: int = 100,
) -> list[Any]:  # fmt: skip
    """Entries after (position, number), in order; dates are accounting dates, both inclusive."""
    conditions = ["n.ledger = :ledger", "(n.position, n.number) > (:after_position, :after_number)"]
    parameters: dict[str, Any] = {
        "ledger": ledger, "after_position": after[0], "after_number": after[1], "limit": limit,
    }  # fmt: skip
    if block is not None and customer is None:
        customer = block_owner(connection, ledger, block)
    if customer is None and position is None and (kinds, from_date, to_date) != (None, None, None):
        asked = {
            "kinds": None if kinds is None else list(kinds),
            "from_date": from_date,
            "to_date": to_date,
            "ledger": ledger,
        }
        first, last = connection.execute(text(RECORDED_BETWEEN), asked).one()
        conditions.append("n.position BETWEEN :first_position AND :last_position")
        parameters |= {"first_position": first, "last_position": last}
    for name, condition, value in (
        ("kinds", "n.kind = ANY(:kinds)", None if kinds is None else list(kinds)),
        ("customer", "n.customer = :customer", customer),
        ("block", "n.block_id = :block", block),
        ("from_date", "n.accounting_date >= :from_date", from_date),
        ("to_date", "n.accounting_date <= :to_date", to_date),
        ("position", "n.position = :position", position),
        ("through", "n.position <= :through", through),
    ):
        if value is not None:
            conditions.append(condition)
            parameters[name] = value
    query = text(
        "SELECT n.*, d.product, d.credit_kind, d.pool, d.processor FROM entries n "
        "JOIN dimension_sets d ON d.ledger = n.ledger AND d.dimension_set = n.dimension_set "
        f"WHERE {' AND '.join(conditions)} ORDER BY n.position, n.number LIMIT :limit"
    )
    return list(connection.execute(query, parameters).all())


# --- proofs ---------------------------------------------------------------------------------------------------


def inclusion(connection: Connection, ledger: str, position: int, size: int) -> tuple[bytes, list[bytes]]:
    """The leaf of an event and the path that shows it in the tree of ``size`` events. Raises UnknownPosition."""
    event_at(connection, ledger, position)
    subtree = _subtree(connection, ledger)
    return subtree(0, position - 1), merkle.inclusion_proof(position - 1, size, subtree)


def _subtree(connection: Connection, ledger: str) -> merkle.SubtreeHash:
    """Hashes of complete subtrees: kept ones are looked up, others made from the kept level below."""

    def children(level: int, first: int, count: int) -> list[bytes]:
        if level == 0:
            query = sa.text(
                "SELECT leaf FROM events WHERE ledger = :ledger AND position > :first "
                "AND position <= :first + :count ORDER BY position"
            )
        else:
            query = sa.text(
                "SELECT hash FROM merkle_nodes WHERE ledger = :ledger AND level = :level AND index >= :first "
                "AND index < :first + :count ORDER BY index"
            )
        parameters = {"ledger": ledger, "level": level, "first": first, "count": count}
        return [bytes(value) for value in connection.execute(query, parameters).scalars()]

    def subtree(level: int, index: int) -> bytes:
        kept = level - level % 8
        count = 1 << (level - kept)
        hashes = children(kept, index * count, count)
        while len(hashes) > 1:
            hashes = [merkle.node_hash(*hashes[i : i + 2]) for i in range(0, len(hashes), 2)]
        return hashes[0]

    return subtree
