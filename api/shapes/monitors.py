"""Monitors as JSON."""

from __future__ import annotations

import httpx
import msgspec

from api.shapes import answers
from api.shapes.answers import JsonObject
from projections.monitors import Monitor, MonitorSettings, Report
from projections.monitors.notices import Notified
from projections.reads.last_change import LastChange
from subledger.events.envelope import format_time


def report(found: Report) -> JsonObject:
    return {
        "ledger": found.ledger,
        "looked_at": format_time(found.looked_at),
        "position": found.position,
        "well": found.well,
        "ringing": [monitor.name for monitor in found.ringing],
        "monitors": [_monitor(monitor) for monitor in found.monitors],
    }


def _monitor(monitor: Monitor) -> JsonObject:
    answer: JsonObject = msgspec.to_builtins(monitor)
    return answer


def notified(found: Notified) -> JsonObject:
    answer: JsonObject = msgspec.to_builtins(found)
    return answer


def settings(ledger: str, found: MonitorSettings, change: LastChange | None, *, whole: bool = True) -> JsonObject:
    """Returns the settings of monitors, with the name of the webhook's secret but never its value.

    Without ``whole``, the path and the query of the webhook are left out too, because they may contain another secret.
    """
    if found.webhook and not whole:
        url = httpx.URL(found.webhook)
        found = msgspec.structs.replace(found, webhook=f"{url.scheme}://{url.netloc.decode()}")
    return {"ledger": ledger, "settings": msgspec.to_builtins(found), **answers.last_change(change)}
