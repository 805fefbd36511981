"""An amount that a superuser rewrites in place, consistently in all rows, is found by earlier signed checkpoints.

``test_checkpoints`` rewrites a log with the program itself. Here rows are changed in place with the triggers off, and
every hash over them is computed again. The seals and counts of exported rows are updated too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from projections.exports.exporting import export
from projections.integrity import verify
from projections.replay.log_stream import EVERYTHING, WHOLE, read_batches, read_log
from projections.replay.rebuild import rebuild
from subledger import merkle
from subledger.encoding import batch_hash, encode
from subledger.periods import Period
from subledger.store.columns import stored_entry
from subledger.store.tables import APPEND_ONLY
from subledger.store.writing.dimension_sets import numbered_dimensions
from tests.building import cloud_event
from tests.http.test_checkpoints import Installation
from tests.store.tampering import LEDGER, differences, past_triggers

LOG = (*APPEND_ONLY, "ledgers")
JANUARY = Period(2026, 1)


@pytest.fixture
def ours(scratch_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    """A purchase of 77.13 USD, usage of another customer, and an exported month."""
    monkeypatch.setenv("SUBLEDGER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", scratch_url)
    monkeypatch.delenv("SUBLEDGER_SIGNING_KEY", raising=False)
    installation = Installation(scratch_url, tmp_path / "home")
    installation.service.record(
        LEDGER,
        [
            cloud_event(
                "buy",
                "credits.purchased",
                "ann",
                "2026-01-05T00:00:00Z",
                block_id="B",
                credits="10",
                price="77.13",
                currency="USD",
            ),
            cloud_event(
                "other",
                "credits.purchased",
                "bob",
                "2026-01-05T00:00:00Z",
                block_id="C",
                credits="10",
                price="5.00",
                currency="USD",
            ),
        ],
    )
    installation.service.record(
        LEDGER, [cloud_event("use", "credits.consumed", "bob", "2026-01-06T00:00:00Z", credits="4")]
    )
    yield installation
    installation.service.database.close()


def _rewrite_in_place(ours: Installation) -> None:
    """Replaces 77.13 USD by 66.13 in the event, its decision and entries; then every hash from there to the head."""
    with past_triggers(ours.url, *LOG) as owner:
        changed = owner.execute(
            "UPDATE events SET data = replace(data, '77.13', '66.13'), decision = replace(decision, '7713', '6613')"
            " WHERE event_id = 'buy'"
        )
        assert changed.rowcount == 1
        amounts = "UPDATE entries SET {0} = 6613 WHERE {0} = 7713"
        for column in ("amount_minor", "functional_minor"):
            assert owner.execute(amounts.format(column).encode()).rowcount == 1
    frontier, leaves, previous = merkle.Frontier(), {}, bytes(32)
    with ours.service.database.write() as connection:
        numbering = numbered_dimensions(connection, LEDGER)
    with ours.service.database.read() as reading:
        for chunk in read_log(reading, LEDGER, WHOLE.events):
            for logged, rows in chunk:
                entries = tuple(stored_entry(row, numbering[row.dimension_set]) for row in rows)
                encoded = encode(LEDGER, logged.position, logged.event(), logged.decision_text, entries)
                leaves[logged.position] = merkle.leaf_hash(encoded)
        batches = list(read_batches(reading, LEDGER, 0, EVERYTHING))
    with past_triggers(ours.url, *LOG) as owner:
        for batch in batches:
            for position in range(batch.first_position, batch.last_position + 1):
                frontier.append(leaves[position])
                owner.execute("UPDATE events SET leaf = %s WHERE position = %s", (leaves[position], position))
            root = frontier.root()
            digest = batch_hash(LEDGER, batch.first_position, batch.last_position, batch.recorded_at, root, previous)
            owner.execute(
                "UPDATE batches SET root = %s, previous_hash = %s, hash = %s WHERE last_position = %s",
                (root, previous, digest, batch.last_position),
            )
            previous = digest
        owner.execute("UPDATE ledgers SET batch_hash = %s, frontier = %s", (previous, frontier.to_bytes()))
    rebuild(ours.service.database, LEDGER)


def _forget_what_was_handed_over(ours: Installation) -> None:
    with past_triggers(ours.url, "journals", "journal_exports", "tallies") as owner:
        for table in ("journals", "journal_exports"):
            owner.execute(f"DELETE FROM {table}".encode())
            owner.execute("DELETE FROM tallies WHERE relation = %s", (table,))


def test_an_amount_that_was_rewritten_in_place_is_found_by_what_was_signed(ours: Installation) -> None:
    where = f"/v1/ledgers/{LEDGER}/checkpoint"
    assert ours.client.get(where).status_code == 200
    before = {event: text for event, text in _texts(ours).items() if event != "buy"}
    _rewrite_in_place(ours)
    after = _texts(ours)
    assert {event: text for event, text in after.items() if event != "buy"} == before, "only one event is another"
    found = differences(ours.service)
    assert [difference.check for difference in found] == ["seen"]
    assert ours.run("verify")[0] == 1
    assert ours.client.get(where).json()["code"] == "checkpoint_conflict"
    assert {
        one["check"] for one in ours.client.get(f"/v1/ledgers/{LEDGER}/reports/integrity").json()["differences"]
    } == {"seen"}


def test_without_any_signature_it_is_found_by_a_verification_that_ran_before(ours: Installation) -> None:
    assert ours.run("verify")[0] == 0
    _rewrite_in_place(ours)
    assert differences(ours.service) == [], "the database alone cannot know"
    assert ours.run("verify")[0] == 1


def test_what_was_handed_over_before_says_so_too(ours: Installation) -> None:
    export(ours.service.recorder, ours.service.database, LEDGER, JANUARY, "csv")
    _rewrite_in_place(ours)
    assert {difference.check for difference in differences(ours.service)} == {"journals"}
    _forget_what_was_handed_over(ours)
    found = differences(ours.service)
    assert [difference.subject for difference in found] == ["2026-01"], "the log knows of the export"


@pytest.mark.campaign
@pytest.mark.parametrize("table", [*APPEND_ONLY, "checkpoints", "journals", "api_keys", "credential_grants"])
def test_a_trigger_that_is_off_is_found_on_a_log_that_is_whole(ours: Installation, table: str) -> None:
    assert ours.client.get(f"/v1/ledgers/{LEDGER}/checkpoint").status_code == 200
    assert ours.run("verify")[0] == 0
    with psycopg.connect(ours.url) as owner:
        trigger = "only_forward" if table in ("api_keys", "credential_grants") else "append_only"
        owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}".encode())
    found = verify(ours.service.database, LEDGER).differences
    assert {(one.check, one.subject) for one in found} == {("schema", f"trigger {table}")}
    assert ours.run("verify")[0] == 1


def _texts(ours: Installation) -> dict[str, str]:
    """Returns a hash over each event, its decision and its entries in the database."""
    query = (
        "SELECT e.event_id, (e.data, e.decision, (SELECT array_agg(n ORDER BY n.number) FROM entries n"
        " WHERE n.position = e.position))::text FROM events e"
    )
    with ours.service.database.read() as connection:
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in connection.execute(sa.text(query))}
