"""Recorded events, journal entries and entry lines as JSON."""

from __future__ import annotations

import json
from typing import Any

from api.shapes.answers import JsonObject, money, sides
from projections.reads.date_reasons import REASON_IN_WORDS, DatedBecause, DateReason, Reasons
from projections.reads.recorded_by import person_of
from subledger.events.envelope import format_time
from subledger.kinds import Entry, Rules
from subledger.money import format_credits, format_minor
from subledger.own_dimensions import pairs_of
from subledger.store.reading.pages import NumberedLine, StoredEvent, lines_of


def line(position: int, item: NumberedLine, functional_currency: str) -> JsonObject:
    """Returns an entry line. ``position`` is the position of its event."""
    entry = item.entry
    return {
        "position": position,
        "entry": entry.number,
        "line": item.line,
        "kind": entry.kind,
        "account": item.account,
        "side": item.side.value,
        **sides(item.side, item.amount_minor, entry.currency),
        "currency": entry.currency,
        "functional": {"currency": functional_currency, **sides(item.side, item.functional_minor, functional_currency)},
        "customer": entry.customer,
        "block_id": entry.block_id,
        "accounting_date": entry.accounting_date.isoformat(),
        "effective_date": entry.effective_date.isoformat(),
        "cut": entry.cut,
        "product": entry.dimensions.product or None,
        "credit_kind": entry.dimensions.credit_kind or None,
        "pool": entry.dimensions.pool or None,
        "cohort": entry.dimensions.cohort or None,
        "processor": entry.dimensions.processor or None,
        "refundable": bool(entry.dimensions.refundable),
        "own_dimensions": dict(pairs_of(entry.dimensions.own_of(item.account))),
    }


def event(stored: StoredEvent, rules: dict[int, Rules], functional_currency: str, reasons: Reasons) -> JsonObject:
    """Returns a recorded event: the CloudEvent, the decision, the entries with their lines, and the leaf hash.

    ``reasons`` must contain the date reason of each entry of this event. It may also contain the reasons of other
    events' entries.
    """
    row = stored.row
    received: JsonObject = {
        "specversion": "1.0",
        "id": row.event_id,
        "source": row.source,
        "type": row.type,
        "time": format_time(row.occurred_at),
    }
    if row.customer is not None:
        received["subject"] = row.customer
    if row.attributes_text is not None:
        received |= json.loads(row.attributes_text)
    received["data"] = json.loads(row.data_text)
    return {
        "position": row.position,
        "recorded_at": format_time(stored.recorded_at),
        "event": received,
        "id": row.event_id,
        "source": row.source,
        "type": row.type,
        "customer": row.customer,
        "occurred_at": format_time(row.occurred_at),
        **_who_and_why(row.source, received["data"], json.loads(row.decision_text)),
        "decision": json.loads(row.decision_text),
        "entries": [
            _entry(entry, rules, functional_currency, reasons[row.position, entry.number]) for entry in stored.entries
        ],
        "leaf": bytes(row.leaf).hex(),
    }


def late_date(event: JsonObject, entry: JsonObject) -> str | None:
    """Returns the reason for an entry's accounting date as text. None if the date is the day of the event."""
    reason = DateReason(entry["date_reason"])
    if reason is DateReason.OWN_DAY:
        return None
    words = REASON_IN_WORDS[reason].format(closed_through=entry["closed_through"])
    return f"of {entry['effective_date']}, recorded {event['recorded_at']}: {words}"


def _who_and_why(source: str, data: Any, decision: Any) -> JsonObject:
    """Returns ``who`` and ``why`` as text. Each is null if it is unknown.

    - ``who``, for an event that the ledger records about itself: the user.
    - ``who``, for an event that needed a second person: the requester and the approver.
    - ``why``: the reason in the event's data.
    """
    approval = (decision.get("approval") if isinstance(decision, dict) else None) or {}
    who = person_of(source, data.get("by"), approval.get("maker"), approval.get("checker"))
    return {"who": who, "why": data.get("reason")}


def _entry(entry: Entry, rules: dict[int, Rules], functional_currency: str, dated: DatedBecause) -> JsonObject:
    return {
        "number": entry.number,
        "kind": entry.kind,
        "policy": entry.policy,
        "block_id": entry.block_id,
        "unit": entry.unit,
        "credits": format_credits(entry.credits),
        "amount": money(entry.amount_minor, entry.currency),
        "functional": money(entry.functional_minor, functional_currency),
        "pool": entry.dimensions.pool or None,
        "cohort": entry.dimensions.cohort or None,
        "accounting_date": entry.accounting_date.isoformat(),
        "effective_date": entry.effective_date.isoformat(),
        "date_reason": dated.reason.value,
        "closed_through": None if dated.closed_through is None else dated.closed_through.isoformat(),
        "lines": [
            {
                "account": item.account,
                "side": item.side.value,
                "amount": format_minor(item.amount_minor, entry.currency),
                "functional": money(item.functional_minor, functional_currency),
            }
            for item in lines_of(entry, rules)
        ],
    }
