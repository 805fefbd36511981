"""Limits of calls: the right is checked before the body is read; size, shape and names in a call are limited."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from starlette.routing import Match
from structlog.testing import capture_logs

from api import limits
from api.bounded_json import Bound, read_json
from api.cli.event_files import read_line
from api.http.app import create_app
from api.http.bodies import Bodies
from api.http.routes.guarded import GuardedRoute, Router, check_address
from api.keys import create_key
from api.limits import HttpLimits
from api.service import Subledger
from subledger.errors import InvalidJson, InvalidValue, Overloaded, RequestTimedOut, TooLarge, UnknownParameter
from subledger.events.rejections import MAX_SENT
from subledger.store.database import Database
from tests.building import cloud_event
from tests.conftest import NewLedger

JSON = {"content-type": "application/json"}


def routes(client: TestClient) -> list[tuple[str, str]]:
    """Returns every operation of the OpenAPI document: its method and path."""
    paths = client.get("/openapi.json").json()["paths"]
    return [(method.upper(), path) for path, operations in paths.items() for method in operations]


def address(path: str, ledger: str) -> str:
    """Returns a path with a value for each of its parameters."""
    values = {"ledger": ledger, "period": "2026-01", "number": "1", "position": "1", "line": "1"}
    return path.format_map({name: values.get(name, "x") for name in _names(path)})


def _names(path: str) -> list[str]:
    return [part.split("}")[0] for part in path.split("{")[1:]]


class Unread:
    """A body that makes the test fail if it is read."""

    def __iter__(self) -> Iterator[bytes]:
        raise AssertionError("the body was read")
        yield b""


# --- the right first ----------------------------------------------------------------------------------------


def test_no_body_is_read_of_a_call_that_has_no_right_to_send_it(service: Subledger, client: TestClient) -> None:
    closed = create_app(service)  # not open on loopback: each call needs a key
    asked = []

    async def call(method: str, path: str) -> int:
        async def receive() -> Any:
            asked.append((method, path))
            return {"type": "http.request", "body": b"{}", "more_body": False}

        answers: list[Any] = []

        async def send(message: Any) -> None:
            answers.append(message)

        headers = [(b"content-type", b"application/json"), (b"content-length", b"314572800")]
        await closed(
            {
                "type": "http",
                "method": method,
                "path": path,
                "raw_path": path.encode(),
                "query_string": b"",
                "headers": headers,
                "scheme": "http",
                "server": ("127.0.0.1", 80),
                "client": ("127.0.0.1", 5),
                "state": {},
                "http_version": "1.1",
                "root_path": "",
                "asgi": {"version": "3.0"},
            },
            receive,
            send,
        )
        status: int = answers[0]["status"]
        return status

    for method, path in routes(client):
        if path.startswith("/v1"):
            assert asyncio.run(call(method, address(path, "nowhere"))) == 401, (method, path)
    assert asked == []


def test_every_route_is_behind_its_right_and_a_route_without_one_cannot_be_made(service: Subledger) -> None:
    app = create_app(service)
    described = app.openapi()["paths"]
    for path, operations in described.items():
        for method in operations:
            scope = {
                "type": "http",
                "method": method.upper(),
                "path": address(path, "x"),
                "root_path": "",
                "headers": [],
            }
            found = [each.matches(scope) for each in app.router.routes]
            assert any(match is Match.FULL for match, _ in found), (method, path)
    router = Router()
    with pytest.raises(TypeError, match="names 0 rights"):
        router.get("/open")(lambda: None)
    assert router.route_class is GuardedRoute


# --- the size and shape of a body ---------------------------------------------------------------------------


def test_a_body_beyond_its_routes_bound_is_refused_whether_its_size_is_declared_or_not(
    client: TestClient, new_ledger: NewLedger
) -> None:
    base = f"/v1/ledgers/{new_ledger()}"
    bodies = {
        ("POST", "/exports"): limits.MAX_BODY,
        ("PUT", "/customers/c/attributes"): limits.MAX_BODY,
        ("POST", "/tie-out"): limits.MAX_TIE_OUT_BODY,
        ("PUT", "/mapping"): limits.MAX_MAPPING_BODY,
        ("POST", "/events"): limits.MAX_EVENTS_BODY,
    }
    for (method, path), most in bodies.items():
        piece = b" " * (1 << 20)
        chunked = iter([piece] * (most // len(piece)) + [b"x"])
        for content in (b" " * (most + 1), chunked):
            answer = client.request(method, base + path, content=content, headers=JSON)
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large"), (method, path)
            assert answer.headers["content-type"] == "application/problem+json"
            assert str(most) in answer.json()["expected"]


def test_a_declared_size_is_refused_before_anything_is_read(client: TestClient, new_ledger: NewLedger) -> None:
    base = f"/v1/ledgers/{new_ledger()}"
    for size in ("1048577", "9" * 19, "9" * 5_000):
        answer = client.post(base + "/exports", content=Unread(), headers={**JSON, "content-length": size})
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large"), size


def test_a_json_body_is_bounded_in_depth_and_in_values(client: TestClient, new_ledger: NewLedger) -> None:
    deepest = b"[" * limits.MAX_JSON_DEPTH + b"]" * limits.MAX_JSON_DEPTH
    assert json.dumps(read_json(deepest, Bound())).encode() == deepest
    with pytest.raises(TooLarge):
        read_json(b"[" + deepest + b"]", Bound())
    with pytest.raises(TooLarge):
        read_json(b"[" + b"[]," * limits.MAX_VALUES + b"1]", Bound())
    with pytest.raises(InvalidJson):
        read_json(b"[" * 1_000, Bound())
    url = f"/v1/ledgers/{new_ledger()}"
    for path, body in (("/exports", b'{"period": %s}' % deepest), ("/events", deepest[:-1] + b",1]")):
        answer = client.post(url + path, content=b"[" + body + b"]", headers=JSON)
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large"), path


TOO_MUCH = {
    "long": b'"' + b"x" * MAX_SENT + b'"',
    "many values": b"[" + b"[]," * limits.MAX_VALUES + b"1]",
    "deep": b"[" * (limits.MAX_JSON_DEPTH + 1) + b"]" * (limits.MAX_JSON_DEPTH + 1),
}


@pytest.mark.parametrize("much", TOO_MUCH)
def test_an_event_within_a_rejected_line_is_bounded_before_it_is_decoded(
    much: str, client: TestClient, service: Subledger, new_ledger: NewLedger
) -> None:
    ledger, text = new_ledger(), TOO_MUCH[much]
    escaped = json.dumps(text.decode()).replace("[", "\\u005b").replace(",", "\\u002c")  # nothing to count
    lines = [
        b'{"line": 1, "event_base64": "%b", "error": {}}' % base64.b64encode(text),
        b'{"line": 1, "event": %b, "error": {}}' % escaped.encode(),
    ]
    for body, status in ((lines[0], 422), (lines[1], 422), (b"[" + b",".join(lines) + b"]", 207)):
        answer = client.post(f"/v1/ledgers/{ledger}/events", content=body, headers=JSON)
        results = answer.json()["results"]
        assert (answer.status_code, {each["error"]["code"] for each in results}) == (status, {"too_large"})
        assert {each["error"]["field"] for each in results} == {"event"}
    for line in lines:  # of a file
        assert isinstance(read_line(line, 1), TooLarge)
    [item] = client.get(f"/v1/ledgers/{ledger}/rejected").json()["items"]
    assert (item["attempts"], item["code"]) == (4, "too_large"), "it is one text, whichever way it is written"
    one = client.get(f"/v1/ledgers/{ledger}/rejected/{item['rejection_id']}").json()
    assert (one["text"].encode(), one["bytes"]) == (text[:MAX_SENT], len(text))


def test_a_rejected_line_whose_event_is_json_is_bounded_as_the_event_itself(
    client: TestClient, new_ledger: NewLedger
) -> None:
    url = f"/v1/ledgers/{new_ledger()}/events"
    event = cloud_event("u1", "credits.consumed", "ann", "2026-01-20T10:00:00Z", credits="1", note="," * MAX_SENT)
    [direct] = client.post(url, json=event).json()["results"]
    [again] = client.post(url, json={"line": 1, "event": event, "error": {}}).json()["results"]
    assert again == direct
    assert again["error"]["code"] != "too_large"


def test_a_body_that_is_not_said_to_be_json_is_refused(client: TestClient, new_ledger: NewLedger) -> None:
    url = f"/v1/ledgers/{new_ledger()}/exports"
    for headers in ({}, {"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}):
        answer = client.post(url, content=b'{"period": "2026-01", "format": "csv"}', headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type"), headers


def test_a_body_that_is_compressed_or_not_in_utf_8_is_refused_on_every_route_that_takes_one(
    client: TestClient, new_ledger: NewLedger
) -> None:
    ledger, taking = new_ledger(), 0
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            if "requestBody" not in operation:
                continue
            taking += 1
            [of_it, *_] = operation["requestBody"]["content"]
            for headers, field in (
                ({"content-type": of_it, "content-encoding": "gzip"}, "Content-Encoding"),
                ({"content-type": of_it, "content-encoding": "identity, BR"}, "Content-Encoding"),
                ({"content-type": f"{of_it}; charset=ISO-8859-1"}, "Content-Type"),
                ({"content-type": f'{of_it};a=b; Charset="utf-16"'}, "Content-Type"),
                ({"content-type": f"{of_it}; charset=utf-8; charset=latin-1"}, "Content-Type"),
            ):
                answer = client.request(method, address(path, ledger), content=b"{}", headers=headers)
                document = answer.json()
                assert (answer.status_code, document["code"]) == (415, "unsupported_media_type"), (path, headers)
                assert (document["field"], document["type"]) == (field, "urn:subledger:error:unsupported_media_type")
                assert document["expected"] == {"Content-Encoding": "identity", "Content-Type": "charset=utf-8"}[field]
                assert answer.headers["accept-encoding"] == "identity"
            for headers in (
                {"content-type": f"{of_it}; charset=UTF-8", "content-encoding": "identity"},
                {"content-type": f'{of_it.upper()} ; charset="utf8"'},
            ):
                answer = client.request(method, address(path, ledger), content=b"{}", headers=headers)
                assert answer.status_code != 415, (path, headers, answer.text)
    assert taking > 15


def test_a_body_with_two_types_is_refused(client: TestClient, new_ledger: NewLedger) -> None:
    for path in ("/exports", "/events"):
        headers = [("content-type", "application/json"), ("content-type", "text/csv")]
        answer = client.post(f"/v1/ledgers/{new_ledger()}{path}", content=b"{}", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def _request(chunks: AsyncIterator[bytes]) -> Request:
    async def receive() -> Any:
        try:
            return {"type": "http.request", "body": await anext(chunks), "more_body": True}
        except StopAsyncIteration:
            return {"type": "http.request", "body": b"", "more_body": False}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _half_sent() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.Event().wait()


def test_a_body_that_stops_arriving_is_given_up() -> None:
    bodies = Bodies(HttpLimits(body_timeout_s=0.05))
    with pytest.raises(RequestTimedOut):
        asyncio.run(bodies.read(_request(_half_sent()), Bound()))
    assert bodies.size == 0


def test_all_bodies_together_are_bounded_and_what_was_answered_no_longer_counts() -> None:
    async def go() -> None:
        half, more = b"x" * limits.SMALL_BODY, b"x" * (limits.SMALL_BODY + 1)
        bodies = Bodies(HttpLimits(), most=3 * limits.SMALL_BODY)
        first = await bodies.read(_request(_pieces(half, half)), Bound())
        with pytest.raises(Overloaded):
            await bodies.read(_request(_pieces(more)), Bound())
        assert bodies.size == len(first) == 2 * limits.SMALL_BODY
        bodies.release(len(first))
        assert await bodies.read(_request(_pieces(more)), Bound()) == more

    asyncio.run(go())


def test_a_small_body_is_taken_however_much_the_others_hold() -> None:
    async def go() -> None:
        bodies = Bodies(HttpLimits(), most=1 << 20)
        await bodies.read(_request(_pieces(b"x" * (1 << 20))), Bound())
        for small in (b"{}", b"x" * limits.SMALL_BODY):
            assert await bodies.read(_request(_pieces(small)), Bound()) == small
            bodies.release(len(small))
        with pytest.raises(Overloaded):
            await bodies.read(_request(_pieces(b"x" * limits.SMALL_BODY, b"x")), Bound())
        assert bodies.size == 1 << 20

    asyncio.run(go())


# --- names and texts in an address --------------------------------------------------------------------------


def test_an_unknown_query_parameter_is_refused_on_every_route_naming_the_known_ones(
    client: TestClient, new_ledger: NewLedger
) -> None:
    ledger = new_ledger()
    for method, path in routes(client):
        answer = client.request(method, address(path, ledger), params={"as_off": "2026-01-31"})
        assert (answer.status_code, answer.json()["code"]) == (422, "unknown_parameter"), (method, path)
        assert answer.json()["field"] == "as_off"
    refused = client.get(f"/v1/ledgers/{ledger}/trial-balance", params={"as_off": "2026-01-31"}).json()
    assert refused["expected"] == "as_of, known_at"
    assert "did you mean as_of?" in refused["detail"]
    with pytest.raises(UnknownParameter):
        check_address(Request({"type": "http", "query_string": b"a=1", "path_params": {}}), {})


def test_a_parameter_of_one_value_that_stands_twice_is_refused_on_every_route(
    client: TestClient, new_ledger: NewLedger
) -> None:
    ledger, lists = new_ledger(), []
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                name, schema = parameter["name"], parameter["schema"]
                if parameter["in"] != "query":
                    continue
                for values in (("1", "2"), ("1", "1")):
                    query = [(name, value) for value in values]
                    answer = client.request(method, address(path, ledger), params=query)
                    code = answer.json().get("code")
                    if "array" in (each.get("type") for each in (schema, *schema.get("anyOf", ()))):
                        lists.append(name)
                        assert code != "repeated_parameter", (method, path, name)
                    else:
                        assert (answer.status_code, code) == (422, "repeated_parameter"), (method, path, name)
                        assert answer.json()["field"] == name
    assert set(lists) == {"ledger", "state"}
    assert client.get("/docs", params=[("a", "1")]).json()["code"] == "unknown_parameter"


def test_nul_in_any_parameter_of_any_route_is_refused(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    for method, path in routes(client):
        if not path.startswith("/v1"):
            continue
        for name in _names(path):
            bad = address(path.replace(f"{{{name}}}", "a%00b").replace("{ledger}", ledger), ledger)
            answer = client.request(method, bad)
            assert 400 <= answer.status_code < 500, (method, bad, answer.text)
            assert not answer.json()["retryable"], (method, bad)
    for parameter in ("customer", "block", "type", "cursor"):
        answer = client.get(f"/v1/ledgers/{ledger}/events", params={parameter: "\x00"})
        assert (answer.status_code, answer.json()["field"]) == (422, parameter)
    with pytest.raises(InvalidValue):
        check_address(Request({"type": "http", "query_string": b"", "path_params": {"x": "\x00"}}), {})


def test_what_is_wrong_with_a_parameter_is_said_with_an_example(client: TestClient, new_ledger: NewLedger) -> None:
    base = f"/v1/ledgers/{new_ledger()}"
    asked = [
        ("/trial-balance?as_of=31.01.2026", "as_of must be a date, such as 2026-01-31, not '31.01.2026'"),
        ("/events?limit=ten", "limit must be a whole number, such as 100, not 'ten'"),
        ("/events?limit=" + "9" * 6_000, f"limit must be a whole number, such as 100, not '{'9' * 60}'"),
        ("/events?limit=5000", "limit must be at most 1000, not '5000'"),
        ("/approvals?state=open", "state must be one of waiting, approved, refused, recorded, not 'open'"),
        ("/events?type=credits.purchase", "credits.purchase is not an event type; did you mean credits.purchased?"),
    ]
    for path, detail in asked:
        answer = client.get(base + path)
        assert (answer.status_code, answer.json()["detail"]) == (422, detail)


def test_what_is_wrong_with_a_field_is_said_with_what_is_allowed(client: TestClient, new_ledger: NewLedger) -> None:
    url = f"/v1/ledgers/{new_ledger()}/exports"
    missing = client.post(url, json={}).json()
    assert (missing["code"], missing["missing"]) == ("missing_field", ["period", "format"])
    unknown = client.post(url, json={"period": "2026-01", "format": "csv", "detials": True}).json()
    assert (unknown["code"], unknown["expected"]) == ("unknown_field", "period, format, detail")
    assert "did you mean detail?" in unknown["detail"]
    wrong = client.post(url, json={"period": 1, "format": "csv"}).json()
    assert (wrong["code"], wrong["field"], wrong["found"]) == ("wrong_type", "period", "1")


# --- methods and slashes ------------------------------------------------------------------------------------


def test_head_is_get_without_the_body(client: TestClient, new_ledger: NewLedger) -> None:
    for path in ("/healthz", f"/v1/ledgers/{new_ledger()}/trial-balance", "/v1/ledgers/nowhere"):
        got, headed = client.get(path), client.head(path)
        assert (headed.status_code, headed.content) == (got.status_code, b"")
        assert headed.headers["content-type"] == got.headers["content-type"]
    refused = client.post("/healthz")
    assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")


def test_every_problem_has_a_type_of_its_own(service: Subledger, client: TestClient) -> None:
    app = create_app(service)

    @app.get("/fails")
    def fails() -> None:
        raise ZeroDivisionError

    failing = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    for answer, status, code in (
        (client.get("/nowhere"), 404, "not_found"),
        (client.put("/healthz"), 405, "method_not_allowed"),
        (failing.get("/fails"), 500, "internal_error"),
        (failing.get("/v1/ledgers"), 401, "not_authenticated"),
    ):
        document = answer.json()
        assert (answer.status_code, document["code"], document["status"]) == (status, code, status)
        assert document["type"] == f"urn:subledger:error:{code}"
        assert answer.headers["content-type"] == "application/problem+json"
    assert client.put("/healthz").headers["allow"] == "GET"


def test_what_the_database_says_is_for_the_log_and_not_for_the_caller() -> None:
    database = Database("postgresql://somebody@127.0.0.1:1/none")
    caller = TestClient(create_app(Subledger(database), open_on_loopback=True), base_url="http://127.0.0.1")
    with capture_logs() as logged:
        answer = caller.get("/readyz")
    database.close()
    document = answer.json()
    assert (answer.status_code, document["code"], document["retryable"]) == (503, "database_unavailable", True)
    assert document["detail"] == "The database does not answer now; send the same call again."
    assert "127.0.0.1" not in answer.text
    assert any("127.0.0.1" in entry.get("detail", "") for entry in logged)


def test_no_answer_leads_to_the_host_that_a_call_names(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    for path in (f"/v1/ledgers/{ledger}/", "/healthz/", "//evil.example/healthz/", "/"):
        answer = client.get(path, headers={"host": "evil.example"}, follow_redirects=False)
        assert "evil.example" not in answer.headers.get("location", ""), path
        assert answer.status_code in (401, 404, 307), path


def test_a_key_of_another_role_is_told_so_before_its_body_is_looked_at(
    service: Subledger, new_ledger: NewLedger, keys_are_forgotten: None
) -> None:
    ledger = new_ledger()
    key = create_key(service.database, ledger=ledger, role="reader", name="ann").secret
    client = TestClient(create_app(service), base_url="http://127.0.0.1", client=("127.0.0.1", 50_000))
    answer = client.post(
        f"/v1/ledgers/{ledger}/policies", content=Unread(), headers={"authorization": f"Bearer {key}", **JSON}
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")


@pytest.mark.parametrize("body", ['"text"', "7", "null", "[]", "true", '{"approvals": "x"}', '{"approvals": []}'])
def test_a_body_of_another_json_type_is_refused_with_the_type_expected(
    client: TestClient, new_ledger: NewLedger, body: str
) -> None:
    answer = client.patch(f"/v1/ledgers/{new_ledger()}", content=body.encode(), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) in ((422, "wrong_type"), (422, "missing_field")), answer.text
    assert "object" in answer.json()["expected"] or answer.json()["code"] == "missing_field"
