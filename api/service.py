"""The service: database, recorder, projections and settings put together, once, for every way in.

Owns: what a command does from end to end. Does not own: how it is asked (HTTP, command line) or answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec

from projections.journals.mapping import Mapping, default_mapping
from projections.trial_balance import DayTotalsProjector
from subledger.errors import InvalidInput, InvalidValue, LedgerExists
from subledger.event_data import Approvals
from subledger.events import Event, own_event, read_event
from subledger.money import exponent
from subledger.periods import time_zone
from subledger.posting import DEFAULT_POLICY, Policy, shipped_policy
from subledger.store import reader
from subledger.store.database import Database
from subledger.store.recorder import NOBODY, OWN_SOURCE, Input, Outcome, Recorder


class LedgerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a ledger is created with."""

    currency: str
    policy: str = DEFAULT_POLICY
    entity: str | None = None
    timezone: str = "UTC"
    on_shortfall: str = "reject"
    late_usage: str = "new"
    approvals: Approvals = Approvals()


class Subledger:
    """Every command and question, on one database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.recorder = Recorder(database, [DayTotalsProjector()])

    # --- ledgers and events ---------------------------------------------------------------------------------

    def create_ledger(self, ledger: str, settings: LedgerSettings) -> bool:
        """A new ledger. False where it exists with these very settings; LedgerExists where with others."""
        check_settings(ledger, settings)
        policy = shipped_policy(settings.policy)
        mapping = default_mapping()

        def founding(at: datetime) -> Sequence[Event]:
            return founding_events(ledger, settings, policy, mapping, at)

        if self.recorder.create_ledger(ledger, founding):
            return True
        self._same_or_refuse(ledger, settings)
        return False

    def _same_or_refuse(self, ledger: str, settings: LedgerSettings) -> None:
        with self.database.read() as connection:
            state = reader.ledger_head(connection, ledger).state
            policy = reader.policy_name(connection, ledger, state.policy)
        found = LedgerSettings(
            currency=state.functional_currency,
            policy=policy,
            entity=state.entity,
            timezone=state.timezone,
            on_shortfall=state.on_shortfall,
            late_usage=state.late_usage,
            approvals=state.approvals,
        )
        wanted = msgspec.structs.replace(settings, entity=settings.entity or ledger)
        differs = [name for name in wanted.__struct_fields__ if getattr(wanted, name) != getattr(found, name)]
        if differs:
            raise LedgerExists(
                f"ledger {ledger} exists with another {', '.join(differs)}",
                field=differs[0],
                expected=str(getattr(found, differs[0])),
                found=str(getattr(wanted, differs[0])),
                differs=differs,
            )

    def record(self, ledger: str, documents: Sequence[object], *, by: str = NOBODY) -> list[Outcome]:
        """Records decoded JSON values as events; one outcome each, in order. ``by`` is who asks."""
        return self.recorder.record(ledger, [read_input(document) for document in documents], by=by)

    def expire(self, ledger: str, through: date) -> int:
        """The expiry sweep through the end of a day, where the ledger lives. Returns how many blocks expired."""
        with self.database.read() as connection:
            zone = reader.ledger_head(connection, ledger).state.zone
        following = through + timedelta(days=1)
        until = datetime(following.year, following.month, following.day, tzinfo=zone)
        return self.recorder.sweep(ledger, until)

    def view(
        self, ledger: str, *, as_of: date | None = None, known_at: datetime | None = None
    ) -> AbstractContextManager[reader.View]:
        """A point in time of a ledger; see ``store.reader.view``."""
        return reader.view(self.database, ledger, now=datetime.now(UTC), as_of=as_of, known_at=known_at)


def read_input(document: object) -> Input:
    """An event, or the reason why the document is none, with the id it gave itself."""
    try:
        return read_event(document)
    except InvalidInput as error:
        event_id = document.get("id") if isinstance(document, dict) else None
        error.facts = {**error.facts, "event_id": event_id if isinstance(event_id, str) else None}
        return error


def check_settings(ledger: str, settings: LedgerSettings) -> None:
    """Raises InvalidInput naming the first setting that is not allowed."""
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    if not (1 <= len(ledger) <= 64 and set(ledger) <= allowed and ledger[0].isalnum()):
        raise InvalidValue(
            "a ledger id is 1 to 64 letters, digits, dots, dashes and underscores, and starts with a letter or digit",
            field="ledger",
            expected="such as acme-us",
            found=ledger[:80],
        )
    exponent(settings.currency)
    time_zone(settings.timezone)
    if settings.on_shortfall not in ("reject", "overage", "backfill"):
        raise InvalidValue(
            "no such shortfall setting",
            field="on_shortfall",
            expected="reject, overage or backfill",
            found=settings.on_shortfall,
        )
    if settings.late_usage not in ("new", "reclassify"):
        raise InvalidValue(
            "no such late-usage setting", field="late_usage", expected="new or reclassify", found=settings.late_usage
        )


def founding_events(
    ledger: str, settings: LedgerSettings, policy: Policy, mapping: Mapping, at: datetime
) -> list[Event]:
    """The events that make a ledger what it is: its settings, its posting policy, its account mapping."""

    def event(type: str, data: dict[str, Any]) -> Event:
        return own_event(source=OWN_SOURCE, event_id=f"{type}/1", type=type, customer=None, occurred_at=at, data=data)

    return [
        event(
            "ledger.configured",
            {
                "entity": settings.entity or ledger,
                "functional_currency": settings.currency,
                "timezone": settings.timezone,
                "on_shortfall": settings.on_shortfall,
                "late_usage": settings.late_usage,
                **({"approvals": settings.approvals.document} if settings.approvals != Approvals() else {}),
            },
        ),
        event(
            "policy.adopted",
            {
                "policy": 1,
                "name": policy.name,
                "version": policy.version,
                "content_hash": policy.content_hash,
                "rules": policy.rules_document,
            },
        ),
        event("mapping.adopted", {"mapping": 1, "content_hash": mapping.content_hash, "rows": list(mapping.rows)}),
    ]
