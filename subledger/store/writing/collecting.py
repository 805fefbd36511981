"""Garbage collection, held off while a batch is recorded.

A batch makes tens of thousands of small values and no cycles; a collection within it would visit every wallet in memory
and free nothing. Values without references are freed at once as always; only cycles wait for the end of the batch.
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
    """Holds off cyclic garbage collection within, in all threads; if it was off before, it stays off."""
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
