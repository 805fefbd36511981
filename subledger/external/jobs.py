"""The job queue of a worker, in PostgreSQL (procrastinate), in a schema of its own.

A job only wakes a task. The tasks find their work in their own tables, and the sweep of the next minute replaces a lost
job. A *subject*, such as a channel, has one running job at a time. So its work is done in order, and only one worker at
a time calls the outside system. The jobs of a killed worker are ended, because its heartbeat stops.

Owns: the schema ``jobs``, through the library. Does not own: the tasks. ``api`` supplies them, because this package
knows neither deliveries nor monitors.
"""

from __future__ import annotations

import asyncio
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Final

import msgspec
import procrastinate
import structlog
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException, JobAborted
from procrastinate.jobs import Status

from subledger.errors import DatabaseUnavailable
from subledger.store.database import Database, session_options
from subledger.store.reading.ledgers import ledger_heads
from subledger.store.tables import APP_ROLE

SCHEMA: Final = "jobs"
_STOPS_WITHIN_S: Final = 1.0
"""Seconds for which a stopping worker lets its jobs continue. Then it asks them to end after their current step."""
_FINISHES_WITHIN_S: Final = 1e6
"""The same for a worker that ends when no job is due. It lets its jobs finish."""
_LEDGERS_FOR_S: Final = 10.0
"""Maximum time for the tasks of every ledger in a worker that ends when no job is due. There may be thousands of
ledgers.
"""
_PAGE: Final = 500
_EACH_MINUTE: Final = "* * * * *"

log = structlog.get_logger("subledger.worker")

Subject = dict[str, str]
"""The subject of a job by its parts, such as ``{"ledger": …, "channel": …}``. They are stored with the job."""
Stop = Callable[[], bool]
"""Returns True if the worker is stopping. The task then returns after its current step."""


class Again(msgspec.Struct, frozen=True, kw_only=True):
    """The next time at which a subject has work; ``at`` None means now."""

    at: datetime | None = None


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """Work on subjects. ``run`` works on one subject, and returns the time of its next run, or None.

    ``lock`` names the lock of a subject. Only one job with the same lock runs at a time, so two tasks must not have the
    same locks. ``due`` lists the subjects of a ledger that have work now. It is called for each ledger once a minute.
    """

    name: str
    run: Callable[[Subject, Stop], Again | None]
    lock: Callable[[Subject], str]
    due: Callable[[str], Sequence[Subject]]


class MinuteTask(msgspec.Struct, frozen=True, kw_only=True):
    """Work that one worker does once a minute, over all ledgers."""

    name: str
    run: Callable[[Stop], object]


class Jobs:
    """The job queue of a database: adds jobs to it, and runs a worker on it.

    ``of_every_ledger`` are called once a minute for each ledger. A fault of one ledger does not stop the others.
    """

    def __init__(
        self,
        database: Database,
        *,
        tasks: Sequence[Task] = (),
        each_minute: Sequence[MinuteTask] = (),
        of_every_ledger: Sequence[Callable[[Database, str], object]] = (),
    ) -> None:
        self._database = database
        self._tasks = {task.name: task for task in tasks}
        self._of_every_ledger = tuple(of_every_ledger)
        self._forever = True
        # The queue's connections are opened and closed for the whole process. Without this lock a thread could close
        # them while another thread adds a job.
        self._opening = threading.Lock()
        limits = database.timeouts
        # The queue's statements are short, so its transactions get the short limits of a writer.
        options = f"-c role={APP_ROLE} {session_options(search_path=SCHEMA)} " + limits.options(
            idle_s=limits.stuck_writer_s
        )
        connector = procrastinate.PsycopgConnector(
            conninfo=database.url, kwargs={"options": options, **limits.of_link}, min_size=1, max_size=5
        )
        app = self._app = procrastinate.App(connector=connector)
        for task in self._tasks.values():
            app.task(name=task.name, pass_context=True)(self._job_of(task))
        # The job that ends the jobs of dead workers has no lock, because it releases the locks of these jobs. Of every
        # other periodic task, at most one job runs and one waits.
        app.periodic(cron=_EACH_MINUTE)(app.task(name="take_off", queueing_lock="take_off")(self._end_stalled))
        app.periodic(cron=_EACH_MINUTE)(app.task(name="sweep", lock="sweep", queueing_lock="sweep")(self._sweep))
        for minute_task in each_minute:
            self._once_a_minute(minute_task.name, self._job_each_minute(minute_task))
        if of_every_ledger:
            self._once_a_minute("minutely", self._every_ledger)

    def _once_a_minute(self, name: str, job: Callable[[procrastinate.JobContext, int], None]) -> None:
        task = self._app.task(name=name, lock=name, queueing_lock=name, pass_context=True)(job)
        self._app.periodic(cron=_EACH_MINUTE)(task)

    def wake(self, task: str, subject: Subject) -> None:
        """Adds a job that runs the task of a name on a subject now. Raises DatabaseUnavailable."""
        with self._opening, _available(), self._app.open():
            self._defer(self._tasks[task], subject, None)

    def work(self, *, concurrency: int = 2, forever: bool = True, on_stop: Callable[[], None] = lambda: None) -> None:
        """Runs jobs until a stop is requested; if not ``forever``, until no job is due.

        With ``forever``, SIGTERM and SIGINT request the stop; ``on_stop`` is called first.
        """
        with _available():
            asyncio.run(self._work(concurrency, forever, on_stop))

    async def _work(self, concurrency: int, forever: bool, on_stop: Callable[[], None]) -> None:
        self._forever = forever
        async with self._app.open_async():
            await self._end_stalled(0)
            await asyncio.to_thread(self._sweep, 0)
            # A worker that ends when no job is due finishes the jobs that it has begun.
            working = asyncio.create_task(
                self._app.run_worker_async(
                    concurrency=concurrency,
                    wait=forever,
                    delete_jobs="successful",
                    install_signal_handlers=False,
                    shutdown_graceful_timeout=_STOPS_WITHIN_S if forever else _FINISHES_WITHIN_S,
                )
            )

            def stop() -> None:
                on_stop()
                working.cancel()  # the library takes one cancellation as a request to stop

            if forever:
                for number in (signal.SIGTERM, signal.SIGINT):
                    asyncio.get_running_loop().add_signal_handler(number, stop)
            with suppress(asyncio.CancelledError):
                await working

    def _defer(self, task: Task, subject: Subject, at: datetime | None) -> None:
        # There are two queueing locks, so that a job for a later time does not block a job for now.
        lock = task.lock(subject)
        job = self._app.configure_task(
            task.name, lock=lock, queueing_lock=f"{lock}/{'now' if at is None else 'later'}", schedule_at=at
        )
        with suppress(AlreadyEnqueued):
            job.defer(**subject)

    # --- the jobs -------------------------------------------------------------------------------------------------

    def _job_of(self, task: Task) -> Callable[..., None]:
        def job(context: procrastinate.JobContext, **subject: str) -> None:
            again = task.run(subject, context.should_abort)
            if context.should_abort():
                raise JobAborted
            if again is not None:
                self._defer(task, subject, again.at)

        return job

    def _job_each_minute(self, task: MinuteTask) -> Callable[[procrastinate.JobContext, int], None]:
        def job(context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001  # the library's argument
            task.run(context.should_abort)
            if context.should_abort():
                raise JobAborted

        return job

    def _sweep(self, timestamp: int) -> None:  # noqa: ARG002  # the library's argument
        """Wakes every subject that has work now, so that no subject depends on a single job."""
        for ledger in _ledgers(self._database):
            for task in self._tasks.values():
                for subject in task.due(ledger):
                    self._defer(task, subject, None)

    async def _end_stalled(self, timestamp: int) -> None:  # noqa: ARG002  # the library's argument
        """Ends jobs whose worker has died, because they block the other jobs of their subject. The sweep wakes the
        subject.
        """
        for job in await self._app.job_manager.get_stalled_jobs():
            log.warning("a worker has died over a job", job=job.call_string)
            await self._app.job_manager.finish_job(job, status=Status.FAILED, delete_job=True)

    def _every_ledger(self, context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG002  # likewise
        until = math.inf if self._forever else time.monotonic() + _LEDGERS_FOR_S
        for ledger in _ledgers(self._database):
            if context.should_abort() or time.monotonic() > until:
                raise JobAborted
            for run in self._of_every_ledger:
                try:
                    run(self._database, ledger)
                except Exception:  # a fault of one ledger must not stop the others
                    log.exception("not done", ledger=ledger, what=getattr(run, "__name__", repr(run)))


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
