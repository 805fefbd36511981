"""QuickBooks Online's files, byte by byte and read back by the standard library's parsers."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from projections.exports.formats import quickbooks
from projections.exports.formats.target import Rendering
from projections.journals.journal import JournalPair
from subledger.errors import InvalidInput, NotRepresentable
from tests.golden.contract import Contract, Read, ReadLine
from tests.golden.journals_functional import (
    EXPORT_ID,
    GOLDENS,
    MAPPING,
    cases,
    is_debit,
    journal_of,
    overlong,
    rendering_of,
    renderings,
)
from tests.reading import csv_rows

# In CSV an account is known by its name; one without is by its number.
NUMBERS = {row.get("name", row["account"]): row["account"] for row in MAPPING.rows}
ACCOUNTS = {"1000": "35", "1100": "84", "2150": "91", "4000": "79", "-4100": "80", "6200": "12"}
CLASSES = {"PLATFORM": "5000000000000012", "Größe L": "5"}
COMPANY = {
    "level": "customer", "accounts": ACCOUNTS, "account_names": {"4000": "Income:Usage"},
    "dimensions": {"department": "location", "class": "class"}, "class_ids": CLASSES,
    "location_ids": {"-R&D, EMEA": "3"}, "customers": {"cus-42": "24", 'Müller & Söhne, "GmbH"': "25"},
    "customer_names": {"cus-42": "Ünal & Co", 'Müller & Söhne, "GmbH"': "Müller"},
    "adjustment": True, "date_format": "%d/%m/%Y", "delimiter": ";",
}  # fmt: skip


def csv_documents(file: bytes, rendering: Rendering) -> list[Read]:
    documents: list[Read] = []
    for row in csv_rows(file):
        if not documents or documents[-1].reference != row["Journal No"]:
            documents.append(Read(row["Journal No"], rendering.journal.functional_currency, ()))
        debit, amount = is_debit(row["Debits"], row["Credits"])
        reference = row["Description"].partition(" ")[0]
        account = NUMBERS[row["Account Name"].removeprefix("'")]
        line = ReadLine(reference, account, debit, amount)
        documents[-1] = documents[-1]._replace(lines=(*documents[-1].lines, line))
    return documents


def json_documents(file: bytes, rendering: Rendering) -> list[Read]:
    documents = []
    for body in json.loads(file, parse_float=Decimal, parse_int=Decimal):
        assert body["TxnDate"] == "2026-02-28"
        assert len(body["DocNumber"]) <= 21
        assert len(body["PrivateNote"]) <= 4000
        lines = []
        for line in body["Line"]:
            assert line["DetailType"] == "JournalEntryLineDetail"
            assert len(line["Description"]) <= 4000
            detail = line["JournalEntryLineDetail"]
            debit = {"Debit": True, "Credit": False}[detail["PostingType"]]
            reference = line["Description"].partition(" ")[0]
            lines.append(ReadLine(reference, detail["AccountRef"]["value"], debit, line["Amount"]))
        documents.append(Read(body["DocNumber"], rendering.journal.functional_currency, tuple(lines)))
    return documents


CONTRACTS = tuple(
    Contract(
        form=f"quickbooks-{extension}",
        cases=cases(quickbooks.TARGET),
        golden=lambda case, _, extension=extension: f"{case}quickbooks.{extension}",
        read=read,
        renderings=renderings(quickbooks.TARGET),
        all_decimals=False,
    )
    for extension, read in (("csv", csv_documents), ("json", json_documents))
)


def test_csv_names_what_the_api_knows_by_id() -> None:
    rendering = rendering_of(quickbooks.TARGET, COMPANY)
    rows = csv_rows(quickbooks.csv_file(rendering), ";")
    assert {row["Journal Date"] for row in rows} == {"28/02/2026"}
    usage = [row for row in rows if row["Account Name"] == "Income:Usage"]
    assert {row["Class"] for row in usage} == {"Größe L"}
    assert {row["Name"] for row in rows} == {"Ünal & Co", "Müller"}
    assert {row["Location"] for row in rows} == {"", "'-R&D, EMEA"}
    (body,) = json.loads(quickbooks.json_file(rendering))
    assert body["Adjustment"] is True
    assert body["CurrencyRef"] == {"value": "USD"}
    assert f"export={EXPORT_ID} journal=acme-us-2026-02-2" in body["PrivateNote"]
    details = [line["JournalEntryLineDetail"] for line in body["Line"]]
    assert {detail["AccountRef"]["value"] for detail in details} == set(ACCOUNTS.values())
    assert {detail["ClassRef"]["value"] for detail in details if "ClassRef" in detail} == set(CLASSES.values())
    assert {detail["DepartmentRef"]["value"] for detail in details if "DepartmentRef" in detail} == {"3"}
    customers = [detail["Entity"] for detail in details if "Entity" in detail]
    assert len(customers) == len(details)
    assert {customer["EntityRef"]["value"] for customer in customers} == {"24", "25"}
    assert {customer["Type"] for customer in customers} == {"Customer"}


@pytest.mark.parametrize(
    ("field", "ids", "missing"),
    [
        ("accounts", {"4000": "79"}, "1000"),
        ("class_ids", {"PLATFORM": "5"}, "Größe L"),
        ("location_ids", {"W": "3"}, "US01"),
        ("customers", {"cus-7": "3"}, "cus-42"),
        ("customer_names", {"cus-7": "Ann"}, "cus-42"),
    ],
)
def test_nothing_of_ours_is_sent_as_an_id_where_others_have_one(field: str, ids: dict[str, str], missing: str) -> None:
    written = quickbooks.csv_file if field == "customer_names" else quickbooks.json_file
    with pytest.raises(InvalidInput) as refused:
        written(rendering_of(quickbooks.TARGET, {field: ids, "level": "customer"}))
    assert (refused.value.field, refused.value.expected) == (field, f"an id for {missing}")


def test_a_number_that_is_too_long_keeps_its_end_and_stays_apart() -> None:
    journal = journal_of(GOLDENS[""][1], ledger="acme-of-north-america")
    rendering = rendering_of(quickbooks.TARGET, {"lines": 2}, journal=journal)
    numbers = [document.reference for document in json_documents(quickbooks.json_file(rendering), rendering)]
    assert len(set(numbers)) == len(numbers) == 7
    assert all(len(number) <= 21 for number in numbers)
    assert all(number.startswith(f"2026-02-2-p{part}") for part, number in enumerate(numbers, start=1))


def test_a_long_title_leaves_the_export_and_the_journal_in_the_note() -> None:
    rendering = rendering_of(quickbooks.TARGET, {"title": "t" * 5000})
    (body,) = json.loads(quickbooks.json_file(rendering))
    assert len(body["PrivateNote"]) == 4000
    assert body["PrivateNote"].endswith(f"…, subledger export={EXPORT_ID} journal=acme-us-2026-02-2")


def test_a_text_that_is_too_long_is_shortened_after_its_reference() -> None:
    rendering = overlong(quickbooks.TARGET)
    description = csv_rows(quickbooks.csv_file(rendering))[0]["Description"]
    assert (len(description), description[:4], description[-1]) == (4000, "L1 =", "…")
    assert json.loads(quickbooks.json_file(rendering))[0]["Line"][0]["Description"] == description


def test_amounts_that_do_not_fit_are_refused() -> None:
    for amount, home in ((1251, "KWD"), (10**13, "USD")):
        pair = JournalPair(
            debit="cash", credit="fx_gain_loss", currency=home, amount_minor=amount, functional_minor=amount
        )
        with pytest.raises(NotRepresentable):
            rendering_of(quickbooks.TARGET, {}, (pair,), journal=journal_of((pair,), home=home))


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"level": "event"}, "level"),
    ({"lines": 1}, "lines"),
    ({"dimensions": {"department": "department"}}, "dimensions[...]"),
    ({"dimensions": {"department": "location", "location": "location"}}, "dimensions"),
    ({"class_ids": {"PLATFORM": 12}}, "class_ids[...]"),
    ({"delimiter": "\t"}, "delimiter"),
    ({"date_format": "%m/%Y"}, "date_format"),
    ({"adjustment": 1}, "adjustment"),
    ({"realm": "x"}, "settings"),
]  # fmt: skip
