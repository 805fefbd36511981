"""Files that commands write: they replace only their target, and never a file that is being read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import pytest

from api.cli.event_files import BATCH, RejectedLines
from api.cli.files import written_whole
from tests.building import cloud_event, usage
from tests.conftest import NewLedger
from tests.reading import mode_of
from tests.waiting import HANGS_S

pytestmark = pytest.mark.campaign

COMMAND = str(Path(sys.executable).with_name("subledger"))
PRECIOUS = b"precious"


BUY = cloud_event(
    "buy",
    "credits.purchased",
    "c1",
    "2026-01-15T10:00:00Z",
    block_id="b1",
    credits="1000000",
    price="1.00",
    currency="USD",
)


def _run(owner_url: str, folder: Path, *arguments: str, stdin: BinaryIO | None = None) -> tuple[int, str]:
    done = subprocess.run(
        [COMMAND, *arguments],
        stdin=stdin or subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=HANGS_S,
        env={**os.environ, "SUBLEDGER_DATABASE_URL": owner_url, "COLUMNS": "200"},
    )
    return done.returncode, done.stdout.strip() + done.stderr


# --- written_whole ----------------------------------------------------------------------------------------------------


def test_a_link_that_somebody_put_beside_a_file_is_not_written_to(tmp_path: Path) -> None:
    victim, file = tmp_path / "victim", tmp_path / "acme-2026-01.csv"
    victim.write_bytes(PRECIOUS)
    (tmp_path / "acme-2026-01.csv.part").symlink_to(victim)
    with written_whole(file) as opened:
        opened.write(b"journal")
    assert (victim.read_bytes(), file.read_bytes(), file.is_symlink()) == (PRECIOUS, b"journal", False)


def test_a_file_keeps_its_mode_and_a_new_one_has_that_of_the_umask(tmp_path: Path) -> None:
    secret, new, plain = tmp_path / "secret.csv", tmp_path / "new.csv", tmp_path / "plain.csv"
    secret.write_bytes(b"old")
    plain.touch()
    for mode in (0o600, 0o640, 0o666):
        secret.chmod(mode)
        with written_whole(secret) as opened:
            opened.write(b"new")
        assert (mode_of(secret), secret.read_bytes()) == (mode, b"new")
    with written_whole(new) as opened:
        opened.write(b"new")
    assert mode_of(new) == mode_of(plain)


def test_two_who_write_a_file_at_once_each_publish_all_of_theirs(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    with written_whole(file) as first:
        first.write(b"first " * 10_000)
        with written_whole(file) as second:
            second.write(b"second")
        assert file.read_bytes() == b"second"
        first.write(b"end")
    assert file.read_bytes() == b"first " * 10_000 + b"end"
    assert list(tmp_path.iterdir()) == [file]


def test_what_is_not_written_to_its_end_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(PRECIOUS)
    with suppress(KeyboardInterrupt), written_whole(file) as opened:
        opened.write(b"half")
        raise KeyboardInterrupt
    assert file.read_bytes() == PRECIOUS
    assert list(tmp_path.iterdir()) == [file]


# --- rejected lines ---------------------------------------------------------------------------------------------------


def test_a_file_of_rejected_lines_that_is_recorded_from_standard_input_is_read_to_its_end(
    owner_url: str, new_ledger: NewLedger, tmp_path: Path
) -> None:
    ledger, count = new_ledger(), BATCH + 500
    file = tmp_path / "stdin.rejected.jsonl"
    lines = [
        json.dumps({"line": n, "event": usage(f"use-{n}", customer="c1"), "error": {"code": "insufficient_credits"}})
        for n in range(count)
    ]
    file.write_text("\n".join([*lines, "{broken"]) + "\n")
    with file.open("rb") as stdin:
        code, said = _run(owner_url, tmp_path, "record", "-", "--ledger", ledger, stdin=stdin)
    assert (code, f"rejected {count + 1}" in said) == (3, True), said
    kept = [json.loads(line)["event"] for line in file.read_text().splitlines()]
    assert kept == [*(usage(f"use-{n}", customer="c1") for n in range(count)), "{broken"]
    (tmp_path / "buy.jsonl").write_text(json.dumps(BUY) + "\n")
    assert _run(owner_url, tmp_path, "record", "buy.jsonl", "--ledger", ledger)[0] == 0
    with file.open("rb") as stdin:
        code, said = _run(owner_url, tmp_path, "record", "-", "--ledger", ledger, stdin=stdin)
    assert (code, f"recorded {count}, duplicates 0, rejected 1" in said) == (3, True), said
    [left] = file.read_text().splitlines()
    assert json.loads(left)["event"] == "{broken"


def test_what_is_read_is_not_removed_though_all_of_it_is_recorded(
    owner_url: str, new_ledger: NewLedger, tmp_path: Path
) -> None:
    ledger = new_ledger()
    file = tmp_path / "stdin.rejected.jsonl"
    file.write_text(json.dumps(BUY) + "\n")
    with file.open("rb") as stdin:
        assert _run(owner_url, tmp_path, "record", "-", "--ledger", ledger, stdin=stdin)[0] == 0
    assert json.loads(file.read_text()) == BUY
    (tmp_path / "buy.jsonl").write_text(json.dumps(BUY) + "\n")
    with (tmp_path / "buy.jsonl").open("rb") as stdin:
        assert _run(owner_url, tmp_path, "record", "-", "--ledger", ledger, stdin=stdin)[0] == 0
    assert not file.exists(), "a file of an earlier run would be sent again"


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_a_name_of_rejected_lines_that_leads_to_the_file_itself_takes_nothing_from_it(
    link: str, owner_url: str, new_ledger: NewLedger, tmp_path: Path
) -> None:
    file, rejected = tmp_path / "e.jsonl", tmp_path / "e.jsonl.rejected.jsonl"
    file.write_text("".join(json.dumps(usage(f"use-{n}", customer="c1")) + "\n" for n in range(BATCH + 10)))
    before = file.read_bytes()
    if link == "hard":
        rejected.hardlink_to(file)
    else:
        rejected.symlink_to(file)
    code, said = _run(owner_url, tmp_path, "record", "e.jsonl", "--ledger", new_ledger())
    assert (code, f"rejected {BATCH + 10}" in said) == (3, True), said
    assert file.read_bytes() == before
    assert (rejected.is_symlink(), len(rejected.read_text().splitlines())) == (False, BATCH + 10)


@pytest.mark.parametrize("line", [b"", b"{}\n"])
def test_a_link_in_the_place_of_rejected_lines_is_replaced_and_not_followed(line: bytes, tmp_path: Path) -> None:
    victim, rejected = tmp_path / "victim", tmp_path / "e.rejected.jsonl"
    victim.write_bytes(PRECIOUS)
    rejected.symlink_to(victim)
    with RejectedLines(rejected, pytest.fail) as lines:
        if line:
            lines.write(line)
    assert victim.read_bytes() == PRECIOUS
    assert not rejected.is_symlink()
    assert (rejected.read_bytes() if line else rejected.exists()) == (line or False)


def test_rejected_lines_of_an_earlier_run_stand_until_a_run_has_ended(tmp_path: Path) -> None:
    rejected = tmp_path / "e.rejected.jsonl"
    rejected.write_bytes(PRECIOUS)
    rejected.chmod(0o600)
    with suppress(KeyboardInterrupt), RejectedLines(rejected, pytest.fail) as lines:
        lines.write(b"half\n")
        raise KeyboardInterrupt
    assert rejected.read_bytes() == PRECIOUS
    with RejectedLines(rejected, pytest.fail) as lines:
        lines.write(b"new\n")
        assert rejected.read_bytes() == PRECIOUS, "whoever is killed now loses nothing"
    assert (rejected.read_bytes(), mode_of(rejected)) == (b"new\n", 0o600)
    assert list(tmp_path.iterdir()) == [rejected]
