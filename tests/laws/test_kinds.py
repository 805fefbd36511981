"""The table of entry kinds: its rows are consistent, and no other code has a list of kinds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import subledger.kinds
from subledger.accounts import ROLE_BY_NAME
from subledger.deciding.decide import POSTS
from subledger.kinds import (
    GAINS,
    KIND_BY_NAME,
    KINDS,
    MONETARY_ROLES,
    REMEASURED_ROLES,
    REMEASUREMENT_OF,
    SETTLEMENT_OF,
    Effect,
    Kind,
    Relieves,
    Result,
)

ROOT: Final = Path(subledger.kinds.__file__).parents[1]
TABLE: Final = "subledger/kinds.py"
DECIDES: Final = {
    "subledger/deciding/decide.py", "subledger/deciding/disputes.py", "subledger/deciding/payments.py",
    "subledger/deciding/cancellations.py",
}  # fmt: skip
"""Code that makes entries, and so may name kinds."""

each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@each_kind
def test_a_kind_that_relieves_what_is_owed_moves_money_owed_on_both_sides(kind: Kind) -> None:
    sides = () if kind.relieves is Relieves.NEITHER else (kind.debit_role, kind.credit_role)
    if kind.name in ("exchange", "exchange_processor"):  # its other side is a gain or a loss
        assert (kind.relieves, kind.credit_role, kind.result) == (Relieves.DEBIT, None, Result.EXPENSE)
        sides = sides[:1]
    if "billed_elsewhere" in (kind.debits_also, kind.credits_also):  # it takes over the other side's carrying amount
        sides = tuple(role for role in sides if role is not None)
        assert len(sides) == 1
    assert all(role in MONETARY_ROLES for role in sides)  # the other side takes the amount over, or is also relieved


@each_kind
def test_the_roles_of_a_kind_are_in_the_chart(kind: Kind) -> None:
    roles = {kind.debit_role, kind.credit_role, kind.debits_also, kind.credits_also} - {None}
    assert roles <= set(ROLE_BY_NAME)
    assert {kind.debit_role, kind.credit_role} - {None} <= set(REMEASURED_ROLES)


@each_kind
def test_a_block_opens_with_what_it_gains_and_an_effect_is_of_a_kind_without_a_column(kind: Kind) -> None:
    assert not kind.opens_block or kind.column in GAINS
    assert kind.effect is Effect.NONE or kind.column is None
    assert not kind.is_exchange or (kind.column is None and kind.credit_role is None)
    assert kind.since >= 1


def test_every_remeasured_role_has_its_two_kinds_of_exchange_difference() -> None:
    assert tuple(REMEASUREMENT_OF) == tuple(SETTLEMENT_OF) == REMEASURED_ROLES
    for kind_of in (REMEASUREMENT_OF, SETTLEMENT_OF):
        assert all(KIND_BY_NAME[name].debit_role == role and name.endswith(role) for role, name in kind_of.items())
    assert {kind.name for kind in KINDS if kind.is_exchange} == {*REMEASUREMENT_OF.values(), *SETTLEMENT_OF.values()}


def test_every_kind_is_posted_by_some_event() -> None:
    assert {kind for kinds in POSTS.values() for kind in kinds} | {"breakage_estimate"} == set(KIND_BY_NAME)


def _lists_of_kinds(tree: ast.AST) -> Iterator[list[str]]:
    """Yields literal collections of two or more kinds and nothing else."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
            members = node.keys if isinstance(node, ast.Dict) else node.elts
            names = [member.value for member in members if isinstance(member, ast.Constant)]
            if len(names) == len(members) > 1 and all(name in KIND_BY_NAME for name in names):
                yield names
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            for listed in re.findall(r"kind IN \(([^)]*)\)", node.value):
                names = re.findall(r"'(\w+)'", listed)
                if all(name in KIND_BY_NAME for name in names):
                    yield names


def test_nobody_but_the_table_and_who_makes_entries_keeps_a_list_of_kinds() -> None:
    found = {
        str(path.relative_to(ROOT))
        for package in ("subledger", "projections", "api")
        for path in (ROOT / package).rglob("*.py")
        if any(_lists_of_kinds(ast.parse(path.read_text("utf-8"))))
    }
    assert found <= {TABLE, *DECIDES}, found
