"""A database that was dumped and restored has the same books, and its verification is as clean as before.

A process that ran during the restore answers from the restored log, not from the replaced one.
"""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest

from api.service import Subledger
from api.shapes import balances as balance_answers
from api.shapes import events as event_answers
from api.shapes import reports
from projections.account_mapping.mapping import AccountMapping, default_mapping
from projections.configuring.account_mappings import adopt_mapping
from projections.exports.exporting import export
from projections.integrity import verify
from projections.reads import blocks
from projections.reads.date_reasons import reasons_of
from subledger.ledger_settings import LedgerSettings, SettingsChange
from subledger.periods import Period
from subledger.posting import shipped_policy
from subledger.store.database import Database
from subledger.store.embedded.programs import candidates
from subledger.store.reading.in_force import rules_of
from subledger.store.reading.ledgers import ledger_head
from subledger.store.reading.pages import event_at
from tests.building import cloud_event
from tests.charts import another_chart
from tests.laws.asked_again import asked_in_another_process
from tests.laws.reads import Answer, Asking, Moment, Reads
from tests.scratch_database import create_database, drop_database, url_of
from tests.store.restorable import Restorable
from tests.store.walked import record_months


def program(name: str, major: int) -> Path:
    """Returns one of PostgreSQL's programs in the server's version. Without it, the test is skipped visibly."""
    for found in candidates():
        if found.major == major and (found.folder / name).exists():
            return found.folder / name
    pytest.skip(f"there is no {name} of PostgreSQL {major} on this machine")


@contextmanager
def restored(url: str, folder: Path) -> Iterator[str]:
    """Yields the owner's URL of a database that was made from a dump of another one."""
    with psycopg.connect(url) as connection:
        major = connection.info.server_version // 10_000
    dump, restore = program("pg_dump", major), program("pg_restore", major)
    name, file = f"restored_{uuid.uuid4().hex[:12]}", str(folder / "books.dump")
    create_database(url_of(url, "postgres"), name)
    try:
        other = url_of(url, name)
        subprocess.run([dump, "--format=custom", f"--file={file}", url], check=True)
        subprocess.run([restore, "--exit-on-error", f"--dbname={other}", file], check=True)
        yield other
    finally:
        drop_database(url_of(url, "postgres"), name)


def test_a_restored_database_verifies_clean(scratch_url: str, tmp_path: Path) -> None:
    """The server prints a nested condition of a trigger in another form after it has read its own output."""
    database = Database(scratch_url)
    service = Subledger(database)
    service.create_ledger("acme", LedgerSettings(currency="USD"))
    service.record(
        "acme",
        [
            cloud_event(
                "b",
                "credits.purchased",
                "ann",
                "2026-01-05T10:00:00Z",
                block_id="b",
                credits="10",
                price="10.00",
                currency="USD",
            ),
            cloud_event("u", "credits.consumed", "ann", "2026-01-06T10:00:00Z", credits="4"),
        ],
    )
    assert [each.message for each in verify(database, "acme").differences] == []
    database.close()
    with restored(scratch_url, tmp_path) as url:
        other = Database(url)
        assert [each.message for each in verify(other, "acme").differences] == []
        other.close()


def founded(service: Subledger, **settings: Any) -> None:
    assert service.create_ledger("acme", LedgerSettings(currency="USD", **settings))


def bought(service: Subledger) -> None:
    [outcome] = service.record(
        "acme",
        [
            cloud_event(
                "b",
                "credits.purchased",
                "ann",
                "2026-01-05T10:00:00Z",
                block_id="b",
                credits="10",
                price="10.00",
                currency="USD",
            )
        ],
    )
    assert outcome.status == "recorded"


def used(service: Subledger) -> int:
    [outcome] = service.record(
        "acme", [cloud_event("u", "credits.consumed", "ann", "2026-01-06T10:00:00Z", credits="1")]
    )
    assert outcome.position is not None
    return outcome.position


def told(service: Subledger, *, position: int | None = None) -> dict[str, Any]:
    """Returns a process's answers about the ledger, for every read that needs rules or settings."""
    day = date(2026, 1, 31)
    found: dict[str, Any] = {"trial balance": balance_answers.trial_balance(*service.trial_balance("acme", as_of=day))}
    found["customer"] = balance_answers.customer_balances(*_of_customer(service, day))
    with service.view("acme", as_of=day) as view:
        found["blocks"] = [balance_answers.block(block, "USD") for block in blocks.customer_blocks(view)[0]]
    for name in ("trial-balance", "summary", "rollforward", "waterfall", "clearing", "receivables", "performance"):
        with reports.answer(service, "acme", name, reports.ReportQuery(as_of=day)) as (report, view, asked):
            found[name] = reports.as_json(report, view, asked)
    if position is not None:
        with service.database.read() as connection:
            rules = rules_of(service.database, connection, "acme")
            found["event"] = event_answers.event(
                event_at(connection, "acme", position), rules, "USD", reasons_of(connection, "acme", [position])
            )
    return found


def _of_customer(service: Subledger, day: date) -> tuple[Any, str, Any]:
    at, found = service.customer_balances("acme", "ann", as_of=day)
    return at, "ann", found


@pytest.mark.campaign
def test_after_a_restore_a_running_process_posts_and_answers_by_the_rules_of_the_log_that_is_there(
    restorable: Restorable,
) -> None:
    """The same policy number has other rules than before the restore."""
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


@pytest.mark.campaign
def test_after_a_restore_a_running_process_goes_by_the_mapping_of_the_log_that_is_there(restorable: Restorable) -> None:
    def adopted(service: Subledger, account: str) -> None:
        rows = [{**row, "account": account} if row["role"] == "cash" else dict(row) for row in default_mapping().rows]
        assert adopt_mapping(service.recorder, "acme", AccountMapping.from_rows(rows), valid_from=Period(2026, 1))

    a, b = restorable.process(), restorable.process()
    founded(a)
    bought(a)
    restorable.back_up()
    adopted(a, "8888")
    told(a)
    restorable.restore()
    adopted(b, "9999")
    assert told(a) == told(b)


@pytest.mark.campaign
def test_after_a_restore_a_running_process_goes_by_the_settings_of_the_ledger_that_is_there(
    restorable: Restorable,
) -> None:
    """The ledger with the same name now has another time zone, or its own clock, so its today is different."""

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


@pytest.mark.campaign
def test_after_a_restore_a_running_process_decides_by_the_log_that_is_there(restorable: Restorable) -> None:
    """The memory of the replaced log is not used: ids and remaining credits are those of the restored log."""
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


# --- every read ------------------------------------------------------------------------------------------------------


def everything(service: Subledger, reads: Reads, ledger: str) -> list[Answer]:
    """Returns the answers to all reads of a ledger, as known at its head and after some earlier batches."""
    with service.database.read() as connection:
        heads = connection.exec_driver_sql(
            "SELECT recorded_at, last_position FROM batches WHERE ledger = %s ORDER BY 1 DESC", (ledger,)
        ).all()
        blocks = connection.exec_driver_sql("SELECT block_id FROM blocks WHERE ledger = %s", (ledger,)).scalars().all()
        customers = connection.exec_driver_sql("SELECT customer FROM wallets WHERE ledger = %s LIMIT 3", (ledger,))
        people = customers.scalars().all()
    chance, asked = Random(1), list[Asking]()
    for recorded_at, position in heads[:: max(1, len(heads) // 3)]:
        at = Moment(date(2026, 3, chance.randint(1, 28)), recorded_at)
        asked += reads.of_a_moment(ledger, at, people, blocks, chance)
        asked += reads.kept(ledger, position, blocks, chance)
    return [reads.ask(each) for each in asked]


def go_on(service: Subledger, ledger: str, *, policy: str, chart: int, block: str) -> None:
    """Records another policy, mapping, settings and journals; then usage under them, and a moved expiry."""
    service.adopt_policy(ledger, shipped_policy(policy))
    adopt_mapping(service.recorder, ledger, another_chart(chart))
    service.configure_ledger(ledger, SettingsChange(entity=f"entity of {chart}"))
    service.record(
        ledger,
        [
            cloud_event(
                f"b-{block}",
                "credits.purchased",
                "ann",
                "2026-03-05T10:00:00Z",
                block_id=block,
                credits="10",
                price="10.00",
                currency="USD",
            ),
            cloud_event("u-more", "credits.consumed", "ann", "2026-03-06T10:00:00Z", credits="1"),
            cloud_event(
                "x-more",
                "block.expiry_changed",
                "ann",
                "2026-03-07T10:00:00Z",
                block_id=block,
                reason="agreed",
                expires_at=f"2026-08-{len(policy):02}T00:00:00Z",
            ),
        ],
    )
    export(service.recorder, service.database, ledger, Period(2026, 3), "csv")


@pytest.mark.campaign
def test_a_restored_database_answers_as_before(scratch_url: str, tmp_path: Path) -> None:
    """After a restore the places of rows, the server's statistics and the memory of processes differ."""
    database = Database(scratch_url)
    service = Subledger(database)
    service.create_ledger("acme", LedgerSettings(currency="USD", on_shortfall="backfill"))
    record_months(service, "acme", prefix="r", size=200)
    go_on(service, "acme", policy="contract_liability", chart=3000, block="more")
    expected = everything(service, Reads(service), "acme")
    database.close()
    with restored(scratch_url, tmp_path) as url:
        assert asked_in_another_process(url, tmp_path, expected) == []


@pytest.mark.campaign
def test_after_a_restore_every_read_of_a_running_process_is_that_of_one_that_has_just_begun(
    restorable: Restorable,
) -> None:
    """The replaced log had the same numbers of policies, mappings and journals, and the same ids."""
    a, b = restorable.process(), restorable.process()
    founded(a)
    bought(a)
    restorable.back_up()
    go_on(a, "acme", policy="contract_liability", chart=3000, block="gone")
    everything(a, Reads(a), "acme")
    restorable.restore()
    go_on(b, "acme", policy="customer_deposits_arm", chart=5000, block="there")
    assert list(Reads(a).differences(everything(b, Reads(b), "acme"))) == []
    go_on(a, "acme", policy="contract_liability", chart=7000, block="last")
    assert list(Reads(b).differences(everything(a, Reads(a), "acme"))) == []
