"""The plain model: breakage pools by cohort, summed from their blocks after each event."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from fractions import Fraction
from math import floor
from typing import Any, NamedTuple

from tests.laws.model_blocks import Estimate, Pool, half_up
from tests.laws.model_positions import Positions

UNISSUED = ("voided", "refunded", "transferred", "charged_back", "written_off")
WHOLE = ""


class Sums(NamedTuple):
    """F, R, A, what has escheated, and whether any credits are left."""

    issued: int = 0
    redeemed: int = 0
    expired: int = 0
    escheated: int = 0
    has_credits: bool = False


NOTHING = Sums()


class Anchor(NamedTuple):
    """The sums at the start of a line, and what was recognised there besides what had expired."""

    sums: Sums
    recognised: int


@dataclass
class Line:
    """The recognised breakage of a cohort."""

    sums: Sums = NOTHING
    estimate: Estimate | None = None
    anchors: list[Anchor] = field(default_factory=lambda: [Anchor(NOTHING, 0)])

    @property
    def has_ended(self) -> bool:
        return any(self.sums[:4]) and not self.sums.has_credits

    def expected(self) -> tuple[Fraction, Fraction]:
        breakage, escheat = (Fraction(0), Fraction(0)) if self.estimate is None else self.estimate.at(self.sums.issued)
        return breakage, max(escheat, Fraction(self.sums.escheated))

    def room(self) -> int:
        return floor(self.sums.issued - self.sums.redeemed - self.expected()[1])

    def on_line(self) -> int:
        """T0 + (E − T0) × (R − R0) / (F − S − E − R0), at most F − R − S."""
        start, recognised = self.anchors[-1]
        breakage, escheat = self.expected()
        recognised = max(recognised, min(start.expired, self.sums.expired))
        divisor = self.sums.issued - escheat - breakage - start.redeemed
        if breakage > recognised and divisor > 0:
            rise = (breakage - recognised) * (self.sums.redeemed - start.redeemed) / divisor
            recognised = half_up(recognised + rise)
        return min(recognised, self.room())

    def recognised(self) -> int:
        """T: at least A, and A in the end."""
        return max(self.on_line(), self.sums.expired) if self.sums.has_credits else self.sums.expired

    def follow(self, sums: Sums) -> None:
        """An event that changes what is issued or escheated leaves T, and sets an anchor before it; one that takes such
        an event back right away leaves the line as it was."""
        turns = (sums.issued, sums.escheated) != (self.sums.issued, self.sums.escheated)
        if turns:
            self.anchors.append(Anchor(self.sums, self.on_line()))
        self.sums = sums
        if turns and len(self.anchors) > 2 and self.anchors[-2].sums[:4] == sums[:4]:
            self.anchors = self.anchors[-3:-2]
        self.anchors = self.anchors[-2:] if turns else self.anchors

    def catch_up(self, estimate: Estimate) -> None:
        before = self.on_line()
        self.estimate = estimate
        breakage, escheat = self.expected()
        divisor = self.sums.issued - breakage - escheat
        if divisor > 0:
            before = half_up(breakage * self.sums.redeemed / divisor)
        self.anchors = [Anchor(self.sums, min(before, self.room()))]

    def fits(self) -> str | None:
        """The code with which its estimate is refused, if it does not fit."""
        breakage, escheat = self.expected()
        if breakage + escheat >= self.sums.issued:
            return "estimate_too_high"
        return "estimate_too_low" if breakage < self.sums.expired else None


class Pools(Positions):
    """Estimates, and how much breakage a cohort has recognised by them."""

    def month(self, day: date) -> str:
        return day.isoformat()[:7]

    def cohort_of(self, pool: str, month: str) -> str:
        """The months of issue are grouped by the first estimate; until then each is a cohort."""
        grouping, year, number = self.pools[pool].grouping, month[:4], int(month[5:])
        quarter = f"{year}-Q{(number + 2) // 3}"
        return {None: month, "month": month, "quarter": quarter, "year": year, "none": WHOLE}[grouping]

    def lines(self, pool: str) -> dict[str, Line]:
        return self.pools[pool].cohorts

    def issued(self, pool: str) -> int:
        """F of the whole pool."""
        return sum(sums.issued for sums in self._sums(pool).values())

    def pooled(self, pool: str, column: str) -> int:
        return sum(block.of(column)[1] for block in self.blocks.values() if block.pool == pool)

    def _sums(self, pool: str) -> dict[str, Sums]:
        found: dict[str, Sums] = {}
        for block in self.blocks.values():
            if block.pool != pool:
                continue
            name = self.cohort_of(pool, block.month)
            sums = found.get(name, NOTHING)
            found[name] = Sums(
                sums.issued + block.gains[1] - sum(block.of(column)[1] for column in UNISSUED),
                sums.redeemed + block.of("consumed")[1],
                sums.expired + block.of("expired")[1],
                sums.escheated + block.of("escheated")[1],
                sums.has_credits or block.left > 0,
            )
        return found

    def follow_pools(self) -> None:
        """After each event: every cohort knows what its blocks have become."""
        for name, pool in self.pools.items():
            for cohort, sums in self._sums(name).items():
                line = pool.cohorts.get(cohort)
                if line is None:
                    line = pool.cohorts[cohort] = Line(estimate=pool.estimate)
                line.follow(sums)

    def breakage_estimated(self, _moment: datetime, data: dict[str, Any]) -> None:
        currency, name, cohort = data["currency"], data["pool"], data.get("cohort")
        known = name in self.pools
        pool = self.pools.setdefault(name, Pool(name, currency))
        by_rate = "expected_breakage_rate" in data
        of_name = None if cohort is None else {4: "year", 7: "quarter" if "Q" in cohort else "month"}[len(cohort)]
        fixed = pool.grouping if known else None
        self.allow(fixed is None or data.get("cohorts") in (None, fixed), "cohorts_fixed")
        grouping = fixed or data.get("cohorts") or of_name or ("month" if by_rate else "none")
        self.allow(of_name in (None, grouping), "unknown_cohort")
        if fixed is None:
            pool.grouping = grouping
            pool.cohorts = pool.cohorts if grouping == "month" else {}
            self.follow_pools()
            for line in pool.cohorts.values() if grouping != "month" else ():
                line.anchors = line.anchors[:1]
        names = [cohort] if cohort is not None else [WHOLE] if grouping == "none" else sorted(pool.cohorts)
        if by_rate and cohort is None and grouping != "none":
            names = [each for each in names if not pool.cohorts[each].has_ended]
        self.allow(by_rate or len(names) < 2, "unknown_cohort")
        self.allow(pool.currency == currency, "wrong_currency")
        rates = sum(Fraction(data.get(f"expected_{what}_rate", 0)) for what in ("breakage", "escheat"))
        self.allow(rates < 1 and (by_rate or len(names) > 0), "estimate_too_high")
        codes = []
        for each in names:
            line = pool.cohorts.setdefault(each, Line())
            line.catch_up(self._estimate(data, line.sums.issued))
            if line.sums.issued or not by_rate:
                codes.append(line.fits())
        if codes and None not in codes:
            self.allow(False, str(codes[0]))
        if by_rate and cohort is None:
            pool.estimate = self._estimate(data, 0)

    def _estimate(self, data: dict[str, Any], issued: int) -> Estimate:
        def rate(field: str) -> Fraction | None:
            return Fraction(data[field]) if field in data else None

        def amount(field: str) -> int | None:
            return self.amount(data, field) if field in data else None

        return Estimate(
            issued,
            amount("expected_breakage"),
            rate("expected_breakage_rate"),
            amount("expected_escheat"),
            rate("expected_escheat_rate"),
        )

    def recognised(self, pool: Pool) -> int:
        """T of all cohorts."""
        return sum(line.recognised() for line in pool.cohorts.values())
