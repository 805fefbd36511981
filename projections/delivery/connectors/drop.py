"""A file put into a folder from which an importer takes it: a folder of this machine, or of an SFTP server.

An importer must never see half a file, or the same file twice. So a file NAME is put in three steps. Each step is
complete before the next:

    .NAME.part   the file, complete, under a name that importers leave alone
    .NAME.sent   its receipt: the SHA-256 of what is put
    NAME         the part, renamed in one step: it is there, or it is not

A part is renamed once, so the file is put once, however many workers try. While the part exists, nothing was put. If
only the receipt exists, the file was put. This also holds after the importer has taken the file, and after our database
was restored from an older state. Receipts are never removed: they are small, and they are the only memory of the
folder. If none of the three exists, nothing was put; an unmounted folder looks the same. So nobody else may delete
files that begin with a dot: without its part, a receipt says that the file was put.

Only the importer knows what becomes of the file. The setting ``confirms`` says how much it shows. ``moved``: it moves
files into one of two folders, under the same name. A moved file is posted or discarded; until then it is accepted.
``nothing``: a file that was handed over counts as posted, because no more will ever be known. A tie-out finds out if it
is in the books.

Owns: these steps. Does not own: access to a folder (folder, sftp).
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
    """Settings of a folder of files.

    ``directory``: the folder from which the importer takes files. ``confirms``: see the module. ``done`` and
    ``failed``: with ``moved``, the subfolders into which the importer moves files.
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
    """A folder of this machine or of a server. A name is that of a file in the folder, or in a subfolder of it.

    Everything but ``move`` raises NotSent or NotAuthorised if it was not possible.
    """

    def check_folder(self, name: str) -> None:
        """Raises NotSent if the folder does not have this subfolder."""

    def read(self, name: str, *, at_most: int) -> bytes | None:
        """Returns at most ``at_most`` bytes of a file; None if there is no such file."""

    def write(self, name: str, content: bytes) -> None:
        """Writes a whole file, durably. A file of this name is replaced."""

    def remove(self, name: str) -> None:
        """Removes a file, if it exists."""

    def move(self, name: str, to: str) -> None:
        """Renames a file in one step, to a name that no file has.

        Raises NotSent if the file certainly has its old name, Unclear if nobody knows.
        """


class Drop(connector.Connector):
    """See the module."""

    formats: ClassVar[tuple[str, ...]] = tuple(FORMATS)
    by_document: ClassVar[bool] = False
    place: ClassVar[tuple[str, ...]] = ("directory",)

    @property
    @abstractmethod
    def url(self) -> str:
        """The location, for people to read."""

    @abstractmethod
    def opened(self) -> AbstractContextManager[ImportFolder]:
        """Opens the folder for one step. Raises NotSent, NotAuthorised; also if the folder does not exist."""

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
            # A server that renames in two steps may have left the part. Once the importer takes the file, the part
            # would say that nothing was put.
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
        """Finds the importer's result: the subfolder into which it moved the file."""
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
        # The importer has refused the file. Without its receipt it can be put again, after a person has taken it out of
        # there.
        folder.remove(_receipt(shipment))
        return _discarded(
            name, f"the importer has put it into {settings.failed}: mend what it says, take the file away, then retry"
        )

    def _handed_over(self, name: str, reason: str) -> connector.Found:
        if self.settings.confirms == "nothing":
            return connector.Found(erp_id=name, state="posted", reason=reason)
        return connector.Found(erp_id=name, state="accepted", reason=f"{reason}: it waits for the importer to say more")


def _write_part(folder: ImportFolder, shipment: connector.Shipment) -> None:
    """Writes the part, then its receipt. So a receipt without its part means that the part was renamed."""
    part = _part(shipment)
    if not _same(folder, part, shipment):
        folder.remove(_receipt(shipment))
        folder.write(part, shipment.payload)
        if not _same(folder, part, shipment):
            raise NotSent(f"{part} has other bytes than were written; the disk may be full")
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
    """The receipt in the form that ``sha256sum`` writes."""
    return f"{_hash(shipment)}  {shipment.reference}\n".encode()


def _hash(shipment: connector.Shipment) -> str:
    return hashlib.sha256(shipment.payload).hexdigest()
