"""Command: setting the clock of a sandbox ledger.

The clock stands still until the next ``clock.set``. The event is in the log, so that a replay needs nothing else.

Owns: the command, and reading its text. Does not own: when it may be set (subledger/sandbox), the current time of a
ledger (reads/clock).
"""

from __future__ import annotations

from datetime import datetime

from subledger.errors import InvalidInput
from subledger.events.envelope import Event
from subledger.events.fields import parse_time
from subledger.ledger import LedgerState
from subledger.own_events import clock_set
from subledger.persons import NOBODY, kept_name
from subledger.sandbox import check_may_set_clock
from subledger.store.database import WriteConnection
from subledger.store.writing.recorder import Recorder, raise_first


def read_clock(text: object) -> datetime:
    """Reads the time to set the clock to. Raises InvalidInput saying what was expected and found."""
    try:
        return parse_time(text, field="clock")
    except InvalidInput as error:
        expected = "an RFC 3339 time with its offset from 1900 to 8999, such as 2027-01-01T00:00:00Z"
        raise type(error)(
            f"the clock cannot be set to {str(error.found)[:60]}; give {expected}",
            field="clock",
            expected=expected,
            found=error.found,
        ) from None


def set_clock(recorder: Recorder, ledger: str, clock: datetime, *, by: str = NOBODY) -> bool:
    """Sets the clock of a sandbox ledger. Returns False, and records nothing, if the clock already shows this time.

    Raises SettingFixed if the ledger is no sandbox, ClockBackwards, UnknownLedger.
    """
    person = kept_name(by)

    def plan(_connection: WriteConnection, state: LedgerState, position: int) -> list[Event]:
        check_may_set_clock(state, clock)
        if clock == state.clock:
            return []
        return [clock_set(clock, number=position + 1, by=person)]

    outcomes = recorder.transact(ledger, plan)
    raise_first(outcomes)
    return bool(outcomes)
