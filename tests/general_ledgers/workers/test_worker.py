"""The worker: it does the due work at the due time, whatever happened to other workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from procrastinate.exceptions import AlreadyEnqueued, JobAborted

from api.service import Subledger
from projections.delivery import outbox
from projections.delivery.channel_task import DELIVER, channel_subject
from projections.delivery.channels import Channel
from projections.delivery.states import State
from subledger.external.jobs import Jobs, MinuteTask
from subledger.store.database import Database
from tests.general_ledgers.conftest import deliveries
from tests.general_ledgers.netsuite import NetSuiteStandIn
from tests.general_ledgers.stand_in import at_random, one_after_another
from tests.general_ledgers.working import states
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("open_borders")

Sold = Callable[..., str]
Exported = Callable[..., Any]
NetSuiteChannel = Callable[..., Channel]


@pytest.fixture
def ready(
    service: Subledger, sold: Sold, exported: Exported, netsuite_channel: NetSuiteChannel
) -> Callable[..., Channel]:
    """A ledger with a number of documents in the outbox: six for each block, with two lines each."""

    def make(documents: int, **settings: Any) -> Channel:
        ledger = sold(documents // 6)
        channel = netsuite_channel(ledger, **settings)
        export = exported(ledger, approved=True, level="block", lines=2, pass_through=True)
        assert len(outbox.add(service.database, channel, export, by="test")) == documents
        return channel

    return make


def jobs(url: str, query: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()  # type: ignore[arg-type]


def work_until(service: Subledger, done: Callable[[], bool]) -> None:
    """Works until ``done`` returns True. One run may not be enough: at the end of a minute, a sweep may leave a job to
    a worker that ends.
    """
    for _ in range(50):
        service.jobs.work(forever=False)
        if done():
            return


def test_a_worker_delivers_what_is_on_its_way(
    service: Subledger, ready: Callable[..., Channel], netsuite: NetSuiteStandIn
) -> None:
    channel = ready(6)
    service.jobs.work(forever=False)
    assert {delivery.state for delivery in deliveries(service, channel.ledger)} == {State.POSTED}
    assert len(netsuite.journals) == 6


def test_who_asks_wakes_a_worker_at_once_though_it_waits_for_later(
    service: Subledger, ready: Callable[..., Channel], netsuite: NetSuiteStandIn, owner_url: str
) -> None:
    channel = ready(6, first_wait_s=1_000.0, longest_wait_s=1_000.0)
    netsuite.fault = one_after_another(["drops_before"])
    waiting = f"SELECT scheduled_at > now() FROM jobs.procrastinate_jobs WHERE lock = '{channel.ledger}/netsuite'"
    work_until(service, lambda: jobs(owner_url, waiting) == [(True,)])
    assert jobs(owner_url, waiting) == [(True,)], "for the look-up, in 1,000 seconds"
    with psycopg.connect(owner_url) as connection:
        connection.execute("UPDATE deliveries SET due_at = now() WHERE ledger = %s", (channel.ledger,))
    service.jobs.wake(DELIVER, channel_subject(channel.ledger, "netsuite"))
    service.jobs.wake(DELIVER, channel_subject(channel.ledger, "netsuite"))
    assert len(jobs(owner_url, waiting)) == 2, "one for now, however often it is asked for, and one for later"


def test_a_job_that_is_lost_is_found_by_the_sweep(
    service: Subledger, ready: Callable[..., Channel], netsuite: NetSuiteStandIn, owner_url: str
) -> None:
    channel = ready(6)
    assert jobs(owner_url, f"SELECT 1 FROM jobs.procrastinate_jobs WHERE lock = '{channel.ledger}/netsuite'") == []
    work_until(service, lambda: len(netsuite.journals) == 6)
    assert len(netsuite.journals) == 6


def test_one_ledgers_trouble_is_not_the_others(service: Subledger, new_ledger: Callable[..., str]) -> None:
    first, second = sorted([new_ledger(), new_ledger()])
    met = []

    def trouble(_: Any, ledger: str) -> None:
        if ledger == first:
            raise RuntimeError("no")
        met.append(ledger)

    queue = Jobs(service.database, of_every_ledger=(trouble,))
    stopping = iter([False] * 1_000)
    queue._every_ledger(SimpleNamespace(should_abort=lambda: next(stopping)), 0)  # type: ignore[arg-type]
    assert second in met
    with pytest.raises(JobAborted):
        queue._every_ledger(SimpleNamespace(should_abort=lambda: True), 0)  # type: ignore[arg-type]


def test_what_is_done_each_minute_is_not_done_twice_at_once(database: Database, owner_url: str) -> None:
    rounds: list[list[str]] = []
    queue = Jobs(database, each_minute=(MinuteTask(name="expiries", run=lambda _: rounds.append(asked_for_again())),))

    def ask_for() -> None:
        queue._app.tasks["expiries"].defer(timestamp=1)

    def asked_for_again() -> list[str]:
        """Defers the same job again, as another worker could do at the same time."""
        if rounds:
            return []
        with suppress(AlreadyEnqueued):  # at the end of a minute the queue defers it itself
            ask_for()
        with pytest.raises(AlreadyEnqueued):
            ask_for()
        taken: list[str] = []
        with psycopg.connect(owner_url, options="-c search_path=jobs") as other:
            fetch = "SELECT task_name FROM procrastinate_fetch_job_v2(NULL, NULL)"
            while (found := other.execute(fetch).fetchall()) and found[0][0] is not None:
                taken.append(found[0][0])
            other.rollback()
        return taken

    with suppress(AlreadyEnqueued), queue._app.open():
        ask_for()
    queue.work(concurrency=1, forever=False)
    assert "expiries" not in rounds[0]
    assert len(rounds) >= 2, "the one that waited is done after it"


@pytest.mark.campaign
def test_workers_that_are_killed_leave_nothing_undone_and_nothing_twice(
    service: Subledger, ready: Callable[..., Channel], netsuite: NetSuiteStandIn, owner_url: str
) -> None:
    netsuite.unique = False
    netsuite.fault = at_random(7, 0.2)
    netsuite.time_out_s = 0.6
    channel = ready(102, timeout_s=0.5, settle_s=3.0)
    # The claims of a killed worker last until their lease ends. Here the test ends them.
    for _ in range(4):
        worker = subprocess.Popen(
            [sys.executable, "-m", "api.cli.main", "worker"],
            env={**os.environ, "SUBLEDGER_DATABASE_URL": owner_url},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wanted = len(netsuite.journals) + 10
        until(lambda wanted=wanted: len(netsuite.journals) >= wanted, "a worker that sends ten more")
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        with psycopg.connect(owner_url) as connection:
            connection.execute("UPDATE deliveries SET claimed_until = now() WHERE claim IS NOT NULL")
            connection.execute("UPDATE jobs.procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")

    def nothing_is_due() -> bool:
        service.jobs.work(forever=False)
        return all(delivery.due_at is None for delivery in deliveries(service, channel.ledger))

    until(nothing_is_due, "every delivery is posted")
    found = deliveries(service, channel.ledger)
    assert {delivery.state for delivery in found} == {State.POSTED}, [states(service, each) for each in found][:3]
    references = [journal["reference"] for journal in netsuite.journals]
    assert sorted(references) == sorted(delivery.reference for delivery in found)
    faults = {fault: times for fault, times in netsuite.met.items() if fault != "None"}
    assert len(faults) >= 5, "many things did go wrong on the way"
    assert sum(faults.values()) > 15, "and often"


def test_many_who_wake_at_once_do_not_close_the_queue_for_each_other(
    service: Subledger, new_ledger: Callable[..., str], owner_url: str
) -> None:
    ledger = new_ledger()
    subjects = [channel_subject(ledger, f"channel-{number}") for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda subject: service.jobs.wake(DELIVER, subject), subjects))
    [(count,)] = jobs(owner_url, f"SELECT count(*) FROM jobs.procrastinate_jobs WHERE lock LIKE '{ledger}/%'")
    assert count == 24
