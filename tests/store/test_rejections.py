"""Refused events are stored beside the log: once, completely, and until they are recorded or dismissed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from api.service import Subledger
from subledger.errors import InvalidValue, RejectionCut, RejectionSettled, UnknownLedger, UnknownRejection
from subledger.store.database import Database
from subledger.store.rejected import rejections
from subledger.store.rejected.keeper import Keeper
from subledger.store.rejected.rejections import Chosen
from tests.building import purchase, usage
from tests.conftest import NewLedger
from tests.store.rejected import EVERYTHING, kept, refusal
from tests.store.tampering import differences
from tests.together import together
from tests.waiting import HANGS_S


def test_a_refused_event_is_kept_with_all_that_is_known_of_it(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    document = usage("u1", "7.5", unit="token")
    [outcome] = service.record(ledger, [document], by="meter", way="test")
    [found] = kept(service, ledger)
    assert outcome.rejection_id == found.rejection_id
    assert (found.sender, found.way, found.code, found.attempts) == ("meter", "test", "insufficient_credits", 1)
    assert (found.source, found.event_id, found.type, found.customer) == ("billing", "u1", "credits.consumed", "ann")
    assert (str(found.credits), found.unit, found.money) == ("7.5", "token", None)
    assert found.occurred_at == datetime(2026, 1, 20, 10, tzinfo=UTC)
    assert found.sent is not None
    assert json.loads(found.sent) == document
    assert outcome.error is not None
    assert json.loads(found.problem) == outcome.error.as_document()
    assert (found.state, found.position) == ("open", outcome.decided_at_position)


def test_a_batch_without_rejections_writes_nothing_beside_the_log(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    statements: list[str] = []

    class Looked(Database):
        def write(self, **options: bool) -> Any:
            statements.append("write")
            return super().write(**options)

    looked = Looked(service.database.url)
    try:
        other = Subledger(looked)
        outcomes = other.record(ledger, [purchase(), usage("u1"), usage("u1")])
        assert [outcome.status for outcome in outcomes] == ["recorded", "recorded", "duplicate"]
        assert statements == ["write"], "the batch's own transaction alone"
    finally:
        looked.close()


def test_the_same_content_again_raises_attempts_and_makes_no_other_row(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    document = usage("u1")
    service.record(ledger, [document, document], by="ann")
    service.record(ledger, [dict(reversed(document.items()))], by="bob")
    [found] = kept(service, ledger)
    assert (found.attempts, found.sender) == (3, "ann")
    assert found.first_at < found.last_at
    service.record(ledger, [usage("u1", "2")])
    assert len(kept(service, ledger)) == 2, "other content is another rejection"


def test_a_rejection_is_retried_or_corrected_once_its_event_is_recorded_after_it(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    # Also within one batch: refused, then covered by a purchase, then recorded.
    outcomes = service.record(
        ledger, [usage("u1"), usage("u2", "99"), usage("u3"), purchase(), usage("u1"), usage("u2", "2")]
    )
    assert [outcome.status for outcome in outcomes] == ["rejected"] * 3 + ["recorded"] * 3
    states = {found.event_id: (found.state, found.recorded_position) for found in kept(service, ledger)}
    assert states == {
        "u1": ("retried", outcomes[4].position),
        "u2": ("corrected", outcomes[5].position),
        "u3": ("open", None),
    }
    assert [found.event_id for found in kept(service, ledger, Chosen(state="corrected"))] == ["u2"]


def test_a_conflict_stays_open_until_it_is_dismissed(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    service.record(ledger, [purchase(), usage("u1", "1")])
    [outcome] = service.record(ledger, [usage("u1", "2")])
    assert outcome.rejection_id is not None
    [found] = kept(service, ledger)
    assert (found.code, found.state) == ("event_conflict", "open")
    dismissed = service.rejected.dismiss(ledger, outcome.rejection_id, "the meter counted twice", by="carol")
    assert (dismissed.state, dismissed.dismissed_by) == ("dismissed", "carol")
    service.record(ledger, [usage("u1", "2")])
    [again] = kept(service, ledger)
    assert (again.state, again.attempts) == ("open", 2), "whoever dismissed it has not seen this"
    assert kept(service, ledger, Chosen(state="dismissed")) == []
    with service.database.read() as connection:
        [count] = rejections.counts(connection, ledger, Chosen(state="open")).by_code
    assert (count.code, count.rejections) == ("event_conflict", 1)
    once_more = service.rejected.dismiss(ledger, outcome.rejection_id, "again", by="dave")
    assert (once_more.state, once_more.dismissed_by) == ("dismissed", "dave")


def test_a_corrected_event_whose_first_content_is_sent_again_is_open_again(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    service.record(ledger, [usage("u1", "20"), purchase(), usage("u1", "2")])
    assert [found.state for found in kept(service, ledger)] == ["corrected"]
    service.record(ledger, [usage("u1", "20")])
    [found] = kept(service, ledger)
    assert (found.state, found.code, found.attempts) == ("open", "event_conflict", 2)


def test_what_waits_for_a_second_person_and_what_is_a_duplicate_is_no_rejection(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    service.record(ledger, [purchase(), purchase()])
    assert kept(service, ledger) == []


def test_a_rejection_is_retried_by_its_id(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    [outcome] = service.record(ledger, [usage("u1")])
    assert outcome.rejection_id is not None
    again = service.rejected.retry(ledger, outcome.rejection_id, by="ann")
    assert (again.status, again.rejection_id) == ("rejected", outcome.rejection_id)
    assert kept(service, ledger)[0].attempts == 2
    service.record(ledger, [purchase()])
    assert service.rejected.retry(ledger, outcome.rejection_id).status == "recorded"
    assert service.rejected.retry(ledger, outcome.rejection_id).status == "duplicate"
    assert kept(service, ledger)[0].state == "retried"


def test_what_is_settled_or_cut_or_unknown_says_so(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    first, second = (outcome.rejection_id or "" for outcome in service.record(ledger, [usage("u1"), usage("u2")]))
    service.rejected.dismiss(ledger, first, "a test", by="ann")
    with pytest.raises(RejectionSettled, match="dismissed by ann: a test"):
        service.rejected.dismiss(ledger, first, "again", by="bob")
    service.record(ledger, [purchase(), usage("u2")])
    with pytest.raises(RejectionSettled, match="retried, and is recorded at position"):
        service.rejected.dismiss(ledger, second, "again", by="bob")
    with pytest.raises(UnknownRejection):
        service.rejected.retry(ledger, "rej-none")
    for reason in ("", "  ", "x" * 2_001):
        with pytest.raises(InvalidValue):
            service.rejected.dismiss(ledger, first, reason, by="bob")
    [cut] = service.record(ledger, [usage("u9", product="x" * 300_000)])
    assert cut.rejection_id is not None
    with pytest.raises(RejectionCut):
        service.rejected.retry(ledger, cut.rejection_id)


def test_a_ledger_that_does_not_exist_keeps_nothing(service: Subledger, database: Database) -> None:
    assert Keeper(database).keep("no-such-ledger", [refusal(b"{")], sender="ann", way="test") == set()
    with pytest.raises(UnknownLedger):
        service.record("no-such-ledger", [usage("u1")])
    with database.read() as connection:
        assert rejections.counts(connection, "no-such-ledger", EVERYTHING).by_code == ()


def test_several_who_keep_the_same_rejections_at_once_keep_each_once(
    owner_url: str, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    texts = [json.dumps(usage(f"u{n}")).encode() for n in range(200)]
    begin = threading.Barrier(4)

    def work(number: int) -> None:
        database = Database(owner_url)
        try:
            begin.wait()
            for _ in range(5):
                order = texts if number % 2 else list(reversed(texts))
                Keeper(database).keep(ledger, [refusal(text) for text in order], sender="ann", way="test")
        finally:
            database.close()

    together(work, range(4))
    found = kept(service, ledger)
    assert (len(found), {each.attempts for each in found}) == (200, {20})
    assert differences(service, ledger) == [], "each was counted once, too"


KILLED = """
import sys
from api.service import Subledger
from projections.monitors import look_at_open, rejected
from projections.monitors.rejected import READ_AT_MOST
from subledger.store.rejected import dismissals, keeper, rejections
from subledger.store.database import Database
import json, os, signal
url, ledger, moment = sys.argv[1:]
service = Subledger(Database(url))
keep = keeper.Keeper.keep
def killed(*arguments, **options):
    if moment == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    keep(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
keeper.Keeper.keep = killed
service.record(ledger, json.loads(sys.stdin.read()))
"""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_killed_before_it_answers_loses_no_rejection_that_is_sent_again(
    moment: str, owner_url: str, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    batch = [purchase(), usage("u1"), usage("u2", "99"), {"id": "no event"}]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, owner_url, ledger, moment],
        input=json.dumps(batch),
        text=True,
        capture_output=True,
        timeout=HANGS_S,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    assert len(kept(service, ledger)) == (0 if moment == "before" else 2), "nobody was answered"
    again = service.record(ledger, batch)
    assert [outcome.status for outcome in again] == ["duplicate", "duplicate", "rejected", "rejected"]
    found = kept(service, ledger)
    assert sorted(each.attempts for each in found) == ([1, 1] if moment == "before" else [2, 2])
