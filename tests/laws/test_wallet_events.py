"""Laws of a wallet after an event: blocks, overages and documents in full, in ledgers made for the case."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from msgspec.structs import replace

from subledger.availability import Change, Portion
from subledger.billing_documents import Dispute, DocumentPart, Invoice, Overage, Payment
from subledger.blocks import Block, Segment
from subledger.errors import IntegrityFault
from subledger.evolving import apply_movement, evolve
from subledger.lapses import Lapse
from subledger.wallet import Movement, Wallet
from tests.laws.case import UNTIL_FEBRUARY, Case, in_euro, on, told
from tests.laws.walk import Step

# --- a wallet after an event -----------------------------------------------------------------------------


def after(step: Step, customer: str = "ann") -> Wallet:
    return step.wallets[customer]


def test_a_purchase_leaves_the_block_that_its_event_describes() -> None:
    case = in_euro()
    step = case.buys(
        "A",
        5,
        credits="6",
        bonus_credits="1.5",
        unit="token",
        currency="EUR",
        price="10.00",
        tax="1.90",
        priority=7,
        starts_at="2026-01-06T00:00:00Z",
        expires_at="2026-06-01T00:00:00Z",
        scope=["api", "chat"],
        pool="p",
        escheat_class="DE-3y",
        invoice_id="I",
    )
    expected = Block(
        block_id="A",
        credit_kind="paid",
        unit="token",
        credits=Decimal("7.5"),
        price_minor=1000,
        currency="EUR",
        rate=Decimal("1.2"),
        price_functional=1200,
        starts_at=datetime(2026, 1, 6, tzinfo=UTC),
        expires_at=datetime(2026, 6, 1, tzinfo=UTC),
        priority=7,
        scope=("api", "chat"),
        pool="p",
        cohort="2026-01",
        escheat_class="DE-3y",
        invoice_id="I",
        opened_at_position=2,
        opened_on=date(2026, 1, 5),
        losses_from=date(2026, 1, 5),
        tax_minor=190,
        taxed_minor=1000,
        receivable_minor=1190,
    )
    assert after(step).blocks == (expected,)
    plain = case.buys("B", 6, refundable=True)
    assert after(plain).block("B") == Block(
        block_id="B",
        credit_kind="paid",
        unit="credit",
        credits=Decimal(7),
        price_minor=1000,
        currency="USD",
        starts_at=on(6),
        refundable=True,
        refundable_apart=True,
        opened_at_position=3,
        opened_on=date(2026, 1, 6),
        losses_from=date(2026, 1, 6),
        receivable_minor=1000,
    )


def test_a_grant_leaves_a_block_that_nobody_owes_anything_for() -> None:
    case = in_euro()
    given = case.does(
        "credits.granted",
        5,
        block_id="G",
        credits="4",
        reason="goodwill",
        value="2.00",
        currency="EUR",
        priority=3,
        scope=["api"],
        expires_at="2026-06-01T00:00:00Z",
    )
    assert after(given).blocks == (
        Block(
            block_id="G",
            credit_kind="goodwill",
            unit="credit",
            credits=Decimal(4),
            price_minor=200,
            currency="EUR",
            rate=Decimal("1.2"),
            price_functional=240,
            starts_at=on(5),
            expires_at=datetime(2026, 6, 1, tzinfo=UTC),
            priority=3,
            scope=("api",),
            opened_at_position=2,
            opened_on=date(2026, 1, 5),
            losses_from=date(2026, 1, 5),
        ),
    )
    free = case.does("credits.granted", 6, block_id="P", credits="4", reason="promotional", starts_at=on(9).isoformat())
    assert after(free).block("P") == Block(
        block_id="P",
        credit_kind="promotional",
        unit="credit",
        credits=Decimal(4),
        price_minor=0,
        currency="USD",
        starts_at=on(9),
        opened_at_position=3,
        opened_on=date(2026, 1, 6),
        losses_from=date(2026, 1, 6),
    )


def test_a_transfer_leaves_the_terms_with_the_new_customer_and_nothing_to_be_paid() -> None:
    case = in_euro()
    case.buys("A", 5, currency="EUR", pool="p", priority=7, scope=["api"], expires_at="2026-06-01T00:00:00Z")
    step = case.does("credits.transferred", 6, block_id="A", to_customer="bob", new_block_id="N", credits="3")
    assert after(step, "bob").blocks == (
        Block(
            block_id="N",
            credit_kind="paid",
            unit="credit",
            credits=Decimal(3),
            price_minor=429,
            currency="EUR",
            rate=Decimal("1.2"),
            price_functional=515,
            starts_at=on(5),
            expires_at=datetime(2026, 6, 1, tzinfo=UTC),
            priority=7,
            scope=("api",),
            pool="p",
            cohort="2026-01",
            opened_at_position=3,
            opened_on=date(2026, 1, 6),
            losses_from=date(2026, 1, 6),
            origin="A",
            payer="ann",
        ),
    )
    [old] = after(step).blocks
    assert old.handed == (("N", "bob"),)
    assert (old.disposed, old.receivable_minor) == ({"transferred": (Decimal(3), 429, 515)}, 1000)


def test_a_repricing_starts_a_segment_of_what_was_left_and_what_is_added() -> None:
    case = in_euro()
    case.buys("A", 5, currency="EUR", tax="1.90")
    case.uses("3", 6)
    case.does("exchange_rate.set", 7, None, base="EUR", quote="USD", rate="1.3", rate_source="ECB")
    step = case.does("block.repriced", 8, block_id="A", add_credits="2", add_price="5.00", reason="r")
    [now] = after(step).blocks
    assert now.segment == Segment(
        credits=Decimal(6),
        price_minor=1071,
        price_functional=686 + 650,
        used=Decimal(3),
        drawn_minor=429,
        drawn_functional=514,
        since=on(8),
        day=date(2026, 1, 8),
        added=Portion(Decimal(2), 500, 650),
    )
    assert (now.credits, now.price_minor, now.price_functional) == (9, 1500, 1850)
    assert (now.tax_minor, now.taxed_minor, now.receivable_minor) == (285, 1500, 1785)
    assert now.losses_from == date(2026, 1, 5), "usage of before the repricing is dated as it happened"
    [opening] = now.earlier
    assert (opening.since, opening.credits, opening.price_minor, opening.used) == (None, 7, 1000, 0)
    assert opening.days == (Change(date(2026, 1, 6), Decimal(3), 429, 514),)
    less = case.does("block.repriced", 9, block_id="A", add_price="-2.00", reason="r")
    [now] = after(less).blocks
    assert (now.tax_minor, now.taxed_minor, now.price_minor, now.receivable_minor) == (247, 1300, 1300, 1547)
    assert now.segment is not None
    assert (now.segment.credits, now.segment.price_minor) == (6, 871)
    untaxed = case.buys("B", 9)
    assert after(untaxed).block("B").taxed_minor == 0
    untaxed = case.does("block.repriced", 10, block_id="B", add_price="5.00", reason="r")
    assert after(untaxed).block("B").taxed_minor == 0


def expires(case: Case, day: int, at: datetime | None) -> Step:
    """Moves the expiry of block A."""
    moment = None if at is None else at.isoformat()
    return case.does("block.expiry_changed", day, block_id="A", expires_at=moment, reason="r")


def test_an_expiry_and_its_change_leave_what_expired_and_when() -> None:
    case = Case()
    case.buys("A", **UNTIL_FEBRUARY)
    case.uses("3", 5)
    [now] = after(case.expires("A")).blocks
    assert (now.expired, now.last_breakage_date, now.disposed) == (True, date(2026, 1, 31), {"expired": (4, 571, 0)})
    assert now.losses_from == date(2026, 1, 1)
    [still] = after(
        case.does("block.expiry_changed", 40, block_id="A", expires_at=on(39).isoformat(), reason="r")
    ).blocks
    assert (still.expired, still.expires_at, still.disposed) == (True, on(39), now.disposed)
    [back] = after(
        case.does("block.expiry_changed", 41, block_id="A", expires_at=on(50).isoformat(), reason="r")
    ).blocks
    assert (back.expired, back.expires_at, back.disposed) == (False, on(50), {"expired": (0, 0, 0)})
    assert (back.losses_from, back.last_breakage_date) == (date(2026, 1, 1), date(2026, 1, 31))
    assert back.changes == (
        Change(date(2026, 1, 5), Decimal(-3), -429),
        Change(date(2026, 1, 31), Decimal(-4), -571),
        Change(date(2026, 2, 10), Decimal(4), 571),
    )
    assert back.lapses == (Lapse(date(2026, 1, 31), date(2026, 2, 10), Decimal(4), 571, 0),)
    assert back.breakable_from == date(2026, 2, 10)
    [never] = after(expires(case, 42, None)).blocks
    assert (never.expired, never.expires_at) == (False, None)


def test_an_expiry_moved_to_the_very_moment_has_passed() -> None:
    case = Case()
    case.buys("A", **UNTIL_FEBRUARY)
    case.expires("A")
    [now] = after(expires(case, 40, on(40))).blocks
    assert (now.expired, now.disposed) == (True, {"expired": (7, 1000, 0)})


def test_an_early_escheat_breaks_the_block_and_does_not_expire_it() -> None:
    case = in_euro()
    case.buys("A", currency="EUR", **UNTIL_FEBRUARY)
    case.uses("3", 5)
    case.does("payment.received", 6, amount="10.00", currency="EUR", block_id="A")
    [now] = after(case.does("credits.escheated", 8, block_id="A")).blocks
    assert (now.expired, now.last_breakage_date, now.disposed) == (
        False,
        date(2026, 1, 8),
        {"escheated": (4, 571, 686)},
    )
    for type, amount, total in (("escheat.reclaimed", "1.00", 100), ("escheat.remitted", "1.50", 250)):
        [now] = after(case.does(type, 9, block_id="A", amount=amount, currency="EUR")).blocks
        assert now.claimed_minor == total


# --- documents ------------------------------------------------------------------------------------------------------


def test_a_payment_remembers_what_it_was_for_and_what_is_open() -> None:
    case = Case()
    case.buys("A", invoice_id="I")
    case.buys("B", invoice_id="I", price="4.00")
    got = case.does(
        "payment.received",
        5,
        amount="20.00",
        currency="USD",
        invoice_id="I",
        payment_id="P",
        processor="cards",
        fee="0.30",
    )
    parts = (DocumentPart(block_id="A", amount_minor=1000), DocumentPart(block_id="B", amount_minor=400))
    paid = Payment(
        payment_id="P", currency="USD", processor="cards", applied=parts, open_minor=600, received_on=date(2026, 1, 5)
    )
    assert after(got).documents == (paid,)
    case.buys("C", 6, price="5.00")
    more = case.does("payment.applied", 7, payment_id="P", amount="2.50", currency="USD", block_id="C")
    paid = replace(paid, applied=(*parts, DocumentPart(block_id="C", amount_minor=250)), open_minor=350)
    assert after(more).documents == (paid,)
    back = case.does("payment.refunded", 8, payment_id="P", amount="3.00", currency="USD")
    assert after(back).documents == (replace(paid, open_minor=50, paid_back_minor=300),)
    other = case.does("payment.refunded", 8, amount="0.20", currency="USD")
    assert after(other).documents == (replace(paid, open_minor=50, paid_back_minor=300),)
    cash = case.does("payment.received", 9, amount="2.00", currency="USD", block_id="C", payment_id="Q")
    assert after(cash).document(Payment, "Q") == Payment(
        payment_id="Q",
        currency="USD",
        applied=(DocumentPart(block_id="C", amount_minor=200),),
        received_on=date(2026, 1, 9),
    )
    nameless = case.does("payment.received", 9, amount="2.00", currency="USD")
    assert after(nameless).documents == after(cash).documents


def test_an_invoice_of_overage_remembers_what_was_billed_taxed_paid_conceded_and_disputed() -> None:
    case = Case(on_shortfall="overage")
    case.uses("3", 5, overage_price="2.00", currency="USD", product="api")
    billed = case.does("overage.billed", 6, invoice_id="V", amount="5.00", currency="USD", tax="0.95")
    invoice = Invoice(
        invoice_id="V",
        currency="USD",
        billed_minor=500,
        tax_minor=95,
        receivable_minor=595,
        invoiced_on=date(2026, 1, 6),
    )
    assert after(billed).documents == (invoice,)
    [usage] = after(billed).overages
    assert usage == Overage(
        position=1,
        unit="credit",
        product="api",
        price=Decimal(2),
        currency="USD",
        credits=Decimal(3),
        amount_minor=600,
        accounting_date=date(2026, 1, 5),
        settled=Decimal("2.5"),
        settled_minor=500,
        settled_by=("V",),
    )
    conceded = case.does("credit_memo.issued", 7, invoice_id="V", amount="1.00", currency="USD", tax="0.19", reason="r")
    invoice = replace(invoice, conceded_minor=100, tax_taken_minor=19, receivable_minor=476)
    assert after(conceded).documents == (invoice,)
    paid = case.does("payment.received", 8, amount="4.00", currency="USD", invoice_id="V", payment_id="P")
    invoice = replace(invoice, receivable_minor=76)
    assert after(paid).document(Invoice, "V") == invoice
    disputed = case.does("dispute.opened", 9, dispute_id="D", payment_id="P")
    assert after(disputed).document(Invoice, "V") == replace(invoice, disputed_minor=400)
    dispute = Dispute(
        dispute_id="D",
        currency="USD",
        payment_id="P",
        parts=(DocumentPart(invoice_id="V", amount_minor=400),),
        opened_on=date(2026, 1, 9),
        from_bank=True,
    )
    assert after(disputed).document(Dispute, "D") == dispute
    won = case.does("dispute.won", 10, dispute_id="D")
    assert after(won).document(Invoice, "V") == invoice
    assert after(won).document(Dispute, "D") == replace(dispute, decided="won")


def test_a_dispute_freezes_its_block_until_it_is_decided_and_what_is_lost_is_given_up() -> None:
    case = in_euro()
    case.buys("A", price="10.00", tax="1.00", currency="EUR")
    case.uses("4.2", 5)
    case.does("payment.received", 6, amount="11.00", currency="EUR", block_id="A", payment_id="P", processor="cards")
    opened = case.does("dispute.opened", 7, dispute_id="D", payment_id="P", fee="15.00", currency="EUR")
    [now] = after(opened).blocks
    assert (now.disputes, now.disputed_minor, now.receivable_minor) == (1, 1100, 0)
    dispute = Dispute(
        dispute_id="D",
        currency="EUR",
        processor="cards",
        payment_id="P",
        parts=(DocumentPart(block_id="A", amount_minor=1100),),
        opened_on=date(2026, 1, 7),
        frozen=(("A", Decimal(7)),),
    )
    assert after(opened).document(Dispute, "D") == dispute
    lost = case.does("dispute.lost", 8, dispute_id="D")
    [now] = after(lost).blocks
    assert (now.disputes, now.disputed_minor, now.given_up_minor) == (0, 0, 1100)
    assert (now.tax_taken_minor, now.tax_reversed_minor) == (100, 0)
    assert now.disposed == {"charged_back": (Decimal("2.8"), 400, 480)}
    assert (now.conceded_minor, now.losses_from) == (600, date(2026, 1, 1))
    assert after(lost).document(Dispute, "D") == replace(dispute, decided="lost")
    case.buys("B", 9, unit="token", currency="EUR")
    case.does("payment.received", 9, amount="10.00", currency="EUR", block_id="B", processor="cards")
    case.does("dispute.opened", 9, dispute_id="E", block_id="B")
    won = after(case.does("dispute.won", 10, dispute_id="E")).block("B")
    assert won is not None
    assert (won.disputes, won.disputed_minor) == (0, 0)


def test_a_write_off_gives_value_and_tax_up_and_takes_them_from_the_receivable() -> None:
    for relief in (True, False):
        case = Case()
        case.buys("A", price="10.00", tax="1.00")
        case.uses("4.2", 5)
        written = case.does("receivable.written_off", 6, block_id="A", reason="r", tax_relief=relief)
        [now] = after(written).blocks
        assert (now.receivable_minor, now.given_up_minor, now.tax_taken_minor) == (0, 1100, 100)
        assert now.disposed == {"written_off": (Decimal("2.8"), 400, 0)}
        assert (now.losses_from, now.conceded_minor) == (date(2026, 1, 1), 600)


def test_money_that_goes_without_its_credits_is_followed_by_what_is_recorded_later() -> None:
    """A cent is given up for two billionths of a credit, although no billionth has so low a value."""
    for disputed in (False, True):
        case = Case()
        case.buys("A", 5, credits="0.000000002", price="1.00")
        if disputed:
            case.does("payment.received", 5, amount="1.00", currency="USD", block_id="A", processor="cards")
            case.does("dispute.opened", 6, dispute_id="D", block_id="A")
            step = case.does("dispute.lost", 7, dispute_id="D", amount="0.01", currency="USD")
        else:
            step = case.does("receivable.written_off", 7, block_id="A", amount="0.01", reason="r")
        [now] = after(step).blocks
        assert (now.remaining, now.carrying_minor, now.losses_from) == (Decimal("2E-9"), 99, date(2026, 1, 5))
        assert now.loss_day(date(2026, 1, 5), Decimal("1E-9"), 50) == date(2026, 1, 5)
        assert now.loss_day(date(2026, 1, 5), Decimal("2E-9"), 99) == date(2026, 1, 7), "a cent would be left before it"


def test_a_fee_is_in_the_currency_of_its_payment() -> None:
    case = in_euro()
    step = case.does("payment.received", 3, amount="5.00", currency="EUR", processor="x", fee="0.25")
    assert [(m.kind, m.amount_minor, m.currency) for m in step.decision.movements][-1] == ("processing_fee", 25, "EUR")


def test_a_movement_of_a_decision_in_the_making_is_at_no_position_yet() -> None:
    case = Case()
    step = case.does("credits.granted", 5, block_id="G", credits="4", reason="promotional")
    [movement] = step.decision.movements
    [block] = apply_movement(Wallet(customer="ann"), step.event, step.decision, movement, "USD").blocks
    assert (block.block_id, block.opened_at_position, block.currency) == ("G", 0, "USD")
    case.does("payment.received", 6, amount="5.00", currency="USD")
    paid = case.steps[-1]
    wallet = apply_movement(Wallet(customer="ann"), paid.event, paid.decision, paid.decision.movements[0], "USD")
    assert wallet.standings == {"customer_balance USD ": (-500, -500)}


def test_overage_remembers_what_was_taken_back_of_it() -> None:
    case = Case(on_shortfall="overage")
    usage = case.uses("3", 5, overage_price="0.333", currency="USD")
    for times in (1, 2, 3):
        [held] = after(case.takes_back(usage, 6, credits="1")).overages
        assert (held.restored, held.restored_minor) == (times, (33, 67, 100)[times - 1])
        [correction] = case.wallets["ann"].reversed_usages
        assert correction.of(None) == (times, held.restored_minor, 0)
    assert case.wallets["ann"].carry == {"USD": 0}


def test_a_void_and_a_refund_leave_what_was_cancelled_and_its_tax() -> None:
    case = Case()
    case.buys("A", price="10.00", tax="1.00")
    case.uses("4.2", 5)
    case.does("payment.received", 6, amount="9.00", currency="USD", block_id="A")
    [voided] = after(case.does("purchase.voided", 7, block_id="A", reason="r")).blocks
    assert (voided.cancelled_minor, voided.tax_reversed_minor, voided.receivable_minor) == (400, 40, 0)
    assert (voided.tax_taken_minor, voided.disposed) == (0, {"voided": (Decimal("2.8"), 400, 0)})
    case.buys("C", price="10.00", tax="1.00", unit="unpaid")
    unpaid = after(case.does("purchase.voided", 7, block_id="C", reason="r")).block("C")
    assert unpaid is not None
    assert (unpaid.cancelled_minor, unpaid.tax_reversed_minor, unpaid.tax_taken_minor) == (1000, 100, 0)
    case.buys("B", price="10.00", tax="1.00", unit="token")
    step = case.does("credits.refunded", 8, block_id="B", credits="3.5", amount="2.00", currency="USD")
    refunded = after(step).block("B")
    assert refunded is not None
    assert (refunded.cancelled_minor, refunded.tax_reversed_minor, refunded.receivable_minor) == (200, 20, 880)
    assert refunded.disposed == {"refunded": (Decimal("3.5"), 500, 0)}
    assert after(step).standing("refunds_payable", "USD") == (-240, -240), "nothing is owed for what was never paid"


def test_a_memo_concedes_value_and_takes_tax_of_the_block() -> None:
    case = Case()
    case.buys("A", price="10.00", tax="1.00")
    case.uses("4.2", 5)
    [now] = after(
        case.does("credit_memo.issued", 6, block_id="A", amount="2.00", currency="USD", tax="0.20", reason="r")
    ).blocks
    assert (now.conceded_minor, now.tax_taken_minor, now.tax_reversed_minor) == (200, 20, 0)
    assert (now.receivable_minor, now.given_up_minor) == (880, 0)
    case.does("payment.received", 7, amount="8.80", currency="USD", block_id="A")
    [now] = after(case.does("credit_memo.issued", 8, block_id="A", amount="1.00", currency="USD", reason="r")).blocks
    assert (now.conceded_minor, now.receivable_minor) == (300, 0)


def test_a_remeasured_block_is_worth_what_the_rate_of_the_day_says_and_gained_then() -> None:
    case = in_euro()
    case.buys("A", 5, currency="EUR", refundable=True)
    case.does("exchange_rate.set", 20, None, base="EUR", quote="USD", rate="1.3", rate_source="ECB")
    end = datetime(2026, 1, 31, 23, 59, 59, 999999, tzinfo=UTC)
    step = case.own("m", "balances.remeasured", "ann", end, period="2026-01")
    assert step is not None
    [now] = after(step).blocks
    assert (now.price_functional, now.carrying_functional) == (1300, 1300)
    assert now.loss_day(date(2026, 1, 5), Decimal(1), 100) == date(2026, 1, 5)
    assert now.loss_day(date(2026, 1, 5), Decimal(7), 1000) == date(2026, 1, 31), "before it, it was worth less"
    assert now.price_minor == 1000


# --- missing parts of a wallet
# ---------------------------------------------------------------------------------------------


def test_what_an_event_refers_to_and_a_wallet_lacks_is_named() -> None:
    case = Case(on_shortfall="overage")
    bought = case.buys("A")
    usage = case.uses("9", 5, overage_price="1.00", currency="USD")
    billed = case.does("overage.billed", 6, invoice_id="V", amount="1.00", currency="USD", tax="0.10")
    back = case.takes_back(usage, 7, credits="1")
    paid = case.does("payment.received", 9, amount="0.50", currency="USD", invoice_id="V")
    case.buys("B", 9)
    moved = case.does("credits.transferred", 10, block_id="B", to_customer="bob", new_block_id="N")
    case.buys("C", 11)
    case.does("payment.received", 11, amount="5.00", currency="USD", block_id="C", payment_id="P")
    case.does("payment.received", 11, amount="5.00", currency="USD", payment_id="Q")
    case.buys("D", 11)
    applied = case.does("payment.applied", 11, amount="5.00", currency="USD", payment_id="Q", block_id="D")
    disputed = case.does("dispute.opened", 12, dispute_id="D", payment_id="P")
    won = case.does("dispute.won", 13, dispute_id="D")
    nothing: tuple[Movement, ...] = ()
    for customer, step, decision, lacking in (
        ("ann", usage, usage.decision, "block A of customer ann has no state"),
        ("ann", billed, billed.decision, "the overage of position 2 has no state"),
        ("ann", back, back.decision, "the overage of position 2 has no state"),
        ("ann", paid, paid.decision, "invoice V of customer ann has no state"),
        ("ann", applied, replace(applied.decision, movements=nothing), "payment Q of customer ann has no state"),
        ("ann", won, replace(won.decision, movements=nothing), "dispute D of customer ann has no state"),
        ("ann", disputed, disputed.decision, "block C of customer ann has no state"),
        ("ann", usage, bought.decision, "purchase of credits.consumed cannot open block A"),
        (
            "bob",
            moved,
            replace(moved.decision, new_block=None),
            "transfer_in of block N was decided without the block's terms",
        ),
    ):
        with pytest.raises(IntegrityFault, match=f"^{lacking}$"):
            evolve(
                Wallet(customer=customer),
                step.event,
                decision,
                position=9,
                functional_currency="USD",
                closed_through=None,
            )


def test_a_payment_remembers_what_of_it_is_disputed_or_lost() -> None:
    case = Case()
    case.buys("A")
    case.buys("B")
    case.does("payment.received", 2, amount="4.00", currency="USD", block_id="A", payment_id="P")
    case.does("payment.received", 2, amount="9.00", currency="USD", payment_id="Q")
    case.does("dispute.opened", 3, dispute_id="D", payment_id="P")
    lost = DocumentPart(block_id="A", amount_minor=400)
    assert case.wallets["ann"].document(Payment, "P").disputed == (lost,)
    error = case.is_refused("dispute.opened", 4, dispute_id="E", payment_id="P")
    assert error.message == "no amount is left that can be disputed", "however much of the block another payment paid"
    ended = case.does("dispute.lost", 5, dispute_id="D", amount="3.00", currency="USD")
    won = DocumentPart(block_id="A", amount_minor=-100)
    assert after(ended).document(Payment, "P").disputed == (lost, won)
    assert after(ended).document(Payment, "Q").disputed == ()
    again = case.does("dispute.opened", 6, dispute_id="F", payment_id="P")
    assert told(again) == ["01-06 dispute_opened_cash 100 block=A frozen=0.700000000"]
    case.does("payment.received", 6, amount="9.00", currency="USD", block_id="B", processor="cards")
    case.does("dispute.opened", 7, dispute_id="G", block_id="B")
    by_itself = case.does("dispute.won", 8, dispute_id="G")
    assert after(by_itself).document(Payment, "P").disputed == (lost, won, DocumentPart(block_id="A", amount_minor=100))


def test_usage_of_before_a_repricing_that_comes_back_is_priced_with_what_is_left() -> None:
    case = in_euro()
    case.buys("A", currency="EUR")
    usage = case.uses("3", 2)
    case.does("block.repriced", 3, block_id="A", add_price="5.00", reason="r")
    since = case.uses("2", 4)
    [now] = after(since).blocks
    before = Segment(
        credits=Decimal(4),
        price_minor=1071,
        price_functional=1286,
        used=Decimal(3),
        drawn_minor=429,
        drawn_functional=514,
        since=on(3),
        day=date(2026, 1, 3),
        added=Portion(Decimal(0), 500, 600),
    )
    assert now.segment == replace(before, days=(Change(date(2026, 1, 4), Decimal(2), 536, 643),))
    [now] = after(case.takes_back(since, 5)).blocks
    days = (Change(date(2026, 1, 4), Decimal(2), 536, 643), Change(date(2026, 1, 5), Decimal(-2), -536, -643))
    assert (now.used, now.segment) == (3, replace(before, days=days)), "what was used since comes back at its own price"
    case.buys("B", 1, unit="token")
    case.does("block.repriced", 5, block_id="B", add_price="5.00", reason="r")
    used = case.uses("2", 5, unit="token")
    case.does("credits.refunded", 5, block_id="B", credits="1")
    other = after(case.takes_back(used, 5)).block("B")
    assert other is not None
    segment = other.segment
    assert segment is not None
    assert (segment.credits, segment.price_minor, segment.used, segment.drawn_minor) == (7, 1500, 0, 0)
    [now, _] = sorted(after(case.takes_back(usage, 6, credits="1")).blocks, key=lambda block: block.block_id)
    assert now.segment == Segment(
        credits=Decimal(5),
        price_minor=1214,
        price_functional=1457,
        used=Decimal(2),
        drawn_minor=286,
        drawn_functional=343,
        since=on(6),
        day=date(2026, 1, 6),
        added=Portion(Decimal(1), 143, 171),
        gives_back_from=on(2),
    )


def test_a_transferred_block_breaks_no_earlier_than_the_event_that_moved_its_expiry() -> None:
    case = Case()
    case.buys("A", expires_at=on(60).isoformat())
    case.does("credits.transferred", 20, block_id="A", credits="3", to_customer="bob", new_block_id="N")
    case.does("block.expiry_changed", 41, block_id="A", expires_at=on(45).isoformat(), reason="r")
    case.does("credits.transferred", 42, block_id="A", to_customer="bob", new_block_id="M")
    early, late = (case.wallets["bob"].state_of_block(name) for name in "NM")
    assert (early.breakable_from, late.breakable_from) == (None, date(2026, 2, 10))
