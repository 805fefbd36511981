"""The customers of a ledger, each with its number of blocks."""

from __future__ import annotations

from typing import Final

import msgspec
from sqlalchemy import Connection

from subledger.store.reading.queries import rows


class CustomerBlocks(msgspec.Struct, frozen=True, kw_only=True):
    """A customer, and the number of its blocks and of its open blocks."""

    customer: str
    blocks: int
    open_blocks: int


CUSTOMERS: Final = """
-- Customers in order of id, each with its number of blocks and of open blocks.
SELECT w.customer,
       (SELECT count(*) FROM blocks b WHERE b.ledger = %(ledger)s AND b.customer = w.customer) AS blocks,
       (SELECT count(*) FROM blocks b WHERE b.ledger = %(ledger)s AND b.customer = w.customer AND b.is_open)
FROM wallets w
WHERE w.ledger = %(ledger)s AND w.customer > %(after)s ORDER BY w.customer LIMIT %(limit)s
"""


def customers_page(connection: Connection, ledger: str, *, after: str, limit: int) -> list[CustomerBlocks]:
    """The customers with an id greater than ``after``, in order of id."""
    found = rows(connection, CUSTOMERS, {"ledger": ledger, "after": after, "limit": limit})
    return [CustomerBlocks(customer=customer, blocks=blocks, open_blocks=open_) for customer, blocks, open_ in found]
