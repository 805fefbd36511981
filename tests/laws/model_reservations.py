"""The plain model: credits that are held for later usage."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from tests.laws.model_blocks import Block, Reservation
from tests.laws.model_positions import Positions


class Reservations(Positions):
    """Reservations, their release, and the credits that they leave for other usage."""

    def in_draw_order(self, blocks: Iterable[Block], unit: str, product: str | None, moment: datetime) -> list[Block]:
        """Returns the blocks on which usage of a moment may draw."""
        never = datetime.max.replace(tzinfo=moment.tzinfo)
        found = [
            block
            for block in blocks
            if block.unit == unit
            and block.starts <= moment
            and (block.expires is None or moment < block.expires)
            and (block.scope is None or product in block.scope)
        ]
        return sorted(
            found,
            key=lambda b: (b.scope is None, b.priority, b.expires or never, b.kind != "promotional", b.starts, b.name),
        )

    def to_be_had(self, block: Block, moment: datetime, *, late: bool) -> Fraction:
        """Returns the credits that existed at a moment and still remain; if late usage is reclassified, also expired
        ones.
        """
        late = late and not block.wholly_frozen
        return block.drawable(block.at(moment), block.to_draw + (block.of("expired")[0] if late else 0))

    def left_by_reservations(self, moment: datetime, usage: str | None, *, late: bool) -> dict[str, Fraction]:
        """Returns by block the credits that the customer's other reservations leave. Each in turn takes what its usage
        would draw.
        """
        mine = [block for block in self.blocks.values() if block.customer == self.customer]
        left = {block.name: self.to_be_had(block, moment, late=late) for block in mine}
        own: dict[str, Fraction] = {}
        for reservation in self.reservations.values():
            is_open = reservation.remembered and not reservation.ended
            if reservation.customer != self.customer or not (
                is_open and reservation.begins <= moment < reservation.expires
            ):
                continue
            need = reservation.credits
            for block in self.in_draw_order(mine, reservation.unit, reservation.product, moment):
                part = min(left[block.name], need)
                left[block.name] -= part
                need -= part
                if reservation.name == usage:
                    own[block.name] = part
        return {name: credits + own.get(name, 0) for name, credits in left.items()}

    def credits_reserved(self, moment: datetime, data: dict[str, Any]) -> None:
        name, unit, product = data["reservation_id"], data.get("unit", "credit"), data.get("product")
        expires = datetime.fromisoformat(data["expires_at"])
        self.allow(name not in self.reservations, "document_exists")
        self.allow(moment < expires, "invalid_value")
        mine = [block for block in self.blocks.values() if block.customer == self.customer]
        others = {
            other.begins
            for other in self.reservations.values()
            if other.customer == self.customer
            and other.remembered
            and not other.ended
            and moment < other.begins < expires
        }
        for then in {moment, *others}:
            left, wanted = self.left_by_reservations(then, None, late=False), Fraction(data["credits"])
            usable = self.in_draw_order(mine, unit, product, then)
            if then != moment:
                wanted = min(wanted, sum((self.to_be_had(b, then, late=False) for b in usable), Fraction(0)))
            free = sum((left[block.name] for block in usable), Fraction(0))
            self.allow(wanted <= free, "insufficient_credits")
        self._forget(moment)
        self.reservations[name] = Reservation(
            name, self.customer, Fraction(data["credits"]), unit, product, moment, expires
        )

    def reservation_released(self, moment: datetime, data: dict[str, Any]) -> None:
        reservation = self._reservation(data)
        self.allow(not reservation.ended, "reservation_ended")
        reservation.ended = True
        self._forget(moment)

    def settle(self, moment: datetime, data: dict[str, Any]) -> None:
        """Ends the reservation that usage names. If it has already ended, the usage is like any other usage."""
        reservation = self._reservation(data)
        same = reservation.product in (None, data.get("product")) and reservation.unit == data.get("unit", "credit")
        self.allow(same, "reservation_differs")
        if not reservation.ended:
            reservation.ended = True
            self._forget(moment)

    def _reservation(self, data: dict[str, Any]) -> Reservation:
        reservation = self.reservations.get(data["reservation_id"])
        self.allow(reservation is not None and reservation.customer == self.customer, "unknown_reservation")
        assert reservation is not None
        return reservation

    def _forget(self, moment: datetime) -> None:
        for reservation in self.reservations.values():
            if reservation.customer == self.customer and reservation.expires + timedelta(days=1) <= moment:
                reservation.remembered = False
