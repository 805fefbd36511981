"""The canonical encoding, byte by byte: what is hashed today is hashed the same in ten years."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from subledger import merkle
from subledger.encoding import batch_hash, encode
from subledger.events.envelope import Event
from subledger.kinds import Dimensions, Entry

ENTRY = Entry(
    number=1,
    policy=1,
    kind="consumption",
    customer="cust-42",
    block_id="blk-7",
    unit="credit",
    credits=Decimal("2.50"),
    amount_minor=25,
    currency="USD",
    functional_minor=25,
    accounting_date=date(2026, 1, 20),
    effective_date=date(2026, 1, 20),
    cut=1,
    dimensions=Dimensions("api", "paid", "", ""),
)
EVENT = Event(
    source="metering",
    event_id="use-1",
    type="credits.consumed",
    customer="cust-42",
    occurred_at=datetime(2026, 1, 20, 9, 30, tzinfo=UTC),
    data=None,
    data_text='{"credits":"2.5"}',
)
DECISION = '{"policy":1}'
GOLDEN = (
    "01010000000461636d65000000000000000501000000086d65746572696e6701000000057573652d3101000000106372"
    "65646974732e636f6e73756d65640100000007637573742d3432000648ce7396f60001000000117b2263726564697473"
    "223a22322e35227d00010000000c7b22706f6c696379223a317d00000001000100010000000000000019000000000000"
    "001900004ff900004ff900000001010000000b636f6e73756d7074696f6e0100000007637573742d3432010000000562"
    "6c6b2d3701000000066372656469740100000003322e3501000000035553440100000003617069010000000470616964"
    "01000000000100000000"
)
LEAF = "ef4677a34a37147cf823d4879385054d1d0bd3187d144c09ef67ec75f029f60d"
BATCH = "dbe2de60f1fb50b1beefdc3004bac0d62d98cf3938b65b5af3e0191dfd96d491"


def test_the_bytes_of_a_recorded_event() -> None:
    assert encode("acme", 5, EVENT, DECISION, (ENTRY,)).hex() == GOLDEN


def test_the_hashes_of_a_leaf_and_a_batch() -> None:
    leaf = merkle.leaf_hash(bytes.fromhex(GOLDEN))
    digest = batch_hash("acme", 4, 5, datetime(2026, 11, 21, 12, tzinfo=UTC), leaf, bytes(32))
    assert (leaf.hex(), digest.hex()) == (LEAF, BATCH)


@pytest.mark.parametrize(
    "change",
    [
        {"number": 2}, {"policy": 2}, {"kind": "breakage"}, {"customer": None}, {"customer": ""}, {"block_id": None},
        {"unit": None}, {"credits": Decimal("2.51")}, {"amount_minor": 26}, {"currency": "EUR"},
        {"functional_minor": 26}, {"accounting_date": date(2026, 1, 21)}, {"effective_date": date(2026, 1, 19)},
        {"cut": 2}, {"dimensions": Dimensions("", "paid", "", "api")},
        {"dimensions": Dimensions("api", "paid", "", "", "2026-01")},
        {"dimensions": Dimensions("api", "paid", "", "", "", "true")},
        {"dimensions": Dimensions("api", "paid", "", "", "", "", '{"department":"lab"}')},
        {"dimensions": Dimensions("api", "paid", "", "", "", "", "", '{"department":"lab"}')},
    ],
)  # fmt: skip
def test_every_column_of_an_entry_counts(change: dict[str, Any]) -> None:
    assert encode("acme", 5, EVENT, DECISION, (replace(ENTRY, **change),)).hex() != GOLDEN


@pytest.mark.parametrize(
    "change",
    [
        {"source": "other"}, {"event_id": "use-2"}, {"type": "credits.expired"}, {"customer": None},
        {"occurred_at": datetime(2026, 1, 20, 9, 30, 0, 1, tzinfo=UTC)}, {"data_text": "{}"}, {"attributes_text": ""},
    ],
)  # fmt: skip
def test_every_column_of_an_event_counts(change: dict[str, Any]) -> None:
    assert encode("acme", 5, replace(EVENT, **change), DECISION, (ENTRY,)).hex() != GOLDEN


def test_trailing_zeros_of_credits_do_not_count() -> None:
    same = replace(ENTRY, credits=Decimal("2.500000000"))
    assert encode("acme", 5, EVENT, DECISION, (same,)).hex() == GOLDEN


def test_a_cohort_is_taken_for_no_other_dimension() -> None:
    sets = [
        Dimensions("", "paid", "p", "", "2026-01"), Dimensions("", "paid", "p", "2026-01", ""),
        Dimensions("", "paid", "p", "2026-01", "2026-01"), Dimensions("", "paid", "2026-01", "p", ""),
        Dimensions("", "paid", "p", "", ""), Dimensions("", "paid", "p", "", "", "2026-01"),
        Dimensions("", "paid", "p", "", "", "", "2026-01"), Dimensions("", "paid", "p", "", "", "", "", "2026-01"),
    ]  # fmt: skip
    encoded = {encode("acme", 5, EVENT, DECISION, (replace(ENTRY, dimensions=each),)) for each in sets}
    assert len(encoded) == len(sets)
