"""The plain model: breakage pools, summed from their blocks each time."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from math import floor
from typing import Any

from tests.laws.model_blocks import Estimate, Pool, half_up
from tests.laws.model_positions import Positions

UNISSUED = ("voided", "refunded", "transferred", "charged_back", "written_off")


class Pools(Positions):
    """Estimates, and how much breakage a pool has recognised by them."""

    def issued(self, pool: str) -> int:
        """F: what was issued, less what was taken back."""
        blocks = [block for block in self.blocks.values() if block.pool == pool]
        return sum(block.gains[1] - sum(block.of(column)[1] for column in UNISSUED) for block in blocks)

    def pooled(self, pool: str, column: str) -> int:
        return sum(block.of(column)[1] for block in self.blocks.values() if block.pool == pool)

    def breakage_estimated(self, _moment: datetime, data: dict[str, Any]) -> None:
        currency, name = data["currency"], data["pool"]
        pool = self.pools.setdefault(name, Pool(name, currency))
        self.allow(pool.currency == currency, "wrong_currency")
        issued = self.issued(name)

        def rate(field: str) -> Fraction | None:
            return Fraction(data[field]) if field in data else None

        def amount(field: str) -> int | None:
            return self.amount(data, field) if field in data else None

        estimate = Estimate(
            issued,
            amount("expected_breakage"),
            rate("expected_breakage_rate"),
            amount("expected_escheat"),
            rate("expected_escheat_rate"),
        )
        rates = (estimate.breakage_rate or 0) + (estimate.escheat_rate or 0)
        self.allow(rates < 1, "estimate_too_high")
        if estimate.breakage is not None or estimate.escheat is not None:
            breakage, escheat = estimate.at(issued)
            escheat = max(escheat, Fraction(self.pooled(name, "escheated")))
            self.allow(breakage + escheat < issued, "estimate_too_high")
        pool.estimate = estimate

    def recognised(self, pool: Pool) -> int:
        """T = max(A, min(E × R / (F − E − S), F − R − S)), 0 while R = 0 = A, and A once no credits are left."""
        expired, redeemed = self.pooled(pool.name, "expired"), self.pooled(pool.name, "consumed")
        if not any(block.left for block in self.blocks.values() if block.pool == pool.name):
            return expired
        if (not redeemed and not expired) or pool.estimate is None:
            return expired
        issued = self.issued(pool.name)
        breakage, escheat = pool.estimate.at(issued)
        escheat = max(escheat, Fraction(self.pooled(pool.name, "escheated")))
        if breakage + escheat >= issued:
            breakage = Fraction(0)
        if not breakage:
            return expired
        proportional = half_up(breakage * redeemed / (issued - breakage - escheat))
        return max(expired, min(proportional, floor(issued - redeemed - escheat)))
