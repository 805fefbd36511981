"""Are the snapshots what the entries make them, and none missing among those that are kept?

Owns: the comparison. Does not own: where snapshots stand and what is in them (projections.reads.snapshots).
"""

from __future__ import annotations

import sqlalchemy as sa

from projections.reads.snapshots import stored_and_expected
from projections.replay.comparing import compare_rows
from projections.replay.findings import Findings


def compare_snapshots(connection: sa.Connection, ledger: str, findings: Findings) -> None:
    """Rows that are missing, other, or that no entry made. That there are no snapshots yet is no difference."""
    for _, kept, expected in stored_and_expected(connection, ledger):
        compare_rows("snapshots", {**expected}, iter(kept.items()), findings)
