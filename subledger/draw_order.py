"""The order in which usage draws on blocks.

Does not own: the blocks that a product may draw on (``Block.admits``), and the credits that usage takes from each of
them (``deciding/usage``).
"""

from __future__ import annotations

from datetime import UTC, datetime

from subledger.blocks import PROMOTIONAL, Block

_NEVER = datetime.max.replace(tzinfo=UTC)

DrawOrder = tuple[bool, int, datetime, bool, datetime, str]


def draw_order(block: Block) -> DrawOrder:
    """The order in which blocks are drawn: a total order, the same on every machine.

    Scoped before unscoped, then lower priority, sooner expiry (never last), promotional before paid, earlier
    start, block_id by code point.
    """
    return (
        block.scope is None,
        block.priority,
        block.expires_at or _NEVER,
        block.credit_kind != PROMOTIONAL,
        block.starts_at,
        block.block_id,
    )
