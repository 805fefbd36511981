"""General ledgers: their files equal the trial balance, to the cent, and each line leads to its entries."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from api.cli.main import app
from api.http.app import create_app
from api.service import Subledger
from projections.account_mapping.mapping import mapping_of
from projections.exports import exporting, exports, targets
from projections.exports.documents import Document, TargetLimits, documents_of
from projections.exports.formats import FORMATS, TARGETS
from projections.journals.drill_down import entries_behind
from projections.journals.journal import Journal
from projections.journals.making import ensure_journals
from projections.journals.pairs import LEVELS, Level, pairs_of
from projections.reads import balances
from subledger.accounts import Side
from subledger.errors import InvalidInput, UnknownExport, UnknownTarget
from tests.building import cloud_event
from tests.laws.test_judges import MONTHS, World
from tests.reading import all_journals
from tests.store.walked import NETSUITE, record_months

NewLedger = Callable[..., str]
OF_TARGETS = [form.name for form in FORMATS.values() if form.target is not None]


@pytest.fixture(scope="module")
def ledger(service: Subledger, new_ledger: NewLedger) -> str:
    """Five months in four currencies, all but the last closed; the last one has a second journal, an adjustment."""
    ledger = new_ledger(on_shortfall="backfill")
    targets.set_settings(service.database, ledger, TARGETS["netsuite"], NETSUITE, by="me")
    record_months(service, ledger, prefix="g", size=300)
    for month in MONTHS:
        ensure_journals(service.recorder, service.database, ledger, month)
    late = cloud_event(
        "late",
        "credits.purchased",
        "late",
        f"{MONTHS[-1]}-20T00:00:00Z",
        block_id="late",
        credits="3",
        price="9.99",
        currency="EUR",
    )
    service.record(ledger, [late])
    assert len(ensure_journals(service.recorder, service.database, ledger, MONTHS[-1])) == 2
    return ledger


def net(lines: Any) -> dict[tuple[str, Side], int]:
    """Returns functional amounts by account and side."""
    sums: dict[tuple[str, Side], int] = defaultdict(int)
    for line in lines:
        sums[line.account.number, line.side] += line.functional_minor
    return {key: amount for key, amount in sums.items() if amount}


def journal_documents(service: Subledger, journal: Journal, limits: TargetLimits, level: Level) -> tuple[Document, ...]:
    with service.database.read() as connection:
        pairs = pairs_of(connection, journal, level)
        mapping = mapping_of(connection, journal.ledger, journal.mapping)
    return documents_of(journal, pairs, mapping, limits=limits, level=level)


@pytest.mark.parametrize("two_currencies", [True, False])
@pytest.mark.parametrize("lines", [2, 7, 10_000])
@pytest.mark.parametrize("level", LEVELS)
def test_whatever_lines_are_summed_by_and_however_many_a_document_takes_they_are_the_journal(
    service: Subledger, ledger: str, level: Level, lines: int, two_currencies: bool
) -> None:
    limits = TargetLimits(lines=lines, text=60, reference=21, two_currencies=two_currencies, digits=15, decimals=3)
    for journal in all_journals(service, ledger):
        documents = journal_documents(service, journal, limits, level)
        every = [line for document in documents for line in document.lines]
        assert net(every) == net(journal.lines)
        assert [line.number for line in every] == list(range(1, len(every) + 1))
        for document in documents:
            assert 2 <= len(document.lines) <= lines
            assert len(document.reference) <= 21
        assert len({document.reference for document in documents}) == len(documents)
        places = [place for p in documents for place in {place for line in p.lines for place in line.pairs}]
        assert len(places) == len(set(places)), "a pair stands in one document"


@pytest.mark.parametrize("level", LEVELS)
def test_the_entries_behind_each_line_add_up_to_it(service: Subledger, ledger: str, level: Level) -> None:
    looked = 0
    for journal in all_journals(service, ledger)[:2]:
        with service.database.read() as connection:
            pairs = pairs_of(connection, journal, level)
        documents = journal_documents(service, journal, in_documents_of(9), level)
        with service.database.read() as connection:
            for line in [line for document in documents for line in document.lines][::3]:
                chosen = [pairs[place] for place in line.pairs]
                found, after = [], None
                while page := entries_behind(connection, journal, chosen, level, after=after, limit=7):
                    found += page
                    after = (page[-1].position, page[-1].number)
                assert sum(entry.functional_minor for entry in found) == line.functional_minor
                assert len(found) <= sum(pair.entries for pair in chosen)
                looked += 1
    assert looked > 30


def in_documents_of(lines: int) -> TargetLimits:
    return TargetLimits(lines=lines, text=200, reference=60, digits=15, decimals=3)


@pytest.mark.parametrize("name", OF_TARGETS)
def test_all_files_of_a_target_together_are_the_trial_balance(service: Subledger, ledger: str, name: str) -> None:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for month in MONTHS:
        for export in exporting.export(service.recorder, service.database, ledger, month, name):
            with service.database.read() as connection:
                posted = exports.document_set_of(connection, export)
            assert posted is not None
            for line in [line for document in posted.documents for line in document.lines]:
                sums[line.account.name] += line.functional_minor * (1 if line.side is Side.DEBIT else -1)
            again = exporting.export(service.recorder, service.database, ledger, month, name)
            assert export in again
            assert b"".join(exports.content_of(service.database, export))
    with service.view(ledger, as_of=MONTHS[-1].last_day) as view:
        books: dict[str, Decimal] = defaultdict(Decimal)
        with service.database.read() as connection:
            names = {row["role"]: row["name"] for row in mapping_of(connection, ledger, 1).rows}
        for account in balances.trial_balance(view):
            books[names[account.account]] += account.functional_debit_minor - account.functional_credit_minor
    assert {n: amount for n, amount in sums.items() if amount} == {n: amount for n, amount in books.items() if amount}


def test_what_is_set_about_a_target_holds_for_the_next_export_and_no_earlier_one(
    service: Subledger, ledger: str
) -> None:
    target = TARGETS["netsuite"]
    [before, *_] = exporting.export(service.recorder, service.database, ledger, MONTHS[1], "netsuite-csv")
    targets.set_settings(
        service.database, ledger, target, {**NETSUITE, "level": "account", "subsidiary": "42"}, by="me"
    )
    [same, *_] = exporting.export(service.recorder, service.database, ledger, MONTHS[1], "netsuite-csv")
    assert same == before
    targets.set_settings(service.database, ledger, target, NETSUITE, by="me")
    for given, field in (({"level": "x"}, "level"), ({"nothing": 1}, "settings"), ({"lines": 1}, "lines")):
        with pytest.raises(InvalidInput) as caught:
            targets.set_settings(service.database, ledger, target, given, by="me")
        assert field in (caught.value.field or "")
    with pytest.raises(UnknownTarget):
        targets.target_named("xero")


def test_a_line_of_a_file_leads_to_its_events_in_two_calls(
    service: Subledger, ledger: str, owner_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = TestClient(
        create_app(service, open_on_loopback=True), base_url="http://127.0.0.1", client=("127.0.0.1", 50_000)
    )
    made = client.post(f"/v1/ledgers/{ledger}/exports", json={"period": "2026-03", "format": "netsuite-json"}).json()
    base = f"/v1/ledgers/{ledger}/exports/{made['id']}"
    found = client.get(base).json()
    assert {document["reference"] for document in found["documents"]} == {line["document"] for line in found["lines"]}
    line = max(found["lines"], key=lambda each: each["entries"])
    entries = client.get(f"{base}/lines/{line['line']}/entries?limit=1000").json()["items"]
    amount = sum(Decimal(entry["functional"]["amount"]) for entry in entries)
    assert amount == Decimal(line["functional"][line["side"]])
    assert client.get(f"{base}/lines/100000/entries").status_code == 404

    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", owner_url)
    monkeypatch.setenv("COLUMNS", "220")
    shown = CliRunner().invoke(app, ["exports", "show", made["id"], "--ledger", ledger, "--json"])
    assert json.loads(shown.stdout)["lines"] == found["lines"]
    listed = CliRunner().invoke(
        app, ["exports", "entries", made["id"], str(line["line"]), "--ledger", ledger, "--json"]
    )
    assert json.loads(listed.stdout)["items"] == entries


def test_a_line_that_is_not_there_is_told(service: Subledger, ledger: str) -> None:
    [export, *_] = exporting.export(service.recorder, service.database, ledger, MONTHS[1], "netsuite-csv")
    with service.database.read() as connection, pytest.raises(UnknownExport):
        exports.entries_of_line(connection, export, 100_000)


# --- the customer-deposit pattern, block by block -----------------------------------------------------------------


def of_blocks(service: Subledger, ledger: str) -> list[tuple[Document, dict[str, Any]]]:
    """Returns every document of every month, with the record that is sent for it."""
    found = []
    for month in MONTHS:
        for export in exporting.export(service.recorder, service.database, ledger, month, "netsuite-deposits"):
            with service.database.read() as connection:
                posted = exports.document_set_of(connection, export)
            assert posted is not None
            file = json.loads(b"".join(exports.content_of(service.database, export)), parse_float=Decimal)
            records = {record["externalId"]: record for records in file.values() for record in records}
            assert len(records) == len(posted.documents) == sum(map(len, file.values()))
            found += [(document, records[document.reference]) for document in posted.documents]
    return found


def test_deposits_less_applications_are_what_customers_have_on_deposit(service: Subledger, ledger: str) -> None:
    held: dict[str, int] = defaultdict(int)
    for document, record in of_blocks(service, ledger):
        if document.kind == "deposit":
            held[document.block_id] += document.total_minor
            assert record["payment"] == Decimal(document.total_minor) / 100
        elif document.kind == "application":
            held[document.block_id] -= document.total_minor
            assert record["apply"]["items"][0]["amount"] == Decimal(document.total_minor) / 100
        else:
            for line in document.lines:
                if line.role == "customer_deposits":  # voids, refunds and similar, which are not movements of a deposit
                    held[line.block_id] += line.functional_minor * (1 if line.side is Side.CREDIT else -1)
    query = """
        SELECT block_id, sum(functional_minor * CASE side WHEN 'credit' THEN 1 ELSE -1 END)::bigint FROM journal_lines
        WHERE ledger = %s AND account = 'customer_deposits' AND accounting_date <= %s GROUP BY block_id
    """
    with service.database.write() as connection:
        books = dict(connection.execute(query, (ledger, MONTHS[-1].last_day)).fetchall())
    assert {block: amount for block, amount in held.items() if amount} == {b: a for b, a in books.items() if a}
    assert len(held) > 10


def test_each_deposit_is_known_by_its_block_and_each_application_names_one(service: Subledger, ledger: str) -> None:
    made: set[str] = set()
    names: list[str] = []
    for document, record in of_blocks(service, ledger):
        names.append(document.reference)
        if document.kind == "deposit":
            made.add(record["externalId"])
            assert record["memo"].endswith(f", block {document.block_id}")
        elif document.kind == "application":
            assert record["deposit"]["externalId"] in made, "its deposit came before"
    assert len(names) == len(set(names))


def test_where_the_general_ledgers_revenue_module_posts_revenue_no_file_touches_it(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger(policy="customer_deposits_arm", on_shortfall="overage")
    targets.set_settings(service.database, ledger, TARGETS["netsuite"], NETSUITE, by="me")
    events = World(random.Random(3), ("USD",), "arm").events(150)
    service.record(ledger, [event for event in events if event["time"][:7] <= "2026-03"])
    with service.database.read() as connection:
        of_revenue = {
            row["account"]
            for row in mapping_of(connection, ledger, 1).rows
            if row["role"] in ("usage_revenue", "overage_revenue", "breakage_revenue", "contra_revenue")
        }
    assert len(of_revenue) == 4
    told = 0
    for name in OF_TARGETS:
        for month in MONTHS[:3]:
            for export in exporting.export(service.recorder, service.database, ledger, month, name):
                with service.database.read() as connection:
                    posted = exports.document_set_of(connection, export)
                assert posted is not None
                accounts = {line.account.number for document in posted.documents for line in document.lines}
                assert not accounts & of_revenue
                told += len(accounts)
    assert told > 20
