"""Names of persons: two spellings of one name are never two persons."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger.errors import InvalidValue
from subledger.persons import NOBODY, is_somebody, person, same_person

NAMES = st.text(min_size=1, max_size=30)
SPELLINGS_OF_ALICE = [
    "alice", "Alice", "ALICE", "alice ", " alice", "\u00a0alice", "аlice", "alicе", "АLICE", "alice\u200b",
    "a\u2060lice", "\u202ealice", "alice\u0000", "aIice", "ａｌｉｃｅ", "𝐚𝐥𝐢𝐜𝐞", "alıce",
    "alice\ufe0f", "al\u034fice", "alice\u3164",
]  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS_OF_ALICE)
def test_no_spelling_of_a_name_is_a_second_person(spelling: str) -> None:
    assert same_person("alice", spelling)
    assert same_person(spelling, "alice")
    try:
        kept = person(spelling)
    except InvalidValue:
        return
    assert same_person("alice", kept)


@pytest.mark.parametrize(
    ("a", "b"),
    [("bob", "alice"), ("José", "Jose"), ("Ann Lee", "Ann Li"), ("王芳", "王方"), ("key-0123456789ab", "ann")],
)
def test_different_names_are_different_persons(a: str, b: str) -> None:
    assert not same_person(a, b)


@pytest.mark.parametrize(("a", "b"), [("сор", "cop"), ("Bernard", "Bemard"), ("Ian", "lan"), ("Οо", "OO")])
def test_names_that_look_alike_are_one_person_also_in_one_script_each(a: str, b: str) -> None:
    assert same_person(a, b)


@pytest.mark.parametrize(
    "name",
    ["", "  ", "x" * 101, "a\nb", "a\tb", "a\u202eb", "a\u2066b", "a\u200db", "\ud800", "\ue000", "аlice", "alιce"],
)
def test_what_is_no_name_is_refused_with_its_field(name: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        person(name, field="checker")
    assert caught.value.field == "checker"
    assert caught.value.found is not None
    assert caught.value.found.isascii()


@pytest.mark.parametrize(
    "name", ["Zoë O'Neill-Smith", "ci@build.example", "Łukasz", "山田 Taro", "김철수", "Ольга", "x" * 100]
)
def test_names_of_one_script_are_kept_as_they_are(name: str) -> None:
    assert person(name) == name


def test_a_name_is_composed_and_its_blanks_are_single() -> None:
    assert person("  Ann \u00a0 Lee ") == "Ann Lee"
    assert person("Jose\u0301") == "José"


@given(NAMES)
def test_a_name_is_one_person_with_itself_however_it_is_written(name: str) -> None:
    assert same_person(name, name)
    assert same_person(name, f" {name}\u200b ")
    assert same_person(name, unicodedata.normalize("NFD", name))


@given(NAMES)
def test_a_kept_name_is_kept_as_it_is_again(name: str) -> None:
    try:
        kept = person(name)
    except InvalidValue:
        return
    assert person(kept) == kept
    assert same_person(name, kept)
    assert same_person(kept, kept.upper())


@given(NAMES)
def test_nobody_is_never_a_second_person_nor_one_who_needs_one(name: str) -> None:
    assert same_person(NOBODY, name)
    assert same_person(name, NOBODY)


@pytest.mark.parametrize("name", ["nobody", "Nobody", "nоbody", "NOBODY ", "n0body", "nobody\u200b"])
def test_nobody_is_nobody_in_any_spelling(name: str) -> None:
    assert not is_somebody(name)


def test_two_keys_without_a_name_are_one_person_for_each_other() -> None:
    assert same_person("key-0123456789ab", "key-ba9876543210")
