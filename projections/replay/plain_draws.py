"""Plain draws: usage that only increases the used credits of open blocks. So it can be summed before it is folded.

Owns: the definition of a plain draw, and its summed fields. Does not own: summing them (customers, totals).
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final

import msgspec

from subledger.blocks import ZERO
from subledger.events.data import CreditsConsumed
from subledger.events.envelope import Event
from subledger.wallet import Decision, Movement

USAGE: Final = "credits.consumed"
MOST_RUNS: Final = 64
"""Maximum number of dates with sums for a block, so that memory does not grow with the number of draws."""
_ANY_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ANY_USAGE: Final = CreditsConsumed.model_validate({"credits": "1"})


class UsageData(msgspec.Struct, frozen=True, gc=False):
    """The fields of usage data that a draw copies into its entries."""

    product: str | None = None
    dimensions: dict[str, str] | None = None


usage_data = msgspec.json.Decoder(UsageData).decode


class Drawn(msgspec.Struct, gc=False):
    """The sums of plain draws on a block since its wallet was last folded, and the constant terms of the block.

    The sums are those of ``on``, the accounting date of the last draws. ``earlier`` has the sums of the earlier dates,
    in the order of the draws.
    """

    customer: str
    block_id: str
    unit: str
    credit_kind: str
    refundable: str
    own: str
    position: int = 0
    on: date = date.min
    credits: Decimal = ZERO
    amount: int = 0
    functional: int = 0
    earlier: list[Movement] = []

    def begin(self, on: date) -> None:
        """Begins the sums of another accounting date."""
        self.earlier += self.sums()
        self.on, self.credits, self.amount, self.functional = on, ZERO, 0, 0

    def sums(self) -> list[Movement]:
        """Returns one draw in place of the draws of the last date; an empty list if there were none."""
        if not self.credits:
            return []
        return [
            Movement(
                kind="consumption",
                accounting_date=self.on,
                amount_minor=self.amount,
                credits=self.credits,
                block_id=self.block_id,
                functional_minor=self.functional,
            )
        ]


def is_plain_draw(decision: Decision) -> bool:
    """True if usage only drew on open blocks at their current price, so that it only increases their used credits."""
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
            or m.segments_back
            or m.customer is not None
            or m.invoice_id is not None
        ):
            return False
    return True


def usage_of(data: UsageData) -> CreditsConsumed:
    """Returns usage data with the product and own dimensions of a plain draw: its entries need no other field."""
    if not data.dimensions:
        return _usage_of(data.product)
    return _ANY_USAGE.model_copy(update={"product": data.product, "dimensions": data.dimensions})


@lru_cache(maxsize=4_096)
def _usage_of(product: str | None) -> CreditsConsumed:
    return _ANY_USAGE.model_copy(update={"product": product})


def draws_of(customer: str) -> Event:
    """Returns one usage event in place of many plain draws."""
    return Event(
        source="", event_id="", type=USAGE, customer=customer, occurred_at=_ANY_TIME, data=_ANY_USAGE, data_text=""
    )
