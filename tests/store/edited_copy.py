"""A copy of the product in which some texts are replaced, to test a possible later release."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import subledger.posting

ROOT: Final = Path(subledger.posting.__file__).parents[1]
PACKAGES: Final = ("subledger", "projections", "api", "migrations")

Edits = Mapping[str, tuple[tuple[str, str], ...]]
"""By file: texts that must occur once, and their replacements."""


def edited_copy(directory: Path, edits: Edits) -> Path:
    """Copies the product, makes the edits, and returns the copy's directory."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, directory / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, replacements in edits.items():
        path = directory / name
        text = path.read_text("utf-8")
        for old, new in replacements:
            assert text.count(old) == 1, f"{name} has {text.count(old)} times {old!r}"
            text = text.replace(old, new)
        path.write_text(text, "utf-8")
    return directory
