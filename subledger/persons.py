"""Names of persons: who asked, who approved, whose key it is.

Owns: how a name is written, and when two names stand for one person. A second person is worth nothing if ``alice`` can
be ``Alice``, ``alice`` with a blank behind, or ``аlice`` with a Cyrillic letter. Does not own: who somebody is (api).

The rules follow Unicode's UTS 39: a name is in one script, and names are compared by their skeleton, in which
characters that look alike are one.
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
"""The name of a call that no key and no user stands behind. Never a second person, nor one who needs one."""
LONGEST: Final = 100

_UNNAMED: Final = re.compile(r"key-[0-9a-f]{12}")
"""The name that a key had if it was made without one, before names were required: it can be anybody's."""
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters, marks and signs that show nothing: their category does not say so."""
_WRITTEN_TOGETHER: Final = (
    frozenset({"LATIN", "HAN", "HIRAGANA", "KATAKANA"}),
    frozenset({"LATIN", "HAN", "HANGUL"}),
    frozenset({"LATIN", "HAN", "BOPOMOFO"}),
)
"""Scripts that one name may mix: their letters are not taken for each other (UTS 39, "highly restrictive")."""
_ANY_SCRIPT: Final = frozenset({"COMMON", "INHERITED"})


def person(name: str, *, field: str = "by") -> str:
    """The name as it is kept: composed (NFKC), with single blanks between its parts. Raises InvalidValue.

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
    """Checks the name of the person who requests a command, as far as an event can store it. Raises InvalidValue."""
    if not (1 <= len(by) <= 200 and by.isprintable()):
        raise InvalidValue(
            "the name of the person who requests this is empty, too long or cannot be printed",
            field="by",
            expected="1 to 200 characters",
            found=by[:60],
        )


def kept_name(name: str) -> str:
    """The name of a key from before there were rules, as it is written today; never refused. Empty: ``nobody``."""
    return _plain(name)[:LONGEST].strip() or NOBODY


def is_somebody(name: str) -> bool:
    """True for a name that a person has; false for ``nobody`` in any spelling."""
    return not _keys(name) & _keys(NOBODY)


def is_unnamed(name: str) -> bool:
    """True for the name that was made up for a key without one."""
    return _UNNAMED.fullmatch(_plain(name)) is not None


def same_person(a: str, b: str) -> bool:
    """True if two names can stand for one person: they look alike, or differ in case, blanks or what cannot be seen.

    Also for any name beside ``nobody``, and for two keys without a name of their own, as nobody knows whose they are.
    """
    if not (is_somebody(a) and is_somebody(b)):
        return True
    return (is_unnamed(a) and is_unnamed(b)) or bool(_keys(a) & _keys(b))


def _composed(name: str) -> str:
    return " ".join(part for part in unicodedata.normalize("NFKC", name).split(" ") if part)


def _plain(name: str) -> str:
    """A name that was kept before there were rules, as the rules would have had it."""
    blanks = re.sub(r"\s+", " ", _composed(name))
    seen = "".join(c for c in blanks if unicodedata.category(c)[0] != "C" and not _INVISIBLE.match(c))
    return _composed(seen)


@lru_cache(maxsize=1_024)
def _keys(name: str) -> frozenset[str]:
    """Keys that compare names. Two, as capitals can look like other small letters: I like l, but not like i."""
    plain = _plain(name)
    return frozenset({_skeleton(plain).casefold(), _skeleton(plain.casefold()).casefold()})


def _skeleton(text: str) -> str:
    looks = _looks()
    return unicodedata.normalize("NFKC", "".join(looks.get(c, c) for c in unicodedata.normalize("NFD", text)))


def _scripts(text: str) -> frozenset[str]:
    """The scripts of a name's letters, but for what all scripts share."""
    if text.isascii():
        return frozenset({"LATIN"})
    # Imported late: it reads a megabyte of tables, which most commands do not need.
    from confusable_homoglyphs import categories

    return frozenset(categories.unique_aliases(text)) - _ANY_SCRIPT


@cache
def _looks() -> dict[str, str]:
    """For each character that looks like others what stands for them all.

    The tables give pairs, in both directions, of a character and what stands for it; the latter has more partners, or
    is several characters, such as ``rn`` for ``m``.
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
    # Letters of scripts that run from right to left stand between marks of direction in the tables.
    return text.replace("\u200e", "")
