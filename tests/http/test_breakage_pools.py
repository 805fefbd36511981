"""The report of breakage pools over HTTP: the proportional method as an accountant checks it.

The pool is that of tests/examples/pools/proportional-pool.txt: 100,000 are issued, the expected breakage is 10 % and
then 8 %, 27,000 are redeemed each quarter, and 7,000 expire at the end.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.service import Subledger
from projections.close.close import close_period
from subledger.events.own_data import Approvals
from subledger.ledger_settings import LedgerSettings
from subledger.periods import Period
from subledger.store.writing.expiry_sweep import sweep
from tests.building import at_noon, purchase, rate, recorded, usage
from tests.conftest import FAR, NewLedger
from tests.http.reported import POLICIES
from tests.reading import columns_of, get_report, lines_of

USD = {"currency": "USD"}


buy = partial(purchase, pool="year")


def _expects(name: str, day: str, pool: str = "year", **data: Any) -> dict[str, Any]:
    return at_noon(name, "breakage.estimated", None, day, pool=pool, evidence=f"study {name}", **{**USD, **data})


@pytest.fixture(scope="module", params=POLICIES)
def ledger(request: pytest.FixtureRequest, service: Subledger, new_ledger: NewLedger) -> str:
    made = new_ledger(policy=request.param, sandbox=True, clock=FAR)
    until = {"expires_at": "2027-01-02T00:00:00Z"}
    recorded(
        service,
        made,
        buy("A", "60000", "ann", "2026-01-01T12:00:00Z", price="60000.00", **until),
        buy("B", "40000", "bob", "2026-01-01T12:00:00Z", price="40000.00", **until),
        buy("C", "500", "ann", "2026-01-01T12:00:00Z", price="500.00", pool=None, priority=99),
        _expects("one", "2026-01-02", expected_breakage="10000.00"),
        usage("u1", "27000", "ann", "2026-03-31T12:00:00Z"),
        _expects("two", "2026-06-30", expected_breakage="8000.00"),
        usage("u2", "27000", "bob", "2026-06-30T12:00:00Z"),
        usage("u3", "27000", "ann", "2026-09-30T12:00:00Z"),
        usage("u4", "12000", "bob", "2026-12-31T12:00:00Z"),
    )
    assert sweep(service.recorder, made, datetime.fromisoformat("2027-01-02T00:00:01Z")) == 2
    return made


def _told(document: dict[str, Any], table: str, *columns: str) -> str:
    return columns_of(document[table], *columns)


def test_breakage_is_recognised_in_proportion_month_by_month(client: TestClient, ledger: str) -> None:
    found = get_report(client, ledger, "pools", to="2027-01")
    columns = ("period", "opening", "recognised", "expired", "closing", "due_by_formula")
    # June: 633.33 are reversed when the estimate falls, then 2,328.98 are recognised for redemptions: 1,695.65 in
    # total.
    assert _told(found, "rollforward", *columns) == lines_of("""
        2026-03     0.00  3000.00     0.00  3000.00  3000.00
        2026-06  3000.00  1695.65     0.00  4695.65  1695.65
        2026-09  4695.65  2347.83     0.00  7043.48  2347.83
        2026-12  7043.48   -43.48     0.00  7000.00   -43.48
        2027-01  7000.00     0.00  7000.00     0.00     0.00
    """)
    since = get_report(client, ledger, "pools", **{"from": "2026-09"}, to="2026-12")
    assert _told(since, "rollforward", *columns) == lines_of("""
        2026-09  4695.65  2347.83     0.00  7043.48  2347.83
        2026-12  7043.48   -43.48     0.00  7000.00   -43.48
    """)


@pytest.mark.parametrize(
    ("day", "redeemed", "recognised", "liability", "recognized", "net"),
    [
        ("2026-03-31", "27000.00", "3000.00", "73000.00", "3000.00", "70000.00"),
        ("2026-06-30", "54000.00", "4695.65", "46000.00", "4695.65", "41304.35"),
        ("2026-09-30", "81000.00", "7043.48", "19000.00", "7043.48", "11956.52"),
        ("2027-01-31", "93000.00", "7000.00", "0.00", "0.00", "0.00"),
    ],
)
def test_the_net_liability_is_what_is_left_to_be_redeemed(
    client: TestClient, ledger: str, day: str, redeemed: str, recognised: str, liability: str, recognized: str, net: str
) -> None:
    found = get_report(client, ledger, "pools", to=day)
    [pool] = found["items"]
    assert (pool["issued"], pool["net_issued"], pool["redeemed"]) == ("100000.00", "100000.00", redeemed)
    assert (pool["due_by_formula"], pool["recognised"], pool["breakage_recognized"]) == (
        recognised,
        recognised,
        recognized,
    )
    assert (pool["prepaid_liability"], pool["net_liability"]) == (liability, net)
    [row] = found["liability"]
    assert (row["pooled"], row["unpooled"], row["breakage_recognized"]) == (liability, "500.00", recognized)
    tied = {tie["what"]: tie["trial_balance"] for tie in found["ties"]}
    assert tied["breakage of pool year by the formula = its breakage_estimate entries"] == recognised
    assert tied["pooled + unpooled = prepaid_liability"] == row["prepaid_liability"]


def test_each_version_of_an_estimate_shows_what_it_changed(client: TestClient, ledger: str) -> None:
    found = get_report(client, ledger, "pools", to="2027-01")
    columns = ("version", "date", "expected_breakage", "recognised_before", "changed_by", "recognised_after")
    # 27,000 × 8,000 / 92,000 = 2,347.83: 652.17 less than at 10 %.
    assert _told(found, "estimates", *columns) == lines_of("""
        1  2026-01-02  10000.00     0.00     0.00     0.00
        2  2026-06-30   8000.00  3000.00  -652.17  2347.83
    """)
    assert [row["evidence"] for row in found["estimates"]] == ["study one", "study two"]
    [pool] = found["items"]
    assert (pool["estimate_version"], pool["evidence"], pool["expected_breakage"]) == (2, "study two", "8000.00")
    assert pool["estimate_position"] == found["estimates"][1]["position"]
    [before] = get_report(client, ledger, "pools", to="2026-06-29")["items"]
    assert (before["estimate_version"], before["expected_breakage"]) == (1, "10000.00")


def test_the_past_is_shown_as_it_was_known(client: TestClient, service: Subledger, new_ledger: NewLedger) -> None:
    """February's usage is recorded after March's. The breakage of both months is as if it had been recorded in time."""
    ledger = new_ledger()
    recorded(
        service,
        ledger,
        buy("A", "1000", "ann", "2026-01-01T12:00:00Z", price="1000.00"),
        _expects("one", "2026-01-02", expected_breakage="100.00"),
        usage("u1", "450", "ann", "2026-03-10T12:00:00Z"),
        _expects("two", "2026-03-20", expected_breakage="200.00"),
    )
    with service.view(ledger) as view:
        known_at = view.known_at.isoformat()
    recorded(service, ledger, usage("u2", "40", "ann", "2026-02-10T12:00:00Z"))
    columns = ("period", "recognised", "due_by_formula", "closing")
    before = get_report(client, ledger, "pools", to="2026-03", known_at=known_at)
    # 450 × 100 / 900 = 50.00; at 200: 450 × 200 / 800 = 112.50.
    assert _told(before, "rollforward", *columns) == "2026-03  112.50  112.50  112.50"
    after = get_report(client, ledger, "pools", to="2026-03")
    # 490 × 200 / 800 = 122.50 at the end. In February 100.00 were expected: 40 × 100 / 900 = 4.44.
    assert _told(after, "rollforward", *columns) == "2026-02  4.44  4.44  4.44\n2026-03  118.06  118.06  122.50"
    february = get_report(client, ledger, "pools", to="2026-02")
    # The estimate of 200.00 is in force from 20 March on, even if February's usage is recorded later.
    [pool] = february["items"]
    assert (pool["redeemed"], pool["due_by_formula"], pool["recognised"]) == ("40.00", "4.44", "4.44")


def test_a_late_estimate_is_booked_on_the_first_open_day(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    recorded(service, ledger, buy("A", "1000", "ann", "2026-01-01T12:00:00Z", price="1000.00"))
    close_period(service.recorder, ledger, Period(2026, 1))
    recorded(service, ledger, _expects("one", "2026-01-20", expected_breakage_rate="0.1", expected_escheat_rate="0.05"))
    assert get_report(client, ledger, "pools", to="2026-01")["estimates"] == []
    [made] = get_report(client, ledger, "pools", to="2026-02")["estimates"]
    assert (made["date"], made["expected_breakage"], made["expected_breakage_rate"], made["expected_escheat_rate"]) == (
        "2026-02-01",
        None,
        "0.1",
        "0.05",
    )
    [pool] = get_report(client, ledger, "pools", to="2026-02")["items"]
    assert (pool["expected_breakage"], pool["expected_escheat"]) == ("100.00", "50.00")


def test_what_is_cancelled_is_no_longer_issued(client: TestClient, service: Subledger, new_ledger: NewLedger) -> None:
    """Of 400.00, 100.00 are voided, 60.00 charged back and 80.00 written off. The estimate shrinks with the issued
    amount.
    """
    ledger = new_ledger()
    recorded(
        service,
        ledger,
        *(
            buy(block, "100", who, "2026-01-01T12:00:00Z", price="100.00")
            for block, who in zip("ABCD", ("a", "b", "c", "d"), strict=True)
        ),
        at_noon("pay", "payment.received", "c", "2026-01-01", block_id="C", amount="100.00", payment_id="p", **USD),
        _expects("one", "2026-01-02", expected_breakage="80.00"),
        usage("u1", "50", "a", "2026-01-10T12:00:00Z"),
        at_noon("void", "purchase.voided", "b", "2026-02-10", block_id="B", reason="r"),
        usage("u2", "40", "c", "2026-03-10T12:00:00Z"),
        at_noon("open", "dispute.opened", "c", "2026-03-20", dispute_id="d", payment_id="p"),
        at_noon("lost", "dispute.lost", "c", "2026-04-10", dispute_id="d"),
        usage("u3", "20", "d", "2026-05-10T12:00:00Z"),
        at_noon("off", "receivable.written_off", "d", "2026-06-10", block_id="D", reason="r"),
    )
    [pool] = get_report(client, ledger, "pools", to="2026-06")["items"]
    columns = (
        "issued",
        "voided",
        "charged_back",
        "written_off",
        "net_issued",
        "redeemed",
        "expected_breakage",
        "due_by_formula",
        "recognised",
        "net_liability",
        "credits_left",
    )
    # 80 × 160 / 400 = 32.00; 32 × 110 / (160 − 32) = 27.50.
    assert columns_of([pool], *columns) == (
        "400.00  100.00  60.00  80.00  160.00  110.00  32.00  27.50  27.50  22.50  50"
    )


def test_recognised_breakage_is_never_more_than_what_may_still_expire(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    """The estimate is 40 %. After 60 of 100 were escheated and 30 redeemed, at most 10 can expire."""
    ledger = new_ledger()
    recorded(
        service,
        ledger,
        buy("A", "40", "ann", "2026-01-01T12:00:00Z", price="40.00"),
        buy("B", "60", "bob", "2026-01-01T12:00:00Z", price="60.00", escheat_class="CA"),
        at_noon("paid", "payment.received", "bob", "2026-01-02", block_id="B", amount="60.00", currency="USD"),
        _expects("one", "2026-01-02", expected_breakage_rate="0.4"),
        usage("u1", "30", "ann", "2026-01-10T12:00:00Z"),
        at_noon("gone", "credits.escheated", "bob", "2026-02-10", block_id="B"),
    )
    found = get_report(client, ledger, "pools", to="2026-02")
    # 30 × 40 / 60 = 20.00, of which 10.00 can no longer expire.
    assert _told(found, "rollforward", "period", "recognised", "due_by_formula") == lines_of("""
        2026-01   20.00   20.00
        2026-02  -10.00  -10.00
    """)
    [pool] = found["items"]
    assert (pool["escheated"], pool["expected_breakage"], pool["expected_escheat"], pool["recognised"]) == (
        "60.00",
        "40.00",
        "60.00",
        "10.00",
    )


def test_a_pool_in_another_currency_stands_in_both(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    """100 euro at 1.20 and 100 at 1.10: 8.89 are 10.22 at 1.15, 18.89 are 21.72, and 30.00 expire as 35.00."""
    ledger, euro = new_ledger(), {"currency": "EUR", "expires_at": "2026-07-01T00:00:00Z"}

    recorded(
        service,
        ledger,
        rate("2026-01-05", "1.20", event_id="r1"),
        buy("A", "100", "ann", "2026-01-05T12:00:00Z", price="100.00", **euro),
        rate("2026-02-05", "1.10", event_id="r2"),
        buy("B", "100", "bob", "2026-02-05T12:00:00Z", price="100.00", **euro),
        _expects("one", "2026-02-06", expected_breakage="20.00", currency="EUR"),
        usage("u1", "80", "ann", "2026-03-01T12:00:00Z"),
        usage("u2", "90", "bob", "2026-04-01T12:00:00Z"),
    )
    sweep(service.recorder, ledger, datetime.fromisoformat("2026-07-01T00:00:01Z"))
    found = get_report(client, ledger, "pools", to="2026-07")
    columns = (
        "period",
        "recognised",
        "expired",
        "closing",
        "recognised_functional",
        "expired_functional",
        "closing_functional",
    )
    assert _told(found, "rollforward", *columns) == lines_of("""
        2026-03   8.89   0.00   8.89  10.22   0.00  10.22
        2026-04  10.00   0.00  18.89  11.50   0.00  21.72
        2026-06  11.11  30.00   0.00  13.28  35.00   0.00
    """)
    [april] = get_report(client, ledger, "pools", to="2026-04")["items"]
    assert (april["net_liability"], april["net_liability_functional"]) == ("11.11", "13.28")
    tied = {(tie["what"], tie["currency"]): tie["report"] for tie in found["ties"]}
    assert tied["breakage of pool year by the formula = its breakage_estimate entries", "USD"] == "35.00"


def test_each_cohort_has_its_row_and_what_finished_blocks_really_broke(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    """The estimate is ten percent. Of January's blocks, 5 of A's 100 broke, and none of B's 100. February's C is not
    finished.
    """
    ledger = new_ledger(sandbox=True, clock=FAR)
    until = {"expires_at": "2026-03-02T00:00:00Z"}
    recorded(
        service,
        ledger,
        _expects("one", "2026-01-01", expected_breakage_rate="0.1"),
        buy("A", "100", "ann", "2026-01-10T12:00:00Z", price="100.00", **until),
        buy("B", "100", "bob", "2026-01-11T12:00:00Z", price="100.00"),
        buy("C", "100", "cid", "2026-02-10T12:00:00Z", price="100.00"),
        usage("u1", "95", "ann", "2026-02-15T12:00:00Z"),
        usage("u2", "100", "bob", "2026-02-16T12:00:00Z"),
        usage("u3", "45", "cid", "2026-02-17T12:00:00Z"),
    )
    sweep(service.recorder, ledger, datetime.fromisoformat("2026-03-02T00:00:01Z"))
    before, found = (get_report(client, ledger, "pools", to=month) for month in ("2026-02", "2026-03"))
    columns = ("cohort", "net_issued", "redeemed", "expired", "expected_breakage", "due_by_formula", "recognised")
    assert columns_of(before["items"], *columns) == lines_of("""
        2026-01  200.00  195.00  0.00  20.00  5.00  5.00
        2026-02  100.00   45.00  0.00  10.00  5.00  5.00
    """)
    assert columns_of(found["items"], *columns, "net_liability") == lines_of("""
        2026-01  200.00  195.00  5.00  20.00  5.00  5.00   0.00
        2026-02  100.00   45.00  0.00  10.00  5.00  5.00  50.00
    """)
    of_blocks = ("cohort", "finished_blocks", "issued", "expected_breakage", "expired", "difference", "expired_rate")
    assert columns_of(before["finished"], *of_blocks) == "2026-01  1  100.00  10.00  0.00  -10.00  0"
    assert columns_of(found["finished"], *of_blocks) == "2026-01  2  200.00  20.00  5.00  -15.00  0.025"
    [made] = found["estimates"]
    assert (made["cohort"], made["changed_by"], made["expected_breakage_rate"]) == (None, "0.00", "0.1")
    tied = {tie["what"] for tie in found["ties"]}
    assert "breakage of cohort 2026-01 of pool year by the formula = its breakage_estimate entries" in tied
    assert all(tie["report"] == tie["trial_balance"] for tie in found["ties"])


def test_an_answer_stays_when_a_first_estimate_groups_the_months_later(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    recorded(
        service,
        ledger,
        buy("A", "100", "ann", "2026-01-10T12:00:00Z", price="100.00"),
        buy("B", "100", "bob", "2026-02-11T12:00:00Z", price="100.00"),
        usage("u1", "45", "ann", "2026-02-15T12:00:00Z"),
    )
    with service.view(ledger) as view:
        known_at = view.known_at.isoformat()
    before = get_report(client, ledger, "pools", to="2026-03", known_at=known_at)
    assert columns_of(before["items"], "cohort", "redeemed", "recognised") == lines_of("""
        2026-01  45.00  0.00
        2026-02   0.00  0.00
    """)
    recorded(service, ledger, _expects("one", "2026-03-01", expected_breakage_rate="0.1", cohorts="quarter"))
    now = get_report(client, ledger, "pools", to="2026-03")
    assert columns_of(now["items"], "cohort", "redeemed", "recognised") == "2026-Q1  45.00  5.00"
    assert get_report(client, ledger, "pools", to="2026-03", known_at=known_at) == before
    recorded(service, ledger, usage("u2", "45", "ann", "2026-03-15T12:00:00Z"))
    [found] = get_report(client, ledger, "pools", to="2026-03")["items"]
    assert (found["recognised"], found["due_by_formula"]) == ("10.00", "10.00")


def test_who_asked_for_an_estimate_and_who_allowed_it_are_shown(client: TestClient, service: Subledger) -> None:
    ledger = "pools-of-two-persons"
    service.create_ledger(ledger, LedgerSettings(currency="USD", approvals=Approvals(breakage_estimates=True)))
    recorded(
        service,
        ledger,
        buy("A", "1000", "ann", "2026-01-01T12:00:00Z", price="1000.00"),
        usage("u1", "450", "ann", "2026-01-02T12:00:00Z"),
    )
    [waiting] = service.record(ledger, [_expects("one", "2026-01-31", expected_breakage="100.00")], by="mary")
    assert waiting.status == "waiting"
    assert get_report(client, ledger, "pools", to="2026-01")["estimates"] == []
    [asked] = client.get(f"/v1/ledgers/{ledger}/approvals").json()["items"]
    assert service.recorder.decide_approval(ledger, asked["approval_id"], by="ken", allow=True).error is None
    [made] = get_report(client, ledger, "pools", to="2026-01")["estimates"]
    assert (made["maker"], made["checker"], made["changed_by"]) == ("mary", "ken", "50.00")


def test_the_answer_to_an_estimate_names_the_cohorts_that_keep_theirs(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    """60 % of January have expired, so a rate of 30 % applies only to February."""
    ledger = new_ledger()
    until = {"expires_at": "2026-02-01T00:00:00Z"}
    recorded(
        service,
        ledger,
        _expects("one", "2026-01-01", expected_breakage_rate="0.7"),
        buy("A", "60", "ann", "2026-01-05T12:00:00Z", price="60.00", **until),
        buy("B", "40", "bob", "2026-01-05T12:00:00Z", price="40.00"),
        buy("C", "100", "cy", "2026-02-05T12:00:00Z", price="100.00"),
    )
    sweep(service.recorder, ledger, datetime.fromisoformat("2026-02-02T00:00:00Z"))
    sent = client.post(f"/v1/ledgers/{ledger}/events", json=_expects("two", "2026-02-20", expected_breakage_rate="0.3"))
    [answer] = sent.json()["results"]
    assert (answer["status"], answer["kept_estimates"]) == ("recorded", ["2026-01"])
    recorded_as = client.get(f"/v1/ledgers/{ledger}/events/{answer['position']}").json()
    assert recorded_as["decision"]["kept_estimates"] == ["2026-01"]
    found = get_report(client, ledger, "pools", to="2026-02")
    assert _told(found, "items", "cohort", "estimate_version", "expected_breakage") == lines_of("""
        2026-01  1  70.00
        2026-02  2  30.00
    """)
