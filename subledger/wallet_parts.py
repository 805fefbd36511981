"""The parts of a wallet: its blocks in draw order, its overages, and the documents recalled for an event.

Owns: the names and the order of each sort of parts. Does not own: their storage in memory (ordered), the parts (blocks,
billing_documents), the wallet (wallet).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import ClassVar

import msgspec

from subledger.billing_documents import BillingDocument, Overage, ReversedUsage
from subledger.blocks import Block
from subledger.draw_order import DrawOrder, draw_order
from subledger.ordered import ByName, Ordered


class _BlockTerms(msgspec.Struct, frozen=True, gc=False):
    """The terms of the blocks of a chunk, by which usage or a payment can skip it. They change only with the blocks."""

    units: frozenset[str]
    products: frozenset[str] | None
    """None if one of the blocks is for any product."""
    first_start: datetime
    last_expiry: datetime | None
    invoices: frozenset[str]

    @classmethod
    def of(cls, blocks: Collection[Block]) -> _BlockTerms:
        scopes = [block.scope for block in blocks]
        expiries = [block.expires_at for block in blocks]
        return cls(
            units=frozenset(block.unit for block in blocks),
            products=None if None in scopes else frozenset(product for scope in scopes for product in scope or ()),
            first_start=min(block.starts_at for block in blocks),
            last_expiry=None if None in expiries else max(expiry for expiry in expiries if expiry is not None),
            invoices=frozenset(block.invoice_id for block in blocks if block.invoice_id is not None),
        )

    def may_admit(self, unit: str, product: str | None, at: datetime) -> bool:
        return (
            unit in self.units
            and (self.products is None or product in self.products)
            and self.first_start <= at
            and (self.last_expiry is None or at < self.last_expiry)
        )


class _BlockChunk(tuple[Block, ...]):
    """A chunk of blocks that computes their terms once."""

    known: _BlockTerms | None = None

    @property
    def terms(self) -> _BlockTerms:
        if self.known is None:
            self.known = _BlockTerms.of(self)
        return self.known


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
        return before.expires_at == after.expires_at  # the other parts of the draw order never change

    @classmethod
    def _chunk(cls, values: Iterable[Block], like: tuple[Block, ...] | None = None) -> tuple[Block, ...]:
        made = _BlockChunk(values)
        if isinstance(like, _BlockChunk) and like.known is not None:
            made.known = like.known
        return made

    def admitting(self, unit: str, product: str | None, at: datetime) -> Iterator[Block]:
        """The blocks that may admit usage, in draw order. Chunks in which no block does are skipped."""
        if len(self._chunks) <= 1:
            return iter(self)
        return (
            block
            for chunk in self._chunks
            if isinstance(chunk, _BlockChunk) and chunk.terms.may_admit(unit, product, at)
            for block in chunk
        )

    def on_invoice(self, invoice_id: str) -> list[Block]:
        """The blocks that were bought on an invoice, in draw order."""
        return [
            block
            for chunk in self._chunks
            if isinstance(chunk, _BlockChunk) and invoice_id in chunk.terms.invoices
            for block in chunk
            if block.invoice_id == invoice_id and not block.undone
        ]


class _OverageChunk(tuple[Overage, ...]):
    """A chunk of overages that computes once if a purchase may pay one of them."""

    known: bool | None = None

    @property
    def has_backfill(self) -> bool:
        if self.known is None:
            self.known = any(overage.backfill for overage in self)
        return self.known


class Overages(ByName[Overage]):
    """Overages by the position of their usage, in that order."""

    __slots__ = ()
    kind: ClassVar = "overage"

    @staticmethod
    def name(value: Overage) -> int:
        return value.position

    @classmethod
    def _chunk(cls, values: Iterable[Overage], like: tuple[Overage, ...] | None = None) -> tuple[Overage, ...]:
        made = _OverageChunk(values)
        if isinstance(like, _OverageChunk) and like.known is not None:
            made.known = like.known
        return made

    def for_backfill(self) -> Iterator[Overage]:
        """The overages that the next purchase pays first, oldest first."""
        return (
            overage
            for chunk in self._chunks
            if isinstance(chunk, _OverageChunk) and chunk.has_backfill
            for overage in chunk
            if overage.backfill
        )


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
