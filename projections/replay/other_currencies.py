"""Comparison and repair of the table of customers with entries in other currencies, which a close remeasures.

Owns: both. Does not own: the table (day_totals), its use at a close.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from projections.replay.comparing import compare_rows
from projections.replay.findings import Findings
from subledger.store.database import WriteConnection
from subledger.store.reading.queries import AnyConnection, rows

KEPT: Final = "SELECT customer FROM other_currencies WHERE ledger = %(ledger)s"
OF_ENTRIES: Final = """
-- The customers with entries in another currency than the functional one ('' for entries without a customer).
SELECT DISTINCT coalesce(customer, '') FROM entries WHERE ledger = %(ledger)s AND currency <> %(functional_currency)s
"""


def compare_other_currencies(
    connection: sa.Connection, ledger: str, functional_currency: str, findings: Findings
) -> None:
    """Finds rows that are missing, or without an entry."""
    stored, expected = _stored_and_expected(connection, ledger, functional_currency)
    compare_rows("other_currencies", dict.fromkeys(expected, ()), iter([(key, ()) for key in stored]), findings)


def mend_other_currencies(connection: WriteConnection, ledger: str, functional_currency: str) -> tuple[int, int]:
    """Repairs the table: for a rebuild, under the ledger's lock. Returns the numbers of removed and added rows."""
    stored, expected = _stored_and_expected(connection, ledger, functional_currency)
    removed, missing = sorted(stored - expected), sorted(expected - stored)
    for (customer,) in removed:
        connection.execute("DELETE FROM other_currencies WHERE ledger = %s AND customer = %s", (ledger, customer))
    for (customer,) in missing:
        connection.execute("INSERT INTO other_currencies (ledger, customer) VALUES (%s, %s)", (ledger, customer))
    return len(removed), len(missing)


def _stored_and_expected(connection: AnyConnection, ledger: str, functional_currency: str) -> tuple[set[Any], set[Any]]:
    parameters = {"ledger": ledger, "functional_currency": functional_currency}
    return {tuple(row) for row in rows(connection, KEPT, parameters)}, {
        tuple(row) for row in rows(connection, OF_ENTRIES, parameters)
    }
