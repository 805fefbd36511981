"""Check of balance snapshots against the entries.

Owns: the comparison. Does not own: the positions and sums of snapshots (projections.reads.snapshots).
"""

from __future__ import annotations

import sqlalchemy as sa

from projections.reads.snapshots import stored_and_expected
from projections.replay.comparing import compare_rows
from projections.replay.findings import Findings


def compare_snapshots(connection: sa.Connection, ledger: str, findings: Findings) -> None:
    """Finds rows that are missing, different, or without entries. Absent snapshots of a ledger are no difference."""
    for _, stored, expected in stored_and_expected(connection, ledger):
        compare_rows("snapshots", {**expected}, iter(stored.items()), findings)
