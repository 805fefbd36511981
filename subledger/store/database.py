"""Connections and transactions of the application.

All programs except the migrations connect as the role ``subledger_app``. It may add to the log, but not change it.
"""

from __future__ import annotations

import logging
import re
import select
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import Any, Final, cast

import psycopg
import sqlalchemy as sa

from subledger.errors import DatabaseUnavailable, InvalidInput, LedgerLocked
from subledger.kinds import Rules
from subledger.ledger import LedgerState
from subledger.store.full_duplex import Connection, SilentServer
from subledger.store.tables import APP_ROLE
from subledger.store.timeouts import CLIENT_CHECK, Timeouts, without_client_check

# SQLSTATE classes after which the same call may succeed: connection (08), resources (53), operator intervention (57),
# serialization failures and deadlocks (40). The last code is for a session that the server ended because its
# transaction was idle for too long.
_RETRYABLE: Final = ("08", "53", "57", "40", "25P03")
_LOCK_NOT_AVAILABLE: Final = "55P03"
_CONNECTION_ENDED: Final = ("08", "57P")  # exceptions of the connection; shutdowns of one session or of all

PLANNED_FOR_ANY_LEDGER: Final = """
-- One plan serves every ledger. The exception is a Citus cluster, where a plan must name the server of the ledger.
SELECT set_config('plan_cache_mode', 'force_generic_plan', false)
WHERE NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')
"""

SESSION: Final = {
    "timezone": "UTC", "datestyle": "ISO,MDY", "intervalstyle": "postgres", "bytea_output": "hex",
    "extra_float_digits": "1", "client_encoding": "UTF8", "standard_conforming_strings": "on",
    "quote_all_identifiers": "off", "search_path": "public",
}  # fmt: skip
"""Settings of every session. Seals of rows, facts of the schema and other compared texts depend on them.

They take precedence over those of a database or a role (ALTER DATABASE … SET).
"""

ON_A_STANDBY: Final = (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.FeatureNotSupported)
"""Errors of a standby: it refuses writes, and it refuses to start a transaction that may write."""

# psycopg's message about a lost connection is in the error that is raised. Without a handler the logger would also
# print it on standard error, in the middle of a sentence for people.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

_NAMED: Final = re.compile(r"%\((\w+)\)s")

WriteConnection = Connection


def driver(connection: sa.Connection | sa.PoolProxiedConnection) -> WriteConnection:
    """Returns the psycopg connection below one of SQLAlchemy's."""
    pooled = connection.connection if isinstance(connection, sa.Connection) else connection
    return cast("Connection", pooled.driver_connection)  # SQLAlchemy types it as any driver's connection


def session_options(**other: str) -> str:
    """Returns the settings of ``SESSION`` as command-line options of the server. ``other`` replaces some of them."""
    return " ".join(f"-c {name}={value}" for name, value in {**SESSION, **other}.items())


def engine_url(url: str) -> sa.URL:
    """Returns a libpq URL in the form of SQLAlchemy. Raises InvalidInput for a database other than PostgreSQL."""
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise InvalidInput(f"the database URL cannot be read: {error}", field="SUBLEDGER_DATABASE_URL") from None
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise InvalidInput(
            "the database must be PostgreSQL 15 or later",
            field="SUBLEDGER_DATABASE_URL",
            expected="postgresql://…",
            found=parsed.get_backend_name(),
        )
    return parsed.set(drivername="postgresql+psycopg")


class Database:
    """A PostgreSQL database with our tables, used as the application role."""

    def __init__(self, url: str, *, pool_size: int = 10, timeouts: Timeouts | None = None) -> None:
        self.url = url
        self.timeouts = limits = timeouts or Timeouts()
        # Posting rules, cached for readers by their content hash. The key is not the ledger and the number, because
        # after a restore the same number may name other rules.
        self.rules: dict[str, Rules] = {}
        # The settings of each ledger at its last read. They are used only if the row of the answer confirms them.
        self.states: dict[str, LedgerState] = {}
        self.engine = _engine(url, pool_size, limits, idle_s=limits.idle_reader_s)
        # The statements of recording and of single questions are always the same. Each is planned once for each
        # connection, for any ledger. A plan for one ledger without statistics would assume that it is empty, and scan
        # all of it.
        self._recording = _engine(url, pool_size, limits, idle_s=limits.stuck_writer_s, planned_once=True)
        self._asked = _engine(url, pool_size, limits, idle_s=limits.stuck_writer_s, planned_once=True, autocommit=True)

    @property
    def engines(self) -> tuple[sa.Engine, ...]:
        """Returns the pools of connections."""
        return self.engine, self._recording, self._asked

    def close(self) -> None:
        for engine in self.engines:
            engine.dispose()

    def ask(self, query: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Returns the rows of one reading statement: one snapshot, in one round trip. It has the time limit of a
        reader.

        If the server has ended the connection, the statement is sent once more over a new one.
        """
        with translated():
            try:
                return self._ask(query, parameters)
            except SilentServer:
                raise  # a second try would take as long
            except psycopg.OperationalError as error:
                if not error.sqlstate or error.sqlstate.startswith(_CONNECTION_ENDED):
                    self._asked.dispose()  # the event that ended this connection has probably ended the others too
                    return self._ask(query, parameters)
                raise

    def call(self, query: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Runs one statement that writes, in a transaction of its own, in one round trip. Returns its rows.

        Its parameters are $1, $2 and so on.
        """
        with translated(), self._answering() as connection:
            return psycopg.RawCursor(connection).execute(query, parameters).fetchall()

    def _ask(self, query: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        text, names = _numbered(query)
        with self._answering() as connection, self._patient(connection):
            return psycopg.RawCursor(connection).execute(text, [parameters[name] for name in names]).fetchall()

    @contextmanager
    def _answering(self) -> Iterator[WriteConnection]:
        pooled = self._asked.raw_connection()
        try:
            yield driver(pooled)
        finally:
            pooled.close()

    @contextmanager
    def _patient(self, connection: WriteConnection) -> Iterator[None]:
        """Waits for each answer up to the time limit of a reader."""
        usual_s = connection.silence_s
        connection.silence_s = self.timeouts.idle_reader_s + self.timeouts.lock_timeout_s
        try:
            yield
        finally:
            connection.silence_s = usual_s

    @contextmanager
    def write(self, *, recording: bool = False, at_length: bool = False) -> Iterator[WriteConnection]:
        """Opens a transaction on a plain psycopg connection: committed at the end, rolled back on any exception.

        ``recording``: a transaction of the recorder, whose statements are always the same. ``at_length``: each
        statement has the time limit of a reader, for example in a close.
        """
        with translated():
            pooled = (self._recording if recording else self.engine).raw_connection()
            connection = driver(pooled)
            try:
                with self._patient(connection) if at_length else nullcontext():
                    yield connection
                # connection.transaction() is not used. If a transaction were already open, it would only make a
                # savepoint in that one. Returning the connection to the pool would then roll back events that we have
                # reported as durable.
                connection.commit()
            except BaseException:
                if not connection.closed:
                    connection.rollback()
                raise
            finally:
                if connection.closed:
                    pooled.invalidate()  # there is nothing to roll back, and no message to add
                pooled.close()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Opens a snapshot: all reads within it see the same moment."""
        with translated(), self.engine.connect() as connection:
            connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            yield connection


@lru_cache
def _numbered(query: str) -> tuple[str, tuple[str, ...]]:
    """Returns a statement with $1, $2 … in place of %(name)s, and the names. psycopg would parse it again on every
    call.
    """
    names: dict[str, int] = {}
    text = _NAMED.sub(lambda found: f"${names.setdefault(found[1], len(names) + 1)}", query)
    return text.replace("%%", "%"), tuple(names)


def _engine(
    url: str, pool_size: int, timeouts: Timeouts, *, idle_s: float, planned_once: bool = False, autocommit: bool = False
) -> sa.Engine:
    """Returns a pool of connections.

    ``idle_s``: the longest silence, of the client between statements or of the server within one.

    Within a statement the server may also wait for a lock, so the limit of that wait is added.
    """
    options = f"-c role={APP_ROLE} {session_options()} {timeouts.options(idle_s=idle_s)}"
    silence_s = idle_s + timeouts.lock_timeout_s
    parsed = engine_url(url)
    arguments = {name: value for name, value in timeouts.of_link.items() if name not in parsed.query}
    if planned_once:
        options += " -c jit=off"
        arguments["prepare_threshold"] = 0
    if autocommit:
        arguments["autocommit"] = True
    engine = sa.create_engine(
        parsed,
        pool_size=pool_size,
        max_overflow=20,
        pool_reset_on_return=None if autocommit else "rollback",
        connect_args={"options": options, **arguments},
    )
    sa.event.listen(engine, "do_connect", Connecting(silence_s))
    if planned_once:
        sa.event.listen(engine, "connect", _plan_for_any_ledger)
    sa.event.listen(engine, "checkout", _check_that_it_lives)
    return engine


class Connecting:
    """Factory of an engine's connections. They cannot deadlock with the server, unlike psycopg's own.

    Some servers refuse the option that checks for a lost client; after the first refusal it is not sent again.
    """

    def __init__(self, silence_s: float | None = None) -> None:
        self._silence_s = silence_s
        self._refuses_check = False

    def __call__(self, _dialect: object, _record: object, arguments: list[Any], named: dict[str, Any]) -> Connection:
        options = str(named.get("options", ""))
        if self._refuses_check:
            named = {**named, "options": without_client_check(options)}
        try:
            connection = Connection.connect(*arguments, **named)
        except psycopg.OperationalError as error:
            if self._refuses_check or CLIENT_CHECK not in options or CLIENT_CHECK not in str(error):
                raise
            connection = Connection.connect(*arguments, **{**named, "options": without_client_check(options)})
            self._refuses_check = True
        connection.silence_s = self._silence_s
        return connection


def _plan_for_any_ledger(connection: WriteConnection, _: object) -> None:
    connection.execute(PLANNED_FOR_ANY_LEDGER)
    if not connection.autocommit:
        connection.commit()


def _check_that_it_lives(connection: WriteConnection, *_: object) -> None:
    """Refuses a pooled connection that is lost, or on which the server has sent a message. The pool then makes a new
    one.

    A test statement would do the same, but would cost a round trip each time.
    """
    poll = select.poll()
    if not connection.closed:
        poll.register(connection.fileno(), select.POLLIN)
    if connection.closed or poll.poll(0):
        raise sa.exc.DisconnectionError("the server has ended this connection")


@contextmanager
def without_nested_loops(connection: WriteConnection) -> Iterator[None]:
    """Plans the statements of its context without nested loops. It needs a transaction, and is for reads of most of a
    ledger.

    The server may have no statistics of the ledger, for example after recording a large file or after a crash. Then it
    expects only one or two rows, and would scan all entries of the ledger once for each event.
    """
    [(before, _)] = connection.execute(_NO_NESTED_LOOPS).fetchall()
    yield
    # After an error the setting is rolled back.
    connection.execute("SELECT set_config('enable_nestloop', %s, true)", (before,))


_NO_NESTED_LOOPS: Final = "SELECT current_setting('enable_nestloop'), set_config('enable_nestloop', 'off', true)"


@contextmanager
def translated() -> Iterator[None]:
    """Raises DatabaseUnavailable or LedgerLocked for the database's own errors of that kind; other errors pass
    through.
    """
    try:
        yield
    except (psycopg.Error, sa.exc.DBAPIError) as error:
        original = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        state = getattr(original, "sqlstate", None)
        if state == _LOCK_NOT_AVAILABLE:
            raise LedgerLocked(
                "another transaction held a lock that this call needs, until the time-out; nothing was done",
                expected="the same call, later",
            ) from error
        if state is None or state.startswith(_RETRYABLE):
            message = " ".join(str(original).split())  # libpq's message has several lines
            raise DatabaseUnavailable(f"the database did not answer: {message}") from error
        raise
