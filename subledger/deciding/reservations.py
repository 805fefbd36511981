"""Reservations: credits that are held for future usage, and their end.

A reservation moves no money and no credits. It needs credits that are spendable at its moment, under every setting of
``on_shortfall``. It ends with the first usage that names it, like a card authorisation with its first capture. Credits
that this usage does not draw are free again. Usage is a fact: if its reservation has ended or expired, it is recorded
like any other usage.

Owns: these decisions. Does not own: the credits that a reservation holds (reserved), the draw (usage). Pure.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from subledger import errors
from subledger.billing_documents import Reservation
from subledger.deciding.context import Context, Dates, decision, is_new_document, own_document
from subledger.deciding.shortfalls import insufficient
from subledger.events.data import CreditsConsumed, CreditsReserved, ReservationReleased
from subledger.events.envelope import Event, format_time
from subledger.reserved import MOST_OPEN, NOTHING_HELD, held_at, spendable
from subledger.wallet import Decision, Movement, Wallet


def reserve(wallet: Wallet, event: Event[CreditsReserved], context: Context, dates: Dates) -> Decision:
    """Reserves credits that are spendable. Raises InvalidValue, InsufficientCredits, TooManyReservations."""
    data, at = event.data, event.occurred_at
    is_new_document(event, context)
    if data.expires_at <= at:
        raise errors.InvalidValue(
            "data.expires_at is not after the time of the reservation",
            field="data.expires_at",
            expected=f"later than {format_time(at)}",
            found=format_time(data.expires_at),
        )
    missing = data.credits - _free(wallet, data, at)
    for moment in _others_begin(wallet, data, at):
        # At a later moment only credits that other reservations hold count as missing. Credits that expire do not.
        there = spendable(wallet.blocks, NOTHING_HELD, unit=data.unit, product=data.product, at=moment)
        missing = max(missing, min(data.credits, there) - _free(wallet, data, moment))
    if missing > 0:
        raise insufficient(event, missing)  # the reasons need every open block: computed after the lock
    if sum(at < reservation.expires_at for reservation in wallet.reservations) >= MOST_OPEN:
        raise errors.TooManyReservations(
            f"{wallet.customer} has {MOST_OPEN} open reservations",
            field="data.reservation_id",
            expected=f"at most {MOST_OPEN} open reservations; settle or release some, or let them expire sooner",
            found=data.reservation_id,
        )
    return decision(context, [Movement(kind="credits_reserved", accounting_date=dates.on())])


def _others_begin(wallet: Wallet, data: CreditsReserved, at: datetime) -> set[datetime]:
    """The moments within a new reservation at which recorded ones begin. Requests may arrive out of order."""
    return {known.reserved_at for known in wallet.reservations if at < known.reserved_at < data.expires_at}


def _free(wallet: Wallet, data: CreditsReserved, at: datetime) -> Decimal:
    """The credits that a new reservation can hold at a moment, after the recorded ones."""
    held = held_at(wallet.blocks, wallet.reservations, at, late=False)
    return spendable(wallet.blocks, held, unit=data.unit, product=data.product, at=at)


def release(wallet: Wallet, event: Event[ReservationReleased], context: Context, dates: Dates) -> Decision:
    """Releases a reservation. Raises UnknownReservation, ReservationEnded."""
    reservation = own_document(wallet, Reservation, event.data.reservation_id, context)
    if reservation.ended_by is not None:
        raise errors.ReservationEnded(
            f"reservation {reservation.reservation_id} was ended by {reservation.ended_by}",
            field="data.reservation_id",
            expected="a reservation that was not settled or released",
            found=reservation.reservation_id,
            ended_by=reservation.ended_by,
        )
    return decision(context, [Movement(kind="reservation_released", accounting_date=dates.on())])


def settlement(
    wallet: Wallet, event: Event[CreditsConsumed], reservation_id: str, context: Context, dates: Dates
) -> list[Movement]:
    """The end of the reservation that usage names; empty if it has already ended.

    Raises UnknownReservation, ReservationDiffers.
    """
    data, reservation = event.data, own_document(wallet, Reservation, reservation_id, context)
    for field, found, expected in (
        ("unit", data.unit, reservation.unit),
        # Credits that were reserved for any product may be used for a named one.
        ("product", data.product, reservation.product or data.product),
    ):
        if found != expected:
            raise errors.ReservationDiffers(
                f"reservation {reservation_id} is for the {field} {expected}",
                field=f"data.{field}",
                expected=str(expected),
                found=found or "no product",
            )
    if reservation.ended_by is not None:
        return []
    return [Movement(kind="reservation_settled", accounting_date=dates.on())]
