"""Keys have a public id. They end by a date, by a rotation or by a revocation, and their rows stay.

Revision: 0017, after 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

ID = "public: names the key in lists and commands; says nothing of the key"
ROLE = "subledger_app"


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("key_id", sa.Text(), nullable=True, comment=ID))
    op.execute("UPDATE api_keys SET key_id = 'key_' || substr(replace(gen_random_uuid()::text, '-', ''), 1, 20)")
    op.alter_column("api_keys", "key_id", nullable=False)
    moment, rotated = sa.DateTime(timezone=True), "the key that it was rotated from"
    grace = "later than now: in a grace period"
    op.add_column("api_keys", sa.Column("created_by", sa.Text(), nullable=True))
    op.add_column("api_keys", sa.Column("replaces", sa.Text(), nullable=True, comment=rotated))
    op.add_column("api_keys", sa.Column("expires_at", moment, nullable=True))
    op.add_column("api_keys", sa.Column("revoked_at", moment, nullable=True, comment=grace))
    op.add_column("api_keys", sa.Column("revoked_by", sa.Text(), nullable=True))
    op.add_column("api_keys", sa.Column("last_used_at", moment, nullable=True, comment="to about a minute"))
    op.create_check_constraint(op.f("ck_api_keys_revoked"), "api_keys", "(revoked_at IS NULL) = (revoked_by IS NULL)")
    op.create_index("ux_api_keys_key_id", "api_keys", ["key_id"], unique=True)
    # A key's row stays. If the last row were deleted, the server would accept calls without a key again.
    op.execute(f"REVOKE UPDATE, DELETE ON api_keys FROM {ROLE}")
    op.execute(f"GRANT UPDATE (revoked_at, revoked_by, last_used_at) ON api_keys TO {ROLE}")


def downgrade() -> None:
    op.execute(f"GRANT UPDATE, DELETE ON api_keys TO {ROLE}")
    op.drop_index("ux_api_keys_key_id", "api_keys")
    op.drop_constraint(op.f("ck_api_keys_revoked"), "api_keys")
    for column in ("last_used_at", "revoked_by", "revoked_at", "expires_at", "replaces", "created_by", "key_id"):
        op.drop_column("api_keys", column)
    op.execute("UPDATE api_keys SET seal = ''")  # the id changes the seal of the row
