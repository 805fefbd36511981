"""Account mappings to change to: another account for every role, and a department by class of account."""

from __future__ import annotations

from datetime import UTC, datetime

from projections.account_mapping.mapping import AccountMapping
from subledger.accounts import ROLES
from subledger.events.envelope import Event
from subledger.ledger import LedgerState
from subledger.own_events import mapping_adopted
from subledger.store.database import WriteConnection
from subledger.store.writing.recorder import Recorder, raise_first


def another_chart(first: int) -> AccountMapping:
    """Accounts numbered from ``first`` on, in the order of the chart of accounts."""
    return AccountMapping.from_rows(
        {
            "role": role.name,
            "account": str(first + place),
            "name": f"{role.name} of {first}",
            "department": role.account_class.value,
        }
        for place, role in enumerate(ROLES)
    )


def adopt_unchecked(recorder: Recorder, ledger: str, mapping: AccountMapping) -> None:
    """Adopts a mapping as earlier versions did: incomplete ones too, which logs of that time contain."""

    def plan(_connection: WriteConnection, state: LedgerState, _position: int) -> list[Event]:
        at = datetime(2026, 1, 1, tzinfo=UTC)
        return [mapping_adopted(mapping.rows, mapping.content_hash, number=state.mapping + 1, at=at, by=None)]

    raise_first(recorder.transact(ledger, plan))
