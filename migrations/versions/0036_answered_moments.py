"""The moment through which a ledger has answered only goes forward, and is never in the future.

Revision: 0036, after 0033 (0034 and 0035 are taken by a branch that is not merged)
"""

from migrations.sealing import goes_forward, unguard

revision = "0036"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    goes_forward("ledgers", "answered_through")


def downgrade() -> None:
    unguard("ledgers", "goes_forward")
