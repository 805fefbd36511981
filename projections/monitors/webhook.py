"""The call that sends one notice to a webhook.

Owns: the call. Does not own: its signature (external/signing), the content of a notice and its retries (notices).
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import httpx

from projections.monitors.settings import MonitorSettings
from subledger.external import bounded_http, credentials
from subledger.external.calls import NotAuthorised
from subledger.external.signing import signed_headers

TIMEOUT_S: Final = 10.0


def send(settings: MonitorSettings, notice_id: str, body: bytes, now: datetime) -> str | None:
    """Sends a notice. Returns None if the receiver accepted it (200 to 299), else the reason in words.

    The reason names only the host, because the path and the query of the address may contain a secret.
    """
    try:
        secret = credentials.read(settings.webhook_secret)
        host = httpx.URL(settings.webhook).host
        headers = {"content-type": "application/json", **signed_headers(secret, notice_id, body, now)}
        # The body of the answer is not read: only the status counts.
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
