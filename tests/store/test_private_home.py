"""Only the owner can read the home, whatever the umask is, and however the home was made before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.checkpoint import sign_checkpoint
from projections.replay.resumable import ResumableRuns
from subledger.errors import UnsafeHome
from subledger.store.private import private_file, private_home
from tests.reading import mode_of


@pytest.fixture(params=[0o000, 0o002, 0o022, 0o777], ids=oct)
def any_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("any_umask")
def test_a_new_home_is_its_owners_alone(tmp_path: Path) -> None:
    assert mode_of(private_home(tmp_path / "home")) == 0o700


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_a_checkpoints_key_and_its_home_are_their_owners_alone(
    umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBLEDGER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SUBLEDGER_SIGNING_KEY", raising=False)
    before = os.umask(umask)
    try:
        sign_checkpoint("acme", 1, bytes(32))
    finally:
        os.umask(before)
    assert (mode_of(tmp_path / "home"), mode_of(tmp_path / "home" / "checkpoint.key")) == (0o700, 0o600)


@pytest.mark.parametrize("mode", [0o755, 0o775, 0o777, 0o701, 0o500])
@pytest.mark.parametrize("has", [None, "postgres", "verified"])
def test_a_home_that_others_can_reach_is_mended(mode: int, has: str | None, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    if has is not None:
        (home / has).mkdir()
    home.chmod(mode)
    assert mode_of(private_home(home)) == 0o700


def test_a_directory_of_other_files_is_not_changed_and_the_command_is_named(tmp_path: Path) -> None:
    home = tmp_path / "my documents"
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    (home / "letter.txt").touch()
    with pytest.raises(UnsafeHome) as caught:
        private_home(home)
    assert f"chmod 700 '{home}'" in caught.value.message
    assert mode_of(home) == 0o755
    home.chmod(0o700)
    assert private_home(home) == home


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_home_of_another_user_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    os.chown(home, 65534, 65534)
    with pytest.raises(UnsafeHome) as caught:
        private_home(home)
    assert caught.value.found == "user id 65534"


def test_a_file_in_the_place_of_a_home_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(UnsafeHome):
        private_home(tmp_path / "home")


def test_a_key_that_another_user_put_there_or_that_is_a_link_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBLEDGER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SUBLEDGER_SIGNING_KEY", raising=False)
    ours = sign_checkpoint("acme", 1, bytes(32))
    key = tmp_path / "home" / "checkpoint.key"
    key.chmod(0o644)
    assert sign_checkpoint("acme", 1, bytes(32)) == ours
    assert mode_of(key) == 0o600
    if os.geteuid() == 0:
        os.chown(key, 65534, 65534)
        with pytest.raises(UnsafeHome):
            sign_checkpoint("acme", 1, bytes(32))
    key.rename(tmp_path / "elsewhere")
    key.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeHome):
        private_file(key)


def test_what_a_verification_keeps_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        home = private_home(tmp_path / "home")
        ResumableRuns(home / "verified" / "acme")
    finally:
        os.umask(before)
    assert mode_of(home) == 0o700
