"""A database that was dumped and restored holds the same books, and its verification is as clean as before.

And a process that ran all the while answers by the log that is there now, not by the one that is gone.
"""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from api import documents, reports
from api.service import LedgerSettings, Subledger
from projections import blocks
from projections.integrity import verify
from projections.journals.mapping import Mapping, adopt_mapping, default_mapping
from subledger.periods import Period
from subledger.posting import shipped_policy
from subledger.store.database import Database
from subledger.store.embedded_programs import candidates
from subledger.store.in_force import rules_of
from subledger.store.ledgers import ledger_head
from subledger.store.pages import event_at
from tests.building import cloud_event


def program(name: str, major: int) -> Path:
    """One of PostgreSQL's programs, of the server's version; the test is skipped, visibly, where there is none."""
    for found in candidates():
        if found.major == major and (found.folder / name).exists():
            return found.folder / name
    pytest.skip(f"there is no {name} of PostgreSQL {major} on this machine")


def test_a_restored_database_verifies_clean(scratch_url: str, server_url: str, tmp_path: Path) -> None:
    """The server writes a nested condition of a trigger in one way, and in another once it has read that again."""
    database = Database(scratch_url)
    service = Subledger(database)
    service.create_ledger("acme", LedgerSettings(currency="USD"))
    service.record("acme", [
        cloud_event("b", "credits.purchased", "ann", "2026-01-05T10:00:00Z", block_id="b", credits="10",
                    price="10.00", currency="USD"),
        cloud_event("u", "credits.consumed", "ann", "2026-01-06T10:00:00Z", credits="4"),
    ])  # fmt: skip
    assert [each.message for each in verify(database, "acme").differences] == []
    database.close()
    with psycopg.connect(server_url, autocommit=True) as connection:
        major = connection.info.server_version // 10_000
        name = f"restored_{uuid.uuid4().hex[:12]}"
        dump, restore = program("pg_dump", major), program("pg_restore", major)
        connection.execute(f"CREATE DATABASE {name}")
        try:
            file = str(tmp_path / "books.dump")
            other = make_url(server_url).set(database=name).render_as_string(hide_password=False)
            subprocess.run([dump, "--format=custom", f"--file={file}", scratch_url], check=True)
            subprocess.run([restore, "--exit-on-error", f"--dbname={other}", file], check=True)
            restored = Database(other)
            assert [each.message for each in verify(restored, "acme").differences] == []
            restored.close()
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


class Restorable:
    """A migrated database, its backup, and processes on it: each a Subledger with a Database of its own."""

    def __init__(self, url: str, server_url: str) -> None:
        self._url, self._server_url = url, server_url
        self._live, self._backup = make_url(url).database, f"backup_{uuid.uuid4().hex[:12]}"
        self._processes: list[Database] = []

    def process(self) -> Subledger:
        self._processes.append(Database(self._url))
        return Subledger(self._processes[-1])

    def back_up(self) -> None:
        self._copy(self._live, self._backup)

    def restore(self) -> None:
        """The processes go on: they lose their connections, and nothing of what they remember."""
        self._copy(self._backup, self._live)

    def _copy(self, of: str | None, to: str | None) -> None:
        with psycopg.connect(self._server_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = ANY(%s)", ([of, to],)
            )
            connection.execute(f"DROP DATABASE IF EXISTS {to}")
            connection.execute(f"CREATE DATABASE {to} TEMPLATE {of}")

    def end(self) -> None:
        for database in self._processes:
            database.close()
        with psycopg.connect(self._server_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {self._backup} WITH (FORCE)")


@pytest.fixture
def restorable(scratch_url: str, server_url: str) -> Iterator[Restorable]:
    made = Restorable(scratch_url, server_url)
    yield made
    made.end()


def founded(service: Subledger, **settings: Any) -> None:
    assert service.create_ledger("acme", LedgerSettings(currency="USD", **settings))


def bought(service: Subledger) -> None:
    [outcome] = service.record("acme", [cloud_event(
        "b", "credits.purchased", "ann", "2026-01-05T10:00:00Z", block_id="b", credits="10", price="10.00",
        currency="USD")])  # fmt: skip
    assert outcome.status == "recorded"


def used(service: Subledger) -> int:
    [outcome] = service.record("acme", [cloud_event("u", "credits.consumed", "ann", "2026-01-06T10:00:00Z",
                                                    credits="1")])  # fmt: skip
    assert outcome.position is not None
    return outcome.position


def told(service: Subledger, *, position: int | None = None) -> dict[str, Any]:
    """What a process answers about the ledger, in every way that needs rules or settings."""
    day = date(2026, 1, 31)
    found: dict[str, Any] = {"trial balance": documents.trial_balance(*service.trial_balance("acme", as_of=day))}
    found["customer"] = documents.customer_balances(*_of_customer(service, day))
    with service.view("acme", as_of=day) as view:
        found["blocks"] = [documents.block(block, "USD") for block in blocks.customer_blocks(view)[0]]
    for name in ("trial-balance", "summary", "rollforward", "waterfall", "clearing", "receivables", "performance"):
        with reports.answer(service, "acme", name, reports.Question(as_of=day)) as (report, view, asked):
            found[name] = reports.document(report, view, asked)
    if position is not None:
        with service.database.read() as connection:
            rules = rules_of(service.database, connection, "acme")
            found["event"] = documents.event(event_at(connection, "acme", position), rules, "USD")
    return found


def _of_customer(service: Subledger, day: date) -> tuple[Any, str, Any]:
    at, found = service.customer_balances("acme", "ann", as_of=day)
    return at, "ann", found


def test_after_a_restore_a_running_process_posts_and_answers_by_the_rules_of_the_log_that_is_there(
    restorable: Restorable,
) -> None:
    """The same policy number stands for other rules than before the restore."""
    a, b = restorable.process(), restorable.process()
    founded(a, policy="customer_deposits")
    bought(a)
    restorable.back_up()
    a.adopt_policy("acme", shipped_policy("contract_liability"))
    told(a, position=used(a))
    restorable.restore()
    b.adopt_policy("acme", shipped_policy("customer_deposits_arm"))
    position = used(b)
    assert told(a, position=position) == told(b, position=position) == told(restorable.process(), position=position)
    balances = {item["account"]: item["balance"] for item in told(a)["trial balance"]["accounts"]}
    assert (balances["deferred_revenue"], balances["customer_deposits"]) == ("1.00", "9.00")
    assert "usage_revenue" not in balances
    assert [*verify(a.database, "acme").differences, *verify(b.database, "acme").differences] == []


def test_after_a_restore_a_running_process_goes_by_the_mapping_of_the_log_that_is_there(restorable: Restorable) -> None:
    def adopted(service: Subledger, account: str) -> None:
        rows = [{**row, "account": account} if row["role"] == "cash" else dict(row) for row in default_mapping().rows]
        assert adopt_mapping(service.recorder, "acme", Mapping.from_rows(rows), valid_from=Period(2026, 1))

    a, b = restorable.process(), restorable.process()
    founded(a)
    bought(a)
    restorable.back_up()
    adopted(a, "8888")
    told(a)
    restorable.restore()
    adopted(b, "9999")
    assert told(a) == told(b)


def test_after_a_restore_a_running_process_goes_by_the_settings_of_the_ledger_that_is_there(
    restorable: Restorable,
) -> None:
    """The ledger of the same name lives in another time zone now, or has a clock of its own: its today is another."""

    def today(service: Subledger) -> list[date]:
        with service.view("acme") as view:
            return [view.as_of, service.trial_balance("acme")[0].as_of]

    a, b = restorable.process(), restorable.process()
    restorable.back_up()
    founded(a, timezone="Pacific/Kiritimati")  # 14 hours before UTC
    before = today(a)
    restorable.restore()
    founded(b, timezone="Pacific/Niue")  # 11 hours after UTC: never the same day
    assert today(a) == today(b)
    assert today(a)[0] < before[0]
    restorable.restore()
    founded(b, sandbox=True, clock=datetime(2031, 2, 1, 9, tzinfo=UTC))
    assert today(a) == today(b) == [date(2031, 2, 1)] * 2


def test_after_a_restore_a_running_process_decides_by_the_log_that_is_there(restorable: Restorable) -> None:
    """What it remembers of the log that is gone decides nothing: neither which ids are taken, nor what is left."""
    a = restorable.process()
    founded(a)
    bought(a)
    restorable.back_up()
    assert used(a) == used(a)  # a duplicate
    position = used(a)
    restorable.restore()
    with a.database.read() as connection:
        assert ledger_head(connection, "acme").position == position - 1
    assert used(a) == position
    assert told(a, position=position) == told(restorable.process(), position=position)
    assert [*verify(a.database, "acme").differences] == []
