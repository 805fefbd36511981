"""Shared fixtures of the store's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from api.service import Subledger
from projections.close.close import close_period
from subledger.ledger_settings import LedgerSettings
from subledger.periods import Period
from subledger.store.database import Database
from subledger.store.writing import write_behind
from tests.conftest import NewLedger
from tests.store.restorable import Restorable
from tests.store.tampering import LEDGER, history


@pytest.fixture
def ledger(new_ledger: NewLedger) -> str:
    """A new ledger."""
    return new_ledger()


@pytest.fixture
def own(scratch_url: str) -> Iterator[tuple[Subledger, str]]:
    """A ledger in its own database, for tampering, and the superuser's URL."""
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


@pytest.fixture
def left_behind(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the maximum size of a batch that writes its rows at once. At first every batch of usage leaves its rows
    behind.
    """

    def few(events: int) -> None:
        monkeypatch.setattr(write_behind, "MAX_WRITE_THROUGH", events)

    few(0)
    return few


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """One item for each batch that was tried without the lock: ``written``, or None if the lock was needed."""
    found: list[str | None] = []
    call = Database.call

    def watched(self: Database, query: str, parameters: Any) -> list[tuple[Any, ...]]:
        found.append(None)
        rows = call(self, query, parameters)
        if rows[0][0] is not None:
            found[-1] = "written"
        return rows

    monkeypatch.setattr(Database, "call", watched)
    return found


@pytest.fixture
def restorable(scratch_url: str, server_url: str) -> Iterator[Restorable]:
    """A database with a backup, and processes on it."""
    made = Restorable(scratch_url, server_url)
    yield made
    made.end()
