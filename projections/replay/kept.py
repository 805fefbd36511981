"""What a verification or a rebuild keeps on disk, to go on after an interruption; a verification also to start from
where the last clean one ended.

Every part of the work is a fold with a position; it is saved now and then, and at its end. ``running`` is what was
begun last; a verification that ends clean becomes ``clean``, from which the next may start. What is kept is held
against the ledger before it is used: the batch at its head must still be there with the same hash, and so must be the
program and the server that made it. What cannot be read whole is as if it had not been saved. What saw another log than
the ledger's is ``contradicted``, and stays so until ``forget_all``: the log was rewritten, or a backup was restored.

The files are pickles, read again by the same program: so their directory must belong to who runs it, and be writable by
nobody else. Keep it apart from the database: who can change both can make a verification say anything.
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

FORM: Final = 3
"""Goes up whenever what is kept has another form: what is of another form is not used."""

SAVED_EVERY: Final = 250_000
"""Events after which a share saves how far it is."""

BATCH_HASH: Final = "SELECT hash FROM batches WHERE ledger = %s AND last_position = %s"

_MANIFEST: Final = "manifest"
_DIGEST: Final = hashlib.sha256().digest_size
_Saved = TypeVar("_Saved")


class Start(StrEnum):
    """Where work starts that is kept."""

    ANEW = "anew"
    RESUMED = "resumed"
    SINCE_CLEAN = "since the last clean one"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Whose parts are kept, by which program, in how many shares, and the head of the ledger that none goes beyond."""

    form: int
    made_by: str
    ledger: str
    shares: int
    position: int
    batch_hash: str
    since: int


class Kept:
    """The directory of one ledger's verifications, or of its rebuilds. Used by one at a time."""

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
                f"{directory} is not ours alone: what is kept there must not be written by others",
                expected="a directory of this user, mode 700", found=oct(stat.S_IMODE(found.st_mode)),
            )  # fmt: skip

        self._lock = (directory / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise InvalidInput(
                f"another process keeps its progress in {directory}", expected="one at a time, or another place"
            ) from None

    def close(self) -> None:
        """Lets others use the directory; so does the end of the process."""
        self._lock.close()

    def begin(self, connection: sa.Connection, ledger: str, head: Any, *, shares: int, how: Start) -> Manifest:
        """Takes up what is kept, as ``how`` says, where it is of this very log; else forgets it.

        ``head`` is the ledger's row. Returns what is running from here on: in as many shares as before, where something
        was taken up.
        """
        made_by = f"{version('subledger')} on PostgreSQL {driver(connection).info.server_version // 10_000}"
        source = self._clean if how is Start.SINCE_CLEAN else self._running
        self.contradicted = tuple(self._contradicted(connection, ledger))
        found = _manifest(source) if how is not Start.ANEW else None
        if found is not None and (found.made_by != made_by or not _is_of(connection, ledger, found)):
            found = None
        if found is None or how is Start.SINCE_CLEAN:
            self.forget()
        if found is not None and how is Start.SINCE_CLEAN:
            # What the last clean one has left stays as it is until the next is clean.
            shutil.copytree(self._clean, self._running, ignore=shutil.ignore_patterns(_MANIFEST))
        self._running.mkdir(mode=0o700, exist_ok=True)
        now = Manifest(
            form=FORM, made_by=made_by, ledger=ledger, shares=shares if found is None else found.shares,
            position=head.position, batch_hash=bytes(head.batch_hash).hex(),
            since=0 if found is None else found.position if how is Start.SINCE_CLEAN else found.since,
        )  # fmt: skip
        # Before any part goes beyond the head that it names.
        _write(self._running / _MANIFEST, msgspec.json.encode(now))
        return now

    def _contradicted(self, connection: sa.Connection, ledger: str) -> Iterator[Manifest]:
        """Yields stored manifests of this ledger that differ from its log: the log was rewritten, or a backup restored.

        The manifest of an unfinished run would be deleted next; it is stored apart, and reported until somebody
        explains it.
        """
        for source in (self._clean, self._other, self._running):
            found = _manifest(source)
            if found is not None and found.ledger == ledger and not _is_of(connection, ledger, found):
                yield found
                if source is self._running:
                    self._other.mkdir(mode=0o700, exist_ok=True)
                    _write(self._other / _MANIFEST, msgspec.json.encode(found))

    def forget_all(self) -> None:
        """A backup was restored: nothing that was seen before holds."""
        for kept in (self._running, self._clean, self._other):
            shutil.rmtree(kept, ignore_errors=True)

    def part(self, name: str) -> Part:
        return Part(self._running / name)

    def forget(self) -> None:
        """Throws away what is running."""
        shutil.rmtree(self._running, ignore_errors=True)

    def end_clean(self) -> None:
        """What was running is the last clean verification now."""
        shutil.rmtree(self._clean, ignore_errors=True)
        self._running.rename(self._clean)


class Part(msgspec.Struct, frozen=True):
    """One part's file."""

    path: Path

    def load(self, kind: type[_Saved]) -> _Saved | None:
        """The part as it was saved last; None where it was not, or cannot be read whole."""
        content = _read(self.path)
        try:
            found = pickle.loads(content) if content is not None else None
        except Exception:  # whatever a class that has changed since may lead to
            return None
        return found if isinstance(found, kind) else None

    def save(self, part: Any) -> None:
        """Replaces what was saved, whole or not at all."""
        _write(self.path, pickle.dumps(part, pickle.HIGHEST_PROTOCOL))

    def give_up(self) -> None:
        """Nothing that runs beside this part is gone on from: what one has met, another may have folded."""
        (self.path.parent / _MANIFEST).unlink(missing_ok=True)


def load(part: Part | None, kind: type[_Saved]) -> _Saved | None:
    """The same where perhaps nothing is kept at all."""
    return part.load(kind) if part is not None else None


def _manifest(directory: Path) -> Manifest | None:
    """What is kept there, None where nothing is, or nothing that can be used."""
    content = _read(directory / _MANIFEST)
    try:
        found = msgspec.json.decode(content, type=Manifest) if content is not None else None
    except msgspec.DecodeError:
        return None
    return found if found is not None and found.form == FORM else None


def manifests(directory: Path) -> tuple[Manifest, ...]:
    """Manifests in the directory of a ledger, as ``Kept`` finds them; nothing is made or changed."""
    found = (_manifest(directory / name) for name in ("clean", "other", "running"))
    return tuple(one for one in found if one is not None)


def contradicted(connection: sa.Connection, ledger: str, found: Iterable[Manifest]) -> Iterator[Manifest]:
    """Runs of this ledger that saw another log than there is."""
    return (one for one in found if one.ledger == ledger and not _is_of(connection, ledger, one))


def _is_of(connection: sa.Connection, ledger: str, found: Manifest) -> bool:
    """Whether the ledger's log still begins with what is kept: a backup may have been restored."""
    row = driver(connection).execute(BATCH_HASH, (ledger, found.position)).fetchone()
    return found.ledger == ledger and row is not None and bytes(row[0]).hex() == found.batch_hash


def _read(path: Path) -> bytes | None:
    """What was written; None where it was not, or not whole."""
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
        os.fsync(directory)  # parts must not outlive a manifest that was written before them
    finally:
        os.close(directory)
