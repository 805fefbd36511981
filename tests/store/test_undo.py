"""Undoing by the recorder: other writers, one batch, refusals that name the obstacle, views."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from api.service import Subledger
from projections import integrity
from projections.reads.blocks import one_block
from projections.replay import rebuild
from subledger.store.database import Database
from tests.building import cloud_event, recorded
from tests.conftest import NewLedger
from tests.reading import report_of, table_of

Sent = dict[str, Any]


def event(event_id: str, type: str, day: int, /, customer: str = "ann", **data: Any) -> Sent:
    return cloud_event(event_id, type, customer, f"2026-01-{day:02}T12:00:00Z", **data)


def undo(event_id: str, day: int, /, customer: str = "ann", name: str | None = None, **data: Any) -> Sent:
    return event(name or f"undo-{event_id}", "event.reversed", day, customer, event_id=event_id, reason="r", **data)


BUY = event("buy", "credits.purchased", 5, block_id="A", credits="100", price="100.00", currency="USD", tax="10.00")
PAY = event("pay", "payment.received", 6, amount="110.00", currency="USD", block_id="A", payment_id="P")
USE = event("use", "credits.consumed", 7, credits="10")


def is_sound(service: Subledger, ledger: str) -> None:
    assert integrity.verify(service.database, ledger).differences == []


def test_an_event_is_undone_by_a_writer_that_does_not_remember_it(
    service: Subledger, new_ledger: NewLedger, owner_url: str
) -> None:
    ledger = new_ledger()
    recorded(service, ledger, BUY, PAY, USE)
    other = Database(owner_url)
    try:
        recorded(Subledger(other), ledger, undo("pay", 8))
        [again] = service.record(ledger, [undo("pay", 9, name="twice")])
        assert again.error is not None
        assert (again.error.code, again.error.facts["reversed_by"]) == (
            "already_reversed", {"source": "billing", "id": "undo-pay", "position": 7},
        )  # fmt: skip
        assert [outcome.status for outcome in service.record(ledger, [undo("pay", 8)])] == ["duplicate"]
    finally:
        other.close()
    is_sound(service, ledger)


def test_an_event_is_undone_in_its_own_batch_and_recorded_for_another_customer(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    bobs = event("buy-b", "credits.purchased", 5, "bob", block_id="B", credits="10", price="110.00", currency="USD")
    pays = event("pay-b", "payment.received", 9, "bob", amount="110.00", currency="USD", block_id="B", payment_id="P")
    recorded(service, ledger, BUY, bobs, PAY, undo("pay", 8), pays)
    is_sound(service, ledger)
    [again] = service.record(
        ledger, [event("pay-c", "payment.received", 9, amount="1", currency="USD", payment_id="P")]
    )
    assert again.error is not None
    assert (again.error.code, again.error.facts["first"]["id"]) == ("document_exists", "pay-b")
    recorded(service, ledger, undo("pay-b", 10, "bob"), PAY | {"id": "pay-again"})
    is_sound(service, ledger)


def test_what_stands_in_the_way_is_named_latest_first(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    recorded(service, ledger, BUY, PAY, USE)
    later = []
    for _ in range(3):
        [outcome] = service.record(ledger, [undo("buy", 10)])
        if outcome.error is None:
            break
        assert outcome.error.code == "changed_since"
        by = outcome.error.facts["changed_by"]
        later.append(by["id"])
        assert f"by {by['type']} {by['id']} from billing at position {by['position']}" in outcome.error.message
        back = event("back", "consumption.reversed", 9, event_id="use", reason="r")
        recorded(service, ledger, back if by["id"] == "use" else undo(by["id"], 9))
    assert later == ["use", "pay"]
    is_sound(service, ledger)


@pytest.mark.parametrize(
    ("undone", "code"),
    [
        (undo("use", 9), "not_reversible"),
        (undo("nothing", 9), "unknown_original"),
        (undo("pay", 9, event_source="other"), "unknown_original"),
        (undo("pay", 9, "bob"), "not_reversible"),
        (undo("pay", 9, "-"), "not_reversible"),
    ],
)
def test_an_event_that_cannot_be_undone_is_refused(
    service: Subledger, new_ledger: NewLedger, undone: Sent, code: str
) -> None:
    ledger = new_ledger()
    recorded(service, ledger, BUY, PAY, USE)
    [outcome] = service.record(ledger, [undone])
    assert outcome.error is not None
    assert outcome.error.code == code


def test_the_ledgers_own_events_are_not_undone(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    recorded(service, ledger, BUY)
    configured = service.record(ledger, [undo("configured", 9, "-", event_source="subledger")])[0].error
    assert configured is not None
    assert configured.code in ("not_reversible", "unknown_original")


def test_every_view_shows_what_it_knew(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    recorded(service, ledger, BUY, event("more", "block.expiry_changed", 6, block_id="A", expires_at=None, reason="r"))
    with service.view(ledger) as view:
        known_at = view.known_at
        assert one_block(view, "A").status == "active"
    recorded(service, ledger, undo("more", 7), undo("buy", 9))
    for as_of, known, status in (
        (date(2026, 1, 31), None, "reversed"),
        (date(2026, 1, 8), None, "active"),
        (date(2026, 1, 31), known_at, "active"),
    ):
        with service.view(ledger, as_of=as_of, known_at=known) as view:
            assert one_block(view, "A").status == status
    is_sound(service, ledger)


def test_an_undone_event_survives_a_rebuild(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    recorded(service, ledger, BUY, PAY, undo("pay", 8), undo("buy", 9))
    rebuild.rebuild(service.database, ledger)
    is_sound(service, ledger)
    [outcome] = service.record(ledger, [BUY | {"id": "again"}])
    assert outcome.error is not None
    assert outcome.error.code == "block_exists"


def opened(event_id: str, role: str, /, customer: str = "ann", **data: Any) -> Sent:
    return event(event_id, "balance.opened", 5, customer, role=role, currency="USD", **data)


OPENED = opened("open", "prepaid_liability", block_id="A", credits="100", used="40", price="100.00", drawn="40.00")
POOLED = {"pool": "p", "currency": "USD"}
RATE = event("rate", "breakage.estimated", 4, "-", expected_breakage_rate="0.10", evidence="e", **POOLED)
IN_POOL = OPENED | {"data": OPENED["data"] | {"pool": "p", "cohort": "2025-11"}}
AHEAD = opened("ahead", "breakage_recognized", "-", pool="p", cohort="2025-11", amount="4.44", redeemed="40.00")


def test_what_a_refund_of_a_finished_block_moves_is_undone_by_a_writer_that_does_not_remember_it(
    service: Subledger, new_ledger: NewLedger, owner_url: str
) -> None:
    ledger = new_ledger()
    block = {**OPENED, "data": {**OPENED["data"], "conceded": "7.00"}}
    recorded(service, ledger, block, opened("owed", "refunds_payable", block_id="A", amount="7.00"))
    recorded(service, ledger, event("use", "credits.consumed", 7, credits="60"))
    recorded(service, ledger, event("pay", "payment.refunded", 8, amount="7.00", currency="USD", block_id="A"))
    for undone in (undo("pay", 9), undo("owed", 9)):
        other = Database(owner_url)
        try:
            recorded(Subledger(other), ledger, undone)
        finally:
            other.close()
        is_sound(service, ledger)


def test_overage_that_was_opened_is_undone_and_leaves_the_receivables(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    recorded(
        service, ledger, opened("over", "unbilled_receivable", amount="9.00", credits="12", on_shortfall="overage")
    )
    recorded(service, ledger, undo("over", 9))
    assert table_of(report_of(service, ledger, "receivables", to="2026-01-31"), "open_items") == []
    is_sound(service, ledger)


def test_the_id_of_an_undone_block_stays_taken_also_for_a_writer_that_does_not_remember_it(
    service: Subledger, new_ledger: NewLedger, owner_url: str
) -> None:
    ledger = new_ledger()
    recorded(service, ledger, OPENED, undo("open", 9))
    other = Database(owner_url)
    try:
        [again] = Subledger(other).record(ledger, [OPENED | {"id": "again"}], by="nobody")
    finally:
        other.close()
    assert again.error is not None
    assert again.error.code == "block_exists"
    assert "was undone" in again.error.message


def test_an_opened_block_that_is_undone_has_nothing_but_in_earlier_views(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    recorded(service, ledger, OPENED, undo("open", 9))
    for day, credits, used, drawn in ((8, 100, 40, 4000), (31, 0, 0, 0)):
        with service.view(ledger, as_of=date(2026, 1, day)) as view:
            block = one_block(view, "A")
            assert (block.credits, block.used, block.drawn_minor, block.price_minor) == (
                credits, used, drawn, drawn * 100 // 40,
            )  # fmt: skip
    [memo] = service.record(
        ledger, [event("memo", "credit_memo.issued", 9, amount="1.00", currency="USD", block_id="A", reason="r")]
    )
    assert memo.error is not None
    is_sound(service, ledger)


def test_what_stands_in_the_way_of_undoing_a_cohorts_opening_is_named(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    recorded(service, ledger, RATE, IN_POOL, AHEAD)
    named = []
    for later in (None, USE, event("estimated", "breakage.estimated", 6, "-", cohort="2025-11",
                                   expected_breakage_rate="0.10", evidence="e", **POOLED)):  # fmt: skip
        recorded(service, ledger, *([] if later is None else [later]))
        [outcome] = service.record(ledger, [undo("ahead" if later else "open", 10, "-" if later else "ann")])
        assert outcome.error is not None
        assert outcome.error.code == "changed_since"
        named.append(outcome.error.facts["changed_by"]["id"])
    assert named == ["ahead", "use", "estimated"]
    is_sound(service, ledger)


def test_a_cohort_is_opened_again_after_its_openings_were_undone(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    recorded(service, ledger, RATE, IN_POOL, AHEAD, undo("ahead", 6, "-"), undo("open", 7))
    again = IN_POOL | {"id": "again", "data": IN_POOL["data"] | {"block_id": "B", "price": "90.00"}}
    recorded(service, ledger, again, AHEAD | {"id": "ahead-again"}, USE)
    for day in (6, 8, 31):
        assert report_of(service, ledger, "pools", to=f"2026-01-{day:02}").ties_out
    is_sound(service, ledger)
    rebuild.rebuild(service.database, ledger)
    is_sound(service, ledger)
