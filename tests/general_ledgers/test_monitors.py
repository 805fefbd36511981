"""Monitors of deliveries: each rings on its fault, names it, and is silent after the repair."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from api.service import Subledger
from projections.close.close import close_period
from projections.configuring.account_mappings import adopt_mapping
from projections.delivery import by_hand, outbox
from projections.delivery.channels import Channel, set_channel
from projections.delivery.deliveries import Delivery, list_deliveries
from projections.exports import exporting
from projections.exports.exports import Export
from projections.journals.reversing import reverse_journal
from projections.monitors import Monitor, check, look
from projections.monitors.settings import set_settings
from subledger.periods import Period
from tests.building import cloud_event
from tests.charts import another_chart
from tests.general_ledgers.conftest import MONTH
from tests.general_ledgers.netsuite import NetSuiteStandIn
from tests.general_ledgers.pace import QUICK
from tests.general_ledgers.working import work
from tests.store.tampering import past_triggers

pytestmark = pytest.mark.usefixtures("open_borders")

FEBRUARY = Period.parse("2026-02")

Sold = Callable[..., str]
Exported = Callable[..., Export]
NetSuiteChannel = Callable[..., Channel]


@pytest.fixture
def one(
    service: Subledger, sold: Sold, exported: Exported, netsuite_channel: NetSuiteChannel
) -> tuple[Channel, Delivery]:
    """The journal of a closed January in the outbox: one document."""
    ledger = sold()
    channel = netsuite_channel(ledger)
    close_period(service.recorder, ledger, MONTH)
    [delivery] = outbox.add(service.database, channel, exported(ledger, approved=True), by="test")
    return channel, delivery


def looked(service: Subledger, ledger: str, name: str, **later: float) -> Monitor:
    """Returns a monitor as it is some time from now."""
    return check(service.database, ledger, datetime.now(UTC) + timedelta(**later)).named(name)


def february(service: Subledger, ledger: str) -> Export:
    service.record(ledger, [cloud_event("feb", "credits.consumed", "c0000", "2026-02-05T00:00:00Z", credits="1")])
    close_period(service.recorder, ledger, FEBRUARY)
    return exporting.export(service.recorder, service.database, ledger, FEBRUARY, "netsuite-json")[-1]


def test_a_ledger_whose_journals_arrive_rings_nowhere(service: Subledger, one: tuple[Channel, Delivery]) -> None:
    channel, _ = one
    work(service, channel)
    report = check(service.database, channel.ledger, datetime.now(UTC))
    assert {monitor.name: monitor.value for monitor in report.monitors} == {
        "breakage_estimates": 0.0,
        "delivery_success": 100.0,
        "exports_not_accepted": 0,
        "unapplied_payments": 0,
        "event_to_general_ledger": 0,
        "dead_letters": 0,
        "clearing": 0,
        "expiry_sweep": 0,
        "mismatch": 0,
        "stuck_writer": 0,
        "rejected": 0,
    }
    assert report.well
    assert all(monitor.next is None for monitor in report.monitors)


def test_the_share_that_arrives_rings_below_its_threshold_and_counts_what_is_decided_in_the_window(
    service: Subledger, one: tuple[Channel, Delivery], netsuite: NetSuiteStandIn
) -> None:
    channel, _ = one
    ledger = channel.ledger
    undecided = looked(service, ledger, "delivery_success")
    assert (undecided.value, undecided.rings) == (None, False)
    work(service, channel)
    netsuite.closed.add("2026-02")
    [second] = outbox.add(service.database, channel, february(service, ledger), by="test")
    work(service, channel)
    half = looked(service, ledger, "delivery_success")
    assert (half.value, half.threshold, half.rings) == (50.0, 99.0, True)
    assert half.evidence == {"arrived": 1, "rejected_or_failed": 1, "days": 7}
    set_settings(service.database, ledger, {"delivery_success_percent": 50}, by="test")
    assert not looked(service, ledger, "delivery_success").rings
    set_settings(service.database, ledger, {}, by="test")
    assert looked(service, ledger, "delivery_success", days=8).value is None
    netsuite.closed.clear()
    by_hand.retry(service.database, ledger, second.delivery_id, by="test")
    work(service, channel)
    assert looked(service, ledger, "delivery_success").value == 100.0, "as they are now"


def test_an_export_that_is_not_accepted_within_an_hour_rings_and_is_named(
    service: Subledger, one: tuple[Channel, Delivery]
) -> None:
    channel, delivery = one
    ledger = channel.ledger
    assert looked(service, ledger, "exports_not_accepted", minutes=59).value == 0
    rings = looked(service, ledger, "exports_not_accepted", minutes=61)
    assert (rings.value, rings.rings) == (1, True)
    [shown] = rings.evidence["oldest"]
    assert (shown["delivery"], shown["state"]) == (delivery.delivery_id, "built")
    set_settings(service.database, ledger, {"not_accepted_after_s": None}, by="test")
    off = looked(service, ledger, "exports_not_accepted", minutes=61)
    assert (off.value, off.threshold, off.rings) == (1, None, False)
    set_settings(service.database, ledger, {}, by="test")
    work(service, channel)
    assert looked(service, ledger, "exports_not_accepted", minutes=61).value == 0


def test_documents_of_one_export_count_as_one(
    service: Subledger, sold: Sold, exported: Exported, netsuite_channel: NetSuiteChannel
) -> None:
    ledger = sold(3)
    added = outbox.add(
        service.database, netsuite_channel(ledger), exported(ledger, level="customer", lines=2), by="test"
    )
    assert len(added) > 1
    rings = looked(service, ledger, "exports_not_accepted", minutes=61)
    assert (rings.value, rings.evidence["deliveries"]) == (1, len(added))


def test_an_export_after_the_first_delivered_one_that_nobody_put_into_the_outbox_rings(
    service: Subledger, one: tuple[Channel, Delivery]
) -> None:
    channel, _ = one
    ledger = channel.ledger
    work(service, channel)
    forgotten = february(service, ledger)
    exporting.export(service.recorder, service.database, ledger, FEBRUARY, "csv")
    assert looked(service, ledger, "exports_not_accepted", minutes=59).value == 0
    rings = looked(service, ledger, "exports_not_accepted", minutes=61)
    assert (rings.value, rings.rings, rings.evidence["in_no_outbox"]) == (1, True, [forgotten.export_id])
    assert rings.next == f"subledger deliver 2026-02 --ledger {ledger}"
    [delivery] = outbox.add(service.database, channel, forgotten, by="test")
    by_hand.abandon(service.database, ledger, delivery.delivery_id, by="test", reason="posted by hand")
    assert looked(service, ledger, "exports_not_accepted", minutes=61).value == 0, "a person took it out"


def test_a_file_without_documents_that_nobody_put_into_the_outbox_rings_unless_it_is_empty(
    service: Subledger, sold: Sold, tmp_path: Path
) -> None:
    ledger = sold()
    given = {"connector": "folder", "directory": str(tmp_path), "format": "csv", **QUICK}
    drop = set_channel(service.database, ledger, "drop", given, by="test")
    service.deliver(ledger, MONTH, channel="drop")
    work(service, drop)
    close_period(service.recorder, ledger, MONTH)
    close_period(service.recorder, ledger, FEBRUARY)
    exporting.export(service.recorder, service.database, ledger, FEBRUARY, "csv")
    assert check(service.database, ledger, datetime.now(UTC) + timedelta(hours=2)).well, "February is empty"
    service.record(ledger, [cloud_event("mar", "credits.consumed", "c0000", "2026-03-05T00:00:00Z", credits="1")])
    close_period(service.recorder, ledger, FEBRUARY.next)
    [forgotten] = exporting.export(service.recorder, service.database, ledger, FEBRUARY.next, "csv")
    rings = looked(service, ledger, "exports_not_accepted", minutes=61)
    assert (rings.value, rings.evidence["in_no_outbox"]) == (1, [forgotten.export_id])
    assert looked(service, ledger, "event_to_general_ledger", minutes=16).rings


def test_what_was_exported_before_anything_was_delivered_and_what_is_empty_is_not_waited_for(
    service: Subledger, one: tuple[Channel, Delivery]
) -> None:
    channel, delivery = one
    ledger = channel.ledger
    by_hand.abandon(service.database, ledger, delivery.delivery_id, by="test", reason="not yet")
    second = february(service, ledger)
    assert looked(service, ledger, "exports_not_accepted", minutes=61).value == 0, "nothing has gone there yet"
    outbox.add(service.database, channel, second, by="test")
    work(service, channel)
    close_period(service.recorder, ledger, FEBRUARY.next)
    [empty] = exporting.export(service.recorder, service.database, ledger, FEBRUARY.next, "netsuite-json")
    assert outbox.add(service.database, channel, empty, by="test") == []
    assert looked(service, ledger, "exports_not_accepted", minutes=61).value == 0


def test_a_journal_is_late_from_its_close_until_it_is_in_the_books(
    service: Subledger, one: tuple[Channel, Delivery]
) -> None:
    channel, _ = one
    ledger = channel.ledger
    # A later cut does not change January's age.
    outbox.add(service.database, channel, february(service, ledger), by="test")
    early = looked(service, ledger, "event_to_general_ledger", minutes=14)
    assert early.value is not None
    assert 14 * 60 <= early.value < 15 * 60
    assert not early.rings
    late = looked(service, ledger, "event_to_general_ledger", minutes=15)
    assert late.rings
    assert late.evidence["oldest"][0]["period"] == "2026-01"
    assert late.evidence["posted"] == {"journals": 0, "max_s": None, "p95_s": None}
    set_settings(service.database, ledger, {"event_to_general_ledger_s": "off"}, by="test")
    assert not looked(service, ledger, "event_to_general_ledger", minutes=15).rings
    set_settings(service.database, ledger, {}, by="test")
    work(service, channel)
    after = looked(service, ledger, "event_to_general_ledger", minutes=15)
    assert (after.value, after.rings) == (0, False)
    posted = after.evidence["posted"]
    assert posted["journals"] == 2
    assert 0 < posted["p95_s"] == posted["max_s"] < 15 * 60
    assert looked(service, ledger, "event_to_general_ledger", days=8).evidence["posted"]["journals"] == 0


def test_the_latency_of_a_journal_is_from_its_last_event_to_its_last_document(
    service: Subledger, one: tuple[Channel, Delivery], owner_url: str
) -> None:
    channel, delivery = one
    work(service, channel)
    where = (channel.ledger, delivery.delivery_id)
    with past_triggers(owner_url, "delivery_steps") as connection:
        [(closed_at,)] = connection.execute(
            "SELECT recorded_at FROM batches b JOIN events e ON e.ledger = b.ledger AND e.position BETWEEN"
            " b.first_position AND b.last_position WHERE e.ledger = %s AND e.type = 'period.closed'",
            where[:1],
        ).fetchall()
        connection.execute(
            "UPDATE delivery_steps SET at = %s WHERE ledger = %s AND delivery_id = %s AND state = 'posted'",
            (closed_at + timedelta(seconds=1234.5), *where),
        )
    found = check(service.database, channel.ledger, closed_at + timedelta(days=1)).named("event_to_general_ledger")
    assert found.evidence["posted"] == {"journals": 1, "max_s": 1234.5, "p95_s": 1234.5}


def test_a_closed_month_that_nobody_exports_is_late_where_there_is_a_channel_for_it(
    service: Subledger, sold: Sold, netsuite_channel: NetSuiteChannel
) -> None:
    ledger = sold()
    assert looked(service, ledger, "event_to_general_ledger", days=1).value == 0, "nothing is closed"
    close_period(service.recorder, ledger, MONTH)
    assert looked(service, ledger, "event_to_general_ledger", days=1).value == 0, "and goes nowhere"
    netsuite_channel(ledger)
    late = looked(service, ledger, "event_to_general_ledger", days=1)
    assert late.rings
    assert late.next == f"subledger deliver 2026-01 --ledger {ledger}"


def test_a_journal_that_was_made_for_a_look_and_never_went_to_the_channel_is_late(
    service: Subledger, one: tuple[Channel, Delivery]
) -> None:
    channel, _ = one
    ledger = channel.ledger
    work(service, channel)
    service.record(ledger, [cloud_event("feb", "credits.consumed", "c0000", "2026-02-05T00:00:00Z", credits="1")])
    exporting.export(service.recorder, service.database, ledger, FEBRUARY, "csv")
    assert looked(service, ledger, "event_to_general_ledger", days=1).value == 0, "the month goes on"
    close_period(service.recorder, ledger, FEBRUARY)
    late = looked(service, ledger, "event_to_general_ledger", minutes=16)
    assert (late.rings, late.evidence["journals"]) == (True, 1)
    assert late.next == f"subledger deliver 2026-02 --channel netsuite --ledger {ledger}"
    service.deliver(ledger, FEBRUARY, channel="netsuite")
    work(service, channel)
    assert looked(service, ledger, "event_to_general_ledger", minutes=16).value == 0


def test_journals_of_the_months_closed_last_are_late_where_nothing_was_ever_delivered(
    service: Subledger, sold: Sold, exported: Exported, netsuite_channel: NetSuiteChannel
) -> None:
    ledger = sold()
    close_period(service.recorder, ledger, MONTH)
    exporting.export(service.recorder, service.database, ledger, MONTH, "csv")
    assert looked(service, ledger, "event_to_general_ledger", days=1).value == 0, "it goes nowhere"
    netsuite_channel(ledger)
    assert looked(service, ledger, "event_to_general_ledger", days=1).rings
    [delivery] = outbox.add(service.database, netsuite_channel(ledger), exported(ledger, approved=True), by="test")
    by_hand.abandon(service.database, ledger, delivery.delivery_id, by="test", reason="posted by hand")
    assert looked(service, ledger, "event_to_general_ledger", days=1).value == 0, "a person took it out"


def test_a_correction_is_late_from_when_it_was_made(service: Subledger, one: tuple[Channel, Delivery]) -> None:
    channel, _ = one
    ledger = channel.ledger
    work(service, channel)
    adopt_mapping(service.recorder, ledger, another_chart(7000))
    made = reverse_journal(service.recorder, ledger, MONTH, 1, "the wrong chart", by="test")
    assert made.reversal.correction is not None
    at = made.reversal.correction.made_at + timedelta(minutes=10)
    found = check(service.database, ledger, at).named("event_to_general_ledger")
    assert (found.value, found.evidence["journals"]) == (600, 2)
    service.deliver(ledger, MONTH, channel="netsuite")
    found = check(service.database, ledger, at).named("event_to_general_ledger")
    assert (found.value, found.evidence["journals"]) == (600, 2)


def test_dead_letters_ring_above_their_number(
    service: Subledger, one: tuple[Channel, Delivery], netsuite: NetSuiteStandIn
) -> None:
    channel, delivery = one
    ledger = channel.ledger
    netsuite.closed.add("2026-01")
    work(service, channel)
    found = looked(service, ledger, "dead_letters", minutes=1)
    assert (found.value, found.threshold, found.rings) == (1, 10, False)
    assert "The posting period is closed" in found.evidence["oldest"][0]["reason"]
    set_settings(service.database, ledger, {"dead_letters": 0}, by="test")
    assert looked(service, ledger, "dead_letters", minutes=1).rings
    by_hand.abandon(service.database, ledger, delivery.delivery_id, by="test", reason="posted by hand")
    assert looked(service, ledger, "dead_letters", minutes=1).value == 0


def test_deliveries_are_counted_by_general_ledger_and_state_those_in_the_books_for_the_window(
    service: Subledger, one: tuple[Channel, Delivery]
) -> None:
    channel, _ = one

    def counted(**later: float) -> dict[tuple[str, str], int]:
        return look(service.database, channel.ledger, datetime.now(UTC) + timedelta(**later)).deliveries

    assert counted(days=100) == {("netsuite", "built"): 1}
    work(service, channel)
    assert counted() == {("netsuite", "posted"): 1}
    assert counted(days=100) == {}


@pytest.mark.parametrize("seconds", [0, 3_600])
def test_looking_changes_no_delivery(service: Subledger, one: tuple[Channel, Delivery], seconds: int) -> None:
    channel, delivery = one
    looked(service, channel.ledger, "exports_not_accepted", seconds=seconds)
    with service.database.read() as connection:
        assert list_deliveries(connection, channel.ledger) == [delivery]
