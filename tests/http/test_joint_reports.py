"""Reports over several ledgers: the sum of the parts is the whole, and only figures that can be added are added.

The whole is one ledger with two customers. The parts are two ledgers with one customer each, as if a busy ledger were
split by customer. A report over the parts must equal the report of the whole.
"""

from __future__ import annotations

import csv
import io
import json
import uuid
from decimal import Decimal
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.http.app import create_app
from api.keys import create_key
from api.service import Subledger
from api.shapes.joint_reports import JOINT, Chosen, JointAnswer
from projections.close.close import close_period
from projections.report import Column, Report, ReportRequest, Table, Tie
from projections.reports.joint import LedgerReport, added
from subledger.errors import UnknownEntity
from subledger.ledger_settings import LedgerSettings
from subledger.periods import Period
from subledger.store.database import Database
from subledger.store.reading.ledgers import ledger_head, ledgers_of
from subledger.store.writing.expiry_sweep import sweep
from tests.building import cloud_event, recorded
from tests.conftest import NewLedger
from tests.http.reported import events_of_the_example, moment


class Split:
    """A ledger, the two ledgers into which it is split by customer, and an entity with a third ledger, in euro."""

    def __init__(self, service: Subledger, new_ledger: NewLedger) -> None:
        self.entity = f"US-{uuid.uuid4().hex[:8]}"
        other = f"other-{self.entity}"
        self.whole = new_ledger(entity=other)
        self.parts = sorted(new_ledger(entity=self.entity) for _ in range(2))
        self.euro = new_ledger(entity=self.entity, currency="EUR")
        service.record(self.whole, events_of_the_example())
        for ledger, customer in zip(self.parts, ("ann", "bob"), strict=True):
            service.record(ledger, [event for event in events_of_the_example() if event["subject"] == customer])
        for ledger in (self.whole, *self.parts):
            sweep(service.recorder, ledger, moment("2026-03-15T00:00:01Z"))
        bought = cloud_event(
            "e1",
            "credits.purchased",
            "eva",
            "2026-01-05T12:00:00Z",
            block_id="E",
            credits="10",
            price="70.00",
            currency="EUR",
        )
        service.record(self.euro, [bought])


@pytest.fixture(scope="module")
def split(service: Subledger, new_ledger: NewLedger) -> Split:
    return Split(service, new_ledger)


def _get(client: TestClient, path: str, /, **asked: Any) -> dict[str, Any]:
    answer = client.get(path, params={"to": "2026-03-31", **asked})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    assert document["ties_out"] is True, document
    return document


def _without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


QUESTIONS = [
    ("trial-balance", {}),
    ("trial-balance", {"as_of": "2026-02-10", "to": "2026-02-10"}),
    ("rollforward", {}),
    ("rollforward", {"by": "credit_kind"}),
    ("rollforward", {"by": "product", "from": "2026-02"}),
    ("clearing", {}),
    ("summary", {}),
    ("summary", {"from": "2026-02", "to": "2026-02"}),
]


@pytest.mark.parametrize(("name", "asked"), QUESTIONS)
def test_the_parts_added_up_are_the_whole(client: TestClient, split: Split, name: str, asked: dict[str, str]) -> None:
    whole = _get(client, f"/v1/ledgers/{split.whole}/reports/{name}", **asked)
    together = _get(client, f"/v1/reports/{name}", ledger=split.parts, **asked)
    (usd,) = together["currencies"]
    assert (usd["functional_currency"], usd["ledgers"]) == ("USD", split.parts)
    # The persons who closed and exported months belong to one ledger, and cannot be added.
    others = ("notes", "ties", "periods")
    for table in (key for key, value in whole.items() if isinstance(value, list) and key not in others):
        of_whole = [{"functional_currency": "USD", **row} for row in whole[table]]
        of_parts = [_without(row, "ledger") for row in usd[table]]
        assert sorted(map(_text, of_parts)) == sorted(map(_text, of_whole)), table
        if name != "clearing":  # which has its own order
            assert [_text(row) for row in of_parts] == [_text(row) for row in of_whole], f"{table}: another order"
    assert {row["ledger"] for row in usd["periods"]} == set(split.parts)
    assert {(t["what"], t["currency"], t["report"]) for t in usd["ties"]} == {
        (t["what"], t["currency"], t["report"]) for t in whole["ties"]
    }


def _text(row: dict[str, Any]) -> str:
    return json.dumps(row, sort_keys=True)


def test_whatever_the_list_offers_is_answered_and_nothing_else(client: TestClient, split: Split) -> None:
    listed = client.get("/v1/reports").json()["items"]
    of_one = {each["report"]: each for each in client.get(f"/v1/ledgers/{split.whole}/reports").json()["items"]}
    given = {
        "from": "2026-02",
        "to": "2026-03-31",
        "as_of": "2026-03-31",
        "known_at": "2026-01-01T00:00:00Z",
        "customer": "ann",
        "by": "none",
    }
    for each in listed:
        offered = of_one[each["report"]]
        asked = [{"by": by} for by in offered["by"]] + [{"format": form} for form in offered["formats"]]
        asked += [{name: given[name]} for name in offered["takes"]]
        listed_values = {"by": [*each["by"], "none"], "format": each["formats"]}
        for one in asked:
            [(name, value)] = one.items()
            is_listed = value in listed_values.get(name, [value]) and name in (*each["takes"], "format")
            answer = client.get(f"/v1/reports/{each['report']}", params={"ledger": split.parts, **one})
            assert answer.status_code == (200 if is_listed else 422), (each, one, answer.text)


def test_every_ledger_is_named_with_its_own_position(client: TestClient, service: Subledger, split: Split) -> None:
    together = _get(client, "/v1/reports/trial-balance", entity=split.entity)
    for part in together["ledgers"]:
        with service.database.read() as connection:
            head = ledger_head(connection, part["ledger"])
        assert (part["position"], part["entity"], part["ties_out"]) == (head.position, split.entity, True)
    assert [part["ledger"] for part in together["ledgers"]] == sorted([*split.parts, split.euro])
    assert together["entity"] == split.entity


@pytest.mark.parametrize("name", JOINT)
def test_functional_currencies_are_never_added(client: TestClient, split: Split, name: str) -> None:
    together = _get(client, f"/v1/reports/{name}", entity=split.entity)
    assert [group["functional_currency"] for group in together["currencies"]] == ["EUR", "USD"]
    euro, usd = together["currencies"]
    assert (euro["ledgers"], usd["ledgers"]) == ([split.euro], split.parts)
    for group in (euro, usd):
        for row in group["items"]:
            assert row["functional_currency"] == row["currency"] == group["functional_currency"]


def test_a_moment_is_the_same_for_every_ledger(client: TestClient, service: Subledger, split: Split) -> None:
    with service.database.read() as connection:
        moments = [ledger_head(connection, ledger).recorded_at for ledger in split.parts]
    between = min(moments).isoformat()
    together = _get(client, "/v1/reports/trial-balance", ledger=split.parts, known_at=between)
    assert len({part["known_at"] for part in together["ledgers"]}) == 1
    again = _get(client, "/v1/reports/trial-balance", ledger=split.parts, known_at=between)
    assert again == together
    for part, ledger in zip(together["ledgers"], split.parts, strict=True):
        alone = _get(client, f"/v1/ledgers/{ledger}/reports/trial-balance", known_at=between)
        assert part["position"] == alone["position"]


def test_an_items_ledger_is_named(client: TestClient, split: Split) -> None:
    together = _get(client, "/v1/reports/clearing", ledger=split.parts)
    (usd,) = together["currencies"]
    assert {row["ledger"] for row in usd["items"]} == set(split.parts)
    assert not any("ledger" in row for row in usd["accounts"])


def test_ledgers_may_have_different_own_dimensions(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    """A ledger without a dimension has an empty value for it, whatever the order of the ledgers."""
    own = {"a": ("department", "region"), "b": (), "c": ("project", "region")}
    ledgers = {name: new_ledger(policy="contract_liability", dimensions=names) for name, names in own.items()}
    for name, ledger in ledgers.items():
        said = {dimension: f"{dimension}-{name}" for dimension in own[name]}
        data = {"credits": "10", "price": "7.00", "currency": "USD", "dimensions": said}
        recorded(
            service, ledger, cloud_event("e", "credits.purchased", "ann", "2026-01-05T12:00:00Z", block_id="B", **data)
        )
    together = _get(client, "/v1/reports/summary", ledger=list(ledgers.values()))
    (usd,) = together["currencies"]
    names = [f"dimension.{name}" for name in ("department", "project", "region")]
    assert {name for row in usd["items"] for name in row if name.startswith("dimension.")} == set(names)
    for account in ("accounts_receivable", "prepaid_liability"):
        rows = [row for row in usd["items"] if row["account"] == account]
        assert sorted([*(row[name] for name in names), row["debit"], row["credit"]] for row in rows) == [
            ["", "", "", *_side(account)],
            ["", "project-c", "region-c", *_side(account)],
            ["department-a", "", "region-a", *_side(account)],
        ]


def _side(account: str) -> list[str]:
    return ["7.00", "0.00"] if account == "accounts_receivable" else ["0.00", "7.00"]


def test_csv_has_every_functional_currency_in_a_column(command: Any, client: TestClient, split: Split) -> None:
    asked = {"entity": split.entity, "to": "2026-03-31"}
    together = _get(client, "/v1/reports/trial-balance", **asked)
    text = client.get("/v1/reports/trial-balance", params={**asked, "format": "csv"}).text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows == [row for group in together["currencies"] for row in group["items"]]
    ran = command("trial-balance", "--entity", split.entity, "--to", "2026-03-31", "--csv")
    assert (ran.exit_code, ran.stdout) == (0, text)


def test_the_command_line_adds_up_too(command: Any, client: TestClient, split: Split) -> None:
    asked = ("rollforward", "--ledger", split.parts[0], "--ledger", split.parts[1], "--to", "2026-03-31")
    ran = command(*asked, "--json")
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout) == _get(client, "/v1/reports/rollforward", ledger=split.parts)
    shown = command(*asked)
    assert shown.exit_code == 0
    assert f"{', '.join(split.parts)}, in USD as of 2026-03-31" in " ".join(shown.stdout.split())
    assert "no page over several ledgers" in str(command(*asked, "--html").exception)


def test_the_summary_of_a_month_is_its_journal(service: Subledger, client: TestClient, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    service.record(ledger, events_of_the_example()[:5])
    for month in (1, 2):
        close_period(service.recorder, ledger, Period(2026, month))
    url = f"/v1/ledgers/{ledger}/exports"
    made = client.post(url, json={"period": "2026-02", "format": "json"}).json()
    lines = client.get(f"{url}/{made['id']}").json()["lines"]
    summary = _get(client, f"/v1/ledgers/{ledger}/reports/summary", **{"from": "2026-02", "to": "2026-02"})["items"]
    assert _sides(lines, "role") == _sides(summary, "account") != {}


def _sides(rows: list[dict[str, Any]], account: str) -> dict[tuple[str, str], Decimal]:
    """Returns the sums by account and side."""
    sums: dict[tuple[str, str], Decimal] = {}
    for row in rows:
        for side in ("debit", "credit"):
            key = (row[account], side)
            sums[key] = sums.get(key, Decimal(0)) + Decimal(row[side] or 0)
    return {key: amount for key, amount in sums.items() if amount}


@pytest.mark.parametrize(
    ("path", "status", "code", "field"),
    [
        ("trial-balance", 422, "missing_field", "entity"),
        ("trial-balance?entity=no-such-entity&ledger=x", 422, "missing_field", "entity"),
        ("trial-balance?ledger=nowhere", 404, "unknown_ledger", "ledger"),
        ("trial-balance?entity=nowhere", 404, "unknown_entity", "entity"),
        ("forecast?entity=no-such-entity", 422, "invalid_value", "name"),
        ("nonsense?entity=no-such-entity", 404, "unknown_report", "name"),
        ("rollforward?entity=no-such-entity&by=customer", 422, "invalid_value", "by"),
        ("clearing?entity=no-such-entity&from=2026-01", 422, "invalid_value", "from"),
        ("clearing?entity=no-such-entity&format=html", 422, "invalid_value", "format"),
        ("clearing?entity=no-such-entity&format=csv&table=none", 404, "unknown_entity", "entity"),
    ],
)
def test_what_cannot_be_asked_of_several_ledgers_is_refused(
    client: TestClient, path: str, status: int, code: str, field: str
) -> None:
    answer = client.get(f"/v1/reports/{path}")
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (status, code, field), answer.text


def test_an_entity_without_ledgers_is_unknown(service: Subledger) -> None:
    with service.database.read() as connection, pytest.raises(UnknownEntity):
        ledgers_of(connection, "nobody's")


def test_the_key_must_be_good_for_every_ledger(scratch_url: str) -> None:
    database = Database(scratch_url)
    service = Subledger(database)
    service.create_ledger("acme", LedgerSettings(currency="USD"))
    client = TestClient(create_app(service, open_on_loopback=False), base_url="http://127.0.0.1")
    for ledger, status in (("acme", 403), ("*", 200)):
        key = create_key(database, ledger=ledger, role="reader", name="ann").secret
        for path in ("", "/trial-balance"):
            headers = {"Authorization": f"Bearer {key}"}
            answer = client.get(f"/v1/reports{path}", params={"ledger": "acme"} if path else {}, headers=headers)
            assert answer.status_code == status, (ledger, path)
    assert client.get("/v1/reports").status_code == 401
    database.close()


def test_what_does_not_tie_in_a_part_does_not_tie_in_the_sum() -> None:
    def part(ledger: str, off: int) -> LedgerReport:
        tie = Tie(what="it", currency="USD", report_minor=10 + off, trial_balance_minor=10)
        report = Report(
            name="r", title="R", tables=(Table(name="t", columns=(Column("account"),), rows=()),), ties=(tie,)
        )
        now = moment("2026-01-01T00:00:00Z")
        return LedgerReport(
            ledger=ledger,
            entity="e",
            functional_currency="USD",
            position=1,
            known_at=now,
            as_of=now.date(),
            report=report,
        )

    parts = [part("a", 1), part("b", -1)]
    assert added(parts).ties_out, "two differences cancel in the sum"
    answer = JointAnswer(chosen=Chosen(), request=ReportRequest(), parts=tuple(parts), reports={"USD": added(parts)})
    assert not answer.ties_out
