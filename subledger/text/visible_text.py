"""Text from outside for a terminal, a log, an error or a spreadsheet, without characters that act or are invisible.

These characters are dangerous:
- a control character can move a terminal's cursor or start a control sequence (U+001B, U+009B);
- a bidirectional control can show an id backwards (U+202E; Unicode TR 36);
- a combining mark without a letter changes the text that is printed before it;
- a cell that begins like a formula is run by a spreadsheet (CWE-1236).

Owns: the list of these characters, and their replacements. All other modules import them from here. Does not own:
printing (api/terminal), the characters of names (persons).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters, marks and signs that are invisible, although their Unicode category is a visible one."""
_JOINERS: Final = "\u200c\u200d"  # Persian, Hindi and many emoji need them
_SUSPECT: Final = re.compile("[^ -~]+")
_NAMED: Final = {"\t": r"\t", "\n": r"\n", "\r": r"\r"}
_FORMULA_SIGNS: Final = "=+-@"
_MINUS: Final = "\u2212"  # a minus sign that no normalisation changes into a hyphen


def visible(text: str) -> str:
    r"""The text with the number of each character that acts or is invisible: ``\x1b``, ``\u202e``, ``\U000e0041``.

    The two joiners stay, because some scripts need them, and they do not change the order.
    """
    return _rewritten(text, _number)


def visible_lines(text: str) -> str:
    """As ``visible``, but line ends stay: for messages, which may have lines of another program."""
    return _rewritten(text, lambda letter: letter if letter == "\n" else _number(letter))


def ascii_text(text: str) -> str:
    """The text with the number of each character outside printable ASCII, so that letters that look alike differ."""
    return _SUSPECT.sub(lambda found: "".join(map(_number, found[0])), text)


def replaced(text: str, by: str = "?") -> str:
    """The text with ``by`` in place of each character that acts or is invisible. The length does not change."""
    return _rewritten(text, lambda _: by)


def spreadsheet_text(text: str) -> str:
    """A text cell that no spreadsheet evaluates: visible, with an apostrophe before anything that begins a formula.

    It is not used for amounts, because this program writes them, and a leading minus there is a number.
    """
    return no_formula(visible(text))


def no_formula(text: str) -> str:
    """Adds an apostrophe before text that a spreadsheet may read as a formula, also with full-width signs or blanks."""
    start = text.lstrip()[:1]
    if start and (start == _MINUS or unicodedata.normalize("NFKC", start) in _FORMULA_SIGNS):
        return f"'{text}"
    return text


def json_visible(text: str) -> str:
    """JSON text with these characters as JSON escapes. It has the same value, and is safe to print.

    Line ends between members stay. Strings in JSON have none.
    """
    return _rewritten(text, _json_escape)


def toml_visible(text: str) -> str:
    """As ``json_visible``, with the escapes of TOML, which has longer ones and no pairs of surrogates."""
    return _rewritten(text, _toml_escape)


def _rewritten(text: str, write: Callable[[str], str]) -> str:
    """The text with each character that acts or is invisible replaced by ``write`` of it."""
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
    """True for a character that can have a combining mark. # and * are included, because key emoji use them."""
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
