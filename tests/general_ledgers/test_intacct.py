"""Sage Intacct: only *success* inside an answer is success, a function runs once, and states decide if a journal is
posted.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from api.service import Subledger
from projections.delivery import by_hand
from projections.delivery.connectors.intacct import _endpoint
from projections.delivery.sending import deliver_due
from projections.delivery.states import State
from subledger.external.calls import NotAuthorised
from tests.general_ledgers.conftest import OnItsWay
from tests.general_ledgers.every import intacct_way
from tests.general_ledgers.intacct import IntacctStandIn
from tests.general_ledgers.stand_in import one_after_another, unseen_until_it_is_sent_again
from tests.general_ledgers.working import states, steps, the_one, work

pytestmark = pytest.mark.usefixtures("open_borders")


@pytest.fixture
def intacct() -> Iterator[IntacctStandIn]:
    stand_in = IntacctStandIn()
    yield stand_in
    stand_in.close()


@pytest.fixture
def one(intacct: IntacctStandIn, on_its_way: OnItsWay, tmp_path: Path) -> OnItsWay:
    """One document in the outbox, with additional settings of the channel and of the target."""
    return partial(on_its_way, intacct_way(intacct, tmp_path))


def test_all_calls_of_a_delivery_use_one_session(service: Subledger, one: OnItsWay, intacct: IntacctStandIn) -> None:
    channel, _ = one()
    work(service, channel)
    after = the_one(service, channel)
    assert (after.erp_id, after.due_at) == ("100", None)
    assert intacct.sessions == 1


def test_too_many_requests_is_said_inside_an_answer_and_is_no_attempt(
    service: Subledger, one: OnItsWay, intacct: IntacctStandIn
) -> None:
    channel, delivery = one({"attempts": 2})
    intacct.fault = one_after_another(["throttles"] * 3)
    work(service, channel)
    after = the_one(service, channel)
    assert (after.state, after.attempts) == (State.POSTED, 0)
    assert any("takes no more calls" in str(step.reason) for step in steps(service, delivery))


def test_a_refusal_for_having_been_run_before_is_not_a_rejection(
    service: Subledger, one: OnItsWay, intacct: IntacctStandIn
) -> None:
    channel, delivery = one()
    intacct.fault = unseen_until_it_is_sent_again(intacct)
    work(service, channel)
    assert states(service, delivery).count("submitted") == 2
    assert any("was run before" in str(step.reason) for step in steps(service, delivery))
    assert the_one(service, channel).state is State.POSTED
    assert len(intacct.journals) == 1


def test_what_somebody_has_deleted_there_is_rejected_and_can_be_sent_again(
    service: Subledger, one: OnItsWay, intacct: IntacctStandIn
) -> None:
    channel, delivery = one()
    intacct.meddle = lambda _: intacct.journals.clear()
    work(service, channel)
    assert "deleted" in str(the_one(service, channel).reason)
    intacct.meddle = lambda _: None
    by_hand.retry(service.database, channel.ledger, delivery.delivery_id, by="test")
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED
    assert intacct.completed == {delivery.reference, f"{delivery.reference}-1"}


@pytest.mark.parametrize("waits", ["Draft", "Submitted", "Partially Approved", "Approved", "S"])
def test_an_answer_of_success_is_not_the_books_until_it_is_posted_there(
    service: Subledger, one: OnItsWay, intacct: IntacctStandIn, waits: str
) -> None:
    channel, _ = one()
    intacct.meddle = lambda journal: journal.update(state=waits)
    deliver_due(service.database, channel)
    assert the_one(service, channel).state is State.ACCEPTED
    intacct.journals[0]["state"] = "Posted"
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED


@pytest.mark.parametrize("state", ["Draft", "Posted"])
def test_a_draft_and_a_journal_that_needs_approval_are_accepted_until_somebody_posts_them(
    service: Subledger, one: OnItsWay, intacct: IntacctStandIn, state: str
) -> None:
    intacct.approvals = True
    channel, _ = one(state=state)
    deliver_due(service.database, channel)
    assert the_one(service, channel).state is State.ACCEPTED
    intacct.journals[0]["state"] = "Posted"
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED


@pytest.mark.parametrize(("state", "reason"), [("Declined", "declined"), ("Reversed", "reversed")])
def test_what_was_thrown_away_there_is_a_rejection(
    service: Subledger, one: OnItsWay, intacct: IntacctStandIn, state: str, reason: str
) -> None:
    channel, _ = one()
    intacct.meddle = lambda journal: journal.update(state=state)
    work(service, channel)
    after = the_one(service, channel)
    assert after.state is State.REJECTED
    assert reason in str(after.reason)


def test_a_state_that_we_do_not_know_is_not_the_books(
    service: Subledger, one: OnItsWay, intacct: IntacctStandIn
) -> None:
    channel, _ = one()
    intacct.meddle = lambda journal: journal.update(state="Parked")
    deliver_due(service.database, channel)
    after = the_one(service, channel)
    assert after.state is State.ACCEPTED
    assert "Parked" in str(after.reason)
    intacct.journals[0]["state"] = "Posted"
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED


@pytest.mark.parametrize("left", [1, 0])
def test_other_amounts_or_no_lines_under_our_reference_are_a_rejection(
    service: Subledger, one: OnItsWay, intacct: IntacctStandIn, left: int
) -> None:
    channel, _ = one()
    intacct.meddle = lambda journal: journal["entries"].__delitem__(slice(left, None))
    work(service, channel)
    after = the_one(service, channel)
    assert after.state is State.REJECTED
    assert "it should be" in str(after.reason)


def test_a_journal_that_is_there_twice_is_a_rejection_that_names_both(
    service: Subledger, one: OnItsWay, intacct: IntacctStandIn
) -> None:
    channel, _ = one()
    intacct.meddle = lambda journal: intacct.journals.append({**journal, "number": "200"})
    work(service, channel)
    assert "100, 200" in str(the_one(service, channel).reason)


def test_a_reversal_under_our_reference_is_not_the_journal(
    service: Subledger, one: OnItsWay, intacct: IntacctStandIn
) -> None:
    channel, _ = one()
    intacct.meddle = lambda journal: intacct.journals.append({**journal, "number": "200", "reversed_from": "100"})
    work(service, channel)
    after = the_one(service, channel)
    assert (after.state, after.erp_id) == (State.POSTED, "100")


def test_lines_that_come_page_by_page_are_all_summed(
    service: Subledger, one: OnItsWay, intacct: IntacctStandIn
) -> None:
    channel, _ = one()
    intacct.page = 1
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED
    assert len(intacct.journals[0]["entries"]) > 2


def test_lines_between_entities_are_not_held_against_a_journal_with_a_base_location(
    service: Subledger, one: OnItsWay, intacct: IntacctStandIn
) -> None:
    channel, _ = one(base_location="100")
    intacct.between_entities = ((1, "7.00"), (-1, "7.00"))
    work(service, channel)
    assert the_one(service, channel).state is State.POSTED


@pytest.mark.parametrize("whose", ["sender", "user"])
def test_a_password_that_is_not_taken_ends_as_a_dead_letter_that_says_so(
    service: Subledger, one: OnItsWay, intacct: IntacctStandIn, tmp_path: Path, whose: str
) -> None:
    channel, _ = one({"attempts": 2})
    (tmp_path / f"intacct-{whose}").write_text("wrong")
    work(service, channel)
    after = the_one(service, channel)
    assert (after.state, after.submitted_at) == (State.FAILED, None)
    assert f"does not take the {whose}" in str(after.reason)


def test_passwords_and_sessions_are_not_kept(service: Subledger, one: OnItsWay) -> None:
    channel, delivery = one()
    work(service, channel)
    exchanges = [exchange for step in steps(service, delivery) for exchange in step.exchanges]
    assert any(delivery.reference in exchange.body and "GLBATCH" in exchange.body for exchange in exchanges)
    kept = repr(exchanges)
    for secret in ("of the sender", "of&gt; the sender", 'password\\"', 's "password', "session-1"):
        assert secret not in kept
    assert "(removed)" in kept


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"url": "http://api.intacct.com"}, "url"),
    ({"sender_password": "secret"}, "sender_password"),
    ({"user_password": ""}, "user_password"),
    ({"company_id": ""}, "company_id"),
    ({"throttled_s": -1.0}, "throttled_s"),
    ({"format": "intacct-csv"}, "format"),
]


def test_a_session_is_used_at_intacct_alone() -> None:
    ours = "https://api.intacct.com/ia/xml/xmlgw.phtml"
    assert _endpoint("https://na12.intacct.com/ia/xml/xmlgw.phtml", ours).startswith("https://na12")
    for other in ("https://intacct.com.example/x", "http://na12.intacct.com/x"):
        with pytest.raises(NotAuthorised):
            _endpoint(other, ours)
