"""A separate database for a worker. A worker sweeps every ledger, so in a shared database it would also sweep those of
other tests.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from api.service import Subledger
from subledger.store.database import Database
from tests.conftest import NewLedger, ledgers_of
from tests.scratch_database import scratch_database


@pytest.fixture
def owner_url(server_url: str) -> Iterator[str]:
    with scratch_database(server_url) as url:
        yield url


@pytest.fixture
def database(owner_url: str) -> Iterator[Database]:
    database = Database(owner_url)
    yield database
    database.close()


@pytest.fixture
def service(database: Database) -> Subledger:
    return Subledger(database)


@pytest.fixture
def new_ledger(service: Subledger) -> NewLedger:
    return ledgers_of(service)
