"""Payments, memos, disputes, write-offs, and the ends of blocks: every movement in full."""

from __future__ import annotations

import pytest

from tests.laws.case import UNTIL_FEBRUARY, Case, in_euro, on, told

# --- payments -----------------------------------------------------------------------------------------------------


def test_a_payment_of_an_invoice_pays_its_blocks_in_order_then_its_overage_and_the_rest_is_unapplied() -> None:
    case = Case(on_shortfall="overage")
    case.buys("Z", 1, price="3.00", invoice_id="I")
    case.buys("A", 3, price="2.00", invoice_id="I", tax="0.40")
    case.buys("O", 3, price="9.00", invoice_id="J")
    case.uses("1", 4, unit="other", overage_price="1.00", currency="USD")
    case.does("overage.billed", 5, invoice_id="I", amount="1.00", currency="USD", tax="0.20")
    part = case.does(
        "payment.received", 2, amount="3.50", currency="USD", invoice_id="I", processor="cards", fee="0.07"
    )
    assert told(part) == [
        "01-02 payment_processor 300 block=Z processor=cards",
        "01-02 unapplied_processor 50 processor=cards",
        "01-03 payment_applied 50 block=A",
        "01-02 processing_fee 7 processor=cards",
    ]
    rest = case.does("payment.received", 6, amount="4.00", currency="USD", invoice_id="I")
    assert told(rest) == [
        "01-06 payment_cash 190 block=A",
        "01-06 payment_cash 120 invoice=I",
        "01-06 unapplied_cash 90",
    ]
    more = case.does("payment.received", 7, amount="1.00", currency="USD", invoice_id="I", processor="cards")
    assert told(more) == ["01-07 unapplied_processor 100 processor=cards"]
    named = case.does("payment.received", 7, amount="8.00", currency="USD", block_id="O", invoice_id="J")
    assert told(named) == ["01-07 payment_cash 800 block=O"]


def test_what_is_unapplied_is_applied_in_order_and_booked_no_earlier_than_the_block() -> None:
    case = Case()
    case.does("payment.received", 1, amount="10.00", currency="USD", payment_id="P", processor="cards")
    case.buys("A", 5, price="3.00", invoice_id="I")
    case.buys("B", 6, price="4.00", invoice_id="I")
    applied = case.does("payment.applied", 2, payment_id="P", amount="5.00", currency="USD", invoice_id="I")
    assert told(applied) == ["01-05 payment_applied 300 block=A", "01-06 payment_applied 200 block=B"]
    rest = case.does("payment.applied", 7, payment_id="P", amount="2.00", currency="USD", invoice_id="I")
    assert told(rest) == ["01-07 payment_applied 200 block=B"]
    other = case.does("payment.refunded", 8, amount="2.00", currency="USD")
    assert told(other) == ["01-08 balance_refunded 200", "01-08 refund_paid_cash 200"]
    error = case.is_refused("payment.applied", 9, payment_id="P", amount="1.01", currency="USD", invoice_id="I")
    assert error.expected == "at most 1.00", "what was paid back is not there any more"


def test_money_is_paid_back_of_refunds_first_then_of_the_balance_the_way_it_came() -> None:
    case = Case()
    case.does("payment.received", 1, amount="5.00", currency="USD", payment_id="P", processor="cards")
    case.does("payment.received", 1, amount="4.00", currency="USD")
    case.buys("A", 1, price="3.00")
    case.does("payment.received", 2, amount="3.00", currency="USD", block_id="A")
    case.does("credits.refunded", 3, block_id="A")
    assert told(case.does("payment.refunded", 4, amount="1.00", currency="USD", block_id="A", processor="cards")) == [
        "01-04 refund_paid_processor 100 block=A processor=cards"
    ]
    assert told(case.does("payment.refunded", 5, payment_id="P", amount="0.50", currency="USD")) == [
        "01-05 balance_refunded 50",
        "01-05 refund_paid_processor 50 processor=cards",
    ], "A was not paid with P"
    error = case.is_refused("payment.refunded", 6, payment_id="P", amount="4.51", currency="USD")
    assert error.expected == "at most 4.50"
    assert told(case.does("payment.refunded", 6, amount="10.50", currency="USD")) == [
        "01-06 refund_paid_cash 200",
        "01-06 balance_refunded 850",
        "01-06 refund_paid_cash 850",
    ]


def test_a_refund_that_names_a_payment_pays_what_is_owed_of_it_and_no_more_than_it_brought_in() -> None:
    """Two blocks and two payments are refunded. Each payment is paid back once, whichever is named first."""
    case = Case()
    for block, payment in (("A", "P"), ("B", "Q")):
        case.buys(block)
        paid = {"amount": "10.00", "currency": "USD", "payment_id": payment, "processor": "cards"}
        case.does("payment.received", 2, block_id=block, **paid)
        case.does("credits.refunded", 3, block_id=block)
    whole = {"amount": "10.00", "currency": "USD"}
    assert told(case.does("payment.refunded", 4, payment_id="P", **whole)) == [
        "01-04 refund_paid_processor 1000 block=A processor=cards"
    ]
    assert case.is_refused("payment.refunded", 4, payment_id="P", **whole).expected == "at most 0.00"
    assert case.is_refused("payment.refunded", 4, block_id="A", **whole).expected == "at most 0.00"
    assert told(case.does("dispute.opened", 5, dispute_id="D", payment_id="P")) == [
        "01-05 dispute_opened 1000 block=A given_back=True processor=cards"
    ]
    assert told(case.does("payment.refunded", 5, payment_id="Q", **whole)) == [
        "01-05 refund_paid_processor 1000 block=B processor=cards"
    ]


def test_a_payout_comes_from_its_processor() -> None:
    step = in_euro().does("payout.settled", 3, None, amount="2.00", currency="EUR", processor="cards", payout_id="O")
    assert told(step) == ["01-03 payout 200 currency=EUR functional=240 processor=cards"]


# --- billed overage and concessions -------------------------------------------------------------------------------


def test_overage_is_billed_oldest_first_and_a_part_takes_its_credits_pro_rata() -> None:
    case = in_euro(on_shortfall="overage")
    for day, price, currency in ((3, "1.00", "USD"), (4, "2.00", "EUR"), (6, "3.00", "USD")):
        case.uses("3", day, overage_price=price, currency=currency, product="api")
    part = case.does("overage.billed", 5, invoice_id="V", amount="4.00", currency="USD", tax="0.80")
    assert told(part) == [
        "01-05 overage_billed 300 credits=3 invoice=V overage=2 product=api",
        "01-06 overage_billed 100 credits=0.333333333 invoice=V overage=4 product=api",
        "01-05 overage_tax 80 invoice=V",
    ]
    rest = case.does("overage.billed", 7, invoice_id="W", amount="8.00", currency="USD")
    assert told(rest) == ["01-07 overage_billed 800 credits=2.666666667 invoice=W overage=4 product=api"]


def test_a_bill_never_takes_the_last_credit_without_the_last_of_the_price() -> None:
    case = Case(on_shortfall="overage")
    case.uses("0.000000002", 3, overage_price="1000000000", currency="USD")
    step = case.does("overage.billed", 4, invoice_id="V", amount="1.99", currency="USD")
    assert told(step) == ["01-04 overage_billed 199 credits=1E-9 invoice=V overage=1"]


def test_a_memo_takes_of_the_open_receivable_first_value_before_tax_and_the_rest_is_owed_back() -> None:
    case = Case(on_shortfall="overage")
    case.buys("A", 1, price="7.00", tax="1.40", invoice_id="I")
    case.buys("B", 5, price="7.00", tax="1.40", invoice_id="I", unit="token")
    case.uses("4", 2)
    case.uses("3", 5, unit="token")
    case.does("payment.received", 5, amount="6.40", currency="USD", block_id="A")
    case.does("payment.received", 5, amount="8.30", currency="USD", block_id="B")
    memo = case.does("credit_memo.issued", 4, invoice_id="I", amount="5.00", currency="USD", tax="0.90", reason="r")
    assert told(memo) == [
        "01-04 memo_unpaid 200 block=A",
        "01-04 memo_paid 200 block=A",
        "01-04 tax_reversed_paid 80 block=A",
        "01-05 memo_unpaid 10 block=B",
        "01-05 memo_paid 90 block=B",
        "01-05 tax_reversed_paid 10 block=B",
    ]
    again = case.does("credit_memo.issued", 6, block_id="B", amount="2.00", currency="USD", tax="0.40", reason="r")
    assert told(again) == ["01-06 memo_paid 200 block=B", "01-06 tax_reversed_paid 40 block=B"]
    assert (
        case.is_refused("credit_memo.issued", 7, block_id="B", amount="0.01", currency="USD", reason="r").expected
        == "at most 0.00"
    )


def test_tax_is_conceded_of_what_the_value_left_of_the_receivable() -> None:
    case = Case()
    case.buys("A", 1, price="7.00", tax="1.40")
    case.uses("4", 2)
    case.does("payment.received", 3, amount="5.00", currency="USD", block_id="A")
    memo = case.does("credit_memo.issued", 4, block_id="A", amount="3.00", currency="USD", tax="0.60", reason="r")
    assert told(memo) == [
        "01-04 memo_unpaid 300 block=A",
        "01-04 tax_reversed_unpaid 40 block=A",
        "01-04 tax_reversed_paid 20 block=A",
    ]


def test_a_memo_about_nothing_in_particular_is_refused() -> None:
    case = Case()
    error = case.is_refused("credit_memo.issued", 4, amount="3.00", currency="USD", reason="r")
    assert (error.code, error.field) == ("missing_field", "data.block_id")


# --- write-offs and disputes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("relief", "tax"), [(True, "write_off_tax"), (False, "write_off_tax_borne")])
def test_a_write_off_takes_its_tax_pro_rata_then_unused_then_used_value(relief: bool, tax: str) -> None:
    """A price of 10.00 and 1.00 tax for 7 credits, of which 4.2 are used: 4.00 unused, 6.00 used."""
    case = Case()
    case.buys("A", 2, price="10.00", tax="1.00")
    case.uses("4.2", 3)
    gives_up = {"block_id": "A", "reason": "r", "tax_relief": relief}
    assert told(case.does("receivable.written_off", 1, amount="2.75", **gives_up)) == [
        "01-02 write_off_unused 250 block=A credits=1.750000000",
        f"01-02 {tax} 25 block=A",
    ]
    assert told(case.does("receivable.written_off", 4, amount="2.75", **gives_up)) == [
        "01-04 write_off_unused 150 block=A credits=1.050000000",
        "01-04 write_off_used 100 block=A",
        f"01-04 {tax} 25 block=A",
    ]
    assert told(case.does("receivable.written_off", 5, **gives_up)) == [
        "01-05 write_off_used 500 block=A",
        f"01-05 {tax} 50 block=A",
    ]
    assert case.is_refused("receivable.written_off", 6, **gives_up).field == "data.block_id"


def test_pieces_written_off_take_together_the_tax_of_the_whole() -> None:
    case = Case()
    case.buys("A", 1, credits="1", price="0.10", tax="0.01")
    pieces = [told(case.does("receivable.written_off", 2, block_id="A", amount="0.03", reason="r")) for _ in range(3)]
    assert [line for lines in pieces for line in lines if "tax" in line] == ["01-02 write_off_tax 1 block=A"]
    assert "tax" in pieces[1][1], "half of eleven is five and a half: with the sixth cent"


def test_a_dispute_withdraws_what_a_payment_paid_one_part_a_block_or_invoice() -> None:
    """The payment is of the 7th, so an earlier dispute is dated to the 7th, too."""
    case = Case(on_shortfall="overage")
    case.buys("A", 5, price="3.00", invoice_id="I")
    case.buys("B", 6, price="4.00", tax="0.50", invoice_id="I")
    case.uses("1", 6, unit="other", overage_price="2.00", currency="USD")
    case.does("overage.billed", 6, invoice_id="V", amount="2.00", currency="USD")
    case.does("payment.received", 7, amount="8.50", currency="USD", invoice_id="I", payment_id="P", processor="cards")
    case.does("payment.applied", 8, payment_id="P", amount="1.00", currency="USD", invoice_id="V")
    opened = case.does("dispute.opened", 5, dispute_id="D", payment_id="P", amount="8.20", currency="USD", fee="15.00")
    assert told(opened) == [
        "01-07 dispute_opened 300 block=A frozen=7 processor=cards",
        "01-07 dispute_opened 450 block=B frozen=7 processor=cards",
        "01-07 dispute_opened 70 invoice=V processor=cards",
        "01-07 dispute_fee 1500 processor=cards",
    ]
    lost = case.does("dispute.lost", 10, dispute_id="D", amount="5.00", currency="USD", fee="1.00")
    assert told(lost) == [
        "01-10 dispute_lost_unused 300 block=A credits=7",
        "01-10 dispute_lost_unused 178 block=B credits=3.115000000",
        "01-10 dispute_lost_tax 22 block=B",
        "01-10 dispute_won 250 block=B processor=cards",
        "01-10 dispute_won 70 invoice=V processor=cards",
        "01-10 dispute_fee 100 processor=cards",
    ]


def test_a_won_dispute_gives_every_part_back_and_a_lost_one_of_an_invoice_takes_its_tax_pro_rata() -> None:
    case = Case(on_shortfall="overage")
    case.uses("1", 6, overage_price="2.00", currency="USD")
    case.does("overage.billed", 6, invoice_id="V", amount="2.00", currency="USD", tax="0.50")
    case.does("payment.received", 7, amount="2.50", currency="USD", invoice_id="V", payment_id="P")
    case.does("dispute.opened", 8, dispute_id="D", payment_id="P")
    won = case.does("dispute.won", 9, dispute_id="D", fee="1.00", currency="USD")
    assert told(won) == ["01-09 dispute_won_cash 250 invoice=V", "01-09 dispute_fee_cash 100"]
    case.does("credit_memo.issued", 9, invoice_id="V", amount="0.10", tax="0.02", currency="USD", reason="r")
    case.does("dispute.opened", 10, dispute_id="E", payment_id="P", amount="1.00", currency="USD")
    lost = case.does("dispute.lost", 11, dispute_id="E")
    assert told(lost) == [
        "01-11 dispute_lost_refund 12 invoice=V",
        "01-11 dispute_lost_used 70 invoice=V",
        "01-11 dispute_lost_tax 18 invoice=V",
    ], "the memo is owed back: first that, which needs no paying any more"


def test_a_block_is_disputed_by_itself_up_to_what_a_processor_brought_in_for_it() -> None:
    case = Case()
    case.buys("A", 5, price="10.00", tax="1.00")
    case.does("payment.received", 5, amount="2.00", currency="USD", block_id="A")
    assert case.is_refused("dispute.opened", 5, dispute_id="C", block_id="A").code == "exceeds_payment"
    case.does("payment.received", 5, amount="9.00", currency="USD", processor="cards", payment_id="P")
    case.does("payment.applied", 5, payment_id="P", amount="9.00", currency="USD", block_id="A")
    assert told(case.does("dispute.opened", 6, dispute_id="D", block_id="A")) == [
        "01-06 dispute_opened 900 block=A frozen=5.727272727 processor=cards"
    ]
    assert told(case.does("dispute.won", 6, dispute_id="D")) == ["01-06 dispute_won 900 block=A processor=cards"]
    part = case.does("dispute.opened", 7, dispute_id="E", block_id="A", amount="4.00", currency="USD")
    assert told(part) == ["01-07 dispute_opened 400 block=A frozen=2.545454545 processor=cards"]
    assert told(case.does("dispute.opened", 7, dispute_id="F", block_id="A")) == [
        "01-07 dispute_opened 500 block=A frozen=3.181818182 processor=cards"
    ]
    assert (
        case.is_refused("dispute.opened", 8, dispute_id="G", block_id="A").message
        == "no amount is left that can be disputed"
    )


# --- ends of a block ----------------------------------------------------------------------------------------


def test_a_void_takes_the_open_receivable_first_value_before_tax_and_the_credits_go_once() -> None:
    case = Case()
    case.buys("A", 5, price="10.00", tax="1.00")
    case.uses("4.2", 5)
    case.does("payment.received", 6, amount="9.00", currency="USD", block_id="A")
    assert told(case.does("purchase.voided", 1, block_id="A", reason="r")) == [
        "01-05 void_unpaid 200 block=A credits=2.8",
        "01-05 void_paid 200 block=A",
        "01-05 tax_reversed_paid 40 block=A",
    ]
    case.buys("B", 7, price="10.00", tax="1.00")
    assert told(case.does("purchase.voided", 7, block_id="B", reason="r")) == [
        "01-07 void_unpaid 1000 block=B credits=7",
        "01-07 tax_reversed_unpaid 100 block=B",
    ]
    case.buys("C", 7, price="10.00")
    case.does("payment.received", 7, amount="10.00", currency="USD", block_id="C")
    assert told(case.does("purchase.voided", 8, block_id="C", reason="r")) == ["01-08 void_paid 1000 block=C credits=7"]
    case.does("credits.granted", 8, block_id="P", credits="4", reason="promotional")
    assert told(case.does("purchase.voided", 9, block_id="P", reason="r")) == ["01-09 void_unpaid 0 block=P credits=4"]


def test_a_refund_pays_its_part_back_with_the_tax_of_that_and_keeps_the_rest() -> None:
    case = Case()
    case.buys("A", 5, price="10.00", tax="1.00")
    case.does("payment.received", 5, amount="11.00", currency="USD", block_id="A")
    kept = case.does("credits.refunded", 4, block_id="A", credits="3.5", amount="2.00", currency="USD")
    assert told(kept) == [
        "01-05 refund 200 block=A credits=3.5",
        "01-05 refund_retained 300 block=A",
        "01-05 tax_reversed_paid 20 block=A",
    ]
    assert told(case.does("credits.refunded", 6, block_id="A", amount="0", currency="USD", credits="1")) == [
        "01-06 refund_retained 143 block=A credits=1"
    ]
    whole = case.does("credits.refunded", 7, block_id="A")
    assert told(whole) == ["01-07 refund 357 block=A credits=2.5", "01-07 tax_reversed_paid 36 block=A"]
    case.does("credits.granted", 8, block_id="P", credits="4", reason="promotional")
    assert told(case.does("credits.refunded", 9, block_id="P")) == ["01-09 refund 0 block=P credits=4"]


def test_a_changed_expiry_brings_back_what_does_not_expire_by_it() -> None:
    case = Case()
    case.buys("A", **UNTIL_FEBRUARY)
    case.buys("B", pool="p", price="3.50", unit="token", **UNTIL_FEBRUARY)
    for block_id, back in (
        ("A", "02-02 reinstatement 1000 block=A credits=7"),
        ("B", "02-02 pooled_breakage -350 block=B cohort=2026-01 credits=-7 pool=p"),
    ):
        case.expires(block_id)
        pool = " cohort=2026-01 pool=p" if block_id == "B" else ""
        moment = on(33).isoformat()
        still = case.does("block.expiry_changed", 33, block_id=block_id, expires_at=moment, reason="r")
        assert told(still) == [f"02-02 expiry_changed 0 block={block_id}{pool}"]
        step = case.does("block.expiry_changed", 33, block_id=block_id, expires_at=None, reason="r")
        assert told(step)[:2] == [f"02-02 expiry_changed 0 block={block_id}{pool}", back]


def test_what_comes_back_is_booked_no_earlier_than_it_broke() -> None:
    case = Case()
    case.buys("A", **UNTIL_FEBRUARY)
    case.expires("A")
    step = case.does("block.expiry_changed", 20, block_id="A", expires_at=on(90).isoformat(), reason="r")
    assert told(step) == ["01-20 expiry_changed 0 block=A", "01-31 reinstatement 1000 block=A credits=7"]


def test_a_repricing_adds_credits_and_price_with_their_signs() -> None:
    case = Case()
    case.buys("A", 5)
    more = case.does("block.repriced", 4, block_id="A", add_credits="2", add_price="5.00", reason="r")
    assert told(more) == ["01-05 repricing 500 block=A credits=2"]
    assert told(case.does("block.repriced", 6, block_id="A", add_credits="-1", reason="r")) == [
        "01-06 repricing 0 block=A credits=-1"
    ]
    assert told(case.does("block.repriced", 7, block_id="A", add_price="-15.00", reason="r")) == [
        "01-07 repricing -1500 block=A"
    ]


def test_a_transfer_moves_a_part_at_its_basis_to_the_other_customer() -> None:
    case = in_euro()
    case.buys("A", 5, currency="EUR", pool="p")
    step = case.does("credits.transferred", 4, block_id="A", to_customer="bob", new_block_id="N", credits="3")
    assert told(step) == [
        "01-05 transfer_out 429 block=A cohort=2026-01 credits=3 currency=EUR functional=515 pool=p",
        "01-05 transfer_in 429 block=N cohort=2026-01 credits=3 currency=EUR customer=bob functional=515 pool=p",
    ]
    whole = case.does("credits.transferred", 6, block_id="A", to_customer="bob", new_block_id="M")
    cohort = "cohort=2026-01 credits=4 currency=EUR customer=bob functional=685 pool=p"
    assert told(whole)[1] == f"01-06 transfer_in 571 block=M {cohort}"


def test_what_escheats_is_reclaimed_and_remitted_of_what_is_held() -> None:
    case = Case()
    case.buys("A", 5)
    case.does("payment.received", 5, amount="10.00", currency="USD", block_id="A")
    case.uses("3", 5)
    assert told(case.does("credits.escheated", 4, block_id="A")) == ["01-05 escheat 571 block=A credits=4"]
    about = {"block_id": "A", "currency": "USD"}
    assert told(case.does("escheat.reclaimed", 3, amount="2.00", **about)) == ["01-05 escheat_reclaimed 200 block=A"]
    assert told(case.does("escheat.remitted", 7, amount="3.00", **about)) == ["01-07 escheat_remitted 300 block=A"]
    assert case.is_refused("escheat.remitted", 8, amount="0.72", **about).expected == "at most 0.71"


def test_what_is_won_of_a_dispute_is_said_and_the_rest_is_lost() -> None:
    case = Case()
    case.buys("A", 5, price="10.00", tax="1.00")
    case.uses("4.2", 5)
    case.does("payment.received", 5, amount="11.00", currency="USD", block_id="A", processor="cards")
    case.does("dispute.opened", 6, dispute_id="D", block_id="A")
    step = case.does("dispute.won", 7, dispute_id="D", amount="5.50", currency="USD", fee="1.00")
    assert told(step) == [
        "01-07 dispute_lost_unused 400 block=A credits=2.8",
        "01-07 dispute_lost_used 100 block=A",
        "01-07 dispute_lost_tax 50 block=A",
        "01-07 dispute_won 550 block=A processor=cards",
        "01-07 dispute_fee 100 processor=cards",
    ]


# --- other currencies, smallest units, remainders -----------------------------------------


def test_an_invoice_in_another_currency_is_paid_disputed_and_lost_in_it() -> None:
    case = in_euro(on_shortfall="overage")
    case.uses("1", 3, overage_price="2.00", currency="EUR")
    case.does("overage.billed", 4, invoice_id="V", amount="2.00", currency="EUR", tax="0.50")
    paid = case.does("payment.received", 5, amount="2.50", currency="EUR", invoice_id="V", payment_id="P")
    assert told(paid) == ["01-05 payment_cash 250 currency=EUR functional=300 invoice=V"]
    opened = case.does("dispute.opened", 6, dispute_id="D", payment_id="P", amount="1.00", fee="0.30", currency="EUR")
    assert told(opened) == [
        "01-06 dispute_opened_cash 100 currency=EUR functional=120 invoice=V",
        "01-06 dispute_fee_cash 30 currency=EUR functional=36",
    ]
    assert (
        case.is_refused("dispute.opened", 6, dispute_id="E", payment_id="P", amount="1.51", currency="EUR").expected
        == "at most 1.50"
    )
    lost = case.does("dispute.lost", 7, dispute_id="D")
    assert told(lost) == [
        "01-07 dispute_lost_used 80 currency=EUR functional=96 invoice=V",
        "01-07 dispute_lost_tax 20 currency=EUR functional=24 invoice=V",
    ]


def test_a_block_that_a_payment_paid_twice_is_one_part_of_its_dispute() -> None:
    case = Case()
    case.buys("A")
    case.does("payment.received", 2, amount="6.00", currency="USD", payment_id="P")
    for amount in ("2.00", "3.00"):
        case.does("payment.applied", 3, payment_id="P", amount=amount, currency="USD", block_id="A")
    assert told(case.does("dispute.opened", 4, dispute_id="D", payment_id="P")) == [
        "01-04 dispute_opened_cash 100",
        "01-04 dispute_opened_cash 500 block=A frozen=3.500000000",
    ], "what is unapplied comes first"


def test_a_cent_is_applied_disputed_and_written_off_like_any_amount() -> None:
    case = Case()
    case.buys("A")
    received = case.does("payment.received", 2, amount="0.01", currency="USD", block_id="A")
    assert told(received) == ["01-02 payment_cash 1 block=A"]
    case.does("payment.received", 2, amount="0.01", currency="USD", payment_id="P")
    applied = case.does("payment.applied", 3, payment_id="P", amount="0.01", currency="USD", block_id="A")
    assert told(applied) == ["01-03 payment_applied 1 block=A"]
    assert told(case.does("dispute.opened", 4, dispute_id="D", payment_id="P")) == [
        "01-04 dispute_opened_cash 1 block=A frozen=0.007000000"
    ]
    case.does("dispute.won", 5, dispute_id="D")
    written = case.does("receivable.written_off", 6, block_id="A", amount="0.01", reason="r")
    assert told(written) == ["01-06 write_off_unused 1 block=A credits=0.007000000"]


def test_a_part_of_the_value_never_takes_the_last_billionth_of_a_credit() -> None:
    case = Case()
    case.buys("A", credits="0.000000001", price="1.00")
    assert told(case.does("receivable.written_off", 2, block_id="A", amount="0.99", reason="r")) == [
        "01-02 write_off_unused 99 block=A credits=0E-9"
    ]
    assert told(case.does("receivable.written_off", 3, block_id="A", amount="0.01", reason="r")) == [
        "01-03 write_off_unused 1 block=A credits=1E-9"
    ]


def test_what_is_unapplied_in_another_currency_is_counted_in_it() -> None:
    case = in_euro()
    case.buys("A", 1, currency="EUR")
    case.does("payment.received", 2, amount="10.00", currency="EUR", payment_id="P")
    case.does("payment.refunded", 3, amount="2.00", currency="EUR")
    error = case.is_refused("payment.refunded", 4, amount="8.01", currency="EUR")
    assert error.expected == "at most 8.00"
    said = {"payment_id": "P", "currency": "EUR", "block_id": "A"}
    assert case.is_refused("payment.applied", 4, amount="8.01", **said).expected == "at most 8.00"
    applied = case.does("payment.applied", 4, amount="8.00", **said)
    assert told(applied) == ["01-04 payment_applied 800 block=A currency=EUR functional=960"]


def test_no_tax_is_conceded_that_was_reversed_or_taken_before() -> None:
    case = Case(on_shortfall="overage")
    case.buys("A", price="10.00", tax="1.00")
    case.uses("3.5", 2)
    case.does("credits.refunded", 3, block_id="A", credits="1.4")
    memo = {"amount": "0.10", "currency": "USD", "reason": "r"}
    assert case.is_refused("credit_memo.issued", 4, block_id="A", tax="0.02", **memo).expected == "at most 0.01"
    case.does("credit_memo.issued", 4, block_id="A", tax="0.01", **memo)
    most = {"amount": "4.90", "currency": "USD", "reason": "r"}
    assert case.is_refused("credit_memo.issued", 5, block_id="A", tax="0.50", **most).expected == "at most 0.49"
    case.does("credit_memo.issued", 5, block_id="A", tax="0.49", **most)
    case.buys("B", price="10.00", unit="token")
    case.uses("7", 5, unit="token")
    assert case.is_refused("credit_memo.issued", 6, block_id="B", tax="0.01", **memo).expected == "at most 0.00"
    case.uses("1", 6, unit="other", overage_price="2.00", currency="USD")
    case.does("overage.billed", 7, invoice_id="V", amount="2.00", currency="USD", tax="0.50")
    case.does("credit_memo.issued", 8, invoice_id="V", tax="0.03", **memo)
    assert case.is_refused("credit_memo.issued", 9, invoice_id="V", tax="0.04", **memo).expected == "at most 0.03"
    most = {"amount": "1.91", "currency": "USD", "reason": "r"}
    assert case.is_refused("credit_memo.issued", 9, invoice_id="V", **most).expected == "at most 1.90"


def test_a_block_may_be_repriced_to_less_than_a_credit() -> None:
    case = Case()
    case.buys("A")
    error = case.is_refused("block.repriced", 2, block_id="A", add_credits="-7", reason="r")
    assert error.facts == {"available": "7"}
    step = case.does("block.repriced", 2, block_id="A", add_credits="-6.999999999", reason="r")
    assert told(step) == ["01-02 repricing 0 block=A credits=-6.999999999"]


def test_a_transferred_block_inherits_that_it_is_refundable_and_whose_it_is_when_nobody_claims_it() -> None:
    case = Case()
    case.buys("A", refundable=True, escheat_class="DE-3y")
    step = case.does("credits.transferred", 2, block_id="A", to_customer="bob", new_block_id="N")
    taken = step.decision.new_block
    assert taken is not None
    assert (taken.refundable, taken.escheat_class, taken.opened_at_position) == (True, "DE-3y", 0)


# --- dates ----------------------------------------------------------------------------------------------------------


def test_a_change_of_the_expiry_is_booked_on_its_day_and_what_comes_back_when_it_broke() -> None:
    """Three credits are returned on 5 February to a block that expired at the end of January and was disputed."""
    case = Case()
    case.buys("A", 5, **UNTIL_FEBRUARY)
    early = case.does("block.expiry_changed", 3, block_id="A", reason="r", **UNTIL_FEBRUARY)
    assert told(early) == ["01-05 expiry_changed 0 block=A"]
    usage = case.uses("3", 5)
    case.does("payment.received", 5, amount="10.00", currency="USD", block_id="A", processor="cards")
    case.expires("A")
    case.does("dispute.opened", 35, dispute_id="D", block_id="A")
    case.takes_back(usage, 36)
    moved = case.does("block.expiry_changed", 20, block_id="A", expires_at=None, reason="r")
    assert told(moved) == ["01-20 expiry_changed 0 block=A", "01-31 reinstatement 571 block=A credits=4"]


def test_what_is_claimed_is_booked_after_the_escheat_whatever_came_back_since() -> None:
    case = Case()
    case.buys("A", 5)
    case.does("payment.received", 5, amount="10.00", currency="USD", block_id="A")
    usage = case.uses("3", 5)
    case.does("credits.escheated", 8, block_id="A")
    about = {"block_id": "A", "amount": "1.00", "currency": "USD"}
    assert told(case.does("escheat.reclaimed", 6, **about)) == ["01-08 escheat_reclaimed 100 block=A"]
    case.takes_back(usage, 10)
    assert told(case.does("escheat.remitted", 6, **about)) == ["01-08 escheat_remitted 100 block=A"]


def test_a_void_of_what_was_repriced_to_nothing_takes_the_tax_with_its_credits() -> None:
    case = Case()
    case.buys("A", price="10.00", tax="1.00")
    case.does("block.repriced", 2, block_id="A", add_price="-10.00", add_tax="0", reason="r")
    assert told(case.does("purchase.voided", 3, block_id="A", reason="r")) == [
        "01-03 void_unpaid 0 block=A credits=7",
        "01-03 tax_reversed_unpaid 100 block=A",
    ]


def test_an_amount_without_a_currency_is_in_that_of_its_block_or_dispute() -> None:
    case = Case()
    case.does("exchange_rate.set", 1, None, base="JPY", quote="USD", rate="0.01", rate_source="ecb")
    case.buys("Y", price="700", currency="JPY")
    case.does("payment.received", 2, amount="700", currency="JPY", block_id="Y", payment_id="P", processor="cards")
    refund = case.does("credits.refunded", 3, block_id="Y", credits="3.5", amount="300")
    assert told(refund)[:2] == [
        "01-03 refund 300 block=Y credits=3.5 currency=JPY functional=300",
        "01-03 refund_retained 50 block=Y currency=JPY functional=50",
    ]
    opened = case.does("dispute.opened", 4, dispute_id="D", payment_id="P", amount="70", fee="15")
    assert told(opened) == [
        "01-04 dispute_opened 70 block=Y currency=JPY frozen=0 functional=70 processor=cards",
        "01-04 dispute_fee 15 currency=JPY functional=15 processor=cards",
    ]
    error = case.is_refused("dispute.opened", 5, dispute_id="E", payment_id="P", amount="0.5")
    assert (error.code, error.field) == ("too_many_decimals", "data.amount")


def test_overage_that_is_billed_and_conceded_is_in_its_own_currency_with_its_tax() -> None:
    case = in_euro(on_shortfall="overage")
    case.uses("2", 4, overage_price="1.00", currency="EUR")
    billed = case.does("overage.billed", 5, invoice_id="V", amount="2.00", currency="EUR", tax="0.50")
    assert [(m.kind, m.currency, m.functional_minor) for m in billed.decision.movements] == [
        ("overage_billed", "EUR", 240),
        ("overage_tax", "EUR", 60),
    ]
    memo = case.does("credit_memo.issued", 6, invoice_id="V", amount="1.00", tax="0.25", currency="EUR", reason="r")
    assert [(m.kind, m.currency, m.functional_minor) for m in memo.decision.movements] == [
        ("memo_unpaid", "EUR", 120),
        ("tax_reversed_unpaid", "EUR", 30),
    ]
