"""A plan that is made again after its first transaction waited for a stuck writer: it adds nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg
import pytest

from api.service import Subledger
from projections.close.close import close_period
from projections.close.period_history import periods
from projections.journals import making
from projections.journals.making import ensure_journals
from subledger.ledger_settings import LedgerSettings
from subledger.store.database import Database
from subledger.store.timeouts import Timeouts
from subledger.store.writing import recorder
from subledger.store.writing.stuck_writers import end_stuck_writers
from tests.building import recorded
from tests.store.closed_months import JANUARY, buy
from tests.waiting import until

HASTY = Timeouts(lock_timeout_s=0.2)
"""Time-outs of the writer whose plan is made twice."""
ENDING = Timeouts(stuck_writer_s=0.5)
"""Time-outs of the processes that end the stuck writer. Only the time after which it counts as stuck matters."""
WAITS = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'journals'::regclass"


@pytest.fixture
def service(scratch_url: str) -> Iterator[Subledger]:
    """A ledger in its own database, so that nobody else waits for its tables."""
    database = Database(scratch_url, timeouts=HASTY)
    service = Subledger(database)
    service.create_ledger("acme", LedgerSettings(currency="USD"))
    recorded(service, "acme", buy("b1"))
    yield service
    database.close()


@pytest.mark.parametrize("closed", [False, True], ids=["open month", "closed month"])
def test_a_journal_whose_plan_is_made_again_after_a_stuck_writer_was_ended_is_added_once(
    service: Subledger, scratch_url: str, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    """The stuck writer has the lock of the journals. It takes that of the ledger when the first attempt releases it.

    So the first attempt has made its plan, and is refused when it stores the journal.
    """
    if closed:
        close_period(service.recorder, "acme", JANUARY)
    plans: list[object] = []
    ended: list[int] = []
    following = making.next_journal

    def counted(*arguments: Any) -> Any:
        plans.append(arguments)
        return following(*arguments)

    with closing(psycopg.connect(scratch_url)) as stuck, closing(Database(scratch_url, timeouts=ENDING)) as ending:
        stuck.execute("LOCK TABLE journals IN SHARE MODE")

        def take_the_ledger() -> None:
            with psycopg.connect(scratch_url, autocommit=True) as looking:
                until(lambda: looking.execute(WAITS).fetchone(), "the journal waits for its table")
            stuck.execute("SELECT 1 FROM ledgers WHERE ledger = 'acme' FOR UPDATE")

        def end_it(database: Database, ledger: str) -> list[int]:
            taking.result()
            ended.extend(until(lambda: end_stuck_writers(ending, ledger), "the writer is stuck long enough"))
            return ended

        monkeypatch.setattr(making, "next_journal", counted)
        monkeypatch.setattr(recorder, "end_stuck_writers", end_it)
        with ThreadPoolExecutor(1) as threads:
            taking = threads.submit(take_the_ledger)
            (journal,) = ensure_journals(service.recorder, service.database, "acme", JANUARY)
        assert ended == [stuck.info.backend_pid]
    assert len(plans) == 3, "asked once without the lock, and by two plans"
    assert (journal.number, journal.from_cut, journal.to_cut) == (1, 0, 1)
    with service.database.read() as connection:
        assert [period.journals for period in periods(connection, "acme")] == [1]
