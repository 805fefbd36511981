"""An answer never changes: every read, at any (as_of, known_at), is repeated after later events.

Reads are stored during random histories, and repeated at their end; then also by another process (after a restore:
``store/test_restored``). The histories contain everything that could change an earlier answer: the machine's events,
policies, mappings, settings, attributes of customers, and exported and reversed journals.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test

from api.service import Subledger
from api.shapes.joint_reports import JOINT
from api.shapes.reports import REPORTS
from subledger.ledger_settings import LedgerSettings
from subledger.store.database import Database
from tests.laws.asked_again import asked_in_another_process
from tests.laws.machine_ledger import LedgerRules
from tests.laws.machine_state import DAYS, EXAMPLES, PICKS, moment
from tests.laws.reads import GROWING, KEPT, NOW, Answer, Moment, Reads
from tests.laws.test_machine import Machine
from tests.scratch_database import scratch_database

CUSTOMERS = ("ann", "bob", "cid")
ASKS = st.tuples(st.integers(0, 110), st.one_of(st.none(), st.integers(0, 20)))


@pytest.fixture
def alone(server_url: str) -> Iterator[str]:
    """The owner's URL of a separate database, which can be restored."""
    with scratch_database(server_url) as url:
        yield url


class Remembering(LedgerRules, Machine):
    """The machine, which stores answers. Another law compares the books with the model; here the books only change."""

    def __init__(self, service: Subledger, reads: Reads, kept: list[Answer]) -> None:
        super().__init__(service, self.new)
        self.reads, self.kept = reads, kept
        self.remembered: list[Answer] = []
        self.steps = 0

    def new(self, **changes: Any) -> str:
        ledger = f"t-{uuid.uuid4().hex[:10]}"
        self.service.create_ledger(ledger, LedgerSettings(**{"currency": "USD", **changes}))
        return ledger

    def check_books(self) -> None:
        self.checked = self.position

    @rule(pick=PICKS, day=DAYS, until=st.one_of(st.none(), st.integers(0, 100)), asked=st.integers(0, 110))
    def move_the_expiry_of_a_transferred_block(self, pick: int, day: int, until: int | None, asked: int) -> None:
        """Reads between the transfer and the new expiry, because this rarely happens by chance."""
        self.transfer(pick, False, day, None, "cid", False, False)
        event, position = self.sent[-1]
        if event["type"] == "credits.transferred" and position == self.position:
            name = event["data"]["new_block_id"]
            self.ask_everything(asked, None, 0, only="block", customers=["cid"], block=name)
            self.change_expiry(sorted(self.model.blocks).index(name), False, day, until, False)

    # --- stored answers -----------------------------------------------------------------------------------

    @initialize(asks=st.dictionaries(st.integers(1, 30), ASKS, min_size=1, max_size=3))
    def remember(self, asks: dict[int, tuple[int, int | None]]) -> None:
        """Chooses the steps after which everything is read: by step, the day, and the batch of ``known_at`` (0: the
        last one; None: now).

        It is not a separate rule, because one of so many rules is chosen too rarely.
        """
        self.asks = asks

    @invariant()
    def ask_after_some_steps(self) -> None:
        self.steps += 1
        if self.steps in self.asks:
            self.flush()
            day, back = self.asks[self.steps]
            self.ask_everything(day, back, self.steps)
            for asked in self.reads.kept(self.ledger, self.position, self.blocks, Random(self.steps)):
                answer = self.reads.ask(asked)
                if answer.status == 200:  # an unknown item may exist later
                    self.remembered.append(answer)

    @property
    def blocks(self) -> list[str]:
        """Returns ids of blocks to read; an unknown one if every purchase was refused."""
        return sorted(self.model.blocks) or ["none"]

    def ask_everything(
        self,
        day: int,
        back: int | None,
        seed: int,
        *,
        only: str = "",
        customers: Sequence[str] = CUSTOMERS,
        block: str | None = None,
    ) -> None:
        """Reads everything as known now, after a batch (the last one: 0), or before all events. ``only``: only routes
        that contain this text.
        """
        query = "SELECT recorded_at FROM batches WHERE ledger = %s ORDER BY 1 DESC"
        batches = [recorded_at for (recorded_at,) in self.sql(query, self.ledger)]
        known = [*batches, batches[-1] - timedelta(days=1)]
        now = max(batches[0], datetime.now(UTC))
        at = Moment(moment(day).date(), now if back is None else known[back % len(known)])
        blocks = self.blocks if block is None else [block]
        for asked in self.reads.of_a_moment(self.ledger, at, customers, blocks, Random(seed)):
            if only in asked.route:
                self.remembered.append(self.reads.ask(asked))

    def teardown(self) -> None:
        super().teardown()
        if self.sound:
            self.kept += self.remembered

    def answers_stay(self) -> None:
        super().answers_stay()
        for found in self.reads.differences(self.remembered):
            raise AssertionError(f"an answer has changed: {found}")


def test_every_read_names_a_moment_or_its_reason(service: Subledger) -> None:
    reads = Reads(service)
    named = [*reads.with_a_moment, *KEPT, *GROWING, *NOW]
    assert sorted(named) == sorted(reads.routes)


@pytest.mark.law
def test_an_answer_once_given_never_changes(alone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBLEDGER_HOME", str(tmp_path / "here"))
    database = Database(alone)
    service = Subledger(database)
    reads, kept = Reads(service), list[Answer]()

    class Histories(Remembering):
        def __init__(self) -> None:
            super().__init__(service, reads, kept)

    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
    database.close()
    by_name: dict[str, list[Answer]] = {}
    for answer in kept:
        by_name.setdefault(answer.asked.name, []).append(answer)
    if EXAMPLES >= 25:  # fewer histories may not contain all
        assert {name for name in by_name if name not in (*KEPT, *GROWING)} == every_name(reads)
    some = [answer for answers in by_name.values() for answer in answers[:12]]
    assert asked_in_another_process(alone, tmp_path / "another", some) == []


def every_name(reads: Reads) -> set[str]:
    """Returns the names of the reads at a point in time, with every report of each route for reports."""
    found = set()
    for route in reads.with_a_moment:
        names = REPORTS if "{ledger}" in route else JOINT
        found |= {route.replace("{name}", name) for name in names} if "{name}" in route else {route}
    return found
