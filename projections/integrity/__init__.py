"""Verifying a ledger: the hash chain, a replay against all derived tables, the invariants of the books.

Each file makes the comparison named here and owns the checks beside it; a difference has the name of its check.

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

A verification reads one snapshot of the database, so it is correct while writers continue. Several processes read it if
there is enough work.

The events, their leaves and the chain are compared with each other. If somebody rewrites all of them consistently, to
the head, only tree heads that were signed or verified before can show it. A copy of these is stored outside the
database. A verification since the last clean one does not read the events again that the last clean one has read.

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
