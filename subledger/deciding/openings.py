"""Opening balances: the balances at a cut-over from another system, never recorded as revenue.

Every balance is posted against opening_balances, which clears against the general ledger's own opening balances. Owns:
these decisions. Does not own: the fields of each role (events/opened), the later draws of a block (blocks), the line of
a cohort (pools). Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from msgspec.structs import replace

from subledger import errors
from subledger.billing_documents import Invoice
from subledger.blocks import ZERO, Before, Block
from subledger.cohorts import WHOLE, month_of_issue
from subledger.deciding.context import (
    Context,
    Dates,
    at_most,
    decision,
    is_new_document,
    new_block_id,
    own_block,
    own_document,
    same_currency,
    starts_before_it_expires,
    was_bought,
)
from subledger.deciding.currencies import convert, rate_on
from subledger.errors import present
from subledger.events.envelope import Event
from subledger.events.opened import BalanceOpened
from subledger.money import exponent, format_minor, round_half_up, share, to_minor
from subledger.own_dimensions import text_of
from subledger.pooling import after_opening, cohort_found
from subledger.pools import Cohort
from subledger.wallet import Decision, Movement, Wallet

Opening = Event[BalanceOpened]


def open_balance(wallet: Wallet, event: Opening, context: Context, dates: Dates) -> Decision:
    """Opens the balance of a role. Raises CannotBeOpened, and the errors of the event's references."""
    return _OPENINGS[event.data.role](wallet, event, context, dates)


def _movement(event: Opening, context: Context, dates: Dates) -> Movement:
    """The movement of a balance; in another currency with the functional amount, if the event states it.

    Raises WrongCurrency, TooManyDecimals.
    """
    data, home = event.data, context.state.functional_currency
    functional = None
    if data.functional_amount is not None:
        if data.currency == home:
            raise errors.InvalidValue(
                f"data.functional_amount does not go here: the amount is in {home} already",
                field="data.functional_amount",
                expected="absent",
                found=str(data.functional_amount),
            )
        functional = _functional_minor(data.functional_amount, "functional_amount", home)
    return Movement(
        kind=f"opening_{data.role}",
        amount_minor=data.minor("amount"),
        functional_minor=functional,
        accounting_date=dates.on(),
        currency=None if data.currency == home else data.currency,
        processor=data.processor if data.role != "prepaid_liability" else None,
    )


def _functional_minor(amount: Decimal, name: str, home: str) -> int:
    return to_minor(amount, home, field=f"data.{name}")


# --- blocks ---------------------------------------------------------------------------------------------------


def _block(wallet: Wallet, event: Opening, context: Context, dates: Dates) -> Decision:
    """Opens a block with its present figures. Its draws continue from the earlier ones."""
    data = event.data
    starts_before_it_expires(data, event.occurred_at)
    block_id = present(data.block_id, "an opened block has an id")
    new_block_id(wallet, context, block_id)
    cohort = None
    if data.pool is not None:
        cohort = data.cohort or month_of_issue(dates.effective)
        pool = context.books.pools.by_name.get(data.pool)
        if pool is not None:
            same_currency(data.currency, pool.currency, f"pool {data.pool}")
    left = data.left
    movement = replace(
        _movement(event, context, dates),
        block_id=block_id,
        credits=left.credits,
        amount_minor=left.amount_minor,
        pool=data.pool,
        cohort=cohort,
        refundable=data.refundable,
    )
    found = _found(movement, context) if data.pool is not None else None
    block = _with_value_that_had_left(_terms(event, movement), event)
    if movement.currency is not None:
        movement, block = _in_functional_currency(movement, block, event, context)
    block = replace(block, processor_minor=block.claim_minor if block.processor is not None else 0)
    block = block.charged_through(block.processor, -block.processor_minor)
    made = decision(context, [movement], new_block=block)
    # Undoing it restores the days of the cohort's estimates. A cohort without days needs only its figures.
    return replace(made, found_cohort=found) if found is not None and found.days else made


def _terms(event: Opening, movement: Movement) -> Block:
    """The block of an opening, in its own currency."""
    data = event.data
    tax, conceded = data.minor("tax"), data.minor("conceded")
    before = Before(
        credits=present(data.credits, "a block has credits"),
        price_minor=data.minor("price"),
        used=data.credits_used,
        drawn_minor=data.minor("drawn"),
        earlier_minor=data.minor("earlier_drawn"),
        expired_minor=data.minor("expired"),
    )
    return Block(
        block_id=movement.block_id or "",
        credit_kind=data.credit_kind,
        unit=data.unit,
        credits=movement.credits,
        price_minor=movement.amount_minor,
        currency=data.currency,
        starts_at=data.starts_at or event.occurred_at,
        expires_at=data.expires_at,
        priority=data.priority,
        scope=None if data.scope is None else tuple(data.scope),
        refundable=data.refundable,
        refundable_apart=data.refundable,
        pool=data.pool,
        cohort=movement.cohort,
        escheat_class=data.escheat_class,
        due_at=data.due_at,
        dimensions=text_of(data.dimensions),
        invoice_id=data.invoice_id,
        opened_at_position=0,
        losses_from=movement.accounting_date,
        tax_minor=tax,
        taxed_minor=movement.amount_minor + before.redeemed_minor + before.expired_minor if tax else 0,
        redemption_tax_minor=data.minor("redemption_tax"),
        tax_taken_minor=data.minor("conceded_tax"),
        conceded_minor=conceded,
        conceded_by=f"{event.type} {event.event_id}" if conceded else None,
        processor=data.processor,
        before=before,
    )


def _with_value_that_had_left(block: Block, event: Opening) -> Block:
    """The block with the value that had left it before the cut-over; unknown if ``earlier_drawn`` says that the block
    was repriced.

    Raises ExceedsValue if more value expired.
    """
    data, before = event.data, present(block.before, "an opened block has a past")
    if data.earlier_drawn is not None:
        return block
    left = before.price_minor - before.drawn_minor - block.price_minor
    sentence = f"the expired value exceeds the value that had left block {block.block_id}"
    at_most(before.expired_minor, left, block.currency, errors.ExceedsValue, sentence, "expired")
    left -= before.expired_minor
    # Its tax is in proportion to the remaining tax, which may be rounded by one minor unit.
    kept = before.drawn_minor + before.expired_minor + block.price_minor
    tax = min(-(-left * (block.tax_minor + 1) // max(kept, 1)), left)
    released = left + tax + block.conceded_minor + block.tax_taken_minor
    return replace(block, before=replace(before, left_minor=left, released_minor=released))


def _in_functional_currency(
    movement: Movement, block: Block, event: Opening, context: Context
) -> tuple[Movement, Block]:
    """The movement and the block with their functional amounts: the stated ones, else at the rate of the day.

    Earlier draws have the rest of the functional price; if credits left the block otherwise, their share of it.
    """
    data, home = event.data, context.state.functional_currency
    before = present(block.before, "an opened block has a past")
    amount, functional, rate = movement.amount_minor, movement.functional_minor, ZERO
    stated = None
    if data.functional_price is not None:
        stated = _functional_minor(data.functional_price, "functional_price", home)
    if functional is None or (stated is None and not amount):
        rate = rate_on(context.books, block.currency, context.state.effective_date_of(event), home)
    if functional is None:
        functional = convert(amount, rate, block.currency, home)
    if stated is not None:
        price = stated
    elif amount:
        price = round_half_up(functional * before.price_minor, amount)
    else:
        price = convert(before.price_minor, rate, block.currency, home)
    if not block.refundable:  # such a block is carried at month-end rates
        sentence = "the functional amount exceeds the functional price"
        at_most(functional, price, home, errors.ExceedsValue, sentence, "functional_amount")
    is_rest = (block.credits, amount) == (before.credits - before.used, before.price_minor - before.drawn_minor)
    drawn = price - functional if is_rest else min(share(price, before.used, before.credits), price - functional)
    return replace(movement, functional_minor=functional), replace(
        block,
        rate=rate or _implied_rate(price, before.price_minor, block.currency, home),
        before=replace(before, price_functional=price, drawn_functional=drawn),
    )


def _implied_rate(functional: int, price: int, currency: str, home: str) -> Decimal:
    """The rate at which a price became its functional amount, with twelve decimals."""
    if not price:
        return ZERO
    there, here = 10 ** exponent(home), 10 ** exponent(currency)
    return Decimal(round_half_up(functional * here * 10**12, price * there)).scaleb(-12)


def _found(movement: Movement, context: Context) -> Cohort:
    """The cohort before an opening. Raises CannotBeOpened if it has other events than openings."""
    cohort = cohort_found(context.books.pools, movement, context.state.functional_currency)
    if not cohort.is_untouched:
        raise errors.CannotBeOpened(
            f"something is recorded of {cohort.name} already, so its breakage cannot be taken over any more",
            field="data.pool",
            expected="openings before the other events of a cohort; or another pool",
            found=cohort.pool,
        )
    return cohort


# --- money ----------------------------------------------------------------------------------------------------


def _receivable(wallet: Wallet, event: Opening, context: Context, dates: Dates) -> Decision:
    """Opens the unpaid part of an opened block, or of an invoice of overage."""
    data = event.data
    movement = _movement(event, context, dates)
    if data.block_id is None:
        is_new_document(event, context)
        return decision(context, [replace(movement, invoice_id=data.invoice_id)])
    block = _opened_block(wallet, data, context)
    if present(block.before, "an opened block has a past").left_minor is not None:
        was_bought(block)  # the added price of a repriced grant is owed, too
    same_currency(data.currency, block.currency, f"block {block.block_id}")
    # A dispute first takes the refunds owed and the unclaimed property of the block.
    owed_back = wallet.refund_owed(block.block_id, None) + max(block.unclaimed_minor, 0)
    most = max(block.received_minor - max(block.disputed_minor - owed_back, 0), 0)
    sentence = f"the receivable exceeds the received price and tax of block {block.block_id}, without disputed money"
    at_most(movement.amount_minor, most, block.currency, errors.ExceedsValue, sentence)
    on = dates.on(block.opened_on)
    return decision(context, [replace(movement, block_id=block.block_id, accounting_date=on)])


def _opened_block(wallet: Wallet, data: BalanceOpened, context: Context) -> Block:
    """A block that was opened at the cut-over. Raises UnknownBlock, BlockOfAnotherCustomer, CannotBeOpened."""
    block = own_block(wallet, data.block_id or "", context)
    if block.before is None:
        raise errors.CannotBeOpened(
            f"block {block.block_id} was not opened by balance.opened, so its balances follow from its own events",
            field="data.block_id",
            expected="a block that was opened by balance.opened",
            found=block.block_id,
        )
    return block


def _payment(_wallet: Wallet, event: Opening, context: Context, dates: Dates) -> Decision:
    """Opens an unapplied payment."""
    is_new_document(event, context)
    return decision(context, [_movement(event, context, dates)])


def _overage(_wallet: Wallet, event: Opening, context: Context, dates: Dates) -> Decision:
    """Opens overage that is not invoiced yet, with the ``on_shortfall`` of the event or else of the ledger."""
    data = event.data
    opened = replace(
        _movement(event, context, dates),
        credits=present(data.credits, "overage has credits"),
        product=data.product,
        dimensions=text_of(data.dimensions) or None,
        backfill=(data.on_shortfall or context.state.on_shortfall) == "backfill",
    )
    return decision(context, [opened])


def _refund(wallet: Wallet, event: Opening, context: Context, dates: Dates) -> Decision:
    """Opens a refund that is owed: of an opened block or invoice, or of neither."""
    data = event.data
    movement = _movement(event, context, dates)
    if data.block_id is not None:
        block = _opened_block(wallet, data, context)
        was_bought(block)
        same_currency(data.currency, block.currency, f"block {block.block_id}")
        before = present(block.before, "an opened block has a past")
        if before.left_minor is not None:
            most = max(before.released_minor - before.refunded_minor - before.escheated_minor, 0)
            sentence = f"the refund exceeds the amounts that had left block {block.block_id} or were conceded"
            at_most(movement.amount_minor, most, block.currency, errors.ExceedsValue, sentence)
        movement = replace(movement, block_id=block.block_id, accounting_date=dates.on(block.opened_on))
    elif data.invoice_id is not None:
        invoice = own_document(wallet, Invoice, data.invoice_id, context)
        same_currency(data.currency, invoice.currency, f"invoice {invoice.invoice_id}")
        most = invoice.conceded_minor + invoice.tax_taken_minor - wallet.refund_owed(None, invoice.invoice_id)
        sentence = f"the refund exceeds the amounts that were conceded on invoice {invoice.invoice_id}"
        at_most(movement.amount_minor, max(most, 0), invoice.currency, errors.ExceedsValue, sentence)
        on = dates.on(invoice.invoiced_on)
        movement = replace(movement, invoice_id=invoice.invoice_id, accounting_date=on)
    return decision(context, [movement])


def _escheat(wallet: Wallet, event: Opening, context: Context, dates: Dates) -> Decision:
    """Opens the part of a block's value that is owed to a state. It left the block before the cut-over."""
    data = event.data
    block = _opened_block(wallet, data, context)
    was_bought(block)
    same_currency(data.currency, block.currency, f"block {block.block_id}")
    movement = replace(_movement(event, context, dates), block_id=block.block_id)
    before = present(block.before, "an opened block has a past")
    if before.left_minor is not None:
        most = max(min(before.left_minor, before.released_minor - before.refunded_minor) - before.escheated_minor, 0)
        sentence = f"the unclaimed property exceeds the value that had left block {block.block_id}"
        at_most(movement.amount_minor, most, block.currency, errors.ExceedsValue, sentence)
    return decision(context, [replace(movement, accounting_date=dates.on(block.opened_on))])


def _of_the_ledger(_wallet: Wallet, event: Opening, context: Context, dates: Dates) -> Decision:
    """Opens payable tax, or the balance at a processor."""
    return decision(context, [_movement(event, context, dates)])


# --- pools ----------------------------------------------------------------------------------------------------


def _breakage(_wallet: Wallet, event: Opening, context: Context, dates: Dates) -> Decision:
    """Opens the breakage of a cohort that was recognised before expiry. The cohort's line continues from it.

    The open blocks of the cohort and its breakage rate must be recorded before. Raises UnknownCohort, CannotBeOpened,
    ExceedsValue.
    """
    data = event.data
    pools, name = context.books.pools, present(data.pool, "breakage is of a pool")
    cohort = pools.cohorts.get(name, {}).get(data.cohort or WHOLE)
    if cohort is None:
        names = sorted(each for each in pools.cohorts.get(name, {}) if each)
        raise errors.UnknownCohort(
            f"no block of this cohort of pool {name} was opened: its open blocks come before its breakage",
            field="data.cohort" if names else "data.pool",
            expected=f"one of {', '.join(names[:12])}" if names else "a pool of opened blocks",
            found=data.cohort or name,
        )
    same_currency(data.currency, cohort.currency, f"pool {name}")
    movement = replace(_movement(event, context, dates), pool=name, cohort=cohort.cohort)
    _found(movement, context)
    _is_opened_once(cohort)
    _has_rate(cohort, movement.amount_minor)
    if movement.currency is not None and movement.functional_minor is None:
        issued = cohort.issued_minor
        functional = round_half_up(movement.amount_minor * cohort.issued_functional, issued) if issued else 0
        movement = replace(movement, functional_minor=functional)
    opened = after_opening(pools, data, [movement], context.state.functional_currency)
    after = opened.cohort((name, cohort.cohort))
    most = after.most_recognised() - after.expired_minor
    at_most(
        movement.amount_minor,
        most,
        cohort.currency,
        errors.ExceedsValue,
        f"the breakage recognised ahead exceeds what can still expire of the open blocks of {cohort.name}",
    )
    return replace(decision(context, [movement]), found_cohort=cohort)


def _has_rate(cohort: Cohort, amount: int) -> None:
    """Raises CannotBeOpened if recognised breakage has no estimate, or an estimate by amount.

    An amount refers to the issued amount at its estimate, which is unknown before the opening.
    """
    estimate = cohort.estimate
    is_amount = estimate is not None and (estimate.breakage_rate is None or estimate.escheat_minor is not None)
    if is_amount or (estimate is None and amount):
        raise errors.CannotBeOpened(
            f"{cohort.name} has no expected breakage by rate; an amount is estimated after the opening",
            field="data.amount",
            expected="breakage.estimated with expected_breakage_rate before the opening",
            found="an amount" if is_amount else "none",
        )


def _is_opened_once(cohort: Cohort) -> None:
    """Raises CannotBeOpened if the breakage of a cohort was opened already."""
    if cohort.redeemed_minor or cohort.expired_minor or cohort.escheated_minor or cohort.recognised_minor:
        recognised = format_minor(cohort.recognised_minor, cohort.currency)
        raise errors.CannotBeOpened(
            f"the breakage of {cohort.name} was opened already",
            field="data.pool",
            expected="one opening of the breakage of a cohort",
            found=f"{recognised} {cohort.currency} recognised",
        )


_OPENINGS: Final[dict[str, Callable[[Wallet, Opening, Context, Dates], Decision]]] = {
    "prepaid_liability": _block,
    "accounts_receivable": _receivable,
    "customer_balance": _payment,
    "unbilled_receivable": _overage,
    "tax_payable": _of_the_ledger,
    "refunds_payable": _refund,
    "unclaimed_property": _escheat,
    "breakage_recognized": _breakage,
    "processor_clearing": _of_the_ledger,
}
"""The decision of an opening, by its role."""
