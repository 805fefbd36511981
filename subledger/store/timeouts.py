"""Time-outs of all that uses the database, and the settings that each connection sends for them.

Owns: these limits, and how PostgreSQL and libpq call them. Does not own: where they are set (``api.settings``), nor
what is done when one is over (``database``, ``stuck_writers``).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec

Seconds = Annotated[float, msgspec.Meta(gt=0, le=2_000_000)]

CLIENT_CHECK: Final = "client_connection_check_interval"
"""The one option that some servers refuse, as their operating system does not tell them: Windows, for one."""
_PROBES: Final = 3
"""So many keepalives without an answer end a connection."""
_LONGEST_KEEPALIVE_S: Final = 32_767
"""Linux refuses a socket with a longer one (MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL in its net/tcp.h)."""


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the waits of a connection, in seconds.

    ``lock_timeout_s``: how long a statement waits for a lock. Somebody who holds a ledger's lock is writing a batch, or
    closes a month or swaps rows that were rebuilt; the first takes less than a second and the others seconds, so who
    waits half a minute learns more from being told than from waiting.
    ``stuck_writer_s``: a writer who lets the server wait so long for the rest of what it does is stuck, and its
    transaction is ended; and it gives up itself when the server has neither said nor taken anything for so long. It
    must be longer than the largest batch takes to send: 120 s do for 30 MB at 2.5 Mbit/s.
    ``idle_reader_s``: the same for whoever holds no ledger's lock. Reports, exports and verifications work between two
    fetches of one snapshot, and nobody waits for them; but a forgotten snapshot keeps the server from tidying up. So
    long a server may also be silent in one statement of a close, an export or a single question: one of a large
    ledger works for minutes.
    ``link_timeout_s``: a link on which nothing is acknowledged for so long is lost: a machine was switched off, or a
    firewall has forgotten the connection. Without that, the server would hold the lock of a lost writer for two hours.
    ``client_check_s``: so often the server looks, in the midst of a statement, whether its client is still there; else
    it would finish the statement of a client that was killed, and hold its locks until then.
    """

    lock_timeout_s: Seconds = 30.0
    stuck_writer_s: Seconds = 120.0
    idle_reader_s: Seconds = 3_600.0
    link_timeout_s: Seconds = 60.0
    client_check_s: Seconds = 10.0

    def options(self, *, idle_s: float) -> str:
        """Options that a new connection sends to the server, in the form of command-line options."""
        after, every = _keepalives(self.link_timeout_s)
        settings = {
            "lock_timeout": _milliseconds(self.lock_timeout_s),
            "idle_in_transaction_session_timeout": _milliseconds(idle_s),
            "tcp_keepalives_idle": after,
            "tcp_keepalives_interval": every,
            "tcp_keepalives_count": _PROBES,
            "tcp_user_timeout": _milliseconds(self.link_timeout_s),
            CLIENT_CHECK: _milliseconds(self.client_check_s),
        }
        return " ".join(f"-c {name}={value}" for name, value in settings.items())

    @property
    def of_link(self) -> dict[str, Any]:
        """The same limits of a link on our side of it, as libpq's parameters."""
        after, every = _keepalives(self.link_timeout_s)
        return {
            "application_name": "subledger",
            "connect_timeout": 10,
            "keepalives": 1,
            "keepalives_idle": after,
            "keepalives_interval": every,
            "keepalives_count": _PROBES,
            "tcp_user_timeout": _milliseconds(self.link_timeout_s),
        }


def without_client_check(options: str) -> str:
    """The same options for a server that refuses to look whether its client is still there."""
    return re.sub(rf"-c {CLIENT_CHECK}=\S+", "", options)


def _keepalives(timeout_s: float) -> tuple[int, int]:
    """After how many seconds of silence the other side is probed, and how often then: half the time for each."""
    after, every = timeout_s / 2, timeout_s / 2 / _PROBES
    return min(max(round(after), 1), _LONGEST_KEEPALIVE_S), min(max(round(every), 1), _LONGEST_KEEPALIVE_S)


def _milliseconds(seconds: float) -> int:
    return max(round(seconds * 1000), 1)
