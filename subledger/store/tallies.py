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
    """One more row of a table, which was added in this transaction."""
    count(connection, ledger, table, 1)


def count(connection: WriteConnection, ledger: str, table: str, rows: int) -> None:
    """More rows of a table, which were added in this transaction. Last in it: until its end nobody else counts."""
    connection.execute(COUNT, (ledger, table, rows))
