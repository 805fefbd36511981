"""The HTTP application. The calls are in ``routes``.

Owns: the middleware of every call, the exceptions that become problem documents (``problems``), the introduction of the
OpenAPI document.
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
from api.http.bodies import Bodies
from api.http.cross_site import SameSiteOnly
from api.http.problems import problem, status_of
from api.http.routes import (
    approvals,
    change_report,
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
from api.http.routes.dependencies import Guard
from api.http.validation import refusal
from api.limits import HttpLimits
from api.monitor_metrics import MonitorMetrics, MonitorsInMetrics
from api.service import Subledger
from api.shapes.event_types import event_schemas
from api.stopping import StoppingTime
from projections.close.expiry_sweeper import Sweeper
from subledger import errors

DESCRIPTION = """
The prepaid-credit sub-ledger: record the events of a billing system, read balances at any point in time, close months,
export journals. Money and credits are strings, never numbers. Errors are RFC 9457 problem documents with a stable
`code`. Lists are `{"items": […], "next": cursor-or-null}`.
"""

log = structlog.get_logger("subledger.http")


class Observed:
    """Counts and times every request, in plain ASGI, because Starlette's own middleware costs as much as a small
    call.
    """

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
"""Seconds for which a stopping application waits for a sweep. The sweep's expiries are recorded in one commit or not at
all.
"""


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    sweeper: Sweeper | None = app.state.sweeper
    if sweeper is not None:
        sweeper.start()
    yield
    if sweeper is not None:
        sweeper.stop(0.0)  # from here on it begins nothing new
    # The server has answered all accepted calls. The remaining events were sent by other threads, or a call hangs. This
    # must not use the threads that answer calls: all of them may be waiting for a database that does not answer.
    service: Subledger = app.state.service
    if not await asyncio.to_thread(service.gatherer.stop, app.state.finishing_s):
        log.error("stopped before every batch was written")
    if sweeper is not None and not await asyncio.to_thread(sweeper.stop, _SWEEP_ENDS_WITHIN_S):
        log.warning("stopped before the sweep was finished: its expiries remain due")


_ROUTES: Final = (
    ledgers, keys, policies, approvals, customers, events, rejected, reads, change_report, reports, joint_reports,
    periods, exports, targets, tie_out, deliveries, monitors, operations, reference,
)  # fmt: skip
"""The modules of calls, in the order of the OpenAPI document. A path is tried in this order: one with a name for all
reports comes after those of a single one.
"""


def create_app(
    service: Subledger,
    *,
    open_on_loopback: bool = False,
    watched: MonitorsInMetrics | None = None,
    limits: HttpLimits | None = None,
    stopping: StoppingTime | None = None,
    sweeper: Sweeper | None = None,
) -> FastAPI:
    """Creates the application. ``open_on_loopback``: while no key exists, calls from this machine need none.

    ``sweeper``: records due expiries while the application runs.
    """
    app = FastAPI(
        title="subledger",
        version="1",
        description=DESCRIPTION,
        license_info={"name": "Apache-2.0"},
        lifespan=_lifespan,
        openapi_url=None,  # routes.reference has the description and its pages
        # A path with an extra slash is not found. A redirection would go to a host that the caller chooses.
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.finishing_s = (stopping or StoppingTime()).finishing_s
    app.state.sweeper = sweeper
    app.state.monitor_metrics = MonitorMetrics(service.database, watched or MonitorsInMetrics())
    app.state.bodies = Bodies(limits or HttpLimits())
    app.state.openapi_text = None  # reference.openapi stores it
    app.state.guard = Guard(service.database, open_on_loopback=open_on_loopback)
    _mount(app)
    _describe_event_types(app)
    app.add_middleware(SameSiteOnly, refusal=problem)
    app.add_middleware(Observed)
    app.add_middleware(HeadAsGet)
    _answer_with_problems(app)
    return app


def _mount(app: FastAPI) -> None:
    """Mounts the calls. Recording is first, because routes are tried in turn and it is called most."""
    app.router.routes.insert(0, events.recording_route())
    for module in _ROUTES:
        app.include_router(module.router)
    app.include_router(tie_out.of_channel)
    app.include_router(customers.of_ledger)


def _describe_event_types(app: FastAPI) -> None:
    """Adds a schema for each event type to the OpenAPI document."""
    describe = app.openapi

    def with_event_types() -> dict[str, Any]:
        built = app.openapi_schema is not None
        description = describe()
        if not built:
            description["components"]["schemas"].update(event_schemas())
        return description

    app.openapi = with_event_types  # type: ignore[method-assign]  # FastAPI's own way to add to the description


def _answer_with_problems(app: FastAPI) -> None:
    """Answers every error with a problem document: ours, invalid calls, unknown addresses, and defects."""

    @app.exception_handler(errors.SubledgerError)
    async def refused(_: Request, error: errors.SubledgerError) -> JSONResponse:
        # Overload and stopping are counted elsewhere.
        if status_of(error) >= 500 and not isinstance(error, errors.Overloaded | errors.Stopping):
            log.error("failed", code=error.code, detail=error.message)
        return problem(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem(refusal(error.errors(), request.scope.get("route")))

    @app.exception_handler(404)
    async def nothing_there(_: Request, __: Exception) -> JSONResponse:
        return problem(errors.NotFound("there is nothing at this address", expected="an address of /openapi.json"))

    @app.exception_handler(405)
    async def no_such_call(request: Request, error: HTTPException) -> JSONResponse:
        allowed = (error.headers or {}).get("Allow", "")
        return problem(
            errors.MethodNotAllowed(
                f"this address does not support {request.method}",
                field="method",
                expected=allowed or None,
                found=request.method,
            ),
            error.headers,
        )

    @app.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> JSONResponse:
        return problem(errors.InternalError("the server failed because of a defect in it; its log has the details"))
