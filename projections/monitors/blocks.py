"""Monitors: balances left on finished blocks, and overdue expiries.

Each look continues at the position of the last one, and checks the blocks of the events recorded since, up to a limit.
So its time depends only on the new events. A ledger that was never checked needs several looks; the evidence shows the
position that they have reached. Blocks that are not at zero are stored, and checked at every look until they are at
zero.

Owns: these two monitors, and the table ``cleared_blocks``. Does not own: the clearing report with every account and
age, the invariants of blocks in every view (integrity/blocks).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec

from projections.monitors.deliveries import SHIPPED
from projections.monitors.monitor import SHOWN, Monitor, MonitorContext
from projections.reports.clearing import OF_A_BLOCK
from subledger.accounts import ROLE_BY_NAME
from subledger.events.envelope import format_time
from subledger.kinds import Rules, effect
from subledger.money import format_minor
from subledger.store.database import Database

AT_ONCE: Final = 10_000
"""Maximum number of positions that one look checks."""
_KEPT: Final = 1_000
"""Maximum number of stored blocks that are not at zero. If it is reached, a look searches for no more such blocks."""
_COUNTED: Final = 10_000

FIND_CHECKED: Final = "SELECT position, uncleared FROM cleared_blocks WHERE ledger = %(ledger)s"
STORE_CHECKED: Final = """
-- The position through which blocks were checked, unless another look has checked further.
INSERT INTO cleared_blocks (ledger, position, uncleared) VALUES (%(ledger)s, %(position)s, %(uncleared)s)
ON CONFLICT (ledger) DO UPDATE SET position = excluded.position, uncleared = excluded.uncleared
WHERE cleared_blocks.position <= excluded.position
"""
FINISHED: Final = """
-- Balances of the three accounts of finished blocks: of blocks with entries between two positions, and of some others.
-- The entries of each are added up from the event that opened it.
SELECT b.block_id, b.customer, s.currency, s.liability, s.deposits, s.clearing
FROM (SELECT DISTINCT block_id FROM entries
      WHERE ledger = %(ledger)s AND position > %(after)s AND position <= %(through)s AND block_id IS NOT NULL
      UNION SELECT unnest(%(others)s::text[])) AS t
JOIN blocks b ON b.ledger = %(ledger)s AND b.block_id = t.block_id AND NOT b.is_open
CROSS JOIN LATERAL (
    SELECT n.currency, sum(r.liability * n.amount_minor) AS liability, sum(r.deposits * n.amount_minor) AS deposits,
           sum(r.clearing * n.amount_minor) AS clearing
    FROM (SELECT currency, policy, kind, sum(amount_minor) AS amount_minor FROM entries
          WHERE ledger = %(ledger)s AND customer = b.customer AND position >= b.opened_at_position
            AND block_id = b.block_id
          GROUP BY currency, policy, kind) AS n
    JOIN unnest(%(policies)s::smallint[], %(kinds)s::text[], %(prepaid_liability)s::int[], %(customer_deposits)s::int[],
                %(credits_clearing)s::int[]) AS r (policy, kind, liability, deposits, clearing)
      ON r.policy = n.policy AND r.kind = n.kind
    GROUP BY n.currency
) AS s
WHERE s.liability <> 0 OR s.deposits <> 0 OR s.clearing <> 0
ORDER BY b.block_id, s.currency
"""
OVERDUE: Final = """
-- Open blocks whose expiry was due before a moment, the longest overdue first.
SELECT block_id, customer, expires_at, count(*) OVER ()
FROM (SELECT block_id, customer, expires_at FROM blocks
      WHERE ledger = %(ledger)s AND is_open AND expires_at IS NOT NULL AND expires_at < %(before)s
      ORDER BY expires_at LIMIT %(at_most)s) AS due
ORDER BY expires_at, block_id LIMIT %(limit)s
"""


class CheckedBlocks(msgspec.Struct, frozen=True, kw_only=True):
    """The position through which finished blocks were checked, and those that were not at zero."""

    position: int
    uncleared: tuple[str, ...]


def clearing(context: MonitorContext) -> tuple[Monitor, CheckedBlocks | None]:
    """Finds finished blocks with a balance on prepaid_liability, customer_deposits or credits_clearing.

    Returns the monitor, and the result to store (None if it has not changed). Blocks bought before a change to or from
    the deposit policies can end with such a balance: see subledger/DECISIONS.md.
    """
    stored = context.rows(FIND_CHECKED)
    position, others = (stored[0][0], msgspec.json.decode(stored[0][1])) if stored else (0, [])
    # After a restore the log may end before the stored position.
    position = min(position, context.view.position)
    through = position if len(others) >= _KEPT else min(position + AT_ONCE, context.view.position)
    rules = context.view.rules
    found = context.rows(FINISHED, after=position, through=through, others=others, **_effects(rules))
    blocks = tuple(sorted({row[0] for row in found}))
    monitor = context.counted(
        "clearing",
        "Is nothing left on the accounts of finished blocks?",
        len(blocks),
        "blocks",
        allowed=context.settings.uncleared_blocks,
        evidence={
            "looked_through": through,
            "of": context.view.position,
            "blocks": [_shown(row) for row in found[:SHOWN]],
        },
        next=f"history --block {blocks[0]}" if blocks else "report clearing",
    )
    result = CheckedBlocks(position=through, uncleared=blocks[:_KEPT])
    same = stored and (result.position, list(result.uncleared)) == (stored[0][0], others)
    return monitor, None if same else result


def keep(database: Database, ledger: str, result: CheckedBlocks) -> None:
    """Stores the result of a look. The next look continues from it."""
    uncleared = msgspec.json.encode(result.uncleared).decode()
    with database.write() as connection:
        parameters = {"ledger": ledger, "position": result.position, "uncleared": uncleared}
        connection.execute(STORE_CHECKED, parameters)


def _effects(rules: Mapping[int, Rules]) -> dict[str, list[Any]]:
    """The effect of an entry of each kind on each of the three accounts, on its normal side."""
    columns: dict[str, list[Any]] = {name: [] for name in ("policies", "kinds", *OF_A_BLOCK)}
    for policy, of_policy in rules.items():
        for kind in of_policy:
            moves = [ROLE_BY_NAME[name].on_normal_side(effect(name, kind, of_policy)) for name in OF_A_BLOCK]
            if any(moves):
                for name, value in zip(columns, (policy, kind, *moves), strict=True):
                    columns[name].append(value)
    return columns


def _shown(row: Any) -> dict[str, Any]:
    block_id, customer, currency, *balances = row
    return {
        "block": block_id,
        "customer": customer,
        "currency": currency,
        **{name: format_minor(int(amount), currency) for name, amount in zip(OF_A_BLOCK, balances, strict=True)},
    }


def expiry_sweep(context: MonitorContext) -> Monitor:
    """Open blocks whose expiry has been due for longer than the threshold. Their remaining credits are breakage."""
    after_s = context.settings.expiry_overdue_s
    overdue_s = SHIPPED.expiry_overdue_s or 0 if after_s is None else after_s
    before = context.view.now - timedelta(seconds=overdue_s)  # by the ledger's clock, like the sweep
    found = context.rows(OVERDUE, before=before, at_most=_COUNTED, limit=SHOWN)
    count = found[0][3] if found else 0
    through = context.state.today(context.now)
    return context.counted(
        "expiry_sweep",
        "Is every expiry recorded?",
        count,
        "blocks",
        allowed=None if after_s is None else 0,
        evidence={
            "older_than_s": after_s,
            "all_counted": count < _COUNTED,
            "oldest": [
                {"block": block_id, "customer": customer, "expires_at": format_time(expires_at)}
                for block_id, customer, expires_at, _ in found
            ],
        },
        next=f"expire --through {through}",
    )
