"""Earlier gifts are found by customer, are read once, and are counted as the log has them."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.service import Subledger
from subledger.deciding.second_person import GIVING_TYPES, Given
from subledger.events.own_data import Approvals
from subledger.ledger_settings import LedgerSettings, SettingsChange
from subledger.store.database import Database
from subledger.store.reading.ledgers import ledger_head
from subledger.store.tables import GIVING
from subledger.store.writing.given import Gifts, _Window
from tests.building import grant, purchase, usage
from tests.conftest import NewLedger

LIMITS = {"grant_credits_above": "1000", "grants_within": "1d"}
READ = """
SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_xact_user_tables
WHERE relname IN ('events', 'entries', 'batches')
"""
MANY = (
    """
    -- Fifty thousand more purchases, of a thousand other customers.
    INSERT INTO events (ledger, position, source, event_id, type, customer, occurred_at, data, leaf)
    SELECT ledger, 1000 + n, source, event_id || n, type, 'other-' || n % 1000, occurred_at, data, leaf
    FROM events, generate_series(1, 50000) AS n WHERE event_id = 'buy-cust-0'
    """,
    """
    INSERT INTO entries SELECT (
        jsonb_populate_record(entries, jsonb_build_object('position', 1000 + n, 'customer', 'other-' || n % 1000))
    ).* FROM entries, generate_series(1, 50000) AS n WHERE position = (SELECT min(position) FROM entries)
    """,
    """
    INSERT INTO batches SELECT (
        jsonb_populate_record(batches, jsonb_build_object(
            'first_position', 1000 + n, 'last_position', 1000 + n, 'recorded_at', recorded_at + n * interval '1 second'
        ))
    ).* FROM batches, generate_series(1, 50000) AS n WHERE last_position = (SELECT max(last_position) FROM batches)
    """,
)


buy = partial(purchase, customer="cust", time="2026-01-10T12:00:00Z", credits="5")


give = partial(grant, customer="cust")


use = partial(usage, credits="0.001", customer="cust")


def test_the_condition_of_the_index_names_the_types_that_can_give() -> None:
    assert f"type IN ({', '.join(repr(type) for type in GIVING_TYPES)})" == GIVING


@pytest.mark.campaign
def test_however_much_others_bought_only_the_events_of_a_customer_are_read_and_once(scratch_url: str) -> None:
    """The rows are counted before and after the server has statistics of them."""
    database = Database(scratch_url)
    service = Subledger(database)
    service.create_ledger("acme", LedgerSettings(currency="USD", approvals=Approvals.model_validate(LIMITS)))
    customers = ["cust", "eve"]
    service.record("acme", [buy(f"{name}-{n}", customer=name) for name in customers for n in range(5)] + [give("gift")])
    with database.read() as connection:
        head = ledger_head(connection, "acme")

    def rows_read(gifts: Gifts, *names: str, state: Any = head.state, later: timedelta = timedelta(0)) -> int:
        with database.write(recording=True) as connection:
            [(before,)] = connection.execute(READ).fetchall()
            gifts.load(connection, state, names, head.recorded_at + later)
            [(after,)] = connection.execute(READ).fetchall()
        return int(after or 0) - int(before or 0)

    with psycopg.connect(scratch_url, autocommit=True) as owner:
        for statement in MANY:
            assert owner.execute(statement.encode()).rowcount == 50_000
        for prepare in ("SELECT 1", "ANALYZE events, entries, batches"):
            owner.execute(prepare.encode())
            gifts = Gifts()
            assert rows_read(gifts, "cust", "eve", "new") <= 1 + 2 * 11, prepare
            assert gifts.of("cust") == Given(credits=Decimal(5))
            assert rows_read(gifts, "cust", "eve", "new") <= 1, "the first position of the time alone"
            assert rows_read(Gifts(), "cust", later=timedelta(days=2)) == 0, "nothing is that new"
    for asked in ({"grants_within": "1d"}, {"grant_credits_above": "1"}, {"voids": True}):
        state = head.state.__class__(
            ledger="acme", functional_currency="USD", approvals=Approvals.model_validate(asked)
        )
        assert rows_read(Gifts(), "cust", state=state) == 0, "no limit holds for gifts together"
    database.close()


def test_usage_is_not_in_the_index_of_gifts(service: Subledger, new_ledger: NewLedger, owner_url: str) -> None:
    ledger = new_ledger()
    size = "SELECT pg_relation_size('ix_events_giving'), pg_relation_size('ux_events_key')"
    service.record(ledger, [buy("b")])
    with psycopg.connect(owner_url, autocommit=True) as owner:
        [(before, keys_before)] = owner.execute(size).fetchall()
        service.record(ledger, [use(f"u{number}") for number in range(1000)])
        [(after, keys_after)] = owner.execute(size).fetchall()
    assert after == before
    assert keys_after > keys_before


def _by_the_log(service: Subledger, ledger: str) -> Given:
    with service.database.read() as reading:
        head = ledger_head(reading, ledger)
    gifts = Gifts()
    with service.database.write() as connection:
        gifts.load(connection, head.state, ["cust"], head.recorded_at)
    return gifts.of("cust")


def test_what_a_writer_remembers_of_gifts_is_what_the_log_has(service: Subledger) -> None:
    database = service.database
    ledger = "gifts-remembered"
    service.create_ledger(ledger, LedgerSettings(currency="USD", approvals=Approvals.model_validate(LIMITS)))
    first, second = Subledger(database), Subledger(database)
    batches: list[tuple[Subledger, list[dict[str, Any]], list[str]]] = [
        (first, [give("1", "300"), buy("2", bonus_credits="100"), give("3", "700")], ["recorded"] * 2 + ["waiting"]),
        (first, [buy("4"), give("5", "300")], ["recorded"] * 2),
        (second, [give("6", "100"), use("7")], ["recorded"] * 2),
        (first, [give("8", "201")], ["waiting"]),
        (first, [give("9", "200"), give("10", "1")], ["recorded", "waiting"]),
        (second, [give("9", "200")], ["duplicate"]),
        (second, [give("11", "1")], ["waiting"]),
    ]
    for writer, events, expected in batches:
        assert [outcome.status for outcome in writer.record(ledger, events, by="ann")] == expected
        memory = writer.recorder._memories[ledger]
        if "duplicate" in expected:
            assert memory.gifts.of("cust") == Given(), "for a duplicate nothing is read"
        else:
            assert memory.gifts.of("cust") == _by_the_log(service, ledger)
    second.configure_ledger(ledger, SettingsChange(approvals={"credit_prices": {"credit": "0.01"}}))
    assert [outcome.status for outcome in second.record(ledger, [give("12", "1")], by="ann")] == ["waiting"]
    found = second.recorder._memories[ledger].gifts.of("cust")
    assert found == _by_the_log(service, ledger)
    assert found == Given(credits=Decimal(1000), value=Decimal(9)), "measured by the new prices"


def test_gifts_from_between_two_settings_count_when_the_first_one_is_back(service: Subledger) -> None:
    ledger = "gifts-between"
    service.create_ledger(ledger, LedgerSettings(currency="USD", approvals=Approvals.model_validate(LIMITS)))
    assert [outcome.status for outcome in service.record(ledger, [give("1", "500")], by="ann")] == ["recorded"]
    service.configure_ledger(ledger, SettingsChange(approvals=dict.fromkeys(LIMITS)))
    assert [outcome.status for outcome in service.record(ledger, [give("2", "500")], by="ann")] == ["recorded"]
    service.configure_ledger(ledger, SettingsChange(approvals=LIMITS))
    assert [outcome.status for outcome in service.record(ledger, [give("3", "1")], by="ann")] == ["waiting"]


@pytest.mark.parametrize("places", [0, 9])
@given(st.lists(st.tuples(st.integers(0, 10**24), st.integers(0, 3)), max_size=20), st.integers(0, 60))
def test_what_leaves_the_time_leaves_nothing_behind(places: int, gifts: list[tuple[int, int]], first: int) -> None:
    window, position, left = _Window(), 0, Given()
    for credits, distance in gifts:
        position += distance
        gift = Given(credits=Decimal(credits).scaleb(-places), value=Decimal(credits))
        window.add(position, gift)
        if position >= first:
            left += gift
    window.drop_before(first)
    assert window.total == left
    window.drop_before(None)
    assert window.total == Given()
