"""A folder that this machine has, as a share that is mounted: the export's file, put where an importer takes it.

It is in a folder that whoever runs the installation has allowed; below that, no link is followed.
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
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar, Final

from projections.delivery.connectors import connector
from projections.delivery.connectors.drop import Drop, DropSettings, ImportFolder
from subledger.errors import InvalidInput
from subledger.external.calls import NotAuthorised, NotSent, Unclear

_RENAME_NOREPLACE: Final = 1
FOLDERS: Final = "SUBLEDGER_DELIVERY_FOLDERS"
"""Folders, between colons, in which the folders of channels may be; none, if it is not set."""
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_UNFINISHED: Final = ".unfinished"
_NO_FOLDER: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
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
    """``directory``: an absolute path, in a folder that ``SUBLEDGER_DELIVERY_FOLDERS`` names."""

    def check(self) -> None:
        super().check()
        if not self.directory.startswith("/"):
            raise InvalidInput(
                "the directory must be an absolute path", field="directory", expected="/…", found=self.directory[:200]
            )
        allowed_path(self.directory)


class Folder(Drop):
    """See the module."""

    name: ClassVar[str] = "folder"
    settings_type: ClassVar[type[connector.ChannelSettings]] = Settings

    @property
    def url(self) -> str:
        return f"file://{self.settings.directory}"

    @contextmanager
    def opened(self) -> Iterator[ImportFolder]:
        try:
            descriptor = open_folder(*allowed_path(self.settings.directory))
        except OSError as error:
            kind = NotAuthorised if error.errno in _FORBIDDEN else NotSent
            raise kind(f"there is no folder {self.settings.directory}: is the share mounted? ({error})") from error
        try:
            yield _LocalFolder(descriptor)
        finally:
            os.close(descriptor)


def allowed_path(directory: str) -> tuple[Path, Path]:
    """The allowed folder that a directory is in, wherever links lead, and its path in it. Raises InvalidInput."""
    allowed = [Path(name).resolve() for name in os.environ.get(FOLDERS, "").split(os.pathsep) if name.startswith("/")]
    path = Path(directory).resolve()
    for folder in allowed:
        if path.is_relative_to(folder):
            return folder, path.relative_to(folder)
    raise InvalidInput(
        f"the directory is outside the folders that {FOLDERS} allows; choose a directory in one of them, or ask the "
        "operator to add its folder",
        field="directory",
        expected=", ".join(map(str, allowed)) or "none is allowed",
        found=directory[:200],
    )


def open_folder(folder: Path, path: Path) -> int:
    """A folder within an allowed one, opened step by step, so that no link that was put there since is followed.

    Raises OSError.
    """
    descriptor = os.open(folder, _FOLDER)
    for part in path.parts:
        above = descriptor
        try:
            descriptor = os.open(part, _FOLDER, dir_fd=above)
        finally:
            os.close(above)
    return descriptor


class _LocalFolder:
    """A folder of this machine that is open. Nothing in it is reached through a link."""

    def __init__(self, folder: int) -> None:
        self._folder = folder

    def check_folder(self, name: str) -> None:
        with _errors():
            try:
                os.close(os.open(name, _FOLDER, dir_fd=self._folder))
            except OSError as error:
                if error.errno not in _NO_FOLDER:
                    raise
                raise NotSent(f"there is no folder {name}: is the share mounted?") from error

    def read(self, name: str, *, at_most: int) -> bytes | None:
        with _errors(), self._within(name) as (folder, plain):
            if folder is None:
                return None
            try:
                # Not waited for: a pipe in its place would never end.
                descriptor = os.open(plain, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                raise NotSent(f"{name} is a link, and links are not followed; remove it") from error
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise NotSent(f"{name} is not a regular file; remove it")
                return file.read(at_most)

    def write(self, name: str, content: bytes) -> None:
        """Written under a name that nobody can foresee, then renamed: a link in its place is replaced, not followed."""
        own = f".{name.lstrip('.')}.{secrets.token_hex(8)}{_UNFINISHED}"
        with _errors():
            self._forget_unfinished(name)
            try:
                descriptor = os.open(
                    own, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=self._folder
                )
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(own, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            except OSError:
                with suppress(OSError):
                    os.unlink(own, dir_fd=self._folder)
                raise
            _sync(self._folder)

    def _forget_unfinished(self, name: str) -> None:
        """Takes away what a worker that died while it wrote has left."""
        begun = f".{name.lstrip('.')}."
        for other in os.listdir(self._folder):
            if other.startswith(begun) and other.endswith(_UNFINISHED):
                with suppress(FileNotFoundError):
                    os.unlink(other, dir_fd=self._folder)

    def remove(self, name: str) -> None:
        with _errors():
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._folder)
            _sync(self._folder)

    def move(self, name: str, to: str) -> None:
        try:
            rename_to_new(name, to, folder=self._folder)
        except OSError as error:
            if error.errno in _FORBIDDEN:
                raise NotAuthorised(f"{to} may not be put there: {error}") from error
            if error.errno in _NOT_RENAMED:
                raise NotSent(f"{to} was not put there: {error}") from error
            raise Unclear(f"{to} may have been put there: {error}") from error
        try:
            _sync(self._folder)
        except OSError as error:
            raise Unclear(f"{to} was put there, and may not stay: {error}") from error

    @contextmanager
    def _within(self, name: str) -> Iterator[tuple[int | None, str]]:
        """The folder of a file that may be in a folder of this one; None if there is no such folder."""
        above, _, plain = name.rpartition("/")
        if not above:
            yield self._folder, plain
            return
        try:
            folder = os.open(above, _FOLDER, dir_fd=self._folder)
        except FileNotFoundError:
            yield None, plain
            return
        try:
            yield folder, plain
        finally:
            os.close(folder)


def rename_to_new(source: str, target: str, *, folder: int) -> None:
    """A rename within a folder, in one step that fails with EEXIST where there is a file; where the file system cannot
    do that by itself, it is looked for before. Raises OSError.
    """
    rename = _renameat2()
    if rename is not None:
        if rename(folder, os.fsencode(source), folder, os.fsencode(target), _RENAME_NOREPLACE) == 0:
            return
        failed = ctypes.get_errno()
        if failed not in _CANNOT_SAY:
            raise OSError(failed, os.strerror(failed), source, None, target)
    try:
        os.stat(target, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(source, target, src_dir_fd=folder, dst_dir_fd=folder)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)


def _renameat2() -> Callable[..., int] | None:
    rename: Callable[..., int] | None = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return rename


def _sync(folder: int) -> None:
    """Names that were given in a folder stay, also when the machine stops. Some shares cannot be asked for it."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _CANNOT_SAY:
            raise


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = NotAuthorised if error.errno in _FORBIDDEN else NotSent
        raise kind(f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")) from error
