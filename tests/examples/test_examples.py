"""Worked examples as an accountant writes them: every ``*.txt`` file in the folders here, read line by line.

A file says in words what happened, day by day, and then, in tables, what the books must show. ``README.md`` beside
it explains the words. Each file runs under every posting policy that it does not rule out. Balances in the functional
currency are added up here from the stored entries and the stored rules, independently of any projection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from api.service import Subledger
from projections import integrity
from projections.close.close import close_period, reopen_period
from projections.reads import balances, blocks
from projections.reads.spendable import PARTS, spendable_credits
from projections.report import ReportRequest
from projections.reports.accounts import trial_balance
from subledger.accounts import ROLE_BY_NAME, Side
from subledger.deciding.decide import POSTS
from subledger.errors import Refused
from subledger.events.data import EVENT_TYPES
from subledger.kinds import KINDS, LOSSES, SETTLEMENTS
from subledger.money import format_credits, format_minor
from subledger.own_dimensions import of_role, pairs_of
from subledger.periods import Period
from subledger.posting import DEFAULT_POLICY, SHIPPED_POLICIES
from tests.conftest import FAR, NewLedger
from tests.examples.grammar import FORMS, read_line
from tests.reading import report_of, table_of

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*/*.txt"))
TABLES = ("as of", "shown as of", "aged as of", "block ", "credits of ", "spendable of ")
SETTINGS = {"title": "", "currency": "USD", "policies": " ".join(SHIPPED_POLICIES), "late usage": "new"}

_SWEEP = re.compile(r"(?P<day>\S+) expiries are swept")
_CLOSE = re.compile(r"(?P<month>\d{4}-\d{2}) is closed")
_REOPEN = re.compile(r"(?P<month>\d{4}-\d{2}) is reopened")
_MARK = re.compile(r"call this moment (?P<mark>\S+)")
_REFUSED = re.compile(r"(?P<line>.*\S)\s+-> refused: (?P<code>\w+)")
_DREW = re.compile(r"(?P<id>\S+) drew (?P<draws>.*)")
_UNDER = re.compile(r"under (?P<policies>.+)")
_SHOWN = re.compile(r"(?P<table>shown|aged) as of(?:, (?P<all>all )?in (?P<currency>[A-Z]{3}))?")
_AS_OF = re.compile(
    r"as of(?: for (?P<customer>\S+))?(?: department (?P<department>\S+))?"
    r"(?:, (?P<all>all )?in (?P<currency>[A-Z]{3}))?"
)
_COMMANDS = (_SWEEP, _CLOSE, _REOPEN, _MARK)

LINES_SHOWN = {"contract and refund liability": "liability"}
AGES = {"current": "current", "1-30": "days_1_30", "31-60": "days_31_60", "61-90": "days_61_90",
        "over 90": "days_over_90"}  # fmt: skip

BALANCES = """
-- Every account's debits less its credits, in a currency and in the functional one: from signed entries and rules.
SELECT account, currency, sum(side * amount_minor) AS amount, sum(side * functional_minor) AS functional FROM (
    SELECT r.debit AS account, 1 AS side, e.* FROM entries e JOIN posting_rules r USING (ledger, policy, kind)
    UNION ALL
    SELECT r.credit, -1, e.* FROM entries e JOIN posting_rules r USING (ledger, policy, kind)
) AS sides
WHERE ledger = %s AND accounting_date <= %s AND position <= %s AND coalesce(customer = %s, true)
GROUP BY account, currency HAVING sum(side * amount_minor) <> 0 OR sum(side * functional_minor) <> 0
ORDER BY account, currency
"""
LINES = """
-- The same from the journal lines, which have a side and positive amounts.
SELECT account, currency, sum(CASE side WHEN 'debit' THEN amount_minor ELSE -amount_minor END) AS amount,
       sum(CASE side WHEN 'debit' THEN functional_minor ELSE -functional_minor END) AS functional
FROM journal_lines
WHERE ledger = %s AND accounting_date <= %s AND position <= %s AND coalesce(customer = %s, true)
GROUP BY account, currency
HAVING sum(CASE side WHEN 'debit' THEN amount_minor ELSE -amount_minor END) <> 0
    OR sum(CASE side WHEN 'debit' THEN functional_minor ELSE -functional_minor END) <> 0
ORDER BY account, currency
"""
LINES_BY_DIMENSIONS = """
SELECT l.account, d.own, d.usage, sum(CASE l.side WHEN 'debit' THEN l.amount_minor ELSE -l.amount_minor END) AS amount
FROM journal_lines l JOIN dimension_sets d USING (ledger, dimension_set)
WHERE ledger = %s AND accounting_date <= %s AND position <= %s GROUP BY 1, 2, 3
"""
DRAWS = """
SELECT n.block_id, n.credits, n.amount_minor, n.currency FROM entries n JOIN events e USING (ledger, position)
WHERE n.ledger = %s AND e.event_id = %s AND n.kind IN ('consumption', 'overage') ORDER BY n.number
"""
PRODUCED = """
SELECT e.type, n.kind FROM events e LEFT JOIN entries n USING (ledger, position) WHERE e.ledger = %s
"""


class Example:
    """One file, being run."""

    def __init__(self, service: Subledger, ledger: str, currency: str) -> None:
        self.service, self.ledger, self.currency = service, ledger, currency
        self.count = 0
        self.marks: dict[str, datetime] = {}

    def happen(self, line: str) -> None:
        """Something happened, or was refused."""
        refused = _REFUSED.fullmatch(line)
        line = refused["line"] if refused else line
        if any(command.fullmatch(line) for command in _COMMANDS):
            code = self._command(line)
        else:
            self.count += 1
            [outcome] = self.service.record(self.ledger, [read_line(line, self.count, self.currency)])
            code = None if outcome.error is None else outcome.error.code
            assert code == (refused["code"] if refused else None), (line, outcome)
        assert code == (refused["code"] if refused else None), line

    def _command(self, line: str) -> str | None:
        """Carries out an act of the controller. Returns the code of the refusal, or None."""
        try:
            if match := _SWEEP.fullmatch(line):
                self.service.expire(self.ledger, date.fromisoformat(match["day"]))
            elif match := _CLOSE.fullmatch(line):
                close_period(self.service.recorder, self.ledger, Period.parse(match["month"]))
            elif match := _REOPEN.fullmatch(line):
                reopen_period(self.service.recorder, self.ledger, Period.parse(match["month"]), "a correction")
            elif match := _MARK.fullmatch(line):
                with self.service.view(self.ledger) as view:
                    self.marks[match["mark"]] = view.head.recorded_at
        except Refused as refused:
            return refused.code
        return None

    def moment(self, text: str) -> dict[str, Any]:
        """``2026-01-31``, or ``2026-01-31 known at K``: the arguments of a view."""
        day, _, mark = text.partition(" known at ")
        return {"as_of": date.fromisoformat(day)} | ({"known_at": self.marks[mark]} if mark else {})

    def accounts(self, moment: str, header: re.Match[str]) -> dict[str, str]:
        """Balances on the accounts' normal side: in one currency, or of all currencies in the functional one."""
        if header["department"] is not None:
            return self.of_department(moment, header["department"])
        with self.service.view(self.ledger, **self.moment(moment)) as view:
            of_projection = (
                balances.trial_balance(view)
                if header["customer"] is None
                else balances.customer_balances(view, header["customer"]).accounts
            )
            where = (self.ledger, view.as_of, view.position, header["customer"])
            of_entries = view.connection.exec_driver_sql(BALANCES, where).all()
            assert of_entries == view.connection.exec_driver_sql(LINES, where).all(), moment
        currency = header["currency"] or self.currency
        found: dict[str, int] = {}
        for row in of_entries:
            if header["all"] or row.currency == currency:
                amount = int(row.functional if header["all"] else row.amount)
                found[row.account] = found.get(row.account, 0) + _on_normal_side(row.account, amount)
        if not header["all"]:
            projected = {b.account: b.balance_minor for b in of_projection if b.currency == currency}
            assert {a: m for a, m in found.items() if m} == {a: m for a, m in projected.items() if m}, moment
        found["net liability"] = found.get("prepaid_liability", 0) - found.get("breakage_recognized", 0)
        return {account: format_minor(minor, currency) for account, minor in found.items()}

    def shown(self, moment: str, header: re.Match[str]) -> dict[str, str]:
        """The presented lines of the trial balance, or the ages of accounts_receivable; every report ties."""
        name, functional = ("receivables" if header["table"] == "aged" else "trial-balance"), bool(header["all"])
        asked = self.moment(moment)
        report = report_of(self.service, self.ledger, name, to=str(asked["as_of"]), known_at=asked.get("known_at"))
        assert report.ties_out, report.ties
        currency = header["currency"] or self.currency
        found: dict[str, int] = {}
        if header["table"] == "aged":
            for row in table_of(report, "totals"):
                if (row["account"], row["currency"]) == ("accounts_receivable", currency):
                    found = {name: row[column] for name, column in AGES.items()}
        else:
            suffix = "_functional" if functional else ""
            for row in table_of(report, "presentation"):
                if functional or row["currency"] == currency:
                    line = LINES_SHOWN.get(row["line"], row["line"])
                    found[line] = found.get(line, 0) + row[f"presented{suffix}"]
                    if line == "receivables":
                        found["netted"] = found.get("netted", 0) + row[f"netted{suffix}"]
        return {name: format_minor(minor, currency) for name, minor in found.items()}

    def of_department(self, moment: str, department: str) -> dict[str, str]:
        """Balances of the lines of a department, from the entries and as the report has them."""
        with self.service.view(self.ledger, **self.moment(moment)) as view:
            report = trial_balance(view, ReportRequest(by="dimension.department"))
            where = (self.ledger, view.as_of, view.position)
            sums: dict[str, int] = {}
            for account, own, usage, amount in view.connection.exec_driver_sql(LINES_BY_DIMENSIONS, where):
                if dict(pairs_of(of_role(account, own, usage))).get("department") == department:
                    sums[account] = sums.get(account, 0) + _on_normal_side(account, int(amount))
        assert report.ties_out
        rows = [row for row in report.tables[0].rows if row[1] == department]
        assert {row[0]: row[5] for row in rows if row[5]} == {account: sum for account, sum in sums.items() if sum}
        return {account: format_minor(minor, self.currency) for account, minor in sums.items()}

    def block(self, text: str) -> dict[str, str]:
        """``B1`` at the end of time, or ``B1 at 2026-01-31``: its figures, and each column with and without value."""
        name, _, moment = text.partition(" at ")
        with self.service.view(self.ledger, **self.moment(moment or "2100-01-01")) as view:
            found = blocks.one_block(view, name)
        columns: dict[str, str] = {}
        for column in LOSSES:
            credits, amount = found.columns.get(column, (Decimal(0), 0))
            columns |= {column: format_credits(credits), f"{column} value": format_minor(amount, found.block.currency)}
        return columns | {
            "credits": format_credits(found.credits),
            "price": format_minor(found.price_minor, found.block.currency),
            "used": format_credits(found.used),
            "left": format_credits(found.remaining),
            "drawn": format_minor(found.drawn_minor, found.block.currency),
            "carrying": format_minor(found.carrying_minor, found.block.currency),
            "status": found.status.value,
        }

    def credits(self, text: str) -> dict[str, str]:
        """``ann at 2026-01-31``: a customer's credits, by what became of them."""
        customer, _, moment = text.partition(" at ")
        with self.service.view(self.ledger, **self.moment(moment)) as view:
            [found] = balances.customer_balances(view, customer).credits
        columns = {name: format_credits(value) for name, value in found.columns.items()}
        return columns | {"remaining": format_credits(found.remaining)}

    def spendable(self, text: str) -> dict[str, str]:
        """``ann at 2026-01-31``, or ``ann for api at …``: what can be drawn then, and what each reservation holds."""
        who, _, moment = text.partition(" at ")
        customer, _, product = who.partition(" for ")
        with self.service.view(self.ledger, **self.moment(moment)) as view:
            found = spendable_credits(view, customer, product=product or None)
        [credits] = found.units
        columns = {part: format_credits(getattr(credits, part)) for part in (*PARTS, "remaining")}
        return columns | {open_.reservation.reservation_id: format_credits(open_.held) for open_ in found.reservations}

    def draws(self, id: str) -> list[str]:
        """Returns the draws of usage, block by block: ``B1 500 0.00``."""
        with self.service.database.read() as connection:
            rows = connection.exec_driver_sql(DRAWS, (self.ledger, id)).all()
        return [
            f"{block or 'overage'} {format_credits(credits)} {format_minor(amount, currency)}"
            for block, credits, amount, currency in rows
        ]

    def produced(self) -> Iterator[tuple[str, str | None]]:
        """Every event type in the log with the kind of each of its entries."""
        with self.service.database.read() as connection:
            yield from (tuple(row) for row in connection.exec_driver_sql(PRODUCED, (self.ledger,)))


def _on_normal_side(account: str, debits: int) -> int:
    return debits if ROLE_BY_NAME[account].normal_side is Side.DEBIT else -debits


def read(path: Path) -> tuple[dict[str, str], list[str]]:
    """The settings in the file's head, and its other lines."""
    settings, lines = dict(SETTINGS), []
    for raw in path.read_text("utf-8").splitlines():
        line = raw.split("#")[0].rstrip()
        if match := re.fullmatch(rf"({'|'.join(SETTINGS)}): (.*)", line):
            settings[match[1]] = match[2]
        elif line:
            lines.append(line)
    return settings, lines


def _cases() -> list[Any]:
    return [
        pytest.param(path, policy, id=f"{path.parent.name}-{path.stem}-{policy}")
        for path in FILES
        for policy in read(path)[0]["policies"].split()
    ]


def _begin(path: Path, policy: str, service: Subledger, new_ledger: NewLedger) -> tuple[Example, list[str]]:
    settings, lines = read(path)
    currency = settings["currency"]
    ledger = new_ledger(
        currency=currency,
        policy=policy,
        late_usage=settings["late usage"],
        sandbox=True,
        clock=FAR,
        dimensions=("department",),
    )
    return Example(service, ledger, currency), lines


@pytest.mark.parametrize(("path", "policy"), _cases())
def test_the_books_show_what_the_example_says(
    path: Path, policy: str, service: Subledger, new_ledger: NewLedger
) -> None:
    example, lines = _begin(path, policy, service, new_ledger)
    columns: list[str] = []
    policies = SHIPPED_POLICIES  # that the table is for, or the next one after ``under``
    wrong: list[str] = []
    for line in lines:
        if line.startswith(TABLES):
            policies = SHIPPED_POLICIES if columns else policies
            columns = re.split(r"\s{2,}", line)
        elif columns and line.startswith("  "):
            if policy in policies:
                wrong += check(example, columns, re.split(r"\s{2,}", line.strip()))
        elif match := _UNDER.fullmatch(line):
            columns, policies = [], tuple(match["policies"].split(", "))
            assert set(policies) <= set(SHIPPED_POLICIES), line
        elif match := _DREW.fullmatch(line):
            drew, expected = example.draws(match["id"]), [" ".join(d.split()) for d in match["draws"].split(" · ")]
            wrong += [] if drew == expected else [f"{line}: it drew {' · '.join(drew)}"]
        else:
            columns, policies = [], SHIPPED_POLICIES
            example.happen(" ".join(line.split()))
    assert wrong == []
    assert integrity.verify(service.database, example.ledger).differences == []


def check(example: Example, columns: list[str], row: list[str]) -> list[str]:
    """Returns the faults of one row of a table: subject and date in the first cell, expected values in the others."""
    assert len(row) == len(columns), (columns, row)
    if header := _AS_OF.fullmatch(columns[0]):
        found = example.accounts(row[0], header)
        nothing = format_minor(0, header["currency"] or example.currency)
        unknown = set(columns[1:]) - ROLE_BY_NAME.keys() - {"net liability"}
        assert not unknown, f"no such account: {unknown}"
    elif header := _SHOWN.fullmatch(columns[0]):
        found, nothing = example.shown(row[0], header), format_minor(0, header["currency"] or example.currency)
        unknown = set(columns[1:]) - {"receivables", "liability", "netted", *AGES}
        assert not unknown, f"no such column: {unknown}"
    else:
        tables = {"block": example.block, "credits of": example.credits, "spendable of": example.spendable}
        found, nothing = tables[columns[0]](row[0]), "no such column"
    return [
        f"{columns[0]} {row[0]}: {column} is {found.get(column, nothing)}, not {expected}"
        for column, expected in zip(columns[1:], row[1:], strict=True)
        if found.get(column, nothing) != expected
    ]


def test_the_examples_show_every_event_with_every_entry_that_it_may_post(
    service: Subledger, new_ledger: NewLedger
) -> None:
    """No less, so that each rule can be read; and no more, so that what the code says an event may post is true."""
    shown: set[tuple[str, str]] = set()
    for path in FILES:
        example, lines = _begin(path, DEFAULT_POLICY, service, new_ledger)
        for line in lines:
            if not line.startswith((" ", *TABLES)) and not _UNDER.fullmatch(line) and not _DREW.fullmatch(line):
                example.happen(" ".join(line.split()))
        shown |= {(type, kind or "") for type, kind in example.produced()}
    assert EVENT_TYPES.keys() - {type for type, _ in shown} == set()
    assert {kind.name for kind in KINDS} - {kind for _, kind in shown} == set()
    may_post = {(type, kind) for type, kinds in POSTS.items() for kind in kinds}
    followed = {(type, kind) for type, kind in shown if kind in (*SETTLEMENTS, "breakage_estimate", "")}
    followed |= {(type, kind) for type, kind in shown if type == "event.reversed"}  # it mirrors whatever was posted
    assert sorted(may_post - shown) == []
    assert sorted(shown - may_post - followed) == []


def test_every_example_lies_in_a_folder_that_the_readme_names() -> None:
    readme = (HERE / "README.md").read_text("utf-8")
    assert sorted(HERE.rglob("*.txt")) == FILES
    assert [name for name in sorted({path.parent.name for path in FILES}) if f"| `{name}/` |" not in readme] == []


def test_the_readme_explains_every_form_of_a_line() -> None:
    readme = (HERE / "README.md").read_text("utf-8")
    missing = [form for form, _, _ in FORMS if f"`{form}`" not in readme]
    assert missing == []
