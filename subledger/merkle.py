"""A Merkle tree over the log, as in RFC 6962: the root commits to every event, in order.

Owns: hashing of leaves and nodes, growing a tree by its frontier, inclusion and consistency proofs and their
verification. Does not own: the storage of hashes (a function returns the hash of any complete subtree).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from subledger.errors import IntegrityFault

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
TILE_LEVELS: Final = 8
"""The hashes of subtrees of 2**8, 2**16 … leaves are stored, so that a proof rehashes few leaves."""

SubtreeHash = Callable[[int, int], bytes]
"""(level, index) → hash of the complete subtree of 2**level leaves that starts at leaf index × 2**level."""


def leaf_hash(encoding: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + encoding).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """A growing tree, represented by its complete subtrees from the largest to the smallest.

    ``append`` returns the (level, index, hash) of the tiles of 256, 65,536 … leaves that the new leaf completes.
    """

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self.size = size
        self._hashes = list(hashes)
        if len(self._hashes) != size.bit_count():
            raise IntegrityFault(
                f"a tree of {size} leaves has {size.bit_count()} complete subtrees, not {len(self._hashes)}"
            )

    @classmethod
    def from_bytes(cls, size: int, joined: bytes) -> Frontier:
        return cls(size, (joined[i : i + 32] for i in range(0, len(joined), 32)))

    def to_bytes(self) -> bytes:
        return b"".join(self._hashes)

    def copy(self) -> Frontier:
        return Frontier(self.size, self._hashes)

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        completed = []
        level, position, current = 0, self.size, leaf
        while position & 1:
            current = node_hash(self._hashes.pop(), current)
            position >>= 1
            level += 1
            if level % TILE_LEVELS == 0:
                completed.append((level, position, current))
        self._hashes.append(current)
        self.size += 1
        return completed

    def root(self) -> bytes:
        if not self._hashes:
            return EMPTY_ROOT
        current = self._hashes[-1]
        for left in reversed(self._hashes[:-1]):
            current = node_hash(left, current)
        return current


def _split(size: int) -> int:
    """The largest power of two below ``size``."""
    return 1 << (size - 1).bit_length() - 1


def range_root(start: int, end: int, subtree: SubtreeHash) -> bytes:
    """The root over leaves [start, end), where start is a multiple of the range's largest power of two."""
    size = end - start
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return subtree(level, start >> level)
    middle = start + _split(size)
    return node_hash(range_root(start, middle, subtree), range_root(middle, end, subtree))


def inclusion_proof(index: int, size: int, subtree: SubtreeHash) -> list[bytes]:
    """The path that shows leaf ``index`` (from 0) to be in the tree of ``size`` leaves (RFC 6962, 2.1.1)."""
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(range_root(middle, end, subtree))
            end = middle
        else:
            path.append(range_root(start, middle, subtree))
            start = middle
    return path[::-1]


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """Returns the root that a proof leads to. The leaf is included if the tree has this root. Raises ValueError."""
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    first, last, current = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ValueError("the proof is too long")
        if first & 1 or first == last:
            current = node_hash(sibling, current)
            while not first & 1 and first:
                first >>= 1
                last >>= 1
        else:
            current = node_hash(current, sibling)
        first >>= 1
        last >>= 1
    if last:
        raise ValueError("the proof is too short")
    return current


def consistency_proof(old_size: int, new_size: int, subtree: SubtreeHash) -> list[bytes]:
    """The path that shows the tree of ``old_size`` leaves to be a prefix of that of ``new_size`` (RFC 6962, 2.1.2)."""
    if not 0 < old_size <= new_size:
        raise ValueError(f"no tree of {old_size} in a tree of {new_size}")
    path: list[bytes] = []
    start, end, whole = 0, new_size, True
    while end != old_size:
        middle = start + _split(end - start)
        if old_size <= middle:
            path.append(range_root(middle, end, subtree))
            end = middle
        else:
            path.append(range_root(start, middle, subtree))
            start, whole = middle, False
    if not whole:
        path.append(range_root(start, end, subtree))
    return path[::-1]


def is_consistent(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Returns True if a proof shows that the new tree only appended to the old one (RFC 9162, 2.1.4.2)."""
    if old_size == new_size:
        return not proof and old_root == new_root
    if not 0 < old_size < new_size:
        return False
    path = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    if not path:
        return False
    first, last = old_size - 1, new_size - 1
    while first & 1:
        first >>= 1
        last >>= 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if first & 1 or first == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not first & 1 and first:
                first >>= 1
                last >>= 1
        else:
            new = node_hash(new, sibling)
        first >>= 1
        last >>= 1
    return old == old_root and new == new_root and last == 0
