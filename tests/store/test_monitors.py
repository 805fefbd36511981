"""Monitors of a ledger without deliveries: each rings on its fault, names it, and is silent after the repair."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import psycopg
import pytest

from api.service import Subledger
from projections import integrity
from projections.integrity import Difference
from projections.monitors import Monitor, blocks, check, look, mismatch, payments
from projections.monitors.settings import MonitorSettings, read_settings, set_settings, settings_of
from subledger.errors import InvalidInput, UnknownLedger
from subledger.posting import shipped_policy
from subledger.store.rejected.keeper import Bounds
from subledger.store.writing.expiry_sweep import sweep
from tests.building import cloud_event, payment, purchase, recorded, usage
from tests.store.tampering import LEDGER, tamper

NewLedger = Callable[..., str]
Own = tuple[Subledger, str]


def looked(service: Subledger, ledger: str, name: str, now: datetime | None = None, **later: float) -> Monitor:
    """Returns a monitor as it is some time from now."""
    return check(service.database, ledger, (now or datetime.now(UTC)) + timedelta(**later)).named(name)


buy = partial(purchase, customer="c1", time="2026-01-05", price="10.00", expires_at="2026-03-01T00:00:00Z")


use = partial(usage, customer="c1", time="2026-01-20", credits="10")


pay = partial(payment, time="2026-01-07")


# --- payments -------------------------------------------------------------------------------------------------------


def test_a_payment_rings_four_hours_after_it_was_recorded_until_it_is_applied(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    recorded(service, ledger, buy("b1"), pay("p1", "7.00", "c1", payment_id="pay-1"))
    assert looked(service, ledger, "unapplied_payments", hours=3, minutes=59).value == 0
    rings = looked(service, ledger, "unapplied_payments", hours=4, minutes=1)
    assert (rings.value, rings.rings, rings.evidence["amounts"]) == (1, True, {"USD": "7.00"})
    [shown] = rings.evidence["oldest"]
    assert (shown["event"], shown["customer"], shown["amount"]) == ("p1", "c1", "7.00")
    apply = {"payment_id": "pay-1", "block_id": "b1", "amount": "7.00", "currency": "USD"}
    recorded(service, ledger, cloud_event("a1", "payment.applied", "c1", "2026-01-08T00:00:00Z", **apply))
    assert looked(service, ledger, "unapplied_payments", hours=5).value == 0


def test_what_is_applied_is_what_came_in_first_and_recent_payments_are_not_late(
    service: Subledger, new_ledger: NewLedger, owner_url: str
) -> None:
    ledger = new_ledger()
    recorded(service, ledger, buy("b1"), pay("p1", "7.00", "c1", payment_id="pay-1"), pay("p2", "2.50", "c2"))
    with psycopg.connect(owner_url) as connection:  # so that some are old by the real clock
        connection.execute("SET session_replication_role = replica")
        connection.execute("ALTER TABLE batches DISABLE TRIGGER ALL")
        connection.execute(
            "UPDATE batches SET recorded_at = recorded_at - interval '1 day' WHERE ledger = %s", (ledger,)
        )
        for trigger in ("append_only", "never_truncated"):
            connection.execute(f"ALTER TABLE batches ENABLE ALWAYS TRIGGER {trigger}")
    recorded(service, ledger, pay("p3", "4.00", "c1"), pay("p4", "1.00", "c3"))
    found = looked(service, ledger, "unapplied_payments")
    assert (found.value, found.evidence["amounts"]) == (2, {"USD": "9.50"})
    assert [shown["event"] for shown in found.evidence["oldest"]] == ["p1", "p2"]
    apply = {"payment_id": "pay-1", "block_id": "b1", "amount": "6.00", "currency": "USD"}
    recorded(service, ledger, cloud_event("a1", "payment.applied", "c1", "2026-01-08T00:00:00Z", **apply))
    found = looked(service, ledger, "unapplied_payments")
    assert (found.value, found.evidence["amounts"]) == (2, {"USD": "3.50"})
    assert [shown["amount"] for shown in found.evidence["oldest"]] == ["1.00", "2.50"]
    back = {"amount": "5.00", "currency": "USD"}
    recorded(service, ledger, cloud_event("r1", "payment.refunded", "c1", "2026-01-09T00:00:00Z", **back))
    found = looked(service, ledger, "unapplied_payments")
    assert (found.value, found.evidence["amounts"]) == (1, {"USD": "2.50"}), "nothing of the first customer is left"
    assert looked(service, ledger, "unapplied_payments", hours=5).value == 2


def test_amounts_are_exact_and_payments_found_in_pages_as_far_as_is_looked(
    service: Subledger, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = new_ledger()
    rate = {"base": "EUR", "quote": "USD", "rate": "1.2", "rate_source": "test"}
    recorded(service, ledger, cloud_event("fx", "exchange_rate.set", None, "2026-01-01T00:00:00Z", **rate))
    for number in range(7):
        recorded(service, ledger, pay(f"p{number}", "1.00", f"c{number % 3}", currency="EUR" if number % 2 else "USD"))
    monkeypatch.setattr(payments, "_PAGE", 2)
    all_of_it = looked(service, ledger, "unapplied_payments", hours=5)
    assert (all_of_it.value, all_of_it.evidence["all_found"]) == (7, True)
    monkeypatch.setattr(payments, "_LOOKED_AT", 4)
    some = looked(service, ledger, "unapplied_payments", hours=5)
    assert some.evidence["amounts"] == all_of_it.evidence["amounts"] == {"EUR": "3.00", "USD": "4.00"}
    assert (some.value, some.evidence["all_found"], some.rings) == (5, False, True)


# --- blocks ---------------------------------------------------------------------------------------------------------


def test_a_cohort_that_breaks_otherwise_than_estimated_rings_until_somebody_estimates_anew(
    service: Subledger, new_ledger: NewLedger
) -> None:
    """The estimate is 20 % of January's 100.00, but 40 expire. It is 20 % of February's, but 85 are used, so at most 15
    can expire.
    """
    ledger = new_ledger()
    pooled = {"pool": "gc", "price": "100.00", "credits": "100"}

    def estimate(name: str, day: str, rate: str) -> dict[str, Any]:
        data = {"pool": "gc", "expected_breakage_rate": rate, "currency": "USD", "evidence": "a study"}
        return cloud_event(name, "breakage.estimated", None, f"{day}T00:00:00Z", **data)

    recorded(
        service,
        ledger,
        estimate("e1", "2026-01-01", "0.2"),
        buy("jan", **pooled),
        purchase("feb", customer="c2", time="2026-02-05", **pooled),
        use("u1", credits="60"),
        usage("u2", "80", "c2", "2026-02-20T00:00:00Z"),
    )
    quiet = looked(service, ledger, "breakage_estimates")
    assert (quiet.value, quiet.unit, quiet.threshold, quiet.rings) == (0, "percent", 5, False)
    recorded(service, ledger, usage("u3", "5", "c2", "2026-02-21T00:00:00Z"))
    assert (looked(service, ledger, "breakage_estimates").value, quiet.next) == (5, None)
    sweep(service.recorder, ledger, datetime(2026, 3, 2, tzinfo=UTC))
    rings = looked(service, ledger, "breakage_estimates")
    assert (rings.value, rings.rings, rings.next) == (20, True, f"subledger report pools --ledger {ledger}")
    first, second = rings.evidence["cohorts"]
    assert (first["cohort"], first["expected"], first["at_least"], first["at_most"]) == (
        "2026-01", "20.00", "40.00", "40.00",
    )  # fmt: skip
    assert (second["cohort"], second["at_least"], second["at_most"], second["difference_percent"]) == (
        "2026-02", "0.00", "15.00", 5.0,
    )  # fmt: skip
    # January has ended and was reviewed. February's estimate is 12 %, which is still possible.
    recorded(service, ledger, estimate("e2", "2026-03-05", "0.12"))
    assert looked(service, ledger, "breakage_estimates").value == 0


@pytest.mark.parametrize(("expires", "difference"), [("2026-03-01", 6.67), ("2027-03-01", 0)])
def test_blocks_that_are_past_their_expiry_are_compared_with_the_estimate_of_their_cohort(
    service: Subledger, new_ledger: NewLedger, expires: str, difference: float
) -> None:
    """The estimate is 20 % of 150.00, so 10.00 of A's 50.00. A is used up: nothing broke, which is 10.00 of 150.00 less
    than expected.

    Before A's expiry this does not count, because blocks that are used up finish earlier than blocks that expire.
    """
    ledger = new_ledger()
    pooled = {"pool": "gc", "time": "2026-01-05"}
    data = {"pool": "gc", "expected_breakage_rate": "0.2", "currency": "USD", "evidence": "a study"}
    recorded(
        service,
        ledger,
        purchase("A", "50", "c1", price="50.00", expires_at=f"{expires}T00:00:00Z", **pooled),
        purchase("B", "100", "c2", price="100.00", expires_at=None, **pooled),
        cloud_event("e1", "breakage.estimated", None, "2026-01-06T00:00:00Z", **data),
        usage("u1", "50", "c1", "2026-02-01T00:00:00Z"),
    )
    found = looked(service, ledger, "breakage_estimates")
    assert (found.value, found.rings) == (difference, difference > 5)
    if difference:
        [shown] = found.evidence["cohorts"]
        assert (shown["finished"], shown["finished_expired"], shown["expected"]) == ("50.00", "0.00", "30.00")


def test_a_block_whose_expiry_is_not_recorded_in_time_rings_until_the_sweep(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    recorded(
        service,
        ledger,
        buy("b1"),
        buy("b2", customer="c2", expires_at="2026-03-02T00:00:00Z"),
        buy("b3", customer="c3", expires_at=None),
    )
    due = datetime(2026, 3, 1, tzinfo=UTC)
    assert looked(service, ledger, "expiry_sweep", due, hours=24).value == 0
    rings = looked(service, ledger, "expiry_sweep", due, hours=25)
    assert (rings.value, rings.rings, rings.evidence["oldest"][0]["block"]) == (1, True, "b1")
    assert rings.next == f"subledger expire --through 2026-03-02 --ledger {ledger}"
    assert looked(service, ledger, "expiry_sweep", due, days=3).value == 2
    set_settings(service.database, ledger, {"expiry_overdue_s": None}, by="test")
    assert not looked(service, ledger, "expiry_sweep", due, days=3).rings
    set_settings(service.database, ledger, {}, by="test")
    service.expire(ledger, date(2026, 3, 2))
    assert looked(service, ledger, "expiry_sweep", due, days=3).value == 0


@pytest.mark.campaign
def test_a_finished_block_that_stands_at_something_rings(own: Own) -> None:
    service, url = own
    assert looked(service, LEDGER, "clearing").value == 0
    with service.database.read() as connection:
        [(block, customer)] = connection.exec_driver_sql(
            "SELECT block_id, customer FROM blocks WHERE NOT is_open ORDER BY block_id LIMIT 1"
        ).all()
        [(position,)] = connection.exec_driver_sql("SELECT position FROM ledgers").all()
    tamper(
        url,
        "entries",
        "INSERT INTO entries SELECT ledger, position, number + 50, policy, kind, customer, block_id, unit, credits, 7,"
        " currency, 7, accounting_date, effective_date, cut, dimension_set FROM entries"
        f" WHERE block_id = '{block}' AND kind = 'purchase' LIMIT 1",
    )
    assert looked(service, LEDGER, "clearing").value == 0, "what was looked at is a verification's"
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM cleared_blocks")
    rings = looked(service, LEDGER, "clearing")
    assert (rings.value, rings.rings) == (1, True)
    [shown] = rings.evidence["blocks"]
    assert (shown["block"], shown["customer"]) == (block, customer)
    assert {shown[name] for name in ("prepaid_liability", "customer_deposits", "credits_clearing")} == {"0.07"}
    assert rings.next == f"subledger history --block {block} --ledger {LEDGER}"
    assert rings.evidence["looked_through"] == position
    set_settings(service.database, LEDGER, {"uncleared_blocks": 1}, by="test")
    assert not looked(service, LEDGER, "clearing").rings


def test_blocks_bought_before_the_ledger_went_to_the_deposit_pair_ring_when_they_finish(
    service: Subledger, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = new_ledger(policy="contract_liability")
    recorded(service, ledger, buy("b1"), buy("b2", customer="c2"))
    service.adopt_policy(ledger, shipped_policy("customer_deposits"))
    recorded(service, ledger, use("u1", credits="4"))
    assert looked(service, ledger, "clearing").value == 0, "it is not finished"
    recorded(service, ledger, use("u2", credits="6"), use("u3", customer="c2", credits="9"))
    assert [shown["block"] for shown in looked(service, ledger, "clearing").evidence["blocks"]] == ["b1"]
    # A block with a balance is checked again, although it has no new events.
    recorded(service, ledger, buy("b3", customer="c3"), use("u4", customer="c2", credits="1"))
    assert [shown["block"] for shown in looked(service, ledger, "clearing").evidence["blocks"]] == ["b1", "b2"]
    with psycopg.connect(service.database.url) as connection:
        connection.execute("DELETE FROM cleared_blocks WHERE ledger = %s", (ledger,))
    monkeypatch.setattr(blocks, "AT_ONCE", 3)
    seen = []
    for _ in range(10):
        found = looked(service, ledger, "clearing")
        seen.append((found.evidence["looked_through"], found.value))
        if found.evidence["looked_through"] == found.evidence["of"]:
            break
    assert [through for through, _ in seen] == [*range(3, seen[-1][0], 3), seen[-1][0]]
    assert seen[-1][1] == 2, "caught up with, look by look"


def test_looking_for_metrics_writes_nothing(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    recorded(service, ledger, buy("b1"), use("u1"))
    assert look(service.database, ledger, datetime.now(UTC)).report.named("clearing").value == 0
    with service.database.read() as connection:
        assert connection.exec_driver_sql(f"SELECT FROM cleared_blocks WHERE ledger = '{ledger}'").all() == []
    check(service.database, ledger, datetime.now(UTC))
    with service.database.read() as connection:
        [written] = connection.exec_driver_sql(f"SELECT xmin FROM cleared_blocks WHERE ledger = '{ledger}'").all()
    check(service.database, ledger, datetime.now(UTC))
    with service.database.read() as connection:
        [still] = connection.exec_driver_sql(f"SELECT xmin FROM cleared_blocks WHERE ledger = '{ledger}'").all()
    assert still == written, "nor does a look that finds nothing new"


# --- the end of the log -----------------------------------------------------------------------------------------------


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("table", "statement", "said"),
    [
        ("ledgers", "UPDATE ledgers SET batch_hash = sha256('x')", "batch_hash of the ledger"),
        ("ledgers", "UPDATE ledgers SET position = position - 1, wallets_through = 0", "position of the ledger"),
        ("ledgers", "UPDATE ledgers SET frontier = sha256('x')", "the hash tree of the ledger's head"),
        ("batches", "UPDATE batches SET root = sha256('x') WHERE last_position > 8", "the hash of the batch"),
        ("batches", "UPDATE batches SET hash = sha256('x') WHERE first_position = 1", "does not follow"),
        ("batches", "DELETE FROM batches WHERE first_position = 1", "does not follow"),
        ("events", "DELETE FROM events WHERE position = 20", "events from position 1 to"),
        ("entries", "UPDATE entries SET amount_minor = amount_minor + 1 WHERE position = 9", "the totals of"),
        ("ledger_days", "UPDATE ledger_days SET entries = entries + 1", "the totals of"),
        ("ledger_days", "DELETE FROM ledger_days WHERE kind = 'consumption'", "the totals of consumption"),
    ],
)
def test_what_does_not_hold_together_at_the_end_rings_and_says_where(
    own: Own, table: str, statement: str, said: str
) -> None:
    service, url = own
    assert looked(service, LEDGER, "mismatch").value == 0
    if table in ("batches", "events", "entries"):
        tamper(url, table, statement)
    else:
        with psycopg.connect(url) as connection:
            assert connection.execute(statement).rowcount > 0
    rings = looked(service, LEDGER, "mismatch")
    assert rings.rings
    assert any(said in fault for fault in rings.evidence["faults"]), rings.evidence
    assert rings.next == f"subledger verify --ledger {LEDGER}"


def test_a_long_chain_and_a_busy_day_are_checked_as_far_as_is_cheap(
    service: Subledger, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = new_ledger()
    assert looked(service, ledger, "mismatch").evidence["batches_checked"] == 1
    for number in range(5):
        recorded(service, ledger, buy(f"b{number}"))
    monkeypatch.setattr(mismatch, "_BATCHES", 3)
    monkeypatch.setattr(mismatch, "_POSITIONS", 2)
    found = looked(service, ledger, "mismatch")
    assert (found.value, found.evidence["batches_checked"]) == (0, 3)
    assert found.evidence["totals_checked"] is not None
    monkeypatch.setattr(mismatch, "_OF_A_DAY", 3)
    assert looked(service, ledger, "mismatch").evidence["totals_checked"] is None


def test_a_verification_that_found_something_rings_until_a_later_one_is_clean(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger, at = new_ledger(), datetime.now(UTC)
    clean = integrity.verify(service.database, ledger)
    dirty = integrity.VerificationReport(
        ledger=ledger, events=3, entries=0, differences=[Difference(check="chain", message="it does not hold")]
    )
    assert looked(service, ledger, "mismatch").evidence["verification"] is None
    mismatch.keep_verified(service.database, clean, at=at)
    assert not looked(service, ledger, "mismatch").rings
    mismatch.keep_verified(service.database, dirty, at=at + timedelta(minutes=1))
    rings = looked(service, ledger, "mismatch")
    assert rings.rings
    assert "found 1 differences" in rings.evidence["faults"][0]
    mismatch.keep_verified(service.database, clean, at=at)
    assert looked(service, ledger, "mismatch").rings, "an older one says nothing about a later one"
    mismatch.keep_verified(service.database, clean, at=at + timedelta(minutes=2))
    assert not looked(service, ledger, "mismatch").rings


def test_a_clean_verification_that_is_too_long_ago_rings_where_that_is_set(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    assert not looked(service, ledger, "mismatch", days=1_000).rings
    set_settings(service.database, ledger, {"verified_within_s": 86_400}, by="test")
    assert looked(service, ledger, "mismatch").evidence["faults"] == ["the ledger was never verified"]
    mismatch.keep_verified(service.database, integrity.verify(service.database, ledger), at=datetime.now(UTC))
    assert not looked(service, ledger, "mismatch", hours=23).rings
    assert looked(service, ledger, "mismatch", hours=25).rings


# --- thresholds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"colour": 1}, "colour"),
        ({"dead_letters": -1}, "dead_letters"),
        ({"dead_letters": 1.5}, "dead_letters"),
        ({"dead_letters": "ten"}, "dead_letters"),
        ({"delivery_success_percent": 101}, "delivery_success_percent"),
        ({"delivery_success_percent": float("nan")}, "delivery_success_percent"),
        ({"unapplied_after_s": 1e300}, "unapplied_after_s"),
        ({"window_days": 0}, "window_days"),
        ({"window_days": "off"}, "window_days"),
        ({"webhook": "http://example.com/hook", "webhook_secret": "env:S"}, "webhook"),
        ({"webhook": "https://u:p@example.com/hook", "webhook_secret": "env:S"}, "webhook"),
        ({"webhook": "https://u@example.com/hook", "webhook_secret": "env:S"}, "webhook"),
        ({"webhook": "https://example.com/hook"}, "webhook_secret"),
        ({"webhook": "https://example.com/hook", "webhook_secret": "whsec_abc"}, "webhook_secret"),
    ],
)
def test_what_could_be_no_threshold_is_refused_naming_it(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_settings(given)
    assert refused.value.field == field


def test_thresholds_are_as_they_were_set_and_the_rest_as_they_ship(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    made = set_settings(service.database, ledger, {"dead_letters": 3, "unapplied_after_s": "off"}, by="test")
    assert made == MonitorSettings(dead_letters=3, unapplied_after_s=None)
    with service.database.read() as connection:
        assert settings_of(connection, ledger) == made
    set_settings(service.database, ledger, {}, by="test")
    with service.database.read() as connection:
        assert settings_of(connection, ledger) == MonitorSettings()
        assert settings_of(connection, new_ledger()) == MonitorSettings()


def test_a_ledger_that_there_is_not_has_no_monitors(service: Subledger) -> None:
    with pytest.raises(UnknownLedger):
        check(service.database, "nowhere", datetime.now(UTC))


# --- rejected events ------------------------------------------------------------------------------------------------


def test_a_rejection_rings_a_day_after_it_was_refused_until_it_is_settled(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    faulty = {**pay("p1", "7.00", "c1"), "data": {"amount": 7, "currency": "USD"}}
    [refused] = service.record(ledger, [faulty])
    assert looked(service, ledger, "rejected", hours=23).value == 0
    rings = looked(service, ledger, "rejected", hours=25)
    assert (rings.value, rings.rings, rings.next) == (1, True, f"subledger rejected counts --ledger {ledger}")
    assert rings.evidence["open"]["amounts"] == {"USD": "7.00"}
    set_settings(service.database, ledger, {"rejected_events": 1}, by="test")
    assert not looked(service, ledger, "rejected", hours=25).rings
    set_settings(service.database, ledger, {"rejected_after_s": "off"}, by="test")
    assert not looked(service, ledger, "rejected", days=99).rings
    set_settings(service.database, ledger, {}, by="test")
    assert looked(service, ledger, "rejected", hours=25).rings
    service.record(ledger, [buy("b1"), pay("p1", "7.00", "c1")])
    assert looked(service, ledger, "rejected", hours=25).value == 0, "it is corrected"
    assert refused.rejection_id is not None


def test_usage_that_is_refused_as_was_asked_for_rings_only_where_that_is_not_expected(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    service.record(ledger, [buy("b1"), use("u1", credits="100"), use("u2", credits="100")])
    silent = looked(service, ledger, "rejected", days=30)
    assert (silent.value, silent.rings) == (0, False)
    assert silent.evidence["open"]["rejections"] == 2, "it is shown all the same"
    set_settings(service.database, ledger, {"rejected_expected": []}, by="test")
    assert looked(service, ledger, "rejected", days=30).value == 2
    for code in (["x" * 61], ["x"] * 101, "insufficient_credits"):
        with pytest.raises(InvalidInput, match=r"rejected_expected|settings"):
            read_settings({"rejected_expected": code})


def test_what_is_only_counted_rings_at_once(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    Subledger(service.database, rejections=Bounds(rows=1)).record(ledger, [use("u1"), use("u2"), use("u3")])
    rings = looked(service, ledger, "rejected")
    assert (rings.value, rings.rings, rings.evidence["not_kept_one_by_one"]) == (2, True, 2)


def test_usage_that_is_refused_for_another_reason_than_that_all_is_used_up_rings(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    service.record(
        ledger, [buy("b1"), use("u0"), buy("b2", customer="c2", unit="token"), buy("b3", customer="c3", scope=["sms"])]
    )
    sweep(service.recorder, ledger, datetime(2026, 4, 1, tzinfo=UTC))
    service.record(ledger, [buy("b4", customer="c4", expires_at="2026-03-01T00:00:00Z")])
    sweep(service.recorder, ledger, datetime(2026, 4, 1, tzinfo=UTC))
    refused = service.record(
        ledger,
        [
            use("u1"),
            use("u2", customer="c2"),
            use("u3", customer="c3"),
            use("u4", customer="c4"),
            use("u5", customer="c5"),
        ],
    )
    reasons = [outcome.error.facts["reasons"][0]["reason"] for outcome in refused if outcome.error is not None]
    assert reasons[0] == "used_up"
    assert reasons[3:] == ["expired", "unknown_customer"]
    assert looked(service, ledger, "rejected", days=30).value == 4, "all but the one for which all is used up"


def test_usage_that_is_refused_where_the_ledger_does_not_refuse_it_rings(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger(on_shortfall="overage")
    service.record(ledger, [buy("b1"), use("u0"), {**use("u1"), "data": {"credits": "1", "on_shortfall": "reject"}}])
    found = looked(service, ledger, "rejected", days=30)
    assert (found.evidence["open"]["rejections"], found.value) == (1, 1)
