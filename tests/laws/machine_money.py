"""The machine's rules about money: payments, invoices, memos, write-offs, disputes."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.laws.machine_checks import Checks
from tests.laws.machine_state import CUSTOMERS, DAYS, MOSTLY, PICKS, RARELY, SHARES, TOGETHER
from tests.laws.model_blocks import amount_text

PROCESSORS = st.sampled_from((None, "cards", "cards", "bank"))


class MoneyRules(Checks):
    @rule(
        pick=PICKS, stranger=RARELY, day=DAYS, share=SHARES, named=st.sampled_from(("block", "block", "invoice", None)),
        processor=PROCESSORS, fee=st.booleans(), remembered=MOSTLY, again=RARELY, currency=MOSTLY, together=TOGETHER,
    )  # fmt: skip
    def pay(
        self,
        pick: int,
        stranger: bool,
        day: int,
        share: Fraction,
        named: str | None,
        processor: str | None,
        fee: bool,
        remembered: bool,
        again: bool,
        currency: bool,
        together: bool,
    ) -> None:
        name, customer = self.block(pick, stranger)
        block = self.model.blocks.get(name)
        own = block.currency if block is not None else "USD"
        if not currency:
            own = "EUR" if own == "USD" else "USD"
        owed = block.owed + block.bad.open(block.of("written_off")[1]) if block is not None else 500
        where: dict[str, Any] = {"block_id": name} if named == "block" else {}
        if named == "invoice":
            where = {"invoice_id": f"i-{pick % 6}"}
        paid = {"amount": self.money(owed or 70, share, own), "currency": own}
        if pick % 5 == 4:  # in another currency, to settle that amount
            other = "USD" if own != "USD" else "JPY"
            paid = {f"settles_{name}": value for name, value in paid.items()}
            paid |= {"amount": amount_text(pick + 30, other), "currency": other}
        self.send(
            "payment.received",
            customer,
            day,
            together,
            **paid,
            processor=processor or ...,
            fee=amount_text(3, paid["currency"]) if fee and processor else ...,
            elsewhere=self._elsewhere(pick, paid),
            payment_id=self.new_name("pay", again, self.model.payments) if remembered else ...,
            **where,
        )

    def _elsewhere(self, pick: int, paid: dict[str, Any]) -> Any:
        """Returns the part for invoices of another ledger. Sometimes it is a minor unit, some of the payment, or all of
        it.
        """
        if pick % 4 != 1:
            return ...
        currency = paid.get("settles_currency", paid["currency"])
        whole = paid.get("settles_amount", paid["amount"])
        return (amount_text(1, currency), whole, amount_text(40, currency))[pick % 3]

    @rule(pick=PICKS, day=DAYS, share=SHARES, processor=PROCESSORS, together=TOGETHER)
    def pay_invoice(self, pick: int, day: int, share: Fraction, processor: str | None, together: bool) -> None:
        """Pays an invoice of overage."""
        held = list(self.model.invoices.values())
        if held:
            invoice = held[pick % len(held)]
            self.send(
                "payment.received",
                invoice.customer,
                day,
                together,
                currency=invoice.currency,
                amount=self.money(invoice.owed + invoice.bad.open(0) or 1, share, invoice.currency),
                invoice_id=invoice.name,
                processor=processor or ...,
                payment_id=f"pay{self.count}",
            )

    @rule(customer=CUSTOMERS, day=DAYS, cents=st.integers(1, 5_000), processor=PROCESSORS, together=TOGETHER,
          currency=st.sampled_from(("USD", "USD", "EUR", "JPY", "KWD", "GBP")))  # fmt: skip
    def pay_in_advance(
        self, customer: str, day: int, cents: int, processor: str | None, together: bool, currency: str
    ) -> None:
        self.send(
            "payment.received",
            customer,
            day,
            together,
            amount=amount_text(cents, currency),
            currency=currency,
            processor=processor or ...,
            payment_id=f"pay{self.count}",
        )

    @rule(pick=PICKS, other=PICKS, day=DAYS, share=SHARES, whole=MOSTLY, stranger=RARELY, together=TOGETHER)
    def apply_payment(
        self, pick: int, other: int, day: int, share: Fraction, whole: bool, stranger: bool, together: bool
    ) -> None:
        """Applies the open amount of a payment to a block or invoice of its currency, up to the smaller of both
        amounts.
        """
        held = [p for p in self.model.payments.values() if p.unapplied] or list(self.model.payments.values())
        if not held:
            return
        payment = held[pick % len(held)]
        mine = [b for b in self.model.blocks.values() if b.customer == payment.customer and b.owed]
        mine = [b for b in mine if b.currency == payment.currency] or mine
        if not mine:
            return
        block = mine[other % len(mine)]
        by_invoice = block.invoice is not None and not whole
        where = {"invoice_id": block.invoice} if by_invoice else {"block_id": block.name}
        self.send(
            "payment.applied",
            "carol" if stranger else payment.customer,
            day,
            together,
            payment_id=payment.name,
            amount=self.money(min(payment.unapplied, block.owed), share, payment.currency),
            currency=payment.currency,
            **where,
        )

    @rule(pick=PICKS, day=DAYS, share=SHARES, from_payment=st.booleans(), processor=PROCESSORS, together=TOGETHER)
    def pay_back(
        self, pick: int, day: int, share: Fraction, from_payment: bool, processor: str | None, together: bool
    ) -> None:
        owed = [
            (place[2], place[1])
            for place, held in self.model.standing.items()
            if place[0] in ("refunds_payable", "customer_balance") and held[0]
        ]
        if not owed:
            return
        customer, currency = owed[pick % len(owed)]
        payments = [p for p in self.model.payments.values() if (p.customer, p.currency) == (customer, currency)]
        standing = self.model.standing
        stands = [-standing[role, currency, customer, ""][0] for role in ("refunds_payable", "customer_balance")]
        limit = sum(stands)
        data = {}
        if from_payment and payments:
            payment = payments[pick % len(payments)]
            data, limit = {"payment_id": payment.name}, stands[0] + min(stands[1], payment.unapplied)
            limit += payment.elsewhere
            if payment.elsewhere and pick % 2:
                data["elsewhere"], limit = amount_text(1, currency), max(limit, 2)
        blocks = [b.name for b in self.model.blocks.values() if (b.customer, b.currency) == (customer, currency)]
        if blocks and pick % 3 == 0:
            data["block_id"] = blocks[-1]
        self.send(
            "payment.refunded",
            customer,
            day,
            together,
            amount=self.money(limit, share, currency),
            currency=currency,
            processor=processor or ...,
            fee=amount_text(pick, currency) if pick % 4 == 1 and (processor or "payment_id" in data) else ...,
            **data,
        )

    @rule(pick=PICKS, day=DAYS, cents=st.integers(1, 900), back=RARELY, tax=SHARES, together=TOGETHER,
          currency=st.sampled_from(("USD", "USD", "EUR", "JPY")))  # fmt: skip
    def adjust(self, pick: int, day: int, cents: int, back: bool, tax: Fraction, together: bool, currency: str) -> None:
        """Records a single fee of a processor, tax on its fees, or an adjustment. Most of them lower its balance."""
        kind = ("fee", "tax", "adjustment")[pick % 3]
        self.send(
            "processor.adjusted",
            None,
            day,
            together,
            amount=("" if back else "-") + amount_text(cents, currency),
            currency=currency,
            processor="cards",
            adjustment_id=f"adj{self.count}",
            kind=kind,
            tax=self.money(cents, min(tax, Fraction(1)), currency) if kind == "fee" else ...,
        )

    @rule(pick=PICKS, day=DAYS, share=SHARES, together=TOGETHER, back=RARELY,
          arrives=st.sampled_from((None, None, None, "USD", "EUR", "JPY")))  # fmt: skip
    def payout(self, pick: int, day: int, share: Fraction, together: bool, back: bool, arrives: str | None) -> None:
        """Pays out the balance of a processor; sometimes more, in the other direction, or in another currency."""
        standing = self.model.standing.items()
        held = [(place, amount) for place, (amount, _) in standing if place[0] == "processor_clearing"]
        if held:
            (_, currency, _, processor), amount = held[pick % len(held)]
            sign = "-" if back else ""
            changes = arrives is not None and arrives != currency
            self.send(
                "payout.settled",
                None,
                day,
                together,
                amount=sign + self.money(abs(amount), share, currency),
                currency=currency,
                processor=processor or "cards",
                payout_id=f"out{self.count}",
                arrived_amount=sign + amount_text(pick + 1, arrives) if changes and arrives else ...,
                arrived_currency=arrives if changes else ...,
            )

    # --- overage and concessions -------------------------------------------------------------------------------

    @rule(pick=PICKS, day=DAYS, share=SHARES, tax=st.integers(0, 50), again=RARELY, together=TOGETHER)
    def bill(self, pick: int, day: int, share: Fraction, tax: int, again: bool, together: bool) -> None:
        """Bills overage of a customer in one currency."""
        open_ = sorted({(u.customer, u.currency) for u in self.model.usage.values() if u.open_money > 0})
        if not open_:
            return
        customer, currency = open_[pick % len(open_)]
        mine = [u for u in self.model.usage.values() if (u.customer, u.currency) == (customer, currency)]
        self.send(
            "overage.billed",
            customer,
            day,
            together,
            currency=currency,
            invoice_id=self.new_name("i-", again, self.model.invoices),
            amount=self.money(sum(u.open_money for u in mine), share, currency),
            tax=amount_text(tax, currency) if tax else ...,
        )

    @rule(
        pick=PICKS, stranger=RARELY, day=DAYS, share=SHARES, tax=st.one_of(st.none(), SHARES),
        named=st.sampled_from(("block", "block", "invoice", "overage", None)), together=TOGETHER,
    )  # fmt: skip
    def memo(
        self,
        pick: int,
        stranger: bool,
        day: int,
        share: Fraction,
        tax: Fraction | None,
        named: str | None,
        together: bool,
    ) -> None:
        consumed = [b for b in self.model.blocks.values() if b.of("consumed")[1] > b.conceded]
        invoices = list(self.model.invoices.values())
        data: dict[str, Any] = {}
        if named == "overage" and invoices:
            invoice = invoices[pick % len(invoices)]
            customer, currency = invoice.customer, invoice.currency
            limit, tax_limit = invoice.billed - invoice.conceded, invoice.tax - invoice.tax_back
            data["invoice_id"] = invoice.name
        elif consumed and named is not None:
            block = consumed[pick % len(consumed)]
            customer, currency = block.customer, block.currency
            limit = block.of("consumed")[1] - block.redeemed_tax - block.conceded
            tax_limit = block.tax + block.redeemed_tax - block.tax_back - block.tax_taken
            data = {"block_id": block.name}
            if named == "invoice" and block.invoice is not None:
                data = {"invoice_id": block.invoice}
        else:
            customer, currency, limit, tax_limit = "ann", "USD", 100, 10
        self.send(
            "credit_memo.issued",
            "carol" if stranger else customer,
            day,
            together,
            currency=currency,
            reason="r",
            amount=self.money(limit, share, currency),
            tax=self.money(int(tax_limit * min(share, 1)), tax, currency) if tax is not None and tax_limit else ...,
            **data,
        )

    @rule(
        pick=PICKS, stranger=RARELY, day=DAYS, share=st.one_of(st.none(), SHARES),
        relief=st.sampled_from((None, True, False)), together=TOGETHER,
    )  # fmt: skip
    def write_off(
        self, pick: int, stranger: bool, day: int, share: Fraction | None, relief: bool | None, together: bool
    ) -> None:
        name, customer = self.block(pick, stranger)
        block = self.model.blocks.get(name)
        amount: Any = ...
        if share is not None and block is not None:
            amount = self.money(block.owed, share, block.currency)
        where = {"block_id": name}
        invoices = list(self.model.invoices.values())
        if invoices and pick % 3 == 0:
            invoice = invoices[pick % len(invoices)]
            customer = "carol" if stranger else invoice.customer
            amount = ... if share is None else self.money(invoice.owed or 1, share, invoice.currency)
            where = {"invoice_id": invoice.name}
        elif pick % 7 == 1:
            where = {"invoice_id": f"i-{pick % 6}"}
        self.send(
            "receivable.written_off",
            customer,
            day,
            together,
            **where,
            amount=amount,
            reason="r",
            tax_relief=... if relief is None else relief,
        )

    # --- disputes ----------------------------------------------------------------------------------------------

    @rule(
        pick=PICKS, stranger=RARELY, day=DAYS, of_payment=MOSTLY, share=st.one_of(st.none(), SHARES),
        fee=st.booleans(), again=RARELY, together=TOGETHER,
    )  # fmt: skip
    def dispute(
        self,
        pick: int,
        stranger: bool,
        day: int,
        of_payment: bool,
        share: Fraction | None,
        fee: bool,
        again: bool,
        together: bool,
    ) -> None:
        name, customer = self.block(pick)
        block = self.model.blocks.get(name)
        payments = [p for p in self.model.payments.values() if p.parts or p.elsewhere or p.paid_back]
        data: dict[str, Any] = {"block_id": name}
        currency = block.currency if block is not None else "USD"
        limit = block.gains[1] + block.tax if block is not None else 1
        if of_payment and payments:
            payment = payments[pick % len(payments)]
            customer, currency, data = payment.customer, payment.currency, {"payment_id": payment.name}
            limit = sum(part for _, _, part in payment.parts) + payment.elsewhere + payment.paid_back
        self.send(
            "dispute.opened",
            "carol" if stranger else customer,
            day,
            together,
            **data,
            dispute_id=self.new_name("d", again, self.model.disputes),
            currency=currency,
            amount=self.money(limit, share, currency) if share is not None else ...,
            fee=amount_text(15, currency) if fee else ...,
        )

    @rule(
        pick=PICKS, stranger=RARELY, day=DAYS, won=st.booleans(), share=st.one_of(st.none(), SHARES), fee=RARELY,
        decided=RARELY, together=TOGETHER,
    )  # fmt: skip
    def decide(
        self,
        pick: int,
        stranger: bool,
        day: int,
        won: bool,
        share: Fraction | None,
        fee: bool,
        decided: bool,
        together: bool,
    ) -> None:
        held = [d for d in self.model.disputes.values() if d.decided == decided]
        if not held:
            return
        dispute = held[pick % len(held)]
        limit = dispute.amount
        amount: Any = ...
        if share is not None:
            amount = self.money(limit, share, dispute.currency)
        self.send(
            "dispute.won" if won else "dispute.lost",
            "carol" if stranger else dispute.customer,
            day,
            together,
            dispute_id=dispute.name,
            amount=amount,
            currency=dispute.currency,
            fee=amount_text(2, dispute.currency) if fee else ...,
        )
