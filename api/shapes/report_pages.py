"""Reports as printable pages: one HTML file that contains its style, loads nothing and has no script.

Owns: the pages. Every value in a page is escaped here, by ``_text``; there is no other way to put a value into a page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any, Final

from api.shapes.answers import due_notice, moment
from api.shapes.report_tables import heading, informative_columns, is_figure
from api.shapes.reports import REPORTS, as_json, cells_of
from api.terminal import FEW_ROWS
from projections.report import Report, ReportRequest, Table
from subledger.store.reading.views import View
from subledger.text.visible_text import visible

STYLE: Final = """
:root { color-scheme: light; }
body { font: 10.5pt/1.45 "Helvetica Neue", Arial, "Liberation Sans", sans-serif; color: #1b1f24; background: #fff;
       max-width: 62rem; margin: 2.5rem auto; padding: 0 2rem; }
header { display: flex; justify-content: space-between; align-items: flex-end; gap: 2rem;
         border-bottom: 2px solid #1b1f24; padding-bottom: .9rem; margin-bottom: 1.6rem; }
h1 { font-size: 19pt; font-weight: 600; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 12pt; font-weight: 600; margin: 2rem 0 .4rem; break-after: avoid; }
.of { color: #57606a; margin: .2rem 0 0; }
dl { display: grid; grid-template-columns: auto auto; gap: .1rem .9rem; margin: 0; font-size: 9pt; }
dt { color: #57606a; } dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; }
p.terms { color: #57606a; margin: 0 0 .5rem; font-size: 9.5pt; }
table { border-collapse: collapse; width: 100%; font-size: 9.5pt; }
th { text-align: left; font-weight: 600; color: #57606a; font-size: 8.5pt; border-bottom: 1px solid #8c959f;
     padding: .25rem .6rem .25rem 0; vertical-align: bottom; }
td { padding: .22rem .6rem .22rem 0; border-bottom: 1px solid #e4e8ec; vertical-align: top; overflow-wrap: anywhere; }
th.figure, td.figure { text-align: right; font-variant-numeric: tabular-nums; }
td.figure, td.day { white-space: nowrap; }
td.zero { color: #8c959f; } tr.balance td.zero { color: inherit; }
.figure + :not(.figure) { padding-left: .5rem; }
th:last-child, td:last-child { padding-right: 0; }
tr.balance td { font-weight: 600; border-bottom: 1px solid #8c959f; }
tr.differs td { color: #b3261e; font-weight: 600; }
td.id { color: #57606a; font-size: 8.5pt; }
section.wide table { font-size: 8.5pt; } section.wide th { font-size: 7.5pt; }
section.turned table { width: auto; } section.turned td:first-child { color: #57606a; padding-right: 2rem; }
section.turned td { text-align: right; } section.turned td:first-child { text-align: left; }
tr { break-inside: avoid; } thead { display: table-header-group; }
footer { margin-top: 2.4rem; padding-top: .6rem; border-top: 1px solid #d0d7de; color: #57606a; font-size: 8.5pt; }
@media screen and (max-width: 45rem) {
  body { padding: 0 1rem; } section { overflow-x: auto; } header { display: block; } dl { margin-top: .8rem; }
  td:not(.figure) { min-width: 5rem; }
}
@media screen { section.wide { overflow-x: auto; } }
@page { size: A4; margin: 16mm 14mm; }
@media print {
  body { margin: 0; padding: 0; max-width: none; }
  td.zero { color: inherit; } section.wide td, section.wide th { padding-right: .4rem; }
}
"""
ACROSS: Final = "@page { size: A4 landscape; }"
"""Style for a report with a table too wide for portrait: all its pages are landscape, so no table starts a new page."""


def page(report: Report, view: View, request: ReportRequest) -> str:
    """Returns the page of a report: in the report's own layout if it has one, otherwise all tables in order."""
    body = LAYOUTS.get(report.name, _tables)(report, view, request)
    title = _text(f"{report.title}: {request.customer or view.ledger}")
    style = STYLE + (ACROSS if '<section class="wide">' in body else "")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f"<style>{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _text(value: object) -> str:
    return "" if value is None else escape(visible(str(value)), quote=True)


def _header(report: Report, view: View, request: ReportRequest, of: str) -> str:
    answered = moment(view)
    first = "the beginning" if request.from_date is None else request.from_date.isoformat()
    facts = {"From": first, "Through": request.to_date or view.as_of, "Known at": answered["known_at"]}
    if report.name in REPORTS and "from" not in REPORTS[report.name].takes:
        del facts["From"]
    listed = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in facts.items())
    return f'<header><div><h1>{_text(report.title)}</h1><p class="of">{_text(of)}</p></div><dl>{listed}</dl></header>'


def _footer(report: Report, view: View) -> str:
    notice = due_notice(view)
    notes = "".join(f"<p>{_text(note)}</p>" for note in (*report.notes, *([] if notice is None else [notice])))
    zone = f"Days are of the time zone {view.zone.key}; times are UTC."
    return f"<footer>{notes}<p>Ledger {_text(view.ledger)}, position {view.position}. {_text(zone)}</p></footer>"


Cell = tuple[str, Any]
"""The CSS class of a cell (``figure``, ``figure count`` for a figure that is not an amount, ``id``, or empty) and its
value.
"""


def _grid(head: Sequence[Cell], rows: Iterable[tuple[str, Sequence[Cell]]]) -> str:
    """Returns a table: its head, and rows each with a CSS class (``balance`` or empty)."""
    heads = "".join(f"<th{_class(kind)}>{_text(name)}</th>" for kind, name in head)
    lines = "\n".join(f"<tr{_class(kind)}>{''.join(map(_cell, cells))}</tr>" for kind, cells in rows)
    return f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{lines}\n</tbody>\n</table>"


def _cell(cell: Cell) -> str:
    kind, value = cell
    text = _text(value)
    if kind in ("figure", "figure count"):
        zero = text and not text.strip("0.")
        return f"<td{_class(kind + ' zero' if zero else kind)}>{_grouped(text) if kind == 'figure' else text}</td>"
    if not kind and _DAY.fullmatch(text):
        kind = "day"
    # Lines may break after the underscores of account names and ids, rather than inside a word.
    return f"<td{_class(kind)}>{text.replace('_', '_<wbr>')}</td>"


_DAY: Final = re.compile(r"\d{4}-\d{2}(-\d{2})?", re.ASCII)
"""A day or a month; lines do not break at its hyphens."""


def _grouped(figure: str) -> str:
    """Returns ``-1234567.50`` as ``-1,234,567.50``; any text that is not a figure unchanged."""
    integer, point, decimals = figure.partition(".")
    digits = integer.removeprefix("-")
    return f"{'-' if digits != integer else ''}{int(digits):,}{point}{decimals}" if digits.isdecimal() else figure


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


# --- any report -----------------------------------------------------------------------------------------------------


TOO_WIDE: Final = 13
"""The number of columns from which a table does not fit on a portrait page."""


def _tables(report: Report, view: View, request: ReportRequest) -> str:
    functional = view.functional_currency
    parts = [_header(report, view, request, request.customer or view.settings.entity)]
    for number, table in enumerate(report.tables):
        if table.rows or number == 0:
            parts += _sections("" if number == 0 else table.name.replace("_", " ").capitalize(), table, functional)
    ties = as_json(report, view, request)["ties"]
    parts.append(f"<section><h2>Ties to the trial balance</h2>{_ties(ties)}</section>")
    return "\n".join([*parts, _footer(report, view)])


def _sections(title: str, table: Table, functional: str) -> list[str]:
    """Returns the sections of a table; if it is too wide, its functional amounts are a second table below."""
    shown_columns = informative_columns(table, functional)
    converted = [at for at in shown_columns if table.columns[at].holds == "functional"]
    others = [at for at in shown_columns if at not in converted]
    if not converted or len(shown_columns) <= TOO_WIDE or len(table.rows) <= FEW_ROWS:
        return [_section(title, table, shown_columns, functional)]
    keys = [at for at in others if not is_figure(table.columns[at])]
    below = f"{title}, in {functional}" if title else f"In {functional}"
    return [_section(title, table, others, functional), _section(below, table, keys + converted, functional, bare=True)]


def _section(title: str, table: Table, shown_columns: Sequence[int], functional: str, *, bare: bool = False) -> str:
    """Returns some columns of a table: portrait; transposed if wide and short, landscape if wide and long."""
    if not table.rows:
        return '<section><p class="terms">There is nothing to show.</p></section>'
    kinds = ["" if not is_figure(c) else "figure count" if c.holds == "integer" else "figure" for c in table.columns]
    names = [column.name.removesuffix("_functional") if bare else column.name for column in table.columns]
    head: list[Cell] = [(kinds[at], heading(names[at], functional)) for at in shown_columns]
    rows: list[list[Cell]] = [[(kinds[at], cells[at]) for at in shown_columns] for cells in cells_of(table, functional)]
    layout = "" if len(shown_columns) <= TOO_WIDE else "wide"
    if layout and len(rows) <= FEW_ROWS:
        layout = "turned"
        head, *rows = [[("", name), *(row[index] for row in rows)] for index, (_, name) in enumerate(head)]
        head = [("", name) for _, name in head[:1]] + [("figure", name) for _, name in head[1:]]
    heading_of = f"<h2>{_text(title)}</h2>" if title else ""
    return f"<section{_class(layout)}>{heading_of}{_grid(head, (('', row) for row in rows))}</section>"


def _ties(ties: Iterable[dict[str, Any]]) -> str:
    figures = ("report", "trial_balance", "difference")
    head = [("", "what"), *(("figure", name.replace("_", " ")) for name in figures), ("", "currency")]
    rows = [
        (
            "differs" if tie["difference"].strip("-0.") else "",
            [("", tie["what"]), *(("figure", tie[figure]) for figure in figures), ("", tie["currency"])],
        )
        for tie in ties
    ]
    return _grid(head, rows)


# --- the statement --------------------------------------------------------------------------------------------------


def _statement(report: Report, view: View, request: ReportRequest) -> str:
    """Returns the statement's page: a customer's credits and amounts due, then the movements of each block."""
    statement = as_json(report, view, request)
    parts = [
        _header(report, view, request, f"{request.customer} · {view.settings.entity}"),
        f"<section><h2>Summary</h2>{_summary(statement['items'], statement['totals'])}</section>",
    ]
    if statement["due"]:
        rows = [("", [("", due["what"]), ("figure", due["amount"]), ("", due["currency"])]) for due in statement["due"]]
        head = [("", "due"), ("figure", "amount"), ("", "currency")]
        parts.append(f"<section><h2>Amounts due</h2>{_grid(head, rows)}</section>")
    moved: dict[str, list[dict[str, Any]]] = {}
    for movement in statement["movements"]:
        moved.setdefault(movement["block_id"], []).append(movement)
    parts += [_block(block, moved.get(block["block_id"], [])) for block in statement["items"]]
    if statement["overage"]:
        parts.append(f"<section><h2>Usage beyond the credits</h2>{_overage(statement['overage'])}</section>")
    return "\n".join([*parts, _footer(report, view)])


def _summary(blocks: list[dict[str, Any]], totals: list[dict[str, Any]]) -> str:
    head = [
        ("", "credit block"),
        ("", "unit"),
        ("figure", "opening"),
        ("figure", "added"),
        ("figure", "used"),
        ("figure", "expired"),
        ("figure", "ended"),
        ("figure", "closing"),
        ("figure", "closing value"),
        ("", ""),
        ("", "expires"),
        ("", "status"),
    ]
    stages = ("opening", "added", "used", "expired", "ended", "closing")
    rows = [
        (
            "",
            [
                ("", block["block_id"]),
                ("", block["unit"]),
                *(("figure", block[f"{s}_credits"]) for s in stages),
                ("figure", block["closing_value"]),
                ("", block["currency"]),
                ("", block["expires_on"] or "never"),
                ("", block["status"]),
            ],
        )
        for block in blocks
    ]
    rows += [
        (
            "balance",
            [
                ("", "total"),
                ("", total["unit"]),
                *(("figure", total[f"{s}_credits"]) for s in stages),
                ("figure", total["closing_value"]),
                ("", total["currency"]),
                ("", ""),
                ("", ""),
            ],
        )
        for total in totals
    ]
    return _grid(head, rows)


def _block(block: dict[str, Any], movements: list[dict[str, Any]]) -> str:
    head = [
        ("", "date"),
        ("", "what"),
        ("", "product"),
        ("figure", block["unit"]),
        ("figure", block["currency"]),
        ("", "event"),
    ]
    rows = [_balance(block, "opening")]
    for moved in movements:
        late = moved["effective_date"] != moved["date"]
        what = f"{moved['what']}, of {moved['effective_date']}" if late else moved["what"]
        cells = [("", moved["date"]), ("", what), ("", moved["product"])]
        cells += [("figure", moved["credits"]), ("figure", moved["value"]), ("id", moved["event_id"])]
        rows.append(("", cells))
    rows.append(_balance(block, "closing"))
    expires = f"expires {block['expires_on']}" if block["expires_on"] else "does not expire"
    terms = f"{block['credit_kind']}, from {block['starts_on']}, {expires}"
    return (
        f'<section><h2>{_text(block["block_id"])}</h2><p class="terms">{_text(terms)}</p>{_grid(head, rows)}</section>'
    )


def _balance(block: dict[str, Any], stage: str) -> tuple[str, list[Cell]]:
    figures: list[Cell] = [("figure", block[f"{stage}_credits"]), ("figure", block[f"{stage}_value"])]
    return "balance", [("", stage), ("", ""), ("", ""), *figures, ("", "")]


def _overage(overage: list[dict[str, Any]]) -> str:
    head = [
        ("", "date"),
        ("", "what"),
        ("", "product"),
        ("figure", "credits"),
        ("figure", "amount"),
        ("", "currency"),
        ("", "event"),
    ]
    rows = [
        (
            "",
            [
                ("", used["date"]),
                ("", used["what"]),
                ("", used["product"]),
                ("figure", used["credits"]),
                ("figure", used["amount"]),
                ("", used["currency"]),
                ("id", used["event_id"]),
            ],
        )
        for used in overage
    ]
    return _grid(head, rows)


LAYOUTS: Final[dict[str, Callable[[Report, View, ReportRequest], str]]] = {"statement": _statement}
