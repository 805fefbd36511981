"""Disputes in random histories, compared with the plain model: the disputable amounts, losses, and frozen credits.

The stateful machine has few disputes. These histories have mostly disputes, of payments and blocks, in part and in
full. The purchases are paid, used, refunded, escheated, conceded and transferred. Every event must be recorded or
refused like in the model, with the same balances in both currencies after it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from tests.building import cloud_event
from tests.laws.machine_state import EXAMPLES
from tests.laws.model import Model, Refusal
from tests.laws.model_blocks import Block, amount_text
from tests.laws.walk import START, Walk, monetary_sides

LENGTH = 60
WEIGHTS = {
    "buy": 5, "pay": 8, "use": 6, "take_back": 1, "void": 2, "refund": 3, "memo": 3, "pay_back": 8, "escheat": 3,
    "from_state": 3, "transfer": 3, "dispute": 9, "decide": 8, "write_off": 1, "apply": 2, "undo": 3,
}  # fmt: skip


class History:
    """A history of two customers, which is sent to the ledger and to the model."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.walk = Walk(state=replace(Walk.state, on_shortfall="reject"))
        self.model = Model(shortfall="reject", late_usage="new")
        self.count = 0
        self.log: list[str] = []
        self.send("exchange_rate.set", None, base="EUR", quote="USD", rate="1.20", rate_source="ECB")
        for _ in range(LENGTH):
            [name] = self.dice.choices(list(WEIGHTS), list(WEIGHTS.values()))
            getattr(self, name)()

    def send(self, type: str, customer: str | None, **data: Any) -> None:
        self.count += 1
        data = {name: value for name, value in data.items() if value is not None}
        at = START + timedelta(days=self.count)
        event = cloud_event(f"e{self.count}", type, customer, at.isoformat(), **data)
        refusals = len(self.walk.refused)
        step = self.walk.send(f"e{self.count}", type, customer, at, **data)
        found = "recorded" if step is not None else self.walk.refused[refusals].code
        try:
            self.model.apply(event)
            expected = "recorded"
        except Refusal as refusal:
            expected = str(refusal.args[0])
        self.log.append(f"{event['id']} {customer} {type} {data} -> {found}")
        assert found == expected, f"{self}\nexpected {expected}"
        balances, modelled = self.balances(), {key: held for key, held in self.model.standing.items() if any(held)}
        assert balances == modelled, (
            f"{self}\nfound {balances.items() - modelled.items()}, not {modelled.items() - balances.items()}"
        )

    def balances(self) -> dict[tuple[str, str, str, str], tuple[int, int]]:
        amounts: Counter[tuple[str, str, str, str]] = Counter()
        functional: Counter[tuple[str, str, str, str]] = Counter()
        for entry in self.walk.entries:
            for role, sign in monetary_sides(entry):
                if role == "prepaid_liability":
                    continue
                of = {"cash": ("", ""), "tax_payable": ("", "")}.get(role, (entry.customer or "", ""))
                if role == "processor_clearing":
                    of = ("", entry.dimensions.processor)
                elif role in ("accounts_receivable", "disputes_receivable", "unclaimed_property"):
                    of = (entry.customer or "", entry.block_id or "")
                amounts[role, entry.currency, *of] += sign * entry.amount_minor
                functional[role, entry.currency, *of] += sign * entry.functional_minor
        return {key: (amounts[key], functional[key]) for key in amounts if amounts[key] or functional[key]}

    def __repr__(self) -> str:
        return "\n".join(["History:", *self.log])

    # --- choices ------------------------------------------------------------------------------------------------

    def one(self, found: list[Any]) -> Any:
        return self.dice.choice(found) if found else None

    def block(self, wish: Callable[[Block], Any] = lambda block: block) -> Any:
        """Returns a block, mostly one that satisfies ``wish``."""
        blocks = [block for block in self.model.blocks.values() if not block.undone]
        wished = [block for block in blocks if wish(block)]
        return self.one(wished if wished and self.dice.random() < 0.9 else blocks)

    def amount(self, limit: int, currency: str) -> str:
        """Returns the whole amount, a part, or sometimes more."""
        share = self.dice.choice((1, 1, 1, 0.5, 0.3, 0.71))
        return amount_text(max(int(limit * share), 1) + (self.dice.random() < 0.05), currency)

    # --- events -------------------------------------------------------------------------------------------------

    def buy(self) -> None:
        price = self.dice.choice((1000, 3000, 9999))
        self.send(
            "credits.purchased", self.dice.choice(("ann", "bob")), block_id=f"B{self.count}",
            credits=str(self.dice.choice((7, 30, 100))), price=amount_text(price, "USD"),
            currency=self.dice.choice(("USD", "USD", "EUR")), escheat_class="DE",
            tax=amount_text(price // 10, "USD") if self.dice.random() < 0.6 else None,
        )  # fmt: skip

    def pay(self) -> None:
        block = self.block(lambda block: block.owed)
        if block is None:
            return
        bought = block.origin or block
        over = self.dice.choice((0, 0, 0, 500))
        self.send(
            "payment.received", bought.customer, amount=self.amount(max(bought.owed, 100) + over, block.currency),
            currency=block.currency, block_id=block.name if self.dice.random() < 0.9 else None,
            processor=self.dice.choice(("stripe", "stripe", "adyen", None)),
            payment_id=f"p{self.count}" if self.dice.random() < 0.9 else None,
        )  # fmt: skip

    def apply(self) -> None:
        payment, block = (
            self.one([p for p in self.model.payments.values() if p.unapplied]),
            self.block(lambda block: block.owed),
        )
        if payment is not None and block is not None:
            self.send(
                "payment.applied", payment.customer, payment_id=payment.name, block_id=block.name,
                amount=self.amount(payment.unapplied, payment.currency), currency=payment.currency,
            )  # fmt: skip

    def use(self) -> None:
        block = self.block(lambda block: block.left)
        if block is not None:
            credits = self.dice.choice((1, 3, max(int(block.left), 1)))
            self.send("credits.consumed", block.customer, credits=str(credits), block_id=block.name)

    def take_back(self) -> None:
        usage = self.one([name for name, usage in self.model.usage.items() if usage.draws])
        if usage is not None:
            self.send(
                "consumption.reversed", self.model.types[usage][1], event_id=usage, reason="r",
                credits=self.dice.choice((None, "1")),
            )  # fmt: skip

    def void(self) -> None:
        block = self.block(lambda block: block.left)
        if block is not None:
            self.send(
                "purchase.voided",
                block.customer,
                block_id=block.name,
                credits=self.dice.choice((None, "2")),
                reason="r",
            )

    def refund(self) -> None:
        block = self.block(lambda block: block.left)
        if block is not None:
            self.send("credits.refunded", block.customer, block_id=block.name, credits=self.dice.choice((None, "3")))

    def memo(self) -> None:
        block = self.block(lambda block: block.of("consumed")[1] > block.conceded)
        if block is not None:
            value = block.of("consumed")[1] - block.conceded
            self.send(
                "credit_memo.issued", (block.origin or block).customer, block_id=block.name, currency=block.currency,
                amount=self.amount(max(value, 1), block.currency), reason="r",
            )  # fmt: skip

    def pay_back(self) -> None:
        payment, block = self.one(list(self.model.payments.values())), self.block()
        named = self.dice.choice(("payment", "payment", "block", "block", "neither"))
        if payment is None or block is None:
            return
        customer, currency = payment.customer, payment.currency
        if named == "block":
            block = block.origin or block
            customer, currency = block.customer, block.currency
        standing = self.model.standing
        owed = [
            -standing.get((role, currency, customer, ""), (0, 0))[0] for role in ("refunds_payable", "customer_balance")
        ]
        if sum(owed) > 0:
            self.send(
                "payment.refunded", customer, amount=self.amount(self.one([sum(owed), *filter(None, owed)]), currency),
                currency=currency, payment_id=payment.name if named == "payment" else None,
                block_id=block.name if named == "block" else None,
                processor=self.dice.choice((None, "stripe")),
            )  # fmt: skip

    def escheat(self) -> None:
        block = self.block(lambda block: block.left)
        if block is not None:
            self.send("credits.escheated", block.customer, block_id=block.name)

    def from_state(self) -> None:
        block = self.block(lambda block: block.unclaimed)
        if block is not None:
            self.send(
                self.dice.choice(("escheat.reclaimed", "escheat.remitted")), (block.origin or block).customer,
                block_id=block.name, currency=block.currency,
                amount=self.amount(max(block.unclaimed, 1), block.currency),
            )  # fmt: skip

    def transfer(self) -> None:
        block = self.block(lambda block: block.left)
        if block is not None:
            self.send(
                "credits.transferred", block.customer, block_id=block.name, new_block_id=f"T{self.count}",
                to_customer=self.dice.choice(("ann", "bob")), credits=self.dice.choice((None, "2", "5")),
            )  # fmt: skip

    def dispute(self) -> None:
        payment, about = self.one(list(self.model.payments.values())), {}
        if payment is not None and self.dice.random() < 0.6:
            customer, currency, about = payment.customer, payment.currency, {"payment_id": payment.name}
            limit = sum(part[2] for part in payment.parts) + payment.unapplied + payment.paid_back
        else:
            block = self.block(lambda block: block.brought)
            if block is None:
                return
            customer, currency = (block.origin or block).customer, block.currency
            about = {"block_id": block.name}
            if self.dice.random() < 0.3:
                about["processor"] = self.dice.choice(("stripe", "adyen"))
            limit = max([*block.brought.values(), 100])
        amount = self.amount(limit, currency) if self.dice.random() < 0.5 else None
        self.send("dispute.opened", customer, dispute_id=f"d{self.count}", currency=currency, amount=amount, **about)

    def decide(self) -> None:
        dispute = self.one([dispute for dispute in self.model.disputes.values() if not dispute.decided])
        if dispute is not None:
            amount = self.amount(dispute.amount, dispute.currency) if self.dice.random() < 0.4 else None
            self.send(
                self.dice.choice(("dispute.won", "dispute.lost", "dispute.lost")), dispute.customer,
                dispute_id=dispute.name, amount=amount, currency=dispute.currency,
            )  # fmt: skip

    def write_off(self) -> None:
        block = self.block(lambda block: block.owed)
        if block is not None:
            self.send("receivable.written_off", (block.origin or block).customer, block_id=block.name, reason="r")

    def undo(self) -> None:
        """Undoes the latest event. Not with euro, because the days of a receivable may then divide a payment and its
        rounding.
        """
        latest, euro = self.model.latest, [block for block in self.model.blocks.values() if block.currency == "EUR"]
        if latest is not None and self.count > 1 and not euro:
            self.send("event.reversed", self.model.types[latest[0]][1] or None, event_id=latest[0], reason="r")


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_disputes_are_decided_and_lost_as_the_model_says(seed: int) -> None:
    History(seed)
