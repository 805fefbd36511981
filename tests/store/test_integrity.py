"""The log cannot be changed; a change behind its back is found, with its place; what is derived can be made anew."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import psycopg
import pytest
import sqlalchemy as sa

from api.service import LedgerSettings, Subledger, founding_events
from projections import balances, replay
from projections.integrity import Difference, verify
from projections.journals.close import close_period, reopen_period
from projections.journals.mapping import default_mapping
from projections.rebuild import rebuild
from projections.replay import DERIVED
from subledger.context import Context
from subledger.deciding import decide
from subledger.errors import IntegrityFault, UnknownLedger
from subledger.events import Event
from subledger.evolving import evolve
from subledger.journal import Pair
from subledger.periods import Period
from subledger.posting import shipped_policy
from subledger.store import recorder
from subledger.store.database import Database
from subledger.store.migrate import migrate
from subledger.store.tables import APP_ROLE, APPEND_ONLY
from subledger.wallet import Decision, Wallet
from tests.conftest import NewLedger, cloud_event

LEDGER = "acme"


def history(seed: int, size: int) -> list[dict[str, Any]]:
    """A busy little history of seven customers: purchases, grants, usage, reversals, voids, payments, new expiries."""
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
                    f"e{number}", "credits.consumed", customer, time,
                    credits=f"{chance.randint(1, 60)}.{chance.randint(0, 99):02}", currency="USD",
                    product=chance.choice(("api", "batch")), overage_price="0.0371",
                    on_shortfall=chance.choice(("overage", "backfill")),
                )
            )  # fmt: skip
        elif pick < 0.75 and used:
            event_id, customer = chance.choice(used)
            events.append(
                cloud_event(
                    f"e{number}", "consumption.reversed", customer, time, event_id=event_id, credits="0.7", reason="r"
                )
            )
        elif pick < 0.8:
            events.append(
                cloud_event(f"e{number}", "purchase.voided", customer, time, block_id=f"b{number % 7}", reason="r")
            )
        elif pick < 0.83:
            block = chance.randrange(7)
            events.append(
                cloud_event(
                    f"e{number}", "block.expiry_changed", f"c{block}", time, block_id=f"b{block}", reason="r",
                    expires_at=chance.choice((None, "2026-03-28T00:00:00Z", "2026-07-01T00:00:00Z")),
                )
            )  # fmt: skip
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
        assert connection.execute(statement).rowcount >= 1  # type: ignore[arg-type]
        for trigger in ("append_only", "never_truncated"):
            connection.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}")  # type: ignore[arg-type]


def _differences(service: Subledger, ledger: str = LEDGER) -> list[Difference]:
    return verify(service.database, ledger).differences


def _grant(event_id: str, customer: str = "c1", **data: Any) -> dict[str, Any]:
    return cloud_event(
        event_id, "credits.granted", customer, "2026-03-01T00:00:00Z",
        **{"block_id": event_id, "credits": "1", "reason": "promotional", **data},
    )  # fmt: skip


# --- the log ------------------------------------------------------------------------------------------------------

COPIED_ENTRY = (
    "INSERT INTO entries SELECT ledger, {position}, {number}, policy, kind, customer, block_id, unit, credits,"
    " amount_minor, currency, functional_minor, accounting_date, effective_date, cut, dimension_set FROM entries"
)


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("events", """UPDATE events SET data = replace(data, '"b5"', '"b6"') WHERE position = 9"""),
        ("events", """UPDATE events SET data = replace(data, '.37"', '.38"') WHERE position = 9"""),
        ("events", "UPDATE events SET data = 'x' WHERE position = 9"),
        ("events", "UPDATE events SET occurred_at = occurred_at + interval '1 microsecond' WHERE position = 9"),
        ("events", "UPDATE events SET customer = 'c9' WHERE position = 9"),
        ("events", "UPDATE events SET source = 'x' WHERE position = 9"),
        ("events", "UPDATE events SET event_id = 'x' WHERE position = 9"),
        ("events", "UPDATE events SET type = 'credits.granted' WHERE position = 9"),
        ("events", "UPDATE events SET attributes = '{}' WHERE position = 9"),
        ("events", "UPDATE events SET decision = replace(decision, '2026', '2027') WHERE position = 9"),
        ("events", "UPDATE events SET leaf = sha256('x') WHERE position = 9"),
        ("entries", "UPDATE entries SET amount_minor = amount_minor + 1 WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET functional_minor = functional_minor + 1 WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET credits = credits + 1 WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET unit = 'x' WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET kind = 'goodwill' WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET policy = 2 WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET accounting_date = accounting_date + 1 WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET effective_date = effective_date - 1 WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET block_id = 'b6' WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET currency = 'EUR' WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET cut = cut + 1 WHERE position = 9 AND number = 1"),
        ("entries", "UPDATE entries SET dimension_set = dimension_set + 1 WHERE position = 9 AND number = 1"),
        ("entries", "DELETE FROM entries WHERE position = 9 AND number = 2"),
        ("entries", f"{COPIED_ENTRY.format(position=9, number=9)} WHERE position = 9 AND number = 1"),
        ("events", "DELETE FROM events WHERE position = 9"),
    ],
)
def test_a_change_behind_the_triggers_back_is_found_with_its_position(
    own: tuple[Subledger, str], table: str, statement: str
) -> None:
    service, url = own
    assert _differences(service) == []
    _tamper(url, table, statement)
    found = _differences(service)
    assert found[0].check == "log"
    assert found[0].position == 9


def test_a_changed_amount_says_which_entry_and_what_it_was(own: tuple[Subledger, str]) -> None:
    service, url = own
    _tamper(url, "entries", "UPDATE entries SET amount_minor = 1234567 WHERE position = 9 AND number = 1")
    [wrong] = [difference for difference in _differences(service) if difference.check == "entries"]
    assert (wrong.position, wrong.subject, wrong.found) == (9, "1.amount_minor", "1234567")
    assert wrong.expected is not None
    assert wrong.expected.endswith("37")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("hash", "sha256('x')"),
        ("previous_hash", "sha256('x')"),
        ("root", "sha256('x')"),
        ("recorded_at", "recorded_at + interval '1 microsecond'"),
        ("recorded_at", "recorded_at + interval '1 year'"),
    ],
)
def test_a_changed_batch_is_found(own: tuple[Subledger, str], column: str, value: str) -> None:
    service, url = own
    _tamper(url, "batches", f"UPDATE batches SET {column} = {value} WHERE first_position = 1")
    found = _differences(service)
    assert [d.check for d in found if d.position == 3] == ["chain"]
    assert found[0].position == 3


def test_a_batch_that_is_gone_or_reaches_elsewhere_is_found(own: tuple[Subledger, str]) -> None:
    service, url = own
    _tamper(url, "batches", "UPDATE batches SET first_position = 5 WHERE first_position = 4")
    [first, *_] = _differences(service)
    assert (first.check, first.position) == ("chain", 4)
    _tamper(url, "batches", "DELETE FROM batches WHERE first_position = 1")
    assert [(d.check, d.position) for d in _differences(service)][:3] == [("chain", 1), ("chain", 2), ("chain", 3)]


def test_a_log_cut_off_at_its_end_is_found(own: tuple[Subledger, str]) -> None:
    service, url = own
    position = verify(service.database, LEDGER).events
    _tamper(url, "entries", f"DELETE FROM entries WHERE position > {position - 9}")
    _tamper(url, "events", f"DELETE FROM events WHERE position > {position - 9}")
    [first, *_] = _differences(service)
    assert (first.check, first.position) == ("log", position - 8)
    _tamper(url, "batches", f"DELETE FROM batches WHERE last_position > {position - 9}")
    assert ("head", "position") in [(d.check, d.subject) for d in _differences(service)]


def test_events_and_entries_that_nothing_vouches_for_are_found(own: tuple[Subledger, str]) -> None:
    service, url = own
    _tamper(url, "entries", f"{COPIED_ENTRY.format(position=5000, number=1)} WHERE position = 9 AND number = 1")
    assert ("log", 5000) in [(d.check, d.position) for d in _differences(service)]
    _tamper(url, "events", (
        "INSERT INTO events SELECT ledger, 5000, source, 'x', type, customer, occurred_at, data, attributes, decision,"
        " leaf FROM events WHERE position = 9"
    ))  # fmt: skip
    assert ("chain", 5000) in [(d.check, d.position) for d in _differences(service)]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("position", "position - 1"),
        ("recorded_at", "recorded_at + interval '1 day'"),
        ("batch_hash", "sha256('x')"),
        ("frontier", "sha256('x') || substr(frontier, 33)"),
    ],
)
def test_a_changed_head_is_found(own: tuple[Subledger, str], column: str, value: str) -> None:
    service, url = own
    with psycopg.connect(url) as connection:
        connection.execute(f"UPDATE ledgers SET {column} = {value}")  # type: ignore[arg-type]
    assert [(d.check, d.subject) for d in _differences(service)] == [("head", column)]


# --- what is derived ----------------------------------------------------------------------------------------------

DAMAGES = [
    ("wallets", "c3", "UPDATE wallets SET state = state || ' ' WHERE customer = 'c3'"),
    ("wallets", "c3", "UPDATE wallets SET position = position - 1 WHERE customer = 'c3'"),
    ("wallets", "c3", "DELETE FROM wallets WHERE customer = 'c3'"),
    ("wallets", "x", "INSERT INTO wallets SELECT ledger, 'x', position, state FROM wallets WHERE customer = 'c3'"),
    ("blocks", "b0", "UPDATE blocks SET is_open = NOT is_open WHERE block_id = 'b0'"),
    ("blocks", "b0", "UPDATE blocks SET customer = 'c1' WHERE block_id = 'b0'"),
    ("blocks", "b0", "UPDATE blocks SET expires_at = expires_at + interval '1 day' WHERE block_id = 'b0'"),
    ("documents", None, "DELETE FROM documents"),
    ("documents", "overage, 0", "INSERT INTO documents VALUES ('acme', 'overage', '0', 'c1', '{}')"),
    ("dimension_sets", "1", "UPDATE dimension_sets SET product = 'other' WHERE dimension_set = 1"),
    ("dimension_sets", "1", "DELETE FROM dimension_sets WHERE dimension_set = 1"),
    ("ledger_days", None, "UPDATE ledger_days SET written_minor = written_minor + 1 WHERE kind = 'purchase_tax'"),
    ("ledger_days", None, "UPDATE ledger_days SET cut = cut + 5 WHERE kind = 'purchase_tax'"),
    ("merkle_nodes", "8, 0", "UPDATE merkle_nodes SET hash = sha256('x') WHERE level = 8 AND index = 0"),
    ("posting_rules", "1, purchase, 1", "UPDATE posting_rules SET debit = 'cash' WHERE kind = 'purchase' AND pair = 1"),
    ("posting_rules", None, "DELETE FROM posting_rules WHERE kind = 'purchase'"),
    ("posting_policies", "1", "UPDATE posting_policies SET version = 9"),
    ("posting_policies", "1", "DELETE FROM posting_policies"),
    ("account_mappings", "1", "UPDATE account_mappings SET rows = '[]'"),
    ("ledgers", "timezone", "UPDATE ledgers SET timezone = 'Europe/Berlin'"),
    ("ledgers", "closed_through", "UPDATE ledgers SET closed_through = NULL"),
    ("ledgers", "open_cut", "UPDATE ledgers SET open_cut = open_cut + 1"),
    ("head", "frontier", "UPDATE ledgers SET frontier = sha256('x') || substr(frontier, 33)"),
]  # fmt: skip


def test_a_changed_derived_row_is_found_named_and_mended_by_rebuilding(own: tuple[Subledger, str]) -> None:
    service, url = own
    service.record(LEDGER, [_grant(f"many-{number}") for number in range(300)])
    healthy = _dump(service, LEDGER)
    for table, subject, statement in DAMAGES:
        with psycopg.connect(url) as connection:
            assert connection.execute(statement).rowcount >= 1, statement  # type: ignore[arg-type]
        named = [difference.subject for difference in _differences(service) if difference.check == table]
        assert named, statement
        assert subject is None or subject in named, statement
        counts = rebuild(service.database, LEDGER)
        assert _differences(service) == [], statement
        if table in counts.rows:
            assert counts.removed[table] + counts.written[table] > 0, statement
            assert sum(counts.removed.values()) + sum(counts.written.values()) < 30, "only what differs is touched"
    assert _dump(service, LEDGER) == healthy
    [outcome] = service.record(LEDGER, [_grant("more")])
    assert outcome.status == "recorded"
    assert _differences(service) == []


def test_everything_derived_comes_back_from_nothing(own: tuple[Subledger, str]) -> None:
    service, url = own
    service.record(LEDGER, [_grant(f"many-{number}") for number in range(300)])
    before = _dump(service, LEDGER)
    with psycopg.connect(url) as connection:
        for derived in DERIVED:
            connection.execute(f"DELETE FROM {derived.name}")  # type: ignore[arg-type]
    rebuild(service.database, LEDGER)
    assert _dump(service, LEDGER) == before
    assert all(before.values()), "every derived table was put to the test"


def _dump(service: Subledger, ledger: str) -> dict[str, list[str]]:
    with service.database.read() as connection:
        return {
            derived.name: sorted(
                str(tuple(row)) for row in connection.execute(sa.text(derived.query), {"ledger": ledger})
            )
            for derived in DERIVED
        }


def _all_of(url: str) -> dict[str, list[str]]:
    """Every table of the database, byte for byte, with the place on disk of every row."""
    with psycopg.connect(url) as connection:
        tables = [
            name
            for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        ]
        return {
            table: [
                row
                for (row,) in connection.execute(
                    f"SELECT ctid::text || t::text FROM {table} t ORDER BY 1"  # type: ignore[arg-type]
                )
            ]
            for table in tables
        }


def test_rebuilding_a_healthy_ledger_changes_no_byte_of_any_table(own: tuple[Subledger, str]) -> None:
    service, url = own
    before = _all_of(url)
    counts = rebuild(service.database, LEDGER)
    assert _all_of(url) == before
    assert not any(counts.removed.values())
    assert not any(counts.written.values())
    assert counts.rows == {derived.name: len(before[derived.name]) for derived in DERIVED}


def test_rebuilding_one_ledger_leaves_the_others_alone(service: Subledger, new_ledger: NewLedger) -> None:
    one, other = new_ledger(), new_ledger()
    for ledger in (one, other):
        service.record(ledger, history(7, 40))
    with service.database.write() as connection:
        connection.execute("DELETE FROM wallets WHERE ledger = ANY(%s)", ([one, other],))
    rebuild(service.database, one)
    assert _differences(service, one) == []
    assert {d.check for d in _differences(service, other)} == {"wallets"}


def test_what_is_recorded_while_a_rebuild_replays_is_in_it(own: tuple[Subledger, str]) -> None:
    service, url = own
    writer = Subledger(Database(url))
    later = [
        _grant("later", "c2"),
        _grant("new", "nobody-yet"),
        cloud_event(
            "later-usage", "credits.consumed", "c2", "2026-03-02T00:00:00Z", credits="0.5", product="new-product"
        ),
    ]

    def meanwhile(_done: int, _total: int) -> None:
        # Told first when the snapshot is replayed and the lock is not taken yet.
        if later:
            assert [outcome.status for outcome in writer.record(LEDGER, later)] == ["recorded"] * 3
            later.clear()

    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM wallets")
        connection.execute("DELETE FROM ledger_days")
    # The writer's rows are those of the damaged tables; the rebuild replaces them by what the events make.
    rebuild(service.database, LEDGER, meanwhile)
    assert not later
    assert _differences(service) == []
    writer.database.close()


def test_verifying_and_rebuilding_are_right_while_a_writer_goes_on(own: tuple[Subledger, str]) -> None:
    service, url = own
    writer, stop, recorded = Subledger(Database(url)), threading.Event(), 0

    def write() -> None:
        nonlocal recorded
        while not stop.is_set():
            events = [_grant(f"w{recorded + n}", f"c{n % 3}") for n in range(5)]
            assert {outcome.status for outcome in writer.record(LEDGER, events)} == {"recorded"}
            recorded += 5

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(6):
            assert _differences(service) == []
            assert not any(rebuild(service.database, LEDGER).written.values())
    finally:
        stop.set()
        thread.join()
        writer.database.close()
    assert recorded
    assert _differences(service) == []


def test_verify_reads_one_snapshot_and_tells_how_far_it_is(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    service.record(ledger, [_grant(f"g{number}", f"c{number % 5}") for number in range(1_100)])
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        if not told:
            service.record(ledger, [_grant("during")])
        told.append((done, total))

    report = verify(service.database, ledger, progress)
    assert report.differences == []
    assert (report.events, report.entries) == (1_103, 1_100)
    assert told == [(1_000, 1_103), (1_103, 1_103)]


@pytest.mark.parametrize(
    ("table", "statement", "position"),
    [
        ("events", "UPDATE events SET data = replace(data, '.37\"', '.38\"') WHERE position = 9", 9),
        ("events", "UPDATE events SET decision = replace(decision, '2026', '2027') WHERE position = 9", 9),
        ("events", "UPDATE events SET leaf = sha256('x') WHERE position = 9", 9),
        ("events", "DELETE FROM events WHERE position = 9", 9),
        ("batches", "DELETE FROM batches WHERE first_position = 1", 1),
        ("batches", "UPDATE batches SET root = sha256('x') WHERE last_position = (SELECT position FROM ledgers)", 88),
        ("batches", "DELETE FROM batches WHERE last_position = (SELECT position FROM ledgers)", 88),
    ],
)
def test_nothing_is_rebuilt_from_a_damaged_log(
    own: tuple[Subledger, str], table: str, statement: str, position: int
) -> None:
    service, url = own
    _tamper(url, table, statement)
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE wallets SET position = 1")
    before = _all_of(url)
    with pytest.raises(IntegrityFault) as refused:
        rebuild(service.database, LEDGER)
    assert refused.value.facts["position"] == position
    assert _all_of(url) == before


def test_a_head_that_is_not_the_end_of_the_log_is_not_papered_over(own: tuple[Subledger, str]) -> None:
    service, url = own
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE ledgers SET batch_hash = sha256('x')")
    with pytest.raises(IntegrityFault):
        rebuild(service.database, LEDGER)


def test_an_unknown_ledger_can_neither_be_verified_nor_rebuilt(service: Subledger) -> None:
    with pytest.raises(UnknownLedger):
        verify(service.database, "nowhere")
    with pytest.raises(UnknownLedger):
        rebuild(service.database, "nowhere")


def test_a_writer_that_had_loaded_a_damaged_wallet_forgets_it_after_a_rebuild(own: tuple[Subledger, str]) -> None:
    _, url = own
    with psycopg.connect(url) as connection:
        connection.execute("""UPDATE wallets SET state = replace(state, '"block_id"', '"priority":7,"block_id"')""")
    writer = Subledger(Database(url))
    try:
        writer.record(LEDGER, [_grant(f"before-{n}", f"c{n}") for n in range(7)])
        rebuild(writer.database, LEDGER)
        assert _differences(writer) == []
        writer.record(LEDGER, [_grant(f"after-{n}", f"c{n}") for n in range(7)])
        assert _differences(writer) == []
    finally:
        writer.database.close()


# --- any batch size -----------------------------------------------------------------------------------------------


def _without_moments(service: Subledger, ledger: str) -> dict[str, Any]:
    """What the ledger's tables hold, but for its name's hashes and the days on which it was recorded."""
    dump: dict[str, Any] = _dump(service, ledger)
    dump.pop("merkle_nodes")  # the tree holds the ledger's own name
    days: dict[tuple[Any, ...], list[Any]] = {}
    [table] = [derived for derived in DERIVED if derived.name == "ledger_days"]
    with service.database.read() as connection:
        for row in connection.execute(sa.text(table.query), {"ledger": ledger}).mappings():
            key = tuple(row[name] for name in table.key if name != "recorded_date")
            held = days.setdefault(key, [0] * len(table.values))
            days[key] = [a + row[name] for a, name in zip(held, table.values, strict=True)]
        dump["ledger_days"] = {key: [str(value) for value in total] for key, total in days.items()}
        settings = connection.execute(
            sa.text(
                "SELECT entity, functional_currency, timezone, on_shortfall, late_usage, policy, mapping,"
                " closed_through, open_cut, position FROM ledgers WHERE ledger = :ledger"
            ),
            {"ledger": ledger},
        ).one()
    dump["settings"] = tuple(settings)[1:]  # the entity is the ledger's name
    with service.view(ledger, as_of=date(2026, 12, 31)) as view:
        dump["trial balance"] = balances.trial_balance(service.database, view)
        dump["customers"] = {
            customer: balances.customer_balances(service.database, view, customer)
            for customer in (f"c{number}" for number in range(7))
        }
    return dump


@pytest.mark.parametrize("policy", ["customer_deposits", "contract_liability"])
@pytest.mark.parametrize("seed", [3, 4, 5])
def test_the_same_events_in_batches_of_any_size_leave_the_same_tables_and_balances(
    service: Subledger, new_ledger: NewLedger, seed: int, policy: str
) -> None:
    events = history(seed, 150)
    dumps = []
    for size in (1, 7, 1000):
        ledger = new_ledger(policy=policy)
        statuses = []
        for part in (events[:100], events[100:]):
            for start in range(0, len(part), size):
                statuses += [outcome.status for outcome in service.record(ledger, part[start : start + size])]
            service.recorder.sweep(ledger, datetime(2026, 3, 1, tzinfo=UTC), batch_size=size)
        assert _differences(service, ledger) == []
        dump = _without_moments(service, ledger)
        dump["statuses"] = statuses
        assert all(dump[name] for name in ("wallets", "blocks", "documents", "ledger_days"))
        before = _dump(service, ledger)
        rebuild(service.database, ledger)
        assert _dump(service, ledger) == before
        dumps.append(dump)
    for one, next_ in pairwise(dumps):
        assert one == next_


def test_reopening_and_closing_again_verifies(own: tuple[Subledger, str]) -> None:
    service, _ = own
    reopen_period(service.recorder, LEDGER, Period.parse("2026-01"), "a test")
    service.record(LEDGER, history(6, 60)[7:])
    for month in ("2026-01", "2026-02", "2026-03", "2026-04", "2026-05"):
        close_period(service.recorder, LEDGER, Period.parse(month))
    assert _differences(service) == []


# --- the invariants -----------------------------------------------------------------------------------------------
# A log that a faulty program wrote is whole, and so is every table that follows from it. Only the invariants see it.


def _one_cent_more(decision: Decision) -> Decision:
    [draw, *rest] = decision.movements
    return msgspec.structs.replace(decision, movements=(msgspec.structs.replace(draw, amount=draw.amount + 1), *rest))


def _one_day_sooner(decision: Decision) -> Decision:
    [draw, *rest] = decision.movements
    return msgspec.structs.replace(
        decision, movements=(msgspec.structs.replace(draw, on=draw.on - timedelta(days=1)), *rest)
    )


def _one_credit_more(decision: Decision) -> Decision:
    [draw, *rest] = decision.movements
    more = msgspec.structs.replace(draw, credits=draw.credits + Decimal(1))
    return msgspec.structs.replace(decision, movements=(more, *rest))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (_one_cent_more, "is overdrawn as of 2026-01-05"),
        (_one_cent_more, "has no credits and a balance as of 2026-01-05"),
        (_one_credit_more, "is overdrawn as of 2026-01-05"),
        (_one_day_sooner, "is overdrawn as of 2026-01-04"),
        (_one_day_sooner, "posts into a closed period"),
    ],
)
def test_a_faulty_decision_breaks_an_invariant_that_names_its_position(
    service: Subledger, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch, fault: Any, message: str
) -> None:
    closed = "closed" in message
    ledger = new_ledger()
    service.record(
        ledger,
        [
            cloud_event("buy", "credits.purchased", "c", "2026-01-05T00:00:00Z", block_id="b", credits="10",
                        price="10.00", currency="USD", starts_at="2026-01-01T00:00:00Z"),
        ],
    )  # fmt: skip
    if closed:
        close_period(service.recorder, ledger, Period.parse("2026-01"))
        service.record(ledger, [_grant("late", "c", block_id="late")])
    position = verify(service.database, ledger).events + 1

    def faulty(wallet: Wallet, event: Event, context: Context) -> Decision:
        return fault(decide(wallet, event, context))

    monkeypatch.setattr(recorder, "decide", faulty)
    # What was used before it was bought is booked on the day of the purchase, so that no view is overdrawn.
    time = "2026-01-31T00:00:00Z" if closed else "2026-01-04T00:00:00Z"
    [outcome] = service.record(ledger, [cloud_event("use", "credits.consumed", "c", time, credits="10", block_id="b")])
    assert (outcome.status, outcome.position) == ("recorded", position)
    found = [d for d in _differences(service, ledger) if message in d.message]
    assert [(d.check, d.position) for d in found] == [("invariant", position)]


def test_a_wallet_that_forgets_what_was_drawn_disagrees_with_its_entries(
    service: Subledger, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorder and the replay fold alike, so a fault in the fold is in no table: the entries give it away."""

    def forgetful(wallet: Wallet, event: Event, decision: Decision, **facts: Any) -> Wallet:
        after = evolve(wallet, event, decision, **facts)
        blocks = tuple(
            msgspec.structs.replace(block, drawn_minor=max(block.drawn_minor - 1, 0)) for block in after.blocks
        )
        return msgspec.structs.replace(after, blocks=blocks)

    ledger = new_ledger()
    monkeypatch.setattr(recorder, "evolve", forgetful)
    monkeypatch.setattr(replay, "evolve", forgetful)
    buy = cloud_event("buy", "credits.purchased", "c", "2026-01-04T00:00:00Z", block_id="b", credits="10",
                      price="10.00", currency="USD")  # fmt: skip
    service.record(ledger, [buy, cloud_event("use", "credits.consumed", "c", "2026-01-05T00:00:00Z", credits="4")])
    found = _differences(service, ledger)
    assert {difference.check for difference in found} == {"invariant"}
    assert [difference.subject for difference in found] == ["b", "b", "prepaid_liability"]
    assert found[-1].message == "prepaid_liability in USD is 600, the blocks carry 601"


def test_a_policy_that_would_break_the_pairing_of_deposits_is_found(service: Subledger) -> None:
    policy = shipped_policy("customer_deposits")
    [first, second, companion] = policy.rules["purchase"]
    assert companion == Pair("credits_clearing", "customer_deposits")
    # Deposited, and not cleared against the credits: every entry still balances.
    broken = Pair("cash", "customer_deposits")
    policy = msgspec.structs.replace(policy, rules={**policy.rules, "purchase": (first, second, broken)})
    ledger = "t-broken-policy"
    service.recorder.create_ledger(
        ledger,
        lambda at: founding_events(ledger, LedgerSettings(currency="USD"), policy, default_mapping(), at),
    )
    buy = cloud_event("buy", "credits.purchased", "c", "2026-01-05T00:00:00Z", block_id="b", credits="10",
                      price="10.00", currency="USD")  # fmt: skip
    service.record(ledger, [buy])
    found = [(d.check, d.position, d.subject) for d in _differences(service, ledger)]
    assert found == [("invariant", 2, "policy 1"), ("invariant", 4, "b")]
