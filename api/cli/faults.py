"""The end of a command that fails: one sentence and an exit code, never a traceback.

Owns: the translation of errors of the database, the file system, the network and of text that is not UTF-8 into
SubledgerErrors. Does not own: printing an error (terminal). Any other exception is a defect and has its traceback.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
import sqlalchemy as sa

from api import terminal
from api.settings import database_named
from subledger.errors import DatabaseUnavailable, FileUnavailable, InvalidInput, SubledgerError, UnknownLedger
from subledger.text.visible_text import visible

_DATABASE: Final = (sa.exc.SQLAlchemyError, psycopg.Error)


@contextmanager
def piped() -> Iterator[None]:
    """Flushes the printed output at the end. Raises SystemExit if nobody reads it any more."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # a full disk or a closed pipe can still be reported here
    except BrokenPipeError:
        terminal.leave_quietly()


@contextmanager
def reported(*, as_json: bool) -> Iterator[None]:
    """Runs a command. Raises SystemExit instead of an error, with its exit code."""
    try:
        with piped():
            yield
    except UnknownLedger as error:  # the ledger may be in another database
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
    except UnicodeEncodeError as error:
        refused = of_given_texts(error.object)
        if refused is None:
            raise
        terminal.fail(refused, as_json=as_json)


def of_given_texts(text: str) -> SubledgerError | None:
    """Returns InvalidInput for an argument or environment variable that is in ``text`` and not UTF-8; else None.

    Python reads bytes that are not UTF-8 as halves of surrogate pairs, which no database accepts. Only the name of a
    file may contain them.
    """
    for argument in sys.argv[1:]:
        if not _is_text(argument) and argument.rpartition("=")[2] in text:
            return InvalidInput(
                f"the argument {visible(argument)} is not UTF-8, which only the name of a file may be",
                field="arguments",
                expected="text in UTF-8",
                found=visible(argument),
            )
    for name, value in os.environ.items():
        if name.startswith("SUBLEDGER_") and not _is_text(value):
            # The value itself is not shown: it may contain a password.
            return InvalidInput(
                f"the value of {name} in the environment is not UTF-8", field=name, expected="text in UTF-8"
            )
    return None


def _is_text(given: str) -> bool:
    try:
        given.encode()
    except UnicodeEncodeError:
        return False
    return True


def of_database(error: Exception) -> SubledgerError:
    """Returns DatabaseUnavailable with the message of the database or of the connection to it."""
    original = error.orig if isinstance(error, sa.exc.DBAPIError) and error.orig is not None else error
    text = " ".join(str(original).split())
    return DatabaseUnavailable(
        f"the database cannot be used: {text}",
        field="SUBLEDGER_DATABASE_URL",
        expected="postgresql://USER:PASSWORD@HOST:PORT/NAME of a database that answers",
    )


def of_files(error: OSError) -> SubledgerError:
    """Returns FileUnavailable with the operating system's message about a file or an address."""
    reason = error.strerror or str(error)
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    prefix = f"{' and '.join(names)}: " if names else ""
    return FileUnavailable(
        f"{prefix}{reason}",
        field=names[0] if names else None,
        expected="a file or directory that can be read and written, with room left",
    )
