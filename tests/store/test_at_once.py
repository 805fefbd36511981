"""Few events of a single writer: decided without the lock and written in one call, with the same result as with the
lock.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import pytest

from api.service import Subledger
from projections.replay.rebuild import rebuild
from subledger.events.envelope import read_event
from subledger.ledger_settings import LedgerSettings
from subledger.store.database import Database
from subledger.store.writing import head, memory
from subledger.store.writing.append_batch import GROUPS, HEAD
from subledger.store.writing.batch import DUPLICATE
from tests.building import purchase, recorded, usage
from tests.store.tampering import differences, dump
from tests.together import together

NewLedger = Callable[..., str]


buy = partial(purchase, time="2026-01-01", credits="1000", price="100.00")


use = partial(usage, customer="c0", time="2026-01-02", product="api", currency="USD")


def position(service: Subledger, ledger: str, known_at: datetime | None = None) -> int:
    with service.view(ledger, known_at=known_at) as view:
        return view.position


@pytest.fixture
def alone(database: Database, new_ledger: NewLedger) -> tuple[Subledger, str]:
    """A separate writer, which has found its ledger unchanged."""
    ledger, service = new_ledger(on_shortfall="reject"), Subledger(database)
    service.record(ledger, [buy(f"b-c{number}", customer=f"c{number}") for number in range(6)])
    service.record(ledger, [use("first")])
    return service, ledger


def test_a_writer_alone_sends_one_statement_for_usage(
    alone: tuple[Subledger, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, ledger = alone
    service.record(ledger, [use("warm")])
    told: list[str] = []
    execute = psycopg.Cursor.execute
    monkeypatch.setattr(
        psycopg.Cursor,
        "execute",
        lambda self, query, *args, **named: (told.append(query), execute(self, query, *args, **named))[1],
    )
    for size in (1, 30):
        service.record(ledger, [use(f"one-{size}-{number}") for number in range(size)])
    assert [query.partition("(")[0] for query in told] == ["SELECT append_batch"] * 2
    monkeypatch.undo()
    assert differences(service, ledger) == []


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(4))
def test_whoever_writes_without_the_lock_leaves_what_it_would_have_with_it(
    seed: int, database: Database, new_ledger: NewLedger, calls: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Usage: some too large, some repeated, some with other content. There are purchases in between, and sometimes
    another writer.
    """
    chance = random.Random(seed)
    shortfall = ("reject", "overage", "backfill")[seed % 3]
    locked, free = new_ledger(on_shortfall=shortfall), new_ledger(on_shortfall=shortfall)
    customers, sent = [f"c{number}" for number in range(5)], [use("first")]
    pool = [Subledger(database), Subledger(database)]
    can_decide_without_lock = memory.LedgerMemory.can_decide_without_lock
    purchases = [buy(f"b-{c}", credits="60", customer=c) for c in customers]
    recorded(pool[0], free, *purchases)
    assert {outcome.status for outcome in pool[1].record(free, purchases)} == {DUPLICATE}
    recorded(pool[0], locked, *purchases)
    for step in range(150):
        batch: list[dict[str, Any]] = []
        for number in range(chance.choice((1, 1, 1, 4, 9))):
            event, pick = use(f"u-{step}-{number}", customer=chance.choice([*customers, "nobody"])), chance.random()
            if pick < 0.1:
                event = chance.choice(sent)
            elif pick < 0.15:
                event = {**chance.choice(sent), "data": {**event["data"], "credits": "77"}}
            elif pick < 0.2:
                event = use(
                    f"u-{step}-{number}",
                    customer=chance.choice(customers),
                    credits="50",
                    product=chance.choice(("a", "b")),
                )
            elif pick < 0.24:
                event = buy(
                    f"b{step}-{number}-{chance.choice(customers)}", credits="40", customer=chance.choice(customers)
                )
            batch.append(event)
        sent += batch
        writer = pool[0] if chance.random() < 0.93 else pool[1]
        found = writer.record(free, batch)
        with monkeypatch.context() as patched:
            patched.setattr(memory.LedgerMemory, "can_decide_without_lock", lambda *_: False)
            expected = writer.record(locked, batch)
        assert memory.LedgerMemory.can_decide_without_lock is can_decide_without_lock
        assert [(o.status, o.position, getattr(o.error, "code", None)) for o in found] == [
            (o.status, o.position, getattr(o.error, "code", None)) for o in expected
        ]
    assert calls.count("written") > 30
    one, two = dump(pool[0], free), dump(pool[0], locked)
    for table in ("wallets", "blocks", "documents", "dimension_sets"):
        assert one[table] == two[table]
    assert differences(pool[0], free) == []
    assert not any(rebuild(database, free).written.values())


def test_what_another_writer_recorded_meanwhile_is_seen(
    alone: tuple[Subledger, str], database: Database, calls: list[str | None]
) -> None:
    service, ledger = alone
    other = Subledger(database)
    other.record(ledger, [use("other", credits="998")])
    [outcome] = service.record(ledger, [use("mine", credits="5")])
    assert calls == [None]
    assert outcome.error is not None
    assert outcome.error.code == "insufficient_credits"
    assert service.record(ledger, [use("less", credits="1")])[0].status == "recorded"
    assert differences(service, ledger) == []


def test_two_writers_who_take_turns_stop_trying(alone: tuple[Subledger, str], calls: list[str | None]) -> None:
    service, ledger = alone
    other = Subledger(service.database)
    for number in range(20):
        (service, other)[number % 2].record(ledger, [use(f"turn-{number}")])
    assert len(calls) <= 2
    assert differences(service, ledger) == []


def test_writers_at_once_neither_lose_nor_double_anything(alone: tuple[Subledger, str], database: Database) -> None:
    service, ledger = alone
    before = position(service, ledger)
    writers = [Subledger(database) for _ in range(3)]

    def write(name: int) -> None:
        writer = writers[name]
        for number in range(40):
            writer.record(ledger, [use(f"w-{name}-{number}", customer=f"c{number % 6}")])
            writer.record(ledger, [use(f"all-{number}", customer=f"c{number % 6}")])

    together(write, range(3))
    assert position(service, ledger) == before + 3 * 40 + 40
    assert differences(service, ledger) == []


def test_a_duplicate_is_one_though_the_credits_are_gone(alone: tuple[Subledger, str], calls: list[str | None]) -> None:
    service, ledger = alone
    all_of_it = [use("all", customer="c1", credits="1000")]
    [first] = service.record(ledger, all_of_it)
    for _ in range(2):
        [again] = service.record(ledger, all_of_it)
        assert (again.status, again.position) == ("duplicate", first.position)
    [again] = service.record(ledger, [use("first")])
    assert (again.status, calls) == ("duplicate", ["written", None])
    service.record(ledger, [use("on")])
    assert calls[-1] == "written", "what was in memory is as it was before"
    assert differences(service, ledger) == []


def test_an_answer_given_meanwhile_keeps_what_follows_out_of_it(alone: tuple[Subledger, str]) -> None:
    service, ledger = alone
    for number in range(30):
        before = position(service, ledger)
        with service.view(ledger, known_at=datetime.now(UTC)) as view:
            promised = view.known_at
        service.record(ledger, [use(f"after-{number}")])
        assert position(service, ledger, promised) == before
    assert differences(service, ledger) == []


@pytest.mark.parametrize(("off", "tried"), [(timedelta(hours=1), None), (-timedelta(hours=1), "written")])
def test_a_clock_that_was_set_is_never_believed(
    alone: tuple[Subledger, str],
    calls: list[str | None],
    off: timedelta,
    tried: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service, ledger = alone
    monotonic, by = head.time.monotonic, [0.0]
    monkeypatch.setattr(head.time, "monotonic", lambda: monotonic() + by[0])
    service.record(ledger, [use("before")])
    by[0] = off.total_seconds()
    service.record(ledger, [use("after")])
    service.record(ledger, [use("again")])
    service.record(ledger, [use("and again")])
    assert calls[:2] == ["written", tried]
    assert calls[-1] == "written"
    with service.database.read() as connection:
        query = "SELECT max(abs(extract(epoch FROM clock_timestamp() - recorded_at))) FROM batches WHERE ledger = %s"
        assert connection.exec_driver_sql(query, (ledger,)).scalar_one() < 1_800
    assert differences(service, ledger) == []


def test_a_connection_lost_in_a_call_is_told_and_what_is_sent_again_is_recorded_once(
    alone: tuple[Subledger, str], owner_url: str
) -> None:
    service, ledger = alone
    service.record(ledger, [use("warm")])
    with psycopg.connect(owner_url) as holding:
        holding.execute("SELECT FROM ledgers WHERE ledger = %s FOR UPDATE", (ledger,))
        caught: list[BaseException] = []

        def write() -> None:
            try:
                service.record(ledger, [use("lost")])
            except Exception as error:
                caught.append(error)

        thread = threading.Thread(target=write)
        thread.start()
        with psycopg.connect(owner_url, autocommit=True) as superuser:
            ended = 0
            while not ended:
                ended = superuser.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                    " AND query LIKE 'SELECT append_batch%%' AND datname = current_database()"
                ).rowcount
        thread.join()
    assert [getattr(error, "code", None) for error in caught] == ["database_unavailable"]
    assert service.record(ledger, [use("lost")])[0].status == "recorded"
    assert service.record(ledger, [use("lost")])[0].status == "duplicate"
    assert service.record(ledger, [use("next")])[0].status == "recorded"
    assert differences(service, ledger) == []


# --- the function, and its plans ------------------------------------------------------------------------------


def test_the_function_has_the_parameters_that_it_is_called_with(owner_url: str) -> None:
    with psycopg.connect(owner_url) as connection:
        [(arguments,)] = connection.execute(
            "SELECT pg_get_function_arguments(oid) FROM pg_proc WHERE proname = 'append_batch'"
        ).fetchall()
        types = dict(connection.execute("SELECT typname, format_type(typarray, NULL) FROM pg_type").fetchall())
    given = [argument.split(" DEFAULT ")[0].split(" ", 1) for argument in arguments.split(", ")]
    assert tuple(name for name, _ in given[: len(HEAD)]) == HEAD
    groups = [
        [f"{group}_{column}", types[array.type]]
        for group, columns in GROUPS.items()
        for column, array in columns.items()
    ]
    assert given[len(HEAD) :] == groups


A_KEY_TWICE = """
CREATE FUNCTION told_without_a_code() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM events WHERE ledger = NEW.ledger AND source = NEW.source AND event_id = NEW.event_id) THEN
        RAISE EXCEPTION 'duplicate key value' USING ERRCODE = 'XX000';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER as_by_citus BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION told_without_a_code();
"""


def test_a_duplicate_is_one_though_the_server_that_has_the_ledger_tells_no_code(scratch_url: str) -> None:
    """An error of the copy between servers of a Citus cluster is returned as an internal error."""
    with psycopg.connect(scratch_url) as owner:
        owner.execute(A_KEY_TWICE)
    database = Database(scratch_url)
    service = Subledger(database)
    service.create_ledger("a", LedgerSettings(currency="USD"))
    service.record("a", [buy("b-c0", customer="c0")])
    [first] = service.record("a", [use("u")])
    for _ in range(2):
        [again] = service.record("a", [use("u")])
        assert (again.status, again.position) == ("duplicate", first.position)
    database.close()


@pytest.mark.campaign
def test_a_ledger_that_the_statistics_do_not_know_is_not_read_whole_for_every_event(scratch_url: str) -> None:
    """The planner assumes that a new ledger beside a big one is empty, and may choose an index that does not help."""
    for name, events in (("big", 40_000), ("new", 1_500)):
        database = Database(scratch_url)
        service = Subledger(database)
        service.create_ledger(name, LedgerSettings(currency="USD"))
        service.record(name, [buy("b-c0", credits="100000", customer="c0")])
        step = events // 5
        for first in range(0, events, step):
            service.record(name, [use(f"u-{number}") for number in range(first, first + step)])
        database.close()
        with psycopg.connect(scratch_url, autocommit=True) as superuser:
            if name == "big":
                superuser.execute("ANALYZE")
                before = _read_by_position(superuser)
            else:
                assert _read_by_position(superuser) - before < events


def _read_by_position(superuser: psycopg.Connection[tuple[Any, ...]]) -> int:
    superuser.execute("SELECT pg_stat_clear_snapshot()")
    query = "SELECT idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = 'pk_events'"
    [(read,)] = superuser.execute(query).fetchall()
    return int(read)


# --- work while the database writes ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 30, 600])
def test_the_next_batch_is_decoded_while_this_one_is_written(alone: tuple[Subledger, str], size: int) -> None:
    service, ledger = alone
    seen: list[int] = []
    before = position(service, ledger)
    events = [read_event(use(f"m-{number}")) for number in range(size)]
    for _ in range(2):
        outcomes = service.recorder.record(ledger, events, meanwhile=lambda: seen.append(1))
        assert len(outcomes) == size
    assert len(seen) == 2, "once a batch, also where all of it is duplicates"
    assert position(service, ledger) == before + size
    assert differences(service, ledger) == []


def test_what_fails_meanwhile_is_told_and_nothing_is_recorded_twice(alone: tuple[Subledger, str]) -> None:
    service, ledger = alone
    before = position(service, ledger)
    events = [read_event(use(f"m-{number}")) for number in range(40)]

    def fails() -> None:
        raise OSError("the file cannot be read on")

    with pytest.raises(OSError, match="read on"):
        service.recorder.record(ledger, events, meanwhile=fails)
    assert {o.status for o in service.recorder.record(ledger, events)} <= {"recorded", "duplicate"}
    assert position(service, ledger) == before + 40
    assert differences(service, ledger) == []
