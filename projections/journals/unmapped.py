"""Check that every role with movements has a GL account, before a close and in the checklist.

If the mapping depends on attributes of customers, their current values are checked. A later journal uses the values at
its own time, and is refused with the same error if a role has no account.

Owns: the movements of a period, by the fields on which a mapping depends. Does not own: the accounts (mapping).
"""

from __future__ import annotations

from typing import Final

from projections.account_mapping.mapping import AccountMapping, Attributes, mapping_for
from projections.account_mapping.rows import CUSTOMER, DIMENSION, KEY_COLUMNS
from projections.journals.interval import interval, with_positions
from projections.journals.journal_customers import attributes_from
from subledger.errors import UnmappedRole
from subledger.ledger import LedgerState
from subledger.own_dimensions import of_role, text_of
from subledger.periods import Period
from subledger.store.reading.queries import AnyConnection, rows

MOVED: Final = """
-- The combinations that moved in a period, by the fields on which a mapping depends.
SELECT DISTINCT moved.role, s.product, s.credit_kind, s.refundable, d.currency, s.own, s.usage, ''
FROM ledger_days d
JOIN dimension_sets s ON s.ledger = d.ledger AND s.dimension_set = d.dimension_set
JOIN posting_rules r ON r.ledger = d.ledger AND r.policy = d.policy AND r.kind = d.kind
CROSS JOIN LATERAL (VALUES (r.debit), (r.credit)) AS moved (role)
WHERE d.ledger = %(ledger)s AND d.accounting_date BETWEEN %(first_day)s AND %(last_day)s
  AND (d.written_minor <> 0 OR d.mirrored_minor <> 0
       OR d.functional_written_minor <> 0 OR d.functional_mirrored_minor <> 0)
ORDER BY 1, 2, 3, 4, 5, 6, 7
"""
MOVED_BY_CUSTOMERS: Final = """
-- The same, with the current values of some attributes of customers. This is one pass over the month's entries.
WITH of_customers AS (
    SELECT DISTINCT e.ledger, e.policy, e.kind, e.currency, e.dimension_set, e.customer FROM entries e
    WHERE e.ledger = %(ledger)s AND e.accounting_date BETWEEN %(first_day)s AND %(last_day)s
      AND e.cut > %(from_cut)s AND e.cut <= %(to_cut)s AND (e.amount_minor <> 0 OR e.functional_minor <> 0)
      AND e.position BETWEEN %(first_position)s AND %(last_position)s
), by_attributes AS (
    SELECT DISTINCT o.ledger, o.policy, o.kind, o.currency, o.dimension_set, used.attributes
    FROM of_customers o
    LEFT JOIN customer_attributes a ON a.ledger = o.ledger AND a.customer = o.customer
    CROSS JOIN LATERAL (
        SELECT jsonb_object_agg(said.key, said.value) AS attributes FROM jsonb_each(a.attributes) AS said (key, value)
        WHERE said.key = ANY(%(names)s::text[]) AND said.value <> '""'::jsonb
    ) AS used
)
SELECT DISTINCT moved.role, s.product, s.credit_kind, s.refundable, b.currency, s.own, s.usage,
       coalesce(b.attributes::text, '')
FROM by_attributes b
JOIN dimension_sets s ON s.ledger = b.ledger AND s.dimension_set = b.dimension_set
JOIN posting_rules r ON r.ledger = b.ledger AND r.policy = b.policy AND r.kind = b.kind
CROSS JOIN LATERAL (VALUES (r.debit), (r.credit)) AS moved (role)
WHERE b.ledger = %(ledger)s
ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
"""

_Combination = tuple[str, str, str, str, str, Attributes, Attributes]
"""The key columns, then the own dimensions and the attributes of customers on which the account depends."""


def unmapped(connection: AnyConnection, ledger: str, period: Period, mapping: AccountMapping) -> list[dict[str, str]]:
    """Returns the combinations that moved in a period and have no account in a mapping. Each names all its fields."""
    return [
        {column: cell for column, cell in zip(KEY_COLUMNS, named, strict=True) if cell or column != "refundable"}
        | {f"{DIMENSION}{name}": value for name, value in own}
        | {f"{CUSTOMER}{name}": value for name, value in attributes}
        for *named, own, attributes in _missing(connection, ledger, period, mapping)
    ]


def check_mapped(connection: AnyConnection, state: LedgerState, period: Period) -> None:
    """Raises UnmappedRole if a combination that moved in a period has no account."""
    _, mapping = mapping_for(connection, state.ledger, period)
    for combination in _missing(connection, state.ledger, period, mapping):
        _resolve(mapping, combination)


def _resolve(mapping: AccountMapping, combination: _Combination) -> None:
    """Raises UnmappedRole."""
    role, product, credit_kind, refundable, currency, own, attributes = combination
    texts = text_of({name: value for name, value in own if value})
    mapping.resolve(role, product, credit_kind, currency, attributes, refundable=refundable, own=texts)


def _missing(connection: AnyConnection, ledger: str, period: Period, mapping: AccountMapping) -> list[_Combination]:
    """Returns the missing combinations, with only those attributes on which the account depends."""
    parameters = interval(ledger, period)
    if mapping.attributes:
        parameters = {**with_positions(connection, parameters), "names": list(mapping.attributes)}
    missing: dict[_Combination, None] = {}
    for role, product, credit_kind, refundable, currency, own, usage, text in rows(
        connection, MOVED_BY_CUSTOMERS if mapping.attributes else MOVED, parameters
    ):
        attributes = mapping.named_for(role, attributes_from(text, mapping.attributes))
        dimensions = mapping.own_for(role, of_role(role, own, usage))
        combination = (role, product, credit_kind, refundable, currency, dimensions, attributes)
        try:
            _resolve(mapping, combination)
        except UnmappedRole:
            missing[combination] = None
    return list(missing)
