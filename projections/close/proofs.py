"""The proofs of a close: the invariants of the books through a period's last day.

They run in the transaction of the close, on the day totals, so a month of ten million events takes no longer than one
of a thousand. Only money in other currencies is added up from entries, for the customers that have some. A verification
(integrity) checks the rest: that the totals are the sums of the entries, each block, each view.

Owns: the proofs. Does not own: the close (close).

A total is read under the policy under which its entries were posted, so a ledger may change its policy. The invariants
of a changed policy are in integrity/blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from typing import Any, Final

from projections.close.remeasuring import movements_due
from subledger.accounts import ROLE_BY_NAME
from subledger.errors import IntegrityFault
from subledger.kinds import KIND_BY_NAME, KINDS
from subledger.store.database import WriteConnection
from subledger.store.reading.queries import rows
from subledger.store.writing.rows import load_books

TOTALS_WITHOUT_RULE: Final = """
-- Kinds in the day totals without a rule in their policy; kinds that move nothing have none.
SELECT d.policy, d.kind FROM ledger_days d
WHERE d.ledger = %(ledger)s AND d.accounting_date <= %(through)s
  AND (d.written_minor <> 0 OR d.mirrored_minor <> 0
       OR d.functional_written_minor <> 0 OR d.functional_mirrored_minor <> 0)
  AND NOT EXISTS (SELECT FROM posting_rules r
                  WHERE r.ledger = %(ledger)s AND r.policy = d.policy AND r.kind = d.kind)
ORDER BY d.policy, d.kind LIMIT 1
"""
TRIAL_BALANCE: Final = """
-- Debits and credits over the accounts of the chart, by currency. A rule that names another account unbalances them.
SELECT d.currency,
       sum((d.written_minor + d.mirrored_minor) * (r.debit = ANY(%(roles)s))::int) AS debit,
       sum((d.written_minor + d.mirrored_minor) * (r.credit = ANY(%(roles)s))::int) AS credit,
       sum((d.functional_written_minor + d.functional_mirrored_minor) * (r.debit = ANY(%(roles)s))::int) AS f_debit,
       sum((d.functional_written_minor + d.functional_mirrored_minor) * (r.credit = ANY(%(roles)s))::int) AS f_credit,
       min(CASE WHEN r.debit <> ALL(%(roles)s) THEN r.debit WHEN r.credit <> ALL(%(roles)s) THEN r.credit END) AS other
FROM ledger_days d
JOIN posting_rules r ON r.ledger = d.ledger AND r.policy = d.policy AND r.kind = d.kind
WHERE d.ledger = %(ledger)s AND d.accounting_date <= %(through)s
GROUP BY d.currency ORDER BY d.currency
"""
FUNCTIONAL_AMOUNTS: Final = """
-- Days and kinds whose amount in the functional currency differs from their functional amount.
SELECT accounting_date, policy, kind, sum(written_minor - mirrored_minor) AS amount,
       sum(functional_written_minor - functional_mirrored_minor) AS functional
FROM ledger_days
WHERE ledger = %(ledger)s AND accounting_date <= %(through)s AND currency = %(functional_currency)s
GROUP BY accounting_date, policy, kind
HAVING sum(written_minor) <> sum(functional_written_minor) OR sum(mirrored_minor) <> sum(functional_mirrored_minor)
ORDER BY accounting_date, policy, kind LIMIT 1
"""
CONTROL_FAULTS: Final = """
-- Currencies whose liability is negative, differs from deposits and clearing, differs from the sum of the blocks'
-- columns, or is not zero without credits; in the currency and in the functional one. Under several policies deposits
-- and clearing are equal. They also equal the liability only if all policies are deposit policies.
WITH rules AS (
    SELECT r.policy, r.kind,
           sum((r.credit = 'prepaid_liability')::int - (r.debit = 'prepaid_liability')::int) AS liability,
           sum((r.credit = 'customer_deposits')::int - (r.debit = 'customer_deposits')::int) AS deposits,
           sum((r.debit = 'credits_clearing')::int - (r.credit = 'credits_clearing')::int) AS clearing
    FROM posting_rules r WHERE r.ledger = %(ledger)s GROUP BY r.policy, r.kind
), effects AS (
    SELECT p.policy, k.kind, k.sign, k.value_sign, coalesce(r.liability, 0) AS liability,
           coalesce(r.deposits, 0) AS deposits, coalesce(r.clearing, 0) AS clearing,
           EXISTS (SELECT FROM rules o WHERE o.policy = p.policy AND o.kind = 'purchase' AND o.deposits <> 0) AS paired
    FROM unnest(%(kinds)s::text[], %(signs)s::int[], %(value_signs)s::int[]) AS k (kind, sign, value_sign)
    CROSS JOIN (SELECT DISTINCT policy FROM rules) AS p
    LEFT JOIN rules r ON r.policy = p.policy AND r.kind = k.kind
), totals AS (
    SELECT policy, kind, currency, sum(written_minor - mirrored_minor) AS amount,
           sum(functional_written_minor - functional_mirrored_minor) AS functional, sum(credits) AS credits
    FROM ledger_days WHERE ledger = %(ledger)s AND accounting_date <= %(through)s
    GROUP BY policy, kind, currency
), control AS (
    SELECT t.currency, sum(t.credits * f.sign) AS left_credits,
           sum(t.amount * f.liability) AS liability, sum(t.functional * f.liability) AS f_liability,
           sum(t.amount * f.sign) AS carried, sum(t.functional * f.value_sign) AS f_carried,
           sum(t.amount * f.deposits) AS deposits, sum(t.functional * f.deposits) AS f_deposits,
           sum(t.amount * f.clearing) AS clearing, sum(t.functional * f.clearing) AS f_clearing,
           coalesce(bool_and(f.paired) FILTER (WHERE f.liability <> 0), true) AS paired,
           coalesce(bool_and(NOT f.paired) FILTER (WHERE f.liability <> 0), true) AS plain
    FROM totals t JOIN effects f ON f.policy = t.policy AND f.kind = t.kind
    GROUP BY t.currency
)
SELECT currency, left_credits, liability, f_liability, carried, f_carried, deposits, f_deposits, clearing, f_clearing
FROM control
WHERE liability < 0 OR f_liability < 0 OR left_credits < 0
   OR (left_credits = 0 AND (liability <> 0 OR f_liability <> 0))
   OR (left_credits = 0 AND (paired OR plain)
       AND (deposits <> 0 OR clearing <> 0 OR f_deposits <> 0 OR f_clearing <> 0))
   OR liability <> carried OR f_liability <> f_carried
   OR deposits <> clearing OR f_deposits <> f_clearing
   OR (paired AND (liability <> deposits OR f_liability <> f_deposits))
ORDER BY currency LIMIT 1
"""

_Proof = Callable[[WriteConnection, dict[str, Any]], Iterator[str]]


def prove(connection: WriteConnection, ledger: str, functional_currency: str, through: date) -> None:
    """Proves the invariants of the books through a day. Raises IntegrityFault naming the first that does not hold.

    The trial balance balances. The liability equals the sum of the columns of all blocks, is never negative, and is
    zero without credits. Under the deposit policies it equals deposits and clearing. Money in other currencies has the
    rate of the day. The recognised breakage of each cohort agrees with its formula. All of this holds in the currency
    and in the functional currency.
    """
    parameters: dict[str, Any] = {"ledger": ledger, "through": through, "functional_currency": functional_currency}
    # The rules are proved first: the other queries join totals with rules, and would leave out a total without a rule.
    proofs: tuple[_Proof, ...] = (_totals, _trial_balance, _functional_amounts, _control, _remeasured, _pools)
    for proof in proofs:
        for message in proof(connection, parameters):
            raise IntegrityFault(f"ledger {ledger} through {through}: {message}", ledger=ledger, through=str(through))


def _totals(connection: WriteConnection, parameters: dict[str, Any]) -> Iterator[str]:
    for policy, kind in rows(connection, TOTALS_WITHOUT_RULE, parameters):
        yield f"policy {policy} has no rule for {kind}"


def _trial_balance(connection: WriteConnection, parameters: dict[str, Any]) -> Iterator[str]:
    for currency, debit, credit, f_debit, f_credit, other in rows(
        connection, TRIAL_BALANCE, {**parameters, "roles": list(ROLE_BY_NAME)}
    ):
        if (debit, f_debit) != (credit, f_credit):
            yield (
                f"the trial balance in {currency} debits {debit} ({f_debit} functional) and credits {credit}"
                f" ({f_credit} functional): {other} is no account of the chart"
            )


def _functional_amounts(connection: WriteConnection, parameters: dict[str, Any]) -> Iterator[str]:
    for day, policy, kind, amount, functional in rows(connection, FUNCTIONAL_AMOUNTS, parameters):
        yield f"{kind} on {day} (policy {policy}) is {amount}, and {functional} in the same currency"


def _control(connection: WriteConnection, parameters: dict[str, Any]) -> Iterator[str]:
    kinds = {
        "kinds": [kind.name for kind in KINDS],
        "signs": [kind.sign for kind in KINDS],
        "value_signs": [kind.value_sign for kind in KINDS],
    }
    for currency, credits, *figures in rows(connection, CONTROL_FAULTS, {**parameters, **kinds}):
        pairs = zip(figures[::2], figures[1::2], strict=True)
        liability, carried, deposits, clearing = (f"{amount} ({functional} functional)" for amount, functional in pairs)
        yield (
            f"in {currency}: {credits} credits left, prepaid_liability {liability}, carrying amount {carried},"
            f" customer_deposits {deposits}, credits_clearing {clearing}"
        )


def _remeasured(connection: WriteConnection, parameters: dict[str, Any]) -> Iterator[str]:
    """Yields the differences of money in other currencies from its amount at the rate of the day."""
    on = parameters["through"]
    for customer, movements in movements_due(connection, parameters["ledger"], on, parameters["functional_currency"]):
        for movement in movements:
            role = KIND_BY_NAME[movement.kind].debit_role
            subject = movement.block_id or movement.processor
            of = f" of {subject}" if subject else "" if customer is None else f" of {customer}"
            out_by = f"{movement.functional_minor} functional at the rate of {on}"
            yield f"{role} in {movement.currency}{of} is out by {out_by}"


def _pools(connection: WriteConnection, parameters: dict[str, Any]) -> Iterator[str]:
    for cohort in load_books(connection, parameters["ledger"]).pools.all_cohorts():
        due = (cohort.due_minor(), cohort.due_functional())
        recognised = (cohort.recognised_minor, cohort.recognised_functional)
        foreign = cohort.currency != parameters["functional_currency"]
        if due[0] != recognised[0] or (foreign and due[1] != recognised[1]):
            yield f"{cohort.name} has recognised {recognised}, and the formula is {due} (money, functional money)"
