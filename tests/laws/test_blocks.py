"""Laws of a single block: it ends at zero, however it is drawn; and the order of blocks is total."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import permutations

from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from subledger.availability import Portion
from subledger.blocks import PAID, PROMOTIONAL, Block, BlockStatus, Segment
from subledger.draw_order import draw_order
from subledger.kinds import LOSSES
from subledger.lapses import Lapse
from subledger.money import MAX_MINOR
from tests.laws.model_blocks import half_up

START = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(-3, 3).map(lambda days: START + timedelta(days=days))


def block(**changes: object) -> Block:
    values: dict[str, object] = {
        "block_id": "B1",
        "credit_kind": PAID,
        "unit": "credit",
        "credits": Decimal(100),
        "price_minor": 10_000,
        "currency": "USD",
        "starts_at": START,
        "opened_at_position": 4,
        "losses_from": date(2026, 1, 1),
    }
    return Block(**{**values, **changes})


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
    assert (drawn.remaining, drawn.carrying_minor) == (0, 0)


@given(price=st.integers(0, 10**9), pieces=st.lists(st.integers(1, 10**12), min_size=2, max_size=25))
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
    """Reversed money follows from the stored amounts: the last draw, or a part of it, rounded half up."""
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
        elif now.remaining:
            part = min(Decimal(size), now.remaining)
            now, money = draw(now, part)
            stack.append((part, money))
        assert 0 <= now.carrying_minor <= price
        assert 0 <= now.remaining <= total
        assert now.remaining or now.carrying_minor == 0
    if now.remaining:
        now, _ = draw(now, now.remaining)
    assert (now.remaining, now.carrying_minor) == (0, 0)


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
    whole = replace(candidate, disputes=1, frozen=candidate.credits)
    assert not whole.admits(unit="credit", product=product, at=at)
    part = replace(candidate, disputes=1, frozen=candidate.remaining / 2)
    assert part.admits(unit="credit", product=product, at=at) == (alive and fits)
    assert part.available + part.frozen == candidate.remaining


@given(candidate=BLOCKS, at=MOMENTS)
def test_a_block_has_one_status_at_every_moment(candidate: Block, at: datetime) -> None:
    assume(candidate.expires_at is None or candidate.expires_at > candidate.starts_at)
    active = candidate.admits(unit="credit", product="api", at=at)
    assert (candidate.status(at) is BlockStatus.ACTIVE) == active
    assert replace(candidate, used=candidate.credits).status(at) is BlockStatus.EXHAUSTED
    assert replace(candidate, disputes=1).status(at) is BlockStatus.DISPUTED
    for column in LOSSES:
        if column != "consumed":
            assert replace(candidate, disposed={column: Portion(candidate.credits, 0, 0)}).status(at).value == column


# --- cumulative rounding against the formula ------------------------------------------------------------------

GONE_AT = datetime(2026, 2, 1, tzinfo=UTC)


def within(value: int, most: int) -> int:
    return min(max(value, 0), most)


@st.composite
def drawn_blocks(draws: st.DrawFn) -> Block:
    """A block that is drawn in pieces, perhaps repriced in between, with a price in two currencies and remaining
    credits.

    The drawn amount does not always follow the rule, because partial reversals have their own rule.
    """
    total, price = draws(st.integers(2, 400)), draws(st.integers(0, 600))
    used = draws(st.integers(0, total - 1))
    drawn = within(half_up(Fraction(price * used, total)) + draws(st.integers(-2, 2)), price)
    worth = draws(st.integers(price // 2, price * 2))
    worth_drawn = within(half_up(Fraction(worth * used, total)) + draws(st.integers(-2, 2)), worth)
    now = block(
        credits=Decimal(total),
        price_minor=price,
        used=Decimal(used),
        drawn_minor=drawn,
        rate=Decimal("1.2"),
        price_functional=worth,
        drawn_functional=worth_drawn,
    )
    if draws(st.booleans()):
        more, dearer, dearer_home = (draws(st.integers(0, 300)) for _ in range(3))
        segment = Segment(
            credits=now.remaining + more,
            price_minor=now.carrying_minor + dearer,
            price_functional=now.carrying_functional + dearer_home,
            used=now.used,
            drawn_minor=drawn,
            drawn_functional=worth_drawn,
        )
        since = draws(st.integers(0, int(segment.credits) - 1))
        taken = within(half_up(segment.price_minor * since / Fraction(segment.credits)), segment.price_minor)
        taken_home = half_up(segment.price_functional * since / Fraction(segment.credits))
        now = replace(
            now,
            credits=now.credits + more,
            price_minor=price + dearer,
            price_functional=worth + dearer_home,
            used=now.used + since,
            drawn_minor=drawn + taken,
            drawn_functional=worth_drawn + taken_home,
            segment=segment,
        )
    return now


def due(of: Block, credits: Decimal) -> tuple[int, int]:
    """Returns the amount of a further draw by section 4.3 of the specification, in both currencies, without limits."""
    start = of.segment or Segment(
        credits=of.credits,
        price_minor=of.price_minor,
        price_functional=of.price_functional,
        used=Decimal(0),
        drawn_minor=0,
    )
    part = (Fraction(of.used) - Fraction(start.used) + Fraction(credits)) / Fraction(start.credits)
    return (
        half_up(start.price_minor * part) - (of.drawn_minor - start.drawn_minor),
        half_up(start.price_functional * part) - (of.drawn_functional - start.drawn_functional),
    )


@given(drawn_blocks(), st.integers(1, 700))
def test_a_draw_moves_the_cumulative_share_since_the_last_repricing_in_both_currencies(now: Block, size: int) -> None:
    credits = min(Decimal(size), now.remaining)
    money, home = due(now, credits)
    if credits == now.remaining:
        money, home = now.carrying_minor, now.carrying_functional
    assert now.amount_for(credits) == within(money, now.carrying_minor)
    assert now.functional_for(credits) == within(home, now.carrying_functional)


@given(drawn_blocks(), st.integers(1, 700), st.integers(1, 700))
def test_usage_known_after_the_expiry_takes_of_the_breakage_what_the_whole_draw_exceeds_the_rest_by(
    now: Block, size: int, late: int
) -> None:
    lost = min(Decimal(size), now.remaining)
    broken = Portion(lost, now.amount_for(lost), now.functional_for(lost))
    expired = replace(now, disposed={"expired": broken})
    assert (expired.expired_credits, expired.expired_minor) == broken[:2]
    credits = min(Decimal(late), lost)
    money, home = due(expired, expired.remaining + credits)
    expected = (
        within(money - expired.carrying_minor, broken[1]),
        within(home - expired.carrying_functional, broken[2]),
    )
    if credits == lost:
        expected = broken[1:]
    if expired.rate is None:
        expected = (expected[0], broken[2] if credits == lost else 0)
    assert expired.lapsed_part(Lapse(START.date(), None, *broken), credits) == (credits, *expected)


@given(drawn_blocks(), st.integers(1, 700), st.integers(1, 700))
def test_credits_that_came_back_are_drawn_next_at_no_more_than_they_broke_at(now: Block, size: int, late: int) -> None:
    lost = min(Decimal(size), now.remaining)
    broken = Lapse(START.date(), START.date(), lost, now.amount_for(lost), now.functional_for(lost))
    credits = min(Decimal(late), lost)
    part = now.lapsed_part(broken, credits)
    assert part.credits == credits
    if credits == lost:
        assert part == broken[2:]
    else:
        assert part.amount_minor == within(due(now, credits)[0], broken.amount_minor)


def test_a_block_that_never_broke_has_no_breakage_to_take_back() -> None:
    whole = block(price_functional=12_000)
    assert (whole.expired_credits, whole.expired_minor) == (0, 0)


@given(drawn_blocks(), st.integers(1, 700))
def test_a_part_of_what_is_left_stands_for_its_share_of_the_carrying_amount(now: Block, size: int) -> None:
    credits = min(Decimal(size), now.remaining)
    assert now.value_of(credits) == half_up(now.carrying_minor * Fraction(credits) / Fraction(now.remaining))


def test_the_value_of_nothing_left_is_all_that_is_carried() -> None:
    empty = block(used=Decimal(100), drawn_minor=9_999)
    assert empty.value_of(Decimal(0)) == 1


# --- the status of a block -------------------------------------------------------------------------------------


def test_the_smallest_part_of_a_credit_keeps_a_block_active_or_says_how_it_ended() -> None:
    smallest = Decimal("0.000000001")
    almost = block(credits=Decimal(1), used=1 - smallest)
    assert almost.status(START) is BlockStatus.ACTIVE
    for column in LOSSES:
        if column != "consumed":
            assert replace(almost, disposed={column: Portion(smallest, 0, 0)}).status(START).value == column


def test_a_block_expires_at_its_expiry_and_starts_at_its_start() -> None:
    timed = block(starts_at=START, expires_at=GONE_AT)
    moment = timedelta(microseconds=1)
    assert [timed.status(at) for at in (START - moment, START, GONE_AT - moment, GONE_AT)] == [
        BlockStatus.SCHEDULED,
        BlockStatus.ACTIVE,
        BlockStatus.ACTIVE,
        BlockStatus.EXPIRED,
    ]
    assert [timed.admits(unit="credit", product=None, at=at) for at in (START - moment, START, GONE_AT)] == [
        False,
        True,
        False,
    ]


def test_a_disputed_block_is_not_due_until_the_dispute_has_ended() -> None:
    timed = block(expires_at=GONE_AT)
    assert timed.expiry_due_at == GONE_AT
    assert replace(timed, disputes=1, frozen=timed.credits).expiry_due_at is None
    assert replace(timed, disputes=1, frozen=timed.credits / 2).expiry_due_at == GONE_AT, "what is not frozen expires"
    assert block().expiry_due_at is None


def test_usage_worth_less_than_half_a_minor_unit_moves_nothing_yet() -> None:
    cheap = block(credits=Decimal(1000), price_minor=1, rate=Decimal(1), price_functional=1)
    assert (cheap.amount_for(Decimal(1)), cheap.functional_for(Decimal(1))) == (0, 0)
    expired = replace(cheap, disposed={"expired": Portion(Decimal(1000), 1, 1)})
    lapse = Lapse(START.date(), None, Decimal(1000), 1, 1)
    assert expired.lapsed_part(lapse, Decimal(1)) == (1, 0, 0)
