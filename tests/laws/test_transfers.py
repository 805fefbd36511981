"""Transfers: the totals of a purchase are the same if its credits are transferred between its events.

Each history is recorded twice: once unchanged, and once with transfers in between, to the same customer or to another
one. A credit costs a dollar, and a fifth of it is tax, so no share needs rounding.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from subledger.kinds import KIND_BY_NAME
from tests.laws.case import UNTIL_FEBRUARY, Case, Step, on, told

Act = tuple[str, int]


class Told(Case):
    """A purchase of 100 credits for 100.00 and 20.00 tax, and its events; ``to`` receives transferred credits."""

    def __init__(self, to: str | None, *, escheat_class: str | None = None) -> None:
        super().__init__()
        self.to = to
        self.usage: list[Step] = []
        self.held = ["A"]
        self.disputes = 0
        self.buys("A", credits="100", price="100.00", tax="20.00", escheat_class=escheat_class, **UNTIL_FEBRUARY)

    def tries(self, type: str, customer: str | None = "ann", /, **data: Any) -> bool:
        self.sent += 1
        return self.send(f"e{self.sent}", type, customer, self.now, **data) is not None

    @property
    def now(self) -> Any:
        return on(2 + self.sent)

    @property
    def holder(self) -> str:
        return self.owners[self.held[-1]]

    def named(self, n: int) -> str:
        """Returns a block of the purchase. Events about money may name any of them."""
        return self.held[n % len(self.held)]

    def acts(self, act: Act) -> bool | None:
        """Sends one event; returns True if it is recorded, and None if it is a transfer."""
        what, n = act
        money = {"amount": f"{n}.00", "currency": "USD"}
        match what:
            case "transfer" if self.to is not None:
                name = f"N{self.sent}"
                data = {"block_id": self.held[-1], "to_customer": self.to, "new_block_id": name}
                if self.tries("credits.transferred", self.holder, **data):
                    self.held.append(name)
                return None
            case "transfer":
                self.sent += 1
                return None
            case "pay":
                return self.tries(
                    "payment.received", block_id=self.named(n), payment_id=f"P{self.sent}", processor="x", **money
                )
            case "use":
                done = self.tries("credits.consumed", self.holder, credits=str(n), block_id=self.held[-1])
                if done:
                    self.usage.append(self.steps[-1])
                return done
            case "void":
                return self.tries("purchase.voided", self.holder, block_id=self.held[-1], credits=str(n), reason="r")
            case "refund":
                return self.tries("credits.refunded", self.holder, block_id=self.held[-1], credits=str(n))
            case "keep":
                data = {"block_id": self.held[-1], "credits": str(n), "amount": "0.00", "currency": "USD"}
                return self.tries("credits.refunded", self.holder, **data)
            case "escheat":
                return self.tries("credits.escheated", self.holder, block_id=self.held[-1])
            case "memo":
                tax = f"{n / 5:.2f}"
                return self.tries("credit_memo.issued", block_id=self.named(n), tax=tax, reason="r", **money)
            case "write off":
                return self.tries("receivable.written_off", block_id=self.named(n), reason="r", amount=money["amount"])
            case "pay back":
                return self.tries("payment.refunded", processor="x", **money)
            case "take back" if self.usage:
                usage = self.usage[n % len(self.usage)]
                return self.tries(
                    "consumption.reversed",
                    usage.event.customer,
                    event_id=usage.event.event_id,
                    credits=str(n // 2),
                    reason="r",
                )
            case "take back":
                self.sent += 1
                return False
            case "dispute":
                return self._disputes(n, **money)
            case "dispute all":
                return self._disputes(n)
            case "lose" | "win":
                ended = "dispute.lost" if what == "lose" else "dispute.won"
                return self.tries(ended, dispute_id=f"D{max(self.disputes - 1, 0)}")
            case _:
                raise ValueError(what)

    def _disputes(self, n: int, **money: Any) -> bool:
        opened = self.tries("dispute.opened", block_id=self.named(n), dispute_id=f"D{self.disputes}", **money)
        self.disputes += opened
        return opened

    @property
    def totals(self) -> dict[str, int]:
        """Returns balances by role, debits positive; revenue and losses by kind; value by the columns of blocks."""
        found: Counter[str] = Counter()
        for step in self.steps:
            for movement in step.decision.movements:
                kind, amount = KIND_BY_NAME[movement.kind], movement.amount_minor
                found[kind.debit_role or "-"] += amount
                found[kind.credit_role or "-"] -= amount
                if not movement.kind.startswith("transfer"):
                    found[f"{kind.column or kind.name} {kind.result}"] += amount
        found["left"] = sum(block.carrying_minor for block in self.blocks)
        found["credits"] = int(sum(block.remaining for block in self.blocks))
        del found["-"]
        return {name: amount for name, amount in sorted(found.items()) if amount}


WHAT = (
    "transfer", "transfer", "pay", "use", "use", "take back", "void", "refund", "keep", "escheat", "memo", "write off",
    "pay back", "dispute", "dispute all", "lose", "win",
)  # fmt: skip


def history(seed: int) -> Iterator[Act]:
    chance = random.Random(seed)
    yield "pay", chance.choice((6, 30, 60, 120, 120))
    for _ in range(12):
        yield chance.choice(WHAT), chance.choice((5, 6, 10, 15, 20, 30, 31, 60))


@pytest.mark.parametrize("to", ["ann", "bob"])
def test_transfers_in_between_change_no_total(to: str) -> None:
    tried: Counter[str] = Counter()
    for seed in range(300):
        plain, moved = Told(None), Told(to)
        for act in history(seed):
            if act[0] == "escheat" and any(b.remaining for b in moved.blocks if b.block_id != moved.held[-1]):
                break  # reversed credits of earlier usage are in the block from which they were drawn
            ours, theirs = plain.acts(act), moved.acts(act)
            where = (seed, act, [told(step) for step in moved.steps], [told(step) for step in plain.steps])
            if ours and not theirs and moved.refusals[-1][1] in ("no_credits_left", "insufficient_credits"):
                break
            assert ours == theirs, (*where, plain.refused[-1:], moved.refused[-1:])
            assert plain.totals == moved.totals, where
            tried[act[0]] += bool(ours) or (ours is None and len(moved.held) > 1)
    assert min(tried[what] for what in WHAT) >= 5, tried
