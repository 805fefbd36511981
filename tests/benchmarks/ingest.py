"""P1, P2, P3: recording, in batches by one writer and by two, and one event at a time."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson
import psycopg

from api.cli.commands.record import record_lines  # the work of `subledger record` on the bytes of a file
from api.cli.event_files import BATCH as FILE_BATCH
from api.cli.event_files import EventLines, Refusals, RejectedLines
from api.service import Subledger
from subledger.events.envelope import Event, read_event
from subledger.ledger_settings import LedgerSettings
from subledger.persons import NOBODY
from subledger.store.database import Database
from subledger.store.reading.ledgers import ledger_head
from tests.benchmarks.measures import Found, Measure, Round, Say, at_least, at_most, latencies, rate_round, seconds
from tests.benchmarks.raw import Raw, RawInsert
from tests.benchmarks.workload import Document, purchases, usage

LEDGER: Final = "bench"


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """Size of the measurement. A round is long enough to include the work that a writer postpones for some batches."""

    rounds: int = 7
    batches: int = 10
    batch_size: int = 5_000
    customers: int = 10_000
    singles: int = 60

    @property
    def round_events(self) -> int:
        return self.batches * self.batch_size


class Writer:
    """One ledger's writer, and its progress in its events."""

    def __init__(self, url: str, ledger: str, size: Size) -> None:
        self.service = Subledger(Database(url))
        self.ledger, self.size, self._next = ledger, size, 0
        self.service.create_ledger(ledger, LedgerSettings(currency="USD"))
        for first in range(0, size.customers, size.batch_size):
            self.record(decoded(purchases(first, min(first + size.batch_size, size.customers))))

    def next_usage(self, count: int) -> list[Document]:
        self._next += count
        return usage(self._next - count, self._next, self.size.customers)

    def next_batch(self, count: int) -> list[Event]:
        return decoded(self.next_usage(count))

    def next_batches(self) -> list[list[Event]]:
        return [self.next_batch(self.size.batch_size) for _ in range(self.size.batches)]

    def record(self, events: Sequence[Event]) -> None:
        refused = [o for o in self.service.recorder.record(self.ledger, events) if o.status != "recorded"]
        if refused:
            raise RuntimeError(f"the benchmark's own events were refused: {refused[0]}")

    @property
    def position(self) -> int:
        with self.service.database.read() as snapshot:
            return ledger_head(snapshot, self.ledger).position

    def close(self) -> None:
        self.service.database.close()


def decoded(documents: Sequence[Document]) -> list[Event]:
    return [read_event(document) for document in documents]


def measure(url: str, size: Size, wanted: frozenset[str], say: Say) -> Found:
    """Measures the requested ones of P1, P2 and P3, in a database that nobody else uses."""
    with psycopg.connect(url) as connection:
        raw = Raw(connection)
        say("ingest: opening a credit block for every customer")
        writer = Writer(url, LEDGER, size)
        try:
            measures = []
            if "P1" in wanted:
                measures += one_writer(writer, raw, say)
            if "P3" in wanted:
                measures += one_at_a_time(writer, url, say)
        finally:
            writer.close()
        if "P2" in wanted:
            measures += two_writers(url, size, raw, say)
    return measures, {}


def one_writer(writer: Writer, raw: Raw, say: Say) -> list[Measure]:
    """Measures batches of decoded events, and the same batches from the bytes of a file, including decoding."""
    size, batches, files = writer.size, [], []
    for number in range(size.rounds + 1):
        round = _round_of_batches(writer, raw)
        file = _round_of_lines(writer, raw)
        say(f"P1 round {number} of {size.rounds}: {round.value:,.0f} events/s, {round.ratio:.2f} RAW")
        if number:  # the first one warms up
            batches.append(round)
            files.append(file)
    of = f"one writer, {size.customers:,} customers"
    return [
        Measure(
            goal="P1",
            name=f"ingest, batches of {size.batch_size:,}, {of}",
            unit="events/s",
            rounds=tuple(batches),
            limit_name="RAW",
            bound=at_least(0.5),
            samples_unit="s a batch",
            note="events decoded and checked before the clock starts",
        ),
        Measure(
            goal="P1",
            name=f"ingest from JSON Lines, batches of {FILE_BATCH:,}, {of}",
            unit="events/s",
            rounds=tuple(files),
            limit_name="RAW",
            samples_unit="s a file",
            note="as `subledger record` does: parsing and checking the bytes is included",
        ),
    ]


def _round_of_batches(writer: Writer, raw: Raw) -> Round:
    own_s, limit_s = [], []
    position = writer.position
    for events in writer.next_batches():
        started = time.perf_counter()
        writer.record(events)
        own_s.append(time.perf_counter() - started)
        limit_s.append(raw.copy_s(writer.ledger, position + 1, position + len(events)))
        position += len(events)
    return rate_round(writer.size.round_events, own_s, limit_s)


def _unwritable(error: OSError) -> None:
    raise error


def _round_of_lines(writer: Writer, raw: Raw) -> Round:
    first, count = writer.position + 1, writer.size.round_events
    lines = BytesIO(b"\n".join(orjson.dumps(document) for document in writer.next_usage(count)))
    with tempfile.TemporaryDirectory() as directory:
        rejected = RejectedLines(Path(directory) / "rejected.jsonl", _unwritable)
        own_s = seconds(
            lambda: record_lines(
                writer.service, writer.ledger, NOBODY, EventLines(lines, "-"), rejected, None, Refusals()
            )
        )
    if writer.position != first + count - 1:
        raise RuntimeError("the benchmark's own lines were refused")
    return rate_round(count, [own_s], raw.copies_s(writer.ledger, first, first + count - 1, FILE_BATCH))


def one_at_a_time(writer: Writer, url: str, say: Say) -> list[Measure]:
    """Measures single events: each is recorded before the next is sent."""
    say("P3: one event at a time against single-row INSERTs")
    size = writer.size
    documents = iter(writer.next_usage(size.rounds * size.singles + 6))
    with psycopg.connect(url, autocommit=True) as connection:
        insert = RawInsert(connection, writer.ledger)

        def record_one() -> None:
            (outcome,) = writer.service.record(writer.ledger, [next(documents)])
            if outcome.status != "recorded":
                raise RuntimeError(f"the benchmark's own event was refused: {outcome}")

        found = latencies(size.rounds, size.singles, insert, {"one event": record_one})
    return [
        Measure(
            goal="P3",
            name="one event at a time, one client",
            unit="ms p50",
            rounds=found["one event"],
            limit_name="INSERT",
            bound=at_most(2),
            samples_unit="ms",
            note="from decoded JSON to the durable answer; INSERT is of the event's row alone, from psycopg",
        )
    ]


# --- two writers --------------------------------------------------------------------------------------------------


def two_writers(url: str, size: Size, raw: Raw, say: Say) -> list[Measure]:
    """Measures two processes at the same time, each with its own ledger. RAW has one connection."""
    say("P2: two writers, each opening a credit block for every customer")
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for ledger in ("bench-1", "bench-2"):
        ours, theirs = context.Pipe()
        process = context.Process(target=_write_in_turns, args=(theirs, url, ledger, size), daemon=True)
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    rounds = []
    try:
        positions = [pipe.recv() for pipe in pipes]
        for number in range(size.rounds + 1):
            for message in ("prepare", "go"):
                for pipe in pipes:
                    pipe.send(message)
                answers = [pipe.recv() for pipe in pipes]
            own_s = max(ended for _, ended in answers) - min(started for started, _ in answers)
            limit_s = raw.copies_s("bench-1", positions[0] + 1, positions[0] + size.round_events, size.batch_size)
            positions = [position + size.round_events for position in positions]
            round = rate_round(2 * size.round_events, [own_s], limit_s, size.round_events)
            say(f"P2 round {number} of {size.rounds}: {round.value:,.0f} events/s, {round.ratio:.2f} RAW")
            if number:
                rounds.append(round)
    finally:
        for pipe in pipes:
            pipe.close()  # this ends its writer
        for process in processes:
            process.join(30)
    return [
        Measure(
            goal="P2",
            name=f"ingest, batches of {size.batch_size:,}, two ledgers, two writer processes",
            unit="events/s",
            rounds=tuple(rounds),
            limit_name="RAW",
            bound=at_least(0.9),
            samples_unit="s a round",
            note="both together, from the first start to the last end; RAW over one connection",
        )
    ]


def _write_in_turns(pipe: Connection[Any, Any], url: str, ledger: str, size: Size) -> None:
    """Runs a writer process: prepares decoded batches, waits for a message, records them, and sends the start and end
    times.
    """
    writer = Writer(url, ledger, size)
    pipe.send(writer.position)
    try:
        while pipe.recv() == "prepare":
            batches = writer.next_batches()
            pipe.send("ready")
            pipe.recv()
            started = time.perf_counter()
            for events in batches:
                writer.record(events)
            pipe.send((started, time.perf_counter()))
    except EOFError:
        pass
    finally:
        writer.close()
