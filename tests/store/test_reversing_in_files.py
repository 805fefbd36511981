"""Reversals and re-issues in the files of every format: reversed line by line, and distinguishable."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter, defaultdict
from decimal import Decimal
from typing import Any

import pytest
from beancount import loader
from beancount.core.data import Transaction

from api.service import Subledger
from projections.account_mapping.mapping import default_mapping, mapping_for
from projections.configuring.account_mappings import adopt_mapping
from projections.exports import exporting, exports, targets
from projections.exports.exports import DocumentSet, Export
from projections.exports.formats import FORMATS, TARGETS
from projections.journals.corrections import in_force
from projections.journals.making import ensure_journals
from projections.journals.reversing import reverse_journal
from projections.reads import balances
from subledger.accounts import Side
from subledger.ledger_settings import SettingsChange
from subledger.money import exponent
from subledger.periods import Period
from tests.charts import another_chart
from tests.conftest import NewLedger
from tests.examples.general_ledgers_by_hand import READERS
from tests.laws.test_judges import MONTHS
from tests.reading import all_journals
from tests.store.walked import NETSUITE, record_months

OF_TARGETS = [form.name for form in FORMATS.values() if form.target is not None]
BEFORE, AFTER = MONTHS[0], MONTHS[1]
"""Exported in every format before the reversal, and after the first reversal."""
RIGHT = another_chart(7000)
LATER: dict[str, dict[str, Any]] = {
    "netsuite": {"level": "account", "title": "Changed", "accounts": {"1100": "17"}, **NETSUITE},
    "intacct": {"level": "customer", "journal": "XX", "dimensions": {"department": "PROJECTID"}},
    "quickbooks": {"level": "account", "lines": 4},
    "sap": {"level": "customer", "company_code": "9999"},
    "oracle": {"level": "account", "default": "999"},
    "dynamics": {"level": "account", "company": "zz", "account_format": ["department", "account"]},
}
"""The settings of each target between the journals and their reversals."""


@pytest.fixture(scope="module")
def ledger(service: Subledger, new_ledger: NewLedger) -> str:
    """Five months in four currencies. All first journals were reversed after another mapping was adopted."""
    ledger = new_ledger(on_shortfall="backfill")
    record_months(service, ledger, prefix="r", size=150)
    for month in MONTHS:
        ensure_journals(service.recorder, service.database, ledger, month)
    targets.set_settings(service.database, ledger, TARGETS["netsuite"], NETSUITE, by="ann")
    for name in FORMATS:
        exporting.export(service.recorder, service.database, ledger, BEFORE, name)
    for name, settings in LATER.items():
        targets.set_settings(service.database, ledger, TARGETS[name], settings, by="ann")
    service.configure_ledger(ledger, SettingsChange(entity="another"))
    adopt_mapping(service.recorder, ledger, RIGHT)
    for month in MONTHS:
        reverse_journal(service.recorder, ledger, month, 1, "the wrong chart")
    return ledger


def exported(service: Subledger, ledger: str, month: Period, name: str) -> list[Export]:
    return list(exporting.export(service.recorder, service.database, ledger, month, name))


def content(service: Subledger, export: Export) -> bytes:
    return b"".join(exports.content_of(service.database, export))


def posted(service: Subledger, export: Export) -> DocumentSet:
    with service.database.read() as connection:
        found = exports.document_set_of(connection, export)
    assert found is not None
    return found


@pytest.mark.parametrize("name", OF_TARGETS)
def test_a_reversals_file_takes_back_each_line_that_went_out_whatever_has_been_set_since(
    service: Subledger, ledger: str, name: str
) -> None:
    """As the general ledger reads both files. The customer-deposit pattern is reversed only by journals."""
    original, reversal, _ = exported(service, ledger, BEFORE, name)
    booked, back = (list(READERS[name](content(service, one))) for one in (original, reversal))
    assert booked
    if name == "netsuite-deposits":
        assert Counter(line for document in back for line in document) == Counter(
            (account, -amount) for document in booked for account, amount in document
        )
        made = json.loads(content(service, reversal))
        assert made["customerDeposit"] == made["depositApplication"] == []
        assert {record["externalId"][:4] for record in made["journalEntry"]} <= {"REV-", ledger[:4]}
    else:
        assert back == [[(account, -amount) for account, amount in document] for document in booked]
    before, after = posted(service, original), posted(service, reversal)
    assert after.settings == before.settings
    assert after.level == before.level
    for one, other in zip(before.documents, after.documents, strict=True):
        assert [(x.account, x.amount_minor, x.functional_minor, x.side) for x in one.lines] == [
            (x.account, x.amount_minor, x.functional_minor, x.side.opposite) for x in other.lines
        ]


@pytest.mark.parametrize("name", ["netsuite-csv", "netsuite-json", "intacct-xml", "sap-xml", "oracle-fbdi"])
def test_a_reversal_goes_to_the_entity_that_its_journal_went_to(service: Subledger, ledger: str, name: str) -> None:
    three = exported(service, ledger, BEFORE, name)
    original, reversal, reissue = (texts(content(service, one), name) for one in three)
    assert "another" not in original + reversal
    assert ("another" in reissue) == (name != "sap-xml"), "there a company code was set"


@pytest.mark.parametrize("name", OF_TARGETS)
def test_what_goes_to_a_target_after_its_reversal_is_first_posted_then_taken_back(
    service: Subledger, ledger: str, name: str
) -> None:
    original, reversal, _ = (posted(service, one) for one in exported(service, ledger, AFTER, name))
    for account in {line.account for document in original.documents for line in document.lines}:
        moved = [
            line.functional_minor * (1 if line.side is Side.DEBIT else -1)
            for each in (original, reversal)
            for document in each.documents
            for line in document.lines
            if line.account == account
        ]
        assert sum(moved) == 0


@pytest.mark.parametrize("name", OF_TARGETS)
def test_all_files_of_a_target_together_are_the_trial_balance_under_the_newest_mapping(
    service: Subledger, ledger: str, name: str
) -> None:
    sums: dict[str, int] = defaultdict(int)
    for month in MONTHS:
        for export in exported(service, ledger, month, name):
            for document in posted(service, export).documents:
                assert sum(x.functional_minor * (1 if x.side is Side.DEBIT else -1) for x in document.lines) == 0
                for line in document.lines:
                    sums[line.account.number] += line.functional_minor * (1 if line.side is Side.DEBIT else -1)
    with service.view(ledger, as_of=MONTHS[-1].last_day) as view:
        books: dict[str, int] = defaultdict(int)
        for account in balances.trial_balance(view):
            number = RIGHT.resolve(account.account, "", "", account.currency).number
            books[number] += account.functional_debit_minor - account.functional_credit_minor
    assert {n: amount for n, amount in sums.items() if amount} == {n: amount for n, amount in books.items() if amount}


@pytest.mark.parametrize("name", OF_TARGETS)
def test_documents_of_a_journal_its_reversal_and_what_takes_its_place_have_references_of_their_own(
    service: Subledger, ledger: str, name: str
) -> None:
    references = Counter[str]()
    for month in MONTHS[:3]:
        for export in exported(service, ledger, month, name):
            references.update(document.reference for document in posted(service, export).documents)
    assert references
    assert max(references.values()) == 1


@pytest.mark.campaign
@pytest.mark.parametrize("name", FORMATS)
def test_each_line_of_a_corrections_file_leads_to_the_entries_that_add_up_to_it(
    service: Subledger, ledger: str, name: str
) -> None:
    looked = 0
    for export in exported(service, ledger, AFTER, name)[1:]:
        with service.database.read() as connection:
            found = exports.document_set_of(connection, export)
            journal = exports.journal_behind(connection, export)
            lines: list[Any] = (
                [line for document in found.documents for line in document.lines] if found else list(journal.lines)
            )
            for line in lines[:: max(1, len(lines) // 12)]:
                entries = exports.entries_of_line(connection, export, line.number, limit=10_000)
                assert sum(entry.functional_minor for entry in entries) == line.functional_minor
                assert entries
                looked += 1
    assert looked >= 6


def texts(content: bytes, name: str) -> str:
    """Returns the text of a file, packed or not."""
    if FORMATS[name].extension != "zip":
        return content.decode("utf-8-sig")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [archive.read(member) for member in archive.namelist()]
    return "\n".join(text.decode("utf-16" if text.startswith(b"\xff\xfe") else "utf-8") for text in members)


NO_ROOM = {"quickbooks-csv"}
"""An entry of the import has a number, a date, and texts of lines."""


@pytest.mark.parametrize("name", sorted({*FORMATS} - NO_ROOM))
def test_a_file_says_which_journal_it_takes_back_or_issues_anew(service: Subledger, ledger: str, name: str) -> None:
    original, reversal, reissue = exported(service, ledger, BEFORE, name)
    short, whole = f"{BEFORE}-1", f"{ledger}-{BEFORE}-1"
    if name == "csv":
        says = {"reverses": ",reverses\n", "reissues": ",reissues,dim_department\n"}
    elif name == "json":
        says = {"reverses": f'"reverses":"{whole}"', "reissues": f'"reissues":"{whole}"'}
    elif FORMATS[name].target is None:
        says = {"reverses": f"reverses {whole}", "reissues": f"reissues {whole}"}
    else:
        says = {"reverses": f"reverses {short}", "reissues": f"reissues {short}"}
    found = {one.number: texts(content(service, one), name) for one in (original, reversal, reissue)}
    assert says["reverses"] in found[2]
    assert says["reissues"] in found[3]
    assert "reverses" not in found[1] + found[3]
    assert "reissues" not in found[1] + found[2]


@pytest.mark.parametrize("name", FORMATS)
def test_asking_again_gives_the_same_bytes(service: Subledger, ledger: str, name: str) -> None:
    first = exported(service, ledger, BEFORE, name)
    for target, settings in LATER.items():
        targets.set_settings(service.database, ledger, TARGETS[target], {**settings, "title": "Later"}, by="ann")
    assert exported(service, ledger, BEFORE, name) == first
    for one in first:
        assert content(service, one)
        if FORMATS[name].target is not None and len(posted(service, one).documents) == 1:
            with service.database.read() as connection:
                assert exports.render_document(connection, one, 1) == content(service, one)


def test_the_details_of_all_journals_are_the_trial_balance_by_role_and_by_account(
    service: Subledger, ledger: str
) -> None:
    """Each detail file has the entries of its journal. A reversal has the mirrored entries of the reversed journal."""
    for month in MONTHS:
        by_account: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        of_journals: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for one in exporting.export(service.recorder, service.database, ledger, month, "beancount", detail=True):
            entries, errors, _ = loader.load_string(content(service, one).decode())
            assert errors == []
            for posting in [p for entry in entries if isinstance(entry, Transaction) for p in entry.postings]:
                if "functional-of" not in posting.meta:
                    by_account[posting.meta["gl-account"], posting.units.currency] += posting.units.number
        made = [journal for journal in all_journals(service, ledger) if journal.period == month]
        for line in [line for journal in in_force(made) for line in journal.lines]:
            amount = Decimal(line.amount_minor).scaleb(-exponent(line.currency))
            of_journals[line.account.number, line.currency] += amount if line.side is Side.DEBIT else -amount
        assert {k: v for k, v in by_account.items() if v} == {k: v for k, v in of_journals.items() if v}
        assert {number for number, _ in of_journals} <= {row["account"] for row in RIGHT.rows}


def test_the_charts_share_no_account(service: Subledger, ledger: str) -> None:
    with service.database.read() as connection:
        assert mapping_for(connection, ledger, BEFORE) == (2, RIGHT)
    assert not {row["account"] for row in RIGHT.rows} & {row["account"] for row in default_mapping().rows}
