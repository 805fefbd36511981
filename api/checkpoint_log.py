"""Log of the tree heads that this installation signed, outside the database: one append-only file per ledger.

Whoever rewrites a ledger in the database has to rewrite this file too. A line is a tree head that was signed, or a
restored backup: from there on the log may be shorter than, or other than, what was signed before.
Owns: the files. Does not own: signing (checkpoint), the comparison with the log (projections.integrity.seen).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BufferedRandom
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from api.settings import private_home
from projections.integrity import Seen
from subledger.errors import IntegrityFault

_NAME: Final = "checkpoints"


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tree head (``root``, ``note``) or a restored backup (``reason``, ``by``), at a size of the log."""

    size: int
    at: datetime
    root: bytes = b""
    note: str = ""
    reason: str = ""
    by: str = ""


class CheckpointLog:
    """The lines of one ledger, under the file's lock."""

    def __init__(self, path: Path, file: BufferedRandom) -> None:
        self.path = path
        self._file = file

    def lines(self) -> Iterator[Line]:
        """In the order in which they were added. Raises IntegrityFault for one that cannot be read."""
        self._file.seek(0)
        for number, line in enumerate(self._file, start=1):
            try:
                yield msgspec.json.decode(line, type=Line)
            except msgspec.DecodeError as error:
                raise IntegrityFault(
                    f"line {number} of {self.path} is not what was written there, so nothing is signed; "
                    "compare the file with a backup of it",
                    expected="a line of JSON", found=str(error),
                ) from None  # fmt: skip

    def standing(self) -> list[Line]:
        """The tree heads that the log must still have: those since the last backup that was restored."""
        found: list[Line] = []
        for line in self.lines():
            if line.reason:
                found.clear()
            else:
                found.append(line)
        return found

    def at_size(self, size: int) -> list[Line]:
        """Every tree head that was signed over so many events, also before a backup was restored."""
        return [line for line in self.lines() if line.size == size and not line.reason]

    def add(self, line: Line) -> None:
        self._file.seek(0, os.SEEK_END)
        self._file.write(msgspec.json.encode(line) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


@contextmanager
def opened(ledger: str) -> Iterator[CheckpointLog]:
    """The file of a ledger, made if it is not there; for one at a time."""
    directory = private_home() / _NAME
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / f"{quote(ledger, safe='')}.jsonl"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield CheckpointLog(path, file)


def seen_of(ledger: str) -> list[Seen]:
    """Tree heads of a ledger that this installation signed, and that its log must still contain."""
    with opened(ledger) as log:
        return [Seen(where=str(log.path), size=line.size, root=line.root) for line in log.standing()]


def note_restored(ledger: str, *, size: int, reason: str, by: str) -> None:
    """A backup was restored: what was signed before it need not be found again."""
    with opened(ledger) as log:
        log.add(Line(size=size, at=datetime.now(UTC), reason=reason, by=by))
