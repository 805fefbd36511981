"""The real recorder on a real PostgreSQL against the plain model, with every invariant after each step."""

from __future__ import annotations

import os
from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
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
UNITS = st.sampled_from((None, None, None, None, "token"))
CURRENCIES = st.sampled_from(("USD",) * 9 + ("EUR",))
CREDITS = st.one_of(st.integers(1, 60).map(str), st.sampled_from(("0.5", "3.25", "0.000000001", "7.3")))
SHORTFALLS = st.sampled_from((None, None, "reject", "overage", "backfill"))
DAYS = st.integers(0, 70)
NOBODY = 12
PICKS = st.integers(0, NOBODY)
RARELY = st.sampled_from((False,) * 15 + (True,))
MOSTLY = st.sampled_from((True,) * 7 + (False,))
TOGETHER = st.sampled_from((False, False, True))
NEW_BLOCKS = ("credits.purchased", "credits.granted")
MONTHS = ("2026-01", "2026-01", "2026-02", "2026-03")
# Entry kind → what it does to a block: which column of its roll-forward, and in which direction.
COLUMNS = {
    "purchase": ("gained", 1), "promotional_grant": ("gained", 1), "goodwill": ("gained", 1),
    "consumption": ("consumed", 1), "overage_backfilled": ("consumed", 1), "backfill_difference": ("consumed", 1),
    "breakage": ("broken", 1), "reinstatement": ("broken", -1),
    "void_unpaid": ("voided", 1), "void_paid": ("voided", 1),
}  # fmt: skip
START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def moment(day: int) -> datetime:
    return START + timedelta(days=day)


class Machine(RuleBasedStateMachine):
    """Random events against the model: mostly what the books allow, now and then what they must refuse."""

    def __init__(self, service: Subledger, new_ledger: NewLedger) -> None:
        super().__init__()
        self.service, self.new_ledger = service, new_ledger
        self.count, self.sound = 0, False
        self.sent: list[tuple[dict[str, Any], int]] = []
        self.waiting: list[dict[str, Any]] = []
        self.answers: list[tuple[date, datetime, Any]] = []

    @initialize(
        policy=st.sampled_from(("contract_liability", "customer_deposits", "customer_deposits_arm")),
        shortfall=st.sampled_from(("reject", "overage", "backfill")),
        zone=st.sampled_from(("UTC", "Pacific/Kiritimati", "America/New_York")),
        bought=st.lists(
            st.tuples(CUSTOMERS, st.integers(1, 60), st.integers(1, 9_999), st.one_of(st.none(), st.integers(1, 60))),
            min_size=2, max_size=5,
        ),
    )  # fmt: skip
    def found(self, policy: str, shortfall: str, zone: str, bought: list[tuple[str, int, int, int | None]]) -> None:
        self.ledger = self.new_ledger(policy=policy, on_shortfall=shortfall, timezone=zone)
        self.deposits = policy != "contract_liability"
        self.zone = ZoneInfo(zone)
        self.model = Model(shortfall=shortfall, zone=self.zone)
        self.position = 3
        for customer, credits, cents, life in bought:
            expires_at = ... if life is None else moment(life).isoformat()
            self.send(
                "credits.purchased", customer, 0, True, block_id=f"b{self.count}", credits=str(credits),
                price=f"{cents // 100}.{cents % 100:02d}", currency="USD", tax=f"0.{cents % 100:02d}",
                invoice_id="i-0", expires_at=expires_at,
            )  # fmt: skip
        self.flush()

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
        before, self.sound = self.position, False
        for event, outcome in zip(events, self.service.record(self.ledger, events), strict=True):
            self.expect(event, outcome)
        self.nothing_is_dated_into_a_closed_month(before)
        self.check_books()
        self.sound = True

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

    def block(self, pick: int, stranger: bool = False) -> tuple[str, str]:
        """A block that was sent, also in the batch that is waiting, and whose it is; or what nobody ever bought."""
        owners = {name: block.customer for name, block in self.model.blocks.items()}
        owners |= {e["data"]["block_id"]: e["subject"] for e in self.waiting if e["type"] in NEW_BLOCKS}
        if not owners or pick == NOBODY:
            return "nobody's", "ann"
        name = sorted(owners)[pick % len(owners)]
        return name, ("carol" if stranger else owners[name])

    def usage(self, pick: int, stranger: bool) -> tuple[str, str]:
        """Usage that was sent, the latest for 0, and whose; or an event that is no usage; or no event at all."""
        owners = {name: usage.customer for name, usage in self.model.usage.items()}
        owners |= {e["id"]: e["subject"] for e in self.waiting if e["type"] == "credits.consumed"}
        if not owners or pick == NOBODY:
            return (self.sent[0][0]["id"] if self.sent and stranger else "nothing"), "ann"
        name = list(owners)[-1 - pick % len(owners)]
        return name, ("carol" if stranger else owners[name])

    @rule(
        customer=CUSTOMERS, day=DAYS, credits=CREDITS, cents=st.integers(0, 9_999), tax=st.integers(0, 500),
        life=st.one_of(st.none(), st.integers(0, 40)), delay=st.one_of(st.none(), st.integers(0, 10)),
        priority=st.sampled_from((50, 50, 10)), scope=st.sampled_from((None, None, ["api"], ["chat", "api"])),
        bonus=st.sampled_from((None, None, "5")), unit=UNITS, currency=CURRENCIES, again=RARELY, together=TOGETHER,
    )  # fmt: skip
    def purchase(
        self, customer: str, day: int, credits: str, cents: int, tax: int, life: int | None, delay: int | None,
        priority: int, scope: list[str] | None, bonus: str | None, unit: str | None, currency: str, again: bool,
        together: bool,
    ) -> None:  # fmt: skip
        name = self.block(day)[0] if again else f"b{self.count}"
        self.send(
            "credits.purchased", customer, day, together, unit=unit or ...,
            block_id=name, credits=credits, price=f"{cents // 100}.{cents % 100:02d}", currency=currency,
            tax=f"{tax // 100}.{tax % 100:02d}" if tax and cents else ..., priority=priority,
            invoice_id=f"i-{day % 5}", scope=scope or ..., bonus_credits=bonus or ...,
            starts_at=moment(day + delay).isoformat() if delay is not None else ...,
            expires_at=moment(day + (delay or 0) + life).isoformat() if life and life > 0 else ...,
        )  # fmt: skip

    @rule(
        customer=CUSTOMERS, day=DAYS, credits=CREDITS, reason=st.sampled_from(("promotional", "goodwill")),
        life=st.one_of(st.none(), st.integers(-1, 40)), again=RARELY, together=TOGETHER,
    )  # fmt: skip
    def grant(
        self, customer: str, day: int, credits: str, reason: str, life: int | None, again: bool, together: bool
    ) -> None:
        paid = reason == "goodwill"
        name = self.block(day)[0] if again else f"b{self.count}"
        self.send(
            "credits.granted", customer, day, together, block_id=name, credits=credits, reason=reason,
            value="3.21" if paid else ..., currency="USD" if paid else ...,
            expires_at=moment(day + life).isoformat() if life is not None else ...,
        )  # fmt: skip

    def use_some(
        self, customer: str, day: int, credits: str, product: str | None, shortfall: str | None, priced: bool,
        unit: str | None, currency: str, together: bool, name: str | None = None,
    ) -> None:  # fmt: skip
        self.send(
            "credits.consumed", customer, day, together, credits=credits, product=product or ...,
            block_id=name or ..., on_shortfall=shortfall or ..., overage_price="0.0371" if priced else ...,
            currency=currency if priced else ..., unit=unit or ...,
        )  # fmt: skip

    @rule(
        customer=CUSTOMERS, day=DAYS, credits=CREDITS, product=PRODUCTS, shortfall=SHORTFALLS, priced=MOSTLY,
        unit=UNITS, currency=CURRENCIES, together=TOGETHER,
    )  # fmt: skip
    def use(self, **given: Any) -> None:
        self.use_some(**given)

    @rule(
        customer=CUSTOMERS, day=DAYS, credits=st.integers(1, 9).map(str), product=PRODUCTS, shortfall=st.none(),
        priced=MOSTLY, unit=st.none(), currency=st.just("USD"), together=TOGETHER,
    )  # fmt: skip
    def use_little(self, **given: Any) -> None:
        self.use_some(**given)

    @rule(pick=PICKS, stranger=RARELY, day=DAYS, credits=CREDITS, product=PRODUCTS, priced=MOSTLY, together=TOGETHER)
    def use_one_block(
        self, pick: int, stranger: bool, day: int, credits: str, product: str | None, priced: bool, together: bool
    ) -> None:
        name, customer = self.block(pick, stranger)
        self.use_some(customer, day, credits, product, None, priced, None, "USD", together, name)

    @rule(day=DAYS, pick=PICKS, stranger=RARELY, credits=st.one_of(st.none(), CREDITS), together=TOGETHER)
    def reverse(self, day: int, pick: int, stranger: bool, credits: str | None, together: bool) -> None:
        event_id, customer = self.usage(pick, stranger)
        self.send(
            "consumption.reversed", customer, day, together, event_id=event_id, reason="r", credits=credits or ...
        )

    @rule(day=DAYS, share=st.fractions(0, 1, max_denominator=8), pick=st.integers(0, 5))
    def reverse_a_part(self, day: int, share: Fraction, pick: int) -> None:
        """As much as is left of what was used, or an eighth, or half of it."""
        self.flush()
        open_ = [usage for usage in self.model.usage.values() if any(d.credits > d.restored for d in usage.draws)]
        if open_:
            usage = open_[-1 - pick % len(open_)]
            left = sum((d.credits - d.restored for d in usage.draws), Fraction(0))
            billionths = max(int(left * share * 10**9), 1)
            credits = f"{billionths // 10**9}.{billionths % 10**9:09d}"
            self.send(
                "consumption.reversed", usage.customer, day, False, event_id=usage.name, reason="r", credits=credits
            )

    @rule(pick=PICKS, stranger=RARELY, day=DAYS, together=TOGETHER)
    def void(self, pick: int, stranger: bool, day: int, together: bool) -> None:
        name, customer = self.block(pick, stranger)
        self.send("purchase.voided", customer, day, together, block_id=name, reason="r")

    @rule(pick=PICKS, stranger=RARELY, day=DAYS, until=st.one_of(st.none(), st.integers(0, 100)), together=TOGETHER)
    def change_expiry(self, pick: int, stranger: bool, day: int, until: int | None, together: bool) -> None:
        name, customer = self.block(pick, stranger)
        expires_at = None if until is None else moment(until).isoformat()
        self.send(
            "block.expiry_changed", customer, day, together, block_id=name, expires_at=expires_at, reason="r"
        )  # fmt: skip

    @rule(
        pick=PICKS, stranger=RARELY, day=DAYS, cents=st.integers(1, 9_000), whole=st.booleans(),
        processor=st.booleans(), together=TOGETHER,
    )  # fmt: skip
    def pay(
        self, pick: int, stranger: bool, day: int, cents: int, whole: bool, processor: bool, together: bool
    ) -> None:
        name, customer = self.block(pick, stranger)
        self.send(
            "payment.received", customer, day, together,
            amount=f"{cents // 100}.{cents % 100:02d}", currency="USD", processor="cards" if processor else ...,
            fee="0.30" if processor else ..., **({"block_id": name} if whole else {"invoice_id": f"i-{pick % 6}"}),
        )  # fmt: skip

    # --- the ledger itself -----------------------------------------------------------------------------------

    @rule(day=st.integers(0, 110))
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
            assert closed.expired == self.model.sweep(period.end(self.zone))
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

    @rule(back=st.integers(0, 60), other=st.booleans())
    def send_twice_in_one_batch(self, back: int, other: bool) -> None:
        """An old event among new ones, and a new one twice: the second time it is what the first time made it."""
        self.flush()
        self.count += 1
        new = cloud_event(f"e{self.count}", "credits.consumed", "ann", moment(back).isoformat(), credits="1")
        again = {**new, "time": moment(back + 1).isoformat()} if other else new
        first, second = self.service.record(self.ledger, [new, again])
        self.expect(new, first)
        if first.position is not None:
            assert second.position == first.position
            assert second.status == ("rejected" if other else "duplicate")
            assert second.error is None or second.error.facts["differs"] == ["time"]
        else:
            self.expect(again, second)
        self.check_books()

    @rule(day=st.integers(0, 110), known=st.one_of(st.none(), st.integers(0, 60)))
    def ask(self, day: int, known: int | None) -> None:
        """An answer, as known now or after any batch so far, is remembered, to be asked for again at the end."""
        self.flush()
        as_of, at, position = moment(day).date(), None, self.position
        if known is not None:
            batches = self.sql("SELECT recorded_at, last_position FROM batches WHERE ledger = %s", self.ledger)
            at, position = batches[known % len(batches)]
        with self.service.view(self.ledger, as_of=as_of, known_at=at) as view:
            known_at = view.known_at
            answer = balances.trial_balance(self.service.database, view)
            assert view.position == position
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
        self.draws_are_as_the_model_says()
        self.what_is_taken_back_is_zero_line_by_line()
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

    def draws_are_as_the_model_says(self) -> None:
        """Block, credits, money and accounting date of every draw, in order."""
        rows = self.sql(
            "SELECT e.event_id, n.block_id, n.credits, n.amount_minor, n.accounting_date"
            " FROM events e JOIN entries n USING (ledger, position)"
            " WHERE ledger = %s AND e.type = 'credits.consumed' ORDER BY n.position, n.number",
            self.ledger,
        )
        found = defaultdict(list)
        for name, block, credits, amount, on in rows:
            found[name].append((block, Fraction(credits), amount, on))
        assert found == {
            usage.name: [(draw.block and draw.block.name, draw.credits, draw.money, draw.on) for draw in usage.draws]
            for usage in self.model.usage.values()
        }

    def what_is_taken_back_is_zero_line_by_line(self) -> None:
        """Wholly reversed usage and its reversals: no side of any account of any block is left over."""
        whole = {usage.name for usage in self.model.usage.values() if all(d.credits == d.restored for d in usage.draws)}
        rows = self.sql(
            "SELECT coalesce(o.event_id, e.event_id), l.block_id, l.account,"
            " sum(CASE l.side WHEN 'debit' THEN l.amount_minor ELSE -l.amount_minor END)"
            " FROM journal_lines l JOIN events e USING (ledger, position)"
            " LEFT JOIN events o ON o.ledger = e.ledger AND e.type = 'consumption.reversed'"
            "  AND o.source = e.source AND o.event_id = e.data::json ->> 'event_id'"
            " WHERE l.ledger = %s AND e.type IN ('credits.consumed', 'consumption.reversed')"
            "  AND l.kind IN ('consumption', 'overage') GROUP BY 1, 2, 3",
            self.ledger,
        )
        assert [row for row in rows if row[0] in whole and row[3] != 0] == []

    def nothing_is_dated_into_a_closed_month(self, since: int) -> None:
        if self.model.closed is not None:
            assert not self.sql(
                "SELECT * FROM entries WHERE ledger = %s AND position > %s AND accounting_date <= %s",
                self.ledger, since, self.model.closed,
            )  # fmt: skip

    def blocks_end_at_zero_in_every_view(self) -> None:
        """At every accounting date, as known at every position: gained = consumed + broken + voided + carrying.

        In credits and in money, no column negative; and where no credits are left nothing else is.
        """
        rows = self.sql(
            "SELECT e.block_id, e.position, e.accounting_date, e.kind, e.credits, e.amount_minor,"
            " coalesce(sum((r.credit = 'prepaid_liability')::int - (r.debit = 'prepaid_liability')::int), 0),"
            " coalesce(sum((r.credit = 'customer_deposits')::int - (r.debit = 'customer_deposits')::int), 0),"
            " coalesce(sum((r.debit = 'credits_clearing')::int - (r.credit = 'credits_clearing')::int), 0)"
            " FROM entries e LEFT JOIN posting_rules r USING (ledger, policy, kind)"
            " WHERE ledger = %s AND block_id IS NOT NULL"
            " GROUP BY e.position, e.number, e.accounting_date, e.block_id, e.credits, e.kind, e.amount_minor",
            self.ledger,
        )
        by_block: dict[str, list[Any]] = defaultdict(list)
        for row in rows:
            by_block[row[0]].append(row)
        for block, entries in by_block.items():
            for as_of in {row[2] for row in entries}:
                # A view is between events: within one, the entries of a block follow each other.
                for known in {row[1] for row in entries}:
                    self.check_view(block, [row for row in entries if row[1] <= known and row[2] <= as_of])

    def check_view(self, block: str, seen: list[Any]) -> None:
        credits: dict[str, Fraction] = defaultdict(Fraction)
        money: dict[str, int] = defaultdict(int)
        balances = [0, 0, 0]
        for _, _, _, kind, quantity, amount, *times in seen:
            if kind in COLUMNS:
                column, sign = COLUMNS[kind]
                credits[column] += sign * Fraction(quantity)
                money[column] += sign * amount
            balances = [balance + amount * time for balance, time in zip(balances, times, strict=True)]
        left = credits.pop("gained", Fraction(0)) - sum(credits.values())
        carrying = money.pop("gained", 0) - sum(money.values())
        assert min(left, carrying, *credits.values(), *money.values(), 0) == 0, (block, credits, money)
        assert carrying == balances[0], (block, "the liability is what is carried")
        assert balances[1:] == ([carrying, carrying] if self.deposits else [0, 0])
        assert left > 0 or carrying == 0, (block, "no credits left, no value left")

    def the_log_is_gapless_and_its_clock_never_stands_still(self) -> None:
        batches = self.sql(
            "SELECT first_position, last_position, recorded_at FROM batches WHERE ledger = %s ORDER BY last_position",
            self.ledger,
        )
        positions = [
            row[0] for row in self.sql("SELECT position FROM events WHERE ledger = %s ORDER BY 1", self.ledger)
        ]
        assert positions == list(range(1, self.position + 1))
        assert batches[0][0] == 1
        assert batches[-1][1] == self.position
        for before, after in pairwise(batches):
            assert after[0] == before[1] + 1
            assert after[2] > before[2]

    def teardown(self) -> None:
        if not self.sound:
            return  # a step has failed: what is told is that
        self.flush()
        self.the_log_is_gapless_and_its_clock_never_stands_still()
        for as_of, known_at, answer in self.answers:
            with self.service.view(self.ledger, as_of=as_of, known_at=known_at) as view:
                assert balances.trial_balance(self.service.database, view) == answer, "an answer never changes"
        assert integrity.verify(self.service.database, self.ledger).differences == []


def test_the_recorder_does_what_the_model_says(service: Subledger, new_ledger: NewLedger) -> None:
    run_state_machine_as_test(
        lambda: Machine(service, new_ledger),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=30,
            deadline=None,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
