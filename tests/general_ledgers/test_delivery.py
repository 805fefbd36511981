"""A journal reaches a general ledger once, whatever fails on the way, and every step is stored."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from api.service import Subledger
from projections.delivery import by_hand, channels, outbox, sending
from projections.delivery.channels import Channel
from projections.delivery.deliveries import Delivery
from projections.delivery.sending import deliver_due
from projections.delivery.states import State
from projections.integrity import verify
from subledger.errors import DeliveredOtherwise, DeliveryInHand
from subledger.external.calls import Throttled
from subledger.store.tables import APP_ROLE
from tests.general_ledgers.conftest import deliveries
from tests.general_ledgers.netsuite import NetSuiteStandIn, problem
from tests.general_ledgers.pace import meeting
from tests.general_ledgers.stand_in import FAULTS, Fault, one_after_another
from tests.general_ledgers.working import let_time_pass, states, steps, work
from tests.store.tampering import past_triggers
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("open_borders")

Sold = Callable[..., str]
Exported = Callable[..., Any]
NetSuiteChannel = Callable[..., Channel]


@pytest.fixture
def one(
    service: Subledger, sold: Sold, exported: Exported, netsuite_channel: NetSuiteChannel
) -> tuple[Channel, Delivery]:
    """One document in the outbox."""
    ledger = sold()
    channel = netsuite_channel(ledger)
    [delivery] = outbox.add(service.database, channel, exported(ledger, approved=True), by="test")
    return channel, delivery


def test_a_journal_is_rendered_sent_and_found_in_the_books(
    service: Subledger, one: tuple[Channel, Delivery], netsuite: NetSuiteStandIn
) -> None:
    channel, delivery = one
    work(service, channel)
    assert states(service, delivery) == ["built", "rendered", "submitted", "accepted", "posted"]
    [there] = netsuite.journals
    assert there["reference"] == delivery.reference
    [after] = deliveries(service, channel.ledger)
    assert (after.state, after.erp_id, after.due_at) == (State.POSTED, "1", None)


def test_another_id_of_the_target_than_its_steps_brought_is_found_though_the_application_wrote_it(
    service: Subledger, one: tuple[Channel, Delivery], netsuite: NetSuiteStandIn, owner_url: str
) -> None:
    """The application may write the id, and the trigger seals the row. Steps are never changed."""
    channel, delivery = one
    work(service, channel)

    def found() -> list[tuple[str, str, Any, Any]]:
        report = verify(service.database, channel.ledger)
        return [(one.check, one.subject, one.expected, one.found) for one in report.differences]

    assert found() == []
    for other in ("2", None):
        with psycopg.connect(owner_url) as connection:
            connection.execute(f"SET ROLE {APP_ROLE}")
            connection.execute(
                "UPDATE deliveries SET erp_id = %s WHERE ledger = %s AND delivery_id = %s",
                (other, channel.ledger, delivery.delivery_id),
            )
        assert found() == [("deliveries", delivery.delivery_id, "1", other)]


@pytest.mark.campaign
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_goes_wrong_with_a_submission_it_is_there_once_in_the_end(
    service: Subledger,
    one: tuple[Channel, Delivery],
    netsuite: NetSuiteStandIn,
    fault: Fault,
    netsuite_channel: NetSuiteChannel,
) -> None:
    channel = netsuite_channel(one[0].ledger, **meeting(fault))
    netsuite.fault = one_after_another([fault])
    work(service, channel)
    [after] = deliveries(service, channel.ledger)
    assert after.state is State.POSTED
    assert len(netsuite.journals) == 1
    assert netsuite.met[fault] == 1
    done_by_the_first = fault in ("drops_after", "times_out_after", "fails_after", "late")
    assert sum(netsuite.met.values()) == (1 if done_by_the_first else 2), "sent again only where it is not there"


def test_what_is_unknown_is_not_sent_again_before_it_can_no_longer_arrive(
    service: Subledger, one: tuple[Channel, Delivery], netsuite: NetSuiteStandIn, netsuite_channel: NetSuiteChannel
) -> None:
    delivery = one[1]
    channel = netsuite_channel(one[0].ledger, timeout_s=0.5)
    netsuite.fault = one_after_another(["drops_before"])
    deliver_due(service.database, channel)
    [unknown] = deliveries(service, channel.ledger)
    assert unknown.state is State.UNKNOWN

    def is_posted() -> bool:
        deliver_due(service.database, channel)
        return deliveries(service, channel.ledger)[0].state is State.POSTED

    until(is_posted, "it is sent again and posted")
    kept = steps(service, delivery)
    gaps = [step.at for step in kept if step.state is State.SUBMITTED]
    assert len(gaps) == 2
    assert (gaps[1] - gaps[0]).total_seconds() >= channel.settings.settle_s


@pytest.mark.parametrize("during", ["look-up", "submission"])
def test_a_target_that_is_unavailable_is_left_alone_for_as_long_as_it_asks(
    service: Subledger, one: tuple[Channel, Delivery], netsuite: NetSuiteStandIn, during: str
) -> None:
    channel, delivery = one
    netsuite.retry_after = "1200"
    netsuite.down = during == "look-up"
    netsuite.fault = one_after_another(["fails_before"])
    before = datetime.now(UTC)
    deliver_due(service.database, channel)
    [waiting] = deliveries(service, delivery.ledger)
    assert waiting.state is (State.RENDERED if netsuite.down else State.UNKNOWN)
    assert waiting.attempts == 0, "a wait that the target asks for is no attempt"
    assert waiting.due_at is not None
    assert waiting.due_at - before > timedelta(seconds=1_100)
    calls = netsuite.calls
    with pytest.raises(Throttled):
        channels.turn_of(service.database, channel)()
    assert netsuite.calls == calls


def test_a_journal_that_is_there_from_before_a_restore_is_not_sent_again(
    service: Subledger, one: tuple[Channel, Delivery], netsuite: NetSuiteStandIn, owner_url: str
) -> None:
    channel, delivery = one
    work(service, channel)
    with past_triggers(owner_url, "deliveries", "delivery_steps") as connection:  # as in an older backup
        connection.execute(
            "UPDATE deliveries SET state = 'built', steps = 1, due_at = now(), submitted_at = NULL WHERE ledger = %s",
            (channel.ledger,),
        )
        connection.execute("DELETE FROM delivery_steps WHERE step > 1 AND ledger = %s", (channel.ledger,))
    work(service, channel)
    assert states(service, delivery) == ["built", "rendered", "posted"]
    assert len(netsuite.journals) == 1


def test_a_closed_period_is_a_rejection_and_goes_through_when_it_is_tried_again_later(
    service: Subledger, one: tuple[Channel, Delivery], netsuite: NetSuiteStandIn
) -> None:
    channel, delivery = one
    netsuite.closed.add("2026-01")
    work(service, channel)
    [rejected] = deliveries(service, channel.ledger)
    assert rejected.state is State.REJECTED
    assert rejected.reason is not None
    assert "The posting period is closed" in rejected.reason
    netsuite.closed.clear()
    by_hand.retry(service.database, channel.ledger, delivery.delivery_id, by="cfo", reason="January is open again")
    work(service, channel)
    assert states(service, delivery)[-3:] == ["submitted", "accepted", "posted"]
    assert [step.by for step in steps(service, delivery) if step.reason == "January is open again"] == ["cfo"]


def test_a_custom_field_is_refused_until_somebody_has_made_it(
    service: Subledger, sold: Sold, exported: Exported, netsuite_channel: NetSuiteChannel, netsuite: NetSuiteStandIn
) -> None:
    ledger = sold()
    channel = netsuite_channel(ledger)
    export = exported(ledger, approved=True, export_field="custbody_export", line_field="custcol_line")
    [delivery] = outbox.add(service.database, channel, export, by="test")
    work(service, channel)
    [rejected] = deliveries(service, ledger)
    assert rejected.state is State.REJECTED
    assert "unknown property custbody_export" in str(rejected.reason)
    netsuite.fields = frozenset({"custbody_export", "custcol_line"})
    by_hand.retry(service.database, ledger, delivery.delivery_id, by="cfo", reason="the fields were made")
    work(service, channel)
    assert netsuite.journals[0]["record"]["custbody_export"] == export.export_id


def test_a_journal_that_went_into_another_period_is_a_rejection_that_names_it(
    service: Subledger, sold: Sold, exported: Exported, netsuite_channel: NetSuiteChannel, netsuite: NetSuiteStandIn
) -> None:
    ledger = sold()
    channel = netsuite_channel(ledger)
    netsuite.closed.add("2026-01")
    netsuite.moves_to = "2026-02"
    export = exported(ledger, approved=True, posting_period_ids={"2026-01": "2026-01"})
    outbox.add(service.database, channel, export, by="test")
    work(service, channel)
    [after] = deliveries(service, ledger)
    assert after.state is State.REJECTED
    assert after.reason is not None
    assert "period 2026-02" in after.reason


def test_an_answer_of_success_is_not_the_books_until_it_is_approved_there(
    service: Subledger, sold: Sold, exported: Exported, netsuite_channel: NetSuiteChannel, netsuite: NetSuiteStandIn
) -> None:
    ledger = sold()
    channel = netsuite_channel(ledger)
    outbox.add(service.database, channel, exported(ledger), by="test")
    deliver_due(service.database, channel)
    [waiting] = deliveries(service, ledger)
    assert waiting.state is State.ACCEPTED
    netsuite.journals[0]["record"].update(approved=True, approvalStatus={"id": "2"})
    work(service, channel)
    [after] = deliveries(service, ledger)
    assert after.state is State.POSTED


def test_other_amounts_under_our_reference_are_a_rejection(
    service: Subledger, one: tuple[Channel, Delivery], netsuite: NetSuiteStandIn, netsuite_channel: NetSuiteChannel
) -> None:
    channel = netsuite_channel(one[0].ledger, first_wait_s=0.5, longest_wait_s=0.5)
    netsuite.fault = one_after_another(["drops_after"])
    deliver_due(service.database, channel)
    netsuite.journals[0]["record"]["line"]["items"][0]["debit"] += 0.01
    work(service, channel)
    [after] = deliveries(service, channel.ledger)
    assert after.state is State.REJECTED
    assert after.reason is not None
    assert "it should be" in after.reason


def test_attempts_that_come_to_nothing_end_as_a_dead_letter_that_can_be_retried(
    service: Subledger, one: tuple[Channel, Delivery], netsuite: NetSuiteStandIn, netsuite_channel: NetSuiteChannel
) -> None:
    channel, delivery = one
    channel = netsuite_channel(channel.ledger, attempts=3)
    netsuite.locked = True
    work(service, channel)
    [dead] = deliveries(service, channel.ledger)
    assert (dead.state, dead.attempts, dead.due_at) == (State.FAILED, 2, None)
    assert "3 attempts came to nothing" in str(dead.reason)
    netsuite.locked = False
    by_hand.retry(service.database, channel.ledger, delivery.delivery_id, by="test")
    work(service, channel)
    assert states(service, delivery)[-1] == "posted"


def test_a_call_is_kept_word_for_word_and_without_secrets(
    service: Subledger, one: tuple[Channel, Delivery], netsuite: NetSuiteStandIn
) -> None:
    channel, delivery = one
    work(service, channel)
    exchanges = [exchange for step in steps(service, delivery) for exchange in step.exchanges]
    [sent] = [exchange for exchange in exchanges if exchange.url.endswith("/journalEntry")]
    assert (sent.method, sent.status) == ("POST", 204)
    assert delivery.reference in sent.body
    kept = repr(exchanges)
    assert "token-1" not in kept
    assert "PRIVATE" not in kept
    assert "eyJ" not in kept, "nor the signed assertion"
    assert "(removed)" in kept


def test_a_worker_that_died_leaves_what_it_sent_to_a_look_up(
    service: Subledger, one: tuple[Channel, Delivery], netsuite: NetSuiteStandIn, owner_url: str
) -> None:
    channel, delivery = one
    soon = datetime.now(UTC) + timedelta(minutes=1)
    claimed = outbox.claim(service.database, channel, due_by=soon, lease_s=60)
    assert claimed is not None
    assert claimed.delivery.delivery_id == delivery.delivery_id
    assert outbox.claim(service.database, channel, due_by=soon, lease_s=60) is None, "one worker has it in hand"
    mine = claimed.claim
    moved = outbox.move(service.database, delivery, mine, State.RENDERED, wait_s=0, payload=b"[]", keep=True)
    outbox.move(service.database, moved, mine, State.SUBMITTED, wait_s=0, keep=True)
    with psycopg.connect(owner_url) as connection:
        connection.execute("UPDATE deliveries SET claimed_until = now() WHERE claim = %s", (mine,))
    deliver_due(service.database, channel)
    assert states(service, delivery)[-2:] == ["submitted", "unknown"]
    with pytest.raises(outbox.ClaimLost):
        outbox.move(service.database, moved, mine, State.SUBMITTED, wait_s=0)


def test_one_journal_goes_to_a_general_ledger_in_one_form(
    service: Subledger, one: tuple[Channel, Delivery], exported: Exported
) -> None:
    channel, delivery = one
    again = exported(channel.ledger, approved=True)
    assert [d.delivery_id for d in outbox.add(service.database, channel, again, by="test")] == [delivery.delivery_id]
    deposits = exported(channel.ledger, form="netsuite-deposits")
    with pytest.raises(DeliveredOtherwise) as refused:
        outbox.add(service.database, channel, deposits, by="test")
    assert refused.value.facts["delivery"] == delivery.delivery_id
    by_hand.abandon(service.database, channel.ledger, delivery.delivery_id, by="test", reason="as deposits instead")
    assert outbox.add(service.database, channel, deposits, by="test")
    with pytest.raises(DeliveredOtherwise):
        by_hand.retry(service.database, channel.ledger, delivery.delivery_id, by="test")


@pytest.mark.parametrize("fault", [None, "drops_after", "late", "fails_before"])
def test_deposits_applications_and_journals_of_blocks_go_in_their_order(
    service: Subledger,
    sold: Sold,
    exported: Exported,
    netsuite_channel: NetSuiteChannel,
    netsuite: NetSuiteStandIn,
    fault: Fault | None,
) -> None:
    ledger = sold(2)
    # The application is tried again as long as its deposit may still arrive. This does not use up its attempts.
    channel = netsuite_channel(ledger, format="netsuite-deposits", attempts=1_000, **(meeting(fault) if fault else {}))
    export = exported(ledger, form="netsuite-deposits", approved=True)
    added = outbox.add(service.database, channel, export, by="test")
    netsuite.fault = one_after_another([fault])  # for the first deposit, so its application has to wait
    work(service, channel)
    assert {delivery.state for delivery in deliveries(service, ledger)} == {State.POSTED}
    there = [journal["reference"] for journal in netsuite.journals]
    assert sorted(there) == sorted(delivery.reference for delivery in added)
    kinds = [journal["kind"] for journal in netsuite.journals]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "customerDeposit": 2,
        "journalEntry": 2,
        "depositApplication": 2,
    }
    [applied] = [each for each in netsuite.journals if each["reference"].startswith("APP-b0000")]
    assert applied["record"]["apply"]["items"][0]["doc"]["externalId"].startswith("JE-b0000")


def test_a_file_that_was_taken_out_does_not_come_back_beside_the_documents(
    service: Subledger, sold: Sold, exported: Exported, netsuite_channel: NetSuiteChannel, tmp_path: Path
) -> None:
    ledger = sold()
    folder = channels.set_channel(
        service.database,
        ledger,
        "drop",
        {"connector": "folder", "format": "netsuite-csv", "directory": str(tmp_path)},
        by="test",
    )
    [file] = outbox.add(service.database, folder, exported(ledger, form="netsuite-csv"), by="test")
    by_hand.abandon(service.database, ledger, file.delivery_id, by="test", reason="by the API instead")
    channel = netsuite_channel(ledger)
    outbox.add(service.database, channel, exported(ledger, approved=True), by="test")
    with pytest.raises(DeliveredOtherwise):
        by_hand.retry(service.database, ledger, file.delivery_id, by="test")


def test_what_was_taken_out_while_unknown_may_still_arrive_so_another_way_waits(
    service: Subledger, one: tuple[Channel, Delivery], netsuite: NetSuiteStandIn, exported: Exported, tmp_path: Path
) -> None:
    channel, delivery = one
    netsuite.fault = one_after_another(["late"])
    deliver_due(service.database, channel)
    by_hand.abandon(service.database, channel.ledger, delivery.delivery_id, by="test", reason="another way")
    [submitted] = [step.at for step in steps(service, delivery) if step.state is State.SUBMITTED]
    given = {"connector": "folder", "format": "netsuite-csv", "directory": str(tmp_path), "settle_s": 100.0}
    folder = channels.set_channel(service.database, channel.ledger, "drop", given, by="test")
    [file] = outbox.add(service.database, folder, exported(channel.ledger, form="netsuite-csv"), by="test")
    assert file.due_at is not None
    assert 99 < (file.due_at - submitted).total_seconds() < 101


def test_a_worker_whose_clock_is_ahead_believes_no_look_up_before_its_time(
    service: Subledger,
    one: tuple[Channel, Delivery],
    netsuite: NetSuiteStandIn,
    netsuite_channel: NetSuiteChannel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + timedelta(hours=1)

    monkeypatch.setattr(sending, "datetime", Ahead)
    netsuite.unique = False
    netsuite.fault = one_after_another(["late"])
    work(service, netsuite_channel(one[0].ledger, **meeting("late")))
    assert len(netsuite.journals) == 1


def test_a_worker_that_was_held_up_does_not_send_what_others_look_for_by_then(
    service: Subledger,
    one: tuple[Channel, Delivery],
    netsuite: NetSuiteStandIn,
    netsuite_channel: NetSuiteChannel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    channel = netsuite_channel(one[0].ledger, timeout_s=1.0)  # so a call must begin within half a second
    move = outbox.move

    def held_up(database: Any, delivery: Delivery, mine: str, state: State, **more: Any) -> Delivery:
        moved = move(database, delivery, mine, state, **more)
        if state is State.SUBMITTED:
            monkeypatch.setattr(outbox, "move", move)
            time.sleep(0.8)
        return moved

    monkeypatch.setattr(outbox, "move", held_up)
    deliver_due(service.database, channel)
    assert netsuite.journals == []
    assert "too long" in str(deliveries(service, channel.ledger)[0].reason)
    work(service, channel)
    assert len(netsuite.journals) == 1


@pytest.mark.parametrize("detail", ["a\u0000b", "a\ud800b", "SECRET token-1 and more"])
def test_a_reason_is_kept_without_secrets_and_whatever_it_holds(
    service: Subledger,
    one: tuple[Channel, Delivery],
    netsuite: NetSuiteStandIn,
    monkeypatch: pytest.MonkeyPatch,
    detail: str,
) -> None:
    monkeypatch.setattr(netsuite, "_create", lambda _: problem(400, "USER_ERROR", detail))
    work(service, one[0])
    [after] = deliveries(service, one[0].ledger)
    assert after.state is State.REJECTED
    assert "USER_ERROR" in str(after.reason)
    assert "token-1" not in str(after.reason)


def test_what_a_worker_called_that_had_lost_its_claim_is_kept_all_the_same(
    service: Subledger,
    one: tuple[Channel, Delivery],
    netsuite: NetSuiteStandIn,
    owner_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    channel, delivery = one
    create = netsuite._create

    def taken_over(record: Any) -> Any:
        with psycopg.connect(owner_url) as connection:
            connection.execute(
                "UPDATE deliveries SET claim = 'another', claimed_until = now() WHERE ledger = %s", (channel.ledger,)
            )
        return create(record)

    monkeypatch.setattr(netsuite, "_create", taken_over)
    work(service, channel)
    [posted] = [e for s in steps(service, delivery) for e in s.exchanges if e.url.endswith("/journalEntry")]
    assert (posted.method, posted.status) == ("POST", 204)
    assert states(service, delivery)[-1] == "posted"


def test_only_a_dead_letter_is_tried_again(service: Subledger, one: tuple[Channel, Delivery]) -> None:
    channel, delivery = one
    with pytest.raises(DeliveryInHand):
        by_hand.retry(service.database, channel.ledger, delivery.delivery_id, by="test")
    work(service, channel)
    with pytest.raises(DeliveryInHand):
        by_hand.retry(service.database, channel.ledger, delivery.delivery_id, by="test")


class Died(BaseException):
    """A worker is killed, so it does not clean up."""


@pytest.mark.campaign
@pytest.mark.parametrize("steps_between", [2, 3, 4])  # a worker that dies at each step would never send
@pytest.mark.parametrize("fault", [None, "drops_after", "drops_before"])
def test_workers_that_die_after_any_step_leave_it_to_the_next_one(
    service: Subledger,
    one: tuple[Channel, Delivery],
    netsuite: NetSuiteStandIn,
    owner_url: str,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault | None,
    steps_between: int,
) -> None:
    channel, delivery = one
    netsuite.unique = False
    netsuite.fault = one_after_another([fault])
    alive, move = [steps_between], outbox.move

    def moves_and_dies(*given: Any, **named: Any) -> Delivery:
        moved = move(*given, **named)
        alive[0] -= 1
        if not alive[0]:
            raise Died
        return moved

    monkeypatch.setattr(outbox, "move", moves_and_dies)

    def next_worker_ends_it() -> bool:
        alive[0] = steps_between
        with suppress(Died):
            deliver_due(service.database, channel)
        with psycopg.connect(owner_url) as connection:  # its claim ends
            connection.execute("UPDATE deliveries SET claimed_until = now() WHERE claim IS NOT NULL")
        let_time_pass(service, channel)
        return deliveries(service, channel.ledger)[0].state is State.POSTED

    until(next_worker_ends_it, "the delivery is posted")
    assert states(service, delivery)[-1] == "posted"
    assert len(netsuite.journals) == 1
