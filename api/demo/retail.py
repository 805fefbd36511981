"""A real year: the invoices of an online shop, replayed as purchases and usage of prepaid credits.

A sale first draws min(amount, the customer's remaining credits). Then it opens a credit block of the sale's amount,
which expires after 90 days. A cancellation voids an undrawn block of equal amount (the newest, if there are several).
Otherwise it reverses the customer's newest usage up to its amount; the rest is an orphan. One credit is one pound.

A forecast is made at the end of the ninth month, and compared at the end with the three months after it.

Data: Chen, D. (2015), Online Retail, UCI Machine Learning Repository, doi:10.24432/C5BW33, summed by invoice.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from api.service import Subledger
from api.shapes import reports
from api.terminal import out, table
from projections.forecast.prospects import MEASURES
from subledger.blocks import ZERO
from subledger.deciding.context import Context, Original
from subledger.deciding.decide import decide
from subledger.errors import InvalidInput
from subledger.events.data import ConsumptionReversed
from subledger.events.envelope import Event, format_time, read_event
from subledger.evolving import evolve
from subledger.ledger import ACCOUNTING_RULES, LedgerState
from subledger.money import format_credits
from subledger.periods import Period, time_zone
from subledger.wallet import Wallet

FORECAST_AFTER: Final = 9
"""The number of months after which a forecast is made."""
ZONE: Final = "Europe/London"
LIFE: Final = timedelta(days=90)
_COLUMNS: Final = {"invoice_no", "kind", "customer_id", "first_at", "amount_gbp"}


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice, or a part of a cancellation, that becomes no event; and the reason."""

    invoice_no: str
    amount: str
    reason: str


class Retail:
    """Translates invoices, in order of time, into events; stores rejected ones with their reason."""

    def __init__(self) -> None:
        self.rejected: list[Rejected] = []
        self.reasons: Counter[str] = Counter()
        self._wallets: dict[str, Wallet] = {}
        self._usage: dict[str, list[Original]] = {}
        self._state = LedgerState(
            ledger="retail", functional_currency="GBP", timezone=ZONE, policy=1, accounting_rules=ACCOUNTING_RULES
        )
        self._position = 0

    def months(self, path: Path) -> Iterator[tuple[Period, list[dict[str, Any]]]]:
        """Yields the events of each month. Raises InvalidInput if the file is not an invoice file."""
        month: Period | None = None
        events: list[dict[str, Any]] = []
        for row in sorted(read_invoices(path), key=lambda row: row["first_at"]):
            moment = datetime.fromisoformat(row["first_at"]).replace(tzinfo=time_zone(ZONE))
            period = Period(moment.year, moment.month)
            if month is not None and period != month:
                yield month, events
                events = []
            month = period
            events += self._invoice(row, moment)
        if month is not None:
            yield month, events

    def _invoice(self, row: dict[str, str], moment: datetime) -> list[dict[str, Any]]:
        amount = Decimal(row["amount_gbp"])
        number, customer, kind = row["invoice_no"], row["customer_id"], row["kind"]
        if kind not in ("sale", "cancellation"):
            return self._reject(number, amount, "not_a_sale_or_cancellation")
        if not customer:
            return self._reject(number, amount, "no_customer")
        if amount == 0:
            return self._reject(number, amount, "zero_amount")
        if amount != amount.quantize(Decimal("0.01")):
            return self._reject(number, amount, "sub_penny_amount")
        if (kind == "sale") != (amount > 0):
            return self._reject(number, amount, "wrong_sign")
        if kind == "sale":
            return self._sale(number, customer, amount, moment)
        return self._cancellation(number, customer, -amount, moment)

    def _reject(self, number: str, amount: Decimal, reason: str) -> list[dict[str, Any]]:
        self.rejected.append(Rejected(invoice_no=number, amount=f"{amount:f}", reason=reason))
        self.reasons[reason] += 1
        return []

    def _sale(self, number: str, customer: str, amount: Decimal, moment: datetime) -> list[dict[str, Any]]:
        wallet = self._wallets.get(customer, Wallet(customer=customer))
        remaining = sum(
            (block.remaining for block in wallet.blocks if block.admits(unit="credit", product=None, at=moment)), ZERO
        )
        events = []
        if remaining:
            drawn = format_credits(min(amount, remaining))
            events.append(self._take(f"{number}/use", "credits.consumed", customer, moment, credits=drawn))
        events.append(
            self._take(
                number,
                "credits.purchased",
                customer,
                moment,
                block_id=f"OR-{number}",
                credits=format_credits(amount),
                price=f"{amount:.2f}",
                currency="GBP",
                expires_at=format_time(moment + LIFE),
                invoice_id=number,
            )
        )
        return events

    def _cancellation(self, number: str, customer: str, amount: Decimal, moment: datetime) -> list[dict[str, Any]]:
        wallet = self._wallets.get(customer, Wallet(customer=customer))
        undrawn = [
            block
            for block in wallet.blocks
            if block.remaining == block.credits == amount and (block.expires_at is None or moment < block.expires_at)
        ]
        if undrawn:
            newest = max(undrawn, key=lambda block: block.opened_at_position)
            return [
                self._take(number, "purchase.voided", customer, moment, block_id=newest.block_id, reason="cancellation")
            ]
        events = []
        for usage in reversed(self._usage.get(customer, [])):
            taken_back = self._wallets[customer].reversed_usage(usage.position)
            open_ = sum((m.credits - taken_back.of(m.block_id)[0] for m in usage.decision.movements), ZERO)
            credits = min(open_, amount)
            if credits > 0:
                events.append(
                    self._take(
                        f"{number}/{usage.event.event_id}",
                        "consumption.reversed",
                        customer,
                        moment,
                        event_id=usage.event.event_id,
                        credits=format_credits(credits),
                        reason="cancellation",
                    )
                )
                amount -= credits
            if not amount:
                break
        if amount:
            self._reject(number, -amount, "orphan_cancellation")
        return events

    def _take(self, event_id: str, type: str, customer: str, moment: datetime, /, **data: Any) -> dict[str, Any]:
        """Returns an event, and applies it to the wallets of this class: the next invoice depends on the remaining
        credits.
        """
        answer = {
            "specversion": "1.0",
            "id": event_id,
            "source": "online-retail",
            "type": type,
            "subject": customer,
            "time": format_time(moment),
            "data": data,
        }
        event = read_event(answer)
        wallet = self._wallets.get(customer, Wallet(customer=customer))
        context = Context(
            state=self._state,
            owners={block.block_id: customer for block in wallet.blocks},
            original=self._original(event),
        )
        decision = decide(wallet, event, context)
        self._position += 1
        # Nothing is removed from these wallets: later reversals need the blocks, and corrections are counted.
        self._wallets[customer] = evolve(
            wallet, event, decision, position=self._position, functional_currency="GBP", closed_through=None
        )
        if type == "credits.consumed":
            original = Original(position=self._position, event=event, decision=decision)
            self._usage.setdefault(customer, []).append(original)
        return answer

    def _original(self, event: Event) -> Original | None:
        data = event.data
        if not isinstance(data, ConsumptionReversed):
            return None
        usage = self._usage[event.customer or ""]
        return next(original for original in usage if original.event.event_id == data.event_id)


def read_invoices(path: Path) -> list[dict[str, str]]:
    """Returns the rows of an invoice file, plain or gzipped. Raises InvalidInput if it is not an invoice file."""
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}", field="--data") from None
    reader = csv.DictReader(text.splitlines())
    if not set(reader.fieldnames or ()) >= _COLUMNS:
        raise InvalidInput(
            f"{path.name} is not an invoice file",
            field="--data",
            expected=f"columns {', '.join(sorted(_COLUMNS))}",
            found=", ".join(reader.fieldnames or ())[:200],
        )
    return list(reader)


def compare_forecast(service: Subledger, ledger: str, made_after: Period, folder: Path) -> dict[str, Any]:
    """Compares the forecast at a month's end with the three months after it; writes and returns the report."""
    through = made_after.next.next.next
    question = reports.ReportQuery(to=str(made_after), as_of=through.last_day, months=3)
    with reports.answer(service, ledger, "forecast", question) as (report, view, request):
        answer = reports.as_json(report, view, request)
    text = json.dumps(answer, ensure_ascii=False, indent=2) + "\n"
    (folder / f"forecast-{made_after}-compared.json").write_text(text, "utf-8")
    return answer


def show_comparison(answer: dict[str, Any]) -> None:
    """Prints the forecast beside the actual amounts, and the errors of the forecast and of the benchmarks."""
    names = ("period", "what", "forecast", "low", "high", "actual", "error", "run_rate", "last_month", "nothing_used")
    table(
        f"Forecast as of {answer['to']}, beside the books as of {answer['as_of']}",
        [name.replace("_", " ") for name in names],
        [["-" if row[name] is None else row[name] for name in names] for row in answer["compared"]],
        right=range(2, len(names)),
    )
    for measure in MEASURES:
        errors = {row["method"]: row["wape"] for row in answer["compared_accuracy"] if row["what"] == measure}
        figures = ", ".join(
            f"{method.replace('_', ' ')} {'-' if wape is None else f'{Decimal(wape):.1%}'}"
            for method, wape in errors.items()
        )
        out.print(f"error of {measure.replace('_', ' ')}, Σ |forecast - actual| / Σ |actual|: {figures}")
