"""Reading events: anything at all is an event or a clear refusal, and canonical text is RFC 8785."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from subledger.errors import InvalidInput
from subledger.events import (
    EVENT_TYPES,
    NOT_YET_TYPES,
    RESERVED_TYPES,
    EventData,
    differences,
    format_time,
    loads,
    parse_time,
    read_event,
)  # fmt: skip
from tests.conftest import cloud_event

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=[chr(n) for n in range(32)] + ["\x7f"]),
    min_size=1, max_size=30,
)  # fmt: skip
FIELDS = sorted({name for model in EVENT_TYPES.values() for name in model.model_fields})
ENVELOPE = ("specversion", "id", "source", "type", "subject", "time", "data", "datacontenttype", "traceparent")


@given(JSON)
def test_any_json_is_an_event_or_a_clear_refusal(document: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_event(document)
    assert refused.value.as_document()["code"] != "error"


@given(
    type=st.sampled_from([*EVENT_TYPES, *RESERVED_TYPES, *sorted(NOT_YET_TYPES), "nonsense"]),
    data=st.dictionaries(st.sampled_from(FIELDS), JSON | st.sampled_from(["1", "USD", "2026-01-01T00:00:00Z", "x"])),
    envelope=st.dictionaries(st.sampled_from(ENVELOPE), JSON),
)
def test_a_mangled_event_is_an_event_or_a_clear_refusal(type: str, data: Any, envelope: Any) -> None:
    document = {**cloud_event("e", type, "c", "2026-01-15T10:00:00Z"), "data": data, **envelope}
    with suppress(InvalidInput):  # anything else it raises fails the test
        assert read_event(document).type in EVENT_TYPES


@given(block_id=TEXT, scope=st.lists(TEXT, min_size=1, max_size=3), priority=st.integers(0, 1000))
def test_the_canonical_text_of_data_is_rfc_8785(block_id: str, scope: list[str], priority: int) -> None:
    data = {
        "block_id": block_id, "credits": "10", "price": "1.00", "currency": "USD", "scope": scope,
        "priority": priority, "refundable": False,
    }  # fmt: skip
    event = read_event(cloud_event("e", "credits.purchased", "c", "2026-01-15T10:00:00Z", **data))
    assert event.data_text.encode() == rfc8785.dumps(data)
    assert loads(event.data_text) == data


def test_what_the_envelope_says_besides_is_kept() -> None:
    document = cloud_event("e", "credits.consumed", "c", "2026-01-15T11:00:00.1234567+01:00", credits="1")
    event = read_event({**document, "traceparent": "00-abc", "datacontenttype": "application/json"})
    assert event.attributes_text == (
        '{"datacontenttype":"application/json","time":"2026-01-15T11:00:00.1234567+01:00","traceparent":"00-abc"}'
    )
    assert format_time(event.occurred_at) == "2026-01-15T10:00:00.123456Z"
    assert (
        read_event(cloud_event("e", "credits.consumed", "c", "2026-01-15T10:00:00Z", credits="1")).attributes_text
        is None
    )


BUY: dict[str, Any] = {"block_id": "b", "credits": "10", "price": "1.00", "currency": "USD"}


def _buy(**changes: Any) -> dict[str, Any]:
    return cloud_event("e", "credits.purchased", "c", "2026-01-15T10:00:00Z", **{**BUY, **changes})


GALLERY: list[tuple[str, str | None, Any]] = [
    ("invalid_event", None, []),
    ("invalid_event", "data_base64", {**_buy(), "data_base64": "eA=="}),
    ("invalid_event", "datacontenttype", {**_buy(), "datacontenttype": "text/xml"}),
    ("invalid_event", "extra", {**_buy(), "extra": {"an": "object"}}),
    ("missing_field", "specversion", {k: v for k, v in _buy().items() if k != "specversion"}),
    ("missing_field", "time", {k: v for k, v in _buy().items() if k != "time"}),
    ("missing_field", "subject", {k: v for k, v in _buy().items() if k != "subject"}),
    ("missing_field", "subject", {**_buy(), "subject": "-"}),
    ("missing_field", "data.price", {**_buy(), "data": {k: v for k, v in BUY.items() if k != "price"}}),
    ("missing_field", "data.value", cloud_event("e", "credits.granted", "c", "2026-01-15T10:00:00Z",
                                                block_id="b", credits="1", reason="goodwill")),
    ("missing_field", "data.currency", cloud_event("e", "credits.consumed", "c", "2026-01-15T10:00:00Z",
                                                   credits="1", overage_price="0.1")),
    ("invalid_value", "specversion", {**_buy(), "specversion": "0.3"}),
    ("naive_time", "time", {**_buy(), "time": "2026-01-15T10:00:00"}),
    ("invalid_value", "time", {**_buy(), "time": "yesterday"}),
    ("invalid_value", "time", {**_buy(), "time": "2026-02-30T10:00:00Z"}),
    ("invalid_value", "time", {**_buy(), "time": "0001-01-01T00:00:00Z"}),
    ("wrong_type", "id", {**_buy(), "id": 7}),
    ("invalid_value", "id", {**_buy(), "id": ""}),
    ("unknown_event_type", "type", {**_buy(), "type": "credits.minted"}),
    ("not_supported_yet", "type", {**_buy(), "type": "credits.refunded"}),
    ("not_supported_yet", "data.pool", _buy(pool="p")),
    ("reserved_event_type", "type", {**_buy(), "type": "period.closed"}),
    ("unknown_field", "data.colour", _buy(colour="red")),
    ("wrong_type", "data.credits", _buy(credits=10)),
    ("wrong_type", "data.price", _buy(price=1.5)),
    ("wrong_type", "data.priority", _buy(priority="5")),
    ("wrong_type", "data.refundable", _buy(refundable="false")),
    ("wrong_type", "data.scope", _buy(scope="api")),
    ("invalid_value", "data.priority", _buy(priority=-1)),
    ("invalid_value", "data.credits", _buy(credits="0")),
    ("invalid_value", "data.credits", _buy(credits="1000000000000001")),
    ("invalid_value", "data.price", _buy(price="1e2")),
    ("invalid_value", "data.price", _buy(price="99999999999999999.00")),
    ("too_many_decimals", "data.price", _buy(price="1.001")),
    ("too_many_decimals", "data.price", _buy(price="1.5", currency="JPY")),
    ("too_many_decimals", "data.credits", _buy(credits="0.0000000001")),
    ("unknown_currency", "data.currency", _buy(currency="ZZZ")),
    ("invalid_value", "data.expires_at", _buy(starts_at="2026-03-01T00:00:00Z", expires_at="2026-02-01T00:00:00Z")),
    ("invalid_value", "data.tax", _buy(price="0.00", tax="1.00")),
    ("invalid_value", "data.block_id", _buy(block_id="a\u0000b")),
    ("invalid_value", "data.value", cloud_event("e", "credits.granted", "c", "2026-01-15T10:00:00Z", block_id="b",
                                                credits="1", reason="promotional", value="1.00", currency="USD")),
]  # fmt: skip


@pytest.mark.parametrize(("code", "field", "document"), GALLERY)
def test_each_fault_has_its_code_and_names_its_field(code: str, field: str | None, document: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_event(document)
    assert (refused.value.code, refused.value.field) == (code, field), refused.value.message
    assert refused.value.title


def test_the_same_instant_written_otherwise_is_the_same_content() -> None:
    first = read_event(_buy())
    second = read_event({**_buy(), "time": "2026-01-15T12:00:00+02:00"})
    stored = {"type": first.type, "customer": first.customer, "occurred_at": first.occurred_at}
    assert differences(second, **stored, data_text=first.data_text) == []
    other = read_event({**_buy(price="2.00"), "subject": "d"})
    assert differences(other, **stored, data_text=first.data_text) == ["subject", "data.price"]


def test_every_event_type_is_documented() -> None:
    for model in (*EVENT_TYPES.values(), *RESERVED_TYPES.values()):
        assert model.__doc__
        assert issubclass(model, EventData)
    assert not set(EVENT_TYPES) & (NOT_YET_TYPES | set(RESERVED_TYPES))
    assert parse_time("2026-01-15t10:00:00z").isoformat() == "2026-01-15T10:00:00+00:00"
