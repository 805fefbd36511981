"""The tables of subledger/README.md about kinds, roles, policies and controls agree with the code."""

from __future__ import annotations

import os
import re
from pathlib import Path

from subledger.accounts import ROLES
from subledger.deciding.decide import POSTS
from subledger.events.data import EVENT_TYPES
from subledger.kinds import KINDS, REMEASUREMENTS, SETTLEMENTS, Rules
from subledger.posting import SHIPPED_POLICIES, shipped_policy

ROOT = Path(__file__).parents[2]
README = ROOT / "subledger" / "README.md"
FAMILIES = ("fx_remeasurement_", "fx_settlement_")


def _cell(rules: Rules, kind: str) -> str:
    return " · ".join(f"{pair.debit} / {pair.credit}" for pair in rules[kind]) or "no line"


def _of_a_role(kind: str, text: str) -> str:
    """Returns a row of a currency kind with its role as ROLE. The row is the same for every role except
    prepaid_liability.
    """
    role = next((kind.removeprefix(f) for f in FAMILIES if kind.startswith(f)), "prepaid_liability")
    return text if role == "prepaid_liability" else text.replace(role, "ROLE")


def entry_table() -> list[str]:
    """Returns the table of account pairs by policy."""
    policies = [shipped_policy(name).rules for name in SHIPPED_POLICIES]
    rows = ["| entry kind | " + " | ".join(f"`{name}`" for name in SHIPPED_POLICIES) + " |", "|---|---|---|---|"]
    for kind in KINDS:
        plain, deposits, arm = (_cell(rules, kind.name) for rules in policies)
        if arm == deposits:
            arm = "*same*"
        if deposits == plain:
            deposits = "*same*"
        rows.append(_of_a_role(kind.name, f"| {kind.name} | {plain} | {deposits} | {arm} |"))
    return list(dict.fromkeys(rows))


def role_table() -> list[str]:
    rows = ["| role | class | normal side | its balance is |", "|---|---|---|---|"]
    rows += [
        f"| {role.name} | {role.account_class.value.replace('_', '-')} | {role.normal_side.value} | {role.meaning} |"
        for role in ROLES
    ]
    return rows


def kind_table() -> list[str]:
    rows = ["| entry kind | what it means | column |", "|---|---|---|"]
    rows += [_of_a_role(kind.name, f"| {kind.name} | {kind.meaning} | {kind.column or '–'} |") for kind in KINDS]
    return list(dict.fromkeys(rows))


def roles_of_currency_kinds() -> str:
    """Returns the roles that ROLE stands for in both tables."""
    found = [kind.removeprefix(FAMILIES[0]) for kind in REMEASUREMENTS]
    return ", ".join(role for role in found if role != "prepaid_liability")


def event_cells(type: str) -> list[str]:
    """Returns the first two cells of an event's row. Kinds that exist for each role are listed once."""
    if type == "event.reversed":
        return [type, "the mirror of what the event had posted"]
    posted = [kind for kind in POSTS[type] if kind not in (*REMEASUREMENTS, *SETTLEMENTS)]
    posted += [f"{family}…" for family in FAMILIES if f"{family}cash" in POSTS[type]]
    return [type, " · ".join(posted) or "none"]


def written_anew(text: str) -> str:
    """Returns the text with the tables of the code instead of those with the same header."""
    for table in (role_table(), kind_table(), entry_table()):
        before, _, after = text.partition(table[0])
        text = before + "\n".join(table) + "\n\n" + after.partition("\n\n")[2]
    return text


def test_the_tables_are_those_of_the_code() -> None:
    """After a change of a role, kind or policy: SUBLEDGER_WRITE_TABLES=1 pytest tests/laws/test_documentation.py"""
    if os.environ.get("SUBLEDGER_WRITE_TABLES"):
        README.write_text(written_anew(README.read_text("utf-8")), "utf-8")
    text = README.read_text("utf-8")
    assert written_anew(text) == text, "see the docstring of this test"


def test_the_table_of_events_is_what_the_code_says_each_may_post() -> None:
    rows = [line.strip("| ").split(" | ") for line in README.read_text("utf-8").splitlines() if line.startswith("| ")]
    told = {row[0]: row[:2] for row in rows if row[0] in POSTS}
    assert told == {type: event_cells(type) for type in POSTS}
    assert set(POSTS) - {"balances.remeasured"} == set(EVENT_TYPES)


def test_the_roles_of_currency_kinds_are_those_of_the_code() -> None:
    assert roles_of_currency_kinds() in README.read_text("utf-8").replace("\n", " ")


def test_every_control_of_the_matrix_is_a_file_and_has_a_test() -> None:
    section = README.read_text("utf-8").partition("\n## Control matrix\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if re.match(r"\| \d", line)]
    assert [row[0] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
    assert len(rows) >= 20
    for _, assertion, control, file, test in rows:
        assert assertion.endswith(".")
        assert control.endswith(".")
        assert (ROOT / file.strip("`")).is_file(), file
        path, _, name = test.strip("`").partition("::")
        assert re.search(rf"^ *def {name}\(", (ROOT / path).read_text("utf-8"), flags=re.MULTILINE), test


def test_the_vocabulary_is_in_the_order_of_the_alphabet() -> None:
    section = README.read_text("utf-8").partition("\n## Vocabulary\n")[2].partition("\n## ")[0]
    terms = [line.split(" | ")[0].strip("| ").lower() for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(terms) > 30
    assert terms == sorted(terms)


def test_the_table_of_files_of_api_names_its_folders_and_the_modules_beside_them() -> None:
    package = README.parents[1] / "api"
    section = (package / "README.md").read_text("utf-8").partition("\n## Files\n")[2]
    named = [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")]
    modules = {path.name for path in package.glob("*.py") if path.name != "__init__.py"}
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert sorted(named) == sorted(modules | folders)


def test_the_table_of_files_names_every_module() -> None:
    section = README.read_text("utf-8").partition("\n## Files\n")[2].partition("\n## ")[0]
    cells = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| ")]
    named = {path for cell in cells for path in re.findall(r"`([\w/.]+\.py)`", cell)}
    package = README.parent
    modules = {str(path.relative_to(package)) for path in package.rglob("*.py") if path.name != "__init__.py"}
    assert named == modules
