"""An interrupted rebuild continues from its progress, and produces the same rows."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from api.service import Subledger
from projections.replay import folding, log_stream, resumable
from projections.replay.chain import read_head
from projections.replay.derived_tables import DERIVED
from projections.replay.folding import fold
from projections.replay.rebuild import RebuildCounts, rebuild
from projections.replay.resumable import ResumableRuns, Start
from projections.replay.workers import database_snapshot, no_progress
from subledger.errors import IntegrityFault, InvalidInput
from subledger.store.database import Database
from tests.building import cloud_event, recorded
from tests.laws.walks import long_walk
from tests.store.tampering import LEDGER, differences, dump, grant, history, tamper
from tests.store.walked import record_walk

pytestmark = pytest.mark.campaign

SHARES = 3


class Interrupted(Exception):
    pass


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes chunks small. Each is saved, and then reported."""
    monkeypatch.setattr(log_stream, "CHUNK", 7)
    monkeypatch.setattr(folding, "SAVED_EVERY", 1)


def _interrupted(service: Subledger, directory: Path, after: int, ledger: str = LEDGER) -> int:
    """Runs a resumed rebuild, and interrupts it after some events. Returns their number."""
    done_by_then = 0

    def progress(done: int, _total: int) -> None:
        nonlocal done_by_then
        done_by_then = done
        if done >= after:
            raise Interrupted

    held = ResumableRuns(directory)
    try:
        rebuild(service.database, ledger, progress, shares=SHARES, resumable=held, resume=True)
    except Interrupted:
        return done_by_then
    finally:
        held.close()
    raise AssertionError(f"it had ended before {after} events were done")


def _resumed(service: Subledger, directory: Path, ledger: str = LEDGER) -> RebuildCounts:
    held = ResumableRuns(directory)
    try:
        return rebuild(service.database, ledger, shares=SHARES, resumable=held, resume=True)
    finally:
        held.close()


def _empty(service: Subledger, ledger: str = LEDGER) -> None:
    """Deletes every derived row, so that the rebuild must make all of them."""
    with service.database.write() as connection:
        for derived in DERIVED:
            connection.execute(f"DELETE FROM {derived.name} WHERE ledger = %s", (ledger,))


def _left(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


# --- resuming -----------------------------------------------------------------------------------------------------


def test_interrupted_after_every_chunk_it_leaves_the_rows_of_one_that_was_not(
    service: Subledger, tmp_path: Path
) -> None:
    for seed in range(2):
        ledger, directory = f"t-{uuid.uuid4().hex[:10]}", tmp_path / str(seed)
        record_walk(service, ledger, long_walk(seed, 200))
        healthy = dump(service, ledger)
        _empty(service, ledger)
        done, times = 0, 0
        with service.database.read() as connection:
            head = read_head(connection, ledger)
        assert head is not None
        while done < head.position:
            done = _interrupted(service, directory, done + 1, ledger)
            times += 1
        assert times > head.position / 7, "in every share, and in the midst of it"
        counts = _resumed(service, directory, ledger)
        assert counts.resumed_from == head.position
        assert dump(service, ledger) == healthy
        assert differences(service, ledger) == []
        assert _left(directory) == ["lock"], "what was kept is gone"


def test_what_was_recorded_since_the_interruption_is_in_it(own: tuple[Subledger, str], tmp_path: Path) -> None:
    service, _ = own
    done = _interrupted(service, tmp_path / "kept", 50)
    later = [
        grant("new", customer="nobody-yet"),
        cloud_event(
            "give",
            "credits.transferred",
            "nobody-yet",
            "2026-03-20T00:00:00Z",
            block_id="new",
            to_customer="c2",
            new_block_id="given",
        ),
    ]
    recorded(service, LEDGER, *later)
    service.record(LEDGER, history(5, 70))
    healthy = dump(service, LEDGER)
    _empty(service)
    counts = _resumed(service, tmp_path / "kept")
    assert 0 < counts.resumed_from <= done
    assert dump(service, LEDGER) == healthy
    assert differences(service) == []


def test_what_is_recorded_while_it_goes_on_is_in_it(own: tuple[Subledger, str], tmp_path: Path) -> None:
    service, url = own
    _interrupted(service, tmp_path / "kept", 50)
    writer, later = Subledger(Database(url)), [grant("later", customer="c2"), grant("new", customer="nobody-yet")]

    def meanwhile(_done: int, _total: int) -> None:
        if later:
            assert [outcome.status for outcome in writer.record(LEDGER, later)] == ["recorded"] * 2
            later.clear()

    held = ResumableRuns(tmp_path / "kept")
    counts = rebuild(service.database, LEDGER, meanwhile, resumable=held, resume=True)
    held.close()
    writer.database.close()
    assert counts.resumed_from
    assert not any(counts.written.values())
    assert differences(service) == []


KILLED = """
import sys
from pathlib import Path
from projections.replay import folding, log_stream
from projections.replay.resumable import ResumableRuns
from projections.replay.rebuild import rebuild
from subledger.store.database import Database

def progress(done, total):
    if done >= 40:
        print("replaying", flush=True)
        sys.stdin.read()

if __name__ == "__main__":
    url, ledger, directory, workers = sys.argv[1:]
    log_stream.CHUNK, folding.SAVED_EVERY = 7, 1
    rebuild(Database(url), ledger, progress, workers=int(workers), shares=3, resumable=ResumableRuns(Path(directory)),
            resume=True)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_one_that_is_killed_leaves_what_was_there_and_the_next_one_goes_on_and_mends_it(
    own: tuple[Subledger, str], tmp_path: Path, workers: int
) -> None:
    service, url = own
    healthy = dump(service, LEDGER)
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM wallets WHERE customer = 'c1'")
    damaged = dump(service, LEDGER)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, url, LEDGER, str(tmp_path / "kept"), str(workers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "replaying\n"
    spooled = list(Path(tempfile.gettempdir()).glob(f"subledger-rebuild-{process.pid}-*"))
    process.kill()
    process.wait()
    assert spooled
    assert dump(service, LEDGER) == damaged
    [outcome] = service.record(LEDGER, [grant("meanwhile", customer="c2")])
    assert outcome.status == "recorded", "a killed rebuild holds no lock"
    counts = _resumed(service, tmp_path / "kept")
    if workers == 1:  # with more workers, the saved part at a report is random
        assert counts.resumed_from >= 40
    assert differences(service) == []
    assert {*healthy["wallets"]} - {*dump(service, LEDGER)["wallets"]} <= {
        row for row in healthy["wallets"] if "'c2'" in row
    }
    assert not any(path.exists() for path in spooled), "what it had spooled is thrown away"
    assert _left(tmp_path / "kept") == ["lock"]


# --- starting again -----------------------------------------------------------------------------------------------


def test_without_being_asked_to_go_on_it_begins_anew(own: tuple[Subledger, str], tmp_path: Path) -> None:
    service, url = own
    _interrupted(service, tmp_path / "kept", 50)
    tamper(url, "events", "UPDATE events SET attributes = '{}' WHERE position = 9")
    held = ResumableRuns(tmp_path / "kept")
    with pytest.raises(IntegrityFault) as refused:
        rebuild(service.database, LEDGER, resumable=held)
    held.close()
    assert refused.value.facts["position"] == 9


@pytest.fixture
def restored(server_url: str, own: tuple[Subledger, str]) -> Iterator[Callable[[], Subledger]]:
    """Makes a copy of the ledger's database, like a backup that is made now and restored."""
    service, url = own
    name, copies = f"t_{uuid.uuid4().hex[:12]}", []

    def restore() -> Subledger:
        service.database.close()  # a template has no connections
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {make_url(url).database}")
        copies.append(Database(make_url(url).set(database=name).render_as_string(hide_password=False)))
        return Subledger(copies[0])

    yield restore
    for copy in copies:
        copy.close()
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def test_what_is_kept_of_another_log_is_not_used_though_it_is_as_long(
    own: tuple[Subledger, str], restored: Callable[[], Subledger], tmp_path: Path
) -> None:
    service, _ = own
    other = restored()
    service.record(LEDGER, [grant("lost", customer="c1"), grant("lost-too", customer="of-the-lost")])
    other.record(LEDGER, [grant("since", customer="c1"), grant("since-too", customer="of-the-other")])
    # The last share reports it, so the last events are in the saved progress.
    done = _interrupted(service, tmp_path / "kept", 93)
    healthy = dump(other, LEDGER)
    _empty(other)
    counts = _resumed(other, tmp_path / "kept")
    assert (counts.resumed_from, done) == (0, 93)
    assert dump(other, LEDGER) == healthy
    assert differences(other) == []


def test_what_is_kept_of_a_log_that_was_longer_is_not_used(
    own: tuple[Subledger, str], restored: Callable[[], Subledger], tmp_path: Path
) -> None:
    service, _ = own
    earlier = restored()
    service.record(LEDGER, [grant("lost", customer="c1")])
    _interrupted(service, tmp_path / "kept", 89)
    counts = _resumed(earlier, tmp_path / "kept")
    assert counts.resumed_from == 0
    assert not any(counts.written.values())


def test_what_is_kept_of_a_copy_of_this_log_is_used(
    own: tuple[Subledger, str], restored: Callable[[], Subledger], tmp_path: Path
) -> None:
    service, _ = own
    copy = restored()
    done = _interrupted(service, tmp_path / "kept", 50)
    assert 0 < _resumed(copy, tmp_path / "kept").resumed_from <= done
    assert differences(copy) == []


@pytest.mark.parametrize("what", ["FORM", "version"])
def test_what_another_program_has_kept_is_not_used(
    own: tuple[Subledger, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    service, _ = own
    _interrupted(service, tmp_path / "kept", 50)
    monkeypatch.setattr(resumable, what, {"FORM": resumable.FORM + 1, "version": lambda _name: "another"}[what])
    counts = _resumed(service, tmp_path / "kept")
    assert counts.resumed_from == 0
    assert differences(service) == []


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "one byte is another": lambda content: (
        content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]
    ),
    "its end is missing": lambda content: content[:-3],
    "it is empty": lambda _content: b"",
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_cannot_be_read_whole_is_done_anew(own: tuple[Subledger, str], tmp_path: Path, how: str) -> None:
    service, _ = own
    _interrupted(service, tmp_path / "whole", 91)
    healthy = dump(service, LEDGER)
    names = _left(tmp_path / "whole" / "running")
    assert names == ["chain", "manifest", "share-0", "share-1", "share-2"]
    for name in names:
        shutil.copytree(tmp_path / "whole", tmp_path / name)
        file = tmp_path / name / "running" / name
        file.write_bytes(SPOILT[how](file.read_bytes()))
        _empty(service)
        counts = _resumed(service, tmp_path / name)
        assert (counts.resumed_from == 91) is (name == "chain"), name
        assert (counts.resumed_from == 0) is (name == "manifest"), name
        assert dump(service, LEDGER) == healthy
        assert differences(service) == []


# --- damage -------------------------------------------------------------------------------------------------------


def _over_the_damage(service: Subledger, directory: Path) -> int:
    """Runs a rebuild up to the damage, and kills it before it reports the damage. Returns the position."""
    held = ResumableRuns(directory / "kept")
    (directory / "spool").mkdir()
    with database_snapshot(service.database) as snapshot:
        head = read_head(snapshot.connection, LEDGER)
        held.begin(snapshot.connection, LEDGER, head, shares=SHARES, start=Start.ANEW)
        whole = fold(
            snapshot, LEDGER, shares=SHARES, workers=1, advance=no_progress, spool=directory / "spool", resumable=held
        )
    held.close()
    assert whole.damage is not None
    return whole.damage.position


@pytest.mark.parametrize("saved_every", [1, 1_000])
@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("events", "UPDATE events SET data = replace(data, '2026-01', '2026-02') WHERE position = 91"),
        ("events", "UPDATE events SET attributes = '{}' WHERE position = 91"),
        ("events", "DELETE FROM events WHERE position = 91"),
        ("batches", "UPDATE batches SET root = sha256('x') WHERE last_position = 91"),
    ],
)
def test_going_on_never_goes_past_a_damage(
    own: tuple[Subledger, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    table: str,
    statement: str,
    saved_every: int,
) -> None:
    service, url = own
    monkeypatch.setattr(folding, "SAVED_EVERY", saved_every)
    tamper(url, table, statement)
    before = dump(service, LEDGER)
    assert _over_the_damage(service, tmp_path) == 91
    for _ in range(2):
        with pytest.raises(IntegrityFault) as refused:
            _resumed(service, tmp_path / "kept")
        assert refused.value.facts["position"] == 91
        assert _left(tmp_path / "kept") == ["lock"], "the next one reads everything"
        assert dump(service, LEDGER) == before


@pytest.mark.parametrize(
    ("table", "column", "changed", "position"),
    [
        ("events", "attributes", "'{}'", 70),
        ("events", "data", "replace(data, '2026-01', '2026-02')", 91),  # the close, which one share hashes
        ("batches", "root", "sha256('x')", 91),
    ],
)
def test_a_damage_that_was_met_and_put_right_leaves_no_trace_in_what_goes_on(
    own: tuple[Subledger, str], tmp_path: Path, table: str, column: str, changed: str, position: int
) -> None:
    service, url = own
    place = f"{'position' if table == 'events' else 'last_position'} = {position}"
    with psycopg.connect(url) as connection:
        connection.execute(f"CREATE TABLE backup AS SELECT {column} FROM {table} WHERE {place}")
    tamper(url, table, f"UPDATE {table} SET {column} = {changed} WHERE {place}")
    assert _over_the_damage(service, tmp_path) == position
    tamper(url, table, f"UPDATE {table} SET {column} = (SELECT {column} FROM backup) WHERE {place}")
    counts = _resumed(service, tmp_path / "kept")
    assert (counts.resumed_from > 0) is (table == "batches"), "no share had folded what was damaged"
    assert not any(counts.written.values())
    assert differences(service) == []


# --- two at once --------------------------------------------------------------------------------------------------


def test_of_two_at_once_in_one_place_the_second_is_refused_and_the_first_undisturbed(
    own: tuple[Subledger, str], tmp_path: Path
) -> None:
    service, _ = own
    healthy = dump(service, LEDGER)
    _empty(service)
    refused: list[str] = []

    def second(_done: int, _total: int) -> None:
        if not refused:
            with pytest.raises(InvalidInput, match="another process") as found:
                ResumableRuns(tmp_path / "kept")
            refused.append(str(found.value))
            assert "manifest" in _left(tmp_path / "kept" / "running")

    held = ResumableRuns(tmp_path / "kept")
    rebuild(service.database, LEDGER, second, resumable=held)
    held.close()
    assert refused
    assert dump(service, LEDGER) == healthy


def test_two_at_once_in_two_places_leave_what_one_does(own: tuple[Subledger, str], tmp_path: Path) -> None:
    service, url = own
    healthy = dump(service, LEDGER)
    for place in ("one", "two"):
        _interrupted(service, tmp_path / place, 50)
    _empty(service)
    other, begun = Subledger(Database(url)), []

    def second(_done: int, _total: int) -> None:
        if not begun:
            begun.append(_resumed(other, tmp_path / "two").resumed_from)

    held = ResumableRuns(tmp_path / "one")
    counts = rebuild(service.database, LEDGER, second, resumable=held, resume=True)
    held.close()
    other.database.close()
    assert begun == [counts.resumed_from]
    assert not any(counts.written.values())
    assert dump(service, LEDGER) == healthy
