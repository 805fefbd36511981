"""The months of a ledger: open or closed, with the history of each.

Owns: reading the closes, reopenings, cuts, exports and corrections of a month, each with its person, time and reason.
Does not own: these commands (close, exports, journals).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from projections.report import Column, ReportRequest, Table
from subledger.closing import is_closed
from subledger.events.envelope import format_time
from subledger.periods import Period
from subledger.store.reading.ledgers import ledger_head
from subledger.store.reading.queries import AnyConnection, rows
from subledger.store.reading.views import View

CLOSED: Final = "closed"
REOPENED: Final = "reopened"
CUT: Final = "cut"
EXPORTED: Final = "exported"
REVERSED: Final = "reversed"


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """A command on a month: ``closed``, ``reopened``, ``cut``, ``exported`` or ``reversed``.

    ``by`` is None in events from before persons were recorded. ``position`` is that of the act's event; exports and
    reversals of journals have none. ``subject`` is the export, the reversed journal, or the earlier month whose
    reopening reopened this one.
    """

    what: str
    by: str | None
    at: datetime
    reason: str | None = None
    position: int | None = None
    subject: str | None = None


class PeriodState(msgspec.Struct, frozen=True, kw_only=True):
    """One month of a ledger: ``open`` or ``closed``, the number of its entries and journals, its history.

    ``closed_by`` and ``closed_at`` belong to the last close. ``reopened_by``, ``reopened_at`` and ``reason`` belong to
    the last reopening, even if it was of an earlier month, and even if the month was closed again.
    """

    period: Period
    state: str
    entries: int
    journals: int
    closed_by: str | None = None
    closed_at: datetime | None = None
    reopened_by: str | None = None
    reopened_at: datetime | None = None
    reason: str | None = None
    history: tuple[Act, ...] = ()


FIRST_ENTRY_ON: Final = """
-- The first day that has entries.
SELECT min(accounting_date) FROM ledger_days WHERE ledger = %(ledger)s
"""
MONTHS_WITH_ENTRIES: Final = """
-- Entries by month of their accounting date.
SELECT to_char(accounting_date, 'YYYY-MM') AS period, sum(entries)::bigint AS entries
FROM ledger_days WHERE ledger = %(ledger)s GROUP BY 1
"""
MONTHS_WITH_JOURNALS: Final = """
-- Journals by period.
SELECT period, count(*) FROM journals WHERE ledger = %(ledger)s GROUP BY period
"""
PERIOD_EVENTS: Final = """
-- Closes, reopenings and cuts through a position, in order, with their recorded_at. The condition on credits.consumed
-- follows from the one before it; it lets the planner use ix_events_type, which leaves usage out.
SELECT e.type, e.data::jsonb ->> 'period', e.data::jsonb ->> 'by', e.data::jsonb ->> 'reason', b.recorded_at, e.position
FROM events e
JOIN LATERAL (SELECT recorded_at FROM batches b WHERE b.ledger = %(ledger)s AND b.last_position >= e.position
              ORDER BY b.last_position LIMIT 1) b ON true
WHERE e.ledger = %(ledger)s AND e.type IN ('period.closed', 'period.reopened', 'period.cut')
  AND e.type <> 'credits.consumed' AND e.position <= %(position)s
ORDER BY e.position
"""
HANDED_OVER: Final = """
-- Exports, and reversed journals. A reversal and its re-issue are one act.
SELECT 'exported', period, created_by, NULL, created_at, export_id FROM journal_exports WHERE ledger = %(ledger)s
UNION ALL
SELECT 'reversed', period, made_by, reason, made_at, period || '-' || reverses::text FROM journals
WHERE ledger = %(ledger)s AND reverses IS NOT NULL
ORDER BY 5, 6
"""

_WHAT: Final = {"period.closed": CLOSED, "period.reopened": REOPENED, "period.cut": CUT}
_LAST_POSITION: Final = 2**62


def first_entry_on(connection: AnyConnection, ledger: str) -> date | None:
    """Returns the first accounting date with entries; None without entries."""
    first: date | None
    [(first,)] = rows(connection, FIRST_ENTRY_ON, {"ledger": ledger})
    return first


def history_of(
    connection: Connection, ledger: str, *, position: int = _LAST_POSITION, handed_over: bool = True
) -> dict[Period, list[Act]]:
    """Returns the acts on each month, in order of time, through a position of the log.

    Reopening a month reopens the later closed ones too, and is an act on each of them. ``handed_over`` includes the
    acts that are not in the log: exports and reversals of journals.
    """
    found: dict[Period, list[Act]] = {}
    closed: set[Period] = set()
    for type, name, by, reason, at, event_position in rows(
        connection, PERIOD_EVENTS, {"ledger": ledger, "position": position}
    ):
        period, what = Period.parse(name), _WHAT[type]
        act = Act(what=what, by=by, at=at, reason=reason, position=event_position)
        if what == REOPENED:
            for later in sorted({later for later in closed if later > period}):
                found[later].append(msgspec.structs.replace(act, subject=name))
            closed = {earlier for earlier in closed if earlier < period}
        elif what == CLOSED:
            closed.add(period)
        found.setdefault(period, []).append(act)
    if handed_over:
        for what, name, by, reason, at, subject in rows(connection, HANDED_OVER, {"ledger": ledger}):
            named = f"{ledger}-{subject}" if what == REVERSED else subject
            act = Act(what=what, by=by, at=at, reason=reason, subject=named)
            found.setdefault(Period.parse(name), []).append(act)
    return {period: sorted(acts, key=lambda act: act.at) for period, acts in found.items()}


def closing_of(history: Sequence[Act]) -> dict[str, Any]:
    """Returns the last close and the last reopening of a month, with person, time and reason."""
    found: dict[str, Any] = {}
    for act in history:
        if act.what == CLOSED:
            found |= {"closed_by": act.by, "closed_at": act.at}
        elif act.what == REOPENED:
            found |= {"reopened_by": act.by, "reopened_at": act.at, "reason": act.reason}
    return found


def periods(connection: Connection, ledger: str) -> list[PeriodState]:
    """Returns the months from the first to the last that has entries or journals, or was ever closed. Raises
    UnknownLedger.
    """
    state = ledger_head(connection, ledger).state
    parameters = {"ledger": ledger}
    entries = {Period.parse(name): count for name, count in rows(connection, MONTHS_WITH_ENTRIES, parameters)}
    journals = {Period.parse(name): count for name, count in rows(connection, MONTHS_WITH_JOURNALS, parameters)}
    histories = history_of(connection, ledger)
    # ``closed_through`` is not used: after a reopening it can name a month that was never closed. A month with only a
    # cut is not listed.
    known = [*entries, *journals, *(period for period, acts in histories.items() if closing_of(acts))]
    result: list[PeriodState] = []
    period = min(known, default=None)
    while period is not None and period <= max(known):
        history = tuple(histories.get(period, ()))
        result.append(
            PeriodState(
                period=period,
                state="closed" if is_closed(state, period) else "open",
                entries=entries.get(period, 0),
                journals=journals.get(period, 0),
                history=history,
                **closing_of(history),
            )
        )
        period = period.next
    return result


# --- the table of periods in reports ----------------------------------------------------------------------------------

PERIODS: Final = "periods"
"""The name of the table of months that every report has besides its own tables."""
_COLUMNS: Final = (
    Column("period"), Column("state"), Column("closed_by"), Column("closed_at"), Column("reopened_by"),
    Column("reopened_at"), Column("reason"), Column("exported_by"), Column("exported_at"),
)  # fmt: skip


def periods_behind(view: View, request: ReportRequest) -> Table:
    """Returns the months of a report at its position, each with its close, reopening and export.

    Without a first day, these are the month of the last day and the last closed month. An answer at a given
    ``known_at`` never changes. So of the exports it has only those in the log: the cuts of open months.
    """
    last = Period.of(request.to_date or view.as_of)
    histories = history_of(view.connection, view.ledger, position=view.position, handed_over=not view.names_known_at)
    earlier = sorted(period for period in histories if period < last)
    if request.from_date is None:
        covered = [period for period in earlier if _is_closed(histories[period])][-1:]
    else:
        covered = [period for period in earlier if period >= Period.of(request.from_date)]
    return Table(
        name=PERIODS,
        columns=_COLUMNS,
        lists_items=True,
        rows=tuple(_row(period, histories.get(period, [])) for period in (*covered, last)),
    )


def _is_closed(history: Sequence[Act]) -> bool:
    return [act.what for act in history if act.what in (CLOSED, REOPENED)][-1:] == [CLOSED]


def _row(period: Period, history: Sequence[Act]) -> tuple[str | None, ...]:
    found = closing_of(history)
    exported = next((act for act in reversed(history) if act.what in (EXPORTED, CUT)), None)
    return (
        str(period),
        "closed" if _is_closed(history) else "open",
        found.get("closed_by"),
        _time(found.get("closed_at")),
        found.get("reopened_by"),
        _time(found.get("reopened_at")),
        found.get("reason"),
        None if exported is None else exported.by,
        None if exported is None else _time(exported.at),
    )


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)
