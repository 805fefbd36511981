"""Refused events are kept beside the log: once, whole, bounded, and nobody rewrites them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime
from typing import Any

import orjson
import psycopg
import pytest

from api.service import Subledger
from projections.monitors import look_at_open, rejected
from projections.monitors.rejected import READ_AT_MOST
from projections.monitors.settings import set_settings
from subledger.deciding.shortfalls import Shortfall
from subledger.errors import (
    InsufficientCredits,
    InvalidValue,
    RejectionCut,
    RejectionSettled,
    UnknownLedger,
    UnknownRejection,
)
from subledger.events.rejections import read_rejection
from subledger.store.database import Database
from subledger.store.rejected import dismissals, rejections
from subledger.store.rejected.keeper import Bounds, Keeper, Refusal
from subledger.store.rejected.rejections import BEYOND, START, Chosen, Kept
from subledger.store.tables import APP_ROLE, metadata
from tests.building import purchase, usage
from tests.conftest import NewLedger
from tests.store.tampering import differences, tamper
from tests.waiting import HANGS_S

EVERYTHING = Chosen()


def kept(service: Subledger, ledger: str, chosen: Chosen = EVERYTHING) -> list[Kept]:
    with service.database.read() as connection:
        return rejections.rejections_page(connection, ledger, chosen, after=START, limit=1_000)


def refusal(text: bytes, code: str = "insufficient_credits") -> Refusal:
    return Refusal(rejection=read_rejection(text), code=code, problem={"code": code, "detail": "why"})


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
    # Within one batch too: refused, then paid for, then recorded.
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


@pytest.mark.parametrize("counted_every", [1, 1_000])
def test_beyond_the_bound_of_a_day_rejections_are_counted_by_code_and_what_is_known_goes_on(
    counted_every: int, database: Database, new_ledger: NewLedger
) -> None:
    service = Subledger(database, rejections=Bounds(rows=3, counted_every=counted_every))
    ledger = new_ledger()
    service.record(ledger, [usage("u1", "5"), usage("u2", "6")])
    outcomes = service.record(ledger, [usage("u1", "5"), *(usage(f"v{n}") for n in range(4)), {"id": "no event"}])
    assert [outcome.rejection_id is not None for outcome in outcomes] == [True, True, False, False, False, False]
    service.record(ledger, [usage("w"), usage("w")])
    found = {(each.event_id, each.way == BEYOND, each.code): each.attempts for each in kept(service, ledger)}
    assert found == {
        ("u1", False, "insufficient_credits"): 2,
        ("u2", False, "insufficient_credits"): 1,
        ("v0", False, "insufficient_credits"): 1,
        (None, True, "insufficient_credits"): 5,
        (None, True, "missing_field"): 1,
    }
    with service.database.read() as connection:
        by_code = {count.code: count for count in rejections.counts(connection, ledger, EVERYTHING).by_code}
    short = by_code["insufficient_credits"]
    assert (short.rejections, short.attempts, short.beyond) == (8, 9, 5)
    assert {unit: str(credits) for unit, credits in short.credits.items()} == {"credit": "12"}
    [counting] = [each for each in kept(service, ledger) if each.code == "missing_field"]
    assert "not stored one by one" in counting.problem
    with pytest.raises(RejectionCut):
        service.rejected.retry(ledger, counting.rejection_id)


@pytest.mark.parametrize("counted_every", [1, 1_000])
def test_beyond_the_bytes_of_a_day_the_text_is_left_out_and_all_else_is_kept(
    counted_every: int, database: Database, new_ledger: NewLedger
) -> None:
    service = Subledger(database, rejections=Bounds(text_bytes=2_500, counted_every=counted_every))
    ledger = new_ledger()
    for number in range(4):
        service.record(ledger, [usage(f"u{number}", "5", product="x" * 1_000)])
    found = kept(service, ledger)
    assert [each.whole for each in found] == [True, True, False, False]
    assert {(str(each.credits), each.sent_bytes > 1_000, len(each.content_hash)) for each in found} == {("5", True, 32)}
    with pytest.raises(RejectionCut, match=r"is not stored: .* the bound of 2500 bytes; send the event again") as cut:
        service.rejected.retry(ledger, found[-1].rejection_id)
    assert cut.value.found == f"0 of {found[-1].sent_bytes} bytes"


@pytest.mark.parametrize("counted_every", [1, 1_000])
def test_what_is_refused_again_takes_no_room(counted_every: int, database: Database, new_ledger: NewLedger) -> None:
    service = Subledger(database, rejections=Bounds(rows=3, text_bytes=3_000, counted_every=counted_every))
    ledger = new_ledger()
    for _ in range(20):
        service.record(ledger, [usage("u1", product="x" * 1_000), usage("u2")])
    service.record(ledger, [usage("u3", product="x" * 1_000)])
    assert [(each.whole, each.attempts) for each in kept(service, ledger)] == [(True, 20), (True, 20), (True, 1)]


def test_a_text_that_there_was_no_room_for_comes_with_the_next_refusal_once_there_is_some(
    database: Database, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    full, roomy = (Subledger(database, rejections=Bounds(text_bytes=size)) for size in (100, 10_000))
    document = usage("u1", "5", product="x" * 200)
    for _ in range(2):
        [outcome] = full.record(ledger, [document], by="ann")
        [found] = kept(full, ledger)
        assert (found.sent, found.whole) == (b"", False)
    assert outcome.rejection_id is not None
    with pytest.raises(RejectionCut):
        roomy.rejected.retry(ledger, outcome.rejection_id)
    keeper = Keeper(database, Bounds(text_bytes=10_000))
    # The same content, written otherwise: its length is another, too.
    other = json.dumps(document, indent=4, sort_keys=True).encode()
    assert len(other) != found.sent_bytes
    keeper.keep(ledger, [refusal(other)], sender="bob", way="test")
    [found] = kept(roomy, ledger)
    assert (found.sent, found.sent_bytes, found.whole, found.attempts) == (other, len(other), True, 3)
    assert (found.sender, found.rejection_id) == ("ann", outcome.rejection_id)
    keeper.keep(ledger, [refusal(json.dumps(document).encode())], sender="bob", way="test")
    assert kept(roomy, ledger)[0].sent == other, "what is all there stays as it is"
    roomy.record(ledger, [purchase()])
    assert roomy.rejected.retry(ledger, outcome.rejection_id).status == "recorded"
    assert differences(roomy, ledger) == []


def test_a_text_that_was_cut_gives_way_to_all_of_it(database: Database, new_ledger: NewLedger) -> None:
    ledger, service, keeper = new_ledger(), Subledger(database), Keeper(database)
    document = usage("u1", product="x" * 200_000)
    long, short = (json.dumps(document, indent=indent).encode() for indent in (20_000, None))
    for text, whole in ((long, False), (long, False), (short, True), (long, True)):
        keeper.keep(ledger, [refusal(text)], sender="ann", way="test")
        [found] = kept(service, ledger)
        assert (found.whole, found.sent_bytes == len(short)) == (whole, whole)
    assert differences(service, ledger) == []


@pytest.mark.parametrize("again", [False, True])
def test_texts_that_are_added_to_earlier_rejections_are_of_the_day_on_which_they_come(
    again: bool, owner_url: str, database: Database, new_ledger: NewLedger
) -> None:
    ledger, service = new_ledger(), Subledger(database)
    texts = [json.dumps(usage(f"u{n}", product="x" * 900)).encode() for n in range(4)]
    with psycopg.connect(owner_url) as owner:
        for text in texts:
            owner.execute(YESTERDAY, (ledger, read_rejection(text).rejection_id, len(text)))
        owner.execute("INSERT INTO tallies (ledger, relation, rows) VALUES (%s, 'rejected_events', 4)", (ledger,))
    bounds = Bounds(text_bytes=2_500)
    keeper = Keeper(database, bounds)
    for text in texts:
        keeper.keep(ledger, [refusal(text)], sender="ann", way="test")
        if again:  # another process, which counts what is there
            keeper = Keeper(database, bounds)
    assert [each.whole for each in kept(service, ledger)].count(True) == 2
    keeper.keep(ledger, [refusal(json.dumps(usage("new", product="x" * 900)).encode())], sender="ann", way="test")
    assert [each.whole for each in kept(service, ledger, Chosen(event_id="new"))] == [False]
    assert differences(service, ledger) == []


YESTERDAY = """
INSERT INTO rejected_events (ledger, rejection_id, content_hash, sent, sent_bytes, sender, way, first_at, code, problem,
    position, last_at, attempts)
VALUES (%s, %s, '', '', %s, 'meter', 'http', now() - interval '1 day', 'missing_field', '{}', 0,
        now() - interval '1 day', 1)
"""


def test_texts_stay_within_the_bound_while_several_keep_and_one_dismisses_the_same_rejections(
    owner_url: str, database: Database, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    bounds = Bounds(text_bytes=40_000, counted_every=10)
    texts = [json.dumps(usage(f"u{n}", product="x" * 900)).encode() for n in range(60)]
    service = Subledger(database, rejections=bounds)
    failures: list[BaseException] = []
    begin, rounds, keepers = threading.Barrier(3), 8, 2

    def work(number: int) -> None:
        own = Database(owner_url)
        try:
            begin.wait()
            for round_ in range(rounds):
                if number == keepers:
                    seen = service.rejected.open_ones(ledger, EVERYTHING, limit=1_000)
                    dismissals.dismiss_seen(own, ledger, seen, by="carol", reason="a test")
                    continue
                # As a process that has just started: it counts what is there.
                order = texts if (number + round_) % 2 else list(reversed(texts))
                Keeper(own, bounds).keep(ledger, [refusal(text) for text in order], sender="ann", way="test")
        except BaseException as error:
            failures.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(keepers + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    found = kept(service, ledger)
    assert (len(found), {each.attempts for each in found}) == (60, {rounds * keepers})
    size = sum(len(each.sent or b"") for each in found)
    # Two that begin at once have the bound each.
    assert 39_000 < size <= 2 * bounds.text_bytes
    assert differences(service, ledger) == []


def test_several_who_keep_the_same_rejections_at_once_keep_each_once(
    owner_url: str, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    texts = [json.dumps(usage(f"u{n}")).encode() for n in range(200)]
    begin, failures = threading.Barrier(4), []

    def work(number: int) -> None:
        database = Database(owner_url)
        try:
            begin.wait()
            for _ in range(5):
                order = texts if number % 2 else list(reversed(texts))
                Keeper(database).keep(ledger, [refusal(text) for text in order], sender="ann", way="test")
        except BaseException as error:
            failures.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
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


TAMPERING = [
    "UPDATE rejected_events SET sent = 'other' WHERE ledger = %s",
    "UPDATE rejected_events SET sent_bytes = 1, sent = 'x', attempts = attempts + 1, last_at = '2199-01-01',"
    " text_at = '2199-01-01' WHERE ledger = %s",
    "UPDATE rejected_events SET text_at = last_at WHERE ledger = %s",
    "UPDATE rejected_events SET customer = NULL WHERE ledger = %s",
    "UPDATE rejected_events SET credits = 7 WHERE ledger = %s",
    "UPDATE rejected_events SET sender = 'bob' WHERE ledger = %s",
    "UPDATE rejected_events SET first_at = now() WHERE ledger = %s",
    "UPDATE rejected_events SET attempts = attempts - 1 WHERE ledger = %s",
    "UPDATE rejected_events SET code = 'fine' WHERE ledger = %s",
    "UPDATE rejected_events SET position = position + 1 WHERE ledger = %s",
    "UPDATE rejected_events SET dismissed_at = NULL, dismissed_by = NULL, dismissed_reason = NULL WHERE ledger = %s",
    "UPDATE rejected_events SET dismissed_by = 'bob' WHERE ledger = %s",
    "UPDATE rejected_events SET reopened_at = dismissed_at WHERE ledger = %s",
    "DELETE FROM rejected_events WHERE ledger = %s",
    "UPDATE rejection_steps SET done_by = 'bob' WHERE ledger = %s",
    "DELETE FROM rejection_steps WHERE ledger = %s",
]


@pytest.mark.parametrize("statement", TAMPERING)
@pytest.mark.parametrize("role", [APP_ROLE, "none"])
def test_nobody_rewrites_a_rejection_or_takes_a_dismissal_back(
    statement: str, role: str, owner_url: str, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    outcomes = service.record(ledger, [usage("u1"), usage("u1")])
    service.rejected.dismiss(ledger, outcomes[0].rejection_id or "", "a test", by="ann")
    with psycopg.connect(owner_url) as connection:
        connection.execute(f"SET ROLE {role}")  # type: ignore[call-overload]  # one of two constants
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.RestrictViolation)):
            connection.execute(statement, (ledger,))  # type: ignore[call-overload]  # one of the constants above


def test_rejections_are_never_truncated(owner_url: str) -> None:
    with psycopg.connect(owner_url) as connection, pytest.raises(psycopg.errors.RestrictViolation):
        connection.execute("TRUNCATE rejected_events")


COLUMNS = sorted(column.name for column in metadata.tables["rejected_events"].columns if column.name != "ledger")


@pytest.mark.parametrize("column", COLUMNS)
def test_a_change_of_any_column_past_the_triggers_is_found(
    column: str, owner_url: str, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    service.record(ledger, [usage("u1"), purchase("b", "much")])
    assert differences(service, ledger) == []
    kind = str(metadata.tables["rejected_events"].columns[column].type)
    other = {
        "TEXT": "'other'",
        "BYTEA": "'\\x00'",
        "NUMERIC": "99",
        "BIGINT": "99",
        "TIMESTAMP WITH TIME ZONE": "'2020-01-01'",
        "BLOB": "'\\x00'",
        "DATETIME": "'2020-01-01'",
    }[kind]
    together = {
        "amount_minor": ", currency = 'USD'",
        "currency": ", amount_minor = 1",
        "unit": ", credits = 1",
        "reopened_at": ", dismissed_at = '2019-01-01', dismissed_by = 'a', dismissed_reason = 'b'",
        "dismissed_at": ", dismissed_by = 'a', dismissed_reason = 'b'",
        "dismissed_by": ", dismissed_at = now(), dismissed_reason = 'b'",
        "dismissed_reason": ", dismissed_at = now(), dismissed_by = 'a'",
    }.get(column, "")
    where = f"ledger = '{ledger}' AND event_id = 'u1'"
    tamper(owner_url, "rejected_events", f"UPDATE rejected_events SET {column} = {other}{together} WHERE {where}")
    found = {found.check for found in differences(service, ledger)}
    assert found - {"rejection_steps"} == {"rejected_events"}, "a dismissal without its step is one more"


def test_a_rejection_that_is_taken_away_past_the_triggers_is_missed(
    owner_url: str, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    service.record(ledger, [usage("u1"), usage("u2"), usage("u1")])
    service.record(ledger, [usage("u1"), usage("u3")])
    assert differences(service, ledger) == []
    tamper(owner_url, "rejected_events", f"DELETE FROM rejected_events WHERE ledger = '{ledger}' AND event_id = 'u1'")
    [found] = differences(service, ledger)
    assert (found.check, found.expected, found.found) == ("rejected_events", "3", "2")


AGAIN = "attempts = attempts + 1, last_at = clock_timestamp()"


@pytest.mark.parametrize(
    ("statement", "check"),
    [
        # The application's own rights: a reopening that says nobody's name, a note of an event that is not there.
        ("UPDATE rejected_events SET reopened_at = now() WHERE ledger = %s", "rejection_steps"),
        ("UPDATE rejected_events SET settled_position = 99 WHERE ledger = %s", "rejected_events"),
        # A rejection of a later position is never found recorded; one of a later moment is open after each dismissal.
        (f"UPDATE rejected_events SET position = 99, {AGAIN} WHERE ledger = %s", "rejected_events"),
        (f"UPDATE rejected_events SET {AGAIN} + interval '25 hours' WHERE ledger = %s", "rejected_events"),
        ("INSERT INTO rejection_steps SELECT %s, 'rej-none', now(), 'reopened', 'bob', 'x'", "rejection_steps"),
    ],
)
def test_what_the_application_may_write_and_did_not_is_found(
    statement: str, check: str, owner_url: str, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    [outcome] = service.record(ledger, [usage("u1")])
    service.rejected.dismiss(ledger, outcome.rejection_id or "", "a test", by="ann")
    assert differences(service, ledger) == []
    with psycopg.connect(owner_url) as connection:
        connection.execute(f"SET ROLE {APP_ROLE}")
        connection.execute(statement, (ledger,))  # type: ignore[call-overload]  # one of the constants above
    assert check in {found.check for found in differences(service, ledger)}


# --- reads are bounded ----------------------------------------------------------------------------------------------

MANY = 200_000
FILL = """
INSERT INTO rejected_events (ledger, rejection_id, content_hash, sent, sent_bytes, source, event_id, type, customer,
    occurred_at, data_hash, credits, unit, sender, way, first_at, code, problem, position, last_at, attempts)
SELECT %(ledger)s, 'rej-' || %(prefix)s || n, '', %(sent)s, 2, 'billing', %(prefix)s || n, 'credits.consumed', 'ann',
       now(), '', 1, 'credit', 'meter', 'http',
       date_trunc('day', now()) - interval '2 days' + n * interval '1 microsecond',
       %(code)s, %(problem)s, 0, now() - interval '1 day', 1 FROM generate_series(1, %(rows)s) AS n
"""


def _rows_read(service: Subledger, ledger: str, most: int) -> int:
    """Rows of rejections that a look at open ones reads, by an index or without, also those that it throws away."""
    values = {"ledger": ledger, "most": most, "first_before": None}
    query = rejections.COUNT_OLDEST.strip().split("\n", 1)[1]
    with service.database.read() as connection:
        [(plan,)] = connection.exec_driver_sql("EXPLAIN (ANALYZE, FORMAT JSON) " + query, values).all()

    def read(node: dict[str, Any]) -> int:
        below = sum(read(each) for each in node.get("Plans", ()))
        if node.get("Relation Name") != "rejected_events":
            return below
        rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        return below + int(rows * node["Actual Loops"])

    return read(plan[0]["Plan"])


def _fill(owner_url: str, ledger: str, rows: int, **other: object) -> None:
    values = {"prefix": "v", "code": "missing_field", "sent": b"{}", "problem": "{}", **other}
    with psycopg.connect(owner_url) as owner:
        owner.execute(FILL, {"ledger": ledger, "rows": rows, **values})
        owner.execute("ANALYZE rejected_events")


@pytest.mark.campaign
def test_a_look_at_200_000_open_rejections_reads_10_000_of_each_code(
    owner_url: str, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    _fill(owner_url, ledger, MANY)
    most = READ_AT_MOST
    with service.database.read() as connection:
        found = rejections.open_counts(connection, ledger, most=most)
        every = rejections.counts(connection, ledger, Chosen(state="open"), most=most)
    assert found == every
    assert (found.by_code[0].rejections, found.complete) == (most, False)
    assert most <= _rows_read(service, ledger, most) <= most + 2, "and one to find each code"
    looked = look_at_open(service.database, ledger, datetime.now(UTC))
    assert looked.report.named("rejected").rings
    assert looked.rejections == {"missing_field": most}


EXPECTED = InsufficientCredits("x", reasons=[Shortfall(reason="used_up").document]).as_document()


def test_any_number_of_expected_refusals_hides_none_that_is_not(
    owner_url: str, service: Subledger, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = new_ledger()
    monkeypatch.setattr(dismissals, "SETTLED_AT_ONCE", 100)
    short = {"code": "insufficient_credits", "problem": orjson.dumps(EXPECTED).decode()}
    _fill(owner_url, ledger, READ_AT_MOST + 5, **short)
    looked = look_at_open(service.database, ledger, datetime.now(UTC))
    assert (looked.report.named("rejected").value, looked.report.named("rejected").rings) == (0, False)
    expired = orjson.dumps({**EXPECTED, "reasons": [{"reason": "expired", "credits": "2"}]}).decode()
    _fill(owner_url, ledger, 3, prefix="late", **{**short, "problem": expired})
    # All of them were refused as long ago, and are read after those that are expected: v comes before w.
    _fill(owner_url, ledger, 500, prefix="w", code="unknown_invoice")
    _fill(owner_url, ledger, 1, prefix="x", sent=None, **short)
    batch = [usage(f"u{n}", customer="bob") for n in range(150)]
    service.record(ledger, [*batch, purchase(credits="150", customer="bob"), *batch])
    service.rejected.dismiss(ledger, "rej-w500", "a test", by="ann")
    looked = look_at_open(service.database, ledger, datetime.now(UTC))
    found = looked.report.named("rejected")
    assert (found.value, found.rings, found.evidence["not_kept_one_by_one"]) == (503, True, 1)
    assert looked.rejections == {"insufficient_credits": READ_AT_MOST + 4, "unknown_invoice": 499}
    assert not kept(service, ledger, Chosen(state="open", customer="bob"))
    with psycopg.connect(owner_url) as owner:
        unnoted = owner.execute(
            "SELECT count(*) FROM rejected_events WHERE ledger = %s AND customer = 'bob' AND settled_position IS NULL",
            (ledger,),
        ).fetchone()
    assert unnoted == (0,), "what is recorded since is noted as such, whatever is older and stays open"
    assert _rows_read(service, ledger, READ_AT_MOST) <= READ_AT_MOST + 503 + 2 * 5


def test_so_many_open_rejections_as_are_read_ring_whatever_is_allowed(
    service: Subledger, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = new_ledger()
    monkeypatch.setattr(rejected, "READ_AT_MOST", 3)
    set_settings(service.database, ledger, {"rejected_events": 1_000_000, "rejected_after_s": 0}, by="test")
    service.record(ledger, [{"id": "x1"}, {"id": "x2"}])
    assert not look_at_open(service.database, ledger, datetime.now(UTC)).report.named("rejected").rings
    service.record(ledger, [{"id": f"y{n}"} for n in range(10)])
    found = look_at_open(service.database, ledger, datetime.now(UTC)).report.named("rejected")
    assert (found.value, found.rings) == (3, True)


def test_rejections_that_are_recorded_since_are_read_once_and_never_again(
    owner_url: str, service: Subledger, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejected, "READ_AT_MOST", 100)
    monkeypatch.setattr(dismissals, "SETTLED_AT_ONCE", 100)
    ledger = new_ledger()
    batch = [usage(f"u{n}") for n in range(450)]
    service.record(ledger, [*batch, usage("late", customer="bob")])
    service.record(ledger, [purchase(credits="450"), *batch])
    looked = look_at_open(service.database, ledger, datetime.now(UTC))
    assert looked.rejections == {"insufficient_credits": 1}, "those in the way are noted, and another look is had"
    with psycopg.connect(owner_url) as owner:  # other tests fill the table too, and the plan goes by what it held last
        owner.execute("ANALYZE rejected_events")
    assert _rows_read(service, ledger, 100) <= 3, "it, and to find its code"
    assert {each.state for each in kept(service, ledger)} == {"retried", "open"}
    service.record(ledger, [usage("u1", "2")])
    conflict = kept(service, ledger, Chosen(state="open", event_id="u1"))
    assert [each.code for each in conflict] == ["event_conflict"]
    assert differences(service, ledger) == []
