"""Routes of customers' attributes, on which accounts and dimensions of journals can depend."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body

from api.access import Access
from api.http.routes.dependencies import Caller, Cursor, LedgerId, Limit, Service, needs
from api.http.routes.guarded import Router
from api.http.routes.reads import CustomerId
from api.shapes import answers
from projections.account_mapping import customer_attributes as attributes
from subledger.events.envelope import format_time
from subledger.events.fields import parse_time
from subledger.store.reading.ledgers import ledger_head

router = Router(prefix="/v1/ledgers/{ledger}/customers/{customer:path}/attributes", tags=["customers"])


@router.get("", dependencies=[needs(Access.READER)])
def shown(service: Service, ledger: LedgerId, customer: CustomerId) -> dict[str, Any]:
    """The attributes of a customer; empty if none were set."""
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        return answers.customer_attributes(ledger, attributes.attributes_of(connection, ledger, customer))


@router.put("", dependencies=[needs(Access.WRITER)])
def replaced(
    service: Service,
    caller: Caller,
    ledger: LedgerId,
    customer: CustomerId,
    body: Annotated[dict[str, str], Body(examples=[{"segment": "enterprise", "region": "emea"}])],
) -> dict[str, Any]:
    """Replaces all attributes of a customer, who may be unknown to the ledger. Attributes that are not given are
    removed.

    The account mapping can use them (`customer.segment`). Journals and files that were handed over stay as they are.
    """
    attributes.replace_attributes(service.database, ledger, customer, body, by=caller)
    return shown(service, ledger, customer)


@router.delete("", dependencies=[needs(Access.WRITER)])
def erased(service: Service, caller: Caller, ledger: LedgerId, customer: CustomerId) -> dict[str, Any]:
    """Erases the attributes of a customer. Journals and files stay as they are; the caller and the time are stored."""
    found = attributes.erase_attributes(service.database, ledger, customer, by=caller)
    return {"ledger": ledger, "customer": customer, "erased": found}


of_ledger = Router(prefix="/v1/ledgers/{ledger}/erasures", tags=["customers"])


@of_ledger.get("", dependencies=[needs(Access.READER)])
def erasures(service: Service, ledger: LedgerId, limit: Limit = 100, cursor: Cursor = None) -> dict[str, Any]:
    """Erasures of customers' attributes, oldest first: the customer, the time and the person. The values are not
    stored.
    """
    after = answers.decode_cursor(cursor, (str, str))
    start = attributes.BEGINNING if after is None else (parse_time(after[0], field="cursor"), str(after[1]))
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        found = attributes.erasures(connection, ledger, after=start, limit=limit)
    following = [format_time(found[-1].erased_at), found[-1].customer] if len(found) == limit else None
    return answers.page([answers.erasure(each) for each in found], following)
