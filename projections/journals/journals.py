"""Journals: what is handed over to the general ledger.

A journal is the entries of one period whose cut lies in an interval, summed by account and dimensions; debit and
credit are not netted. The first journal of a period is number 1, what is recorded for the period after it is the
next, an adjustment. So every entry belongs to exactly one journal that is in force, and the journals of all periods add
up to the trial balance. Lines are summed from the day totals: a few hundred rows, however many events the month had.

Where the mapping goes by attributes of customers, the lines are summed from the entries instead, and what the customers
had of them is kept with the journal (journal_customers).

Owns: making journals, keeping them. Does not own: what entries come to (sums), which journals a correction makes
(reversing), the way back from a line to its entries (pairs), how journals are written down (formats, exports).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any, Final, TypeVar

import msgspec

from projections.account_mapping.mapping import AccountMapping, Attributes, GLAccount, mapping_for
from projections.journals.journal_customers import keep_customers
from projections.journals.sums import Sum, interval, sums_of
from subledger.accounts import CHART_ORDER, Side
from subledger.errors import IntegrityFault, UnknownExport
from subledger.events.envelope import Event, canonical, format_time
from subledger.ledger import LedgerState, check_day_has_come, is_closed
from subledger.own_events import period_cut
from subledger.periods import Period
from subledger.store.database import Database, WriteConnection
from subledger.store.reading.ledgers import ledger_head
from subledger.store.reading.queries import AnyConnection, rows
from subledger.store.tallies import count_one
from subledger.store.writing.recorder import Recorder, ledger_now, now_of, raise_first


class JournalLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line: a side of a role, in one currency and with one set of dimensions, and the GL account it goes to.

    Amounts are positive minor units. ``entries`` counts the entries of the totals the line is summed from; among
    them are those whose own amount rounds to nothing.
    """

    number: int
    role: str
    side: Side
    currency: str
    amount_minor: int
    functional_minor: int
    account: GLAccount
    product: str = ""
    credit_kind: str = ""
    pool: str = ""
    processor: str = ""
    entries: int = 0


class JournalCorrection(msgspec.Struct, frozen=True, kw_only=True):
    """Why a journal holds entries that another one held before: who corrects it, when and for which reason.

    The journal ``reverses``, or ``reissues``, the one of that number in its period; the other of the two is None.
    """

    reverses: int | None = None
    reissues: int | None = None
    reason: str
    made_by: str
    made_at: datetime

    @property
    def number(self) -> int:
        """Of the journal that is corrected."""
        return (self.reverses if self.reissues is None else self.reissues) or 0


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """The entries of ``period`` in the cuts after ``from_cut`` through ``to_cut``, summarised.

    ``mapping`` is the number of the account mapping its accounts were resolved with. Where that goes by attributes of
    customers, ``customers_hash`` is the SHA-256 of what the journal keeps of them; else it is empty.
    ``correction`` says that it is a reversal or a re-issue; None for a period's own journals and adjustments.
    ``sandbox``: it is of a trial, and every file of it says so; its hash does not depend on that.
    """

    ledger: str
    entity: str
    functional_currency: str
    period: Period
    number: int
    from_cut: int
    to_cut: int
    mapping: int
    lines: tuple[JournalLine, ...]
    correction: JournalCorrection | None = None
    customers_hash: str = ""
    sandbox: bool = False

    @property
    def name(self) -> str:
        """Unique over all ledgers: ``acme-us-2026-01-1``."""
        return f"{self.ledger}-{self.period}-{self.number}"

    @property
    def reverses(self) -> int | None:
        """The number of the journal that it reverses."""
        return None if self.correction is None else self.correction.reverses

    @property
    def reissues(self) -> int | None:
        """The number of the journal that it takes the place of."""
        return None if self.correction is None else self.correction.reissues

    @property
    def kept_number(self) -> int:
        """Of the journal that what it went by of its customers is kept with: of a reversal, what it reverses."""
        return self.number if self.reverses is None else self.reverses

    @property
    def corrects(self) -> str | None:
        """The name of the journal that it reverses or takes the place of."""
        return None if self.correction is None else f"{self.ledger}-{self.period}-{self.correction.number}"

    @property
    def posting_date(self) -> date:
        """The day it is posted on: the period's last."""
        return self.period.last_day

    @property
    def lines_text(self) -> str:
        """The lines in canonical JSON, as they are kept."""
        return canonical(self._plain_lines())

    @property
    def content_hash(self) -> str:
        """SHA-256 of what the journal says: its place, its interval and its lines, in canonical JSON.

        Of a reversal or a re-issue also what it corrects, why, when and by whom.
        """
        document: dict[str, Any] = {
            "ledger": self.ledger,
            "period": str(self.period),
            "number": self.number,
            "from_cut": self.from_cut,
            "to_cut": self.to_cut,
            "mapping": self.mapping,
            "functional_currency": self.functional_currency,
            "lines": self._plain_lines(),
        }
        if self.correction is not None:
            said = {**msgspec.structs.asdict(self.correction), "made_at": format_time(self.correction.made_at)}
            document |= {name: value for name, value in said.items() if value is not None}
        if self.customers_hash:
            document["customers"] = self.customers_hash
        return hashlib.sha256(canonical(document).encode()).hexdigest()

    def _plain_lines(self) -> list[dict[str, Any]]:
        # Amounts as strings: a month's sum may exceed the integers that JSON carries safely (2^53).
        amounts = ("amount_minor", "functional_minor")
        return [
            {name: str(value) if name in amounts else value for name, value in msgspec.to_builtins(line).items()}
            for line in self.lines
        ]

    def line(self, number: int) -> JournalLine:
        """Raises UnknownExport."""
        if not 1 <= number <= len(self.lines):
            raise UnknownExport(
                f"journal {self.name} has no line {number}", field="line",
                expected=f"1 to {len(self.lines)}", found=str(number),
            )  # fmt: skip
        return self.lines[number - 1]


# --- summing --------------------------------------------------------------------------------------------------

_SIDE_ORDER: Final = {Side.DEBIT: 0, Side.CREDIT: 1}
_Key = TypeVar("_Key")
_LineKey = tuple[str, str, str, str, str, str, Side]
"""currency, role, product, credit kind, pool, processor, side."""


def summarise(totals: Iterable[Sum], mapping: AccountMapping) -> tuple[JournalLine, ...]:
    """Journal lines of sums, ordered by currency, chart, side, dimensions and account, numbered from 1.

    A role may go to several accounts, where the mapping goes by customers. Raises UnmappedRole where a line has no
    account, IntegrityFault where debit is not credit.
    """
    sums: dict[tuple[_LineKey, Attributes], list[int]] = {}
    for each in totals:
        for debit, credit, moved in (
            (each.debit, each.credit, each.written), (each.credit, each.debit, each.mirrored)
        ):  # fmt: skip
            for role, side in ((debit, Side.DEBIT), (credit, Side.CREDIT)):
                key = (each.currency, role, each.product, each.credit_kind, each.pool, each.processor, side)
                _add_to(sums, (key, each.attributes), moved)
    by_account: dict[tuple[_LineKey, GLAccount], list[int]] = {}
    for (key, attributes), amounts in sums.items():
        if amounts[0] or amounts[1]:
            currency, role, product, credit_kind = key[:4]
            account = mapping.resolve(role, product, credit_kind, currency, attributes)
            _add_to(by_account, (key, account), amounts)
    lines: list[JournalLine] = []
    for key, account in sorted(by_account, key=_line_order):
        amount, functional, entries = by_account[key, account]
        currency, role, product, credit_kind, pool, processor, side = key
        lines.append(
            JournalLine(
                number=len(lines) + 1,
                role=role,
                side=side,
                currency=currency,
                amount_minor=amount,
                functional_minor=functional,
                account=account,
                product=product,
                credit_kind=credit_kind,
                pool=pool,
                processor=processor,
                entries=entries,
            )
        )
    check_balanced(lines)
    return tuple(lines)


def _add_to(sums: dict[_Key, list[int]], key: _Key, amounts: Iterable[int]) -> None:
    total = sums.setdefault(key, [0, 0, 0])
    for place, amount in enumerate(amounts):
        total[place] += amount


def _line_order(keyed: tuple[_LineKey, GLAccount]) -> tuple[Any, ...]:
    (currency, role, product, credit_kind, pool, processor, side), account = keyed
    line = (currency, CHART_ORDER[role], _SIDE_ORDER[side], product, credit_kind, pool, processor)
    return (*line, account.number, account.dimensions, account.name)


def check_balanced(lines: Iterable[JournalLine]) -> None:
    """Debit equals credit in every currency, and in the functional currency over the same lines.

    Raises IntegrityFault. Checked here because a reader of the export may round and not notice.
    """
    net: dict[str, list[int]] = {}
    for line in lines:
        sign = 1 if line.side is Side.DEBIT else -1
        total = net.setdefault(line.currency, [0, 0])
        total[0] += sign * line.amount_minor
        total[1] += sign * line.functional_minor
    for currency, (amount, functional) in sorted(net.items()):
        if amount or functional:
            raise IntegrityFault(
                f"the journal is out of balance by {amount} minor units of {currency} ({functional} functional)",
                currency=currency,
            )


# --- making journals ------------------------------------------------------------------------------------------

LAST_JOURNAL: Final = """
-- The number of a period's latest journal, and the last cut that any of them holds: a correction holds earlier ones.
SELECT max(number), max(to_cut) FROM journals WHERE ledger = %(ledger)s AND period = %(period)s HAVING count(*) > 0
"""
ENTRIES_AFTER: Final = """
-- Whether a period has entries after a cut.
SELECT EXISTS (SELECT FROM ledger_days WHERE ledger = %(ledger)s AND cut > %(from_cut)s
               AND accounting_date BETWEEN %(first_day)s AND %(last_day)s)
"""
ADD_JOURNAL: Final = """
INSERT INTO journals (ledger, period, number, from_cut, to_cut, mapping, lines, content_hash, customers_hash, reverses,
                      reissues, reason, made_by, made_at)
VALUES (%(ledger)s, %(period)s, %(number)s, %(from_cut)s, %(to_cut)s, %(mapping)s, %(lines)s, %(content_hash)s,
        %(customers_hash)s, %(reverses)s, %(reissues)s, %(reason)s, %(made_by)s, %(made_at)s)
"""
JOURNALS: Final = """
-- The journals of a ledger, or of one of its periods, in order.
SELECT j.period, j.number, j.from_cut, j.to_cut, j.mapping, j.lines, j.content_hash, l.entity, l.functional_currency,
       l.sandbox, coalesce(j.customers_hash, ''), j.reverses, j.reissues, j.reason, j.made_by, j.made_at
FROM journals j JOIN ledgers l ON l.ledger = j.ledger
WHERE j.ledger = %(ledger)s AND (%(period)s::text IS NULL OR j.period = %(period)s)
ORDER BY j.period, j.number
"""

_lines_decoder = msgspec.json.Decoder(tuple[JournalLine, ...], strict=False)


class _Next(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a period needs another journal: its number, the cut it starts after, whether it has entries."""

    number: int
    from_cut: int
    has_entries: bool

    @property
    def is_due(self) -> bool:
        return self.has_entries or self.number == 1


def _next(connection: AnyConnection, ledger: str, period: Period) -> _Next:
    last = rows(connection, LAST_JOURNAL, {"ledger": ledger, "period": str(period)})
    number, from_cut = (last[0][0] + 1, last[0][1]) if last else (1, 0)
    (has_entries,) = rows(connection, ENTRIES_AFTER, interval(ledger, period, from_cut=from_cut))[0]
    return _Next(number=number, from_cut=from_cut, has_entries=has_entries)


def entries_waiting(connection: AnyConnection, ledger: str, period: Period) -> bool:
    """Whether a period has entries that no journal of it holds yet."""
    return _next(connection, ledger, period).has_entries


def ensure_journals(
    recorder: Recorder, database: Database, ledger: str, period: Period, *, by: str | None = None
) -> tuple[Journal, ...]:
    """Every journal of a period, after making the next one where entries wait for it.

    The journal of a closed period ends with the last cut; that of an open one takes a cut of its own. A month
    without entries has one empty journal, a month that has not begun has none. Nothing new makes nothing, and two
    callers at once make one journal: it is made under the ledger's lock. Raises UnknownLedger, InTheFuture,
    UnmappedRole; then nothing was made and nothing cut.
    """
    with database.read() as connection:
        ledger_head(connection, ledger)
        if not _next(connection, ledger, period).is_due:
            return journals_of(connection, ledger, period)
    due: list[_Next] = []

    def plan(connection: WriteConnection, state: LedgerState, position: int) -> list[Event]:
        if not is_closed(state, period):
            check_day_has_come(
                state, period.first_day, now_of(connection), f"a journal of {period}", field="period", found=str(period)
            )
        following = _next(connection, ledger, period)
        if not following.is_due:
            return []
        due.append(following)
        if is_closed(state, period) or not following.has_entries:
            return []
        return [period_cut(position, period, at=ledger_now(connection, state), by=by)]

    def make(connection: WriteConnection, state: LedgerState) -> None:
        for following in due:
            cuts = (following.from_cut, state.open_cut - 1)
            add_journal(connection, summarised(connection, state, period, number=following.number, cuts=cuts))

    raise_first(recorder.transact(ledger, plan, make))
    with database.read() as connection:
        return journals_of(connection, ledger, period)


def summarised(
    connection: WriteConnection, state: LedgerState, period: Period, *, number: int, cuts: tuple[int, int],
    correction: JournalCorrection | None = None,
) -> Journal:  # fmt: skip
    """A journal of the entries after the first of two cuts through the second, under the mapping that holds now.

    It is not kept yet, but for what it goes by of its customers. Raises UnmappedRole, IntegrityFault.
    """
    from_cut, to_cut = cuts
    mapping_number, mapping = mapping_for(connection, state.ledger, period)
    journal = Journal(
        ledger=state.ledger, entity=state.entity, functional_currency=state.functional_currency, period=period,
        number=number, from_cut=from_cut, to_cut=to_cut, mapping=mapping_number, lines=(), correction=correction,
        sandbox=state.sandbox,
    )  # fmt: skip
    kept = ""
    if mapping.attributes:
        kept = keep_customers(connection, interval_of(journal), period, number, mapping.attributes)
    lines = summarise(sums_for(connection, journal, mapping), mapping)
    return msgspec.structs.replace(journal, lines=lines, customers_hash=kept)


def add_journal(connection: WriteConnection, journal: Journal) -> None:
    """Keeps a journal, under the ledger's lock."""
    nothing: dict[str, Any] = dict.fromkeys(JournalCorrection.__struct_fields__)
    correction = nothing if journal.correction is None else msgspec.structs.asdict(journal.correction)
    connection.execute(
        ADD_JOURNAL,
        {
            "ledger": journal.ledger, "period": str(journal.period), "number": journal.number,
            "from_cut": journal.from_cut, "to_cut": journal.to_cut, "mapping": journal.mapping,
            "lines": journal.lines_text, "content_hash": journal.content_hash,
            "customers_hash": journal.customers_hash or None, **correction,
        },
    )  # fmt: skip
    count_one(connection, journal.ledger, "journals")


def interval_of(journal: Journal) -> dict[str, Any]:
    """Which entries are a journal's: its ledger, the days of its period, its cuts."""
    return interval(journal.ledger, journal.period, from_cut=journal.from_cut, to_cut=journal.to_cut)


def sums_for(connection: AnyConnection, journal: Journal, mapping: AccountMapping) -> list[Sum]:
    """What a journal's entries come to, by all that its mapping goes by: from day totals, where that is no customer."""
    place = (journal.period, journal.kept_number)
    return sums_of(connection, interval_of(journal), journal=place, attributes=mapping.attributes)


def journals_of(connection: AnyConnection, ledger: str, period: Period | None = None) -> tuple[Journal, ...]:
    """The journals of a period, or of every period, in order. Raises IntegrityFault where one was changed."""
    result = []
    for name, number, from_cut, to_cut, mapping, lines, content_hash, entity, home, sandbox, kept, *corrects in rows(
        connection, JOURNALS, {"ledger": ledger, "period": None if period is None else str(period)}
    ):
        journal = Journal(
            ledger=ledger, entity=entity, functional_currency=home, period=Period.parse(name),
            number=number, from_cut=from_cut, to_cut=to_cut, mapping=mapping, lines=_lines_decoder.decode(lines),
            customers_hash=kept, correction=_correction(corrects), sandbox=sandbox,
        )  # fmt: skip
        if journal.content_hash != content_hash:
            raise IntegrityFault(
                f"journal {journal.name} is not what it was when it was made",
                expected=content_hash,
                found=journal.content_hash,
            )
        result.append(journal)
    return tuple(result)


def _correction(columns: Sequence[Any]) -> JournalCorrection | None:
    if all(value is None for value in columns):
        return None
    return JournalCorrection(**dict(zip(JournalCorrection.__struct_fields__, columns, strict=True)))


def journal_of(connection: AnyConnection, ledger: str, period: Period, number: int) -> Journal:
    """One journal. Raises UnknownExport."""
    for journal in journals_of(connection, ledger, period):
        if journal.number == number:
            return journal
    raise UnknownExport(f"ledger {ledger} has no journal {period}-{number}", field="number", found=f"{period}-{number}")
