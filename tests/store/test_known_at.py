"""An answer that names its ``known_at`` never changes, whatever is recorded, adopted or configured afterwards."""

from __future__ import annotations

import ast
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from api.service import Subledger
from api.shapes import balances as balance_answers
from api.shapes import joint_reports, reports
from api.terminal import json_text
from projections.account_mapping.mapping import AccountMapping, default_mapping
from projections.close.close import close_period
from projections.configuring.account_mappings import adopt_mapping
from projections.configuring.clock import set_clock
from projections.reads import balances, blocks
from subledger.errors import SubledgerError, UnknownCustomer, UnknownEntity
from subledger.ledger_settings import LedgerSettings, SettingsChange
from subledger.periods import Period
from subledger.posting import shipped_policy
from subledger.store.database import Database
from subledger.store.reading.ledgers import ledger_head
from tests.building import cloud_event
from tests.conftest import FAR, NewLedger

ROOT: Final = Path(__file__).parents[2]
DAYS: Final = (date(2026, 1, 31), date(2026, 7, 1))

BEFORE: Final = [
    cloud_event("p1", "credits.purchased", "ann", "2026-01-05T10:00:00Z", block_id="b1", credits="10", price="10.00",
                currency="USD", expires_at="2026-06-01T00:00:00Z"),
    cloud_event("p2", "credits.purchased", "ann", "2026-01-05T10:00:00Z", block_id="b3", credits="10", price="10.00",
                currency="USD", expires_at="2026-06-01T00:00:00Z"),
    cloud_event("u1", "credits.consumed", "ann", "2026-01-06T10:00:00Z", credits="2"),
    cloud_event("t1", "credits.transferred", "ann", "2026-01-07T10:00:00Z", block_id="b1", to_customer="bob",
                new_block_id="b2"),
]  # fmt: skip


def of(service: Subledger, ledger: str, as_of: date, known_at: datetime | None) -> dict[str, str]:
    """Returns all answers about a ledger at a point in time, as JSON; for a refusal its code."""
    asked: dict[str, Callable[[], Any]] = {"trial balance": lambda: _trial_balance(service, ledger, as_of, known_at)}
    asked["blocks"] = lambda: _blocks(service, ledger, as_of, known_at)
    asked["other currencies"] = lambda: _has_other_currencies(service, ledger, as_of, known_at)
    for customer in ("ann", "bob", "cid"):
        asked[f"balances of {customer}"] = lambda customer=customer: _balances(
            service, ledger, customer, as_of, known_at
        )
        asked[f"statement of {customer}"] = lambda customer=customer: _report(
            service, ledger, "statement", as_of, known_at, customer
        )
    for name, offered in reports.REPORTS.items():
        if not offered.needs:
            asked[f"report {name}"] = lambda name=name: _report(service, ledger, name, as_of, known_at, None)
    found = {}
    for what, answer in asked.items():
        try:
            found[what] = json_text(answer())
        except SubledgerError as error:
            found[what] = error.code
    return found


def _trial_balance(service: Subledger, ledger: str, as_of: date, known_at: datetime | None) -> Any:
    return balance_answers.trial_balance(*service.trial_balance(ledger, as_of=as_of, known_at=known_at))


def _balances(service: Subledger, ledger: str, customer: str, as_of: date, known_at: datetime | None) -> Any:
    at, found = service.customer_balances(ledger, customer, as_of=as_of, known_at=known_at)
    return balance_answers.customer_balances(at, customer, found)


def _blocks(service: Subledger, ledger: str, as_of: date, known_at: datetime | None) -> Any:
    with service.view(ledger, as_of=as_of, known_at=known_at) as view:
        found, _ = blocks.customer_blocks(view)
        return [balance_answers.block(block, view.functional_currency) for block in found]


def _has_other_currencies(service: Subledger, ledger: str, as_of: date, known_at: datetime | None) -> bool:
    with service.view(ledger, as_of=as_of, known_at=known_at) as view:
        return balances.has_other_currencies(view)


def _report(
    service: Subledger, ledger: str, name: str, as_of: date, known_at: datetime | None, customer: str | None
) -> Any:
    question = reports.ReportQuery(as_of=as_of, known_at=known_at, customer=customer)
    with reports.answer(service, ledger, name, question) as (found, view, asked):
        return reports.as_json(found, view, asked)


def now_of(service: Subledger, ledger: str) -> datetime:
    with service.database.read() as connection:
        return ledger_head(connection, ledger).recorded_at


def recorded(service: Subledger, ledger: str, *events: dict[str, Any]) -> None:
    assert [outcome.error for outcome in service.record(ledger, events)] == [None] * len(events)


def moved_expiry(service: Subledger, ledger: str) -> None:
    """Moves the expiry of a transferred block and of a bought block."""
    for customer, block in (("bob", "b2"), ("ann", "b3")):
        changed = {"block_id": block, "reason": "agreed", "expires_at": "2026-12-01T00:00:00Z"}
        event = cloud_event(f"x-{block}", "block.expiry_changed", customer, "2026-01-20T10:00:00Z", **changed)
        recorded(service, ledger, event)


def adopted_mapping(service: Subledger, ledger: str) -> None:
    rows = [dict(row) for row in default_mapping().rows]
    for row in rows:
        if row["role"] == "prepaid_liability":
            row["account"] = "9999"
    assert adopt_mapping(service.recorder, ledger, AccountMapping.from_rows(rows), valid_from=Period(2026, 1))


def adopted_policy(service: Subledger, ledger: str) -> None:
    """Adopts a policy with the deposit pair. The ledger's policy has none."""
    assert service.adopt_policy(ledger, shipped_policy("customer_deposits_arm")).adopted


def configured(service: Subledger, ledger: str) -> None:
    service.configure_ledger(ledger, SettingsChange(entity=f"other-{ledger}", on_shortfall="overage"))


def new_customer(service: Subledger, ledger: str) -> None:
    recorded(
        service,
        ledger,
        cloud_event(
            "p9",
            "credits.purchased",
            "cid",
            "2026-01-08T10:00:00Z",
            block_id="b9",
            credits="5",
            price="5.00",
            currency="USD",
        ),
    )


def other_currency(service: Subledger, ledger: str) -> None:
    recorded(
        service,
        ledger,
        cloud_event(
            "r",
            "exchange_rate.set",
            None,
            "2026-01-01T00:00:00Z",
            base="EUR",
            quote="USD",
            rate="1.2",
            rate_source="ECB",
        ),
        cloud_event(
            "p8",
            "credits.purchased",
            "bob",
            "2026-01-08T10:00:00Z",
            block_id="b8",
            credits="5",
            price="5.00",
            currency="EUR",
        ),
    )


def used_up(service: Subledger, ledger: str) -> None:
    recorded(service, ledger, cloud_event("u9", "credits.consumed", "bob", "2026-01-09T10:00:00Z", credits="8"))


def closed(service: Subledger, ledger: str) -> None:
    close_period(service.recorder, ledger, Period(2026, 1))


@pytest.mark.parametrize(
    "change", [moved_expiry, adopted_mapping, adopted_policy, configured, new_customer, other_currency, used_up, closed]
)
def test_an_answer_at_a_fixed_known_at_never_changes(
    service: Subledger, new_ledger: NewLedger, change: Callable[[Subledger, str], None]
) -> None:
    ledger = new_ledger(policy="contract_liability")
    recorded(service, ledger, *BEFORE)
    known_at = now_of(service, ledger)
    told = {day: of(service, ledger, day, known_at) for day in DAYS}
    change(service, ledger)
    assert now_of(service, ledger) > known_at
    for day, expected in told.items():
        assert of(service, ledger, day, known_at) == expected
    stranger = Subledger(Database(service.database.url))
    try:
        assert {day: of(stranger, ledger, day, known_at) for day in DAYS} == told
    finally:
        stranger.database.close()


def test_a_transferred_block_has_the_expiry_that_was_known(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    recorded(service, ledger, *BEFORE)
    known_at = now_of(service, ledger)
    moved_expiry(service, ledger)
    with service.view(ledger, as_of=date(2026, 7, 1), known_at=known_at) as view:
        then = blocks.one_block(view, "b2")
        assert (then.expires_at, then.status) == (datetime(2026, 6, 1, tzinfo=UTC), "expired")
    with service.view(ledger, as_of=date(2026, 7, 1)) as view:
        now = blocks.one_block(view, "b2")
        assert (now.expires_at, now.status) == (datetime(2026, 12, 1, tzinfo=UTC), "active")


def test_a_customer_is_unknown_as_long_as_no_event_was(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    recorded(service, ledger, *BEFORE)
    known_at = now_of(service, ledger)
    new_customer(service, ledger)
    with pytest.raises(UnknownCustomer):
        service.customer_balances(ledger, "cid", known_at=known_at)
    with service.view(ledger, known_at=known_at) as view, pytest.raises(UnknownCustomer):
        balances.customer_balances(view, "cid")


def test_before_a_ledger_was_founded_nothing_was_known_of_it(service: Subledger, new_ledger: NewLedger) -> None:
    ledger = new_ledger(policy="customer_deposits")
    recorded(service, ledger, *BEFORE)
    told = of(service, ledger, DAYS[0], datetime(2026, 1, 1, tzinfo=UTC))
    named = [what for what in told if what.endswith((" of ann", " of bob", " of cid"))]
    assert {told.pop(what) for what in named} == {"unknown_customer"}
    for what, answer in told.items():
        answer = answer.replace(ledger, "")  # a random name, which may contain the name of a block
        assert "b1" not in answer, what
        assert "10.00" not in answer, what


def test_an_entity_has_the_ledgers_that_it_was_known_to_have(service: Subledger, new_ledger: NewLedger) -> None:
    entity = f"US-{uuid.uuid4().hex[:8]}"
    leaving = new_ledger(entity=entity)
    staying = new_ledger(entity=entity)
    known_at = now_of(service, staying)
    question = reports.ReportQuery(as_of=date(2026, 1, 31), known_at=known_at)

    def told() -> str:
        chosen = joint_reports.Chosen(entity=entity)
        return json_text(joint_reports.as_json(joint_reports.answer(service, "trial-balance", question, chosen)))

    before = told()
    assert leaving in before
    assert staying in before
    service.configure_ledger(leaving, SettingsChange(entity=f"other-{entity}"))
    coming = new_ledger(entity=entity)
    assert told() == before
    now = joint_reports.answer(service, "trial-balance", reports.ReportQuery(), joint_reports.Chosen(entity=entity))
    assert sorted(part.ledger for part in now.parts) == sorted((staying, coming))
    with pytest.raises(UnknownEntity):
        joint_reports.answer(
            service,
            "trial-balance",
            reports.ReportQuery(known_at=known_at),
            joint_reports.Chosen(entity=f"other-{entity}"),
        )


# --- the status of a block ------------------------------------------------------------------------------------------


def test_a_status_at_a_fixed_known_at_does_not_move_with_the_clock(service: Subledger) -> None:
    """As of today, a block expires between two equal reads."""
    ledger = f"t-{uuid.uuid4().hex[:10]}"
    morning = datetime(2026, 5, 4, 9, tzinfo=UTC)
    service.create_ledger(ledger, LedgerSettings(currency="USD", sandbox=True, clock=morning))
    recorded(
        service,
        ledger,
        cloud_event(
            "p",
            "credits.purchased",
            "ann",
            "2026-05-01T00:00:00Z",
            block_id="b",
            credits="1",
            price="1.00",
            currency="USD",
            expires_at="2026-05-04T12:00:00Z",
        ),
    )
    known_at = now_of(service, ledger)

    def status(known_at: datetime | None) -> str:
        with service.view(ledger, as_of=morning.date(), known_at=known_at) as view:
            return blocks.one_block(view, "b").status.value

    assert (status(known_at), status(None)) == ("active", "active")
    set_clock(service.recorder, ledger, morning + timedelta(hours=4))
    assert (status(known_at), status(None)) == ("active", "expired")
    set_clock(service.recorder, ledger, FAR)
    assert (status(known_at), status(None)) == ("active", "expired")


def test_a_status_of_a_real_ledger_goes_by_what_was_known(service: Subledger, new_ledger: NewLedger) -> None:
    """A block whose expiry is between the recording and now is not expired as known at the recording."""
    ledger = new_ledger()
    expires_at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=40)
    recorded(
        service,
        ledger,
        cloud_event(
            "p",
            "credits.purchased",
            "ann",
            "2026-05-01T00:00:00Z",
            block_id="b",
            credits="1",
            price="1.00",
            currency="USD",
            expires_at=expires_at.isoformat(),
        ),
    )
    known_at = now_of(service, ledger)
    for named in (known_at, None):
        with service.view(ledger, as_of=expires_at.date() + timedelta(days=1), known_at=named) as view:
            assert blocks.one_block(view, "b").status == "active"
            assert view.moment <= datetime.now(UTC)


NOW: Final = frozenset({"rules_of", "mapping_for", "ledger_head", "settings_at"})
"""Functions that read the current state, or take a position. For a view there are ``rules``, ``settings`` and
``mapping_at``.
"""


def test_what_takes_a_view_asks_nothing_of_now() -> None:
    """Exceptions are the monitors, which check the current state, and ``mapping_at``, which passes the position of the
    view.
    """
    faults = []
    for path in sorted((ROOT / "projections").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef) or function.name == "mapping_at" or "monitors" in path.parts:
                continue
            if any(isinstance(arg.annotation, ast.Name) and arg.annotation.id == "View" for arg in function.args.args):
                named = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)} & NOW
                members = {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}
                named |= members & {"head"}
                faults += [f"{path.relative_to(ROOT)}, {function.name}: {name}" for name in sorted(named)]
    assert faults == []
