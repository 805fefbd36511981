"""Verifying a ledger: the hash chain, a replay against everything derived, the invariants of the books.

Each file answers one question and owns the checks named beside it; a difference carries the name of its check.

    verification  is every event what was hashed,          log, entries, closed_period, cut
                  every entry what follows from it?
    chain         does the chain hold, to the head?        chain, head, ledgers (its settings)
    derived       is every derived row what the log makes? the name of the table
    policies      are the posting rules sound,             policy, entry
                  and each entry by itself?
    blocks        does every block hold, in every view?    block
    pools         is recognised breakage the formula, and  pool
                  nothing left at a pool's end?
    positions     is what is owed and held                 position, receivable, unbilled, dispute,
                  what the entries say?                    unclaimed, payment
    reversals     is every reversal a mirror?              reversal
    totals        do the books tie as a whole?             trial_balance, control
    handed_over   do journals, their files and approvals   journals, journal_exports, approvals
                  say what the log says?

Reads one snapshot, so it is right while writers go on. Does not own: the fold (replay), mending (rebuild).
The events, their leaves and the chain are taken at their word only as far as they agree with each other: who can
rewrite all of them, to the head, is found by a signed checkpoint kept elsewhere, not here.
"""

from __future__ import annotations

from projections.integrity.findings import MAX_A_CHECK, Difference, Report
from projections.integrity.verification import Progress, verify

__all__ = ["MAX_A_CHECK", "Difference", "Progress", "Report", "verify"]
