"""Attributes of customers: short texts that a company stores for its journals, such as a segment or a region.

They are not part of the log and can be erased: the log knows a customer by an opaque id. An account mapping may depend
on them. A journal stores a copy of the attributes that it uses (journal_customers), and never reads the current ones
again.

Owns: the tables ``customer_attributes`` and ``erasures``. Does not own: their effect on an account (mapping).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from subledger.errors import InvalidInput
from subledger.events.envelope import canonical
from subledger.store.database import Database, WriteConnection
from subledger.store.reading.ledgers import ledger_head
from subledger.store.reading.queries import AnyConnection, rows
from subledger.store.tallies import count_one

ATTRIBUTE_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)
MAX_VALUE: Final = 100
MAX_NAMES: Final = 50

_NOT_TEXT: Final = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_MAX_CUSTOMER: Final = 200
_CHUNK: Final = 5_000


class CustomerAttributes(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's attributes by name, without empty ones; the person and the time of the last change."""

    customer: str
    attributes: dict[str, str]
    changed_at: datetime | None = None
    changed_by: str | None = None


ATTRIBUTES_OF: Final = """
-- The attributes of one customer.
SELECT attributes::text, changed_at, changed_by FROM customer_attributes
WHERE ledger = %(ledger)s AND customer = %(customer)s
"""
_GIVEN: Final = """
INSERT INTO customer_attributes (ledger, customer, attributes, changed_at, changed_by)
SELECT %(ledger)s, given.customer, given.attributes::jsonb, now(), %(by)s
FROM unnest(%(customers)s::text[], %(attributes)s::text[]) AS given (customer, attributes)
ON CONFLICT (ledger, customer) DO UPDATE
SET changed_at = excluded.changed_at, changed_by = excluded.changed_by, attributes ="""
# A change is one statement on the customer's row. So two changes at the same time run one after the other, and neither
# is lost.
REPLACE: Final = f"{_GIVEN} excluded.attributes"
CHANGE: Final = f"{_GIVEN} customer_attributes.attributes || excluded.attributes"
ERASE: Final = "DELETE FROM customer_attributes WHERE ledger = %(ledger)s AND customer = %(customer)s"
ADD_ERASURE: Final = """
INSERT INTO erasures (ledger, customer, erased_at, erased_by)
VALUES (%(ledger)s, %(customer)s, clock_timestamp(), %(by)s)
"""
ERASURES: Final = """
-- Erasures, of one customer or of all, in order of moment and customer, after one of them.
SELECT customer, erased_at, erased_by FROM erasures
WHERE ledger = %(ledger)s AND (%(customer)s::text IS NULL OR customer = %(customer)s)
  AND (erased_at, customer) > (%(after_at)s, %(after_customer)s)
ORDER BY erased_at, customer LIMIT %(limit)s
"""


def attributes_of(connection: AnyConnection, ledger: str, customer: str) -> CustomerAttributes:
    """The attributes of a customer; empty for a customer without attributes, and for an unknown customer."""
    found = rows(connection, ATTRIBUTES_OF, {"ledger": ledger, "customer": _check_customer(customer)})
    if not found:
        return CustomerAttributes(customer=customer, attributes={})
    text, changed_at, changed_by = found[0]
    stored: dict[str, str] = msgspec.json.decode(text)
    attributes = {name: value for name, value in sorted(stored.items()) if value}
    return CustomerAttributes(customer=customer, attributes=attributes, changed_at=changed_at, changed_by=changed_by)


def replace_attributes(database: Database, ledger: str, customer: str, given: Mapping[str, Any], *, by: str) -> None:
    """Stores these attributes instead of all others. Raises InvalidInput naming the attribute, UnknownLedger."""
    _write(database, ledger, REPLACE, [(_check_customer(customer), _checked(given))], by)


def change_attributes(database: Database, ledger: str, customer: str, given: Mapping[str, Any], *, by: str) -> None:
    """Stores these attributes beside the others; an empty value removes one. Raises as ``replace_attributes``."""
    _write(database, ledger, CHANGE, [(_check_customer(customer), _checked(given))], by)


def erase_attributes(database: Database, ledger: str, customer: str, *, by: str) -> bool:
    """Erases all attributes of a customer, and records the erasure: customer, time and person, but no name and no
    value.

    Returns False, and records nothing, if there were no attributes. Exported journals do not change.
    """
    with database.read() as connection:
        ledger_head(connection, ledger)
    parameters = {"ledger": ledger, "customer": _check_customer(customer), "by": by}
    with database.write() as writing:
        if not writing.execute(ERASE, parameters).rowcount:
            return False
        writing.execute(ADD_ERASURE, parameters)
        count_one(writing, ledger, "erasures")
        return True


BEGINNING: Final = (datetime(1, 1, 1, tzinfo=UTC), "")


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """Erasure of a customer's attributes: when, and by whom."""

    customer: str
    erased_at: datetime
    erased_by: str


def erasures(
    connection: AnyConnection,
    ledger: str,
    *,
    customer: str | None = None,
    after: tuple[datetime, str] = BEGINNING,
    limit: int = 100,
) -> list[Erasure]:
    """Erasures of attributes, oldest first, of one customer or of all."""
    parameters = {
        "ledger": ledger,
        "customer": None if customer is None else _check_customer(customer),
        "after_at": after[0],
        "after_customer": after[1],
        "limit": limit,
    }
    return [
        Erasure(customer=erased, erased_at=at, erased_by=by)
        for erased, at, by in rows(connection, ERASURES, parameters)
    ]


def import_attributes(database: Database, ledger: str, csv_text: str, *, by: str) -> int:
    """Changes attributes from a CSV file with a column ``customer`` and one column for each attribute. After an error
    no customer is changed.

    An empty cell removes an attribute; attributes without a column stay. Returns the number of customers. Raises
    InvalidInput naming the line, counted from 1 with the header, and the column.
    """
    found = list(_file_rows(csv_text))
    _write(database, ledger, CHANGE, found, by)
    return len(found)


def _write(
    database: Database, ledger: str, statement: str, given: Iterable[tuple[str, dict[str, str]]], by: str
) -> None:
    with database.read() as connection:
        ledger_head(connection, ledger)
    # The rows are locked in one order, so that two imports at the same time cannot deadlock.
    ordered = sorted(given)
    with database.write() as writing:
        for start in range(0, len(ordered), _CHUNK):
            _send(writing, statement, ledger, ordered[start : start + _CHUNK], by)


def _send(
    writing: WriteConnection, statement: str, ledger: str, given: list[tuple[str, dict[str, str]]], by: str
) -> None:
    customers, attributes = [customer for customer, _ in given], [canonical(one) for _, one in given]
    writing.execute(statement, {"ledger": ledger, "customers": customers, "attributes": attributes, "by": by})


# --- checks of the input ---------------------------------------------------------------------------------------------


def _check_customer(customer: str, prefix: str = "") -> str:
    if not 1 <= len(customer) <= _MAX_CUSTOMER or _NOT_TEXT.search(customer):
        raise InvalidInput(
            f"{prefix}this is not a customer id",
            field="customer",
            expected=f"1 to {_MAX_CUSTOMER} characters",
            found=customer[:60],
        )
    return customer


def _checked(given: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    if len(given) > MAX_NAMES:
        raise InvalidInput(
            f"{prefix}a customer has at most {MAX_NAMES} attributes", field="attributes", found=str(len(given))
        )
    for name, value in given.items():
        check_attribute_name(name, prefix)
        if not isinstance(value, str) or len(value) > MAX_VALUE or _NOT_TEXT.search(value):
            raise InvalidInput(
                f"{prefix}{name} is not a short text on one line",
                field=name,
                expected=f"a text of at most {MAX_VALUE} characters on one line",
                found=str(value)[:60],
            )
    return {name: value.strip() for name, value in given.items()}


def check_attribute_name(name: str, prefix: str = "") -> None:
    """Raises InvalidInput."""
    if not ATTRIBUTE_NAME.fullmatch(name):
        raise InvalidInput(
            f"{prefix}{name[:60]!r} is not an attribute's name",
            field=name[:60] or "attributes",
            expected="lower-case letters, digits and underscores, such as segment",
            found=name[:60],
        )


def _file_rows(csv_text: str) -> Iterable[tuple[str, dict[str, str]]]:
    reader = csv.reader(io.StringIO(csv_text.removeprefix("\ufeff"), newline=""), strict=True)
    seen: dict[str, int] = {}
    try:
        header = _check_header([name.strip() for name in next(reader, [])])
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            line = reader.line_num
            prefix = f"line {line}: "
            if len(cells) != len(header):
                raise InvalidInput(
                    f"{prefix}{len(cells)} cells under {len(header)} columns",
                    field=f"line {line}",
                    expected=str(len(header)),
                    found=str(len(cells)),
                )
            row = dict(zip(header, cells, strict=True))
            customer = _check_customer(row.pop("customer"), prefix)
            if customer in seen:
                raise InvalidInput(
                    f"line {seen[customer]} and line {line} are both about {customer}",
                    field=f"line {line}",
                    expected="one line for a customer",
                    found=customer,
                )
            seen[customer] = line
            yield customer, _checked(row, prefix)
    except csv.Error as error:
        raise InvalidInput(f"line {reader.line_num}: not CSV: {error}", field=f"line {reader.line_num}") from None


def _check_header(header: list[str]) -> list[str]:
    if "customer" not in header:
        raise InvalidInput("line 1: the column customer is missing", field="customer", expected="customer,segment,…")
    for column in header:
        check_attribute_name(column, "line 1: ")
        if header.count(column) > 1:
            raise InvalidInput(f"line 1: the column {column} stands twice", field=column, found=column)
    return header
