"""Copies of customers' attributes that are stored with a journal, so that later changes and erasures do not alter it.

If an account mapping uses attributes, a journal copies them when it is made. The copy has the customer's id, as in the
log, and only the attributes that the mapping names, such as a segment or a region. Journal pairs, the look-up of the
entries behind a line, and verification read the copy, and the journal's hash covers it. The copy remains when the
attributes are erased, because it is part of an exported journal. It shows the classification of an opaque id, not a
person. So an attribute that an account mapping names should not identify a person.

Owns: the table ``journal_customers``. Does not own: the current attributes of customers (customer_attributes).
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from projections.account_mapping.mapping import Attributes
from projections.journals.interval import with_positions
from subledger.errors import IntegrityFault
from subledger.periods import Period
from subledger.store.database import WriteConnection
from subledger.store.reading.queries import AnyConnection, rows

STORE_CUSTOMERS: Final = """
-- Stores the attributes that a mapping names, for the customers of a new journal. A customer without attributes has no
-- row.
INSERT INTO journal_customers (ledger, period, number, customer, attributes)
SELECT %(ledger)s, %(period)s, %(number)s, a.customer, used.attributes
FROM customer_attributes a
CROSS JOIN LATERAL (
    SELECT jsonb_object_agg(said.key, said.value) AS attributes FROM jsonb_each(a.attributes) AS said (key, value)
    WHERE said.key = ANY(%(names)s::text[]) AND said.value <> '""'::jsonb
) AS used
WHERE a.ledger = %(ledger)s AND used.attributes IS NOT NULL AND a.customer IN (
    SELECT e.customer FROM entries e
    WHERE e.ledger = %(ledger)s AND e.accounting_date BETWEEN %(first_day)s AND %(last_day)s
      AND e.cut > %(from_cut)s AND e.cut <= %(to_cut)s AND (e.amount_minor <> 0 OR e.functional_minor <> 0)
      AND e.position BETWEEN %(first_position)s AND %(last_position)s
)
"""
STORED: Final = """
-- The attributes of customers that are stored with a journal.
SELECT customer, attributes::text FROM journal_customers
WHERE ledger = %(ledger)s AND period = %(period)s AND number = %(number)s ORDER BY customer COLLATE "C"
"""


def store_customers(
    connection: WriteConnection, interval: dict[str, Any], period: Period, number: int, names: tuple[str, ...]
) -> str:
    """Stores these attributes of a journal's customers with their current values, from one snapshot. Returns their
    hash.
    """
    key = {"ledger": interval["ledger"], "period": str(period), "number": number}
    connection.execute(STORE_CUSTOMERS, {**with_positions(connection, interval), **key, "names": list(names)})
    return stored_hash(connection, **key)


def stored_hash(connection: AnyConnection, *, ledger: str, period: str, number: int) -> str:
    """Returns the SHA-256 of the stored attributes: one line for each customer, in byte order, as JSON ``[customer,
    attributes]``.
    """
    digest = hashlib.sha256()
    encoder = msgspec.json.Encoder(order="sorted")
    for customer, text in rows(connection, STORED, {"ledger": ledger, "period": period, "number": number}):
        digest.update(encoder.encode([customer, msgspec.json.decode(text)]) + b"\n")
    return digest.hexdigest()


def check_stored(connection: AnyConnection, ledger: str, period: Period, number: int, expected: str) -> None:
    """Raises IntegrityFault if the stored attributes do not have the journal's hash. A journal without such a hash
    passes.
    """
    if not expected:
        return
    found = stored_hash(connection, ledger=ledger, period=str(period), number=number)
    if found != expected:
        raise IntegrityFault(
            f"the customer attributes stored with journal {ledger}-{period}-{number} were changed after it was made",
            expected=expected,
            found=found,
        )


def stored_customers(
    connection: AnyConnection, ledger: str, period: Period, number: int, names: tuple[str, ...]
) -> dict[str, Attributes]:
    """Returns the stored attributes by customer. A customer without attributes is not in the result."""
    if not names:
        return {}
    found = rows(connection, STORED, {"ledger": ledger, "period": str(period), "number": number})
    return {customer: attributes_from(text, names) for customer, text in found}


def attributes_from(text: str, names: tuple[str, ...]) -> Attributes:
    """Returns attributes from their stored text, JSON or None. Each name has a value, which may be empty."""
    stored: dict[str, str] = msgspec.json.decode(text) if text else {}
    return tuple((name, stored.get(name, "")) for name in names)
