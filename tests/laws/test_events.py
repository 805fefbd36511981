"""Laws of reading an event: correct JSON is read and stored canonically; anything else is InvalidInput."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from datetime import timezone as fixed
from typing import Any

import orjson
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from subledger import errors
from subledger.events.data import EVENT_TYPES, LEDGER_WIDE
from subledger.events.envelope import differences, format_time, read_event, stored_event
from subledger.events.fields import parse_time
from subledger.events.own_data import RESERVED_TYPES
from subledger.text.json_text import loads
from tests.building import cloud_event

NOON = "2026-01-15T12:00:00Z"

# --- random events that are right -----------------------------------------------------------------------------

CHARACTERS = st.characters(exclude_categories=("Cs", "Cc"))
IDS = st.text(CHARACTERS, min_size=1, max_size=20)
REASONS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=40)
INT32 = st.integers(-(2**31), 2**31 - 1)
CREDITS = st.integers(1, 10**15).map(lambda number: f"{number // 1000 + 1}.{number % 1000:03d}")
MONEY = st.integers(1, 10**9).map(lambda cents: f"{cents // 100}.{cents % 100:02d}")
MOMENTS = st.datetimes(datetime(1950, 1, 1), datetime(2900, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive by contract


def timezone(hours: int) -> fixed:
    return fixed(timedelta(hours=hours))


TIMES = st.builds(
    lambda moment, hours, written: moment.astimezone(timezone(hours)).isoformat() if written else format_time(moment),
    MOMENTS,
    st.integers(-12, 14),
    st.booleans(),
)


def data_of(required: dict[str, Any], **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


LIFE: dict[str, st.SearchStrategy[Any]] = {
    "unit": IDS, "priority": st.integers(0, 1000), "scope": st.lists(IDS, min_size=1, max_size=4),
    "expires_at": st.one_of(st.none(), TIMES),
}  # fmt: skip
CURRENCY = st.sampled_from(("USD", "EUR", "KWD"))
DATA: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "credits.purchased": data_of(
        {"block_id": IDS, "credits": CREDITS, "price": MONEY, "currency": CURRENCY},
        **LIFE, tax=MONEY, bonus_credits=CREDITS, order_id=IDS, invoice_id=IDS, pool=IDS, escheat_class=IDS,
    ),
    "credits.granted": st.one_of(
        data_of({"block_id": IDS, "credits": CREDITS, "reason": st.just("promotional")}, **LIFE, currency=CURRENCY),
        data_of(
            {"block_id": IDS, "credits": CREDITS, "reason": st.sampled_from(("goodwill", "allocation")),
             "value": MONEY, "currency": CURRENCY}, **LIFE,
        ),
    ),
    "credits.consumed": data_of(
        {"credits": CREDITS}, unit=IDS, product=IDS, block_id=IDS, invoice_id=IDS, currency=CURRENCY,
        on_shortfall=st.sampled_from(("reject", "overage", "backfill")), reservation_id=IDS,
    ),
    "credits.reserved": data_of(
        {"reservation_id": IDS, "credits": CREDITS, "expires_at": TIMES}, unit=IDS, product=IDS
    ),
    "reservation.released": data_of({"reservation_id": IDS}),
    "credits.expired": data_of({"block_id": IDS}),
    "consumption.reversed": data_of({"event_id": IDS, "reason": REASONS}, event_source=IDS, credits=CREDITS),
    "event.reversed": data_of({"event_id": IDS, "reason": REASONS}, event_source=IDS),
    "purchase.voided": data_of({"block_id": IDS, "reason": REASONS}),
    "block.expiry_changed": data_of({"block_id": IDS, "expires_at": st.one_of(st.none(), TIMES), "reason": REASONS}),
    "payment.received": data_of(
        {"amount": MONEY, "currency": CURRENCY, "processor": IDS},
        block_id=IDS, invoice_id=IDS, fee=MONEY, payment_id=IDS, elsewhere=st.just("0.01"),
    ),
    "credits.refunded": data_of({"block_id": IDS, "currency": CURRENCY}, credits=CREDITS, amount=MONEY, reason=REASONS),
    "block.repriced": data_of({"block_id": IDS, "add_credits": CREDITS, "reason": REASONS}, add_price=MONEY),
    "credits.transferred": data_of({"block_id": IDS, "to_customer": IDS, "new_block_id": IDS}, credits=CREDITS),
    "payment.applied": data_of({"payment_id": IDS, "block_id": IDS, "amount": MONEY, "currency": CURRENCY}),
    "payout.settled": data_of({"amount": MONEY, "currency": CURRENCY, "processor": IDS, "payout_id": IDS}),
    "processor.adjusted": data_of(
        {"amount": MONEY, "currency": CURRENCY, "processor": IDS, "adjustment_id": IDS,
         "kind": st.sampled_from(("fee", "tax", "adjustment"))}
    ),
    "payment.refunded": data_of(
        {"amount": MONEY, "currency": CURRENCY}, block_id=IDS, payment_id=IDS, processor=IDS
    ),
    "dispute.opened": data_of({"dispute_id": IDS, "block_id": IDS, "currency": CURRENCY}, amount=MONEY, fee=MONEY),
    "dispute.won": data_of({"dispute_id": IDS, "currency": CURRENCY}, fee=MONEY),
    "dispute.lost": data_of({"dispute_id": IDS, "currency": CURRENCY}, payment_id=IDS, amount=MONEY, fee=MONEY),
    "receivable.written_off": data_of({"block_id": IDS, "reason": REASONS}, amount=MONEY, tax_relief=st.booleans()),
    "credit_memo.issued": data_of(
        {"amount": MONEY, "currency": CURRENCY, "reason": REASONS}, invoice_id=IDS, tax=MONEY
    ),
    "overage.billed": data_of({"invoice_id": IDS, "amount": MONEY, "currency": CURRENCY}, tax=MONEY),
    "breakage.estimated": data_of(
        {"pool": IDS, "expected_breakage_rate": st.just("0.1"), "currency": CURRENCY, "evidence": REASONS},
        expected_escheat=MONEY,
    ),
    "credits.escheated": data_of({"block_id": IDS}),
    "escheat.reclaimed": data_of({"block_id": IDS, "amount": MONEY, "currency": CURRENCY}),
    "escheat.remitted": data_of({"block_id": IDS, "amount": MONEY, "currency": CURRENCY}),
    "balance.opened": st.one_of(
        data_of(
            {"role": st.just("prepaid_liability"), "currency": CURRENCY, "block_id": IDS, "credits": CREDITS,
             "price": MONEY},
            **LIFE, used=st.just("0.5"), order_id=IDS, invoice_id=IDS, pool=IDS, escheat_class=IDS, processor=IDS,
        ),
        data_of(
            {"role": st.just("customer_balance"), "currency": CURRENCY, "amount": MONEY}, payment_id=IDS, processor=IDS,
        ),
        data_of(
            {"role": st.just("unbilled_receivable"), "currency": CURRENCY, "amount": MONEY, "credits": CREDITS},
            unit=IDS, product=IDS, on_shortfall=st.sampled_from(("overage", "backfill")),
        ),
    ),
    "exchange_rate.set": data_of({"base": st.just("EUR"), "quote": st.just("USD"), "rate": MONEY, "rate_source": IDS}),
}  # fmt: skip


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    type = draw(st.sampled_from(sorted(EVENT_TYPES)))
    customer = draw(IDS.filter(lambda text: text != "-"))
    document = cloud_event(draw(IDS), type, customer, draw(TIMES), source=draw(IDS))
    document["data"] = draw(DATA[type])
    if type in LEDGER_WIDE:
        document["subject"] = "-"
    if draw(st.booleans()):
        document["datacontenttype"] = draw(st.sampled_from(("application/json", "Application/JSON; charset=utf-8")))
    extensions = st.dictionaries(
        st.text("abcdefghij", min_size=3, max_size=6),
        st.one_of(REASONS, st.booleans(), st.integers(-(2**31), 2**31 - 1)),
    )
    return {**draw(extensions), **document}


def test_there_are_random_events_of_every_type() -> None:
    assert set(DATA) == set(EVENT_TYPES)


@given(documents())
def test_the_data_of_an_event_is_kept_in_canonical_json(document: dict[str, Any]) -> None:
    event = read_event(document)
    assert event.data_text.encode() == rfc8785.dumps(document["data"])
    assert (event.source, event.event_id, event.type) == (document["source"], document["id"], document["type"])
    assert event.customer == (None if event.type in LEDGER_WIDE else document["subject"])
    assert event.occurred_at == datetime.fromisoformat(document["time"])


@given(documents())
def test_an_event_comes_back_from_the_log_as_it_was_read(document: dict[str, Any]) -> None:
    event = read_event(document)
    again = stored_event(
        source=event.source,
        event_id=event.event_id,
        type=event.type,
        customer=event.customer,
        occurred_at=event.occurred_at,
        data_text=event.data_text,
        attributes_text=event.attributes_text,
    )
    assert again == event
    assert read_event(loads(orjson.dumps(document))) == event


@given(documents())
def test_nothing_of_the_envelope_is_lost(document: dict[str, Any]) -> None:
    event = read_event(document)
    others = {} if event.attributes_text is None else orjson.loads(event.attributes_text)
    rebuilt = {
        "specversion": "1.0",
        "id": event.event_id,
        "source": event.source,
        "type": event.type,
        "subject": event.customer or "-",
        "time": format_time(event.occurred_at),
        "data": orjson.loads(event.data_text),
        **others,
    }
    assert rebuilt == document


@given(document=documents(), seed=st.randoms(use_true_random=False))
def test_the_order_of_keys_and_the_offset_of_the_time_do_not_make_another_event(document: Any, seed: Any) -> None:
    event = read_event(document)
    keys = list(document["data"])
    seed.shuffle(keys)
    moment = datetime.fromisoformat(document["time"]).astimezone(timezone(seed.randint(-12, 12)))
    other = read_event({**document, "data": {key: document["data"][key] for key in keys}, "time": moment.isoformat()})
    told = {"type": event.type, "customer": event.customer, "occurred_at": event.occurred_at}
    assert differences(other, **told, data_text=event.data_text) == []


@given(document=documents(), other=documents())
def test_a_conflict_names_what_differs(document: dict[str, Any], other: dict[str, Any]) -> None:
    new, old = read_event(document), read_event(other)
    named = differences(new, type=old.type, customer=old.customer, occurred_at=old.occurred_at, data_text=old.data_text)
    assert ("type" in named) == (new.type != old.type)
    assert ("subject" in named) == (new.customer != old.customer)
    assert ("time" in named) == (new.occurred_at != old.occurred_at)
    absent = object()
    keys = {*document["data"], *other["data"]}
    expected = {k for k in keys if document["data"].get(k, absent) != other["data"].get(k, absent)}
    assert {name.removeprefix("data.") for name in named if name.startswith("data.")} == expected


# --- anything at all ------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
        st.sampled_from(("1.0", "1", "USD", NOON, "-")),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
ENVELOPE_KEYS = ("specversion", "id", "source", "type", "subject", "time", "data", "datacontenttype", "data_base64")


def read_or_refuse(document: object) -> None:
    """Reads a document. An error must be InvalidInput that can be written as a problem document."""
    refusal = None
    try:
        read_event(document)
    except errors.InvalidInput as error:
        refusal = error
    if refusal is not None:
        assert orjson.loads(orjson.dumps(refusal.as_document()))["detail"] == refusal.message
        assert refusal.code != "invalid_input", "every fault has a code of its own"


@given(JSON)
def test_any_json_at_all_is_read_or_is_invalid_input(document: Any) -> None:
    read_or_refuse(document)


@given(document=documents(), key=st.sampled_from(ENVELOPE_KEYS), value=JSON)
def test_an_event_with_one_attribute_replaced_by_anything_is_read_or_is_invalid_input(
    document: dict[str, Any], key: str, value: Any
) -> None:
    read_or_refuse({**document, key: value})


@given(document=documents(), data=st.data(), value=JSON)
def test_an_event_with_one_field_replaced_by_anything_is_read_or_is_invalid_input(
    document: dict[str, Any], data: st.DataObject, value: Any
) -> None:
    field = data.draw(st.sampled_from(sorted(EVENT_TYPES[document["type"]].model_fields)))
    read_or_refuse({**document, "data": {**document["data"], field: value}})


@given(document=documents(), data=st.data())
def test_an_event_without_one_of_its_required_fields_is_refused_by_name(
    document: dict[str, Any], data: st.DataObject
) -> None:
    required = [name for name, field in EVENT_TYPES[document["type"]].model_fields.items() if field.is_required()]
    field = data.draw(st.sampled_from(required))
    del document["data"][field]
    with pytest.raises(errors.MissingField) as caught:
        read_event(document)
    assert caught.value.field == f"data.{field}"


@pytest.mark.parametrize(
    "place", ["specversion", "id", "time", "data", "extension", "on_shortfall", "scope", "credits", "more"]
)
def test_json_as_deep_as_the_parser_takes_it_is_refused_like_any_other(place: str) -> None:
    deep = orjson.loads("[" * 1020 + "]" * 1020)
    document = cloud_event("e", "credits.consumed", "ann", NOON, credits="1")
    if place in document or place == "extension":
        document[place] = deep
    else:
        document["data"][place] = deep
    with pytest.raises(errors.InvalidInput):
        read_event(document)


# --- times ------------------------------------------------------------------------------------------------


@given(moment=MOMENTS, hours=st.integers(-12, 14))
def test_a_time_is_the_same_moment_at_every_offset(moment: datetime, hours: int) -> None:
    assert parse_time(moment.astimezone(timezone(hours)).isoformat()) == moment
    assert parse_time(format_time(moment)) == moment
    assert parse_time(format_time(moment).lower()) == moment


def test_digits_beyond_the_microsecond_do_not_count() -> None:
    assert parse_time("2026-01-15T12:00:00.123456999999Z") == parse_time("2026-01-15T12:00:00.123456Z")


@pytest.mark.parametrize(
    "text",
    [
        "", "2026-01-15", "2026-01-15 12:00:00Z", "2026-02-30T12:00:00Z", "2026-01-15T12:00Z", "2026-01-15T25:00:00Z",
        "2026-01-15T12:00:60Z", "1899-12-31T00:00:00Z", "9000-01-01T00:00:00Z", "2026-01-15T12:00:00+25:00",
        "20260115T120000Z", "2026-W03-4T12:00:00Z", "2026-01-15T12:00:00,5Z", "٢٠٢٦-01-15T12:00:00Z",
    ],
)  # fmt: skip
def test_what_is_no_time_of_rfc_3339_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidValue):
        parse_time(text)


# --- the gallery of faults ------------------------------------------------------------------------------------


def _with(type: str = "credits.purchased", /, **changes: Any) -> Callable[[], object]:
    """Returns a valid event with changed data; ``...`` removes a field."""
    good: dict[str, dict[str, Any]] = {
        "credits.purchased": {"block_id": "B", "credits": "10", "price": "5.00", "currency": "USD"},
        "credits.granted": {"block_id": "B", "credits": "10", "reason": "promotional"},
        "credits.consumed": {"credits": "10"},
        "payment.received": {"amount": "5.00", "currency": "USD"},
        "block.expiry_changed": {"block_id": "B", "expires_at": NOON, "reason": "agreed"},
        "credits.refunded": {"block_id": "B"},
        "block.repriced": {"block_id": "B", "reason": "agreed"},
        "payment.applied": {"payment_id": "P", "amount": "5.00", "currency": "USD"},
        "credits.transferred": {"block_id": "B", "new_block_id": "C", "to_customer": "bob"},
        "dispute.opened": {"dispute_id": "D"},
        "dispute.lost": {"dispute_id": "D"},
        "credit_memo.issued": {"amount": "5.00", "currency": "USD", "reason": "agreed"},
        "breakage.estimated": {"pool": "P", "expected_breakage_rate": "0.1", "currency": "USD", "evidence": "past"},
        "exchange_rate.set": {"base": "EUR", "quote": "USD", "rate": "1.2", "rate_source": "ECB"},
    }
    data = {name: value for name, value in {**good[type], **changes}.items() if value is not ...}
    customer = "-" if type in LEDGER_WIDE else "ann"
    return lambda: read_event(cloud_event("e", type, customer, NOON, **data))


def _envelope(**changes: Any) -> Callable[[], object]:
    document = {**cloud_event("e", "credits.consumed", "ann", NOON, credits="10"), **changes}
    return lambda: read_event({name: value for name, value in document.items() if value is not ...})


# code · the sent event · the named field
FAULTS: list[tuple[type[errors.InvalidInput], Callable[[], object], str | None]] = [
    (errors.InvalidJson, lambda: loads(b'{"id": '), None),
    (errors.InvalidJson, lambda: loads(b"\xff"), None),
    (errors.InvalidJson, lambda: loads(b'{"a": "\\ud800"}'), None),
    (errors.InvalidJson, lambda: loads(b"[NaN]"), None),
    (errors.InvalidJson, lambda: loads("[" * 5000), None),
    (errors.InvalidEvent, lambda: read_event([]), None),
    (errors.InvalidEvent, lambda: read_event(None), None),
    (errors.InvalidEvent, _envelope(data_base64="e30="), "data_base64"),
    (errors.InvalidEvent, _envelope(datacontenttype="text/xml"), "datacontenttype"),
    (errors.InvalidEvent, _envelope(traceparent=["00"]), "traceparent"),
    (errors.InvalidEvent, _envelope(sampled=2**31 + 1), "sampled"),
    (errors.MissingField, _envelope(specversion=...), "specversion"),
    (errors.MissingField, _envelope(id=...), "id"),
    (errors.MissingField, _envelope(data=...), "data"),
    (errors.MissingField, _envelope(subject=...), "subject"),
    (errors.MissingField, _envelope(subject="-"), "subject"),
    (errors.InvalidValue, _envelope(specversion="0.3"), "specversion"),
    (errors.InvalidValue, _envelope(id=""), "id"),
    (errors.InvalidValue, _envelope(id="x" * 256), "id"),
    (errors.InvalidValue, _envelope(source="a\nb"), "source"),
    (errors.InvalidValue, _envelope(source="subledger"), "source"),
    (errors.WrongType, _envelope(id=7), "id"),
    (errors.WrongType, _envelope(data=[]), "data"),
    (errors.WrongType, _envelope(time=1768478400), "time"),
    (errors.InvalidValue, _envelope(time="yesterday"), "time"),
    (errors.NaiveTime, _envelope(time="2026-01-15T12:00:00"), "time"),
    (errors.UnknownEventType, _envelope(type="credits.minted"), "type"),
    (errors.ReservedEventType, _envelope(type="period.closed"), "type"),
    (
        errors.InvalidValue,
        _envelope(type="payout.settled", data={"amount": "1", "currency": "USD", "processor": "p", "payout_id": "o"}),
        "subject",
    ),
    (errors.UnknownField, _with(colour="red"), "data.colour"),
    (errors.UnknownField, _with("credits.consumed", pool="p"), "data.pool"),
    (errors.MissingField, _with(price=...), "data.price"),
    (errors.MissingField, _with("credits.granted", reason="goodwill"), "data.value"),
    (errors.MissingField, _with("credits.granted", reason="allocation", value="5.00"), "data.currency"),
    (errors.MissingField, _with("credits.consumed", overage_price="0.1"), "data.currency"),
    (errors.MissingField, _with("payment.received", fee="0.30"), "data.processor"),
    (errors.MissingField, _with("block.expiry_changed", expires_at=...), "data.expires_at"),
    (errors.WrongType, _with(credits=10), "data.credits"),
    (errors.WrongType, _with(price=5.0), "data.price"),
    (errors.WrongType, _with(priority="50"), "data.priority"),
    (errors.WrongType, _with(priority=True), "data.priority"),
    (errors.WrongType, _with(refundable="false"), "data.refundable"),
    (errors.WrongType, _with(scope="api"), "data.scope"),
    (errors.WrongType, _with(scope=["api", 7]), "data.scope.1"),
    (errors.WrongType, _with(expires_at=0), "data.expires_at"),
    (errors.WrongType, _with(block_id=None), "data.block_id"),
    (errors.InvalidValue, _with(credits="0"), "data.credits"),
    (errors.InvalidValue, _with(credits="-1"), "data.credits"),
    (errors.InvalidValue, _with(credits="1e3"), "data.credits"),
    (errors.InvalidValue, _with(price="-5.00"), "data.price"),
    (errors.InvalidValue, _with(price="99999999999999.99"), "data.price"),
    (errors.InvalidValue, _with(priority=1001), "data.priority"),
    (errors.InvalidValue, _with(scope=[]), "data.scope"),
    (errors.InvalidValue, _with(price="0", tax="1.00"), "data.tax"),
    (errors.InvalidValue, _with(starts_at=NOON, expires_at=NOON), "data.expires_at"),
    (errors.InvalidValue, _with("credits.granted", reason="birthday"), "data.reason"),
    (errors.InvalidValue, _with("credits.granted", value="5.00", currency="USD"), "data.value"),
    (errors.InvalidValue, _with("credits.granted", reason="goodwill", value="0", currency="USD"), "data.value"),
    (errors.InvalidValue, _with("credits.consumed", on_shortfall="ignore"), "data.on_shortfall"),
    (errors.InvalidValue, _with("payment.received", amount="0.00"), "data.amount"),
    (errors.InvalidValue, _with("block.expiry_changed", reason=""), "data.reason"),
    (errors.InvalidValue, _with(refundable=True, pool="gift-cards"), "data.pool"),
    (errors.InvalidValue, _with("credits.transferred", to_customer="-"), "data.to_customer"),
    (errors.MissingField, _with("block.repriced", block_id="b"), "data.add_credits"),
    (errors.WrongType, _with("block.repriced", block_id="b", add_price=5), "data.add_price"),
    (errors.InvalidValue, _with("block.repriced", block_id="b", add_price="--5"), "data.add_price"),
    (errors.MissingField, _with("payment.applied", payment_id="p", amount="1", currency="USD"), "data.block_id"),
    (
        errors.InvalidValue,
        _with("payment.applied", payment_id="p", block_id="b", invoice_id="i", amount="1", currency="USD"),
        "data.invoice_id",
    ),
    (errors.MissingField, _with("dispute.opened", dispute_id="d"), "data.payment_id"),
    (errors.InvalidValue, _with("dispute.lost", dispute_id="d", amount="0", currency="USD"), "data.amount"),
    (
        errors.InvalidValue,
        _with("credit_memo.issued", block_id="b", invoice_id="i", amount="1", currency="USD"),
        "data.invoice_id",
    ),
    (errors.MissingField, _with("breakage.estimated", expected_breakage_rate=...), "data.expected_breakage"),
    (
        errors.InvalidValue,
        _with(
            "breakage.estimated",
            pool="p",
            expected_breakage="1",
            expected_breakage_rate="0.1",
            currency="USD",
            evidence="e",
        ),
        "data.expected_breakage_rate",
    ),
    (errors.InvalidValue, _with("exchange_rate.set", rate="0"), "data.rate"),
    (errors.InvalidValue, _with("exchange_rate.set", base="USD"), "data.quote"),
    (errors.NaiveTime, _with(expires_at="2026-12-31T00:00:00"), "data.expires_at"),
    (errors.TooManyDecimals, _with(price="5.001"), "data.price"),
    (errors.TooManyDecimals, _with(price="5.1", currency="JPY"), "data.price"),
    (errors.TooManyDecimals, _with(tax="0.001"), "data.tax"),
    (errors.TooManyDecimals, _with(credits="0.0000000001"), "data.credits"),
    (errors.TooManyDecimals, _with("payment.received", processor="p", fee="0.001"), "data.fee"),
    (
        errors.TooManyDecimals,
        _with("credits.consumed", overage_price="0.0000000000001", currency="USD"),
        "data.overage_price",
    ),
    (errors.UnknownCurrency, _with(currency="XAU"), "data.currency"),
    (errors.UnknownCurrency, _with(currency="usd"), "data.currency"),
]


@pytest.mark.parametrize(
    ("error", "send", "field"), [pytest.param(*f, id=f"{f[0].code}-{f[2]}-{n}") for n, f in enumerate(FAULTS)]
)
def test_every_fault_of_an_event_has_its_code_and_names_its_field(
    error: type[errors.InvalidInput], send: Callable[[], object], field: str | None
) -> None:
    with pytest.raises(errors.InvalidInput) as caught:
        send()
    assert type(caught.value) is error, caught.value
    assert caught.value.field == field
    assert caught.value.expected or caught.value.found


def test_the_first_fault_in_the_order_of_the_contract_is_the_one_reported() -> None:
    """Envelope, type, fields in their order, unknown keys last."""
    document: dict[str, Any] = cloud_event("e", "credits.minted", None, "yesterday", colour="red", credits=1)
    found = []
    for repair in (
        lambda: document.update(time=NOON),
        lambda: document.update(type="credits.purchased"),
        lambda: document["data"].update(block_id="B"),
        lambda: document["data"].update(credits="10"),
        lambda: document["data"].update(price="0.001"),
        lambda: document["data"].update(currency="USD"),
        lambda: document["data"].pop("colour"),
        lambda: document["data"].update(price="1.00"),
        lambda: document.update(subject="ann"),
    ):
        with pytest.raises(errors.InvalidInput) as caught:
            read_event(document)
        found.append(caught.value.field)
        repair()
    assert found == [
        "time",
        "type",
        "data.block_id",
        "data.credits",
        "data.price",
        "data.currency",
        "data.colour",
        "data.price",
        "subject",
    ]
    read_event(document)


def test_every_event_type_is_either_built_or_reserved_or_said_to_be_missing() -> None:
    names = [*EVENT_TYPES, *RESERVED_TYPES]
    assert len(set(names)) == len(names)
