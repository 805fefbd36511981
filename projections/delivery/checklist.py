"""The close checklist: the steps to a month that is closed and delivered, in order.

Each step has a state, its evidence, and the next command. Reading the checklist changes nothing: it tries a close on a
snapshot. Owns: the steps and their order. Does not own: the checks themselves (close, proofs, journals).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import Connection

from projections.account_mapping.mapping import mapping_for
from projections.close.period_history import closing_of, history_of
from projections.close.proofs import prove
from projections.close.remeasuring import remeasurements
from projections.delivery.arrivals import arrivals_of
from projections.delivery.states import State
from projections.journals.stored_journals import journals_of
from projections.journals.unmapped import unmapped
from projections.journals.waiting import entries_waiting
from projections.reads.rejected import summary
from subledger.closing import is_closed
from subledger.errors import IntegrityFault, Refused, SubledgerError
from subledger.events.envelope import format_time
from subledger.ledger import LedgerState
from subledger.money import format_minor
from subledger.periods import MICROSECOND, Period
from subledger.store.database import Database, driver
from subledger.store.reading.ledgers import ledger_head
from subledger.store.reading.queries import rows
from subledger.store.rejected.rejections import OPEN, Chosen, counts

Standing = Literal["done", "open", "blocked", "attention"]
"""``open``: still to be done. ``blocked``: blocks the close. ``attention``: does not block, but a person should look.
"""

_SHOWN: Final = 20


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step: its stable name, its question, its state with the evidence, and the next command."""

    name: str
    question: str
    state: Standing
    evidence: dict[str, Any] = {}
    next: str | None = None


class Checklist(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of one month. ``ready``: nothing blocks its close. ``done``: the month is closed and delivered."""

    ledger: str
    period: Period
    position: int
    steps: tuple[Step, ...]

    @property
    def ready(self) -> bool:
        return not any(step.state == "blocked" for step in self.steps)

    @property
    def done(self) -> bool:
        return all(step.state in ("done", "attention") for step in self.steps)


MONTHS_BEFORE: Final = """
-- The first month that has entries.
SELECT to_char(min(accounting_date), 'YYYY-MM') FROM ledger_days WHERE ledger = %(ledger)s
"""
WAITING: Final = """
-- Requests that wait for a second person, for events before a moment.
SELECT approval_id, type, maker, requested_at FROM approvals
WHERE ledger = %(ledger)s AND state = 'waiting' AND occurred_at < %(until)s ORDER BY requested_at LIMIT %(limit)s
"""
DUE: Final = """
-- Open blocks that expire by a moment. Expiry is exclusive, so what expires as a month ends is that month's.
SELECT count(*), min(expires_at) FROM blocks WHERE ledger = %(ledger)s AND is_open AND expires_at <= %(until)s
"""
UNAPPLIED: Final = """
-- Unapplied payments of customers, by currency, through a day.
SELECT d.currency, sum(((r.credit = 'customer_balance')::int - (r.debit = 'customer_balance')::int)
                       * (d.written_minor - d.mirrored_minor))::numeric
FROM ledger_days d JOIN posting_rules r ON r.ledger = d.ledger AND r.policy = d.policy AND r.kind = d.kind
WHERE d.ledger = %(ledger)s AND d.accounting_date <= %(last_day)s
  AND 'customer_balance' IN (r.debit, r.credit)
GROUP BY d.currency ORDER BY d.currency
"""
FILES: Final = """
-- The files of a period's journals.
SELECT number, format FROM journal_exports WHERE ledger = %(ledger)s AND period = %(period)s ORDER BY number, format
"""


def checklist(database: Database, ledger: str, period: Period, *, now: datetime) -> Checklist:
    """The checklist of a month, on one snapshot. Raises UnknownLedger."""
    with database.read() as connection:
        head = ledger_head(connection, ledger)
        reader = _StepReader(connection, head.state, head.position, period, now)
        return Checklist(ledger=ledger, period=period, position=head.position, steps=tuple(reader.steps()))


class _StepReader:
    def __init__(
        self, connection: Connection, state: LedgerState, position: int, period: Period, now: datetime
    ) -> None:
        self._connection = connection
        self._state = state
        self._position = position
        self._period = period
        self._now = state.now(now)
        self._closed = is_closed(state, period)
        self._where = {
            "ledger": state.ledger,
            "period": str(period),
            "last_day": period.last_day,
            "first_day": period.first_day,
            "until": period.end(state.zone),
            "limit": _SHOWN,
        }
        self._over = self._now >= period.end(state.zone)

    def steps(self) -> Iterator[Step]:
        yield self._months_before()
        yield self._month_over()
        yield self._approvals()
        yield self._rejected()
        yield self._rates()
        yield self._expiries()
        yield self._mapping()
        yield self._payments()
        yield self._proofs()
        yield self._close()
        yield self._journals()
        yield self._files()
        yield from self._deliveries()

    def _command(self, words: str) -> str:
        return f"subledger {words} --ledger {self._state.ledger}"

    def _months_before(self) -> Step:
        (first,) = rows(self._connection, MONTHS_BEFORE, self._where)[0]
        through = self._state.closed_through
        following = Period.of(through).next if through else Period.parse(first) if first else self._period
        ahead = following < self._period
        return Step(
            name="months_before",
            question="Are all earlier months closed?",
            state="blocked" if ahead else "done",
            evidence={"closed_through": through and through.isoformat(), "first_month": first},
            next=self._command(f"close {following}") if ahead else None,
        )

    def _month_over(self) -> Step:
        end = format_time(self._period.end(self._state.zone))
        return Step(
            name="month_over",
            question="Is the month over?",
            state="done" if self._over else "blocked",
            evidence={"ends": end, "timezone": self._state.timezone, "now": format_time(self._now)},
            next=None if self._over else f"from {end} on: " + self._command(f"close {self._period}"),
        )

    def _approvals(self) -> Step:
        found = rows(self._connection, WAITING, self._where)
        items = [
            {"approval": name, "type": type, "asked_by": maker, "asked_at": format_time(at)}
            for name, type, maker, at in found
        ]
        return Step(
            name="approvals",
            question="Are all approvals of the month decided?",
            state="attention" if items else "done",
            evidence={"waiting": items},
            next=self._command("approvals list") if items else None,
        )

    def _rejected(self) -> Step:
        """Reads the open rejections through the end of the month. An event without a readable time counts from the
        month in which it was first refused.
        """
        chosen = Chosen(state=OPEN, until=self._period.end(self._state.zone))
        found = counts(self._connection, self._state.ledger, chosen)
        return Step(
            name="rejected",
            question="Are all rejected events of the month recorded or dismissed?",
            state="attention" if found.by_code else "done",
            evidence=summary(found),
            next=self._command(f"rejected list --to {self._period.last_day}") if found.by_code else None,
        )

    def _rates(self) -> Step:
        if self._closed:
            return Step(
                name="exchange_rates", question="Are all exchange rates for the remeasurement recorded?", state="done"
            )
        plain = driver(self._connection)
        state, error = self._tried(lambda: remeasurements(plain, self._state, self._position, self._period))
        return Step(
            name="exchange_rates",
            question="Are all exchange rates for the remeasurement recorded?",
            state=state,
            evidence=error,
            next=self._command("record RATES.jsonl") if error else None,
        )

    def _expiries(self) -> Step:
        # Expiries later in the month are not due yet. The sweep records them when they fall due.
        until = min(self._period.end(self._state.zone), self._now + MICROSECOND)
        count, first = rows(self._connection, DUE, {**self._where, "until": until})[0]
        through = min(self._period.last_day, self._state.today(self._now))
        evidence = {"due": count, "first": first and format_time(first)}
        return Step(
            name="expiries",
            question="Are all due expiries recorded?",
            state="open" if count else "done",
            evidence=evidence,
            next=self._command(f"expire --through {through}") if count else None,
        )

    def _mapping(self) -> Step:
        number, mapping = mapping_for(self._connection, self._state.ledger, self._period)
        missing = unmapped(self._connection, self._state.ledger, self._period, mapping)
        return Step(
            name="mapping",
            question="Does every role with movements have a GL account?",
            state="blocked" if missing else "done",
            evidence={"mapping": number, "unmapped": missing[:_SHOWN]},
            next=self._command("mapping adopt FILE.csv") if missing else None,
        )

    def _payments(self) -> Step:
        unapplied = {currency: amount for currency, amount in rows(self._connection, UNAPPLIED, self._where) if amount}
        return Step(
            name="payments",
            question="Is every payment applied?",
            state="attention" if unapplied else "done",
            evidence={"unapplied": {name: format_minor(int(amount), name) for name, amount in unapplied.items()}},
            next=self._command("report receivables") if unapplied else None,
        )

    def _proofs(self) -> Step:
        plain, state = driver(self._connection), self._state
        found, error = self._tried(lambda: prove(plain, state.ledger, state.functional_currency, self._period.last_day))
        return Step(
            name="proofs",
            question="Do the invariants hold through the last day of the month?",
            state=found,
            evidence=error,
            next=self._command("verify") if error else None,
        )

    def _close(self) -> Step:
        through = self._state.closed_through
        last = closing_of(history_of(self._connection, self._state.ledger).get(self._period, ()))
        persons = {name: last.get(name) for name in ("closed_by", "reopened_by", "reason")}
        return Step(
            name="close",
            question="Is the month closed?",
            state="done" if self._closed else "open",
            evidence={"closed_through": through and through.isoformat(), **persons},
            next=self._command(f"close {self._period}") if self._over and not self._closed else None,
        )

    def _journals(self) -> Step:
        made = journals_of(self._connection, self._state.ledger, self._period)
        waiting = entries_waiting(self._connection, self._state.ledger, self._period)
        complete = bool(made) and not waiting
        return Step(
            name="journals",
            question="Is every entry of the month in a journal?",
            state="done" if complete and self._closed else "open",
            evidence={
                "journals": [journal.name for journal in made],
                "entries_wait": waiting,
                "reversed": {journal.corrects: journal.name for journal in made if journal.reverses is not None},
            },
            next=None if complete else self._command(f"export {self._period} --format csv"),
        )

    def _files(self) -> Step:
        files: dict[str, list[str]] = {}
        for number, format in rows(self._connection, FILES, self._where):
            files.setdefault(str(number), []).append(format)
        made = journals_of(self._connection, self._state.ledger, self._period)
        missing = [journal.number for journal in made if str(journal.number) not in files]
        return Step(
            name="files",
            question="Is every journal exported to a file?",
            state="done" if made and not missing else "open",
            evidence={"formats": files, "without_file": missing},
            next=self._command(f"export {self._period} --format csv") if missing or not made else None,
        )

    def _deliveries(self) -> Iterator[Step]:
        """Yields two steps for each channel: are the month's journals in its general ledger's books, and are they tied
        out? Then one for deliveries whose channel was removed: have they arrived?
        """
        period, made = self._period, journals_of(self._connection, self._state.ledger, self._period)
        for arrival in arrivals_of(self._connection, self._state.ledger, period, made):
            channel, there = arrival.channel, bool(made) and arrival.in_the_books
            to_see = [*arrival.dead, *arrival.taken_out]
            show = self._command(f"deliveries show {to_see[0]}") if to_see else None
            state: Standing = "open" if not there else "attention" if arrival.taken_out else "done"
            if channel is None:
                yield Step(
                    name=f"no_channel_{arrival.destination}",
                    state=state,
                    evidence=arrival.evidence,
                    question=f"Are all deliveries to {arrival.destination}, which has no channel now, in its books?",
                    next=None if state == "done" else show or self._command("deliveries list"),
                )
                continue
            deliver = self._command(f"deliver {period} --channel {channel.name}")
            yield Step(
                name=f"delivery_{channel.name}",
                question=f"Is every journal in the books of {channel.destination}?",
                state=state,
                evidence=arrival.evidence,
                next=None if state == "done" else show if there or arrival.dead else deliver,
            )
            tied = bool(made) and arrival.reconciled
            yield Step(
                name=f"tie_out_{channel.name}",
                question=f"Do the accounts of {channel.destination} tie out?",
                state="done" if tied else "attention",
                evidence={"reconciled": arrival.evidence["deliveries"].get(State.RECONCILED.value, 0)},
                next=None if tied else self._command(f"tie-out --channel {channel.name} --period {period}"),
            )

    @staticmethod
    def _tried(attempt: Callable[[], object]) -> tuple[Standing, dict[str, Any]]:
        try:
            attempt()
        except (Refused, IntegrityFault) as error:
            return "blocked", _told(error)
        return "done", {}


def _told(error: SubledgerError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, **{k: str(v) for k, v in error.facts.items()}}
