"""Requests that another web site makes a browser send change nothing, in whatever way a page sends them."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.http.app import create_app
from api.keys import create_key
from api.service import Subledger
from subledger.events.own_data import Approvals
from subledger.ledger_settings import LedgerSettings
from subledger.store.checkpoints import last_signed
from subledger.store.database import Database
from tests.building import cloud_event
from tests.scratch_database import scratch_database

EVIL = {"origin": "https://evil.example"}
FROM_ANOTHER_SITE: list[dict[str, str]] = [
    EVIL,
    {"origin": "null"},
    {"origin": "http://127.0.0.1:8001"},  # another port is another site
    {"origin": "https://127.0.0.1"},
    {"origin": "http://127.0.0.1.evil.example"},
    {"origin": "http://[::1"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1"},
    {"sec-fetch-site": "Cross-Site"},
]
FROM_HERE: list[dict[str, str]] = [
    {},
    {"origin": "http://127.0.0.1"},
    {"origin": "http://127.0.0.1:80"},
    {"sec-fetch-site": "same-origin", "origin": "https://books.example"},  # behind a proxy that changes the Host
    {"sec-fetch-site": "none"},
]
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "Text/Plain;charset=utf-8")
CLOSE = "/v1/ledgers/{ledger}/periods/2026-01/close"
GRANT = cloud_event(
    "g", "credits.granted", "c", "2026-01-15T12:00:00Z", block_id="G", credits="9", reason="promotional"
)


@pytest.fixture(scope="module")
def service(modules_service: Subledger) -> Subledger:
    """A service on its own database without a key, so that every caller on loopback may do everything."""
    return modules_service


@pytest.fixture
def ledger(service: Subledger) -> str:
    ledger = f"open-{uuid.uuid4().hex[:8]}"
    asking = Approvals.model_validate({"grant_credits_above": "1"})
    service.create_ledger(ledger, LedgerSettings(currency="USD", approvals=asking))
    return ledger


@pytest.fixture(scope="module")
def browser(service: Subledger) -> TestClient:
    """A browser on the same machine as the open server."""
    return TestClient(
        create_app(service, open_on_loopback=True), base_url="http://127.0.0.1", client=("127.0.0.1", 50_000)
    )


def _position(browser: TestClient, ledger: str) -> Any:
    return browser.get(f"/v1/ledgers/{ledger}").json()["position"]


@pytest.mark.parametrize("headers", FROM_ANOTHER_SITE, ids=json.dumps)
def test_another_site_changes_nothing(headers: dict[str, str], browser: TestClient, ledger: str) -> None:
    before = _position(browser, ledger)
    answer = browser.post(CLOSE.format(ledger=ledger), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "cross_site")
    assert answer.headers["content-type"] == "application/problem+json"
    assert browser.post(f"/v1/ledgers/{ledger}/events", json=[GRANT], headers=headers).status_code == 403
    assert _position(browser, ledger) == before


@pytest.mark.parametrize("headers", FROM_ANOTHER_SITE, ids=json.dumps)
def test_another_site_has_nothing_signed_and_nothing_verified(
    headers: dict[str, str], browser: TestClient, ledger: str, service: Subledger
) -> None:
    navigating = {**headers, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    for path in ("checkpoint", "reports/integrity", "reports/integrity?format=html", "balances"):
        for sent in (headers, navigating):
            answer = browser.get(f"/v1/ledgers/{ledger}/{path}", headers=sent)
            assert (answer.status_code, answer.json()["code"]) == (403, "cross_site"), path
    with service.database.read() as connection:
        assert last_signed(connection, ledger) is None


def test_a_link_on_another_site_leads_to_pages_for_people(browser: TestClient, ledger: str) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    report = f"/v1/ledgers/{ledger}/reports/trial-balance"
    for page in ("/", "/docs", "/redoc", f"{report}?format=html"):
        assert browser.get(page, headers=link).status_code == 200, page
        for other in ({"sec-fetch-dest": "iframe"}, {"sec-fetch-mode": "no-cors"}):
            assert browser.get(page, headers={**link, **other}).status_code == 403, page
    assert browser.get(report, headers=link).status_code == 403
    assert browser.get(f"{report}?format=csv&format=html", headers=link).status_code == 403


@pytest.mark.parametrize("headers", FROM_HERE, ids=json.dumps)
def test_programs_and_pages_of_this_server_go_on(headers: dict[str, str], browser: TestClient, ledger: str) -> None:
    assert browser.post(CLOSE.format(ledger=ledger), headers=headers).status_code == 200


def test_every_route_refuses_another_site(browser: TestClient) -> None:
    paths = browser.get("/openapi.json").json()["paths"]
    routes = [(method.upper(), path) for path, operations in paths.items() for method in operations]
    assert len(routes) > 60
    for method, path in routes:
        answer = browser.request(method, path, headers=EVIL)
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_site"), (method, path)


@pytest.mark.parametrize("content_type", FORMS)
@pytest.mark.parametrize("body", [b"", b'{"x": 1}'])
def test_what_a_form_can_send_is_no_body(content_type: str, body: bytes, browser: TestClient, ledger: str) -> None:
    for path in (CLOSE.format(ledger=ledger), f"/v1/ledgers/{ledger}/events"):
        answer = browser.post(path, content=body, headers={"content-type": content_type})
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_a_body_without_a_type_is_no_event(browser: TestClient, ledger: str) -> None:
    before = _position(browser, ledger)
    answer = browser.post(f"/v1/ledgers/{ledger}/events", content=json.dumps([GRANT]).encode())
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
    chunks = browser.post(f"/v1/ledgers/{ledger}/events", content=iter([json.dumps([GRANT]).encode()]))
    assert chunks.status_code == 415
    assert _position(browser, ledger) == before


def test_without_a_key_nobody_can_ask_or_approve(browser: TestClient, service: Subledger, ledger: str) -> None:
    answer = browser.post(f"/v1/ledgers/{ledger}/events", json=GRANT)
    assert (answer.status_code, answer.json()["results"][0]["error"]["code"]) == (422, "person_required")
    [waiting] = service.record(ledger, [GRANT], by="alice")  # like the command line with --by
    path = f"/v1/ledgers/{ledger}/approvals/{waiting.approval_id}"
    for decision in ("approve", "refuse"):
        answer = browser.post(f"{path}/{decision}")
        assert (answer.status_code, answer.json()["code"]) == (422, "person_required")
    assert browser.get(f"/v1/ledgers/{ledger}/approvals?state=waiting").json()["items"] != []


@pytest.mark.parametrize(
    "header", ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded", "via", "x-real-ip"]
)
def test_what_came_through_a_proxy_is_not_from_this_machine(header: str, browser: TestClient, ledger: str) -> None:
    assert browser.get(f"/v1/ledgers/{ledger}").status_code == 200
    for value in ("127.0.0.1", "192.0.2.7", ""):
        assert browser.get(f"/v1/ledgers/{ledger}", headers={header: value}).status_code == 401


def test_a_key_does_not_make_another_site_this_one(server_url: str) -> None:
    with scratch_database(server_url) as url:
        database = Database(url)
        service = Subledger(database)
        service.create_ledger("keyed", LedgerSettings(currency="USD"))
        key = create_key(database, ledger="keyed", role="controller", name="ann").secret
        client = TestClient(create_app(service), headers={"Authorization": f"Bearer {key}"})
        path = CLOSE.format(ledger="keyed")
        assert client.post(path, headers={"sec-fetch-site": "cross-site"}).status_code == 403
        assert client.post(path).status_code == 200
        database.close()
