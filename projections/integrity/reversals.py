"""Check of reversals of usage and of undone events: their entries mirror the original entries.

The database compares entries with entries. It computes only the share of a partial reversal.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa

from projections.replay.findings import Breach
from subledger.kinds import USAGE_KINDS

FAULTS: Final = """
-- Usage reversed differently from its booking: more credits, another policy, or another amount. A part of the credits
-- of a block reverses round half up (money × part / whole); all credits reverse the whole amount, in both currencies.
-- Consumption without credits corrects other draws of a repriced block: it is no part of this one.
WITH reversed AS MATERIALIZED (
    -- Each decision is read once, and not again for each of its entries.
    SELECT position AS at, (decision::jsonb ->> 'original')::bigint AS position FROM events
    WHERE ledger = :ledger AND type = 'consumption.reversed'
), taken_back AS (
    SELECT v.position, max(v.at) AS at, r.kind, r.block_id, r.policy,
           -sum(r.credits) AS credits, -sum(r.amount_minor) AS amount, -sum(r.functional_minor) AS functional
    FROM reversed v JOIN entries r ON r.ledger = :ledger AND r.position = v.at
    WHERE r.kind = ANY(:usage) AND (r.credits <> 0 OR r.kind <> 'consumption')
    GROUP BY v.position, r.kind, r.block_id, r.policy
), drawn AS (
    -- The entries of each draw are read once, however many blocks it drew on.
    SELECT u.position, o.* FROM (SELECT DISTINCT position FROM taken_back) u
    CROSS JOIN LATERAL (
        SELECT e.kind, e.block_id, e.policy, sum(e.credits) AS credits, sum(e.amount_minor) AS amount,
               sum(e.functional_minor) AS functional
        FROM entries e
        WHERE e.ledger = :ledger AND e.position = u.position AND (e.credits <> 0 OR e.kind <> 'consumption')
        GROUP BY e.kind, e.block_id, e.policy
    ) AS o
), both_sides AS (
    SELECT t.*, coalesce(o.credits, 0) AS drawn_credits, coalesce(o.amount, 0) AS drawn,
           coalesce(o.functional, 0) AS drawn_functional
    FROM taken_back t
    LEFT JOIN drawn o ON o.position = t.position AND o.kind = t.kind AND o.policy = t.policy
        AND coalesce(o.block_id, '') = coalesce(t.block_id, '')
)
SELECT at, position, kind, block_id, credits, amount, functional, drawn_credits, drawn, drawn_functional
FROM both_sides
WHERE credits > drawn_credits OR credits < 0 OR amount NOT BETWEEN 0 AND drawn
   OR (credits = drawn_credits AND (amount <> drawn OR functional <> drawn_functional))
   OR (kind = 'consumption' AND drawn_credits > 0
       AND amount <> div(2 * drawn * credits + drawn_credits, 2 * drawn_credits))
ORDER BY at
"""

UNDONE: Final = """
-- Undone events whose entries do not sum to zero together with the entries that undo them. Two kinds of entries may
-- differ and are left out: exchange differences since a remeasurement, and the breakage that a pool makes due.
WITH undone AS MATERIALIZED (
    SELECT position AS at, (decision::jsonb ->> 'original')::bigint AS position FROM events
    WHERE ledger = :ledger AND type = 'event.reversed'
), both_sides AS (
    SELECT u.at, u.position, u.at AS entries_of FROM undone u
    UNION ALL
    SELECT u.at, u.position, u.position FROM undone u
)
SELECT b.at, b.position, n.kind, n.block_id, sum(n.credits) AS credits, sum(n.amount_minor) AS amount,
       sum(n.functional_minor) AS functional
FROM both_sides b JOIN entries n ON n.ledger = :ledger AND n.position = b.entries_of
WHERE n.kind NOT LIKE 'fx\\_settlement\\_%' AND n.kind <> 'breakage_estimate'
GROUP BY b.at, b.position, n.customer, n.kind, n.block_id, n.policy, n.currency
HAVING sum(n.credits) <> 0 OR sum(n.amount_minor) <> 0 OR sum(n.functional_minor) <> 0
ORDER BY b.at
"""

STREAMED: Final = {"yield_per": 1_000}


def reversal_faults(connection: sa.Connection, ledger: str) -> Iterator[tuple[int, Breach]]:
    """Yields each fault with a position: that of the usage's last reversal, or that of the event that undoes."""
    parameters = {"ledger": ledger, "usage": list(USAGE_KINDS)}
    for row in connection.execute(sa.text(FAULTS), parameters, execution_options=STREAMED):
        target = f"block {row.block_id}" if row.block_id is not None else "its overage"
        yield (
            row.at,
            Breach(
                check="reversal",
                message=f"the reversals of position {row.position} do not mirror its draw on {target}",
                subject=row.block_id or f"position {row.position}",
                expected=f"of {row.drawn_credits:f} credits for {row.drawn} ({row.drawn_functional} functional)",
                found=f"{row.credits:f} credits for {row.amount} ({row.functional} functional)",
            ),
        )
    for row in connection.execute(sa.text(UNDONE), {"ledger": ledger}, execution_options=STREAMED):
        target = f"block {row.block_id}" if row.block_id is not None else "no block"
        yield (
            row.at,
            Breach(
                check="reversal",
                message=f"the entries that undo position {row.position} do not mirror its {row.kind} on {target}",
                subject=row.block_id or f"position {row.position}",
                expected="together 0",
                found=f"{row.credits:f} credits for {row.amount} ({row.functional} functional)",
            ),
        )
