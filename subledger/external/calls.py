"""Calls of another system's API: at its permitted rate, each with a time limit, recorded without secrets.

The record of a call has its request and its answer. Headers with secrets are left out. Every secret that is known at
the end of the attempt is removed from all texts.

A failed call has one of three results, which delivery handles differently:
- ``NotSent``: certainly not done;
- ``Throttled``: certainly not done, to be repeated later;
- ``Unclear``: unknown.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote

import httpx
import msgspec

from subledger.external import bounded_http

REMOVED: Final = "(removed)"
_SECRET_HEADERS: Final = frozenset({"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"})
_KEPT_BYTES: Final = 4 << 20
"""Maximum number of recorded bytes of a body. Journals are far smaller. A longer answer is cut, with a remark."""
_LONGEST_WAIT_S: Final = 3_600.0
_UNCLEAR_STATUS: Final = frozenset({408, 425})
"""Statuses after which the request may still have been processed: a time-out, a refused replay."""
_UNAVAILABLE: Final = 503
_DEFAULT_WAIT_S: Final = 60.0


class NotSent(Exception):
    """The call did not reach the system, so it did nothing."""


class NotAuthorised(NotSent):
    """The system refuses our credentials. It did nothing, and a person must correct them."""


class Throttled(NotSent):
    """The system accepts no more calls for now. It did nothing."""

    def __init__(self, reason: str, *, wait_s: float) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Unclear(Exception):
    """There is no answer, or the answer does not show if the request was processed.

    ``answer`` and ``status``: those of the answer, if any. ``wait_s``: for so long the system asks for no further call;
    None if it does not ask.
    """

    def __init__(
        self, reason: str, *, answer: str = "", status: int | None = None, wait_s: float | None = None
    ) -> None:
        super().__init__(reason)
        self.answer = answer
        self.status = status
        self.wait_s = wait_s


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a call and its answer. ``status`` is None without an answer; ``failure`` is then the reason."""

    at: datetime
    seconds: float
    method: str
    url: str
    headers: dict[str, str]
    body: str
    status: int | None = None
    answer_headers: dict[str, str] = {}
    answer: str = ""
    failure: str | None = None


Turn = Callable[[], None]
"""Waits until one more call is allowed. Raises Throttled if that takes too long."""


class Calls:
    """The calls of one attempt."""

    def __init__(self, client: httpx.Client, *, timeout_s: float, turn: Turn) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._turn = turn
        self._made: list[Exchange] = []
        self._secrets: set[str] = set()
        self.begin_by: float | None = None
        """No call begins after this time of the monotonic clock. So a delayed attempt sends nothing after another
        worker has taken over its delivery and looked it up.
        """

    def hide(self, secret: str) -> str:
        """Removes a secret from all records of this attempt, earlier and later ones. Returns it."""
        if secret:
            self._secrets.add(secret)
        return secret

    def take_turn(self) -> None:
        """Waits until a call by other means than HTTP is allowed. Raises Throttled if that takes too long."""
        self._turn()
        self._check_time()

    def note(self, method: str, url: str, body: str, *, answer: str = "", failure: str | None = None) -> None:
        """Records a call by other means than HTTP."""
        self._made.append(
            Exchange(
                at=datetime.now(UTC),
                seconds=0.0,
                method=method,
                url=url,
                headers={},
                body=body,
                answer=answer,
                failure=failure,
            )
        )

    def _check_time(self) -> None:
        if self.begin_by is not None and time.monotonic() > self.begin_by:
            raise NotSent("the attempt was delayed for too long, so this call is left to a later attempt")

    def clean(self, text: str) -> str:
        """A text for the record: without secrets, and without characters that the database cannot store."""
        text = text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
        for form in sorted({form for secret in self._secrets for form in _forms(secret)}, key=len, reverse=True):
            text = text.replace(form, REMOVED)
        return text

    def take_exchanges(self) -> list[Exchange]:
        """Returns the records of calls since the last time, without secrets."""
        clean = self.clean
        made_since, self._made = self._made, []
        return [
            msgspec.structs.replace(
                made,
                url=clean(made.url),
                body=clean(made.body),
                answer=clean(made.answer),
                headers={name: clean(value) for name, value in made.headers.items()},
                answer_headers={name: clean(value) for name, value in made.answer_headers.items()},
                failure=made.failure and clean(made.failure),
            )
            for made in made_since
        ]

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
    ) -> httpx.Response:
        """Makes one call. Returns answers of 200 to 299, and those of 400 to 499 that are about the content.

        Raises these errors; ``wait_s`` of an error is the ``Retry-After`` of 429 and 503:
        - Throttled for 429;
        - NotAuthorised for 401 and 403;
        - NotSent if no connection was made, or the answer is a redirection;
        - Unclear for 408, 425, 5xx and for a missing answer.
        """
        self.take_turn()
        try:
            request = self._client.build_request(
                method, url, headers=dict(headers or {}), content=content, json=json, data=form, timeout=self._timeout_s
            )
        except (httpx.InvalidURL, ValueError, UnicodeError) as error:
            raise NotSent(f"the address {url} cannot be called: {error}") from error
        request.headers["Accept-Encoding"] = bounded_http.ACCEPT_ENCODING
        if auth is not None:
            self.hide(auth[1])
            basic = self.hide(base64.b64encode(":".join(auth).encode()).decode())
            request.headers["Authorization"] = f"Basic {basic}"
        self.hide(request.headers.get("Authorization", "").partition(" ")[2])
        at, started = datetime.now(UTC), time.monotonic()
        response, failure = None, None
        try:
            response = bounded_http.send(self._client, request, within_s=self._timeout_s)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
            failure = f"{type(error).__name__}: {error}"
            raise NotSent(f"{request.url.host} cannot be reached: {error}") from error
        except httpx.HTTPError as error:
            failure = f"{type(error).__name__}: {error}"
            raise Unclear(f"{request.url.host} did not answer: {failure}") from error
        finally:
            self._keep(request, response, failure, at, time.monotonic() - started)
        return _checked(response)

    def _keep(
        self, request: httpx.Request, response: httpx.Response | None, failure: str | None, at: datetime, took: float
    ) -> None:
        self._made.append(
            Exchange(
                at=at,
                seconds=round(took, 3),
                method=request.method,
                url=str(request.url),
                headers=_shown(request.headers),
                body=_text(request.content),
                failure=failure,
                status=response.status_code if response is not None else None,
                answer_headers=_shown(response.headers) if response is not None else {},
                answer=_text(response.content) if response is not None else "",
            )
        )


def _checked(response: httpx.Response) -> httpx.Response:
    status, host = response.status_code, response.request.url.host
    if status == 429:
        named_wait = _wait_of(response)
        wait = _DEFAULT_WAIT_S if named_wait is None else named_wait
        raise Throttled(f"{host} takes no more calls for {wait:.0f} s", wait_s=wait)
    if status in (401, 403):
        raise NotAuthorised(f"{host} answered {status}: check the channel's credentials and the role behind them")
    if 300 <= status < 400:
        raise NotSent(f"{host} answered {status}: it redirects to {response.headers.get('Location', '')[:200]}")
    if status >= 500 or status in _UNCLEAR_STATUS:
        # A service that is unavailable may say for how long: RFC 9110, section 15.6.4. A gateway answers 503 also after
        # it has passed the request on, so the result stays unknown.
        wait_s = _wait_of(response) if status == _UNAVAILABLE else None
        raise Unclear(f"{host} answered {status}", answer=response.text, status=status, wait_s=wait_s)
    return response


def _wait_of(response: httpx.Response) -> float | None:
    """``Retry-After`` in seconds, as a number or a date: RFC 9110, section 10.2.3. Never negative, an hour at most."""
    given = response.headers.get("Retry-After", "").strip()
    try:
        wait = float(given)
    except ValueError:
        try:
            wait = (parsedate_to_datetime(given) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(wait, 0.0), _LONGEST_WAIT_S) if wait == wait else None


def _shown(headers: httpx.Headers) -> dict[str, str]:
    return {name: REMOVED if name.lower() in _SECRET_HEADERS else value for name, value in headers.items()}


def _text(body: bytes) -> str:
    beginning = body[:_KEPT_BYTES]
    try:
        text = beginning.decode()
    except UnicodeDecodeError:
        text = "base64:" + base64.b64encode(beginning).decode()
    # A text column cannot store NUL.
    text = text.replace("\x00", "\ufffd")
    return text if len(body) <= _KEPT_BYTES else f"{text}… ({len(body)} bytes in all)"


def _forms(secret: str) -> set[str]:
    """The forms in which a secret may appear in a text: plain, in a URL or a form, in JSON or XML."""
    json_text = msgspec.json.encode(secret).decode()[1:-1]
    xml = secret.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {secret, quote(secret), quote(secret, safe=""), json_text, xml, xml.replace('"', "&quot;")}
