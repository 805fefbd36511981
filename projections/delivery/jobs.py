"""What a worker does, and when: a job queue in PostgreSQL (procrastinate), in a schema of its own.

A job is a wake-up and holds nothing: what is to be delivered is in the outbox, and a job that is lost is found by the
sweep of the next minute. A channel has one job at a time, so that its journals go in their order and its target is not
asked by many at once; the jobs of a worker that was killed are taken off when its heartbeat is missed.

Owns: the schema ``jobs``, by way of the library. Does not own: the outbox, what is done with a delivery (sending).
"""

from __future__ import annotations

import asyncio
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Final

import procrastinate
import structlog
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException, JobAborted
from procrastinate.jobs import Status

from projections.delivery import outbox
from projections.delivery.channels import get_channel, list_channels
from projections.delivery.sending import deliver_due
from subledger.errors import DatabaseUnavailable, NotFound, present
from subledger.store.database import Database, session_options
from subledger.store.reading.ledgers import ledger_heads
from subledger.store.tables import APP_ROLE

SCHEMA: Final = "jobs"
DELIVER: Final = "deliver"
_STOPS_WITHIN_S: Final = 1.0
"""Seconds that a stopping worker lets its jobs continue before it asks them to end after the current delivery."""
_FINISHES_WITHIN_S: Final = 1e6
"""The same of a worker that ends by itself: as many as its jobs take."""
_LOOKS_FOR_S: Final = 10.0
"""Seconds for which a worker that ends by itself looks at monitors, as there may be thousands of ledgers."""
_PAGE: Final = 500

log = structlog.get_logger("subledger.worker")

Minutely = Callable[[Database, str], object]
"""What else is done for each ledger once a minute."""
SweepExpiries = Callable[[Callable[[], bool]], object]
"""Records the expiries that are due, in every ledger, until it is told to stop."""


class Jobs:
    """The job queue of a database, for those who put jobs in and for the worker that does them."""

    def __init__(
        self, database: Database, minutely: tuple[Minutely, ...] = (), sweep_expiries: SweepExpiries | None = None
    ) -> None:
        self._database = database
        self._minutely = minutely
        self._sweep_expiries = sweep_expiries
        self._forever = True
        self._opening = threading.Lock()  # who closes the queue's connections closes them for all
        limits = database.timeouts
        # What the queue asks is answered at once, so its transactions are as short as a writer's.
        options = f"-c role={APP_ROLE} {session_options(search_path=SCHEMA)} " + limits.options(
            idle_s=limits.stuck_writer_s
        )
        connector = procrastinate.PsycopgConnector(
            conninfo=database.url, kwargs={"options": options, **limits.of_link}, min_size=1, max_size=5
        )
        self._app = procrastinate.App(connector=connector)
        self._app.task(name=DELIVER, pass_context=True)(self._deliver)
        each_minute = "* * * * *"
        # Taking off is not locked, as it is what frees the locks of workers that have died. Of each other thing one
        # worker does it, one more waits, and no others.
        app = self._app
        app.periodic(cron=each_minute)(app.task(name="take_off", queueing_lock="take_off")(self._take_off))
        app.periodic(cron=each_minute)(app.task(name="sweep", lock="sweep", queueing_lock="sweep")(self._sweep))
        if sweep_expiries is not None:
            app.periodic(cron=each_minute)(
                app.task(name="expiries", lock="expiries", queueing_lock="expiries", pass_context=True)(self._expiries)
            )
        if minutely:
            app.periodic(cron=each_minute)(
                app.task(name="minutely", lock="minutely", queueing_lock="minutely", pass_context=True)(self._minute)
            )

    def wake(self, ledger: str, channel: str) -> None:
        """Has a channel worked on now. Raises DatabaseUnavailable."""
        with self._opening, _available(), self._app.open():
            self._defer(ledger, channel, None)

    def work(
        self, *, concurrency: int = 2, forever: bool = True, told_to_stop: Callable[[], None] = lambda: None
    ) -> None:  # fmt: skip
        """Runs jobs until a stop is requested, or, if not ``forever``, until no job is due.

        With ``forever``, SIGTERM and SIGINT request the stop; ``told_to_stop`` is called first.
        """
        with _available():
            asyncio.run(self._work(concurrency, forever, told_to_stop))

    async def _work(self, concurrency: int, forever: bool, told_to_stop: Callable[[], None]) -> None:
        self._forever = forever
        async with self._app.open_async():
            await self._take_off(0)
            await asyncio.to_thread(self._sweep, 0)
            # A worker that ends because nothing more is to be begun lets what it has begun take its time.
            working = asyncio.create_task(
                self._app.run_worker_async(
                    concurrency=concurrency, wait=forever, delete_jobs="successful", install_signal_handlers=False,
                    shutdown_graceful_timeout=_STOPS_WITHIN_S if forever else _FINISHES_WITHIN_S,
                )
            )  # fmt: skip

            def stop() -> None:
                told_to_stop()
                working.cancel()  # which the library takes for being asked to stop, and not for more

            if forever:
                for number in (signal.SIGTERM, signal.SIGINT):
                    asyncio.get_running_loop().add_signal_handler(number, stop)
            with suppress(asyncio.CancelledError):
                await working

    def _defer(self, ledger: str, channel: str, at: datetime | None) -> None:
        # One that waits for its time is no reason not to begin now: so there are two queueing locks.
        name = f"{ledger}/{channel}"
        job = self._app.configure_task(
            DELIVER, lock=name, queueing_lock=f"{name}/{'now' if at is None else 'later'}", schedule_at=at
        )
        with suppress(AlreadyEnqueued):
            job.defer(ledger=ledger, channel=channel)

    # --- the jobs -------------------------------------------------------------------------------------------------

    def _deliver(self, context: procrastinate.JobContext, ledger: str, channel: str) -> None:
        try:
            with self._database.read() as connection:
                found = get_channel(connection, ledger, channel)
        except NotFound:
            return  # taken away since
        deliver_due(self._database, found, stop=context.should_abort)
        if context.should_abort():
            raise JobAborted
        with self._database.read() as connection:
            due = outbox.next_due(connection, found)
        if due is not None:
            at, wait_s = due
            self._defer(ledger, channel, at if wait_s > 0 else None)

    def _sweep(self, timestamp: int) -> None:  # noqa: ARG002  # a periodic job is told its minute
        """Wakes every channel that has something due: whatever became of the job that should have."""
        for ledger in _ledgers(self._database):
            with self._database.read() as connection:
                channels = list_channels(connection, ledger)
                dues = [(channel.name, outbox.next_due(connection, channel)) for channel in channels]
            for name, due in dues:
                if due is not None and due[1] <= 0:
                    self._defer(ledger, name, None)

    def _expiries(self, context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG002  # likewise
        present(self._sweep_expiries, "the job of expiries runs without a sweep")(context.should_abort)
        if context.should_abort():
            raise JobAborted

    async def _take_off(self, timestamp: int) -> None:  # noqa: ARG002  # likewise
        """Ends jobs whose worker has died: they keep others of their channel from beginning. The sweep wakes it."""
        for job in await self._app.job_manager.get_stalled_jobs():
            log.warning("a worker has died over a job", job=job.call_string)
            await self._app.job_manager.finish_job(job, status=Status.FAILED, delete_job=True)

    def _minute(self, context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG002  # likewise
        until = math.inf if self._forever else time.monotonic() + _LOOKS_FOR_S
        for ledger in _ledgers(self._database):
            if context.should_abort() or time.monotonic() > until:
                raise JobAborted
            for do in self._minutely:
                try:
                    do(self._database, ledger)
                except Exception:  # one ledger's trouble is not the others'
                    log.exception("not done", ledger=ledger, what=do.__name__)


def _ledgers(database: Database) -> Iterator[str]:
    after = ""
    while True:
        with database.read() as connection:
            page = ledger_heads(connection, after=after, limit=_PAGE)
        yield from (head.state.ledger for head, _ in page)
        if len(page) < _PAGE:
            return
        after = page[-1][0].state.ledger


@contextmanager
def _available() -> Iterator[Any]:
    try:
        yield
    except ConnectorException as error:
        raise DatabaseUnavailable(f"the job queue did not answer: {error.__cause__ or error}") from error
