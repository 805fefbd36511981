"""Text of others on its way to a terminal, a log, an error or a spreadsheet: no character of it acts or hides.

A control character can move a terminal's cursor or start one of its sequences (U+001B, U+009B), a bidirectional one can
show an id backwards (U+202E; Unicode TR 36), a combining mark that follows no letter goes to whatever is printed before
it, and a cell that begins like a formula is run by a spreadsheet (CWE-1236).

Owns: which characters those are, and their replacements: all others import them from here. Does not own: where text is
printed (api/terminal) or written, what a name may consist of (persons).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters, marks and signs that show nothing, which their category does not say."""
_JOINERS: Final = "\u200c\u200d"  # Persian, Hindi and many emoji are not written without them
_SUSPECT: Final = re.compile("[^ -~]+")
_NAMED: Final = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}
_FORMULA_SIGNS: Final = "=+-@"
_MINUS: Final = "\u2212"  # a minus sign that no normalisation makes a hyphen of


def visible(text: str) -> str:
    r"""The text with every character that acts or cannot be seen as its number: ``\x1b``, ``\u202e``, ``\U000e0041``.

    The two joiners stay: scripts are written with them, and they change no order.
    """
    return _rewritten(text, _number)


def visible_lines(text: str) -> str:
    """As ``visible``, but line ends stay: for messages, whose lines may be another program's."""
    return _rewritten(text, lambda letter: letter if letter == "\n" else _number(letter))


def ascii_text(text: str) -> str:
    """The text with every character beyond printable ASCII as its number, so that letters that look alike differ."""
    return _SUSPECT.sub(lambda found: "".join(map(_number, found[0])), text)


def replaced(text: str, by: str = "?") -> str:
    """The text with one character in the place of each that acts or cannot be seen: of the same length."""
    return _rewritten(text, lambda _: by)


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
    return _rewritten(text, _json_escape)


def toml_visible(text: str) -> str:
    """As ``json_visible``, in the escapes of TOML, which has longer ones and no pairs of surrogates."""
    return _rewritten(text, _toml_escape)


def _rewritten(text: str, write: Callable[[str], str]) -> str:
    """The text with ``write`` of each character that acts or cannot be seen in its place."""
    return _SUSPECT.sub(lambda found: "".join(_each(found, write)), text)


def _each(found: re.Match[str], write: Callable[[str], str]) -> Iterator[str]:
    carries_marks = found.start() > 0 and _carries_marks(found.string[found.start() - 1])
    for letter in found[0]:
        if letter in _JOINERS:
            yield letter
        elif _acts(letter) or (not carries_marks and _is_mark(letter)):
            yield write(letter)
            carries_marks = False
        else:
            yield letter
            carries_marks = _carries_marks(letter) or (carries_marks and _is_mark(letter))


@lru_cache(maxsize=4096)
def _acts(letter: str) -> bool:
    return letter in _BLANK or unicodedata.category(letter) in _UNSEEN


@lru_cache(maxsize=4096)
def _is_mark(letter: str) -> bool:
    return unicodedata.category(letter)[0] == "M"


@lru_cache(maxsize=4096)
def _carries_marks(letter: str) -> bool:
    """True for what a combining mark can go to: also # and *, which emoji of keys are made of."""
    if letter.isascii():
        return letter.isalnum() or letter in "#*"
    return unicodedata.category(letter)[0] in "LNS"


@lru_cache(maxsize=4096)
def _number(letter: str) -> str:
    if letter in _NAMED:
        return _NAMED[letter]
    number = ord(letter)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


@lru_cache(maxsize=4096)
def _json_escape(letter: str) -> str:
    if letter == "\n":
        return letter
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


@lru_cache(maxsize=4096)
def _toml_escape(letter: str) -> str:
    if letter == "\n":
        return letter
    number = ord(letter)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
