"""Credit blocks at a point in time: their terms, their figures, their status.

Figures are sums of entries, so a block can be read at any (as-of, known-at). Its terms are those of the view (terms).
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
    """A block in a view, with its terms there.

    ``columns`` has credits and minor units of each column of its roll-forward. ``carrying_functional`` is the carrying
    amount in functional minor units: at the block's own rate, or for a refundable block as last remeasured.
    ``disputed_minor`` is the amount in open disputes.
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
        """The block before it was opened at a cut-over; None if the opening is undone in the view."""
        is_undone = self.block.undone and not any(self._column("opened"))
        return None if is_undone else self.block.before

    @property
    def used_before(self) -> Decimal:
        """Credits that were used before the block was opened at a cut-over. They are in no entry of this ledger."""
        return ZERO if self._before is None else self._before.used

    @property
    def drawn_before_minor(self) -> int:
        """The value of these credits, and of those that were used at an earlier price."""
        return 0 if self._before is None else self._before.redeemed_minor

    @property
    def used(self) -> Decimal:
        return self.used_before + self._column("consumed")[0]

    @property
    def drawn_minor(self) -> int:
        return self.drawn_before_minor + self._column("consumed")[1]

    @property
    def credits(self) -> Decimal:
        """All credits added to the block: bought, granted, received from another customer, or added by repricing. For a
        block that was opened at a cut-over: the credits that it had then, and those that were used before.
        """
        return self.used_before + sum((self._column(name)[0] for name in GAINS), ZERO)

    @property
    def price_minor(self) -> int:
        """The value of all these credits, in minor units."""
        return self.drawn_before_minor + sum(self._column(name)[1] for name in GAINS)

    @property
    def remaining(self) -> Decimal:
        return self.credits - self.used_before - sum((self._column(name)[0] for name in LOSSES), ZERO)

    @property
    def carrying_minor(self) -> int:
        return self.price_minor - self.drawn_before_minor - sum(self._column(name)[1] for name in LOSSES)

    @property
    def expiry_due(self) -> bool:
        """True if the block has expired with credits remaining and the expiry is not recorded yet."""
        if self.expires_at is None or self.remaining <= 0 or self.disputed_minor:
            return False
        return self.expires_at - MICROSECOND <= self.moment  # expiry is exclusive

    @property
    def as_then(self) -> Block:
        """The block with its figures in the view. It is frozen as it is now."""
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
-- Blocks in order of id; for the open ones with their own rows, or else with the wallet of their customer.
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
-- The entries of a page's blocks in a view, summed by kind. The page has every block of its range of ids: a list of ids
-- would be compared with each entry one by one, once the statement is prepared.
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
    """Returns a page of blocks after an id, in order of block id, and the id after which the next page begins.

    The blocks are those of one customer, or of all customers. Blocks that are not in the view yet are left out, so a
    page can have fewer blocks than requested although more follow. Raises UnknownCustomer, as balances do, if the
    customer is not in the view.
    """
    condition = " AND b.block_id > :after" + (" AND b.customer = :customer" if customer is not None else "")
    parameters = {"after": after, "limit": limit} | ({"customer": customer} if customer is not None else {})
    rows = _find(view, condition + " ORDER BY b.block_id LIMIT :limit", parameters)
    if customer is not None and not rows and not after:
        customer_balances(view, customer)  # a customer may have no blocks; one without any event is unknown
    return _views(view, rows), rows[-1].block_id if len(rows) == limit else None


def one_block(view: View, block_id: str) -> BlockView:
    """Returns a block. Raises UnknownBlock, also if the block is not in the view yet."""
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
    """By block: its columns, its carrying amount in the functional currency, its amount in disputes."""

    columns: dict[str, dict[str, tuple[Decimal, int]]] = {}
    functional: dict[str, int] = {}
    disputed: dict[str, int] = {}


def _figures(rows: Iterable[Any]) -> _Figures:
    """The figures of blocks, from the sums of their entries by kind."""
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
