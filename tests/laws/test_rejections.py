"""Refused events of any content can be read, and the file of refused lines can be sent again."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from functools import partial
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.rejecting import first_sent
from api.service import read_text
from subledger.errors import InvalidInput, InvalidJson
from subledger.events.envelope import Event
from subledger.events.rejections import LONGEST_NAME, MAX_SENT, as_first_sent, read_rejection, refused_line, text_of
from subledger.money import Money
from tests.building import cloud_event, usage

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(blacklist_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = st.sampled_from(("id", "source", "type", "subject", "time", "data", "specversion"))
ALMOST_EVENTS = st.dictionaries(MEMBERS, JSON_VALUES)
ALMOST_DATA = st.dictionaries(
    st.sampled_from(("credits", "add_credits", "price", "amount", "value", "currency", "unit", "product")),
    JSON_VALUES | st.sampled_from(("12.50", "USD", "usd", "JPY", "1e400", "NaN", "-7", " 3 ", "9" * 80)),
)
LINES = (
    st.binary(max_size=200)
    | JSON_VALUES.map(orjson.dumps)
    | ALMOST_EVENTS.map(orjson.dumps)
    | ALMOST_DATA.map(lambda data: orjson.dumps({"id": "a", "source": "b", "data": data}))
)
ERROR = InvalidJson("what was wrong", field="data.x")


use = partial(usage, "u1", time="2026-02-01T12:00:00Z")


@given(LINES)
def test_whatever_was_sent_becomes_a_rejection_that_a_database_can_hold(line: bytes) -> None:
    found = read_rejection(line)
    assert (found.sent, found.sent_bytes, found.whole) == (line, len(line), True)
    for text in (found.source, found.event_id, found.type, found.customer, found.unit):
        assert text is None or (0 < len(text) <= LONGEST_NAME and "\x00" not in text and text.encode())
    assert (found.source is None) == (found.event_id is None)
    assert (found.credits is None) == (found.unit is None)
    assert found.credits is None or found.credits.is_finite()


@given(LINES.map(lambda line: line.strip(b"\r\n")).filter(lambda line: line.strip() and b"\n" not in line))
def test_a_refused_line_can_be_sent_again_as_it_is(line: bytes) -> None:
    written = refused_line(7, line, ERROR)
    assert written.count(b"\n") == 1
    wrapper = json.loads(written)
    assert (wrapper["line"], wrapper["error"]["code"]) == (7, "invalid_json")
    again = first_sent(written)
    assert read_rejection(again).rejection_id == read_rejection(line).rejection_id, "it is the same rejection"
    # If it is refused again from the file of refused lines, it is written as it was sent first.
    assert read_rejection(first_sent(refused_line(1, again, ERROR))).rejection_id == read_rejection(line).rejection_id


def test_a_refused_event_that_is_sent_again_is_read_as_the_event_itself() -> None:
    line = json.dumps(use(credits="3")).encode()
    again = read_text(refused_line(4, line, ERROR))
    assert isinstance(again, Event)
    assert again == read_text(line)
    assert isinstance(read_text(refused_line(4, b"{broken", ERROR)), InvalidJson)


def test_an_event_is_no_refused_line_whatever_its_members_are_called() -> None:
    assert as_first_sent({"line": 1, "event": {}, "error": "text"}) is None
    assert as_first_sent({"line": 1, "event": {}, "error": {}, "specversion": "1.0"}) is None
    assert as_first_sent({"line": 1, "event_base64": "***", "error": {}}) is None
    assert as_first_sent([1]) is None
    assert as_first_sent(use(credits="1")) is None


@given(ALMOST_EVENTS, st.randoms())
def test_the_same_json_is_the_same_rejection_however_it_is_written(document: dict[str, Any], random: Any) -> None:
    names = list(document)
    random.shuffle(names)
    other = json.dumps({name: document[name] for name in names}, indent=random.choice((None, 1))).encode()
    first = read_rejection(text_of(document))
    assert orjson.loads(other) != orjson.loads(text_of(document)) or (
        read_rejection(other).rejection_id == first.rejection_id
    )


@pytest.mark.parametrize(
    ("data", "money", "credits", "unit"),
    [
        ({"credits": "2.5"}, None, Decimal("2.5"), "credit"),
        ({"credits": 400, "unit": "token"}, None, Decimal(400), "token"),
        ({"credits": "-1"}, None, Decimal(-1), "credit"),
        ({"credits": "much"}, None, None, None),
        ({"credits": True}, None, None, None),
        ({"credits": "1e999999999"}, None, None, None),
        ({"credits": "1e-999999999"}, None, None, None),
        ({"credits": "10", "price": "100.00", "currency": "USD"},
         Money(amount_minor=10_000, currency="USD"), Decimal(10), "credit"),
        ({"amount": 12.5, "currency": "usd"}, Money(amount_minor=1_250, currency="USD"), None, None),
        ({"amount": "-7", "currency": "JPY"}, Money(amount_minor=-7, currency="JPY"), None, None),
        ({"amount": "0.005", "currency": "KWD"}, Money(amount_minor=5, currency="KWD"), None, None),
        ({"amount": "1", "currency": "XXX"}, None, None, None),
        ({"amount": "1"}, None, None, None),
        ({"amount": "9" * 40, "currency": "USD"}, None, None, None),
    ],
)  # fmt: skip
def test_how_much_is_missing_is_read_though_the_event_is_faulty(
    data: dict[str, Any], money: Money | None, credits: Decimal | None, unit: str | None
) -> None:
    faulty = cloud_event("u1", "credits.consumed", "ann", "2026-02-01T12:00:00Z", **data)
    found = read_rejection(json.dumps(faulty).encode())
    assert (found.money, found.credits, found.unit) == (money, credits, unit)
    assert (found.source, found.event_id, found.customer) == ("billing", "u1", "ann")


def test_a_text_longer_than_is_kept_is_cut_with_its_length_and_the_hash_of_all_of_it() -> None:
    long = json.dumps(use(credits="1", product="x" * 1_000_000)).encode()
    found = read_rejection(long)
    assert (len(found.sent), found.sent_bytes, found.whole) == (MAX_SENT, len(long), False)
    assert found.event_id == "u1"
    assert found.content_hash != read_rejection(long.replace(b"xx", b"xy")).content_hash
    broken = b"{" * 1_000_000
    assert read_rejection(broken).content_hash == hashlib.sha256(b"text\x00" + broken).digest()


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b"[" * 900 + b"]" * 900,
        b'{"id": "\\ud800", "source": "s"}',
        b'{"id": "\\u0000", "source": "s", "subject": "a\\u0000"}',
        b"\xff\xfe\x00",
        b"\xef\xbb\xbf{}",
        b'{"a": 1, "a": 2}',
        b"[" * 254 + b"]" * 254,
        b'1, "error": {}',
        b'1}{"a": 1',
        b'{"id": ' + b"9" * 10_000 + b"}",
        b'{"time": "2026-13-45T00:00:00Z", "data": {"credits": "' + b"9" * 10_000 + b'"}}',
    ],
    ids=range(12),
)
def test_hostile_lines_are_read_and_written_as_any(line: bytes) -> None:
    found = read_rejection(line)
    assert found.event_id is None
    again = first_sent(refused_line(1, line, ERROR))
    assert read_rejection(again).content_hash == found.content_hash


def test_what_is_nested_too_deep_to_be_written_is_refused_all_the_same() -> None:
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    try:
        assert text_of(nested) == b"(nested too deep to be written)"
    finally:
        while nested:  # or freeing it would recurse as deep
            nested = nested.pop()
    with pytest.raises(InvalidInput):
        raise ERROR
