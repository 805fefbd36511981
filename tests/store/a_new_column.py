"""A copy of the product in which ``entries`` has one more column: the files and the edits.

``campaign`` is the marketing campaign of usage, an attribute of its event. Earlier entries have no campaign. ``EDITS``
and ``MIGRATION`` list the files that such a column touches (also in subledger/README.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.store.edited_copy import Edits, edited_copy

COLUMN: Final = "campaign"

EDITS: Final[Edits] = {
    "subledger/kinds.py": (
        ("    cut: int\n    dimensions: Dimensions\n",
         "    cut: int\n    campaign: str | None = None\n    dimensions: Dimensions\n"),
    ),
    "subledger/posting.py": (
        ("        cut=before.open_cut,\n",
         "        cut=before.open_cut,\n"
         "        campaign=msgspec.json.decode(event.attributes_text or '{}').get('campaign'),\n"),
    ),
    "subledger/encoding.py": (
        ("            _dimensions(entry.dimensions),\n",
         "            _dimensions(entry.dimensions),\n"
         "            b'' if entry.campaign is None else _word(entry.campaign),\n"),
    ),
    "subledger/store/columns.py": (
        ("    cut: Integer\n", "    cut: Integer\n    campaign: Text | None\n"),
        ("        cut=row.cut,\n", "        cut=row.cut,\n        campaign=row.campaign,\n"),
    ),
}  # fmt: skip

MIGRATION: Final = "migrations/versions/0099_campaigns.py"
SCHEMA: Final = "subledger/store/schema.txt"
"""Written anew by the test of the schema."""

_MIGRATION: Final = '''"""Entries have a campaign."""

import sqlalchemy as sa
from alembic import op

revision = "0099"
down_revision = "{before}"
branch_labels = None
depends_on = None

DEFINITION = "SELECT pg_get_functiondef('append_batch'::regproc)"
ADDED = (
    ("entry_dimension_set integer[]", "entry_campaign text[] DEFAULT NULL::text[], entry_dimension_set integer[]"),
    ("effective_date, cut, dimension_set)", "effective_date, cut, campaign, dimension_set)"),
    ("entry_cut, entry_dimension_set)", "entry_cut, entry_campaign, entry_dimension_set)"),
)


def upgrade() -> None:
    op.add_column("entries", sa.Column("campaign", sa.Text, nullable=True))
    definition = op.get_bind().execute(sa.text(DEFINITION)).scalar_one()
    for before, after in ADDED:
        assert definition.count(before) == 1, before
        definition = definition.replace(before, after)
    op.execute("DROP FUNCTION append_batch")
    op.get_bind().exec_driver_sql(definition.replace("%", "%%"))
    op.execute("REVOKE EXECUTE ON FUNCTION append_batch FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION append_batch TO subledger_app")
'''


def copy_with_the_new_column(directory: Path, before: str) -> Path:
    """Copies the product, adds the column after the migration ``before``, and returns the copy's directory."""
    edited_copy(directory, EDITS)
    (directory / MIGRATION).write_text(_MIGRATION.replace("{before}", before), "utf-8")
    return directory
