"""Too many events over HTTP are refused with a code and a waiting time, and none of them is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from api import settings
from api.http.app import create_app
from api.http.routes.events import MAX_EVENTS
from api.service import Subledger
from subledger.errors import InvalidValue
from subledger.store.database import Database
from subledger.store.writing.queue import Limits
from tests.conftest import NewLedger
from tests.store.holding import held, use
from tests.waiting import until

Limited = Callable[..., tuple[Subledger, TestClient]]


@pytest.fixture
def limited(owner_url: str) -> Iterator[Limited]:
    """Makes a service with its own limits, and a client of it: ``limited(queue_events=3)``."""
    with ExitStack() as stack:

        def make(**limits: Any) -> tuple[Subledger, TestClient]:
            database = Database(owner_url)
            stack.callback(database.close)
            service = Subledger(database, limits=Limits(**limits))
            app = create_app(service, open_on_loopback=True)
            client = TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50_000))
            return service, stack.enter_context(client)

        yield make


@pytest.fixture
def ledger(funded_ledger: str) -> str:
    return funded_ledger


def _problem(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["retryable"]
    assert int(answer.headers["retry-after"]) >= 1


def test_a_full_queue_answers_429_for_its_ledger_and_503_for_all(
    limited: Limited, owner_url: str, ledger: str, new_ledger: NewLedger
) -> None:
    service, client = limited(queue_events=3, all_events=4)
    url, other = f"/v1/ledgers/{ledger}/events", f"/v1/ledgers/{new_ledger()}/events"
    with ThreadPoolExecutor(3) as pool, held(owner_url, ledger) as hold:
        calls = []
        for n in range(3):
            calls.append(pool.submit(client.post, url, json=use(f"u-{n}")))
            until(lambda: service.gatherer.depth == len(calls))
        _problem(client.post(url, json=use("busy")), 429, "ledger_busy")
        _problem(client.post(other, json=[use("x"), use("y")]), 503, "overloaded")
        hold.release()
        assert {call.result().status_code for call in calls} == {200}
    recorded = client.get(url, params={"after": 4}).json()["items"]
    assert sorted(item["id"] for item in recorded) == ["u-0", "u-1", "u-2"]
    assert client.get(other, params={"after": 3}).json()["items"] == []


def test_who_waits_too_long_is_answered_503_unless_it_is_on_its_way_to_the_log(
    limited: Limited, owner_url: str, ledger: str
) -> None:
    _, client = limited(waiting_s=0.3)
    url = f"/v1/ledgers/{ledger}/events"
    with ThreadPoolExecutor(1) as pool, held(owner_url, ledger) as hold:
        on_its_way = pool.submit(client.post, url, json=use("on-its-way"))
        hold.waiting_writer()
        _problem(client.post(url, json=use("waits")), 503, "overloaded")
        assert not on_its_way.done()
        hold.release()
        assert on_its_way.result().status_code == 200
    assert [item["id"] for item in client.get(url, params={"after": 4}).json()["items"]] == ["on-its-way"]


def test_a_server_that_is_stopping_answers_503(limited: Limited, ledger: str) -> None:
    service, client = limited()
    url = f"/v1/ledgers/{ledger}"
    assert client.post(f"{url}/events", json=use("u")).status_code == 200
    assert service.gatherer.stop()
    _problem(client.post(f"{url}/events", json=use("late")), 503, "stopping")
    assert client.get(url).status_code == 200, "what was recorded can still be read"


def test_more_events_than_a_request_may_have_are_refused(client: TestClient, ledger: str) -> None:
    answer = client.post(f"/v1/ledgers/{ledger}/events", json=[None] * (MAX_EVENTS + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert client.get(f"/v1/ledgers/{ledger}").json()["position"] == 4


def test_what_waits_what_is_gathered_and_what_is_refused_is_counted(
    limited: Limited, owner_url: str, ledger: str
) -> None:
    service, client = limited(queue_events=1)
    url = f"/v1/ledgers/{ledger}/events"
    before = _counted(client)
    with ThreadPoolExecutor(1) as pool, held(owner_url, ledger) as hold:
        call = pool.submit(client.post, url, json=use("u"))
        until(lambda: service.gatherer.depth == 1)
        _problem(client.post(url, json=use("busy")), 429, "ledger_busy")
        assert _counted(client)["subledger_waiting_events"] == 1
        hold.release()
        call.result()
    after = _counted(client)
    assert after["subledger_waiting_events"] == 0
    for name in (
        "subledger_batch_events_count",
        "subledger_batch_events_sum",
        "subledger_batch_callers_sum",
        "subledger_batch_seconds_count",
        'subledger_refused_calls_total{code="ledger_busy"}',
    ):
        assert after[name] == before.get(name, 0) + 1, name


def test_the_bounds_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBLEDGER_QUEUE_EVENTS", "7")
    monkeypatch.setenv("SUBLEDGER_WAITING_S", "2.5")
    assert settings.limits() == Limits(queue_events=7, waiting_s=2.5)
    monkeypatch.setenv("SUBLEDGER_QUEUE_EVENTS", "0")
    with pytest.raises(InvalidValue) as refused:
        settings.limits()
    assert (refused.value.field, refused.value.found) == ("SUBLEDGER_QUEUE_EVENTS", "0")


def _counted(client: TestClient) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}
