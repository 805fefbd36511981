"""Writers that hold a ledger's lock and do nothing: finding them, and ending their transactions.

A writer's process may stop, or its machine may be lost, in the middle of a batch. Then the server waits for the rest of
the batch with the ledger locked. Between two statements the server ends such a session by itself
(``idle_in_transaction_session_timeout``). Within a statement, usually a COPY, it waits without a limit, because
PostgreSQL has no setting for it. So a caller whose wait for the lock times out ends the session, and a worker does so
once a minute.

A writer is stuck if the server has waited for it for ``Timeouts.stuck_writer_s``, and its COPY does not advance during
another pause. So a batch that advances over a slow link is not ended.

Owns: the functions ``ledger_lock_holders`` and ``end_stuck_writers`` of the database, whose text is in the migrations.
They run as the owner, because the application's role may not see or end another session. Does not own: the limits
(timeouts), the lock (recorder). On a Citus cluster another server has the lock, and nothing is found.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import psycopg
import structlog

from subledger.store.database import Database
from subledger.store.distribution import is_distributed

_PAUSE_S: Final = 5.0
"""The time for which a writer that seems stuck is watched before it is ended."""

FIND_LOCK_HOLDERS: Final = """
-- The sessions that hold the ledger's lock, with the time they have held it and the time the server has waited for
-- them.
SELECT pid, held_s, waiting_s, state, application, client FROM ledger_lock_holders(%(ledger)s)
"""
END_STUCK_WRITERS: Final = """
-- Ends the sessions that hold the ledger's lock and keep the server waiting.
SELECT pid, held_s
FROM end_stuck_writers(%(ledger)s, make_interval(secs => %(after_s)s), make_interval(secs => %(pause_s)s))
"""

log = structlog.get_logger("subledger.store")


class LockHolder(msgspec.Struct, frozen=True, kw_only=True):
    """A session that holds a ledger's lock.

    - ``held_s``: the time since it took the lock.
    - ``waiting_s``: the time for which the server has waited for it; 0 while the server works for it.
    - ``client``: its address; None if it is on the server's own machine.
    """

    pid: int
    held_s: float
    waiting_s: float
    state: str | None
    application: str | None
    client: str | None


def lock_holder(row: Any) -> LockHolder:
    """Returns the holder in a row of ``FIND_LOCK_HOLDERS``."""
    return LockHolder(**dict(zip(LockHolder.__struct_fields__, row, strict=True)))


def end_stuck_writers(database: Database, ledger: str) -> list[int]:
    """Ends the sessions that are stuck with a ledger's lock. Returns their process ids on the server.

    The result is also empty if the database does not allow it. Then the server's administrator must end them. Raises
    DatabaseUnavailable.
    """
    after_s = database.timeouts.stuck_writer_s
    parameters = {"ledger": ledger, "after_s": after_s, "pause_s": min(_PAUSE_S, after_s / 4)}
    with database.write() as connection:
        if is_distributed(connection):
            return []
        try:
            ended = connection.execute(END_STUCK_WRITERS, parameters).fetchall()
        except psycopg.errors.InsufficientPrivilege as error:
            log.warning("a stuck writer cannot be ended", ledger=ledger, detail=str(error))
            connection.rollback()
            return []
    for pid, held_s in ended:
        log.warning("a stuck writer was ended", ledger=ledger, pid=pid, held_s=round(held_s, 1))
    return [pid for pid, _ in ended]
