"""Deciding: the effect of an event on the customer's wallet and the ledger.

Owns: ``decide``, the table of decisions by the class of an event's data with the entry kinds that each may post, the
common steps of all decisions, and the decisions of the ledger's own events. Does not own: the decisions themselves
(purchases, usage, expiry, cancellations, payments, processors, disputes, write_offs, openings), functional amounts
(currencies). Pure: the result depends only on the arguments. A decision is stored with its event and never computed
again.

Refusals come in the order of ``errors``: references, currency, amounts, credits.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, TypeVar

import msgspec

from subledger import errors
from subledger.billing_documents import Standing
from subledger.cohorts import WHOLE, month_of_issue
from subledger.deciding import (
    cancellations,
    disputes,
    expiry,
    openings,
    payments,
    processors,
    purchases,
    reservations,
    undo,
    usage,
    write_offs,
)
from subledger.deciding.context import Context, Dates, any_wallet, decision
from subledger.deciding.currencies import StandingKey, carried_at_nothing, measure, remeasure
from subledger.deciding.estimates import with_due_breakage
from subledger.events import data as of_others
from subledger.events import own_data as of_the_ledger
from subledger.events.data import EVENT_TYPES, CreditsGranted, CreditsPurchased
from subledger.events.envelope import Event
from subledger.events.fields import EventData
from subledger.events.opened import BalanceOpened
from subledger.evolving import block_after
from subledger.kinds import KINDS, LEDGER_ROLES, REMEASUREMENT_OF, REMEASUREMENTS, SETTLEMENT_OF, SETTLEMENTS
from subledger.money import MAX_MINOR
from subledger.wallet import Decision, Movement, Wallet

_BOUND: Final = 10 * MAX_MINOR
MAX_ENTRIES: Final = 32_767
"""The most entries of one event, because the log numbers them in 16 bits."""


def decide(wallet: Wallet, event: Event, context: Context) -> Decision:
    """Decides the entries of ``event``. Pure: an error changes nothing.

    Raises Refused. Raises InvalidInput for a value that only a comparison with the books shows to be invalid: too many
    decimals for the block's currency, an expiry before the start, a functional amount above the bounds. Raises
    IntegrityFault if the books contradict themselves.
    """
    state = context.state
    dates = Dates.of(event, state)
    draft = DECISIONS[event.data.__class__].decide(wallet, event, context, dates)
    movements, changed, foreign = [], False, False
    pooled = isinstance(event.data, of_others.BreakageEstimated)
    is_complete = isinstance(event.data, of_others.EventReversed)  # with the terms and amounts of the mirrored entries
    for drafted in draft.movements:
        movement = drafted if is_complete else _complete(drafted, wallet, event, context, dates)
        changed = changed or movement is not drafted
        foreign = foreign or movement.currency is not None
        pooled = pooled or movement.pool is not None
        movements.append(movement)
    if changed:
        draft = msgspec.structs.replace(draft, movements=tuple(movements))
    if foreign and not is_complete:
        draft = measure(
            wallet,
            context.books,
            event,
            draft,
            effective=dates.effective,
            functional_currency=state.functional_currency,
            wallet_of=context.wallet_of,
        )
    _check_bounds(draft)
    decided = with_due_breakage(draft, event, context, dates) if pooled else draft
    _check_number(event, decided)
    return decided


def _check_number(event: Event, decided: Decision) -> None:
    """Raises InvalidValue if an event would make more than ``MAX_ENTRIES`` entries."""
    if len(decided.movements) > MAX_ENTRIES:
        raise errors.InvalidValue(
            f"{event.event_id} would post {len(decided.movements):,} entries, as it concerns too many blocks",
            field="data",
            expected=f"at most {MAX_ENTRIES:,} entries; several events, each for a part of the credits or the amount",
            found=f"{len(decided.movements):,}",
        )


def _check_bounds(draft: Decision) -> None:
    """Raises InvalidValue if an amount, in either currency, is so large that sums might overflow."""
    for movement in draft.movements:
        amount, functional = movement.amount_minor, movement.functional_minor
        if not -_BOUND <= amount <= _BOUND or abs(functional or 0) > _BOUND:
            raise errors.InvalidValue(
                f"{movement.kind} would be too large an amount",
                field="data" if functional is None else "data.currency",
                expected=f"at most {_BOUND} minor units, in the functional currency too",
                found=str(functional or amount),
            )


def _complete(movement: Movement, wallet: Wallet, event: Event, context: Context, dates: Dates) -> Movement:
    """A movement with the pool and cohort of its block, and with its currency if that is not the functional one.

    A new block is issued in the month of the effective date; a transferred block keeps its month.
    """
    currency, pool, cohort = movement.currency, movement.pool, movement.cohort
    if movement.block_id is not None:
        theirs = any_wallet(movement.customer or wallet.customer, wallet, context)
        block = theirs.block(movement.block_id)
        if block is not None:
            currency, pool, cohort = block.currency, block.pool, block.cohort or WHOLE
        elif movement.pool is None and movement.customer is None:
            currency, pool = _terms_of_new_block(event)
            cohort = month_of_issue(dates.effective)
    if currency == context.state.functional_currency:
        currency = None
    if pool is None:
        cohort = None
    if (currency, pool, cohort) == (movement.currency, movement.pool, movement.cohort):
        return movement
    return msgspec.structs.replace(movement, pool=pool, cohort=cohort, currency=currency)


def _terms_of_new_block(event: Event) -> tuple[str | None, str | None]:
    """The currency and the pool of the block that an event opens."""
    match event.data:
        case CreditsPurchased() as bought:
            return bought.currency, bought.pool
        case CreditsGranted() as granted:
            return granted.currency, None
        case BalanceOpened() as opened:
            return opened.currency, opened.pool
    raise errors.IntegrityFault(f"{event.type} moves a block that was not loaded, and opens none")


# --- the ledger itself --------------------------------------------------------------------------------------


def _configure(
    wallet: Wallet,  # noqa: ARG001 - one shape for all
    event: Event[of_the_ledger.LedgerConfigured],
    context: Context,
    dates: Dates,  # noqa: ARG001 - one shape for all
) -> Decision:
    """Changes settings. Raises EffectChanged if they were requested under older accounting rules."""
    stated, rules = event.data.accounting_rules, context.state.accounting_rules
    if stated < rules:
        raise errors.EffectChanged(
            f"these settings were requested under version {stated} of the accounting rules, and version {rules} is in "
            "force; request them again",
            field="data.accounting_rules",
            expected=str(rules),
            found=str(stated),
        )
    return decision(context, [])


def _set_rate(wallet: Wallet, event: Event[of_others.ExchangeRateSet], context: Context, dates: Dates) -> Decision:  # noqa: ARG001 - one shape for all
    functional_currency = context.state.functional_currency
    if event.data.quote != functional_currency:
        raise errors.WrongCurrency(
            f"rates are quoted in {functional_currency}",
            field="data.quote",
            expected=functional_currency,
            found=event.data.quote,
        )
    return decision(context, [])


def _remeasure(
    wallet: Wallet, event: Event[of_the_ledger.BalancesRemeasured], context: Context, dates: Dates
) -> Decision:
    """Remeasures the standings in other currencies at a period's end, of one customer or of the ledger itself."""

    def now(key: StandingKey) -> Standing:
        role, currency, subaccount = key
        if role in LEDGER_ROLES:
            return context.books.standing(role, currency, subaccount)
        block = wallet.block(subaccount)
        if role == "prepaid_liability" and block is not None:
            return Standing(-block.carrying_minor, -block.carrying_functional)
        return wallet.standing(role, currency, subaccount)

    movements = remeasure(
        {key: standing for key, standing in context.standings.items() if _is_monetary(key, wallet)},
        now,
        context.books,
        on=dates.on(),
        following=dates.on(dates.effective + timedelta(days=1)),
        functional_currency=context.state.functional_currency,
    )
    for block in wallet.blocks:
        of_block = [m for m in movements if m.block_id == block.block_id and _is_of_liability(m)]
        for movement in of_block:
            block = block_after(block, event, movement)
        movements += carried_at_nothing(block, dates.on()) if of_block else []
    return decision(context, movements)


def _is_of_liability(movement: Movement) -> bool:
    return movement.kind in (REMEASUREMENT_OF["prepaid_liability"], SETTLEMENT_OF["prepaid_liability"])


def _is_monetary(key: StandingKey, wallet: Wallet) -> bool:
    """True if a standing is monetary: money owed or owned, or the liability of a refundable block."""
    block = wallet.block(key[2])
    return key[0] != "prepaid_liability" or (block is not None and block.refundable)


def _nothing(wallet: Wallet, event: Event, context: Context, dates: Dates) -> Decision:  # noqa: ARG001 - one shape for all
    """Decides events of the ledger itself, which move no credits and no money."""
    return decision(context, [])


# --- the table ------------------------------------------------------------------------------------------------

_Data = TypeVar("_Data", bound=EventData)


class Row(msgspec.Struct, frozen=True):
    """The decision of an event type, and the entry kinds that it may post, in order.

    ``decide`` takes only events of its own row. ``_row`` ties its type to the class of their data.
    """

    decide: Callable[[Wallet, Event[Any], Context, Dates], Decision]
    posts: tuple[str, ...]


def _row(
    data: type[_Data], decide: Callable[[Wallet, Event[_Data], Context, Dates], Decision], *posts: str
) -> tuple[type[EventData], Row]:
    """A row of the table. Its types let mypy check that the decision takes this data."""
    return data, Row(decide, posts)


DECISIONS: Final[dict[type[EventData], Row]] = dict(
    (
        _row(of_others.CreditsPurchased, purchases.purchase,
             "purchase", "purchase_tax", "overage_backfilled", "backfill_difference"),
        _row(of_others.CreditsGranted, purchases.grant, "promotional_grant", "goodwill", "allocation"),
        _row(of_others.CreditsConsumed, usage.consume,
             "reinstatement", "breakage", "pooled_breakage", "consumption", "redemption_tax", "overage",
             "reservation_settled"),
        _row(of_others.CreditsReserved, reservations.reserve, "credits_reserved"),
        _row(of_others.ReservationReleased, reservations.release, "reservation_released"),
        _row(of_others.CreditsExpired, expiry.expire,
             "breakage", "pooled_breakage", "transfer_out", "void_unpaid", "tax_reversed_unpaid", "escheat"),
        _row(of_the_ledger.CreditsSwept, expiry.expire,
             "breakage", "pooled_breakage", "transfer_out", "void_unpaid", "tax_reversed_unpaid", "escheat"),
        _row(of_others.ConsumptionReversed, usage.reverse,
             "overage", "consumption", "redemption_tax", "breakage", "pooled_breakage", "transfer_out",
             "void_unpaid", "tax_reversed_unpaid", "escheat"),
        _row(of_others.EventReversed, undo.undo),
        _row(of_others.PurchaseVoided, cancellations.void,
             "transfer_out", "void_unpaid", "void_paid", "goodwill_voided", "allocation_voided", "tax_reversed_unpaid",
             "tax_reversed_paid"),
        _row(of_others.CreditsRefunded, cancellations.refund,
             "transfer_out", "refund_unpaid", "refund", "refund_retained", "tax_reversed_unpaid",
             "tax_reversed_paid"),
        _row(of_others.BlockExpiryChanged, expiry.change_expiry, "expiry_changed", "reinstatement", "pooled_breakage"),
        _row(of_others.BlockRepriced, cancellations.reprice, "repricing", "consumption", "purchase_tax"),
        _row(of_others.CreditsTransferred, cancellations.transfer, "transfer_out", "transfer_in"),
        _row(of_others.PaymentReceived, payments.receive,
             "paid_elsewhere_processor", "paid_elsewhere_cash",
             "write_off_recovered", "recovered_tax", "recovered_tax_borne", "payment_processor", "payment_cash",
             "unapplied_processor", "unapplied_cash", "payment_applied", "exchange", "exchange_processor",
             "processing_fee"),
        _row(of_others.PaymentApplied, payments.apply,
             "write_off_recovered", "recovered_tax", "recovered_tax_borne", "payment_applied"),
        _row(of_others.PaymentRefunded, payments.pay_back,
             "refund_paid_processor", "refund_paid_cash", "balance_refunded",
             "paid_elsewhere_processor", "paid_elsewhere_cash", "refund_fee"),
        _row(of_others.PayoutSettled, processors.pay_out, "payout", "exchange", "exchange_processor"),
        _row(of_others.ProcessorAdjusted, processors.adjust, "processor_adjustment", "processor_tax"),
        _row(of_others.OverageBilled, payments.bill_overage, "overage_billed", "overage_tax"),
        _row(of_others.CreditMemoIssued, payments.issue_memo,
             "memo_unpaid", "memo_paid", "tax_reversed_unpaid", "tax_reversed_paid"),
        _row(of_others.ReceivableWrittenOff, write_offs.write_off,
             "transfer_out", "write_off_unused", "write_off_used", "write_off_overage", "write_off_tax",
             "write_off_tax_borne"),
        _row(of_others.DisputeOpened, disputes.open_dispute,
             "dispute_opened", "dispute_opened_cash", "transfer_out", "dispute_fee", "dispute_fee_cash"),
        _row(of_others.DisputeWon, disputes.win_dispute,
             "dispute_lost_balance", "dispute_lost_refund", "dispute_lost_unclaimed", "dispute_lost_unused",
             "dispute_lost_used", "dispute_lost_tax", "dispute_lost_elsewhere", "dispute_lost_twice", "dispute_won",
             "dispute_won_cash", "transfer_out", "dispute_fee", "dispute_fee_cash"),
        _row(of_others.DisputeLost, disputes.lose_dispute,
             "dispute_lost_balance", "dispute_lost_refund", "dispute_lost_unclaimed", "dispute_lost_unused",
             "dispute_lost_used", "dispute_lost_tax", "dispute_lost_elsewhere", "dispute_lost_twice", "dispute_won",
             "dispute_won_cash", "transfer_out", "dispute_fee", "dispute_fee_cash"),
        _row(of_others.CreditsEscheated, cancellations.escheat,
             "transfer_out", "void_unpaid", "tax_reversed_unpaid", "escheat"),
        _row(of_others.EscheatReclaimed, cancellations.reclaim_escheat, "escheat_reclaimed"),
        _row(of_others.EscheatRemitted, cancellations.remit_escheat, "escheat_remitted"),
        _row(of_others.BreakageEstimated, _nothing),
        _row(of_others.ExchangeRateSet, _set_rate),
        _row(BalanceOpened, openings.open_balance, *(kind.name for kind in KINDS if kind.opens_balance)),
        _row(of_the_ledger.BalancesRemeasured, _remeasure, *REMEASUREMENTS, *SETTLEMENTS),
        _row(of_the_ledger.LedgerConfigured, _configure),
        _row(of_the_ledger.ClockSet, _nothing),
        _row(of_the_ledger.PolicyAdopted, _nothing),
        _row(of_the_ledger.MappingAdopted, _nothing),
        _row(of_the_ledger.PeriodClosed, _nothing),
        _row(of_the_ledger.PeriodReopened, _nothing),
        _row(of_the_ledger.PeriodCut, _nothing),
    )
)  # fmt: skip
"""The decision of every event type, by the class of the event's data."""

_TYPES: Final = {data: type for type, data in {**EVENT_TYPES, **of_the_ledger.RESERVED_TYPES}.items()}

POSTS: Final[dict[str, tuple[str, ...]]] = {
    _TYPES[data]: row.posts
    for data, row in DECISIONS.items()
    if data in _TYPES and (row.posts or data in EVENT_TYPES.values())
}
"""The entry kinds that each event may post, in order. After these entries any event may post ``fx_settlement_…`` for
money in another currency, and ``breakage_estimate`` for a pool. Other events post nothing.
"""
