"""Credentials by name: settings name them, and the database never stores them.

``env:NAME`` is the worker's environment variable ``SUBLEDGER_CREDENTIAL_NAME``. ``file:/PATH`` is a file in the folder
``SUBLEDGER_CREDENTIALS`` of the worker (by default ``/run/secrets``). So a person who sets a channel can use
credentials for channels, and nothing else that the worker can read. The credentials of each ledger are in ``grants``.
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
"""The name of a folder in the folder of credentials. It has one folder for each ledger with own credentials."""
_PATTERN: Final = "^(env:[A-Za-z_][A-Za-z0-9_]*|file:/[^\\x00]+)?$"
Credential = Annotated[str, msgspec.Meta(pattern=_PATTERN, max_length=1_000)]
"""The name of a credential, never the credential; empty for none."""


def named_in(settings: msgspec.Struct) -> tuple[str, ...]:
    """Returns the credentials that some settings name."""
    hints = get_type_hints(type(settings), include_extras=True)
    found = (getattr(settings, name) for name in settings.__struct_fields__ if hints[name] == Credential)
    return tuple(credential for credential in found if credential)


def belongs_to(credential: Credential, ledger: str) -> bool:
    """True for a file below the folder of this ledger's own credentials, after all links are followed.

    The folder ``ledgers`` has nothing but the folders of ledgers. So a ledger whose name is also that of another folder
    of credentials cannot read the files of that folder.
    """
    if not credential.startswith("file:/") or ledger in ("", ".", "..") or "/" in ledger:
        return False
    own = Path(os.environ.get(FOLDER, DEFAULT_FOLDER)).resolve() / LEDGERS / ledger
    return own in Path(credential.removeprefix("file:")).resolve().parents


def read(credential: Credential) -> str:
    """Reads a credential, without the line end of a file. Raises NotAuthorised if it cannot be read."""
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
    """Writes the new value of a credential, which the other system has replaced, into the credential's file.

    The file is replaced as a whole, by a rename. Raises NotAuthorised if it cannot be written.
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
    """The file after following links, if it is in the folder of credentials. Raises NotAuthorised."""
    folder = Path(os.environ.get(FOLDER, DEFAULT_FOLDER)).resolve()
    path = Path(credential.removeprefix("file:")).resolve()
    if not path.is_relative_to(folder):
        raise NotAuthorised(f"the credential {credential} is not in {folder}: {FOLDER} names where credentials are")
    return path
