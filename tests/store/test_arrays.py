"""Binary arrays arrive unchanged."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import hypothesis.strategies as st
import psycopg
import pytest
from hypothesis import given

from subledger.store.writing import arrays
from subledger.store.writing.arrays import Array

_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
    "bytea": st.binary(),
    "bool": st.booleans(),
    "int2": st.integers(-(2**15), 2**15 - 1),
    "int4": st.integers(-(2**31), 2**31 - 1),
    "int8": st.integers(-(2**63), 2**63 - 1),
    "date": st.dates(date(1, 1, 1), date(9999, 12, 31)),
    "timestamptz": st.datetimes(datetime(1900, 1, 1), datetime(8999, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive by contract
    "numeric": st.decimals(allow_nan=False, allow_infinity=False, places=9) | st.integers(-(10**25), 10**25),
}


def test_every_type_has_values_to_be_tried() -> None:
    assert {array.type for array in Array.__subclasses__()} == set(_VALUES)


@pytest.mark.parametrize("array", Array.__subclasses__(), ids=lambda array: array.type)
@given(data=st.data())
def test_an_array_arrives_as_it_was_sent(array: type[Array], server_url: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | _VALUES[array.type], max_size=8))
    connection = _connection(server_url)
    row = connection.execute(f"SELECT %b::{array.type}[]", (array(values),)).fetchone()
    assert row is not None
    assert row[0] == [Decimal(v) if array is arrays.NumericArray and v is not None else v for v in values]


_connections: dict[str, psycopg.Connection[tuple[Any, ...]]] = {}


def _connection(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    """Returns one connection for all examples of the run."""
    if url not in _connections:
        _connections[url] = psycopg.connect(url, autocommit=True, options="-c timezone=UTC")
    return _connections[url]
