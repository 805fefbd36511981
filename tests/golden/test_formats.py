"""Every format, byte by byte, of one hand-made journal with fixed ids: three currencies, own dimensions, odd texts.

The files beside this one are what was agreed on. A difference is a change of what companies import: if it is meant,
write the new file and say so in the CHANGELOG.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import subprocess
import zipfile
from collections import defaultdict
from datetime import date
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from beancount import loader
from beancount.core.convert import get_weight
from beancount.core.data import Open, Transaction

from projections.account_mapping.mapping import GLAccount
from projections.exports.formats import FORMATS, format_named
from projections.exports.formats.plaintext import beancount_component, hledger_account, hledger_tag_value
from projections.exports.formats.target import Rendering
from projections.journals.detail import DetailEntry, DetailLine
from projections.journals.journal import Journal, JournalLine, check_balanced
from subledger.accounts import Side
from subledger.errors import NotSupportedYet, UnknownFormat
from subledger.events.envelope import canonical
from subledger.periods import Period
from tests.conftest import needs_hledger

GOLDEN = Path(__file__).parent
DEBIT, CREDIT = Side.DEBIT, Side.CREDIT
RECEIVABLE = GLAccount(number="1100", name="Accounts receivable")
PREPAID = GLAccount(number="2150", name="=SUM(A1:A9)", dimensions=(("class", "@home"), ("department", "R&D, EMEA")))
USAGE = GLAccount(number="-4000", name='Usage "metered"', dimensions=(("department", "Sales"),))


def _lines() -> tuple[JournalLine, ...]:
    def line(number: int, role: str, side: Side, account: GLAccount, amounts: str, **more: str) -> JournalLine:
        currency, amount, functional, entries = amounts.split()
        return JournalLine(
            number=number,
            role=role,
            side=side,
            account=account,
            currency=currency,
            amount_minor=int(amount),
            functional_minor=int(functional),
            entries=int(entries),
            **more,
        )

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
    ledger="acme-us",
    entity="US01",
    functional_currency="USD",
    period=Period(2026, 2),
    number=2,
    from_cut=3,
    to_cut=5,
    mapping=4,
    lines=_lines(),
)
ONE_CURRENCY = msgspec.structs.replace(JOURNAL, lines=tuple(line for line in _lines() if line.currency == "USD"))
EMPTY = Journal(
    ledger="acme-us",
    entity="US01",
    functional_currency="USD",
    period=Period(2026, 3),
    number=1,
    from_cut=0,
    to_cut=5,
    mapping=4,
    lines=(),
)


GAIN = GLAccount(number="7100", name="Exchange gains and losses")


def _remeasured() -> tuple[JournalLine, ...]:
    """Euros bought at 1.20 and remeasured at 1.233; a yen that rounds to no cent; dinars; and dollars."""
    lines = (
        ("accounts_receivable", DEBIT, RECEIVABLE, "EUR", 100000, 123300),
        ("prepaid_liability", CREDIT, PREPAID, "EUR", 100000, 120000),
        ("fx_gain_loss", CREDIT, GAIN, "EUR", 0, 3300),
        ("accounts_receivable", DEBIT, RECEIVABLE, "JPY", 1, 0),
        ("prepaid_liability", CREDIT, PREPAID, "JPY", 1, 0),
        ("accounts_receivable", DEBIT, RECEIVABLE, "KWD", 7, 2),
        ("prepaid_liability", CREDIT, PREPAID, "KWD", 7, 2),
        ("accounts_receivable", DEBIT, RECEIVABLE, "USD", 500, 500),
        ("prepaid_liability", CREDIT, PREPAID, "USD", 500, 500),
    )
    return tuple(
        JournalLine(
            number=number,
            role=role,
            side=side,
            account=account,
            currency=currency,
            amount_minor=amount,
            functional_minor=functional,
            entries=1,
        )
        for number, (role, side, account, currency, amount, functional) in enumerate(lines, start=1)
    )


CURRENCIES = msgspec.structs.replace(JOURNAL, lines=_remeasured())


def _entry(
    position: int, kind: str, event: str, amount: int, functional: int, currency: str, debit: str, credit: str
) -> DetailEntry:
    accounts = {
        "accounts_receivable": RECEIVABLE,
        "prepaid_liability": PREPAID,
        "usage_revenue": USAGE,
        "fx_gain_loss": GAIN,
    }
    return DetailEntry(
        position=position,
        number=1,
        kind=kind,
        source="billing",
        event_id=event,
        customer='cus_42 "Ü", -1',
        event_type="credits.purchased" if kind == "purchase" else "credits.consumed",
        block_id="blk/7:é",
        unit="credit",
        credits=Decimal("1000.50"),
        currency=currency,
        accounting_date=date(2026, 2, 2),
        effective_date=date(2026, 1, 31),
        credit_kind="paid",
        product="" if kind == "purchase" else "api [2026-01-01]",
        lines=tuple(
            DetailLine(role=role, account=accounts[role], side=side, amount_minor=amount, functional_minor=functional)
            for role, side in ((debit, DEBIT), (credit, CREDIT))
        ),
    )


ENTRIES = (
    _entry(17, "purchase", "inv-1001/line-3", 100000, 120000, "EUR", "accounts_receivable", "prepaid_liability"),
    _entry(18, "purchase", "inv:1002\\", 500, 333, "JPY", "accounts_receivable", "prepaid_liability"),
    _entry(21, "consumption", "u-1, u-2", 5, 5, "USD", "prepaid_liability", "usage_revenue"),
)


REMEASURED = (
    _entry(17, "purchase", "inv-1", 100000, 120000, "EUR", "accounts_receivable", "prepaid_liability"),
    _entry(18, "purchase", "inv-2", 1, 0, "JPY", "accounts_receivable", "prepaid_liability"),
    _entry(19, "purchase", "inv-3", 7, 2, "KWD", "accounts_receivable", "prepaid_liability"),
    _entry(20, "purchase", "inv-4", 500, 500, "USD", "accounts_receivable", "prepaid_liability"),
    _entry(21, "fx_remeasurement_accounts_receivable", "r", 0, 3300, "EUR", "accounts_receivable", "fx_gain_loss"),
)
GOLDENS = {
    "": (JOURNAL, ENTRIES),
    "one-currency-": (ONE_CURRENCY, tuple(entry for entry in ENTRIES if entry.currency == "USD")),
    "currencies-": (CURRENCIES, REMEASURED),
}
"""The journals that were agreed on, by the beginning of their files' names."""


def rendering_of_journal(journal: Journal) -> Rendering:
    """The input of a format without a general ledger."""
    return Rendering(export_id="e", journal=journal, documents=(), settings=None)


def rendered(name: str, *, detail: bool = False, golden: str = "") -> str:
    form = format_named(name, detail=detail)
    journal, entries = GOLDENS[golden]
    if not detail:
        return form.render(rendering_of_journal(journal)).decode()
    assert form.render_detail is not None
    return "".join(form.render_detail(journal, iter(entries)))


CASES = [
    ("csv", False),
    ("json", False),
    ("beancount", False),
    ("hledger", False),
    ("beancount", True),
    ("hledger", True),
]


@pytest.mark.parametrize("golden", GOLDENS)
@pytest.mark.parametrize(("name", "detail"), CASES)
def test_a_rendering_is_the_agreed_file_to_the_byte(name: str, detail: bool, golden: str) -> None:
    path = GOLDEN / f"{golden}{'detail' if detail else 'summary'}.{FORMATS[name].extension}"
    assert rendered(name, detail=detail, golden=golden).encode() == path.read_bytes()


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
        ("1000.00", "0.00"),
        ("0.00", "1000.00"),
        ("500", "0"),
        ("0", "500"),
    ]
    assert [row["functional_debit"] for row in rows[2:4]] == ["3.33", "0.00"]
    for currency in ("EUR", "JPY", "USD"):
        own = [row for row in rows if row["currency"] == currency]
        assert sum(Decimal(row["debit"]) for row in own) == sum(Decimal(row["credit"]) for row in own) > 0


def test_a_line_of_functional_amounts_alone_is_in_csv_and_json_with_its_functional_amount() -> None:
    row = list(csv.DictReader(io.StringIO(rendered("csv", golden="currencies-"))))[2]
    line = json.loads(rendered("json", golden="currencies-"))["lines"][2]
    for found in (row, line):
        assert [found[name] for name in ("role", "currency", "debit", "credit")] == [
            "fx_gain_loss",
            "EUR",
            "0.00",
            "0.00",
        ]
        assert [found[f"functional_{side}"] for side in ("debit", "credit")] == ["0.00", "33.00"]
    rows = list(csv.DictReader(io.StringIO(rendered("csv", golden="currencies-"))))
    debit, credit = (sum(Decimal(row[f"functional_{side}"]) for row in rows) for side in ("debit", "credit"))
    assert debit == credit == Decimal("1238.02")


def test_csv_texts_are_no_formulas() -> None:
    rows = list(csv.DictReader(io.StringIO(rendered("csv"))))
    assert rows[1]["account_name"] == "'=SUM(A1:A9)"
    assert rows[1]["dim_class"] == "'@home"
    assert rows[1]["dim_department"] == "R&D, EMEA"
    assert rows[7]["account"] == "'-4000"
    assert rows[7]["product"] == "'+api"


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


# Euros bought at 1.20 and remeasured at 1.233, a yen that rounds to no cent, dinars, dollars: by account and currency,
# and by account in dollars over all currencies.
OWED = {"EUR": Decimal("1000.00"), "JPY": Decimal(1), "KWD": Decimal("0.007"), "USD": Decimal("5.00")}
IN_DOLLARS = {
    "accounts_receivable": Decimal("1238.02"),
    "prepaid_liability": Decimal("-1205.02"),
    "fx_gain_loss": Decimal("-33"),
}


@pytest.mark.parametrize("detail", [False, True])
def test_beancount_finds_the_balances_in_every_currency_and_in_the_functional_one(detail: bool) -> None:
    entries, errors, options = loader.load_string(rendered("beancount", detail=detail, golden="currencies-"))
    assert errors == []
    roles = {entry.account: entry.meta["role"] for entry in entries if isinstance(entry, Open)}
    quantities: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    weights: dict[str, Decimal] = defaultdict(Decimal)
    told: dict[str, Decimal] = defaultdict(Decimal)
    for posting in (posting for entry in entries if isinstance(entry, Transaction) for posting in entry.postings):
        role, weight = roles[posting.account], get_weight(posting)
        assert weight.currency == "USD" == options["operating_currency"][0]
        weights[role] += round(weight.number, 2)
        told[role] += posting.meta.get("functional", posting.units).number
        if "functional-of" not in posting.meta:
            quantities[role, posting.units.currency] += posting.units.number
    assert weights == told == IN_DOLLARS
    assert quantities == {
        **{("accounts_receivable", currency): amount for currency, amount in OWED.items()},
        **{("prepaid_liability", currency): -amount for currency, amount in OWED.items()},
    }


@pytest.mark.parametrize("wrong", ["1200.01 USD", "1199.99 USD"])
def test_a_functional_amount_that_is_a_cent_off_is_seen_by_beancount(wrong: str) -> None:
    """The tolerance that division asks for is far below a cent, where no posting is in the functional currency."""
    text = rendered("beancount", detail=True, golden="currencies-")
    assert loader.load_string(text)[1] == []
    [error] = loader.load_string(text.replace("-1000.00 EUR @@ 1200.00 USD", f"-1000.00 EUR @@ {wrong}"))[1]
    assert "does not balance" in error.message


@needs_hledger
@pytest.mark.parametrize("golden", GOLDENS)
@pytest.mark.parametrize("detail", [False, True])
def test_hledger_finds_nothing_to_complain_about(detail: bool, golden: str) -> None:
    hledger(rendered("hledger", detail=detail, golden=golden), "check", "--strict", "accounts", "commodities")


@needs_hledger
@pytest.mark.parametrize("detail", [False, True])
def test_hledger_finds_the_balances_in_every_currency_and_in_the_functional_one(detail: bool) -> None:
    text = rendered("hledger", detail=detail, golden="currencies-")
    asked = ("bal", "--no-total", "--depth", "2", "-O", "csv", "--layout=bare")
    at_cost = csv.DictReader(io.StringIO(hledger(text, *asked, "-B")))
    assert {row["account"].split(":")[1]: Decimal(row["balance"]) for row in at_cost} == IN_DOLLARS
    own = csv.DictReader(io.StringIO(hledger(text, *asked, "not:tag:functional-of")))
    assert {(row["account"].split(":")[1], row["commodity"]): Decimal(row["balance"]) for row in own} == {
        **{("accounts_receivable", currency): amount for currency, amount in OWED.items()},
        **{("prepaid_liability", currency): -amount for currency, amount in OWED.items()},
    }


def hledger(journal: str, *arguments: str) -> str:
    done = subprocess.run(
        ["hledger", "-f", "-", *arguments], input=journal, capture_output=True, text=True, env={"LANG": "C.UTF-8"}
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", FORMATS)
def test_an_empty_journal_is_a_valid_file_without_lines(name: str) -> None:
    form = FORMATS[name]
    rendering = rendering_of_journal(EMPTY)
    if form.target is not None:
        rendering = msgspec.structs.replace(rendering, settings=form.target.settings())
    content = form.render(rendering)
    assert form.render(rendering) == content
    if form.extension == "zip":
        assert zipfile.ZipFile(io.BytesIO(content)).testzip() is None
    elif form.extension == "xml":
        ElementTree.fromstring(content)
    elif name == "csv":
        assert len(list(csv.reader(io.StringIO(content.decode())))) == 1
    elif name == "json":
        assert json.loads(content)["lines"] == []
    elif form.extension == "json":
        found = json.loads(content)
        assert not any(found.values() if isinstance(found, dict) else found)
    elif name == "beancount":
        assert loader.load_string(content.decode())[:2] == ([], [])
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


def test_every_format_of_the_contract_is_there() -> None:
    assert set(FORMATS) >= {
        "csv",
        "json",
        "beancount",
        "hledger",
        "netsuite-csv",
        "netsuite-json",
        "intacct-csv",
        "intacct-xml",
        "quickbooks-csv",
        "quickbooks-json",
        "sap-csv",
        "sap-xml",
        "oracle-fbdi",
        "dynamics-csv",
        "dynamics-json",
        "netsuite-deposits",
    }
    with pytest.raises(UnknownFormat):
        format_named("pdf")
    with pytest.raises(NotSupportedYet):
        format_named("netsuite-csv", detail=True)
    assert [name for name, form in FORMATS.items() if form.supports_detail] == ["beancount", "hledger"]
