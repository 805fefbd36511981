"""Monitor: payments that are not applied.

The unapplied money of a customer is its balance on ``customer_balance``. Payments are applied in the order of their
receipt, so the open payments are the latest ones. The money that has been open for longer than the threshold is
therefore the balance of the ledger less the open part of the later payments. The two queries for it read only the
payments of some hours, whatever the age of the ledger. If there is such money, payments before that time are read too,
latest first, up to a limit.

Owns: this monitor. Does not own: the ageing of receivables (``projections.reports.receivables``).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple

from projections.monitors.deliveries import SHIPPED
from projections.monitors.monitor import SHOWN, Monitor, MonitorContext
from subledger.events.envelope import format_time
from subledger.kinds import KINDS, Effect
from subledger.money import format_minor
from subledger.store.writing.rows import decode_wallet

UNAPPLIED: Final = "customer_balance"
_PAGE: Final = 500
_LOOKED_AT: Final = 5_000
"""Maximum number of earlier payments that are read to find those that are open."""

POSITION_AT: Final = """
-- The last position recorded at or before a moment; 0 before the first.
SELECT coalesce((SELECT last_position FROM batches WHERE ledger = %(ledger)s AND recorded_at <= %(moment)s
                 ORDER BY recorded_at DESC LIMIT 1), 0)
"""
RECEIVED: Final = """
-- The unapplied part of payments when they were recorded, between two positions, newest first.
SELECT e.position, e.event_id, e.source, n.customer, n.currency, n.amount_minor
FROM (SELECT position, event_id, source FROM events
      WHERE ledger = %(ledger)s AND type = 'payment.received' AND type <> 'credits.consumed'
        AND position > %(after)s AND position < %(before)s
      ORDER BY position DESC LIMIT %(limit)s) AS e
LEFT JOIN entries n ON n.ledger = %(ledger)s AND n.position = e.position
    AND n.kind = ANY(%(unapplied)s)
ORDER BY e.position DESC, n.number
"""
LEFT_UNAPPLIED: Final = tuple(kind.name for kind in KINDS if kind.effect is Effect.LEAVES_UNAPPLIED)
WALLETS: Final = "SELECT customer, state FROM wallets WHERE ledger = %(ledger)s AND customer = ANY(%(customers)s)"
RECORDED_AT: Final = """
-- The times at which some positions were recorded.
SELECT p.position, b.recorded_at FROM unnest(%(positions)s::bigint[]) AS p (position)
CROSS JOIN LATERAL (SELECT recorded_at FROM batches WHERE ledger = %(ledger)s AND last_position >= p.position
                    ORDER BY last_position LIMIT 1) AS b
"""

_Key = tuple[str, str]
"""Customer and currency."""


class _Received(NamedTuple):
    """A row of ``RECEIVED``. The last three fields are None for a payment that was applied in full when it was
    recorded.
    """

    position: int
    event_id: str
    source: str
    customer: str | None
    currency: str | None
    amount_minor: int | None


class _Unsettled(NamedTuple):
    """A payment, and the part of its amount that is not applied."""

    position: int
    event_id: str
    source: str
    customer: str
    currency: str
    amount_minor: int


def unapplied_payments(context: MonitorContext) -> Monitor:
    """Payments older than the threshold that are not applied, or not in full."""
    after_s = context.settings.unapplied_after_s
    before = context.before(SHIPPED.unapplied_after_s or 0 if after_s is None else after_s)
    balances = {
        balance.currency: balance.balance_minor
        for balance in context.accounts
        if balance.account == UNAPPLIED and balance.balance_minor > 0
    }
    found = _Unapplied(context, balances, before) if balances else None
    payments = found.older if found else []
    dates = dict(context.rows(RECORDED_AT, positions=[payment.position for payment in payments[-SHOWN:]]))
    count = len(payments) + (1 if found and found.remaining else 0)  # at least one more payment
    return context.counted(
        "unapplied_payments",
        "Is every payment applied to what it is for?",
        count,
        "payments",
        allowed=None if after_s is None else 0,
        evidence={
            "older_than_s": after_s,
            "amounts": {name: format_minor(amount, name) for name, amount in found.amounts.items()} if found else {},
            "all_found": found is None or not found.remaining,
            "oldest": [_shown(payment, dates) for payment in reversed(payments[-SHOWN:])],
        },
        next="report receivables",
    )


class _Unapplied:
    """The open payments before a moment: their ``amounts`` by currency, and the payments that were found, newest first.
    ``remaining`` are the amounts whose payments were not found.
    """

    def __init__(self, context: MonitorContext, balances: dict[str, int], before: datetime) -> None:
        self._context = context
        self._open: dict[_Key, int] = {}
        self._customers: set[str] = set()
        [(last,)] = context.rows(POSITION_AT, moment=before)
        recent = self._of(self._received(after=last, before=context.view.position + 1))
        self.amounts = dict(balances)
        for payment in recent:
            self.amounts[payment.currency] -= payment.amount_minor
        self.amounts = {currency: amount for currency, amount in self.amounts.items() if amount > 0}
        self.remaining = dict(self.amounts)
        self.older: list[_Unsettled] = []
        self._look_back(last + 1)

    def _look_back(self, before: int) -> None:
        looked_at = 0
        while self.remaining and looked_at < _LOOKED_AT:
            page = self._page(0, before)
            for payment in self._of(page):
                self.older.append(payment)
                currency = payment.currency
                self.remaining[currency] = self.remaining.get(currency, 0) - payment.amount_minor
                if not self.remaining[currency]:
                    del self.remaining[currency]
            if not page:
                return
            before, looked_at = page[-1].position, looked_at + len(page)

    def _received(self, *, after: int, before: int) -> list[_Received]:
        found: list[_Received] = []
        while page := self._page(after, before):
            found += page
            before = page[-1].position
        return found

    def _page(self, after: int, before: int) -> list[_Received]:
        page = self._context.rows(RECEIVED, after=after, before=before, limit=_PAGE, unapplied=list(LEFT_UNAPPLIED))
        return [_Received(*row) for row in page]

    def _of(self, received: list[_Received]) -> list[_Unsettled]:
        """Returns the payments that are not applied in full, newest first."""
        wanted = {row.customer for row in received if row.customer is not None} - self._customers
        self._customers |= wanted
        for customer, state in self._context.rows(WALLETS, customers=sorted(wanted)) if wanted else ():
            for name, (amount, _) in decode_wallet(state).standings.items():
                role, currency, _ = name.split(" ", 2)
                if role == UNAPPLIED:
                    self._open[customer, currency] = -amount
        return list(self._parts(received))

    def _parts(self, received: list[_Received]) -> Iterator[_Unsettled]:
        for row in received:
            if row.customer is None or row.currency is None or row.amount_minor is None:
                continue
            key = (row.customer, row.currency)
            part = min(row.amount_minor, self._open.get(key, 0))
            if part > 0:
                self._open[key] -= part
                yield _Unsettled(row.position, row.event_id, row.source, row.customer, row.currency, part)


def _shown(payment: _Unsettled, dates: dict[int, datetime]) -> dict[str, Any]:
    return {
        "position": payment.position,
        "source": payment.source,
        "event": payment.event_id,
        "customer": payment.customer,
        "amount": format_minor(payment.amount_minor, payment.currency),
        "currency": payment.currency,
        "recorded_at": format_time(dates[payment.position]),
    }
