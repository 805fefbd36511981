"""What every route asks for: the service, the caller's right, a point in time."""

from __future__ import annotations

from datetime import date, datetime
from ipaddress import ip_address
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request

from api.access import EVERY_LEDGER, Access, NotAuthenticated, any_key_exists, authorize
from api.service import Subledger
from subledger.errors import InvalidValue
from subledger.event_data import parse_time
from subledger.store.database import Database
from subledger.store.recorder import NOBODY


class Guard:
    """Lets calls in and remembers whose they are, or raises NotAuthenticated or NotAllowed."""

    def __init__(self, database: Database, *, open_on_loopback: bool) -> None:
        self._database = database
        self._open_on_loopback = open_on_loopback

    def check(self, request: Request, ledger: str, needed: Access) -> None:
        header = request.headers.get("authorization", "")
        scheme, _, key = header.partition(" ")
        if scheme.lower() == "bearer" and key.strip():
            request.state.caller = authorize(self._database, key.strip(), ledger=ledger, needed=needed)
        elif not (self._open_on_loopback and _from_this_machine(request) and not any_key_exists(self._database)):
            raise NotAuthenticated("this call needs a key", expected="Authorization: Bearer KEY")


def _from_this_machine(request: Request) -> bool:
    # The Host is looked at too: a page in a browser here may resolve its own name to loopback.
    host = request.url.hostname or ""
    try:
        named = host == "localhost" or ip_address(host).is_loopback
        return named and request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _service(request: Request) -> Subledger:
    service: Subledger = request.app.state.service
    return service


def _caller(request: Request) -> str:
    """Whose key it is. Without keys everybody is the same nobody, who can ask and never be a second person."""
    name: str = getattr(request.state, "caller", NOBODY)
    return name


Caller = Annotated[str, Depends(_caller)]
Service = Annotated[Subledger, Depends(_service)]
LedgerId = Annotated[str, Path(description="The ledger", examples=["acme"], max_length=64, pattern=r"^[^\x00]+$")]


def needs(access: Access) -> Any:
    """The right to call a route of one ledger."""

    def check(request: Request, ledger: LedgerId) -> None:
        request.app.state.guard.check(request, ledger, access)

    return Depends(check)


def needs_everywhere(access: Access) -> Any:
    """The right to call a route that is of no one ledger."""

    def check(request: Request) -> None:
        request.app.state.guard.check(request, EVERY_LEDGER, access)

    return Depends(check)


AsOf = Annotated[
    date | None,
    Query(description="The books through the end of this day; default today", examples=["2026-01-31"]),
]


def _known_at(
    known_at: Annotated[
        str | None, Query(description="As known at this moment; default now", examples=["2026-02-03T09:00:00Z"])
    ] = None,
) -> datetime | None:
    # A plus sign in a query means a space, and people write offsets as they are.
    return None if known_at is None else parse_time(known_at.replace(" ", "+"), field="known_at")


KnownAt = Annotated[datetime | None, Depends(_known_at)]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many items a page has at most")]
Cursor = Annotated[str | None, Query(description="`next` of the page before", max_length=2000)]
Text = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]+$")]


def check_day(day: date | None, field: str) -> date | None:
    """Days that the calendar arithmetic can bear. Raises InvalidValue."""
    if day is not None and not 1900 <= day.year <= 8999:
        raise InvalidValue(
            f"{field} is out of range", field=field, expected="a day between 1900 and 8999", found=day.isoformat()
        )
    return day
