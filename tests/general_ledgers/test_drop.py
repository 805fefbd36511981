"""A file is put into the importer's folder completely and once, and its state is what the importer shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from api.service import Subledger
from projections.delivery import by_hand
from projections.delivery.connectors import CONNECTORS, connector_named
from projections.delivery.sending import deliver_due
from projections.delivery.states import State
from projections.exports.exports import Export
from projections.exports.formats import FORMATS
from subledger.errors import InvalidInput
from tests.general_ledgers.conftest import deliveries
from tests.general_ledgers.drops import Drop, Importer
from tests.general_ledgers.sftp import SftpStandIn
from tests.general_ledgers.working import states, steps, work
from tests.store.tampering import past_triggers
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("open_borders")

KINDS = ("folder", "sftp")


@pytest.fixture
def importer(tmp_path: Path) -> Importer:
    return Importer(tmp_path / "drop")


@pytest.fixture(params=KINDS)
def drop(
    request: pytest.FixtureRequest,
    service: Subledger,
    importer: Importer,
    sftp_settings: Callable[[SftpStandIn], dict[str, Any]],
) -> Iterator[Drop]:
    """The kinds of folders. Every test of this module runs with each of them."""
    if request.param == "folder":
        yield Drop(service, importer, {"connector": "folder", "directory": str(importer.folder)})
    else:
        server = SftpStandIn(importer.folder.parent)
        yield Drop(service, importer, sftp_settings(server))
        server.close()


def test_a_file_is_put_whole_and_counts_as_posted_where_nobody_can_say_more(
    service: Subledger, drop: Drop, export: Export
) -> None:
    channel, delivery = drop.on_its_way(export)
    work(service, channel)
    assert states(service, delivery) == ["built", "rendered", "submitted", "accepted", "posted"]
    [file] = drop.importer.waiting
    assert (file.name, file.read_bytes()) == (export.filename, drop.content(export))
    assert drop.importer.hidden == [f".{export.filename}.sent"]
    receipt = (drop.importer.folder / f".{export.filename}.sent").read_text()
    assert receipt == f"{export.content_hash}  {export.filename}\n"


@pytest.mark.parametrize(("form", "target"), [("oracle-fbdi", "oracle"), ("netsuite-deposits", "netsuite")])
def test_a_file_of_any_format_can_be_put(
    service: Subledger, drop: Drop, sold: Callable[..., str], exported: Callable[..., Export], form: str, target: str
) -> None:
    export = exported(sold(), form, target)
    channel, _ = drop.on_its_way(export)
    work(service, channel)
    [file] = drop.importer.waiting
    assert file.read_bytes() == drop.content(export)
    assert channel.connector.formats == tuple(FORMATS)


def test_what_was_done_is_kept(service: Subledger, drop: Drop, export: Export) -> None:
    channel, delivery = drop.on_its_way(export)
    work(service, channel)
    made = [exchange for step in steps(service, delivery) for exchange in step.exchanges]
    assert [exchange.method for exchange in made] == ["LOOK", "WRITE", "RENAME", "LOOK"]
    assert all(exchange.url.endswith((export.filename, f".{export.filename}.part")) for exchange in made)
    assert [exchange.answer for exchange in made] == ["not there", "done", "done", "posted: handed over, not taken yet"]
    assert export.content_hash in made[1].body


def test_an_importer_that_moves_files_says_that_it_has_posted(service: Subledger, drop: Drop, export: Export) -> None:
    channel, delivery = drop.on_its_way(export, confirms="moved")
    deliver_due(service.database, channel)
    [waiting] = deliveries(service, export.ledger)
    assert waiting.state is State.ACCEPTED
    for path in drop.importer.waiting:
        path.rename(drop.importer.folder / f".{path.name}.working")
    deliver_due(service.database, channel)
    [taken] = deliveries(service, export.ledger)
    assert taken.state is State.ACCEPTED, "neither here nor there"
    (drop.importer.folder / f".{export.filename}.working").rename(drop.importer.done / export.filename)
    work(service, channel)
    assert states(service, delivery)[-2:] == ["accepted", "posted"]


def test_an_importer_that_is_silent_is_looked_after_once_a_day(service: Subledger, drop: Drop, export: Export) -> None:
    channel, _ = drop.on_its_way(export, confirms="moved", posts_within_s=0.05)
    deliver_due(service.database, channel)
    drop.importer.take()

    def it_is_too_long() -> bool:
        deliver_due(service.database, channel)
        return "not posted for too long" in str(deliveries(service, export.ledger)[0].reason)

    until(it_is_too_long, "a look after the time to post")
    [after] = deliveries(service, export.ledger)
    assert after.state is State.ACCEPTED
    assert after.due_at is not None
    assert (after.due_at - after.changed_at).total_seconds() > 86_000


def test_what_the_importer_refuses_is_rejected_and_can_be_put_again(
    service: Subledger, drop: Drop, export: Export
) -> None:
    channel, delivery = drop.on_its_way(export, confirms="moved")
    deliver_due(service.database, channel)
    drop.importer.take(drop.importer.failed)
    work(service, channel)
    [rejected] = deliveries(service, export.ledger)
    assert rejected.state is State.REJECTED
    assert "failed" in str(rejected.reason)
    by_hand.retry(service.database, export.ledger, delivery.delivery_id, by="cfo")
    work(service, channel)
    assert states(service, delivery)[-1] == "rejected", "it lies there still"
    (drop.importer.failed / export.filename).unlink()
    by_hand.retry(service.database, export.ledger, delivery.delivery_id, by="cfo")
    deliver_due(service.database, channel)
    drop.importer.take(drop.importer.done)
    work(service, channel)
    assert states(service, delivery)[-1] == "posted"
    assert [content for _, content in drop.importer.taken] == [drop.content(export)] * 2


@pytest.mark.parametrize("confirms", ["nothing", "moved"])
def test_a_file_that_was_taken_is_not_put_again_after_a_restore(
    service: Subledger, drop: Drop, export: Export, owner_url: str, confirms: str
) -> None:
    channel, delivery = drop.on_its_way(export, confirms=confirms)
    deliver_due(service.database, channel)
    drop.importer.take()
    with past_triggers(owner_url, "deliveries", "delivery_steps") as connection:  # as in an older backup
        of_it = "WHERE delivery_id = %s"
        connection.execute(
            f"UPDATE deliveries SET state = 'built', steps = 1, due_at = now(), submitted_at = NULL {of_it}",
            (delivery.delivery_id,),
        )
        connection.execute(f"DELETE FROM delivery_steps {of_it} AND step > 1", (delivery.delivery_id,))
    deliver_due(service.database, channel)
    expected = "posted" if confirms == "nothing" else "accepted"
    assert states(service, delivery) == ["built", "rendered", expected]
    assert drop.importer.waiting == []
    assert len(drop.importer.taken) == 1


def test_another_file_of_the_same_name_is_a_rejection_and_stays_as_it_is(
    service: Subledger, drop: Drop, export: Export
) -> None:
    foreign = drop.importer.folder / export.filename
    foreign.write_bytes(drop.content(export) + b" ")
    channel, delivery = drop.on_its_way(export)
    work(service, channel)
    [after] = deliveries(service, export.ledger)
    assert after.state is State.REJECTED
    assert "another file" in str(after.reason)
    assert foreign.read_bytes() == drop.content(export) + b" "
    foreign.unlink()
    by_hand.retry(service.database, export.ledger, delivery.delivery_id, by="cfo")
    work(service, channel)
    assert states(service, delivery)[-1] == "posted"


def test_a_receipt_of_another_file_is_a_rejection_that_names_it(service: Subledger, drop: Drop, export: Export) -> None:
    (drop.importer.folder / f".{export.filename}.sent").write_text(f"{'0' * 64}  {export.filename}\n")
    channel, _ = drop.on_its_way(export)
    work(service, channel)
    [after] = deliveries(service, export.ledger)
    assert after.state is State.REJECTED
    assert f".{export.filename}.sent" in str(after.reason)


def test_a_part_that_a_worker_left_unfinished_is_written_anew(service: Subledger, drop: Drop, export: Export) -> None:
    (drop.importer.folder / f".{export.filename}.part").write_bytes(drop.content(export)[:100])
    channel, _ = drop.on_its_way(export)
    work(service, channel)
    [file] = drop.importer.waiting
    assert file.read_bytes() == drop.content(export)


def test_a_part_that_a_rename_in_two_steps_left_does_not_put_the_file_twice(
    service: Subledger, drop: Drop, export: Export
) -> None:
    for name in (export.filename, f".{export.filename}.part"):
        (drop.importer.folder / name).write_bytes(drop.content(export))
    (drop.importer.folder / f".{export.filename}.sent").write_text(f"{export.content_hash}  {export.filename}\n")
    channel, _ = drop.on_its_way(export, confirms="moved")
    deliver_due(service.database, channel)
    drop.importer.take()
    deliver_due(service.database, channel)
    [after] = deliveries(service, export.ledger)
    assert after.state is State.ACCEPTED
    assert (drop.importer.waiting, len(drop.importer.taken)) == ([], 1)


@pytest.mark.campaign
@pytest.mark.parametrize("missing", [".", "done", "failed"])
def test_a_folder_that_is_not_there_is_waited_for(service: Subledger, drop: Drop, export: Export, missing: str) -> None:
    channel, delivery = drop.on_its_way(export, confirms="moved")
    folder = drop.importer.folder / missing
    elsewhere = drop.importer.folder.parent / "elsewhere"
    folder.rename(elsewhere)
    deliver_due(service.database, channel)
    [after] = deliveries(service, export.ledger)
    assert (after.state, after.attempts) == (State.RENDERED, 1)
    elsewhere.rename(folder)
    work_until_waiting(service, drop, channel)
    drop.importer.take(drop.importer.done)
    work(service, channel)
    assert states(service, delivery) == ["built", "rendered", "submitted", "accepted", "posted"]


def work_until_waiting(service: Subledger, drop: Drop, channel: Any) -> None:
    def is_put() -> bool:
        deliver_due(service.database, channel)
        return bool(drop.importer.waiting)

    until(is_put, "a file is put")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"directory": ""}, "directory"),
        ({"confirms": "all"}, "confirms"),
        ({"done": "../done"}, "done"),
        ({"failed": ".failed"}, "failed"),
        ({"failed": "done"}, "failed"),
    ],
)
def test_settings_that_could_not_work_are_refused_naming_the_field(
    drop: Drop, new_ledger: Callable[..., str], given: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        drop.channel(new_ledger(), **given)
    assert refused.value.field == field


def test_every_way_of_putting_a_file_is_held_to_these_laws() -> None:
    by_file = {name for name in CONNECTORS if connector_named(name).formats == tuple(FORMATS)}
    assert by_file == set(KINDS)
