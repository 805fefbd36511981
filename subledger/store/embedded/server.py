"""The embedded PostgreSQL server below a home: started at first use, stopped when it is not used any more.

Owns: all of ``HOME/postgres``, and the protocol of starting, joining and stopping. A detached *supervisor* process
(``supervisor``) has the server as its child. Does not own: the schema (migrations), anything above ``HOME/postgres``.

    HOME/postgres/data             the data directory; appears only when it is complete
    HOME/postgres/password         of `subledger`, superuser and owner; 0600
    HOME/postgres/start.lock       held while starting or joining; its mtime is the last time of that
    HOME/postgres/supervisor.lock  held by the supervisor for its life, with its pid; held means running
    HOME/postgres/address          port of the server, valid only while supervisor.lock is held
    HOME/postgres/port             port of the last run, used again if it is free, so that clients find it
    HOME/postgres/*.log            of the server and of the supervisor

Promised:
- one server for each folder, even if several processes start it at once;
- no server without its supervisor (on Linux the kernel reports the supervisor's death);
- committed data are on disk (fsync stays on).

Not promised: Windows, upgrades between major versions, one home for two system users.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # ships no types; used for a handful of calls
import psycopg

from subledger.errors import EmbeddedServerFailed
from subledger.store.private import private_home
from subledger.store.timeouts import Timeouts

if sys.platform != "win32":
    import fcntl

OWNER = "subledger"  # the superuser, and the database it owns

START_TIMEOUT_S = 120.0  # crash recovery may take long; the supervisor itself waits without a limit
# First fast, which writes a checkpoint; then immediate, with crash recovery at the next start; then by force.
STOPPING = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
STOP_TIMEOUT_S = sum(patience_s for _, patience_s in STOPPING) + 5.0


# --- interface for callers ----------------------------------------------------------------------------------


def ensure_running(home: Path, *, idle_timeout_s: float = 600.0) -> str:
    """Starts or joins this home's server and returns the owner's URL. The server has just accepted a connection.

    The idle timeout of a running server does not change. Raises ``EmbeddedServerFailed`` with the end of the log if the
    server does not start within ``START_TIMEOUT_S``.
    """
    folder = folder_of(home)
    deadline = time.monotonic() + START_TIMEOUT_S
    try:
        private_home(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.geteuid():
            raise EmbeddedServerFailed(
                f"{folder} belongs to user id {folder.stat().st_uid}, and this is user id {os.geteuid()}; "
                "a home is used by one system user",
                home=str(home),
            )
        with locked(folder / "start.lock", timeout_s=START_TIMEOUT_S) as handle:
            # The supervisor takes this as use, so it will not end the server that this function returns.
            os.utime(handle)
            # This is under start.lock: if several processes begin at once, one starts a supervisor and the others join.
            # The loop is needed because a supervisor that is about to end is found running, and has ended a moment
            # later.
            while time.monotonic() < deadline:
                if not is_held(folder / "supervisor.lock"):
                    _spawn_supervisor(folder, idle_timeout_s, deadline)
                url = running_url(home)
                if url is not None and _accepts(url):
                    return url
                time.sleep(0.03)
    except OSError as error:
        raise EmbeddedServerFailed(f"the embedded PostgreSQL did not start: {error}", home=str(home)) from error
    raise failure(folder, f"the embedded PostgreSQL is not ready after {START_TIMEOUT_S:.0f} s")


def exists(home: Path) -> bool:
    """True if this home has a database, running or not."""
    return (folder_of(home) / "data").exists()


def stop(home: Path) -> bool:
    """Shuts this home's server down cleanly, and waits for its end. Returns True if one was running."""
    folder = folder_of(home)
    lock = folder / "supervisor.lock"
    holder = lock_holder(lock)
    was_running = holder is not None
    if holder is not None:
        with suppress(psutil.NoSuchProcess):
            holder.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        # Another caller may start a new server meanwhile. That one must not be stopped.
        while lock_holder(lock) == holder:
            if time.monotonic() > deadline:
                with suppress(psutil.NoSuchProcess):
                    holder.kill()
            time.sleep(0.02)
    # The server of a killed supervisor may still run. The supervisor's lock is held while its processes are ended, so
    # that no new supervisor starts the server.
    with suppress(FileNotFoundError, TimeoutError), locked(lock, timeout_s=0.5, create=False) as handle:
        os.truncate(handle, 0)  # the dead supervisor's pid, which another program may get later
        was_running = end_orphans(folder / "data") or was_running
    return was_running


def running_url(home: Path) -> str | None:
    """Returns the owner's URL if this home's server runs, else None. It starts nothing and does not connect."""
    folder = folder_of(home)
    if not is_held(folder / "supervisor.lock"):
        return None
    try:
        return url_at((folder / "password").read_text(), int((folder / "address").read_text()))
    except (FileNotFoundError, ValueError):
        return None  # the server is starting or stopping


# --- the starter's side -------------------------------------------------------------------------------------


def _spawn_supervisor(folder: Path, idle_timeout_s: float, deadline: float) -> None:
    """Starts a supervisor and waits for its one line. The caller has start.lock, and nobody has supervisor.lock.

    The supervisor has a session of its own and inherits no file. Otherwise a process that reads our output to its end
    would wait for the end of the server. Until it has written the line, its standard output is a socket to us.
    """
    # The leftovers of a killed supervisor are removed before the new lock makes them look valid again.
    (folder / "address").unlink(missing_ok=True)
    (folder / "supervisor.lock").write_bytes(b"")
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-P", "-m", "subledger.store.embedded.supervisor", "supervise"]
    # The child uses our import paths. -P keeps the current folder out of them.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with ours, open(folder / "supervisor.log", "a", opener=_private) as log:
        with theirs:
            process = subprocess.Popen(
                [*command, str(folder.parent), repr(idle_timeout_s)],
                stdin=subprocess.DEVNULL,
                stdout=theirs.fileno(),
                stderr=log,
                start_new_session=True,
                env=environment,
            )
        process.wait()  # it forks at once, so that it leaves no zombie process to us
        ours.settimeout(max(deadline - time.monotonic(), 0.1))
        try:
            line = ours.makefile().readline()
        except TimeoutError:
            return
    if not line:
        raise failure(folder, "the supervisor of the embedded PostgreSQL ended early", "supervisor.log")
    refusal = json.loads(line)["failure"]
    if refusal is not None:
        raise EmbeddedServerFailed(refusal, home=str(folder.parent))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _accepts(url: str) -> bool:
    try:
        connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


# --- locks, files and connections, as both sides use them ---------------------------------------------------


def folder_of(home: Path) -> Path:
    """Returns the folder of this home's server."""
    if sys.platform == "win32":
        raise EmbeddedServerFailed("the embedded PostgreSQL needs Linux or macOS; give the URL of a server instead")
    return Path(home).absolute() / "postgres"


@contextmanager
def locked(path: Path, *, timeout_s: float, create: bool = True) -> Iterator[int]:
    """Holds an exclusive flock on ``path``. Raises TimeoutError if another process holds it for longer than
    ``timeout_s``.
    """
    handle = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    deadline = time.monotonic() + timeout_s
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(errno.ETIMEDOUT, "another process holds the lock", str(path)) from None
                time.sleep(0.02)
        yield handle
    finally:
        os.close(handle)


def is_held(lock: Path) -> bool:
    """Returns True if a process holds this lock. It tries a shared lock, so that two such tests do not see each
    other.
    """
    try:
        handle = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(handle)


def lock_holder(lock: Path) -> Any | None:
    """Returns the supervisor's process, or None. ``psutil`` detects a reused pid by the start time."""
    while is_held(lock):
        with suppress(ValueError, psutil.NoSuchProcess):
            holder = psutil.Process(int(lock.read_text()))
            if is_held(lock):
                return holder
        time.sleep(0.01)  # the supervisor has the lock and is about to write its pid
    return None


def replace(path: Path, text: str) -> None:
    """Writes a private file atomically."""
    handle, name = tempfile.mkstemp(prefix=f"{path.name}-", dir=path.parent)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(name, path)


def url_at(password: str, port: int) -> str:
    """Returns the owner's URL."""
    return f"postgresql://{OWNER}:{password}@127.0.0.1:{port}/{OWNER}"


def connect(url: str, database: str = OWNER) -> psycopg.Connection[tuple[Any, ...]]:
    """Returns a connection that PGHOSTADDR, PGSSLMODE and PGOPTIONS of the environment cannot redirect."""
    return psycopg.connect(
        url,
        dbname=database,
        hostaddr="127.0.0.1",
        sslmode="disable",
        gssencmode="disable",
        options="",
        autocommit=True,
        **{**Timeouts().of_link, "application_name": "subledger supervisor"},
    )


def failure(folder: Path, message: str, log: str = "server.log") -> EmbeddedServerFailed:
    """Returns the error of a failed start, with the end of a log."""
    with suppress(OSError):
        if lines := (folder / log).read_text(errors="replace").splitlines()[-15:]:
            message += f"\n--- {folder / log}\n" + "\n".join(lines)
    return EmbeddedServerFailed(message, home=str(folder.parent))


# --- servers without a supervisor ---------------------------------------------------------------------------


def end_orphans(data: Path) -> bool:
    """Ends server processes that have lost their supervisor or postmaster. Returns True if there were any.

    The caller has supervisor.lock. Only a crash leaves ``postmaster.pid``. Its pid proves nothing: it may now be a
    zombie's or another program's, and PostgreSQL would refuse to start in both cases.
    """
    try:
        lines = (data / "postmaster.pid").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return False
    found = False
    for number, patience_s in STOPPING:
        remaining = server_processes(data)
        found = found or bool(remaining)
        targets = [process for process in remaining if str(process.pid) in lines[:1]]
        if not targets and number == signal.SIGINT:
            continue  # without a postmaster no shutdown is clean, and SIGINT has another meaning for its children
        if not targets or number == signal.SIGKILL:
            targets = remaining
        for process in targets:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        deadline = time.monotonic() + patience_s
        while remaining and time.monotonic() < deadline:
            time.sleep(0.02)
            remaining = server_processes(data)
        if not remaining:
            break
    # PostgreSQL still protects itself without this file: it finds attached shared memory by the directory's inode.
    (data / "postmaster.pid").unlink(missing_ok=True)
    return found


def server_processes(data: Path) -> list[Any]:
    """Returns the server processes of this data directory, which is the working directory of each of them."""
    found = []
    for process in psutil.process_iter():
        # OSError: its directory has been removed. AccessDenied: the process is another user's, so not ours.
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            if process.name() == "postgres" and os.path.samefile(process.cwd(), data):
                found.append(process)
    return found
