"""A cut-over: a ledger that continues from the state of another one, with opening balances made from that state.

Owns: the openings. Does not own: the histories, and the comparisons (test_opening_balances).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec

from subledger.billing_documents import Invoice, Payment
from subledger.blocks import Block
from subledger.breakage_line import Estimate
from subledger.money import format_credits, format_minor, round_half_up
from subledger.pools import Cohort
from subledger.wallet import Wallet
from tests.laws.walk import HOME, RATES, START, Walk, monetary_sides


class CutOver:
    """The new ledger, while its openings are sent."""

    def __init__(self, old: Walk, at: datetime) -> None:
        self.old, self.at, self.sent = old, at, 0
        self.new = Walk(state=old.state)
        for base in RATES:
            rates = old.books.rates[base]
            for day, rate in zip(rates.days, rates.rates, strict=True):
                moment = START.replace(year=day.year, month=day.month, day=day.day)
                self._send("exchange_rate.set", None, moment, base=base, quote=HOME, rate=f"{rate:f}", rate_source="r")

    def _send(self, type: str, customer: str | None, at: datetime, **data: Any) -> None:
        self.sent += 1
        data = {name: value for name, value in data.items() if value not in (..., None)}
        step = self.new.send(f"o{self.sent}", type, customer, at, **data)
        assert step is not None, (data, self.new.refused[-1])

    def opens(self, role: str, customer: str | None, currency: str, amount: int | None = None, **data: Any) -> None:
        """Sends an opening. Amounts are in minor units. In the functional currency there is no functional amount."""
        functional = data.pop("functional", None)
        if functional is not None and currency != HOME:
            data["functional_amount"] = format_minor(functional, HOME)
        if amount is not None:
            data["amount"] = format_minor(amount, currency)
        self._send("balance.opened", customer, self.at, role=role, currency=currency, **data)

    def take_over(self) -> Walk:
        """Opens all balances of the old ledger. Returns the new ledger."""
        for pool in sorted(self.old.books.pools.by_name):
            self._rate_of_pool(pool)
        for block in self.old.blocks:
            if not block.undone:
                self._block(block)
        for customer, wallet in sorted(self.old.wallets.items()):
            self._money(customer, wallet)
            # A fraction of a minor unit that is priced but not booked yet is not a balance.
            mine = self.new.wallets[customer]
            self.new.wallets[customer] = msgspec.structs.replace(mine, carry=wallet.carry)
        for cohort in self.old.books.pools.all_cohorts():
            self._cohort(cohort)
        self._of_the_ledger()
        return self.new

    # --- blocks -----------------------------------------------------------------------------------------------

    def _block(self, block: Block) -> None:
        customer, currency = self.old.owners[block.block_id], block.currency

        def money(minor: int) -> str:
            return format_minor(minor, currency)

        paid = block.credit_kind == "paid"
        since = block.segment
        credits, price, used, drawn = block.credits, block.price_minor, block.used, block.drawn_minor
        worth = block.price_functional
        if since is not None:
            credits, price, worth = since.credits, since.price_minor, since.price_functional
            used, drawn = block.used - since.used, block.drawn_minor - since.drawn_minor
        if block.before is not None and since is None:
            raise AssertionError("a ledger is taken over once")
        earlier, expired = block.drawn_minor - drawn, block.recognised_minor - block.drawn_minor
        if drawn < 0:  # usage at an earlier price was reversed: the remainder is a separate block
            earlier, credits, used, drawn = earlier + drawn, block.remaining, Decimal(0), 0
            price, worth = block.carrying_minor, block.carrying_functional
        tax = block.tax_minor - block.tax_reversed_minor
        unclaimed, owed = block.unclaimed_minor, self.old.wallets[customer].refund_owed(block.block_id, None)
        if not (block.remaining or block.receivable_minor or unclaimed or owed or (paid and block.claim_minor)):
            return
        self.opens(
            "prepaid_liability",
            customer,
            currency,
            functional=block.carrying_functional,
            functional_price=format_minor(worth, HOME) if currency != HOME else ...,
            block_id=block.block_id,
            credit_kind=block.credit_kind,
            unit=block.unit,
            credits=format_credits(credits),
            used=format_credits(max(used, Decimal(0))),
            remaining=format_credits(block.remaining),
            price=money(price) if block.credit_kind != "promotional" else ...,
            drawn=money(drawn),
            carrying_amount=money(block.carrying_minor),
            earlier_drawn=money(earlier) if since is not None else ...,
            expired=money(expired) if expired else ...,
            tax=money(tax) if tax else ...,
            redemption_tax=money(block.redemption_tax_minor) if block.redemption_tax_minor else ...,
            conceded=money(block.conceded_minor) if block.conceded_minor else ...,
            conceded_tax=money(block.tax_taken_minor) if block.tax_taken_minor and paid else ...,
            starts_at=block.starts_at.isoformat(),
            expires_at=None if block.expires_at is None else block.expires_at.isoformat(),
            priority=block.priority,
            scope=None if block.scope is None else list(block.scope),
            refundable=block.refundable or ...,
            invoice_id=block.invoice_id,
            pool=block.pool,
            cohort=block.cohort,
            escheat_class=block.escheat_class or ("DE-3y" if paid and "escheated" in block.disposed else None),
            processor=block.processor,
            dimensions=json.loads(block.dimensions or "null"),
            due_at=None if block.due_at is None or not paid else block.due_at.isoformat(),
        )
        standing = self.old.wallets[customer].standing
        if block.receivable_minor:
            carried = standing("accounts_receivable", currency, block.block_id)[1]
            amount = block.receivable_minor
            self.opens("accounts_receivable", customer, currency, amount, functional=carried, block_id=block.block_id)
        if unclaimed:
            carried = -standing("unclaimed_property", currency, block.block_id)[1]
            self.opens("unclaimed_property", customer, currency, unclaimed, functional=carried, block_id=block.block_id)

    # --- money ------------------------------------------------------------------------------------------------

    def _money(self, customer: str, wallet: Wallet) -> None:
        invoices = [d for d in wallet.documents if isinstance(d, Invoice) and not d.undone]
        for invoice, functional in self._shared(wallet, "accounts_receivable", invoices, "receivable_minor"):
            self.opens(
                "accounts_receivable",
                customer,
                invoice.currency,
                invoice.receivable_minor,
                functional=functional,
                invoice_id=invoice.invoice_id,
                due_at=None if invoice.due_at is None else invoice.due_at.isoformat(),
                price=format_minor(invoice.billed_minor, invoice.currency),
                tax=format_minor(invoice.tax_minor, invoice.currency),
                conceded=format_minor(invoice.conceded_minor, invoice.currency),
                conceded_tax=format_minor(invoice.tax_taken_minor, invoice.currency),
            )
        overages = [overage for overage in wallet.overages if overage.open]
        for overage, functional in self._shared(wallet, "unbilled_receivable", overages, "open_minor"):
            self.opens(
                "unbilled_receivable",
                customer,
                overage.currency,
                overage.open_minor,
                functional=functional,
                credits=format_credits(overage.open),
                unit=overage.unit,
                product=overage.product,
                on_shortfall="backfill" if overage.backfill else "overage",
                dimensions=json.loads(overage.dimensions or "null"),
            )
        for refund, functional in self._shared(wallet, "refunds_payable", wallet.refunds_owed, "amount_minor"):
            self.opens(
                "refunds_payable",
                customer,
                refund.currency,
                refund.amount_minor,
                functional=functional,
                block_id=refund.block_id,
                invoice_id=refund.invoice_id,
            )
        self._unapplied(customer, wallet)

    def _unapplied(self, customer: str, wallet: Wallet) -> None:
        payments = [d for d in wallet.documents if isinstance(d, Payment) and d.open_minor]
        rest = {currency: -wallet.standing("customer_balance", currency)[0] for currency in (HOME, *RATES)}
        for payment in payments:
            rest[payment.currency] -= payment.open_minor
        others = [Payment(payment_id="", currency=c, open_minor=amount) for c, amount in rest.items() if amount]
        for payment, functional in self._shared(wallet, "customer_balance", [*payments, *others], "open_minor"):
            self.opens(
                "customer_balance",
                customer,
                payment.currency,
                payment.open_minor,
                functional=functional,
                payment_id=payment.payment_id or ...,
                processor=payment.processor,
            )

    @staticmethod
    def _shared(wallet: Wallet, role: str, things: Any, name: str) -> Iterator[tuple[Any, int]]:
        """Yields each item with its share of the functional carrying amount of the customer's balance."""
        given: dict[str, tuple[int, int]] = {}
        for thing in things:
            amount, functional = (abs(each) for each in wallet.standing(role, thing.currency))
            so_far, shared = given.get(thing.currency, (0, 0))
            so_far += getattr(thing, name)
            due = round_half_up(functional * so_far, amount) if amount else 0
            given[thing.currency] = (so_far, due)
            yield thing, due - shared

    def _of_the_ledger(self) -> None:
        sums: dict[tuple[str, str, str], int] = {}
        for entry in self.old.entries:
            for role in ("tax_payable", "processor_clearing"):
                for side, sign in monetary_sides(entry):
                    if side == role:
                        key = (role, entry.currency, entry.dimensions.processor if role != "tax_payable" else "")
                        sums[key] = sums.get(key, 0) + sign * entry.amount_minor
        for (role, currency, processor), amount in sorted(sums.items()):
            if not amount:
                continue
            signed = -amount if role == "tax_payable" else amount
            carried = self.old.books.standing(role, currency, processor)[1]
            functional = -carried if role == "tax_payable" else carried
            self.opens(role, None, currency, signed, functional=functional, processor=processor or ...)

    # --- pools ------------------------------------------------------------------------------------------------

    def _rate_of_pool(self, name: str) -> None:
        pool = self.old.books.pools.by_name[name]
        if pool.grouping is None:
            return
        latest = pool.estimates[-1][1] if pool.estimates else Estimate(version=1, breakage_rate=Decimal(0))
        self._estimate(name, pool.currency, latest, None, cohorts=pool.grouping)

    def _estimate(self, pool: str, currency: str, estimate: Estimate, cohort: str | None, **more: Any) -> None:
        escheat = _rate(estimate.escheat_minor, estimate.escheat_rate, estimate.issued_minor)
        self._send(
            "breakage.estimated",
            None,
            self.at,
            pool=pool,
            currency=currency,
            evidence="r",
            cohort=cohort,
            expected_breakage_rate=_rate(estimate.breakage_minor, estimate.breakage_rate, estimate.issued_minor) or "0",
            expected_escheat_rate=escheat,
            **more,
        )

    def _cohort(self, cohort: Cohort) -> None:
        pools = self.new.books.pools
        mine = pools.cohorts.get(cohort.pool, {}).get(cohort.cohort)
        if mine is None:
            return
        if mine.has_begun and cohort.estimate is not None and _terms(cohort.estimate) != _terms(mine.estimate):
            named = cohort.cohort or None
            self._estimate(cohort.pool, cohort.currency, cohort.estimate, named)
        if not (cohort.redeemed_minor or cohort.expired_minor or cohort.escheated_minor):
            return
        self.opens(
            "breakage_recognized",
            None,
            cohort.currency,
            cohort.recognised_minor - cohort.expired_minor,
            functional=cohort.recognised_functional - cohort.expired_functional,
            pool=cohort.pool,
            cohort=cohort.cohort or ...,
            redeemed=format_minor(cohort.redeemed_minor, cohort.currency),
            expired=format_minor(cohort.expired_minor, cohort.currency),
            escheated=format_minor(cohort.escheated_minor, cohort.currency),
        )


def _terms(estimate: Estimate | None) -> tuple[str | None, str | None] | None:
    if estimate is None:
        return None
    return (
        _rate(estimate.breakage_minor, estimate.breakage_rate, estimate.issued_minor),
        _rate(estimate.escheat_minor, estimate.escheat_rate, estimate.issued_minor),
    )


def _rate(amount: int | None, rate: Decimal | None, issued: int) -> str | None:
    """Returns the rate of an estimate. For an amount it is computed with twelve decimals."""
    if rate is not None:
        return f"{rate:f}"
    if amount is None:
        return None
    exact = Fraction(amount, issued) if issued else Fraction(0)
    return f"{Decimal(round_half_up(exact.numerator * 10**12, exact.denominator)).scaleb(-12):f}"
