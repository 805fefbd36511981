"""Verifying a ledger: the hash chain, a replay against everything derived, the invariants of the books.

Each file answers one question and owns the checks named beside it; a difference carries the name of its check.

    share         is every event what was hashed,          log, entries, closed_period, cut
                  every entry what follows from it?
    chain         does the chain hold, to the head?        chain, log (what is missing), head, ledgers (its settings)
    derived       is every derived row what the log makes? the name of the table
    ledger        what belongs to the ledger as a whole    as above
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
    schema        are triggers, constraints, functions     schema
                  and rights those of the migrations?
    seen          is it the log that was signed, or        seen
                  verified, before?
    sealed        is every row outside the log what was    the name of the table, such as deliveries and
                  written, and none missing?               delivery_steps; tallies, rejected_events and
                                                           rejection_steps (whether they fit together)

Reads one snapshot, by several processes where there is enough to do, so it is right while writers go on. Does not
own: the fold (replay), what an interrupted one goes on from (kept), mending (rebuild).
The events, their leaves and the chain are taken at their word only as far as they agree with each other: who rewrites
all of them, to the head, is found by what was signed or verified before, of which a copy is outside the database. A
verification since the last clean one also takes at its word what that one has looked at.
"""

from __future__ import annotations

from projections.integrity.seen import Seen, Unreadable
from projections.integrity.verification import Progress, verify
from projections.replay.findings import MAX_A_CHECK, Difference, Report
from projections.replay.kept import Kept, Start

__all__ = ["MAX_A_CHECK", "Difference", "Kept", "Progress", "Report", "Seen", "Start", "Unreadable", "verify"]
