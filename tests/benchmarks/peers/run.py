"""P11: other systems ("peers"), each measured in turn with ours. The docstring of each peer's file lists the work that
it does and does not do.

A peer is measured if it is installed. `make bench-peers` installs the Python peers into their own environment; pgledger
is given as a checkout. The output names the missing peers, with their requirements.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from projections import integrity
from projections.exports import exporting, exports
from subledger.periods import Period
from tests.benchmarks.ingest import Size, Writer
from tests.benchmarks.measures import Bound, Found, Measure, Round, Say, at_least, rate_round, seconds
from tests.scratch_database import create_database, drop_database, scratch_database, url_of

FOLDER: Final = Path(__file__).parent
INSTALLED: Final = Path(sys.prefix) / "bench-peers" / "bin" / "python"
"""Directory of `make bench-peers`."""


class Peers(msgspec.Struct, frozen=True, kw_only=True):
    """The interpreter of the Python peers, the checkout of pgledger, and the amount of their work."""

    python: Path = INSTALLED
    pgledger: Path | None = None
    batch_events: int = 5_000
    single_events: int = 200
    customers: int = 1_000
    text_events: int = 20_000


class _Contest(msgspec.Struct, frozen=True, kw_only=True):
    """A peer's program with its arguments, the number of its events in a turn, and the part of ours to compare."""

    name: str
    command: tuple[str, ...]
    events: int
    single: bool = False
    bound: Bound | None = None
    note: str = ""


def measure(owner_url: str, size: Size, peers: Peers, say: Say) -> Found:
    """Returns the measures of the installed peers, and the reasons why the others were not measured."""
    contests, skipped = _writing_contests(size, peers)
    measures = []
    with scratch_database(owner_url, copied=False) as url:
        writer = Writer(url, "bench", size)
        try:
            for contest in contests:
                measures.append(_against(owner_url, writer, contest, peers, say))
        finally:
            writer.close()
        texts, absent = _plain_text(url, size, peers, say)
    return measures + texts, skipped | absent


def _writing_contests(size: Size, peers: Peers) -> tuple[list[_Contest], dict[str, str]]:
    contests, skipped = [], {}
    count = str(peers.batch_events)
    if peers.pgledger is None:
        skipped["P11 pgledger"] = "name its checkout: --pgledger FOLDER (github.com/pgr0ss/pgledger)"
    else:
        own = (sys.executable, "pgledger.py", "URL", str(peers.pgledger.absolute()), str(peers.customers), count)
        contests += [
            _Contest(
                name="pgledger, three transfers an event",
                command=(*own, "3"),
                events=peers.batch_events,
                bound=at_least(5),
                note="the same journal lines; 100 events a call and commit",
            ),
            _Contest(
                name="pgledger, one transfer an event",
                command=(*own, "1"),
                events=peers.batch_events,
                note="a third of our lines; 100 events a call and commit",
            ),
        ]
    python = str(peers.python)
    if _imports(peers.python, "eventsourcing.postgres"):
        contests.append(
            _Contest(
                name="eventsourcing, appends",
                events=peers.batch_events,
                bound=at_least(1.5),
                command=(python, "eventsourcing_appends.py", "URL", str(size.customers), count),
                note="all events of a batch in one save",
            )
        )
    else:
        skipped["P11 eventsourcing"] = f"not importable by {python}: make bench-peers"
    if _imports(peers.python, "hordak"):
        own = (python, "hordak_single.py", "URL", str(min(peers.customers, 200)), str(peers.single_events))
        contests += [
            _Contest(
                name="django-hordak, single",
                command=(*own, "3"),
                events=peers.single_events,
                bound=at_least(100),
                note="our batches against its transactions of the same lines, with a look at the balance",
            ),
            _Contest(
                name="django-hordak, single, two legs alone",
                command=(*own, "1"),
                events=peers.single_events,
                note="our batches against a third of our lines, and nothing looked up",
            ),
            _Contest(
                name="django-hordak, single",
                command=(*own, "3"),
                events=peers.single_events,
                single=True,
                note="both one event at a time",
            ),
        ]
    else:
        skipped["P11 django-hordak"] = f"not importable by {python}: make bench-peers"
    return contests, skipped


def _imports(python: Path, module: str) -> bool:
    if not python.exists():
        return False
    found = subprocess.run([python, "-c", f"import {module.split('.')[0]}"], capture_output=True, check=False)
    return found.returncode == 0


def _against(owner_url: str, writer: Writer, contest: _Contest, peers: Peers, say: Say) -> Measure:
    """Measures rounds of our batches or single events, each with one turn of the peer."""
    say(f"P11: {contest.name}")
    database = "bench_peer_" + "".join(filter(str.isalnum, contest.name)).lower()[:40]
    drop_database(owner_url, database)
    create_database(owner_url, database)
    try:
        command = [url_of(owner_url, database) if part == "URL" else part for part in contest.command]
        with _in_turns(command) as turn:
            turn()  # warms up
            ours = _single_s if contest.single else _batch_s
            ours(writer, 1)
            rounds = []
            for _ in range(writer.size.rounds):
                count = contest.events if contest.single else 2 * writer.size.batch_size
                rounds.append(rate_round(count, [ours(writer, count)], [turn()], contest.events))
    finally:
        drop_database(owner_url, database)
    way = "one event at a time" if contest.single else f"batches of {writer.size.batch_size:,}"
    return Measure(
        goal="P11",
        name=f"{way} against {contest.name}",
        unit="events/s",
        rounds=tuple(rounds),
        limit_name=contest.name.split(",")[0],
        bound=contest.bound,
        samples_unit="s a turn",
        note=contest.note,
    )


def _batch_s(writer: Writer, count: int) -> float:
    size = writer.size.batch_size
    batches = [writer.next_batch(min(size, count - first)) for first in range(0, count, size)]
    return seconds(lambda: [writer.record(batch) for batch in batches])


def _single_s(writer: Writer, count: int) -> float:
    documents = writer.next_usage(count)
    return seconds(lambda: [writer.service.record(writer.ledger, [document]) for document in documents])


@contextmanager
def _in_turns(command: list[str]) -> Iterator[Callable[[], float]]:
    """Yields a peer's program as a function that runs one turn, and returns its seconds."""
    with ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(command, cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        stack.callback(process.kill)
        assert process.stdin is not None
        assert process.stdout is not None
        lines, answers = process.stdin, process.stdout

        def answer(expected: str) -> str:
            line = answers.readline().strip()
            if not line:
                raise RuntimeError(f"{command[1]} ended instead of answering {expected}")
            return line

        def turn() -> float:
            lines.write("\n")
            lines.flush()
            return float(answer("a turn's seconds"))

        answer("ready")
        yield turn


# --- journals as text ---------------------------------------------------------------------------------------------


def _plain_text(url: str, size: Size, peers: Peers, say: Say) -> Found:
    """Measures reading our detail journal and balancing every account, compared with our verify of the ledger."""
    tools = {"hledger": shutil.which("hledger") is not None, "beancount": _imports(peers.python, "beancount")}
    absent = {f"P11 {tool}": "not installed" for tool, there in tools.items() if not there}
    present = [tool for tool, there in tools.items() if there]
    if not present:
        return [], absent
    say("P11: plain-text accounting: recording and exporting a journal")
    customers = max(1, peers.text_events // 20)
    written = msgspec.structs.replace(size, customers=customers, batches=1, batch_size=peers.text_events)
    writer = Writer(url, "bench-text", written)
    measures = []
    try:
        writer.record(writer.next_batch(peers.text_events))
        entries = customers + peers.text_events
        with tempfile.TemporaryDirectory() as directory:
            for tool in present:
                file = _journal(writer, tool, Path(directory))
                command = [
                    str(peers.python if tool == "beancount" else sys.executable),
                    "plain_text.py",
                    tool,
                    str(file),
                ]
                say(f"P11: {tool}, {entries:,} entries")
                with _in_turns(command) as turn:
                    turn()
                    rounds = tuple(_text_round(writer, entries, turn) for _ in range(size.rounds))
                measures.append(
                    Measure(
                        goal="P11",
                        name=f"verify against {tool}, {entries:,} entries",
                        unit="entries/s",
                        rounds=rounds,
                        limit_name=tool,
                        samples_unit="s",
                        note="ours proves hashes and every derived row; theirs parses our detail journal and balances",
                    )
                )
    finally:
        writer.close()
    return measures, absent


def _text_round(writer: Writer, entries: int, turn: Callable[[], float]) -> Round:
    own_s = seconds(lambda: integrity.verify(writer.service.database, writer.ledger))
    return rate_round(entries, [own_s], [turn()])


def _journal(writer: Writer, tool: str, directory: Path) -> Path:
    service = writer.service
    made = exporting.export(service.recorder, service.database, writer.ledger, Period(2026, 1), tool, detail=True)
    path = directory / made[0].filename
    with path.open("wb") as file:
        for piece in exports.content_of(service.database, made[0]):
            file.write(piece)
    return path
