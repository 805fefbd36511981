"""Credentials belong to ledgers. Each ledger is granted the credentials that its channels and its webhook already use.

Revision: 0023, after 0022
"""

import sqlalchemy as sa
from alembic import op

from migrations.sealing import seal

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

IN_USE = """
INSERT INTO credential_grants (ledger, credential, granted_at, granted_by)
SELECT DISTINCT used.ledger, setting.value, now(), 'migration'
FROM (SELECT ledger, settings FROM delivery_channels UNION ALL SELECT ledger, settings FROM monitor_settings) AS used
CROSS JOIN LATERAL jsonb_each_text(used.settings::jsonb) AS setting
WHERE setting.value ~ '^(env:[A-Za-z_]|file:/)'
"""


def upgrade() -> None:
    op.create_table(
        "credential_grants",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("credential", sa.Text(), nullable=False, comment="as channels name it, never the secret"),
        sa.Column("granted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("granted_by", sa.Text(), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.CheckConstraint("(revoked_at IS NULL) = (revoked_by IS NULL)", name=op.f("ck_credential_grants_revoked")),
        sa.PrimaryKeyConstraint("ledger", "credential", name=op.f("pk_credential_grants")),
        comment="The credentials that a ledger's channels and webhook may use.",
    )
    seal("credential_grants")
    op.execute("GRANT SELECT, INSERT, UPDATE ON credential_grants TO subledger_app")
    op.execute(IN_USE)


def downgrade() -> None:
    op.drop_table("credential_grants")
