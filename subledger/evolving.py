"""Evolving: the change of a wallet by a decision, movement by movement.

Owns: ``evolve``, and the effect of each kind of movement on a block and an overage. Does not own: payments, invoices
and disputes (evolving_documents), the values (wallet, billing_documents), the decision (deciding), the ledger's own
books (books). Pure and total: replaying a log gives the same wallets.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from msgspec.structs import replace

from subledger import lapses as lapses_of
from subledger import segments
from subledger.availability import Change, Changes, Portion, negative, remembered, with_change
from subledger.balance_days import OWED_ROLES, DayAmounts, with_amount
from subledger.billing_documents import NO_STANDING, Overage, Standings, moved, refunds_after, standing_name
from subledger.blocks import NO_PORTION, PAID, ZERO, Block
from subledger.errors import IntegrityFault, present
from subledger.events.data import (
    BlockExpiryChanged,
    ConsumptionReversed,
    CreditMemoIssued,
    CreditsConsumed,
    CreditsExpired,
    CreditsGranted,
    CreditsPurchased,
    CreditsTransferred,
    DisputeLost,
    DisputeWon,
    EventReversed,
    PaymentReceived,
)
from subledger.events.envelope import Event
from subledger.events.opened import BalanceOpened
from subledger.evolving_documents import remember_document
from subledger.kinds import KIND_BY_NAME, LEDGER_ROLES, Effect, Kind
from subledger.own_dimensions import text_of
from subledger.wallet import Decision, Movement, Wallet, carry_after_restoring, price_overage
from subledger.written_off import written_off_after


def evolve(
    wallet: Wallet,
    event: Event,
    decision: Decision,
    *,
    position: int,
    functional_currency: str,
    closed_through: date | None,
) -> Wallet:
    """The wallet after a decision. Total: it applies any decision that ``decide`` can make, without checks.

    ``closed_through``: its value before the event. Days of closed months need not be stored separately any more. Raises
    IntegrityFault if the wallet lacks a block or document of the decision: it was not recalled, or the log was changed.
    """
    if isinstance(event.data, EventReversed):
        return _undone(wallet, event, decision, functional_currency, closed_through)
    for movement in decision.movements:
        if (movement.customer or event.customer) == wallet.customer:
            wallet = _apply(wallet, event, decision, movement, position, functional_currency, closed_through)
    if event.customer == wallet.customer:
        if decision.original_position is not None:
            wallet = _remember_reversal(wallet, decision, decision.original_position)
        # Most events are usage. Usage makes no document, but it may end a reservation.
        if type(event.data) is not CreditsConsumed or event.data.reservation_id is not None:
            wallet = remember_document(wallet, event, decision, functional_currency)
    return wallet


def _undone(
    wallet: Wallet, event: Event, decision: Decision, functional_currency: str, closed_through: date | None
) -> Wallet:
    """The wallet after an event was undone. Standings are sums, so the mirrored entries move them back.

    All other parts are replaced by those that the decision restored, because the effect of a mirrored entry on them
    would depend on the undone event.
    """
    for movement in decision.movements:
        if (movement.customer or event.customer) == wallet.customer:
            wallet = with_standings(wallet, movement, functional_currency, closed_through)
    for restored in decision.restored:
        if restored.customer == wallet.customer:
            wallet = wallet.with_restored(restored)
    return wallet


def apply_movement(
    wallet: Wallet, event: Event, decision: Decision, movement: Movement, functional_currency: str
) -> Wallet:
    """The wallet after one movement, for a decision that is still being made."""
    return _apply(wallet, event, decision, movement, 0, functional_currency, None)


def _apply(
    wallet: Wallet,
    event: Event,
    decision: Decision,
    movement: Movement,
    position: int,
    functional_currency: str,
    closed_through: date | None,
) -> Wallet:
    kind = KIND_BY_NAME[movement.kind]
    if kind.debit_role is not None or kind.credit_role is not None:
        wallet = with_standings(wallet, movement, functional_currency, closed_through)
        wallet = _with_refunds(wallet, movement, kind, functional_currency)
    if movement.kind == "overage":
        return _apply_overage(wallet, event, movement, position)
    if movement.kind == "opening_unbilled_receivable":
        return _with_opened_overage(wallet, event, movement, position)
    if movement.kind == "overage_billed":
        return _settle(wallet, event, movement)
    if movement.block_id is None:
        return wallet
    if kind.opens_block:
        return wallet.with_block(_new_block(event, decision, movement, position, functional_currency))
    block = wallet.state_of_block(movement.block_id)
    if movement.kind == "overage_backfilled":
        wallet = _settle(wallet, event, movement)
    block = _changed(block, event, movement, kind, closed_through)
    new = decision.new_block
    if new is not None and kind.name == "transfer_out" and new.origin == block.block_id and movement.credits > 0:
        holder = event.data.to_customer if isinstance(event.data, CreditsTransferred) else wallet.customer
        block = replace(block, handed=(*block.handed, (new.block_id, holder)))
    return wallet.with_block(block)


def block_after(block: Block, event: Event, movement: Movement) -> Block:
    """A block after a movement on it, for a decision that is still being made."""
    return _changed(block, event, movement, KIND_BY_NAME[movement.kind], None)


def _changed(block: Block, event: Event, movement: Movement, kind: Kind, closed_through: date | None) -> Block:
    """A block after a movement on it."""
    amount, credits, functional = movement.amount_minor, movement.credits, movement.functional_minor or 0
    sign = kind.sign
    by_day = Change(
        movement.accounting_date, sign * credits, sign * amount, 0 if block.rate is None else sign * functional
    )
    match kind.column:
        case "consumed":
            undrawn = block
            changes, losses_from = changes_after(block, by_day, closed_through)
            block = replace(
                block,
                used=block.used + credits,
                drawn_minor=block.drawn_minor + amount,
                drawn_functional=block.drawn_functional + functional,
                changes=changes,
                losses_from=losses_from,
            )
            if kind.redeems_tax:
                block = replace(block, redemption_tax_minor=block.redemption_tax_minor + amount)
            if block.segment is not None:
                block = _in_segments(undrawn, block, event, movement, by_day, closed_through)
        case "repriced":
            block = _repriced(block, event, movement, by_day, closed_through)
        case str() as column:
            before = block.disposed.get(column, NO_PORTION)
            after = Portion(
                before.credits - sign * credits,
                before.amount_minor - sign * amount,
                before.functional_minor - sign * functional,
            )
            changes, losses_from = changes_after(block, by_day, closed_through)
            disposed = {**block.disposed, column: after}
            block = replace(block, disposed=disposed, changes=changes, losses_from=losses_from)
            if column in ("expired", "escheated"):
                block = _broken(block, event, movement, -sign)
            if column == "transferred" and isinstance(event.data, CreditsExpired) and block.origin is not None:
                block = replace(block, expired=True)  # the bought block passed its value on to a state
        case None:
            block = _without_value(block, event, movement, kind, closed_through)
    if kind.credit_role == "disputes_receivable" and kind.effect is not Effect.WINS_DISPUTE and not movement.given_back:
        block = replace(block, disputed_minor=block.disputed_minor - amount)
    if kind.debit_role == "refunds_payable" and kind.credit_role == "processor_clearing":
        block = block.paid_through(movement.processor, -amount)
    if kind.gives_up:
        block = replace(
            block,
            given_up_minor=block.given_up_minor + (-amount if kind.recovers else amount),
            written_off=written_off_after(
                block.written_off, kind.writes_off, amount, movement.accounting_date, recovers=kind.recovers
            ),
        )
    if kind.cancels:
        block = replace(block, cancelled_minor=block.cancelled_minor + amount)
    if movement.invoice_id is None:
        if kind.debit_role == "accounts_receivable":
            block = _owing(block, amount, movement.accounting_date)
        if kind.credit_role == "accounts_receivable":
            block = replace(block, receivable_minor=block.receivable_minor - amount)
    return _taken_over(block, kind, amount, movement.accounting_date) if kind.opens_balance else block


def _taken_over(block: Block, kind: Kind, amount: int, on: date) -> Block:
    """A block after one of its balances was opened: the change of its paid amount, and of its escheated value."""
    before = present(block.before, "an opened block has a past")
    if kind.credit_role == "unclaimed_property":
        last_breakage_date = max(block.last_breakage_date or on, on)  # nothing is paid to the state before it
        before = replace(before, escheated_minor=before.escheated_minor + amount)
        block = replace(block, before=before, last_breakage_date=last_breakage_date)
    if kind.credit_role == "refunds_payable":
        block = replace(block, before=replace(before, refunded_minor=before.refunded_minor + amount))
    if block.processor is None:
        return block
    if kind.debit_role == "accounts_receivable":  # the unpaid part did not come through a processor
        return block.paid_through(block.processor, -amount).charged_through(block.processor, amount)
    if kind.credit_role in ("refunds_payable", "unclaimed_property"):
        return block.paid_through(block.processor, amount).charged_through(block.processor, -amount)
    return block


def changes_after(block: Block, change: Change, closed_through: date | None) -> tuple[Changes, date]:
    """The changes of a block with one more, and the block's new first day for a loss."""
    changes, losses_from = block.changes, block.losses_from
    if change.on <= losses_from:
        return changes, losses_from  # no loss is dated before losses_from
    after = with_change(changes, change)
    if changes and changes[-1].on == change.on and (closed_through is None or changes[0].on > closed_through):
        return after, losses_from  # same last day, as for most usage: nothing to forget
    after, last_gain = remembered(after, closed_through)
    return after, losses_from if last_gain is None else max(losses_from, last_gain)


def _in_segments(
    before: Block, block: Block, event: Event, movement: Movement, by_day: Change, closed_through: date | None
) -> Block:
    """A repriced block with a draw, a mirror or a correction added to its segments."""
    back, given_back = movement.segments_back, Portion(*by_day[1:])
    if movement.used_at is not None and not movement.credits:
        if KIND_BY_NAME[movement.kind].redeems_tax:  # the movement of the credits came first, and began the segment
            back = segments.segments_back(block, event.occurred_at)
        return segments.with_more_given_back(block, back, given_back)
    # No moment is stored: the usage was reversed under earlier rules, and happened before the segment.
    earlier = not back and block.segment is not None and block.used < block.segment.used
    if movement.used_at is not None or earlier:
        used_at = movement.used_at or block.starts_at
        return segments.with_segment(before, block, event.occurred_at, by_day.on, given_back, used_at=used_at)
    change = Change(by_day.on, *negative(given_back))
    corrects = not movement.credits and movement.kind == "consumption"
    return segments.with_draw(block, change, back, corrects=corrects, closed_through=closed_through)


def _repriced(block: Block, event: Event, movement: Movement, by_day: Change, closed_through: date | None) -> Block:
    """A block with a new segment, which has the remaining and the added credits and price."""
    changes, losses_from = changes_after(block, by_day, closed_through)
    repriced = replace(
        block,
        credits=block.credits + movement.credits,
        price_minor=block.price_minor + movement.amount_minor,
        price_functional=block.price_functional + (movement.functional_minor or 0),
        taxed_minor=block.taxed_minor + movement.amount_minor if block.tax_minor else 0,
        losses_from=losses_from,
        changes=changes,
    )
    added = Portion(*by_day[1:])
    return segments.with_segment(block, repriced, event.occurred_at, by_day.on, added, used_at=None)


def _broken(block: Block, event: Event, movement: Movement, sign: int) -> Block:
    """A block after breakage or escheat (``sign`` 1), or after their mirror. Their days may be in any order."""
    on, credits, amount = movement.accounting_date, sign * movement.credits, sign * movement.amount_minor
    if KIND_BY_NAME[movement.kind].column == "expired":
        functional = 0 if block.rate is None else sign * (movement.functional_minor or 0)
        block = _with_lapses(block, event, on, Portion(credits, amount, functional))
    if credits <= 0 or isinstance(event.data, CreditsConsumed):
        return block  # a changed expiry has set ``expired`` already
    last_breakage_date = max(block.last_breakage_date or on, on)
    return replace(block, last_breakage_date=last_breakage_date, expired=block.expired or _expires(block, event))


def _expires(block: Block, event: Event) -> bool:
    """True if the event is the expiry of this block, and not breakage of transferred credits or an early escheat.

    A block that escheated early is not expired, because usage of it may be reversed.
    """
    data = event.data
    if isinstance(data, ConsumptionReversed):
        return block.expires_at is not None and block.expires_at <= event.occurred_at
    return isinstance(data, CreditsExpired | BlockExpiryChanged) and data.block_id == block.block_id


def _with_lapses(block: Block, event: Event, on: date, broke: Portion) -> Block:
    """A block with more breakage on a day, or less (negative)."""
    if isinstance(event.data, BlockExpiryChanged):
        lapses = lapses_of.brought_back(block.lapses, on)
    elif broke.credits < 0:
        lapses = lapses_of.taken_back(block.lapses, on, negative(broke))
    elif isinstance(event.data, CreditsConsumed):  # late usage cancels credits that came back
        lapses = lapses_of.broken_again(block.lapses, on, broke)
    else:
        lapses = lapses_of.broken(block.lapses, on, broke)
    return replace(block, lapses=lapses)


def _owing(block: Block, amount: int, on: date) -> Block:
    """A block whose receivable has changed by an amount, from a day on."""
    return replace(owing(block, amount, on), receivable_minor=block.receivable_minor + amount)


def owing(block: Block, amount: int, on: date) -> Block:
    """A block that stores the day from which an amount of its receivable is owed, if it is after the opening."""
    if amount <= 0 or on <= block.opened_on:
        return block
    days = block.receivable_from
    same = sum(owed for day, owed in days if day == on)
    days = tuple(sorted([*(day for day in days if day[0] != on), (on, same + amount)]))
    return replace(block, receivable_from=days)


def _without_value(block: Block, event: Event, movement: Movement, kind: Kind, closed_through: date | None) -> Block:
    """A block after a movement that leaves its credits and value alone."""
    amount = -movement.amount_minor if kind.recovers else movement.amount_minor
    match kind.effect:
        case Effect.CHANGES_EXPIRY:
            expires_at = event.data.expires_at if isinstance(event.data, BlockExpiryChanged) else block.expires_at
            passed = expires_at is not None and expires_at <= event.occurred_at
            block = block.breakable_after(movement.accounting_date)
            return replace(block, expires_at=expires_at, expired=block.expired and passed)
        case Effect.TAXES:
            return replace(block, tax_minor=block.tax_minor + amount, taxed_minor=block.sold_minor)
        case Effect.REVERSES_TAX if not isinstance(event.data, CreditMemoIssued):
            return replace(block, tax_reversed_minor=block.tax_reversed_minor + amount)
        case Effect.REVERSES_TAX | Effect.TAKES_TAX:
            if isinstance(event.data, CreditMemoIssued) and not block.tax_minor:
                # Tax at redemption is a part of the value, so a memo concedes it as value.
                block = replace(block, conceded_minor=block.conceded_minor + amount)
            return replace(block, tax_taken_minor=block.tax_taken_minor + amount)
        case Effect.CONCEDES if kind.recovers:
            return replace(block, conceded_minor=block.conceded_minor + amount)
        case Effect.CONCEDES:
            by = event.data.dispute_id if isinstance(event.data, DisputeWon | DisputeLost) else event.event_id
            return replace(block, conceded_minor=block.conceded_minor + amount, conceded_by=f"{event.type} {by}")
        case Effect.CLAIMS:
            return replace(block, claimed_minor=block.claimed_minor + amount)
        case Effect.OPENS_DISPUTE:
            block = block.charged_through(movement.processor, amount)
            if movement.given_back:  # the block does not cover it any more
                return block
            block = block.paid_through(movement.processor, -amount)
            return replace(block, disputes=block.disputes + 1, disputed_minor=block.disputed_minor + amount)
        case Effect.APPLIES_PAYMENT if isinstance(event.data, PaymentReceived) and event.data.processor is not None:
            return block.paid_through(event.data.processor, amount).charged_through(event.data.processor, -amount)
        case Effect.WINS_DISPUTE:
            block = block.charged_through(movement.processor, -amount)
            if movement.given_back:
                return block
            block = block.paid_through(movement.processor, amount)
            return replace(block, disputed_minor=block.disputed_minor - amount)
        case Effect.REVALUES:
            gained = -(movement.functional_minor or 0)
            by_day = Change(movement.accounting_date, ZERO, 0, gained)
            worth = block.price_functional + gained
            changes, losses_from = changes_after(block, by_day, closed_through)
            return replace(block, price_functional=worth, changes=changes, losses_from=losses_from)
    return block


def _new_block(event: Event, decision: Decision, movement: Movement, position: int, functional_currency: str) -> Block:
    """The block that a purchase, a grant, a transfer or an opening balance opens."""
    functional = movement.functional_minor or 0
    if KIND_BY_NAME[movement.kind].column in ("transferred_in", "opened"):
        if decision.new_block is None:
            raise IntegrityFault(f"{movement.kind} of block {movement.block_id} was decided without the block's terms")
        return replace(
            decision.new_block,
            opened_at_position=position,
            opened_on=movement.accounting_date,
            price_functional=functional,
        )
    data = event.data
    if not isinstance(data, CreditsPurchased | CreditsGranted):
        raise IntegrityFault(f"{movement.kind} of {event.type} cannot open block {movement.block_id}")
    opened = Block(
        block_id=data.block_id,
        credit_kind=PAID if isinstance(data, CreditsPurchased) else data.reason,
        unit=data.unit,
        credits=movement.credits,
        price_minor=movement.amount_minor,
        currency=data.currency or functional_currency,
        rate=decision.rate,
        price_functional=functional,
        starts_at=data.starts_at or event.occurred_at,
        expires_at=data.expires_at,
        priority=data.priority,
        scope=None if data.scope is None else tuple(data.scope),
        opened_at_position=position,
        opened_on=movement.accounting_date,
        losses_from=movement.accounting_date,
    )
    if not isinstance(data, CreditsPurchased):
        return opened
    return replace(
        opened,
        refundable=data.refundable,
        refundable_apart=movement.refundable,
        pool=data.pool,
        cohort=movement.cohort,
        escheat_class=data.escheat_class,
        invoice_id=data.invoice_id,
        due_at=data.due_at,
        cancellable=data.cancellable,
        receivable_minor=movement.amount_minor,
        dimensions=text_of(data.dimensions),
    )


def with_standings(wallet: Wallet, movement: Movement, functional_currency: str, closed_through: date | None) -> Wallet:
    """The wallet whose standings a movement has moved."""
    kind, standings, days = KIND_BY_NAME[movement.kind], wallet.standings, wallet.balance_days
    for role, sign in ((kind.debit_role, 1), (kind.credit_role, -1)):
        if role is None or role in LEDGER_ROLES or role == "prepaid_liability":
            continue
        if movement.currency is None and role not in ("customer_balance", "refunds_payable"):
            continue
        key = standing_name(role, movement.currency or functional_currency, movement.block_id)
        functional = movement.amount_minor if movement.functional_minor is None else movement.functional_minor
        standings = moved(standings, key, sign * movement.amount_minor, sign * functional)
        if role in OWED_ROLES and movement.amount_minor:
            days = _with_day(
                days, key, movement.accounting_date, -sign * movement.amount_minor, standings, closed_through
            )
    if standings is wallet.standings:
        return wallet
    return replace(wallet, standings=standings, balance_days=days)


def _with_day(
    days: dict[str, DayAmounts], name: str, on: date, amount: int, standings: Standings, closed_through: date | None
) -> dict[str, DayAmounts]:
    """The amounts owed to a customer by day, with one more; a balance of zero has no days."""
    balance = -standings.get(name, NO_STANDING).amount_minor
    of_balance = with_amount(days.get(name, ()), on, amount, balance=balance, closed_through=closed_through)
    changed = {**days, name: of_balance}
    return {name: changed[name] for name in sorted(changed) if changed[name]}


def _with_refunds(wallet: Wallet, movement: Movement, kind: Kind, functional_currency: str) -> Wallet:
    """The wallet after a movement that changes the amount owed back to the customer."""
    sign = (kind.credit_role == "refunds_payable") - (kind.debit_role == "refunds_payable")
    if not sign or not movement.amount_minor:
        return wallet
    refunds = refunds_after(
        wallet.refunds_owed,
        sign * movement.amount_minor,
        block_id=movement.block_id,
        invoice_id=movement.invoice_id,
        currency=movement.currency or functional_currency,
    )
    return replace(wallet, refunds_owed=refunds)


def _apply_overage(wallet: Wallet, event: Event, movement: Movement, position: int) -> Wallet:
    """The wallet with new overage, or with a part of its overage reversed."""
    if movement.credits > 0:
        return _with_new_overage(wallet, event, movement, position)
    current = wallet.state_of_overage(movement.overage_position or 0)
    restored = -movement.credits
    changed = replace(
        current, restored=current.restored + restored, restored_minor=current.restored_minor - movement.amount_minor
    )
    carry = carry_after_restoring(wallet, restored, current.price, current.currency, -movement.amount_minor)
    return replace(_with_overage(wallet, changed), carry={**wallet.carry, current.currency: carry})


def _new_overage(data: CreditsConsumed | BalanceOpened, movement: Movement, position: int, price: Decimal) -> Overage:
    return Overage(
        position=position,
        unit=data.unit,
        product=data.product,
        price=price,
        currency=present(data.currency, "overage has a currency"),
        credits=movement.credits,
        amount_minor=movement.amount_minor,
        accounting_date=movement.accounting_date,
        backfill=movement.backfill,
        dimensions=text_of(data.dimensions),
    )


def _with_new_overage(wallet: Wallet, event: Event, movement: Movement, position: int) -> Wallet:
    data = event.data
    if not isinstance(data, CreditsConsumed) or data.overage_price is None or data.currency is None:
        raise IntegrityFault(f"overage of {event.type} has no price")
    _, carry = price_overage(wallet, movement.credits, data.overage_price, data.currency)
    overage = _new_overage(data, movement, position, data.overage_price)
    return replace(wallet, overages=wallet.overages.with_value(overage), carry={**wallet.carry, data.currency: carry})


def _with_opened_overage(wallet: Wallet, event: Event, movement: Movement, position: int) -> Wallet:
    """The wallet with overage that was not invoiced at a cut-over. It is never restored, so it needs no price."""
    data = event.data
    if not isinstance(data, BalanceOpened):
        raise IntegrityFault(f"{event.type} opens no overage")
    overage = _new_overage(data, movement, position, ZERO)
    return replace(wallet, overages=wallet.overages.with_value(overage))


def _settle(wallet: Wallet, event: Event, movement: Movement) -> Wallet:
    """The wallet with a part of an overage invoiced, or paid by a later purchase."""
    current = wallet.state_of_overage(movement.overage_position or 0)
    return _with_overage(
        wallet,
        replace(
            current,
            settled=current.settled + movement.credits,
            settled_minor=current.settled_minor + movement.amount_minor,
            settled_by=(*current.settled_by, movement.invoice_id or event.event_id),
        ),
    )


def _with_overage(wallet: Wallet, changed: Overage) -> Wallet:
    return replace(wallet, overages=wallet.overages.with_value(changed))


def _remember_reversal(wallet: Wallet, decision: Decision, original: int) -> Wallet:
    reversed_usage = wallet.reversed_usage(original)
    restored = dict(reversed_usage.restored)
    for movement in decision.movements:
        # Breakage after the draws restores nothing. The same is true of a correction of other draws.
        if KIND_BY_NAME[movement.kind].is_usage and movement.credits:
            credits, amount, functional = restored.get(movement.block_id or "", NO_PORTION)
            back = movement.functional_minor or 0
            restored[movement.block_id or ""] = Portion(
                credits - movement.credits, amount - movement.amount_minor, functional - back
            )
    return replace(
        wallet, reversed_usages=wallet.reversed_usages.with_value(replace(reversed_usage, restored=restored))
    )
