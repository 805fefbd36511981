"""Laws of posting: stored values are read back unchanged, a replay posts the same entries, and reversals sum to zero
line by line.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import orjson
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from subledger.accounts import Side
from subledger.billing_documents import Overage
from subledger.blocks import Block
from subledger.books import Books, evolve_books
from subledger.errors import IntegrityFault
from subledger.events.references import customers_of
from subledger.evolving import evolve
from subledger.kinds import Dimensions, Rules, expand
from subledger.ledger import evolve_ledger
from subledger.posting import post
from subledger.store.writing.log import decision_text
from subledger.store.writing.rows import decode_decision, decode_wallet, encode_state
from subledger.wallet import Decision, Movement, Wallet
from subledger.wallet_parts import Blocks, Overages
from tests.laws.case import Case
from tests.laws.model_blocks import half_up
from tests.laws.shipped import AMOUNTS, NAMES, PLAIN, RULES, all_policies
from tests.laws.walk import HOME, PEOPLE, Walk
from tests.laws.walks import WALKS, for_every_walk

# --- what is stored -------------------------------------------------------------------------------------------

IDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8)
DAYS = st.dates(date(1950, 1, 1), date(2900, 1, 1))
MOMENTS = st.datetimes(datetime(1950, 1, 1), datetime(2900, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive by contract
CREDITS = st.integers(-(10**24), 10**24).map(lambda billionths: Decimal(billionths).scaleb(-9))
MOVEMENTS = st.builds(
    Movement,
    kind=st.sampled_from(NAMES),
    accounting_date=DAYS,
    amount_minor=AMOUNTS,
    credits=CREDITS,
    block_id=st.none() | IDS,
    overage_position=st.none() | st.integers(1, 2**53 - 1),
    backfill=st.booleans(),
    product=st.none() | IDS,
    policy=st.none() | st.integers(1, 99),
)
DECISIONS = st.builds(
    Decision,
    policy=st.integers(1, 99),
    movements=st.lists(MOVEMENTS, max_size=4).map(tuple),
    original_position=st.none() | st.integers(1, 2**53 - 1),
)
BLOCKS = st.builds(
    Block,
    block_id=IDS,
    credit_kind=st.sampled_from(("paid", "promotional")),
    unit=IDS,
    credits=CREDITS,
    price_minor=AMOUNTS,
    currency=st.just("USD"),
    starts_at=MOMENTS,
    expires_at=st.none() | MOMENTS,
    scope=st.none() | st.lists(IDS, min_size=1, max_size=3).map(tuple),
    opened_at_position=st.integers(1, 2**53 - 1),
    losses_from=DAYS,
    used=CREDITS,
    drawn_minor=AMOUNTS,
    last_breakage_date=st.none() | DAYS,
    expired=st.booleans(),
)
OVERAGES = st.builds(
    Overage,
    position=st.integers(1, 2**53 - 1),
    unit=IDS,
    price=CREDITS,
    currency=st.just("USD"),
    credits=CREDITS,
    amount_minor=AMOUNTS,
    accounting_date=DAYS,
    settled_by=st.lists(IDS, max_size=2).map(tuple),
)
WALLETS = st.builds(
    Wallet,
    customer=IDS,
    blocks=st.lists(BLOCKS, max_size=3, unique_by=Blocks.name).map(Blocks),
    overages=st.lists(OVERAGES, max_size=2, unique_by=Overages.name).map(Overages),
    carry=st.dictionaries(st.sampled_from(("USD", "EUR", "KWD")), CREDITS, max_size=3),
)


@given(DECISIONS)
def test_a_decision_is_stored_in_canonical_json_and_reads_back(decision: Decision) -> None:
    text = decision_text(decision)
    assert text.encode() == rfc8785.dumps(orjson.loads(text))
    assert decode_decision(text) == decision


@given(WALLETS)
def test_a_wallet_is_stored_in_canonical_json_and_reads_back(wallet: Wallet) -> None:
    text = encode_state(wallet)
    assert text.encode() == rfc8785.dumps(orjson.loads(text))
    assert decode_wallet(text) == wallet
    assert encode_state(decode_wallet(text)) == text


# --- decide, evolve, post: any walk, without a database ---------------------------------------------------------

EVERY_RULES = tuple(RULES.values())


@for_every_walk
def test_a_replay_of_what_was_decided_gives_the_same_wallets_books_and_entries(ledger: Walk) -> None:
    """Between its events a wallet drops finished parts, and is read from its stored text."""
    kept = {customer: Wallet(customer=customer) for customer in PEOPLE}
    archive, books, state = dict(kept), Books(), Walk().state
    for step in ledger.steps:
        event, position = step.event, step.position
        stored = decode_decision(decision_text(step.decision))
        assert stored == step.decision
        recalled = {}
        for customer in customers_of(event, stored):
            old = archive[customer]
            wallet = decode_wallet(encode_state(kept[customer]))
            wallet = wallet.recall(old.blocks, old.overages, old.reversed_usages, old.documents)
            wallet = evolve(
                wallet,
                event,
                stored,
                position=position,
                functional_currency=HOME,
                closed_through=step.before.closed_through,
            )
            expected = step.wallets[customer]
            assert (wallet.blocks, wallet.overages) == (expected.blocks, expected.overages)
            assert (wallet.carry, wallet.standings) == (expected.carry, expected.standings)
            assert sorted(wallet.documents, key=repr) == sorted(expected.documents, key=repr)
            assert sorted(wallet.reversed_usages, key=repr) == sorted(expected.reversed_usages, key=repr)
            recalled[customer] = archive[customer] = wallet
            kept[customer] = wallet.without_finished()
            assert all(block.remaining for block in kept[customer].blocks)
            assert all(overage.open for overage in kept[customer].overages)
            assert not kept[customer].reversed_usages
            assert not kept[customer].documents
        effective = state.effective_date_of(event)
        closed_through = state.closed_through
        books = evolve_books(
            books, event, stored, effective=effective, functional_currency=HOME, closed_through=closed_through
        )
        assert books == step.books
        assert state == step.before
        assert post(event, stored, before=state, wallets=recalled) == step.entries
        assert post(event, stored, before=state, wallets=ledger.wallets) == step.entries, (
            "headers never change: any later moment would do"
        )
        state = evolve_ledger(state, event)
    assert state == ledger.state


@for_every_walk
def test_every_movement_is_an_entry_with_its_own_figures(ledger: Walk) -> None:
    units: dict[str, tuple[str, str, str, str]] = {}
    for step in ledger.steps:
        for block in (block for wallet in step.wallets.values() for block in wallet.blocks):
            units[block.block_id] = (
                block.unit,
                block.credit_kind,
                "true" if block.refundable else "",
                block.dimensions,
            )
        effective = step.before.effective_date_of(step.event)
        assert [entry.number for entry in step.entries] == list(range(1, len(step.decision.movements) + 1))
        for movement, entry in step.moves:
            of_nobody = entry.kind == "breakage_estimate" or (step.event.customer is None and not movement.customer)
            assert entry.customer == (None if of_nobody else movement.customer or step.event.customer)
            assert (entry.kind, entry.block_id, entry.credits) == (movement.kind, movement.block_id, movement.credits)
            assert entry.amount_minor == movement.amount_minor
            assert entry.currency == movement.currency or HOME
            assert (movement.functional_minor is None) == (entry.currency == HOME)
            assert entry.functional_minor == (
                movement.amount_minor if entry.currency == HOME else movement.functional_minor
            )
            assert entry.amount_minor * entry.functional_minor >= 0, "an entry has one direction"
            assert entry.policy == (movement.policy or step.before.policy)
            assert entry.cut == step.before.open_cut
            unit, credit_kind, refundable, own = units.get(entry.block_id or "", ("credit", "", "", ""))
            assert entry.unit == (unit if entry.credits else None)
            product = movement.product
            if step.event.type == "credits.consumed":
                product = product or step.event.data.product
            assert entry.dimensions == Dimensions(
                product=product or "",
                credit_kind=credit_kind,
                pool=movement.pool or "",
                processor=movement.processor or "",
                cohort=movement.cohort or "",
                refundable=refundable,
                own=own,
                usage=entry.dimensions.usage,  # test_own_dimensions
            )
            assert entry.effective_date == effective
            assert entry.accounting_date == movement.accounting_date >= effective
            assert step.before.closed_through is None or entry.accounting_date > step.before.closed_through


@for_every_walk
def test_nothing_moves_a_block_before_it_gained_and_a_reversal_not_before_what_it_reverses(ledger: Walk) -> None:
    booked: dict[tuple[int, str | None], date] = {}
    for step in ledger.steps:
        for movement in step.decision.movements:
            if movement.kind not in ("consumption", "overage") or not movement.credits:  # corrections of other draws
                continue
            if step.decision.original_position is None:
                key = (step.position, movement.block_id)
                booked[key] = max(booked.get(key, movement.accounting_date), movement.accounting_date)
            else:
                assert movement.accounting_date >= booked[step.decision.original_position, movement.block_id]


@all_policies
@given(ledger=WALKS)
def test_the_liability_of_a_block_is_what_it_carries_under_every_policy(rules: Rules, ledger: Walk) -> None:
    accounts = ("prepaid_liability", "customer_deposits", "credits_clearing")
    balances: Counter[tuple[str | None, str, str]] = Counter()
    for entry in ledger.entries:
        for line in expand(entry.kind, entry.amount_minor, entry.functional_minor, rules):
            sign = 1 if line.side is Side.CREDIT else -1
            balances[entry.block_id, line.account, "own"] += sign * line.amount_minor
            balances[entry.block_id, line.account, "functional"] += sign * line.functional_minor
    for block in ledger.blocks:
        functional = block.carrying_minor if block.currency == HOME else block.carrying_functional
        liability, deposits, clearing = (
            (balances[block.block_id, account, "own"], balances[block.block_id, account, "functional"])
            for account in accounts
        )
        assert liability == (block.carrying_minor, functional)
        if rules is not PLAIN:
            assert deposits == liability
            assert clearing == (-liability[0], -liability[1])


# --- reversals --------------------------------------------------------------------------------------------------


@for_every_walk
def test_what_was_drawn_last_comes_back_first_at_the_money_that_was_stored(ledger: Walk) -> None:
    drawn: dict[int, list[Movement]] = {}
    restored: defaultdict[tuple[int, str | None], list[Any]] = defaultdict(lambda: [Decimal(0), 0, 0])
    for step in ledger.steps:
        if step.event.type == "credits.consumed":
            draws = [m for m in step.decision.movements if m.kind in ("consumption", "overage")]
            drawn[step.position] = [m for m in draws if m.credits]  # others correct draws of a repriced block
        original = step.decision.original_position
        if original is None or step.event.type == "event.reversed":
            continue
        for movement in step.decision.movements:
            if movement.kind not in ("consumption", "overage") or not movement.credits:
                continue
            back = restored[original, movement.block_id]
            back[0] -= movement.credits
            back[1] -= movement.amount_minor
            back[2] -= movement.functional_minor or 0
            [draw] = [m for m in drawn[original] if m.block_id == movement.block_id]
            assert movement.kind == draw.kind
            assert back[0] <= draw.credits
            if back[0] == draw.credits or draw.kind == "consumption":
                part = Fraction(back[0]) / Fraction(draw.credits)
                assert back[1] == half_up(draw.amount_minor * part)
                assert back[2] == half_up((draw.functional_minor or 0) * part)
        pending = False
        for draw in drawn[original]:  # once a draw is whole, no draw before it was reversed
            credits = restored[original, draw.block_id][0]
            assert not (pending and credits < draw.credits)
            pending = pending or credits > 0


@for_every_walk
def test_usage_and_its_whole_reversal_are_zero_line_by_line(ledger: Walk) -> None:
    """Each under its own policy. Credits that passed their expiry meanwhile are breakage in the same event."""
    lines: defaultdict[int, Counter[tuple[str, str]]] = defaultdict(Counter)
    left: Counter[int] = Counter()
    broken: Counter[str | None] = Counter()
    for step in ledger.steps:
        usage = step.decision.original_position or step.position
        if step.event.type not in ("credits.consumed", "consumption.reversed"):
            continue
        for entry in step.entries:
            if entry.kind in ("consumption", "overage") and entry.credits:
                left[usage] += entry.credits
                for line in expand(
                    entry.kind, entry.amount_minor, entry.functional_minor, EVERY_RULES[entry.policy - 1]
                ):
                    sign = 1 if line.side is Side.DEBIT else -1
                    lines[usage][line.account, "own"] += sign * line.amount_minor
                    lines[usage][line.account, "functional"] += sign * line.functional_minor
        assert left[usage] >= 0
        if not left[usage]:
            assert not +lines[usage]
            assert not -lines[usage]
        if step.decision.original_position is None:
            continue
        broken.clear()
        for entry in step.entries:
            if entry.kind in ("consumption", "breakage", "pooled_breakage", "escheat"):
                broken[entry.block_id] += entry.credits
        for block in step.wallets[step.event.customer or ""].blocks:
            if block.block_id in broken and block.expired and not block.disputes:
                assert not broken[block.block_id], "nothing comes back to a block that expired meanwhile"


def test_an_entry_without_its_block_at_hand_is_an_integrity_fault(long_walks: Sequence[Walk]) -> None:
    [step, *_] = [step for step in long_walks[0].steps if step.event.type == "credits.purchased"]
    with pytest.raises(IntegrityFault):
        post(step.event, step.decision, before=step.before, wallets={step.event.customer or "": Wallet(customer="x")})


def test_what_cannot_be_posted_is_named() -> None:
    case = Case()
    bought = case.buys("A")
    with pytest.raises(IntegrityFault, match=r"^block A of customer ann has no state$"):
        post(bought.event, bought.decision, before=bought.before, wallets={"ann": Wallet(customer="ann")})
    [movement] = bought.decision.movements
    torn = replace(bought.decision, movements=(replace(movement, functional_minor=-1),))
    with pytest.raises(IntegrityFault, match=r"^purchase of 1000 cannot be -1 in the functional currency$"):
        post(bought.event, torn, before=bought.before, wallets=bought.wallets)
