"""NetSuite's files, byte by byte and read back by the standard library's parsers."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import pytest

from projections.exports.formats import netsuite
from projections.exports.formats.target import Rendering
from projections.journals.journal import JournalPair
from subledger.errors import InvalidInput, NotRepresentable
from tests.golden.contract import Contract, Read, ReadLine
from tests.golden.journals_functional import (
    EXPORT_ID,
    MULLER,
    PAIRS,
    cases,
    is_debit,
    journal_of,
    overlong,
    rendering_of,
    renderings,
)
from tests.reading import csv_rows

LINE = "Journal Entry - Line: "
OURS = {
    "subsidiary": "Acme, Inc", "subsidiary_id": "1", "currency": "US Dollar", "currency_id": "1",
    "posting_period_ids": {"2026-02": "214"}, "accounts": {"2150": "321", "4000": "401"},
    "segment_ids": {"location": {"US01": "7", "W": "8"}}, "customers": {"cus-42": "24", MULLER: "25"},
    "customer_names": {"cus-42": "=Customer 42"}, "approved": True,
    "dimensions": {"department": "department", "class": "cseg_size", "location": "location"},
    "export_field": "custbody_subledger_export", "line_field": "custcol_subledger_line",
}  # fmt: skip


def csv_documents(file: bytes, rendering: Rendering) -> list[Read]:
    """Rows of one external id follow each other, with the same header values in each."""
    documents: list[Read] = []
    headers: list[tuple[str, ...]] = []
    for row in csv_rows(file):
        header = tuple(value for name, value in row.items() if not name.startswith(LINE))
        if not documents or documents[-1].reference != row["External ID"]:
            documents.append(Read(row["External ID"], rendering.journal.functional_currency, ()))
            headers.append(header)
        assert header == headers[-1]
        debit, amount = is_debit(row[f"{LINE}Debit"], row[f"{LINE}Credit"])
        reference = row[f"{LINE}Memo"].partition(" ")[0]
        assert all(len(row[name]) <= 999 for name in ("Memo", f"{LINE}Memo"))
        line = ReadLine(reference, row[f"{LINE}Account"].removeprefix("'"), debit, amount)
        documents[-1] = documents[-1]._replace(lines=(*documents[-1].lines, line))
    return documents


def json_documents(file: bytes, rendering: Rendering) -> list[Read]:
    documents = []
    for body in json.loads(file, parse_float=Decimal, parse_int=Decimal):
        lines = []
        for item in body["line"]["items"]:
            assert ("debit" in item) != ("credit" in item)
            amount = item["debit"] if "debit" in item else item["credit"]
            account = item["account"]["externalId"]
            lines.append(ReadLine(item["memo"].partition(" ")[0], account, "debit" in item, amount))
        documents.append(Read(body["externalId"], rendering.journal.functional_currency, tuple(lines)))
    return documents


def _with_ids(rendering: Rendering) -> Rendering:
    """The rendering with an internal id for each customer, because most ids of customers here are no external ids."""
    customers = sorted({line.customer for document in rendering.documents for line in document.lines} - {"cus-42"})
    ids = {customer: str(number) for number, customer in enumerate(customers, start=100)}
    return msgspec.structs.replace(rendering, settings=msgspec.structs.replace(rendering.settings, customers=ids))


def _known(make: Callable[[], Rendering]) -> Rendering:
    return _with_ids(make())


CONTRACTS = tuple(
    Contract(
        form=f"netsuite-{extension}",
        cases={name: partial(_known, make) for name, make in cases(netsuite.TARGET).items()},
        golden=lambda case, _, extension=extension: f"{case}netsuite.{extension}",
        read=read,
        renderings=renderings(netsuite.TARGET).map(_with_ids),
        all_decimals=False,
    )
    for extension, read in (("csv", csv_documents), ("json", json_documents))
)


def test_csv_names_what_rest_knows_by_id() -> None:
    rendering = rendering_of(netsuite.TARGET, {"level": "customer", **OURS})
    row = next(row for row in csv_rows(netsuite.csv_file(rendering)) if row[f"{LINE}cseg_size"])
    assert [row[name] for name in ("Subsidiary", "Currency", "Posting Period", "Date", "Approved")] == [
        "Acme, Inc",
        "US Dollar",
        "Feb 2026",
        "02/28/2026",
        "Yes",
    ]
    assert row[f"{LINE}cseg_size"] == "Größe L"
    assert row["custbody_subledger_export"] == EXPORT_ID
    assert row[f"{LINE}Class"] == ""
    names = {row[f"{LINE}Name"] for row in csv_rows(netsuite.csv_file(rendering))}
    assert names == {"'=Customer 42", MULLER}
    (body,) = json.loads(netsuite.json_file(rendering))
    assert (body["subsidiary"], body["currency"], body["postingPeriod"]) == ({"id": "1"}, {"id": "1"}, {"id": "214"})
    assert body["approved"] is True
    assert body["custbody_subledger_export"] == EXPORT_ID
    items = body["line"]["items"]
    assert {"id": "321"} in [item["account"] for item in items]
    assert {"externalId": "1100"} in [item["account"] for item in items]
    assert {item["location"]["id"] for item in items if "location" in item} == {"7", "8"}
    assert {item["cseg_size"]["id"] for item in items if "cseg_size" in item} == {"Größe L", "PLATFORM"}
    entities = [item["entity"] for item in items if "entity" in item]
    assert {"id": "24"} in entities
    assert {"id": "25"} in entities
    assert [item["custcol_subledger_line"] for item in items] == [f"L{n}" for n in range(1, len(items) + 1)]


@pytest.mark.parametrize("customer", [MULLER, "a|b", "cus 42", "cus-42\u0661"])
def test_a_customer_that_cannot_be_an_external_id_needs_an_internal_one(customer: str) -> None:
    pair = msgspec.structs.replace(PAIRS[0], customer=customer)
    with pytest.raises(InvalidInput) as refused:
        netsuite.json_file(rendering_of(netsuite.TARGET, {"level": "customer"}, (pair,)))
    assert refused.value.field == "customers"
    given = {"level": "customer", "customers": {customer: "24"}}
    (body,) = json.loads(netsuite.json_file(rendering_of(netsuite.TARGET, given, (pair,))))
    assert {item["entity"]["id"] for item in body["line"]["items"]} == {"24"}


def test_without_a_field_of_its_own_a_lines_reference_begins_its_memo() -> None:
    rendering = _with_ids(rendering_of(netsuite.TARGET, {}))
    (body,) = json.loads(netsuite.json_file(rendering))
    items = body["line"]["items"]
    assert [item["memo"].partition(" ")[0] for item in items] == [f"L{n}" for n in range(1, len(items) + 1)]
    assert not [name for name in (*body, *items[0]) if name.startswith("cust")]
    assert not [name for name in csv_rows(netsuite.csv_file(rendering))[0] if "cust" in name]


@pytest.mark.parametrize(
    ("field", "ids", "missing"),
    [("posting_period_ids", {"2026-01": "213"}, "2026-02"), ("segment_ids", {"location": {"US01": "7"}}, "W")],
)
def test_nothing_of_ours_is_sent_as_an_id_where_others_have_one(field: str, ids: dict[str, Any], missing: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        netsuite.json_file(_with_ids(rendering_of(netsuite.TARGET, {field: ids})))
    assert (refused.value.field, refused.value.expected) == (field, f"an id for {missing}")


def test_a_long_title_leaves_the_journals_name_in_the_memo() -> None:
    rendering = rendering_of(netsuite.TARGET, {"title": "t" * 2000, "lines": 2})
    memos = {row["Memo"] for row in csv_rows(netsuite.csv_file(rendering))}
    assert {len(memo) for memo in memos} == {999}
    assert all(f"…, acme-us-2026-02-2, part {part} of " in " ".join(memos) for part in (1, 2))


def test_a_text_that_is_too_long_is_shortened_after_its_reference() -> None:
    rendering = overlong(netsuite.TARGET)
    memo = csv_rows(netsuite.csv_file(rendering))[0][f"{LINE}Memo"]
    assert (len(memo), memo[:4], memo[-1]) == (999, "L1 =", "…")
    assert len(json.loads(netsuite.json_file(rendering))[0]["line"]["items"][0]["memo"]) == 999


def test_amounts_have_the_two_decimals_and_ten_digits_that_the_import_takes() -> None:
    def amounts(functional: int, home: str) -> list[tuple[str, str]]:
        pair = JournalPair(
            debit="cash", credit="fx_gain_loss", currency=home, amount_minor=functional, functional_minor=functional
        )
        rendering = rendering_of(netsuite.TARGET, {}, (pair,), journal=journal_of((pair,), home=home))
        return [(row[f"{LINE}Debit"], row[f"{LINE}Credit"]) for row in csv_rows(netsuite.csv_file(rendering))]

    assert amounts(1250, "KWD") == [("1.25", ""), ("", "1.25")]
    assert amounts(1250, "JPY") == [("1250", ""), ("", "1250")]
    assert amounts(10**12 - 1, "USD")[0] == ("9999999999.99", "")
    for amount, home in ((1251, "KWD"), (10**12, "USD")):
        with pytest.raises(NotRepresentable):
            amounts(amount, home)


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"level": "event"}, "level"),
    ({"lines": 1}, "lines"),
    ({"lines": -3}, "lines"),
    ({"date_format": ""}, "date_format"),
    ({"date_format": "%d.%m."}, "date_format"),
    ({"posting_period": ""}, "posting_period"),
    ({"export_field": "memo"}, "export_field"),
    ({"line_field": "custbody_x"}, "line_field"),
    ({"approved": "yes"}, "approved"),
    ({"accounts": {"1000": 7}}, "accounts[...]"),
    ({"dimensions": {"region": "memo"}}, "dimensions"),
    ({"dimensions": {"region": "class", "class": "class"}}, "dimensions"),
    ({"subsidary": "1"}, "settings"),
]  # fmt: skip
