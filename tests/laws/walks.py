"""Random walks: for any numbers of a step, most steps are allowed by the current books.

Owns: the choice of the events. Does not own: their effect, and the stored steps (``walk``).
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from subledger.blocks import Block
from subledger.ledger import ACCOUNTING_RULES
from subledger.money import format_minor
from subledger.periods import Period
from tests.laws.walk import CURRENCIES, HOME, PEOPLE, POLICIES, RATES, START, Walk

DIMENSIONS = (..., {"department": "sales", "region": "north"}, {"department": "lab"}, {})
"""The company's own dimensions of a purchase or of usage; ``...``: none are sent."""

WalkStep = tuple[str, int, int, int, int]
"""A step: act, day, object (an index into the existing ones), amount, and flags that vary it."""


@dataclasses.dataclass
class Walker:
    """Turns the numbers of a step into an event about existing items."""

    walk: Walk
    number: int = 0
    at: datetime = START
    pick: int = 0
    size: int = 1
    flags: int = 0

    def go(self, what: str, day: int, pick: int, size: int, flags: int) -> None:
        self.number += 1
        self.at, self.pick, self.size, self.flags = START + timedelta(days=day), pick, size, flags
        getattr(self, what)()

    # --- the item of a step ---------------------------------------------------------------------------------

    def send(self, type: str, customer: str | None, /, **data: Any) -> None:
        self.walk.send(f"e{self.number}", type, customer, self.at, **data)

    def has(self, flag: int) -> bool:
        return bool(self.flags & flag)

    def one(self, things: Sequence[Any]) -> Any:
        return things[self.pick % len(things)] if things else None

    def a_block(self, fits: Callable[[Block], object] = lambda block: block.remaining) -> Block | None:
        """Returns mostly a block that fits, sometimes any block."""
        blocks = [block for block in self.walk.blocks if self.pick == 0 or fits(block)]
        return self.one(blocks)

    def owner(self, block: Block) -> str:
        return self.walk.owners[block.block_id]

    @property
    def somebody(self) -> str:
        return PEOPLE[self.pick % 2]

    @property
    def currency(self) -> str:
        return CURRENCIES[self.flags >> 6 & 3]

    def money(self, minor: int, currency: str) -> str:
        return format_minor(minor, currency)

    def part(self, minor: int, currency: str) -> str:
        """Returns a part of an amount, or all of it, or sometimes too much."""
        amount = minor if self.size > 60 else minor * self.size // 60
        return self.money(max(amount, 1), currency)

    def some(self, credits: Decimal) -> str:
        """Returns a part of a quantity, in whole thousandths if possible."""
        thousandths = int(credits * 1000) * min(self.size, 60) // 60
        return f"{max(Decimal(thousandths).scaleb(-3), Decimal('0.001')):f}"

    def later(self, days: int) -> str:
        return (self.at + timedelta(days=days)).isoformat()

    # --- credits ----------------------------------------------------------------------------------------------

    def buy(self) -> None:
        currency = self.currency
        minor = 0 if self.pick % 11 == 10 else self.size * 731 % 10_000
        taxed = self.has(2) and minor
        self.send(
            "credits.purchased",
            self.somebody,
            block_id=f"b{self.number}",
            credits=f"{self.size / 4:.2f}",
            price=self.money(minor, currency),
            currency=currency,
            tax=self.money(minor // 9 + 1, currency) if taxed else ...,
            bonus_credits="1.5" if self.has(1) else ...,
            refundable=self.has(4),
            pool=f"pool-{currency}" if self.has(8) and not self.has(4) else ...,
            escheat_class="DE-3y" if self.has(16) and self.has(1) else ...,
            scope=["api"] if self.has(32) and self.has(2) else ...,
            invoice_id=f"i{self.pick % 3}",
            due_at=self.later(self.pick) if self.has(2) and self.has(4) else ...,
            cancellable=True if self.has(8) and self.has(1) else ...,
            expires_at=self.later(self.size) if self.pick % 3 else ...,
            priority=10 if self.size % 5 == 0 else 50,
            dimensions=DIMENSIONS[self.size % 4],
        )

    def grant(self) -> None:
        reason = ("promotional", "goodwill", "allocation")[self.flags % 3]
        paid = reason != "promotional"
        self.send(
            "credits.granted",
            self.somebody,
            block_id=f"b{self.number}",
            credits=f"{self.size / 4:.2f}",
            reason=reason,
            value=self.money(self.size * 7, self.currency) if paid else ...,
            currency=self.currency if paid else ...,
            expires_at=self.later(self.size) if self.has(8) else ...,
        )

    def use(self) -> None:
        block, currency = self.a_block() if self.has(4) and self.has(8) else None, self.currency
        voucher = self.a_block(lambda block: block.remaining and block.price_minor and not block.tax_minor)
        taxed = voucher is not None and self.has(2) and self.pick % 2 == 0
        if voucher is not None and taxed:
            block, currency = voucher, voucher.currency
        customer = self.somebody if block is None else self.owner(block)
        reservation = self.one(self.walk.wallets[customer].reservations) if self.size % 4 == 3 else None
        self.send(
            "credits.consumed",
            customer,
            credits=f"{self.size / 4:.2f}",
            overage_price="0" if self.pick % 7 == 6 else "0.0123" if currency != "JPY" else "3.21",
            currency=currency,
            product=reservation.product or ... if reservation is not None else "api" if self.has(1) else ...,
            reservation_id=reservation.reservation_id if reservation is not None else ...,
            block_id=block.block_id if block is not None else ...,
            on_shortfall=(..., "overage", "backfill", "reject")[self.flags >> 4 & 3],
            dimensions=DIMENSIONS[(self.size + self.pick) % 4],
            tax=self.money(self.size % 40, currency) if taxed else ...,
        )

    def reserve(self) -> None:
        self.send(
            "credits.reserved",
            self.somebody,
            reservation_id=f"r{self.number}",
            credits=f"{self.size / 16:.4f}",
            product="api" if self.has(1) else ...,
            expires_at=self.later(self.pick + 1),
        )

    def release(self) -> None:
        found = self.one([(w.customer, r) for w in self.walk.wallets.values() for r in w.reservations])
        if found is not None:
            self.send("reservation.released", found[0], reservation_id=found[1].reservation_id)

    def reverse(self) -> None:
        usage = [step for step in self.walk.steps if step.event.type == "credits.consumed"]
        step = self.one(usage[::-1])
        if step is not None:
            credits = self.some(step.event.data.credits) if self.has(1) else ...
            self.send(
                "consumption.reversed", step.event.customer, event_id=step.event.event_id, reason="r", credits=credits
            )

    def expire(self) -> None:
        block = self.a_block(lambda block: block.remaining and block.expiry_due_at)
        if block is not None and block.expiry_due_at is not None:
            self.expire_block(block)

    def expire_block(self, block: Block) -> None:
        self.walk.own(
            f"x{self.number}-{block.block_id}",
            "credits.expired",
            self.owner(block),
            block.expiry_due_at or self.at,
            block_id=block.block_id,
        )

    def void(self) -> None:
        if (block := self.a_block()) is not None:
            self.send("purchase.voided", self.owner(block), block_id=block.block_id, reason="r")

    def refund(self) -> None:
        if (block := self.a_block()) is not None:
            value = block.value_of(block.remaining) if block.remaining else 0
            self.send(
                "credits.refunded",
                self.owner(block),
                block_id=block.block_id,
                credits=self.some(block.remaining) if self.has(1) else ...,
                amount=self.part(value // 2, block.currency) if self.has(2) else ...,
                currency=block.currency if self.has(2) else ...,
            )

    def extend(self) -> None:
        block = self.a_block(lambda block: block.expires_at if self.has(1) else block.expired_credits)
        if block is not None:
            self.send(
                "block.expiry_changed",
                self.owner(block),
                block_id=block.block_id,
                reason="r",
                expires_at=None if self.has(2) else self.later(self.size - 20),
            )

    def reprice(self) -> None:
        if (block := self.a_block()) is not None:
            sign = "-" if self.has(4) else ""
            less = min(block.carrying_minor, block.receivable_minor)
            price = self.part(less, block.currency) if sign else self.money(self.size * 31, block.currency)
            self.send(
                "block.repriced",
                self.owner(block),
                block_id=block.block_id,
                reason="r",
                add_credits=(sign if self.has(8) else "") + self.some(block.remaining) if self.has(1) else ...,
                add_price=sign + price if self.has(2) or not self.has(1) else ...,
                add_tax=sign + self.money(self.size % 40, block.currency) if self.has(16) and self.has(32) else ...,
            )

    def transfer(self) -> None:
        if (block := self.a_block()) is not None:
            [other] = {*PEOPLE} - {self.owner(block)}
            self.send(
                "credits.transferred",
                self.owner(block),
                block_id=block.block_id,
                to_customer=other,
                new_block_id=f"t{self.number}",
                credits=self.some(block.remaining) if self.has(1) else ...,
            )

    def escheat(self) -> None:
        if (block := self.a_block()) is not None:
            self.send("credits.escheated", self.owner(block), block_id=block.block_id)

    def from_escheat(self) -> None:
        def held(block: Block) -> int:
            return block.unclaimed_minor

        if (block := self.a_block(held)) is not None:
            self.send(
                "escheat.reclaimed" if self.has(1) else "escheat.remitted",
                self.owner(block),
                block_id=block.block_id,
                amount=self.part(held(block), block.currency),
                currency=block.currency,
            )

    # --- money ------------------------------------------------------------------------------------------------

    def documents(self, kind: str) -> list[tuple[str, Any]]:
        return [(w.customer, d) for w in self.walk.wallets.values() for d in w.documents if d.document_kind == kind]

    def pay(self) -> None:
        block = self.a_block(lambda block: block.receivable_minor or block.recoverable_minor)
        processor = self.has(1)
        about: dict[str, Any] = {}
        customer, currency, open_minor = self.somebody, self.currency, self.size * 100
        if block is not None and not self.has(2):
            customer, currency = self.owner(block), block.currency
            open_minor = block.receivable_minor + block.recoverable_minor
            about = {"block_id": block.block_id} if self.has(4) else {"invoice_id": block.invoice_id or "i0"}
        elif self.has(4) and (found := self.one(self.documents("invoice"))) is not None:
            customer, currency = found[0], found[1].currency
            open_minor = found[1].receivable_minor + found[1].recoverable_minor
            about = {"invoice_id": found[1].invoice_id}
        paid = {"amount": self.part(open_minor, currency), "currency": currency}
        if self.has(16) and self.has(8) and self.currency != currency:
            paid = {f"settles_{name}": value for name, value in paid.items()}
            paid |= {"amount": self.money(self.size * 90, self.currency), "currency": self.currency}
        self.send(
            "payment.received",
            customer,
            **paid,
            processor="cards" if processor else ...,
            fee=self.money(7, paid["currency"]) if processor else ...,
            elsewhere=self.money(1, currency) if self.has(32) and self.has(2) else ...,
            payment_id=f"p{self.number}" if self.has(8) or self.has(2) else ...,
            **about,
        )

    def apply(self) -> None:
        found = self.one([(w, p) for w, p in self.documents("payment") if p.open_minor])
        if found is None:
            return
        customer, payment = found
        about: dict[str, Any] = {"invoice_id": f"i{self.size % 3}"}
        open_minor = payment.open_minor
        blocks = [
            b
            for b in self.walk.wallets[customer].blocks
            if b.receivable_minor + b.recoverable_minor and b.currency == payment.currency
        ]
        if blocks and self.has(1):
            about = {"block_id": self.one(blocks).block_id}
            open_minor = min(open_minor, self.one(blocks).receivable_minor + self.one(blocks).recoverable_minor)
        invoices = [d for w, d in self.documents("invoice") if w == customer and d.receivable_minor]
        if invoices and self.has(2) and not self.has(1):
            about = {"invoice_id": self.one(invoices).invoice_id}
            open_minor = min(open_minor, self.one(invoices).receivable_minor)
        self.send(
            "payment.applied",
            customer,
            payment_id=payment.payment_id,
            amount=self.part(open_minor, payment.currency),
            currency=payment.currency,
            **about,
        )

    def pay_back(self) -> None:
        found = self.one(self.documents("payment")) if self.has(1) else None
        customer, currency = (self.somebody, self.currency) if found is None else (found[0], found[1].currency)
        block = self.a_block(lambda block: self.owner(block) == customer and block.currency == currency)
        wallet = self.walk.wallets[customer]
        owed = -wallet.standing("refunds_payable", currency)[0] - wallet.standing("customer_balance", currency)[0]
        elsewhere = 0 if found is None else found[1].elsewhere_free_minor
        owed += elsewhere
        self.send(
            "payment.refunded",
            customer,
            amount=self.part(owed, currency),
            currency=currency,
            payment_id=... if found is None else found[1].payment_id,
            block_id=... if block is None or not self.has(2) else block.block_id,
            processor="cards" if self.has(4) else ...,
            fee=self.money(3, currency) if self.has(4) and self.has(8) else ...,
            elsewhere=self.money(1, currency) if elsewhere and self.has(2) else ...,
        )

    def adjust(self) -> None:
        sign, kind = "" if self.has(1) else "-", ("fee", "tax", "adjustment")[self.pick % 3]
        self.send(
            "processor.adjusted",
            None,
            amount=sign + self.money(self.size, self.currency),
            currency=self.currency,
            processor="cards",
            adjustment_id=f"a{self.number}",
            kind=kind,
            tax=self.money(self.size // 5, self.currency) if self.has(2) and kind != "tax" else ...,
        )

    def another_currency(self, name: str) -> dict[str, Any]:
        """Returns an amount in another currency than that of the step."""
        other = next(currency for currency in CURRENCIES if currency != self.currency)
        return {f"{name}_amount": self.money(self.size * 90, other), f"{name}_currency": other}

    def pay_out(self) -> None:
        held = self.walk.books.standing("processor_clearing", self.currency, "cards")[0]
        self.send(
            "payout.settled",
            None,
            amount=self.part(max(held, self.size), self.currency),
            currency=self.currency,
            processor="cards",
            payout_id=f"o{self.number}",
            **self.another_currency("arrived") if self.has(1) else {},
        )

    def dispute(self) -> None:
        escheated = [block for block in self.walk.blocks if block.unclaimed_minor and block.chargeable]
        found = self.one([(w, p) for w, p in self.documents("payment") if p.applied]) if self.has(1) else None
        if escheated and self.has(16):
            found = None
        about: dict[str, Any]
        if found is not None:
            customer, currency = found[0], found[1].currency
            about, most = {"payment_id": found[1].payment_id}, sum(part.amount_minor for part in found[1].applied)
        elif (block := self.one(escheated) or self.a_block(lambda block: block.credit_kind == "paid")) is not None:
            customer, currency, about = self.owner(block), block.currency, {"block_id": block.block_id}
            most = block.price_minor
        else:
            return
        if self.has(2):
            about |= {"amount": self.part(most, currency)}
        if self.has(4):
            about |= {"fee": self.money(15, currency)}
        self.send("dispute.opened", customer, dispute_id=f"d{self.number}", currency=currency, **about)

    def decide(self) -> None:
        found = self.one([(w, d) for w, d in self.documents("dispute") if d.decided is None])
        if found is None:
            return
        customer, dispute = found
        lost, about = self.has(1), {}
        if lost and self.has(2):
            about["amount"] = self.part(sum(part.amount_minor for part in dispute.parts), dispute.currency)
        if self.has(4):
            about["fee"] = self.money(3, dispute.currency)
        self.send(
            "dispute.lost" if lost else "dispute.won",
            customer,
            dispute_id=dispute.dispute_id,
            currency=dispute.currency if about or self.has(8) else ...,
            **about,
        )

    def write_off(self) -> None:
        invoice = self.one([(w, d) for w, d in self.documents("invoice") if d.receivable_minor])
        if invoice is not None and self.has(4):
            self.send(
                "receivable.written_off",
                invoice[0],
                invoice_id=invoice[1].invoice_id,
                reason="r",
                amount=self.part(invoice[1].receivable_minor, invoice[1].currency) if self.has(1) else ...,
                tax_relief=self.has(2),
            )
        elif (block := self.a_block(lambda block: block.receivable_minor)) is not None:
            self.send(
                "receivable.written_off",
                self.owner(block),
                block_id=block.block_id,
                reason="r",
                amount=self.part(block.receivable_minor, block.currency) if self.has(1) else ...,
                tax_relief=self.has(2),
            )

    def memo(self) -> None:
        block = self.a_block(lambda block: block.drawn_minor - block.conceded_minor > 0)
        invoice = self.one(self.documents("invoice"))
        if self.has(1) and invoice is not None:
            customer, currency, tax = invoice[0], invoice[1].currency, invoice[1].tax_minor
            about: dict[str, Any] = {"invoice_id": invoice[1].invoice_id}
            most = invoice[1].billed_minor - invoice[1].conceded_minor
        elif block is not None:
            customer, currency, most = self.owner(block), block.currency, block.concedable_minor
            tax = block.concedable_tax_in(most)
            about = {"block_id": block.block_id}
            if self.has(2) and block.invoice_id is not None:
                about = {"invoice_id": block.invoice_id}
        else:
            return
        whole = self.has(8)
        self.send(
            "credit_memo.issued",
            customer,
            amount=self.money(most, currency) if whole else self.part(most, currency),
            currency=currency,
            reason="r",
            tax=self.part(tax if whole else tax // 4, currency) if self.has(4) and tax > 3 else ...,
            **about,
        )

    def bill(self) -> None:
        wallet = self.walk.wallets[self.somebody]
        unbilled = sum(o.open_minor for o in wallet.overages if o.open and o.currency == self.currency)
        if unbilled:
            self.send(
                "overage.billed",
                self.somebody,
                invoice_id=f"v{self.number}",
                amount=self.part(unbilled, self.currency),
                currency=self.currency,
                tax=self.money(self.size % 9, self.currency) if self.has(1) else ...,
                due_at=self.later(self.pick) if self.has(2) else ...,
            )

    def undo(self) -> None:
        """Undoes mostly a recent event, which no other event uses yet."""
        steps = [step for step in self.walk.steps if step.event.type not in ("credits.consumed", "policy.adopted")]
        step = self.one(steps[::-1][: 3 if self.has(1) else None])
        if step is not None and step.before.zone == self.walk.state.zone:  # the zone of a real ledger never changes
            self.send("event.reversed", step.event.customer, event_id=step.event.event_id, reason="r")

    # --- opening balances -----------------------------------------------------------------

    def open(self) -> None:
        """Opens a block, or another balance; mostly one that belongs to an opened block."""
        opened = self.one([block for block in self.walk.blocks if block.before is not None])
        role = self.one(
            ("block", "block", "receivable", "refund", "escheat", "payment", "overage", "invoice", "tax", "processor",
             "breakage")
        )  # fmt: skip
        if role in ("block", "breakage") or (opened is None and role in ("receivable", "refund", "escheat")):
            return self.open_pooled() if role == "breakage" else self.open_block()
        currency = self.currency if opened is None else opened.currency
        amount = self.money(self.size * 13, currency)
        of_block = {} if opened is None else {"block_id": opened.block_id}
        about: dict[str, dict[str, Any]] = {
            "receivable": {"role": "accounts_receivable", **of_block},
            "refund": {"role": "refunds_payable", **(of_block if self.has(1) else {})},
            "escheat": {"role": "unclaimed_property", **of_block},
            "payment": {"role": "customer_balance", "payment_id": f"p{self.number}", "processor": "cards"},
            "overage": {"role": "unbilled_receivable", "credits": f"{self.size / 4:.2f}", "on_shortfall": "backfill"},
            "invoice": {"role": "accounts_receivable", "invoice_id": f"v{self.number}", "tax": self.money(3, currency)},
            "tax": {"role": "tax_payable"},
            "processor": {"role": "processor_clearing", "processor": "cards"},
        }
        data, wide = about[role], role in ("tax", "processor")
        if role == "receivable" and opened is not None:
            amount = self.part(opened.received_minor, currency)
        before = None if opened is None else opened.before
        if role == "escheat" and before is not None and before.left_minor is not None:
            amount = self.part(before.left_minor, currency)
        if role == "refund" and before is not None and before.left_minor is not None:
            amount = self.part(before.released_minor, currency)
        customer = self.somebody if opened is None else self.owner(opened)
        self.send("balance.opened", None if wide else customer, currency=currency, amount=amount, **data)
        return None

    def open_block(self, **more: Any) -> None:
        currency = self.currency
        price, credits = self.size * 37, Decimal(self.size) / 4
        used = (credits * min(self.pick, 30) / 40).quantize(Decimal("0.01"))
        drawn = round(price * used / credits)
        self.send(
            "balance.opened",
            self.somebody,
            role="prepaid_liability",
            block_id=f"b{self.number}",
            credits=f"{credits:.2f}",
            used=f"{used:f}",
            price=self.money(price, currency),
            drawn=self.money(drawn, currency),
            currency=currency,
            tax=self.money(price // 9, currency) if self.has(1) else ...,
            invoice_id=f"i{self.pick % 3}",
            expires_at=self.later(self.size) if self.has(2) else ...,
            refundable=True if self.has(4) and not more else ...,
            escheat_class="DE-3y" if self.has(8) else ...,
            carrying_amount=self.money((price - drawn) * 3 // 4, currency) if self.has(8) else ...,
            functional_amount=self.money(price - drawn + 5, HOME) if self.has(16) and currency != HOME else ...,
            processor="cards" if self.has(32) else ...,
            **more,
        )

    def open_pooled(self) -> None:
        """Opens a new pool: its rate, an open block, and the breakage recognised ahead."""
        name = f"old-{self.number}"
        rates = {"expected_breakage_rate": "0.2", "cohorts": "month"}
        self.walk.send(f"a{self.number}", "breakage.estimated", None, self.at, pool=name, currency=self.currency,
                       evidence="r", **rates)  # fmt: skip
        self.open_block(pool=name, cohort="2025-11")
        amounts = {
            name: self.money(self.size * part, self.currency) for name, part in (("amount", 5), ("redeemed", 20))
        }
        self.walk.send(f"z{self.number}", "balance.opened", None, self.at, role="breakage_recognized", pool=name,
                       cohort="2025-11", currency=self.currency, **amounts)  # fmt: skip

    # --- the ledger itself ------------------------------------------------------------------------------------

    def estimate(self) -> None:
        pools = self.walk.books.pools
        pool = self.one([pools.by_name[name] for name in sorted(pools.by_name)])
        name, currency = (f"pool-{HOME}", HOME) if pool is None else (pool.pool, pool.currency)
        cohorts = sorted(pools.cohorts.get(name, {}).items())
        cohort, issued = self.one([(each, figures.issued_minor) for each, figures in cohorts]) or (None, 0)
        breakage: dict[str, Any] = {"expected_breakage_rate": f"0.{self.size:02d}"}
        if self.has(1):
            breakage = {"expected_breakage": self.money(max(issued, 0) * self.size // 91, currency)}
        if self.has(2):
            breakage["expected_escheat_rate"] = "0.05"
        elif self.has(4):
            breakage["expected_escheat"] = self.money(max(issued, 0) // 20, currency)
        self.send(
            "breakage.estimated",
            None,
            pool=name,
            currency=currency,
            evidence="r",
            cohort=cohort or ... if self.has(16) else ...,
            cohorts=self.one(["month", "quarter", "year", "none"]) if self.has(8) else ...,
            **breakage,
        )

    def rate(self) -> None:
        base = "EUR" if self.has(1) else "JPY"
        rate = Decimal(RATES[base]) * (100 + self.size - 45) / 100
        self.send("exchange_rate.set", None, base=base, quote=HOME, rate=f"{rate:f}", rate_source="ECB")

    def adopt(self) -> None:
        """Adopts another policy, with rules made by the tests."""
        policy = self.pick % POLICIES + 1
        self.walk.own(
            f"a{self.number}",
            "policy.adopted",
            None,
            self.at,
            policy=policy,
            name="p",
            version=1,
            content_hash="h",
            rules={},
        )

    def settings(self) -> None:
        self.walk.own(
            f"a{self.number}",
            "ledger.configured",
            None,
            self.at,
            entity="E",
            functional_currency=HOME,
            timezone=("UTC", "Pacific/Kiritimati")[self.flags & 1],
            on_shortfall=("reject", "overage", "backfill")[self.pick % 3],
            late_usage="new" if self.has(2) else "reclassify",
            accounting_rules=ACCOUNTING_RULES,
        )

    def close(self) -> None:
        """Closes the next month: expiries, the remeasurement of other currencies, then the close itself."""
        closed = self.walk.state.closed_through
        period = Period(2026, 1) if closed is None else Period.of(closed).next
        if period.year > 2026:
            return
        end = period.end(self.walk.state.zone)
        for block in self.walk.blocks:
            if block.remaining and block.expiry_due_at is not None and block.expiry_due_at < end:
                self.expire_block(block)
        last = end - timedelta(microseconds=1)
        for customer in sorted(self.walk.standing(period.last_day), key=str):
            name = f"m{self.number}-{customer}"
            self.walk.own(name, "balances.remeasured", customer, last, period=str(period))
        self.walk.own(f"c{self.number}", "period.closed", None, last, period=str(period))

    def reopen(self) -> None:
        closed = self.walk.state.closed_through
        if closed is not None and closed > date(2026, 1, 1):
            back = Period.of(closed) if self.has(1) or closed.month == 1 else Period(2026, closed.month - 1)
            self.walk.own(f"c{self.number}", "period.reopened", None, self.at, period=str(back), reason="r")


WEIGHTS = {
    "buy": 6, "grant": 2, "use": 8, "reverse": 5, "expire": 3, "void": 1, "refund": 2, "extend": 2, "reprice": 2,
    "transfer": 2, "escheat": 1, "from_escheat": 2, "pay": 6, "apply": 2, "pay_back": 3, "pay_out": 1, "adjust": 1,
    "dispute": 3, "decide": 3, "write_off": 2, "memo": 3, "bill": 2, "estimate": 2, "rate": 2, "adopt": 1,
    "settings": 1, "close": 2, "reopen": 1, "reserve": 3, "release": 1, "undo": 5,
}  # fmt: skip
_WHAT = [what for what, weight in WEIGHTS.items() for _ in range(weight)]


def walk(steps: Sequence[WalkStep]) -> Walk:
    """Returns the ledger after these steps. Every currency has an early rate."""
    ledger = Walk()
    for base, rate in RATES.items():
        ledger.send(
            f"rate-{base}",
            "exchange_rate.set",
            None,
            START - timedelta(days=900),
            base=base,
            quote=HOME,
            rate=rate,
            rate_source="ECB",
        )
    walker = Walker(ledger)
    for step in steps:
        walker.go(*step)
    return ledger


def long_walk(seed: int, length: int) -> Walk:
    """Returns a walk that is different for every seed, and the same on every machine. At its end balances are opened
    too.
    """
    chance, later = random.Random(seed), random.Random(-seed - 1)

    def numbers(of: random.Random) -> tuple[int, int, int, int]:
        return of.randint(0, 100), of.randint(0, 40), of.randint(1, 90), of.randint(0, 255)

    steps = [(chance.choice(_WHAT), *numbers(chance)) for _ in range(length)]
    return walk(steps + [("open", *numbers(later)) for _ in range(length // 10)])


WALKS = st.lists(
    st.tuples(st.sampled_from(_WHAT), st.integers(0, 100), st.integers(0, 40), st.integers(1, 90), st.integers(0, 255)),
    max_size=40,
).map(walk)


def for_every_walk(law: Callable[[Walk], None]) -> Callable[[Sequence[Walk]], None]:
    """Returns a test of a law after the long walks (``conftest.py``) and after any other walk."""

    @given(WALKS)
    def any_other(ledger: Walk) -> None:
        law(ledger)

    def test(long_walks: Sequence[Walk]) -> None:
        for ledger in long_walks:
            law(ledger)
        any_other()

    test.__name__, test.__doc__, test.__module__ = law.__name__, law.__doc__, law.__module__
    test.law = law  # for a search over many seeds
    return test
