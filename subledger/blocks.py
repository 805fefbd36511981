"""The credit block: what a customer bought or was granted in one go, and how it is drawn down.

Owns: a block's figures, the draw order, cumulative rounding. Does not own: which blocks a customer has (wallet),
what a draw posts (posting).
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum

import msgspec

from subledger.money import share

ZERO = Decimal(0)
_NEVER = datetime.max.replace(tzinfo=UTC)

PAID = "paid"
PROMOTIONAL = "promotional"


class BlockStatus(StrEnum):
    """Where a block stands in its life, at a moment."""

    SCHEDULED = "scheduled"
    ACTIVE = "active"
    EXHAUSTED = "exhausted"
    EXPIRED = "expired"
    VOIDED = "voided"
    REFUNDED = "refunded"


class Block(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A credit block as the writer knows it.

    Amounts are minor units of ``currency``; ``price_minor`` is the basis to be recognised (0 for a promotional
    grant) and ``credits`` counts paid and bonus credits alike, so that bonus credits share the price.
    ``expires_at`` is exclusive; None means never. ``scope`` lists the products it may pay for; None means any.

    ``used`` and ``drawn_minor`` are net of reversals. ``gained_on`` is the latest accounting date at which the
    block gained credits or money, ``broken_on`` the latest of its breakages. ``receivable_minor`` is what is still
    to be paid of its price and tax. ``expired`` says that its expiry has been recorded and not been undone.
    """

    block_id: str
    credit_kind: str
    unit: str
    credits: Decimal
    price_minor: int
    currency: str
    starts_at: datetime
    expires_at: datetime | None = None
    priority: int = 50
    scope: tuple[str, ...] | None = None
    invoice_id: str | None = None
    opened_at_position: int
    gained_on: date
    tax_minor: int = 0
    receivable_minor: int = 0
    used: Decimal = ZERO
    drawn_minor: int = 0
    broken: Decimal = ZERO
    broken_minor: int = 0
    broken_on: date | None = None
    voided: Decimal = ZERO
    voided_minor: int = 0
    tax_reversed_minor: int = 0
    expired: bool = False

    @property
    def left(self) -> Decimal:
        """Credits that can still be drawn, broken or voided."""
        return self.credits - self.used - self.broken - self.voided

    @property
    def carrying_minor(self) -> int:
        """What of the price is not recognised, broken or voided: the block's part of prepaid_liability."""
        return self.price_minor - self.drawn_minor - self.broken_minor - self.voided_minor

    def admits(self, *, unit: str, product: str | None, at: datetime) -> bool:
        """Whether usage of ``unit`` for ``product`` that happened ``at`` may draw on this block."""
        return (
            self.unit == unit
            and self.starts_at <= at
            and (self.expires_at is None or at < self.expires_at)
            and (self.scope is None or product in self.scope)
            and self.left > 0
        )

    def amount_for(self, credits: Decimal) -> int:
        """Money that drawing ``credits`` moves: cumulative rounding, half up.

        The amount is round(price × used after / credits) − drawn so far, never negative and never more than is
        left; the last credit takes what is left. So sub-cent usage posts a cent when half a cent has accumulated,
        and a block ends at exactly zero.
        """
        if credits == self.left:
            return self.carrying_minor
        target = share(self.price_minor, self.used + credits, self.credits)
        return min(max(target - self.drawn_minor, 0), self.carrying_minor)

    def status(self, at: datetime) -> BlockStatus:
        """Where the block stands at a moment, given what has been recorded."""
        if self.left > 0:
            if self.expires_at is not None and at >= self.expires_at:
                return BlockStatus.EXPIRED
            return BlockStatus.SCHEDULED if at < self.starts_at else BlockStatus.ACTIVE
        if self.voided > 0:
            return BlockStatus.VOIDED
        return BlockStatus.EXPIRED if self.broken > 0 else BlockStatus.EXHAUSTED


def draw_order(block: Block) -> tuple[bool, int, datetime, bool, datetime, str]:
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
