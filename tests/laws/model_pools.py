"""The plain model: breakage pools by cohort, computed anew from the sums of each accounting day.

From ACCOUNTING section 5, with the points that it leaves open:

- The order within each day is: an estimate; all amounts issued, cancelled or escheated together; redemptions of earlier
  overage by purchases; other redemptions; expiries.
- A line has two starts: the amount earned by redemption alone, and T0, which is at least the expired amount. A
  reinstatement reduces T0 unit by unit, but not below the earned amount.
- If reversals take R below R0, the line leads back to the origin: T0 × R / R0. There are two exceptions: T0 was below
  the line because no more could break, or the line was flat. Then it leads back along E × R / (F − E − S) of that time,
  and the part that was not recognised returns by at most the reversed amount. So R = 0 and A = 0 gives T = 0.
- Purchases that pay for earlier overage recognise at most E × dR / (F − E − S), and a new line begins there.
- A rate applies to every existing cohort. A cohort with credits that it does not fit keeps its own estimate. A rate of
  breakage with an amount of escheat counts as an amount.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from fractions import Fraction
from math import floor
from typing import Any, NamedTuple

from tests.laws.model_blocks import Estimate, Pool, half_up
from tests.laws.model_positions import Positions

UNISSUED = ("voided", "refunded", "transferred", "charged_back", "written_off")
WHOLE = ""


class Sums(NamedTuple):
    """F, R, A, the escheated amount, the remaining credits, and the part of R that purchases redeem at once."""

    issued: int = 0
    redeemed: int = 0
    expired: int = 0
    escheated: int = 0
    credits: Fraction = Fraction(0)
    backfilled: int = 0

    def plus(self, other: Sums) -> Sums:
        return Sums(*(one + more for one, more in zip(self, other, strict=True)))


NOTHING = Sums()


class Anchor(NamedTuple):
    """The start of a line: R0 and A0 (in ``at``), the earned amount, T0, and the amount that would be earned without a
    limit on breakage.
    """

    at: Sums
    earned: int
    due: int
    unlimited: int


ORIGIN = Anchor(NOTHING, 0, 0, 0)


@dataclass
class Line:
    """The recognised breakage of a cohort, day by day. Each of ``estimates`` is in force from its day on."""

    sums: Sums = NOTHING
    estimate: Estimate | None = None
    estimates: dict[date, Estimate] = field(default_factory=dict)
    anchor: Anchor = ORIGIN

    @property
    def has_ended(self) -> bool:
        return any(self.sums[:4]) and not self.sums.credits

    @property
    def has_begun(self) -> bool:
        """True if the cohort has figures. Undone and cancelled events do not count."""
        return self.has_ended or bool(self.sums.credits)

    def expected(self) -> tuple[Fraction, Fraction]:
        breakage, escheat = (Fraction(0), Fraction(0)) if self.estimate is None else self.estimate.at(self.sums.issued)
        return breakage, max(escheat, Fraction(self.sums.escheated))

    def room(self) -> int:
        return max(floor(self.sums.issued - self.sums.redeemed - self.expected()[1]), 0)

    def in_proportion(self, redeemed: int) -> int:
        """Returns E × R / (F − E − S)."""
        breakage, escheat = self.expected()
        divisor = self.sums.issued - breakage - escheat
        return half_up(breakage * redeemed / divisor) if divisor > 0 else 0

    def unlimited(self, start: int) -> int:
        """Returns T0 + (E − T0) × (R − R0) / (F − S − E − R0), or T0 × R / R0, without a limit on breakage."""
        anchor, redeemed = self.anchor, self.sums.redeemed
        if redeemed < anchor.at.redeemed:
            return half_up(Fraction(max(anchor.unlimited, start) * redeemed, anchor.at.redeemed))
        breakage, escheat = self.expected()
        divisor = self.sums.issued - escheat - breakage - anchor.at.redeemed
        if breakage > start and divisor > 0:
            return half_up(start + (breakage - start) * (redeemed - anchor.at.redeemed) / divisor)
        return max(start, self.in_proportion(redeemed))

    def is_flat(self, start: int) -> bool:
        breakage, escheat = self.expected()
        return breakage <= start or self.sums.issued - escheat - breakage <= self.anchor.at.redeemed

    def on_line(self, start: int) -> int:
        back = self.anchor.at.redeemed - self.sums.redeemed
        if back > 0:
            return min(self.unlimited(start), start + back, self.room())
        return min(start if self.is_flat(start) else self.unlimited(start), self.room())

    def start(self) -> int:
        """Returns T0. Expired credits count only if they are still expired."""
        anchor = self.anchor
        reinstated = max(anchor.at.expired - self.sums.expired, 0)
        return max(anchor.earned, anchor.due - reinstated) if self.sums.expired else anchor.earned

    def earned(self) -> int:
        """Returns L of T = L + X: the amount earned by redemption. X follows from expiries."""
        return self.on_line(self.anchor.earned)

    def recognised(self) -> int:
        """Returns T: at least A, and equal to A at the end."""
        if not self.sums.credits:
            return self.sums.expired
        return max(self.on_line(self.start()), self.sums.expired)

    def here(self) -> Anchor:
        due = max(self.on_line(self.start()), self.sums.expired)
        return Anchor(self.sums, self.earned(), due, self.unlimited(self.anchor.earned))

    def follow(self, change: Sums, estimate: Estimate | None = None) -> None:
        """Applies the changes of a day."""
        if estimate is not None:
            self.catch_up(estimate)
        after = self.sums.plus(change)
        if change.issued or change.escheated or change.backfilled:
            self.anchor = self.here()
        if change.backfilled > 0:
            self.sums = self.sums.plus(Sums(change.issued, change.backfilled, 0, change.escheated))
            self.limit()
        self.sums = after

    def limit(self) -> None:
        """Limits the breakage of a purchase to the proportion of the amount that it redeems at once."""
        redeemed = self.sums.redeemed - self.anchor.at.redeemed
        most = self.in_proportion(redeemed)
        earned, due = self.anchor.earned + most, self.start() + most
        if self.earned() > earned or self.on_line(self.start()) > due:
            self.anchor = Anchor(
                self.sums,
                min(self.earned(), earned),
                max(min(self.on_line(self.start()), due), self.sums.expired),
                self.in_proportion(self.sums.redeemed),
            )

    def catch_up(self, estimate: Estimate) -> None:
        self.estimate = estimate
        unlimited = self.in_proportion(self.sums.redeemed)
        earned = min(unlimited, self.room())
        self.anchor = Anchor(self.sums, earned, max(earned, self.sums.expired), unlimited)

    def fits(self, estimate: Estimate) -> str | None:
        """Returns the code with which an estimate is refused; None if it fits."""
        before, self.estimate = self.estimate, estimate
        breakage, escheat = self.expected()
        self.estimate = before
        if breakage + escheat >= self.sums.issued:
            return "estimate_too_high"
        return "estimate_too_low" if breakage < self.sums.expired else None


def by_day(days: Mapping[date, Sums], estimates: Mapping[date, Estimate]) -> dict[date, int]:
    """Computes T at the end of each day."""
    line, found = Line(), {}
    for day in sorted({*days, *estimates}):
        line.follow(days.get(day, NOTHING), estimates.get(day))
        found[day] = line.recognised()
    return found


class Pools(Positions):
    """Estimates, and the breakage that cohorts have recognised by them."""

    def month(self, day: date) -> str:
        return day.isoformat()[:7]

    def cohort_of(self, pool: str, month: str) -> str:
        """Returns the cohort of a month of issue. The first estimate groups the months; until then each month is a
        cohort.
        """
        grouping, year, number = self.pools[pool].grouping, month[:4], int(month[5:])
        quarter = f"{year}-Q{(number + 2) // 3}"
        return {None: month, "month": month, "quarter": quarter, "year": year, "none": WHOLE}[grouping]

    def lines(self, pool: str) -> dict[str, Line]:
        return self.pools[pool].cohorts

    def issued(self, pool: str) -> int:
        """Returns F of the whole pool."""
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
                sums.credits + block.left,
            )
        return found

    def follow_pools(self) -> None:
        """Updates every cohort from its blocks, after each event."""
        for name, pool in self.pools.items():
            for cohort, sums in self._sums(name).items():
                if cohort not in pool.cohorts:
                    pool.cohorts[cohort] = Line(estimates=dict(pool.estimates))
                pool.cohorts[cohort].sums = sums

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
        begun = [each for each, line in sorted(pool.cohorts.items()) if line.has_begun]
        there = sorted(pool.cohorts) if by_rate else begun
        names = [cohort] if cohort is not None else [WHOLE] if grouping == "none" else there
        self.allow(by_rate or len(names) < 2, "unknown_cohort")
        self.allow(pool.currency == currency, "wrong_currency")
        self.allow(cohort is None or cohort in begun, "unknown_cohort")
        rates = sum(Fraction(data.get(f"expected_{what}_rate", 0)) for what in ("breakage", "escheat"))
        self.allow(rates < 1 and (by_rate or any(name in begun for name in names)), "estimate_too_high")
        lines = [pool.cohorts.setdefault(each, Line()) for each in names]
        judged = [line for line in lines if not by_rate or (line.sums.credits and line.sums.issued)]
        codes = [line.fits(self._estimate(data, line.sums.issued)) for line in judged]
        if codes and None not in codes:
            self.allow(False, str(next(code for code in codes if code)))
        on = self.day if self.closed is None else max(self.day, self.closed + timedelta(days=1))
        for line in lines:
            made = self._estimate(data, line.sums.issued)
            if line not in judged or line.fits(made) is None:
                line.estimates[on] = made
        if by_rate and cohort is None:
            pool.estimates[on] = self._estimate(data, 0)

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
