"""The end of a command that could not be carried out: one sentence and an exit code, never a traceback.

Owns: which error of the database, the file system or the network becomes which of ours. Does not own: how an error is
printed (terminal). An exception that is none of these is a defect, and keeps its traceback.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
import sqlalchemy as sa

from api import terminal
from api.settings import database_named
from subledger.errors import DatabaseUnavailable, FileUnavailable, SubledgerError, UnknownLedger

_DATABASE: Final = (sa.exc.SQLAlchemyError, psycopg.Error)


@contextmanager
def piped() -> Iterator[None]:
    """Writes out what was printed. Raises SystemExit if nobody reads it any more."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # here a full disk or a closed pipe still has somebody to tell
    except BrokenPipeError:
        terminal.leave_quietly()


@contextmanager
def told(*, as_json: bool) -> Iterator[None]:
    """Runs a command. Raises SystemExit in the place of an error, with its exit code."""
    try:
        with piped():
            yield
    except UnknownLedger as error:  # the ledger may well be in another database
        error.facts = {**error.facts, "database": database_named()}
        terminal.fail(error, as_json=as_json)
    except SubledgerError as error:
        terminal.fail(error, as_json=as_json)
    except _DATABASE as error:
        terminal.fail(of_database(error), as_json=as_json)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            terminal.forget_output()
        terminal.fail(of_files(error), as_json=as_json)


def of_database(error: Exception) -> SubledgerError:
    """Returns DatabaseUnavailable with the message of the database or of the connection to it."""
    original = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig is not None else error
    said = " ".join(str(original).split())
    return DatabaseUnavailable(
        f"the database cannot be used: {said}", field="SUBLEDGER_DATABASE_URL",
        expected="postgresql://USER:PASSWORD@HOST:PORT/NAME of a database that answers",
    )  # fmt: skip


def of_files(error: OSError) -> SubledgerError:
    """Returns FileUnavailable with the operating system's message about a file or an address."""
    what = error.strerror or str(error)
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    where = f"{' and '.join(names)}: " if names else ""
    return FileUnavailable(
        f"{where}{what}", field=names[0] if names else None,
        expected="a file or directory that can be read and written, with room left",
    )  # fmt: skip
