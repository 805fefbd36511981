"""Refusal of requests that another web site makes a browser send here, before anything else handles them.

The open server (embedded, without keys, on loopback) trusts every caller that can reach it. A browser on the same
machine can reach it on behalf of any page. A request that only reads is refused too, because a checkpoint writes, and a
verification is expensive. Only a link to a page for people may be followed. Owns: the allowed origins of requests, and
the allowed types of bodies. Does not own: authorisation (``access``), the length of bodies.

A browser states the origin of a request in ``Sec-Fetch-Site`` and ``Origin``, which no page can set. A browser sends
some requests to another site without a preflight (the "simple" requests of the Fetch standard). Their content type is
missing, or is a form or plain text. Such bodies are refused.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import SplitResult, parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.media_types import check_no_form
from subledger.errors import CrossSite, SubledgerError

PAGES: Final = ("/", "/docs", "/redoc")
"""Pages for people, to which any site may link. Reports as HTML may be linked too."""
_REPORT: Final = re.compile(r"/v1/ledgers/[^/]+/reports/(?!integrity$)[^/]+")
_OF_THIS_SITE: Final = ("same-origin", "none")
_PORTS: Final = {"http": 80, "https": 443}

Refusal = Callable[[SubledgerError], Callable[[Scope, Receive, Send], Awaitable[None]]]


class SameSiteOnly:
    """Refuses requests from another site, except for followed links. Also refuses bodies that any page could send."""

    def __init__(self, app: ASGIApp, refusal: Refusal) -> None:
        self._app = app
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            try:
                if not _follows_a_link(scope, headers):
                    check_site(headers, scope["scheme"])
                # For other methods a browser sends a preflight first, and gets no permission.
                if scope["method"] == "POST":
                    check_no_form(headers)
            except SubledgerError as error:
                return await self._refusal(error)(scope, receive, send)
        return await self._app(scope, receive, send)


def _follows_a_link(scope: Scope, headers: Headers) -> bool:
    """True if a browser window opens a page for people: no other page can read the answer."""
    is_navigation = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") in (None, "document")
    if scope["method"] != "GET" or not is_navigation:
        return False
    path = scope["path"]
    if path in PAGES:
        return True
    return bool(_REPORT.fullmatch(path)) and parse_qs(scope["query_string"].decode("latin-1")).get("format") == ["html"]


def check_site(headers: Headers, scheme: str) -> None:
    """Raises CrossSite for a request that a browser sends for another site."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        # Browsers set this header. They compare origins as the user sees them, even behind a proxy that changes the
        # Host header.
        if site.lower() in _OF_THIS_SITE:
            return
        raise _cross_site(site)
    for origin in headers.getlist("origin"):
        if not _same_origin(origin, scheme, headers.get("host", "")):
            raise _cross_site(origin)


def _cross_site(found: str) -> CrossSite:
    return CrossSite(
        "another web site sent this request through a browser, and such requests are refused; call from a program, or "
        "from a page of this server",
        expected="a request of no other site",
        found=found[:200],
    )


def _same_origin(origin: str, scheme: str, host: str) -> bool:
    try:
        theirs, ours = urlsplit(origin), urlsplit(f"{scheme}://{host}")
        return bool(theirs.hostname) and _origin(theirs) == _origin(ours)
    except ValueError:  # the port or the address is invalid
        return False


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
