"""An interrupted verification continues from its progress. One since the last clean one reports the part that it did
not read.
"""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from api.service import Subledger
from projections.integrity import share, verify
from projections.replay.resumable import ResumableRuns, Start
from subledger.errors import InvalidInput
from tests.store.tampering import LEDGER, differences, grant, history, tamper


class Interrupted(Exception):
    pass


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves every chunk, and then reports it."""
    monkeypatch.setattr(share, "SAVED_EVERY", 1)


def _kept(directory: Path) -> ResumableRuns:
    return ResumableRuns(directory / "kept")


def _interrupted(service: Subledger, directory: Path, after: int) -> int:
    """Runs a verification that ends in the middle. Returns the number of events that it has read."""
    read = 0

    def progress(done: int, _total: int) -> None:
        nonlocal read
        read = done
        if done >= after:
            raise Interrupted

    resumable = _kept(directory)
    with pytest.raises(Interrupted):
        verify(service.database, LEDGER, progress, resumable=resumable, shares=2)
    resumable.close()
    return read


def _verified(service: Subledger, directory: Path, how: Start) -> tuple[list[tuple[str, int | None]], int, int, int]:
    """Returns checks and positions that differ, the first reported progress, the number of events, and the start."""
    told: list[int] = []
    resumable = _kept(directory)
    report = verify(service.database, LEDGER, lambda done, _total: told.append(done), resumable=resumable, how=how)
    resumable.close()
    return [(d.check, d.position) for d in report.differences], told[0], report.events, report.since


def test_what_was_interrupted_goes_on_where_it_was_and_takes_in_what_came_later(
    own: tuple[Subledger, str], tmp_path: Path, often: None
) -> None:
    service, _ = own
    service.record(LEDGER, [grant(f"g{number}", customer=f"c{number % 7}") for number in range(2_500)])
    service.record(
        LEDGER, [grant("few", customer="c1")]
    )  # and no row is behind, because the progress is saved where every row is up to date
    read = _interrupted(service, tmp_path, 1_500)
    service.record(LEDGER, history(5, 70))
    found, first, events, since = _verified(service, tmp_path, Start.RESUMED)
    assert found == []
    assert since == 0
    assert first > 500, "what the first share had read was not read again"
    assert events == verify(service.database, LEDGER).events > read


def test_what_was_found_before_an_interruption_is_told_after_it(
    own: tuple[Subledger, str], tmp_path: Path, often: None
) -> None:
    service, url = own
    service.record(LEDGER, [grant(f"g{number}", customer=f"c{number % 7}") for number in range(2_500)])
    tamper(url, "entries", "UPDATE entries SET amount_minor = amount_minor + 1 WHERE position = 9 AND number = 1")
    whole = [(d.check, d.position) for d in differences(service)]
    _interrupted(service, tmp_path, 1_500)
    assert _verified(service, tmp_path, Start.RESUMED)[0] == whole


def test_anew_reads_everything_again_whatever_is_kept(own: tuple[Subledger, str], tmp_path: Path, often: None) -> None:
    service, url = own
    assert _verified(service, tmp_path, Start.ANEW)[0] == []
    tamper(url, "events", "UPDATE events SET attributes = '{}' WHERE position = 9")
    assert ("log", 9) in _verified(service, tmp_path, Start.ANEW)[0]


def test_since_the_last_clean_one_new_events_and_every_derived_row_are_looked_at_and_old_events_are_not(
    own: tuple[Subledger, str], tmp_path: Path
) -> None:
    service, url = own
    assert _verified(service, tmp_path, Start.SINCE_CLEAN)[3] == 0, "the first is whole"
    head = verify(service.database, LEDGER).events
    service.record(LEDGER, history(5, 70))
    assert _verified(service, tmp_path, Start.SINCE_CLEAN)[::3] == ([], head)
    head = verify(service.database, LEDGER).events
    tamper(url, "events", "UPDATE events SET attributes = '{}' WHERE position = 9")
    assert _verified(service, tmp_path, Start.SINCE_CLEAN)[::3] == ([], head), "as the report says"
    service.record(LEDGER, [grant("later", customer="c3")])
    tamper(url, "events", f"UPDATE events SET attributes = '{{}}' WHERE position = {head + 1}")
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM wallets WHERE customer = 'c1'")
        connection.execute("UPDATE ledger_days SET entries = entries + 1 WHERE kind = 'purchase_tax'")
    found, _, _, since = _verified(service, tmp_path, Start.SINCE_CLEAN)
    assert since == head
    assert found[0] == ("log", head + 1)
    assert {check for check, _ in found} == {"log", "wallets", "ledger_days"}
    # A run that was not clean is not used as a start.
    assert _verified(service, tmp_path, Start.SINCE_CLEAN)[3] == head


def test_what_is_kept_of_another_log_is_not_used(own: tuple[Subledger, str], tmp_path: Path) -> None:
    service, url = own
    assert _verified(service, tmp_path, Start.ANEW)[0] == []
    tamper(url, "batches", "UPDATE batches SET hash = sha256('x') WHERE last_position = (SELECT position FROM ledgers)")
    found, _, _, since = _verified(service, tmp_path, Start.SINCE_CLEAN)
    assert since == 0
    assert "chain" in {check for check, _ in found}


def test_what_cannot_be_read_whole_is_looked_at_anew(own: tuple[Subledger, str], tmp_path: Path) -> None:
    service, _ = own
    assert _verified(service, tmp_path, Start.ANEW)[0] == []
    head = verify(service.database, LEDGER).events
    clean = tmp_path / "kept" / "clean"
    assert {path.name for path in clean.iterdir()} == {"chain", "ledger", "manifest", "share-0"}
    for file in sorted(clean.iterdir()):
        whole = file.read_bytes()
        for spoilt in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
            file.write_bytes(spoilt)
            service.record(LEDGER, [grant(f"{file.name}-{len(spoilt)}-{spoilt[-1:].hex()}")])
            found, _, events, since = _verified(service, tmp_path, Start.SINCE_CLEAN)
            assert (found, events) == ([], (head := head + 1))
            assert (since == 0) is (file.name == "manifest")


def test_what_is_kept_is_ours_alone_and_used_by_one_at_a_time(tmp_path: Path) -> None:
    resumable = _kept(tmp_path)
    with pytest.raises(InvalidInput, match="another process"):
        _kept(tmp_path)
    resumable.close()
    (tmp_path / "kept").chmod(0o777)
    with pytest.raises(InvalidInput, match="other users can write"):
        _kept(tmp_path)
