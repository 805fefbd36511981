"""Commands: creating a ledger, and changing its settings.

Owns: the two commands. Does not own: which settings are allowed, and which can change (ledger_settings).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from projections.account_mapping.mapping import default_mapping
from projections.configuring.policies import check_policy
from projections.reads.policies import adopted_policy
from subledger.deciding.second_person import may_ask
from subledger.events.envelope import Event
from subledger.ledger import LedgerState
from subledger.ledger_settings import (
    LedgerSettings,
    SettingsChange,
    changed_settings,
    check_same_settings,
    check_settings,
    founding_events,
)
from subledger.own_events import ledger_configured
from subledger.persons import NOBODY, check_requester
from subledger.posting import shipped_policy
from subledger.store.database import Database, WriteConnection
from subledger.store.reading.ledgers import ledger_head
from subledger.store.writing.recorder import Recorder, ledger_now, raise_first


def create_ledger(
    recorder: Recorder, database: Database, ledger: str, settings: LedgerSettings, *, by: str | None = None
) -> bool:
    """Creates a ledger. Returns False if it exists with these settings.

    ``by`` is the person who creates it, and is in each of its founding events. Raises InvalidInput, InvalidPolicy,
    LedgerExists if it exists with other settings.
    """
    check_settings(ledger, settings)
    policy = shipped_policy(settings.policy) if isinstance(settings.policy, str) else settings.policy
    check_policy(policy)
    mapping = default_mapping()

    def founding(at: datetime) -> Sequence[Event]:
        return founding_events(ledger, settings, policy, mapping.rows, mapping.content_hash, at=at, by=by)

    if recorder.create_ledger(ledger, founding):
        return True
    with database.read() as connection:
        state = ledger_head(connection, ledger).state
        adopted = adopted_policy(connection, ledger, state.policy)
    check_same_settings(settings, state, name=adopted.name, version=adopted.version, rules=adopted.rules)
    return False


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a change of settings; a change that waits for a second person has an approval's id."""

    status: Literal["configured", "unchanged", "waiting"]
    approval_id: str | None = None


def configure_ledger(recorder: Recorder, ledger: str, change: SettingsChange, *, by: str = NOBODY) -> Configuration:
    """Changes the settings for events recorded from now on; records nothing if they are in force.

    If the ledger requires a second person, a change of that requirement waits for a second person itself. Raises
    SettingFixed for the currency, the time zone and ``sandbox``, InvalidInput, UnknownLedger, PersonRequired.
    """
    check_requester(by)

    def plan(connection: WriteConnection, state: LedgerState, position: int) -> list[Event]:
        after = changed_settings(state, change)
        if after == state:
            return []
        replaces = state.approvals if may_ask(state) else None
        at = ledger_now(connection, state)
        return [ledger_configured(after, number=position + 1, at=at, by=by, replaces=replaces)]

    outcomes = recorder.transact(ledger, plan, by=by)
    raise_first(outcomes)
    if not outcomes:
        return Configuration(status="unchanged")
    waiting = outcomes[0].approval_id
    return Configuration(status="configured" if waiting is None else "waiting", approval_id=waiting)
