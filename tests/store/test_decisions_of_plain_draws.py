"""The decision of a plain draw is not stored beside its entries, but is read in full."""

from __future__ import annotations

import json

from api.service import Subledger
from projections.integrity import verify
from projections.replay.log_stream import WHOLE, read_events, read_log
from subledger.store.decision_text import decision_sql
from tests.building import cloud_event
from tests.conftest import NewLedger
from tests.laws.walks import long_walk
from tests.store.walked import record_walk


def stored(service: Subledger, ledger: str) -> dict[int, str | None]:
    with service.database.read() as connection:
        query = "SELECT position, decision FROM events WHERE ledger = %s"
        return {row.position: row.decision for row in connection.exec_driver_sql(query, (ledger,))}


def told(service: Subledger, ledger: str) -> dict[int, str]:
    with service.database.read() as connection:
        query = "SELECT position, decision FROM recorded_events WHERE ledger = %s"
        return {row.position: row.decision for row in connection.exec_driver_sql(query, (ledger,))}


def asked(service: Subledger, ledger: str) -> dict[int, str]:
    with service.database.read() as connection:
        query = f"SELECT e.position, {decision_sql('%(ledger)s')} AS decision FROM events e WHERE e.ledger = %(ledger)s"
        return {row.position: row.decision for row in connection.exec_driver_sql(query, {"ledger": ledger})}


def test_the_view_the_queries_and_the_streams_tell_the_same_decisions(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = f"{new_ledger()}-walk"
    record_walk(service, ledger, long_walk(12, 400))
    found = told(service, ledger)
    with service.database.read() as connection:
        alone = {e.position: e.decision_text for chunk in read_events(connection, ledger, WHOLE) for e in chunk}
        whole = {e.position: e.decision_text for chunk in read_log(connection, ledger, "true") for e, _ in chunk}
    assert found == asked(service, ledger) == alone == whole
    kept = stored(service, ledger)
    assert {p: text for p, text in kept.items() if text is not None}.items() <= found.items()
    assert sum(text is None for text in kept.values()) > 3


def test_only_plain_draws_are_said_by_their_entries(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger(on_shortfall="overage")
    use = {"currency": "USD", "overage_price": "0.10"}
    day = "2026-01-02T00:00:00Z"
    events = [
        cloud_event("b", "credits.purchased", "c", day, block_id='a"b', credits="10", price="1.00", currency="USD"),
        cloud_event("b2", "credits.purchased", "c", day, block_id="plain", credits="999", price="1.00", currency="USD"),
        cloud_event("quoted", "credits.consumed", "c", day, credits="1", **use),
        cloud_event("both", "credits.consumed", "c", day, credits="10", **use),
        cloud_event("small", "credits.consumed", "c", day, credits="0.1", block_id="plain", **use),
        cloud_event("more", "credits.consumed", "c", day, credits="2000", **use),
    ]
    outcomes = service.record(ledger, events)
    assert all(outcome.error is None for outcome in outcomes)
    at = {outcome.event_id: outcome.position for outcome in outcomes}
    kept = stored(service, ledger)
    # Decisions with an id that JSON escapes, and with overage, are stored, because entries do not have all of it. An
    # amount of 0 is left out.
    assert {name: kept[at[name] or 0] is None for name in at} == {
        "b": False,
        "b2": False,
        "quoted": False,
        "both": False,
        "small": True,
        "more": False,
    }
    assert json.loads(told(service, ledger)[at["small"] or 0])["movements"][0]["credits"] == "0.1"
    assert verify(service.database, ledger).differences == []
