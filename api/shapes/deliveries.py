"""Channels and deliveries as JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from api.shapes import answers
from api.shapes.answers import JsonObject
from projections.delivery.channels import Channel, DroppedChannel
from projections.delivery.deliveries import Delivery, Step
from projections.delivery.states import DEAD
from subledger.events.envelope import format_time


def channel(found: Channel) -> JsonObject:
    settings: dict[str, Any] = msgspec.to_builtins(found.settings)
    return {
        "channel": found.name,
        "connector": found.connector.name,
        "format": found.format.name,
        "destination": found.destination,
        "settings": settings,
        **answers.last_change(found.changed),
    }


def dropped_channel(found: DroppedChannel) -> JsonObject:
    """Returns a removed channel, with the user who removed it."""
    return {
        "channel": found.name,
        "connector": found.connector,
        "format": found.format,
        **answers.last_change(found.changed),
        "dropped_by": found.dropped.by,
        "dropped_at": format_time(found.dropped.at),
    }


def delivery(found: Delivery) -> JsonObject:
    return {
        "id": found.delivery_id,
        "channel": found.channel,
        "destination": found.destination,
        "export": found.export_id,
        "period": str(found.period),
        "number": found.number,
        "part": found.part or None,
        "reference": found.reference,
        "state": found.state.value,
        "dead_letter": found.state in DEAD,
        "reason": found.reason,
        "erp_id": found.erp_id,
        "attempts": found.attempts,
        "content_hash": found.payload_hash,
        "created_at": format_time(found.created_at),
        "submitted_at": _time(found.submitted_at),
        "changed_at": format_time(found.changed_at),
        "due_at": _time(found.due_at),
    }


def step(found: Step) -> JsonObject:
    """Returns a step of a delivery with its request and response, verbatim except for secrets."""
    return {
        "step": found.step,
        "at": format_time(found.at),
        "state": found.state.value,
        "by": found.by,
        "reason": found.reason,
        "exchanges": [
            {**msgspec.to_builtins(exchange), "at": format_time(exchange.at)} for exchange in found.exchanges
        ],
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)
