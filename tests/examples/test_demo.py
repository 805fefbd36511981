"""The demo's year: what it says of each month's close is what the journal lines add up to, over all currencies."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from api.demo.run import SHOWN, DemoResult, run_demo
from api.service import Subledger
from subledger.accounts import ROLE_BY_NAME, Side
from subledger.money import format_minor
from subledger.periods import Period

pytestmark = pytest.mark.campaign

OF_LINES = """
    SELECT account, sum(CASE side WHEN 'debit' THEN functional_minor ELSE -functional_minor END) AS debits,
           count(DISTINCT currency) AS currencies
    FROM journal_lines WHERE ledger = :ledger AND accounting_date <= :as_of GROUP BY account
"""


@pytest.fixture(scope="module")
def demo(service: Subledger, tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    return run_demo(service, data=None, directory=tmp_path_factory.mktemp("demo"), say=lambda _: None)


def test_the_demo_is_clean_and_writes_the_journals_of_every_month(demo: DemoResult) -> None:
    assert demo.clean
    assert [month["period"] for month in demo.answer["months"]] == [f"2025-{month:02d}" for month in range(1, 13)]
    names = [path.name for path in Path(demo.answer["directory"]).iterdir()]
    for month in demo.answer["months"]:
        of_month = [name for name in names if f"-{month['period']}-1-" in name]
        assert len(of_month) == 4, of_month


def test_its_table_adds_all_currencies_up_in_the_functional_one(service: Subledger, demo: DemoResult) -> None:
    several = 0
    for month in demo.answer["months"]:
        parameters = {"ledger": demo.answer["ledger"], "as_of": Period.parse(month["period"]).last_day}
        with service.database.read() as connection:
            rows = connection.execute(text(OF_LINES), parameters).all()
        debits = {row.account: int(row.debits) for row in rows}
        several += sum(row.currencies > 1 for row in rows if row.account in SHOWN)
        assert month["balances"] == {
            name: format_minor(
                debits.get(name, 0) if ROLE_BY_NAME[name].normal_side is Side.DEBIT else -debits.get(name, 0), "USD"
            )
            for name in SHOWN
        }
    assert several > 20, "or the sums would not show"
