"""Amounts that were written off of a block or an invoice of overage, and the part of them that was collected later.

A write-off takes tax, unused value and used value. Unused value cannot be collected later, because its credits were
cancelled. Used value can be collected, with its tax in proportion.

Owns: these figures, and the division of a collected amount. Does not own: the block or the invoice (blocks,
billing_documents), the decisions (deciding/write_offs, deciding/receivables). Pure.
"""

from __future__ import annotations

from datetime import date
from typing import Final

import msgspec
from msgspec.structs import replace

from subledger.money import round_half_up


class WrittenOff(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Written-off amounts by part, and their recovered amounts; ``on`` is the day of the last write-off.

    ``tax_minor`` was written off with tax relief, ``tax_borne_minor`` without. Both include the tax of unused value.
    """

    on: date
    value_minor: int = 0
    tax_minor: int = 0
    tax_borne_minor: int = 0
    recovered_minor: int = 0
    recovered_tax_minor: int = 0
    recovered_tax_borne_minor: int = 0

    def recoverable_minor(self, unused_minor: int) -> int:
        """The amount that can still be collected. ``unused_minor`` is the unused value that was written off."""
        return max(sum(self._whole(unused_minor)) - self._so_far, 0)

    def divided(self, amount: int, unused_minor: int) -> dict[str, int]:
        """Divides a collected amount into its parts: in proportion, cumulatively, half up. Together the parts are the
        whole.

        The parts are named as entry kinds name them (``Kind.writes_off``).
        """
        value, tax, borne = self._whole(unused_minor)
        taxes_so_far = self.recovered_tax_minor + self.recovered_tax_borne_minor
        due = round_half_up((tax + borne) * (self._so_far + amount), value + tax + borne) - taxes_so_far
        taxes = min(max(due, amount - (value - self.recovered_minor), 0), amount, tax + borne - taxes_so_far)
        relieved = 0
        if taxes:
            relieved = round_half_up(tax * (taxes_so_far + taxes), tax + borne) - self.recovered_tax_minor
            relieved = min(max(relieved, taxes - (borne - self.recovered_tax_borne_minor), 0), taxes)
        return {"value": amount - taxes, "tax": relieved, "tax_borne": taxes - relieved}

    @property
    def _so_far(self) -> int:
        return self.recovered_minor + self.recovered_tax_minor + self.recovered_tax_borne_minor

    def _whole(self, unused_minor: int) -> tuple[int, int, int]:
        """All that can be collected: used value, and its tax in proportion, relieved and borne."""
        value, written_off = self.value_minor, self.value_minor + unused_minor
        if not unused_minor or not written_off:
            return value, self.tax_minor, self.tax_borne_minor
        tax, borne = self.tax_minor, self.tax_borne_minor
        return value, round_half_up(tax * value, written_off), round_half_up(borne * value, written_off)


_FIELDS: Final = {"value": "", "tax": "tax_", "tax_borne": "tax_borne_"}
"""The parts of a write-off: their names in entry kinds (``Kind.writes_off``), and in the fields here."""


def written_off_after(
    before: WrittenOff | None, part: str | None, amount: int, on: date, *, recovers: bool
) -> WrittenOff | None:
    """The figures after a part was written off on a day, or recovered. If ``part`` is None, they are unchanged."""
    if part is None:
        return before
    found = WrittenOff(on=on) if before is None else before
    name = _FIELDS[part]
    if recovers:
        field = f"recovered_{name}minor"
    else:
        field = f"{name or 'value_'}minor"
        found = replace(found, on=max(found.on, on))
    return replace(found, **{field: getattr(found, field) + amount})
