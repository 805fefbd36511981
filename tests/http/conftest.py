"""An HTTP client on the real application, calling from loopback."""

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


@pytest.fixture(scope="session")
def client(service: Subledger) -> Iterator[TestClient]:
    app = create_app(service, open_on_loopback=True)
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50_000)) as client:
        yield client


@pytest.fixture
def fresh(own_service: Subledger) -> Subledger:
    """A service on a database of its own with the ledger acme, for when it matters whether any key exists."""
    own_service.create_ledger("acme", LedgerSettings(currency="USD"))
    return own_service


@pytest.fixture
def command(owner_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``subledger report``, in this process: ``command("rollforward", "--ledger", ledger)``."""
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", owner_url)
    return lambda *arguments: CliRunner().invoke(command_line, ["report", *arguments])
