"""Errors as HTTP answers: problem documents (RFC 9457).

Owns: the status of an error, and the part of it that a caller sees. Does not own: the errors (``subledger.errors``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi.responses import JSONResponse

from subledger import errors

MEDIA_TYPE: Final = "application/problem+json"
_STATUS: Final[tuple[tuple[type[errors.SubledgerError], int], ...]] = (
    (errors.NotAuthenticated, 401),
    (errors.AccessDenied, 403),
    (errors.InvalidJson, 400),
    (errors.InvalidRequest, 400),
    (errors.MethodNotAllowed, 405),
    (errors.RequestTimedOut, 408),
    (errors.TooLarge, 413),
    (errors.UrlTooLong, 414),
    (errors.UnsupportedMediaType, 415),
    (errors.HeadersTooLarge, 431),
    (errors.NotFound, 404),
    (errors.UnknownBlock, 404),
    (errors.Conflict, 409),
    (errors.RejectionsChanged, 409),
    (errors.PeriodOutOfOrder, 409),
    (errors.PeriodNotClosed, 409),
    (errors.PeriodNotOver, 409),
    (errors.ClockBackwards, 409),
    (errors.SandboxLedger, 409),
    (errors.JournalNotReversible, 409),
    (errors.NothingToCorrect, 409),
    (errors.InvalidInput, 422),
    (errors.Refused, 422),
    (errors.LedgerBusy, 429),
    (errors.Unavailable, 503),
)


def status_of(error: errors.SubledgerError) -> int:
    """Returns the HTTP status of an error. It is 500 for a fault of the books or the server."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem_of(error: errors.SubledgerError) -> dict[str, Any]:
    """Returns the problem document, without messages of the database and its driver: they name hosts and users."""
    problem = {**error.as_document(), "status": status_of(error)}
    if isinstance(error, errors.DatabaseUnavailable):
        problem["detail"] = "The database does not answer now; send the same call again."
    return problem


def headers_of(error: errors.SubledgerError) -> dict[str, str]:
    """Returns the headers of an error's answer.

    ``Retry-After`` is set only if the same call may succeed after that time. So not every ``retryable`` error has it:
    the purchase that an event waits for may arrive in a second or in a week.
    """
    headers: dict[str, str] = {}
    if isinstance(error, errors.NotAuthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, errors.UnsupportedMediaType):
        headers["Accept-Encoding"] = "identity"
    elif isinstance(error, errors.Unavailable | errors.RequestTimedOut):
        headers["Retry-After"] = str(error.facts.get("retry_after_s", 1))
    return headers


def problem(error: errors.SubledgerError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Returns the answer to a call that ends in an error."""
    return JSONResponse(
        problem_of(error),
        status_code=status_of(error),
        media_type=MEDIA_TYPE,
        headers={**headers_of(error), **(headers or {})},
    )
