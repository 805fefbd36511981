"""Breakage estimates: what a decision makes due of the expected breakage of its pools.

Owns: the estimates that follow a decision's movements, and the refusal of an estimate that is too high. Does not own:
the formula (pools), what expires (expiry). Pure.
"""

from __future__ import annotations

from fractions import Fraction

import msgspec

from subledger import errors
from subledger.books import Books, apply_to_books, with_estimate
from subledger.deciding.context import Context, Dates, same_currency
from subledger.errors import present
from subledger.events.data import BreakageEstimated
from subledger.events.envelope import Event
from subledger.wallet import Decision, Movement


def with_due_breakage(draft: Decision, event: Event, context: Context, dates: Dates) -> Decision:
    """A decision with the breakage that its movements make due, pool by pool. Raises WrongCurrency, EstimateTooHigh."""
    books, functional_currency = context.books, context.state.functional_currency
    touched = {m.pool: m.accounting_date for m in draft.movements if m.pool is not None}
    data = event.data
    if isinstance(data, BreakageEstimated):
        touched[data.pool] = dates.on()
        books = _estimated(books, data)
    for movement in draft.movements:
        if movement.pool is not None:
            touched[movement.pool] = max(touched[movement.pool], movement.accounting_date)
            books = apply_to_books(books, movement, functional_currency)
    estimates = []
    for name, on in touched.items():
        pool = books.pools[name]
        amount = pool.due_minor() - pool.recognised_minor
        foreign = pool.currency != functional_currency
        functional = pool.due_functional() - pool.recognised_functional if foreign else None
        # An average rate that moves may turn the functional side: an entry has one direction, so it takes two.
        turned = functional is not None and amount * functional < 0
        parts = ((amount, 0), (0, functional)) if turned else ((amount, functional),)
        estimates += [
            Movement(
                kind="breakage_estimate",
                accounting_date=on,
                amount_minor=part,
                pool=name,
                functional_minor=part_functional,
                currency=pool.currency if foreign else None,
            )
            for part, part_functional in parts
            if part or part_functional
        ]
    return msgspec.structs.replace(draft, movements=draft.movements + tuple(estimates))


def _estimated(books: Books, data: BreakageEstimated) -> Books:
    """The books with a pool's new estimate. Raises WrongCurrency, EstimateTooHigh."""
    current = books.pools.get(data.pool)
    if current is not None:
        same_currency(data.currency, current.currency, f"pool {data.pool}")
    pool = with_estimate(current, data)
    rates = [rate for rate in (data.expected_breakage_rate, data.expected_escheat_rate) if rate is not None]
    estimate = present(pool.estimate, f"pool {data.pool} has no estimate after its estimate was set")
    breakage, escheat = estimate.of(pool.issued_minor)
    amounts = data.expected_breakage is not None or data.expected_escheat is not None
    escheat = max(escheat, Fraction(pool.escheated_minor))
    if sum(rates) >= 1 or (amounts and breakage + escheat >= pool.issued_minor):
        raise errors.EstimateTooHigh(
            f"the expected breakage and escheat leave nothing of pool {data.pool} to be redeemed",
            field="data.expected_breakage" if data.expected_breakage is not None else "data.expected_breakage_rate",
            expected="together less than what is issued",
            found=str(data.expected_breakage or data.expected_breakage_rate),
        )
    return msgspec.structs.replace(books, pools={**books.pools, data.pool: pool})
