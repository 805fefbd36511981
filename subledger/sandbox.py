"""The rules of sandbox ledgers: no figure of a trial reaches a general ledger, a receiver of notices, or a real ledger.

A sandbox has its own clock, so that future months can be tried. Only a ledger's first event can make it a sandbox.

Owns: the actions that a sandbox is refused, and those that only a sandbox has. Does not own: its now (ledger), the
setting (ledger_settings), the mark of its files (projections/exports).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from subledger.errors import ClockBackwards, SandboxLedger, SettingFixed
from subledger.events.envelope import format_time
from subledger.ledger import LedgerState


def check_delivers(state: LedgerState) -> None:
    """A sandbox has no channel, because its journals must never reach a general ledger. Raises SandboxLedger."""
    if state.sandbox:
        raise SandboxLedger(
            f"ledger {state.ledger} is a sandbox and delivers nothing; export its journals as files instead",
            field="ledger",
            expected="a ledger that is not a sandbox",
            found=state.ledger,
        )


def check_notifies(state: LedgerState) -> None:
    """A sandbox sends no notices of its monitors. Raises SandboxLedger."""
    if state.sandbox:
        raise SandboxLedger(
            f"ledger {state.ledger} is a sandbox and sends no notices, as their receiver could take its figures for "
            "real; set its thresholds without a webhook",
            field="webhook",
            expected="no webhook",
            found=state.ledger,
        )


def check_alike(states: Sequence[LedgerState]) -> None:
    """Figures of sandboxes are added only to those of other sandboxes. Raises SandboxLedger."""
    sandboxes = [state.ledger for state in states if state.sandbox]
    if 0 < len(sandboxes) < len(states):
        raise SandboxLedger(
            f"ledger {sandboxes[0]} is a sandbox and is not added to real ledgers; leave it out, or ask for sandboxes "
            "alone",
            field="ledger",
            expected="ledgers that are no sandboxes",
            found=sandboxes[0],
        )


def check_may_set_clock(state: LedgerState, clock: datetime) -> None:
    """Only the clock of a sandbox can be set, and only forwards. Raises SettingFixed, ClockBackwards."""
    if not state.sandbox:
        raise SettingFixed(
            f"ledger {state.ledger} is not a sandbox, so its clock cannot be set; for trials create another "
            "ledger, with --sandbox",
            field="clock",
            expected="a sandbox ledger",
            found=format_time(clock),
        )
    if state.clock is not None and clock < state.clock:
        raise ClockBackwards(
            f"the clock of ledger {state.ledger} shows {format_time(state.clock)} and never goes back",
            field="clock",
            expected=f"{format_time(state.clock)} or later",
            found=format_time(clock),
        )
