"""Driver of a peer: a program that does its work once for every line that it receives, and answers with the seconds.

So a peer needs none of our code, runs under its own interpreter, and is measured in turn with everything else.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable


def answer(work: Callable[[], Callable[[], object]]) -> None:
    """Prints that it is ready. Then, for each line that it reads, it prepares the work, does it, and prints the seconds
    of the work.
    """
    print("ready", flush=True)
    for _ in sys.stdin:
        do = work()
        started = time.perf_counter()
        do()
        print(time.perf_counter() - started, flush=True)
