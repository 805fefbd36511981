"""The steps of a verification: the log in parts, on one database snapshot, then the checks over all parts.

The chain is followed event by event. The customers are checked share by share, each share through the whole log. The
ledger's own part is separate. The database computes the sums that need no replay. Several processes work on the parts
if there is enough work. Owns: the parts, their order, the sums over them. Does not own: any check.

Memory of a process: one share, a chunk of the log, and a hash per 256 events. The number of shares limits it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from projections.integrity.handed_over import approval_faults, journal_faults
from projections.integrity.ledger import LedgerVerification, verify_ledger
from projections.integrity.pools import Carried
from projections.integrity.positions import PositionKey, ledger_faults
from projections.integrity.reversals import reversal_faults
from projections.integrity.schema import schema_faults
from projections.integrity.sealed import sealed_faults
from projections.integrity.seen import Seen, Unreadable, seen_faults
from projections.integrity.share import ShareFindings, verify_share
from projections.integrity.snapshots import compare_snapshots
from projections.integrity.totals import journal_line_sums, total_faults
from projections.replay.chain import Chain, follow_chain, read_head
from projections.replay.comparing import compare_table
from projections.replay.derived_tables import DERIVED, DERIVED_BY_NAME
from projections.replay.findings import Breach, Findings, VerificationReport
from projections.replay.log_stream import EVERYTHING, RecordedDays, Share, recorded_days
from projections.replay.other_currencies import compare_other_currencies
from projections.replay.resumable import Manifest, Part, ResumableRuns, Start, contradicted
from projections.replay.totals import Totals, rows_of_totals
from projections.replay.workers import (
    Advance,
    DatabaseSnapshot,
    Job,
    Progress,
    database_snapshot,
    no_progress,
    shares_for,
    workers_for,
)
from subledger.billing_documents import NO_STANDING, Standing
from subledger.blocks import NO_PORTION
from subledger.errors import UnknownLedger
from subledger.kinds import Dimensions
from subledger.store.database import Database, driver, without_nested_loops
from subledger.store.writing.dimension_sets import numbered_dimensions

STRAYS: Final = """
-- Positions that have entries but no event.
SELECT DISTINCT n.position FROM entries n
WHERE n.ledger = %(ledger)s
  AND NOT EXISTS (SELECT FROM events e WHERE e.ledger = %(ledger)s AND e.position = n.position) ORDER BY 1
"""
LAG: Final = """
-- The position through which all wallets' rows are written, if the ledger writes them behind.
SELECT wallets_through, position FROM ledgers WHERE ledger = %s
"""


def verify(
    database: Database,
    ledger: str,
    progress: Progress | None = None,
    *,
    workers: int | None = None,
    shares: int | None = None,
    resumable: ResumableRuns | None = None,
    how: Start = Start.ANEW,
    seen: Sequence[Seen | Unreadable] = (),
    earlier: Sequence[Manifest] = (),
) -> VerificationReport:
    """Runs every check on one ledger. Raises UnknownLedger; differences are in the report, not raised.

    ``workers`` is the number of processes: by default one per core, and only this process for a small ledger.
    ``shares`` is the number of parts of the customers. The default is the number that keeps the memory of a process
    bounded.

    With ``resumable`` the progress is saved. ``how`` is the start of the run: the first event, the progress of an
    interrupted run, or the end of the last clean run. A run from the last clean one does not read the events, entries
    and batches before that end again. So it does not find later changes of them; ``VerificationReport.since`` is that
    position. It still compares every derived row, sum and journal. Saved progress of another log is not used, and is
    reported as a difference. ``seen`` are earlier roots of the log that are stored outside the database. ``earlier``
    are saved runs, for callers without ``resumable``; they must belong to the ledger's log too.
    """
    with database_snapshot(database) as snapshot, without_nested_loops(driver(snapshot.connection)):
        return _Verification(
            snapshot, ledger, progress or no_progress, workers, shares, resumable, how, seen, earlier
        ).run()


class _Verification:
    def __init__(
        self,
        snapshot: DatabaseSnapshot,
        ledger: str,
        progress: Progress,
        workers: int | None,
        shares: int | None,
        resumable: ResumableRuns | None,
        how: Start,
        seen: Sequence[Seen | Unreadable],
        earlier: Sequence[Manifest],
    ) -> None:
        self._seen, self._earlier = seen, earlier
        self._contradicted: tuple[Manifest, ...] = ()
        self._snapshot = snapshot
        self._connection = snapshot.connection
        self._ledger = ledger
        self._progress = progress
        self._requested_workers, self._requested_shares = workers, shares
        self._resumable, self._how = resumable, how
        self._done = 0
        self._total = 0

    def run(self) -> VerificationReport:
        head = read_head(self._connection, self._ledger)
        if head is None:
            raise UnknownLedger(f"there is no ledger {self._ledger}", field="ledger", found=self._ledger)
        self._total = head.position
        workers = workers_for(self._connection, head.position, self._requested_workers)
        shares = self._requested_shares or shares_for(self._connection, self._ledger, head.position, workers)
        since = 0
        if self._resumable is not None:
            running = self._resumable.begin(self._connection, self._ledger, head, shares=shares, start=self._how)
            shares, since = running.shares, running.since
            self._contradicted = self._resumable.contradicted
        else:
            self._contradicted = tuple(contradicted(self._connection, self._ledger, self._earlier))
        days = recorded_days(self._connection, self._ledger)
        numbering = numbered_dimensions(driver(self._connection), self._ledger)
        parts = _Parts(*self._follow(numbering, days, shares, workers))
        true = dict(enumerate(parts.totals.numbered(), start=1))
        if parts.replayable and any(numbering.get(number) != dimensions for number, dimensions in true.items()):
            # If the table of dimension sets differs from the log, the log is read with its own dimension sets.
            self._done = since = 0
            if self._resumable is not None:
                self._resumable.forget()
            self._resumable = None
            parts = _Parts(*self._follow({**numbering, **true}, days, shares, workers))
        if self._done != self._total:
            self._progress(self._total, self._total)
        differences = self._all(parts, head).all()
        # A run with differences leaves no progress. The next one reads the same part of the log again and finds them
        # too.
        if self._resumable is not None and differences:
            self._resumable.forget()
        elif self._resumable is not None:
            self._resumable.end_clean()
        return VerificationReport(
            ledger=self._ledger, events=parts.events, entries=parts.entries, differences=differences, since=since
        )

    def _part(self, name: str) -> Part | None:
        return None if self._resumable is None else self._resumable.part(name)

    def _follow(
        self, numbering: dict[int, Dimensions], days: RecordedDays, shares: int, workers: int
    ) -> tuple[Chain, list[int], LedgerVerification, list[Any], list[ShareFindings]]:
        """Runs the parts, in as many processes as there are workers."""
        row = driver(self._connection).execute(LAG, (self._ledger,)).fetchone()
        lagging_after = row[0] if row is not None and row[0] != row[1] else None
        jobs: list[Job] = [
            (follow_chain, (self._ledger, self._part("chain"))),
            (_line_sums, (self._ledger,)),
            (_strays, (self._ledger,)),
            (_reversals, (self._ledger,)),
            (verify_ledger, (self._ledger, numbering, EVERYTHING, self._part("ledger"))),
        ]
        jobs += [
            (
                verify_share,
                (self._ledger, share, numbering, days, EVERYTHING, lagging_after, self._part(f"share-{share.number}")),
            )
            for share in (Share(number, shares) for number in range(shares))
        ]
        # The longest jobs are first. The small ones fill the gaps at the end.
        order = [0, *range(5, len(jobs)), 1, 2, 3, 4]
        done = self._snapshot.run([jobs[number] for number in order], workers, self._advance)
        results: list[Any] = [None] * len(jobs)
        for number, result in zip(order, done, strict=True):
            results[number] = result
        self._line_sums = results[1]
        chain, _, strays, reversals, own, *found = results
        return chain, strays, own, reversals, found

    def _advance(self, more: int) -> None:
        if more:
            self._done += more
            self._progress(self._done, max(self._done, self._total))

    def _all(self, parts: _Parts, head: Any) -> Findings:
        """Returns the findings in the log in the order of positions, then those at its head."""
        findings = Findings()
        for found in (parts.chain.findings, parts.own.log, *(found.log for found in parts.found)):
            findings.add(found)
        for position in parts.strays:
            findings.differ("log", f"position {position} has entries and no event", position=position)
        findings.sort()
        replayable = parts.replayable
        parts.chain.head(head, parts.own.replay.state if replayable else None, findings)
        for breach in seen_faults(self._connection, self._ledger, self._seen, self._contradicted):
            findings.breach(breach)
        for breach in schema_faults(driver(self._connection)):
            findings.breach(breach)
        # If the log cannot be replayed to its end, the correct derived rows are unknown. Every stored row would differ,
        # and thousands of differences would hide the one in the log.
        if not replayable:
            return findings
        for found in self._derived(parts):
            findings.add(found)
        for share in parts.found:
            findings.add(share.laws)
        for breach in self._at_head(parts):
            findings.breach(breach)
        for position, breach in parts.reversals:
            findings.breach(breach, position)
        return findings

    def _derived(self, parts: _Parts) -> Iterator[Findings]:
        """Yields the findings in the derived tables, in their order."""
        of_totals = rows_of_totals(parts.totals)
        for derived in DERIVED:
            if derived.name in of_totals:
                found = Findings()
                expected = of_totals[derived.name]
                compare_table(self._connection, self._ledger, DERIVED_BY_NAME[derived.name], expected, found)
                yield found
            elif derived.name == "merkle_nodes":
                yield parts.chain.compare_nodes(self._connection)
            elif derived.name in parts.own.derived:
                yield parts.own.derived[derived.name]
        for share in parts.found:
            yield share.derived
        found = Findings()
        compare_other_currencies(self._connection, self._ledger, parts.own.replay.state.functional_currency, found)
        compare_snapshots(self._connection, self._ledger, found)
        yield found

    def _at_head(self, parts: _Parts) -> Iterator[Breach]:
        """Checks the books as a whole: pools, balances of the ledger, sums, journals, approvals."""
        replay, rules = parts.own.replay, parts.own.policies.rules
        functional_currency = replay.state.functional_currency
        yield from parts.own.pools.at_head(replay.books.pools, parts.in_pools)
        yield from ledger_faults(parts.standing, replay.books.standings, functional_currency)
        yield from total_faults(self._line_sums, parts.totals, parts.carried, rules)
        yield from journal_faults(self._connection, self._ledger, replay.state.open_cut, parts.totals, rules)
        yield from approval_faults(self._connection, self._ledger, parts.allowed)
        yield from sealed_faults(self._connection, self._ledger)


class _Parts:
    """The findings of the parts, and the sums over all shares."""

    def __init__(
        self,
        chain: Chain,
        strays: list[int],
        own: LedgerVerification,
        reversals: list[tuple[int, Breach]],
        found: list[ShareFindings],
    ) -> None:
        self.chain, self.strays, self.own, self.reversals, self.found = chain, strays, own, reversals, found
        self.events = sum(share.events for share in found)
        self.entries = sum(share.entries for share in found)
        self.replayable = chain.whole and own.replayable and all(share.replayable for share in found)
        self.totals = Totals()
        self.carried: dict[str, Carried] = {}
        self.in_pools: dict[str, Carried] = {}
        self.standing: dict[PositionKey, Standing] = {}
        self.allowed: dict[str, tuple[Any, ...]] = {}
        for share in found:
            self.totals.merge(share.totals)
            for sums, more in ((self.carried, share.carried), (self.in_pools, share.in_pools)):
                for name, (credits, amount, functional) in more.items():
                    held = sums.get(name, NO_PORTION)
                    sums[name] = (held[0] + credits, held[1] + amount, held[2] + functional)
            for key, (amount, functional) in share.standing.items():
                standing = self.standing.get(key, NO_STANDING)
                self.standing[key] = Standing(standing[0] + amount, standing[1] + functional)
            self.allowed |= share.allowed


# --- the jobs of workers ----------------------------------------------------------------------------------------------


def _strays(connection: sa.Connection, _advance: Advance, ledger: str) -> list[int]:
    return [position for (position,) in driver(connection).execute(STRAYS, {"ledger": ledger}).fetchmany(1_000)]


def _line_sums(connection: sa.Connection, _advance: Advance, ledger: str) -> Any:
    return journal_line_sums(connection, ledger)


def _reversals(connection: sa.Connection, _advance: Advance, ledger: str) -> list[tuple[int, Breach]]:
    return [fault for fault, _ in zip(reversal_faults(connection, ledger), range(1_000), strict=False)]
