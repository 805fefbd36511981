"""JSON text from outside, read strictly and at the speed of orjson.

These texts are refused:
- a name that occurs twice in an object: RFC 8785 requires unique names, and parsers choose different values;
- deeper nesting than any document of this program has;
- bytes that are not UTF-8.

A UTF-8 byte order mark before the text is skipped (RFC 8259, section 8.1).

Owns: ``loads``, ``loads_each`` and ``texts_of``. Does not own: the meaning of the value (events).
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson

from subledger.errors import InvalidJson

MAX_DEPTH: Final = 254
"""The deepest nesting of objects and lists that orjson writes. Documents of this program have at most four levels."""

_BOM: Final = b"\xef\xbb\xbf"
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_ESCAPED_COLON = re.compile(rb"(?<!\\)(?:\\\\)*\\u003[aA]")
_BLANK = re.compile(r"[ \t\n\r]*")


def loads(text: bytes | str, *, line: int = 1) -> Any:
    """One JSON value. Raises InvalidJson with the place; ``line`` is the number of the first line in its file."""
    text = _as_bytes(text)
    value = _decoded(text, line)
    if not _names_are_unique(text, value):
        repeated: list[str] = []
        _decoder(repeated).decode(text.decode())
        raise _repeated(repeated[0])
    return value


def loads_each(text: bytes | str) -> Any:
    """As ``loads``, but checks each item of a list separately. An item with a repeated name becomes its InvalidJson."""
    text = _as_bytes(text)
    value = _decoded(text, 1)
    if _names_are_unique(text, value):
        return value
    if not isinstance(value, list):
        return loads(text)
    repeated: list[str] = []
    decoder, decoded, items = _decoder(repeated), text.decode(), list(value)
    index = decoded.index("[") + 1
    for number in range(len(items)):
        repeated.clear()
        _, end = decoder.raw_decode(decoded, _past_blanks(decoded, index))
        if repeated:
            items[number] = _repeated(repeated[0])
        index = _past_blanks(decoded, end) + 1  # past the comma
    return items


def texts_of(text: bytes) -> list[bytes]:
    """The texts of the items of a list, unchanged. ``loads_each`` must have accepted the text."""
    decoded, texts = _as_bytes(text).decode(), []
    decoder, index = _decoder([]), _past_blanks(decoded, decoded.index("[") + 1)
    while decoded[index] != "]":
        _, end = decoder.raw_decode(decoded, index)
        texts.append(decoded[index:end].encode())
        index = _past_blanks(decoded, end)
        if decoded[index] == ",":
            index = _past_blanks(decoded, index + 1)
    return texts


def _as_bytes(text: bytes | str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return encoded[len(_BOM) :] if encoded.startswith(_BOM) else encoded


def _decoded(text: bytes, line: int) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _not_json(text, error, line) from None


def _names_are_unique(text: bytes, value: Any) -> bool:
    """True if no object of a text has a name twice; ``value`` is the decoded text. Raises InvalidJson if too deep.

    This is exact, and much faster than a comparison of names. Each member has one colon outside of strings, and a
    decoder that drops a member drops its colon. So the decoded value is written again, and both texts must have the
    same number of colons; colons that the text writes as an escape are included.
    """
    try:
        written = orjson.dumps(value)
    except TypeError:
        raise _too_deep() from None
    colons = text.count(b":")
    if b"\\u003" in text:
        colons += sum(1 for _ in _ESCAPED_COLON.finditer(text))
    return colons == written.count(b":")


def _decoder(repeated: list[str]) -> json.JSONDecoder:
    """A decoder that notes repeated names. It does not read numbers, which may have any number of digits."""

    def pairs(members: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in members:
            if name in seen:
                repeated.append(name)
            seen.add(name)

    return json.JSONDecoder(object_pairs_hook=pairs, parse_int=len, parse_float=len)


def _past_blanks(text: str, index: int) -> int:
    match = _BLANK.match(text, index)
    return match.end() if match is not None else index


def _repeated(name: str) -> InvalidJson:
    return InvalidJson(
        f'the name "{name[:60]}" is given more than once in one object; only one of its values could be recorded',
        field=name[:60],
        expected="each name once in an object",
        found="the same name again",
    )


def _too_deep() -> InvalidJson:
    return InvalidJson(
        "the JSON is nested too deep", expected=f"at most {MAX_DEPTH} objects and lists within each other"
    )


def _not_json(text: bytes, error: orjson.JSONDecodeError, line: int) -> InvalidJson:
    """The decoder's finding, in words for the author of the text."""
    expected = "one JSON document in UTF-8"
    if text.startswith(_UTF16):
        return InvalidJson("the text is UTF-16, not UTF-8", expected=expected, found="a UTF-16 byte order mark")
    try:
        text.decode()
    except UnicodeDecodeError as fault:
        before = text[: fault.start].decode()
        row, column = line + before.count("\n"), len(before) - (before.rfind("\n") + 1) + 1
        return InvalidJson(
            f"the text is not UTF-8: line {row} column {column} has the byte 0x{text[fault.start]:02x}; "
            "it may be Latin-1 or Windows-1252",
            expected=expected,
            found=f"0x{text[fault.start]:02x}",
        )
    if "depth limit" in error.msg:
        return _too_deep()
    if "infinity" in error.msg:
        return InvalidJson(
            f"a number is too large: line {line + error.lineno - 1} column {error.colno}",
            expected='amounts and credits are strings, such as "100.00"',
        )
    return InvalidJson(f"not JSON: {error.msg}: line {line + error.lineno - 1} column {error.colno}", expected=expected)
