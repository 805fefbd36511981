"""The second person: no event of any type exceeds a limit alone, and a key is not the second person of its creator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.keys import create_key, makers_for, makers_of, rotate_key
from subledger.billing_documents import Dispute
from subledger.deciding.second_person import LIMITS, may_ask, needs_second_person
from subledger.event_effect import MEASURES, NO_EFFECT, EventEffect
from subledger.events.data import EVENT_TYPES
from subledger.events.own_data import Approvals
from subledger.events.references import customers_of
from subledger.kinds import KIND_BY_NAME, expand
from subledger.posting import shipped_policy
from subledger.store.database import Database
from subledger.wallet import Wallet
from tests.laws.case import EXPIRY, Case
from tests.laws.measured import asking, measured
from tests.laws.walk import HOME, Step, Walk
from tests.laws.walks import for_every_walk
from tests.scratch_database import scratch_database

RULES = shipped_policy("contract_liability").complete_rules
LOSSES = {
    "usage_revenue", "overage_revenue", "breakage_revenue", "breakage_recognized", "contra_revenue", "bad_debt",
    "deferred_revenue",
}  # fmt: skip
"""Accounts whose debits are a loss for the company. Exchange differences and fees are left out, because no customer
gains by them.
"""
LIMIT_CENTS = (0, 100, 1_000, 5_000)


def _is_of_a_bank(step: Step, wallets: Mapping[str, Wallet]) -> bool:
    """True for a dispute of a payment. The bank decides it, whoever records it."""
    if step.event.type == "dispute.opened":
        return True
    if step.event.type not in ("dispute.won", "dispute.lost"):
        return False
    wallet = wallets[step.event.customer or ""]
    dispute = wallet.state_of_document(Dispute, step.event.data.dispute_id)
    blocks = [wallet.state_of_block(part.block_id) for part in dispute.parts if part.block_id is not None]
    unpaid = blocks and all(block.receivable_minor == block.price_minor + block.tax_minor for block in blocks)
    return dispute.payment_id is not None or not unpaid


def _net(step: Step, *accounts: str) -> int:
    """Returns debits less credits of accounts by a step, in the functional currency, without exchange differences."""
    lines = [
        line
        for entry in step.entries
        if entry.kind != "breakage_estimate"
        and not (KIND_BY_NAME[entry.kind].is_exchange or KIND_BY_NAME[entry.kind].opens_ahead)  # recognised elsewhere
        for line in expand(entry.kind, entry.amount_minor, entry.functional_minor, RULES)
        if line.account in accounts
    ]
    return sum(line.functional_minor if line.side == "debit" else -line.functional_minor for line in lines)


@for_every_walk
def test_no_event_costs_the_company_more_than_the_limit_without_a_second_person(walk: Walk) -> None:
    """The cost is measured by the accounts: an amount given away is a loss, or belonged to another customer."""
    for cents in LIMIT_CENTS:
        approvals = asking(grant_value_above=f"{cents // 100}.{cents % 100:02}")
        for step, wallets, state, effect in measured(walk, approvals):
            if _is_of_a_bank(step, wallets) or needs_second_person(step.event, state, effect) is not None:
                continue
            assert _net(step, *LOSSES) <= cents, step
            if step.event.type == "credits.transferred" and step.event.data.to_customer != step.event.customer:
                taken = step.wallets[step.event.data.to_customer].state_of_block(step.event.data.new_block_id)
                value = taken.carrying_minor if taken.currency == HOME else taken.carrying_functional
                assert value <= cents, step


@for_every_walk
def test_no_customer_gains_more_credits_than_the_limit_without_paying_or_a_second_person(walk: Walk) -> None:
    for limit in (1, 5, 20):
        for step, wallets, state, effect in measured(walk, asking(grant_credits_above=str(limit))):
            if needs_second_person(step.event, state, effect) is not None or _is_of_a_bank(step, wallets):
                continue
            for name, wallet in step.wallets.items():
                earlier = wallets.get(name)
                had = sum((block.remaining for block in earlier.blocks), Decimal(0)) if earlier else Decimal(0)
                gained = sum((block.remaining for block in wallet.blocks), Decimal(0)) - had
                price = sum(e.functional_minor for e in step.entries if e.kind in ("purchase", "repricing"))
                data = step.event.data.model_dump()
                sold = data.get("add_credits") or data.get("credits") or 0
                assert gained - (sold if price >= max(100, sold) else 0) <= limit, step
            beyond = sum((m.credits for m in step.decision.movements if m.kind == "overage"), Decimal(0))
            if step.event.type == "credits.consumed" and not step.event.data.overage_price:
                assert beyond <= limit, step


@for_every_walk
def test_no_money_comes_to_be_owed_back_above_the_limit_without_a_second_person(walk: Walk) -> None:
    for cents in LIMIT_CENTS:
        approvals = asking(money_back_above=f"{cents // 100}.{cents % 100:02}")
        for step, _, state, effect in measured(walk, approvals):
            if needs_second_person(step.event, state, effect) is None:
                assert -_net(step, "refunds_payable") <= cents, step
                if step.event.type not in ("dispute.won", "dispute.lost"):  # the customer's bank withdrew the money
                    assert abs(_net(step, "unclaimed_property")) <= cents, step


@for_every_walk
def test_no_revenue_comes_forward_above_the_limit_without_a_second_person(walk: Walk) -> None:
    """Revenue other than that of usage, of due expiries, and of earlier usage that a new block pays; and blocks whose
    expiry is moved to an earlier day.
    """
    for cents in LIMIT_CENTS:
        approvals = asking(revenue_advanced_above=f"{cents // 100}.{cents % 100:02}")
        for step, wallets, state, effect in measured(walk, approvals):
            if needs_second_person(step.event, state, effect) is not None:
                continue
            if step.event.type not in ("credits.consumed", "consumption.reversed", "credits.purchased"):
                assert -_net(step, "usage_revenue", "overage_revenue", "breakage_revenue") <= cents, step
            if step.event.type == "breakage.estimated":
                pool = step.books.pools.by_name[step.event.data.pool]
                if pool.versions == 1 and pool.currency == HOME:
                    cohorts = step.books.pools.cohorts[pool.pool].values()
                    assert sum(cohort.expected_breakage_minor for cohort in cohorts) <= cents + len(cohorts), step
            for block in step.wallets[step.event.customer].blocks if step.event.customer else ():
                old = wallets[step.event.customer or ""].block(block.block_id) if wallets else None
                if old and block.expires_at and (old.expires_at is None or block.expires_at < old.expires_at):
                    value = block.carrying_minor if block.currency == HOME else block.carrying_functional
                    assert value <= cents or block.escheat_class or "escheated" in block.disposed, step


@for_every_walk
def test_no_sale_is_taken_back_and_no_receivable_given_up_without_a_second_person(walk: Walk) -> None:
    for step, wallets, state, effect in measured(walk, asking(voids=True, write_offs=True)):
        if _is_of_a_bank(step, wallets) or needs_second_person(step.event, state, effect) is not None:
            continue
        assert _net(step, "refunds_payable") >= 0, step
        assert _net(step, "bad_debt") <= 0, step  # money after a write-off reverses it
        for name, wallet in step.wallets.items():
            for block in wallet.blocks:
                old = wallets[name].block(block.block_id) if name in wallets else None
                if old is not None:
                    assert block.credits >= old.credits, step
                    assert block.price_minor >= old.price_minor, step
                    for column in ("voided", "refunded", "written_off", "charged_back", "escheated"):
                        assert block.disposed.get(column) == old.disposed.get(column), step


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"money_back_above": "4.27"}, "money_back"),
        ({"money_back_above": "4.28"}, None),
        ({"grant_value_above": "4.27"}, "grant"),
        ({"grant_value_above": "4.28"}, None),
        ({"grant_credits_above": "2"}, "grant"),
        ({"voids": True}, "void"),
    ],
)
def test_usage_that_is_taken_back_for_a_state_needs_a_second_person(asked: dict[str, Any], reason: str | None) -> None:
    """The company gives up revenue, and owes it to a state: 3 of 7 credits for 10.00, which had expired before."""
    case = Case()
    case.buys("A", expires_at=EXPIRY.isoformat(), escheat_class="DE-3y")
    case.does("payment.received", 2, amount="10.00", currency="USD", block_id="A")
    used = case.uses("5", 10)
    case.expires("A")
    case.takes_back(used, 40, credits="3")
    *_, (step, _, state, effect) = measured(case, asking(**asked))
    assert (_net(step, "usage_revenue"), _net(step, "unclaimed_property")) == (428, -428)
    assert needs_second_person(step.event, state, effect) == reason


@for_every_walk
def test_whatever_the_pieces_no_more_than_the_limits_happens_to_a_customer_without_a_second_person(walk: Walk) -> None:
    """The limits apply within the period, over all types of events together, to the customer of the event and to other
    customers who gain by it.
    """
    approvals = asking(
        grant_credits_above="20",
        grant_value_above="10.00",
        money_back_above="30.00",
        revenue_advanced_above="30.00",
        credit_prices={"credit": "0.50"},
    )
    sums: dict[str, EventEffect] = {}
    for step, _, state, effect in measured(walk, approvals):
        customers = customers_of(step.event, step.decision)
        before = [sums.get(customer, NO_EFFECT) for customer in customers]
        if needs_second_person(step.event, state, effect, *before) is None:
            sums |= {customer: earlier + effect for customer, earlier in zip(customers, before, strict=True)}
    for together in sums.values():
        for name, measure, _ in LIMITS:
            assert getattr(together, measure) <= getattr(approvals, name)


@for_every_walk
def test_more_before_never_needs_fewer_persons_and_no_effect_is_negative(walk: Walk) -> None:
    approvals = asking(grant_value_above="10.00", grant_credits_above="20", credit_prices={"credit": "0.50"})
    before = EventEffect(credits_given=Decimal(15), value_given=Decimal(8))
    for step, _, state, effect in measured(walk, approvals):
        assert all(getattr(effect, name) >= 0 for name in MEASURES), step
        if needs_second_person(step.event, state, effect) is not None:
            assert needs_second_person(step.event, state, effect, before) is not None, step


@for_every_walk
def test_a_ledger_that_asks_for_nothing_needs_nobody(walk: Walk) -> None:
    for step, _, state, effect in measured(walk, Approvals()):
        assert not may_ask(state)
        assert needs_second_person(step.event, state, effect) is None


def test_the_walks_have_every_event_type(long_walks: list[Walk]) -> None:
    """The laws above are tested with every type, so a new type needs its own step in the walks."""
    found = {step.event.type for walk in long_walks for step in walk.steps}
    assert set(EVENT_TYPES) - found == set()


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
    """The model stores who knows which secret. The creator of a key knows it, and may create other keys with it, in its
    name.
    """
    mark = next(_EXAMPLE)  # keys are never deleted, so each example has its own persons
    names = [f"{name} {mark}" for name in NAMES]
    made = [create_key(keys_database, ledger="*", role="admin", name=name, by="root").key for name in names]
    seen = {key.key_id: {key.name} for key in made}  # each person has a key, which root created
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
