"""Group commit: the events that callers send while a batch is being committed are the next batch.

The method is leader and followers. The first caller that finds a ledger free writes all waiting events in one batch.
The others wait for their outcomes. The caller that has waited longest leads next. So a single caller makes a direct
call, each caller leads at most once, and no thread has to be started, watched or ended. A task of an event loop must
not block its loop, so a thread of a small pool leads for it.

Owns: the order of writing, and the waiting requests. Does not own: recording a batch (recorder), the limits of the
queue (queue).
"""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from subledger.errors import NotFound, Overloaded, Stopping, SubledgerError, Unavailable
from subledger.events.envelope import Event
from subledger.persons import NOBODY
from subledger.store.writing.batch import Input, Outcome, Sent
from subledger.store.writing.queue import LedgerQueue, Limits, Request, TaskRequest, ThreadRequest, check_room
from subledger.store.writing.recorder import Recorder


class Watch(Protocol):
    """Observer of commits and refusals (metrics)."""

    def committed(self, *, callers: int, events: int, seconds: float) -> None:
        """A batch was committed, for so many callers."""

    def refused(self, code: str) -> None:
        """A request was refused before it was recorded. ``code`` is the code of its error."""


class Gatherer:
    """Records the events of many callers in common batches. Each ledger has its own batches.

    The events of a caller stay together and in order, and it gets the outcomes of its own events. It can be shared
    between threads and event loops. Several processes may each have one: the ledger's lock decides between them.
    """

    def __init__(self, recorder: Recorder, limits: Limits | None = None, watch: Watch | None = None) -> None:
        self.limits = limits or Limits()
        self._recorder = recorder
        self._watch = watch
        self._queues: dict[str, LedgerQueue] = {}
        # All queues share one lock, because the limits apply to all of them together. Every caller of every ledger
        # needs it, so it is held only for moments, never during a commit.
        self._guard = threading.Lock()
        self._empty = threading.Condition(self._guard)
        self._events = self._bytes = 0
        self._stopping = False
        self._writers = ThreadPoolExecutor(self.limits.writers, thread_name_prefix="writer")

    # --- interface for callers ----------------------------------------------------------------------------

    def record(self, ledger: str, inputs: Sequence[Input], *, by: str = NOBODY) -> list[Outcome]:
        """Records events together with those of other callers. Returns one outcome for each input, in order, once
        durable.

        Raises LedgerBusy, Overloaded or Stopping if nothing was recorded; UnknownLedger and DatabaseUnavailable as the
        recorder does.
        """
        if not inputs:
            return []
        request = ThreadRequest(inputs, by)
        queue = self._join(ledger, request)
        try:
            while not request.answered:
                if request.leads:
                    self._lead(queue)
                elif not request.wait(self.limits.waiting_s if not request.taken else None):
                    self._give_up(queue, request)
        except BaseException:
            self._leave(queue, request)
            raise
        return request.result()

    async def hand_in(self, ledger: str, inputs: Sequence[Input], *, by: str = NOBODY) -> list[Outcome]:
        """Records as ``record`` does, for a task of an event loop. A cancelled task withdraws its waiting request."""
        if not inputs:
            return []
        request = TaskRequest(inputs, by, asyncio.get_running_loop())
        queue = self._join(ledger, request)
        alarm = request.loop.call_later(self.limits.waiting_s, self._give_up, queue, request)
        try:
            await request.future
        except BaseException:
            self._leave(queue, request)
            raise
        finally:
            alarm.cancel()
        return request.result()

    @property
    def depth(self) -> int:
        """The number of sent events that are not answered yet."""
        return self._events

    def stop(self, timeout_s: float | None = None) -> bool:
        """Accepts no more requests, and waits for the accepted ones. Returns False after ``timeout_s``."""
        with self._guard:
            self._stopping = True
            for queue in self._queues.values():
                queue.enough.set()
            done = self._empty.wait_for(lambda: not self._events, timeout_s)
        if done:
            self._writers.shutdown(wait=False)
        return done

    # --- joining and leaving a queue ----------------------------------------------------------------------

    def _join(self, ledger: str, request: Request) -> LedgerQueue:
        """Puts a request into its ledger's queue, as the leader if the ledger is free."""
        try:
            with self._guard:
                if self._stopping:
                    raise Stopping("the service is stopping", expected="the same call, to another server or later")
                queue = self._queues.get(ledger)
                if queue is None:
                    queue = self._queues[ledger] = LedgerQueue(ledger)
                check_room(self.limits, queue, request, self._events, self._bytes)
                queue.add(request)
                self._events += request.events
                self._bytes += request.bytes
                if not queue.led:
                    queue.led = True
                    self._appoint(queue, request)
        except Unavailable as refused:
            if self._watch is not None:
                self._watch.refused(refused.code)
            raise
        return queue

    def _give_up(self, queue: LedgerQueue, request: Request) -> None:
        """Refuses a request that has waited too long.

        When its batch is being written, it must continue to wait. Only the commit decides if its events are recorded.
        An error now would make the caller believe that they are not.
        """
        with self._guard:
            if request.answered or request.taken or request.leads:
                return
            self._withdraw(queue, request)
        if self._watch is not None:
            self._watch.refused(Overloaded.code)
        request.fail(
            Overloaded(
                f"waited {self.limits.waiting_s:g} s for ledger {queue.ledger}",
                expected="the same call, later",
                retry_after_s=queue.retry_after_s(self.limits),
            )
        )
        request.wake()

    def _leave(self, queue: LedgerQueue, request: Request) -> None:
        """Withdraws the waiting request of a caller that has gone. If it was the leader, another request leads."""
        with self._guard:
            if not request.taken and not request.answered:
                self._withdraw(queue, request)
                if request.leads:
                    self._pass_on(queue)

    def _withdraw(self, queue: LedgerQueue, request: Request) -> None:
        queue.waiting.remove(request)
        request.answered = True
        self._release(queue, [request])

    def _release(self, queue: LedgerQueue, answered: Sequence[Request]) -> None:
        for request in answered:
            queue.release(request)
            self._events -= request.events
            self._bytes -= request.bytes
        if not self._events:
            self._empty.notify_all()

    # --- leading ------------------------------------------------------------------------------------------

    def _appoint(self, queue: LedgerQueue, request: Request) -> None:
        """Makes a request's caller the leader. The caller of this method has the guard."""
        request.leads = True
        if isinstance(request, ThreadRequest):
            request.wake()
            return
        try:
            self._writers.submit(self._lead_for_tasks, queue)
        except RuntimeError as error:  # the interpreter is ending, so no thread can be started
            for other in queue.waiting:
                other.fail(Stopping(f"no batch can be written any more: {error}"))
                other.wake()
            self._release(queue, list(queue.waiting))
            queue.waiting.clear()
            queue.led = False

    def _pass_on(self, queue: LedgerQueue) -> None:
        """Appoints the request that has waited longest, if there is one. The caller of this method has the guard."""
        if queue.waiting:
            self._appoint(queue, queue.waiting[0])
            return
        queue.led = False
        if not queue.known:
            self._queues.pop(queue.ledger, None)

    def _lead_for_tasks(self, queue: LedgerQueue) -> None:
        with self._guard:
            # The appointed task may have been cancelled since. Then another request leads, or none waits.
            head = queue.waiting[0] if queue.waiting else None
            if not isinstance(head, TaskRequest) or not head.leads:
                return
            head.leads = False  # from here on this thread leads, even if the task is cancelled
        self._lead(queue)

    def _lead(self, queue: LedgerQueue) -> None:
        """Writes one batch, answers its callers, and appoints the next leader."""
        batch: list[Request] = []
        try:
            queue.gather(self._guard, self.limits)
            with self._guard:
                batch = queue.take(self.limits.batch_events)
            if batch:
                self._write_and_measure(queue, batch)
        finally:
            try:
                self._settle(queue, batch)
            finally:
                with self._guard:
                    self._pass_on(queue)

    def _settle(self, queue: LedgerQueue, batch: Sequence[Request]) -> None:
        """Answers a batch, even if its leader was interrupted (Ctrl-C in the leader's thread).

        After an interrupt the batch was either rolled back, or recorded. In the second case a second attempt finds
        duplicates. So its followers can wait for the next leader. They must not hang or fail because of another
        caller's interrupt.
        """
        with self._guard:
            if batch and not batch[0].answered:
                batch[0].fail(Stopping("the writing was interrupted", expected="the same call, once more"))
            answered = [request for request in batch if request.answered]
            for request in reversed(batch):
                if not request.answered:
                    request.taken = False
                    queue.waiting.appendleft(request)
            self._release(queue, answered)
            queue.expected = len(answered) + len(queue.waiting)
        self._answer(answered)

    def _write_and_measure(self, queue: LedgerQueue, batch: Sequence[Request]) -> None:
        started = time.perf_counter()
        self._write(queue, batch)
        seconds = time.perf_counter() - started
        queue.committed(batch, seconds)
        if self._watch is not None and any(request.error is None for request in batch):
            self._watch.committed(callers=len(batch), events=sum(r.events for r in batch), seconds=seconds)

    def _write(self, queue: LedgerQueue, batch: Sequence[Request]) -> None:
        inputs = [
            Sent(item, request.by) if isinstance(item, Event) else item for request in batch for item in request.inputs
        ]
        try:
            outcomes = self._recorder.record(queue.ledger, inputs)
        except (Unavailable, NotFound) as error:
            for request in batch:
                request.fail(_own(error))
        except Exception as error:
            if len(batch) == 1:
                batch[0].fail(error)
                return
            # The error is unexpected, and an event of the batch caused it. Only the caller of that event should get it.
            for request in batch:
                self._write(queue, [request])
        else:
            queue.known = True
            start = 0
            for request in batch:
                request.succeed(outcomes[start : start + len(request.inputs)])
                start += len(request.inputs)

    @staticmethod
    def _answer(batch: Sequence[Request]) -> None:
        tasks: dict[asyncio.AbstractEventLoop, list[TaskRequest]] = {}
        for request in batch:
            if isinstance(request, TaskRequest):
                tasks.setdefault(request.loop, []).append(request)
            else:
                request.wake()
        for loop, requests in tasks.items():
            TaskRequest.wake_all(loop, requests)


def _own(error: SubledgerError) -> SubledgerError:
    """Returns a copy of an error for one of several callers, because raising an error writes its traceback into it."""
    copied = copy.copy(error)
    copied.__cause__ = error
    return copied
