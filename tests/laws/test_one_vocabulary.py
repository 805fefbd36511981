"""Tests share their builders: a helper is defined once, and not in several modules."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import tests

ROOT = Path(tests.__file__).parent
EVENTS = ("credits.purchased", "credits.consumed", "credits.granted", "payment.received", "exchange_rate.set")
"""Event types with a builder in ``building.py``. A helper that only makes one of them must be a ``partial`` of it."""


def helpers() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yields the functions of the tests' modules that are not tests.

    Benchmarks may have their own helpers. A folder's ``conftest.py`` may replace a fixture for its modules.
    """
    for path in sorted(ROOT.rglob("*.py")):
        module = path.relative_to(ROOT).as_posix()
        if not module.startswith(("benchmarks/", "building.py")) and path.name != "conftest.py":
            for node in ast.parse(path.read_text("utf-8")).body:
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("test_"):
                    yield module, node


def body_of(helper: ast.FunctionDef) -> list[ast.stmt]:
    """Returns the code of a helper, without its docstring."""
    first = helper.body[0]
    told = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return helper.body[1:] if told else helper.body


def test_no_two_modules_define_the_same_helper() -> None:
    """A fixture that only renames another one for its module (``return own_service``) does not count."""
    found: dict[str, list[str]] = defaultdict(list)
    for module, helper in helpers():
        body = body_of(helper)
        hands_on = len(body) == 1 and isinstance(body[0], ast.Return) and isinstance(body[0].value, ast.Name)
        if not hands_on:
            same = ast.dump(helper.args) + "".join(map(ast.dump, body))
            found[same].append(f"{module}:{helper.lineno} {helper.name}")
    assert [places for places in found.values() if len(places) > 1] == []


def test_an_event_that_has_a_builder_is_built_by_it() -> None:
    again = []
    for module, helper in helpers():
        body = body_of(helper)
        made = body[-1].value if isinstance(body[-1], ast.Return) else None
        if (
            isinstance(made, ast.Call)
            and isinstance(made.func, ast.Name)
            and made.func.id == "cloud_event"
            and len(made.args) > 1
            and isinstance(made.args[1], ast.Constant)
            and made.args[1].value in EVENTS
        ):
            again.append(f"{module}:{helper.lineno} {helper.name}")
    assert again == []


def test_the_readme_names_every_folder_and_every_shared_module() -> None:
    """Of the benchmarks it names only the folder."""
    readme = (ROOT / "README.md").read_text("utf-8")
    modules = [path.name for path in ROOT.rglob("*.py") if "benchmarks" not in path.parts]
    shared = {name for name in modules if not name.startswith(("test_", "__"))}
    folders = {f"{path.parent.name}/" for path in ROOT.rglob("__init__.py") if path.parent != ROOT}
    assert sorted(name for name in shared | folders if f"{name}`" not in readme and f"`{name}" not in readme) == []
