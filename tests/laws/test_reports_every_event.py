"""Reports tie in ledgers with every event type: disputes, transfers, pools, escheat, two currencies.

The events are drawn at random from a seed, like those of a careless billing system. The books refuse some of them, and
the reports show the recorded ones.
"""

from __future__ import annotations

import random
from collections import Counter
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from api.service import Subledger
from projections.close.close import close_period
from projections.reads.blocks import customer_blocks
from subledger.billing_documents import Invoice
from subledger.blocks import Block
from subledger.errors import UnknownCustomer
from subledger.events.envelope import EVENT_TYPES
from subledger.periods import Period
from subledger.pools import Cohort
from subledger.posting import SHIPPED_POLICIES
from subledger.store.writing.rows import decode_cohort, decode_wallet
from tests.building import cloud_event
from tests.conftest import NewLedger
from tests.reading import report_of, table_of

CUSTOMERS = ("ann", "bob", "cid", "dee")
SEEDS = (3, 4, 5)
EVENTS_A_MONTH = 110
MONTHS = tuple(Period(2026, month) for month in range(1, 7))
WEIGHTS = {
    "credits.purchased": 14, "credits.granted": 4, "credits.consumed": 40, "consumption.reversed": 4,
    "credits.reserved": 8, "reservation.released": 3,
    "purchase.voided": 1, "credits.refunded": 2, "block.expiry_changed": 1, "block.repriced": 2,
    "credits.transferred": 3, "payment.received": 14, "payment.applied": 3, "payout.settled": 3,
    "processor.adjusted": 2,
    "payment.refunded": 3, "dispute.opened": 8, "dispute.won": 5, "dispute.lost": 5, "receivable.written_off": 2,
    "credit_memo.issued": 2, "overage.billed": 2, "breakage.estimated": 2, "credits.escheated": 6,
    "escheat.reclaimed": 5, "escheat.remitted": 6, "event.reversed": 4, "balance.opened": 4,
}  # fmt: skip


class Books(msgspec.Struct, frozen=True):
    """A ledger, the moments of its batches, and the number of recorded events of each type."""

    ledger: str
    moments: tuple[datetime, ...]
    recorded: Counter[str]


@pytest.fixture(scope="module", params=[(p, c) for p in SHIPPED_POLICIES for c in (("USD",), ("USD", "EUR"))],
                ids=lambda param: f"{param[0]}-{len(param[1])}")  # fmt: skip
def books(request: pytest.FixtureRequest, service: Subledger, new_ledger: NewLedger) -> list[Books]:
    """Some ledgers with half a year under a policy, in one currency or two."""
    policy, currencies = request.param
    return [_filled(service, new_ledger(policy=policy, dimensions=("department",)), seed, currencies) for seed in SEEDS]


def _filled(service: Subledger, ledger: str, seed: int, currencies: tuple[str, ...]) -> Books:
    """Records half a year of events. All months except the last are closed."""
    world, recorded = _World(random.Random(seed), currencies), Counter[str]()
    opened = world.taken_over()
    for period in MONTHS:
        events = opened + world.month(period, EVENTS_A_MONTH)
        opened = []
        for start in range(0, len(events), 25):  # in parts, so that known_at can be in the middle of a month
            part = events[start : start + 25]
            for event, outcome in zip(part, service.record(ledger, part), strict=True):
                recorded[event["type"]] += outcome.status == "recorded"
        if period != MONTHS[-1]:
            close_period(service.recorder, ledger, period)
    with service.database.read() as connection:
        query = sa.text("SELECT recorded_at FROM batches WHERE ledger = :ledger ORDER BY recorded_at")
        moments = connection.execute(query, {"ledger": ledger}).scalars().all()
    return Books(ledger, tuple(moments), recorded)


@pytest.mark.campaign
def test_every_report_ties_whatever_was_recorded(service: Subledger, books: list[Books]) -> None:
    chance = random.Random(1)
    for each in books:
        for _ in range(12):
            asked: dict[str, Any] = {"to": f"2026-0{chance.randint(1, 6)}-{chance.randint(1, 28):02d}"}
            if chance.random() < 0.7:
                asked["known_at"] = chance.choice(each.moments)
            for name in ("rollforward", "waterfall", "clearing", "receivables", "pools"):
                report = report_of(service, each.ledger, name, **asked)
                assert report.ties_out, report.ties
            for name in ("receivables", "rollforward", "waterfall", "statement"):
                question = asked if name == "receivables" else {**asked, "from_": "2026-01"}
                # At the first moments not every customer was known.
                with suppress(UnknownCustomer) if "known_at" in asked else nullcontext():
                    report = report_of(service, each.ledger, name, **question, customer=chance.choice(CUSTOMERS))
                    assert report.ties_out, report.ties
            for name, question in (("forecast", {"months": 5}), ("performance", {"from_": "2026-02-11"})):
                if name == "forecast" or asked["to"] >= "2026-02-11":
                    report = report_of(service, each.ledger, name, **asked, **question)
                    assert report.ties_out, report.ties


def test_what_is_owed_is_what_the_writer_remembers(service: Subledger, books: list[Books]) -> None:
    """Checks item by item: the receivable of each block and invoice, and each customer's overage without an invoice."""
    for each in books:
        report = report_of(service, each.ledger, "receivables", to="2026-12-31")
        owed: dict[tuple[Any, ...], int] = {}
        for row in table_of(report, "open_items"):
            if row["account"] != "disputes_receivable":
                place = row["block_id"] or row["invoice_id"]
                owed[row["customer"], row["currency"], place] = row["balance"]
        remembered = _remembered(service, each.ledger)
        assert {item: amount for item, amount in owed.items() if amount} == remembered
        for row in table_of(report, "open_items"):
            buckets = ("current", "days_1_30", "days_31_60", "days_61_90", "days_over_90", "credit_balances")
            assert sum(row[bucket] for bucket in buckets) == row["balance"]
    assert any(remembered for each in books if (remembered := _remembered(service, each.ledger)))


def _remembered(service: Subledger, ledger: str) -> dict[tuple[Any, ...], int]:
    found: dict[tuple[Any, ...], int] = {}
    with service.view(ledger) as view:
        for customer in CUSTOMERS:
            blocks, after = customer_blocks(view, customer, after="", limit=1000)
            assert after is None
            found |= {(customer, b.block.currency, b.block.block_id): b.block.receivable_minor for b in blocks}
        of_ledger = {"ledger": ledger}
        for text in view.connection.execute(sa.text("SELECT state FROM wallets WHERE ledger = :ledger"), of_ledger):
            wallet = decode_wallet(text.state)
            for overage in wallet.overages:
                key = (wallet.customer, overage.currency, None)
                found[key] = found.get(key, 0) + overage.open_minor
        invoices = sa.text("SELECT customer, state FROM documents WHERE ledger = :ledger AND kind = 'invoice'")
        for row in view.connection.execute(invoices, of_ledger):
            invoice = msgspec.json.decode(row.state, type=Invoice)
            found[row.customer, invoice.currency, invoice.invoice_id] = invoice.receivable_minor
    return {item: amount for item, amount in found.items() if amount}


def test_what_is_shown_net_and_what_is_netted_are_the_books_in_every_view(
    service: Subledger, books: list[Books]
) -> None:
    """Both lines of the balance sheet are reduced by the same amount, and neither is below zero."""
    chance, netted = random.Random(2), 0
    for each in books:
        for _ in range(4):
            asked: dict[str, Any] = {"to": f"2026-0{chance.randint(1, 6)}-{chance.randint(1, 28):02d}"}
            if chance.random() < 0.7:
                asked["known_at"] = chance.choice(each.moments)
            aged = report_of(service, each.ledger, "receivables", **asked)
            balances = report_of(service, each.ledger, "trial-balance", **asked)
            disclosed = report_of(service, each.ledger, "performance", **asked)
            assert all(report.ties_out for report in (aged, balances, disclosed))
            lines = {(row["line"], row["currency"]): row for row in table_of(balances, "presentation")}
            for row in lines.values():
                assert row["presented"] + row["netted"] + row["deducted"] == row["balance"]
            for row in table_of(aged, "totals"):
                if row["account"] == "accounts_receivable":
                    shown = [lines[line, row["currency"]] for line in ("receivables", "contract and refund liability")]
                    assert [line["netted"] for line in shown] == [row["netted"]] * 2
                    assert [line["netted_functional"] for line in shown] == [row["netted_functional"]] * 2
                    assert shown[0]["balance"] == row["balance"]
                    netted += row["netted"]
            of_items = [row for row in table_of(aged, "open_items") if row["account"] == "accounts_receivable"]
            assert all(0 <= row["netted"] <= max(row["balance"], 0) for row in of_items)
            purchases = table_of(aged, "shown_net")
            assert all(0 < row["netted"] <= min(row["receivable"], row["liability"]) for row in purchases)
            assert sum(row["netted"] for row in of_items) == sum(row["netted"] for row in purchases)
            for row in table_of(aged, "functional"):
                of_account = [item for item in table_of(aged, "totals") if item["account"] == row["account"]]
                assert row["balance"] == sum(item["balance_functional"] for item in of_account)
    assert netted


def test_what_is_netted_is_what_the_writer_remembers(service: Subledger, books: list[Books]) -> None:
    """Checks purchase by purchase: the smaller of its open receivable, and the carrying amount of all its blocks."""
    reasons = Counter[str]()
    for each in books:
        held: dict[str, int] = {}
        bought: dict[str, Block] = {}
        with service.view(each.ledger) as view:
            for customer in CUSTOMERS:
                for found in customer_blocks(view, customer, after="", limit=1000)[0]:
                    block = found.block
                    held[block.origin or block.block_id] = held.get(block.origin or block.block_id, 0) + (
                        block.carrying_minor
                    )
                    bought |= {} if block.origin is not None or block.credit_kind != "paid" else {block.block_id: block}
        end = datetime(2026, 12, 31, 23, tzinfo=UTC)
        expected = {
            block_id: min(block.receivable_minor, held[block_id])
            for block_id, block in bought.items()
            if block.cancellable or block.refundable or (block.due_at is not None and block.due_at > end)
        }
        shown = table_of(report_of(service, each.ledger, "receivables", to="2026-12-31"), "shown_net")
        reasons.update(row["reason"] for row in shown)
        found_by = {row["block_id"]: row["netted"] for row in shown}
        plain = {block_id: amount for block_id, amount in expected.items() if bought[block_id].pool is None}
        assert {of: amount for of, amount in found_by.items() if of in plain} == {
            of: amount for of, amount in plain.items() if amount > 0
        }
        assert all(amount <= expected[of] for of, amount in found_by.items())
    assert set(reasons) == {"not due", "cancellable", "refundable"}


def test_a_pool_is_what_the_writer_remembers_and_what_the_formula_says(service: Subledger, books: list[Books]) -> None:
    """If all events are in the view, the formula on a pool's own figures gives the recognised breakage, to the cent."""
    pools = 0
    for each in books:
        remembered = _remembered_cohorts(service, each.ledger)
        rows = table_of(report_of(service, each.ledger, "pools", to="2026-12-31"), "pools")
        shown = {(row["pool"], row["cohort"] or "") for row in rows}
        assert {key for key, cohort in remembered.items() if cohort.credits or cohort.issued_minor} <= shown
        for row in rows:
            key = (row["pool"], row["cohort"] or "")
            pool = remembered.get(key, Cohort(pool=key[0], cohort=key[1], currency=row["currency"]))
            assert (row["net_issued"], row["redeemed"], row["expired"], row["escheated"], row["credits_left"]) == (
                pool.issued_minor,
                pool.redeemed_minor,
                pool.expired_minor,
                pool.escheated_minor,
                pool.credits,
            )
            assert row["due_by_formula"] == row["recognised"] == pool.recognised_minor
            assert row["recognised_functional"] == pool.recognised_functional
            assert row["estimate_version"] == (pool.estimate and pool.estimate.version)
            assert row["net_liability"] == row["prepaid_liability"] - row["breakage_recognized"] >= 0
            pools += row["recognised"] != 0
    assert pools


def _remembered_cohorts(service: Subledger, ledger: str) -> dict[tuple[str, str], Cohort]:
    with service.view(ledger) as view:
        query = sa.text("SELECT state FROM documents WHERE ledger = :ledger AND kind = 'cohort'")
        cohorts = [decode_cohort(row.state) for row in view.connection.execute(query, {"ledger": ledger})]
        return {(cohort.pool, cohort.cohort): cohort for cohort in cohorts}


@pytest.mark.campaign
def test_breakage_of_a_pool_is_due_by_the_formula_month_by_month(service: Subledger, books: list[Books]) -> None:
    """Checks the current books, and the books as known at any moment, however late an event was recorded."""
    chance = random.Random(2)
    for each in books:
        for moment in (None, *chance.sample(each.moments, 3)):
            asked = {} if moment is None else {"known_at": moment}
            report = report_of(service, each.ledger, "pools", to=f"2026-0{chance.randint(3, 6)}-15", **asked)
            held: dict[tuple[str, str], int] = {}
            for row in table_of(report, "rollforward"):
                assert row["recognised"] == row["due_by_formula"], row
                assert row["opening"] == held.get((row["pool"], row["cohort"]), 0)
                assert row["opening"] + row["opened"] + row["recognised"] - row["expired"] == row["closing"]
                held[row["pool"], row["cohort"]] = row["closing"]
            for row in table_of(report, "pools"):
                assert row["breakage_recognized"] == held.get((row["pool"], row["cohort"]), 0)
            for row in table_of(report, "estimates"):
                assert row["recognised_before"] + row["changed_by"] == row["recognised_after"], row


def test_every_block_ends_with_its_three_accounts_at_zero(service: Subledger, books: list[Books]) -> None:
    for each in books:
        for row in table_of(report_of(service, each.ledger, "clearing", to="2026-06"), "blocks"):
            assert row["difference"] == 0, row
            assert row["credits"] > 0, row


def test_a_sale_that_was_handed_on_stays_in_its_month(service: Subledger, books: list[Books]) -> None:
    """A transfer moves credits at the same basis, so transfers net to zero in each month of sale."""
    for each in books:
        for row in table_of(report_of(service, each.ledger, "waterfall", to="2026-06"), "cohorts"):
            assert row["transferred"] == 0
            assert row["deferred"] is None or row["deferred"] >= 0 or row["cohort"] == "pool"


def test_these_books_have_every_event_type_in_them(books: list[Books]) -> None:
    recorded = sum((each.recorded for each in books), Counter[str]())
    # Blocks expire only by the sweep.
    missing = {type for type in EVENT_TYPES if not recorded[type]} - {"credits.expired"}
    assert not missing


# --- the careless billing system ------------------------------------------------------------------------------------


class _World:
    """The inexact memory of the billing system: many of its events are refused."""

    def __init__(self, chance: random.Random, currencies: tuple[str, ...]) -> None:
        self.chance = chance
        self.currencies = currencies
        self.count = 0
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.blocks: list[tuple[str, str, str]] = []
        self.uses: list[tuple[str, str]] = []
        self.sent: list[tuple[str | None, str]] = []
        self.payments: list[tuple[str, str, str]] = []
        self.disputes: list[tuple[str, str]] = []
        self.paid: list[tuple[str, str, str]] = []
        self.escheated: list[tuple[str, str, str]] = []
        self.invoices: list[tuple[str, str]] = []
        self.reservations: list[tuple[str, str]] = []

    def month(self, period: Period, count: int) -> list[dict[str, Any]]:
        start = datetime(period.year, period.month, 1, tzinfo=UTC)
        moments = sorted(self.chance.randrange(27 * 86_400) for _ in range(count))
        events = [self._rate(start + timedelta(days=day)) for day in (0, 10, 20, 27)]
        types = self.chance.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count)
        for type, after in zip(types, moments, strict=True):
            events.append(self._event(type, start + timedelta(seconds=after)))
        return sorted(events, key=lambda event: str(event["time"]))

    def _rate(self, moment: datetime) -> dict[str, Any]:
        rate = f"1.{self.chance.randrange(500, 2500):04d}"
        return self._sent("exchange_rate.set", None, moment, base="EUR", quote="USD", rate=rate, rate_source="ecb")

    def taken_over(self) -> list[dict[str, Any]]:
        """Returns opening balances: a rate, and then a pool of each currency with an open block that is partly
        redeemed.
        """
        moment, events = datetime(2026, 1, 1, tzinfo=UTC), [self._rate(datetime(2025, 12, 31, tzinfo=UTC))]
        for currency in self.currencies:
            pool = {"pool": f"pool-{currency}", "currency": currency}
            rates = {"expected_breakage_rate": "0.10", "cohorts": "month", "evidence": "e"}
            block, customer = f"old-{currency}", self.chance.choice(CUSTOMERS)
            terms = {"credits": "400", "used": "130.5", "price": "399.99", "drawn": "130.50", "cohort": "2025-11"}
            functional = "330.00" if currency != "USD" else None
            balance = {"amount": "21.17", "cohort": "2025-11", "redeemed": "130.50", "expired": "3.10"}
            events += [
                self._sent("breakage.estimated", None, moment, **pool, **rates),
                self._opened(
                    customer, moment, "prepaid_liability", block_id=block, functional_amount=functional,
                    expires_at="2026-04-20T00:00:00Z", **pool, **terms,
                ),
                self._opened(
                    customer, moment, "accounts_receivable", block_id=block, amount="40.10", currency=currency
                ),
                self._opened(None, moment, "breakage_recognized", **pool, **balance),
            ]  # fmt: skip
            self.blocks.append((customer, block, currency))
        return events

    def _opened(self, customer: str | None, moment: datetime, role: str, /, **data: Any) -> dict[str, Any]:
        return self._sent("balance.opened", customer, moment, role=role, **data)

    def _balance_opened(self) -> Any:
        customer, currency = self.chance.choice(CUSTOMERS), self.chance.choice(self.currencies)
        amount = {"amount": self._amount(900), "currency": currency}
        block, place = f"k{self.count}", self.chance.randrange(8)
        if place < 2:
            self.blocks.append((customer, block, currency))
            terms = {"credits": "90", "used": "31", "price": "45.00", "drawn": "15.51", "tax": self._maybe("4.50")}
            kind = {"refundable": True} if place else {"escheat_class": "US-DE", "processor": "cards"}
            return customer, {"role": "prepaid_liability", "block_id": block, "currency": currency, **terms, **kind}
        role, about = (
            ("customer_balance", {"payment_id": f"y{self.count}"}),
            ("unbilled_receivable", {"credits": "12"}),
            ("accounts_receivable", {"invoice_id": f"w{self.count}"}),
            ("refunds_payable", {}),
            ("tax_payable", {}),
            ("processor_clearing", {"processor": "cards"}),
        )[place - 2]
        if role == "customer_balance":
            self.payments.append((customer, about["payment_id"], currency))
        return None if role in ("tax_payable", "processor_clearing") else customer, {"role": role, **about, **amount}

    def _sent(self, type: str, customer: str | None, moment: datetime, /, **data: Any) -> dict[str, Any]:
        self.count += 1
        time = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        return cloud_event(f"e{self.count}", type, customer, time, **{k: v for k, v in data.items() if v is not None})

    def _event(self, type: str, moment: datetime) -> dict[str, Any]:
        self.now = moment
        customer, data = getattr(self, "_" + type.replace(".", "_"))()
        sent = self._sent(type, customer, moment, **data)
        if type == "credits.consumed":
            self.uses.append((customer, sent["id"]))
        else:
            self.sent.append((customer, sent["id"]))
        return sent

    def _amount(self, most: int = 20_000) -> str:
        cents = self.chance.randint(1, most)
        return f"{cents // 100}.{cents % 100:02d}"

    def _block(self) -> tuple[str, str, str]:
        return self.chance.choice(self.blocks[-25:]) if self.blocks else ("ann", "none", "USD")

    def _maybe(self, value: Any, odds: float = 0.5) -> Any:
        return value if self.chance.random() < odds else None

    def _credits_purchased(self) -> Any:
        customer, currency = self.chance.choice(CUSTOMERS), self.chance.choice(self.currencies)
        block = f"b{len(self.blocks)}"
        self.blocks.append((customer, block, currency))
        pool = self._maybe(f"pool-{currency}", 0.3)
        return customer, {
            "block_id": block,
            "credits": str(self.chance.randint(10, 900)),
            "price": self._amount(),
            "currency": currency,
            "tax": self._maybe(self._amount(900)),
            "pool": pool,
            "refundable": None if pool else self._maybe(True, 0.3),
            "dimensions": ({"department": "sales"}, {"department": "lab"}, None)[len(self.blocks) % 3],
            "bonus_credits": self._maybe("7.5", 0.2),
            "escheat_class": self._maybe("CA", 0.15),
            "invoice_id": self._maybe(f"i-{block}"),
            **self._terms(len(self.blocks)),
            "expires_at": self._maybe((self.now + timedelta(days=self.chance.randint(5, 90))).isoformat()),
        }

    def _terms(self, number: int) -> dict[str, Any]:
        """Returns due date and cancellation terms of a purchase: each combination in turn."""
        days = (None, 20, 400)[number % 3]
        return {
            "due_at": None if days is None else (self.now + timedelta(days=days)).isoformat(),
            "cancellable": True if number % 4 == 1 else None,
        }

    def _credits_granted(self) -> Any:
        reason, block = self.chance.choice(("promotional", "goodwill", "allocation")), f"b{len(self.blocks)}"
        currency = self.chance.choice(self.currencies)
        customer = self.chance.choice(CUSTOMERS)
        self.blocks.append((customer, block, currency))
        valued = {} if reason == "promotional" else {"value": self._amount(3000), "currency": currency}
        return customer, {"block_id": block, "credits": str(self.chance.randint(1, 90)), "reason": reason, **valued}

    def _credits_consumed(self) -> Any:
        data = {
            "credits": f"{self.chance.choice((0, 3, 40, 90, 400))}.25",
            "product": self.chance.choice(("api", "chat", None)),
            "on_shortfall": self.chance.choice(("overage", "backfill")),
            "dimensions": ({"department": "sales"}, None, {"department": "lab"})[self.count % 3],
        }
        customer, named = self.chance.choice(CUSTOMERS), None
        if self.reservations and self.chance.random() < 0.2:
            customer, named = self.chance.choice(self.reservations[-4:])
        return customer, {
            **data,
            "overage_price": "0.31",
            "currency": self.chance.choice(self.currencies),
            "tax": self._maybe("0.05", 0.2),
            "reservation_id": named,
        }

    def _credits_reserved(self) -> Any:
        customer, reservation = self.chance.choice(CUSTOMERS), f"r{self.count}"
        self.reservations.append((customer, reservation))
        expires_at = (self.now + timedelta(days=self.chance.randint(1, 20))).isoformat()
        credits = f"{self.chance.randint(1, 60)}.5"
        return customer, {"reservation_id": reservation, "credits": credits, "expires_at": expires_at}

    def _reservation_released(self) -> Any:
        customer, reservation = self.chance.choice(self.reservations[-5:] or [("ann", "none")])
        return customer, {"reservation_id": reservation}

    def _consumption_reversed(self) -> Any:
        customer, use = self.chance.choice(self.uses[-30:]) if self.uses else ("ann", "none")
        return customer, {"event_id": use, "credits": self._maybe("3", 0.4), "reason": "r"}

    def _event_reversed(self) -> Any:
        customer, event_id = self.chance.choice(self.sent[-8:]) if self.sent else ("ann", "none")
        return customer, {"event_id": event_id, "reason": "r"}

    def _purchase_voided(self) -> Any:
        customer, block, _ = self._block()
        return customer, {"block_id": block, "reason": "r"}

    def _credits_refunded(self) -> Any:
        customer, block, currency = self._block()
        return customer, {
            "block_id": block,
            "credits": self._maybe("5"),
            "amount": self._maybe("0.05"),
            "currency": currency,
        }

    def _block_expiry_changed(self) -> Any:
        customer, block, _ = self._block()
        return customer, {"block_id": block, "expires_at": (self.now + timedelta(days=40)).isoformat(), "reason": "r"}

    def _block_repriced(self) -> Any:
        customer, block, _ = self._block()
        return customer, {
            "block_id": block,
            "add_credits": "20",
            "add_price": self.chance.choice(("3.00", "-0.50")),
            "reason": "r",
        }

    def _credits_transferred(self) -> Any:
        customer, block, currency = self._block()
        to, new = self.chance.choice(CUSTOMERS), f"b{len(self.blocks)}"
        self.blocks.append((to, new, currency))
        return customer, {"block_id": block, "to_customer": to, "new_block_id": new, "credits": self._maybe("4")}

    def _payment_received(self) -> Any:
        customer, block, currency = self._block()
        payment, processor = f"p{self.count}", self._maybe("cards")
        self.payments.append((customer, payment, currency))
        self.paid.append((customer, block, currency))
        return customer, {
            "amount": self._amount(25_000),
            "currency": currency,
            "block_id": self._maybe(block, 0.8),
            "payment_id": payment,
            "processor": processor,
            "fee": "0.30" if processor else None,
            "elsewhere": self._maybe("0.05", 0.2),
        }

    def _payment(self) -> tuple[str, str, str]:
        return self.chance.choice(self.payments[-20:]) if self.payments else ("ann", "none", "USD")

    def _payment_applied(self) -> Any:
        customer, payment, currency = self._payment()
        own = [block for owner, block, _ in self.blocks if owner == customer]
        return customer, {
            "payment_id": payment,
            "amount": self._amount(800),
            "currency": currency,
            "block_id": own[-1] if own else "none",
        }

    def _payout_settled(self) -> Any:
        data = {"amount": self._amount(30_000), "currency": self.chance.choice(self.currencies)}
        return None, {**data, "processor": "cards", "payout_id": f"o{self.count}"}

    def _processor_adjusted(self) -> Any:
        sign, currency = self.chance.choice(("", "-", "-")), self.chance.choice(self.currencies)
        kind = self.chance.choice(("fee", "fee", "tax", "adjustment"))
        data = {"amount": f"{sign}7.{self.chance.randint(50, 99)}", "currency": currency, "kind": kind}
        tax = self._maybe("1.10") if kind != "tax" else None
        return None, {**data, "processor": "cards", "adjustment_id": f"a{self.count}", "tax": tax}

    def _payment_refunded(self) -> Any:
        customer, payment, currency = self._payment()
        return customer, {
            "amount": self._amount(500), "currency": currency, "payment_id": payment, "processor": "cards",
            "fee": self._maybe("0.25"),
        }  # fmt: skip

    def _dispute_opened(self) -> Any:
        customer, block, currency = self._block()
        about = {"block_id": block}
        if self.payments and self.chance.random() < 0.6:
            customer, payment, currency = self._payment()
            about = {"payment_id": payment}
        dispute = f"d{self.count}"
        self.disputes.append((customer, dispute))
        return customer, {
            "dispute_id": dispute,
            **about,
            "amount": self._maybe("1.00", 0.3),
            "currency": currency,
            "fee": "15.00",
        }

    def _dispute_won(self) -> Any:
        customer, dispute = self.chance.choice(self.disputes[-3:]) if self.disputes else ("ann", "none")
        return customer, {"dispute_id": dispute}

    _dispute_lost = _dispute_won

    def _receivable_written_off(self) -> Any:
        customer, block, _ = self._block()
        data = {"tax_relief": self.chance.random() < 0.5, "reason": "r"}
        if self.invoices and self.chance.random() < 0.4:
            customer, invoice = self.chance.choice(self.invoices)
            return customer, {"invoice_id": invoice, "amount": "0.15", **data}
        return customer, {"block_id": block, **data}

    def _credit_memo_issued(self) -> Any:
        customer, block, currency = self._block()
        return customer, {"block_id": block, "amount": "0.40", "currency": currency, "reason": "r"}

    def _overage_billed(self) -> Any:
        data = {"amount": self._amount(900), "currency": self.chance.choice(self.currencies)}
        self.invoices.append((self.chance.choice(CUSTOMERS), f"v{self.count}"))
        return self.invoices[-1][0], {**data, "invoice_id": self.invoices[-1][1], "tax": self._maybe("0.20"),
                                       "due_at": self._terms(self.count)["due_at"]}  # fmt: skip

    def _breakage_estimated(self) -> Any:
        currency = self.chance.choice(self.currencies)
        expected = {"expected_breakage_rate": f"0.{self.chance.randint(5, 20):02d}"}
        if self.chance.random() < 0.4:
            expected = {"expected_breakage": self._amount(4000), "expected_escheat": self._amount(900)}
        elif self.chance.random() < 0.5:
            expected["expected_escheat_rate"] = "0.04"
        return None, {"pool": f"pool-{currency}", **expected, "currency": currency, "evidence": "e"}

    def _credits_escheated(self) -> Any:
        self.escheated.append(self.chance.choice(self.paid[-6:]) if self.paid else self._block())
        customer, block, _ = self.escheated[-1]
        return customer, {"block_id": block}

    def _escheat_reclaimed(self) -> Any:
        customer, block, currency = self.chance.choice(self.escheated or [self._block()])
        return customer, {"block_id": block, "amount": "0.10", "currency": currency}

    _escheat_remitted = _escheat_reclaimed
