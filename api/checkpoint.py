"""Signed checkpoints: the tree head of a ledger as a C2SP tlog-checkpoint, with an Ed25519 signature.

The key comes from ``SUBLEDGER_SIGNING_KEY`` (32 bytes, base64) or from ``checkpoint.key`` in the home directory, where
the first use creates it. A key file of another user is refused. If the environment gives the key and the database, the
home may be read-only. Then signatures are stored only in the database. Two roots are never signed for one size. A root
is signed only if its log begins with the log that was signed before.

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
    """The note's text, and the public key that verifies it; None if that key is not known any more."""

    text: str
    public_key: bytes | None


def checkpoint_of(database: Database, ledger: str) -> SignedCheckpoint:
    """Returns the signed tree head of a ledger. A second call at the same size returns the same note.

    A note keeps its signature, even if the signing key has changed since.

    The note is stored in the database and in the home. Raises UnknownLedger. Raises CheckpointConflict, and signs
    nothing, if the log does not begin with the log that was signed before, or if this size was signed with another
    root.
    """
    with database.read() as connection:
        ledger_head(connection, ledger)  # an unknown ledger must not get a file
    # All earlier signed tree heads are compared with the log before anything is signed. The file is locked until the
    # end. Otherwise two processes of this machine could both find no earlier tree head, and sign two roots for one
    # size.
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
        # The note is on disk before it is returned, first in the file. If an auditor had a checkpoint that this
        # installation does not have, the next checkpoint could contradict it.
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
    """Stores a signed note in the database, and returns the stored one, which may be an earlier one of another machine.

    ``refused``: the error for which the home could not store it. Raises FileUnavailable if neither can store it,
    because a checkpoint that is stored nowhere must not be handed out.
    """
    row = Signed(size=head.position, root=head.root, note=signed.text, public_key=signed.public_key)
    try:
        with database.write() as writing:
            keep_signed(writing, ledger, row)
    except ON_A_STANDBY:  # the home alone can store it
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
    # Another machine, with another home, may have signed the same size first. Then its note is returned. If that note
    # has another root, no note is returned.
    if stored is None or stored.note == signed.text:
        return signed
    _check(head, [stored], root_of=lambda _: head.root)
    return SignedCheckpoint(text=stored.note, public_key=_verifying(stored.note, _key_of(stored)))


def earlier_checkpoint(database: Database, ledger: str, size: int) -> SignedCheckpoint:
    """Returns the tree head that was signed at a size. Raises UnknownLedger, UnknownCheckpoint."""
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
    """Returns the proof that the first ``new`` events begin with the first ``old``; ``new`` is by default all. Hashes
    are in hex.

    Raises UnknownLedger; UnknownCheckpoint for a size that the log does not have; InvalidValue.
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
    """Signs a tree head without a comparison with earlier ones: ``checkpoint_of`` makes it."""
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
    """The public key that verifies a note: one of the known keys, or the current one. None if none of them does."""
    body, _, line = note.partition("\n\n")
    try:
        signature = base64.b64decode(line.rpartition(" ")[2])
    except ValueError:
        return None  # the text is not a signed note: verify finds the changed row
    for public in sorted(known | _present_key()):
        if _key_id(public) == signature[:4]:
            with suppress(InvalidSignature, ValueError):
                Ed25519PublicKey.from_public_bytes(public).verify(signature[4:], f"{body}\n".encode())
                return public
    return None


def _present_key() -> set[bytes]:
    """The public key of this installation, if it has one. No key is created for verifying."""
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
    # The key is written whole under another name and then linked. So a reader never finds half a key. Unlike a rename,
    # a link does not replace an existing key, which may have signed something already.
    own = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode())
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(own, path)  # if two processes create a key at once, the first one's key stays
    except FileExistsError:
        pass
    finally:
        own.unlink()
    make_durable(path.parent)
