"""The moment through which a ledger has answered only goes forward, and is never in the future.

Revision: 0038, after 0037
"""

from migrations.sealing import goes_forward, unguard

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    goes_forward("ledgers", "answered_through")


def downgrade() -> None:
    unguard("ledgers", "goes_forward")
