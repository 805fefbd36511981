"""Check of monetary balances at the head: receivables, disputes, unapplied payments, refunds, tax, cash.

They are summed from the monetary roles of every entry (the same under every policy, see policies), per block, customer,
processor or ledger. The sums are compared with the wallets (in each share) and with the ledger's books (over all
shares). Owns: monetary balances at the head. Does not own: the value of a block (blocks), single billing documents (a
replay compares those).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from projections.integrity.policies import Policies
from projections.replay.customers import Replayer
from projections.replay.findings import Breach
from subledger.billing_documents import NO_STANDING, Dispute, Invoice, Payment, Standing, Standings, subaccount_of
from subledger.events.data import PaymentApplied, PaymentReceived, PaymentRefunded
from subledger.events.envelope import Event
from subledger.events.opened import BalanceOpened
from subledger.kinds import LEDGER_ROLES, Entry
from subledger.store.writing.rows import decode_decision

PositionKey = tuple[str | None, str, str, str]
"""Customer (None: the ledger as a whole), role, currency, and the block or processor, if it has its own balance, else
"".
"""

_OF_PAYMENTS = (PaymentReceived, PaymentApplied, PaymentRefunded, BalanceOpened)
_NEVER_CREDIT = ("accounts_receivable", "unbilled_receivable", "disputes_receivable")
_NEVER_DEBIT = ("customer_balance", "refunds_payable", "unclaimed_property")
# In the functional currency the wallets store no balance of other roles.
_ALWAYS_KEPT = ("customer_balance", "refunds_payable")


class PositionLaws:
    """The balance of every monetary role, debits positive, updated event by event."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies
        self._standing: dict[PositionKey, Standing] = {}
        self._unnamed: Counter[PositionKey] = Counter()

    def take(self, event: Event, entries: Iterable[Entry], decision_text: str) -> None:
        """Takes the entries of one event. Balances of zero are removed, so memory is proportional to open balances."""
        unnamed = _is_unnamed_payment(event, decision_text)
        for entry in entries:
            for role, sign in self._policies.moves(entry).sides:
                key = _key(role, entry)
                amount, functional = self._standing.get(key, NO_STANDING)
                after = Standing(amount + sign * entry.amount_minor, functional + sign * entry.functional_minor)
                if after == NO_STANDING:
                    self._standing.pop(key, None)
                else:
                    self._standing[key] = after
                if unnamed and role == "customer_balance":
                    self._unnamed[key] -= sign * entry.amount_minor

    def of_the_ledger(self) -> dict[PositionKey, Standing]:
        """Returns the balances without a customer that the events of this share moved."""
        return {key: position for key, position in self._standing.items() if key[0] is None}

    def at_head(self, replay: Replayer) -> Iterator[Breach]:
        """Compares every balance of the customers with their wallets: first by role, then by document."""
        own = {key: position for key, position in self._standing.items() if key[0] is not None}
        yield from _by_itself(own)
        remembered: dict[PositionKey, object] = {}
        for customer, wallet in replay.wallets.items():
            remembered |= _remembered(customer, wallet.standings)
        yield from _against("position", remembered, _stored(own, replay.state.functional_currency))
        yield from _against("receivable", _receivables(replay), self._amounts("accounts_receivable"))
        yield from _against("unbilled", _unbilled(replay), self._amounts("unbilled_receivable"))
        yield from _against("dispute", _disputed(replay), self._amounts("disputes_receivable"))
        yield from _against("unclaimed", _unclaimed(replay), self._amounts("unclaimed_property"))
        yield from _against("refund", _refunds(replay), self._amounts("refunds_payable"))
        yield from _freezes(replay)
        yield from self._payments(replay)

    def _amounts(self, role: str) -> dict[PositionKey, object]:
        return {key: amount for key, (amount, _) in self._standing.items() if key[1] == role and amount}

    def _payments(self, replay: Replayer) -> Iterator[Breach]:
        """Compares the unapplied balance with the open amounts of payments, and the rest without a payment id."""
        unapplied = Counter(self._unnamed)
        for customer, document in replay.documents.values():
            if isinstance(document, Payment):
                unapplied[customer, "customer_balance", document.currency, ""] += document.open_minor
                if document.open_minor < 0:
                    yield _breach(
                        f"payment {document.payment_id}",
                        "has a negative open amount",
                        "0 or more",
                        document.open_minor,
                        "payment",
                    )
        owed: dict[PositionKey, object] = {key: -amount for key, amount in unapplied.items() if amount}
        yield from _against("payment", owed, self._amounts("customer_balance"))


def _is_unnamed_payment(event: Event, decision_text: str) -> bool:
    """True for a payment without its own id, or for its undoing, which restores no payment."""
    data = event.data
    if event.type == "event.reversed":
        restored = decode_decision(decision_text).restored
        return not any(isinstance(document, Payment) for part in restored for document in part.documents)
    return isinstance(data, _OF_PAYMENTS) and data.payment_id is None


def ledger_faults(
    standing: Mapping[PositionKey, Standing], remembered: Standings, functional_currency: str
) -> Iterator[Breach]:
    """Compares the balances without a customer, summed over all shares, with the books."""
    yield from _by_itself(standing)
    yield from _against("position", _remembered(None, remembered), _stored(standing, functional_currency))


def _by_itself(standing: Mapping[PositionKey, Standing]) -> Iterator[Breach]:
    for (customer, role, currency, subaccount), (amount, functional) in sorted(standing.items(), key=str):
        name = _named(customer, role, currency, subaccount)
        if not amount and functional:
            yield _breach(name, "has a functional amount but no amount in its currency", 0, functional)
        if (role in _NEVER_CREDIT and amount < 0) or (role in _NEVER_DEBIT and amount > 0):
            yield _breach(name, "is on the wrong side", None, amount)


def _stored(standing: Mapping[PositionKey, Standing], functional_currency: str) -> dict[PositionKey, object]:
    return {
        key: position
        for key, position in standing.items()
        if position != (0, 0) and (key[2] != functional_currency or key[1] in _ALWAYS_KEPT)
    }


def _remembered(customer: str | None, positions: Standings) -> dict[PositionKey, object]:
    remembered: dict[PositionKey, object] = {}
    for name, position in positions.items():
        role, currency, subaccount = name.split(" ", 2)
        if position != (0, 0):
            remembered[customer, role, currency, subaccount] = position
    return remembered


def _against(
    check: str, remembered: Mapping[PositionKey, object], from_entries: Mapping[PositionKey, object]
) -> Iterator[Breach]:
    for key in sorted(remembered.keys() | from_entries.keys(), key=str):
        expected, found = from_entries.get(key), remembered.get(key)
        if expected != found:
            yield _breach(_named(*key), "differs from its entries", expected or 0, found or 0, check)


def _key(role: str, entry: Entry) -> PositionKey:
    is_of_ledger = role in LEDGER_ROLES
    subaccount = entry.dimensions.processor if is_of_ledger else entry.block_id
    return (None if is_of_ledger else entry.customer, role, entry.currency, subaccount_of(role, subaccount))


def _named(customer: str | None, role: str, currency: str, subaccount: str) -> str:
    return " ".join(
        part for part in (role, currency, subaccount, f"of {customer}" if customer is not None else "") if part
    )


def _breach(name: str, statement: str, expected: object, found: object, check: str = "position") -> Breach:
    return Breach(check=check, message=f"{name} {statement}", subject=name, expected=expected, found=found)


# --- balances in the wallets ------------------------------------------------------------------------------------


def _receivables(replay: Replayer) -> dict[PositionKey, object]:
    """Returns the receivables by block, and for all overage invoices of a customer together (an entry has no invoice
    id).
    """
    owed: Counter[PositionKey] = Counter()
    for block_id, (customer, block) in replay.blocks.items():
        owed[customer, "accounts_receivable", block.currency, block_id] = block.receivable_minor
    for customer, document in replay.documents.values():
        if isinstance(document, Invoice):
            owed[customer, "accounts_receivable", document.currency, ""] += document.receivable_minor
    return {key: amount for key, amount in owed.items() if amount}


def _unbilled(replay: Replayer) -> dict[PositionKey, object]:
    unbilled: Counter[PositionKey] = Counter()
    for customer, wallet in replay.wallets.items():
        for overage in wallet.overages:
            unbilled[customer, "unbilled_receivable", overage.currency, ""] += overage.open_minor
    return {key: amount for key, amount in unbilled.items() if amount}


def _disputed(replay: Replayer) -> dict[PositionKey, object]:
    """Returns the amounts in undecided disputes."""
    disputed: Counter[PositionKey] = Counter()
    for customer, document in replay.documents.values():
        if isinstance(document, Dispute) and document.decided is None:
            for part in document.parts:
                disputed[customer, "disputes_receivable", document.currency, part.block_id or ""] += part.amount_minor
    return {key: amount for key, amount in disputed.items() if amount}


def _unclaimed(replay: Replayer) -> dict[PositionKey, object]:
    """Returns the escheated remainders of blocks that are owed to a state."""
    unclaimed: dict[PositionKey, object] = {}
    for block_id, (customer, block) in replay.blocks.items():
        if block.unclaimed_minor:
            unclaimed[customer, "unclaimed_property", block.currency, block_id] = -block.unclaimed_minor
    return unclaimed


def _refunds(replay: Replayer) -> dict[PositionKey, object]:
    """Refunds that are owed, of all blocks and invoices of a customer."""
    owed: Counter[PositionKey] = Counter()
    for customer, wallet in replay.wallets.items():
        for refund in wallet.refunds_owed:
            owed[customer, "refunds_payable", refund.currency, ""] -= refund.amount_minor
    return {key: amount for key, amount in owed.items() if amount}


def _freezes(replay: Replayer) -> Iterator[Breach]:
    """Checks that the number of freezes of a block is the number of undecided disputes over it."""
    disputes = Counter(
        part.block_id
        for _, document in replay.documents.values()
        if isinstance(document, Dispute) and document.decided is None
        for part in document.parts
        if not part.given_back  # the part has nothing of the block any more
    )
    for block_id, (_, block) in replay.blocks.items():
        if block.disputes != disputes[block_id]:
            yield Breach(
                check="dispute",
                message=f"the freezes of block {block_id} differ from its open disputes",
                subject=block_id,
                expected=disputes[block_id],
                found=block.disputes,
            )
