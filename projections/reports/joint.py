"""Reports over several ledgers (of one entity, or a list): the sum of the reports of the ledgers.

Owns: adding the tables of the same report, row by row. Figures of ledgers with different functional currencies are
never added: there is one report for each functional currency. No entry is posted across ledgers, so nothing has to be
eliminated. The sum is the same if the ledgers are on one server or on many.

Not promised: one database snapshot. Each ledger is read in its own snapshot, and listed with its position. An entry
belongs to one ledger, so the answer contains all of it or nothing. With ``known_at`` the answer is always the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from projections.report import Column, Report, Table, Tie
from subledger.accounts import CHART_ORDER
from subledger.store.reading.views import Due

KEYS: Final = ("text", "date")
"""Types of the columns that identify a row; all other columns are figures, which are added."""


class LedgerReport(msgspec.Struct, frozen=True, kw_only=True):
    """One ledger's report, with its point in time."""

    ledger: str
    entity: str
    functional_currency: str
    position: int
    known_at: datetime
    as_of: date
    report: Report
    due: Due | None = None


def by_currency(parts: Sequence[LedgerReport]) -> dict[str, list[LedgerReport]]:
    """Groups parts that can be added, by functional currency."""
    found: dict[str, list[LedgerReport]] = {}
    for part in parts:
        found.setdefault(part.functional_currency, []).append(part)
    return dict(sorted(found.items()))


def added(parts: Sequence[LedgerReport]) -> Report:
    """Returns the sum of the parts' reports. Needs at least one part; all have the same functional currency.

    Tables are added; a table that lists items gets a column with the ledger. Ties are shown as sums, in which two
    differences may cancel: the caller checks ``ties_out`` of each part.
    """
    first = parts[0].report
    return Report(
        name=first.name,
        title=first.title,
        tables=tuple(_table(at, parts) for at in range(len(first.tables))),
        ties=_ties([part.report for part in parts]),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.report.notes)),
    )


def _table(at: int, parts: Sequence[LedgerReport]) -> Table:
    tables = _with_the_same_columns([part.report.tables[at] for part in parts])
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


def _with_the_same_columns(tables: Sequence[Table]) -> list[Table]:
    """The tables with the columns of all of them, by name; each ledger has its own dimensions.

    A table has an empty text in a column that it does not have.
    """
    columns = list(tables[0].columns)
    for table in tables:
        after = 0
        for column in table.columns:
            if column not in columns:
                columns.insert(after, column)
            after = columns.index(column) + 1
    if all(table.columns == tuple(columns) for table in tables):
        return list(tables)
    found = []
    for table in tables:
        places = {column: place for place, column in enumerate(table.columns)}
        rows = tuple(tuple(row[places[c]] if c in places else "" for c in columns) for row in table.rows)
        found.append(replace(table, columns=tuple(columns), rows=rows))
    return found


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
    """Returns the sort key of a row: accounts in chart order, other values ascending, None first."""
    return tuple(
        (_place(columns[at], value), value is not None, str(value or "")) for at, value in zip(keys, key, strict=True)
    )


def _place(column: Column, value: Any) -> int:
    return CHART_ORDER.get(value, len(CHART_ORDER)) if column.name == "account" else 0


def _ties(reports: Sequence[Report]) -> tuple[Tie, ...]:
    sums: dict[tuple[str, str], tuple[int, int]] = {}
    for report in reports:
        for tie in report.ties:
            reported, books = sums.get((tie.what, tie.currency), (0, 0))
            sums[tie.what, tie.currency] = (reported + tie.report_minor, books + tie.trial_balance_minor)
    return tuple(
        Tie(what=what, currency=currency, report_minor=reported, trial_balance_minor=books)
        for (what, currency), (reported, books) in sums.items()
    )
