"""The tables that a replay makes again from the log: their names, keys and other columns.

Owns: the choice of the tables. Does not own: their columns (``subledger/store/tables/derived.py``), their rows
(customers, ledger, totals).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import sqlalchemy as sa

from subledger.store.tables import derived

Key = tuple[Any, ...]
"""The key of a row, without the ledger."""

Rows = dict[Key, tuple[Any, ...]]
"""The other values of rows, by key."""


class Derived(msgspec.Struct, frozen=True, kw_only=True):
    """A table that follows from the log: its key (after the ledger) and its other columns."""

    name: str
    key: tuple[str, ...]
    values: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return self.key + self.values

    @property
    def query(self) -> str:
        """The query of a ledger's rows, key columns first."""
        return f"SELECT {', '.join(self.columns)} FROM {self.name} WHERE ledger = :ledger"

    def rows_of(self, condition: str) -> str:
        """Returns the query of a ledger's rows that meet a condition, key columns first."""
        columns = ", ".join(f'"{name}"' for name in self.columns)
        return f"SELECT {columns} FROM {self.name} WHERE ledger = %(ledger)s AND {condition}"


def _derived(table: sa.Table) -> Derived:
    key = tuple(column.name for column in table.primary_key if column.name != "ledger")
    values = tuple(column.name for column in table.columns if column.name not in ("ledger", *key))
    return Derived(name=table.name, key=key, values=values)


DERIVED: Final[tuple[Derived, ...]] = tuple(
    _derived(table)
    for table in (
        derived.posting_policies,
        derived.posting_rules,
        derived.account_mappings,
        derived.dimension_sets,
        derived.wallets,
        derived.wallet_parts,
        derived.blocks,
        derived.documents,
        derived.ledger_days,
        derived.merkle_nodes,
    )
)

DERIVED_BY_NAME: Final = {derived.name: derived for derived in DERIVED}

OF_CUSTOMERS: Final = ("wallets", "wallet_parts", "blocks", "documents")
"""The tables whose rows belong to customers, share by share."""
