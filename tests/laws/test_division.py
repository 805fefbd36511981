"""Laws of the division of work: the account pairs of each word, under every policy, and their table in the README."""

from __future__ import annotations

import os
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from projections.exports.presets import PRESETS
from projections.journals.division import PASS_THROUGH, UNDIVIDED, WORDS, Division, divided, words_of
from subledger.kinds import KIND_BY_NAME, KINDS, AccountPair, Rules
from subledger.posting import SHIPPED_POLICIES, shipped_policy

README = Path(__file__).parents[2] / "projections" / "README.md"
RULES: dict[str, Rules] = {name: shipped_policy(name).complete_rules for name in SHIPPED_POLICIES}
DIVISIONS = [
    Division(native=native, pass_through=through)
    for native in [(), *((word,) for word in WORDS), *combinations(WORDS, 2), tuple(WORDS)]
    for through in (True, False)
]


def sides(pairs: list[tuple[str, str]]) -> Counter[tuple[str, str]]:
    return Counter([("debit", debit) for debit, _ in pairs] + [("credit", credit) for _, credit in pairs])


@pytest.mark.parametrize("policy", RULES)
def test_under_every_division_each_role_has_the_sides_that_it_has_without_one(policy: str) -> None:
    for kind in KINDS:
        pairs = RULES[policy][kind.name]
        whole = sides([(pair.debit, pair.credit) for pair in pairs])
        for division in DIVISIONS:
            found = divided(kind, pairs, division)
            assert sides([(pair.debit, pair.credit) for pair in found]) == whole, (kind.name, division)
            assert {pair.native for pair in found} <= {"", PASS_THROUGH, *division.native}


@pytest.mark.parametrize("policy", RULES)
def test_without_a_division_nothing_is_left_out_and_the_order_is_that_of_the_rule(policy: str) -> None:
    for kind in KINDS:
        pairs = RULES[policy][kind.name]
        assert [(p.debit, p.credit, p.native) for p in divided(kind, pairs, UNDIVIDED)] == [
            (pair.debit, pair.credit, "") for pair in pairs
        ]


@pytest.mark.parametrize("policy", RULES)
def test_only_consumption_and_breakage_pass_through_the_receivable(policy: str) -> None:
    through = {
        kind.name
        for kind in KINDS
        if any(p.native == PASS_THROUGH for p in divided(kind, RULES[policy][kind.name], Division(pass_through=False)))
    }
    assert through == (set() if policy == "contract_liability" else {"consumption", "breakage", "reinstatement"})


@pytest.mark.parametrize("policy", RULES)
def test_invoices_payments_and_what_corrects_them_are_all_that_moves_receivables_besides_write_offs(
    policy: str,
) -> None:
    native = PRESETS["invoices_and_payments_native"]
    division = Division(native=native.native, pass_through=False)
    kinds = {
        kind.name
        for kind in KINDS
        for pair in divided(kind, RULES[policy][kind.name], division)
        if not pair.native and "accounts_receivable" in (pair.debit, pair.credit)
    }
    assert kinds == {
        "write_off_unused", "write_off_used", "write_off_overage", "write_off_tax", "write_off_tax_borne",
        "write_off_recovered", "recovered_tax", "recovered_tax_borne", "opening_accounts_receivable",
    }  # fmt: skip


def test_a_word_of_a_kind_is_one_of_the_words_and_stands_for_a_pair() -> None:
    for kind in KINDS:
        if kind.native:
            assert kind.native in WORDS
            for rules in RULES.values():
                assert any(kind.native in words_of(kind, pair, rules[kind.name]) for pair in rules[kind.name])


@pytest.mark.parametrize(
    ("policy", "kind", "native", "through", "expected"),
    [
        ("customer_deposits", "consumption", (), False,
         ["customer_deposits/usage_revenue", "pass_through accounts_receivable/accounts_receivable",
          "prepaid_liability/credits_clearing"]),
        ("customer_deposits", "consumption", ("usage_invoices",), False,
         ["usage_invoices accounts_receivable/usage_revenue", "customer_deposits/accounts_receivable",
          "prepaid_liability/credits_clearing"]),
        ("customer_deposits", "consumption", ("revenue",), False,
         ["revenue customer_deposits/usage_revenue", "pass_through accounts_receivable/accounts_receivable",
          "prepaid_liability/credits_clearing"]),
        ("contract_liability", "consumption", ("revenue",), False, ["revenue prepaid_liability/usage_revenue"]),
        ("customer_deposits", "reinstatement", (), False,
         ["breakage_revenue/customer_deposits", "pass_through accounts_receivable/accounts_receivable",
          "credits_clearing/prepaid_liability"]),
        ("customer_deposits", "purchase", ("invoices", "deposits"), False,
         ["invoices accounts_receivable/deferred_revenue", "deferred_revenue/prepaid_liability",
          "deposits credits_clearing/customer_deposits"]),
        ("customer_deposits", "void_paid", ("credit_memos",), False,
         ["credit_memos prepaid_liability/refunds_payable", "customer_deposits/credits_clearing"]),
        ("contract_liability", "purchase", ("invoices",), False,
         ["invoices accounts_receivable/prepaid_liability"]),
    ],
)  # fmt: skip
def test_the_pairs_of_a_division_by_hand(
    policy: str, kind: str, native: tuple[str, ...], through: bool, expected: list[str]
) -> None:
    found = divided(KIND_BY_NAME[kind], RULES[policy][kind], Division(native=native, pass_through=through))
    assert [f"{p.native} {p.debit}/{p.credit}".strip() for p in found] == expected


# --- the table of the documentation -----------------------------------------------------------------------------------


def word_table() -> list[str]:
    """The account pairs and entry kinds of each word; a pair that only some policies have names them."""
    rows = ["| word | it stands for | account pairs (debit / credit) and their entry kinds |", "|---|---|---|"]
    for word, meaning in WORDS.items():
        found: dict[tuple[AccountPair, str], list[str]] = {}
        for policy, rules in RULES.items():
            for kind in KINDS:
                for pair in rules[kind.name]:
                    if word in words_of(kind, pair, rules[kind.name]):
                        found.setdefault((pair, kind.name), []).append(policy)
        by_pair: dict[tuple[AccountPair, tuple[str, ...]], list[str]] = {}
        for (pair, kind_name), policies in found.items():
            by_pair.setdefault((pair, tuple(policies)), []).append(kind_name)
        cells = []
        for (pair, policies), kinds in by_pair.items():
            under = "" if len(policies) == len(RULES) else f", under {' and '.join(f'`{name}`' for name in policies)}"
            cells.append(f"{pair.debit} / {pair.credit} ({', '.join(kinds)}{under})")
        rows.append(f"| `{word}` | {meaning} | {'; '.join(cells)} |")
    return rows


def test_the_table_of_words_is_that_of_the_code() -> None:
    """After a change of a kind or word: SUBLEDGER_WRITE_TABLES=1 pytest tests/laws/test_division.py"""
    table = word_table()
    text = README.read_text("utf-8")
    before, found, after = text.partition(table[0])
    assert found
    anew = before + "\n".join(table) + "\n\n" + after.partition("\n\n")[2]
    if os.environ.get("SUBLEDGER_WRITE_TABLES"):
        README.write_text(anew, "utf-8")
    assert README.read_text("utf-8") == anew, "see the docstring of this test"


def test_the_presets_of_the_documentation_are_those_of_the_code() -> None:
    text = README.read_text("utf-8")
    assert [name for name in PRESETS if f"| `{name}` |" not in text] == []
