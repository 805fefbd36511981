"""The daily limits of stored rejections: beyond them rejections are counted, and their texts are left out."""

from __future__ import annotations

import json
import threading

import psycopg
import pytest

from api.service import Subledger
from subledger.errors import RejectionCut
from subledger.events.rejections import read_rejection
from subledger.store.database import Database
from subledger.store.rejected import dismissals, rejections
from subledger.store.rejected.keeper import Bounds, Keeper
from subledger.store.rejected.rejections import BEYOND, Chosen
from tests.building import purchase, usage
from tests.conftest import NewLedger
from tests.store.rejected import EVERYTHING, kept, refusal
from tests.store.tampering import differences
from tests.together import together


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
    # The same content in another form, so with another length.
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
        if again:  # another process, which counts the stored rows
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
                # Like a process that has just started: it counts the stored rows.
                order = texts if (number + round_) % 2 else list(reversed(texts))
                Keeper(own, bounds).keep(ledger, [refusal(text) for text in order], sender="ann", way="test")
        finally:
            own.close()

    together(work, range(keepers + 1))
    found = kept(service, ledger)
    assert (len(found), {each.attempts for each in found}) == (60, {rounds * keepers})
    size = sum(len(each.sent or b"") for each in found)
    # Two processes that begin at the same time have the limit each.
    assert 39_000 < size <= 2 * bounds.text_bytes
    assert differences(service, ledger) == []
