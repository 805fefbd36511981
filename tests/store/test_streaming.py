"""Streams and shares change nothing: verification, replay and rebuild have the same result in any parts.

The memory does not grow with the number of events.
"""

from __future__ import annotations

import pickle
import tracemalloc
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from api.service import Subledger
from projections.integrity import verify
from projections.replay.customers import Replayer
from projections.replay.derived_tables import DERIVED, OF_CUSTOMERS
from projections.replay.folding import replay
from projections.replay.log_stream import Members, Share, read_events, read_log, recorded_at, recorded_days
from projections.replay.rebuild import rebuild
from projections.replay.workers import database_snapshot
from subledger.ledger_settings import LedgerSettings
from subledger.store.database import Database
from subledger.store.writing.rows import encode_state
from tests.building import cloud_event, recorded
from tests.conftest import NewLedger
from tests.laws.walks import long_walk
from tests.store.tampering import LEDGER, dump, grant, history, tamper
from tests.store.walked import record_walk

pytestmark = pytest.mark.campaign

SHARES = (1, 2, 5)


@pytest.fixture(scope="module")
def walked(service: Subledger) -> list[str]:
    """Ledgers with every event type, including transfers between customers."""
    ledgers = []
    for seed in range(2):
        ledger = f"t-{uuid.uuid4().hex[:10]}"
        record_walk(service, ledger, long_walk(seed, 300))
        ledgers.append(ledger)
    return ledgers


@pytest.mark.parametrize("shares", SHARES)
def test_in_whatever_shares_a_ledger_is_verified_it_is_clean(
    service: Subledger, walked: list[str], shares: int
) -> None:
    for ledger in walked:
        whole = verify(service.database, ledger)
        report = verify(service.database, ledger, shares=shares)
        assert report.differences == []
        assert (report.events, report.entries) == (whole.events, whole.entries)


def test_in_whatever_shares_a_ledger_is_replayed_its_totals_and_rows_are_the_same(
    service: Subledger, walked: list[str]
) -> None:
    for ledger in walked:
        found = []
        for shares in SHARES:
            whole = replay(service.database, ledger, workers=1, shares=shares)
            assert whole.damage is None
            found.append((whole.totals.by_number(), whole.own.rows, _rows(service, ledger, shares)))
        assert found[0] == found[1] == found[2]
        # Wallets with many open blocks are tested in test_wallet_parts.
        tables = {table: rows for table, rows in found[0][2].items() if table != "wallet_parts"}
        assert all(tables.values()), "every table of customers was put to the test"


def _rows(service: Subledger, ledger: str, shares: int) -> dict[str, dict[Any, Any]]:
    rows: dict[str, dict[Any, Any]] = {name: {} for name in OF_CUSTOMERS}
    with database_snapshot(service.database) as snapshot:
        connection = snapshot.connection
        days = recorded_days(connection, ledger)
        for number in range(shares):
            share = Share(number, shares)
            replayer = Replayer(ledger, Members(connection, share))
            for chunk in read_events(connection, ledger, share):
                for logged in chunk:
                    day = days.of(logged.position)
                    assert day is not None
                    replayer.fold(logged, day, lambda position: recorded_at(connection, ledger, position))
            replayer.settle_all()
            for name in OF_CUSTOMERS:
                own = {key: replayer.row(name, key) for key in replayer.keys(name)}
                assert not own.keys() & rows[name].keys(), "a row belongs to one share"
                rows[name] |= own
    return rows


@pytest.mark.parametrize("shares", SHARES)
def test_in_whatever_shares_a_ledger_is_rebuilt_its_rows_are_what_they_were(
    service: Subledger, walked: list[str], shares: int
) -> None:
    for ledger in walked:
        before = dump(service, ledger)
        assert not any(rebuild(service.database, ledger, shares=shares).written.values())
        with service.database.write() as connection:
            for derived in DERIVED:
                connection.execute(f"DELETE FROM {derived.name} WHERE ledger = %s", (ledger,))
        rebuild(service.database, ledger, shares=shares)
        assert dump(service, ledger) == before


def test_processes_on_one_snapshot_find_and_make_what_one_process_does(service: Subledger, walked: list[str]) -> None:
    [ledger, *_] = walked
    report = verify(service.database, ledger, workers=2, shares=3)
    assert report == verify(service.database, ledger)
    before = dump(service, ledger)
    with service.database.write() as connection:
        connection.execute("DELETE FROM wallets WHERE ledger = %s", (ledger,))
    assert {d.check for d in verify(service.database, ledger, workers=2).differences} == {"wallets"}
    rebuild(service.database, ledger, workers=2, shares=3)
    assert dump(service, ledger) == before


def test_what_goes_to_another_process_is_stored_as_it_would_have_been_here() -> None:
    for step in long_walk(0, 300).steps:
        for value in (*step.wallets.values(), *step.books.pools.by_name.values(), *step.books.pools.all_cohorts()):
            assert encode_state(pickle.loads(pickle.dumps(value))) == encode_state(value)


DAMAGES = [
    ("events", "UPDATE events SET data = replace(data, '.37\"', '.38\"') WHERE position = 9"),
    ("events", "UPDATE events SET decision = replace(decision, '2026', '2027') WHERE position = 9"),
    ("events", "DELETE FROM events WHERE position = 9"),
    ("entries", "UPDATE entries SET amount_minor = amount_minor + 1 WHERE position = 9 AND number = 1"),
    ("batches", "UPDATE batches SET root = sha256('x') WHERE first_position = 1"),
]


@pytest.mark.parametrize(("table", "statement"), DAMAGES)
def test_in_whatever_shares_a_damage_is_named_by_its_place(
    own: tuple[Subledger, str], table: str, statement: str
) -> None:
    service, url = own
    tamper(url, table, statement)
    whole = verify(service.database, LEDGER, shares=1).differences
    for shares in SHARES[1:]:
        found = verify(service.database, LEDGER, shares=shares).differences
        assert (found[0].check, found[0].position) == (whole[0].check, whole[0].position)
        if table != "events":  # an event that cannot be replayed belongs to another share
            assert found == whole


@pytest.mark.parametrize("table", ["wallets", "blocks", "documents", "ledger_days", "dimension_sets"])
def test_in_whatever_shares_a_derived_row_that_is_gone_is_named(own: tuple[Subledger, str], table: str) -> None:
    service, url = own
    with psycopg.connect(url) as connection:
        connection.execute(f"DELETE FROM {table} WHERE ctid = (SELECT max(ctid) FROM {table})")
    whole = verify(service.database, LEDGER, shares=1).differences
    assert {d.check for d in whole} == {table}
    assert verify(service.database, LEDGER, shares=3).differences == whole


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def growing(scratch_url: str) -> Iterator[Subledger]:
    database = Database(scratch_url)
    service = Subledger(database)
    service.create_ledger(LEDGER, LedgerSettings(currency="USD"))
    for number in range(20):
        service.record(
            LEDGER,
            [
                cloud_event(
                    f"buy-{number}",
                    "credits.purchased",
                    f"c{number}",
                    "2026-01-01T00:00:00Z",
                    block_id=f"b{number}",
                    credits="1000000",
                    price="5000.00",
                    currency="USD",
                )
            ],
        )
    yield service
    database.close()


def _use(service: Subledger, first: int, events: int) -> None:
    for start in range(first, first + events, 2_000):
        usage = [
            cloud_event(
                f"use-{n}", "credits.consumed", f"c{n % 20}", "2026-01-02T00:00:00Z", credits="0.5", product="api"
            )
            for n in range(start, start + 2_000)
        ]
        recorded(service, LEDGER, *usage)


def _peak(work: Any) -> int:
    work()  # permanent memory, such as imported modules and cached words, does not count
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("how", [verify, rebuild])
def test_what_is_held_does_not_grow_with_the_number_of_events(growing: Subledger, how: Any) -> None:
    _use(growing, 0, 4_000)
    few = _peak(lambda: how(growing.database, LEDGER))
    _use(growing, 4_000, 20_000)
    many = _peak(lambda: how(growing.database, LEDGER))
    assert many < few + 300_000, "six times the events, and no more than a hash for 256 of them"


def test_two_rebuilds_at_once_leave_what_one_does(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    service.record(ledger, history(3, 80))
    before = dump(service, ledger)
    with service.database.write() as connection:
        connection.execute("DELETE FROM wallets WHERE ledger = %s", (ledger,))
    other = Database(service.database.url)
    begun: list[int] = []

    def second(_done: int, _total: int) -> None:
        # The first one is in the middle of its replay, and has no lock.
        if not begun:
            begun.append(1)
            rebuild(other, ledger)

    assert rebuild(service.database, ledger, second).written["wallets"] == 0
    assert dump(service, ledger) == before
    other.close()


def test_what_is_recorded_while_shares_are_replayed_is_followed_for_old_and_new_customers(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    service.record(ledger, history(4, 90))
    later = [
        grant("new", customer="nobody-yet"),
        cloud_event(
            "use",
            "credits.consumed",
            "c3",
            "2026-03-20T00:00:00Z",
            credits="0.01",
            product="new-product",
            overage_price="0.01",
            currency="USD",
            on_shortfall="overage",
        ),
        cloud_event(
            "give",
            "credits.transferred",
            "nobody-yet",
            "2026-03-20T00:00:00Z",
            block_id="new",
            to_customer="c2",
            new_block_id="given",
        ),
        cloud_event(
            "pay", "payment.received", "c2", "2026-03-20T00:00:00Z", amount="1.00", currency="USD", payment_id="p"
        ),
    ]

    def meanwhile(_done: int, _total: int) -> None:
        if later:
            recorded(service, ledger, *later)
            later.clear()

    counts = rebuild(service.database, ledger, meanwhile, shares=3)
    assert not any(counts.written.values())
    assert verify(service.database, ledger).differences == []


def test_a_ledger_that_the_statistics_do_not_know_is_streamed_in_one_pass(scratch_url: str) -> None:
    """Otherwise each event would read all entries of its ledger, and a verification of a large one would not end."""
    database = Database(scratch_url)
    try:
        service, events = Subledger(database), 600
        for ledger in ("known", "new"):
            service.create_ledger(ledger, LedgerSettings(currency="USD"))
            for first in range(0, events, 200):
                service.record(
                    ledger,
                    [
                        cloud_event(
                            str(number),
                            "credits.purchased",
                            f"c{number}",
                            "2026-01-01T00:00:00Z",
                            block_id=f"b{number}",
                            credits="10",
                            price="10.00",
                            currency="USD",
                        )
                        for number in range(first, first + 200)
                    ],
                )
            if ledger == "known":
                with psycopg.connect(scratch_url, autocommit=True) as owner:
                    owner.execute("ANALYZE")
        with database.read() as connection:
            streamed = sum(len(chunk) for chunk in read_log(connection, "new", "true"))
            read = connection.exec_driver_sql(
                "SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables WHERE relname = 'entries'"
            ).scalar_one()
        assert streamed > events
        assert read <= 3 * events, "each entry about once"
    finally:
        database.close()
