"""The close checklist: each obstacle to a month is shown at its step, and disappears with its cause."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from api.service import Subledger
from projections.account_mapping import mapping
from projections.close.close import close_period
from projections.configuring import account_mappings
from projections.delivery.checklist import Checklist, checklist
from projections.exports import exporting
from subledger.errors import ExchangeRateStale, UnmappedRole
from subledger.periods import Period
from tests.building import cloud_event, purchase
from tests.charts import adopt_unchecked

JANUARY, FEBRUARY = Period.parse("2026-01"), Period.parse("2026-02")
LATER = datetime(2026, 6, 1, tzinfo=UTC)

NewLedger = Callable[..., str]


buy = partial(purchase, time="2026-01-05", credits="100", price="50.00")


def looked(service: Subledger, ledger: str, period: Period = JANUARY, now: datetime = LATER) -> dict[str, Any]:
    found = checklist(service.database, ledger, period, now=now)
    return {step.name: step for step in found.steps} | {"": found}


def states(service: Subledger, ledger: str, period: Period = JANUARY) -> dict[str, str]:
    return {step.name: step.state for step in checklist(service.database, ledger, period, now=LATER).steps}


def test_a_month_goes_from_open_to_closed_and_handed_over(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    service.record(ledger, [buy("b-c1", customer="c1", expires_at="2026-01-20T00:00:00Z")])
    before = looked(service, ledger)
    assert [name for name, step in before.items() if name and step.state == "open"] == [
        "expiries",
        "close",
        "journals",
        "files",
    ]
    assert before["expiries"].evidence["due"] == 1
    found: Checklist = before[""]
    assert (found.ready, found.done) == (True, False)
    close_period(service.recorder, ledger, JANUARY)
    assert states(service, ledger)["expiries"] == "done"
    exporting.export(service.recorder, service.database, ledger, JANUARY, "csv")
    after: Checklist = looked(service, ledger)[""]
    assert after.done
    assert {step.state for step in after.steps} == {"done"}


def test_looking_changes_nothing(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    service.record(ledger, [buy("b-c1", customer="c1", expires_at="2026-01-20T00:00:00Z")])
    with service.view(ledger) as view:
        position = view.position
    assert {looked(service, ledger)[""].position for _ in range(3)} == {position}


def test_an_open_month_before_and_a_missing_rate_block(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    rate = cloud_event(
        "rate", "exchange_rate.set", None, "2026-01-05T00:00:00Z", base="EUR", quote="USD", rate="1.2", rate_source="x"
    )
    service.record(ledger, [rate, buy("b-c1", customer="c1", currency="EUR")])
    stale = looked(service, ledger)["exchange_rates"]
    assert (stale.state, stale.evidence["code"]) == ("blocked", "exchange_rate_stale")
    with pytest.raises(ExchangeRateStale):
        close_period(service.recorder, ledger, JANUARY)
    again = {**rate, "id": "again", "time": "2026-01-24T00:00:00Z"}
    service.record(ledger, [again])
    assert states(service, ledger)["exchange_rates"] == "done"
    found = looked(service, ledger, FEBRUARY)
    assert found["months_before"].state == "blocked"
    assert "close 2026-01" in found["months_before"].next
    assert not found[""].ready


def test_what_has_no_account_is_named_and_keeps_the_month_open(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger(policy="contract_liability")
    service.record(ledger, [buy("b-c1", customer="c1")])
    rows = [
        {**row, "credit_kind": "promotional"} if row["role"] == "prepaid_liability" else row
        for row in mapping.default_mapping().rows
    ]
    adopt_unchecked(service.recorder, ledger, mapping.AccountMapping.from_rows(rows))
    step = looked(service, ledger)["mapping"]
    assert step.state == "blocked"
    assert step.evidence["unmapped"] == [
        {"role": "prepaid_liability", "product": "", "credit_kind": "paid", "currency": "USD"}
    ]
    with pytest.raises(UnmappedRole) as caught:
        close_period(service.recorder, ledger, JANUARY)
    assert caught.value.found == "prepaid_liability"
    assert states(service, ledger)["close"] == "open"
    account_mappings.adopt_mapping(service.recorder, ledger, mapping.default_mapping())
    close_period(service.recorder, ledger, JANUARY)
    assert states(service, ledger)["close"] == "done"


def test_money_that_nobody_said_what_for_asks_for_attention(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    paid = cloud_event("p", "payment.received", "c1", "2026-01-06T00:00:00Z", amount="7.00", currency="USD")
    service.record(ledger, [buy("b-c1", customer="c1"), paid])
    step = looked(service, ledger)["payments"]
    assert (step.state, step.evidence) == ("attention", {"unapplied": {"USD": "7.00"}})
    early = looked(service, ledger, now=datetime(2026, 1, 15, tzinfo=UTC))
    assert (early["month_over"].state, early[""].ready) == ("blocked", False)
    assert early["month_over"].next == f"from 2026-02-01T00:00:00Z on: subledger close 2026-01 --ledger {ledger}"
    assert early["close"].next is None


def test_what_expires_later_in_the_month_is_not_due_yet(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    service.record(
        ledger,
        [
            buy("b-c1", customer="c1", expires_at="2026-01-20T00:00:00Z"),
            buy("b-c2", customer="c2", expires_at="2026-01-10T00:00:00Z"),
        ],
    )
    due = looked(service, ledger, now=datetime(2026, 1, 15, tzinfo=UTC))["expiries"]
    assert (due.evidence["due"], due.next) == (1, f"subledger expire --through 2026-01-15 --ledger {ledger}")


def test_what_comes_after_the_journal_waits_for_the_next(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    service.record(ledger, [buy("b-c1", customer="c1")])
    exporting.export(service.recorder, service.database, ledger, JANUARY, "json")
    service.record(ledger, [buy("b-c2", customer="c2")])
    step = looked(service, ledger)["journals"]
    assert (step.state, step.evidence["entries_wait"]) == ("open", True)


def test_rejected_usage_of_the_month_is_asked_for_with_its_amounts_and_keeps_nothing_open(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    late = cloud_event("u2", "credits.consumed", "c1", "2026-02-01T00:00:00Z", credits="5")
    service.record(ledger, [cloud_event("u1", "credits.consumed", "c1", "2026-01-31T23:59:59Z", credits="4"), late])
    step = looked(service, ledger)["rejected"]
    assert (step.state, step.evidence["rejections"], step.evidence["credits"]) == ("attention", 1, {"credit": "4"})
    assert [code["code"] for code in step.evidence["codes"]] == ["insufficient_credits"]
    assert step.next == f"subledger rejected list --to 2026-01-31 --ledger {ledger}"
    assert looked(service, ledger, FEBRUARY)["rejected"].evidence["credits"] == {"credit": "9"}
    close_period(service.recorder, ledger, JANUARY)
    exporting.export(service.recorder, service.database, ledger, JANUARY, "csv")
    assert looked(service, ledger)[""].done, "somebody should look, and the month is handed over"
