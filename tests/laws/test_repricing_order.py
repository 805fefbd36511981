"""Law of repricings in any order: a price applies from the moment of its repricing, whenever facts are recorded.

Usage, repricings and reversals of one block are recorded in the order in which they happened, and in another order.
Every month has the same revenue, except for rounding units, and no view of the block is below zero.
"""

from __future__ import annotations

import dataclasses
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from subledger.deciding.shortfalls import shortfalls_of
from tests.laws.case import Case, in_euro, on
from tests.laws.test_recording_lag import assert_equal, assert_views, balances, entries
from tests.laws.walk import Step

CREDITS = 40


@dataclasses.dataclass(frozen=True)
class Fact:
    """A fact of a day: usage, a repricing, or a reversal, which names its usage by number."""

    day: int
    what: str
    credits: int
    price: str = "0"
    usage: int = 0


USAGES = st.lists(st.tuples(st.integers(2, 100), st.integers(1, 9)), min_size=1, max_size=5)
REPRICINGS = st.lists(
    st.tuples(st.integers(10, 100), st.integers(0, 40), st.sampled_from(["0", "0.03", "7.77", "60.00"])),
    min_size=1,
    max_size=3,
)
REVERSALS = st.lists(st.tuples(st.integers(0, 4), st.integers(2, 100), st.integers(1, 9)), max_size=2)


@st.composite
def histories(draw: st.DrawFn) -> list[Fact]:
    """Draws facts of different days, in the order in which they happened."""
    usages = draw(USAGES)
    assume(sum(credits for _, credits in usages) <= CREDITS)
    facts = [Fact(day, "usage", credits, usage=number) for number, (day, credits) in enumerate(usages)]
    for day, credits, price in draw(REPRICINGS):
        assume(credits or price != "0")
        facts.append(Fact(day, "repricing", credits, price))
    reversed_usages = set()
    for number, day, credits in draw(REVERSALS):
        if number < len(usages) and number not in reversed_usages and day > usages[number][0]:
            facts.append(Fact(day, "reversal", min(credits, usages[number][1]), usage=number))
            reversed_usages.add(number)
    assume(len({fact.day for fact in facts}) == len(facts))
    return sorted(facts, key=lambda fact: fact.day)


def recorded(facts: list[Fact], currency: str, price: str, *, expires: bool = False) -> Case:
    case, usages = in_euro(), dict[int, Step]()
    terms = {"expires_at": on(105).isoformat()} if expires else {}
    case.buys("A", credits=str(CREDITS), price=price, currency=currency, **terms)
    for fact in facts:
        if fact.what == "usage":
            usages[fact.usage] = case.uses(str(fact.credits), fact.day)
        elif fact.what == "reversal":
            case.takes_back(usages[fact.usage], fact.day, credits=str(fact.credits))
        elif fact.what == "expiry":
            [block] = case.wallets["ann"].blocks
            if block.remaining:
                case.own("x", "credits.expired", "ann", on(105), block_id="A")
        else:
            added = {} if not fact.credits else {"add_credits": str(fact.credits)}
            case.does("block.repriced", fact.day, block_id="A", add_price=fact.price, reason="r", **added)
    return case


@given(histories(), st.sampled_from(["USD", "EUR"]), st.sampled_from(["40.00", "13.33"]), st.data())
def test_the_same_facts_in_any_order_give_the_same_months(
    facts: list[Fact], currency: str, price: str, data: st.DataObject
) -> None:
    places: dict[int, float] = dict(zip(map(id, facts), data.draw(st.permutations(range(len(facts)))), strict=True))
    used = {fact.usage: places[id(fact)] for fact in facts if fact.what == "usage"}
    last = -1.0
    for number, fact in enumerate(facts):
        if fact.what == "reversal":  # is recorded after its usage, and after earlier repricings
            places[id(fact)] = max(places[id(fact)], used[fact.usage] + 0.001 * number, last + 0.001 * number)
        if fact.what != "usage":
            last = max(last, places[id(fact)])
    others = sorted(facts, key=lambda fact: places[id(fact)])
    in_time, other = recorded(facts, currency, price), recorded(others, currency, price)
    assert_views(in_time)
    assert_equal(in_time, other, 2 + 2 * len(facts))
    assert_views(other)


@given(histories(), st.sampled_from(["USD", "EUR"]), st.lists(st.integers(1, 45), min_size=3, max_size=3), st.data())
def test_no_order_leaves_less_than_nothing_where_repricings_take_price_off(
    facts: list[Fact], currency: str, taken_off: list[int], data: st.DataObject
) -> None:
    """Facts that no longer fit because the price was lowered are refused, or drawn at a lower value."""
    lowered = iter(taken_off)
    facts = [
        dataclasses.replace(fact, price=f"-{next(lowered)}.00") if fact.what == "repricing" and fact.day % 2 else fact
        for fact in facts
    ]
    case, usages = in_euro(), dict[int, Step | None]()
    case.buys("A", credits=str(CREDITS), price="40.00", currency=currency)
    for number, fact in enumerate(data.draw(st.permutations(facts))):
        of = f"o{number}", on(fact.day)
        if fact.what == "usage":
            usages[fact.usage] = case.send(of[0], "credits.consumed", "ann", of[1], credits=str(fact.credits))
        elif fact.what == "repricing":
            added = {"add_credits": str(fact.credits)} if fact.credits else {}
            case.send(of[0], "block.repriced", "ann", of[1], block_id="A", add_price=fact.price, reason="r", **added)
        elif (used := usages.get(fact.usage)) is not None:
            case.send(of[0], "consumption.reversed", "ann", of[1], event_id=used.event.event_id, reason="r")
        assert_views(case)


@given(histories(), st.sampled_from(["USD", "EUR"]), st.data())
def test_usage_that_is_recorded_after_the_expiry_takes_its_part_of_the_breakage_back(
    facts: list[Fact], currency: str, data: st.DataObject
) -> None:
    late = data.draw(st.sampled_from([fact for fact in facts if fact.what == "usage"]))
    if any(fact.what == "reversal" and fact.usage == late.usage for fact in facts):
        return
    expiry = Fact(105, "expiry", 0)
    in_time = recorded([*facts, expiry], currency, "40.00", expires=True)
    other = recorded([*(f for f in facts if f is not late), expiry, late], currency, "40.00", expires=True)
    assert_equal(in_time, other, 2 + 2 * len(facts))
    assert_views(other)


AROUND_AN_EXPIRY = st.lists(
    st.tuples(
        st.sampled_from(["use", "use", "use", "price", "price", "reverse", "sweep", "move", "dispute", "won", "void"]),
        st.integers(2, 90),
        st.integers(1, 8),
        st.sampled_from(["-3.33", "-1.00", "0.03", "2.00", "33.33"]),
    ),
    min_size=4,
    max_size=12,
)


@given(AROUND_AN_EXPIRY, st.sampled_from(["USD", "EUR"]), st.sampled_from(["20.00", "13.33"]), st.integers(40, 60))
def test_no_order_of_facts_around_an_expiry_leaves_less_than_nothing_or_value_without_credits(
    facts: list[tuple[str, int, int, str]], currency: str, price: str, expires: int
) -> None:
    """Facts that do not fit are refused. After all others every view of the block is correct."""
    case, usages, disputes = in_euro(), list[Step](), 0
    case.buys("A", credits="20", price=price, currency=currency, expires_at=on(expires).isoformat())
    case.does("payment.received", 1, amount="13.00", currency=currency, block_id="A", processor="stripe")
    for number, (what, day, credits, amount) in enumerate(facts):
        name, at = f"o{number}", on(day)
        [block] = case.wallets["ann"].blocks
        if what == "use":
            usage = case.send(name, "credits.consumed", "ann", at, credits=str(credits))
            usages += [] if usage is None else [usage]
        elif what == "price":
            more = {"add_credits": str(credits - 3)} if credits not in (3, 8) else {}
            case.send(name, "block.repriced", "ann", at, block_id="A", add_price=amount, reason="r", **more)
        elif what == "reverse" and usages:
            of = usages[credits % len(usages)].event.event_id
            case.send(name, "consumption.reversed", "ann", at, event_id=of, credits=str(credits), reason="r")
        elif what == "sweep" and block.remaining and block.expires_at is not None:
            case.own(name, "credits.expired", "ann", block.expires_at, block_id="A")
        elif what == "move":
            later = on(day + 3 * credits).isoformat()
            case.send(name, "block.expiry_changed", "ann", at, block_id="A", expires_at=later, reason="r")
        elif what == "dispute":
            disputes = number
            part = {"amount": f"{credits}.00", "currency": currency} if credits < 8 else {}
            case.send(name, "dispute.opened", "ann", at, dispute_id=f"d{number}", block_id="A", **part)
        elif what == "won":
            case.send(name, "dispute.won", "ann", at, dispute_id=f"d{disputes}")
        elif what == "void":
            case.send(name, "purchase.voided", "ann", at, block_id="A", credits="1", reason="r")
        assert_views(case)


# --- found by hand ----------------------------------------------------------------------------------------------------


def hundred(**changes: str) -> Case:
    """Returns a case with 100 credits for 100.00 in January, and another 100 for 10.00 on 1 February."""
    case = in_euro()
    case.buys("A", credits="100", **{"price": "100.00", **changes})
    case.does("block.repriced", 32, block_id="A", add_credits="100", add_price="10.00", reason="r")
    return case


@pytest.mark.parametrize("currency", ["USD", "EUR"])
def test_late_usage_draws_at_the_price_of_its_day(currency: str) -> None:
    case = hundred(currency=currency)
    case.uses("100", 31)
    assert entries(case) == ["01-31 consumption 100 10000"]
    [block] = case.wallets["ann"].blocks
    assert (block.remaining, block.carrying_minor) == (Decimal(100), 1000)
    case.uses("50", 40)
    assert entries(case) == ["02-09 consumption 50 500"]


def test_late_usage_cannot_draw_what_was_added_later() -> None:
    case = hundred()
    error = case.is_refused("credits.consumed", 31, credits="120")
    assert (error.code, error.facts["available"]) == ("insufficient_credits", "100")
    case.uses("120", 31, on_shortfall="overage", overage_price="2.00", currency="USD")
    assert entries(case) == ["01-31 consumption 100 10000", "01-31 overage 20 4000"]


def test_usage_of_the_moment_of_the_repricing_is_of_after_it() -> None:
    case = hundred()
    case.uses("100", 32)
    assert entries(case) == ["02-01 consumption 100 5500"]


def test_draws_of_after_the_repricing_are_corrected_on_their_days() -> None:
    case = hundred()
    case.uses("100", 41)
    case.uses("50", 60)
    case.uses("50", 31)  # 60.00 for the 150 credits of February and March
    assert entries(case) == ["02-10 consumption 0 -1500", "03-01 consumption 0 -750", "01-31 consumption 50 5000"]
    [block] = case.wallets["ann"].blocks
    assert (block.remaining, block.carrying_minor, block.drawn_minor) == (Decimal(0), 0, 11000)
    assert_views(case)


def test_a_corrected_draw_that_is_taken_back_gives_back_what_it_costs_now() -> None:
    case = hundred()
    later = case.uses("100", 41)
    case.uses("50", 31)
    case.takes_back(later, 50)
    [block] = case.wallets["ann"].blocks
    assert (block.remaining, block.carrying_minor, block.drawn_minor) == (Decimal(150), 6000, 5000)
    assert sum(amount for (_, role), (amount, _) in balances(case).items() if role == "usage_revenue") == 4 * 5000
    assert_views(case)


def test_a_repricing_that_is_recorded_late_holds_for_the_usage_of_after_it() -> None:
    case = in_euro()
    case.buys("A", credits="100", price="100.00")
    case.uses("50", 40)
    case.does("block.repriced", 32, block_id="A", add_credits="100", add_price="10.00", reason="r")
    assert entries(case) == ["02-01 repricing 100 1000", "02-09 consumption 0 -2250"]
    assert_views(case)


def test_a_refusal_states_when_the_added_credits_begin() -> None:
    case = hundred()
    late = case.uses("1", 31).event
    [reason] = shortfalls_of(case.wallets["ann"].blocks, late, late=True)
    assert reason.document == {
        "reason": "not_started", "credits": "100", "blocks": ["A"], "at": "2026-02-01T12:00:00Z",
    }  # fmt: skip


def test_what_was_voided_since_keeps_its_value_and_late_usage_takes_no_more_than_is_there() -> None:
    case = hundred()
    case.does("purchase.voided", 40, block_id="A", credits="150", reason="r")
    case.uses("50", 31)
    [block] = case.wallets["ann"].blocks
    assert (block.remaining, block.carrying_minor, block.drawn_minor) == (Decimal(0), 0, 11000 - 8250)
    assert_views(case)


def test_a_repricing_downwards_between_leaves_no_view_below_nothing() -> None:
    case = in_euro()
    case.buys("A", credits="100", price="100.00")
    case.does("block.repriced", 32, block_id="A", add_credits="-60", add_price="-50.00", reason="r")
    case.uses("30", 40)
    case.uses("10", 31)
    # 40.00 remain for the 30 credits of February, which had cost 37.50.
    assert entries(case) == ["02-09 consumption 0 250", "01-31 consumption 10 1000"]
    assert_views(case)
    case.is_refused("credits.consumed", 31, credits="1")


def test_late_usage_of_a_closed_month_and_its_corrections_are_of_the_first_open_day() -> None:
    case = hundred()
    case.uses("100", 41)
    case.state = replace(case.state, closed_through=date(2026, 2, 28))
    case.uses("50", 31)
    assert entries(case) == ["03-01 consumption 0 -1500", "03-01 consumption 50 5000"]


def test_a_pooled_block_takes_back_its_own_kind_of_breakage() -> None:
    case = Case()
    case.does("breakage.estimated", 1, None, pool="p", currency="USD", expected_breakage_rate="0.10", evidence="e")
    case.buys("A", credits="100", price="100.00", pool="p", expires_at=on(60).isoformat())
    case.does("block.repriced", 32, block_id="A", add_credits="100", add_price="10.00", reason="r")
    case.uses("100", 41)
    case.own("x", "credits.expired", "ann", on(60), block_id="A")
    case.uses("50", 31)
    kinds = {e.kind: e.amount_minor for e in case.steps[-1].entries if e.kind != "breakage_estimate" and e.credits}
    assert kinds == {"pooled_breakage": -3500, "consumption": 5000}
    [block] = case.wallets["ann"].blocks
    assert (block.carrying_minor, block.expired_minor) == (0, 2000)


def test_tax_at_redemption_is_of_the_late_usage_and_not_of_what_it_corrects() -> None:
    case = hundred()
    case.uses("100", 41)
    case.uses("50", 31, tax="9.50", currency="USD")
    assert entries(case) == [
        "02-10 consumption 0 -1500", "01-31 consumption 50 4050", "01-31 redemption_tax 0 950",
    ]  # fmt: skip
