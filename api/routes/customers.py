"""What the company says of its customers: their attributes, by which journals may go."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body

from api import documents
from api.access import Access
from api.routes.dependencies import Caller, LedgerId, Service, needs
from api.routes.guarded import Router
from api.routes.reads import CustomerId
from projections.journals import customer_attributes as attributes
from subledger.store.ledgers import ledger_head

router = Router(prefix="/v1/ledgers/{ledger}/customers/{customer:path}/attributes", tags=["customers"])


@router.get("", dependencies=[needs(Access.READER)])
def shown(service: Service, ledger: LedgerId, customer: CustomerId) -> dict[str, Any]:
    """What is said of a customer; nothing, where nothing is."""
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        return documents.customer_attributes(ledger, attributes.attributes_of(connection, ledger, customer))


@router.put("", dependencies=[needs(Access.WRITER)])
def replaced(
    service: Service,
    caller: Caller,
    ledger: LedgerId,
    customer: CustomerId,
    body: Annotated[dict[str, str], Body(examples=[{"segment": "enterprise", "region": "emea"}])],
) -> dict[str, Any]:
    """Sets all attributes of a customer, also of one the ledger does not know yet; what is left out is taken away.

    The account mapping may go by them (`customer.segment`). What was handed over stays as it is.
    """
    attributes.replace_attributes(service.database, ledger, customer, body, by=caller)
    return shown(service, ledger, customer)


@router.delete("", dependencies=[needs(Access.WRITER)])
def erased(service: Service, ledger: LedgerId, customer: CustomerId) -> dict[str, Any]:
    """Erases all that is said of a customer. What was handed over stays as it is."""
    found = attributes.erase_attributes(service.database, ledger, customer)
    return {"ledger": ledger, "customer": customer, "erased": found}
