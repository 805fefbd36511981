"""The report of breakage pools.

It has the amounts issued and redeemed, and the expected and recognised breakage of each cohort; the breakage of
finished blocks beside the estimate; every estimate with its effect; and breakage_recognized by month.

Owns: these tables and their ties. Does not own: the formula that checks them (``breakage_formula``), estimates as
recorded (``breakage_estimates``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Final

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
from projections.reports.breakage_cohorts import CohortBalances, InForce, finished_table
from projections.reports.breakage_estimates import (
    SEPARATOR,
    CohortKey,
    CohortNames,
    EstimateVersion,
    recorded_estimates,
)
from projections.reports.breakage_openings import OPENED_AHEAD, opened_cohorts, together
from projections.reports.breakage_steps import (
    DEDUCTIONS,
    EARLIER,
    ESTIMATE,
    Effect,
    Openings,
    Step,
    effects_of,
    steps_of,
)
from subledger.cohorts import WHOLE
from subledger.kinds import GAINS, KIND_BY_NAME, Rules, effect
from subledger.money import round_half_up
from subledger.store.reading.views import View

LIABILITY, RECOGNIZED = "prepaid_liability", "breakage_recognized"

NOTES: Final = (
    "Recognised to date follows a line: from the last estimate, or the last event that changed what is issued or "
    "escheated, at which R0 was redeemed and T0 recognised, it is T0 + (E − T0) × (redeemed − R0) / (F − S − E − R0), "
    "not below expired and not above F − redeemed − S. F is net_issued; E and S are the expected breakage and the "
    "expected escheat for the amount issued now. An estimate sets it to E × redeemed / (F − E − S). A purchase "
    "recognises nothing. It is equal to expired once the cohort has no credits. due_by_formula is computed anew, day "
    "by day, in whatever order the days were recorded.",
    "finished shows blocks without credits: what of their value expired, beside what the estimate in force expects. "
    "Credits that are used up come before those that expire, so while a cohort has credits, fewer seem to expire. The "
    "monitor compares what can still become of a whole cohort.",
)


def breakage_pools(view: View, request: ReportRequest) -> Report:
    """Returns every cohort at the end of the view, with its estimates, and breakage_recognized by month."""
    end = closing(view, request)
    functional_currency, rules = end.functional_currency, end.rules
    found = totals(end, from_date=request.from_date, by="cohort")
    estimates = recorded_estimates(end)
    names = CohortNames(end, estimates)
    openings = opened_cohorts(end, names, estimates)
    estimates = [estimate for estimate in estimates if not estimate.undone]
    cohorts = _cohorts(found, names, rules)
    _count_opened(cohorts, openings, end.as_of)
    for estimate in estimates:
        if not any(pool == estimate.pool for pool, _ in cohorts):
            cohorts[estimate.pool, WHOLE] = CohortBalances(currency=estimate.currency)
    effects = effects_of(end, estimates, names, openings) if cohorts else []
    steps = (
        [step for step in steps_of(end, request, effects, names, openings) if step.key in cohorts] if cohorts else []
    )
    in_force = _in_force([effect for effect in effects if effect.key in cohorts], end.as_of)
    rows = tuple(
        _cohort_row(key, cohort, in_force.get(key), _due_to_date(cohort, steps, key), functional_currency)
        for key, cohort in sorted(cohorts.items())
    )
    return Report(
        name="pools",
        title="Breakage pools",
        tables=(
            Table(name="pools", columns=_COHORT_COLUMNS, rows=rows, lists_items=True),
            finished_table(end, names, cohorts, in_force),
            _estimates_table(estimates, effects, end.as_of, functional_currency),
            _rollforward_table(found, names, cohorts, steps, rules, functional_currency),
            _liability_table(found, rules, functional_currency),
        ),
        ties=(*_formula_ties(cohorts, steps, functional_currency), *_ties(end, cohorts, found)),
        notes=NOTES,
    )


def _in_force(effects: Iterable[Effect], as_of: date) -> dict[CohortKey, InForce]:
    """Returns the estimate in force at the end of the view, by cohort: the latest by its day, then by recording."""
    made = [effect for effect in effects if effect.estimate.booked_on <= as_of]
    made.sort(key=lambda effect: (effect.estimate.booked_on, effect.estimate.version))
    return {effect.key: InForce(estimate=effect.estimate, issued_then=effect.issued) for effect in made}


def _due_to_date(cohort: CohortBalances, steps: Iterable[Step], key: CohortKey) -> tuple[int, int]:
    """Returns T of a cohort by the formula for the events booked through the view, in both currencies."""
    missing = [step.missing for step in steps if step.key == key]
    return (
        cohort.recognised[0] + sum(amount for amount, _ in missing),
        cohort.recognised[1] + sum(functional for _, functional in missing),
    )


# --- cohorts in the view --------------------------------------------------------------------------------------------


def _cohorts(
    found: Iterable[EntryTotal], names: CohortNames, rules: Mapping[int, Rules]
) -> dict[CohortKey, CohortBalances]:
    """Returns the cohorts in the view's day totals."""
    cohorts: dict[CohortKey, CohortBalances] = {}
    for total in found:
        pool, _, issued = total.key.partition(SEPARATOR)
        if pool:
            cohort = cohorts.setdefault(names.key(pool, issued), CohortBalances(currency=total.currency))
            _count(cohort, total, rules[total.policy])
    return cohorts


def _count(cohort: CohortBalances, total: EntryTotal, rules: Rules) -> None:
    kind = KIND_BY_NAME[total.kind]
    cohort.liability = _plus(cohort.liability, total, -effect(LIABILITY, total.kind, rules))
    cohort.breakage_recognized = _plus(cohort.breakage_recognized, total, effect(RECOGNIZED, total.kind, rules))
    if total.kind == ESTIMATE:
        cohort.recognised = _plus(cohort.recognised, total, 1)
    if kind.column is None:
        return
    figures, lost = cohort.figures, -kind.sign * total.amount_minor
    figures.credits += kind.sign * total.credits
    if kind.column in GAINS:
        cohort.columns["issued"] = cohort.columns.get("issued", 0) + kind.sign * total.amount_minor
    else:
        cohort.columns[kind.column] = cohort.columns.get(kind.column, 0) + lost
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


def _count_opened(cohorts: Mapping[CohortKey, CohortBalances], openings: Openings, as_of: date) -> None:
    """Adds the amounts of a cohort that were redeemed, expired and recognised before it was opened at a cut-over."""
    for key, of_cohort in openings.items():
        figures, recognised = together(each for each in of_cohort if not each.is_block and each.on <= as_of)
        if key in cohorts:
            cohort = cohorts[key]
            cohort.figures = cohort.figures.plus(figures)
            cohort.recognised = (cohort.recognised[0] + recognised[0], cohort.recognised[1] + recognised[1])
            cohort.columns["issued"] = cohort.columns.get("issued", 0) + figures.issued


def _plus(sums: tuple[int, int], total: EntryTotal, sign: int) -> tuple[int, int]:
    return sums[0] + sign * total.amount_minor, sums[1] + sign * total.functional_minor


# --- tables ---------------------------------------------------------------------------------------------------------

_COHORT_COLUMNS: Final = (
    Column("pool"), Column("cohort"), Column("currency"), Column("issued", "money"),
    *(Column(name, "money") for name in DEDUCTIONS),
    Column("net_issued", "money"), Column("redeemed", "money"), Column("expired", "money"),
    Column("escheated", "money"), Column("credits_left", "credits"), Column("estimate_version", "integer"),
    Column("estimate_position", "integer"), Column("evidence"), Column("expected_breakage", "money"),
    Column("expected_escheat", "money"), Column("due_by_formula", "money"), Column("recognised", "money"),
    Column("breakage_recognized", "money"), Column("prepaid_liability", "money"), Column("net_liability", "money"),
    Column("functional_currency"), Column("recognised_functional", "functional"),
    Column("breakage_recognized_functional", "functional"), Column("prepaid_liability_functional", "functional"),
    Column("net_liability_functional", "functional"),
)  # fmt: skip


def _cohort_row(
    key: CohortKey,
    cohort: CohortBalances,
    in_force: InForce | None,
    due_to_date: tuple[int, int],
    functional_currency: str,
) -> tuple[Any, ...]:
    figures = cohort.figures
    estimate = None if in_force is None else in_force.estimate
    breakage, escheat = (
        round_half_up(part.numerator, part.denominator)
        for part in figures.expected(estimate, 0 if in_force is None else in_force.issued_then)
    )
    return (
        key[0],
        key[1] or None,
        cohort.currency,
        cohort.columns.get("issued", 0),
        *(cohort.columns.get(column, 0) for column in DEDUCTIONS),
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
        due_to_date[0],
        cohort.recognised[0],
        cohort.breakage_recognized[0],
        cohort.liability[0],
        cohort.liability[0] - cohort.breakage_recognized[0],
        functional_currency,
        cohort.recognised[1],
        cohort.breakage_recognized[1],
        cohort.liability[1],
        cohort.liability[1] - cohort.breakage_recognized[1],
    )


def _estimates_table(
    estimates: Iterable[EstimateVersion], effects: Iterable[Effect], as_of: date, functional_currency: str
) -> Table:
    """Returns every version of every estimate, with its change of the breakage recognised to date (a true-up)."""
    columns = (
        Column("pool"),
        Column("cohort"),
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
    of_versions: dict[tuple[str, int], list[Effect]] = {}
    for of_cohort in effects:
        of_versions.setdefault((of_cohort.estimate.pool, of_cohort.estimate.version), []).append(of_cohort)
    rows = tuple(
        (
            made.pool,
            made.cohort,
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
            sum(each.before for each in of_version),
            sum(each.posted[0] for each in of_version),
            sum(each.after for each in of_version),
            functional_currency,
            sum(each.posted[1] for each in of_version),
        )
        for made in sorted(estimates, key=lambda made: (made.pool, made.version))
        if made.booked_on <= as_of
        for of_version in (of_versions.get((made.pool, made.version), ()),)
    )
    return Table(name="estimates", columns=columns, rows=rows, lists_items=True)


def _rollforward_table(
    found: Iterable[EntryTotal],
    names: CohortNames,
    cohorts: Mapping[CohortKey, CohortBalances],
    steps: Iterable[Step],
    rules: Mapping[int, Rules],
    functional_currency: str,
) -> Table:
    """Returns breakage_recognized by month: the recognised amount (by the books and by the formula), and the expired
    amount.
    """
    columns = (
        Column("pool"),
        Column("cohort"),
        Column("period"),
        Column("currency"),
        Column("opening", "money"),
        Column("opened", "money"),
        Column("recognised", "money"),
        Column("expired", "money"),
        Column("closing", "money"),
        Column("due_by_formula", "money"),
        Column("functional_currency"),
        Column("opening_functional", "functional"),
        Column("opened_functional", "functional"),
        Column("recognised_functional", "functional"),
        Column("expired_functional", "functional"),
        Column("closing_functional", "functional"),
    )
    moved: dict[CohortMonth, dict[str, tuple[int, int]]] = {}
    for total in found:
        sign = effect(RECOGNIZED, total.kind, rules[total.policy])
        pool, _, issued = total.key.partition(SEPARATOR)
        if pool and sign:
            month = EARLIER if total.month is None else str(total.month)
            of_month = moved.setdefault((names.key(pool, issued), month), {})
            column = {ESTIMATE: "recognised", OPENED_AHEAD: "opened"}.get(total.kind, "expired")
            of_month[column] = _plus(of_month.get(column, (0, 0)), total, 1)
    missing = _missing_by_month(steps)
    rows, held = [], dict.fromkeys(cohorts, (0, 0))
    for key, month in sorted({*moved, *missing}, key=lambda each: (each[0], each[1] != EARLIER, each[1])):
        of_month = moved.get((key, month), {})
        opened, recognised, expired = (of_month.get(name, (0, 0)) for name in ("opened", "recognised", "expired"))
        opening = held[key]
        held[key] = (
            opening[0] + opened[0] + recognised[0] - expired[0],
            opening[1] + opened[1] + recognised[1] - expired[1],
        )
        due = recognised[0] + missing.get((key, month), 0)
        if month != EARLIER and any((*opened, *recognised, *expired, due)):
            amounts, functional = zip(opening, opened, recognised, expired, held[key], strict=True)
            named = (key[0], key[1] or None, month, cohorts[key].currency)
            rows.append((*named, *amounts, due, functional_currency, *functional))
    return Table(name="rollforward", columns=columns, rows=tuple(rows))


CohortMonth = tuple[CohortKey, str]


def _missing_by_month(steps: Iterable[Step]) -> dict[CohortMonth, int]:
    """Returns by cohort and month the amount that is missing by the formula, if it is booked in the view."""
    found: dict[CohortMonth, int] = {}
    for step in steps:
        key = (step.key, step.month)
        found[key] = found.get(key, 0) + step.missing[0]
    return found


def _liability_table(found: Iterable[EntryTotal], rules: Mapping[int, Rules], functional_currency: str) -> Table:
    """Returns prepaid_liability per currency: of pools, of other blocks, and less the breakage recognised before
    expiry.
    """
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
            ("pooled" if total.key != SEPARATOR else "unpooled", -effect(LIABILITY, total.kind, rules[total.policy])),
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


def _formula_ties(
    cohorts: Mapping[CohortKey, CohortBalances], steps: Sequence[Step], functional_currency: str
) -> Iterator[Tie]:
    """Yields ties per cohort: the breakage by the formula, for events booked through the view, and the entries."""
    for key, cohort in sorted(cohorts.items()):
        currencies = (cohort.currency, functional_currency)[: 1 if cohort.currency == functional_currency else 2]
        named = f"cohort {key[1]} of pool {key[0]}" if key[1] else f"pool {key[0]}"
        for due, recognised, currency in zip(
            _due_to_date(cohort, steps, key), cohort.recognised, currencies, strict=False
        ):
            yield Tie(
                what=f"breakage of {named} by the formula = its breakage_estimate entries",
                currency=currency,
                report_minor=due,
                trial_balance_minor=recognised,
            )


def _ties(end: View, cohorts: Mapping[CohortKey, CohortBalances], found: Sequence[EntryTotal]) -> Iterator[Tie]:
    """Yields ties of the sums of the blocks' columns, in pools and outside, with the accounts."""
    functional_currency, books = end.functional_currency, control_balances(end)
    recognized = by_currency((p.currency, p.recognised[0] - p.figures.expired) for p in cohorts.values())
    liability = by_currency((total.currency, _carried(total.kind) * total.amount_minor) for total in found)
    for title, report, account in ((FROM_POOLS, recognized, RECOGNIZED), (FROM_BLOCKS, liability, LIABILITY)):
        for tie in ties_of(title, report, account, books):
            if tie.report_minor or tie.trial_balance_minor:
                yield tie
    foreign = sorted({total.currency for total in found} - {functional_currency})
    if not foreign:
        return
    in_functional = functional_balances(end, totals(end), (RECOGNIZED, LIABILITY))
    recognized = by_currency((p.currency, p.recognised[1] - p.figures.expired_functional) for p in cohorts.values())
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
