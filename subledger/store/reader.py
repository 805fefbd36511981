"""Reading the log: ledgers, points in time, events, entries, lines, proofs.

Owns: what ``known_at`` means, and pages of the log. Does not own: balances (projections).
A cursor is the place after which a page goes on; pages are found by key, never by counting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection, text

from subledger import merkle
from subledger.accounts import Side
from subledger.errors import KnownAtInFuture, UnknownBlock, UnknownLedger, UnknownPosition
from subledger.events import format_time
from subledger.journal import Rules, expand
from subledger.ledger import LedgerState
from subledger.own_event_data import Approvals
from subledger.posting import rules_from
from subledger.store.database import Database


class LedgerHead(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger as it stands in a snapshot: its settings, its last position and moment, its tree's root."""

    state: LedgerState
    position: int
    recorded_at: datetime
    root: bytes
    batch_hash: bytes


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A point in time: the books through the end of ``as_of``, as known at ``position``.

    Everything asked through one view is answered from one snapshot.
    """

    connection: Any
    ledger: str
    head: LedgerHead
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


HEADS: Final = """
-- Ledgers with their settings and their heads.
SELECT l.ledger, l.entity, l.functional_currency, l.timezone, l.on_shortfall, l.late_usage, l.policy, l.mapping,
       l.closed_through, l.approvals, l.open_cut, l.position, l.recorded_at, b.root, l.batch_hash, p.name AS policy_name
FROM ledgers l
JOIN batches b ON b.ledger = l.ledger AND b.last_position = l.position
JOIN posting_policies p ON p.ledger = l.ledger AND p.policy = l.policy
"""
POSITION_KNOWN_AT: Final = """
-- The last position recorded at or before a moment.
SELECT last_position, recorded_at FROM batches
WHERE ledger = :ledger AND recorded_at <= :known_at ORDER BY recorded_at DESC LIMIT 1
"""
PROMISE: Final = """
-- No batch may be recorded at or before a moment that has been answered; waits for the batch in flight.
UPDATE ledgers SET answered_through = greatest(answered_through, %s)
WHERE ledger = %s AND %s <= greatest(clock_timestamp(), answered_through) RETURNING 1
"""


def _head(row: Any) -> LedgerHead:
    state = LedgerState(
        ledger=row.ledger,
        entity=row.entity,
        functional_currency=row.functional_currency,
        timezone=row.timezone,
        on_shortfall=row.on_shortfall,
        late_usage=row.late_usage,
        policy=row.policy,
        mapping=row.mapping,
        closed_through=row.closed_through,
        approvals=Approvals.model_validate_json(row.approvals),
        open_cut=row.open_cut,
    )
    return LedgerHead(
        state=state,
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


def policy_name(connection: Connection, ledger: str, policy: int) -> str:
    query = text("SELECT name FROM posting_policies WHERE ledger = :ledger AND policy = :policy")
    name: str = connection.execute(query, {"ledger": ledger, "policy": policy}).scalar_one()
    return name


@contextmanager
def view(
    database: Database,
    ledger: str,
    *,
    now: datetime,
    as_of: date | None = None,
    known_at: datetime | None = None,
) -> Iterator[View]:
    """A point in time of a ledger. ``as_of`` defaults to today where the ledger lives, ``known_at`` to its head.

    An answer once given never changes: a moment later than the head's is promised before it is answered, so that
    no later batch can be recorded at or before it. Raises UnknownLedger, KnownAtInFuture.
    """
    if known_at is not None:
        _promise(database, ledger, known_at)
    with database.read() as connection:
        head = ledger_head(connection, ledger)
        position, moment = head.position, head.recorded_at
        if known_at is not None:
            moment = known_at
            if known_at < head.recorded_at:
                found = connection.execute(
                    text(POSITION_KNOWN_AT), {"ledger": ledger, "known_at": known_at}
                ).one_or_none()
                position = 0 if found is None else found.last_position
        yield View(
            connection=connection,
            ledger=ledger,
            head=head,
            as_of=as_of or now.astimezone(head.state.zone).date(),
            position=position,
            known_at=moment,
            now=now,
        )


def _promise(database: Database, ledger: str, known_at: datetime) -> None:
    with database.read() as connection:
        if known_at <= ledger_head(connection, ledger).recorded_at:
            return
    with database.write() as writing:
        if writing.execute(PROMISE, (known_at, ledger, known_at)).fetchone() is None:
            raise KnownAtInFuture(
                f"{format_time(known_at)} has not come yet",
                field="known_at",
                expected="a moment that has passed",
                found=format_time(known_at),
            )


def rules_of(database: Database, connection: Connection, ledger: str) -> dict[int, Rules]:
    """The posting rules of every policy the ledger has adopted. A policy's rules never change, so they are kept."""
    held = database.rules.get(ledger)
    current = connection.execute(
        text("SELECT policy FROM ledgers WHERE ledger = :ledger"), {"ledger": ledger}
    ).scalar_one()
    if held is None or current not in held:
        query = text("SELECT position FROM posting_policies WHERE ledger = :ledger ORDER BY policy")
        positions = connection.execute(query, {"ledger": ledger}).scalars().all()
        held = {}
        for position in positions:
            data = msgspec.json.decode(
                connection.execute(
                    text("SELECT data FROM events WHERE ledger = :ledger AND position = :position"),
                    {"ledger": ledger, "position": position},
                ).scalar_one()
            )
            held[data["policy"]] = rules_from(data["rules"])
        database.rules[ledger] = held
    return held


# --- events ---------------------------------------------------------------------------------------------------

EVENTS: Final = """
-- Recorded events, whole, with the moment of their batch.
SELECT e.position, b.recorded_at, e.source, e.event_id, e.type, e.customer, e.occurred_at, e.data, e.attributes,
       e.decision, e.leaf
FROM events e
JOIN LATERAL (SELECT recorded_at FROM batches b WHERE b.ledger = e.ledger AND b.last_position >= e.position
              ORDER BY b.last_position LIMIT 1) b ON true
WHERE e.ledger = :ledger
"""
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
    conditions, parameters = [" AND e.position > :after"], {"ledger": ledger, "after": after, "limit": limit}
    if through is not None:
        conditions.append(" AND e.position <= :through")
        parameters["through"] = through
    if block is not None:
        parameters |= {"block": block, "owner": block_owner(connection, ledger, block)}
        conditions.append(
            " AND e.position IN (SELECT n.position FROM entries n WHERE n.ledger = :ledger AND n.customer = :owner"
            " AND n.block_id = :block AND n.position > :after ORDER BY n.position LIMIT :limit * 4)"
        )
    if customer is not None:
        # Every event of a customer has an entry, and entries are indexed by customer.
        parameters["customer"] = customer
        conditions.append(
            " AND e.position IN (SELECT n.position FROM entries n WHERE n.ledger = :ledger"
            " AND n.customer = :customer AND n.position > :after)"
        )
    if type is not None:
        parameters["type"] = type
        conditions.append(" AND e.type = :type")
    query = text(EVENTS + "".join(conditions) + " ORDER BY e.position LIMIT :limit")
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
    query = text("SELECT customer FROM blocks WHERE ledger = :ledger AND block_id = :block")
    owner: str | None = connection.execute(query, {"ledger": ledger, "block": block_id}).scalar_one_or_none()
    if owner is None:
        raise UnknownBlock(f"no credit block {block_id}", field="block_id", found=block_id)
    return owner


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
