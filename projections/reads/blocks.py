"""Credit blocks in a view: terms, figures and status.

The figures of a block are sums of its entries in the view. The terms of a block, such as its expiry, come from its
stored row and from the module ``terms``, which restores the expiry of the view.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
from sqlalchemy import text

from projections.reads.balances import customer_balances
from projections.reads.terms import known_terms
from subledger.availability import Portion
from subledger.blocks import ZERO, Before, Block, BlockStatus
from subledger.errors import UnknownBlock
from subledger.kinds import GAINS, KIND_BY_NAME, LOSSES
from subledger.periods import MICROSECOND
from subledger.store.reading.views import View
from subledger.store.writing.rows import decode_block, decode_wallet
from subledger.wallet import Wallet


class BlockView(msgspec.Struct, frozen=True, kw_only=True):
    """A block in a view.

    - ``block``: the block with its terms in the view, and with its current figures.
    - ``columns``: the credits and the minor units of each column of the block's roll-forward, in the view.
    - ``carrying_functional``: the carrying amount in minor units of the functional currency. It is at the block's own
      rate. For a refundable block it is as last remeasured.
    - ``disputed_minor``: the amount in open disputes.
    - ``moment``: the moment of the view, which decides the status.
    """

    customer: str
    block: Block
    columns: dict[str, tuple[Decimal, int]]
    carrying_functional: int
    disputed_minor: int
    moment: datetime

    @property
    def expires_at(self) -> datetime | None:
        return self.block.expires_at

    def _column(self, name: str) -> tuple[Decimal, int]:
        return self.columns.get(name, (ZERO, 0))

    @property
    def _before(self) -> Before | None:
        """The history of the block before a cut-over opened it. None if there is none, or if the view contains the
        undoing of the opening.
        """
        is_undone = self.block.undone and not any(self._column("opened"))
        return None if is_undone else self.block.before

    @property
    def used_before(self) -> Decimal:
        """Credits that were used before a cut-over opened the block. No entry of this ledger contains these credits."""
        return ZERO if self._before is None else self._before.used

    @property
    def drawn_before_minor(self) -> int:
        """The value of the usage before the cut-over, in minor units. Usage at earlier prices is included."""
        return 0 if self._before is None else self._before.redeemed_minor

    @property
    def used(self) -> Decimal:
        return self.used_before + self._column("consumed")[0]

    @property
    def drawn_minor(self) -> int:
        return self.drawn_before_minor + self._column("consumed")[1]

    @property
    def credits(self) -> Decimal:
        """All credits that were added to the block: bought, granted, received from another customer, or added by a
        repricing.

        For a block that a cut-over opened: the opened credits and ``used_before``, and all credits that were added
        later.
        """
        return self.used_before + sum((self._column(name)[0] for name in GAINS), ZERO)

    @property
    def price_minor(self) -> int:
        """The value of ``credits``, in minor units."""
        return self.drawn_before_minor + sum(self._column(name)[1] for name in GAINS)

    @property
    def remaining(self) -> Decimal:
        return self.credits - self.used_before - sum((self._column(name)[0] for name in LOSSES), ZERO)

    @property
    def carrying_minor(self) -> int:
        return self.price_minor - self.drawn_before_minor - sum(self._column(name)[1] for name in LOSSES)

    @property
    def expiry_due(self) -> bool:
        """True if the block is past its expiry and still has credits, so that its expiry is to be recorded.

        False while the block has an open dispute.
        """
        if self.expires_at is None or self.remaining <= 0 or self.disputed_minor:
            return False
        return self.expires_at - MICROSECOND <= self.moment  # expiry is exclusive

    @property
    def as_then(self) -> Block:
        """The block with its credits, usage, disposed credits and disputes in the view. ``frozen`` is the current
        value.
        """
        return msgspec.structs.replace(
            self.block,
            credits=self.credits,
            used=self.used,
            disposed={name: Portion(*self._column(name), 0) for name in LOSSES if name != "consumed"},
            disputes=int(self.disputed_minor > 0),
        )

    @property
    def status(self) -> BlockStatus:
        return self.as_then.status(self.moment)


FIND: Final = """
-- Blocks. The state of an open block is in its row of wallet_parts, or else in the wallet of its customer.
SELECT b.block_id, b.customer, b.opened_at_position, b.is_open, b.state,
       p.state AS part, w.state AS wallet
FROM blocks b
LEFT JOIN LATERAL (
    SELECT o.state FROM wallet_parts o
    WHERE o.ledger = :ledger AND o.customer = b.customer AND o.kind = 'block' AND o.part_id = b.block_id
    OFFSET 0  -- or else a table without statistics is read whole for each block
) p ON true
LEFT JOIN wallets w ON w.ledger = b.ledger AND w.customer = b.customer AND b.is_open AND p.state IS NULL
WHERE b.ledger = :ledger AND b.opened_at_position <= :position
"""
FIGURES: Final = """
-- The entries of a page's blocks in a view, summed by block and kind. A range of ids selects the blocks. A list of ids
-- would be slow: a prepared statement compares each entry with every id of the list.
SELECT block_id, kind, sum(credits) AS credits, sum(amount_minor) AS amount_minor,
       sum(functional_minor) AS functional_minor
FROM entries
WHERE ledger = :ledger AND customer = ANY(:customers) AND block_id BETWEEN :first AND :last
  AND position BETWEEN :opened AND :position AND accounting_date <= :as_of
GROUP BY block_id, kind
"""


def customer_blocks(
    view: View, customer: str | None = None, *, after: str = "", limit: int = 100
) -> tuple[list[BlockView], str | None]:
    """Returns a page of blocks in order of id, and the ``after`` of the next page. It is None on the last page.

    The page begins after the id ``after``. It has the blocks of one customer, or of all customers. It can have fewer
    blocks than ``limit`` although more pages follow, because blocks that are not in the view are left out. Raises
    UnknownCustomer if the customer is not in the view.
    """
    condition = " AND b.block_id > :after" + (" AND b.customer = :customer" if customer is not None else "")
    parameters = {"after": after, "limit": limit} | ({"customer": customer} if customer is not None else {})
    rows = _find(view, condition + " ORDER BY b.block_id LIMIT :limit", parameters)
    if customer is not None and not rows and not after:
        customer_balances(view, customer)  # a customer may have no blocks; one without any event is unknown
    return _views(view, rows), rows[-1].block_id if len(rows) == limit else None


def one_block(view: View, block_id: str) -> BlockView:
    """Returns a block. Raises UnknownBlock if the block does not exist, or is not in the view."""
    found = _views(view, _find(view, " AND b.block_id = :block", {"block": block_id}))
    if not found:
        raise UnknownBlock(
            f"no credit block {block_id} in this view", field="block_id", expected="a known block", found=block_id
        )
    return found[0]


def _find(view: View, condition: str, parameters: dict[str, Any]) -> Sequence[Any]:
    query = text(FIND + condition)
    rows: Sequence[Any] = view.connection.execute(
        query, {"ledger": view.ledger, "position": view.position, **parameters}
    ).all()
    return rows


def _views(view: View, rows: Sequence[Any]) -> list[BlockView]:
    if not rows:
        return []
    blocks: dict[str, tuple[str, Block]] = {}
    wallets: dict[str, Wallet] = {}
    for row in rows:
        state = row.part if row.is_open else row.state
        if state is not None:
            block: Block | None = decode_block(state)
        else:
            if row.customer not in wallets:
                wallets[row.customer] = decode_wallet(row.wallet)
            block = wallets[row.customer].block(row.block_id)
        if block is not None:
            blocks[row.block_id] = (row.customer, block)
    blocks = known_terms(view, blocks)
    parameters = {
        "ledger": view.ledger,
        "position": view.position,
        "as_of": view.as_of,
        "first": rows[0].block_id,
        "last": rows[-1].block_id,
        "customers": sorted({customer for customer, _ in blocks.values()}),
        "opened": min(row.opened_at_position for row in rows),
    }
    found = _figures(view.connection.execute(text(FIGURES), parameters))
    moment = view.moment
    return [
        BlockView(
            customer=customer,
            block=block,
            columns=found.columns[block_id],
            carrying_functional=found.functional[block_id],
            disputed_minor=found.disputed.get(block_id, 0),
            moment=moment,
        )
        for block_id, (customer, block) in blocks.items()
        if not found.columns.get(block_id, {}).keys().isdisjoint(GAINS)
    ]


class _Figures(msgspec.Struct, kw_only=True):
    """Figures by block id: columns, carrying amount in the functional currency, amount in open disputes."""

    columns: dict[str, dict[str, tuple[Decimal, int]]] = {}
    functional: dict[str, int] = {}
    disputed: dict[str, int] = {}


def _figures(rows: Iterable[Any]) -> _Figures:
    """Returns the figures of blocks. ``rows`` are the sums of their entries by block and kind."""
    found = _Figures()
    columns, functional, disputed = found.columns, found.functional, found.disputed
    for row in rows:
        kind = KIND_BY_NAME[row.kind]
        if "disputes_receivable" in (kind.debit_role, kind.credit_role):
            sign = 1 if kind.debit_role == "disputes_receivable" else -1
            disputed[row.block_id] = disputed.get(row.block_id, 0) + sign * int(row.amount_minor)
        if kind.debit_role == "prepaid_liability":  # remeasured, or settled at another rate: only for refundable blocks
            functional[row.block_id] = functional.get(row.block_id, 0) - int(row.functional_minor)
        if kind.column is not None:
            of_block = columns.setdefault(row.block_id, {})
            functional[row.block_id] = functional.get(row.block_id, 0) + kind.sign * int(row.functional_minor)
            credits, amount = of_block.get(kind.column, (ZERO, 0))
            # Credits added and credits taken both increase their own column; a reinstatement reduces ``expired``.
            sign = kind.sign if kind.column in GAINS else -kind.sign
            of_block[kind.column] = (credits + sign * row.credits, amount + sign * int(row.amount_minor))
    return found
