"""Files that commands write: whole, or not at all.

Owns: what becomes of a file that stands there already. Does not own: what is written, where to (the commands).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO, BinaryIO, Final

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Replacement:
    """A file that takes the place of ``target`` as it is published; until then what stands there stays as it is.

    It is a new file beside the target, of a name that nobody can guess: neither a link that somebody put there nor
    another run has it. It has the mode of the file that it replaces. A link in the place of the target is replaced, not
    followed. A device or a pipe, also one that a link leads to, is written to as it stands: to put a file in its place
    would take it away from everybody. Raises OSError.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._beside: Path | None = None
        if target.exists() and not target.is_file():
            self.file: IO[bytes] = target.open("wb")
            return
        self._beside = target.with_name(f".subledger-{token_hex(8)}.part")
        self.file = _new_file(self._beside, target)

    def publish(self) -> None:
        """Puts the file in its place, once it is on disk. Raises OSError; the caller discards it then."""
        self.file.flush()
        if self._beside is not None:
            os.fsync(self.file.fileno())
        self.file.close()
        if self._beside is not None:
            self._beside.replace(self._target)

    def discard(self) -> None:
        """Removes the file, unless it is published; what stands in the place of the target stays."""
        with suppress(OSError):
            self.file.close()
        if self._beside is not None:
            with suppress(OSError):
                self._beside.unlink()


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to: under its name once it is complete and on disk, and then in the place of an older one.

    A link is followed, so that what it leads to is replaced. Raises OSError.
    """
    replacement = Replacement(Path(os.path.realpath(path)) if path.is_symlink() else path)
    try:
        yield replacement.file
        replacement.publish()
    except BaseException:
        replacement.discard()
        raise


def _new_file(path: Path, replaced: Path) -> BinaryIO:
    mode = None
    with suppress(FileNotFoundError):
        before = replaced.lstat()
        if stat.S_ISREG(before.st_mode):
            mode = stat.S_IMODE(before.st_mode) & 0o777
    descriptor = os.open(path, _NEW, 0o666 if mode is None else mode)
    if mode is not None:
        os.fchmod(descriptor, mode)  # whatever the umask is
    return os.fdopen(descriptor, "wb")
