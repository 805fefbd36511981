"""Reversals and re-issues of journals: the corrected journal, the reason, the time and the person.

Revision: 0013, after 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

REVERSES = "the journal of the period whose lines it takes back"
REISSUES = "the journal of the period whose entries it holds in its place"
REASON = "of a reversal and its re-issue; else NULL"
CORRECTION = (
    "num_nonnulls(reverses, reissues) IN (0, 1) AND coalesce(reverses, reissues, 0) < number"
    " AND num_nonnulls(reason, made_by, made_at) = 3 * num_nonnulls(reverses, reissues)"
)


def upgrade() -> None:
    op.add_column("journals", sa.Column("reverses", sa.Integer(), nullable=True, comment=REVERSES))
    op.add_column("journals", sa.Column("reissues", sa.Integer(), nullable=True, comment=REISSUES))
    op.add_column("journals", sa.Column("reason", sa.Text(), nullable=True, comment=REASON))
    op.add_column("journals", sa.Column("made_by", sa.Text(), nullable=True))
    op.add_column("journals", sa.Column("made_at", sa.DateTime(timezone=True), nullable=True))
    op.create_check_constraint(op.f("ck_journals_correction"), "journals", CORRECTION)
    for column in ("reverses", "reissues"):
        op.create_index(f"ux_journals_{column}", "journals", ["ledger", "period", column], unique=True)


def downgrade() -> None:
    for column in ("reverses", "reissues"):
        op.drop_index(f"ux_journals_{column}", "journals")
    op.drop_constraint(op.f("ck_journals_correction"), "journals")
    for column in ("made_at", "made_by", "reason", "reissues", "reverses"):
        op.drop_column("journals", column)
