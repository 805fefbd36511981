"""The end of a server or worker after a stop signal (SIGTERM, or Ctrl-C), within a given time.

For most of the time the process answers the accepted calls. Then it breaks off the remaining calls, for example a call
whose rest does not arrive, or a batch that waits for a database without an answer. Their senders get no answer and send
the events again. If an event was recorded after all, it is then a duplicate. At the end the process stops without
waiting for anything else.

Owns: the time at which a process ends. Does not own: finishing its work (gathering, jobs), the end of a batch that was
broken off (the database rolls it back, or has committed it).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from types import FrameType
from typing import Annotated, Any, Final

import msgspec
import uvicorn

_OF_ANSWERING: Final = 0.75
"""The part of the time in which calls are answered. The rest is for batches that threads have begun."""


class StoppingTime(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of a process to finish after a stop signal. Many supervisors kill it 30 seconds after the signal."""

    stopping_s: Annotated[float, msgspec.Meta(ge=1, le=3_600)] = 25.0

    @property
    def answering_s(self) -> float:
        return self.stopping_s * _OF_ANSWERING

    @property
    def finishing_s(self) -> float:
        return (self.stopping_s - self.answering_s) / 2


def end_within(time_: StoppingTime) -> None:
    """Ends this process when the time is over, if it has not ended by itself, because threads that hang cannot be
    ended.
    """
    deadline = time.monotonic() + time_.stopping_s

    def end() -> None:
        while (remaining := deadline - time.monotonic()) > 0:
            time.sleep(remaining)
        sys.stderr.write(f"Stopped after {time_.stopping_s:g} s, before everything was finished.\n")
        sys.stderr.flush()
        os._exit(1)

    threading.Thread(target=end, daemon=True, name="end").start()


class Server(uvicorn.Server):
    """uvicorn's server, which ends within a given time after a stop signal."""

    def __init__(self, app: Any, time_: StoppingTime, **config: Any) -> None:
        super().__init__(uvicorn.Config(app, timeout_graceful_shutdown=round(time_.answering_s), **config))
        self._time = time_

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handles a signal. After a second Ctrl-C the server does not wait for answers."""
        if not self.should_exit:
            end_within(self._time)
        super().handle_exit(sig, frame)
