"""Rejected events that nobody has settled.

What is refused is usage, or money, that is missing from the books until it is recorded or somebody says that it never
will be. Codes that are expected do not count. Of ``insufficient_credits`` that is usage for which all credits are used
up, in a ledger whose shortfall setting is ``reject``: to refuse it is what the company asked for. Credits that have
expired, have not started, are frozen, or are of another unit or product, and a customer that nobody knows, are no such
thing: they ring, and so does a refusal whose reasons were not worked out (api/README.md, *Limits*). The close
checklist asks for all of them. Nor does what was refused only just now count, as its sender may be about to send it
again. What came beyond the bound of a day counts at once, whatever its code: it is kept by number alone.

Owns: this monitor. Does not own: the rejections (``subledger.store.rejected.rejections``).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from projections.monitors.deliveries import SHIPPED
from projections.monitors.monitor import Looking, Monitor
from projections.reads.rejected import summary
from subledger.errors import InsufficientCredits
from subledger.store.rejected.rejections import Count, Counts, open_counts

READ_AT_MOST: Final = 10_000
"""Open rejections that a look reads of each code, the oldest ones; of usage for which all is used up as many, apart. So
many of what is not expected ring, whatever is allowed; what is more changes nothing about that."""


def open_rejections(looking: Looking) -> Counts:
    """The rejections that are neither recorded nor dismissed, by code; of very many of a code the oldest."""
    return open_counts(looking.connection, looking.ledger, most=READ_AT_MOST)


def rejected(looking: Looking, found: Counts) -> Monitor:
    """Open rejections that are older than a moment, of codes that are not expected."""
    settings = looking.settings
    after_s, expected = settings.rejected_after_s, settings.rejected_expected
    before = looking.before(SHIPPED.rejected_after_s or 0 if after_s is None else after_s)
    old: tuple[Count, ...] = ()
    if any(count.first_at < before for count in found.by_code):
        old = open_counts(looking.connection, looking.ledger, most=READ_AT_MOST, first_before=before).by_code
    rejecting = looking.state.on_shortfall == "reject"
    aged = sum(_unexpected(count, expected, rejecting=rejecting) for count in old)
    beyond = sum(count.beyond for count in found.by_code)
    allowed = settings.rejected_events
    if allowed is not None:
        allowed = min(allowed, READ_AT_MOST - 1)
    return looking.counted(
        "rejected", "Are all rejected events recorded or dismissed?", aged + beyond, "events",
        allowed=None if after_s is None else allowed,
        evidence={
            "older_than_s": after_s, "expected": list(expected), "not_kept_one_by_one": beyond,
            "open": summary(found),
        },
        next="rejected counts",
    )  # fmt: skip


def _unexpected(count: Count, expected: Collection[str], *, rejecting: bool) -> int:
    """Counts the rejections of a code that the ledger's settings do not ask for."""
    kept = count.rejections - count.beyond
    if count.code not in expected:
        return kept
    if count.code != InsufficientCredits.code:
        return 0
    return kept - count.used_up if rejecting else kept
