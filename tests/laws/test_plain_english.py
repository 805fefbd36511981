"""Docstrings of the product and of the tests begin with a verb or a noun phrase, never with a question word."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("subledger", "projections", "api", "migrations", "tests")
QUESTION_WORDS: Final = frozenset(
    {"what", "whether", "who", "whose", "whom", "where", "which", "how", "when", "why", "is", "are", "does"}
)


def _docstrings(module: ast.Module) -> Iterator[ast.Constant]:
    """Yields docstrings: those of modules, classes and functions, and those below a constant or a field."""
    for node in ast.walk(module):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value


def _questions(source: str) -> Iterator[str]:
    """Yields the docstrings of a module that begin with a question word, as ``line: first line``."""
    for docstring in _docstrings(ast.parse(source)):
        words = str(docstring.value).split()
        if words and words[0].strip(",.:;?!'\"()").lower() in QUESTION_WORDS:
            yield f"{docstring.lineno}: {str(docstring.value).strip().splitlines()[0]}"


def _questions_in(folder: Path) -> list[str]:
    """Returns the docstrings of one folder that begin with a question word, each with its file."""
    return [
        f"{file.relative_to(ROOT)}:{question}"
        for file in sorted(folder.glob("*.py"))
        for question in _questions(file.read_text(encoding="utf-8"))
    ]


FOLDERS: Final = sorted({file.parent for package in PACKAGES for file in (ROOT / package).rglob("*.py")})


def test_no_docstring_begins_with_a_question_word() -> None:
    found = [line for folder in FOLDERS for line in _questions_in(folder)]
    assert not found, "begin these with a verb or a noun phrase:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("source", "begins_so"),
    [
        ('"""What it is."""', True),
        ('def f():\n    """Whether it is."""', True),
        ('class C:\n    x: int\n    """How many."""', True),
        ('"""Returns what it is."""', False),
        ('x = "what is it?"', False),
    ],
)
def test_such_docstrings_are_found_wherever_they_stand(source: str, begins_so: bool) -> None:
    assert bool(list(_questions(source))) == begins_so
