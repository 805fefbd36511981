"""Dependencies of the routes: the service, the caller's access, a point in time."""

from __future__ import annotations

from asyncio import AbstractEventLoop, get_running_loop
from datetime import date, datetime
from ipaddress import ip_address
from typing import Annotated, Any
from weakref import WeakKeyDictionary

from fastapi import Depends, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from api import keys
from api.access import EVERY_LEDGER, Access, KeyDesk, authorize
from api.service import Subledger
from subledger.errors import InvalidValue, NotAuthenticated
from subledger.events.fields import MAX_ID, parse_time
from subledger.persons import NOBODY, kept_name
from subledger.store.database import Database


class Guard:
    """Lets calls in and stores the name of their caller, or raises NotAuthenticated or NotAllowed."""

    def __init__(self, database: Database, *, open_on_loopback: bool) -> None:
        self._database = database
        self._open_on_loopback = open_on_loopback
        self._desks: WeakKeyDictionary[AbstractEventLoop, KeyDesk] = WeakKeyDictionary()

    async def check(self, request: Request, ledger: str | None, needed: Access) -> None:
        """Checks the caller's key. ``ledger`` is None for a call that a key of any ledger may make; the answer is then
        about the key's own ledger, ``request.state.scope``.
        """
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and key.strip():
            found, _ = await self._desk().find(key.strip())
            known = authorize(found, ledger=ledger, needed=needed)
            request.state.caller, request.state.key_id = kept_name(known.name), known.key_id
            request.state.rights, request.state.scope = Access[known.role.upper()], known.ledger
            return
        if self._open_on_loopback and _from_this_machine(request):
            _, any_key_exists = await self._desk().find(None)
            if not any_key_exists:
                request.state.rights, request.state.scope = Access.ADMIN, EVERY_LEDGER
                return
        raise NotAuthenticated("this call needs a key", expected="Authorization: Bearer KEY")

    def _desk(self) -> KeyDesk:
        loop = get_running_loop()
        desk = self._desks.get(loop)
        if desk is None:
            desk = self._desks[loop] = KeyDesk(self._database)
        return desk


_OF_PROXIES = (
    "forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-real-ip",
)  # fmt: skip


def _from_this_machine(request: Request) -> bool:
    # The Host header is checked too, because a page in a browser on this machine may resolve its own name to loopback.
    # A call through a proxy may come from anybody who can reach the proxy, whatever the proxy says about it.
    if any(header in request.headers for header in _OF_PROXIES):
        return False
    host = request.url.hostname or ""
    try:
        named = host == "localhost" or ip_address(host).is_loopback
        return named and request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        return False


async def _service(request: Request) -> Subledger:
    service: Subledger = request.app.state.service
    return service


def caller_of(request: Request) -> str:
    """The name of the caller's key. Without keys it is `nobody`, who can request but is never a second person."""
    name: str = getattr(request.state, "caller", NOBODY)
    return name


async def _caller(request: Request) -> str:
    return caller_of(request)


async def _makers(service: Annotated[Subledger, Depends(_service)], request: Request) -> tuple[str, ...]:
    key_id: str | None = getattr(request.state, "key_id", None)
    return () if key_id is None else await run_in_threadpool(keys.makers_of, service.database, key_id)


async def _rights(request: Request) -> Access:
    rights: Access = getattr(request.state, "rights", Access.READER)
    return rights


Caller = Annotated[str, Depends(_caller)]
Makers = Annotated[tuple[str, ...], Depends(_makers)]
"""The names of the creators of the caller's key."""
Rights = Annotated[Access, Depends(_rights)]
"""The caller's role, for answers that show more to some roles."""
Service = Annotated[Subledger, Depends(_service)]
MAX_LEDGER_ID = 64
ChannelName = Annotated[
    str, Path(description="The channel", examples=["netsuite"], max_length=60, pattern=r"^[^\x00]+$")
]
LedgerId = Annotated[
    str, Path(description="The ledger", examples=["acme"], max_length=MAX_LEDGER_ID, pattern=r"^[^\x00]+$")
]


class Right:
    """The right to call a route.

    ``routes.guarded`` checks it before it reads anything else of the call, so as a dependency it does nothing. It is a
    dependency so that a route declares it beside its parameters.
    """

    async def check(self, request: Request) -> None:
        """Raises NotAuthenticated or NotAllowed."""

    async def __call__(self) -> None:
        pass


class KeyRight(Right, SecurityBase):
    """The right of a key. It is a security scheme, so FastAPI describes it in the OpenAPI document."""

    scheme_name = "key"
    model = HTTPBearer(
        description="`subledger keys create` makes one. The open server needs none while no key exists (api/README.md)."
    )

    def __init__(self, access: Access, *, of_ledger: bool, of_any: bool = False) -> None:
        self._access = access
        self._of_ledger = of_ledger
        self._of_any = of_any

    async def check(self, request: Request) -> None:
        """Raises NotAuthenticated or NotAllowed."""
        ledger = request.path_params["ledger"] if self._of_ledger else None if self._of_any else EVERY_LEDGER
        await request.app.state.guard.check(request, ledger, self._access)


def needs(access: Access) -> Any:
    """The right to call a route of one ledger."""
    return Depends(KeyRight(access, of_ledger=True))


def needs_everywhere(access: Access) -> Any:
    """The right to call a route that is not about one ledger."""
    return Depends(KeyRight(access, of_ledger=False))


OPEN_TO_ALL = Depends(Right())
"""For routes that anybody may call."""


def needs_in_its_ledger(access: Access) -> Any:
    """The right to call a route that answers only for the key's own ledger."""
    return Depends(KeyRight(access, of_ledger=False, of_any=True))


async def _scope(request: Request) -> str:
    scope: str = request.state.scope
    return scope


Scope = Annotated[str, Depends(_scope)]
"""The ledger of the caller's key, or ``*``."""

AsOf = Annotated[
    date | None, Query(description="The books through the end of this day; default today", examples=["2026-01-31"])
]


async def _known_at(
    known_at: Annotated[
        str | None, Query(description="As known at this moment; default now", examples=["2026-02-03T09:00:00Z"])
    ] = None,
) -> datetime | None:
    # A plus sign in a query means a space, but people write offsets with an unescaped plus.
    return None if known_at is None else parse_time(known_at.replace(" ", "+"), field="known_at")


KnownAt = Annotated[datetime | None, Depends(_known_at)]
Limit = Annotated[int, Query(ge=1, le=1000, description="The maximum number of items in a page")]
Cursor = Annotated[str | None, Query(description="`next` of the previous page", max_length=2000)]
Text = Annotated[str | None, Query(max_length=MAX_ID, pattern=r"^[^\x00]+$")]


def check_day(day: date | None, field: str) -> date | None:
    """Checks that a day is within the range of the calendar arithmetic. Raises InvalidValue."""
    if day is not None and not 1900 <= day.year <= 8999:
        raise InvalidValue(
            f"{field} is out of range", field=field, expected="a day between 1900 and 8999", found=day.isoformat()
        )
    return day
