"""Reversing a journal over HTTP and on the command line: the rights, the answers, and equal results."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from api.cli.main import app
from api.http.app import create_app
from api.keys import create_key
from api.service import Subledger
from projections.exports.exports import content_of, get_export
from subledger.errors import NothingToCorrect
from subledger.ledger_settings import LedgerSettings
from tests.building import cloud_event
from tests.charts import another_chart

LEDGER = "acme"
BASE = f"/v1/ledgers/{LEDGER}"
BECAUSE = {"reason": "deposits were mapped to revenue"}


@pytest.fixture(scope="module")
def url(modules_url: str) -> str:
    """A separate database, because every call needs a key once a key exists."""
    return modules_url


@pytest.fixture(scope="module")
def service(modules_service: Subledger) -> Subledger:
    return modules_service


@pytest.fixture
def ledger(service: Subledger) -> str:
    """A ledger whose January was exported before another mapping was adopted."""
    service.create_ledger(LEDGER, LedgerSettings(currency="USD"))
    buy = cloud_event(
        "buy",
        "credits.purchased",
        "c1",
        "2026-01-15T10:00:00Z",
        block_id="b1",
        credits="10",
        price="100.00",
        currency="USD",
    )
    service.record(LEDGER, [buy, cloud_event("use", "credits.consumed", "c1", "2026-01-20T10:00:00Z", credits="4")])
    return LEDGER


def client(service: Subledger, role: str) -> TestClient:
    key = create_key(service.database, ledger="*", role=role, name=f"the {role}").secret
    return TestClient(create_app(service), headers={"Authorization": f"Bearer {key}"})


def chart(first: int) -> str:
    rows = another_chart(first).rows
    cells = "\n".join(f"{r['role']},,,,{r['account']},{r['name']},{r['department']}" for r in rows)
    return f"role,product,credit_kind,currency,account,name,department\n{cells}\n"


def test_a_controller_reverses_a_journal_and_what_is_handed_over_next_has_both(service: Subledger, ledger: str) -> None:
    controller, reader, writer = (client(service, role) for role in ("controller", "reader", "writer"))
    path = f"{BASE}/periods/2026-01/journals"
    asked = {"period": "2026-01", "format": "netsuite-json"}
    assert controller.post(f"{BASE}/exports", json=asked).status_code == 201
    for answer, status, code in (
        (reader.post(f"{path}/1/reverse", json=BECAUSE), 403, "not_allowed"),
        (writer.post(f"{path}/1/reverse", json=BECAUSE), 403, "not_allowed"),
        (controller.post(f"{path}/1/reverse", json=BECAUSE), 409, "nothing_to_correct"),
        (controller.post(f"{path}/2/reverse", json=BECAUSE), 404, "unknown_export"),
        (controller.post(f"{path}/0/reverse", json=BECAUSE), 422, "invalid_value"),
        (controller.post(f"{path}/1/reverse", json={}), 422, "missing_field"),
        (controller.post(f"{path}/1/reverse", json={"reason": " "}), 422, "invalid_value"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    adopted = controller.put(f"{BASE}/mapping", content=chart(7000), headers={"content-type": "text/csv"})
    assert adopted.json()["adopted"] is True
    made = controller.post(f"{path}/1/reverse", json=BECAUSE)
    assert made.status_code == 201
    document = made.json()
    assert (document["journal"]["number"], document["journal"]["reversed_by"]) == (1, 2)
    assert (document["reversal"]["reverses"], document["reissue"]["reissues"]) == (1, 1)
    assert document["reissue"]["made_by"] == "the controller"
    assert document["reissue"]["reason"] == BECAUSE["reason"]
    assert reader.get(path).json()["items"] == [document[name] for name in ("journal", "reversal", "reissue")]
    assert [item["in_force"] for item in reader.get(path).json()["items"]] == [False, False, True]
    again = controller.post(f"{path}/1/reverse", json=BECAUSE)
    assert (again.status_code, again.json()["code"]) == (409, "journal_not_reversible")
    assert again.json()["reversed_by"] == "acme-2026-01-2"

    exported = controller.post(f"{BASE}/exports", json=asked).json()["journals"]
    assert [each["number"] for each in exported] == [1, 2, 3]
    original, reversal = (controller.get(f"{BASE}/exports/{each['id']}").json() for each in exported[:2])
    assert [(each["reverses"], each["reissues"]) for each in (original, reversal)] == [(None, None), (1, None)]
    for one, other in zip(original["lines"], reversal["lines"], strict=True):
        assert (one["debit"], one["credit"]) == (other["credit"], other["debit"])
        assert (one["account"], one["reference"]) == (other["account"], other["reference"])
        entries = controller.get(f"{BASE}/exports/{reversal['id']}/lines/{other['line']}/entries").json()["items"]
        assert sum(Decimal(entry["amount"]) for entry in entries) == Decimal(other[other["side"]])
        assert all(entry["event_id"] in ("buy", "use") for entry in entries)


def test_on_the_command_line_it_is_the_same(
    service: Subledger, ledger: str, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", url)
    monkeypatch.setenv("COLUMNS", "250")
    (tmp_path / "chart.csv").write_text(chart(8000))

    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(app, [*arguments, "--ledger", ledger])
        if result.exception is not None:
            raise result.exception
        return json.loads(result.stdout) if "--json" in arguments else result.stdout

    run("export", "2026-01", "--format", "csv", "--out", str(tmp_path))
    before = run("journals", "list", "2026-01", "--json")["items"]
    number = str(before[-1]["number"])
    with pytest.raises(NothingToCorrect):
        run("journals", "reverse", "2026-01", number, "--reason", "r")
    run("mapping", "adopt", str(tmp_path / "chart.csv"))
    said = run("journals", "reverse", "2026-01", number, "--reason", "a typing error", "--by", "bob")
    reversal, reissue = (f"acme-2026-01-{int(number) + more}" for more in (1, 2))
    assert said == f"{reversal} reverses acme-2026-01-{number}; {reissue} is its re-issue.\n"
    items = run("journals", "list", "2026-01", "--json")["items"]
    assert items[: len(before) - 1] == before[:-1]
    assert [(each["reverses"], each["reissues"], each["made_by"]) for each in items[-2:]] == [
        (int(number), None, "bob"),
        (None, int(number), "bob"),
    ]
    assert "a typing error" in run("journals", "list", "2026-01")
    assert len(run("export", "2026-01", "--format", "csv", "--out", str(tmp_path), "--json")["items"]) == len(items)
    with service.database.read() as connection:
        file = b"".join(content_of(service.database, get_export(connection, ledger, f"{reissue}-csv")))
    assert (tmp_path / f"{reissue}-csv.csv").read_bytes() == file
