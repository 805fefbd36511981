"""What the tests of the store share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from api.service import Subledger
from projections.close.close import close_period
from subledger.ledger_settings import LedgerSettings
from subledger.periods import Period
from subledger.store.database import Database
from tests.store.tampering import LEDGER, history


@pytest.fixture
def own(scratch_url: str) -> Iterator[tuple[Subledger, str]]:
    """A ledger in a database of its own, to be tampered with, and the superuser's URL."""
    database = Database(scratch_url)
    service = Subledger(database)
    service.create_ledger(LEDGER, LedgerSettings(currency="USD"))
    service.record(LEDGER, history(1, 60))
    service.record(LEDGER, history(2, 90)[60:])
    close_period(service.recorder, LEDGER, Period.parse("2026-01"))
    yield service, scratch_url
    database.close()


@pytest.fixture
def owner(owner_url: str) -> Iterator[psycopg.Connection[Any]]:
    """The owner in a transaction that is rolled back."""
    with psycopg.connect(owner_url) as connection:
        yield connection
        connection.rollback()
