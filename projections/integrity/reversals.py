"""Check that every reversal mirrors the entries that it reverses, line by line.

Entries are compared with entries, in the database; only the share of a partial reversal is computed. Owns: this check.
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
WITH taken_back AS (
    SELECT (v.decision::jsonb ->> 'original')::bigint AS position, max(v.position) AS at, r.kind, r.block_id, r.policy,
           -sum(r.credits) AS credits, -sum(r.amount_minor) AS amount, -sum(r.functional_minor) AS functional
    FROM events v JOIN entries r ON r.ledger = v.ledger AND r.position = v.position
    WHERE v.ledger = :ledger AND v.type = 'consumption.reversed' AND r.kind = ANY(:usage)
    GROUP BY 1, r.kind, r.block_id, r.policy
), both_sides AS (
    SELECT t.*, o.credits AS drawn_credits, o.amount AS drawn, o.functional AS drawn_functional
    FROM taken_back t
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(e.credits), 0) AS credits, coalesce(sum(e.amount_minor), 0) AS amount,
               coalesce(sum(e.functional_minor), 0) AS functional
        FROM entries e
        WHERE e.ledger = :ledger AND e.position = t.position AND e.kind = t.kind AND e.policy = t.policy
          AND e.block_id IS NOT DISTINCT FROM t.block_id
    ) AS o
)
SELECT at, position, kind, block_id, credits, amount, functional, drawn_credits, drawn, drawn_functional
FROM both_sides
WHERE credits > drawn_credits OR credits < 0 OR amount NOT BETWEEN 0 AND drawn
   OR (credits = drawn_credits AND (amount <> drawn OR functional <> drawn_functional))
   OR (kind = 'consumption' AND drawn_credits > 0
       AND amount <> div(2 * drawn * credits + drawn_credits, 2 * drawn_credits))
ORDER BY at
"""


STREAMED: Final = {"yield_per": 1_000}


def reversal_faults(connection: sa.Connection, ledger: str) -> Iterator[tuple[int, Breach]]:
    """Yields each fault with the position of the last reversal of that usage."""
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
