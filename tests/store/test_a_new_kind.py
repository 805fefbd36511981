"""A later entry kind: existing ledgers verify, post it and report it, whatever policy they have adopted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from typing import Any, Final

import pytest

from api.service import Subledger
from subledger.posting import SHIPPED_POLICIES, base_policy, shipped_policy
from tests.building import cloud_event
from tests.conftest import NewLedger
from tests.store.a_new_kind import EDITS, KIND, POLICIES, TYPE, copy_with_the_new_kind
from tests.store.edited_copy import ROOT
from tests.store.own_policies import file_of, of_name

MOST_FILES: Final = 6

LATER: Final = """
import json, sys
import psycopg
from sqlalchemy import text
from api.shapes import policies as policy_answers, reports
from subledger.ledger_settings import LedgerSettings
from api.service import Subledger
from projections.integrity import verify
from projections.close.close import close_period
from projections.reads.policies import adopted_policy
from projections.replay.rebuild import rebuild
from subledger.periods import Period
from subledger.posting import parse_policy, shipped_policy
from subledger.store.database import Database

database = Database(sys.argv[1])
service = Subledger(database)
found = {}


def differences(ledger):
    return [f"{d.check}: {d.message}" for d in verify(database, ledger).differences if d.check != "schema"]


def table(ledger, name, place, **asked):
    with reports.answer(service, ledger, name, reports.ReportQuery(**asked)) as (report, _, _):
        assert report.ties_out, report.ties
        columns = [column.name for column in report.tables[place].columns]
        return [dict(zip(columns, map(str, row))) for row in report.tables[place].rows]


for ledger, asked in json.load(sys.stdin).items():
    told = found[ledger] = {"before": differences(ledger)}
    for event in asked["events"]:
        [outcome] = service.record(ledger, [event])
        assert outcome.error is None, outcome.error
    told["after"] = differences(ledger)
    told["balances"] = {b.account: b.balance_minor for b in service.trial_balance(ledger)[1] if b.balance_minor}
    told["statement"] = table(ledger, "statement", 1, customer="c")
    told["waterfall"] = table(ledger, "waterfall", 0)
    told["rollforward"] = table(ledger, "rollforward", 0)
    with database.read() as connection:
        held = adopted_policy(connection, ledger, 1)
    told["inherited"] = policy_answers.adopted_policy(held, with_rules=True)["inherited"]
    policy = shipped_policy(asked["policy"]) if asked["file"] is None else parse_policy(asked["file"])
    told["adopted_again"] = service.adopt_policy(ledger, policy).adopted
    told["created_again"] = service.create_ledger(
        ledger, LedgerSettings(currency="USD", policy=policy if asked["file"] else asked["policy"])
    )
    close_period(service.recorder, ledger, Period.parse("2026-01"))
    with database.read() as connection:
        lines = text("SELECT account FROM journal_lines WHERE ledger = :ledger AND kind = 'forfeiture' ORDER BY 1")
        told["lines"] = list(connection.execute(lines, {"ledger": ledger}).scalars())
    counts = rebuild(database, ledger, workers=1)
    told["rebuilt"] = sum(counts.removed.values()) + sum(counts.written.values())
# The last ledger loses the rows of the rule, under entries that need them.
with psycopg.connect(sys.argv[1]) as connection:
    connection.execute("DELETE FROM posting_rules WHERE ledger = %s AND kind = 'forfeiture'", (ledger,))
told["tampered"] = differences(ledger)
rebuild(database, ledger, workers=1)
told["mended"] = differences(ledger)
json.dump(found, sys.stdout)
"""
"""The work of a later release's process on ledgers of an earlier one."""


POLICIES_OF_LEDGERS: Final = {
    **{name: (shipped_policy(name), name) for name in SHIPPED_POLICIES},
    "own": (
        of_name("own", based_on="customer_deposits", processing_fee="dispute_fees / processor_clearing"),
        "customer_deposits",
    ),
    "own without deposits": (of_name("customer_deposits", version=2), "contract_liability"),
}
"""Policies that ledgers had adopted, each with the shipped one whose rule is right for the new kind."""

BEFORE: Final = (
    cloud_event(
        "buy",
        "credits.purchased",
        "c",
        "2026-01-05T10:00:00Z",
        block_id="b",
        credits="100",
        price="50.00",
        currency="USD",
        invoice_id="i",
    ),
    cloud_event("use", "credits.consumed", "c", "2026-01-10T10:00:00Z", credits="30"),
)
AFTER: Final = (cloud_event("forfeit", TYPE, "c", "2026-01-20T10:00:00Z", block_id="b", reason="broke the terms"),)


@pytest.fixture(scope="module")
def later(
    service: Subledger, new_ledger: NewLedger, owner_url: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The findings of a later release with one more kind in ledgers of today's product, by policy."""
    ledgers = {name: new_ledger(policy=policy) for name, (policy, _) in POLICIES_OF_LEDGERS.items()}
    asked = {}
    for name, ledger in ledgers.items():
        policy = POLICIES_OF_LEDGERS[name][0]
        assert all(outcome.error is None for outcome in service.record(ledger, list(BEFORE)))
        ours = name in SHIPPED_POLICIES
        asked[ledger] = {
            "events": AFTER,
            "policy": policy.name if ours else None,
            "file": None if ours else file_of(policy),
        }
    copy = copy_with_the_new_kind(tmp_path_factory.mktemp("later"))
    done = subprocess.run(
        [sys.executable, "-c", LATER, owner_url],
        input=json.dumps(asked),
        cwd=copy,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(copy)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return {name: found[ledger] for name, ledger in ledgers.items()}


by_policy = pytest.mark.parametrize("name", POLICIES_OF_LEDGERS)


@by_policy
def test_a_ledger_of_before_verifies_clean_before_and_after_it_posts_the_new_kind(
    later: dict[str, Any], name: str
) -> None:
    assert (later[name]["before"], later[name]["after"]) == ([], [])
    assert later[name]["inherited"] == [KIND]


@by_policy
def test_a_policy_of_before_inherits_the_rule_that_is_right_for_its_books(later: dict[str, Any], name: str) -> None:
    released = POLICIES_OF_LEDGERS[name][1] == "customer_deposits_arm"
    recognised = {"deferred_revenue": 5_000} if released else {"usage_revenue": 1_500, "breakage_revenue": 3_500}
    balances = dict(later[name]["balances"])
    assert sum(balances.pop(account, 0) for account in ("accounts_receivable",)) == 5_000
    assert balances == recognised  # prepaid_liability, customer_deposits and credits_clearing are zero


@by_policy
def test_the_policy_of_before_is_still_the_same_policy(later: dict[str, Any], name: str) -> None:
    assert (later[name]["adopted_again"], later[name]["created_again"]) == (False, False)


def _rule_of_the_new_kind(name: str) -> list[list[str]]:
    line = POLICIES[f"subledger/policies/{POLICIES_OF_LEDGERS[name][1]}.toml"]
    return [pair.split(" / ") for pair in tomllib.loads(line)[KIND]]


@by_policy
def test_statement_reports_and_close_know_the_new_kind(later: dict[str, Any], name: str) -> None:
    told = later[name]
    assert [row["what"] for row in told["statement"]] == ["bought", "used", "forfeited"]
    assert [(row["usage"], row["breakage"]) for row in told["waterfall"]] == [("1500", "3500")]
    assert [(row["consumed"], row["expired"], row["closing"]) for row in told["rollforward"]] == [("1500", "3500", "0")]
    assert told["lines"] == sorted(role for pair in _rule_of_the_new_kind(name) for role in pair)
    assert told["rebuilt"] == 0


def test_a_rule_that_is_inherited_and_used_must_have_its_rows(later: dict[str, Any]) -> None:
    name = list(POLICIES_OF_LEDGERS)[-1]
    assert f"posting_rules: row 1, {KIND}, 1 is missing" in later[name]["tampered"]
    assert later[name]["mended"] == []


def test_a_new_event_type_with_its_own_kind_touches_at_most_six_files_and_the_policies(later: dict[str, Any]) -> None:
    assert all(told["after"] == [] for told in later.values())  # these files are enough
    assert list(EDITS) == [
        "subledger/events/data.py",
        "subledger/events/meanings.py",
        "subledger/kinds.py",
        "subledger/deciding/cancellations.py",
        "subledger/deciding/decide.py",
    ]
    assert len(EDITS) <= MOST_FILES
    assert set(POLICIES) == {f"subledger/policies/{name}.toml" for name in SHIPPED_POLICIES}


def test_the_documentation_lists_the_files_that_a_new_kind_touches() -> None:
    readme = (ROOT / "subledger" / "README.md").read_text("utf-8")
    chapter = readme.partition("\n## Adding an event type\n")[2].partition("\n## ")[0]
    listed = [line.split("`")[1] for line in chapter.splitlines() if line.startswith("| `")]
    assert listed == [*EDITS, "subledger/policies/*.toml"]


@pytest.mark.parametrize("name", SHIPPED_POLICIES)
def test_a_shipped_policy_is_its_own_base(name: str) -> None:
    assert base_policy(shipped_policy(name).rules) == name
