"""The real recorder on a real PostgreSQL against the plain model, with every invariant after each step."""

from __future__ import annotations

import os
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from api.service import Subledger
from projections import balances, integrity
from projections.journals.close import close_period, reopen_period
from subledger.errors import PeriodNotClosed, PeriodOutOfOrder
from subledger.periods import Period
from subledger.store.recorder import Outcome
from tests.conftest import NewLedger, cloud_event
from tests.laws.model import Model, Refusal

EXAMPLES = max(1, int(os.environ.get("SUBLEDGER_TEST_EXAMPLES", "100")) // 3)
CUSTOMERS = st.sampled_from(("ann", "bob"))
PRODUCTS = st.sampled_from((None, "api", "chat"))
NAMES = st.integers(1, 12).map(lambda number: f"b{number}")
CREDITS = st.one_of(st.integers(1, 120).map(str), st.sampled_from(("0.5", "3.25", "0.000000001", "7.3")))
DAYS = st.integers(0, 120)
MONTHS = ("2026-01", "2026-02", "2026-03", "2026-04", "2026-05")
START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def moment(day: int) -> datetime:
    return START + timedelta(days=day)


class Machine(RuleBasedStateMachine):
    """Random events against the model. Two customers share twelve block names, so that wrong owners come up too."""

    def __init__(self, service: Subledger, new_ledger: NewLedger) -> None:
        super().__init__()
        self.service, self.new_ledger = service, new_ledger
        self.count = 0
        self.sent: list[tuple[dict[str, Any], int]] = []
        self.waiting: list[dict[str, Any]] = []
        self.answers: list[tuple[date, datetime, Any]] = []

    @initialize(
        policy=st.sampled_from(("contract_liability", "customer_deposits", "customer_deposits_arm")),
        shortfall=st.sampled_from(("reject", "overage", "backfill")),
    )
    def found(self, policy: str, shortfall: str) -> None:
        self.ledger = self.new_ledger(policy=policy, on_shortfall=shortfall)
        self.deposits = policy != "contract_liability"
        self.model = Model(shortfall=shortfall)
        self.position = 3

    # --- sending ---------------------------------------------------------------------------------------------

    def send(self, type: str, customer: str, day: int, together: bool, **data: Any) -> None:
        self.count += 1
        data = {name: value for name, value in data.items() if value is not ...}
        event = cloud_event(f"e{self.count}", type, customer, moment(day).isoformat(), **data)
        self.waiting.append(event)
        if not together:
            self.flush()

    def flush(self) -> None:
        if not self.waiting:
            return
        events, self.waiting = self.waiting, []
        for event, outcome in zip(events, self.service.record(self.ledger, events), strict=True):
            self.expect(event, outcome)
        self.check_books()

    def expect(self, event: dict[str, Any], outcome: Outcome) -> None:
        expected = None
        try:
            self.model.apply(event)
        except Refusal as refusal:
            expected = str(refusal)
        assert (None if outcome.error is None else outcome.error.code) == expected, (event, outcome)
        if expected is None:
            self.position += 1
            assert outcome.position == self.position, "positions are gapless"
            self.sent.append((event, self.position))

    @rule(
        customer=CUSTOMERS, day=DAYS, name=NAMES, credits=CREDITS, cents=st.integers(0, 9_999), tax=st.integers(0, 500),
        life=st.one_of(st.none(), st.integers(-2, 70)), delay=st.one_of(st.none(), st.integers(0, 20)),
        priority=st.sampled_from((10, 50)), scope=st.sampled_from((None, ["api"], ["chat", "api"])),
        bonus=st.sampled_from((None, None, "5")), together=st.booleans(),
    )  # fmt: skip
    def purchase(
        self, customer: str, day: int, name: str, credits: str, cents: int, tax: int, life: int | None,
        delay: int | None, priority: int, scope: list[str] | None, bonus: str | None, together: bool,
    ) -> None:  # fmt: skip
        self.send(
            "credits.purchased", customer, day, together,
            block_id=name, credits=credits, price=f"{cents // 100}.{cents % 100:02d}", currency="USD",
            tax=f"{tax // 100}.{tax % 100:02d}" if tax and cents else ..., priority=priority, invoice_id=f"i-{name}",
            scope=scope or ..., bonus_credits=bonus or ...,
            starts_at=moment(day + delay).isoformat() if delay is not None else ...,
            expires_at=moment(day + (delay or 0) + max(life, 1)).isoformat() if life is not None else ...,
        )  # fmt: skip

    @rule(
        customer=CUSTOMERS, day=DAYS, name=NAMES, credits=CREDITS, reason=st.sampled_from(("promotional", "goodwill")),
        life=st.one_of(st.none(), st.integers(1, 40)), together=st.booleans(),
    )  # fmt: skip
    def grant(
        self, customer: str, day: int, name: str, credits: str, reason: str, life: int | None, together: bool
    ) -> None:
        paid = reason == "goodwill"
        self.send(
            "credits.granted", customer, day, together, block_id=name, credits=credits, reason=reason,
            value="3.21" if paid else ..., currency="USD" if paid else ...,
            expires_at=moment(day + life).isoformat() if life is not None else ...,
        )  # fmt: skip

    @rule(
        customer=CUSTOMERS, day=DAYS, credits=CREDITS, product=PRODUCTS, name=st.one_of(st.none(), st.none(), NAMES),
        shortfall=st.sampled_from((None, "reject", "overage", "backfill")), priced=st.booleans(),
        together=st.booleans(),
    )  # fmt: skip
    def use(
        self, customer: str, day: int, credits: str, product: str | None, name: str | None, shortfall: str | None,
        priced: bool, together: bool,
    ) -> None:  # fmt: skip
        self.send(
            "credits.consumed", customer, day, together, credits=credits, product=product or ...,
            block_id=name or ..., on_shortfall=shortfall or ..., overage_price="0.0371" if priced else ...,
            currency="USD" if priced else ...,
        )  # fmt: skip

    @rule(
        customer=CUSTOMERS, day=DAYS, back=st.integers(0, 30), credits=st.one_of(st.none(), st.none(), CREDITS),
        together=st.booleans(), likely=st.booleans(),
    )  # fmt: skip
    def reverse(self, customer: str, day: int, back: int, credits: str | None, together: bool, likely: bool) -> None:
        known = list(self.model.usage.values())
        if likely and known:
            usage = known[-1 - back % len(known)]
            customer, event_id = usage.customer, usage.name
        else:
            event_id = f"e{back}" if any(e["id"] == f"e{back}" for e, _ in self.sent) else "nothing"
        self.send(
            "consumption.reversed", customer, day, together, event_id=event_id, reason="r", credits=credits or ...
        )

    @rule(customer=CUSTOMERS, day=DAYS, name=NAMES, together=st.booleans())
    def void(self, customer: str, day: int, name: str, together: bool) -> None:
        self.send("purchase.voided", self.owner(name, customer), day, together, block_id=name, reason="r")

    @rule(
        customer=CUSTOMERS,
        day=DAYS,
        name=NAMES,
        until=st.one_of(st.none(), st.integers(0, 160)),
        together=st.booleans(),
    )
    def change_expiry(self, customer: str, day: int, name: str, until: int | None, together: bool) -> None:
        expires_at = None if until is None else moment(until).isoformat()
        self.send(
            "block.expiry_changed", self.owner(name, customer), day, together,
            block_id=name, expires_at=expires_at, reason="r",
        )  # fmt: skip

    @rule(
        customer=CUSTOMERS, day=DAYS, name=NAMES, cents=st.integers(1, 9_000), whole=st.booleans(),
        processor=st.booleans(), together=st.booleans(),
    )  # fmt: skip
    def pay(self, customer: str, day: int, name: str, cents: int, whole: bool, processor: bool, together: bool) -> None:
        self.send(
            "payment.received", self.owner(name, customer), day, together,
            amount=f"{cents // 100}.{cents % 100:02d}", currency="USD", processor="cards" if processor else ...,
            fee="0.30" if processor else ..., **({"block_id": name} if whole else {"invoice_id": f"i-{name}"}),
        )  # fmt: skip

    def owner(self, name: str, customer: str) -> str:
        block = self.model.blocks.get(name)
        return block.customer if block is not None and customer == "ann" else customer

    # --- the ledger itself -----------------------------------------------------------------------------------

    @rule(day=st.integers(0, 160))
    def expire(self, day: int) -> None:
        self.flush()
        swept = self.service.recorder.sweep(self.ledger, moment(day))
        assert swept == self.model.sweep(moment(day))
        self.position += swept
        self.check_books()

    @rule(month=st.sampled_from(MONTHS))
    def close(self, month: str) -> None:
        self.flush()
        period = Period.parse(month)
        entries = self.sql("SELECT min(accounting_date) FROM entries WHERE ledger = %s", self.ledger)[0][0]
        if self.model.closed is not None:
            allowed = period.first_day == self.model.closed + timedelta(days=1)
        else:
            allowed = entries is None or entries >= period.first_day
        try:
            closed = close_period(self.service.recorder, self.ledger, period)
        except PeriodOutOfOrder:
            assert not allowed
        else:
            assert allowed
            assert closed.expired == self.model.sweep(period.end(_UTC))
            self.model.closed = period.last_day
            self.position += closed.expired + 1
        self.check_books()

    @rule(month=st.sampled_from(MONTHS))
    def reopen(self, month: str) -> None:
        self.flush()
        period = Period.parse(month)
        allowed = self.model.closed is not None and period.last_day <= self.model.closed
        try:
            reopen_period(self.service.recorder, self.ledger, period, "r")
        except PeriodNotClosed:
            assert not allowed
        else:
            assert allowed
            self.model.closed = period.first_day - timedelta(days=1)
            self.position += 1

    @rule(back=st.integers(0, 30))
    def send_again(self, back: int) -> None:
        self.flush()
        if self.sent:
            event, position = self.sent[-1 - back % len(self.sent)]
            [outcome] = self.service.record(self.ledger, [event])
            assert (outcome.status, outcome.position) == ("duplicate", position)

    @rule(back=st.integers(0, 30))
    def send_with_other_content(self, back: int) -> None:
        self.flush()
        if self.sent:
            event, _ = self.sent[-1 - back % len(self.sent)]
            [outcome] = self.service.record(self.ledger, [{**event, "subject": "carol"}])
            assert outcome.error is not None
            assert (outcome.error.code, outcome.error.facts["differs"]) == ("event_conflict", ["subject"])

    @rule(day=st.integers(0, 160))
    def ask(self, day: int) -> None:
        """An answer is remembered, to be asked for again at the end."""
        self.flush()
        as_of = moment(day).date()
        with self.service.view(self.ledger, as_of=as_of) as view:
            known_at = view.known_at
            answer = balances.trial_balance(self.service.database, view)
        assert {b.account: (b.debit_minor, b.credit_minor) for b in answer} == self.brute_force(as_of, view.position)
        self.answers.append((as_of, known_at, answer))

    # --- what must hold --------------------------------------------------------------------------------------

    def sql(self, query: str, *parameters: Any) -> list[Any]:
        with self.service.database.read() as connection:
            return list(connection.exec_driver_sql(query, parameters).all())

    def brute_force(self, as_of: date, position: int) -> dict[str, tuple[int, int]]:
        rows = self.sql(
            "SELECT account, sum(amount_minor) FILTER (WHERE side = 'debit'),"
            " sum(amount_minor) FILTER (WHERE side = 'credit') FROM journal_lines"
            " WHERE ledger = %s AND accounting_date <= %s AND position <= %s GROUP BY account",
            self.ledger, as_of, position,
        )  # fmt: skip
        found = {account: (int(debit or 0), int(credit or 0)) for account, debit, credit in rows}
        assert sum(debit for debit, _ in found.values()) == sum(credit for _, credit in found.values())
        return found

    def check_books(self) -> None:
        self.blocks_are_as_the_model_says()
        self.blocks_end_at_zero_in_every_view()
        receivable = sum(block.owed for block in self.model.blocks.values())
        found = self.brute_force(date(2999, 1, 1), self.position)
        debit, credit = found.get("accounts_receivable", (0, 0))
        assert debit - credit == receivable
        debit, credit = found.get("unbilled_receivable", (0, 0))
        assert debit - credit == sum(usage.open_money for usage in self.model.usage.values())
        debit, credit = found.get("prepaid_liability", (0, 0))
        assert credit - debit == sum(block.carrying for block in self.model.blocks.values())

    def blocks_are_as_the_model_says(self) -> None:
        rows = self.sql(
            "SELECT block_id, sum(credits) FILTER (WHERE kind IN ('consumption', 'overage_backfilled')),"
            " sum(amount_minor) FILTER (WHERE kind IN ('consumption', 'overage_backfilled', 'backfill_difference')),"
            " sum(CASE kind WHEN 'breakage' THEN credits WHEN 'reinstatement' THEN -credits END),"
            " sum(CASE kind WHEN 'breakage' THEN amount_minor WHEN 'reinstatement' THEN -amount_minor END),"
            " sum(credits) FILTER (WHERE kind LIKE 'void%%'), sum(amount_minor) FILTER (WHERE kind LIKE 'void%%')"
            " FROM entries WHERE ledger = %s AND block_id IS NOT NULL GROUP BY block_id",
            self.ledger,
        )
        found = {name: tuple(Fraction(value or 0) for value in figures) for name, *figures in rows}
        expected = {
            b.name: (b.used, b.drawn, b.broken, b.broken_money, b.voided, b.voided_money)
            for b in self.model.blocks.values()
        }
        assert found == expected
        assert all(block.carrying >= 0 and block.left >= 0 for block in self.model.blocks.values())

    def blocks_end_at_zero_in_every_view(self) -> None:
        """At every accounting date, as known at every position so far: no credits left, no balance left."""
        rows = self.sql(
            "SELECT e.position, e.accounting_date, e.block_id,"
            " e.credits * CASE WHEN e.kind IN ('purchase', 'promotional_grant', 'goodwill', 'reinstatement') THEN 1"
            "                  ELSE -1 END,"
            " sum(CASE WHEN r.credit = 'prepaid_liability' THEN e.amount_minor WHEN r.debit = 'prepaid_liability'"
            "     THEN -e.amount_minor ELSE 0 END),"
            " sum(CASE WHEN r.credit = 'customer_deposits' THEN e.amount_minor WHEN r.debit = 'customer_deposits'"
            "     THEN -e.amount_minor ELSE 0 END),"
            " sum(CASE WHEN r.debit = 'credits_clearing' THEN e.amount_minor WHEN r.credit = 'credits_clearing'"
            "     THEN -e.amount_minor ELSE 0 END)"
            " FROM entries e LEFT JOIN posting_rules r USING (ledger, policy, kind)"
            " WHERE ledger = %s AND block_id IS NOT NULL"
            " GROUP BY e.position, e.number, e.accounting_date, e.block_id, e.credits, e.kind",
            self.ledger,
        )
        by_block: dict[str, list[Any]] = defaultdict(list)
        for row in rows:
            by_block[row[2]].append(row)
        for block, entries in by_block.items():
            for as_of in {row[1] for row in entries}:
                # A view is between events: within one, the entries of a block follow each other.
                for known in {row[0] for row in entries}:
                    seen = [row for row in entries if row[0] <= known and row[1] <= as_of]
                    totals = [sum(row[place] for row in seen) for place in range(3, 7)]
                    assert totals[0] >= 0, (block, as_of, known, totals)
                    assert totals[1] >= 0, (block, as_of, known, totals)
                    if totals[0] == 0:
                        assert totals[1:] == [0, 0, 0], (block, as_of, known, totals)
                    if self.deposits:
                        assert totals[1] == totals[2] == totals[3], (block, as_of, known, totals)

    def teardown(self) -> None:
        if not hasattr(self, "ledger"):
            return
        self.flush()
        for as_of, known_at, answer in self.answers:
            with self.service.view(self.ledger, as_of=as_of, known_at=known_at) as view:
                assert balances.trial_balance(self.service.database, view) == answer, "an answer never changes"
        assert integrity.verify(self.service.database, self.ledger).differences == []


_UTC = ZoneInfo("UTC")


def test_the_recorder_does_what_the_model_says(service: Subledger, new_ledger: NewLedger) -> None:
    run_state_machine_as_test(
        lambda: Machine(service, new_ledger),
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
