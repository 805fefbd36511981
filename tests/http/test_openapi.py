"""The OpenAPI document, exercised by schemathesis: the server never fails, whatever it receives."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings

from tests.building import cloud_event
from tests.conftest import NewLedger

EXAMPLES = max(1, settings().max_examples // 5)


@pytest.fixture(scope="module")
def api_schema(client: TestClient, new_ledger: NewLedger) -> Any:
    ledger = new_ledger()
    purchase = cloud_event(
        "buy",
        "credits.purchased",
        "cust-42",
        "2026-01-15T10:00:00Z",
        block_id="blk-7",
        credits="1000",
        price="100.00",
        currency="USD",
    )
    client.post(f"/v1/ledgers/{ledger}/events", json=purchase)
    schema = client.get("/openapi.json").json()
    for path in schema["paths"].values():
        for operation in path.values():
            operation.pop("security", None)  # no key is needed here, and an invented key would be refused
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "ledger":  # otherwise most calls would fail at the ledger's name
                    parameter["schema"] = {"type": "string", "enum": [ledger, "nowhere"]}
    return schemathesis.openapi.from_dict(schema)


@pytest.mark.law
def test_no_call_makes_the_server_fail(api_schema: Any, client: TestClient) -> None:
    operations = [result.ok() for result in api_schema.get_all_operations()]
    assert len(operations) >= 25
    for operation in operations:
        _exercise(operation, client)


def _exercise(operation: Any, client: TestClient) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def never_fails(case: Any) -> None:
        arguments = case.as_transport_kwargs(base_url="http://127.0.0.1")
        arguments.pop("cookies", None)
        response = client.request(**arguments)
        assert response.status_code < 500, f"{operation.label}: {response.text}"
        if response.status_code >= 400:
            document = response.json()
            assert "code" in document or "results" in document, f"{operation.label}: {response.text}"

    never_fails()
