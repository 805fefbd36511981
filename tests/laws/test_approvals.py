"""The second person: no gift passes a limit by being cut into pieces, and no key is its maker's second person."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.keys import create_key, makers_for, makers_of, rotate_key
from subledger.deciding.second_person import GIVING_TYPES, Given, given_by, needs_second_person
from subledger.events.envelope import read_event
from subledger.events.own_data import Approvals
from subledger.ledger import LedgerState
from subledger.store.database import Database
from subledger.wallet import Decision, Movement, Wallet
from tests.building import cloud_event
from tests.scratch_database import scratch_database

NOON = "2026-01-15T12:00:00Z"
CREDITS = st.integers(1, 5_000)
PRICES = st.integers(0, 5_000)  # cents


def _state(**asked: Any) -> LedgerState:
    return LedgerState(ledger="l", functional_currency="USD", approvals=Approvals.model_validate(asked))


@st.composite
def _gifts(draw: st.DrawFn) -> tuple[Any, Decision]:
    """A purchase, with or without a bonus, or a grant; and what was decided about it as far as it matters."""
    credits, cents = str(draw(CREDITS)), draw(PRICES)
    amount = f"{cents // 100}.{cents % 100:02}"
    kind = draw(st.sampled_from(["purchase", "promotional_grant", "goodwill"]))
    if kind == "purchase":
        bonus = {"bonus_credits": str(draw(CREDITS))} if draw(st.booleans()) else {}
        data = {"credits": credits, "price": amount, "currency": "USD", **bonus}
    elif kind == "goodwill" and cents:
        data = {"credits": credits, "reason": "goodwill", "value": amount, "currency": "USD"}
    else:
        cents, data = 0, {"credits": credits, "reason": "promotional"}
    type = "credits.purchased" if kind == "purchase" else "credits.granted"
    event = read_event(cloud_event("e", type, "cust", NOON, block_id="b", **data))
    movement = Movement(kind=kind, accounting_date=datetime(2026, 1, 15, tzinfo=UTC).date(), amount_minor=cents)
    return event, Decision(policy=1, movements=(movement,))


@given(st.lists(_gifts(), max_size=12), st.integers(1, 200), st.integers(1, 9_000))
def test_whatever_the_pieces_no_more_than_the_limit_is_given_without_a_second_person(
    gifts: list[tuple[Any, Decision]], limit: int, credits: int
) -> None:
    state = _state(
        grant_value_above=str(limit),
        grant_credits_above=str(credits),
        credit_prices={"credit": "0.02"},
        grants_within="1d",
    )
    wallet, before, listed, paid = Wallet(customer="cust"), Given(), Decimal(0), Decimal(0)
    for event, decision in gifts:
        piece = given_by(event, decision, wallet, state)
        assert piece is not None
        if needs_second_person(event, state, given=piece, before=before) is None:
            before += piece
            if event.type == "credits.purchased":
                listed += (event.data.credits + (event.data.bonus_credits or 0)) * Decimal("0.02")
                paid += max(event.data.price, Decimal(0))
            else:
                listed += event.data.credits * Decimal("0.02")
    assert before.value <= limit
    assert before.credits <= credits
    assert listed - paid <= limit, "by its list price, with every payment counted"


@given(_gifts())
def test_a_ledger_that_asks_for_nothing_needs_nobody(gift: tuple[Any, Decision]) -> None:
    event, decision = gift
    assert event.type in GIVING_TYPES
    assert given_by(event, decision, Wallet(customer="cust"), _state()) is None
    assert needs_second_person(event, _state()) is None


@given(_gifts(), st.integers(1, 5_000), st.integers(1, 5_000))
def test_more_given_before_never_needs_fewer_persons(gift: tuple[Any, Decision], limit: int, earlier: int) -> None:
    event, decision = gift
    state = _state(grant_value_above=str(limit), grant_credits_above=str(limit), credit_prices={"credit": "1"})
    piece = given_by(event, decision, Wallet(customer="cust"), state)
    before = Given(credits=Decimal(earlier), value=Decimal(earlier))
    if needs_second_person(event, state, given=piece) is not None:
        assert needs_second_person(event, state, given=piece, before=before) is not None


@pytest.fixture(scope="module")
def keys_database(server_url: str) -> Iterator[Database]:
    with scratch_database(server_url) as url:
        database = Database(url)
        yield database
        database.close()


NAMES = ("ann", "bob", "cay", "dan")
_EXAMPLE = count()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.sampled_from(NAMES)), max_size=8))
def test_whoever_can_call_in_both_names_is_no_second_person(
    keys_database: Database, steps: list[tuple[bool, int, str]]
) -> None:
    """A model keeps who has seen which secret: who made a key has, and may make others with it, in its name."""
    mark = next(_EXAMPLE)  # keys are never deleted, so each example has persons of its own
    names = [f"{name} {mark}" for name in NAMES]
    made = [create_key(keys_database, ledger="*", role="admin", name=name, by="root").key for name in names]
    seen = {key.key_id: {key.name} for key in made}  # each has their own key, and root gives it away
    for is_rotation, which, name in steps:
        by = made[which % len(made)]
        if is_rotation:
            key = rotate_key(keys_database, by.key_id, by=by.name, grace_s=600).key
            made.remove(by)
        else:
            key = create_key(keys_database, ledger="*", role="admin", name=f"{name} {mark}", by=by.name).key
        made.append(key)
        seen[key.key_id] = seen[by.key_id] | {key.name}
    with keys_database.write() as writing:
        row = writing.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        for asker in names:
            able = set().union(*(seen[key.key_id] for key in made if key.name == asker)) - {asker}
            found = makers_for(writing, asker, row[0])
            assert able <= set(found), "who could have asked in this name"
    for key in made:
        assert seen[key.key_id] - {key.name} <= set(makers_of(keys_database, key.key_id))
