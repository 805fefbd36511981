"""A folder that this machine has, as a share that is mounted: the export's file, put where an importer takes it.

A file that is there is never replaced: by one step of the file system where it can (``RENAME_NOREPLACE``: Linux, most
local ones and SMB), else by looking before. A share that does not answer is waited for: give its mount a time-out.

Sure: the steps, on local file systems; on a share what is in one folder is renamed in one step (NFS: RFC 8881, section
18.26). Not sure, so try it: that a share keeps what ``fsync`` asked for.

Sources: rename(2), fsync(2) of Linux man-pages.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final

from projections.journals.delivery.calls import NotAuthorised, NotSent, Unclear
from projections.journals.delivery.connectors.connector import ChannelSettings
from projections.journals.delivery.connectors.drop import Drop, DropSettings, Place
from subledger.errors import InvalidInput

_RENAME_NOREPLACE: Final = 1
_AT_FDCWD: Final = -100
_CANNOT_SAY: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM})
_NOT_RENAMED: Final = frozenset(
    {
        errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EROFS, errno.EXDEV, errno.ENOSPC, errno.EDQUOT, errno.EBUSY,
        errno.ENAMETOOLONG, errno.ELOOP,
    }
)  # fmt: skip
"""A rename that fails with these has done nothing. Not so ENOENT: somebody else may have renamed the file."""


class Settings(DropSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``directory``: an absolute path."""

    def check(self) -> None:
        super().check()
        if not self.directory.startswith("/"):
            raise InvalidInput(
                "the directory must be an absolute path", field="directory", expected="/…", found=self.directory[:200]
            )  # fmt: skip


class Folder(Drop):
    """See the module."""

    name: ClassVar[str] = "folder"
    settings_type: ClassVar[type[ChannelSettings]] = Settings

    @property
    def url(self) -> str:
        return f"file://{self.settings.directory}"

    @contextmanager
    def opened(self) -> Iterator[Place]:
        place = _Here(Path(self.settings.directory))
        place.check_folder("")
        yield place


class _Here:
    """A folder of this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check_folder(self, name: str) -> None:
        with _errors():
            if not (self._path / name).is_dir():
                raise NotSent(f"there is no folder {self._path / name}: is the share mounted?")

    def read(self, name: str, *, at_most: int) -> bytes | None:
        with _errors():
            try:
                with (self._path / name).open("rb") as file:
                    return file.read(at_most)
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        with _errors():
            with (self._path / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            _sync(self._path)

    def remove(self, name: str) -> None:
        with _errors():
            (self._path / name).unlink(missing_ok=True)
            _sync(self._path)

    def move(self, name: str, to: str) -> None:
        try:
            rename_to_new(self._path / name, self._path / to)
        except OSError as error:
            if error.errno in _FORBIDDEN:
                raise NotAuthorised(f"{to} may not be put there: {error}") from error
            if error.errno in _NOT_RENAMED:
                raise NotSent(f"{to} was not put there: {error}") from error
            raise Unclear(f"{to} may have been put there: {error}") from error
        try:
            _sync(self._path)
        except OSError as error:
            raise Unclear(f"{to} was put there, and may not stay: {error}") from error


def rename_to_new(source: Path, target: Path) -> None:
    """A rename in one step that fails with EEXIST where there is a file; where the file system cannot do that by
    itself, it is looked for before. Raises OSError.
    """
    rename = _renameat2()
    if rename is not None:
        if rename(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
            return
        failed = ctypes.get_errno()
        if failed not in _CANNOT_SAY:
            raise OSError(failed, os.strerror(failed), str(source), None, str(target))
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    source.rename(target)


def _renameat2() -> Callable[..., int] | None:
    rename: Callable[..., int] | None = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return rename


def _sync(path: Path) -> None:
    """Names that were given in a folder stay, also when the machine stops. Some shares cannot be asked for it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SAY:
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = NotAuthorised if error.errno in _FORBIDDEN else NotSent
        raise kind(f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")) from error
