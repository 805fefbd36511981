"""Faults of the machine on the command line: one sentence, exit code 4, no traceback, and nothing partly done."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from api.cli.commands import serve
from api.service import Subledger
from api.settings import connect
from subledger.errors import FileUnavailable, SchemaOutOfDate
from tests.building import cloud_event
from tests.conftest import NewLedger
from tests.waiting import HANGS_S

pytestmark = pytest.mark.campaign

COMMAND = str(Path(sys.executable).with_name("subledger"))
Result = subprocess.CompletedProcess[str]

BUY = cloud_event(
    "buy", "credits.purchased", "c1", "2026-01-15T10:00:00Z", block_id="b1", credits="10", price="1.00", currency="USD"
)
full_disk = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


@pytest.fixture
def run(owner_url: str, tmp_path: Path) -> Callable[..., Result]:
    def call(*arguments: str, stdin: str | None = None, **changes: str) -> Result:
        environment = {**os.environ, "SUBLEDGER_DATABASE_URL": owner_url, "COLUMNS": "200", **changes}
        return subprocess.run(
            [COMMAND, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            timeout=HANGS_S,
            input=stdin,
        )

    return call


def _is_one_sentence(result: Result, *, code: str = "file_unavailable") -> str:
    assert result.returncode == 4, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    [sentence] = [line for line in result.stderr.splitlines() if not line.startswith("  ")]
    assert sentence.startswith(f"{code}: ")
    return sentence


@pytest.mark.parametrize("command", [("init",), ("serve", "--port", "0")])
def test_a_database_that_does_not_answer_is_one_sentence(run: Callable[..., Result], command: tuple[str, ...]) -> None:
    nobody = "postgresql://nobody:wrong@127.0.0.1:1/nothing"
    assert "refused" in _is_one_sentence(run(*command, SUBLEDGER_DATABASE_URL=nobody), code="database_unavailable")


def test_a_database_without_our_schema_is_left_as_it_is(
    fresh_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", fresh_database_url)
    with pytest.raises(SchemaOutOfDate) as caught:
        connect()
    assert caught.value.expected == "subledger init"
    with psycopg.connect(fresh_database_url) as connection:
        assert connection.execute("SELECT to_regclass('ledgers')").fetchone() == (None,)


@pytest.mark.parametrize("wrong", ["user", "password", "dbname", "host"])
def test_each_wrong_part_of_the_url_is_one_sentence(run: Callable[..., Result], owner_url: str, wrong: str) -> None:
    parts = psycopg.conninfo.conninfo_to_dict(owner_url)
    assert wrong in parts
    parts[wrong] = "no-such.invalid"
    url = f"postgresql://{parts['user']}:{parts['password']}@{parts['host']}:{parts['port']}/{parts['dbname']}"
    _is_one_sentence(run("ledger", "list", SUBLEDGER_DATABASE_URL=url), code="database_unavailable")


def test_with_json_a_fault_is_a_problem_document_on_both_outputs(run: Callable[..., Result]) -> None:
    done = run("ledger", "list", "--json", SUBLEDGER_DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    assert done.returncode == 4
    assert json.loads(done.stderr)["code"] == json.loads(done.stdout)["code"] == "database_unavailable"


def test_a_home_that_cannot_be_made_is_one_sentence(run: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("")
    done = run("ledger", "list", SUBLEDGER_DATABASE_URL="", SUBLEDGER_HOME=str(tmp_path / "a-file" / "home"))
    assert "a-file" in _is_one_sentence(done, code="embedded_server_failed")


def test_files_that_cannot_be_written_are_one_sentence(
    run: Callable[..., Result], service: Subledger, new_ledger: NewLedger, tmp_path: Path
) -> None:
    ledger = new_ledger()
    service.record(ledger, [BUY])
    (tmp_path / "a-file").write_text("")
    report = ("report", "trial-balance", "--ledger", ledger, "--out")
    assert "nodir" in _is_one_sentence(run(*report, "nodir/x.csv"))
    assert "a-file" in _is_one_sentence(run(*report, "a-file/x.csv"))
    exported = run("export", "--ledger", ledger, "2026-01", "--format", "csv", "--out", "a-file")
    assert "a-file" in _is_one_sentence(exported)


@pytest.mark.parametrize("file", ["e.jsonl", "-"])
def test_a_file_of_rejected_lines_that_cannot_be_made_keeps_no_event_from_being_recorded(
    file: str, run: Callable[..., Result], service: Subledger, new_ledger: NewLedger, tmp_path: Path
) -> None:
    ledger = new_ledger()
    lines = json.dumps(BUY) + "\n{broken\n"
    (tmp_path / "e.jsonl").write_text(lines)
    taken = "stdin.rejected.jsonl" if file == "-" else f"{file}.rejected.jsonl"
    (tmp_path / taken).mkdir()
    done = run("record", file, "--ledger", ledger, stdin=lines)
    assert done.returncode == 3, done.stderr
    assert done.stdout.strip() == "recorded 1, duplicates 0, rejected 1"
    assert f"{taken} cannot be written (Is a directory)" in done.stderr
    assert "rejected list" in done.stderr
    assert "as they are:" not in done.stderr, "no file is named that is not there"
    assert service.record(ledger, [BUY])[0].status == "duplicate"
    assert "invalid_json" in run("rejected", "counts", "--ledger", ledger).stdout


@full_disk
def test_a_disk_that_is_full_of_rejected_lines_keeps_no_event_from_being_recorded(
    run: Callable[..., Result], new_ledger: NewLedger, tmp_path: Path
) -> None:
    ledger = new_ledger()
    broken = "".join(f"{{broken {n}\n" for n in range(500))
    (tmp_path / "e.jsonl").write_text(json.dumps(BUY) + "\n" + broken)
    (tmp_path / "e.jsonl.rejected.jsonl").symlink_to("/dev/full")
    done = run("record", "e.jsonl", "--ledger", ledger)
    assert (done.returncode, done.stdout.strip()) == (3, "recorded 1, duplicates 0, rejected 500")
    assert "cannot be written (No space left on device)" in done.stderr


@full_disk
def test_a_full_disk_is_one_sentence(run: Callable[..., Result], owner_url: str, new_ledger: NewLedger) -> None:
    for arguments in (("balances", "--ledger", new_ledger()), ("--help",)):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [COMMAND, *arguments],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=HANGS_S,
                env={**os.environ, "SUBLEDGER_DATABASE_URL": owner_url},
            )
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        assert "No space left" in done.stderr
        assert done.returncode == 4


def test_a_reader_that_goes_away_ends_the_command_quietly(
    run: Callable[..., Result], owner_url: str, new_ledger: NewLedger
) -> None:
    for arguments in (("events", "--ledger", new_ledger(), "--json"), ("report", "--list")):
        process = subprocess.Popen(
            [COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "SUBLEDGER_DATABASE_URL": owner_url},
        )
        assert process.stdout is not None
        process.stdout.close()
        _, stderr = process.communicate(timeout=HANGS_S)
        assert (process.returncode, stderr) == (0, "")


def test_a_port_in_use_is_said_before_anything_is_served() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(FileUnavailable, match=f"port {port}: Address already in use"):
            serve.listen("127.0.0.1", port)
    serve.listen("127.0.0.1", port).close()


BAD = "bad\udcff"
"""A file name that is not UTF-8, in Python's representation."""


def test_a_file_whose_name_is_not_utf_8_is_recorded_and_its_refused_lines_are_kept(
    run: Callable[..., Result], new_ledger: NewLedger, tmp_path: Path
) -> None:
    ledger = new_ledger()
    file = tmp_path / f"{BAD}.jsonl"
    try:
        file.write_text(f'{json.dumps(BUY)}\n{{"id": "no event"}}\n')
    except OSError:
        pytest.skip("this file system has UTF-8 names alone")
    for _ in range(2):
        done = run("record", file.name, "--ledger", ledger)
        assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stderr
    assert (tmp_path / f"{file.name}.rejected.jsonl").is_file()
    listed = run("rejected", "list", "--ledger", ledger, "--json")
    [item] = json.loads(listed.stdout)["items"]
    assert (item["way"], item["attempts"]) == (r"file:bad\udcff.jsonl", 2)
    found = run("rejected", "list", "--ledger", ledger, "--json", "--way", item["way"])
    assert run("rejected", "list", "--ledger", ledger, "--way", f"file:{file.name}").returncode == 2
    assert len(json.loads(found.stdout)["items"]) == 1


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (("events", "--ledger", BAD), {}, r"the argument bad\udcff is not UTF-8"),
        (("events", f"--ledger={BAD}"), {}, r"the argument --ledger=bad\udcff is not UTF-8"),
        (("record", f"{BAD}.jsonl", "--ledger", "none"), {}, r"there is no file bad\udcff.jsonl"),
        (("record", "x.jsonl", "--ledger", "none", "--by", BAD), {}, "the name in by has the character U+DCFF"),
        (("record", "x.jsonl", "--ledger", "none"), {"LOGNAME": BAD}, "the name in by has the character U+DCFF"),
        (("ledger", "list"), {"SUBLEDGER_DATABASE_URL": f"postgresql://x:secret{BAD}@127.0.0.1:1/x"},
         "the value of SUBLEDGER_DATABASE_URL in the environment is not UTF-8"),
    ],
)  # fmt: skip
def test_a_text_of_the_system_that_is_not_utf_8_is_refused_with_a_sentence(
    arguments: tuple[str, ...], variables: dict[str, str], said: str, run: Callable[..., Result]
) -> None:
    done = run(*arguments, **variables)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


def test_a_report_is_written_to_what_stands_there_and_never_in_its_place(
    run: Callable[..., Result], service: Subledger, new_ledger: NewLedger, tmp_path: Path
) -> None:
    """A device or a pipe must not be replaced by a file, because it would be gone for all users. A link is followed."""
    ledger = new_ledger()
    report = ("report", "trial-balance", "--ledger", ledger, "--csv", "--out")
    (tmp_path / "kept.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("kept.csv")
    assert run(*report, "link.csv").returncode == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert "old" not in (tmp_path / "kept.csv").read_text()
    os.mkfifo(tmp_path / "pipe.csv")
    reader = subprocess.Popen(["cat", "pipe.csv"], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert run(*report, "pipe.csv").returncode == 0
    assert reader.communicate()[0] == (tmp_path / "kept.csv").read_text()
    assert (tmp_path / "pipe.csv").is_fifo()
    assert not list(tmp_path.glob("*.part"))


@full_disk
def test_a_report_to_a_full_disk_is_one_sentence(
    run: Callable[..., Result], new_ledger: NewLedger, tmp_path: Path
) -> None:
    (tmp_path / "full.csv").symlink_to("/dev/full")
    refused = run("report", "trial-balance", "--ledger", new_ledger(), "--out", "full.csv")
    assert (refused.returncode, "No space left" in refused.stderr) == (4, True)
    assert Path("/dev/full").is_char_device()
