"""What a journal went by of its customers, kept with it: so that no later change or erasure alters it.

A journal whose mapping goes by attributes takes them once, as they are when it is made, and keeps them: the customer's
id, as the log has it, with the attributes that the mapping names and no others, such as a segment or a region. Pairs,
the way back to entries and verification read these. The journal's hash covers them. They stay when the attributes are
erased: as part of what was handed over, they say what an opaque id was classified as, not who it is. What identifies a
person should be no attribute that a mapping goes by.

Owns: the table ``journal_customers``. Does not own: what is said of customers now (customer_attributes).
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from projections.account_mapping.mapping import Attributes
from projections.journals.sums import attributes_from, with_positions
from subledger.errors import IntegrityFault
from subledger.periods import Period
from subledger.store.database import WriteConnection
from subledger.store.reading.queries import AnyConnection, rows

KEEP: Final = """
-- What the customers of a journal to be made have of the attributes that its mapping goes by; none of them is no row.
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
KEPT: Final = """
-- What a journal went by of its customers.
SELECT customer, attributes::text FROM journal_customers
WHERE ledger = %(ledger)s AND period = %(period)s AND number = %(number)s ORDER BY customer COLLATE "C"
"""


def keep_customers(
    connection: WriteConnection, asked: dict[str, Any], period: Period, number: int, names: tuple[str, ...]
) -> str:
    """Keeps what the customers of a journal have now of these attributes, in one snapshot. Returns its hash."""
    place = {"ledger": asked["ledger"], "period": str(period), "number": number}
    connection.execute(KEEP, {**with_positions(connection, asked), **place, "names": list(names)})
    return kept_hash(connection, **place)


def kept_hash(connection: AnyConnection, *, ledger: str, period: str, number: int) -> str:
    """SHA-256 of what is kept: one line a customer, in the order of their bytes, as JSON ``[customer, attributes]``."""
    digest = hashlib.sha256()
    encoder = msgspec.json.Encoder(order="sorted")
    for customer, text in rows(connection, KEPT, {"ledger": ledger, "period": period, "number": number}):
        digest.update(encoder.encode([customer, msgspec.json.decode(text)]) + b"\n")
    return digest.hexdigest()


def check_kept(connection: AnyConnection, ledger: str, period: Period, number: int, expected: str) -> None:
    """Raises IntegrityFault where what a journal went by is not what its hash says; nothing, where it has none."""
    if not expected:
        return
    found = kept_hash(connection, ledger=ledger, period=str(period), number=number)
    if found != expected:
        raise IntegrityFault(
            f"what journal {ledger}-{period}-{number} went by of its customers is not what it was",
            expected=expected, found=found,
        )  # fmt: skip


def kept_customers(
    connection: AnyConnection, ledger: str, period: Period, number: int, names: tuple[str, ...]
) -> dict[str, Attributes]:
    """What a journal went by, by customer. Who is not in it had none of these attributes."""
    if not names:
        return {}
    found = rows(connection, KEPT, {"ledger": ledger, "period": str(period), "number": number})
    return {customer: attributes_from(text, names) for customer, text in found}
