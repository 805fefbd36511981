"""A case: a separate ledger whose events are written in short form, without a database.

It is for facts that a law of any walk cannot test: an exact amount, a date, the words of a refusal.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from subledger import errors
from subledger.ledger import ACCOUNTING_RULES, LedgerState
from tests.laws.walk import Step, Walk

JANUARY = datetime(2026, 1, 1, 12, tzinfo=UTC)
EXPIRY = datetime(2026, 2, 1, tzinfo=UTC)
UNTIL_FEBRUARY = {"expires_at": EXPIRY.isoformat()}
STATE = {
    "ledger": "L",
    "functional_currency": "USD",
    "policy": 1,
    "late_usage": "reclassify",
    "accounting_rules": ACCOUNTING_RULES,
}


def on(day: int) -> datetime:
    """Returns noon of a day, counted from 1 January: 32 is the first of February."""
    return JANUARY + timedelta(days=day - 1)


class Case(Walk):
    """A ledger for ann, with events in short form. Every event must be recorded."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(state=LedgerState(**{**STATE, **changes}))
        self.sent = 0

    def does(self, type: str, day: int, customer: str | None = "ann", /, **data: Any) -> Step:
        self.sent += 1
        step = self.send(f"e{self.sent}", type, customer, on(day), **data)
        assert step is not None, self.refused
        return step

    def is_refused(self, type: str, day: int, customer: str | None = "ann", /, **data: Any) -> errors.SubledgerError:
        self.sent += 1
        assert self.send(f"e{self.sent}", type, customer, on(day), **data) is None
        error = self.refused[-1]
        assert isinstance(error, errors.SubledgerError)
        return error

    def buys(self, block_id: str, day: int = 1, /, **changes: Any) -> Step:
        data = {"block_id": block_id, "credits": "7", "price": "10.00", "currency": "USD", **changes}
        return self.does("credits.purchased", day, **data)

    def uses(self, credits: str, day: int, /, **changes: Any) -> Step:
        return self.does("credits.consumed", day, credits=credits, **changes)

    def takes_back(self, step: Step, day: int, /, **changes: Any) -> Step:
        return self.does("consumption.reversed", day, event_id=step.event.event_id, reason="r", **changes)

    def undoes(self, step: Step, day: int) -> Step:
        return self.does("event.reversed", day, step.event.customer, event_id=step.event.event_id, reason="r")

    def cannot_undo(self, step: Step, day: int) -> errors.SubledgerError:
        return self.is_refused("event.reversed", day, step.event.customer, event_id=step.event.event_id, reason="r")

    def expires(self, block_id: str) -> Step:
        step = self.own(f"x-{block_id}", "credits.expired", "ann", EXPIRY, block_id=block_id)
        assert step is not None, self.refused
        return step

    def adopts(self, policy: int, day: int) -> None:
        self.own(
            f"a{policy}",
            "policy.adopted",
            None,
            on(day),
            policy=policy,
            name="p",
            version=1,
            content_hash="h",
            rules={},
        )


def in_euro(**changes: Any) -> Case:
    case = Case(**changes)
    case.does("exchange_rate.set", 1, None, base="EUR", quote="USD", rate="1.2", rate_source="ECB")
    return case


def moves(step: Step) -> list[tuple[str, str | None, str, int, int | None]]:
    """Returns kind, block, credits, money and functional money of each movement."""
    return [(m.kind, m.block_id, str(m.credits), m.amount_minor, m.functional_minor) for m in step.decision.movements]


def told(step: Step) -> list[str]:
    """Returns all movements of a step: day, kind, amount, and every other field that is not empty."""
    lines = []
    for movement in step.decision.movements:
        fields = msgspec.to_builtins(movement)
        first = [fields.pop("on")[5:], fields.pop("kind"), str(fields.pop("amount", 0))]
        lines.append(" ".join([*first, *(f"{name}={fields[name]}" for name in sorted(fields))]))
    return lines
