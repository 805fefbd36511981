"""Delivery as its users see it: on the command line and over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from api.cli.main import app
from api.http.app import create_app
from api.keys import create_key
from api.service import Subledger
from tests.general_ledgers.netsuite import PEM, NetSuiteStandIn
from tests.general_ledgers.pace import QUICK

pytestmark = pytest.mark.usefixtures("keys_are_forgotten", "open_borders")


Sold = Callable[..., str]


@pytest.fixture
def settings(netsuite: NetSuiteStandIn, tmp_path: Path) -> dict[str, Any]:
    key = tmp_path / "netsuite.pem"
    key.write_text(PEM)
    return {
        "connector": "netsuite",
        "url": netsuite.url,
        "client_id": "client",
        "certificate_id": "certificate",
        "private_key": f"file:{key}",
        **QUICK,
    }


@pytest.fixture
def run(owner_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", owner_url)
    runner = CliRunner()

    def command(*arguments: str, exit_code: int = 0) -> Any:
        result = runner.invoke(app, [*arguments, "--json"], catch_exceptions=False)
        assert result.exit_code == exit_code, result.output
        return json.loads(result.stdout)

    return command


@pytest.fixture
def client(service: Subledger) -> TestClient:
    key = create_key(service.database, ledger="*", role="admin", name="ann").secret
    return TestClient(create_app(service), headers={"Authorization": f"Bearer {key}"})


def test_a_controller_delivers_a_month_from_the_command_line(
    run: Callable[..., Any], sold: Sold, settings: dict[str, Any], netsuite: NetSuiteStandIn, tmp_path: Path
) -> None:
    ledger, file = sold(), tmp_path / "channel.toml"
    file.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
    assert run("channel", "set", "netsuite", str(file), "--ledger", ledger)["destination"] == "netsuite"
    assert [item["channel"] for item in run("channel", "list", "--ledger", ledger)["items"]] == ["netsuite"]
    assert run("channel", "show", "netsuite", "--ledger", ledger)["settings"]["private_key"].startswith("file:")
    assert "netsuite" in [item["connector"] for item in run("channel", "connectors")["items"]]

    netsuite.closed.add("2026-01")
    [refused] = run("deliver", "2026-01", "--ledger", ledger, exit_code=1)["items"]
    assert (refused["state"], refused["dead_letter"]) == ("rejected", True)
    dead = run("deliveries", "list", "--ledger", ledger, "--state", "rejected", "--state", "failed")["items"]
    assert [item["id"] for item in dead] == [refused["id"]]

    asked = CliRunner().invoke(app, ["deliveries", "abandon", refused["id"], "--ledger", ledger, "--reason", " "])
    assert asked.exit_code != 0
    netsuite.closed.clear()
    retried = run("deliveries", "retry", refused["id"], "--ledger", ledger, "--reason", "open again", "--by", "cfo")
    assert retried["items"][0]["state"] == "rendered"
    # In NetSuite another person approves the journal. Until then it is there, but not in the books.
    [there] = run("deliver", "2026-01", "--ledger", ledger)["items"]
    assert there["state"] == "accepted"
    netsuite.journals[0]["record"]["approved"] = True
    [posted] = run("deliver", "2026-01", "--ledger", ledger)["items"]
    assert (posted["state"], len(netsuite.journals)) == ("posted", 1)
    shown = run("deliveries", "show", posted["id"], "--ledger", ledger)
    assert [step["by"] for step in shown["steps"] if step["reason"] == "open again"] == ["cfo"]
    assert any(call["method"] == "POST" for step in shown["steps"] for call in step["exchanges"])


def test_an_engineer_delivers_a_month_over_http(
    client: TestClient, service: Subledger, sold: Sold, settings: dict[str, Any], netsuite: NetSuiteStandIn
) -> None:
    ledger = sold()
    at = f"/v1/ledgers/{ledger}"
    assert client.put(f"{at}/channels/erp", json={**settings, "url": "http://erp.example"}).status_code == 422
    assert client.put(f"{at}/channels/erp", json=settings).status_code == 200
    assert client.get(f"{at}/channels").json()["items"][0]["channel"] == "erp"
    assert client.get(f"{at}/channels/other").status_code == 404

    answer = client.post(f"{at}/deliveries", json={"period": "2026-01"})
    assert answer.status_code == 202
    [made] = answer.json()["items"]
    assert made["state"] == "built"
    again = client.post(f"{at}/deliveries", json={"period": "2026-01"}).json()["items"]
    assert [item["id"] for item in again] == [made["id"]]
    abandoned = client.post(f"{at}/deliveries/{made['id']}/abandon", json={"reason": "by hand"})
    assert abandoned.json()["state"] == "abandoned"
    assert client.post(f"{at}/deliveries/{made['id']}/abandon", json={"reason": "again"}).status_code == 422
    assert client.post(f"{at}/deliveries/{made['id']}/retry", json={"reason": "after all"}).status_code == 202

    service.jobs.work(forever=False)
    listed = client.get(f"{at}/deliveries", params={"state": "accepted", "limit": 1}).json()
    assert [item["id"] for item in listed["items"]] == [made["id"]]
    shown = client.get(f"{at}/deliveries/{made['id']}").json()
    assert [step["state"] for step in shown["steps"]][:4] == ["built", "abandoned", "built", "rendered"]
    assert shown["steps"][1]["by"] == "ann"
    assert len(netsuite.journals) == 1
    assert client.get(f"{at}/deliveries/nothing").json()["code"] == "unknown_delivery"
    assert client.delete(f"{at}/channels/erp").json()["code"] == "channel_fixed"
    assert client.put(f"{at}/channels/erp", json={**settings, "retired": True}).status_code == 200
    assert client.post(f"{at}/deliveries", json={"period": "2026-01"}).json()["code"] == "unknown_channel"
    assert client.put(f"{at}/channels/unused", json=settings).status_code == 200
    assert client.delete(f"{at}/channels/unused").status_code == 204
