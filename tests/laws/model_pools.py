"""The plain model: breakage pools by cohort, summed from their blocks after each event.

From ACCOUNTING section 5, with what it leaves open:

- A line has two starts: what was earned by redemption alone, and T0, which has the floor of what had expired. What is
  reinstated takes from T0 down to what was earned, unit by unit.
- Below R0, after reversals, the line leads back to the origin: T0 × R / R0. Where T0 was less than the line, as no more
  could break, or the line was flat, it leads back along E × R / (F − E − S) of then, and what was not recognised comes
  back by no more than what is reversed. So R = 0 and A = 0 gives T = 0.
- An event that issues and redeems, a purchase that pays for earlier overage, recognises no more than E × dR / (F − E −
  S), and a new line begins there.
- A rate goes for every cohort there is; where it does not fit one that has credits, that one keeps its estimate. A rate
  of breakage with an amount of escheat is an amount.
"""

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
    """F, R, A, what has escheated, whether any credits are left, and F in the functional currency."""

    issued: int = 0
    redeemed: int = 0
    expired: int = 0
    escheated: int = 0
    has_credits: bool = False
    functional: int = 0

    def same_as(self, other: Sums) -> bool:
        return (*self[:4], self.functional) == (*other[:4], other.functional)


NOTHING = Sums()


class Anchor(NamedTuple):
    """The start of a line: ``before`` are the sums before the event that set it, R0 and A0 those of ``at``; what was
    earned there, T0, and what would have been earned if any amount could break."""

    before: Sums
    at: Sums
    earned: int
    due: int
    unlimited: int


@dataclass
class Line:
    """The recognised breakage of a cohort."""

    sums: Sums = NOTHING
    estimate: Estimate | None = None
    anchors: list[Anchor] = field(default_factory=lambda: [Anchor(NOTHING, NOTHING, 0, 0, 0)])

    @property
    def has_ended(self) -> bool:
        return any(self.sums[:4]) and not self.sums.has_credits

    def expected(self) -> tuple[Fraction, Fraction]:
        breakage, escheat = (Fraction(0), Fraction(0)) if self.estimate is None else self.estimate.at(self.sums.issued)
        return breakage, max(escheat, Fraction(self.sums.escheated))

    def room(self) -> int:
        return max(floor(self.sums.issued - self.sums.redeemed - self.expected()[1]), 0)

    def in_proportion(self, redeemed: int) -> int:
        """E × R / (F − E − S)."""
        breakage, escheat = self.expected()
        divisor = self.sums.issued - breakage - escheat
        return half_up(breakage * redeemed / divisor) if divisor > 0 else 0

    def unlimited(self, start: int) -> int:
        """T0 + (E − T0) × (R − R0) / (F − S − E − R0), or T0 × R / R0, whatever can break."""
        anchor, redeemed = self.anchors[-1], self.sums.redeemed
        if redeemed < anchor.at.redeemed:
            return half_up(Fraction(max(anchor.unlimited, start) * redeemed, anchor.at.redeemed))
        breakage, escheat = self.expected()
        divisor = self.sums.issued - escheat - breakage - anchor.at.redeemed
        if breakage > start and divisor > 0:
            return half_up(start + (breakage - start) * (redeemed - anchor.at.redeemed) / divisor)
        return max(start, self.in_proportion(redeemed))

    def is_flat(self, start: int) -> bool:
        breakage, escheat = self.expected()
        return breakage <= start or self.sums.issued - escheat - breakage <= self.anchors[-1].at.redeemed

    def on_line(self, start: int) -> int:
        back = self.anchors[-1].at.redeemed - self.sums.redeemed
        if back > 0:
            return min(self.unlimited(start), start + back, self.room())
        return min(start if self.is_flat(start) else self.unlimited(start), self.room())

    def start(self) -> int:
        """T0, as far as what had expired is still expired."""
        anchor = self.anchors[-1]
        reinstated = max(anchor.at.expired - self.sums.expired, 0)
        return max(anchor.earned, anchor.due - reinstated) if self.sums.expired else anchor.earned

    def earned(self) -> int:
        """L, of T = L + X: earned by redemption. Expiries force X."""
        return self.on_line(self.anchors[-1].earned)

    def recognised(self) -> int:
        """T: at least A, and A in the end."""
        if not self.sums.has_credits:
            return self.sums.expired
        return max(self.on_line(self.start()), self.sums.expired)

    def anchor(self) -> Anchor:
        due = max(self.on_line(self.start()), self.sums.expired)
        return Anchor(self.sums, self.sums, self.earned(), due, self.unlimited(self.anchors[-1].earned))

    def follow(self, sums: Sums) -> None:
        """An event that changes what is issued or escheated leaves T, and sets an anchor before it; one that takes such
        an event back right away leaves the line as it was."""
        turns = (sums.issued, sums.escheated) != (self.sums.issued, self.sums.escheated)
        if turns:
            self.anchors.append(self.anchor())
        self.sums = sums
        if turns and len(self.anchors) > 2 and self.anchors[-2].before.same_as(sums):
            self.anchors = self.anchors[-3:-2]
        elif turns:
            self.anchors = self.anchors[-2:]
            self.limit()

    def limit(self) -> None:
        """A purchase recognises breakage in proportion to what it redeems at once."""
        anchor, redeemed = self.anchors[-1], self.sums.redeemed - self.anchors[-1].at.redeemed
        most = self.in_proportion(redeemed)
        earned, due = anchor.earned + most, self.start() + most
        if redeemed > 0 and (self.earned() > earned or self.on_line(self.start()) > due):
            self.anchors[-1] = Anchor(
                anchor.before,
                self.sums,
                min(self.earned(), earned),
                max(min(self.on_line(self.start()), due), self.sums.expired),
                self.in_proportion(self.sums.redeemed),
            )

    def catch_up(self, estimate: Estimate) -> None:
        self.estimate = estimate
        unlimited = self.in_proportion(self.sums.redeemed)
        earned = min(unlimited, self.room())
        self.anchors = [Anchor(NOTHING, self.sums, earned, max(earned, self.sums.expired), unlimited)]

    def fits(self, estimate: Estimate) -> str | None:
        """The code with which an estimate is refused, if it does not fit."""
        before, self.estimate = self.estimate, estimate
        breakage, escheat = self.expected()
        self.estimate = before
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
                sums.functional + block.gains[2] - sum(block.of(column)[2] for column in UNISSUED),
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
        by_rate = "expected_breakage_rate" in data and "expected_escheat" not in data
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
        self.allow(by_rate or len(names) < 2, "unknown_cohort")
        self.allow(pool.currency == currency, "wrong_currency")
        self.allow(cohort is None or cohort in pool.cohorts, "unknown_cohort")
        rates = sum(Fraction(data.get(f"expected_{what}_rate", 0)) for what in ("breakage", "escheat"))
        self.allow(rates < 1 and (by_rate or any(name in pool.cohorts for name in names)), "estimate_too_high")
        lines = [pool.cohorts.setdefault(each, Line()) for each in names]
        judged = [line for line in lines if not by_rate or (line.sums.has_credits and line.sums.issued)]
        codes = [line.fits(self._estimate(data, line.sums.issued)) for line in judged]
        if codes and None not in codes:
            self.allow(False, str(next(code for code in codes if code)))
        for line in lines:
            made = self._estimate(data, line.sums.issued)
            if line not in judged or line.fits(made) is None:
                line.catch_up(made)
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
