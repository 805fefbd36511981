"""At most the received amount is owed back, whatever happens to a block, in any order.

A transfer leaves receivable, tax and payments with the bought block and its payer.
"""

from __future__ import annotations

from collections import Counter

from subledger.blocks import NO_PORTION, PAID, Block
from subledger.deciding.context import Context
from subledger.deciding.transferred import with_transferred
from subledger.kinds import KIND_BY_NAME, Effect
from subledger.wallet import Movement, Wallet
from tests.laws.case import Case, told
from tests.laws.walk import HOME, Walk
from tests.laws.walks import for_every_walk

_RECEIVED = ("cash", "processor_clearing")
_OWED = ("refunds_payable", "unclaimed_property", "customer_balance", "billed_elsewhere")
_PAID_BACK = ("refund_paid_processor", "refund_paid_cash", "escheat_remitted", "paid_elsewhere_processor",
              "paid_elsewhere_cash")  # fmt: skip
_OF_NOBODY = ("payout", "processor_adjustment", "exchange", "exchange_processor")


@for_every_walk
def test_no_more_is_owed_of_a_block_than_was_received_for_it(ledger: Walk) -> None:
    """The claim of a block (price and tax that are owed or paid) is never less than its open receivable."""
    for step in ledger.steps:
        context = Context(state=step.before, wallet_of=step.wallets.__getitem__)
        for wallet in step.wallets.values():
            for block in wallet.blocks:
                if block.credit_kind != PAID:
                    continue
                if block.origin is not None:
                    assert (block.claim_minor, block.receivable_minor, block.tax_minor) == (0, 0, 0), block
                    continue
                whole = with_transferred(block, wallet, context)
                assert block.claim_minor >= block.receivable_minor >= 0, block
                assert whole.recognised_minor >= block.conceded_minor >= 0, block
                assert whole.disposed.get("transferred", NO_PORTION)[:2] == (0, 0), block
                assert whole.remaining >= 0 <= whole.carrying_minor, block
                assert block.disputed_minor >= 0, block
                assert block.disputes or not block.disputed_minor, block


def _received_before(movement: Movement, wallet: Wallet) -> int:
    kind = KIND_BY_NAME[movement.kind]
    if kind.opens_block:
        return wallet.state_of_block(movement.block_id or "").claim_minor
    unpaid = kind.debit_role == "accounts_receivable" and movement.block_id is not None
    return movement.amount_minor * ((kind.credit_role in _OWED) - unpaid)


@for_every_walk
def test_what_is_owed_and_what_was_paid_out_never_exceed_what_a_customer_paid(ledger: Walk) -> None:
    """Compares, per currency, cash paid to a customer and amounts owed to the customer or to a state with cash
    received.

    A bank can withdraw money that was already paid back. This money is lost, but it is at most the amount paid back.
    """
    twice: Counter[tuple[str, str]] = Counter()
    paid_back: Counter[tuple[str, str]] = Counter()
    money: Counter[tuple[str, str]] = Counter()
    owed: Counter[tuple[str, str]] = Counter()
    for step in ledger.steps:
        for movement in step.decision.movements:
            kind, customer = KIND_BY_NAME[movement.kind], movement.customer or step.event.customer
            if customer is None or kind.is_exchange or movement.kind in _OF_NOBODY:
                continue
            key = (customer, movement.currency or HOME)
            if movement.kind == "dispute_lost_twice":
                twice[key] += movement.amount_minor
                continue
            if movement.kind in _PAID_BACK:
                paid_back[key] += abs(movement.amount_minor)
            if kind.opens_balance:  # its payments, and the amounts owed for it, were received before the cut-over
                money[key] += _received_before(movement, step.wallets[customer])
            for roles, sums, sign in ((_RECEIVED, money, 1), (("disputes_receivable",), money, 1), (_OWED, owed, -1)):
                if "fee" in movement.kind:
                    continue
                debited = kind.debit_role in roles or kind.debits_also in roles
                credited = kind.credit_role in roles or kind.credits_also in roles
                sums[key] += sign * movement.amount_minor * (debited - credited)
        assert all(money[key] >= owed[key] >= 0 for key in owed), (step.event, money, owed)
        assert all(twice[key] <= paid_back[key] for key in twice), (step.event, twice, paid_back)


@for_every_walk
def test_no_more_is_charged_back_of_a_payment_than_it_brought_in(ledger: Walk) -> None:
    """For a block or an invoice too: at most the amount paid for it, whether disputes name it or a payment."""
    paid: Counter[tuple[str | None, str | None]] = Counter()
    for step in ledger.steps:
        for movement in step.decision.movements:
            of, kind = (movement.block_id, movement.invoice_id), KIND_BY_NAME[movement.kind]
            if kind.effect in (Effect.APPLIES_PAYMENT, Effect.WINS_DISPUTE):
                paid[of] += movement.amount_minor
            elif kind.effect is Effect.OPENS_DISPUTE:
                paid[of] -= movement.amount_minor
        assert all(amount >= 0 for of, amount in paid.items() if of != (None, None)), (step.event, paid)
        for wallet in step.wallets.values():
            for document in wallet.documents:
                if document.document_kind == "payment" and not document.undone:
                    brought_in = sum(part.amount_minor for part in document.applied) + document.open_minor
                    brought_in += document.elsewhere_minor + document.paid_back_minor
                    assert sum(part.amount_minor for part in document.disputed) <= brought_in, document


def test_an_unpaid_history_ends_at_zero_everywhere_after_it_is_voided() -> None:
    case = Case()
    case.buys("A", price="10.00", tax="1.00")
    usage = case.uses("3", 2)
    case.does("credits.refunded", 3, block_id="A", credits="1")
    case.does("block.repriced", 4, block_id="A", add_price="-2.00", reason="r")
    case.takes_back(usage, 5)
    case.does("purchase.voided", 6, block_id="A", credits="2.5", reason="r")
    case.does("purchase.voided", 7, block_id="A", reason="r")
    roles: Counter[str] = Counter()
    for step in case.steps:
        for movement in step.decision.movements:
            kind = KIND_BY_NAME[movement.kind]
            roles[kind.debit_role or "-"] += movement.amount_minor
            roles[kind.credit_role or "-"] -= movement.amount_minor
    assert {role: amount for role, amount in roles.items() if amount} == {}
    assert case.is_refused("payment.refunded", 8, amount="0.01", currency="USD").code == "nothing_owed"


def test_what_was_paid_back_of_a_block_is_disputed_last_and_freezes_nothing() -> None:
    case = Case()
    case.buys("A", price="10.00")
    case.does("payment.received", 1, amount="10.00", currency="USD", block_id="A", payment_id="P", processor="cards")
    case.does("credits.refunded", 2, block_id="A", credits="3.5")
    case.does("payment.refunded", 3, payment_id="P", amount="5.00", currency="USD")
    assert told(case.does("dispute.opened", 4, dispute_id="D", payment_id="P")) == [
        "01-04 dispute_opened 500 block=A frozen=7 processor=cards",
        "01-04 dispute_opened 500 block=A given_back=True processor=cards",
    ]
    block = case.wallets["ann"].block("A")
    assert isinstance(block, Block)
    assert (block.received_minor, block.available, block.disputes) == (500, 0, 1)
    assert told(case.does("dispute.lost", 5, dispute_id="D")) == [
        "01-05 dispute_lost_unused 500 block=A credits=3.5",
        "01-05 dispute_lost_twice 500 block=A given_back=True",
    ]


def _paid(case: Case, block_id: str, amount: str, payment_id: str) -> None:
    case.buys(block_id, price=amount, credits="100")
    case.does(
        "payment.received", 2, amount=amount, currency="USD", block_id=block_id, payment_id=payment_id, processor="x"
    )


def test_unapplied_money_in_a_dispute_is_not_paid_back_meanwhile() -> None:
    case = Case()
    for payment_id, amount in (("P", "100.00"), ("Q", "50.00")):
        case.does("payment.received", 2, amount=amount, currency="USD", payment_id=payment_id, processor="x")
    case.does("dispute.opened", 3, dispute_id="D", payment_id="P")
    error = case.is_refused("payment.refunded", 4, amount="50.01", currency="USD")
    assert (error.code, error.expected) == ("nothing_owed", "at most 50.00")
    case.does("payment.refunded", 4, amount="50.00", currency="USD")
    assert told(case.does("dispute.opened", 5, dispute_id="E", payment_id="Q")) == [
        "01-05 dispute_opened 5000 given_back=True processor=x"
    ], "what is left of the balance is in the first dispute"
    case.does("dispute.won", 5, dispute_id="E")
    case.buys("A", 5, price="50.00", credits="50")
    applied = {"payment_id": "Q", "amount": "0.01", "currency": "USD", "block_id": "A"}
    assert case.is_refused("payment.applied", 5, **applied).code == "exceeds_payment", "it was paid back"
    case.does("dispute.won", 6, dispute_id="D", amount="60.00", currency="USD")
    assert case.is_refused("payment.refunded", 7, amount="60.01", currency="USD").code == "nothing_owed"
    case.does("payment.refunded", 7, amount="60.00", currency="USD")
    assert case.wallet("ann").balance_held == {}
    assert case.wallet("ann").standing("customer_balance", "USD")[0] == 0


def test_a_refund_that_names_nothing_pays_no_refund_that_a_dispute_holds() -> None:
    case = Case()
    _paid(case, "A", "100.00", "P")
    _paid(case, "B", "40.00", "Q")
    case.uses("60", 3, block_id="A")
    for block_id in ("A", "B"):
        case.does("credits.refunded", 4, block_id=block_id)
    case.does("dispute.opened", 5, dispute_id="D", payment_id="P")
    case.does("payment.refunded", 6, amount="40.00", currency="USD", refund_id="R", processor="x")
    assert case.is_refused("payment.refunded", 7, amount="0.01", currency="USD").code == "nothing_owed"
    assert [(r.block_id, r.amount_minor) for r in case.wallet("ann").refunds_owed] == [("A", 4000)]
    case.does("dispute.lost", 8, dispute_id="D")
    assert case.wallet("ann").refunds_owed == ()


def test_an_owed_refund_of_an_invoice_is_no_longer_disputed_once_a_part_of_it_is_lost() -> None:
    case = Case(on_shortfall="overage")
    case.uses("5", 1, overage_price="2.00", currency="USD")
    case.does("overage.billed", 2, invoice_id="V", amount="10.00", currency="USD")
    case.does("payment.received", 3, amount="10.00", currency="USD", invoice_id="V", payment_id="P")
    case.does("credit_memo.issued", 4, amount="10.00", currency="USD", invoice_id="V", reason="r")
    case.does("dispute.opened", 5, dispute_id="D", payment_id="P")
    case.does("dispute.lost", 6, dispute_id="D", amount="7.00", currency="USD")
    again = case.does("dispute.opened", 7, dispute_id="E", payment_id="P")
    assert told(again) == ["01-07 dispute_opened_cash 300 invoice=V"], "it is owed, and not given back yet"
    assert told(case.does("dispute.lost", 8, dispute_id="E")) == ["01-08 dispute_lost_refund 300 invoice=V"]


def test_an_invoice_in_a_dispute_is_not_conceded_meanwhile() -> None:
    case = Case(on_shortfall="overage")
    case.uses("100", 2, overage_price="1.00", currency="USD")
    case.does("overage.billed", 3, invoice_id="V", amount="100.00", currency="USD")
    case.does("payment.received", 4, amount="100.00", currency="USD", invoice_id="V", payment_id="P", processor="x")
    case.does("dispute.opened", 5, dispute_id="D", payment_id="P")
    memo = {"invoice_id": "V", "amount": "100.00", "currency": "USD", "reason": "r"}
    error = case.is_refused("credit_memo.issued", 6, **memo)
    assert (error.code, error.field, error.found) == ("block_disputed", "data.invoice_id", "V")
    case.does("dispute.lost", 8, dispute_id="D")
    assert case.is_refused("credit_memo.issued", 9, **memo).code == "exceeds_value"


def test_what_nobody_bought_is_neither_given_to_a_state_nor_conceded() -> None:
    case = Case()
    case.does("credits.granted", 1, block_id="G", credits="100", reason="goodwill", value="100.00", currency="USD")
    assert case.is_refused("credits.escheated", 2, block_id="G").code == "not_a_purchase"
    case.uses("100", 2)
    memo = {"block_id": "G", "amount": "100.00", "currency": "USD", "reason": "r"}
    assert case.is_refused("credit_memo.issued", 3, **memo).code == "not_a_purchase"


def test_what_prices_conceded_usage_again_leaves_it_at_what_was_conceded() -> None:
    case = Case()
    case.buys("A", credits="24", price="57.90")
    case.uses("1.75", 20)
    case.does("credit_memo.issued", 21, block_id="A", amount="4.22", currency="USD", reason="r")
    error = case.is_refused("block.repriced", 10, block_id="A", add_credits="7.416", reason="r")
    assert (error.code, error.field, error.found) == ("conceded", "data.block_id", "A")
    assert (error.expected, error.facts["conceded_by"]) == ("at most 0.00 USD of value", "credit_memo.issued e3")
    case.does("block.repriced", 20, block_id="A", add_credits="7.416", add_price="17.89", reason="r")


def test_usage_that_comes_back_takes_no_more_of_later_conceded_usage_with_it_than_is_free() -> None:
    case = Case()
    case.buys("A", credits="100", price="100.00")
    usage = case.uses("50", 10)
    case.does("block.repriced", 20, block_id="A", add_price="100.00", reason="r")
    case.uses("20", 30)  # for 60.00; for 40.00 if the 50 credits from before the repricing are returned
    case.does("credit_memo.issued", 31, block_id="A", amount="55.00", currency="USD", reason="r")
    back = {"event_id": usage.event.event_id, "reason": "r"}
    error = case.is_refused("consumption.reversed", 15, **back)
    assert (error.code, error.expected) == ("conceded", "at most 55.00 USD of value")
    case.takes_back(usage, 31)
    [block] = case.wallets["ann"].blocks
    assert (block.recognised_minor, block.conceded_minor) == (6000, 5500)
