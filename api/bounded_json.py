"""JSON from outside, decoded within limits of size, number of values and depth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from api import limits
from subledger.errors import TooLarge
from subledger.text.json_text import loads

_COUNTED_AT_ONCE = 256 << 10


class Bound(msgspec.Struct, frozen=True):
    """Limits of a body, or of a text within it: bytes and JSON values. ``advice`` is for the error beyond them."""

    most: int = limits.MAX_BODY
    advice: str = "send less at once"
    values: int = limits.MAX_VALUES
    field: str = "body"


def read_json(text: bytes, bound: Bound, decoding: Callable[[bytes], Any] = loads) -> Any:
    """Decodes a JSON value of bounded size and depth. Raises InvalidJson, TooLarge."""
    _check_values(text, bound)
    decoded = decoding(text)
    level = [decoded] if isinstance(decoded, dict | list) else []
    for _ in range(limits.MAX_JSON_DEPTH):
        level = [
            value
            for node in level
            for value in (node.values() if type(node) is dict else node)
            if type(value) is dict or type(value) is list
        ]
        if not level:
            return decoded
    raise TooLarge(
        f"the {bound.field} is nested too deep", field=bound.field, expected=f"at most {limits.MAX_JSON_DEPTH} levels"
    )


def _check_values(text: bytes, bound: Bound) -> None:
    # Commas and brackets in strings are counted too. That is fast, and the limit has room for it: an event has about
    # twenty values. The text is counted in pieces, because no other thread can run during the count of one piece.
    view, values = memoryview(text), 0
    for start in range(0, len(text), _COUNTED_AT_ONCE):
        piece = bytes(view[start : start + _COUNTED_AT_ONCE])
        values += piece.count(b",") + piece.count(b"[") + piece.count(b"{")
        if values > bound.values:
            raise TooLarge(
                f"the {bound.field} has too many values",
                field=bound.field,
                expected=f"at most {bound.values} JSON values",
            )
