"""Tables of a report on a terminal, without the columns that have no information."""

from __future__ import annotations

from rich.text import Text

from api import terminal
from api.shapes.reports import cells_of, tie_as_json
from projections.reads.date_reasons import DateReason
from projections.report import Column, Report, Table


def show(report: Report, *, owner: str, as_of: object, functional: str) -> None:
    """Prints a report for people: its tables without empty columns, its ties, its notes."""
    for number, table in enumerate(report.tables):
        title = f"{report.title}, {owner} as of {as_of}" if number == 0 else table.name.replace("_", " ")
        if number == 0 or table.rows:
            _show_table(title, table, functional)
    for tie in report.ties:
        verdict = Text("ties") if tie.holds else Text("DIFFERS", "bold red")
        figures = tie_as_json(tie)
        line = f": {tie.what}: {figures['report']} / {figures['trial_balance']} {tie.currency}"
        terminal.out.print(verdict + terminal.shown(line))
    for note in report.notes:
        terminal.out.print(note)


def _show_table(title: str, table: Table, functional: str) -> None:
    shown = informative_columns(table, functional)
    heads = [heading(table.columns[at].name, functional) for at in shown]
    rows = [["" if cells[at] is None else str(cells[at]) for at in shown] for cells in cells_of(table, functional)]
    right = [column for column, at in enumerate(shown) if is_figure(table.columns[at])]
    terminal.table(title, heads, rows, right=right)


def heading(name: str, functional: str) -> str:
    """Returns a column's heading: ``days_1_30`` is "1-30 days", ``net_functional`` is "net, USD"."""
    match name.split("_"):
        case ["days", "over", last]:
            return f"over {last} days"
        case ["days", first, last]:
            return f"{first}-{last} days"
        case [*words, "functional"]:
            return f"{' '.join(words)}, {functional}"
        case words:
            return " ".join(words)


def is_figure(column: Column) -> bool:
    """True if a column is aligned to the right."""
    return column.holds not in ("text", "date")


def informative_columns(table: Table, functional: str) -> list[int]:
    """Returns the indexes of the columns shown to people: columns with information not in another column."""
    return [at for at in range(len(table.columns)) if _is_informative(table, at, functional)]


def _has_late_rows(table: Table, reason: int) -> bool:
    return any(row[reason] != DateReason.OWN_DAY for row in table.rows)


def _is_informative(table: Table, at: int, functional: str) -> bool:
    """True if a column has a figure that is not already in the column in the row's own currency."""
    column = table.columns[at]
    names = [each.name for each in table.columns]
    if column.name == "functional_currency":
        return False
    if column.of_late and not _has_late_rows(table, names.index("date_reason")):
        return False
    # Without a column of currencies, the functional figures are the only ones.
    if column.holds == "functional" and "currency" in names:
        index = names.index("currency")
        if all(row[index] == functional for row in table.rows):
            return False
    return (
        column.name.startswith(("opening", "closing", "current", "days_"))
        or column.zero_says
        or not table.rows
        or any(row[at] for row in table.rows)
    )
