"""Invariants of breakage pools: recognised breakage equals the formula, and no balance remains at the end of a pool.

The net liability of a pool is prepaid_liability less breakage_recognized (ASC 606-10-55-48). Both are summed from the
entries, each under its policy, and compared with the pool's figures after every event that touches it. Owns: the
invariants of one pool. Does not own: the formula (subledger/pools).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal

import msgspec

from projections.integrity.policies import Policies
from projections.replay.findings import Breach
from subledger.blocks import NO_PORTION, ZERO
from subledger.kinds import Entry
from subledger.pools import Pool

Carried = tuple[Decimal, int, int]
"""Remaining credits of blocks; their carrying amount, in their currency and in the functional currency."""


class _Balance(msgspec.Struct):
    """Two accounts of a pool, positive on their normal side, in money and in functional money."""

    liability: int = 0
    liability_functional: int = 0
    recognised: int = 0
    recognised_functional: int = 0


class PoolLaws:
    """The invariants of pools, checked event by event."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies
        self._balances: defaultdict[str, _Balance] = defaultdict(_Balance)
        self._seen: Mapping[str, Pool] = {}

    def take(self, entries: Iterable[Entry], pools: Mapping[str, Pool]) -> Iterator[Breach]:
        """Takes the entries of one event, and the pools after it. Yields the invariants that fail for those pools."""
        for entry in entries:
            if entry.dimensions.pool:
                moves, balance = self._policies.moves(entry), self._balances[entry.dimensions.pool]
                balance.liability -= moves.liability * entry.amount_minor
                balance.liability_functional -= moves.liability * entry.functional_minor
                balance.recognised += moves.recognised * entry.amount_minor
                balance.recognised_functional += moves.recognised * entry.functional_minor
        if pools is self._seen:
            return
        for name, pool in pools.items():
            if self._seen.get(name) is not pool:
                yield from self._breaches(pool, self._balances[name])
        self._seen = pools

    def _breaches(self, pool: Pool, balance: _Balance) -> Iterator[Breach]:
        due, due_functional = pool.due_minor(), pool.due_functional()
        in_functional_currency = pool.recognised_functional == pool.recognised_minor and due == due_functional

        def breach(statement: str, expected: object, found: object) -> Breach:
            message = f"pool {pool.pool} {statement}"
            return Breach(check="pool", message=message, subject=pool.pool, expected=expected, found=found)

        if pool.recognised_minor != due:
            yield breach("has recognised breakage that differs from the formula", due, pool.recognised_minor)
        elif not in_functional_currency and pool.recognised_functional != due_functional:
            yield breach(
                "has recognised breakage that differs from the formula in the functional currency",
                due_functional,
                pool.recognised_functional,
            )
        expected = (pool.recognised_minor - pool.expired_minor, pool.recognised_functional - pool.expired_functional)
        if (balance.recognised, balance.recognised_functional) != expected:
            yield breach(
                "has a balance of breakage_recognized that differs from recognised less expired breakage",
                expected,
                (balance.recognised, balance.recognised_functional),
            )
        if balance.liability < balance.recognised:
            yield breach("has a negative net liability", f"at least {balance.recognised}", balance.liability)
        ended = (balance.liability, balance.liability_functional, balance.recognised, balance.recognised_functional)
        if not pool.credits and any(ended):
            yield breach("has no credits and a balance: prepaid_liability, breakage_recognized", (0, 0, 0, 0), ended)

    def at_head(self, pools: Mapping[str, Pool], in_blocks: Mapping[str, Carried]) -> Iterator[Breach]:
        """Yields the pools that differ from the sum of their blocks, over all shares."""
        for name in sorted({*in_blocks, *pools}):
            remaining = pools[name].credits if name in pools else ZERO
            credits, carried, _ = in_blocks.get(name, NO_PORTION)
            if (remaining, self._balances[name].liability) != (credits, carried):
                yield Breach(
                    check="pool",
                    message=f"pool {name} is not the sum of its blocks",
                    subject=name,
                    expected=f"{credits:f} credits, {carried}",
                    found=f"{remaining:f} credits, {self._balances[name].liability}",
                )
