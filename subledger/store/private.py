"""Permissions of the home directory with the database, its owner's password and the key that signs checkpoints.

Owns: the permissions, independent of the umask. Does not own: the files in it.
"""

from __future__ import annotations

import os
import shlex
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from subledger.errors import UnsafeHome

_OF_OTHERS: Final = 0o077
_OURS: Final = ("postgres", "checkpoint.key", "checkpoints", "verified", "rebuilt")


def private_home(home: Path) -> Path:
    """Returns the directory, with permissions only for its owner (0700). Creates it if it does not exist.

    Permissions of a home or an empty directory that are too wide are corrected. Raises UnsafeHome for a directory with
    other files, and for another user's directory, because its owner could replace the files in it.
    """
    home.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        home.mkdir(mode=0o700)  # a umask can only remove permissions
    found, us = home.stat(), os.geteuid()
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeHome(
            f"{home} is not a directory; name another home in SUBLEDGER_HOME", expected="a directory", found=str(home)
        )
    if found.st_uid != us:
        raise UnsafeHome(
            f"{home} belongs to user id {found.st_uid}, and this is user id {us}; a home is used by one system user: "
            "name another one in SUBLEDGER_HOME",
            expected=f"user id {us}",
            found=f"user id {found.st_uid}",
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & _OF_OTHERS and not _is_ours(home):
        raise UnsafeHome(
            f"other users of this machine can reach {home}, which has other files than a home's; run `chmod 700 "
            f"{shlex.quote(str(home))}`, or name another home in SUBLEDGER_HOME",
            expected="mode 0700",
            found=f"mode {mode:04o}",
        )
    if mode != 0o700:
        home.chmod(0o700)
    return home


def private_file(path: Path) -> Path:
    """Returns a file of the home that only its owner may read. Wider permissions are corrected.

    Raises UnsafeHome for a link, and for another user's file.
    """
    found, us = path.lstat(), os.geteuid()
    if not stat.S_ISREG(found.st_mode) or found.st_uid != us:
        raise UnsafeHome(
            f"{path} is not a file that user id {us} made, so somebody else may have put it there; find out who "
            "did, and remove it or name another home in SUBLEDGER_HOME",
            expected=f"a file of user id {us}",
            found=f"a {'file' if stat.S_ISREG(found.st_mode) else 'link'} of user id {found.st_uid}",
        )
    if stat.S_IMODE(found.st_mode) & _OF_OTHERS:
        path.chmod(0o600)
    return path


def make_durable(directory: Path) -> None:
    """Syncs a directory, so that its new files exist after a power failure."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_ours(home: Path) -> bool:
    names = {entry.name for entry in home.iterdir()}
    return not names or not names.isdisjoint(_OURS)
