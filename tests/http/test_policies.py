"""Policies and settings over HTTP: the rights to change them, the answers, the refusals."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.http.app import create_app
from api.keys import create_key
from api.service import Subledger
from subledger.posting import SHIPPED_POLICIES, shipped_policy
from tests.building import cloud_event
from tests.conftest import NewLedger


def own(name: str = "acme", version: int = 1, **rules: str) -> str:
    """Returns a policy file like contract_liability, with other pairs for some kinds."""
    shipped = shipped_policy("contract_liability").rules_document
    lines = [f'name = "{name}"', f"version = {version}", 'description = "of our own"', "[entries]"]
    for kind, pairs in shipped.items():
        texts = [rules[kind]] if kind in rules else [" / ".join(pair) for pair in pairs]
        lines.append(f"{kind} = {texts}")
    return "\n".join(lines) + "\n"


def head(client: TestClient, ledger: str) -> Any:
    return client.get(f"/v1/ledgers/{ledger}").json()


def test_a_policy_is_adopted_listed_and_shown(client: TestClient, new_ledger: NewLedger) -> None:
    url = f"/v1/ledgers/{(ledger := new_ledger())}/policies"
    adopted = client.post(url, json={"name": "contract_liability"})
    assert adopted.status_code == 201
    document = adopted.json()
    assert {name: document[name] for name in ("status", "policy", "name", "version", "in_force", "position", "by")} == {
        "status": "adopted",
        "policy": 2,
        "name": "contract_liability",
        "version": 1,
        "in_force": True,
        "position": 4,
        "by": "nobody",
    }
    again = client.post(url, json={"name": "contract_liability"})
    assert (again.status_code, again.json()["status"], again.json()["position"]) == (200, "unchanged", 4)
    text = own(consumption="prepaid_liability / overage_revenue")
    assert client.post(url, json={"policy": text}).json()["policy"] == 3
    assert client.post(url, json={"policy": text}).json()["status"] == "unchanged"
    listed = client.get(url).json()
    assert listed["next"] is None
    assert [(item["policy"], item["name"], item["in_force"]) for item in listed["items"]] == [
        (1, "customer_deposits", False),
        (2, "contract_liability", False),
        (3, "acme", True),
    ]
    first = client.get(url, params={"limit": 2}).json()
    rest = client.get(url, params={"limit": 2, "cursor": first["next"]}).json()
    assert first["items"] + rest["items"] == listed["items"]
    shown = client.get(f"{url}/3").json()
    assert shown["entries"]["consumption"] == ["prepaid_liability / overage_revenue"]
    assert shown["description"] == "of our own"
    assert head(client, ledger)["policy"] == "acme"
    assert head(client, ledger)["position"] == 5
    assert client.get(f"{url}/9").json()["code"] == "unknown_policy"
    assert client.get(f"{url}/9").status_code == 404
    for call in (
        client.get("/v1/ledgers/nowhere/policies"),
        client.get("/v1/ledgers/nowhere/policies/1"),
        client.post("/v1/ledgers/nowhere/policies", json={"name": "contract_liability"}),
    ):
        assert (call.status_code, call.json()["code"]) == (404, "unknown_ledger")


def test_what_is_recorded_afterwards_is_posted_under_it_and_open_blocks_are_remarked_on(
    client: TestClient, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    url = f"/v1/ledgers/{ledger}"
    bought = cloud_event(
        "b", "credits.purchased", "c", "2026-01-05T10:00:00Z", block_id="A", credits="10", price="10.00", currency="USD"
    )
    assert client.post(f"{url}/events", json=bought).status_code == 200
    document = client.post(f"{url}/policies", json={"name": "contract_liability"}).json()
    assert document["remarks"][0].startswith("1 open credit block was posted under a policy")
    used = cloud_event("u", "credits.consumed", "c", "2026-01-06T10:00:00Z", credits="4")
    assert client.post(f"{url}/events", json=used).status_code == 200
    lines = client.get(f"{url}/journal-lines").json()["items"]
    assert {line["account"] for line in lines if line["position"] == 6} == {"prepaid_liability", "usage_revenue"}
    assert client.get(f"{url}/events/5").json()["event"]["type"] == "policy.adopted"


BROKEN = own(payout="cash / accounts_receivable")


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({}, 422, "invalid_value", "name"),
        ({"name": "contract_liability", "policy": own()}, 422, "invalid_value", "name"),
        ({"name": "mine"}, 422, "invalid_policy", "policy"),
        ({"name": 7}, 422, "wrong_type", "name"),
        ({"policy": "name = "}, 422, "invalid_policy", None),
        ({"policy": ""}, 422, "invalid_policy", "name"),
        ({"policy": own(payout="cash / petty_cash")}, 422, "invalid_policy", "payout"),
        ({"policy": BROKEN}, 422, "invalid_policy", "payout"),
        ({"policy": own(name="customer_deposits")}, 409, "policy_exists", "version"),
        ({"policy": "x" * 65_537}, 422, "invalid_value", "policy"),
        ({"policy": own(), "force": True}, 422, "unknown_field", "force"),
    ],
)
def test_what_is_no_sound_policy_is_refused_and_nothing_is_recorded(
    client: TestClient, new_ledger: NewLedger, body: Any, status: int, code: str, field: str | None
) -> None:
    ledger = new_ledger()
    answer = client.post(f"/v1/ledgers/{ledger}/policies", json=body)
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem.get("field")) == (status, code, field)
    assert answer.headers["content-type"] == "application/problem+json"
    assert head(client, ledger)["position"] == 3
    if body == {"policy": BROKEN}:
        assert (problem["kind"], problem["expected"]) == ("payout", "processor_clearing credited")
        assert len(problem["faults"]) == 2


def test_settings_change_and_what_is_not_named_stays(client: TestClient, new_ledger: NewLedger) -> None:
    url = f"/v1/ledgers/{new_ledger(entity='US01')}"
    change = {"on_shortfall": "overage", "approvals": {"write_offs": True, "grant_credits_above": "1000"}}
    changed = client.patch(url, json=change).json()
    assert (changed["status"], changed["on_shortfall"], changed["entity"], changed["position"]) == (
        "configured",
        "overage",
        "US01",
        4,
    )
    assert client.patch(url, json=change).json()["status"] == "unchanged"
    assert client.patch(url, json={}).json()["status"] == "unchanged"
    assert client.patch(url, json={"currency": "USD", "timezone": "UTC"}).json()["status"] == "unchanged"
    event = client.get(f"{url}/events/4").json()["event"]
    assert (event["type"], event["data"]["by"]) == ("ledger.configured", "nobody")
    lowered = client.patch(url, json={"approvals": {"grant_credits_above": None}})
    assert (lowered.status_code, lowered.json()["code"]) == (422, "person_required"), "a second one, too"
    kept = client.get(url).json()
    assert (kept["position"], kept["approvals"]) == (4, change["approvals"])


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({"currency": "EUR"}, 422, "setting_fixed", "currency"),
        ({"timezone": "Asia/Tokyo"}, 422, "setting_fixed", "timezone"),
        ({"on_shortfall": "maybe"}, 422, "invalid_value", "on_shortfall"),
        ({"entity": "\x00"}, 422, "invalid_value", "entity"),
        ({"policy": "contract_liability"}, 422, "unknown_field", "policy"),
        ({"approvals": {"void": True}}, 422, "unknown_field", "approvals.void"),
        ({"approvals": {"grant_value_above": "much"}}, 422, "invalid_value", "approvals.grant_value_above"),
        ({"approvals": {"grant_value_above": 5}}, 422, "wrong_type", "approvals.grant_value_above"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(
    client: TestClient, new_ledger: NewLedger, body: Any, status: int, code: str, field: str
) -> None:
    ledger = new_ledger()
    answer = client.patch(f"/v1/ledgers/{ledger}", json=body)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (status, code, field)
    assert head(client, ledger)["position"] == 3
    assert client.patch("/v1/ledgers/nowhere", json=body).status_code in (404, 422)


def test_a_controller_adopts_policies_and_only_an_admin_changes_what_protects_the_books(fresh: Subledger) -> None:
    client = TestClient(create_app(fresh))

    def key(role: str) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {create_key(fresh.database, ledger='acme', role=role, name=f'a {role}').secret}"
        }

    reader, writer, controller, admin = (key(role) for role in ("reader", "writer", "controller", "admin"))
    url = "/v1/ledgers/acme"
    adopt = {"name": SHIPPED_POLICIES[0]}
    assert [client.post(f"{url}/policies", json=adopt, headers=of).status_code for of in (reader, writer)] == [403] * 2
    assert client.post(f"{url}/policies", json=adopt, headers=controller).json()["by"] == "a controller"
    change = {"approvals": {"voids": True}}
    codes = [client.patch(url, json=change, headers=of).status_code for of in (reader, writer, controller, admin)]
    assert codes == [403, 403, 403, 200]
    assert client.get(f"{url}/policies", headers=reader).status_code == 200
    assert client.get(f"{url}/events/5", headers=reader).json()["event"]["data"]["by"] == "a admin"
