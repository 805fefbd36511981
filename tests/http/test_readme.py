"""The README's commands, run as they stand there, by a stranger with a shell."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from subledger.store import embedded
from tests.waiting import HANGS_S, until

pytestmark = pytest.mark.campaign

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    work = tmp_path_factory.mktemp("readme")
    yield work
    embedded.stop(work / ".subledger")


def _environment(work: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SUBLEDGER_")}
    return {**kept, "PATH": path, "SUBLEDGER_HOME": str(work / ".subledger"), "COLUMNS": "180"}


def _block(with_text: str) -> str:
    return next(block for block in BLOCKS if with_text in block)


@pytest.fixture(scope="module")
def tour(work: Path) -> subprocess.CompletedProcess[str]:
    """The tour, run once: what comes after it goes on from its ledger."""
    script = _block("ledger create acme")
    return subprocess.run(
        ["bash", "-e", "-c", script], capture_output=True, text=True, cwd=work, env=_environment(work), timeout=HANGS_S
    )


def is_ready(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=HANGS_S)
    except OSError:
        return False
    return True


def test_the_tour_prints_what_the_readme_shows(work: Path, tour: subprocess.CompletedProcess[str]) -> None:
    assert tour.returncode == 0, tour.stderr
    shown = [line for line in README.partition("\n## Speed\n")[0].splitlines() if line.startswith("│ ")]
    assert len(shown) > 6
    for line in shown:
        assert line in tour.stdout, line
    assert "acme: 7 events, 3 entries: clean" in tour.stdout
    assert {path.suffix for path in (work / "journals").iterdir()} == {".csv", ".beancount"}


def test_the_reports_are_made_and_tie(work: Path, tour: subprocess.CompletedProcess[str]) -> None:
    assert tour.returncode == 0
    done = subprocess.run(
        ["bash", "-e", "-c", _block("report rollforward")],
        capture_output=True, text=True, cwd=work, env=_environment(work), timeout=HANGS_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ties: " in done.stdout
    assert "DIFFERS" not in done.stdout
    assert (work / "waterfall.csv").read_text("utf-8").count("\n") > 1
    assert "cust-42" in (work / "statement.html").read_text("utf-8")


def test_what_was_refused_is_listed_and_retried_as_the_readme_says(tmp_path: Path) -> None:
    """In a home of its own: what is recorded here would be in the tour's January."""
    created = "subledger ledger create acme --currency USD\n"
    done = subprocess.run(
        ["bash", "-e", "-c", created + _block("subledger rejected counts")],
        capture_output=True, text=True, cwd=tmp_path, env=_environment(tmp_path), timeout=HANGS_S,
    )  # fmt: skip
    subprocess.run(["bash", "-c", "subledger database --stop"], check=True, cwd=tmp_path, env=_environment(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "40 credit" in done.stdout
    assert "retried" in done.stdout.splitlines()[-2]


def test_a_month_goes_into_the_general_ledger_as_the_readme_says(
    work: Path, tour: subprocess.CompletedProcess[str]
) -> None:
    assert tour.returncode == 0
    done = subprocess.run(
        ["bash", "-e", "-c", _block("subledger checklist")],
        capture_output=True, text=True, cwd=work, env=_environment(work), timeout=HANGS_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "blocked" not in done.stdout
    assert "use-1" in done.stdout
    assert "5 compared, 0 differ" in done.stdout
    delivered = subprocess.run(
        ["bash", "-e", "-c", _block("subledger deliver 2026-01")],
        capture_output=True, text=True, cwd=work, env=_environment(work), timeout=HANGS_S,
    )  # fmt: skip
    assert delivered.returncode == 0, delivered.stdout + delivered.stderr
    assert {path.name for path in (work / "drop").iterdir() if path.is_file()} == {
        "acme-2026-01-1-csv.csv", ".acme-2026-01-1-csv.csv.sent",
    }  # fmt: skip
    assert "1 delivery is reconciled" in delivered.stdout
    watched = subprocess.run(
        ["bash", "-e", "-c", _block("subledger monitor --ledger acme")],
        capture_output=True, text=True, cwd=work, env=_environment(work), timeout=HANGS_S,
    )  # fmt: skip
    assert watched.returncode == 0, watched.stdout + watched.stderr
    assert "dead_letters" in watched.stdout


def test_a_sandbox_closes_a_month_as_the_readme_says(work: Path) -> None:
    done = subprocess.run(
        ["bash", "-e", "-c", _block("subledger clock set")],
        capture_output=True, text=True, cwd=work, env=_environment(work), timeout=HANGS_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2027-02-01T00:00:00Z (a sandbox's clock); today is 2027-02-01, UTC." in done.stdout
    assert "2027-01 is closed" in done.stdout


def test_a_second_person_is_asked_as_the_readme_says(tmp_path: Path) -> None:
    """In a database of its own: where a key exists, every call over HTTP needs one."""
    commands = re.findall(r"`(subledger (?:ledger create acme-eu|keys create --ledger acme-eu)[^`]*)`", README)
    assert len(commands) == 2
    for command in commands:
        subprocess.run(
            ["bash", "-e", "-c", command], check=True, cwd=tmp_path, env=_environment(tmp_path), timeout=HANGS_S
        )
    keys = _block("subledger keys list").replace("--ledger acme ", "--ledger acme-eu ")
    listed = subprocess.run(
        ["bash", "-e", "-c", keys], check=True, capture_output=True, text=True, cwd=tmp_path, env=_environment(tmp_path)
    )
    assert listed.stdout.count("maria") == 2
    subprocess.run(["bash", "-c", "subledger database --stop"], check=True, cwd=tmp_path, env=_environment(tmp_path))


def test_the_http_examples_are_answered(work: Path, tour: subprocess.CompletedProcess[str]) -> None:
    assert tour.returncode == 0
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    environment = _environment(work)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        ["subledger", "serve", "--port", str(port)], cwd=work, env=environment, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: is_ready(port), "the server is ready")
        script = _block("curl -s").replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        done = subprocess.run(["bash", "-e", "-c", script], capture_output=True, text=True, cwd=work, env=environment)
    finally:
        server.terminate()
        server.wait(timeout=HANGS_S)
    assert done.returncode == 0, done.stderr
    assert '"status":"recorded"' in done.stdout
    assert '"prepaid_liability"' in done.stdout
