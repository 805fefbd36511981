"""Notices: a change is sent once, whichever process checks. A notice that was not accepted is sent again, with the same
id, in order.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from api.service import Subledger
from projections.monitors import Notified, Report, check, notices, notify, watch
from projections.monitors.settings import set_settings
from tests.building import cloud_event
from tests.together import together

pytestmark = pytest.mark.usefixtures("open_borders")

NewLedger = Callable[..., str]

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
START = datetime(2026, 3, 1, tzinfo=UTC)


class Told(NamedTuple):
    id: str
    timestamp: int
    signature: str
    body: bytes

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.body)["data"]
        return data

    def names(self, what: str) -> list[str]:
        return [monitor["name"] for monitor in self.data[what]]


class Hook:
    """A webhook on loopback, which accepts a notice, or answers ``status``."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.status = 204
        self.tries = 0
        standing = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                standing.tries += 1
                if standing.status < 300:
                    standing.told.append(
                        Told(
                            self.headers["webhook-id"],
                            int(self.headers["webhook-timestamp"]),
                            self.headers["webhook-signature"],
                            body,
                        )
                    )
                self.send_response(standing.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook?token=hidden"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.close()


@pytest.fixture
def watched(service: Subledger, new_ledger: NewLedger, hook: Hook, tmp_path: Path) -> str:
    """A ledger with the webhook, and with a block that expires at START."""
    ledger = new_ledger()
    (tmp_path / "secret").write_text(SECRET + "\n")
    given = {"webhook": hook.url, "webhook_secret": f"file:{tmp_path}/secret"}
    set_settings(service.database, ledger, given, by="test")
    block = {"block_id": "b1", "credits": "10", "price": "10.00", "currency": "USD", "expires_at": START.isoformat()}
    service.record(ledger, [cloud_event("buy", "credits.purchased", "c1", "2026-01-05T00:00:00Z", **block)])
    return ledger


def report(service: Subledger, ledger: str, **after: float) -> Report:
    return check(service.database, ledger, START + timedelta(**after))


def told(service: Subledger, ledger: str, **after: float) -> Notified:
    found = report(service, ledger, **after)
    return notify(service.database, ledger, found)


def test_a_monitor_that_begins_to_ring_is_told_once_and_once_that_it_has_ceased(
    service: Subledger, watched: str, hook: Hook
) -> None:
    assert told(service, watched, hours=1) == Notified()
    began = told(service, watched, hours=25)
    assert (began.began, began.ceased, began.sent, began.waiting) == (("expiry_sweep",), (), 1, 0)
    for minute in range(1, 4):
        assert told(service, watched, hours=25, minutes=minute) == Notified()
    [notice] = hook.told
    assert (notice.names("began"), notice.names("ceased")) == (["expiry_sweep"], [])
    [monitor] = notice.data["began"]
    assert (notice.data["ledger"], monitor["since"]) == (watched, "2026-03-02T01:00:00Z")
    assert monitor["evidence"]["oldest"][0]["block"] == "b1"
    service.expire(watched, START.date())
    ceased = told(service, watched, hours=26)
    assert (ceased.began, ceased.ceased) == ((), ("expiry_sweep",))
    assert hook.told[1].names("ceased") == ["expiry_sweep"]
    assert hook.told[1].data["ringing"] == {}


def test_a_notice_is_signed_as_standard_webhooks_says(service: Subledger, watched: str, hook: Hook) -> None:
    told(service, watched, hours=25)
    [notice] = hook.told
    signed = b".".join([notice.id.encode(), str(notice.timestamp).encode(), notice.body])
    expected = base64.b64encode(hmac.digest(KEY, signed, hashlib.sha256)).decode()
    assert notice.signature == f"v1,{expected}"
    assert notice.timestamp == int((START + timedelta(hours=25)).timestamp())
    document = json.loads(notice.body)
    assert (document["type"], document["timestamp"]) == ("monitors.changed", "2026-03-02T01:00:00Z")


def test_a_secret_of_another_form_is_taken_as_its_bytes(
    service: Subledger, watched: str, hook: Hook, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("whsec_ but no base64")
    told(service, watched, hours=25)
    [notice] = hook.told
    signed = f"{notice.id}.{notice.timestamp}.".encode() + notice.body
    expected = base64.b64encode(hmac.digest(b"whsec_ but no base64", signed, hashlib.sha256)).decode()
    assert notice.signature == f"v1,{expected}"


def test_who_looks_at_the_same_time_tells_it_once(service: Subledger, watched: str, hook: Hook) -> None:
    reports = [report(service, watched, hours=25, seconds=second) for second in range(8)]
    barrier, results = threading.Barrier(8), list[Notified]()

    def tell(found: Report) -> None:
        barrier.wait()
        results.append(notify(service.database, watched, found))

    together(tell, reports)
    assert sum(len(result.began) for result in results) == 1
    assert sum(result.sent for result in results) == len(hook.told) == 1


def test_a_look_that_is_older_than_what_was_told_says_nothing(service: Subledger, watched: str, hook: Hook) -> None:
    silent, rings = report(service, watched, hours=1), report(service, watched, hours=25)
    notify(service.database, watched, rings)
    assert notify(service.database, watched, silent) == Notified()
    assert len(hook.told) == 1


def test_what_was_not_taken_is_sent_again_later_and_in_order(service: Subledger, watched: str, hook: Hook) -> None:
    hook.status = 503
    first = told(service, watched, hours=25)
    assert (first.began, first.sent, first.waiting) == (("expiry_sweep",), 0, 1)
    assert first.failure == "127.0.0.1 answered 503", "and not where exactly, for that may be a secret"
    assert told(service, watched, hours=25, seconds=59).waiting == 1
    assert hook.tries == 1, "not before its time"
    service.expire(watched, START.date())
    second = told(service, watched, hours=25, seconds=61)
    assert (second.ceased, second.waiting, hook.tries) == (("expiry_sweep",), 2, 2)
    hook.status = 204
    assert told(service, watched, hours=25, minutes=2).sent == 0, "twice as long"
    third = told(service, watched, hours=25, minutes=4)
    assert (third.sent, third.waiting, third.failure) == (2, 0, None)
    assert [notice.names("began") for notice in hook.told] == [["expiry_sweep"], []]
    assert hook.told[0].timestamp == int((START + timedelta(hours=25, minutes=4)).timestamp()), "of this attempt"


def test_a_webhook_that_is_down_keeps_nobody_from_looking_and_hears_of_it_when_it_is_up(
    service: Subledger, watched: str, hook: Hook, tmp_path: Path
) -> None:
    set_settings(
        service.database,
        watched,
        {"webhook": "http://127.0.0.1:1/", "webhook_secret": f"file:{tmp_path}/secret"},
        by="test",
    )
    down = told(service, watched, hours=25)
    assert (down.sent, down.waiting) == (0, 1)
    assert down.failure is not None
    assert "127.0.0.1 did not take it" in down.failure
    set_settings(
        service.database, watched, {"webhook": hook.url, "webhook_secret": f"file:{tmp_path}/secret"}, by="test"
    )
    assert told(service, watched, hours=26).sent == 1
    assert [notice.names("began") for notice in hook.told] == [["expiry_sweep"]]


def test_a_secret_that_is_not_to_be_had_is_said_and_sent_when_it_is(
    service: Subledger, watched: str, hook: Hook, tmp_path: Path
) -> None:
    (tmp_path / "secret").unlink()
    failure = told(service, watched, hours=25).failure
    assert failure is not None
    assert "cannot be read" in failure
    (tmp_path / "secret").write_text(SECRET)
    assert told(service, watched, hours=26).sent == 1


def test_a_sender_that_dies_is_followed_by_another_with_the_same_notice(
    service: Subledger, watched: str, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def dies(*_: object) -> str:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(notices.webhook, "send", dies)
        with pytest.raises(Killed):
            told(service, watched, hours=25)
    assert told(service, watched, hours=25, seconds=5).sent == 0, "it may be on its way"
    assert told(service, watched, hours=25, minutes=1).sent == 1
    assert [notice.names("began") for notice in hook.told] == [["expiry_sweep"]]


def test_a_notice_that_nobody_takes_is_given_up_and_the_next_one_goes(
    service: Subledger, watched: str, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "ATTEMPTS", 2)
    hook.status = 500
    told(service, watched, hours=25)
    assert told(service, watched, hours=27).waiting == 0
    hook.status = 204
    service.expire(watched, START.date())
    assert told(service, watched, hours=28).sent == 1
    assert hook.told[0].names("ceased") == ["expiry_sweep"]


def test_without_a_webhook_nothing_is_kept_and_one_that_is_set_later_hears_what_rings_then(
    service: Subledger, watched: str, hook: Hook, tmp_path: Path
) -> None:
    set_settings(service.database, watched, {}, by="test")
    assert told(service, watched, hours=25) == Notified()
    set_settings(
        service.database, watched, {"webhook": hook.url, "webhook_secret": f"file:{tmp_path}/secret"}, by="test"
    )
    assert told(service, watched, hours=26).began == ("expiry_sweep",)
    assert hook.told[0].data["ringing"] == {"expiry_sweep": "2026-03-02T02:00:00Z"}


def test_a_webhook_at_another_address_hears_what_rings_now_and_nothing_that_was_meant_for_the_one_before(
    service: Subledger, watched: str, hook: Hook, tmp_path: Path
) -> None:
    hook.status = 500
    told(service, watched, hours=25)
    hook.status = 204
    set_settings(
        service.database,
        watched,
        {"webhook": hook.url + "&v=2", "webhook_secret": f"file:{tmp_path}/secret"},
        by="test",
    )
    assert told(service, watched, hours=30).began == ("expiry_sweep",)
    [notice] = hook.told
    assert notice.data["ringing"] == {"expiry_sweep": "2026-03-02T06:00:00Z"}
    set_settings(service.database, watched, {}, by="test")
    assert told(service, watched, hours=31) == Notified()


def test_what_a_worker_does_once_a_minute_tells_it_once(service: Subledger, watched: str, hook: Hook) -> None:
    for _ in range(3):
        watch(service.database, watched)
    assert [notice.names("began") for notice in hook.told] == [["expiry_sweep"]]
