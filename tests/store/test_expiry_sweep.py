"""Due expiries are swept automatically. Until then every answer that they would change contains a notice."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from api.cli import main as cli
from api.http.app import create_app
from api.service import Subledger
from api.shapes import joint_reports, report_pages, reports
from api.shapes.answers import due_notice
from projections.close.close import close_period
from projections.close.expiry_sweeper import Sweeper
from projections.configuring.clock import set_clock
from projections.exports.exports import month_state
from projections.integrity import verify
from projections.reads import blocks
from subledger.events.envelope import format_time
from subledger.ledger_settings import LedgerSettings
from subledger.periods import Period
from subledger.store.database import Database
from subledger.store.writing.expiry_sweep import sweep
from tests.building import cloud_event, purchase
from tests.together import together
from tests.waiting import HANGS_S, until

NOW = datetime(2030, 5, 10, 12, tzinfo=UTC)
OFFERED = [name for name, offered in reports.REPORTS.items() if not offered.needs]


@pytest.fixture
def service(own_service: Subledger) -> Subledger:
    """A service on its own database, because sweeps over all ledgers must not include those of other tests."""
    return own_service


buy = partial(purchase, time="2030-05-01", price="10.00")


def trial(service: Subledger, name: str, *documents: dict[str, Any], clock: datetime = NOW) -> str:
    service.create_ledger(name, LedgerSettings(currency="USD", sandbox=True, clock=clock))
    assert all(outcome.error is None for outcome in service.record(name, list(documents)))
    return name


def left(service: Subledger, ledger: str, block: str) -> int:
    """Returns the remaining credits of a block; zero when its expiry is recorded. (Its status changes earlier.)"""
    with service.view(ledger) as view:
        return int(blocks.one_block(view, block).remaining)


# --- automatic sweeps
# ----------------------------------------------------------------------------------------------------


def test_what_falls_due_is_recorded_in_every_ledger_by_its_own_now(service: Subledger) -> None:
    soon = NOW + timedelta(days=1)
    first = trial(service, "first", buy("A", expires_at=soon), buy("B", expires_at=soon + timedelta(days=1)))
    second = trial(service, "second", buy("A", expires_at=soon), clock=NOW + timedelta(days=3))
    real = "real"
    service.create_ledger(real, LedgerSettings(currency="USD"))
    past, future = datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(days=300)
    documents = [
        {**buy(block, expires_at=at), "time": "2026-01-01T00:00:00Z"} for block, at in (("A", past), ("B", future))
    ]
    assert all(outcome.error is None for outcome in service.record(real, documents))
    assert service.sweep_due() == {"second": 1, "real": 1}
    assert service.sweep_due() == {}
    set_clock(service.recorder, first, soon)
    assert service.sweep_due() == {"first": 1}
    assert [left(service, first, block) for block in "AB"] == [0, 10]
    assert [left(service, real, block) for block in "AB"] == [0, 10]
    assert left(service, second, "A") == 0


def test_two_who_sweep_at_once_record_each_expiry_once(service: Subledger) -> None:
    documents = [
        buy(f"b{number:03d}", customer=f"c{number % 7}", expires_at=NOW - timedelta(minutes=number))
        for number in range(1, 90)
    ]
    ledger = trial(service, "both", *documents)
    others = [Subledger(Database(service.database.url)) for _ in range(2)]
    ready, found = threading.Barrier(len(others)), []

    def sweep_all(other: Subledger) -> None:
        ready.wait(HANGS_S)
        found.append(other.sweep_due().get(ledger, 0))

    together(sweep_all, others)
    for other in others:
        other.database.close()
    assert sum(found) == len(documents)
    with service.view(ledger) as view:
        assert view.due is not None
        assert view.due.count == 0


def test_one_ledgers_trouble_is_not_the_others(service: Subledger) -> None:
    trial(service, "a-bad", buy("A", expires_at=NOW))
    trial(service, "b-good", buy("A", expires_at=NOW))
    with service.database.write() as connection:
        connection.execute("UPDATE blocks SET customer = 'nobody' WHERE ledger = 'a-bad'")
    assert service.sweep_due() == {"b-good": 1}


def test_a_sweep_that_is_to_stop_leaves_the_rest_due(service: Subledger) -> None:
    ledger = trial(service, "stopped", *(buy(f"b{number}", expires_at=NOW) for number in range(3)))
    answers = iter((False, False, True))
    assert sweep(service.recorder, ledger, NOW + timedelta(days=1), batch_size=1, stop=lambda: next(answers)) == 2
    assert service.sweep_due(lambda: True) == {}
    assert service.sweep_due() == {"stopped": 1}


def test_a_server_sweeps_as_long_as_it_runs(service: Subledger) -> None:
    """The clock is set forward. Then the test waits for the records of the sweep, not for a time."""
    ledger = trial(service, "served", buy("A", expires_at=NOW + timedelta(days=1)))
    sweeper = Sweeper(service.database, service.recorder, every_s=0.01)
    app = create_app(service, open_on_loopback=True, sweeper=sweeper)
    with TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50_000)) as client:
        url = f"/v1/ledgers/{ledger}"
        assert client.get(f"{url}/blocks/A").json()["remaining"] == "10"
        set_clock(service.recorder, ledger, NOW + timedelta(days=1))
        until(lambda: client.get(f"{url}/blocks/A").json()["remaining"] == "0", "the sweep of block A")
        assert "due_expiries" not in client.get(f"{url}/trial-balance").json()
    assert sweeper.stop()


def test_a_worker_sweeps_before_anything_else(service: Subledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = trial(service, "worked", buy("A", expires_at=NOW))
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", service.database.url)
    done = CliRunner().invoke(cli.app, ["worker", "--once"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert left(service, ledger, "A") == 0


# --- until the sweep -----------------------------------------------------------------------------------------------


def test_an_answer_says_how_many_expiries_are_due_and_since_when(service: Subledger) -> None:
    ledger = trial(
        service,
        "due",
        buy("A", expires_at=NOW - timedelta(days=2)),
        buy("B", customer="bob", expires_at=NOW - timedelta(days=1)),
        buy("C", expires_at=NOW + timedelta(days=1)),
    )
    first = format_time(NOW - timedelta(days=2))
    with TestClient(
        create_app(service, open_on_loopback=True), base_url="http://127.0.0.1", client=("127.0.0.1", 50_000)
    ) as client:
        url = f"/v1/ledgers/{ledger}"

        def due(path: str, **params: str) -> tuple[int | None, str | None]:
            answer = client.get(f"{url}/{path}", params=params)
            assert answer.status_code == 200, answer.text
            return answer.json().get("due_expiries"), answer.json().get("due_since")

        assert due("trial-balance") == (2, first)
        assert due("customers") == (2, first)
        assert due("customers/ann/balances") == due("customers/ann/blocks") == (1, first)
        assert due("customers/bob/balances") == (1, format_time(NOW - timedelta(days=1)))
        for name in OFFERED:
            assert due(f"reports/{name}") == (2, first), name
        assert due("reports/statement", customer="ann")[0] == 1
        assert due("blocks/A/history") == due("journal-lines", customer="ann") == due("journal-lines", block="A")
        assert due("blocks/A/history") == (1, first)
        assert due("journal-lines") == (2, first)
        assert due("blocks/C/history") == due("journal-lines", to="2030-01-01") == (None, None)
        assert client.get(f"{url}/blocks/A").json()["expiry_due"] is True
        assert client.get(f"{url}/blocks/C").json()["expiry_due"] is False
        csv = client.get(f"{url}/reports/rollforward", params={"format": "csv"})
        assert csv.headers["x-due-expiries"] == "2"
        page = client.get(f"{url}/reports/rollforward", params={"format": "html"}).text
        assert "2 expiries are due and not recorded" in page
        exported = client.post(f"{url}/exports", json={"period": "2030-05", "format": "csv"}).json()
        assert exported["due_expiries"] == 2
        service.sweep_due()
        assert due("trial-balance") == due("reports/waterfall") == (None, None)
        assert client.get(f"{url}/blocks/A").json()["expiry_due"] is False


@pytest.mark.parametrize(
    ("as_of", "count"), [("2030-05-07", 0), ("2030-05-08", 1), ("2030-05-09", 2), ("2030-05-10", 2), ("2031-01-01", 2)]
)
def test_of_a_day_those_count_that_were_due_by_its_end_and_by_now(service: Subledger, as_of: str, count: int) -> None:
    ledger = trial(
        service,
        "days",
        buy("A", expires_at=NOW - timedelta(days=2)),
        buy("B", expires_at=NOW - timedelta(days=1)),
        buy("C", expires_at=NOW + timedelta(days=1)),
    )
    with service.view(ledger, as_of=date.fromisoformat(as_of)) as view:
        assert view.due is not None
        assert view.due.count == count
    at, _ = service.trial_balance(ledger, as_of=date.fromisoformat(as_of))
    assert at.due == view.due


def test_the_end_of_a_day_is_where_the_ledger_lives(service: Subledger) -> None:
    settings = LedgerSettings(currency="USD", sandbox=True, clock=NOW, timezone="Pacific/Kiritimati")
    service.create_ledger("east", settings)
    # It is midnight of the 9th there, so the 8th is the last day on which the credits could be used.
    service.record("east", [buy("A", expires_at=datetime(2030, 5, 8, 10, tzinfo=UTC))])
    for day, count in ((7, 0), (8, 1)):
        with service.view("east", as_of=date(2030, 5, day)) as view:
            assert view.due is not None
            assert view.due.count == count


def test_an_answer_that_never_changes_says_nothing_of_what_is_due(service: Subledger) -> None:
    ledger = trial(service, "known", buy("A", expires_at=NOW))
    with service.view(ledger) as view:
        assert view.due is not None
        assert view.due.count == 1
        known_at = view.known_at
    before, _ = service.trial_balance(ledger, known_at=known_at)
    service.sweep_due()
    after, _ = service.trial_balance(ledger, known_at=known_at)
    assert before.due is after.due is None


def test_people_are_told_what_to_do(service: Subledger) -> None:
    ledger = trial(service, "people", buy("A", expires_at=NOW))
    with reports.answer(service, ledger, "clearing", reports.ReportQuery()) as (found, view, asked):
        notice = due_notice(view)
        assert notice is not None
        assert notice.startswith("1 expiry is due and not recorded, the first since 2030-05-10T12:00:00Z")
        assert notice.endswith("subledger expire --through 2030-05-10 --ledger people")
        assert "1 expiry is due" in report_pages.page(found, view, asked)
    assert month_state(service.database, ledger, Period(2030, 5)).due.count == 1
    assert month_state(service.database, ledger, Period(2030, 4)).due.count == 0
    service.expire(ledger, date(2030, 5, 10))
    with service.view(ledger) as view:
        assert due_notice(view) is None


def test_over_several_ledgers_what_is_due_is_added_up(service: Subledger) -> None:
    names = tuple(
        trial(service, name, buy("A", expires_at=NOW - timedelta(days=day))) for day, name in enumerate(("x", "y"))
    )
    chosen = joint_reports.Chosen(entity=None, ledgers=names)
    question = reports.ReportQuery(as_of=date(2030, 5, 10))
    made = joint_reports.as_json(joint_reports.answer(service, "clearing", question, chosen))
    assert (made["due_expiries"], made["due_since"]) == (2, format_time(NOW - timedelta(days=1)))
    assert [part["due_expiries"] for part in made["ledgers"]] == [1, 1]


def test_what_is_frozen_by_a_dispute_is_not_due(service: Subledger) -> None:
    ledger = trial(service, "frozen", buy("A", expires_at=NOW - timedelta(days=1)))
    paid = {"amount": "10.00", "currency": "USD", "block_id": "A", "processor": "cards"}
    payment = cloud_event("p", "payment.received", "ann", "2030-05-04T00:00:00Z", **paid)
    opened = cloud_event("d", "dispute.opened", "ann", "2030-05-05T00:00:00Z", dispute_id="D", block_id="A")
    assert [outcome.error for outcome in service.record(ledger, [payment, opened])] == [None, None]
    with service.view(ledger) as view:
        assert view.due is not None
        assert view.due.count == 0
    assert service.sweep_due() == {}


def test_a_block_of_which_a_dispute_freezes_all_that_usage_left_is_not_due(service: Subledger) -> None:
    """The last other credits are used: the rows of the block say at once that its expiry waits for the dispute."""
    month = Period(2030, 4)
    ledger = trial(
        service,
        "frozen",
        purchase("A", time="2030-04-01", credits="100", price="100.00", expires_at=datetime(2030, 4, 20, tzinfo=UTC)),
        cloud_event("p", "payment.received", "ann", "2030-04-02T12:00:00Z", amount="100.00", currency="USD",
                    block_id="A", payment_id="P", processor="stripe"),
        cloud_event("d", "dispute.opened", "ann", "2030-04-03T12:00:00Z", dispute_id="D", payment_id="P",
                    amount="50.00", currency="USD"),
    )  # fmt: skip
    use = cloud_event("u", "credits.consumed", "ann", "2030-04-04T12:00:00Z", credits="50")
    assert [outcome.status for outcome in service.record(ledger, [use])] == ["recorded"]
    assert verify(service.database, ledger).differences == []
    assert sweep(service.recorder, ledger, datetime(2030, 5, 1, tzinfo=UTC)) == 0
    close_period(service.recorder, ledger, month)
    won = cloud_event("w", "dispute.won", "ann", "2030-05-05T12:00:00Z", dispute_id="D")
    assert [outcome.status for outcome in service.record(ledger, [won])] == ["recorded"]
    assert sweep(service.recorder, ledger, NOW) == 1
    assert left(service, ledger, "A") == 0
    assert verify(service.database, ledger).differences == []
