"""Access tokens of OAuth 2.0: requesting them, keeping them in the session, and sending them with each call.

A token is used until shortly before it expires, or until it is refused. Then the next attempt requests another one.

Owns: requests for tokens, signed assertions, the token in the session, and the header. Does not own: the grant that a
vendor needs (each connector).

Sources: RFC 6749 (OAuth 2.0), RFC 7521 and 7523 (assertions), RFC 7515 (``x5t`` and ``x5t#S256``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
import jwt
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from projections.delivery.connectors import connector
from subledger.errors import InvalidInput
from subledger.external import credentials
from subledger.external.calls import Calls, NotAuthorised
from subledger.external.credentials import Credential

Token = tuple[str, float]
"""An access token, hidden from logs, and the seconds for which it can be used."""
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_EARLY_S: Final = 120.0
"""A token is renewed so long before it expires, because a call that begins now arrives later."""
_LASTS_S: Final = 300.0
"""The time for which a token is used if the server does not state its lifetime."""


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


class OAuthSettings(connector.ChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a channel that can use the grant *client credentials* (RFC 6749, section 4.4).

    ``token_url``: of the server that issues tokens. ``client_id``, ``client_secret``: of the client there. ``scope``:
    requested with the token; empty for none.
    """

    token_url: str = ""
    client_id: str = ""
    client_secret: Credential = ""
    scope: str = ""

    def check_client(self) -> None:
        """Checks that the settings of a client are all there, or none of them. Raises InvalidInput."""
        if not (self.token_url or self.client_id or self.client_secret):
            return
        for field in ("client_id", "client_secret"):
            if not getattr(self, field):
                raise InvalidInput(f"{field} is empty", field=field, expected="that of the OAuth client")
        connector.check_url(self.token_url, field="token_url")

    def client_token(self, calls: Calls, server: str) -> Token:
        """Requests a token for the client. Raises NotAuthorised."""
        form = {"grant_type": "client_credentials"} | ({"scope": self.scope} if self.scope else {})
        auth = (self.client_id, credentials.read(self.client_secret))
        return token_of(request_token(calls, server, self.token_url, form, auth=auth))


def request_token(
    calls: Calls,
    server: str,
    url: str,
    form: Mapping[str, str],
    *,
    auth: tuple[str, str] | None = None,
    advice: str = "",
) -> dict[str, Any]:
    """Requests an access token. Returns the members of the answer (RFC 6749, section 5.1), with its tokens hidden.

    ``server`` names the issuer in errors, and ``advice`` says there what a person can do. Raises NotAuthorised if there
    is no token.
    """
    answer = calls.send("POST", url, form=form, auth=auth, headers={"Accept": "application/json"})
    given = _members(answer)
    token = given.get("access_token") if answer.status_code == 200 else None
    if not isinstance(token, str) or not token:
        words = given.get("error_description") or given.get("error") or answer.text
        raise NotAuthorised(
            f"{server} gives no token{advice and f', {advice}'}: {answer.status_code} {str(words)[:500]}"
        )
    calls.hide(token)
    calls.hide(str(given.get("refresh_token") or ""))
    return given


def token_of(given: Mapping[str, Any]) -> Token:
    """Returns the token of an answer, and the seconds for which it can be used."""
    try:
        lasts_s = max(float(given["expires_in"]) - _EARLY_S, 0.0)
    except (KeyError, TypeError, ValueError):
        lasts_s = _LASTS_S
    return str(given["access_token"]), lasts_s


def fixed_token(token: Credential) -> Token:
    """Returns a token that another program renews. It is read again for each call."""
    return credentials.read(token), 0.0


def signed(
    calls: Calls, claims: Mapping[str, Any], private_key: Credential, *, algorithm: str, headers: Mapping[str, str]
) -> str:
    """Returns a signed JSON Web Token, hidden from logs. Raises NotAuthorised if the key cannot sign it."""
    key = calls.hide(credentials.read(private_key))
    try:
        return calls.hide(jwt.encode(dict(claims), key, algorithm=algorithm, headers=dict(headers)))
    except (ValueError, TypeError, jwt.PyJWTError) as error:
        raise NotAuthorised(f"the private key {private_key} cannot sign: {error}") from None


def thumbprints(certificate: Credential) -> dict[str, str]:
    """Returns ``x5t`` and ``x5t#S256`` of a certificate in PEM: RFC 7515, sections 4.1.7 and 4.1.8.

    Raises NotAuthorised if it cannot be read.
    """
    try:
        read = x509.load_pem_x509_certificate(credentials.read(certificate).encode())
    except ValueError as error:
        raise NotAuthorised(f"the certificate {certificate} cannot be read: {error}") from None
    prints = {"x5t": read.fingerprint(SHA1()), "x5t#S256": read.fingerprint(SHA256())}
    return {name: jwt.utils.base64url_encode(content).decode() for name, content in prints.items()}


def _members(answer: httpx.Response) -> dict[str, Any]:
    try:
        content = answer.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
