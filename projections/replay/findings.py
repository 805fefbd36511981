"""Findings of a verification: differences, each with its check, its position, the expected and the found value.

Owns: these values. A fault that lasts over several events is reported once. Does not own: any check.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import msgspec

MAX_A_CHECK: Final = 200
"""Maximum listed differences of one check; the rest are counted. One wrong leaf makes every later root wrong."""

_SHOWN: Final = 300  # characters of a value


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A difference found by a check: its position in the log, the expected and the found value.

    ``subject`` is the key of a row, a column of the head, a block, or an account.
    """

    check: str
    message: str
    position: int | None = None
    subject: str | None = None
    expected: str | None = None
    found: str | None = None


class VerificationReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a verification. A ledger without differences is clean.

    ``since``: events through this position were read by an earlier verification and not again; 0 if all were read.
    """

    ledger: str
    events: int
    entries: int
    differences: list[Difference]
    since: int = 0


class Breach(msgspec.Struct, frozen=True, kw_only=True):
    """A violated invariant of the books, without a position in the log yet."""

    check: str
    message: str
    subject: str
    expected: object = None
    found: object = None


class Findings:
    """The differences found so far, and the number of differences of each check."""

    def __init__(self) -> None:
        self._differences: list[Difference] = []
        self._found: Counter[str] = Counter()
        self._reported: set[tuple[str, str]] = set()

    def differ(
        self,
        check: str,
        message: str,
        *,
        position: int | None = None,
        subject: str | None = None,
        expected: object = None,
        found: object = None,
    ) -> None:
        self._found[check] += 1
        if self._found[check] <= MAX_A_CHECK:
            self._differences.append(
                Difference(
                    check=check,
                    message=message,
                    position=position,
                    subject=subject,
                    expected=_shown(expected),
                    found=_shown(found),
                )
            )

    def breach(self, breach: Breach, position: int | None = None) -> None:
        """Adds a breach. A breach that lasts over several events is reported once, at the position where it begins."""
        if (breach.check, breach.message) in self._reported:
            return
        self._reported.add((breach.check, breach.message))
        self.differ(
            breach.check,
            breach.message if position is None else f"{breach.message}, from position {position} on",
            position=position,
            subject=breach.subject,
            expected=breach.expected,
            found=breach.found,
        )

    def add(self, other: Findings) -> None:
        """Appends the findings of another part."""
        self._differences += other._differences
        self._found += other._found

    def sort(self) -> None:
        """Sorts findings in the log by position. At one position, those of the event come before those of its batch."""
        self._differences.sort(key=lambda difference: (difference.position or 0, difference.check == "chain"))

    def __bool__(self) -> bool:
        return bool(self._differences)

    @property
    def first(self) -> Difference:
        return self._differences[0]

    def all(self) -> list[Difference]:
        """Returns the listed differences in the order in which they were found, and the number of the others."""
        listed: Counter[str] = Counter()
        differences = []
        for difference in self._differences:
            listed[difference.check] += 1
            if listed[difference.check] <= MAX_A_CHECK:
                differences.append(difference)
        more = [
            Difference(check=check, message=f"{found - MAX_A_CHECK} more differences of this check are not listed")
            for check, found in self._found.items()
            if found > MAX_A_CHECK
        ]
        return [*differences, *more]


def _shown(value: object) -> str | None:
    if value is None:
        return None
    return value.hex() if isinstance(value, bytes | memoryview) else str(value)[:_SHOWN]
