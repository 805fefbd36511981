"""Undo: an undone event leaves everything as if it had not been, and every step has a way back."""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from subledger import errors
from subledger.billing_documents import Dispute, Invoice, Payment
from subledger.blocks import Block
from subledger.books import Books
from subledger.cohort_days import Day
from subledger.events.envelope import Event, read_event
from subledger.kinds import Entry
from subledger.restored import RestoredRate
from subledger.wallet import Wallet
from tests.building import cloud_event
from tests.laws.case import UNTIL_FEBRUARY, Case, in_euro, on, told
from tests.laws.walk import Step, Walk
from tests.laws.walks import for_every_walk

WAYS_OF_THEIR_OWN = {
    "credits.consumed", "consumption.reversed", "credits.expired", "event.reversed", "credits.reserved",
    "reservation.released",
}  # fmt: skip


def undoing(step: Step, number: int = 0) -> Event:
    """The event that undoes a step, at the same moment."""
    of = step.event
    data = {"event_id": of.event_id, "event_source": of.source, "reason": "r"}
    return read_event(cloud_event(f"undo-{number}", "event.reversed", of.customer, of.occurred_at.isoformat(), **data))


def at(walk: Walk, step: Step) -> Walk:
    """The ledger right after one of its steps."""
    past = copy.copy(walk)
    past.steps = walk.steps[: step.position]
    past.state = walk.steps[step.position].before if step.position < len(walk.steps) else walk.state
    past.wallets, past.books = dict(step.wallets), step.books
    past.owners = {block.block_id: wallet.customer for wallet in step.wallets.values() for block in wallet.blocks}
    past.refused, past.refusals = [], []
    return past


def is_undoable(step: Step) -> bool:
    return step.event.type not in WAYS_OF_THEIR_OWN and step.event.source != "subledger"


# --- what is compared -------------------------------------------------------------------------------------------------


def plain(wallet: Wallet) -> Wallet:
    """A wallet without what an undone event leaves behind."""
    return replace(
        wallet,
        blocks=wallet.blocks.without([block.block_id for block in wallet.blocks if block.undone]),
        documents=wallet.documents.without([(d.document_kind, d.document_id) for d in wallet.documents if d.undone]),
    )


def plain_books(books: Books, other: Books) -> dict[Any, Any]:
    """The books' figures: without standings of zero, and cohorts without figures.

    Of cohorts the days that ``other`` remembers too: an event may be the last that needed some of them.
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
    """The sums of entries by everything that a report may tell apart, but for the cut."""
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
    if step.event.type == "breakage.estimated":  # the first one divides the pool into cohorts for good
        known_pool = past.pools.by_name.get(step.event.data.pool)
        if known_pool is None or known_pool.grouping is None:
            differing = {name for name in differing if name[0] != step.event.data.pool}
    assert not differing, (step.event, [(name, books.get(name), books_before.get(name)) for name in differing])
    assert balances((*step.entries, *undone.entries)) == {}, (step.event, undone.decision)
    return now


@for_every_walk
def test_an_event_that_is_undone_at_once_leaves_everything_as_it_was(walk: Walk) -> None:
    for step in walk.steps:
        if is_undoable(step):
            law_of_one_step(walk, step)


DAYS = frozenset({"changes", "losses_from", "receivable_from", "breakable_from", "invoiced_on", "balance_days"})
"""Figures that remember days. What is undone later counts again from a later day."""
NO_TRACE = frozenset({"exchange_rate.set", "breakage.estimated"})
"""Events that later ones use without being refused afterwards, so undoing them is no step back in time."""


def without_days(wallet: Wallet) -> list[dict[str, Any]]:
    """Every figure of a wallet that does not remember days: of itself, its blocks and its documents."""
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
    """The movements of a step, whatever the numbers of positions are."""
    return [replace(movement, overage_position=None) for movement in step.decision.movements]


def go_on(walk: Walk, events: Iterable[Event]) -> list[Any]:
    """The outcomes of later events: their movements, or that they are refused."""
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
        # What undoes the event itself, or opens its block again, cannot be the same.
        later = [event for event in later if getattr(event.data, "event_id", None) != step.event.event_id]
        assert go_on(with_it, later) == go_on(before, later), step.event


# --- by hand: what is refused -----------------------------------------------------------------------------------------

USD = {"currency": "USD"}
NOTHING_BUILT = "an event on which nothing was built"


def documented(error: errors.SubledgerError) -> tuple[Any, ...]:
    return error.code, error.message, error.field, error.expected, error.found, dict(error.facts)


def is_changed(error: errors.SubledgerError, what: str, **facts: Any) -> bool:
    message = f"{what} was changed by a later event: take that back first"
    return documented(error) == (
        "changed_since",
        message,
        "data.event_id",
        NOTHING_BUILT,
        what,
        {"customer": "ann", **facts},
    )


def test_an_event_on_which_another_was_built_is_refused_naming_what_was_changed() -> None:
    case = Case(on_shortfall="overage")
    bought = case.buys("A")
    received = case.does("payment.received", 2, amount="15.00", payment_id="P", **USD)
    applied = case.does("payment.applied", 3, amount="4.00", payment_id="P", block_id="A", **USD)
    assert is_changed(case.cannot_undo(bought, 4), "block A", block_id="A")
    assert is_changed(case.cannot_undo(received, 4), "unapplied money of ann in USD")
    case.uses("9", 5, overage_price="1.00", **USD)
    billed = case.does("overage.billed", 6, amount="1.50", invoice_id="I", **USD)
    paid = case.does("payment.received", 7, amount="1.00", invoice_id="I", **USD)
    assert is_changed(case.cannot_undo(billed, 8), "the invoice I", invoice_id="I")
    case.undoes(paid, 8)
    again = case.does("overage.billed", 8, amount="0.50", invoice_id="J", **USD)
    assert is_changed(case.cannot_undo(billed, 9), "the overage of position 4")
    case.undoes(again, 9)
    case.undoes(billed, 9)
    disputed = case.does("dispute.opened", 10, dispute_id="D", payment_id="P")
    assert is_changed(case.cannot_undo(applied, 11), "block A", block_id="A")
    case.does("dispute.won", 12, dispute_id="D")
    assert is_changed(case.cannot_undo(disputed, 13), "block A", block_id="A")


def test_a_refund_that_was_paid_back_is_refused_until_that_is_undone_and_is_owed_first_again() -> None:
    case = Case()
    for block in "AB":
        case.buys(block, credits="10")
        case.does("payment.received", 2, amount="10.00", block_id=block, **USD)
    first = case.does("credits.refunded", 3, block_id="A", credits="4", amount="3.00", **USD)
    case.does("credits.refunded", 4, block_id="B", credits="4", amount="4.00", **USD)
    paid_back = case.does("payment.refunded", 5, amount="3.00", block_id="A", **USD)
    assert is_changed(case.cannot_undo(first, 6), "what is owed back in USD of A", block_id="A")
    case.does("credits.refunded", 7, block_id="B", credits="1", amount="1.00", **USD)
    case.undoes(paid_back, 8)
    assert [(r.block_id, r.amount_minor) for r in case.wallets["ann"].refunds_owed] == [("A", 300), ("B", 500)]
    assert told(case.undoes(first, 9)) == ["01-09 refund_retained -100 block=A", "01-09 refund -300 block=A credits=-4"]
    assert [(r.block_id, r.amount_minor) for r in case.wallets["ann"].refunds_owed] == [("B", 500)]


@pytest.mark.parametrize(
    ("type", "data", "way"),
    [
        ("credits.consumed", {"credits": "1"}, "consumption.reversed takes usage back"),
        (
            "credits.reserved",
            {"reservation_id": "R", "credits": "1", "expires_at": on(9).isoformat()},
            "reservation.released releases the credits",
        ),
    ],
)
def test_events_with_a_way_back_of_their_own_are_refused(type: str, data: dict[str, Any], way: str) -> None:
    case = Case()
    case.buys("A")
    error = case.cannot_undo(case.does(type, 2, **data), 3)
    assert documented(error) == (
        "not_reversible",
        f"e2 is {type}, which is not undone: {way}",
        "data.event_id",
        "an event that is not usage, an expiry or the ledger's own",
        type,
        {},
    )


def test_only_a_recorded_event_of_the_same_customer_is_undone_and_only_once() -> None:
    case = Case()
    bought = case.buys("A")
    undo = {"event_id": "e1", "reason": "r"}
    for event, source in ({"event_id": "e9"}, "billing"), ({"event_id": "e9", "event_source": "crm"}, "crm"):
        error = case.is_refused("event.reversed", 2, **{**undo, **event})
        message = f"no event e9 from {source} is recorded"
        assert documented(error) == ("unknown_original", message, "data.event_id", "a recorded event", "e9", {})
    for customer, whose in ("bob", "bob"), (None, "the ledger as a whole"):
        error = case.is_refused("event.reversed", 2, customer, **undo)
        assert (error.message, error.expected) == ("e1 is credits.purchased of ann", f"an event of {whose}")
        assert (error.code, error.field, error.found) == ("not_reversible", "data.event_id", "e1")
    rate = case.does("exchange_rate.set", 2, None, base="EUR", quote="USD", rate="1.2", rate_source="ECB")
    error = case.is_refused("event.reversed", 3, event_id=rate.event.event_id, reason="r")
    assert error.message == f"{rate.event.event_id} is exchange_rate.set of the ledger as a whole"
    undone = case.undoes(bought, 3)
    assert documented(case.cannot_undo(bought, 4)) == (
        "already_reversed",
        f"event {undone.event.event_id} from billing undid e1 at position 3",
        "data.event_id",
        "an event that was not undone",
        "e1",
        {"reversed_by": {"source": "billing", "id": undone.event.event_id, "position": 3}},
    )
    assert case.cannot_undo(undone, 5).message.endswith(
        "is event.reversed, which is not undone: the fact can be recorded again, under a new id"
    )


# --- by hand: the ledger's own books ----------------------------------------------------------------------------------


def test_an_undone_rate_gives_way_to_the_one_before_it_and_only_the_last_of_a_day_is_undone() -> None:
    case = in_euro()
    [first] = case.steps
    second = case.does("exchange_rate.set", 1, None, base="EUR", quote="USD", rate="1.3", rate_source="ECB")
    case.does("exchange_rate.set", 2, None, base="EUR", quote="USD", rate="1.4", rate_source="ECB")
    assert documented(case.cannot_undo(first, 3)) == (
        "changed_since",
        "the rate of EUR on 2026-01-01 was changed since, by exchange_rate.set e2 from billing at position 2: take "
        "that back first",
        "data.event_id",
        NOTHING_BUILT,
        "the rate of EUR on 2026-01-01",
        {"changed_by": {"source": "billing", "id": "e2", "position": 2, "type": "exchange_rate.set"}},
    )
    for step, rate in (second, Decimal("1.2")), (first, None):
        restored = RestoredRate(currency="EUR", day=date(2026, 1, 1), rate=rate)
        assert case.undoes(step, 3).decision.restored_rate == restored
        assert case.books.rate("EUR", date(2026, 1, 1)) == rate
    assert case.books.rate("EUR", date(2026, 1, 2)) == Decimal("1.4")


def test_an_estimate_is_undone_if_it_is_the_last_and_nothing_of_its_cohorts_was_recorded_since() -> None:
    case = Case()
    case.buys("A", credits="10", pool="p")
    estimate = {"pool": "p", "evidence": "r", **USD}
    first = case.does("breakage.estimated", 2, None, expected_breakage_rate="0.1", **estimate)
    second = case.does("breakage.estimated", 3, None, expected_breakage_rate="0.2", **estimate)
    assert documented(case.cannot_undo(first, 4)) == (
        "changed_since",
        "the estimate of pool p was changed since, by breakage.estimated e3 from billing at position 3: take that back "
        "first",
        "data.event_id",
        NOTHING_BUILT,
        "the estimate of pool p",
        {"changed_by": {"source": "billing", "id": "e3", "position": 3, "type": "breakage.estimated"}},
    )
    case.undoes(second, 4)
    case.uses("2", 5)
    assert documented(case.cannot_undo(first, 6)) == (
        "changed_since",
        "credits of cohort 2026-01 of pool p were issued, redeemed or cancelled since it was estimated, or its month "
        "is closed; another estimate takes the place of this one",
        "data.event_id",
        "an estimate of an open month since which nothing of its cohorts was recorded",
        "e2",
        {},
    )


# --- by hand: what an undone event leaves behind, and from which day --------------------------------------------------


def test_an_undone_document_leaves_its_name_alone() -> None:
    case = Case(on_shortfall="overage")
    case.buys("A", tax="1.00", invoice_id="V")
    paid = case.does("payment.received", 2, amount="15.00", payment_id="P", processor="x", block_id="A", **USD)
    case.uses("9", 3, overage_price="1.00", **USD)
    billed = case.does("overage.billed", 4, amount="2.00", tax="0.20", invoice_id="I", **USD)
    disputed = case.does("dispute.opened", 5, dispute_id="D", payment_id="P")
    for step in disputed, billed, paid:
        case.undoes(step, 6)
    assert set(case.wallets["ann"].documents) == {
        Dispute(dispute_id="D", currency="USD", parts=(), undone=True),
        Invoice(invoice_id="I", currency="USD", undone=True),
        Payment(payment_id="P", currency="USD", undone=True),
    }


def test_an_undone_purchase_leaves_the_terms_of_its_block_alone() -> None:
    case = in_euro()
    bought = case.buys("A", tax="1.00", currency="EUR", pool="p", **UNTIL_FEBRUARY)
    block = bought.wallets["ann"].state_of_block("A")
    assert (block.price_functional, block.taxed_minor, block.receivable_minor) == (1200, 1000, 1100)
    case.undoes(bought, 3)
    empty = Block(
        credits=Decimal(0),
        price_minor=0,
        price_functional=0,
        undone=True,
        **{
            name: getattr(block, name)
            for name in (
                "block_id",
                "credit_kind",
                "unit",
                "currency",
                "rate",
                "starts_at",
                "expires_at",
                "priority",
                "scope",
                "refundable",
                "refundable_apart",
                "pool",
                "cohort",
                "escheat_class",
                "invoice_id",
                "due_at",
                "cancellable",
                "opened_at_position",
                "opened_on",
                "losses_from",
            )
        },
    )
    assert case.wallets["ann"].state_of_block("A") == empty


def test_unapplied_money_that_a_dispute_held_is_free_again_and_what_others_hold_stays() -> None:
    case = in_euro()
    for payment, amount, currency in ("P", "15.00", "USD"), ("Q", "9.00", "EUR"), ("R", "5.00", "USD"):
        case.does("payment.received", 2, amount=amount, currency=currency, payment_id=payment, processor="x")
    opened = [
        case.does("dispute.opened", 3, dispute_id=f"D{payment}", payment_id=payment, fee="1.00", currency=currency)
        for payment, currency in (("P", "USD"), ("Q", "EUR"), ("R", "USD"))
    ]
    assert case.wallets["ann"].balance_held == {"EUR": 900, "USD": 2000}
    assert told(case.undoes(opened[0], 6)) == [
        "01-06 dispute_fee -100 processor=x",
        "01-06 dispute_opened -1500 processor=x",
    ]
    assert case.wallets["ann"].balance_held == {"EUR": 900, "USD": 500}
    case.undoes(opened[1], 6)
    assert case.wallets["ann"].balance_held == {"USD": 500}


def test_credits_that_a_void_took_are_there_again_from_the_day_of_its_undoing() -> None:
    case = Case()
    case.buys("A", credits="10")
    case.undoes(case.does("purchase.voided", 5, block_id="A", reason="r"), 10)
    assert told(case.uses("8", 7)) == ["01-10 consumption 800 block=A credits=8"]


def test_credits_that_a_transfer_took_are_there_again_from_the_day_of_its_undoing() -> None:
    case = Case()
    case.buys("A", credits="10")
    sent = case.does("credits.transferred", 5, block_id="A", to_customer="bob", new_block_id="B", credits="4")
    assert told(case.undoes(sent, 10)) == [
        "01-10 transfer_in -400 block=B credits=-4 customer=bob",
        "01-10 transfer_out -400 block=A credits=-4",
    ]
    assert told(case.uses("8", 7)) == ["01-10 consumption 800 block=A credits=8"]


def test_a_receivable_whose_payment_bounced_is_owed_from_the_day_of_its_undoing() -> None:
    case = Case()
    case.buys("A", credits="10", tax="1.00")
    paid = case.does(
        "payment.received", 3, amount="15.00", block_id="A", payment_id="P", processor="x", fee="0.50", **USD
    )
    case.uses("3", 4)
    assert told(case.undoes(paid, 9)) == [
        "01-09 processing_fee -50 processor=x",
        "01-09 unapplied_processor -400 processor=x",
        "01-09 payment_processor -1100 block=A processor=x",
    ]
    assert told(case.does("payment.received", 6, amount="11.00", block_id="A", **USD)) == [
        "01-06 unapplied_cash 1100",
        "01-09 payment_applied 1100 block=A",
    ]


def test_credits_that_a_moved_expiry_brought_back_break_again_on_the_day_of_its_undoing() -> None:
    case = Case()
    case.buys("A", credits="10", **UNTIL_FEBRUARY)
    case.expires("A")
    moved = case.does("block.expiry_changed", 40, block_id="A", expires_at=on(90).isoformat(), reason="r")
    assert told(case.undoes(moved, 45)) == [
        "02-14 reinstatement -1000 block=A credits=-10",
        "02-14 expiry_changed 0 block=A",
    ]
    block = case.wallets["ann"].state_of_block("A")
    assert (block.expires_at, block.breakable_from) == (on(32).replace(hour=0), date(2026, 2, 14))
