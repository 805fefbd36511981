"""Several currencies, by hand: functional amounts, exchange differences and remeasurement, movement by movement."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.laws.case import Case, in_euro, on, told

EURO = {"currency": "EUR"}


def sets_rate(case: Case, day: int, rate: str) -> None:
    case.does("exchange_rate.set", day, None, base="EUR", quote="USD", rate=rate, rate_source="ECB")


def test_money_that_comes_in_moves_and_goes_leaves_its_differences_behind() -> None:
    """A block for 10.00 EUR at 1.20 is paid at 1.30 and at 1.10. Parts are paid out, disputed, lost and paid back."""
    case = in_euro()
    case.buys("A", credits="10", **EURO)
    sets_rate(case, 5, "1.3")
    paid = {"block_id": "A", **EURO}
    assert told(case.does("payment.received", 6, amount="4.00", processor="x", payment_id="P", **paid)) == [
        "01-06 payment_processor 400 block=A currency=EUR functional=520 processor=x",
        "01-06 fx_settlement_accounts_receivable 0 block=A currency=EUR functional=40 processor=x",
    ]
    sets_rate(case, 7, "1.1")
    assert told(case.does("payment.received", 8, amount="9.00", **paid)) == [
        "01-08 payment_cash 600 block=A currency=EUR functional=660",
        "01-08 fx_settlement_accounts_receivable 0 block=A currency=EUR functional=-60",
        "01-08 unapplied_cash 300 currency=EUR functional=330",
    ]
    assert told(case.does("payout.settled", 9, None, processor="x", payout_id="O", amount="4.00", **EURO)) == [
        "01-09 payout 400 currency=EUR functional=520 processor=x"
    ]
    assert told(case.does("dispute.opened", 10, dispute_id="D", payment_id="P")) == [
        "01-10 dispute_opened 400 block=A currency=EUR frozen=4.000000000 functional=440 processor=x"
    ]
    sets_rate(case, 11, "1.4")
    assert told(case.does("dispute.lost", 12, dispute_id="D")) == [
        "01-12 dispute_lost_unused 400 block=A credits=4.000000000 currency=EUR functional=480",
        "01-12 fx_settlement_disputes_receivable 0 block=A currency=EUR functional=40",
    ]
    assert told(case.does("payment.refunded", 13, amount="3.00", **EURO)) == [
        "01-13 balance_refunded 300 currency=EUR functional=330",
        "01-13 refund_paid_cash 300 currency=EUR functional=330",
        "01-13 fx_settlement_cash 0 currency=EUR functional=-18",
    ]


def test_value_leaves_a_block_and_comes_back_at_the_rate_of_its_purchase() -> None:
    """10.00 EUR for 7 credits at 1.20 are 12.00. Later rates do not change this."""
    case = in_euro()
    case.buys("A", credits="7", **EURO)
    sets_rate(case, 5, "1.3")
    usage = case.uses("3", 6)
    assert told(usage) == ["01-06 consumption 429 block=A credits=3 currency=EUR functional=514"]
    assert told(case.takes_back(usage, 7, credits="1")) == [
        "01-07 consumption -143 block=A credits=-1 currency=EUR functional=-171"
    ]
    assert told(case.takes_back(usage, 7)) == ["01-07 consumption -286 block=A credits=-2 currency=EUR functional=-343"]
    lowered = case.does("block.repriced", 8, block_id="A", add_credits="-1", add_price="-2.00", reason="r")
    assert told(lowered) == ["01-08 repricing -200 block=A credits=-1 currency=EUR functional=-240"]
    added = case.does("block.repriced", 8, block_id="A", add_credits="2", reason="r")
    assert told(added) == ["01-08 repricing 0 block=A credits=2 currency=EUR functional=0"]
    assert told(case.does("purchase.voided", 9, block_id="A", credits="2", reason="r")) == [
        "01-09 void_unpaid 200 block=A credits=2 currency=EUR functional=240"
    ]
    sent = case.does("credits.transferred", 10, block_id="A", to_customer="bob", new_block_id="B", credits="3")
    assert told(sent) == [
        "01-10 transfer_out 300 block=A credits=3 currency=EUR functional=360",
        "01-10 transfer_in 300 block=B credits=3 currency=EUR customer=bob functional=360",
    ]


def test_overage_is_invoiced_at_its_carrying_amount_and_a_purchase_that_pays_for_it_relieves_it() -> None:
    case = in_euro(on_shortfall="overage")
    case.uses("5", 2, overage_price="1.00", **EURO)
    sets_rate(case, 3, "1.3")
    assert told(case.does("overage.billed", 4, amount="3.00", invoice_id="I", **EURO)) == [
        "01-04 overage_billed 300 credits=3.000000000 currency=EUR functional=360 invoice=I overage=2"
    ]
    sets_rate(case, 5, "1.1")
    assert told(case.does("payment.received", 6, amount="3.00", invoice_id="I", **EURO)) == [
        "01-06 payment_cash 300 currency=EUR functional=330 invoice=I",
        "01-06 fx_settlement_accounts_receivable 0 currency=EUR functional=-30 invoice=I",
    ]
    case = in_euro(on_shortfall="backfill")
    case.uses("3", 2, overage_price="1.00", **EURO)
    assert told(case.buys("A", 3, **EURO)) == [
        "01-03 purchase 1000 block=A credits=7 currency=EUR functional=1200",
        "01-03 overage_backfilled 300 block=A credits=3 currency=EUR functional=359 overage=2",
        "01-03 fx_settlement_unbilled_receivable 0 block=A currency=EUR functional=-1",
        "01-03 backfill_difference 129 block=A currency=EUR functional=155 overage=2",
    ]


@pytest.mark.parametrize(("paid", "settled"), [(None, None), ("4.00", -40), ("10.00", -100), ("12.00", -100)])
def test_a_part_that_was_settled_before_the_close_has_its_difference_in_the_month_in_which_it_arose(
    paid: str | None, settled: int | None
) -> None:
    """10.00 EUR are bought at 1.20. The rate is 1.30 at the end of January. A part is paid in February, before January
    is closed.
    """
    case = in_euro()
    case.buys("A", credits="10", **EURO)
    sets_rate(case, 31, "1.3")
    if paid is not None:
        case.does("payment.received", 33, amount=paid, block_id="A", processor="x", **EURO)
    last = on(32) - timedelta(hours=13)
    remeasured = case.own("m", "balances.remeasured", "ann", last, period="2026-01")
    assert remeasured is not None
    corrected = f"02-01 fx_settlement_accounts_receivable 0 block=A currency=EUR functional={settled}"
    assert told(remeasured) == [
        "01-31 fx_remeasurement_accounts_receivable 0 block=A currency=EUR functional=100",
        *([] if settled is None else [corrected]),
    ]


def test_money_of_the_ledger_is_remeasured_by_its_processor() -> None:
    case = in_euro()
    case.does("payment.received", 2, amount="5.00", processor="x", **EURO)
    case.does("payment.received", 2, amount="3.00", **EURO)
    sets_rate(case, 31, "1.1")
    last = on(32) - timedelta(hours=13)
    remeasured = case.own("m", "balances.remeasured", None, last, period="2026-01")
    assert remeasured is not None
    assert told(remeasured) == [
        "01-31 fx_remeasurement_cash 0 currency=EUR functional=-30",
        "01-31 fx_remeasurement_processor_clearing 0 currency=EUR functional=-50 processor=x",
    ]


def test_a_refundable_block_is_carried_at_nothing_on_the_days_on_which_it_has_no_credits() -> None:
    """Bought at 1.20, all used on 5 February and taken back on 1 March; then January is closed, at 1.30.

    Until 4 February the 10.00 EUR are carried at 13.00. From 5 to 28 February there are no credits, so no value.
    """
    case = in_euro()
    case.buys("A", credits="10", refundable=True, **EURO)
    sets_rate(case, 31, "1.3")
    case.takes_back(case.uses("10", 36), 60)
    case.does("payment.received", 1, amount="10.00", block_id="A", **EURO)
    last = on(32) - timedelta(hours=13)
    remeasured = case.own("m", "balances.remeasured", "ann", last, period="2026-01")
    assert remeasured is not None
    assert told(remeasured) == [
        "01-31 fx_remeasurement_prepaid_liability 0 block=A currency=EUR functional=-100",
        "02-05 fx_settlement_prepaid_liability 0 block=A currency=EUR functional=100",
        "03-01 fx_settlement_prepaid_liability 0 block=A currency=EUR functional=-100",
    ]
    [block] = case.wallets["ann"].blocks
    assert (block.carrying_minor, block.carrying_functional) == (1000, 1300)
