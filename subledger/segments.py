"""Segments: the periods of a block's life that have one price each. A block that was never repriced has none.

A repricing begins a segment at the moment at which it happened. So does a reversal of usage of an earlier segment.
Facts are recorded in any order. Usage that happened before a segment draws at the price of its own segment, on the
credits that the block had then. This changes the credits and value of the later segments, so their draws are priced
again, day by day.

Owns: these sums. Does not own: the figures of a block (blocks), the decision (deciding), the change (evolving). Pure.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import NamedTuple

from msgspec.structs import replace

from subledger.availability import REMEMBERED, Change, Changes, Portion, minus, negative, plus, with_change
from subledger.blocks import NO_PORTION, ZERO, Block, Segment
from subledger.money import round_half_up, share


def timeline(block: Block) -> tuple[Segment, ...]:
    """The segments of a block in their order; none of a block that was never repriced."""
    return () if block.segment is None else (*block.earlier, block.segment)


def segments_back(block: Block, at: datetime) -> int:
    """The number of segments of a block that begin after a moment. Usage of that moment is this many segments back."""
    return sum(segment.since is not None and segment.since > at for segment in timeline(block))


def most_drawable(block: Block, back: int, credits: Decimal) -> Decimal:
    """The part of ``credits`` that usage ``back`` segments earlier can draw, without credits that were added later."""
    for segment in timeline(block)[-back:] if back else ():
        credits = min(credits, segment.credits - max(_added(segment).credits, ZERO))
    return max(credits, ZERO)


class _Figures(NamedTuple):
    """A segment: the credits and value of its draws, and those remaining at its end."""

    drawn: Portion
    left: Portion


def _figures(block: Block, *, with_expired: bool = False) -> list[_Figures]:
    """The figures of each segment. ``with_expired``: expired credits whose breakage late usage reverses count as
    remaining.
    """
    segments = timeline(block)
    ends = [_end_before(segment) for segment in segments[1:]]
    ends.append(Portion(block.used, block.drawn_minor, block.drawn_functional))
    lefts = [
        minus(Portion(segment.credits, segment.price_minor, segment.price_functional), _added(segment))
        for segment in segments[1:]
    ]
    expired = block.disposed.get("expired", NO_PORTION) if with_expired else NO_PORTION
    lefts.append(plus(block.left, expired))
    return [
        _Figures(minus(end, _baseline(segment)), left) for segment, end, left in zip(segments, ends, lefts, strict=True)
    ]


def _kept(block: Block) -> list[Portion]:
    """The value that must remain at the end of each segment, because later repricings take it off the price."""
    kept = [NO_PORTION]
    for segment in reversed(timeline(block)[1:]):
        _, amount, functional = minus(kept[-1], _added(segment))
        kept.append(Portion(ZERO, max(amount, 0), max(functional, 0)))
    return kept[::-1]


def late_draw(block: Block, back: int, credits: Decimal) -> Portion:
    """The credits of a draw ``back`` segments earlier, with their value at the price of that segment.

    If it takes the last credits of a later segment, it takes all of this segment's value. It never takes more value
    than any later segment has, less the later reductions of the price.
    """
    drawn, left = (figures := _figures(block, with_expired=credits > block.available))[-1 - back]
    kept = _kept(block)
    parts = []
    for index in (1, 2):
        so_far, rest = int(drawn[index]), int(left[index])
        most = max(rest - int(kept[-1 - back][index]), 0)
        if credits < left.credits:
            due = share(so_far + rest, drawn.credits + credits, drawn.credits + left.credits) - so_far
            most = min(max(due, 0), most)
        rest = most
        for then, stays in zip(figures[-back:], kept[-back:], strict=True):
            value = max(int(then.drawn[index]) + int(then.left[index]) - int(stays[index]), 0)
            rest = value if credits >= then.drawn.credits + then.left.credits else min(rest, value)
        parts.append(rest)
    return Portion(credits, parts[0], 0 if block.rate is None else parts[1])


class Correction(NamedTuple):
    """The value by which the draws of a day, ``back`` segments earlier, were too low (positive) or too high (negative).

    ``used_at``: the moment of reversed usage that began this segment, if the correction is of that usage.
    """

    back: int
    on: date | None
    amount_minor: int
    functional_minor: int
    used_at: datetime | None = None


def corrections(block: Block, back: int, *, with_expired: bool = False) -> list[Correction]:
    """The corrections that price the draws again, from ``back`` segments earlier until now.

    The value of a segment is spread over its drawn and its remaining credits, by cumulative rounding in the order of
    days. A value that a correction takes from a segment is missing in the next one. ``with_expired``: the draw that
    causes the corrections reverses breakage.
    """
    found: list[Correction] = []
    segments, shift = timeline(block), NO_PORTION
    figures, kept = _figures(block, with_expired=with_expired), _kept(block)
    first = len(segments) - 1 - back
    for number in range(first, len(segments)):
        segment, (drawn, left) = segments[number], figures[number]
        if segment.gives_back_from is not None:
            source = _source(segments, number)
            if source >= first:
                for fix in _given_back(block, segment, figures[source], len(segments) - 1 - number):
                    found.append(fix)
                    shift = plus(shift, _value(fix))
        figures[number] = _Figures(drawn, left := minus(left, shift))
        for on, amount, functional in _by_day(block, segment.days, drawn, left, kept[number]):
            found.append(Correction(len(segments) - 1 - number, on, amount, functional))
            shift = plus(shift, _value(found[-1]))
    return found


def _source(segments: tuple[Segment, ...], number: int) -> int:
    """The number of the segment in which the reversed usage of a segment happened."""
    used_at = segments[number].gives_back_from
    return max(n for n, s in enumerate(segments[:number]) if s.since is None or used_at is None or s.since <= used_at)


def _given_back(block: Block, segment: Segment, source: _Figures, back: int) -> list[Correction]:
    """The correction of the credits that a segment gives back: at the price of the segment in which they were used."""
    credits, amount, worth = _added(segment)
    of = source.drawn.credits + source.left.credits
    functional = 0
    value = share(source.drawn.amount_minor + source.left.amount_minor, credits, of) if of else amount
    if block.rate is not None and block.refundable:
        functional = worth - round_half_up(worth * value, amount) if amount else 0
    elif block.rate is not None and of:
        functional = worth - share(source.drawn.functional_minor + source.left.functional_minor, credits, of)
    parts = _of_one_sign(amount - value, functional)
    return [Correction(back, segment.day, *part, segment.gives_back_from) for part in parts]


def _value(correction: Correction) -> Portion:
    return Portion(ZERO, correction.amount_minor, correction.functional_minor)


def _by_day(
    block: Block, days: Changes, drawn: Portion, left: Portion, kept: Portion
) -> list[tuple[date | None, int, int]]:
    """The amounts by which the draws of each day are too low or too high, at the present value of their segment.

    At least ``kept`` of the value is left at the end of the segment.
    """
    credits, value = drawn.credits + left.credits, drawn.amount_minor + left.amount_minor
    worth = drawn.functional_minor + left.functional_minor
    most, most_functional = max(value - kept.amount_minor, 0), max(worth - kept.functional_minor, 0)
    known = _sum(days)
    unknown = minus(drawn, known)  # draws that are older than the storage by day
    draws: list[tuple[date | None, Portion]] = [(None, unknown)] if any(unknown) else []
    draws += [(change.on, Portion(*change[1:])) for change in days]
    found, so_far, corrected = [], NO_PORTION, (0, 0)
    for on, part in draws:
        so_far = plus(so_far, part)
        if not credits:
            break
        amount = min(share(value, so_far.credits, credits), most) - so_far.amount_minor - corrected[0]
        if block.rate is None:
            functional = 0
        elif block.refundable:
            # Such a block is carried at month-end rates, so a part of a draw has the rate of that draw.
            after = corrected[0] + amount
            functional = -corrected[1]
            if drawn.amount_minor:
                functional += round_half_up(drawn.functional_minor * after, drawn.amount_minor)
        else:
            functional = min(share(worth, so_far.credits, credits), most_functional)
            functional -= so_far.functional_minor + corrected[1]
        corrected = (corrected[0] + amount, corrected[1] + functional)
        found += [(on, *part) for part in _of_one_sign(amount, functional)]
    return found


def _of_one_sign(amount: int, functional: int) -> list[tuple[int, int]]:
    """The pair of amounts; two pairs if rounding gave them different signs, which no entry has; none if both are 0."""
    parts = [(amount, functional)] if amount * functional >= 0 else [(amount, 0), (0, functional)]
    return [part for part in parts if any(part)]


def lapse_to_take_back(block: Block, credits: Decimal, draw: Portion, fixes: list[Correction]) -> Portion:
    """The part of the breakage that late usage reverses with its credits. The rest has the last price."""
    back = Portion(credits, draw.amount_minor, draw.functional_minor)
    back = plus(back, Portion(ZERO, sum(f.amount_minor for f in fixes), sum(f.functional_minor for f in fixes)))
    broken = block.disposed.get("expired", NO_PORTION)
    rest, total = broken.credits - credits, block.left.credits + broken.credits - draw.credits
    parts = []
    for index in (1, 2):
        value = int(block.left[index]) + int(broken[index]) - int(back[index])
        stays = share(value, rest, total) if rest else 0
        parts.append(min(max(int(broken[index]) - stays, 0), int(broken[index])))
    return Portion(credits, parts[0], 0 if block.rate is None else parts[1])


# --- the change of a block ----------------------------------------------------------------------------------


def with_draw(block: Block, change: Change, back: int, *, corrects: bool, closed_through: date | None) -> Block:
    """The block with its segments after a change: a draw (negative for a mirror), or a correction of draws."""
    if block.segment is None:
        return block
    segments = list(timeline(block))
    own = max(len(segments) - 1 - back, 0)
    segment = segments[own]
    segments[own] = replace(
        segment,
        days=_remembered(with_change(segment.days, change), closed_through),
        corrected=segment.corrected or corrects,
    )
    part = Portion(*change[1:])
    segments[own + 1 :] = [_moved(later, drawn=part, value=negative(part)) for later in segments[own + 1 :]]
    return replace(block, earlier=tuple(segments[:-1]), segment=segments[-1])


def with_segment(
    before: Block, block: Block, since: datetime, on: date, added: Portion, *, used_at: datetime | None
) -> Block:
    """A block with a segment that begins at a moment, on a day of the books. Draws of later days belong to it.

    ``before``: the block before the event that begins the segment. ``block``: the block with its new figures.
    ``added``: the credits and value that came with the segment. ``used_at``: the moment of the usage, if they came from
    reversed usage.
    """
    segments = [_opening(before)] if before.segment is None else list(timeline(before))
    own = len(segments) - 1 - sum(s.since is not None and s.since > since for s in segments)
    back = NO_PORTION if used_at is None else added
    later = [_moved(segment, drawn=negative(back), value=added) for segment in segments[own + 1 :]]
    days = segments[own].days
    # Reversed usage of a later day may have happened before the segment, so its stored value stays.
    mine = tuple(change for change in days if change.on > on and change.credits >= 0)
    segments[own] = replace(segments[own], days=tuple(change for change in days if change not in mine))
    drawn = _sum(mine)
    if later:
        end = _end_before(later[0])
        left = minus(Portion(later[0].credits, later[0].price_minor, later[0].price_functional), _added(later[0]))
    else:
        end, left = Portion(block.used, block.drawn_minor, block.drawn_functional), block.left
    at_start, value = minus(end, drawn), plus(left, drawn)
    begun = Segment(
        since=since,
        day=on,
        credits=value.credits,
        price_minor=value.amount_minor,
        price_functional=value.functional_minor,
        used=at_start.credits,
        drawn_minor=at_start.amount_minor,
        drawn_functional=at_start.functional_minor,
        added=added,
        gives_back_from=used_at,
        days=mine,
        corrected=segments[own].corrected,
    )
    segments = [*segments[: own + 1], begun, *later]
    return replace(block, earlier=tuple(segments[:-1]), segment=segments[-1])


def with_more_given_back(block: Block, back: int, more: Portion) -> Block:
    """A block with more (or less) value of reversed usage in one of its segments."""
    segments = list(timeline(block))
    own = len(segments) - 1 - back
    segments[own] = replace(segments[own], added=plus(_added(segments[own]), more))
    segments[own:] = [_moved(segment, drawn=negative(more), value=more) for segment in segments[own:]]
    return replace(block, earlier=tuple(segments[:-1]), segment=segments[-1])


def _opening(block: Block) -> Segment:
    """The first segment of a block. Its draws by day are known if credits left the block only by draws."""
    days: Changes = ()
    if not block.disposed and not (block.refundable and block.rate is not None):
        days = tuple(Change(change.on, *negative(Portion(*change[1:]))) for change in block.changes)
    return Segment(
        credits=block.credits,
        price_minor=block.price_minor,
        price_functional=block.price_functional,
        used=ZERO,
        drawn_minor=0,
        days=days,
    )


def _remembered(days: Changes, closed_through: date | None) -> Changes:
    """Draws by day. Those of closed months, and those long before the last one, are combined into one day."""
    forgotten = max(days[-1].on - REMEMBERED, closed_through or date.min) if days else date.min
    if not days or days[0].on > forgotten:
        return days
    old = [change for change in days if change.on <= forgotten]
    if len(old) <= 1:
        return days
    return (Change(old[-1].on, *_sum(tuple(old))), *days[len(old) :])


def _moved(segment: Segment, *, drawn: Portion, value: Portion) -> Segment:
    """A segment with more (or less) drawn before it, and with more (or less) credits and value at its start."""
    return replace(
        segment,
        credits=segment.credits + value.credits,
        price_minor=segment.price_minor + value.amount_minor,
        price_functional=segment.price_functional + value.functional_minor,
        used=segment.used + drawn.credits,
        drawn_minor=segment.drawn_minor + drawn.amount_minor,
        drawn_functional=segment.drawn_functional + drawn.functional_minor,
    )


def _baseline(segment: Segment) -> Portion:
    return Portion(segment.used, segment.drawn_minor, segment.drawn_functional)


def _end_before(segment: Segment) -> Portion:
    """All draws before a segment began, including the draws that this segment then gave back."""
    return plus(_baseline(segment), _added(segment)) if segment.gives_back_from is not None else _baseline(segment)


def _added(segment: Segment) -> Portion:
    return segment.added or NO_PORTION


def _sum(changes: Changes) -> Portion:
    total = NO_PORTION
    for change in changes:
        total = plus(total, Portion(*change[1:]))
    return total
