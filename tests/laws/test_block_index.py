"""The cache of places changes nothing but the time it takes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from subledger.block_index import MOST, Blocks, Places
from subledger.blocks import Block
from subledger.draw_order import draw_order

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = st.none() | st.integers(0, 5)


def block(name: int, days: int | None, used: int) -> Block:
    return Block(
        block_id=f"b{name}",
        credit_kind="paid",
        unit="credit",
        credits=Decimal(10),
        price_minor=100,
        currency="USD",
        starts_at=START,
        expires_at=None if days is None else START + timedelta(days=days),
        used=Decimal(used),
        opened_at_position=1,
        losses_from=date(2026, 1, 1),
    )


def by_hand(blocks: Blocks, changed: Block) -> Blocks:
    return tuple(sorted((*(b for b in blocks if b.block_id != changed.block_id), changed), key=draw_order))


@given(
    st.lists(st.tuples(st.integers(0, 12), DAYS, st.integers(0, 9), st.integers(0, 3)), max_size=40),
    st.integers(0, 4),
    st.integers(0, 20),
)
def test_blocks_are_found_and_placed_as_if_nothing_were_remembered(
    changes: list[tuple[int, int | None, int, int]], many: int, most: int
) -> None:
    places = Places(many=many, most=most)
    versions: list[Blocks] = [()]
    for name, days, used, back in changes:
        before = versions[max(len(versions) - 1 - back, 0)]  # an earlier one, as after what was taken back
        after = places.with_block(before, block(name, days, used))
        assert after == by_hand(before, block(name, days, used))
        versions.append(after)
        for blocks in versions[-5:]:
            for wanted in range(13):
                index = places.index(blocks, f"b{wanted}")
                found = None if index is None else blocks[index]
                assert found == next((b for b in blocks if b.block_id == f"b{wanted}"), None)


@pytest.mark.parametrize("most", [MOST, 1_000])
def test_what_a_purchase_looks_at_does_not_grow_with_the_blocks_that_are_open(most: int) -> None:
    """Also if these are more than are known in all."""
    looked = 0

    class Counting(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            nonlocal looked
            looked += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    places, blocks = Places(most=most), ()
    for name in range(2_000):
        blocks = places.with_block(blocks, replace(block(name, None, 0), block_id=Counting(f"b{name}")))
    looked = 0
    for name in range(2_000, 2_100):
        blocks = places.with_block(blocks, replace(block(name, None, 0), block_id=Counting(f"b{name}")))
        assert places.index(blocks, f"b{name}") is not None
    assert looked < 100 * 100, "a look at each would be 200,000"
    assert list(blocks) == sorted(blocks, key=draw_order)
