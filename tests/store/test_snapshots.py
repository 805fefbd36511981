"""Snapshots change the time of an answer, but never the answer. A read is one statement."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event, text

from api.service import Subledger
from projections.reads import balances, snapshots
from projections.reads.snapshots import LEDGER as WHOLE
from projections.reads.snapshots import RunningSums, SnapshotPoint, add_snapshots
from projections.replay.rebuild import rebuild
from subledger.errors import UnknownCustomer, UnknownLedger
from subledger.ledger_settings import LedgerSettings
from subledger.store.database import Database
from tests.laws.test_judges import CUSTOMERS, World
from tests.scratch_database import scratch_database
from tests.store.tampering import LEDGER, differences, past_triggers
from tests.store.test_balances import figures, of_lines

Superuser = psycopg.Connection[tuple[Any, ...]]
DAYS = 12


@pytest.fixture(scope="module")
def recorded(server_url: str) -> Iterator[tuple[Subledger, Superuser]]:
    """A ledger in four currencies, recorded over some days in small batches, with facts in any order."""
    with scratch_database(server_url) as url, pytest.MonkeyPatch.context() as patched:
        for name, smaller in (("OF_CUSTOMER", 8), ("DAY_ROWS", 30), ("INSIDE_A_DAY", 40)):
            patched.setattr(snapshots, name, smaller)
        database = Database(url)
        service = Subledger(database)
        service.create_ledger(LEDGER, LedgerSettings(currency="USD", on_shortfall="backfill"))
        events = World(random.Random(5), ("USD", "EUR", "JPY", "KWD"), "s").events(500)
        with psycopg.connect(url, autocommit=True) as superuser:
            chance, start = random.Random(2), datetime.now(UTC) + timedelta(days=1)
            sizes = [chance.choice((1, 5, 120)) for _ in range(DAYS)]
            for day in range(DAYS):
                # Later events are recorded after the time of an answer, so the days pass.
                moment = start.replace(hour=1) + timedelta(days=day)
                with past_triggers(url, "ledgers") as owner:
                    owner.execute("UPDATE ledgers SET answered_through = %s", (moment,))
                part = (
                    events[sum(sizes[:day]) : sum(sizes[: day + 1])] if day < DAYS - 1 else events[sum(sizes[:day]) :]
                )
                for first in range(0, len(part), 15):
                    service.record(LEDGER, part[first : first + 15])
            yield service, superuser
        database.close()


def moments(service: Subledger) -> list[datetime]:
    with service.database.read() as connection:
        query = text("SELECT recorded_at FROM batches WHERE ledger = :ledger ORDER BY 1")
        return list(connection.execute(query, {"ledger": LEDGER}).scalars())


def forget(superuser: Superuser) -> None:
    superuser.execute("DELETE FROM snapshots")


def count(superuser: Superuser, customer: str | None = None) -> int:
    [(found,)] = superuser.execute(
        "SELECT count(DISTINCT (customer, position)) FROM snapshots WHERE customer = coalesce(%s, customer)",
        (customer,),
    ).fetchall()
    return int(found)


POINTS = st.tuples(
    st.integers(0, 10_000), st.integers(-3, 190), st.sampled_from((*CUSTOMERS, WHOLE)), st.integers(0, 40)
)


@settings(max_examples=12)
@given(st.lists(POINTS, min_size=15, max_size=30))
def test_an_answer_is_what_the_lines_add_up_to_whatever_snapshots_there_are(
    recorded: tuple[Subledger, Superuser], points: list[tuple[int, int, str, int]]
) -> None:
    """Readers add snapshots, and all of them may be deleted at any time."""
    service, superuser = recorded
    known = [None, *moments(service)]
    forget(superuser)
    for place, day, customer, gone in points:
        if gone == 0:
            forget(superuser)
        as_of, known_at = date(2026, 1, 1) + timedelta(days=day), known[place % len(known)]
        with service.view(LEDGER, as_of=as_of, known_at=known_at) as view:
            expected = of_lines(view, customer or None)
            if not customer:
                assert figures(balances.trial_balance(view)) == expected
        if customer:
            try:
                at, found = service.customer_balances(LEDGER, customer, as_of=as_of, known_at=known_at)
            except UnknownCustomer:
                with service.view(LEDGER, as_of=date(8999, 1, 1), known_at=known_at) as view:
                    assert not of_lines(view, customer)
                continue
            assert figures(found.accounts) == expected
        else:
            at, accounts = service.trial_balance(LEDGER, as_of=as_of, known_at=known_at)
            assert figures(accounts) == expected
        assert (at.position, at.known_at, at.as_of) == (view.position, view.known_at, view.as_of)


def test_readers_leave_snapshots_until_there_is_nothing_left_to_leave(recorded: tuple[Subledger, Superuser]) -> None:
    service, superuser = recorded
    forget(superuser)
    with service.view(LEDGER) as view:
        first = balances.trial_balance(view), balances.customer_balances(view, CUSTOMERS[0])
    assert first[1].snapshot_due
    while add_snapshots(service.database, LEDGER):
        pass
    assert count(superuser, WHOLE) > 5
    assert superuser.execute("SELECT DISTINCT day_is_over FROM snapshots").rowcount == 2
    service.customer_balances(LEDGER, CUSTOMERS[0])
    with service.view(LEDGER) as view:
        again = balances.trial_balance(view), balances.customer_balances(view, CUSTOMERS[0])
    assert not again[1].snapshot_due
    assert (again[0], again[1].accounts, again[1].credits) == (first[0], first[1].accounts, first[1].credits)
    before = count(superuser)
    assert add_snapshots(service.database, LEDGER) == add_snapshots(service.database, LEDGER, CUSTOMERS[0]) == 0
    assert count(superuser) == before


@pytest.mark.campaign
def test_whoever_leaves_snapshots_leaves_the_same_ones(
    recorded: tuple[Subledger, Superuser], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call or many calls add the same rows, so two readers at the same time do no harm."""
    service, superuser = recorded

    def left() -> list[tuple[Any, ...]]:
        forget(superuser)
        for owner in (WHOLE, *CUSTOMERS):
            while add_snapshots(service.database, LEDGER, owner):
                pass
        return superuser.execute("SELECT s::text FROM snapshots s ORDER BY 1").fetchall()

    in_one_go = left()
    assert len(in_one_go) > 500
    points_of_customer, points_of_ledger = snapshots.points_of_customer, snapshots.points_of_ledger
    monkeypatch.setattr(
        snapshots, "points_of_customer", lambda *args, **named: points_of_customer(*args, **named, limit=9)
    )
    monkeypatch.setattr(snapshots, "points_of_ledger", lambda *args, **named: points_of_ledger(*args, **named, limit=1))
    assert left() == in_one_go


@pytest.mark.campaign
def test_snapshots_that_are_wrong_are_found_and_a_rebuild_drops_them(recorded: tuple[Subledger, Superuser]) -> None:
    service, superuser = recorded
    forget(superuser)
    for owner in (WHOLE, *CUSTOMERS[:2]):
        while add_snapshots(service.database, LEDGER, owner):
            pass
    assert differences(service) == []
    assert rebuild(service.database, LEDGER).removed["snapshots"] == 0
    chance, kept = random.Random(3), superuser.execute("SELECT s.ctid::text, * FROM snapshots s").fetchall()
    for changed in (
        "DELETE FROM snapshots WHERE ctid = %s::tid",
        "UPDATE snapshots SET position = position + 1000 WHERE ctid = %s::tid",
        "UPDATE snapshots SET accounting_date = accounting_date + 1000 WHERE ctid = %s::tid",
        "UPDATE snapshots SET currency = currency || 'x' WHERE ctid = %s::tid",
        "UPDATE snapshots SET policy = policy + 1 WHERE ctid = %s::tid",
        "UPDATE snapshots SET kind = kind || 'x' WHERE ctid = %s::tid",
        "UPDATE snapshots SET unit = unit || 'x' WHERE ctid = %s::tid",
        "UPDATE snapshots SET recorded_date = coalesce(recorded_date, '2026-01-01') + 1 WHERE ctid = %s::tid",
        "UPDATE snapshots SET day_is_over = NOT day_is_over WHERE ctid = %s::tid",
        "UPDATE snapshots SET written_minor = written_minor + 1 WHERE ctid = %s::tid",
        "UPDATE snapshots SET mirrored_minor = mirrored_minor + 1 WHERE ctid = %s::tid",
        "UPDATE snapshots SET functional_written_minor = functional_written_minor + 1 WHERE ctid = %s::tid",
        "UPDATE snapshots SET functional_mirrored_minor = functional_mirrored_minor + 1 WHERE ctid = %s::tid",
        "UPDATE snapshots SET credits = credits + 1 WHERE ctid = %s::tid",
        "UPDATE snapshots SET entries = entries + 1 WHERE ctid = %s::tid",
    ):
        ctid, _, customer, position, day, currency, policy, kind, unit, *_ = chance.choice(kept)
        superuser.execute("BEGIN")
        superuser.execute("CREATE TEMP TABLE as_they_were ON COMMIT DROP AS SELECT * FROM snapshots")
        superuser.execute(changed, (ctid,))
        place = ", ".join(str(part) for part in (customer, position, day, currency, policy, kind, unit))
        kept_now, expected = {}, {}
        for _, of_customer, made in snapshots.stored_and_expected(superuser, LEDGER):
            kept_now |= of_customer
            expected |= made
        different = [key for key in kept_now.keys() | expected.keys() if kept_now.get(key) != expected.get(key)]
        assert place in {", ".join(str(part) for part in key) for key in different}, changed
        superuser.execute("ROLLBACK")
    superuser.execute("UPDATE snapshots SET entries = entries + 1 WHERE ctid = %s::tid", (kept[0][0],))
    assert {difference.check for difference in differences(service)} == {"snapshots"}
    before = count(superuser)
    assert rebuild(service.database, LEDGER).removed["snapshots"] > 0
    assert 0 < count(superuser) < before, "those that are right stay"
    assert differences(service) == []


def test_a_late_fact_writes_the_days_from_it_on_and_none_before() -> None:
    key = ("USD", 1, "consumption", "credit")
    one = (Decimal(1), 0, 0, 0, Decimal(2), 1)
    two = tuple(2 * part for part in one)
    three = tuple(3 * part for part in one)
    running, days = RunningSums(), [date(2026, 1, day) for day in (1, 5, 9)]
    first = list(running.add(SnapshotPoint(position=10, added={days[0]: {key: one}, days[2]: {key: one}})))
    assert [(row.accounting_date, row.sums) for row in first] == [(days[0], one), (days[2], two)]
    late = list(running.add(SnapshotPoint(position=20, added={days[1]: {key: one}})))
    assert [(row.accounting_date, row.sums) for row in late] == [(days[1], two), (days[2], three)]


# --- the costs of a read ----------------------------------------------------------------------------------------


def test_a_balance_at_any_point_in_time_is_one_statement_and_nothing_else(
    recorded: tuple[Subledger, Superuser], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, _ = recorded
    known = moments(service)
    asks = [
        lambda: service.customer_balances(LEDGER, CUSTOMERS[0]),
        lambda: service.customer_balances(LEDGER, CUSTOMERS[0], as_of=date(2026, 3, 31), known_at=known[20]),
        lambda: service.trial_balance(LEDGER),
        lambda: service.trial_balance(LEDGER, as_of=date(2026, 3, 31), known_at=known[20]),
        lambda: service.trial_balance(LEDGER, known_at=known[-1]),
    ]
    for ask in asks:
        for _ in range(60):  # until the snapshots exist
            ask()
    told: list[str] = []
    execute = psycopg.Cursor.execute
    monkeypatch.setattr(
        psycopg.Cursor,
        "execute",
        lambda self, query, *args, **named: (told.append(query), execute(self, query, *args, **named))[1],
    )
    event.listen(service.database.engine, "before_cursor_execute", lambda *args: told.append(args[2]))
    for number, ask in enumerate(asks, start=1):
        ask()
        assert len(told) == number


def test_a_connection_that_was_lost_is_not_told_to_the_reader(recorded: tuple[Subledger, Superuser]) -> None:
    service, superuser = recorded
    first = service.trial_balance(LEDGER)
    superuser.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        " AND datname = current_database()"
    )
    assert service.trial_balance(LEDGER)[1] == first[1]


def test_a_ledger_that_is_not_there_is_named(service: Subledger) -> None:
    for as_of in (None, date(2026, 1, 1)):
        with pytest.raises(UnknownLedger):
            service.trial_balance("nowhere", as_of=as_of)
        with pytest.raises(UnknownLedger), service.view("nowhere", as_of=as_of):
            pass
