"""subledger/ERRORS.md equals the code: codes, statuses, and the messages of real refusals."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import pytest

from api.service import Subledger
from subledger.errors import InvalidJson, SubledgerError
from subledger.text.json_text import loads
from tests.building import cloud_event
from tests.http.error_page import PAGE, input_of, page
from tests.laws.test_errors import CALLS, GROUPS, REFUSALS, all_errors, ledger

__all__ = ["ledger"]

FILE: Final = Path(__file__).parents[2] / "subledger" / "ERRORS.md"
SOUND: Final = {"block_id": "B9", "credits": "10", "price": "5.00", "currency": "USD"}


def _sale(time: str = "2026-01-15T12:00:00Z", type: str = "credits.purchased", /, **changes: Any) -> dict[str, Any]:
    return cloud_event("sale", type, "ann", time, **{**SOUND, **changes})


# Faults of the text of an event, one for each code; tests/laws/test_events.py has every kind of them.
TEXTS: Final[dict[str, Any]] = {
    "invalid_event": [],
    "missing_field": cloud_event("sale", "credits.consumed", "ann", "2026-01-15T12:00:00Z"),
    "unknown_field": _sale(colour="red"),
    "wrong_type": _sale(credits=10),
    "invalid_value": _sale(credits="0"),
    "naive_time": _sale("2026-01-15T12:00:00"),
    "too_many_decimals": _sale(price="5.001"),
    "unknown_currency": _sale(currency="XXX"),
    "unknown_event_type": _sale("2026-01-15T12:00:00Z", "credits.minted"),
    "reserved_event_type": _sale("2026-01-15T12:00:00Z", "period.closed"),
}


def _met(service: Subledger, ledger: str) -> dict[str, tuple[str | None, SubledgerError]]:
    """Returns by code the shown input, and the resulting error."""
    found: dict[str, tuple[str | None, SubledgerError]] = {}
    with pytest.raises(InvalidJson) as caught:
        loads(PAGE["invalid_json"][0].strip("`").encode())
    found["invalid_json"] = (None, caught.value)
    for code, document in TEXTS.items():
        [outcome] = service.record(ledger, [document])
        assert outcome.error is not None
        shown = input_of(document, outcome.error.field) if isinstance(document, dict) else None
        found[code] = (shown, outcome.error)
    for error, document, _ in REFUSALS:
        if error.code not in found:
            [outcome] = service.record(ledger, [document])
            assert outcome.error is not None
            found[error.code] = (input_of(document, outcome.error.field), outcome.error)
    for error, call in CALLS:
        if error.code not in found:
            with pytest.raises(error) as caught:
                call(service, ledger)
            found[error.code] = (None, caught.value)
    assert {code: met.code for code, (_, met) in found.items()} == {code: code for code in found}
    return found


def test_the_page_of_errors_is_that_of_the_code(service: Subledger, ledger: str) -> None:
    """After a change of an error: SUBLEDGER_WRITE_ERRORS=1 pytest tests/http/test_error_page.py"""
    made = page(_met(service, ledger))
    if os.environ.get("SUBLEDGER_WRITE_ERRORS"):
        FILE.write_text(made, "utf-8")
    assert FILE.read_text("utf-8") == made, "see the docstring of this test"


def test_every_error_has_advice_and_each_advice_an_error() -> None:
    assert sorted(PAGE) == sorted(error.code for error in all_errors() if error not in GROUPS)
    assert [code for code, (_, advice) in PAGE.items() if not advice.endswith(".")] == []
