"""Of usage that finds too few credits also what has left the wallet is told: what was swept, and who is not known."""

from __future__ import annotations

from datetime import date
from typing import Any

import psycopg

from api.service import LedgerSettings, Subledger
from subledger.shortfalls import MOST_NAMED
from subledger.store.database import Database
from subledger.store.memory import find_lapsed
from subledger.store.migrate import migrate
from tests.conftest import NewLedger, cloud_event


def buy(block_id: str, customer: str = "ann", **data: Any) -> dict[str, Any]:
    good = {"block_id": block_id, "credits": "5", "price": "5.00", "currency": "USD", **data}
    return cloud_event(f"buy-{block_id}", "credits.purchased", customer, "2026-01-10T12:00:00Z", **good)


def use(event_id: str, customer: str = "ann", **data: Any) -> dict[str, Any]:
    return cloud_event(event_id, "credits.consumed", customer, "2026-03-01T12:00:00Z", **{"credits": "4", **data})


def reasons(service: Subledger, ledger: str, *events: Any) -> list[Any]:
    outcomes = service.record(ledger, events)
    return [outcome.error and outcome.error.facts.get("reasons") for outcome in outcomes]


def test_blocks_that_were_swept_and_customers_never_seen_are_told(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    service.record(
        ledger,
        [buy("A", expires_at="2026-02-01T00:00:00Z"), buy("B", expires_at="2026-02-02T00:00:00Z"),
         buy("C", "bob", expires_at="2026-02-03T00:00:00Z", unit="token"), buy("E", "eve", credits="4"),
         use("eve-1", "eve")],
    )  # fmt: skip
    assert service.expire(ledger, date(2026, 2, 28)) == 3
    used_up = [{"reason": "used_up", "credits": "0"}]
    unknown = [{"reason": "unknown_customer", "credits": "0"}]
    expired = [{"reason": "expired", "credits": "10", "blocks": ["A", "B"], "at": "2026-02-02T00:00:00Z"}]
    other = [{"reason": "other_unit", "credits": "5", "blocks": ["C"], "units": ["token"]}]
    events = [use("a"), use("b", "bob"), buy("N", "new"), use("n", "new", credits="5"), use("n2", "new"),
              use("z", "zoe"), use("e", "eve"), use("a2", block_id="A")]  # fmt: skip
    expected = [expired, other, None, None, used_up, unknown, used_up, [{**expired[0], "credits": "5", "blocks": ["A"],
                "at": "2026-02-01T00:00:00Z"}]]  # fmt: skip
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
    assert reasons(service, ledger, use("u3", "bob")) == [[{"reason": "unknown_customer", "credits": "0"}]]


def test_a_rejection_within_a_large_batch_is_told_the_same(service: Subledger, new_ledger: NewLedger) -> None:
    """Its neighbours are being copied to the server when it is decided."""
    ledger = new_ledger()
    service.record(ledger, [buy("A", expires_at="2026-02-01T00:00:00Z")])
    service.expire(ledger, date(2026, 2, 28))
    many = [buy(f"M{number}", "bob") for number in range(300)]
    found = reasons(service, ledger, *many[:150], use("short"), *many[150:])
    assert [told for told in found if told] == [
        [{"reason": "expired", "credits": "5", "blocks": ["A"], "at": "2026-02-01T00:00:00Z"}]
    ]


MANY = """
-- A hundred thousand more finished blocks of a customer: a half of them expired, the others used up.
INSERT INTO blocks (ledger, block_id, customer, opened_at_position, expires_at, is_open, state)
SELECT ledger, block_id || '-' || n, customer, opened_at_position, expires_at - n * interval '1 minute', false,
       CASE WHEN n % 2 = 0 THEN state ELSE replace(state, '"expired":true', '"expired":false') END
FROM blocks, generate_series(1, 100000) AS n WHERE block_id = 'A'
"""
READ = """
SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'blocks'
"""


def test_however_many_blocks_have_finished_a_refusal_reads_only_those_that_it_names(fresh_database_url: str) -> None:
    """The rows are counted, under the ledger's lock, before and after the server has statistics of them."""
    migrate(fresh_database_url)
    database = Database(fresh_database_url)
    service = Subledger(database)
    service.create_ledger("acme", LedgerSettings(currency="USD"))
    service.record("acme", [buy("A", expires_at="2026-02-01T00:00:00Z")])
    service.expire("acme", date(2026, 2, 28))
    with psycopg.connect(fresh_database_url, autocommit=True) as owner:
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
