"""Configuration from the environment: the home directory, the database, limits and time-outs.

``SUBLEDGER_DATABASE_URL`` names a PostgreSQL. Without it an embedded one is started or joined in the home directory.
The home directory is ``SUBLEDGER_HOME``, else the nearest ``.subledger`` from the working directory upwards, else the
user's data folder. So a command in another directory does not create another, empty database.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import platformdirs

from api.limits import HttpLimits
from api.monitor_metrics import MonitorsInMetrics
from api.service import Subledger, upgrade_database
from api.stopping import StoppingTime
from api.terminal import err
from projections.configuring.upgrade import is_upgraded
from subledger.errors import InvalidValue, SchemaOutOfDate
from subledger.store import private
from subledger.store.database import Database, engine_url
from subledger.store.embedded import server as embedded
from subledger.store.migrate import is_current
from subledger.store.timeouts import Timeouts
from subledger.store.writing.queue import Limits

Chosen = TypeVar("Chosen", bound=msgspec.Struct)


def home() -> Path:
    """``SUBLEDGER_HOME``, else the nearest ``.subledger`` from the working directory upwards, else ``subledger`` in the
    user's data folder (``~/.local/share`` on Linux). It may not exist yet.

    A user who can write to a directory above could put a home there. So the search ends before a directory that every
    user can write to, and skips a ``.subledger`` that is a link or belongs to another user.
    """
    if named := os.environ.get("SUBLEDGER_HOME"):
        return Path(named).absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if _is_open_to_all(folder):
            break
        if _is_own_directory(folder / NEAREST):
            return folder / NEAREST
    return platformdirs.user_data_path("subledger", appauthor=False)


def _is_open_to_all(folder: Path) -> bool:
    """True if every user can write there and rename our files. In our own sticky folder other users cannot rename
    them.
    """
    found = folder.stat()
    is_protected = bool(found.st_mode & stat.S_ISVTX) and found.st_uid == os.geteuid()
    return bool(found.st_mode & stat.S_IWOTH) and not is_protected


def _is_own_directory(directory: Path) -> bool:
    try:
        found = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


NEAREST: Final = ".subledger"


def private_home() -> Path:
    """The home directory, created if it does not exist, readable only by its owner. Raises UnsafeHome."""
    return private.private_home(home())


def is_embedded() -> bool:
    return not os.environ.get("SUBLEDGER_DATABASE_URL")


def needs_home() -> bool:
    """False if the database and the signing key are both given: then a read-only machine without a home can sign."""
    return is_embedded() or not os.environ.get("SUBLEDGER_SIGNING_KEY")


def owner_url() -> str:
    """Returns the database's URL. If none is set it starts the embedded server, and prints a message if its database is
    new.
    """
    if configured := os.environ.get("SUBLEDGER_DATABASE_URL"):
        return configured
    directory = home()
    is_new = not embedded.exists(directory)
    url = embedded.ensure_running(directory)
    if is_new:
        err.print(f"created a new, empty ledger database in {directory}")
    return url


def database_named() -> str:
    """A description of the database for people, without its password."""
    configured = os.environ.get("SUBLEDGER_DATABASE_URL")
    if not configured:
        return f"the embedded one in {home()}"
    url = engine_url(configured)
    return f"{url.database} on {url.host or 'this machine'}" + (f", port {url.port}" if url.port else "")


def limits() -> Limits:
    """Limits of batches and queues: ``SUBLEDGER_QUEUE_EVENTS`` and so on, by the names in ``Limits``.

    Raises InvalidValue naming the variable.
    """
    return _from_environment(Limits)


def timeouts() -> Timeouts:
    """Time-outs of connections, in seconds: ``SUBLEDGER_LOCK_TIMEOUT_S`` and so on, by the names in ``Timeouts``.

    Raises InvalidValue naming the variable.
    """
    return _from_environment(Timeouts)


def stopping_time() -> StoppingTime:
    """Seconds of a server or worker to finish after a stop signal: ``SUBLEDGER_STOPPING_S``. Raises InvalidValue."""
    return _from_environment(StoppingTime)


def watched() -> MonitorsInMetrics:
    """Number of ledgers whose monitors the metrics show, and the seconds between their checks.

    The variables are ``SUBLEDGER_METRICS_LEDGERS`` and so on, by the names in ``MonitorsInMetrics``. Raises
    InvalidValue.
    """
    return _from_environment(MonitorsInMetrics)


def http_limits() -> HttpLimits:
    """Times and connections of the HTTP server: ``SUBLEDGER_BODY_TIMEOUT_S`` and so on, by the names in ``HttpLimits``.

    Raises InvalidValue naming the variable.
    """
    return _from_environment(HttpLimits)


def _from_environment(kind: type[Chosen]) -> Chosen:
    names = {f"SUBLEDGER_{name.upper()}": name for name in kind.__struct_fields__}
    chosen = kind()
    for variable, name in names.items():
        given = os.environ.get(variable)
        if given:
            try:
                chosen = msgspec.convert({**msgspec.to_builtins(chosen), name: given}, kind, strict=False)
            except msgspec.ValidationError as error:
                raise InvalidValue(str(error), field=variable, expected="a positive number", found=given) from None
    return chosen


def connect() -> Subledger:
    """The service on the configured database. It upgrades only an embedded database. It also continues an interrupted
    upgrade.

    Raises SchemaOutOfDate.
    """
    url = owner_url()
    if is_embedded():
        if not is_upgraded(url):
            upgrade_database(url, timeouts())
    elif not is_current(url):
        raise SchemaOutOfDate("the database has another schema: run `subledger init`", expected="subledger init")
    return Subledger(Database(url, timeouts=timeouts()), limits=limits())
