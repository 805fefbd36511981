"""The checklist reads the deliveries, journal by journal, because an exported file may have gone nowhere."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from api.service import Subledger
from projections.close.close import close_period
from projections.delivery import by_hand, channels, outbox
from projections.delivery.channels import Channel
from projections.delivery.checklist import Checklist, Step, checklist
from projections.exports.exporting import export
from projections.exports.exports import Export
from subledger.periods import Period
from tests.building import cloud_event
from tests.general_ledgers.conftest import MONTH
from tests.general_ledgers.netsuite import NetSuiteStandIn
from tests.general_ledgers.pace import QUICK
from tests.general_ledgers.working import work

pytestmark = pytest.mark.usefixtures("open_borders")

FEBRUARY = MONTH.next
LATER = datetime(2026, 6, 1, tzinfo=UTC)

Exported = Callable[..., Export]


def looked(service: Subledger, ledger: str, period: Period = MONTH) -> Checklist:
    return checklist(service.database, ledger, period, now=LATER)


def step(service: Subledger, ledger: str, name: str, period: Period = MONTH) -> Step:
    return next(step for step in looked(service, ledger, period).steps if step.name == name)


@pytest.fixture
def closed(service: Subledger, sold: Callable[..., str]) -> str:
    """A ledger whose January is closed."""
    ledger = sold()
    close_period(service.recorder, ledger, MONTH)
    return ledger


@pytest.fixture
def drop(service: Subledger, closed: str, tmp_path: Path) -> Channel:
    """Its channel to a folder."""
    given = {"connector": "folder", "directory": str(tmp_path), "format": "csv", **QUICK}
    return channels.set_channel(service.database, closed, "drop", given, by="test")


def test_a_file_in_the_channels_format_that_went_nowhere_is_not_delivered(service: Subledger, drop: Channel) -> None:
    export(service.recorder, service.database, drop.ledger, MONTH, "csv")
    found = step(service, drop.ledger, "delivery_drop")
    assert (found.state, found.evidence["not_sent"]) == ("open", [1])
    assert found.next == f"subledger deliver 2026-01 --channel drop --ledger {drop.ledger}"
    assert step(service, drop.ledger, "tie_out_drop").state == "attention"
    assert not looked(service, drop.ledger).done
    service.deliver(drop.ledger, MONTH, channel="drop")
    work(service, drop)
    assert step(service, drop.ledger, "delivery_drop").state == "done"
    assert looked(service, drop.ledger).done


def test_an_adjustment_that_was_not_sent_keeps_the_delivery_open(service: Subledger, drop: Channel) -> None:
    ledger = drop.ledger
    service.record(ledger, [cloud_event("feb", "credits.consumed", "c0000", "2026-02-05T00:00:00Z", credits="1")])
    service.deliver(ledger, FEBRUARY, channel="drop")
    work(service, drop)
    service.record(ledger, [cloud_event("more", "credits.consumed", "c0000", "2026-02-06T00:00:00Z", credits="1")])
    close_period(service.recorder, ledger, FEBRUARY)
    export(service.recorder, service.database, ledger, FEBRUARY, "csv")
    found = step(service, ledger, "delivery_drop", FEBRUARY)
    assert (found.state, found.evidence["not_sent"]) == ("open", [2])


def test_a_month_without_entries_has_nothing_to_deliver(
    service: Subledger, drop: Channel, exported: Exported, netsuite_channel: Callable[..., Channel]
) -> None:
    ledger = drop.ledger
    exported(ledger, approved=True)
    netsuite_channel(ledger)
    assert step(service, ledger, "delivery_netsuite", FEBRUARY).state == "open", "nothing was made yet"
    close_period(service.recorder, ledger, FEBRUARY)
    for form in ("csv", "netsuite-json"):
        export(service.recorder, service.database, ledger, FEBRUARY, form)
    states = {step.name: step.state for step in looked(service, ledger, FEBRUARY).steps}
    assert {states[f"{asks}_{name}"] for asks in ("delivery", "tie_out") for name in ("drop", "netsuite")} == {"done"}


def test_what_a_person_took_out_asks_for_attention_until_it_goes_another_way(
    service: Subledger, closed: str, exported: Exported, netsuite_channel: Callable[..., Channel]
) -> None:
    first, channel = exported(closed, approved=True, lines=2), netsuite_channel(closed)
    added = outbox.add(service.database, channel, first, by="test")
    assert len(added) > 1
    by_hand.abandon(service.database, closed, added[0].delivery_id, by="test", reason="posted by hand")
    assert step(service, closed, "delivery_netsuite").state == "open"
    work(service, channel)
    some = step(service, closed, "delivery_netsuite")
    assert (some.state, some.evidence["abandoned"]) == ("attention", [added[0].delivery_id])
    assert some.next == f"subledger deliveries show {added[0].delivery_id} --ledger {closed}"
    assert step(service, closed, "tie_out_netsuite").state == "attention"


def test_a_journal_of_which_everything_was_taken_out_is_not_done(
    service: Subledger, drop: Channel, tmp_path: Path
) -> None:
    ledger = drop.ledger
    [delivery] = service.deliver(ledger, MONTH, channel="drop")
    by_hand.abandon(service.database, ledger, delivery.delivery_id, by="test", reason="the wrong folder")
    found = step(service, ledger, "delivery_drop")
    assert (found.state, found.evidence["deliveries"]) == ("attention", {"abandoned": 1})
    assert step(service, ledger, "tie_out_drop").state == "attention"
    (tmp_path / "right").mkdir()
    given = {"connector": "folder", "directory": str(tmp_path / "right"), "format": "csv", **QUICK}
    right = channels.set_channel(service.database, ledger, "right", given, by="test")
    service.deliver(ledger, MONTH, channel="right")
    work(service, right)
    assert step(service, ledger, "delivery_right").state == "done"
    assert step(service, ledger, "delivery_right").evidence["deliveries"] == {"posted": 1}


def test_a_dead_letter_whose_channel_was_taken_away_keeps_the_month_from_being_done(
    service: Subledger,
    closed: str,
    exported: Exported,
    netsuite_channel: Callable[..., Channel],
    netsuite: NetSuiteStandIn,
    owner_url: str,
) -> None:
    exported(closed, approved=True)
    channel = netsuite_channel(closed)
    netsuite.closed.add("2026-01")
    [delivery] = service.deliver(closed, MONTH, channel="netsuite")
    work(service, channel)
    with psycopg.connect(owner_url) as connection:  # as an earlier version allowed
        connection.execute("DELETE FROM delivery_channels WHERE ledger = %s", (closed,))
    found = step(service, closed, "no_channel_netsuite")
    assert (found.state, found.evidence["dead"]) == ("open", [delivery.delivery_id])
    assert not looked(service, closed).done
    by_hand.abandon(service.database, closed, delivery.delivery_id, by="test", reason="posted by hand")
    assert step(service, closed, "no_channel_netsuite").state == "attention"
