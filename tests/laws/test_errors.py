"""The list of errors: each error has a name and an input that triggers it.

Faults in the text of an event are listed in ``test_events.py``. Errors that other tests trigger are named below.
"""

from __future__ import annotations

import pkgutil
import re
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

import api
import projections
import subledger
from api.service import Subledger
from api.shapes.answers import decode_cursor
from projections.account_mapping.mapping import parse_mapping
from projections.close.close import close_period, reopen_period
from projections.configuring.clock import set_clock
from projections.exports.exporting import export
from projections.reads import balances
from projections.reads.policies import adopted_policy
from subledger import errors
from subledger.errors import (
    AccessDenied,
    Conflict,
    InvalidInput,
    NotFound,
    Refused,
    SubledgerError,
    Unavailable,
    fault,
    root,
)
from subledger.events.own_data import Approvals
from subledger.kinds import AccountPair
from subledger.ledger_settings import LedgerSettings, SettingsChange
from subledger.periods import Period
from subledger.posting import Policy, shipped_policy
from subledger.reserved import MOST_OPEN
from subledger.store.database import Database
from subledger.store.reading.ledgers import ledger_head
from subledger.store.reading.pages import event_at
from subledger.store.timeouts import Timeouts
from tests.building import cloud_event, payment, purchase, rate, reversal, usage
from tests.conftest import NewLedger
from tests.laws.test_events import FAULTS
from tests.store.holding import held

ROOT = Path(__file__).parents[2]
JANUARY, MARCH = Period(2026, 1), Period(2026, 3)
GROUPS = (SubledgerError, InvalidInput, AccessDenied, Refused, Conflict, NotFound, Unavailable)
MODULES = [
    import_module(module.name)
    for package in (api, projections, subledger)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]
"""All modules of the product. An error that is defined in one of them counts like every other."""


def all_errors(above: type[SubledgerError] = SubledgerError) -> list[type[SubledgerError]]:
    """Returns all error classes of the product."""
    return [above] + [error for below in above.__subclasses__() for error in all_errors(below)]


# --- refused events, in the books below ------------------------------------------------


@pytest.fixture(scope="module")
def ledger(service: Subledger, new_ledger: NewLedger) -> str:
    """Ann bought A, and used a part of it; she used all of B and X. C paid for her overage o1. G is her goodwill.

    Half of her credits in pool e has expired.
    """
    ledger = new_ledger()
    outcomes = service.record(
        ledger,
        [
            buy("A", credits="10", expires_at="2026-12-31T00:00:00Z", invoice_id="I1"),
            buy("B", credits="5", unit="token"),
            buy("X", credits="1", unit="other", expires_at="2026-11-20T00:00:00Z"),
            event("undone", "credits.granted", block_id="undone", credits="1", unit="undone", reason="promotional"),
            event("undoing", "event.reversed", event_id="undone", reason="r"),
            event("u3", "credits.consumed", credits="1", unit="other"),
            event("u1", "credits.consumed", credits="4"),
            event("u2", "credits.consumed", credits="5", unit="token"),
            event(
                "o1",
                "credits.consumed",
                credits="3",
                unit="token",
                overage_price="0.10",
                currency="USD",
                on_shortfall="backfill",
            ),
            buy("C", credits="20", unit="token"),
            event(
                "g",
                "credits.granted",
                block_id="G",
                credits="1",
                unit="thing",
                reason="goodwill",
                value="1.00",
                currency="USD",
            ),
            event("p1", "payment.received", payment_id="P1", amount="1.00", currency="USD"),
            buy("K", credits="4", unit="disputed"),
            event("p2", "payment.received", processor="cards", amount="5.00", currency="USD", block_id="K"),
            event("p3", "payment.received", processor="cards", amount="1.00", currency="USD", block_id="C"),
            event("d1", "dispute.opened", dispute_id="D1", block_id="K"),
            event("d2", "dispute.opened", dispute_id="D2", block_id="C", amount="1.00", currency="USD"),
            event("d3", "dispute.won", dispute_id="D2"),
            buy("Y", credits="1", unit="pooled", pool="e", expires_at="2026-01-20T00:00:00Z"),
            buy("Y2", credits="1", unit="pooled", pool="e"),
            estimate(pool="e", cohorts="month", expected_breakage_rate="0.5") | {"id": "first"},
            event("y", "credits.expired", "ann", "2026-01-20T00:00:00Z", block_id="Y"),
            buy("M", credits="2", unit="conceded"),
            event("u4", "credits.consumed", credits="2", unit="conceded"),
            event("m1", "credit_memo.issued", block_id="M", amount="1.00", currency="USD", reason="r"),
            event(
                "o2",
                "credits.consumed",
                credits="1",
                unit="else",
                overage_price="0.10",
                currency="USD",
                on_shortfall="overage",
            ),
            buy("R", credits="3", unit="reserved"),
            reserve("R1"),
            reserve("R2"),
            event("r3", "reservation.released", reservation_id="R2"),
        ],
    )
    assert [outcome.status for outcome in outcomes] == ["recorded"] * 30
    return ledger


def event(name: str, type: str, customer: str = "ann", time: str = "2026-02-01T12:00:00Z", /, **data: Any) -> Any:
    return cloud_event(name, type, customer, time, **data)


buy = partial(purchase, time="2026-01-10T12:00:00Z")


use = partial(usage, "use", time="2026-02-01T12:00:00Z")


reverse = partial(reversal, "reverse", time="2026-02-01T12:00:00Z")


pay = partial(payment, "pay", time="2026-02-01T12:00:00Z")


def reserve(reservation_id: str, **data: Any) -> Any:
    data = {"credits": "1", "unit": "reserved", "expires_at": "2026-02-02T00:00:00Z", **data}
    return event(f"reserve-{reservation_id}", "credits.reserved", reservation_id=reservation_id, **data)


def pay_back(customer: str = "ann", **data: Any) -> Any:
    return event("back", "payment.refunded", customer, **{"amount": "1.00", "currency": "USD", **data})


def estimate(**data: Any) -> Any:
    return event("estimate", "breakage.estimated", "-", **{"pool": "p", "currency": "USD", "evidence": "e", **data})


def void(block_id: str, customer: str = "ann") -> Any:
    return event("void", "purchase.voided", customer, block_id=block_id, reason="r")


# error · the sent event · the named field
REFUSALS: list[tuple[type[SubledgerError], Any, str | None]] = [
    (errors.BlockExists, buy("A", customer="bob", event_id="buy-A-bob"), "data.block_id"),
    (errors.UnknownBlock, use(block_id="Z"), "data.block_id"),
    (errors.UnknownBlock, void("Z"), "data.block_id"),
    (errors.BlockOfAnotherCustomer, use(customer="bob", block_id="A"), "data.block_id"),
    (errors.BlockOfAnotherCustomer, pay(customer="bob", block_id="A"), "data.block_id"),
    (errors.UnknownInvoice, pay(invoice_id="I9"), "data.invoice_id"),
    (errors.UnknownInvoice, pay(customer="bob", invoice_id="I1"), "data.invoice_id"),
    (errors.UnknownInvoice, pay(block_id="C", invoice_id="I1"), "data.invoice_id"),
    (errors.WrongCurrency, pay(block_id="A", currency="EUR"), "data.currency"),
    (errors.ExchangeRateMissing, pay(currency="EUR"), "data.currency"),
    (errors.ExchangeRateMissing, buy("D", currency="EUR"), "data.currency"),
    (
        errors.ExchangeRateMissing,
        use(credits="99", overage_price="1", currency="EUR", on_shortfall="overage"),
        "data.currency",
    ),
    (errors.OveragePriceMissing, use(credits="99", on_shortfall="overage"), "data.overage_price"),
    (
        errors.InvalidValue,
        use(credits="999999999999", overage_price="999999999", currency="USD", on_shortfall="overage"),
        "data.overage_price",
    ),
    (errors.InsufficientCredits, use(credits="6.000000001"), "data.credits"),
    (errors.InsufficientCredits, use(customer="nobody"), "data.credits"),
    (errors.InsufficientCredits, reserve("R4", credits="2.000000001"), "data.credits"),
    (errors.InvalidValue, reserve("R4", expires_at="2026-02-01T12:00:00Z"), "data.expires_at"),
    (errors.UnknownReservation, use(unit="reserved", reservation_id="R4"), "data.reservation_id"),
    (errors.UnknownReservation, event("x", "reservation.released", reservation_id="R4"), "data.reservation_id"),
    (errors.UnknownReservation, event("x", "reservation.released", "bob", reservation_id="R1"), "data.reservation_id"),
    (errors.ReservationEnded, event("x", "reservation.released", reservation_id="R2"), "data.reservation_id"),
    (errors.ReservationDiffers, use(reservation_id="R1"), "data.unit"),
    (errors.NoCreditsLeft, void("B"), "data.block_id"),
    (errors.NotAPurchase, event("x", "credits.refunded", block_id="G"), "data.block_id"),
    (errors.NotYetExpired, event("x", "credits.expired", block_id="A"), "time"),
    (errors.NotYetExpired, event("x", "credits.expired", block_id="C"), "time"),
    (errors.NoCreditsLeft, event("x", "credits.expired", "ann", "2026-11-20T00:00:00Z", block_id="X"), "data.block_id"),
    (errors.InTheFuture, event("x", "credits.consumed", "ann", "2162-01-01T00:00:00Z", credits="1"), "time"),
    (
        errors.InTheFuture,
        event("x", "credits.consumed", "ann", "2162-01-01T00:00:00Z", credits="1", block_id="Z"),
        "time",
    ),
    (errors.InvalidValue, buy("E", expires_at="2026-01-10T12:00:00Z"), "data.expires_at"),
    (
        errors.InvalidValue,
        event("x", "block.expiry_changed", block_id="A", reason="r", expires_at="2026-01-10T12:00:00Z"),
        "data.expires_at",
    ),
    (errors.UnknownOriginal, reverse("u9"), "data.event_id"),
    (errors.UnknownOriginal, reverse("u1", event_source="elsewhere"), "data.event_id"),
    (errors.NotReversible, reverse("buy-A"), "data.event_id"),
    (errors.NotReversible, reverse("u1", customer="bob"), "data.event_id"),
    (errors.NotReversible, event("x", "event.reversed", event_id="u1", reason="r"), "data.event_id"),
    (errors.ChangedSince, event("x", "event.reversed", event_id="buy-A", reason="r"), "data.event_id"),
    (errors.AlreadyReversed, event("x", "event.reversed", event_id="undone", reason="r"), "data.event_id"),
    (errors.ReversalExceedsOriginal, reverse("u1", credits="4.000000001"), "data.credits"),
    (errors.OverageSettled, reverse("o1"), "data.credits"),
    (errors.Conceded, reverse("u4"), "data.event_id"),
    (errors.BlockDisputed, void("K"), "data.block_id"),
    (errors.BlockDisputed, event("x", "credits.refunded", block_id="K"), "data.block_id"),
    (errors.InsufficientCredits, use(unit="disputed"), "data.credits"),
    (errors.UnknownPayment, pay_back(payment_id="P9"), "data.payment_id"),
    (errors.UnknownPayment, pay_back("bob", payment_id="P1"), "data.payment_id"),
    (errors.DocumentExists, pay(payment_id="P1"), "data.payment_id"),
    (errors.UnknownDispute, event("x", "dispute.won", dispute_id="D9"), "data.dispute_id"),
    (errors.DisputeDecided, event("x", "dispute.lost", dispute_id="D2"), "data.dispute_id"),
    (errors.ExceedsValue, event("x", "credits.refunded", block_id="A", amount="3.01", currency="USD"), "data.amount"),
    (
        errors.ExceedsValue,
        event("x", "credit_memo.issued", block_id="A", amount="2.01", currency="USD", reason="r"),
        "data.amount",
    ),
    (
        errors.ExceedsReceivable,
        event("x", "receivable.written_off", block_id="A", amount="5.01", reason="r"),
        "data.amount",
    ),
    (
        errors.ExceedsReceivable,
        event("x", "block.repriced", block_id="A", add_price="-3.01", reason="r"),
        "data.add_price",
    ),
    (
        errors.ExceedsPayment,
        event("x", "payment.applied", payment_id="P1", block_id="A", amount="1.01", currency="USD"),
        "data.amount",
    ),
    (
        errors.ExceedsPayment,
        event("x", "dispute.opened", dispute_id="D3", block_id="A", amount="5.01", currency="USD"),
        "data.amount",
    ),
    (errors.NothingOwed, pay_back(amount="1.01"), "data.amount"),
    (
        errors.CannotBeOpened,
        event("x", "balance.opened", role="accounts_receivable", block_id="A", amount="1.00", currency="USD"),
        "data.block_id",
    ),
    (
        errors.ExceedsOverage,
        event("x", "overage.billed", invoice_id="I7", amount="0.11", currency="USD"),
        "data.amount",
    ),
    (errors.UnknownCohort, estimate(cohort="2026-01", cohorts="year", expected_breakage_rate="0.1"), "data.cohort"),
    (errors.UnknownCohort, estimate(pool="e", cohort="2062-01", expected_breakage_rate="0.1"), "data.cohort"),
    (errors.CohortsFixed, estimate(pool="e", cohorts="year", expected_breakage_rate="0.1"), "data.cohorts"),
    (errors.EstimateTooLow, estimate(pool="e", expected_breakage_rate="0.1"), "data.expected_breakage_rate"),
    (errors.EstimateTooHigh, estimate(expected_breakage_rate="1"), "data.expected_breakage_rate"),
    (errors.EstimateTooHigh, estimate(expected_breakage="5.00"), "data.expected_breakage"),
    (
        errors.WrongCurrency,
        event("x", "exchange_rate.set", "-", base="EUR", quote="GBP", rate="1", rate_source="s"),
        "data.quote",
    ),
    (errors.EventConflict, event("u1", "credits.consumed", credits="5"), "data.credits"),
]


@pytest.mark.parametrize(
    ("error", "document", "field"), [pytest.param(*row, id=f"{row[0].code}-{n}") for n, row in enumerate(REFUSALS)]
)
def test_a_refused_event_says_why_and_leaves_no_trace(
    error: type[SubledgerError], document: Any, field: str, service: Subledger, ledger: str
) -> None:
    with service.database.read() as connection:
        before = ledger_head(connection, ledger)
    [outcome] = service.record(ledger, [document])
    assert type(outcome.error) is error, outcome
    assert outcome.error.field == field
    assert outcome.error.expected
    assert (outcome.status, outcome.event_id) == ("rejected", document["id"])
    with service.database.read() as connection:
        assert ledger_head(connection, ledger) == before


def test_what_is_wrong_first_in_the_documented_order_is_what_is_told(service: Subledger, ledger: str) -> None:
    """References, then currency, then amounts and credits."""
    attempts = [
        pay(customer="bob", block_id="Z", invoice_id="I9", currency="EUR"),
        pay(customer="bob", block_id="A", invoice_id="I9", currency="EUR"),
        pay(customer="ann", block_id="A", invoice_id="I9", currency="EUR"),
        pay(customer="ann", block_id="A", invoice_id="I1", currency="EUR"),
    ]
    outcomes = service.record(ledger, attempts)
    assert [outcome.error.code if outcome.error else None for outcome in outcomes] == [
        "unknown_block",
        "block_of_another_customer",
        "unknown_invoice",
        "wrong_currency",
    ]


# --- other calls ------------------------------------------------------------------------


def _known_tomorrow(service: Subledger, ledger: str) -> None:
    with service.view(ledger, known_at=datetime.now(UTC) + timedelta(days=1)):
        pass


def _nobodys_balances(service: Subledger, ledger: str) -> None:
    with service.view(ledger) as view:
        balances.customer_balances(view, "nobody")


def _position_never_reached(service: Subledger, ledger: str) -> None:
    with service.database.read() as connection:
        event_at(connection, ledger, 10**6)


def _database_that_is_not_there(_service: Subledger, _ledger: str) -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/none")
    try:
        with database.read():
            pass
    finally:
        database.close()


def _ledger_that_another_holds(service: Subledger, ledger: str) -> None:
    database = Database(service.database.url, timeouts=Timeouts(lock_timeout_s=0.01))
    try:
        with held(service.database.url, ledger):
            Subledger(database).record(ledger, [use()])
    finally:
        database.close()


def _waiting(service: Subledger) -> tuple[str, Any, str]:
    """Returns a ledger in which ann requested a grant, the event, and the approval for which it waits."""
    ledger = f"asking-{uuid.uuid4().hex[:8]}"
    approvals = Approvals.model_validate({"grant_credits_above": "1"})
    service.create_ledger(ledger, LedgerSettings(currency="USD", approvals=approvals))
    document = event("g", "credits.granted", block_id="G", credits="2", reason="promotional")
    [outcome] = service.record(ledger, [document], by="ann")
    assert outcome.approval_id is not None
    return ledger, document, outcome.approval_id


def _own_approval(service: Subledger, _ledger: str) -> None:
    ledger, _, approval = _waiting(service)
    service.recorder.decide_approval(ledger, approval, by="ann", allow=True)


def _approval_by_nobody(service: Subledger, _ledger: str) -> None:
    ledger, _, approval = _waiting(service)
    service.recorder.decide_approval(ledger, approval, by="Nobody", allow=True)


def _approval_of_a_request_by_nobody(service: Subledger, _ledger: str) -> None:
    ledger, _, approval = _waiting(service)
    with service.database.write() as connection:  # as stored before names were required
        connection.execute(
            "INSERT INTO approvals (ledger, approval_id, reason, source, event_id, type, customer, occurred_at, data,"
            " attributes, maker, requested_at, state) SELECT ledger, 'apr-old', reason, source, 'old', type, customer,"
            " occurred_at, data, attributes, 'nobody', requested_at, state FROM approvals WHERE approval_id = %s",
            (approval,),
        )
    service.recorder.decide_approval(ledger, "apr-old", by="ann", allow=True)


def _request_by_nobody(service: Subledger, _ledger: str) -> None:
    ledger, document, _ = _waiting(service)
    [outcome] = service.record(ledger, [{**document, "id": "by-nobody"}])
    assert outcome.error is not None
    raise outcome.error


def _approved_twice(service: Subledger, _ledger: str) -> None:
    ledger, _, approval = _waiting(service)
    for _ in range(2):
        service.recorder.decide_approval(ledger, approval, by="bob", allow=True)


def _settings_changed_since(service: Subledger, _ledger: str) -> None:
    ledger, _, _ = _waiting(service)
    changes = [SettingsChange(approvals={name: True}) for name in ("voids", "reopening")]
    waiting = [service.configure_ledger(ledger, change, by="ann").approval_id for change in changes]
    for approval in waiting:
        outcome = service.recorder.decide_approval(ledger, approval or "", by="bob", allow=True)
    assert outcome.error is not None
    raise outcome.error


def _one_reservation_too_many(service: Subledger, _ledger: str) -> None:
    ledger = f"holding-{uuid.uuid4().hex[:8]}"
    service.create_ledger(ledger, LedgerSettings(currency="USD"))
    reservations = [reserve(f"R{number}") for number in range(MOST_OPEN + 1)]
    *outcomes, last = service.record(ledger, [buy("R", credits="2000", unit="reserved"), *reservations])
    assert {outcome.status for outcome in outcomes} == {"recorded"}
    assert last.error is not None
    raise last.error


def _refused_and_sent_again(service: Subledger, _ledger: str) -> None:
    ledger, document, approval = _waiting(service)
    service.recorder.decide_approval(ledger, approval, by="bob", allow=False)
    [outcome] = service.record(ledger, [document], by="ann")
    assert outcome.error is not None
    raise outcome.error


SOUND = (AccountPair("accounts_receivable", "cash"), AccountPair("cash", "tax_payable"))


def _policy(**rules: tuple[AccountPair, ...]) -> Policy:
    """Returns a shipped policy with another rule for some kind, under the shipped name and version."""
    shipped = shipped_policy("customer_deposits")
    return msgspec.structs.replace(shipped, rules={**shipped.rules, **rules})


def _policy_never_adopted(service: Subledger, ledger: str) -> None:
    with service.database.read() as connection:
        adopted_policy(connection, ledger, 9)


def _closed_at_an_old_rate(service: Subledger, ledger: str) -> None:
    own, euro = f"{ledger}-euro", {"currency": "EUR", "price": "5.00"}
    service.create_ledger(own, LedgerSettings(currency="USD"))
    service.record(own, [rate("2026-01-02", "1.10"), purchase("E", "5", "ann", "2026-01-03", **euro)])
    close_period(service.recorder, own, JANUARY)


CALLS: list[tuple[type[SubledgerError], Callable[[Subledger, str], object]]] = [
    (errors.UnknownLedger, lambda service, _: service.record("no-such-ledger", [use()])),
    (errors.UnknownLedger, lambda service, _: service.view("no-such-ledger").__enter__()),
    (errors.UnknownCustomer, _nobodys_balances),
    (errors.UnknownPosition, _position_never_reached),
    (errors.KnownAtInFuture, _known_tomorrow),
    (
        errors.UnknownApproval,
        lambda service, ledger: service.recorder.decide_approval(ledger, "apr-none", by="bob", allow=True),
    ),
    (errors.SamePerson, _own_approval),
    (errors.SamePerson, _approval_of_a_request_by_nobody),
    (errors.PersonRequired, _approval_by_nobody),
    (errors.PersonRequired, _request_by_nobody),
    (errors.ApprovalDecided, _approved_twice),
    (errors.EffectChanged, _settings_changed_since),
    (errors.ApprovalRefused, _refused_and_sent_again),
    (errors.TooManyReservations, _one_reservation_too_many),
    (errors.LedgerExists, lambda service, ledger: service.create_ledger(ledger, LedgerSettings(currency="EUR"))),
    (errors.UnknownCurrency, lambda service, _: service.create_ledger("new", LedgerSettings(currency="XXX"))),
    (errors.InvalidValue, lambda service, _: service.create_ledger("../new", LedgerSettings(currency="USD"))),
    (errors.InvalidValue, lambda service, _: service.create_ledger("n", LedgerSettings(currency="USD", timezone="x"))),
    (errors.InvalidPolicy, lambda _service, _ledger: shipped_policy("mine")),
    (errors.InvalidPolicy, lambda service, ledger: service.adopt_policy(ledger, _policy(payout=()))),
    (errors.PolicyExists, lambda service, ledger: service.adopt_policy(ledger, _policy(overage_tax=SOUND))),
    (errors.UnknownPolicy, _policy_never_adopted),
    (errors.SettingFixed, lambda service, ledger: service.configure_ledger(ledger, SettingsChange(currency="EUR"))),
    (errors.InvalidValue, lambda service, ledger: service.configure_ledger(ledger, SettingsChange(late_usage="x"))),
    (errors.InvalidCursor, lambda _service, _ledger: decode_cursor("not-ours", (str,))),
    (errors.InvalidMapping, lambda _service, _ledger: parse_mapping("role,account\n")),
    (errors.PeriodOutOfOrder, lambda service, ledger: close_period(service.recorder, ledger, MARCH)),
    (errors.ExchangeRateStale, _closed_at_an_old_rate),
    (errors.PeriodNotOver, lambda service, ledger: close_period(service.recorder, ledger, Period(2162, 1))),
    (errors.InTheFuture, lambda service, ledger: service.expire(ledger, date(2162, 1, 1))),
    (errors.SettingFixed, lambda service, ledger: service.configure_ledger(ledger, SettingsChange(sandbox=True))),
    (errors.SettingFixed, lambda service, ledger: set_clock(service.recorder, ledger, datetime.now(UTC))),
    (errors.PeriodNotClosed, lambda service, ledger: reopen_period(service.recorder, ledger, JANUARY, "r")),
    (errors.UnknownFormat, lambda service, ledger: export(service.recorder, service.database, ledger, JANUARY, "xls")),
    (errors.DatabaseUnavailable, _database_that_is_not_there),
    (errors.LedgerLocked, _ledger_that_another_holds),
    (errors.InvalidInput, lambda _service, _ledger: Database("mysql://localhost/books")),
]


@pytest.mark.parametrize(
    ("error", "call"), [pytest.param(*row, id=f"{row[0].code}-{n}") for n, row in enumerate(CALLS)]
)
def test_a_call_that_cannot_be_answered_says_why(
    error: type[SubledgerError], call: Callable[[Subledger, str], object], service: Subledger, ledger: str
) -> None:
    with pytest.raises(SubledgerError) as caught:
        call(service, ledger)
    assert type(caught.value) is error, caught.value
    assert caught.value.retryable == error.retryable


# Errors that need more than one line to trigger → the file of the test that triggers them.
ELSEWHERE: dict[type[SubledgerError], str] = {
    errors.UnknownRejection: "tests/store/test_rejections.py",
    errors.RejectionSettled: "tests/store/test_rejections.py",
    errors.RejectionCut: "tests/store/test_rejections.py",
    errors.RejectionsChanged: "tests/http/test_rejected_many.py",
    errors.UnmappedRole: "tests/store/test_mapping.py",
    errors.CheckpointConflict: "tests/http/test_checkpoints.py",
    errors.UnknownCheckpoint: "tests/http/test_checkpoints.py",
    errors.UnsafeHome: "tests/store/test_private_home.py",
    errors.ClockBackwards: "tests/store/test_sandbox.py",
    errors.SandboxLedger: "tests/store/test_sandbox.py",
    errors.UnknownExport: "tests/store/test_exports.py",
    errors.IntegrityFault: "tests/store/test_close.py",
    errors.NotSupportedYet: "tests/store/test_exports.py",
    errors.NotRepresentable: "tests/golden/test_documents.py",
    errors.UnknownTarget: "tests/store/test_general_ledgers.py",
    errors.UnknownChannel: "tests/general_ledgers/test_channels.py",
    errors.ChannelFixed: "tests/general_ledgers/test_channels.py",
    errors.CredentialNotGranted: "tests/general_ledgers/test_channel_borders.py",
    errors.UnknownConnector: "tests/general_ledgers/test_channels.py",
    errors.NotAnswered: "tests/general_ledgers/test_tying.py",
    errors.UnknownDelivery: "tests/general_ledgers/test_channels.py",
    errors.JournalNotReversible: "tests/store/test_reversing.py",
    errors.NothingToCorrect: "tests/store/test_reversing.py",
    errors.DeliveryInHand: "tests/general_ledgers/test_delivery.py",
    errors.DeliveredOtherwise: "tests/general_ledgers/test_delivery.py",
    errors.EmbeddedServerFailed: "tests/store/test_embedded.py",
    errors.FileUnavailable: "tests/http/test_faults.py",
    errors.LedgerBusy: "tests/store/test_gathering.py",
    errors.Overloaded: "tests/store/test_gathering.py",
    errors.Stopping: "tests/store/test_gathering.py",
    errors.UnknownEntity: "tests/http/test_joint_reports.py",
    errors.TooLarge: "tests/http/test_bounds.py",
    errors.RequestTimedOut: "tests/http/test_bounds.py",
    errors.UnknownParameter: "tests/http/test_bounds.py",
    errors.RepeatedParameter: "tests/http/test_bounds.py",
    errors.UnsupportedMediaType: "tests/http/test_bounds.py",
    errors.MethodNotAllowed: "tests/http/test_bounds.py",
    errors.InternalError: "tests/http/test_bounds.py",
    errors.InvalidRequest: "tests/http/test_protocol.py",
    errors.UrlTooLong: "tests/http/test_protocol.py",
    errors.HeadersTooLarge: "tests/http/test_protocol.py",
    errors.TooManyConnections: "tests/http/test_protocol.py",
    errors.NotAuthenticated: "tests/http/test_access.py",
    errors.NotAllowed: "tests/http/test_access.py",
    errors.CrossSite: "tests/http/test_cross_site.py",
    errors.SchemaOutOfDate: "tests/http/test_faults.py",
    errors.UnknownReport: "tests/http/test_report_shapes.py",
    errors.NotACheckout: "tests/benchmarks/test_bench_runs.py",
    errors.KeyExpired: "tests/http/test_keys.py",
    errors.KeyRevoked: "tests/http/test_keys.py",
    errors.KeyEnded: "tests/http/test_keys.py",
    errors.UnknownKey: "tests/http/test_keys.py",
    errors.CitusMissing: "tests/store/test_distribution.py",
    errors.DistributedOtherwise: "tests/store/test_distribution.py",
}


# --- the tree itself --------------------------------------------------------------------------------------------


def test_every_error_is_triggered_by_a_test() -> None:
    shown = {error for error, *_ in (*FAULTS, *REFUSALS, *CALLS)} | set(ELSEWHERE)
    assert [error.__name__ for error in all_errors() if error not in shown and error not in GROUPS] == []


@pytest.mark.parametrize(("error", "path"), [pytest.param(*row, id=row[0].code) for row in ELSEWHERE.items()])
def test_what_is_said_to_be_triggered_elsewhere_is(error: type[SubledgerError], path: str) -> None:
    text = (ROOT / path).read_text("utf-8")
    assert f"pytest.raises({error.__name__}" in text or f'"{error.code}"' in text


def test_codes_are_the_names_and_each_stands_for_one_error() -> None:
    codes = {error.code: error for error in all_errors()}
    assert len(codes) == len(all_errors())
    for code, error in codes.items():
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", error.__name__).lower()
        assert code == name.removeprefix("subledger_")


def test_the_tree_that_is_drawn_is_the_tree() -> None:
    drawn: list[tuple[str, str]] = []
    above = ["SubledgerError"]
    for line in (errors.__doc__ or "").splitlines():
        if not (part := re.fullmatch(r"    ((?:│   |    )*)[├└]── ((?:[A-Z]\w+ *)+)(?:[a-z].*)?", line)):
            continue
        depth, names = len(part[1]) // 4 + 1, part[2].split()
        drawn += [(name, above[depth - 1]) for name in names]
        above[depth:] = [names[-1]]
    assert sorted(drawn) == sorted((error.__name__, error.__bases__[0].__name__) for error in all_errors()[1:])


def test_every_error_is_in_the_module_of_its_branch_and_imported_from_the_one_package() -> None:
    for error in all_errors():
        assert getattr(errors, error.__name__) is error
        branches = [above for above in GROUPS[1:] if issubclass(error, above)]
        module = re.sub(r"(?<!^)(?=[A-Z])", "_", branches[0].__name__).lower() if branches else None
        assert error.__module__ in ([f"subledger.errors.{module}"] if module else [root.__name__, fault.__name__])


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.code)
def test_every_error_makes_a_problem_document_of_the_same_shape(error: type[SubledgerError]) -> None:
    document = error("what happened", field="data.x", expected="this", found="that", position=7).as_document()
    assert orjson.loads(orjson.dumps(document)) == document
    assert document == {
        "type": f"urn:subledger:error:{error.code}",
        "title": error("").title,
        "code": error.code,
        "detail": "what happened",
        "retryable": error.retryable,
        "field": "data.x",
        "expected": "this",
        "found": "that",
        "position": 7,
    }
    assert document["title"].endswith(".")
