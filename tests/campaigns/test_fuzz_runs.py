"""A smaller run of the fuzz, on every change. The complete run is `make fuzz`."""

from __future__ import annotations

import pytest

from api.service import Subledger
from subledger.store.database import Database
from tests.campaigns.fuzz import MAX_GROWTH, fuzz, show

pytestmark = pytest.mark.campaign


def test_no_input_to_any_route_makes_the_server_fail(scratch_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBLEDGER_DELIVERY_HOSTS", "127.0.0.1")
    # its own database, because it creates keys, and ledgers with any name
    database = Database(scratch_url)
    try:
        result = fuzz(Subledger(database), inputs=1_500, seed=20_261_130, ledger="fuzz")
    finally:
        database.close()
    show(result)
    assert result.failures == []
    assert result.grown <= MAX_GROWTH
    assert result.inputs == 1_500
    assert len(result.routes) > 40
