"""A second, independent model of money: the amounts owed, received, paid back and charged back.

It was written only from the specification of the accounting (sections 1, 4, 6a, 6b, 7), in plain Python, and shares no
code with the product. It takes events as plain dicts, in the order of recording. It answers each event with
``recorded`` or with the code of a refusal (``refused`` if the specification names none). ``balances`` returns the books
by role.

Owns: purchases with tax, usage and its reversal, payments, refunds, voids, memos, write-offs, disputes, transfers,
escheat, expiry, closed months, undoing the last event. Does not own: pools, repricing, overage, grants, exchange rates
(a second currency is modelled in its own amounts).

If the specification does not decide a case, the model raises ``Silent`` with the question, and the generator leaves the
event out. ``tests/campaigns/README.md`` lists these questions, with the answers that the model uses.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import date

from tests.campaigns.money_claims import Block, Dispute, Event, Payment, Refused, Silent, minor
from tests.campaigns.money_credits import Credits

Parts = list[tuple[str, str, int]]
"""Block, payment, amount."""


class MoneyModel(Credits):
    """The books of a ledger whose currencies have two decimals."""

    # --- money received -----------------------------------------------------------------------------------------

    def _payment_received(self, event: Event, data: Event) -> None:
        amount, day, id = minor(data["amount"]), self._day(event), data.get("payment_id", event["id"])
        targets: list[Block] = []
        if "block_id" in data or "invoice_id" in data:
            targets = self._owing(event, data)
        self._document("payment", id)
        p = Payment(id, event["subject"], amount, data["currency"], data.get("processor"), day, unapplied=amount)
        self.payments[id] = p
        where = "processor_clearing" if p.processor else "cash"
        self._post(day, "processing_fees", where, minor(data.get("fee")), payer=p.payer, currency=p.currency)
        for b, part, on in self._settle(p, targets, amount, day):
            if on > day:
                self._post(day, where, "customer_balance", part, b)
                self._post(on, "customer_balance", "accounts_receivable", part, b)
            else:
                self._post(day, where, "accounts_receivable", part, b)
        self._post(day, where, "customer_balance", p.unapplied, payer=p.payer, currency=p.currency)

    def _payment_applied(self, event: Event, data: Event) -> None:
        p = self.payments.get(data["payment_id"])
        amount, day = minor(data["amount"]), self._day(event)
        if p is None or p.payer != event["subject"] or p.currency != data["currency"]:
            raise Refused("refused")
        if p.disputed:
            raise Silent("applying a disputed payment")
        targets = self._owing(event, data)
        if amount > p.unapplied:
            raise Refused("refused")
        done = 0
        for b, part, on in self._settle(p, targets, amount, day):
            on = self._spared("customer_balance", p.payer, p.currency, max(on, p.day), part)
            self._post(on, "customer_balance", "accounts_receivable", part, b)
            done += part
        if done < amount:
            raise Refused("refused")

    def _settle(self, p: Payment, targets: list[Block], amount: int, day: date) -> Iterator[tuple[Block, int, date]]:
        """Pays the open amounts of the blocks of the purchase in turn. Then it reverses write-offs, and pays these
        amounts.

        Money received before a write-off is applied on the day of the write-off.
        """
        blocks = {o.id: o for b in targets for o in self._siblings(b)}
        mine = [b for b in blocks.values() if b.payer == p.payer]
        for again in (False, True):
            for b in mine:
                parts = self._owed_days(b, min(amount, b.open), day)
                if again and (part := min(amount, self._collectable(b))):
                    on = max(day, b.written_off_on or day)
                    self._recover(b, part, max(on, p.day))
                    parts = [(on, part)]
                for on, part in parts:
                    b.open -= part
                    b.received[p.id] += part
                    b.came[p.id] += part
                    p.unapplied -= part
                    amount -= part
                    yield b, part, on

    def _owed_days(self, b: Block, amount: int, day: date) -> list[tuple[date, int]]:
        """Returns the parts of an amount that the purchase owes, each with the first day from which it is available in
        every view.
        """
        family = {o.id for o in self._siblings(b)}
        moved = [
            (e.day, e.amount * ((e.debit == "accounts_receivable") - (e.credit == "accounts_receivable")))
            for e in self.entries
            if e.block in family
        ]
        if 0 < amount < sum(n for _, n in moved) and any(n > 0 and d > b.invoiced_on for d, n in moved):
            raise Silent("which part is paid first of a receivable that came back on a later day")
        day = self._open(day)
        days = sorted({day, *(d for d, _ in moved if d > day)})
        standing = [sum(n for d, n in moved if d <= on) for on in days]
        found, taken = [], 0
        for n, on in enumerate(days):
            part = min(amount - taken, min(standing[n:]) - taken)
            if part > 0:
                found.append((on, part))
                taken += part
        return found

    def _tax_of_bad(self, b: Block) -> int:
        """Returns the tax of used value that was written off. That of unused value was cancelled with its credits."""
        return self._share(b.bad_tax, b.bad_value, b.bad_value + b.bad_unused)

    def _collectable(self, b: Block) -> int:
        return b.bad_value + self._tax_of_bad(b) - b.back_value - b.back_tax if b.bad_value or b.bad_tax else 0

    def _recover(self, b: Block, amount: int, day: date) -> None:
        whole = self._tax_of_bad(b)
        tax = self._share(whole, b.back_value + b.back_tax + amount, b.bad_value + whole) - b.back_tax
        tax = min(max(tax, amount - (b.bad_value - b.back_value), 0), amount, whole - b.back_tax)
        b.back_tax += tax
        b.back_value += amount - tax
        b.conceded -= amount - tax
        b.tax_left += tax
        b.open += amount
        self._post(day, "accounts_receivable", "bad_debt", amount - tax, b)
        self._post(day, "accounts_receivable", "tax_payable" if b.relief else "bad_debt", tax, b)

    def _payout_settled(self, event: Event, data: Event) -> None:
        self._document("payout", data["payout_id"])
        self._post(
            self._day(event), "cash", "processor_clearing", minor(data["amount"]), currency=data["currency"], payer=""
        )

    # --- money paid back -------------------------------------------------------------------------------------

    def _payment_refunded(self, event: Event, data: Event) -> None:
        amount, day, payer, currency = minor(data["amount"]), self._day(event), event["subject"], data["currency"]
        theirs = [p for p in self.payments.values() if p.payer == payer and p.currency == currency]
        mine = [b for b in self.blocks.values() if b.payer == payer and b.currency == currency]
        if "payment_id" in data:
            theirs = [p for p in theirs if p.id == data["payment_id"]]
            if not theirs or amount > theirs[0].amount - theirs[0].back:
                raise Refused("refused")
            if any(b.owed["reclaimed"] for b in mine):
                raise Silent("whether what was reclaimed from the state is paid back as a part of its payment")
            if any(b.mixed for b in mine if theirs[0].id in b.received):
                raise Silent("which of several payments is paid back")
            mine = [b for b in mine if b.owed[theirs[0].id]]
            if any(b.mixed for b in mine):
                raise Silent("which of several payments is paid back")
        elif "block_id" in data:
            mine = self._siblings(self._owing(event, data)[0])
        self._document("refund", data.get("refund_id"))
        if any(p.disputed for p in theirs):
            raise Silent("paying back while a payment is disputed")
        sources = [(b, id) for b in mine for id in +b.owed if "payment_id" not in data or id == theirs[0].id]
        owed = sum(b.owed[id] for b, id in sources)
        balance = 0 if "block_id" in data and "payment_id" not in data else sum(p.unapplied for p in theirs)
        if amount > owed + balance:
            if "payment_id" not in data and amount <= owed + sum(p.unapplied for p in theirs):
                raise Silent("whether a refund that names a block may pay back unapplied payments")
            raise Refused("refused")
        if "payment_id" not in data and len(sources) > 1 and amount < owed:
            raise Silent("which of several refunds is paid first")
        if (
            "payment_id" not in data
            and amount > owed
            and sum(p.unapplied > 0 for p in theirs) > 1
            and amount < owed + balance
        ):
            raise Silent("which of several unapplied payments is paid back")
        default = theirs[0].processor if "payment_id" in data else None
        where = "processor_clearing" if data.get("processor", default) else "cash"
        left = amount
        owed_on = self._spared("refunds_payable", payer, currency, day, min(owed, amount))
        for b, id in sources:
            part = min(left, b.owed[id])
            b.owed[id] -= part
            left -= part
            if id in self.payments:
                self.payments[id].back += part
            self._post(owed_on, "refunds_payable", where, part, b)
        day = self._spared("customer_balance", payer, currency, day, left)
        for p in theirs:
            part = min(left, p.unapplied)
            p.unapplied -= part
            p.back += part
            left -= part
            self._post(day, "customer_balance", "refunds_payable", part, payer=payer, currency=currency)
            self._post(day, "refunds_payable", where, part, payer=payer, currency=currency)

    def _credit_memo_issued(self, event: Event, data: Event) -> None:
        if "block_id" not in data and "invoice_id" not in data:
            raise Refused("refused")
        blocks, amount, tax = self._owing(event, data), minor(data["amount"]), minor(data.get("tax"))
        b, day = blocks[0], self._day(event)
        if len(blocks) > 1:
            raise Silent("a memo on an invoice of several blocks")
        if b.contested:
            raise Silent("a memo on a disputed block")
        if b.lapsed and b.conceded:
            raise Silent("whether usage or what lapsed was conceded")
        if amount > b.drawn - b.conceded:
            if amount <= sum(o.drawn - o.conceded for o in self._siblings(b)):
                raise Silent("a memo for what another block of the purchase consumed")
            raise Refused("refused")
        if tax > self._share(b.tax, amount, b.basis) or tax > b.tax_left:
            raise Refused("refused")
        b.conceded += amount
        b.tax_left -= tax
        self._give_back(b, [("contra_revenue", amount, day), ("tax_payable", tax, day)])

    def _receivable_written_off(self, event: Event, data: Event) -> None:
        blocks = self._owing(event, data)
        b, day = blocks[0], self._day(event)
        if len(blocks) > 1:
            raise Silent("a write-off of an invoice of several blocks")
        if b.contested:
            raise Refused("block_disputed")
        amount = minor(data["amount"]) if "amount" in data else b.open
        if not amount or amount > b.open:
            if amount <= sum(o.open for o in self._siblings(b)) and amount:
                raise Silent("a write-off of what another block of the purchase owes")
            raise Refused("refused")
        tax, credits, unused, used = self._split(b, amount)
        relief = data.get("tax_relief", True)
        if b.bad_tax and b.relief != relief:
            raise Silent("write-offs of one block with and without relief")
        on = self._take(b, day, credits, unused) if unused else day
        b.gone += credits
        b.gone_value += unused
        b.tax_left -= tax
        b.conceded += used
        b.open -= amount
        b.bad_value += used
        b.bad_unused += unused
        b.bad_tax += tax
        b.relief, b.written_off_on = relief, day
        self._post(on, "prepaid_liability", "accounts_receivable", unused, b)
        self._post(day, "bad_debt", "accounts_receivable", used, b)
        self._post(day, "tax_payable" if relief else "bad_debt", "accounts_receivable", tax, b)

    # --- disputes -------------------------------------------------------------------------------------------------

    def _disputable(self, event: Event, data: Event) -> tuple[int, Parts, Parts, str]:
        """Returns the unapplied part, the parts for blocks that were not paid back, the parts that were paid back, and
        the currency.

        A bank takes back all money of a payment, less what it took before, even if some was paid back to the customer
        meanwhile.
        """
        id = data.get("payment_id")
        if id is not None:
            p = self.payments.get(id)
            if p is None or p.payer != event["subject"] or data.get("currency", p.currency) != p.currency:
                raise Refused("refused")
            if p.processor is None:
                raise Silent("a dispute of a payment that came through no processor")
            if p.disputed:
                raise Silent("two disputes of one payment")
            blocks = [b for b in self.blocks.values() if b.came[id]]
            parts = [(b.id, id, self._still_here(b, id)) for b in blocks]
            gone = p.amount - p.charged - p.unapplied - sum(n for _, _, n in parts)
            return p.unapplied, parts, [("", id, gone)], p.currency
        b = self._owing(event, data)[0]
        parts = [(b.id, id, self._still_here(b, id)) for id in +b.came if self.payments[id].processor]
        if len(self._siblings(b)) > 1:
            return 0, parts, [], b.currency
        return 0, parts, [(b.id, id, b.came[id] - n) for _, id, n in parts], b.currency

    def _still_here(self, b: Block, id: str) -> int:
        """Returns the part of a payment for a block that has not been paid out. It includes amounts owed to the
        customer or to a state.
        """
        n = b.received[id] + b.owed[id]
        if b.owed["reclaimed"] or b.unclaimed:
            if len(+b.came) > 1 or len(self._siblings(b)) > 1:
                raise Silent("of which payment a state is owed")
            n += b.owed["reclaimed"] + b.unclaimed
        return n

    def _dispute_opened(self, event: Event, data: Event) -> None:
        day = self._day(event)
        balance, parts, twice, currency = self._disputable(event, data)
        self._document("dispute", data["dispute_id"])
        blocks = [self.blocks[name] for name, _, _ in parts]
        if any(b.mixed for b in blocks):
            raise Silent("which of several payments was paid back")
        here = balance + sum(n for _, _, n in parts)
        whole = here + sum(n for _, _, n in twice)
        amount = minor(data["amount"]) if "amount" in data else whole
        if amount > whole or not amount:
            raise Refused("refused")
        if any(b.contested for b in blocks):
            raise Silent("two disputes of one block")
        balance, parts, twice = self._cut(amount, balance, parts, twice)
        frozen = {}
        for name, id, n in parts:
            b = self.blocks[name]
            claimed = max(n - b.owed[id] - b.owed["reclaimed"] - b.unclaimed, 0)
            if b.expires and claimed < b.standing + b.tax_left:
                raise Silent("which credits a dispute of a part freezes")
            if not claimed and b.left:
                raise Silent("if a dispute of what is owed back freezes credits")
            b.disputed += claimed
            b.contested = True
            frozen[name] = frozen.get(name, 0) + claimed
        for name, id, n in (*parts, *twice):
            self.payments[id].disputed = True
            self.payments[id].charged += n
            if name:
                self.blocks[name].came[id] -= n
        if balance:
            self.payments[data["payment_id"]].disputed = True
            self.payments[data["payment_id"]].charged += balance
        self.disputes[data["dispute_id"]] = Dispute(
            data["dispute_id"], data.get("payment_id"), parts, balance, currency, event["subject"], twice, frozen
        )
        of = {"payer": event["subject"], "currency": currency}
        self._post(day, "disputes_receivable", "processor_clearing", amount, **of)
        self._post(day, "dispute_fees", "processor_clearing", minor(data.get("fee")), **of)

    @staticmethod
    def _cut(amount: int, balance: int, parts: Parts, twice: Parts) -> tuple[int, Parts, Parts]:
        """Divides a dispute or a loss into parts. Money that was paid back before comes last."""
        here = balance + sum(n for _, _, n in parts)
        if amount < here and sum(n > 0 for _, _, n in parts) + (balance > 0) > 1:
            raise Silent("how a part divides over blocks and the unapplied part")
        cut, left = [], amount - min(amount, balance)
        balance = min(amount, balance)
        for each in (parts, twice):
            found = []
            for name, id, n in each:
                if min(n, left):
                    found.append((name, id, min(n, left)))
                    left -= min(n, left)
            cut.append(found)
        return balance, cut[0], cut[1]

    def _end(self, event: Event, data: Event) -> Dispute:
        d = self.disputes.get(data["dispute_id"])
        if d is None or d.ended or d.payer != event["subject"]:
            raise Refused("refused")
        d.ended = True
        for name, claimed in d.frozen.items():
            self.blocks[name].disputed -= claimed
            self.blocks[name].contested = False
            self.blocks[name].freed_on = self._day(event)
        for _, id, _ in (*d.parts, *d.twice):
            self.payments[id].disputed = False
        if d.payment:
            self.payments[d.payment].disputed = False
        return d

    def _comes_back(self, d: Dispute, balance: int, parts: Parts, twice: Parts) -> None:
        """Returns the part of a dispute that is not lost. It can be disputed again."""
        for sign, of_balance, each in ((1, d.balance, (*d.parts, *d.twice)), (-1, balance, (*parts, *twice))):
            if of_balance and d.payment:
                self.payments[d.payment].charged -= sign * of_balance
            for name, id, n in each:
                self.payments[id].charged -= sign * n
                if name:
                    self.blocks[name].came[id] += sign * n

    def _dispute_won(self, event: Event, data: Event) -> None:
        d = self._end(event, data)
        self._comes_back(d, 0, [], [])
        self._post(
            self._day(event), "processor_clearing", "disputes_receivable", d.amount, payer=d.payer, currency=d.currency
        )

    def _dispute_lost(self, event: Event, data: Event) -> None:
        d, day = self._end(event, data), self._day(event)
        lost = minor(data["amount"]) if "amount" in data else d.amount
        if lost > d.amount or not lost:
            raise Refused("refused")
        balance, parts, twice = self._cut(lost, d.balance, d.parts, d.twice)
        self._comes_back(d, balance, parts, twice)
        of = {"payer": d.payer, "currency": d.currency}
        self._post(day, "processor_clearing", "disputes_receivable", d.amount - lost, **of)
        owed = {id: self.blocks[name].owed[id] + self.blocks[name].owed["reclaimed"] for name, id, _ in d.parts}
        owed_on = self._spared("refunds_payable", d.payer, d.currency, day, sum(owed.values()))
        for name, id, n in parts:
            self._lose(self.blocks[name], id, n, day, owed_on)
        if balance:
            assert d.payment
            self.payments[d.payment].unapplied -= balance
            self.payments[d.payment].back += balance
            on = self._spared("customer_balance", d.payer, d.currency, day, balance)
            self._post(on, "customer_balance", "disputes_receivable", balance, **of)
        self._post(day, "bad_debt", "disputes_receivable", sum(n for _, _, n in twice), **of)

    def _lose(self, b: Block, id: str, n: int, day: date, owed_on: date) -> None:
        """Books the loss of a block: first refunds and unclaimed property that are owed, which are then no longer
        payable; then its claim.
        """
        self.payments[id].back += n
        for whom in (id, "reclaimed"):
            part = min(n, b.owed[whom])
            b.owed[whom] -= part
            n -= part
            self._post(owed_on, "refunds_payable", "disputes_receivable", part, b)
        part = min(n, b.unclaimed)
        b.unclaimed -= part
        n -= part
        self._post(day, "unclaimed_property", "disputes_receivable", part, b)
        if not n:
            return
        tax, credits, unused, used = self._split(b, n)
        on = self._take(b, day, credits, unused) if unused else day
        b.gone += credits
        b.gone_value += unused
        b.tax_left -= tax
        b.conceded += used
        b.received[id] -= n
        self._post(on, "prepaid_liability", "disputes_receivable", unused, b)
        self._post(day, "contra_revenue", "disputes_receivable", used, b)
        self._post(day, "tax_payable", "disputes_receivable", tax, b)

    # --- undoing --------------------------------------------------------------------------------------------------

    def _event_reversed(self, event: Event, data: Event) -> None:
        """Undoes an event: the state is as if it had not been recorded, and its entries are mirrored.

        Later events must be the same without it. Otherwise the event is refused as ``changed_since``.
        """
        undone = next((step for step in self.log if step.event["id"] == data["event_id"]), None)
        if undone is None or undone.answer != "recorded" or undone.event.get("subject") != event.get("subject"):
            raise Refused("refused")
        if undone.event["type"] in ("credits.consumed", "consumption.reversed", "event.reversed") or undone.undone:
            raise Silent("undoing usage, or twice")
        books = MoneyModel(strict=self.strict)
        for step in self.log:
            if step is undone or step.answer != "recorded":
                continue
            if books.record(step.event) != "recorded":
                raise Refused("changed_since")
            if books.log[-1].entries != step.entries:
                raise Silent("undoing what later events depend on, though they could have been without it")
        day, entries, log, days = self._day(event), self.entries, self.log, {b.id: b.days for b in self.blocks.values()}
        closed, gone = self.closed, self.gone_documents | (self.documents - books.documents)
        gone_blocks = self.gone_blocks | (self.blocks.keys() - books.blocks.keys())
        self.__dict__ = books.__dict__
        self.entries, self.log, self.closed, self.gone_documents = entries, log, closed, gone
        self.gone_blocks = gone_blocks
        undone.undone = True
        for b in self.blocks.values():
            taken = undone.days.get(b.id, [])
            b.days = days[b.id] + [(self._open(max(day, d)), -credits, -value) for d, credits, value in taken]
        for e in reversed(undone.entries):
            mirror = copy.copy(e)
            mirror.debit, mirror.credit = e.credit, e.debit
            mirror.debit_customer, mirror.credit_customer = e.credit_customer, e.debit_customer
            mirror.day = self._open(max(day, e.day))
            self.entries.append(mirror)
