"""Independent programs recompute every balance: Beancount and hledger read the detail exports, month by month.

Their balance of every customer and account at the end of every month must equal that of the log, in every currency, and
in the functional currency over all currencies.
"""

from __future__ import annotations

import csv
import io
import json
import random
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from beancount import loader
from beancount.core.convert import get_weight
from beancount.core.data import Transaction

from api.service import Subledger
from projections.close.close import close_period, reopen_period
from projections.configuring.account_mappings import adopt_mapping
from projections.exports.exporting import export
from projections.exports.exports import content_of
from projections.exports.formats.plaintext import beancount_account, hledger_account
from projections.journals.reversing import reverse_journal
from subledger.accounts import ROLES
from subledger.money import exponent
from subledger.periods import Period
from subledger.store.database import Database
from subledger.store.reading.ledgers import ledger_head
from tests.building import cloud_event
from tests.charts import another_chart
from tests.conftest import NewLedger, needs_hledger

MONTHS = tuple(Period(2026, month) for month in range(1, 6))
# Ids that are difficult in account names: case, dashes, our escapes, quotes, separators, other scripts.
CUSTOMERS = (
    "cust-42", "cust--42", "Cust-42", "cus_ABC", "a:b", "a b", "a  b", 'say "hi"', "back\\slash", "émile", "客户",
    "-2d-", "%2C,;|", "1", ":", " x ", "=1+1", "(x)", "C-1", "[2026-03-01]", "date:2026-03-01",
)  # fmt: skip
RATES = {"EUR": "1.15", "JPY": "0.0066", "KWD": "3.26"}
ALL = "all"
"""Key of the balance in the functional currency over all currencies."""
Place = tuple[str, str, str]
"""Customer (empty: the ledger as a whole), role, currency or ALL."""
Balances = dict[tuple[Place, Period], Decimal]
"""Debit less credit at a month's end."""


class World:
    """Purchases, grants, usage, reversals, voids, refunds, payments and moved expiries in order of time, some of them
    late.

    With several currencies it also has their rates in dollars, refundable blocks, and pools with their estimates.
    """

    def __init__(self, rng: random.Random, currencies: tuple[str, ...], tag: str) -> None:
        self.rng, self.currencies, self.tag = rng, currencies, tag
        self.blocks: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self.usages: dict[str, list[str]] = defaultdict(list)

    def events(self, count: int) -> list[dict[str, Any]]:
        start = datetime(2026, 1, 1, tzinfo=UTC)
        events = self.of_the_ledger() if len(self.currencies) > 1 else []
        for number in range(count):
            moment = start + timedelta(days=150 * number / count, seconds=self.rng.randint(0, 9999))
            if self.rng.random() < 0.1:
                moment -= timedelta(days=self.rng.randint(1, 40))
            customer, name = self.rng.choice(CUSTOMERS), f"{self.tag}-{number}"
            moment = max(moment, start + timedelta(hours=1))
            event_type, data = self.event(customer, name, moment)
            events.append(cloud_event(name, event_type, customer, moment.isoformat()) | {"data": data})
        return sorted(events, key=lambda event: event["time"][:7])

    def of_the_ledger(self) -> list[dict[str, Any]]:
        events = []
        for month in MONTHS:
            for day in (1, 12, 24):
                for base, around in RATES.items():
                    rate = f"{Decimal(around) * self.rng.randint(900, 1100) / 1000:f}"
                    name, time = f"{base}-{month}-{day}", f"{month}-{day:02d}T00:00:00Z"
                    data = {"base": base, "quote": "USD", "rate": rate, "rate_source": "chance"}
                    events.append(cloud_event(name, "exchange_rate.set", None, time, **data))
            for currency in self.currencies:
                data = {"pool": f"pool-{currency}", "currency": currency, "evidence": "chance"}
                data["expected_breakage_rate"] = f"0.{self.rng.randint(10, 30)}"
                name = f"pool-{currency}-{month}"
                events.append(cloud_event(name, "breakage.estimated", None, f"{month}-01T00:30:00Z", **data))
        return events

    def money(self, most: int, currency: str) -> str:
        return f"{Decimal(self.rng.randint(1, most)).scaleb(-exponent(currency)):f}"

    def event(self, customer: str, name: str, moment: datetime) -> tuple[str, dict[str, Any]]:
        rng, blocks, usages = self.rng, self.blocks[customer], self.usages[customer]
        kinds = ("buy", "grant", "use", "reverse", "void", "refund", "pay", "move")
        kind = rng.choices(kinds, weights=(12, 4, 50, 8, 3, 2, 10, 2))[0]
        if kind == "buy" or not blocks:
            return "credits.purchased", self.purchase(customer, name, moment)
        block, currency = rng.choice(blocks)
        if kind == "grant":
            return "credits.granted", {
                "block_id": f"{name}-g",
                "credits": str(rng.randint(1, 50)),
                "reason": "promotional",
            }
        if kind == "use":
            usages.append(name)
            return "credits.consumed", {
                "credits": f"{rng.randint(1, 90)}" + (f".{rng.randint(0, 999)}" if rng.random() < 0.3 else ""),
                "product": rng.choice(("api", "storage")),
                "overage_price": self.money(30, currency),
                "currency": currency,
            }
        if kind == "reverse" and usages:
            data = {"event_id": rng.choice(usages), "reason": "a correction"}
            return "consumption.reversed", data | ({"credits": str(rng.randint(1, 20))} if rng.random() < 0.6 else {})
        if kind == "void":
            return "purchase.voided", {"block_id": block, "reason": "returned"}
        if kind == "refund":
            return "credits.refunded", {"block_id": block, "reason": "returned"}
        if kind == "move":
            return "block.expiry_changed", {"block_id": block, "expires_at": None, "reason": "goodwill"}
        data = {"amount": self.money(9_000, currency), "currency": currency}
        if rng.random() < 0.7:
            data["block_id"] = block
        if rng.random() < 0.5:
            data |= {"processor": "stripe", "fee": self.money(100, currency)}
        return "payment.received", data

    def purchase(self, customer: str, name: str, moment: datetime) -> dict[str, Any]:
        rng, currency = self.rng, self.rng.choice(self.currencies)
        data: dict[str, Any] = {
            "block_id": f"{name} \"é'",
            "credits": str(rng.randint(1, 400)),
            "price": self.money(20_000, currency),
            "currency": currency,
        }
        if rng.random() < 0.5:
            data["expires_at"] = (moment + timedelta(days=rng.randint(1, 90))).isoformat()
        if rng.random() < 0.4:
            data["tax"] = self.money(500, currency)
        if len(self.currencies) > 1 and rng.random() < 0.6:
            data |= {"refundable": True} if rng.random() < 0.5 else {"pool": f"pool-{currency}"}
        self.blocks[customer].append((data["block_id"], currency))
        return data


def fill(service: Subledger, ledger: str, events: list[dict[str, Any]]) -> None:
    """Records the events. Meanwhile it closes months, exports open ones, reopens one, and reverses two journals."""
    recorded = 0
    for month in MONTHS:
        part = [event for event in events if event["time"][:7] == str(month)]
        half = len(part) // 2
        recorded += sum(outcome.error is None for outcome in service.record(ledger, part[:half]))
        export(service.recorder, service.database, ledger, month, "beancount", detail=True)  # the month is open
        recorded += sum(outcome.error is None for outcome in service.record(ledger, part[half:]))
        if month == MONTHS[3]:
            reopen_period(service.recorder, ledger, MONTHS[1], "late facts")
            late = [{**event, "id": f"{event['id']}/late"} for event in events if event["type"] == "credits.consumed"]
            recorded += sum(outcome.error is None for outcome in service.record(ledger, late[:30]))
            for again in MONTHS[1:3]:
                close_period(service.recorder, ledger, again)
        if month != MONTHS[-1]:
            close_period(service.recorder, ledger, month)
    adopt_mapping(service.recorder, ledger, another_chart(7000))
    for month in MONTHS[1:3]:
        reverse_journal(service.recorder, ledger, month, 1, "the wrong chart")
    assert recorded > len(events) // 2


LEDGERS = {
    "USD": ("USD", "customer_deposits", ("USD",)),
    "KWD": ("KWD", "contract_liability", ("KWD",)),
    "several": ("USD", "customer_deposits", ("USD", "EUR", "JPY", "KWD")),
}
"""Functional currency, policy, currencies."""


@pytest.fixture(scope="module", params=LEDGERS.values(), ids=LEDGERS)
def ledger(request: pytest.FixtureRequest, service: Subledger, new_ledger: NewLedger) -> str:
    home, policy, currencies = request.param
    ledger = new_ledger(currency=home, policy=policy, on_shortfall="backfill")
    rng = random.Random(f"judges {' '.join(currencies)}")
    fill(service, ledger, World(rng, currencies, home).events(400 if len(currencies) == 1 else 600))
    return ledger


def files(service: Subledger, ledger: str, format: str, folder: Path) -> dict[Period, list[Path]]:
    """Writes the detail exports of every month to files."""
    result: dict[Period, list[Path]] = {}
    for month in MONTHS:
        result[month] = []
        for one in export(service.recorder, service.database, ledger, month, format, detail=True):
            path = folder / one.filename
            path.write_bytes(b"".join(content_of(service.database, one)))
            result[month].append(path)
    return result


def expected(database: Database, ledger: str) -> Balances:
    """Returns the same balances from the journal lines, by SQL."""
    query = """
        SELECT coalesce(customer, ''), account, currency, to_char(accounting_date, 'YYYY-MM'),
               sum(CASE side WHEN 'debit' THEN amount_minor ELSE -amount_minor END),
               sum(CASE side WHEN 'debit' THEN functional_minor ELSE -functional_minor END)
        FROM journal_lines WHERE ledger = %s GROUP BY 1, 2, 3, 4
    """
    home = home_of(database, ledger)
    with database.write() as connection:
        rows = connection.execute(query, (ledger,)).fetchall()
    changes: dict[tuple[Place, Period], Decimal] = defaultdict(Decimal)
    for customer, role, currency, month, minor, functional in rows:
        period = Period.parse(month)
        changes[(customer, role, currency), period] += Decimal(minor).scaleb(-exponent(currency))
        changes[(customer, role, ALL), period] += Decimal(functional).scaleb(-exponent(home))
    assert {customer for (customer, _, _), _ in changes} - {""} == set(CUSTOMERS)
    return cumulated(changes)


def home_of(database: Database, ledger: str) -> str:
    with database.read() as connection:
        return ledger_head(connection, ledger).state.functional_currency


def cumulated(changes: dict[tuple[Place, Period], Decimal]) -> Balances:
    """Returns balances at the end of every month from the changes of each month, without accounts at zero."""
    balances: Balances = {}
    for place in {place for place, _ in changes}:
        total = Decimal(0)
        for month in MONTHS:
            total += changes.get((place, month), Decimal(0))
            if total:
                balances[place, month] = total
    return balances


def by_role(balances: Balances) -> Balances:
    """Returns the same balances for the ledger as a whole."""
    totals: dict[tuple[Place, Period], Decimal] = defaultdict(Decimal)
    for ((_, role, currency), month), balance in balances.items():
        totals[("", role, currency), month] += balance
    return {key: total for key, total in totals.items() if total}


def moved(transaction: Transaction, home: str) -> Iterator[tuple[str, str, Decimal]]:
    """Yields account, currency or ALL, and amount of each posting: quantities and weights as Beancount has them."""
    for posting in transaction.postings:
        weight = get_weight(posting)
        assert weight.currency == home
        yield posting.account, ALL, round(weight.number, exponent(home))
        if "functional-of" not in posting.meta:
            yield posting.account, posting.units.currency, posting.units.number


def test_the_ledger_in_several_currencies_moves_functional_amounts_alone(database: Database, ledger: str) -> None:
    query = "SELECT DISTINCT kind FROM entries WHERE ledger = %s AND amount_minor = 0 AND functional_minor <> 0"
    with database.write() as connection:
        alone = {kind for (kind,) in connection.execute(query, (ledger,)).fetchall()}
        currencies = connection.execute("SELECT count(DISTINCT currency) FROM entries WHERE ledger = %s", (ledger,))
        assert currencies.fetchall() == [(4 if alone else 1,)]
    if alone:
        for role in ("accounts_receivable", "prepaid_liability", "cash", "processor_clearing"):
            assert f"fx_remeasurement_{role}" in alone
        assert {"fx_settlement_accounts_receivable", "breakage_estimate"} <= alone


@pytest.mark.campaign
def test_beancount_finds_the_balance_of_every_customer_and_account_at_every_month_end(
    service: Subledger, database: Database, ledger: str, tmp_path: Path
) -> None:
    changes: dict[tuple[Place, Period], Decimal] = defaultdict(Decimal)
    whose = ("", *CUSTOMERS)
    names = {beancount_account(role.name, who or None): (who, role.name) for who in whose for role in ROLES}
    assert len(names) == len(whose) * len(ROLES)
    home, months = home_of(database, ledger), files(service, ledger, "beancount", tmp_path)
    assert max(len(paths) for paths in months.values()) > 1
    for month, paths in months.items():
        for path in paths:
            entries, errors, _ = loader.load_file(str(path))
            assert errors == []
            for entry in entries:
                if not isinstance(entry, Transaction):
                    continue
                assert Period.of(entry.date) == month
                sums: dict[str, Decimal] = defaultdict(Decimal)
                for account, currency, amount in moved(entry, home):
                    customer, role = names[account]
                    assert entry.meta.get("customer", "") == customer
                    changes[(customer, role, currency), month] += amount
                    sums[currency] += amount
                assert not any(sums.values())  # exactly, not approximately
    assert cumulated(changes) == expected(database, ledger)


@pytest.mark.campaign
@needs_hledger
def test_hledger_finds_the_balance_of_every_customer_and_account_at_every_month_end(
    service: Subledger, database: Database, ledger: str, tmp_path: Path
) -> None:
    whose = ("", *CUSTOMERS)
    names = {hledger_account(role.name, who or None): (who, role.name) for who in whose for role in ROLES}
    assert len(names) == len(whose) * len(ROLES)
    months = files(service, ledger, "hledger", tmp_path)
    everything = [argument for paths in months.values() for path in paths for argument in ("-f", str(path))]
    for paths in months.values():
        for path in paths:
            hledger("-f", str(path), "check", "--strict", "accounts", "commodities")
    found: Balances = {}
    for month in MONTHS:
        asked = ("bal", "--flat", "--no-total", "-e", str(month.next.first_day), "-O", "csv", "--layout=bare")
        for at_cost in (False, True):
            how = "-B" if at_cost else "not:tag:functional-of"
            for row in csv.DictReader(io.StringIO(hledger(*everything, *asked, how))):
                if balance := Decimal(row["balance"]):
                    found[(*names[row["account"]], ALL if at_cost else row["commodity"]), month] = balance
    assert found == expected(database, ledger)


def hledger(*arguments: str) -> str:
    done = subprocess.run(["hledger", *arguments], capture_output=True, text=True, env={"LANG": "C.UTF-8"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_summaries_add_up_to_the_same_balances(
    service: Subledger, database: Database, ledger: str, tmp_path: Path
) -> None:
    changes: dict[tuple[Place, Period], Decimal] = defaultdict(Decimal)
    roles = {beancount_account(role.name): role.name for role in ROLES}
    home = home_of(database, ledger)
    for month in MONTHS:
        for one in export(service.recorder, service.database, ledger, month, "beancount"):
            entries, errors, _ = loader.load_string(b"".join(content_of(service.database, one)).decode())
            assert errors == []
            for entry in entries:
                if isinstance(entry, Transaction):
                    assert entry.date == month.last_day
                    for account, currency, amount in moved(entry, home):
                        changes[("", roles[account], currency), month] += amount
    assert cumulated(changes) == by_role(expected(database, ledger))


@needs_hledger
def test_hledger_adds_the_summaries_up_to_the_same_balances(
    service: Subledger, database: Database, ledger: str, tmp_path: Path
) -> None:
    roles = {hledger_account(role.name): role.name for role in ROLES}
    everything = []
    for month in MONTHS:
        for one in export(service.recorder, service.database, ledger, month, "hledger"):
            path = tmp_path / one.filename
            path.write_bytes(b"".join(content_of(service.database, one)))
            hledger("-f", str(path), "check", "--strict", "accounts", "commodities")
            everything += ["-f", str(path)]
    found: Balances = {}
    for how, at_cost in (("-B", True), ("not:tag:functional-of", False)):
        text = hledger(*everything, "bal", "--flat", "--no-total", "-O", "csv", "--layout=bare", how)
        for row in csv.DictReader(io.StringIO(text)):
            if balance := Decimal(row["balance"]):
                found[("", roles[row["account"]], ALL if at_cost else row["commodity"]), MONTHS[-1]] = balance
    totals = by_role(expected(database, ledger))
    assert found == {key: balance for key, balance in totals.items() if key[1] == MONTHS[-1]}


@pytest.mark.parametrize("format", ["csv", "json"])
def test_the_neutral_formats_tell_the_same_lines(
    service: Subledger, database: Database, ledger: str, format: str
) -> None:
    changes: dict[tuple[Place, Period], Decimal] = defaultdict(Decimal)
    for month in MONTHS:
        for one in export(service.recorder, service.database, ledger, month, format):
            text = b"".join(content_of(service.database, one)).decode()
            lines = csv.DictReader(io.StringIO(text)) if format == "csv" else json.loads(text)["lines"]
            for line in lines:
                for currency, prefix in ((line["currency"], ""), (ALL, "functional_")):
                    amount = Decimal(line[f"{prefix}debit"]) - Decimal(line[f"{prefix}credit"])
                    changes[("", line["role"], currency), month] += amount
    assert cumulated(changes) == by_role(expected(database, ledger))
