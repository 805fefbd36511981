"""Monitors: their states, and their thresholds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Body

from api.access import Access
from api.http.routes.dependencies import Caller, LedgerId, Rights, Service, needs
from api.http.routes.guarded import Router
from api.shapes import monitors as monitor_answers
from projections import monitors
from projections.monitors import settings as monitor_settings
from subledger.store.reading.ledgers import ledger_head

router = Router(prefix="/v1/ledgers/{ledger}/monitors", tags=["monitors"])


@router.get("", dependencies=[needs(Access.READER)])
def every(service: Service, ledger: LedgerId) -> dict[str, Any]:
    """Every monitor with its figure, its threshold, its state, the evidence for it, and the next command."""
    return monitor_answers.report(monitors.check(service.database, ledger, datetime.now(UTC)))


@router.get("/thresholds", dependencies=[needs(Access.READER)])
def thresholds(service: Service, rights: Rights, ledger: LedgerId) -> dict[str, Any]:
    """The thresholds and the webhook. Only a caller who can set them sees the webhook's whole address."""
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        found = monitor_settings.settings_of(connection, ledger)
        change = monitor_settings.change_of(connection, ledger)
    return monitor_answers.settings(ledger, found, change, whole=rights >= Access.CONTROLLER)


@router.put("/thresholds", dependencies=[needs(Access.CONTROLLER)])
def change(
    service: Service,
    caller: Caller,
    ledger: LedgerId,
    body: Annotated[dict[str, Any], Body(examples=[{"dead_letters": 5, "event_to_general_ledger_s": None}])],
) -> dict[str, Any]:
    """Sets all thresholds. A threshold that is not given gets its default; null switches its monitor off."""
    with service.database.read() as connection:
        ledger_head(connection, ledger)
    settings = monitor_settings.set_settings(service.database, ledger, body, by=caller)
    with service.database.read() as connection:
        return monitor_answers.settings(ledger, settings, monitor_settings.change_of(connection, ledger))
