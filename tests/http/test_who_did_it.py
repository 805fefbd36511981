"""The person behind every act is in its event or row, and every place that shows the act shows the name."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from api.cli.main import app
from api.service import Subledger
from projections.account_mapping.mapping import AccountMapping, default_mapping
from projections.account_mapping.rows import csv_text, read_rows
from projections.configuring.account_mappings import adopt_mapping
from subledger.errors import InvalidMapping
from subledger.events.envelope import own_event
from subledger.ledger_settings import LedgerSettings
from subledger.text.visible_text import visible
from tests.building import cloud_event, purchase
from tests.conftest import NewLedger

ACTS = ("ledger.configured", "mapping.adopted", "period.closed", "period.reopened", "period.cut", "credits.expired")


buy = partial(purchase, customer="c1", time="2026-01-05", price="10.00", expires_at="2026-01-20T00:00:00Z")


class Run:
    """The command line in this process. Each command has its own user."""

    def __init__(self, ledger: str) -> None:
        self.ledger = ledger

    def __call__(self, *arguments: str, by: str | None = None) -> str:
        return self.plain(*arguments, "--ledger", self.ledger, by=by)

    @staticmethod
    def plain(*arguments: str, by: str | None = None) -> str:
        """Runs a command that takes no ``--ledger``."""
        ran = CliRunner().invoke(app, [*arguments, *(() if by is None else ("--by", by))], catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
        return ran.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))


@pytest.fixture
def run(owner_url: str, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", owner_url)
    monkeypatch.setenv("COLUMNS", "250")
    return Run(new_ledger())


def _by(run: Run, type: str) -> list[str | None]:
    return [item["event"]["data"].get("by") for item in run.json("events", "--type", type)["items"]]


def test_every_act_on_the_command_line_names_who_did_it_and_every_list_shows_it(
    run: Run, service: Subledger, tmp_path: Path
) -> None:
    service.record(
        run.ledger,
        [
            buy("b1"),
            buy("b2", time="2026-02-05", expires_at="2026-02-20T00:00:00Z"),
            buy("b3", time="2026-03-05", expires_at="2026-03-20T00:00:00Z"),
        ],
    )
    chart = tmp_path / "chart.csv"
    chart.write_text(run("mapping", "show", "--csv").replace("Cash", "Cash at bank"))
    run("mapping", "adopt", str(chart), by="mara")
    run("export", "2026-01", "--format", "csv", "--out", str(tmp_path), by="inge")  # an open month is cut
    run("close", "2026-01", by="carla")
    run("reopen", "2026-01", "--reason", "an invoice was missing", by="rosa")
    run("close", "2026-01", by="clara")
    run("expire", "--through", "2026-02-25", by="sven")
    run("customer", "set", "c1", "segment=smb", by="ute")
    run("customer", "erase", "c1", by="eva")

    assert _by(run, "mapping.adopted") == [None, "mara"]
    assert _by(run, "period.cut") == ["inge"]
    assert _by(run, "period.closed") == ["carla", "clara"]
    assert _by(run, "period.reopened") == ["rosa"]
    assert _by(run, "credits.expired") == [None, "sven"], "the close swept January, a person February"
    assert "by rosa: an invoice was missing" in run("events", "--type", "period.reopened")
    assert "by sven" in run("history", "--block", "b2")
    assert "adopted by mara" in run("mapping", "show")
    assert run.json("mapping", "show")["adopted_by"] == "mara"

    january = run.json("periods")["items"][0]
    assert (january["state"], january["closed_by"], january["reopened_by"], january["reason"]) == (
        "closed",
        "clara",
        "rosa",
        "an invoice was missing",
    )
    run("reopen", "2026-01", "--reason", "again", by="rita")
    january = run.json("periods")["items"][0]
    assert (january["state"], january["closed_by"], january["reopened_by"], january["reason"]) == (
        "open",
        "clara",
        "rita",
        "again",
    )
    assert "rita" in run("periods")

    [export] = run.json("exports", "list")["items"]
    assert export["created_by"] == "inge"
    assert "inge" in run("exports", "list")
    assert run.json("journals", "list", "2026-01")["items"][0]["made_by"] == "inge"
    [erasure] = run.json("customer", "erasures")["items"]
    assert (erasure["customer"], erasure["erased_by"]) == ("c1", "eva")
    assert "eva" in run("customer", "erasures")
    assert service.record(run.ledger, [buy("b1")])[0].status == "duplicate"


def test_over_http_it_is_the_name_of_the_key_or_nobody(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    """The client calls the server without a key, so its acts have the name ``nobody``."""
    ledger = new_ledger()
    service.record(ledger, [buy("b1")])
    base = f"/v1/ledgers/{ledger}"
    assert client.put(f"{base}/mapping", content=_another_name(), headers={"content-type": "text/csv"}).is_success
    assert client.post(f"{base}/exports", json={"period": "2026-01", "format": "csv"}).is_success
    assert client.post(f"{base}/periods/2026-01/close").is_success
    assert client.post(f"{base}/periods/2026-01/reopen", json={"reason": "r"}).is_success
    assert client.put(f"{base}/customers/c1/attributes", json={"a": "b"}).is_success
    assert client.delete(f"{base}/customers/c1/attributes").json()["erased"] is True
    for type in ("period.closed", "period.reopened", "period.cut"):
        [item] = client.get(f"{base}/events", params={"type": type}).json()["items"]
        assert item["event"]["data"]["by"] == "nobody"
        assert item["who"] == "by nobody"
    assert client.get(f"{base}/mapping").json()["adopted_by"] == "nobody"
    assert client.get(f"{base}/exports").json()["items"][0]["created_by"] == "nobody"
    assert client.get(f"{base}/periods/2026-01/journals").json()["items"][0]["made_by"] == "nobody"
    assert client.get(f"{base}/periods").json()["items"][0]["reopened_by"] == "nobody"
    [erasure] = client.get(f"{base}/erasures", params={"limit": 1}).json()["items"]
    assert erasure["erased_by"] == "nobody"
    following = client.get(f"{base}/erasures", params={"limit": 1}).json()["next"]
    assert client.get(f"{base}/erasures", params={"cursor": following}).json() == {"items": [], "next": None}


def _another_name() -> str:
    return csv_text(default_mapping().rows).replace(",Cash", ",Cash at bank")


def test_who_creates_a_ledger_is_in_its_first_event(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    name = f"{new_ledger()}-x"
    assert service.create_ledger(name, LedgerSettings(currency="USD"), by="lea")
    first = client.get(f"/v1/ledgers/{name}/events", params={"limit": 1}).json()["items"][0]
    assert (first["type"], first["who"]) == ("ledger.configured", "by lea")
    assert service.create_ledger(name, LedgerSettings(currency="USD"), by="max") is False


def test_acts_of_nobody_named_leave_the_bytes_they_always_had() -> None:
    for type in ACTS[2:]:
        data = {"block_id": "b"} if type == "credits.expired" else {"period": "2026-01", "reason": "r"}
        if type in ("period.closed", "period.cut"):
            del data["reason"]
        event = own_event(
            source="subledger",
            event_id="x",
            type=type,
            customer=None,
            occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
            data=data,
        )
        assert json.loads(event.data_text) == data


def test_only_the_ledger_itself_says_by_whom_an_expiry_was_swept(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    service.record(ledger, [buy("b1")])
    theirs = cloud_event("e", "credits.expired", "c1", "2026-01-20T00:00:00Z", block_id="b1", by="the controller")
    [outcome] = service.record(ledger, [theirs])
    assert outcome.error is not None
    assert outcome.error.code == "unknown_field"


def test_an_erasure_keeps_no_value_and_cannot_be_taken_back(
    service: Subledger, owner_url: str, new_ledger: NewLedger, client: TestClient
) -> None:
    ledger = new_ledger()
    base = f"/v1/ledgers/{ledger}/customers/c1/attributes"
    client.put(base, json={"segment": "very-secret"})
    assert client.delete(base).json()["erased"] is True
    assert client.delete(base).json()["erased"] is False
    with psycopg.connect(owner_url) as connection:
        [row] = connection.execute("SELECT to_jsonb(e)::text FROM erasures e WHERE ledger = %s", (ledger,)).fetchall()
        assert "secret" not in row[0]
        assert "segment" not in row[0]
    with psycopg.connect(owner_url) as connection, pytest.raises(psycopg.errors.RestrictViolation):
        connection.execute("DELETE FROM erasures WHERE ledger = %s", (ledger,))


# --- the shown mapping is the adopted mapping -------------------------------------------------------

cells = (
    st.text(st.characters(exclude_categories=("C", "Zl", "Zp")) | st.sampled_from("'=+-@ ,\""), min_size=1, max_size=12)
    .map(lambda cell: visible(cell).strip())
    .filter(bool)
)


@given(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=6))
def test_a_mapping_that_is_printed_is_read_as_the_same_mapping(drawn: list[tuple[str, str, str]]) -> None:
    found = AccountMapping.from_rows(
        [
            *default_mapping().rows,
            *(
                {"role": "usage_revenue", "product": f"p{n}{product}", "account": account, "dept": dept}
                for n, (product, account, dept) in enumerate(drawn)
                if not any(cell.startswith("{customer") for cell in (account, dept))
            ),
        ]
    )
    assert read_rows(csv_text(found.rows)) == found.rows


def test_a_chart_without_a_role_that_the_policy_posts_to_is_refused_naming_all_of_them(
    service: Subledger, new_ledger: NewLedger, client: TestClient
) -> None:
    ledger = new_ledger()
    some = [row for row in default_mapping().rows if row["role"] not in ("cash", "usage_revenue")]
    with pytest.raises(InvalidMapping, match="cash, usage_revenue") as caught:
        adopt_mapping(service.recorder, ledger, AccountMapping.from_rows(some))
    assert caught.value.facts["missing"] == ["cash", "usage_revenue"]
    answer = client.put(f"/v1/ledgers/{ledger}/mapping", content=csv_text(some), headers={"content-type": "text/csv"})
    assert (answer.status_code, answer.json()["missing"]) == (422, ["cash", "usage_revenue"])


def test_the_example_of_the_api_description_is_adopted(client: TestClient, new_ledger: NewLedger) -> None:
    put = client.get("/openapi.json").json()["paths"]["/v1/ledgers/{ledger}/mapping"]["put"]
    example = put["requestBody"]["content"]["text/csv"]["example"]
    answer = client.put(f"/v1/ledgers/{new_ledger()}/mapping", content=example, headers={"content-type": "text/csv"})
    assert answer.status_code == 200, answer.text
