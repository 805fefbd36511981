"""`subledger bench` runs, and its result is complete. Its speed is not tested, because a machine that runs tests has
other work.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psycopg
import pytest

from tests.benchmarks.measures import GOALS, Measure, Round, at_least, at_most

pytestmark = pytest.mark.campaign


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def result(work: Path, server_url: str) -> dict[str, Any]:
    """The result of all benchmarks at their smallest size, run by the command line."""
    done = _bench(work, server_url, "--tiny", "--plot", "goals.svg", "--json")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def _bench(work: Path, server_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "subledger"), "bench", *arguments]
    environment = {"PATH": "/usr/bin:/bin", "SUBLEDGER_DATABASE_URL": server_url, "COLUMNS": "180"}
    return subprocess.run(command, capture_output=True, text=True, cwd=work, env=environment, timeout=300)


def test_every_goal_is_measured_or_says_why_not(result: dict[str, Any]) -> None:
    said = {measure["goal"] for measure in result["measures"]} | {name.split()[0] for name in result["skipped"]}
    assert said == set(GOALS) == set(result["goals"])
    assert all(result["skipped"].values())
    assert not result["failed"]


def test_every_measure_holds_its_samples_and_what_they_are_compared_with(result: dict[str, Any]) -> None:
    for measure in result["measures"]:
        assert measure["rounds"], measure["name"]
        least, most = measure["spread"]
        assert 0 < least <= measure["ratio"] <= most, measure["name"]
        assert (measure["met"] is None) == (measure["bound"] is None)
        if measure["limit_name"] is not None:
            assert measure["limit_median"] > 0
            assert all(round["limit"] > 0 for round in measure["rounds"])


def test_the_result_says_where_when_and_how(result: dict[str, Any]) -> None:
    assert result["machine"]["cores"] >= 1
    assert result["server"]["fsync"] in ("on", "off")
    assert result["measured_at"]
    assert result["options"]["events"] == 1_000


def test_what_is_stored_is_listed_table_by_table(result: dict[str, Any]) -> None:
    stored = {item["name"]: item["bytes"] for item in result["stored"]}
    assert {"events", "entries", "ledger_days", "ux_events_key"} <= set(stored)
    assert not {name for name in stored if name.startswith("raw_")}


def test_nothing_of_the_grown_ledgers_own_events_is_refused(result: dict[str, Any]) -> None:
    for built in result["grown"]:
        assert built["refused"] == 0
        assert len(built["closes"]) == 11


def test_the_picture_has_a_row_for_every_goal_that_was_measured(work: Path, result: dict[str, Any]) -> None:
    drawn = "".join(ElementTree.parse(work / "goals.svg").getroot().itertext())
    for measure in result["measures"]:
        assert measure["bound"] is None or measure["name"] in drawn


def test_no_database_is_left(server_url: str, result: dict[str, Any]) -> None:
    with psycopg.connect(server_url) as connection:
        names = [row[0] for row in connection.execute("SELECT datname FROM pg_database")]
    assert not [name for name in names if "bench" in name]


def test_an_unknown_goal_is_refused_by_name(work: Path, server_url: str) -> None:
    done = _bench(work, server_url, "--only", "P5,P12", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["found"] == "P5,P12"


def test_an_installed_package_without_its_tests_says_that_a_checkout_is_needed() -> None:
    program = "import sys; sys.modules['tests.benchmarks'] = None; import api.cli.main; api.cli.main.main()"
    done = subprocess.run([sys.executable, "-c", program, "bench", "--json"], capture_output=True, text=True)
    assert done.returncode == 2
    assert json.loads(done.stdout)["code"] == "not_a_checkout"


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    rounds = (Round(value=1, limit=2), Round(value=30, limit=10), Round(value=4, limit=4))
    measure = Measure(goal="P1", name="", unit="", rounds=rounds, bound=at_least(1))
    assert (measure.ratio, measure.spread, measure.met) == (1, (0.5, 3), True)


def test_a_margin_above_one_is_a_goal_that_is_met_whichever_way_it_is_asked() -> None:
    for bound in (at_least(2), at_most(2)):
        for ratio in (0.5, 1.9, 2.0, 2.1, 8.0):
            assert bound.met_by(ratio) == (bound.margin(ratio) >= 1)
