"""The report of changes between two moments: an example that an accountant can check, and its forms.

The ledger of the example, in USD; everything happens at noon:

    known first   2026-01-10  ann buys A: 1000 credits for 100.00
                  2026-01-20  ann uses 100                             10.00
                  January is closed
    known later   2026-01-25  ann uses 50, recorded late                5.00, on 1 February: January was closed
                  2026-02-20  ann uses 30                               3.00
                  2026-02-10  this usage is taken back                 −3.00, on 20 February: no mirror before its entry
                  2026-02-15  cid buys C: 100 credits for 20.00
                  2026-02-18  cid uses 100                             20.00
                  2026-02-25  this usage is taken back                −20.00
                  2026-02-22  cid uses 50                              10.00, on 25 February: C had no credits before
                  2026-02-15  dora buys D: 100 credits for 10.00, until noon of 27 February
                  2026-02-27  D expires, recorded by sven              10.00 breakage
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import msgspec
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from api.cli.main import app as command_line
from api.service import Subledger
from api.shapes import change_report
from projections.close.close import close_period
from subledger.events.envelope import format_time
from subledger.events.own_data import Approvals
from subledger.periods import Period
from subledger.store.reading.ledgers import ledger_head
from tests.building import cloud_event, noon, purchase, recorded, reversal, usage
from tests.conftest import NewLedger
from tests.reading import columns_of, csv_rows, get_report, lines_of


class Example(msgspec.Struct, frozen=True):
    """The ledger, and its two moments."""

    ledger: str
    first: str
    last: str

    @property
    def asked(self) -> dict[str, str]:
        return {"from_known_at": self.first, "to_known_at": self.last, "as_of": "2026-02-28"}


def now_of(service: Subledger, ledger: str) -> str:
    with service.database.read() as connection:
        return format_time(ledger_head(connection, ledger).recorded_at)


@pytest.fixture(scope="module")
def example(service: Subledger, new_ledger: NewLedger) -> Example:
    ledger = new_ledger(policy="contract_liability")
    ann, cid, dora = ({"customer": name} for name in ("ann", "cid", "dora"))
    for event in (
        purchase("A", "1000", price="100.00", time=noon("2026-01-10"), **ann),
        usage("use-1", "100", time=noon("2026-01-20"), **ann),
    ):
        recorded(service, ledger, event)
    close_period(service.recorder, ledger, Period(2026, 1), by="clara")
    first = now_of(service, ledger)
    for event in (
        usage("late", "50", time=noon("2026-01-25"), **ann),
        usage("use-2", "30", time=noon("2026-02-20"), **ann),
        reversal("back-2", "use-2", time=noon("2026-02-10"), **ann),
        purchase("C", "100", price="20.00", time=noon("2026-02-15"), **cid),
        usage("use-3", "100", time=noon("2026-02-18"), **cid),
        reversal("back-3", "use-3", time=noon("2026-02-25"), **cid),
        usage("use-4", "50", time=noon("2026-02-22"), **cid),
        purchase("D", "100", price="10.00", time=noon("2026-02-15"), expires_at=noon("2026-02-27"), **dora),
    ):
        recorded(service, ledger, event)
    service.expire(ledger, date(2026, 2, 27), by="sven")
    return Example(ledger, first, now_of(service, ledger))


def test_each_account_is_explained_by_the_events_in_between(client: TestClient, example: Example) -> None:
    found = get_report(client, example.ledger, "changes", **example.asked)
    assert columns_of(found["accounts"], "account", "before", "debit", "credit", "change", "after") == lines_of("""
        accounts_receivable  100.00  30.00   0.00  30.00  130.00
        prepaid_liability     90.00  48.00  53.00   5.00   95.00
        usage_revenue         10.00  23.00  38.00  15.00   25.00
        breakage_revenue       0.00   0.00  10.00  10.00   10.00
    """)
    assert found["notes"][0].startswith("9 entries recorded between the two moments, with accounting dates through")
    assert columns_of(found["periods"], "period", "state", "closed_by") == lines_of("""
        2026-01  closed  clara
        2026-02  open    -
    """)


def test_the_difference_of_an_account_is_summed_by_event_type_and_by_the_reason_of_the_dates(
    client: TestClient, example: Example
) -> None:
    found = get_report(client, example.ledger, "changes", **example.asked, account="usage_revenue")
    assert columns_of(found["event_types"], "event_type", "date_reason", "entries", "change") == lines_of("""
        consumption.reversed  mirrors              1   -3.00
        consumption.reversed  own_day              1  -20.00
        credits.consumed      block_gained_later   1   10.00
        credits.consumed      month_closed         1    5.00
        credits.consumed      own_day              2   23.00
    """)
    columns = ("event_id", "customer", "block_id", "effective_date", "accounting_date", "date_reason", "change")
    assert columns_of(found["items"], *columns) == lines_of("""
        late    ann  A  2026-01-25  2026-02-01  month_closed         5.00
        use-2   ann  A  2026-02-20  2026-02-20  own_day              3.00
        back-2  ann  A  2026-02-10  2026-02-20  mirrors             -3.00
        use-3   cid  C  2026-02-18  2026-02-18  own_day             20.00
        back-3  cid  C  2026-02-25  2026-02-25  own_day            -20.00
        use-4   cid  C  2026-02-22  2026-02-25  block_gained_later  10.00
    """)
    assert [row["closed_through"] for row in found["items"]] == ["2026-01-31", *[None] * 5]
    assert {row["source"] for row in found["items"]} == {"billing"}


def test_a_line_says_when_it_was_recorded_and_by_whom(client: TestClient, example: Example) -> None:
    found = get_report(client, example.ledger, "changes", **example.asked, account="breakage_revenue")
    [line] = found["items"]
    assert (line["event_type"], line["who"], line["recorded_at"]) == ("credits.expired", "by sven", example.last)
    assert line["position"] == found["to_position"]


def test_a_line_names_the_two_people_behind_an_approved_event(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger(policy="contract_liability", approvals=Approvals(voids=True))
    recorded(service, ledger, purchase("A", "10"))
    first = now_of(service, ledger)
    void = cloud_event("void-1", "purchase.voided", "ann", noon("2026-01-12"), block_id="A", reason="wrong customer")
    [waiting] = service.record(ledger, [void], by="maria")
    assert waiting.approval_id is not None
    service.decide_approval(ledger, waiting.approval_id, by="peter", allow=True)
    found = get_report(client, ledger, "changes", from_known_at=first)
    assert {(row["event_id"], row["who"]) for row in found["items"]} == {
        ("void-1", "requested by maria, approved by peter")
    }


def test_a_month_that_was_closed_at_the_first_moment_has_not_changed(client: TestClient, example: Example) -> None:
    found = get_report(client, example.ledger, "changes", **{**example.asked, "as_of": "2026-01-31"})
    assert (found["items"], found["event_types"], found["next"]) == ([], [], None)
    assert {row["change"] for row in found["accounts"]} == {"0.00"}


def test_nothing_has_changed_between_a_moment_and_itself(client: TestClient, example: Example) -> None:
    found = get_report(client, example.ledger, "changes", from_known_at=example.last)
    assert (found["items"], found["to_known_at"], found["from_position"]) == ([], example.last, found["to_position"])
    long_after = get_report(client, example.ledger, "changes", from_known_at=format_time(datetime.now().astimezone()))
    assert (long_after["items"], long_after["from_known_at"]) == ([], long_after["to_known_at"])


def test_a_range_of_days_has_the_movements_of_these_days(client: TestClient, example: Example) -> None:
    asked = {**example.asked, "from": "2026-02-20", "to": "2026-02-24", "account": "usage_revenue"}
    found = get_report(client, example.ledger, "changes", **asked)
    assert columns_of(found["accounts"], "before", "change", "after") == "0.00  0.00  0.00"
    assert [row["event_id"] for row in found["items"]] == ["use-2", "back-2"]


def test_a_customer_that_was_not_known_at_first_has_no_balances_before(client: TestClient, example: Example) -> None:
    found = get_report(client, example.ledger, "changes", **example.asked, customer="dora")
    assert columns_of(found["accounts"], "account", "before", "after") == lines_of("""
        accounts_receivable  0.00  10.00
        prepaid_liability    0.00   0.00
        breakage_revenue     0.00  10.00
    """)


def test_the_history_of_a_block_explains_the_date_of_a_late_fact(
    client: TestClient, example: Example, owner_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = client.get(f"/v1/ledgers/{example.ledger}/blocks/A/history").json()["items"]
    [late] = [event for event in events if event["id"] == "late"]
    [entry] = late["entries"]
    assert (entry["date_reason"], entry["closed_through"]) == ("month_closed", "2026-01-31")
    assert client.get(f"/v1/ledgers/{example.ledger}/events/{late['position']}").json() == late
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", owner_url)
    shown = CliRunner().invoke(command_line, ["history", "--ledger", example.ledger, "--block", "A"]).stdout
    words = f"of 2026-01-25, recorded {late['recorded_at']}: the months through 2026-01-31 were closed"
    assert [line.strip() for line in shown.splitlines() if " recorded " in line] == [
        words,
        f"of 2026-02-10, recorded {events[-1]['recorded_at']}: it mirrors an entry of this day",
    ]


def test_a_statement_explains_the_date_of_a_late_fact(command: Any, client: TestClient, example: Example) -> None:
    asked = {"customer": "ann", "as_of": "2026-02-28", "known_at": example.last}
    found = get_report(client, example.ledger, "statement", **asked)
    columns = ("date", "what", "value", "effective_date", "date_reason", "closed_through")
    assert columns_of(found["movements"], *columns) == lines_of("""
        2026-01-10  bought      100.00  2026-01-10  own_day       -
        2026-01-20  used        -10.00  2026-01-20  own_day       -
        2026-02-01  used         -5.00  2026-01-25  month_closed  2026-01-31
        2026-02-20  used         -3.00  2026-02-20  own_day       -
        2026-02-20  usage taken back  3.00  2026-02-10  mirrors       -
    """)
    path = f"/v1/ledgers/{example.ledger}/reports/statement"
    assert "used, of 2026-01-25" in client.get(path, params={**asked, "format": "html"}).text
    shown = ("statement", "--ledger", example.ledger, "--known-at", example.last, "--to")
    assert "month_closed" in command(*shown, "2026-02-28", "--customer", "ann").stdout
    assert "own_day" not in command(*shown, "2026-01-31", "--customer", "ann").stdout


# --- forms ----------------------------------------------------------------------------------------------------------


def test_pages_hold_the_same_lines_and_only_the_first_has_the_sums(client: TestClient, example: Example) -> None:
    path = f"/v1/ledgers/{example.ledger}/reports/changes"
    whole = client.get(path, params={**example.asked, "limit": 1000}).json()
    found, cursor, pages = [], None, 0
    while cursor is not None or not pages:
        asked = {**example.asked, "limit": 3} | ({} if cursor is None else {"cursor": cursor})
        page = client.get(path, params=asked).json()
        assert ("accounts" in page, "ties" in page) == (not pages, not pages)
        found, cursor, pages = found + page["items"], page["next"], pages + 1
    assert (found, pages) == (whole["items"], 3)


def test_later_pages_are_of_the_moment_of_the_first(
    client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger = new_ledger(policy="contract_liability")
    recorded(service, ledger, purchase("A", "10"))
    first = now_of(service, ledger)
    recorded(service, ledger, usage("one"), usage("two"))
    path = f"/v1/ledgers/{ledger}/reports/changes"
    page = client.get(path, params={"from_known_at": first, "limit": 1}).json()
    recorded(service, ledger, usage("three"))
    asked = {"from_known_at": first, "cursor": page["next"]}
    following = client.get(path, params=asked).json()
    assert {row["event_id"] for row in following["items"]} == {"two"}
    assert following["to_known_at"] == page["to_known_at"]
    other = client.get(path, params={**asked, "to_known_at": now_of(service, ledger)})
    assert (other.status_code, other.json()["code"]) == (422, "invalid_cursor")


def test_csv_has_all_lines(client: TestClient, example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_report, "CSV_PAGE", 3)
    path = f"/v1/ledgers/{example.ledger}/reports/changes"
    document = client.get(path, params={**example.asked, "limit": 1000}).json()
    for table, expected in (("lines", "items"), *((name, name) for name in ("accounts", "event_types", "periods"))):
        answer = client.get(path, params={**example.asked, "format": "csv", "table": table})
        assert answer.headers["content-type"].startswith("text/csv")
        rows = [{name: "" if cell is None else str(cell) for name, cell in row.items()} for row in document[expected]]
        assert csv_rows(answer.content) == rows
    assert client.get(path, params={**example.asked, "format": "csv"}).text.startswith("position,event_type,")


def test_a_page_shows_the_accounts_the_event_types_and_the_lines(client: TestClient, example: Example) -> None:
    path = f"/v1/ledgers/{example.ledger}/reports/changes"
    answer = client.get(path, params={**example.asked, "format": "html", "limit": 2})
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/html")
    for text in (f"Changes between {example.first} and {example.last}", "Event types", "Lines", "Ties to the trial"):
        assert text in answer.text
    assert "Lines of the first 2 entries." in answer.text
    assert "default-src" in answer.headers["content-security-policy"]


SINCE = {"from_known_at": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("asked", "code", "field"),
    [
        ({}, "missing_field", "from_known_at"),
        ({"from_known_at": "yesterday"}, "invalid_value", "from_known_at"),
        ({"from_known_at": "2026-01-01T00:00:00"}, "naive_time", "from_known_at"),
        ({"from_known_at": "2999-01-01T00:00:00Z"}, "known_at_in_future", "from_known_at"),
        ({**SINCE, "to_known_at": "2999-01-01T00:00:00Z"}, "known_at_in_future", "to_known_at"),
        (
            {"from_known_at": "2026-01-02T00:00:00Z", "to_known_at": "2026-01-01T00:00:00Z"},
            "invalid_value",
            "from_known_at",
        ),
        ({**SINCE, "known_at": "2026-01-01T00:00:00Z"}, "unknown_parameter", "known_at"),
        ({**SINCE, "account": "petty_cash"}, "invalid_value", "account"),
        ({**SINCE, "customer": "nobody"}, "unknown_customer", "customer"),
        ({**SINCE, "cursor": "WzEsMl0"}, "invalid_cursor", "cursor"),
        ({**SINCE, "cursor": "WzEsMiwieCJd"}, "invalid_cursor", "cursor"),
        ({**SINCE, "from": "2026-02", "to": "2026-01"}, "invalid_value", "from"),
        ({**SINCE, "to": "2026-02", "as_of": "2026-01-31"}, "invalid_value", "to"),
        ({**SINCE, "format": "xml"}, "invalid_value", "format"),
        ({**SINCE, "format": "csv", "table": "x"}, "invalid_value", "table"),
        ({**SINCE, "limit": "1001"}, "invalid_value", "limit"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(
    client: TestClient, example: Example, asked: dict[str, str], code: str, field: str
) -> None:
    answer = client.get(f"/v1/ledgers/{example.ledger}/reports/changes", params=asked)
    problem = answer.json()
    assert (answer.status_code // 100, problem["code"], problem["field"]) == (4, code, field), problem


# --- the command line -----------------------------------------------------------------------------------------------


def test_the_command_line_says_what_http_says(
    command: Any, client: TestClient, example: Example, tmp_path: Any
) -> None:
    def run(*arguments: str) -> Any:
        return command(
            "changes", "--ledger", example.ledger, "--between", example.first, example.last,
            "--as-of", "2026-02-28", *arguments,
        )  # fmt: skip

    path = f"/v1/ledgers/{example.ledger}/reports/changes"
    assert msgspec.json.decode(run("--json").stdout) == client.get(path, params=example.asked).json()
    file = tmp_path / "changes.csv"
    assert run("--out", str(file)).exit_code == 0
    assert file.read_text("utf-8") == client.get(path, params={**example.asked, "format": "csv"}).text
    shown = run("--account", "usage_revenue", "--limit", "2").stdout
    for text in ("usage_revenue", "month_closed", "ties: changes of usage_revenue", "Lines of the first 2 entries."):
        assert text in shown


def test_the_command_line_refuses_options_of_other_reports(command: Any, example: Example) -> None:
    both = ("--between", example.first, "now")
    for arguments in (
        ("changes", "--ledger", example.ledger),
        ("changes", "--ledger", example.ledger, *both, "--known-at", example.last),
        ("changes", "--ledger", example.ledger, *both, "--by", "product"),
        ("changes", "--ledger", example.ledger, "--ledger", "other", *both),
        ("changes", "--entity", "US01", *both),
        ("changes", "--ledger", example.ledger, "--between", "yesterday", "now"),
        ("summary", "--ledger", example.ledger, *both),
        ("summary", "--ledger", example.ledger, "--account", "cash"),
    ):
        assert command(*arguments).exception is not None, arguments
    assert command("changes", "--ledger", example.ledger, *both).exit_code == 0
