"""Every format, byte by byte, of one hand-made journal with fixed ids: three currencies, own dimensions, odd texts.

The files beside this one are what was agreed on. A difference is a change of what companies import: if it is meant,
write the new file and say so in the CHANGELOG.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import subprocess
from datetime import date
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from beancount import loader
from beancount.core.data import Open, Transaction

from projections.journals.detail import DetailEntry, DetailLine
from projections.journals.formats import FORMATS, NOT_YET_FORMATS, format_named
from projections.journals.formats.neutral import spreadsheet_text
from projections.journals.formats.plaintext import beancount_component, hledger_account, hledger_tag_value
from projections.journals.mapping import GLAccount
from projections.journals.summary import Journal, JournalLine, check_balanced
from subledger.accounts import Side
from subledger.errors import NotSupportedYet, UnknownFormat
from subledger.events import canonical
from subledger.periods import Period

GOLDEN = Path(__file__).parent
DEBIT, CREDIT = Side.DEBIT, Side.CREDIT
RECEIVABLE = GLAccount(number="1100", name="Accounts receivable")
PREPAID = GLAccount(number="2150", name="=SUM(A1:A9)", dimensions=(("class", "@home"), ("department", "R&D, EMEA")))
USAGE = GLAccount(number="-4000", name='Usage "metered"', dimensions=(("department", "Sales"),))


def _lines() -> tuple[JournalLine, ...]:
    def line(number: int, role: str, side: Side, account: GLAccount, amounts: str, **more: str) -> JournalLine:
        currency, amount, functional, entries = amounts.split()
        return JournalLine(
            number=number, role=role, side=side, account=account, currency=currency, amount_minor=int(amount),
            functional_minor=int(functional), entries=int(entries), **more,
        )  # fmt: skip

    return (
        line(1, "accounts_receivable", DEBIT, RECEIVABLE, "EUR 100000 120000 2", credit_kind="paid"),
        line(2, "prepaid_liability", CREDIT, PREPAID, "EUR 100000 120000 2", credit_kind="paid"),
        line(3, "accounts_receivable", DEBIT, RECEIVABLE, "JPY 500 333 1", credit_kind="paid"),
        line(4, "prepaid_liability", CREDIT, PREPAID, "JPY 500 333 1", credit_kind="paid"),
        line(5, "prepaid_liability", DEBIT, PREPAID, "USD 5 5 913", product="+api", credit_kind="paid", pool="p-1"),
        line(6, "prepaid_liability", CREDIT, PREPAID, "USD 2 2 1", product="+api", credit_kind="paid", pool="p-1"),
        line(7, "usage_revenue", DEBIT, USAGE, "USD 2 2 1", product="+api", credit_kind="paid", pool="p-1"),
        line(8, "usage_revenue", CREDIT, USAGE, "USD 5 5 913", product="+api", credit_kind="paid", pool="p-1"),
    )


JOURNAL = Journal(
    ledger="acme-us", entity="US01", functional_currency="USD", period=Period(2026, 2), number=2, from_cut=3, to_cut=5,
    mapping=4, lines=_lines(),
)  # fmt: skip
EMPTY = Journal(
    ledger="acme-us", entity="US01", functional_currency="USD", period=Period(2026, 3), number=1, from_cut=0, to_cut=5,
    mapping=4, lines=(),
)  # fmt: skip


def _entry(
    position: int, kind: str, event: str, amount: int, functional: int, currency: str, debit: str, credit: str
) -> DetailEntry:  # fmt: skip
    accounts = {"accounts_receivable": RECEIVABLE, "prepaid_liability": PREPAID, "usage_revenue": USAGE}
    return DetailEntry(
        position=position, number=1, kind=kind, source="billing", event_id=event, customer='cus_42 "Ü", -1',
        event_type="credits.purchased" if kind == "purchase" else "credits.consumed", block_id="blk/7:é",
        unit="credit", credits=Decimal("1000.50"), currency=currency, accounting_date=date(2026, 2, 2),
        effective_date=date(2026, 1, 31), credit_kind="paid", product="" if kind == "purchase" else "api [2026-01-01]",
        lines=tuple(
            DetailLine(role=role, account=accounts[role], side=side, amount_minor=amount, functional_minor=functional)
            for role, side in ((debit, DEBIT), (credit, CREDIT))
        ),
    )  # fmt: skip


ENTRIES = (
    _entry(17, "purchase", "inv-1001/line-3", 100000, 120000, "EUR", "accounts_receivable", "prepaid_liability"),
    _entry(18, "purchase", "inv:1002\\", 500, 333, "JPY", "accounts_receivable", "prepaid_liability"),
    _entry(21, "consumption", "u-1, u-2", 5, 5, "USD", "prepaid_liability", "usage_revenue"),
)


def rendered(name: str, *, detail: bool = False) -> str:
    form = format_named(name, detail=detail)
    if not detail:
        return form.render(JOURNAL)
    assert form.render_detail is not None
    return "".join(form.render_detail(JOURNAL, iter(ENTRIES)))


CASES = [
    ("csv", False),
    ("json", False),
    ("beancount", False),
    ("hledger", False),
    ("beancount", True),
    ("hledger", True),
]


@pytest.mark.parametrize(("name", "detail"), CASES)
def test_a_rendering_is_the_agreed_file_to_the_byte(name: str, detail: bool) -> None:
    path = GOLDEN / f"{'detail' if detail else 'summary'}.{FORMATS[name].extension}"
    assert rendered(name, detail=detail).encode() == path.read_bytes()


def test_the_journal_itself_has_the_agreed_hash() -> None:
    check_balanced(JOURNAL.lines)
    # Nothing of it is lost when it is kept, however large.
    large = msgspec.structs.replace(JOURNAL.lines[0], amount_minor=10**18)
    kept = msgspec.structs.replace(JOURNAL, lines=(large,)).lines_text
    assert '"amount_minor":"1000000000000000000"' in kept
    assert JOURNAL.content_hash == "bf22db6ca27fd84a0736dc646aef3b4c455d6ba0b5c235bab57215ae5fa115a0"


def test_csv_amounts_are_numbers_with_their_currencys_places_and_balance() -> None:
    rows = list(csv.DictReader(io.StringIO(rendered("csv"))))
    assert [(row["debit"], row["credit"]) for row in rows[:4]] == [
        ("1000.00", "0.00"), ("0.00", "1000.00"), ("500", "0"), ("0", "500"),
    ]  # fmt: skip
    assert [row["functional_debit"] for row in rows[2:4]] == ["3.33", "0.00"]
    for currency in ("EUR", "JPY", "USD"):
        own = [row for row in rows if row["currency"] == currency]
        assert sum(Decimal(row["debit"]) for row in own) == sum(Decimal(row["credit"]) for row in own) > 0


def test_csv_texts_are_no_formulas() -> None:
    rows = list(csv.DictReader(io.StringIO(rendered("csv"))))
    assert rows[1]["account_name"] == "'=SUM(A1:A9)"
    assert rows[1]["dim_class"] == "'@home"
    assert rows[1]["dim_department"] == "R&D, EMEA"
    assert rows[7]["account"] == "'-4000"
    assert rows[7]["product"] == "'+api"
    assert [spreadsheet_text(text) for text in ("\t1", "\r1", "a=1", "1-1", "")] == ["'\t1", "'\r1", "a=1", "1-1", ""]


def test_json_is_canonical_and_carries_its_own_hash() -> None:
    text = rendered("json")
    document = json.loads(text)
    assert canonical(document) + "\n" == text
    stated = document.pop("content_hash")
    assert hashlib.sha256(canonical(document).encode()).hexdigest() == stated
    assert document["journal_hash"] == JOURNAL.content_hash
    assert document["totals"][1] == {"currency": "JPY", "debit": "500", "credit": "500"}


def test_beancount_reads_every_text_back_as_it_was() -> None:
    entries, errors, _ = loader.load_string(rendered("beancount", detail=True))
    assert errors == []
    transactions = [entry for entry in entries if isinstance(entry, Transaction)]
    assert [entry.payee for entry in transactions] == [ENTRIES[0].customer] * 3
    assert [entry.meta["event"] for entry in transactions] == [entry.event_id for entry in ENTRIES]
    assert {entry.meta["block"] for entry in transactions} == {"blk/7:é"}
    assert {entry.meta["customer"] for entry in entries if isinstance(entry, Open)} == {ENTRIES[0].customer}
    assert loader.load_string(rendered("beancount"))[1] == []


@pytest.mark.skipif(shutil.which("hledger") is None, reason="hledger is not installed")
@pytest.mark.parametrize("detail", [False, True])
def test_hledger_finds_nothing_to_complain_about(detail: bool) -> None:
    done = subprocess.run(
        ["hledger", "-f", "-", "check", "--strict", "accounts", "commodities"],
        input=rendered("hledger", detail=detail), capture_output=True, text=True, env={"LANG": "C.UTF-8"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_journal_is_a_valid_file_without_lines(name: str) -> None:
    text = FORMATS[name].render(EMPTY)
    if name == "csv":
        assert len(list(csv.reader(io.StringIO(text)))) == 1
    elif name == "json":
        assert json.loads(text)["lines"] == []
    elif name == "beancount":
        assert loader.load_string(text)[:2] == ([], [])
    form = FORMATS[name]
    if form.render_detail is not None:
        assert " * " not in "".join(form.render_detail(EMPTY, iter(())))


def test_account_components_never_coincide() -> None:
    ids = ("a-b", "a--b", "a-2d-b", "a_b", "a b", "A-b", "a\u0301", "á", "-", "--", "-2d-", "2d", "Ａ", "١")
    assert len({beancount_component(name) for name in ids}) == len(ids)
    assert len({hledger_account("cash", name) for name in ids}) == len(ids)
    assert all(set(beancount_component(name)) <= set("abcdefA0123456789-") for name in ids)
    assert beancount_component("a-b_c") == "a--b-5f-c"
    assert hledger_account("cash", "a:b  c") == "assets:cash:a%3Ab%20%20c"
    assert hledger_tag_value("a, b [2026-01-01] 100%") == "a%2C%20b%20%5B2026-01-01%5D%20100%25"


def test_every_format_of_the_contract_is_there_or_known_to_be_missing() -> None:
    assert (*FORMATS, *NOT_YET_FORMATS) == (
        "csv", "json", "beancount", "hledger", "netsuite-csv", "netsuite-json", "intacct-csv", "intacct-xml",
        "quickbooks-csv", "quickbooks-json", "sap-csv", "sap-xml", "oracle-fbdi", "dynamics-csv", "dynamics-json",
    )  # fmt: skip
    for name in NOT_YET_FORMATS:
        with pytest.raises(NotSupportedYet):
            format_named(name)
    with pytest.raises(UnknownFormat):
        format_named("pdf")
    assert [name for name, form in FORMATS.items() if form.supports_detail] == ["beancount", "hledger"]
