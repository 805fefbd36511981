"""A folder of this machine: if a worker dies at any moment, the file is there completely or not at all."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from api.service import Subledger
from projections.delivery.connectors import folder
from projections.delivery.sending import deliver_due
from projections.delivery.states import State
from projections.exports.exports import Export
from subledger.errors import InvalidInput
from tests.general_ledgers.conftest import deliveries
from tests.general_ledgers.drops import Drop
from tests.general_ledgers.working import states, work

pytestmark = pytest.mark.usefixtures("open_borders")


class Died(BaseException):
    """The worker dies: no code of ours catches this."""


@pytest.fixture
def drop(folder_drop: Drop) -> Drop:
    return folder_drop


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("renamed", [False, True])
def test_a_worker_that_dies_at_the_rename_leaves_no_doubt(
    service: Subledger,
    drop: Drop,
    export: Export,
    owner_url: str,
    monkeypatch: pytest.MonkeyPatch,
    renamed: bool,
    taken: bool,
) -> None:
    rename = folder.rename_to_new

    def dies(source: str, target: str, *, folder: int) -> None:
        if renamed:
            rename(source, target, folder=folder)
        raise Died

    monkeypatch.setattr(folder, "rename_to_new", dies)
    channel, delivery = drop.on_its_way(export)
    with pytest.raises(Died):
        deliver_due(service.database, channel)
    assert states(service, delivery)[-1] == "submitted"
    if taken:
        drop.importer.take()
    monkeypatch.setattr(folder, "rename_to_new", rename)
    with psycopg.connect(owner_url) as connection:
        connection.execute(
            "UPDATE deliveries SET claimed_until = now() WHERE delivery_id = %s", (delivery.delivery_id,)
        )
    work(service, channel)
    drop.importer.take()
    assert states(service, delivery)[-1] == "posted"
    assert drop.importer.taken == [(export.filename, drop.content(export))]
    assert ("rendered" in states(service, delivery)[3:]) is not renamed, "sent again where it was not renamed"


def test_a_disk_that_is_full_puts_nothing_where_the_importer_looks(
    service: Subledger, drop: Drop, export: Export
) -> None:
    channel, delivery = drop.on_its_way(export)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    try:
        deliver_due(service.database, channel)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    [after] = deliveries(service, export.ledger)
    assert (after.state, after.attempts) == (State.RENDERED, 1)
    assert drop.importer.waiting == []
    work(service, channel)
    assert states(service, delivery)[-1] == "posted"
    assert [file.read_bytes() for file in drop.importer.waiting] == [drop.content(export)]


@pytest.mark.parametrize("by_the_file_system", [True, False])
def test_a_file_that_is_there_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_the_file_system: bool
) -> None:
    if not by_the_file_system:
        monkeypatch.setattr(folder, "_renameat2", lambda: None)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_text("ours")
    theirs.write_text("theirs")
    here = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(FileExistsError):
        folder.rename_to_new("ours", "theirs", folder=here)
    assert (ours.read_text(), theirs.read_text()) == ("ours", "theirs")
    folder.rename_to_new("ours", "new", folder=here)
    os.close(here)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["new", "theirs"]


@pytest.mark.parametrize("given", [{"directory": "drop"}, {"directory": "~/drop"}, {"host": "sftp.example"}])
def test_a_folder_is_named_by_its_whole_path(drop: Drop, new_ledger: Callable[..., str], given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        drop.channel(new_ledger(), **given)
    assert refused.value.field in given
