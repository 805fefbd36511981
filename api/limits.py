"""Limits of HTTP requests: sizes that are fixed, and times that are settings.

The table "Limits" of api/README.md lists each of them; tests/http/test_limits.py compares the two.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

MAX_BODY: Final = 1 << 20
"""Bytes of a body, if its route states nothing else."""
MAX_EVENTS_BODY: Final = 32 << 20
MAX_MAPPING_BODY: Final = 4 << 20
MAX_TIE_OUT_BODY: Final = 8 << 20
MAX_BODIES: Final = 64 << 20
"""Bytes of all bodies in a process at once. A body that would exceed them, and is not small, is answered with 503."""

MAX_VALUES: Final = 20_000
"""Values of a JSON body, if its route states no other limit. A short text may contain many values, and nothing else
runs while they are decoded.
"""
MAX_VALUES_OF_ROWS: Final = 500_000
"""Values of a body of events, or of the rows of a trial balance: fifty for each event."""
MAX_JSON_DEPTH: Final = 32
MAX_EVENTS: Final = 10_000
"""Events of one call."""

MAX_URL: Final = 8 << 10
MAX_HEAD: Final = 32 << 10
"""Bytes of a request's line and headers together."""
MAX_HEADERS: Final = 100
MAX_PIPELINED: Final = 16
"""Waiting requests of one connection."""

SMALL_BODY: Final = 16 << 10
"""A larger body is decoded in a thread, one at a time, because it would delay every other call of the event loop. A
body of at most this size is always accepted, however many bytes the others have.
"""
SLOWEST_BYTES_A_SECOND: Final = 256 << 10
"""Bytes per second. A body may exceed its time-out by one second each time so many bytes have arrived."""

UNREAD_ANSWER_S: Final = 60.0
"""Seconds for which an answer may wait until its client reads more of it."""
SLOWEST_ANSWER_BYTES_A_SECOND: Final = 16 << 10
"""Bytes per second. An answer may wait one second longer each time so many bytes were read. So an export of any size
arrives over a line of 128 kbit/s.
"""

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=3_600)]


class HttpLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits that an installation can set: ``SUBLEDGER_HEAD_TIMEOUT_S`` and so on."""

    head_timeout_s: _Seconds = 10.0
    """From the first byte of a connection or request to the end of its headers."""
    body_timeout_s: _Seconds = 30.0
    """From the end of the headers to the end of the body; longer while bytes arrive (SLOWEST_BYTES_A_SECOND)."""
    keep_alive_s: Annotated[int, msgspec.Meta(ge=1, le=3_600)] = 5
    """Seconds for which a connection may stay open without a request."""
    connections: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 512
    """Connections of a process. One more closes the connection that has waited longest for a request. If none waits for
    a request, it closes the one whose answer has waited longest to be read.
    """
