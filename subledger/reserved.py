"""Reserved credits: the credits of each block that a customer's open reservations hold, and the spendable credits.

Owns: the rule by which reservations hold credits, the credits that are spendable at a moment. Does not own: the
reservation itself (billing_documents), the decisions about it (deciding/reservations). Pure.

At a moment the open reservations are drawn first, in the order in which they were recorded, each as usage of its unit
and product would be: in draw order, from the credits that the earlier reservations have not taken. Other usage and
other reservations get the rest. So no usage takes credits that a reservation holds.

A reservation does not store its blocks. The held credits follow from the present blocks, so a purchase, a transfer, a
dispute or an expiry changes them. Other draws and additions never reduce the credits of a reservation, because each
reservation uses up an earlier block before a later one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, Protocol

import msgspec

from subledger.billing_documents import Reservation
from subledger.blocks import ZERO, Block
from subledger.segments import most_drawable, segments_back

MOST_OPEN: Final = 1_000
"""The most open reservations of a customer. There is a limit because each usage reads all of them."""
FORGOTTEN_AFTER: Final = timedelta(days=1)
"""A wallet forgets a reservation this long after its expiry, because an event may be this far ahead of another one."""


class BlocksToDraw(Protocol):
    """Blocks that can list, in draw order, the ones that may admit a usage."""

    def admitting(self, unit: str, product: str | None, at: datetime) -> Iterator[Block]: ...


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """The credits that reservations hold at a moment.

    ``free``: the free credits of each block with held credits. ``by_reservation``: for each open reservation, the
    credits that it holds of each block.
    """

    free: dict[str, Decimal]
    by_reservation: dict[str, dict[str, Decimal]]

    def free_for(self, reservation_id: str | None) -> dict[str, Decimal]:
        """The most credits that usage can draw of each block with held credits."""
        own = self.by_reservation.get(reservation_id or "", {})
        return {block_id: free + own.get(block_id, ZERO) for block_id, free in self.free.items()}

    def of(self, reservation_id: str) -> Decimal:
        """The credits that a reservation holds: fewer than it reserved if, for example, some of them expired."""
        return sum(self.by_reservation.get(reservation_id, {}).values(), ZERO)


NOTHING_HELD: Final = Held(free={}, by_reservation={})


def drawable(block: Block, at: datetime, *, late: bool) -> Decimal:
    """The credits of a block that usage at a moment could draw if nothing was reserved.

    ``late``: credits that expired after that moment are included. Exception: if the whole block is disputed, its
    expired credits are not drawn until the dispute ends.
    """
    credits = block.available + (block.expired_credits if late and not block.is_frozen_whole else ZERO)
    back = segments_back(block, at) if block.segment is not None else 0
    return most_drawable(block, back, credits) if back else credits


def held_at(blocks: BlocksToDraw, reservations: Iterable[Reservation], at: datetime, *, late: bool) -> Held:
    """The credits that reservations hold at a moment."""
    held = Held(free={}, by_reservation={})
    for reservation in reservations:
        if reservation.holds_at(at):
            needed, of_blocks = reservation.credits, held.by_reservation.setdefault(reservation.reservation_id, {})
            for block, free in _free(blocks, held, reservation.unit, reservation.product, at, late=late):
                part = min(free, needed)
                held.free[block.block_id], of_blocks[block.block_id] = free - part, part
                needed -= part
                if not needed:
                    break
    return held


def spendable(
    blocks: BlocksToDraw, held: Held, *, unit: str, product: str | None, at: datetime, late: bool = False
) -> Decimal:
    """The credits that usage of a unit and a product can draw at a moment if it names no reservation."""
    return sum((free for _, free in _free(blocks, held, unit, product, at, late=late)), ZERO)


def _free(
    blocks: BlocksToDraw, held: Held, unit: str, product: str | None, at: datetime, *, late: bool
) -> Iterator[tuple[Block, Decimal]]:
    """The blocks that admit usage and have credits that no reservation holds, with these credits."""
    for block in blocks.admitting(unit, product, at):
        if block.admits(unit=unit, product=product, at=at):
            known = held.free.get(block.block_id)
            free = drawable(block, at, late=late) if known is None else known
            if free > 0:
                yield block, free


def still_needed(reservations: tuple[Reservation, ...], at: datetime) -> tuple[Reservation, ...]:
    """The reservations that stay in a wallet when a reservation is recorded, settled or released at a moment.

    An expired reservation holds nothing against later usage. So it is removed a day later, or at once if there are too
    many.
    """
    needed = tuple(r for r in reservations if at < r.expires_at + FORGOTTEN_AFTER)
    return needed if len(needed) < MOST_OPEN else tuple(r for r in needed if at < r.expires_at)
