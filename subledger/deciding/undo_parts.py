"""The parts of a wallet that an undone event had changed: compared with the present state, and restored.

An event may have changed a block's credits and value, its money (receivable, tax; paid, conceded and disputed amounts),
or both. Only the changed group must still be as it was after the event. So a payment that bounces can be undone after
later usage, but a purchase cannot. Every figure that decides the received or owed amount of a block belongs to its
money. So a payment cannot be undone as long as a later amount depends on it: one that was owed back, paid or given up.

Owns: these groups of figures, the comparison, the restored values. Does not own: the entries (undo), their dates
(undo_dates). Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, Final

from msgspec.structs import replace

from subledger import errors
from subledger.availability import Change
from subledger.balance_days import DayAmounts
from subledger.billing_documents import BillingDocument, Dispute, Invoice, Overage, Payment, RefundOwed, RefundsOwed
from subledger.blocks import ZERO, Block, Segment
from subledger.deciding.context import Around
from subledger.deciding.undo_dates import receivable_added, value_change
from subledger.events.envelope import Event
from subledger.evolving import changes_after, owing
from subledger.kinds import KIND_BY_NAME
from subledger.ledger import LedgerState
from subledger.restored import Restored
from subledger.wallet import Movement, Wallet

MONEY: Final = frozenset({
    "tax_minor", "taxed_minor", "receivable_minor", "cancelled_minor", "tax_reversed_minor",
    "tax_taken_minor", "given_up_minor", "disputed_minor", "conceded_minor", "conceded_by", "claimed_minor",
    "processor", "processor_minor", "other_processors", "chargeable", "written_off", "frozen", "disputes",
})  # fmt: skip
"""Figures of a block about money: the owed and received amounts, and the disputes about them."""

BY_DAY: Final = frozenset({"changes", "losses_from", "receivable_from"})
"""Figures by day. The mirrored entries change them, on their own days."""

WAITING: Final = frozenset({"breakable_from"})

PAST: Final = frozenset({"before"})
"""Figures of before a cut-over. Only openings change them."""

CREDITS: Final = frozenset(Block.__struct_fields__) - MONEY - BY_DAY - WAITING - PAST
"""Figures of a block about its credits and their value, with its terms."""

GROUPS: Final = (CREDITS, MONEY, WAITING, PAST)

_GIVES_BACK: Final = ("voided", "refunded", "charged_back", "written_off", "escheated")
"""Columns of a block whose value was owed back, and so depends on the received amounts."""


def restored_part(
    around: Around,
    now: Wallet,
    mirrors: Sequence[Movement],
    movements: Sequence[Movement],
    event: Event,
    state: LedgerState,
) -> Restored | None:
    """The parts of a customer's wallet that an event had changed, with their values before it; None if there are none.

    ``mirrors``: the mirrored movements with their original dates. ``movements``: the same with their new dates. Raises
    ChangedSince.
    """
    before, after = around.before, around.after
    own = [
        pair for pair in zip(mirrors, movements, strict=True) if (pair[1].customer or event.customer) == now.customer
    ]
    _check_balance(now, movements, event, state.functional_currency)
    restored = Restored(
        customer=now.customer,
        blocks=tuple(_blocks(before, after, now, own, event, state.closed_through)),
        overages=tuple(_overages(before, after, now)),
        documents=tuple(_documents(before, after, now, own)),
        refunds_owed=_refunds(before, after, now),
        balance_held=_held(before, after, now),
        balance_days=_balance_days(before, after, now) if _has_same_days(own) else {},
    )
    return None if restored == Restored(customer=now.customer) else restored


def has_same_days_as_then(around: Around, now: Wallet) -> bool:
    """True if the figures by day, of changed parts and of balances, are still those after the event."""
    for _, block in around.after.blocks.changes_since(around.before.blocks):
        current = None if block is None else now.block(block.block_id)
        if block is None or current is None:
            continue
        if any(getattr(current, name) != getattr(block, name) for name in BY_DAY):
            return False
    for _, document in around.after.documents.changes_since(around.before.documents):
        if isinstance(document, Invoice):
            current_invoice = now.document(Invoice, document.invoice_id)
            if current_invoice is not None and current_invoice.invoiced_on != document.invoiced_on:
                return False
    return now.balance_days == around.after.balance_days


def _changed(what: str, customer: str, **facts: Any) -> errors.ChangedSince:
    """The refusal. The later event is looked up after the commit (``store/writing/explaining``)."""
    return errors.ChangedSince(
        f"{what} was changed by a later event: take that back first",
        field="data.event_id",
        expected="an event on which nothing was built",
        found=what,
        customer=customer,
        **facts,
    )


# --- blocks -------------------------------------------------------------------------------------------------------


_Dated = tuple[Movement, Movement]
"""A mirrored movement with its original date, and with its new date."""


def _blocks(
    before: Wallet, after: Wallet, now: Wallet, own: Sequence[_Dated], event: Event, closed_through: date | None
) -> Iterator[Block]:
    for was, then in after.blocks.changes_since(before.blocks):
        if then is None or then == was:
            continue
        current = now.state_of_block(then.block_id)
        for group in GROUPS:
            if (was is None or _figures(was, group) != _figures(then, group)) and (
                _figures(current, group) != _figures(then, group)
            ):
                raise _changed(f"block {then.block_id}", now.customer, block_id=then.block_id)
        if was is None:
            yield _emptied(current)
            continue
        fields: dict[str, Any] = {}
        for group in GROUPS:
            if _figures(was, group) != _figures(then, group):
                fields |= {name: getattr(was, name) for name in group}
        by_day = _by_day(was, then, current, own, closed_through)
        block = replace(current, **fields, **{name: getattr(by_day, name) for name in BY_DAY})
        passed = block.expires_at is not None and block.expires_at <= event.occurred_at
        for mirror, movement in own if passed else ():
            # Until now the other expiry allowed usage of the credits, so their breakage is not dated earlier.
            if movement.kind == "expiry_changed" and movement.accounting_date > mirror.accounting_date:
                block = block.breakable_after(movement.accounting_date)
        yield block


def _figures(block: Block, group: frozenset[str]) -> tuple[Any, ...]:
    """The figures of a group, for comparison. A column that is empty again equals one that was never filled."""
    columns = {name: part for name, part in block.disposed.items() if any(part)}
    compared = {"disposed": columns, "segment": _without_returned(block.segment)}
    figures = tuple(compared[name] if name in compared else getattr(block, name) for name in sorted(group))
    return (*figures, *(columns.get(name) for name in _GIVES_BACK)) if group is MONEY else figures


def _without_returned(segment: Segment | None) -> Segment | None:
    """A segment, for comparison. Draws that were all reversed equal no draws."""
    if segment is None or any(map(sum, zip(*(change[1:] for change in segment.days), strict=True))):
        return segment
    return replace(segment, days=())


def _emptied(block: Block) -> Block:
    """A block whose opening is undone: its terms, without credits and value."""
    return replace(
        block,
        credits=ZERO,
        price_minor=0,
        price_functional=0,
        used=ZERO,
        drawn_minor=0,
        drawn_functional=0,
        redemption_tax_minor=0,
        disposed={},
        tax_minor=0,
        taxed_minor=0,
        tax_taken_minor=0,
        conceded_minor=0,
        conceded_by=None,
        processor_minor=0,
        chargeable=(),
        receivable_minor=0,
        receivable_from=(),
        changes=(),
        undone=True,
    )


def _by_day(was: Block, then: Block, current: Block, own: Sequence[_Dated], closed_through: date | None) -> Block:
    """A block whose figures by day are those after the mirrored movements.

    If the mirrored entries have the dates of the original entries, and nothing changed in between, these are the
    figures before the event. Otherwise restored credits, value and debts count from the dates of the mirrored entries
    on.
    """
    mine = [pair for pair in own if pair[1].block_id == then.block_id]
    same_days = _has_same_days(mine)
    if same_days and all(getattr(current, name) == getattr(then, name) for name in BY_DAY):
        return was
    for _, movement in mine:
        change = value_change(movement, current)
        if change is not None:
            changes, losses_from = changes_after(current, Change(movement.accounting_date, *change), closed_through)
            current = replace(current, changes=changes, losses_from=losses_from)
        if movement.invoice_id is None and receivable_added(movement) > 0:
            current = owing(current, receivable_added(movement), movement.accounting_date)
    return current


# --- overage and documents ----------------------------------------------------------------------------------------


def _overages(before: Wallet, after: Wallet, now: Wallet) -> Iterator[Overage]:
    for was, then in after.overages.changes_since(before.overages):
        if then is None or was == then:
            continue
        if now.state_of_overage(then.position) != then:
            raise _changed(f"the overage of position {then.position}", now.customer)
        # Overage that was opened at a cut-over stays as a row, with nothing unbilled.
        yield replace(then, restored=then.credits, restored_minor=then.amount_minor) if was is None else was


def _documents(before: Wallet, after: Wallet, now: Wallet, own: Sequence[_Dated]) -> Iterator[BillingDocument]:
    for was, then in after.documents.changes_since(before.documents):
        if then is None or was == then:
            continue
        key = (then.document_kind, then.document_id)
        current = now.documents.get(key)
        if isinstance(current, Invoice) and isinstance(then, Invoice):
            current, invoiced_on = replace(current, invoiced_on=then.invoiced_on), current.invoiced_on
            if isinstance(was, Invoice):
                was = replace(was, invoiced_on=max(invoiced_on, _owed_again(was, own, then.invoiced_on)))
        if current != then:
            raise _changed(f"the {key[0]} {key[1]}", now.customer, **{f"{key[0]}_id": key[1]})
        yield _undone(then) if was is None else was


def _owed_again(invoice: Invoice, own: Sequence[_Dated], invoiced_on: date) -> date:
    """The day from which the receivable of an invoice is owed; later if a part of it is restored on a later day."""
    days = [
        movement.accounting_date
        for mirror, movement in own
        if movement.invoice_id == invoice.invoice_id
        and receivable_added(movement) > 0
        and movement.accounting_date > mirror.accounting_date
    ]
    return max((invoiced_on, *days))


def _undone(document: BillingDocument) -> BillingDocument:
    """A payment, an invoice or a dispute whose event is undone: only its id."""
    match document:
        case Payment():
            return Payment(payment_id=document.payment_id, currency=document.currency, undone=True)
        case Invoice():
            return Invoice(invoice_id=document.invoice_id, currency=document.currency, undone=True)
        case Dispute():
            return Dispute(dispute_id=document.dispute_id, currency=document.currency, parts=(), undone=True)
    raise errors.IntegrityFault(
        f"{document.document_kind} {document.document_id} is made by an event that is not undone"
    )


# --- what is owed back, and unapplied money -----------------------------------------------------------------------

_RefundKey = tuple[str | None, str | None, str]


def _by_key(refunds: RefundsOwed) -> dict[_RefundKey, RefundOwed]:
    return {(refund.block_id, refund.invoice_id, refund.currency): refund for refund in refunds}


def _refunds(before: Wallet, after: Wallet, now: Wallet) -> RefundsOwed | None:
    """The refunds owed, without those that the event added, and with those that it paid; None if it did neither."""
    if before.refunds_owed == after.refunds_owed:
        return None
    was, then, current = _by_key(before.refunds_owed), _by_key(after.refunds_owed), _by_key(now.refunds_owed)
    changed = {key for key in was.keys() | then.keys() if was.get(key) != then.get(key)}
    for key in sorted(changed, key=str):
        if current.get(key) != then.get(key):
            block_id, invoice_id, currency = key
            facts = {name: text for name, text in (("block_id", block_id), ("invoice_id", invoice_id)) if text}
            of = " of ".join(filter(None, (currency, block_id or invoice_id)))
            raise _changed(f"what is owed back in {of}", now.customer, **facts)
    if now.refunds_owed == after.refunds_owed:
        return before.refunds_owed
    # A refund that the event paid was owed before the event, so it is the oldest one.
    paid = [refund for key, refund in was.items() if key in changed and key not in current]
    others = [was.get(key) if key in changed else refund for key, refund in current.items()]
    return (*paid, *(refund for refund in others if refund is not None))


def _held(before: Wallet, after: Wallet, now: Wallet) -> dict[str, int] | None:
    """The unapplied money that disputes hold, without the part that the event added; None if it changed nothing."""
    if before.balance_held == after.balance_held:
        return None
    held = dict(now.balance_held)
    for currency in before.balance_held.keys() | after.balance_held.keys():
        change = before.balance_held.get(currency, 0) - after.balance_held.get(currency, 0)
        held[currency] = held.get(currency, 0) + change
    return {currency: amount for currency, amount in sorted(held.items()) if amount}


def _has_same_days(own: Sequence[_Dated]) -> bool:
    return all(mirror.accounting_date == movement.accounting_date for mirror, movement in own)


def _balance_days(before: Wallet, after: Wallet, now: Wallet) -> dict[str, DayAmounts]:
    """The earlier days of balances that have not changed since the event; needed because a balance of zero has none."""
    moved = {
        name
        for name in before.balance_days.keys() | after.balance_days.keys()
        if before.balance_days.get(name) != after.balance_days.get(name)
    }
    same = [name for name in sorted(moved) if now.balance_days.get(name) == after.balance_days.get(name)]
    return {name: before.balance_days.get(name, ()) for name in same}


def _check_balance(now: Wallet, movements: Sequence[Movement], event: Event, functional_currency: str) -> None:
    """Raises ChangedSince if unapplied money that the event brought in was applied or paid back since."""
    taken: dict[str, int] = {}
    for movement in movements:
        if (movement.customer or event.customer) == now.customer:
            kind, currency = KIND_BY_NAME[movement.kind], movement.currency or functional_currency
            moved = (kind.debit_role == "customer_balance") - (kind.credit_role == "customer_balance")
            taken[currency] = taken.get(currency, 0) + moved * movement.amount_minor
    for currency, amount in taken.items():
        if amount > now.free_balance(currency) and amount > 0:
            raise _changed(f"unapplied money of {now.customer} in {currency}", now.customer)
