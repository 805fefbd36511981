"""The division of work: what a general ledger posts itself is in no document, and nothing is lost or posted twice."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from api.cli.main import app
from api.service import Subledger
from projections import integrity
from projections.close.close import close_period
from projections.configuring.account_mappings import adopt_mapping
from projections.exports import exporting, exports, targets
from projections.exports.exports import DocumentSet, Export
from projections.exports.formats import FORMATS, TARGETS, format_named
from projections.exports.presets import PRESETS
from projections.journals.division import WORDS
from projections.journals.reversing import reverse_journal
from subledger.accounts import Side
from subledger.errors import InvalidInput
from tests.building import cloud_event, recorded
from tests.charts import another_chart
from tests.conftest import NewLedger
from tests.laws.test_judges import MONTHS
from tests.reading import all_journals
from tests.store.tampering import past_triggers
from tests.store.walked import NETSUITE, record_months

ONE_FORMAT_OF_EACH = ["netsuite-json", "netsuite-deposits", "intacct-csv", "quickbooks-json", "sap-csv", "oracle-fbdi"]


@pytest.fixture
def ledger(service: Subledger, new_ledger: NewLedger) -> str:
    """Five months in four currencies."""
    ledger = new_ledger(on_shortfall="backfill")
    record_months(service, ledger, prefix="d", size=150)
    return ledger


def exported(service: Subledger, ledger: str, form: str) -> list[tuple[Export, DocumentSet]]:
    found = []
    for month in MONTHS:
        for export in exporting.export(service.recorder, service.database, ledger, month, form):
            with service.database.read() as connection:
                posted = exports.document_set_of(connection, export)
            assert posted is not None
            found.append((export, posted))
    return found


def movements(posted: list[tuple[Export, DocumentSet]]) -> Counter[str]:
    """Debit less credit by role, of documents that name it."""
    found: Counter[str] = Counter()
    for _, each in posted:
        for document in each.documents:
            for line in document.lines:
                found[line.role] += line.functional_minor * (1 if line.side is Side.DEBIT else -1)
    return found


@pytest.mark.parametrize("form", ONE_FORMAT_OF_EACH)
@pytest.mark.parametrize("preset", PRESETS)
def test_documents_and_what_they_leave_out_are_the_journals_of_every_month(
    service: Subledger, ledger: str, form: str, preset: str
) -> None:
    target = format_named(form).target
    assert target is not None
    if not PRESETS[preset].is_for(target):
        return
    ids = NETSUITE if target.name == "netsuite" else {}
    targets.set_settings(service.database, ledger, target, {**PRESETS[preset].settings, **ids}, by="me")
    posted = exported(service, ledger, form)
    documents: Counter[str] = Counter()
    for _, each in posted:
        for document in each.documents:
            for line in document.lines:
                documents[line.account.number] += line.functional_minor * (1 if line.side is Side.DEBIT else -1)
        by_role: Counter[str] = Counter()
        for left in each.left_out:
            by_role[left.debit] += left.functional_minor
            by_role[left.credit] -= left.functional_minor
        accounts = {
            line.role: line.account.number for journal in all_journals(service, ledger) for line in journal.lines
        }
        for role, amount in by_role.items():
            documents[accounts[role]] += amount
    journals: Counter[str] = Counter()
    for journal in all_journals(service, ledger):
        for own in journal.lines:
            journals[own.account.number] += own.functional_minor * (1 if own.side is Side.DEBIT else -1)
    assert documents == journals
    words = {left.word for _, each in posted for left in each.left_out}
    through = set() if PRESETS[preset].pass_through or form == "netsuite-deposits" else {"pass_through"}
    assert words <= {*PRESETS[preset].native, *through}
    assert words >= {"invoices", "payments", "payouts"} & {*PRESETS[preset].native} | through
    assert integrity.verify(service.database, ledger).differences == []


def test_an_erp_that_posts_invoices_and_payments_gets_no_receivable_but_what_is_written_off(
    service: Subledger, ledger: str
) -> None:
    settings = {**PRESETS["invoices_and_payments_native"].settings, "level": "block"}
    targets.set_settings(service.database, ledger, TARGETS["intacct"], settings, by="me")
    posted = exported(service, ledger, "intacct-csv")
    others = Counter(
        pair.credit
        for _, each in posted
        for pair in each.pairs
        if not pair.native and pair.debit == "accounts_receivable"
    ) + Counter(
        pair.debit
        for _, each in posted
        for pair in each.pairs
        if not pair.native and pair.credit == "accounts_receivable"
    )
    assert set(others) <= {"bad_debt", "prepaid_liability", "tax_payable", "fx_gain_loss"}, (
        "write-offs, and nothing else"
    )
    assert movements(posted)["cash"] == movements(posted)["processor_clearing"] == 0


def test_a_receivable_that_is_only_passed_is_in_no_document_unless_it_is_wanted(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    buy = cloud_event("b", "credits.purchased", "ann", "2026-01-05T12:00:00Z", block_id="A", credits="100",
                      price="100.00", currency="USD")  # fmt: skip
    use = cloud_event("u", "credits.consumed", "ann", "2026-02-05T12:00:00Z", credits="40")
    recorded(service, ledger, buy, use)
    close_period(service.recorder, ledger, MONTHS[0])
    [[_, plain]] = [found for found in exported(service, ledger, "intacct-csv") if found[0].period == MONTHS[1]]
    assert [(line.role, line.side.value, line.functional_minor) for d in plain.documents for line in d.lines] == [
        ("credits_clearing", "credit", 4000), ("prepaid_liability", "debit", 4000),
        ("customer_deposits", "debit", 4000), ("usage_revenue", "credit", 4000),
    ]  # fmt: skip
    [left] = plain.left_out
    assert left == ("pass_through", "accounts_receivable", "accounts_receivable", "USD", 4000, 4000)
    targets.set_settings(service.database, ledger, TARGETS["sap"], {"pass_through": True}, by="me")
    [[_, whole]] = [found for found in exported(service, ledger, "sap-csv") if found[0].period == MONTHS[1]]
    assert sorted(line.role for d in whole.documents for line in d.lines).count("accounts_receivable") == 2
    assert whole.left_out == ()


def test_each_line_leads_to_its_entries_under_every_division(service: Subledger, ledger: str) -> None:
    native = {"native": ["invoices", "payments"], "level": "customer"}
    for given in ({}, native, {**native, "pass_through": True}):
        target = ["intacct", "sap", "quickbooks"][bool(given) + ("pass_through" in given)]
        form = {"intacct": "intacct-csv", "sap": "sap-csv", "quickbooks": "quickbooks-json"}[target]
        targets.set_settings(service.database, ledger, TARGETS[target], given, by="me")
        for export, posted in exported(service, ledger, form)[1:3]:
            for line in [line for document in posted.documents for line in document.lines][::5]:
                with service.database.read() as connection:
                    found = exports.entries_of_line(connection, export, line.number, limit=1_000)
                assert sum(entry.functional_minor for entry in found) == line.functional_minor


def test_adjustments_reversals_and_reissues_keep_the_division_of_the_months_first_journal(
    service: Subledger, ledger: str
) -> None:
    month = MONTHS[-1]
    first = {"native": ["invoices"]}
    targets.set_settings(service.database, ledger, TARGETS["intacct"], first, by="me")
    [before] = exporting.export(service.recorder, service.database, ledger, month, "intacct-csv")
    targets.set_settings(service.database, ledger, TARGETS["intacct"], {"native": ["payments"]}, by="me")
    late = cloud_event("late", "credits.purchased", "late", f"{month}-20T00:00:00Z", block_id="late", credits="3",
                       price="9.00", currency="USD")  # fmt: skip
    recorded(service, ledger, late)
    [same, adjustment] = exporting.export(service.recorder, service.database, ledger, month, "intacct-csv")
    assert same == before
    adopt_mapping(service.recorder, ledger, another_chart(7000))
    reverse_journal(service.recorder, ledger, month, 2, "r", by="me")
    made = exporting.export(service.recorder, service.database, ledger, month, "intacct-csv")
    assert [export.number for export in made] == [1, 2, 3, 4]
    with service.database.read() as connection:
        sets = [exports.document_set_of(connection, export) for export in made]
    assert [each.settings["native"] for each in sets if each] == [["invoices"]] * 4
    left = [Counter({each.word: each.functional_minor for each in of.left_out}) for of in sets[1:] if of]
    assert [each["invoices"] for each in left] == [900, 900, 900], "the sides of a reversal are swapped, not its sign"
    assert adjustment.number == 2
    assert integrity.verify(service.database, ledger).differences == []


def test_documents_that_were_changed_in_the_database_are_found(service: Subledger, ledger: str, owner_url: str) -> None:
    [export] = exporting.export(service.recorder, service.database, ledger, MONTHS[0], "intacct-csv")
    with service.database.read() as connection:
        posted = exports.document_set_of(connection, export)
    assert posted is not None
    pair = next(pair for pair in posted.pairs if pair.native and pair.functional_minor)
    changed = msgspec.structs.replace(posted, pairs=tuple(each for each in posted.pairs if each is not pair))
    text = msgspec.json.encode(changed, order="sorted").decode()
    with past_triggers(owner_url, "journal_exports") as connection:
        connection.execute(
            "UPDATE journal_exports SET postings = %s, postings_hash = encode(sha256(convert_to(%s, 'UTF8')), 'hex') "
            "WHERE ledger = %s AND export_id = %s",
            (text, text, ledger, export.export_id),
        )
    messages = [found.message for found in integrity.verify(service.database, ledger).differences]
    assert any("what they leave out are not its journal" in message for message in messages)


def test_settings_name_only_documents_that_exist_and_each_once(service: Subledger, ledger: str) -> None:
    for words, found in ((["invoice"], "invoice"), (["fees", "fees"], "fees, fees")):
        with pytest.raises(InvalidInput) as caught:
            targets.set_settings(service.database, ledger, TARGETS["sap"], {"native": words}, by="me")
        assert (caught.value.field, caught.value.found) == ("native", found)


def test_presets_on_the_command_line(
    service: Subledger, ledger: str, owner_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", owner_url)

    def run(*words: str) -> Any:
        done = CliRunner().invoke(app, [*words, "--json"])
        return json.loads(done.stdout) if done.exit_code == 0 else str(done.exception)

    listed = {item["preset"]: item for item in run("target", "presets", "quickbooks")["items"]}
    assert "netsuite_deposits" not in listed
    assert listed["invoices_native"]["settings"] == {"native": ["invoices", "credit_memos"], "pass_through": False}
    assert {word for item in listed.values() for word in item["settings"]["native"]} <= {*WORDS}
    settings = run("target", "set", "quickbooks", "--preset", "invoices_native", "--ledger", ledger)["settings"]
    assert (settings["native"], settings["level"]) == (["invoices", "credit_memos"], "dimension")
    assert "has no preset" in run("target", "set", "quickbooks", "--preset", "netsuite_deposits", "--ledger", ledger)
    assert "no settings are given" in run("target", "set", "quickbooks", "--ledger", ledger)
    [export] = exporting.export(service.recorder, service.database, ledger, MONTHS[0], "quickbooks-json")
    shown = run("exports", "show", export.export_id, "--ledger", ledger)
    assert {each["document"] for each in shown["left_out"]} <= {"invoices", "credit_memos", "pass_through"}
    assert sum(Decimal(each["functional"]["amount"]) for each in shown["left_out"]) > 0
    assert set(FORMATS) >= {preset.format for preset in PRESETS.values() if preset.format}
