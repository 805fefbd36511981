"""Ledgers and their settings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Response
from pydantic import BaseModel, ConfigDict

from api import documents
from api.access import Access
from api.routes.dependencies import Cursor, LedgerId, Limit, Service, needs, needs_everywhere
from api.service import LedgerSettings
from subledger.event_data import Approvals
from subledger.store import reader

router = APIRouter(prefix="/v1/ledgers", tags=["ledgers"])


class NewLedger(BaseModel):
    """A ledger to create."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ledger: str
    currency: str
    policy: Literal["contract_liability", "customer_deposits", "customer_deposits_arm"] = "customer_deposits"
    entity: str | None = None
    timezone: str = "UTC"
    on_shortfall: Literal["reject", "overage", "backfill"] = "reject"
    late_usage: Literal["reclassify", "new"] = "new"
    approvals: Approvals = Approvals()


@router.post("", status_code=201, dependencies=[needs_everywhere(Access.ADMIN)])
def create(
    service: Service,
    response: Response,
    body: Annotated[NewLedger, Body(examples=[{"ledger": "acme", "currency": "USD"}])],
) -> dict[str, Any]:
    """Creates a ledger. The same ledger again is answered with 200 and changes nothing."""
    settings = LedgerSettings(**body.model_dump(exclude={"ledger", "approvals"}), approvals=body.approvals)
    if not service.create_ledger(body.ledger, settings):
        response.status_code = 200
    response.headers["Location"] = f"/v1/ledgers/{body.ledger}"
    return one(service, body.ledger)


@router.get("", dependencies=[needs_everywhere(Access.READER)])
def every(service: Service, limit: Limit = 100, cursor: Cursor = None) -> dict[str, Any]:
    """Ledgers in order of id."""
    after = documents.decode_cursor(cursor, (str,)) or [""]
    with service.database.read() as connection:
        heads = reader.ledger_heads(connection, after=after[0], limit=limit)
    items = [documents.ledger(head, policy) for head, policy in heads]
    return documents.page(items, [items[-1]["ledger"]] if len(items) == limit else None)


@router.get("/{ledger}", dependencies=[needs(Access.READER)])
def one(service: Service, ledger: LedgerId) -> dict[str, Any]:
    """A ledger's settings and head."""
    with service.database.read() as connection:
        head = reader.ledger_head(connection, ledger)
        return documents.ledger(head, reader.policy_name(connection, ledger, head.state.policy))
