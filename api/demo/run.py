"""The demo: records, expires, closes month by month, exports, verifies; then prints results and files to open."""

from __future__ import annotations

import csv
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from api.demo.company import year
from api.demo.retail import FORECAST_AFTER, ZONE, Retail, compare_forecast, show_comparison
from api.service import Subledger
from api.shapes import reports
from api.terminal import out, table
from projections.close import close
from projections.exports import exporting, exports
from projections.integrity import verify
from projections.reads import balances
from subledger.errors import UnknownLedger
from subledger.ledger_settings import LedgerSettings
from subledger.money import format_minor
from subledger.periods import Period
from subledger.store.reading.ledgers import ledger_head
from subledger.text.visible_text import spreadsheet_text

Say = Callable[[str], None]
SHOWN = ("prepaid_liability", "usage_revenue", "overage_revenue", "breakage_revenue", "accounts_receivable")
FORMATS = (("csv", False), ("beancount", False), ("beancount", True), ("hledger", True))
BATCH = 2_000


class DemoResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of the demo, as a JSON document and as text."""

    answer: dict[str, Any]
    clean: bool

    def show(self) -> None:
        d = self.answer
        months = [[month["period"], *(month["balances"][a] for a in SHOWN), month["expired"]] for month in d["months"]]
        table(
            f"Ledger {d['ledger']}: balances at each month's close, all currencies in {d['currency']}",
            ("month", *(name.replace("_", " ") for name in SHOWN), "blocks expired"),
            months,
            right=range(1, 7),
        )
        table(
            "Reports, each beside the trial balance",
            ("report", "rows", "ties"),
            [[r["report"], r["rows"], "ties out" if r["ties_out"] else "DIFFERS"] for r in d["reports"]],
            right=(1,),
        )
        if "forecast" in d:
            show_comparison(d["forecast"])
        rejected = ", ".join(f"{n} {reason}" for reason, n in d["rejected"].items()) or "nothing"
        out.print(f"recorded {d['recorded']} events, {d['duplicates']} duplicates; rejected: {rejected}")
        out.print(f"verify: {'clean' if self.clean else 'DIFFERENCES'}; {d['seconds']} s in all")
        out.print()
        out.print("What to open next (subledger is .venv/bin/subledger):")
        out.print(f"  {d['directory']}  the journals of every month, and reports/")
        for command in d["next"]:
            out.print(f"  {command}")


class _Run:
    def __init__(self, service: Subledger, ledger: str, currency: str, directory: Path, say: Say) -> None:
        self.service, self.ledger, self.currency, self.say = service, ledger, currency, say
        self.directory = directory / ledger
        self.directory.mkdir(parents=True, exist_ok=True)
        self.counts: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.months: list[dict[str, Any]] = []
        self.reports: list[dict[str, Any]] = []

    def record(self, events: list[dict[str, Any]]) -> None:
        for start in range(0, len(events), BATCH):
            for outcome in self.service.record(self.ledger, events[start : start + BATCH]):
                self.counts[outcome.status] += 1
                if outcome.error is not None:
                    self.rejected[outcome.error.code] += 1

    def close(self, period: Period) -> None:
        closed = close.close_period(self.service.recorder, self.ledger, period)
        for format, detail in FORMATS:
            for export in exporting.export(
                self.service.recorder, self.service.database, self.ledger, period, format, detail=detail
            ):
                with (self.directory / export.filename).open("wb") as file:
                    file.writelines(exports.content_of(self.service.database, export))
        self.months.append(
            {"period": str(period), "expired": closed.expired, "balances": self._balances(period.last_day)}
        )
        self.say(f"{period}: recorded, expired, closed, exported")

    def _balances(self, as_of: date) -> dict[str, str]:
        """The balances of the accounts in ``SHOWN`` over all currencies, in the functional currency."""
        with self.service.view(self.ledger, as_of=as_of) as view:
            accounts = balances.trial_balance(view)
        found = {b.account: b.balance_minor for b in balances.in_functional_currency(accounts)}
        return {name: format_minor(found.get(name, 0), self.currency) for name in SHOWN}

    def report(self, name: str, as_of: date, file: str) -> None:
        """Writes a report as JSON and its tables as CSV."""
        folder = self.directory / "reports"
        folder.mkdir(exist_ok=True)
        question = reports.ReportQuery(as_of=as_of)
        with reports.answer(self.service, self.ledger, name, question) as (report, view, request):
            (folder / f"{file}.json").write_text(
                json.dumps(reports.as_json(report, view, request), ensure_ascii=False, indent=2) + "\n", "utf-8"
            )
            functional_currency = view.functional_currency
            for number, part in enumerate(report.tables):
                path = folder / (f"{file}.csv" if number == 0 else f"{file}-{part.name}.csv")
                path.write_text("".join(reports.csv_lines(part, functional_currency)), "utf-8")
            rows = sum(len(part.rows) for part in report.tables)
            self.reports.append({"report": file, "rows": rows, "ties_out": report.ties_out})

    def every_report(self) -> None:
        """Writes every report that needs no customer, as of the last close."""
        as_of = Period.parse(self.months[-1]["period"]).last_day
        for name, offered in reports.REPORTS.items():
            if not offered.needs:
                self.report(name, as_of, name)
        self.say("every report written")

    def finish(self, started: float, next_commands: list[str]) -> DemoResult:
        self.every_report()
        report = verify(self.service.database, self.ledger)
        clean = not report.differences and all(report["ties_out"] for report in self.reports)
        return DemoResult(
            clean=clean,
            answer={
                "ledger": self.ledger,
                "currency": self.currency,
                "recorded": self.counts["recorded"],
                "duplicates": self.counts["duplicate"],
                "rejected": dict(sorted(self.rejected.items())),
                "months": self.months,
                "reports": self.reports,
                "verified": not report.differences,
                "differences": [difference.message for difference in report.differences[:20]],
                "directory": str(self.directory),
                "next": next_commands,
                "seconds": round(time.monotonic() - started, 1),
            },
        )


def run_demo(service: Subledger, *, data: Path | None, directory: Path, say: Say) -> DemoResult:
    """Runs the invented company's year, or replays an invoice file, in a new ledger."""
    started = time.monotonic()
    return (
        _company(service, directory, say, started) if data is None else _retail(service, data, directory, say, started)
    )


def _company(service: Subledger, directory: Path, say: Say, started: float) -> DemoResult:
    ledger = _free_name(service, "demo")
    service.create_ledger(ledger, LedgerSettings(currency="USD"))
    run = _Run(service, ledger, "USD", directory, say)
    previous: Period | None = None
    for month in year():
        run.record(month.events)
        if previous is not None:
            run.close(previous)
            run.record(month.late)  # usage of the month that was just closed is booked on the first open day
        previous = month.period
    if previous is not None:
        run.close(previous)
    return run.finish(
        started,
        [
            f"subledger balances --ledger {ledger} --as-of 2025-06-30",
            f"subledger balances --ledger {ledger} --customer customer-07 --as-of 2025-06-30",
            f"subledger blocks --ledger {ledger} --customer customer-07",
            f"subledger history --ledger {ledger} --block block-customer-07-2025-03",
            f"subledger report rollforward --ledger {ledger} --from 2025-01 --to 2025-12",
            f"subledger report statement --ledger {ledger} --customer bistro --html --out bistro.html",
            f"subledger verify --ledger {ledger}",
            "subledger serve   # then http://127.0.0.1:8000/docs",
        ],
    )


def _retail(service: Subledger, path: Path, directory: Path, say: Say, started: float) -> DemoResult:
    retail = Retail()
    months = retail.months(path)
    first = next(months, None)  # an unsuitable file is refused before a ledger is created
    ledger = _free_name(service, "retail")
    service.create_ledger(ledger, LedgerSettings(currency="GBP", timezone=ZONE))
    run = _Run(service, ledger, "GBP", directory, say)
    following: Period | None = None
    while first is not None:
        period, events = first
        run.record(events)
        run.close(period)
        if len(run.months) == FORECAST_AFTER:
            run.report("forecast", period.last_day, f"forecast-{period}")
        first, following = next(months, None), period.next
    for _ in range(4):  # until the last block has expired
        if following is not None:
            run.close(following)
            following = following.next
    run.rejected.update(retail.reasons)
    rejected_path = run.directory / "rejected.csv"
    with rejected_path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("invoice_no", "amount_gbp", "reason"))
        writer.writerows(
            (spreadsheet_text(item.invoice_no), item.amount, spreadsheet_text(item.reason)) for item in retail.rejected
        )
    result = run.finish(
        started,
        [
            f"{rejected_path}  every invoice that became no event, with the reason",
            f"subledger balances --ledger {ledger} --as-of 2011-06-30",
            f"subledger balances --ledger {ledger} --customer 17850 --as-of 2011-06-30",
            f"subledger report waterfall --ledger {ledger} --as-of 2011-12-31",
            f"subledger report forecast --ledger {ledger} --to 2011-08 --as-of 2011-11-30",
            f"subledger verify --ledger {ledger}",
        ],
    )
    if len(run.months) >= FORECAST_AFTER:
        ninth = Period.parse(run.months[FORECAST_AFTER - 1]["period"])
        result.answer["forecast"] = compare_forecast(service, ledger, ninth, run.directory / "reports")
    return result


def _free_name(service: Subledger, base: str) -> str:
    """Returns ``demo``, or ``demo-2`` if that ledger exists: a ledger is append-only, so a new run gets a new one."""
    number, name = 1, base
    while _exists(service, name):
        number += 1
        name = f"{base}-{number}"
    return name


def _exists(service: Subledger, ledger: str) -> bool:
    with service.database.read() as connection, suppress(UnknownLedger):
        ledger_head(connection, ledger)
        return True
    return False
