"""The moment through which a ledger has answered only goes forward, and is never in the future.

Revision: 0040, after 0039
"""

from migrations.sealing import goes_forward, unguard

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None


def upgrade() -> None:
    goes_forward("ledgers", "answered_through")


def downgrade() -> None:
    unguard("ledgers", "goes_forward")
