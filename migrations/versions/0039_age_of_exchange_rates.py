"""A ledger's setting: the maximum age of the exchange rate of a month's last day. Existing ledgers get the default.

Revision: 0039, after 0038
"""

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

COMMENT = "how old a rate may be where a month closes"


def upgrade() -> None:
    op.add_column(
        "ledgers",
        sa.Column("rate_max_age_days", sa.SmallInteger(), nullable=False, server_default="7", comment=COMMENT),
    )
    op.alter_column("ledgers", "rate_max_age_days", server_default=None)


def downgrade() -> None:
    op.drop_column("ledgers", "rate_max_age_days")
