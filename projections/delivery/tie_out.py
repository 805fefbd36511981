"""Tie-out: the general ledger's trial balance against the journals handed over to it, by account and month.

A row of the general ledger has an account's movement in a month (``debit``, ``credit``) or its balance at the month's
end (``balance``, debit positive), in the functional currency. The sub-ledger's side is the journals that were handed
over. So each of these is a difference of its own amount: a journal that is missing, posted twice or changed in the
general ledger, and an entry made by hand. Accounts that no journal names are not ours, and are only listed. An account
to which others post as well (receivables, cash) is compared only on request.

Owns: reading the general ledger's rows, comparing them, finding the journals behind a difference. Does not own: the
journals.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import Final

import msgspec
from sqlalchemy import Connection

from projections.journals.stored_journals import journals_of
from projections.journals.waiting import entries_waiting
from subledger.accounts import Side
from subledger.errors import InvalidInput
from subledger.money import exponent, parse_signed, to_minor
from subledger.periods import Period
from subledger.store.reading.ledgers import ledger_head

SHARED: Final = ("cash", "processor_clearing", "accounts_receivable", "processing_fees", "bad_debt", "fx_gain_loss",
                 "tax_payable", "billed_elsewhere")  # fmt: skip
"""Roles whose accounts other parts of a company post to as well. They are compared only if their number is requested.
"""

_COLUMNS: Final = ("account", "period", "debit", "credit", "balance")


class Theirs(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the general ledger, in minor units of the functional currency, debit positive.

    ``moved``: the movement in the month. ``balance``: the balance at its end. One of the two is None.
    """

    account: str
    period: Period
    moved: int | None = None
    balance: int | None = None


class JournalShare(msgspec.Struct, frozen=True, kw_only=True):
    """A journal's part of an account: its amount and its lines."""

    journal: str
    number: int
    lines: tuple[int, ...]
    debit_minor: int
    credit_minor: int


class TieOutDifference(msgspec.Struct, frozen=True, kw_only=True):
    """An account and month that differ; amounts are debit positive. ``behind``: the journals of the month on the
    account.

    ``theirs`` is None if the general ledger's rows have no such account in that month.
    """

    account: str
    name: str
    period: Period
    measure: str
    ours: int
    theirs: int | None
    behind: tuple[JournalShare, ...]

    @property
    def difference(self) -> int:
        """Excess of the general ledger's amount over the sub-ledger's; negative if it has too little."""
        return (self.theirs or 0) - self.ours


class TieOut(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a tie-out.

    ``compared``: pairs of account and month, of the months ``periods``. ``of_all``: every account of ours was compared,
    not a selection. ``not_ours``: accounts of the file that no journal names, or that others post to as well.
    ``not_handed_over``: months with entries that are in no journal yet.
    """

    ledger: str
    currency: str
    periods: tuple[Period, ...]
    compared: int
    of_all: bool
    differences: tuple[TieOutDifference, ...]
    not_ours: tuple[str, ...]
    not_handed_over: tuple[Period, ...]

    @property
    def tied(self) -> bool:
        """True if something was compared, nothing differs, and nothing remains to be handed over."""
        return bool(self.compared) and not self.differences and not self.not_handed_over

    @property
    def months_proved(self) -> tuple[Period, ...]:
        """The months that were handed over completely, and whose accounts all agree."""
        if not self.compared or not self.of_all:
            return ()
        doubtful = {*self.not_handed_over, *(difference.period for difference in self.differences)}
        return tuple(period for period in self.periods if period not in doubtful)


def read_trial_balance(text: str, currency: str) -> list[Theirs]:
    """Reads the rows of a CSV file with the columns account, period, and debit and credit, or balance. Other columns
    are ignored.

    Raises InvalidInput naming the line, counted from 1 with the header, and the column.
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    found: list[Theirs] = []
    try:
        columns = [(name or "").strip().lower() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        missing = [name for name in ("account", "period") if name not in columns]
        if missing or not ({"debit", "credit"} <= {*columns} or "balance" in columns):
            raise _wrong(1, missing[0] if missing else "balance", expected=", ".join(_COLUMNS))
        for row in reader:
            cells = {name: (value or "").strip() for name, value in row.items() if isinstance(value, str) and name}
            if any(cells.values()):
                found.append(_theirs(cells, currency, f"line {reader.line_num}"))
    except csv.Error as error:
        line = reader.reader.line_num  # the reader's own number counts rows that could not be read too
        raise InvalidInput(f"line {line}: not CSV: {error}", field=f"line {line}") from None
    return _without_repeats(found)


def theirs_of(rows: Iterable[Mapping[str, str]], currency: str) -> list[Theirs]:
    """Reads the rows of JSON. Raises InvalidInput naming the row, counted from 1."""
    return _without_repeats([_theirs(row, currency, f"row {number}") for number, row in enumerate(rows, start=1)])


def _wrong(line: int, column: str, *, expected: str) -> InvalidInput:
    return InvalidInput(f"line {line}: the column {column} is missing", field=column, expected=expected)


def _theirs(cells: Mapping[str, str], currency: str, label: str) -> Theirs:
    if not cells.get("account"):
        raise InvalidInput(f"{label}: account is missing", field="account", expected="an account's number")
    try:
        period = Period.parse(cells.get("period", ""))
        if cells.get("balance"):
            return Theirs(
                account=cells["account"], period=period, balance=_minor(cells["balance"], currency, "balance")
            )
        debit, credit = (_minor(cells.get(name) or "0", currency, name) for name in ("debit", "credit"))
    except InvalidInput as error:
        error.args = (f"{label}: {error.message}",)
        error.message = f"{label}: {error.message}"
        raise
    return Theirs(account=cells["account"], period=period, moved=debit - credit)


def _minor(text: str, currency: str, field: str) -> int:
    amount: Decimal = parse_signed(text, field=field, places=exponent(currency))
    return -to_minor(-amount, currency, field=field) if amount < 0 else to_minor(amount, currency, field=field)


def _without_repeats(found: list[Theirs]) -> list[Theirs]:
    seen: set[tuple[str, Period, bool]] = set()
    for row in found:
        key = (row.account, row.period, row.balance is None)
        if key in seen:
            raise InvalidInput(
                f"account {row.account} has two rows in {row.period}",
                field="account",
                expected="one row for an account and month",
                found=row.account,
            )
        seen.add(key)
    return found


# --- comparing ----------------------------------------------------------------------------------------------------


class _Ours(msgspec.Struct):
    name: str
    roles: set[str]
    moved: dict[Period, int]
    behind: dict[Period, dict[int, JournalShare]]


def tie_out(connection: Connection, ledger: str, theirs: Iterable[Theirs], *, accounts: Collection[str] = ()) -> TieOut:
    """Compares all accounts of ours, or the named ones, in every month of the rows.

    An account without a row in a month is compared with zero. Raises UnknownLedger, and InvalidInput for a named
    account that no journal names.
    """
    state = ledger_head(connection, ledger).state
    ours = _ours(connection, ledger)
    for account in accounts:
        if account not in ours:
            raise InvalidInput(
                f"no journal names the account {account}",
                field="account",
                expected=", ".join(sorted(ours)),
                found=account,
            )
    own = {number for number, held in ours.items() if not held.roles <= {*SHARED}}
    chosen = set(accounts) or own
    rows = {(row.account, row.period, row.balance is None): row for row in theirs}
    periods = sorted({row.period for row in rows.values()})
    measures = {period: {measure for _, month, measure in rows if month == period} for period in periods}
    compared, differences = 0, []
    for period in periods:
        for account in sorted(chosen):
            for is_moved in sorted(measures[period], reverse=True):
                row = rows.get((account, period, is_moved))
                compared += 1
                found = _difference(account, ours[account], period, is_moved, row)
                if found is not None:
                    differences.append(found)
    waiting = tuple(period for period in periods if entries_waiting(connection, ledger, period))
    return TieOut(
        ledger=ledger,
        currency=state.functional_currency,
        periods=tuple(periods),
        compared=compared,
        of_all=not accounts,
        differences=tuple(differences),
        not_ours=tuple(sorted({row.account for row in rows.values()} - chosen)),
        not_handed_over=waiting,
    )


def _ours(connection: Connection, ledger: str) -> dict[str, _Ours]:
    found: dict[str, _Ours] = {}
    for journal in journals_of(connection, ledger):
        for line in journal.lines:
            account = found.setdefault(line.account.number, _Ours(line.account.name, set(), {}, {}))
            account.roles.add(line.role)
            debit = line.functional_minor if line.side is Side.DEBIT else 0
            credit = line.functional_minor - debit
            account.moved[journal.period] = account.moved.get(journal.period, 0) + debit - credit
            shares = account.behind.setdefault(journal.period, {})
            share = shares.get(journal.number)
            shares[journal.number] = JournalShare(
                journal=journal.name,
                number=journal.number,
                lines=(*(share.lines if share else ()), line.number),
                debit_minor=debit + (share.debit_minor if share else 0),
                credit_minor=credit + (share.credit_minor if share else 0),
            )
    return found


def _difference(
    account: str, own: _Ours, period: Period, is_moved: bool, row: Theirs | None
) -> TieOutDifference | None:
    if is_moved:
        ours = own.moved.get(period, 0)
    else:
        ours = sum(amount for month, amount in own.moved.items() if month <= period)
    theirs = None if row is None else row.moved if is_moved else row.balance
    if ours == (theirs or 0):
        return None
    return TieOutDifference(
        account=account,
        name=own.name,
        period=period,
        measure="moved" if is_moved else "balance",
        ours=ours,
        theirs=theirs,
        behind=tuple(own.behind.get(period, {}).values()),
    )
