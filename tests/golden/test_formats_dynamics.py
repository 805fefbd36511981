"""Dynamics' data package and OData bodies: to the byte, and read back by parsers that know nothing of them."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from projections.journals.formats import dynamics
from projections.journals.formats.target import Rendering, read_settings
from projections.journals.mapping import GLAccount
from projections.journals.pairs import Pair
from subledger.errors import InvalidInput
from tests.golden.journals_made import (
    PAIRS,
    Read,
    ReadLine,
    assert_is_the_journal,
    journal_of,
    journals,
    levels,
    rendering_of,
)

GOLDEN = Path(__file__).parent
XML = "{http://schemas.microsoft.com/dynamics/2015/01/DataManagement}"
CASES: dict[str, dict[str, Any]] = {
    "currencies": {"level": "block", "company": "usmf", "tags": ["line", "customer", "block_id"]},
    "empty": {"pairs": ()},
    "split": {
        "lines": 4, "batch_lines": 10, "account_format": ["department", "account"], "delimiter": "|",
        "date_format": "%m/%d/%Y", "journal_name": "PCSL",
    },
}  # fmt: skip


def members(file: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(file)) as archive:
        assert archive.testzip() is None
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        return {name: archive.read(name) for name in archive.namelist()}


def rows_of(file: bytes) -> list[dict[str, str]]:
    """The entity's file: UTF-16 with a byte order mark, CRLF."""
    content = members(file)["General journal.csv"]
    assert content[:2] == b"\xff\xfe"
    text = content.decode("utf-16")
    assert text.endswith("\r\n")
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def read_package(file: bytes, *, account: int = 0, delimiter: str = "-") -> Iterator[Read]:
    return _read(
        (
            (
                row["VOUCHER"], row["CURRENCYCODE"], row["DOCUMENT"], row["TEXT"], row["ACCOUNTDISPLAYVALUE"],
                Decimal(row["DEBITAMOUNT"]), Decimal(row["CREDITAMOUNT"]),
            )
            for row in rows_of(file)
        ),
        account, delimiter,
    )  # fmt: skip


def read_json(file: bytes, *, account: int = 0, delimiter: str = "-") -> Iterator[Read]:
    lines = [line for journal in json.loads(file, parse_float=Decimal) for line in journal["lines"]]
    assert all(line["TransDate"] == "2026-01-31T12:00:00Z" for line in lines)
    names = ("Voucher", "CurrencyCode", "Document", "Text", "AccountDisplayValue")
    return _read(
        (
            (*(line[name] for name in names), Decimal(line["DebitAmount"]), Decimal(line["CreditAmount"]))
            for line in lines
        ),
        account,
        delimiter,
    )


def _read(lines: Iterable[tuple[Any, ...]], account: int, delimiter: str) -> Iterator[Read]:
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


def place_of_account(case: str) -> dict[str, Any]:
    given: Mapping[str, Any] = CASES[case]
    return {
        "account": given.get("account_format", ["account"]).index("account"), "delimiter": given.get("delimiter", "-"),
    }  # fmt: skip


def golden(case: str, member: str) -> Path:
    return GOLDEN / f"dynamics-{case}-{member.replace(' ', '-').lower()}"


@pytest.mark.parametrize("case", CASES)
def test_the_files_are_the_agreed_ones_to_the_byte(case: str) -> None:
    file = dynamics.zip_file(rendered(case))
    found = members(file)
    assert list(found) == ["Manifest.xml", "PackageHeader.xml", "General journal.csv"]
    assert found == {member: golden(case, member).read_bytes() for member in found}
    assert file == dynamics.zip_file(rendered(case))
    assert dynamics.json_file(rendered(case)) == (GOLDEN / f"dynamics-{case}.json").read_bytes()


@pytest.mark.parametrize("case", CASES)
def test_what_is_read_back_is_the_journal(case: str) -> None:
    rendering = rendered(case)
    assert_is_the_journal(read_package(dynamics.zip_file(rendering), **place_of_account(case)), rendering)
    assert_is_the_journal(read_json(dynamics.json_file(rendering), **place_of_account(case)), rendering)


@given(journals(), levels, st.integers(2, 6))
def test_any_journal_is_read_back_from_documents_that_balance(
    journal: tuple[tuple[Pair, ...], str], level: str, lines: int
) -> None:
    pairs, home = journal
    rendering = rendering_of(dynamics.TARGET, pairs, functional_currency=home, level=level, lines=lines, batch_lines=10)
    assert_is_the_journal(read_package(dynamics.zip_file(rendering)), rendering)
    assert_is_the_journal(read_json(dynamics.json_file(rendering)), rendering)
    assert_batches(rendering)


def assert_batches(rendering: Rendering) -> None:
    """Journals are whole vouchers within their size, and hold all of them; the files say the same."""
    batches = dynamics.batches(rendering)
    assert [voucher for batch in batches for voucher in batch.vouchers] == list(rendering.postings)
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


def test_a_month_of_many_lines_is_vouchers_of_ten_in_journals_of_ten_thousand() -> None:
    pairs = tuple(
        Pair(
            debit="prepaid_liability", credit="usage_revenue", currency="USD", amount_minor=number + 1,
            functional_minor=number + 1, credit_kind="paid", customer=f"c{number:05}",
        )
        for number in range(5_003)
    )  # fmt: skip
    rendering = rendering_of(dynamics.TARGET, pairs, level="customer")
    batches = dynamics.batches(rendering)
    assert [len(batch.vouchers) for batch in batches] == [1_000, 1]
    assert [len(batch.vouchers[0].lines) for batch in batches] == [10, 6]
    assert all(len(batch.number) == 10 and len(batch.description) <= 60 for batch in batches)
    assert_is_the_journal(read_package(dynamics.zip_file(rendering)), rendering)


@pytest.mark.parametrize("case", CASES)
def test_the_manifest_maps_every_column_and_generates_none(case: str) -> None:
    found = members(dynamics.zip_file(rendered(case)))
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
    odd = Pair(
        debit="accounts_receivable", credit="prepaid_liability", currency="USD", amount_minor=1, functional_minor=1,
        customer="a|b",
    )  # fmt: skip
    [first, _] = rows_of(
        dynamics.zip_file(rendering_of(dynamics.TARGET, (odd,), level="customer", tags=["customer", "export"]))
    )
    assert first["FINTAGDISPLAYVALUE"] == "a b|acme-us-2026-01-1-export"


def test_a_value_with_the_delimiter_in_it_is_refused_rather_than_read_as_another_account() -> None:
    rendering = rendering_of(dynamics.TARGET, PAIRS)
    [posting, *_] = rendering.postings
    account = GLAccount(number="1050", name="", dimensions=(("department", "R-D"),))
    changed = replace(posting, lines=tuple(replace(line, account=account) for line in posting.lines))
    for render in (dynamics.zip_file, dynamics.json_file):
        with pytest.raises(InvalidInput) as refused:
            render(replace(rendering, postings=(changed,)))
        assert (refused.value.field, refused.value.found) == ("delimiter", "R-D")


def test_amounts_are_the_functional_ones_alone() -> None:
    assert {row["CURRENCYCODE"] for row in rows_of(dynamics.zip_file(rendered("currencies")))} == {"USD"}
    assert {line.currency for line in journal_of(PAIRS).lines} == {"EUR", "USD"}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"company": "usmf1"}, "company"), ({"journal_name": ""}, "journal_name"), ({"lines": 1}, "lines"),
        ({"account_format": ["department"]}, "account_format"), ({"delimiter": "/"}, "delimiter"),
        ({"tags": ["colour"]}, "tags[0]"), ({"batch_lines": 10_001}, "batch_lines"),
        ({"batch_lines": 9}, "batch_lines"), ({"tag_delimiter": ""}, "tag_delimiter"), ({"name": "x"}, "settings"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_with_their_field(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_settings(dynamics.TARGET.settings, given)
    assert refused.value.field == field
