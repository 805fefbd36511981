"""Signed checkpoints: the tree head of a ledger as a C2SP tlog-checkpoint, with an Ed25519 signature.

The key comes from ``SUBLEDGER_SIGNING_KEY`` (32 bytes, base64) or from ``checkpoint.key`` in the home, where it is
made at first use; one that another user put there is refused. Formats: c2sp.org/tlog-checkpoint, c2sp.org/signed-note.
"""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.settings import private_home
from subledger.errors import InvalidValue
from subledger.store.private import private_file

KEY_NAME: Final = "subledger"


class SignedCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The note's text, and the public key that verifies it."""

    text: str
    public_key: bytes


def sign_checkpoint(ledger: str, size: int, root: bytes) -> SignedCheckpoint:
    """The signed tree head of a ledger with ``size`` events."""
    key = _signing_key()
    public = key.public_key().public_bytes_raw()
    body = f"subledger/{ledger}\n{size}\n{base64.b64encode(root).decode()}\n"
    # Signed-note: the key id is the hash of the name, a newline, the algorithm's byte and the public key.
    key_id = hashlib.sha256(f"{KEY_NAME}\n".encode() + b"\x01" + public).digest()[:4]
    signature = base64.b64encode(key_id + key.sign(body.encode())).decode()
    return SignedCheckpoint(text=f"{body}\n— {KEY_NAME} {signature}\n", public_key=public)


def _signing_key() -> Ed25519PrivateKey:
    configured = os.environ.get("SUBLEDGER_SIGNING_KEY")
    if configured:
        try:
            return Ed25519PrivateKey.from_private_bytes(base64.b64decode(configured, validate=True))
        except ValueError:
            raise InvalidValue(
                "SUBLEDGER_SIGNING_KEY is not a key", field="SUBLEDGER_SIGNING_KEY", expected="32 bytes in base64"
            ) from None
    path = private_home() / "checkpoint.key"
    if not path.exists():
        _make_key(path)
    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(private_file(path).read_text()))


def _make_key(path: Path) -> None:
    own = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode())
    try:
        os.link(own, path)  # of two that make a key at once, the first one's stays
    except FileExistsError:
        pass
    finally:
        own.unlink()
