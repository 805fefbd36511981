"""A file of events is read line by line. A file of another kind is refused as a whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.cli.event_files import BATCH, MAX_LINE, EventLines, Refusals
from subledger.errors import InvalidInput, InvalidJson, MissingField, UnknownField
from subledger.events.envelope import Event
from tests.building import cloud_event

BOM = b"\xef\xbb\xbf"
USE = cloud_event("u", "credits.consumed", "ann", "2026-01-15T12:00:00Z", credits="1")
LINE = json.dumps(USE).encode() + b"\n"
PRETTY = json.dumps(USE, indent=2).encode()


def read(text: bytes) -> EventLines:
    return EventLines(text.splitlines(keepends=True), "events.jsonl")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"id,time,customer\n1,2026-01-01,ann\n", "CSV"),
        (BOM + b"id;time\n1;2026-01-01\n", "CSV"),
        (b'"id","time"\n"1","2026-01-01"\n', "CSV"),
        (b"id\ttime\n1\t2026\n", "a table with columns"),
        (PRETTY, "JSON with one document on several lines"),
        (BOM + b"\n\n" + PRETTY, "JSON with one document on several lines"),
        (b"[" + LINE.strip() + b"]", "a JSON array"),
        (b"[\n" + LINE + b"]\n", "a JSON array"),
        (b"[]", "a JSON array"),
        (json.dumps(USE).encode("utf-16"), "UTF-16 text"),
    ],
)
def test_a_file_of_another_kind_is_refused_as_a_whole_saying_what_it_is(text: bytes, kind: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(text)
    assert type(caught.value) is InvalidInput
    assert (caught.value.message, caught.value.field, caught.value.found) == (
        f"events.jsonl is {kind}: nothing was recorded",
        "FILE",
        kind,
    )
    assert caught.value.expected is not None
    assert caught.value.expected.startswith("JSON Lines: one CloudEvent on each line")


def test_a_file_that_can_be_turned_into_events_says_how() -> None:
    with pytest.raises(InvalidInput) as caught:
        EventLines([b"[{}]"], "my events.json")
    assert caught.value.expected == (
        "JSON Lines: one CloudEvent on each line; jq -c '.[]' 'my events.json' > events.jsonl makes one of it"
    )
    with pytest.raises(InvalidInput, match="standard input is a JSON array") as caught:
        EventLines([b"[{}]"], "-")
    assert caught.value.expected == "JSON Lines: one CloudEvent on each line"


@pytest.mark.parametrize("first", [b"# a comment\n", b"id,time\n", b"[1]\n", b"{\n", b'{"a": \n', b"\xff\n"])
def test_a_bad_line_before_events_is_that_line_alone(first: bytes) -> None:
    lines = read(first + LINE * 3)
    assert [isinstance(found, Event) for found in lines.inputs] == [False, True, True, True]


@given(st.binary(max_size=60), st.integers(0, 3))
def test_any_file_is_events_and_refusals_or_refused(text: bytes, blank: int) -> None:
    try:
        lines = read(b"\n" * blank + text)
    except InvalidInput:
        return
    assert len(lines.inputs) == len(lines.event_lines)
    assert all(isinstance(found, Event | InvalidInput) for found in lines.inputs)


def test_a_byte_order_mark_before_the_first_event_is_skipped() -> None:
    lines = read(BOM + LINE + LINE)
    assert all(isinstance(found, Event) for found in lines.inputs)


def test_every_line_is_read_once_whatever_the_batches() -> None:
    count = BATCH + 7
    lines, numbers = read(b"\n" + LINE * count), []
    while lines.batch:
        numbers += [number for number, _ in lines.event_lines]
        lines.read_on()
    assert numbers == list(range(2, count + 2))


def test_a_fault_names_the_line_of_the_file() -> None:
    lines = read(LINE + b'{"id": "caf\xe9"}\n' + LINE.replace(b'"1"', b'"1", "credits": "2"'))
    _, latin, repeated = lines.inputs
    assert isinstance(latin, InvalidJson)
    assert isinstance(repeated, InvalidJson)
    assert latin.message.startswith("the text is not UTF-8: line 2 column 12 has the byte 0xe9")
    assert repeated.message.startswith('the name "credits" is given more than once')


def test_a_line_too_long_for_an_event_is_not_even_parsed() -> None:
    _, long = read(LINE + b'{"a": "' + b"x" * MAX_LINE + b'"}\n').inputs
    assert isinstance(long, InvalidInput)
    assert (long.message, long.expected) == ("line 2 is too long for an event", "at most 1048576 bytes")


def test_refusals_are_counted_by_code_with_the_first_reason() -> None:
    refusals = Refusals()
    assert refusals.summary() == []
    for number, error in enumerate(
        (MissingField("no price"), UnknownField("colour?"), UnknownField("shape?"), MissingField("no id")), start=4
    ):
        refusals.add(number, error)
    refusals.add(9, UnknownField("size?"))
    assert refusals.summary() == [
        "       3 unknown_field, such as line 5: colour?",
        "       2 missing_field, such as line 4: no price",
    ]
