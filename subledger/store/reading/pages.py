"""Pages of the log: events, entries, entry lines.

A page begins after a key, not at an offset. The key is that of the last row of the previous page.

Owns: the queries of these pages. Does not own: the columns (``subledger/store/columns.py``), balances (projections).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, text

from subledger.accounts import Side
from subledger.errors import UnknownBlock, UnknownPosition
from subledger.kinds import Dimensions, Entry, Rules, expand
from subledger.store import columns
from subledger.store.columns import EntryRow, EventRow, stored_entry
from subledger.store.decision_text import decision_sql
from subledger.store.reading.recorded_days import recorded_between

EVENTS: Final = f"""
-- Recorded events with their complete decisions, and with the recorded_at of their batch.
SELECT {columns.EVENTS.selected("e", decision=decision_sql(":ledger"))}, b.recorded_at
FROM events e
JOIN LATERAL (SELECT recorded_at FROM batches b WHERE b.ledger = :ledger AND b.last_position >= e.position
              ORDER BY b.last_position LIMIT 1) b ON true
WHERE e.ledger = :ledger
"""
OF_KINDS_AND_DAYS: Final = recorded_between(
    """accounting_date >= coalesce(:from_date, CAST('-infinity' AS date))
      AND accounting_date <= coalesce(:to_date, CAST('infinity' AS date))
      AND (CAST(:kinds AS text[]) IS NULL OR kind = ANY(CAST(:kinds AS text[])))""",
    ledger=":ledger",
)
COMMON_TYPE: Final = "credits.consumed"
ENTRIES: Final = f"""
-- Entries with their dimensions.
SELECT {columns.ENTRIES.selected("n")}, d.product, d.credit_kind, d.pool, d.processor, d.cohort, d.refundable,
       d.own, d.usage
FROM entries n
JOIN dimension_sets d ON d.ledger = n.ledger AND d.dimension_set = n.dimension_set
"""
OF_POSITIONS: Final = (
    f"{ENTRIES}WHERE n.ledger = :ledger AND n.position = ANY(:positions) ORDER BY n.position, n.number"
)


class RecordedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry with the position of its event."""

    position: int
    entry: Entry


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the log with its complete decision, with the recorded_at of its batch, and with its entries in order
    of their numbers.
    """

    row: EventRow
    recorded_at: datetime
    entries: tuple[Entry, ...]


def events_page(
    connection: Connection,
    ledger: str,
    *,
    customer: str | None = None,
    block: str | None = None,
    type: str | None = None,
    after: int = 0,
    through: int | None = None,
    limit: int = 100,
) -> list[StoredEvent]:
    """Returns events in order of position: those after ``after``, and up to and including ``through``.

    ``customer`` and ``block`` select events with entries of this customer and of this block. Raises UnknownBlock if
    ``block`` does not exist.
    """
    conditions, parameters = ["e.position > :after"], {"ledger": ledger, "after": after, "limit": limit}
    if through is not None:
        conditions.append("e.position <= :through")
        parameters["through"] = through
    if type is not None:
        # The second condition follows from the first. With it the planner uses ix_events_type, which does not contain
        # usage.
        conditions.append("e.type = :type" + (f" AND e.type <> '{COMMON_TYPE}'" if type != COMMON_TYPE else ""))
        parameters["type"] = type
    of_entries: list[str] = []
    if block is not None:
        found = _block(connection, ledger, block)
        customer = customer or found.customer
        # Entries of a block are found by the index of its customer, beginning with the event that opened the block.
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
    """Returns the event at a position. Raises UnknownPosition if the ledger has none there."""
    rows = connection.execute(
        text(EVENTS + " AND e.position = :position"), {"ledger": ledger, "position": position}
    ).all()
    if not rows:
        raise UnknownPosition(
            f"ledger {ledger} has no event at position {position}", field="position", found=str(position)
        )
    return _with_entries(connection, ledger, rows)[0]


def _with_entries(connection: Connection, ledger: str, rows: Iterable[Sequence[Any]]) -> list[StoredEvent]:
    events = [(EventRow(*event), recorded_at) for *event, recorded_at in rows]
    entries: dict[int, list[Entry]] = {}
    parameters = {"ledger": ledger, "positions": [event.position for event, _ in events]}
    for recorded in _recorded_entries(connection.execute(text(OF_POSITIONS), parameters)):
        entries.setdefault(recorded.position, []).append(recorded.entry)
    return [
        StoredEvent(row=event, recorded_at=recorded_at, entries=tuple(entries.get(event.position, ())))
        for event, recorded_at in events
    ]


def _recorded_entries(rows: Iterable[Sequence[Any]]) -> Iterator[RecordedEntry]:
    for *entry, product, credit_kind, pool, processor, cohort, refundable, own, usage in rows:
        row = EntryRow(*entry)
        dimensions = Dimensions(product, credit_kind, pool, processor, cohort, refundable, own, usage)
        yield RecordedEntry(position=row.position, entry=stored_entry(row, dimensions))


def block_owner(connection: Connection, ledger: str, block_id: str) -> str:
    """Returns the customer of a block. Raises UnknownBlock if the block does not exist."""
    owner: str = _block(connection, ledger, block_id).customer
    return owner


def _block(connection: Connection, ledger: str, block_id: str) -> Any:
    query = text("SELECT customer, opened_at_position FROM blocks WHERE ledger = :ledger AND block_id = :block")
    found = connection.execute(query, {"ledger": ledger, "block": block_id}).one_or_none()
    if found is None:
        raise UnknownBlock(f"no credit block {block_id}", field="block_id", found=block_id)
    return found


class NumberedLine(msgspec.Struct, frozen=True, kw_only=True):
    """An entry line with its entry. ``line`` is the number of the line within the entry, from 1."""

    entry: Entry
    line: int
    account: str
    side: Side
    amount_minor: int
    functional_minor: int


def lines_of(entry: Entry, rules: dict[int, Rules]) -> Iterator[NumberedLine]:
    """Yields the lines of an entry, in order. ``rules`` maps the number of a posting policy to its rules."""
    expanded = expand(entry.kind, entry.amount_minor, entry.functional_minor, rules[entry.policy])
    for number, line in enumerate(expanded, start=1):
        yield NumberedLine(
            entry=entry,
            line=number,
            account=line.account,
            side=line.side,
            amount_minor=line.amount_minor,
            functional_minor=line.functional_minor,
        )


def entries_page(
    connection: Connection,
    ledger: str,
    *,
    kinds: Sequence[str] | None,
    customer: str | None = None,
    block: str | None = None,
    from_date: date | None = None,
    to_date: date | None = None,
    position: int | None = None,
    after: tuple[int, int] = (0, 0),
    through: int | None = None,
    limit: int = 100,
) -> list[RecordedEntry]:
    """Returns entries in order of position and number.

    - ``after``: the position and number after which the page begins.
    - ``through``: the last position, inclusive.
    - ``from_date`` and ``to_date``: the first and the last accounting date, both inclusive.

    Raises UnknownBlock if ``block`` is given without ``customer`` and does not exist.
    """
    conditions = ["n.ledger = :ledger", "(n.position, n.number) > (:after_position, :after_number)"]
    parameters: dict[str, Any] = {
        "ledger": ledger,
        "after_position": after[0],
        "after_number": after[1],
        "limit": limit,
    }
    if block is not None and customer is None:
        customer = block_owner(connection, ledger, block)
    if customer is None and position is None and (kinds, from_date, to_date) != (None, None, None):
        bounds = {
            "kinds": None if kinds is None else list(kinds),
            "from_date": from_date,
            "to_date": to_date,
            "ledger": ledger,
        }
        first, last = connection.execute(text(OF_KINDS_AND_DAYS), bounds).one()
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
    query = text(f"{ENTRIES}WHERE {' AND '.join(conditions)} ORDER BY n.position, n.number LIMIT :limit")
    return list(_recorded_entries(connection.execute(query, parameters)))
