"""The guard of every route: it checks first the right, then the address, then the body, each within its limits.

FastAPI reads and parses a body before it looks at dependencies, so callers without a key could keep the server busy. A
``GuardedRoute`` checks the right first. Its dependencies name the right (``needs``, ``needs_everywhere`` or
``OPEN_TO_ALL``). A route that names none, or two, cannot be created.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar, get_args, get_origin

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from api.bounded_json import Bound, read_json
from api.http.bodies import Bodies
from api.http.media_types import JSON, check_body
from api.http.routes.dependencies import Right
from subledger.errors import (
    InvalidInput,
    InvalidValue,
    RepeatedParameter,
    TooLarge,
    UnknownParameter,
    UnsupportedMediaType,
)
from subledger.events.envelope import check_texts
from subledger.text.visible_text import visible
from subledger.text.wording import did_you_mean

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def takes_body(bound: Bound, types: tuple[str, ...] = JSON) -> Callable[[Endpoint], Endpoint]:
    """Gives an endpoint its own limits and media types for the body.

    An endpoint that declares no JSON reads ``await request.body()``.
    """

    def mark(endpoint: Endpoint) -> Endpoint:
        endpoint.body_bound = bound  # type: ignore[attr-defined]  # functions have attributes, their types do not
        endpoint.body_types = types  # type: ignore[attr-defined]  # likewise
        return endpoint

    return mark


class GuardedRoute(APIRoute):
    """A route whose right, address and body are checked first."""

    def get_route_handler(self) -> Handler:
        right = _right_of(self.dependant, self.path)
        known = dict(_query_parameters(self.dependant))
        is_json = self.body_field is not None
        bound: Bound | None = getattr(self.endpoint, "body_bound", Bound() if is_json else None)
        types: tuple[str, ...] = getattr(self.endpoint, "body_types", JSON)
        decoding = partial(_decoded, bound or Bound())
        answer = self.answering()

        async def handle(request: Request) -> Response:
            await right.check(request)
            check_address(request, known)
            if bound is None:
                return await answer(request)
            bodies: Bodies = request.app.state.bodies
            try:
                check_body(request.headers, types)
                text = await bodies.read(request, bound)
            except (TooLarge, UnsupportedMediaType) as error:
                await self.not_taken_in(request, error)
                raise
            try:
                body_value = await bodies.decode(text, decoding) if is_json and text else None
                return await answer(_ReadRequest(request, text, body_value))
            finally:
                bodies.release(len(text))

        return handle

    async def not_taken_in(self, request: Request, error: InvalidInput) -> None:
        """Called before the answer if a caller with the right sends a body that is too large or of an unsupported
        type.
        """

    def answering(self) -> Handler:
        """FastAPI's handler, which runs after the checks."""
        return super().get_route_handler()


class Router(APIRouter):
    """A router of guarded routes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, route_class=GuardedRoute)


class _ReadRequest(Request):
    """A request whose body has been read, and decoded if it is JSON."""

    def __init__(self, request: Request, text: bytes, body_value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._text = text
        self._body_value = body_value

    async def body(self) -> bytes:
        return self._text

    async def json(self) -> Any:
        return self._body_value


def check_address(request: Request, known: Mapping[str, bool]) -> None:
    """Checks the parameters of the path and the query.

    Their text must be storable. Those of the query must be known and given once. ``known`` has their names, with True
    for a list, which may be given several times.

    Raises InvalidValue, UnknownParameter, RepeatedParameter.
    """
    for name, value in request.path_params.items():
        if isinstance(value, str):
            _check_text(value, name)
    if not request.scope["query_string"]:
        return
    seen: set[str] = set()
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise _unknown(name, known)
        if name in seen and not known[name]:
            raise RepeatedParameter(
                f"the query parameter {name} takes one value, but is given more than once; send it once",
                field=name,
                expected=f"{name} once",
            )
        seen.add(name)
        _check_text(value, name)


def _check_text(text: str, field: str) -> None:
    if "\x00" in text:
        raise InvalidValue(f"{field} contains the character NUL", field=field, expected="text without NUL")


def _unknown(name: str, known: Mapping[str, bool]) -> UnknownParameter:
    shown = visible(name[:60])
    return UnknownParameter(
        f"this call has no query parameter {shown}{did_you_mean(name, sorted(known))}",
        field=shown,
        expected=", ".join(sorted(known)) or "no query parameters",
        found=shown,
    )


def _decoded(bound: Bound, text: bytes) -> Any:
    body_value = read_json(text, bound)
    check_texts(body_value, field="body")
    return body_value


def _right_of(dependant: Dependant, path: str) -> Right:
    rights = [below.call for below in dependant.dependencies if isinstance(below.call, Right)]
    if len(rights) != 1:
        raise TypeError(f"the route {path} names {len(rights)} rights; name one: needs(…) or OPEN_TO_ALL")
    return rights[0]


def _query_parameters(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    yield from ((field.alias, _is_list(field.field_info.annotation)) for field in dependant.query_params)
    for below in dependant.dependencies:
        yield from _query_parameters(below)


def _is_list(annotation: object) -> bool:
    """True for a list type, which may be optional or annotated."""
    return get_origin(annotation) is list or any(_is_list(each) for each in get_args(annotation))
