"""Requests that wait for a second person as JSON: the event, its subject, and its effect."""

from __future__ import annotations

import json
from decimal import ROUND_UP, Decimal
from typing import Final

from api.shapes.answers import JsonObject
from projections.configuring.ledgers import Configuration
from subledger.event_effect import MEASURES, EventEffect
from subledger.events.envelope import format_time
from subledger.money import exponent, format_credits
from subledger.store.writing.approvals import ApprovalRequest

_AMOUNTS: Final = ("amount", "price", "add_price", "value")
"""The fields of an event's data that state its amount."""
_BLOCKS: Final = ("block_id", "new_block_id")
_REASONS: Final = ("reason", "evidence")


def approval(request: ApprovalRequest, currency: str) -> JsonObject:
    """Returns a request and its decision: the event as sent, its effect, the maker and the checker.

    ``currency`` is the ledger's functional currency, in which the effect is shown. The amount of the event itself is
    shown as it was sent.
    """
    event: JsonObject = {"id": request.event_id, "source": request.source, "type": request.type}
    if request.customer is not None:
        event["subject"] = request.customer
    data = json.loads(request.data_text)
    event |= {"time": format_time(request.occurred_at), "data": data}
    amount = _first(data, _AMOUNTS)
    return {
        "approval_id": request.approval_id,
        "state": request.state,
        "reason": request.reason,
        "customer": request.customer,
        "block_id": _first(data, _BLOCKS),
        "amount": None if amount is None else {"amount": amount, "currency": data.get("currency")},
        "stated_reason": _first(data, _REASONS),
        "effect": None if request.effect is None else effect(request.effect, currency),
        "event": event,
        "maker": request.maker,
        "requested_at": format_time(request.requested_at),
        "checker": request.checker,
        "decided_at": None if request.decided_at is None else format_time(request.decided_at),
        "note": request.note,
    }


def _first(data: JsonObject, names: tuple[str, ...]) -> str | None:
    return next((data[name] for name in names if data.get(name) is not None), None)


def effect(measured: EventEffect, currency: str) -> JsonObject:
    """Returns the effect of an event; amounts in the ledger's functional currency, rounded up to its minor unit."""
    minor_unit = Decimal(1).scaleb(-exponent(currency))
    amounts = {
        name: {"amount": f"{getattr(measured, name).quantize(minor_unit, rounding=ROUND_UP):f}", "currency": currency}
        for name in MEASURES
        if name != "credits_given"
    }
    return {
        "credits_given": format_credits(measured.credits_given),
        **amounts,
        "cancels": measured.cancels,
        "changed_settings": list(measured.changed_settings),
        "text": measured.text,
    }


def configuration(outcome: Configuration) -> JsonObject:
    """Returns the outcome of a change of settings."""
    waiting = {} if outcome.approval_id is None else {"approval_id": outcome.approval_id}
    return {"status": outcome.status, **waiting}
