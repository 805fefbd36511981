"""Repriced blocks are replayed to the same rows, with usage before the repricing, corrections and closed months."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from api.service import Subledger
from projections.close.close import close_period
from projections.integrity import verify
from projections.replay.rebuild import rebuild
from subledger.periods import Period
from tests.building import cloud_event, noon, usage
from tests.conftest import NewLedger


def record(service: Subledger, ledger: str, *events: dict[str, Any]) -> None:
    outcomes: Sequence[Any] = service.record(ledger, list(events))
    assert [outcome.error for outcome in outcomes] == [None] * len(events)


def on(*usages: tuple[str, str, str]) -> list[dict[str, Any]]:
    """Returns usages by id, day of 2026 and credits."""
    return [usage(name, credits, time=noon(f"2026-{day}")) for name, day, credits in usages]


def test_rows_of_a_repriced_block_are_the_same_when_they_are_made_again(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger(late_usage="reclassify")
    terms = {"credits": "100", "price": "100.00", "currency": "USD", "expires_at": "2026-05-01T00:00:00Z"}
    bought = cloud_event("b", "credits.purchased", "ann", "2026-01-01T12:00:00Z", block_id="A", **terms)
    more = {"block_id": "A", "add_credits": "100", "add_price": "10.00", "reason": "r"}
    repriced = cloud_event("r", "block.repriced", "ann", "2026-02-01T12:00:00Z", **more)
    back = cloud_event("t", "consumption.reversed", "ann", "2026-02-20T12:00:00Z", event_id="u1", reason="r")
    record(service, ledger, bought, *on(("u1", "01-05", "3"), ("u2", "01-06", "1")), repriced)
    record(service, ledger, *on(("u3", "02-02", "2"), ("u4", "02-03", "2"), ("u5", "01-31", "4")), back)
    close_period(service.recorder, ledger, Period.parse("2026-01"))
    record(service, ledger, *on(("u6", "02-21", "5"), ("u7", "01-07", "2"), ("u8", "03-03", "9")))
    close_period(service.recorder, ledger, Period.parse("2026-02"))
    again = cloud_event("r2", "block.repriced", "ann", "2026-03-02T12:00:00Z", **more)
    record(service, ledger, *on(("u9", "03-04", "5"), ("u10", "02-07", "2")), again, *on(("u11", "03-05", "1")))
    assert service.expire(ledger, date(2026, 5, 1)) == 1
    record(service, ledger, *on(("u12", "02-08", "6"), ("u13", "04-08", "6")))
    assert verify(service.database, ledger).differences == []
    counts = rebuild(service.database, ledger, workers=1)
    assert not any((*counts.removed.values(), *counts.written.values()))
