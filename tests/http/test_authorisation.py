"""The authorisation matrix: every route of the OpenAPI document and every kind of caller.

``EXPECTED`` is written by hand, independently of the code. A new route without a line here fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.http.app import create_app
from api.keys import create_key, revoke_key
from api.service import Subledger
from subledger.ledger_settings import LedgerSettings
from subledger.store.database import Database
from tests.scratch_database import scratch_database
from tests.store.tampering import past_triggers

ROLES = ("reader", "writer", "controller", "admin")
EXPECTED = """
GET    /healthz                                                       anybody
GET    /readyz                                                        anybody
GET    /metrics                                                       anybody
GET    /v1/keys                                                       any ledger's admin
POST   /v1/keys                                                       any ledger's admin
POST   /v1/keys/{key}/rotate                                          any ledger's admin
DELETE /v1/keys/{key}                                                 any ledger's admin
GET    /v1/ledgers                                                    every ledger's reader
POST   /v1/ledgers                                                    every ledger's admin
GET    /v1/reports                                                    every ledger's reader
GET    /v1/reports/{name}                                             every ledger's reader
GET    /v1/ledgers/{ledger}                                           reader
PATCH  /v1/ledgers/{ledger}                                           admin
GET    /v1/ledgers/{ledger}/clock                                     reader
PUT    /v1/ledgers/{ledger}/clock                                     controller
GET    /v1/ledgers/{ledger}/events                                    reader
POST   /v1/ledgers/{ledger}/events                                    writer
GET    /v1/ledgers/{ledger}/events/{position}                         reader
GET    /v1/ledgers/{ledger}/events/{position}/proof                   reader
GET    /v1/ledgers/{ledger}/checkpoint                                reader
GET    /v1/ledgers/{ledger}/consistency                               reader
GET    /v1/ledgers/{ledger}/policies                                  reader
POST   /v1/ledgers/{ledger}/policies                                  controller
GET    /v1/ledgers/{ledger}/policies/{number}                         reader
GET    /v1/ledgers/{ledger}/approvals                                 reader
GET    /v1/ledgers/{ledger}/approvals/{approval}                      reader
POST   /v1/ledgers/{ledger}/approvals/{approval}/approve              controller
POST   /v1/ledgers/{ledger}/approvals/{approval}/refuse               controller
GET    /v1/ledgers/{ledger}/rejected                                  reader
GET    /v1/ledgers/{ledger}/rejected/summary                          reader
GET    /v1/ledgers/{ledger}/rejected/{rejection}                      reader
POST   /v1/ledgers/{ledger}/rejected/retry                            writer
POST   /v1/ledgers/{ledger}/rejected/dismiss                          controller
POST   /v1/ledgers/{ledger}/rejected/{rejection}/retry                writer
POST   /v1/ledgers/{ledger}/rejected/{rejection}/dismiss              controller
POST   /v1/ledgers/{ledger}/rejected/{rejection}/reopen               controller
GET    /v1/ledgers/{ledger}/customers                                 reader
GET    /v1/ledgers/{ledger}/customers/{customer}/attributes           reader
PUT    /v1/ledgers/{ledger}/customers/{customer}/attributes           writer
DELETE /v1/ledgers/{ledger}/customers/{customer}/attributes           writer
GET    /v1/ledgers/{ledger}/customers/{customer}/balances             reader
GET    /v1/ledgers/{ledger}/customers/{customer}/spendable            reader
GET    /v1/ledgers/{ledger}/customers/{customer}/blocks               reader
GET    /v1/ledgers/{ledger}/blocks/{block_id}                         reader
GET    /v1/ledgers/{ledger}/blocks/{block_id}/history                 reader
GET    /v1/ledgers/{ledger}/erasures                                  reader
GET    /v1/ledgers/{ledger}/trial-balance                             reader
GET    /v1/ledgers/{ledger}/journal-lines                             reader
GET    /v1/ledgers/{ledger}/reports                                   reader
GET    /v1/ledgers/{ledger}/reports/integrity                         reader
GET    /v1/ledgers/{ledger}/reports/changes                           reader
GET    /v1/ledgers/{ledger}/reports/{name}                            reader
GET    /v1/ledgers/{ledger}/periods                                   reader
GET    /v1/ledgers/{ledger}/periods/{period}/checklist                reader
POST   /v1/ledgers/{ledger}/periods/{period}/close                    controller
POST   /v1/ledgers/{ledger}/periods/{period}/reopen                   controller
GET    /v1/ledgers/{ledger}/periods/{period}/journals                 reader
POST   /v1/ledgers/{ledger}/periods/{period}/journals/{number}/reverse controller
GET    /v1/ledgers/{ledger}/mapping                                   reader
PUT    /v1/ledgers/{ledger}/mapping                                   controller
GET    /v1/ledgers/{ledger}/exports                                   reader
POST   /v1/ledgers/{ledger}/exports                                   controller
GET    /v1/ledgers/{ledger}/exports/{export_id}                       reader
GET    /v1/ledgers/{ledger}/exports/{export_id}/file                  reader
GET    /v1/ledgers/{ledger}/exports/{export_id}/lines/{line}/entries  reader
GET    /v1/ledgers/{ledger}/targets                                   reader
GET    /v1/ledgers/{ledger}/targets/{target}                          reader
PUT    /v1/ledgers/{ledger}/targets/{target}                          controller
POST   /v1/ledgers/{ledger}/tie-out                                   reader
GET    /v1/ledgers/{ledger}/channels                                  reader
GET    /v1/ledgers/{ledger}/channels/{channel}                        reader
PUT    /v1/ledgers/{ledger}/channels/{channel}                        admin
DELETE /v1/ledgers/{ledger}/channels/{channel}                        admin
POST   /v1/ledgers/{ledger}/channels/{channel}/tie-out                controller
GET    /v1/ledgers/{ledger}/deliveries                                reader
POST   /v1/ledgers/{ledger}/deliveries                                controller
GET    /v1/ledgers/{ledger}/deliveries/{delivery_id}                  reader
POST   /v1/ledgers/{ledger}/deliveries/{delivery_id}/retry            controller
POST   /v1/ledgers/{ledger}/deliveries/{delivery_id}/abandon          controller
GET    /v1/ledgers/{ledger}/monitors                                  reader
GET    /v1/ledgers/{ledger}/monitors/thresholds                       reader
PUT    /v1/ledgers/{ledger}/monitors/thresholds                       controller
"""
NEEDED: dict[tuple[str, str], str] = {
    (method, path): needed for method, path, needed in (line.split(None, 2) for line in EXPECTED.split("\n") if line)
}
VALUES = {"ledger": "a", "position": "1", "number": "1", "line": "1", "period": "2026-01"}
"""Values of path parameters by name; ``none`` for the others."""


@pytest.fixture(scope="module")
def called(server_url: str) -> Iterator[tuple[TestClient, dict[str, str | None]]]:
    """A server with ledgers a and b, and the key of each caller."""
    with scratch_database(server_url) as url:
        database = Database(url)
        service = Subledger(database)
        keys: dict[str, str | None] = {"none": None, "garbage": "sl_garbage"}
        for ledger in ("a", "b"):
            service.create_ledger(ledger, LedgerSettings(currency="USD"))
        for ledger in ("a", "b", "*"):
            for role in ROLES:
                made = create_key(database, ledger=ledger, role=role, name=f"the {role}")
                keys[f"{role} of {ledger}"] = made.secret
        for ended in ("expired", "revoked"):
            made = create_key(database, ledger="*", role="admin", name=ended)
            keys[ended] = made.secret
            if ended == "revoked":
                revoke_key(database, made.key.key_id, by="ann")
            else:
                with past_triggers(url, "api_keys") as connection:
                    connection.execute("UPDATE api_keys SET expires_at = now() WHERE key_id = %s", (made.key.key_id,))
        yield TestClient(create_app(service)), keys
        database.close()


def expected(needed: str, caller: str) -> str:
    """Returns the expected answer to a caller of a route: accepted, 401 or 403."""
    if needed == "anybody":
        return "let in"
    if caller in ("none", "garbage", "expired", "revoked"):
        return "401"
    role, _, ledger = caller.partition(" of ")
    of_ledgers = {"any ledger's": ("a", "b", "*"), "every ledger's": ("*",)}.get(needed.rpartition(" ")[0], ("a", "*"))
    enough = ROLES.index(role) >= ROLES.index(needed.rpartition(" ")[2])
    return "let in" if enough and ledger in of_ledgers else "403"


def _operations(client: TestClient) -> dict[tuple[str, str], Any]:
    paths = client.get("/openapi.json").json()["paths"]
    return {(method.upper(), path): operation for path, of in paths.items() for method, operation in of.items()}


def test_every_route_has_a_line_here(called: tuple[TestClient, dict[str, str | None]]) -> None:
    client, _ = called
    assert set(_operations(client)) == set(NEEDED)


def test_the_description_names_the_key_where_one_is_needed(called: tuple[TestClient, dict[str, str | None]]) -> None:
    client, _ = called
    [(name, scheme)] = client.get("/openapi.json").json()["components"]["securitySchemes"].items()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    for route, operation in _operations(client).items():
        assert operation.get("security", []) == ([] if NEEDED[route] == "anybody" else [{name: []}]), route


def test_each_caller_is_let_in_where_expected_and_nowhere_else(
    called: tuple[TestClient, dict[str, str | None]],
) -> None:
    client, keys = called
    mismatches, calls = [], 0
    for (method, path), operation in _operations(client).items():
        url = re.sub(r"\{(\w+)\}", lambda found: VALUES.get(found[1], "none"), path)
        for caller, key in keys.items():
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            body = {} if "requestBody" in operation else None
            answer = client.request(method, url, headers=headers, json=body)
            calls += 1
            found = str(answer.status_code) if answer.status_code in (401, 403) else "let in"
            assert answer.status_code < 500, (method, path, caller, answer.text)
            if found != expected(NEEDED[method, path], caller):
                mismatches.append((method, path, caller, found))
    assert mismatches == []
    assert calls == len(NEEDED) * len(keys)


def test_a_key_that_has_ended_says_which_of_the_two_it_is(called: tuple[TestClient, dict[str, str | None]]) -> None:
    client, keys = called
    for ended in ("expired", "revoked"):
        answer = client.get("/v1/ledgers/a", headers={"Authorization": f"Bearer {keys[ended]}"})
        assert (answer.status_code, answer.json()["code"]) == (401, f"key_{ended}")
