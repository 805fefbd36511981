"""Sage Intacct's files, byte by byte and read back by the standard library's parsers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

import pytest

from projections.account_mapping.mapping import AccountMapping
from projections.exports.formats import intacct
from projections.exports.formats.target import Rendering
from projections.journals.journal import JournalPair
from subledger.errors import NotRepresentable
from tests.golden.contract import Contract, Read, ReadLine, assert_fulfils
from tests.golden.journals_functional import (
    EXPORT_ID,
    GOLDENS,
    cases,
    is_debit,
    journal_of,
    overlong,
    rendering_of,
    renderings,
)
from tests.reading import csv_rows

# The template and the gateway's order as the vendor has them, not as the format does.
TEMPLATE = (
    "DONOTIMPORT,JOURNAL,DATE,REVERSEDATE,DESCRIPTION,REFERENCE_NO,LINE_NO,ACCT_NO,LOCATION_ID,DEPT_ID,DOCUMENT,MEMO,"
    "DEBIT,CREDIT,SOURCEENTITY,CURRENCY,EXCH_RATE_DATE,EXCH_RATE_TYPE_ID,EXCHANGE_RATE,STATE,ALLOCATION_ID,BILLABLE,"
    "GLENTRY_PROJECTID,GLENTRY_CUSTOMERID,GLENTRY_VENDORID,GLENTRY_ITEMID,GLENTRY_CLASSID,GLENTRY_EMPLOYEEID"
)
OF_A_JOURNAL = ("JOURNAL", "DATE", "REVERSEDATE", "DESCRIPTION", "REFERENCE_NO", "STATE")
BATCH_ORDER = (
    "JOURNAL BATCH_DATE REVERSEDATE BATCH_TITLE HISTORY_COMMENT REFERENCENO BASELOCATION_NO SUPDOCID STATE EXPORT "
    "ENTRIES"
)
ENTRY_ORDER = (
    "DOCUMENT ACCOUNTNO TR_TYPE TRX_AMOUNT CURRENCY EXCH_RATE_DATE EXCH_RATE_TYPE_ID EXCHANGE_RATE LOCATION DEPARTMENT "
    "PROJECTID TASKID COSTTYPEID CUSTOMERID VENDORID EMPLOYEEID ITEMID CLASSID CONTRACTID WAREHOUSEID GLDIMPLAN "
    "DESCRIPTION"
)
COMPANY = {
    "level": "customer", "multi_currency": True, "base_location": "US", "state": "Posted", "export_field": "EXPORT",
    "customers": {"cus-42": "C-0042", 'Müller & Söhne, "GmbH"': "C-0001"}, "location": "US01-HQ",
    "dimensions": {"department": "DEPARTMENT", "class": "GLDIMPLAN", "location": "WAREHOUSEID"},
}  # fmt: skip


def csv_documents(file: bytes, rendering: Rendering) -> list[Read]:
    """A row with a journal begins one; the rows after it say nothing of the journal, and are numbered on."""
    documents: list[Read] = []
    assert file.decode().startswith(TEMPLATE)
    for row in csv_rows(file):
        if row["JOURNAL"]:
            assert row["DATE"]
            assert 0 < len(row["DESCRIPTION"]) <= 30
            documents.append(Read(row["REFERENCE_NO"], rendering.journal.functional_currency, ()))
        else:
            assert not any(row[name] for name in OF_A_JOURNAL)
        debit, amount = is_debit(row["DEBIT"], row["CREDIT"])
        line = ReadLine(row["DOCUMENT"], row["ACCT_NO"].removeprefix("'"), debit, amount)
        documents[-1] = documents[-1]._replace(lines=(*documents[-1].lines, line))
        assert row["LINE_NO"] == str(len(documents[-1].lines))
        assert len(row["MEMO"]) <= intacct.TARGET.limits.text
    return documents


def text(element: ElementTree.Element, name: str) -> str:
    found = element.find(name)
    assert found is not None
    assert found.text
    return found.text


def in_order(element: ElementTree.Element, order: str) -> bool:
    names = [child.tag for child in element]
    return names == [name for name in order.split() if name in names]


def xml_documents(file: bytes, rendering: Rendering) -> list[Read]:
    root = ElementTree.fromstring(file)
    assert root.tag == "content"
    documents = []
    for function in root:
        (create,) = function
        (batch,) = create
        assert (function.tag, create.tag, batch.tag) == ("function", "create", "GLBATCH")
        assert in_order(batch, BATCH_ORDER)
        reference = text(batch, "REFERENCENO")
        assert function.get("controlid") == reference
        lines = []
        for entry in batch.iterfind("ENTRIES/GLENTRY"):
            assert in_order(entry, ENTRY_ORDER)
            debit = {"1": True, "-1": False}[text(entry, "TR_TYPE")]
            amount = Decimal(text(entry, "TRX_AMOUNT"))
            lines.append(ReadLine(text(entry, "DOCUMENT"), text(entry, "ACCOUNTNO"), debit, amount))
        documents.append(Read(reference, rendering.journal.functional_currency, tuple(lines)))
    return documents


CONTRACTS = tuple(
    Contract(
        form=f"intacct-{extension}",
        cases=cases(intacct.TARGET),
        golden=lambda case, _, extension=extension: f"{case}intacct.{extension}",
        read=read,
        renderings=renderings(intacct.TARGET),
        all_decimals=False,
    )
    for extension, read in (("csv", csv_documents), ("xml", xml_documents))
)


@pytest.mark.parametrize("case", GOLDENS)
def test_the_columns_are_those_of_the_vendors_template(case: str) -> None:
    assert intacct.csv_file(CONTRACTS[0].cases[case]()).decode().splitlines()[0] == TEMPLATE


def test_a_companys_own_settings_are_in_both_files() -> None:
    rendering = rendering_of(intacct.TARGET, COMPANY)
    rows = csv_rows(intacct.csv_file(rendering))
    for contract in CONTRACTS:
        assert_fulfils(contract, rendering)
    assert rows[0]["STATE"] == "Posted"
    for row in rows:
        assert (row["LOCATION_ID"], row["SOURCEENTITY"], row["CURRENCY"]) == ("US01-HQ", "US", "USD")
        assert (row["EXCH_RATE_DATE"], row["EXCH_RATE_TYPE_ID"]) == ("02/28/2026", "Intacct Daily Rate")
    assert {row["GLENTRY_CUSTOMERID"] for row in rows} == {"C-0042", "C-0001"}
    assert {row["GLENTRY_WAREHOUSEID"] for row in rows} == {"", "US01", "W"}
    assert {row["GLDIMPLAN"] for row in rows} == {"", "Größe L", "PLATFORM"}
    batch = ElementTree.fromstring(intacct.xml_file(rendering)).find("function/create/GLBATCH")
    assert batch is not None
    assert batch.find("STATE") is None  # which posts it
    assert (text(batch, "BASELOCATION_NO"), text(batch, "EXPORT")) == ("US", EXPORT_ID)
    entries = batch.findall("ENTRIES/GLENTRY")
    assert {entry.findtext("CUSTOMERID") for entry in entries} == {"C-0042", "C-0001"}
    assert {entry.findtext("GLDIMPLAN") for entry in entries} == {None, "Größe L", "PLATFORM"}
    assert {entry.findtext("CURRENCY") for entry in entries} == {"USD"}


def test_without_a_rate_type_the_rate_is_one() -> None:
    rendering = rendering_of(intacct.TARGET, {"multi_currency": True, "rate_type": "", "location": ""})
    rows = csv_rows(intacct.csv_file(rendering))
    assert {(row["EXCHANGE_RATE"], row["EXCH_RATE_TYPE_ID"]) for row in rows} == {("1", "")}
    entry = ElementTree.fromstring(intacct.xml_file(rendering)).find(".//GLENTRY")
    assert entry is not None
    assert (entry.findtext("EXCHANGE_RATE"), entry.find("EXCH_RATE_TYPE_ID")) == ("1", None)
    assert entry.find("LOCATION") is None
    assert rows[0]["LOCATION_ID"] == ""


def test_a_long_title_leaves_the_month_and_the_part_in_the_description() -> None:
    rendering = rendering_of(intacct.TARGET, {"title": "=" + "t" * 400, "lines": 2})
    descriptions = [row["DESCRIPTION"] for row in csv_rows(intacct.csv_file(rendering)) if row["DESCRIPTION"]]
    assert descriptions[1] == "'=ttttttttttttttt… 2026-02 2/7"
    titles = [title.text for title in ElementTree.fromstring(intacct.xml_file(rendering)).iter("BATCH_TITLE")]
    assert all(title and len(title) == 255 for title in titles)
    assert titles[1] is not None
    assert titles[1].endswith("… 2026-02, part 2 of 7")


def test_a_text_that_is_too_long_is_shortened_beside_its_reference() -> None:
    rendering = overlong(intacct.TARGET)
    row = csv_rows(intacct.csv_file(rendering))[0]
    assert (len(row["MEMO"]), row["MEMO"][:2], row["MEMO"][-1], row["DOCUMENT"]) == (255, "'=", "…", "L1")
    entry = ElementTree.fromstring(intacct.xml_file(rendering)).find(".//GLENTRY")
    assert entry is not None
    assert (len(text(entry, "DESCRIPTION")), text(entry, "DOCUMENT")) == (255, "L1")


def test_letters_that_xml_does_not_have_are_question_marks() -> None:
    mapping = AccountMapping(  # as one may be stored from before its cells were checked
        rows=tuple({"role": role, "account": "1", "name": "a\ufffe<&\U0001f600"} for role in ("cash", "tax_payable"))
    )
    pair = JournalPair(debit="cash", credit="tax_payable", currency="USD", amount_minor=1, functional_minor=1)
    rendering = rendering_of(intacct.TARGET, {}, (pair,), mapping=mapping)
    found = ElementTree.fromstring(intacct.xml_file(rendering)).findtext(".//DESCRIPTION")
    assert found == "a?<&\U0001f600"


def test_amounts_that_do_not_fit_are_refused() -> None:
    for amount, home in ((1251, "KWD"), (10**14, "USD")):
        pair = JournalPair(
            debit="cash", credit="fx_gain_loss", currency=home, amount_minor=amount, functional_minor=amount
        )
        with pytest.raises(NotRepresentable):
            rendering_of(intacct.TARGET, {}, (pair,), journal=journal_of((pair,), home=home))


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"journal": ""}, "journal"),
    ({"state": "posted"}, "state"),
    ({"level": "event"}, "level"),
    ({"lines": 1}, "lines"),
    ({"location": 7}, "location"),
    ({"multi_currency": "USD"}, "multi_currency"),
    ({"dimensions": {"region": "REGION"}}, "dimensions"),
    ({"dimensions": {"customer": "CUSTOMERID"}}, "dimensions"),
    ({"dimensions": {"region": "GLDIM<x>"}}, "dimensions"),
    ({"dimensions": {"a": "CLASSID", "b": "CLASSID"}}, "dimensions"),
    ({"export_field": "STATE"}, "export_field"),
    ({"export_field": "my field"}, "export_field"),
    ({"date_format": "%d/%m"}, "date_format"),
    ({"sender_id": "x"}, "settings"),
]  # fmt: skip
