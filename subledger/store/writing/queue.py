"""The queue of one ledger: waiting requests, limited in events and bytes, and their callers.

Owns: admission, the order of waiting, waking callers. Does not own: the choice of the caller that writes (gathering).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Annotated

import msgspec

from subledger.errors import LedgerBusy, Overloaded
from subledger.events.envelope import Event
from subledger.store.writing.batch import Input, Outcome

Positive = Annotated[int, msgspec.Meta(ge=1)]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a batch and of waiting requests.

    A request waits until it is answered. If no other request waits, a request of any size is accepted. ``waiting_s``:
    the longest wait of a request for the beginning of its batch. ``gathering_s``: the longest wait of a leader for new
    requests of the last batch's callers. ``writers``: the number of threads that lead for tasks.
    """

    batch_events: Positive = 1_000
    queue_events: Positive = 20_000
    queue_bytes: Positive = 64 * 1024 * 1024
    all_events: Positive = 100_000
    all_bytes: Positive = 256 * 1024 * 1024
    waiting_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0
    gathering_s: Annotated[float, msgspec.Meta(ge=0)] = 0.002
    writers: Positive = 8


class Request(ABC):
    """The events of one call, and their outcomes."""

    __slots__ = ("answered", "by", "bytes", "error", "events", "inputs", "leads", "outcomes", "taken")

    def __init__(self, inputs: Sequence[Input], by: str) -> None:
        self.inputs, self.by = inputs, by
        self.events = len(inputs)
        self.bytes = sum(_size(item) for item in inputs)
        self.leads = self.taken = self.answered = False
        self.outcomes: list[Outcome] = []
        self.error: Exception | None = None

    def succeed(self, outcomes: list[Outcome]) -> None:
        self.outcomes = outcomes
        self.answered = True

    def fail(self, error: Exception) -> None:
        self.error = error
        self.answered = True

    def result(self) -> list[Outcome]:
        if self.error is not None:
            raise self.error
        return self.outcomes

    @abstractmethod
    def wake(self) -> None:
        """Wakes the caller."""


class ThreadRequest(Request):
    """A request of a caller that blocks its thread; its thread may lead."""

    __slots__ = ("_bell",)

    def __init__(self, inputs: Sequence[Input], by: str) -> None:
        super().__init__(inputs, by)
        # The lock is used as a bell: ``wait`` acquires it, and ``wake`` releases it from another thread. A semaphore
        # does the same but costs several times as much in every call.
        self._bell = threading.Lock()
        self._bell.acquire()

    def wait(self, timeout_s: float | None) -> bool:
        """Waits until another thread wakes this one, for any reason. Returns False if none did in time."""
        return self._bell.acquire(timeout=-1 if timeout_s is None else timeout_s)

    def wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the lock is free: the caller is already awake
            self._bell.release()


class TaskRequest(Request):
    """A request of a task that must not block its event loop."""

    __slots__ = ("future", "loop")

    def __init__(self, inputs: Sequence[Input], by: str, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(inputs, by)
        self.loop = loop
        self.future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> None:
        self.wake_all(self.loop, [self])

    @staticmethod
    def wake_all(loop: asyncio.AbstractEventLoop, requests: Sequence[TaskRequest]) -> None:
        """Wakes all tasks of a loop by one call into the loop. Each such call costs a system call and a switch of
        threads.
        """
        try:
            loop.call_soon_threadsafe(_resolve, requests)
        except RuntimeError:  # the loop is closed, and its tasks with it
            return


def _resolve(requests: Sequence[TaskRequest]) -> None:
    for request in requests:
        if not request.future.done():
            request.future.set_result(None)


class LedgerQueue:
    """The waiting requests of one ledger. Every method except ``gather`` is called with the gatherer's guard held."""

    __slots__ = (
        "bytes",
        "enough",
        "events",
        "expected",
        "known",
        "last_s",
        "led",
        "ledger",
        "seconds_an_event",
        "waiting",
        "wanted",
    )

    def __init__(self, ledger: str) -> None:
        self.ledger = ledger
        self.waiting: deque[Request] = deque()
        self.events = self.bytes = 0
        self.led = self.known = False
        self.expected = self.wanted = 0
        self.enough = threading.Event()
        self.last_s = self.seconds_an_event = 0.0

    def add(self, request: Request) -> None:
        self.waiting.append(request)
        self.events += request.events
        self.bytes += request.bytes
        if self.wanted and len(self.waiting) >= self.wanted:
            self.enough.set()

    def release(self, request: Request) -> None:
        self.events -= request.events
        self.bytes -= request.bytes

    def gather(self, guard: threading.Lock, limits: Limits) -> None:
        """Waits for the callers of the last batch to send again, if there were several.

        They send one by one. Without this wait, the first one would write a batch of one event, and the others the next
        batch. The wait is at most half the time of the last commit, because it can save at most one commit.
        """
        with guard:
            if len(self.waiting) >= self.expected or self.events >= limits.batch_events or self.expected < 2:
                return
            self.wanted = self.expected
            self.enough.clear()
        self.enough.wait(min(limits.gathering_s, self.last_s / 2))
        with guard:
            self.wanted = 0

    def take(self, most: int) -> list[Request]:
        """Returns the next batch: whole requests in order, at most ``most`` events unless the first request alone has
        more.
        """
        batch: list[Request] = []
        events = 0
        while self.waiting and (not batch or events + self.waiting[0].events <= most):
            request = self.waiting.popleft()
            request.taken = True
            events += request.events
            batch.append(request)
        return batch

    def committed(self, batch: Sequence[Request], seconds: float) -> None:
        self.last_s = seconds
        self.seconds_an_event = seconds / sum(request.events for request in batch)

    def retry_after_s(self, limits: Limits) -> int:
        """Returns the time until about half of the waiting events are recorded, in whole seconds."""
        return min(max(1, math.ceil(self.events * self.seconds_an_event / 2)), math.ceil(limits.waiting_s))


def check_room(limits: Limits, queue: LedgerQueue, request: Request, all_events: int, all_bytes: int) -> None:
    """Raises LedgerBusy if the ledger's queue has no room for a request, Overloaded if all queues have none."""
    full = queue.events + request.events > limits.queue_events or queue.bytes + request.bytes > limits.queue_bytes
    if queue.events and full:
        raise LedgerBusy(
            f"{queue.events} events wait for ledger {queue.ledger}",
            expected="the same call, later",
            found=f"{request.events} more",
            retry_after_s=queue.retry_after_s(limits),
        )
    if all_events and (all_events + request.events > limits.all_events or all_bytes + request.bytes > limits.all_bytes):
        raise Overloaded(
            f"{all_events} events wait",
            expected="the same call, later",
            found=f"{request.events} more",
            retry_after_s=queue.retry_after_s(limits),
        )


def _size(item: Input) -> int:
    return len(item.data_text) + len(item.attributes_text or "") if isinstance(item, Event) else 0
