"""Ledgers and their settings."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Body, Response
from pydantic import BaseModel, ConfigDict, Field

from api.access import Access
from api.http.routes.dependencies import Caller, Cursor, LedgerId, Limit, Service, needs, needs_everywhere
from api.http.routes.guarded import Router
from api.shapes import answers
from api.shapes import approvals as approval_answers
from projections.configuring import clock as clock_commands
from projections.reads.clock import clock_of
from subledger.events.own_data import FUTURE_TOLERANCE, RATE_MAX_AGE_DAYS, Approvals
from subledger.ledger_settings import LedgerSettings, SettingsChange
from subledger.store.reading.ledgers import ledger_head, ledger_heads, named, policy_name

router = Router(prefix="/v1/ledgers", tags=["ledgers"])


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
    future_tolerance: str = Field(default=FUTURE_TOLERANCE, description="how far after now the time of an event may be")
    rate_max_age_days: int = Field(
        default=RATE_MAX_AGE_DAYS, description="how old the exchange rate of a month's last day may be"
    )
    sandbox: bool = Field(default=False, description="a ledger for trials: its own clock, no deliveries")
    dimensions: tuple[str, ...] = Field(
        default=(), strict=False, description="names of the company's own dimensions of purchases and usage"
    )
    clock: str | None = Field(default=None, description="the first time of a sandbox's clock; default now")


class ApprovalsChange(BaseModel):
    """Changes of the settings of the second person; null removes a limit."""

    model_config = ConfigDict(extra="forbid", strict=True)

    breakage_estimates: bool | None = None
    write_offs: bool | None = None
    voids: bool | None = None
    reopening: bool | None = None
    expiry_changes: bool | None = None
    grant_credits_above: str | None = None
    grant_value_above: str | None = None
    money_back_above: str | None = None
    revenue_advanced_above: str | None = None
    grants_within: str | None = None
    credit_prices: dict[str, str] | None = None


class LedgerChange(BaseModel):
    """Changes of a ledger's settings. The currency and the time zone cannot be changed."""

    model_config = ConfigDict(extra="forbid", strict=True)

    currency: str | None = None
    timezone: str | None = None
    entity: str | None = None
    on_shortfall: Literal["reject", "overage", "backfill"] | None = None
    late_usage: Literal["reclassify", "new"] | None = None
    future_tolerance: str | None = None
    rate_max_age_days: int | None = None
    dimensions: tuple[str, ...] = Field(
        default=(), strict=False, description="names of own dimensions that are added; none is ever removed"
    )
    sandbox: bool | None = Field(default=None, description="cannot be changed: another value is refused")
    approvals: ApprovalsChange = ApprovalsChange()


_CHANGES: Any = {
    "usage beyond the credits becomes overage": {"value": {"on_shortfall": "overage"}},
    "write-offs and large grants need a second person": {
        "value": {"approvals": {"write_offs": True, "grant_credits_above": "1000"}}
    },
    "large grants no longer do": {"value": {"approvals": {"grant_credits_above": None}}},
}


@router.post("", status_code=201, dependencies=[needs_everywhere(Access.ADMIN)])
def create(
    service: Service,
    response: Response,
    caller: Caller,
    body: Annotated[NewLedger, Body(examples=[{"ledger": "acme", "currency": "USD"}])],
) -> dict[str, Any]:
    """Creates a ledger. Creating the same ledger again is answered with 200 and changes nothing."""
    settings = LedgerSettings(
        **body.model_dump(exclude={"ledger", "approvals", "clock"}),
        approvals=body.approvals,
        clock=None if body.clock is None else clock_commands.read_clock(body.clock),
    )
    if not service.create_ledger(body.ledger, settings, by=caller):
        response.status_code = 200
    response.headers["Location"] = f"/v1/ledgers/{body.ledger}"
    return one(service, body.ledger)


@router.get("", dependencies=[needs_everywhere(Access.READER)])
def every(service: Service, limit: Limit = 100, cursor: Cursor = None) -> dict[str, Any]:
    """Ledgers in order of id."""
    after = answers.decode_cursor(cursor, (str,)) or [""]
    with service.database.read() as connection:
        heads = ledger_heads(connection, after=after[0], limit=limit)
    items = [answers.ledger(head, named(head.state.ledger, head.state.policy, policy)) for head, policy in heads]
    return answers.page(items, [items[-1]["ledger"]] if len(items) == limit else None)


@router.get("/{ledger}", dependencies=[needs(Access.READER)])
def one(service: Service, ledger: LedgerId) -> dict[str, Any]:
    """A ledger's settings and head."""
    with service.database.read() as connection:
        head = ledger_head(connection, ledger)
        return answers.ledger(head, policy_name(connection, ledger, head.state.policy))


@router.patch(
    "/{ledger}",
    dependencies=[needs(Access.ADMIN)],
    responses={202: {"description": "It waits for a second person: see /approvals"}},
)
def configure(
    service: Service,
    ledger: LedgerId,
    caller: Caller,
    response: Response,
    body: Annotated[LedgerChange, Body(openapi_examples=_CHANGES)],
) -> dict[str, Any]:
    """Changes settings for events recorded from now on, by a `ledger.configured` event with the caller's name.

    Other settings do not change. If the ledger has these settings already, the answer is `unchanged`, and nothing is
    recorded. In a ledger that requires a second person, a change of `approvals` waits for one, and the answer is 202
    and `waiting`.
    """
    change = SettingsChange(
        **body.model_dump(exclude={"approvals"}), approvals=body.approvals.model_dump(exclude_unset=True)
    )
    configured = service.configure_ledger(ledger, change, by=caller)
    if configured.approval_id is not None:
        response.status_code = 202
    return {**one(service, ledger), **approval_answers.configuration(configured)}


class Clock(BaseModel):
    """The time to which the clock of a sandbox ledger is set."""

    model_config = ConfigDict(extra="forbid", strict=True)

    clock: str


@router.get("/{ledger}/clock", dependencies=[needs(Access.READER)])
def clock(service: Service, ledger: LedgerId) -> dict[str, Any]:
    """The ledger's current time. A sandbox has its own clock, which does not move until it is set."""
    return answers.clock(clock_of(service.database, ledger))


@router.put("/{ledger}/clock", dependencies=[needs(Access.CONTROLLER)])
def set_clock(
    service: Service,
    ledger: LedgerId,
    caller: Caller,
    body: Annotated[Clock, Body(examples=[{"clock": "2027-01-01T00:00:00Z"}])],
) -> dict[str, Any]:
    """Sets the clock of a sandbox ledger. It decides which times are in the future. The clock never goes back."""
    wanted = clock_commands.read_clock(body.clock)
    was_set = clock_commands.set_clock(service.recorder, ledger, wanted, by=caller)
    return {**clock(service, ledger), "status": "set" if was_set else "unchanged"}
