"""The ledger as a whole: its settings, its open day, its open cut.

Owns: what the events of the ledger itself change. Does not own: customers and their credits (wallet).
"""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from subledger import own_event_data as events
from subledger.errors import PeriodNotClosed, PeriodOutOfOrder
from subledger.events import Event, canonical
from subledger.periods import Period, time_zone


class LedgerState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A ledger after some position: everything of it that a decision may depend on.

    ``closed_through`` is the last day of the last closed period; ``open_cut`` the number that entries recorded now
    carry; ``policy`` and ``mapping`` count the adoptions, from 1.
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
    approvals: events.Approvals = events.Approvals()
    open_cut: int = 1

    def stored(self, name: str) -> Any:
        """A setting as its column holds it: what needs a second person as canonical JSON."""
        return canonical(self.approvals.document) if name == "approvals" else getattr(self, name)

    @property
    def zone(self) -> ZoneInfo:
        return time_zone(self.timezone)


SETTINGS: Final = tuple(name for name in LedgerState.__struct_fields__ if name != "ledger")
"""What a ledger's row holds of its state: the names of the columns, in the order that ``state_of`` takes."""


@lru_cache(maxsize=1024)  # few ledgers, asked for with every reading and every batch
def state_of(ledger: str, *settings: Any) -> LedgerState:
    """A ledger's state from its row's ``SETTINGS``, as ``stored`` has given them."""
    named = dict(zip(SETTINGS, settings, strict=True))
    named["approvals"] = events.Approvals.model_validate_json(named["approvals"])
    return LedgerState(ledger=ledger, **named)


def evolve_ledger(state: LedgerState, event: Event) -> LedgerState:
    """The ledger after one of its own events; any other event leaves it as it is."""
    if event.type not in events.RESERVED_TYPES:
        return state
    data: Any = event.data
    replace = msgspec.structs.replace
    match data:
        case events.LedgerConfigured():
            return replace(
                state,
                entity=data.entity,
                functional_currency=data.functional_currency,
                timezone=data.timezone,
                on_shortfall=data.on_shortfall,
                late_usage=data.late_usage,
                approvals=data.approvals,
            )
        case events.PolicyAdopted():
            return replace(state, policy=data.policy)
        case events.MappingAdopted():
            return replace(state, mapping=data.mapping)
        case events.PeriodClosed():
            return replace(state, closed_through=Period.parse(data.period).last_day, open_cut=state.open_cut + 1)
        case events.PeriodReopened():
            return replace(state, closed_through=Period.parse(data.period).first_day - timedelta(days=1))
        case events.PeriodCut():
            return replace(state, open_cut=state.open_cut + 1)
        case _:
            return state


def is_closed(state: LedgerState, period: Period) -> bool:
    """Whether nothing can be posted into the period any more."""
    return state.closed_through is not None and period.last_day <= state.closed_through


def check_may_close(state: LedgerState, period: Period, first_entry_on: date | None) -> None:
    """Periods close in order: the month after the last closed one, or the first month that has entries.

    Raises PeriodOutOfOrder, naming the month that is next.
    """
    if state.closed_through is not None:
        following = Period.of(state.closed_through).next
        if period != following:
            raise PeriodOutOfOrder(
                f"{period} cannot be closed now: {following} is next",
                field="period",
                expected=str(following),
                found=str(period),
            )
    elif first_entry_on is not None and Period.of(first_entry_on) < period:
        first = Period.of(first_entry_on)
        raise PeriodOutOfOrder(
            f"{period} cannot be closed before {first}, the first month with entries",
            field="period",
            expected=str(first),
            found=str(period),
        )


def check_may_reopen(state: LedgerState, period: Period) -> None:
    """Only a closed period can be reopened; the later ones reopen with it. Raises PeriodNotClosed."""
    if not is_closed(state, period):
        raise PeriodNotClosed(f"{period} is not closed", field="period", expected="a closed period", found=str(period))
