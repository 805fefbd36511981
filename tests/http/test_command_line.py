"""The command line in its own process: its embedded server, exit codes, one JSON document on standard output."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from subledger.store.embedded import server as embedded
from tests.building import cloud_event
from tests.waiting import HANGS_S

COMMAND = str(Path(sys.executable).with_name("subledger"))
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    work = tmp_path_factory.mktemp("command line")
    home = work / ".subledger"
    environment = {**os.environ, "SUBLEDGER_HOME": str(home), "COLUMNS": "200"}
    environment.pop("SUBLEDGER_DATABASE_URL", None)

    def call(
        *arguments: str, stdin: str | None = None, database: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        own = environment if database is None else {**environment, "SUBLEDGER_DATABASE_URL": database}
        return subprocess.run(
            [COMMAND, *arguments], input=stdin, capture_output=True, text=True, cwd=work, env=own, timeout=HANGS_S
        )

    yield call
    embedded.stop(home)


def _json(result: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    assert result.returncode == code, result.stderr + result.stdout
    return json.loads(result.stdout)


def _lines(*events: dict[str, Any]) -> str:
    return "".join(json.dumps(event) + "\n" for event in events)


BUY = cloud_event(
    "buy",
    "credits.purchased",
    "c1",
    "2026-01-15T10:00:00Z",
    block_id="b1",
    credits="1000",
    price="100.00",
    currency="USD",
    expires_at="2026-03-01T00:00:00Z",
)
USE = cloud_event("use", "credits.consumed", "c1", "2026-01-20T10:00:00Z", credits="400")


@pytest.mark.campaign
def test_from_a_purchase_to_a_journal_file(run: Run, tmp_path: Path) -> None:
    created = _json(run("ledger", "create", "acme", "--currency", "USD", "--json"))
    assert (created["ledger"], created["created"]) == ("acme", True)
    assert _json(run("ledger", "create", "acme", "--currency", "USD", "--json"))["created"] is False
    recorded = _json(run("record", "-", "--ledger", "acme", "--json", stdin=_lines(BUY, USE, USE)))
    assert recorded == {"recorded": 2, "duplicates": 1, "rejected": 0}
    january = _json(run("balances", "--ledger", "acme", "--customer", "c1", "--as-of", "2026-01-31", "--json"))
    balance = {item["account"]: item["balance"] for item in january["accounts"]}
    assert (balance["prepaid_liability"], balance["usage_revenue"]) == ("60.00", "40.00")
    assert _json(run("close", "--ledger", "acme", "2026-01", "--json"))["state"] == "closed"
    assert _json(run("close", "--ledger", "acme", "2026-01", "--json"), 3)["code"] == "period_out_of_order"
    assert _json(run("expire", "--ledger", "acme", "--through", "2026-03-01", "--json"))["expired"] == 1
    [block] = _json(run("blocks", "--ledger", "acme", "--json"))["items"]
    assert (block["status"], block["carrying_amount"]) == ("expired", "0.00")
    for format in run("export", "--formats").stdout.split():
        exported = _json(
            run("export", "--ledger", "acme", "2026-01", "--format", format, "--out", str(tmp_path), "--json")
        )
        assert Path(exported["items"][0]["file"]).stat().st_size > 0
    assert _json(run("reopen", "--ledger", "acme", "2026-01", "--reason", "a test", "--json"))["state"] == "open"
    assert _json(run("verify", "--ledger", "acme", "--json"))["clean"] is True
    assert "not read again" not in run("rebuild", "--ledger", "acme").stdout
    assert _json(run("rebuild", "--ledger", "acme", "--resume", "--json"))["resumed_from"] == 0, (
        "nothing was interrupted"
    )
    assert run("verify", "--ledger", "acme").returncode == 0
    assert "credits.purchased" in run("history", "--ledger", "acme", "--block", "b1").stdout
    assert _json(run("events", "--ledger", "acme", "--customer", "c1", "--json"))["items"][0]["id"] == "buy"


def test_rejected_lines_are_kept_with_their_reason(run: Run, tmp_path: Path) -> None:
    run("ledger", "create", "rejects", "--currency", "USD")
    file = tmp_path / "events.jsonl"
    file.write_text(_lines(BUY) + "{broken\n\n" + _lines({**USE, "data": {"credits": 400}}, USE))
    counts = _json(run("record", str(file), "--ledger", "rejects", "--json"), 3)
    assert counts == {"recorded": 2, "duplicates": 0, "rejected": 2}
    rejected = [json.loads(line) for line in Path(f"{file}.rejected.jsonl").read_text().splitlines()]
    assert [(item["line"], item["error"]["code"]) for item in rejected] == [(2, "invalid_json"), (4, "wrong_type")]
    assert rejected[0]["event"] == "{broken"
    assert rejected[1]["event"] == {**USE, "data": {"credits": 400}}, "as it was sent"
    file.write_text(_lines(BUY, USE))
    assert _json(run("record", str(file), "--ledger", "rejects", "--json"))["duplicates"] == 2
    assert not Path(f"{file}.rejected.jsonl").exists()


@pytest.mark.campaign
def test_rejections_are_counted_by_code_with_a_reason_on_standard_error(run: Run, tmp_path: Path) -> None:
    run("ledger", "create", "counted", "--currency", "USD")
    file = tmp_path / "events.jsonl"
    early = [{**USE, "id": f"early-{number}"} for number in range(3)]
    file.write_text("\ufeff" + _lines(*early, {**BUY, "data": {"expire_at": "x"}}, BUY), encoding="utf-8")
    done = run("record", str(file), "--ledger", "counted")
    assert (done.returncode, done.stdout.strip()) == (3, "recorded 1, duplicates 0, rejected 4")
    assert done.stderr.splitlines()[:2] == [
        "       3 insufficient_credits, such as line 1: 400 credit requested, 0 available: "
        "the ledger has no event of customer c1",
        "       1 missing_field, such as line 4: data.block_id, data.credits, data.price, data.currency are missing",
    ]


@pytest.mark.campaign
def test_a_file_that_is_no_json_lines_is_refused_and_nothing_of_it_recorded(run: Run, tmp_path: Path) -> None:
    run("ledger", "create", "shapes", "--currency", "USD")
    for name, text, kind in (
        ("events.csv", "id,time,customer\n1,2026-01-01,ann\n", "CSV"),
        ("pretty.json", json.dumps(BUY, indent=2), "JSON with one document on several lines"),
        ("list.json", json.dumps([BUY, USE]), "a JSON array"),
    ):
        file = tmp_path / name
        file.write_text(text)
        error = _json(run("record", str(file), "--ledger", "shapes", "--json"), 2)
        assert (error["code"], error["found"], error["field"]) == ("invalid_input", kind, "FILE")
        assert not Path(f"{file}.rejected.jsonl").exists()
    assert _json(run("ledger", "list", "--json"))["items"]
    day = run("balances", "--ledger", "shapes", "--as-of", "9999-12-31", "--json")
    assert (day.returncode, json.loads(day.stdout)["detail"]) == (2, "as-of is out of range")


@pytest.mark.campaign
def test_a_file_of_rejected_lines_is_recorded_as_it_is_once_nothing_is_in_the_way(run: Run, tmp_path: Path) -> None:
    run("ledger", "create", "again", "--currency", "USD")
    file = tmp_path / "events.jsonl"
    late = {**USE, "id": "late", "subject": "c2"}
    file.write_text(_lines(USE) + "{broken\n" + _lines(late))
    refused = run("record", str(file), "--ledger", "again", "--by", "ann")
    assert refused.returncode == 3
    assert "2 insufficient_credits" in refused.stderr
    assert "1 invalid_json" in refused.stderr
    counts = _json(run("rejected", "counts", "--ledger", "again", "--json"))
    assert (counts["rejections"], counts["credits"]) == (3, {"credit": "800"})
    items = _json(run("rejected", "list", "--ledger", "again", "--json"))["items"]
    assert {(item["sender"], item["way"]) for item in items} == {("ann", "file:events.jsonl")}
    _json(run("record", "-", "--ledger", "again", "--json", stdin=_lines(BUY)))
    recorded = _json(run("record", f"{file}.rejected.jsonl", "--ledger", "again", "--json"), 3)
    assert recorded == {"recorded": 1, "duplicates": 0, "rejected": 2}
    again = [json.loads(line) for line in Path(f"{file}.rejected.jsonl.rejected.jsonl").read_text().splitlines()]
    assert [item["event"] for item in again] == ["{broken", late]
    items = _json(run("rejected", "list", "--ledger", "again", "--state", "all", "--json"))["items"]
    assert sorted((item["state"], item["attempts"]) for item in items) == [("open", 2), ("open", 2), ("retried", 1)]


@pytest.mark.campaign
def test_rejections_are_listed_counted_shown_retried_and_dismissed(run: Run) -> None:
    run("ledger", "create", "refusing", "--currency", "USD")
    lines = _lines(USE, {**BUY, "data": {**BUY["data"], "price": 100}})
    assert run("record", "-", "--ledger", "refusing", stdin=lines).returncode == 3
    items = _json(run("rejected", "list", "--ledger", "refusing", "--json"))["items"]
    use, buy = (next(item for item in items if item["id"] == name) for name in ("use", "buy"))
    assert (buy["amount"], buy["way"]) == ({"amount": "100.00", "currency": "USD"}, "stdin")
    assert "insufficient_credits" in run("rejected", "list", "--ledger", "refusing").stdout
    counted = run("rejected", "counts", "--ledger", "refusing").stdout
    assert "100.00 USD" in counted
    assert "400 credit" in counted
    shown = _json(run("rejected", "show", buy["rejection_id"], "--ledger", "refusing", "--json"))
    assert shown["error"]["code"] == "wrong_type"
    assert "wrong_type" in run("rejected", "show", buy["rejection_id"], "--ledger", "refusing").stdout
    still = _json(run("rejected", "retry", "--all", "--ledger", "refusing", "--json"), 3)
    assert still["rejected"] == 2
    _json(run("record", "-", "--ledger", "refusing", "--json", stdin=_lines(BUY)))
    retried = run("rejected", "retry", use["rejection_id"], "--ledger", "refusing")
    assert (retried.returncode, "recorded" in retried.stdout) == (0, True)
    assert run("rejected", "retry", "--ledger", "refusing").returncode == 2
    states = {
        item["id"]: item["state"]
        for item in _json(run("rejected", "list", "--ledger", "refusing", "--state", "all", "--json"))["items"]
    }
    assert states == {"use": "retried", "buy": "corrected"}
    assert run("record", "-", "--ledger", "refusing", stdin="{broken\n").returncode == 3
    [broken] = _json(run("rejected", "list", "--ledger", "refusing", "--json"))["items"]
    dismiss = ("rejected", "dismiss", broken["rejection_id"], "--ledger", "refusing", "--reason", "noise")
    [dismissed] = _json(run(*dismiss, "--by", "carol", "--json"))["items"]
    assert (dismissed["state"], dismissed["dismissed"]["by"]) == ("dismissed", "carol")
    assert run(*dismiss).returncode == 3
    assert _json(run("rejected", "counts", "--ledger", "refusing", "--json"))["rejections"] == 0
    assert run("rejected", "list", "--ledger", "refusing", "--state", "lost").returncode == 2


def test_exit_codes_say_what_kind_of_failure(run: Run) -> None:
    unknown = run("balances", "--ledger", "nowhere", "--json")
    assert (unknown.returncode, json.loads(unknown.stdout)["code"]) == (2, "unknown_ledger")
    assert run("balances").returncode == 2
    assert run("close", "--ledger", "acme", "January").returncode == 2
    assert run("record", "no-such-file", "--ledger", "acme").returncode == 2
    assert run("export", "--ledger", "acme", "2026-01", "--format", "nonsense").returncode == 2
    later = run("ledger", "create", "later", "--currency", "USD", "--late-usage", "sometimes", "--json")
    assert (later.returncode, json.loads(later.stdout)["code"]) == (2, "invalid_value")


@pytest.mark.campaign
def test_a_policy_is_printed_edited_and_adopted(run: Run, tmp_path: Path) -> None:
    run("ledger", "create", "ours", "--currency", "USD", "--policy", "contract_liability")
    file = tmp_path / "ours.toml"
    printed = run("policy", "show", "--ledger", "ours").stdout
    file.write_text(printed.replace("contract_liability", "ours", 1).replace("/ usage_revenue", "/ overage_revenue"))
    adopted = _json(run("policy", "adopt", str(file), "--ledger", "ours", "--by", "maria", "--json"))
    assert (adopted["status"], adopted["policy"], adopted["by"]) == ("adopted", 2, "maria")
    assert _json(run("policy", "adopt", str(file), "--ledger", "ours", "--json"))["status"] == "unchanged"
    assert "in force already" in run("policy", "adopt", str(file), "--ledger", "ours").stdout
    [first, second] = _json(run("policy", "list", "--ledger", "ours", "--json"))["items"]
    assert (first["name"], second["name"], second["in_force"]) == ("contract_liability", "ours", True)
    assert run("policy", "show", "1", "--ledger", "ours").stdout == printed
    assert "maria" in run("policy", "list", "--ledger", "ours").stdout
    assert _json(run("policy", "show", "--ledger", "ours", "--json"))["entries"]["promotional_grant"] == []
    file.write_text(file.read_text() + 'tip = ["cash / cash"]\n')
    refused = run("policy", "adopt", str(file), "--ledger", "ours", "--json")
    assert (refused.returncode, json.loads(refused.stdout)["code"]) == (2, "invalid_policy")
    absent = run("policy", "adopt", "absent.toml", "--ledger", "ours")
    assert (absent.returncode, "invalid_policy" in absent.stderr) == (2, True)
    assert "FILE.toml" in run("policy", "adopt", "mine", "--ledger", "ours").stderr
    file.write_text(printed)
    created = ("ledger", "create", "ours-2", "--currency", "USD", "--policy", str(file), "--json")
    assert _json(run(*created))["policy"] == "contract_liability"
    assert _json(run(*created))["created"] is False


@pytest.mark.campaign
def test_a_ledger_is_configured_and_what_is_not_named_stays(run: Run) -> None:
    run("ledger", "create", "set", "--currency", "USD", "--entity", "US01")
    configure = ("ledger", "configure", "set", "--json", "--by", "maria")
    limits = ("--grant-credits-above", "10", "--money-back-above", "50.00", "--revenue-advanced-above", "60.00")
    first = _json(run(*configure, "--on-shortfall", "overage", "--second-person-for", "voids", *limits))
    assert (first["status"], first["entity"], first["on_shortfall"]) == ("configured", "US01", "overage")
    assert first["approvals"] == {
        "voids": True,
        "grant_credits_above": "10",
        "money_back_above": "50.00",
        "revenue_advanced_above": "60.00",
    }
    assert _json(run(*configure, "--on-shortfall", "overage"))["status"] == "unchanged"
    waits = _json(run(*configure, "--second-person-for", "none", "--grant-credits-above", "none"))
    assert (waits["status"], waits["approvals"]) == ("waiting", first["approvals"])
    listed = run("approvals", "list", "--ledger", "set").stdout
    for text in ("approval_id", "maria", "settings", "approvals.voids: true to false"):
        assert text in " ".join(listed.split()), text
    approve = ("approvals", "approve", waits["approval_id"], "--ledger", "set", "--by")
    assert run(*approve, "maria").returncode == 3
    assert run(*approve, "bob").returncode == 0
    lowered = _json(run(*configure, "--on-shortfall", "overage"))["approvals"]
    assert lowered == {"money_back_above": "50.00", "revenue_advanced_above": "60.00"}
    [*_, last] = _json(run("events", "--ledger", "set", "--json"))["items"]
    assert (last["type"], last["event"]["data"]["by"]) == ("ledger.configured", "maria")
    assert _json(run(*configure, "--currency", "EUR"), 3)["code"] == "setting_fixed"
    assert _json(run(*configure, "--timezone", "Asia/Tokyo"), 3)["code"] == "setting_fixed"
    assert _json(run(*configure, "--late-usage", "sometimes"), 2)["code"] == "invalid_value"
    assert run("verify", "--ledger", "set").returncode == 0


@pytest.mark.campaign
def test_a_key_is_printed_once_and_the_database_url_is_for_psql(run: Run) -> None:
    run("ledger", "create", "keyed", "--currency", "USD")
    assert run("keys", "create", "--ledger", "keyed", "--role", "reader", "--name", "ann").stdout.startswith("sl_")
    unnamed = _json(run("keys", "create", "--ledger", "keyed", "--role", "reader", "--json"))
    assert unnamed["name"] == unnamed["created_by"] == getpass.getuser()
    assert run("keys", "create", "--ledger", "keyed", "--role", "king", "--name", "ann").returncode == 2
    assert run("database").stdout.startswith("postgresql://")
    assert run("init").returncode == 0


@pytest.mark.campaign
def test_a_server_that_others_can_reach_is_not_started_without_a_key(run: Run, scratch_url: str) -> None:
    for host in ("0.0.0.0", "::"):
        refused = run("serve", "--host", host, database=scratch_url)
        assert refused.returncode == 2
        assert "subledger keys create" in refused.stderr


@pytest.mark.campaign
def test_the_server_stops_when_told(run: Run) -> None:
    run("database")
    assert _json(run("database", "--stop", "--json"))["stopped"] is True
    assert _json(run("database", "--stop", "--json"))["stopped"] is False


@pytest.mark.campaign
def test_functional_amounts_are_shown_only_where_the_ledger_has_another_currency(run: Run) -> None:
    _json(run("ledger", "create", "two", "--currency", "USD", "--json"))
    bought = {"block_id": "B", "credits": "10", "price": "50.00"}
    dollars = cloud_event("buy-1", "credits.purchased", "ann", "2026-01-15T10:00:00Z", currency="USD", **bought)
    _json(run("record", "-", "--ledger", "two", "--json", stdin=_lines(dollars)))
    shown = (("balances",), ("balances", "--customer", "ann"), ("blocks",), ("history", "--block", "B"))
    for command in shown:
        assert "functional" not in (told := run(*command, "--ledger", "two").stdout), command
        assert "carrying_amount in USD" not in told
        assert "50.00" in told
    rate = cloud_event(
        "r", "exchange_rate.set", None, "2026-01-01T00:00:00Z", base="EUR", quote="USD", rate="1.20", rate_source="ecb"
    )
    euros = cloud_event(
        "buy-2", "credits.purchased", "bob", "2026-01-16T10:00:00Z", currency="EUR", **{**bought, "block_id": "E"}
    )
    assert _json(run("record", "-", "--ledger", "two", "--json", stdin=_lines(rate, euros)))["recorded"] == 2
    total = run("balances", "--ledger", "two").stdout
    assert "functional balance" in total
    # Three pairs of 50.00 USD and of 50.00 EUR at 1.20.
    assert _row(total, "total", "all, in USD") == ["total", "all, in USD", "", "", "", "330.00", "330.00", ""]
    assert _row(total, "prepaid_liability", "EUR")[2:] == ["0.00", "50.00", "50.00", "0.00", "60.00", "60.00"]
    assert (
        _row(run("balances", "--ledger", "two", "--customer", "ann").stdout, "prepaid_liability", "USD")[-1] == "50.00"
    )
    blocks = run("blocks", "--ledger", "two").stdout
    assert "carrying_amount in USD" in blocks
    assert [_row(blocks, name)[-2:] for name in ("B", "E")] == [["", "50.00"], ["1.2", "60.00"]]
    assert "50.00 debit in EUR (60.00 USD)" in run("history", "--ledger", "two", "--block", "E").stdout
    assert "(" not in run("history", "--ledger", "two", "--block", "B").stdout


def _row(table: str, *first: str) -> list[str]:
    """Returns the cells of the row that begins with the given ones."""
    rows = [[cell.strip() for cell in line.strip()[1:-1].split("│")] for line in table.splitlines() if "│" in line]
    [found] = [row for row in rows if row[: len(first)] == list(first)]
    return found


@pytest.mark.campaign
def test_a_corrected_file_of_rejected_lines_records_them_and_closes_their_rejections(run: Run, tmp_path: Path) -> None:
    run("ledger", "create", "mended", "--currency", "USD")
    file = tmp_path / "events.jsonl"
    file.write_text(
        _lines(BUY, {**USE, "data": {"credits": 400}}, {**USE, "id": "late", "subject": "c2"}) + "{broken\n"
    )
    assert _json(run("record", str(file), "--ledger", "mended", "--json"), 3)["rejected"] == 3
    rejected = Path(f"{file}.rejected.jsonl")
    lines = [json.loads(line) for line in rejected.read_text().splitlines()]
    lines[0]["event"]["data"]["credits"] = "400"
    lines[1]["event"]["subject"] = "c1"
    lines[2]["event"] = {**USE, "id": "whole"}
    rejected.write_text(_lines(*lines))
    done = _json(run("record", str(rejected), "--ledger", "mended", "--json"), 3)
    assert done == {"recorded": 2, "duplicates": 0, "rejected": 1}, "1,000 credits are two uses of 400"
    items = _json(run("rejected", "list", "--ledger", "mended", "--state", "all", "--json"))["items"]
    assert sorted((item["code"], item["id"] or "", item["state"]) for item in items) == [
        ("insufficient_credits", "late", "corrected"),
        ("insufficient_credits", "whole", "open"),
        ("invalid_json", "", "open"),
        ("wrong_type", "use", "corrected"),
    ]
    assert not Path(f"{file}.rejected.jsonl.rejected.jsonl.rejected.jsonl").exists()
