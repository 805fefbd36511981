"""Garbage collection, held off while a batch is on its way.

A batch makes tens of thousands of small values and no cycles; each collection in its midst looks at every wallet in
memory and finds nothing. What refers to nothing any more is freed at once as ever; cycles wait for the batch's end.
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
    """No cyclic garbage collection inside, in any thread; where it was off already, it stays off."""
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
