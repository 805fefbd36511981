"""Spendable credits: the credits that a customer's usage can draw at a moment, and the reasons why it cannot draw the
others.

A question about now is answered from the customer's wallet, by which the next event would be decided. Its time does not
depend on the length of the history. A question about another day, or with a ``known_at``, is answered from the log.

Owns: the division of remaining credits, and reading them. Does not own: the credits that a reservation holds
(subledger/reserved), the figures of blocks in a view (blocks).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec.structs import replace
from sqlalchemy import text

from projections.reads.balances import customer_balances
from projections.reads.blocks import customer_blocks
from subledger.availability import Portion
from subledger.billing_documents import Reservation
from subledger.blocks import NO_PORTION, ZERO, Block
from subledger.errors import UnknownCustomer
from subledger.events.data import CreditsConsumed, CreditsReserved, ReservationReleased
from subledger.evolving import evolve
from subledger.evolving_documents import reservation_of
from subledger.kinds import KIND_BY_NAME, KINDS, Effect
from subledger.periods import end_of_day
from subledger.reserved import Held, held_at
from subledger.store.columns import EVENTS, EventRow
from subledger.store.reading.pages import events_page
from subledger.store.reading.views import View
from subledger.store.writing.rows import decode_decision, decode_wallet, parts_sql
from subledger.wallet import Wallet
from subledger.wallet_parts import Blocks


class UnitCredits(msgspec.Struct, kw_only=True):
    """The remaining credits of one unit at a moment, divided into those that usage of a product can draw, and the
    others by reason.

    ``expired`` are past their expiry, which is not recorded yet. ``other_products`` are only for ``products``.
    """

    unit: str
    spendable: Decimal = ZERO
    reserved: Decimal = ZERO
    frozen: Decimal = ZERO
    scheduled: Decimal = ZERO
    expired: Decimal = ZERO
    other_products: Decimal = ZERO
    products: set[str] = set()

    @property
    def remaining(self) -> Decimal:
        """All credits that remain: the sum of the others."""
        return sum((getattr(self, name) for name in PARTS), ZERO)


PARTS: Final = ("spendable", "reserved", "frozen", "scheduled", "expired", "other_products")


class OpenReservation(msgspec.Struct, frozen=True, kw_only=True):
    """A reservation that is open at a moment, and the credits that it holds then. They are fewer than requested if
    other events took credits away.
    """

    reservation: Reservation
    held: Decimal


class Spendable(msgspec.Struct, frozen=True, kw_only=True):
    """The credits of a customer at a moment, by unit, and its open reservations in the order of their recording."""

    moment: datetime
    product: str | None
    units: list[UnitCredits]
    reservations: list[OpenReservation]


def spendable_credits(view: View, customer: str, *, product: str | None = None) -> Spendable:
    """Returns the credits that usage of a product (None: of no product) can draw in a view. Raises UnknownCustomer."""
    if not view.names_known_at and view.as_of >= view.now.astimezone(view.zone).date():
        blocks, reservations = _now(view, customer)
        return divided(blocks, reservations, product=product, at=view.now)
    return divided(_blocks_then(view, customer), _reservations_then(view, customer), product=product, at=view.moment)


def divided(blocks: Blocks, reservations: Iterable[Reservation], *, product: str | None, at: datetime) -> Spendable:
    """Divides the credits of some blocks."""
    reservations = list(reservations)
    held = held_at(blocks, reservations, at, late=False)
    units: dict[str, UnitCredits] = {}
    for block in blocks:
        if block.remaining > 0:
            _add(units.setdefault(block.unit, UnitCredits(unit=block.unit)), block, held, product, at)
    return Spendable(
        moment=at,
        product=product,
        units=[units[unit] for unit in sorted(units)],
        reservations=[
            OpenReservation(reservation=reservation, held=held.of(reservation.reservation_id))
            for reservation in reservations
            if reservation.holds_at(at)
        ],
    )


def _add(credits: UnitCredits, block: Block, held: Held, product: str | None, at: datetime) -> None:
    available = block.available
    if block.scope is not None and product not in block.scope:
        credits.other_products += block.remaining
        credits.products |= set(block.scope)
        return
    credits.frozen += block.remaining - available
    if at < block.starts_at:
        credits.scheduled += available
    elif block.expires_at is not None and block.expires_at <= at:
        credits.expired += available
    else:
        free = held.free.get(block.block_id, available)
        credits.spendable += free
        credits.reserved += available - free


# --- now ----------------------------------------------------------------------------------------------------

WALLET: Final = f"""
-- The wallet of a customer, with the position of the last event in its row.
SELECT w.position, w.state, {parts_sql(":ledger")}
FROM wallets w WHERE w.ledger = :ledger AND w.customer = :customer
"""
SINCE: Final = """
-- The credits that moved on a customer's blocks after a position: only usage can be newer than the wallet's row.
SELECT block_id, kind, sum(credits) AS credits FROM entries
WHERE ledger = :ledger AND customer = :customer AND position > :position AND block_id IS NOT NULL AND credits <> 0
GROUP BY block_id, kind
"""


def _now(view: View, customer: str) -> tuple[Blocks, tuple[Reservation, ...]]:
    """The blocks and reservations of a customer as the next event would find them."""
    parameters: dict[str, Any] = {"ledger": view.ledger, "customer": customer}
    row = view.connection.execute(text(WALLET), parameters).one_or_none()
    if row is None:
        raise UnknownCustomer(f"there is no customer {customer}", field="customer", found=customer)
    wallet = decode_wallet(row.state, row.blocks, row.overages)
    for moved in view.connection.execute(text(SINCE), parameters | {"position": row.position}):
        block = wallet.block(moved.block_id)
        if block is not None:
            wallet = wallet.with_block(_moved(block, moved.kind, moved.credits))
    return wallet.blocks, wallet.reservations


def _moved(block: Block, kind: str, credits: Decimal) -> Block:
    """Returns a block after entries of a kind moved its credits. The value is not needed here."""
    column, sign = KIND_BY_NAME[kind].column, KIND_BY_NAME[kind].sign
    if column == "consumed":
        return replace(block, used=block.used + credits)
    before = block.disposed.get(column or "", NO_PORTION)
    return replace(block, disposed={**block.disposed, column or "": Portion(before.credits - sign * credits, 0, 0)})


# --- then ---------------------------------------------------------------------------------------------------

_ENDS: Final = [kind.name for kind in KINDS if kind.effect is Effect.ENDS_RESERVATION]
RESERVED: Final = f"""
-- The reservations of a customer and their ends, as recorded through a position.
SELECT {EVENTS.selected("e", decision="''")}
FROM entries n JOIN events e ON e.ledger = n.ledger AND e.position = n.position
WHERE n.ledger = :ledger AND n.customer = :customer AND n.position <= :position AND n.kind = ANY(:kinds)
ORDER BY n.position
"""


def _blocks_then(view: View, customer: str) -> Blocks:
    """The blocks of a customer with their figures in a view."""
    found, after = [], ""
    while True:
        page, following = customer_blocks(view, customer, after=after, limit=1000)
        found += page
        if following is None:
            break
        after = following
    if not found:
        customer_balances(view, customer)  # a customer may have no blocks; one without any event is unknown
    frozen = _frozen_then(view, customer) if any(block.disputed_minor > 0 for block in found) else {}
    # A block in a view has no segments, because its figures are those of the day.
    return Blocks(
        replace(block.as_then, frozen=frozen.get(block.block.block_id, ZERO), segment=None, earlier=())
        for block in found
    )


def _frozen_then(view: View, customer: str) -> dict[str, Decimal]:
    """The frozen credits of disputed blocks in a view. They depend on the state of a block at its dispute.

    Events are recorded in any order, so the credits that the events of the view froze and freed are added up.
    """
    wallet, after, frozen = Wallet(customer=customer), 0, defaultdict[str, Decimal](Decimal)
    while True:
        page = events_page(
            view.connection, view.ledger, customer=customer, after=after, through=view.position, limit=1000
        )
        for stored in page:
            event, before = stored.row.read(), _frozen(wallet)
            wallet = evolve(
                wallet,
                event,
                decode_decision(stored.row.decision_text),
                position=stored.row.position,
                functional_currency=view.functional_currency,
                closed_through=None,
            )
            now = _frozen(wallet)
            if now != before and view.settings.effective_date_of(event) <= view.as_of:
                for block_id in before.keys() | now.keys():
                    frozen[block_id] += now.get(block_id, ZERO) - before.get(block_id, ZERO)
        if len(page) < 1000:
            return frozen
        after = page[-1].row.position


def _frozen(wallet: Wallet) -> dict[str, Decimal]:
    return {block.block_id: block.frozen for block in wallet.blocks if block.frozen}


def _reservations_then(view: View, customer: str) -> list[Reservation]:
    """The reservations of a customer that had not ended by the day of a view, as known at the view."""
    parameters: dict[str, Any] = {"ledger": view.ledger, "customer": customer, "position": view.position}
    rows = view.connection.execute(text(RESERVED), parameters | {"kinds": ["credits_reserved", *_ENDS]})
    last = end_of_day(view.as_of, view.zone) - timedelta(microseconds=1)
    found: dict[str, Reservation] = {}
    for row in rows:
        event = EventRow(*row).read()
        if event.occurred_at > last:
            continue
        data = event.data
        if isinstance(data, CreditsReserved):
            found[data.reservation_id] = reservation_of(data, event.occurred_at)
        elif isinstance(data, CreditsConsumed | ReservationReleased):
            found.pop(data.reservation_id or "", None)
    return list(found.values())
