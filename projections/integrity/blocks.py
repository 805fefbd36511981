"""Invariants of blocks in every view: not overdrawn, no balance without credits, accounts that offset each other.

An event can change only the blocks it touches, and only from its accounting date on. So every view (as-of, known-at) of
every block is checked, usually by checking one day. At the head, the block's columns are compared with the wallet.
Owns: the invariants of one block. Does not own: the receivable for it (positions).

A block may be posted under several policies if the ledger changed its policy. Under each of them its carrying amount is
prepaid_liability. customer_deposits and credits_clearing always offset each other. They equal the liability, and end at
zero, if either all entries of the block were posted with them, or none.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Final

import msgspec

from projections.integrity.policies import Moves, Policies
from projections.replay.findings import Breach
from subledger.blocks import ZERO, Block
from subledger.kinds import GAINS, Entry

_Day = tuple[Decimal, int, int, int]
"""Remaining credits; prepaid_liability, customer_deposits, credits_clearing (net debits)."""

_Column = tuple[Decimal, int, int]
"""Credits, money, functional money."""

_EMPTY: Final = (ZERO, 0, 0, 0)
_NONE: Final = (ZERO, 0, 0)
_PAIRED, _PLAIN = 1, 2


class _Balances(msgspec.Struct):
    """One block in the books: its balances after each accounting date, its columns, and how it was posted.

    ``functional`` is prepaid_liability at the head in the functional currency, net debit. ``posted`` has two bits:
    _PAIRED if the carrying amount was moved under policies with the deposit accounts, _PLAIN if it was moved under
    policies without them.
    """

    currency: str
    days: list[date] = []
    balances: list[_Day] = []
    columns: dict[str, _Column] = {}
    functional: int = 0
    posted: int = 0


class BlockLaws:
    """The invariants of blocks, checked event by event."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies
        self._blocks: dict[str, _Balances] = {}

    def take(self, entries: Iterable[Entry]) -> Iterator[Breach]:
        """Takes the entries of one event. Yields the invariants that fail for the blocks they touch."""
        touched: dict[str, int] = {}
        for entry in entries:
            moves = self._policies.moves(entry)
            if entry.block_id is not None:
                index = self._move(entry.block_id, entry, moves)
                touched[entry.block_id] = min(index, touched.get(entry.block_id, index))
            elif moves.liability and (entry.amount_minor or entry.functional_minor):
                yield Breach(
                    check="block",
                    message=f"an entry of kind {entry.kind} moves prepaid_liability of no block",
                    subject=entry.kind,
                    expected=0,
                    found=entry.amount_minor,
                )
        for block_id, index in touched.items():
            yield from self._breaches(block_id, index)

    def _move(self, block_id: str, entry: Entry, moves: Moves) -> int:
        """Books an entry on its block. Returns the index of the first day that it changed."""
        block = self._blocks.get(block_id)
        if block is None:
            block = self._blocks[block_id] = _Balances(currency=entry.currency)
        if moves.liability:
            block.posted |= _PAIRED if moves.paired else _PLAIN
        block.functional += moves.liability * entry.functional_minor
        credits, amount = moves.sign * entry.credits, moves.sign * entry.amount_minor
        functional = moves.functional_sign * entry.functional_minor
        column = moves.column or ("remeasured" if moves.functional_sign else None)
        if column is not None:
            before = block.columns.get(column, _NONE)
            block.columns[column] = (before[0] + credits, before[1] + amount, before[2] + functional)
        index = bisect_left(block.days, entry.accounting_date)
        if index == len(block.days) or block.days[index] != entry.accounting_date:
            block.days.insert(index, entry.accounting_date)
            block.balances.insert(index, block.balances[index - 1] if index else _EMPTY)
        for later in range(index, len(block.days)):
            left, liability, deposits, clearing = block.balances[later]
            block.balances[later] = (
                left + credits,
                liability + moves.liability * entry.amount_minor,
                deposits + moves.deposits * entry.amount_minor,
                clearing + moves.clearing * entry.amount_minor,
            )
        return index

    def _breaches(self, block_id: str, index: int) -> Iterator[Breach]:
        block = self._blocks[block_id]

        def breach(statement: str, day: date, expected: object, found: object) -> Breach:
            message = f"block {block_id} {statement} as of {day}"
            return Breach(check="block", message=message, subject=block_id, expected=expected, found=found)

        for day, balances in zip(block.days[index:], block.balances[index:], strict=True):
            left, liability, deposits, clearing = balances
            functional = block.functional if day == block.days[-1] else 0
            if left < 0 or liability > 0 or functional > 0:
                yield breach("is overdrawn", day, "nothing below 0", _shown(balances, functional))
            ends = block.posted != _PAIRED | _PLAIN and (deposits or clearing)
            if left == 0 and (liability or functional or ends):
                yield breach("has no credits and a balance", day, "0 on every account", _shown(balances, functional))
            if (block.posted == _PAIRED and liability != deposits) or deposits != -clearing:
                yield breach("has three balances that differ", day, "the same on each", _shown(balances, functional))

    def at_head(self, blocks: Mapping[str, tuple[str, Block]], functional_currency: str) -> Iterator[Breach]:
        """Yields the differences between the entries and the wallets in the columns of blocks."""
        for block_id, (_, block) in blocks.items():
            books = self._blocks.get(block_id, _Balances(currency=block.currency))
            foreign = block.currency != functional_currency
            booked = {"gained": _sum(books, (*GAINS, "remeasured"))}
            booked |= {name: column for name, column in books.columns.items() if name not in (*GAINS, "remeasured")}
            remembered = _columns(block)
            for name in sorted(booked.keys() | remembered.keys()):
                expected, found = booked.get(name, _NONE), remembered.get(name, _NONE)
                # In the functional currency a block has only one amount. The functional amount of an entry is checked
                # elsewhere.
                if expected[:2] != found[:2] or (foreign and expected[2] != found[2]):
                    yield Breach(
                        check="block",
                        message=f"column {name} of block {block_id} differs from its entries",
                        subject=block_id,
                        expected=_figures(expected),
                        found=_figures(found),
                    )
            left, liability, _, _ = books.balances[-1] if books.balances else _EMPTY
            carried = block.carrying_functional if foreign else block.carrying_minor
            if (left, -liability, -books.functional) != (block.remaining, block.carrying_minor, carried):
                yield Breach(
                    check="block",
                    message=f"the carrying amount of block {block_id} differs from its prepaid_liability",
                    subject=block_id,
                    expected=_figures((left, -liability, -books.functional)),
                    found=_figures((block.remaining, block.carrying_minor, carried)),
                )
        for block_id in self._blocks.keys() - blocks.keys():
            yield Breach(check="block", message=f"block {block_id} has entries and no wallet", subject=block_id)


def _sum(books: _Balances, columns: Iterable[str]) -> _Column:
    found = [books.columns.get(column, _NONE) for column in columns]
    return sum((f[0] for f in found), ZERO), sum(f[1] for f in found), sum(f[2] for f in found)


def _columns(block: Block) -> dict[str, _Column]:
    """Returns a block's figures as the columns of its roll-forward: additions are positive, reductions are negative."""
    return {
        "gained": (block.credits, block.price_minor, block.price_functional),
        "consumed": (-block.used, -block.drawn_minor, -block.drawn_functional),
        **{name: (-credits, -amount, -functional) for name, (credits, amount, functional) in block.disposed.items()},
    }


def _figures(column: _Column) -> str:
    credits, amount, functional = column
    return f"{credits:f} credits, {amount} ({functional} functional)"


def _shown(balances: _Day, functional: int) -> str:
    left, liability, deposits, clearing = balances
    also = f" ({-functional} functional)" if functional else ""
    return (
        f"{left:f} credits, prepaid_liability {-liability}{also}, customer_deposits {-deposits},"
        f" credits_clearing {clearing}"
    )
