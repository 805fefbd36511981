"""Delivery: channels, the outbox with its steps, and the tables of the job queue in a schema of their own.

Revision: 0010, after 0009

The job queue's own script makes its tables, in the version that pyproject.toml pins. Changes of a later version need a
migration here.
"""

import sqlalchemy as sa
from alembic import op
from procrastinate.schema import SchemaManager

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

STATES = (
    "built", "rendered", "submitted", "unknown", "accepted", "posted", "reconciled", "rejected", "failed", "abandoned",
)  # fmt: skip
STATE = f"state IN ({', '.join(repr(state) for state in STATES)})"
# An unfinished delivery always has a time for its next step, so that none is forgotten.
DUE = "due_at IS NOT NULL OR state NOT IN ('built', 'rendered', 'submitted', 'unknown')"
SETTINGS = "in canonical JSON; credentials are named, never written"


def _moment(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "delivery_channels",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("connector", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False, comment=SETTINGS),
        _moment("changed_at"),
        sa.Column("changed_by", sa.Text(), nullable=False),
        _moment("free_at", nullable=True),
        sa.PrimaryKeyConstraint("ledger", "channel", name=op.f("pk_delivery_channels")),
        comment="Where a ledger's journals go, and how.",
    )
    op.create_table(
        "deliveries",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False, comment="the general ledger, whatever the format"),
        sa.Column("export_id", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False, comment="of the journal's documents; 0: the whole file"),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False, comment="what the target knows it by"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="submissions that came to nothing, since a retry"),
        sa.Column("looks", sa.Integer(), nullable=False, comment="look-ups in its state"),
        sa.Column("steps", sa.Integer(), nullable=False),
        _moment("due_at", nullable=True),
        sa.Column("claim", sa.Text(), nullable=True, comment="of the worker that has it in hand"),
        _moment("claimed_until", nullable=True),
        sa.Column("erp_id", sa.Text(), nullable=True, comment="the target's own id"),
        sa.Column("reason", sa.Text(), nullable=True, comment="why it is what it is"),
        sa.Column("payload", sa.LargeBinary(), nullable=True, comment="what is sent; NULL: the export's file"),
        sa.Column("payload_hash", sa.Text(), nullable=True),
        _moment("created_at"),
        _moment("submitted_at", nullable=True),
        _moment("changed_at"),
        sa.CheckConstraint(STATE, name=op.f("ck_deliveries_state")),
        sa.CheckConstraint(DUE, name=op.f("ck_deliveries_due")),
        sa.PrimaryKeyConstraint("ledger", "delivery_id", name=op.f("pk_deliveries")),
        comment="The outbox: every document or file on its way into a general ledger, and what became of it.",
    )
    # A journal's document goes to a general ledger once, through any channel.
    op.create_index(
        "ux_deliveries_once",
        "deliveries",
        ["ledger", "destination", "period", "number", "part"],
        unique=True,
        postgresql_where=sa.text("state <> 'abandoned'"),
    )
    op.create_index(
        "ix_deliveries_due",
        "deliveries",
        ["ledger", "channel", "due_at"],
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("ix_deliveries_export_id", "deliveries", ["ledger", "export_id"])
    op.create_table(
        "delivery_steps",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False, autoincrement=False),
        _moment("at"),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("exchanges", sa.Text(), nullable=True, comment="what was called and answered, in JSON, no secrets"),
        sa.PrimaryKeyConstraint("ledger", "delivery_id", "step", name=op.f("pk_delivery_steps")),
        comment="What became of a delivery, step by step. Never changed.",
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON delivery_channels TO subledger_app")
    op.execute("GRANT SELECT, INSERT, UPDATE ON deliveries TO subledger_app")
    op.execute("GRANT SELECT, INSERT ON delivery_steps TO subledger_app")
    _job_queue()


def _job_queue() -> None:
    op.execute("CREATE SCHEMA jobs")
    op.execute("SET LOCAL search_path TO jobs")
    op.get_bind().exec_driver_sql(SchemaManager.get_schema().replace("%", "%%"))
    op.execute("SET LOCAL search_path TO DEFAULT")
    op.execute("GRANT USAGE ON SCHEMA jobs TO subledger_app")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA jobs TO subledger_app")
    op.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA jobs TO subledger_app")


def downgrade() -> None:
    op.execute("DROP SCHEMA jobs CASCADE")
    op.drop_table("delivery_steps")
    op.drop_table("deliveries")
    op.drop_table("delivery_channels")
