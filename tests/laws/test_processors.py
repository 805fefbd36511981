"""Money at payment processors, and receivables that are written off: movement by movement."""

from __future__ import annotations

from tests.laws.case import Case, in_euro, on, told


def adjusted(case: Case, amount: str, **data: str) -> list[str]:
    data = {"processor": "x", "currency": "USD", "kind": "fee", "adjustment_id": f"J{case.sent}", **data}
    return told(case.does("processor.adjusted", 2, None, amount=amount, **data))


def test_what_lowers_the_balance_of_a_processor_is_an_expense_and_the_tax_in_it_is_apart() -> None:
    case = Case()
    assert adjusted(case, "-1.19", tax="0.19") == [
        "01-02 processor_adjustment 100 processor=x", "01-02 processor_tax 19 processor=x",
    ]  # fmt: skip
    assert adjusted(case, "1.19", tax="0.19") == [
        "01-02 processor_adjustment -100 processor=x", "01-02 processor_tax -19 processor=x",
    ]  # fmt: skip
    assert adjusted(case, "-0.05") == ["01-02 processor_adjustment 5 processor=x"]
    assert adjusted(case, "-0.05", kind="tax") == ["01-02 processor_tax 5 processor=x"]
    assert adjusted(case, "0.05", kind="tax") == ["01-02 processor_tax -5 processor=x"]
    assert adjusted(case, "-0.19", tax="0.19") == ["01-02 processor_tax 19 processor=x"]
    again = {"processor": "x", "currency": "USD", "kind": "fee", "adjustment_id": "J0", "amount": "1.00"}
    assert case.send("again", "processor.adjusted", None, on(4), **again) is None
    assert case.refused[-1].code == "document_exists"


def test_a_refund_may_cost_a_fee_at_the_processor_that_pays_it() -> None:
    case = Case()
    case.buys("A")
    payment = {"payment_id": "P", "amount": "10.00", "currency": "USD", "block_id": "A"}
    case.does("payment.received", 2, processor="x", **payment)
    case.does("credits.refunded", 3, block_id="A")
    refund = {"amount": "4.00", "currency": "USD", "fee": "0.30"}
    step = case.does("payment.refunded", 4, payment_id="P", **refund)
    assert told(step)[-1] == "01-04 refund_fee 30 processor=x"
    assert [m.kind for m in case.does("payment.refunded", 5, amount="1.00", currency="USD").decision.movements] == [
        "refund_paid_cash"
    ]
    case.buys("B", 6)
    case.does("payment.received", 6, **{**payment, "payment_id": "Q", "block_id": "B"})
    case.does("credits.refunded", 6, block_id="B")
    error = case.is_refused("payment.refunded", 6, payment_id="Q", **refund)
    assert (error.code, error.field, error.expected, error.found) == (
        "invalid_value", "data.fee", "a processor, or no fee", "0.30",
    )  # fmt: skip
    assert str(error) == "data.fee of a refund that no processor paid: the payment came into the bank"


def test_a_payout_moves_money_from_the_processor_to_the_bank_or_back() -> None:
    case = Case()
    data = {"processor": "x", "currency": "USD", "amount": "5.00"}
    assert told(case.does("payout.settled", 3, None, payout_id="O", **data)) == ["01-03 payout 500 processor=x"]
    back = case.does("payout.settled", 3, None, payout_id="P", **{**data, "amount": "-2.00"})
    assert told(back) == ["01-03 payout -200 processor=x"]
    assert case.send("again", "payout.settled", None, on(4), payout_id="O", **data) is None
    assert case.refused[-1].code == "document_exists"


def test_a_payout_in_another_currency_leaves_what_is_stated_on_both_sides() -> None:
    case = in_euro()
    case.buys("A", price="130.00", currency="EUR")
    data = {"payment_id": "P", "processor": "x", "amount": "130.00", "currency": "EUR"}
    case.does("payment.received", 2, block_id="A", **data)
    stated = {"amount": "130.00", "currency": "EUR", "arrived_amount": "156.50", "arrived_currency": "USD"}
    assert told(case.does("payout.settled", 3, None, payout_id="O", processor="x", **stated)) == [
        "01-03 exchange_processor -13000 currency=EUR functional=-15600 processor=x", "01-03 exchange 15650",
    ]  # fmt: skip
    stated = {"amount": "5.00", "currency": "USD", "arrived_amount": "4.00", "arrived_currency": "EUR"}
    assert told(case.does("payout.settled", 4, None, payout_id="Q", processor="x", **stated)) == [
        "01-04 exchange_processor -500 processor=x", "01-04 exchange 400 currency=EUR functional=480",
    ]  # fmt: skip


def test_a_write_off_gives_up_tax_pro_rata_then_unused_then_used_value() -> None:
    case = Case()
    case.buys("A", price="10.00", tax="1.90")
    case.uses("3", 2)
    assert told(case.does("receivable.written_off", 3, block_id="A", amount="5.95", reason="r")) == [
        "01-03 write_off_unused 500 block=A credits=3.502626970", "01-03 write_off_tax 95 block=A",
    ]  # fmt: skip
    step = case.does("receivable.written_off", 4, block_id="A", reason="r", tax_relief=False)
    assert [(m.kind, m.amount_minor) for m in step.decision.movements] == [
        ("write_off_unused", 71), ("write_off_used", 429), ("write_off_tax_borne", 95),
    ]  # fmt: skip
    error = case.is_refused("receivable.written_off", 5, block_id="A", reason="r")
    assert (error.code, error.field, error.expected, error.found) == (
        "exceeds_receivable", "data.block_id", "an open receivable", "0.00",
    )  # fmt: skip
    assert str(error) == "block A has no open receivable"


def test_a_write_off_of_an_invoice_gives_up_its_blocks_and_then_its_overage() -> None:
    case = Case(on_shortfall="overage")
    case.buys("A", price="10.00", tax="1.90", invoice_id="I")
    case.uses("9", 2, overage_price="1.00", currency="USD")
    case.does("overage.billed", 3, invoice_id="I", amount="2.00", tax="0.38", currency="USD")
    error = case.is_refused("receivable.written_off", 4, invoice_id="I", amount="14.29", reason="r")
    assert (error.code, error.expected) == ("exceeds_receivable", "at most 14.28")
    assert str(error) == "the write-off exceeds the open receivable of invoice I (14.28 USD)"
    assert told(case.does("receivable.written_off", 4, invoice_id="I", amount="13.09", reason="r")) == [
        "01-04 write_off_used 1000 block=A", "01-04 write_off_tax 190 block=A",
        "01-04 write_off_overage 100 invoice=I", "01-04 write_off_tax 19 invoice=I",
    ]  # fmt: skip
    rest = case.does("receivable.written_off", 5, invoice_id="I", reason="r", tax_relief=False)
    assert told(rest) == ["01-05 write_off_overage 100 invoice=I", "01-05 write_off_tax_borne 19 invoice=I"]
    error = case.is_refused("receivable.written_off", 6, invoice_id="I", reason="r")
    assert (error.field, str(error)) == ("data.invoice_id", "invoice I has no open receivable")


def test_a_write_off_of_several_blocks_gives_up_the_oldest_first_in_one_currency() -> None:
    case = in_euro()
    for block_id, currency in (("A", "USD"), ("B", "USD")):
        case.buys(block_id, price="10.00", invoice_id="I", currency=currency)
    step = case.does("receivable.written_off", 3, invoice_id="I", amount="15.00", reason="r")
    assert [(m.kind, m.block_id, m.amount_minor) for m in step.decision.movements] == [
        ("write_off_unused", "A", 1000), ("write_off_unused", "B", 500),
    ]  # fmt: skip
    case.buys("C", price="10.00", invoice_id="I", currency="EUR")
    error = case.is_refused("receivable.written_off", 4, invoice_id="I", reason="r")
    assert (error.code, error.field, error.expected, error.found) == (
        "wrong_currency", "data.invoice_id", "an invoice in one currency", "I",
    )  # fmt: skip
    assert str(error) == "invoice I is in USD and EUR; write off its blocks"


def test_a_write_off_of_overage_is_of_its_currency_and_not_dated_before_its_invoice() -> None:
    case = in_euro(on_shortfall="overage")
    case.uses("2", 2, overage_price="1.00", currency="EUR")
    case.does("overage.billed", 10, invoice_id="V", amount="2.00", currency="EUR")
    assert told(case.does("receivable.written_off", 5, invoice_id="V", amount="0.50", reason="r")) == [
        "01-10 write_off_overage 50 currency=EUR functional=60 invoice=V"
    ]


def test_a_write_off_of_a_transferred_purchase_calls_its_credits_back() -> None:
    case = Case()
    case.buys("A", tax="1.90")
    case.does("credits.transferred", 3, block_id="A", to_customer="bob", new_block_id="N", credits="7")
    assert told(case.does("receivable.written_off", 4, block_id="N", reason="r")) == [
        "01-04 transfer_out 1000 block=N credits=7 customer=bob", "01-04 transfer_out -1000 block=A credits=-7",
        "01-04 write_off_unused 1000 block=A credits=7", "01-04 write_off_tax 190 block=A",
    ]  # fmt: skip
