"""The totals of a replay: sums of entries by kind, dimensions and day, as expected in ``ledger_days``.

Owns: the sums and the numbers of dimension sets. Does not own: the recorder's totals (day_totals).
"""

from __future__ import annotations

from datetime import date
from typing import Any

from msgspec.structs import astuple

from projections.day_totals import Amounts, DayKey, add_entry
from projections.replay.derived_tables import Rows
from projections.replay.plain_draws import Drawn
from subledger.blocks import ZERO
from subledger.kinds import Dimensions, Entry
from subledger.own_dimensions import of_usage_alone
from subledger.wallet import Movement

TotalKey = tuple[date, date, int, str, int, str, Dimensions, str]
"""accounting_date, recorded_date, cut, currency, policy, kind, dimensions, unit."""


class Totals:
    """Sums of entries by kind, dimensions and day, and the position of the first use of each dimension set."""

    def __init__(self) -> None:
        self.days: dict[TotalKey, Amounts] = {}
        self.first_use: dict[Dimensions, tuple[int, int]] = {}
        self._drawn: dict[tuple[Any, ...], Amounts] = {}

    def add(self, entry: Entry, recorded_on: date, position: int) -> None:
        """Adds one entry of a position."""
        key = (
            entry.accounting_date,
            recorded_on,
            entry.cut,
            entry.currency,
            entry.policy,
            entry.kind,
            entry.dimensions,
            entry.unit or "",
        )
        total = self.days.get(key)
        if total is None:
            total = self._new(key, (position, entry.number))
        add_entry(total, entry)

    def draw(self, movement: Movement, drawn: Drawn, entry_place: tuple[Any, ...], number: int) -> Amounts:
        """Returns the total of a plain draw.

        ``entry_place``: recorded_on, cut, functional currency, policy, product, own dimensions of the usage, position.
        """
        recorded_on, cut, functional_currency, policy, product, of_usage, position = entry_place
        policy = movement.policy or policy
        product = movement.product or product or ""
        quick = (
            movement.accounting_date,
            recorded_on,
            cut,
            movement.currency,
            policy,
            product,
            drawn.credit_kind,
            movement.pool,
            movement.processor,
            movement.cohort,
            drawn.unit,
            drawn.refundable,
            drawn.own,
            of_usage,
        )
        total = self._drawn.get(quick)
        if total is None:
            dimensions = Dimensions(
                product,
                drawn.credit_kind,
                movement.pool or "",
                movement.processor or "",
                movement.cohort or "",
                drawn.refundable,
                drawn.own,
                of_usage_alone(drawn.own, of_usage),
            )
            currency = movement.currency or functional_currency
            key = (movement.accounting_date, recorded_on, cut, currency, policy, movement.kind, dimensions, drawn.unit)
            total = self.days.get(key)
            if total is None:
                total = self._new(key, (position, number))
            self._drawn[quick] = total
        return total

    def _new(self, key: TotalKey, place: tuple[int, int]) -> Amounts:
        dimensions = key[6]
        first = self.first_use.get(dimensions)
        if first is None or place < first:
            self.first_use[dimensions] = place
        total: Amounts = [0, 0, 0, 0, ZERO, 0]
        self.days[key] = total
        return total

    def clear_cache(self) -> None:
        """Clears the cache of recently used totals."""
        self._drawn.clear()

    def merge(self, other: Totals) -> None:
        """Adds the totals of another share."""
        for key, amounts in other.days.items():
            before = self.days.get(key)
            self.days[key] = list(amounts) if before is None else [a + b for a, b in zip(before, amounts, strict=True)]
        for dimensions, place in other.first_use.items():
            self.first_use[dimensions] = min(place, self.first_use.get(dimensions, place))
        self.clear_cache()

    def numbered(self) -> list[Dimensions]:
        """Returns the dimension sets in the order of their first use; their numbers count from 1."""
        return sorted(self.first_use, key=self.first_use.__getitem__)

    def by_number(self) -> dict[DayKey, Amounts]:
        """Returns the totals with the keys of ``ledger_days``."""
        numbers = {dimensions: number for number, dimensions in enumerate(self.numbered(), start=1)}
        return {(*key[:6], numbers[key[6]], key[7]): amounts for key, amounts in self.days.items()}


def rows_of_totals(totals: Totals) -> dict[str, Rows]:
    """Returns the expected rows of day totals and of dimension sets."""
    return {
        "dimension_sets": {(number,): astuple(d) for number, d in enumerate(totals.numbered(), start=1)},
        "ledger_days": {key: tuple(amounts) for key, amounts in totals.by_number().items()},
    }
