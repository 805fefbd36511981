"""The home: another working directory does not use another, empty database; and a new database is announced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from api import settings
from api.cli import faults
from subledger.errors import UnknownLedger
from subledger.store.embedded import server as embedded
from tests.waiting import HANGS_S

COMMAND = str(Path(sys.executable).with_name("subledger"))


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SUBLEDGER_HOME", "SUBLEDGER_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def test_the_home_is_found_upwards_from_the_working_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deep = tmp_path / "clone" / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "clone" / ".subledger").mkdir()
    for place in (deep, deep.parent, tmp_path / "clone"):
        monkeypatch.chdir(place)
        assert settings.home() == tmp_path / "clone" / ".subledger"
    (deep / ".subledger").write_text("a file is no home")
    monkeypatch.chdir(deep)
    assert settings.home() == tmp_path / "clone" / ".subledger"
    monkeypatch.setenv("SUBLEDGER_HOME", "here")
    assert settings.home() == deep / "here"


def test_a_home_that_others_could_have_put_there_is_passed_by(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours, shared = tmp_path / ".subledger", tmp_path / "shared"
    work, elsewhere = shared / "work", tmp_path / "elsewhere"
    for made in (ours, work, elsewhere):
        made.mkdir(parents=True)
    monkeypatch.chdir(work)
    (work / ".subledger").symlink_to(elsewhere)
    assert settings.home() == ours, "a link leads wherever its maker wants"
    (shared / ".subledger").mkdir()
    assert settings.home() == shared / ".subledger"
    shared.chmod(0o777)
    assert settings.home() not in (ours, shared / ".subledger"), "everybody can write there"
    shared.chmod(0o1777)
    assert settings.home() == shared / ".subledger", "our own, from which nobody else can take anything"
    if os.geteuid() == 0:
        shared.chmod(0o755)
        os.chown(shared / ".subledger", 65534, 65534)
        assert settings.home() == ours, "another user's"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other folders, and no XDG_DATA_HOME")
def test_without_one_it_is_in_the_users_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("one", "another"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert settings.home() == tmp_path / "data" / "subledger"
        assert list((tmp_path / name).iterdir()) == [], "to ask for it makes nothing"


@pytest.mark.campaign
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other folders, and no XDG_DATA_HOME")
def test_a_new_database_is_announced_once_and_an_error_names_the_one_that_was_asked(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *arguments], capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ), timeout=HANGS_S
        )

    home = tmp_path / "data" / "subledger"
    try:
        first, second = run("balances", "--ledger", "acme"), run("balances", "--ledger", "acme", "--json")
    finally:
        embedded.stop(home)
    assert f"created a new, empty ledger database in {home}" in first.stderr
    assert f"database: the embedded one in {home}" in first.stderr
    assert "created" not in second.stderr
    assert json.loads(second.stdout)["database"] == f"the embedded one in {home}"
    assert not (tmp_path / ".subledger").exists()


def test_a_configured_database_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", "postgresql://me:secret@db.example:5433/books?sslmode=require")
    with pytest.raises(SystemExit), faults.reported(as_json=False):
        raise UnknownLedger("there is no ledger acme", field="ledger", found="acme")
    said = capsys.readouterr().err
    assert "books on db.example, port 5433" in said
    assert "secret" not in said


def test_the_version_is_printed() -> None:
    done = subprocess.run([COMMAND, "--version"], capture_output=True, text=True, timeout=HANGS_S)
    assert (done.returncode, done.stdout) == (0, f"subledger {version('subledger')}\n")
