"""Saved progress of a verification or a rebuild on disk, to continue after an interruption. A verification can also
start at the end of the last clean one.

Every part of the work is a fold with a position. It is saved at intervals and at its end. ``running`` is the run that
was begun last. A verification that ends clean becomes ``clean``, and the next one may start from it.

Saved progress is used only if the batch at its head is still in the log with the same hash, and if the same version of
the program and of the server made it. A file that cannot be read completely counts as not saved. Saved progress that
does not belong to the ledger's log is ``contradicted``: the log was rewritten, or a backup was restored. It stays
contradicted until ``forget_all``.

The files are pickles, which the same program reads. So their directory must belong to the user who runs the program,
and nobody else may write to it. Store it apart from the database: a person who can change both can make a verification
report anything.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pickle
import shutil
import stat
from collections.abc import Iterable, Iterator
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import sqlalchemy as sa

from subledger.errors import InvalidInput
from subledger.store.database import driver

FORM: Final = 5
"""Number of the file format. It increases with each change of the saved classes; other formats are not used."""

SAVED_EVERY: Final = 250_000
"""Events after which a share saves its progress."""

BATCH_HASH: Final = "SELECT hash FROM batches WHERE ledger = %s AND last_position = %s"

_MANIFEST: Final = "manifest"
_DIGEST: Final = hashlib.sha256().digest_size
_Saved = TypeVar("_Saved")


class Start(StrEnum):
    """The start of a resumable run."""

    ANEW = "anew"
    RESUMED = "resumed"
    SINCE_CLEAN = "since the last clean one"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a saved run: ledger, program, number of shares, and the ledger's head at its start."""

    form: int
    made_by: str
    ledger: str
    shares: int
    position: int
    batch_hash: str
    since: int


class ResumableRuns:
    """The directory of one ledger's verifications, or of its rebuilds. Only one process at a time uses it."""

    def __init__(self, directory: Path) -> None:
        self._lock: Any = None
        self._running = directory / "running"
        self._clean = directory / "clean"
        self._other = directory / "other"
        self.contradicted: tuple[Manifest, ...] = ()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = directory.stat()
        if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise InvalidInput(
                f"other users can write to {directory}, so the saved progress in it cannot be trusted",
                expected="a directory of this user, mode 700",
                found=oct(stat.S_IMODE(found.st_mode)),
            )

        self._lock = (directory / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise InvalidInput(
                f"another process is using {directory}", expected="one run at a time, or another directory"
            ) from None

    def close(self) -> None:
        """Releases the directory for other processes; the end of the process does the same."""
        self._lock.close()

    def begin(self, connection: sa.Connection, ledger: str, head: Any, *, shares: int, start: Start) -> Manifest:
        """Continues the saved run that ``start`` selects if it belongs to this log; otherwise deletes it.

        ``head`` is the ledger's row. Returns the manifest of the current run, with the number of shares of the
        saved run if one is continued.
        """
        made_by = f"{version('subledger')} on PostgreSQL {driver(connection).info.server_version // 10_000}"
        source = self._clean if start is Start.SINCE_CLEAN else self._running
        self.contradicted = tuple(self._contradicted(connection, ledger))
        found = _manifest(source) if start is not Start.ANEW else None
        if found is not None and (found.made_by != made_by or not _is_of(connection, ledger, found)):
            found = None
        if found is None or start is Start.SINCE_CLEAN:
            self.forget()
        if found is not None and start is Start.SINCE_CLEAN:
            # The progress of the last clean run is not changed until the next run is clean.
            shutil.copytree(self._clean, self._running, ignore=shutil.ignore_patterns(_MANIFEST))
        self._running.mkdir(mode=0o700, exist_ok=True)
        now = Manifest(
            form=FORM,
            made_by=made_by,
            ledger=ledger,
            shares=shares if found is None else found.shares,
            position=head.position,
            batch_hash=bytes(head.batch_hash).hex(),
            since=0 if found is None else found.position if start is Start.SINCE_CLEAN else found.since,
        )
        # The manifest is written before any part is saved, so that no part is beyond the head in the manifest.
        _write(self._running / _MANIFEST, msgspec.json.encode(now))
        return now

    def _contradicted(self, connection: sa.Connection, ledger: str) -> Iterator[Manifest]:
        """Yields stored manifests of this ledger that differ from its log: the log was rewritten, or a backup restored.

        The manifest of an unfinished run would be deleted in the next step. So it is stored apart, and reported until a
        person has explained it.
        """
        for source in (self._clean, self._other, self._running):
            found = _manifest(source)
            if found is not None and found.ledger == ledger and not _is_of(connection, ledger, found):
                yield found
                if source is self._running:
                    self._other.mkdir(mode=0o700, exist_ok=True)
                    _write(self._other / _MANIFEST, msgspec.json.encode(found))

    def forget_all(self) -> None:
        """Deletes all saved runs, after a backup was restored: they no longer apply."""
        for directory in (self._running, self._clean, self._other):
            shutil.rmtree(directory, ignore_errors=True)

    def part(self, name: str) -> Part:
        return Part(self._running / name)

    def forget(self) -> None:
        """Deletes the current run."""
        shutil.rmtree(self._running, ignore_errors=True)

    def end_clean(self) -> None:
        """Makes the current run the last clean verification."""
        shutil.rmtree(self._clean, ignore_errors=True)
        self._running.rename(self._clean)


class Part(msgspec.Struct, frozen=True):
    """The file of one part."""

    path: Path

    def load(self, kind: type[_Saved]) -> _Saved | None:
        """Returns the part as last saved; None if it was not saved or cannot be read completely."""
        content = _read(self.path)
        try:
            found = pickle.loads(content) if content is not None else None
        except Exception:  # a class that has changed since can raise anything
            return None
        return found if isinstance(found, kind) else None

    def save(self, part: Any) -> None:
        """Replaces the saved part, completely or not at all."""
        _write(self.path, pickle.dumps(part, pickle.HIGHEST_PROTOCOL))

    def give_up(self) -> None:
        """Deletes the saved parts of the run, because a fault found by this part may already be folded into another
        part.
        """
        (self.path.parent / _MANIFEST).unlink(missing_ok=True)


def load(part: Part | None, kind: type[_Saved]) -> _Saved | None:
    """Returns the saved part, None without one or without a file."""
    return part.load(kind) if part is not None else None


def _manifest(directory: Path) -> Manifest | None:
    """Returns the manifest in a directory, None without a usable one."""
    content = _read(directory / _MANIFEST)
    try:
        found = msgspec.json.decode(content, type=Manifest) if content is not None else None
    except msgspec.DecodeError:
        return None
    return found if found is not None and found.form == FORM else None


def manifests(directory: Path) -> tuple[Manifest, ...]:
    """Returns the manifests in the directory of a ledger, without creating or changing anything."""
    found = (_manifest(directory / name) for name in ("clean", "other", "running"))
    return tuple(one for one in found if one is not None)


def contradicted(connection: sa.Connection, ledger: str, found: Iterable[Manifest]) -> Iterator[Manifest]:
    """Yields the runs of this ledger that read another log than the current one."""
    return (one for one in found if one.ledger == ledger and not _is_of(connection, ledger, one))


def _is_of(connection: sa.Connection, ledger: str, found: Manifest) -> bool:
    """True if the ledger's log still begins with the log of a saved run; false after a backup was restored."""
    row = driver(connection).execute(BATCH_HASH, (ledger, found.position)).fetchone()
    return found.ledger == ledger and row is not None and bytes(row[0]).hex() == found.batch_hash


def _read(path: Path) -> bytes | None:
    """Returns the content of a file; None if it does not exist or is not complete."""
    try:
        found = path.read_bytes()
    except OSError:
        return None
    content = found[_DIGEST:]
    return content if hashlib.sha256(content).digest() == found[:_DIGEST] else None


def _write(path: Path, content: bytes) -> None:
    beside = path.with_suffix(".new")
    with beside.open("wb") as file:
        file.write(hashlib.sha256(content).digest())
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # after a crash, parts must not exist without the manifest written before them
    finally:
        os.close(directory)
