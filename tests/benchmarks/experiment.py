"""The same work on several layouts of the log, phase by phase, and its cost compared with the first layout.

Owns: the phases and their figures. Does not own: the layouts (layouts), the counting (contenders), the choice of
comparisons (storage).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import partial
from itertools import count
from typing import Final

import msgspec

from api.service import Subledger
from subledger.events.envelope import Event
from subledger.store.database import Database
from tests.benchmarks.contenders import Contender, Pieces, Took, in_turn, together
from tests.benchmarks.ingest import decoded
from tests.benchmarks.measures import Measure, Round, Say
from tests.benchmarks.workload import purchases, usage

LOG: Final = ("events", "entries", "batches", "merkle_nodes")

SIZES: Final = """
-- Bytes of each table and index that is worth a line; parts count for what they are parts of.
SELECT coalesce(pg_partition_root(c.oid), c.oid)::regclass::text AS name, sum(pg_relation_size(c.oid))::bigint
FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i')
GROUP BY 1 HAVING sum(pg_relation_size(c.oid)) > 0 ORDER BY 2 DESC
"""
UPDATES: Final = """
-- Tables whose rows are updated: how often, how often without touching an index, dead rows now, vacuums so far.
SELECT relname, n_tup_upd, n_tup_hot_upd, n_dead_tup, autovacuum_count FROM pg_stat_user_tables
WHERE n_tup_upd > 0 AND schemaname = 'public' AND relname <> 'alembic_version' ORDER BY relname
"""
DUE: Final = """
-- Tables that enough rows have been added to, by their own parameters or the server's, and the age they freeze at.
WITH parameters AS (
    SELECT c.oid, c.reltuples, of.name, coalesce(
               (SELECT option_value FROM pg_options_to_table(c.reloptions) WHERE option_name = of.name),
               current_setting(of.of_server))::float AS value
    FROM pg_class c
    CROSS JOIN (VALUES ('autovacuum_vacuum_insert_threshold', 'autovacuum_vacuum_insert_threshold'),
                       ('autovacuum_vacuum_insert_scale_factor', 'autovacuum_vacuum_insert_scale_factor'),
                       ('autovacuum_freeze_min_age', 'vacuum_freeze_min_age')) AS of (name, of_server)
    WHERE c.relname = ANY(%s)
), tables AS (
    SELECT oid, greatest(max(reltuples), 0) AS rows, max(value) FILTER (WHERE name LIKE '%%threshold') AS threshold,
           max(value) FILTER (WHERE name LIKE '%%factor') AS factor, max(value) FILTER (WHERE name LIKE '%%age') AS age
    FROM parameters GROUP BY oid
)
SELECT oid::regclass::text, age::bigint FROM tables
WHERE pg_stat_get_ins_since_vacuum(oid) > threshold + factor * rows
"""
CHECKPOINT_EVERY: Final = 4  # rounds


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """Work done to every layout. ``events`` come in batches, ``few`` in batches of ``few_size``."""

    ledgers: int = 1
    events: int = 1_000_000
    batch: int = 5_000
    few: int = 0
    few_size: int = 100
    singles: int = 2_000
    customers: int = 10_000
    rounds: int = 10
    questions: int = 200


class Experiment:
    """The phases of the work, and the figures of each contender compared with the first."""

    def __init__(self, work: Work, entrants: list[Contender], say: Say) -> None:
        self._work, self._entrants, self._say = work, entrants, say
        self._turn = count()
        self._used = dict.fromkeys(self._ledgers, 0)
        self.found: list[Measure] = []

    @property
    def _ledgers(self) -> list[str]:
        return [f"ledger-{n}" for n in range(self._work.ledgers)]

    def open(self) -> None:
        """Creates the ledgers, with a large block for every customer."""
        each = max(1, self._work.customers // self._work.ledgers)
        for ledger in self._ledgers:
            for contender in self._entrants:
                contender.create(ledger)
                for first in range(0, each, 5_000):
                    contender.record(ledger, decoded(purchases(first, min(first + 5_000, each))))

    def record(self, what: str, events: int, size: int) -> None:
        """Records usage in batches of one size, ledger after ledger."""
        work = self._work
        of_round = max(1, events // size // work.rounds)
        self._say(f"{what}: {events:,} events")

        def pieces() -> Pieces:
            for ledger, batch in [self._next(size) for _ in range(of_round)]:
                yield size, partial(_record, ledger=ledger, events=batch)

        took = in_turn(self._entrants, work.rounds, pieces)
        if size == 1:
            self._compare(what, "ms p50", took, lambda t: [1000 * s for s in t.median_s])
        else:
            self._compare(what, "events/s", took, lambda t: [size * of_round / s for s in t.seconds])
        self._costs(what, "event", took)

    def ask(self) -> None:
        """Reads a customer's balance and the trial balance as of now; then each of them as the first query of a
        connection.
        """
        ledgers, customers = self._ledgers, range(min(20, self._work.customers // self._work.ledgers))
        for contender in self._entrants:
            contender.owner.execute("VACUUM (ANALYZE)")

        def of_customer(service: Subledger, n: int) -> None:
            customer = f"customer-{customers[n // len(ledgers) % len(customers)]}"
            service.customer_balances(ledgers[n % len(ledgers)], customer, as_of=date(2026, 12, 31))

        def of_ledger(service: Subledger, n: int) -> None:
            service.trial_balance(ledgers[n % len(ledgers)], as_of=date(2026, 12, 31))

        for name, question in (("customer's balance", of_customer), ("trial balance", of_ledger)):
            for contender in self._entrants:
                for n in range(len(ledgers) * len(customers)):
                    question(contender.service, n)  # adds its snapshots
            self._say(name)
            self._ask(name, partial(_again, question), self._work.questions)
            self._ask(
                f"{name}, first of a connection", partial(_afresh, question), min(10, self._work.questions), cpu=False
            )

    def _ask(self, name: str, question: Callable[[Contender, int], None], each: int, *, cpu: bool = True) -> None:
        numbers = count()

        def pieces() -> Pieces:
            for _ in range(each):
                yield 1, partial(_numbered, question, next(numbers))

        took = in_turn(self._entrants, self._work.rounds, pieces)
        self._compare(name, "ms p50", took, lambda t: [1000 * s for s in t.median_s])
        if cpu:
            self._costs(name, "question", took)

    def grow_old(self) -> None:
        """Records usage in batches, with vacuums as autovacuum would run them, and some checkpoints. At the end all
        rows are old.

        Autovacuum itself is off for the log, so that its writes can be counted for each contender.
        """
        work = self._work
        recorded: list[dict[str, Took]] = []
        vacuumed: list[dict[str, Took]] = []
        for number in range(work.rounds):
            self._say(f"recording and vacuuming: round {number + 1} of {work.rounds}")
            if number % CHECKPOINT_EVERY == 0:
                self._entrants[0].owner.execute("CHECKPOINT")
            batches = [self._next(work.batch) for _ in range(max(1, work.events // work.batch // work.rounds))]
            pieces = [(work.batch, partial(_record, ledger=ledger, events=events)) for ledger, events in batches]
            recorded.append(in_turn(self._entrants, 1, partial(iter, pieces)))
            vacuumed.append(in_turn(self._entrants, 1, partial(iter, [(0, _vacuum_what_is_due)])))
        self._entrants[0].owner.execute("CHECKPOINT")
        self._say("vacuum of what is old")
        old = in_turn(self._entrants, 1, partial(iter, [(0, _freeze)]))
        for what, tooks in (("recording", recorded), ("vacuum meanwhile", vacuumed), ("vacuum once it is old", [old])):
            of = {c.name: together([took[c.name] for took in tooks], work.events) for c in self._entrants}
            self._compare(what, "s", of, lambda t: [sum(t.seconds)])
            self._figures(f"{what}: write-ahead log", "bytes an event", {n: t.written / t.count for n, t in of.items()})
            self._figures(f"{what}: blocks read", "an event", {n: t.read / t.count for n, t in of.items()})

    def look(self) -> None:
        """Measures the stored bytes, and counts the kinds of updates."""
        self._sizes("")
        updates = {c.name: {row[0]: row[1:] for row in c.owner.execute(UPDATES)} for c in self._entrants}
        for table_name in updates[self._entrants[0].name]:
            of = {c: rows[table_name] for c, rows in updates.items() if table_name in rows}
            for place, what, unit in ((2, "dead rows", "rows"), (3, "autovacuums", "times")):
                self._figures(f"{table_name}: {what}", unit, {c: float(row[place]) for c, row in of.items()})
            share = {c: 100 * hot / max(1, all_) for c, (all_, hot, *_) in of.items()}
            self._figures(f"{table_name}: updates that touch no index", "%", share)

    def pack(self) -> None:
        """Measures the stored bytes after the indexes of the log have been rebuilt."""
        self._say("building the log's indexes anew")
        for contender in self._entrants:
            for name in LOG:
                contender.owner.execute(f"REINDEX TABLE {name}".encode())
        self._sizes(", built anew")

    def _sizes(self, when: str) -> None:
        sizes = {c.name: dict(c.owner.execute(SIZES).fetchall()) for c in self._entrants}
        first, updated = sizes[self._entrants[0].name], _updated(self._entrants[0])
        total = {name: sum(of.values()) for name, of in sizes.items()}
        self._figures(f"all tables and indexes{when}", "MB", {name: size / 1e6 for name, size in total.items()})
        for name, size in first.items():
            if size * 200 > sum(first.values()) or (name.removeprefix("pk_") in updated and not when):
                self._figures(f"{name}{when}", "MB", {c: of.get(name, 0) / 1e6 for c, of in sizes.items()})

    # --- figures ------------------------------------------------------------------------------------------------

    def _next(self, size: int) -> tuple[str, list[Event]]:
        ledger = self._ledgers[next(self._turn) % len(self._used)]
        first = self._used[ledger]
        self._used[ledger] += size
        return ledger, decoded(usage(first, first + size, max(1, self._work.customers // self._work.ledgers)))

    def _costs(self, what: str, one: str, took: dict[str, Took]) -> None:
        self._figures(
            f"{what}: server's processor", f"µs a {one}", {n: 1e6 * t.cpu_s / t.count for n, t in took.items()}
        )
        self._figures(f"{what}: write-ahead log", f"bytes a {one}", {n: t.written / t.count for n, t in took.items()})
        self._figures(f"{what}: blocks read", f"a {one}", {n: t.read / t.count for n, t in took.items()})

    def _figures(self, what: str, unit: str, values: dict[str, float]) -> None:
        self._add(what, unit, {name: [value] for name, value in values.items()})

    def _compare(self, what: str, unit: str, took: dict[str, Took], of: Callable[[Took], list[float]]) -> None:
        self._add(what, unit, {name: of(t) for name, t in took.items()})

    def _add(self, what: str, unit: str, values: dict[str, list[float]]) -> None:
        first, *others = [c.name for c in self._entrants]
        for name in others:
            pairs = zip(values.get(name, [0.0]), values.get(first, [0.0]), strict=True)
            rounds = tuple(Round(value=own, limit=limit or None) for own, limit in pairs)
            self.found.append(Measure(goal=name, name=what, unit=unit, rounds=rounds, limit_name=first))


def _record(contender: Contender, ledger: str, events: list[Event]) -> None:
    contender.record(ledger, events)


def _numbered(question: Callable[[Contender, int], None], n: int, contender: Contender) -> None:
    question(contender, n)


def _again(question: Callable[[Subledger, int], None], contender: Contender, n: int) -> None:
    question(contender.service, n)


def _afresh(question: Callable[[Subledger, int], None], contender: Contender, n: int) -> None:
    database = Database(contender.url)
    question(Subledger(database), n)
    database.close()


def _vacuum_what_is_due(contender: Contender) -> None:
    """Vacuums the tables that autovacuum would vacuum, with the same freeze age."""
    for name, age in contender.owner.execute(DUE, (list(LOG),)).fetchall():
        contender.owner.execute(f"SET vacuum_freeze_min_age = {age}".encode())
        contender.owner.execute(f"VACUUM {name}".encode())
        contender.owner.execute("RESET vacuum_freeze_min_age")


def _freeze(contender: Contender) -> None:
    """Runs the vacuum that PostgreSQL runs on every table whose oldest row is 200 million transactions old."""
    for name in LOG:
        contender.owner.execute(f"VACUUM (FREEZE) {name}".encode())


def _updated(contender: Contender) -> set[str]:
    return {row[0] for row in contender.owner.execute(UPDATES)}
