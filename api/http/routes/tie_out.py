"""Tie-out: the general ledger's trial balance compared with the handed-over journals."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body
from pydantic import BaseModel, ConfigDict, Field

from api.access import Access
from api.bounded_json import Bound
from api.http.routes.dependencies import Caller, ChannelName, LedgerId, Service, needs
from api.http.routes.guarded import Router, takes_body
from api.limits import MAX_TIE_OUT_BODY, MAX_VALUES_OF_ROWS
from api.shapes import exports as export_answers
from projections.delivery import tie_out as tying
from projections.delivery.tying import tie_out_channel
from subledger.errors import InvalidInput
from subledger.periods import Period
from subledger.store.reading.ledgers import ledger_head

router = Router(prefix="/v1/ledgers/{ledger}/tie-out", tags=["exports"])
of_channel = Router(prefix="/v1/ledgers/{ledger}/channels/{channel}/tie-out", tags=["delivery"])


_BOOKS = Bound(MAX_TIE_OUT_BODY, "compare fewer months at once", values=MAX_VALUES_OF_ROWS)


class TheirRow(BaseModel):
    """The movement of an account of the general ledger in a month, or its balance at the end; debit positive."""

    model_config = ConfigDict(extra="forbid", strict=True)

    account: str = Field(max_length=200)
    period: str
    debit: str | None = None
    credit: str | None = None
    balance: str | None = None


class TheirBooks(BaseModel):
    """The rows, or the text of a CSV file with the same columns."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rows: list[TheirRow] | None = Field(default=None, max_length=100_000)
    csv: str | None = Field(default=None, max_length=MAX_TIE_OUT_BODY)
    accounts: list[str] = Field(
        default=[], description="Compare only these accounts; default: accounts to which only the sub-ledger posts"
    )


@router.post("", dependencies=[needs(Access.READER)])
@takes_body(_BOOKS)
def compare(
    service: Service,
    ledger: LedgerId,
    body: Annotated[
        TheirBooks,
        Body(examples=[{"rows": [{"account": "2150", "period": "2026-01", "debit": "10.00", "credit": "250.00"}]}]),
    ],
) -> dict[str, Any]:
    """Compares each account in each month. Nothing is stored.

    A difference names its journals and their lines. The export of a journal leads to the entries.
    """
    if (body.rows is None) == (body.csv is None):
        raise InvalidInput("send rows, or csv", field="rows", expected="one of rows and csv")
    with service.database.read() as connection:
        theirs = _theirs(body, ledger_head(connection, ledger).state.functional_currency)
        return export_answers.tie_out(tying.tie_out(connection, ledger, theirs, accounts=body.accounts))


class TheirChannel(TheirBooks):
    """The rows of the general ledger, or a CSV file. Without them the general ledger is called."""

    periods: list[str] = Field(default=[], description="Request these months; default all delivered months")


@of_channel.post("", dependencies=[needs(Access.CONTROLLER)])
@takes_body(_BOOKS)
def compare_channel(
    service: Service, caller: Caller, ledger: LedgerId, channel: ChannelName, body: TheirChannel
) -> dict[str, Any]:
    """Compares the general ledger behind a channel. If all accounts of a month tie, its deliveries become
    reconciled.
    """
    if body.rows is not None and body.csv is not None:
        raise InvalidInput("send rows, or csv, or neither", field="rows", expected="one of rows and csv, or none")
    with service.database.read() as connection:
        functional_currency = ledger_head(connection, ledger).state.functional_currency
    theirs = None if body.rows is None and body.csv is None else _theirs(body, functional_currency)
    found, deliveries = tie_out_channel(
        service.database,
        ledger,
        channel,
        theirs,
        periods=[Period.parse(name) for name in body.periods],
        accounts=body.accounts,
        by=caller,
    )
    return export_answers.tie_out(found, deliveries)


def _theirs(body: TheirBooks, functional_currency: str) -> list[tying.Theirs]:
    if body.csv is not None:
        return tying.read_trial_balance(body.csv, functional_currency)
    return tying.theirs_of([row.model_dump(exclude_none=True) for row in body.rows or ()], functional_currency)
