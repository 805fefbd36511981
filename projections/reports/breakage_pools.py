"""The report of breakage pools: issued, redeemed, expected and recognised breakage of each pool; every estimate with
its effect; and breakage_recognized by month.

Owns: these tables and their ties. Does not own: the formula that checks them (``breakage_formula``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Final

import msgspec

from projections.report import Column, Report, ReportRequest, Table, Tie, closing
from projections.report_inputs import (
    EntryTotal,
    by_currency,
    control_balances,
    functional_balances,
    functional_ties_of,
    ties_of,
    totals,
)
from projections.reports.breakage_formula import (
    DEDUCTIONS,
    EARLIER,
    ESTIMATE,
    LATER,
    EstimateVersion,
    PoolFigures,
    Step,
    due,
    expected,
    recorded_estimates,
    steps_of,
)
from subledger.kinds import GAINS, KIND_BY_NAME, Rules, effect
from subledger.money import round_half_up
from subledger.store.reading.views import View

LIABILITY, RECOGNIZED = "prepaid_liability", "breakage_recognized"


class PoolBalances(msgspec.Struct, kw_only=True):
    """A pool in a view: its columns, and the balances of its accounts in both currencies."""

    currency: str
    columns: dict[str, int]
    figures: PoolFigures
    recognised: tuple[int, int]
    liability: tuple[int, int]
    breakage_recognized: tuple[int, int]


def breakage_pools(view: View, request: ReportRequest) -> Report:
    """Returns every pool at the end of the view, with its estimates, and breakage_recognized by month."""
    end = closing(view, request)
    functional_currency = end.functional_currency
    rules = end.rules
    found = totals(end, from_date=request.from_date, by="pool")
    estimates = recorded_estimates(end)
    pools = _pools(found, estimates, rules)
    steps, issued_at = steps_of(end, request, estimates) if pools else ([], {})
    in_force = {e.pool: e for e in estimates if e.booked_on <= end.as_of}
    rows = tuple(
        _pool_row(name, pool, in_force.get(name), issued_at, functional_currency)
        for name, pool in sorted(pools.items())
    )
    return Report(
        name="pools",
        title="Breakage pools",
        tables=(
            Table(name="pools", columns=_POOL_COLUMNS, rows=rows),
            _estimates_table(estimates, steps, end.as_of, functional_currency),
            _rollforward_table(found, pools, steps, rules, functional_currency),
            _liability_table(found, rules, functional_currency),
        ),
        ties=(*_formula_ties(pools, steps, functional_currency), *_ties(end, pools, found)),
        notes=_notes(rows),
    )


def _notes(rows: Iterable[tuple[Any, ...]]) -> tuple[str, ...]:
    names = [column.name for column in _POOL_COLUMNS]
    by_formula, recognised = names.index("due_by_formula"), names.index("recognised")
    notes = (
        "Recognised to date is max(expired, min(E × redeemed / (F − E − S), F − redeemed − S)). F is net_issued; E and "
        "S are the expected breakage and the expected escheat for the amount issued now. It is 0 before the first "
        "redemption, and equal to expired once the pool has no credits.",
    )
    if all(row[by_formula] == row[recognised] for row in rows):
        return notes
    return (
        *notes,
        "If due_by_formula differs from recognised, some events were recorded after events with a later date: each "
        "event posts its change on its own date. Computed event by event, recognised is right; see the ties.",
    )


# --- pools in the view ----------------------------------------------------------------------------------------------


def _pools(
    found: Iterable[EntryTotal], estimates: Iterable[EstimateVersion], rules: Mapping[int, Rules]
) -> dict[str, PoolBalances]:
    """Returns the pools in the view's day totals, and the pools that have only an estimate."""
    pools: dict[str, PoolBalances] = {}

    def pool_of(name: str, currency: str) -> PoolBalances:
        nothing = (0, 0)
        fresh = PoolBalances(
            currency=currency,
            columns={},
            figures=PoolFigures(),
            recognised=nothing,
            liability=nothing,
            breakage_recognized=nothing,
        )
        return pools.setdefault(name, fresh)

    for estimate in estimates:
        pool_of(estimate.pool, estimate.currency)
    for total in found:
        if total.key:
            _count(pool_of(total.key, total.currency), total, rules[total.policy])
    return pools


def _count(pool: PoolBalances, total: EntryTotal, rules: Rules) -> None:
    kind = KIND_BY_NAME[total.kind]
    pool.liability = _plus(pool.liability, total, -effect(LIABILITY, total.kind, rules))
    pool.breakage_recognized = _plus(pool.breakage_recognized, total, effect(RECOGNIZED, total.kind, rules))
    if total.kind == ESTIMATE:
        pool.recognised = _plus(pool.recognised, total, 1)
    if kind.column is None:
        return
    figures, lost = pool.figures, -kind.sign * total.amount_minor
    figures.credits += kind.sign * total.credits
    if kind.column in GAINS:
        pool.columns["issued"] = pool.columns.get("issued", 0) + kind.sign * total.amount_minor
    else:
        pool.columns[kind.column] = pool.columns.get(kind.column, 0) + lost
    match kind.column:
        case "consumed":
            figures.redeemed += lost
        case "expired":
            figures.expired += lost
            figures.expired_functional -= kind.sign * total.functional_minor
        case "escheated":
            figures.escheated += lost
        case _:
            figures.issued -= lost
            figures.issued_functional += kind.sign * total.functional_minor


def _plus(sums: tuple[int, int], total: EntryTotal, sign: int) -> tuple[int, int]:
    return sums[0] + sign * total.amount_minor, sums[1] + sign * total.functional_minor


# --- tables ---------------------------------------------------------------------------------------------------------

_POOL_COLUMNS: Final = (
    Column("pool"), Column("currency"), Column("issued", "money"), *(Column(name, "money") for name in DEDUCTIONS),
    Column("net_issued", "money"), Column("redeemed", "money"), Column("expired", "money"),
    Column("escheated", "money"), Column("credits_left", "credits"), Column("estimate_version", "integer"),
    Column("estimate_position", "integer"), Column("evidence"), Column("expected_breakage", "money"),
    Column("expected_escheat", "money"), Column("due_by_formula", "money"), Column("recognised", "money"),
    Column("breakage_recognized", "money"), Column("prepaid_liability", "money"), Column("net_liability", "money"),
    Column("functional_currency"), Column("recognised_functional", "functional"),
    Column("breakage_recognized_functional", "functional"), Column("prepaid_liability_functional", "functional"),
    Column("net_liability_functional", "functional"),
)  # fmt: skip


def _pool_row(
    name: str,
    pool: PoolBalances,
    estimate: EstimateVersion | None,
    issued_at: Mapping[tuple[str, int], int],
    functional_currency: str,
) -> tuple[Any, ...]:
    figures = pool.figures
    issued_then = 0 if estimate is None else issued_at[name, estimate.version]
    breakage, escheat = (
        round_half_up(part.numerator, part.denominator) for part in expected(estimate, issued_then, figures)
    )
    return (
        name,
        pool.currency,
        pool.columns.get("issued", 0),
        *(pool.columns.get(column, 0) for column in DEDUCTIONS),
        figures.issued,
        figures.redeemed,
        figures.expired,
        figures.escheated,
        figures.credits,
        None if estimate is None else estimate.version,
        None if estimate is None else estimate.position,
        None if estimate is None else estimate.evidence,
        breakage,
        escheat,
        due(estimate, issued_then, figures)[0],
        pool.recognised[0],
        pool.breakage_recognized[0],
        pool.liability[0],
        pool.liability[0] - pool.breakage_recognized[0],
        functional_currency,
        pool.recognised[1],
        pool.breakage_recognized[1],
        pool.liability[1],
        pool.liability[1] - pool.breakage_recognized[1],
    )


def _estimates_table(
    estimates: Iterable[EstimateVersion], steps: Iterable[Step], as_of: date, functional_currency: str
) -> Table:
    """Returns every version of every estimate, with its change of the breakage recognised to date (a true-up)."""
    columns = (
        Column("pool"),
        Column("version", "integer"),
        Column("date", "date"),
        Column("position", "integer"),
        Column("currency"),
        Column("expected_breakage", "money"),
        Column("expected_breakage_rate", "ratio"),
        Column("expected_escheat", "money"),
        Column("expected_escheat_rate", "ratio"),
        Column("evidence"),
        Column("maker"),
        Column("checker"),
        Column("recognised_before", "money"),
        Column("changed_by", "money"),
        Column("recognised_after", "money"),
        Column("functional_currency"),
        Column("changed_by_functional", "functional"),
    )
    of_version = {(step.pool, step.version): step for step in steps if step.version is not None}
    rows = tuple(
        (
            made.pool,
            made.version,
            made.booked_on,
            made.position,
            made.currency,
            made.breakage_minor,
            made.breakage_rate,
            made.escheat_minor,
            made.escheat_rate,
            made.evidence,
            made.maker,
            made.checker,
            step.before[0],
            step.posted[0],
            step.due[0],
            functional_currency,
            step.posted[1],
        )
        for made in sorted(estimates, key=lambda made: (made.pool, made.version))
        if made.booked_on <= as_of
        for step in (of_version[made.pool, made.version],)
    )
    return Table(name="estimates", columns=columns, rows=rows)


def _rollforward_table(
    found: Iterable[EntryTotal],
    pools: Mapping[str, PoolBalances],
    steps: Iterable[Step],
    rules: Mapping[int, Rules],
    functional_currency: str,
) -> Table:
    """Returns breakage_recognized by month: recognised (by the books and by the formula) and expired."""
    columns = (
        Column("pool"),
        Column("period"),
        Column("currency"),
        Column("opening", "money"),
        Column("recognised", "money"),
        Column("expired", "money"),
        Column("closing", "money"),
        Column("due_by_formula", "money"),
        Column("functional_currency"),
        Column("opening_functional", "functional"),
        Column("recognised_functional", "functional"),
        Column("expired_functional", "functional"),
        Column("closing_functional", "functional"),
    )
    moved: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for total in found:
        sign = effect(RECOGNIZED, total.kind, rules[total.policy])
        if total.key and sign:
            of_month = moved.setdefault((total.key, EARLIER if total.month is None else str(total.month)), {})
            column = "recognised" if total.kind == ESTIMATE else "expired"
            of_month[column] = _plus(of_month.get(column, (0, 0)), total, 1)
    by_formula = _due_by_month(steps)
    rows, balances = [], dict.fromkeys(pools, (0, 0))
    for pool, month in sorted({*moved, *by_formula}, key=lambda key: (key[0], key[1] != EARLIER, key[1])):
        of_month = moved.get((pool, month), {})
        recognised, expired = of_month.get("recognised", (0, 0)), of_month.get("expired", (0, 0))
        opening = balances[pool]
        balances[pool] = (opening[0] + recognised[0] - expired[0], opening[1] + recognised[1] - expired[1])
        worked_out = by_formula.get((pool, month), 0)
        if month != EARLIER and any((*recognised, *expired, worked_out)):
            amounts, functional = zip(opening, recognised, expired, balances[pool], strict=True)
            rows.append((pool, month, pools[pool].currency, *amounts, worked_out, functional_currency, *functional))
    return Table(name="rollforward", columns=columns, rows=tuple(rows))


def _due_by_month(steps: Iterable[Step]) -> dict[tuple[str, str], int]:
    """Returns by pool and month the breakage that the formula recognises, without entries booked after the view."""
    found: dict[tuple[str, str], int] = {}
    for step in steps:
        if step.month != LATER:
            key = (step.pool, step.month)
            found[key] = found.get(key, 0) + step.due[0] - step.before[0]
    return found


def _liability_table(found: Iterable[EntryTotal], rules: Mapping[int, Rules], functional_currency: str) -> Table:
    """Returns prepaid_liability per currency: in pools, in other blocks, net of breakage recognised before expiry."""
    columns = (
        Column("currency"),
        Column("pooled", "money"),
        Column("unpooled", "money"),
        Column(LIABILITY, "money"),
        Column(RECOGNIZED, "money"),
        Column("net_liability", "money"),
        Column("functional_currency"),
        Column("prepaid_liability_functional", "functional"),
        Column("net_liability_functional", "functional"),
    )
    sums: dict[str, dict[str, tuple[int, int]]] = {}
    for total in found:
        of_currency = sums.setdefault(total.currency, {})
        for name, sign in (
            ("pooled" if total.key else "unpooled", -effect(LIABILITY, total.kind, rules[total.policy])),
            (RECOGNIZED, effect(RECOGNIZED, total.kind, rules[total.policy])),
        ):
            of_currency[name] = _plus(of_currency.get(name, (0, 0)), total, sign)
    rows = []
    for currency, amounts in sorted(sums.items()):
        pooled, unpooled = amounts.get("pooled", (0, 0)), amounts.get("unpooled", (0, 0))
        recognized = amounts.get(RECOGNIZED, (0, 0))
        liability = (pooled[0] + unpooled[0], pooled[1] + unpooled[1])
        if any((*pooled, *unpooled, *recognized)):
            rows.append(
                (
                    currency,
                    pooled[0],
                    unpooled[0],
                    liability[0],
                    recognized[0],
                    liability[0] - recognized[0],
                    functional_currency,
                    liability[1],
                    liability[1] - recognized[1],
                )
            )
    return Table(name="liability", columns=columns, rows=tuple(rows))


# --- ties -----------------------------------------------------------------------------------------------------------


def _formula_ties(pools: Mapping[str, PoolBalances], steps: Iterable[Step], functional_currency: str) -> Iterator[Tie]:
    """Yields per pool the breakage by the formula for the events booked through the view, beside the posted amount."""
    worked_out = dict.fromkeys(pools, (0, 0))
    for step in steps:
        if step.month != LATER:
            amount, functional = worked_out[step.pool]
            change = (step.due[0] - step.before[0], step.due[1] - step.before[1])
            worked_out[step.pool] = (amount + change[0], functional + change[1])
    for name, pool in sorted(pools.items()):
        for place, currency in enumerate(
            (pool.currency, functional_currency)[: 1 if pool.currency == functional_currency else 2]
        ):
            yield Tie(
                what=f"breakage of pool {name} by the formula = its breakage_estimate entries",
                currency=currency,
                report_minor=worked_out[name][place],
                trial_balance_minor=pool.recognised[place],
            )


def _ties(end: View, pools: Mapping[str, PoolBalances], found: Sequence[EntryTotal]) -> Iterator[Tie]:
    """Yields the sums of the blocks' columns, in pools and outside, beside the accounts under the posting rules."""
    functional_currency, books = end.functional_currency, control_balances(end)
    recognized = by_currency((p.currency, p.recognised[0] - p.figures.expired) for p in pools.values())
    liability = by_currency((total.currency, _carried(total.kind) * total.amount_minor) for total in found)
    for title, report, account in ((FROM_POOLS, recognized, RECOGNIZED), (FROM_BLOCKS, liability, LIABILITY)):
        for tie in ties_of(title, report, account, books):
            if tie.report_minor or tie.trial_balance_minor:
                yield tie
    foreign = sorted({total.currency for total in found} - {functional_currency})
    if not foreign:
        return
    in_functional = functional_balances(end, totals(end), (RECOGNIZED, LIABILITY))
    recognized = by_currency((p.currency, p.recognised[1] - p.figures.expired_functional) for p in pools.values())
    liability = by_currency((total.currency, _carried(total.kind) * total.functional_minor) for total in found)
    for title, report, account in ((FROM_POOLS, recognized, RECOGNIZED), (FROM_BLOCKS, liability, LIABILITY)):
        for tie in functional_ties_of(
            f"{title}, of {{currency}}", report, account, in_functional, functional_currency, foreign
        ):
            if tie.report_minor or tie.trial_balance_minor:
                yield tie


FROM_POOLS: Final = "pools' recognised - expired = breakage_recognized"
FROM_BLOCKS: Final = "pooled + unpooled = prepaid_liability"


def _carried(kind: str) -> int:
    """Returns the sign with which an entry of a kind counts in a block's carrying amount.

    Exchange differences of a liability are positive as debits.
    """
    return KIND_BY_NAME[kind].value_sign
