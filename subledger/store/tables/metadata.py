"""The common metadata of all tables, and the columns that many of them have.

Owns: the names of constraints and indexes, the ledger's column, columns of moments and seals. Does not own: any table.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, DateTime, LargeBinary, MetaData, Text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "pk": "pk_%(table_name)s",
    }
)

FROZEN_AT_ONCE: Final = {"autovacuum_freeze_min_age": 0}
"""For append-only tables: vacuum freezes a page on its first visit and need not visit it again
(subledger/SIZING.md).
"""


def ledger_column() -> Column[str]:
    """Returns the first column of every key."""
    return Column("ledger", Text, primary_key=True)


def moment_column(name: str, *, nullable: bool = False) -> Column[object]:
    """Returns a column for a moment, with its time zone."""
    return Column(name, DateTime(timezone=True), nullable=nullable)


def seal_column() -> Column[bytes]:
    """Returns the column for the hash of a row. The hash omits columns that have their own hash; the table's info lists
    them.
    """
    return Column("seal", LargeBinary, nullable=False, comment="SHA-256 of the row, by the trigger sealed")


UNSEALED: Final = "unsealed"
"""The member of a table's ``info`` that lists the columns outside the seal."""
