"""Check of the rows outside the log: exports, deliveries, approvals, settings and others.

Owns these comparisons:

- each sealed row with its seal: the hash that a trigger made when the row was written;
- the number of rows in each counted table with the stored count;
- each delivery with its export, its steps, the target's id in these steps, and the hash of its payload;
- the dismissal and the reopening of each rejection with its steps;
- each rejection that is marked as recorded with the event at that position;
- the positions and times of each rejection with the ledger's last position and the current time.

Does not own: the comparison of exported journals with the log (handed_over).

A person who can write to the database without its triggers can also compute new seals. So this check finds a single
change. It does not find a forgery that is consistent in all rows. Compare the log, checkpoints that are stored
elsewhere, and the general ledger to find such a forgery.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import sqlalchemy as sa

from projections.replay.findings import Breach
from subledger.store.tables import COUNTED, EVERY_LEDGER, metadata, sealed_tables

UNDELIVERABLE: Final = """
-- Deliveries whose export does not exist, or is of another journal.
SELECT d.delivery_id, d.export_id, d.period || '-' || d.number AS journal FROM deliveries d
WHERE d.ledger = :ledger AND NOT EXISTS (
    SELECT FROM journal_exports e
    WHERE e.ledger = :ledger AND e.export_id = d.export_id AND e.period = d.period AND e.number = d.number)
ORDER BY d.delivery_id
"""
STEPS: Final = """
-- Deliveries whose steps are not numbered 1 to the delivery's number of steps, or whose last step has another state.
SELECT d.delivery_id, d.steps, count(s.step) AS found, max(s.step) AS last,
       max(s.state) FILTER (WHERE s.step = d.steps) AS state, d.state AS is_now
FROM deliveries d LEFT JOIN delivery_steps s ON s.ledger = d.ledger AND s.delivery_id = d.delivery_id
WHERE d.ledger = :ledger
GROUP BY d.delivery_id, d.steps, d.state
HAVING count(s.step) <> d.steps OR max(s.step) <> d.steps
    OR max(s.state) FILTER (WHERE s.step = d.steps) IS DISTINCT FROM d.state
ORDER BY d.delivery_id
"""
STRAY_STEPS: Final = """
SELECT s.delivery_id, s.step FROM delivery_steps s
WHERE s.ledger = :ledger
  AND NOT EXISTS (SELECT FROM deliveries d WHERE d.ledger = :ledger AND d.delivery_id = s.delivery_id)
ORDER BY s.delivery_id, s.step
"""
SENT: Final = """
-- Deliveries whose payload does not match its hash. A delivery without a payload sends the export's file.
SELECT d.delivery_id, d.payload_hash AS kept, encode(sha256(d.payload), 'hex') AS found FROM deliveries d
WHERE d.ledger = :ledger AND d.payload IS NOT NULL AND d.payload_hash IS DISTINCT FROM encode(sha256(d.payload), 'hex')
UNION ALL
SELECT d.delivery_id, d.payload_hash, e.content_hash FROM deliveries d
LEFT JOIN journal_exports e ON e.ledger = d.ledger AND e.export_id = d.export_id
WHERE d.ledger = :ledger AND d.payload IS NULL AND d.payload_hash IS NOT NULL
  AND (d.part <> 0 OR d.payload_hash IS DISTINCT FROM e.content_hash)
ORDER BY 1
"""
TARGET_IDS: Final = """
-- Deliveries whose target id differs from the last one in their steps.
SELECT d.delivery_id, d.erp_id AS kept, s.erp_id AS found FROM deliveries d
LEFT JOIN LATERAL (
    SELECT erp_id FROM delivery_steps WHERE ledger = :ledger AND delivery_id = d.delivery_id AND erp_id IS NOT NULL
    ORDER BY step DESC LIMIT 1
) s ON true
WHERE d.ledger = :ledger AND d.erp_id IS DISTINCT FROM s.erp_id
ORDER BY d.delivery_id
"""
DISMISSALS: Final = """
-- Rejections whose dismissal is not the last one in their steps, or is not in their steps.
SELECT r.rejection_id, r.dismissed_at, max(s.done_at) AS found FROM rejected_events r
LEFT JOIN rejection_steps s ON s.ledger = :ledger AND s.rejection_id = r.rejection_id AND s.action = 'dismissed'
WHERE r.ledger = :ledger AND (r.dismissed_at IS NOT NULL OR s.done_at IS NOT NULL)
GROUP BY r.rejection_id, r.dismissed_at, r.dismissed_by, r.dismissed_reason
HAVING max(s.done_at) IS DISTINCT FROM r.dismissed_at
    OR count(*) FILTER (WHERE s.done_at = r.dismissed_at AND s.done_by = r.dismissed_by
                          AND s.reason = r.dismissed_reason) <> 1
ORDER BY r.rejection_id
"""
REOPENINGS: Final = """
-- Rejections whose reopening is not the last one in their steps.
SELECT r.rejection_id, r.reopened_at, max(s.done_at) AS found FROM rejected_events r
LEFT JOIN rejection_steps s ON s.ledger = :ledger AND s.rejection_id = r.rejection_id AND s.action = 'reopened'
WHERE r.ledger = :ledger AND (r.reopened_at IS NOT NULL OR s.done_at IS NOT NULL)
GROUP BY r.rejection_id, r.reopened_at
HAVING max(s.done_at) IS DISTINCT FROM r.reopened_at
ORDER BY r.rejection_id
"""
STRAY_REJECTION_STEPS: Final = """
SELECT s.rejection_id FROM rejection_steps s
WHERE s.ledger = :ledger
  AND NOT EXISTS (SELECT FROM rejected_events r WHERE r.ledger = :ledger AND r.rejection_id = s.rejection_id)
ORDER BY s.rejection_id
"""
SETTLED: Final = """
-- Rejections that are marked as recorded at a position that has no event of their source and id.
SELECT r.rejection_id, r.settled_position FROM rejected_events r
WHERE r.ledger = :ledger AND r.settled_position IS NOT NULL AND NOT EXISTS (
    SELECT FROM events e WHERE e.ledger = :ledger AND e.position = r.settled_position AND e.source = r.source
    AND e.event_id = r.event_id)
ORDER BY r.rejection_id
"""
AHEAD: Final = """
-- Rejections with a position after the ledger's last one, or with a moment more than one day in the future. The day is
-- allowed because a clock may have been set back.
SELECT r.rejection_id, r.position, r.settled_position,
       greatest(r.first_at, r.last_at, r.text_at, r.dismissed_at, r.reopened_at) AS last, l.position AS head,
       greatest(r.settled_position, r.position) > l.position AS is_beyond
FROM rejected_events r JOIN ledgers l ON l.ledger = :ledger
WHERE r.ledger = :ledger AND (greatest(r.settled_position, r.position) > l.position
    OR greatest(r.first_at, r.last_at, r.text_at, r.dismissed_at, r.reopened_at) > clock_timestamp() + interval '1 day')
ORDER BY r.rejection_id
"""
TALLIES: Final = "SELECT relation, rows FROM tallies WHERE ledger = :ledger ORDER BY relation"


def sealed_faults(connection: sa.Connection, ledger: str) -> Iterator[Breach]:
    """Yields a breach for each fault that the module's comparisons find:

    - a changed row of a sealed table;
    - a counted table with too few or too many rows;
    - a fault of a delivery or of a rejection.
    """
    for table, unsealed in sorted(sealed_tables().items()):
        yield from _changed(connection, ledger, table, unsealed)
    yield from _missing(connection, ledger, COUNTED)
    yield from _missing(connection, EVERY_LEDGER, ("api_keys",))
    yield from _delivered(connection, ledger)
    yield from _rejections(connection, ledger)


def changed_rows(table: str, unsealed: tuple[str, ...]) -> str:
    """Returns a query. It selects the keys of the rows of a table that do not match their seals.

    ``unsealed`` are the columns that the seal leaves out. The query reads the rows of one ledger. If the key of the
    table has no ledger, the query reads all rows.
    """
    keys = [column.name for column in metadata.tables[table].primary_key]
    key = ", ".join(f't."{name}"::text' for name in keys if name != "ledger") or "t.ledger"
    left_out = ", ".join(f"'{name}'" for name in ("seal", *unsealed))
    condition = "t.ledger = :ledger" if "ledger" in keys else "true"
    return (
        f"SELECT concat_ws(', ', {key}) AS subject FROM {table} t"
        f" WHERE {condition} AND t.seal IS DISTINCT FROM row_seal(to_jsonb(t) - ARRAY[{left_out}]) ORDER BY 1"
    )


def _changed(connection: sa.Connection, ledger: str, table: str, unsealed: tuple[str, ...]) -> Iterator[Breach]:
    query = changed_rows(table, unsealed)
    for (subject,) in connection.execute(sa.text(query), {"ledger": ledger} if ":ledger" in query else {}):
        yield Breach(
            check=table,
            message=f"the row {subject} of {table} was changed past its trigger",
            subject=subject,
            expected="the row that its seal was made of",
        )


def _missing(connection: sa.Connection, ledger: str, tables: Sequence[str]) -> Iterator[Breach]:
    counted = {row.relation: row.rows for row in connection.execute(sa.text(TALLIES), {"ledger": ledger})}
    for table in sorted({*tables, *counted}):
        if table not in COUNTED:
            yield Breach(
                check="tallies", message=f"the row counts name {table}, whose rows are not counted", subject=table
            )
            continue
        # A deleted row takes its seal with it, so seals cannot show a deletion. The count of rows does: each commit
        # that adds a row raises it, and nothing lowers it.
        query = f"SELECT count(*) FROM {table} WHERE ledger = :ledger"
        found = connection.execute(sa.text(query), {"ledger": ledger}).scalar_one()
        if found != counted.get(table, 0):
            yield Breach(
                check=table,
                message=f"{table} has {found} rows of the ledger; its count is {counted.get(table, 0)}",
                subject=table,
                expected=counted.get(table, 0),
                found=found,
            )


def _delivered(connection: sa.Connection, ledger: str) -> Iterator[Breach]:
    parameters = {"ledger": ledger}
    for row in connection.execute(sa.text(UNDELIVERABLE), parameters):
        yield Breach(
            check="deliveries",
            message=f"delivery {row.delivery_id} refers to an export that does not exist",
            subject=row.delivery_id,
            expected=f"an export {row.export_id} of journal {row.journal}",
        )
    for row in connection.execute(sa.text(STEPS), parameters):
        yield Breach(
            check="delivery_steps",
            subject=row.delivery_id,
            message=f"the state or number of steps of delivery {row.delivery_id} differs from its steps",
            expected=f"{row.steps} steps, the last {row.is_now}",
            found=f"{row.found} steps, number {row.steps} {row.state}",
        )
    for row in connection.execute(sa.text(STRAY_STEPS), parameters):
        yield Breach(
            check="delivery_steps",
            message=f"step {row.step} refers to delivery {row.delivery_id}, which does not exist",
            subject=f"{row.delivery_id}, {row.step}",
        )
    for row in connection.execute(sa.text(TARGET_IDS), parameters):
        yield Breach(
            check="deliveries",
            message=f"the target's id of delivery {row.delivery_id} differs from the one that its steps brought",
            subject=row.delivery_id,
            expected=row.found,
            found=row.kept,
        )
    for row in connection.execute(sa.text(SENT), parameters):
        yield Breach(
            check="deliveries",
            message=f"the content of delivery {row.delivery_id} does not match its hash",
            subject=row.delivery_id,
            expected=row.kept,
            found=row.found,
        )


def _rejections(connection: sa.Connection, ledger: str) -> Iterator[Breach]:
    parameters = {"ledger": ledger}
    for action, query in (("dismissal", DISMISSALS), ("reopening", REOPENINGS)):
        for name, expected, found in connection.execute(sa.text(query), parameters):
            yield Breach(
                check="rejection_steps",
                subject=name,
                message=f"the {action} of rejection {name} differs from its steps",
                expected=expected and f"a step of {expected.isoformat()}",
                found=found and found.isoformat(),
            )
    for (name,) in connection.execute(sa.text(STRAY_REJECTION_STEPS), parameters):
        yield Breach(
            check="rejection_steps", message=f"a step refers to rejection {name}, which does not exist", subject=name
        )
    for name, position in connection.execute(sa.text(SETTLED), parameters):
        yield Breach(
            check="rejected_events",
            subject=name,
            message=f"rejection {name} is marked as recorded at position {position}, "
            f"but that position has another event",
            expected="an event of its source and id",
            found=position,
        )
    for name, position, settled, last, head, is_beyond in connection.execute(sa.text(AHEAD), parameters):
        limit = f"position {max(position, settled or 0)}"
        yield Breach(
            check="rejected_events",
            subject=name,
            message=f"rejection {name} has a position or a time that is in the future of the ledger",
            expected=f"at most position {head}" if is_beyond else "a moment that is over",
            found=limit if is_beyond else last.isoformat(),
        )
