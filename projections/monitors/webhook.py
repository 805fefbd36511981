"""One notice to a webhook, signed by Standard Webhooks (standardwebhooks.com): what any of its libraries can verify.

    webhook-id          the notice's id, the same whenever it is sent again
    webhook-timestamp   when this attempt was made, in seconds since 1970
    webhook-signature   v1,BASE64(HMAC-SHA256(secret, "id.timestamp.body"))

The secret is BASE64 after ``whsec_``, as the specification writes it; any other text is taken as its bytes.

Owns: the signature and the call. Does not own: what is told, and when it is tried again (notices).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import datetime
from typing import Final

import httpx

from projections.monitors.settings import MonitorSettings
from subledger.external import bounded_http, credentials
from subledger.external.calls import NotAuthorised

TIMEOUT_S: Final = 10.0
_PREFIX: Final = "whsec_"


def send(settings: MonitorSettings, notice_id: str, body: bytes, now: datetime) -> str | None:
    """Sends it. None where the other side has taken it: an answer of 200 to 299. Else why not, without the address's
    path or query, which may hold a secret of their own.
    """
    try:
        secret = credentials.read(settings.webhook_secret)
        host = httpx.URL(settings.webhook).host
        seconds = int(now.timestamp())
        headers = {
            "content-type": "application/json", "webhook-id": notice_id, "webhook-timestamp": str(seconds),
            "webhook-signature": signature(secret, notice_id, seconds, body),
        }  # fmt: skip
        # What it says beside the status is not waited for.
        with (
            bounded_http.client() as client,
            bounded_http.deadline(TIMEOUT_S),
            client.stream("POST", settings.webhook, content=body, headers=headers, timeout=TIMEOUT_S) as response,
        ):
            return None if response.is_success else f"{host} answered {response.status_code}"
    except NotAuthorised as error:
        return str(error)
    except httpx.HTTPError as error:
        return f"{host} did not take it: {type(error).__name__}"


def signature(secret: str, notice_id: str, seconds: int, body: bytes) -> str:
    """The header that proves where a body is from."""
    signed = f"{notice_id}.{seconds}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()


def _key(secret: str) -> bytes:
    if secret.startswith(_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            pass
    return secret.encode()
