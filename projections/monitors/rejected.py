"""Monitor: rejected events that are open.

A rejected event is usage or money that is missing from the books, until it is recorded or dismissed. Two groups of
rejections do not count:

- events with an expected code. ``insufficient_credits`` is expected only for usage after all credits were used up, in a
  ledger whose shortfall setting is ``reject``. It is not expected if credits have expired, have not started, are
  frozen, or have another unit or product, if the customer is unknown, or if the reasons were not computed
  (api/README.md, *Limits*).
- events that were rejected a short time ago, because their sender may send them again.

Rejections beyond the daily limit count at once, whatever their code, because only their number is stored. The close
checklist counts all rejections.

Owns: this monitor. Does not own: the rejections (``subledger.store.rejected.rejections``).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from projections.monitors.deliveries import SHIPPED
from projections.monitors.monitor import Monitor, MonitorContext
from projections.reads.rejected import summary
from subledger.errors import InsufficientCredits
from subledger.store.rejected.rejections import Count, Counts, open_counts

READ_AT_MOST: Final = 10_000
"""Maximum number of open rejections of each code that a look reads, the oldest first. For usage after all credits were
used up, the same number is read in addition. So many unexpected rejections always ring, so reading more would change
nothing.
"""


def open_rejections(context: MonitorContext) -> Counts:
    """The rejections that are neither recorded nor dismissed, by code: the oldest ``READ_AT_MOST`` of each code."""
    return open_counts(context.connection, context.ledger, most=READ_AT_MOST)


def rejected(context: MonitorContext, found: Counts) -> Monitor:
    """Open rejections that are older than the threshold, and not expected."""
    settings = context.settings
    after_s, expected = settings.rejected_after_s, settings.rejected_expected
    before = context.before(SHIPPED.rejected_after_s or 0 if after_s is None else after_s)
    old: tuple[Count, ...] = ()
    if any(count.first_at < before for count in found.by_code):
        old = open_counts(context.connection, context.ledger, most=READ_AT_MOST, first_before=before).by_code
    rejecting = context.state.on_shortfall == "reject"
    aged = sum(_unexpected(count, expected, rejecting=rejecting) for count in old)
    beyond = sum(count.beyond for count in found.by_code)
    allowed = settings.rejected_events
    if allowed is not None:
        allowed = min(allowed, READ_AT_MOST - 1)
    return context.counted(
        "rejected",
        "Are all rejected events recorded or dismissed?",
        aged + beyond,
        "events",
        allowed=None if after_s is None else allowed,
        evidence={
            "older_than_s": after_s,
            "expected": list(expected),
            "not_kept_one_by_one": beyond,
            "open": summary(found),
        },
        next="rejected counts",
    )


def _unexpected(count: Count, expected: Collection[str], *, rejecting: bool) -> int:
    """Counts the rejections of a code that the ledger's settings do not expect."""
    stored = count.rejections - count.beyond
    if count.code not in expected:
        return stored
    if count.code != InsufficientCredits.code:
        return 0
    return stored - count.used_up if rejecting else stored
