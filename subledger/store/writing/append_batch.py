"""Writing a batch: one call of the database's function ``append_batch``.

The rows for a table are a group of arrays, one for each column. The call omits groups without rows. It also omits the
events and entries of a big batch, which were copied before. If the call is its own transaction, the function writes
only if the ledger's head is still the one on which the batch was decided.

Owns: the parameters of the function, whose SQL is in ``migrations/versions/0007_a_batch_in_one_call.py``. Does not own:
their values (log, working_set, projections), hashes and the COPY of a big batch (log), and the columns
(``subledger/store/columns``, ``subledger/store/tables``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa

from subledger.store.tables import derived, log
from subledger.store.writing.arrays import (
    Array,
    BigintArray,
    BooleanArray,
    BytesArray,
    DateArray,
    IntegerArray,
    MomentArray,
    NumericArray,
    SmallintArray,
    TextArray,
)

Parameters = dict[str, Any]
"""Values of the function's parameters, by name."""

HEAD: Final = (
    "of_ledger", "at_once", "at_position", "at_hash", "at_replacements", "moment", "new_position", "new_root",
    "new_hash", "new_frontier", "new_wallets_through",
)  # fmt: skip


_ARRAYS: Final[dict[type[Any], type[Array]]] = {
    sa.Text: TextArray, sa.LargeBinary: BytesArray, sa.Boolean: BooleanArray, sa.SmallInteger: SmallintArray,
    sa.Integer: IntegerArray, sa.BigInteger: BigintArray, sa.Date: DateArray, sa.DateTime: MomentArray,
    sa.Numeric: NumericArray,
}  # fmt: skip


def _columns(table: sa.Table) -> dict[str, type[Array]]:
    """Returns the columns of a table without the ledger's, which is one parameter for all rows."""
    return {column.name: _ARRAYS[type(column.type)] for column in table.columns if column.name != "ledger"}


GROUPS: Final[dict[str, dict[str, type[Array]]]] = {
    "event": _columns(log.events),
    "entry": _columns(log.entries),
    "node": _columns(derived.merkle_nodes),
    "set": _columns(derived.dimension_sets),
    "wallet": _columns(derived.wallets),
    "part": _columns(derived.wallet_parts),
    "gone": {name: array for name, array in _columns(derived.wallet_parts).items() if name != "state"},
    "block": _columns(derived.blocks),
    "document": _columns(derived.documents),
    "day": _columns(derived.ledger_days),
    "other": _columns(derived.other_currencies),
}
"""The columns of each group, in the order of its rows."""

_NAMED: Final = {
    group: tuple((f"{group}_{column}", array) for column, array in columns.items()) for group, columns in GROUPS.items()
}


def rows_as_parameters(group: str, rows: Sequence[Iterable[Any]]) -> Parameters:
    """Returns the parameters of a group with these rows; none if there are no rows."""
    if not rows:
        return {}
    columns = zip(*rows, strict=True)
    return {name: array(column) for (name, array), column in zip(_NAMED[group], columns, strict=True)}


def call_of(parameters: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Returns the statement that calls the function with these parameters, and their values, for a RawCursor.

    A statement has more than fifty placeholders. In psycopg's own style they would be parsed again on every call.
    """
    return _statement(tuple(parameters)), list(parameters.values())


@lru_cache(maxsize=256)
def _statement(names: tuple[str, ...]) -> str:
    given = ", ".join(f"{name} => ${number}" for number, name in enumerate(names, start=1))
    return f"SELECT append_batch({given})"
