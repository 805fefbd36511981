"""Undo: after it everything is as if the event had not been recorded, and every step can be undone."""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Iterable
from datetime import date
from typing import Any

from msgspec.structs import replace

from subledger.books import Books
from subledger.cohort_days import Day
from subledger.events.envelope import Event, read_event
from subledger.kinds import Entry
from subledger.wallet import Wallet
from tests.building import cloud_event
from tests.laws.walk import Step, Walk
from tests.laws.walks import for_every_walk

WAYS_OF_THEIR_OWN = {
    "credits.consumed", "consumption.reversed", "credits.expired", "event.reversed", "credits.reserved",
    "reservation.released",
}  # fmt: skip


def undoing(step: Step, number: int = 0) -> Event:
    """Returns the event that undoes a step, at the same moment."""
    of = step.event
    data = {"event_id": of.event_id, "event_source": of.source, "reason": "r"}
    return read_event(cloud_event(f"undo-{number}", "event.reversed", of.customer, of.occurred_at.isoformat(), **data))


def at(walk: Walk, step: Step) -> Walk:
    """Returns the ledger as it was after one of its steps."""
    past = copy.copy(walk)
    past.steps = walk.steps[: step.position]
    past.state = walk.steps[step.position].before if step.position < len(walk.steps) else walk.state
    past.wallets, past.books = dict(step.wallets), step.books
    past.owners = {block.block_id: wallet.customer for wallet in step.wallets.values() for block in wallet.blocks}
    past.refused, past.refusals = [], []
    return past


def is_undoable(step: Step) -> bool:
    return step.event.type not in WAYS_OF_THEIR_OWN and step.event.source != "subledger"


# --- comparisons -------------------------------------------------------------------------------------------------


def plain(wallet: Wallet) -> Wallet:
    """Returns a wallet without the remains of an undone event."""
    return replace(
        wallet,
        blocks=wallet.blocks.without([block.block_id for block in wallet.blocks if block.undone]),
        overages=wallet.overages.without([overage.position for overage in wallet.overages if not overage.open]),
        documents=wallet.documents.without([(d.document_kind, d.document_id) for d in wallet.documents if d.undone]),
    )


def plain_books(books: Books, other: Books) -> dict[Any, Any]:
    """Returns the figures of the books, without standings of zero, and without cohorts that have no figures.

    Of cohorts it has only the days that ``other`` has too, because an event may be the last that needed some of them.
    """
    cohorts: dict[Any, Any] = {}
    for cohort in books.pools.all_cohorts():
        of_other = other.pools.cohorts.get(cohort.pool, {}).get(cohort.cohort, cohort)
        forgotten = max(cohort.forgotten_through or date.min, of_other.forgotten_through or date.min)
        days = [day._replace(anchor=None) for day in cohort.days if any(day[1:]) and day.on > forgotten]
        sums = {name: getattr(cohort, name) for name in Day._fields[1:-2] if hasattr(cohort, name)}
        if any(sums.values()) or any(any(day[1:-2]) for day in days):
            cohorts[cohort.pool, cohort.cohort] = (sums, days, cohort.estimate, cohort.due_minor())
    rates: dict[Any, Any] = {name: of for name, of in books.rates.items() if of.days}
    return rates | cohorts | {name: each for name, each in books.standings.items() if any(each)}


def balances(entries: Iterable[Entry]) -> dict[Any, Any]:
    """Returns the sums of entries by every field that a report may use, except the cut."""
    sums: Counter[Any] = Counter()
    for entry in entries:
        place = (entry.policy, entry.kind, entry.customer, entry.block_id, entry.currency, entry.accounting_date)
        for name in ("credits", "amount_minor", "functional_minor"):
            sums[(*place, entry.dimensions, name)] += getattr(entry, name)
    return {place: amount for place, amount in sums.items() if amount}


# --- laws -------------------------------------------------------------------------------------------------------------


def law_of_one_step(walk: Walk, step: Step) -> Walk:
    now = at(walk, step)
    undone = now.take(undoing(step))
    assert undone is not None, (step.event, now.refused)
    before = walk.steps[step.position - 2] if step.position > 1 else None
    known = {customer: Wallet(customer=customer) for customer in now.wallets} if before is None else before.wallets
    for customer, wallet in now.wallets.items():
        assert plain(wallet) == plain(known[customer]), (step.event, undone.decision)
    past = Books() if before is None else before.books
    books, books_before = plain_books(now.books, past), plain_books(past, now.books)
    differing = {name for name in {*books, *books_before} if books.get(name) != books_before.get(name)}
    if step.event.type == "breakage.estimated":  # the first one divides the pool into cohorts permanently
        known_pool = past.pools.by_name.get(step.event.data.pool)
        if known_pool is None or known_pool.grouping is None:
            differing = {name for name in differing if name[0] != step.event.data.pool}
    assert not differing, (step.event, [(name, books.get(name), books_before.get(name)) for name in differing])
    assert balances((*step.entries, *undone.entries)) == {}, (step.event, undone.decision)
    units = [{entry.unit for entry in entries} for entries in (step.entries, undone.entries)]
    assert units[0] == units[1], (step.event, undone.entries)
    return now


@for_every_walk
def test_an_event_that_is_undone_at_once_leaves_everything_as_it_was(walk: Walk) -> None:
    for step in walk.steps:
        if is_undoable(step):
            law_of_one_step(walk, step)


DAYS = frozenset({"changes", "losses_from", "receivable_from", "breakable_from", "invoiced_on", "balance_days"})
"""Figures that depend on days. Amounts that are undone later count again from a later day."""
NO_TRACE = frozenset({"exchange_rate.set", "breakage.estimated"})
"""Events that later events use without being refused after the undoing. So undoing them does not restore an earlier
time.
"""


def without_days(wallet: Wallet) -> list[dict[str, Any]]:
    """Returns the figures of a wallet, its blocks and its documents that do not depend on days."""
    parts = (plain(wallet), *plain(wallet).blocks, *plain(wallet).documents)
    names = [(part, set(part.__struct_fields__) - DAYS - {"blocks", "documents"}) for part in parts]
    return [{name: getattr(part, name) for name in sorted(of)} for part, of in names]


def law_of_a_later_undo(walk: Walk, step: Step, gap: int) -> str:
    """Undoes a step ``gap`` steps later, and compares with a ledger that had another event in its place."""
    last = walk.steps[min(step.position - 1 + gap, len(walk.steps) - 1)]
    now, otherwise = at(walk, last), at(walk, walk.steps[step.position - 2])
    undone = now.take(undoing(step))
    if undone is None:
        return now.refusals[-1][1]
    neutral = {"base": "XAF", "quote": "USD", "rate": "0.0016", "rate_source": "r"}
    otherwise.send("neutral", "exchange_rate.set", None, step.event.occurred_at, **neutral)
    for other in walk.steps[step.position : last.position]:
        again = otherwise.take(other.event)
        if again is None or again.decision.movements != other.decision.movements:
            return "the later events build on it"
    for customer, wallet in now.wallets.items():
        assert without_days(wallet) == without_days(otherwise.wallets[customer]), (step.event, undone.decision)
    sums: Counter[Any] = Counter()
    for (*place, _day, dimensions, name), amount in balances((*step.entries, *undone.entries)).items():
        sums[(*place, dimensions, name)] += amount
    assert not any(sums.values()), (step.event, undone.decision)
    return "undone"


@for_every_walk
def test_an_event_that_is_undone_later_leaves_everything_but_days_as_if_it_had_not_been(walk: Walk) -> None:
    chance = random.Random(len(walk.steps))
    undoable = [step for step in walk.steps[1:] if is_undoable(step) and step.event.type not in NO_TRACE]
    for step in chance.sample(undoable, min(len(undoable), 20)):
        law_of_a_later_undo(walk, step, chance.choice((1, 2, 4, 8)))


def movements(step: Step) -> list[Any]:
    """Returns the movements of a step, without the numbers of positions."""
    return [replace(movement, overage_position=None) for movement in step.decision.movements]


def go_on(walk: Walk, events: Iterable[Event]) -> list[Any]:
    """Returns the outcomes of later events: their movements, or a refusal."""
    outcomes: list[Any] = []
    for event in events:
        step = walk.take(event)
        outcomes.append("refused" if step is None else movements(step))
    return outcomes


@for_every_walk
def test_what_comes_after_an_undone_event_comes_as_if_it_had_not_been(walk: Walk) -> None:
    chance = random.Random(len(walk.steps))
    undoable = [step for step in walk.steps if is_undoable(step) and step.event.type != "breakage.estimated"]
    for step in chance.sample(undoable, min(len(undoable), 4)):
        with_it = law_of_one_step(walk, step)
        before = Walk() if step.position == 1 else at(walk, walk.steps[step.position - 2])
        later = [after.event for after in walk.steps[step.position : step.position + 25]]
        # An event that undoes the event itself, or opens its block again, cannot have the same outcome.
        later = [event for event in later if getattr(event.data, "event_id", None) != step.event.event_id]
        assert go_on(with_it, later) == go_on(before, later), step.event
