"""The retail replay against the same rules by hand, and against independent judges."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import pytest

from api.demo.run import DemoResult, run_demo
from api.service import Subledger
from tests.conftest import data_file
from tests.examples.retail_by_hand import totals

pytestmark = pytest.mark.xdist_group("retail")


@pytest.fixture(scope="module")
def invoices() -> Path:
    return data_file("online_retail_invoices.csv.gz")


@pytest.fixture(scope="module")
def replay(service: Subledger, invoices: Path, tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    return run_demo(service, data=invoices, directory=tmp_path_factory.mktemp("retail"), say=lambda _: None)


def test_every_month_of_the_retail_replay_has_the_totals_worked_out_by_hand(replay: DemoResult, invoices: Path) -> None:
    by_hand = totals(invoices)
    months = [month["period"] for month in replay.document["months"]]
    assert set(by_hand.broken) <= set(months), "the replay goes on until the last block has expired"
    used = accumulate(by_hand.used[month] for month in months)
    broken = accumulate(by_hand.broken[month] for month in months)
    sold = accumulate(by_hand.sold[month] - by_hand.voided[month] for month in months)
    for month, use, breakage, sale in zip(replay.document["months"], used, broken, sold, strict=True):
        pence = {name: round(float(text) * 100) for name, text in month["balances"].items()}
        assert pence["usage_revenue"] == use, month["period"]
        assert pence["breakage_revenue"] == breakage, month["period"]
        assert pence["accounts_receivable"] == sale, month["period"]
        assert pence["prepaid_liability"] == sale - use - breakage, month["period"]
    assert pence["prepaid_liability"] == 0, "at the end everything is zero"
    assert replay.document["rejected"] == dict(by_hand.rejected)


def test_the_retail_ledger_verifies(replay: DemoResult) -> None:
    assert replay.document["differences"] == []
    assert replay.clean
