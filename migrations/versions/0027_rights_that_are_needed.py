"""The application's role keeps only the rights that it needs. Keys and credential grants only go forward, and are
counted.

A credential that is granted again gets another row, so that the person of the first grant is not overwritten.

Revision: 0027, after 0026
"""

from alembic import op

from migrations.sealing import only_forward, unguard

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

ROLE = "subledger_app"
NEVER_UPDATED = (
    "account_mappings", "dimension_sets", "merkle_nodes", "other_currencies", "posting_policies", "posting_rules",
)  # fmt: skip
NEVER_DELETED = ("ledgers", "export_targets", "monitor_settings", "verifications", "cleared_blocks")
UPDATED = {
    "cleared_blocks": ("position", "uncleared"),
    "credential_grants": ("revoked_at", "revoked_by"),
    "customer_attributes": ("attributes", "changed_at", "changed_by"),
    "delivery_channels": (
        "connector", "format", "settings", "changed_at", "changed_by", "free_at", "dropped_at", "dropped_by",
    ),
    "export_targets": ("settings", "changed_at", "changed_by"),
    "monitor_notices": ("attempts", "due_at", "sent_at", "failure"),
    "monitor_settings": ("settings", "changed_at", "changed_by"),
    "monitor_states": ("looked_at", "ringing"),
    "snapshots": ("entries",),  # adding to snapshots locks the last one, and a lock needs the right to a column
    "tallies": ("rows",),
    "verifications": ("verified_at", "position", "since", "differences", "clean_at"),
}  # fmt: skip
KEYS = (
    "key_hash", "ledger", "role", "name", "created_at", "key_id", "created_by", "replaces", "expires_at", "revoked_at",
    "revoked_by", "last_used_at",
)  # fmt: skip
KEYS_CHANGE = ("revoked_at", "revoked_by", "last_used_at")
# A key ends once. Its end may become earlier, for example when the grace period of a rotation is shortened, but never
# later.
KEYS_FINAL = (
    "OLD.revoked_at IS NOT NULL AND (NEW.revoked_at IS NULL OR NEW.revoked_at > OLD.revoked_at)"
    " OR OLD.revoked_at IS NOT DISTINCT FROM NEW.revoked_at AND OLD.revoked_by IS DISTINCT FROM NEW.revoked_by"
    " OR OLD.last_used_at IS NOT NULL AND (NEW.last_used_at IS NULL OR NEW.last_used_at < OLD.last_used_at)"
)
GRANTS = ("ledger", "credential", "granted_at", "granted_by", "revoked_at", "revoked_by")
GRANTS_CHANGE = ("revoked_at", "revoked_by")
COUNTED = ("api_keys", "credential_grants")


def upgrade() -> None:
    for table in NEVER_UPDATED:
        op.execute(f"REVOKE UPDATE ON {table} FROM {ROLE}")
    for table in NEVER_DELETED:
        op.execute(f"REVOKE DELETE ON {table} FROM {ROLE}")
    for table, columns in UPDATED.items():
        op.execute(f"REVOKE UPDATE ON {table} FROM {ROLE}")
        op.execute(f"GRANT UPDATE ({', '.join(columns)}) ON {table} TO {ROLE}")
    op.drop_constraint(op.f("pk_credential_grants"), "credential_grants")
    op.create_primary_key(op.f("pk_credential_grants"), "credential_grants", ["ledger", "credential", "granted_at"])
    op.create_index(
        "ux_credential_grants_in_force",
        "credential_grants",
        ["ledger", "credential"],
        unique=True,
        postgresql_where="revoked_at IS NULL",
    )
    only_forward("api_keys", KEYS_CHANGE, KEYS, KEYS_FINAL)
    only_forward("credential_grants", GRANTS_CHANGE, GRANTS, "OLD.revoked_at IS NOT NULL")
    for table in COUNTED:
        op.execute(f"INSERT INTO tallies SELECT ledger, '{table}', count(*) FROM {table} GROUP BY ledger")


def downgrade() -> None:
    for table in COUNTED:
        op.execute(f"DELETE FROM tallies WHERE relation = '{table}'")
        unguard(table, "only_forward", "never_deleted", "never_truncated")
    op.drop_index("ux_credential_grants_in_force", "credential_grants")
    op.drop_constraint(op.f("pk_credential_grants"), "credential_grants")
    op.execute(
        "DELETE FROM credential_grants g WHERE EXISTS (SELECT FROM credential_grants l WHERE l.ledger = g.ledger"
        " AND l.credential = g.credential AND l.granted_at > g.granted_at)"
    )
    op.create_primary_key(op.f("pk_credential_grants"), "credential_grants", ["ledger", "credential"])
    for table in (*NEVER_UPDATED, *UPDATED):
        op.execute(f"GRANT UPDATE ON {table} TO {ROLE}")
    for table in NEVER_DELETED:
        op.execute(f"GRANT DELETE ON {table} TO {ROLE}")
