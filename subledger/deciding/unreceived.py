"""Disputes lost of money that was never received: no bank decides those.

A bank can withdraw only what was paid. A dispute that names a block, not a payment, may be recorded though its customer
paid nothing, or less; a loss of that part gives its used value away and cancels its credits.

Owns: which part of a loss was never received. Does not own: the decision (disputes), measures (event_effects). Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from subledger.billing_documents import Dispute
from subledger.blocks import ZERO, Block
from subledger.deciding.gains import functional_amount
from subledger.events.data import DisputeLost, DisputeWon
from subledger.events.envelope import Event
from subledger.kinds import KIND_BY_NAME
from subledger.money import round_half_up
from subledger.wallet import Decision, Movement, Wallet

_TAKEN: frozenset[str] = frozenset({"voided", "refunded", "charged_back", "written_off"})


class Unreceived(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a loss that was never received: used value, and if credits are cancelled. Functional minor units."""

    used_minor: int = 0
    cancels: bool = False


def lost_unreceived(event: Event, decision: Decision, before: Mapping[str, Wallet]) -> Unreceived:
    """The loss of a dispute that is not of a payment, beyond what was received for its block."""
    if not isinstance(event.data, DisputeLost | DisputeWon):
        return Unreceived()
    wallet = before[event.customer or ""]
    dispute = wallet.state_of_document(Dispute, event.data.dispute_id)
    losses = [m for m in decision.movements if m.block_id is not None and KIND_BY_NAME[m.kind].gives_up]
    if dispute.payment_id is not None or not losses:
        return Unreceived()
    block = wallet.state_of_block(losses[0].block_id or "")  # such a dispute is of one block
    missing = max(sum(movement.amount_minor for movement in losses) - _received_minor(block), 0)
    used = [movement for movement in losses if KIND_BY_NAME[movement.kind].column is None and not _is_tax(movement)]
    credits = sum((movement.credits for movement in losses), ZERO)
    return Unreceived(
        used_minor=sum(_part(movement, missing) for movement in used),
        cancels=bool(missing and (credits or len(used) < len(losses))),
    )


def _is_tax(movement: Movement) -> bool:
    return KIND_BY_NAME[movement.kind].debit_role == "tax_payable"


def _part(movement: Movement, missing: int) -> int:
    """The part of an amount that is missing, in the functional currency."""
    if missing >= movement.amount_minor:
        return functional_amount(movement)
    return max(round_half_up(functional_amount(movement) * missing, movement.amount_minor), min(missing, 1))


def _received_minor(block: Block) -> int:
    """The price and tax of a block that were received and not given back or lost, in its own currency.

    Whatever is neither open nor taken back counts as received.
    """
    taken = sum(block.disposed[column].amount_minor for column in _TAKEN & block.disposed.keys())
    taken += block.conceded_minor + block.tax_taken_minor + block.tax_reversed_minor
    return max(block.price_minor + block.tax_minor - block.receivable_minor - taken, 0)
