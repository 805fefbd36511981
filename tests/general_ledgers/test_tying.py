"""The general ledger's own trial balance, read over a channel: only deliveries that tie out are reconciled."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.http.app import create_app
from api.keys import create_key
from api.service import Subledger
from projections.delivery import outbox
from projections.delivery.channels import Channel
from projections.delivery.checklist import checklist
from projections.delivery.states import State
from projections.delivery.tying import tie_out_channel
from subledger.errors import NotAnswered
from tests.building import cloud_event
from tests.general_ledgers.conftest import MONTH, deliveries
from tests.general_ledgers.netsuite import NetSuiteStandIn
from tests.general_ledgers.working import work

pytestmark = pytest.mark.usefixtures("keys_are_forgotten", "open_borders")


@pytest.fixture
def posted(
    service: Subledger,
    sold: Callable[..., str],
    exported: Callable[..., Any],
    netsuite_channel: Callable[..., Channel],
    netsuite: NetSuiteStandIn,
) -> Channel:
    """January, posted in NetSuite in four documents."""
    ledger = sold(2)
    channel = netsuite_channel(ledger)
    outbox.add(service.database, channel, exported(ledger, approved=True, lines=2), by="test")
    work(service, channel)
    assert len(netsuite.journals) > 1
    return channel


def steps(service: Subledger, ledger: str) -> dict[str, str]:
    found = checklist(service.database, ledger, MONTH, now=datetime(2026, 6, 1, tzinfo=UTC))
    return {step.name: step.state for step in found.steps}


def test_books_that_tie_out_reconcile_what_was_posted(
    service: Subledger, posted: Channel, netsuite: NetSuiteStandIn
) -> None:
    before = steps(service, posted.ledger)
    assert (before["delivery_netsuite"], before["tie_out_netsuite"]) == ("done", "attention")
    found, done = tie_out_channel(service.database, posted.ledger, "netsuite", by="cfo")
    assert found.tied
    assert found.compared >= 3
    assert len(done) == len(netsuite.journals)
    assert {delivery.state for delivery in deliveries(service, posted.ledger)} == {State.RECONCILED}
    assert steps(service, posted.ledger)["tie_out_netsuite"] == "done"
    _, again = tie_out_channel(service.database, posted.ledger, "netsuite", by="cfo")
    assert again == []


def test_an_entry_made_there_by_hand_is_a_difference_and_reconciles_nothing(
    service: Subledger, posted: Channel, netsuite: NetSuiteStandIn
) -> None:
    by_hand = netsuite.journals[0]["record"]["line"]["items"][0]
    by_hand["debit" if "debit" in by_hand else "credit"] += 5
    account = by_hand["account"]["externalId"]
    found, done = tie_out_channel(service.database, posted.ledger, "netsuite", accounts=[account], by="cfo")
    assert [abs(each.difference) for each in found.differences] == [500]
    assert done == []
    assert {delivery.state for delivery in deliveries(service, posted.ledger)} == {State.POSTED}


def test_one_account_that_ties_out_reconciles_nothing(
    service: Subledger, posted: Channel, netsuite: NetSuiteStandIn
) -> None:
    account = netsuite.journals[0]["record"]["line"]["items"][0]["account"]["externalId"]
    found, done = tie_out_channel(service.database, posted.ledger, "netsuite", accounts=[account], by="cfo")
    assert (found.tied, done) == (True, [])
    assert {delivery.state for delivery in deliveries(service, posted.ledger)} == {State.POSTED}


def test_a_difference_in_one_month_does_not_keep_another_from_being_reconciled(
    service: Subledger, posted: Channel, netsuite: NetSuiteStandIn
) -> None:
    late = cloud_event("feb", "credits.consumed", "c0000", "2026-02-05T00:00:00Z", credits="1")
    service.record(posted.ledger, [late])
    service.deliver(posted.ledger, MONTH.next, channel="netsuite")
    work(service, posted)
    revenue = next(
        item
        for journal in netsuite.journals
        if "2026-02" in journal["record"]["memo"]
        for item in journal["record"]["line"]["items"]
        if item["account"]["externalId"] == "4000"
    )
    revenue["credit"] += 5
    found, done = tie_out_channel(service.database, posted.ledger, "netsuite", by="cfo")
    assert {each.period for each in found.differences} == {MONTH.next}
    assert not found.tied
    states = {(each.period, each.state) for each in deliveries(service, posted.ledger)}
    assert states == {(MONTH, State.RECONCILED), (MONTH.next, State.POSTED)}
    assert {each.period for each in done} == {MONTH}


def test_a_month_that_the_books_say_nothing_of_is_a_difference(
    service: Subledger, posted: Channel, netsuite: NetSuiteStandIn
) -> None:
    netsuite.journals.clear()
    found, done = tie_out_channel(service.database, posted.ledger, "netsuite", by="cfo")
    assert found.differences
    assert done == []


def test_entries_that_were_not_handed_over_keep_the_month_from_being_reconciled(
    service: Subledger, posted: Channel
) -> None:
    service.record(
        posted.ledger,
        [
            cloud_event(
                "late",
                "credits.purchased",
                "late",
                "2026-01-06T00:00:00Z",
                block_id="late",
                credits="1",
                price="9.99",
                currency="USD",
            )
        ],
    )
    found, done = tie_out_channel(service.database, posted.ledger, "netsuite", by="cfo")
    assert (found.tied, done) == (False, [])


def test_books_that_do_not_answer_are_not_taken_for_empty(
    service: Subledger, posted: Channel, netsuite: NetSuiteStandIn
) -> None:
    netsuite.locked = True
    with pytest.raises(NotAnswered):
        tie_out_channel(service.database, posted.ledger, "netsuite", by="cfo")


def test_a_controller_ties_out_a_channel_over_http_and_a_reader_does_not(service: Subledger, posted: Channel) -> None:
    at = f"/v1/ledgers/{posted.ledger}/channels/netsuite/tie-out"
    client = TestClient(create_app(service))
    reader, controller = (
        {"Authorization": f"Bearer {create_key(service.database, ledger=posted.ledger, role=role, name=role).secret}"}
        for role in ("reader", "controller")
    )
    assert client.post(at, json={}, headers=reader).status_code == 403
    wrong = client.post(at, json={"csv": "account,period,balance\n2150,2026-01,1.00\n"}, headers=controller).json()
    assert (wrong["tied"], wrong["reconciled"]) == (False, [])
    right = client.post(at, json={"periods": ["2026-01"]}, headers=controller).json()
    assert right["tied"]
    assert right["reconciled"] == [delivery.delivery_id for delivery in deliveries(service, posted.ledger)]
