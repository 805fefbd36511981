"""Accounts and dimensions by attributes of customers: each journal stores its attributes, and never reads the current
ones.

The expected results are computed here from the lines of the log and the attributes of the customers, by a rule written
by hand.
"""

from __future__ import annotations

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any, LiteralString

import psycopg
import pytest
from fastapi.testclient import TestClient
from msgspec.structs import replace
from typer.testing import CliRunner

from api.cli.main import app
from api.http.app import create_app
from api.service import Subledger
from projections.account_mapping.customer_attributes import change_attributes, erase_attributes, replace_attributes
from projections.account_mapping.mapping import AccountMapping, default_mapping
from projections.close.close import close_period
from projections.configuring.account_mappings import adopt_mapping
from projections.delivery.checklist import checklist
from projections.exports import exporting, exports, targets
from projections.exports.documents import TargetLimits, documents_of, lines_of
from projections.exports.formats import FORMATS, TARGETS
from projections.integrity import verify
from projections.journals.drill_down import entries_behind
from projections.journals.journal import Journal
from projections.journals.journal_customers import stored_hash
from projections.journals.making import ensure_journals
from projections.journals.pairs import LEVELS, Level, pairs_of
from projections.journals.reversing import reverse_journal
from subledger.accounts import Side
from subledger.errors import IntegrityFault, UnmappedRole
from subledger.periods import Period
from tests.building import cloud_event, recorded
from tests.charts import adopt_unchecked
from tests.laws.test_judges import MONTHS
from tests.reading import all_journals
from tests.store.tampering import past_triggers
from tests.store.test_checklist import LATER
from tests.store.walked import NETSUITE, record_months
from tests.together import together

NewLedger = Callable[..., str]
OF_TARGETS = [form.name for form in FORMATS.values() if form.target is not None]
JANUARY = Period(2026, 1)
Sums = dict[tuple[str, ...], int]
Made = tuple[str, dict[int, dict[str, dict[str, str]]]]
"""A ledger, and the attributes of its customers when each month's first and second journal was made."""

ROWS = [
    *default_mapping().rows,
    {"role": "usage_revenue", "customer.segment": "enterprise", "account": "4010"},
    {"role": "usage_revenue", "customer.region": "emea", "account": "4020"},
    {"role": "usage_revenue", "product": "api", "customer.segment": "enterprise", "account": "4030"},
]
MAPPING = AccountMapping.from_rows(
    {**row, "territory": "{customer.region}", "desk": "prepaid"} if row["role"].endswith("revenue") else row
    for row in ROWS
)


def account(role: str, product: str, said: dict[str, str]) -> str:
    """Returns the expected account, by hand."""
    if role == "usage_revenue":
        if product == "api" and said.get("segment") == "enterprise":
            return "4030"
        if said.get("region") == "emea":
            return "4020"
        if said.get("segment") == "enterprise":
            return "4010"
    return next(row["account"] for row in default_mapping().rows if row["role"] == role)


def territory(role: str, said: dict[str, str]) -> str:
    return said.get("region", "") if role.endswith("revenue") else ""


SAID = (
    {"segment": "enterprise", "region": "emea", "name": "never looked at"}, {"segment": "enterprise"},
    {"region": "emea"}, {"segment": "smb", "region": "apac"}, {}, {"name": "only that"},
)  # fmt: skip


def people(service: Subledger, ledger: str) -> list[str]:
    with service.database.write() as connection:
        found = connection.execute("SELECT customer FROM wallets WHERE ledger = %s ORDER BY 1", (ledger,)).fetchall()
    return [customer for (customer,) in found]


def say(service: Subledger, ledger: str, shift: int = 0) -> dict[str, dict[str, str]]:
    """Sets attributes of all customers except every fifth and sixth. Returns the attributes."""
    said = {name: dict(SAID[(at + shift) % len(SAID)]) for at, name in enumerate(people(service, ledger))}
    for customer, attributes in said.items():
        replace_attributes(service.database, ledger, customer, attributes, by="crm")
    return said


@pytest.fixture(scope="module")
def made(service: Subledger, new_ledger: NewLedger) -> Made:
    """Five months in four currencies, and the attributes of the customers before and at the adjustment of the last
    month.
    """
    ledger = new_ledger(on_shortfall="backfill")
    targets.set_settings(service.database, ledger, TARGETS["netsuite"], NETSUITE, by="me")
    record_months(service, ledger, prefix="c", size=300)
    said = {1: say(service, ledger)}
    adopt_mapping(service.recorder, ledger, MAPPING)
    for month in MONTHS:
        ensure_journals(service.recorder, service.database, ledger, month)
    events = []
    for number, customer in enumerate(people(service, ledger)):
        day = f"{MONTHS[-1]}-2{number % 8}T00:00:00Z"
        bought = {"block_id": f"late-{customer}", "credits": "30", "price": "9.99", "currency": "EUR"}
        events.append(cloud_event(f"late-{customer}", "credits.purchased", customer, day, **bought))
        used = {"credits": "7", "product": "api", "overage_price": "0.35", "currency": "EUR"}
        events.append(cloud_event(f"use-{customer}", "credits.consumed", customer, day, **used))
    recorded(service, ledger, *events)
    said[2] = say(service, ledger, shift=1)
    assert len(ensure_journals(service.recorder, service.database, ledger, MONTHS[-1])) == 2
    return ledger, said


OF_LOG: LiteralString = """
    SELECT coalesce(l.customer, ''), l.account, s.product, l.currency, l.side, sum(l.amount_minor)::bigint,
           sum(l.functional_minor)::bigint
    FROM journal_lines l JOIN dimension_sets s ON s.ledger = l.ledger AND s.dimension_set = l.dimension_set
    WHERE l.ledger = %s AND l.accounting_date BETWEEN %s AND %s AND l.cut > %s AND l.cut <= %s GROUP BY 1, 2, 3, 4, 5
"""


def by_hand(service: Subledger, journal: Journal, said: dict[str, dict[str, str]]) -> tuple[Sums, Sums]:
    """Returns amounts by account, territory, role, currency and side, from the log; and functional amounts by account
    and side.
    """
    own: Counter[tuple[str, ...]] = Counter()
    functional: Counter[tuple[str, ...]] = Counter()
    period = journal.period
    asked = (journal.ledger, period.first_day, period.last_day, journal.from_cut, journal.to_cut)
    with service.database.write() as connection:
        for customer, role, product, currency, side, amount, home in connection.execute(OF_LOG, asked).fetchall():
            of = said.get(customer, {})
            place = (account(role, product, of), territory(role, of))
            own[*place, role, currency, side] += amount
            functional[*place, side] += home
    return {key: amount for key, amount in own.items() if amount}, {k: v for k, v in functional.items() if v}


def test_each_customers_amounts_are_where_what_was_said_of_the_customer_puts_them(
    service: Subledger, made: Made
) -> None:
    ledger, said = made
    accounts = set()
    for journal in all_journals(service, ledger):
        found: Counter[tuple[str, ...]] = Counter()
        for line in journal.lines:
            dimensions = dict(line.account.dimensions)
            assert ("desk" in dimensions) == line.role.endswith("revenue")
            found[line.account.number, dimensions.get("territory", ""), line.role, line.currency, line.side.value] += (
                line.amount_minor
            )
            accounts.add(line.account.number)
        assert {key: amount for key, amount in found.items() if amount} == by_hand(
            service, journal, said[journal.number]
        )[0]
    assert accounts >= {"4000", "4010", "4020", "4030"}


def test_the_lines_of_all_journals_are_the_trial_balance(service: Subledger, made: Made) -> None:
    ledger, _ = made
    found: Counter[tuple[str, str, str]] = Counter()
    for journal in all_journals(service, ledger):
        for line in journal.lines:
            found[line.role, line.currency, line.side.value] += line.amount_minor
    assert {key: amount for key, amount in found.items() if amount} == _of_log(service, ledger)


def _of_log(service: Subledger, ledger: str) -> dict[tuple[str, str, str], int]:
    query = """SELECT account, currency, side, sum(amount_minor)::bigint FROM journal_lines
               WHERE ledger = %s AND accounting_date <= %s GROUP BY 1, 2, 3"""
    with service.database.write() as connection:
        rows = connection.execute(query, (ledger, MONTHS[-1].last_day)).fetchall()
    return {(account, currency, side): amount for account, currency, side, amount in rows if amount}


def limits(two_currencies: bool = False) -> TargetLimits:
    return TargetLimits(lines=9, text=200, reference=60, digits=15, decimals=3, two_currencies=two_currencies)


@pytest.mark.parametrize("level", LEVELS)
def test_at_every_level_documents_say_the_same_and_each_line_is_what_its_entries_add_up_to(
    service: Subledger, made: Made, level: Level
) -> None:
    ledger, said = made
    looked = 0
    for journal in all_journals(service, ledger)[-3:]:
        of = said[journal.number]
        with service.database.read() as connection:
            pairs = pairs_of(connection, journal, level)
            documents = documents_of(journal, pairs, MAPPING, limits=limits(), level=level)
            found: Counter[tuple[str, ...]] = Counter()
            for number, (_, line) in enumerate(lines_of(documents)):
                here = dict(line.account.dimensions).get("territory", "")
                found[line.account.number, here, line.side.value] += line.functional_minor
                if number % 7 == 0:
                    chosen = [pairs[place] for place in line.pairs]
                    entries = list(_every(connection, journal, chosen, level))
                    assert sum(entry.functional_minor for entry in entries) == line.functional_minor
                    for entry in entries:
                        its = of.get(entry.customer or "", {})
                        roles = {pair.debit if line.side is Side.DEBIT else pair.credit for pair in chosen}
                        products = {pair.product for pair in chosen}
                        assert line.account.number in {account(r, p, its) for r in roles for p in products}
                    looked += 1
        assert {key: amount for key, amount in found.items() if amount} == by_hand(service, journal, of)[1]
    assert looked > 10


def _every(connection: Any, journal: Journal, pairs: Any, level: Level) -> Iterator[Any]:
    after = None
    while page := entries_behind(connection, journal, pairs, level, after=after, limit=11):
        yield from page
        after = (page[-1].position, page[-1].number)


@pytest.mark.parametrize("name", OF_TARGETS)
def test_all_files_of_a_target_together_are_what_the_log_says_by_hand(
    service: Subledger, made: Made, name: str
) -> None:
    ledger, said = made
    expected: Counter[tuple[str, str]] = Counter()
    for journal in all_journals(service, ledger):
        for (number, _, side), amount in by_hand(service, journal, said[journal.number])[1].items():
            expected[number, side] += amount
    found: Counter[tuple[str, str]] = Counter()
    for month in MONTHS:
        for export in exporting.export(service.recorder, service.database, ledger, month, name):
            with service.database.read() as connection:
                posted = exports.document_set_of(connection, export)
            assert posted is not None
            for _, line in lines_of(posted.documents):
                found[line.account.number, line.side.value] += line.functional_minor
    net = [Counter({k: v for k, v in _net(sums).items() if v}) for sums in (found, expected)]
    assert net[0] == net[1]


def _net(sums: Counter[tuple[str, str]]) -> dict[str, int]:
    total: dict[str, int] = defaultdict(int)
    for (number, side), amount in sums.items():
        total[number] += amount if side == "debit" else -amount
    return total


def test_what_is_said_later_or_erased_alters_nothing_that_was_handed_over(service: Subledger, made: Made) -> None:
    ledger, said = made
    formats = [("csv", False), ("json", False), ("beancount", True), ("netsuite-csv", False), ("sap-xml", False)]

    def handed_over() -> list[Any]:
        result: list[Any] = [all_journals(service, ledger)]
        for name, detail in formats:
            for export in exporting.export(service.recorder, service.database, ledger, MONTHS[-1], name, detail=detail):
                result.append((export, b"".join(exports.content_of(service.database, export))))
                with service.database.read() as connection:
                    for line in () if detail else range(1, 9):
                        result.append(exports.entries_of_line(connection, export, line, limit=1_000))
        return result

    before = handed_over()
    for number, customer in enumerate(said[2]):
        if number % 2:
            erase_attributes(service.database, ledger, customer, by="ann")
        else:
            replace_attributes(service.database, ledger, customer, {"segment": "other", "region": "nowhere"}, by="x")
    assert handed_over() == before
    # Formats that are used for the first time also use the stored attributes of the journal.
    [*_, last] = exporting.export(service.recorder, service.database, ledger, MONTHS[-1], "hledger", detail=True)
    text = b"".join(exports.content_of(service.database, last)).decode()
    assert "gl-account: 4030" in text
    [*_, last] = exporting.export(service.recorder, service.database, ledger, MONTHS[-1], "dynamics-json")
    assert b"nowhere" not in b"".join(exports.content_of(service.database, last))
    assert verify(service.database, ledger).differences == []


def test_a_neutral_line_leads_to_the_entries_of_the_customers_it_is_of(service: Subledger, made: Made) -> None:
    ledger, said = made
    [*_, export] = exporting.export(service.recorder, service.database, ledger, MONTHS[-1], "csv")
    with service.database.read() as connection:
        journal = exports.journal_behind(connection, export)
        looked = set()
        for line in journal.lines:
            entries = exports.entries_of_line(connection, export, line.number, limit=10_000)
            assert sum(entry.amount_minor for entry in entries) == line.amount_minor
            if line.role == "usage_revenue":
                of = {account(line.role, line.product, said[2].get(e.customer or "", {})) for e in entries}
                assert of == {line.account.number}
                looked |= of
    assert looked >= {"4020", "4030"}


# --- mappings without attributes ------------------------------------------------------------------------------


def test_where_a_mapping_goes_by_no_customer_what_is_said_of_them_changes_no_byte(
    service: Subledger, new_ledger: NewLedger
) -> None:
    twins = [new_ledger(on_shortfall="backfill") for _ in range(2)]
    for ledger in twins:
        record_months(service, ledger, prefix="c", size=60)
    say(service, twins[1])
    contents = []
    for ledger in twins:
        files = [
            b"".join(exports.content_of(service.database, one)).replace(ledger.encode(), b"twin")
            for one in exporting.export(service.recorder, service.database, ledger, MONTHS[1], "csv")
        ]
        contents.append((files, [journal.lines_text for journal in all_journals(service, ledger)]))
        assert {journal.customers_hash for journal in all_journals(service, ledger)} == {""}
    assert contents[0] == contents[1]
    with service.database.write() as connection:
        kept = connection.execute("SELECT count(*) FROM journal_customers WHERE ledger = ANY(%s)", (twins,)).fetchall()
    assert kept == [(0,)]


# --- missing accounts ------------------------------------------------------------------------------------------


def bought(service: Subledger, ledger: str, *customers: str) -> None:
    for customer in customers:
        data = {"block_id": f"b-{customer}", "credits": "100", "price": "50.00", "currency": "USD"}
        buy = cloud_event(f"buy-{customer}", "credits.purchased", customer, "2026-01-05T00:00:00Z", **data)
        use = cloud_event(f"use-{customer}", "credits.consumed", customer, "2026-01-06T00:00:00Z", credits="10")
        assert {outcome.error for outcome in service.record(ledger, [buy, use])} == {None}


def only(*rows: dict[str, str]) -> AccountMapping:
    """Returns the shipped chart with these rows for usage_revenue."""
    return AccountMapping.from_rows([*(row for row in default_mapping().rows if row["role"] != "usage_revenue"), *rows])


def test_a_combination_without_an_account_names_itself_with_its_attributes_before_the_close_and_at_it(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger(policy="contract_liability")
    bought(service, ledger, "c1", "c2", "c3")
    change_attributes(service.database, ledger, "c1", {"segment": "enterprise", "region": "x"}, by="crm")
    change_attributes(service.database, ledger, "c2", {"segment": "smb", "region": "y"}, by="crm")
    rule = {"role": "usage_revenue", "customer.segment": "enterprise", "account": "4010"}
    adopt_unchecked(service.recorder, ledger, only({**rule, "territory": "{customer.region}"}))
    steps = {step.name: step for step in checklist(service.database, ledger, JANUARY, now=LATER).steps}
    place = {"role": "usage_revenue", "product": "", "credit_kind": "paid", "currency": "USD"}
    assert steps["mapping"].state == "blocked"
    assert steps["mapping"].evidence["unmapped"] == [
        {**place, "customer.segment": ""},
        {**place, "customer.segment": "smb"},
    ]
    for attempt in (
        lambda: close_period(service.recorder, ledger, JANUARY),
        lambda: ensure_journals(service.recorder, service.database, ledger, JANUARY),
    ):
        with pytest.raises(
            UnmappedRole, match=r"role usage_revenue, .*currency USD, (no )?customer\.segment"
        ) as caught:
            attempt()
        assert list(caught.value.facts["attributes"]) == ["segment"]
    with service.database.write() as connection:
        assert connection.execute("SELECT FROM journal_customers WHERE ledger = %s", (ledger,)).fetchall() == []
    change_attributes(service.database, ledger, "c3", {"segment": "enterprise"}, by="crm")
    change_attributes(service.database, ledger, "c2", {"segment": "enterprise"}, by="crm")
    close_period(service.recorder, ledger, JANUARY)
    [journal] = ensure_journals(service.recorder, service.database, ledger, JANUARY)
    revenue = [(line.account.dimensions, line.amount_minor) for line in journal.lines if line.account.number == "4010"]
    assert revenue == [((), 500), ((("territory", "x"),), 500), ((("territory", "y"),), 500)]


# --- changes are found ------------------------------------------------------------------------------------


@pytest.fixture
def small(service: Subledger, new_ledger: NewLedger) -> str:
    ledger = new_ledger(policy="contract_liability")
    bought(service, ledger, "c1", "c2", "c3")
    change_attributes(service.database, ledger, "c1", {"segment": "enterprise"}, by="crm")
    change_attributes(service.database, ledger, "c2", {"segment": "smb"}, by="crm")
    rule = {"role": "usage_revenue", "account": "4000"}
    adopt_mapping(service.recorder, ledger, only(rule, {**rule, "customer.segment": "enterprise", "account": "4010"}))
    ensure_journals(service.recorder, service.database, ledger, JANUARY)
    assert verify(service.database, ledger).differences == []
    return ledger


@pytest.mark.parametrize(
    "statement",
    [
        """UPDATE journal_customers SET attributes = '{"segment": "enterprise"}' WHERE customer = 'c2'""",
        """UPDATE journal_customers SET attributes = '[5]' WHERE customer = 'c2'""",
        "UPDATE journal_customers SET customer = 'c3' WHERE customer = 'c1'",
        "UPDATE journal_customers SET number = 2 WHERE customer = 'c1'",
        "UPDATE journal_customers SET period = '2026-02' WHERE customer = 'c1'",
        "DELETE FROM journal_customers WHERE customer = 'c1'",
        """INSERT INTO journal_customers SELECT ledger, period, number, 'c3', '{"segment": "enterprise"}'
           FROM journal_customers WHERE customer = 'c2'""",
        "UPDATE journals SET customers_hash = NULL WHERE number = 1",
        "UPDATE journals SET customers_hash = 'x' WHERE number = 1",
    ],
)
def test_what_a_journal_went_by_cannot_be_changed_unnoticed(
    service: Subledger, small: str, owner_url: str, statement: LiteralString
) -> None:
    of_ledger: LiteralString = " AND ledger = %s"
    with past_triggers(owner_url, "journals", "journal_customers") as connection:
        assert connection.execute(statement + of_ledger, (small,)).rowcount == 1
    assert {difference.check for difference in verify(service.database, small).differences} == {"journals"}
    with pytest.raises(IntegrityFault):
        exporting.export(service.recorder, service.database, small, JANUARY, "netsuite-csv")


def test_what_a_journal_went_by_forged_with_every_hash_is_found_by_its_entries(
    service: Subledger, small: str, owner_url: str
) -> None:
    [journal] = all_journals(service, small)
    with past_triggers(owner_url, "journals", "journal_customers") as connection:
        changed = "UPDATE journal_customers SET customer = 'c3' WHERE customer = 'c2' AND ledger = %s"
        connection.execute(changed, (small,))
        changed = """UPDATE journal_customers SET attributes = '{"segment": "enterprise"}' WHERE ledger = %s"""
        connection.execute(changed, (small,))
        forged = replace(journal, customers_hash=stored_hash(connection, ledger=small, period="2026-01", number=1))
        connection.execute(
            "UPDATE journals SET customers_hash = %s, content_hash = %s WHERE ledger = %s",
            (forged.customers_hash, forged.content_hash, small),
        )
    [found] = verify(service.database, small).differences
    assert "differs from its entries and customer attributes" in found.message


def test_the_application_can_neither_change_nor_erase_what_a_journal_went_by(service: Subledger, small: str) -> None:
    for statement in (
        "DELETE FROM journal_customers WHERE ledger = %s",
        "UPDATE journal_customers SET customer = 'x' WHERE ledger = %s",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), service.database.write() as connection:
            connection.execute(statement, (small,))


def test_a_journal_that_went_by_wrong_attributes_is_taken_back_by_what_it_went_by_and_issued_anew_by_what_holds(
    service: Subledger, small: str
) -> None:
    change_attributes(service.database, small, "c3", {"segment": "enterprise"}, by="crm")
    made = reverse_journal(service.recorder, small, JANUARY, 1, "the segments were those of last year", by="ann")
    assert made.reversal.customers_hash == made.journal.customers_hash != made.reissue.customers_hash
    erase_attributes(service.database, small, "c1", by="ann")
    behind: dict[str, list[tuple[str, str | None]]] = {}
    for export in exporting.export(service.recorder, service.database, small, JANUARY, "netsuite-csv"):
        with service.database.read() as connection:
            posted = exports.document_set_of(connection, export)
            assert posted is not None
            for _, line in lines_of(posted.documents):
                found = exports.entries_of_line(connection, export, line.number)
                assert sum(entry.functional_minor for entry in found) == line.functional_minor
                if line.account.number == "4010":
                    behind.setdefault(line.side.value, []).extend((f"{export.number}", e.customer) for e in found)
    assert behind == {"credit": [("1", "c1"), ("3", "c1"), ("3", "c3")], "debit": [("2", "c1")]}
    detail = exporting.export(service.recorder, service.database, small, JANUARY, "beancount", detail=True)
    texts = [b"".join(exports.content_of(service.database, one)).decode() for one in detail]
    assert [text.count('gl-account: "4010"') for text in texts] == [1, 1, 2]
    assert verify(service.database, small).differences == []


# --- at once, and from outside ------------------------------------------------------------------------------------


def test_two_exports_at_once_while_attributes_change_make_one_journal_that_agrees_with_itself(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger(policy="contract_liability")
    customers = [f"c{number}" for number in range(6)]
    bought(service, ledger, *customers)
    rule = {"role": "usage_revenue", "account": "4000", "territory": "{customer.region}"}
    adopt_mapping(service.recorder, ledger, only(rule))
    start = threading.Barrier(4)
    made: list[tuple[Journal, ...]] = []

    def change(region: str) -> None:
        start.wait()
        for customer in customers * 3:
            change_attributes(service.database, ledger, customer, {"region": region}, by=region)

    def make() -> None:
        start.wait()
        made.append(ensure_journals(service.recorder, service.database, ledger, JANUARY))

    together(lambda call: call(), [partial(change, "emea"), partial(change, "apac"), make, make])
    assert made[0] == made[1]
    assert len(made[0]) == 1
    assert verify(service.database, ledger).differences == []


def test_a_mapping_by_customers_is_adopted_and_followed_by_command_line_and_http(
    service: Subledger, owner_url: str, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    ledger = new_ledger(policy="contract_liability")
    bought(service, ledger, "c1", "c2")
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", owner_url)
    monkeypatch.setenv("COLUMNS", "220")
    chart = "role,product,credit_kind,currency,customer.segment,account,name,territory\n" + "".join(
        f"{row['role']},,,,,{row['account']},{row['name']},{{customer.region}}\n" for row in default_mapping().rows
    )
    (tmp_path / "chart.csv").write_text(chart + "usage_revenue,,,,enterprise,4010,Enterprise,{customer.region}\n")

    def run(*arguments: str) -> str:
        ran = CliRunner().invoke(app, [*arguments, "--ledger", ledger])
        assert ran.exit_code == 0, ran.output
        return ran.stdout

    run("customer", "set", "c1", "segment=enterprise", "region=emea")
    run("mapping", "adopt", str(tmp_path / "chart.csv"))
    shown = run("mapping", "show")
    assert "customer.segment" in shown
    assert "{customer.region}" in shown
    client = TestClient(
        create_app(service, open_on_loopback=True), base_url="http://127.0.0.1", client=("127.0.0.1", 50_000)
    )
    base = f"/v1/ledgers/{ledger}"
    assert {"customer.segment", "territory"} <= {
        column for row in client.get(f"{base}/mapping").json()["rows"] for column in row
    }
    made = client.post(f"{base}/exports", json={"period": "2026-01", "format": "netsuite-json"}).json()
    lines = client.get(f"{base}/exports/{made['id']}").json()["lines"]
    [line] = [line for line in lines if line["account"] == "4010"]
    assert (line["dimensions"], line["functional"]["credit"]) == ({"territory": "emea"}, "5.00")
    items = client.get(f"{base}/exports/{made['id']}/lines/{line['line']}/entries").json()["items"]
    assert {item["customer"] for item in items} == {"c1"}
    assert sum(Decimal(item["functional"]["amount"]) for item in items) == Decimal("5.00")
    assert json.loads(run("exports", "entries", made["id"], str(line["line"]), "--json"))["items"] == items
    summary = json.loads(run("report", "summary", "--as-of", "2026-01-31", "--json"))
    assert "by customer" in json.dumps(summary)
