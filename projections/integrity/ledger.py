"""Check of the data of the ledger as a whole: settings, books, pools, and their rows.

Follows the events without a customer, and those that touch a pool or another currency, in the order of the log. Entries
are used as stored, because a share checks that they follow from their events. Owns: these checks.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from projections.integrity.policies import Policies
from projections.integrity.pools import PoolLaws
from projections.integrity.share import UNKNOWN
from projections.replay.comparing import compare_table
from projections.replay.derived_tables import DERIVED_BY_NAME, Rows
from projections.replay.findings import Findings
from projections.replay.ledger import LedgerReplayer
from projections.replay.log_stream import OF_THE_LEDGER, read_log
from projections.replay.resumable import Part, load
from projections.replay.workers import Advance
from subledger.events.own_data import PolicyAdopted
from subledger.kinds import Dimensions
from subledger.store.columns import stored_entry

RULES_IN_USE: Final = """
-- The policies that have a rule for some kinds, or entries of them.
SELECT policy, kind FROM posting_rules WHERE ledger = :ledger AND kind = ANY(:kinds)
UNION SELECT policy, kind FROM ledger_days WHERE ledger = :ledger AND kind = ANY(:kinds)
"""


class LedgerVerification:
    """The checks of the ledger's own part. ``replayable`` is false once an event cannot be replayed."""

    def __init__(self, ledger: str, numbering: dict[int, Dimensions]) -> None:
        self.log = Findings()
        self.derived: dict[str, Findings] = {}
        self.replayable = True
        self.replay = LedgerReplayer(ledger)
        self.policies = Policies()
        self.pools = PoolLaws(self.policies)
        self._numbering = numbering
        self._position = 0

    def go_on(self, numbering: dict[int, Dimensions]) -> None:
        """Continues a saved run in another database snapshot."""
        self._numbering = numbering
        self.derived = {}

    def run(self, connection: sa.Connection, through: int) -> None:
        """Follows the log through a position, and compares the result with the tables."""
        ledger = self.replay.state.ledger
        for chunk in read_log(connection, ledger, OF_THE_LEDGER, self._position, through):
            for logged, rows in chunk:
                try:
                    event = self.replay.take(logged)
                except Exception:  # a share reports the event, and that no derived table was compared
                    self.replayable = False
                    return
                if isinstance(event.data, PolicyAdopted):
                    list(self.policies.adopt(event.data))  # the first share reports its faults
                entries = [stored_entry(row, self._numbering.get(row.dimension_set, UNKNOWN)) for row in rows]
                for breach in self.pools.take(entries, self.replay.books.pools):
                    self.log.breach(breach, logged.position)
                self._position = logged.position
        tables = {**self.replay.rows, "posting_rules": _rules_due(connection, self.replay)}
        for name, rows_of_table in tables.items():
            found = self.derived[name] = Findings()
            condition = "customer IS NULL" if name == "documents" else "true"
            compare_table(connection, ledger, DERIVED_BY_NAME[name], rows_of_table, found, condition)


def _rules_due(connection: sa.Connection, replay: LedgerReplayer) -> Rows:
    """Returns the rows that posting_rules must have.

    If no version of a writer with a new kind has run yet, all rows of the inherited rule are missing. Such a writer
    adds them before any entry is posted under the rule.
    """
    rules = replay.rows["posting_rules"]
    if not replay.inherited:
        return rules
    kinds = sorted({kind for _, kind in replay.inherited})
    found = connection.execute(sa.text(RULES_IN_USE), {"ledger": replay.state.ledger, "kinds": kinds})
    missing = replay.inherited - {(policy, kind) for policy, kind in found}
    return {key: pair for key, pair in rules.items() if key[:2] not in missing}


def verify_ledger(
    connection: sa.Connection,
    _advance: Advance,
    ledger: str,
    numbering: dict[int, Dimensions],
    through: int,
    part: Part | None,
) -> LedgerVerification:
    """Runs the ledger's own part: the job of one worker."""
    # The saved part of the log is not read again. The tables that follow from it are compared again, in this run's
    # snapshot.
    verification = load(part, LedgerVerification) or LedgerVerification(ledger, numbering)
    verification.go_on(numbering)
    verification.run(connection, through)
    if part is not None:
        part.save(verification)
    return verification
