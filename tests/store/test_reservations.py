"""Reservations in a database: many callers at once, any batches, and the derived rows."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from api.service import Subledger
from projections import integrity
from projections.reads.spendable import Spendable, spendable_credits
from projections.replay.rebuild import rebuild
from subledger.store.writing.batch import Outcome
from tests.building import cloud_event, purchase, recorded, usage
from tests.conftest import NewLedger
from tests.laws.walks import long_walk
from tests.store.tampering import dump
from tests.store.walked import WALKED, in_batches
from tests.together import together

AT, UNTIL = "2026-02-01T12:00:00Z", "2026-02-01T13:00:00Z"


def reserve(name: str, credits: str, customer: str = "ann", time: str = AT, /, **data: Any) -> dict[str, Any]:
    data = {"reservation_id": name, "credits": credits, "expires_at": UNTIL, **data}
    return cloud_event(f"reserve {name}", "credits.reserved", customer, time, **data)


def release(name: str, customer: str = "ann", time: str = AT) -> dict[str, Any]:
    return cloud_event(f"release {name}", "reservation.released", customer, time, reservation_id=name)


def code(outcome: Outcome) -> str | None:
    return None if outcome.error is None else outcome.error.code


def spent(service: Subledger, ledger: str, at: datetime | None = None) -> Spendable:
    with service.view(ledger, known_at=at) as view:
        return spendable_credits(view, "ann")


def test_many_who_reserve_the_same_credits_get_no_more_than_there_are(
    service: Subledger, new_ledger: NewLedger
) -> None:
    """Twenty callers reserve 75 each, out of 500, at the same time: any six of them get their credits."""
    ledger = new_ledger()
    recorded(service, ledger, purchase("A", "500", "ann", "2026-01-10T12:00:00Z"))
    found: list[str | None] = []

    def ask(number: int) -> None:
        # Each has its own service, like processes on several servers.
        own = Subledger(service.database) if number % 2 else service
        found.append(code(own.record(ledger, [reserve(f"r{number}", "75")])[0]))

    together(ask, range(20))
    assert sorted(found, key=str) == [None] * 6 + ["insufficient_credits"] * 14
    [left, over] = service.record(ledger, [usage("u1", "50", time=AT), usage("u2", "1", time=AT)])
    assert (code(left), code(over)) == (None, "insufficient_credits")
    assert integrity.verify(service.database, ledger).differences == []


def test_usage_and_reservations_at_once_never_take_what_is_held(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    recorded(service, ledger, purchase("A", "100", "ann", "2026-01-10T12:00:00Z"))
    recorded(service, ledger, reserve("kept", "40"))
    taken: list[str | None] = []
    together(
        lambda number: taken.append(code(service.record(ledger, [usage(f"u{number}", "7", time=AT)])[0])), range(12)
    )
    assert taken.count(None) == 8, "56 of the 60 that are free"
    [settled] = service.record(ledger, [usage("settles", "40", time=AT, reservation_id="kept")])
    assert code(settled) is None


def test_a_refusal_names_the_reservations_that_hold_the_credits(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    recorded(service, ledger, purchase("A", "100", "ann", "2026-01-10T12:00:00Z"))
    recorded(service, ledger, reserve("r1", "40"), reserve("r2", "30", "ann", AT, expires_at="2026-02-02T00:00:00Z"))
    for event in (usage("u", "31", time=AT), reserve("r3", "31"), usage("v", "31", time=AT, block_id="A")):
        [outcome] = service.record(ledger, [event])
        assert outcome.error is not None
        assert outcome.error.message.split(": ", 1)[1] == (
            "70 are reserved until 2026-02-02T00:00:00Z (reservation r1 and others)"
        )
        assert outcome.error.facts["reasons"] == [
            {
                "reason": "reserved",
                "credits": "70",
                "blocks": ["A"],
                "at": "2026-02-02T00:00:00Z",
                "reservations": ["r1", "r2"],
            }
        ]
    [outcome] = service.record(ledger, [usage("w", "71", time=AT, reservation_id="r1")])
    assert outcome.error is not None
    assert outcome.error.facts["reasons"][0]["reservations"] == ["r2"]


def test_a_reservation_is_settled_in_the_batch_that_makes_it_or_by_another_writer(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    recorded(
        service,
        ledger,
        purchase("A", "100", "ann", "2026-01-10T12:00:00Z"),
        reserve("r1", "60"),
        usage("u1", "50", time=AT, reservation_id="r1"),
        reserve("r2", "50"),
        release("r2"),
        reserve("r3", "50"),
    )
    other = Subledger(service.database)
    outcomes = other.record(
        ledger,
        [
            usage("u2", "1", time=AT),
            usage("u3", "1", time=AT, reservation_id="r1"),
            usage("u4", "30", time=AT, reservation_id="r3"),
            release("r3"),
            release("r1", "bob"),
            usage("u5", "20", time=AT),
        ],
    )
    assert [code(outcome) for outcome in outcomes] == [
        "insufficient_credits",
        "insufficient_credits",
        None,
        "reservation_ended",
        "unknown_reservation",
        None,
    ]
    assert integrity.verify(service.database, ledger).differences == []


@pytest.mark.parametrize("left_after", [0, 1000])
def test_reservations_hold_whatever_rows_are_written_behind(
    left_after: int, service: Subledger, new_ledger: NewLedger, left_behind: Callable[[int], None]
) -> None:
    left_behind(left_after)
    ledger, chance, writer = new_ledger(), random.Random(left_after), service
    recorded(service, ledger, purchase("A", "1000", "ann", "2026-01-10T12:00:00Z"))
    free, held = Decimal(1000), dict[str, Decimal]()
    for number in range(60):
        act, credits = chance.choice(("use", "use", "use", "reserve", "settle")), Decimal(chance.randint(1, 25))
        if chance.random() < 0.2:
            writer = Subledger(service.database)
        if act == "reserve":
            event, fits = reserve(f"r{number}", str(credits)), credits <= free
            if fits:
                free, held[f"r{number}"] = free - credits, credits
        elif act == "settle" and held:
            name = chance.choice(sorted(held))
            credits = min(credits, held[name])
            event, fits = usage(f"u{number}", str(credits), time=AT, reservation_id=name), True
            free += held.pop(name) - credits
        else:
            event, fits = usage(f"u{number}", str(credits), time=AT), credits <= free
            free -= credits if fits else 0
        [outcome] = writer.record(ledger, [event])
        assert (outcome.error is None) == fits, (number, event)
        if number % 20 == 19:
            assert integrity.verify(service.database, ledger).differences == []
    assert free < 500
    assert held


def test_a_rebuild_makes_the_same_rows(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    recorded(
        service,
        ledger,
        purchase("A", "100", "ann", "2026-01-10T12:00:00Z"),
        reserve("r1", "10"),
        reserve("r2", "20"),
        reserve("r3", "30"),
        usage("u1", "5", time=AT, reservation_id="r1"),
        release("r2"),
        usage("u2", "5", time=AT),
    )
    before = dump(service, ledger)
    rebuild(service.database, ledger)
    assert dump(service, ledger) == before
    [outcome] = service.record(ledger, [usage("u3", "61", time=AT)])
    assert code(outcome) == "insufficient_credits"
    recorded(service, ledger, usage("u4", "60", time=AT))


def test_what_was_spendable_is_known_later_as_it_was(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    known: list[tuple[datetime, Any]] = []
    now = datetime.now(UTC)
    at, until = (now - timedelta(minutes=5)).isoformat(), (now + timedelta(hours=1)).isoformat()
    for event in (
        purchase("A", "100", "ann", "2026-01-10T12:00:00Z"),
        reserve("r1", "10", "ann", at, expires_at=until),
        usage("u1", "7", time=at),
        reserve("r2", "20", "ann", at, expires_at=until),
        usage("u2", "4", time=at, reservation_id="r1"),
        release("r2", "ann", at),
    ):
        recorded(service, ledger, event)
        with service.view(ledger) as view:
            head = view.head.recorded_at
        answer = spent(service, ledger)
        known.append((head, (answer.units, answer.reservations)))
    assert [(units[0].spendable, units[0].reserved, len(open_)) for _, (units, open_) in known] == [
        (100, 0, 0), (90, 10, 1), (83, 10, 1), (63, 30, 2), (69, 20, 1), (89, 0, 0),
    ]  # fmt: skip
    for head, then in known:
        answer = spent(service, ledger, head)
        assert (answer.units, answer.reservations) == then


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_answer_of_now_is_that_of_the_log_and_the_next_usage_finds_as_much(
    seed: int, service: Subledger, new_ledger: NewLedger
) -> None:
    """For any history: the spendable credits from the wallet equal those from the entries, and exactly these can be
    used.
    """
    ledger = new_ledger(**WALKED)
    events = [step.event for step in long_walk(seed, 200).steps if step.event.type != "policy.adopted"]
    for batch in in_batches(events, random.Random(seed)):
        service.recorder.transact(ledger, lambda _c, _s, _p, batch=batch: batch)
    day = max(event.occurred_at for event in events)
    for customer in ("ann", "bob"):
        for product in (None, "api"):
            with service.view(ledger) as view:
                now = spendable_credits(view, customer, product=product)
                head = view.head.recorded_at
            with service.view(ledger, known_at=head) as view:
                then = spendable_credits(view, customer, product=product)
            assert (then.units, then.reservations) == (now.units, now.reservations)
    assert day < datetime.now(UTC)
    for customer in ("ann", "bob"):
        for product in (None, "api"):
            with service.view(ledger) as view:
                free = next((u.spendable for u in spendable_credits(view, customer, product=product).units), Decimal(0))
            asked = {"time": datetime.now(UTC), "product": product, "on_shortfall": "reject"}
            asked = {name: value for name, value in asked.items() if value is not None}
            over = usage(f"over {customer} {product}", f"{free + Decimal('0.000000001'):f}", customer, **asked)
            [outcome] = service.record(ledger, [over])
            assert code(outcome) == "insufficient_credits", free
            if free:
                recorded(service, ledger, usage(f"all {customer} {product}", f"{free:f}", customer, **asked))
