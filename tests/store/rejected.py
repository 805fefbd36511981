"""The stored rejections of a ledger, and a refused event to store."""

from __future__ import annotations

from api.service import Subledger
from subledger.events.rejections import read_rejection
from subledger.store.rejected import rejections
from subledger.store.rejected.keeper import Refusal
from subledger.store.rejected.rejections import START, Chosen, Kept

EVERYTHING = Chosen()


def kept(service: Subledger, ledger: str, chosen: Chosen = EVERYTHING) -> list[Kept]:
    """Returns the rejections of a ledger, oldest first."""
    with service.database.read() as connection:
        return rejections.rejections_page(connection, ledger, chosen, after=START, limit=1_000)


def refusal(text: bytes, code: str = "insufficient_credits") -> Refusal:
    """Returns a refusal of an event, from its text."""
    return Refusal(rejection=read_rejection(text), code=code, problem={"code": code, "detail": "why"})
