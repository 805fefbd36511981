"""Posting policies: those that a ledger has adopted, and adopting another one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from api.access import Access
from api.http.routes.dependencies import Caller, Cursor, LedgerId, Limit, Service, needs
from api.http.routes.guarded import Router
from api.shapes import answers
from api.shapes import policies as policy_answers
from projections.reads.policies import adopted_policies, adopted_policy
from subledger.errors import InvalidValue
from subledger.posting import Policy, parse_policy, shipped_policy
from subledger.store.reading.ledgers import ledger_head
from subledger.text.toml_text import MAX_TEXT

router = Router(prefix="/v1/ledgers/{ledger}/policies", tags=["policies"])

_MOST = 32_767


class PolicyToAdopt(BaseModel):
    """The policy to adopt: the name of one that ships, or the text of a company's own policy file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str | None = Field(default=None, description="contract_liability, customer_deposits, customer_deposits_arm")
    policy: str | None = Field(default=None, description="The text of a policy file, in TOML", max_length=MAX_TEXT)


_OWN = """name = "acme"
version = 1
description = "As contract_liability; the accounts of every entry kind, debit / credit."

[entries]
purchase = ["accounts_receivable / prepaid_liability"]
consumption = ["prepaid_liability / usage_revenue"]
# … and one line for every other entry kind: subledger policy show --ledger acme > acme.toml writes them all
"""
_EXAMPLES: Any = {
    "one that ships": {"value": {"name": "contract_liability"}},
    "a company's own": {"value": {"policy": _OWN}},
}


@router.get("", dependencies=[needs(Access.READER)])
def policies(service: Service, ledger: LedgerId, limit: Limit = 100, cursor: Cursor = None) -> dict[str, Any]:
    """The policies that the ledger has adopted, in order. The last one applies to new events."""
    after = answers.decode_cursor(cursor, (int,)) or [0]
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        found = adopted_policies(connection, ledger, after=min(max(after[0], 0), _MOST), limit=limit)
    return answers.page(
        [policy_answers.adopted_policy(each) for each in found], [found[-1].number] if len(found) == limit else None
    )


@router.get("/{number}", dependencies=[needs(Access.READER)])
def policy(
    service: Service,
    ledger: LedgerId,
    number: Annotated[int, Path(ge=1, le=_MOST, description="The policy's number in entries")],
) -> dict[str, Any]:
    """One policy with its rules: the account pairs, debit / credit, of each entry kind."""
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        return policy_answers.adopted_policy(adopted_policy(connection, ledger, number), with_rules=True)


@router.post(
    "",
    status_code=201,
    dependencies=[needs(Access.CONTROLLER)],
    responses={
        200: {"description": "It is in force already: nothing is recorded"},
        409: {"description": "Its name and version stand for other rules"},
    },
)
def adopt(
    service: Service,
    ledger: LedgerId,
    caller: Caller,
    response: Response,
    body: Annotated[PolicyToAdopt, Body(openapi_examples=_EXAMPLES)],
) -> dict[str, Any]:
    """Adopts a policy for the events recorded from now on. Recorded events keep their policy.

    A company's own policy is checked first. A rule in which `verify` would find a difference is refused, naming the
    entry kind.
    """
    adoption = service.adopt_policy(ledger, _asked(body), by=caller)
    if not adoption.adopted:
        response.status_code = 200
    with service.database.read() as connection:
        return policy_answers.adoption(adoption, adopted_policy(connection, ledger, adoption.number))


def _asked(body: PolicyToAdopt) -> Policy:
    if (body.name is None) == (body.policy is None):
        raise InvalidValue(
            "one policy is adopted at a time, by its name or as a text", field="name", expected="name or policy"
        )
    return parse_policy(body.policy) if body.policy is not None else shipped_policy(body.name or "")
