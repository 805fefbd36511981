"""Time-outs of all database connections, and the settings that each connection sends for them.

Owns: the limits, and their names in PostgreSQL and libpq. Does not own: their configuration (``api.settings``), and the
handling of an expired one (``database``, ``stuck_writers``).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec

Seconds = Annotated[float, msgspec.Meta(gt=0, le=2_000_000)]

CLIENT_CHECK: Final = "client_connection_check_interval"
"""The only option that some servers refuse: their operating system (for example Windows) cannot report a lost
client.
"""
_PROBES: Final = 3
"""The number of keepalives without an answer that ends a connection."""
_LONGEST_KEEPALIVE_S: Final = 32_767
"""The longest keepalive that Linux accepts (MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL in its net/tcp.h)."""


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of the waits of a connection, in seconds.

    - ``lock_timeout_s``: the longest wait of a statement for a lock. The holder of a ledger's lock writes a batch in
      less than a second. A close or a swap of rebuilt rows takes seconds. After half a minute an error is more useful
      than a longer wait.
    - ``stuck_writer_s``: the longest silence of a writer in its transaction. After it the server ends the transaction.
      The writer gives up after the same silence of the server. It must be longer than the sending of the largest batch:
      120 s are enough for 30 MB at 2.5 Mbit/s.
    - ``idle_reader_s``: the same for a connection without a ledger's lock. Reports, exports and verifications work
      between two fetches of one snapshot, and nobody waits for them; but a forgotten snapshot blocks vacuum. In one
      statement of a close, an export or a single question the server may be silent for the same time: on a large ledger
      such a statement takes minutes.
    - ``link_timeout_s``: the longest time without an acknowledgement before a link counts as lost, because a machine
      was switched off or a firewall dropped the connection. Without it the server would hold a lost writer's lock for
      two hours.
    - ``client_check_s``: the interval at which the server checks, within a statement, that its client is still
      connected. Without it the server would finish the statement of a killed client, and hold its locks until then.
    """

    lock_timeout_s: Seconds = 30.0
    stuck_writer_s: Seconds = 120.0
    idle_reader_s: Seconds = 3_600.0
    link_timeout_s: Seconds = 60.0
    client_check_s: Seconds = 10.0

    def options(self, *, idle_s: float) -> str:
        """Returns the settings that a new connection sends to the server, as command-line options of the server."""
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
        """Returns the limits of a link on the client's side, as parameters of libpq."""
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
    """Returns the same options without the check for a lost client, for a server that refuses it."""
    return re.sub(rf"-c {CLIENT_CHECK}=\S+", "", options)


def _keepalives(timeout_s: float) -> tuple[int, int]:
    """Returns the seconds of silence before the first probe, and between probes: half the time-out each."""
    after, every = timeout_s / 2, timeout_s / 2 / _PROBES
    return min(max(round(after), 1), _LONGEST_KEEPALIVE_S), min(max(round(every), 1), _LONGEST_KEEPALIVE_S)


def _milliseconds(seconds: float) -> int:
    return max(round(seconds * 1000), 1)
