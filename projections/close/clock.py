"""A ledger's now: the real clock, or the one that a sandbox ledger has for trials of month ends.

A sandbox's clock stands still until ``clock.set`` sets it; the event is in the log, so that a replay needs nothing
else. What lies in the future, which day is today, which month is over and which expiry is due go by it.
``recorded_at`` remains the database's own clock: it says when something became known, and *known at* answers go by it.

Owns: setting and reading that clock. Does not own: what goes by it (ledger, recorder, views).
"""

from __future__ import annotations

from datetime import UTC, date, datetime

import msgspec

from subledger.errors import ClockBackwards, InvalidInput, SettingFixed
from subledger.events.data import parse_time
from subledger.events.envelope import OWN_SOURCE, Event, format_time, own_event
from subledger.ledger import LedgerState
from subledger.persons import NOBODY, kept_name
from subledger.store.database import Database, WriteConnection
from subledger.store.reading.ledgers import ledger_head
from subledger.store.writing.recorder import Recorder, raise_first


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger's now and today, and whether it is a sandbox, whose clock can be set."""

    ledger: str
    sandbox: bool
    now: datetime
    today: date
    timezone: str


def clock_of(database: Database, ledger: str) -> Clock:
    """The clock of a ledger. Raises UnknownLedger."""
    with database.read() as connection:
        state = ledger_head(connection, ledger).state
    moment = datetime.now(UTC)
    return Clock(
        ledger=ledger, sandbox=state.sandbox, now=state.now(moment), today=state.today(moment), timezone=state.timezone
    )  # fmt: skip


def read_clock(text: object) -> datetime:
    """The time that a sandbox's clock is to show. Raises InvalidInput saying what was expected and found."""
    try:
        return parse_time(text, field="clock")
    except InvalidInput as error:
        expected = "an RFC 3339 time with its offset from 1900 to 8999, such as 2027-01-01T00:00:00Z"
        raise type(error)(
            f"the clock cannot be set to {str(error.found)[:60]}; give {expected}", field="clock", expected=expected,
            found=error.found,
        ) from None  # fmt: skip


def set_clock(recorder: Recorder, ledger: str, clock: datetime, *, by: str = NOBODY) -> bool:
    """Sets the now of a sandbox ledger. False where it is that already: nothing is recorded.

    Raises SettingFixed for a ledger that is no sandbox, ClockBackwards, UnknownLedger.
    """
    who = kept_name(by)

    def plan(_connection: WriteConnection, state: LedgerState, position: int) -> list[Event]:
        _check_may_set(state, clock)
        if clock == state.clock:
            return []
        return [clock_event(position + 1, clock, who)]

    outcomes = recorder.transact(ledger, plan)
    raise_first(outcomes)
    return bool(outcomes)


def clock_event(number: int, clock: datetime, by: str | None) -> Event:
    """The event that sets a sandbox's clock. It happens when the clock then shows."""
    return own_event(
        source=OWN_SOURCE, event_id=f"clock.set/{number}", type="clock.set", customer=None, occurred_at=clock,
        data={"clock": format_time(clock), **({} if by is None else {"by": by})},
    )  # fmt: skip


def _check_may_set(state: LedgerState, clock: datetime) -> None:
    if not state.sandbox:
        raise SettingFixed(
            f"ledger {state.ledger} is not a sandbox, so its clock cannot be set; for trials create another "
            "ledger, with --sandbox",
            field="clock", expected="a sandbox ledger", found=format_time(clock),
        )  # fmt: skip
    if state.clock is not None and clock < state.clock:
        raise ClockBackwards(
            f"the clock of ledger {state.ledger} shows {format_time(state.clock)} and never goes back",
            field="clock", expected=f"{format_time(state.clock)} or later", found=format_time(clock),
        )  # fmt: skip
