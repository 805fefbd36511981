"""Fuzz over every route: texts, numbers, cursors, headers, bodies and bytes that no sensible client sends.

    make fuzz                                    20,000 inputs, on an embedded database of its own
    python -m tests.campaigns.fuzz --inputs 500 --seed 7

The inputs are made from the OpenAPI document, for each route in turn. Some parameters and bodies are valid, and some
are hostile. Nine of ten inputs go to the application in this process, in the form in which the server would pass them
on. The others are bytes over a socket to a real server.

No answer may be 5xx, every refusal must be a problem document, and the memory of the process must not grow. The same
seed makes the same inputs. The answers are counted and printed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import copy
import gc
import json
import os
import random
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import msgspec
import psutil
from fastapi import FastAPI

from api.http.app import create_app
from api.keys import create_key
from api.limits import HttpLimits
from api.service import Subledger
from api.settings import connect
from projections.close.close import close_period
from projections.exports import exporting
from subledger.events.own_data import Approvals
from subledger.ledger_settings import LedgerSettings
from subledger.periods import Period
from subledger.posting import shipped_policy
from subledger.store.embedded import server as embedded
from tests.building import cloud_event
from tests.http.raw import Served

_LONG = 4_000
TEXTS: tuple[str, ...] = (
    "", " ", "\x00", "a\x00b", "\ufeff", "\x1b[31m", "\x9b31m", "\u202eabc", "\u200b", "\uffff", "\U0010ffff",
    "e\u0301" * 200,
    "9" * 400, "9" * _LONG, "-1", "0", "1e400", "NaN", "Infinity", "0x10", "1_000", "\u0661\u0662",
    "18446744073709551616",
    "2026-13-01", "2026-02-30", "0000-00", "9999-12", "10000-01", "2026-01-01T00:00:00", "9999-12-31T23:59:59.999999Z",
    "0001-01-01T00:00:00+23:59", "31.01.2026", "2026-01-01T00:00:00+99:99", "now", "null", "true", "[]", "{}", '"',
    "../../../etc/passwd", "..", ".", "//", "/", "%", "%00", "%2e", "' OR 1=1 --", "a'b\"c\\d", "$1", "%s", "{0}",
    "${x}",
    "<script>", "=1+1", "@x", "\uff1d1", "[red]x[/red]", "x" * 201, "x" * 300, "x" * _LONG, "-", "*", "\r\nX: y",
    "\t", "a,b", ";",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63 - 1, -(2**63), 2**64 - 1, 0.1, 1e308, -0.0, [], {}, [None], {"": ""},
    [[]], [{}],
    {"a": {"b": {"c": {}}}}, ["x"] * 500, {f"k{n}": n for n in range(200)},
)  # fmt: skip
RAW_BODIES: tuple[bytes, ...] = (
    b"", b"{", b"[", b"{}", b"[]", b"null", b"\xff\xfe{}", b"\xef\xbb\xbf{}", b'"\\ud800"', b'{"a": "\\ud800"}',
    b'{"\\udfff": 1}',
    b'{"a": 1, "a": 2}', b"9" * 5_000, b'{"a": ' + b"9" * 5_000 + b"}", b"-" * 100, b"1e999", b"[1e999]", b"[" * 5_000,
    b'{"a":' * 300 + b"1" + b"}" * 300, b"\x00", b'{"a": "\x00"}', b'{"a": "\\u0000"}', b"NaN", b'{"a": NaN}',
    b"\xc3(", b"'a'",
    b"a=1&b=2", b"--x\r\n\r\n--x--", b"role,product\n" * 50, b"role\n\x00",
    b"role,product,credit_kind,currency,account,name\n,,,,,\n",
    b'role,product,credit_kind,currency,account,name\ncash,,,,"1',
)  # fmt: skip
TYPES = (
    *("application/json",) * 12, "application/cloudevents+json", "application/cloudevents-batch+json", "text/csv",
    "text/plain", "", "application/x", "application/json; charset=utf-16", "\xff", "x" * 500,
)  # fmt: skip
HEADERS: tuple[tuple[str, str], ...] = (
    ("host", ""), ("host", "[::1"), ("host", "127.0.0.1:99999999"), ("host", "\xff"), ("host", "evil.example"),
    ("origin", "null"),
    ("origin", "http://[::1"), ("sec-fetch-site", "cross-site"), ("x-forwarded-for", "8.8.8.8"), ("accept",
    "\xff" * 100),
    ("content-length", "9" * 5_000), ("content-length", "-1"), ("content-length", "x"), ("range", "bytes=0-"),
    ("cookie", "=;=;"),
    ("authorization", ""), ("authorization", "Bearer"), ("authorization", "Bearer " + "x" * _LONG), ("authorization",
    "Basic \xff"),
    ("authorization", "Bearer \x00"), ("if-none-match", "*"), ("content-encoding", "gzip"), ("expect", "x"),
    ("accept-language", "x" * 999),
)  # fmt: skip


class Result(msgspec.Struct):
    """Counts of inputs and of answers, and each input with a wrong answer."""

    inputs: int = 0
    raw: int = 0
    statuses: Counter[int] = msgspec.field(default_factory=Counter)
    codes: Counter[str] = msgspec.field(default_factory=Counter)
    routes: Counter[str] = msgspec.field(default_factory=Counter)
    failures: list[str] = msgspec.field(default_factory=list)
    rss_warm: int = 0
    rss_end: int = 0

    @property
    def grown(self) -> int:
        """Growth of the memory of the process since the first fifth of the inputs, in bytes."""
        return self.rss_end - self.rss_warm


class Books(msgspec.Struct, frozen=True):
    """Existing values of path parameters, by name, and a key."""

    values: dict[str, tuple[str, ...]]
    key: str


def prepare(service: Subledger, ledger: str) -> Books:
    """Creates a ledger with a closed month, an export and a waiting approval, and a key with all rights."""
    service.create_ledger(ledger, LedgerSettings(currency="USD", approvals=Approvals(grant_credits_above="1000")))
    events = [
        cloud_event(
            "p1",
            "credits.purchased",
            "c1",
            "2026-01-05T00:00:00Z",
            block_id="b1",
            credits="10",
            price="10.00",
            currency="USD",
            expires_at="2026-06-01T00:00:00Z",
        ),
        cloud_event("u1", "credits.consumed", "c1", "2026-01-20T00:00:00Z", credits="4"),
        cloud_event(
            "g1", "credits.granted", "c2", "2026-02-20T00:00:00Z", block_id="b2", credits="5000", reason="promotional"
        ),
    ]
    outcomes = service.record(ledger, events, by="fuzz")
    close_period(service.recorder, ledger, Period.parse("2026-01"))
    [export] = exporting.export(service.recorder, service.database, ledger, Period.parse("2026-01"), "csv")
    service.adopt_policy(ledger, shipped_policy("contract_liability"), by="fuzz")
    key = create_key(service.database, ledger="*", role="admin", name="fuzz").secret
    approval = next(outcome.approval_id for outcome in outcomes if outcome.approval_id)
    return Books(
        values={
            "ledger": (ledger,) * 9 + ("nowhere",),
            "customer": ("c1", "c2"),
            "block_id": ("b1", "b2"),
            "period": ("2026-01", "2026-02", "2026-03"),
            "number": ("1",),
            "position": ("1", "2"),
            "line": ("1",),
            "export_id": (export.export_id,),
            "approval": (approval,),
            "channel": ("drop",),
            "target": ("netsuite", "sap"),
            "name": ("rollforward", "trial-balance", "waterfall"),
            "delivery_id": ("drop-1",),
            "as_of": ("2026-01-31",),
            "from": ("2026-01",),
            "to": ("2026-02",),
            "format": ("csv", "json", "html"),
            "limit": ("1", "10"),
        },
        key=key,
    )


class Fuzz:
    """Makes inputs, and stores the answer to each."""

    def __init__(self, app: FastAPI, books: Books, seed: int) -> None:
        self.result = Result()
        self._app = app
        self._books = books
        self._dice = random.Random(seed)
        document = app.openapi()
        self._schemas = document.get("components", {}).get("schemas", {})
        self._operations = [
            (method.upper(), path, operation)
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
        ]

    # --- in this process ------------------------------------------------------------------------------------------

    async def run(self, inputs: int) -> None:
        """Sends a number of inputs to all routes in turn."""
        for number in range(inputs):
            method, path, operation = self._operations[number % len(self._operations)]
            await self._one(method, path, operation)
            if number == inputs // 5:
                self.result.rss_warm = rss()
        self.result.rss_end = rss()

    async def _one(self, method: str, path: str, operation: dict[str, Any]) -> None:
        dice = self._dice
        raw_path = self._path(path)
        query = self._query(operation)
        headers, body = self._headers(), self._body(operation) if dice.random() < 0.9 else b""
        if dice.random() < 0.03:
            method = dice.choice(("HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "PATCH", "BREW"))
        if body and not any(name == "content-length" for name, _ in headers):
            headers.append(("content-length", str(len(body))))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(raw_path),
            "raw_path": raw_path.encode("latin-1", "replace"),
            "root_path": "",
            "query_string": query.encode("latin-1", "replace"),
            "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 50_000),
            "state": {},
            "headers": [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers],
        }
        status, answer, failure = await self._call(scope, body)
        shown = f"{method} {raw_path[:300]}?{query[:300]} {headers!r:.400} {body[:300]!r}"
        self._note(status, answer, failure, shown, is_head=method == "HEAD")
        self.result.routes[path] += 1

    async def _call(self, scope: dict[str, Any], body: bytes) -> tuple[int, bytes, str]:
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        status, answered = 0, bytearray()

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await asyncio.Event().wait()
            return None

        async def send(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                answered.extend(message.get("body", b""))

        try:
            await self._app(scope, receive, send)
        except Exception as error:
            return 500, bytes(answered), repr(error)
        return status, bytes(answered), ""

    def _note(self, status: int, answer: bytes, failure: str, shown: str, *, is_head: bool = False) -> None:
        self.result.inputs += 1
        self.result.statuses[status] += 1
        if status >= 500 or status < 200:
            self.result.failures.append(f"{status} {failure} {answer[:300]!r} to {shown}")
            return
        if status < 400 or is_head:
            return
        try:
            document = json.loads(answer)
            code = document["results"][0]["error"]["code"] if "results" in document else document["code"]
        except (ValueError, KeyError, IndexError, TypeError):
            self.result.failures.append(f"{status} is no problem document: {answer[:300]!r} to {shown}")
            return
        self.result.codes[code] += 1

    # --- inputs ---------------------------------------------------------------------------------------------------

    def _text(self) -> str:
        dice = self._dice
        if dice.random() < 0.2:
            return "".join(
                chr(dice.choice((dice.randrange(0x80), dice.randrange(0xD800)))) for _ in range(dice.randrange(12))
            )
        return dice.choice(TEXTS)

    def _value(self, name: str, hostile: float) -> str:
        known = self._books.values.get(name)
        if known and self._dice.random() >= hostile:
            return self._dice.choice(known)
        return self._text()

    def _path(self, path: str) -> str:
        parts = path.split("{")
        made = parts[0]
        for part in parts[1:]:
            name, _, rest = part.partition("}")
            value = quote(self._value(name, 0.05 if name == "ledger" else 0.35), safe="")
            if self._dice.random() < 0.03:
                value = self._dice.choice(("%ff", "%ed%a0%80", "%00", "%c0%af", "%", "%zz", "a%00b"))
            made += value + rest
        return made + self._dice.choice(("",) * 30 + ("/", "%00", "//"))

    def _query(self, operation: dict[str, Any]) -> str:
        dice, pairs = self._dice, []
        for parameter in operation.get("parameters", ()):
            if parameter["in"] != "query" or dice.random() < 0.6:
                continue
            name = parameter["name"]
            value = self._cursor() if name == "cursor" else self._value(name, 0.7)
            pairs.append(f"{quote(name)}={quote(value, safe='')}")
        if dice.random() < 0.05:
            pairs.append(
                dice.choice(("as_off=x", "%00=1", "=", "&&", "a", "%ff=%fe", "limit=1&limit=2", "a=" + "x" * _LONG))
            )
        return "&".join(pairs)

    def _cursor(self) -> str:
        dice = self._dice
        value = [dice.choice((*VALUES, *TEXTS, 5, "c1", "2026-01-01T00:00:00Z")) for _ in range(dice.randrange(4))]
        text = dice.choice(
            (json.dumps(value), json.dumps(value, ensure_ascii=False), '["\\ud800"]', "[" * 900, "9" * 1400, "{}", "[1")
        )
        return base64.urlsafe_b64encode(text.encode("utf-8", "replace")).decode().rstrip("=")[:2_100]

    def _headers(self) -> list[tuple[str, str]]:
        dice = self._dice
        headers = {
            "host": "127.0.0.1",
            "content-type": dice.choice(TYPES),
            "authorization": f"Bearer {self._books.key}",
        }
        if dice.random() < 0.1:
            name, value = dice.choice(HEADERS)
            headers[name] = value
        return [(name, value) for name, value in headers.items() if value or name == "authorization"]

    def _body(self, operation: dict[str, Any]) -> bytes:
        dice = self._dice
        content = operation.get("requestBody", {}).get("content", {})
        if not content or dice.random() < 0.25:
            return dice.choice(RAW_BODIES)
        media = dice.choice(list(content.values()))
        document = copy.deepcopy(self._example(media))
        if isinstance(document, str):
            text = document.encode()
        else:
            for _ in range(dice.randrange(3)):
                document = self._spoiled(document)
            text = json.dumps(document, ensure_ascii=dice.random() < 0.5).encode("utf-8", "surrogatepass")
        if dice.random() < 0.05:
            place = dice.randrange(len(text) + 1)
            text = text[:place] + dice.choice((b"\x00", b"\xff", b"", b'"', b"}", b"\\ud800")) + text[place + 1 :]
        return text

    def _example(self, media: dict[str, Any]) -> Any:
        if "examples" in media:
            return self._dice.choice(list(media["examples"].values()))["value"]
        if "example" in media:
            return media["example"]
        schema = media.get("schema", {})
        if "$ref" in schema:
            schema = self._schemas[schema["$ref"].rsplit("/", 1)[-1]]
        if schema.get("examples"):
            return self._dice.choice(schema["examples"])
        return {name: self._dice.choice((*VALUES, *TEXTS)) for name in schema.get("properties", {"x": None})}

    def _spoiled(self, document: Any) -> Any:
        """Returns a document with one value replaced by another."""
        dice = self._dice
        if isinstance(document, dict) and document and dice.random() < 0.9:
            name = dice.choice(list(document))
            if dice.random() < 0.1:
                document[dice.choice(TEXTS)] = dice.choice((*VALUES, *TEXTS))
            elif dice.random() < 0.1:
                del document[name]
            else:
                document[name] = self._spoiled(document[name])
            return document
        if isinstance(document, list) and document and dice.random() < 0.9:
            place = dice.randrange(len(document))
            document[place] = self._spoiled(document[place])
            return document
        return dice.choice((*VALUES, *TEXTS, "\ud800", "\udc00"))

    # --- over a socket --------------------------------------------------------------------------------------------

    def run_raw(self, served: Served, inputs: int) -> None:
        """Sends a number of inputs as bytes to a real server, and checks after each hundred that it still answers."""
        for number in range(inputs):
            sent = self._bytes()
            connection = served.connect()
            status, body = _asked(connection, sent)
            connection.close()
            self.result.raw += 1
            if status >= 500:
                self.result.failures.append(f"{status} {body[:300]!r} to {sent[:400]!r}")
            if number % 100 == 99 or number == inputs - 1:
                alive, _ = _asked(served.connect(), b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                if alive != 200:
                    self.result.failures.append(f"/healthz answered {alive} after {sent[:400]!r}")
            self.result.statuses[status] += 1
        self.result.inputs += inputs

    def _bytes(self) -> bytes:
        dice = self._dice
        method, path, operation = dice.choice(self._operations)
        body = self._body(operation)
        lines = [f"{method} {self._path(path)}?{self._query(operation)} HTTP/1.1".encode("latin-1", "replace")]
        lines += [f"{name}: {value}".encode("latin-1", "replace") for name, value in self._headers()]
        if dice.random() < 0.5:
            lines.append(b"Transfer-Encoding: chunked")
            size = b"%x" % len(body)
            size = dice.choice(
                (size, size, size + b";x=" + b"y" * dice.randrange(99), b"-1", b"f" * 17, b"", b"0x1", size + b" ")
            )
            body = (
                size
                + b"\r\n"
                + body
                + dice.choice((b"\r\n0\r\n\r\n", b"\r\n0\r\nX: y\r\n\r\n", b"", b"0\r\n", b"\n0\n\n"))
            )
        else:
            lines.append(b"Content-Length: %d" % max(0, len(body) + dice.choice((0, 0, 0, 1, -1, 10**6))))
        if dice.random() < 0.3:
            lines.insert(
                dice.randrange(len(lines) + 1),
                dice.choice(
                    (
                        b"X: " + b"x" * 40_000,
                        b": y",
                        b"X",
                        b" X: y",
                        b"X\x00: y",
                        b"X: \x00",
                        b"\xff: \xff",
                        b"Connection: close, x",
                        b"Upgrade: websocket\r\nConnection: Upgrade",
                        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings",
                        b"Expect: 100-continue",
                        b"Content-Length: 5",
                        b"Transfer-Encoding: gzip",
                        b"Transfer-Encoding: chunked, chunked",
                        b"X: y\r\n" * 150,
                        b"Host: a\r\nHost: b",
                        b"PRI * HTTP/2.0",
                    )
                ),
            )
        text = dice.choice((b"\r\n", b"\r\n", b"\r\n", b"\n")).join(lines) + b"\r\n\r\n" + body
        if dice.random() < 0.3:
            place = dice.randrange(len(text))
            text = (
                text[:place]
                + bytes(dice.randrange(256) for _ in range(dice.randrange(4)))
                + text[place + dice.randrange(9) :]
            )
        return text[: dice.randrange(len(text) + 1)] if dice.random() < 0.1 else text


def _asked(connection: Any, sent: bytes) -> tuple[int, bytes]:
    """Returns the status of the first answer (0: none), and the answer. Our side is closed, so the server does not wait
    for more.
    """
    received = b""
    try:
        connection.sendall(sent)
        connection.shutdown(1)
        while piece := connection.recv(65_536):
            received += piece
    except OSError:
        pass
    parts = received.split(b" ", 2)
    return (int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0), received


def rss() -> int:
    """Returns the memory of this process in bytes."""
    gc.collect()
    size: int = psutil.Process().memory_info().rss
    return size


def fuzz(service: Subledger, *, inputs: int, seed: int, ledger: str) -> Result:
    """Runs a number of inputs, a tenth of them over a socket. Channels may lead only to loopback, so nothing leaves the
    machine.
    """
    os.environ["SUBLEDGER_DELIVERY_HOSTS"] = "127.0.0.1"
    books = prepare(service, ledger)
    app = create_app(service, open_on_loopback=True)
    run = Fuzz(app, books, seed)
    asyncio.run(run.run(inputs - inputs // 10))
    with ExitStack() as stack:
        served = Served(service, HttpLimits(head_timeout_s=2.0, body_timeout_s=2.0), stack)
        stack.callback(served.close)
        run.run_raw(served, inputs // 10)
    return run.result


def show(result: Result) -> None:
    """Prints the counts of the answers."""
    print(f"{result.inputs} inputs over {len(result.routes)} routes, {result.raw} of them as bytes over a socket")
    print("answered:", ", ".join(f"{status} × {count}" for status, count in sorted(result.statuses.items())))
    print("refused as:", ", ".join(f"{code} {count}" for code, count in result.codes.most_common(40)))
    print(f"memory: {result.rss_warm >> 20} MiB after a fifth of the inputs, {result.rss_end >> 20} MiB at the end")
    print(f"answered wrongly: {len(result.failures)}")
    for failure in result.failures[:40]:
        print("  ", failure)


MAX_GROWTH = 48 << 20
"""Allowed growth in bytes. If each of 20,000 inputs with bodies of some kilobytes leaked the smallest object, it would
be exceeded.
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["SUBLEDGER_HOME"] = str(Path(home) / "home")
        os.environ.pop("SUBLEDGER_DATABASE_URL", None)
        try:
            began = datetime.now(UTC)
            result = fuzz(connect(), inputs=given.inputs, seed=given.seed, ledger="fuzz")
            show(result)
            print(f"seed {given.seed}, {(datetime.now(UTC) - began).total_seconds():.0f} s")
        finally:
            embedded.stop(Path(home) / "home")
    return 1 if result.failures or result.grown > MAX_GROWTH else 0


if __name__ == "__main__":
    sys.exit(main())
