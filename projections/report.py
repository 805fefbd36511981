"""Reports: tables of figures, and their ties to the trial balance.

Owns: the shape of every report, so that HTTP, the command line and CSV render all reports in the same way. Does not
own: the reports (each is a function from a view and a request to a ``Report``), their input (report_inputs).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import msgspec

from subledger.store.reading.views import View


class Column(msgspec.Struct, frozen=True):
    """One column of a table and the type of its values.

    ``holds`` is ``text``, ``date``, ``integer``, ``ratio`` (a Fraction or Decimal), ``credits`` (a Decimal),
    ``money`` (minor units of the row's ``currency``), or ``functional`` (minor units of the ledger's currency).
    A value can be None: no value. ``added_by`` is ``sum`` or ``max``: the way to combine the figures of several
    ledgers. ``zero_says``: people see the column even if all its values are zero, because zero is information here.
    ``of_late``: people see the column only if a row of the table is not booked on the day of its event.
    """

    name: str
    holds: str = "text"
    added_by: str = "sum"
    zero_says: bool = False
    of_late: bool = False


def stated(name: str) -> Column:
    """Returns a column of money that people see even if all its values are zero."""
    return Column(name, "money", zero_says=True)


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of figures in a stated order. A table with money has a column ``currency``.

    A table that lists items (one row per block or open item) is not summed over ledgers.
    """

    name: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    lists_items: bool = False


class Tie(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of the report beside the same figure of the trial balance, both in minor units of ``currency``."""

    what: str
    currency: str
    report_minor: int
    trial_balance_minor: int

    @property
    def holds(self) -> bool:
        return self.report_minor == self.trial_balance_minor


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A report: the first table is the main one, the others add detail. ``notes`` are sentences for the reader."""

    name: str
    title: str
    tables: tuple[Table, ...]
    ties: tuple[Tie, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ties_out(self) -> bool:
        return all(tie.holds for tie in self.ties)


class ReportRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a report besides its view. Dates are accounting dates, both inclusive.

    ``from_date`` defaults to the beginning of the ledger, ``to_date`` to the view's ``as_of``. ``by`` is the property
    by which rows are grouped; ``months`` is the horizon of a forecast.
    """

    from_date: date | None = None
    to_date: date | None = None
    customer: str | None = None
    by: str | None = None
    months: int | None = None


MakeReport = Callable[[View, ReportRequest], Report]


def closing(view: View, request: ReportRequest) -> View:
    """Returns the view at the end of the requested range: the books through ``to_date``."""
    return view if request.to_date is None else msgspec.structs.replace(view, as_of=request.to_date)


def end_of_day_before(view: View, day: date) -> View:
    """Returns the view as of the day before."""
    return msgspec.structs.replace(view, as_of=day - timedelta(days=1))
