"""The machine's rules about blocks: bought, granted, used, ended."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.laws.machine_checks import Checks
from tests.laws.machine_state import (
    CREDITS,
    CURRENCIES,
    CUSTOMERS,
    DAYS,
    MOSTLY,
    NOBODY,
    PICKS,
    PRODUCTS,
    RARELY,
    SHARES,
    SHORTFALLS,
    TOGETHER,
    UNITS,
    moment,
)
from tests.laws.model_blocks import amount_text, credits_text
from tests.laws.walks import DIMENSIONS

POOLS = st.sampled_from((None, None, None, "p", "q"))
CLASSES = st.sampled_from((None, None, None, "DE-3y"))


class BlockRules(Checks):
    @rule(
        customer=CUSTOMERS, day=DAYS, credits=CREDITS, price=st.integers(0, 9_999), tax=st.integers(0, 500),
        life=st.one_of(st.none(), st.integers(0, 40)), delay=st.one_of(st.none(), st.integers(0, 10)),
        priority=st.sampled_from((50, 50, 10)), scope=st.sampled_from((None, None, ["api"], ["chat", "api"])),
        bonus=st.sampled_from((None, None, "5")), unit=UNITS, currency=CURRENCIES, refundable=st.booleans(),
        pool=POOLS, escheat_class=CLASSES, again=RARELY, together=TOGETHER,
    )  # fmt: skip
    def purchase(
        self,
        customer: str,
        day: int,
        credits: str,
        price: int,
        tax: int,
        life: int | None,
        delay: int | None,
        priority: int,
        scope: list[str] | None,
        bonus: str | None,
        unit: str | None,
        currency: str,
        refundable: bool,
        pool: str | None,
        escheat_class: str | None,
        again: bool,
        together: bool,
    ) -> None:
        self.send(
            "credits.purchased",
            customer,
            day,
            together,
            unit=unit or ...,
            block_id=self.block(day)[0] if again else f"b{self.count}",
            credits=credits,
            price=amount_text(price, currency),
            currency=currency,
            tax=amount_text(tax, currency) if tax and price else ...,
            priority=priority,
            invoice_id=f"i-{day % 5}",
            due_at=moment(day + price % 40).isoformat() if price % 3 == 1 else ...,
            cancellable=True if price % 4 == 1 else ...,
            scope=scope or ...,
            bonus_credits=bonus or ...,
            dimensions=DIMENSIONS[price % 4],
            refundable=True if refundable and pool is None else ...,
            pool=pool or ...,
            escheat_class=escheat_class or ...,
            starts_at=moment(day + delay).isoformat() if delay is not None else ...,
            expires_at=moment(day + (delay or 0) + life).isoformat() if life and life > 0 else ...,
        )

    @rule(
        customer=CUSTOMERS, day=st.integers(0, 30), credits=st.integers(1, 60), price=st.integers(1, 9_999),
        tax=st.integers(0, 500), life=st.one_of(st.none(), st.integers(10, 60)), currency=CURRENCIES,
        refundable=st.booleans(), pool=POOLS, together=TOGETHER,
    )  # fmt: skip
    def purchase_plainly(
        self,
        customer: str,
        day: int,
        credits: int,
        price: int,
        tax: int,
        life: int | None,
        currency: str,
        refundable: bool,
        pool: str | None,
        together: bool,
    ) -> None:
        self.purchase(
            customer,
            day,
            str(credits),
            price,
            tax,
            life,
            None,
            50,
            None,
            None,
            None,
            currency,
            refundable,
            pool,
            None,
            False,
            together,
        )

    @rule(
        customer=CUSTOMERS, day=DAYS, credits=CREDITS, life=st.one_of(st.none(), st.integers(-1, 40)),
        reason=st.sampled_from(("promotional", "promotional", "goodwill", "allocation")), currency=CURRENCIES,
        again=RARELY, together=TOGETHER,
    )  # fmt: skip
    def grant(
        self,
        customer: str,
        day: int,
        credits: str,
        life: int | None,
        reason: str,
        currency: str,
        again: bool,
        together: bool,
    ) -> None:
        paid = reason != "promotional"
        self.send(
            "credits.granted",
            customer,
            day,
            together,
            block_id=self.block(day)[0] if again else f"b{self.count}",
            credits=credits,
            reason=reason,
            value=amount_text(321, currency) if paid else ...,
            currency=currency if paid else ...,
            expires_at=moment(day + life).isoformat() if life is not None else ...,
        )

    def use_some(
        self,
        customer: str,
        day: int,
        credits: str,
        product: str | None,
        shortfall: str | None,
        priced: bool,
        unit: str | None,
        currency: str,
        together: bool,
        name: str | None = None,
        tax: int = 0,
        reservation: str | None = None,
    ) -> None:
        self.send(
            "credits.consumed",
            customer,
            day,
            together,
            credits=credits,
            product=product or ...,
            block_id=name or ...,
            on_shortfall=shortfall or ...,
            overage_price="0.1371" if priced else ...,
            currency=currency if priced else ...,
            unit=unit or ...,
            tax=amount_text(tax, currency) if tax else ...,
            dimensions=DIMENSIONS[day % 4],
            reservation_id=reservation or ...,
        )

    @rule(
        customer=CUSTOMERS, day=DAYS, credits=CREDITS, product=PRODUCTS, shortfall=SHORTFALLS, priced=MOSTLY,
        unit=UNITS, currency=CURRENCIES, together=TOGETHER, tax=st.sampled_from((0, 0, 0, 1, 7, 150)),
    )  # fmt: skip
    def use(self, **given: Any) -> None:
        self.use_some(**given)

    @rule(
        customer=CUSTOMERS, day=DAYS, credits=st.integers(1, 9).map(str), product=PRODUCTS, shortfall=st.none(),
        priced=MOSTLY, unit=st.none(), currency=CURRENCIES, together=TOGETHER,
    )  # fmt: skip
    def use_little(self, **given: Any) -> None:
        self.use_some(**given)

    @rule(pick=PICKS, stranger=RARELY, day=DAYS, credits=CREDITS, product=PRODUCTS, priced=MOSTLY, together=TOGETHER)
    def use_one_block(
        self, pick: int, stranger: bool, day: int, credits: str, product: str | None, priced: bool, together: bool
    ) -> None:
        name, customer = self.block(pick, stranger)
        self.use_some(customer, day, credits, product, None, priced, None, "USD", together, name)

    # --- reservations ------------------------------------------------------------------------------------------

    def reservation(self, pick: int, stranger: bool) -> tuple[str, str]:
        """Returns a recorded reservation (the latest for 0) and its customer, or an unknown one."""
        owners = {name: found.customer for name, found in self.model.reservations.items()}
        if not owners or pick == NOBODY:
            return "nobody's", "ann"
        name = list(owners)[-1 - pick % len(owners)]
        return name, ("carol" if stranger else owners[name])

    @rule(
        customer=CUSTOMERS, day=DAYS, credits=CREDITS, product=PRODUCTS, unit=UNITS, life=st.integers(0, 30),
        again=RARELY, together=TOGETHER,
    )  # fmt: skip
    def reserve(
        self,
        customer: str,
        day: int,
        credits: str,
        product: str | None,
        unit: str | None,
        life: int,
        again: bool,
        together: bool,
    ) -> None:
        self.send(
            "credits.reserved",
            customer,
            day,
            together,
            reservation_id=self.new_name("r", again, self.model.reservations),
            credits=credits,
            product=product or ...,
            unit=unit or ...,
            expires_at=moment(day + life).isoformat(),
        )

    @rule(
        pick=PICKS, stranger=RARELY, later=st.integers(-3, 9), credits=CREDITS, shortfall=SHORTFALLS, priced=MOSTLY,
        other=RARELY, together=TOGETHER,
    )  # fmt: skip
    def settle(
        self,
        pick: int,
        stranger: bool,
        later: int,
        credits: str,
        shortfall: str | None,
        priced: bool,
        other: bool,
        together: bool,
    ) -> None:
        name, customer = self.reservation(pick, stranger)
        found = self.model.reservations.get(name)
        day = max((found.begins - moment(0)).days + later, 0) if found is not None else 9
        product = "chat" if found is None or other else found.product
        unit = found.unit if found is not None else None
        self.use_some(
            customer, day, credits, product, shortfall, priced, unit, "USD", together, None, 0, reservation=name
        )

    @rule(pick=PICKS, stranger=RARELY, day=DAYS, together=TOGETHER)
    def release(self, pick: int, stranger: bool, day: int, together: bool) -> None:
        name, customer = self.reservation(pick, stranger)
        self.send("reservation.released", customer, day, together, reservation_id=name)

    @rule(day=DAYS, pick=PICKS, stranger=RARELY, credits=st.one_of(st.none(), CREDITS), together=TOGETHER)
    def reverse(self, day: int, pick: int, stranger: bool, credits: str | None, together: bool) -> None:
        event_id, customer = self.usage(pick, stranger)
        self.send(
            "consumption.reversed", customer, day, together, event_id=event_id, reason="r", credits=credits or ...
        )

    @rule(day=DAYS, share=st.fractions(0, 1, max_denominator=8), pick=st.integers(0, 5))
    def reverse_a_part(self, day: int, share: Fraction, pick: int) -> None:
        """Reverses all remaining credits of a usage, or an eighth or half of them."""
        self.flush()
        open_ = [usage for usage in self.model.usage.values() if any(d.credits > d.restored for d in usage.draws)]
        if open_:
            usage = open_[-1 - pick % len(open_)]
            left = sum((d.credits - d.restored for d in usage.draws), Fraction(0))
            credits = credits_text(max(left * share, Fraction(1, 10**9)))
            self.send(
                "consumption.reversed", usage.customer, day, False, event_id=usage.name, reason="r", credits=credits
            )

    # --- ends of a block -------------------------------------------------------------------------------------

    @rule(pick=PICKS, stranger=RARELY, day=DAYS, void=st.booleans(), together=TOGETHER)
    def void_or_escheat(self, pick: int, stranger: bool, day: int, void: bool, together: bool) -> None:
        name, customer = self.block(pick, stranger)
        if void:
            self.send("purchase.voided", customer, day, together, block_id=name, reason="r")
        else:
            self.send("credits.escheated", customer, day, together, block_id=name)

    @rule(pick=PICKS, stranger=RARELY, day=DAYS, until=st.one_of(st.none(), st.integers(0, 100)), together=TOGETHER)
    def change_expiry(self, pick: int, stranger: bool, day: int, until: int | None, together: bool) -> None:
        name, customer = self.block(pick, stranger)
        expires_at = None if until is None else moment(until).isoformat()
        self.send("block.expiry_changed", customer, day, together, block_id=name, expires_at=expires_at, reason="r")

    def some_credits(self, name: str, share: Fraction | None) -> Any:
        """Returns a share of the remaining credits of a block. None leaves the field out, which means all."""
        block = self.model.blocks.get(name)
        if share is None:
            return ...
        return credits_text(max(block.left * share, Fraction(1, 10**9))) if block is not None else "1"

    @rule(
        pick=PICKS, stranger=RARELY, day=DAYS, share=st.one_of(st.none(), SHARES), back=st.one_of(st.none(), SHARES),
        currency=MOSTLY, together=TOGETHER,
    )  # fmt: skip
    def refund(
        self,
        pick: int,
        stranger: bool,
        day: int,
        share: Fraction | None,
        back: Fraction | None,
        currency: bool,
        together: bool,
    ) -> None:
        name, customer = self.block(pick, stranger)
        block = self.model.blocks.get(name)
        own = block.currency if block is not None else "USD"
        value = int(block.carrying * (share or 1)) if block is not None else 1
        self.send(
            "credits.refunded",
            customer,
            day,
            together,
            block_id=name,
            credits=self.some_credits(name, share),
            amount=self.money(value, back, own) if back is not None else ...,
            currency=(own if currency else "JPY" if own == "KWD" else "KWD") if back is not None else ...,
        )

    @rule(
        pick=PICKS, stranger=RARELY, day=DAYS, credits=st.sampled_from((None, "5", "0.25", "-1", "-3.5")),
        added=st.integers(-600, 900), tax=st.one_of(st.none(), st.integers(-60, 90)), together=TOGETHER,
    )  # fmt: skip
    def reprice(
        self, pick: int, stranger: bool, day: int, credits: str | None, added: int, tax: int | None, together: bool
    ) -> None:
        name, customer = self.block(pick, stranger)
        block = self.model.blocks.get(name)
        own = block.currency if block is not None else "JPY"  # not recorded yet: no decimals fit any currency
        if block is not None and block.kind == "promotional" and day % 4:
            added = 0
        if not added and credits is None:
            credits = "2"
        self.send(
            "block.repriced",
            customer,
            day,
            together,
            block_id=name,
            add_credits=credits or ...,
            add_price=amount_text(added, own) if added else ...,
            add_tax=amount_text(tax, own) if tax is not None else ...,
            reason="r",
        )

    @rule(
        pick=PICKS, stranger=RARELY, day=DAYS, share=st.one_of(st.none(), SHARES),
        to=st.sampled_from(("ann", "bob", "cid")), again=RARELY, together=TOGETHER,
    )  # fmt: skip
    def transfer(
        self, pick: int, stranger: bool, day: int, share: Fraction | None, to: str, again: bool, together: bool
    ) -> None:
        name, customer = self.block(pick, stranger)
        self.send(
            "credits.transferred",
            customer,
            day,
            together,
            block_id=name,
            to_customer=to,
            new_block_id=name if again else f"b{self.count}",
            credits=self.some_credits(name, share),
        )

    # --- unclaimed property, pools -----------------------------------------------------------------------------

    @rule(pick=PICKS, day=DAYS, share=SHARES, reclaimed=st.booleans(), together=TOGETHER)
    def claim(self, pick: int, day: int, share: Fraction, reclaimed: bool, together: bool) -> None:
        """Reclaims or remits a part of an escheated amount, if there is one."""
        held = [b for b in self.model.blocks.values() if b.unclaimed]
        if held:
            block = held[pick % len(held)]
            amount = self.money(block.unclaimed, share, block.currency)
            self.send(
                "escheat.reclaimed" if reclaimed else "escheat.remitted",
                block.customer,
                day,
                together,
                block_id=block.name,
                amount=amount,
                currency=block.currency,
            )

    @rule(
        day=DAYS, pool=st.sampled_from(("p", "p", "q")), share=st.sampled_from((0, 1, 2, 3, 5, 8)), rate=st.booleans(),
        escheat=st.sampled_from((None, None, "rate", "amount")), currency=MOSTLY, together=TOGETHER,
        cohorts=st.sampled_from((None, None, None, "month", "quarter", "year", "none")),
        cohort=st.sampled_from((None, None, None, "2026-01", "2026-02", "2026-Q1", "2026")),
    )  # fmt: skip
    def estimate(
        self, day: int, pool: str, share: int, rate: bool, escheat: str | None, currency: bool, together: bool,
        cohorts: str | None, cohort: str | None,
    ) -> None:  # fmt: skip
        """Estimates that some tenths of the issued amount expire, and that another tenth goes to a state."""
        held = self.model.pools.get(pool)
        own = held.currency if held is not None else "USD"
        issued = self.model.issued(pool) if held is not None else 0
        self.send(
            "breakage.estimated",
            None,
            day,
            together,
            pool=pool,
            cohorts=cohorts or ...,
            cohort=cohort or ...,
            evidence="history",
            currency=own if currency else "KWD",
            expected_breakage_rate=f"0.{share}" if rate else ...,
            expected_breakage=amount_text(issued * share // 10, own) if not rate else ...,
            expected_escheat_rate="0.2" if escheat == "rate" else ...,
            expected_escheat=amount_text(issued * 2 // 10, own) if escheat == "amount" else ...,
        )

    @rule(
        day=DAYS, base=st.sampled_from(("EUR", "EUR", "JPY", "KWD")), change=st.integers(-30, 30), wrong=RARELY,
        together=TOGETHER,
    )  # fmt: skip
    def set_rate(self, day: int, base: str, change: int, wrong: bool, together: bool) -> None:
        self.send(
            "exchange_rate.set",
            None,
            day,
            together,
            base=base,
            quote="GBP" if wrong else "USD",
            rate=rate_text(base, 100 + change),
            rate_source="ecb",
        )


USUAL = {"EUR": Fraction(11, 10), "JPY": Fraction(67, 10_000), "KWD": Fraction(325, 100)}


def rate_text(base: str, percent: int) -> str:
    millionths = int(USUAL[base] * percent * 10_000)
    return f"{millionths // 10**6}.{millionths % 10**6:06d}"
