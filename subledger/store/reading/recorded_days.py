"""Log positions by the day of their recording: the date of ``recorded_at`` in UTC, as in day totals.

Day totals have the day on which entries were recorded, and entries are found by position. These SQL expressions lead
from one to the other. Each needs one look into the batches. Owns: the expressions, and the days whose totals count
completely in a view. Does not own: day totals (projections).
"""

from __future__ import annotations

from datetime import date
from typing import Final

from sqlalchemy import text

from subledger.store.reading.views import View


def first_of(day: str, *, ledger: str) -> str:
    """Returns the first position recorded on a day or a later one; NULL for none. Both arguments are SQL
    expressions.
    """
    return f"""(SELECT first_position FROM batches
        WHERE ledger = {ledger} AND recorded_at >= CAST({day} AS timestamp) AT TIME ZONE 'UTC'
        ORDER BY recorded_at LIMIT 1)"""


def last_of(day: str, *, ledger: str) -> str:
    """Returns the last position recorded on a day or an earlier one; NULL for none. Both arguments are SQL
    expressions.
    """
    return f"""(SELECT last_position FROM batches
        WHERE ledger = {ledger} AND recorded_at < CAST({day} + 1 AS timestamp) AT TIME ZONE 'UTC'
        ORDER BY recorded_at DESC LIMIT 1)"""


def recorded_between(condition: str, *, ledger: str) -> str:
    """Returns a query for the first and the last position of the entries of some day totals.

    Without such totals it returns 1 and 0, an empty range. Both arguments are SQL expressions.
    """
    return f"""
-- The positions between which the entries of some day totals were recorded.
WITH days AS (
    SELECT min(recorded_date) AS first, max(recorded_date) AS last FROM ledger_days
    WHERE ledger = {ledger} AND {condition}
)
SELECT coalesce({first_of("(SELECT first FROM days)", ledger=ledger)}, 1),
       coalesce({last_of("(SELECT last FROM days)", ledger=ledger)}, 0)
"""


LAST_DAY: Final = f"""
-- The day of recording of a position, and the first position of that day.
SELECT d.day, {first_of("d.day", ledger=":ledger")} AS first
FROM (SELECT (recorded_at AT TIME ZONE 'UTC')::date AS day FROM batches
      WHERE ledger = :ledger AND last_position >= :position ORDER BY last_position LIMIT 1) d
"""


def recorded_before(view: View) -> tuple[str | date, int]:
    """Returns the first day of recording whose totals a view must not count completely, and the first position of that
    day.
    """
    if view.at_head or view.position == 0:
        return ("infinity" if view.position else "-infinity"), view.position + 1
    parameters = {"ledger": view.ledger, "position": view.position}
    day, first = view.connection.execute(text(LAST_DAY), parameters).one()
    return day, first
