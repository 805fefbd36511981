"""Command: upgrading a database to this version: its schema, and its ledgers to this version's accounting rules.

Owns: which ledgers are upgraded, and in which order. Does not own: the migrations (store/migrate), the rebuild
(rebuild), what each version of the rules means (DECISIONS.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from projections.replay.rebuild import rebuild
from subledger.events.envelope import Event
from subledger.ledger import ACCOUNTING_RULES, LedgerState
from subledger.own_events import ledger_configured
from subledger.store.database import Database, WriteConnection
from subledger.store.migrate import migrate
from subledger.store.reading.ledgers import ledger_heads
from subledger.store.timeouts import Timeouts
from subledger.store.writing.recorder import Recorder, ledger_now, raise_first

_ALL: Final = 1_000_000
UPGRADED_BY: Final = "subledger"
"""The name in the event that adopts the rules: no person chose them."""


def upgrade(url: str, recorder_of: Callable[[Database], Recorder], timeouts: Timeouts = Timeouts()) -> None:
    """Applies the missing migrations, and upgrades every ledger to this version's accounting rules.

    A ledger's derived rows are made anew from its log first, as decisions by the new rules read what earlier versions
    did not derive. Then an event says in its log from which position on the rules hold. If it is killed in between, the
    ledger takes no events, and the next upgrade begins with it again.
    """
    migrate(url)
    database = Database(url, timeouts=timeouts)
    try:
        with database.read() as connection:
            states = [head.state for head, _ in ledger_heads(connection, after="", limit=_ALL)]
        for state in states:
            if state.accounting_rules < ACCOUNTING_RULES:
                rebuild(database, state.ledger)
                adopt_accounting_rules(recorder_of(database), state.ledger)
    finally:
        database.close()


def adopt_accounting_rules(recorder: Recorder, ledger: str) -> bool:
    """Puts this version's accounting rules in force for events recorded from now on. Returns False if they are."""

    def plan(connection: WriteConnection, state: LedgerState, position: int) -> Sequence[Event]:
        if state.accounting_rules >= ACCOUNTING_RULES:
            return []
        after = msgspec.structs.replace(state, accounting_rules=ACCOUNTING_RULES)
        return [ledger_configured(after, number=position + 1, at=ledger_now(connection, state), by=UPGRADED_BY)]

    outcomes = recorder.transact(ledger, plan)
    raise_first(outcomes)
    return bool(outcomes)
