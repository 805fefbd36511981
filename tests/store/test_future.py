"""Nothing in the future is recorded, closed, swept or exported, so a typing error does no harm."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.service import Subledger
from projections.close.close import close_period
from projections.close.period_history import periods
from projections.configuring.clock import set_clock
from projections.exports.exporting import export
from projections.reads import balances, blocks
from subledger.closing import check_may_close
from subledger.errors import InTheFuture, InvalidValue, PeriodNotOver
from subledger.events.envelope import format_time
from subledger.ledger import LedgerState
from subledger.ledger_settings import SettingsChange
from subledger.periods import Period, time_zone
from tests.building import cloud_event, purchase, recorded, usage
from tests.conftest import NewLedger

NOW = datetime(2026, 11, 30, 9, tzinfo=UTC)
"""The day of the findings, on a sandbox's clock. On a real ledger times are relative to the real now."""
PLAIN = "contract_liability"


@pytest.fixture
def ledger(new_ledger: NewLedger) -> str:
    return new_ledger(sandbox=True, clock=NOW, policy=PLAIN)


buy = partial(purchase, credits="100", price="100.00")


def balance(service: Subledger, ledger: str, account: str, day: str) -> int:
    with service.view(ledger, as_of=date.fromisoformat(day)) as view:
        found = [b.balance_minor for b in balances.trial_balance(view) if b.account == account]
    return sum(found)


# --- the findings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("month", ["2026-11", "2026-12", "2027-06"])
def test_a_month_that_is_not_over_is_not_closed_and_destroys_no_credits(
    month: str, service: Subledger, ledger: str
) -> None:
    """A: D2 and U8. Credits valid until June 2027 became breakage when months were closed that had not begun."""
    recorded(service, ledger, buy("A", time="2026-11-10T00:00:00Z", expires_at="2027-06-15T00:00:00Z"))
    with pytest.raises(PeriodNotOver) as refused:
        close_period(service.recorder, ledger, Period.parse(month))
    assert (refused.value.field, refused.value.found, refused.value.retryable) == ("period", month, True)
    assert "2026-11-30T09:00:00Z" in refused.value.message
    recorded(service, ledger, usage("today", "50", time="2026-11-30T08:00:00Z"))
    assert balance(service, ledger, "usage_revenue", "2026-11-30") == 50_00
    assert balance(service, ledger, "prepaid_liability", "2026-12-31") == 50_00


def test_the_same_month_is_closed_once_it_is_over(service: Subledger, ledger: str) -> None:
    recorded(service, ledger, buy("A", time="2026-11-10T00:00:00Z"))
    november = Period(2026, 11)
    set_clock(service.recorder, ledger, november.end(time_zone("UTC")) - timedelta(microseconds=1))
    with pytest.raises(PeriodNotOver) as refused:
        close_period(service.recorder, ledger, november)
    assert refused.value.facts["retry_after_s"] == 1
    set_clock(service.recorder, ledger, november.end(time_zone("UTC")))
    assert close_period(service.recorder, ledger, november).period == november


@pytest.mark.parametrize("through", ["2026-12-01", "2027-12-31", "2062-11-30"])
def test_a_sweep_beyond_today_is_refused_and_live_credits_stay(through: str, service: Subledger, ledger: str) -> None:
    """A: D2 and U1. The typing error `expire --through 2062-11-30` broke credits that were valid for another year."""
    recorded(service, ledger, buy("A", time="2026-11-01T00:00:00Z", expires_at="2027-11-01T00:00:00Z"))
    with pytest.raises(InTheFuture) as refused:
        service.expire(ledger, date.fromisoformat(through))
    assert (refused.value.field, refused.value.found, refused.value.expected) == (
        "through",
        through,
        "2026-11-30 or earlier",
    )
    recorded(service, ledger, usage("today", "10", time="2026-11-30T08:00:00Z"))


def test_a_sweep_through_today_records_what_has_expired_by_now_and_no_more(service: Subledger, ledger: str) -> None:
    moments = {"past": NOW - timedelta(hours=1), "now": NOW, "later": NOW + timedelta(microseconds=1)}
    for name, moment in moments.items():
        recorded(service, ledger, buy(name, time="2026-11-01T00:00:00Z", expires_at=format_time(moment)))
    assert service.expire(ledger, date(2026, 11, 30)) == 2
    with service.view(ledger) as view:
        found, _ = blocks.customer_blocks(view, "ann", after="", limit=10)
    assert {block.block.block_id: block.status.value for block in found} == {
        "past": "expired",
        "now": "expired",
        "later": "active",
    }


def test_a_correction_a_year_ahead_is_refused_and_later_usage_is_revenue_of_its_own_month(
    service: Subledger, ledger: str
) -> None:
    """A: D2b. One correction with a clock off by a year dated every later draw of the block into that year."""
    recorded(service, ledger, buy("A", time="2026-01-10T00:00:00Z"), usage("u1", "10", time="2026-01-20T00:00:00Z"))
    wrong = cloud_event(
        "r", "consumption.reversed", "ann", "2027-11-25T00:00:00Z", event_id="u1", credits="1", reason="x"
    )
    [outcome] = service.record(ledger, [wrong])
    assert isinstance(outcome.error, InTheFuture)
    recorded(service, ledger, usage("u2", "50", time="2026-02-12T00:00:00Z"))
    assert balance(service, ledger, "usage_revenue", "2026-02-28") == 60_00


def test_one_wrong_year_does_not_poison_a_block(service: Subledger, ledger: str) -> None:
    """U2. Usage dated 2062 was recorded and reversed. After that, the block's revenue was dated 2062."""
    recorded(service, ledger, buy("A", time="2026-11-01T00:00:00Z"))
    documents = [
        usage("u1", "10", time="2062-11-02T00:00:00Z"),
        cloud_event("r", "consumption.reversed", "ann", "2026-11-04T00:00:00Z", event_id="u1", reason="typo"),
    ]
    [wrong, taken_back] = service.record(ledger, documents)
    assert isinstance(wrong.error, InTheFuture)
    assert taken_back.error is not None
    assert taken_back.error.code == "unknown_original"
    recorded(service, ledger, usage("u2", "10", time="2026-11-04T00:00:00Z"))
    assert balance(service, ledger, "usage_revenue", "2026-11-30") == 10_00
    with service.database.read() as connection:
        assert [str(state.period) for state in periods(connection, ledger)] == ["2026-11"]


@pytest.mark.parametrize(
    ("type", "customer", "data"),
    [
        ("credits.purchased", "ann", {"block_id": "Z", "credits": "1", "price": "1.00", "currency": "USD"}),
        ("credits.granted", "ann", {"block_id": "Z", "credits": "1", "reason": "promotional"}),
        ("credits.expired", "ann", {"block_id": "A"}),
        ("block.repriced", "ann", {"block_id": "A", "add_credits": "100", "add_price": "10.00", "reason": "r"}),
        ("block.expiry_changed", "ann", {"block_id": "A", "expires_at": None, "reason": "r"}),
        ("credits.transferred", "ann", {"block_id": "A", "to_customer": "bob", "new_block_id": "B"}),
        ("payment.received", "ann", {"amount": "1.00", "currency": "USD"}),
        ("exchange_rate.set", None, {"base": "EUR", "quote": "USD", "rate": "1.1", "rate_source": "s"}),
        ("payout.settled", None, {"amount": "1.00", "currency": "USD", "processor": "p", "payout_id": "o"}),
    ],
)
def test_whatever_the_type_its_time_is_not_in_the_future(
    type: str, customer: str | None, data: dict[str, Any], service: Subledger, ledger: str
) -> None:
    recorded(service, ledger, buy("A", time="2026-11-01T00:00:00Z", expires_at="2026-12-24T00:00:00Z"))
    [outcome] = service.record(ledger, [cloud_event("x", type, customer, "2026-12-24T00:00:00Z", **data)])
    assert isinstance(outcome.error, InTheFuture), outcome


def test_what_a_purchase_says_of_the_future_is_no_slip(service: Subledger, ledger: str) -> None:
    times = {"starts_at": "2027-01-01T00:00:00Z", "expires_at": "2028-01-01T00:00:00Z"}
    recorded(service, ledger, buy("A", time="2026-11-30T00:00:00Z", **times))


@pytest.mark.parametrize("month", ["2026-12", "2027-01", "2062-11"])
def test_no_journal_is_made_of_a_month_that_has_not_begun(month: str, service: Subledger, ledger: str) -> None:
    """U8. The first journal file was empty, and the entries of the month were in the second one."""
    with pytest.raises(InTheFuture) as refused:
        export(service.recorder, service.database, ledger, Period.parse(month), "csv")
    assert (refused.value.field, refused.value.found) == ("period", month)


@pytest.mark.parametrize("month", ["2026-11", "2026-10", "2025-06"])
def test_a_current_or_past_month_is_exported_with_or_without_entries(
    month: str, service: Subledger, ledger: str
) -> None:
    recorded(service, ledger, buy("A", time="2026-11-10T00:00:00Z"))
    assert len(export(service.recorder, service.database, ledger, Period.parse(month), "csv")) == 1


# --- the tolerance ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tolerance", "ahead", "taken"),
    [
        ("1d", timedelta(days=1), True), ("1d", timedelta(days=1, microseconds=1), False),
        ("36h", timedelta(hours=36), True), ("36h", timedelta(hours=36, seconds=1), False),
        ("0s", timedelta(0), True), ("0s", timedelta(microseconds=1), False),
    ],
)  # fmt: skip
def test_an_event_lies_at_most_the_tolerance_ahead(
    tolerance: str, ahead: timedelta, taken: bool, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger(sandbox=True, clock=NOW, future_tolerance=tolerance)
    [outcome] = service.record(ledger, [buy("A", time=format_time(NOW + ahead))])
    assert (outcome.error is None) is taken, outcome


def test_what_is_refused_says_now_and_the_limit_and_is_taken_when_its_time_has_come(
    service: Subledger, ledger: str
) -> None:
    document = buy("A", time="2026-12-05T00:00:00Z")
    [outcome] = service.record(ledger, [document])
    error = outcome.error
    assert isinstance(error, InTheFuture)
    assert error.as_document() | {"detail": ""} == {
        "type": "urn:subledger:error:in_the_future",
        "title": error.title,
        "code": "in_the_future",
        "detail": "",
        "retryable": True,
        "field": "time",
        "expected": "at most 2026-12-01T09:00:00Z",
        "found": "2026-12-05T00:00:00Z",
        "now": "2026-11-30T09:00:00Z",
        "retry_after_s": 313_200,
    }
    set_clock(service.recorder, ledger, NOW + timedelta(seconds=error.facts["retry_after_s"]))
    recorded(service, ledger, document)


def test_the_tolerance_is_a_setting_that_changes_for_what_comes_later(service: Subledger, ledger: str) -> None:
    document = buy("A", time=format_time(NOW + timedelta(days=3)))
    assert service.record(ledger, [document])[0].error is not None
    assert service.configure_ledger(ledger, SettingsChange(future_tolerance="3d")).status == "configured"
    assert service.configure_ledger(ledger, SettingsChange(future_tolerance="3d")).status == "unchanged"
    recorded(service, ledger, document)


@pytest.mark.parametrize("text", ["", "1", "1w", "-1d", "1.5d", "32d", "99999999s", "1 d", "١d"])
def test_a_tolerance_is_a_duration_of_at_most_a_month(text: str, service: Subledger, ledger: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        service.configure_ledger(ledger, SettingsChange(future_tolerance=text))
    assert refused.value.field == "future_tolerance"


def test_usage_of_the_future_is_refused_without_the_lock_too(service: Subledger, new_ledger: NewLedger) -> None:
    """A single writer decides a known customer's usage without the lock. The same rule applies there."""
    ledger = new_ledger(sandbox=True, clock=NOW)
    recorded(service, ledger, buy("A", time="2026-11-01T00:00:00Z"))
    for number in range(3):
        recorded(service, ledger, usage(f"u{number}", "1", time="2026-11-02T00:00:00Z"))
        [outcome] = service.record(ledger, [usage(f"future-{number}", "1", time="2027-11-02T00:00:00Z")])
        assert isinstance(outcome.error, InTheFuture)


# --- laws ---------------------------------------------------------------------------------------------------------


@given(offsets=st.lists(st.integers(-3 * 86_400, 3 * 86_400), min_size=1, max_size=6))
@settings(max_examples=25)
def test_no_recorded_event_is_later_than_its_recording_and_the_tolerance(
    offsets: list[int], service: Subledger, new_ledger: NewLedger
) -> None:
    """On a real ledger, on any day. Times are relative to the real now."""
    ledger, start = new_ledger(), datetime.now(UTC)
    documents = [
        buy(f"b{number}", time=format_time(start + timedelta(seconds=offset))) for number, offset in enumerate(offsets)
    ]
    outcomes = service.record(ledger, documents)
    for offset, outcome in zip(offsets, outcomes, strict=True):
        # A time within a minute of the limit may be accepted or refused on a slow machine.
        if abs(offset - 86_400) > 60:
            assert (outcome.error is None) is (offset < 86_400), (offset, outcome)
    with service.database.write() as connection:
        late = connection.execute(
            "SELECT e.position FROM events e JOIN batches b ON b.ledger = e.ledger"
            " AND e.position BETWEEN b.first_position AND b.last_position"
            " WHERE e.ledger = %s AND e.occurred_at > b.recorded_at + interval '1 day'",
            (ledger,),
        ).fetchall()
    assert late == []


ZONES = ("UTC", "America/New_York", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu")


@given(
    zone=st.sampled_from(ZONES),
    month=st.builds(Period, st.integers(1990, 2100), st.integers(1, 12)),
    day=st.integers(0, 41_000),
    closer=st.integers(-2, 2) | st.none(),
)
def test_a_period_closes_at_no_moment_before_its_end_and_at_every_one_after(
    zone: str, month: Period, day: int, closer: int | None
) -> None:
    end = month.end(time_zone(zone))
    moment = datetime(1989, 1, 1, tzinfo=UTC) + timedelta(days=day)
    if closer is not None:
        moment = end + timedelta(microseconds=closer)
    state = LedgerState(ledger="l", timezone=zone)
    if moment >= end:
        check_may_close(state, month, None, moment)
        return
    with pytest.raises(PeriodNotOver):
        check_may_close(state, month, None, moment)


@given(
    expiries=st.lists(st.integers(-40, 40), min_size=1, max_size=5),
    clocks=st.lists(st.integers(0, 40), min_size=1, max_size=3).map(sorted),
    days=st.integers(-40, 0),
)
@settings(max_examples=25)
def test_a_sweep_expires_no_block_before_its_expiry(
    expiries: list[int], clocks: list[int], days: int, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger(sandbox=True, clock=NOW)
    hours = dict(enumerate(expiries))
    for number, hour in hours.items():
        recorded(service, ledger, buy(f"b{number}", time="2026-11-01T00:00:00Z", expires_at=_after(hour)))
    for clock in clocks:
        set_clock(service.recorder, ledger, NOW + timedelta(hours=clock))
        service.expire(ledger, (NOW + timedelta(hours=clock) + timedelta(hours=days)).date())
        assert _expired(service, ledger) <= {f"b{number}" for number, hour in hours.items() if hour <= clock}
        service.expire(ledger, (NOW + timedelta(hours=clock)).date())
        assert _expired(service, ledger) == {f"b{number}" for number, hour in hours.items() if hour <= clock}


def _after(hours: int) -> str:
    return format_time(NOW + timedelta(hours=hours))


def _expired(service: Subledger, ledger: str) -> set[str]:
    with service.database.write() as connection:
        found = connection.execute(
            "SELECT data::jsonb ->> 'block_id' FROM events WHERE ledger = %s AND type = 'credits.expired'", (ledger,)
        ).fetchall()
    return {block for (block,) in found}
