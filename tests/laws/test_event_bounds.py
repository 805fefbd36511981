"""Every part of an event has a limit. Beyond it the event is refused with a code, a field and the expected value."""

from __future__ import annotations

from functools import partial
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from subledger.deciding.new_bounds import (
    MAX_ATTRIBUTE_NAME,
    MAX_ATTRIBUTES,
    MAX_ATTRIBUTES_TEXT,
    MAX_SCOPE_TEXT,
    check_new_bounds,
)
from subledger.errors import InvalidEvent, InvalidInput, InvalidValue
from subledger.events.data import EVENT_TYPES, LEDGER_WIDE
from subledger.events.envelope import Event, fields_of, read_event
from subledger.events.fields import MAX_ID, MAX_NAME, MAX_REASON, MAX_SCOPE
from subledger.ledger import LedgerState
from tests.building import cloud_event, purchase

NOON = "2026-01-15T12:00:00Z"


def check(event: Event) -> None:
    check_new_bounds(event, LedgerState(ledger="L", functional_currency="USD", policy=1))


def usage(**attributes: Any) -> dict[str, Any]:
    return {**cloud_event("e", "credits.consumed", "ann", NOON, credits="1"), **attributes}


buy = partial(purchase, "B", event_id="e", time=NOON, credits="1", price="1.00")


def refused(document: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        check(read_event(document))
    error = caught.value
    assert error.code
    assert error.field
    assert error.expected
    assert error.found
    orjson.dumps(error.as_document())
    return error


# --- extension attributes -------------------------------------------------------------------------------------


def test_an_attribute_that_is_kept_for_ever_cannot_be_of_any_size() -> None:
    error = refused(usage(note="x" * 30_000_000))
    assert isinstance(error, InvalidEvent)
    assert (error.field, error.expected) == ("note", "at most 65536 bytes")


def test_the_attributes_of_an_event_have_a_bound_together_as_they_are_kept() -> None:
    overhead = len('{"a":"","b":""}')
    most = MAX_ATTRIBUTES_TEXT - overhead
    event = read_event(usage(a="x" * 1000, b="y" * (most - 1000)))
    check(event)
    assert event.attributes_text is not None
    assert len(event.attributes_text) == MAX_ATTRIBUTES_TEXT
    assert refused(usage(a="x" * 1000, b="y" * (most - 999))).field == "b"
    assert refused(usage(a="é" * (most // 2 + 1), b="")).field == "a", "bytes, not characters"


def test_an_event_has_so_many_attributes_at_most() -> None:
    names = [f"a{number}" for number in range(MAX_ATTRIBUTES + 1)]
    check(read_event({**usage(**dict.fromkeys(names[1:], "x")), "time": "2026-01-15T13:00:00+01:00"}))
    error = refused(usage(**dict.fromkeys(names, "x")))
    assert (error.field in names, error.expected, error.found) == (True, "at most 64 attributes", "65")


@pytest.mark.parametrize("name", ["a", "traceparent", "0", "a" * MAX_ATTRIBUTE_NAME])
def test_an_attribute_is_named_as_cloudevents_say(name: str) -> None:
    event = read_event(usage(**{name: "x"}))
    check(event)
    assert event.attributes_text == f'{{"{name}":"x"}}'


@pytest.mark.parametrize("name", ["", "A", "trace_parent", "trace-parent", "é", "a\0", "\ud800", "a b", "a" * 65])
def test_other_names_of_attributes_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check(read_event(usage(**{name: "x"})))
    bound = "1 to 64 lower-case letters and digits"
    assert caught.value.expected == ("Unicode without surrogates" if name == "\ud800" else bound)
    orjson.dumps(caught.value.as_document())


def test_a_field_that_is_not_in_its_place_is_told_where_it_belongs() -> None:
    assert refused(usage(block_id="B")).message == (
        "block_id is not the name of a CloudEvents attribute; block_id is a field of data"
    )
    assert refused(usage(Subject="ann")).message == (
        "Subject is not the name of a CloudEvents attribute; did you mean subject?"
    )


@pytest.mark.parametrize("value", ["a\0b", "\ud800", 2**31, -(2**31) - 1, 10**30, 1.5, ["x"], {"x": 1}])
def test_what_is_no_value_of_an_attribute_is_refused(value: Any) -> None:
    assert refused(usage(note=value)).field == "note"


@pytest.mark.parametrize("value", ["", "two\nlines", "\u202e", 2**31 - 1, -(2**31), True, None])
def test_other_values_of_attributes_are_kept(value: Any) -> None:
    event = read_event(usage(note=value))
    check(event)
    assert orjson.loads(event.attributes_text or "") == {"note": value}


# --- ids, names, reasons, scopes ------------------------------------------------------------------------------


ID_FIELDS = [
    (type, field, schema)
    for type, model in EVENT_TYPES.items()
    for field, schema in fields_of(model).items()
    if schema.get("type") == "string" and "maxLength" in schema
]


@pytest.mark.parametrize(
    ("type", "field", "schema"), [pytest.param(*row, id=f"{row[0]}-{row[1]}") for row in ID_FIELDS]
)
def test_the_longest_text_of_every_field_is_taken_and_a_longer_one_is_refused(
    type: str, field: str, schema: dict[str, Any]
) -> None:
    most = schema["maxLength"]
    grouped_by = field in ("product", "unit", "pool", "processor", "escheat_class", "rate_source")
    assert most == (MAX_REASON if field in ("reason", "evidence") else MAX_NAME if grouped_by else MAX_ID)
    model = EVENT_TYPES[type]
    validator, data = model.__pydantic_validator__, model.model_construct()
    validator.validate_assignment(data, field, "x" * most)
    with pytest.raises(ValidationError):
        validator.validate_assignment(data, field, "x" * (most + 1))


@pytest.mark.parametrize(("field", "example"), [("id", "evt-1001"), ("source", "billing"), ("subject", "cust-42")])
def test_an_id_of_255_characters_is_taken_and_a_longer_one_is_refused(field: str, example: str) -> None:
    assert read_event(usage(**{field: "é" * 255}))
    error = refused(usage(**{field: "x" * 256}))
    assert isinstance(error, InvalidValue)
    assert error.message == (
        f"{field} must be a string of 1 to 255 characters without control characters, such as {example}"
    )
    assert (error.field, error.found) == (field, "256 characters")


def test_a_scope_has_so_many_products_and_so_much_text_at_most() -> None:
    check(read_event(buy(scope=["p"] * MAX_SCOPE)))
    assert refused(buy(scope=["p"] * (MAX_SCOPE + 1))).found == "a list of 101"
    assert refused(buy(scope=[])).message == (
        "data.scope must be a list of 1 to 100 items, each a string of 1 to 200 characters without control characters, "
        "such as api"
    )
    check(read_event(buy(scope=["p" * 128] * (MAX_SCOPE_TEXT // 128))))
    error = refused(buy(scope=["p" * 128] * (MAX_SCOPE_TEXT // 128) + ["q"]))
    assert (error.field, error.expected, error.found) == (
        "data.scope",
        "at most 8192 characters together",
        "8193 characters",
    )
    grant = {"block_id": "B", "credits": "1", "reason": "promotional", "scope": ["p" * 200] * 100}
    assert refused(cloud_event("g", "credits.granted", "ann", NOON, **grant)).field == "data.scope"


def test_the_largest_event_has_at_most_256_kib() -> None:
    """The limits of all fields together limit the event, so a new field must have a limit too."""
    widest = "\U0001f600"
    for type, model in EVENT_TYPES.items():
        size = 0
        for field, schema in fields_of(model).items():
            if schema.get("type") == "array":
                size += MAX_SCOPE_TEXT * len(widest.encode()) + 4 * MAX_SCOPE
            elif schema.get("type") == "object":
                size += schema["maxProperties"] * (schema["additionalProperties"]["maxLength"] * 6 + 40 + 6)
            elif "maxLength" in schema:
                # A reason may contain control characters, which JSON writes as six characters. Other texts contain at
                # most quotes, which it writes as two.
                size += schema["maxLength"] * 6
            else:
                assert (
                    "pattern" in schema
                    or "enum" in schema
                    or "format" in schema
                    or field.endswith("currency")
                    or field in ("base", "quote", "priority", "refundable", "cancellable", "tax_relief")
                ), field
                size += 64
            size += len(field) + 6
        envelope = 4 * MAX_ID * 6 + 200
        assert size + envelope + MAX_ATTRIBUTES_TEXT <= 256 * 1024, type


# --- text that cannot be stored -------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["\0", "a\0b", "\ud800", "a\udfffb"])
@pytest.mark.parametrize("field", ["id", "source", "type", "subject", "time", "specversion", "datacontenttype"])
def test_nul_and_half_a_surrogate_pair_anywhere_in_the_envelope_are_clean_errors(field: str, bad: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_event(usage(**{field: bad}))
    orjson.dumps(caught.value.as_document())
    assert "\0" not in str(caught.value.as_document())


@pytest.mark.parametrize("bad", ["\0", "a\0b", "\ud800", "a\udfffb"])
@pytest.mark.parametrize("type", sorted(EVENT_TYPES))
def test_nul_and_half_a_surrogate_pair_in_any_name_or_value_of_the_data_are_clean_errors(type: str, bad: str) -> None:
    customer = "-" if type in LEDGER_WIDE else "ann"
    for data in (
        {bad: "x"},
        *({field: bad} for field in EVENT_TYPES[type].model_fields),
        *({field: [bad]} for field in EVENT_TYPES[type].model_fields),
        *({field: {bad: bad}} for field in EVENT_TYPES[type].model_fields),
    ):
        with pytest.raises(InvalidInput) as caught:
            read_event(cloud_event("e", type, customer, NOON, **data))
        document = caught.value.as_document()
        orjson.dumps(document)
        assert "\0" not in str(document)


def test_a_reason_with_half_a_surrogate_pair_is_refused() -> None:
    error = refused(cloud_event("e", "purchase.voided", "ann", NOON, block_id="B", reason="a\ud800"))
    assert (error.code, error.field) == ("invalid_value", "data.reason")


@given(st.integers(min_value=2**63), st.sampled_from(("priority", "credits", "expires_at", "scope", "refundable")))
def test_integers_beyond_any_machines_are_clean_errors(number: int, field: str) -> None:
    for value in (number, -number, [number]):
        error = refused(buy(**{field: value}))
        assert error.field.startswith(f"data.{field}")  # type: ignore[union-attr]  # a refusal of this kind has a field


@pytest.mark.parametrize("digits", [5_000, 100_000])
@pytest.mark.parametrize("field", ["priority", "credits", "more"])
def test_more_digits_than_python_reads_are_a_clean_error(field: str, digits: int) -> None:
    huge = 10**digits  # as a number in a document that did not pass our JSON reader
    assert refused(buy(**{field: huge})).field == f"data.{field}"
    assert refused(buy(**{field: "9" * digits})).field == f"data.{field}"
    assert refused(usage(note=huge)).field == "note"


def test_a_million_unknown_fields_are_one_finding_of_a_hundred() -> None:
    error = refused(buy(**{f"x{number}": 1 for number in range(100_000)}))
    assert error.code == "unknown_field"
    assert len(error.facts["unknown"]) <= 100
