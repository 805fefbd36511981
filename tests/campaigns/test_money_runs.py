"""A smaller run of the money campaign, in `make campaign`. The complete run is `make money`."""

from __future__ import annotations

import os

import pytest

from api.service import Subledger
from subledger.store.database import Database
from tests.campaigns.money import campaign, show

pytestmark = pytest.mark.campaign


def test_the_money_side_is_as_an_independent_model_says(scratch_url: str) -> None:
    """``SUBLEDGER_TEST_MONEY_MINUTES`` sets the duration; the default is two minutes."""
    database = Database(scratch_url)
    try:
        minutes = float(os.environ.get("SUBLEDGER_TEST_MONEY_MINUTES", "2"))
        tally = campaign(Subledger(database), seed=20_261_130, seconds=60 * minutes)
    finally:
        database.close()
    show(tally)
    assert tally.histories > 20
    assert tally.differing == 0
