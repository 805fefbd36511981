"""The Merkle tree: the frontier's root is the tree's, and proofs prove what is so and nothing else."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger import merkle

LEAVES = [merkle.leaf_hash(str(number).encode()) for number in range(600)]


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word by word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


def subtree(level: int, index: int) -> bytes:
    return naive_root(LEAVES[index << level : (index + 1) << level])


def frontier(size: int) -> merkle.Frontier:
    tree = merkle.Frontier()
    for leaf in LEAVES[:size]:
        tree.append(leaf)
    return tree


@given(size=st.integers(0, 600))
def test_the_frontier_has_the_root_of_the_whole_tree(size: int) -> None:
    tree = frontier(size)
    assert tree.root() == naive_root(LEAVES[:size])
    assert merkle.Frontier.from_bytes(size, tree.to_bytes()).root() == tree.root()


def test_tiles_are_the_roots_of_complete_subtrees() -> None:
    tree = merkle.Frontier()
    tiles = [tile for leaf in LEAVES for tile in tree.append(leaf)]
    assert tiles == [(8, 0, subtree(8, 0)), (8, 1, subtree(8, 1))]


@pytest.mark.parametrize("size", [*range(1, 35), 63, 64, 65, 255, 256, 257, 600])
def test_every_leaf_is_proved_and_no_other(size: int) -> None:
    root = naive_root(LEAVES[:size])
    for index in range(0, size, max(1, size // 16)):
        proof = merkle.inclusion_proof(index, size, subtree)
        assert merkle.root_from_inclusion(LEAVES[index], index, size, proof) == root
        assert merkle.root_from_inclusion(merkle.leaf_hash(b"other"), index, size, proof) != root
        with pytest.raises(ValueError, match="proof is too long"):
            merkle.root_from_inclusion(LEAVES[index], index, size, [*proof, root])


@given(sizes=st.tuples(st.integers(1, 600), st.integers(1, 600)).map(sorted))
def test_a_longer_tree_is_proved_to_begin_with_the_shorter(sizes: list[int]) -> None:
    old, new = sizes
    old_root, new_root = naive_root(LEAVES[:old]), naive_root(LEAVES[:new])
    proof = merkle.consistency_proof(old, new, subtree)
    assert merkle.is_consistent(old, old_root, new, new_root, proof)
    assert not merkle.is_consistent(old, merkle.leaf_hash(b"x"), new, new_root, proof)
    assert not merkle.is_consistent(old, old_root, new, merkle.leaf_hash(b"x"), proof)
