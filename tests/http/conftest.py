"""Fixtures of the HTTP tests: a client of the real application, on loopback; the ledgers of the reports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from api.cli.main import app as command_line
from api.http.app import create_app
from api.service import Subledger
from subledger.ledger_settings import LedgerSettings
from subledger.store.writing.expiry_sweep import sweep
from tests.conftest import NewLedger
from tests.http.reported import POLICIES, events_of_the_example, moment


@pytest.fixture(scope="session")
def client(service: Subledger) -> Iterator[TestClient]:
    app = create_app(service, open_on_loopback=True)
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50_000)) as client:
        yield client


@pytest.fixture
def fresh(own_service: Subledger) -> Subledger:
    """A service on its own database with the ledger acme, for tests that depend on the existence of keys."""
    own_service.create_ledger("acme", LedgerSettings(currency="USD"))
    return own_service


@pytest.fixture
def command(owner_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``subledger report``, in this process: ``command("rollforward", "--ledger", ledger)``."""
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", owner_url)
    return lambda *arguments: CliRunner().invoke(command_line, ["report", *arguments])


@pytest.fixture(scope="module")
def ledgers(service: Subledger, new_ledger: NewLedger) -> dict[str, str]:
    """The example of ``reported.py`` under each policy."""
    made = {policy: new_ledger(policy=policy) for policy in POLICIES}
    for ledger in made.values():
        outcomes = service.record(ledger, events_of_the_example())
        assert [outcome.error for outcome in outcomes] == [None] * 9
        assert sweep(service.recorder, ledger, moment("2026-03-15T00:00:01Z")) == 1
    return made
