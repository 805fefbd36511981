"""The ledger as a whole: its settings, its open day, its open cut.

Owns: what the events of the ledger itself change. Does not own: customers and their credits (wallet).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from subledger.accounting_dates import effective_date, effective_date_of
from subledger.errors import InTheFuture, SchemaOutOfDate
from subledger.events import own_data
from subledger.events.envelope import OWN_SOURCE, Event, canonical, format_time
from subledger.periods import Period, duration, end_of_day, time_zone

ACCOUNTING_RULES: Final = 2
"""Version of the rules by which this release decides. A ledger adopts it in its log, by ``ledger.configured``. Events
before this keep their decisions; later events are decided by the new rules. DECISIONS.md lists the versions.
"""


class LedgerState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A ledger after a position: all its facts that a decision may depend on.

    - ``closed_through``: the last day of the last closed period.
    - ``open_cut``: the cut of entries that are recorded now.
    - ``policy``, ``mapping``: the numbers of the last adoptions, from 1.
    - ``clock``: the clock of a ``sandbox``, set by ``clock.set``. None for a real ledger, which uses the clock of the
      database.
    - ``accounting_rules``: the version of the rules that the ledger has adopted.
    - ``dimensions``: the names of the company's own dimensions, in the order in which they were added.
    """

    ledger: str
    entity: str = ""
    functional_currency: str = ""
    timezone: str = "UTC"
    on_shortfall: str = "reject"
    late_usage: str = "new"
    policy: int = 0
    mapping: int = 0
    closed_through: date | None = None
    approvals: own_data.Approvals = own_data.Approvals()
    future_tolerance: str = own_data.FUTURE_TOLERANCE
    rate_max_age_days: int = own_data.RATE_MAX_AGE_DAYS
    sandbox: bool = False
    accounting_rules: int = 1
    dimensions: tuple[str, ...] = ()
    clock: datetime | None = None
    open_cut: int = 1

    def stored(self, name: str) -> Any:
        """A setting as its column stores it. The approval settings and the names of dimensions are canonical JSON."""
        match name:
            case "approvals":
                return canonical(self.approvals.document)
            case "dimensions":
                return canonical(list(self.dimensions))
        return getattr(self, name)

    @property
    def zone(self) -> ZoneInfo:
        return time_zone(self.timezone)

    def dimensions_with(self, names: Iterable[str]) -> tuple[str, ...]:
        """The names of the company's own dimensions after some were added. Names are never removed."""
        return (*self.dimensions, *(name for name in names if name not in self.dimensions))

    def effective_date_of(self, event: Event) -> date:
        """The effective date of an event that is recorded under the ledger's settings and accounting rules."""
        return effective_date_of(event.type, event.occurred_at, self.zone, self.accounting_rules)

    def now(self, moment: datetime) -> datetime:
        """The ledger's now, when the database's clock shows ``moment``. A sandbox has its own clock."""
        return self.clock or moment

    def today(self, moment: datetime) -> date:
        """The day of the ledger's now, in its time zone."""
        return effective_date(self.now(moment), self.zone)


SETTINGS: Final = tuple(name for name in LedgerState.__struct_fields__ if name != "ledger")
"""The columns of a ledger's row that store its state, in the order that ``state_of`` takes."""


@lru_cache(maxsize=1024)  # there are few ledgers, and every read and every batch needs one
def state_of(ledger: str, *settings: Any) -> LedgerState:
    """A ledger's state from the ``SETTINGS`` columns of its row, as ``stored`` wrote them."""
    named = dict(zip(SETTINGS, settings, strict=True))
    named["approvals"] = own_data.Approvals.model_validate_json(named["approvals"])
    named["dimensions"] = msgspec.json.decode(named["dimensions"], type=tuple[str, ...])
    return LedgerState(ledger=ledger, **named)


def evolve_ledger(state: LedgerState, event: Event) -> LedgerState:
    """The ledger after one of its own events. Any other event does not change it."""
    if event.type not in own_data.RESERVED_TYPES:
        return state
    replace = msgspec.structs.replace
    match event.data:
        case own_data.LedgerConfigured() as data:
            return replace(
                state,
                entity=data.entity,
                functional_currency=data.functional_currency,
                timezone=data.timezone,
                on_shortfall=data.on_shortfall,
                late_usage=data.late_usage,
                approvals=data.approvals,
                future_tolerance=data.future_tolerance,
                rate_max_age_days=data.rate_max_age_days,
                sandbox=data.sandbox,
                # Earlier releases recorded settings that were requested before an upgrade. The rules must not go back.
                accounting_rules=max(state.accounting_rules, data.accounting_rules),
                dimensions=state.dimensions_with(data.dimensions),
            )
        case own_data.ClockSet() as data:
            return replace(state, clock=data.clock)
        case own_data.PolicyAdopted() as data:
            return replace(state, policy=data.policy)
        case own_data.MappingAdopted() as data:
            return replace(state, mapping=data.mapping)
        case own_data.PeriodClosed() as data:
            return replace(state, closed_through=Period.parse(data.period).last_day, open_cut=state.open_cut + 1)
        case own_data.PeriodReopened() as data:
            return replace(state, closed_through=Period.parse(data.period).first_day - timedelta(days=1))
        case own_data.PeriodCut():
            return replace(state, open_cut=state.open_cut + 1)
        case _:
            return state


def check_accounting_rules(state: LedgerState, events: Sequence[Event]) -> None:
    """Raises SchemaOutOfDate if a ledger has other accounting rules than this release, so that it cannot decide events.

    The event that adopts the rules is allowed. Without this check, a server of the old release would decide by the old
    rules after an upgrade. A server of the new release would decide before it, on derived rows of the old rules.
    """
    found = state.accounting_rules
    if not events:
        return
    for event in events[:1]:
        if isinstance(event.data, own_data.LedgerConfigured):
            found = max(found, event.data.accounting_rules)
    if found != ACCOUNTING_RULES:
        newer = found > ACCOUNTING_RULES
        raise SchemaOutOfDate(
            f"ledger {state.ledger} has version {found} of the accounting rules, and this program decides by version "
            f"{ACCOUNTING_RULES}; " + ("upgrade this program" if newer else "run `subledger init`, which upgrades it"),
            field="ledger",
            expected=f"version {ACCOUNTING_RULES} of the accounting rules",
            found=str(found),
        )


def check_not_in_future(state: LedgerState, event: Event, moment: datetime) -> None:
    """Checks that an event from outside happened at most ``future_tolerance`` after the ledger's now.

    A wrong year would date a block's revenue into that year, and a recorded event cannot be removed from the log. The
    ledger's own events are dated by their commands. Raises InTheFuture.
    """
    now = state.now(moment)
    if event.occurred_at <= now or event.source == OWN_SOURCE:
        return
    last = now + duration(state.future_tolerance, field="future_tolerance")
    if event.occurred_at > last:
        raise InTheFuture(
            f"the time of {event.event_id}, {format_time(event.occurred_at)}, lies in the future: now is "
            f"{format_time(now)}, and ledger {state.ledger} accepts times up to {state.future_tolerance} after now; "
            "correct the time, or send the event again later",
            field="time",
            expected=f"at most {format_time(last)}",
            found=format_time(event.occurred_at),
            now=format_time(now),
            retry_after_s=math.ceil((event.occurred_at - last).total_seconds()),
        )


def check_day_has_come(state: LedgerState, day: date, moment: datetime, what: str, *, field: str, found: str) -> None:
    """Checks that a day has begun, before a sweep or an export (``what``). Raises InTheFuture."""
    today = state.today(moment)
    if day > today:
        raise InTheFuture(
            f"{what} is refused, as it lies in the future: today is {today} ({state.timezone})",
            field=field,
            expected=f"{today} or earlier",
            found=found,
            now=format_time(state.now(moment)),
            retry_after_s=math.ceil(
                (end_of_day(day - timedelta(days=1), state.zone) - state.now(moment)).total_seconds()
            ),
        )
