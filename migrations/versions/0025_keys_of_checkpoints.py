"""A checkpoint's row has the public key that verifies it, so that any machine can see which key signed.

Revision: 0025, after 0024
"""

import sqlalchemy as sa
from alembic import op

from migrations.sealing import reseal

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

KEY = "verifies the note; NULL: signed before keys were kept here"


def upgrade() -> None:
    # Seals leave NULLs out, so the seals of existing rows do not change.
    op.add_column("checkpoints", sa.Column("public_key", sa.LargeBinary(), nullable=True, comment=KEY))


def downgrade() -> None:
    # Without the column a row with a key has another seal, so such rows are sealed again.
    op.drop_column("checkpoints", "public_key")
    reseal("checkpoints")
