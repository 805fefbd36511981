"""Counts of a ledger's rows in tables without deletions: a row that was deleted anyway is detected.

Owns: the table ``tallies``. Counted in the commit that adds the rows. Does not own: the comparison (integrity).
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
    """Counts rows that this transaction has added to a table. Call it last: others wait for its end to count."""
    connection.execute(COUNT, (ledger, table, rows))
