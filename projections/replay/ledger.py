"""Replay of the data of a ledger as a whole: its books, its settings, its adopted policies and account mappings.

Owns: the fold of these data in memory, and the expected rows. Does not own: the fold of customers (customers).
"""

from __future__ import annotations

from projections.replay.derived_tables import Rows
from subledger.books import Books, evolve_books
from subledger.events.envelope import Event, canonical
from subledger.events.own_data import MappingAdopted, PolicyAdopted
from subledger.ledger import LedgerState, evolve_ledger
from subledger.posting import rules_from
from subledger.store.columns import EventRow
from subledger.store.writing.rows import decode_decision, rows_of_books


class LedgerReplayer:
    """The data of the ledger as a whole after the events that were folded so far: its books and settings.

    Only events without a customer, and events whose movements have a pool or another currency, change these data.
    """

    def __init__(self, ledger: str) -> None:
        self.state = LedgerState(ledger=ledger)
        self.position = 0
        self.books = Books()
        self.inherited: set[tuple[int, str]] = set()
        """Policies and the kinds whose rules they inherit."""
        self.rows: dict[str, Rows] = {
            name: {} for name in ("posting_policies", "posting_rules", "account_mappings", "documents")
        }

    def take(self, logged: EventRow) -> Event:
        """Folds in one event. Returns the parsed event."""
        event, decision = logged.read(), decode_decision(logged.decision_text)
        effective = self.state.effective_date_of(event)
        functional_currency = self.state.functional_currency
        before = self.books
        self.books = evolve_books(
            before,
            event,
            decision,
            effective=effective,
            functional_currency=functional_currency,
            closed_through=self.state.closed_through,
        )
        for kind, document_id, customer, state in rows_of_books(before, self.books):
            self.rows["documents"][(kind, document_id)] = (customer, state)
        self.state = evolve_ledger(self.state, event)
        self._adopt(event, logged.position)
        self.position = logged.position
        return event

    def _adopt(self, event: Event, position: int) -> None:
        data = event.data
        if isinstance(data, PolicyAdopted):
            self.rows["posting_policies"][(data.policy,)] = (data.name, data.version, data.content_hash, position)
            rules = rules_from(data.rules)
            self.inherited |= {(data.policy, kind) for kind in rules if kind not in data.rules}
            for kind, rule in rules.items():
                for number, pair in enumerate(rule, start=1):
                    self.rows["posting_rules"][(data.policy, kind, number)] = (pair.debit, pair.credit)
        elif isinstance(data, MappingAdopted):
            row = (data.content_hash, canonical(data.rows), position, data.valid_from)
            self.rows["account_mappings"][(data.mapping,)] = row
