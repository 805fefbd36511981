"""An HTTP client on the real application, calling from loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from api.service import Subledger


@pytest.fixture(scope="session")
def client(service: Subledger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("SUBLEDGER_HOME", str(tmp_path_factory.mktemp("home")))
    app = create_app(service, open_on_loopback=True)
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50_000)) as client:
        yield client
    monkeypatch.undo()
