"""Rejected events as JSON, for HTTP and the command line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import orjson

from api.rejecting import Retried
from api.shapes.answers import JsonObject, money, outcome
from subledger.errors import InvalidInput, SubledgerError
from subledger.events.envelope import format_time
from subledger.money import format_credits
from subledger.store.rejected.rejections import Kept, Step
from subledger.store.writing.batch import DUPLICATE, RECORDED, REJECTED, WAITING
from subledger.text.json_text import loads

_STATUSES: Final = (RECORDED, DUPLICATE, REJECTED, WAITING)


def rejection(stored: Kept) -> JsonObject:
    """Returns a rejected event without its text."""
    amount = stored.money
    answer: JsonObject = {
        "rejection_id": stored.rejection_id,
        "state": stored.state,
        "code": stored.code,
        "detail": orjson.loads(stored.problem).get("detail"),
        "source": stored.source,
        "id": stored.event_id,
        "type": stored.type,
        "customer": stored.customer,
        "occurred_at": stored.occurred_at and format_time(stored.occurred_at),
        "amount": None if amount is None else money(amount.amount_minor, amount.currency),
        "credits": None if stored.credits is None else format_credits(stored.credits),
        "unit": stored.unit,
        "sender": stored.sender,
        "way": stored.way,
        "first_at": format_time(stored.first_at),
        "last_at": format_time(stored.last_at),
        "attempts": stored.attempts,
        "position": stored.position,
    }
    if stored.recorded_position is not None:
        answer["recorded_position"] = stored.recorded_position
    if stored.dismissed_at is not None:
        answer["dismissed"] = {
            "at": format_time(stored.dismissed_at),
            "by": stored.dismissed_by,
            "reason": stored.dismissed_reason,
        }
    return answer


def whole_rejection(stored: Kept, history: Sequence[Step]) -> JsonObject:
    """Returns a rejected event with its text and its reason, the problem document of the last answer.

    ``event`` is the received JSON, null if the text was no JSON or is not stored in full. ``text`` is the stored text,
    byte for byte if it is UTF-8. ``history``: its dismissals and reopenings.
    """
    sent = stored.sent
    event: object = None
    if sent is not None and stored.whole:
        try:
            event = loads(sent)
        except InvalidInput:
            event = None
    return {
        **rejection(stored),
        "event": event,
        "text": None if sent is None else sent.decode("utf-8", "backslashreplace"),
        "bytes": stored.sent_bytes,
        "whole": stored.whole,
        "content_hash": stored.content_hash.hex(),
        "error": orjson.loads(stored.problem),
        "history": [
            {"at": format_time(step.done_at), "action": step.action, "by": step.done_by, "reason": step.reason}
            for step in history
        ],
    }


def retried(found: Retried, *, not_whole: int, problem: Callable[[SubledgerError], JsonObject]) -> JsonObject:
    """Returns the outcomes of a retry. ``not_whole``: the number of rejections not stored in full, which have no retry.

    ``not_done`` and ``error``: the number of rejections not reached because of an error, and the error; 0 and null
    without one.
    """
    items = [{"rejection_id": name, **outcome(each)} for name, each in found.answers]
    counts = Counter(item["status"] for item in items)
    return {
        "items": items,
        **{status: counts[status] for status in _STATUSES},
        "not_whole": not_whole,
        "not_done": found.not_done,
        "error": problem(found.error) if found.error is not None else None,
    }
