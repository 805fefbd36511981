"""A folder for files, as its importer sees it, and channels to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from api.service import Subledger
from projections.delivery import channels, outbox
from projections.delivery.channels import Channel
from projections.delivery.deliveries import Delivery
from projections.exports.exports import Export, content_of
from tests.general_ledgers.pace import UNHURRIED


class Importer:
    """Takes the files of a folder as importers do: those whose names do not begin with a dot."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done, self.failed = folder / "done", folder / "failed"
        self.taken: list[tuple[str, bytes]] = []
        folder.mkdir(exist_ok=True)
        self.done.mkdir(exist_ok=True)
        self.failed.mkdir(exist_ok=True)

    @property
    def waiting(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.is_file() and not path.name.startswith("."))

    @property
    def hidden(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if path.name.startswith("."))

    def take(self, into: Path | None = None) -> None:
        """Takes all waiting files: moves them into a folder, or deletes them."""
        for path in self.waiting:
            self.taken.append((path.name, path.read_bytes()))
            if into is None:
                path.unlink()
            else:
                path.rename(into / path.name)


class Drop:
    """One file in delivery, its folder, and the settings of the channel."""

    def __init__(self, service: Subledger, importer: Importer, given: dict[str, Any]) -> None:
        self.service, self.importer, self.given = service, importer, given

    def channel(self, ledger: str, **settings: Any) -> Channel:
        given = {**self.given, **UNHURRIED, **settings}
        return channels.set_channel(self.service.database, ledger, "drop", given, by="test")

    def on_its_way(self, export: Export, **settings: Any) -> tuple[Channel, Delivery]:
        channel = self.channel(export.ledger, format=export.format, **settings)
        [delivery] = outbox.add(self.service.database, channel, export, by="test")
        return channel, delivery

    def content(self, export: Export) -> bytes:
        return b"".join(content_of(self.service.database, export))


Drops = Callable[[], Drop]
