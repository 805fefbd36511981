"""Group commit: events that callers send at the same time are recorded together, with the same results as separately.

The database is real. A ledger is locked (``holding``) so that the content of the queue is known, and is then unlocked.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.service import Subledger, read_inputs
from projections.integrity import verify
from subledger.errors import DatabaseUnavailable, LedgerBusy, Overloaded, Stopping, SubledgerError, UnknownLedger
from subledger.events.own_data import Approvals
from subledger.ledger_settings import LedgerSettings
from subledger.store.database import Database
from subledger.store.reading.ledgers import ledger_head
from subledger.store.writing.approvals import approvals_page
from subledger.store.writing.batch import Outcome
from subledger.store.writing.queue import Limits
from tests.building import cloud_event
from tests.conftest import NewLedger
from tests.store.holding import Callers, fund, held, use
from tests.waiting import until

Limited = Callable[..., Subledger]


@pytest.fixture
def limited(owner_url: str) -> Iterator[Limited]:
    """Makes a separate service, like that of another process: ``limited(queue_events=5)``."""
    databases: list[Database] = []

    def make(**limits: Any) -> Subledger:
        databases.append(Database(owner_url))
        return Subledger(databases[-1], limits=Limits(**limits))

    yield make
    for database in databases:
        database.close()


@pytest.fixture
def ledger(funded_ledger: str) -> str:
    return funded_ledger


def batches(service: Subledger, ledger: str) -> list[int]:
    """Returns the number of events of each commit."""
    with service.database.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT last_position - first_position + 1 FROM batches WHERE ledger = %s ORDER BY 1, last_position",
            (ledger,),
        )
        return [row[0] for row in rows]


def ids_in_log(service: Subledger, ledger: str) -> list[str]:
    with service.database.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT event_id FROM events WHERE ledger = %s AND source <> 'subledger' ORDER BY position", (ledger,)
        )
        return [row[0] for row in rows][1:]


# --- the answers of callers
# ------------------------------------------------------------------------------------------------


def test_what_arrives_while_a_commit_is_on_its_way_is_the_next_batch(
    limited: Limited, owner_url: str, ledger: str
) -> None:
    service = limited()
    before = batches(service, ledger)
    with Callers(service, ledger) as callers, held(owner_url, ledger) as hold:
        calls = [callers.call(use("u-0"))]
        hold.waiting_writer()  # its batch is being written, and later events are not in it
        calls += [callers.call(use(f"u-{n}")) for n in range(1, 20)]
        hold.release()
        positions = [call.result()[0].position for call in calls]
    assert batches(service, ledger) == sorted([*before, 1, 19])
    assert positions == list(range(5, 25)), "in the order in which they came"


def test_a_batch_has_at_most_so_many_events_and_a_callers_events_stay_together(
    limited: Limited, owner_url: str, ledger: str
) -> None:
    service = limited(batch_events=10)
    before = batches(service, ledger)
    with Callers(service, ledger) as callers, held(owner_url, ledger) as hold:
        calls = [callers.call(use("first"))]
        hold.waiting_writer()
        calls += [callers.call(*(use(f"{n}-{k}") for k in range(size))) for n, size in enumerate((6, 3, 2, 25, 1))]
        hold.release()
        for call in calls:
            assert {outcome.status for outcome in call.result()} == {"recorded"}
    assert batches(service, ledger) == sorted([*before, 1, 9, 2, 25, 1])


_event = st.tuples(st.integers(0, 6), st.sampled_from(["1", "2", "99999999", "-1"]))


@pytest.mark.campaign
@given(sent=st.lists(st.lists(_event, min_size=1, max_size=4), min_size=1, max_size=6))
def test_each_caller_gets_its_own_outcomes_and_each_id_is_recorded_once(
    service: Subledger, owner_url: str, new_ledger: NewLedger, sent: list[list[tuple[int, str]]]
) -> None:
    ledger = new_ledger()
    fund(service, ledger, "1000")
    with Callers(service, ledger) as callers, held(owner_url, ledger) as hold:
        calls = [callers.call(*(use(f"u-{n}", credits) for n, credits in events)) for events in sent]
        hold.release()
        answers = [call.result() for call in calls]
    first: dict[str, tuple[int, str]] = {}
    for events, outcomes in zip(sent, answers, strict=True):
        assert [outcome.event_id for outcome in outcomes] == [f"u-{n}" for n, _ in events]
        for (number, credits), outcome in zip(events, outcomes, strict=True):
            assert _told(outcome) == _expected(f"u-{number}", credits, first, outcome)
    assert ids_in_log(service, ledger) == [event_id for event_id, _ in sorted(first.items(), key=lambda i: i[1])]
    assert verify(service.database, ledger).differences == []


def _told(outcome: Outcome) -> tuple[str, int | None, str | None]:
    return outcome.status, outcome.position, outcome.error.code if outcome.error else None


def _expected(
    event_id: str, credits: str, first: dict[str, tuple[int, str]], outcome: Outcome
) -> tuple[str, int | None, str | None]:
    """Returns the expected result of an event after earlier ones. Stores it if it is the first with its id."""
    if credits == "-1":
        return "rejected", None, "invalid_value"
    if event_id in first:
        position, recorded = first[event_id]
        return ("duplicate", position, None) if recorded == credits else ("rejected", position, "event_conflict")
    if credits == "99999999":
        return "rejected", None, "insufficient_credits"
    position = 5 + len(first)  # in the order in which they came
    first[event_id] = (position, credits)
    return "recorded", position, None


def test_callers_in_threads_and_tasks_of_several_services_share_a_ledger(limited: Limited, ledger: str) -> None:
    services = [limited(), limited()]

    def in_thread(n: int) -> list[Outcome]:
        return [services[n % 2].record(ledger, [use(f"thread-{n}-{k}")])[0] for k in range(10)]

    async def in_task(service: Subledger, n: int) -> list[Outcome]:
        return [(await service.gatherer.hand_in(ledger, read_inputs([use(f"task-{n}-{k}")])))[0] for k in range(10)]

    async def in_tasks(service: Subledger) -> list[list[Outcome]]:
        return await asyncio.gather(*(in_task(service, n) for n in range(16)))

    with ThreadPoolExecutor(20) as pool:
        loops = [pool.submit(asyncio.run, in_tasks(service)) for service in services]  # the same ids in both
        threads = list(pool.map(in_thread, range(16)))
    tasks = [outcomes for loop in loops for outcomes in loop.result()]
    for outcomes in threads:
        positions = [outcome.position or 0 for outcome in outcomes]
        assert positions == sorted(positions), "one caller's events keep their order"
        assert {outcome.status for outcome in outcomes} == {"recorded"}
    by_id: dict[str | None, list[Outcome]] = {}
    for outcome in (outcome for outcomes in tasks for outcome in outcomes):
        by_id.setdefault(outcome.event_id, []).append(outcome)
    for twice in by_id.values():
        assert sorted(outcome.status for outcome in twice) == ["duplicate", "recorded"]
        assert len({outcome.position for outcome in twice}) == 1
    assert len(set(ids_in_log(services[0], ledger))) == len(ids_in_log(services[0], ledger)) == 320
    assert verify(services[0].database, ledger).differences == []


def test_each_event_waits_for_a_second_person_in_the_name_of_its_own_caller(limited: Limited, owner_url: str) -> None:
    service, ledger = limited(), "gathered-names"
    service.create_ledger(
        ledger, LedgerSettings(currency="USD", approvals=Approvals.model_validate({"grant_credits_above": "1"}))
    )

    def grant(block: str) -> Any:
        return cloud_event(
            f"g-{block}",
            "credits.granted",
            "c",
            "2026-01-01T00:00:00Z",
            block_id=block,
            credits="2",
            reason="promotional",
        )

    with Callers(service, ledger) as callers, held(owner_url, ledger) as hold:
        calls = [callers.call(grant(name), by=name) for name in ("ann", "bob", "cyd")]
        hold.release()
        assert [call.result()[0].status for call in calls] == ["waiting"] * 3
    with service.database.read() as connection:
        none = ledger_head(connection, ledger).recorded_at.replace(year=2000)
        asked = approvals_page(connection, ledger, state=None, after=(none, ""), limit=10)
    assert {one.event_id: one.maker for one in asked} == {"g-ann": "ann", "g-bob": "bob", "g-cyd": "cyd"}


def test_a_request_of_nobody_is_refused_at_the_position_where_the_ledger_was(limited: Limited) -> None:
    service, ledger = limited(), "asked-by-nobody"
    service.create_ledger(
        ledger, LedgerSettings(currency="USD", approvals=Approvals.model_validate({"grant_credits_above": "1"}))
    )
    grant = cloud_event(
        "g", "credits.granted", "c", "2026-01-01T00:00:00Z", block_id="g", credits="2", reason="promotional"
    )
    with service.view(ledger) as view:
        position = view.position
    [outcome] = service.record(ledger, [grant])
    assert outcome.error is not None
    assert (outcome.error.code, outcome.decided_at_position) == ("person_required", position)


# --- faults ----------------------------------------------------------------------------------------------


def test_where_the_database_fails_all_of_the_batch_are_told_and_nothing_is_half_written(
    limited: Limited, owner_url: str, ledger: str
) -> None:
    service = limited(batch_events=3)
    with Callers(service, ledger) as callers, held(owner_url, ledger) as hold:
        alone = callers.call(use("alone"))
        hold.waiting_writer()
        together = [callers.call(use(f"together-{n}")) for n in range(3)]
        after = callers.call(use("after"))
        terminate(owner_url, hold.waiting_writer())
        with pytest.raises(DatabaseUnavailable):
            alone.result()
        terminate(owner_url, hold.waiting_writer())
        told = [call.exception() for call in together]
        assert [type(error) for error in told] == [DatabaseUnavailable] * 3
        assert len(set(map(id, told))) == 3, "raising writes into an error, so each caller has its own"
        hold.release()
        assert after.result()[0].status == "recorded"
    assert ids_in_log(service, ledger) == ["after"]
    assert {outcome.status for outcome in service.record(ledger, [use("alone"), use("after")])} == {
        "recorded",
        "duplicate",
    }
    assert verify(service.database, ledger).differences == []


def terminate(url: str, backend: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", (backend,))
        until(lambda: not connection.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (backend,)).fetchone())


def test_an_unknown_ledger_is_told_to_all_and_leaves_nothing_behind(service: Subledger) -> None:
    async def ask() -> list[Any]:
        calls = [service.gatherer.hand_in("nowhere", read_inputs([use(f"u-{n}")])) for n in range(5)]
        return await asyncio.gather(*calls, return_exceptions=True)

    assert [type(error) for error in asyncio.run(ask())] == [UnknownLedger] * 5
    assert service.gatherer.depth == 0
    with pytest.raises(UnknownLedger):
        service.record("nowhere", [use("u")])


def test_a_defect_that_one_event_meets_is_told_to_its_caller_alone(scratch_url: str) -> None:
    with psycopg.connect(scratch_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE events ADD CONSTRAINT defect CHECK (event_id <> 'defect')")
    database = Database(scratch_url)
    service = Subledger(database)
    service.create_ledger("acme", LedgerSettings(currency="USD"))
    fund(service, "acme")
    with Callers(service, "acme") as callers, held(scratch_url, "acme") as hold:
        calls = {name: callers.call(use(name)) for name in ("first", "before", "defect", "behind")}
        hold.release()
        assert isinstance(calls.pop("defect").exception(), psycopg.errors.CheckViolation)
        assert {call.result()[0].status for call in calls.values()} == {"recorded"}
    assert sorted(ids_in_log(service, "acme")) == ["before", "behind", "first"]
    database.close()


def test_a_leader_that_is_interrupted_leaves_no_follower_hanging(limited: Limited, owner_url: str, ledger: str) -> None:
    service = limited()
    caught: list[BaseException] = []

    def lead() -> None:
        try:
            service.record(ledger, [use("led")])
        except KeyboardInterrupt as error:
            caught.append(error)

    with Callers(service, ledger) as callers, held(owner_url, ledger) as hold:
        first = callers.call(use("first"))  # its batch has one event; the next leader has followers
        hold.waiting_writer()
        leader = threading.Thread(target=lead)
        leader.start()
        until(lambda: service.gatherer.depth == 2)
        followers = [callers.call(use(f"follower-{n}")) for n in range(3)]
        terminate(owner_url, hold.waiting_writer())
        assert isinstance(first.exception(), DatabaseUnavailable)
        hold.waiting_writer()  # the leader is inside the database now
        interrupt(leader)
        hold.release()
        leader.join()
        assert caught
        assert {call.result()[0].status for call in followers} <= {"recorded", "duplicate"}
    assert set(ids_in_log(service, ledger)) >= {"follower-0", "follower-1", "follower-2"}
    assert service.gatherer.depth == 0
    assert verify(service.database, ledger).differences == []


def interrupt(thread: threading.Thread) -> None:
    """Raises KeyboardInterrupt in a thread, as soon as it runs Python again."""
    ident = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(KeyboardInterrupt))


# --- tasks that are cancelled -------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", range(4))
def test_a_task_that_is_cancelled_takes_back_what_still_waits_and_harms_nobody(
    limited: Limited, owner_url: str, ledger: str, victim: int
) -> None:
    """The first one is being written, and is recorded. One of the others is the next leader."""
    service = limited(batch_events=2)

    async def run() -> list[Any]:
        with held(owner_url, ledger) as hold:
            tasks = []
            for n in range(4):
                call = service.gatherer.hand_in(ledger, read_inputs([use(f"u-{n}")]))
                tasks.append(asyncio.create_task(call))
                await asyncio.sleep(0)
                if n == 0:
                    await asyncio.to_thread(hold.waiting_writer)
            tasks[victim].cancel()
            await asyncio.sleep(0)
            hold.release()
            return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(run())
    until(lambda: service.gatherer.depth == 0)
    assert isinstance(answers.pop(victim), asyncio.CancelledError)
    assert [answer[0].status for answer in answers] == ["recorded"] * 3
    expected = [f"u-{n}" for n in range(4) if n != victim or n == 0]
    assert ids_in_log(service, ledger) == expected


def test_a_leader_that_is_cancelled_before_it_began_is_followed_by_the_next(limited: Limited, ledger: str) -> None:
    service = limited()

    async def run() -> list[Any]:
        calls = (service.gatherer.hand_in(ledger, read_inputs([use(f"u-{n}")])) for n in range(5))
        tasks = [asyncio.create_task(call) for call in calls]
        await asyncio.sleep(0)
        for task in tasks[:2]:
            task.cancel()
        return await asyncio.wait_for(asyncio.gather(*tasks[2:]), 30)

    assert [answer[0].status for answer in asyncio.run(run())] == ["recorded"] * 3
    until(lambda: service.gatherer.depth == 0)


# --- limits of the queue
# -----------------------------------------------------------------------------------------------------


def test_more_than_the_queue_of_a_ledger_holds_is_refused_and_not_recorded(
    limited: Limited, owner_url: str, ledger: str, new_ledger: NewLedger
) -> None:
    service, other = limited(queue_events=5), new_ledger()
    with Callers(service, ledger) as callers, held(owner_url, ledger) as hold:
        calls = [callers.call(use("a")), callers.call(use("b"), use("c"))]
        with pytest.raises(LedgerBusy) as refused:
            service.record(ledger, [use(f"much-{n}") for n in range(3)])
        assert refused.value.facts["retry_after_s"] >= 1
        fund(service, other)
        calls.append(callers.call(use("d"), use("e")))
        hold.release()
        assert {outcome.status for call in calls for outcome in call.result()} == {"recorded"}
    assert ids_in_log(service, ledger) == ["a", "b", "c", "d", "e"]
    outcomes = service.record(ledger, [use(f"much-{n}") for n in range(50)])
    assert {outcome.status for outcome in outcomes} == {"recorded"}, "where nothing waits, anything is taken"


def test_the_queue_is_bounded_in_bytes_and_over_all_ledgers(
    limited: Limited, owner_url: str, ledger: str, new_ledger: NewLedger
) -> None:
    service, other = limited(queue_bytes=100, all_events=3), new_ledger()
    with Callers(service, ledger) as callers, held(owner_url, ledger):
        call = callers.call(use("a"))
        large = {**use("large"), "comment": "x" * 100}
        with pytest.raises(LedgerBusy):
            service.record(ledger, [large])
        with pytest.raises(Overloaded):
            service.record(other, [use(f"u-{n}", customer="nobody") for n in range(3)])
        service.record(other, [use(f"u-{n}", customer="nobody") for n in range(2)])
        assert not call.done()


def test_who_waits_too_long_is_refused_only_where_nothing_of_it_is_on_its_way(
    limited: Limited, owner_url: str, ledger: str
) -> None:
    service = limited(waiting_s=0.2)

    async def in_task() -> None:
        await service.gatherer.hand_in(ledger, read_inputs([use("task")]))

    with Callers(service, ledger) as callers, held(owner_url, ledger) as hold:
        on_its_way = callers.call(use("on-its-way"))
        hold.waiting_writer()
        with pytest.raises(Overloaded):
            service.record(ledger, [use("thread")])
        with pytest.raises(Overloaded):
            asyncio.run(in_task())
        assert not on_its_way.done(), "only the commit can tell, so it is waited for"
        hold.release()
        assert on_its_way.result()[0].status == "recorded"
    assert ids_in_log(service, ledger) == ["on-its-way"]


# --- the end ------------------------------------------------------------------------------------------------------


def test_a_service_that_stops_finishes_what_it_accepted_and_takes_no_more(
    limited: Limited, owner_url: str, ledger: str
) -> None:
    service = limited()
    with Callers(service, ledger) as callers, held(owner_url, ledger) as hold:
        calls = [callers.call(use(f"u-{n}")) for n in range(3)]
        assert not service.gatherer.stop(timeout_s=0.05), "they cannot be finished yet"
        with pytest.raises(Stopping):
            service.record(ledger, [use("late")])
        hold.release()
        assert service.gatherer.stop()
        assert {call.result()[0].status for call in calls} == {"recorded"}
    assert ids_in_log(service, ledger) == ["u-0", "u-1", "u-2"]


def test_what_is_refused_for_now_may_be_sent_again(limited: Limited) -> None:
    for error in (LedgerBusy, Overloaded, Stopping):
        assert issubclass(error, SubledgerError)
        assert error("").retryable
