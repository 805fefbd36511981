"""Files that commands write: complete, or not at all.

Owns: the replacement of an existing file. Does not own: the content and the path (the commands).
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import IO, BinaryIO, Final

from api.terminal import out

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Replacement:
    """A file that replaces ``target`` when it is published; until then the target does not change.

    It is a new file beside the target, with a random name, so that neither another user's link nor another run can have
    the same name. It gets the mode of the replaced file. If the target is a link, the link is replaced, not followed. A
    device or a pipe, also behind a link, is written to directly, because replacing it by a file would remove it for all
    other processes. Raises OSError.
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
        """Replaces the target, once the file is on disk. Raises OSError; the caller then discards the file."""
        self.file.flush()
        if self._beside is not None:
            os.fsync(self.file.fileno())
        self.file.close()
        if self._beside is not None:
            self._beside.replace(self._target)

    def discard(self) -> None:
        """Removes the file if it is not published; the target does not change."""
        with suppress(OSError):
            self.file.close()
        if self._beside is not None:
            with suppress(OSError):
                self._beside.unlink()


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """Yields a file to write to. When it is complete and on disk it gets its name, and replaces an older file.

    A link is followed, so its target is replaced. Raises OSError.
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
        os.fchmod(descriptor, mode)  # the umask must not change it
    return os.fdopen(descriptor, "wb")


def write(pieces: Iterable[str], file: Path | None) -> None:
    """Prints text, or writes it to a file as ``written_whole`` does and prints the file's name. Raises OSError."""
    if file is None:
        sys.stdout.writelines(pieces)
        return
    with written_whole(file) as opened:
        opened.writelines(piece.encode() for piece in pieces)
    out.print(str(file))
