"""Invariants of breakage pools: recognised breakage equals the formula, and no balance remains at a cohort's end.

The net liability of a cohort is prepaid_liability less breakage_recognized (ASC 606-10-55-48). Both are summed from the
entries, each under its policy, and compared with the cohort's figures after every event that touches it. Owns: the
invariants of one cohort. Does not own: the formula (subledger/pools).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal

import msgspec

from projections.integrity.policies import Policies
from projections.replay.findings import Breach
from subledger.blocks import NO_PORTION, ZERO
from subledger.cohorts import cohort_of
from subledger.kinds import Entry
from subledger.pooling import CohortKey, Pools
from subledger.pools import Cohort

Carried = tuple[Decimal, int, int]
"""Remaining credits of blocks; their carrying amount, in their currency and in the functional currency."""


class _Balance(msgspec.Struct):
    """Two accounts of a cohort, positive on their normal side, in money and in functional money."""

    liability: int = 0
    liability_functional: int = 0
    recognised: int = 0
    recognised_functional: int = 0


class PoolLaws:
    """The invariants of pools, checked event by event."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies
        self._balances: defaultdict[CohortKey, _Balance] = defaultdict(_Balance)
        self._seen = Pools()

    def take(self, entries: Iterable[Entry], pools: Pools) -> Iterator[Breach]:
        """Takes the entries of one event, and the pools after it. Yields the invariants that fail for those pools."""
        self._regroup(pools)
        for entry in entries:
            name, issued = entry.dimensions.pool, entry.dimensions.cohort
            if name:
                pool = pools.by_name.get(name)
                key = (name, cohort_of(issued, None if pool is None else pool.grouping))
                moves, balance = self._policies.moves(entry), self._balances[key]
                balance.liability -= moves.liability * entry.amount_minor
                balance.liability_functional -= moves.liability * entry.functional_minor
                balance.recognised += moves.recognised * entry.amount_minor
                balance.recognised_functional += moves.recognised * entry.functional_minor
        if pools is self._seen:
            return
        for name, cohorts in pools.cohorts.items():
            seen = self._seen.cohorts.get(name, {})
            for cohort in cohorts.values() if seen is not cohorts else ():
                if seen.get(cohort.cohort) is not cohort:
                    yield from self._breaches(cohort, self._balances[name, cohort.cohort])
        self._seen = pools

    def _regroup(self, pools: Pools) -> None:
        """Adds up the balances of the months of issue that a pool's first estimate groups."""
        for name, pool in pools.by_name.items() if pools.by_name is not self._seen.by_name else ():
            before = self._seen.by_name.get(name)
            if before is None or before.grouping == pool.grouping:
                continue
            for month in [month for of, month in self._balances if of == name]:
                cohort = cohort_of(month, pool.grouping)
                if cohort != month:
                    moved, into = self._balances.pop((name, month)), self._balances[name, cohort]
                    into.liability += moved.liability
                    into.liability_functional += moved.liability_functional
                    into.recognised += moved.recognised
                    into.recognised_functional += moved.recognised_functional

    def _breaches(self, cohort: Cohort, balance: _Balance) -> Iterator[Breach]:
        due, due_functional = cohort.due_minor(), cohort.due_functional()
        in_functional_currency = cohort.recognised_functional == cohort.recognised_minor and due == due_functional

        def breach(statement: str, expected: object, found: object) -> Breach:
            message = f"{cohort.name} {statement}"
            return Breach(check="pool", message=message, subject=cohort.pool, expected=expected, found=found)

        if cohort.recognised_minor != due:
            yield breach("has recognised breakage that differs from the formula", due, cohort.recognised_minor)
        elif not in_functional_currency and cohort.recognised_functional != due_functional:
            yield breach(
                "has recognised breakage that differs from the formula in the functional currency",
                due_functional,
                cohort.recognised_functional,
            )
        expected = (
            cohort.recognised_minor - cohort.expired_minor,
            cohort.recognised_functional - cohort.expired_functional,
        )
        if (balance.recognised, balance.recognised_functional) != expected:
            yield breach(
                "has a balance of breakage_recognized that differs from recognised less expired breakage",
                expected,
                (balance.recognised, balance.recognised_functional),
            )
        if balance.liability < balance.recognised:
            yield breach("has a negative net liability", f"at least {balance.recognised}", balance.liability)
        ended = (balance.liability, balance.liability_functional, balance.recognised, balance.recognised_functional)
        if not cohort.credits and any(ended):
            yield breach("has no credits and a balance: prepaid_liability, breakage_recognized", (0, 0, 0, 0), ended)

    def at_head(self, pools: Pools, in_blocks: Mapping[str, Carried]) -> Iterator[Breach]:
        """Yields the pools that differ from the sum of their blocks, over all shares."""
        for name in sorted({*in_blocks, *pools.by_name}):
            remaining = sum((cohort.credits for cohort in pools.cohorts.get(name, {}).values()), ZERO)
            liability = sum(balance.liability for (pool, _), balance in self._balances.items() if pool == name)
            credits, carried, _ = in_blocks.get(name, NO_PORTION)
            if (remaining, liability) != (credits, carried):
                yield Breach(
                    check="pool",
                    message=f"pool {name} is not the sum of its blocks",
                    subject=name,
                    expected=f"{credits:f} credits, {carried}",
                    found=f"{remaining:f} credits, {liability}",
                )
