"""TOML of a caller: read as tomllib reads it, or refused. Its length limits the time and memory."""

from __future__ import annotations

import tomllib
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.errors import InvalidInput, InvalidPolicy
from subledger.posting import parse_policy
from subledger.text.toml_text import MAX_DOTS, MAX_TEXT, read_toml

# Each makes a text of about a given length that is expensive for a parser.
HOSTILE: dict[str, Callable[[int], str]] = {
    "a key of very many parts": lambda size: "a." * (size // 2) + "a=1",
    "keys of many parts": lambda size: "".join(f"k{n}{'.b' * MAX_DOTS}=1\n" for n in range(size // 110)),
    "a table of many parts, then keys": lambda size: (
        f"[{'a.' * MAX_DOTS}a]\n" + "".join(f"b{n}.c=1\n" for n in range(size // 9))
    ),
    "a number of very many digits": lambda size: "version=" + "1" * size,
    "a fraction of very many digits": lambda size: "a=1." + "1" * size,
    "nested lists": lambda size: "a=" + "[" * size,
    "nested tables": lambda size: "a={b=" * (size // 5),
    "keys of many parts in a table of one line": lambda size: "a={" + "b.c.d.e=1," * (size // 10),
    "a key of many parts behind what looks like a string": lambda size: f'a=[""" \' """,{{{"a." * size}a=1}},\' \']',
    "escapes": lambda size: 'a="' + "\\n" * (size // 2) + '"',
    "blank lines": lambda size: "\n" * size,
    "lists of tables": lambda size: "[[a]]\n" * (size // 6),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("size", [MAX_TEXT - 4_000, 300_000])
def test_a_hostile_text_takes_little_memory_and_fails_as_input(make: Callable[[int], str], size: int) -> None:
    text = make(size)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidPolicy):
            parse_policy(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 << 20


def test_dots_are_counted_line_by_line_and_the_text_has_a_bound() -> None:
    assert read_toml(f'a = "{"." * MAX_DOTS}"\nb = "."') == {"a": "." * MAX_DOTS, "b": "."}
    with pytest.raises(InvalidInput, match="line 2 has too many dots"):
        read_toml(f'a = 1\nb = "{"." * (MAX_DOTS + 1)}"')
    assert read_toml("#" * MAX_TEXT) == {}
    with pytest.raises(InvalidInput) as refused:
        read_toml("#" * (MAX_TEXT + 1))
    assert refused.value.expected == f"at most {MAX_TEXT} characters"
    assert read_toml("\ufeffa = 1") == {"a": 1}


@given(st.text(st.sampled_from("ab.=[]{}\"'#,\n 1-e\\\u00e9"), max_size=60))
def test_what_is_read_is_what_tomllib_reads(text: str) -> None:
    try:
        expected = tomllib.loads(text)
    except ValueError:
        with pytest.raises(InvalidInput):
            read_toml(text)
    else:
        assert str(read_toml(text)) == str(expected)
