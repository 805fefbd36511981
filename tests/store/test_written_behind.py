"""Wallets written behind give the same results for any writers, any batches, and any moment of a stop."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

import psycopg
import pytest

from api.service import Subledger
from projections.replay.rebuild import rebuild
from subledger.events.envelope import Event
from subledger.ledger_settings import LedgerSettings
from subledger.posting import SHIPPED_POLICIES
from subledger.store.writing import memory, write_behind
from subledger.store.writing.batch import Outcome
from tests.building import grant, usage
from tests.laws.walks import long_walk
from tests.store.tampering import LEDGER, differences, dump, history, lag, tamper
from tests.store.walked import WALKED, in_batches, policy_event


def record(service: Subledger, ledger: str, events: Sequence[Event]) -> list[Outcome]:
    return service.recorder.transact(ledger, lambda _connection, _state, _position: events)


def steps(seed: int, length: int) -> list[Event]:
    """Returns the events of a walk through every event type."""
    adopted, events = 1, []
    for step in long_walk(seed, length).steps:
        event = step.event
        if event.type == "policy.adopted":
            adopted += 1
            event = policy_event(adopted, SHIPPED_POLICIES[adopted % len(SHIPPED_POLICIES)], event.occurred_at)
        events.append(event)
    return events


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(4))
def test_rows_written_behind_are_in_the_end_what_rows_written_at_once_are(
    seed: int, service: Subledger, new_ledger: Callable[..., str], left_behind: Callable[[int], None]
) -> None:
    chance, events = random.Random(seed), steps(seed, 300)
    settings = WALKED | {"late_usage": ("new", "reclassify")[seed % 2]}
    at_once, behind = new_ledger(**settings), new_ledger(**settings)
    lags, writer = [], service
    for batch in in_batches(events, chance):
        left_behind(1000)
        one = record(service, at_once, batch)
        left_behind(0)
        if chance.random() < 0.2:  # another writer, which knows only the tables
            writer = Subledger(service.database)
        two = record(writer, behind, batch)
        assert [(o.status, o.position) for o in one] == [(o.status, o.position) for o in two]
        lags.append(lag(service, behind))
        if chance.random() < 0.1:
            assert differences(service, behind) == []
    assert max(lags) > 20, "nothing was left behind"
    left_behind(1000)
    last = [give(f"last-{seed}")]
    for ledger in (at_once, behind):
        service.record(ledger, last)
    assert lag(service, behind) == 0
    assert dump(service, at_once)["wallets"] == dump(service, behind)["wallets"]
    assert differences(service, behind) == []


give = partial(grant, credits="1", customer="somebody", time="2026-05-01")


def busy(service: Subledger, ledger: str) -> None:
    """Records customers with blocks, and much usage that is not in their rows yet."""
    service.create_ledger(ledger, LedgerSettings(currency="USD", on_shortfall="overage"))
    service.record(ledger, history(5, 40))
    service.record(ledger, [use(f"use-c3-{number}") for number in range(30)])


use = partial(usage, customer="c3", time="2026-03-28", currency="USD", overage_price="0.01", on_shortfall="overage")


def test_a_rebuild_brings_every_row_up_to_date(own_service: Subledger, left_behind: Callable[[int], None]) -> None:
    busy(own_service, LEDGER)
    assert lag(own_service, LEDGER) >= 30
    rebuild(own_service.database, LEDGER)
    assert differences(own_service) == []
    own_service.record(LEDGER, [use("use-c3-100")])  # by a writer whose memory is invalid after the rebuild
    assert differences(own_service) == []


def test_a_row_that_claims_to_know_what_it_does_not_is_found(
    own_service: Subledger, scratch_url: str, left_behind: Callable[[int], None]
) -> None:
    busy(own_service, LEDGER)
    assert differences(own_service) == []
    with psycopg.connect(scratch_url) as connection:
        connection.execute("UPDATE ledgers SET wallets_through = position")
    assert {difference.check for difference in differences(own_service)} == {"wallets"}


def test_a_row_that_is_behind_and_was_changed_is_found(
    own_service: Subledger, scratch_url: str, left_behind: Callable[[int], None]
) -> None:
    busy(own_service, LEDGER)
    tamper(
        scratch_url,
        "events",
        "UPDATE wallets SET state = replace(state, '\"used\":\"', '\"used\":\"1') WHERE customer = 'c3'",
    )
    assert "wallets" in {difference.check for difference in differences(own_service)}


def test_no_customer_is_left_far_behind(
    service: Subledger,
    new_ledger: Callable[..., str],
    left_behind: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(write_behind, "MAX_UNWRITTEN_OF_CUSTOMER", 20)
    monkeypatch.setattr(write_behind, "MAX_UNWRITTEN", 60)
    ledger = new_ledger(on_shortfall="overage")
    service.record(ledger, [give(f"g-{ledger}")])
    for batch in range(12):
        service.record(ledger, [use(f"use-busy-{batch * 8 + n}", customer="busy") for n in range(8)])
        assert lag(service, ledger) <= 60
        with service.database.read() as connection:
            query = "SELECT w.position FROM wallets w WHERE ledger = %s AND customer = 'busy'"
            row = connection.exec_driver_sql(query, (ledger,)).scalar_one()
            head = connection.exec_driver_sql("SELECT position FROM ledgers WHERE ledger = %s", (ledger,)).scalar_one()
        assert head - row <= 20 + 8


def test_a_row_that_is_behind_is_not_loaded_again_while_nothing_is_recorded(
    service: Subledger,
    new_ledger: Callable[..., str],
    left_behind: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Duplicates of more customers than fit into the memory: nothing is written, and no wallet may be dropped."""
    ledger = new_ledger(currency="USD", on_shortfall="overage")
    customers = [f"many-{number}" for number in range(12)]
    before = [use(f"use-{customer}-0", customer=customer) for customer in customers]
    service.record(ledger, before[:6])
    service.record(ledger, [use(f"use-{customer}-1", customer=customer) for customer in customers[:6]])
    assert lag(service, ledger) > 0
    monkeypatch.setattr(memory, "MAX_WALLETS", 3)
    assert {outcome.status for outcome in service.record(ledger, before[:6])} == {"duplicate"}
    service.record(ledger, [use(f"use-{customer}-2", customer=customer) for customer in customers])
    assert differences(service, ledger) == []
    assert lag(service, ledger) == 0
