"""Laws of reading JSON text: it is one value with each name once, or InvalidJson; the value equals the text."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from subledger.errors import InvalidJson
from subledger.text.json_text import MAX_DEPTH, loads, loads_each, texts_of

# Names that are often equal, as read or as written. They contain colons and escapes, because the count depends on
# these.
NAMES = st.one_of(st.sampled_from(["a", "b", "a:", ":", "\\", "\\u003a", "é", ""]), st.text(max_size=3))


def written(text: str, escape: st.DrawFn) -> str:
    """Returns a JSON string with some of its characters as escapes."""
    letters = []
    for letter in text:
        plain = json.dumps(letter, ensure_ascii=False)[1:-1]
        short = ord(letter) < 0x10000 and not 0xD800 <= ord(letter) < 0xE000
        way = escape(st.sampled_from(("plain", "lower", "upper") if short else ("plain",)))
        code = f"{ord(letter):04x}"
        letters.append(plain if way == "plain" else f"\\u{code if way == 'lower' else code.upper()}")
    return f'"{"".join(letters)}"'


@st.composite
def json_texts(draw: st.DrawFn, depth: int = 3) -> str:
    """Draws JSON with blanks anywhere, escapes, and names that may occur twice."""
    blank = draw(st.sampled_from(("", " ", "\n\t")))
    kind = draw(st.sampled_from(("string", "number", "word", "object", "object", "list") if depth else ("string",)))
    if kind == "string":
        text = written(draw(NAMES), draw)
    elif kind == "number":
        text = draw(st.sampled_from(("0", "-1", "1.5", "1e3", "123456789012345678901234567890")))
    elif kind == "word":
        text = draw(st.sampled_from(("true", "false", "null")))
    elif kind == "list":
        text = "[" + ",".join(draw(st.lists(json_texts(depth - 1), max_size=3))) + blank + "]"
    else:
        members = draw(st.lists(st.tuples(NAMES, json_texts(depth - 1)), max_size=4))
        text = "{" + ",".join(f"{blank}{written(name, draw)}{blank}:{value}" for name, value in members) + blank + "}"
    return blank + text + blank


def has_repeated_name(text: str) -> bool:
    """Returns True if a name occurs twice, by the standard library, which shows every pair."""
    repeated = []

    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in members]
        repeated.extend(name for name in names if names.count(name) > 1)
        return dict(members)

    json.loads(text, object_pairs_hook=pairs)
    return bool(repeated)


@given(json_texts())
@example('{"a": 1, "a": 2}')
@example('{"a": {"b": ":::", "b": 1}}')
@example('{"\\u0061": 1, "a": 2}')
@example('{"a": "\\\\u003a:", "b\\u003A": "\\\\\\u003a"}')
def test_a_text_is_refused_exactly_if_a_name_stands_twice_in_one_of_its_objects(text: str) -> None:
    if has_repeated_name(text):
        with pytest.raises(InvalidJson, match="more than once"):
            loads(text)
    else:
        assert loads(text.encode()) == orjson.loads(text)


@given(st.lists(json_texts(2), max_size=5), st.sampled_from(("", " ", "\n")))
def test_of_a_list_each_item_with_a_repeated_name_is_refused_and_the_others_are_read(
    items: list[str], blank: str
) -> None:
    found = loads_each(f"{blank}[{blank}{','.join(items)}{blank}]{blank}")
    assert len(found) == len(items)
    for text, value in zip(items, found, strict=True):
        assert isinstance(value, InvalidJson) if has_repeated_name(text) else value == orjson.loads(text)
    written = texts_of(f"{blank}[{blank}{f'{blank},{blank}'.join(items)}{blank}]{blank}".encode())
    assert written == [text.strip(" \n\t").encode() for text in items], "each as it is written"


@given(st.binary(max_size=30))
def test_any_bytes_are_json_or_invalid_json(text: bytes) -> None:
    with suppress(InvalidJson):
        assert loads(text) == orjson.loads(text.removeprefix(b"\xef\xbb\xbf"))


def test_a_repeated_name_is_named() -> None:
    with pytest.raises(InvalidJson) as caught:
        loads(b'{"data": {"credits": "1", "credits": "1000"}}')
    assert (caught.value.code, caught.value.field) == ("invalid_json", "credits")
    assert caught.value.message == (
        'the name "credits" is given more than once in one object; only one of its values could be recorded'
    )
    assert (caught.value.expected, caught.value.found) == ("each name once in an object", "the same name again")


@pytest.mark.parametrize("read", [loads, loads_each])
def test_a_byte_order_mark_before_the_text_is_skipped(read: Any) -> None:
    assert read(b'\xef\xbb\xbf{"a": 1}') == read('\ufeff{"a": 1}') == {"a": 1}
    with pytest.raises(InvalidJson):
        read(b' \xef\xbb\xbf{"a": 1}')


@pytest.mark.parametrize("kind", ["[]", "{}"])
def test_nesting_has_a_bound(kind: str) -> None:
    inner = '{"a":' if kind == "{}" else "["

    def nested(depth: int) -> str:
        return inner * (depth - 1) + kind + kind[1] * (depth - 1)

    assert loads(nested(MAX_DEPTH)) is not None
    for depth in (MAX_DEPTH + 1, 1024, 1025, 100_000):
        with pytest.raises(InvalidJson) as caught:
            loads(nested(depth))
        assert caught.value.message == "the JSON is nested too deep"
        assert caught.value.expected == "at most 254 objects and lists within each other"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            b'{"a": "caf\xe9"}',
            "the text is not UTF-8: line 1 column 11 has the byte 0xe9; it may be Latin-1 or Windows-1252",
        ),
        (
            '{"é":\n "é'.encode() + b'\xff"}',
            "the text is not UTF-8: line 2 column 4 has the byte 0xff; it may be Latin-1 or Windows-1252",
        ),
        ('{"a": 1}'.encode("utf-16"), "the text is UTF-16, not UTF-8"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number is too large: line 1 column 7"),
        (b'{"a": 1e400}', "a number is too large: line 1 column 7"),
        (b'{"a":\n1,}', "not JSON: trailing comma is not allowed: line 2 column 2"),
    ],
)
def test_what_is_no_json_says_where(text: bytes, message: str) -> None:
    with pytest.raises(InvalidJson) as caught:
        loads(text)
    assert caught.value.message == message
    with pytest.raises(InvalidJson) as caught:
        loads(text, line=41)
    places = message.replace("line 2", "line 42").replace("line 1", "line 41")
    assert caught.value.message == places, "the line of the file, where the text is a line of one"


def test_a_repeated_name_beside_numbers_of_any_length_is_found() -> None:
    with pytest.raises(InvalidJson, match="more than once"):
        loads('{"a": 1, "a": ' + "9" * 300 + "}")
