"""Routes for operation: liveness, readiness, metrics."""

from __future__ import annotations

from typing import Any

import prometheus_client
from fastapi import Request, Response

from api import metrics
from api.http.routes.dependencies import OPEN_TO_ALL, Service
from api.http.routes.guarded import Router
from subledger.store.migrate import check_schema

router = Router(tags=["operations"], dependencies=[OPEN_TO_ALL])


@router.get("/healthz")
async def healthy() -> dict[str, str]:
    """Answers as long as the process runs."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: {"description": "The database does not answer"}})
def ready(service: Service) -> dict[str, str]:
    """Answers 200 if the database answers; else 503."""
    with service.database.read() as connection:
        check_schema(connection)
    return {"status": "ready"}


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def exposition(request: Request, service: Service) -> Any:
    """Prometheus metrics. They contain the names of ledgers, so give access only to callers who may know these
    names.
    """
    metrics.WAITING.set(service.gatherer.depth)
    content = prometheus_client.generate_latest() + request.app.state.monitor_metrics.exposition()
    return Response(content, media_type=prometheus_client.CONTENT_TYPE_LATEST)
