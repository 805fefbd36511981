"""Undoing: the data for the decision to undo an event, besides the present state.

The state before and after an event is not stored, because it follows from the log. So recording does not become slower
for a rare case, and events of any age can be undone. Undoing costs a replay of the events of the customers concerned,
through the undone event.

Owns: these queries and the replay; the additions of a batch to their answers. Does not own: the decision
(deciding/undo), the current rows (loading).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Final

import msgspec

from subledger.accounting_dates import effective_date
from subledger.deciding.context import Around, First, Original, OtherRate
from subledger.errors import present
from subledger.events.data import BreakageEstimated, EventReversed, ExchangeRateSet
from subledger.events.envelope import Event
from subledger.events.fields import EventData
from subledger.events.references import DocumentKey, customers_of
from subledger.evolving import evolve
from subledger.ledger import LedgerState, evolve_ledger
from subledger.store.columns import EVENTS, EventRow
from subledger.store.database import WriteConnection
from subledger.store.decision_text import decision_sql
from subledger.store.tables import NO_USAGE, UNDOES, UNDONE_POSITION
from subledger.store.writing.arrays import TextArray
from subledger.store.writing.log import RecordedEvent
from subledger.store.writing.referenced_rows import EventKey
from subledger.store.writing.rows import decode_decision
from subledger.wallet import Decision, Wallet

HISTORY: Final = f"""
-- The events of some customers through a position, in order, with the closing and reopening of months in between.
SELECT {EVENTS.selected("e", decision=decision_sql("%(ledger)s"))}
FROM (
    SELECT position FROM entries
    WHERE ledger = %(ledger)s AND customer = ANY(%(customers)b) AND position <= %(through)s
    UNION
    SELECT position FROM events
    WHERE ledger = %(ledger)s AND customer = ANY(%(customers)b) AND position <= %(through)s AND {NO_USAGE}
    UNION
    SELECT position FROM events
    WHERE ledger = %(ledger)s AND type IN ('period.closed', 'period.reopened') AND position <= %(through)s
      AND {NO_USAGE}
) AS wanted
JOIN events e ON e.ledger = %(ledger)s AND e.position = wanted.position
ORDER BY e.position
"""
UNDONE: Final = f"""
-- The events that undid some positions. Condition and expression are those of the index ix_events_undone.
SELECT ({UNDONE_POSITION})::bigint, position, source, event_id
FROM events WHERE ledger = %s AND {UNDOES} AND ({UNDONE_POSITION}) = ANY(%b)
"""
RATES: Final = f"""
-- The rates of some currencies.
SELECT position, source, event_id, data::jsonb ->> 'base', occurred_at, (data::jsonb ->> 'rate')::numeric
FROM events
WHERE ledger = %s AND type = 'exchange_rate.set' AND {NO_USAGE} AND data::jsonb ->> 'base' = ANY(%b)
ORDER BY position
"""
ESTIMATES: Final = f"""
-- The estimates of some pools.
SELECT position, source, event_id, data::jsonb ->> 'pool'
FROM events
WHERE ledger = %s AND type = 'breakage.estimated' AND {NO_USAGE} AND data::jsonb ->> 'pool' = ANY(%b)
ORDER BY position
"""
LATER: Final = """
-- The latest event of a customer since another one that touched the same block or document, or any.
SELECT e.position, e.source, e.event_id, e.type
FROM (SELECT position FROM events WHERE ledger = %(ledger)s AND source = %(source)s AND event_id = %(event_id)s) AS o
CROSS JOIN LATERAL (
    SELECT e.* FROM events e
    WHERE e.ledger = %(ledger)s AND e.position > o.position AND {conditions}
    ORDER BY e.position DESC LIMIT 1
) AS e
"""
_OF_BLOCK: Final = """e.position IN (
        SELECT n.position FROM entries n
        WHERE n.ledger = %(ledger)s AND n.customer = %(customer)s AND n.position > o.position
          AND n.block_id = %(block_id)s
    )"""
_OF_CUSTOMER: Final = f"e.customer = %(customer)s AND e.{NO_USAGE}"
_OF_COHORT: Final = f"""(
        e.type = 'breakage.estimated' AND e.{NO_USAGE} AND e.data::jsonb ->> 'pool' = %(pool)s
        OR EXISTS (
            SELECT FROM entries n JOIN dimension_sets d
            ON d.ledger = %(ledger)s AND d.dimension_set = n.dimension_set
            WHERE n.ledger = %(ledger)s AND n.position = e.position AND d.pool = %(pool)s
              AND (%(cohort)s = '' OR left(d.cohort, 4) = left(%(cohort)s, 4))
        )
    )"""
"""Events of a pool. Blocks have their month of issue, so for a cohort by quarter or year its whole year matches.
"""
_STANDS: Final = f"""NOT EXISTS (
        SELECT FROM events r
        WHERE r.ledger = %(ledger)s AND r.customer = e.customer AND r.{NO_USAGE} AND r.position > e.position
          AND r.type IN ('event.reversed', 'consumption.reversed') AND (r.{UNDONE_POSITION}) = e.position::text
    )
    AND NOT (
        e.type IN ('event.reversed', 'consumption.reversed') AND (e.{UNDONE_POSITION})::bigint > o.position
    )"""
"""The condition that an event was not undone, and did not itself undo a later event."""


def find_later(
    connection: WriteConnection, ledger: str, event: Event[EventReversed], facts: Mapping[str, Any]
) -> tuple[First, str] | None:
    """Finds the later event that prevents an undo, with its type; None if none is found.

    ``facts`` name the customer and the block or document that was changed, or the cohort.
    """
    data = event.data
    parameters = {
        "ledger": ledger, "source": data.event_source or event.source, "event_id": data.event_id, **facts,
    }  # fmt: skip
    conditions = [_OF_BLOCK] if "block_id" in facts else []
    for name in ("payment_id", "invoice_id", "dispute_id"):
        conditions += [f"{_OF_CUSTOMER} AND e.data::jsonb ->> '{name}' = %({name})s"] if name in facts else []
    conditions += [_OF_COHORT] if "pool" in facts else []
    of_customer = [_OF_CUSTOMER] if "customer" in facts else []
    for condition in (*(f"{touches} AND {_STANDS}" for touches in conditions), *conditions, *of_customer):
        row = connection.execute(LATER.format(conditions=condition), parameters).fetchone()
        if row is not None:
            *by, type = row
            return First(*by), type
    return None


class _SetRate(msgspec.Struct, frozen=True, gc=False):
    by: First
    base: str
    day: date
    rate: Decimal


class _Estimate(msgspec.Struct, frozen=True, gc=False):
    by: First
    pool: str


class Undoing:
    """The events that a batch undoes, with the later events on them and the wallets before and after them.

    ``found`` has those that are in the log. The others may be in the batch itself. Its events are added one by one.
    """

    def __init__(self, state: LedgerState, found: Mapping[EventKey, Original]) -> None:
        self.found = found
        self._state = state
        self._around: dict[int, Mapping[str, Around]] = {}
        self._undone_by: dict[int, First] = {}
        self._rates: list[_SetRate] = []
        self._estimates: list[_Estimate] = []

    # --- reading ----------------------------------------------------------------------------------------------

    def load(self, connection: WriteConnection, data: Iterable[EventData]) -> None:
        """Reads the facts of the log about the events. ``data``: the data of these and of the batch's own events."""
        of_events = list(data)
        self._load_rates(connection, {of.base for of in of_events if isinstance(of, ExchangeRateSet)})
        self._load_estimates(connection, {of.pool for of in of_events if isinstance(of, BreakageEstimated)})
        positions = {original.position for original in self.found.values()}
        positions |= {of.by.position for of in self._rates} | {of.by.position for of in self._estimates}
        if positions:
            texts = TextArray([str(position) for position in positions])
            for undone, *by in connection.execute(UNDONE, (self._state.ledger, texts)):
                self._undone_by[undone] = First(*by)
        self._around |= wallets_around(connection, self._state, self.found.values())

    def _load_rates(self, connection: WriteConnection, currencies: Collection[str]) -> None:
        if not currencies:
            return
        for *by, base, occurred_at, rate in connection.execute(RATES, (self._state.ledger, TextArray(currencies))):
            self._rates.append(_SetRate(First(*by), base, effective_date(occurred_at, self._state.zone), rate))

    def _load_estimates(self, connection: WriteConnection, pools: Collection[str]) -> None:
        if not pools:
            return
        for *by, pool in connection.execute(ESTIMATES, (self._state.ledger, TextArray(pools))):
            self._estimates.append(_Estimate(First(*by), pool))

    # --- what changed -----------------------------------------------------------------------------------------

    @property
    def customers(self) -> set[str]:
        """The customers whose wallets were changed by the events that are in the log."""
        return {customer for around in self._around.values() for customer in around}

    @property
    def references(self) -> tuple[set[str], set[DocumentKey]]:
        """The blocks, and the documents and overages, that were changed by the events that are in the log.

        Blocks with a refund that is owed or paid are added, because it makes entries of the block without changing its
        figures.
        """
        movements = [movement for original in self.found.values() for movement in original.decision.movements]
        blocks = {movement.block_id for movement in movements if movement.block_id is not None}
        documents: set[DocumentKey] = set()
        for around in self._around.values():
            for wallets in around.values():
                before, after = wallets.before, wallets.after
                blocks |= {now.block_id for _, now in after.blocks.changes_since(before.blocks) if now is not None}
                for _, overage in after.overages.changes_since(before.overages):
                    documents |= {("overage", str(overage.position))} if overage is not None else set()
                for _, document in after.documents.changes_since(before.documents):
                    documents |= {(document.document_kind, document.document_id)} if document is not None else set()
        return blocks, documents

    # --- the batch --------------------------------------------------------------------------------------------

    def add(self, recorded: RecordedEvent, around: Mapping[str, Around]) -> None:
        """Adds an event that the batch records, with the wallets before and after it."""
        event, position = recorded.event, recorded.position
        by, data = First(position, event.source, event.event_id), event.data
        self._around[position] = around
        if isinstance(data, EventReversed):
            self._undone_by[present(recorded.decision.original_position, "an event was undone without a position")] = by
        elif isinstance(data, ExchangeRateSet):
            self._rates.append(_SetRate(by, data.base, self._state.effective_date_of(event), data.rate))
        elif isinstance(data, BreakageEstimated):
            self._estimates.append(_Estimate(by, data.pool))

    def original(self, position: int, event: Event, decision: Decision) -> Original:
        """A recorded event with the data for undoing it."""
        data = event.data
        rates: list[OtherRate] = []
        if isinstance(data, ExchangeRateSet):
            day = self._state.effective_date_of(event)
            rates = [
                OtherRate(other.by, other.rate)
                for other in self._rates
                if (other.base, other.day) == (data.base, day) and other.by.position != position
            ]
        pool = data.pool if isinstance(data, BreakageEstimated) else None
        estimates = [other.by for other in self._estimates if other.pool == pool]
        return Original(
            position=position,
            event=event,
            decision=decision,
            around=self._around.get(position, {}),
            undone_by=self._undone_by.get(position),
            rates=tuple(other for other in rates if other.by.position not in self._undone_by),
            version=sum(by.position <= position for by in estimates),
            estimates_after=tuple(
                by for by in estimates if by.position > position and by.position not in self._undone_by
            ),
        )


def wallets_around(
    connection: WriteConnection, state: LedgerState, originals: Iterable[Original]
) -> dict[int, dict[str, Around]]:
    """The wallets before and after some recorded events, by position and customer: a replay of their customers."""
    wanted = {original.position: customers_of(original.event, original.decision) for original in originals}
    customers = {customer for of_event in wanted.values() for customer in of_event}
    if not customers:
        return {position: {} for position in wanted}
    around: dict[int, dict[str, Around]] = {position: {} for position in wanted}
    wallets = {customer: Wallet(customer=customer) for customer in customers}
    ledger = LedgerState(ledger=state.ledger)
    parameters = {"ledger": state.ledger, "customers": TextArray(customers), "through": max(wanted)}
    for columns in connection.execute(HISTORY, parameters):
        row = EventRow(*columns)
        event, decision = row.read(), decode_decision(row.decision_text)
        for customer in customers.intersection(customers_of(event, decision)):
            before = wallets[customer]
            wallets[customer] = evolve(
                before,
                event,
                decision,
                position=row.position,
                functional_currency=state.functional_currency,
                closed_through=ledger.closed_through,
            )
            if row.position in wanted:
                around[row.position][customer] = Around(before, wallets[customer])
        ledger = evolve_ledger(ledger, event)
    return around
