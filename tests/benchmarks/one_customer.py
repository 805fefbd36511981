"""One customer with many open blocks, payments, invoices and overages: the growth of each step when their number
doubles.

    python -m tests.benchmarks.one_customer                        # 1,250 to 10,000 of each
    python -m tests.benchmarks.one_customer --sizes 10000 --json
    python -m tests.benchmarks.one_customer --cpu                  # of this process alone, on a busy machine

A step over all items should take twice as long for twice as many items (2.0), and a step over one item as long as
before (1.0). 4.0 is quadratic. Each size has its own database. All databases are on one server, which is removed at the
end.

Owns: the steps and their table. There are no limits here; tests/store/test_wallet_parts.py tests a count of operations.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Any, Final

from api.service import Subledger
from api.shapes import reports
from api.terminal import table
from projections import integrity
from projections.reads.blocks import customer_blocks
from projections.replay.rebuild import rebuild
from subledger.ledger_settings import LedgerSettings
from subledger.store.database import Database
from subledger.store.migrate import migrate
from tests.benchmarks.measures import Say, figure
from tests.benchmarks.own_server import own_server
from tests.benchmarks.run import machine, revision
from tests.building import Document, cloud_event, payment, purchase, reversal, usage
from tests.scratch_database import create_database, drop_database, url_of

SIZES: Final = (1_250, 2_500, 5_000, 10_000)
BATCH: Final = 500
SINGLES: Final = 5
CUSTOMER: Final = "ann"
LEDGER: Final = "one"

Steps = dict[str, float]
"""Seconds by the name of a step, in order."""


class Customer:
    """One customer in its own ledger, and the times of the steps."""

    def __init__(self, url: str, size: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.size, self.steps, self._clock = size, Steps(), clock
        self._database = Database(url)
        self.service = Subledger(self._database)
        self.service.create_ledger(LEDGER, LedgerSettings(currency="USD"))
        self._ids = iter(range(10**9))

    def measure(self) -> Steps:
        """Runs every step in turn. The sweep of the blocks is last, because after it no block is open."""
        size = self.size
        self._timed("record a purchase for each", lambda: self._record(self._purchases(size)))
        self._single("record one purchase", lambda: self._purchases(1))
        self._single("draw one credit", lambda: [usage(self._id(), "1", CUSTOMER)])
        self._timed("draw one credit, nothing remembered", lambda: self._fresh([usage(self._id(), "1", CUSTOMER)]))
        before = datetime.now(UTC)
        drawn = self._id()
        self._timed("draw over half", lambda: self._record([usage(drawn, str(10 * (size // 2)), CUSTOMER)]))
        self._timed("reverse that draw", lambda: self._record([reversal(self._id(), drawn, CUSTOMER)]))
        self._read(before)
        self._timed("record a payment for each", lambda: self._record(self._payments(size)))
        self._single("record one payment", lambda: self._payments(1))
        self._timed("record a usage without credits, once per block", lambda: self._record(self._overages(size)))
        self._single("record one usage without credits", lambda: self._overages(1))
        self._timed("reverse each of these usages in half", lambda: self._record(self._reversals(size)))
        self._timed("bill what is left of them", lambda: self._record([self._bill()]))
        self._timed("record and bill a usage, once per block", lambda: self._record(self._bills(size)))
        self._whole()
        self._timed("sweep every expiry", lambda: self.service.expire(LEDGER, date(2026, 6, 30)))
        self._timed("verify, when all have expired", self._verify)
        self._database.close()
        return self.steps

    # --- steps ------------------------------------------------------------------------------------------------

    def _read(self, before: datetime) -> None:
        as_of = date(2026, 3, 31)
        self._repeated("read balances", lambda: self.service.customer_balances(LEDGER, CUSTOMER))
        self._repeated(
            "read balances as of, known at",
            lambda: self.service.customer_balances(LEDGER, CUSTOMER, as_of=as_of, known_at=before),
        )
        self._repeated("read a page of blocks", lambda: self._blocks(1))
        self._timed("read every page of blocks", lambda: self._blocks(10**9))
        self._timed("read every page as of, known at", lambda: self._blocks(10**9, as_of=as_of, known_at=before))
        self._timed("print the statement", self._statement)

    def _whole(self) -> None:
        self._timed("verify", self._verify)
        self._timed("rebuild", lambda: rebuild(self._database, LEDGER))

    def _blocks(self, pages: int, **point: Any) -> None:
        with self.service.view(LEDGER, customer=CUSTOMER, **point) as view:
            after: str | None = ""
            while after is not None and pages:
                _, after = customer_blocks(view, CUSTOMER, after=after, limit=100)
                pages -= 1

    def _statement(self) -> None:
        query = reports.ReportQuery(customer=CUSTOMER, from_="2026-01", to="2026-03")
        with reports.answer(self.service, LEDGER, "statement", query) as (report, _, _):
            if not report.ties:
                raise RuntimeError("the statement has no ties")

    def _verify(self) -> None:
        found = integrity.verify(self._database, LEDGER)
        if found.differences:
            raise RuntimeError(f"the ledger does not verify: {found.differences[0]}")

    # --- events -----------------------------------------------------------------------------------------------

    def _id(self) -> str:
        return f"e{next(self._ids)}"

    def _purchases(self, count: int) -> list[Document]:
        """Returns purchases of blocks with different expiries, so that draws are not in the order of purchases."""
        found = []
        for _ in range(count):
            number = next(self._ids)
            expires = datetime(2026, 4, 1, tzinfo=UTC) + timedelta(minutes=number * 7_919 % 50_000)
            found.append(
                purchase(f"b{number}", "10", CUSTOMER, "2026-01-01", price="10.00", expires_at=expires, tax="1.00")
            )
        return found

    def _payments(self, count: int) -> list[Document]:
        return [payment(self._id(), "0.50", CUSTOMER, payment_id=f"p{self._id()}") for _ in range(count)]

    def _overages(self, count: int) -> list[Document]:
        """Returns usage of a unit without credits."""
        priced = {"unit": "call", "overage_price": "0.10", "currency": "USD", "on_shortfall": "overage"}
        self._used = [self._id() for _ in range(count)] if count > 1 else self._used
        ids = self._used if count > 1 else [self._id()]
        return [usage(each, "2", CUSTOMER, **priced) for each in ids]

    def _reversals(self, count: int) -> list[Document]:
        return [reversal(self._id(), each, CUSTOMER, credits="1") for each in self._used[:count]]

    def _bill(self, amount: str | None = None) -> Document:
        amount = amount or f"{0.1 * self.size + 0.2 * SINGLES:.2f}"
        invoice = self._id()
        data = {"invoice_id": f"i{invoice}", "amount": amount, "currency": "USD"}
        return cloud_event(invoice, "overage.billed", CUSTOMER, "2026-01-21T00:00:00Z", **data)

    def _bills(self, count: int) -> list[Document]:
        events = []
        for event in self._overages(count):
            events += [event, self._bill("0.20")]
        return events

    # --- time -------------------------------------------------------------------------------------------------

    def _timed(self, name: str, work: Callable[[], object]) -> None:
        started = self._clock()
        work()
        self.steps[name] = self._clock() - started

    def _repeated(self, name: str, work: Callable[[], object], times: int = SINGLES) -> None:
        taken = []
        for _ in range(times):
            self._timed(name, work)
            taken.append(self.steps[name])
        self.steps[name] = median(taken)

    def _single(self, name: str, events: Callable[[], list[Document]]) -> None:
        self._record(events())  # work that a batch postponed is written before
        self._repeated(name, lambda: self._record(events()))

    def _record(self, events: Sequence[Document]) -> None:
        _record(self.service, events)

    def _fresh(self, events: Sequence[Document]) -> None:
        """Records the events with a writer without cached wallets, as after a start."""
        _record(Subledger(self._database), events)


def _record(service: Subledger, events: Sequence[Document]) -> None:
    for first in range(0, len(events), BATCH):
        for outcome in service.record(LEDGER, events[first : first + BATCH]):
            if outcome.status != "recorded":
                raise RuntimeError(f"the benchmark's own event was refused: {outcome}")


@contextmanager
def _database_of(owner_url: str, size: int) -> Iterator[str]:
    name = f"one_customer_{size}"
    create_database(owner_url, name)
    try:
        migrate(url_of(owner_url, name))
        yield url_of(owner_url, name)
    finally:
        drop_database(owner_url, name)


def run(
    sizes: Sequence[int], say: Say, url: str | None = None, clock: Callable[[], float] = time.perf_counter
) -> dict[int, Steps]:
    """Runs every step for every size. ``url`` is the owner's URL of an existing server."""
    if url is None:
        with own_server({}) as own:
            return run(sizes, say, own, clock)
    found = {}
    for size in sizes:
        say(f"one customer with {size:,} open blocks")
        with _database_of(url, size) as database:
            found[size] = Customer(database, size, clock).measure()
        say(json.dumps({size: found[size]}))  # so an interrupted run has shown its results
    return found


def _rows(found: dict[int, Steps]) -> list[tuple[object, ...]]:
    sizes = list(found)
    rows = []
    for name in found[sizes[0]]:
        times = [found[size][name] for size in sizes]
        growth = [f"{later / earlier:.1f}" for earlier, later in pairwise(times)]
        rows.append((name, *(figure(1_000 * taken) for taken in times), " ".join(growth)))
    return rows


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.one_customer", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--url", help="the owner's URL of a server; by default one is started and ended")
    parser.add_argument("--cpu", action="store_true", help="the processor time of this process, without the server's")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(given)
    clock = time.process_time if options.cpu else time.perf_counter
    found = run(options.sizes, lambda text: print(text, file=sys.stderr, flush=True), options.url, clock)
    if options.json:
        print(json.dumps({"machine": machine(), "revision": revision(), "seconds": found}, indent=2))
        return
    columns = ("step, in ms", *(f"{size:,}" for size in found), "growth")
    table(f"One customer; {revision()}", columns, _rows(found), right=tuple(range(1, len(columns))))


if __name__ == "__main__":
    main()
