"""Cohorts of a breakage pool: the blocks that were opened in the same month, quarter or year, by name.

A block is issued in a calendar month (``2026-01``), by the effective date of its opening event. A pool's first estimate
sets how its months are grouped, so the name of a cohort follows from the month and the grouping: ``2026-01``,
``2026-Q1``, ``2026``, or no name if the pool is one cohort by itself. Owns: these names. Does not own: a cohort's
figures (pools).
"""

from __future__ import annotations

import re
from datetime import date
from typing import Final, Literal

Grouping = Literal["month", "quarter", "year", "none"]
"""The period whose blocks are one cohort; ``none``: the pool is one cohort by itself."""

WHOLE: Final = ""
"""The name of the cohort of a pool that is one cohort by itself."""

COHORT: Final = re.compile(r"[0-9]{4}(?:-(?:0[1-9]|1[0-2]|Q[1-4]))?", re.ASCII)
"""The name of a cohort: a month, a quarter or a year."""


def month_of_issue(day: date) -> str:
    """The month in which a block that is opened on a day is issued."""
    return f"{day.year:04}-{day.month:02}"


def cohort_of(issued: str, grouping: Grouping | None) -> str:
    """The cohort of a month of issue, or of a cohort itself. Without a grouping yet, each month is one.

    Blocks without a month of issue were opened before there were cohorts: their pool is one cohort by itself.
    """
    if grouping == "none" or issued == WHOLE:
        return WHOLE
    year, _, part = issued.partition("-")
    if grouping == "year":
        return year
    if grouping == "quarter" and part.isdecimal():
        return f"{year}-Q{(int(part) + 2) // 3}"
    return issued


def grouping_of(cohort: str) -> Grouping:
    """The grouping that a cohort of this name belongs to."""
    _, _, part = cohort.partition("-")
    if not part:
        return "year"
    return "quarter" if part.startswith("Q") else "month"
