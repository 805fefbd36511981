"""The settings of a ledger: allowed values, changes during its life, and the events that found it.

Owns: these rules. Does not own: how settings are requested (api), the effect of a setting (ledger, deciding).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from subledger.errors import InvalidValue, LedgerExists, SettingFixed, UnknownCurrency
from subledger.events.envelope import Event, format_time, read_data
from subledger.events.fields import DIMENSION, MAX_DIMENSIONS
from subledger.events.own_data import FUTURE_TOLERANCE, RATE_MAX_AGE_DAYS, Approvals
from subledger.kinds import Rules
from subledger.ledger import ACCOUNTING_RULES, LedgerState
from subledger.money import exponent
from subledger.own_events import MappingRows, clock_set, ledger_configured, mapping_adopted, policy_adopted
from subledger.periods import duration, time_zone
from subledger.posting import DEFAULT_POLICY, Policy
from subledger.withdrawn_currencies import WITHDRAWN

_MAX_RATE_AGE_DAYS: Final = 366
_BUILT_IN: Final = (
    "role", "account", "name", "product", "credit_kind", "refundable", "pool", "cohort", "processor", "currency",
    "unit", "customer", "block_id", "kind",
)  # fmt: skip
"""Names that an own dimension cannot have, because entries and account mappings have them already."""
_IN_A_LEDGER_ID: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


class LedgerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a new ledger. ``policy`` is a policy, or the name of one that ships.

    ``entity`` is the ledger's id by default. ``clock`` is the first time of a sandbox's clock, by default the time of
    its creation.
    """

    currency: str
    policy: str | Policy = DEFAULT_POLICY
    entity: str | None = None
    timezone: str = "UTC"
    on_shortfall: str = "reject"
    late_usage: str = "new"
    approvals: Approvals = Approvals()
    future_tolerance: str = FUTURE_TOLERANCE
    rate_max_age_days: int = RATE_MAX_AGE_DAYS
    sandbox: bool = False
    clock: datetime | None = None
    dimensions: tuple[str, ...] = ()


class SettingsChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change of settings. None keeps a setting. ``dimensions`` are names that are added.

    ``approvals`` has the changed fields of ``Approvals`` as plain JSON; here None removes a limit.
    """

    currency: str | None = None
    timezone: str | None = None
    entity: str | None = None
    on_shortfall: str | None = None
    late_usage: str | None = None
    future_tolerance: str | None = None
    rate_max_age_days: int | None = None
    sandbox: bool | None = None
    approvals: Mapping[str, Any] = {}
    dimensions: tuple[str, ...] = ()


def check_settings(ledger: str, settings: LedgerSettings) -> None:
    """Raises InvalidInput naming the first setting that is not allowed."""
    if not (1 <= len(ledger) <= 64 and set(ledger) <= _IN_A_LEDGER_ID and ledger[0].isalnum()):
        raise InvalidValue(
            "a ledger id is 1 to 64 letters, digits, dots, dashes and underscores, and starts with a letter or digit",
            field="ledger",
            expected="such as acme-us",
            found=ledger[:80],
        )
    _check_functional_currency(settings.currency)
    time_zone(settings.timezone)
    _check_changeable(
        settings.entity or ledger,
        settings.on_shortfall,
        settings.late_usage,
        settings.future_tolerance,
        settings.rate_max_age_days,
    )
    settings.approvals.check()
    _check_dimensions(settings.dimensions)
    if settings.clock is not None and not settings.sandbox:
        raise InvalidValue(
            "only a sandbox ledger has its own clock; leave `clock` out, or create a sandbox",
            field="clock",
            expected="no clock, or `sandbox`",
            found=format_time(settings.clock),
        )


def _check_functional_currency(currency: str) -> None:
    """Raises UnknownCurrency for an unknown or a withdrawn currency."""
    exponent(currency)
    if currency in WITHDRAWN:
        withdrawn = WITHDRAWN[currency]
        raise UnknownCurrency(
            f"{currency} was a currency until {withdrawn.last_day}; create the ledger in {withdrawn.successor}, and it "
            f"takes events in {currency} up to that day",
            field="currency",
            expected=withdrawn.successor,
            found=currency,
        )


def _check_changeable(
    entity: str, on_shortfall: str, late_usage: str, future_tolerance: str, rate_max_age_days: int
) -> None:
    """Checks the settings that can change during the life of a ledger. Raises InvalidValue naming the first fault."""
    if not (1 <= len(entity) <= 200 and entity.isprintable()):
        raise InvalidValue(
            "the entity is not a valid name; give a name of 1 to 200 characters",
            field="entity",
            expected="1 to 200 characters that can be printed",
            found=entity[:60],
        )
    if on_shortfall not in ("reject", "overage", "backfill"):
        raise InvalidValue(
            "on_shortfall must be reject, overage or backfill",
            field="on_shortfall",
            expected="reject, overage or backfill",
            found=on_shortfall,
        )
    if late_usage not in ("new", "reclassify"):
        raise InvalidValue(
            "late_usage must be new or reclassify", field="late_usage", expected="new or reclassify", found=late_usage
        )
    duration(future_tolerance, field="future_tolerance")
    if not 0 <= rate_max_age_days <= _MAX_RATE_AGE_DAYS:
        raise InvalidValue(
            "rate_max_age_days is not a number of days that a rate may be old",
            field="rate_max_age_days",
            expected=f"0 (a rate of the day itself) to {_MAX_RATE_AGE_DAYS}",
            found=str(rate_max_age_days),
        )


def _check_dimensions(names: Sequence[str]) -> None:
    """Checks the names of the company's own dimensions. Raises InvalidValue naming the first fault."""
    for name in names:
        if not DIMENSION.fullmatch(name):
            raise InvalidValue(
                f"{name[:60]!r} is not a name of a dimension",
                field="dimensions",
                expected="a lower-case letter, then at most 39 of these, digits and underscores, such as department",
                found=name[:60],
            )
        if name in _BUILT_IN:
            raise InvalidValue(
                f"{name} is a dimension of every ledger; choose another name",
                field="dimensions",
                expected=f"none of {', '.join(_BUILT_IN)}",
                found=name,
            )
    if len(set(names)) != len(names) or len(names) > MAX_DIMENSIONS:
        raise InvalidValue(
            f"a ledger has at most {MAX_DIMENSIONS} dimensions of its own, each once, and they are never removed",
            field="dimensions",
            expected=f"at most {MAX_DIMENSIONS} different names",
            found=", ".join(names)[:200],
        )


def founding_events(
    ledger: str,
    settings: LedgerSettings,
    policy: Policy,
    mapping_rows: MappingRows,
    mapping_hash: str,
    *,
    at: datetime,
    by: str | None,
) -> list[Event]:
    """The first events of a ledger: its settings, its posting policy, its account mapping, and a sandbox's clock.

    They happen at ``at``, or at the first time of the sandbox's clock if the settings have one.
    """
    at = settings.clock or at
    founded = LedgerState(
        ledger=ledger,
        entity=settings.entity or ledger,
        functional_currency=settings.currency,
        timezone=settings.timezone,
        on_shortfall=settings.on_shortfall,
        late_usage=settings.late_usage,
        approvals=settings.approvals,
        future_tolerance=settings.future_tolerance,
        rate_max_age_days=settings.rate_max_age_days,
        sandbox=settings.sandbox,
        accounting_rules=ACCOUNTING_RULES,
        dimensions=settings.dimensions,
    )
    events = [
        ledger_configured(founded, number=1, at=at, by=by),
        policy_adopted(policy, number=1, at=at, by=by),
        mapping_adopted(mapping_rows, mapping_hash, number=1, at=at, by=by),
    ]
    return [*events, clock_set(at, number=1, by=by)] if settings.sandbox else events


def check_same_settings(settings: LedgerSettings, state: LedgerState, *, name: str, version: int, rules: Rules) -> None:
    """Raises LedgerExists, naming the settings that differ, if a ledger exists with other settings.

    ``name``, ``version`` and ``rules`` are those of the policy in force. The clock is not compared, because time has
    passed.
    """
    found = LedgerSettings(
        currency=state.functional_currency,
        policy=name,
        entity=state.entity,
        timezone=state.timezone,
        on_shortfall=state.on_shortfall,
        late_usage=state.late_usage,
        approvals=state.approvals,
        future_tolerance=state.future_tolerance,
        rate_max_age_days=state.rate_max_age_days,
        sandbox=state.sandbox,
        dimensions=state.dimensions,
    )
    wanted = msgspec.structs.replace(settings, entity=settings.entity or state.ledger, clock=None)
    policy = settings.policy
    if isinstance(policy, Policy):
        is_same = (policy.name, policy.version, policy.complete_rules) == (name, version, rules)
        wanted = msgspec.structs.replace(wanted, policy=name if is_same else "a file with other rules")
    differs = [field for field in wanted.__struct_fields__ if getattr(wanted, field) != getattr(found, field)]
    if differs:
        raise LedgerExists(
            f"ledger {state.ledger} exists with another {', '.join(differs)}",
            field=differs[0],
            expected=str(getattr(found, differs[0])),
            found=str(getattr(wanted, differs[0])),
            differs=differs,
        )


def changed_settings(state: LedgerState, change: SettingsChange) -> LedgerState:
    """The ledger with the changed settings. Raises SettingFixed, InvalidInput."""
    fixed = (("currency", state.functional_currency, change.currency), ("timezone", state.timezone, change.timezone))
    for name, current, wanted in fixed:
        if wanted is not None and wanted != current:
            raise SettingFixed(
                f"the {name} of ledger {state.ledger} is {current} and never changes; create another ledger",
                field=name,
                expected=current,
                found=wanted[:60],
            )
    if change.sandbox is not None and change.sandbox != state.sandbox:
        raise SettingFixed(
            f"ledger {state.ledger} is {'a sandbox' if state.sandbox else 'not a sandbox'}, and this "
            "never changes; create another ledger",
            field="sandbox",
            expected=str(state.sandbox).lower(),
            found=str(change.sandbox).lower(),
        )
    approvals = state.approvals
    if change.approvals:
        members = {**approvals.model_dump(mode="json"), **change.approvals}
        given = {name: value for name, value in members.items() if value is not None}
        approvals = read_data(Approvals, given, prefix="approvals.")
    after = msgspec.structs.replace(
        state,
        entity=state.entity if change.entity is None else change.entity,
        on_shortfall=change.on_shortfall or state.on_shortfall,
        late_usage=change.late_usage or state.late_usage,
        approvals=approvals,
        future_tolerance=state.future_tolerance if change.future_tolerance is None else change.future_tolerance,
        rate_max_age_days=state.rate_max_age_days if change.rate_max_age_days is None else change.rate_max_age_days,
        dimensions=state.dimensions_with(change.dimensions),
    )
    _check_dimensions(after.dimensions)
    _check_changeable(
        after.entity, after.on_shortfall, after.late_usage, after.future_tolerance, after.rate_max_age_days
    )
    return after
