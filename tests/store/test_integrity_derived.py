"""Derived rows follow from the log: a changed row is found and named, and all rows can be made again."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from api.http.app import create_app
from api.keys import create_key
from api.service import Subledger
from projections.close.close import close_period, reopen_period
from projections.integrity import verify
from projections.reads import balances
from projections.replay.derived_tables import DERIVED
from projections.replay.rebuild import rebuild
from subledger.errors import IntegrityFault, UnknownLedger
from subledger.periods import Period
from subledger.store.database import Database
from subledger.store.reading.in_force import rules_of
from subledger.store.reading.ledgers import ledger_head, ledger_heads, policy_name
from subledger.store.writing.expiry_sweep import sweep
from tests.building import cloud_event
from tests.conftest import NewLedger
from tests.store.tampering import LEDGER, all_of, differences, dump, grant, history, tamper

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


@pytest.mark.campaign
def test_a_changed_derived_row_is_found_named_and_mended_by_rebuilding(own: tuple[Subledger, str]) -> None:
    service, url = own
    service.record(LEDGER, [grant(f"many-{number}") for number in range(300)])
    healthy = dump(service, LEDGER)
    for table, subject, statement in DAMAGES:
        with psycopg.connect(url) as connection:
            assert connection.execute(statement).rowcount >= 1, statement
        named = [difference.subject for difference in differences(service) if difference.check == table]
        assert named, statement
        assert subject is None or subject in named, statement
        counts = rebuild(service.database, LEDGER)
        assert differences(service) == [], statement
        if table in counts.rows:
            assert counts.removed[table] + counts.written[table] > 0, statement
            assert sum(counts.removed.values()) + sum(counts.written.values()) < 30, "only what differs is touched"
    assert dump(service, LEDGER) == healthy
    [outcome] = service.record(LEDGER, [grant("more")])
    assert outcome.status == "recorded"
    assert differences(service) == []


def test_everything_derived_comes_back_from_nothing(own: tuple[Subledger, str]) -> None:
    service, url = own
    service.record(LEDGER, [grant(f"many-{number}") for number in range(300)])
    before = dump(service, LEDGER)
    with psycopg.connect(url) as connection:
        for derived in DERIVED:
            connection.execute(f"DELETE FROM {derived.name}")
    rebuild(service.database, LEDGER)
    assert dump(service, LEDGER) == before
    assert all(before.values()), "every derived table was put to the test"


def test_rebuilding_a_healthy_ledger_changes_no_byte_of_any_table(own: tuple[Subledger, str]) -> None:
    service, url = own
    before = all_of(url)
    counts = rebuild(service.database, LEDGER)
    assert all_of(url) == before
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
    assert differences(service, one) == []
    assert {d.check for d in differences(service, other)} == {"wallets"}


def test_what_is_recorded_while_a_rebuild_replays_is_in_it(own: tuple[Subledger, str]) -> None:
    service, url = own
    writer = Subledger(Database(url))
    later = [
        grant("later", customer="c2"),
        grant("new", customer="nobody-yet"),
        cloud_event(
            "later-usage", "credits.consumed", "c2", "2026-03-02T00:00:00Z", credits="0.5", product="new-product"
        ),
    ]

    def meanwhile(_done: int, _total: int) -> None:
        # The first call of the callback is after the replay of the snapshot, and before the lock.
        if later:
            assert [outcome.status for outcome in writer.record(LEDGER, later)] == ["recorded"] * 3
            later.clear()

    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM wallets")
        connection.execute("DELETE FROM ledger_days")
    # The writer has rows from the damaged tables. The rebuild replaces them by the rows that follow from the events.
    rebuild(service.database, LEDGER, meanwhile)
    assert not later
    assert differences(service) == []
    writer.database.close()


@pytest.mark.campaign
def test_verifying_and_rebuilding_are_right_while_a_writer_goes_on(own: tuple[Subledger, str]) -> None:
    service, url = own
    writer, stop, recorded = Subledger(Database(url)), threading.Event(), 0

    def write() -> None:
        nonlocal recorded
        while not stop.is_set():
            events = [grant(f"w{recorded + n}", customer=f"c{n % 3}") for n in range(5)]
            assert {outcome.status for outcome in writer.record(LEDGER, events)} == {"recorded"}
            recorded += 5

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(6):
            assert differences(service) == []
            assert not any(rebuild(service.database, LEDGER).written.values())
    finally:
        stop.set()
        thread.join()
        writer.database.close()
    assert recorded
    assert differences(service) == []


def test_verify_reads_one_snapshot_and_tells_how_far_it_is(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    service.record(ledger, [grant(f"g{number}", customer=f"c{number % 5}") for number in range(1_100)])
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        if not told:
            service.record(ledger, [grant("during")])
        told.append((done, total))

    report = verify(service.database, ledger, progress)
    assert report.differences == []
    assert (report.events, report.entries) == (1_103, 1_100)
    assert len(told) > 1
    assert told == sorted(told)
    assert told[-1] == (1_103, 1_103)
    assert {total for _, total in told} == {1_103}


@pytest.mark.parametrize(
    ("table", "statement", "position"),
    [
        ("events", "UPDATE events SET data = replace(data, '.37\"', '.38\"') WHERE position = 9", 9),
        ("events", "UPDATE events SET decision = replace(decision, '2026', '2027') WHERE position = 9", 9),
        ("events", "UPDATE events SET leaf = sha256('x') WHERE position = 9", 9),
        ("events", "DELETE FROM events WHERE position = 9", 9),
        ("batches", "DELETE FROM batches WHERE first_position = 1", 1),
        ("batches", "UPDATE batches SET root = sha256('x') WHERE last_position = (SELECT position FROM ledgers)", 91),
        ("batches", "DELETE FROM batches WHERE last_position = (SELECT position FROM ledgers)", 91),
    ],
)
def test_nothing_is_rebuilt_from_a_damaged_log(
    own: tuple[Subledger, str], table: str, statement: str, position: int
) -> None:
    service, url = own
    tamper(url, table, statement)
    with psycopg.connect(url) as connection:
        connection.execute("UPDATE wallets SET position = 1")
    before = all_of(url)
    with pytest.raises(IntegrityFault) as refused:
        rebuild(service.database, LEDGER)
    assert refused.value.facts["position"] == position
    assert all_of(url) == before


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
        writer.record(LEDGER, [grant(f"before-{n}", customer=f"c{n}") for n in range(7)])
        rebuild(writer.database, LEDGER)
        assert differences(writer) == []
        writer.record(LEDGER, [grant(f"after-{n}", customer=f"c{n}") for n in range(7)])
        assert differences(writer) == []
    finally:
        writer.database.close()


# --- any batch size -----------------------------------------------------------------------------------------------


def _without_moments(service: Subledger, ledger: str) -> dict[str, Any]:
    """Returns the rows of the ledger's tables, without hashes of its name and without the days of recording."""
    found: dict[str, Any] = dump(service, ledger)
    found.pop("merkle_nodes")  # the tree holds the ledger's own name
    days: dict[tuple[Any, ...], list[Any]] = {}
    [table] = [derived for derived in DERIVED if derived.name == "ledger_days"]
    with service.database.read() as connection:
        for row in connection.execute(sa.text(table.query), {"ledger": ledger}).mappings():
            key = tuple(row[name] for name in table.key if name != "recorded_date")
            held = days.setdefault(key, [0] * len(table.values))
            days[key] = [a + row[name] for a, name in zip(held, table.values, strict=True)]
        found["ledger_days"] = {key: [str(value) for value in total] for key, total in days.items()}
        settings = connection.execute(
            sa.text(
                "SELECT entity, functional_currency, timezone, on_shortfall, late_usage, policy, mapping,"
                " closed_through, open_cut, position FROM ledgers WHERE ledger = :ledger"
            ),
            {"ledger": ledger},
        ).one()
    found["settings"] = tuple(settings)[1:]  # the entity is the ledger's name
    with service.view(ledger, as_of=date(2026, 12, 31)) as view:
        found["trial balance"] = balances.trial_balance(view)
        found["customers"] = {
            customer: balances.customer_balances(view, customer) for customer in (f"c{number}" for number in range(7))
        }
    return found


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
            sweep(service.recorder, ledger, datetime(2026, 3, 1, tzinfo=UTC), batch_size=size)
        assert differences(service, ledger) == []
        found = _without_moments(service, ledger)
        found["statuses"] = statuses
        assert all(found[name] for name in ("wallets", "blocks", "documents", "ledger_days"))
        before = dump(service, ledger)
        rebuild(service.database, ledger)
        assert dump(service, ledger) == before
        dumps.append(found)
    for one, next_ in pairwise(dumps):
        assert one == next_


def test_reopening_and_closing_again_verifies(own: tuple[Subledger, str]) -> None:
    service, _ = own
    reopen_period(service.recorder, LEDGER, Period.parse("2026-01"), "a test")
    service.record(LEDGER, history(6, 60)[7:])
    for month in ("2026-01", "2026-02", "2026-03", "2026-04", "2026-05"):
        close_period(service.recorder, LEDGER, Period.parse(month))
    assert differences(service) == []


def test_a_ledger_whose_policies_are_lost_says_so_and_a_rebuild_brings_them_back(own: tuple[Subledger, str]) -> None:
    """The ledger is still known: it is listed, its expiries are swept, and it can be verified."""
    service, url = own
    before = dump(service, LEDGER)
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM posting_policies")
    lacking = f"no row of policy 1 of ledger {LEDGER}.*subledger rebuild --ledger {LEDGER}"
    fresh = Subledger(service.database)
    service.database.rules.clear()
    with service.database.read() as reading:
        head = ledger_head(reading, LEDGER)
        assert [found.state.ledger for found, _ in ledger_heads(reading, after="", limit=9)] == [LEDGER]
        with pytest.raises(IntegrityFault, match=lacking):
            policy_name(reading, LEDGER, head.state.policy)
        with pytest.raises(IntegrityFault, match=lacking):
            rules_of(service.database, reading, LEDGER)[head.state.policy]
    key = create_key(service.database, ledger="*", role="admin", name="ann").secret
    client = TestClient(create_app(fresh), headers={"Authorization": f"Bearer {key}"}, raise_server_exceptions=False)
    for path in (f"/v1/ledgers/{LEDGER}", "/v1/ledgers", f"/v1/ledgers/{LEDGER}/trial-balance"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (500, "integrity_fault"), path
    assert "posting_policies" in {difference.check for difference in differences(service)}
    rebuild(service.database, LEDGER)
    assert dump(service, LEDGER) == before
    assert differences(service) == []
    with service.database.read() as reading:
        assert policy_name(reading, LEDGER, head.state.policy) == "customer_deposits"
