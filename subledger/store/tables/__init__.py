"""Every table, by subject, with one metadata. The migrations build the tables; a test compares the two.

Every key begins with the ledger, and only reports read several ledgers, so ledgers can be spread over servers. The keys
of customers, blocks and events are the billing system's own ids, not surrogate keys.

    the log, append-only     batches, events, entries
    the writer's memory      ledgers (the lock), wallets, wallet_parts, blocks, documents, dimension_sets, merkle_nodes
    settings, from the log   posting_policies, posting_rules, account_mappings
    totals                   ledger_days, other_currencies, snapshots
    exported                 journals, journal_customers, journal_exports, export_targets
    delivery                 delivery_channels, credential_grants, deliveries, delivery_steps
    monitoring               monitor_settings, monitor_states, monitor_notices, cleared_blocks, verifications
    counted, signed          tallies, checkpoints
    access                   api_keys
    second person            approvals
    rejections               rejected_events, rejection_steps
    customers, erasable      customer_attributes, erasures

A table outside the log without another proof has a ``seal``: a hash of the row, made by a trigger (migrations/sealing).

Owns: the lists of append-only, sealed and counted tables, and the application's role. Does not own: the declarations
(``log``, ``derived``, ``general_ledgers``, ``administration``); callers import them and their conditions from here.
"""

from __future__ import annotations

from typing import Final

from subledger.store.columns import LOG
from subledger.store.tables import general_ledgers as general_ledgers
from subledger.store.tables.administration import EVERY_LEDGER as EVERY_LEDGER
from subledger.store.tables.administration import REJECTION_KIND as REJECTION_KIND
from subledger.store.tables.administration import api_keys as api_keys
from subledger.store.tables.derived import LAPSED as LAPSED
from subledger.store.tables.derived import POOLED as POOLED
from subledger.store.tables.log import DOCUMENT_ID as DOCUMENT_ID
from subledger.store.tables.log import DOCUMENT_TYPES as DOCUMENT_TYPES
from subledger.store.tables.log import MIRRORED as MIRRORED
from subledger.store.tables.log import NO_USAGE as NO_USAGE
from subledger.store.tables.log import NOT_DUE as NOT_DUE
from subledger.store.tables.log import NOT_DUE_UNTIL as NOT_DUE_UNTIL
from subledger.store.tables.log import UNDOES as UNDOES
from subledger.store.tables.log import UNDONE_POSITION as UNDONE_POSITION
from subledger.store.tables.log import WRITTEN as WRITTEN
from subledger.store.tables.metadata import UNSEALED
from subledger.store.tables.metadata import metadata as metadata

APP_ROLE: Final = "subledger_app"
"""The role of all programs except the migrations."""

APPEND_ONLY: Final = tuple(table.name for table in LOG)
"""The log."""

HANDED_OVER: Final = (
    "journals", "journal_exports", "journal_customers", "delivery_steps", "checkpoints", "erasures", "rejection_steps",
)  # fmt: skip
"""Tables outside the log whose rows never change either."""

ONLY_FORWARD: Final = {
    "deliveries": (
        "state", "attempts", "looks", "steps", "due_at", "claim", "claimed_until", "erp_id", "reason", "payload",
        "payload_hash", "submitted_at", "changed_at",
    ),
    "approvals": ("state", "checker", "decided_at", "note"),
    "rejected_events": (
        "code", "problem", "position", "last_at", "attempts", "dismissed_at", "dismissed_by", "dismissed_reason",
        "reopened_at", "settled_position", "sent", "sent_bytes", "text_at",
    ),
    "api_keys": ("revoked_at", "revoked_by", "last_used_at"),
    "credential_grants": ("revoked_at", "revoked_by"),
}  # fmt: skip
"""Tables whose rows are never deleted, with the columns that may change."""

NEVER_TRUNCATED: Final = (*APPEND_ONLY, *HANDED_OVER, *ONLY_FORWARD)

COUNTED: Final = (
    "api_keys", "approvals", "checkpoints", "credential_grants", "deliveries", "erasures", "journal_exports",
    "journals", "rejected_events", "rejection_steps",
)  # fmt: skip
"""Tables whose rows are counted when they are added, so that a missing row is detected: see ``tallies``."""


def sealed_tables() -> dict[str, tuple[str, ...]]:
    """Returns every table whose rows are sealed, with the columns that the seal leaves out."""
    return {
        name: tuple(table.info.get(UNSEALED, ())) for name, table in metadata.tables.items() if "seal" in table.columns
    }
