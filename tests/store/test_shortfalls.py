"""The reasons for too few credits include facts outside the wallet: expired blocks that were swept, and unknown
customers.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg
import pytest

from api.service import Subledger
from subledger.deciding.shortfalls import MOST_NAMED, insufficient
from subledger.events.envelope import read_event
from subledger.ledger_settings import LedgerSettings
from subledger.store.database import Database
from subledger.store.timeouts import Timeouts
from subledger.store.writing.explaining import MOST_LOOKS, Refusals
from subledger.store.writing.referenced_rows import find_lapsed
from subledger.wallet import Wallet
from tests.building import cloud_event, purchase, usage
from tests.conftest import NewLedger
from tests.laws.case import Case
from tests.waiting import until

buy = partial(purchase, time="2026-01-10T12:00:00Z", credits="5")


use = partial(usage, time="2026-03-01T12:00:00Z", credits="4")


def reasons(service: Subledger, ledger: str, *events: Any) -> list[Any]:
    outcomes = service.record(ledger, events)
    return [outcome.error and outcome.error.facts.get("reasons") for outcome in outcomes]


def test_blocks_that_were_swept_and_customers_never_seen_are_told(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    service.record(
        ledger,
        [
            buy("A", expires_at="2026-02-01T00:00:00Z"),
            buy("B", expires_at="2026-02-02T00:00:00Z"),
            buy("C", customer="bob", expires_at="2026-02-03T00:00:00Z", unit="token"),
            buy("E", customer="eve", credits="4"),
            use("eve-1", customer="eve"),
        ],
    )
    assert service.expire(ledger, date(2026, 2, 28)) == 3
    used_up = [{"reason": "used_up", "credits": "0"}]
    unknown = [{"reason": "unknown_customer", "credits": "0"}]
    expired = [{"reason": "expired", "credits": "10", "blocks": ["A", "B"], "at": "2026-02-02T00:00:00Z"}]
    other = [{"reason": "other_unit", "credits": "5", "blocks": ["C"], "units": ["token"]}]
    events = [
        use("a"),
        use("b", customer="bob"),
        buy("N", customer="new"),
        use("n", customer="new", credits="5"),
        use("n2", customer="new"),
        use("z", customer="zoe"),
        use("e", customer="eve"),
        use("a2", block_id="A"),
    ]
    expected = [
        expired,
        other,
        None,
        None,
        used_up,
        unknown,
        used_up,
        [{**expired[0], "credits": "5", "blocks": ["A"], "at": "2026-02-01T00:00:00Z"}],
    ]
    assert reasons(service, ledger, *events) == expected
    for event, told in zip(events, expected, strict=True):
        if told is not None:
            assert reasons(service, ledger, event) == [told], "the same alone, without a batch to be in"


def test_a_customer_is_known_by_any_event_before_and_by_one_of_the_same_batch(
    service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    paid = cloud_event("p", "payment.received", "ann", "2026-01-10T12:00:00Z", amount="1.00", currency="USD")
    first, _, second = reasons(service, ledger, use("u1"), paid, use("u2"))
    assert first == [{"reason": "unknown_customer", "credits": "0"}]
    assert second == [{"reason": "used_up", "credits": "0"}]
    assert reasons(service, ledger, use("u3", customer="bob")) == [[{"reason": "unknown_customer", "credits": "0"}]]


def test_a_rejection_within_a_large_batch_is_told_the_same(service: Subledger, new_ledger: NewLedger) -> None:
    """Other events of the batch are being copied to the server when it is decided."""
    ledger = new_ledger()
    service.record(ledger, [buy("A", expires_at="2026-02-01T00:00:00Z")])
    service.expire(ledger, date(2026, 2, 28))
    many = [buy(f"M{number}", customer="bob") for number in range(300)]
    found = reasons(service, ledger, *many[:150], use("short"), *many[150:])
    assert [told for told in found if told] == [
        [{"reason": "expired", "credits": "5", "blocks": ["A"], "at": "2026-02-01T00:00:00Z"}]
    ]


MANY = """
-- A hundred thousand more finished blocks of a customer: a half of them expired, the others used up.
INSERT INTO blocks (ledger, block_id, customer, opened_at_position, expires_at, is_open, state)
SELECT ledger, block_id || '-' || n, customer, opened_at_position, expires_at - n * interval '1 minute', false,
       replace(CASE WHEN n % 2 = 0 THEN state ELSE replace(state, '"expired":true', '"expired":false') END,
               '"block_id":"A"', '"block_id":"A-' || n || '"')
FROM blocks, generate_series(1, 100000) AS n WHERE block_id = 'A'
"""
READ = """
SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'blocks'
"""


def test_however_many_blocks_have_finished_a_refusal_reads_only_those_that_it_names(scratch_url: str) -> None:
    """The rows are counted, under the ledger's lock, before and after the server has statistics of them."""
    database = Database(scratch_url)
    service = Subledger(database)
    service.create_ledger("acme", LedgerSettings(currency="USD"))
    service.record("acme", [buy("A", expires_at="2026-02-01T00:00:00Z")])
    service.expire("acme", date(2026, 2, 28))
    with psycopg.connect(scratch_url, autocommit=True) as owner:
        assert owner.execute(MANY).rowcount == 100_000
        for prepare in ("SELECT 1", "ANALYZE blocks"):
            owner.execute(prepare.encode())
            with database.write(recording=True) as connection:
                [before] = connection.execute(READ).fetchall() or [(0,)]
                found = find_lapsed(connection, "acme", {"ann"})
                [after] = connection.execute(READ).fetchall()
            assert len(found["ann"]) == MOST_NAMED
            assert after[0] - before[0] <= MOST_NAMED, prepare
    [told] = reasons(service, "acme", use("u"))
    assert (told[0]["reason"], len(told[0]["blocks"])) == ("expired", MOST_NAMED)
    database.close()


# --- the number of blocks that are read
# --------------------------------------------------------------------------------

OPEN = 500


@pytest.fixture
def of_many(service: Subledger, new_ledger: NewLedger) -> str:
    """A ledger in which ann has many open blocks for another product, and bob one."""
    ledger = new_ledger()
    service.record(
        ledger, [buy(f"A{n:03}", scope=["api"]) for n in range(OPEN)] + [buy("B", customer="bob", scope=["api"])]
    )
    return ledger


def test_the_same_refusal_is_worked_out_once_however_often_it_is_met(service: Subledger, of_many: str) -> None:
    wanted = MOST_LOOKS // OPEN + 10
    found = reasons(service, of_many, *(use(f"u{number}", product="mail") for number in range(wanted)))
    assert all(told == found[0] for told in found)
    [other] = found[0]
    assert (other["reason"], other["credits"], len(other["blocks"])) == ("other_product", str(5 * OPEN), MOST_NAMED)
    assert reasons(service, of_many, use("alone", product="mail")) == [found[0]]


def test_so_many_blocks_are_looked_at_for_one_batch_and_other_refusals_have_their_numbers(
    service: Subledger, of_many: str
) -> None:
    most = MOST_LOOKS // OPEN
    events = [use(f"u{number}", product=f"p{number}") for number in range(most + 10)]
    outcomes = service.record(of_many, [use("b", customer="bob", product="mail"), *events])
    facts = [outcome.error.facts for outcome in outcomes if outcome.error]
    explained = [bool(told.get("reasons")) for told in facts]
    assert explained == [True] * most + [False] * 11, "those that came first, of which the first looked at one block"
    assert {(told["available"], told["missing"]) for told in facts} == {("0", "4")}
    assert str(outcomes[-1].error) == "4 credit requested, 0 available"
    [alone] = reasons(service, of_many, events[-1])
    assert [told["reason"] for told in alone] == ["other_product"], "sent alone, it is told"


def test_the_first_refusal_has_its_reasons_however_many_blocks_are_open() -> None:
    case, refusals = Case(on_shortfall="reject"), Refusals(most_looks=1)
    for name in ("A", "B"):
        case.buys(name, scope=["api"])
    for product in ("mail", "chat"):
        event = read_event(use("u", product=product))
        error = insufficient(event, Decimal(4))
        refusals.add(error, event, case.wallet("ann"), customer_known=True, late=False, position=2)
        assert (bool(refusals), refusals.looks) == (True, 2), "the second one is not looked into any more"


def test_a_block_bought_after_the_refusal_is_no_reason(service: Subledger, new_ledger: NewLedger) -> None:
    """The block may have been bought, and have expired, before the reasons of the refusal are computed."""
    ledger = new_ledger()
    positions = []
    for name in ("A", "B"):
        service.record(ledger, [buy(name, expires_at="2026-02-01T00:00:00Z")])
        service.expire(ledger, date(2026, 2, 28))
        with service.view(ledger) as view:
            positions.append(view.position)
    event, refusals = read_event(use("u")), Refusals()
    error = insufficient(event, Decimal(4))
    refusals.add(error, event, Wallet(customer="ann"), customer_known=True, late=False, position=positions[0])
    with service.database.write() as connection:
        [explained] = refusals.explained(connection, ledger).values()
    assert [told["blocks"] for told in explained.facts["reasons"]] == [["A"]]


@pytest.fixture
def own_url(scratch_url: str) -> Iterator[str]:
    """A separate database, so that its tables can be locked."""
    database = Database(scratch_url)
    service = Subledger(database)
    service.create_ledger("acme", LedgerSettings(currency="USD"))
    service.record("acme", [buy("A", expires_at="2026-02-01T00:00:00Z")])
    service.expire("acme", date(2026, 2, 28))
    yield scratch_url
    database.close()


def test_the_reasons_are_found_without_the_ledgers_lock(own_url: str) -> None:
    database = Database(own_url)
    waiting = "SELECT FROM pg_stat_activity WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    with ThreadPoolExecutor() as threads:
        with psycopg.connect(own_url) as holder, psycopg.connect(own_url) as other:
            holder.execute("LOCK TABLE blocks IN ACCESS EXCLUSIVE MODE")
            told = threads.submit(reasons, Subledger(database), "acme", use("u"))

            def looked_for() -> bool:
                holder.execute("SELECT pg_stat_clear_snapshot()")
                return bool(holder.execute(waiting).fetchall())

            until(looked_for, "blocks that have left the wallet are looked for")
            locked = other.execute("SELECT ledger FROM ledgers WHERE ledger = 'acme' FOR UPDATE NOWAIT").fetchall()
            assert locked == [("acme",)]
        assert [found["reason"] for found in told.result()[0]] == ["expired"]
    database.close()


def test_a_refusal_is_answered_though_its_reasons_cannot_be_found(own_url: str) -> None:
    """The call must not fail, because the other events of the batch are recorded."""
    database = Database(own_url, timeouts=Timeouts(lock_timeout_s=0.01))
    with psycopg.connect(own_url) as holder:
        holder.execute("LOCK TABLE blocks IN ACCESS EXCLUSIVE MODE")
        [outcome] = Subledger(database).recorder.record("acme", [read_event(use("u"))])
    assert (outcome.status, str(outcome.error)) == ("rejected", "4 credit requested, 0 available")
    database.close()
