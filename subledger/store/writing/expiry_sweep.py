"""Command: the expiry sweep of one ledger, which records the expiry of each block whose time has passed.

A sweep can be repeated and can run twice at once, because due blocks are read under the ledger's lock, where each is
due once.

Owns: the query of due blocks, the events of their expiries, the batches of a sweep. Does not own: the entries of an
expiry (deciding/expiry), the sweep of every ledger and its interval (projections/close/expiry_sweeper), the number of
due expiries in an answer (reading/views).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from subledger.events.envelope import OWN_SOURCE, Event, own_event
from subledger.ledger import LedgerState
from subledger.store.database import WriteConnection
from subledger.store.writing.batch import RECORDED
from subledger.store.writing.recorder import Recorder, ledger_now, raise_first

DUE_BLOCKS: Final = """
-- Open blocks whose expiry has come, soonest first.
SELECT block_id, customer, expires_at FROM blocks
WHERE ledger = %s AND is_open AND expires_at <= %s ORDER BY expires_at, block_id LIMIT %s
"""


def sweep(
    recorder: Recorder,
    ledger: str,
    until: datetime,
    *,
    batch_size: int = 2_000,
    stop: Callable[[], bool] = lambda: False,
    by: str | None = None,
) -> int:
    """Records the expiry of every block that expired by ``until`` and by now. Returns their number.

    Expiry is exclusive, so a block that expires when a day ends could be used through that day, and is swept with it.

    ``stop`` is called before each batch; True leaves the rest for later. ``by`` is the person who requested the sweep,
    if any: it is in the events.
    """
    swept = 0
    while not stop():
        outcomes = recorder.transact(
            ledger,
            lambda connection, state, position: expiries_to_record(
                connection, state, position, until, batch_size, by=by
            ),
        )
        swept += sum(outcome.status == RECORDED for outcome in outcomes)
        raise_first(outcomes)
        if len(outcomes) < batch_size:
            break
    return swept


def expiries_to_record(
    connection: WriteConnection,
    state: LedgerState,
    position: int,
    until: datetime,
    limit: int,
    *,
    by: str | None = None,
) -> list[Event]:
    """Returns the events of blocks that expired by ``until``, and by the ledger's now, earliest first.

    Under the lock a block is due once. The id of an event contains the ledger's position, because a block whose expiry
    is changed afterwards can expire a second time.
    """
    until = min(until, ledger_now(connection, state))
    return [
        own_event(
            source=OWN_SOURCE,
            event_id=f"expiry/{block_id}/{position}",
            type="credits.expired",
            customer=customer,
            occurred_at=expires_at,
            data={"block_id": block_id} if by is None else {"block_id": block_id, "by": by},
        )
        for block_id, customer, expires_at in connection.execute(DUE_BLOCKS, (state.ledger, until, limit))
    ]
