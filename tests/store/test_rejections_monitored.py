"""The monitor of rejected events reads a limited number of them, and misses no unexpected one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import psycopg
import pytest

from api.service import Subledger
from projections.monitors import look_at_open, rejected
from projections.monitors.rejected import READ_AT_MOST
from projections.monitors.settings import set_settings
from subledger.deciding.shortfalls import Shortfall
from subledger.errors import InsufficientCredits
from subledger.store.rejected import dismissals, rejections
from subledger.store.rejected.rejections import Chosen
from tests.building import purchase, usage
from tests.conftest import NewLedger
from tests.store.rejected import kept
from tests.store.tampering import differences

MANY = 200_000
FILL = """
INSERT INTO rejected_events (ledger, rejection_id, content_hash, sent, sent_bytes, source, event_id, type, customer,
    occurred_at, data_hash, credits, unit, sender, way, first_at, code, problem, position, last_at, attempts)
SELECT %(ledger)s, 'rej-' || %(prefix)s || n, '', %(sent)s, 2, 'billing', %(prefix)s || n, 'credits.consumed', 'ann',
       now(), '', 1, 'credit', 'meter', 'http',
       date_trunc('day', now()) - interval '2 days' + n * interval '1 microsecond',
       %(code)s, %(problem)s, 0, now() - interval '1 day', 1 FROM generate_series(1, %(rows)s) AS n
"""


def _rows_read(service: Subledger, ledger: str, most: int) -> int:
    """Returns the number of rejections that a read of open ones reads, with or without an index, including discarded
    rows.
    """
    values = {"ledger": ledger, "most": most, "first_before": None}
    query = rejections.COUNT_OLDEST.strip().split("\n", 1)[1]
    with service.database.read() as connection:
        [(plan,)] = connection.exec_driver_sql("EXPLAIN (ANALYZE, FORMAT JSON) " + query, values).all()

    def read(node: dict[str, Any]) -> int:
        below = sum(read(each) for each in node.get("Plans", ()))
        if node.get("Relation Name") != "rejected_events":
            return below
        rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        return below + int(rows * node["Actual Loops"])

    return read(plan[0]["Plan"])


def _fill(owner_url: str, ledger: str, rows: int, **other: object) -> None:
    values = {"prefix": "v", "code": "missing_field", "sent": b"{}", "problem": "{}", **other}
    with psycopg.connect(owner_url) as owner:
        owner.execute(FILL, {"ledger": ledger, "rows": rows, **values})
        owner.execute("ANALYZE rejected_events")


@pytest.mark.campaign
def test_a_look_at_200_000_open_rejections_reads_10_000_of_each_code(
    owner_url: str, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    _fill(owner_url, ledger, MANY)
    most = READ_AT_MOST
    with service.database.read() as connection:
        found = rejections.open_counts(connection, ledger, most=most)
        every = rejections.counts(connection, ledger, Chosen(state="open"), most=most)
    assert found == every
    assert (found.by_code[0].rejections, found.complete) == (most, False)
    assert most <= _rows_read(service, ledger, most) <= most + 2, "and one to find each code"
    looked = look_at_open(service.database, ledger, datetime.now(UTC))
    assert looked.report.named("rejected").rings
    assert looked.rejections == {"missing_field": most}


EXPECTED = InsufficientCredits("x", reasons=[Shortfall(reason="used_up").document]).as_document()


def test_any_number_of_expected_refusals_hides_none_that_is_not(
    owner_url: str, service: Subledger, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = new_ledger()
    monkeypatch.setattr(dismissals, "SETTLED_AT_ONCE", 100)
    short = {"code": "insufficient_credits", "problem": orjson.dumps(EXPECTED).decode()}
    _fill(owner_url, ledger, READ_AT_MOST + 5, **short)
    looked = look_at_open(service.database, ledger, datetime.now(UTC))
    assert (looked.report.named("rejected").value, looked.report.named("rejected").rings) == (0, False)
    expired = orjson.dumps({**EXPECTED, "reasons": [{"reason": "expired", "credits": "2"}]}).decode()
    _fill(owner_url, ledger, 3, prefix="late", **{**short, "problem": expired})
    # All of them have the same age, and are read after the expected ones: v comes before w.
    _fill(owner_url, ledger, 500, prefix="w", code="unknown_invoice")
    _fill(owner_url, ledger, 1, prefix="x", sent=None, **short)
    batch = [usage(f"u{n}", customer="bob") for n in range(150)]
    service.record(ledger, [*batch, purchase(credits="150", customer="bob"), *batch])
    service.rejected.dismiss(ledger, "rej-w500", "a test", by="ann")
    looked = look_at_open(service.database, ledger, datetime.now(UTC))
    found = looked.report.named("rejected")
    assert (found.value, found.rings, found.evidence["not_kept_one_by_one"]) == (503, True, 1)
    assert looked.rejections == {"insufficient_credits": READ_AT_MOST + 4, "unknown_invoice": 499}
    assert not kept(service, ledger, Chosen(state="open", customer="bob"))
    with psycopg.connect(owner_url) as owner:
        unnoted = owner.execute(
            "SELECT count(*) FROM rejected_events WHERE ledger = %s AND customer = 'bob' AND settled_position IS NULL",
            (ledger,),
        ).fetchone()
    assert unnoted == (0,), "what is recorded since is noted as such, whatever is older and stays open"
    assert _rows_read(service, ledger, READ_AT_MOST) <= READ_AT_MOST + 503 + 2 * 5


def test_so_many_open_rejections_as_are_read_ring_whatever_is_allowed(
    service: Subledger, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = new_ledger()
    monkeypatch.setattr(rejected, "READ_AT_MOST", 3)
    set_settings(service.database, ledger, {"rejected_events": 1_000_000, "rejected_after_s": 0}, by="test")
    service.record(ledger, [{"id": "x1"}, {"id": "x2"}])
    assert not look_at_open(service.database, ledger, datetime.now(UTC)).report.named("rejected").rings
    service.record(ledger, [{"id": f"y{n}"} for n in range(10)])
    found = look_at_open(service.database, ledger, datetime.now(UTC)).report.named("rejected")
    assert (found.value, found.rings) == (3, True)


def test_rejections_that_are_recorded_since_are_read_once_and_never_again(
    owner_url: str, service: Subledger, new_ledger: NewLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejected, "READ_AT_MOST", 100)
    monkeypatch.setattr(dismissals, "SETTLED_AT_ONCE", 100)
    ledger = new_ledger()
    batch = [usage(f"u{n}") for n in range(450)]
    service.record(ledger, [*batch, usage("late", customer="bob")])
    service.record(ledger, [purchase(credits="450"), *batch])
    looked = look_at_open(service.database, ledger, datetime.now(UTC))
    assert looked.rejections == {"insufficient_credits": 1}, "those in the way are noted, and another look is had"
    with psycopg.connect(owner_url) as owner:  # other tests fill the table too
        owner.execute("ANALYZE rejected_events")
    assert _rows_read(service, ledger, 100) <= 3, "it, and to find its code"
    assert {each.state for each in kept(service, ledger)} == {"retried", "open"}
    service.record(ledger, [usage("u1", "2")])
    conflict = kept(service, ledger, Chosen(state="open", event_id="u1"))
    assert [each.code for each in conflict] == ["event_conflict"]
    assert differences(service, ledger) == []
