"""The refusal of usage with too few credits has the reasons: expired, not started, frozen, another unit, another
product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from subledger.blocks import Block
from subledger.deciding.shortfalls import (
    MOST_NAMED,
    UNKNOWN_CUSTOMER,
    Shortfall,
    insufficient,
    reserved_of,
    shortfalls_of,
)
from subledger.errors import InsufficientCredits
from subledger.events.envelope import Event, read_event
from subledger.wallet_parts import Blocks
from tests.building import cloud_event
from tests.laws.case import EXPIRY, JANUARY, Case, on


def usage(case: Case, day: int = 10, /, **data: Any) -> Event:
    case.sent += 1
    sent = {"credits": "100", **data}
    return read_event(cloud_event(f"e{case.sent}", "credits.consumed", "ann", on(day).isoformat(), **sent))


def decided(case: Case, event: Event) -> InsufficientCredits:
    """Returns the refusal of a usage as the decision makes it."""
    assert case.take(event) is None
    error = case.refused[-1]
    assert isinstance(error, InsufficientCredits)
    return error


def refused(case: Case, day: int = 10, /, **data: Any) -> dict[str, Any]:
    """Returns the refusal of a usage after its reasons were computed."""
    event = usage(case, day, **data)
    missing = Decimal(decided(case, event).facts["missing"])
    wallet = case.wallet("ann")
    blocks = [b for b in wallet.blocks if event.data.block_id in (None, b.block_id)]
    reasons = shortfalls_of(blocks, event, late=case.state.late_usage == "reclassify")
    return insufficient(event, missing, reasons).as_document()


def reasons(case: Case, day: int = 10, /, **data: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = refused(case, day, **data)["reasons"]
    return found


def test_credits_that_expired_are_named_with_the_moment_whether_or_not_they_were_swept() -> None:
    case = Case(on_shortfall="reject", late_usage="new")
    case.buys("A", credits="7", expires_at=EXPIRY.isoformat())
    case.uses("2", 3)
    expired = {"reason": "expired", "credits": "5", "blocks": ["A"], "at": "2026-02-01T00:00:00Z"}
    document = refused(case, 40)
    assert document["reasons"] == [expired]
    assert document["detail"] == "100 credit requested, 0 available: 5 expired 2026-02-01T00:00:00Z (block A)"
    case.expires("A")
    assert reasons(case, 40) == [expired]
    assert reasons(case, 10) == [expired], "known too late: what lapsed is not drawn"


def test_late_usage_that_draws_what_expired_is_told_of_the_rest_alone() -> None:
    case = Case(on_shortfall="reject", late_usage="reclassify")
    case.buys("A", credits="7", expires_at=EXPIRY.isoformat())
    case.expires("A")
    document = refused(case, 10)
    assert (document["available"], document["reasons"]) == ("7", [{"reason": "used_up", "credits": "0"}])
    assert refused(case, 40)["reasons"][0]["reason"] == "expired"


def test_a_state_has_what_escheated_whenever_the_usage_happened() -> None:
    for late in ("new", "reclassify"):
        case = Case(on_shortfall="reject", late_usage=late)
        case.buys("A", credits="7", expires_at=EXPIRY.isoformat(), escheat_class="gift")
        case.expires("A")
        assert [(r["reason"], r["credits"]) for r in reasons(case, 10)] == [("expired", "7")]


def test_credits_that_a_state_has_before_their_block_expires_did_not_expire() -> None:
    for late in ("new", "reclassify"):
        case = Case(on_shortfall="reject", late_usage=late)
        case.buys("A", credits="7", expires_at=EXPIRY.isoformat(), escheat_class="gift")
        case.does("credits.escheated", 5, block_id="A")
        assert refused(case, 10)["detail"] == "100 credit requested, 0 available: there are no other credits"


def test_credits_that_have_not_started_are_named_with_their_first_moment() -> None:
    case = Case(on_shortfall="reject")
    case.buys("A", starts_at=on(20).isoformat())
    case.buys("B", starts_at=on(15).isoformat(), credits="1")
    document = refused(case)
    assert document["reasons"] == [
        {"reason": "not_started", "credits": "8", "blocks": ["B", "A"], "at": "2026-01-15T12:00:00Z"}
    ]
    assert document["detail"] == (
        "100 credit requested, 0 available: 8 cannot be used before 2026-01-15T12:00:00Z (block B and others)"
    )


def test_credits_in_dispute_are_frozen() -> None:
    case = Case(on_shortfall="reject")
    case.buys("A")
    case.does("payment.received", 2, amount="10.00", currency="USD", block_id="A", payment_id="P")
    case.does("dispute.opened", 3, dispute_id="D", payment_id="P")
    document = refused(case)
    assert document["reasons"] == [{"reason": "disputed", "credits": "7", "blocks": ["A"]}]
    assert document["detail"].endswith(": 7 are frozen until a dispute ends (block A)")


def test_late_usage_that_draws_what_expired_is_told_of_what_a_dispute_of_a_part_froze() -> None:
    case = Case(on_shortfall="reject", late_usage="reclassify")
    case.buys("A", credits="8", expires_at=EXPIRY.isoformat())
    case.does("payment.received", 2, amount="10.00", currency="USD", block_id="A", payment_id="P")
    case.does("dispute.opened", 3, dispute_id="D", payment_id="P", amount="5.00", currency="USD")
    case.expires("A")
    document = refused(case)
    assert (document["available"], document["reasons"]) == (
        "4",
        [{"reason": "disputed", "credits": "4", "blocks": ["A"]}],
    )


def test_a_block_that_two_reservations_hold_is_named_once() -> None:
    case = Case(on_shortfall="reject")
    case.buys("A")
    for name, credits in (("R1", "2"), ("R2", "3")):
        case.does("credits.reserved", 5, reservation_id=name, credits=credits, expires_at=on(20).isoformat())
    wallet = case.wallet("ann")
    [reason] = reserved_of(wallet.blocks, wallet.reservations, usage(case), late=False)
    assert (reason.credits, reason.blocks, reason.names) == (5, ("A",), ("R1", "R2"))


def test_credits_for_other_products_and_units_are_told_apart() -> None:
    case = Case(on_shortfall="reject")
    case.buys("A", unit="token")
    case.buys("B", scope=["api", "chat"], credits="3")
    case.buys("C", credits="2")
    document = refused(case, product="mail")
    assert document["reasons"] == [
        {"reason": "other_product", "credits": "3", "blocks": ["B"], "products": ["api", "chat"]},
        {"reason": "other_unit", "credits": "7", "blocks": ["A"], "units": ["token"]},
    ]
    assert document["detail"] == (
        "100 credit requested, 2 available: 3 are for other products, api, chat (block B); "
        "7 are of another unit, token (block A)"
    )


def test_of_a_block_that_is_named_only_its_own_reason_is_told() -> None:
    case = Case(on_shortfall="reject")
    case.buys("A", starts_at=on(20).isoformat())
    case.buys("B", credits="3")
    assert [r["blocks"] for r in reasons(case, block_id="A")] == [["A"]]
    assert reasons(case, block_id="B") == [{"reason": "used_up", "credits": "0"}]


def test_so_many_blocks_are_named_and_all_are_counted() -> None:
    case = Case(on_shortfall="reject")
    for number in range(MOST_NAMED + 2):
        case.buys(f"B{number:02}", starts_at=on(20).isoformat(), credits="1")
    [reason] = reasons(case)
    assert (reason["credits"], len(reason["blocks"])) == ("12", MOST_NAMED)


BLOCKS = st.builds(
    lambda **fields: replace(
        Block(
            block_id="B",
            credit_kind="paid",
            unit="credit",
            credits=Decimal(9),
            price_minor=900,
            currency="USD",
            starts_at=JANUARY,
            opened_at_position=1,
            losses_from=JANUARY.date(),
        ),
        **fields,
    ),
    unit=st.sampled_from(("credit", "token")),
    used=st.integers(0, 9).map(Decimal),
    disputes=st.integers(0, 1),
    frozen=st.sampled_from((0, 4, 9)).map(Decimal),
    starts_at=st.sampled_from((on(1), on(20))),
    expires_at=st.sampled_from((None, on(5), on(30))),
    scope=st.sampled_from((None, ("api",), ("mail", "api"))),
    expired=st.booleans(),
)


@given(st.lists(BLOCKS, max_size=6), st.sampled_from((None, "api")), st.booleans())
def test_every_credit_that_could_not_be_drawn_has_exactly_one_reason(
    blocks: list[Block], product: str | None, late: bool
) -> None:
    case = Case(on_shortfall="overage")
    step = case.uses("1", 10, product=product or ..., overage_price="1", currency="USD")
    found = shortfalls_of(blocks, step.event, late=late)
    drawable = {id(b): b.available if b.admits(unit="credit", product=product, at=on(10)) else 0 for b in blocks}
    undrawn = [b for b in blocks if b.remaining > drawable[id(b)]]
    assert sum(reason.credits for reason in found) == sum(block.remaining - drawable[id(block)] for block in undrawn)
    assert len({reason.reason for reason in found}) == len(found)
    assert sum(len(reason.blocks) for reason in found) == len(undrawn)


@pytest.mark.parametrize("credits", ["8", "100"])
def test_deciding_is_the_same_whatever_is_told(credits: str) -> None:
    case = Case(on_shortfall="reject")
    case.buys("A", starts_at=on(20).isoformat())
    before = len(case.steps)
    assert refused(case, credits=credits)["missing"] == credits
    assert len(case.steps) == before


def test_a_refusal_whose_reasons_were_not_worked_out_has_the_numbers() -> None:
    case = Case(on_shortfall="reject")
    case.buys("A")
    document = decided(case, usage(case, credits="9")).as_document()
    assert document["detail"] == "9 credit requested, 7 available"
    assert document.items() >= {"expected": "at most 7", "found": "9", "available": "7", "missing": "2"}.items()
    assert "reasons" not in document


@pytest.mark.parametrize(
    ("shortfall", "sentence"),
    [
        (
            Shortfall(reason="expired", credits=Decimal(4), blocks=("A",), at=on(5)),
            "4 expired 2026-01-05T12:00:00Z (block A)",
        ),
        (
            Shortfall(reason="expired", credits=Decimal(4), blocks=("A", "B"), at=on(5)),
            "4 expired by 2026-01-05T12:00:00Z (block A and others)",
        ),
        (
            Shortfall(reason="not_started", credits=Decimal(4), blocks=("A", "B", "C"), at=on(5)),
            "4 cannot be used before 2026-01-05T12:00:00Z (block A and others)",
        ),
        (Shortfall(reason="disputed", credits=Decimal(4)), "4 are frozen until a dispute ends"),
        (
            Shortfall(reason="other_unit", credits=Decimal(4), names=("seat", "token")),
            "4 are of another unit, seat, token",
        ),
        (Shortfall(reason="unknown_customer"), "the ledger has no event of customer ann"),
        (Shortfall(reason="used_up"), "there are no other credits"),
    ],
)
def test_a_reason_is_a_sentence(shortfall: Shortfall, sentence: str) -> None:
    assert shortfall.sentence("ann") == sentence


def test_a_customer_without_events_is_named() -> None:
    error = insufficient(usage(Case(on_shortfall="reject")), Decimal(100), (UNKNOWN_CUSTOMER,))
    assert error.message.endswith("0 available: the ledger has no event of customer ann")


def test_the_last_expiry_of_several_blocks_is_told() -> None:
    case = Case(on_shortfall="reject", late_usage="new")
    for block_id, day in (("A", 5), ("B", 8), ("C", 6)):
        case.buys(block_id, expires_at=on(day).isoformat())
    [reason] = reasons(case)
    assert reason["at"] == "2026-01-08T12:00:00Z"
    case.buys("D", expires_at=on(7).isoformat(), priority=90)  # is drawn last, but does not expire last
    assert reasons(case)[0]["at"] == "2026-01-08T12:00:00Z"


def test_an_expiry_is_exclusive_and_a_start_is_not() -> None:
    case = Case(on_shortfall="reject")
    case.buys("A", expires_at=on(10).isoformat())
    case.buys("B", starts_at=on(10).isoformat())
    document = refused(case)
    assert [(reason["reason"], reason["blocks"]) for reason in document["reasons"]] == [("expired", ["A"])]
    assert document["available"] == "7"


# --- reads of blocks ----------------------------------------------------------------------------------------------


class Looks(str):
    """The unit of a block, which counts its comparisons. Each read of a block begins with one."""

    __slots__ = ()
    counted = 0

    def __eq__(self, other: object) -> bool:
        Looks.counted += 1
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        Looks.counted += 1
        return str.__ne__(self, other)

    __hash__ = str.__hash__


def looks(work: Callable[[], object]) -> int:
    before = Looks.counted
    work()
    return Looks.counted - before


class Scope(tuple[str, ...]):
    """A scope that counts the products that are read from it."""

    __slots__ = ()
    taken = 0

    def __iter__(self) -> Iterator[str]:
        for product in super().__iter__():
            Scope.taken += 1
            yield product


MANY = 50


@pytest.fixture
def many() -> Case:
    """A customer with many open blocks, none of which can be used without a product."""
    case = Case(on_shortfall="reject")
    for number in range(MANY):
        case.buys(f"B{number:02}", scope=["api"])
    scope = Scope(f"product-{number:02}" for number in range(80))
    blocks = Blocks(replace(block, unit=Looks("credit"), scope=scope) for block in case.wallet("ann").blocks)
    case.wallets["ann"] = replace(case.wallet("ann"), blocks=blocks)
    return case


def test_a_refusal_is_decided_with_the_one_look_at_each_block_that_drawing_takes(many: Case) -> None:
    event = usage(many)
    decided(many, event)  # the terms of blocks are read once, for all later questions
    assert looks(lambda: decided(many, event)) <= MANY


def test_the_reasons_take_one_look_at_each_block_and_no_more_names_than_are_said(many: Case) -> None:
    event, blocks = usage(many), many.wallet("ann").blocks
    before = Scope.taken
    assert looks(lambda: shortfalls_of(blocks, event, late=True)) == MANY
    assert Scope.taken - before <= MANY + MOST_NAMED
    [reason] = shortfalls_of(blocks, event, late=True)
    assert (reason.credits, reason.blocks) == (7 * MANY, tuple(f"B{n:02}" for n in range(MOST_NAMED)))
    assert reason.names == tuple(f"product-{n:02}" for n in range(MOST_NAMED))
