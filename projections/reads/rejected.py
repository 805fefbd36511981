"""Summary of rejected events by code and in all, for the list, the monitor and the close checklist.

Owns: this summary. Does not own: the rejections (``subledger.store.rejected.rejections``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from subledger.events.envelope import format_time
from subledger.money import format_credits, format_minor
from subledger.store.rejected.rejections import Counts, Open


def sums(seen: Sequence[Open]) -> dict[str, Any]:
    """Number of some open rejections, with their credits and money."""
    credits: dict[str, Decimal] = {}
    amounts: dict[str, int] = {}
    for each in seen:
        if each.unit is not None and each.credits is not None:
            credits[each.unit] = credits.get(each.unit, Decimal(0)) + each.credits
        if each.currency is not None and each.amount_minor is not None:
            amounts[each.currency] = amounts.get(each.currency, 0) + each.amount_minor
    return {"rejections": len(seen), "credits": _credits(credits), "amounts": _amounts(amounts)}


def summary(found: Counts) -> dict[str, Any]:
    """Number of rejected events, with their credits and money: by code, and in all."""
    counts = found.by_code
    credits: dict[str, Decimal] = {}
    amounts: dict[str, int] = {}
    for count in counts:
        for unit, quantity in count.credits.items():
            credits[unit] = credits.get(unit, Decimal(0)) + quantity
        for currency, minor in count.amounts_minor.items():
            amounts[currency] = amounts.get(currency, 0) + minor
    return {
        "rejections": sum(count.rejections for count in counts),
        "complete": found.complete,
        "attempts": sum(count.attempts for count in counts),
        "oldest": min((format_time(count.first_at) for count in counts), default=None),
        "credits": _credits(credits),
        "amounts": _amounts(amounts),
        "codes": [
            {
                "code": count.code,
                "rejections": count.rejections,
                "attempts": count.attempts,
                "not_kept_one_by_one": count.beyond,
                "oldest": format_time(count.first_at),
                "latest": format_time(count.last_at),
                "credits": _credits(count.credits),
                "amounts": _amounts(count.amounts_minor),
            }
            for count in counts
        ],
    }


def _credits(credits: Mapping[str, Decimal]) -> dict[str, str]:
    return {unit: format_credits(quantity) for unit, quantity in sorted(credits.items())}


def _amounts(amounts: Mapping[str, int]) -> dict[str, str]:
    return {currency: format_minor(minor, currency) for currency, minor in sorted(amounts.items())}
