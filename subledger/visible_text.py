"""Text of others on its way to a terminal or a spreadsheet: no character of it acts, and none of it hides.

A control character can move a terminal's cursor or start one of its sequences (U+001B, U+009B), a bidirectional one can
show an id backwards (U+202E; Unicode TR 36), and a cell that begins like a formula is run by a spreadsheet (CWE-1236).

Owns: which characters those are, and their replacements. Does not own: where text is printed (api/terminal) or written.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS: Final = "\u200c\u200d"  # Persian, Hindi and many emoji are not written without them
_SUSPECT: Final = re.compile("[^ -~]+")
_NAMED: Final = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}
_FORMULA_SIGNS: Final = "=+-@"
_MINUS: Final = "\u2212"  # a minus sign that no normalisation makes a hyphen of


def visible(text: str) -> str:
    r"""The text with every character that acts or cannot be seen as its number: ``\x1b``, ``\u202e``, ``\U000e0041``.

    The two joiners stay: scripts are written with them, and they change no order.
    """
    return _SUSPECT.sub(lambda found: "".join(map(_shown, found[0])), text)


def replaced(text: str, by: str = "?") -> str:
    """The text with one character in the place of each that acts or cannot be seen: of the same length."""
    return _SUSPECT.sub(lambda found: "".join(by if _acts(each) else each for each in found[0]), text)


def spreadsheet_text(text: str) -> str:
    """A text cell that no spreadsheet evaluates: visible, with an apostrophe before anything that begins a formula.

    Never for amounts: they are ours, and a leading minus there is a number.
    """
    return no_formula(visible(text))


def no_formula(text: str) -> str:
    """An apostrophe before what a spreadsheet may take for a formula: also full-width signs, also after blanks."""
    start = text.lstrip()[:1]
    if start and (start == _MINUS or unicodedata.normalize("NFKC", start) in _FORMULA_SIGNS):
        return f"'{text}"
    return text


def json_visible(text: str) -> str:
    """JSON text with the same characters as JSON escapes: it reads as the same value, and prints without effect.

    Line ends between members stay: inside of strings JSON has none.
    """
    return _SUSPECT.sub(lambda found: "".join(map(_json_escape, found[0])), text)


def toml_visible(text: str) -> str:
    """As ``json_visible``, in the escapes of TOML, which has longer ones and no pairs of surrogates."""
    return _SUSPECT.sub(lambda found: "".join(map(_toml_escape, found[0])), text)


@lru_cache(maxsize=4096)
def _acts(letter: str) -> bool:
    return letter not in _JOINERS and unicodedata.category(letter) in _UNSEEN


@lru_cache(maxsize=4096)
def _shown(letter: str) -> str:
    if not _acts(letter):
        return letter
    if letter in _NAMED:
        return _NAMED[letter]
    number = ord(letter)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


@lru_cache(maxsize=4096)
def _json_escape(letter: str) -> str:
    if letter == "\n" or not _acts(letter):
        return letter
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


@lru_cache(maxsize=4096)
def _toml_escape(letter: str) -> str:
    if letter == "\n" or not _acts(letter):
        return letter
    number = ord(letter)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
