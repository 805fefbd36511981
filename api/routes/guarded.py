"""The one way into every route: first the right, then the address, then the body, each within its bounds.

FastAPI reads and parses a body before it looks at dependencies, so anybody could make the server work. A
``GuardedRoute`` asks for the right first, which its dependencies name (``needs``, ``needs_everywhere`` or
``OPEN_TO_ALL``): a route that names none, or two, cannot be made.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from email.message import Message
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from api.bodies import Bodies, Bound, read_json
from api.cross_site import UnsupportedMediaType
from api.routes.dependencies import Right
from subledger.errors import InvalidValue, UnknownParameter
from subledger.events import check_texts
from subledger.visible_text import visible
from subledger.wording import did_you_mean

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def takes_body(bound: Bound) -> Callable[[Endpoint], Endpoint]:
    """Gives an endpoint's body a bound of its own. An endpoint that declares no JSON reads ``await request.body()``."""

    def mark(endpoint: Endpoint) -> Endpoint:
        endpoint.body_bound = bound  # type: ignore[attr-defined]  # functions have attributes, their types do not
        return endpoint

    return mark


class GuardedRoute(APIRoute):
    """A route behind its right and its bounds."""

    def get_route_handler(self) -> Handler:
        right = _right_of(self.dependant, self.path)
        known = frozenset(_query_names(self.dependant))
        is_json = self.body_field is not None
        bound: Bound | None = getattr(self.endpoint, "body_bound", Bound() if is_json else None)
        decoding = partial(_decoded, bound or Bound())
        answer = self.answering()

        async def handle(request: Request) -> Response:
            await right.check(request)
            check_address(request, known)
            if bound is None:
                return await answer(request)
            bodies: Bodies = request.app.state.bodies
            text = await bodies.read(request, bound)
            try:
                document = await bodies.decode(text, decoding) if is_json and _says_json(request, text) else None
                return await answer(_ReadRequest(request, text, document))
            finally:
                bodies.release(len(text))

        return handle

    def answering(self) -> Handler:
        """The handler behind the guard: FastAPI's."""
        return super().get_route_handler()


class Router(APIRouter):
    """A router of guarded routes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, route_class=GuardedRoute)


class _ReadRequest(Request):
    """A request whose body has been read, and decoded if it is JSON."""

    def __init__(self, request: Request, text: bytes, document: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._text = text
        self._document = document

    async def body(self) -> bytes:
        return self._text

    async def json(self) -> Any:
        return self._document


def check_address(request: Request, known: frozenset[str]) -> None:
    """Every parameter of the path and the query is text that can be kept, and every one of the query is known.

    Raises InvalidValue, UnknownParameter.
    """
    for name, value in request.path_params.items():
        if isinstance(value, str):
            _check_text(value, name)
    if not request.scope["query_string"]:
        return
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise _unknown(name, known)
        _check_text(value, name)


def _check_text(text: str, field: str) -> None:
    if "\x00" in text:
        raise InvalidValue(f"{field} contains the character NUL", field=field, expected="text without NUL")


def _unknown(name: str, known: frozenset[str]) -> UnknownParameter:
    shown = visible(name[:60])
    return UnknownParameter(
        f"this call has no query parameter {shown}{did_you_mean(name, sorted(known))}", field=shown,
        expected=", ".join(sorted(known)) or "no query parameters", found=shown,
    )  # fmt: skip


def _decoded(bound: Bound, text: bytes) -> Any:
    document = read_json(text, bound)
    check_texts(document, field="body")
    return document


def _says_json(request: Request, text: bytes) -> bool:
    """Raises UnsupportedMediaType for a body that is not said to be JSON; an absent one has no type."""
    if not text:
        return False
    message = Message()
    message["content-type"] = request.headers.get("content-type", "")
    subtype = message.get_content_subtype()
    if message.get_content_maintype() == "application" and (subtype == "json" or subtype.endswith("+json")):
        return True
    found = request.headers.get("content-type", "")[:60] or None
    raise UnsupportedMediaType(
        "this call takes JSON; send it with Content-Type: application/json", field="Content-Type",
        expected="application/json", found=found,
    )  # fmt: skip


def _right_of(dependant: Dependant, path: str) -> Right:
    rights = [below.call for below in dependant.dependencies if isinstance(below.call, Right)]
    if len(rights) != 1:
        raise TypeError(f"the route {path} names {len(rights)} rights; name one: needs(…) or OPEN_TO_ALL")
    return rights[0]


def _query_names(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for below in dependant.dependencies:
        yield from _query_names(below)
