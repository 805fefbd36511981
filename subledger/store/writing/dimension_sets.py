"""The numbers of a ledger's dimension sets: entries store a number instead of the texts.

Owns: reading them. Does not own: giving new numbers (log).
"""

from __future__ import annotations

from typing import Final

from subledger.kinds import Dimensions
from subledger.store.database import WriteConnection

FIND_DIMENSION_SETS: Final = """
SELECT dimension_set, product, credit_kind, pool, processor, cohort, refundable, own, usage
FROM dimension_sets WHERE ledger = %s
"""


def load_dimension_sets(connection: WriteConnection, ledger: str) -> dict[Dimensions, int]:
    """Reads the numbers of a ledger's dimension sets."""
    return {dimensions: number for number, dimensions in numbered_dimensions(connection, ledger).items()}


def numbered_dimensions(connection: WriteConnection, ledger: str) -> dict[int, Dimensions]:
    """Reads a ledger's dimension sets by their numbers."""
    return {number: Dimensions(*values) for number, *values in connection.execute(FIND_DIMENSION_SETS, (ledger,))}
