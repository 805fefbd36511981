"""Log of the tree heads that this installation signed, outside the database: one append-only file per ledger.

A person who rewrites a ledger in the database must rewrite this file too. A line is a signed tree head or a restored
backup. After a restored backup, the log may be shorter than the log that was signed before, or differ from it. A last
line without its end was never handed out (the power failed during the write), and is cut off. If the home is read-only,
nothing is stored in it. Then only the database stores the tree heads, if the home is not needed. Owns: the files. Does
not own: signing (checkpoint), the comparison with the log (projections.integrity.seen).
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import quote

import msgspec

from api.settings import home, needs_home, private_home
from projections.integrity import Seen, Unreadable
from subledger.errors import IntegrityFault
from subledger.store.private import make_durable

_NAME: Final = "checkpoints"
_NOT_WRITABLE: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tree head or a restored backup (``reason``, ``by``), at a size of the log.

    A tree head has its ``root``, the ``note`` and the ``public_key`` that verifies it.
    """

    size: int
    at: datetime
    root: bytes = b""
    note: str = ""
    public_key: bytes = b""
    reason: str = ""
    by: str = ""


class CheckpointLog:
    """The lines of one ledger, under the file's lock. ``refused``: the error for which nothing can be added; None if
    lines can be added.
    """

    def __init__(self, path: Path, file: BinaryIO | None, refused: OSError | None = None) -> None:
        self.path = path
        self.refused = refused
        self._file = file
        self._lines: list[Line] = []
        self.unreadable: list[Unreadable] = []
        """Lines that were changed after they were written."""
        self._read()

    def _read(self) -> None:
        content = b"" if self._file is None else self._file.read()
        # A line is handed out only after its fsync. So a last line without its end was never handed out, and may be
        # removed. Any other line that cannot be read was changed later, and is reported.
        complete = content[: content.rfind(b"\n") + 1]
        if self._file is not None and complete != content and self.refused is None:
            self._file.truncate(len(complete))
            os.fsync(self._file.fileno())
        for number, line in enumerate(complete.split(b"\n")[:-1], start=1):
            try:
                self._lines.append(msgspec.json.decode(line, type=Line))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self.unreadable.append(Unreadable(location=str(self.path), line=number, reason=str(error)))

    def check(self) -> None:
        """Raises IntegrityFault for a line that cannot be read, because its tree head is unknown."""
        for one in self.unreadable:
            raise IntegrityFault(
                f"line {one.line} of {self.path} was changed after it was written, so no checkpoint is signed; "
                "compare the file with a backup of it",
                expected="a line of JSON",
                found=one.reason,
            )

    def standing(self) -> list[Line]:
        """The tree heads that the log must still have: those since the last restored backup."""
        found: list[Line] = []
        for line in self._lines:
            if line.reason:
                found.clear()
            else:
                found.append(line)
        return found

    def at_size(self, size: int) -> list[Line]:
        """Every tree head that was signed at this size, including those before a restored backup."""
        return [line for line in self._lines if line.size == size and not line.reason]

    def public_keys(self) -> set[bytes]:
        """Every public key that is noted beside a signed tree head."""
        return {line.public_key for line in self._lines if line.public_key}

    def add(self, line: Line) -> None:
        """Adds a line. Raises OSError if nothing can be added."""
        if self.refused is not None or self._file is None:
            raise self.refused or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        is_first = self._file.seek(0, os.SEEK_END) == 0
        self._file.write(msgspec.json.encode(line) + b"\n")
        # The line is on disk before the caller returns the note. After a power failure the file must have every note
        # that was handed out.
        self._file.flush()
        os.fsync(self._file.fileno())
        if is_first:  # a power failure could otherwise remove the file's name, and with it the signed tree heads
            for directory in (self.path.parent, self.path.parent.parent):
                make_durable(directory)
        self._lines.append(line)


@contextmanager
def opened(ledger: str) -> Iterator[CheckpointLog]:
    """Opens the file of a ledger, for one process at a time. Creates it if it does not exist.

    If the home cannot be written and is not needed, existing lines can be read, and none can be added.
    """
    refused = None
    try:
        directory = private_home() / _NAME
        directory.mkdir(mode=0o700, exist_ok=True)
        os.close(os.open(_path(ledger), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except OSError as error:
        if needs_home() or error.errno not in _NOT_WRITABLE:
            raise
        refused = error
    if refused is not None and not _is_there(_path(ledger)):
        yield CheckpointLog(_path(ledger), None, refused)
    else:
        with _locked(_path(ledger)) as log:
            yield log


def _path(ledger: str) -> Path:
    return home() / _NAME / f"{quote(ledger, safe='')}.jsonl"


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        if needs_home():
            raise
        return False


def public_keys_of(ledger: str) -> set[bytes]:
    """Public keys of the notes of a ledger that this installation signed. Does not create a file."""
    path = _path(ledger)
    if not _is_there(path):
        return set()
    with _locked(path) as log:
        return log.public_keys()


@contextmanager
def _locked(path: Path) -> Iterator[CheckpointLog]:
    flags, refused = os.O_NOFOLLOW | os.O_CLOEXEC, None
    try:
        descriptor = os.open(path, os.O_RDWR | flags)
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise
        descriptor, refused = os.open(path, os.O_RDONLY | flags), error
    with os.fdopen(descriptor, "rb" if refused else "r+b") as file:
        # Readers lock too: a reader that saw half of another process's line would cut it off.
        fcntl.flock(file, fcntl.LOCK_EX)
        yield CheckpointLog(path, file, refused)


def seen_of(ledger: str) -> list[Seen | Unreadable]:
    """Tree heads of a ledger that this installation signed and that its log must still have. Does not create a file."""
    path = _path(ledger)
    if not _is_there(path):
        return []
    private_home()
    with _locked(path) as log:
        seen = [Seen(location=str(log.path), size=line.size, root=line.root) for line in log.standing()]
        return [*seen, *log.unreadable]


def note_restored(ledger: str, *, size: int, reason: str, by: str) -> None:
    """Notes that a backup was restored: the log need not have the tree heads from before it."""
    with opened(ledger) as log:
        log.add(Line(size=size, at=datetime.now(UTC), reason=reason, by=by))
