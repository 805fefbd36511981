"""Garbage collection: switched off while a batch is recorded.

A batch makes tens of thousands of small values and no cycles. A collection during the batch would visit every wallet in
memory and free nothing. Values without references are still freed at once; only cycles wait for the end of the batch.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_guard = threading.Lock()
_held_off = 0


@contextmanager
def collection_held_off() -> Iterator[None]:
    """Switches cyclic garbage collection off during its context, in all threads. If it was off before, it stays off
    afterwards.
    """
    global _held_off
    with _guard:
        was_on = gc.isenabled()
        if _held_off or was_on:
            _held_off += 1
            gc.disable()
        counted = bool(_held_off)
    try:
        yield
    finally:
        if counted:
            with _guard:
                _held_off -= 1
                if not _held_off:
                    gc.enable()
