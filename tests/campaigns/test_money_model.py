"""The money model by itself: worked examples of the specification, and its laws on random histories. No database."""

from __future__ import annotations

import copy
import random
from collections import Counter
from datetime import date
from typing import Any

import pytest

from tests.building import cloud_event, noon
from tests.campaigns.money_claims import Event, Silent
from tests.campaigns.money_histories import Histories, month_ends
from tests.campaigns.money_model import MoneyModel

END = date(2030, 1, 1)
HISTORIES = 60


def said(*lines: tuple[str, str, dict[str, Any]]) -> tuple[list[str], dict[str, int]]:
    """Returns the answers to some events of ann, which are a day apart, and the balances at the end."""
    model = MoneyModel()
    answers = [
        model.record(cloud_event(f"e{n}", type, "ann", noon(f"2026-01-{n:02d}"), **data))
        for n, (type, _, data) in enumerate(lines, 1)
    ]
    return answers, {role: amount for (role, _), amount in model.balances(END).items()}


def buy(block: str = "A", price: str = "100.00", tax: str | None = None) -> tuple[str, str, dict[str, Any]]:
    data = {"block_id": block, "credits": "100", "price": price, "currency": "USD"}
    return "credits.purchased", "", data | ({"tax": tax} if tax else {})


def pay(amount: str, block: str = "A", **data: str) -> tuple[str, str, dict[str, Any]]:
    return "payment.received", "", {"amount": amount, "currency": "USD", "block_id": block, "payment_id": "p1", **data}


def fact(type: str, **data: Any) -> tuple[str, str, dict[str, Any]]:
    return type, "", data


USE_60 = fact("credits.consumed", credits="60")
VOID = fact("purchase.voided", block_id="A", reason="r")


def test_an_unpaid_refund_owes_nothing_and_pays_nothing() -> None:
    answers, books = said(
        buy(tax="10.00"), fact("credits.refunded", block_id="A"),
        fact("payment.refunded", amount="110.00", currency="USD", block_id="A"),
    )  # fmt: skip
    assert answers == ["recorded", "recorded", "refused"]
    assert books == {}


def test_conceded_usage_is_not_reversed_until_the_write_off_is_undone() -> None:
    back = fact("consumption.reversed", event_id="e2", reason="r")
    answers, books = said(
        buy(), USE_60, fact("receivable.written_off", block_id="A", reason="r"), back,
        fact("event.reversed", event_id="e3", reason="r"), back, VOID,
    )  # fmt: skip
    assert answers == ["recorded", "recorded", "recorded", "conceded", "recorded", "recorded", "recorded"]
    assert books == {}


def test_a_rollover_is_refunded_with_its_tax() -> None:
    _, books = said(
        buy(tax="20.00"), pay("120.00"), fact("credits.consumed", credits="40"),
        fact("credits.transferred", block_id="A", to_customer="ann", new_block_id="A2"),
        fact("credits.refunded", block_id="A2"),
    )  # fmt: skip
    assert (books["refunds_payable"], books["tax_payable"]) == (7200, 800)


def test_a_payment_is_charged_back_with_its_unapplied_part() -> None:
    _, books = said(
        buy(tax="10.00"), pay("150.00", processor="stripe"), USE_60,
        fact("dispute.opened", dispute_id="d", payment_id="p1", amount="150.00", currency="USD"),
        fact("dispute.lost", dispute_id="d"),
    )  # fmt: skip
    assert books == {"usage_revenue": 6000, "contra_revenue": 6000}


def test_a_payment_is_charged_back_in_full_after_a_part_was_paid_back() -> None:
    _, books = said(
        buy(tax="10.00"), pay("110.00", processor="stripe"), USE_60, fact("credits.refunded", block_id="A"),
        fact("payment.refunded", payment_id="p1", amount="44.00", currency="USD"),
        fact("dispute.opened", dispute_id="d", payment_id="p1"), fact("dispute.lost", dispute_id="d"),
    )  # fmt: skip
    assert books == {
        "usage_revenue": 6000, "contra_revenue": 6000, "bad_debt": 4400, "processor_clearing": -4400,
    }  # fmt: skip


def test_a_part_is_written_off_as_tax_then_unused_then_used() -> None:
    some = fact("receivable.written_off", block_id="A", amount="33.00", reason="r")
    rest = fact("receivable.written_off", block_id="A", amount="22.00", reason="r")
    _, books = said(buy(tax="10.00"), pay("55.00"), USE_60, some, rest)
    assert books == {"cash": 5500, "usage_revenue": 6000, "tax_payable": 500, "bad_debt": 1000}


def test_money_after_a_write_off_undoes_it() -> None:
    _, books = said(buy(), USE_60, fact("receivable.written_off", block_id="A", reason="r"), pay("60.00"))
    assert books == {"cash": 6000, "usage_revenue": 6000}


def told(events: list[Event], *others: Any) -> str:
    lines = [f"{e['id']} {e['time'][:10]} {e['type']} {e.get('subject')} {e['data']}" for e in events]
    return "\n".join([*lines, *map(str, others)])


def histories(name: str, **settings: Any) -> list[list[Event]]:
    return [Histories(random.Random(f"{name}/{n}"), **settings).history() for n in range(HISTORIES)]


def played(events: list[Event]) -> tuple[MoneyModel, list[str]]:
    model = MoneyModel()
    return model, [model.record(event) for event in events]


@pytest.mark.campaign
def test_no_payer_gets_more_than_it_paid_and_nothing_is_owed_beyond_it() -> None:
    for events in histories("owed"):
        model, _ = played(events)
        paid: Counter[str] = Counter()
        for p in model.payments.values():
            paid[p.payer] += p.amount - p.back
            assert 0 <= p.back <= p.amount
        owed = Counter({b.payer: 0 for b in model.blocks.values()})
        for role, customer, _, _, amount in model.lines(END):
            if role in ("refunds_payable", "unclaimed_property", "customer_balance") and customer:
                owed[customer] += amount
        assert all(0 <= owed[payer] <= paid[payer] for payer in owed), (events, owed, paid)


@pytest.mark.campaign
def test_an_unpaid_history_ends_at_zero_after_voiding() -> None:
    for events in histories(
        "unpaid", types=frozenset({"credits.purchased", "credits.transferred", "purchase.voided", "escheat"})
    ):
        events = [e for e in events if not e["type"].startswith("payment")]
        try:
            model, _ = played(events)
            for n, b in enumerate(list(model.blocks.values())):
                if b.left:
                    data = {"block_id": b.id, "reason": "r"}
                    model.record(cloud_event(f"v{n}", "purchase.voided", b.holder, noon("2028-01-01"), **data))
        except Silent:
            continue
        left = model.balances(END)
        lapsed = left.pop(("breakage_revenue", "USD"), 0) + left.pop(("breakage_revenue", "EUR"), 0)
        owing = sum(amount for (role, _), amount in left.items() if role == "accounts_receivable")
        assert (left.total() == 0) or lapsed, (events, left)
        assert lapsed == 0 or owing >= lapsed


def with_a_transfer(events: list[Event], dice: random.Random) -> list[Event] | None:
    """Returns the history with a transfer of all remaining credits of a block to its own holder. Later events name the
    new block.
    """
    n = dice.randrange(1, len(events))
    model, _ = played(events[:n])
    left = [b for b in model.blocks.values() if b.left and not b.disputed]
    if not left:
        return None
    b = dice.choice(left)
    if any("new_block_id" in e["data"] and e["data"].get("block_id") == b.id for e in events[n:]):
        return None
    data = {"block_id": b.id, "to_customer": b.holder, "new_block_id": "Z"}
    moved = cloud_event("move", "credits.transferred", b.holder, events[n - 1]["time"], **data)
    later = []
    for event in copy.deepcopy(events[n:]):
        if event["data"].get("block_id") == b.id and event["type"] in OF_CREDITS:
            event["data"]["block_id"] = "Z"
        later.append(event)
    return [*events[:n], moved, *later]


OF_CREDITS = ("credits.consumed", "purchase.voided", "credits.refunded", "credits.transferred", "credits.escheated")


@pytest.mark.campaign
def test_a_transfer_to_oneself_changes_no_total() -> None:
    """Histories without reversals, because a reversal gives credits back to the block from which they were drawn."""
    tried = 0
    dice = random.Random(5)
    without = frozenset({
        "credits.consumed", "payment.received", "payment.applied", "purchase.voided", "credits.refunded",
        "credits.purchased", "payout.settled", "credits.escheated",
    })  # fmt: skip
    for events in histories("transfer", types=without, in_order=True):
        changed = with_a_transfer(events, dice) if len(events) > 1 else None
        if changed is None:
            continue
        try:
            model, answers = played(events)
            other, others = played(changed)
        except Silent:
            continue
        place = next(n for n, e in enumerate(changed) if e["id"] == "move")
        del others[place]
        assert [(a == "recorded") for a in answers] == [(a == "recorded") for a in others], told(changed)
        ours, theirs = model.balances(END), other.balances(END)
        assert ours == theirs, told(changed, ours - theirs, theirs - ours)
        tried += 1
    assert tried > 20


@pytest.mark.campaign
@pytest.mark.parametrize("in_order", [True, False])
def test_undoing_an_event_right_after_it_leaves_everything_as_it_was(in_order: bool) -> None:
    tried = 0
    for number, events in enumerate(histories("undo", in_order=in_order)):
        dice = random.Random(number)
        events = [e for e in events if e["type"] != "event.reversed"]
        if not events:
            continue
        n = dice.randrange(len(events))
        event = events[n]
        if event["type"] in ("sweep", "close", "credits.consumed", "consumption.reversed"):
            continue
        undo = cloud_event("undo", "event.reversed", event.get("subject"), event["time"], event_id=event["id"])
        kept = events[n + 1 :]
        try:
            model, answers = played([*events[:n], *kept])
            other, others = played([*events[: n + 1], undo, *kept])
        except Silent:
            continue
        if others[n] != "recorded":
            continue
        assert others[n + 1] == "recorded"
        assert others[:n] + others[n + 2 :] == answers
        assert model.balances(END) == other.balances(END)
        tried += 1
    assert tried > 20


@pytest.mark.campaign
def test_recording_usage_later_changes_no_month() -> None:
    """The usage is moved behind payments, sweeps and other customers' events, but not behind events that draw on the
    same blocks or end them.
    """
    types = frozenset({"credits.consumed", "payment.received", "payout.settled", "credits.purchased"})
    tried = 0
    for number, events in enumerate(histories("lag", types=types, in_order=True)):
        dice = random.Random(number)
        usages = [n for n, e in enumerate(events) if e["type"] == "credits.consumed"]
        if not usages:
            continue
        n = dice.choice(usages)
        stop = n + 1
        while stop < len(events) and (
            events[stop].get("subject") != events[n]["subject"] or events[stop]["type"] == "payment.received"
        ):
            stop += 1
        moved = [*events[:n], *events[n + 1 : stop], events[n], *events[stop:]]
        try:
            model, answers = played(events)
            other, others = played(moved)
        except Silent:
            continue
        assert sorted(answers) == sorted(others), told(moved)
        for end in month_ends(events):
            assert model.balances(end) == other.balances(end), told(moved, end)
        tried += stop > n + 1
    assert tried > 5
