"""Monitors over HTTP and on the command line: the report, the thresholds, the metrics, and the exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from api.http.app import create_app
from api.keys import create_key
from api.monitor_metrics import MonitorsInMetrics
from api.service import Subledger
from subledger.errors import DatabaseUnavailable
from subledger.ledger_settings import LedgerSettings
from subledger.store.database import Database
from tests.building import purchase
from tests.conftest import NewLedger
from tests.waiting import HANGS_S

COMMAND = str(Path(sys.executable).with_name("subledger"))
NAMES = (
    "delivery_success", "exports_not_accepted", "unapplied_payments", "event_to_general_ledger", "dead_letters",
    "clearing", "expiry_sweep", "breakage_estimates", "mismatch", "stuck_writer", "rejected",
)  # fmt: skip
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def expiring(hours: float) -> dict[str, Any]:
    """Returns the purchase of a block that expires some hours from now."""
    at = datetime.now(UTC) + timedelta(hours=hours)
    return purchase("b1", customer="c1", time="2026-01-05", price="10.00", event_id="buy", expires_at=at)


@pytest.fixture
def overdue(service: Subledger, new_ledger: NewLedger) -> str:
    """A ledger with an expiry that is two days overdue."""
    ledger = new_ledger()
    service.record(ledger, [expiring(-48)])
    return ledger


@pytest.fixture
def apart(scratch_url: str) -> Iterator[Subledger]:
    """A service on its own database, because the number of ledgers matters here."""
    database = Database(scratch_url)
    service = Subledger(database)
    for ledger, hours in (("acme", 48), ("late", -48)):
        service.create_ledger(ledger, LedgerSettings(currency="USD"))
        service.record(ledger, [expiring(hours)])
    yield service
    database.close()


# --- over HTTP ------------------------------------------------------------------------------------------------------


def test_the_report_has_every_monitor_with_its_evidence(client: TestClient, overdue: str) -> None:
    report = client.get(f"/v1/ledgers/{overdue}/monitors").json()
    assert (report["ledger"], report["well"], report["ringing"]) == (overdue, False, ["expiry_sweep"])
    monitors = {monitor["name"]: monitor for monitor in report["monitors"]}
    assert tuple(monitors) == NAMES
    rings = monitors["expiry_sweep"]
    assert (rings["value"], rings["unit"], rings["threshold"], rings["rings"]) == (1, "blocks", 0, True)
    assert rings["evidence"]["oldest"][0]["block"] == "b1"
    assert client.get("/v1/ledgers/nowhere/monitors").json()["code"] == "unknown_ledger"


def test_thresholds_are_set_whole_and_refused_naming_the_field(client: TestClient, overdue: str) -> None:
    url = f"/v1/ledgers/{overdue}/monitors/thresholds"
    shipped = client.get(url).json()
    assert shipped["settings"]["event_to_general_ledger_s"] == 900
    changed = client.put(url, json={"expiry_overdue_s": 1e6, "dead_letters": None}).json()
    assert (changed["settings"]["expiry_overdue_s"], changed["settings"]["dead_letters"]) == (1e6, None)
    assert client.get(url).json() == changed
    assert client.get(f"/v1/ledgers/{overdue}/monitors").json()["well"] is True
    refused = client.put(url, json={"colour": "blue"})
    assert (refused.status_code, refused.json()["field"]) == (422, "colour")
    assert client.get(url).json() == changed
    assert (shipped["changed_by"], changed["changed_by"]) == (None, "nobody")
    assert client.put(url, json={}).json()["settings"] == shipped["settings"]
    assert client.put("/v1/ledgers/nowhere/monitors/thresholds", json={}).status_code == 404


def test_a_reader_may_look_and_a_controller_may_change(apart: Subledger) -> None:
    client = TestClient(create_app(apart), base_url="http://127.0.0.1")
    statuses = {}
    for role in ("reader", "controller"):
        headers = {"Authorization": f"Bearer {create_key(apart.database, ledger='acme', role=role, name=role).secret}"}
        statuses[role] = (
            client.get("/v1/ledgers/acme/monitors", headers=headers).status_code,
            client.put("/v1/ledgers/acme/monitors/thresholds", json={}, headers=headers).status_code,
            client.get("/v1/ledgers/late/monitors", headers=headers).status_code,
        )
    assert statuses == {"reader": (200, 403, 403), "controller": (200, 200, 403)}


@pytest.mark.usefixtures("open_borders")
def test_a_reader_sees_where_the_webhook_is_and_not_the_secret_of_its_address(apart: Subledger) -> None:
    client = TestClient(create_app(apart), base_url="http://127.0.0.1")
    address, url = "https://hooks.example:8443/T0/secret?key=secret", "/v1/ledgers/acme/monitors/thresholds"
    given = {"webhook": address, "webhook_secret": "env:S", "dead_letters": 3}
    shown = {}
    for role in ("controller", "reader", "writer", "admin"):
        headers = {"Authorization": f"Bearer {create_key(apart.database, ledger='acme', role=role, name=role).secret}"}
        if role == "controller":
            assert client.put(url, json=given, headers=headers).json()["settings"]["webhook"] == address
        found = client.get(url, headers=headers).json()["settings"]
        assert found["dead_letters"] == 3
        shown[role] = found["webhook"]
    bare = "https://hooks.example:8443"
    assert shown == {"reader": bare, "writer": bare, "controller": address, "admin": address}
    assert client.get(url, headers={"Authorization": "Bearer none"}).status_code == 401


def test_a_verification_that_was_asked_for_is_kept_for_the_monitor(client: TestClient, overdue: str) -> None:
    def verification() -> Any:
        report = client.get(f"/v1/ledgers/{overdue}/monitors").json()
        return report["monitors"][NAMES.index("mismatch")]["evidence"]["verification"]

    assert verification() is None
    verified = client.get(f"/v1/ledgers/{overdue}/reports/integrity").json()
    kept = verification()
    assert (kept["position"], kept["differences"]) == (verified["events"], 0)
    assert kept["clean_at"] == kept["verified_at"]


# --- metrics --------------------------------------------------------------------------------------------------------


def families(client: TestClient) -> dict[str, dict[tuple[str, ...], float]]:
    """Returns the metrics as Prometheus reads them: by name, the values by the values of the labels."""
    text = client.get("/metrics").text
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        assert family.name not in found, f"{family.name} stands there twice"
        found[family.name] = {tuple(sample.labels.values()): sample.value for sample in family.samples}
    return found


def serving(service: Subledger, **watched: Any) -> TestClient:
    return TestClient(create_app(service, watched=MonitorsInMetrics(**watched)), base_url="http://127.0.0.1")


def test_the_metrics_have_every_monitor_of_every_ledger(apart: Subledger) -> None:
    found = families(serving(apart))
    assert found["subledger_monitor_ringing"] == {
        (ledger, name): float((ledger, name) == ("late", "expiry_sweep"))
        for ledger in ("acme", "late")
        for name in NAMES
    }
    values = found["subledger_monitor_value"]
    assert values["late", "expiry_sweep"] == 1
    assert ("late", "delivery_success") not in values, "nothing was delivered"
    assert found["subledger_monitor_ledgers_left_out"] == {(): 0}
    assert "subledger_http_requests" in found
    assert found["subledger_deliveries"] == {}


def test_the_monitors_are_looked_at_so_often_at_most_whoever_asks(apart: Subledger) -> None:
    seldom, always = serving(apart, metrics_monitors_s=3_600.0), serving(apart, metrics_monitors_s=0.0)
    for client in (seldom, always):
        assert families(client)["subledger_monitor_ringing"]["late", "expiry_sweep"] == 1
    apart.expire("late", datetime.now(UTC).date())
    assert families(seldom)["subledger_monitor_ringing"]["late", "expiry_sweep"] == 1
    assert families(always)["subledger_monitor_ringing"]["late", "expiry_sweep"] == 0


def test_of_more_ledgers_than_the_limit_the_first_are_looked_at_and_zero_is_none(apart: Subledger) -> None:
    found = families(serving(apart, metrics_ledgers=1))
    assert {ledger for ledger, _ in found["subledger_monitor_ringing"]} == {"acme"}
    assert found["subledger_monitor_ledgers_left_out"] == {(): 1}
    assert "subledger_monitor_ringing" not in families(serving(apart, metrics_ledgers=0))


def test_the_other_metrics_are_there_while_the_database_is_not(
    apart: Subledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise DatabaseUnavailable("it does not answer")

    client = serving(apart, metrics_monitors_s=0.0)
    with monkeypatch.context() as patched:
        patched.setattr(apart.database, "read", gone)
        found = families(client)
        assert "subledger_http_requests" in found
        assert not found.get("subledger_monitor_ringing")
    assert families(client)["subledger_monitor_ringing"]


def test_a_ledger_whose_rows_cannot_be_read_hides_no_other(apart: Subledger) -> None:
    with apart.database.write() as connection:
        connection.execute(
            "INSERT INTO monitor_settings (ledger, settings, changed_at, changed_by) VALUES ('acme', '{', now(), 'x')"
        )
    assert {ledger for ledger, _ in families(serving(apart))["subledger_monitor_ringing"]} == {"late"}


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.fixture
def run(scratch_url: str, apart: Subledger, tmp_path: Path) -> Run:
    """The command on the database of ``apart``."""
    environment = {**os.environ, "SUBLEDGER_DATABASE_URL": scratch_url, "COLUMNS": "200"}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *arguments], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=HANGS_S
        )

    return call


@pytest.mark.campaign
def test_the_command_ends_with_1_where_a_monitor_rings(run: Run) -> None:
    well = run("monitor", "--ledger", "acme", "--json")
    assert (well.returncode, json.loads(well.stdout)["well"]) == (0, True), well.stderr
    rings = run("monitor", "--ledger", "late", "--json")
    assert (rings.returncode, json.loads(rings.stdout)["ringing"]) == (1, ["expiry_sweep"])
    every = run("monitor", "--json")
    assert every.returncode == 1
    assert [item["ledger"] for item in json.loads(every.stdout)["items"]] == ["acme", "late"]
    shown = run("monitor", "--ledger", "late")
    assert shown.returncode == 1
    assert "subledger expire --through" in shown.stdout
    unknown = run("monitor", "--ledger", "nowhere", "--json")
    assert (unknown.returncode, json.loads(unknown.stdout)["code"]) == (2, "unknown_ledger")


@pytest.mark.campaign
def test_thresholds_are_a_file_to_the_command(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "monitors.toml"
    file.write_text('expiry_overdue_s = "off"\ndead_letters = 2\n')
    assert run("monitor", "thresholds", "set", str(file), "--ledger", "late").returncode == 0
    shown = json.loads(run("monitor", "thresholds", "show", "--ledger", "late", "--json").stdout)
    assert (shown["settings"]["expiry_overdue_s"], shown["settings"]["dead_letters"]) == (None, 2)
    assert run("monitor", "--ledger", "late").returncode == 0
    file.write_text("colour = 1\n")
    refused = run("monitor", "thresholds", "set", str(file), "--ledger", "late", "--json")
    assert (refused.returncode, json.loads(refused.stdout)["field"]) == (2, "colour")
    assert run("monitor", "thresholds", "set", str(file), "--ledger", "nowhere").returncode == 2


@pytest.mark.campaign
@pytest.mark.usefixtures("open_borders")
def test_the_command_tells_the_webhook_and_says_what_waits(run: Run, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("whsec_c2VjcmV0")
    file = tmp_path / "monitors.toml"
    file.write_text(f'webhook = "http://127.0.0.1:1/"\nwebhook_secret = "file:{tmp_path}/secret"\n')
    assert run("monitor", "thresholds", "set", str(file), "--ledger", "late").returncode == 0
    told = run("monitor", "--ledger", "late", "--notify", "--json")
    assert told.returncode == 1
    notified = json.loads(told.stdout)["notified"]
    assert (notified["began"], notified["waiting"]) == (["expiry_sweep"], 1)
    assert "did not take it" in told.stderr
    assert json.loads(run("verify", "--ledger", "late", "--json").stdout)["clean"] is True
    report = json.loads(run("monitor", "--ledger", "late", "--json").stdout)
    assert report["monitors"][NAMES.index("mismatch")]["evidence"]["verification"]["differences"] == 0


def test_the_metrics_say_how_many_rejections_are_open_by_code_and_how_often_was_refused(apart: Subledger) -> None:
    client = serving(apart, metrics_monitors_s=0)

    def counted() -> float:
        found = re.search(
            r'^subledger_rejected_events_total{code="missing_field"} (\S+)$', client.get("/metrics").text, re.M
        )
        return float(found[1]) if found else 0.0

    before = counted()
    apart.record("acme", [{"id": "no event"}, {"id": "no event"}, {"id": "none either"}])
    assert counted() == before + 3
    found = families(client)
    assert found["subledger_rejected_open"] == {("missing_field", "acme"): 2.0}
    assert found["subledger_monitor_value"]["acme", "rejected"] == 0, "they were refused only just now"
