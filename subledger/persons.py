"""Names of persons: requesters, approvers, owners of keys.

Owns: the spelling of a name, and the comparison of two names. Without it one person could approve as ``Alice`` what
``alice`` requested; also as ``alice`` with a blank at the end, or ``аlice`` with a Cyrillic letter. Does not own: the
identity of a caller (api).

The rules follow Unicode's UTS 39: a name is in one script, and names are compared by their skeleton, which has one
character for all that look alike.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Final

from subledger.errors import InvalidValue
from subledger.text.visible_text import ascii_text

NOBODY: Final = "nobody"
"""The name of a call without a key and a user. It can neither request nor approve an event that needs a second person.
"""
LONGEST: Final = 100

_UNNAMED: Final = re.compile(r"key-[0-9a-f]{12}")
"""The generated name of a key that was created before names were required. It can belong to anybody."""
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters, marks and signs that are invisible, although their Unicode category is a visible one."""
_WRITTEN_TOGETHER: Final = (
    frozenset({"LATIN", "HAN", "HIRAGANA", "KATAKANA"}),
    frozenset({"LATIN", "HAN", "HANGUL"}),
    frozenset({"LATIN", "HAN", "BOPOMOFO"}),
)
"""Scripts that one name may mix, because their letters do not look alike (UTS 39, "highly restrictive")."""
_ANY_SCRIPT: Final = frozenset({"COMMON", "INHERITED"})


def person(name: str, *, field: str = "by") -> str:
    """Returns the name as it is stored: composed (NFKC), with single blanks between its parts. Raises InvalidValue.

    Refused are control, format and invisible characters, several scripts in one name, and more than 100 characters.
    """
    text = _composed(name)
    for character in text:
        if unicodedata.category(character)[0] == "C" or _INVISIBLE.match(character):
            raise InvalidValue(
                f"the name in {field} has the character U+{ord(character):04X}, which cannot be seen; leave it out",
                field=field,
                expected="a name of visible characters",
                found=ascii_text(name[:LONGEST]),
            )
    if not 1 <= len(text) <= LONGEST:
        raise InvalidValue(
            f"the name in {field} has {len(text)} characters; give a person's name",
            field=field,
            expected=f"1 to {LONGEST} characters",
            found=ascii_text(name[:LONGEST]),
        )
    scripts = _scripts(text)
    if len(scripts) > 1 and not any(scripts <= together for together in _WRITTEN_TOGETHER):
        named = " and ".join(sorted(script.capitalize() for script in scripts))
        raise InvalidValue(
            f"the name in {field} mixes {named} letters, so that it can look like another name; use one script",
            field=field,
            expected="a name in one script",
            found=ascii_text(name[:LONGEST]),
        )
    return text


def check_requester(by: str) -> None:
    """Checks that an event can store the name of the person who requests a command. Raises InvalidValue."""
    if not (1 <= len(by) <= 200 and by.isprintable()):
        raise InvalidValue(
            "the name of the person who requests this is empty, too long or cannot be printed",
            field="by",
            expected="1 to 200 characters",
            found=by[:60],
        )


def kept_name(name: str) -> str:
    """The name of a key that is older than the rules, in today's spelling; never refused. Empty: ``nobody``."""
    return _plain(name)[:LONGEST].strip() or NOBODY


def is_somebody(name: str) -> bool:
    """True for the name of a person; False for ``nobody`` in any spelling."""
    return not _keys(name) & _keys(NOBODY)


def is_unnamed(name: str) -> bool:
    """True for the generated name of a key without a name."""
    return _UNNAMED.fullmatch(_plain(name)) is not None


def same_person(a: str, b: str) -> bool:
    """True if two names may be one person: they look alike, or differ only in case, blanks or invisible characters.

    Also true if one of them is ``nobody``, and for two keys without a name, because their owners are unknown.
    """
    if not (is_somebody(a) and is_somebody(b)):
        return True
    return (is_unnamed(a) and is_unnamed(b)) or bool(_keys(a) & _keys(b))


def _composed(name: str) -> str:
    return " ".join(part for part in unicodedata.normalize("NFKC", name).split(" ") if part)


def _plain(name: str) -> str:
    """A name that was stored before the rules, in the spelling of the rules."""
    blanks = re.sub(r"\s+", " ", _composed(name))
    seen = "".join(c for c in blanks if unicodedata.category(c)[0] != "C" and not _INVISIBLE.match(c))
    return _composed(seen)


@lru_cache(maxsize=1_024)
def _keys(name: str) -> frozenset[str]:
    """Keys for the comparison of names: two, because a capital may look like another small letter (I like l)."""
    plain = _plain(name)
    return frozenset({_skeleton(plain).casefold(), _skeleton(plain.casefold()).casefold()})


def _skeleton(text: str) -> str:
    looks = _looks()
    return unicodedata.normalize("NFKC", "".join(looks.get(c, c) for c in unicodedata.normalize("NFD", text)))


def _scripts(text: str) -> frozenset[str]:
    """The scripts of a name's letters, without characters that all scripts share."""
    if text.isascii():
        return frozenset({"LATIN"})
    # Imported here, because it reads a megabyte of tables that most commands do not need.
    from confusable_homoglyphs import categories

    return frozenset(categories.unique_aliases(text)) - _ANY_SCRIPT


@cache
def _looks() -> dict[str, str]:
    """Maps each character that looks like others to the one that represents them all.

    The tables have pairs of characters that look alike, in both directions. The representative is the one with more
    partners, or the one of several characters, such as ``rn`` for ``m``.
    """
    from confusable_homoglyphs import confusables

    pairs: dict[str, list[str]] = {}
    for character, others in confusables.confusables_data.items():
        pairs[_bare(character)] = [_bare(other["c"]) for other in others]
    looks = {
        character: _standing_for([character, *others], pairs)
        for character, others in pairs.items()
        if len(character) == 1
    }
    # Unicode's table has the Cyrillic palochka as i only; in most fonts it is an l (as Chromium's IDN checks have it).
    return looks | {"\u04cf": looks.get("l", "l")}


def _standing_for(alike: Iterable[str], pairs: dict[str, list[str]]) -> str:
    return max(alike, key=lambda text: (len(pairs.get(text, ())), len(text), text))


def _bare(text: str) -> str:
    # In the tables, letters of right-to-left scripts are enclosed in direction marks.
    return text.replace("\u200e", "")
