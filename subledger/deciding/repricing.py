"""Usage from before a repricing that is recorded after it; its reversal after a repricing; the draws that both change.

Owns: these draws, and the corrections of later draws. Does not own: the sums (segments), the other rules of usage
(usage), the repricing itself (cancellations). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

from msgspec.structs import replace

from subledger.availability import Portion, is_sound, minus
from subledger.blocks import Block
from subledger.deciding.context import Dates
from subledger.events.data import CreditsConsumed
from subledger.events.envelope import Event
from subledger.evolving import block_after
from subledger.segments import Correction, corrections, lapse_to_take_back, late_draw, segments_back, timeline
from subledger.wallet import Movement


def draw_before(
    block: Block, back: int, credits: Decimal, event: Event[CreditsConsumed], dates: Dates
) -> tuple[list[Movement], Movement] | None:
    """The movements to be booked before a draw at the price of an earlier segment, and the draw itself.

    These movements reverse breakage, and correct the draws of later segments, because each of these now has less value.
    Returns None if the block would be negative on some day, or have value without credits.
    """
    drawn = late_draw(block, back, credits)
    draw = _draw(block, drawn, dates, back)
    lacking = credits - block.available
    fixes = corrections(block_after(block, event, draw), back - 1, with_expired=lacking > 0)
    movements: list[Movement] = []
    now = block
    if lacking > 0:
        for movement in _unbroken(block, lapse_to_take_back(block, lacking, drawn, fixes), dates):
            movements.append(movement)
            now = block_after(now, event, movement)
    for correction in fixes:
        movement = _correcting(block, correction, dates)
        movements.append(movement)
        now = block_after(now, event, movement)
    functional = drawn.functional_minor
    if block.rate is not None and block.refundable:
        functional = now.functional_part(credits, drawn.amount_minor)
    on = now.loss_day(dates.on(), credits, drawn.amount_minor)
    draw = replace(draw, accounting_date=on, functional_minor=None if block.rate is None else functional)
    return (movements, draw) if _leaves_sound(block, [*movements, draw], event) else None


def _leaves_sound(block: Block, movements: Sequence[Movement], event: Event) -> bool:
    """True if no view of the block is negative after some movements on it."""
    for movement in movements:
        block = block_after(block, event, movement)
    return is_sound(block.changes, block.left)


def _draw(block: Block, drawn: Portion, dates: Dates, back: int) -> Movement:
    return Movement(
        kind="consumption",
        block_id=block.block_id,
        credits=drawn.credits,
        amount_minor=drawn.amount_minor,
        accounting_date=dates.on(),
        functional_minor=None if block.rate is None else drawn.functional_minor,
        segments_back=back,
    )


def _unbroken(block: Block, part: Portion, dates: Dates) -> list[Movement]:
    """The mirror of the breakage of credits that were used before they expired, last breakage first."""
    movements: list[Movement] = []
    for lapse in reversed(block.lapses):
        credits = min(lapse.credits, part.credits)
        if lapse.back_on is not None or not credits:
            continue
        piece = Portion(
            credits,
            min(part.amount_minor, lapse.amount_minor) if credits < part.credits else part.amount_minor,
            min(part.functional_minor, lapse.functional_minor) if credits < part.credits else part.functional_minor,
        )
        part = minus(part, piece)
        movements.append(
            Movement(
                kind="breakage" if block.pool is None else "pooled_breakage",
                block_id=block.block_id,
                credits=-credits,
                amount_minor=-piece.amount_minor,
                accounting_date=dates.on(lapse.on),
                functional_minor=None if block.rate is None else -piece.functional_minor,
            )
        )
    return movements


def _correcting(block: Block, correction: Correction, dates: Dates) -> Movement:
    """A draw of no credits that corrects the value of the draws of a day, up or down."""
    return Movement(
        kind="consumption",
        block_id=block.block_id,
        amount_minor=correction.amount_minor,
        accounting_date=dates.on(correction.on),
        functional_minor=None if block.rate is None else correction.functional_minor,
        segments_back=correction.back,
        used_at=correction.used_at,
    )


def corrected_draws(block: Block, movements: Sequence[Movement], event: Event, dates: Dates) -> list[Movement]:
    """The corrections of later draws that movements on a block make necessary.

    If the draws of a segment were priced again, a reversal gives back the new price of the usage, not the stored
    amount. Nothing is corrected if the block would then be negative on some day.
    """
    after = block
    for movement in movements:
        after = block_after(after, event, movement)
    if after.segment is None:
        return []
    used_at = next((movement.used_at for movement in movements if movement.used_at is not None), None)
    if used_at is not None or any(movement.kind == "repricing" for movement in movements):
        first = segments_back(after, event.occurred_at)
        source = first if used_at is None else segments_back(after, used_at)
        if timeline(after)[-1 - source].corrected:
            first = source
    else:
        first = next((movement.segments_back for movement in movements), 0)
        first -= not timeline(after)[-1 - first].corrected
    if first < 0:
        return []
    corrected = [_correcting(block, correction, dates) for correction in corrections(after, first)]
    return corrected if _leaves_sound(after, corrected, event) else []


def corrected_down(movements: Iterable[Movement]) -> int:
    """The revenue that the corrections among the movements take back, less the revenue that they add."""
    return -sum(m.amount_minor for m in movements if m.kind == "consumption" and not m.credits)


def in_segment(mirrored: Movement, block: Block, used_at: datetime, at: datetime) -> Movement:
    """The mirror of a draw, with its segment. If a later segment has begun, the mirror begins a new segment.

    A reversal with an earlier time than its usage counts as of the moment of the usage.
    """
    if block.segment is None:
        return mirrored
    back = segments_back(block, used_at)
    if back == segments_back(block, max(used_at, at)):
        return replace(mirrored, segments_back=back)
    return replace(mirrored, used_at=used_at)
