"""The rows of an account mapping: reading a file, checking its rows one by one and against each other.

The columns are the key, the account with its name, and dimensions that go with the account. The key columns are role,
product, credit_kind, currency, ``refundable`` if it is used, ``customer.NAME`` for an attribute of the customer, and
``dimension.NAME`` for an own dimension of purchases and usage. In a dimension that goes with the account,
``{customer.NAME}`` means the customer's value of that attribute, and ``{dimension.NAME}`` the own dimension of the
purchase or the usage.

A cell that a spreadsheet would take for a formula is written with an apostrophe before it. Reading removes the
apostrophe, so a written file is read as the same rows.

Owns: reading, checking and writing. Does not own: the choice of the matching row, the roles that need a row (both:
mapping).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from subledger.accounts import ROLE_BY_NAME
from subledger.blocks import PAID, PROMOTIONAL, REFUNDABLE
from subledger.errors import InvalidMapping, UnknownCurrency
from subledger.money import exponent
from subledger.text.visible_text import no_formula, replaced, visible

KEY_COLUMNS: Final = ("role", "product", "credit_kind", "refundable", "currency")
FIXED_COLUMNS: Final = ("role", "product", "credit_kind", "currency", "account", "name")
"""Columns of every file. The column ``refundable`` may be absent."""
CREDIT_KINDS: Final = (PAID, PROMOTIONAL, "goodwill", "allocation")
NOT_REFUNDABLE: Final = "false"
CUSTOMER: Final = "customer."
"""Prefix of the key columns of attributes."""
DIMENSION: Final = "dimension."
"""Prefix of the key columns of the company's own dimensions of purchases and usage."""

_NAME: Final = "[a-z][a-z0-9_]{0,39}"
_COLUMN: Final = re.compile(_NAME, re.ASCII)
_NAMED_KEY: Final = re.compile(rf"(customer|dimension)\.{_NAME}", re.ASCII)
_OF_CUSTOMER: Final = re.compile(rf"\{{customer\.({_NAME})\}}", re.ASCII)
_OF_DIMENSION: Final = re.compile(rf"\{{dimension\.({_NAME})\}}", re.ASCII)
_MAX_CELL: Final = 200

Row = dict[str, str]


def attribute_in(cell: str) -> str | None:
    """The attribute that a dimension's cell stands for: ``region`` for ``{customer.region}``; else None."""
    found = _OF_CUSTOMER.fullmatch(cell)
    return found[1] if found else None


def dimension_in(cell: str) -> str | None:
    """The company's own dimension that a cell stands for: ``department`` for ``{dimension.department}``; else None."""
    found = _OF_DIMENSION.fullmatch(cell)
    return found[1] if found else None


def attributes_in(rows: Iterable[Row]) -> tuple[str, ...]:
    """The attributes of customers that rows use, in their key or in a dimension, in order of name."""
    listed = list(rows)
    return tuple(sorted(_keys(listed, CUSTOMER) | _cells(listed, attribute_in)))


def own_dimensions_in(rows: Iterable[Row]) -> tuple[str, ...]:
    """The own dimensions of purchases and usage that rows use, in order of name."""
    listed = list(rows)
    return tuple(sorted(_keys(listed, DIMENSION) | _cells(listed, dimension_in)))


def _keys(rows: list[Row], prefix: str) -> set[str]:
    return {column.removeprefix(prefix) for row in rows for column in row if column.startswith(prefix)}


def _cells(rows: list[Row], named: Callable[[str], str | None]) -> set[str]:
    return {name for row in rows for cell in row.values() if (name := named(cell))}


def _fault(message: str, *, field: str, expected: str | None = None, found: str | None = None) -> InvalidMapping:
    return InvalidMapping(message, field=field, expected=expected, found=None if found is None else found[:100])


def read_rows(csv_text: str) -> tuple[Row, ...]:
    """The rows of a file. Raises InvalidMapping naming the line, counted from 1 with the header, and the column."""
    reader = csv.reader(io.StringIO(csv_text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(header)
        return checked_rows(_file_rows(reader, header))
    except csv.Error as error:
        raise _fault(f"line {reader.line_num}: not CSV: {error}", field=f"line {reader.line_num}") from None


def _is_column(column: str) -> bool:
    return bool(column in FIXED_COLUMNS or _COLUMN.fullmatch(column) or _NAMED_KEY.fullmatch(column))


def is_dimension(column: str) -> bool:
    """Returns True if a column is a dimension that goes with the account into the journals."""
    return column not in KEY_COLUMNS and column not in FIXED_COLUMNS and not column.startswith((CUSTOMER, DIMENSION))


def _check_header(header: list[str]) -> None:
    for column in header:
        if not _is_column(column):
            raise _fault(
                f"line 1: {column[:60]!r} is not a column name",
                field=column[:60],
                expected="lower-case letters, digits and underscores, such as department or customer.segment",
                found=column,
            )
        if header.count(column) > 1:
            raise _fault(f"line 1: the column {column} is there twice", field=column, found=column)
    for column in FIXED_COLUMNS:
        if column not in header:
            raise _fault(f"line 1: the column {column} is missing", field=column, expected=",".join(FIXED_COLUMNS))


def _file_rows(reader: Any, header: list[str]) -> Iterable[tuple[str, Row]]:
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        label = f"line {reader.line_num}"
        if len(cells) != len(header):
            raise _fault(
                f"{label}: {len(cells)} cells under {len(header)} columns",
                field=label,
                expected=str(len(header)),
                found=str(len(cells)),
            )
        yield label, dict(zip(header, map(_read_cell, cells), strict=True))


def csv_text(rows: Iterable[Mapping[str, str]]) -> str:
    """Writes rows to a file that ``read_rows`` reads as the same rows: the fixed columns first, then all others by
    name.
    """
    listed = list(rows)
    own = sorted({column for row in listed for column in row if column not in FIXED_COLUMNS})
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow((*FIXED_COLUMNS, *own))
    writer.writerows([_written_cell(row.get(column, "")) for column in (*FIXED_COLUMNS, *own)] for row in listed)
    return file.getvalue()


def _written_cell(cell: str) -> str:
    # A text with apostrophes before a formula gets one more apostrophe, so that reading can always remove one.
    bare = cell.lstrip("'")
    return f"'{visible(cell)}" if no_formula(bare) != bare else visible(cell)


def _read_cell(cell: str) -> str:
    bare = cell.lstrip("'")
    return cell[1:] if cell.startswith("'") and no_formula(bare) != bare else cell


def checked_rows(placed: Iterable[tuple[str, Mapping[str, str]]]) -> tuple[Row, ...]:
    """Checks rows, each given with its place in the file. Returns them in order of their keys, without empty cells."""
    checked = [(label, _check_row(label, given)) for label, given in placed]
    if not checked:
        raise _fault("the mapping has no rows", field="rows", expected="a row for every role in use")
    listed = [row for _, row in checked]
    named = [f"{CUSTOMER}{name}" for name in attributes_in(listed)]
    keys = (*KEY_COLUMNS, *(f"{DIMENSION}{name}" for name in own_dimensions_in(listed)), *named)
    labels: dict[tuple[str, ...], str] = {}
    result: dict[tuple[str, ...], Row] = {}
    for label, row in checked:
        key = tuple(row.get(column, "") for column in keys)
        if key in labels:
            raise _fault(
                f"{labels[key]} and {label} both map {' / '.join(cell or 'any' for cell in key)}",
                field=label,
                expected="one row for a combination",
                found=row["account"],
            )
        labels[key] = label
        result[key] = row
    return tuple(row for _, row in sorted(result.items()))


def _check_row(label: str, given: Mapping[str, str]) -> Row:
    for column, cell in given.items():
        if not isinstance(cell, str) or len(cell) > _MAX_CELL or replaced(cell) != cell:
            raise _fault(
                f"{label}: {column} is not a text of at most {_MAX_CELL} visible characters on one line",
                field=column,
                found=str(cell),
            )
        if not _is_column(column):
            raise _fault(f"{label}: {column[:60]!r} is not a column name", field=column[:60], found=column)
    row = {column: cell.strip() for column, cell in given.items() if cell.strip()}
    for column in ("role", "account"):
        if column not in row:
            raise _fault(f"{label}: {column} is missing", field=column, expected="not empty")
    if row["role"] not in ROLE_BY_NAME:
        raise _fault(
            f"{label}: there is no account role {row['role']!r}",
            field="role",
            expected=", ".join(ROLE_BY_NAME),
            found=row["role"],
        )
    if row.get("credit_kind", PAID) not in CREDIT_KINDS:
        raise _fault(
            f"{label}: there is no credit kind {row['credit_kind']!r}",
            field="credit_kind",
            expected=", ".join(CREDIT_KINDS),
            found=row["credit_kind"],
        )
    if row.get("refundable", REFUNDABLE) not in (REFUNDABLE, NOT_REFUNDABLE):
        raise _fault(
            f"{label}: refundable is neither {REFUNDABLE} nor {NOT_REFUNDABLE}; leave the cell empty for both",
            field="refundable",
            expected=f"{REFUNDABLE}, {NOT_REFUNDABLE} or an empty cell",
            found=row["refundable"],
        )
    if "currency" in row:
        try:
            exponent(row["currency"])
        except UnknownCurrency as error:
            raise _fault(
                f"{label}: {error.message}", field="currency", expected=error.expected, found=row["currency"]
            ) from None
    _check_references(label, row)
    return row


def _check_references(label: str, row: Row) -> None:
    """Checks that ``{customer.NAME}`` or ``{dimension.NAME}`` has a name and is the whole cell of a dimension."""
    for column, cell in row.items():
        if not cell.startswith(("{customer", "{dimension")):
            continue
        if not is_dimension(column) or not (attribute_in(cell) or dimension_in(cell)):
            raise _fault(
                f"{label}: {column} cannot be {cell[:60]}",
                field=column,
                expected="{customer.NAME} or {dimension.NAME} alone in the cell of a dimension",
                found=cell,
            )
