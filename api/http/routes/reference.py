"""The description of the API: the OpenAPI document, and two pages that show it to people.

FastAPI's own pages load scripts from a content delivery network and run them on the origin of this API. Without the
internet they stay empty. Here the scripts are files of this server, and a page can load and call only this server. The
files are from the package fastapi-offline. Its own routes are not used, because they would bypass the guard
(``guarded``) and this policy. Addresses are relative, because a proxy may add a path.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import Final, Literal

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response

from api.http.routes.dependencies import OPEN_TO_ALL
from api.http.routes.guarded import Router

_FILES: Final = Path(str(files("fastapi_offline"))) / "static"
_DOCUMENT: Final = "openapi.json"
_TITLE: Final = "subledger"
_NO_ICON: Final = "data:,"
_INLINE: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_BUILDING: Final = Lock()

router = Router(dependencies=[OPEN_TO_ALL], include_in_schema=False)


@router.get("/")
async def front_door() -> RedirectResponse:
    """Redirects to the description of the API."""
    return RedirectResponse("/docs")


@router.get(f"/{_DOCUMENT}")
async def openapi(request: Request) -> Response:
    """The OpenAPI document. It is built once, by the server or by the first call for it."""
    text: bytes | None = request.app.state.openapi_text
    if text is None:
        text = await run_in_threadpool(openapi_text, request.app)
    return Response(text, media_type="application/json")


def openapi_text(app: FastAPI) -> bytes:
    """The text of the OpenAPI document. Building it takes much of a second, during which other calls wait."""
    with _BUILDING:
        if app.state.openapi_text is None:
            app.state.openapi_text = bytes(JSONResponse(app.openapi()).body)
        text: bytes = app.state.openapi_text
        return text


@router.get("/docs")
async def swagger() -> HTMLResponse:
    """The API in Swagger UI, from which it can be called."""
    return _only_from_here(
        get_swagger_ui_html(
            openapi_url=_DOCUMENT,
            title=_TITLE,
            swagger_favicon_url=_NO_ICON,
            swagger_js_url="reference/swagger-ui-bundle.js",
            swagger_css_url="reference/swagger-ui.css",
        )
    )


@router.get("/redoc")
async def redoc() -> HTMLResponse:
    """The API in ReDoc."""
    return _only_from_here(
        get_redoc_html(
            openapi_url=_DOCUMENT,
            title=_TITLE,
            redoc_favicon_url=_NO_ICON,
            with_google_fonts=False,
            redoc_js_url="reference/redoc.standalone.js",
        )
    )


@router.get("/reference/{file}")
async def loaded(file: Literal["swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js"]) -> FileResponse:
    """A file that one of the pages loads."""
    return FileResponse(_FILES / file, headers={"Cache-Control": "max-age=3600", "X-Content-Type-Options": "nosniff"})


def _only_from_here(page: HTMLResponse) -> HTMLResponse:
    """Adds a policy for the browser to a page: only scripts of this server and of the page itself, only calls to this
    server.
    """
    own = [hashlib.sha256(text.encode()).digest() for text in _INLINE.findall(bytes(page.body).decode())]
    hashes = "".join(f" 'sha256-{base64.b64encode(digest).decode()}'" for digest in own)
    page.headers["Content-Security-Policy"] = (
        f"default-src 'none'; script-src 'self'{hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page
