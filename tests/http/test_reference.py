"""Pages for people: a browser loads everything for them from this server, and their policy allows nothing else."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest
from fastapi.testclient import TestClient

from api.http.app import create_app
from api.service import Subledger
from tests.conftest import NewLedger

OF_THE_API = ("/docs", "/redoc")
ADDRESSES = ("src", "href", "srcset", "action", "data", "poster", "formaction", "xlink:href")


class Page(HTMLParser):
    """The addresses that a page loads, links to and runs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self._in: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.addresses += [value for name, value in attrs if name in ADDRESSES and value]
        self._in = "style" if tag == "style" else "script" if tag == "script" and "src" not in given else None

    def handle_data(self, data: str) -> None:
        if self._in == "script":
            self.scripts.append(data)
        elif self._in == "style":
            self.styles.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == self._in:
            self._in = None


def _pages(client: TestClient, ledger: str) -> list[str]:
    """Returns every page of the server: those of the API, and each report as HTML."""
    reports = client.get(f"/v1/ledgers/{ledger}/reports").json()["items"]
    assert len(reports) >= 10
    return [*OF_THE_API, *(f"/v1/ledgers/{ledger}/reports/{report['report']}?format=html" for report in reports)]


def test_no_page_names_another_host(client: TestClient, new_ledger: NewLedger) -> None:
    for path in _pages(client, new_ledger()):
        answer = client.get(path)
        if answer.status_code == 422:  # a report of one customer
            continue
        assert answer.headers["content-type"].startswith("text/html"), path
        page = Page(answer.text)
        for address in page.addresses:
            parts = urlsplit(address)
            assert (parts.scheme, parts.netloc) in (("", ""), ("data", "")), (path, address)
        assert not re.search(r"url\(|@import", "".join(page.styles)), path
        assert not re.search(r"https?:|[\"'`]//", "".join(page.scripts)), path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy, path
        assert not re.search(r"https?:|\*|script-src[^;]*'unsafe", policy), path


@pytest.mark.parametrize("path", OF_THE_API)
def test_all_that_a_page_of_the_api_loads_is_served_and_allowed(path: str, client: TestClient) -> None:
    answer = client.get(path)
    page, policy = Page(answer.text), answer.headers["content-security-policy"]
    loaded = [urljoin(path, address) for address in page.addresses if not address.startswith("data:")]
    assert loaded
    for address in loaded:
        got = client.get(address)
        assert got.status_code == 200, address
        assert len(got.content) > 100_000, address
        assert got.headers["content-type"].partition(";")[0] in ("text/javascript", "text/css"), address
    for script in page.scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "'openapi.json'" in answer.text or '"openapi.json"' in answer.text
    assert client.get("/openapi.json").json()["openapi"].startswith("3.")


def test_no_other_file_is_served(client: TestClient) -> None:
    for name in ("favicon.png", "core.py", "..%2Fcore.py", "%2e%2e/core.py", "..%2F..%2F..%2Fetc%2Fpasswd"):
        assert client.get(f"/reference/{name}").status_code in (404, 422), name


def test_the_document_is_built_once_and_its_text_is_kept(service: Subledger) -> None:
    app = create_app(service)
    caller = TestClient(app, base_url="http://127.0.0.1")
    first = caller.get("/openapi.json")
    assert first.headers["content-type"] == "application/json"
    assert first.json() == app.openapi()
    schemas = app.openapi()["components"]["schemas"]
    event = schemas["Event"]
    assert app.openapi()["components"]["schemas"]["Event"] is event
    schemas.clear()
    assert caller.get("/openapi.json").content == first.content
