"""Recent effects are found by customer, read once, and counted as in the log."""

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
from subledger.event_effect import NO_EFFECT, EventEffect
from subledger.events.own_data import Approvals
from subledger.ledger_settings import LedgerSettings, SettingsChange
from subledger.store.database import Database
from subledger.store.reading.ledgers import ledger_head
from subledger.store.writing.recent_effects import RecentEffects, _Window
from tests.building import grant, purchase, recorded, usage
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

    def rows_read(effects: RecentEffects, *names: str, state: Any = head.state, later: timedelta = timedelta(0)) -> int:
        with database.write(recording=True) as connection:
            [(before,)] = connection.execute(READ).fetchall()
            effects.load(connection, state, names, head.recorded_at + later)
            [(after,)] = connection.execute(READ).fetchall()
        return int(after or 0) - int(before or 0)

    with psycopg.connect(scratch_url, autocommit=True) as owner:
        for statement in MANY:
            assert owner.execute(statement.encode()).rowcount == 50_000
        for prepare in ("SELECT 1", "ANALYZE events, entries, batches"):
            owner.execute(prepare.encode())
            effects = RecentEffects()
            assert rows_read(effects, "cust", "eve", "new") <= 1 + 2 * 11, prepare
            assert effects.of("cust") == EventEffect(credits_given=Decimal(5))
            assert rows_read(effects, "cust", "eve", "new") <= 1, "the first position of the time alone"
            assert rows_read(RecentEffects(), "cust", later=timedelta(days=2)) == 0, "nothing is that new"
    for asked in ({"grants_within": "1d"}, {"grant_credits_above": "1"}, {"voids": True}):
        state = head.state.__class__(
            ledger="acme", functional_currency="USD", approvals=Approvals.model_validate(asked)
        )
        assert rows_read(RecentEffects(), "cust", state=state) == 0, "no limit holds for events together"
    database.close()


def test_usage_is_not_in_the_index_of_effects(service: Subledger, new_ledger: NewLedger, owner_url: str) -> None:
    ledger = new_ledger()
    size = "SELECT pg_relation_size('ix_events_customer'), pg_relation_size('ux_events_key')"
    service.record(ledger, [buy("b")])
    with psycopg.connect(owner_url, autocommit=True) as owner:
        [(before, keys_before)] = owner.execute(size).fetchall()
        service.record(ledger, [use(f"u{number}") for number in range(1000)])
        [(after, keys_after)] = owner.execute(size).fetchall()
    assert after == before
    assert keys_after > keys_before


def _by_the_log(service: Subledger, ledger: str) -> EventEffect:
    with service.database.read() as reading:
        head = ledger_head(reading, ledger)
    effects = RecentEffects()
    with service.database.write() as connection:
        effects.load(connection, head.state, ["cust"], head.recorded_at)
    return effects.of("cust")


def test_what_a_writer_remembers_of_effects_is_what_the_log_has(service: Subledger) -> None:
    database = service.database
    ledger = "effects-remembered"
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
            assert memory.effects.of("cust") == NO_EFFECT, "for a duplicate nothing is read"
        else:
            assert memory.effects.of("cust") == _by_the_log(service, ledger)
    prices = SettingsChange(approvals={"credit_prices": {"credit": "0.01"}})
    approval_id = second.configure_ledger(ledger, prices, by="ann").approval_id
    assert approval_id is not None
    second.decide_approval(ledger, approval_id, by="bob", allow=True)
    assert [outcome.status for outcome in second.record(ledger, [give("12", "1")], by="ann")] == ["waiting"]
    found = second.recorder._memories[ledger].effects.of("cust")
    assert found == _by_the_log(service, ledger)
    assert found == EventEffect(credits_given=Decimal(1000)), "as it was measured when it was recorded"


def test_effects_from_between_two_settings_do_not_count_when_the_first_one_is_back(service: Subledger) -> None:
    """Two persons removed the requirement. No effects were measured until it was set again."""
    ledger = "effects-between"

    def configure(**approvals: Any) -> None:
        approval_id = service.configure_ledger(ledger, SettingsChange(approvals=approvals), by="ann").approval_id
        if approval_id is not None:
            service.decide_approval(ledger, approval_id, by="bob", allow=True)

    service.create_ledger(ledger, LedgerSettings(currency="USD", approvals=Approvals.model_validate(LIMITS)))
    recorded(service, ledger, give("1", "500"))
    configure(**dict.fromkeys(LIMITS))
    recorded(service, ledger, give("2", "5000"))
    configure(**LIMITS)
    assert [outcome.status for outcome in service.record(ledger, [give("3", "501")], by="ann")] == ["waiting"]
    recorded(service, ledger, give("4", "500"))


@pytest.mark.parametrize("places", [0, 9])
@given(st.lists(st.tuples(st.integers(0, 10**24), st.integers(0, 3)), max_size=20), st.integers(0, 60))
def test_what_leaves_the_time_leaves_nothing_behind(places: int, found: list[tuple[int, int]], first: int) -> None:
    window, position, left = _Window(), 0, NO_EFFECT
    for credits, distance in found:
        position += distance
        effect = EventEffect(credits_given=Decimal(credits).scaleb(-places), value_given=Decimal(credits))
        window.add(position, effect)
        if position >= first:
            left += effect
    window.drop_before(first)
    assert window.total == left
    window.drop_before(None)
    assert window.total == NO_EFFECT
