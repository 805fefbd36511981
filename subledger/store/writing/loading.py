"""Loading: reading all data that the decisions of a batch may need, before its first event is decided.

Decisions must not query the database, because a big batch copies its events into the log while it decides them. The
connection is busy with this COPY until the last event. A batch of usage sends no query here if the memory has all data.

Owns: the choice and the order of a batch's queries. Does not own: the queries (referenced_rows), the writer's memory
(memory), the data of a batch (working_set).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from subledger.billing_documents import Overage, ReversedUsage
from subledger.deciding.new_ids import acting_invoices
from subledger.deciding.second_person import may_ask, may_have_effect
from subledger.errors import IntegrityFault
from subledger.events import references
from subledger.events.data import CreditsTransferred
from subledger.events.envelope import Event
from subledger.events.own_data import BalancesRemeasured
from subledger.events.references import References, once_key
from subledger.kinds import LEDGER_ROLES
from subledger.ledger import LedgerState
from subledger.periods import Period
from subledger.store.database import WriteConnection
from subledger.store.writing.approvals import find_requests
from subledger.store.writing.head import Head
from subledger.store.writing.memory import LedgerMemory
from subledger.store.writing.referenced_rows import (
    EventKey,
    FoundBlock,
    FoundEvent,
    find_blocks,
    find_documents,
    find_expired_blocks,
    find_first,
    find_invoiced_blocks,
    find_known_invoices,
)
from subledger.store.writing.standing import standing_at
from subledger.store.writing.undoing import Undoing
from subledger.store.writing.working_set import WorkingSet

_ONCE_BY_THE_LOG = frozenset({"payout.settled", "payment.refunded", "processor.adjusted"})
"""Payments, invoices and disputes are documents, which are always loaded."""


def load(
    connection: WriteConnection,
    head: Head,
    memory: LedgerMemory,
    events: Sequence[Event],
    wanted: References,
    recorded: Mapping[EventKey, FoundEvent],
) -> WorkingSet:
    """Reads the data that the decisions about these events may need and the memory does not have. The ledger's lock
    must be held.

    ``recorded`` are the events of the log under the keys of ``wanted``.
    """
    memory.load(connection, head)
    working = WorkingSet(memory, recorded)
    _load_requests_and_effects(connection, head, memory, working, events, wanted)
    _load_ids(connection, memory.ledger, working, events)
    if (period := _remeasured_period(events)) is not None:
        working.standings = standing_at(connection, memory.ledger, period.last_day, head.state.functional_currency)
    memory.load_wallets(connection, wanted.customers)
    _load_references(connection, head.state, memory, working, events, wanted)
    return working


def _remeasured_period(events: Sequence[Event]) -> Period | None:
    """The month that a batch remeasures. Raises IntegrityFault for a second one: the standings are of one day."""
    periods = {event.data.period for event in events if type(event.data) is BalancesRemeasured}
    if len(periods) > 1:
        raise IntegrityFault(f"one batch remeasures {', '.join(sorted(periods))}; a close remeasures one month")
    return Period.parse(periods.pop()) if periods else None


def _load_requests_and_effects(
    connection: WriteConnection,
    head: Head,
    memory: LedgerMemory,
    working: WorkingSet,
    events: Sequence[Event],
    wanted: References,
) -> None:
    """Reads requests for a second person under the events' keys, and recent effects of the customers of new events."""
    if memory.has_requests:
        working.requests.update(find_requests(connection, memory.ledger, wanted.keys))
    customers: set[str] = set()
    if may_ask(head.state):
        new = [event for event in events if may_have_effect(event, head.state) and event.key not in working.recorded]
        customers = {event.customer for event in new if event.customer is not None}
        customers |= {event.data.to_customer for event in new if isinstance(event.data, CreditsTransferred)}
    # This call is needed even if the ledger requires no second person. Then no effects are counted, and remembered ones
    # must be dropped.
    memory.effects.load(connection, head.state, customers, head.recorded_at)


def _load_ids(connection: WriteConnection, ledger: str, working: WorkingSet, events: Sequence[Event]) -> None:
    """Reads the events that recorded the same payouts, refunds and adjustments, and the invoices that are known."""
    once = {once_key(event.type, event.data) for event in events if event.type in _ONCE_BY_THE_LOG}
    working.first.update(find_first(connection, ledger, {key for key in once if key is not None}))
    working.known_documents = {(kind, document_id) for kind, _, document_id in working.first}
    working.known_documents |= {
        ("invoice", invoice_id) for invoice_id in find_known_invoices(connection, ledger, acting_invoices(events))
    }


def _load_references(
    connection: WriteConnection,
    state: LedgerState,
    memory: LedgerMemory,
    working: WorkingSet,
    events: Sequence[Event],
    wanted: References,
) -> None:
    """Reads the blocks and documents that the events name, and the blocks and documents to which these refer.

    The order matters: reversed usage names the blocks that it drew on, and documents name further blocks and documents.
    """
    ledger = state.ledger
    documents, blocks = set(wanted.documents), set(wanted.blocks)
    if wanted.undone:
        working.undoing = _load_undone(connection, state, working, events, wanted)
        memory.load_wallets(connection, working.undoing.customers)
        undone_blocks, undone_documents = working.undoing.references
        blocks |= undone_blocks
        documents |= undone_documents
    for key in wanted.reversed:
        found = working.recorded.get(key)
        if isinstance(found, FoundEvent) and found.type == "credits.consumed":
            original = working.originals[key] = found.original()
            documents |= {("overage", str(original.position)), ("correction", str(original.position))}
            blocks |= {movement.block_id for movement in original.decision.movements if movement.block_id is not None}
    for standings in working.standings.values():
        blocks |= {block_id for role, _, block_id in standings if block_id and role not in LEDGER_ROLES}
    found_documents = find_documents(connection, ledger, documents)
    more_blocks, more_documents = references.documents_referenced_by(
        found.document for found in found_documents if not isinstance(found.document, Overage | ReversedUsage)
    )
    found_documents += find_documents(connection, ledger, more_documents - documents)
    found_blocks = find_blocks(connection, ledger, blocks | more_blocks)
    found_blocks += find_invoiced_blocks(connection, ledger, wanted.invoices)
    found_blocks += _expired_blocks(connection, state, events)
    working.add_references(found_blocks, found_documents)
    _load_transferred(connection, memory, working, wanted, found_blocks)


def _load_undone(
    connection: WriteConnection, state: LedgerState, working: WorkingSet, events: Sequence[Event], wanted: References
) -> Undoing:
    """Reads the events that are undone, the later events on them, and the wallets before and after them."""
    for key in wanted.undone:
        found = working.recorded.get(key)
        if isinstance(found, FoundEvent):
            working.originals[key] = found.original()
    undoing = Undoing(state, {key: working.originals[key] for key in wanted.undone if key in working.originals})
    data = [original.event.data for original in undoing.found.values()]
    undoing.load(connection, [*data, *(event.data for event in events if event.key in wanted.undone)])
    return undoing


def _load_transferred(
    connection: WriteConnection,
    memory: LedgerMemory,
    working: WorkingSet,
    wanted: References,
    found_blocks: Sequence[FoundBlock],
) -> None:
    """Reads the bought blocks of the found blocks, and the blocks to which their credits were transferred.

    Events about money are decided at the bought block, for all its transferred credits. Each of these blocks may belong
    to another customer.
    """
    named: set[str] = set()
    if any(not isinstance(working.recorded.get(key), FoundEvent) for key in wanted.reversed):
        # Usage that this batch records may draw on any open block of its customer, and may be reversed in the same
        # batch.
        for customer in wanted.customers:
            named |= {block.origin for block in working.wallet(customer).blocks if block.origin is not None}
            named |= {block_id for block in working.wallet(customer).blocks for block_id, _ in block.handed}
    known = {found.block_id for found in found_blocks}
    while True:
        memory.load_wallets(connection, {found.customer for found in found_blocks})
        working.add_references(found_blocks, ())
        for found in found_blocks:
            block = found.finished or working.wallet(found.customer).block(found.block_id)
            if block is not None:
                named |= {block_id for block_id, _ in block.handed}
                named |= {block.origin} if block.origin is not None else set()
        named -= known
        if not named:
            return
        known |= named
        found_blocks = find_blocks(connection, memory.ledger, named)
        named = set()


def _expired_blocks(connection: WriteConnection, state: LedgerState, events: Sequence[Event]) -> list[FoundBlock]:
    """Returns the finished blocks on which late usage may draw, if the ledger reclassifies late usage."""
    usage = [event for event in events if event.type == "credits.consumed"]
    if not usage or state.late_usage != "reclassify":
        return []
    customers = {event.customer for event in usage if event.customer is not None}
    return find_expired_blocks(connection, state.ledger, customers, min(event.occurred_at for event in usage))
