"""Signatures of webhooks by Standard Webhooks (standardwebhooks.com), which any of its libraries can verify.

    webhook-id          the id of the message, the same whenever it is sent again
    webhook-timestamp   the time of this attempt, in seconds since 1970
    webhook-signature   v1,BASE64(HMAC-SHA256(secret, "id.timestamp.body"))

A secret that begins with ``whsec_`` is BASE64 after it, as in the specification. The bytes of any other text are the
secret.

Owns: the signature. Does not own: the secret (credentials), the call (bounded_http).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from datetime import datetime
from typing import Final

_PREFIX: Final = "whsec_"


def signed_headers(secret: str, message_id: str, body: bytes, now: datetime) -> dict[str, str]:
    """The three headers of a message whose body is signed now."""
    seconds = int(now.timestamp())
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": signature(secret, message_id, seconds, body),
    }


def signature(secret: str, message_id: str, seconds: int, body: bytes) -> str:
    """The value of ``webhook-signature``."""
    signed = f"{message_id}.{seconds}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()


def _key(secret: str) -> bytes:
    if secret.startswith(_PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except binascii.Error:
            pass
    return secret.encode()
