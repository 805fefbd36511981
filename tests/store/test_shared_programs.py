"""The copy of PostgreSQL's programs that all homes of a machine share: processes that make it at the same time."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from subledger.store.embedded import programs
from tests.waiting import until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes the copy")


@pytest.fixture
def parts(tmp_path: Path) -> dict[Path, Path]:
    """A package of two files, and its place in the copy."""
    package = tmp_path / "package"
    package.mkdir()
    for name in ("postgres", "initdb"):
        (package / name).write_text(name, "utf-8")
    return {package: Path("pg")}


@as_root
@pytest.mark.parametrize("left", ["incomplete", "absent"])
def test_of_two_that_copy_at_once_none_removes_what_the_other_returned(
    left: str, parts: dict[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second process begins when the first has found that the copy is not complete. It waits, and makes no copy."""
    cache = tmp_path / "cache"
    if left == "incomplete":
        (cache / "pg").mkdir(parents=True)
    is_whole, flock = programs._is_whole, fcntl.flock
    begun, waiting, seconds = threading.Event(), threading.Event(), list[Future[int]]()

    def copied() -> int:
        """Makes the copy. Returns the resulting folder."""
        programs._copy(parts, cache)
        return cache.stat().st_ino

    def found(cache: Path, parts: Mapping[Path, Path]) -> bool:
        whole = is_whole(cache, parts)
        if not whole and not begun.is_set():
            begun.set()
            seconds.append(threads.submit(copied))
            until(lambda: waiting.is_set() or seconds[0].done(), "the second one waits, or is ready")
        return whole

    def locked(handle: int, how: int) -> None:
        if begun.is_set():
            waiting.set()
        flock(handle, how)

    monkeypatch.setattr(programs, "_is_whole", found)
    monkeypatch.setattr(fcntl, "flock", locked)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(copied).result()
        assert seconds[0].result() == first == cache.stat().st_ino
    assert is_whole(cache, parts)
    assert sorted(path.name for path in cache.rglob("*")) == ["initdb", "pg", "postgres"]
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "package", ".cache.lock"}


@as_root
def test_a_lock_that_somebody_else_made_is_not_used(parts: dict[Path, Path], tmp_path: Path) -> None:
    lock = tmp_path / ".cache.lock"
    lock.touch()
    os.chown(lock, 65534, 65534)
    with pytest.raises(programs.EmbeddedServerFailed, match="not made by root; remove it"):
        programs._copy(parts, tmp_path / "cache")
