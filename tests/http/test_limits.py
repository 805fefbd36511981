"""The table of the limits of HTTP calls in api/README.md equals the code, limit by limit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from api import limits
from api.http.problems import status_of
from api.limits import HttpLimits
from api.monitor_metrics import MonitorsInMetrics
from api.stopping import StoppingTime
from subledger.store.timeouts import Timeouts
from subledger.store.writing.queue import Limits
from tests.laws.test_errors import all_errors

README = Path(__file__).parents[2] / "api" / "README.md"
TIMES = HttpLimits()


def size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"


LIMITS: dict[str, tuple[tuple[str, ...], str]] = {
    "body of a call": (("MAX_BODY",), size(limits.MAX_BODY)),
    "body of `POST …/events` · `PUT …/mapping` · `…/tie-out`": (
        ("MAX_EVENTS_BODY", "MAX_MAPPING_BODY", "MAX_TIE_OUT_BODY"),
        f"{size(limits.MAX_EVENTS_BODY)} · {size(limits.MAX_MAPPING_BODY)} · {size(limits.MAX_TIE_OUT_BODY)}",
    ),
    "address of a call": (("MAX_URL",), size(limits.MAX_URL)),
    "line and headers of a call": (
        ("MAX_HEAD", "MAX_HEADERS"), f"{size(limits.MAX_HEAD)} together, {limits.MAX_HEADERS} headers",
    ),
    "time for line and headers to arrive (`SUBLEDGER_HEAD_TIMEOUT_S`)": (
        ("head_timeout_s",), f"{TIMES.head_timeout_s:g} s",
    ),
    "a connection without a call (`SUBLEDGER_KEEP_ALIVE_S`)": (("keep_alive_s",), f"{TIMES.keep_alive_s} s"),
    "pipelined calls of a connection": (("MAX_PIPELINED",), str(limits.MAX_PIPELINED)),
    "connections of a server (`SUBLEDGER_CONNECTIONS`)": (("connections",), str(TIMES.connections)),
    "time for a client to read more of its answer": (
        ("UNREAD_ANSWER_S", "SLOWEST_ANSWER_BYTES_A_SECOND"),
        f"{limits.UNREAD_ANSWER_S:g} s, "
        f"plus {(1 << 20) // limits.SLOWEST_ANSWER_BYTES_A_SECOND} s per MiB read",
    ),
    "events of one call": (("MAX_EVENTS",), f"{limits.MAX_EVENTS:,}"),
    "JSON of a body": (
        ("MAX_VALUES", "MAX_VALUES_OF_ROWS", "MAX_JSON_DEPTH"),
        f"{limits.MAX_VALUES:,} values, of events and `tie-out` {limits.MAX_VALUES_OF_ROWS:,}; "
        f"{limits.MAX_JSON_DEPTH} levels",
    ),
    "bodies that a server holds at once": (
        ("MAX_BODIES", "SMALL_BODY"),
        f"{size(limits.MAX_BODIES)} together; one of up to {size(limits.SMALL_BODY)} is always taken",
    ),
    "time for a body to arrive (`SUBLEDGER_BODY_TIMEOUT_S`)": (
        ("body_timeout_s", "SLOWEST_BYTES_A_SECOND"),
        f"{TIMES.body_timeout_s:g} s, plus {(1 << 20) // limits.SLOWEST_BYTES_A_SECOND} s per MiB received",
    ),
}  # fmt: skip
"""Rows of the table: the first cell, the names in api/limits.py, and the second cell made from the code's values."""


def test_the_readme_states_each_limit_of_the_code_with_its_value() -> None:
    section = README.read_text("utf-8").partition("\n## Limits\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    cells = {row[0]: row[1] for row in rows}
    assert {what: cells.get(what) for what in LIMITS} == {what: text for what, (_, text) in LIMITS.items()}


def test_every_limit_of_the_code_has_a_row() -> None:
    constants = {name for name in vars(limits) if name.isupper() and not name.startswith("_")}
    assert {name for names, _ in LIMITS.values() for name in names} == constants | set(HttpLimits.__struct_fields__)


def test_the_codes_that_the_readme_names_are_errors_with_the_status_it_says() -> None:
    statuses = {error.code: status_of(error("")) for error in all_errors()}
    named = re.findall(r"\b(4\d\d|503) `([a-z_]+)`", README.read_text("utf-8"))
    assert len(named) > 12
    assert [(status, code) for status, code in named if statuses.get(code) != int(status)] == []


SETTINGS: dict[str, Any] = {
    f"SUBLEDGER_{name.upper()}": getattr(kind(), name)
    for kind in (Limits, Timeouts, StoppingTime, MonitorsInMetrics)
    for name in kind.__struct_fields__
}


def shown(setting: str, default: float) -> str:
    return size(int(default)) if setting.endswith("_BYTES") else f"{default:,g}"


def test_every_setting_with_a_default_is_in_the_table_with_it() -> None:
    section = README.read_text("utf-8").partition("\n## Settings\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `SUBLEDGER_")]
    for setting, default in SETTINGS.items():
        [row] = [row for row in rows if f"`{setting}`" in row.split(" | ")[0]]
        assert re.search(rf"default.*\b{re.escape(shown(setting, default))}\b", row), f"{setting}: {default}"
