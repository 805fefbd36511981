"""PostgreSQL arrays in binary. psycopg's own encoding of a list takes longer than the statement that unnests it.

Owns: the encoding of one-dimensional arrays of the types that our statements unnest. Source: PostgreSQL's array_recv,
and the receive functions of the element types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime
from decimal import Decimal
from struct import Struct
from typing import Any, Final

import psycopg
from psycopg.adapt import Dumper, PyFormat
from psycopg.pq import Format

_head: Final = Struct(">iiiii").pack  # dimensions, whether there are NULLs, element type, length, lower bound
_length: Final = Struct(">i").pack
_int2: Final = Struct(">ih").pack
_int4: Final = Struct(">ii").pack
_int8: Final = Struct(">iq").pack
_NULL: Final = _length(-1)
_DAY_0: Final = date(2000, 1, 1).toordinal()


def _text(value: str) -> bytes:
    encoded = value.encode()
    return _length(len(encoded)) + encoded


def _bytes(value: bytes) -> bytes:
    return _length(len(value)) + value


def _by_psycopg(type: type) -> Callable[[Any], bytes]:
    dump = psycopg.adapters.get_dumper(type, PyFormat.BINARY)(type).dump
    return lambda value: _bytes(bytes(dump(value) or b""))


_decimal: Final = _by_psycopg(Decimal)

_ELEMENTS: Final[dict[str, Callable[[Any], bytes]]] = {
    "text": _text,
    "bytea": _bytes,
    "bool": lambda value: b"\x00\x00\x00\x01\x01" if value else b"\x00\x00\x00\x01\x00",
    "int2": lambda value: _int2(2, value),
    "int4": lambda value: _int4(4, value),
    "int8": lambda value: _int8(8, value),
    "date": lambda value: _int4(4, value.toordinal() - _DAY_0),
    "timestamptz": _by_psycopg(datetime),
    "numeric": lambda value: _decimal(Decimal(value)),
}


class Array:
    """Values of one type as a parameter; None is NULL. Each type has its own class, because psycopg finds a dumper by
    class.
    """

    type: str
    oid: int
    element: Callable[[Any], bytes]

    def __init__(self, values: Iterable[Any]) -> None:
        element = self.__class__.element
        parts = [_NULL if value is None else element(value) for value in values]
        head = _head(1, _NULL in parts, self.oid, len(parts), 1) if parts else _head(0, 0, self.oid, 0, 0)[:12]
        self.binary = head + b"".join(parts)


class TextArray(Array):
    type = "text"


class BytesArray(Array):
    type = "bytea"


class BooleanArray(Array):
    type = "bool"


class SmallintArray(Array):
    type = "int2"


class IntegerArray(Array):
    type = "int4"


class BigintArray(Array):
    type = "int8"


class DateArray(Array):
    type = "date"


class MomentArray(Array):
    type = "timestamptz"


class NumericArray(Array):
    """Decimals and integers."""

    type = "numeric"


def _register(array: type[Array]) -> None:
    array.oid = psycopg.adapters.types[array.type].oid
    array.element = staticmethod(_ELEMENTS[array.type])

    class ArrayDumper(Dumper):
        format = Format.BINARY
        oid = psycopg.adapters.types[array.type].array_oid

        def dump(self, obj: Any) -> bytes:
            binary: bytes = obj.binary
            return binary

    psycopg.adapters.register_dumper(array, ArrayDumper)


for _array in Array.__subclasses__():
    _register(_array)
