"""An ordered sequence equals a sorted tuple after any changes, and a change touches few values."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from subledger import ordered
from subledger.blocks import Block
from subledger.draw_order import DrawOrder, draw_order
from subledger.ordered import ByName, Ordered
from subledger.wallet_parts import Blocks

START = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = st.none() | st.integers(0, 5)


def block(name: int, days: int | None = None, used: int = 0) -> Block:
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


def by_hand(blocks: tuple[Block, ...], changed: Block) -> tuple[Block, ...]:
    return tuple(sorted((*(b for b in blocks if b.block_id != changed.block_id), changed), key=draw_order))


def changes_by_hand(before: tuple[Block, ...], after: tuple[Block, ...]) -> set[tuple[int, int]]:
    old, new = ({b.block_id: b for b in blocks} for blocks in (before, after))
    pairs = ((old.get(name), new.get(name)) for name in old.keys() | new.keys())
    return {(id(was), id(now)) for was, now in pairs if was is not now}


@pytest.fixture(params=[1, 2, 64])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets other sizes of chunks, which must give the same results."""
    monkeypatch.setattr(ordered, "CHUNK", request.param)


@pytest.mark.usefixtures("chunk")
@given(st.lists(st.tuples(st.integers(0, 12), DAYS, st.integers(0, 9), st.integers(0, 3), st.booleans()), max_size=40))
def test_every_version_is_what_sorting_gives_and_knows_what_differs_from_every_other(
    changes: list[tuple[int, int | None, int, int, bool]],
) -> None:
    versions: list[tuple[Blocks, tuple[Block, ...]]] = [(Blocks(), ())]
    for name, days, used, back, removes in changes:
        before, expected = versions[max(len(versions) - 1 - back, 0)]  # an earlier one, as after a rollback
        made = block(name, days, used)
        if removes:
            versions.append((before.without([made.block_id]), tuple(b for b in expected if b.block_id != f"b{name}")))
        else:
            versions.append((before.with_value(made), by_hand(expected, made)))
        after, now = versions[-1]
        assert (tuple(after), len(after)) == (now, len(now))
        assert after == Blocks(reversed(now))
        assert [after[index] for index in range(len(now))] == list(now)
        for blocks, known in versions[-5:]:
            for wanted in range(13):
                assert blocks.get(f"b{wanted}") is next((b for b in known if b.block_id == f"b{wanted}"), None)
            found = after.changes_since(blocks)
            assert {(id(was), id(now)) for was, now in found} == changes_by_hand(known, now)
            assert len(found) == len(changes_by_hand(known, now))


@pytest.mark.usefixtures("chunk")
@given(
    st.lists(
        st.tuples(
            st.integers(0, 30),
            DAYS,
            st.sampled_from(("credit", "call")),
            st.sampled_from((None, ("a",), ("a", "b"))),
            st.integers(0, 3),
            st.sampled_from((None, "i", "j")),
        ),
        max_size=20,
    ),
    st.sampled_from(("credit", "call", "minute")),
    st.sampled_from((None, "a", "b", "c")),
    st.integers(0, 6),
)
def test_no_block_that_admits_usage_or_is_on_an_invoice_is_passed_by(
    terms: list[tuple[int, int | None, str, tuple[str, ...] | None, int, str | None]], unit: str, product: str, day: int
) -> None:
    blocks, at = Blocks(), START + timedelta(days=day)
    for name, days, of_unit, scope, start, invoice in terms:
        known = blocks.get(f"b{name}")
        if known is not None:  # only the figures and the expiry of a block can change
            expiry = block(name, days).expires_at
            blocks = blocks.with_value(replace(known, expires_at=expiry, used=known.used + 1))
        else:
            blocks = blocks.with_value(
                replace(
                    block(name, days),
                    unit=of_unit,
                    scope=scope,
                    starts_at=START + timedelta(days=start),
                    invoice_id=invoice,
                )
            )
        list(blocks.admitting(unit, product, at))  # terms are cached, also for later versions
    found = [b for b in blocks.admitting(unit, product, at) if b.admits(unit=unit, product=product, at=at)]
    assert found == [b for b in blocks if b.admits(unit=unit, product=product, at=at)]
    assert blocks.on_invoice("i") == [b for b in blocks if b.invoice_id == "i"]


def test_blocks_of_another_unit_are_passed_by_unseen() -> None:
    blocks = Blocks(block(name) for name in range(1_000)).with_value(replace(block(7_000), unit="call"))
    assert len(list(blocks.admitting("call", None, START))) <= 2 * ordered.CHUNK
    assert list(blocks.admitting("minute", None, START)) == []
    assert len(list(blocks.admitting("credit", None, START))) == 1_001


def test_missing_values_are_added_and_others_stay() -> None:
    had, other, new = block(1), block(1, used=3), block(0, days=2)
    assert tuple(Blocks([had]).with_missing([other, new])) == (new, had)


# --- costs ----------------------------------------------------------------------------------------------

LOOKED: Counter[str] = Counter()


class Counted(Ordered[Block]):
    """Blocks that count their reads."""

    __slots__ = ()

    @staticmethod
    def name(value: Block) -> str:
        LOOKED["names"] += 1
        return value.block_id

    @staticmethod
    def order(value: Block) -> DrawOrder:
        LOOKED["orders"] += 1
        return draw_order(value)


class Numbers(ByName[int]):
    __slots__ = ()

    @staticmethod
    def name(value: int) -> int:
        return value


@pytest.mark.parametrize("step", ["add", "change", "find", "compare", "remove"])
def test_a_change_looks_at_no_more_values_for_ten_times_as_many(step: str) -> None:
    looks = []
    for size in (1_000, 10_000):
        blocks: Any = Counted(block(name, name % 7) for name in range(size))
        blocks.get("")  # names are indexed once
        LOOKED.clear()
        for name in range(0, size, size // 100):
            match step:
                case "add":
                    blocks = blocks.with_value(block(size + name, 3))
                case "change":
                    blocks = blocks.with_value(block(name, name % 7, used=1))
                case "find":
                    assert blocks.get(f"b{name}").block_id == f"b{name}"
                case "compare":
                    changed = blocks.with_value(block(name, name % 7, used=1))
                    assert len(changed.changes_since(blocks)) == 1
                case "remove":
                    blocks = blocks.without([f"b{name}"])
        looks.append(LOOKED.total())
    assert looks[1] < 1.6 * looks[0], "ten times as many would be looked at if it were linear"


def test_names_that_left_are_forgotten() -> None:
    """The memory must not grow with the ids of all blocks that a customer buys and uses up over years."""
    blocks = Blocks(block(name) for name in range(300))
    for name in range(300, 3_000):
        blocks = blocks.with_value(block(name)).without([f"b{name - 300}"])
    assert len(blocks) == 300
    assert len(blocks._orders or ()) <= 2 * 300 + 64 + 1
    assert [b.block_id for b in blocks] == sorted(f"b{name}" for name in range(2_700, 3_000))


def test_it_is_compared_by_its_values_and_never_equal_to_another_sort() -> None:
    assert Numbers([2, 1]) == Numbers([1, 2])
    assert Numbers([1]) == (1,)
    assert Numbers([1]) != [1]
    assert Numbers([1]) != Blocks()
    assert Numbers(range(200))[199] == Numbers(range(200))[-1] == 199
    assert Numbers(range(200))[3:5] == (3, 4)
    with pytest.raises(IndexError):
        Numbers([1])[1]
    assert repr(Numbers([2, 1])) == "Numbers([1, 2])"
