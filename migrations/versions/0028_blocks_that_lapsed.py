"""An index of expired blocks by customer, so that a refusal can name the last ones without reading the rest.

Revision: 0028, after 0027
"""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

# The backslash is for SQLAlchemy, which would take the colon for a parameter.
LAPSED = r"""NOT is_open AND expires_at IS NOT NULL AND state LIKE '%"expired"\:true%'"""


def upgrade() -> None:
    op.execute(f"CREATE INDEX ix_blocks_lapsed ON blocks (ledger, customer, expires_at DESC, block_id) WHERE {LAPSED}")


def downgrade() -> None:
    op.drop_index("ix_blocks_lapsed", "blocks")
