"""Waiting for progress in tests: until something is so, and never against a deadline that a slow machine could miss."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

Found = TypeVar("Found")

HANGS_S: Final = 900.0
"""Seconds after which a test is taken to hang for good. It only ends the test run: nothing is measured by it."""
_PAUSE_S: Final = 0.005


def until(look: Callable[[], Found | None], awaited: str = "what is to come") -> Found:
    """Calls ``look`` until it returns something true, and returns it. Fails, naming what is awaited, after HANGS_S."""
    began = time.monotonic()
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() - began < HANGS_S, f"the test waits in vain: {awaited}"
        time.sleep(_PAUSE_S)
