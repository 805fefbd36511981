"""Every read that the product offers, from its own OpenAPI document and its own list of reports.

Owns: the reads at a point in time, and the other reads that can be repeated. A new route or a new report is included
automatically. A route without a point in time must be added to one of the two tables; otherwise the law fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from random import Random
from typing import Any, Final
from urllib.parse import quote

import msgspec
from fastapi.testclient import TestClient

from api.http.app import create_app
from api.service import Subledger
from subledger.events.envelope import format_time

KEPT: Final = {
    "/v1/ledgers/{ledger}/events/{position}": "a recorded event, whole",
    "/v1/ledgers/{ledger}/policies/{number}": "an adopted policy, with its rules",
    "/v1/ledgers/{ledger}/consistency": "the proof between two sizes of the log",
    "/v1/ledgers/{ledger}/exports/{export_id}": "an export, with its lines and documents",
    "/v1/ledgers/{ledger}/exports/{export_id}/file": "the file that was handed over",
    "/v1/ledgers/{ledger}/exports/{export_id}/lines/{line}/entries": "the entries behind a line of it",
}
"""Reads of items that never change: they are byte-equal even without a point in time."""

GROWING: Final = {
    "/v1/ledgers/{ledger}/events": "events are added",
    "/v1/ledgers/{ledger}/journal-lines": "entries are added",
    "/v1/ledgers/{ledger}/blocks/{block_id}/history": "events that touch the block are added",
    "/v1/ledgers/{ledger}/policies": "policies are adopted",
    "/v1/ledgers/{ledger}/exports": "exports are made",
    "/v1/ledgers/{ledger}/erasures": "customers are erased",
}
"""Lists that grow: every earlier item is there again, unchanged."""

NOW: Final = {
    "/v1/ledgers": "ledgers as they stand",
    "/v1/ledgers/{ledger}": "its settings and head as they stand",
    "/v1/ledgers/{ledger}/clock": "a sandbox's clock",
    "/v1/keys": "keys as they stand",
    "/v1/ledgers/{ledger}/approvals": "what waits for a second person",
    "/v1/ledgers/{ledger}/approvals/{approval}": "what waits for a second person",
    "/v1/ledgers/{ledger}/customers": "how many blocks customers hold, to find one by",
    "/v1/ledgers/{ledger}/customers/{customer}/attributes": "no part of the log: they may be erased",
    "/v1/ledgers/{ledger}/events/{position}/proof": "the path to the root of the log as it stands",
    "/v1/ledgers/{ledger}/checkpoint": "the head of the log as it stands, signed",
    "/v1/ledgers/{ledger}/rejected": "what was refused is recorded or dismissed later",
    "/v1/ledgers/{ledger}/rejected/summary": "the same, counted",
    "/v1/ledgers/{ledger}/rejected/{rejection}": "the same, one of them",
    "/v1/ledgers/{ledger}/reports": "a list of what can be asked",
    "/v1/reports": "a list of what can be asked",
    "/v1/ledgers/{ledger}/reports/integrity": "what a verification finds now",
    "/v1/ledgers/{ledger}/periods": "months as they stand; reports say how they stood at a moment",
    "/v1/ledgers/{ledger}/periods/{period}/checklist": "what is still to be done",
    "/v1/ledgers/{ledger}/periods/{period}/journals": "journals, and which of them were reversed since",
    "/v1/ledgers/{ledger}/mapping": "the mapping of the next journal",
    "/v1/ledgers/{ledger}/targets": "settings of general ledgers as they stand",
    "/v1/ledgers/{ledger}/targets/{target}": "the same, of one",
    "/v1/ledgers/{ledger}/channels": "channels as they stand",
    "/v1/ledgers/{ledger}/channels/{channel}": "one of them",
    "/v1/ledgers/{ledger}/deliveries": "deliveries on their way",
    "/v1/ledgers/{ledger}/deliveries/{delivery_id}": "one of them",
    "/v1/ledgers/{ledger}/monitors": "what monitors see now",
    "/v1/ledgers/{ledger}/monitors/thresholds": "settings of monitors as they stand",
    "/healthz": "the process",
    "/readyz": "the process and its database",
    "/metrics": "the process's counts",
}
"""Reads of a current state, whose answers may change, with the reason."""

MIDDLE: Final = date(2026, 1, 10)
"""A day in the middle of the histories."""
LONG_BEFORE: Final = "2020-01-01T00:00:00Z"
NOW_WITHIN: Final = {"in_force": "whether a policy is the one in force now"}
"""Fields of an unchanging item, or of an item in a growing list, that show a current state; with the reason."""


class Moment(msgspec.Struct, frozen=True):
    """A point in time for reads."""

    as_of: date
    known_at: datetime


class Asking(msgspec.Struct, frozen=True):
    """One read: its route, its path, its parameters."""

    route: str
    path: str
    parameters: dict[str, str]

    @property
    def name(self) -> str:
        """The route; for a report, also its name."""
        return self.route.replace("{name}", self.path.rpartition("/")[2])


class Answer(msgspec.Struct, frozen=True):
    """A read and its answer: the status and the body; for a list, its items."""

    asked: Asking
    status: int
    body: str


class Differs(msgspec.Struct, frozen=True):
    """A read whose answer was different when it was repeated."""

    asked: Asking
    first: str
    again: str


class Reads:
    """The reads of an application, and their calls."""

    def __init__(self, service: Subledger) -> None:
        app = create_app(service, open_on_loopback=True)
        self.client = TestClient(app, base_url="http://127.0.0.1", client=("127.0.0.1", 50_000))
        self.routes = {
            path: {parameter["name"] for parameter in operations["get"].get("parameters", ())}
            for path, operations in self.client.get("/openapi.json").json()["paths"].items()
            if "get" in operations
        }

    @property
    def with_a_moment(self) -> list[str]:
        """Returns the routes that take ``known_at``, or two moments."""
        return [route for route, takes in self.routes.items() if takes & {"known_at", "to_known_at"}]

    def ask(self, asked: Asking) -> Answer:
        answer = self.client.get(asked.path, params=asked.parameters)
        assert answer.status_code in (200, 404), (asked, answer.text)
        body = answer.text
        if answer.status_code == 200 and asked.route in GROWING:
            body = "\n".join(_kept_of(item) for item in answer.json()["items"])
        elif answer.status_code == 200 and asked.route in KEPT and not asked.route.endswith("/file"):
            body = _kept_of(answer.json())
        return Answer(asked, answer.status_code, body)

    def differences(self, answers: Iterable[Answer]) -> Iterator[Differs]:
        """Repeats the reads. Yields those whose answer is different now."""
        for first in answers:
            again = self.ask(first.asked)
            if first.asked.route in GROWING and again.status == first.status == 200:
                same = set(first.body.splitlines()) <= set(again.body.splitlines())
            else:
                same = (again.status, again.body) == (first.status, first.body)
            if not same:
                yield Differs(first.asked, f"{first.status} {first.body}", f"{again.status} {again.body}")

    # --- the reads ------------------------------------------------------------------------------

    def of_a_moment(
        self, ledger: str, moment: Moment, customers: Sequence[str], blocks: Sequence[str], chance: Random
    ) -> Iterator[Asking]:
        """Yields every read at a point in time: of each customer, of some block, and each report with one choice of its
        parameters.
        """
        for route in self.with_a_moment:
            for customer in customers if "{customer}" in route else ("",):
                for report in self._reports(ledger, route):
                    places = {"ledger": ledger, "customer": customer, "block_id": chance.choice(blocks), **report.place}
                    parameters = {"as_of": moment.as_of.isoformat(), "known_at": format_time(moment.known_at)}
                    parameters |= report.parameters(moment, customers, chance)
                    if "to_known_at" in self.routes[route]:
                        parameters |= _two_moments(parameters.pop("known_at"), customers, chance)
                    if "{ledger}" not in route:
                        parameters |= chance.choice(({"ledger": ledger}, {"entity": ledger}))
                    yield Asking(route, _path(route, places), parameters)

    def _reports(self, ledger: str, route: str) -> list[Offer]:
        """Returns the reports of a route, as the product lists them."""
        if "{name}" not in route:
            return [Offer()]
        listed = self.client.get(_path(route.removesuffix("/{name}"), {"ledger": ledger})).json()["items"]
        return [offer for each in listed if "known_at" in (offer := msgspec.convert(each, Offer)).takes]

    def kept(self, ledger: str, position: int, blocks: Sequence[str], chance: Random) -> Iterator[Asking]:
        """Yields the reads without a point in time that can be repeated."""
        exports = self.client.get(f"/v1/ledgers/{ledger}/exports").json()["items"]
        places = {
            "ledger": ledger,
            "position": str(chance.randint(1, position)),
            "number": "1",
            "line": "1",
            "block_id": chance.choice(blocks),
            "export_id": chance.choice(exports)["id"] if exports else "none",
        }
        sizes = {"from": str(chance.randint(1, position)), "to": str(position)}
        for route in (*KEPT, *GROWING):
            parameters = sizes if route.endswith("/consistency") else {"limit": "1000"} if route in GROWING else {}
            yield Asking(route, _path(route, places), parameters)


class Offer(msgspec.Struct, frozen=True):
    """A report as it is listed. Without a name: a read that is not a report."""

    report: str = ""
    takes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()

    @property
    def place(self) -> dict[str, str]:
        return {"name": self.report} if self.report else {}

    def parameters(self, moment: Moment, customers: Sequence[str], chance: Random) -> dict[str, str]:
        """Returns one choice of its parameters."""
        asked: dict[str, str] = {}
        if "from" in self.takes and moment.as_of >= MIDDLE and chance.random() < 0.4:
            asked["from"] = MIDDLE.isoformat()
        if "to" in self.takes and moment.as_of >= MIDDLE and chance.random() < 0.4:
            asked["to"] = chance.choice((MIDDLE, moment.as_of)).isoformat()
        if "customer" in self.needs or ("customer" in self.takes and chance.random() < 0.4):
            asked["customer"] = chance.choice(customers)
        if self.by and chance.random() < 0.6:
            asked["by"] = chance.choice(self.by)
        if self.formats:
            asked["format"] = chance.choice(("json", "json", *self.formats))
        return asked


def _two_moments(known_at: str, customers: Sequence[str], chance: Random) -> dict[str, str]:
    """Returns parameters for changes until a moment: since long before, or since the same moment; in some format."""
    asked = {"from_known_at": chance.choice((LONG_BEFORE, LONG_BEFORE, known_at)), "to_known_at": known_at}
    asked["format"] = chance.choice(("json", "json", "csv", "html"))
    if chance.random() < 0.3:
        asked["customer"] = chance.choice(customers)
    if chance.random() < 0.3:
        asked["account"] = chance.choice(("prepaid_liability", "usage_revenue"))
    return asked


def _path(route: str, places: dict[str, str]) -> str:
    return route.format(**{name: quote(place, safe="") for name, place in places.items()})


def _kept_of(item: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in item.items() if name not in NOW_WITHIN})
