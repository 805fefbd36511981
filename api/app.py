"""The HTTP API: put together here, answered in ``routes``.

Owns: how errors become responses, who is let in, what the OpenAPI document says of itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import metrics
from api.access import NotAllowed, NotAuthenticated
from api.bodies import Bodies
from api.cross_site import CrossSite, SameSiteOnly, UnsupportedMediaType
from api.event_types import event_schemas
from api.limits import HttpLimits
from api.monitor_metrics import MonitorMetrics, MonitorsInMetrics
from api.routes import (
    approvals,
    customers,
    deliveries,
    events,
    exports,
    joint_reports,
    keys,
    ledgers,
    monitors,
    operations,
    periods,
    policies,
    reads,
    reference,
    rejected,
    reports,
    targets,
    tie_out,
)
from api.routes.dependencies import Guard
from api.service import Subledger
from api.stopping import StoppingTime
from api.validation import refusal
from projections.sweeping import Sweeper
from subledger import errors

_STATUS: tuple[tuple[type[errors.SubledgerError], int], ...] = (
    (NotAuthenticated, 401),
    (NotAllowed, 403),
    (CrossSite, 403),
    (UnsupportedMediaType, 415),
    (errors.InvalidJson, 400),
    (errors.RequestTimedOut, 408),
    (errors.TooLarge, 413),
    (errors.NotFound, 404),
    (errors.UnknownBlock, 404),
    (errors.Conflict, 409),
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

DESCRIPTION = """
The prepaid-credit sub-ledger: record what a billing system knows, read balances at any point in time, close months,
export journals. Money and credits are strings, never numbers. Errors are RFC 9457 problem documents with a stable
`code`. Lists are `{"items": […], "next": cursor-or-null}`.
"""

log = structlog.get_logger("subledger.http")


def status_of(error: errors.SubledgerError) -> int:
    """The HTTP status of an error; 500 for what is nobody's input."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem(document: dict[str, Any], status: int, *, retry_after: bool = False) -> JSONResponse:
    """A problem document as a response; ``retry_after`` if the same call is worth repeating as soon as this says.

    Not for everything that is ``retryable``: a purchase that an event waits for may come in a second or in a week.
    """
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if retry_after:
        headers["Retry-After"] = str(document.get("retry_after_s", 1))
    return JSONResponse(
        {**document, "status": status}, status_code=status, media_type="application/problem+json", headers=headers
    )


class Observed:
    """Counts and times every request, in plain ASGI: Starlette's own way for it costs as much as a small call."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started, status = time.perf_counter(), 500

        async def observe(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, observe)
        finally:
            path = getattr(scope.get("route"), "path", "unmatched")
            metrics.answered(scope["method"], path, status, time.perf_counter() - started)


class HeadAsGet:
    """Answers HEAD as GET, without the body (RFC 9110, section 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        if scope["type"] == "http" and scope["method"] == "HEAD":
            await self._app({**scope, "method": "GET"}, receive, without_body)
        else:
            await self._app(scope, receive, send)


_SWEEP_ENDS_WITHIN_S: Final = 1.0
"""Seconds that a stopping application waits for a sweep; its expiries are recorded together or not at all."""


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    sweeper: Sweeper | None = app.state.sweeper
    if sweeper is not None:
        sweeper.start()
    yield
    if sweeper is not None:
        sweeper.stop(0.0)  # begins nothing more
    # The server has answered what it had accepted before it came here; what is left was handed in by other threads, or
    # hangs. Not in the threads that answer calls: all of them may wait for a database that says nothing.
    service: Subledger = app.state.service
    if not await asyncio.to_thread(service.gatherer.stop, app.state.finishing_s):
        log.error("stopped before every batch was written")
    if sweeper is not None and not await asyncio.to_thread(sweeper.stop, _SWEEP_ENDS_WITHIN_S):
        log.warning("stopped before the sweep was finished: its expiries remain due")


def create_app(
    service: Subledger, *, open_on_loopback: bool = False, watched: MonitorsInMetrics | None = None,
    limits: HttpLimits | None = None, stopping: StoppingTime | None = None, sweeper: Sweeper | None = None,
) -> FastAPI:  # fmt: skip
    """The application. ``open_on_loopback``: while no key exists, calls from this machine need none.

    ``sweeper``: records due expiries while the application runs.
    """
    app = FastAPI(
        title="subledger",
        version="1",
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0"},
        lifespan=_lifespan,
        openapi_url=None,  # its document and its pages are ours: routes.reference
        # A path with a slash too many is not found: the redirection would lead to whatever the call says is our host.
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.finishing_s = (stopping or StoppingTime()).finishing_s
    app.state.sweeper = sweeper
    app.state.monitor_metrics = MonitorMetrics(service.database, watched or MonitorsInMetrics())
    app.state.bodies = Bodies(limits or HttpLimits())
    app.state.guard = Guard(service.database, open_on_loopback=open_on_loopback)
    app.router.routes.insert(0, events.recording_route())
    for module in (
        ledgers, keys, policies, approvals, customers, events, rejected, reads, reports, joint_reports, periods,
        exports, targets, tie_out, deliveries, monitors, operations, reference,
    ):  # fmt: skip
        app.include_router(module.router)
    app.include_router(tie_out.of_channel)
    app.include_router(customers.of_ledger)
    describe = app.openapi

    def with_event_types() -> dict[str, Any]:
        document = describe()
        document["components"]["schemas"].update(event_schemas())
        return document

    app.openapi = with_event_types  # type: ignore[method-assign]  # FastAPI's own way to add to the document

    app.add_middleware(SameSiteOnly, refusal=lambda error: problem(error.as_document(), status_of(error)))
    app.add_middleware(Observed)
    app.add_middleware(HeadAsGet)

    @app.exception_handler(errors.SubledgerError)
    async def refused(_: Request, error: errors.SubledgerError) -> JSONResponse:
        status = status_of(error)
        if status >= 500 and not isinstance(error, errors.Overloaded | errors.Stopping):  # those are counted
            log.error("failed", code=error.code, detail=error.message)
        return problem(error.as_document(), status, retry_after=isinstance(error, errors.Unavailable))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem(refusal(error.errors(), request.scope.get("route")).as_document(), 422)

    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        document = {
            "type": "about:blank",
            "title": str(error.detail),
            "code": {404: "not_found", 405: "method_not_allowed", 415: "unsupported_media_type"}.get(
                error.status_code, "http_error"
            ),
            "detail": str(error.detail),
        }
        response = problem(document, error.status_code)
        response.headers.update(error.headers or {})
        return response

    return app
