"""Mutation testing of the pure core: does a test fail when a line of the accounting is wrong? ``make mutation``.

mutmut changes one thing at a time in the modules that ``[tool.mutmut]`` of pyproject.toml names and runs the pure laws
that reach it; a change that no law notices *survives*. Here mutmut is given properties to change too, as a block's
credits left and its carrying amount are properties, and a table by module at the end. ``MUTATION.md`` beside this file
says what survives and why. Arguments are mutmut's own: ``run "subledger.money*"``, ``show NAME``, ``results``.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from typing import Any

import libcst
import pytest
from mutmut.__main__ import cli, status_by_exit_code
from mutmut.mutation import file_mutation, trampoline
from mutmut.mutation.data import SourceFileMutationData
from mutmut.runners.harness import PytestRunner
from mutmut.state import state
from mutmut.utils.file_utils import walk_mutatable_files

_skips = file_mutation.MutationVisitor._skip_node_and_children
_arranges = file_mutation.function_trampoline_arrangement
_executes = PytestRunner.execute_pytest


def is_property(node: libcst.CSTNode) -> bool:
    return (
        isinstance(node, libcst.FunctionDef)
        and len(node.decorators) == 1
        and isinstance(node.decorators[0].decorator, libcst.Name)
        and node.decorators[0].decorator.value == "property"
    )


def skips(self: Any, node: libcst.CSTNode) -> bool:
    """mutmut leaves every decorated function alone; a property is a function like any other."""
    return not is_property(node) and _skips(self, node)


def arranges(function: libcst.FunctionDef, mutants: Any, class_name: str | None) -> tuple[Any, Any, Any, Any]:
    """The mutants of a property are plain methods; only the one that chooses among them is the property."""
    if not is_property(function):
        return _arranges(function, mutants, class_name)
    declared, [chooser, *others], assigned, names = _arranges(function.with_changes(decorators=[]), mutants, class_name)
    chooser = chooser.with_changes(decorators=[*function.decorators, *chooser.decorators])
    return declared, [chooser, *others], assigned, names


class SharedWalks:
    """Every test with the long walks reaches the same code, so the walks are made once for all.

    mutmut counts it for the one alone that made them, and would run no other when what they reach is changed.
    """

    def __init__(self) -> None:
        self._tests: set[str] = set()
        self._reached: set[str] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item: Any) -> None:
        if "long_walks" in item.fixturenames:
            self._tests.add(item.nodeid)
            self._reached |= state()._stats

    def pytest_sessionfinish(self) -> None:
        for function in self._reached:
            state().tests_by_mangled_function_name[function] |= self._tests


def executes(self: Any, params: list[str], **options: Any) -> int:
    """pytest in a process forked from a warm one, where going through all that is in memory would cost the most."""
    gc.freeze()
    params = [*params, "-p", "no:unraisableexception"]
    return _executes(self, params, plugins=[*options.pop("plugins", ()), SharedWalks()], **options)


def table() -> str:
    """By module: how many mutants there are, and what became of them. One that ran out of time was noticed too."""
    lines = ["| module | mutants | killed | survived | not reached | score |", "|---|---|---|---|---|---|"]
    whole: Counter[str] = Counter()
    for path in sorted(walk_mutatable_files()):
        module = SourceFileMutationData(path=path)
        module.load()
        states = Counter(status_by_exit_code[code] for code in module.exit_code_by_key.values())
        whole += states
        lines.append(row(str(path), states))
    return "\n".join([*lines, row("together", whole)])


def row(name: str, states: Counter[str]) -> str:
    tried = states.total() - states["not checked"]
    killed = states["killed"] + states["timeout"]
    score = f"{100 * killed / tried:.1f} %" if tried else "-"
    left = f" ({states['not checked']} not tried)" if states["not checked"] else ""
    return f"| {name} | {states.total()}{left} | {killed} | {states['survived']} | {states['no tests']} | {score} |"


if __name__ == "__main__":
    file_mutation.MutationVisitor._skip_node_and_children = skips
    file_mutation.function_trampoline_arrangement = arranges
    PytestRunner.execute_pytest = executes
    # No test here touches the environment; asking it at every call was half of the time.
    trampoline.get_mutant_under_test = lambda: trampoline._mutant_under_test or ""
    cli(standalone_mode=sys.argv[1:2] != ["run"])
    print(table())
