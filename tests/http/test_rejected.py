"""Refused events over HTTP and from files, and their later states."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from api.cli.commands.record import record_lines
from api.cli.event_files import EventLines, Refusals, RejectedLines
from api.http.app import create_app
from api.keys import create_key
from api.service import Subledger
from subledger.events.rejections import MAX_SENT
from tests.building import purchase, usage
from tests.conftest import NewLedger

JSON = {"content-type": "application/json"}


def listed(client: TestClient, ledger: str, **query: Any) -> list[dict[str, Any]]:
    """Returns the rejections of all pages of the list, with two on a page."""
    items: list[dict[str, Any]] = []
    cursor = None
    while True:
        asked = {**query, "limit": 2, **({"cursor": cursor} if cursor else {})}
        page = client.get(f"/v1/ledgers/{ledger}/rejected", params=asked)
        assert page.status_code == 200, page.text
        items += page.json()["items"]
        cursor = page.json()["next"]
        if cursor is None:
            return items


# --- the law ------------------------------------------------------------------------------------------------------


class Event(msgspec.Struct, frozen=True):
    """An event to send. There are few customers and ids, so many events are refused first and recorded later."""

    kind: str
    number: int
    credits: int

    @property
    def document(self) -> Any:
        if self.kind == "buy":
            return purchase(f"b{self.number}", str(self.credits), f"c{self.number % 2}")
        if self.kind == "use":
            return usage(f"u{self.number}", str(self.credits), f"c{self.number % 2}")
        if self.kind == "faulty":  # a JSON number, under an id that may also be recorded
            return usage(f"u{self.number}", self.credits, f"c{self.number % 2}")
        return {"id": f"u{self.number}"} if self.number % 2 else self.number


EVENTS = st.builds(
    Event,
    kind=st.sampled_from(("buy", "use", "use", "use", "faulty", "none")),
    number=st.integers(0, 3),
    credits=st.integers(1, 4),
)
STEPS = st.lists(
    st.tuples(st.sampled_from(("library", "http", "file")), st.lists(EVENTS, min_size=1, max_size=5))
    | st.tuples(st.sampled_from(("retry", "dismiss")), st.integers(0, 5)),
    min_size=1,
    max_size=8,
)


class Model:
    """The rejections that must be listed, by content, computed only from the answers."""

    def __init__(self) -> None:
        self.now = 0
        self.recorded: dict[tuple[str, str], tuple[int, bytes]] = {}
        self.refused: dict[bytes, dict[str, Any]] = {}

    def answered(self, document: Any, status: str) -> None:
        self.now += 1
        content = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
        if status == "recorded":
            self.recorded[document["source"], document["id"]] = (self.now, content)
        elif status == "rejected":
            row = self.refused.setdefault(content, {"document": document, "attempts": 0, "dismissed": False})
            row["attempts"] += 1
            row["dismissed"] = False
            row["at"] = self.now

    def state(self, content: bytes) -> str:
        row = self.refused[content]
        document = row["document"]
        key = (document.get("source"), document.get("id")) if isinstance(document, dict) else (None, None)
        at, recorded = self.recorded.get(key, (0, b""))  # type: ignore[arg-type]  # None is no key
        if at > row["at"]:
            return "retried" if recorded == content else "corrected"
        return "dismissed" if row["dismissed"] else "open"


@pytest.mark.campaign
@settings(max_examples=25)
@given(steps=STEPS)
def test_every_refused_event_is_listed_once_until_it_is_recorded_or_dismissed(
    steps: list[Any], client: TestClient, service: Subledger, new_ledger: NewLedger, tmp_path: Path
) -> None:
    ledger, model = new_ledger(), Model()
    ways: dict[str, Callable[[list[Any]], list[str]]] = {
        "library": lambda documents: [outcome.status for outcome in service.record(ledger, documents)],
        "http": lambda documents: [
            result["status"] for result in client.post(f"/v1/ledgers/{ledger}/events", json=documents).json()["results"]
        ],
        "file": lambda documents: _statuses_of_a_file(service, ledger, documents, tmp_path / "events.jsonl"),
    }
    for what, argument in steps:
        if what in ways:
            documents = [event.document for event in argument]
            for document, status in zip(documents, ways[what](documents), strict=True):
                model.answered(document, status)
            continue
        items = listed(client, ledger, state="open")
        if not items:
            continue
        item = items[argument % len(items)]
        one = client.get(f"/v1/ledgers/{ledger}/rejected/{item['rejection_id']}").json()
        if what == "retry":
            answer = client.post(f"/v1/ledgers/{ledger}/rejected/{item['rejection_id']}/retry").json()
            model.answered(one["event"], answer["status"])
        else:
            service.rejected.dismiss(ledger, item["rejection_id"], "a reason", by="carol")
            model.refused[orjson.dumps(one["event"], option=orjson.OPT_SORT_KEYS)]["dismissed"] = True
    expected = {content: (model.state(content), row["attempts"]) for content, row in model.refused.items()}
    found = {}
    for item in listed(client, ledger):
        event = client.get(f"/v1/ledgers/{ledger}/rejected/{item['rejection_id']}").json()["event"]
        content = orjson.dumps(event, option=orjson.OPT_SORT_KEYS)
        assert content not in found, "once"
        found[content] = (item["state"], item["attempts"])
    assert found == expected
    for state in ("open", "retried", "corrected", "dismissed"):
        chosen = [row["document"] for content, row in model.refused.items() if model.state(content) == state]
        assert len(listed(client, ledger, state=state)) == len(chosen)
        _check_sums(client.get(f"/v1/ledgers/{ledger}/rejected/summary", params={"state": state}).json(), chosen)


def _statuses_of_a_file(service: Subledger, ledger: str, documents: list[Any], path: Path) -> list[str]:
    """Returns the statuses of a file's lines. The rejected ones are those in its file of rejected lines."""
    lines = b"".join(orjson.dumps(document) + b"\n" for document in documents)
    rejected_path = path.with_name("events.jsonl.rejected.jsonl")
    before = _position(service, ledger)
    reading = EventLines(BytesIO(lines), path.name)
    record_lines(service, ledger, "ann", reading, RejectedLines(rejected_path, pytest.fail), len(lines), Refusals())
    rejected = set()
    if rejected_path.exists():
        rejected = {json.loads(line)["line"] for line in rejected_path.read_text().splitlines()}
    with service.database.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT source, event_id FROM events WHERE ledger = %s AND position > %s", (ledger, before)
        ).all()
    new = {tuple(row) for row in rows}
    statuses = []
    for number, document in enumerate(documents, start=1):
        if number in rejected:
            statuses.append("rejected")
            continue
        key = (document["source"], document["id"])
        statuses.append("recorded" if key in new else "duplicate")
        new.discard(key)
    return statuses


def _position(service: Subledger, ledger: str) -> int:
    with service.database.read() as connection:
        [(position,)] = connection.exec_driver_sql("SELECT position FROM ledgers WHERE ledger = %s", (ledger,)).all()
    return int(position)


def _check_sums(summary: dict[str, Any], chosen: list[Any]) -> None:
    data = [document.get("data", {}) for document in chosen if isinstance(document, dict)]
    credits = sum((Decimal(str(each["credits"])) for each in data if "credits" in each), Decimal(0))
    prices = sum((Decimal(each["price"]) for each in data if "price" in each), Decimal(0))
    assert summary["rejections"] == len(chosen)
    assert Decimal(summary["credits"].get("credit", "0")) == credits
    assert Decimal(summary["amounts"].get("USD", "0")) == prices
    assert sum(code["rejections"] for code in summary["codes"]) == len(chosen)


# --- over HTTP ------------------------------------------------------------------------------------------------------


def test_an_answer_leads_to_the_rejection_and_that_to_the_event_as_sent(
    client: TestClient, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    text = json.dumps(usage("u1", "7"), indent=1)
    answer = client.post(f"/v1/ledgers/{ledger}/events", content=text, headers=JSON)
    [result] = answer.json()["results"]
    assert (answer.status_code, result["status"]) == (422, "rejected")
    one = client.get(f"/v1/ledgers/{ledger}/rejected/{result['rejection_id']}").json()
    assert (one["text"], one["event"], one["whole"]) == (text, json.loads(text), True)
    assert one["error"] == result["error"]
    assert (one["state"], one["code"], one["sender"], one["way"]) == ("open", "insufficient_credits", "nobody", "http")
    assert (one["credits"], one["unit"], one["amount"]) == ("7", "credit", None)
    [item] = listed(client, ledger, code="insufficient_credits", customer="ann", source="billing", id="u1")
    assert item["rejection_id"] == result["rejection_id"]
    assert listed(client, ledger, customer="bob") == []
    assert listed(client, ledger, **{"from": "2026-01-20", "to": "2026-01-20"}) == [item]
    assert listed(client, ledger, to="2026-01-19") == []


def test_a_body_that_is_no_json_is_kept_as_it_was_sent_and_one_that_is_too_long_in_part(
    client: TestClient, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    url = f"/v1/ledgers/{ledger}/events"
    half = json.dumps([usage(f"u{n}") for n in range(3)])[:-20].encode()
    for body in (half, half, b"\xff\x00", b"x" * 2_000_000):
        assert client.post(url, content=body, headers=JSON).status_code == 400
    found = listed(client, ledger)
    assert [(item["code"], item["attempts"]) for item in found] == [("invalid_json", 2)] + [("invalid_json", 1)] * 2
    wholes = [client.get(f"/v1/ledgers/{ledger}/rejected/{item['rejection_id']}").json() for item in found]
    assert (wholes[0]["text"].encode(), wholes[0]["event"]) == (half, None)
    assert [(one["whole"], one["bytes"]) for one in wholes] == [(True, len(half)), (True, 2), (False, 2_000_000)]
    assert len(wholes[2]["text"]) == MAX_SENT
    cut = client.post(f"/v1/ledgers/{ledger}/rejected/{found[2]['rejection_id']}/retry")
    assert (cut.status_code, cut.json()["code"]) == (422, "rejection_cut")


def test_a_retry_answers_as_recording_does(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    url = f"/v1/ledgers/{ledger}/events"
    [result] = client.post(url, json=usage("u1")).json()["results"]
    retry = f"/v1/ledgers/{ledger}/rejected/{result['rejection_id']}/retry"
    again = client.post(retry)
    assert (again.status_code, again.json()["status"]) == (422, "rejected")
    client.post(url, json=purchase())
    assert (client.post(retry).status_code, client.post(retry).json()["status"]) == (200, "duplicate")
    [conflict] = client.post(url, json=usage("u1", "2")).json()["results"]
    assert client.post(f"/v1/ledgers/{ledger}/rejected/{conflict['rejection_id']}/retry").status_code == 409


def test_a_dismissal_needs_a_reason_and_is_shown(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    [result] = client.post(f"/v1/ledgers/{ledger}/events", json=usage("u1")).json()["results"]
    dismiss = f"/v1/ledgers/{ledger}/rejected/{result['rejection_id']}/dismiss"
    for body in (None, {}, {"reason": ""}, {"reason": "x" * 2_001}, {"reason": "a\x00"}, {"reason": " "}):
        assert client.post(dismiss, json=body).status_code == 422
    done = client.post(dismiss, json={"reason": "a test"})
    assert (done.status_code, done.json()["state"]) == (200, "dismissed")
    assert done.json()["dismissed"]["reason"] == "a test"
    assert (client.post(dismiss, json={"reason": "b"}).json()["code"]) == "rejection_settled"
    unknown = client.get(f"/v1/ledgers/{ledger}/rejected/rej-none")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_rejection")


def test_readers_look_writers_retry_and_controllers_dismiss(
    service: Subledger, new_ledger: NewLedger, keys_are_forgotten: None
) -> None:
    ledger = new_ledger()
    client = TestClient(create_app(service))
    roles = ("reader", "writer", "controller")
    bearer = {
        role: {"Authorization": f"Bearer {create_key(service.database, ledger=ledger, role=role, name=role).secret}"}
        for role in roles
    }
    posted = client.post(f"/v1/ledgers/{ledger}/events", json=usage("u1"), headers=bearer["writer"]).json()
    rejection = posted["results"][0]["rejection_id"]
    base = f"/v1/ledgers/{ledger}/rejected"
    assert client.get(base).status_code == 401
    [item] = client.get(base, headers=bearer["reader"]).json()["items"]
    assert item["sender"] == "writer"
    assert client.get(f"{base}/summary", headers=bearer["reader"]).json()["rejections"] == 1
    assert [client.post(f"{base}/{rejection}/retry", headers=bearer[role]).status_code for role in roles] == [
        403,
        422,
        422,
    ]
    reason = {"reason": "a test"}
    assert [
        client.post(f"{base}/{rejection}/dismiss", json=reason, headers=bearer[role]).status_code for role in roles
    ] == [403, 403, 200]
    assert client.get(base, headers=bearer["reader"]).json()["items"][0]["dismissed"]["by"] == "controller"
    refused = client.post(f"/v1/ledgers/{ledger}/events", content=b"{", headers={**bearer["reader"], **JSON})
    assert refused.status_code == 403
    assert len(client.get(base, headers=bearer["reader"]).json()["items"]) == 1, "who may not write leaves nothing"


@pytest.mark.parametrize("query", ["state=lost", "from=yesterday", "limit=0", "cursor=x", "to=0001-01-01", "code=%00"])
def test_a_list_that_cannot_be_asked_for_is_refused(query: str, client: TestClient, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    assert client.get(f"/v1/ledgers/{ledger}/rejected?{query}").status_code == 422
    assert client.get("/v1/ledgers/no-such-ledger/rejected").status_code == 404
