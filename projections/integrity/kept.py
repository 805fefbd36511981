"""What a verification keeps on disk: to go on after an interruption, or from where the last clean one ended.

Every part of a verification is a fold with a position; it is saved now and then, and at its end. ``running`` is the
verification that was begun last; when it ends clean it becomes ``clean``, from which the next may start. What is kept
is held against the ledger before it is used: the batch at its head must still be there with the same hash.

The files are pickles, read again by the same program: so their directory must belong to who runs it, and be writable by
nobody else. Keep it apart from the database: who can change both can make a verification say anything.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import shutil
import stat
from pathlib import Path
from typing import Any, Final

import msgspec

from subledger.errors import InvalidInput

FORM: Final = 2
"""Goes up whenever what is kept has another form: what is of another form is not used."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Whose parts are kept, in how many shares, and the head of the ledger that none of them goes beyond."""

    form: int
    ledger: str
    shares: int
    position: int
    batch_hash: str
    since: int


class Kept:
    """The directory of one ledger's verifications."""

    def __init__(self, directory: Path) -> None:
        self._lock: Any = None
        self._running = directory / "running"
        self._clean = directory / "clean"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
        if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise InvalidInput(
                f"{directory} is not ours alone: what a verification keeps must not be written by others",
                expected="a directory of this user, mode 700", found=oct(stat.S_IMODE(found.st_mode)),
            )  # fmt: skip

        self._lock = (directory / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise InvalidInput(
                f"another verification keeps its progress in {directory}", expected="one at a time, or another place"
            ) from None

    def close(self) -> None:
        """Lets others use the directory; so does the end of the process."""
        self._lock.close()

    def begin(self) -> None:
        """Forgets what was running."""
        shutil.rmtree(self._running, ignore_errors=True)
        self._running.mkdir(mode=0o700)

    def begin_from_clean(self) -> None:
        """Starts from what the last clean verification has left. Nothing of it is changed."""
        shutil.rmtree(self._running, ignore_errors=True)
        if self._clean.is_dir():
            shutil.copytree(self._clean, self._running)

    def manifest(self) -> Manifest | None:
        """What is running, None where nothing is, or nothing that can be used."""
        try:
            found = msgspec.json.decode((self._running / "manifest.json").read_bytes(), type=Manifest)
        except (OSError, msgspec.DecodeError):
            return None
        return found if found.form == FORM else None

    def remember(self, manifest: Manifest) -> None:
        """Writes the manifest: before any part goes beyond the head that it names."""
        self._running.mkdir(mode=0o700, exist_ok=True)
        _write(self._running / "manifest.json", msgspec.json.encode(manifest))

    def part(self, name: str) -> Part:
        return Part(self._running / name)

    def end(self, *, clean: bool) -> None:
        """What was running is the last clean verification now; or, where it was not clean, is forgotten."""
        if clean:
            shutil.rmtree(self._clean, ignore_errors=True)
            self._running.rename(self._clean)
        else:
            shutil.rmtree(self._running, ignore_errors=True)


class Part(msgspec.Struct, frozen=True):
    """One part's file."""

    path: Path

    def load(self) -> Any | None:
        """The part as it was saved last, None where it was not."""
        try:
            with self.path.open("rb") as file:
                return pickle.load(file)
        except FileNotFoundError:
            return None

    def save(self, part: Any) -> None:
        """Replaces what was saved, whole or not at all."""
        _write(self.path, pickle.dumps(part, pickle.HIGHEST_PROTOCOL))


def _write(path: Path, content: bytes) -> None:
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    beside.replace(path)
