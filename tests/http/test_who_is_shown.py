"""Every place that shows an act also shows the name of its user: a table of acts and places.

A cell has the user's name if the place shows such an act. Otherwise it is empty: for example, a cut is in no customer's
block, and a mapping changes no month. Other places, such as the list of keys, have their own row.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator
from functools import partial

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from api import terminal
from api.cli.main import app
from api.http.app import create_app
from api.service import Subledger
from api.shapes.reports import REPORTS
from subledger.errors import InvalidInput
from subledger.store.database import Database
from tests.building import purchase
from tests.http.test_who_did_it import Run
from tests.scratch_database import scratch_database

# verb          events   history  periods  journals  reports
SHOWN = """
configured      conny    -        -        -         -
adopted_policy  paula    -        -        -         -
adopted_mapping mara     -        -        -         -
swept           sven     sven     -        -         -
cut             cuno     -        cuno     cuno      -
closed          clara    -        clara    -         clara
reopened        rosa     -        rosa     -         rosa
exported        -        -        elsa     elsa      elsa
reversed        -        -        ruth     ruth      -
"""
ELSEWHERE = """
keys list                   kim kurt
customer erasures           eva
channel list                chris
channel show erp            chris
channel list --dropped      doris
target show netsuite        tom
monitor thresholds show     theo
policy list                 lea paula
mapping show                mara
exports list                cuno elsa
"""
ELSEWHERE_OVER_HTTP = """
keys                        kim kurt
erasures                    eva
channels                    chris
channels/erp                chris
channels?dropped=true       doris
targets                     tom
targets/netsuite            tom
monitors/thresholds         theo
policies                    lea paula
mapping                     mara
exports                     cuno elsa
"""
PLACES = {
    "events": "events",
    "history": "history --block b2",
    "periods": "periods --history",
    "journals": "journals list 2026-01",
    "reports": "report summary --from 2026-01 --to 2026-02",
}
ROUTES = {
    "events": "events?limit=1000",
    "history": "blocks/b2/history",
    "periods": "periods",
    "journals": "periods/2026-01/journals",
    "reports": "reports/summary?from=2026-01&to=2026-02",
}


buy = partial(purchase, customer="c1", time="2026-01-05", price="10.00", expires_at="2026-01-20T00:00:00Z")


@pytest.fixture(scope="module")
def run(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A ledger with every act, each by another user, on the command line."""
    folder = tmp_path_factory.mktemp("who")
    files = {
        "channel.toml": f'connector = "folder"\ndirectory = "{folder}"\nformat = "csv"\n',
        "target.toml": 'level = "account"\n',
        "monitors.toml": "dead_letters = 5\n",
        "b1.jsonl": json.dumps(buy("b1"))
        + "\n"
        + json.dumps(buy("b2", time="2026-02-05", expires_at="2026-02-20T00:00:00Z"))
        + "\n",
        "b3.jsonl": json.dumps(buy("b3")) + "\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    named = {name: str(folder / name) for name in files}
    with scratch_database(server_url) as url, pytest.MonkeyPatch.context() as patched:
        patched.setenv("SUBLEDGER_DATABASE_URL", url)
        patched.setenv("SUBLEDGER_DELIVERY_FOLDERS", str(folder))
        patched.setattr(terminal.out, "width", 400)
        run = Run(f"who-{uuid.uuid4().hex[:10]}")
        run.plain("ledger", "create", run.ledger, "--currency", "USD", by="lea")
        run("record", named["b1.jsonl"])
        chart = folder / "chart.csv"
        chart.write_text(run("mapping", "show", "--csv").replace("2150", "21509"))
        run.plain("ledger", "configure", run.ledger, "--on-shortfall", "overage", by="conny")
        run("policy", "adopt", "contract_liability", by="paula")
        run("expire", "--through", "2026-02-25", by="sven")
        run("export", "2026-01", "--format", "csv", "--out", str(folder), by="cuno")
        run("mapping", "adopt", str(chart), by="mara")
        run("close", "2026-01", by="carla")
        run("reopen", "2026-01", "--reason", "late usage", by="rosa")
        run("record", named["b3.jsonl"])
        run("close", "2026-01", by="clara")
        run("journals", "reverse", "2026-01", "1", "--reason", "wrong accounts", by="ruth")
        run("export", "2026-01", "--format", "csv", "--out", str(folder), by="elsa")
        run("customer", "set", "c1", "segment=smb", by="ute")
        run("customer", "erase", "c1", by="eva")
        for name in ("erp", "other"):
            run("channel", "set", name, named["channel.toml"], by="chris")
        run("channel", "drop", "other", by="doris")
        run("target", "set", "netsuite", named["target.toml"], by="tom")
        run("monitor", "thresholds", "set", named["monitors.toml"], by="theo")
        key = json.loads(run("keys", "create", "--role", "reader", "--name", "a", "--json", by="kim"))["key_id"]
        run.plain("keys", "revoke", key, by="kurt")
        yield run


@pytest.fixture
def client(run: Run) -> Iterator[TestClient]:
    secret = run("keys", "create", "--role", "admin", "--name", "b").strip()
    database = Database(os.environ["SUBLEDGER_DATABASE_URL"])
    yield TestClient(create_app(Subledger(database)), headers={"Authorization": f"Bearer {secret}"})
    database.close()


@pytest.mark.parametrize("asked", ["the command line", "HTTP"])
def test_who_did_it_is_shown_in_every_place_that_shows_the_act(run: Run, client: TestClient, asked: str) -> None:
    for at, place in enumerate(PLACES):
        if asked == "HTTP":
            shown = client.get(f"/v1/ledgers/{run.ledger}/{ROUTES[place]}").text
        else:
            shown = run(*PLACES[place].split())
        for verb, *names in (line.split() for line in SHOWN.strip().splitlines()):
            who = next(name for name in names if name != "-")
            assert (who in shown) is (names[at] != "-"), f"{who} {verb}: {place}"


def test_what_is_in_none_of_these_places_shows_it_in_a_list_of_its_own(run: Run, client: TestClient) -> None:
    for line in ELSEWHERE.strip().splitlines():
        command, names = re.split("  +", line)
        for who in names.split():
            assert who in run(*command.split()), f"{command}: {who}"
    for line in ELSEWHERE_OVER_HTTP.strip().splitlines():
        route, *names = line.split()
        under = "/v1" if route == "keys" else f"/v1/ledgers/{run.ledger}"
        for who in names:
            assert who in client.get(f"{under}/{route}").text, f"{route}: {who}"


@pytest.mark.campaign
@pytest.mark.parametrize("name", [name for name in REPORTS if name != "statement"])
def test_a_report_names_who_closed_and_exported_its_months_in_every_format(
    run: Run, client: TestClient, name: str
) -> None:
    """The page of a statement goes to a customer, so it names no user. Its other formats name them."""
    asked = {"to": "2026-01"}
    for format, more in (("json", {}), ("html", {}), ("csv", {"table": "periods"})):
        shown = client.get(f"/v1/ledgers/{run.ledger}/reports/{name}", params={**asked, "format": format, **more}).text
        for who in ("clara", "rosa", "late usage", "elsa"):
            assert who in shown, f"{format}: {who}"
    shown = run("report", name, "--to", "2026-01")
    assert "clara" in shown
    assert "elsa" in shown


def test_the_history_of_a_month_keeps_every_closing_and_reopening(run: Run) -> None:
    [january, _] = run.json("periods")["items"]
    told = [(act["what"], act["by"], act["reason"]) for act in january["history"]]
    assert told == [
        ("cut", "cuno", None),
        ("exported", "cuno", None),
        ("closed", "carla", None),
        ("reopened", "rosa", "late usage"),
        ("closed", "clara", None),
        ("reversed", "ruth", "wrong accounts"),
        ("exported", "elsa", None),
        ("exported", "elsa", None),
        ("exported", "elsa", None),
    ]


def test_a_report_of_a_moment_names_who_had_done_what_by_then_for_ever(run: Run, client: TestClient) -> None:
    """At the moment of the first close, carla had closed the month. A later export does not change the answer for that
    moment.
    """
    [january, _] = run.json("periods")["items"]
    at = january["history"][2]["at"]
    answer = client.get(f"/v1/ledgers/{run.ledger}/reports/trial-balance", params={"to": "2026-01", "known_at": at})
    [row] = answer.json()["periods"]
    assert (row["state"], row["closed_by"], row["reopened_by"], row["exported_by"]) == ("closed", "carla", None, "cuno")


def test_events_that_found_a_ledger_name_who_created_it(run: Run) -> None:
    founding = run.json("events")["items"][:3]
    assert [item["type"] for item in founding] == ["ledger.configured", "policy.adopted", "mapping.adopted"]
    assert [item["who"] for item in founding] == ["by lea"] * 3
    sandbox = f"{run.ledger}-s"
    run.plain("ledger", "create", sandbox, "--currency", "USD", "--sandbox", by="lea")
    [clock] = json.loads(run.plain("events", "--ledger", sandbox, "--type", "clock.set", "--json"))["items"]
    assert clock["who"] == "by lea"


def test_the_usual_chart_fits_a_terminal_of_80_columns(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal.out, "width", 80)
    lines = run("mapping", "show").splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("prepaid_liability" in line and "21509" in line for line in lines) == 1, "one line a role"


def test_a_keys_end_is_shown_as_the_day_that_was_given(run: Run) -> None:
    run("keys", "create", "--role", "reader", "--name", "c", "--expires", "2027-12-31")
    assert "the end of 2027-12-31" in run("keys", "list")
    ran = CliRunner().invoke(
        app, ["keys", "create", "--ledger", run.ledger, "--role", "reader", "--expires", "9999-12-31"]
    )
    assert isinstance(ran.exception, InvalidInput)
    assert ran.exception.expected == "a day from 1900-01-01 to 8999-12-31"


def test_a_forecast_shows_what_is_zero(run: Run) -> None:
    assert "escheat" in run("report", "forecast")
