"""Verification of a ledger: the hash chain, a replay of the log, the invariants of the books.

The table shows for each file the comparison that it makes, and the names of its checks. Each difference has the name of
a check.

    share         events with their hashes, entries        log, entries, closed_period, cut
                  with their decisions
    chain         batches with the chain, to the head      chain, log (missing events), head, ledgers (its settings)
    derived       derived rows with a replay of the log    the name of the table
    ledger        the ledger's own rows, the same way      as above
    policies      posting rules with the chart and the     policy, entry
                  kinds; entries with the rules
    blocks        the invariants of a block, in every view block
    pools         recognised breakage with the formula;    pool
                  no balance at a cohort's end
    positions     money owed and owned with the entries    position, receivable, unbilled, dispute,
                                                           unclaimed, payment, refund
    reversals     reversals with their originals           reversal
    totals        the books as a whole                     trial_balance, control
    handed_over   journals, their files and approvals      journals, journal_exports, approvals
                  with the log
    schema        triggers, constraints, functions and     schema
                  rights with the migrations
    seen          the log with tree heads that were        seen
                  signed or verified before
    sealed        rows outside the log with their seals    the name of the table, such as deliveries and
                  and counts                               delivery_steps; tallies, rejected_events and
                                                           rejection_steps (their consistency)

A verification reads one snapshot of the database. So its result is correct while writers continue. If there is enough
work, several processes read the snapshot.

The events, their leaves and the chain are compared with each other. A person who rewrites all three, up to the head,
can make them consistent. Then only tree heads that were signed or verified earlier differ from the log. Copies of these
tree heads are stored outside the database.

A verification since the last clean verification does not read again the events that the clean verification read.

Does not own: the replay (replay), the saved progress of an interrupted run (resumable), repairs (rebuild).
"""

from __future__ import annotations

from projections.integrity.seen import Seen, Unreadable
from projections.integrity.verification import verify
from projections.replay.findings import MAX_A_CHECK, Difference, VerificationReport
from projections.replay.resumable import ResumableRuns, Start
from projections.replay.workers import Progress

__all__ = [
    "MAX_A_CHECK",
    "Difference",
    "Progress",
    "ResumableRuns",
    "Seen",
    "Start",
    "Unreadable",
    "VerificationReport",
    "verify",
]
