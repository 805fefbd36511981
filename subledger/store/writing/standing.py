"""Standings in other currencies at the end of a day, summed from the entries, for the remeasurement of a period.

Owns: these queries. Does not own: the remeasurement (deciding/currencies).
"""

from __future__ import annotations

from datetime import date
from typing import Final

from subledger.billing_documents import NO_STANDING, Standing, subaccount_of
from subledger.deciding.currencies import StandingKey
from subledger.kinds import KINDS, LEDGER_ROLES, REMEASURED_ROLES
from subledger.store.database import WriteConnection

STANDING: Final = """
-- Standings in other currencies than the functional one, through a day, by block, customer or processor.
SELECT CASE WHEN k.of_ledger THEN NULL ELSE e.customer END AS customer, k.role, e.currency,
       coalesce(CASE WHEN k.role = 'processor_clearing' THEN nullif(d.processor, '')
                     WHEN k.of_ledger THEN NULL ELSE e.block_id END, '') AS carried_for,
       sum(k.sign * e.amount_minor)::bigint AS amount, sum(k.sign * e.functional_minor)::bigint AS functional
FROM entries e
JOIN unnest(%(kinds)s::text[], %(roles)s::text[], %(signs)s::int[], %(of_ledger)s::boolean[])
     AS k (kind, role, sign, of_ledger) ON k.kind = e.kind
JOIN dimension_sets d ON d.ledger = e.ledger AND d.dimension_set = e.dimension_set
WHERE e.ledger = %(ledger)s AND e.currency <> %(functional_currency)s AND e.accounting_date <= %(on)s
  AND (e.customer = ANY(%(customers)s) OR e.customer IS NULL)
GROUP BY 1, 2, 3, 4
"""
WITH_OTHER_CURRENCIES: Final = """
-- The customers that have entries in another currency than the functional one; an empty text is the ledger as a whole.
SELECT customer FROM other_currencies WHERE ledger = %s ORDER BY customer
"""
REFUNDABLE: Final = """
-- The blocks, of the given ones, that were bought as refundable.
SELECT b.block_id FROM blocks b
LEFT JOIN LATERAL (
    SELECT o.state FROM wallet_parts o
    WHERE o.ledger = %(ledger)s AND o.customer = b.customer AND o.kind = 'block' AND o.part_id = b.block_id
    OFFSET 0  -- or else a table without statistics is read whole for each block
) p ON true
LEFT JOIN wallets w ON w.ledger = b.ledger AND w.customer = b.customer AND b.is_open AND p.state IS NULL
WHERE b.ledger = %(ledger)s AND b.block_id = ANY(%(blocks)s)
  AND coalesce((coalesce(b.state, p.state)::jsonb ->> 'refundable')::boolean,
               (SELECT (open.block ->> 'refundable')::boolean
                FROM jsonb_array_elements(w.state::jsonb -> 'blocks') AS open (block)
                WHERE open.block ->> 'block_id' = b.block_id), false)
"""


def _effects() -> list[tuple[str, str, int, bool]]:
    """Returns every effect on a remeasured role: kind, role, sign (debits positive), and True if the role is the
    ledger's.
    """
    effects = []
    for kind in KINDS:
        for role, sign in ((kind.debit_role, 1), (kind.credit_role, -1)):
            if role in REMEASURED_ROLES:
                effects.append((kind.name, role, sign, role in LEDGER_ROLES))
        if kind.column is not None:
            effects.append((kind.name, "prepaid_liability", -kind.sign, False))
    return effects


def standing_at(
    connection: WriteConnection, ledger: str, on: date, functional_currency: str
) -> dict[str | None, dict[StandingKey, Standing]]:
    """Returns the standings by customer (None: the ledger as a whole) that are not zero in both currencies.

    It reads only the entries of customers that have entries in another currency, independent of the size of the ledger.
    """
    customers = [customer for (customer,) in connection.execute(WITH_OTHER_CURRENCIES, (ledger,))]
    if not customers:
        return {}
    kinds, roles, signs, of_ledger = (list(column) for column in zip(*_effects(), strict=True))
    parameters = {
        "ledger": ledger,
        "functional_currency": functional_currency,
        "on": on,
        "kinds": kinds,
        "roles": roles,
        "signs": signs,
        "of_ledger": of_ledger,
        "customers": customers,
    }
    found: dict[str | None, dict[StandingKey, Standing]] = {}
    for customer, role, currency, carried_for, amount, functional in connection.execute(STANDING, parameters):
        # A role without a standing for each block has one standing for all blocks.
        key = (role, currency, carried_for if role == "prepaid_liability" else subaccount_of(role, carried_for))
        so_far = found.setdefault(customer, {}).get(key, NO_STANDING)
        found[customer][key] = Standing(so_far.amount_minor + amount, so_far.functional_minor + functional)
    return {
        customer: nonzero
        for customer, standings in found.items()
        if (nonzero := {key: standing for key, standing in standings.items() if standing != NO_STANDING})
    }


def refundable_blocks(
    connection: WriteConnection, ledger: str, standing: dict[str | None, dict[StandingKey, Standing]]
) -> set[str]:
    """Finds the blocks of these standings whose liability is owed back in money. Such a liability is remeasured."""
    blocks = [block for theirs in standing.values() for role, _, block in theirs if role == "prepaid_liability"]
    if not blocks:
        return set()
    return {block_id for (block_id,) in connection.execute(REFUNDABLE, {"ledger": ledger, "blocks": blocks})}
