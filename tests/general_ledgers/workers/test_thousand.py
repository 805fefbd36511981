"""A thousand deliveries over every connector, with all possible faults: each journal is there once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from api.service import Subledger
from projections.delivery import by_hand, channels, outbox
from projections.delivery.connectors import CONNECTORS, connector_named
from projections.delivery.deliveries import Delivery
from projections.delivery.states import State
from projections.exports import targets
from projections.exports.exports import document_set_of, get_export
from projections.exports.formats import TARGETS
from subledger.periods import Period
from tests.building import cloud_event
from tests.general_ledgers.conftest import MONTH, deliveries
from tests.general_ledgers.every import Way, every_way
from tests.general_ledgers.pace import QUICK
from tests.general_ledgers.stand_in import FAULTS, at_random
from tests.waiting import until

pytestmark = [pytest.mark.usefixtures("open_borders"), pytest.mark.campaign]

BLOCKS, LEDGERS, MONTHS = 35, 10, 5
SEED, SHARE = 20261121, 0.25
SETTINGS = {**QUICK, "timeout_s": 1.0, "first_wait_s": 0.05, "longest_wait_s": 0.4, "settle_s": 5.0}
EACH = 60
"""A worker is killed after each further number of posted deliveries. This depends on progress, not on the clock."""


@pytest.fixture
def ways(tmp_path: Path) -> Iterator[dict[str, Way]]:
    with every_way(tmp_path) as ways:
        for number, way in enumerate(ways.values()):
            way.fails(at_random(SEED + number, SHARE, tuple(f for f in FAULTS if f != "throttles" or way.target)))
            if way.stand_in is not None:
                way.stand_in.time_out_s, way.stand_in.late_s = 1.2, 0.4
        yield ways


def months(service: Subledger, new_ledger: Callable[..., str]) -> str:
    """A ledger with entries in each of some months."""
    ledger = new_ledger()
    events = []
    for month in range(1, MONTHS + 1):
        at = f"2026-0{month}"
        bought = {"block_id": f"b{month}", "credits": "10", "price": f"{month}0.00", "currency": "USD"}
        events += [
            cloud_event(f"p{month}", "credits.purchased", "c", f"{at}-05T00:00:00Z", **bought),
            cloud_event(f"u{month}", "credits.consumed", "c", f"{at}-20T00:00:00Z", credits="4"),
        ]
    service.record(ledger, events)
    return ledger


def on_their_way(service: Subledger, way: Way, ledger: str, periods: list[Period], **of_target: Any) -> list[str]:
    """Adds some months to the outbox. Returns the names, each of which must be in the target once at the end."""
    settings = {**SETTINGS, **way.settings, "format": way.form}
    channel = channels.set_channel(service.database, ledger, way.name, settings, by="test")
    if way.target is not None:
        given = {**way.of_target, **of_target}
        targets.set_settings(service.database, ledger, TARGETS[way.target], given, by="test")
    added = [
        delivery
        for period in periods
        for delivery in outbox.add_period(service.recorder, service.database, channel, period, by="test")
    ]
    if way.target is None:
        return [delivery.reference for delivery in added]
    with service.database.read() as connection:
        exports = {delivery.export_id: get_export(connection, ledger, delivery.export_id) for delivery in added}
        posted = [document_set_of(connection, export) for export in exports.values()]
    return [document.reference for each in posted if each is not None for document in each.documents]


class Workers:
    """Two workers. Sometimes one is killed, and another one started."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.dice = random.Random(SEED)
        self.killed = 0
        self.running = [self.start(), self.start()]

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "api.cli.main", "worker", "--concurrency", "4"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "SUBLEDGER_DATABASE_URL": self.url},
        )

    def kill_one(self) -> None:
        victim = self.running.pop(self.dice.randrange(2))
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        self.killed += 1
        with psycopg.connect(self.url) as connection:  # as after some time: claims ended, heartbeats missed
            connection.execute("UPDATE deliveries SET claimed_until = now() WHERE claim IS NOT NULL")
            connection.execute("UPDATE jobs.procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")
        self.running.append(self.start())

    def end(self) -> None:
        for worker in self.running:
            worker.kill()
            worker.wait()


def test_a_thousand_deliveries_are_there_once_whatever_happens(
    service: Subledger, sold: Callable[..., str], new_ledger: Callable[..., str], ways: dict[str, Way], owner_url: str
) -> None:
    assert set(ways) == set(CONNECTORS), "a connector that is new goes through this too"
    wanted: dict[str, list[str]] = {name: [] for name in ways}
    by_document, ledgers = sold(BLOCKS), [months(service, new_ledger) for _ in range(LEDGERS)]
    for name, way in ways.items():
        if connector_named(name).by_document:
            wanted[name] += on_their_way(service, way, by_document, [MONTH], level="block", lines=2, pass_through=True)
        else:
            every_month = [Period(year=2026, month=month) for month in range(1, MONTHS + 1)]
            for ledger in ledgers:
                wanted[name] += on_their_way(service, way, ledger, every_month)
    everything = [by_document, *ledgers]
    assert sum(len(deliveries(service, ledger)) for ledger in everything) >= 1_000

    netsuite = ways["netsuite"].stand_in
    assert netsuite is not None
    netsuite.closed.add("2026-01")  # until a controller opens it
    workers = Workers(owner_url)

    def all_deliveries() -> list[Delivery]:
        return [delivery for ledger in everything for delivery in deliveries(service, ledger)]

    def posted() -> int:
        """Returns the number of posted deliveries. Opens January once enough were rejected, and retries those."""
        found = all_deliveries()
        states = Counter(delivery.state for delivery in found)
        if states[State.REJECTED] > 30:
            netsuite.closed.clear()
        for delivery in found:
            if delivery.state is State.REJECTED and not netsuite.closed:
                assert "period is closed" in str(delivery.reason), delivery
                by_hand.retry(service.database, delivery.ledger, delivery.delivery_id, by="controller")
        return states[State.POSTED]

    total = len(all_deliveries())
    try:
        for number in (*range(EACH, total - EACH, EACH), total):
            until(lambda number=number: posted() >= number, f"{number} of {total} deliveries are posted")
            workers.kill_one()
    finally:
        workers.end()

    found = [delivery for ledger in everything for delivery in deliveries(service, ledger)]
    left = [(delivery.delivery_id, delivery.state, delivery.reason) for delivery in found]
    assert {state for _, state, _ in left} == {State.POSTED}, [each for each in left if each[1] is not State.POSTED][:5]
    for name, way in ways.items():
        assert Counter(way.there()) == Counter(wanted[name]), name
    assert workers.killed >= 5
    for name, way in ways.items():
        # A folder does not fail by itself, so the workers were killed during its deliveries.
        assert len(way.met()) >= (3 if name != "folder" else 0), f"and much did go wrong on the way into {name}"
