"""SAP's two files: to the byte, and read back by parsers that know nothing of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from projections.exports.formats import sap
from projections.exports.formats.target import Rendering
from projections.journals.journal import JournalPair
from tests.golden.contract import Contract, Read, ReadLine, assert_is_the_journal
from tests.golden.journals_made import PAIRS, rendering_of, renderings

GOLDEN = Path(__file__).parent
SETTINGS = {"level": "block", "company_code": "1010"}
CASES: dict[str, dict[str, Any]] = {
    "currencies": {**SETTINGS},
    "empty": {**SETTINGS, "pairs": ()},
    "split": {**SETTINGS, "lines": 4, "separator": ";", "byte_order_mark": True, "signed_company_amounts": True},
}


def read_csv(file: bytes, rendering: Rendering) -> Iterator[Read]:
    """By the technical names, wherever they stand."""
    delimiter = rendering.settings.separator
    rows = list(csv.reader(io.StringIO(file.decode("utf-8-sig"), newline=""), delimiter=delimiter, strict=True))
    assert len({len(row) for row in rows}) == 1
    starts = [place for place, row in enumerate(rows) if row[1] == "Header"]
    for number, (start, end) in enumerate(pairwise([*starts, len(rows)]), start=1):
        assert rows[start][0] == str(number)
        header = dict(zip(rows[start + 1], rows[start + 3], strict=True))
        assert header["BLDAT"] == header["BUDAT"] == "20260131"
        names = rows[start + 7]
        items = [dict(zip(names, row, strict=True)) for row in rows[start + 9 : end] if any(row)]
        assert all(bool(item["WRSOL"]) != bool(item["WRHAB"]) for item in items)
        assert all(len(item["SGTXT"]) <= 50 and not item["SGTXT"].startswith("=") for item in items)
        yield Read(
            header["XBLNR"],
            header["WAERS"],
            tuple(
                ReadLine(
                    item["ZUONR"],
                    item["HKONT"],
                    bool(item["WRSOL"]),
                    Decimal(item["WRSOL"] or item["WRHAB"]),
                    abs(Decimal(item["DMBTR"])) if item["DMBTR"] else None,
                )
                for item in items
            ),
        )


def read_xml(file: bytes, _rendering: Rendering) -> Iterator[Read]:
    envelope = ElementTree.fromstring(file)
    bulk = envelope.find(
        "{http://schemas.xmlsoap.org/soap/envelope/}Body/{http://sap.com/xi/SAPSCORE/SFIN}JournalEntryBulkCreateRequest"
    )
    assert bulk is not None
    assert bulk.findtext("MessageHeader/CreationDateTime") == "2026-01-31T00:00:00Z"
    for request in bulk.iterfind("JournalEntryCreateRequest"):
        entry = request.find("JournalEntry")
        assert entry is not None
        reference = entry.findtext("DocumentReferenceID", "")
        assert request.findtext("MessageHeader/ID") == reference
        items = entry.findall("Item")
        currencies = {each.get("currencyCode") for item in items for each in item.iter("AmountInTransactionCurrency")}
        [currency] = currencies
        assert [item.findtext("ReferenceDocumentItem") for item in items] == [str(n + 1) for n in range(len(items))]
        yield Read(reference, currency or "", tuple(map(_item, items)))


def test_the_message_has_no_empty_elements() -> None:
    for case in CASES:
        envelope = ElementTree.fromstring(sap.xml_file(rendered(case)))
        bulk = next(node for node in envelope.iter() if node.tag.endswith("JournalEntryBulkCreateRequest"))
        assert [node.tag for node in bulk.iter() if not len(node) and not (node.text or "").strip()] == []


def _item(item: ElementTree.Element) -> ReadLine:
    """Amounts say their side by their sign, as the code beside them does."""
    debit = item.findtext("DebitCreditCode") == "S"
    amount = Decimal(item.findtext("AmountInTransactionCurrency", ""))
    functional = item.findtext("AmountInCompanyCodeCurrency")
    for each in (amount, Decimal(functional or 0)):
        assert not each or (each > 0) is debit
        assert str(each)[:2] != "-0" or each
    account = item.findtext("GLAccount", "")
    assert len(account) == 10
    return ReadLine(
        item.findtext("AssignmentReference", ""),
        account.lstrip("0"),
        debit,
        abs(amount),
        abs(Decimal(functional)) if functional else None,
    )


def rendered(case: str) -> Rendering:
    return rendering_of(sap.TARGET, **CASES[case])


CONTRACTS = tuple(
    Contract(
        form=f"sap-{extension}",
        cases={case: partial(rendered, case) for case in CASES},
        read=read,
        golden=lambda case, _, extension=extension: f"sap-{case}.{extension}",
        renderings=renderings(sap.TARGET),
    )
    for extension, read in (("csv", read_csv), ("xml", read_xml))
)


def test_a_line_of_company_currency_alone_has_nothing_in_the_documents() -> None:
    rendering = rendered("currencies")
    [*_, euros] = read_xml(sap.xml_file(rendering), rendering)
    gain = next(line for line in euros.lines if line.account == "7100")
    assert (euros.currency, gain.amount, gain.functional) == ("EUR", Decimal("0.00"), Decimal("33.00"))


def test_a_line_without_an_amount_in_its_currency_has_the_sign_of_its_side_in_the_file() -> None:
    rendering = rendered("currencies")
    rows = list(csv.DictReader(_items_of(sap.csv_file(rendering))))
    zeros = [row for row in rows if (row["WRSOL"] or row["WRHAB"]) == "0.00"]
    others = [row for row in rows if row not in zeros]
    assert zeros
    assert all((Decimal(row["DMBTR"]) < 0) is bool(row["WRHAB"]) for row in zeros)
    assert not any(row["DMBTR"].startswith("-") for row in others)


def _items_of(file: bytes) -> list[str]:
    """Returns the last document's items, below their technical names."""
    lines = file.decode().splitlines()
    start = max(number for number, line in enumerate(lines) if line.startswith(",BUKRS,HKONT"))
    return [lines[start], *lines[start + 2 :]]


def test_a_month_of_many_lines_is_documents_below_the_999_items_that_sap_takes() -> None:
    pairs = tuple(
        JournalPair(
            debit="prepaid_liability",
            credit="usage_revenue",
            currency="USD",
            amount_minor=number + 1,
            functional_minor=number + 1,
            credit_kind="paid",
            customer=f"c{number:05}",
        )
        for number in range(451)
    )
    rendering = rendering_of(sap.TARGET, pairs, level="customer")
    documents = tuple(read_xml(sap.xml_file(rendering), rendering))
    assert [len(document.lines) for document in documents] == [900, 2]
    assert_is_the_journal(documents, rendering)


def test_texts_stay_within_their_fields_and_say_the_month() -> None:
    envelope = ElementTree.fromstring(sap.xml_file(rendering_of(sap.TARGET, PAIRS, level="block", title="T" * 16)))
    assert {text.text for text in envelope.iter("DocumentHeaderText")} == {"T" * 16 + " 2026-01"}
    assert max(len(text.text or "") for text in envelope.iter("DocumentItemText")) == 50
    assert all(len(text.text or "") <= 16 for text in envelope.iter("DocumentReferenceID"))
    assert all(0 < len(text.text or "") <= 35 for text in envelope.iter("ID"))
    assert {text.text for text in envelope.iter("CostCenter")} == {"Ops", "Sales"}


def test_letters_that_xml_cannot_have_are_question_marks() -> None:
    pair = JournalPair(
        debit="accounts_receivable",
        credit="prepaid_liability",
        currency="USD",
        amount_minor=1,
        functional_minor=1,
        credit_kind="paid",
        customer="a\uffffb",
    )
    file = sap.xml_file(rendering_of(sap.TARGET, (pair,), level="customer"))
    assert "a?b" in (next(ElementTree.fromstring(file).iter("DocumentItemText")).text or "")


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"title": "T" * 17}, "title"), ({"company_code": "10101"}, "company_code"), ({"lines": 1}, "lines"),
    ({"document_type": "S"}, "document_type"), ({"separator": "|"}, "separator"), ({"level": "event"}, "level"),
    ({"user": ""}, "user"), ({"dimensions": {"department": "Department"}}, "dimensions[...]"),
    ({"company": "1010"}, "settings"),
]  # fmt: skip
