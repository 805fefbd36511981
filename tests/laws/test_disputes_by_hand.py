"""Disputes with figures by hand, in euro at 1.20: the withdrawn parts, their order, and the loss of each."""

from __future__ import annotations

from typing import Any

import pytest

from subledger.billing_documents import Payment
from tests.laws.case import Case, in_euro, on, told
from tests.laws.walk import Step


def paid() -> Case:
    """100 credits for 100.00 and tax 10.00, of which 60 are used. One payment of 150.00 has these 110.00, 20.00 for
    invoices that are kept elsewhere, and 20.00 that are not applied. The credits expire on the 20th, and are then owed
    to a state.
    """
    case = in_euro()
    case.buys("A", 2, credits="100", price="100.00", tax="10.00", currency="EUR", expires_at=on(20).isoformat(),
              escheat_class="DE-3y")  # fmt: skip
    received = {"amount": "150.00", "currency": "EUR", "block_id": "A", "elsewhere": "20.00", "processor": "stripe"}
    case.does("payment.received", 3, **received, payment_id="P")
    case.uses("60", 4)
    return case


def expire(case: Case) -> None:
    assert case.own("x", "credits.expired", "ann", on(20), block_id="A")


def disputed(case: Case, day: int, **data: Any) -> list[str]:
    return in_short(case.does("dispute.opened", day, dispute_id="D", **data))


def in_short(step: Step) -> list[str]:
    """Returns the movements without the currency, and without the functional amount, which is at 1.20."""
    for movement in step.decision.movements:
        assert movement.currency == "EUR"
        assert abs(5 * (movement.functional_minor or 0) - 6 * movement.amount_minor) <= 3
    return [
        " ".join(word for word in line.split() if not word.startswith(("currency=", "functional=", "processor=stripe")))
        for line in told(step)
    ]


ALL = ["01-22 dispute_opened 2000", "01-22 dispute_opened 11000 block=A frozen=100",
       "01-22 dispute_opened 2000 elsewhere=True"]  # fmt: skip


@pytest.mark.parametrize(("of", "first"), [({"payment_id": "P"}, 3), ({"block_id": "A"}, 2)], ids=str)
def test_no_money_is_withdrawn_before_its_payment_was_received_or_its_block_bought(
    of: dict[str, str], first: int
) -> None:
    """The purchase is of the 2nd, and its payment of the 3rd. The fee is withdrawn with the money."""
    for day in (1, 2, 3, 4):
        step = paid().does("dispute.opened", day, dispute_id="D", **of, fee="5.00", currency="EUR")
        days = {movement.accounting_date for movement in step.decision.movements}
        assert days == {on(max(day, first)).date()}


def test_money_that_was_paid_before_its_purchase_is_withdrawn_on_its_own_day() -> None:
    case = Case()
    case.buys("A", 9, price="10.00")
    case.does("payment.received", 3, amount="10.00", currency="USD", block_id="A", processor="stripe", payment_id="P")
    for day, withdrawn in ((2, 3), (5, 5), (10, 10)):
        step = case.does("dispute.opened", day, dispute_id=f"D{day}", payment_id="P")
        assert [movement.accounting_date for movement in step.decision.movements] == [on(withdrawn).date()]
        case.undoes(step, day)


def test_a_lost_payment_takes_its_unapplied_part_what_is_a_states_used_value_and_tax_and_what_was_elsewhere() -> None:
    """No loss is dated before the dispute, and no loss is of a refund that is not owed."""
    case = paid()
    expire(case)
    assert disputed(case, 22, payment_id="P") == ALL
    lost = case.does("dispute.lost", 21, dispute_id="D")
    assert in_short(lost) == [
        "01-22 dispute_lost_balance 2000", "01-22 dispute_lost_unclaimed 4000 block=A",
        "01-22 dispute_lost_used 6000 block=A", "01-22 dispute_lost_tax 1000 block=A",
        "01-22 dispute_lost_elsewhere 2000 elsewhere=True",
    ]  # fmt: skip
    block = case.wallets["ann"].state_of_block("A")
    assert (block.unclaimed_minor, block.conceded_minor, block.disputed_minor, block.disputes) == (0, 6000, 0, 0)
    case.undoes(lost, 23)
    assert case.wallets["ann"].state_of_block("A").unclaimed_minor == 4000


def test_a_payment_that_is_won_in_part_comes_back_but_for_what_is_lost_first() -> None:
    """100.00 of 150.00 are won: the unapplied 20.00 and 30.00 of the state's 40.00 are lost."""
    case = paid()
    expire(case)
    assert disputed(case, 22, payment_id="P") == ALL
    won = {"amount": "100.00", "currency": "EUR", "fee": "3.00"}
    assert in_short(case.does("dispute.won", 21, dispute_id="D", **won)) == [
        "01-22 dispute_lost_balance 2000", "01-22 dispute_lost_unclaimed 3000 block=A",
        "01-22 dispute_won 8000 block=A", "01-22 dispute_won 2000 elsewhere=True", "01-21 dispute_fee 300",
    ]  # fmt: skip
    assert case.wallets["ann"].state_of_block("A").unclaimed_minor == 1000


def test_what_a_state_got_is_disputed_and_lost_last() -> None:
    """30.00 of the 40.00 were remitted, so the company still has 80.00 of the 110.00."""
    case = paid()
    expire(case)
    case.does("escheat.remitted", 21, block_id="A", amount="30.00", currency="EUR")
    assert disputed(case, 22, payment_id="P") == [
        "01-22 dispute_opened 2000", "01-22 dispute_opened 8000 block=A frozen=100",
        "01-22 dispute_opened 2000 elsewhere=True", "01-22 dispute_opened 3000 block=A given_back=True",
    ]  # fmt: skip
    assert in_short(case.does("dispute.lost", 22, dispute_id="D")) == [
        "01-22 dispute_lost_balance 2000", "01-22 dispute_lost_unclaimed 1000 block=A",
        "01-22 dispute_lost_used 6000 block=A", "01-22 dispute_lost_tax 1000 block=A",
        "01-22 dispute_lost_elsewhere 2000 elsewhere=True", "01-22 dispute_lost_twice 3000 block=A given_back=True",
    ]  # fmt: skip


def test_a_refund_that_is_owed_is_lost_before_the_block() -> None:
    """22.00 are owed for 20 credits. Of 60.00 lost, 18.00 are the block's: tax 18.00 × 10 / 110 = 1.64.

    The refund was owed from the 10th. The 16.36 of unused credits were there before.
    """
    case = paid()
    case.does("credits.refunded", 10, block_id="A", credits="20")
    assert disputed(case, 5, payment_id="P") == [line.replace("01-22", "01-05") for line in ALL]
    assert in_short(case.does("dispute.lost", 8, dispute_id="D", amount="60.00", currency="EUR")) == [
        "01-08 dispute_lost_balance 2000", "01-10 dispute_lost_refund 2200 block=A",
        "01-08 dispute_lost_unused 1636 block=A credits=16.360000000", "01-08 dispute_lost_tax 164 block=A",
        "01-08 dispute_won 7000 block=A", "01-08 dispute_won 2000 elsewhere=True",
    ]  # fmt: skip


def test_a_block_that_was_paid_through_two_processors_is_disputed_by_each() -> None:
    case = in_euro()
    case.buys("A", 2, credits="100", price="100.00", currency="EUR")
    for amount, processor in (("30.00", "stripe"), ("20.00", "adyen")):
        paid = {"amount": amount, "currency": "EUR", "processor": processor}
        case.does("payment.received", 3, **paid, block_id="A")
    error = case.is_refused("dispute.opened", 5, dispute_id="D", block_id="A")
    assert (error.code, error.field, error.message) == (
        "missing_field", "data.processor", "block A was paid through adyen and stripe",
    )  # fmt: skip
    assert error.expected == "the processor that withdrew the money, or the payment that is disputed"
    through = {"block_id": "A", "processor": "adyen"}
    assert disputed(case, 5, **through, amount="15.00") == [
        "01-05 dispute_opened 1500 block=A frozen=15.000000000 processor=adyen"
    ]
    case.does("dispute.won", 6, dispute_id="D")
    case.does("dispute.opened", 7, dispute_id="E", **through, amount="15.00")
    rest = case.does("dispute.opened", 7, dispute_id="F", **through)
    assert in_short(rest) == ["01-07 dispute_opened 500 block=A frozen=5.000000000 processor=adyen"]
    other = case.does("dispute.opened", 7, dispute_id="G", block_id="A")
    assert in_short(other) == ["01-07 dispute_opened 3000 block=A frozen=30.000000000"], "the only one left"


def test_money_that_was_paid_back_is_disputed_again_and_lost_twice() -> None:
    """Of 100.00 40.00 were refunded and paid back: a dispute, of the block or of the payment, is of the 60.00 first.

    A loss of 70.00 is 10.00 more than these.
    """
    case = in_euro()
    case.buys("A", 2, credits="100", price="100.00", currency="EUR")
    money = {"currency": "EUR", "block_id": "A", "processor": "stripe"}
    case.does("payment.received", 3, **money, amount="100.00", payment_id="P")
    case.does("credits.refunded", 5, block_id="A", credits="40")
    case.does("payment.refunded", 6, **money, amount="40.00")
    for what in ({"block_id": "A"}, {"payment_id": "P"}):
        step = case.does("dispute.opened", 7, dispute_id=f"D{what}", **what)
        assert in_short(step) == [
            "01-07 dispute_opened 6000 block=A frozen=100", "01-07 dispute_opened 4000 block=A given_back=True",
        ]  # fmt: skip
        assert in_short(case.does("dispute.lost", 8, dispute_id=f"D{what}", amount="70.00", currency="EUR")) == [
            "01-08 dispute_lost_unused 6000 block=A credits=60",
            "01-08 dispute_lost_twice 1000 block=A given_back=True",
            "01-08 dispute_won 3000 block=A given_back=True",
        ]
        case.undoes(case.steps[-1], 8)
        case.undoes(step, 8)


def test_transferred_credits_are_called_back_and_go_to_their_holder_again_as_far_as_they_are_not_lost() -> None:
    """90 of 100 credits are bob's. A dispute of half freezes 50: A has 10, so 40 come back. 20 are lost, with tax."""
    case = in_euro()
    case.buys("A", 2, credits="100", price="100.00", tax="10.00", currency="EUR")
    paid = {"amount": "110.00", "currency": "EUR", "processor": "stripe"}
    case.does("payment.received", 3, **paid, block_id="A", payment_id="P")
    for block_id, credits, day in (("B", "70", 4), ("C", "20", 6)):
        to_bob = {"to_customer": "bob", "new_block_id": block_id}
        case.does("credits.transferred", day, block_id="A", credits=credits, **to_bob)
    assert disputed(case, 7, payment_id="P", amount="55.00", currency="EUR") == [
        "01-07 dispute_opened 5500 block=A frozen=50.000000000",
        "01-07 transfer_out 4000 block=B credits=40.000000000 customer=bob",
        "01-07 transfer_out -4000 block=A credits=-40.000000000",
    ]
    assert in_short(case.does("dispute.lost", 5, dispute_id="D", amount="22.00", currency="EUR")) == [
        "01-07 dispute_lost_unused 2000 block=A credits=20.000000000", "01-07 dispute_lost_tax 200 block=A",
        "01-07 dispute_won 3300 block=A", "01-07 transfer_out 3000 block=A credits=30.000000000",
        "01-07 transfer_out -3000 block=B credits=-30.000000000 customer=bob",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("amount", "won", "freezes", "ends"),
    [
        # 5.00 of the 50.00 of B freeze a tenth of its credits.
        ("105.00", "105.00", ["8000 block=A frozen=100", "500 block=B frozen=10.000000000"],
         ["dispute_won 2000", "dispute_won 8000 block=A", "dispute_won 500 block=B"]),
        ("170.00", "100.00", ["8000 block=A frozen=100", "5000 block=B frozen=100", "2000 block=A given_back=True"],
         ["dispute_lost_balance 2000", "dispute_lost_unused 5000 block=A credits=50.000000000",
          "dispute_won 3000 block=A", "dispute_won 5000 block=B", "dispute_won 2000 block=A given_back=True"]),
        ("140.00", "30.00", ["8000 block=A frozen=100", "4000 block=B frozen=80.000000000"],
         ["dispute_lost_balance 2000", "dispute_lost_unused 8000 block=A credits=80",
          "dispute_lost_unused 1000 block=B credits=20.000000000", "dispute_won 3000 block=B"]),
    ],
)  # fmt: skip
def test_a_disputed_payment_freezes_each_block_that_it_paid_for_until_it_ends(
    amount: str, won: str, freezes: list[str], ends: list[str]
) -> None:
    """170.00 are for A of 100.00, B of 50.00, and 20.00 for nothing yet. 20.00 of A were refunded and paid back."""
    case = in_euro()
    for block_id, price in (("A", "100.00"), ("B", "50.00")):
        case.buys(block_id, 2, credits="100", price=price, currency="EUR", invoice_id="I", unit=block_id)
    money = {"currency": "EUR", "processor": "stripe"}
    case.does("payment.received", 3, **money, amount="170.00", invoice_id="I", payment_id="P")
    case.does("credits.refunded", 4, block_id="A", credits="20")
    case.does("payment.refunded", 5, **money, amount="20.00", block_id="A")
    opened = disputed(case, 6, payment_id="P", amount=amount)
    assert opened == [f"01-06 dispute_opened {part}" for part in ("2000", *freezes)]
    wallet = case.wallets["ann"]
    assert (wallet.free_balance("EUR"), [block.disputes for block in wallet.blocks]) == (0, [1, 1])
    assert [f"{block.frozen}" for block in wallet.blocks] == [line.rpartition("=")[2] for line in freezes[:2]]
    step = case.does("dispute.won", 8, dispute_id="D", amount=won, currency="EUR")
    assert in_short(step) == [f"01-08 {line}" for line in ends]
    wallet = case.wallets["ann"]
    free = 0 if "dispute_lost_balance 2000" in ends else 2000
    assert wallet.free_balance("EUR") == free
    assert wallet.state_of_document(Payment, "P").open_minor == free
    assert [(b.disputes, b.frozen, b.disputed_minor, b.breakable_from) for b in wallet.blocks] == [
        (0, 0, 0, on(8).date())
    ] * 2
