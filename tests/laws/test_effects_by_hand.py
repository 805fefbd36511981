"""Effects of events with figures by hand: the amounts given, paid back or brought forward, and the need of approval."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from subledger.deciding.gains import functional_amount
from subledger.deciding.second_person import check_as_shown, may_have_effect, needs_second_person
from subledger.errors import EffectChanged
from subledger.event_effect import NO_EFFECT, EventEffect
from subledger.events.envelope import Event, own_event
from subledger.ledger import ACCOUNTING_RULES, LedgerState
from subledger.wallet import Movement
from tests.laws.case import EXPIRY, Case, in_euro, on
from tests.laws.measured import asking, measured
from tests.laws.walk import HOME, Step

# --- gains by hand ----------------------------------------------------------------------------------------------------

_AT_ONE, _AT_TWO_CENTS = {"credit": "1"}, {"credit": "0.02"}


def _gains(case: Case, step: Step, **asked: Any) -> tuple[str, str]:
    """Returns the credits and the value that the last step gives away."""
    *_, (_, _, _, effect) = measured(case, asking(**asked))
    assert case.steps[-1] is step
    return str(effect.credits_given), str(effect.value_given)


def _all_gains(case: Case, step: Step) -> list[tuple[str, str]]:
    """Returns the gains without prices of credits, at 1.00 a credit, and at 0.02 a credit."""
    return [_gains(case, step), *(_gains(case, step, credit_prices=prices) for prices in (_AT_ONE, _AT_TWO_CENTS))]


@pytest.mark.parametrize(
    ("credits", "price", "bonus", "gains"),
    [
        ("100", "100.00", None, [("0", "0"), ("0", "0"), ("0", "0")]),
        ("100", "100.00", "10", [("10", "0"), ("10", "10"), ("10", "0")]),
        ("100", "0.99", None, [("100", "0"), ("100", "99.01"), ("100", "1.01")]),
        ("100", "1.00", None, [("0", "0"), ("100", "99"), ("0", "1")]),
        ("101", "1.00", None, [("101", "0"), ("101", "100"), ("101", "1.02")]),
        ("101", "1.00", "5", [("106", "0"), ("106", "105"), ("106", "1.12")]),
        ("100", "40.00", None, [("0", "0"), ("100", "60"), ("0", "0")]),
    ],
)
def test_a_purchase_gives_its_bonus_and_everything_at_a_nominal_price(
    credits: str, price: str, bonus: str | None, gains: list[tuple[str, str]]
) -> None:
    case = Case()
    assert _all_gains(case, case.buys("A", credits=credits, price=price, bonus_credits=bonus)) == gains


@pytest.mark.parametrize(
    ("price", "bonus", "gains"),
    [
        ("10.00", None, [("0", "0"), ("0", "0"), ("0", "0")]),
        ("12.00", None, [("0", "0"), ("0", "0"), ("0", "0")]),
        ("3.00", None, [("0", "2.8"), ("10", "7"), ("0", "2.8")]),
        ("0.50", None, [("10", "3.8"), ("10", "9.5"), ("10", "3.8")]),
        ("10.00", "10", [("10", "2"), ("10", "10"), ("10", "2")]),
        ("8.00", "2", [("2", "0.53"), ("2", "3.2"), ("2", "0.53")]),
        ("4.00", "2", [("2", "2.67"), ("12", "8"), ("2", "2.67")]),
    ],
)
def test_a_purchase_that_pays_for_earlier_usage_gives_what_its_own_price_does_not_cover(
    price: str, bonus: str | None, gains: list[tuple[str, str]]
) -> None:
    """Ten credits are bought after four were used at 1.00 each."""
    case = Case(on_shortfall="backfill")
    case.uses("4", 1, overage_price="1.00", currency=HOME)
    assert _all_gains(case, case.buys("A", 2, credits="10", price=price, bonus_credits=bonus)) == gains


@pytest.mark.parametrize(
    ("added", "gains"),
    [
        ({"add_price": "-30.00"}, [("0", "30"), ("0", "30"), ("0", "30")]),
        ({"add_credits": "-10", "add_price": "-30.00"}, [("0", "20"), ("0", "20"), ("0", "20")]),
        ({"add_credits": "50"}, [("50", "0"), ("50", "50"), ("50", "1")]),
        ({"add_credits": "50", "add_price": "20.00"}, [("0", "0"), ("50", "30"), ("0", "0")]),
    ],
)
def test_a_repricing_gives_price_that_its_credits_did_not_have_and_credits_for_nothing(
    added: dict[str, str], gains: list[tuple[str, str]]
) -> None:
    case = Case()
    case.buys("A", credits="120", price="120.00")
    case.uses("20", 2)
    assert _all_gains(case, case.does("block.repriced", 3, block_id="A", reason="r", **added)) == gains


@pytest.mark.parametrize(
    ("price", "gains"),
    [
        ("0", [("4", "0"), ("4", "4"), ("4", "0.08")]),
        ("0.40", [("0", "0"), ("4", "2.4"), ("0", "0")]),
        ("0.50", [("0", "0"), ("0", "0"), ("0", "0")]),
    ],
)
def test_usage_beyond_the_credits_is_given_below_half_of_its_price(price: str, gains: list[tuple[str, str]]) -> None:
    case = Case(on_shortfall="overage")
    assert _all_gains(case, case.uses("4", 1, overage_price=price, currency=HOME)) == gains


@pytest.mark.parametrize(
    ("amount", "functional", "counted"),
    [(5, None, 5), (-5, None, -5), (5, 7, 7), (1, 0, 1), (2, 0, 1), (-1, 0, -1), (0, 0, 0), (0, None, 0)],
)
def test_an_amount_too_small_for_a_functional_minor_unit_counts_as_one(
    amount: int, functional: int | None, counted: int
) -> None:
    on = date(2026, 1, 1)
    movement = Movement(kind="purchase", accounting_date=on, amount_minor=amount, functional_minor=functional)
    assert functional_amount(movement) == counted


def test_memos_transfers_and_goodwill_give_their_value_and_a_void_gives_nothing() -> None:
    for type, data, gains in (
        ("credit_memo.issued", {"block_id": "A", "amount": "10.00", "currency": HOME, "reason": "r"}, ("0", "10")),
        ("purchase.voided", {"block_id": "A", "reason": "r"}, ("0", "0")),
        (
            "credits.transferred",
            {"block_id": "A", "to_customer": "bob", "new_block_id": "B", "credits": "40"},
            ("40", "40"),
        ),
        (
            "credits.granted",
            {"block_id": "G", "credits": "30", "reason": "goodwill", "value": "12.00", "currency": HOME},
            ("30", "12"),
        ),
    ):
        case = Case()
        case.buys("A", credits="100", price="100.00")
        case.uses("50", 2)
        assert _gains(case, case.does(type, 3, **data)) == gains


# --- effects by hand --------------------------------------------------------------------------------------------------


def _in_euros() -> Case:
    """Returns a case with blocks in euro at 1.20.

    A has 100 credits for 100.00 and tax 10.00; it is paid, and 40 are used. U has 10 credits for 10.00 and tax 1.00; it
    is not paid, and 4 are used. S, with an escheat class, and X, with 10.00 each, expired on the 20th, but this is not
    recorded. R, with 10.00, was escheated. V was paid and refunded, and 10.00 are owed back. 4 of W's 10 credits are
    bob's. F cost nothing.
    """
    case = in_euro()
    case.buys("A", credits="100", price="100.00", tax="10.00", currency="EUR", expires_at=on(60).isoformat())
    case.does("payment.received", 2, amount="110.00", currency="EUR", block_id="A", processor="stripe")
    case.uses("40", 3)
    case.buys("U", 3, credits="10", price="10.00", tax="1.00", currency="EUR", unit="u")
    case.uses("4", 4, unit="u")
    expired = {"credits": "10", "price": "10.00", "currency": "EUR", "expires_at": on(20).isoformat()}
    case.buys("S", 3, **expired, unit="s", escheat_class="DE-3y")
    case.buys("X", 3, **expired, unit="x")
    case.does("payment.received", 4, amount="20.00", currency="EUR", payment_id="P")
    case.does("payment.received", 4, amount="20.00", currency="EUR", payment_id="E", elsewhere="20.00", processor="s")
    case.buys("R", 3, credits="10", price="10.00", currency="EUR", unit="r")
    case.does("payment.received", 3, amount="10.00", currency="EUR", block_id="R")
    case.does("credits.escheated", 30, block_id="R")
    for block_id in ("V", "W"):
        case.buys(block_id, 3, credits="10", price="10.00", currency="EUR", unit=block_id)
        case.does("payment.received", 3, amount="10.00", currency="EUR", block_id=block_id, processor="stripe")
    case.does("credits.refunded", 5, block_id="V")
    case.does("credits.transferred", 5, block_id="W", to_customer="bob", new_block_id="W2", credits="4")
    case.buys("F", 3, credits="10", price="0", currency="EUR", unit="f")
    return case


CANCELS = ", cancels a sale or a part of it"
EFFECTS: list[tuple[str, dict[str, Any], str, str]] = [
    ("purchase.voided", {"block_id": "A", "reason": "r"}, f"money back 79.2{CANCELS}", f"credits given 60{CANCELS}"),
    ("purchase.voided", {"block_id": "U", "reason": "r"}, CANCELS[2:], f"credits given 6{CANCELS}"),
    # 50.00 and its tax 5.00 are refunded; 10.00 are retained as revenue.
    ("credits.refunded", {"block_id": "A", "amount": "50.00"}, f"money back 66, revenue advanced 12{CANCELS}",
     f"credits given 60, value given 12{CANCELS}"),
    ("credit_memo.issued", {"block_id": "A", "amount": "10.00", "currency": "EUR", "tax": "1.00", "reason": "r"},
     f"value given 12, money back 13.2{CANCELS}", CANCELS[2:]),
    # Unused 6.00, used 4.00, tax 1.00: the used value is given away.
    ("receivable.written_off", {"block_id": "U", "reason": "r"}, "value given 4.8, written off 13.2",
     f"credits given 6{CANCELS}"),
    ("credits.escheated", {"block_id": "A"}, f"money back 72{CANCELS}",
     f"credits given 60, value given 72, money back 72{CANCELS}"),
    ("escheat.remitted", {"block_id": "R", "amount": "10.00", "currency": "EUR"}, "money back 12",
     f"money back 12{CANCELS}"),
    ("escheat.reclaimed", {"block_id": "R", "amount": "5.00", "currency": "EUR"}, f"money back 6{CANCELS}",
     f"money back 6{CANCELS}"),
    # An earlier expiry brings the carrying amount forward, unless it would be owed to a state. A later expiry returns
    # it.
    ("block.expiry_changed", {"block_id": "A", "expires_at": on(50).isoformat(), "reason": "r"},
     f"revenue advanced 72{CANCELS}", "none that is measured"),
    ("block.expiry_changed", {"block_id": "A", "expires_at": on(70).isoformat(), "reason": "r"},
     "none that is measured", f"revenue advanced 72{CANCELS}"),
    ("block.expiry_changed", {"block_id": "U", "expires_at": on(50).isoformat(), "reason": "r"},
     f"revenue advanced 7.2{CANCELS}", "none that is measured"),
    ("block.expiry_changed", {"block_id": "S", "expires_at": on(18).isoformat(), "reason": "r"},
     CANCELS[2:], "credits given 10, value given 12"),
    ("block.expiry_changed", {"block_id": "X", "expires_at": on(50).isoformat(), "reason": "r"},
     "credits given 10, value given 12", f"revenue advanced 12{CANCELS}"),
    ("block.repriced", {"block_id": "A", "add_price": "10.00", "reason": "r"}, "none that is measured",
     f"value given 12{CANCELS}"),
    ("block.repriced", {"block_id": "U", "add_price": "-1.00", "reason": "r"}, f"value given 1.2{CANCELS}",
     CANCELS[2:]),
    ("block.repriced", {"block_id": "U", "add_credits": "-1", "reason": "r"}, CANCELS[2:],
     f"credits given 1{CANCELS}"),
    # As of the 3rd, before 4 of its 10 credits were used, so these cost 2.00 more.
    ("block.repriced", {"block_id": "U", "add_price": "5.00", "reason": "r", "at": 3}, "revenue advanced 2.4",
     f"value given 6{CANCELS}"),
    ("credits.transferred", {"block_id": "A", "to_customer": "bob", "new_block_id": "B"},
     "credits given 60, value given 72", f"credits given 60, value given 72{CANCELS}"),
    ("payment.refunded", {"payment_id": "P", "amount": "5.00", "currency": "EUR"}, f"money back 6{CANCELS}",
     "none that is measured"),
    ("payment.refunded", {"payment_id": "E", "amount": "5.00", "currency": "EUR", "elsewhere": "5.00"},
     f"money back 6{CANCELS}", "none that is measured"),
    ("payment.applied", {"payment_id": "P", "amount": "5.00", "currency": "EUR", "block_id": "U"},
     "none that is measured", "none that is measured"),
    ("dispute.opened", {"dispute_id": "D", "block_id": "A"}, "none that is measured", "none that is measured"),
    # Undoing a recall of transferred credits gives them to their holder again.
    ("dispute.opened", {"dispute_id": "D", "block_id": "W"}, "none that is measured",
     "credits given 4, value given 4.8"),
    ("payment.refunded", {"block_id": "V", "amount": "10.00", "currency": "EUR"}, "none that is measured",
     f"money back 12{CANCELS}"),
    ("block.repriced", {"block_id": "U", "add_price": "-5.00", "reason": "r", "at": 3}, f"value given 6{CANCELS}",
     f"revenue advanced 2.4{CANCELS}"),
    ("credit_memo.issued", {"block_id": "U", "amount": "1.00", "currency": "EUR", "reason": "r"},
     f"value given 1.2{CANCELS}", CANCELS[2:]),
    ("purchase.voided", {"block_id": "F", "reason": "r"}, CANCELS[2:], f"credits given 10{CANCELS}"),
    ("credits.purchased", {"block_id": "N", "credits": "5", "price": "0", "currency": "EUR"}, "credits given 5",
     CANCELS[2:]),
    ("block.expiry_changed", {"block_id": "R", "expires_at": on(50).isoformat(), "reason": "r"},
     "none that is measured", "none that is measured"),
    ("block.expiry_changed", {"block_id": "X", "expires_at": on(50).isoformat(), "reason": "r", "at": 20},
     "credits given 10, value given 12", f"revenue advanced 12{CANCELS}"),
]  # fmt: skip


@pytest.mark.parametrize(("type", "data", "effect", "undone"), EFFECTS)
def test_an_event_and_its_undoing_have_the_effect_in_the_functional_currency(
    type: str, data: dict[str, Any], effect: str, undone: str
) -> None:
    case = _in_euros()
    step = case.does(type, data.get("at", 31), **{name: value for name, value in data.items() if name != "at"})
    assert _effect(case).text == effect
    case.undoes(step, 32)
    assert _effect(case).text == undone


def _effect(case: Case, **asked: Any) -> EventEffect:
    """Returns the effect of the last step."""
    *_, (_, _, _, effect) = measured(case, asking(**asked))
    return effect


def test_an_estimate_brings_forward_what_it_adds_to_the_lifetime_breakage_of_its_cohorts() -> None:
    """300.00 EUR at 1.20: each tenth is 36.00, although nothing is redeemed, and nothing is recognised at once.

    A cohort without a price adds nothing; a lower estimate brings nothing forward.
    """
    case = in_euro()
    data = {"pool": "p", "currency": "EUR", "evidence": "r"}
    case.does("breakage.estimated", 2, None, **data, expected_breakage_rate="0.1")
    assert _effect(case).text == "none that is measured"
    case.buys("A", 3, credits="100", price="300.00", currency="EUR", pool="p")
    case.buys("F", 40, credits="100", price="0", currency="EUR", pool="p")
    for rate, text in (
        ("0.1", "none that is measured"),
        ("0.3", "revenue advanced 72"),
        ("0.2", "none that is measured"),
        ("0.20001", "revenue advanced 0.01"),
    ):
        case.does("breakage.estimated", 41, None, **data, expected_breakage_rate=rate)
        assert _effect(case).text == text
    case.does("breakage.estimated", 42, None, **data, cohort="2026-01", expected_breakage="90.00")
    assert _effect(case).text == "revenue advanced 36"


def test_an_estimate_of_several_cohorts_adds_that_of_each_and_undoing_one_what_comes_back() -> None:
    """January 300.00 EUR and February 100.00 at 1.20: a tenth is 36.00 and 12.00.

    An estimate that is lowered to zero brings nothing forward. Undoing it counts as the higher estimate that is
    restored: both before any redemption, when nothing is recognised at once, and after it.
    """
    case = in_euro()
    data = {"pool": "p", "currency": "EUR", "evidence": "r"}
    for block_id, price, day in (("A", "300.00", 3), ("F", "0", 3), ("B", "100.00", 40)):
        case.buys(block_id, day, credits="100", price=price, currency="EUR", pool="p", unit=block_id)
    case.buys("Q", 3, credits="100", price="300.00", currency="EUR", pool="q")
    case.does("breakage.estimated", 41, None, **data, expected_breakage_rate="0.1")
    assert _effect(case).text == "revenue advanced 48"
    case.does("breakage.estimated", 41, None, **{**data, "pool": "q"}, cohorts="year", expected_breakage_rate="0.1")
    assert _effect(case).text == "revenue advanced 36"
    for redeemed in ("1", "49"):
        lowered = case.does("breakage.estimated", 43, None, **data, expected_breakage_rate="0")
        assert _effect(case).text == "none that is measured"
        case.undoes(lowered, 44)
        assert _effect(case).text == "revenue advanced 48"
        for unit in "AB":
            case.uses(redeemed, 45, unit=unit)
    case.undoes(case.does("breakage.estimated", 46, None, **data, expected_breakage_rate="0.2"), 47)
    assert _effect(case).text == "none that is measured"


SETTINGS = {
    "entity": "L", "functional_currency": "USD", "timezone": "UTC", "on_shortfall": "reject", "late_usage": "new",
    "accounting_rules": ACCOUNTING_RULES,
}  # fmt: skip


def test_a_change_of_settings_is_shown_with_both_values() -> None:
    approvals = {"voids": True, "grant_value_above": "5", "credit_prices": {"token": "0.5", "call": "2"}}
    changed = {
        "entity": "M", "on_shortfall": "backfill", "late_usage": "reclassify", "future_tolerance": "2d",
        "rate_max_age_days": 9, "dimensions": ["region", "team"], "approvals": approvals,
    }  # fmt: skip
    case = Case(entity="L", late_usage="new")
    case.own("first", "ledger.configured", None, on(1), **SETTINGS)
    assert _effect(case).changed_settings == ()
    case.own("second", "ledger.configured", None, on(1), **{**SETTINGS, **changed})
    assert _effect(case).changed_settings == (
        "entity: L to M",
        "on_shortfall: reject to backfill",
        "late_usage: new to reclassify",
        "future_tolerance: 1d to 2d",
        "rate_max_age_days: 7 to 9",
        "dimensions: none to region, team",
        "approvals.voids: false to true",
        "approvals.grant_value_above: none to 5",
        "approvals.credit_prices: none to call=2, token=0.5",
    )
    case.own("third", "ledger.configured", None, on(1), **SETTINGS)
    back = _effect(case, **approvals).changed_settings
    assert back[0] == "entity: M to L"
    assert back[-1] == "approvals.credit_prices: call=2, token=0.5 to none"
    assert not any("dimensions" in line for line in back), "dimensions stay"


# --- needs by hand ----------------------------------------------------------------------------------------------------

_GRANT = {"block_id": "G", "credits": "9", "reason": "goodwill"}
_LIMITS = {
    "grant_credits_above": "10", "grant_value_above": "10", "money_back_above": "10", "revenue_advanced_above": "10",
}  # fmt: skip
_TEN = Decimal(10)
_PURCHASE = ("credits.purchased", {"block_id": "A", "credits": "1", "price": "1.00", "currency": HOME})
_REOPENED = ("period.reopened", {"period": "2026-01", "reason": "r"})
_ESTIMATE = ("breakage.estimated", {"pool": "p", "currency": HOME, "expected_breakage_rate": "0.1", "evidence": "r"})
_EXPIRY = ("block.expiry_changed", {"block_id": "A", "expires_at": None, "reason": "r"})
_USAGE = ("credits.consumed", {"credits": "1"})
_VOIDS, _ENTITY = "approvals.voids: true to false", "entity: L to M"


def _event(type: str, data: dict[str, Any]) -> Event:
    return own_event(source="s", event_id="e", type=type, customer="ann", occurred_at=EXPIRY, data=data)


@pytest.mark.parametrize(
    ("event", "asked", "effect", "reason"),
    [
        (_ESTIMATE, {"breakage_estimates": True}, NO_EFFECT, "breakage_estimate"),
        (_PURCHASE, {"breakage_estimates": True}, NO_EFFECT, None),
        (_REOPENED, {"reopening": True}, NO_EFFECT, "reopening"),
        (_PURCHASE, {"reopening": True}, NO_EFFECT, None),
        (_EXPIRY, {"expiry_changes": True}, NO_EFFECT, "expiry_change"),
        (_PURCHASE, {"expiry_changes": True}, NO_EFFECT, None),
        *((event, {"voids": True}, NO_EFFECT, None) for event in (_ESTIMATE, _REOPENED, _EXPIRY)),
        (_PURCHASE, {"write_offs": True}, EventEffect(written_off=Decimal("0.01")), "write_off"),
        (_PURCHASE, {"write_offs": True}, EventEffect(cancels=True), None),
        (_PURCHASE, {"voids": True}, EventEffect(written_off=_TEN), None),
        (_PURCHASE, {"voids": True}, EventEffect(cancels=True), "void"),
        (_PURCHASE, {"reopening": True}, EventEffect(cancels=True), None),
        # A gift in another currency can be compared with the limit only by a rate, and one person alone can set rates.
        (("credits.granted", {**_GRANT, "value": "1.00", "currency": "EUR"}), _LIMITS, NO_EFFECT, "grant"),
        (("credits.granted", {**_GRANT, "value": "1.00", "currency": "EUR"}), {"voids": True}, NO_EFFECT, None),
        (("credits.granted", {**_GRANT, "value": "1.00", "currency": HOME}), _LIMITS, NO_EFFECT, None),
        (("credits.granted", {**_GRANT, "reason": "promotional"}), _LIMITS, NO_EFFECT, None),
        (_PURCHASE, _LIMITS, EventEffect(credits_given=_TEN, value_given=_TEN, money_back=_TEN, revenue_advanced=_TEN),
         None),
        (_PURCHASE, _LIMITS, EventEffect(credits_given=Decimal("10.1")), "grant"),
        (_PURCHASE, _LIMITS, EventEffect(value_given=Decimal("10.01")), "grant"),
        (_PURCHASE, _LIMITS, EventEffect(money_back=Decimal("10.01")), "money_back"),
        (_PURCHASE, _LIMITS, EventEffect(revenue_advanced=Decimal("10.01")), "revenue_advanced"),
        (_USAGE, _LIMITS, EventEffect(credits_given=Decimal(11)), "grant"),
        (_USAGE, _LIMITS, NO_EFFECT, None),
        (_PURCHASE, {"reopening": True}, EventEffect(changed_settings=(_ENTITY, _VOIDS)), "settings"),
        (_PURCHASE, {"reopening": True}, EventEffect(changed_settings=(_ENTITY,)), None),
        (_PURCHASE, {}, EventEffect(changed_settings=(_VOIDS,)), None),
    ],
)  # fmt: skip
def test_an_event_needs_a_second_person_for_the_reason_that_the_ledger_asks_for(
    event: tuple[str, dict[str, Any]], asked: dict[str, Any], effect: EventEffect, reason: str | None
) -> None:
    state = LedgerState(ledger="L", functional_currency=HOME, policy=1, approvals=asking(**asked))
    assert needs_second_person(_event(*event), state, effect) == reason


@pytest.mark.parametrize(
    ("given", "before", "reason"),
    [("0.5", ["9.5"], None), ("0.5", ["9.6"], "grant"), ("0.5", ["9.5", "9.6"], "grant"), ("0", ["99"], None),
     ("10.5", ["0"], "grant")],
)  # fmt: skip
def test_an_effect_counts_with_what_any_of_its_customers_had_before(
    given: str, before: list[str], reason: str | None
) -> None:
    state = LedgerState(ledger="L", functional_currency=HOME, policy=1, approvals=asking(grant_value_above="10"))
    effect, *earlier = (EventEffect(value_given=Decimal(value)) for value in (given, *before))
    assert needs_second_person(_event(*_PURCHASE), state, effect, *earlier) == reason


def test_an_event_is_allowed_as_it_was_shown_and_no_more() -> None:
    """An estimate is approved by its stated rate, whatever amount it recognises at once."""
    effect = EventEffect(value_given=_TEN, cancels=True)
    for shown in (None, effect, EventEffect(value_given=Decimal(11), money_back=_TEN, cancels=True)):
        check_as_shown(_event(*_PURCHASE), effect, shown)
    for shown in (EventEffect(value_given=Decimal(9), cancels=True), EventEffect(value_given=_TEN)):
        check_as_shown(_event(*_ESTIMATE), effect, shown)
        with pytest.raises(EffectChanged) as refused:
            check_as_shown(_event(*_PURCHASE), effect, shown)
        error = refused.value
        assert error.message == (
            "the effect of the event is greater now than when it was requested, or another: the books or the settings "
            "have changed; refuse the request, and send the event again under another id"
        )
        assert (error.expected, error.found) == (shown.text, "value given 10, cancels a sale or a part of it")


@pytest.mark.parametrize(
    ("data", "has"),
    [({}, False), ({"overage_price": "1", "currency": HOME}, False), ({"overage_price": "0.4", "currency": HOME}, True),
     ({"overage_price": "0", "currency": HOME}, True), ({"overage_price": "0.4", "currency": "EUR"}, False)],
)  # fmt: skip
def test_only_usage_that_gives_service_away_has_an_effect(data: dict[str, Any], has: bool) -> None:
    state = LedgerState(ledger="L", functional_currency=HOME, policy=1, approvals=asking(credit_prices=_AT_ONE))
    assert may_have_effect(_event("credits.consumed", {"credits": "1", **data}), state) is has
    assert may_have_effect(_event(*_PURCHASE), state)
