"""Undoing an event: its entries are mirrored, last first, and what it changed is restored.

No amount is computed again: the mirrored entries have the recorded amounts, functional amounts and policy. The state
after the event is compared with the present state. If a later event built on it, this later event must be undone first.
So every mistake can be undone, one step at a time.

Owns: the decision to undo an event, and the choice of events that can be undone. Does not own: the comparison with the
present state (undo_parts), the dates of mirrored entries (undo_dates). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from typing import Final

from msgspec.structs import replace

from subledger import errors
from subledger.accounting_dates import accounting_date
from subledger.billing_documents import Standing
from subledger.blocks import ZERO
from subledger.books import Books, apply_to_standings
from subledger.cohorts import WHOLE
from subledger.deciding.context import Context, Dates, First, Original, any_wallet
from subledger.deciding.undo_dates import dated
from subledger.deciding.undo_parts import has_same_days_as_then, restored_part
from subledger.events.data import BreakageEstimated, EventReversed, ExchangeRateSet
from subledger.events.envelope import OWN_SOURCE, Event
from subledger.events.opened import BalanceOpened
from subledger.events.own_data import RESERVED_TYPES
from subledger.evolving import with_standings
from subledger.kinds import KIND_BY_NAME, LEDGER_ROLES, SETTLEMENT_OF
from subledger.money import round_half_up
from subledger.pooling import before_opening, is_of_a_cohort
from subledger.pools import Cohort
from subledger.restored import RestoredEstimate, RestoredRate
from subledger.wallet import Decision, Movement, Wallet

_OTHER_WAYS: Final = {
    "credits.consumed": "consumption.reversed takes usage back",
    "consumption.reversed": "the usage can be recorded again, under a new id",
    "credits.expired": "block.expiry_changed brings back what has expired",
    "credits.reserved": "reservation.released releases the credits",
    "reservation.released": "the credits can be reserved again, under a new id",
    "event.reversed": "the fact can be recorded again, under a new id",
}
"""The alternative for events that cannot be undone, by type."""


def undo(wallet: Wallet, event: Event[EventReversed], context: Context, dates: Dates) -> Decision:
    """Undoes a recorded event.

    Raises UnknownOriginal, NotReversible, AlreadyReversed, ChangedSince.
    """
    original = _original(event, context)
    mirrors = [_mirror(movement, original, context) for movement in reversed(original.decision.movements)]
    now = {customer: any_wallet(customer, wallet, context) for customer in original.around}
    as_left = all(has_same_days_as_then(around, now[customer]) for customer, around in original.around.items())
    movements = dated(mirrors, now, event, dates, context.state.functional_currency, as_left=as_left)
    restored = tuple(
        restored_part(around, now[customer], mirrors, movements, event, context.state)
        for customer, around in sorted(original.around.items())
    )
    return Decision(
        policy=context.state.policy,
        movements=(*movements, *_settlements(movements, wallet, context)),
        original_position=original.position,
        restored=tuple(part for part in restored if part is not None),
        restored_rate=_restored_rate(original, context),
        restored_estimate=_restored_estimate(original, context),
        restored_cohort=_restored_cohort(original, context),
    )


def _original(event: Event[EventReversed], context: Context) -> Original:
    """The event to be undone. Raises UnknownOriginal, NotReversible, AlreadyReversed."""
    data, original = event.data, context.original
    if original is None:
        raise errors.UnknownOriginal(
            f"no event {data.event_id} from {data.event_source or event.source} is recorded",
            field="data.event_id",
            expected="a recorded event",
            found=data.event_id,
        )
    of = original.event
    if of.customer != event.customer and of.type not in RESERVED_TYPES:
        raise errors.NotReversible(
            f"{data.event_id} is {of.type} of {of.customer or 'the ledger as a whole'}",
            field="data.event_id",
            expected=f"an event of {event.customer or 'the ledger as a whole'}",
            found=data.event_id,
        )
    way = _OTHER_WAYS.get(of.type)
    if of.type in RESERVED_TYPES or of.source == OWN_SOURCE:
        way = way or "it is the ledger's own"
    if way is not None:
        raise errors.NotReversible(
            f"{data.event_id} is {of.type}, which is not undone: {way}",
            field="data.event_id",
            expected="an event that is not usage, an expiry or the ledger's own",
            found=of.type,
        )
    if original.undone_by is not None:
        by = original.undone_by
        raise errors.AlreadyReversed(
            f"event {by.event_id} from {by.source} undid {data.event_id} at position {by.position}",
            field="data.event_id",
            expected="an event that was not undone",
            found=data.event_id,
            reversed_by=_named(by),
        )
    return original


def _named(event: First) -> dict[str, object]:
    return {"source": event.source, "id": event.event_id, "position": event.position}


def _mirror(movement: Movement, original: Original, context: Context) -> Movement:
    """The mirror of a movement, under the policy of the movement, and with its date for now."""
    policy = movement.policy or original.decision.policy
    functional = movement.functional_minor
    cohort = movement.cohort if movement.pool is None else movement.cohort or WHOLE
    opens_overage = KIND_BY_NAME[movement.kind].overage_sign > 0 and movement.overage_position is None
    return replace(
        movement,
        credits=-movement.credits if movement.credits else ZERO,  # the stored form omits the object ZERO
        amount_minor=-movement.amount_minor,
        functional_minor=None if functional is None else -functional,
        policy=None if policy == context.state.policy else policy,
        cohort=cohort,
        overage_position=original.position if opens_overage else movement.overage_position,
        segments_back=0,
        used_at=None,
    )


# --- exchange differences ---------------------------------------------------------------------------------------


def _settlements(movements: Iterable[Movement], wallet: Wallet, context: Context) -> Iterator[Movement]:
    """Exchange differences of standings that were remeasured since the event.

    A standing that ends at zero in its currency gets the carrying amount zero. If the carrying amount would change its
    sign, it is instead reduced in proportion.
    """
    functional_currency = context.state.functional_currency
    wallets, books = {wallet.customer: wallet}, context.books
    touched: dict[tuple[str, str, str, str | None], date] = {}
    for movement in movements:
        customer = movement.customer or wallet.customer
        before = wallets.get(customer) or any_wallet(customer, wallet, context)
        wallets[customer] = with_standings(before, movement, functional_currency, None)
        books = apply_to_standings(books, movement)
        kind = KIND_BY_NAME[movement.kind]
        for role in (kind.debit_role, kind.credit_role):
            if movement.currency is not None and role in SETTLEMENT_OF and role != "prepaid_liability":
                place = movement.processor if role in LEDGER_ROLES else movement.block_id
                key = (customer, role or "", movement.currency, place)
                touched[key] = max(touched.get(key, movement.accounting_date), movement.accounting_date)
    for (customer, role, currency, place), on in touched.items():
        amount, carried = _standing(wallets[customer], books, role, currency, place)
        if (carried and not amount) or amount * carried < 0:
            was = _standing(any_wallet(customer, wallet, context), context.books, role, currency, place)
            of_ledger = role in LEDGER_ROLES
            yield Movement(
                kind=SETTLEMENT_OF[role],
                accounting_date=on,
                currency=currency,
                functional_minor=_in_proportion(was, amount) - carried,
                customer=None if customer == wallet.customer else customer,
                block_id=None if of_ledger else place,
                processor=place if of_ledger else None,
            )


def _in_proportion(was: Standing, amount: int) -> int:
    """The carrying amount of the rest of a standing, in proportion; zero if its sign has changed."""
    before, carried = was
    if before * amount <= 0 or before * carried <= 0:
        return 0
    return round_half_up(carried * abs(amount), abs(before))


def _standing(wallet: Wallet, books: Books, role: str, currency: str, place: str | None) -> Standing:
    if role in LEDGER_ROLES:
        return books.standing(role, currency, place)
    return wallet.standing(role, currency, place)


# --- the ledger's own books -------------------------------------------------------------------------------------


def _restored_rate(original: Original, context: Context) -> RestoredRate | None:
    """The earlier rate of the day. Entries that were recorded with the undone rate stay. Raises ChangedSince."""
    data = original.event.data
    if not isinstance(data, ExchangeRateSet):
        return None
    day = context.state.effective_date_of(original.event)
    later = [other for other in original.rates if other.by.position > original.position]
    if later:
        raise changed_since(f"the rate of {data.base} on {day}", later[-1].by, "exchange_rate.set")
    earlier = original.rates[-1].rate if original.rates else None
    return RestoredRate(currency=data.base, day=day, rate=earlier)


def _restored_estimate(original: Original, context: Context) -> RestoredEstimate | None:
    """The earlier estimates of a pool. Raises ChangedSince if the pool has changed."""
    data = original.event.data
    if not isinstance(data, BreakageEstimated):
        return None
    if original.estimates_after:
        raise changed_since(f"the estimate of pool {data.pool}", original.estimates_after[-1], "breakage.estimated")
    for cohort in context.books.pools.cohorts.get(data.pool, {}).values():
        days = [day.on for day in cohort.days if day.estimate is not None and day.estimate.version == original.version]
        start = cohort.start_estimate
        has_it = bool(days) or (start is not None and start.version == original.version)
        # Breakage is a function of the days, so an estimate cannot be removed from a closed day.
        is_open = all(accounting_date(day, context.state.closed_through) == day for day in days)
        if has_it and not (days and is_open and cohort.was_estimated_last):
            raise errors.ChangedSince(
                f"credits of {cohort.name} were issued, redeemed or cancelled since it was estimated, or its month is "
                "closed; another estimate takes the place of this one",
                field="data.event_id",
                expected="an estimate of an open month since which nothing of its cohorts was recorded",
                found=original.event.event_id,
            )
    return RestoredEstimate(pool=data.pool, version=original.version)


def _restored_cohort(original: Original, context: Context) -> Cohort | None:
    """The cohort before one of its openings. Raises ChangedSince if other events than openings were recorded later."""
    data = original.event.data
    opening = next(filter(is_of_a_cohort, original.decision.movements), None)
    if not isinstance(data, BalanceOpened) or opening is None:
        return None
    pools = context.books.pools
    cohort = pools.cohort(pools.key_of(opening))
    if not cohort.is_as_opened:
        raise _cohort_changed(f"{cohort.name} was estimated, or its credits were used or cancelled, since", cohort)
    before = before_opening(pools, data, opening, original.decision.found_cohort)
    if before.recognised_minor > before.most_recognised():
        raise _cohort_changed(f"the breakage of {cohort.name} that was opened is that of its blocks", cohort)
    return before


def _cohort_changed(sentence: str, cohort: Cohort) -> errors.ChangedSince:
    """The refusal. The later event is looked up after the commit (``store/writing/explaining``)."""
    return errors.ChangedSince(
        f"{sentence}: take that back first",
        field="data.event_id",
        expected="an opening since which nothing else of its cohort was recorded",
        found=cohort.name,
        pool=cohort.pool,
        cohort=cohort.cohort,
    )


def changed_since(what: str, later: First, type: str) -> errors.ChangedSince:
    """The refusal to undo an event on which a later one built."""
    return errors.ChangedSince(
        f"{what} was changed since, by {type} {later.event_id} from {later.source} at position {later.position}: take "
        "that back first",
        field="data.event_id",
        expected="an event on which nothing was built",
        found=what,
        changed_by={**_named(later), "type": type},
    )
