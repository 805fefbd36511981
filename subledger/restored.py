"""The state before an undone event, as the decision to undo the event stores it.

Owns: these values. Does not own: their use in a wallet (wallet) and in the books (books), the decision (deciding/undo).
Pure.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import msgspec

from subledger.balance_days import DayAmounts
from subledger.billing_documents import BillingDocument, Overage, RefundsOwed
from subledger.blocks import Block


class Restored(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The parts of a customer's wallet that an undone event had changed, with their values after the undoing.

    A block or a document that the event made stays. It is marked as undone, and is empty. ``refunds_owed`` and
    ``balance_held`` are None if the event had not changed them. ``balance_days`` has the balances whose days are
    restored. The mirrored entries change the days of the other balances.
    """

    customer: str
    blocks: tuple[Block, ...] = ()
    overages: tuple[Overage, ...] = ()
    documents: tuple[BillingDocument, ...] = ()
    refunds_owed: RefundsOwed | None = None
    balance_held: dict[str, int] | None = None
    balance_days: dict[str, DayAmounts] = {}

    def block(self, block_id: str) -> Block | None:
        """The block of this id, or None if the undone event had not changed it."""
        return next((block for block in self.blocks if block.block_id == block_id), None)


class RestoredRate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The exchange rate that a day had before the undone one; ``rate`` is None if the day had no rate of its own."""

    currency: str
    day: date
    rate: Decimal | None = None


class RestoredEstimate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The undone estimate of a pool. Its cohorts have the replaced estimates again."""

    pool: str
    version: int
