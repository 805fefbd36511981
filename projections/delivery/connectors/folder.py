"""A folder of this machine, for example a mounted share, into which the export's file is put for an importer.

The folder is inside one that the operator of the installation has allowed. Below that one, no link is followed. An
existing file is never replaced. If the file system can do so, one step ensures this (``RENAME_NOREPLACE``: Linux, most
local file systems, SMB); else a look before the rename does. A call to a share that does not answer waits, so give its
mount a time-out.

Documented or tested: the steps, on local file systems. A rename within one folder of a share is one step (NFS: RFC
8881, section 18.26). To be tried: if a share stores durably what ``fsync`` requests.

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
"""The folders, between colons, that may contain the folders of channels. None is allowed if it is not set."""
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
"""A rename that fails with one of these errors has done nothing. ENOENT is not among them: somebody else may have
renamed the file.
"""


class Settings(DropSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``directory``: an absolute path, inside a folder that ``SUBLEDGER_DELIVERY_FOLDERS`` names."""

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
    """Returns the allowed folder of a directory, after all links, and the directory's path in it.

    Raises InvalidInput.
    """
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
    """Opens a folder within an allowed one, step by step, so that a link that was put there in the meantime is not
    followed.

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
    """An open folder of this machine. Nothing in it is reached through a link."""

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
                # The open must not block: a pipe in the place of the file would never end.
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
        """Writes under a name that nobody can guess, then renames it. A link in the file's place is replaced, not
        followed.
        """
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
        """Removes the unfinished files of workers that died while they wrote."""
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
        """Opens the folder of a file, which may be a subfolder of this one. Yields None if there is no such folder."""
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
    """Renames within a folder, to a new name.

    It is one step, which fails with EEXIST if a file has the name. If the file system has no such step, the name is
    looked up first. Raises OSError.
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
    """Makes the names in a folder durable, even if the machine stops. Some shares do not support it."""
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
