"""Dynamics' data package and OData bodies: to the byte, and read back by parsers that know nothing of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from decimal import Decimal
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from projections.account_mapping.mapping import GLAccount
from projections.exports.formats import dynamics
from projections.exports.formats.target import Rendering
from projections.journals.journal import JournalPair
from subledger.errors import InvalidInput
from tests.golden.contract import Contract, Read, ReadLine, assert_is_the_journal
from tests.golden.journals_made import PAIRS, journal_of, rendering_of, renderings
from tests.reading import zip_members

GOLDEN = Path(__file__).parent
XML = "{http://schemas.microsoft.com/dynamics/2015/01/DataManagement}"
CASES: dict[str, dict[str, Any]] = {
    "currencies": {"level": "block", "company": "usmf", "tags": ["line", "customer", "block_id"]},
    "empty": {"pairs": ()},
    "split": {
        "lines": 4,
        "batch_lines": 10,
        "account_format": ["department", "account"],
        "delimiter": "|",
        "date_format": "%m/%d/%Y",
        "journal_name": "PCSL",
    },
}


def rows_of(file: bytes) -> list[dict[str, str]]:
    """The entity's file: UTF-16 with a byte order mark, CRLF."""
    content = zip_members(file)["General journal.csv"]
    assert content[:2] == b"\xff\xfe"
    text = content.decode("utf-16")
    assert text.endswith("\r\n")
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def read_package(file: bytes, rendering: Rendering) -> Iterator[Read]:
    return _read(
        (
            (
                row["VOUCHER"],
                row["CURRENCYCODE"],
                row["DOCUMENT"],
                row["TEXT"],
                row["ACCOUNTDISPLAYVALUE"],
                Decimal(row["DEBITAMOUNT"]),
                Decimal(row["CREDITAMOUNT"]),
            )
            for row in rows_of(file)
        ),
        rendering,
    )


def read_json(file: bytes, rendering: Rendering) -> Iterator[Read]:
    lines = [line for journal in json.loads(file, parse_float=Decimal) for line in journal["lines"]]
    assert all(line["TransDate"] == "2026-01-31T12:00:00Z" for line in lines)
    names = ("Voucher", "CurrencyCode", "Document", "Text", "AccountDisplayValue")
    return _read(
        (
            (*(line[name] for name in names), Decimal(line["DebitAmount"]), Decimal(line["CreditAmount"]))
            for line in lines
        ),
        rendering,
    )


def _read(lines: Iterable[tuple[Any, ...]], rendering: Rendering) -> Iterator[Read]:
    account, delimiter = rendering.settings.account_format.index("account"), rendering.settings.delimiter
    for (voucher, currency), of_voucher in groupby(lines, key=lambda line: line[:2]):
        found = []
        for _, _, document, text, display, debit, credit in of_voucher:
            assert document == voucher
            assert len(voucher) <= 20
            assert len(text) <= 60
            assert not (debit and credit)
            number = display.split(delimiter)[account]
            found.append(ReadLine(text.split(" ")[0], number, bool(debit), debit or credit))
        yield Read(voucher, currency, tuple(found))


def rendered(case: str) -> Rendering:
    return rendering_of(dynamics.TARGET, **CASES[case])


def golden(case: str, member: str) -> str:
    return f"dynamics-{case}-{member.replace(' ', '-').lower()}" if member else f"dynamics-{case}.json"


def assert_batches(rendering: Rendering) -> None:
    """Journals are whole vouchers within their size, and hold all of them; the files say the same."""
    batches = dynamics.batches(rendering)
    assert [voucher for batch in batches for voucher in batch.vouchers] == list(rendering.documents)
    sizes = [sum(len(voucher.lines) for voucher in batch.vouchers) for batch in batches]
    assert all(0 < size <= rendering.settings.batch_lines for size in sizes)
    assert len({batch.number for batch in batches}) == len({batch.description for batch in batches}) == len(batches)
    rows = rows_of(dynamics.zip_file(rendering))
    for batch, size in zip(batches, sizes, strict=True):
        own = [row for row in rows if row["JOURNALBATCHNUMBER"] == batch.number]
        assert [row["LINENUMBER"] for row in own] == [str(number + 1) for number in range(size)]
        assert {(row["JOURNALNAME"], row["DESCRIPTION"]) for row in own} == {
            (rendering.settings.journal_name, batch.description)
        }
    bodies = json.loads(dynamics.json_file(rendering))
    assert [body["header"]["Description"] for body in bodies] == [batch.description for batch in batches]
    assert [len(body["lines"]) for body in bodies] == sizes


CONTRACTS = tuple(
    Contract(
        form=form,
        cases={case: partial(rendered, case) for case in CASES},
        golden=golden,
        read=read,
        renderings=renderings(dynamics.TARGET, batch_lines=10),
        also=assert_batches,
    )
    for form, read in (("dynamics-csv", read_package), ("dynamics-json", read_json))
)


def test_a_month_of_many_lines_is_vouchers_of_ten_in_journals_of_ten_thousand() -> None:
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
        for number in range(5_003)
    )
    rendering = rendering_of(dynamics.TARGET, pairs, level="customer")
    batches = dynamics.batches(rendering)
    assert [len(batch.vouchers) for batch in batches] == [1_000, 1]
    assert [len(batch.vouchers[0].lines) for batch in batches] == [10, 6]
    assert all(len(batch.number) == 10 and len(batch.description) <= 60 for batch in batches)
    assert_is_the_journal(read_package(dynamics.zip_file(rendering), rendering), rendering)


@pytest.mark.parametrize("case", CASES)
def test_the_manifest_maps_every_column_and_generates_none(case: str) -> None:
    found = zip_members(dynamics.zip_file(rendered(case)))
    assert list(found) == ["Manifest.xml", "PackageHeader.xml", "General journal.csv"]
    assert all(content.endswith(b">\r\n") for name, content in found.items() if name.endswith(".xml"))
    manifest = ElementTree.fromstring(found["Manifest.xml"])
    [entity] = manifest.iterfind(f"{XML}PackageEntityList/{XML}DataManagementPackageEntityData")
    assert entity.findtext(f"{XML}EntityName") == "General journal"
    assert entity.findtext(f"{XML}SourceFormat") == "CSV-Unicode"
    assert entity.findtext(f"{XML}InputFilePath") in found
    maps = entity.findall(f"{XML}EntityMapList/{XML}EntityMap")
    columns = found["General journal.csv"].decode("utf-16").split("\r\n")[0].split(",")
    assert [each.findtext(f"{XML}EntityField") for each in maps] == columns
    assert [each.findtext(f"{XML}XMLField") for each in maps] == columns
    assert {each.findtext(f"{XML}IsAutoGenerated") for each in maps} == {"false"}
    header = ElementTree.fromstring(found["PackageHeader.xml"])
    assert header.findtext(f"{XML}Description") == manifest.findtext(f"{XML}Description") == rendered(case).export_id


def test_an_account_has_its_delimiters_where_it_has_no_dimensions() -> None:
    displays = {row["ACCOUNTDISPLAYVALUE"] for row in rows_of(dynamics.zip_file(rendered("currencies")))}
    assert {"4010-Sales-Platform-", "1100---", "4090--Platform-"} <= displays


def test_financial_tags_say_the_line_the_customer_and_the_block() -> None:
    tags = [row["FINTAGDISPLAYVALUE"] for row in rows_of(dynamics.zip_file(rendered("currencies")))]
    assert tags[0].startswith("L1|")
    assert "L2|cus_1|blk-1" in tags
    odd = JournalPair(
        debit="accounts_receivable",
        credit="prepaid_liability",
        currency="USD",
        amount_minor=1,
        functional_minor=1,
        customer="a|b",
    )
    [first, _] = rows_of(
        dynamics.zip_file(rendering_of(dynamics.TARGET, (odd,), level="customer", tags=["customer", "export"]))
    )
    assert first["FINTAGDISPLAYVALUE"] == "a b|acme-us-2026-01-1-export"


def test_a_value_with_the_delimiter_in_it_is_refused_rather_than_read_as_another_account() -> None:
    rendering = rendering_of(dynamics.TARGET, PAIRS)
    [document, *_] = rendering.documents
    account = GLAccount(number="1050", name="", dimensions=(("department", "R-D"),))
    changed = replace(document, lines=tuple(replace(line, account=account) for line in document.lines))
    for render in (dynamics.zip_file, dynamics.json_file):
        with pytest.raises(InvalidInput) as refused:
            render(replace(rendering, documents=(changed,)))
        assert (refused.value.field, refused.value.found) == ("delimiter", "R-D")


def test_amounts_are_the_functional_ones_alone() -> None:
    assert {row["CURRENCYCODE"] for row in rows_of(dynamics.zip_file(rendered("currencies")))} == {"USD"}
    assert {line.currency for line in journal_of(PAIRS).lines} == {"EUR", "USD"}


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"company": "usmf1"}, "company"), ({"journal_name": ""}, "journal_name"), ({"lines": 1}, "lines"),
    ({"account_format": ["department"]}, "account_format"), ({"delimiter": "/"}, "delimiter"),
    ({"tags": ["colour"]}, "tags[0]"), ({"batch_lines": 10_001}, "batch_lines"),
    ({"batch_lines": 9}, "batch_lines"), ({"tag_delimiter": ""}, "tag_delimiter"), ({"name": "x"}, "settings"),
]  # fmt: skip
