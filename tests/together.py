"""Calls from several threads at once, as several callers of one service make them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

Argument = TypeVar("Argument")


def together(work: Callable[[Argument], object], arguments: Iterable[Argument]) -> None:
    """Calls ``work`` once with each argument, each call in a thread of its own. Returns after the last one.

    Raises the first error of a call, after all calls have ended.
    """
    failures: list[BaseException] = []

    def call(argument: Argument) -> None:
        try:
            work(argument)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=call, args=(argument,)) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
