"""Policies: complete, balanced by construction, companions everywhere, and no revenue under the arm."""

from __future__ import annotations

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from subledger.accounts import ROLE_BY_NAME, AccountClass, Side
from subledger.errors import InvalidPolicy
from subledger.journal import KIND_BY_NAME, KINDS, Pair, expand
from subledger.posting import SHIPPED_POLICIES, parse_policy, rules_from, shipped_policy
from subledger.store.log import decision_text
from subledger.store.memory import decode_decision
from subledger.wallet import Decision, Movement

POLICIES = {name: shipped_policy(name) for name in SHIPPED_POLICIES}
REVENUE = {
    role.name
    for role in ROLE_BY_NAME.values()
    if role.account_class in (AccountClass.REVENUE, AccountClass.CONTRA_REVENUE)
}
DEPOSITS = [name for name in SHIPPED_POLICIES if name != "contract_liability"]
LIABILITY, DEPOSIT, CLEARING = "prepaid_liability", "customer_deposits", "credits_clearing"


@pytest.mark.parametrize("name", SHIPPED_POLICIES)
@given(amount=st.integers(-(10**15), 10**15))
def test_every_kind_balances_at_any_amount(name: str, amount: int) -> None:
    for kind in KIND_BY_NAME:
        lines = expand(kind, amount, amount, POLICIES[name].rules)
        net = sum(line.amount_minor * (1 if line.side is Side.DEBIT else -1) for line in lines)
        assert net == 0
        assert all(line.amount_minor > 0 for line in lines)


@pytest.mark.parametrize("name", SHIPPED_POLICIES)
def test_an_entry_and_its_mirror_sum_to_zero_account_by_account(name: str) -> None:
    for kind in KIND_BY_NAME:
        nets: dict[str, int] = {}
        for amount in (7, -7):
            for line in expand(kind, amount, amount, POLICIES[name].rules):
                sign = 1 if line.side is Side.DEBIT else -1
                nets[line.account] = nets.get(line.account, 0) + sign * line.amount_minor
        assert not any(nets.values()), kind
    assert POLICIES[name].rules["reinstatement"] == tuple(
        Pair(pair.credit, pair.debit) for pair in POLICIES[name].rules["breakage"]
    )


@pytest.mark.parametrize("name", DEPOSITS)
def test_whatever_moves_the_liability_moves_its_companions(name: str) -> None:
    for kind, pairs in POLICIES[name].rules.items():
        nets = dict.fromkeys((LIABILITY, DEPOSIT, CLEARING), 0)
        for pair in pairs:
            for account, sign in ((pair.debit, 1), (pair.credit, -1)):
                if account in nets:
                    nets[account] += sign
        assert nets[LIABILITY] == nets[DEPOSIT] == -nets[CLEARING], kind


@pytest.mark.parametrize("name", DEPOSITS)
def test_pairs_that_touch_the_liability_are_followed_by_the_companion_pair(name: str) -> None:
    """The rule for every kind but purchase, consumption, breakage and reinstatement, which contain theirs."""
    for kind, pairs in POLICIES[name].rules.items():
        if kind in ("purchase", "consumption", "breakage", "reinstatement"):
            continue
        for place, pair in enumerate(pairs):
            if pair.debit == LIABILITY:
                assert pairs[place + 1] == Pair(DEPOSIT, CLEARING), kind
            if pair.credit == LIABILITY:
                assert pairs[place + 1] == Pair(CLEARING, DEPOSIT), kind


def test_under_the_arm_no_line_touches_revenue() -> None:
    arm, deposits = POLICIES["customer_deposits_arm"].rules, POLICIES["customer_deposits"].rules
    for kind, pairs in arm.items():
        assert not {account for pair in pairs for account in (pair.debit, pair.credit)} & REVENUE, kind
        replaced = tuple(
            Pair(*("deferred_revenue" if account in REVENUE else account for account in (pair.debit, pair.credit)))
            for pair in deposits[kind]
        )
        assert pairs == replaced, kind


@pytest.mark.parametrize("name", SHIPPED_POLICIES)
def test_no_policy_recognises_revenue_at_purchase(name: str) -> None:
    touched = {account for pair in POLICIES[name].rules["purchase"] for account in (pair.debit, pair.credit)}
    assert not touched & REVENUE
    assert set(POLICIES[name].rules) == {kind.name for kind in KINDS}
    assert rules_from(POLICIES[name].rules_document) == POLICIES[name].rules


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not toml =", "cannot be read"),
        ('name = "x"\nversion = 1\ndescription = ""\n[entries]\npurchase = ["cash / gold"]', "no account role 'gold'"),
        ('name = "x"\nversion = 1\ndescription = ""\n[entries]\npurchase = []', "no rule for"),
    ],
)
def test_a_policy_that_cannot_be_used_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidPolicy, match=words):
        parse_policy(text)


def test_a_policy_that_is_not_shipped_is_refused() -> None:
    with pytest.raises(InvalidPolicy):
        shipped_policy("cash_basis")


MOVEMENTS = st.builds(
    Movement,
    kind=st.sampled_from(sorted(KIND_BY_NAME)),
    on=st.dates(),
    amount=st.integers(-(10**15), 10**15),
    credits=st.decimals(-(10**12), 10**12, places=9, allow_nan=False),
    block=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
    overage=st.none() | st.integers(1, 2**53 - 1),
    backfill=st.booleans(),
    policy=st.none() | st.integers(1, 9),
)


@given(st.builds(Decision, policy=st.integers(1, 9), movements=st.lists(MOVEMENTS, max_size=4).map(tuple)))
def test_a_decision_survives_its_text_which_is_canonical(decision: Decision) -> None:
    text = decision_text(decision)
    assert decode_decision(text) == decision
    assert text.encode() == rfc8785.dumps(msgspec.to_builtins(decision))
