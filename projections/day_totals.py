"""Totals by day, from which the trial balance and the exports are summed; and the customers that a close remeasures.

Owns: the tables ``ledger_days`` and ``other_currencies``, written in the commit of every batch. Does not own: reading
them (balances, pairs of journals, close).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date
from decimal import Decimal

from subledger.kinds import Dimensions, Entry, is_mirrored
from subledger.store.writing.append_batch import Parameters, rows_as_parameters
from subledger.store.writing.log import Batch

DayKey = tuple[date, date, int, str, int, str, int, str]
"""accounting_date, recorded_date, cut, currency, policy, kind, dimension_set, unit."""


Amounts = list[int | Decimal]
"""The columns of ``ledger_days``: amounts written and mirrored, both also in the functional currency, credits, and the
number of entries.
"""


def add_entry(total: Amounts, entry: Entry) -> None:
    """Adds an entry to its total. An entry is mirrored in both currencies or in neither."""
    mirrored = is_mirrored(entry.amount_minor, entry.functional_minor)
    total[mirrored] += abs(entry.amount_minor)
    total[2 + mirrored] += abs(entry.functional_minor)
    total[4] += entry.credits
    total[5] += 1


class DayTotals:
    """Sums of entries by kind, dimensions and day."""

    def __init__(self) -> None:
        self.totals: dict[DayKey, Amounts] = {}

    def add(self, entries: Iterable[Entry], recorded_date: date, dimension_sets: dict[Dimensions, int]) -> None:
        """Adds entries. ``recorded_date`` is the date of ``recorded_at`` in UTC."""
        for entry in entries:
            key = (
                entry.accounting_date,
                recorded_date,
                entry.cut,
                entry.currency,
                entry.policy,
                entry.kind,
                dimension_sets[entry.dimensions],
                entry.unit or "",
            )
            total = self.totals.get(key)
            if total is None:
                total = self.totals[key] = [0, 0, 0, 0, Decimal(0), 0]
            add_entry(total, entry)


class DayTotalsProjector:
    """Adds the entries of a batch to the day totals, and customers with other currencies to ``other_currencies``.

    Both are written in the commit of the batch.
    """

    def project(self, batch: Batch) -> Parameters:
        totals, recorded_date = DayTotals(), batch.recorded_at.astimezone(UTC).date()
        for recorded in batch.events:
            totals.add(recorded.entries, recorded_date, batch.dimension_sets)
        functional_currency, others = batch.after.functional_currency, set()
        if any(currency != functional_currency for _, _, _, currency, *_ in totals.totals):
            others = {
                n.customer or ""
                for recorded in batch.events
                for n in recorded.entries
                if n.currency != functional_currency
            }
        return {
            **rows_as_parameters("day", sorted((*key, *total) for key, total in totals.totals.items())),
            **rows_as_parameters("other", [(customer,) for customer in sorted(others)]),
        }
