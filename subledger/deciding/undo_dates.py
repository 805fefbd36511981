"""Dates of the entries that undo an event.

A mirrored entry has the date of the event that undoes, and no earlier date than the entry that it mirrors. An entry
that takes credits and value from a block may have to wait for a day from which the block always has them. Owns: these
dates. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Final

from msgspec.structs import replace

from subledger.availability import Change as DayChange
from subledger.availability import Changes, Portion, first_day, negative, plus, with_change
from subledger.balance_days import OWED_ROLES
from subledger.billing_documents import Invoice
from subledger.blocks import Block
from subledger.deciding.context import Dates
from subledger.events.envelope import Event
from subledger.evolving import with_standings
from subledger.kinds import KIND_BY_NAME, Effect
from subledger.wallet import Movement, Wallet

_RECEIVABLE: Final = "accounts_receivable"


def value_change(movement: Movement, block: Block) -> Portion | None:
    """The credits and value that a movement adds to a block (negative if it takes them); None if it changes neither."""
    kind = KIND_BY_NAME[movement.kind]
    if kind.column is None and kind.effect is not Effect.REVALUES:
        return None
    functional = 0 if block.rate is None else kind.value_sign * (movement.functional_minor or 0)
    return Portion(kind.sign * movement.credits, kind.sign * movement.amount_minor, functional)


def receivable_added(movement: Movement) -> int:
    """The amount that a movement adds to a receivable; negative if it takes it off."""
    kind = KIND_BY_NAME[movement.kind]
    return ((kind.debit_role == _RECEIVABLE) - (kind.credit_role == _RECEIVABLE)) * movement.amount_minor


def block_of(movement: Movement, wallets: Mapping[str, Wallet], event: Event) -> Block | None:
    """The block that a movement is on, as it is now; None if it is on none."""
    wallet = wallets.get(movement.customer or event.customer or "")
    return None if wallet is None or movement.block_id is None else wallet.block(movement.block_id)


def dated(
    mirrors: Sequence[Movement],
    wallets: Mapping[str, Wallet],
    event: Event,
    dates: Dates,
    functional_currency: str,
    *,
    as_left: bool,
) -> list[Movement]:
    """Mirrored movements with their dates. Movements of block value get a common first day, as in a transfer.

    ``as_left``: the figures by day of blocks and balances are still those after the event. Then mirrored entries on the
    dates of the original entries restore every view, so none has to wait.
    """
    movements = [_with_date(mirror, wallets, event, dates, date.min) for mirror in mirrors]
    same_days = all(one.accounting_date == other.accounting_date for one, other in zip(mirrors, movements, strict=True))
    if as_left and same_days:
        return movements
    while (floor := _later_day(movements, wallets, event)) is not None:
        movements = [_with_date(mirror, wallets, event, dates, floor) for mirror in mirrors]
    movements = [_when_receivable(movement, wallets, event) for movement in movements]
    return list(_when_owed(movements, wallets, event, functional_currency))


def _when_receivable(movement: Movement, wallets: Mapping[str, Wallet], event: Event) -> Movement:
    """A movement that takes an amount off a receivable is not dated before that amount is owed."""
    amount, on = -receivable_added(movement), movement.accounting_date
    if amount <= 0:
        return movement
    block, wallet = block_of(movement, wallets, event), wallets.get(movement.customer or event.customer or "")
    if movement.invoice_id is None and block is not None:
        on = max(on, block.owed_from(amount))
    elif movement.invoice_id is not None and wallet is not None:
        invoice = wallet.document(Invoice, movement.invoice_id)
        on = on if invoice is None else max(on, invoice.invoiced_on)
    return movement if on == movement.accounting_date else replace(movement, accounting_date=on)


def _when_owed(
    movements: Iterable[Movement], wallets: Mapping[str, Wallet], event: Event, functional_currency: str
) -> Iterator[Movement]:
    """The movements. Those that reduce an amount owed to a customer are not dated before it is owed."""
    current = dict(wallets)
    for movement in movements:
        customer, kind = movement.customer or event.customer or "", KIND_BY_NAME[movement.kind]
        wallet = current.get(customer)
        if wallet is None:
            yield movement
            continue
        role = kind.debit_role if movement.amount_minor > 0 else kind.credit_role
        if role in OWED_ROLES:
            currency, amount = movement.currency or functional_currency, abs(movement.amount_minor)
            on = wallet.owed_from(role or "", currency, amount, movement.accounting_date)
            movement = movement if on == movement.accounting_date else replace(movement, accounting_date=on)
        current[customer] = with_standings(wallet, movement, functional_currency, None)
        yield movement


def _with_date(mirror: Movement, wallets: Mapping[str, Wallet], event: Event, dates: Dates, floor: date) -> Movement:
    block = block_of(mirror, wallets, event)
    moves_value = block is not None and value_change(mirror, block) is not None
    on = dates.on(mirror.accounting_date, floor if moves_value else None)
    return mirror if on == mirror.accounting_date else replace(mirror, accounting_date=on)


def _later_day(movements: Iterable[Movement], wallets: Mapping[str, Wallet], event: Event) -> date | None:
    """The first later day to which a loss must move; None if every loss can have its own date."""
    states: dict[str, tuple[Portion, Changes]] = {}
    for movement in movements:
        block = block_of(movement, wallets, event)
        change = None if block is None else value_change(movement, block)
        if block is None or change is None:
            continue
        left, changes = states.get(block.block_id, (block.left, block.changes))
        on = movement.accounting_date
        if change.credits < 0 or change.amount_minor < 0 or change.functional_minor < 0:
            first = first_day(changes, on=max(on, block.losses_from), left=left, loss=negative(change))
            if first > on:
                return first
        left = plus(left, change)
        states[block.block_id] = (left, with_change(changes, DayChange(on, *change)))
    return None
