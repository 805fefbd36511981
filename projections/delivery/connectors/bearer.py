"""Calls with an access token of OAuth 2.0. The session keeps the token until the token expires or is refused.

Owns: the token in the session, and the header. Does not own: getting a token (each connector).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

from subledger.external.calls import Calls, NotAuthorised

Token = tuple[str, float]
"""An access token, hidden from logs, and the seconds for which it can be used."""


class BearerCalls:
    """The calls of one attempt, each with the token. ``get_token`` is called if the session has no valid token."""

    def __init__(self, calls: Calls, session: dict[str, Any], get_token: Callable[[], Token]) -> None:
        self._calls = calls
        self._session = session
        self._get_token = get_token

    def send(self, method: str, url: str, *, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        """Sends a call with the token, like ``Calls.send``. A refused token is removed, so the next attempt gets a new
        one.
        """
        authorised = {**(headers or {}), "Authorization": f"Bearer {self._calls.hide(self._token())}"}
        try:
            return self._calls.send(method, url, headers=authorised, **more)
        except NotAuthorised:
            self._session.pop("token", None)
            raise

    def _token(self) -> str:
        known = self._session.get("token")
        if known is not None and known[1] > time.monotonic():
            return str(known[0])
        token, lasts_s = self._get_token()
        self._session["token"] = (token, time.monotonic() + lasts_s)
        return token
