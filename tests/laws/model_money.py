"""The part of the plain model that decides payments, payouts, billed overage, credit memos, write-offs and disputes."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from tests.laws.model_blocks import (
    NANO,
    Block,
    Dispute,
    Invoice,
    Part,
    Payment,
    Refund,
    half_up,
    minor,
    names,
    to_nine_places,
)
from tests.laws.model_ending import RECEIVABLE, REFUNDS, TAX
from tests.laws.model_positions import Positions

CLEARING, BALANCE, DISPUTED = "processor_clearing", "customer_balance", "disputes_receivable"
Receivable = tuple[Block | None, Invoice | None]


def merged(parts: list[Part]) -> list[Part]:
    """Returns one part for each block and invoice: the sum of its parts."""
    found: dict[str, Part] = {}
    for block, invoice, amount in parts:
        paper = block or invoice
        assert paper is not None
        key = f"{block is None} {paper.name}"
        found[key] = (block, invoice, amount + (found[key][2] if key in found else 0))
    return list(found.values())


class Money(Positions):
    """The decisions about events that change receivables, money and amounts owed to customers."""

    def _receivables(self, data: dict[str, Any]) -> list[Receivable]:
        """Returns the receivables that an event names.

        - By ``block_id``: the block.
        - By ``invoice_id``: the blocks on the invoice, oldest first, and then the overage on the invoice.
        - By neither: none.
        """
        if "block_id" in data:
            return [(self.paid(data["block_id"]), None)]
        if "invoice_id" not in data:
            return []
        name = data["invoice_id"]
        blocks = [b for b in self.blocks.values() if b.customer == self.customer and b.invoice == name]
        blocks = [block for block in blocks if not block.undone]
        found: list[Receivable] = [(block, None) for block in sorted(blocks, key=lambda block: block.order)]
        invoice = self.invoices.get(name)
        if invoice is not None and invoice.customer == self.customer:
            found.append((None, invoice))
        self.allow(bool(found), "unknown_invoice")
        return found

    def _same_currency(self, data: dict[str, Any], receivables: list[Receivable]) -> None:
        for block, invoice in receivables:
            paper = block or invoice
            assert paper is not None
            self.allow(paper.currency == data["currency"], "wrong_currency")

    def _settle(self, receivables: list[Receivable], amount: int, *, through: str | None, **sides: Any) -> list[Part]:
        """Applies an amount to receivables, in order. Returns the part of each receivable.

        The amount pays the open receivables. An amount beyond all open receivables recovers write-offs.
        """
        parts: list[Part] = []
        rest = max(amount - sum((block or invoice).owed for block, invoice in receivables), 0)
        for block, invoice in receivables:
            paper = block or invoice
            assert paper is not None
            back = min(rest, paper.bad.open(self._cancelled_credits(block)))
            rest -= back
            part = min(amount, paper.owed + back)
            self._comes_after_all(block, invoice, back)
            if part > 0:
                self.book(credit=RECEIVABLE, amount=part, currency=paper.currency, block=block, **sides)
                paper.owed -= part
                if block is not None and through is not None:
                    block.through[through] = block.through.get(through, 0) + part
                    block.brought[through] = block.brought.get(through, 0) + part
                    block.processor = through
                amount -= part
                parts.append((block, invoice, part))
        return parts

    @staticmethod
    def _cancelled_credits(block: Block | None) -> int:
        """Returns the value of the block's credits that a write-off cancelled."""
        return block.of("written_off")[1] if block is not None else 0

    def _comes_after_all(self, block: Block | None, invoice: Invoice | None, amount: int) -> None:
        """Restores a written-off amount that is collected, divided into used value and tax."""
        paper = block or invoice
        assert paper is not None
        if not amount:
            return
        parts = paper.bad.comes(amount, self._cancelled_credits(block))
        for name, part in parts.items():
            if part:
                self.book(RECEIVABLE, TAX if name == "tax" else None, part, paper.currency, block=block)
        paper.owed += amount
        paper.conceded -= parts["value"]
        taxes = parts["tax"] + parts["borne"]
        if block is not None:
            block.tax_taken -= taxes
            block.given_up -= amount
        elif invoice is not None:
            invoice.tax_back -= taxes

    # --- payments -------------------------------------------------------------------------------------------

    def payment_received(self, _moment: datetime, data: dict[str, Any]) -> None:
        settled = data["settles_amount"] if "settles_amount" in data else data["amount"]
        self.allow(Decimal(data.get("elsewhere", "0")) <= Decimal(settled), "invalid_value")  # before any state is read
        receivables = self._receivables(data)
        self.allow(data.get("payment_id") not in self.payments, "document_exists")
        arrived, fee = self.amount(data), self.amount(data, "fee")
        settles = {"amount": data.get("settles_amount"), "currency": data.get("settles_currency")}
        exchanged = settles["currency"] is not None
        settles = settles if exchanged else {"amount": data["amount"], "currency": data["currency"]}
        self._same_currency(settles, receivables)
        amount, currency = self.amount(settles), settles["currency"]
        processor = data.get("processor")
        into = "cash" if processor is None else CLEARING
        elsewhere = minor(data["elsewhere"], currency) if "elsewhere" in data else 0
        self.book(into, None, elsewhere, currency, processor=processor)
        parts = self._settle(receivables, amount - elsewhere, through=processor, debit=into, processor=processor)
        rest = amount - elsewhere - sum(part for _, _, part in parts)
        if rest:
            self.book(into, BALANCE, rest, currency, processor=processor)
        if exchanged:
            self.book(None, into, amount, currency, processor=processor, how="both")
            self.book(into, None, arrived, data["currency"], processor=processor, how="both")
        if fee:
            self.book(None, CLEARING, fee, data["currency"], processor=processor)
        if "payment_id" in data:
            name = data["payment_id"]
            paid = Payment(name, self.customer, currency, processor, parts, rest, elsewhere=elsewhere)
            self.payments[name] = paid

    def _payment(self, data: dict[str, Any]) -> Payment:
        payment = self.payments.get(data["payment_id"])
        self.allow(payment is not None and payment.customer == self.customer, "unknown_payment")
        assert payment is not None
        return payment

    def payment_applied(self, _moment: datetime, data: dict[str, Any]) -> None:
        payment = self._payment(data)
        receivables = self._receivables(data)
        self.allow(payment.currency == data["currency"], "wrong_currency")
        self._same_currency(data, receivables)
        amount = self.amount(data)
        unapplied = min(self._unapplied(payment), self._free_balance(payment.currency))
        self.allow(amount <= unapplied, "exceeds_payment")
        owed = sum((b or i).owed + (b or i).bad.open(self._cancelled_credits(b)) for b, i in receivables)
        self.allow(amount <= owed, "exceeds_receivable")
        payment.parts += self._settle(receivables, amount, through=payment.processor, debit=BALANCE, how="both")
        payment.unapplied -= amount

    @staticmethod
    def _unapplied(payment: Payment) -> int:
        """Returns the part of a payment that is not applied and not disputed."""
        return payment.unapplied + payment.applied_to((None, None))

    def _free_balance(self, currency: str) -> int:
        """Returns the customer's unapplied money, less the part in open disputes."""
        mine = [
            d for d in self.disputes.values() if (d.customer, d.currency, d.decided) == (self.customer, currency, False)
        ]
        held = sum(amount for d in mine for block, invoice, amount in d.parts if block is None and invoice is None)
        return max(-self.stands(BALANCE, currency) - held, 0)

    def payment_refunded(self, _moment: datetime, data: dict[str, Any]) -> None:
        """Pays money back to a customer, in this order:

        1. the refunds owed, or only those of the payment and block that the event names;
        2. unapplied money, unless the event names a block;
        3. if the event names a payment: its part for invoices that are kept elsewhere. ``elsewhere`` in the event
           states this part exactly.
        """
        currency, payment = data["currency"], None
        if "payment_id" in data:
            payment = self._payment(data)
        block = self.paid(data["block_id"]) if "block_id" in data else None
        self.allow(payment is None or payment.currency == currency, "wrong_currency")
        self.allow(block is None or block.currency == currency, "wrong_currency")
        amount = self.amount(data)
        owed: list[tuple[Refund, int]] = []
        for refund in self.refunds:
            if (refund.customer, refund.currency, refund.held) != (self.customer, currency, 0):
                continue
            if block is not None and refund.of[0] != block.name:
                continue
            most = refund.amount if payment is None else min(refund.amount, payment.applied_to(refund.of))
            if most > 0:
                owed.append((refund, most))
        unapplied = self._free_balance(currency) if block is None else 0
        if payment is not None:
            unapplied = min(unapplied, self._unapplied(payment))
        own = sum(most for _, most in owed) + unapplied
        free = payment.elsewhere if payment is not None else 0
        implied = min(max(amount - own, 0), free if block is None else 0)
        elsewhere = minor(data["elsewhere"], currency) if "elsewhere" in data else implied
        self.allow(elsewhere <= free, "exceeds_payment")
        amount -= elsewhere
        self.allow(amount <= own, "nothing_owed")
        processor = data.get("processor", payment.processor if payment is not None else None)
        fee = self.amount(data, "fee")
        self.allow(not fee or processor is not None, "invalid_value")
        source = "cash" if processor is None else CLEARING
        from_refunds, named = 0, payment is not None or block is not None
        for refund, most in owed:
            part = min(amount, most)
            if not part:
                continue
            amount, from_refunds = amount - part, from_refunds + part
            self.pay(refund, part)
            if named:
                self.book(REFUNDS, source, part, currency, processor=processor, how="both")
                self._returned(refund, part, payment, processor)
        if from_refunds and not named:
            self.book(REFUNDS, source, from_refunds, currency, processor=processor, how="both")
        if amount:
            self.book(BALANCE, REFUNDS, amount, currency, how="from_debit")
            self.book(REFUNDS, source, amount, currency, processor=processor, how="both")
            if payment is not None:
                payment.unapplied -= amount
                payment.paid_back += amount
        if elsewhere and payment is not None:
            payment.paid_back += elsewhere
            self.book(None, source, elsewhere, currency, processor=processor, how="both")
            payment.elsewhere -= elsewhere
        if fee:
            self.book(None, CLEARING, fee, currency, processor=processor)

    def _returned(self, refund: Refund, amount: int, payment: Payment | None, processor: str | None) -> None:
        block = self.blocks[refund.of[0]] if refund.of[0] is not None else None
        if block is not None and processor is not None:
            block.through[processor] = max(block.through.get(processor, 0) - amount, 0)
        if payment is not None:
            invoice = self.invoices[refund.of[1]] if refund.of[1] is not None else None
            payment.returned.append((block, invoice, amount))

    def payout_settled(self, _moment: datetime, data: dict[str, Any]) -> None:
        """Records a payout of a processor. A negative amount is money from the bank to the processor."""
        amount, processor = self.amount(data), data["processor"]
        cash = (amount, data["currency"])
        if "arrived_amount" in data:
            cash = (minor(data["arrived_amount"], data["arrived_currency"]), data["arrived_currency"])
        if amount > 0:
            sides, how = ("cash", CLEARING), "from_credit"
        else:
            sides, how = (CLEARING, "cash"), "from_debit"
        if "arrived_amount" not in data:
            self.book(*sides, abs(amount), data["currency"], processor=processor, how=how)
            return
        for role, (part, currency) in ((CLEARING, (-amount, data["currency"])), ("cash", cash)):
            debit, credit = (role, None) if part > 0 else (None, role)
            self.book(debit, credit, abs(part), currency, processor=processor, how="both")

    def processor_adjusted(self, _moment: datetime, data: dict[str, Any]) -> None:
        """Records a fee or adjustment of a processor without a payment: an expense, and tax that can be recovered."""
        charged, tax = -minor(data["amount"], data["currency"]), self.amount(data, "tax")
        if data["kind"] == "tax":
            tax = abs(charged)
        tax = tax if charged > 0 else -tax
        for debit, amount in ((None, charged - tax), (TAX, tax)):
            if amount > 0:
                self.book(debit, CLEARING, amount, data["currency"], processor=data["processor"])
            elif amount < 0:
                self.book(CLEARING, debit, -amount, data["currency"], processor=data["processor"])

    # --- overage and concessions ----------------------------------------------------------------------------

    def overage_billed(self, _moment: datetime, data: dict[str, Any]) -> None:
        name, currency, amount = data["invoice_id"], data["currency"], self.amount(data)
        self.allow(name not in self.invoices, "document_exists")
        overages = [u for u in self.usage.values() if u.customer == self.customer and u.currency == currency and u.open]
        self.allow(amount <= sum(usage.open_money for usage in overages), "exceeds_overage")
        tax = self.amount(data, "tax")
        self.invoices[name] = Invoice(name, self.customer, currency, amount, tax, amount + tax)
        for usage in overages:
            if not amount:
                break
            part = min(amount, usage.open_money)
            credits = usage.open
            if part < usage.open_money:
                credits = min(to_nine_places(credits * part / usage.open_money), credits - NANO)
            if part:
                self.book(RECEIVABLE, "unbilled_receivable", part, currency, how="from_credit")
            usage.settled += credits
            usage.settled_money += part
            amount -= part
        if tax:
            self.book(RECEIVABLE, TAX, tax, currency)

    def credit_memo_issued(self, _moment: datetime, data: dict[str, Any]) -> None:
        """Records a price concession on consumed value. The concession reduces the open receivable. The part beyond the
        receivable is owed back to the customer.
        """
        receivables = self._receivables(data)
        self.allow(bool(receivables), "missing_field")
        blocks = [block for block, _ in receivables if block is not None]
        self.allow(all(block.kind in ("paid", "promotional") for block in blocks), "not_a_purchase")
        self._same_currency(data, receivables)
        amount, tax, currency = self.amount(data), self.amount(data, "tax"), data["currency"]
        self.allow(amount <= sum(map(self._consumed, receivables)), "exceeds_value")
        parts: list[tuple[Receivable, int, int]] = []
        for block, invoice in receivables:
            paper = block or invoice
            assert paper is not None
            part = min(amount, self._consumed((block, invoice)))
            most = invoice.tax_in(part) if invoice is not None else 0
            parts.append(((block, invoice), part, block.concedable_tax_in(part) if block is not None else most))
            amount -= part
        self.allow(tax <= sum(most for _, _, most in parts), "exceeds_value")
        self.allow(not any(block.disputes for block in blocks), "block_disputed")
        self.allow(not any(invoice.disputed for _, invoice in receivables if invoice is not None), "block_disputed")
        for receivable, part, most in parts:
            self._concede(receivable, part, min(tax, most), currency)
            tax -= min(tax, most)

    @staticmethod
    def _consumed(receivable: Receivable) -> int:
        block, invoice = receivable
        if block is not None:
            free = sum(part.recognised for part in block.family) - block.conceded - block.redeemed_tax_left
            return max(min(sum(part.of("consumed")[1] - part.redeemed_tax for part in block.family), free), 0)
        assert invoice is not None
        return invoice.billed - invoice.conceded

    def _concede(self, receivable: Receivable, amount: int, tax: int, currency: str) -> None:
        block, invoice = receivable
        paper = block or invoice
        assert paper is not None
        for debit, part in ((None, amount), (TAX, tax)):
            unpaid = min(part, paper.owed)
            if unpaid:
                self.book(debit, RECEIVABLE, unpaid, currency, block=block, how="both" if debit else "spot")
                paper.owed -= unpaid
            if part - unpaid:
                self.book(debit, REFUNDS, part - unpaid, currency)
                self.owe(part - unpaid, currency, block, invoice)
        paper.conceded += amount
        if block is not None:
            block.conceded += tax if not block.tax else 0  # because tax at redemption is a part of the value
            block.tax_taken += tax
        elif invoice is not None:
            invoice.tax_back += tax

    # --- write-offs and disputes ----------------------------------------------------------------------------

    def receivable_written_off(self, _moment: datetime, data: dict[str, Any]) -> None:
        """Writes off the receivable of a block or of an invoice. An invoice's blocks are first, then its overage."""
        receivables = self._receivables(data)
        papers = [block or invoice for block, invoice in receivables]
        currency = papers[0].currency
        self.allow(all(paper.currency == currency for paper in papers), "wrong_currency")
        owed = sum(max(paper.owed, 0) for paper in papers)
        amount = minor(data["amount"], currency) if "amount" in data else owed
        self.allow(0 < amount <= owed, "exceeds_receivable")
        relief = data.get("tax_relief", True)
        for block, invoice in receivables:
            paper = block or invoice
            part = min(amount, max(paper.owed, 0))
            if not part:
                continue
            amount -= part
            if block is not None:
                self.allow(not block.disputes, "block_disputed")
                self._give_up(block, part, "written_off", RECEIVABLE, relief)
            else:
                self._give_up_overage(invoice, part, relief)
            paper.owed -= part

    def _give_up_overage(self, invoice: Invoice, amount: int, relief: bool) -> None:
        tax = half_up(Fraction(amount * invoice.tax, invoice.billed + invoice.tax))
        tax = min(max(tax, amount - (invoice.billed - invoice.conceded)), invoice.tax - invoice.tax_back)
        if amount - tax:
            self.book(None, RECEIVABLE, amount - tax, invoice.currency)
        if tax:
            side, how = (TAX, "both") if relief else (None, "spot")
            self.book(side, RECEIVABLE, tax, invoice.currency, how=how)
        invoice.conceded += amount - tax
        invoice.tax_back += tax
        invoice.bad.written["value"] += amount - tax
        invoice.bad.written["tax" if relief else "borne"] += tax

    def _give_up(self, block: Block, amount: int, column: str, credit: str, relief: bool = True) -> None:
        """Removes an amount from a block, for a write-off or a lost dispute.

        1. Tax: its pro rata part of the amount.
        2. Unused value, with credits in proportion.
        3. Used value.
        """
        tax = block.tax_given_up(amount)
        block.given_up += amount
        left, carrying = sum(part.left for part in block.family), sum(part.carrying for part in block.family)
        unused = min(amount - tax, carrying)
        used = amount - tax - unused
        if unused:
            credits = left
            if unused < carrying:
                credits = min(to_nine_places(left * unused / carrying), left - NANO)
            self.recall(block, credits, unused)
            if unused < block.carrying:
                credits = min(credits, block.left - NANO)
            block.lose(column, credits, unused)
            self.book(None, credit, unused, block.currency, block=block, how="both")
        block.conceded += used
        if used:
            self.book(None, credit, used, block.currency, block=block)
        if tax:
            side, how = (TAX, "both") if relief else (None, "spot")
            self.book(side, credit, tax, block.currency, block=block, how=how)
        block.tax_taken += tax
        if credit == RECEIVABLE:
            block.bad.written["value"] += used
            block.bad.written["tax" if relief else "borne"] += tax

    def dispute_opened(self, _moment: datetime, data: dict[str, Any]) -> None:
        elsewhere, gone = 0, list[Part]()
        if "payment_id" in data:
            payment = self._payment(data)
            left_over = min(self._unapplied(payment), self._free_balance(payment.currency))
            parts: list[Part] = [(None, None, max(left_over, 0))]
            currency, processor, elsewhere = payment.currency, payment.processor, payment.elsewhere
            for block_, invoice, came in merged(payment.parts):
                of = names(block_, invoice)
                taken = sum(p[2] for p in (*payment.disputed, *payment.again) if names(*p[:2]) == of)
                gross = came - taken
                if block_ is not None and processor is not None:
                    gross = min(gross, block_.brought.get(processor, 0))
                most = min(gross, payment.applied_to(of), self._still_here((block_, invoice), processor))
                parts.append((block_, invoice, max(most, 0)))
                gone.append((block_, invoice, max(gross - max(most, 0), 0)))
            before = sum(part[2] for part in payment.again if names(*part[:2]) == (None, None))
            back = payment.paid_back - before + max(self._unapplied(payment), 0) - parts[0][2]
            gone.append((None, None, max(back, 0)))
        else:
            block = self.paid(data["block_id"])
            self.allow(block.kind in ("paid", "promotional"), "not_a_purchase")
            paid = [name for name, part in block.brought.items() if part]
            processor = data.get("processor")
            if processor is None:
                self.allow(len(paid) < 2, "missing_field")
                processor = paid[0] if paid else None
            gross = block.brought.get(processor, 0)
            most = max(min(self._still_here((block, None), processor), gross), 0)
            parts, currency = [(block, None, most)], block.currency
            gone = [(block, None, gross - most)]
        self.allow(data["dispute_id"] not in self.disputes, "document_exists")
        self.allow(data.get("currency", currency) == currency, "wrong_currency")
        total = sum(part for _, _, part in (*parts, *gone)) + elsewhere
        amount = minor(data["amount"], currency) if "amount" in data else total
        self.allow(0 < amount <= total, "exceeds_payment")
        disputed: list[Part] = []
        called_back: list[tuple[Block, Fraction]] = []
        froze: dict[str, Fraction] = {}
        holds: list[int] = []
        for block_, invoice, whole in parts:
            part = min(amount, whole)
            if part:
                if self.owed_back(block_, invoice):
                    holds.append(len(disputed))
                source = CLEARING if processor is not None else "cash"
                self.book(DISPUTED, source, part, currency, block=block_, processor=processor, how="from_credit")
                if block_ is not None and processor is not None:
                    block_.through[processor] = max(block_.through.get(processor, 0) - part, 0)
                    block_.brought[processor] -= part
                disputed.append((block_, invoice, part))
                amount -= part
                called_back += self._freeze(block_, invoice, part, froze)
        source = CLEARING if processor is not None else "cash"
        elsewhere = min(amount, elsewhere)
        if elsewhere:
            self.book(DISPUTED, source, elsewhere, currency, processor=processor, how="from_credit")
            self.payments[data["payment_id"]].elsewhere -= elsewhere
            amount -= elsewhere
        again: list[Part] = []
        for block_, invoice, whole in gone:  # paid back before: last
            part = min(amount, whole)
            if part:
                self.book(DISPUTED, source, part, currency, block=block_, processor=processor, how="from_credit")
                if block_ is not None and processor is not None:
                    block_.brought[processor] -= part
                again.append((block_, invoice, part))
                amount -= part
        name = data["dispute_id"]
        self.disputes[name] = Dispute(name, self.customer, currency, processor, disputed, data.get("payment_id"))
        self.disputes[name].called_back, self.disputes[name].elsewhere = called_back, elsewhere
        self.disputes[name].again = again
        self.disputes[name].froze, self.disputes[name].holds = froze, holds
        if "payment_id" in data:
            self.payments[data["payment_id"]].disputed += disputed
            self.payments[data["payment_id"]].again += again
        self._fee(data, self.disputes[name])

    def _freeze(
        self, block: Block | None, invoice: Invoice | None, amount: int, froze: dict[str, Fraction]
    ) -> list[tuple[Block, Fraction]]:
        """Disputes an amount of a block or an invoice. Returns the credits that were called back from other blocks.

        The amount is first taken as the refunds and the unclaimed property that are owed. The rest freezes credits of
        the block in proportion.
        """
        claimed = max(amount - self.owed_back(block, invoice), 0)
        if block is not None:
            claimed = max(claimed - block.unclaimed, 0)
        if self.owed_back(block, invoice):
            self._hold((block, invoice), 1)
        called_back = []
        if block is not None:
            whole, before = claimed >= block.claim, {held.name: held.left for held in block.handed}
            left, carrying = sum(part.left for part in block.family), sum(part.carrying for part in block.family)
            share = block.gains[0] if whole else to_nine_places(left * claimed / block.claim)
            if claimed and block.claim:
                frozen = block.frozen if block.disputes else Fraction(0)
                self.recall(block, left if whole else share + frozen, carrying if whole else 0)
            called_back = [(b, before[b.name] - b.left) for b in block.handed if b.left < before[b.name]]
            block.frozen += share
            block.disputes += 1
            froze[block.name] = share
        self._dispute((block, invoice), amount)
        return called_back

    def _hold(self, receivable: Receivable, change: int) -> None:
        for refund in self.refunds:
            if (refund.customer, refund.of) == (self.customer, names(*receivable)):
                refund.held = max(refund.held + change, 0)

    def _still_here(self, receivable: Receivable, processor: str | None) -> int:
        """Returns the received amount that the company still has and that is not disputed.

        Amounts that were paid back to the customer, or paid to a state, are not in it.
        """
        block, invoice = receivable
        paper = block or invoice
        assert paper is not None
        here = paper.received + self.owed_back(*receivable) - paper.disputed
        if block is None:
            return here
        here += block.unclaimed
        return here if processor is None else min(here, block.through.get(processor, 0))

    @staticmethod
    def _dispute(receivable: Receivable, amount: int) -> None:
        paper = receivable[0] or receivable[1]
        if paper is not None:
            paper.disputed += amount

    def _fee(self, data: dict[str, Any], dispute: Dispute) -> None:
        fee = minor(data["fee"], dispute.currency) if "fee" in data else 0
        if fee:
            source = CLEARING if dispute.processor is not None else "cash"
            self.book(None, source, fee, dispute.currency, processor=dispute.processor)

    def _decide(self, data: dict[str, Any]) -> Dispute:
        dispute = self.disputes.get(data["dispute_id"])
        self.allow(dispute is not None and dispute.customer == self.customer, "unknown_dispute")
        assert dispute is not None
        self.allow(not dispute.decided, "dispute_decided")
        self.allow(data.get("currency", dispute.currency) == dispute.currency, "wrong_currency")
        dispute.decided = True
        for block, _, _ in dispute.parts:
            if block is not None:
                block.disputes -= 1
        return dispute

    def _won(self, dispute: Dispute, block: Block | None, invoice: Invoice | None, amount: int) -> None:
        self._dispute((block, invoice), -amount)
        if dispute.payment is not None:
            self.payments[dispute.payment].disputed.append((block, invoice, -amount))
        into, processor = CLEARING if dispute.processor is not None else "cash", dispute.processor
        self.book(into, DISPUTED, amount, dispute.currency, block=block, processor=processor, how="from_credit")
        if block is not None and processor is not None:
            block.through[processor] = block.through.get(processor, 0) + amount
            block.brought[processor] = block.brought.get(processor, 0) + amount

    def _won_again(self, dispute: Dispute, block: Block | None, invoice: Invoice | None, amount: int) -> None:
        """Records won money that had been paid back to the customer before the dispute. The bank returns this money."""
        into, processor = CLEARING if dispute.processor is not None else "cash", dispute.processor
        self.book(into, DISPUTED, amount, dispute.currency, block=block, processor=processor, how="from_credit")
        if dispute.payment is not None:
            self.payments[dispute.payment].again.append((block, invoice, -amount))
        if block is not None and processor is not None:
            block.brought[processor] += amount

    def dispute_won(self, _moment: datetime, data: dict[str, Any]) -> None:
        dispute = self._decide(data)
        self._end(dispute, data, dispute.amount - self._decided(dispute, data))

    def dispute_lost(self, _moment: datetime, data: dict[str, Any]) -> None:
        dispute = self._decide(data)
        self._end(dispute, data, self._decided(dispute, data))

    def _decided(self, dispute: Dispute, data: dict[str, Any]) -> int:
        if "amount" not in data:
            return dispute.amount
        amount = minor(data["amount"], dispute.currency)
        self.allow(amount <= dispute.amount, "exceeds_payment")
        return amount

    def _end(self, dispute: Dispute, data: dict[str, Any], lost: int) -> None:
        for block, invoice, amount in dispute.parts:
            part = min(lost, amount)
            if part:
                self._lose(dispute, block, invoice, part)
            if amount - part:
                self._won(dispute, block, invoice, amount - part)
            lost -= part
        if dispute.elsewhere:
            part = min(lost, dispute.elsewhere)
            won = dispute.elsewhere - part
            self.book(None, DISPUTED, part, dispute.currency, how="from_credit")
            into, processor = CLEARING if dispute.processor is not None else "cash", dispute.processor
            self.book(into, DISPUTED, won, dispute.currency, processor=processor, how="from_credit")
            self.payments[dispute.payment or ""].elsewhere += won
            lost -= part
        for block, invoice, amount in dispute.again:
            part = min(lost, amount)
            if part:
                self.book(None, DISPUTED, part, dispute.currency, block=block)
            if amount - part:
                self._won_again(dispute, block, invoice, amount - part)
            lost -= part
        for number, (block, invoice, _) in enumerate(dispute.parts):
            if number in dispute.holds:
                self._hold((block, invoice), -1)
            if block is not None:
                block.frozen = max(block.frozen - dispute.froze.get(block.name, 0), Fraction(0))
        for held, credits in dispute.called_back:
            part = min(credits, held.bought.left)
            if part > 0:
                money = held.bought.value(part)
                functional = held.bought.lose("transferred", part, money)
                held.lose("transferred", -part, -money, -functional)
        self._fee(data, dispute)

    def _lose(self, dispute: Dispute, block: Block | None, invoice: Invoice | None, amount: int) -> None:
        """Books the loss of an amount.

        - Without a block or an invoice: the unapplied part of the payment.
        - Otherwise, in this order: the refund owed, the unclaimed property of the block, the block or the invoice.
        """
        currency = dispute.currency
        if block is None and invoice is None:
            assert dispute.payment is not None
            self.book(BALANCE, DISPUTED, amount, currency, how="both")
            payment = self.payments[dispute.payment]
            payment.unapplied -= amount
            payment.disputed.append((None, None, -amount))
            return
        self._dispute((block, invoice), -amount)
        of = names(block, invoice)
        refund = min(
            amount, sum(r.amount for r in self.refunds if (r.customer, r.of) == (self.customer, of) and r.held)
        )
        if refund:
            self.book(REFUNDS, DISPUTED, refund, currency, block=block, how="both")
            owed = next(r for r in self.refunds if (r.customer, r.of) == (self.customer, names(block, invoice)))
            self.pay(owed, refund)
            amount -= refund
        if block is not None and block.unclaimed:
            part = min(amount, block.unclaimed)
            self.book("unclaimed_property", DISPUTED, part, currency, block=block, how="both")
            block.claimed += part
            amount -= part
        if block is not None:
            self._give_up(block, amount, "charged_back", DISPUTED)
            return
        assert invoice is not None
        tax = half_up(Fraction(amount * invoice.tax, invoice.billed + invoice.tax))
        tax = max(tax, amount - (invoice.billed - invoice.conceded))
        tax = min(tax, invoice.tax - invoice.tax_back)
        if amount - tax:
            self.book(None, DISPUTED, amount - tax, currency)
        if tax:
            self.book(TAX, DISPUTED, tax, currency, how="both")
        invoice.tax_back += tax
        invoice.conceded += amount - tax
