"""Text that JSON can write but the database cannot store is refused with its place, and the server does not fail."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.conftest import NewLedger

HALF, NUL = "\\ud800", "\\u0000"
"""Half of a surrogate pair, and NUL, as JSON writes them."""
DROP = '{"connector": "folder", "directory": "%s"}'
BOOKS = '{"rows": [{"account": "%s", "period": "2026-01", "balance": "1.00"}]}'


def send(client: TestClient, method: str, path: str, text: str) -> Any:
    return client.request(method, path, content=text.encode(), headers={"content-type": "application/json"})


@pytest.mark.parametrize("bad", [HALF, NUL])
@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("PUT", "/channels/drop", DROP, "directory"),
        ("PUT", "/monitors/thresholds", '{"webhook": "https://x.example/%s", "webhook_secret": "env:S"}', "webhook"),
        ("PUT", "/monitors/thresholds", '{"%s": 1}', "body"),
        ("PUT", "/targets/netsuite", '{"title": "%s"}', "title"),
        ("PUT", "/targets/netsuite", '{"accounts": {"4000": "%s"}}', "accounts.4000"),
        ("PUT", "/targets/netsuite", '{"accounts": {"%s": "4000"}}', "accounts"),
        ("POST", "/tie-out", '{"csv": "account,period,balance\\\\n", "accounts": ["%s"]}', "accounts.0"),
        ("POST", "/tie-out", BOOKS, "rows.0.account"),
        ("POST", "/channels/drop/tie-out", '{"periods": ["%s"]}', "periods.0"),
        ("POST", "/deliveries", '{"period": "%s"}', "period"),
        ("POST", "/deliveries", '{"period": "2026-01", "channel": "%s"}', "channel"),
        ("POST", "/deliveries/d/abandon", '{"reason": "%s"}', "reason"),
    ],
)
def test_text_that_nothing_can_keep_is_refused_naming_its_place(
    client: TestClient, new_ledger: NewLedger, method: str, path: str, body: str, field: str, bad: str
) -> None:
    answer = send(client, method, f"/v1/ledgers/{new_ledger()}{path}", body % f"a{bad}b")
    if bad == HALF:  # it is not JSON, so the answer names the place in the text
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")
        assert "line 1 column" in answer.json()["detail"]
    else:
        assert answer.status_code == 422, answer.text
        assert answer.json()["field"] == field


@pytest.mark.parametrize("path", ["/channels/a%00b", "/deliveries?channel=%00"])
def test_an_address_with_nul_is_refused(client: TestClient, new_ledger: NewLedger, path: str) -> None:
    answer = client.get(f"/v1/ledgers/{new_ledger()}{path}")
    assert answer.status_code == 422, answer.text


@pytest.mark.usefixtures("open_borders")
def test_text_of_any_script_is_kept(client: TestClient, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    answer = send(client, "PUT", f"/v1/ledgers/{ledger}/channels/drop", DROP % "/drop/\\ud83d\\udcb6/\u00e9")
    assert answer.status_code == 200, answer.text
    assert answer.json()["settings"]["directory"] == "/drop/\U0001f4b6/\u00e9"
