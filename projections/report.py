"""What a report is: tables of figures, and how they tie to the trial balance.

Owns: the shape that every report has, so that HTTP, the command line and CSV render all of them alike.
Does not own: any figure. A report is a function from a view of the books and what was asked to a ``Report``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import msgspec

from subledger.store.database import Database
from subledger.store.reader import View


class Column(msgspec.Struct, frozen=True):
    """One column of a table and what stands in it.

    ``holds`` is ``text``, ``date``, ``integer``, ``ratio`` (a Fraction or Decimal), ``credits`` (a Decimal),
    ``money`` (minor units of the row's ``currency``), or ``functional`` (minor units of the ledger's currency).
    None stands for nothing to say.
    """

    name: str
    holds: str = "text"


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of figures in a stated order. A table with money has a column ``currency``."""

    name: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]


class Tie(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of the report beside the trial balance's: what, in which currency, both in minor units."""

    what: str
    currency: str
    report_minor: int
    trial_balance_minor: int

    @property
    def holds(self) -> bool:
        return self.report_minor == self.trial_balance_minor


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The first table is the report; others stand beside it. ``notes`` are sentences for the reader."""

    name: str
    title: str
    tables: tuple[Table, ...]
    ties: tuple[Tie, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ties_out(self) -> bool:
        return all(tie.holds for tie in self.ties)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a report is asked for, besides its view. Dates are accounting dates, both inclusive.

    Without ``from_date`` a report begins with the ledger; ``to_date`` defaults to the view's ``as_of``. ``by`` names
    what rows are told apart by; ``months`` is how far a forecast looks.
    """

    from_date: date | None = None
    to_date: date | None = None
    customer: str | None = None
    by: str | None = None
    months: int | None = None


MakeReport = Callable[[Database, View, Asked], Report]
