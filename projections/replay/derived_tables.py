"""The tables that follow from the log: which they are, their keys and their other columns.

Owns: their names and columns. Does not own: what their rows should hold (replay, ledger_replay, totals).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

# What a row of a derived table is, without the ledger: its key and its other values.
Key = tuple[Any, ...]
Rows = dict[Key, tuple[Any, ...]]


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
        """A ledger's rows, key first."""
        return f"SELECT {', '.join(self.columns)} FROM {self.name} WHERE ledger = :ledger"

    def rows_of(self, which: str) -> str:
        """A ledger's rows that meet a condition, key first."""
        columns = ", ".join(f'"{name}"' for name in self.columns)
        return f"SELECT {columns} FROM {self.name} WHERE ledger = %(ledger)s AND {which}"


DERIVED: Final[tuple[Derived, ...]] = (
    Derived(
        name="posting_policies", key=("policy",), values=("name", "version", "content_hash", "position")
    ),
    Derived(name="posting_rules", key=("policy", "kind", "pair"), values=("debit", "credit")),
    Derived(
        name="account_mappings", key=("mapping",), values=("content_hash", "rows", "position", "valid_from")
    ),
    Derived(
        name="dimension_sets", key=("dimension_set",), values=("product", "credit_kind", "pool", "processor")
    ),
    Derived(name="wallets", key=("customer",), values=("position", "state")),
    Derived(
        name="blocks",
        key=("block_id",),
        values=("customer", "invoice_id", "opened_at_position", "expires_at", "is_open", "state"),
    ),
    Derived(name="documents", key=("kind", "document_id"), values=("customer", "state")),
    Derived(
        name="ledger_days",
        key=(
            "accounting_date", "recorded_date", "cut", "currency", "policy", "kind", "dimension_set", "unit",
        ),
        values=(
            "written_minor", "mirrored_minor", "functional_written_minor", "functional_mirrored_minor",
            "credits", "entries",
        ),
    ),
    Derived(name="merkle_nodes", key=("level", "index"), values=("hash",)),
)  # fmt: skip


DERIVED_BY_NAME: Final = {derived.name: derived for derived in DERIVED}

OF_CUSTOMERS: Final = ("wallets", "blocks", "documents")
"""The tables whose rows belong to customers, share by share."""
