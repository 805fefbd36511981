"""A report over several ledgers, of one entity or as named: the ledgers' own reports, added up.

Owns: how tables of the same report are added, row by row. Figures of ledgers with different functional currencies are
never added: there is one report for each. Nothing is posted across ledgers, so nothing has to be eliminated, and the
reports of the parts come to the report of the whole whether the parts lie on one server or on many.

Not promised: one snapshot. Each ledger is read in a snapshot of its own and named with its position. An entry lies in
one ledger, so it is in the answer whole or not at all; with ``known_at`` the answer is the same whenever it is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Final

import msgspec

from projections.report import Column, Report, Table, Tie
from subledger.accounts import CHART_ORDER
from subledger.store.reading.views import Due

KEYS: Final = ("text", "date")
"""What a column holds where rows are told apart by it; everything else is a figure."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One ledger's report, and the point in time it is of."""

    ledger: str
    entity: str
    functional_currency: str
    position: int
    known_at: datetime
    as_of: date
    report: Report
    due: Due | None = None


def by_currency(parts: Sequence[Part]) -> dict[str, list[Part]]:
    """The parts that can be added, by functional currency."""
    found: dict[str, list[Part]] = {}
    for part in parts:
        found.setdefault(part.functional_currency, []).append(part)
    return dict(sorted(found.items()))


def added(parts: Sequence[Part]) -> Report:
    """One report of the parts' reports, which have one functional currency; at least one part.

    Tables add up; a table that lists items names the ledger of each. A tie is shown as a sum, and whether the report
    ties out is for the caller to ask of the parts: two differences may cancel in a sum.
    """
    first = parts[0].report
    return Report(
        name=first.name,
        title=first.title,
        tables=tuple(_table(at, parts) for at in range(len(first.tables))),
        ties=_ties([part.report for part in parts]),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.report.notes)),
    )


def _table(at: int, parts: Sequence[Part]) -> Table:
    tables = [part.report.tables[at] for part in parts]
    first = tables[0]
    if first.lists_items:
        columns = (Column("ledger"), *first.columns)
        rows = [(part.ledger, *row) for part, table in zip(parts, tables, strict=True) for row in table.rows]
    else:
        columns, rows = first.columns, _added_rows(first.columns, tables)
    if not any(column.name == "functional_currency" for column in columns):
        columns = (Column("functional_currency"), *columns)
        rows = [(parts[0].functional_currency, *row) for row in rows]
    return Table(name=first.name, columns=columns, rows=tuple(rows), lists_items=first.lists_items)


def _added_rows(columns: Sequence[Column], tables: Sequence[Table]) -> list[tuple[Any, ...]]:
    keys = [at for at, column in enumerate(columns) if column.holds in KEYS]
    sums: dict[tuple[Any, ...], list[Any]] = {}
    for table in tables:
        for row in table.rows:
            found = sums.setdefault(tuple(row[at] for at in keys), [None] * len(columns))
            for at, column in enumerate(columns):
                found[at] = row[at] if at in keys else _add(column, found[at], row[at])
    return [tuple(sums[key]) for key in sorted(sums, key=lambda key: _order(columns, keys, key))]


def _add(column: Column, before: Any, figure: Any) -> Any:
    if before is None or figure is None:
        return figure if before is None else before
    return max(before, figure) if column.added_by == "max" else before + figure


def _order(columns: Sequence[Column], keys: Sequence[int], key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Accounts in chart order, everything else as it reads; nothing comes first."""
    return tuple(
        (_place(columns[at], value), value is not None, str(value or "")) for at, value in zip(keys, key, strict=True)
    )


def _place(column: Column, value: Any) -> int:
    return CHART_ORDER.get(value, len(CHART_ORDER)) if column.name == "account" else 0


def _ties(reports: Sequence[Report]) -> tuple[Tie, ...]:
    sums: dict[tuple[str, str], tuple[int, int]] = {}
    for report in reports:
        for tie in report.ties:
            said, books = sums.get((tie.what, tie.currency), (0, 0))
            sums[tie.what, tie.currency] = (said + tie.report_minor, books + tie.trial_balance_minor)
    return tuple(
        Tie(what=what, currency=currency, report_minor=said, trial_balance_minor=books)
        for (what, currency), (said, books) in sums.items()
    )
