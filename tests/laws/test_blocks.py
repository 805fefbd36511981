"""A block, drawn in any pieces, ends at exactly zero; the draw order is total."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from subledger.blocks import Block, BlockStatus, draw_order

START = datetime(2026, 1, 1, tzinfo=UTC)
NANO = st.integers(1, 10**15)


def block(**changes: object) -> Block:
    values: dict[str, object] = {
        "block_id": "b", "credit_kind": "paid", "unit": "credit", "credits": Decimal(10), "price_minor": 1000,
        "currency": "USD", "starts_at": START, "opened_at_position": 1, "gained_on": date(2026, 1, 1), **changes,
    }  # fmt: skip
    return Block(**values)  # type: ignore[arg-type]


def drawn(held: Block, credits: Decimal) -> tuple[Block, int]:
    amount = held.amount_for(credits)
    return replace(held, used=held.used + credits, drawn_minor=held.drawn_minor + amount), amount


@given(price=st.integers(0, 10**12), pieces=st.lists(NANO, min_size=1, max_size=40))
def test_a_block_drawn_in_any_pieces_ends_at_exactly_zero(price: int, pieces: list[int]) -> None:
    held = block(credits=Decimal(sum(pieces)).scaleb(-9), price_minor=price)
    total = 0
    for piece in pieces:
        assert held.left > 0
        held, amount = drawn(held, Decimal(piece).scaleb(-9))
        assert amount >= 0
        assert held.carrying_minor >= 0
        total += amount
    assert (held.left, held.carrying_minor, total) == (0, 0, price)


@given(price=st.integers(0, 10**9), size=st.integers(1, 500), used=st.integers(0, 500))
def test_money_drawn_is_never_half_a_unit_from_its_share(price: int, size: int, used: int) -> None:
    held = block(credits=Decimal(size), price_minor=price)
    for _ in range(min(used, size)):
        held, _amount = drawn(held, Decimal(1))
        assert abs(2 * held.drawn_minor * size - 2 * price * int(held.used)) <= size


@given(
    terms=st.lists(
        st.tuples(
            st.booleans(), st.integers(0, 2), st.one_of(st.none(), st.integers(1, 3)), st.booleans(), st.integers(0, 1),
            st.integers(0, 10**6),
        ),
        max_size=12, unique_by=lambda term: term[5],
    ),
    seed=st.randoms(),
)  # fmt: skip
def test_the_draw_order_is_total_and_forgets_the_order_of_arrival(
    terms: list[tuple[object, ...]], seed: object
) -> None:
    blocks = [
        block(
            scope=("api",) if scoped else None, priority=priority, block_id=f"b{number}",
            expires_at=None if life is None else START + timedelta(days=life),  # type: ignore[arg-type]
            credit_kind="promotional" if free else "paid", starts_at=START - timedelta(days=early),  # type: ignore[arg-type]
        )
        for scoped, priority, life, free, early, number in terms
    ]  # fmt: skip
    ordered = sorted(blocks, key=draw_order)
    seed.shuffle(blocks)  # type: ignore[attr-defined]
    assert sorted(blocks, key=draw_order) == ordered
    assert all(draw_order(first) < draw_order(second) for first, second in pairwise(ordered))


def test_an_expiry_is_exclusive_and_a_start_inclusive() -> None:
    held = block(expires_at=START + timedelta(days=1))
    assert held.admits(unit="credit", product=None, at=START)
    assert not held.admits(unit="credit", product=None, at=START - timedelta(microseconds=1))
    assert not held.admits(unit="credit", product=None, at=START + timedelta(days=1))
    assert not held.admits(unit="minute", product=None, at=START)
    assert not block(scope=("api",)).admits(unit="credit", product=None, at=START)


def test_a_status_is_what_was_recorded_looked_at_from_a_moment() -> None:
    held = block(expires_at=START + timedelta(days=1))
    assert held.status(START - timedelta(days=1)) is BlockStatus.SCHEDULED
    assert held.status(START) is BlockStatus.ACTIVE
    assert held.status(START + timedelta(days=1)) is BlockStatus.EXPIRED
    assert replace(held, used=Decimal(10)).status(START) is BlockStatus.EXHAUSTED
    assert replace(held, broken=Decimal(10)).status(START) is BlockStatus.EXPIRED
    assert replace(held, voided=Decimal(10)).status(START) is BlockStatus.VOIDED
