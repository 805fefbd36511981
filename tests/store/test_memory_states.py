"""The states of the writer's memory: after each transition a writer records the same as a writer without memory.

The table of transitions is in ``subledger/store/writing/memory.py``. The same events go into two ledgers: into one by a
writer with memory, and into the other by a new writer for each batch. After a transition both decide the same later
events, and outcomes, logs and rows must be equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any

import psycopg
import pytest

from api.service import LedgerSettings, Subledger
from projections.replay.rebuild import rebuild
from subledger.errors import DatabaseUnavailable
from subledger.events.envelope import read_event
from subledger.store.database import Database
from subledger.store.writing import write_behind
from subledger.store.writing.batch import Outcome
from subledger.store.writing.expiry_sweep import sweep
from tests.building import cloud_event, grant, purchase, reversal, usage
from tests.conftest import NewLedger
from tests.store.restorable import Restorable
from tests.store.tampering import differences, dump, lag
from tests.waiting import until

ROWS = ("wallets", "blocks", "documents", "dimension_sets")
LOG = """
SELECT e.position, e.event_id, e.decision, n.number, n.kind, n.customer, n.block_id, n.credits, n.amount_minor,
       n.accounting_date, n.dimension_set
FROM events e LEFT JOIN entries n ON n.ledger = e.ledger AND n.position = e.position
WHERE e.ledger = %s ORDER BY e.position, n.number
"""
Answer = tuple[str | None, str, int | None, str | None, dict[str, Any]]

buy = partial(purchase, time="2026-01-01", credits="100", price="10.00")
use = partial(usage, customer="c0", time="2026-01-02", product="api", currency="USD")
prefix = map("next-{}".format, count())


class Twins:
    """Two ledgers with the same events. ``process`` makes a new writer without memory."""

    def __init__(self, process: Callable[[], Subledger], ledgers: Sequence[str]) -> None:
        self._process = process
        self.writer = process()
        self.ledger, self._forgetful = ledgers

    def record(self, *events: dict[str, Any]) -> list[Outcome]:
        """Records a batch in both ledgers. The answers must be equal."""
        outcomes = self.writer.record(self.ledger, list(events))
        forgetful = self.record_forgetfully(*events)
        assert [_answer(outcome) for outcome in outcomes] == [_answer(outcome) for outcome in forgetful]
        return outcomes

    def record_forgetfully(self, *events: dict[str, Any]) -> list[Outcome]:
        """Records a batch only in the ledger of the new writers."""
        return self._process().record(self._forgetful, list(events))

    def another_writer(self, *events: dict[str, Any]) -> None:
        """Records a batch in both ledgers by another process."""
        for ledger in (self.ledger, self._forgetful):
            assert {outcome.status for outcome in self._process().record(ledger, list(events))} == {"recorded"}

    def decide_the_same(self) -> None:
        """Records events that depend on every figure of a wallet in both ledgers. Then logs and rows must be equal."""
        new = next(prefix)
        self.record(
            use(f"{new}-all", credits="100000"),
            use(f"{new}-some", credits="7", customer="c1", product=f"{new}-product"),
            reversal(f"{new}-back", "u0", "c0", "2026-01-03", credits="0.5"),
            buy("b-c2", event_id=f"{new}-again", customer="c2"),
            grant(f"{new}-gift", "3", "c2", "2026-01-03"),
            cloud_event(
                f"{new}-void",
                "credits.refunded",
                "c3",
                "2026-01-04T00:00:00Z",
                block_id="b-c3",
                credits="1",
                reason="r",
            ),
            use(f"{new}-nobody", customer="nobody"),
        )
        with pytest.MonkeyPatch.context() as patched:  # rows that a writer without memory never leaves behind
            patched.setattr(write_behind, "MAX_WRITE_THROUGH", 500)
            self.record(grant(f"{new}-last", "1", "c3", "2026-01-05"))
        assert self._log(self.ledger) == self._log(self._forgetful)
        mine, forgetful = dump(self.writer, self.ledger), dump(self.writer, self._forgetful)
        assert [mine[table] for table in ROWS] == [forgetful[table] for table in ROWS]
        assert differences(self.writer, self.ledger) == []

    def _log(self, ledger: str) -> list[tuple[Any, ...]]:
        with self.writer.database.read() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(LOG, (ledger,))]

    @property
    def lag(self) -> int:
        return lag(self.writer, self.ledger)


def _answer(outcome: Outcome) -> Answer:
    error = outcome.error
    return (
        outcome.event_id,
        outcome.status,
        outcome.position,
        None if error is None else f"{error.code}: {error.message}",
        {} if error is None else error.facts,
    )


def founded(twins: Twins) -> Twins:
    """Four customers with a block each, and usage of one: the memory is ``true``."""
    twins.record(*(buy(f"b-c{number}", customer=f"c{number}") for number in range(4)))
    twins.record(use("u0"))
    assert twins.lag == 0
    return twins


def behind(twins: Twins) -> Twins:
    """Usage that is not in the rows yet: the memory is write-behind. Needs ``left_behind``."""
    twins.record(*(use(f"behind-{number}", customer=f"c{number % 4}") for number in range(8)))
    assert twins.lag == 8
    return twins


@pytest.fixture
def twins(database: Database, new_ledger: NewLedger) -> Twins:
    ledgers = [new_ledger(on_shortfall="reject") for _ in range(2)]
    return founded(Twins(lambda: Subledger(database), ledgers))


# --- begun, committed -------------------------------------------------------------------------------------------------


def test_a_fresh_memory_is_true_after_its_first_batch(twins: Twins) -> None:
    twins.writer = Subledger(twins.writer.database)
    twins.record(use("first"))
    assert twins.lag == 0
    twins.decide_the_same()


def test_a_true_memory_is_true_after_a_batch_that_wrote_every_row(twins: Twins) -> None:
    twins.record(use("u1"), buy("b-more", customer="c0"), use("u2", credits="150"))
    assert twins.lag == 0
    twins.decide_the_same()


def test_a_true_memory_is_written_behind_after_a_batch_that_left_rows(
    twins: Twins, left_behind: Callable[[int], None]
) -> None:
    behind(twins).decide_the_same()


def test_a_memory_that_is_written_behind_stays_so_while_batches_leave_rows(
    twins: Twins, left_behind: Callable[[int], None]
) -> None:
    behind(twins).record(use("more"), use("and-more", customer="c1"))
    assert twins.lag == 10
    twins.record(use("more"))
    assert twins.lag == 10, "nothing but a duplicate was recorded"
    twins.decide_the_same()


def test_a_memory_that_is_written_behind_is_true_after_a_batch_that_wrote_every_row(
    twins: Twins, left_behind: Callable[[int], None]
) -> None:
    behind(twins)
    left_behind(500)
    twins.record(use("small", customer="c2"))
    assert twins.lag == 0
    twins.decide_the_same()


def test_rows_that_are_behind_are_written_with_what_was_recalled(
    twins: Twins, left_behind: Callable[[int], None]
) -> None:
    """An event other than usage writes the row of its customer. The other rows stay behind."""
    behind(twins).record(reversal("back", "behind-0", "c0", "2026-01-03"), use("after", customer="c0"))
    assert twins.lag == 10
    twins.decide_the_same()


def test_the_row_of_a_wallet_that_late_usage_recalled_a_block_into_is_written(
    database: Database, new_ledger: NewLedger, left_behind: Callable[[int], None]
) -> None:
    """A writer that takes over adds usage to the row. Without this write the row would not have the expired block."""
    left_behind(500)
    ledgers = [new_ledger(on_shortfall="reject", late_usage="reclassify") for _ in range(2)]
    twins = founded(Twins(lambda: Subledger(database), ledgers))
    twins.record(buy("b-old", customer="c0", expires_at="2026-01-10T00:00:00Z"))
    for ledger in ledgers:
        assert sweep(twins.writer.recorder, ledger, datetime(2026, 2, 1, tzinfo=UTC)) == 1
    left_behind(0)
    twins.record(use("late", time="2026-01-05"), use("other", customer="c1"))
    assert twins.lag == 2
    twins.writer = Subledger(database)
    twins.decide_the_same()


def test_a_fresh_memory_is_written_behind_if_it_finds_rows_behind_and_records_nothing(
    twins: Twins, left_behind: Callable[[int], None]
) -> None:
    behind(twins)
    twins.writer = Subledger(twins.writer.database)
    twins.record(use("behind-7", customer="c3"))
    assert twins.lag == 8
    twins.decide_the_same()


# --- another head -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["true", "write-behind"])
def test_a_memory_is_fresh_after_another_writer(state: str, twins: Twins, left_behind: Callable[[int], None]) -> None:
    if state == "write-behind":
        behind(twins)
    twins.another_writer(use("other", credits="40"), buy("b-other", customer="c9"))
    twins.record(use("rest", credits="60"), use("rest-of-others", customer="c9", credits="100"))
    twins.decide_the_same()


@pytest.mark.parametrize("state", ["true", "write-behind"])
def test_a_memory_is_fresh_after_a_rebuild(state: str, twins: Twins, left_behind: Callable[[int], None]) -> None:
    if state == "write-behind":
        behind(twins)
    rebuild(twins.writer.database, twins.ledger)
    twins.decide_the_same()


@pytest.mark.campaign
@pytest.mark.parametrize("state", ["true", "write-behind"])
def test_a_memory_is_fresh_after_a_restore(
    state: str, restorable: Restorable, left_behind: Callable[[int], None]
) -> None:
    """The restored log has the same positions as the replaced log, but other content."""
    left_behind(500)
    creator = restorable.process()
    for ledger in ("one", "two"):
        creator.create_ledger(ledger, LedgerSettings(currency="USD", on_shortfall="reject"))
    twins = founded(Twins(restorable.process, ["one", "two"]))
    restorable.back_up()
    if state == "write-behind":
        left_behind(0)
        behind(twins)
    else:
        twins.record(*(use(f"gone-{number}", customer=f"c{number % 4}", product="gone") for number in range(8)))
    restorable.restore()
    twins.another_writer(*(use(f"there-{number}", customer="c1") for number in range(8)))
    twins.decide_the_same()


# --- rolled back ------------------------------------------------------------------------------------------------------


class Refused(Exception):
    """The check before the commit failed."""


SIZES = {"a batch that is sent at its end": 3, "a batch that is copied": 300}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("state", ["true", "write-behind"])
def test_a_memory_is_fresh_after_a_rollback(
    state: str, size: int, twins: Twins, left_behind: Callable[[int], None]
) -> None:
    if state == "write-behind":
        behind(twins)
    lost = [use(f"lost-{number}", customer=f"c{number % 5}", credits="0.1", product="lost") for number in range(size)]
    events = [read_event(event) for event in (*lost, buy("b-lost", customer="c1"))]

    def check(*_: object) -> None:
        raise Refused

    with pytest.raises(Refused):
        twins.writer.recorder.transact(twins.ledger, lambda *_: events, check)
    twins.decide_the_same()


@pytest.mark.parametrize("state", ["true", "write-behind"])
def test_a_memory_is_fresh_after_a_lost_connection(
    state: str, twins: Twins, left_behind: Callable[[int], None], owner_url: str
) -> None:
    if state == "write-behind":
        behind(twins)

    def plan(connection: Any, *_: object) -> list[Any]:
        with psycopg.connect(owner_url) as superuser:
            superuser.execute("SELECT pg_terminate_backend(%s, 60000)", (connection.info.backend_pid,))
        return [read_event(use("lost", product="lost"))]

    with pytest.raises(DatabaseUnavailable):
        twins.writer.recorder.transact(twins.ledger, plan)
    twins.decide_the_same()


@pytest.mark.parametrize("state", ["true", "write-behind"])
def test_a_memory_is_fresh_if_the_answer_to_its_commit_is_lost(
    state: str, twins: Twins, left_behind: Callable[[int], None]
) -> None:
    """The batch is recorded, but its writer does not know it."""
    if state == "write-behind":
        behind(twins)
    sent = [use("sent", customer="c0"), use("sent-too", customer="c7")]

    def recorded() -> bool:
        with twins.writer.database.read() as connection:
            query = "SELECT FROM events WHERE ledger = %s AND event_id = 'sent'"
            return connection.exec_driver_sql(query, (twins.ledger,)).first() is not None

    def lost() -> None:
        until(recorded, "the commit")
        raise ConnectionError("the answer does not arrive")

    with pytest.raises(ConnectionError):
        twins.writer.recorder.record(twins.ledger, [read_event(event) for event in sent], meanwhile=lost)
    assert [outcome.status for outcome in twins.record_forgetfully(*sent)] == ["recorded", "rejected"]
    assert [outcome.status for outcome in twins.record(*sent)] == ["duplicate", "rejected"]
    twins.decide_the_same()


# --- without the lock -------------------------------------------------------------------------------------------------


@pytest.fixture
def alone(twins: Twins, calls: list[str | None]) -> Iterator[Twins]:
    """A writer that has found its ledger unchanged, and so writes usage without the lock."""
    twins.record(use("warm"))
    calls.clear()
    twins.record(use("warmer"))
    assert calls == ["written"]
    calls.clear()
    yield twins
    calls.clear()
    twins.record(use("on"))
    twins.record(use("and-on"))
    assert calls[-1] == "written", "the writer goes on without the lock"
    twins.decide_the_same()


def test_a_true_memory_is_true_after_usage_without_the_lock(alone: Twins, calls: list[str | None]) -> None:
    alone.record(use("u1", product="new"), use("u2", customer="c1"))
    assert calls == ["written"]
    alone.decide_the_same()


def test_a_refused_event_is_taken_back_and_decided_under_the_lock(alone: Twins, calls: list[str | None]) -> None:
    outcomes = alone.record(use("u1", product="new"), use("too-much", credits="1000"), use("u2", customer="c1"))
    assert [outcome.status for outcome in outcomes] == ["recorded", "rejected", "recorded"]
    assert calls == [], "not even tried"
    alone.decide_the_same()


def test_a_duplicate_is_taken_back_and_found_under_the_lock(alone: Twins, calls: list[str | None]) -> None:
    [outcome, new] = alone.record(use("u0"), use("u1", credits="3"))
    assert (outcome.status, new.status, calls) == ("duplicate", "recorded", [None])
    alone.decide_the_same()


def test_dimensions_of_a_batch_that_was_taken_back_are_numbered_anew(alone: Twins, calls: list[str | None]) -> None:
    """The first event is decided with its new product, and then found to be a different event under a recorded key."""
    [outcome] = alone.record(use("u0", product="never"))
    assert (outcome.status, calls) == ("rejected", [None])
    alone.record(use("u1", product="ever"), use("u2", product="later"))
    alone.decide_the_same()


def test_a_memory_is_fresh_if_the_ledger_has_moved_on(alone: Twins, calls: list[str | None]) -> None:
    alone.another_writer(use("other", credits="90"))
    calls.clear()
    [outcome] = alone.record(use("too-much", credits="9", product="new"))
    assert (outcome.status, calls) == ("rejected", [None])
    alone.decide_the_same()


def test_rows_that_are_behind_are_written_under_the_lock(
    alone: Twins, calls: list[str | None], left_behind: Callable[[int], None]
) -> None:
    """A batch without the lock would write all rows, and the write might be rolled back."""
    behind(alone)
    left_behind(500)
    calls.clear()
    alone.record(use("u1"))
    assert (calls, alone.lag) == ([], 0)
    alone.decide_the_same()
