"""Command: the expiry sweep of every ledger, which records expiries as they fall due.

A server runs it in a thread of its own, a worker runs it once a minute. Several may run at once: the due expiries of a
ledger are read under its lock, so each is recorded once. A round needs one query over all ledgers, and does not touch
ledgers without due expiries.

Owns: finding the ledgers with due expiries, and the rounds. Does not own: the sweep of one ledger (expiry_sweep),
the time of an expiry (``blocks.expires_at``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog
from sqlalchemy import Connection, text

from subledger.errors import DatabaseUnavailable, SubledgerError
from subledger.periods import MICROSECOND
from subledger.store.database import Database
from subledger.store.writing.expiry_sweep import sweep
from subledger.store.writing.recorder import Recorder

EVERY_S: Final = 60.0
BATCH: Final = 1_000
"""Maximum number of expiries in one commit. Other writers of the ledger wait for this commit."""

LEDGERS_DUE: Final = """
-- The ledgers with an open block whose expiry is due by the ledger's clock.
SELECT l.ledger FROM ledgers l
WHERE EXISTS (SELECT FROM blocks b
              WHERE b.ledger = l.ledger AND b.is_open AND b.expires_at <= coalesce(l.clock, :now))
ORDER BY l.ledger
"""

log = structlog.get_logger("subledger.sweep")


def ledgers_due(connection: Connection, now: datetime) -> list[str]:
    """Returns the ledgers with a due expiry."""
    return list(connection.execute(text(LEDGERS_DUE), {"now": now}).scalars())


def sweep_due(database: Database, recorder: Recorder, *, stop: Callable[[], bool] = lambda: False) -> dict[str, int]:
    """Records the expiries that are due in every ledger, by its own clock. Returns their number by ledger.

    A fault of one ledger is logged, and does not stop the others; the next round tries again. Raises
    DatabaseUnavailable.
    """
    with database.read() as connection:
        ledgers = ledgers_due(connection, datetime.now(UTC))
    swept: dict[str, int] = {}
    for ledger in ledgers:
        if stop():
            break
        try:
            swept[ledger] = sweep(recorder, ledger, _EVER, batch_size=BATCH, stop=stop)
        except DatabaseUnavailable:
            raise
        except SubledgerError as error:
            log.warning("expiries are due and cannot be recorded", ledger=ledger, code=error.code, detail=error.message)
        except Exception:
            log.exception("expiries are due and were not recorded", ledger=ledger)
    return {ledger: count for ledger, count in swept.items() if count}


# The recorder never sweeps beyond the ledger's now, so this means now.
_EVER: Final = datetime(8999, 12, 31, tzinfo=UTC) - MICROSECOND


class Sweeper:
    """A thread that sweeps at once, and then at intervals, until it is stopped."""

    def __init__(self, database: Database, recorder: Recorder, *, every_s: float = EVERY_S) -> None:
        self._database = database
        self._recorder = recorder
        self._every_s = every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> bool:
        """Stops after the current batch. Returns False if the batch did not end in time."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                swept = sweep_due(self._database, self._recorder, stop=self._stopping.is_set)
                for ledger, count in swept.items():
                    log.info("expiries recorded", ledger=ledger, count=count)
            except Exception as error:  # the next round may succeed
                log.warning("the sweep was not finished", detail=str(error))
            self._stopping.wait(self._every_s)
