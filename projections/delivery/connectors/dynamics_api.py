"""Calls to Dynamics 365 Finance, with a token of Entra ID: actions of the package API, and records by OData.

Owns: tokens, pages, and reading errors. Does not own: the requests (dynamics).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Annotated, Any, Final
from urllib.parse import quote
from uuid import uuid4

import httpx
import msgspec

from projections.delivery.connectors import connector
from projections.delivery.connectors.bearer import (
    ASSERTION_TYPE,
    BearerCalls,
    Token,
    request_token,
    signed,
    thumbprints,
    token_of,
)
from subledger.errors import InvalidInput
from subledger.external import credentials
from subledger.external.calls import Calls, Unclear
from subledger.external.credentials import Credential

_ACTIONS: Final = "/data/DataManagementDefinitionGroups/Microsoft.Dynamics.DataEntities."
_PAGES: Final = 4
_Name = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9._-]+\\Z")]


class Settings(connector.ChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a channel to Dynamics.

    ``url``: of the environment. ``tenant``, ``client_id``: of an application that is registered in Entra ID and, under
    *Microsoft Entra ID applications*, in Dynamics. ``client_secret``: of the application; or ``certificate`` with
    ``private_key``, both in PEM: the certificate that was uploaded for it. ``authority``: the server of tokens.

    The company and the name of the import project (``definition_group``) are in the settings of the target.
    """

    url: str
    tenant: _Name
    client_id: _Name
    client_secret: Credential = ""
    certificate: Credential = ""
    private_key: Credential = ""
    authority: str = "https://login.microsoftonline.com"
    settle_s: float = 3_600.0

    def check(self) -> None:
        connector.check_url(self.url)
        connector.check_url(self.authority, field="authority")
        if bool(self.certificate) != bool(self.private_key):
            missing = "private_key" if self.certificate else "certificate"
            raise InvalidInput("a certificate needs its private key", field=missing, expected="both, or neither")
        if bool(self.client_secret) == bool(self.certificate):
            raise InvalidInput(
                "a channel to Dynamics needs a client secret, or a certificate with its private key",
                field="client_secret",
                expected="one of them, as env:… or file:…",
            )


class DynamicsApi:
    """The calls of one attempt. The token is stored in ``session``."""

    def __init__(self, settings: Settings, calls: Calls, session: dict[str, Any]) -> None:
        self._settings = settings
        self._calls = calls
        self._session = session
        self._base = settings.url.rstrip("/")

    def act(self, action: str, **parameters: Any) -> httpx.Response:
        """Calls an action of the package API."""
        return self._call("POST", f"{self._base}{_ACTIONS}{action}", json=parameters)

    def records(self, entity: str, **equal: str) -> Iterator[dict[str, Any]]:
        """Yields the records of an entity, of all companies, that have these values. Raises Unclear."""
        quoted = {name: value.replace("'", "''") for name, value in equal.items()}
        condition = " and ".join(f"{name} eq '{value}'" for name, value in quoted.items())
        url = f"{self._base}/data/{entity}?cross-company=true&$filter={quote(condition)}"
        for _ in range(_PAGES):
            answer = self._call("GET", url)
            if answer.status_code != 200:
                raise Unclear(f"Dynamics gave no clear answer: {refusal(answer)}")
            page = answer.json()
            yield from page["value"]
            url = page.get("@odata.nextLink") or ""
            if not url:
                return
            if not url.startswith(f"{self._base}/"):  # the token is sent to no other address
                break
        raise Unclear(f"Dynamics has more {entity} than can be read")

    def _call(self, method: str, url: str, **more: Any) -> httpx.Response:
        calls = BearerCalls(self._calls, self._session, self._new_token)
        return calls.send(method, url, headers={"Accept": "application/json"}, **more)

    def _new_token(self) -> Token:
        settings = self._settings
        url = f"{settings.authority.rstrip('/')}/{settings.tenant}/oauth2/v2.0/token"
        form = {
            "grant_type": "client_credentials",
            "client_id": settings.client_id,
            "scope": f"{self._base}/.default",
            **(self._assertion(url) if settings.certificate else self._secret()),
        }
        return token_of(request_token(self._calls, "Entra ID", url, form))

    def _secret(self) -> dict[str, str]:
        return {"client_secret": self._calls.hide(credentials.read(self._settings.client_secret))}

    def _assertion(self, url: str) -> dict[str, str]:
        """Returns a signed assertion: Microsoft identity platform, *certificate credentials*."""
        settings, now = self._settings, int(time.time())
        claims = {
            "aud": url,
            "iss": settings.client_id,
            "sub": settings.client_id,
            "jti": str(uuid4()),
            "iat": now,
            "nbf": now,
            "exp": now + 300,
        }
        thumbprint = {"x5t#S256": thumbprints(settings.certificate)["x5t#S256"]}
        assertion = signed(self._calls, claims, settings.private_key, algorithm="PS256", headers=thumbprint)
        return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}


def value_of(answer: httpx.Response) -> str:
    """Returns the text in an action's answer. Older versions put it into another ``value``."""
    value = answer.json()["value"]
    return str(value["value"] if isinstance(value, dict) else value)


def refusal(answer: httpx.Response) -> str:
    """Returns the error in Dynamics' words: the innermost message of an OData error, or Entra's description."""
    try:
        error = answer.json()["error"]
        message = answer.json()["error_description"] if isinstance(error, str) else _innermost(error)
    except (ValueError, KeyError, TypeError, AttributeError):
        message = answer.text
    return f"{answer.status_code} {message[:500]}"


def _innermost(error: dict[str, Any]) -> str:
    inner = error.get("innererror")
    return _innermost(inner) if isinstance(inner, dict) and inner.get("message") else str(error["message"])
