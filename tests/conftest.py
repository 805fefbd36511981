"""Shared fixtures: one embedded server for the run, one migrated database per worker, a new ledger per test."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from sqlalchemy import make_url
from xdist.scheduler import LoadScopeScheduling

from api.service import Subledger
from subledger.ledger_settings import LedgerSettings
from subledger.store.database import Database
from subledger.store.embedded import server as embedded
from subledger.store.migrate import migrate
from tests.building import purchase, recorded
from tests.scratch_database import scratch_database
from tests.store.watched import watch_statements

# Modules whose tests start servers of their own or share something large: each is one worker's, so that no two of them
# build the same thing at once. (xdist's own marks for groups are lost between it and pytest 9.)
ONE_WORKERS = ("tests/benchmarks/test_bench_runs.py", "tests/examples/test_retail.py", "tests/http/test_readme.py")


class _Scheduling(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if module in ONE_WORKERS else nodeid


@pytest.hookimpl(optionalhook=True)  # `make mutation` runs without xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what Hypothesis drives as a ``law``: `make campaign` runs it again, on more examples."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker("law")


settings.register_profile(
    "default",
    deadline=None,
    max_examples=int(os.environ.get("SUBLEDGER_TEST_EXAMPLES", "20")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    print_blob=True,
)
# For `make mutation`: the same examples on every run, and none made smaller, as it only asks whether a law fails.
settings.register_profile(
    "mutation",
    settings.get_profile("default"),
    max_examples=40,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile("default")
watch_statements()

WORKER = os.environ.get("PYTEST_XDIST_WORKER")
DATA = Path(os.environ.get("SUBLEDGER_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


# An independent judge that pip cannot install (CI takes it from Debian): skipped, visibly, where it is absent.
needs_hledger = pytest.mark.skipif(shutil.which("hledger") is None, reason="hledger is not installed")


def data_file(name: str) -> Path:
    """A file of the shared test data; the test is skipped, visibly, where it is absent."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not in SUBLEDGER_TEST_DATA ({DATA})")
    return path


@pytest.fixture(scope="session", autouse=True)
def home_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests keep nothing in the home of whoever runs them: the next run would meet it, under the same ledger ids."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBLEDGER_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The owner's URL of an embedded server that all workers of this run share; it ends by itself when unused.

    One connection is held as long as the tests run: a slow test of something else must not make it look unused.
    """
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if WORKER else base) / "shared-server"
    url = embedded.ensure_running(home, idle_timeout_s=60.0)
    with psycopg.connect(url, autocommit=True):
        yield url


@pytest.fixture
def fresh_database_url(server_url: str) -> Iterator[str]:
    """The owner's URL of an empty database of its own, dropped at the end."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def scratch_url(server_url: str) -> Iterator[str]:
    """The owner's URL of a migrated database of its own, dropped at the end: for what is about every ledger of a
    database, or disturbs what others see."""
    with scratch_database(server_url) as url:
        yield url


@pytest.fixture(scope="session")
def owner_url(server_url: str) -> str:
    """The owner's URL of this worker's migrated database."""
    name = f"worker_{WORKER or 'master'}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
            connection.execute(f"CREATE DATABASE {name}")
    url = make_url(server_url).set(database=name).render_as_string(hide_password=False)
    migrate(url)
    return url


@pytest.fixture(scope="session")
def database(owner_url: str) -> Iterator[Database]:
    database = Database(owner_url)
    yield database
    database.close()


@pytest.fixture(scope="session")
def service(database: Database) -> Subledger:
    return Subledger(database)


@pytest.fixture
def own_service(scratch_url: str) -> Iterator[Subledger]:
    """A service on a database of its own; its URL is ``scratch_url``."""
    database = Database(scratch_url)
    yield Subledger(database)
    database.close()


@pytest.fixture(scope="module")
def modules_url(server_url: str) -> Iterator[str]:
    """The owner's URL of a migrated database that a module has for itself."""
    with scratch_database(server_url) as url:
        yield url


@pytest.fixture(scope="module")
def modules_service(modules_url: str) -> Iterator[Subledger]:
    """A service on the database that a module has for itself."""
    database = Database(modules_url)
    yield Subledger(database)
    database.close()


NewLedger = Callable[..., str]

FAR: Final = datetime(2100, 1, 1, tzinfo=UTC)
"""A sandbox's clock after everything that tests date."""


@pytest.fixture(scope="session")
def new_ledger(service: Subledger) -> NewLedger:
    """Creates a ledger with an id of its own and returns the id: ``new_ledger(policy="contract_liability")``.

    What is dated after the day these tests were written needs ``new_ledger(sandbox=True, clock=FAR)``: a real ledger
    takes nothing from the future.
    """
    return ledgers_of(service)


def ledgers_of(service: Subledger) -> NewLedger:
    """Creates ledgers in a service's database, as ``new_ledger`` does."""

    def create(**changes: Any) -> str:
        ledger = f"t-{uuid.uuid4().hex[:10]}"
        service.create_ledger(ledger, LedgerSettings(**{"currency": "USD", **changes}))
        return ledger

    return create


@pytest.fixture
def funded_ledger(service: Subledger, new_ledger: NewLedger) -> str:
    """A ledger whose customer c has a million credits."""
    ledger = new_ledger()
    recorded(service, ledger, purchase("b-c", "1000000", "c", "2026-01-01", price="9999.99"))
    return ledger


_BORDERS: Final = (
    "SUBLEDGER_CREDENTIALS", "SUBLEDGER_CREDENTIALS_SHARED", "SUBLEDGER_DELIVERY_FOLDERS", "SUBLEDGER_DELIVERY_HOSTS",
)  # fmt: skip


@pytest.fixture(autouse=True)
def borders_as_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deliveries and credentials are where nothing was set, whatever the shell of whoever runs the tests has."""
    for name in _BORDERS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def open_borders(borders_as_shipped: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deliveries may go to stand-ins and tests' folders; credentials may be where tests put them, for any ledger.

    For modules that deliver: ``pytestmark = pytest.mark.usefixtures("open_borders")``.
    """
    monkeypatch.setenv("SUBLEDGER_CREDENTIALS", tempfile.gettempdir())
    monkeypatch.setenv("SUBLEDGER_CREDENTIALS_SHARED", "1")
    monkeypatch.setenv("SUBLEDGER_DELIVERY_HOSTS", "127.0.0.1, localhost, *")
    monkeypatch.setenv("SUBLEDGER_DELIVERY_FOLDERS", f"{tempfile.gettempdir()}:/drop")


@pytest.fixture
def keys_are_forgotten(owner_url: str) -> Iterator[None]:
    """A key in the shared database would close its HTTP API to every test that has none."""
    yield
    with psycopg.connect(owner_url) as connection:
        connection.execute("ALTER TABLE api_keys DISABLE TRIGGER never_deleted")
        connection.execute("DELETE FROM api_keys")
        connection.execute("ALTER TABLE api_keys ENABLE ALWAYS TRIGGER never_deleted")
        connection.execute("DELETE FROM tallies WHERE relation = 'api_keys'")
