"""Disclosures about contract balances: ASC 606-10-50-8 to 50-15, IFRS 15.105 to 15.122, IAS 1.69 and ASC 210-10-45.

Owns: the current part of the liability, and the remaining performance obligation by time band (50-13). The band in
which an amount will be recognised is estimated by the method of the forecast (``prospects``). Does not own: the revenue
out of the opening liability (``revenue_sources``).

Refundable blocks are a refund liability (606-10-32-10). They are no contract liability and no performance obligation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from typing import Any, Final

import msgspec

from projections.forecast.forecast import history
from projections.forecast.habits import Habits, observe
from projections.forecast.holdings import Holding, holdings, last_whole_month, month_number
from projections.forecast.monthly import monthly
from projections.forecast.prospects import limited_outlooks
from projections.forecast.runoff import Lot, Lots, Outlook, lots_on, months_after
from projections.report import Column, Report, ReportRequest, Table, Tie, closing
from projections.report_inputs import Balances, control_balances, functional_balances, totals
from projections.reports.revenue_sources import SOURCES, RevenueFigures, sources, sources_table
from projections.reports.shown_net import CANCELLABLE, NOT_YET_DUE, REASONS, RECEIVABLE, REFUNDABLE, ShownNet, shown_net
from projections.reports.waterfall import IN_REVENUE, RELEASED, REVENUE, bridge_table
from subledger.money import round_half_up
from subledger.store.reading.views import View

LIABILITY, RECOGNISED_AHEAD = "prepaid_liability", "breakage_recognized"
RECEIVABLES: Final = ("accounts_receivable", "unbilled_receivable")
BANDS: Final = (("within 12 months", 12), ("13 to 24 months", 24))
LATER: Final = "later"
NOT_UNCONDITIONAL: Final = "not_unconditional"
"""The item of amounts that are presented neither as a receivable nor as a liability."""
MONTHS: Final = 24

NOTES: Final = (
    "Contract liability: prepaid_liability of blocks that are not refundable, less breakage recognised before expiry; "
    "customer_deposits and credits_clearing are presented net. Refund liability (606-10-32-10): refundable blocks, "
    "current throughout. Both, and the receivables, are as presented: without purchases whose right is not "
    "unconditional yet (not_unconditional; 606-10-45-4, Example 38).",
    "Current (IAS 1.69, ASC 210-10-45): the part that the forecast expects to be used or to lapse within twelve "
    "calendar months. at_the_latest uses the expiry alone: the longest possible deferral. If the entity has no right "
    "to defer settlement, the whole liability is current; this report does not make that judgement.",
    "Remaining performance obligation (606-10-50-13): remaining less escheat; no exemption of 50-14 is used. What is "
    "not due is in it; unpaid purchases that the customer may cancel are not (606-10-25-4): cancellable. "
    "Breakage already recognised for pools is spread over the bands in proportion to their blocks.",
    "Revenue out of the opening liability (606-10-50-8(b)): for each block, the opening carrying amount is used before "
    "later additions; breakage recognised for a cohort of a pool comes out of the opening balance of its blocks, net "
    "of what was recognised before, and then out of what was sold in the period. Under customer_deposits_arm it is the "
    "amount released to the ERP's revenue module.",
)


def performance(view: View, request: ReportRequest) -> Report:
    """Returns the disclosures of a period: opening and closing balances, remaining obligation by time band, revenue by
    source."""
    end = closing(view, request)
    start = None if request.from_date is None else _before(end, request.from_date)
    blocks = holdings(end, since=request.from_date)
    found, bridge = sources(end, request.from_date, blocks)
    balances = _Balances(start, end, blocks, request.from_date)
    remaining, bands = _remaining(end, balances.conditional[1])
    return Report(
        name="performance",
        title="Contract balances and performance obligations",
        tables=(
            _balances_table(balances, bands),
            remaining,
            sources_table(found, end.functional_currency),
            bridge_table({(currency, item): amounts[0] for (item, currency), amounts in bridge.items()}),
        ),
        ties=(*balances.ties(bands), *_revenue_ties(balances, found, bridge)),
        notes=NOTES,
    )


def _before(end: View, day: date) -> View:
    return msgspec.structs.replace(end, as_of=day - timedelta(days=1))


# --- balances -------------------------------------------------------------------------------------------------------


class _Balances:
    """Opening and closing trial balances in both currencies, and the carrying amounts of refundable blocks."""

    def __init__(self, start: View | None, end: View, blocks: Sequence[Holding], from_date: date | None) -> None:
        self.functional_currency = end.functional_currency
        accounts = (LIABILITY, RECOGNISED_AHEAD, *RECEIVABLES, *REVENUE, "deferred_revenue")
        self.books: list[Balances] = []
        self.functional: list[Balances] = []
        for view in (start, end):
            self.books.append({} if view is None else control_balances(view))
            self.functional.append({} if view is None else functional_balances(view, totals(view), accounts))
        self.conditional = [_Conditional([] if view is None else shown_net(view)) for view in (start, end)]
        before = -1 if from_date is None else month_number(from_date) - 1
        self.blocks = [_carried(blocks, before), _carried(blocks, None)]

    @property
    def currencies(self) -> list[str]:
        """The currencies in which a liability or a receivable is open at the opening or at the closing."""
        wanted = (LIABILITY, RECOGNISED_AHEAD, *RECEIVABLES)
        found = {
            currency
            for books in self.books
            for (account, currency), balance in books.items()
            if account in wanted and balance
        }
        return sorted(found | {currency for (currency, _), sums in self.blocks[1].items() if any(sums)})

    def of(self, end: int, account: str, currency: str) -> tuple[int, int]:
        key = (account, currency)
        return self.books[end].get(key, 0), self.functional[end].get(key, 0)

    def netted(self, end: int, currency: str) -> tuple[int, int]:
        """Returns the amount that is presented neither as a receivable nor as a liability."""
        return self.conditional[end].of(currency)

    def refundable(self, end: int, currency: str) -> tuple[int, int]:
        """Returns the carrying amount of refundable blocks, as presented."""
        return _less(self.blocks[end].get((currency, True), (0, 0)), self.conditional[end].of(currency, REFUNDABLE))

    def contract(self, end: int, currency: str) -> tuple[int, int]:
        """Returns the carrying amount of blocks that are not refundable, less breakage recognised before expiry, as
        presented.
        """
        value = _less(self.blocks[end].get((currency, False), (0, 0)), self.of(end, RECOGNISED_AHEAD, currency))
        return _less(value, self.conditional[end].of(currency, CANCELLABLE, NOT_YET_DUE))

    def receivable(self, end: int, account: str, currency: str) -> tuple[int, int]:
        """Returns a receivable as presented."""
        gross = self.of(end, account, currency)
        return _less(gross, self.netted(end, currency)) if account == RECEIVABLE else gross

    def ties(self, bands: dict[str, list[list[int]]]) -> Iterator[Tie]:
        """Yields ties of both liabilities, at opening and closing, and of the remaining obligation."""
        for end, name in ((0, "opening"), (1, "closing")):
            for currency in self.currencies:
                parts = (self.contract(end, currency), self.refundable(end, currency), self.netted(end, currency))
                report = [sum(part) for part in zip(*parts, strict=True)]
                gross, ahead = self.of(end, LIABILITY, currency), self.of(end, RECOGNISED_AHEAD, currency)
                title = f"{name} contract and refund liability, and netted = prepaid_liability less breakage_recognized"
                yield _tie(title, currency, report[0], gross[0] - ahead[0])
                if currency != self.functional_currency:
                    yield _tie(
                        f"{title}, {currency} in {self.functional_currency}",
                        self.functional_currency,
                        report[1],
                        gross[1] - ahead[1],
                    )
        for currency in self.currencies:
            remaining = sum(amounts[0] for amounts in bands.get(currency, []))
            title = "remaining in all bands, and refund liability = prepaid_liability less breakage_recognized"
            books = self.of(1, LIABILITY, currency)[0] - self.of(1, RECOGNISED_AHEAD, currency)[0]
            apart = self.refundable(1, currency)[0] + self.conditional[1].of(currency, REFUNDABLE, CANCELLABLE)[0]
            yield _tie(title, currency, remaining + apart, books)


class _Conditional:
    """Netted amounts of purchases whose right is not unconditional yet, by currency and reason."""

    def __init__(self, purchases: Iterable[ShownNet]) -> None:
        self._sums: dict[tuple[str, str], tuple[int, int]] = {}
        for purchase in purchases:
            amount, functional = self._sums.get((purchase.currency, purchase.reason), (0, 0))
            self._sums[purchase.currency, purchase.reason] = (
                amount + purchase.netted_minor,
                functional + purchase.netted_functional,
            )

    def of(self, currency: str, *reasons: str) -> tuple[int, int]:
        """Returns the sum in a currency, of some reasons or of all, also in the functional currency."""
        found = [self._sums.get((currency, reason), (0, 0)) for reason in reasons or REASONS]
        return sum(amount for amount, _ in found), sum(functional for _, functional in found)


def _less(amounts: tuple[int, int], deducted: tuple[int, int]) -> tuple[int, int]:
    return amounts[0] - deducted[0], amounts[1] - deducted[1]


def _tie(title: str, currency: str, report: int, books: int) -> Tie:
    return Tie(what=title, currency=currency, report_minor=report, trial_balance_minor=books)


def _carried(blocks: Iterable[Holding], month: int | None) -> dict[tuple[str, bool], tuple[int, int]]:
    """Returns the carrying amounts at the end of a month (None: of the view), by currency and ``refundable``."""
    found: dict[tuple[str, bool], tuple[int, int]] = {}
    for holding in blocks:
        at = len(holding.months) - 1 if month is None else holding.month_index(month)
        if at >= 0:
            key = (holding.block.currency, holding.block.refundable)
            value, functional = found.get(key, (0, 0))
            found[key] = (value + holding.value[at], functional + holding.functional[at])
    return found


def _balances_table(balances: _Balances, bands: dict[str, list[list[int]]]) -> Table:
    columns = (
        Column("item"),
        Column("currency"),
        Column("opening", "money"),
        Column("closing", "money"),
        Column("current", "money"),
        Column("non_current", "money"),
        Column("functional_currency"),
        Column("opening_functional", "functional"),
        Column("closing_functional", "functional"),
        Column("current_functional", "functional"),
        Column("non_current_functional", "functional"),
    )
    rows = []
    for currency in balances.currencies:
        soon = [0, 0]
        if currency in bands:
            # An amount that is not due is already a performance obligation, but not a liability yet.
            not_due = _spread(balances.conditional[1].of(currency, NOT_YET_DUE), bands[currency])
            soon = [remaining - own for remaining, own in zip(bands[currency][0], not_due[0], strict=True)]
        for item, opening, closing_, current in (
            ("contract liability", balances.contract(0, currency), balances.contract(1, currency), soon),
            ("refund liability", balances.refundable(0, currency), balances.refundable(1, currency), None),
            *(
                (name, balances.receivable(0, name, currency), balances.receivable(1, name, currency), None)
                for name in RECEIVABLES
            ),
            (NOT_UNCONDITIONAL, balances.netted(0, currency), balances.netted(1, currency), None),
        ):
            now = closing_ if current is None else current
            is_shown = item != NOT_UNCONDITIONAL
            if any((*opening, *closing_)) or item == "contract liability":
                rows.append(
                    (
                        item,
                        currency,
                        opening[0],
                        closing_[0],
                        now[0] if is_shown else None,
                        closing_[0] - now[0] if is_shown else None,
                        balances.functional_currency,
                        opening[1],
                        closing_[1],
                        now[1] if is_shown else None,
                        closing_[1] - now[1] if is_shown else None,
                    )
                )
    return Table(name="performance", columns=columns, rows=tuple(rows))


# --- remaining performance obligation -------------------------------------------------------------------------------


def _class_of(lot: Lot) -> tuple[str, bool, bool]:
    return lot.currency, lot.is_refundable, lot.is_pooled


_REMAINING_COLUMNS: Final = (
    Column("band"),
    Column("currency"),
    Column("liability", "money"),
    Column("breakage_recognised", "money"),
    Column("cancellable", "money"),
    Column("remaining", "money"),
    Column("escheat", "money"),
    Column("at_the_latest", "money"),
    Column("functional_currency"),
    Column("remaining_functional", "functional"),
)


def _remaining(end: View, conditional: _Conditional) -> tuple[Table, dict[str, list[list[int]]]]:
    """Returns the remaining obligation by time band as a table, and its amounts per currency and band."""
    blocks, sums = history(end), monthly(end)
    last = last_whole_month(end.as_of)
    lots = lots_on(blocks, end.as_of)
    habits = Habits(observe(blocks, last), last, sums.seasons(last))
    expected = limited_outlooks(lots, habits, sums, end.as_of, MONTHS, by=_class_of)
    books = control_balances(end)
    functional = functional_balances(end, totals(end), (RECOGNISED_AHEAD,))
    functional_currency = end.functional_currency
    rows: list[tuple[Any, ...]] = []
    bands: dict[str, list[list[int]]] = {}
    for currency in sorted({currency for currency, refundable, _ in expected if not refundable}):
        plain, pooled = (expected.get((currency, False, is_pooled)) for is_pooled in (False, True))
        parts = [_by_band(outlook) for outlook in (plain, pooled) if outlook is not None]
        gross = [[sum(part[band][column] for part in parts) for column in range(3)] for band in range(len(BANDS) + 1)]
        key = (RECOGNISED_AHEAD, currency)
        ahead = _spread_out(books.get(key, 0), functional.get(key, 0), pooled)
        latest = _at_the_latest(lots, currency, end.as_of)
        net = [[g[0] - a[0], g[1] - a[1]] for g, a in zip(gross, ahead, strict=True)]
        cancellable = _spread(conditional.of(currency, CANCELLABLE), net)
        bands[currency] = [[n[0] - c[0], n[1] - c[1]] for n, c in zip(net, cancellable, strict=True)]
        for at, (name, *_) in enumerate((*BANDS, (LATER, 0))):
            if any((*gross[at], *ahead[at], latest[at])):
                rows.append(
                    (
                        name,
                        currency,
                        gross[at][0],
                        ahead[at][0],
                        cancellable[at][0],
                        bands[currency][at][0],
                        gross[at][2] if name != LATER else None,
                        latest[at],
                        functional_currency,
                        bands[currency][at][1],
                    )
                )
    return Table(name="remaining", columns=_REMAINING_COLUMNS, rows=tuple(rows)), bands


def _by_band(outlook: Outlook) -> list[list[int]]:
    """Returns per band the amount expected to be used or to lapse: in currency, in functional currency, escheat."""
    found, first = [], 0
    for _, until in BANDS:
        months = outlook.months[first:until]
        found.append(
            [
                sum(month.total for month in months),
                sum(month.functional for month in months),
                sum(month.escheated for month in months),
            ]
        )
        first = until
    sums, functional = (sum(band[column] for band in found) for column in (0, 1))
    return [*found, [outlook.opening - sums, outlook.opening_functional - functional, 0]]


def _spread_out(ahead: int, functional: int, pooled: Outlook | None) -> list[list[int]]:
    """Spreads breakage recognised before expiry over the bands, in proportion to pooled blocks."""
    return _spread((ahead, functional), [] if pooled is None else _by_band(pooled))


def _spread(amounts: tuple[int, int], bands: Sequence[Sequence[int]]) -> list[list[int]]:
    """Divides an amount and its functional amount over the bands, in proportion to the first figure of each band.

    Rounding is cumulative, half up, so the parts add up to the whole. If the bands are empty, the whole amount is
    ``later``.
    """
    total = sum(band[0] for band in bands)
    if total <= 0:
        return [*[[0, 0] for _ in BANDS], list(amounts)]
    found, cumulated, before = [], 0, [0, 0]
    for band in bands:
        cumulated += band[0]
        now = [round_half_up(amount * cumulated, total) for amount in amounts]
        found.append([now[0] - before[0], now[1] - before[1]])
        before = now
    return found


def _at_the_latest(lots: Lots, currency: str, day: date) -> list[int]:
    """Returns per band the amount that lapses if nothing is used. Blocks in dispute or without expiry are ``later``."""
    ends = [before + days for before, days, _ in months_after(day, MONTHS)]
    found = [0] * (len(BANDS) + 1)
    for lot in (lot for own in lots.values() for lot in own):
        if lot.currency == currency and not lot.is_refundable:
            until_day = lot.last_day.toordinal()
            band = next(
                (at for at, (_, until) in enumerate(BANDS) if until_day <= ends[until - 1] and not lot.is_frozen), -1
            )
            found[band] += lot.value
    return found


# --- ties -----------------------------------------------------------------------------------------------------------


def _revenue_ties(balances: _Balances, found: RevenueFigures, bridge: RevenueFigures) -> Iterator[Tie]:
    """Yields ties of the revenue by source with the change of the revenue accounts and deferred_revenue."""
    currencies = {currency for _, currency in (*found, *bridge)}
    for currency in sorted(currencies):
        recognised = [sum(found.get((source, currency), (0, 0))[at] for source in SOURCES) for at in (0, 1)]
        released = bridge.get((RELEASED, currency), [0, 0])
        other = [
            sum(amounts[at] for (item, of), amounts in bridge.items() if of == currency and item != IN_REVENUE)
            for at in (0, 1)
        ]
        for at, (books, unit) in enumerate(
            ((balances.books, currency), (balances.functional, balances.functional_currency))
        ):
            if at == 1 and currency == balances.functional_currency:
                continue
            named = "" if at == 0 else f", {currency} in {unit}"
            change = {
                name: books[1].get((name, currency), 0) - books[0].get((name, currency), 0)
                for name in (*REVENUE, "deferred_revenue")
            }
            revenue = sum(change[name] for name in REVENUE)
            title = "revenue by source, less released = change of usage, overage and breakage revenue"
            yield _tie(title + named, unit, recognised[at] - released[at], revenue)
            if other[at] or change["deferred_revenue"]:
                title = "released, less concessions and shares = change of deferred_revenue"
                yield _tie(title + named, unit, other[at], change["deferred_revenue"])
