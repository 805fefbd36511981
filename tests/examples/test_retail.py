"""The retail replay against the same rules by hand, and against independent judges."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from collections import Counter
from decimal import Decimal
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from beancount import loader
from beancount.core.data import Transaction

from api.demo.run import DemoResult, run_demo
from api.service import Subledger
from projections.account_mapping.mapping import default_mapping
from projections.exports import exporting, exports
from projections.exports.formats import FORMATS
from projections.exports.formats.plaintext import beancount_account, hledger_account
from projections.reads import balances
from subledger.accounts import ROLES
from subledger.periods import Period
from tests.conftest import data_file, needs_hledger
from tests.examples.general_ledgers_by_hand import READERS
from tests.examples.retail_by_hand import totals

pytestmark = pytest.mark.campaign


@pytest.fixture(scope="module")
def invoices() -> Path:
    return data_file("online_retail_invoices.csv.gz")


@pytest.fixture(scope="module")
def replay(service: Subledger, invoices: Path, tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    return run_demo(service, data=invoices, directory=tmp_path_factory.mktemp("retail"), say=lambda _: None)


def test_every_month_of_the_retail_replay_has_the_totals_worked_out_by_hand(replay: DemoResult, invoices: Path) -> None:
    by_hand = totals(invoices)
    months = [month["period"] for month in replay.answer["months"]]
    assert set(by_hand.broken) <= set(months), "the replay goes on until the last block has expired"
    used = accumulate(by_hand.used[month] for month in months)
    broken = accumulate(by_hand.broken[month] for month in months)
    sold = accumulate(by_hand.sold[month] - by_hand.voided[month] for month in months)
    for month, use, breakage, sale in zip(replay.answer["months"], used, broken, sold, strict=True):
        pence = {name: round(float(text) * 100) for name, text in month["balances"].items()}
        assert pence["usage_revenue"] == use, month["period"]
        assert pence["breakage_revenue"] == breakage, month["period"]
        assert pence["accounts_receivable"] == sale, month["period"]
        assert pence["prepaid_liability"] == sale - use - breakage, month["period"]
    assert pence["prepaid_liability"] == 0, "at the end everything is zero"
    assert replay.answer["rejected"] == dict(by_hand.rejected)


def test_the_retail_ledger_verifies(replay: DemoResult) -> None:
    assert replay.answer["differences"] == []
    assert replay.clean


def test_a_forecast_made_at_the_ninth_month_is_set_beside_what_happened(service: Subledger, replay: DemoResult) -> None:
    """The forecast is compared with the journal's own figures; its error is stated and smaller than the benchmarks'."""
    made = replay.answer["months"][8]
    found = replay.answer["forecast"]
    assert (found["to"], found["as_of"]) == ("2011-08-31", "2011-11-30")
    assert found["ties_out"] is True
    assert found["items"][0]["opening"] == made["balances"]["prepaid_liability"]
    _is_what_was_written_then(replay, found)
    for row in found["compared"]:
        assert round(Decimal(row["actual"]) * 100) == _revenue(
            service, replay.answer["ledger"], Period.parse(made["period"]), Period.parse(row["period"]), row["what"]
        ), row
        assert Decimal(row["error"]) == Decimal(row["forecast"]) - Decimal(row["actual"])
        if row["low"] is not None or row["what"] != "total_consumption":
            assert Decimal(row["low"]) <= Decimal(row["forecast"]) <= Decimal(row["high"])
    for what in ("consumption", "breakage"):
        rows = [row for row in found["compared"] if row["what"] == what]
        wape = {row["method"]: Decimal(row["wape"]) for row in found["compared_accuracy"] if row["what"] == what}
        off = sum(abs(Decimal(row["error"])) for row in rows) / sum(Decimal(row["actual"]) for row in rows)
        assert abs(wape["forecast"] - off) < Decimal("0.000001")
        assert wape["forecast"] < Decimal("0.25") < min(wape["run_rate"], wape["nothing_used"])


def _is_what_was_written_then(replay: DemoResult, found: dict[str, Any]) -> None:
    """Made when the ninth month was closed and nothing of the next was known, and made again at the end: the same."""
    then = json.loads((Path(replay.answer["directory"]) / "reports" / "forecast-2011-08.json").read_text("utf-8"))
    assert then["items"][:3] == found["items"][:3]
    assert then["backtest"] == found["backtest"]
    assert [row["forecast"] for row in found["compared"]] == [
        amount
        for row, all_blocks in zip(then["items"][:3], then["consumption"][:3], strict=True)
        for amount in (row["consumption"], row["breakage"], all_blocks["consumption"])
    ]


def _revenue(service: Subledger, ledger: str, made: Period, month: Period, what: str) -> int:
    """The revenue in a month of the blocks that had a balance at the end of another month, or of all, by SQL."""
    account = "breakage_revenue" if what == "breakage" else "usage_revenue"
    query = """
        WITH signed AS (
            SELECT block_id, account, accounting_date,
                   CASE side WHEN 'credit' THEN amount_minor ELSE -amount_minor END AS pence
            FROM journal_lines WHERE ledger = %(ledger)s
        ), open_then AS (
            SELECT block_id FROM signed WHERE account = 'prepaid_liability' AND accounting_date <= %(made)s
            GROUP BY block_id HAVING sum(pence) > 0
        )
        SELECT coalesce(sum(pence), 0) FROM signed
        WHERE (%(of_all)s OR block_id IN (SELECT block_id FROM open_then))
          AND account = %(account)s AND accounting_date BETWEEN %(first)s AND %(last)s
    """
    parameters = {
        "ledger": ledger,
        "made": made.last_day,
        "account": account,
        "of_all": what == "total_consumption",
        "first": month.first_day,
        "last": month.last_day,
    }
    with service.database.read() as connection:
        return int(connection.exec_driver_sql(query, parameters).scalar_one())


def _of_each_customer(service: Subledger, ledger: str, month: Period) -> dict[tuple[str, str], int]:
    """The change of each customer's accounts in a month, in pence, debit less credit, by SQL."""
    with service.database.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT customer, account, sum(CASE side WHEN 'debit' THEN amount_minor ELSE -amount_minor END)"
            " FROM journal_lines WHERE ledger = %s AND accounting_date BETWEEN %s AND %s GROUP BY 1, 2",
            (ledger, month.first_day, month.last_day),
        ).all()
    return {(customer, account): int(pence) for customer, account, pence in rows if pence}


def _months(replay: DemoResult) -> list[Period]:
    return [Period.parse(month["period"]) for month in replay.answer["months"]]


def _detail_files(replay: DemoResult, month: Period, extension: str) -> list[Path]:
    folder = Path(replay.answer["directory"])
    return sorted(folder.glob(f"*-{month}-*-detail.{extension}"))


def test_beancount_finds_every_customers_balance_at_every_month_end(service: Subledger, replay: DemoResult) -> None:
    """Equal changes in every month, from nothing: so the balances at every month's end are equal too."""
    roles = {beancount_account(role.name): role.name for role in ROLES}
    for month in _months(replay):
        found: Counter[tuple[str, str]] = Counter()
        for path in _detail_files(replay, month, "beancount"):
            entries, errors, _ = loader.load_file(str(path))
            assert errors == []
            for entry in entries:
                if isinstance(entry, Transaction):
                    for posting in entry.postings:
                        role = roles[posting.account.rpartition(":")[0]]
                        found[entry.meta["customer"], role] += int(posting.units.number * 100)
        assert {key: pence for key, pence in found.items() if pence} == _of_each_customer(
            service, replay.answer["ledger"], month
        ), month


@needs_hledger
def test_hledger_finds_every_customers_balance_at_every_month_end(service: Subledger, replay: DemoResult) -> None:
    names = {hledger_account(role.name): role.name for role in ROLES}
    for month in _months(replay):
        files = [part for path in _detail_files(replay, month, "journal") for part in ("-f", str(path))]
        done = subprocess.run(
            ["hledger", *files, "bal", "--flat", "--no-total", "-O", "csv", "--layout=bare"],
            capture_output=True,
            text=True,
            env={"LANG": "C.UTF-8"},
        )
        assert done.returncode == 0, done.stderr
        found = {}
        for row in csv.DictReader(io.StringIO(done.stdout)):
            account, _, customer = row["account"].rpartition(":")
            found[customer, names[account]] = round(Decimal(row["balance"]) * 100)
        assert found == _of_each_customer(service, replay.answer["ledger"], month), month


# --- what the general ledger gets -----------------------------------------------------------------------------------


def test_every_general_ledgers_format_is_read_back() -> None:
    assert set(READERS) == {name for name, form in FORMATS.items() if form.target is not None}


@pytest.mark.parametrize("name", READERS)
def test_every_months_files_for_a_general_ledger_balance_and_add_up_to_the_trial_balance(
    service: Subledger, replay: DemoResult, name: str
) -> None:
    chart = default_mapping().rows
    account_of = {row["account"]: row["account"] for row in chart} | {row["name"]: row["account"] for row in chart}
    sums: Counter[str] = Counter()
    ledger = replay.answer["ledger"]
    for month in _months(replay):
        for made in exporting.export(service.recorder, service.database, ledger, month, name):
            for document in READERS[name](b"".join(exports.content_of(service.database, made))):
                assert sum(amount for _, amount in document) == 0
                for account, amount in document:
                    sums[account_of[account.lstrip("0").rstrip("-")]] += round(amount * 100)
    roles = {row["role"]: row["account"] for row in chart}
    with service.view(ledger, as_of=_months(replay)[-1].last_day) as view:
        books = {
            roles[account.account]: account.debit_minor - account.credit_minor
            for account in balances.trial_balance(view)
        }
    assert {a: pence for a, pence in sums.items() if pence} == {a: pence for a, pence in books.items() if pence}
