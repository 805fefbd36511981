"""Credentials by name: settings name them, and the database never stores them.

A credential has one of two names:
- ``env:NAME``: the worker's environment variable ``SUBLEDGER_CREDENTIAL_NAME``;
- ``file:/PATH``: a file in the worker's folder ``SUBLEDGER_CREDENTIALS`` (by default ``/run/secrets``).

So a person who sets up a channel can use only these credentials, and no other file or variable of the worker. The
credentials that each ledger may use are in ``grants``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final, get_type_hints

import msgspec

from subledger.external.calls import NotAuthorised

PREFIX: Final = "SUBLEDGER_CREDENTIAL_"
FOLDER: Final = "SUBLEDGER_CREDENTIALS"
DEFAULT_FOLDER: Final = "/run/secrets"
LEDGERS: Final = "ledgers"
"""The folder, in the folder of credentials, with one folder for each ledger that has its own credentials."""
_PATTERN: Final = "^(env:[A-Za-z_][A-Za-z0-9_]*|file:/[^\\x00]+)?$"
Credential = Annotated[str, msgspec.Meta(pattern=_PATTERN, max_length=1_000)]
"""The name of a credential, never its value; empty for none."""


def named_in(settings: msgspec.Struct) -> tuple[str, ...]:
    """Returns the credentials that some settings name."""
    hints = get_type_hints(type(settings), include_extras=True)
    found = (getattr(settings, name) for name in settings.__struct_fields__ if hints[name] == Credential)
    return tuple(credential for credential in found if credential)


def belongs_to(credential: Credential, ledger: str) -> bool:
    """True for a file in the folder of this ledger's own credentials. Links are followed first.

    The folder ``ledgers`` contains only the folders of ledgers. So a ledger with the name of another credentials folder
    cannot read that folder.
    """
    if not credential.startswith("file:/") or ledger in ("", ".", "..") or "/" in ledger:
        return False
    own = Path(os.environ.get(FOLDER, DEFAULT_FOLDER)).resolve() / LEDGERS / ledger
    return own in Path(credential.removeprefix("file:")).resolve().parents


def read(credential: Credential) -> str:
    """Reads the value of a credential, without the line end of a file. Raises NotAuthorised if it cannot be read."""
    kind, _, name = credential.partition(":")
    if not credential:
        return ""
    if kind == "env":
        name = f"{PREFIX}{name}"
        found = os.environ.get(name, "")
    else:
        path = _allowed(credential)
        try:
            found = path.read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise NotAuthorised(f"the credential {credential} cannot be read: {error}") from None
    if not found:
        raise NotAuthorised(f"the credential {credential} is empty: set {name} where the worker runs")
    return found


def replace(credential: Credential, value: str) -> None:
    """Writes a new value into the file of a credential, after the other system has replaced the old value.

    A rename replaces the whole file. Raises NotAuthorised if it cannot be written.
    """
    if not credential.startswith("file:"):
        raise NotAuthorised(
            f"the credential {credential} was replaced by the other system: name a file that can be written"
        )
    path = _allowed(credential)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise NotAuthorised(f"the credential {credential} cannot be written: {error}") from None


def _allowed(credential: Credential) -> Path:
    """Returns the file of a credential, with links followed. Raises NotAuthorised if it is outside the folder."""
    folder = Path(os.environ.get(FOLDER, DEFAULT_FOLDER)).resolve()
    path = Path(credential.removeprefix("file:")).resolve()
    if not path.is_relative_to(folder):
        raise NotAuthorised(f"the credential {credential} is not in {folder}: {FOLDER} names where credentials are")
    return path
