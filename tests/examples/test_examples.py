"""Worked examples as an accountant writes them: every ``*.txt`` file here, read and checked line by line.

A file says in words what happened, day by day, and then, in tables, what the books must show. ``README.md`` beside
it explains the few words there are. Each file runs under every posting policy that it does not rule out.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from api.service import Subledger
from projections import balances, blocks, integrity
from projections.journals.close import close_period
from subledger.money import format_credits, format_minor
from subledger.periods import Period
from subledger.posting import SHIPPED_POLICIES
from tests.conftest import NewLedger, cloud_event

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.txt"))
NOON = "T12:00:00Z"

_BUY = re.compile(
    r"(?P<day>\S+) (?P<who>\S+) buys (?P<block>\S+): (?P<credits>\S+)(?: \+ (?P<bonus>\S+) bonus)? credits"
    r" for (?P<price>\S+)(?: tax (?P<tax>\S+))?(?: expires (?P<expires>\S+))?(?: for (?P<scope>\S+) only)?"
)
_GRANT = re.compile(
    r"(?P<day>\S+) (?P<who>\S+) is granted (?P<block>\S+): (?P<credits>\S+) credits as (?P<reason>promotional|goodwill)"
    r"(?: worth (?P<value>\S+))?(?: expires (?P<expires>\S+))?"
)
_USE = re.compile(
    r"(?P<day>\S+) (?P<who>\S+) uses (?P<credits>\S+)(?: of (?P<product>\S+))?(?: \((?P<id>\S+)\))?"
    r"(?:, (?P<shortfall>overage|backfill) at (?P<price>\S+))?"
)
_BACK = re.compile(r"(?P<day>\S+) (?P<who>\S+) takes back (?P<credits>\S+) of (?P<id>\S+)")
_VOID = re.compile(r"(?P<day>\S+) (?P<who>\S+) cancels (?P<block>\S+)")
_PAY = re.compile(r"(?P<day>\S+) (?P<who>\S+) pays (?P<amount>\S+) for (?P<block>\S+)")
_EXTEND = re.compile(r"(?P<day>\S+) (?P<who>\S+) gets (?P<block>\S+) extended to (?P<expires>\S+)")
_SWEEP = re.compile(r"(?P<day>\S+) expiries are swept")
_CLOSE = re.compile(r"(?P<month>\d{4}-\d{2}) is closed")
_REFUSED = re.compile(r"(?P<line>.*\S)\s+-> refused: (?P<code>\w+)")


class Example:
    """One file, being run."""

    def __init__(self, service: Subledger, ledger: str, currency: str) -> None:
        self.service, self.ledger, self.currency = service, ledger, currency
        self.count = 0
        self.customers: dict[str, None] = {}

    def happen(self, line: str) -> None:
        refused = _REFUSED.fullmatch(line)
        line = refused["line"] if refused else line
        if match := _SWEEP.fullmatch(line):
            self.service.expire(self.ledger, date.fromisoformat(match["day"]))
            return
        if match := _CLOSE.fullmatch(line):
            close_period(self.service.recorder, self.ledger, Period.parse(match["month"]))
            return
        [outcome] = self.service.record(self.ledger, [self.event(line)])
        code = None if outcome.error is None else outcome.error.code
        assert code == (refused["code"] if refused else None), (line, outcome)

    def event(self, line: str) -> dict[str, Any]:
        self.count += 1
        if match := _BUY.fullmatch(line):
            data = {"block_id": match["block"], "credits": match["credits"], "price": match["price"]}
            data |= {"currency": self.currency, "invoice_id": match["block"]}
            data |= _given(bonus_credits=match["bonus"], tax=match["tax"], expires_at=_moment(match["expires"]))
            if match["scope"]:
                data["scope"] = match["scope"].split(",")
            return self.cloud(match, "credits.purchased", data)
        if match := _GRANT.fullmatch(line):
            data = {"block_id": match["block"], "credits": match["credits"], "reason": match["reason"]}
            data |= _given(value=match["value"], expires_at=_moment(match["expires"]))
            data |= _given(currency=self.currency if match["value"] else None)
            return self.cloud(match, "credits.granted", data)
        if match := _USE.fullmatch(line):
            data = {"credits": match["credits"], **_given(product=match["product"])}
            if match["shortfall"]:
                data |= {"on_shortfall": match["shortfall"], "overage_price": match["price"], "currency": self.currency}
            return self.cloud(match, "credits.consumed", data, match["id"])
        if match := _BACK.fullmatch(line):
            data = {"event_id": match["id"], "reason": "correction"}
            data |= {} if match["credits"] == "all" else {"credits": match["credits"]}
            return self.cloud(match, "consumption.reversed", data)
        if match := _VOID.fullmatch(line):
            return self.cloud(match, "purchase.voided", {"block_id": match["block"], "reason": "cancelled"})
        if match := _PAY.fullmatch(line):
            data = {"amount": match["amount"], "currency": self.currency, "block_id": match["block"]}
            return self.cloud(match, "payment.received", data)
        if match := _EXTEND.fullmatch(line):
            expires = None if match["expires"] == "never" else _moment(match["expires"])
            data = {"block_id": match["block"], "expires_at": expires, "reason": "agreed"}
            return self.cloud(match, "block.expiry_changed", data)
        raise AssertionError(f"nobody knows what this means: {line}")

    def cloud(self, match: re.Match[str], type: str, data: dict[str, Any], id: str | None = None) -> dict[str, Any]:
        self.customers[match["who"]] = None
        return cloud_event(id or f"e{self.count}", type, match["who"], match["day"] + NOON, **data)

    def accounts(self, as_of: date) -> dict[str, str]:
        with self.service.view(self.ledger, as_of=as_of) as view:
            found = balances.trial_balance(self.service.database, view)
        return {balance.account: format_minor(balance.balance_minor, self.currency) for balance in found}

    def block(self, name: str, as_of: date) -> dict[str, str]:
        with self.service.view(self.ledger, as_of=as_of) as view:
            found = blocks.one_block(view, name)
        return {
            "credits": format_credits(found.credits),
            "used": format_credits(found.used),
            "left": format_credits(found.remaining),
            "drawn": format_minor(found.drawn_minor, self.currency),
            "carrying": format_minor(found.carrying_minor, self.currency),
            "status": found.status.value,
        }

    def draws(self, id: str) -> list[str]:
        """What usage drew: ``B1 500 0.00``, block by block."""
        with self.service.database.read() as connection:
            rows = connection.exec_driver_sql(
                "SELECT n.block_id, n.credits, n.amount_minor FROM entries n JOIN events e USING (ledger, position)"
                " WHERE n.ledger = %s AND e.event_id = %s ORDER BY n.number",
                (self.ledger, id),
            ).all()
        return [
            f"{block or 'overage'} {format_credits(credits)} {format_minor(amount, self.currency)}"
            for block, credits, amount in rows
        ]


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _moment(day: str | None) -> str | None:
    return None if day is None else f"{day}T00:00:00Z"


def read(path: Path) -> tuple[dict[str, str], list[str]]:
    """The settings in the file's head, and its other lines."""
    settings, lines = {}, []
    for raw in path.read_text("utf-8").splitlines():
        line = raw.split("#")[0].rstrip()
        if match := re.fullmatch(r"(currency|policies|title): (.*)", line):
            settings[match[1]] = match[2]
        elif line:
            lines.append(line)
    return settings, lines


def _cases() -> list[Any]:
    cases = []
    for path in FILES:
        named = read(path)[0].get("policies", " ".join(SHIPPED_POLICIES)).split()
        cases += [pytest.param(path, policy, id=f"{path.stem}-{policy}") for policy in named]
    return cases


@pytest.mark.parametrize(("path", "policy"), _cases())
def test_the_books_show_what_the_example_says(
    path: Path, policy: str, service: Subledger, new_ledger: NewLedger
) -> None:
    settings, lines = read(path)
    currency = settings.get("currency", "USD")
    example = Example(service, new_ledger(currency=currency, policy=policy), currency)
    columns: list[str] = []
    for line in lines:
        if line.startswith(("as of", "block ")):
            columns = re.split(r"\s{2,}", line)
        elif columns and line.startswith("  "):
            check(example, columns, re.split(r"\s{2,}", line.strip()))
        elif match := re.fullmatch(r"(\S+) drew (.*)", line):
            assert example.draws(match[1]) == [" ".join(part.split()) for part in match[2].split(" · ")], line
        else:
            columns = []
            example.happen(" ".join(line.split()))
    assert integrity.verify(service.database, example.ledger).differences == []


def check(example: Example, columns: list[str], row: list[str]) -> None:
    """One row of a table: the first cell names the day or the block, the others what must stand there."""
    assert len(row) == len(columns), (columns, row)
    if columns[0] == "as of":
        found = example.accounts(date.fromisoformat(row[0]))
        for account, expected in zip(columns[1:], row[1:], strict=True):
            nothing = format_minor(0, example.currency)
            assert found.get(account, nothing) == expected, (row[0], account)
        return
    name, _, day = row[0].partition(" at ")
    block = example.block(name, date.fromisoformat(day) if day else date(2030, 1, 1))
    assert [block[column] for column in columns[1:]] == row[1:], row[0]


def test_there_is_an_example_for_every_event_type() -> None:
    words = "\n".join(path.read_text("utf-8") for path in FILES)
    for word in (" buys ", " is granted ", " uses ", " takes back ", " cancels ", " pays ", " extended to ", " swept"):
        assert word in words
