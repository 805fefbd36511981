"""The writer's memory of one ledger between batches.

It has wallets, the ledger's books, the numbers of its dimension sets, its head, and recent effects. It is a cache: all
of it can be read from the database again. So it affects the cost of a batch, never its result. It is always in one of
these states:

    state         head          rows in the database      what holds
    ------------  ------------  ------------------------  -----------------------------------------------------------
    fresh         none          not known                 nothing is loaded
    true          the ledger's  have every event          each wallet here equals its row
    write-behind  the ledger's  some lack recent usage    each wallet here equals its row and the usage after it; every
                                                          wallet whose row lacks usage is here, and in ``unwritten``
    begun         the ledger's  as before the batch       as before the batch; its changes are in its WorkingSet alone
    taken back    the ledger's  as before the batch       as before the batch; its WorkingSet is gone

    from                 event                                                                   to
    -------------------  ----------------------------------------------------------------------  ----------------------
    fresh                a batch is loaded under the lock                                        begun
    true, write-behind   the lock is taken, and the ledger's head is the one remembered          begun
    true, write-behind   the lock is taken, and the head is another: a writer, restore, rebuild  fresh
    true                 a batch of usage begins without the lock                                begun
    begun                commit of a batch that wrote every row                                  true
    begun                commit of a batch that left rows for later                              write-behind
    begun                commit of a batch that recorded nothing                                 true or write-behind
    begun                without the lock: an event is a duplicate, refused, or its key taken    taken back
    begun                without the lock: the database finds that the ledger has moved on       fresh
    begun                rollback, lost connection, any other error                              fresh
    taken back           at once: the same batch is decided again under the lock                 begun

*Fresh* means a new object: the recorder drops the old one. Changes are never taken back field by field. The changes of
a batch are in its WorkingSet until the commit, and dropping the WorkingSet leaves the memory unchanged. (New dimension
sets are the exception; ``begin`` has the reason.) Only ``load`` and ``load_wallets``, which read under the lock, and
``apply`` after the commit change the memory.

Owns: the states, and the remembered values. Does not own: the reads and changes of a batch (loading, working_set), the
trust in a memory (recorder), rows (rows, write_behind).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from subledger.books import Books
from subledger.deciding.second_person import may_ask
from subledger.event_effect import EventEffect
from subledger.events.envelope import Event
from subledger.events.references import References
from subledger.kinds import Dimensions
from subledger.ledger import LedgerState
from subledger.store.database import WriteConnection
from subledger.store.writing.approvals import has_waiting
from subledger.store.writing.dimension_sets import load_dimension_sets
from subledger.store.writing.head import Head
from subledger.store.writing.recent_effects import RecentEffects
from subledger.store.writing.referenced_rows import find_wallets
from subledger.store.writing.rows import load_books
from subledger.store.writing.write_behind import CaughtUp, Unwritten, catch_up, usage_behind
from subledger.wallet import Wallet

MAX_WALLETS: Final = 50_000
"""The most wallets that are remembered; the least recently used ones are forgotten first."""


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """Changes of a committed batch."""

    books: Books
    wallets_through: int
    """Every wallet's row has every event through this position."""
    wallets: Mapping[str, Wallet] = {}
    unwritten: Mapping[str, Unwritten] = {}
    """The wallets whose rows the batch left for later."""
    effects: Sequence[tuple[str | None, int, EventEffect]] = ()
    """Customer, position and effect."""


class LedgerMemory:
    """Memory of one ledger between batches. One thread uses it at a time (the recorder's turn)."""

    def __init__(self, ledger: str) -> None:
        self.ledger = ledger
        self.head: Head | None = None
        self.books = Books()
        self.dimension_sets: dict[Dimensions, int] = {}
        self.effects = RecentEffects()
        self.has_requests = False
        self.wallets: OrderedDict[str, Wallet] = OrderedDict()  # the least recently used one comes first
        self.unwritten: dict[str, Unwritten] = {}
        self.wallets_through = 0
        self._is_loaded = False
        self._is_sole_writer = False
        self._written_sets = 0

    # --- trust ----------------------------------------------------------------------------------------------

    def is_true_at(self, head: Head) -> bool:
        """True if the ledger has not changed since this writer's last batch. The ledger's lock must be held."""
        return self.head is not None and self.head.key == head.key

    def can_decide_without_lock(self, events: Sequence[Event], wanted: References) -> bool:
        """True if these events can be decided on the remembered values, and will most likely be written.

        They may still be duplicates, because their keys are not looked up. The log's unique key finds duplicates.
        """
        head = self.head
        return (
            head is not None
            and self._is_sole_writer
            and self._every_row_is_written(head)
            and _settings_need_no_queries(head.state)
            and _is_usage_alone(events)
            and _refers_to_wallets_alone(wanted)
            and self._remembers_all(wanted.customers)
        )

    def _every_row_is_written(self, head: Head) -> bool:
        # A small batch writes every row that lacks usage. Without the lock, thousands of rows could be sent in vain.
        return self.wallets_through == head.position

    def _remembers_all(self, customers: set[str]) -> bool:
        return all(customer in self.wallets for customer in customers)

    # --- what is read under the lock ------------------------------------------------------------------------

    def load(self, connection: WriteConnection, head: Head) -> None:
        """Loads a fresh memory: all values that are read only once. The ledger's lock must be held.

        The recorder drops a memory that is not true at the locked head. So if this one is not fresh, no other writer
        wrote between two batches under the lock. This writer is probably the only one, and may try without the lock.
        """
        self._is_sole_writer = self.head is not None
        if not self._is_loaded:
            self._is_loaded = True
            self.books = load_books(connection, self.ledger)
            self.dimension_sets = load_dimension_sets(connection, self.ledger)
            self._written_sets = len(self.dimension_sets)
            # Requests may wait from earlier settings, although the present settings require no second person. New
            # requests need settings that require one, which the last line checks.
            self.has_requests = has_waiting(connection, self.ledger)
            self._load_unwritten(connection, head)
        self.has_requests = self.has_requests or may_ask(head.state)

    def _load_unwritten(self, connection: WriteConnection, head: Head) -> None:
        """Brings all wallets whose rows lack usage up to date, because such a row alone is out of date."""
        self.wallets_through = head.wallets_through
        if head.wallets_through == head.position:
            return
        usage = usage_behind(connection, self.ledger)
        found = find_wallets(connection, self.ledger, {event.customer for event in usage if event.customer is not None})
        stale = {
            customer: CaughtUp(row=wallet, wallet=wallet, position=position) for customer, position, wallet in found
        }
        catch_up(stale, usage, head.state)
        for customer, caught_up in stale.items():
            self.wallets[customer] = caught_up.wallet
            if caught_up.unwritten_events:
                self.unwritten[customer] = Unwritten(caught_up.unwritten_events, caught_up.position, caught_up.row)

    def load_wallets(self, connection: WriteConnection, customers: set[str]) -> None:
        """Reads the wallets of customers that are not remembered.

        Their rows have every event, because ``load`` has read the wallets whose rows lack usage, and ``apply`` keeps
        them.
        """
        missing = {customer for customer in customers if customer not in self.wallets}
        if missing:
            for customer, _, wallet in find_wallets(connection, self.ledger, missing):
                self.wallets[customer] = wallet
        self.mark_used(customers)

    def mark_used(self, customers: set[str]) -> None:
        """Moves the wallets of customers to the end of the order in which wallets are forgotten."""
        for customer in customers:
            if customer in self.wallets:
                self.wallets.move_to_end(customer)

    def has_too_many_wallets(self, more: int) -> bool:
        """Returns True if ``more`` wallets are more than can be remembered."""
        return len(self.wallets) + more > MAX_WALLETS

    # --- batches --------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begins a batch, after another one that was committed or taken back."""
        # The log adds new numbers directly to ``dimension_sets``, at its end. A copy for each batch would cost more
        # than the batch if there are many products. Numbers of a batch that was not written are removed here. Otherwise
        # the next batch would refer to missing rows of ``dimension_sets``.
        while len(self.dimension_sets) > self._written_sets:
            self.dimension_sets.popitem()

    def apply(self, changes: Changes, head: Head) -> None:
        """Applies a batch after its commit. The memory is then true, or write-behind, at its head."""
        for customer, wallet in changes.wallets.items():
            self.wallets[customer] = wallet
            self.unwritten.pop(customer, None)
        if changes.wallets_through > self.wallets_through:
            self.unwritten.clear()
        self.unwritten.update(changes.unwritten)
        self.wallets_through = changes.wallets_through
        self.books = changes.books
        for effect in changes.effects:
            self.effects.add(*effect)
        self._written_sets = len(self.dimension_sets)
        # A wallet whose row lacks usage stays, because it would be loaded again without that usage. While there are
        # such wallets, no wallet is forgotten. The next batch that records anything then writes all rows.
        while self.has_too_many_wallets(0) and not self.unwritten:
            self.wallets.popitem(last=False)
        # The head is set last. If this method is interrupted, the remembered head is not the ledger's head, and the
        # next batch drops the memory.
        self.head = head


def _is_usage_alone(events: Sequence[Event]) -> bool:
    return all(event.type == "credits.consumed" for event in events)


def _refers_to_wallets_alone(wanted: References) -> bool:
    return not (wanted.blocks or wanted.documents or wanted.invoices or wanted.reversed)


def _settings_need_no_queries(state: LedgerState) -> bool:
    # Each batch reads these under the lock: requests and recent effects for a second person, expired blocks for late
    # usage.
    return not may_ask(state) and state.late_usage != "reclassify"
