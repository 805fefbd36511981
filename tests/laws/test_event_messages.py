"""Errors of an event: plain English, all faults in one answer, each with the expected value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subledger import errors
from subledger.events.data import EVENT_TYPES, LEDGER_WIDE
from subledger.events.envelope import read_event
from subledger.events.fields import parse_time
from subledger.text.visible_text import visible_lines
from subledger.text.wording import json_type, nearest
from tests.building import cloud_event

NOON = "2026-01-15T12:00:00Z"


def fault(type: str = "credits.purchased", /, **data: Any) -> errors.InvalidInput:
    with pytest.raises(errors.InvalidInput) as caught:
        read_event(cloud_event("e", type, "-" if type in LEDGER_WIDE else "ann", NOON, **data))
    return caught.value


def bought(**changes: Any) -> dict[str, Any]:
    return {"block_id": "B", "credits": "10", "price": "5.00", "currency": "USD", **changes}


# --- all at once ----------------------------------------------------------------------------------------------


def test_all_missing_fields_are_named_in_one_error_and_the_first_is_its_field() -> None:
    error = fault(credits="10", colour="red", shape="round")
    assert (error.code, error.field) == ("missing_field", "data.block_id")
    assert error.message == "data.block_id, data.price, data.currency are missing"
    assert error.facts["missing"] == ["data.block_id", "data.price", "data.currency"]
    assert error.facts["unknown"] == ["data.colour", "data.shape"]
    assert error.expected == "a string of 1 to 255 characters without control characters, such as blk-7"
    assert fault("credits.escheated").message == "data.block_id is missing"


def test_missing_attributes_of_the_envelope_are_named_at_once() -> None:
    with pytest.raises(errors.MissingField) as caught:
        read_event({"specversion": "1.0", "type": "credits.consumed", "subject": "ann"})
    assert caught.value.facts["missing"] == ["id", "source", "time", "data"]
    assert caught.value.field == "id"


@given(st.data())
def test_whatever_is_reported_first_all_that_is_missing_is_in_the_facts(data: st.DataObject) -> None:
    type = data.draw(st.sampled_from(sorted(EVENT_TYPES)))
    required = [name for name, field in EVENT_TYPES[type].model_fields.items() if field.is_required()]
    wrong = data.draw(st.sets(st.sampled_from(required)))
    error = fault(type, **dict.fromkeys(wrong, 7), more=1)
    assert error.facts.get("missing", []) == [f"data.{name}" for name in required if name not in wrong]
    assert error.facts["unknown"] == ["data.more"]
    assert error.field == f"data.{required[0]}"
    assert error.code == ("wrong_type" if required[0] in wrong else "missing_field")


# --- unknown fields -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type", "name", "meant"),
    [
        ("credits.purchased", "expire_at", "expires_at"),
        ("credits.purchased", "expiresAt", "expires_at"),
        ("credits.purchased", "invoice", "invoice_id"),
        ("credits.purchased", "Priority", "priority"),
        ("credits.consumed", "overageprice", "overage_price"),
        ("payment.received", "paymentId", "payment_id"),
        ("credits.transferred", "to_costumer", "to_customer"),
    ],
)
def test_a_misspelt_field_is_told_the_nearest_and_all_that_there_are(type: str, name: str, meant: str) -> None:
    fields = EVENT_TYPES[type].model_fields
    values = {"reason": "r", "currency": "USD"}
    good = {field: values.get(field, "1") for field, info in fields.items() if info.is_required()}
    error = fault(type, **{**good, name: "1"})
    assert error.code == "unknown_field"
    assert error.message == f"data.{name} is not a field of this event type; did you mean {meant}?"
    assert error.expected == f"one of {', '.join(fields)}"
    assert error.facts["allowed"] == list(fields)
    assert (error.field, error.found) == (f"data.{name}", name)


def test_a_field_that_is_near_none_is_told_all_that_there_are() -> None:
    error = fault("credits.escheated", block_id="B", colour="red")
    assert error.message == "data.colour is not a field of this event type"
    assert error.expected == "one of block_id"


@given(st.text(max_size=300), st.lists(st.text(min_size=1, max_size=20)))
def test_the_nearest_name_is_one_that_is_known(name: str, known: list[str]) -> None:
    found = nearest(name, known)
    assert found is None or found in known


# --- wrong types and values -----------------------------------------------------------------------------------

AN_ID = "a string of 1 to 255 characters without control characters, such as blk-7"
MESSAGES: list[tuple[dict[str, Any], str, str, str]] = [
    (bought(block_id=7), f"data.block_id must be {AN_ID}; a JSON number is not", AN_ID, "number"),
    (bought(block_id=None), f"data.block_id must be {AN_ID}; a JSON null is not", AN_ID, "null"),
    (bought(priority="50"), "data.priority must be a whole number from 0 to 1000; a JSON string is not",
     "a whole number from 0 to 1000", "string"),
    (bought(priority=2000), "data.priority must be a whole number from 0 to 1000",
     "a whole number from 0 to 1000", "2000"),
    (bought(refundable="no"), "data.refundable must be true or false; a JSON string is not", "true or false", "string"),
    (bought(scope="api"), "data.scope must be a list of 1 to 100 items, each a string of 1 to 200 characters without "
     "control characters, such as api; a JSON string is not", "a list of 1 to 100 items, each a string of 1 to 200 "
     "characters without control characters, such as api", "string"),
    (bought(scope=[7]), "data.scope.0 must be a string of 1 to 200 characters without control characters, such as api; "
     "a JSON number is not", "a string of 1 to 200 characters without control characters, such as api", "number"),
    (bought(price=5.0), 'data.price must be a string such as "10.50"; a JSON number would lose digits',
     'a decimal in a string, such as "10.50"', "number"),
    (bought(credits=True), 'data.credits must be a string such as "10.50"; a JSON number would lose digits',
     'a decimal in a string, such as "10.50"', "boolean"),
    (bought(credits="1e5"), "data.credits is not a plain non-negative decimal",
     "digits with an optional point, such as 10.50", "1e5"),
    (bought(currency="usd"), "data.currency: 'usd' is not a currency code of ISO 4217",
     "a code such as USD, EUR or JPY", "usd"),
    (bought(expires_at=0), "data.expires_at must be a string; an expires_at that is null or absent means never",
     "an RFC 3339 time", "number"),
    (bought(expires_at="soon"), "data.expires_at is not a time; an expires_at that is null or absent means never",
     "RFC 3339 between 1900 and 8999, such as 2026-01-15T10:00:00Z", "soon"),
    (bought(expires_at="9999-12-31T23:59:59Z"), "data.expires_at is out of range: a time lies between 1900-01-02 and "
     "8999-12-30; an expires_at that is null or absent means never",
     "RFC 3339 between 1900 and 8999, such as 2026-01-15T10:00:00Z", "9999-12-31T23:59:59Z"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message", "expected", "found"), MESSAGES)
def test_a_wrong_value_is_told_what_is_right_in_plain_english(
    data: dict[str, Any], message: str, expected: str, found: str
) -> None:
    error = fault(**data)
    assert (error.message, error.expected, error.found) == (message, expected, found)


def test_a_choice_is_told_what_there_is_to_choose() -> None:
    error = fault("credits.granted", block_id="B", credits="1", reason="birthday")
    assert error.message == "data.reason must be one of promotional, goodwill, allocation"
    assert (error.expected, error.found) == ("one of promotional, goodwill, allocation", "birthday")
    with pytest.raises(errors.InvalidValue, match=r'specversion must be "1\.0"'):
        read_event({**cloud_event("e", "credits.consumed", "ann", NOON, credits="1"), "specversion": "0.3"})


def test_a_rate_is_called_a_rate() -> None:
    error = fault("exchange_rate.set", base="EUR", quote="USD", rate="1e-5", rate_source="ecb")
    assert error.message == "data.rate is not a plain non-negative decimal"
    error = fault("breakage.estimated", pool="p", currency="USD", evidence="e", expected_breakage_rate="5%")
    assert error.message == "data.expected_breakage_rate is not a plain non-negative decimal"


@pytest.mark.parametrize("type", sorted(EVENT_TYPES))
@pytest.mark.parametrize("value", [7, 1.5, True, None, "", "\0", [], {}, "x" * 5000, [7], {"a": 1}])
def test_no_message_is_in_the_words_of_a_library(type: str, value: Any) -> None:
    for field in EVENT_TYPES[type].model_fields:
        error = fault(type, **{field: value})
        text = f"{error.message} {error.expected}"
        for jargon in (
            "Input should",
            "valid",
            "pydantic",
            "dictionary",
            "instance",
            "NoneType",
            "regex",
            "this field",
        ):
            assert jargon not in text, text


@pytest.mark.parametrize("text", ["1900-01-02T00:00:00Z", "8999-12-30T00:00:00Z", "8999-12-30T13:59:59+14:00"])
def test_the_first_and_the_last_moment_are_times(text: str) -> None:
    assert parse_time(text)


@pytest.mark.parametrize(
    "text",
    ["1900-01-01T23:59:59Z", "8999-12-30T00:00:01Z", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00",
     "1900-01-02T00:00:00+00:01"],
)  # fmt: skip
def test_times_beyond_them_are_out_of_range_whatever_their_offset(text: str) -> None:
    with pytest.raises(errors.InvalidValue, match="out of range"):
        parse_time(text)


# --- words ----------------------------------------------------------------------------------------------------


@given(st.text(st.characters(), max_size=50))
def test_an_error_about_any_text_can_be_kept_and_sent_and_acts_on_no_terminal(text: str) -> None:
    error = errors.InvalidValue(text, field=text, expected=text, found=text)
    for said in (error.message, error.field, error.expected, error.found, str(error)):
        assert said is not None
        assert said.encode().decode() == said
        assert visible_lines(said) == said
    assert visible_lines(visible_lines(text)) == visible_lines(text)


@pytest.mark.parametrize(
    ("value", "name"),
    [(None, "null"), (True, "boolean"), (1, "number"), (1.5, "number"), ("", "string"), ([], "array"), ((), "array"),
     ({}, "object"), (b"", "bytes")],
)  # fmt: skip
def test_json_types_have_the_names_of_json(value: object, name: str) -> None:
    assert json_type(value) == name
