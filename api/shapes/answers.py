"""The JSON shapes that every subject shares: money, pages, results, points in time; ledgers, customers.

Used by HTTP and the command line. Money and credits are always strings.
"""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any

from projections.account_mapping.customer_attributes import CustomerAttributes, Erasure
from projections.account_mapping.mapping import AccountMapping, MappingAdoption
from projections.reads.clock import Clock
from projections.reads.last_change import LastChange
from subledger.accounts import Side
from subledger.errors import InvalidCursor, InvalidJson
from subledger.events.envelope import format_time
from subledger.ledger import LedgerState
from subledger.money import format_minor
from subledger.store.reading.ledgers import LedgerHead
from subledger.store.reading.views import Due, PointInTime
from subledger.store.writing.batch import Outcome
from subledger.text.json_text import loads

JsonObject = dict[str, Any]
"""A JSON object of an answer over HTTP, or of the output of ``--json``."""


def money(amount_minor: int, currency: str) -> JsonObject:
    return {"amount": format_minor(amount_minor, currency), "currency": currency}


def page(items: list[JsonObject], following: Any) -> JsonObject:
    """Returns a list with the cursor of the next page, null on the last page."""
    return {"items": items, "next": None if following is None else encode_cursor(following)}


def encode_cursor(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, ensure_ascii=False).encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None, shape: tuple[type, ...]) -> list[Any] | None:
    """Returns the values of a cursor made by ``encode_cursor``. Raises InvalidCursor."""
    if cursor is None:
        return None
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        value = loads(base64.urlsafe_b64decode(padded.encode("ascii")))  # ``loads`` refuses half of a surrogate pair
        if not isinstance(value, list) or len(value) != len(shape):
            raise ValueError
        for part, kind in zip(value, shape, strict=True):
            if type(part) is not kind:
                raise ValueError
            if isinstance(part, int) and not 0 <= part < 2**62:
                raise ValueError
            if isinstance(part, str) and "\x00" in part:
                raise ValueError
    except (ValueError, UnicodeError, InvalidJson):
        raise InvalidCursor("the cursor was not made by this list", field="cursor", found=cursor[:80]) from None
    return value


def outcome(result: Outcome) -> JsonObject:
    answer: JsonObject = {"id": result.event_id, "status": result.status}
    if result.position is not None:
        answer["position"] = result.position
    if result.approval_id is not None:
        answer["approval_id"] = result.approval_id
    if result.rejection_id is not None:
        answer["rejection_id"] = result.rejection_id
    if result.kept_estimates:
        answer["kept_estimates"] = list(result.kept_estimates)
    if result.error is not None:
        answer["error"] = result.error.as_document()
    return answer


def customer_attributes(ledger: str, found: CustomerAttributes) -> JsonObject:
    """Returns the attributes of a customer, with their last change."""
    return {
        "ledger": ledger,
        "customer": found.customer,
        "attributes": found.attributes,
        "changed_at": None if found.changed_at is None else format_time(found.changed_at),
        "changed_by": found.changed_by,
    }


def last_change(found: LastChange | None) -> JsonObject:
    """Returns the user and the time of the last change of a setting; null for a default setting."""
    return {
        "changed_by": None if found is None else found.by,
        "changed_at": None if found is None else format_time(found.at),
    }


def last_change_title(answer: JsonObject) -> str:
    """Returns the last change as the title of a table."""
    if answer["changed_by"] is None:
        return "as it ships"
    return f"changed by {answer['changed_by']} at {answer['changed_at']}"


def erasure(found: Erasure) -> JsonObject:
    """Returns the erasure of a customer's attributes, without the attributes."""
    return {"customer": found.customer, "erased_at": format_time(found.erased_at), "erased_by": found.erased_by}


def mapping(ledger: str, adoption: MappingAdoption, found: AccountMapping) -> JsonObject:
    """Returns an adopted account mapping: rows as ``mapping adopt`` reads them, the user and the time of adoption."""
    return {
        "ledger": ledger,
        "mapping": adoption.number,
        "valid_from": adoption.valid_from,
        "adopted_by": adoption.by,
        "adopted_at": format_time(adoption.adopted_at),
        "rows": list(found.rows),
    }


def ledger(head: LedgerHead, policy: str) -> JsonObject:
    state = head.state
    return {
        "ledger": state.ledger,
        "entity": state.entity,
        "currency": state.functional_currency,
        "policy": policy,
        "timezone": state.timezone,
        "on_shortfall": state.on_shortfall,
        "late_usage": state.late_usage,
        "approvals": state.approvals.document,
        "future_tolerance": state.future_tolerance,
        "rate_max_age_days": state.rate_max_age_days,
        "accounting_rules": state.accounting_rules,
        "dimensions": list(state.dimensions),
        "sandbox": state.sandbox,
        "clock": None if state.clock is None else format_time(state.clock),
        "closed_through": state.closed_through.isoformat() if state.closed_through else None,
        "open_cut": state.open_cut,
        "position": head.position,
        "recorded_at": format_time(head.recorded_at),
    }


def clock(found: Clock) -> JsonObject:
    return {
        "ledger": found.ledger,
        "sandbox": found.sandbox,
        "now": format_time(found.now),
        "today": found.today.isoformat(),
        "timezone": found.timezone,
    }


def moment(at: PointInTime) -> JsonObject:
    """Returns the point in time of an answer, and the due expiries that will change it once they are recorded."""
    return {"as_of": at.as_of.isoformat(), "known_at": format_time(at.known_at), "position": at.position, **due(at.due)}


def moment_sentence(at: PointInTime) -> str:
    """Returns the point in time of an answer for people, with the zone of its days and times."""
    return (
        f"As of {at.as_of} as known at {format_time(at.known_at)}, position {at.position}. "
        f"Days are of the time zone {at.zone.key}; times are UTC."
    )


def due(found: Due | None) -> JsonObject:
    """Returns ``due_expiries`` and ``due_since`` if expiries are due, otherwise nothing.

    An answer at a given ``known_at`` never has them, because it never changes.
    """
    if found is None or found.since is None:
        return {}
    return {"due_expiries": found.count, "due_since": format_time(found.since)}


def due_notice(at: PointInTime) -> str | None:
    """Returns the due expiries as a sentence; None if none are due."""
    return due_sentence(at.due, at.head.state, at.now)


def due_sentence(found: Due | None, state: LedgerState, now: datetime) -> str | None:
    """Returns the sentence for expiries that were counted separately; ``now`` is the time of the real clock."""
    if found is None or found.since is None:
        return None
    many = "1 expiry is" if found.count == 1 else f"{found.count} expiries are"
    return (
        f"{many} due and not recorded, the first since {format_time(found.since)}: the remaining credits of these "
        f"blocks are still shown. A server or a worker records them; or run: subledger expire --through "
        f"{state.today(now)} --ledger {state.ledger}"
    )


def sides(side: Side, amount_minor: int, currency: str) -> JsonObject:
    """Returns an amount as ``debit`` and ``credit``; the other side is 0."""
    amount, zero = format_minor(amount_minor, currency), format_minor(0, currency)
    debit = side is Side.DEBIT
    return {"debit": amount if debit else zero, "credit": zero if debit else amount}
