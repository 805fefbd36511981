"""Shortfalls: the reasons why usage or a reservation found too few credits, block by block.

Owns: the reasons, and the refusal that states them. Does not own: the draws (usage); the time and the number of such
explanations, and blocks outside the wallet (store). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec

from subledger.billing_documents import Reservation
from subledger.blocks import NO_PORTION, ZERO, Block
from subledger.errors import InsufficientCredits
from subledger.events.data import CreditsConsumed, CreditsReserved
from subledger.events.envelope import Event, format_time
from subledger.money import format_credits
from subledger.reserved import drawable, held_at
from subledger.segments import most_drawable, segments_back, timeline
from subledger.wallet_parts import Blocks

Asking = Event[CreditsConsumed] | Event[CreditsReserved]
"""An event that requests credits."""

MOST_NAMED: Final = 10
"""The most blocks, products or units that a reason names. Its credits are those of all blocks."""


class Shortfall(msgspec.Struct, frozen=True, kw_only=True):
    """Credits that the usage could not draw, for one reason.

    - ``reason``: ``expired``, ``not_started`` (also credits that a later repricing added), ``disputed`` (frozen),
      ``reserved`` (for other usage), ``other_unit``, ``other_product``; or, without credits, ``used_up`` or
      ``unknown_customer``.
    - ``blocks``: the first ``MOST_NAMED`` blocks.
    - ``at``: the last expiry, or the first start, of all of them.
    - ``names``: the first reservations, units, or products of the blocks.
    """

    reason: str
    credits: Decimal = ZERO
    blocks: tuple[str, ...] = ()
    at: datetime | None = None
    names: tuple[str, ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        """The reason as a member of a problem document."""
        document: dict[str, Any] = {"reason": self.reason, "credits": format_credits(self.credits)}
        if self.blocks:
            document["blocks"] = list(self.blocks)
        if self.at is not None:
            document["at"] = format_time(self.at)
        if self.names:
            document[_NAMES.get(self.reason, "products")] = list(self.names)
        return document

    def sentence(self, customer: str) -> str:
        """The reason in words."""
        credits, at = format_credits(self.credits), "" if self.at is None else format_time(self.at)
        first = self.blocks[:1]
        of = f" (block {first[0]}{' and others' if len(self.blocks) > 1 else ''})" if first else ""
        match self.reason:
            case "expired":
                return f"{credits} expired{' by' if len(self.blocks) > 1 else ''} {at}{of}"
            case "not_started":
                return f"{credits} cannot be used before {at}{of}"
            case "disputed":
                return f"{credits} are frozen until a dispute ends{of}"
            case "reserved":
                more = " and others" if len(self.names) > 1 else ""
                return f"{credits} are reserved until {at} (reservation {self.names[0]}{more})"
            case "other_unit":
                return f"{credits} are of another unit, {', '.join(self.names)}{of}"
            case "other_product":
                return f"{credits} are for other products, {', '.join(self.names)}{of}"
            case "unknown_customer":
                return f"the ledger has no event of customer {customer}"
        return "there are no other credits"


_NAMES: Final = {"other_unit": "units", "reserved": "reservations"}

UNKNOWN_CUSTOMER: Final = Shortfall(reason="unknown_customer")


def shortfalls_of(blocks: Iterable[Block], event: Asking, *, late: bool) -> tuple[Shortfall, ...]:
    """The reasons why a usage could not draw credits of these blocks. A block counts for its first reason only.

    ``late``: late usage draws credits that have expired.
    """
    found: dict[str, _Sum] = {}
    for block in blocks:
        reason, credits = _shortfall(block, event, late=late)
        if credits > 0:
            found.setdefault(reason, _Sum()).add(reason, block, credits, event.occurred_at)
    return tuple(found[reason].shortfall(reason) for reason in _ORDER if reason in found)


def reserved_of(
    blocks: Blocks, reservations: Iterable[Reservation], event: Asking, *, late: bool
) -> tuple[Shortfall, ...]:
    """The reason ``reserved``: the credits that other reservations hold of blocks on which the event could draw."""
    data, at = event.data, event.occurred_at
    named = data.block_id if isinstance(data, CreditsConsumed) else None
    held = held_at(blocks, reservations, at, late=late).by_reservation
    of_blocks: dict[str, tuple[Block, Decimal]] = {}
    found, last = _Sum(), at
    for reservation in reservations:
        if reservation.reservation_id == data.reservation_id:
            continue
        for block_id, credits in held.get(reservation.reservation_id, {}).items():
            block = blocks.get(block_id)
            if (
                block is not None
                and named in (None, block_id)
                and block.admits(unit=data.unit, product=data.product, at=at)
            ):
                _, earlier = of_blocks.get(block_id, (block, ZERO))
                of_blocks[block_id] = (block, earlier + credits)
                found.name((reservation.reservation_id,))
                last = max(last, reservation.expires_at)
    for block, credits in of_blocks.values():
        found.add("reserved", block, credits, at)
    found.at = last
    return (found.shortfall("reserved"),) if found.credits else ()


_ORDER: Final = ("expired", "not_started", "disputed", "other_product", "other_unit")


def _shortfall(block: Block, event: Asking, *, late: bool) -> tuple[str, Decimal]:
    """The reason why a block gave no credits, and its credits; 0 credits for a block that could be drawn."""
    data, at = event.data, event.occurred_at
    escheated = block.disposed.get("escheated", NO_PORTION)[0] if block.expired else ZERO
    lapsed = block.expired_credits + escheated if block.expired else ZERO
    credits = block.remaining + lapsed
    if block.unit != data.unit:
        return "other_unit", credits
    if block.scope is not None and data.product not in block.scope:
        return "other_product", credits
    if block.disputes:
        admitted = block.admits(unit=data.unit, product=data.product, at=at)
        return "disputed", credits - drawable(block, at, late=late) if admitted else credits
    if at < block.starts_at:
        return "not_started", credits
    if block.expires_at is not None and block.expires_at <= at:
        return "expired", credits
    if back := segments_back(block, at):
        there = block.remaining + (block.expired_credits if late else ZERO)
        return "not_started", there - most_drawable(block, back, there)
    # The usage happened before the expiry: the remaining credits are drawn, and expired ones only if late usage may.
    return "expired", escheated if late else lapsed


class _Sum(msgspec.Struct, kw_only=True):
    """The sum of one reason over the blocks so far."""

    credits: Decimal = ZERO
    blocks: list[str] = []
    at: datetime | None = None
    names: dict[str, None] = {}

    def add(self, reason: str, block: Block, credits: Decimal, at: datetime) -> None:
        self.credits += credits
        if len(self.blocks) < MOST_NAMED:
            self.blocks.append(block.block_id)
        if reason == "expired":
            if block.expires_at is not None:
                self.at = block.expires_at if self.at is None else max(self.at, block.expires_at)
        elif reason == "not_started":
            starts = [block.starts_at, *(s.since for s in timeline(block) if s.since is not None)]
            first = min(start for start in starts if start > at)
            self.at = first if self.at is None else min(self.at, first)
        elif reason == "other_unit":
            self.name((block.unit,))
        elif reason == "other_product":
            self.name(block.scope or ())

    def name(self, names: tuple[str, ...]) -> None:
        for name in names:
            if len(self.names) == MOST_NAMED:
                return
            self.names[name] = None

    def shortfall(self, reason: str) -> Shortfall:
        return Shortfall(
            reason=reason, credits=self.credits, blocks=tuple(self.blocks), at=self.at, names=tuple(self.names)
        )


def insufficient(event: Asking, missing: Decimal, reasons: tuple[Shortfall, ...] | None = None) -> InsufficientCredits:
    """The refusal of usage, or of a reservation, that lacks ``missing`` credits.

    It has the reasons if they were computed. An empty list of reasons means that the credits are used up.
    """
    data = event.data
    available = data.credits - missing
    said, facts = "", {}
    if reasons is not None:
        reasons = reasons or (Shortfall(reason="used_up"),)
        said = ": " + "; ".join(reason.sentence(event.customer or "-") for reason in reasons)
        facts = {"reasons": [reason.document for reason in reasons]}
    return InsufficientCredits(
        f"{format_credits(data.credits)} {data.unit} requested, {format_credits(available)} available{said}",
        field="data.credits",
        expected=f"at most {format_credits(available)}",
        found=format_credits(data.credits),
        available=format_credits(available),
        missing=format_credits(missing),
        **facts,
    )
