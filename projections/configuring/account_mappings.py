"""Command: adopting an account mapping.

Owns: the conditions for adopting one. Does not own: reading and checking its rows (account_mapping/rows), the mapping
of a period (account_mapping/mapping).
"""

from __future__ import annotations

from typing import Final

from projections.account_mapping.mapping import AccountMapping
from subledger.errors import InvalidMapping
from subledger.events.envelope import Event
from subledger.ledger import LedgerState
from subledger.own_events import mapping_adopted
from subledger.periods import Period
from subledger.store.database import WriteConnection
from subledger.store.reading.queries import rows
from subledger.store.writing.recorder import Recorder, ledger_now, raise_first

ROLES_POSTED: Final = """
-- The roles that entries of a ledger can be posted to under any policy that it has adopted: reversals keep theirs.
SELECT debit FROM posting_rules WHERE ledger = %(ledger)s
UNION SELECT credit FROM posting_rules WHERE ledger = %(ledger)s ORDER BY 1
"""
LAST_MAPPING: Final = """
-- The mapping that was adopted last, and its first month.
SELECT content_hash, valid_from FROM account_mappings WHERE ledger = %(ledger)s ORDER BY mapping DESC LIMIT 1
"""


def adopt_mapping(
    recorder: Recorder, ledger: str, mapping: AccountMapping, *, valid_from: Period | None = None, by: str | None = None
) -> bool:
    """Puts a mapping in force for journals made from now on; with ``valid_from``, for those of that month and later
    ones.

    So a later journal of an earlier month still has the accounts of its month. Returns False, and records nothing, if
    the same mapping was adopted last, from the same month.

    Raises UnknownLedger, and InvalidMapping naming:

    - every role that the ledger's policies can post to, and that has no row with empty key columns;
    - every own dimension that the ledger does not have.
    """
    first = None if valid_from is None else str(valid_from)

    def plan(connection: WriteConnection, state: LedgerState, _position: int) -> list[Event]:
        if (mapping.content_hash, first) in rows(connection, LAST_MAPPING, {"ledger": ledger}):
            return []
        _check_own_dimensions(state, mapping)
        _check_complete(connection, state, mapping)
        return [
            mapping_adopted(
                mapping.rows,
                mapping.content_hash,
                number=state.mapping + 1,
                at=ledger_now(connection, state),
                by=by,
                valid_from=valid_from,
            )
        ]

    outcomes = recorder.transact(ledger, plan)
    raise_first(outcomes)
    return bool(outcomes)


def _check_own_dimensions(state: LedgerState, mapping: AccountMapping) -> None:
    """Raises InvalidMapping if a mapping uses an own dimension that the ledger does not have."""
    unknown = [name for name in mapping.own_dimensions if name not in state.dimensions]
    if unknown:
        raise InvalidMapping(
            f"the mapping goes by dimension.{unknown[0]}, and ledger {state.ledger} has no dimension {unknown[0]}; "
            f"add it first: `subledger ledger configure {state.ledger} --dimension {unknown[0]}`",
            field=f"dimension.{unknown[0]}",
            expected=f"one of: {', '.join(state.dimensions) or 'none'}",
            found=unknown[0],
        )


def _check_complete(connection: WriteConnection, state: LedgerState, mapping: AccountMapping) -> None:
    mapped = mapping.roles_mapped
    missing = [role for (role,) in rows(connection, ROLES_POSTED, {"ledger": state.ledger}) if role not in mapped]
    if missing:
        raise InvalidMapping(
            f"the mapping has no row, or only rows with narrower keys, for {', '.join(missing)}: ledger {state.ledger} "
            "can post to these roles, and its months could not be closed; add a row for each of them in which product, "
            "credit_kind, refundable, currency, own dimensions and customer attributes are empty",
            field="role",
            expected="such a row for every role that the ledger's posting policies name",
            found=", ".join(sorted(mapped))[:200],
            missing=missing,
        )
