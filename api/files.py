"""Files that commands write: whole, or not at all.

Owns: what becomes of a file that stands there already. Does not own: what is written, where to (the commands).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to: under its name once it is complete and on disk, and then in the place of an older one.

    A link is followed, so that what it leads to is written. A device or a pipe is written to as it stands: to put a
    file in its place would take it away from everybody. Raises OSError.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path
    if target.exists() and not target.is_file():
        with target.open("wb") as opened:
            yield opened
        return
    unfinished = target.with_name(target.name + ".part")
    try:
        with unfinished.open("wb") as opened:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
        unfinished.replace(target)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
