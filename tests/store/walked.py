"""Ledgers with every event type: walks, recorded by the real recorder.

The walk chooses the events. The recorder decides each event again, with its own policies: every adoption of the walk
becomes one of the shipped policies, so that blocks are bought, drawn and cancelled under different ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from api.service import Subledger
from projections.close.close import close_period
from projections.close.proofs import prove
from subledger.events.envelope import Event
from subledger.ledger_settings import LedgerSettings
from subledger.own_events import policy_adopted
from subledger.periods import Period
from subledger.posting import SHIPPED_POLICIES, shipped_policy
from subledger.store.writing.recorder import Check
from tests.laws.test_judges import CUSTOMERS, MONTHS, World
from tests.laws.walk import DIMENSION_NAMES, HOME, Walk

WALKED: dict[str, Any] = {"currency": HOME, "on_shortfall": "backfill", "dimensions": DIMENSION_NAMES}
"""The settings of a ledger in which a walk can be recorded."""


def policy_event(number: int, name: str, at: datetime) -> Event:
    """Returns the adoption of a shipped policy. A ledger numbers its policies from 1."""
    return policy_adopted(shipped_policy(name), number=number, at=at, by=None)


def in_batches(events: Sequence[Event], chance: random.Random) -> Iterator[Sequence[Event]]:
    """Yields batches of random length. A close is a separate batch: its remeasurements need all earlier events."""
    for month, run in groupby(events, key=_closing):
        rest = list(run)
        while rest:
            length = len(rest) if month is not None else chance.choice((1, 3, 10, 40))
            yield rest[:length]
            rest = rest[length:]


def _closing(event: Event) -> str | None:
    """Returns the month to whose close an event belongs; None for other events."""
    return event.data.period if event.type in ("balances.remeasured", "period.closed") else None


def record_walk(service: Subledger, ledger: str, walk: Walk, *, policy: str | None = None) -> int:
    """Creates the ledger and records the walk in it, with one event per batch; all of it under ``policy``, if it is
    given.

    Every close is proved. Returns the number of recorded events. Events that this recorder refuses are left out, like
    events that the walk refused before.
    """
    settings = LedgerSettings(policy=policy or SHIPPED_POLICIES[0], **WALKED)
    service.create_ledger(ledger, settings)
    adopted, recorded = 1, 0
    for step in walk.steps:
        event = step.event
        if event.type == "policy.adopted":
            if policy is not None:
                continue
            adopted += 1
            event = policy_event(adopted, SHIPPED_POLICIES[adopted % len(SHIPPED_POLICIES)], event.occurred_at)
        check = _proof(ledger, event) if event.type == "period.closed" else None
        outcomes = service.recorder.transact(ledger, lambda _connection, _state, _position, e=event: [e], check)
        recorded += outcomes[0].error is None
    return recorded


def _proof(ledger: str, event: Event) -> Check:
    last_day = Period.parse(event.data.period).last_day
    return lambda connection, state: prove(connection, ledger, state.functional_currency, last_day)


NETSUITE = {"customers": {customer: str(number) for number, customer in enumerate(CUSTOMERS, start=100)}}
"""Internal ids of the customers of ``record_months``, because some of our ids are no external ids of NetSuite."""


def record_months(service: Subledger, ledger: str, *, prefix: str, size: int) -> None:
    """Records five months in four currencies, with remeasurements, settlements and pools. All months but the last are
    closed.
    """
    events = World(random.Random(11), ("USD", "EUR", "JPY", "KWD"), prefix).events(size)
    for month in MONTHS:
        part = [event for event in events if event["time"][:7] == str(month)]
        for start in range(0, len(part), 40):
            service.record(ledger, part[start : start + 40])
        if month != MONTHS[-1]:
            close_period(service.recorder, ledger, month)
