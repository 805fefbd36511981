"""Evidence of changes to exported, decided and configured rows: guards, seals of rows, and counts of rows.

Revision: 0016, after 0015
"""

import sqlalchemy as sa
from alembic import op

from migrations.sealing import never_changed, only_forward, seal, unguard, unseal

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

ROLE = "subledger_app"
REFUSE = """
CREATE FUNCTION refuse_change_of_record() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % refused: what was handed over or decided is not changed', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$
"""
ROW_SEAL = """
CREATE FUNCTION row_seal(sealed jsonb) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT sha256(convert_to(jsonb_strip_nulls(sealed)::text, 'UTF8'))
$$
"""
# The texts of moments and bytes must not depend on the session.
SEAL_ROW = """
CREATE FUNCTION seal_row() RETURNS trigger LANGUAGE plpgsql SET timezone = 'UTC' SET bytea_output = 'hex' AS $$
BEGIN
    NEW.seal := row_seal(to_jsonb(NEW) - TG_ARGV);
    RETURN NEW;
END $$
"""
SEALED = {
    "approvals": (), "api_keys": (), "customer_attributes": (), "cleared_blocks": (), "delivery_channels": (),
    "deliveries": ("payload",), "delivery_steps": (), "export_targets": (),
    "journal_exports": ("content", "postings"), "monitor_notices": (), "monitor_settings": (), "monitor_states": (),
    "verifications": (),
}  # fmt: skip
NEVER_CHANGED = ("delivery_steps", "journal_customers", "journal_exports", "journals")
DELIVERIES = (
    "ledger", "delivery_id", "channel", "destination", "export_id", "period", "number", "part", "name", "reference",
    "state", "attempts", "looks", "steps", "due_at", "claim", "claimed_until", "erp_id", "reason", "payload",
    "payload_hash", "created_at", "submitted_at", "changed_at",
)  # fmt: skip
DELIVERIES_CHANGE = (
    "state", "attempts", "looks", "steps", "due_at", "claim", "claimed_until", "erp_id", "reason", "payload",
    "payload_hash", "submitted_at", "changed_at",
)  # fmt: skip
RENDERED_ONCE = (
    "NEW.steps < OLD.steps OR OLD.payload_hash IS NOT NULL AND NEW.payload_hash IS DISTINCT FROM OLD.payload_hash"
)
APPROVALS = (
    "ledger", "approval_id", "reason", "source", "event_id", "type", "customer", "occurred_at", "data", "attributes",
    "maker", "requested_at", "state", "checker", "decided_at", "note",
)  # fmt: skip
APPROVALS_CHANGE = ("state", "checker", "decided_at", "note")
COUNTED = ("approvals", "deliveries", "journal_exports", "journals")


def upgrade() -> None:
    for function in (REFUSE, ROW_SEAL, SEAL_ROW):
        op.execute(function)
    for table, unsealed in SEALED.items():
        seal(table, unsealed)
    for table in NEVER_CHANGED:
        never_changed(table)
        op.execute(f"REVOKE UPDATE, DELETE ON {table} FROM {ROLE}")
    # Adding a journal to the outbox locks its row. For the lock, the role needs the right to one column; the trigger
    # refuses a change.
    op.execute(f"GRANT UPDATE (number) ON journals TO {ROLE}")
    for table, changes, columns, final in (
        ("deliveries", DELIVERIES_CHANGE, DELIVERIES, RENDERED_ONCE),
        ("approvals", APPROVALS_CHANGE, APPROVALS, "OLD.state <> 'waiting'"),
    ):
        only_forward(table, changes, columns, final)
        op.execute(f"REVOKE UPDATE ON {table} FROM {ROLE}")
        op.execute(f"GRANT UPDATE ({', '.join(changes)}) ON {table} TO {ROLE}")
    op.create_table(
        "tallies",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("relation", sa.Text(), nullable=False, comment="the table whose rows are counted"),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ledger", "relation", name=op.f("pk_tallies")),
        comment="How many rows a ledger has in tables that none is deleted from, counted as they are added.",
    )
    op.execute(f"GRANT SELECT, INSERT, UPDATE ON tallies TO {ROLE}")
    for table in COUNTED:
        op.execute(f"INSERT INTO tallies SELECT ledger, '{table}', count(*) FROM {table} GROUP BY ledger")


def downgrade() -> None:
    op.drop_table("tallies")
    for table in ("deliveries", "approvals"):
        unguard(table, "only_forward", "never_deleted", "never_truncated")
        op.execute(f"GRANT UPDATE ON {table} TO {ROLE}")
    for table in NEVER_CHANGED:
        unguard(table, "append_only", "never_truncated")
    for table in ("journals", "journal_exports"):
        op.execute(f"GRANT UPDATE, DELETE ON {table} TO {ROLE}")
    for table in SEALED:
        unseal(table)
    for function in ("seal_row", "row_seal", "refuse_change_of_record"):
        op.execute(f"DROP FUNCTION {function}")
