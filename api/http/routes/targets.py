"""General ledgers with a format: their limits, and the company's settings for each."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Path

from api.access import Access
from api.http.routes.dependencies import Caller, LedgerId, Service, needs
from api.http.routes.guarded import Router
from api.shapes import answers
from api.shapes import exports as export_answers
from projections.exports import targets
from projections.exports.formats import TARGETS
from projections.exports.formats.target import Target
from subledger.store.reading.ledgers import ledger_head
from subledger.store.reading.queries import AnyConnection

router = Router(prefix="/v1/ledgers/{ledger}/targets", tags=["exports"])

TargetName = Annotated[str, Path(description="The general ledger", examples=["netsuite"], max_length=60)]


@router.get("", dependencies=[needs(Access.READER)])
def every(service: Service, ledger: LedgerId) -> dict[str, Any]:
    """The general ledgers, with the limits of their files and the settings of the next export."""
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        items = [_answer(connection, ledger, target) for target in TARGETS.values()]
    return answers.page(items, None)


@router.get("/{target}", dependencies=[needs(Access.READER)])
def one(service: Service, ledger: LedgerId, target: TargetName) -> dict[str, Any]:
    """One general ledger."""
    found = targets.target_named(target)
    with service.database.read() as connection:
        ledger_head(connection, ledger)
        return _answer(connection, ledger, found)


@router.put("/{target}", dependencies=[needs(Access.CONTROLLER)])
def change(
    service: Service,
    caller: Caller,
    ledger: LedgerId,
    target: TargetName,
    body: Annotated[dict[str, Any], Body(examples=[{"level": "account", "subsidiary_id": "1"}])],
) -> dict[str, Any]:
    """Sets all settings of a target. A setting that is not given gets its default. Earlier exports do not change."""
    found = targets.target_named(target)
    with service.database.read() as connection:
        ledger_head(connection, ledger)
    targets.set_settings(service.database, ledger, found, body, by=caller)
    with service.database.read() as connection:
        return _answer(connection, ledger, found)


def _answer(connection: AnyConnection, ledger: str, target: Target) -> dict[str, Any]:
    change = targets.change_of(connection, ledger, target)
    return export_answers.target(target, targets.settings_of(connection, ledger, target), change)
