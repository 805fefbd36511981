"""The log cannot be changed; a change behind its back is found, with its place; what is derived can be made anew."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from api.service import LedgerSettings, Subledger
from projections.integrity import TABLES, verify
from projections.journals.close import close_period, reopen_period
from projections.rebuild import rebuild
from subledger.periods import Period
from subledger.store.database import Database
from subledger.store.migrate import migrate
from subledger.store.tables import APP_ROLE, APPEND_ONLY
from tests.conftest import NewLedger, cloud_event

LEDGER = "acme"


def history(seed: int, size: int) -> list[dict[str, Any]]:
    """A busy little history of seven customers: purchases, grants, usage, reversals, voids, payments."""
    chance = random.Random(seed)
    events: list[dict[str, Any]] = []
    used: list[tuple[str, str]] = []
    for number in range(size):
        customer = f"c{chance.randrange(7)}"
        time = f"2026-0{chance.randint(1, 3)}-{chance.randint(10, 27)}T10:00:00Z"
        pick = chance.random()
        if number < 7 or pick < 0.15:
            customer = f"c{number}" if number < 7 else customer
            events.append(
                cloud_event(
                    f"e{number}", "credits.purchased", customer, "2026-01-02T00:00:00Z",
                    block_id=f"b{number}", credits=str(chance.randint(3, 90)), price=f"{chance.randint(1, 99)}.37",
                    tax="1.11", currency="USD", invoice_id=f"i{number}",
                    expires_at=f"2026-0{chance.randint(2, 6)}-01T00:00:00Z",
                )
            )  # fmt: skip
        elif pick < 0.6:
            used.append((f"e{number}", customer))
            events.append(
                cloud_event(
                    f"e{number}", "credits.consumed", customer, time, credits=str(chance.randint(1, 60)),
                    on_shortfall=chance.choice(("overage", "backfill")), overage_price="0.0371", currency="USD",
                )
            )  # fmt: skip
        elif pick < 0.75 and used:
            event_id, customer = chance.choice(used)
            events.append(
                cloud_event(
                    f"e{number}", "consumption.reversed", customer, time, event_id=event_id, credits="1", reason="r"
                )
            )
        elif pick < 0.8:
            events.append(
                cloud_event(f"e{number}", "purchase.voided", customer, time, block_id=f"b{number % 7}", reason="r")
            )
        elif pick < 0.9:
            events.append(
                cloud_event(
                    f"e{number}", "payment.received", customer, time, amount="40.00", currency="USD",
                    invoice_id=f"i{customer[1:]}",
                )
            )  # fmt: skip
        else:
            events.append(
                cloud_event(
                    f"e{number}", "credits.granted", customer, time, block_id=f"g{number}", credits="5",
                    reason="promotional",
                )
            )  # fmt: skip
    return events


@pytest.fixture
def own(fresh_database_url: str) -> Iterator[tuple[Subledger, str]]:
    """A ledger in a database of its own, to be tampered with, and the superuser's URL."""
    migrate(fresh_database_url)
    database = Database(fresh_database_url)
    service = Subledger(database)
    service.create_ledger(LEDGER, LedgerSettings(currency="USD"))
    service.record(LEDGER, history(1, 60))
    service.record(LEDGER, history(2, 90)[60:])
    close_period(service.recorder, LEDGER, Period.parse("2026-01"))
    yield service, fresh_database_url
    database.close()


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("statement", ["UPDATE {} SET ledger = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
@pytest.mark.parametrize("who", ["application", "owner", "owner as replica"])
def test_the_log_refuses_every_change(
    owner_url: str, new_ledger: NewLedger, service: Subledger, table: str, statement: str, who: str
) -> None:
    service.record(new_ledger(), history(1, 10))
    with psycopg.connect(owner_url) as connection:
        if who == "application":
            connection.execute(f"SET ROLE {APP_ROLE}")  # type: ignore[arg-type]
        if who == "owner as replica":
            connection.execute("SET session_replication_role = replica")
        with pytest.raises(psycopg.Error) as refused:
            connection.execute(statement.format(table))  # type: ignore[arg-type]
    assert refused.value.sqlstate == ("42501" if who == "application" else "23001")


def _tamper(url: str, table: str, statement: str) -> None:
    """A superuser goes behind the triggers' back, and puts everything back as it was."""
    with psycopg.connect(url) as connection:
        connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")  # type: ignore[arg-type]
        assert connection.execute(statement).rowcount == 1  # type: ignore[arg-type]
        for trigger in ("append_only", "never_truncated"):
            connection.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("events", """UPDATE events SET data = replace(data, '"b5"', '"b6"') WHERE position = 9"""),
        ("events", "UPDATE events SET occurred_at = occurred_at + interval '1 microsecond' WHERE position = 9"),
        ("events", "UPDATE events SET customer = 'c9' WHERE position = 9"),
        ("events", "UPDATE events SET decision = replace(decision, '2026', '2027') WHERE position = 9"),
        ("entries", "UPDATE entries SET amount_minor = amount_minor + 1 WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET accounting_date = accounting_date + 1 WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET cut = cut + 1 WHERE position = 9 AND number = 1"),
        ("entries", "DELETE FROM entries WHERE position = 9 AND number = 2"),
        ("events", "DELETE FROM events WHERE position = 9"),
    ],
)
def test_a_change_behind_the_triggers_back_is_found_with_its_position(
    own: tuple[Subledger, str], table: str, statement: str
) -> None:
    service, url = own
    assert verify(service.database, LEDGER).differences == []
    _tamper(url, table, statement)
    found = verify(service.database, LEDGER).differences
    assert found
    assert found[0].position == 9


@pytest.mark.parametrize("column", ["hash", "previous_hash", "root"])
def test_a_changed_batch_is_found(own: tuple[Subledger, str], column: str) -> None:
    service, url = own
    _tamper(url, "batches", f"UPDATE batches SET {column} = sha256('x') WHERE first_position = 1")
    assert [d.check for d in verify(service.database, LEDGER).differences if d.position == 3] == ["chain"]


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("wallets", "UPDATE wallets SET state = replace(state, '\"used\"', '\"usEd\"')"),
        ("ledger_days", "UPDATE ledger_days SET written_minor = written_minor + 1 WHERE kind = 'purchase_tax'"),
        ("blocks", "UPDATE blocks SET is_open = NOT is_open WHERE block_id = 'b0'"),
        ("documents", "DELETE FROM documents"),
        ("dimension_sets", "UPDATE dimension_sets SET product = 'other' WHERE dimension_set = 1"),
    ],
)  # fmt: skip
def test_a_changed_projection_is_found_and_mended_by_rebuilding(
    own: tuple[Subledger, str], table: str, statement: str
) -> None:
    service, url = own
    with psycopg.connect(url) as connection:
        assert connection.execute(statement).rowcount >= 1  # type: ignore[arg-type]
    found = verify(service.database, LEDGER).differences
    assert table in {difference.check for difference in found} or table == "dimension_sets"
    assert found
    rebuild(service.database, LEDGER)
    assert verify(service.database, LEDGER).differences == []
    [outcome] = service.record(LEDGER, [cloud_event("more", "credits.granted", "c1", "2026-03-01T00:00:00Z",
                                                    block_id="more", credits="1", reason="promotional")])  # fmt: skip
    assert outcome.status == "recorded"
    assert verify(service.database, LEDGER).differences == []


def _dump(service: Subledger, ledger: str) -> dict[str, list[str]]:
    with service.database.read() as connection:
        return {
            name: sorted(
                str(tuple(row)) for row in connection.exec_driver_sql(query.replace(":ledger", "%s"), (ledger,))
            )
            for name, (_, query) in TABLES.items()
        }


def test_rebuilding_a_healthy_ledger_changes_no_byte(own: tuple[Subledger, str]) -> None:
    service, _ = own
    before = _dump(service, LEDGER)
    rebuild(service.database, LEDGER)
    assert _dump(service, LEDGER) == before


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_the_same_events_in_batches_of_any_size_leave_the_same_tables(
    service: Subledger, new_ledger: NewLedger, seed: int
) -> None:
    dumps = []
    for size in (1, 7, 1000):
        ledger = new_ledger()
        events = history(seed, 120)
        for start in range(0, len(events), size):
            service.record(ledger, events[start : start + size])
        dump = _dump(service, ledger)
        # The tree holds the ledger's own name and moments.
        dump.pop("merkle_nodes")
        dumps.append(dump)
    assert dumps[0] == dumps[1] == dumps[2]


def test_reopening_and_closing_again_verifies(own: tuple[Subledger, str]) -> None:
    service, _ = own
    reopen_period(service.recorder, LEDGER, Period.parse("2026-01"), "a test")
    service.record(LEDGER, history(6, 60)[7:])
    for month in ("2026-01", "2026-02", "2026-03", "2026-04", "2026-05"):
        close_period(service.recorder, LEDGER, Period.parse(month))
    assert verify(service.database, LEDGER).differences == []
