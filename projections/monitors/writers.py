"""Monitor: a writer that holds the ledger's lock without progress.

Owns: this monitor. Does not own: ending such a writer (``subledger.store.writing.stuck_writers``). Writers that wait
for the lock end it, and a worker does so once a minute.
"""

from __future__ import annotations

import msgspec

from projections.monitors.monitor import SHOWN, Monitor, MonitorContext
from subledger.store.database import driver
from subledger.store.distribution import is_distributed
from subledger.store.writing.stuck_writers import FIND_LOCK_HOLDERS, lock_holder


def stuck_writer(context: MonitorContext) -> Monitor:
    """The time for which the database has waited for the holder of the lock. It waits only for moments if the writer
    works.

    Nothing is measured if ledgers are spread over servers, because the lock is then on another server.
    """
    threshold = context.settings.stuck_writer_s
    measured = not is_distributed(driver(context.connection))
    holders = [lock_holder(row) for row in context.rows(FIND_LOCK_HOLDERS)] if measured else []
    # In whole seconds, because shorter waits are normal.
    longest_s = int(max((holder.waiting_s for holder in holders), default=0.0))
    return Monitor(
        name="stuck_writer",
        question="Is the holder of the ledger's lock making progress?",
        value=longest_s if measured else None,
        unit="s",
        threshold=threshold,
        rings=threshold is not None and longest_s > threshold,
        evidence={
            "measured": measured,
            "ended_after_s": context.view.database.timeouts.stuck_writer_s,
            "holders": [msgspec.to_builtins(holder) for holder in holders[:SHOWN]],
        },
        next="subledger worker" if longest_s else None,
    )
