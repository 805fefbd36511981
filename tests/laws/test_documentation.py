"""What subledger/README.md says of kinds, roles and policies is what the code does."""

from __future__ import annotations

from pathlib import Path

from subledger.accounts import ROLES
from subledger.deciding import POSTS
from subledger.event_data import EVENT_TYPES
from subledger.journal import KINDS, REMEASUREMENTS, SETTLEMENTS, Rules
from subledger.posting import SHIPPED_POLICIES, shipped_policy

README = Path(__file__).parents[2] / "subledger" / "README.md"


def _cell(rules: Rules, kind: str) -> str:
    return " · ".join(f"{pair.debit} / {pair.credit}" for pair in rules[kind]) or "no line"


def entry_table() -> list[str]:
    """The event → entry table, as it must stand in the README."""
    policies = [shipped_policy(name).rules for name in SHIPPED_POLICIES]
    rows = ["| entry kind | " + " | ".join(f"`{name}`" for name in SHIPPED_POLICIES) + " |", "|---|---|---|---|"]
    for kind in KINDS:
        plain, deposits, arm = (_cell(rules, kind.name) for rules in policies)
        if deposits == plain:
            deposits = "as left"
        if arm == _cell(policies[1], kind.name):
            arm = "as left"
        rows.append(f"| {kind.name} | {plain} | {deposits} | {arm} |")
    return rows


def role_table() -> list[str]:
    rows = ["| role | class | normal side | its balance is |", "|---|---|---|---|"]
    rows += [
        f"| {role.name} | {role.account_class.value.replace('_', '-')} | {role.normal_side.value} | {role.meaning} |"
        for role in ROLES
    ]
    return rows


def kind_table() -> list[str]:
    rows = ["| entry kind | what it means | column |", "|---|---|---|"]
    rows += [f"| {kind.name} | {kind.meaning} | {kind.column or '–'} |" for kind in KINDS]
    return rows


def event_cells(type: str) -> list[str]:
    """The first two cells of an event's row; a kind per role is told once."""
    posted = [kind for kind in POSTS[type] if kind not in (*REMEASUREMENTS, *SETTLEMENTS)]
    posted += [f"{family}_…" for family in ("fx_remeasurement", "fx_settlement") if f"{family}_cash" in POSTS[type]]
    return [type, " · ".join(posted) or "none"]


def test_the_table_of_events_is_what_the_code_says_each_may_post() -> None:
    rows = [line.strip("| ").split(" | ") for line in README.read_text("utf-8").splitlines() if line.startswith("| ")]
    told = {row[0]: row[:2] for row in rows if row[0] in POSTS}
    assert told == {type: event_cells(type) for type in POSTS}
    assert set(POSTS) - {"balances.remeasured"} == set(EVENT_TYPES)


def test_the_event_to_entry_table_of_the_documentation_is_that_of_the_policies() -> None:
    assert "\n".join(entry_table()) in README.read_text("utf-8")


def test_the_chart_of_accounts_of_the_documentation_is_that_of_the_code() -> None:
    assert "\n".join(role_table()) in README.read_text("utf-8")


def test_the_entry_kinds_of_the_documentation_are_those_of_the_code() -> None:
    assert "\n".join(kind_table()) in README.read_text("utf-8")
