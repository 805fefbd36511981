"""Signed checkpoints: the tree head of a ledger as a C2SP tlog-checkpoint, with an Ed25519 signature.

The key comes from ``SUBLEDGER_SIGNING_KEY`` (32 bytes, base64) or from ``checkpoint.key`` in the home, where it is
made at first use; one that another user put there is refused. If the key and the database are both given, the home may
be read-only: then signatures are stored in the database alone. No two roots are ever signed for one size, and a root is
signed only if its log begins with the log that was signed before.

Formats: c2sp.org/tlog-checkpoint, c2sp.org/signed-note.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from api.checkpoint_log import Line, opened, public_keys_of
from api.settings import home, private_home
from subledger.errors import CheckpointConflict, FileUnavailable, InvalidValue, UnknownCheckpoint
from subledger.store.checkpoints import Signed, keep_signed, last_signed, roots_at, signed_at_size
from subledger.store.database import ON_A_STANDBY, Database
from subledger.store.private import make_durable, private_file
from subledger.store.reading import proofs
from subledger.store.reading.ledgers import LedgerHead, ledger_head

KEY_NAME: Final = "subledger"
_KEY_FILE: Final = "checkpoint.key"

_log = structlog.get_logger("subledger.checkpoints")


class SignedCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The note's text, and the public key that verifies it: None if it was another one, and is not known any more."""

    text: str
    public_key: bytes | None


def checkpoint_of(database: Database, ledger: str) -> SignedCheckpoint:
    """The signed tree head of a ledger as it stands; asked again at the same size, the same note.

    It stays signed with the key of then, when the signing key is another one now.

    It is kept in the database and in the home. Raises UnknownLedger; CheckpointConflict, and signs nothing, if what was
    signed before is not how this log begins, or if this size was signed with another root.
    """
    with database.read() as connection:
        ledger_head(connection, ledger)  # before a file is made for it
    # Everything that was signed is compared with the log before anything is signed. The file's lock is held to the end:
    # two processes of this machine would otherwise both find nothing, and sign two roots for one size.
    with database.read() as connection, opened(ledger) as log:
        log.check()
        head = ledger_head(connection, ledger)
        stored = signed_at_size(connection, ledger, head.position)
        last = last_signed(connection, ledger)
        standing, same = log.standing(), log.at_size(head.position)
        _check(head, [*same, *([stored] if stored else [])], root_of=lambda _: head.root)
        before: list[Signed | Line] = [*([last] if last else []), *standing[-1:]]
        before = [line for line in before if line.size != head.position]
        roots = roots_at(connection, ledger, [line.size for line in before])
        _check(head, before, root_of=roots.get)
        note = stored.note if stored else same[-1].note if same else None
        if note is not None:
            known = log.public_keys() | _key_of(stored)
            signed = SignedCheckpoint(text=note, public_key=_verifying(note, known))
        else:
            signed = sign_checkpoint(ledger, head.position, head.root)
        # On disk before it is returned, in the file first. A checkpoint that an auditor has, and this installation has
        # not, could be contradicted by the next one.
        if not same and log.refused is None:
            log.add(
                Line(
                    size=head.position,
                    at=datetime.now(UTC),
                    root=head.root,
                    note=signed.text,
                    public_key=signed.public_key or b"",
                )
            )
        refused = None if same else log.refused
    if stored is None:
        return _stored(database, ledger, head, signed, refused)
    return signed


def _stored(
    database: Database, ledger: str, head: LedgerHead, signed: SignedCheckpoint, refused: OSError | None
) -> SignedCheckpoint:
    """Keeps what was signed in the database, and returns what is kept there: another machine may have been quicker.

    ``refused``: why the home could not keep it. Raises FileUnavailable if neither can: a checkpoint that is kept
    nowhere is not handed out.
    """
    row = Signed(size=head.position, root=head.root, note=signed.text, public_key=signed.public_key)
    try:
        with database.write() as writing:
            keep_signed(writing, ledger, row)
    except ON_A_STANDBY:  # the home alone can keep it
        if refused is None:
            return signed
        raise FileUnavailable(
            "the checkpoint can be kept neither in the database, which is a read-only standby, nor in the home, "
            f"which cannot be written ({refused.strerror}); sign at the primary, or name a home in SUBLEDGER_HOME",
            field="SUBLEDGER_HOME",
            expected="a directory that can be written",
            found=str(home()),
        ) from None
    if refused is not None:
        _log.warning(
            "checkpoint kept in the database alone: the home cannot be written",
            ledger=ledger,
            size=head.position,
            home=str(home()),
            reason=refused.strerror,
        )
    with database.read() as connection:
        stored = signed_at_size(connection, ledger, head.position)
    # Another machine, with another home, may have signed the same size first. Its note is the one that is handed out;
    # and if it has another root, neither of the two is.
    if stored is None or stored.note == signed.text:
        return signed
    _check(head, [stored], root_of=lambda _: head.root)
    return SignedCheckpoint(text=stored.note, public_key=_verifying(stored.note, _key_of(stored)))


def earlier_checkpoint(database: Database, ledger: str, size: int) -> SignedCheckpoint:
    """The tree head that was signed at a size. Raises UnknownLedger, UnknownCheckpoint."""
    with database.read() as connection:
        ledger_head(connection, ledger)
        stored = signed_at_size(connection, ledger, size)
    if stored is None:
        raise UnknownCheckpoint(
            f"no checkpoint of ledger {ledger} was signed over {size} events; a proof between any two sizes is at "
            "/consistency",
            field="size",
            found=str(size),
        )
    return SignedCheckpoint(
        text=stored.note, public_key=_verifying(stored.note, public_keys_of(ledger) | _key_of(stored))
    )


def consistency(database: Database, ledger: str, old: int, new: int | None) -> dict[str, Any]:
    """The proof that the first ``old`` events are how the first ``new`` begin; by default all. Hashes in hex.

    Raises UnknownLedger; UnknownCheckpoint for a log that is not as long; InvalidValue.
    """
    with database.read() as connection:
        head = ledger_head(connection, ledger)
        new = head.position if new is None else new
        if new > head.position:
            raise UnknownCheckpoint(
                f"ledger {ledger} has {head.position} events",
                field="to",
                expected=f"up to {head.position}",
                found=str(new),
            )
        if not 0 < old <= new:
            raise InvalidValue(
                "a proof is from an earlier size to a later one", field="from", expected=f"1 to {new}", found=str(old)
            )
        first, second, path = proofs.consistency(connection, ledger, old, new)
    return {
        "ledger": ledger,
        "from": old,
        "to": new,
        "from_root": first.hex(),
        "to_root": second.hex(),
        "path": [sibling.hex() for sibling in path],
    }


def _check(head: LedgerHead, signed: Sequence[Signed | Line], *, root_of: Callable[[int], bytes | None]) -> None:
    for one in signed:
        if root_of(one.size) != one.root:
            raise CheckpointConflict(
                f"a checkpoint over {one.size} events was signed before, and the ledger, of {head.position} events now,"
                " does not begin with those; run subledger verify, with --restored REASON if a backup was restored",
                field="size",
                expected=f"root {one.root.hex()} over {one.size} events",
                found=f"{head.position} events",
            )


def sign_checkpoint(ledger: str, size: int, root: bytes) -> SignedCheckpoint:
    """A tree head, signed whatever was signed before: see ``checkpoint_of``."""
    key = _signing_key()
    public = key.public_key().public_bytes_raw()
    body = f"subledger/{ledger}\n{size}\n{base64.b64encode(root).decode()}\n"
    signature = base64.b64encode(_key_id(public) + key.sign(body.encode())).decode()
    return SignedCheckpoint(text=f"{body}\n— {KEY_NAME} {signature}\n", public_key=public)


def _key_id(public: bytes) -> bytes:
    """The key id of a signed note: the hash of the name, a newline, the algorithm's byte and the public key."""
    return hashlib.sha256(f"{KEY_NAME}\n".encode() + b"\x01" + public).digest()[:4]


def _key_of(stored: Signed | None) -> set[bytes]:
    return set() if stored is None or stored.public_key is None else {stored.public_key}


def _verifying(note: str, known: set[bytes]) -> bytes | None:
    """The public key that a note names and that verifies it: one of those that are known, or the present one."""
    body, _, line = note.partition("\n\n")
    try:
        signature = base64.b64decode(line.rpartition(" ")[2])
    except ValueError:
        return None  # not a note that was signed: verify finds the row that was changed
    for public in sorted(known | _present_key()):
        if _key_id(public) == signature[:4]:
            with suppress(InvalidSignature, ValueError):
                Ed25519PublicKey.from_public_bytes(public).verify(signature[4:], f"{body}\n".encode())
                return public
    return None


def _present_key() -> set[bytes]:
    """The public key of this installation, if it has one: to verify, none is made."""
    if not os.environ.get("SUBLEDGER_SIGNING_KEY") and not (home() / _KEY_FILE).exists():
        return set()
    return {_signing_key().public_key().public_bytes_raw()}


def _signing_key() -> Ed25519PrivateKey:
    configured = os.environ.get("SUBLEDGER_SIGNING_KEY")
    if configured:
        try:
            return Ed25519PrivateKey.from_private_bytes(base64.b64decode(configured, validate=True))
        except ValueError:
            raise InvalidValue(
                "SUBLEDGER_SIGNING_KEY is not a key", field="SUBLEDGER_SIGNING_KEY", expected="32 bytes in base64"
            ) from None
    path = private_home() / _KEY_FILE
    if not path.exists():
        _make_key(path)
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(private_file(path).read_text()))


def _make_key(path: Path) -> None:
    # Written whole under a name of its own and then linked: a reader never finds half a key, and a link, unlike a
    # rename, does not replace a key with which something may be signed already.
    own = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode())
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(own, path)  # of two that make a key at once, the first one's stays
    except FileExistsError:
        pass
    finally:
        own.unlink()
    make_durable(path.parent)
