"""A sandbox over HTTP and on the command line. Events in the future are refused with advice."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from api.cli import main as cli
from api.cli.commands import clock, exports
from api.cli.commands import ledgers as ledger_commands
from api.service import Subledger
from projections.monitors import notices
from projections.monitors.checking import check
from subledger.external import grants
from tests.building import purchase
from tests.conftest import NewLedger

JANUARY = "2031-01-31T12:00:00Z"


buy = partial(purchase, credits="100", price="100.00")


@pytest.fixture
def ledger(client: TestClient) -> str:
    name = f"trial-{uuid.uuid4().hex[:8]}"
    body = {"ledger": name, "currency": "USD", "sandbox": True, "clock": JANUARY, "future_tolerance": "2h"}
    created = client.post("/v1/ledgers", json=body)
    assert created.status_code == 201, created.text
    assert {key: created.json()[key] for key in ("sandbox", "clock", "future_tolerance")} == {
        "sandbox": True,
        "clock": JANUARY,
        "future_tolerance": "2h",
    }
    assert client.post("/v1/ledgers", json=body).status_code == 200
    return name


def test_a_month_end_is_tried_over_http(client: TestClient, ledger: str) -> None:
    url = f"/v1/ledgers/{ledger}"
    assert client.post(f"{url}/events", json=buy("A", time="2031-01-10T00:00:00Z")).status_code == 200
    refused = client.post(f"{url}/events", json=buy("B", time="2031-02-01T00:00:00Z"))
    assert (refused.status_code, refused.json()["results"][0]["error"]["code"]) == (422, "in_the_future")
    early = client.post(f"{url}/periods/2031-01/close")
    assert (early.status_code, early.json()["code"], early.json()["retryable"]) == (409, "period_not_over", True)
    interim = client.post(f"{url}/exports", json={"period": "2031-01", "format": "csv"}).json()
    assert (interim["period_state"], interim["interim"], interim["sandbox"]) == ("open", True, True)
    assert [notice.partition(" ")[0] for notice in interim["notices"]] == ["SANDBOX:", "2031-01"]
    moved = client.put(f"{url}/clock", json={"clock": "2031-02-01T00:00:00Z"}).json()
    assert (moved["status"], moved["now"], moved["today"]) == ("set", "2031-02-01T00:00:00Z", "2031-02-01")
    assert client.put(f"{url}/clock", json={"clock": "2031-02-01T00:00:00Z"}).json()["status"] == "unchanged"
    back = client.put(f"{url}/clock", json={"clock": JANUARY})
    assert (back.status_code, back.json()["code"]) == (409, "clock_backwards")
    assert client.post(f"{url}/periods/2031-01/close").status_code == 200
    closed = client.post(f"{url}/exports", json={"period": "2031-01", "format": "csv"}).json()
    assert (closed["period_state"], closed["interim"]) == ("closed", False)
    future = client.post(f"{url}/exports", json={"period": "2031-03", "format": "csv"})
    assert (future.status_code, future.json()["code"], future.json()["field"]) == (422, "in_the_future", "period")
    assert client.get(f"{url}/trial-balance").json()["as_of"] == "2031-02-01"


def test_what_is_fixed_stays_and_a_sandbox_has_no_channel(
    client: TestClient, ledger: str, new_ledger: NewLedger
) -> None:
    assert client.patch(f"/v1/ledgers/{ledger}", json={"sandbox": False}).json()["code"] == "setting_fixed"
    assert client.patch(f"/v1/ledgers/{ledger}", json={"future_tolerance": "0s"}).json()["status"] == "configured"
    real = new_ledger()
    assert client.patch(f"/v1/ledgers/{real}", json={"sandbox": True}).json()["code"] == "setting_fixed"
    assert client.put(f"/v1/ledgers/{real}/clock", json={"clock": JANUARY}).json()["code"] == "setting_fixed"
    shown = client.get(f"/v1/ledgers/{real}/clock").json()
    assert (shown["sandbox"], shown["timezone"]) == (False, "UTC")
    channel = client.put(f"/v1/ledgers/{ledger}/channels/drop", json={"connector": "folder", "directory": "/tmp"})
    assert (channel.status_code, channel.json()["code"]) == (409, "sandbox_ledger")
    plain = client.post("/v1/ledgers", json={"ledger": "x", "currency": "USD", "clock": JANUARY})
    assert (plain.status_code, plain.json()["field"]) == (422, "clock")


def test_a_sandbox_sends_no_notices(client: TestClient, ledger: str, service: Subledger) -> None:
    told = {"webhook": "https://hooks.example/notices", "webhook_secret": "env:HOOK"}
    grants.grant(service.database, ledger, "env:HOOK", by="ann")
    path = f"/v1/ledgers/{ledger}/monitors/thresholds"
    answer = client.put(path, json=told)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (409, "sandbox_ledger", "webhook")
    assert client.put(path, json={"window_days": 3}).status_code == 200
    with service.database.write() as connection:  # as earlier versions allowed
        connection.execute("UPDATE monitor_settings SET settings = %s WHERE ledger = %s", (json.dumps(told), ledger))
    report = check(service.database, ledger, datetime.now(UTC))
    assert notices.notify(service.database, ledger, report) == notices.Notified()


def test_a_sandbox_is_not_added_to_real_ledgers(client: TestClient, ledger: str, new_ledger: NewLedger) -> None:
    path, real = "/v1/reports/trial-balance", new_ledger()
    answer = client.get(path, params={"ledger": [real, ledger]})
    assert (answer.status_code, answer.json()["code"], answer.json()["found"]) == (409, "sandbox_ledger", ledger)
    for alike in ([real, new_ledger()], [ledger, new_ledger(sandbox=True)]):
        assert client.get(path, params={"ledger": alike}).status_code == 200


def test_the_command_line_says_so_too(
    ledger: str, service: Subledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for module in (clock, exports):
        monkeypatch.setattr(module, "connect", lambda: service)
    runner = CliRunner()

    def run(*words: str) -> str:
        done = runner.invoke(cli.app, [*words, "--ledger", ledger], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    assert "a sandbox's clock" in run("clock", "show")
    assert "2031-02-03T00:00:00Z" in run("clock", "set", "2031-02-03T00:00:00Z")
    exported = run("export", "2031-02", "--format", "csv", "--out", str(tmp_path))
    assert "SANDBOX" in exported
    assert "interim" in exported


def test_sandboxes_alone_are_looked_at_as_of_their_own_day(
    client: TestClient, ledger: str, new_ledger: NewLedger
) -> None:
    other = new_ledger(sandbox=True, clock=datetime(2031, 4, 1, tzinfo=UTC))
    answer = client.get("/v1/reports/trial-balance", params={"ledger": [ledger, other]}).json()
    assert answer["as_of"] == "2031-04-01"


def test_the_lists_of_ledgers_mark_sandboxes(
    client: TestClient, ledger: str, new_ledger: NewLedger, service: Subledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = new_ledger()
    monkeypatch.setattr(ledger_commands, "connect", lambda: service)
    monkeypatch.setattr("api.terminal.out.width", 200)
    lines = CliRunner().invoke(cli.app, ["ledger", "list"], catch_exceptions=False).output.splitlines()
    assert [("SANDBOX" in line) for line in lines if ledger in line or real in line].count(True) == 1
    for name, sandbox in ((ledger, True), (real, False)):
        assert client.get(f"/v1/ledgers/{name}").json()["sandbox"] is sandbox


def test_a_clock_set_with_nonsense_says_what_was_expected_and_found(client: TestClient, ledger: str) -> None:
    for text, code in (("soon", "invalid_value"), ("2031-02-01T00:00:00", "naive_time")):
        answer = client.put(f"/v1/ledgers/{ledger}/clock", json={"clock": text}).json()
        assert (answer["code"], answer["field"], answer["found"]) == (code, "clock", text)
        assert f"the clock cannot be set to {text}" in answer["detail"]
        assert "2027-01-01T00:00:00Z" in answer["detail"]
