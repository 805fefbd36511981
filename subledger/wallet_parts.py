"""The parts of a wallet: its blocks in draw order, its overages, and the documents recalled for an event.

Owns: the names and the order of each sort of parts. Does not own: how they lie in memory (ordered), what a part is
(blocks, billing_documents), the wallet as a whole (wallet).
"""

from __future__ import annotations

from typing import ClassVar

from subledger.billing_documents import BillingDocument, Overage, ReversedUsage
from subledger.blocks import Block
from subledger.draw_order import DrawOrder, draw_order
from subledger.ordered import ByName, Ordered


class Blocks(Ordered[Block]):
    """Blocks by id, in draw order."""

    __slots__ = ()
    kind: ClassVar = "block"

    @staticmethod
    def name(value: Block) -> str:
        return value.block_id

    @staticmethod
    def order(value: Block) -> DrawOrder:
        return draw_order(value)

    @classmethod
    def same_place(cls, before: Block, after: Block) -> bool:
        return before.expires_at == after.expires_at  # nothing else of the draw order ever changes


class Overages(ByName[Overage]):
    """Overages by the position of their usage, in that order."""

    __slots__ = ()
    kind: ClassVar = "overage"

    @staticmethod
    def name(value: Overage) -> int:
        return value.position


class ReversedUsages(ByName[ReversedUsage]):
    """Reversed usages by the position of the usage, in that order."""

    __slots__ = ()

    @staticmethod
    def name(value: ReversedUsage) -> int:
        return value.position


class Documents(ByName[BillingDocument]):
    """Payments, invoices and disputes by kind and id, in that order."""

    __slots__ = ()

    @staticmethod
    def name(value: BillingDocument) -> tuple[str, str]:
        return value.document_kind, value.document_id
