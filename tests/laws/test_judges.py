"""Independent programs recompute every balance: Beancount and hledger read the detail exports, month by month.

What they find for every customer and account at the end of every month must be what the log says.
"""

from __future__ import annotations

import csv
import io
import random
import shutil
import subprocess
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from beancount import loader
from beancount.core.data import Transaction

from api.service import Subledger
from projections.journals.close import close_period, reopen_period
from projections.journals.exports import content_of, export
from projections.journals.formats.plaintext import beancount_account, hledger_account
from subledger.accounts import ROLES
from subledger.money import exponent
from subledger.periods import Period
from subledger.store.database import Database
from tests.conftest import NewLedger, cloud_event

MONTHS = tuple(Period(2026, month) for month in range(1, 6))
# Ids that are not made for account names: case, dashes, escapes of ours, quotes, separators, other scripts.
CUSTOMERS = (
    "cust-42", "cust--42", "Cust-42", "cus_ABC", "a:b", "a b", "a  b", 'say "hi"', "back\\slash", "émile", "客户",
    "-2d-", "%2C,;|", "1", ":", " x ", "=1+1", "(x)", "C-1", "[2026-03-01]", "date:2026-03-01",
)  # fmt: skip
Balances = dict[tuple[str, str, Period], Decimal]
"""Customer, role, month → debit less credit at its end."""


def random_events(rng: random.Random, count: int, currency: str, tag: str) -> list[dict[str, Any]]:
    """Purchases, grants, usage, reversals, voids, payments and moved expiries in order of time, some of them late."""
    places = exponent(currency)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    blocks: dict[str, list[str]] = defaultdict(list)
    usages: dict[str, list[str]] = defaultdict(list)
    events: list[dict[str, Any]] = []

    def money(most: int) -> str:
        return f"{Decimal(rng.randint(1, most)).scaleb(-places):f}"

    for number in range(count):
        customer = rng.choice(CUSTOMERS)
        moment = start + timedelta(days=150 * number / count, seconds=rng.randint(0, 9999))
        if rng.random() < 0.1:
            moment -= timedelta(days=rng.randint(1, 40))
        time = max(moment, start).isoformat()
        name = f"{tag}-{number}"
        kind = rng.choices(("buy", "grant", "use", "reverse", "void", "pay", "move"), weights=(12, 4, 50, 8, 3, 10, 2))[
            0
        ]
        if kind == "buy" or not blocks[customer]:
            data: dict[str, Any] = {
                "block_id": f"{name} \"é'", "credits": str(rng.randint(1, 400)), "price": money(20_000),
                "currency": currency,
            }  # fmt: skip
            if rng.random() < 0.5:
                data["expires_at"] = (moment + timedelta(days=rng.randint(1, 90))).isoformat()
            if rng.random() < 0.4:
                data["tax"] = money(500)
            blocks[customer].append(data["block_id"])
            event_type = "credits.purchased"
        elif kind == "grant":
            data = {"block_id": f"{name}-g", "credits": str(rng.randint(1, 50)), "reason": "promotional"}
            event_type = "credits.granted"
        elif kind == "use":
            data = {
                "credits": f"{rng.randint(1, 90)}" + (f".{rng.randint(0, 999)}" if rng.random() < 0.3 else ""),
                "product": rng.choice(("api", "storage")), "overage_price": money(30), "currency": currency,
            }  # fmt: skip
            usages[customer].append(name)
            event_type = "credits.consumed"
        elif kind == "reverse" and usages[customer]:
            data = {"event_id": rng.choice(usages[customer]), "reason": "a correction"}
            if rng.random() < 0.6:
                data["credits"] = str(rng.randint(1, 20))
            event_type = "consumption.reversed"
        elif kind == "void":
            data = {"block_id": rng.choice(blocks[customer]), "reason": "returned"}
            event_type = "purchase.voided"
        elif kind == "move":
            data = {"block_id": rng.choice(blocks[customer]), "expires_at": None, "reason": "goodwill"}
            event_type = "block.expiry_changed"
        else:
            data = {"amount": money(9_000), "currency": currency}
            if rng.random() < 0.7:
                data["block_id"] = rng.choice(blocks[customer])
            if rng.random() < 0.5:
                data |= {"processor": "stripe", "fee": money(100)}
            event_type = "payment.received"
        events.append(cloud_event(name, event_type, customer, time) | {"data": data})
    return events


def fill(service: Subledger, ledger: str, events: list[dict[str, Any]]) -> None:
    """Records the events; closes months on the way, exports open ones, reopens once."""
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
    assert recorded > len(events) // 2


@pytest.fixture(
    scope="module", params=[("USD", "customer_deposits"), ("KWD", "contract_liability")], ids=["USD", "KWD"]
)
def ledger(request: pytest.FixtureRequest, service: Subledger, new_ledger: NewLedger) -> str:
    currency, policy = request.param
    ledger = new_ledger(currency=currency, policy=policy, on_shortfall="backfill")
    fill(service, ledger, random_events(random.Random(f"judges {currency}"), 400, currency, currency))
    return ledger


def files(service: Subledger, ledger: str, format: str, folder: Path) -> dict[Period, list[Path]]:
    """The detail exports of every month, as files."""
    result: dict[Period, list[Path]] = {}
    for month in MONTHS:
        result[month] = []
        for one in export(service.recorder, service.database, ledger, month, format, detail=True):
            path = folder / one.filename
            path.write_bytes(b"".join(content_of(service.database, one)))
            result[month].append(path)
    return result


def expected(database: Database, ledger: str) -> Balances:
    """The same balances from the journal lines, by SQL."""
    query = """
        SELECT customer, account, currency, to_char(accounting_date, 'YYYY-MM'),
               sum(CASE side WHEN 'debit' THEN amount_minor ELSE -amount_minor END)
        FROM journal_lines WHERE ledger = %s GROUP BY 1, 2, 3, 4
    """
    with database.write() as connection:
        rows = connection.execute(query, (ledger,)).fetchall()
    changes = {
        (customer, role, Period.parse(month)): Decimal(minor).scaleb(-exponent(currency))
        for customer, role, currency, month, minor in rows
    }
    assert {customer for customer, _, _ in changes} == set(CUSTOMERS)
    return cumulated(changes)


def cumulated(changes: dict[tuple[str, str, Period], Decimal]) -> Balances:
    """Balances at the end of every month from what each month changed; accounts that are at zero left out."""
    balances: Balances = {}
    for customer, role in {key[:2] for key in changes}:
        total = Decimal(0)
        for month in MONTHS:
            total += changes.get((customer, role, month), Decimal(0))
            if total:
                balances[customer, role, month] = total
    return balances


def test_beancount_finds_the_balance_of_every_customer_and_account_at_every_month_end(
    service: Subledger, database: Database, ledger: str, tmp_path: Path
) -> None:
    changes: dict[tuple[str, str, Period], Decimal] = defaultdict(Decimal)
    names = {beancount_account(role.name, customer): (customer, role.name) for customer in CUSTOMERS for role in ROLES}
    assert len(names) == len(CUSTOMERS) * len(ROLES)
    months = files(service, ledger, "beancount", tmp_path)
    assert max(len(paths) for paths in months.values()) > 1
    for month, paths in months.items():
        for path in paths:
            entries, errors, _ = loader.load_file(str(path))
            assert errors == []
            for entry in entries:
                if not isinstance(entry, Transaction):
                    continue
                assert Period.of(entry.date) == month
                assert {posting.units.currency for posting in entry.postings} <= {"USD", "KWD"}
                assert sum(posting.units.number for posting in entry.postings) == 0  # exactly, not nearly
                for posting in entry.postings:
                    customer, role = names[posting.account]
                    assert entry.meta["customer"] == customer
                    changes[customer, role, month] += posting.units.number
    assert cumulated(changes) == expected(database, ledger)


@pytest.mark.skipif(shutil.which("hledger") is None, reason="hledger is not installed")
def test_hledger_finds_the_balance_of_every_customer_and_account_at_every_month_end(
    service: Subledger, database: Database, ledger: str, tmp_path: Path
) -> None:
    names = {hledger_account(role.name, customer): (customer, role.name) for customer in CUSTOMERS for role in ROLES}
    assert len(names) == len(CUSTOMERS) * len(ROLES)
    months = files(service, ledger, "hledger", tmp_path)
    everything = [argument for paths in months.values() for path in paths for argument in ("-f", str(path))]
    for paths in months.values():
        for path in paths:
            hledger("-f", str(path), "check", "--strict", "accounts", "commodities")
    found: Balances = {}
    for month in MONTHS:
        text = hledger(
            *everything, "bal", "--flat", "--no-total", "-e", str(month.next.first_day), "-O", "csv", "--layout=bare"
        )
        for row in csv.DictReader(io.StringIO(text)):
            customer, role = names[row["account"]]
            found[customer, role, month] = Decimal(row["balance"])
    assert found == expected(database, ledger)


def hledger(*arguments: str) -> str:
    done = subprocess.run(["hledger", *arguments], capture_output=True, text=True, env={"LANG": "C.UTF-8"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_summaries_add_up_to_the_same_balances(
    service: Subledger, database: Database, ledger: str, tmp_path: Path
) -> None:
    changes: dict[tuple[str, str, Period], Decimal] = defaultdict(Decimal)
    roles = {beancount_account(role.name): role.name for role in ROLES}
    for month in MONTHS:
        for one in export(service.recorder, service.database, ledger, month, "beancount"):
            entries, errors, _ = loader.load_string(b"".join(content_of(service.database, one)).decode())
            assert errors == []
            for entry in entries:
                if isinstance(entry, Transaction):
                    assert entry.date == month.last_day
                    for posting in entry.postings:
                        changes["", roles[posting.account], month] += posting.units.number
        for one in export(service.recorder, service.database, ledger, month, "hledger"):
            path = tmp_path / one.filename
            path.write_bytes(b"".join(content_of(service.database, one)))
            if shutil.which("hledger") is not None:
                hledger("-f", str(path), "check", "--strict", "accounts", "commodities")
    totals: dict[tuple[str, str, Period], Decimal] = defaultdict(Decimal)
    for (_, role, month), balance in expected(database, ledger).items():
        totals["", role, month] += balance
    assert cumulated(changes) == {key: total for key, total in totals.items() if total}
