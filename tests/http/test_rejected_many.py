"""Many rejected events at once: dismissed for one reason, recorded again, counted; the history stays readable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient

from api.http.app import create_app
from api.keys import create_key
from api.limits import MAX_EVENTS, MAX_EVENTS_BODY
from api.service import Subledger
from subledger.errors import DatabaseUnavailable, RejectionsChanged, Stopping
from subledger.events.rejections import MAX_SENT
from subledger.store.database import Database
from subledger.store.rejected import rejections
from subledger.store.rejected.rejections import ALL, OPEN, STATES, Chosen
from subledger.store.timeouts import Timeouts
from tests.building import purchase, usage
from tests.conftest import NewLedger
from tests.together import together
from tests.waiting import HANGS_S

COMMAND = str(Path(sys.executable).with_name("subledger"))
Result = subprocess.CompletedProcess[str]
JSON = {"content-type": "application/json"}


@pytest.fixture
def run(owner_url: str, tmp_path: Path) -> Callable[..., Result]:
    def call(*arguments: str, stdin: str = "") -> Result:
        return subprocess.run(
            [COMMAND, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=HANGS_S,
            input=stdin,
            env={**os.environ, "SUBLEDGER_DATABASE_URL": owner_url, "COLUMNS": "200"},
        )

    return call


def states(client: TestClient, ledger: str, **query: Any) -> dict[str, str]:
    items = client.get(f"/v1/ledgers/{ledger}/rejected", params={"limit": 1000, **query}).json()["items"]
    return {item["id"] or item["code"]: item["state"] for item in items}


# --- over HTTP ------------------------------------------------------------------------------------------------------


def test_those_who_are_chosen_are_dismissed_for_one_reason_and_only_as_many_as_were_seen(
    client: TestClient, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    base = f"/v1/ledgers/{ledger}/rejected"
    client.post(
        f"/v1/ledgers/{ledger}/events",
        json=[usage("u1", "2"), usage("u2", "3", "bob"), purchase("c", "x", price="7.00")],
    )
    seen = client.get(f"{base}/summary", params={"state": "open", "code": "insufficient_credits"}).json()
    assert (seen["rejections"], seen["credits"], seen["complete"]) == (2, {"credit": "5"}, True)
    choice = {"code": "insufficient_credits"}
    other = client.post(f"{base}/dismiss", params=choice, json={"reason": "a test", "rejections": 1})
    assert (other.status_code, other.json()["code"], other.json()["found"]) == (409, "rejections_changed", "2")
    assert set(states(client, ledger).values()) == {"open"}, "nothing was done"
    done = client.post(f"{base}/dismiss", params=choice, json={"reason": "a test", "rejections": 2})
    assert (done.status_code, done.json()) == (
        200,
        {"dismissed": 2, "rejections": 2, "credits": {"credit": "5"}, "amounts": {}},
    )
    assert states(client, ledger) == {"u1": "dismissed", "u2": "dismissed", "buy-c": "open"}
    for body in (
        {"reason": "x"},
        {"rejections": 1},
        {"reason": "x", "rejections": 10_001},
        {"reason": " ", "rejections": 1},
    ):
        assert client.post(f"{base}/dismiss", json=body).status_code == 422


def test_those_who_are_chosen_are_recorded_again(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    base = f"/v1/ledgers/{ledger}/rejected"
    client.post(
        f"/v1/ledgers/{ledger}/events",
        json=[usage("u1", "4"), usage("u2", "4"), usage("u3", "4"), usage("v", customer="bob")],
    )
    client.post(f"/v1/ledgers/{ledger}/events", content=b"x" * 300_000, headers=JSON)
    client.post(f"/v1/ledgers/{ledger}/events", json=purchase())
    assert client.post(f"{base}/retry", json={"rejections": 4}).json()["code"] == "rejections_changed"
    done = client.post(f"{base}/retry", json={"rejections": 5}).json()
    assert (done["recorded"], done["rejected"], done["not_whole"]) == (2, 2, 1)
    assert sorted(item["status"] for item in done["items"]) == ["recorded", "recorded", "rejected", "rejected"]
    found = states(client, ledger)
    assert (found["v"], found["invalid_json"]) == ("open", "open")
    assert sorted(found[name] for name in ("u1", "u2", "u3")) == ["open", "retried", "retried"]


@pytest.mark.campaign
@pytest.mark.parametrize("state", [OPEN, ALL])
def test_states_have_the_same_words_over_http_as_on_the_command_line(
    state: str, client: TestClient, run: Callable[..., Result], new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    client.post(f"/v1/ledgers/{ledger}/events", json=[usage("u1"), usage("u2")])
    for word in (*STATES, ALL):
        assert client.get(f"/v1/ledgers/{ledger}/rejected", params={"state": word}).status_code == 200
    page = client.get(f"/v1/ledgers/{ledger}/rejected", params={"state": state})
    summary = client.get(f"/v1/ledgers/{ledger}/rejected/summary", params={"state": state})
    assert (page.status_code, summary.status_code) == (200, 200)
    listed = json.loads(run("rejected", "list", "--ledger", ledger, "--state", state, "--json").stdout)
    counted = json.loads(run("rejected", "counts", "--ledger", ledger, "--state", state, "--json").stdout)
    assert page.json()["items"] == listed["items"]
    assert summary.json() == counted
    assert counted["rejections"] == 2


def test_a_dismissal_can_be_taken_back_and_its_history_stays(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    [result] = client.post(f"/v1/ledgers/{ledger}/events", json=usage("u1")).json()["results"]
    one = f"/v1/ledgers/{ledger}/rejected/{result['rejection_id']}"
    assert client.post(f"{one}/reopen", json={"reason": "a slip"}).json()["code"] == "rejection_settled"
    client.post(f"{one}/dismiss", json={"reason": "a test"})
    retried = client.post(f"{one}/retry")
    assert (retried.status_code, retried.json()["code"]) == (422, "rejection_settled")
    assert "reopen it first" in retried.json()["detail"]
    again = client.post(f"{one}/reopen", json={"reason": "no test after all"})
    assert (again.status_code, again.json()["state"]) == (200, "open")
    assert client.post(f"{one}/reopen", json={"reason": "twice"}).status_code == 422
    client.post(f"/v1/ledgers/{ledger}/events", json=usage("u1"))
    client.post(f"{one}/dismiss", json={"reason": "a test indeed"})
    client.post(f"/v1/ledgers/{ledger}/events", json=[purchase(), usage("u1")])
    whole = client.get(one).json()
    assert (whole["state"], whole["attempts"]) == ("retried", 2)
    assert [(step["action"], step["by"], step["reason"]) for step in whole["history"]] == [
        ("dismissed", "nobody", "a test"),
        ("reopened", "nobody", "no test after all"),
        ("dismissed", "nobody", "a test indeed"),
    ]
    assert [step["at"] for step in whole["history"]] == sorted(step["at"] for step in whole["history"])


def test_what_was_refused_together_is_recorded_again_in_the_order_of_its_time(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    days = [{**usage(f"u{day}", "4"), "time": f"2026-01-{day}T10:00:00Z"} for day in (15, 12, 14, 13, 11)]
    service.record(ledger, days)
    service.record(ledger, [purchase()])
    seen = service.rejected.open_ones(ledger, Chosen(), limit=10)
    outcomes = service.rejected.retry_seen(ledger, seen, by="ann").answers
    assert [outcome.event_id for _, outcome in outcomes] == ["u11", "u12", "u13", "u14", "u15"]
    assert [outcome.status for _, outcome in outcomes] == ["recorded"] * 2 + ["rejected"] * 3


def test_what_is_dismissed_after_it_was_seen_is_not_recorded_again(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    service.record(ledger, [usage("u1"), usage("u2")])
    service.record(ledger, [purchase()])
    seen = service.rejected.open_ones(ledger, Chosen(), limit=10)
    service.rejected.dismiss(ledger, seen[0].rejection_id, "a test", by="carol")
    [(name, outcome)] = service.rejected.retry_seen(ledger, seen, by="ann").answers
    assert (name, outcome.status) == (seen[1].rejection_id, "recorded")


@pytest.fixture
def own(owner_url: str) -> Iterator[Subledger]:
    """A service that can be stopped, and does not wait long for other processes' locks."""
    database = Database(owner_url, timeouts=Timeouts(lock_timeout_s=0.2))
    yield Subledger(database)
    database.close()


def test_a_retry_that_is_ended_midway_answers_what_it_has_done(
    own: Subledger, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    service.record(ledger, [usage(f"u{n}") for n in range(700)])
    service.record(ledger, [purchase(credits="400")])
    seen = service.rejected.open_ones(ledger, Chosen(), limit=1_000)

    def stop(_: int) -> None:
        own.gatherer.stop()

    found = own.rejected.retry_seen(ledger, seen, by="ann", done=stop)
    assert [name for name, _ in found.answers] == [each.rejection_id for each in seen[:500]]
    assert Counter(outcome.status for _, outcome in found.answers) == {"recorded": 400, "rejected": 100}
    assert (found.not_done, type(found.error)) == (200, Stopping)
    with pytest.raises(Stopping):
        own.rejected.retry_seen(ledger, seen[500:], by="ann")


@contextmanager
def nobody_keeps(url: str, rejection_id: str) -> Iterator[None]:
    """Another process's lock on a rejection, so that its count cannot be raised."""
    with psycopg.connect(url) as other:
        other.execute("SELECT 1 FROM rejected_events WHERE rejection_id = %s FOR UPDATE", (rejection_id,))
        yield


def test_a_retry_whose_refused_ones_cannot_be_stored_answers_which_are_recorded(
    own: Subledger, service: Subledger, owner_url: str, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    outcomes = service.record(ledger, [usage("u1"), usage("u2", customer="bob")])
    service.record(ledger, [purchase()])
    app = create_app(own, open_on_loopback=True)
    client = TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50_000))
    with nobody_keeps(owner_url, outcomes[1].rejection_id or ""):
        answer = client.post(f"/v1/ledgers/{ledger}/rejected/retry", json={"rejections": 2})
        assert (answer.status_code, answer.json()["recorded"], answer.json()["not_done"]) == (200, 1, 1)
        assert [item["id"] for item in answer.json()["items"]] == ["u1"]
        assert (answer.json()["error"]["code"], answer.json()["error"]["retryable"]) == ("database_unavailable", True)
        nothing = client.post(f"/v1/ledgers/{ledger}/rejected/retry", json={"rejections": 1})
        assert (nothing.status_code, nothing.json()["code"]) == (503, "ledger_locked")
    done = client.post(f"/v1/ledgers/{ledger}/rejected/retry", json={"rejections": 1}).json()
    assert (done["rejected"], done["not_done"], done["error"]) == (1, 0, None)


def test_the_command_says_what_was_not_done_and_why(
    run: Callable[..., Result],
    service: Subledger,
    owner_url: str,
    new_ledger: NewLedger,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ledger = new_ledger()
    outcomes = service.record(ledger, [usage("u1"), usage("u2", customer="bob")])
    service.record(ledger, [purchase()])
    monkeypatch.setenv("SUBLEDGER_LOCK_TIMEOUT_S", "0.2")
    with nobody_keeps(owner_url, outcomes[1].rejection_id or ""):
        done = run("rejected", "retry", "--all", "--ledger", ledger, "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["recorded"], document["not_done"]) == (4, 1, 1), done.stderr
    assert document["error"]["code"] == "database_unavailable"
    assert "1 were not retried and stay open; retry them later: database_unavailable: " in done.stderr


def test_a_fault_in_storing_the_refused_ones_says_that_the_others_are_recorded(
    own: Subledger, service: Subledger, owner_url: str, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    [outcome] = service.record(ledger, [usage("u2", customer="bob")])
    with (
        nobody_keeps(owner_url, outcome.rejection_id or ""),
        pytest.raises(DatabaseUnavailable, match="other events are recorded") as caught,
    ):
        own.record(ledger, [purchase(), usage("u2", customer="bob")])
    assert "nothing was done" not in caught.value.message
    assert service.record(ledger, [purchase()])[0].status == "duplicate"


def test_more_than_may_be_chosen_at_once_are_none(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    service.record(ledger, [usage("u1"), usage("u2"), usage("u3")])
    with pytest.raises(RejectionsChanged, match="more than 2 open rejected events are chosen, not at most 2"):
        service.rejected.open_ones(ledger, Chosen(), limit=2)


# --- calls that are refused before there are events -------------------------------------------------------------------


def test_a_writer_whose_calls_are_not_read_is_seen_and_a_stranger_leaves_nothing(
    service: Subledger, new_ledger: NewLedger, keys_are_forgotten: None
) -> None:
    ledger = new_ledger()
    client = TestClient(create_app(service))
    secrets = {
        role: create_key(service.database, ledger=ledger, role=role, name=role).secret for role in ("reader", "writer")
    }
    url = f"/v1/ledgers/{ledger}/events"
    large, many = b" " * (MAX_EVENTS_BODY + 1), json.dumps([1] * 10_001).encode()

    def calls(headers: dict[str, str]) -> list[int]:
        return [
            client.post(url, content=large, headers={**JSON, **headers}).status_code,
            client.post(url, content=iter([large]), headers={**JSON, **headers}).status_code,
            client.post(url, content=many, headers={**JSON, **headers}).status_code,
            client.post(url, content=b"a,b", headers={"content-type": "text/csv", **headers}).status_code,
        ]

    bearer = {role: {"Authorization": f"Bearer {secret}"} for role, secret in secrets.items()}
    assert calls({}) == [401] * 4
    assert calls(bearer["reader"]) == [403] * 4
    listing = f"/v1/ledgers/{ledger}/rejected"
    assert client.get(listing, headers=bearer["reader"]).json()["items"] == []
    for _ in range(2):
        assert calls(bearer["writer"]) == [413, 413, 413, 415]
    items = client.get(listing, headers=bearer["reader"]).json()["items"]
    assert sorted((item["code"], item["sender"], item["way"], item["attempts"]) for item in items) == [
        ("too_large", "writer", "counted", 6),
        ("unsupported_media_type", "writer", "counted", 2),
    ]
    retried = client.post(f"{listing}/{items[0]['rejection_id']}/retry", headers=bearer["writer"])
    assert retried.json()["code"] == "rejection_cut"
    summary = client.get(f"{listing}/summary", headers=bearer["reader"]).json()
    assert (summary["rejections"], {code["not_kept_one_by_one"] for code in summary["codes"]}) == (8, {6, 2})


# --- on the command line ----------------------------------------------------------------------------------------------


@pytest.mark.campaign
def test_the_command_shows_what_it_would_dismiss_and_asks(
    run: Callable[..., Result], service: Subledger, new_ledger: NewLedger, tmp_path: Path
) -> None:
    ledger = new_ledger()
    service.record(ledger, [usage("u1", "2"), usage("u2", "3", "bob")], by="meter")
    (tmp_path / "e.jsonl").write_text(json.dumps(purchase("c", "x", price="7.00")) + "\n")
    assert run("record", "e.jsonl", "--ledger", ledger).returncode == 3
    dismiss = ("rejected", "dismiss", "--ledger", ledger, "--reason", "a load test")
    assert run(*dismiss).returncode == 2, "neither rejections nor options"
    refused = run(*dismiss, "--sender", "meter", stdin="n\n")
    assert (refused.returncode, "2 open rejected events will be dismissed: 5 credit" in refused.stderr) == (2, True)
    assert run(*dismiss, "--all").returncode == 2, "nobody answers"
    done = run(*dismiss, "--sender", "meter", stdin="y\n")
    assert (done.returncode, done.stdout.strip()) == (0, "dismissed 2")
    nothing = json.loads(run(*dismiss, "--way", "file:other.jsonl", "--yes", "--json").stdout)
    assert nothing["dismissed"] == 0
    file = json.loads(run(*dismiss, "--way", "file:e.jsonl", "--yes", "--json", "--by", "carol").stdout)
    assert (file["dismissed"], file["amounts"]) == (1, {"USD": "7.00"})
    [item] = json.loads(
        run("rejected", "list", "--ledger", ledger, "--state", "dismissed", "--way", "file:e.jsonl", "--json").stdout
    )["items"]
    shown = run("rejected", "show", item["rejection_id"], "--ledger", ledger).stdout
    assert "dismissed by carol" in shown
    reopened = run("rejected", "reopen", item["rejection_id"], "--ledger", ledger, "--reason", "it was one", "--json")
    assert json.loads(reopened.stdout)["state"] == "open"


HOSTILE = '=1+1 [bold]x[/bold] \x1b[31m\u202e "q" ,;\n\r\t\ud7ff'


@pytest.mark.campaign
def test_a_hostile_reason_is_text_everywhere(
    run: Callable[..., Result], client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    [outcome] = service.record(ledger, [usage("u1")])
    name = outcome.rejection_id or ""
    service.rejected.dismiss(ledger, name, HOSTILE, by="carol")
    document = client.get(f"/v1/ledgers/{ledger}/rejected/{name}").json()
    assert document["dismissed"]["reason"] == document["history"][0]["reason"] == HOSTILE.strip()
    for arguments in (
        ("show", name),
        ("show", name, "--json"),
        ("list", "--state", "all"),
        ("list", "--json", "--state", "all"),
    ):
        done = run("rejected", *arguments, "--ledger", ledger)
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout
        assert "\u202e" not in done.stdout
    assert "[bold]x[/bold]" in run("rejected", "show", name, "--ledger", ledger).stdout


# --- at once ----------------------------------------------------------------------------------------------------------


def _at_once(work: Callable[[int], Any], times: int) -> list[Any]:
    begin, found = threading.Barrier(times), [None] * times

    def one(number: int) -> None:
        begin.wait()
        found[number] = work(number)

    together(one, range(times))
    return found


def test_the_same_refused_event_from_several_at_once_is_one_rejection(
    service: Subledger, client: TestClient, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    answers = _at_once(lambda _: client.post(f"/v1/ledgers/{ledger}/events", json=usage("u1")), 6)
    assert {answer.status_code for answer in answers} == {422}
    assert len({answer.json()["results"][0]["rejection_id"] for answer in answers}) == 1
    [item] = client.get(f"/v1/ledgers/{ledger}/rejected").json()["items"]
    assert item["attempts"] == 6


def test_several_who_retry_dismiss_and_send_the_same_at_once_do_not_hinder_each_other(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    batch = [usage(f"u{n}", customer=f"c{n % 3}") for n in range(60)]
    service.record(ledger, batch)
    service.record(ledger, [purchase(credits="1000", customer="c0")])
    seen = service.rejected.open_ones(ledger, Chosen(), limit=100)

    def work(number: int) -> Any:
        if number < 2:
            return service.rejected.retry_seen(ledger, seen, by="ann")
        if number < 4:
            return service.rejected.dismiss_seen(ledger, seen, "a test", by="carol")
        return service.record(ledger, list(reversed(batch)))

    found = _at_once(work, 6)
    assert all(each is not None for each in found)
    both = [found[2], found[3]]
    assert not both[0] & both[1], "one of them dismisses it"
    with service.database.read() as connection:
        kept = rejections.rejections_page(connection, ledger, Chosen(), after=rejections.START, limit=100)
        steps = {each.rejection_id: rejections.steps(connection, ledger, each.rejection_id) for each in kept}
    assert {each.state for each in kept if each.customer == "c0"} == {"retried"}
    for each in kept:
        assert len(steps[each.rejection_id]) == sum(each.rejection_id in ids for ids in both)


@pytest.mark.campaign
def test_ten_thousand_refused_events_of_one_call_are_each_kept_and_retried_within_bounds(
    client: TestClient, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    base = f"/v1/ledgers/{ledger}/rejected"
    batch = [usage(f"u{n}") for n in range(MAX_EVENTS)]
    results = client.post(f"/v1/ledgers/{ledger}/events", json=batch).json()["results"]
    assert len({result["rejection_id"] for result in results}) == MAX_EVENTS
    summary = client.get(f"{base}/summary", params={"state": "open"}).json()
    assert (summary["rejections"], summary["credits"]) == (MAX_EVENTS, {"credit": str(MAX_EVENTS)})
    assert client.post(f"{base}/retry", json={"rejections": 1_000}).json()["found"] == "more than 1000"
    done = client.post(f"{base}/dismiss", json={"reason": "a load test", "rejections": MAX_EVENTS}).json()
    assert done["dismissed"] == MAX_EVENTS
    assert client.get(f"{base}/summary", params={"state": "open"}).json()["rejections"] == 0


def test_a_refused_event_of_a_megabyte_is_kept_in_part_and_says_so(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    event = usage("u1")
    event["data"]["note"] = "x" * 1_000_000
    [result] = client.post(f"/v1/ledgers/{ledger}/events", json=event).json()["results"]
    one = client.get(f"/v1/ledgers/{ledger}/rejected/{result['rejection_id']}").json()
    assert (one["id"], one["credits"], one["whole"], len(one["text"])) == ("u1", "1", False, MAX_SENT)
    done = client.post(f"/v1/ledgers/{ledger}/rejected/retry", json={"rejections": 1}).json()
    assert (done["items"], done["not_whole"]) == ([], 1)
