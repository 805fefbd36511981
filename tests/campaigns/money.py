"""Random histories of events about money, recorded by the product on a real database, and compared with an independent
model.

    make money                                       an hour
    python -m tests.campaigns.money --minutes 5 --seed 7
    python -m tests.campaigns.money --types credits.transferred,purchase.voided --minutes 2

The product must record or refuse every event of a history like the model. Then the balances at every month-end must
agree by role, by customer and by block, and the deposits must equal the prepaid liability. Of six histories two have
transfers, one has prices whose shares need rounding, and three have every other type of event.

A history with a difference is shortened as long as it differs in the same way, and printed with both answers. Each kind
of difference is printed once and counted. The same seed makes the same histories.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from api.service import Subledger
from api.settings import connect
from projections.close.close import close_period
from subledger.errors import Refused as ProductRefused
from subledger.ledger_settings import LedgerSettings
from subledger.periods import Period
from subledger.store.embedded import server as embedded
from tests.building import rate
from tests.campaigns.money_claims import DEBIT_SIDE, OF_NOBODY, Event, Silent
from tests.campaigns.money_histories import (
    WEIGHTS,
    WITH_KNOWN_ROUNDING,
    WITH_TRANSFERS,
    WITHOUT_TRANSFERS,
    Histories,
    month_ends,
)
from tests.campaigns.money_model import MoneyModel

LINES = """
-- Debits less credits of every role, by day, customer, block and currency.
SELECT account, customer, block_id, currency, accounting_date,
       sum(CASE side WHEN 'debit' THEN amount_minor ELSE -amount_minor END) AS amount
FROM journal_lines WHERE ledger = %s GROUP BY 1, 2, 3, 4, 5
"""
NOT_MODELLED = frozenset({"deferred_revenue", "credits_clearing", "customer_deposits", "fx_gain_loss"})
COMPARED_BY_CUSTOMER = frozenset({
    "accounts_receivable", "tax_payable", "refunds_payable", "customer_balance", "disputes_receivable",
    "prepaid_liability", "usage_revenue", "breakage_revenue", "bad_debt", "contra_revenue",
})  # fmt: skip
MIXES = (WITHOUT_TRANSFERS, WITH_TRANSFERS) * 2 + (WITHOUT_TRANSFERS, WITH_KNOWN_ROUNDING)
CODES = frozenset({"document_exists", "conceded"})
"""The codes that are compared: the specification names them, and their refusals have only one possible reason. For
other refusals the code is not compared.
"""


@dataclass
class Difference:
    """The first difference of a history: its subject, and both answers."""

    kind: str
    what: str
    model: str
    product: str


@dataclass
class Tally:
    histories: int = 0
    events: int = 0
    refused: int = 0
    types: Counter[str] = field(default_factory=Counter)
    differing: int = 0
    kinds: dict[str, tuple[int, list[Event], Difference]] = field(default_factory=dict)
    not_shrunk: Counter[str] = field(default_factory=Counter)


class Product:
    """Records histories in the product, each in its own ledger, and reads the books."""

    def __init__(self, service: Subledger) -> None:
        self.service = service
        self.strict = True

    def run(self, events: list[Event], policy: str) -> tuple[list[str], list[Any]]:
        """Returns the answer to each event, and the lines of the books."""
        ledger = f"m-{uuid.uuid4().hex[:12]}"
        settings = LedgerSettings(
            currency="USD", policy=policy, sandbox=True, clock=datetime(2100, 1, 1, tzinfo=UTC), late_usage="reclassify"
        )
        self.service.create_ledger(ledger, settings)
        days = ["2025-12-31", *(end.isoformat() for end in month_ends(events))]
        if any(e["data"].get("currency") == "EUR" for e in events):
            self.service.record(ledger, [rate(day, "2") for day in days])
        answers: list[str] = []
        pending: list[Event] = []
        for event in [*events, {"type": "end", "data": {}}]:
            if event["type"] not in ("sweep", "close", "end"):
                pending.append(event)
                continue
            if pending:
                outcomes = self.service.record(ledger, pending)
                answers += [o.status if o.error is None else o.error.code for o in outcomes]
                pending = []
            if event["type"] != "end":
                answers.append(self._command(ledger, event))
        with self.service.database.read() as connection:
            return answers, connection.exec_driver_sql(LINES, (ledger,)).all()

    def _command(self, ledger: str, event: Event) -> str:
        through = event["data"]["through"]
        try:
            if event["type"] == "sweep":
                self.service.expire(ledger, date.fromisoformat(through))
            else:
                close_period(self.service.recorder, ledger, Period.parse(through[:7]))
        except ProductRefused as refused:
            return refused.code
        return "recorded"


def compare(events: list[Event], product: Product, policy: str) -> Difference | None:
    """Returns the first difference of a history, or None. Raises Silent if the specification does not decide it."""
    model = MoneyModel(strict=product.strict)
    said = [model.record(event) for event in events]
    answers, rows = product.run(events, policy)
    for event, ours, theirs in zip(events, said, answers, strict=True):
        wrong_code = ours in CODES and theirs not in ("recorded", ours)
        if (ours == "recorded") != (theirs == "recorded") or wrong_code:
            return Difference("answer", f"{event['type']} {event['id']}", ours, theirs)
    for end in month_ends(events):
        for name, ours_, theirs_ in _views(model, rows, end, policy):
            if difference := _differing(ours_, theirs_):
                key, a, b = difference
                return Difference("books", f"{name} at {end}: {' '.join(key)}", f"{a / 100:.2f}", f"{b / 100:.2f}")
    return None


def _views(model: MoneyModel, rows: list[Any], end: date, policy: str) -> list[tuple[str, Any, Any]]:
    roles: Counter[tuple[str, ...]] = Counter()
    customers: Counter[tuple[str, ...]] = Counter()
    blocks: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        if row.accounting_date <= end:
            amount = int(row.amount if row.account in DEBIT_SIDE else -row.amount)
            roles[row.account, row.currency] += amount
            if row.account in COMPARED_BY_CUSTOMER and row.customer is not None:
                customers[row.account, row.customer, row.currency] += amount
            if row.account in ("prepaid_liability", "usage_revenue", "breakage_revenue"):
                blocks[row.account, row.block_id or ""] += amount
    ours = model.balances(end)
    if policy == "customer_deposits":
        for (role, currency), amount in list(ours.items()):
            if role == "prepaid_liability":
                ours["customer_deposits", currency] = amount
                ours["credits_clearing", currency] = -amount
    else:
        roles = Counter({key: n for key, n in roles.items() if key[0] not in NOT_MODELLED})
    of_customers = {
        key: n
        for key, n in model.by_customer(end).items()
        if key[0] in COMPARED_BY_CUSTOMER and key[0] not in OF_NOBODY
    }
    return [
        ("balance", ours, roles),
        ("of customer", of_customers, customers),
        ("of block", model.by_block(end), blocks),
    ]


def _differing(ours: Any, theirs: Any) -> tuple[tuple[str, ...], int, int] | None:
    for key in sorted(ours.keys() | theirs.keys()):
        a, b = ours.get(key, 0), theirs.get(key, 0)
        if a != b and key[0] not in ("deferred_revenue", "fx_gain_loss"):
            return key, a, b
    return None


def kind_of(events: list[Event], difference: Difference) -> str:
    """Returns the name under which a difference is counted. The cause is assumed to be the last event of the shortened
    history.
    """
    if difference.kind == "answer":
        return f"{difference.what.split()[0]}: model {difference.model}, product {difference.product}"
    return f"{role_of(difference)} after {events[-1]['type']}"


def role_of(difference: Difference) -> str:
    return difference.what.split(": ")[1].split()[0]


def shrink(
    events: list[Event], found: Difference, product: Product, policy: str, tries: int = 150
) -> tuple[list[Event], Difference]:
    """Removes events and fields, as long as the history still differs in the same way."""

    def same(other: Difference | None) -> bool:
        if other is None or other.kind != found.kind:
            return False
        if found.kind == "answer":
            return (other.what.split()[0], other.model, other.product) == (
                found.what.split()[0], found.model, found.product,
            )  # fmt: skip
        return role_of(other) == role_of(found)

    def attempt(fewer: list[Event]) -> Difference | None:
        nonlocal tries
        tries -= 1
        try:
            other = compare(fewer, product, policy) if fewer and tries > 0 else None
        except (Silent, AssertionError):
            return None
        return other if same(other) else None

    if found.kind == "answer":
        last = next(n for n, e in enumerate(events) if e["id"] == found.what.split()[1])
        events = events[: last + 1]
    changed = True
    while changed and tries > 0:
        changed = False
        for n in range(len(events) - 1, -1, -1):
            fewer = events[:n] + events[n + 1 :]
            if n < len(events) and (other := attempt(fewer)):
                events, found, changed = fewer, other, True
        for n, event in enumerate(events):
            for name in ("expires_at", "escheat_class", "tax", "fee", "refund_id", "credits", "amount", "processor"):
                if name in event["data"] and not (name in ("credits", "amount") and event["type"] in NEEDED):
                    less = event | {"data": {k: v for k, v in event["data"].items() if k != name}}
                    if other := attempt([*events[:n], less, *events[n + 1 :]]):
                        events, found, changed = [*events[:n], less, *events[n + 1 :]], other, True
                        event = less
    return events, found


NEEDED = frozenset({
    "credits.purchased", "credits.consumed", "payment.received", "payment.applied", "payment.refunded",
    "credit_memo.issued", "escheat.reclaimed", "escheat.remitted", "payout.settled",
})  # fmt: skip


def shown(event: Event) -> str:
    data = json.dumps(event["data"], separators=(", ", ": "))
    return f"    {event['id']:>5} {event['time'][:16]} {event['type']:24} {event.get('subject', '-'):5} {data}"


def campaign(
    service: Subledger, *, seed: int, seconds: float, histories: int = 10**9, types: frozenset[str] | None = None,
    shrinks: int = 4, in_order: bool = False, paid: bool = False, odd: bool = False,
) -> Tally:  # fmt: skip
    """Runs histories until the time is over, or a number of them. A number of differences of each answer or role is
    shortened.
    """
    product, tally, began = Product(service), Tally(), time.monotonic()
    shrunk: Counter[str] = Counter()
    while time.monotonic() - began < seconds and tally.histories < histories:
        dice = random.Random(f"{seed}/{tally.histories}")
        rounds = odd or (types is None and tally.histories % 6 == 5)
        which = types or MIXES[tally.histories % 6]
        made = Histories(dice, types=which, in_order=in_order, paid=paid, odd=rounds)
        try:
            events = made.history()
        except AssertionError as error:  # a check of the model itself
            wrong = Difference("answer", "model contradicts itself", str(error)[:500], "-")
            tally.kinds[f"the model contradicts itself, history {tally.histories}"] = (1, made.events, wrong)
            tally.histories += 1
            tally.differing += 1
            continue
        product.strict = not rounds
        policy = dice.choice(("contract_liability", "customer_deposits"))
        tally.histories += 1
        tally.events += len(events)
        tally.types.update(e["type"] for e in events)
        found = compare(events, product, policy) if events else None
        if found is None:
            continue
        tally.differing += 1
        coarse = kind_of(events, found) if found.kind == "answer" else role_of(found)
        shrunk[coarse] += 1
        if shrunk[coarse] > shrinks:
            tally.not_shrunk[coarse] += 1
            continue
        events, found = shrink(events, found, product, policy)
        kind = kind_of(events, found)
        count, shortest, of_it = tally.kinds.get(kind, (0, events, found))
        if len(events) < len(shortest):
            shortest, of_it = events, found
        tally.kinds[kind] = (count + 1, shortest, of_it)
    return tally


def show(tally: Tally) -> None:
    """Prints every kind of difference with its shortest history, then the counts."""
    for kind, (count, events, difference) in sorted(tally.kinds.items(), key=lambda item: -item[1][0]):
        print(f"{count} × {kind}")
        print(f"    {difference.what}: model {difference.model}, product {difference.product}")
        print("\n".join(shown(event) for event in events), flush=True)
    for kind, count in tally.not_shrunk.most_common():
        print(f"{count} more, not made short: {kind}")
    print(", ".join(f"{type} {count}" for type, count in tally.types.most_common()))
    print(f"{tally.histories} histories, {tally.events} events; {tally.differing} histories differ")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--types", help="event types, comma-separated; the others are left out")
    parser.add_argument("--without", help="event types that are left out")
    parser.add_argument("--shrinks", type=int, default=4, help="how many of each kind are made short")
    parser.add_argument("--in-order", action="store_true", help="no event is recorded late")
    parser.add_argument("--paid", action="store_true", help="every purchase is paid at once")
    parser.add_argument("--odd", action="store_true", help="prices and credits whose shares need rounding")
    given = parser.parse_args()
    types = None
    if given.types or given.without:
        types = frozenset((given.types or ",".join(WEIGHTS)).split(",")) | {"credits.purchased"}
        types -= frozenset((given.without or "").split(","))
    with tempfile.TemporaryDirectory() as home:
        os.environ["SUBLEDGER_HOME"] = str(Path(home) / "home")
        os.environ.pop("SUBLEDGER_DATABASE_URL", None)
        try:
            tally = campaign(
                connect(), seed=given.seed, seconds=given.minutes * 60, types=types, shrinks=given.shrinks,
                in_order=given.in_order, paid=given.paid, odd=given.odd,
            )  # fmt: skip
            show(tally)
            print(f"seed {given.seed}")
        finally:
            embedded.stop(Path(home) / "home")
    return 1 if tally.differing else 0


if __name__ == "__main__":
    sys.exit(main())
