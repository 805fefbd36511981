"""Command: upgrading a database to the schema of this version, and its ledgers to the accounting rules of this version.

Owns: the choice of the ledgers and their order. If one ledger fails, the others are still upgraded. Does not own: the
migrations (store/migrate), the rebuild (rebuild), what each version of the rules means (DECISIONS.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from projections.replay.rebuild import rebuild
from projections.replay.workers import no_progress
from subledger.errors import IntegrityFault, SubledgerError
from subledger.events.envelope import Event
from subledger.ledger import ACCOUNTING_RULES, LedgerState
from subledger.own_events import ledger_configured
from subledger.store.database import Database, WriteConnection
from subledger.store.migrate import is_current, migrate
from subledger.store.reading.ledgers import ledger_heads
from subledger.store.timeouts import Timeouts
from subledger.store.writing.recorder import Recorder, ledger_now, raise_first

_ALL: Final = 1_000_000
UPGRADED_BY: Final = "subledger"
"""The name in the event that adopts the rules, because no person chose them."""

Upgrading = Callable[[str, int, int], None]
"""Function that shows progress. Its arguments: the ledger, the number of events read, and the number of all events."""


def is_upgraded(url: str) -> bool:
    """True if a database has this version's schema, and all its ledgers have this version's accounting rules."""
    if not is_current(url):
        return False
    database = Database(url)
    try:
        return not _to_upgrade(database)
    finally:
        database.close()


def upgrade(
    url: str,
    recorder_of: Callable[[Database], Recorder],
    timeouts: Timeouts = Timeouts(),
    progress: Upgrading | None = None,
) -> None:
    """Applies the missing migrations, and upgrades every ledger to this version's accounting rules.

    First the derived rows of a ledger are made again from its log. Decisions under the new rules need them, and earlier
    versions may not have derived all of them. Then an event in the log states from which position on the new rules
    apply. If the command is killed between these steps, the ledger accepts no events until the next upgrade, which
    begins again with this ledger. If a ledger cannot be upgraded, the others still are. At the end IntegrityFault is
    raised, and names each ledger that was not upgraded.
    """
    migrate(url)
    database = Database(url, timeouts=timeouts)
    failed: list[str] = []
    try:
        for ledger in _to_upgrade(database):
            try:
                _upgrade_ledger(database, recorder_of(database), ledger, progress)
            except SubledgerError as error:
                failed.append(f"{ledger}: {error.message}")
    finally:
        database.close()
    if failed:
        raise IntegrityFault(f"the other ledgers are upgraded, but not {'; '.join(failed)}")


def _to_upgrade(database: Database) -> list[str]:
    """The ledgers that have not adopted this version's rules."""
    with database.read() as connection:
        heads = ledger_heads(connection, after="", limit=_ALL)
    return [head.state.ledger for head, _ in heads if head.state.accounting_rules < ACCOUNTING_RULES]


def _upgrade_ledger(database: Database, recorder: Recorder, ledger: str, progress: Upgrading | None) -> None:
    """Rebuilds a ledger and adopts the rules. If events were recorded meanwhile, it rebuilds the ledger again first."""

    def show(done: int, total: int) -> None:
        if progress is not None:
            progress(ledger, done, total)

    while True:
        counts = rebuild(database, ledger, show if progress is not None else no_progress)
        if adopt_accounting_rules(recorder, ledger, rebuilt=counts.position):
            return


def adopt_accounting_rules(recorder: Recorder, ledger: str, *, rebuilt: int) -> bool:
    """Puts this version's accounting rules in force for events recorded from now on, if the log ends at ``rebuilt``.

    Returns False if the log is longer: events were recorded after the rebuild. An earlier version of the program may
    have recorded them, without derived rows that the new rules need. Returns True also if the rules are already in
    force.
    """
    is_as_rebuilt = True

    def plan(connection: WriteConnection, state: LedgerState, position: int) -> Sequence[Event]:
        nonlocal is_as_rebuilt
        if state.accounting_rules >= ACCOUNTING_RULES:
            return []
        is_as_rebuilt = position == rebuilt
        if not is_as_rebuilt:
            return []
        after = msgspec.structs.replace(state, accounting_rules=ACCOUNTING_RULES)
        return [ledger_configured(after, number=position + 1, at=ledger_now(connection, state), by=UPGRADED_BY)]

    raise_first(recorder.transact(ledger, plan))
    return is_as_rebuilt
