"""The books, or the server, are wrong: a defect or tampering, never bad input."""

from __future__ import annotations

from typing import TypeVar

from subledger.errors.root import SubledgerError


class IntegrityFault(SubledgerError):
    """An invariant of the books does not hold."""

    code = "integrity_fault"


class InternalError(SubledgerError):
    """The server failed because of a defect of its own."""

    code = "internal_error"


_Value = TypeVar("_Value")


def present(value: _Value | None, message: str) -> _Value:
    """Returns a value that an invariant promises. Raises IntegrityFault with ``message`` if there is none."""
    if value is None:
        raise IntegrityFault(message)
    return value
