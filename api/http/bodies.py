"""Bodies of requests, read within bounds of size and time.

Owns: the maximum size of a body, the time to read it, the maximum size of all bodies together.
Does not own: permission to send one (routes.guarded checks it first), the bounds of its JSON (bounded_json).
"""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import Callable
from functools import partial
from typing import TypeVar
from weakref import WeakKeyDictionary

import anyio
import anyio.to_thread
from fastapi import Request
from starlette.requests import ClientDisconnect

from api import limits
from api.bounded_json import Bound
from api.limits import HttpLimits
from subledger.errors import InvalidRequest, Overloaded, RequestTimedOut, TooLarge
from subledger.store.writing.collecting import collection_held_off

Given = TypeVar("Given")
Decoded = TypeVar("Decoded")


class Bodies:
    """The bodies in the memory of a process: counts their bytes, and decodes one large body at a time."""

    def __init__(self, times: HttpLimits, *, most: int = limits.MAX_BODIES) -> None:
        self._times = times
        self._most = most
        self._size = 0
        self._turns: WeakKeyDictionary[AbstractEventLoop, anyio.CapacityLimiter] = WeakKeyDictionary()

    async def read(self, request: Request, bound: Bound) -> bytes:
        """Reads a whole body. The caller must release it afterwards (``release``).

        Raises TooLarge: before reading if the declared size is too large, otherwise when the bound is exceeded;
        RequestTimedOut; Overloaded if all bodies together are too large and this one is not small.
        """
        declared = request.headers.get("content-length", "")
        # The digits are counted first, because converting a very long text to an int is slow.
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > bound.most):
            raise _too_large(bound)
        loop = asyncio.get_running_loop()
        began, size, chunks = loop.time(), 0, []
        try:
            async with asyncio.timeout(self._times.body_timeout_s) as patience:
                async for chunk in request.stream():
                    size += len(chunk)
                    self._size += len(chunk)
                    if size > bound.most:
                        raise _too_large(bound)
                    # A small body is always accepted. Otherwise a few large bodies of one writer would shut out
                    # everybody else.
                    if self._size > self._most and size > limits.SMALL_BODY:
                        raise Overloaded("the bodies of all calls together are too large now; send this one again")
                    chunks.append(chunk)
                    patience.reschedule(began + self._times.body_timeout_s + size / limits.SLOWEST_BYTES_A_SECOND)
            return b"".join(chunks) if size <= limits.SMALL_BODY else await self._in_turn(b"".join, chunks)
        except BaseException as error:
            self.release(size)
            if isinstance(error, TimeoutError):
                raise RequestTimedOut(
                    "the body did not arrive in time", expected=f"all of it within {self._times.body_timeout_s:g} s"
                ) from None
            if isinstance(error, ClientDisconnect):
                raise InvalidRequest("the connection was closed before the body was complete") from None
            raise

    @property
    def size(self) -> int:
        """Bytes of the bodies that are not released yet."""
        return self._size

    def release(self, size: int) -> None:
        """Releases a body of this size."""
        self._size -= size

    async def decode(self, text: bytes, decoding: Callable[[bytes], Decoded]) -> Decoded:
        """Decodes a body: a small one immediately, a large one in a thread, one at a time."""
        if len(text) <= limits.SMALL_BODY:
            return decoding(text)
        return await self._in_turn(partial(_undisturbed, decoding), text)

    async def _in_turn(self, do: Callable[[Given], Decoded], given: Given) -> Decoded:
        """Runs a function on a large body in a thread; one body at a time."""
        loop = asyncio.get_running_loop()
        if loop not in self._turns:
            self._turns[loop] = anyio.CapacityLimiter(1)
        return await anyio.to_thread.run_sync(do, given, limiter=self._turns[loop])


def _undisturbed(decoding: Callable[[bytes], Decoded], text: bytes) -> Decoded:
    # JSON values form no cycles: a garbage collection during decoding would visit all objects and free nothing.
    with collection_held_off():
        return decoding(text)


def _too_large(bound: Bound) -> TooLarge:
    return TooLarge(
        f"a body of this call has at most {bound.most} bytes; {bound.advice}",
        field="body",
        expected=f"at most {bound.most} bytes",
    )
