"""Laws of the Merkle tree: the root is that of RFC 6962, every correct proof is accepted, and no false one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subledger.errors import IntegrityFault
from subledger.merkle import (
    EMPTY_ROOT,
    TILE_LEVELS,
    Frontier,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    leaf_hash,
    range_root,
    root_from_inclusion,
)

SMALL = 70
LEAVES = [leaf_hash(str(number).encode()) for number in range(1400)]


def root_by_definition(leaves: list[bytes]) -> bytes:
    """Returns the root by RFC 6962, 2.1, word by word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = root_by_definition(leaves[:split]), root_by_definition(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def subtree(level: int, index: int) -> bytes:
    return root_by_definition(LEAVES[index << level : (index + 1) << level])


ROOTS = [root_by_definition(LEAVES[:size]) for size in range(SMALL + 1)]


def test_the_roots_are_those_of_the_standards_own_example() -> None:
    """The tree of certificate-transparency's test data: eight inputs, known roots."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    frontier = Frontier()
    assert frontier.root().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    roots = []
    for text in inputs:
        frontier.append(leaf_hash(bytes.fromhex(text)))
        roots.append(frontier.root().hex())
    assert roots[0] == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert roots[1] == "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    assert roots[7] == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_a_growing_tree_has_the_root_of_the_definition_at_every_size() -> None:
    frontier = Frontier()
    assert frontier.root() == EMPTY_ROOT == ROOTS[0]
    for size in range(1, SMALL + 1):
        frontier.append(LEAVES[size - 1])
        assert frontier.root() == ROOTS[size] == range_root(0, size, subtree)


def test_a_tree_read_back_from_its_bytes_goes_on_as_if_never_stopped() -> None:
    frontier = Frontier()
    for size in range(1, SMALL + 1):
        frontier = Frontier.from_bytes(frontier.size, frontier.to_bytes())
        frontier.append(LEAVES[size - 1])
        assert frontier.root() == ROOTS[size]
    with pytest.raises(IntegrityFault, match="complete subtrees"):
        Frontier.from_bytes(frontier.size + 1, frontier.to_bytes())


def test_a_full_tile_is_handed_over_once_with_its_root() -> None:
    frontier = Frontier()
    tiles = [tile for leaf in LEAVES for tile in frontier.append(leaf)]
    assert tiles == [(8, index, subtree(8, index)) for index in range(len(LEAVES) >> TILE_LEVELS)]


def test_every_leaf_of_every_small_tree_is_shown_to_be_in_it_and_nowhere_else() -> None:
    for size in range(1, SMALL + 1):
        for index in range(size):
            proof = inclusion_proof(index, size, subtree)
            assert len(proof) <= (size - 1).bit_length()
            assert root_from_inclusion(LEAVES[index], index, size, proof) == ROOTS[size]
            assert root_from_inclusion(LEAVES[index + 1], index, size, proof) != ROOTS[size]
            if size > 1:
                other = (index + 1) % size
                assert _root_or_none(LEAVES[index], other, size, proof) != ROOTS[size]
                assert _root_or_none(LEAVES[index], index, size, proof[:-1]) != ROOTS[size]
                changed = [bytes(32), *proof[1:]]
                assert root_from_inclusion(LEAVES[index], index, size, changed) != ROOTS[size]
            assert _root_or_none(LEAVES[index], index, size, [*proof, bytes(32)]) != ROOTS[size]


def _root_or_none(*arguments: Any) -> bytes | None:
    try:
        return root_from_inclusion(*arguments)
    except ValueError:
        return None


def test_every_small_tree_is_shown_to_continue_every_smaller_one() -> None:
    for new in range(1, SMALL + 1):
        for old in range(1, new + 1):
            proof = consistency_proof(old, new, subtree)
            assert is_consistent(old, ROOTS[old], new, ROOTS[new], proof)
            assert not is_consistent(old, bytes(32), new, ROOTS[new], proof)
            assert not is_consistent(old, ROOTS[old], new, bytes(32), proof)
            assert not is_consistent(old, ROOTS[old], new, ROOTS[new], [*proof, bytes(32)])
            if proof:
                assert not is_consistent(old, ROOTS[old], new, ROOTS[new], proof[:-1])
                assert not is_consistent(old, ROOTS[old], new, ROOTS[new], [*proof[:-1], bytes(32)])
            assert not is_consistent(new + 1, ROOTS[new], new, ROOTS[old], proof)


@settings(max_examples=30)
@given(st.data())
def test_proofs_of_large_trees_convince_and_those_of_a_changed_log_do_not(data: st.DataObject) -> None:
    new = data.draw(st.integers(SMALL, len(LEAVES)))
    old = data.draw(st.integers(1, new))
    index = data.draw(st.integers(0, new - 1))
    root = root_by_definition(LEAVES[:new])
    assert root_from_inclusion(LEAVES[index], index, new, inclusion_proof(index, new, subtree)) == root
    proof = consistency_proof(old, new, subtree)
    old_root = root_by_definition(LEAVES[:old])
    assert is_consistent(old, old_root, new, root, proof)
    changed = data.draw(st.integers(0, old - 1))
    rewritten = [*LEAVES[:changed], leaf_hash(b"rewritten"), *LEAVES[changed + 1 : new]]
    assert not is_consistent(old, old_root, new, root_by_definition(rewritten), proof)

    def other(level: int, index: int) -> bytes:
        return root_by_definition(rewritten[index << level : (index + 1) << level])

    forged = consistency_proof(old, new, other)
    assert not is_consistent(old, old_root, new, root_by_definition(rewritten), forged)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: inclusion_proof(3, 3, subtree),
        lambda: inclusion_proof(-1, 3, subtree),
        lambda: root_from_inclusion(LEAVES[0], 3, 3, []),
        lambda: consistency_proof(0, 3, subtree),
        lambda: consistency_proof(4, 3, subtree),
    ],
)
def test_a_proof_of_what_cannot_be_is_refused(ask: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"no (leaf|tree)"):
        ask()


def test_leaves_and_nodes_are_told_apart() -> None:
    """Without the prefix a node could be presented as a leaf (second preimage)."""
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != ROOTS[2]
