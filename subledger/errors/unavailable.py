"""The service cannot answer now; nothing was done, and the same call may succeed later."""

from __future__ import annotations

from subledger.errors.root import SubledgerError


class Unavailable(SubledgerError):
    """The service cannot answer now; nothing was done."""

    code = "unavailable"
    retryable = True


class DatabaseUnavailable(Unavailable):
    """The database does not answer.

    Nothing is half-written. Where the connection was lost in the midst of the commit, all of the batch may be
    recorded: the same event sent again is then a duplicate. So it is where events are recorded, and the refused ones of
    the same call could not be stored; the message says so.
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
