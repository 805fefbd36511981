"""Access: loopback while no key exists, otherwise keys by ledger and role."""

from __future__ import annotations

import uuid

import pytest
from fastapi.testclient import TestClient

from api.http.app import create_app
from api.keys import create_key
from api.service import Subledger
from subledger.errors import InvalidValue
from subledger.ledger_settings import LedgerSettings


def _client(service: Subledger, *, host: str = "127.0.0.1", named: str = "127.0.0.1", open_: bool = True) -> TestClient:
    app = create_app(service, open_on_loopback=open_)
    return TestClient(app, base_url=f"http://{named}", client=(host, 50_000))


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_while_no_key_exists_calls_from_this_machine_alone_are_served(fresh: Subledger) -> None:
    assert _client(fresh).get("/v1/ledgers/acme").status_code == 200
    assert _client(fresh, host="192.0.2.7").get("/v1/ledgers/acme").status_code == 401
    assert _client(fresh, named="evil.example").get("/v1/ledgers/acme").status_code == 401
    refused = _client(fresh, open_=False).get("/v1/ledgers/acme")
    assert (refused.status_code, refused.json()["code"]) == (401, "not_authenticated")
    assert refused.headers["www-authenticate"] == "Bearer"


def test_once_a_key_exists_every_call_needs_one(fresh: Subledger) -> None:
    key = create_key(fresh.database, ledger="acme", role="reader", name="the reader").secret
    client = _client(fresh)
    assert client.get("/v1/ledgers/acme").status_code == 401
    assert client.get("/v1/ledgers/acme", headers=_bearer("sl_wrong")).status_code == 401
    assert client.get("/v1/ledgers/acme", headers=_bearer(key)).status_code == 200


def test_a_key_is_good_for_its_ledger_and_its_role(fresh: Subledger) -> None:
    fresh.create_ledger("other", LedgerSettings(currency="USD"))
    reader = create_key(fresh.database, ledger="acme", role="reader", name="the reader").secret
    writer = create_key(fresh.database, ledger="acme", role="writer", name="the writer").secret
    admin = create_key(fresh.database, ledger="*", role="admin", name="the admin").secret
    client = _client(fresh, open_=False)
    assert client.get("/v1/ledgers/other", headers=_bearer(reader)).json()["code"] == "not_allowed"
    assert client.post("/v1/ledgers/acme/events", json=[], headers=_bearer(reader)).status_code == 403
    assert client.post("/v1/ledgers/acme/events", json=[], headers=_bearer(writer)).status_code == 200
    assert client.post("/v1/ledgers/acme/periods/2026-01/close", headers=_bearer(writer)).status_code == 403
    assert client.get("/v1/ledgers", headers=_bearer(writer)).status_code == 403
    of_customer = "/v1/ledgers/acme/customers/c/attributes"
    assert client.put(of_customer, json={"segment": "smb"}, headers=_bearer(reader)).status_code == 403
    assert client.delete(of_customer, headers=_bearer(reader)).status_code == 403
    assert client.put(of_customer, json={"segment": "smb"}, headers=_bearer(writer)).status_code == 200
    assert client.get(of_customer, headers=_bearer(reader)).json()["attributes"] == {"segment": "smb"}
    assert client.get("/v1/ledgers/other", headers=_bearer(admin)).status_code == 200


def test_keys_are_kept_as_hashes_and_roles_are_checked(fresh: Subledger) -> None:
    key = create_key(fresh.database, ledger="acme", role="reader", name="the reader").secret
    with fresh.database.read() as connection:
        stored = str(connection.exec_driver_sql("SELECT * FROM api_keys").all())
    assert key not in stored
    with pytest.raises(InvalidValue):
        create_key(fresh.database, ledger="acme", role=f"role-{uuid.uuid4()}", name="ann")


def test_operations_are_open(fresh: Subledger) -> None:
    client = _client(fresh, open_=False)
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    assert "subledger_http_requests_total" in client.get("/metrics").text
    assert client.get("/openapi.json").status_code == 200
    assert client.get("/nowhere").json()["code"] == "not_found"
