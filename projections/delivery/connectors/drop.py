"""A file put where an importer takes it from: a folder of this machine, or of an SFTP server.

An importer must never see half a file, nor the same file twice. So a file NAME comes in three steps, each whole before
the next:

    .NAME.part   the file, complete, under a name that importers leave alone
    .NAME.sent   its receipt: the SHA-256 of what is put
    NAME         the part, renamed in one step: it is there, or it is not

A part is renamed once, so it is put once, however many try. While it is there, nothing was put; without it a receipt
says that it was, also when the importer has taken the file away since, and when our database was restored from before.
Receipts stay, for ever: they are small, and all that a folder remembers. Without any of the three nothing was put, as
in a folder that is not mounted. So nobody else may delete what begins with a dot: who deletes a part and leaves its
receipt says that the file was put.

What becomes of the file then, only the importer knows. ``confirms`` says what it lets us see: ``moved``, that it moves
files into one folder or another, under the same name; then such a file is posted or thrown away, and until then it is
accepted. ``nothing``: then a file that was handed over counts as posted, because nobody will ever say more; a tie-out
tells whether it is.

Owns: these steps. Does not own: how a folder is reached (folder, sftp).
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import ClassVar, Final, Literal, Protocol, TypeVar

from projections.delivery.connectors import connector
from projections.exports.formats import FORMATS
from subledger.errors import InvalidInput
from subledger.external.calls import NotSent, Unclear

_RECEIPT_BYTES: Final = 4_096

Result = TypeVar("Result")


class DropSettings(connector.ChannelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``directory``: where the importer takes files from. ``confirms``: what the importer lets us see, as the module
    says; ``done`` and ``failed``: with ``moved``, the folders in it that the importer moves files into.
    """

    directory: str
    confirms: Literal["nothing", "moved"] = "nothing"
    done: str = "done"
    failed: str = "failed"
    settle_s: float = 60.0

    def check(self) -> None:
        if not self.directory or "\x00" in self.directory:
            raise InvalidInput("the directory must be given", field="directory", found=self.directory[:200])
        for field in ("done", "failed"):
            name = getattr(self, field)
            if not name or name.startswith(".") or "/" in name or "\x00" in name:
                raise InvalidInput(
                    f"{field} is a folder in the directory", field=field, expected="its name", found=name[:200]
                )
        if self.done == self.failed:
            raise InvalidInput("done and failed must differ", field="failed", found=self.failed)


class ImportFolder(Protocol):
    """A folder of this machine or of a server. Names are of files in it, or in a folder of it.

    Everything but ``move`` raises NotSent or NotAuthorised if it could not be done.
    """

    def check_folder(self, name: str) -> None:
        """Raises NotSent if it has no such folder."""

    def read(self, name: str, *, at_most: int) -> bytes | None:
        """So many bytes of a file; None if there is none."""

    def write(self, name: str, content: bytes) -> None:
        """A whole file, in place of one of this name, kept by whatever happens to the machine."""

    def remove(self, name: str) -> None:
        """A file, or none."""

    def move(self, name: str, to: str) -> None:
        """Gives a file another name, in one step, that no file has.

        Raises NotSent if it certainly has its old one, Unclear if nobody knows.
        """


class Drop(connector.Connector):
    """See the module."""

    formats: ClassVar[tuple[str, ...]] = tuple(FORMATS)
    by_document: ClassVar[bool] = False
    place: ClassVar[tuple[str, ...]] = ("directory",)

    @property
    @abstractmethod
    def url(self) -> str:
        """The location, for people."""

    @abstractmethod
    def opened(self) -> AbstractContextManager[ImportFolder]:
        """The folder, for one step. Raises NotSent, NotAuthorised, also where it is not there."""

    def look_up(self, shipment: connector.Shipment) -> connector.Found | None:
        return self._do("LOOK", shipment.reference, lambda folder: self._found(folder, shipment), none="not there")

    def prepare(self, shipment: connector.Shipment) -> None:
        body = f"{len(shipment.payload)} bytes, SHA-256 {_hash(shipment)}"
        self._do("WRITE", _part(shipment), lambda folder: _write_part(folder, shipment), body=body)

    def submit(self, shipment: connector.Shipment) -> connector.Accepted | connector.Rejected:
        name = shipment.reference
        self._do("RENAME", _part(shipment), lambda folder: folder.move(_part(shipment), name), body=name)
        return connector.Accepted(erp_id=name, posted=self.settings.confirms == "nothing")

    def _do(
        self, operation: str, name: str, action: Callable[[ImportFolder], Result], *, body: str = "", none: str = "done"
    ) -> Result:
        url = f"{self.url.rstrip('/')}/{name}"
        try:
            with self.opened() as folder:
                result = action(folder)
        except (NotSent, Unclear) as error:
            self.calls.note(operation, url, body, failure=str(error))
            raise
        self.calls.note(
            operation,
            url,
            body,
            answer=f"{result.state}: {result.reason}" if isinstance(result, connector.Found) else none,
        )
        return result

    def _found(self, folder: ImportFolder, shipment: connector.Shipment) -> connector.Found | None:
        settings: DropSettings = self.settings
        name = shipment.reference
        delivered = _same(folder, name, shipment)
        if delivered is True:
            # A server that renames in two steps may have left it; once the file is taken, it would say the opposite.
            folder.remove(_part(shipment))
            return self._handed_over(name, "handed over, not taken yet")
        if delivered is False:
            return _discarded(name, f"{self.url} has another file {name}: take it away, then retry")
        if settings.confirms == "moved" and (moved := self._moved(folder, shipment)) is not None:
            return moved
        if folder.read(_part(shipment), at_most=1) is not None:
            return None
        receipt = folder.read(_receipt(shipment), at_most=_RECEIPT_BYTES)
        if receipt is None:
            return None
        if receipt != _receipt_text(shipment):
            return _discarded(
                name, f"another file {name} was put into {self.url}: take {_receipt(shipment)} away, then retry"
            )
        return self._handed_over(name, "handed over and taken")

    def _moved(self, folder: ImportFolder, shipment: connector.Shipment) -> connector.Found | None:
        """The importer's result, told by the folder that it moved the file to."""
        settings: DropSettings = self.settings
        name = shipment.reference
        folder.check_folder(settings.done)
        folder.check_folder(settings.failed)
        delivered = _same(folder, f"{settings.done}/{name}", shipment)
        if delivered is not None:
            reason = f"{settings.done} has another file {name}"
            return (
                connector.Found(erp_id=name, state="posted", reason=f"moved into {settings.done}")
                if delivered
                else _discarded(name, reason)
            )
        if folder.read(f"{settings.failed}/{name}", at_most=1) is None:
            return None
        # It came back: when a person has taken it out of there, it can be put again.
        folder.remove(_receipt(shipment))
        return _discarded(
            name, f"the importer has put it into {settings.failed}: mend what it says, take the file away, then retry"
        )

    def _handed_over(self, name: str, reason: str) -> connector.Found:
        if self.settings.confirms == "nothing":
            return connector.Found(erp_id=name, state="posted", reason=reason)
        return connector.Found(erp_id=name, state="accepted", reason=f"{reason}: it waits for the importer to say more")


def _write_part(folder: ImportFolder, shipment: connector.Shipment) -> None:
    """The part, then its receipt: so there is never a receipt without its part before the part was renamed."""
    part = _part(shipment)
    if not _same(folder, part, shipment):
        folder.remove(_receipt(shipment))
        folder.write(part, shipment.payload)
        if not _same(folder, part, shipment):
            raise NotSent(f"{part} is not what was written: is the disk full?")
    folder.write(_receipt(shipment), _receipt_text(shipment))


def _same(folder: ImportFolder, name: str, shipment: connector.Shipment) -> bool | None:
    """True if a file has the delivered bytes; None if there is no file."""
    content = folder.read(name, at_most=len(shipment.payload) + 1)
    return None if content is None else content == shipment.payload


def _discarded(name: str, reason: str) -> connector.Found:
    return connector.Found(erp_id=name, state="discarded", reason=reason)


def _part(shipment: connector.Shipment) -> str:
    return f".{shipment.reference}.part"


def _receipt(shipment: connector.Shipment) -> str:
    return f".{shipment.reference}.sent"


def _receipt_text(shipment: connector.Shipment) -> bytes:
    """As ``sha256sum`` writes it."""
    return f"{_hash(shipment)}  {shipment.reference}\n".encode()


def _hash(shipment: connector.Shipment) -> str:
    return hashlib.sha256(shipment.payload).hexdigest()
