"""The report of changes explains the whole difference of two trial balances, for any two moments.

The books are walks through every event type in several currencies, with one event per batch and with months that are
closed and reopened. One walk changes its policies; there is also one under each policy.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import date, datetime, timedelta
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from api.service import Subledger
from api.shapes.change_report import ChangesAnswer, ChangesQuery, answer
from projections.reads.balances import AccountBalance
from projections.reads.date_reasons import DateReason
from projections.reports.changed_lines import Key, lines
from subledger.accounts import ROLES
from subledger.errors import UnknownCustomer
from subledger.periods import Period
from subledger.posting import SHIPPED_POLICIES
from subledger.store.reading.pages import entries_page
from tests.conftest import NewLedger
from tests.laws.walks import PEOPLE, long_walk
from tests.reading import rows_of, table_of
from tests.store.walked import record_walk

WALKS = (None, *SHIPPED_POLICIES)
Figures = dict[tuple[str, str], list[int]]
"""Account and currency → balance on the account's normal side, and balance in the functional currency."""


class Books(msgspec.Struct, frozen=True):
    """A ledger, and the moments of its batches."""

    ledger: str
    moments: tuple[datetime, ...]


@pytest.fixture(scope="module")
def walked(service: Subledger, new_ledger: NewLedger) -> dict[str | None, Books]:
    found = {}
    for number, policy in enumerate(WALKS):
        ledger = f"changes-{new_ledger()}"
        record_walk(service, ledger, long_walk(31 + number, 160), policy=policy)
        with service.database.read() as connection:
            query = sa.text("SELECT recorded_at FROM batches WHERE ledger = :ledger ORDER BY recorded_at")
            moments = connection.execute(query, {"ledger": ledger}).scalars().all()
        found[policy] = Books(ledger, tuple(moments))
    return found


DAYS = st.dates(date(2025, 12, 30), date(2026, 9, 30))
QUESTIONS = st.fixed_dictionaries(
    {
        "day": DAYS,
        "back": st.none() | st.integers(0, 100),
        "moments": st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
        "customer": st.none() | st.sampled_from(PEOPLE),
        "account": st.none() | st.none() | st.sampled_from([role.name for role in ROLES]),
        "limit": st.sampled_from((1, 3, 50, 1000)),
    }
)


@pytest.mark.law
@pytest.mark.parametrize("policy", WALKS)
def test_what_is_listed_is_the_difference_of_the_two_trial_balances(
    service: Subledger, walked: dict[str | None, Books], policy: str | None
) -> None:
    books = walked[policy]

    @settings(max_examples=settings().max_examples * 2)
    @given(QUESTIONS)
    def ties(question: dict[str, Any]) -> None:
        first, last = (books.moments[round(at * (len(books.moments) - 1))] for at in question["moments"])
        day, customer = question["day"], question["customer"]
        from_date = None if question["back"] is None else day - timedelta(days=question["back"])
        query = ChangesQuery(
            from_known_at=first,
            to_known_at=last,
            as_of=day,
            from_=None if from_date is None else from_date.isoformat(),
            customer=customer,
            account=question["account"],
        )
        known = [_balances(service, books.ledger, customer, day, from_date, at) for at in (first, last)]
        if known[1] is None:
            with pytest.raises(UnknownCustomer), answer(service, books.ledger, query):
                pass
            return
        before, after = (of or {} for of in known)
        expected = _difference(before, after, question["account"])
        with answer(service, books.ledger, query) as found:
            assert found.report is not None
            assert found.report.ties_out
            accounts = {(row["account"], row["currency"]): row for row in table_of(found.report, "accounts")}
            types = _summed(table_of(found.report, "event_types"))
            listed = _all_lines(found, question["limit"])
        assert types == _summed(listed) == expected
        for key, row in accounts.items():
            was, now = before.get(key, [0, 0]), after.get(key, [0, 0])
            assert [row["before"], row["before_functional"]] == was
            assert [row["after"], row["after_functional"]] == now
        assert all(question["account"] in (None, row["account"]) for row in listed)
        if first == last:
            assert (listed, types) == ([], {})

    ties()


def _all_lines(found: ChangesAnswer, limit: int) -> list[dict[str, Any]]:
    """Returns the lines of all pages."""
    listed: list[dict[str, Any]] = []
    following: Key | None = (0, 0)
    while following is not None:
        page = lines(found.view, found.request, found.earlier.position, after=following, limit=limit)
        listed += rows_of(page.table)
        following = page.following
    return listed


def _balances(
    service: Subledger, ledger: str, customer: str | None, day: date, from_date: date | None, known_at: datetime
) -> Figures | None:
    """Returns the balances of the range by the product's other reads; None for a customer who is not known yet."""

    def read(as_of: date) -> list[AccountBalance]:
        if customer is None:
            return service.trial_balance(ledger, as_of=as_of, known_at=known_at)[1]
        return service.customer_balances(ledger, customer, as_of=as_of, known_at=known_at)[1].accounts

    try:
        found: Figures = defaultdict(lambda: [0, 0])
        for sign, as_of in ((1, day), *([] if from_date is None else [(-1, from_date - timedelta(days=1))])):
            for account in read(as_of):
                figures = found[account.account, account.currency]
                figures[0] += sign * account.balance_minor
                figures[1] += sign * account.functional_minor
        return dict(found)
    except UnknownCustomer:
        return None


def _difference(before: Figures, after: Figures, account: str | None) -> Figures:
    found = {}
    for key in {*before, *after}:
        was, now = before.get(key, [0, 0]), after.get(key, [0, 0])
        change = [now[0] - was[0], now[1] - was[1]]
        if any(change) and account in (None, key[0]):
            found[key] = change
    return found


def _summed(rows: list[dict[str, Any]]) -> Figures:
    found: Figures = defaultdict(lambda: [0, 0])
    for row in rows:
        figures = found[row["account"], row["currency"]]
        figures[0] += row["change"]
        figures[1] += row["change_functional"]
    return {key: figures for key, figures in found.items() if any(figures)}


@pytest.mark.law
@pytest.mark.parametrize("policy", WALKS)
def test_the_reason_of_a_date_is_right_for_every_entry(
    service: Subledger, walked: dict[str | None, Books], policy: str | None
) -> None:
    books = walked[policy]
    query = ChangesQuery(from_known_at=books.moments[0] - timedelta(days=1), as_of=date(2030, 1, 1))
    with answer(service, books.ledger, query) as found:
        listed = rows_of(found.lines(100_000).table)
        entries = entries_page(found.view.connection, books.ledger, kinds=None, limit=100_000)
    assert {row["position"] for row in listed} == {
        each.position for each in entries if each.entry.amount_minor or each.entry.functional_minor
    }
    closed = _closed_through(service, books.ledger)
    for row in listed:
        through = closed(row["position"])
        late = row["accounting_date"] > row["effective_date"]
        in_closed = through is not None and row["effective_date"] <= through
        assert (row["date_reason"] == DateReason.OWN_DAY) == (not late)
        assert row["closed_through"] == (through if row["date_reason"] == DateReason.MONTH_CLOSED else None)
        if row["date_reason"] == DateReason.MONTH_CLOSED:
            assert in_closed
            assert row["accounting_date"] == through + timedelta(days=1)
        elif in_closed:
            assert row["accounting_date"] > through + timedelta(days=1)
        if row["kind"] in ("reinstatement", "dispute_won"):
            assert row["date_reason"] in (DateReason.OWN_DAY, DateReason.MONTH_CLOSED, DateReason.MIRRORS)
    assert {row["date_reason"] for row in listed} >= {DateReason.OWN_DAY, DateReason.MONTH_CLOSED}


def _closed_through(service: Subledger, ledger: str) -> Any:
    """Returns a function from a position to the last closed day before it, from the events of the log."""
    with service.database.read() as connection:
        query = "SELECT position, type, data FROM events WHERE ledger = :ledger AND type LIKE 'period.%' ORDER BY 1"
        rows = connection.execute(sa.text(query), {"ledger": ledger}).all()

    def at(position: int) -> date | None:
        through = None
        for row in rows:
            if row.position < position and row.type in ("period.closed", "period.reopened"):
                period = Period.parse(msgspec.json.decode(row.data)["period"])
                through = period.last_day if row.type == "period.closed" else period.previous.last_day
        return through

    return at
