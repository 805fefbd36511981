"""Spendable credits over HTTP and on the command line, with the reasons for the credits that cannot be spent."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from api.cli.main import app as command_line
from api.service import Subledger
from subledger.errors import InvalidValue
from tests.building import cloud_event, grant, payment, purchase, recorded, usage
from tests.conftest import NewLedger

BOUGHT = "2026-01-10T12:00:00Z"


@pytest.fixture
def ledger(service: Subledger, new_ledger: NewLedger) -> str:
    """Ann's credits at the end of 10 February. A has 70 of 100. F has 15 of 20; its other 5 are frozen by a dispute. S
    has not started. X has expired, and the expiry is not recorded. P is for api and chat. T has another unit. job-1
    reserves 30, and job-2 reserves 15 for api.
    """
    ledger = new_ledger()
    recorded(
        service,
        ledger,
        purchase("A", "100", "ann", BOUGHT),
        purchase("F", "20", "ann", BOUGHT, price="20.00"),
        purchase("S", "50", "ann", BOUGHT, starts_at="2026-03-01T00:00:00Z"),
        purchase("X", "5", "ann", BOUGHT, expires_at="2026-02-05T00:00:00Z"),
        grant("P", "10", "ann", BOUGHT, scope=["api", "chat"]),
        purchase("T", "7", "ann", BOUGHT, unit="token"),
        payment("pays", "5.00", "ann", BOUGHT, block_id="F", processor="cards"),
        cloud_event("d", "dispute.opened", "ann", "2026-01-20T12:00:00Z", dispute_id="D", block_id="F"),
        usage("u1", "30", time="2026-02-06T12:00:00Z"),
        reserve("job-1", "30"),
        reserve("job-2", "15", product="api"),
    )
    return ledger


def reserve(name: str, credits: str, **data: Any) -> dict[str, Any]:
    data = {"reservation_id": name, "credits": credits, "expires_at": "2026-02-20T00:00:00Z", **data}
    return cloud_event(f"reserve {name}", "credits.reserved", "ann", "2026-02-10T12:00:00Z", **data)


def ask(client: TestClient, ledger: str, **question: Any) -> Any:
    answer = client.get(f"/v1/ledgers/{ledger}/customers/ann/spendable", params={"as_of": "2026-02-10", **question})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_every_credit_that_remains_is_spendable_or_has_a_reason(client: TestClient, ledger: str) -> None:
    answer = ask(client, ledger)
    assert (answer["ledger"], answer["customer"], answer["product"]) == (ledger, "ann", None)
    assert (answer["as_of"], answer["moment"]) == ("2026-02-10", "2026-02-10T23:59:59.999999Z")
    assert answer["credits"] == [
        {
            "unit": "credit", "spendable": "50", "reserved": "35", "frozen": "5", "scheduled": "50", "expired": "5",
            "other_products": "10", "remaining": "155", "products": ["api", "chat"],
        },
        {
            "unit": "token", "spendable": "7", "reserved": "0", "frozen": "0", "scheduled": "0", "expired": "0",
            "other_products": "0", "remaining": "7", "products": [],
        },
    ]  # fmt: skip
    assert answer["reservations"] == [
        {
            "reservation_id": "job-1", "credits": "30", "held": "30", "unit": "credit", "product": None,
            "reserved_at": "2026-02-10T12:00:00Z", "expires_at": "2026-02-20T00:00:00Z",
        },
        {
            "reservation_id": "job-2", "credits": "15", "held": "15", "unit": "credit", "product": "api",
            "reserved_at": "2026-02-10T12:00:00Z", "expires_at": "2026-02-20T00:00:00Z",
        },
    ]  # fmt: skip
    balances = client.get(f"/v1/ledgers/{ledger}/customers/ann/balances", params={"as_of": "2026-02-10"}).json()
    assert [(c["unit"], c["remaining"]) for c in balances["credits"]] == [("credit", "155"), ("token", "7")]


def test_usage_of_a_product_can_draw_on_its_own_credits_too(client: TestClient, ledger: str) -> None:
    credit, _ = ask(client, ledger, product="api")["credits"]
    assert (credit["spendable"], credit["reserved"], credit["other_products"]) == ("50", "45", "0")
    credit, _ = ask(client, ledger, product="chat")["credits"]
    assert (credit["spendable"], credit["reserved"]) == ("50", "45"), "what api reserves of P is not for chat"


def test_it_is_asked_for_a_day_and_as_known_at_a_moment(client: TestClient, service: Subledger, ledger: str) -> None:
    credit, _ = ask(client, ledger, as_of="2026-02-04")["credits"]
    assert (credit["spendable"], credit["reserved"], credit["expired"]) == ("120", "0", "0")
    credit, _ = ask(client, ledger, as_of="2026-02-20")["credits"]
    assert (credit["spendable"], credit["reserved"]) == ("85", "0"), "the reservations expired by themselves"
    known_at = ask(client, ledger)["known_at"]
    recorded(
        service,
        ledger,
        usage("u2", "25", time="2026-02-10T13:00:00Z", reservation_id="job-1"),
        cloud_event("w", "dispute.won", "ann", "2026-02-10T13:00:00Z", dispute_id="D"),
    )
    credit, _ = ask(client, ledger)["credits"]
    assert (credit["spendable"], credit["reserved"], credit["frozen"]) == ("60", "5", "0")
    credit, _ = ask(client, ledger, as_of="2026-02-09")["credits"]
    assert (credit["spendable"], credit["frozen"]) == ("85", "5"), "the dispute was open on that day"
    then = ask(client, ledger, known_at=known_at)
    assert (then["credits"][0]["spendable"], len(then["reservations"])) == ("50", 2)


def test_a_late_fact_leaves_what_a_dispute_froze_on_a_day(client: TestClient, service: Subledger, ledger: str) -> None:
    recorded(
        service,
        ledger,
        cloud_event("w", "dispute.won", "ann", "2026-02-12T12:00:00Z", dispute_id="D"),
        usage("late", "1", time="2026-02-09T12:00:00Z"),
    )
    credit, _ = ask(client, ledger)["credits"]
    assert (credit["spendable"], credit["frozen"]) == ("49", "5"), "the dispute was open on that day"
    credit, _ = ask(client, ledger, as_of="2026-02-12")["credits"]
    assert (credit["spendable"], credit["frozen"]) == ("54", "0")
    credit, _ = ask(client, ledger, as_of="2026-01-19")["credits"]
    assert (credit["spendable"], credit["frozen"]) == ("125", "0")


def test_now_it_is_what_the_next_usage_can_draw(client: TestClient, service: Subledger, ledger: str) -> None:
    now = datetime.now(UTC)
    data = {"reservation_id": "now", "credits": "20", "expires_at": (now + timedelta(hours=1)).isoformat()}
    recorded(service, ledger, cloud_event("reserve now", "credits.reserved", "ann", now.isoformat(), **data))
    url = f"/v1/ledgers/{ledger}/customers/ann/spendable"
    answer = client.get(url).json()
    assert answer["credits"][0]["spendable"] == "115", "A, F and S, without what is reserved"
    assert [(r["reservation_id"], r["held"]) for r in answer["reservations"]] == [("now", "20")]
    assert answer["due_expiries"] == 1
    [over, all_of_it] = service.record(ledger, [usage("o", "115.1", time=now), usage("a", "115", time=now)])
    assert (over.status, all_of_it.status) == ("rejected", "recorded")
    assert client.get(url).json()["credits"][0]["spendable"] == "0"


def test_a_customer_without_blocks_has_nothing_and_an_unknown_one_is_not_found(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    recorded(service, ledger, payment("p", "5.00", "payer", BOUGHT))
    for question in ({}, {"as_of": "2026-02-10"}):
        answer = client.get(f"/v1/ledgers/{ledger}/customers/payer/spendable", params=question).json()
        assert (answer["credits"], answer["reservations"]) == ([], [])
        missing = client.get(f"/v1/ledgers/{ledger}/customers/nobody/spendable", params=question)
        assert (missing.status_code, missing.json()["code"]) == (404, "unknown_customer")
    wrong = client.get(f"/v1/ledgers/{ledger}/customers/payer/spendable", params={"produkt": "api"})
    assert wrong.json()["code"] == "unknown_parameter"


def test_the_command_refuses_a_product_that_http_refuses(
    client: TestClient, ledger: str, owner_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", owner_url)
    asked = ["spendable", "--ledger", ledger, "--customer", "ann", "--product"]
    for product in ("", "p" * 256):
        over_http = client.get(f"/v1/ledgers/{ledger}/customers/ann/spendable", params={"product": product})
        refused = CliRunner().invoke(command_line, [*asked, product])
        assert (over_http.json()["code"], over_http.json()["field"]) == ("invalid_value", "product")
        assert isinstance(refused.exception, InvalidValue)
        assert refused.exception.field == "product"


def test_the_command_prints_the_same(
    client: TestClient, ledger: str, owner_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", owner_url)
    monkeypatch.setenv("COLUMNS", "120")
    asked = ["spendable", "--ledger", ledger, "--customer", "ann", "--as-of", "2026-02-10"]
    printed = CliRunner().invoke(command_line, [*asked, "--json"])
    assert printed.exit_code == 0, printed.output
    over_http = ask(client, ledger)
    assert json.loads(printed.stdout) == over_http
    text = CliRunner().invoke(command_line, asked).stdout
    assert "credits of ann at 2026-02-10T23:59:59.999999Z" in text
    assert "Credits for other products can be used for: api, chat" in text
    for part in ("spendable", "reserved", "job-1", "job-2", "155"):
        assert part in text
