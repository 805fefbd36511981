"""Signed checkpoints are stored in the database.

Revision: 0018, after 0017
"""

import sqlalchemy as sa
from alembic import op

from migrations.sealing import never_changed, seal

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("ledger", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False, comment="how many events it is over"),
        sa.Column("root", sa.LargeBinary(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False, comment="as it was signed and handed out"),
        sa.Column("signed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("ledger", "size", name=op.f("pk_checkpoints")),
        comment="Tree heads that were signed, one a size. Never changed.",
    )
    op.execute("GRANT SELECT, INSERT ON checkpoints TO subledger_app")
    seal("checkpoints")
    never_changed("checkpoints")


def downgrade() -> None:
    op.drop_table("checkpoints")
