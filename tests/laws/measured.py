"""The effect of each step of a walk, as a second person would be shown it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from subledger.books import Books
from subledger.deciding.event_effects import effect_of
from subledger.event_effect import EventEffect
from subledger.events.own_data import Approvals
from subledger.events.references import customers_of
from subledger.ledger import LedgerState
from subledger.wallet import Wallet
from tests.laws.walk import Step, Walk

AT_ONCE = {"credits.expired"}
"""Expiries as they fall due, which are not a person's decision."""


def asking(**asked: Any) -> Approvals:
    """The settings of a ledger that asks so for a second person."""
    return Approvals.model_validate(asked)


Measured = tuple[Step, Mapping[str, Wallet], LedgerState, EventEffect]


def measured(walk: Walk, approvals: Approvals) -> Iterator[Measured]:
    """Each step with the wallets before it, the ledger if it asked so, and its effect."""
    wallets: Mapping[str, Wallet] = {}
    books = Books()
    for step in walk.steps:
        state = msgspec.structs.replace(step.before, approvals=approvals)
        if step.event.type not in AT_ONCE:
            named = customers_of(step.event, step.decision)
            before = {name: wallets.get(name) or Wallet(customer=name) for name in named}
            after = {name: step.wallets[name] for name in named}
            now = step.event.occurred_at
            effect = effect_of(step.event, step.decision, before=before, after=after, books=books, state=state, now=now)
            yield step, wallets, state, effect
        wallets, books = step.wallets, step.books
