"""The service cannot answer now; nothing was done, and the same call may succeed later."""

from __future__ import annotations

from subledger.errors.root import SubledgerError


class Unavailable(SubledgerError):
    """The service cannot answer now; nothing was done."""

    code = "unavailable"
    retryable = True


class DatabaseUnavailable(Unavailable):
    """The database does not answer.

    A batch is never recorded in part. If the connection was lost during the commit, the whole batch may be recorded.
    Then the same event sent again is a duplicate. The same holds if the events of a call were recorded, but its refused
    events could not be stored. The message says so.
    """

    code = "database_unavailable"


class NotAnswered(Unavailable):
    """Another system gave no answer that can be read."""

    code = "not_answered"


class FileUnavailable(Unavailable):
    """A file, a directory or an address of this machine cannot be used; the operating system says why."""

    code = "file_unavailable"


class LedgerBusy(Unavailable):
    """Too many events wait for this ledger; nothing of this call was recorded."""

    code = "ledger_busy"


class LedgerLocked(Unavailable):
    """Another transaction held a lock that this call needs, and the call waited too long; nothing was recorded."""

    code = "ledger_locked"


class Overloaded(Unavailable):
    """More events wait than can be recorded in time; nothing of this call was recorded."""

    code = "overloaded"


class Stopping(Unavailable):
    """The service is stopping: it completes accepted calls and accepts no new ones."""

    code = "stopping"


class TooManyConnections(Unavailable):
    """The server has reached its limit of connections; nothing of this call was read."""

    code = "too_many_connections"


class EmbeddedServerFailed(Unavailable):
    """The embedded PostgreSQL server did not start; its log says why."""

    code = "embedded_server_failed"


class SchemaOutOfDate(Unavailable):
    """The database does not have this version's schema, or a ledger not its accounting rules: an upgrade is due."""

    code = "schema_out_of_date"
