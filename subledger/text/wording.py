"""Words for a fault in an input: names of JSON types, the nearest known name.

Owns: these words. Does not own: the errors (events, money), the display of a text (visible_text). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def json_type(value: object) -> str:
    """The JSON type of a decoded value, as RFC 8259 names it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list | tuple) else "object" if isinstance(value, dict) else type(value).__name__


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Returns the known name that is most similar to a misspelt one; None if no name is similar."""
    plain = {other.lower().replace("_", ""): other for other in known}
    found = get_close_matches(name[:100].lower().replace("_", "").replace("-", ""), plain, n=1, cutoff=0.7)
    return plain[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known name, or an empty text."""
    other = nearest(name, known)
    return f"; did you mean {other}?" if other is not None else ""
