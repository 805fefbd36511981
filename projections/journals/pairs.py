"""What a journal is made of, before sides are summed: amounts that move from one role to another.

Every entry moves its amount through account pairs, so debit equals credit in each of them, in its currency and in the
functional one. A general ledger that takes only so many lines a document is served in parts that are whole pairs, and
each part balances.

Owns: the pairs of a journal, by dimensions, by customer or by block; the entries behind them. Does not own: the lines
they are summed to (postings).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import Connection

from projections.account_mapping.mapping import AccountMapping, Attributes, GLAccount, mapping_of
from projections.journals.journal_customers import check_kept
from projections.journals.journals import Journal, interval_of
from projections.journals.sums import Sum, sums_of, with_positions
from subledger.accounts import Side
from subledger.errors import IntegrityFault
from subledger.events.envelope import canonical
from subledger.store.reading.queries import AnyConnection, rows
from subledger.store.tables import MIRRORED, WRITTEN

Level = Literal["account", "dimension", "customer", "block"]
LEVELS: Final[tuple[Level, ...]] = ("account", "dimension", "customer", "block")
"""What a line of a document is summed by: from few lines to many."""


class JournalPair(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What moves from the credit of one role to the debit of another, with one set of dimensions.

    Amounts are minor units and never negative. ``entries`` counts the entries of the totals it is summed from.
    ``attributes`` are those of customers that the journal went by, each with its value.
    """

    debit: str
    credit: str
    currency: str
    amount_minor: int
    functional_minor: int
    entries: int = 0
    product: str = ""
    credit_kind: str = ""
    pool: str = ""
    processor: str = ""
    customer: str = ""
    block_id: str = ""
    attributes: Attributes = ()

    def account(self, role: str, mapping: AccountMapping) -> GLAccount:
        """The account of one of its roles. Raises UnmappedRole."""
        return mapping.resolve(role, self.product, self.credit_kind, self.currency, self.attributes)


def pairs_of(connection: AnyConnection, journal: Journal, level: Level = "dimension") -> tuple[JournalPair, ...]:
    """The pairs of a journal, in a fixed order. By customer or block they are read from its entries.

    Those of a reversal are in the order of what it reverses, so that it is split into documents in the same places.
    Where the journal went by attributes of customers, so do its pairs. Raises IntegrityFault where they are not what
    the journal says.
    """
    sums = sums_of(
        connection, interval_of(journal), by_customer=level in ("customer", "block"), by_block=level == "block",
        journal=(journal.period, journal.kept_number), attributes=_attributes_of(connection, journal),
    )  # fmt: skip
    pairs = _summed(sums)
    if journal.reverses is not None:
        pairs = tuple(mirrored(pair) for pair in pairs)
    _check(journal, pairs)
    return pairs


def mirrored(pair: JournalPair) -> JournalPair:
    """The pair that takes it back."""
    return msgspec.structs.replace(pair, debit=pair.credit, credit=pair.debit)


def _attributes_of(connection: AnyConnection, journal: Journal) -> tuple[str, ...]:
    """The attributes of customers that a journal went by; none for most."""
    if not journal.customers_hash:
        return ()
    check_kept(connection, journal.ledger, journal.period, journal.kept_number, journal.customers_hash)
    return mapping_of(connection, journal.ledger, journal.mapping).attributes


def _summed(sums: Iterable[Sum]) -> tuple[JournalPair, ...]:
    found: dict[tuple[Any, ...], list[int]] = {}
    for each in sums:
        dimensions = (each.product, each.credit_kind, each.pool, each.processor)
        whose = (each.customer, each.block_id, each.attributes)
        for roles, amounts in (
            ((each.debit, each.credit), each.written), ((each.credit, each.debit), each.mirrored)
        ):  # fmt: skip
            total = found.setdefault((each.currency, *roles, *dimensions, *whose), [0, 0, 0])
            for place, amount in enumerate(amounts):
                total[place] += amount
    return tuple(
        JournalPair(
            currency=key[0], debit=key[1], credit=key[2], product=key[3], credit_kind=key[4], pool=key[5],
            processor=key[6], customer=key[7], block_id=key[8], attributes=key[9], amount_minor=amount,
            functional_minor=functional, entries=entries,
        )
        for key, (amount, functional, entries) in sorted(found.items())
        if amount or functional
    )  # fmt: skip


def _check(journal: Journal, pairs: Iterable[JournalPair]) -> None:
    """The pairs add up to the journal's lines: nobody has changed what was counted when it was made."""
    said: dict[tuple[str, str, Side], tuple[int, int]] = {}
    for line in journal.lines:
        key = (line.currency, line.role, line.side)
        amount, functional = said.get(key, (0, 0))
        said[key] = (amount + line.amount_minor, functional + line.functional_minor)
    found: dict[tuple[str, str, Side], tuple[int, int]] = {}
    for pair in pairs:
        for role, side in ((pair.debit, Side.DEBIT), (pair.credit, Side.CREDIT)):
            amount, functional = found.get((pair.currency, role, side), (0, 0))
            found[(pair.currency, role, side)] = (amount + pair.amount_minor, functional + pair.functional_minor)
    different = [key for key in said.keys() | found.keys() if said.get(key, (0, 0)) != found.get(key, (0, 0))]
    if different:
        currency, role, side = min(different)
        raise IntegrityFault(
            f"journal {journal.name} is not what its entries add up to: {side.value} of {role} in {currency}",
            currency=currency, role=role,
        )  # fmt: skip


class EntryBehind(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that a journal line is summed from, the event that made it, and what it adds to the line.

    Amounts are positive minor units: those of the line's side.
    """

    position: int
    number: int
    source: str
    event_id: str
    event_type: str
    kind: str
    customer: str | None
    block_id: str | None
    accounting_date: date
    effective_date: date
    amount_minor: int
    currency: str
    functional_minor: int


ENTRIES_OF_PAIRS: Final = f"""
-- The entries that move amounts through some pairs, in a period and an interval of cuts; a kind may do so twice.
SELECT e.position, e.number, v.source, v.event_id, v.type, e.kind, e.customer, e.block_id, e.accounting_date,
       e.effective_date, abs(e.amount_minor) * moves.times, e.currency, abs(e.functional_minor) * moves.times
FROM entries e
JOIN dimension_sets s ON s.ledger = e.ledger AND s.dimension_set = e.dimension_set
JOIN events v ON v.ledger = e.ledger AND v.position = e.position
CROSS JOIN LATERAL (
    SELECT count(*) AS times FROM posting_rules r
    JOIN unnest(%(debit)s::text[], %(credit)s::text[], %(currency)s::text[], %(product)s::text[],
                %(credit_kind)s::text[], %(pool)s::text[], %(processor)s::text[], %(customer)s::text[],
                %(block_id)s::text[], %(attributes)s::text[])
         AS p (debit, credit, currency, product, credit_kind, pool, processor, customer, block_id, attributes)
      ON {WRITTEN} AND p.debit = r.debit AND p.credit = r.credit
         OR {MIRRORED} AND p.debit = r.credit AND p.credit = r.debit
    WHERE r.ledger = %(ledger)s AND r.policy = e.policy AND r.kind = e.kind AND p.currency = e.currency
      AND p.product = s.product AND p.credit_kind = s.credit_kind AND p.pool = s.pool AND p.processor = s.processor
      AND (NOT %(by_customer)s OR p.customer = coalesce(e.customer, ''))
      AND (NOT %(by_block)s OR p.block_id = coalesce(e.block_id, ''))
      AND (NOT %(by_attributes)s OR p.attributes::jsonb = coalesce((
          SELECT c.attributes FROM journal_customers c WHERE c.ledger = %(ledger)s AND c.period = %(period)s
                                                         AND c.number = %(number)s AND c.customer = e.customer
      ), '{{}}'))
) AS moves
WHERE e.ledger = %(ledger)s AND e.accounting_date BETWEEN %(first_day)s AND %(last_day)s
  AND e.cut > %(from_cut)s AND e.cut <= %(to_cut)s
  AND (e.amount_minor <> 0 OR e.functional_minor <> 0) AND moves.times > 0
  AND e.position BETWEEN %(first_position)s AND %(last_position)s
  AND (e.position, e.number) > (%(after_position)s, %(after_number)s)
ORDER BY e.position, e.number LIMIT %(limit)s
"""


def entries_behind_line(
    connection: Connection, journal: Journal, number: int, *, after: tuple[int, int] | None = None, limit: int = 100
) -> list[EntryBehind]:
    """The entries a line of the journal itself is summed from. Raises UnknownExport where there is no such line."""
    line = journal.line(number)
    mapping = mapping_of(connection, journal.ledger, journal.mapping)
    pairs = [
        pair
        for pair in pairs_of(connection, journal)
        if (pair.debit if line.side is Side.DEBIT else pair.credit) == line.role
        and all(
            getattr(pair, name) == getattr(line, name)
            for name in ("currency", "product", "credit_kind", "pool", "processor")
        )
        and pair.account(line.role, mapping) == line.account
    ]
    return entries_behind(connection, journal, pairs, after=after, limit=limit)


_OF_A_PAIR: Final = (
    "debit", "credit", "currency", "product", "credit_kind", "pool", "processor", "customer", "block_id",
)  # fmt: skip


def entries_behind(
    connection: Connection,
    journal: Journal,
    pairs: Sequence[JournalPair],
    level: Level = "dimension",
    *,
    after: tuple[int, int] | None = None,
    limit: int = 100,
) -> list[EntryBehind]:
    """The entries some pairs of a journal are summed from, after (position, number), in that order.

    Their amounts add up to those of the pairs. Those behind a reversal are those of what it reverses.
    """
    if journal.reverses is not None:
        pairs = [mirrored(pair) for pair in pairs]
    parameters = {
        **with_positions(connection, interval_of(journal)),
        **{name: [getattr(pair, name) for pair in pairs] for name in _OF_A_PAIR},
        "attributes": [canonical({name: value for name, value in pair.attributes if value}) for pair in pairs],
        "by_customer": level in ("customer", "block"), "by_block": level == "block",
        "by_attributes": bool(journal.customers_hash), "period": str(journal.period), "number": journal.kept_number,
        "after_position": after[0] if after else 0, "after_number": after[1] if after else 0, "limit": limit,
    }  # fmt: skip
    names = EntryBehind.__struct_fields__
    return [EntryBehind(**dict(zip(names, row, strict=True))) for row in rows(connection, ENTRIES_OF_PAIRS, parameters)]
