"""Stored decisions, wallets, blocks and billing documents keep their bytes, whatever the code calls their fields.

``stored_values.txt`` was written from random histories (``laws/walks.py``) before any field was renamed. A line has the
kind of the value and its text as it is in the database. Lines are added for new fields, and never changed; but for
pools, which were taken out when cohorts came, as an upgrade makes the rows of the books anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from subledger.billing_documents import (
    Dispute,
    DocumentPart,
    Invoice,
    Overage,
    Payment,
    RefundOwed,
    Reservation,
    ReversedUsage,
    Standing,
)
from subledger.blocks import Before, Block, Segment
from subledger.books import Rates
from subledger.pools import Anchor, Cohort, Estimate, Pool
from subledger.restored import Restored, RestoredEstimate, RestoredRate
from subledger.store.writing.log import decision_text
from subledger.store.writing.rows import (
    StoredWallet,
    decode_block,
    decode_decision,
    decode_document,
    decode_wallet,
    encode_state,
)
from subledger.wallet import Approval, Decision, Movement
from subledger.written_off import WrittenOff

RECORDED: Final = [
    line.split(" ", 1) for line in Path(__file__).with_name("stored_values.txt").read_text("utf-8").splitlines()
]
DECODED_BY: Final[dict[str, Callable[[str], Any]]] = {
    "decision": decode_decision,
    "wallet": msgspec.json.Decoder(StoredWallet).decode,
    "block": decode_block,
    **{
        kind: lambda text, kind=kind: decode_document(kind, text)
        for kind in ("payment", "invoice", "dispute", "reservation", "overage", "correction")
    },
    "pool": msgspec.json.Decoder(Pool).decode,
    "cohort": msgspec.json.Decoder(Cohort).decode,
    "rates": msgspec.json.Decoder(Rates).decode,
    "positions": msgspec.json.Decoder(Standing).decode,
}
STORED: Final = (
    Decision,
    Movement,
    Approval,
    StoredWallet,
    Block,
    Before,
    Segment,
    Overage,
    ReversedUsage,
    Payment,
    DocumentPart,
    RefundOwed,
    Invoice,
    WrittenOff,
    Dispute,
    Reservation,
    Pool,
    Cohort,
    Anchor,
    Estimate,
    Rates,
    Restored,
    RestoredRate,
    RestoredEstimate,
)


@pytest.mark.parametrize("kind", DECODED_BY)
def test_a_stored_value_is_read_and_written_again_to_the_same_bytes(kind: str) -> None:
    texts = [text for recorded, text in RECORDED if recorded == kind]
    assert texts
    encode = decision_text if kind == "decision" else encode_state
    for text in texts:
        assert encode(DECODED_BY[kind](text)) == text
        if kind == "wallet":
            assert encode(decode_wallet(text)) == text


@pytest.mark.parametrize("type", STORED, ids=lambda type: type.__name__)
def test_each_field_that_can_be_stored_has_recorded_bytes(type: type[msgspec.Struct]) -> None:
    given = set()
    for kind, text in RECORDED:
        for value in _values(DECODED_BY[kind](text)):
            if value.__class__ is type:
                given |= {
                    field.name
                    for field in msgspec.structs.fields(type)
                    if getattr(value, field.name) not in (field.default, None, {}, ())
                }
    lacking = {field.name for field in msgspec.structs.fields(type)} - given
    assert not lacking


def _values(value: Any) -> Iterator[msgspec.Struct]:
    """The stored structs in a value, itself among them."""
    if isinstance(value, msgspec.Struct):
        yield value
        value = [getattr(value, name) for name in value.__struct_fields__]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for part in value:
        yield from _values(part)
