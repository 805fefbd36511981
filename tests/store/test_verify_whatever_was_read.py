"""A verification is clean on every ledger that only the recorder wrote, whatever was read, at any time.

Reads add caches: snapshots of customers and of the ledger, finished blocks found at zero, saved progress of a
verification. Random histories draw on very many blocks, are recorded on many days, and are read in all ways.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest
from fastapi.testclient import TestClient
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from api.http.app import create_app
from api.service import Subledger
from api.shapes.reports import REPORTS
from projections.close.close import close_period
from projections.exports.exporting import export
from projections.integrity import ResumableRuns, Start, verify
from projections.reads import snapshots
from projections.reads.snapshots import LEDGER as WHOLE
from projections.reads.snapshots import add_snapshots, stored_and_expected
from projections.replay.rebuild import rebuild
from subledger.errors import SubledgerError
from subledger.ledger_settings import LedgerSettings
from subledger.periods import Period
from subledger.store.database import Database
from subledger.store.reading import queries as journal_rows
from tests.building import cloud_event, usage
from tests.conftest import NewLedger
from tests.laws.machine_state import EXAMPLES
from tests.scratch_database import scratch_database
from tests.store.tampering import differences, past_triggers

CUSTOMERS = ("ann", "bob")


def grants(tag: str, customer: str, count: int, day: str = "2026-03-01") -> list[dict[str, Any]]:
    return [
        cloud_event(
            f"{tag}-{n}",
            "credits.granted",
            customer,
            f"{day}T00:00:00Z",
            block_id=f"{tag}-{n}",
            credits="1",
            reason="promotional",
        )
        for n in range(count)
    ]


use = partial(usage, time="2026-03-02", on_shortfall="overage", overage_price="0.01", currency="USD")


def taken_back(event_id: str, customer: str, usage: str, credits: int, day: str = "2026-03-03") -> dict[str, Any]:
    return cloud_event(
        event_id, "consumption.reversed", customer, f"{day}T00:00:00Z", event_id=usage, credits=str(credits), reason="r"
    )


def test_draws_over_more_blocks_than_a_snapshot_has_entries(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    service.record(ledger, grants("g", "a", 200))
    service.record(ledger, [use("u1", "200", customer="a"), taken_back("r1", "a", "u1", 150)])
    assert differences(service, ledger) == []
    service.customer_balances(ledger, "a")
    assert differences(service, ledger) == []
    service.record(ledger, grants("h", "a", 300))
    service.record(ledger, [use("u2", "450", customer="a"), *(use(f"v{n}", "1", customer="a") for n in range(150))])
    service.customer_balances(ledger, "a")
    assert differences(service, ledger) == []
    assert rebuild(service.database, ledger).removed["snapshots"] == 0


# --- readers that add snapshots at the same time -----------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SMALLER.items():
        monkeypatch.setattr(snapshots, name, value)


SMALLER = {"OF_CUSTOMER": 6, "DAY_ROWS": 5, "INSIDE_A_DAY": 16}


def keep_a_few(service: Subledger, ledger: str, owner: str, *, limit: int) -> None:
    """Adds snapshots like a reader that sums fewer entries at once than usual."""
    with pytest.MonkeyPatch.context() as context:
        for name in ("points_of_customer", "points_of_ledger"):
            context.setattr(snapshots, name, partial(getattr(snapshots, name), limit=limit))
        add_snapshots(service.database, ledger, owner)


def _between(monkeypatch: pytest.MonkeyPatch, query: str, then: Any) -> None:
    """Calls ``then`` once, before a query of a reader that adds snapshots."""
    rows, waiting = journal_rows.rows, [then]

    def asked(connection: Any, asking: str, parameters: Mapping[str, Any]) -> Any:
        if asking == query and waiting:
            waiting.pop()()
        return rows(connection, asking, parameters)

    monkeypatch.setattr(snapshots, "rows", asked)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("owner", ["a", WHOLE])
def test_a_reader_does_not_add_again_what_another_has_just_added(
    service: Subledger, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch, owner: str
) -> None:
    ledger = new_ledger()
    service.record(ledger, grants("g", "a", 20))
    add_snapshots(service.database, ledger, owner)
    service.record(ledger, grants("h", "a", 60))
    _between(monkeypatch, snapshots.RUNNING_SUMS, lambda: keep_a_few(service, ledger, owner, limit=7))
    add_snapshots(service.database, ledger, owner)
    assert differences(service, ledger) == []
    add_snapshots(service.database, ledger, owner)
    assert differences(service, ledger) == []


@pytest.mark.usefixtures("small")
def test_a_reader_does_not_add_to_what_a_rebuild_drops(
    service: Subledger, new_ledger: NewLedger, owner_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = new_ledger()
    service.record(ledger, grants("g", "a", 20))
    add_snapshots(service.database, ledger, "a")
    service.record(ledger, grants("h", "a", 20))
    with psycopg.connect(owner_url, autocommit=True) as superuser:
        superuser.execute("UPDATE snapshots SET credits = 999 WHERE ledger = %s", (ledger,))
        rebuilding = threading.Thread(target=rebuild, args=(service.database, ledger))

        def a_rebuild_begins() -> None:
            rebuilding.start()
            waits = "SELECT FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
            while rebuilding.is_alive() and not superuser.execute(waits).rowcount:
                rebuilding.join(0.01)

        _between(monkeypatch, snapshots.RUNNING_SUMS, a_rebuild_begins)
        add_snapshots(service.database, ledger, "a")
        rebuilding.join()
    assert differences(service, ledger) == []


# --- random histories ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(server_url: str) -> Iterator[tuple[Subledger, TestClient, str]]:
    """A separate database whose clock can be moved by days, with small limits for snapshots."""
    with scratch_database(server_url) as url, pytest.MonkeyPatch.context() as patched, TemporaryDirectory() as home:
        for name, value in SMALLER.items():
            patched.setattr(snapshots, name, value)
        patched.setenv("SUBLEDGER_HOME", home)
        database = Database(url)
        service = Subledger(database)
        app = create_app(service, open_on_loopback=True)
        with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50_000)) as client:
            yield service, client, url
        database.close()


class Reading(RuleBasedStateMachine):
    """Writes and reads in any order, and every kind of verification at any time."""

    def __init__(self, alone: tuple[Subledger, TestClient, str]) -> None:
        super().__init__()
        self.service, self.client, self.url = alone
        self.count = 0
        self.usages: list[tuple[str, str, int]] = []
        self.known: list[datetime] = []
        self.month = 1
        self.folder = TemporaryDirectory()
        self.gets = [
            path
            for path, operations in self.client.get("/openapi.json").json()["paths"].items()
            if "get" in operations and "{ledger}" in path
        ]

    def teardown(self) -> None:
        self.folder.cleanup()

    @initialize()
    def begin(self) -> None:
        self.ledger = f"r{datetime.now(UTC).timestamp():.6f}".replace(".", "-")
        self.service.create_ledger(self.ledger, LedgerSettings(currency="USD", on_shortfall="overage"))
        for path in self.gets:  # each route must be callable; a new path parameter that is not listed here fails
            path.format(**self.places(WHOLE, 0))

    def send(self, events: list[dict[str, Any]]) -> None:
        self.count += 1
        self.service.record(self.ledger, events)

    # --- writes --------------------------------------------------------------------------------------------

    @rule(customer=st.sampled_from(CUSTOMERS), count=st.sampled_from((1, 3, 8, 40)), day=st.integers(1, 28))
    def grant(self, customer: str, count: int, day: int) -> None:
        self.send(grants(f"g{self.count}", customer, count, f"2026-03-{day:02}"))

    @rule(customer=st.sampled_from(CUSTOMERS), credits=st.sampled_from((1, 2, 7, 60)), day=st.integers(1, 28))
    def use(self, customer: str, credits: int, day: int) -> None:
        self.usages.append((f"u{self.count}", customer, credits))
        self.send([use(f"u{self.count}", str(credits), customer=customer, time=f"2026-03-{day:02}")])

    @precondition(lambda self: self.usages)
    @rule(pick=st.integers(0, 99), day=st.integers(1, 28))
    def take_back(self, pick: int, day: int) -> None:
        usage, customer, credits = self.usages[pick % len(self.usages)]
        self.send([taken_back(f"r{self.count}", customer, usage, max(credits // 2, 1), f"2026-03-{day:02}")])

    @rule(count=st.sampled_from((1, 20)))
    def set_rates(self, count: int) -> None:
        """Records events without an entry, whose positions have no snapshot."""
        self.send(
            [
                cloud_event(
                    f"x{self.count}-{n}",
                    "exchange_rate.set",
                    None,
                    "2026-01-01T00:00:00Z",
                    base="EUR",
                    quote="USD",
                    rate=f"1.{n + 10}",
                    rate_source="ECB",
                )
                for n in range(count)
            ]
        )

    @rule(days=st.integers(1, 3))
    def days_go_by(self, days: int) -> None:
        """Moves the clock forward. Later events are recorded after the time of an answer, and the database refuses a
        future time.
        """
        with past_triggers(self.url, "ledgers") as owner:
            owner.execute(
                "UPDATE ledgers SET answered_through = greatest(recorded_at, answered_through)"
                " + make_interval(days => %s) WHERE ledger = %s",
                (days, self.ledger),
            )

    @precondition(lambda self: self.month <= 4)
    @rule()
    def close(self) -> None:
        close_period(self.service.recorder, self.ledger, Period(2026, self.month))
        self.month += 1

    @rule(format=st.sampled_from(("csv", "beancount")), detail=st.booleans())
    def hand_over(self, format: str, detail: bool) -> None:
        if self.month > 1:
            period = Period(2026, self.month - 1)
            export(
                self.service.recorder,
                self.service.database,
                self.ledger,
                period,
                format,
                detail=detail and format == "beancount",
            )

    # --- reads -----------------------------------------------------------------------------------------------

    @rule(customer=st.sampled_from((*CUSTOMERS, WHOLE)), day=st.integers(0, 120), pick=st.integers(0, 99))
    def ask_a_balance(self, customer: str, day: int, pick: int) -> None:
        as_of = date(2026, 1, 1) + timedelta(days=day)
        known_at = self.known[pick % len(self.known)] if self.known and pick % 3 else None
        try:
            if customer:
                at, _ = self.service.customer_balances(self.ledger, customer, as_of=as_of, known_at=known_at)
            else:
                at, _ = self.service.trial_balance(self.ledger, as_of=as_of, known_at=known_at)
        except SubledgerError:  # an unknown customer, or a time before the first event
            return
        self.known.append(at.known_at)

    def places(self, customer: str, pick: int) -> dict[str, str]:
        return {
            "ledger": self.ledger,
            "customer": customer,
            "block_id": "g0-0",
            "position": "4",
            "number": "1",
            "name": list(REPORTS)[pick % len(REPORTS)],
            "period": "2026-01",
            "export_id": f"{self.ledger}-2026-01-1-csv",
            "line": "1",
            "target": "netsuite",
            "channel": "c",
            "delivery_id": "d",
            "rejection": "r",
            "approval": "v1",
        }

    @rule(pick=st.integers(0, 999), customer=st.sampled_from(CUSTOMERS))
    def ask_over_http(self, pick: int, customer: str) -> None:
        places = self.places(customer, pick)
        path = self.gets[pick % len(self.gets)]
        answer = self.client.get(path.format(**places), params={"as_of": "2026-03-31"} if pick % 2 else None)
        assert answer.status_code < 500, (path, answer.text)

    @rule(customer=st.sampled_from((*CUSTOMERS, WHOLE)), limit=st.sampled_from((1, 5, 13, 1000)))
    def leave_a_few_snapshots(self, customer: str, limit: int) -> None:
        keep_a_few(self.service, self.ledger, customer, limit=limit)

    @rule(customer=st.sampled_from(CUSTOMERS))
    def read_while_it_is_written(self, customer: str) -> None:
        writer = threading.Thread(target=self.grant, args=(customer, 8, 5))
        readers = [
            threading.Thread(target=add_snapshots, args=(self.service.database, self.ledger, owner))
            for owner in (customer, WHOLE, customer, WHOLE)
        ]
        for thread in (writer, *readers):
            thread.start()
        for thread in (writer, *readers):
            thread.join()

    @rule(how=st.sampled_from(list(Start)), shares=st.sampled_from((None, 3)))
    def verify_with_what_was_kept(self, how: Start, shares: int | None) -> None:
        resumable = ResumableRuns(Path(self.folder.name) / "kept")
        try:
            report = verify(self.service.database, self.ledger, workers=1, shares=shares, resumable=resumable, how=how)
        finally:
            resumable.close()
        assert report.differences == []

    @rule()
    def mend_nothing(self) -> None:
        counts = rebuild(self.service.database, self.ledger, workers=1)
        assert not any(counts.removed.values())
        assert not any(counts.written.values())

    # --- the law ----------------------------------------------------------------------------------------------------

    @invariant()
    def snapshots_are_what_the_entries_make_them(self) -> None:
        if not hasattr(self, "ledger"):
            return
        with self.service.database.read() as connection:
            for owner, kept, expected in stored_and_expected(connection, self.ledger):
                assert kept == expected, owner

    @rule()
    def a_verification_is_clean(self) -> None:
        assert verify(self.service.database, self.ledger).differences == []


@pytest.mark.law
def test_whatever_is_read_a_verification_is_clean(alone: tuple[Subledger, TestClient, str]) -> None:
    class Machine(Reading):
        def __init__(self) -> None:
            super().__init__(alone)

    run_state_machine_as_test(
        Machine, settings=settings(max_examples=max(3, EXAMPLES // 3), stateful_step_count=30, deadline=None)
    )
