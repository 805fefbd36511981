"""Laws of own dimensions: a balance that is carried by block always has the own dimensions of its blocks."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from subledger.accounts import ROLE_BY_NAME, Side
from subledger.kinds import Dimensions, expand
from subledger.own_dimensions import (
    NO_DIMENSIONS,
    OF_NOTHING,
    OF_USAGE,
    of_role,
    of_usage_alone,
    over,
    pairs_of,
    text_of,
)
from subledger.posting import SHIPPED_POLICIES, keeps_the_pair, shipped_policy
from tests.laws.walk import Step, Walk
from tests.laws.walks import for_every_walk

BALANCES = ("prepaid_liability", "credits_clearing", "customer_deposits", "unbilled_receivable")
SETS = st.dictionaries(st.sampled_from(("department", "region", "class_1")), st.text('aé"\\ x', min_size=1), max_size=3)


@given(SETS, SETS)
def test_of_a_name_that_both_have_usage_has_the_text(block: dict[str, str], usage: dict[str, str]) -> None:
    assert dict(pairs_of(text_of(block))) == block
    laid = over(text_of(block), text_of(usage))
    assert dict(pairs_of(laid)) == block | usage
    assert laid == text_of(block | usage), "one text for one set"
    alone = of_usage_alone(text_of(block), text_of(usage))
    assert (alone or text_of(block)) == laid
    assert of_role("usage_revenue", text_of(block), alone) == laid
    assert of_role("prepaid_liability", text_of(block), alone) == text_of(block)


def test_each_role_has_the_dimensions_of_its_block_or_of_the_usage_or_none() -> None:
    assert OF_USAGE.isdisjoint(OF_NOTHING)
    assert ROLE_BY_NAME.keys() >= OF_USAGE | OF_NOTHING
    of = {role: of_role(role, "block", "usage") for role in ROLE_BY_NAME}
    assert of["prepaid_liability"] == of["credits_clearing"] == of["customer_deposits"] == "block"
    assert of["usage_revenue"] == of["bad_debt"] == of["unbilled_receivable"] == "usage"
    assert of["cash"] == of["breakage_recognized"] == ""
    assert of_role("unbilled_receivable", "block", NO_DIMENSIONS) == ""
    assert Dimensions(own="block").own_of("usage_revenue") == "block"


@for_every_walk
def test_every_balance_of_blocks_and_overage_is_within_their_own_dimensions(ledger: Walk) -> None:
    """At every checked step, under every policy. Each line has one set of dimensions, so the lines add up."""
    for name in SHIPPED_POLICIES:
        rules = shipped_policy(name).complete_rules
        sums: Counter[tuple[str, str, str]] = Counter()
        for step in ledger.steps:
            for entry in step.entries:
                for line in expand(entry.kind, entry.amount_minor, entry.functional_minor, rules):
                    own = entry.dimensions.own_of(line.account)
                    amount = line.amount_minor if line.side is Side.DEBIT else -line.amount_minor
                    sums[line.account, entry.currency, own] += amount
            if step.position % 20 == 0 or step is ledger.steps[-1]:
                _check(sums, step, keeps_the_pair(rules))


def _check(sums: Counter[tuple[str, str, str]], step: Step, deposits: bool) -> None:
    expected: Counter[tuple[str, str, str]] = Counter()
    for wallet in step.wallets.values():
        for block in wallet.blocks:
            key = (block.currency, block.dimensions)
            expected["prepaid_liability", *key] -= block.carrying_minor
            if deposits:
                expected["credits_clearing", *key] += block.carrying_minor
                expected["customer_deposits", *key] -= block.carrying_minor
            expected["accounts_receivable", *key] += block.receivable_minor
        for overage in wallet.overages:
            expected["unbilled_receivable", overage.currency, overage.dimensions] += overage.open_minor
    for key in sums.keys() | expected.keys():
        role, _, own = key
        of_blocks = role in BALANCES or (role == "accounts_receivable" and own)  # an invoice of overage has none
        assert not of_blocks or sums[key] == expected[key], key
        assert role != "transfer_clearing" or not sums[key], key
        assert role not in OF_NOTHING or not own, key
