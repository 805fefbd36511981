"""Laws of usage and its reversal, in ledgers made for the case, for situations that are too rare in walks."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from sqlalchemy import SmallInteger

from subledger import errors
from subledger.deciding import decide
from subledger.deciding.context import Context, Dates, Original
from subledger.deciding.usage import reverse
from subledger.store.tables import metadata
from subledger.wallet import Movement, Wallet
from tests.laws.case import UNTIL_FEBRUARY, Case, in_euro, moves, on

# --- draws -------------------------------------------------------------------------------------------------------


def test_usage_passes_by_what_is_used_up_or_for_other_products() -> None:
    case = Case()
    case.buys("A", priority=1)
    case.buys("B", scope=["api"])
    case.buys("C")
    assert moves(case.uses("9", 2, product="chat")) == [
        ("consumption", "A", "7", 1000, None),
        ("consumption", "C", "2", 286, None),
    ]
    assert moves(case.uses("8", 3, product="api")) == [
        ("consumption", "B", "7", 1000, None),
        ("consumption", "C", "1", 143, None),
    ]
    assert moves(case.uses("1", 4)) == [("consumption", "C", "1", 142, None)]


# --- late usage ---------------------------------------------------------------------------------------------------


def test_late_usage_takes_of_the_breakage_what_it_would_have_drawn_in_time_in_both_currencies() -> None:
    """7 credits for 10.00 EUR at 1.20: the fourth is worth 1.42 EUR and 1.72 USD, by cumulative rounding in each
    currency.
    """
    case = in_euro()
    case.buys("A", currency="EUR", **UNTIL_FEBRUARY)
    case.uses("3", 5)
    assert moves(case.expires("A")) == [("breakage", "A", "4", 571, 686)]
    assert moves(case.uses("1", 6)) == [("breakage", "A", "-1", -142, -172), ("consumption", "A", "1", 142, 172)]
    assert moves(case.uses("3", 7)) == [("breakage", "A", "-3", -429, -514), ("consumption", "A", "3", 429, 514)]
    [block] = case.blocks
    assert (block.used, block.drawn_minor, block.drawn_functional, block.disposed) == (
        7,
        1000,
        1200,
        {"expired": (0, 0, 0)},
    )


def test_late_usage_of_a_pools_block_mirrors_its_pooled_breakage() -> None:
    case = in_euro()
    case.buys("A", currency="EUR", pool="p", **UNTIL_FEBRUARY)
    case.expires("A")
    taken = [move for move in moves(case.uses("1", 6)) if move[0] != "breakage_estimate"]
    assert taken == [("pooled_breakage", "A", "-1", -143, -171), ("consumption", "A", "1", 143, 171)]


def test_late_usage_in_the_functional_currency_has_no_functional_amounts_of_its_own() -> None:
    case = Case()
    case.buys("A", **UNTIL_FEBRUARY)
    case.expires("A")
    assert moves(case.uses("2.5", 6)) == [("breakage", "A", "-2.5", -357, None), ("consumption", "A", "2.5", 357, None)]


def test_a_refundable_block_gives_its_breakage_back_at_what_it_was_lost_at() -> None:
    case = in_euro()
    case.buys("A", currency="EUR", refundable=True, **UNTIL_FEBRUARY)
    case.uses("3", 5)
    assert moves(case.expires("A")) == [("breakage", "A", "4", 571, 685)]
    assert moves(case.uses("1", 6)) == [("breakage", "A", "-1", -142, -170), ("consumption", "A", "1", 142, 170)]


def test_late_usage_takes_what_is_left_first_and_of_the_breakage_the_rest() -> None:
    """Three credits were returned to the expired block during a dispute. Five had been used in time."""
    case = Case()
    case.buys("A", **UNTIL_FEBRUARY)
    usage = case.uses("3", 5)
    case.does("payment.received", 6, amount="10.00", currency="USD", block_id="A", processor="cards")
    case.expires("A")
    case.does("dispute.opened", 35, dispute_id="D", block_id="A")
    case.takes_back(usage, 36)
    case.does("dispute.won", 37, dispute_id="D")
    late = case.uses("5", 20)
    assert moves(late) == [("breakage", "A", "-2", -285, None), ("consumption", "A", "5", 714, None)]
    assert [m.accounting_date for m in late.decision.movements] == [date(2026, 1, 31), date(2026, 2, 5)], (
        "in January two were left, and three came back in February"
    )


def test_late_usage_of_all_there_was_takes_all_that_is_carried() -> None:
    """A refund of two credits is rounded so that the plain rule would leave a cent."""
    case = Case()
    case.buys("A", credits="6", price="0.23", **UNTIL_FEBRUARY)
    case.uses("3", 3)
    case.does("credits.refunded", 5, block_id="A", credits="2")
    case.expires("A")
    assert moves(case.uses("1", 6)) == [("breakage", "A", "-1", -4, None), ("consumption", "A", "1", 4, None)]


def test_usage_is_late_only_where_the_ledger_reclassifies() -> None:
    case = Case(late_usage="new", on_shortfall="overage")
    case.buys("A", **UNTIL_FEBRUARY)
    case.expires("A")
    [move] = moves(case.uses("1", 6, overage_price="0.50", currency="USD"))
    assert move == ("overage", None, "1", 50, None)


def test_late_usage_is_booked_on_its_own_day_and_its_breakage_is_taken_back_on_the_day_it_was_booked() -> None:
    case = Case()
    case.buys("A", **UNTIL_FEBRUARY)
    case.buys("B", **UNTIL_FEBRUARY)
    case.expires("A")
    step = case.uses("8", 6)
    assert [(m.kind, m.block_id, m.accounting_date) for m in step.decision.movements] == [
        ("breakage", "A", date(2026, 1, 31)),
        ("consumption", "A", date(2026, 1, 6)),
        ("consumption", "B", date(2026, 1, 6)),
    ]


# --- reversals --------------------------------------------------------------------------------------------------


def test_a_reversal_has_the_product_and_the_policy_of_what_it_mirrors() -> None:
    case = Case(on_shortfall="overage")
    case.buys("A")
    usage = case.uses("9", 5, product="api", overage_price="0.50", currency="USD")
    [same, other] = case.takes_back(usage, 6, credits="3").decision.movements
    assert [(m.kind, m.product, m.policy, m.overage_position) for m in (same, other)] == [
        ("overage", "api", None, usage.position),
        ("consumption", "api", None, None),
    ]
    case.adopts(2, 7)
    usage_after = case.takes_back(usage, 8)
    assert usage_after.decision.policy == 2
    assert [(m.kind, m.product, m.policy) for m in usage_after.decision.movements] == [("consumption", "api", 1)]
    late = case.uses("9", 9, product="chat", overage_price="0.50", currency="USD")
    case.adopts(3, 10)
    assert [(m.product, m.policy) for m in case.takes_back(late, 11).decision.movements] == [("chat", 2), ("chat", 2)]


@pytest.mark.parametrize(("day", "broken"), [(31, False), (32, True)])
def test_what_comes_back_at_or_after_the_expiry_is_breakage_at_once_recorded_or_not(day: int, broken: bool) -> None:
    case = Case()
    case.buys("A", expires_at=on(32).isoformat())
    usage = case.uses("7", 5)
    back = [("consumption", "A", "-7", -1000, None)]
    assert moves(case.takes_back(usage, day)) == back + [("breakage", "A", "7", 1000, None)] * broken


def test_what_comes_back_to_a_block_without_expiry_or_before_it_stays() -> None:
    case = Case()
    case.buys("A")
    case.buys("B", expires_at=on(300).isoformat(), unit="token")
    for usage in (case.uses("7", 5), case.uses("1", 5, unit="token")):
        [move] = moves(case.takes_back(usage, 200))
        assert move[0] == "consumption"


def test_what_comes_back_to_a_disputed_block_waits_for_the_end_of_the_dispute() -> None:
    case = Case()
    case.buys("A", **UNTIL_FEBRUARY)
    usage = case.uses("3", 5)
    case.does("payment.received", 6, amount="10.00", currency="USD", block_id="A", processor="cards")
    case.does("dispute.opened", 7, dispute_id="D", block_id="A")
    assert moves(case.takes_back(usage, 40)) == [("consumption", "A", "-3", -429, None)]


def test_what_comes_back_to_an_expired_block_is_breakage_even_of_usage_that_happened_before() -> None:
    case = Case()
    case.buys("A", **UNTIL_FEBRUARY)
    usage = case.uses("3", 5)
    case.expires("A")
    back = case.takes_back(usage, 6)
    assert moves(back) == [("consumption", "A", "-3", -429, None), ("breakage", "A", "3", 429, None)]
    assert [m.accounting_date for m in back.decision.movements] == [date(2026, 1, 6), date(2026, 1, 31)], (
        "the credits could be used until the end of January"
    )


def test_a_reversal_is_booked_no_earlier_than_what_it_reverses_whatever_the_block_gained_since() -> None:
    case = Case(on_shortfall="overage")
    case.buys("A", 1)
    usage = case.uses("9", 20, overage_price="0.50", currency="USD")
    assert {m.accounting_date for m in case.takes_back(usage, 10, credits="4").decision.movements} == {
        date(2026, 1, 20)
    }
    case.does("block.repriced", 25, block_id="A", add_price="1.00", reason="r")
    assert {m.accounting_date for m in case.takes_back(usage, 12, credits="1").decision.movements} == {
        date(2026, 1, 20)
    }


def test_partial_reversals_give_back_cumulative_shares_in_both_currencies() -> None:
    case = in_euro()
    case.buys("A", currency="EUR")
    usage = case.uses("7", 5)
    assert [moves(case.takes_back(usage, 6, credits="1")) for _ in range(7)] == [
        [("consumption", "A", "-1", -money, -home)]
        for money, home in ((143, 171), (143, 172), (143, 171), (142, 172), (143, 171), (143, 172), (143, 171))
    ]


def test_overage_is_taken_back_as_far_as_it_is_unbilled() -> None:
    case = Case(on_shortfall="overage")
    usage = case.uses("3", 5, overage_price="0.333", currency="USD")
    assert moves(usage) == [("overage", None, "3", 100, None)]
    billed = case.does("overage.billed", 6, invoice_id="I", amount="0.50", currency="USD")
    assert moves(billed) == [("overage_billed", None, "1.500000000", 50, None)]
    error = case.is_refused("consumption.reversed", 7, event_id=usage.event.event_id, credits="2", reason="r")
    assert (
        error.as_document().items()
        >= {
            "code": "overage_settled",
            "field": "data.credits",
            "expected": "at most 1.5 of overage",
            "found": "2",
            "settled_by": ["I"],
            "detail": "only 1.5 of the overage are unbilled; the rest was paid for by I",
        }.items()
    )
    assert moves(case.takes_back(usage, 8, credits="1")) == [("overage", None, "-1", -33, None)]
    case.does("overage.billed", 9, invoice_id="J", amount="0.07", currency="USD")
    error = case.is_refused("consumption.reversed", 9, event_id=usage.event.event_id, reason="r")
    assert error.message.endswith("the rest was paid for by I, J")
    assert error.facts == {"settled_by": ["I", "J"]}


# --- refusals ------------------------------------------------------------------------------------------------


def test_what_was_never_recorded_cannot_be_taken_back() -> None:
    error = Case().is_refused("consumption.reversed", 5, event_id="u", reason="r")
    assert (
        error.as_document().items()
        >= {
            "code": "unknown_original",
            "field": "data.event_id",
            "expected": "a recorded credits.consumed",
            "found": "u",
            "detail": "no event u from billing is recorded",
        }.items()
    )
    error = Case().is_refused("consumption.reversed", 5, event_id="u", event_source="meter", reason="r")
    assert error.message == "no event u from meter is recorded"


def test_only_ones_own_usage_can_be_taken_back() -> None:
    case = Case()
    bought = case.buys("A")
    error = case.is_refused("consumption.reversed", 5, event_id=bought.event.event_id, reason="r")
    assert (
        error.as_document().items()
        >= {
            "code": "not_reversible",
            "field": "data.event_id",
            "expected": "a credits.consumed of ann",
            "found": "credits.purchased",
            "detail": "e1 is credits.purchased of ann",
        }.items()
    )
    usage = case.uses("1", 2)
    assert case.send("b", "consumption.reversed", "bob", on(6), event_id=usage.event.event_id, reason="r") is None
    assert isinstance(case.refused[-1], errors.NotReversible)


def test_no_more_is_taken_back_than_is_left_of_it_and_not_nothing() -> None:
    case = Case()
    case.buys("A")
    usage = case.uses("3", 5)
    case.takes_back(usage, 6, credits="1")
    said = {"event_id": usage.event.event_id, "reason": "r"}
    assert (
        case.is_refused("consumption.reversed", 7, credits="2.5", **said).as_document().items()
        >= {
            "code": "reversal_exceeds_original",
            "field": "data.credits",
            "expected": "at most 2",
            "found": "2.5",
            "remaining": "2",
            "detail": "2 of e2 are left to reverse",
        }.items()
    )
    case.takes_back(usage, 7)
    assert (
        case.is_refused("consumption.reversed", 8, **said).as_document().items()
        >= {"code": "reversal_exceeds_original", "expected": "at most 0", "found": "0", "remaining": "0"}.items()
    )


def test_usage_without_credits_is_refused_with_what_is_available_or_missing() -> None:
    case = Case(on_shortfall="reject")
    case.buys("A")
    assert (
        case.is_refused("credits.consumed", 5, credits="9.50").as_document().items()
        >= {
            "code": "insufficient_credits",
            "field": "data.credits",
            "expected": "at most 7",
            "found": "9.5",
            "available": "7",
            "missing": "2.5",
            "detail": "9.5 credit requested, 7 available",
        }.items()
    )
    assert (
        case.is_refused("credits.consumed", 5, credits="9", on_shortfall="overage").as_document().items()
        >= {
            "code": "overage_price_missing",
            "field": "data.overage_price",
            "expected": "the price of one credit",
            "missing": "2",
            "detail": "2 credit exceed the credits, and the event names no price for them",
        }.items()
    )
    dear = {"credits": "1000007", "on_shortfall": "overage", "overage_price": "10000000.01", "currency": "USD"}
    assert (
        case.is_refused("credits.consumed", 5, **dear).as_document().items()
        >= {
            "code": "invalid_value",
            "field": "data.overage_price",
            "expected": "a smaller price",
            "detail": "the overage is too large an amount",
        }.items()
    )
    at_most = case.uses("1000007", 5, on_shortfall="overage", overage_price="10000000.00", currency="USD")
    assert moves(at_most)[-1] == ("overage", None, "1000000", 10**15, None)


def test_an_event_that_concerns_more_blocks_than_entries_have_numbers_is_refused_and_smaller_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = Case()
    for number in range(5):
        case.buys(f"B{number}")
    drawn = case.uses("28", 10)
    monkeypatch.setattr(decide, "MAX_ENTRIES", 3)
    error = case.is_refused("consumption.reversed", 12, event_id=drawn.event.event_id, reason="r")
    assert isinstance(error, errors.InvalidValue)
    assert (error.field, error.found) == ("data", "4")
    assert "a part of the credits" in (error.expected or "")
    for day in (13, 14):
        case.takes_back(drawn, day, credits="14")
    assert case.wallet("ann").blocks[4].remaining == 7


def test_the_log_numbers_as_many_entries_as_an_event_may_post() -> None:
    assert isinstance(metadata.tables["entries"].columns["number"].type, SmallInteger)
    assert decide.MAX_ENTRIES == 2**15 - 1


def test_overage_is_paid_by_the_next_purchase_only_where_it_is_to_be() -> None:
    for setting in ("overage", "backfill"):
        case = Case(on_shortfall=setting)
        price = {"overage_price": "0.50", "currency": "USD"}
        assert [m.backfill for m in case.uses("1", 5, **price).decision.movements] == [setting == "backfill"]
        other = "backfill" if setting == "overage" else "overage"
        [named] = case.uses("1", 5, on_shortfall=other, **price).decision.movements
        assert named == Movement(
            kind="overage",
            credits=Decimal(1),
            amount_minor=50,
            accounting_date=date(2026, 1, 5),
            backfill=other == "backfill",
        )


def test_a_reversal_without_the_state_of_what_was_drawn_is_an_integrity_fault() -> None:
    case = Case(on_shortfall="overage")
    case.buys("A")
    usage = case.uses("9", 5, overage_price="0.50", currency="USD")
    back = case.takes_back(usage, 6)
    original = Original(position=usage.position, event=usage.event, decision=usage.decision)
    context = Context(state=case.state, original=original)
    dates = Dates.of(back.event, case.state)
    with pytest.raises(errors.IntegrityFault, match=f"the overage of position {usage.position} has no state"):
        reverse(Wallet(customer="ann"), back.event, context, dates)
    bare = Wallet(customer="ann", overages=usage.wallets["ann"].overages)
    with pytest.raises(errors.IntegrityFault, match="block A of customer ann has no state"):
        reverse(bare, back.event, context, dates)


def test_what_comes_back_to_an_escheated_block_is_the_states_whether_or_not_it_had_a_class() -> None:
    case = Case()
    case.buys("A", **UNTIL_FEBRUARY)
    usage = case.uses("3", 5)
    case.does("payment.received", 6, amount="10.00", currency="USD", block_id="A")
    case.does("credits.escheated", 8, block_id="A")
    assert [m.kind for m in case.takes_back(usage, 40).decision.movements] == ["consumption", "escheat"]
