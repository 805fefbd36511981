"""Undo, by hand: the refused events, the remains of an undone event, and the day from which it counts."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from subledger import errors
from subledger.billing_documents import Dispute, Invoice, Payment
from subledger.blocks import Block
from subledger.restored import RestoredRate
from tests.laws.case import UNTIL_FEBRUARY, Case, in_euro, on, told

# --- refusals -----------------------------------------------------------------------------------------

USD = {"currency": "USD"}
NOTHING_BUILT = "an event on which nothing was built"


def documented(error: errors.SubledgerError) -> tuple[Any, ...]:
    return error.code, error.message, error.field, error.expected, error.found, dict(error.facts)


def is_changed(error: errors.SubledgerError, what: str, **facts: Any) -> bool:
    message = f"{what} was changed by a later event: take that back first"
    return documented(error) == (
        "changed_since",
        message,
        "data.event_id",
        NOTHING_BUILT,
        what,
        {"customer": "ann", **facts},
    )


def test_an_event_on_which_another_was_built_is_refused_naming_what_was_changed() -> None:
    case = Case(on_shortfall="overage")
    bought = case.buys("A")
    received = case.does("payment.received", 2, amount="15.00", payment_id="P", **USD)
    applied = case.does("payment.applied", 3, amount="4.00", payment_id="P", block_id="A", **USD)
    assert is_changed(case.cannot_undo(bought, 4), "block A", block_id="A")
    assert is_changed(case.cannot_undo(received, 4), "unapplied money of ann in USD")
    case.uses("9", 5, overage_price="1.00", **USD)
    billed = case.does("overage.billed", 6, amount="1.50", invoice_id="I", **USD)
    paid = case.does("payment.received", 7, amount="1.00", invoice_id="I", **USD)
    assert is_changed(case.cannot_undo(billed, 8), "the invoice I", invoice_id="I")
    case.undoes(paid, 8)
    again = case.does("overage.billed", 8, amount="0.50", invoice_id="J", **USD)
    assert is_changed(case.cannot_undo(billed, 9), "the overage of position 4")
    case.undoes(again, 9)
    case.undoes(billed, 9)
    disputed = case.does("dispute.opened", 10, dispute_id="D", payment_id="P")
    assert is_changed(case.cannot_undo(applied, 11), "block A", block_id="A")
    case.does("dispute.won", 12, dispute_id="D")
    assert is_changed(case.cannot_undo(disputed, 13), "block A", block_id="A")


def test_a_refund_that_was_paid_back_is_refused_until_that_is_undone_and_is_owed_first_again() -> None:
    case = Case()
    for block in "AB":
        case.buys(block, credits="10")
        case.does("payment.received", 2, amount="10.00", block_id=block, **USD)
    first = case.does("credits.refunded", 3, block_id="A", credits="4", amount="3.00", **USD)
    case.does("credits.refunded", 4, block_id="B", credits="4", amount="4.00", **USD)
    paid_back = case.does("payment.refunded", 5, amount="3.00", block_id="A", **USD)
    assert is_changed(case.cannot_undo(first, 6), "what is owed back in USD of A", block_id="A")
    case.does("credits.refunded", 7, block_id="B", credits="1", amount="1.00", **USD)
    case.undoes(paid_back, 8)
    assert [(r.block_id, r.amount_minor) for r in case.wallets["ann"].refunds_owed] == [("A", 300), ("B", 500)]
    assert told(case.undoes(first, 9)) == ["01-09 refund_retained -100 block=A", "01-09 refund -300 block=A credits=-4"]
    assert [(r.block_id, r.amount_minor) for r in case.wallets["ann"].refunds_owed] == [("B", 500)]


def test_a_memo_whose_refund_was_paid_back_is_refused_naming_the_invoice() -> None:
    case = Case(on_shortfall="overage")
    case.uses("5", 1, overage_price="1.00", **USD)
    case.does("overage.billed", 2, amount="3.00", invoice_id="I", **USD)
    case.does("payment.received", 3, amount="3.00", invoice_id="I", **USD)
    memo = case.does("credit_memo.issued", 4, amount="1.00", invoice_id="I", reason="r", **USD)
    case.does("payment.refunded", 5, amount="1.00", **USD)
    assert is_changed(case.cannot_undo(memo, 6), "what is owed back in USD of I", invoice_id="I")


@pytest.mark.parametrize(
    ("type", "data", "way"),
    [
        ("credits.consumed", {"credits": "1"}, "consumption.reversed takes usage back"),
        (
            "credits.reserved",
            {"reservation_id": "R", "credits": "1", "expires_at": on(9).isoformat()},
            "reservation.released releases the credits",
        ),
    ],
)
def test_events_with_a_way_back_of_their_own_are_refused(type: str, data: dict[str, Any], way: str) -> None:
    case = Case()
    case.buys("A")
    error = case.cannot_undo(case.does(type, 2, **data), 3)
    assert documented(error) == (
        "not_reversible",
        f"e2 is {type}, which is not undone: {way}",
        "data.event_id",
        "an event that is not usage, an expiry or the ledger's own",
        type,
        {},
    )


def test_the_ledgers_own_events_are_refused() -> None:
    case = Case()
    case.buys("A", **UNTIL_FEBRUARY)
    case.adopts(2, 2)
    error = case.cannot_undo(case.steps[-1], 3)
    assert error.message == "a2 is policy.adopted, which is not undone: it is the ledger's own"
    error = case.cannot_undo(case.expires("A"), 40)
    way = "block.expiry_changed brings back what has expired"
    assert error.message == f"x-A is credits.expired, which is not undone: {way}"


def test_only_a_recorded_event_of_the_same_customer_is_undone_and_only_once() -> None:
    case = Case()
    bought = case.buys("A")
    undo = {"event_id": "e1", "reason": "r"}
    for event, source in ({"event_id": "e9"}, "billing"), ({"event_id": "e9", "event_source": "crm"}, "crm"):
        error = case.is_refused("event.reversed", 2, **{**undo, **event})
        message = f"no event e9 from {source} is recorded"
        assert documented(error) == ("unknown_original", message, "data.event_id", "a recorded event", "e9", {})
    for customer, whose in ("bob", "bob"), (None, "the ledger as a whole"):
        error = case.is_refused("event.reversed", 2, customer, **undo)
        assert (error.message, error.expected) == ("e1 is credits.purchased of ann", f"an event of {whose}")
        assert (error.code, error.field, error.found) == ("not_reversible", "data.event_id", "e1")
    rate = case.does("exchange_rate.set", 2, None, base="EUR", quote="USD", rate="1.2", rate_source="ECB")
    error = case.is_refused("event.reversed", 3, event_id=rate.event.event_id, reason="r")
    assert error.message == f"{rate.event.event_id} is exchange_rate.set of the ledger as a whole"
    undone = case.undoes(bought, 3)
    assert documented(case.cannot_undo(bought, 4)) == (
        "already_reversed",
        f"event {undone.event.event_id} from billing undid e1 at position 3",
        "data.event_id",
        "an event that was not undone",
        "e1",
        {"reversed_by": {"source": "billing", "id": undone.event.event_id, "position": 3}},
    )
    assert case.cannot_undo(undone, 5).message.endswith(
        "is event.reversed, which is not undone: the fact can be recorded again, under a new id"
    )


# --- the ledger's own books ----------------------------------------------------------------------------------


def test_an_undone_rate_gives_way_to_the_one_before_it_and_only_the_last_of_a_day_is_undone() -> None:
    case = in_euro()
    [first] = case.steps
    second = case.does("exchange_rate.set", 1, None, base="EUR", quote="USD", rate="1.3", rate_source="ECB")
    case.does("exchange_rate.set", 2, None, base="EUR", quote="USD", rate="1.4", rate_source="ECB")
    assert documented(case.cannot_undo(first, 3)) == (
        "changed_since",
        "the rate of EUR on 2026-01-01 was changed since, by exchange_rate.set e2 from billing at position 2: take "
        "that back first",
        "data.event_id",
        NOTHING_BUILT,
        "the rate of EUR on 2026-01-01",
        {"changed_by": {"source": "billing", "id": "e2", "position": 2, "type": "exchange_rate.set"}},
    )
    for step, rate in (second, Decimal("1.2")), (first, None):
        restored = RestoredRate(currency="EUR", day=date(2026, 1, 1), rate=rate)
        assert case.undoes(step, 3).decision.restored_rate == restored
        assert case.books.rate("EUR", date(2026, 1, 1)) == rate
    assert case.books.rate("EUR", date(2026, 1, 2)) == Decimal("1.4")


def test_an_estimate_is_undone_if_it_is_the_last_and_nothing_of_its_cohorts_was_recorded_since() -> None:
    case = Case()
    case.buys("A", credits="10", pool="p")
    estimate = {"pool": "p", "evidence": "r", **USD}
    first = case.does("breakage.estimated", 2, None, expected_breakage_rate="0.1", **estimate)
    second = case.does("breakage.estimated", 3, None, expected_breakage_rate="0.2", **estimate)
    assert documented(case.cannot_undo(first, 4)) == (
        "changed_since",
        "the estimate of pool p was changed since, by breakage.estimated e3 from billing at position 3: take that back "
        "first",
        "data.event_id",
        NOTHING_BUILT,
        "the estimate of pool p",
        {"changed_by": {"source": "billing", "id": "e3", "position": 3, "type": "breakage.estimated"}},
    )
    pool = case.books.pools.cohort(("p", "2026-01"))
    assert pool.estimate is not None
    assert (pool.estimate.version, pool.estimate.breakage_rate) == (2, Decimal("0.2"))
    case.undoes(second, 4)
    pool = case.books.pools.cohort(("p", "2026-01"))
    assert pool.estimate is not None
    assert (pool.estimate.version, pool.estimate.breakage_rate) == (1, Decimal("0.1"))
    case.uses("2", 5)
    assert documented(case.cannot_undo(first, 6)) == (
        "changed_since",
        "credits of cohort 2026-01 of pool p were issued, redeemed or cancelled since it was estimated, or its month "
        "is closed; another estimate takes the place of this one",
        "data.event_id",
        "an estimate of an open month since which nothing of its cohorts was recorded",
        "e2",
        {},
    )


# --- by hand: the remains of an undone event, and their days --------------------------------------------------


def test_an_undone_document_leaves_its_name_alone() -> None:
    case = Case(on_shortfall="overage")
    case.buys("A", tax="1.00", invoice_id="V")
    paid = case.does("payment.received", 2, amount="15.00", payment_id="P", processor="x", block_id="A", **USD)
    case.uses("9", 3, overage_price="1.00", **USD)
    billed = case.does("overage.billed", 4, amount="2.00", tax="0.20", invoice_id="I", **USD)
    disputed = case.does("dispute.opened", 5, dispute_id="D", payment_id="P")
    for step in disputed, billed, paid:
        case.undoes(step, 6)
    assert set(case.wallets["ann"].documents) == {
        Dispute(dispute_id="D", currency="USD", parts=(), undone=True),
        Invoice(invoice_id="I", currency="USD", undone=True),
        Payment(payment_id="P", currency="USD", undone=True),
    }


def test_an_undone_purchase_leaves_the_terms_of_its_block_alone() -> None:
    case = in_euro(on_shortfall="backfill")
    case.uses("3", 2, overage_price="1.00", currency="EUR")
    bought = case.buys("A", tax="1.00", currency="EUR", pool="p", **UNTIL_FEBRUARY)
    block = bought.wallets["ann"].state_of_block("A")
    assert (block.price_functional, block.taxed_minor, block.receivable_minor) == (1200, 1000, 1100)
    assert (block.used, block.drawn_minor, block.drawn_functional) == (3, 429, 514)
    case.undoes(bought, 3)
    empty = Block(
        credits=Decimal(0),
        price_minor=0,
        price_functional=0,
        undone=True,
        **{
            name: getattr(block, name)
            for name in (
                "block_id",
                "credit_kind",
                "unit",
                "currency",
                "rate",
                "starts_at",
                "expires_at",
                "priority",
                "scope",
                "refundable",
                "refundable_apart",
                "pool",
                "cohort",
                "escheat_class",
                "invoice_id",
                "due_at",
                "cancellable",
                "opened_at_position",
                "opened_on",
                "losses_from",
            )
        },
    )
    assert case.wallets["ann"].state_of_block("A") == empty


def test_unapplied_money_that_a_dispute_held_is_free_again_and_what_others_hold_stays() -> None:
    case = in_euro()
    for payment, amount, currency in ("P", "15.00", "USD"), ("Q", "9.00", "EUR"), ("R", "5.00", "USD"):
        case.does("payment.received", 2, amount=amount, currency=currency, payment_id=payment, processor="x")
    opened = [
        case.does("dispute.opened", 3, dispute_id=f"D{payment}", payment_id=payment, fee="1.00", currency=currency)
        for payment, currency in (("P", "USD"), ("Q", "EUR"), ("R", "USD"))
    ]
    assert case.wallets["ann"].balance_held == {"EUR": 900, "USD": 2000}
    assert told(case.undoes(opened[0], 6)) == [
        "01-06 dispute_fee -100 processor=x",
        "01-06 dispute_opened -1500 processor=x",
    ]
    assert case.wallets["ann"].balance_held == {"EUR": 900, "USD": 500}
    case.undoes(opened[1], 6)
    assert case.wallets["ann"].balance_held == {"USD": 500}


@pytest.mark.parametrize("decided", ["dispute.won", "dispute.lost"])
def test_unapplied_money_is_held_again_if_the_end_of_its_dispute_is_undone(decided: str) -> None:
    case = Case()
    case.does("payment.received", 2, amount="15.00", payment_id="P", processor="x", **USD)
    case.does("dispute.opened", 3, dispute_id="D", payment_id="P")
    ended = case.does(decided, 4, dispute_id="D")
    assert case.wallets["ann"].balance_held == {}
    case.undoes(ended, 5)
    assert case.wallets["ann"].balance_held == {"USD": 1500}


def test_an_undone_transfer_to_the_same_customer_gives_the_first_block_all_back() -> None:
    case = Case()
    case.buys("M", credits="10")
    before = case.wallets["ann"].state_of_block("M")
    for new in "AZ":
        sent = case.does("credits.transferred", 1, block_id="M", to_customer="ann", new_block_id=new, credits="4")
        case.undoes(sent, 1)
        assert case.wallets["ann"].state_of_block("M") == before
        assert not case.wallets["ann"].state_of_block(new).credits


def test_credits_that_a_void_took_are_there_again_from_the_day_of_its_undoing() -> None:
    case = Case()
    case.buys("A", credits="10")
    case.undoes(case.does("purchase.voided", 5, block_id="A", reason="r"), 10)
    assert told(case.uses("8", 7)) == ["01-10 consumption 800 block=A credits=8"]


def test_credits_that_a_transfer_took_are_there_again_from_the_day_of_its_undoing() -> None:
    case = Case()
    case.buys("A", credits="10")
    sent = case.does("credits.transferred", 5, block_id="A", to_customer="bob", new_block_id="B", credits="4")
    assert told(case.undoes(sent, 10)) == [
        "01-10 transfer_in -400 block=B credits=-4 customer=bob",
        "01-10 transfer_out -400 block=A credits=-4",
    ]
    assert told(case.uses("8", 7)) == ["01-10 consumption 800 block=A credits=8"]


def test_a_receivable_whose_payment_bounced_is_owed_from_the_day_of_its_undoing() -> None:
    case = Case()
    case.buys("A", credits="10", tax="1.00")
    paid = case.does(
        "payment.received", 3, amount="15.00", block_id="A", payment_id="P", processor="x", fee="0.50", **USD
    )
    case.uses("3", 4)
    assert told(case.undoes(paid, 9)) == [
        "01-09 processing_fee -50 processor=x",
        "01-09 unapplied_processor -400 processor=x",
        "01-09 payment_processor -1100 block=A processor=x",
    ]
    assert told(case.does("payment.received", 6, amount="11.00", block_id="A", **USD)) == [
        "01-06 unapplied_cash 1100",
        "01-09 payment_applied 1100 block=A",
    ]


def test_credits_that_a_moved_expiry_brought_back_break_again_on_the_day_of_its_undoing() -> None:
    case = Case()
    case.buys("A", credits="10", **UNTIL_FEBRUARY)
    case.expires("A")
    moved = case.does("block.expiry_changed", 40, block_id="A", expires_at=on(90).isoformat(), reason="r")
    assert told(case.undoes(moved, 45)) == [
        "02-14 reinstatement -1000 block=A credits=-10",
        "02-14 expiry_changed 0 block=A",
    ]
    block = case.wallets["ann"].state_of_block("A")
    assert (block.expires_at, block.breakable_from) == (on(32).replace(hour=0), date(2026, 2, 14))


@pytest.mark.parametrize(("day", "breakable_from"), [(40, None), (44, None), (45, date(2026, 2, 14))])
def test_only_an_expiry_that_is_past_again_breaks_no_earlier_than_its_undoing(
    day: int, breakable_from: date | None
) -> None:
    case = Case()
    case.buys("A", expires_at=on(45).isoformat())
    moved = case.does("block.expiry_changed", 40, block_id="A", expires_at=on(90).isoformat(), reason="r")
    case.undoes(moved, day)
    assert case.wallets["ann"].state_of_block("A").breakable_from == breakable_from


def test_an_undone_payment_of_an_expired_block_leaves_its_expiry_alone() -> None:
    for moved_on in (None, 32):
        case = Case()
        case.buys("A", **UNTIL_FEBRUARY)
        if moved_on is not None:
            moved = case.does("block.expiry_changed", 32, block_id="A", expires_at=on(90).isoformat(), reason="r")
            case.undoes(moved, moved_on)
        paid = case.does("payment.received", 20, amount="10.00", block_id="A", **USD)
        case.undoes(paid, 45)
        assert case.wallets["ann"].state_of_block("A").breakable_from is None


def test_what_takes_an_amount_off_a_receivable_waits_until_that_amount_is_owed_again() -> None:
    case = Case()
    case.buys("A", credits="10")
    repriced = case.does("block.repriced", 5, block_id="A", add_price="15.00", reason="r")
    paid = case.does("payment.received", 6, amount="20.00", block_id="A", **USD)
    case.undoes(paid, 9)
    assert told(case.undoes(repriced, 5)) == ["01-09 repricing -1500 block=A"]


def test_what_takes_an_amount_off_an_invoice_waits_until_it_is_owed_again() -> None:
    case = Case(on_shortfall="overage")
    case.uses("5", 1, overage_price="1.00", **USD)
    billed = case.does("overage.billed", 2, amount="3.00", invoice_id="I", **USD)
    paid = case.does("payment.received", 3, amount="3.00", invoice_id="I", **USD)
    case.undoes(paid, 9)
    assert [line[:24] for line in told(case.undoes(billed, 2))] == ["01-09 overage_billed -30"]


def test_unapplied_money_that_was_paid_back_is_there_again_from_the_day_of_its_undoing() -> None:
    case = Case()
    case.buys("A")
    case.does("payment.received", 2, amount="5.00", payment_id="P", **USD)
    paid_back = case.does("payment.refunded", 3, amount="5.00", payment_id="P", **USD)
    case.undoes(paid_back, 9)
    applied = case.does("payment.applied", 4, amount="5.00", payment_id="P", block_id="A", **USD)
    assert told(applied) == ["01-09 payment_applied 500 block=A"]


def test_an_event_that_changed_no_wallet_restores_none() -> None:
    case = Case()
    paid = case.does("payment.received", 2, amount="5.00", elsewhere="5.00", **USD)
    undone = case.undoes(paid, 3)
    assert told(undone) == ["01-03 paid_elsewhere_cash -500"]
    assert undone.decision.restored == ()


def test_a_payment_is_not_undone_while_value_stands_that_was_given_back_because_of_it() -> None:
    case = Case()
    case.buys("A", credits="10")
    paid = case.does("payment.received", 2, amount="10.00", block_id="A", **USD)
    case.does("credits.refunded", 3, block_id="A", credits="4", amount="0.00", **USD)
    assert is_changed(case.cannot_undo(paid, 4), "block A", block_id="A")


def test_a_repricing_is_undone_after_usage_that_was_taken_back() -> None:
    case = Case()
    case.buys("A", credits="10")
    repriced = case.does("block.repriced", 2, block_id="A", add_credits="5", reason="r")
    case.takes_back(case.uses("3", 3), 4)
    left = case.uses("1", 5)
    assert is_changed(case.cannot_undo(repriced, 5), "block A", block_id="A")
    case.takes_back(left, 5)
    assert told(case.undoes(repriced, 5)) == ["01-05 repricing 0 block=A credits=-5"]
    assert case.wallets["ann"].state_of_block("A").segment is None
    assert told(case.uses("3", 6)) == ["01-06 consumption 300 block=A credits=3"]


@pytest.mark.parametrize("currency", ["USD", "EUR"])
@pytest.mark.parametrize(
    ("added", "movements"),
    [
        ({"add_credits": "5"}, [("repricing", -5, 0, 0)]),
        ({"add_price": "5.00"}, [("purchase_tax", 0, -50, -60), ("repricing", 0, -500, -600)]),
        (
            {"add_credits": "5", "add_price": "5.00", "add_tax": "0.50"},
            [("purchase_tax", 0, -50, -60), ("repricing", -5, -500, -600)],
        ),
    ],
)
def test_what_takes_credits_and_value_off_a_block_waits_until_it_has_them_again(
    currency: str, added: dict[str, str], movements: list[tuple[str, int, int, int]]
) -> None:
    case = in_euro()
    case.buys("A", credits="10", currency=currency, tax="1.00")
    repriced = case.does("block.repriced", 5, block_id="A", reason="r", **added)
    case.undoes(case.does("purchase.voided", 6, block_id="A", reason="r"), 9)
    undone = case.undoes(repriced, 5).decision.movements
    assert [(m.kind, m.credits, m.amount_minor) for m in undone] == [of[:3] for of in movements]
    assert [m.functional_minor for m in undone] == [of[3] if currency == "EUR" else None for of in movements]
    assert {m.accounting_date for m in undone} == {date(2026, 1, 9)}


def test_both_blocks_of_a_transfer_wait_until_the_new_one_has_its_credits_again() -> None:
    case = Case()
    case.buys("A", credits="10")
    sent = case.does("credits.transferred", 5, block_id="A", to_customer="bob", new_block_id="B", credits="4")
    case.undoes(case.does("purchase.voided", 6, "bob", block_id="B", reason="r"), 9)
    assert told(case.undoes(sent, 5)) == [
        "01-09 transfer_in -400 block=B credits=-4 customer=bob",
        "01-09 transfer_out -400 block=A credits=-4",
    ]


@pytest.mark.parametrize(
    ("currency", "suffixes"),
    [("USD", ("", "", "", "")), ("EUR", tuple(f" currency=EUR functional={n}" for n in (-120, -360, -240, -1200)))],
)
def test_what_takes_an_amount_off_money_owed_waits_until_it_is_owed_again(
    currency: str, suffixes: tuple[str, ...]
) -> None:
    case = in_euro()
    money = {"currency": currency}
    case.buys("A", credits="10", **money)
    received = case.does("payment.received", 2, amount="12.00", block_id="A", payment_id="P", **money)
    refunded = case.does("credits.refunded", 3, block_id="A", credits="4", amount="3.00", **money)
    case.undoes(case.does("payment.refunded", 5, amount="3.00", block_id="A", **money), 9)
    retained, refund, unapplied, paid = suffixes
    assert told(case.undoes(refunded, 3)) == [
        f"01-03 refund_retained -100 block=A{retained}",
        f"01-09 refund -300 block=A credits=-4{refund}",
    ]
    case.undoes(case.does("payment.refunded", 5, amount="2.00", payment_id="P", **money), 8)
    assert told(case.undoes(received, 2)) == [
        f"01-08 unapplied_cash -200{unapplied}",
        f"01-02 payment_cash -1000 block=A{paid}",
    ]


def test_mirrored_entries_keep_the_policy_of_the_entries() -> None:
    case = Case()
    first = case.buys("A")
    case.adopts(2, 2)
    second = case.buys("B", 3)
    assert [entry.policy for step in (first, second) for entry in case.undoes(step, 4).entries] == [1, 2]


@pytest.mark.parametrize(("rate", "sign"), [("1.1", 1), ("1.5", -3)])
def test_what_a_remeasurement_added_to_undone_money_is_an_exchange_difference(rate: str, sign: int) -> None:
    case = in_euro()
    euro = {"currency": "EUR"}
    bought = case.buys("A", credits="10", **euro)
    received = case.does("payment.received", 2, amount="5.00", processor="x", **euro)
    case.does("exchange_rate.set", 30, None, base="EUR", quote="USD", rate=rate, rate_source="ECB")
    for customer in (None, "ann"):
        last = on(32) - timedelta(hours=13)
        case.own(f"m-{customer}", "balances.remeasured", customer, last, period="2026-01")
    assert told(case.undoes(received, 40)) == [
        "02-09 unapplied_processor -500 currency=EUR functional=-600 processor=x",
        f"02-09 fx_settlement_processor_clearing 0 currency=EUR functional={50 * sign} processor=x",
        f"02-09 fx_settlement_customer_balance 0 currency=EUR functional={-50 * sign}",
    ]
    assert told(case.undoes(bought, 40)) == [
        "02-09 purchase -1000 block=A credits=-10 currency=EUR functional=-1200",
        f"02-09 fx_settlement_accounts_receivable 0 block=A currency=EUR functional={100 * sign}",
    ]


def test_money_that_stays_beside_undone_money_keeps_its_share_of_what_a_remeasurement_left() -> None:
    """10.00 EUR at 1.20 are remeasured at 0.50: 5.00. Half is undone, with its 6.00. 2.50 must remain, not -1.00."""
    case = in_euro()
    euro = {"currency": "EUR"}
    first, _ = (case.does("payment.received", 2, amount="5.00", processor="x", **euro) for _ in "ab")
    case.does("exchange_rate.set", 30, None, base="EUR", quote="USD", rate="0.5", rate_source="ECB")
    for customer in (None, "ann"):
        last = on(32) - timedelta(hours=13)
        case.own(f"m-{customer}", "balances.remeasured", customer, last, period="2026-01")
    assert told(case.undoes(first, 40)) == [
        "02-09 unapplied_processor -500 currency=EUR functional=-600 processor=x",
        "02-09 fx_settlement_processor_clearing 0 currency=EUR functional=350 processor=x",
        "02-09 fx_settlement_customer_balance 0 currency=EUR functional=-350",
    ]
    assert case.books.standing("processor_clearing", "EUR", "x") == (500, 250)
