"""Account mappings apply from a month on: a later journal of an earlier month uses the mapping of that month.

Revision: 0009, after 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

VALID_FROM = "the first month that it holds for; NULL: any"


def upgrade() -> None:
    op.add_column("account_mappings", sa.Column("valid_from", sa.Text(), nullable=True, comment=VALID_FROM))


def downgrade() -> None:
    op.drop_column("account_mappings", "valid_from")
