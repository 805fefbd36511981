"""TOML of a caller, read in bounded time.

Owns: the limits of reading. Does not own: the expected content.
"""

from __future__ import annotations

import tomllib
from typing import Any, Final

from subledger.errors import InvalidInput

MAX_TEXT: Final = 64 << 10
"""Characters of a text. The longest policy that ships has about 5,000."""
MAX_DOTS: Final = 50
"""Dots of a line. The time and memory of ``tomllib`` grow with the square of the parts of a dotted key
(github.com/python/cpython/issues/149231), and a key is on one line. Dots in strings and comments count too, because the
beginning of a string cannot be found safely without parsing.
"""


def read_toml(text: str, *, name: str = "TOML text") -> dict[str, Any]:
    """The document in a TOML text; ``name`` is for messages. Raises InvalidInput."""
    text = text.removeprefix("\ufeff")
    if len(text) > MAX_TEXT:
        raise _unreadable(
            name, f"it has {len(text)} characters", expected=f"at most {MAX_TEXT} characters", found=str(len(text))
        )
    for number, line in enumerate(text.split("\n"), start=1):
        if line.count(".") > MAX_DOTS:
            raise _unreadable(name, f"line {number} has too many dots", expected=f"at most {MAX_DOTS} dots in a line")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise _unreadable(name, "it is nested too deep", expected="TOML") from None
    except tomllib.TOMLDecodeError as error:
        raise _unreadable(name, str(error)[:200], expected="TOML") from None
    except ValueError:  # Python reads no whole number of more than 4,300 digits
        raise _unreadable(
            name, "it has a number of too many digits", expected="numbers of at most 4,300 digits"
        ) from None


def _unreadable(name: str, reason: str, *, expected: str, found: str | None = None) -> InvalidInput:
    return InvalidInput(f"the {name} cannot be read: {reason}", expected=expected, found=found)
