"""Payments with figures by hand: money for invoices kept elsewhere, the order of refunds, and overage."""

from __future__ import annotations

from typing import Any

import pytest

from subledger.billing_documents import DocumentPart, Invoice, Payment
from tests.laws.case import Case, in_euro, on, told


def paid() -> Case:
    """A payment of 45.00 EUR on the 3rd: 10.00 for A, 20.00 for invoices kept elsewhere, 15.00 not applied yet.

    Another payment has 5.00 not applied. 4.00 of A are owed back since the 6th.
    """
    case = in_euro()
    case.buys("A", 2, credits="10", price="10.00", currency="EUR")
    money = {"currency": "EUR", "processor": "stripe"}
    step = case.does("payment.received", 3, **money, amount="45.00", block_id="A", payment_id="P", elsewhere="20.00")
    assert told(step) == [
        "01-03 paid_elsewhere_processor 2000 currency=EUR functional=2400 processor=stripe",
        "01-03 payment_processor 1000 block=A currency=EUR functional=1200 processor=stripe",
        "01-03 unapplied_processor 1500 currency=EUR functional=1800 processor=stripe",
    ]
    case.does("payment.received", 5, currency="EUR", amount="5.00", payment_id="Q")
    case.does("credits.refunded", 6, block_id="A", credits="4")
    return case


BY_CARD = " currency=EUR functional={} processor=stripe"
REFUND = "01-06 refund_paid_processor 400 block=A" + BY_CARD.format(480)


@pytest.mark.parametrize(
    ("data", "movements"),
    [
        # The refund comes first, although it is owed only from the 6th; then the unapplied part; then the part for
        # invoices elsewhere.
        ({"amount": "4.00"}, [REFUND]),
        ({"amount": "9.00"},
         [REFUND, "01-04 balance_refunded 500 currency=EUR functional=600",
          "01-04 refund_paid_processor 500" + BY_CARD.format(600)]),
        ({"amount": "39.00"},
         [REFUND, "01-04 balance_refunded 1500 currency=EUR functional=1800",
          "01-04 refund_paid_processor 1500" + BY_CARD.format(1800),
          "01-04 paid_elsewhere_processor -2000" + BY_CARD.format(-2400)]),
        ({"amount": "7.00", "elsewhere": "3.00"},
         [REFUND, "01-04 paid_elsewhere_processor -300" + BY_CARD.format(-360)]),
        ({"amount": "3.00", "elsewhere": "3.00"}, ["01-04 paid_elsewhere_processor -300" + BY_CARD.format(-360)]),
    ],
)  # fmt: skip
def test_a_payment_goes_back_as_refunds_then_what_is_unapplied_then_what_was_for_invoices_kept_elsewhere(
    data: dict[str, Any], movements: list[str]
) -> None:
    assert told(paid().does("payment.refunded", 4, currency="EUR", payment_id="P", **data)) == movements


@pytest.mark.parametrize(
    ("data", "facts", "words"),
    [
        ({"payment_id": "P", "amount": "39.01"}, ("nothing_owed", "data.amount", "at most 19.00", "19.01"),
         "the refund exceeds the amount owed to the customer (19.00 EUR)"),
        ({"payment_id": "P", "amount": "30.00", "elsewhere": "20.01"},
         ("exceeds_payment", "data.elsewhere", "at most 20.00", "20.01"),
         "the amount exceeds what the payment brought in for invoices that are kept elsewhere (20.00 EUR)"),
        ({"payment_id": "P", "block_id": "A", "amount": "4.01"},
         ("nothing_owed", "data.amount", "at most 4.00", "4.01"),
         "the refund exceeds the amount owed to the customer (4.00 EUR)"),
        ({"amount": "24.01"}, ("nothing_owed", "data.amount", "at most 24.00", "24.01"),
         "the refund exceeds the amount owed to the customer (24.00 EUR)"),
    ],
)  # fmt: skip
def test_no_more_goes_back_than_what_is_named_brought_in(
    data: dict[str, Any], facts: tuple[str, str, str, str], words: str
) -> None:
    error = paid().is_refused("payment.refunded", 7, currency="EUR", **data)
    assert (error.code, error.field, error.expected, error.found, error.message) == (*facts, words)


def test_overage_is_billed_and_backfilled_with_its_product_and_dimensions() -> None:
    """3 credits are used at 1.00 each. An invoice of 1.00 is for one of them, with its product and department.

    The purchase pays for the other two, at its price of 10.00 / 20.
    """
    lab, sales = {"department": "lab"}, {"department": "sales"}
    stated = 'dimensions={"department":"lab"} '
    for own, of_usage in ((sales, stated), (lab, "")):  # those of the block itself are not stated again
        case = Case(on_shortfall="backfill", dimensions=("department",))
        case.uses("3", 5, product="api", overage_price="1.00", currency="USD", dimensions=lab)
        assert told(case.does("overage.billed", 3, invoice_id="I", amount="1.00", currency="USD")) == [
            f"01-05 overage_billed 100 credits=1.000000000 {stated}invoice=I overage=1 product=api"
        ]
        assert told(case.buys("A", 4, credits="20", dimensions=own)) == [
            "01-04 purchase 1000 block=A credits=20",
            f"01-05 overage_backfilled 200 block=A credits=2.000000000 {of_usage}overage=1 product=api",
            f"01-05 backfill_difference -100 block=A {of_usage}overage=1 product=api",
        ]


def test_a_payment_remembers_what_it_was_applied_to_and_what_went_back_of_it() -> None:
    case = paid()
    case.does("payment.refunded", 7, currency="EUR", payment_id="P", amount="24.00", elsewhere="5.00")
    applied, returned = (DocumentPart(block_id="A", amount_minor=amount) for amount in (1000, 400))
    assert case.wallets["ann"].document(Payment, "P") == Payment(
        payment_id="P", currency="EUR", processor="stripe", applied=(applied,), returned=(returned,), open_minor=0,
        elsewhere_minor=1500, paid_back_minor=2000, received_on=on(3).date(),
    )  # fmt: skip


def test_a_payment_of_a_later_purchase_is_applied_on_the_day_of_the_purchase() -> None:
    case = in_euro()
    case.buys("C", 20, price="3.00", currency="EUR")
    data = {"currency": "EUR", "processor": "stripe", "block_id": "C"}
    assert told(case.does("payment.received", 9, **data, amount="4.00", payment_id="S")) == [
        "01-09 unapplied_processor 400 currency=EUR functional=480 processor=stripe",
        "01-20 payment_applied 300 block=C currency=EUR functional=360",
    ]
    assert case.wallets["ann"].document(Payment, "S") == Payment(
        payment_id="S", currency="EUR", processor="stripe", open_minor=100, received_on=on(9).date(),
        applied=(DocumentPart(block_id="C", amount_minor=300),),
    )  # fmt: skip


def test_opened_documents_have_what_the_event_states() -> None:
    case = Case()
    money = {"currency": "USD", "amount": "3.00"}
    due = {"price": "5.00", "due_at": on(32).isoformat()}
    for invoice_id, data in (("V", due), ("W", {})):
        opening = {"role": "accounts_receivable", **money, "invoice_id": invoice_id, "tax": "0.50", **data}
        case.does("balance.opened", 4, **opening)
    case.does("balance.opened", 4, role="customer_balance", **money, payment_id="P", processor="stripe")
    wallet, day = case.wallets["ann"], on(4).date()
    terms = {"currency": "USD", "tax_minor": 50, "receivable_minor": 300, "invoiced_on": day}
    assert wallet.document(Invoice, "V") == Invoice(invoice_id="V", **terms, billed_minor=500, due_at=on(32))
    assert wallet.document(Invoice, "W") == Invoice(invoice_id="W", **terms, billed_minor=250)
    assert wallet.document(Payment, "P") == Payment(
        payment_id="P", currency="USD", processor="stripe", open_minor=300, received_on=day
    )
