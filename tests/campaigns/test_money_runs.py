"""A smaller run of the money campaign, in `make campaign`; all of it is `make money`."""

from __future__ import annotations

import os

import pytest

from api.service import Subledger
from subledger.store.database import Database
from tests.campaigns.money import campaign, show
from tests.campaigns.money_histories import WEIGHTS

pytestmark = pytest.mark.campaign


BY_BLOCK = frozenset({
    "dispute.opened", "dispute.won", "dispute.lost", "escheat.reclaimed", "escheat.remitted", "credit_memo.issued",
    "payment.applied", "payment.refunded", "receivable.written_off",
})  # fmt: skip
"""Types in which the model takes a transferred block for its own share of the purchase, and the product for all of it:
to the product a dispute, a memo, a reclaimed amount or a payment for one block of a purchase means the purchase, so a
payment can be paid back of any of it."""

RUNS = {
    "without transfers": frozenset(WEIGHTS) - {"credits.transferred"},
    "with transfers": frozenset(WEIGHTS) - BY_BLOCK,
}


@pytest.mark.parametrize("run", RUNS)
def test_the_money_side_is_as_an_independent_model_says(scratch_url: str, run: str) -> None:
    """``SUBLEDGER_TEST_MONEY_MINUTES`` says how long, both runs together; two minutes by default."""
    database = Database(scratch_url)
    try:
        minutes = float(os.environ.get("SUBLEDGER_TEST_MONEY_MINUTES", "2")) / len(RUNS)
        tally = campaign(Subledger(database), seed=20_261_130, seconds=60 * minutes, types=RUNS[run])
    finally:
        database.close()
    show(tally)
    assert tally.histories > 20
    assert tally.differing == 0
