"""Refusals of the pure core: the field, the expected and the found value, the facts, and the words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from tests.laws.case import EXPIRY, UNTIL_FEBRUARY, Case, in_euro, on
from tests.laws.walk import Walk


def test_every_refusal_names_its_field_and_says_what_was_expected_and_found(long_walks: Sequence[Walk]) -> None:
    for error in (error for ledger in long_walks for error in ledger.refused):
        document = error.as_document()
        assert re.fullmatch(r"data\.[a-z_]+", document["field"])
        assert document["expected"]
        assert document["found"]
        assert document["detail"]


@pytest.fixture
def books() -> Case:
    """Returns books in which A is bought in EUR, B partly used in USD, U used up, F frozen, G goodwill, P promotional;
    V is billed overage.
    """
    case = in_euro(on_shortfall="overage")
    case.buys("A", currency="EUR", tax="1.00", invoice_id="I", **UNTIL_FEBRUARY)
    case.buys("B", unit="token", price="7.00")
    case.uses("3", 2, unit="token")
    case.buys("U", unit="used")
    case.uses("7", 2, unit="used")
    case.buys("F", unit="frozen")
    case.does("payment.received", 3, amount="10.00", currency="USD", block_id="F", processor="stripe")
    case.does("dispute.opened", 3, dispute_id="D", block_id="F")
    case.does(
        "credits.granted", 3, block_id="G", credits="4", unit="gift", reason="goodwill", value="2.00", currency="USD"
    )
    case.does("credits.granted", 3, block_id="P", credits="4", unit="free", reason="promotional")
    case.does("payment.received", 4, amount="5.00", currency="USD", payment_id="Y")
    case.uses("2", 4, unit="more", overage_price="1.00", currency="USD")
    case.does("overage.billed", 5, invoice_id="V", amount="1.50", currency="USD", tax="0.10")
    case.does("payment.received", 5, amount="3.00", currency="USD", block_id="B", processor="stripe")
    case.does("dispute.opened", 5, dispute_id="W", block_id="B", amount="1.00", currency="USD")
    case.does("dispute.won", 6, dispute_id="W")
    case.buys("Q", unit="pooled", pool="q")
    case.buys("E", unit="gone")
    case.does("payment.received", 6, amount="10.00", currency="USD", block_id="E")
    case.does("credits.escheated", 6, block_id="E")
    return case


# Event, its data · code, field, expected, found · the words
REFUSED: list[tuple[str, dict[str, Any], tuple[str, str, str, str], str]] = [
    ("credits.purchased", {"block_id": "A", "credits": "1", "price": "1.00", "currency": "USD"},
     ("block_exists", "data.block_id", "a new block id", "A"), "a credit block A is already in the ledger"),
    ("credits.purchased", {"block_id": "N", "credits": "1", "price": "1.00", "currency": "USD",
                           "expires_at": on(9).isoformat()},
     ("invalid_value", "data.expires_at", "later than 2026-01-09T12:00:00Z", "2026-01-09T12:00:00Z"),
     "data.expires_at is not after the block's start"),
    ("credits.purchased", {"block_id": "N", "credits": "1", "price": "1.00", "currency": "EUR", "pool": "q"},
     ("wrong_currency", "data.currency", "USD", "EUR"), "pool q is in USD"),
    ("credits.purchased", {"block_id": "N", "credits": "1", "price": "1", "currency": "JPY"},
     ("exchange_rate_missing", "data.currency", "an exchange_rate.set of base JPY on or before 2026-01-09", "JPY"),
     "no exchange rate from JPY to USD is known on 2026-01-09"),
    ("credits.granted", {"block_id": "B", "credits": "1", "reason": "promotional"},
     ("block_exists", "data.block_id", "a new block id", "B"), "a credit block B is already in the ledger"),
    ("credits.consumed", {"block_id": "Z", "credits": "1"},
     ("unknown_block", "data.block_id", "a recorded block", "Z"), "no credit block Z"),
    ("credits.refunded", {"block_id": "G"},
     ("not_a_purchase", "data.block_id", "a bought block", "goodwill"), "block G was granted for goodwill, not bought"),
    ("dispute.opened", {"dispute_id": "N", "block_id": "G"},
     ("not_a_purchase", "data.block_id", "a bought block", "goodwill"), "block G was granted for goodwill, not bought"),
    ("purchase.voided", {"block_id": "U", "reason": "r"},
     ("no_credits_left", "data.block_id", "a block with credits left", "U"), "block U has no credits left"),
    *((type, {"block_id": "F", **data}, ("block_disputed", "data.block_id", "a block without a dispute", "F"),
       "block F is disputed, and frozen until the dispute ends")
      for type, data in (
          ("purchase.voided", {"reason": "r"}), ("credits.refunded", {}), ("credits.escheated", {}),
          ("block.repriced", {"add_credits": "1", "reason": "r"}),
          ("credits.transferred", {"to_customer": "bob", "new_block_id": "N"}))),
    *((type, {"block_id": "U", **data}, ("no_credits_left", "data.block_id", "a block with credits left", "U"),
       "block U has no credits left")
      for type, data in (
          ("credits.refunded", {}), ("credits.escheated", {}), ("block.repriced", {"add_credits": "1", "reason": "r"}),
          ("credits.transferred", {"to_customer": "bob", "new_block_id": "N"}))),
    ("credits.refunded", {"block_id": "B", "amount": "1.00", "currency": "EUR"},
     ("wrong_currency", "data.currency", "USD", "EUR"), "block B is in USD"),
    ("credits.refunded", {"block_id": "B", "credits": "5"},
     ("insufficient_credits", "data.credits", "at most 4", "5"), "block B has 4 credits left"),
    ("credits.refunded", {"block_id": "B", "amount": "4.01", "currency": "USD"},
     ("exceeds_value", "data.amount", "at most 4.00", "4.01"),
     "the refund exceeds the carrying amount of block B (4.00 USD)"),
    ("credits.refunded", {"block_id": "B", "credits": "1", "amount": "1.01", "currency": "USD"},
     ("exceeds_value", "data.amount", "at most 1.00", "1.01"),
     "the refund exceeds the carrying amount of these credits of block B (1.00 USD)"),
    ("block.expiry_changed", {"block_id": "A", "expires_at": on(1).isoformat(), "reason": "r"},
     ("invalid_value", "data.expires_at", "later than 2026-01-01T12:00:00Z", "2026-01-01T12:00:00Z"),
     "data.expires_at is not after the block's start"),
    ("block.repriced", {"block_id": "P", "add_price": "1.00", "reason": "r"},
     ("not_a_purchase", "data.add_price", "no price", "1.00"), "block P is promotional and has no price"),
    ("block.repriced", {"block_id": "B", "add_credits": "-4", "reason": "r"},
     ("insufficient_credits", "data.add_credits", "more than -4", "-4"), "block B has 4 credits left"),
    ("block.repriced", {"block_id": "B", "add_price": "-4.01", "reason": "r"},
     ("exceeds_receivable", "data.add_price", "at most 4.00", "4.01"),
     "the price is lowered by more than the part that is neither recognised nor paid (4.00 USD)"),
    ("credits.transferred", {"block_id": "B", "to_customer": "bob", "new_block_id": "A"},
     ("block_exists", "data.new_block_id", "a new block id", "A"), "a credit block A is already in the ledger"),
    ("credits.transferred", {"block_id": "B", "to_customer": "bob", "new_block_id": "N", "credits": "4.5"},
     ("insufficient_credits", "data.credits", "at most 4", "4.5"), "block B has 4 credits left"),
    ("escheat.reclaimed", {"block_id": "E", "amount": "10.01", "currency": "USD"},
     ("exceeds_value", "data.amount", "at most 10.00", "10.01"),
     "the amount exceeds the unclaimed property of block E (10.00 USD)"),
    ("escheat.remitted", {"block_id": "E", "amount": "1.00", "currency": "EUR"},
     ("wrong_currency", "data.currency", "USD", "EUR"), "block E is in USD"),
    ("payment.received", {"amount": "1.00", "currency": "USD", "block_id": "A"},
     ("wrong_currency", "data.currency", "EUR", "USD"), "the receivable is in EUR"),
    ("payment.received", {"amount": "1.00", "currency": "USD", "payment_id": "Y"},
     ("document_exists", "data.payment_id", "a new payment id", "Y"),
     "the payment Y is already in the ledger: event e12 from billing recorded it at position 12"),
    ("payment.received", {"amount": "1.00", "currency": "EUR", "block_id": "A", "invoice_id": "V"},
     ("unknown_invoice", "data.invoice_id", "I", "V"), "block A is not on invoice V"),
    ("payment.received", {"amount": "1.00", "currency": "USD", "invoice_id": "Z"},
     ("unknown_invoice", "data.invoice_id",
      "the invoice of a purchase or of overage that is recorded; or no invoice: "
      "the money is unapplied until payment.applied", "Z"),
     "customer ann has no invoice Z"),
    ("payment.applied", {"payment_id": "Z", "amount": "1.00", "currency": "USD", "block_id": "B"},
     ("unknown_payment", "data.payment_id", "a recorded payment of this customer", "Z"), "ann has no payment Z"),
    ("payment.applied", {"payment_id": "Y", "amount": "1.00", "currency": "EUR", "block_id": "A"},
     ("wrong_currency", "data.currency", "USD", "EUR"), "the payment is in USD"),
    ("payment.applied", {"payment_id": "Y", "amount": "1.00", "currency": "USD", "block_id": "A"},
     ("wrong_currency", "data.currency", "EUR", "USD"), "the receivable is in EUR"),
    ("payment.applied", {"payment_id": "Y", "amount": "5.01", "currency": "USD", "block_id": "B"},
     ("exceeds_payment", "data.amount", "at most 5.00", "5.01"),
     "the amount exceeds the unapplied part of the payment (5.00 USD)"),
    ("payment.applied", {"payment_id": "Y", "amount": "1.61", "currency": "USD", "invoice_id": "V"},
     ("exceeds_receivable", "data.amount", "at most 1.60", "1.61"),
     "the amount exceeds the open receivable (1.60 USD)"),
    ("payment.refunded", {"payment_id": "Y", "amount": "1.00", "currency": "EUR"},
     ("wrong_currency", "data.currency", "USD", "EUR"), "the payment is in USD"),
    ("payment.refunded", {"block_id": "B", "amount": "1.00", "currency": "EUR"},
     ("wrong_currency", "data.currency", "USD", "EUR"), "block B is in USD"),
    ("payment.refunded", {"payment_id": "Y", "amount": "5.01", "currency": "USD"},
     ("nothing_owed", "data.amount", "at most 5.00", "5.01"),
     "the refund exceeds the amount owed to the customer (5.00 USD)"),
    ("overage.billed", {"invoice_id": "V", "amount": "0.10", "currency": "USD"},
     ("document_exists", "data.invoice_id", "a new invoice id", "V"),
     "the invoice V is already in the ledger: event e14 from billing recorded it at position 14"),
    ("overage.billed", {"invoice_id": "N", "amount": "0.51", "currency": "USD"},
     ("exceeds_overage", "data.amount", "at most 0.50", "0.51"), "the amount exceeds the unbilled overage (0.50 USD)"),
    ("credit_memo.issued", {"block_id": "B", "amount": "1.00", "currency": "EUR", "reason": "r"},
     ("wrong_currency", "data.currency", "USD", "EUR"), "the consumed value is in USD"),
    ("credit_memo.issued", {"block_id": "B", "amount": "3.01", "currency": "USD", "reason": "r"},
     ("exceeds_value", "data.amount", "at most 3.00", "3.01"), "the credit memo exceeds the consumed value (3.00 USD)"),
    ("credit_memo.issued", {"invoice_id": "V", "amount": "1.00", "currency": "USD", "tax": "0.11", "reason": "r"},
     ("exceeds_value", "data.tax", "at most 0.07", "0.11"), "the tax exceeds the tax of the conceded value (0.07 USD)"),
    ("receivable.written_off", {"block_id": "B", "amount": "7.01", "reason": "r"},
     ("exceeds_receivable", "data.amount", "at most 4.00", "7.01"),
     "the write-off exceeds the open receivable of block B (4.00 USD)"),
    ("receivable.written_off", {"block_id": "P", "reason": "r"},
     ("exceeds_receivable", "data.block_id", "an open receivable", "0.00"), "block P has no open receivable"),
    ("dispute.opened", {"dispute_id": "D", "block_id": "B"},
     ("document_exists", "data.dispute_id", "a new dispute id", "D"),
     "the dispute D is already in the ledger: event e9 from billing recorded it at position 9"),
    ("dispute.opened", {"dispute_id": "N", "block_id": "B", "currency": "EUR"},
     ("wrong_currency", "data.currency", "USD", "EUR"), "the disputed amount is in USD"),
    ("dispute.opened", {"dispute_id": "N", "block_id": "B", "amount": "7.01", "currency": "USD"},
     ("exceeds_payment", "data.amount", "at most 3.00", "7.01"),
     "the dispute exceeds the amount that can be disputed (3.00 USD)"),
    ("dispute.opened", {"dispute_id": "N", "block_id": "P"},
     ("exceeds_payment", "data.amount", "more than 0", "0.00"), "no amount is left that can be disputed"),
    ("dispute.won", {"dispute_id": "Z"},
     ("unknown_dispute", "data.dispute_id", "a recorded dispute of this customer", "Z"), "ann has no dispute Z"),
    ("dispute.lost", {"dispute_id": "W"},
     ("dispute_decided", "data.dispute_id", "an open dispute", "W"),
     "dispute W was won; if this is wrong, first undo the event with event.reversed"),
    ("dispute.lost", {"dispute_id": "D", "currency": "EUR"},
     ("wrong_currency", "data.currency", "USD", "EUR"), "the disputed amount is in USD"),
    ("dispute.lost", {"dispute_id": "D", "amount": "10.01", "currency": "USD"},
     ("exceeds_payment", "data.amount", "at most 10.00", "10.01"),
     "the amount exceeds the disputed amount (10.00 USD)"),
]  # fmt: skip


@pytest.mark.parametrize(("type", "data", "facts", "words"), REFUSED)
def test_a_refusal_says_what_was_expected_and_found(
    books: Case, type: str, data: dict[str, Any], facts: tuple[str, str, str, str], words: str
) -> None:
    steps = len(books.steps)
    error = books.is_refused(type, 9, **data)
    assert (error.code, error.field, error.expected, error.found) == facts
    assert error.message == words
    assert len(books.steps) == steps, "and nothing has happened"


@pytest.mark.parametrize(
    ("data", "field", "found"),
    [
        ({"expected_breakage": "10.00"}, "data.expected_breakage", "10.00"),
        ({"expected_breakage": "9.00", "expected_escheat": "1.00"}, "data.expected_breakage", "9.00"),
        ({"expected_breakage_rate": "0.9", "expected_escheat_rate": "0.1"}, "data.expected_breakage_rate", "0.9"),
    ],
)
def test_an_estimate_that_leaves_nothing_to_be_redeemed_is_refused(
    books: Case, data: dict[str, Any], field: str, found: str
) -> None:
    sent = {"pool": "q", "currency": "USD", "evidence": "r", **data}
    assert books.send("q", "breakage.estimated", None, on(9), **sent) is None
    document = books.refused[-1].as_document()
    assert (
        document.items()
        >= {
            "code": "estimate_too_high",
            "field": field,
            "expected": "together less than what is issued",
            "found": found,
            "detail": "the expected breakage and escheat leave nothing of pool q to be redeemed",
        }.items()
    )


def test_another_customers_block_and_document_are_not_anybodys_to_name(books: Case) -> None:
    assert books.send("o", "credits.refunded", "bob", on(9), block_id="A") is None
    assert (
        books.refused[-1].as_document().items()
        >= {
            "code": "block_of_another_customer",
            "field": "data.block_id",
            "expected": "a block of bob",
            "found": "A",
            "detail": "block A belongs to another customer than bob",
        }.items()
    )
    said = {"payment_id": "Y", "amount": "1.00", "currency": "USD"}
    assert books.send("p", "payment.refunded", "bob", on(9), **said) is None
    assert (
        books.refused[-1].as_document().items() >= {"code": "unknown_payment", "detail": "bob has no payment Y"}.items()
    )


def test_a_block_expires_at_its_expiry_and_never_while_it_is_disputed(books: Case) -> None:
    of_its_time = "block A expires at 2026-02-01T00:00:00Z, and its expiry is of exactly that time"
    books.buys("H", unit="frozen", **UNTIL_FEBRUARY)
    books.does("payment.received", 3, amount="10.00", currency="USD", block_id="H", processor="stripe")
    books.does("dispute.opened", 3, dispute_id="H", block_id="H")
    for block_id, at, expires, sentence in (
        ("A", on(20), "2026-02-01T00:00:00Z", of_its_time),
        ("B", EXPIRY, "a block that expires", "block B never expires"),
        (
            "H",
            EXPIRY,
            "no open dispute",
            "a dispute freezes the remaining credits of block H: they expire after its end",
        ),
    ):
        assert books.own(f"x{block_id}", "credits.expired", "ann", at, block_id=block_id) is None
        document = books.refused[-1].as_document()
        assert (
            document.items()
            >= {
                "code": "not_yet_expired",
                "field": "time",
                "expected": expires,
                "found": at.isoformat()[:19] + "Z",
                "detail": sentence,
            }.items()
        )


def test_what_has_expired_is_not_given_back_moved_or_changed_whether_or_not_it_was_swept() -> None:
    case = Case()
    case.buys("A", expires_at=on(20).isoformat())
    for type, data in (
        ("purchase.voided", {"reason": "r"}),
        ("credits.refunded", {}),
        ("credits.escheated", {}),
        ("block.repriced", {"add_credits": "1", "reason": "r"}),
        ("credits.transferred", {"to_customer": "bob", "new_block_id": "N"}),
    ):
        error = case.is_refused(type, 20, block_id="A", **data)
        assert (
            error.as_document().items()
            >= {
                "code": "no_credits_left",
                "field": "data.block_id",
                "found": "A",
                "expected": "a block that has not expired; block.expiry_changed moves an expiry",
                "detail": "block A expired 2026-01-20T12:00:00Z",
            }.items()
        )
    assert case.does("credits.refunded", 19, block_id="A", credits="1")


def test_a_dispute_is_ended_by_naming_what_it_is_about_or_nothing() -> None:
    case = Case()
    case.buys("A")
    case.buys("B")
    case.does("payment.received", 2, amount="9.00", currency="USD", block_id="A", payment_id="P")
    case.does("payment.received", 2, amount="10.00", currency="USD", block_id="B", payment_id="Q")
    case.does("dispute.opened", 3, dispute_id="D", payment_id="P", amount="1.00", currency="USD")
    for type in ("dispute.won", "dispute.lost"):
        for field, name in (("payment_id", "Q"), ("block_id", "B")):
            error = case.is_refused(type, 4, dispute_id="D", **{field: name})
            assert (error.code, error.field, error.expected, error.found, error.message) == (
                "unknown_dispute",
                f"data.{field}",
                "what was disputed, or nothing",
                name,
                f"dispute D is not about {field} {name}",
            )
    error = case.is_refused("dispute.won", 4, dispute_id="D", amount="1.01", currency="USD")
    assert (error.code, error.message) == ("exceeds_payment", "the amount exceeds the disputed amount (1.00 USD)")
    error = case.is_refused("receivable.written_off", 4, block_id="A", reason="r")
    assert error.code == "block_disputed"
    assert case.does("dispute.won", 4, dispute_id="D", payment_id="P", block_id="A")


def test_a_block_is_not_repriced_beyond_all_business() -> None:
    case = Case()
    most, price = "1000000000000000", "10000000000000.00"
    case.buys("A", credits=most, price=price)
    error = case.is_refused("block.repriced", 2, block_id="A", add_credits="0.5", reason="r")
    assert (
        error.as_document().items()
        >= {
            "code": "invalid_value",
            "field": "data.add_credits",
            "expected": f"together at most {most}",
            "found": f"{most}.5",
            "detail": "data.add_credits makes too many credits",
        }.items()
    )
    error = case.is_refused("block.repriced", 2, block_id="A", add_price="0.01", reason="r")
    assert (
        error.as_document().items()
        >= {
            "code": "invalid_value",
            "field": "data.add_price",
            "expected": f"together at most {price}",
            "found": "0.01",
            "detail": "block A would have too large a price",
        }.items()
    )
    case.buys("B", credits="1", price="9999999999999.99")
    assert case.does("block.repriced", 2, block_id="B", add_price="0.01", add_credits="999999999999999", reason="r")


def test_a_purchase_with_its_bonus_is_not_of_too_many_credits() -> None:
    data = {"block_id": "A", "credits": "1", "price": "1.00", "currency": "USD"}
    error = Case().is_refused("credits.purchased", 2, **data, bonus_credits="1000000000000000")
    assert (error.code, error.field) == ("invalid_value", "data.bonus_credits")
    assert (error.expected, error.found) == ("together at most 1000000000000000", "1000000000000001")


def test_a_purchase_is_in_the_currency_of_its_pool() -> None:
    case = Case()
    case.buys("A", pool="P")
    data = {"block_id": "B", "credits": "1", "price": "1.00", "currency": "EUR", "pool": "P"}
    error = case.is_refused("credits.purchased", 2, **data)
    assert error.as_document().items() >= {
        "code": "wrong_currency", "field": "data.currency", "expected": "USD", "found": "EUR",
        "detail": "pool P is in USD",
    }.items()  # fmt: skip


@pytest.mark.parametrize(
    ("type", "data", "field"),
    [
        ("credits.refunded", {"block_id": "B"}, "amount"),
        ("block.repriced", {"block_id": "B", "reason": "r"}, "add_price"),
        ("receivable.written_off", {"block_id": "B", "reason": "r"}, "amount"),
        ("escheat.reclaimed", {"block_id": "E", "currency": "USD"}, "amount"),
        ("escheat.remitted", {"block_id": "E", "currency": "USD"}, "amount"),
        ("dispute.opened", {"dispute_id": "N", "block_id": "B"}, "amount"),
        ("dispute.opened", {"dispute_id": "N", "block_id": "B"}, "fee"),
        ("dispute.won", {"dispute_id": "D"}, "amount"),
        ("dispute.lost", {"dispute_id": "D"}, "amount"),
        ("dispute.lost", {"dispute_id": "D"}, "fee"),
        ("payment.applied", {"payment_id": "Y", "block_id": "B", "currency": "USD"}, "amount"),
        ("payment.refunded", {"currency": "USD"}, "amount"),
        ("payout.settled", {"payout_id": "O", "processor": "cards", "currency": "USD"}, "amount"),
        ("overage.billed", {"invoice_id": "N", "currency": "USD"}, "amount"),
        ("overage.billed", {"invoice_id": "N", "amount": "0.10", "currency": "USD"}, "tax"),
        ("credit_memo.issued", {"block_id": "B", "currency": "USD", "reason": "r"}, "amount"),
        ("credit_memo.issued", {"block_id": "B", "amount": "0.10", "currency": "USD", "reason": "r"}, "tax"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_amount_with_too_many_decimals_is_refused_naming_its_field(
    books: Case, type: str, data: dict[str, Any], field: str
) -> None:
    error = books.is_refused(type, 7, **data, **{field: "0.001"})
    assert (error.code, error.field) == ("too_many_decimals", f"data.{field}")


def test_a_refund_that_is_sent_again_under_another_event_id_is_refused(books: Case) -> None:
    refund = {"amount": "1.00", "currency": "USD", "refund_id": "R"}
    books.does("payment.refunded", 7, **refund)
    error = books.is_refused("payment.refunded", 8, **refund)
    assert (error.code, error.field, error.found) == ("document_exists", "data.refund_id", "R")
