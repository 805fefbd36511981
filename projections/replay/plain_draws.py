"""Plain draws: usage that only adds to what open blocks have used, and so can be added up before it is folded.

Owns: which draws are plain, and what is added up of them. Does not own: adding them up (replay, totals).
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import msgspec

from subledger.blocks import ZERO
from subledger.events.data import CreditsConsumed
from subledger.events.envelope import Event
from subledger.wallet import Decision

USAGE: Final = "credits.consumed"
_ANY_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ANY_USAGE: Final = CreditsConsumed.model_validate({"credits": "1"})


class UsageData(msgspec.Struct, frozen=True, gc=False):
    """What of the data of usage follows a draw into its entries."""

    product: str | None = None


usage_data = msgspec.json.Decoder(UsageData).decode


class Drawn(msgspec.Struct, gc=False):
    """What plain draws have taken of a block since its wallet was last folded, and what of it never changes."""

    customer: str
    block_id: str
    unit: str
    credit_kind: str
    position: int = 0
    credits: Decimal = ZERO
    amount: int = 0
    functional: int = 0


def is_plain_draw(decision: Decision) -> bool:
    """Whether usage drew on open blocks and did nothing else: then its movements only add to what they have used."""
    if (
        not decision.movements
        or decision.original_position is not None
        or decision.new_block is not None
        or decision.approval is not None
    ):
        return False
    for m in decision.movements:
        if (
            m.kind != "consumption"
            or m.block_id is None
            or m.credits <= 0
            or m.amount_minor < 0
            or m.customer is not None
            or m.invoice_id is not None
        ):
            return False
    return True


def draws_of(customer: str) -> Event:
    """The usage that stands for many."""
    return Event(
        source="", event_id="", type=USAGE, customer=customer, occurred_at=_ANY_TIME, data=_ANY_USAGE, data_text=""
    )
