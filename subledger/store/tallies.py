"""Counts of a ledger's rows in tables without deletions, by which a deleted row is detected.

Owns: the table ``tallies``. The commit that adds rows also counts them. Does not own: the comparison (integrity).
"""

from __future__ import annotations

from typing import Final

from subledger.store.database import WriteConnection

COUNT: Final = """
INSERT INTO tallies (ledger, relation, rows) VALUES (%s, %s, %s)
ON CONFLICT (ledger, relation) DO UPDATE SET rows = tallies.rows + excluded.rows
"""


def count_one(connection: WriteConnection, ledger: str, table: str) -> None:
    """Counts one row that this transaction has added to a table."""
    count(connection, ledger, table, 1)


def count(connection: WriteConnection, ledger: str, table: str, rows: int) -> None:
    """Counts rows that this transaction has added to a table. Call it last, because other transactions wait for this
    one to end before they count.
    """
    connection.execute(COUNT, (ledger, table, rows))
