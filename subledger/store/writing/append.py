"""What a batch writes, as one call of the database's function ``append_batch``.

Everything that goes into a table for a batch is a group of arrays, one a column; a group that has no rows is left out
of the call. A big batch's events and entries have been copied before, and are left out too. Called on its own, in a
transaction of its own, it writes only where the ledger's head is the one that the batch was decided on.

Owns: the parameters of the function, whose text is in the migrations. Does not own: their values (log, memory,
projections).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

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
    "of_ledger", "at_once", "at_position", "at_hash", "at_rebuilds", "moment", "new_position", "new_root", "new_hash",
    "new_frontier", "new_wallets_through",
)  # fmt: skip

GROUPS: Final[dict[str, dict[str, type[Array]]]] = {
    "event": {
        "position": BigintArray, "source": TextArray, "event_id": TextArray, "type": TextArray, "customer": TextArray,
        "occurred_at": MomentArray, "data": TextArray, "attributes": TextArray, "decision": TextArray,
        "leaf": BytesArray,
    },
    "entry": {
        "position": BigintArray, "number": SmallintArray, "policy": SmallintArray, "kind": TextArray,
        "customer": TextArray, "block_id": TextArray, "unit": TextArray, "credits": NumericArray,
        "amount_minor": BigintArray, "currency": TextArray, "functional_minor": BigintArray,
        "accounting_date": DateArray, "effective_date": DateArray, "cut": IntegerArray, "dimension_set": IntegerArray,
    },
    "node": {"level": SmallintArray, "index": BigintArray, "hash": BytesArray},
    "set": {
        "dimension_set": IntegerArray, "product": TextArray, "credit_kind": TextArray, "pool": TextArray,
        "processor": TextArray,
    },
    "wallet": {"customer": TextArray, "position": BigintArray, "state": TextArray},
    "block": {
        "block_id": TextArray, "customer": TextArray, "invoice_id": TextArray, "opened_at_position": BigintArray,
        "expires_at": MomentArray, "is_open": BooleanArray, "state": TextArray,
    },
    "document": {"kind": TextArray, "document_id": TextArray, "customer": TextArray, "state": TextArray},
    "day": {
        "accounting_date": DateArray, "recorded_date": DateArray, "cut": IntegerArray, "currency": TextArray,
        "policy": SmallintArray, "kind": TextArray, "dimension_set": IntegerArray, "unit": TextArray,
        "written_minor": NumericArray, "mirrored_minor": NumericArray, "functional_written_minor": NumericArray,
        "functional_mirrored_minor": NumericArray, "credits": NumericArray, "entries": BigintArray,
    },
    "other": {"customer": TextArray},
}  # fmt: skip
"""The columns of each group, in the order of its rows."""

_NAMED: Final = {
    group: tuple((f"{group}_{column}", array) for column, array in columns.items()) for group, columns in GROUPS.items()
}


def rows_as_parameters(group: str, rows: Sequence[Iterable[Any]]) -> Parameters:
    """The parameters that a group's rows make; none where there are none."""
    if not rows:
        return {}
    columns = zip(*rows, strict=True)
    return {name: array(column) for (name, array), column in zip(_NAMED[group], columns, strict=True)}


def call_of(parameters: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """The statement that calls the function with these parameters, and their values, for a RawCursor.

    psycopg reads the placeholders of its own style anew each time, where a statement has so many.
    """
    return _statement(tuple(parameters)), list(parameters.values())


@lru_cache(maxsize=256)
def _statement(names: tuple[str, ...]) -> str:
    given = ", ".join(f"{name} => ${place}" for place, name in enumerate(names, start=1))
    return f"SELECT append_batch({given})"
