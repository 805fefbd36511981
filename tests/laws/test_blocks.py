"""Laws of a single block: however it is drawn it ends at zero, and the order among blocks is total."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import permutations

from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from subledger.blocks import PAID, PROMOTIONAL, Block, BlockStatus, draw_order
from subledger.journal import LOSSES
from subledger.money import MAX_MINOR

START = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(-3, 3).map(lambda days: START + timedelta(days=days))


def block(**changes: object) -> Block:
    values: dict[str, object] = {
        "block_id": "B1", "credit_kind": PAID, "unit": "credit", "credits": Decimal(100), "price_minor": 10_000,
        "currency": "USD", "starts_at": START, "opened_at_position": 4, "gained_on": date(2026, 1, 1),
    }  # fmt: skip
    return Block(**{**values, **changes})  # type: ignore[arg-type]


def draw(block: Block, credits: Decimal) -> tuple[Block, int]:
    money = block.amount_for(credits)
    return replace(block, used=block.used + credits, drawn_minor=block.drawn_minor + money), money


def billionths(count: int) -> Decimal:
    return Decimal(count).scaleb(-9)


@given(price=st.integers(0, MAX_MINOR), pieces=st.lists(st.integers(1, 10**15), min_size=1, max_size=25))
def test_a_block_drawn_in_any_pieces_ends_at_exactly_zero_and_is_never_negative(price: int, pieces: list[int]) -> None:
    drawn = block(price_minor=price, credits=billionths(sum(pieces)))
    paid = []
    for piece in pieces:
        drawn, money = draw(drawn, billionths(piece))
        paid.append(money)
        assert money >= 0
        assert drawn.carrying_minor >= 0
    assert sum(paid) == price
    assert (drawn.left, drawn.carrying_minor) == (0, 0)


@given(
    price=st.integers(0, 10**9),
    pieces=st.lists(st.integers(1, 10**12), min_size=2, max_size=25),
)
def test_what_has_been_drawn_is_never_more_than_half_a_unit_from_the_exact_share(price: int, pieces: list[int]) -> None:
    drawn = block(price_minor=price, credits=billionths(sum(pieces)))
    for piece in pieces[:-1]:
        drawn, _ = draw(drawn, billionths(piece))
        exact = Fraction(price) * Fraction(drawn.used) / Fraction(drawn.credits)
        assert abs(drawn.drawn_minor - exact) <= Fraction(1, 2)


@given(
    price=st.integers(0, 5_000),
    total=st.integers(1, 300),
    steps=st.lists(st.tuples(st.integers(1, 300), st.booleans()), max_size=30),
)
def test_draws_and_partial_reversals_in_any_order_keep_the_value_within_the_price(
    price: int, total: int, steps: list[tuple[int, bool]]
) -> None:
    """Money given back is what was stored: the last draw, a part of it, half up."""
    now = block(price_minor=price, credits=Decimal(total))
    stack: list[tuple[Decimal, int]] = []
    for size, back in steps:
        if back and stack:
            credits, money = stack.pop()
            part = min(Decimal(size), credits)
            returned = int((Fraction(money) * Fraction(part) / Fraction(credits) * 2 + 1) // 2)
            now = replace(now, used=now.used - part, drawn_minor=now.drawn_minor - returned)
            if part < credits:
                stack.append((credits - part, money - returned))
        elif now.left:
            part = min(Decimal(size), now.left)
            now, money = draw(now, part)
            stack.append((part, money))
        assert 0 <= now.carrying_minor <= price
        assert 0 <= now.left <= total
        assert now.left or now.carrying_minor == 0
    if now.left:
        now, _ = draw(now, now.left)
    assert (now.left, now.carrying_minor) == (0, 0)


@given(price=st.integers(0, 10**6), total=st.integers(1, 10**6))
def test_the_last_credit_takes_what_is_left(price: int, total: int) -> None:
    almost = block(price_minor=price, credits=Decimal(total), used=Decimal(total - 1), drawn_minor=price // 2)
    assert almost.amount_for(Decimal(1)) == price - price // 2


# --- the order ----------------------------------------------------------------------------------------------


BLOCKS = st.builds(
    lambda name, scope, priority, expires, kind, starts: block(
        block_id=name, scope=scope, priority=priority, expires_at=expires, credit_kind=kind, starts_at=starts
    ),
    st.text(min_size=1, max_size=3),
    st.sampled_from((None, ("api",), ("api", "chat"))),
    st.integers(0, 2),
    st.one_of(st.none(), MOMENTS),
    st.sampled_from((PAID, PROMOTIONAL, "goodwill", "allocation")),
    MOMENTS,
)


@given(st.lists(BLOCKS, min_size=2, max_size=5, unique_by=lambda block: block.block_id))
def test_the_draw_order_is_total_so_that_every_machine_draws_alike(blocks: list[Block]) -> None:
    keys = [draw_order(block) for block in blocks]
    assert len(set(keys)) == len(keys)
    expected = sorted(blocks, key=draw_order)
    for shuffled in list(permutations(blocks))[:24]:
        assert sorted(shuffled, key=draw_order) == expected


def test_the_draw_order_is_the_one_of_the_documentation() -> None:
    later, sooner = START + timedelta(days=9), START + timedelta(days=8)
    in_order = [
        block(block_id="scoped", scope=("api",), priority=99),
        block(block_id="lower priority", priority=10),
        block(block_id="sooner", expires_at=sooner),
        block(block_id="promotional", expires_at=later, credit_kind=PROMOTIONAL, starts_at=START + timedelta(days=2)),
        block(block_id="started earlier", expires_at=later, starts_at=START - timedelta(days=1)),
        block(block_id="a", expires_at=later),
        block(block_id="b", expires_at=later),
        block(block_id="never, promotional", credit_kind=PROMOTIONAL),
        block(block_id="never"),
    ]
    shuffled = sorted(in_order, key=lambda block: block.block_id)
    assert shuffled != in_order
    assert sorted(shuffled, key=draw_order) == in_order


@given(candidate=BLOCKS, at=MOMENTS, product=st.sampled_from((None, "api", "chat", "mail")))
def test_a_block_is_drawn_from_its_start_until_before_its_expiry_for_its_products(
    candidate: Block, at: datetime, product: str | None
) -> None:
    alive = candidate.starts_at <= at and not (candidate.expires_at and candidate.expires_at <= at)
    fits = not candidate.scope or product in candidate.scope
    assert candidate.admits(unit="credit", product=product, at=at) == (alive and fits)
    assert not candidate.admits(unit="token", product=product, at=at)
    assert not replace(candidate, disputes=1).admits(unit="credit", product=product, at=at)


@given(candidate=BLOCKS, at=MOMENTS)
def test_a_block_has_one_status_at_every_moment(candidate: Block, at: datetime) -> None:
    assume(candidate.expires_at is None or candidate.expires_at > candidate.starts_at)
    active = candidate.admits(unit="credit", product="api", at=at)
    assert (candidate.status(at) is BlockStatus.ACTIVE) == active
    assert replace(candidate, used=candidate.credits).status(at) is BlockStatus.EXHAUSTED
    assert replace(candidate, disputes=1).status(at) is BlockStatus.DISPUTED
    for column in LOSSES:
        if column != "consumed":
            assert replace(candidate, gone={column: (candidate.credits, 0, 0)}).status(at).value == column
