"""Totals by day, that the trial balance and the exports are summed from; and who is remeasured at a close.

Owns: the tables ``ledger_days`` and ``other_currencies``, kept in the commit of every batch. Reading them is in
``balances`` and in what a close needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date
from decimal import Decimal
from typing import Final

from subledger.journal import Dimensions, Entry
from subledger.store.arrays import (
    Array,
    BigintArray,
    DateArray,
    IntegerArray,
    NumericArray,
    SmallintArray,
    TextArray,
)
from subledger.store.database import WriteConnection
from subledger.store.log import Batch

ADD_TOTALS: Final = """
INSERT INTO ledger_days (ledger, accounting_date, recorded_date, cut, currency, policy, kind, dimension_set, unit,
                         written_minor, mirrored_minor, functional_written_minor, functional_mirrored_minor,
                         credits, entries)
SELECT %s, * FROM unnest(
    %b::date[], %b::date[], %b::int[], %b::text[], %b::smallint[], %b::text[], %b::int[], %b::text[],
    %b::numeric[], %b::numeric[], %b::numeric[], %b::numeric[], %b::numeric[], %b::bigint[])
ON CONFLICT (ledger, accounting_date, recorded_date, cut, currency, policy, kind, dimension_set, unit) DO UPDATE
SET written_minor = ledger_days.written_minor + excluded.written_minor,
    mirrored_minor = ledger_days.mirrored_minor + excluded.mirrored_minor,
    functional_written_minor = ledger_days.functional_written_minor + excluded.functional_written_minor,
    functional_mirrored_minor = ledger_days.functional_mirrored_minor + excluded.functional_mirrored_minor,
    credits = ledger_days.credits + excluded.credits,
    entries = ledger_days.entries + excluded.entries
"""

_COLUMNS: Final[tuple[type[Array], ...]] = (
    DateArray, DateArray, IntegerArray, TextArray, SmallintArray, TextArray, IntegerArray, TextArray,
    NumericArray, NumericArray, NumericArray, NumericArray, NumericArray, BigintArray,
)  # fmt: skip

DayKey = tuple[date, date, int, str, int, str, int, str]
"""accounting_date, recorded_date, cut, currency, policy, kind, dimension_set, unit."""


class DayTotals:
    """Sums of entries by kind, dimensions and day."""

    def __init__(self) -> None:
        self.totals: dict[DayKey, list[int | Decimal]] = {}

    def add(self, entries: Iterable[Entry], recorded_date: date, dimension_sets: dict[Dimensions, int]) -> None:
        """``recorded_date`` is that of ``recorded_at``, in UTC."""
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
            mirrored = entry.amount_minor < 0 or (entry.amount_minor == 0 and entry.functional_minor < 0)
            total[mirrored] += abs(entry.amount_minor)
            total[2 + mirrored] += abs(entry.functional_minor)
            total[4] += entry.credits
            total[5] += 1

    def write(self, connection: WriteConnection, ledger: str) -> None:
        if not self.totals:
            return
        rows = sorted((*key, *total) for key, total in self.totals.items())
        columns = zip(_COLUMNS, zip(*rows, strict=True), strict=True)
        connection.execute(ADD_TOTALS, (ledger, *(array(column) for array, column in columns)))


ADD_OTHERS: Final = """
INSERT INTO other_currencies (ledger, customer) SELECT %s, unnest(%s::text[]) ON CONFLICT (ledger, customer) DO NOTHING
"""


class DayTotalsProjector:
    """Adds each batch's entries to the day totals, and who has other currencies to those that have, in its commit."""

    def project(self, connection: WriteConnection, batch: Batch) -> None:
        totals, recorded_date = DayTotals(), batch.recorded_at.astimezone(UTC).date()
        for recorded in batch.events:
            totals.add(recorded.entries, recorded_date, batch.dimension_sets)
        totals.write(connection, batch.ledger)
        home = batch.after.functional_currency
        if any(currency != home for _, _, _, currency, *_ in totals.totals):
            others = {n.customer or "" for recorded in batch.events for n in recorded.entries if n.currency != home}
            connection.execute(ADD_OTHERS, (batch.ledger, sorted(others)))
