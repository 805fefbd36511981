"""Terms of credit blocks at a point in time.

The rows of blocks and wallets contain the current terms of a block. Only one term can differ in an earlier view: the
expiry, which ``expiry_changed`` moves. All others (scope, priority, currency, start, …) never change after the block is
opened. The figures in those rows are not read here: readers sum them from entries.

Owns: the terms that change, and reading the earlier ones from the log. Does not own: figures and status (blocks), the
movements of a block by month (holdings).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date, datetime
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import text

from subledger.blocks import Block
from subledger.events.fields import parse_time
from subledger.kinds import OPENINGS
from subledger.store.reading.views import View
from subledger.store.writing.rows import decode_decision

CHANGED: Final = """
-- The blocks whose expiry was ever changed, of some customers or of all.
SELECT DISTINCT n.block_id FROM entries n WHERE n.ledger = :ledger AND n.kind = 'expiry_changed' {of_customers}
"""
EXPIRIES: Final = """
-- The openings and expiry changes of some blocks, as recorded, up to a position.
SELECT n.block_id, n.kind, n.accounting_date, e.type, e.data, e.decision
FROM entries n JOIN events e ON e.ledger = n.ledger AND e.position = n.position
WHERE n.ledger = :ledger AND n.position <= :position AND n.block_id = ANY(:blocks) AND n.kind = ANY(:kinds)
  {of_customers}
ORDER BY n.position, n.number
"""

Owned = Mapping[str, tuple[str, Block]]
"""Blocks by their ids, each with its customer."""


class Expiry(NamedTuple):
    """An expiry (None: never) and the first accounting date on which it applies; ``date.min`` for the opening's."""

    from_date: date
    expires_at: datetime | None


def known_terms(view: View, blocks: Owned) -> dict[str, tuple[str, Block]]:
    """Returns the blocks with their terms as known at the view. Their figures are not changed (they are current)."""
    if view.at_head or not blocks:
        return dict(blocks)
    known = expiry_history(view, {customer for customer, _ in blocks.values()})
    return {block_id: (customer, _as_known(block, known)) for block_id, (customer, block) in blocks.items()}


def _as_known(block: Block, known: Mapping[str, list[Expiry]]) -> Block:
    history = known.get(block.block_id)
    return msgspec.structs.replace(block, expires_at=history[-1].expires_at) if history else block


def expiry_history(view: View, customers: Collection[str] | None = None) -> dict[str, list[Expiry]]:
    """Returns by block the expiries known at the view, in the order of their dates, if there was ever a change.

    A block that is not in the answer has the same expiry in every view. ``customers`` limits the answer; None means all
    customers.
    """
    of_customers, parameters = "", dict[str, Any](ledger=view.ledger)
    if customers is not None:
        # The condition on customers is for speed: entries are indexed by customer.
        of_customers, parameters["customers"] = "AND n.customer = ANY(:customers)", sorted(customers)
    changed = view.connection.execute(text(CHANGED.format(of_customers=of_customers)), parameters).scalars().all()
    found: dict[str, list[Expiry]] = {}
    if not changed:
        return found
    parameters |= {"position": view.position, "blocks": list(changed), "kinds": [*OPENINGS, "expiry_changed"]}
    for row in view.connection.execute(text(EXPIRIES.format(of_customers=of_customers)), parameters):
        history = found.setdefault(row.block_id, [])
        # A change that is recorded later applies later, also if it is dated before an earlier change.
        from_date = max(row.accounting_date, history[-1].from_date) if history else date.min
        history.append(Expiry(from_date, _expires_at(row)))
    return found


def _expires_at(row: Any) -> datetime | None:
    """Returns the expiry that an opening or a change sets. For a transfer or an undone event it is in the decision."""
    if row.type == "event.reversed":
        restored = (part.block(row.block_id) for part in decode_decision(row.decision).restored)
        return next((block.expires_at for block in restored if block is not None), None)
    if row.kind == "transfer_in":
        taken_over = decode_decision(row.decision).new_block
        return None if taken_over is None else taken_over.expires_at
    expires_at = msgspec.json.decode(row.data).get("expires_at")
    return None if expires_at is None else parse_time(expires_at)
