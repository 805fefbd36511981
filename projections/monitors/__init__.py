"""Monitors: is everything as it should be, every minute, for each ledger by itself?

    settings    thresholds, and who is told: what a company sets
    monitor     what a monitor says, and what it looks at
    checking    all of them, on one snapshot
    deliveries  do deliveries arrive, are any stuck, how many are dead letters?
    latency     how long does an event take into the general ledger?
    payments    payments that nobody has said what they are for
    blocks      what is left on finished blocks, and expiries that are overdue
    rejected    rejected events that nobody has settled
    mismatch    does the ledger's end hold together, and what did the last verification say?
    writers     does whoever holds the ledger's lock go on?
    notices     who is told of a change, once
    webhook     one notice, signed and sent

A monitor reads what is recent or waits, never a ledger's history, so that all of them can be asked every minute. None
proves anything: that is what ``integrity`` and the close are for.
"""

from __future__ import annotations

from projections.monitors.checking import Looked, check, look, look_at_open
from projections.monitors.monitor import Monitor, Report
from projections.monitors.notices import Notified, notify, watch
from projections.monitors.settings import MonitorSettings

__all__ = [
    "Looked", "Monitor", "MonitorSettings", "Notified", "Report", "check", "look", "look_at_open", "notify", "watch",
]  # fmt: skip
