"""Monitors: their settings, their notices and their progress; and the results of verifications.

Revision: 0012, after 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

SETTINGS = "in canonical JSON; the webhook's secret is named, never written"
NOT_IN_THE_BOOKS = "state <> ALL (ARRAY['posted', 'reconciled', 'abandoned'])"


def _moment(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "monitor_settings",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False, comment=SETTINGS),
        _moment("changed_at"),
        sa.Column("changed_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("ledger", name=op.f("pk_monitor_settings")),
        comment="The thresholds of a ledger's monitors, and who is told.",
    )
    op.create_table(
        "monitor_states",
        sa.Column("ledger", sa.Text(), nullable=False),
        _moment("looked_at", nullable=True),
        sa.Column("ringing", sa.Text(), nullable=False, comment="monitor to the moment since when, in JSON, as told"),
        sa.PrimaryKeyConstraint("ledger", name=op.f("pk_monitor_states")),
        comment="What was last told of a ledger's monitors. Locking it is the right to tell.",
    )
    op.create_table(
        "monitor_notices",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("notice_id", sa.Text(), nullable=False),
        _moment("made_at"),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        _moment("due_at", nullable=True),
        _moment("sent_at", nullable=True),
        sa.Column("failure", sa.Text(), nullable=True, comment="why the last attempt came to nothing"),
        sa.PrimaryKeyConstraint("ledger", "notice_id", name=op.f("pk_monitor_notices")),
        comment="Notices that monitors began or ceased to ring, on their way to the webhook.",
    )
    op.create_index(
        "ix_monitor_notices_waiting",
        "monitor_notices",
        ["ledger", "made_at"],
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_table(
        "cleared_blocks",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False, comment="through which finished blocks were looked at"),
        sa.Column("uncleared", sa.Text(), nullable=False, comment="those that were not at zero then, in JSON"),
        sa.PrimaryKeyConstraint("ledger", name=op.f("pk_cleared_blocks")),
        comment="How far finished blocks were found at zero. A cache: its presence affects cost, never meaning.",
    )
    op.create_table(
        "verifications",
        sa.Column("ledger", sa.Text(), nullable=False),
        _moment("verified_at"),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False, comment="events through this were not read again"),
        sa.Column("differences", sa.Integer(), nullable=False),
        _moment("clean_at", nullable=True),
        sa.PrimaryKeyConstraint("ledger", name=op.f("pk_verifications")),
        comment="What the last verification of a ledger found, and when one was last clean.",
    )
    # The index has the deliveries that are not in the books yet, and recent changes: a few of all rows.
    op.create_index(
        "ix_deliveries_waiting", "deliveries", ["ledger", "created_at"], postgresql_where=sa.text(NOT_IN_THE_BOOKS)
    )
    op.create_index("ix_deliveries_changed_at", "deliveries", ["ledger", "changed_at"])
    for table in ("monitor_settings", "monitor_states", "monitor_notices", "cleared_blocks", "verifications"):
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO subledger_app")


def downgrade() -> None:
    op.drop_index("ix_deliveries_changed_at", "deliveries")
    op.drop_index("ix_deliveries_waiting", "deliveries")
    for table in ("verifications", "cleared_blocks", "monitor_notices", "monitor_states", "monitor_settings"):
        op.drop_table(table)
