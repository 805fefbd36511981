"""The values of a journal: its pairs, its lines, which are a view of the pairs, and its correction, if it is one.

A journal is the entries of one period whose cut is in an interval, summed to pairs. A pair is an amount that moves from
one role to another, in one currency and with one set of dimensions. Debit equals credit in every pair. Lines are the
sides of the pairs by GL account; debit and credit of an account are not netted. The lines are stored as they were
handed over. The pairs are summed from the entries, which never change (pairs).

The first journal of a period is number 1. If more entries are recorded for the period later, they are in the next
journal, an adjustment. So every entry is in exactly one journal in force, and the journals of all periods add up to the
trial balance.

Owns: these values, lines from pairs, the hash. Does not own: reading pairs (pairs), the table (stored_journals), making
a journal (making), the journals of a correction (reversing), the files of a journal (formats, exports).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from projections.account_mapping.mapping import AccountMapping, Attributes, GLAccount
from subledger.accounts import CHART_ORDER, Side
from subledger.errors import IntegrityFault, UnknownExport
from subledger.events.envelope import canonical, format_time
from subledger.own_dimensions import of_role
from subledger.periods import Period


class Summed(msgspec.Struct, frozen=True, kw_only=True):
    """Sum of entries: its two amounts, in minor units and never negative, and the dimensions of its key.

    ``amount_minor`` is in ``currency``, ``functional_minor`` in the ledger's functional currency. ``own`` are the
    company's own dimensions (own_dimensions): those of the line, or for a pair those of the block.
    """

    currency: str
    amount_minor: int
    functional_minor: int
    product: str = ""
    credit_kind: str = ""
    pool: str = ""
    processor: str = ""
    refundable: str = ""
    own: str = ""

    @property
    def dimensions(self) -> tuple[str, str, str, str, str]:
        """Product, credit kind, pool, processor and refundable; empty text if an entry has none."""
        return self.product, self.credit_kind, self.pool, self.processor, self.refundable


class JournalPair(Summed, frozen=True, kw_only=True, omit_defaults=True):
    """Journal pair: the amount that moves from the role ``credit`` to the role ``debit``.

    ``entries``: the number of summed entries. ``usage`` are the own dimensions of the usage. ``customer`` and
    ``block_id`` are empty unless the pairs are read by customer or by block. ``attributes``: the attributes of
    customers on which the account mapping depends. ``native``: the word for which documents leave
    it out (division); empty if they do not.
    """

    debit: str
    credit: str
    entries: int = 0
    usage: str = ""
    customer: str = ""
    block_id: str = ""
    attributes: Attributes = ()
    native: str = ""

    @property
    def sides(self) -> tuple[tuple[Side, str], tuple[Side, str]]:
        """The two roles of the pair, each with its side, debit first."""
        return (Side.DEBIT, self.debit), (Side.CREDIT, self.credit)

    @property
    def order(self) -> tuple[Any, ...]:
        """Sort key. Pairs are split into documents in this order, so another order would change the files that are
        handed over.
        """
        customer_key = (self.own, self.usage, self.customer, self.block_id, self.attributes, self.native)
        return (self.currency, self.debit, self.credit, *self.dimensions, *customer_key)

    @property
    def mirrored(self) -> JournalPair:
        """The pair that reverses this one."""
        return msgspec.structs.replace(self, debit=self.credit, credit=self.debit)

    def role(self, side: Side) -> str:
        return self.debit if side is Side.DEBIT else self.credit

    def own_of(self, role: str) -> str:
        """Returns the company's own dimensions of the line of one of its roles."""
        return of_role(role, self.own, self.usage)

    def account(self, role: str, mapping: AccountMapping) -> GLAccount:
        """Returns the GL account of one of its roles. Raises UnmappedRole."""
        return mapping.resolve(
            role,
            self.product,
            self.credit_kind,
            self.currency,
            self.attributes,
            refundable=self.refundable,
            own=self.own_of(role),
        )


class JournalLine(Summed, frozen=True, kw_only=True):
    """Journal line: one side of a role and its GL account, in one currency and with one set of dimensions.

    ``number`` counts from 1. ``entries``: the number of summed entries, including those whose amount rounds to zero.
    """

    number: int
    role: str
    side: Side
    account: GLAccount
    entries: int = 0


_ADDED_LATER: Final = frozenset({"refundable", "own"})


class JournalCorrection(msgspec.Struct, frozen=True, kw_only=True):
    """A reversal or a re-issue: the corrected journal, the person, the time and the reason.

    One of ``reverses`` and ``reissues`` is the number of the corrected journal in its period; the other is None.
    """

    reverses: int | None = None
    reissues: int | None = None
    reason: str
    made_by: str
    made_at: datetime

    @property
    def number(self) -> int:
        """The number of the corrected journal."""
        return (self.reverses if self.reissues is None else self.reissues) or 0


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """The entries of ``period`` in the cuts after ``from_cut`` through ``to_cut``, as lines.

    ``mapping`` is the number of the account mapping from which the lines have their accounts. If that mapping depends
    on attributes of customers, ``customers_hash`` is the SHA-256 of the stored attributes; else it is empty.
    ``correction`` is None for a period's own journals and adjustments. ``sandbox``: every file of the journal is marked
    as a trial; the hash does not depend on it.
    """

    ledger: str
    entity: str
    functional_currency: str
    period: Period
    number: int
    from_cut: int
    to_cut: int
    mapping: int
    lines: tuple[JournalLine, ...]
    correction: JournalCorrection | None = None
    customers_hash: str = ""
    sandbox: bool = False

    @property
    def name(self) -> str:
        """A name that is unique over all ledgers: ``acme-us-2026-01-1``."""
        return f"{self.ledger}-{self.period}-{self.number}"

    @property
    def reverses(self) -> int | None:
        """The number of the journal that it reverses, if it is a reversal."""
        return None if self.correction is None else self.correction.reverses

    @property
    def reissues(self) -> int | None:
        """The number of the journal that it replaces, if it is a re-issue."""
        return None if self.correction is None else self.correction.reissues

    @property
    def customers_number(self) -> int:
        """The number of the journal under which the attributes of its customers are stored. For a reversal it is that
        of the reversed journal.
        """
        return self.number if self.reverses is None else self.reverses

    @property
    def corrects(self) -> str | None:
        """The name of the journal that it reverses or replaces; None if it is not a correction."""
        return None if self.correction is None else f"{self.ledger}-{self.period}-{self.correction.number}"

    @property
    def posting_date(self) -> date:
        """The posting date: the last day of the period."""
        return self.period.last_day

    @property
    def lines_text(self) -> str:
        """The lines in canonical JSON, which is their stored form."""
        return canonical(self._plain_lines())

    @property
    def content_hash(self) -> str:
        """SHA-256 of name, interval and lines in canonical JSON; for a correction also of the fields of the
        correction.
        """
        content: dict[str, Any] = {
            "ledger": self.ledger,
            "period": str(self.period),
            "number": self.number,
            "from_cut": self.from_cut,
            "to_cut": self.to_cut,
            "mapping": self.mapping,
            "functional_currency": self.functional_currency,
            "lines": self._plain_lines(),
        }
        if self.correction is not None:
            facts = {**msgspec.structs.asdict(self.correction), "made_at": format_time(self.correction.made_at)}
            content |= {name: value for name, value in facts.items() if value is not None}
        if self.customers_hash:
            content["customers"] = self.customers_hash
        return hashlib.sha256(canonical(content).encode()).hexdigest()

    def _plain_lines(self) -> list[dict[str, Any]]:
        # Amounts are strings, because a month's sum may exceed the integers that JSON programs read exactly (2^53).
        amounts = ("amount_minor", "functional_minor")
        # Fields that later versions added to lines are left out if they are empty, so that the hashes of earlier
        # journals do not change.
        return [
            {
                name: str(value) if name in amounts else value
                for name, value in msgspec.to_builtins(line).items()
                if value or name not in _ADDED_LATER
            }
            for line in self.lines
        ]

    def line(self, number: int) -> JournalLine:
        """Returns a line by its number. Raises UnknownExport."""
        if not 1 <= number <= len(self.lines):
            raise UnknownExport(
                f"journal {self.name} has no line {number}",
                field="line",
                expected=f"1 to {len(self.lines)}",
                found=str(number),
            )
        return self.lines[number - 1]


# --- lines from pairs ---------------------------------------------------------------------------------------------

_SIDE_ORDER: Final = {Side.DEBIT: 0, Side.CREDIT: 1}


def lines_from(pairs: Iterable[JournalPair], mapping: AccountMapping) -> tuple[JournalLine, ...]:
    """Sums both sides of pairs to the lines of a journal, by role, account and dimensions, numbered from 1.

    The order is currency, chart, side, dimensions and account. If the mapping depends on customers, a role may have
    several accounts. Raises UnmappedRole if a role has no account, IntegrityFault if debit is not credit.
    """
    # The cache lasts for this call only, because a month has many pairs if they are read by customer.
    resolve = lru_cache(maxsize=None)(mapping.resolve)
    sums: dict[JournalLine, list[int]] = {}
    for pair in pairs:
        product, credit_kind, pool, processor, refundable = pair.dimensions
        for side, role in pair.sides:
            own = pair.own_of(role)
            key = JournalLine(
                number=0,
                role=role,
                side=side,
                currency=pair.currency,
                amount_minor=0,
                functional_minor=0,
                account=resolve(
                    role, product, credit_kind, pair.currency, pair.attributes, refundable=refundable, own=own
                ),
                product=product,
                credit_kind=credit_kind,
                pool=pool,
                processor=processor,
                refundable=refundable,
                own=own,
            )
            total = sums.setdefault(key, [0, 0, 0])
            total[0] += pair.amount_minor
            total[1] += pair.functional_minor
            total[2] += pair.entries
    lines = tuple(
        msgspec.structs.replace(
            line, number=number, amount_minor=sums[line][0], functional_minor=sums[line][1], entries=sums[line][2]
        )
        for number, line in enumerate(sorted(sums, key=_line_order), start=1)
    )
    check_balanced(lines)
    return lines


def _line_order(line: JournalLine) -> tuple[Any, ...]:
    account = (line.account.number, line.account.dimensions, line.account.name)
    return (line.currency, CHART_ORDER[line.role], _SIDE_ORDER[line.side], *line.dimensions, line.own, *account)


def swapped(lines: Sequence[JournalLine]) -> tuple[JournalLine, ...]:
    """Returns the lines that reverse these, with the same numbers: line 3 of a reversal mirrors line 3 of its
    original.
    """
    return tuple(msgspec.structs.replace(line, side=line.side.opposite) for line in lines)


def check_balanced(lines: Iterable[JournalLine]) -> None:
    """Checks that debit equals credit in every currency, and in the functional currency over the same lines.

    Raises IntegrityFault. The check is here because the importer of a file may round silently.
    """
    net: dict[str, list[int]] = {}
    for line in lines:
        sign = 1 if line.side is Side.DEBIT else -1
        total = net.setdefault(line.currency, [0, 0])
        total[0] += sign * line.amount_minor
        total[1] += sign * line.functional_minor
    for currency, (amount, functional) in sorted(net.items()):
        if amount or functional:
            raise IntegrityFault(
                f"the journal is out of balance by {amount} minor units of {currency} ({functional} functional)",
                currency=currency,
            )
