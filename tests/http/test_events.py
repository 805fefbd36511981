"""Recording and reading events over HTTP: statuses, results, errors."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.service import Subledger
from subledger import merkle
from subledger.events.data import EVENT_TYPES
from subledger.events.envelope import read_event
from subledger.store.writing.batch import Approved
from subledger.wallet import Approval
from tests.building import cloud_event, purchase, usage
from tests.conftest import NewLedger
from tests.store.tampering import tamper

BUY = {"block_id": "blk-7", "credits": "1000", "price": "100.00", "currency": "USD"}


buy = partial(purchase, event_id="buy-1", customer="cust-42", time="2026-01-15T10:00:00Z", **BUY)


use = partial(usage, customer="cust-42")


def test_one_event_is_recorded_and_a_read_that_follows_sees_it(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    answer = client.post(f"/v1/ledgers/{ledger}/events", json=buy())
    assert answer.status_code == 200
    [result] = answer.json()["results"]
    assert (result["id"], result["status"]) == ("buy-1", "recorded")
    event = client.get(f"/v1/ledgers/{ledger}/events/{result['position']}").json()
    assert event["event"]["data"] == BUY
    assert event["entries"][0]["lines"][0] == {
        "account": "accounts_receivable",
        "side": "debit",
        "amount": "100.00",
        "functional": {"amount": "100.00", "currency": "USD"},
    }


def test_the_same_event_again_is_a_duplicate_with_its_first_position(client: TestClient, new_ledger: NewLedger) -> None:
    url = f"/v1/ledgers/{new_ledger()}/events"
    first = client.post(url, json=buy()).json()["results"][0]
    again = client.post(url, json={**buy(), "time": "2026-01-15T11:00:00+01:00"})
    assert again.status_code == 200
    assert again.json()["results"][0] == {**first, "status": "duplicate"}


BEYOND = {
    "a name with a capital": {"traceParent": "x"}, "a name with a blank": {"a b": "x"}, "no name": {"": "x"},
    "too long a name": {"a" * 65: "x"}, "too many": {f"a{number}": "1" for number in range(70)},
    "too much text": {"note": "x" * 65_536}, "NUL": {"note": "a\0b"}, "one more than 32 bits": {"note": 2**31},
    "too long a scope": {"data": {**BUY, "scope": ["p" * 199] * 100}},
}  # fmt: skip
"""Events that an earlier version recorded, and that are now refused if they are new."""


@pytest.mark.parametrize("beyond", BEYOND)
def test_what_an_earlier_version_recorded_is_a_duplicate_when_it_is_sent_again(
    beyond: str, client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    """Source and id are the idempotency key, even if new limits have been added since. Old requests are not checked
    again, so an approved event is recorded as it was allowed then.
    """
    ledger, event = new_ledger(), {**buy(), **BEYOND[beyond]}
    url = f"/v1/ledgers/{ledger}/events"
    [refused] = client.post(url, json=event).json()["results"]
    assert (refused["status"], bool(refused["error"]["field"] or beyond == "no name")) == ("rejected", True)
    approval = Approval(approval_id="apr-before", maker="ann", checker="bob")
    service.recorder.transact(ledger, lambda *_: [Approved(read_event(event), approval)])
    answer = client.post(url, json=event)
    assert (answer.status_code, answer.json()["results"][0]["status"]) == (200, "duplicate")
    answer = client.post(url, json={**event, "subject": "another"})
    assert answer.json()["results"][0]["error"]["code"] == "event_conflict"
    answer = client.post(url, json={**event, "id": "buy-2"})
    assert answer.json()["results"][0]["error"]["code"] in ("invalid_event", "invalid_value")


def test_other_content_under_the_same_key_conflicts_and_names_what_differs(
    client: TestClient, new_ledger: NewLedger
) -> None:
    url = f"/v1/ledgers/{new_ledger()}/events"
    client.post(url, json=buy())
    answer = client.post(url, json=buy(price="101.00"))
    assert answer.status_code == 409
    error = answer.json()["results"][0]["error"]
    assert (error["code"], error["differs"]) == ("event_conflict", ["data.price"])


def test_one_bad_event_does_not_spoil_its_batch(client: TestClient, new_ledger: NewLedger) -> None:
    batch = [buy(), use("use-1", "400"), use("use-2", "700"), {"id": "no-event"}, use("use-3", "600")]
    answer = client.post(
        f"/v1/ledgers/{new_ledger()}/events",
        content=json.dumps(batch),
        headers={"content-type": "application/cloudevents-batch+json"},
    )
    assert answer.status_code == 207
    results = answer.json()["results"]
    assert [result["status"] for result in results] == ["recorded", "recorded", "rejected", "rejected", "recorded"]
    assert results[2]["error"]["code"] == "insufficient_credits"
    assert results[2]["error"]["available"] == "600"
    assert results[3]["id"] == "no-event"


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"price": 100}, "wrong_type", "data.price"),
        ({"price": "100.001"}, "too_many_decimals", "data.price"),
        ({"colour": "red"}, "unknown_field", "data.colour"),
        ({"pool": "p", "refundable": True}, "invalid_value", "data.pool"),
        ({"currency": "EUR"}, "exchange_rate_missing", "data.currency"),
        ({"currency": "XXX"}, "unknown_currency", "data.currency"),
        ({"expires_at": "2027-01-15T00:00:00"}, "naive_time", "data.expires_at"),
        ({"credits": "-1"}, "invalid_value", "data.credits"),
    ],
)
def test_bad_input_is_refused_with_a_code_and_the_field(
    client: TestClient, new_ledger: NewLedger, change: dict[str, Any], code: str, field: str
) -> None:
    answer = client.post(f"/v1/ledgers/{new_ledger()}/events", json=buy(**change))
    assert answer.status_code == 422
    error = answer.json()["results"][0]["error"]
    assert (error["code"], error["field"]) == (code, field)


@pytest.mark.parametrize(
    ("content", "content_type", "status", "code"),
    [
        (b"{not json", "application/json", 400, "invalid_json"),
        (b"\xff\xfe", "application/json", 400, "invalid_json"),
        (b"{}", "text/csv", 415, "unsupported_media_type"),
        (b'"text"', "application/json", 422, None),
    ],
)
def test_what_is_no_event_at_all(
    client: TestClient, new_ledger: NewLedger, content: bytes, content_type: str, status: int, code: str | None
) -> None:
    answer = client.post(f"/v1/ledgers/{new_ledger()}/events", content=content, headers={"content-type": content_type})
    assert answer.status_code == status
    if code is not None:
        assert answer.json()["code"] == code
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_name_that_stands_twice_refuses_its_own_event_alone(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    good = json.dumps(buy())
    twice = good.replace('"credits": "1000"', '"credits": "1", "credits": "1000"')
    assert twice != good
    url, headers = f"/v1/ledgers/{ledger}/events", {"content-type": "application/json"}
    alone = client.post(url, content=twice, headers=headers)
    assert alone.status_code == 400
    assert (alone.json()["code"], alone.json()["field"]) == ("invalid_json", "credits")
    both = client.post(url, content=f"[{twice}, {good}]", headers=headers)
    assert both.status_code == 207
    refused, recorded = both.json()["results"]
    assert (refused["status"], refused["error"]["code"]) == ("rejected", "invalid_json")
    assert recorded["status"] == "recorded"


def test_a_byte_order_mark_before_the_body_is_skipped(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    body = b"\xef\xbb\xbf" + json.dumps(buy()).encode()
    answer = client.post(f"/v1/ledgers/{ledger}/events", content=body, headers={"content-type": "application/json"})
    assert answer.json()["results"][0]["status"] == "recorded"


def test_when_to_come_again_is_said_only_where_the_service_could_not_answer(
    client: TestClient, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    use = cloud_event("u", "credits.consumed", "ann", "2026-01-20T10:00:00Z", credits="1")
    answer = client.post(f"/v1/ledgers/{ledger}/events", json=use)
    assert answer.json()["results"][0]["error"]["retryable"], "once a purchase has arrived"
    unknown = client.get(f"/v1/ledgers/{ledger}/customers/nobody/balances")
    assert (unknown.status_code, unknown.json()["retryable"]) == (404, True)
    assert "retry-after" not in unknown.headers


def test_the_api_describes_every_event_type_by_a_schema_of_its_own(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    body = document["paths"]["/v1/ledgers/{ledger}/events"]["post"]["requestBody"]["content"]
    assert body["application/cloudevents+json"]["schema"] == {"$ref": "#/components/schemas/Event"}
    assert set(schemas["Event"]["discriminator"]["mapping"]) == set(EVENT_TYPES)
    for place in schemas["Event"]["discriminator"]["mapping"].values():
        schema = schemas[place.removeprefix("#/components/schemas/")]
        assert schema["properties"]["data"]["properties"]
        assert "May be refused as: " in schema["description"]


def test_an_unknown_ledger_is_not_found(client: TestClient) -> None:
    answer = client.post("/v1/ledgers/nowhere/events", json=buy())
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_ledger")


def test_every_event_is_proved_to_be_in_the_signed_tree(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    client.post(f"/v1/ledgers/{ledger}/events", json=[buy(), *(use(f"use-{n}", "1") for n in range(300))])
    for position in (1, 5, 256, 257, 304):
        proof = client.get(f"/v1/ledgers/{ledger}/events/{position}/proof").json()
        root = merkle.root_from_inclusion(
            bytes.fromhex(proof["leaf"]),
            proof["leaf_index"],
            proof["tree_size"],
            [bytes.fromhex(sibling) for sibling in proof["path"]],
        )
        assert root.hex() == proof["root"]
    checkpoint = client.get(f"/v1/ledgers/{ledger}/checkpoint").text.splitlines()
    assert checkpoint[:2] == [f"subledger/{ledger}", str(proof["tree_size"])]


def test_a_proof_that_stored_hashes_do_not_bear_out_is_not_given(
    service: Subledger, client: TestClient, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    client.post(f"/v1/ledgers/{ledger}/events", json=[buy(), *(use(f"use-{n}", "1") for n in range(300))])
    url = f"/v1/ledgers/{ledger}/events"
    assert client.get(f"{url}/270/proof").status_code == 200
    changed = f"UPDATE merkle_nodes SET hash = sha256(hash) WHERE ledger = '{ledger}'"
    tamper(service.database.url, "merkle_nodes", changed)
    refused = client.get(f"{url}/270/proof")
    assert (refused.status_code, refused.json()["code"]) == (500, "integrity_fault")
    assert refused.json()["detail"].startswith(f"position 270 of ledger {ledger} cannot be shown in its tree of 304")


def test_pages_of_events_join_without_gap_or_overlap(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    client.post(f"/v1/ledgers/{ledger}/events", json=[buy(), *(use(f"use-{n}", "1") for n in range(20))])
    seen, cursor = [], None
    while True:
        parameters = {"limit": 4, "customer": "cust-42"} | ({"cursor": cursor} if cursor else {})
        page = client.get(f"/v1/ledgers/{ledger}/events", params=parameters).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == ["buy-1", *(f"use-{n}" for n in range(20))]
    assert client.get(f"/v1/ledgers/{ledger}/events", params={"cursor": "x"}).json()["code"] == "invalid_cursor"
