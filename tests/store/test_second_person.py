"""Limits apply to the effect of an event: another event type with the same gift, payment or cancellation waits too."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from api.service import Subledger
from api.shapes import approvals
from projections import integrity
from subledger.errors import EffectChanged, PersonRequired, SamePerson
from subledger.ledger_settings import SettingsChange
from subledger.store.reading.ledgers import ledger_head
from subledger.store.writing.approvals import ApprovalRequest, approvals_page, read_request
from subledger.wallet import Decision
from tests.building import Document, cloud_event, payment, purchase, rate, recorded, usage
from tests.conftest import NewLedger

START = datetime(1, 1, 1, tzinfo=UTC)
NOON = "2026-01-15T12:00:00Z"
MANY = {"grant_credits_above": "1000"}
DEAR = {"grant_value_above": "100.00"}
VOIDS = {"voids": True}
PAID = [
    purchase("B", "10000", "ann", "2026-01-05", price="1000.00", invoice_id="I", expires_at="2099-01-01T00:00:00Z"),
    payment("pay-1", "1000.00", "ann", "2026-01-06", block_id="B", payment_id="pay-1", processor="cards"),
]
UNPAID = PAID[:1]
USED = usage("use", "6000", "ann", "2026-01-10")
EXPIRED = [
    purchase("B", "5000", "ann", "2026-01-05", price="500.00", expires_at="2026-01-10T00:00:00Z"),
    cloud_event("exp", "credits.expired", "ann", "2026-01-10T00:00:00Z", block_id="B"),
]
OVERAGE = usage("over", "3000", "ann", "2026-01-10", overage_price="1", currency="USD", on_shortfall="backfill")
ESCHEATED = [
    purchase("B", "5000", "ann", "2026-01-05", price="500.00", escheat_class="DE-3y"),
    payment("pay-1", "500.00", "ann", "2026-01-06", block_id="B", payment_id="pay-1"),
    cloud_event("esch", "credits.escheated", "ann", "2026-01-10T00:00:00Z", block_id="B"),
]
POOLED = [purchase("B", "10000", "ann", "2026-01-05", price="1000.00", pool="P")]
DISPUTED = cloud_event("disp", "dispute.opened", "ann", "2026-01-11T00:00:00Z", dispute_id="d", block_id="B")
UNAPPLIED = [payment("pay-2", "700.00", "ann", "2026-01-06", payment_id="pay-2")]


def event(type: str, customer: str = "ann", **data: Any) -> Document:
    return cloud_event("e", type, customer, NOON, **data)


WAYS_ROUND = {
    "a purchase for nothing": (
        [], MANY, event("credits.purchased", block_id="N", credits="5000", price="0.00", currency="USD"),
        ("grant", {"credits_given": "5000"}),
    ),
    "a bonus": (
        [], MANY,
        event(
            "credits.purchased", block_id="N", credits="1", bonus_credits="5000", price="0.01", currency="USD"
        ),
        ("grant", {"credits_given": "5001"}),
    ),
    "credits added for a cent": (
        PAID, MANY, event("block.repriced", block_id="B", add_credits="5000", add_price="0.01", reason="r"),
        ("grant", {"credits_given": "5000"}),
    ),
    "a price lowered for the same credits": (
        UNPAID, DEAR, event("block.repriced", block_id="B", add_price="-500.00", reason="r"),
        ("grant", {"value_given": "500", "cancels": True}),
    ),
    "a price lowered by more than the credits had": (
        UNPAID, DEAR, event("block.repriced", block_id="B", add_credits="-1000", add_price="-500.00", reason="r"),
        ("grant", {"value_given": "400", "cancels": True}),
    ),
    "a credit memo": (
        [*PAID, USED], DEAR,
        event("credit_memo.issued", block_id="B", amount="500.00", currency="USD", reason="r"),
        ("grant", {"value_given": "500", "money_back": "500", "cancels": True}),
    ),
    "a credit memo where voids need somebody": (
        [*PAID, USED], VOIDS,
        event("credit_memo.issued", block_id="B", amount="500.00", currency="USD", reason="r"),
        ("void", {"value_given": "500", "money_back": "500", "cancels": True}),
    ),
    "a write-off of used value": (
        [*UNPAID, USED], DEAR,
        event("receivable.written_off", block_id="B", reason="r"),
        ("grant", {"value_given": "600", "written_off": "1000"}),
    ),
    "credits refunded": (
        PAID, VOIDS, event("credits.refunded", block_id="B", credits="5000"),
        ("void", {"money_back": "500", "cancels": True}),
    ),
    "credits refunded, and money back": (
        PAID, {"money_back_above": "499.99"}, event("credits.refunded", block_id="B", credits="5000"),
        ("money_back", {"money_back": "500", "cancels": True}),
    ),
    "credits taken back for nothing": (
        PAID, {"revenue_advanced_above": "100"}, event("credits.refunded", block_id="B", amount="0.00", currency="USD"),
        ("revenue_advanced", {"revenue_advanced": "1000", "cancels": True}),
    ),
    "an unapplied payment paid back": (
        UNAPPLIED, VOIDS,
        event("payment.refunded", payment_id="pay-2", amount="700.00", currency="USD"),
        ("void", {"money_back": "700", "cancels": True}),
    ),
    "a transfer to somebody else": (
        PAID, MANY,
        event("credits.transferred", block_id="B", to_customer="bob", new_block_id="N", credits="5000"),
        ("grant", {"credits_given": "5000", "value_given": "500"}),
    ),
    "usage taken back": (
        [*PAID, USED], MANY, event("consumption.reversed", event_id="use", reason="r"),
        ("grant", {"credits_given": "6000", "value_given": "600"}),
    ),
    "an expiry moved after it came": (
        EXPIRED, MANY, event("block.expiry_changed", block_id="B", expires_at=None, reason="r"),
        ("grant", {"credits_given": "5000", "value_given": "500"}),
    ),
    "an expiry moved after it came and before it was recorded": (
        EXPIRED[:1], MANY, event("block.expiry_changed", block_id="B", expires_at=None, reason="r"),
        ("grant", {"credits_given": "5000", "value_given": "500"}),
    ),
    "an earlier expiry": (
        PAID, {**MANY, **VOIDS},
        event("block.expiry_changed", block_id="B", expires_at="2026-01-20T00:00:00Z", reason="r"),
        ("void", {"revenue_advanced": "1000", "cancels": True}),
    ),
    "an earlier expiry, by its revenue": (
        PAID, {"revenue_advanced_above": "999.99"},
        event("block.expiry_changed", block_id="B", expires_at="2026-01-20T00:00:00Z", reason="r"),
        ("revenue_advanced", {"revenue_advanced": "1000", "cancels": True}),
    ),
    "earlier usage paid by a cheap purchase": (
        [OVERAGE], DEAR,
        event("credits.purchased", block_id="N", credits="3000", price="30.00", currency="USD"),
        ("grant", {"value_given": "2970"}),
    ),
    "credits for nothing that pay for earlier usage at once": (
        [OVERAGE], MANY,
        event("credits.purchased", block_id="N", credits="5000", price="0.00", currency="USD"),
        ("grant", {"credits_given": "5000", "value_given": "3000"}),
    ),
    "a price lowered by more than the credits had, of a block that is used in part": (
        [*UNPAID, USED], DEAR,
        event("block.repriced", block_id="B", add_credits="-2000", add_price="-350.00", reason="r"),
        ("grant", {"value_given": "150", "cancels": True}),
    ),
    "an expiry where there was none": (
        [purchase("B", "5000", "ann", "2026-01-05", price="500.00")], {"revenue_advanced_above": "100"},
        event("block.expiry_changed", block_id="B", expires_at="2026-01-20T00:00:00Z", reason="r"),
        ("revenue_advanced", {"revenue_advanced": "500", "cancels": True}),
    ),
    "an amount below a cent": (
        [
            rate("2026-01-01", "0.00006", base="IDR"),
            purchase("B", "1", "ann", "2026-01-05", price="1.00", currency="IDR"),
        ],
        {"write_offs": True}, event("receivable.written_off", block_id="B", reason="r"),
        ("write_off", {"written_off": "0.01"}),
    ),
    "escheated value claimed back": (
        ESCHEATED, {"money_back_above": "100"},
        event("escheat.reclaimed", block_id="B", amount="500.00", currency="USD"),
        ("money_back", {"money_back": "500", "cancels": True}),
    ),
    "an estimate before anything was used": (
        POOLED, {"revenue_advanced_above": "100"},
        cloud_event(
            "e", "breakage.estimated", None, NOON, pool="P", expected_breakage_rate="0.2", currency="USD", evidence="e"
        ),
        ("revenue_advanced", {"revenue_advanced": "200"}),
    ),
    "a purchase for a unit of money": (
        [], MANY, event("credits.purchased", block_id="N", credits="5000", price="1.00", currency="USD"),
        ("grant", {"credits_given": "5000"}),
    ),
    "credits added for a unit of money": (
        PAID, MANY, event("block.repriced", block_id="B", add_credits="5000", add_price="1.00", reason="r"),
        ("grant", {"credits_given": "5000"}),
    ),
    "credits at less than half of their price": (
        [], {**MANY, "credit_prices": {"credit": "0.10"}},
        event("credits.purchased", block_id="N", credits="5000", price="249.99", currency="USD"),
        ("grant", {"credits_given": "5000", "value_given": "250.01"}),
    ),
    "usage beyond the credits for nothing": (
        [], MANY, event("credits.consumed", credits="3000", overage_price="0", currency="USD", on_shortfall="overage"),
        ("grant", {"credits_given": "3000"}),
    ),
    "usage beyond the credits at less than half of their price": (
        PAID, {**DEAR, "credit_prices": {"credit": "0.10"}},
        event("credits.consumed", credits="13000", overage_price="0.049", currency="USD", on_shortfall="backfill"),
        ("grant", {"credits_given": "3000", "value_given": "153"}),
    ),
    "bonus credits that pay for earlier usage": (
        [OVERAGE], DEAR,
        event(
            "credits.purchased", block_id="N", credits="1000", bonus_credits="2000", price="1000.00", currency="USD"
        ),
        ("grant", {"credits_given": "2000", "value_given": "2000"}),
    ),
    "credits turned over to a state": (
        ESCHEATED[:2], VOIDS, event("credits.escheated", block_id="B"),
        ("void", {"money_back": "500", "cancels": True}),
    ),
    "credits turned over to a state, by their value": (
        ESCHEATED[:2], {"money_back_above": "499.99"}, event("credits.escheated", block_id="B"),
        ("money_back", {"money_back": "500", "cancels": True}),
    ),
    "unclaimed property paid to a state": (
        ESCHEATED, {"money_back_above": "499.99"},
        event("escheat.remitted", block_id="B", amount="500.00", currency="USD"),
        ("money_back", {"money_back": "500"}),
    ),
}  # fmt: skip


def request_of(service: Subledger, ledger: str, approval_id: str | None) -> ApprovalRequest:
    assert approval_id is not None
    with service.database.read() as connection:
        return read_request(connection, ledger, approval_id)


def decision_at(service: Subledger, ledger: str, position: int | None) -> Decision:
    with service.database.read() as connection:
        [[text]] = connection.exec_driver_sql(
            "SELECT decision FROM events WHERE ledger = %s AND position = %s", (ledger, position)
        )
    return msgspec.json.decode(text, type=Decision)


@pytest.mark.parametrize("way", WAYS_ROUND)
def test_every_way_round_a_limit_waits(way: str, service: Subledger, new_ledger: NewLedger) -> None:
    history, approvals, sent, (reason, effect) = WAYS_ROUND[way]
    ledger = new_ledger()
    recorded(service, ledger, *history)
    service.configure_ledger(ledger, SettingsChange(approvals=approvals), by="ann")
    [outcome] = service.record(ledger, [sent], by="ann")
    assert outcome.status == "waiting"
    request = request_of(service, ledger, outcome.approval_id)
    measured = {name: value for name, value in vars_of(request.effect).items() if value}
    assert (request.reason, measured) == (reason, {name: plain(value) for name, value in effect.items()})
    approved = service.decide_approval(ledger, request.approval_id, by="bob", allow=True)
    assert approved.status == "recorded"
    decision = decision_at(service, ledger, approved.position)
    assert decision.effect == request.effect
    assert integrity.verify(service.database, ledger).differences == []


def plain(value: Any) -> Any:
    return Decimal(value) if isinstance(value, str) else value


def vars_of(effect: Any) -> dict[str, Any]:
    return {name: getattr(effect, name) for name in effect.__struct_fields__}


@pytest.mark.parametrize(
    ("history", "sent"),
    [
        (PAID, event("credits.transferred", block_id="B", to_customer="ann", new_block_id="N")),
        (PAID, event("block.expiry_changed", block_id="B", expires_at="2099-12-31T00:00:00Z", reason="r")),
        (UNPAID, payment("e", "1000.00", "ann", NOON, block_id="B", payment_id="p")),
        ([*PAID, USED], event("credits.refunded", block_id="B")),
        (UNPAID, event("purchase.voided", block_id="B", reason="r")),
        ([], event("credits.purchased", block_id="N", credits="5000", price="5000.00", currency="USD")),
        (UNPAID, event("block.repriced", block_id="B", add_credits="-5000", add_price="-500.00", reason="r")),
        (
            [*UNPAID, payment("pay", "1000.00", "ann", NOON, block_id="B", payment_id="p", processor="cards")],
            event("dispute.opened", dispute_id="d", block_id="B"),
        ),
        ([*PAID, USED, DISPUTED], event("dispute.lost", dispute_id="d")),
        ([OVERAGE], event("credits.purchased", block_id="N", credits="10000", price="8000.00", currency="USD")),
        ([OVERAGE], event("credits.purchased", block_id="N", credits="10000", price="5000.00", currency="USD")),
        (
            PAID,
            event("credits.consumed", credits="90000", overage_price="0.0001", currency="USD", on_shortfall="overage"),
        ),
        (EXPIRED[:1], cloud_event("e", "credits.expired", "ann", "2026-01-10T00:00:00Z", block_id="B")),
        (
            [purchase("B", "5000", "ann", "2026-01-05", expires_at="2026-01-10T00:00:00Z", escheat_class="DE-3y")],
            cloud_event("e", "credits.expired", "ann", "2026-01-10T00:00:00Z", block_id="B"),
        ),
    ],
)
def test_what_gives_nothing_needs_nobody(
    history: list[Document], sent: Document, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    recorded(service, ledger, *history)
    service.configure_ledger(ledger, SettingsChange(approvals={**MANY, **DEAR}), by="ann")
    recorded(service, ledger, sent)


def test_an_event_in_pieces_waits_together_with_what_was_before_of_whatever_type(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    recorded(service, ledger, *PAID, USED)
    limits = {"grant_value_above": "100.00", "money_back_above": "150.00", "grants_within": "1d"}
    service.configure_ledger(ledger, SettingsChange(approvals=limits), by="ann")

    def status(id: str, type: str, **data: Any) -> str:
        [outcome] = service.record(ledger, [cloud_event(id, type, "ann", NOON, **data)], by="ann")
        return outcome.status

    memo = {"block_id": "B", "amount": "50.00", "currency": "USD", "reason": "r"}
    assert status("1", "credit_memo.issued", **memo) == "recorded"
    transfer = {"block_id": "B", "to_customer": "bob", "credits": "500"}
    assert status("2", "credits.transferred", **transfer, new_block_id="N") == "recorded"
    assert status("3", "credits.transferred", **transfer, new_block_id="M") == "waiting", "150.00 together"
    assert status("4", "credit_memo.issued", **memo) == "waiting"
    assert status("5", "credits.refunded", block_id="B", credits="1000") == "recorded", "150.00 back, not more"
    assert status("6", "credits.refunded", block_id="B", credits="1") == "waiting"
    fresh = Subledger(service.database)  # which reads from the log what the other one has in memory
    [outcome] = fresh.record(ledger, [cloud_event("7", "credits.refunded", "ann", NOON, block_id="B", credits="1")],
                             by="ann")  # fmt: skip
    assert outcome.status == "waiting"


def test_pieces_count_for_whoever_gains_them_from_whomever(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    people = ["ann", "bea", "cay"]
    recorded(service, ledger, *(purchase(name, "900", name, "2026-01-05", price="90.00") for name in people))
    limits = {"grant_credits_above": "1000", "grants_within": "1d"}
    service.configure_ledger(ledger, SettingsChange(approvals=limits), by="ann")

    def status(through: Subledger, id: str, sender: str, to: str) -> str:
        data = {"block_id": sender, "to_customer": to, "credits": "400", "new_block_id": id}
        [outcome] = through.record(ledger, [cloud_event(id, "credits.transferred", sender, NOON, **data)], by="ann")
        return outcome.status

    assert status(service, "1", "ann", "zoe") == "recorded"
    assert status(service, "2", "bea", "zoe") == "recorded"
    assert status(service, "3", "cay", "zoe") == "waiting", "1,200 for zoe"
    assert status(Subledger(service.database), "4", "cay", "zoe") == "waiting", "as the log has it"
    assert status(service, "5", "cay", "yan") == "recorded", "for somebody else"
    gift = {"block_id": "g", "credits": "300", "reason": "promotional"}
    [outcome] = service.record(ledger, [cloud_event("6", "credits.granted", "zoe", NOON, **gift)], by="ann")
    assert outcome.status == "waiting", "a gift on top"
    assert integrity.verify(service.database, ledger).differences == []


def test_usage_for_nothing_counts_in_pieces_too(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    service.configure_ledger(ledger, SettingsChange(approvals={**MANY, "grants_within": "1d"}), by="ann")

    def status(through: Subledger, id: str, price: str = "0") -> str:
        free = usage(id, "600", "ann", NOON, overage_price=price, currency="USD", on_shortfall="overage")
        [outcome] = through.record(ledger, [free], by="ann")
        return outcome.status

    assert status(service, "1") == "recorded"
    assert status(service, "2") == "waiting"
    assert status(Subledger(service.database), "3") == "waiting", "as the log has it"
    assert status(service, "4", "0.0001") == "recorded", "at a price"
    assert integrity.verify(service.database, ledger).differences == []


def test_a_change_of_what_needs_a_second_person_needs_one(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    first = service.configure_ledger(ledger, SettingsChange(approvals=VOIDS))
    assert first.status == "configured", "of a ledger that asks for nobody"
    off = SettingsChange(approvals={"voids": False})
    with pytest.raises(PersonRequired):
        service.configure_ledger(ledger, off)
    waits = service.configure_ledger(ledger, off, by="ann")
    assert waits.status == "waiting"
    assert service.configure_ledger(ledger, off, by="ann") == waits, "asked again, it goes on waiting"
    other = service.configure_ledger(ledger, SettingsChange(approvals=MANY), by="ann")
    assert (other.status, other.approval_id != waits.approval_id) == ("waiting", True)
    assert waits.approval_id is not None
    assert other.approval_id is not None
    request = request_of(service, ledger, waits.approval_id)
    assert request.reason == "settings"
    assert request.effect is not None
    assert request.effect.changed_settings == ("approvals.voids: true to false",)
    with service.database.read() as connection:
        assert ledger_head(connection, ledger).state.approvals.voids
    with pytest.raises(SamePerson):
        service.decide_approval(ledger, waits.approval_id, by="ann", allow=True)
    service.decide_approval(ledger, other.approval_id, by="bob", allow=True)
    outcome = service.decide_approval(ledger, waits.approval_id, by="bob", allow=True)
    assert isinstance(outcome.error, EffectChanged), "it would take back what was allowed meanwhile"
    entity = service.configure_ledger(ledger, SettingsChange(entity="another"))
    assert entity.status == "configured", "other settings need nobody"
    with service.database.read() as connection:
        state = ledger_head(connection, ledger).state
    assert (state.approvals.voids, state.approvals.grant_credits_above) == (True, Decimal(1000))
    assert integrity.verify(service.database, ledger).differences == []


def test_a_change_of_settings_is_allowed_if_a_dimension_was_added_meanwhile(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    service.configure_ledger(ledger, SettingsChange(approvals=VOIDS))
    waits = service.configure_ledger(ledger, SettingsChange(approvals={"voids": False}), by="ann")
    assert service.configure_ledger(ledger, SettingsChange(dimensions=("department",))).status == "configured"
    assert waits.approval_id is not None
    outcome = service.decide_approval(ledger, waits.approval_id, by="bob", allow=True)
    assert outcome.status == "recorded", outcome.error
    with service.database.read() as connection:
        state = ledger_head(connection, ledger).state
    assert (state.approvals.voids, state.dimensions) == (False, ("department",)), "names are only ever added"


def test_nobody_allows_more_than_they_were_shown(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    recorded(service, ledger, *PAID, USED)
    service.configure_ledger(ledger, SettingsChange(approvals=VOIDS), by="ann")
    [outcome] = service.record(ledger, [event("purchase.voided", block_id="B", reason="r")], by="ann")
    request = request_of(service, ledger, outcome.approval_id)
    recorded(service, ledger, cloud_event("back", "consumption.reversed", "ann", NOON, event_id="use", reason="r"))
    greater = service.decide_approval(ledger, request.approval_id, by="bob", allow=True)
    assert isinstance(greater.error, EffectChanged)
    assert (greater.error.expected, greater.error.found) == (
        "money back 400, cancels a sale or a part of it",
        "money back 1000, cancels a sale or a part of it",
    )
    recorded(service, ledger, usage("again", "7000", "ann", "2026-01-12"))
    less = service.decide_approval(ledger, request.approval_id, by="bob", allow=True)
    assert less.status == "recorded", "less than was shown"


def test_an_estimate_can_be_allowed_though_its_pool_is_used_meanwhile(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    recorded(service, ledger, purchase("B", "1000", "ann", "2026-01-10", price="1000.00", pool="gifts"))
    service.configure_ledger(ledger, SettingsChange(approvals={"breakage_estimates": True}), by="ann")
    data = {"pool": "gifts", "currency": "USD", "expected_breakage_rate": "0.10", "evidence": "three years"}
    estimate = cloud_event("estimate", "breakage.estimated", None, "2026-01-11T12:00:00Z", **data)
    [outcome] = service.record(ledger, [estimate], by="ann")
    recorded(service, ledger, usage("use", "450", "ann", "2026-01-12"))
    assert outcome.approval_id is not None
    allowed = service.decide_approval(ledger, outcome.approval_id, by="bob", allow=True)
    assert allowed.status == "recorded", "what it recognises at once grew with the usage; the rate is what was shown"
    assert integrity.verify(service.database, ledger).differences == []


def test_the_second_person_sees_customer_block_amount_reason_and_effect(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    recorded(service, ledger, *PAID, USED)
    service.configure_ledger(ledger, SettingsChange(approvals=VOIDS), by="ann")
    memo = event("credit_memo.issued", block_id="B", amount="12.50", currency="USD", reason="an outage")
    service.record(ledger, [memo], by="ann")
    with service.database.read() as connection:
        [request] = approvals_page(connection, ledger, state="waiting", after=(START, ""), limit=9)
    document = approvals.approval(request, "USD")
    assert {name: document[name] for name in ("customer", "block_id", "amount", "stated_reason", "reason")} == {
        "customer": "ann",
        "block_id": "B",
        "amount": {"amount": "12.50", "currency": "USD"},
        "stated_reason": "an outage",
        "reason": "void",
    }
    assert document["effect"] == {
        "credits_given": "0",
        "value_given": {"amount": "12.50", "currency": "USD"},
        "money_back": {"amount": "12.50", "currency": "USD"},
        "revenue_advanced": {"amount": "0.00", "currency": "USD"},
        "written_off": {"amount": "0.00", "currency": "USD"},
        "cancels": True,
        "changed_settings": [],
        "text": "value given 12.5, money back 12.5, cancels a sale or a part of it",
    }
