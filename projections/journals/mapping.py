"""The account mapping: which GL account of the company's books a role becomes, at export.

A mapping is a list of rows: a role, optionally a product, a credit kind and a currency, and the account they go to.
An empty cell means any. The most specific row wins: a named product counts more than a named credit kind, and that
more than a named currency. Columns beyond the fixed ones are dimensions of the company's own (department, class,
location); they go with the account into the journals.

Owns: reading, checking and resolving mappings; adopting one. Does not own: what journals do with the accounts.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable
from collections.abc import Mapping as Map
from importlib import resources
from typing import Any, Final

import msgspec

from projections.journals.rows import AnyConnection, rows
from subledger.accounts import ROLE_BY_NAME
from subledger.blocks import PAID, PROMOTIONAL
from subledger.errors import IntegrityFault, InvalidMapping, UnknownCurrency, UnmappedRole
from subledger.events import Event, canonical, own_event
from subledger.ledger import LedgerState
from subledger.money import exponent
from subledger.periods import Period
from subledger.store.database import WriteConnection
from subledger.store.recorder import OWN_SOURCE, Recorder, now_of, raise_first

KEY_COLUMNS: Final = ("role", "product", "credit_kind", "currency")
FIXED_COLUMNS: Final = (*KEY_COLUMNS, "account", "name")
CREDIT_KINDS: Final = (PAID, PROMOTIONAL, "goodwill", "allocation")

_DIMENSION = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_CELL: Final = 200


class GLAccount(msgspec.Struct, frozen=True, kw_only=True):
    """An account of the general ledger: its number, its name, the company's own dimensions in order of name."""

    number: str
    name: str
    dimensions: tuple[tuple[str, str], ...] = ()


class Mapping(msgspec.Struct, frozen=True, kw_only=True):
    """An account mapping: rows in a canonical order, without empty cells. Make one with ``from_rows``."""

    rows: tuple[dict[str, str], ...]

    @classmethod
    def from_rows(cls, rows: Iterable[Map[str, str]]) -> Mapping:
        """Checked rows. Raises InvalidMapping naming the row, counted from 1, and its column."""
        return _checked((f"row {number}", row) for number, row in enumerate(rows, start=1))

    @property
    def content_hash(self) -> str:
        """SHA-256 of the rows in canonical JSON: what ``mapping.adopted`` names."""
        return hashlib.sha256(canonical(list(self.rows)).encode()).hexdigest()

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The names of the company's own dimensions, in order."""
        return tuple(sorted({column for row in self.rows for column in row} - set(FIXED_COLUMNS)))

    def resolve(self, role: str, product: str, credit_kind: str, currency: str) -> GLAccount:
        """The account of the most specific row that matches. Raises UnmappedRole naming the combination."""
        wanted = (role, product, credit_kind, currency)
        best: tuple[tuple[bool, ...], dict[str, str]] | None = None
        for row in self.rows:
            cells = tuple(row.get(column, "") for column in KEY_COLUMNS)
            if any(cell and cell != value for cell, value in zip(cells, wanted, strict=True)):
                continue
            # No two rows tie: equal columns named and equal values in them would be the same key twice.
            specificity = tuple(bool(cell) for cell in cells[1:])
            if best is None or specificity > best[0]:
                best = (specificity, row)
        if best is None:
            shown = ", ".join(f"{name} {value}" for name, value in zip(KEY_COLUMNS, wanted, strict=True) if value)
            raise UnmappedRole(
                f"the account mapping has no row for {shown}", field="role", expected="a row", found=role,
                product=product, credit_kind=credit_kind, currency=currency,
            )  # fmt: skip
        return _account(best[1])


def _account(row: Map[str, str]) -> GLAccount:
    own = tuple(sorted((name, value) for name, value in row.items() if name not in FIXED_COLUMNS))
    return GLAccount(number=row["account"], name=row.get("name", ""), dimensions=own)


def _fault(message: str, *, field: str, expected: str | None = None, found: str | None = None) -> InvalidMapping:
    return InvalidMapping(message, field=field, expected=expected, found=None if found is None else found[:100])


def parse_mapping(csv_text: str) -> Mapping:
    """A mapping file: CSV with the header ``role,product,credit_kind,currency,account,name`` and own dimensions.

    Raises InvalidMapping naming the line, counted from 1 with the header, and the column.
    """
    reader = csv.reader(io.StringIO(csv_text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(header)
        return _checked(_file_rows(reader, header))
    except csv.Error as error:
        raise _fault(f"line {reader.line_num}: not CSV: {error}", field=f"line {reader.line_num}") from None


def _check_header(header: list[str]) -> None:
    for column in header:
        if column not in FIXED_COLUMNS and not _DIMENSION.fullmatch(column):
            raise _fault(
                f"line 1: {column[:60]!r} is not a column name",
                field=column[:60],
                expected="lower-case letters, digits and underscores, such as department",
                found=column,
            )
        if header.count(column) > 1:
            raise _fault(f"line 1: the column {column} stands twice", field=column, found=column)
    for column in FIXED_COLUMNS:
        if column not in header:
            raise _fault(f"line 1: the column {column} is missing", field=column, expected=",".join(FIXED_COLUMNS))


def _file_rows(reader: Any, header: list[str]) -> Iterable[tuple[str, dict[str, str]]]:
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        place = f"line {reader.line_num}"
        if len(cells) != len(header):
            raise _fault(
                f"{place}: {len(cells)} cells under {len(header)} columns", field=place,
                expected=str(len(header)), found=str(len(cells)),
            )  # fmt: skip
        yield place, dict(zip(header, cells, strict=True))


def _checked(placed: Iterable[tuple[str, Map[str, str]]]) -> Mapping:
    """Rows with the place they stand at, checked one by one and against each other."""
    places: dict[tuple[str, ...], str] = {}
    result: list[tuple[tuple[str, ...], dict[str, str]]] = []
    for place, given in placed:
        row = _check_row(place, given)
        key = tuple(row.get(column, "") for column in KEY_COLUMNS)
        if key in places:
            raise _fault(
                f"{places[key]} and {place} both map {' / '.join(cell or 'any' for cell in key)}",
                field=place,
                expected="one row for a combination",
                found=row["account"],
            )
        places[key] = place
        result.append((key, row))
    if not result:
        raise _fault("the mapping has no rows", field="rows", expected="a row for every role in use")
    return Mapping(rows=tuple(row for _, row in sorted(result, key=lambda keyed: keyed[0])))


def _check_row(place: str, given: Map[str, str]) -> dict[str, str]:
    for column, cell in given.items():
        if not isinstance(cell, str) or len(cell) > _MAX_CELL or _CONTROL.search(cell):
            raise _fault(
                f"{place}: {column} is not a text of at most {_MAX_CELL} characters on one line",
                field=column,
                found=str(cell),
            )
        if column not in FIXED_COLUMNS and not _DIMENSION.fullmatch(column):
            raise _fault(f"{place}: {column[:60]!r} is not a column name", field=column[:60], found=column)
    row = {column: cell.strip() for column, cell in given.items() if cell.strip()}
    for column in ("role", "account"):
        if column not in row:
            raise _fault(f"{place}: {column} is missing", field=column, expected="not empty")
    if row["role"] not in ROLE_BY_NAME:
        raise _fault(
            f"{place}: there is no account role {row['role']!r}", field="role",
            expected=", ".join(ROLE_BY_NAME), found=row["role"],
        )  # fmt: skip
    if row.get("credit_kind", PAID) not in CREDIT_KINDS:
        raise _fault(
            f"{place}: there is no credit kind {row['credit_kind']!r}", field="credit_kind",
            expected=", ".join(CREDIT_KINDS), found=row["credit_kind"],
        )  # fmt: skip
    if "currency" in row:
        try:
            exponent(row["currency"])
        except UnknownCurrency as error:
            raise _fault(
                f"{place}: {error.message}", field="currency", expected=error.expected, found=row["currency"]
            ) from None
    return row


def default_mapping() -> Mapping:
    """The chart that ships: one account for every role."""
    text = (resources.files("projections.journals") / "default_chart.csv").read_text("utf-8")
    return parse_mapping(text)


# --- the mappings of a ledger ---------------------------------------------------------------------------------

MAPPING_ROWS: Final = """
-- One adopted mapping of a ledger.
SELECT rows FROM account_mappings WHERE ledger = %(ledger)s AND mapping = %(mapping)s
"""
MAPPING_FOR: Final = """
-- The mapping that journals of a period are made with now: the last one adopted that holds for it.
SELECT mapping, rows FROM account_mappings
WHERE ledger = %(ledger)s AND (valid_from IS NULL OR valid_from <= %(period)s) ORDER BY mapping DESC LIMIT 1
"""
LAST_MAPPING: Final = """
-- The mapping adopted last, and from which month on it holds.
SELECT mapping, content_hash, valid_from FROM account_mappings WHERE ledger = %(ledger)s ORDER BY mapping DESC LIMIT 1
"""


def mapping_of(connection: AnyConnection, ledger: str, number: int) -> Mapping:
    """The mapping a ledger adopted under this number, as it was adopted."""
    found = rows(connection, MAPPING_ROWS, {"ledger": ledger, "mapping": number})
    if not found:
        raise IntegrityFault(f"ledger {ledger} has no account mapping {number}", ledger=ledger, mapping=number)
    return _mapping(found[0][0])


def _mapping(text: str) -> Mapping:
    return Mapping(rows=tuple(msgspec.json.decode(text, type=list[dict[str, str]])))


def mapping_for(connection: AnyConnection, ledger: str, period: Period) -> tuple[int, Mapping]:
    """The mapping that the next journal of a period is made with, and its number."""
    found = rows(connection, MAPPING_FOR, {"ledger": ledger, "period": str(period)})
    if not found:
        raise IntegrityFault(f"ledger {ledger} has no account mapping for {period}", ledger=ledger)
    return found[0][0], _mapping(found[0][1])


MOVED: Final = """
-- What moved in a period, as a mapping looks at it.
SELECT DISTINCT moved.role, s.product, s.credit_kind, d.currency
FROM ledger_days d
JOIN dimension_sets s ON s.ledger = d.ledger AND s.dimension_set = d.dimension_set
JOIN posting_rules r ON r.ledger = d.ledger AND r.policy = d.policy AND r.kind = d.kind
CROSS JOIN LATERAL (VALUES (r.debit), (r.credit)) AS moved (role)
WHERE d.ledger = %(ledger)s AND d.accounting_date BETWEEN %(first_day)s AND %(last_day)s
  AND (d.written_minor <> 0 OR d.mirrored_minor <> 0
       OR d.functional_written_minor <> 0 OR d.functional_mirrored_minor <> 0)
ORDER BY 1, 2, 3, 4
"""


def unmapped(
    connection: AnyConnection, ledger: str, period: Period, mapping: Mapping
) -> list[dict[str, str]]:  # fmt: skip
    """The combinations that moved in a period and have no account in a mapping, each named whole."""
    missing = []
    interval = {"ledger": ledger, "first_day": period.first_day, "last_day": period.last_day}
    for combination in rows(connection, MOVED, interval):
        try:
            mapping.resolve(*combination)
        except UnmappedRole:
            missing.append(dict(zip(KEY_COLUMNS, combination, strict=True)))
    return missing


def check_mapped(connection: AnyConnection, state: LedgerState, period: Period) -> None:
    """Raises UnmappedRole where something that moved in a period has no account."""
    _, mapping = mapping_for(connection, state.ledger, period)
    for missing in unmapped(connection, state.ledger, period, mapping):
        mapping.resolve(*missing.values())


def adopt_mapping(
    recorder: Recorder, ledger: str, mapping: Mapping, *, valid_from: Period | None = None
) -> bool:  # fmt: skip
    """Makes this the mapping of journals made from now on; with ``valid_from``, of that month and later ones alone.

    So a journal that is made later for an earlier month keeps that month's chart. False where it was adopted last,
    for the same months: nothing is recorded.
    """
    first = None if valid_from is None else str(valid_from)

    def plan(connection: WriteConnection, state: LedgerState, _position: int) -> list[Event]:
        for _, content_hash, held_from in rows(connection, LAST_MAPPING, {"ledger": ledger}):
            if (content_hash, held_from) == (mapping.content_hash, first):
                return []
        number = state.mapping + 1
        data = {"mapping": number, "content_hash": mapping.content_hash, "rows": list(mapping.rows)}
        return [
            own_event(
                source=OWN_SOURCE,
                event_id=f"mapping.adopted/{number}",
                type="mapping.adopted",
                customer=None,
                occurred_at=now_of(connection),
                data=data if first is None else {**data, "valid_from": first},
            )
        ]

    outcomes = recorder.transact(ledger, plan)
    raise_first(outcomes)
    return bool(outcomes)
