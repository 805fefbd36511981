"""Driver of a peer: a program that does its work once for every line it is sent, and answers with the seconds.

So a peer needs nothing of ours, runs under an interpreter of its own, and is measured in turn with everything else.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def answer(work: Callable[[], Callable[[], object]]) -> None:
    """Says it is ready; then, for each line read, prepares the work, does it, and prints how long the doing took."""
    print("ready", flush=True)
    for _ in sys.stdin:
        do = work()
        started = time.perf_counter()
        do()
        print(time.perf_counter() - started, flush=True)
