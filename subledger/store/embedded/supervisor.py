"""The process that has the embedded server as its child: it prepares, starts, watches and ends it.

``server`` runs it as ``python -m subledger.store.embedded.supervisor supervise HOME IDLE_S``. Its standard output is a
socket to the starter, to which it writes one line: ``{"failure": null}`` once the server accepts connections, else the
reason of the failure.

Owns: making the data directory, the server's settings. Does not own: the files' names (``server``).

It has only one thread, because the kernel signals a child at the death of the *thread* that started it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg

from subledger.errors import EmbeddedServerFailed
from subledger.store.embedded.programs import (
    Account,
    Binaries,
    account_for,
    child_in,
    choose_binaries,
    give,
    reachable_by,
)
from subledger.store.embedded.server import (
    OWNER,
    STOPPING,
    connect,
    end_orphans,
    failure,
    folder_of,
    locked,
    replace,
    url_at,
)

LONGEST_POLL_S = 5.0
PORT_ATTEMPTS = 5
LARGEST_LOG_BYTES = 10_000_000

_MB = 1 << 20


def shared_buffers() -> str:
    """An eighth of the machine's memory, from 256 MB to 2 GB.

    Ids of events have no order, so recording reads and writes pages in all parts of their index (70 bytes for each
    event). If the index does not fit into memory, recording slows down.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return f"{min(max(memory // 8 // _MB, 256), 2048)}MB"


SETTINGS: tuple[tuple[str, str, str], ...] = (
    ("listen_addresses", "127.0.0.1", "this machine only"),
    ("unix_socket_directories", "", "a socket's path is limited to some 100 bytes, a home's is not"),
    ("fsync", "on", "books: what was acknowledged is on disk, whatever postgresql.conf says"),
    ("full_page_writes", "on", "likewise, through a torn page"),
    ("synchronous_commit", "on", "likewise, at the moment of the answer"),
    ("shared_buffers", shared_buffers(), "what is written to again and again; pages never used cost nothing"),
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


class _Stopped(Exception):
    """A signal to end the supervisor arrived before the server had started."""


class _Wakeups:
    """Wakes the supervisor at a signal: a request to end, or the end of a child."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)  # the signal's number arrives at the reader

    def stop_requested(self, *, within_s: float) -> bool:
        """Waits for a signal, at most ``within_s``. Returns True if the signal requests the end."""
        self._reader.settimeout(within_s)
        try:
            numbers = self._reader.recv(256)
        except TimeoutError:
            return False
        return signal.SIGTERM in numbers or signal.SIGINT in numbers


# --- the life of a supervisor -------------------------------------------------------------------------------


def supervise(home: Path, idle_timeout_s: float) -> None:
    """Takes the lock, prepares, starts, watches and stops the server, in a fork; returns at once."""
    if os.fork():
        os._exit(0)
    os.chdir("/")
    os.umask(0o077)
    folder = folder_of(home)
    wakeups = _Wakeups()
    try:
        # A few seconds are needed: a process that tests the lock holds it itself for a moment.
        with locked(folder / "supervisor.lock", timeout_s=5.0) as lock, ExitStack() as undo:
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
        _report(failure(folder, f"the embedded PostgreSQL did not start: {error}").message)


def _report(reason: str | None) -> None:
    """Writes the one line to the starter, which may have ended, and closes the socket."""
    with suppress(OSError):
        os.write(1, json.dumps({"failure": reason}).encode() + b"\n")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)


def _log(message: str) -> None:
    """Writes a line to supervisor.log, which is standard error here."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(now, os.getpid(), message, file=sys.stderr, flush=True)


# --- starting -----------------------------------------------------------------------------------------------


def _bring_up(folder: Path, wakeups: _Wakeups, undo: ExitStack) -> tuple[subprocess.Popen[bytes], str]:
    """Starts a server with its database and its address, until it accepts connections. ``undo`` gets the steps that end
    it.
    """
    data, log = folder / "data", folder / "server.log"
    if log.exists() and log.stat().st_size > LARGEST_LOG_BYTES:
        os.replace(log, folder / "server.log.1")
    password = _password(folder)
    account = account_for(data)
    binaries = reachable_by(account, choose_binaries(_major_of(data)))
    if not data.exists():
        _create_data(folder, binaries, account, password)
    elif account is not None and data.stat().st_uid == 0:
        give(data, account)  # for example a backup that root has restored
    # Done before the start, because PostgreSQL refuses to start beside backends of a killed postmaster, or if the pid
    # in its postmaster.pid now belongs to another program.
    end_orphans(data)
    undo.callback(end_orphans, data)  # backends outlive a killed postmaster for a moment
    server, port = _start_server(folder, binaries, account, wakeups, undo)
    url = url_at(password, port)
    with connect(url, "postgres") as connection:
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [OWNER]).fetchone() is None:
            connection.execute(f"CREATE DATABASE {OWNER}")
    # Done last, because a client that finds an address may connect at once, and needs the database.
    replace(folder / "address", str(port))
    # The last callback runs first, so the address is removed before the server stops.
    undo.callback((folder / "address").unlink, missing_ok=True)
    return server, url


def _start_server(
    folder: Path, binaries: Binaries, account: Account | None, wakeups: _Wakeups, undo: ExitStack
) -> tuple[subprocess.Popen[bytes], int]:
    data = folder / "data"
    for _ in range(PORT_ATTEMPTS):
        port = _free_port(folder / "port")
        with child_in(data, account) as (path, arguments), open(folder / "server.log", "ab") as log:
            command = [str(binaries.folder / "postgres"), "-D", path, "-p", str(port)]
            for name, value, _ in SETTINGS:
                command += ["-c", f"{name}={value}"]
            server = subprocess.Popen(command, stdout=log, stderr=log, **arguments)
        undo.callback(_stop_server, server)
        while server.poll() is None:
            if _is_ready(data, server.pid):
                return server, port
            if wakeups.stop_requested(within_s=0.02):
                raise _Stopped
        if _can_listen(port):
            break  # the port was not the reason of the failure
    raise failure(folder, f"the embedded PostgreSQL did not start: {binaries.folder}/postgres ended early")


def _is_ready(data: Path, pid: int) -> bool:
    with suppress(OSError):
        lines = (data / "postmaster.pid").read_text(errors="replace").splitlines()
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"
    return False


def _free_port(remembered: Path) -> int:
    """Returns the port of the last run if it is free, so that clients find the server again; else any free one."""
    port = 0
    with suppress(OSError, ValueError):
        port = int(remembered.read_text())
    if not port or not _can_listen(port):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        replace(remembered, str(port))
    return port


def _can_listen(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as PostgreSQL does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


# --- watching and ending ------------------------------------------------------------------------------------


def _watch(folder: Path, server: subprocess.Popen[bytes], url: str, idle_timeout_s: float, wakeups: _Wakeups) -> str:
    """Waits until the server has ended or should end, and returns the reason."""
    # Sessions are counted too, because a client may connect and disconnect between two checks.
    poll_s = max(min(LONGEST_POLL_S, idle_timeout_s / 4), 0.05)
    trace, used_at = None, time.monotonic()
    with ExitStack() as stack:
        connection = stack.enter_context(connect(url, "postgres"))

        def used() -> bool:
            """Returns True if a client is connected, was connected since the last call, or has requested the URL since
            then.
            """
            nonlocal trace, connection
            try:
                clients = connection.execute(COUNT_CLIENTS).fetchone()
                sessions = connection.execute(COUNT_SESSIONS_EVER).fetchone()
            except psycopg.OperationalError:  # an administrator ended the connection: check again later
                with suppress(psycopg.OperationalError):
                    connection = stack.enter_context(connect(url, "postgres"))
                return True
            before, trace = trace, (sessions, (folder / "start.lock").stat().st_mtime_ns)
            return clients != (0,) or trace != before

        while True:
            is_requested = wakeups.stop_requested(within_s=poll_s)
            if server.poll() is not None:
                return f"server {server.pid} ended by itself with {server.returncode}"
            if is_requested:
                return "asked to stop"
            if used():
                used_at = time.monotonic()
            elif time.monotonic() - used_at >= idle_timeout_s:
                # Under start.lock no caller gets an address that is about to disappear. This last check sees every
                # caller that had the lock before, and later callers find no address.
                with suppress(TimeoutError), locked(folder / "start.lock", timeout_s=0):
                    if not used():
                        (folder / "address").unlink(missing_ok=True)
                        return f"unused for {idle_timeout_s} s"
                    used_at = time.monotonic()


def _stop_server(server: subprocess.Popen[bytes]) -> None:
    """Ends the server: fast, then immediately (the next start recovers from this), then by force."""
    for number, patience_s in STOPPING:
        if server.poll() is not None:
            return
        server.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(patience_s)


# --- the data directory -------------------------------------------------------------------------------------


def _password(folder: Path) -> str:
    path = folder / "password"
    if not path.exists():
        if (folder / "data").exists():
            raise EmbeddedServerFailed(f"{path} is missing; without it nobody can log in to {folder / 'data'}")
        replace(path, secrets.token_urlsafe(24))
    return path.read_text()


def _major_of(data: Path) -> int | None:
    if not data.exists():
        return None
    try:
        return int((data / "PG_VERSION").read_text())
    except (FileNotFoundError, ValueError):
        raise EmbeddedServerFailed(f"{data} is not a PostgreSQL data directory") from None


def _create_data(folder: Path, binaries: Binaries, account: Account | None, password: str) -> None:
    """Creates the data directory: initdb beside its final place, then a rename, so that a kill leaves no half of it."""
    for leftover in folder.glob("initdb-*"):
        _remove(leftover)
    work = Path(tempfile.mkdtemp(prefix="initdb-", dir=folder))
    try:
        (work / "data").mkdir(mode=0o700)
        (work / "password").write_text(password + "\n")
        if account is not None:
            give(work, account)
        # Text has the same order on every machine: by code point, independent of its locales.
        locale = ["--locale=C"]
        if binaries.major >= 17:
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        with child_in(work, account) as (path, arguments), open(folder / "server.log", "ab") as log:
            command = [str(binaries.folder / "initdb"), "-D", f"{path}/data", f"--pwfile={path}/password"]
            command += [f"--username={OWNER}", "--auth=scram-sha-256", "--encoding=UTF8", "--data-checksums"]
            done = subprocess.run(command + locale, stdout=log, stderr=log, check=False, **arguments)
        if done.returncode != 0:
            raise failure(folder, f"{binaries.folder}/initdb ended with {done.returncode}")
        os.rename(work / "data", folder / "data")
        # The rename itself is made durable. Otherwise the folder, with all recorded data, could be gone after a power
        # failure.
        handle = os.open(folder, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    finally:
        _remove(work)


def _remove(leftover: Path, *, patience_s: float = 10.0) -> None:
    """Removes a folder, even while a server whose initdb was killed still writes its last files into it."""
    give_up_at = time.monotonic() + patience_s
    while leftover.exists() and time.monotonic() < give_up_at:
        shutil.rmtree(leftover, ignore_errors=True)
        if leftover.exists():
            time.sleep(0.05)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["supervise", home_argument, idle_argument]:
            supervise(Path(home_argument), float(idle_argument))
        case _:
            sys.exit("usage: python -m subledger.store.embedded.supervisor supervise HOME IDLE_S")
