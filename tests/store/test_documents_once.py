"""The same payout, refund, payment, dispute or invoice under another event id is refused, naming the first event."""

from __future__ import annotations

from typing import Any

import pytest

from api.service import Subledger
from projections import integrity
from subledger.events import references
from subledger.store.database import Database
from subledger.store.writing import referenced_rows
from tests.building import cloud_event, recorded
from tests.conftest import NewLedger

MONEY = {"amount": "1.00", "currency": "USD"}


def event(event_id: str, type: str, /, customer: str = "ann", **data: Any) -> dict[str, Any]:
    return cloud_event(event_id, type, customer, "2026-01-10T12:00:00Z", **data)


def documents(prefix: str, name: str) -> list[dict[str, Any]]:
    """Returns one event of each kind, with ids that begin with ``prefix``, and documents with the name ``name``."""
    return [
        event(f"{prefix}-payment", "payment.received", **MONEY, payment_id=name),
        event(f"{prefix}-refund", "payment.refunded", **MONEY, refund_id=name),
        event(f"{prefix}-payout", "payout.settled", "-", **MONEY, processor="stripe", payout_id=name),
        event(f"{prefix}-dispute", "dispute.opened", **MONEY, dispute_id=name, payment_id="P"),
        event(f"{prefix}-invoice", "overage.billed", **MONEY, invoice_id=name),
    ]


def begun(service: Subledger, ledger: str) -> None:
    buy = {"block_id": "A", "credits": "10", "price": "10.00", "currency": "USD"}
    outcomes = service.record(
        ledger,
        [
            event("b", "credits.purchased", **buy),
            event("p", "payment.received", amount="10.00", currency="USD", block_id="A", payment_id="P"),
            event("q", "payment.received", amount="10.00", currency="USD"),
            event("u", "credits.consumed", credits="20", overage_price="1.00", currency="USD", on_shortfall="overage"),
        ],
    )
    assert [outcome.error for outcome in outcomes] == [None] * 4


def test_a_second_event_with_the_same_document_is_refused(
    service: Subledger, new_ledger: NewLedger, owner_url: str
) -> None:
    ledger = new_ledger()
    begun(service, ledger)
    recorded(service, ledger, *documents("first", 'X "quoted" \\ é'))
    other = Database(owner_url)  # a writer that does not remember who was first
    try:
        for writer in (service, Subledger(other)):
            outcomes = writer.record(ledger, documents("again", 'X "quoted" \\ é'))
            assert [outcome.error and outcome.error.code for outcome in outcomes] == ["document_exists"] * 5
            assert [outcome.error.facts["first"]["id"] for outcome in outcomes if outcome.error] == [
                "first-payment",
                "first-refund",
                "first-payout",
                "first-dispute",
                "first-invoice",
            ]
            for number, outcome in enumerate(outcomes):
                assert outcome.error is not None
                assert outcome.error.facts["first"]["position"] == 8 + number
                assert f"-{DOCUMENT_WORDS[number]} from billing recorded it" in outcome.error.message
        assert [outcome.status for outcome in service.record(ledger, documents("first", 'X "quoted" \\ é'))] == [
            "duplicate"
        ] * 5, "the same events again are what they were"
    finally:
        other.close()
    assert integrity.verify(service.database, ledger).differences == []


DOCUMENT_WORDS = ("payment", "refund", "payout", "dispute", "invoice")


def test_two_events_of_one_batch_with_the_same_document_are_told_apart(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    begun(service, ledger)
    outcomes = service.record(ledger, [*documents("first", "X"), *documents("again", "X")])
    assert [outcome.status for outcome in outcomes] == ["recorded"] * 5 + ["rejected"] * 5
    assert [outcome.error.facts["first"]["id"] for outcome in outcomes if outcome.error] == [
        f"first-{word}" for word in DOCUMENT_WORDS
    ]


def test_the_ids_of_one_ledger_are_not_those_of_another(service: Subledger, new_ledger: NewLedger) -> None:
    for ledger in (new_ledger(), new_ledger()):
        begun(service, ledger)
        recorded(service, ledger, *documents("first", "X"))


def payout(event_id: str, processor: str, name: str = "po_1") -> dict[str, Any]:
    return event(event_id, "payout.settled", "-", **MONEY, processor=processor, payout_id=name)


SPELLINGS = ("Stripe", "STRIPE", " stripe ", "\uff53tripe")


def test_a_payout_is_recorded_once_however_its_processor_is_spelled(
    service: Subledger, new_ledger: NewLedger, owner_url: str
) -> None:
    ledger = new_ledger()
    begun(service, ledger)
    assert service.record(ledger, [payout("first", "stripe")])[0].error is None
    other = Database(owner_url)  # a writer that does not remember who was first
    try:
        for number, writer in enumerate((service, Subledger(other))):
            again = [payout(f"{number}-{spelled}", spelled) for spelled in SPELLINGS]
            outcomes = writer.record(ledger, again)
            assert [outcome.error and outcome.error.code for outcome in outcomes] == ["document_exists"] * 4
            assert {outcome.error.facts["first"]["id"] for outcome in outcomes if outcome.error} == {"first"}
    finally:
        other.close()
    # Another processor may have the same id. Ids are case-sensitive, as for processors.
    more = [payout("of another", "adyen"), payout("another", "stripe", "PO_1")]
    assert [outcome.error for outcome in service.record(ledger, more)] == [None, None]


def test_a_log_that_holds_a_payout_under_two_spellings_stays_valid(
    service: Subledger, new_ledger: NewLedger, owner_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = new_ledger()
    begun(service, ledger)
    with monkeypatch.context() as before:  # as recorded before spellings were equal
        for module in (references, referenced_rows):
            before.setattr(module, "once_key_of", lambda kind, processor, name: (kind, processor or "", name))
        both = service.record(ledger, [payout("first", "stripe"), payout("second", "Stripe")])
    assert [outcome.status for outcome in both] == ["recorded"] * 2
    assert integrity.verify(service.database, ledger).differences == []
    other = Database(owner_url)
    try:
        writer = Subledger(other)
        duplicates = writer.record(ledger, [payout("first", "stripe"), payout("second", "Stripe")])
        assert [outcome.status for outcome in duplicates] == ["duplicate"] * 2
        [third] = writer.record(ledger, [payout("third", "STRIPE")])
        assert third.error is not None
        assert third.error.facts["first"]["id"] == "first"
    finally:
        other.close()
    assert integrity.verify(service.database, ledger).differences == []
