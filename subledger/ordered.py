"""Ordered values: an immutable sequence in a total order. A changed copy shares most of its memory with the original.

A customer may have ten thousand open blocks, and each event changes a few of them. With a tuple, every change would
copy all values, and a search for changes would compare all values. So the values are in chunks. A change copies one
chunk and the list of chunks. A comparison of two versions skips the chunks that both share.

The division into chunks depends on earlier changes, and affects only the cost of a change. Two sequences of the same
values are always equal, and equal to a tuple of these values.

Owns: the chunks. Does not own: the names and the order of blocks and documents (wallet_parts).
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, ClassVar, Final, Self, TypeVar, overload

Value = TypeVar("Value")

CHUNK: Final = 32
"""The number of values in a new chunk. A chunk that grows to more than twice this number is divided into two."""

Order = Any
"""The sort key of a value. All values of a sequence have sort keys of one type."""


class Ordered(Sequence[Value]):
    """An immutable sequence of values with different names, in the total order of their class.

    ``with_value`` replaces or adds a value. Threads that only read can share a sequence.
    """

    __slots__ = ("_chunks", "_length", "_orders")
    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # as it has lists, and is compared by its values

    def __init__(self, values: Iterable[Value] = ()) -> None:
        ordered = sorted(values, key=self.order)
        self._chunks = tuple(self._chunk(ordered[at : at + CHUNK]) for at in range(0, len(ordered), CHUNK))
        self._length = len(ordered)
        self._orders: dict[Any, tuple[Order, ...]] | None = None

    @staticmethod
    @abstractmethod
    def name(value: Any) -> Any:
        """The name of a value, unique in a sequence."""

    @staticmethod
    @abstractmethod
    def order(value: Any) -> Order:
        """The sort key of a value. Values with different names have different sort keys."""

    @classmethod
    def same_place(cls, before: Value, after: Value) -> bool:
        """True if two values of the same name have the same sort key."""
        return bool(cls.order(before) == cls.order(after))

    @classmethod
    def _chunk(cls, values: Iterable[Value], like: tuple[Value, ...] | None = None) -> tuple[Value, ...]:  # noqa: ARG003 - subclasses use it
        """Returns a chunk of these values. ``like``: a chunk whose values have the same sort keys, if there is one."""
        return tuple(values)

    # --- reading ----------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Value]:
        return chain.from_iterable(self._chunks)

    @overload
    def __getitem__(self, index: int) -> Value: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Value, ...]: ...

    def __getitem__(self, index: int | slice) -> Value | tuple[Value, ...]:
        if isinstance(index, int) and index >= 0:
            for chunk in self._chunks:
                if index < len(chunk):
                    return chunk[index]
                index -= len(chunk)
            raise IndexError(index)
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, tuple):
            return tuple(self) == other
        return type(other) is type(self) and (self is other or tuple(self) == tuple(other))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)!r})"

    def get(self, name: Any) -> Value | None:
        """The value of a name, or None."""
        found = self._find(name)
        return None if found is None else self._chunks[found[0]][found[1]]

    def changes_since(self, earlier: Self) -> list[tuple[Value | None, Value | None]]:
        """Returns the changes since an earlier version, as pairs: the value before, and the value now.

        The value before is None if the value was added; the value now is None if it was removed. The pairs are in the
        order of this version, and removed values come last. The cost is mostly in proportion to the chunks that differ.
        """
        if earlier is self:
            return []
        old, new = earlier._chunks, self._chunks
        if not (len(old) == len(new) == 1):
            old, new = _apart(old, new)
        name = self.name
        if len(old) == len(new) == 1 and len(old[0]) == len(new[0]):  # the usual case: one value was replaced
            pairs: list[tuple[Value | None, Value | None]] = [
                (was, now) for was, now in zip(old[0], new[0], strict=True) if was is not now
            ]
            if all(name(was) == name(now) for was, now in pairs):
                return pairs
        before = {name(value): value for chunk in old for value in chunk}
        changes: list[tuple[Value | None, Value | None]] = []
        for chunk in new:
            for value in chunk:
                was = before.pop(name(value), None)
                if was is not value:
                    changes.append((was, value))
        changes.extend((value, None) for value in before.values())
        return changes

    # --- changed copies -----------------------------------------------------------------------------------------

    def with_value(self, value: Value) -> Self:
        """The sequence with one value replaced, or added."""
        found = self._find(self.name(value))
        if found is None:
            return self._with_new(value)
        at, index = found
        chunks = self._chunks
        chunk = chunks[at]
        if not self.same_place(chunk[index], value):
            return self._without(at, index)._with_new(value)
        replaced = self._chunk((*chunk[:index], value, *chunk[index + 1 :]), chunk)
        made = object.__new__(type(self))
        made._chunks = (replaced,) if len(chunks) == 1 else (*chunks[:at], replaced, *chunks[at + 1 :])
        made._length, made._orders = self._length, self._orders
        return made

    def with_missing(self, values: Iterable[Value]) -> Self:
        """Adds the values whose names are not in the sequence yet; ignores the others."""
        made = self
        for value in values:
            if made._find(self.name(value)) is None:
                made = made._with_new(value)
        return made

    def without(self, names: Iterable[Any]) -> Self:
        """The sequence without the values of some names."""
        made = self
        for name in names:
            found = made._find(name)
            if found is not None:
                made = made._without(*found)
        return made

    def _with_new(self, value: Value) -> Self:
        order = self.order(value)
        if self._orders is not None:
            name = self.name(value)
            known = self._orders.get(name, ())
            if order not in known:
                self._orders[name] = (*known, order)
        if not self._chunks:
            return self._with_chunks(0, 0, (self._chunk((value,)),), 1)
        at = max(bisect_right(self._chunks, order, key=self._first) - 1, 0)
        chunk = self._chunks[at]
        index = bisect_left(chunk, order, key=self.order)
        made = (*chunk[:index], value, *chunk[index:])
        half = len(made) // 2
        halves = (made,) if len(made) <= 2 * CHUNK else (made[:half], made[half:])
        return self._with_chunks(at, at + 1, tuple(map(self._chunk, halves)), self._length + 1)

    def _without(self, at: int, index: int) -> Self:
        chunk = self._chunks[at]
        made = (*chunk[:index], *chunk[index + 1 :])
        end = at + 1
        if end < len(self._chunks) and len(made) + len(self._chunks[end]) <= CHUNK:
            made, end = (*made, *self._chunks[end]), end + 1
        return self._with_chunks(at, end, (self._chunk(made),) if made else (), self._length - 1)

    def _with_chunks(self, start: int, end: int, chunks: tuple[tuple[Value, ...], ...], length: int) -> Self:
        made = object.__new__(type(self))
        made._chunks = (*self._chunks[:start], *chunks, *self._chunks[end:])
        made._length = length
        # The index of sort keys still contains removed names. When most of its names are removed ones, it is built
        # again.
        known = self._orders
        made._orders = known if known is not None and len(known) <= 2 * length + CHUNK else None
        return made

    # --- finding --------------------------------------------------------------------------------------------------

    @classmethod
    def _first(cls, chunk: tuple[Value, ...]) -> Order:
        return cls.order(chunk[0])

    def _find(self, name: Any) -> tuple[int, int] | None:
        """The number of the chunk that has the value of a name, and the index in this chunk."""
        chunks, named = self._chunks, self.name
        if len(chunks) <= 1:
            for chunk in chunks:
                for index, value in enumerate(chunk):
                    if named(value) == name:
                        return 0, index
            return None
        for order in self._orders_of(name):
            at = bisect_right(chunks, order, key=self._first) - 1
            if at >= 0:
                chunk = chunks[at]
                index = bisect_left(chunk, order, key=self.order)
                if index < len(chunk) and named(chunk[index]) == name:
                    return at, index
        return None

    def _orders_of(self, name: Any) -> Iterable[Order]:
        """Every sort key of a value of this name, in this version or in another one.

        All versions that were made from one another share this index. So a sort key may belong to another version. The
        caller must check the name of the value at the sort key.
        """
        if self._orders is None:
            self._orders = {self.name(value): (self.order(value),) for value in self}
        return self._orders.get(name, ())


_Chunks = tuple[tuple[Value, ...], ...]


def _apart(old: _Chunks[Value], new: _Chunks[Value]) -> tuple[_Chunks[Value], _Chunks[Value]]:
    """The chunks that only ``old`` has, and the chunks that only ``new`` has."""
    start, most = 0, min(len(old), len(new))
    while start < most and old[start] is new[start]:
        start += 1
    end, most = 0, most - start
    while end < most and old[-1 - end] is new[-1 - end]:
        end += 1
    left, right = old[start : len(old) - end], new[start : len(new) - end]
    of_left, of_right = {id(chunk) for chunk in left}, {id(chunk) for chunk in right}
    return (
        tuple(chunk for chunk in left if id(chunk) not in of_right),
        tuple(chunk for chunk in right if id(chunk) not in of_left),
    )


class ByName(Ordered[Value]):
    """A sequence in the order of the names."""

    __slots__ = ()

    @classmethod
    def order(cls, value: Any) -> Order:
        return cls.name(value)

    def _orders_of(self, name: Any) -> Iterable[Order]:
        return (name,)
