"""Where credentials are: a channel names them, and nothing of ours keeps them.

``env:NAME`` is an environment variable of the worker, ``file:PATH`` a file of its: a mounted secret.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import msgspec

from projections.journals.delivery.calls import NotAuthorised

_PATTERN: Final = "^(env:[A-Za-z_][A-Za-z0-9_]*|file:/[^\\x00]+)?$"
Credential = Annotated[str, msgspec.Meta(pattern=_PATTERN, max_length=1_000)]
"""Where a credential is, never the credential; empty for none."""


def read(credential: Credential) -> str:
    """The credential, without the line's end of a file. Raises NotAuthorised where it is not to be had."""
    kind, _, name = credential.partition(":")
    if not credential:
        return ""
    if kind == "env":
        found = os.environ.get(name, "")
    else:
        try:
            found = Path(name).read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise NotAuthorised(f"the credential {credential} cannot be read: {error}") from None
    if not found:
        raise NotAuthorised(f"the credential {credential} is empty: set it where the worker runs")
    return found


def replace(credential: Credential, value: str) -> None:
    """Keeps a credential that the other system has replaced, in its file, by a rename. Raises NotAuthorised."""
    kind, _, name = credential.partition(":")
    if kind != "file":
        raise NotAuthorised(
            f"the credential {credential} was replaced by the other system: name a file that can be written"
        )  # fmt: skip
    path = Path(name)
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
