"""Monitors: checks of each ledger, every minute.

    settings    thresholds and the webhook, as a company sets them
    monitor     the result of a monitor, and its input
    checking    all monitors, on one snapshot
    deliveries  deliveries that arrived, that wait too long, that are dead letters
    latency     time from an event to the general ledger
    payments    payments that are not applied
    blocks      balances left on finished blocks, and overdue expiries
    rejected    rejected events that are open
    mismatch    the end of the log, and the result of the last verification
    writers     writers that hold the ledger's lock without progress
    notices     notices of a change, each sent once
    webhook     the call that sends a notice

A monitor reads recent rows and rows that wait, never a ledger's history, so that all of them can run every minute. None
proves anything: ``integrity`` and the close do.
"""

from __future__ import annotations

from projections.monitors.checking import LookResult, check, look, look_at_open
from projections.monitors.monitor import Monitor, Report
from projections.monitors.notices import Notified, notify, watch
from projections.monitors.settings import MonitorSettings

__all__ = [
    "LookResult", "Monitor", "MonitorSettings", "Notified", "Report", "check", "look", "look_at_open", "notify",
    "watch",
]  # fmt: skip
